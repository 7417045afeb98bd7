"""Ways in which programs run their milter: python variants.py SOCKET WAY."""

import asyncio
import functools
import multiprocessing
import os
import signal
import sys
import threading

import Milter

SOCKET, WAY = sys.argv[1:3]


def say(*words):
    print(*words, flush=True)


class Stopping(Milter.Base):
    """Stops the whole milter in a callback."""

    def connect(self, hostname, family, hostaddr):
        say("connect", threading.current_thread() is threading.main_thread())
        return Milter.CONTINUE

    @Milter.noreply
    def hello(self, name):
        if WAY == "stop in hello":
            Milter.stop()
        return Milter.CONTINUE

    def envfrom(self, f, *params):
        if WAY == "stop in envfrom":
            Milter.stop()
        return Milter.CONTINUE

    def eom(self):
        if WAY == "stop in eom":
            self.addheader("X", "y")
            Milter.stop()
        return Milter.ACCEPT

    def close(self):
        say("close")
        if WAY == "stop in close":
            Milter.stop()
        return Milter.CONTINUE


class Logging(Milter.Milter):
    """The class that prints what it is called with."""

    def eom(self):
        self.log("one", 2, b"three")
        Milter.Milter.eom(self)
        say(Milter.getdiag()[0])
        return Milter.ACCEPT


def serve():
    say("starting")
    say("returned", Milter.runmilter("variants", SOCKET, 60))


def in_a_thread():
    thread = threading.Thread(target=serve)
    thread.start()
    sys.stdin.readline()
    Milter.stop()
    thread.join()
    say("joined")


def in_a_loop():
    async def main():
        ticks = []
        asyncio.get_running_loop().call_soon(ticks.append, 1)
        serve()
        await asyncio.sleep(0)
        say("loop goes on", ticks)

    asyncio.run(main())


def after_fork():
    child = os.fork()
    if child:
        say("child ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    else:
        with open(SOCKET + ".pid", "w") as file:
            file.write(str(os.getpid()))
        serve()
        os._exit(7)


def with_processes():
    queue = multiprocessing.get_context("fork").SimpleQueue()
    worker = multiprocessing.get_context("fork").Process(target=queue.put, args=("from the worker",))
    worker.start()
    say(queue.get())
    worker.join()
    serve()


def with_a_handler():
    signal.signal(signal.SIGUSR1, lambda number, frame: (say("signal", number), Milter.stop()))
    serve()


def with_handlers_of_its_own():
    signal.signal(signal.SIGTERM, lambda number, frame: say("its own handler"))
    serve()
    say(signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN, None))


def twice():
    serve()
    serve()


def with_a_thread():
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    serve()
    say("stopped")


def exits():
    serve()
    sys.exit(5)


def fails():
    serve()
    raise RuntimeError("the program's own")


WAYS = {
    "thread": in_a_thread,
    "loop": in_a_loop,
    "fork": after_fork,
    "processes": with_processes,
    "handler": with_a_handler,
    "own handlers": with_handlers_of_its_own,
    "twice": twice,
    "another thread": with_a_thread,
    "exits": exits,
    "fails": fails,
}

if __name__ == "__main__":
    if WAY == "partial":
        Milter.factory = functools.partial(Stopping)
    elif WAY == "logging":
        Milter.factory = Logging
    elif WAY == "lambda":
        Milter.factory = lambda: Stopping()
    else:
        Milter.factory = Stopping
    WAYS.get(WAY, serve)()
    say("ended")
