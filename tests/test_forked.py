"""What a forked child finds: no socket of a server, and signals that end it from the beginning."""

import signal
import subprocess
import sys

from tests.patience import PATIENCE

EARLY = """
import os, signal, sys
from aiomilter._serving import forked

signal.signal(signal.SIGTERM, lambda *_: None)

def give_back():
    # The signal comes at the worst time: the handler is still the parent's.
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

forked.call_in_children(give_back)
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
child = os.fork()
if child == 0:
    os._exit(7)
status = os.waitpid(child, 0)[1]
print(os.waitstatus_to_exitcode(status), signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before, forked._masks)
"""


def test_a_signal_that_comes_before_a_child_has_its_own_handlers_is_not_lost() -> None:
    """A pool that is terminated waits for the child for ever otherwise: the signal is sent once."""
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM} True {{}}\n", "")


INTERRUPTED = """
import os, signal, time
from aiomilter._serving import forked

forked.call_in_children(lambda: os.kill(os.getpid(), signal.SIGINT))
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_an_interrupt_that_comes_then_ends_the_child() -> None:
    """The KeyboardInterrupt would be lost: what a hook of a fork raises is only shown."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGINT}\n", "")


CLOSED = """
import os, socket
from aiomilter._serving.forked import keep_from_children

first, second = socket.socketpair()
keep_from_children(first)
third = socket.socket()
keep_from_children(third)
third.close()
if FULL:
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), 100))
child = os.fork()
if child == 0:
    kept = [sock.fileno() for sock in (first, second) if sock.fileno() >= 0 and os.fstat(sock.fileno()).st_mode >> 12 == 0o14]
    os._exit(0 if kept == [second.fileno()] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), first.send(b"x"), second.recv(1))
"""


def test_a_child_has_no_socket_of_ours_and_the_parent_all_even_where_no_more_files_can_be_opened() -> None:
    for full in (False, True):
        program = CLOSED.replace("FULL", str(full))
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.stdout, done.stderr) == ("0 1 b'x'\n", ""), full
