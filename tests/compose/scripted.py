"""Filters that do what a script says, for tests that compare several in a row with the same ones composed."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Final

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Header,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
)
from aiomilter.compose import Member, check, edit
from aiomilter.message import Message, MessageMilter

ANSWERS: Final[tuple[Response | None, ...]] = (
    None,
    CONTINUE,
    ACCEPT,
    REJECT,
    TEMPFAIL,
    DISCARD,
    Reply(550, "5.7.1", "no"),
    Reply(451, "4.7.1", "later"),
)
"""What a script answers; an exception, an answer after a turn of the loop and one that never comes are scripted, too."""
CHECK_STAGES: Final = ("envfrom", "envrcpt", "data", "header", "eoh", "body", "eom")
EDIT_STAGES: Final = ("envfrom", "envrcpt", "data", "head", "message")


@dataclass(frozen=True)
class Step:
    """What a callback does: waits for so many turns of the loop, then answers; or raises; or never ends."""

    answer: Response | None = None
    turns: int = 0
    raises: bool = False
    hangs: bool = False

    async def do(self) -> Any:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.raises:
            raise ValueError("as the script says")
        return self.answer


@dataclass(frozen=True)
class Script:
    """One filter: a number of its own, its steps by callback, its changes at end of message."""

    number: int
    is_edit: bool
    steps: dict[str, Step] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    async def do(self, callback: str) -> Any:
        step = self.steps.get(callback)
        return None if step is None else await step.do()

    def make(self) -> type[Milter]:
        return _edit(self) if self.is_edit else _check(self)

    def member(self) -> Member:
        name = f"f{self.number}"
        made: Any = self.make()
        return edit(made, name=name) if self.is_edit else check(made, name=name)


CHECK_CHANGES: Final = ("top", "end", "own", "remove", "sender", "add", "delete", "quarantine")


def _check(script: Script) -> type[Milter]:
    """A filter of callbacks; it has only those that its script names, and changes fields of its own."""

    class Scripted(Milter):
        pass

    async def envfrom(self: Milter, ctx: Context, mail: Mail) -> Any:
        return await script.do("envfrom")

    async def envrcpt(self: Milter, ctx: Context, rcpt: Rcpt) -> Any:
        return await script.do("envrcpt") if rcpt.address.startswith("carol") else None

    async def data(self: Milter, ctx: Context) -> Any:
        return await script.do("data")

    async def header(self: Milter, ctx: Context, header: Header) -> Any:
        return await script.do("header") if header.name == "Subject" else None

    async def eoh(self: Milter, ctx: Context) -> Any:
        return await script.do("eoh")

    async def body(self: Milter, ctx: Context, chunk: bytes) -> Any:
        return await script.do("body")

    async def eom(self: Milter, ctx: EndOfMessageContext) -> Any:
        number = script.number
        for change in script.changes:
            match change:
                case "top":
                    ctx.insert_header(f"X-Top-{number}", "1")
                case "end":
                    ctx.insert_header(f"X-End-{number}", "1", 2**30)
                case "own":
                    ctx.change_header(f"X-Own-{number}", 1, "changed")
                case "remove":
                    ctx.delete_header(f"X-Gone-{number}", 1)
                case "sender":
                    ctx.change_sender(f"sender{number}@client.test")
                case "add":
                    ctx.add_recipient(f"more{number}@example.test")
                case "delete":
                    ctx.delete_recipient("bob@example.test")
                case "quarantine":
                    ctx.quarantine(f"by {number}")
        return await script.do("eom")

    for callback in (envfrom, envrcpt, data, header, eoh, body, eom):
        if callback.__name__ in script.steps or callback is eom:
            setattr(Scripted, callback.__name__, callback)
    return _made(Scripted, f"Check{script.number}")


EDIT_CHANGES: Final = ("top", "end", "inner", "subject", "footer", "banner", "attachment", "size", "sender", "add")


def _edit(script: Script) -> type[Milter]:
    class Scripted(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> Any:
            for change in script.changes:
                await _change(message, change, script.number)
            return await script.do("message")

    async def envfrom(self: Milter, ctx: Context, mail: Mail) -> Any:
        return await script.do("envfrom")

    async def envrcpt(self: Milter, ctx: Context, rcpt: Rcpt) -> Any:
        return await script.do("envrcpt") if rcpt.address.startswith("carol") else None

    async def data(self: Milter, ctx: Context) -> Any:
        return await script.do("data")

    async def head(self: Milter, ctx: Context, headers: Any) -> Any:
        return await script.do("head")

    for callback in (envfrom, envrcpt, data, head):
        if callback.__name__ in script.steps:
            setattr(Scripted, callback.__name__, callback)
    return _made(Scripted, f"Edit{script.number}")


def _made(cls: type[Milter], name: str) -> type[Milter]:
    # Anew, so that what it asks of the MTA is read off the callbacks that it has by now.
    return type(name, (cls,), {})


async def _change(message: Message, change: str, number: int) -> None:
    headers = message.headers
    match change:
        case "top":
            headers.prepend(f"X-Top-{number}", headers.text("Subject"))
        case "end":
            headers.append(f"X-End-{number}", str(len(headers)))
        case "inner":
            headers.insert_after(headers[len(headers) // 2], f"X-Inner-{number}", "1")
        case "subject":
            headers.set_text("Subject", f"[{number}] {headers.text('Subject')}")
        case "footer":
            message.banner(f"Footer {number}", place="bottom")
        case "banner":
            message.banner(f"Banner {number}")
        case "attachment":
            for part in message.attachments():
                part.replace(f"{number}: {len(await part.read())}", filename=f"{number}.txt")
        case "size":
            size = sum([len(octets) async for octets in message.octets()])
            headers.append(f"X-Size-{number}", str(size))
        case "sender":
            message.change_sender(f"sender{number}@client.test")
        case "add":
            message.recipients.add(f"more{number}@example.test")


def scripts(chance: random.Random, count: int) -> list[Script]:
    """Return filters made by chance: checks, then edits; one at most refuses the content.

    In a row, the first filter has seen all of the content before the second sees any; composed, both see a field before the
    next field comes.  So of two that refuse, another is the first.
    """
    checks, refuser = chance.randint(0, count), chance.randrange(count)
    return [_script(chance, number, number >= checks, number == refuser) for number in range(count)]


def _script(chance: random.Random, number: int, is_edit: bool, refuses_content: bool) -> Script:
    stages = EDIT_STAGES if is_edit else CHECK_STAGES
    changes = EDIT_CHANGES if is_edit else CHECK_CHANGES
    steps = {}
    for stage in chance.sample(stages, chance.randint(0, 3)):
        refuses = refuses_content or stage in ("envfrom", "envrcpt", "data")
        answer = chance.choice(ANSWERS if refuses else ANSWERS[:3]) if chance.random() < 0.3 else None
        steps[stage] = Step(answer, chance.choice((0, 0, 1, 3)), refuses and chance.random() < 0.1)
    return Script(number, is_edit, steps, tuple(chance.sample(changes, chance.randint(0, 4))))


def message(chance: random.Random) -> bytes:
    """Return a message with fields for each of four filters, of text or with an attachment."""
    fields = [b"From: alice@client.test", b"To: bob@example.test", b"Subject: hello"]
    fields += [b"Date: Mon, 1 Jan 2024 00:00:00 +0000", b"Message-ID: <1@client.test>"]
    for number in range(4):
        fields += [b"X-Own-%d: yes" % number, b"X-Gone-%d:\tyes" % number]
    chance.shuffle(fields)
    if chance.random() < 0.5:
        body = b"Hello\r\n\r\nBob\r\n"
    else:
        fields += [b"MIME-Version: 1.0", b"Content-Type: multipart/mixed; boundary=b"]
        body = (
            b"--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--b\r\n"
            b"Content-Type: application/octet-stream; name=a.bin\r\n\r\nabc\r\n--b--\r\n"
        )
    return b"\r\n".join([*fields, b"", b""]) + body
