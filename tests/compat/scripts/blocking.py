"""Callbacks that block until so many others do, too: python blocking.py SOCKET NUMBER."""

import os
import sys
import threading
import time

import Milter

SOCKET, NUMBER = sys.argv[1], int(sys.argv[2])
TOGETHER = threading.Barrier(NUMBER)
LOCAL = threading.local()
LOCK = threading.Lock()
INSIDE = 0
MOST = 0


class Blocking(Milter.Base):
    def connect(self, hostname, family, hostaddr):
        LOCAL.owner = self
        self.main = threading.current_thread() is threading.main_thread()
        return Milter.CONTINUE

    def envfrom(self, f, *params):
        global INSIDE, MOST
        with LOCK:
            INSIDE += 1
            MOST = max(MOST, INSIDE)
        try:
            if f == "<hold@example.org>":
                # The MTA's side makes the file when they may go on.
                print("inside", file=sys.stderr, flush=True)
                while not os.path.exists(SOCKET + ".go"):
                    time.sleep(0.01)
            elif f != "<quick@example.org>":
                TOGETHER.wait(30)
        except threading.BrokenBarrierError:
            return Milter.TEMPFAIL
        finally:
            with LOCK:
                INSIDE -= 1
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):
        self.main = self.main or threading.current_thread() is threading.main_thread()
        return Milter.CONTINUE

    def eom(self):
        self.addheader("X-Local", "kept" if LOCAL.owner is self else "lost")
        self.addheader("X-Main", str(self.main))
        self.addheader("X-Most", str(MOST))
        return Milter.ACCEPT

    def close(self):
        if LOCAL.owner is not self:
            print("lost", flush=True)
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Blocking
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("blocking", SOCKET, 60)
