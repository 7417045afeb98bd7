"""A broken filter loses no mail: whatever leaves a callback, exactly one answer, one log record, and the connection lives."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL, LocalProtocolError, Reply, Stage, TemporaryFailure
from aiomilter.exceptions import ResolverFailure, ResolverTimeout, StoreError
from aiomilter.handler import CALLBACKS as NAME_OF
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind
from aiomilter.observe.guard import Guard
from aiomilter.testing.resolver import ZoneResolver

from .patience import PATIENCE
from .peer import (
    ABORT,
    CALLBACKS,
    MESSAGE,
    OPENING,
    QUIT,
    STAGE_PACKETS,
    Scripted,
    Watcher,
    codes,
    filter_class,
    frames,
    later,
    mail,
    names,
    rcpt,
    serving,
)
from .test_session_answers import TO


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __eq__(self, other: object) -> bool:
        raise ValueError("no comparison")

    __hash__ = None  # type: ignore[assignment]


async def a_coroutine() -> None:
    """What a filter returns that forgot an await."""


async def awaits_a_cancelled_task(filter_: Any, ctx: Any, event: Any) -> None:
    foreign = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    foreign.cancel()
    await foreign


async def awaits_a_cancelled_future(filter_: Any, ctx: Any, event: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises_from_a_group(filter_: Any, ctx: Any, event: Any) -> None:
    async def child() -> None:
        raise ValueError("child")

    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def times_out(filter_: Any, ctx: Any, event: Any) -> None:
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


async def recursion(filter_: Any, ctx: Any, event: Any) -> None:
    await recursion(filter_, ctx, event)


FAILURES: Final = [
    pytest.param(ValueError("broken"), id="Exception"),
    pytest.param(SystemExit(2), id="SystemExit"),
    pytest.param(asyncio.CancelledError(), id="CancelledError raised"),
    pytest.param(StopAsyncIteration(), id="StopAsyncIteration"),
    pytest.param(ExceptionGroup("many", [ValueError("x")]), id="ExceptionGroup"),
    pytest.param(BaseExceptionGroup("many", [SystemExit(1)]), id="BaseExceptionGroup"),
    pytest.param(LocalProtocolError("x"), id="LocalProtocolError"),
    pytest.param(later(ValueError("broken")), id="Exception, suspended"),
    pytest.param(later(SystemExit(2)), id="SystemExit, suspended"),
    pytest.param(awaits_a_cancelled_task, id="awaits a cancelled task"),
    pytest.param(awaits_a_cancelled_future, id="awaits a cancelled future"),
    pytest.param(raises_from_a_group, id="a failing TaskGroup"),
    pytest.param(times_out, id="TimeoutError"),
    pytest.param(recursion, id="RecursionError"),
    pytest.param(True, id="True"),
    pytest.param(0, id="0"),
    pytest.param(5, id="5"),
    pytest.param("x", id="str"),
    pytest.param("", id="empty str"),
    pytest.param(b"c", id="bytes"),
    pytest.param(object, id="a class"),
    pytest.param(later("x"), id="str, suspended"),
    pytest.param(Odd(), id="an object that cannot be shown"),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_a_failure_is_one_answer_and_one_record_and_the_connection_lives(stage: Stage, failure: Any) -> None:
    """P-096, P-097."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: failure})
    async with serving(filter_) as scene:
        peer = await scene.opened(TO[stage])
        assert await peer.send(STAGE_PACKETS[stage]) == "t"
        filter_.play = {}
        assert await peer.send(ABORT + MESSAGE) == "ccccccc"

    ((where, what, _),) = scene.watcher.failures
    assert (where.connection, where.callback) == (1, name)
    assert where.client == "192.0.2.1"
    assert what
    assert names(filter_).count("close") == 1


