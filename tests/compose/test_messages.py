"""The message that edits share: kept once, changed by one after the other."""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    TEMPFAIL,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Helo,
    Mail,
    Milter,
    Reply,
    Response,
)
from aiomilter.compose import check, compose, edit, known_at
from aiomilter.compose.edits import CheckEdits, apply
from aiomilter.edits import Edits
from aiomilter.message import Field, Headers, Message, MessageMilter
from aiomilter.message.envelope import Envelope
from aiomilter.message.spool import Spool
from aiomilter.mta import OFFER, StageSession
from aiomilter.testing import session
from aiomilter.wire.constants import ALL_ACTIONS, Action, Stage

HEAD = b"From: a@x.example\r\nSubject: hello\r\n"
TEXT = HEAD + b"\r\nHello\r\n"
TOO_LARGE = Reply(552, "5.3.4", "Message too large")
ENVELOPE = ("a@x.example", "b@y.example")


def doing(function: Callable[[Message], Any], **attributes: Any) -> type[MessageMilter]:
    class Doing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> Response | None:
            result = function(message)
            return (await result) if hasattr(result, "__await__") else None

    return type("Doing", (Doing,), attributes)


class Chunks(MessageMilter):
    """Sees the body in pieces, and does not keep it."""

    body_wanted = False

    def __init__(self, seen: list[bytes | str]) -> None:
        self.seen = seen

    def chunk(self, octets: bytes) -> None:
        self.seen.append(octets)

    def restart(self) -> None:
        self.seen.append("restart")


async def test_pieces_are_seen_as_they_come_and_again_where_an_edit_has_changed_the_body() -> None:
    seen: list[bytes | str] = []
    changes = iter([False, True])
    footer = doing(lambda message: message.banner("Footer", place="bottom") if next(changes) else None)
    milter = compose(edit(footer, name="footer"), lambda: Chunks(seen))
    async with session(milter) as s:
        await s.send(TEXT, *ENVELOPE)
        assert seen == [b"Hello\r\n"]
        await s.send(TEXT, *ENVELOPE)
    assert seen[1:3] == [b"Hello\r\n", "restart"]
    assert b"".join(each for each in seen[3:] if isinstance(each, bytes)) == b"Hello\r\n\r\nFooter\r\n"


async def test_no_body_is_asked_for_if_no_edit_wants_it() -> None:
    milter = compose(edit(doing(lambda message: message.headers.append("X", "1"), body_wanted=False), name="a"))
    async with session(milter) as s:
        assert s.agreed.protocol & Stage.BODY.no_flag
        assert (await s.send(TEXT, *ENVELOPE)).octets == HEAD + b"X: 1\r\n\r\nHello\r\n"


@pytest.mark.parametrize("size", [10, 100, 1_000])
async def test_each_edit_has_a_size_of_its_own(size: int) -> None:
    """The message is kept for the one that takes most; the first does not take it, and decides by itself."""
    small = edit(doing(lambda message: None, max_size=50, on_too_large=CONTINUE), name="small")
    large = edit(doing(lambda message: message.headers.append("X", str(message.body.size)), max_size=500), name="large")
    async with session(compose(small, large)) as s:
        result = await s.send(HEAD + b"\r\n" + b"x" * size, *ENVELOPE)
    if size > 500:
        assert result.answer == TOO_LARGE
    else:
        assert f"X: {size + 2}\r\n".encode() in result.octets


async def test_an_edit_that_needs_no_body_works_on_a_message_that_is_too_large_for_the_others() -> None:
    small = edit(doing(lambda message: None, max_size=50, on_too_large=CONTINUE), name="small")
    other = edit(doing(lambda message: message.headers.append("X", "1"), body_wanted=False), name="other")
    async with session(compose(small, other)) as s:
        result = await s.send(HEAD + b"\r\n" + b"x" * 1_000, *ENVELOPE)
    assert result.octets == HEAD + b"X: 1\r\n\r\n" + b"x" * 1_000 + b"\r\n"


async def test_where_the_disk_is_full_each_edit_fails_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    footer = doing(lambda message: message.banner("Footer"), memory_size=1_000)
    octets = HEAD + b"\r\n" + b"x" * 200_000
    tags = edit(doing(lambda message: message.headers.append("X", "1"), body_wanted=False), name="tags")
    async with session(compose(edit(footer, name="footer", on_error=CONTINUE), tags), failures="answer") as s:
        monkeypatch.setattr(os, "write", full)
        result = await s.send(octets, *ENVELOPE)
        monkeypatch.undo()
        assert result.octets.startswith(HEAD + b"X: 1\r\n\r\nxxx")
        assert b"Footer" in (await s.send(TEXT, *ENVELOPE)).octets
    async with session(compose(edit(footer, name="footer"), tags), failures="answer") as s:
        monkeypatch.setattr(os, "write", full)
        assert (await s.send(octets, *ENVELOPE)).answer is TEMPFAIL


