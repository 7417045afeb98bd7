"""Conversations played to a C filter on libmilter and to ours, and what comes of each packet."""

import asyncio
import os
import select
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.interop.libmilter.script import escaped, filter_class
from tests.patience import PATIENCE
from tests.peer import frames, serving

__all__ = ["GONE", "Played", "Step", "canonical", "play_to_libmilter", "play_to_us"]

"""Seconds for what takes milliseconds."""


class Step(NamedTuple):
    """What has come of one write of the MTA, or of its end.

    Args:
        answers: Code and payload of each packet.
        calls: The callbacks with their arguments, and what they looked up.
        closed: Whether the filter has closed the connection.
    """

    answers: tuple[tuple[str, bytes], ...] = ()
    calls: tuple[str, ...] = ()
    closed: bool = False

    def __str__(self) -> str:
        """Write it as the table of improvements has it."""
        answers = [f"{code}({escaped(payload)})" if payload else code for code, payload in self.answers]
        parts = [*answers, *(call.replace("\t", " ") for call in self.calls), *["CLOSED"] * self.closed]
        return "; ".join(map(_short, parts)) or "nothing"


def _short(text: str) -> str:
    """Keep a long text to its begin, its length and a sum."""
    text = text.rstrip()
    return text if len(text) <= 100 else f"{text[:60]}...{len(text)} {zlib.crc32(text.encode()):08x}"


GONE: Final = Step(closed=True)
"""What comes of anything after the connection was closed."""


class Played(NamedTuple):
    """A conversation as one filter has seen and answered it; the last step is the MTA's leaving without a word."""

    steps: tuple[Step, ...]

    @property
    def callbacks(self) -> int:
        """How many callbacks were called."""
        return sum(call[0] not in "?!" for step in self.steps for call in step.calls)


# ---------------------------------------------------------------------------------------------------------- libmilter


class _Program:
    """The C filter as a process, what it tells, and what it answers."""

    def __init__(self, program: Path, path: str, script: str) -> None:
        self._process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdin as stdin:
            stdin.write(script.encode("ascii"))
        self._out = self._process.stdout
        self._told = b""
        self._answers = b""
        self._open = False
        self.mta = socket.socket(socket.AF_UNIX)
        try:
            assert self.line() == "ready"
            self.mta.connect(path)
        except BaseException:
            self.end()
            raise
        self._open = True

    def line(self) -> str:
        """Return the next line that it tells; fail if none comes."""
        while b"\n" not in self._told:
            # It may have more to answer than a socket holds.
            sources: list[int] = [self._out.fileno(), *[self.mta.fileno()] * self._open]
            ready = select.select(sources, [], [], PATIENCE)[0]
            assert ready, "libmilter does not go on"
            if self.mta.fileno() in ready:
                self._receive()
            if self._out.fileno() in ready:
                octets = os.read(self._out.fileno(), 1 << 20)
                assert octets, f"the filter on libmilter has ended with status {self._process.wait()}"
                self._told += octets
        line, _, self._told = self._told.partition(b"\n")
        return line.decode("ascii")

    def send(self, octets: bytes) -> None:
        """Send all that is taken: a filter that has closed takes no more."""
        self.mta.settimeout(PATIENCE)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.mta.sendall(octets)

    def answers(self) -> list[tuple[str, bytes]]:
        """Return what it has answered; it has written that to a local socket, so it is there."""
        self._receive()
        octets, self._answers = self._answers, b""
        return frames(octets)

    def _receive(self) -> None:
        self.mta.setblocking(False)
        with suppress(BlockingIOError):
            try:
                while octets := self.mta.recv(1 << 20):
                    self._answers += octets
            except ConnectionResetError:
                pass
            self._open = False

    def end(self) -> None:
        # libmilter takes seconds to stop when asked to.
        self._process.kill()
        self._process.wait()
        self._out.close()
        self.mta.close()


def play_to_libmilter(program: Path, script: str, packets: Sequence[bytes]) -> Played:
    """Play packet by packet, each after libmilter has handled the one before."""
    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as directory:
        filter_ = _Program(program, os.path.join(directory, "s"), script)
        try:
            sent = 0
            for packet in (*packets, None):
                if packet is None:
                    filter_.mta.shutdown(socket.SHUT_WR)
                else:
                    filter_.send(packet)
                    sent += len(packet)
                told = []
                handled = f"= {sent}" if packet is not None else ""
                while (line := filter_.line()) not in ("closed", handled):
                    if not line.startswith("= "):
                        told.append(line)
                steps.append(Step(tuple(filter_.answers()), tuple(told), line == "closed"))
                if line == "closed":
                    break
        finally:
            filter_.end()
    steps += [GONE] * (len(packets) + 1 - len(steps))
    return Played(tuple(steps))


# ---------------------------------------------------------------------------------------------------------------- ours


async def play_to_us(script: str, packets: Sequence[bytes], *, suspends: bool = False) -> Played:
    """Play packet by packet, each after the one before was handled."""
    filter_ = filter_class(script, suspends=suspends)
    steps: list[Step] = []
    async with serving(filter_) as scene:
        peer = scene.peer()
        await peer.quiet()
        for packet in [*packets, None]:
            writes, told = len(peer.wire.writes), len(filter_.told)
            if packet is None:
                peer.hang_up()
                while not peer.wire.lost:
                    await asyncio.sleep(0)
            else:
                peer.write(packet)
            await peer.quiet()
            answers = frames(b"".join(peer.wire.writes[writes:]))
            steps.append(Step(tuple(answers), tuple(filter_.told[told:]), peer.wire.closing))
            if peer.wire.closing:
                break
    steps += [GONE] * (len(packets) + 1 - len(steps))
    return Played(tuple(steps))


# --------------------------------------------------------------------------------------------------------- comparison

_EDITS: Final = "mihe+2-qb"
"""Codes of edits in the order in which ours leave; those of the envelope stay as they were called."""
_RANK: Final = {code: min(rank, 4) if code in "+2-" else rank for rank, code in enumerate(_EDITS)}


def canonical(answers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the edits of an end of message as ours leave: with the verdict, in one order.

    With a verdict that does not let the message pass none is left.  A second change of one field, of the sender or of the
    reason to hold replaces the first.  PROGRESS leaves when it is called for, so it comes first.
    """
    edits = [(code, payload) for code, payload in answers if code in _EDITS]
    rest = [(code, payload) for code, payload in answers if code not in _EDITS]
    progress = [answer for answer in rest if answer[0] == "p"]
    verdicts = [answer for answer in rest if answer[0] != "p"]
    if not edits or len(verdicts) != 1 or verdicts[0][0] not in "ca":
        return progress + verdicts
    kept: dict[object, tuple[str, bytes]] = {}
    for number, (code, payload) in enumerate(edits):
        key: object = number
        if code == "m":
            key = payload[4:].partition(b"\0")[0].lower(), int.from_bytes(payload[:4], "big")
        elif code in "eq":
            key = code
        kept.pop(key, None)
        kept[key] = code, payload
    changes = sorted((key for key, (code, _) in kept.items() if code == "m"), reverse=True)  # type: ignore[type-var]
    others = sorted((edit for edit in kept.values() if edit[0] != "m"), key=lambda edit: _RANK[edit[0]])
    return [*progress, *(kept[key] for key in changes), *others, *verdicts]
