"""A process that serves messages by the thousand, each fifth with a fault, and says what it holds on to.

``python -m tests.faults.soak MESSAGES`` prints JSON, see :class:`Soaked`.  It is a process of its own, for what one process
of many tests holds changes with all of them: an MTA's idle connections end, garbage of earlier tests is found.
"""

import asyncio
import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter, TemporaryFailure, serve
from aiomilter.observe import InternalError, MessageEnded
from tests.peer import ABORT, EOM, OPENING, QUIT, Watcher, body, header, macros, mail, rcpt

CONNECTIONS: Final = 20
WARM: Final = 1000
FAULTS: Final = (
    "raise",
    "later",
    "away",
    "exit",
    "nonsense",
    "hang",
    "abort",
    "cut",
    "reset",
    "garbage",
    "stream",
    "broken stream",
)
ENDED: Final = {"cut", "reset", "garbage"}
"""Those after which the connection is no more."""


class Tired(Milter):
    """Does what the sender's name says."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.notes["fault"] = mail.address.partition("@")[0]
        ctx.on_end(ENDINGS.update, ["ended"])
        ENDINGS["begun"] += 1

    async def header(self, ctx: Context, header: Header) -> Any:
        match ctx.notes["fault"]:
            case "raise":
                raise ValueError("by chance")
            case "exit":
                raise SystemExit(1)
            case "nonsense":
                return True
        return None

    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["body"] = chunk

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Filter", "yes")
        match ctx.notes["fault"]:
            case "later":
                await asyncio.sleep(0)
                raise ValueError("by chance")
            case "away":
                raise TemporaryFailure("by chance")
            case "hang" | "abort":
                await asyncio.Event().wait()
            case "stream" | "broken stream" as fault:
                ctx.replace_body(_pieces(fault == "stream"))

    async def close(self, ctx: Context) -> None:
        ENDINGS["closed"] += 1


async def _pieces(whole: bool) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield bytes(40_000)
        await asyncio.sleep(0)
    if not whole:
        raise ValueError("by chance")


ENDINGS: Final[Counter[str]] = Counter()


class Quiet(Watcher):
    """An observer that counts what is said by the thousand instead of keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def message_ended(self, event: MessageEnded) -> None:
        self.counts[event.answer] += 1

    def internal_error(self, event: InternalError) -> None:
        self.counts["bug"] += 1

    def _fail(self, event: object) -> None:
        self.counts["failed"] += 1

    def _remark(self, event: object) -> None:
        self.counts["remarked"] += 1


@dataclass(frozen=True)
class Held:
    """What the process holds on to."""

    tasks: int
    descriptors: int
    threads: int
    objects: int
    size: int
    """KiB."""

    @classmethod
    def now(cls) -> Self:
        """Look, after all that is free was given back."""
        gc.collect()
        # Else the heap of glibc grows by 3 MiB in 200,000 messages, all of it free.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        status = Path("/proc/self/status").read_text()
        size = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        descriptors = len(os.listdir("/proc/self/fd"))
        return cls(len(asyncio.all_tasks()), descriptors, threading.active_count(), len(gc.get_objects()), size)


class Sender:
    """An MTA with one connection at a time."""

    def __init__(self, at: tuple[str, int], seed: int) -> None:
        self.at = at
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, messages: int) -> None:
        """Send messages; a connection takes some tens of them."""
        for _ in range(messages):
            if self.streams is None:
                self.streams = await asyncio.open_connection(*self.at)
                self.streams[1].write(OPENING)
            fault = self.random.choice(FAULTS) if self.random.random() < 0.2 else "none"
            await self.message(fault, *self.streams)
            self.counts[fault] += 1
            if self.random.random() < 0.02:
                await self.leave()

    async def message(self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fields = self.random.randrange(1, 9)
        head = b"".join(macros("L", i="Q1") + header(f"X-{number}", "value") for number in range(fields))
        octets = macros("M", i="Q1") + mail(f"<{fault}@x>") + rcpt() + head + body() + EOM
        if fault in ENDED:
            writer.write(octets[: self.random.randrange(len(octets))] + (b"\0\0\0\0" if fault == "garbage" else b""))
            if fault == "reset":
                writer.transport.abort()
            await self.leave(say=False)
            return
        writer.write(octets + (ABORT if fault == "abort" else b""))
        answers = [await _answer(reader) for _ in range(1 + fields + 2)]  # MAIL, each field, BODY, the end
        # A stream takes its time, and may take too much on a machine that has other work.
        assert answers[-1] in _END.get(fault, (b"t",)), (fault, answers)
        if fault != "abort":
            writer.write(ABORT)

    async def leave(self, *, say: bool = True) -> None:
        """Close the connection, with QUIT or without."""
        if self.streams is None:
            return
        (reader, writer), self.streams = self.streams, None
        if say:
            writer.write(QUIT)
        try:
            while await reader.read(1 << 16) if say else False:
                pass
        finally:
            writer.close()


_END: Final = {"none": (b"c",), "stream": (b"c", b"t")}
"""Answers to the end of a message with a fault; to all others TEMPFAIL."""


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Return the code of the next verdict."""
    while True:
        frame = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        if frame[:1] in (b"c", b"t"):
            return frame[:1]


@dataclass(frozen=True)
class Soaked:
    """What has come of it.

    Args:
        first: Held after the first thousand messages.
        last: Held after all.
        sent: Messages by fault.
        endings: What the filter was told.
        heard: What the observer was.
    """

    first: Held
    last: Held
    sent: dict[str, int]
    endings: dict[str, int]
    heard: dict[str, int]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what such a process has printed."""
        values = json.loads(text)
        return cls(Held(**values.pop("first")), Held(**values.pop("last")), **values)


async def soak(messages: int) -> Soaked:
    """Send messages over connections at once, and look at what is held once all of them have ended."""
    observer = Quiet()
    async with serve(
        Tired, "inet:0@127.0.0.1", observer=observer, answer_timeout=0.05, callback_timeout=0.05
    ) as server:
        port, _, host = server.addresses[0].removeprefix("inet:").partition("@")
        senders = [Sender((host, int(port)), seed) for seed in range(CONNECTIONS)]

        async def run(count: int) -> Held:
            await asyncio.gather(*(sender.send(count // CONNECTIONS) for sender in senders))
            await asyncio.gather(*(sender.leave() for sender in senders))
            while server._connections:
                await asyncio.sleep(0)
            return Held.now()

        first = await run(WARM)
        last = await run(messages - WARM)
    sent: Counter[str] = sum((sender.counts for sender in senders), Counter())
    return Soaked(first, last, dict(sent), dict(ENDINGS), dict(observer.counts))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(asyncio.run(soak(int(sys.argv[1]))))))
