"""A filter of a composition that fails, or takes too long, is answered for by itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    REJECT,
    TEMPFAIL,
    Connect,
    Context,
    EndOfMessageContext,
    Helo,
    Mail,
    Milter,
    Observer,
    Rcpt,
    Reply,
    Response,
    TemporaryFailure,
    no_reply,
)
from aiomilter.compose import check, compose, edit
from aiomilter.message import Message, MessageMilter
from aiomilter.observe import CallbackFailed, CallbackTimedOut, MessageEnded, Misuse, TemporaryFailed
from aiomilter.testing import session
from tests.clock import on_clock

MESSAGE = b"From: a@x.example\r\nSubject: hello\r\n\r\nHello\r\n"
NO = Reply(550, "5.7.1", "no")


class Log(Observer):
    """Keeps which filter an event names."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.texts: list[str] = []

    def _add(self, event: Any) -> None:
        self.events.append((type(event).__name__, event.where.filter))
        self.texts.append(getattr(event, "what", ""))

    def callback_failed(self, event: CallbackFailed) -> None:
        self._add(event)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        self._add(event)

    def temporary_failed(self, event: TemporaryFailed) -> None:
        self._add(event)

    def misuse(self, event: Misuse) -> None:
        self._add(event)

    def message_ended(self, event: MessageEnded) -> None:
        self._add(event)


