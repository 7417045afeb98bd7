"""aiomilter.testing: a filter tried without an MTA, over the code that serves real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiomilter import ACCEPT, CONTINUE, REJECT, Milter, RemoteProtocolError, Reply, Stage
from aiomilter.testing import session

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
    async with session(filter_, on_error=Reply(451, "4.3.0", "busy"), observer=watcher) as smtp:
        assert await smtp.mail("<a@x>") == Reply(451, "4.3.0", "busy")
    assert len(watcher.failures) == 1


async def test_a_filter_that_breaks_off_is_noticed() -> None:
    filter_ = filter_class({"negotiate": ValueError("x")}, callbacks=["negotiate"])
    with pytest.raises(RemoteProtocolError):
        async with session(filter_, observer=Watcher()):
            pytest.fail("began")


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
