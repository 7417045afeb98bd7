"""aiomilter.testing: a filter tried without an MTA, over the code that serves real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    REJECT,
    TEMPFAIL,
    LocalProtocolError,
    Milter,
    RemoteProtocolError,
    Reply,
    ResolverTimeout,
    Stage,
    StoreError,
    TemporaryFailure,
)
from aiomilter.testing import session

from .clock import on_clock
from .peer import REPLY, Gate, Scripted, Watcher, filter_class, later, names

MESSAGE = b"From: a@x\r\nSubject: old\r\n\r\nHello\r\n"


async def test_a_message_is_played_and_comes_back() -> None:
    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.change_header("Subject", 1, "new")
        ctx.replace_body(b"Changed\r\n")

    filter_ = filter_class({"eom": eom})
    async with session(filter_) as smtp:
        assert smtp.decided is None
        assert await smtp.mail("<a@x>", "SIZE=1") is CONTINUE
        assert await smtp.rcpt("<b@x>") is CONTINUE
        result = await smtp.message(MESSAGE)

    assert result.answer in (CONTINUE, ACCEPT)
    assert len(result.modifications) == 2
    assert result.delivered is not None
    assert result.delivered.octets.endswith(b"From: a@x\r\nSubject: new\r\n\r\nChanged\r\n")
    told = names(filter_)
    assert told[:4] == ["connect", "helo", "envfrom", "envrcpt"]
    assert told[-1] == "close"


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
@pytest.mark.parametrize("form", [None, later()], ids=["inline", "suspended"])
async def test_the_scene_is_set(mta: Any, form: Any) -> None:
    seen: list[Any] = []

    async def helo(filter_: Any, ctx: Any, event: Any) -> None:
        if form is not None:
            await form(filter_, ctx, event)
        seen.append((str(ctx.client.ip), ctx.client.hostname, event.name, ctx.mta.kind, ctx.macro("{custom}")))

    async with session(
        filter_class({"helo": helo}),
        client="2001:db8::1",
        hostname="h",
        helo="there",
        macros={"{custom}": "1"},
        mta=mta,
    ):
        pass

    # Sendmail sends no version unless it is asked for it.
    assert seen == [("2001:db8::1", "h", "there", "postfix" if mta == "postfix" else seen[0][3], "1")]


async def test_macros_by_step() -> None:
    seen: list[Any] = []
    play = {
        "helo": lambda f, ctx, e: seen.append(ctx.auth),
        "envfrom": lambda f, ctx, e: seen.append(ctx.auth),
    }
    async with session(filter_class(play), macros={Stage.MAIL: {"auth_authen": "alice"}}) as smtp:
        await smtp.mail("<a@x>")

    assert seen[0] is None
    assert seen[1].login == "alice"


@pytest.mark.parametrize("name", ["connect", "helo"])
@pytest.mark.parametrize("answer", [REJECT, ACCEPT, REPLY])
async def test_a_session_that_ends_at_once(name: str, answer: Any) -> None:
    filter_ = filter_class({name: answer})
    async with session(filter_) as smtp:
        assert smtp.decided == (Stage.CONNECT if name == "connect" else Stage.HELO, answer)

    assert names(filter_)[-1] == "close"


async def test_what_a_factory_raises_comes_out() -> None:
    def factory() -> Milter:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        async with session(factory):
            pytest.fail("began")


async def test_a_factory_with_a_life_is_entered_and_left() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[Callable[[], Scripted]]:
        log.append("enter")
        yield filter_class()
        log.append("leave")

    async with session(factory):
        assert log == ["enter"]
    assert log == ["enter", "leave"]


async def test_what_the_block_raises_comes_out_and_ends_the_session() -> None:
    filter_ = filter_class()

    async def play() -> None:
        async with session(filter_) as smtp:
            await smtp.mail("<a@x>")
            raise KeyError

    with pytest.raises(KeyError):
        await play()
    assert names(filter_)[-2:] == ["abort", "close"]


async def test_options_are_those_of_serve() -> None:
    watcher = Watcher()
    filter_ = filter_class({"envfrom": ValueError("x")})
    async with session(filter_, on_error=Reply(451, "4.3.0", "busy"), observer=watcher, failures="answer") as smtp:
        assert await smtp.mail("<a@x>") == Reply(451, "4.3.0", "busy")
    assert len(watcher.failures) == 1


async def test_a_filter_that_breaks_off_is_noticed() -> None:
    filter_ = filter_class({"negotiate": ValueError("x")}, callbacks=["negotiate"])
    with pytest.raises(RemoteProtocolError):
        async with session(filter_, observer=Watcher(), failures="answer"):
            pytest.fail("began")


async def test_why_a_filter_breaks_off_comes_out() -> None:
    filter_ = filter_class({"negotiate": ValueError("x")}, callbacks=["negotiate"])
    with pytest.raises(ValueError, match="x") as caught:
        async with session(filter_):
            pytest.fail("began")
    assert isinstance(caught.value.__cause__, RemoteProtocolError)


async def test_two_sessions_at_once() -> None:
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()})

    async def play(sender: str) -> Any:
        async with session(filter_) as smtp:
            return await smtp.mail(sender)

    both = asyncio.gather(play("<a@x>"), play("<b@x>"))
    await gate.reached.wait()
    gate.opened.set()
    assert list(await both) == [CONTINUE, CONTINUE]


async def test_nothing_is_left() -> None:
    before = asyncio.all_tasks()
    async with session(filter_class({"eom": later()})) as smtp:
        await smtp.mail("<a@x>")
        await smtp.rcpt("<b@x>")
        await smtp.message(MESSAGE)
    assert asyncio.all_tasks() == before


async def test_a_large_body_goes_both_ways() -> None:
    chunks: list[int] = []

    def on_body(filter_: Any, ctx: Any, chunk: bytes) -> None:
        chunks.append(len(chunk))

    filter_ = filter_class(
        {"body": on_body, "eom": lambda f, ctx, e: ctx.replace_body(b"y" * 1_000_000)}, silent=["body"]
    )
    async with session(filter_) as smtp:
        await smtp.mail("<a@x>")
        await smtp.rcpt("<b@x>")
        result = await smtp.message(b"A: b\r\n\r\n" + b"x" * 999_998 + b"\r\n")

    assert sum(chunks) == 1_000_000
    assert result.delivered is not None
    assert len(result.delivered.octets) > 1_000_000


async def test_the_fixture_is_the_same(milter_session: Any) -> None:
    assert milter_session is session


# Failures of the filter


async def test_what_leaves_a_callback_comes_out_at_its_step_and_the_session_goes_on() -> None:
    filter_ = filter_class({"envrcpt": KeyError("sendr")})
    async with session(filter_) as s:
        await s.mail("<a@x>")
        with pytest.raises(KeyError, match="sendr"):
            await s.rcpt("<b@x>")
        filter_.play = {}
        await s.mail("<a@x>")
        await s.rcpt("<b@x>")
        assert (await s.message(MESSAGE)).passed


@pytest.mark.parametrize("name", ["connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"])
@pytest.mark.parametrize("form", ["inline", "suspended"])
async def test_no_test_passes_with_a_callback_that_fails(name: str, form: str) -> None:
    error = AttributeError("sendr")
    filter_ = filter_class({name: error if form == "inline" else later(error)})
    with pytest.raises(AttributeError) as caught:
        async with session(filter_) as s:
            await s.send(MESSAGE, "a@x", "b@x")
    assert caught.value is error


@pytest.mark.parametrize("name", ["abort", "close"])
async def test_what_fails_after_the_last_step_comes_out_at_the_end_of_the_block(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        async with session(filter_class({name: ValueError(name)})) as s:
            await s.mail("<a@x>")


async def test_what_fails_at_a_stage_without_an_answer_comes_out_at_the_next_with_one() -> None:
    filter_ = filter_class({"header": ValueError("x")}, silent=["header"])
    async with session(filter_) as s:
        await s.mail("<a@x>")
        await s.rcpt("<b@x>")
        with pytest.raises(ValueError, match="x"):
            await s.message(MESSAGE)


async def test_several_failures_come_out_as_a_group() -> None:
    filter_ = filter_class({"abort": ValueError("one"), "close": KeyError("two")})
    with pytest.raises(ExceptionGroup) as caught:
        async with session(filter_) as s:
            await s.mail("<a@x>")
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('one')", "KeyError('two')"]


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (5, "envfrom: expected a verdict or Reply that this stage takes, or None, found 5"),
        (SystemExit(3), "envfrom: SystemExit left the callback"),
        (asyncio.CancelledError(), "envfrom: CancelledError left the callback"),
    ],
    ids=repr,
)
async def test_what_fails_without_an_exception_of_its_own_is_a_bug_of_the_filter(play: Any, message: str) -> None:
    async with session(filter_class({"envfrom": play})) as s:
        with pytest.raises(LocalProtocolError) as caught:
            await s.mail("<a@x>")
    assert str(caught.value) == message
    assert caught.value.__cause__ is (play if isinstance(play, BaseException) else None)


@on_clock
async def test_a_callback_that_is_late_is_a_failure() -> None:
    async with session(filter_class({"envfrom": Gate()()}), callback_timeout=3) as s:
        with pytest.raises(LocalProtocolError, match=r"envfrom: .*cancelled, answered tempfail"):
            await s.mail("<a@x>")


@pytest.mark.parametrize("error", [TemporaryFailure("away"), ResolverTimeout("x"), StoreError("x")], ids=repr)
async def test_what_may_be_over_soon_is_answered(error: Exception) -> None:
    async with session(filter_class({"envfrom": error})) as s:
        assert await s.mail("<a@x>") is TEMPFAIL


async def test_failures_can_be_answered_as_in_production() -> None:
    async with session(filter_class({"envfrom": ValueError("x"), "close": ValueError("y")}), failures="answer") as s:
        assert await s.mail("<a@x>") is TEMPFAIL


async def test_what_the_block_raises_is_not_hidden_by_a_failure() -> None:
    with pytest.raises(KeyError, match="of the test"):
        async with session(filter_class({"close": ValueError("x")})):
            raise KeyError("of the test")


async def test_what_to_do_with_failures_is_one_of_two() -> None:
    given: Any = "log"
    with pytest.raises(ValueError, match="failures: expected 'raise' or 'answer', found 'log'"):
        async with session(filter_class(), failures=given):
            pytest.fail("began")


# A whole message


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
async def test_a_whole_message_is_one_call(mta: Any) -> None:
    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.add_header("X-Seen", "yes")})
    async with session(filter_, mta=mta) as s:
        first = await s.send(MESSAGE, "a@x", ["b@x", "<c@x>"])
        second = await s.send(MESSAGE, "", "b@x")
    assert (first.passed, first.answer.code, first.refused) == (True, 250, {})
    assert [type(edit).__name__ for edit in first.edits] == ["AddHeader"]
    assert b"X-Seen: yes" in first.octets
    assert first.delivered is not None
    assert (first.delivered.sender.path, [rcpt.path for rcpt in first.delivered.recipients]) == (
        "<a@x>",
        ["<b@x>", "<c@x>"],
    )
    assert second.delivered is not None
    assert second.delivered.sender.path == "<>"


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
@pytest.mark.parametrize(
    ("play", "stage"),
    [
        ("connect", Stage.CONNECT),
        ("helo", Stage.HELO),
        ("envfrom", Stage.MAIL),
        ("data", Stage.DATA),
        ("eom", Stage.EOM),
    ],
)
async def test_a_whole_message_that_is_refused_says_where(play: str, stage: Stage, mta: Any) -> None:
    async with session(filter_class({play: REJECT}), mta=mta) as s:
        for _ in range(2):
            result = await s.send(MESSAGE, "a@x", ["b@x"])
            assert (result.answer, result.stage, result.passed, result.refused) == (REJECT, stage, False, {})


async def test_a_whole_message_says_which_recipients_were_refused() -> None:
    filter_ = filter_class({"envrcpt": lambda f, ctx, rcpt: REJECT if rcpt.local_part == "trap" else None})
    async with session(filter_) as s:
        some = await s.send(MESSAGE, "a@x", ["trap@x", "b@x"])
        all_of_them = await s.send(MESSAGE, "a@x", "trap@x")
        with pytest.raises(LocalProtocolError, match="expected one recipient or more, found none"):
            await s.send(MESSAGE, "a@x", [])
    assert some.refused == all_of_them.refused == {"trap@x": REJECT}
    assert some.delivered is not None
    assert [rcpt.address for rcpt in some.delivered.recipients] == ["b@x"]
    assert (all_of_them.answer, all_of_them.stage, all_of_them.passed) == (REJECT, Stage.RCPT, False)
