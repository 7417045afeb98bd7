"""A filter that keeps all that it is shown and answers by a script."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiomilter import (
    Connect,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Rcpt,
    Response,
    Unknown,
    Verdict,
)

Answer = Response | Verdict | Exception | bool | None
CALLBACKS = ("connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")


@dataclass
class Script:
    """What recorders do, and what they saw.

    Args:
        answers: By callback, or by callback and what it is about: ``"envrcpt bob@example.test"``, ``"header Subject"``.
            Each is given once per connection, an exception raised, then the callback continues.
        edit: Called at the end of each message.
        slow: The callbacks that let others go first.
        recorders: One for each connection, in order of their beginning; the one made at start is left out.
    """

    answers: Mapping[str, Answer] = field(default_factory=dict)
    edit: Callable[[EndOfMessageContext], None] | None = None
    slow: frozenset[str] = frozenset()
    recorders: list["Recorder"] = field(default_factory=list)

    def __call__(self) -> "Recorder":
        """Be the factory."""
        return Recorder(self)

    @property
    def events(self) -> list[tuple[Any, ...]]:
        """What the only connection saw."""
        assert len(self.recorders) == 1
        return self.recorders[0].events

    @property
    def names(self) -> list[str]:
        """The callbacks of the only connection, header fields and body chunks in a row as one."""
        names = [event[0] for event in self.events]
        pairs = zip(["", *names], names, strict=False)
        return [name for before, name in pairs if name != before or name not in ("header", "body")]


class Recorder(Milter):
    """Keeps events as tuples: the callback's name, then what it was told."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.answers = dict(script.answers)
        self.events: list[tuple[Any, ...]] = []

    async def _happen(self, name: str, *details: Any, about: str = "") -> Any:
        if not self.events:
            self.script.recorders.append(self)
        self.events.append((name, *details))
        if name in self.script.slow:
            await asyncio.sleep(0)
        specific = f"{name} {about}"
        answer = self.answers.pop(specific if specific in self.answers else name, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def connect(self, ctx: Context, connect: Connect) -> Any:
        return await self._happen("connect", connect.hostname, connect.ip and str(connect.ip))

    async def helo(self, ctx: Context, helo: Helo) -> Any:
        return await self._happen("helo", helo.name)

    async def envfrom(self, ctx: Context, mail: Mail) -> Any:
        return await self._happen("envfrom", mail.path, mail.params)

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Any:
        return await self._happen("envrcpt", rcpt.path, rcpt.params, about=rcpt.address)

    async def data(self, ctx: Context) -> Any:
        return await self._happen("data")

    async def header(self, ctx: Context, header: Header) -> Any:
        return await self._happen("header", header.name, header.value, about=header.name)

    async def eoh(self, ctx: Context) -> Any:
        return await self._happen("eoh")

    async def body(self, ctx: Context, chunk: bytes) -> Any:
        return await self._happen("body", chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Any:
        answer = await self._happen("eom")
        if self.script.edit is not None:
            self.script.edit(ctx)
        return answer

    async def unknown(self, ctx: Context, unknown: Unknown) -> Any:
        return await self._happen("unknown", unknown.line)

    async def abort(self, ctx: Context) -> None:
        await self._happen("abort")

    async def close(self, ctx: Context) -> None:
        await self._happen("close")