async def test_what_follows_a_full_disk_waits_for_what_is_left_of_the_event_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, go, order = asyncio.get_running_loop(), asyncio.Event(), []

    def full(*args: object) -> int:
        loop.call_soon_threadsafe(loop.call_later, 0.01, go.set)
        raise OSError(errno.ENOSPC, "no space left")

    class Failing(Milter):
        async def eoh(self, ctx: Context) -> None:
            raise ValueError("as asked")

        async def abort(self, ctx: Context) -> None:
            await go.wait()
            order.append("after eoh")

    class Other(Milter):
        async def eoh(self, ctx: Context) -> None: ...

        async def abort(self, ctx: Context) -> None:
            order.append("after body")

    keeping = doing(lambda message: None, memory_size=1_000)
    milter = compose(check(Failing, on_error=CONTINUE), Other, keeping)
    async with session(milter, failures="answer") as s:
        monkeypatch.setattr(os, "write", full)
        await s.send(HEAD + b"\r\n" + b"x" * 200_000, *ENVELOPE)
        monkeypatch.undo()
    assert order == ["after eoh", "after body"]


async def test_no_message_is_kept_once_no_edit_has_more_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    class Accepting(MessageMilter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response:
            return ACCEPT

    class Counting(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None: ...

    opened: list[Any] = []
    monkeypatch.setattr(Spool, "add", lambda self, octets: opened.append(octets))
    async with session(compose(Accepting, Counting)) as s:
        assert (await s.send(TEXT, *ENVELOPE)).answer is CONTINUE
    assert opened == []


async def test_what_the_mta_does_not_offer_is_the_failure_of_the_edit_that_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    milter = compose(
        edit(doing(lambda message: message.banner("no")), name="bad", on_error=CONTINUE),
        edit(doing(lambda message: message.headers.append("X", "1")), name="good"),
    )
    offer = replace(OFFER, actions=int(OFFER.actions) & ~Action.REPLACE_BODY)
    monkeypatch.setitem(StageSession.__init__.__kwdefaults__ or {}, "offer", offer)
    async with session(milter, failures="answer") as s:
        assert (await s.send(TEXT, *ENVELOPE)).octets == HEAD + b"X: 1\r\n\r\nHello\r\n"


async def test_a_checks_fields_are_where_it_has_put_them() -> None:
    class Placing(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.insert_header("X-Second", "1", 2)
            ctx.insert_header("X-Far", "1", 100)
            ctx.change_header("X-New", 1, "added")
            ctx.change_header("X-New", 2, "")
            ctx.change_header("X-Sooner", 1, "added above the other")
            ctx.add_header("X-Folded", "one\n two")
            ctx.delete_header("From", 1)
            ctx.change_sender("new@x.example")
            ctx.add_recipient("c@y.example")
            ctx.delete_recipient("b@y.example")
            ctx.quarantine("look at it")

    seen: list[bytes] = []
    looking = doing(lambda message: seen.append(message.headers.octets()))
    async with session(compose(Placing)) as s:
        alone = await s.send(TEXT, *ENVELOPE)
    async with session(compose(Placing, looking)) as s:
        composed = await s.send(TEXT, *ENVELOPE)
    assert composed.octets == alone.octets
    assert composed.delivered is not None
    assert alone.delivered is not None
    assert composed.delivered.sender == alone.delivered.sender
    assert composed.delivered.recipients == alone.delivered.recipients
    assert composed.delivered.quarantine == alone.delivered.quarantine == "look at it"
    assert seen == [composed.octets.partition(b"\r\n\r\n")[0] + b"\r\n"]


async def test_an_edit_sees_the_parts_as_those_before_have_left_them() -> None:
    octets = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
        b"--b\r\nContent-Type: application/octet-stream; name=a.exe\r\n\r\nabc\r\n--b--\r\n"
    )
    found: list[list[str]] = []

    def names(message: Message) -> None:
        found.append([part.filename for part in message.attachments()])

    def replaced(message: Message) -> None:
        for part in message.attachments():
            part.replace("gone", filename="gone.txt")

    milters = [edit(doing(names), name="a"), edit(doing(replaced), name="b"), edit(doing(names), name="c")]
    async with session(compose(*milters)) as s:
        result = await s.send(octets, *ENVELOPE)
    assert found == [["a.exe"], ["gone.txt"]]
    assert b"gone.txt" in result.octets


def test_thousands_of_fields_are_removed_in_few_steps() -> None:
    """Forged fields are as many as a sender likes."""
    looked: list[int] = []

    class Looking(Headers):
        def _place(self, field: Field) -> int:
            hint, place = self._hint, super()._place(field)
            looked.append(abs(place - hint))
            return place

    count = 2_000
    message = Message(Looking(Field(b"X-Forged: 1\r\n") for _ in range(count)), Spool(1_000), None, Envelope(None, ()))
    edits = CheckEdits(Edits(int(ALL_ACTIONS), True, 10_000, 10_000_000, 0))
    for number in range(count, 0, -1):
        edits.change_header("X-Forged", number, "" if number % 2 else "2")
    apply([edits], message)
    assert len(message.headers) == count // 2
    assert max(looked) <= 1  # each is where the one before was, or the next


@pytest.mark.parametrize("high", [True, False])
async def test_what_an_edit_holds_until_the_end_is_decided_after_all_checks(high: bool) -> None:
    @known_at(Stage.EOM)
    def is_high(ctx: Context) -> bool:
        return bool(ctx.results.get(bool))

    class Scoring(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            await asyncio.sleep(0)
            ctx.results.put(high)

    class Refusing(MessageMilter):
        async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse:
            return TOO_LARGE

        async def message(self, ctx: Context, message: Message) -> None: ...

    async with session(compose(Scoring, edit(Refusing, when=is_high))) as s:
        assert (await s.send(TEXT, *ENVELOPE)).answer == (TOO_LARGE if high else CONTINUE)
