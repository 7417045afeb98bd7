"""Sessions as an MTA leads them: each packet is sent when the answer to the one before has come.

So it is seen which step an answer is to, and that none waits for octets that are not due yet.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from aiomilter.mta import OFFER, Session, Style
from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, NR_FLAGS, Action, Protocol, Stage
from aiomilter.wire.events import Negotiate
from tests.compat.playing import Talk

__all__ = ["SESSIONS", "SHAPES"]

MESSAGE: Final = b"From: <a@b>\r\nSubject: one\r\nX-Long: two\r\n three\r\n\r\nHello\r\n.\r\nworld\r\n"
STYLES: Final[tuple[Style, ...]] = ("postfix", "sendmail")
OFFERS: Final = {
    "6": OFFER,
    "6 without no-reply": Negotiate(6, Action(ALL_ACTIONS), Protocol(ALL_PROTOCOL & ~NR_FLAGS)),
    "2": Negotiate(2, Action(0x3F), Protocol(0x7F)),
}
SHAPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "all callbacks": {},
    "no-reply content": {"noreply": ["header", "body"]},
    "few callbacks": {"callbacks": ["envfrom", "header", "eom", "close"], "noreply": ["header"]},
    "no-reply greeting": {"noreply": ["connect", "hello", "envrcpt"]},
}
_STEPS: Final = ("connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")
_REPLY: Final = "self.attempt('setreply', '550', '5.7.1', 'no')\n"
_DOES: Final = {
    "CONTINUE": "return Milter.CONTINUE",
    "REJECT": "return Milter.REJECT if n == 1 else 0",
    "TEMPFAIL": "return Milter.TEMPFAIL if n == 1 else 0",
    "ACCEPT": "return Milter.ACCEPT if n == 1 else 0",
    "DISCARD": "return Milter.DISCARD if n == 1 else 0",
    "a reply": f"if n == 1:\n {_REPLY} return Milter.REJECT\nreturn 0",
    "an exception": "if n == 1: 1/0\nreturn 0",
}
_ILLEGAL: Final = {("connect", "DISCARD"), ("hello", "DISCARD"), ("unknown", "DISCARD"), ("unknown", "ACCEPT")}
"""What no MTA knows what to do with."""
_EDITS: Final = (
    "self.addheader('X-A', 'b')\nself.addheader('X-B', 'c', 0)\nself.chgheader('Subject', 1, 'new')\n"
    "self.addrcpt('<n@b>')\nself.delrcpt('<bob@example.net>')\nself.progress()\nself.replacebody('new')\nself.chgfrom('<x@y>')\n"
    "self.quarantine('why')\nreturn 0"
)


async def _everything(session: Session) -> list[str]:
    """Two messages after one that is given up, a recipient that the MTA refuses, and commands that it does not know."""
    answers: list[Any] = [await session.connect(), await session.helo("one"), await session.helo("two")]
    answers += [await session.unknown("FOO"), await session.mail("<given-up@example.org>", "SIZE=9")]
    answers += [await session.rcpt("<bob@example.net>")]
    await session.abort()
    for sender in ("<alice@example.org>", "<>"):
        answers += [await session.mail(sender, "SIZE=300", "BODY=8BITMIME"), await session.rcpt("<bob@example.net>")]
        answers += [await session.rcpt("<carol@example.net>", "NOTIFY=NEVER"), await session.message(MESSAGE)]
    return [repr(answer) for answer in answers]


async def _cut(session: Session) -> list[str]:
    """A client that leaves inside a message."""
    answers = [
        await session.connect(address="2001:db8::1"),
        await session.helo(),
        await session.mail("<alice@example.org>"),
    ]
    answers += [await session.rcpt("<bob@example.net>"), await session.data()]
    await session.close()
    return [repr(answer) for answer in answers]


async def _without_address(session: Session) -> list[str]:
    answers = [
        await session.connect("localhost", ""),
        await session.mail("alice"),
        await session.rcpt("bob@example.net"),
    ]
    return [repr(answer) for answer in [*answers, await session.message(MESSAGE)]]


async def _reused(session: Session) -> list[str]:
    """Two SMTP clients on one connection, which no MTA does, but the protocol has."""
    answers: list[Any] = []
    for name in ("first.example", "second.example"):
        answers += [await session.connect(name), await session.helo(name), await session.mail("<alice@example.org>")]
        answers += [await session.rcpt("<bob@example.net>"), await session.message(MESSAGE)]
        if name == "first.example":
            await session.quit_new_connection()
    return [repr(answer) for answer in answers]


_PLAYED: Final[Mapping[str, Callable[[Session], Awaitable[list[str]]]]] = {
    "everything": _everything,
    "client leaves": _cut,
    "without address": _without_address,
}
_LENT: Final = {Stage.CONNECT: {"two": "connect"}, Stage.RCPT: {"two": "rcpt"}, Stage.EOM: {"two": "eom"}}


def _sessions(shape: str) -> Iterator[tuple[str, Talk]]:
    silent = SHAPES[shape].get("noreply", ())
    answering = [step for step in SHAPES[shape].get("callbacks", _STEPS) if step not in silent and step in _STEPS]
    for style in STYLES:
        for offered, offer in OFFERS.items():
            for name, session in _PLAYED.items():
                yield f"{name}, {style}, offer {offered}", Talk(session, {}, style, offer)
            looks = dict.fromkeys(
                _STEPS, "self.look('j', '{two}', '{mail_addr}', '{rcpt_addr}', '{client_addr}')\nreturn 0"
            )
            yield f"macros, {style}, offer {offered}", Talk(_everything, looks, style, offer, _LENT)
            yield f"edits, {style}, offer {offered}", Talk(_everything, {"eom": _EDITS}, style, offer)
            for step in answering:
                for verdict, source in _DOES.items():
                    if (step, verdict) not in _ILLEGAL and (offered == "6" or verdict == "REJECT"):
                        yield (
                            f"{verdict} at {step}, {style}, offer {offered}",
                            Talk(_everything, {step: source}, style, offer),
                        )
    yield "QUIT_NC", Talk(_reused)


async def _one(session: Session) -> list[str]:
    """One message to two recipients."""
    answers: list[Any] = [await session.connect(), await session.helo(), await session.mail("<alice@example.org>")]
    answers += [await session.rcpt("<bob@example.net>"), await session.rcpt("<carol@example.net>")]
    return [repr(answer) for answer in [*answers, await session.message(MESSAGE)]]


def _greetings() -> Iterator[tuple[str, Talk]]:
    """What goes wrong where no answer is due, and pymilter lets the message pass; elsewhere the MTA would wait."""
    for style in STYLES:
        for step in SHAPES["no-reply greeting"]["noreply"]:
            for verdict in ("CONTINUE", "REJECT", "an exception"):
                yield f"{verdict} at {step}, {style}", Talk(_one, {step: _DOES[verdict]}, style)


SESSIONS: Final = {shape: dict(_greetings() if shape == "no-reply greeting" else _sessions(shape)) for shape in SHAPES}
