"""Writing an answer at once: what the system takes, and that no other thread runs meanwhile."""

import ctypes
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aiomilter.compat import sending
from tests.patience import PATIENCE


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_octets_are_written_whatever_they_are(pair: tuple[socket.socket, socket.socket]) -> None:
    octets = b"\0\0\0\1c" + bytes(range(256))
    assert sending.send_now(pair[0], octets) == len(octets)
    assert pair[1].recv(1000) == octets


def test_many_octets_are_left_to_a_call_that_lets_others_run(pair: tuple[socket.socket, socket.socket]) -> None:
    assert sending.send_now(pair[0], bytes(16_384)) == 16_384
    assert sending.send_now(pair[0], bytes(16_385)) == 0


def test_nothing_waits_where_the_peer_does_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    total = 0
    while sent := sending.send_now(pair[0], bytes(1000)):
        total += sent
    pair[0].shutdown(socket.SHUT_WR)
    received = 0
    while octets := pair[1].recv(65_536):
        received += len(octets)
    assert received == total


@pytest.mark.parametrize("closed", [0, 1], ids=["ours", "the peer's"])
def test_a_socket_that_is_closed_takes_nothing_and_no_signal_ends_the_process(
    pair: tuple[socket.socket, socket.socket], closed: int
) -> None:
    pair[closed].close()
    assert sending.send_now(pair[0], b"x") == 0


def test_without_ctypes_all_is_left_to_the_socket(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(name: object) -> object:
        raise OSError("there is no such library")

    monkeypatch.setattr(ctypes, "PyDLL", lacks)
    assert sending._system_send()(pair[0], b"x") == 0
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert sending._system_send()(pair[0], b"x") == 0


PROGRAM = """
import socket, sys, threading
from aiomilter.compat.sending import send_now
sys.setswitchinterval(1000.0)
ours, theirs = socket.socketpair()
go, ran = threading.Semaphore(0), []
def other():
    for _ in range(100):
        go.acquire()
        ran.append(1)
threading.Thread(target=other).start()
seen = []
for _ in range(100):
    go.release()
    before = len(ran)
    assert send_now(ours, b"x") == 1
    seen.append(len(ran) - before)
print(sum(seen))
"""


@pytest.mark.slow
def test_no_other_thread_runs_while_octets_are_written() -> None:
    """Which costs both threads a turn: it is why this is there."""
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert (ran.stdout, ran.stderr) == ("0\n", "")
