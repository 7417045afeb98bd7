"""Which answer counts where several filters are asked, and who hears of what."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    SKIP,
    BodyResponse,
    Connect,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    LocalProtocolError,
    Mail,
    Milter,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Response,
    Unknown,
    UnknownResponse,
    no_reply,
)
from aiomilter.compose import check, compose
from aiomilter.message import Message, MessageMilter
from aiomilter.testing import session
from aiomilter.wire.constants import Protocol, Stage

MESSAGE = b"From: a@x.example\r\nSubject: hello\r\nX-A: one\r\nX-A: two\r\n\r\nHello\r\n"
NO = Reply(550, "5.7.1", "no")
LATER = Reply(451, "4.7.1", "later")


def answering(log: list[str], name: str, **answers: Any) -> Callable[[], Milter]:
    """Return a filter that notes its callbacks, and gives these answers: values, or coroutine functions."""

    class Answering(Milter):
        pass

    async def abort(self: Milter, ctx: Context) -> None:
        log.append(f"{name} abort")

    def callback(stage: str, answer: Any) -> Any:
        async def call(self: Milter, ctx: Context, *args: Any) -> Any:
            log.append(f"{name} {stage}")
            return await answer(ctx, *args) if callable(answer) else answer

        if stage in ("data", "eoh", "eom"):

            async def without(self: Milter, ctx: Context) -> Any:
                return await call(self, ctx)

            return without

        async def with_event(self: Milter, ctx: Context, event: Any) -> Any:
            return await call(self, ctx, event)

        return with_event

    for stage, answer in answers.items():
        setattr(Answering, stage, callback(stage, answer))
    Answering.abort = abort  # type: ignore[method-assign]
    return type(name, (Answering,), {})


async def slow_no(ctx: Context, *args: object) -> Response:
    for _ in range(5):
        await asyncio.sleep(0)
    return NO


async def slow(ctx: Context, *args: object) -> None:
    await asyncio.sleep(0)


async def hang(ctx: Context, *args: object) -> None:
    await asyncio.Event().wait()


async def test_the_first_in_the_list_that_refuses_decides_not_the_first_in_time() -> None:
    log: list[str] = []
    milter = compose(answering(log, "A", envfrom=slow_no), answering(log, "B", envfrom=LATER))
    async with session(milter) as s:
        assert await s.mail("<a@x.example>") == NO
    assert log[:2] == ["A envfrom", "B envfrom"]


async def test_a_filter_after_one_that_refuses_at_once_is_not_asked() -> None:
    log: list[str] = []
    milter = compose(
        answering(log, "A", envfrom=None), answering(log, "B", envfrom=NO), answering(log, "C", envfrom=None)
    )
    async with session(milter) as s:
        assert await s.mail("<a@x.example>") == NO
    assert log == ["A envfrom", "B envfrom", "A abort"]


async def test_those_that_wait_do_so_together() -> None:
    both = asyncio.Barrier(2)

    async def meet(ctx: Context, *args: object) -> None:
        await both.wait()

    milter = compose(answering([], "A", envfrom=meet), answering([], "B", envfrom=meet))
    async with session(milter) as s:
        assert await s.mail("<a@x.example>") is CONTINUE


async def test_later_ones_are_cancelled_and_all_others_aborted() -> None:
    log: list[str] = []
    cancelled = asyncio.Event()

    async def wait(ctx: Context, *args: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    milter = compose(
        answering(log, "A", envfrom=None), answering(log, "B", envfrom=slow_no), answering(log, "C", envfrom=wait)
    )
    async with session(milter) as s:
        assert await s.mail("<a@x.example>") == NO
        await cancelled.wait()
    assert log[3:] == ["A abort", "C abort"]


async def test_a_refused_recipient_aborts_nobody_and_is_in_no_list() -> None:
    log: list[str] = []
    seen: list[list[str]] = []

    async def look(ctx: Context, *args: object) -> None:
        seen.append([rcpt.address for rcpt in ctx.recipients])

    async def not_carol(ctx: Context, rcpt: Rcpt) -> Response | None:
        return NO if rcpt.address.startswith("carol") else None

    milter = compose(
        answering(log, "A", envrcpt=None, data=look),
        answering(log, "B", envrcpt=not_carol, data=look),
        answering(log, "C", envrcpt=None),
    )
    async with session(milter) as s:
        await s.mail("<a@x.example>")
        assert await s.rcpt("<bob@y.example>") is CONTINUE
        assert await s.rcpt("<carol@y.example>") == NO
        await s.data()
        await s.message(MESSAGE)
    assert log == ["A envrcpt", "B envrcpt", "C envrcpt", "A envrcpt", "B envrcpt", "A data", "B data"]
    assert seen == [["bob@y.example"]] * 2


async def test_what_a_later_one_accepts_does_not_count_for_a_refused_recipient() -> None:
    log: list[str] = []

    async def slow_accept(ctx: Context, rcpt: Rcpt) -> Response | None:
        await asyncio.sleep(0)
        return ACCEPT

    async def first(ctx: Context, rcpt: Rcpt) -> Response | None:
        await asyncio.sleep(0)
        return NO if rcpt.address.startswith("carol") else None

    milter = compose(answering(log, "A", envrcpt=first), answering(log, "B", envrcpt=slow_accept, data=None))
    async with session(milter) as s:
        await s.mail("<a@x.example>")
        assert await s.rcpt("<carol@y.example>") == NO
        assert await s.rcpt("<bob@y.example>") is CONTINUE
    assert log.count("B envrcpt") == 2


async def test_accept_is_the_end_of_the_message_for_one_filter_only() -> None:
    log: list[str] = []
    milter = compose(answering(log, "A", envfrom=ACCEPT, data=NO), answering(log, "B", data=None))
    async with session(milter) as s:
        for _ in range(2):
            assert (await s.send(MESSAGE, "a@x.example", "b@y.example")).answer is CONTINUE
    assert log == ["A envfrom", "B data"] * 2


async def test_accept_of_all_is_accept() -> None:
    milter = compose(answering([], "A", envfrom=ACCEPT), answering([], "B", envfrom=slow, data=ACCEPT))
    async with session(milter) as s:
        assert await s.mail("<a@x.example>") is CONTINUE
        await s.rcpt("<b@y.example>")
        assert await s.data() is ACCEPT


async def test_accept_at_connect_holds_for_the_connection() -> None:
    log: list[str] = []
    milter = compose(answering(log, "A", connect=ACCEPT, envfrom=NO), answering(log, "B", envfrom=None))
    async with session(milter) as s:
        for _ in range(2):
            assert await s.mail("<a@x.example>") is CONTINUE
    assert log == ["A connect", *["B envfrom", "B abort"] * 2]
    async with session(compose(answering(log, "A", connect=ACCEPT), answering(log, "B", helo=ACCEPT))) as s:
        assert s.decided is not None


@pytest.mark.parametrize("stage", ["connect", "helo"])
async def test_a_client_is_refused_by_the_first_that_does(stage: str) -> None:
    milter = compose(answering([], "A", **{stage: slow_no}), answering([], "B", **{stage: LATER}))
    async with session(milter) as s:
        assert s.decided is not None
        assert s.decided[1] == NO


async def test_discard_at_a_recipient_is_of_the_message() -> None:
    log: list[str] = []
    milter = compose(answering(log, "A", envrcpt=None), answering(log, "B", envrcpt=DISCARD))
    async with session(milter) as s:
        await s.mail("<a@x.example>")
        assert await s.rcpt("<b@y.example>") is DISCARD
    assert log[-1] == "A abort"


async def test_unknown_commands_are_answered_by_the_first_with_a_text() -> None:
    log: list[str] = []
    milter = compose(
        answering(log, "A", unknown=None), answering(log, "B", unknown=NO), answering(log, "C", unknown=None)
    )
    async with session(milter) as s:
        assert await s.unknown("XYZZY") == NO
    assert log == ["A unknown", "B unknown"]


async def test_skip_leaves_when_all_have_skipped() -> None:
    log: list[str] = []
    second = iter([None, SKIP, SKIP])

    async def at_the_second(ctx: Context, chunk: bytes) -> Any:
        return next(second)

    milter = compose(answering(log, "A", body=SKIP), answering(log, "B", body=at_the_second))
    octets = b"Subject: x\r\n\r\n" + b"x" * 300_000
    async with session(milter) as s:
        result = await s.send(octets, "a@x.example", "b@y.example")
    assert result.answer is CONTINUE
    assert log == ["A body", "B body", "B body"]


async def test_each_check_counts_the_fields_that_the_mta_has_shown() -> None:
    async def first(ctx: EndOfMessageContext) -> None:
        ctx.delete_header("X-A", 1)
        ctx.insert_header("X-First", "1")

    async def second(ctx: EndOfMessageContext) -> None:
        ctx.change_header("X-A", 2, "new")
        ctx.insert_header("X-Second", "2")

    milter = compose(answering([], "A", eom=first), answering([], "B", eom=second))
    async with session(milter) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert result.octets == (
        b"X-Second: 2\r\nX-First: 1\r\nFrom: a@x.example\r\nSubject: hello\r\nX-A: new\r\n\r\nHello\r\n"
    )


async def test_nothing_is_changed_if_one_refuses() -> None:
    async def change(ctx: EndOfMessageContext) -> None:
        ctx.add_header("X", "1")

    milter = compose(answering([], "A", eom=change), answering([], "B", eom=NO))
    async with session(milter) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert (result.answer, result.edits) == (NO, ())


async def test_a_check_has_no_new_body() -> None:
    async def replace(ctx: EndOfMessageContext) -> None:
        ctx.replace_body(b"new")

    async with session(compose(answering([], "A", eom=replace), answering([], "B", eom=None))) as s:
        with pytest.raises(Exception, match="MessageMilter"):
            await s.send(MESSAGE, "a@x.example", "b@y.example")


async def test_the_mta_is_asked_for_what_any_filter_wants() -> None:
    class Silent(Milter):
        leading_space = True
        macros = {}  # noqa: RUF012

        @no_reply
        async def header(self, ctx: Context, header: Header) -> None: ...

        @no_reply
        async def envfrom(self, ctx: Context, mail: Mail) -> None: ...

    class Asking(Milter):
        rejected_recipients = True

        async def envfrom(self, ctx: Context, mail: Mail) -> None: ...

        async def close(self, ctx: Context) -> None: ...

    async with session(compose(Silent, Asking)) as s:
        protocol = s.agreed.protocol
    assert protocol & Stage.HEADER.nr_flag
    assert not protocol & Stage.MAIL.nr_flag
    assert protocol & Stage.BODY.no_flag
    assert protocol & Protocol.LEADING_SPACE
    assert protocol & Protocol.REJECTED_RECIPIENTS


async def test_contexts_are_a_filters_own_and_dead_after_its_callback() -> None:
    kept: list[Context] = []
    notes: list[dict[str, Any]] = []

    async def keep(ctx: Context, *args: object) -> None:
        kept.append(ctx)
        ctx.notes["seen"] = True
        notes.append(ctx.notes)
        await asyncio.sleep(0)

    async with session(compose(answering([], "A", envfrom=keep), answering([], "B", envfrom=keep))) as s:
        await s.mail("<a@x.example>")
        for context in kept:
            with pytest.raises(Exception, match="whose callback has returned"):
                _ = context.sender
    assert notes[0] is not notes[1]


@pytest.mark.parametrize("waits", ["is cancelled", "takes too long"])
async def test_the_context_of_a_cancelled_callback_is_alive_until_that_ends_and_then_dead(waits: str) -> None:
    kept: list[tuple[Context, str]] = []

    async def refuse(ctx: Context, *args: object) -> Response | None:
        await asyncio.sleep(0)
        return NO if waits == "is cancelled" else None

    async def wait(ctx: Context, *args: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            kept.append((ctx, ctx.helo))

    slow = check(answering([], "B", envfrom=wait), timeout=None if waits == "is cancelled" else 0.01)
    async with session(compose(answering([], "A", envfrom=refuse), slow), failures="answer") as s:
        await s.mail("<a@x.example>")
        await s.abort()
        await s.mail("<b@x.example>")  # begins when the first message has left nothing
        context, helo = kept[0]
        assert helo == "client.example"
        with pytest.raises(LocalProtocolError, match="whose callback has returned"):
            _ = context.sender


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="")


async def test_context_variables_last_for_the_connection_of_one_filter() -> None:
    found: list[str] = []

    def setting(name: str) -> Callable[..., Any]:
        async def set_it(ctx: Context, *args: object) -> None:
            VARIABLE.set(name)
            await asyncio.sleep(0)
            VARIABLE.set(VARIABLE.get() + "!")

        return set_it

    async def get_it(ctx: Context, *args: object) -> None:
        found.append(VARIABLE.get())

    milter = compose(
        answering([], "A", connect=setting("a"), envfrom=get_it),
        answering([], "B", connect=setting("b"), envfrom=get_it),
    )
    async with session(milter) as s:
        await s.mail("<a@x.example>")
    assert found == ["a!", "b!"]


async def test_a_timeout_inside_a_callback_cancels_what_is_in_it() -> None:
    """Its Task is the same before and after the suspension, and another than that of the filter beside it."""
    found: list[str] = []

    async def limited(ctx: Context, *args: object) -> None:
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            found.append("late")
        assert asyncio.current_task() is task

    async def group(ctx: Context, *args: object) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0)).add_done_callback(lambda _: found.append("done"))

    async with session(compose(answering([], "A", envfrom=limited), answering([], "B", envfrom=group))) as s:
        assert await s.mail("<a@x.example>") is CONTINUE
    assert sorted(found) == ["done", "late"]


async def test_abort_of_the_client_cancels_all_that_wait() -> None:
    log: list[str] = []
    waiting = asyncio.Barrier(3)
    ended: list[str] = []

    def wait(name: str) -> Callable[..., Any]:
        async def until_cancelled(ctx: Context, *args: object) -> None:
            await waiting.wait()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return until_cancelled

    milter = compose(answering(log, "A", envfrom=wait("A")), answering(log, "B", envfrom=wait("B")))
    async with session(milter) as s:
        mail = asyncio.create_task(s.mail("<a@x.example>"))
        await waiting.wait()
        await s.close()
        with pytest.raises(RemoteProtocolError):
            await mail
    assert sorted(ended) == ["A", "B"]
    assert log[2:] == ["A abort", "B abort"]


async def test_the_end_of_a_connection_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with session(compose(answering([], "A", envfrom=slow), answering([], "B", envfrom=slow))) as s:
        await s.send(MESSAGE, "a@x.example", "b@y.example")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()


async def test_the_next_message_waits_for_what_the_last_has_left() -> None:
    order: list[str] = []
    go = asyncio.Event()

    class Cleaning(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            order.append("envfrom")

        async def abort(self, ctx: Context) -> None:
            assert ctx.sender is not None
            await go.wait()
            order.append("abort")

    class Refusing(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
            return NO if mail.domain == "spam.example" else None

    async with session(compose(Cleaning, Refusing)) as s:
        assert await s.mail("<a@spam.example>") == NO
        asyncio.get_running_loop().call_later(0.01, go.set)
        assert await s.mail("<a@x.example>") is CONTINUE
    assert order[:3] == ["envfrom", "abort", "envfrom"]


class Typed(Milter):
    """All callbacks as they are declared."""

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        return None

    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse | None:
        return None

    async def unknown(self, ctx: Context, unknown: Unknown) -> UnknownResponse | None:
        return None

    async def body(self, ctx: Context, chunk: bytes) -> BodyResponse | None:
        return None


async def test_one_filter_alone_is_a_composition_too() -> None:
    async with session(compose(check(Typed, name="only"))) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert (result.answer, result.edits) == (CONTINUE, ())


async def test_a_check_that_has_seen_the_end_of_the_message_is_not_aborted_where_an_edit_refuses() -> None:
    log: list[str] = []

    class Refuses(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> Response:
            return NO

    async with session(compose(answering(log, "a", eom=None), answering(log, "b", eom=slow), Refuses)) as s:
        assert (await s.send(MESSAGE, "alice@x.example", ["bob@y.example"])).answer == NO
        assert (await s.send(MESSAGE, "alice@x.example", ["bob@y.example"])).answer == NO

    assert log == ["a eom", "b eom", "a eom", "b eom"]