def raising(error: BaseException) -> type[Milter]:
    class Raising(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            raise error

    return Raising


def returning(value: Any) -> type[Milter]:
    class Returning(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Any:
            return value

    return Returning


class Hanging(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        await asyncio.Event().wait()


class Tagging(Milter):
    """Tells which filters have failed."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Failed", str(ctx.failed("bad")))


FAILURES: list[tuple[str, type[Milter], str]] = [
    ("an exception", raising(ValueError("as asked")), "CallbackFailed"),
    ("the end of the program", raising(SystemExit(1)), "CallbackFailed"),
    ("a cancellation that nobody asked for", raising(asyncio.CancelledError()), "CallbackFailed"),
    ("something that is not an answer", returning("550 no"), "CallbackFailed"),
    ("True", returning(True), "CallbackFailed"),
    ("a database that is down", raising(TemporaryFailure("down")), "TemporaryFailed"),
    ("a hanging callback", Hanging, "CallbackTimedOut"),
]


@pytest.mark.parametrize(("bad", "event"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
@pytest.mark.parametrize("answer", [CONTINUE, ACCEPT, TEMPFAIL, NO])
async def test_a_failure_is_answered_as_its_member_says(bad: type[Milter], event: str, answer: Response) -> None:
    log = Log()
    milter = compose(Tagging, check(bad, name="bad", on_error=answer, timeout=0.01))
    async with session(milter, failures="answer", observer=log) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    passes = answer in (CONTINUE, ACCEPT)
    wanted = TEMPFAIL if answer is NO and event == "TemporaryFailed" else answer
    assert result.answer == (CONTINUE if passes else wanted)
    octets = result.delivered.octets if result.delivered is not None else b""
    assert (b"X-Failed: True" in octets) is passes
    assert log.events == [(event, "bad"), ("MessageEnded", "" if passes else "bad")]


async def test_the_filters_own_answer_and_then_the_servers_count_where_the_member_has_none() -> None:
    class Own(Milter):
        on_error = NO

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            raise ValueError("as asked")

    async with session(compose(Own), failures="answer") as s:
        assert await s.mail("<a@x.example>") == NO
    async with session(compose(raising(ValueError())), failures="answer", on_error=REJECT) as s:
        assert await s.mail("<a@x.example>") is REJECT


async def test_a_timeout_may_have_another_answer_than_an_error() -> None:
    milter = compose(check(Hanging, on_error=NO, on_timeout=CONTINUE, timeout=0.01))
    async with session(milter, failures="answer") as s:
        assert await s.mail("<a@x.example>") is ACCEPT  # no filter is left that could say more


@on_clock
async def test_the_time_of_the_server_is_shared_so_that_one_that_hangs_is_answered_for_alone() -> None:
    """Before the 60 s are over that the server gives to MAIL where the MTA takes PROGRESS."""
    log = Log()
    milter = compose(Tagging, check(Hanging, name="bad", on_timeout=CONTINUE))
    async with session(milter, failures="answer", observer=log, timeout=1_000) as s:
        began = asyncio.get_running_loop().time()
        assert await s.mail("<a@x.example>") is CONTINUE
        assert 56 < asyncio.get_running_loop().time() - began < 60
        await s.rcpt("<b@y.example>")
        result = await s.message(MESSAGE)
    assert b"X-Failed: True" in result.octets
    assert log.events[0] == ("CallbackTimedOut", "bad")
    assert log.texts[0] == "the callback did not end within 57 s; cancelled, answered continue"


@on_clock
async def test_time_is_kept_for_the_edits_that_follow() -> None:
    """Of 240 s, however many filters hang: each has what those before it have left."""

    class HangingCheck(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            await asyncio.Event().wait()

    milter = compose(
        check(HangingCheck, name="check", on_timeout=CONTINUE),
        edit(breaking(hang), name="edit", on_timeout=CONTINUE),
        edit(Late, on_timeout=CONTINUE),
        Signing,
    )
    async with session(milter, failures="answer", timeout=1_000) as s:
        began = asyncio.get_running_loop().time()
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
        took = asyncio.get_running_loop().time() - began
    assert b"X-Late: 1" in result.octets
    assert b"X-Signed: 7" in result.octets
    assert 225 < took < 240


class Signing(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        size = sum([len(octets) async for octets in message.body.chunks()])
        message.headers.prepend("X-Signed", str(size))


def breaking(end: Callable[[Message], Any]) -> type[MessageMilter]:
    class Breaking(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            message.headers.append("X-Half", "1")
            message.headers.remove_all("Subject")
            message.root.replace("gone")
            message.banner("Half")
            message.recipients.add("carol@y.example")
            message.change_sender("other@x.example")
            message.quarantine("half")
            message.add_part("more")
            await end(message)

    return Breaking


async def fail(message: Message) -> None:
    raise ValueError("as asked")


async def hang(message: Message) -> None:
    await asyncio.Event().wait()


class Late(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        await asyncio.sleep(0.5)
        message.headers.append("X-Late", "1")


@pytest.mark.parametrize("end", [fail, hang])
async def test_a_failing_edit_undoes_its_changes_only(end: Callable[[Message], Any]) -> None:
    class Footer(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            message.banner("Footer", place="bottom")

    bad = edit(breaking(end), name="bad", on_error=CONTINUE, timeout=0.01)
    async with session(compose(Tagging, Footer, bad, Signing), failures="answer") as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert result.octets == (
        b"X-Signed: 17\r\nFrom: a@x.example\r\nSubject: hello\r\nX-Failed: False\r\n\r\nHello\r\n\r\nFooter\r\n"
    )
    assert result.delivered is not None
    assert [rcpt.address for rcpt in result.delivered.recipients] == ["b@y.example"]
    assert result.delivered.sender.address == "a@x.example"
    assert result.delivered.quarantine is None


async def test_the_changes_of_a_check_that_fails_are_not_sent() -> None:
    class Half(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Half", "1")
            raise ValueError("as asked")

    for others in ((Tagging,), (Tagging, Signing)):
        milter = compose(check(Half, name="bad", on_error=CONTINUE), *others)
        async with session(milter, failures="answer") as s:
            result = await s.send(MESSAGE, "a@x.example", "b@y.example")
        assert b"X-Half" not in result.octets


async def test_a_check_with_too_many_edits_fails_alone() -> None:
    class Many(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            for _ in range(20):
                ctx.add_header("X-Many", "1")

    log = Log()
    milter = compose(check(Many, name="bad", on_error=CONTINUE), Tagging)
    async with session(milter, failures="answer", observer=log, max_edits=10) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert result.octets.count(b"X-") == 1
    assert log.events[0] == ("CallbackFailed", "bad")


async def test_a_filter_that_failed_is_asked_again_with_the_next_message() -> None:
    asked = iter([True, False])

    class Once(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response:
            if next(asked):
                raise ValueError("as asked")
            return NO

    async with session(compose(check(Once, name="bad", on_error=CONTINUE), Tagging), failures="answer") as s:
        assert await s.mail("<a@x.example>") is CONTINUE
        await s.abort()
        assert await s.mail("<a@x.example>") == NO


async def test_a_failed_filter_cleans_up() -> None:
    done = asyncio.Event()

    class Failing(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            raise ValueError("as asked")

        async def abort(self, ctx: Context) -> None:
            assert not done.is_set()
            done.set()

    async with session(compose(check(Failing, on_error=CONTINUE), Tagging), failures="answer") as s:
        await s.send(MESSAGE, "a@x.example", "b@y.example")
        await done.wait()


async def test_abort_does_not_follow_the_end_of_a_message_that_failed() -> None:
    class Failing(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            raise ValueError("as asked")

        async def abort(self, ctx: Context) -> None:
            raise AssertionError

    milter = compose(check(Failing, name="bad", on_error=CONTINUE), Tagging)
    log = Log()
    async with session(milter, failures="answer", observer=log) as s:
        await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert log.events == [("CallbackFailed", "bad"), ("MessageEnded", "")]


async def test_a_failure_in_close_harms_no_other() -> None:
    closed: list[str] = []

    class Closing(Milter):
        async def close(self, ctx: Context) -> None:
            closed.append("closed")

    class BadlyClosing(Milter):
        async def close(self, ctx: Context) -> None:
            raise ValueError("as asked")

    log = Log()
    async with session(compose(check(BadlyClosing, name="bad"), Closing), failures="answer", observer=log):
        pass
    assert closed == ["closed"]
    assert log.events == [("CallbackFailed", "bad")]


async def test_a_callback_that_ignores_its_cancellation_does_not_delay_the_answer() -> None:
    free, order = asyncio.Event(), []

    class Stubborn(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            order.append("begun")
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue
            order.append("ended")

    async with session(compose(check(Stubborn, on_timeout=NO, timeout=0.01)), failures="answer") as s:
        assert await s.mail("<a@x.example>") == NO
        asyncio.get_running_loop().call_soon(free.set)
        assert await s.mail("<a@x.example>") is CONTINUE
    assert order == ["begun", "ended"] * 2


async def test_helo_waits_for_the_rest_of_a_callback_that_was_cancelled_at_connect() -> None:
    order: list[str] = []

    class Slow(Milter):
        async def connect(self, ctx: Context, connect: Connect) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                order.append("connect has ended")

        async def helo(self, ctx: Context, helo: Helo) -> None:
            order.append("helo")

    async with session(compose(check(Slow, on_timeout=CONTINUE, timeout=0.01)), failures="answer"):
        pass
    assert order == ["connect has ended", "helo"]


async def test_the_next_message_waits_for_the_rest_of_an_abort_that_took_too_long() -> None:
    order: list[str] = []

    class Slow(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            order.append("envfrom")

        async def abort(self, ctx: Context) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                order.append("abort has ended")

    async with session(compose(Slow), failures="answer", callback_timeout=0.02) as s:
        await s.mail("<a@x.example>")
        await s.abort()
        await s.mail("<b@x.example>")
        assert order == ["envfrom", "abort has ended", "envfrom"]


async def test_a_reply_of_a_no_reply_stage_is_told_with_the_name_of_its_filter() -> None:
    class Wrong(Milter):
        @no_reply
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            return NO  # type: ignore[return-value]

    class Asking(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None: ...

    log = Log()
    async with session(compose(check(Wrong, name="bad"), Asking), failures="answer", observer=log) as s:
        assert await s.mail("<a@x.example>") == NO
    assert log.events[0] == ("Misuse", "bad")


async def test_events_name_the_filter_that_has_decided() -> None:
    class Late(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> Response:
            return REJECT

    log = Log()
    async with session(compose(check(Tagging, name="first"), check(Late, name="late")), observer=log) as s:
        await s.send(MESSAGE, "a@x.example", "b@y.example")
    async with session(compose(check(Tagging, name="first")), observer=log) as s:
        await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert log.events == [("MessageEnded", "late"), ("MessageEnded", "")]


async def test_a_refused_recipient_is_reported_with_the_filter_that_refused_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class NotCarol(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            return NO if rcpt.local_part == "carol" else None

    with caplog.at_level("INFO", logger="aiomilter"):
        async with session(compose(Tagging, check(NotCarol, name="access"))) as s:
            await s.send(MESSAGE, "a@x.example", ["b@y.example", "carol@y.example"])
    assert "refused=['carol@y.example': 550 5.7.1 no by 'access']" in caplog.text
