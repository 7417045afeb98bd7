"""Header fields that come together are shown in one go, and everything is as if they had come one by one."""

import asyncio
import contextvars
import random
from typing import Any

import pytest

from aiomilter import ACCEPT, CONTINUE, REJECT, TEMPFAIL, Context, Header, LocalProtocolError, Milter, Reply, no_reply
from aiomilter.compose import check, compose
from aiomilter.compose.handler import Composed
from aiomilter.message import Message, MessageMilter
from aiomilter.testing import session

FIELDS = 8
MESSAGE = b"".join([b"X-%d: value\r\n" % number for number in range(FIELDS)]) + b"\r\nHello\r\n"
DEEDS = ("waits", "raises", "waits and raises", "rejects", "waits and rejects", "accepts", "keeps", "sets")
SPEAKER: contextvars.ContextVar[str] = contextvars.ContextVar("speaker", default="")
Script = dict[int, str]
"""What a filter does with fields, by their number."""


def filter_of(name: str, script: Script, log: list[object], kept: list[Context]) -> type[Milter]:
    class Scripted(Milter):
        @no_reply
        async def header(self, ctx: Context, header: Header) -> Any:
            number = int(header.name[2:])
            log.append((name, number, SPEAKER.get()))
            deed = script.get(number, "")
            if "waits" in deed:
                await asyncio.sleep(0)
                log.append((name, number, "after"))
            if "raises" in deed:
                raise ValueError("as the script says")
            if deed == "keeps":
                kept.append(ctx)
            if deed == "sets":
                SPEAKER.set(f"{name} {number}")
            return REJECT if "rejects" in deed else ACCEPT if deed == "accepts" else None

        async def eoh(self, ctx: Context) -> None:
            log.append((name, "eoh", sorted(other for other in "abc" if ctx.failed(other))))

        async def abort(self, ctx: Context) -> None:
            log.append((name, "abort"))

    return type(name, (Scripted,), {})


class Whole(MessageMilter):
    def __init__(self, log: list[object]) -> None:
        self.log = log

    async def message(self, ctx: Context, message: Message) -> None:
        self.log.append(message.headers.octets())


async def played(scripts: list[Script], policy: Any, *, together: bool) -> tuple[list[object], Any, int]:
    """Play a message; return what the filters have seen, the answer, and how many fields were shown in one go."""
    log: list[object] = []
    kept: list[Context] = []
    at_once = 0
    one_go = Composed._begin_fields

    def begin_fields(self: Composed, ctx: Context, fields: Any, /) -> int:
        nonlocal at_once
        done = one_go(self, ctx, fields) if together else 0
        at_once += done
        return done

    members: list[Any] = [
        check(filter_of(name, script, log, kept), name=name, on_error=policy)
        for name, script in zip("abc", scripts, strict=False)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Composed, "_begin_fields", begin_fields)
        milter = compose(*members, lambda: Whole(log))
        async with session(milter, failures="answer") as s:
            result = await s.send(MESSAGE, "alice@example.org", ["bob@example.net"])
            again = await s.send(MESSAGE, "alice@example.org", ["bob@example.net"])
    for context in kept:
        with pytest.raises(LocalProtocolError):
            _ = context.client
    return log, (result.answer, again.answer), at_once


def scripts_from(seed: int) -> tuple[list[Script], Any]:
    source = random.Random(seed)
    scripts = [
        {source.randrange(FIELDS): source.choice(DEEDS) for _ in range(source.randint(0, 2))}
        for _ in range(source.randint(1, 3))
    ]
    return scripts, source.choice([None, CONTINUE, TEMPFAIL])


@pytest.mark.parametrize("seed", range(60))
async def test_fields_in_one_go_give_what_fields_one_by_one_give(seed: int) -> None:
    scripts, policy = scripts_from(seed)

    log, answers, at_once = await played(scripts, policy, together=True)
    expected, expected_answers, none = await played(scripts, policy, together=False)

    assert (log, answers, none) == (expected, expected_answers, 0)
    if not any(0 in script for script in scripts):
        assert at_once > 0


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_all_fields_are_shown_in_one_go_if_nobody_says_anything(count: int) -> None:
    _, answers, at_once = await played([{}] * count, None, together=True)

    assert (answers, at_once) == ((CONTINUE, CONTINUE), 2 * FIELDS)


async def test_the_fields_behind_one_that_waits_have_their_own_time() -> None:
    log, answers, at_once = await played([{3: "waits", 5: "waits"}], None, together=True)

    assert answers == (CONTINUE, CONTINUE)
    assert [entry[1] for entry in log if isinstance(entry, tuple) and entry[2] == ""] == [*range(FIELDS)] * 2
    assert at_once == 2 * 3


async def test_a_handler_that_fails_with_several_fields_is_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin_fields(self: Composed, ctx: Context, fields: Any, /) -> int:
        raise ValueError("of several")

    monkeypatch.setattr(Composed, "_begin_fields", begin_fields)
    log: list[object] = []
    no = Reply(451, "4.3.0", "no")
    async with session(compose(filter_of("a", {}, log, [])), failures="answer", on_error=no) as s:
        result = await s.send(MESSAGE, "alice@example.org", ["bob@example.net"])

    assert result.answer == no
    assert not [entry for entry in log if isinstance(entry, tuple) and isinstance(entry[1], int)]


async def test_a_context_that_was_kept_is_dead_when_the_next_field_is_shown() -> None:
    alive: list[bool] = []

    class Keeps(Milter):
        def __init__(self) -> None:
            self.kept: list[Context] = []

        @no_reply
        async def header(self, ctx: Context, header: Header) -> None:
            alive.extend(context._transaction is not None for context in self.kept)
            self.kept.append(ctx)

    async with session(compose(Keeps)) as s:
        await s.send(MESSAGE, "alice@example.org", ["bob@example.net"])

    assert alive == [False] * (FIELDS * (FIELDS - 1) // 2)


async def test_a_filter_with_a_time_limit_has_it_for_the_first_of_several_fields() -> None:
    cancelled: list[str] = []

    class Waiting(Milter):
        @no_reply
        async def header(self, ctx: Context, header: Header) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(header.name)
                raise

    async with session(compose(check(Waiting, timeout=0.001, on_error=CONTINUE)), failures="answer") as s:
        result = await asyncio.wait_for(s.send(MESSAGE, "alice@example.org", ["bob@example.net"]), 300)

    assert (result.answer, cancelled) == (CONTINUE, ["X-0"])


async def test_a_context_that_one_of_several_filters_has_kept_is_dead_for_the_next_filter() -> None:
    kept: list[Context] = []
    alive: list[bool] = []

    class Keeping(Milter):
        @no_reply
        async def header(self, ctx: Context, header: Header) -> None:
            kept.append(ctx)

    class Looking(Milter):
        @no_reply
        async def header(self, ctx: Context, header: Header) -> None:
            alive.extend(context._transaction is not None for context in kept)

    async with session(compose(Keeping, Looking)) as s:
        await s.send(MESSAGE, "alice@example.org", ["bob@example.net"])

    assert len(kept) == FIELDS
    assert not any(alive)