async def test_a_coroutine_as_answer_hints_at_the_missing_await() -> None:
    """P-097: and gives no warning of its own."""
    filter_ = filter_class({"envfrom": lambda filter_, ctx, event: (a_coroutine(),)})

    class Forgetful(filter_):  # type: ignore[valid-type, misc]
        async def envfrom(self, ctx: Any, mail: Any) -> Any:
            return a_coroutine()

    async with serving(Forgetful) as scene:
        peer = await scene.opened()
        assert await peer.send(mail()) == "t"

    assert "is an await missing" in scene.watcher.failures[0][1]


ON_ERRORS: Final = [CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, Reply(450, "4.7.1", "in a minute")]


@pytest.mark.parametrize(
    "failure", [ValueError("x"), "nonsense", later(ValueError("x"))], ids=["raises", "nonsense", "suspended"]
)
@pytest.mark.parametrize("on_error", ON_ERRORS, ids=repr)
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_on_error_is_the_answer_where_the_stage_takes_it(stage: Stage, on_error: Any, failure: Any) -> None:
    """P-091, P-096: TEMPFAIL where it does not; one record either way."""
    takes = {
        Stage.CONNECT: on_error is not DISCARD,
        Stage.HELO: on_error is not DISCARD,
        Stage.UNKNOWN: on_error not in (DISCARD, ACCEPT),
    }.get(stage, True)
    filter_ = filter_class({NAME_OF[stage]: failure})
    async with serving(filter_, on_error=on_error) as scene:
        peer = await scene.opened(TO[stage])
        before = len(peer.octets)
        await peer.send(STAGE_PACKETS[stage])

    assert peer.octets[before:] == (on_error if takes else TEMPFAIL).packet
    assert len(scene.watcher.failures) == 1


async def test_a_temporary_failure_is_one_line_without_a_traceback() -> None:
    """P-096."""
    filter_ = filter_class({"envrcpt": TemporaryFailure("the database\nis away \udcff")})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + rcpt()) == "ct"

    assert not scene.watcher.failures
    (remark,) = scene.watcher.remarks
    assert "the database" in remark
    assert "\n" not in remark
    assert remark.encode("ascii")


DEPENDENCIES: Final = [
    # What leaves the callback; how its record begins, None if it is a failure with a traceback.
    (TemporaryFailure("away"), "temporary failure: 'away'"),
    (TemporaryFailure(), "temporary failure, without a reason"),
    (ResolverTimeout(), "ResolverTimeout, without a reason"),
    (TemporaryFailure("x" * 400), f"temporary failure: {'x' * 400!r}"),
    (TemporaryFailure("x" * 1003), f"temporary failure: '{'x' * 499}... (1003 characters)"),
    (ResolverTimeout("no answer to 'x.example' TXT"), "ResolverTimeout: \"no answer to 'x.example' TXT\""),
    (ResolverFailure("servfail\n\udcff"), "ResolverFailure: 'servfail\\n\\udcff'"),
    (StoreError("disk full"), "StoreError: 'disk full'"),
    (ExceptionGroup("two", [ResolverTimeout("one"), TemporaryFailure("two")]), "ResolverTimeout: 'one'"),
    (ExceptionGroup("deep", [ExceptionGroup("in", [StoreError("one")])]), "StoreError: 'one'"),
    (ExceptionGroup("two", [ResolverTimeout("one"), ValueError("a bug")]), None),
    (TimeoutError("of the filter's own"), None),
    (ConnectionRefusedError("by its database"), None),
]


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("name", ["connect", "envfrom", "header", "eom"])
@pytest.mark.parametrize(("error", "record"), DEPENDENCIES, ids=lambda value: getattr(type(value), "__name__", ""))
async def test_what_a_filter_depends_on_may_fail_without_a_traceback(
    error: Exception, record: str | None, name: str, form: str
) -> None:
    """P-096: on_error all the same, and the connection goes on; anything else is taken for a bug."""
    stage = next(stage for stage, callback in NAME_OF.items() if callback == name)
    filter_ = filter_class({name: error if form == "inline" else later(error)})
    async with serving(filter_, on_error=REJECT) as scene:
        peer = await scene.opened(TO[stage])
        assert await peer.send(STAGE_PACKETS[stage]) == ("r" if record is None else "t")
        filter_.play = {}
        assert await peer.send(ABORT + MESSAGE) == "ccccccc"

    if record is None:
        assert [(where.callback, found) for where, _, found in scene.watcher.failures] == [(name, error)]
        assert scene.watcher.remarks == []
    else:
        assert scene.watcher.failures == []
        assert scene.watcher.remarks == [record]


async def test_a_resolver_without_servers_fails_the_message_for_now() -> None:
    """The zone of the testing toolkit answers as a resolver does whose servers are away."""
    away = ZoneResolver("example.com * TIMEOUT")

    async def envfrom(filter_: Any, ctx: Any, event: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(away.lookup("example.com", "TXT"))
            tasks.create_task(away.lookup("example.com", "MX"))

    filter_ = filter_class({"envfrom": envfrom})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(mail()) == "t"

    assert scene.watcher.failures == []
    assert scene.watcher.remarks == ["ResolverTimeout: \"no answer to 'example.com' TXT\""]


@pytest.mark.parametrize("name", ["abort", "close"])
@pytest.mark.parametrize("failure", FAILURES[:12])
async def test_a_failure_at_the_end_answers_nothing_and_keeps_nothing_from_ending(name: str, failure: Any) -> None:
    """P-030, P-066."""
    filter_ = filter_class({name: failure})
    async with serving(filter_) as scene:
        peer = await scene.opened(OPENING + mail())
        assert await peer.send(QUIT) == ""
        assert peer.wire.lost

    assert names(filter_)[-2:] == ["abort", "close"]
    assert [where.callback for where, _, _ in scene.watcher.failures] == [name]


@pytest.mark.parametrize("name", ["abort", "close"])
async def test_what_abort_and_close_return_is_ignored(name: str) -> None:
    """P-030."""
    filter_ = filter_class({name: REJECT})
    async with serving(filter_) as scene:
        peer = await scene.opened(OPENING + mail())
        assert await peer.send(QUIT) == ""
    assert not scene.watcher.failures


class Leaving:
    """Notes what ``on_end`` called, and what had left by then."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.left: Callable[[], str] = str

    def __call__(self, what: str) -> None:
        self.calls.append(f"{what} after {self.left()}")


ENDS: Final = [
    # Octets after OPENING; a play beside; what has left when the message ends.
    pytest.param(MESSAGE, {}, "ccccccc", id="continue at end"),
    pytest.param(MESSAGE, {"eom": REJECT}, "ccccccr", id="refused at end"),
    pytest.param(MESSAGE, {"eom": ValueError("x")}, "cccccct", id="failure at end"),
    pytest.param(MESSAGE, {"eom": later()}, "ccccccc", id="continue at end, suspended"),
    pytest.param(MESSAGE, {"header": REJECT}, "cccr", id="refused in content"),
    pytest.param(MESSAGE, {"body": "x"}, "ccccct", id="nonsense in content"),
    pytest.param(mail() + rcpt() + ABORT, {}, "cc", id="abort"),
    pytest.param(mail() + mail() + QUIT, {}, "c", id="another MAIL"),
    pytest.param(mail() + QUIT, {}, "c", id="quit"),
    pytest.param(mail() + b"\0\0\0\1K", {}, "c", id="quit_nc"),
    pytest.param(mail() + b"\0\0\0\0", {}, "c", id="protocol error"),
    pytest.param(mail() + rcpt() + rcpt(), {"envrcpt": DISCARD}, "cd", id="discard at recipient"),
]


@pytest.mark.parametrize(("octets", "play", "left"), ENDS)
async def test_on_end_is_called_once_after_the_answer_has_left(octets: bytes, play: dict[str, Any], left: str) -> None:
    leaving = Leaving()

    def envfrom(filter_: Any, ctx: Any, event: Any) -> None:
        if not leaving.calls:
            ctx.on_end(leaving, "one")
            ctx.on_end(leaving, "two")

    filter_ = filter_class({"envfrom": envfrom, **play})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        already = len(peer.answers)
        leaving.left = lambda: peer.answers[already:]
        await peer.send_each(octets)
        peer.hang_up()
        await peer.quiet()

    assert leaving.calls == [f"one after {left}", f"two after {left}"]


@pytest.mark.parametrize("how", ["lost", "closed"])
async def test_on_end_is_called_when_the_connection_or_the_server_ends(how: str) -> None:
    calls: list[int] = []

    def envfrom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.on_end(calls.append, 1)

    async with serving(filter_class({"envfrom": envfrom})) as scene:
        peer = await scene.opened(OPENING + mail())
        if how == "lost":
            peer.hang_up()
            await peer.quiet()

    assert calls == [1]


async def test_on_end_of_abort_is_called_and_functions_that_raise_are_logged() -> None:
    calls: list[str] = []

    def failing(error: BaseException) -> None:
        raise error

    def abort(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.on_end(failing, ValueError("one"))
        ctx.on_end(failing, SystemExit("two"))
        ctx.on_end(calls.append, "three")

    async with serving(filter_class({"abort": abort})) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + ABORT + mail()) == "cc"

    assert calls == ["three", "three"]
    assert [str(error) for _, _, error in scene.watcher.failures] == ["one", "two"] * 2


@pytest.mark.parametrize("name", ["connect", "helo", "close", "unknown"])
async def test_on_end_outside_a_message_is_an_error(name: str) -> None:
    def callback(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.on_end(print)

    async with serving(filter_class({name: callback})) as scene:
        await scene.opened(OPENING + STAGE_PACKETS[Stage.UNKNOWN] + QUIT)

    ((_, _, error),) = scene.watcher.failures
    assert isinstance(error, LocalProtocolError)


# Time


async def never_ends(filter_: Any, ctx: Any, event: Any) -> None:
    await asyncio.Event().wait()


class Stubborn:
    """A callback that does not end when it is cancelled, until the test lets it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.opened = asyncio.Event()

    def __call__(self) -> Callable[..., Awaitable[Any]]:
        async def wait(filter_: Any, ctx: Any, event: Any) -> Any:
            self.reached.set()
            while not self.opened.is_set():
                try:
                    await self.opened.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
            return REJECT

        return wait


@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_a_callback_that_takes_too_long_is_cancelled_and_answered_for(stage: Stage) -> None:
    """P-096."""
    filter_ = filter_class({NAME_OF[stage]: never_ends})
    async with serving(filter_, callback_timeout=0.002) as scene:
        peer = await scene.opened(TO[stage])
        assert await peer.send(STAGE_PACKETS[stage]) == "t"
        filter_.play = {}
        assert await peer.send(ABORT + MESSAGE) == "ccccccc"

    ((where, what, _),) = scene.watcher.failures
    assert where.callback == NAME_OF[stage]
    assert "0.002 s" in what


@pytest.mark.parametrize("name", ["abort", "close", "negotiate"])
async def test_the_other_callbacks_may_not_take_too_long_either(name: str) -> None:
    filter_ = filter_class({name: never_ends}, callbacks=CALLBACKS)
    async with serving(filter_, callback_timeout=0.002) as scene:
        peer = await scene.opened(OPENING + mail())
        await peer.send(QUIT)
        assert peer.wire.lost

    assert names(filter_)[-1] == "close"
    assert [where.callback for where, _, _ in scene.watcher.failures] == [name]


@pytest.mark.parametrize("answer", [None, REJECT, "nonsense", ValueError("late")], ids=repr)
async def test_what_a_callback_answers_after_its_time_does_not_count(answer: Any) -> None:
    """P-096."""

    async def swallows(filter_: Any, ctx: Any, event: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if isinstance(answer, BaseException):
                raise answer from None
            return answer

    filter_ = filter_class({"envfrom": swallows})
    async with serving(filter_, callback_timeout=0.002) as scene:
        peer = await scene.opened()
        assert await peer.send(mail()) == "t"
        assert await peer.send(ABORT) == ""

    assert "abort" not in names(filter_)


@pytest.mark.parametrize("name", ["envfrom", "abort", "close"])
async def test_a_callback_that_does_not_end_when_cancelled_loses_its_connection(name: str) -> None:
    """P-136: the server can end, and what is left of the callback ends with it."""
    stubborn = Stubborn()
    filter_ = filter_class({name: stubborn()})
    async with serving(filter_, callback_timeout=0.002, cancel_timeout=0.002) as scene:
        peer = await scene.opened(OPENING)
        other = await scene.opened(OPENING)
        peer.write(mail() + ABORT * (name == "abort") + QUIT * (name == "close"))
        await stubborn.cancelled.wait()
        async with asyncio.timeout(PATIENCE):
            while not peer.wire.lost:
                await asyncio.sleep(0)
        filter_.play = {}
        assert await other.send(MESSAGE) == "ccccccc"
        async with asyncio.timeout(PATIENCE):
            await scene.server.close()
        stubborn.opened.set()
        await peer.quiet()

    assert codes(peer.octets)[3:] == ("t" if name == "envfrom" else "c")
    assert names(filter_).count("close") == 2
    messages = [what for _, what, _ in scene.watcher.failures]
    assert sum("of its cancellation" in what for what in messages) == 1


@pytest.mark.parametrize("name", ["abort", "close"])
async def test_an_end_that_does_not_end_after_the_connection_was_lost_keeps_nobody_waiting(name: str) -> None:
    """P-136."""
    stubborn = Stubborn()
    filter_ = filter_class({name: stubborn()})
    async with serving(filter_, callback_timeout=0.002, cancel_timeout=0.002) as scene:
        peer = await scene.opened(OPENING + mail())
        peer.hang_up()
        await stubborn.cancelled.wait()
        async with asyncio.timeout(PATIENCE):
            await scene.server.close()
        assert not scene.server._connections
        stubborn.opened.set()
        await peer.quiet()

    assert names(filter_)[-2:] == ["abort", "close"]


# Its own task


async def cancels_itself(filter_: Any, ctx: Any, event: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


async def cancels_itself_and_returns(filter_: Any, ctx: Any, event: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def is_cancelled_in_the_hand_over(filter_: Any, ctx: Any, event: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.Event().wait()


async def is_cancelled_at_a_bare_yield(filter_: Any, ctx: Any, event: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.Event().wait()


async def is_cancelled_once_suspended(filter_: Any, ctx: Any, event: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.Event().wait()


async def is_cancelled_with_a_done_future(filter_: Any, ctx: Any, event: Any) -> None:
    """The future is done before the Task takes over, and the cancellation comes in between."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    loop.call_soon(task.cancel)
    await future
    await asyncio.Event().wait()


CANCELLING: Final = [
    cancels_itself,
    is_cancelled_in_the_hand_over,
    is_cancelled_at_a_bare_yield,
    is_cancelled_once_suspended,
    is_cancelled_with_a_done_future,
]


@pytest.mark.parametrize("cancel", CANCELLING, ids=lambda cancel: cancel.__name__)
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_a_cancellation_that_we_did_not_ask_for_is_a_failure(stage: Stage, cancel: Any) -> None:
    """P-096: exactly one answer, and the connection lives."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: cancel})
    async with serving(filter_) as scene:
        peer = await scene.opened(TO[stage])
        assert await peer.send(STAGE_PACKETS[stage]) == "t"
        filter_.play = {"envfrom": later(), "eom": later()}
        assert await peer.send(ABORT) == ""
        assert await peer.send(MESSAGE) == "ccccccc"

    ((where, _, error),) = scene.watcher.failures
    assert where.callback == name
    assert isinstance(error, asyncio.CancelledError)


async def test_a_callback_that_cancels_itself_and_returns_harms_no_later_one() -> None:
    filter_ = filter_class({"helo": cancels_itself_and_returns, "envfrom": later(), "eom": later()})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(MESSAGE) == "ccccccc"
        assert await peer.send(MESSAGE) == "ccccccc"

    assert not scene.watcher.failures


async def test_a_callback_cancelled_again_and_again_ends_the_connection_cleanly() -> None:
    """P-136."""
    filter_ = filter_class(dict.fromkeys(CALLBACKS[1:], is_cancelled_once_suspended))
    async with serving(filter_) as scene:
        peer = await scene.opened(OPENING[: len(OPENING)])
        await peer.send(mail() + rcpt() + QUIT)
        assert peer.wire.lost

    assert names(filter_)[-1] == "close"
    assert len(scene.watcher.failures) == len(filter_.told)


# Observers


class Raising(Watcher):
    def __init__(self, where: str) -> None:
        super().__init__(debug=True)
        self.where = where

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "__dict__").get("where"):
            raise ValueError("broken observer")
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    "name",
    [
        "debug",
        "event_seen",
        "answer_sent",
        "client_refused",
        "message_ended",
        "callback_failed",
        "temporary_failed",
        "peer_error",
    ],
)
async def test_an_observer_that_raises_is_dropped(name: str, caplog: pytest.LogCaptureFixture) -> None:
    play = {"connect": TEMPFAIL, "helo": TemporaryFailure("x"), "envfrom": ValueError("x"), "envrcpt": REJECT}
    async with serving(filter_class(play), observer=Raising(name)) as scene:
        peer = await scene.opened()
        assert await peer.send(rcpt() + mail() + ABORT + mail()) == "ctt"

    records = [record for record in caplog.records if record.name == "aiomilter"]
    assert len(records) == 1
    assert records[0].levelname == "ERROR"
    assert name in records[0].getMessage()


def test_an_observer_that_raises_at_start_keeps_nothing_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(Raising("lifecycle"))
    guard.tell(Lifecycle(SERVER, LifecycleKind.LISTENER_STARTED, "listening"))
    guard.tell(Lifecycle(SERVER, LifecycleKind.LISTENER_STOPPED, "no longer listening"))

    assert len(caplog.records) == 1


async def test_a_failure_names_client_callback_and_queue_id() -> None:
    from .peer import macros

    filter_ = filter_class({"eom": ValueError("x")})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        await peer.send(macros("M", i="Q123") + MESSAGE)

    ((where, _, error),) = scene.watcher.failures
    assert (where.connection, where.client, where.callback, where.queue_id) == (1, "192.0.2.1", "eom", "Q123")
    assert isinstance(error, ValueError)
    assert error.__traceback__ is not None


async def test_a_factory_is_asked_for_a_filter_at_each_connection() -> None:
    filter_ = filter_class()
    async with serving(filter_) as scene:
        for _ in range(3):
            await scene.opened(OPENING + QUIT)

    assert len(filter_.made) == 4
    assert all(isinstance(made, Scripted) for made in filter_.made)
    assert frames(b"") == []


async def test_a_temporary_failure_without_a_text_is_answered() -> None:
    class Mute(TemporaryFailure):
        def __str__(self) -> str:
            raise ValueError("no text")

    async def fail(filter_: Any, ctx: Any, event: Any) -> Any:
        raise Mute

    async with serving(filter_class({"envfrom": fail})) as scene:
        peer = await scene.opened()

        assert await peer.send(mail()) == "t"
