"""Whatever a callback waits for, the MTA has its answer in time; on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import uvloop

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    TEMPFAIL,
    Context,
    Milter,
    Reply,
    Stage,
    no_reply,
)
from aiomilter.handler import CALLBACKS as NAME_OF
from aiomilter.wire.framing import Lookahead

from .clock import on_clock
from .patience import PATIENCE
from .peer import (
    ABORT,
    CALLBACKS,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    STAGE_PACKETS,
    Gate,
    Peer,
    Scene,
    body,
    codes,
    connect,
    filter_class,
    header,
    helo,
    later,
    macros,
    mail,
    names,
    offer,
    rcpt,
    serving,
)
from .test_session_answers import TO

POSTFIX: Final = macros("C", j="mx.example", i="Q1", v="Postfix 3.7.11")
SENDMAIL: Final = macros("C", j="mx.example", i="Q1")
MTAS: Final = {"postfix": POSTFIX, "sendmail": SENDMAIL}
BEFORE_END: Final = [stage for stage in Stage if stage is not Stage.EOM]


def opening(mta: str, upto: bytes) -> bytes:
    """What comes before a stage, from one MTA or the other."""
    return upto.replace(connect(), MTAS[mta] + connect())


def lasting(seconds: float, answer: Any = None) -> Callable[..., Awaitable[Any]]:
    """A callback that takes its time."""

    async def wait(filter_: Any, ctx: Any, event: Any) -> Any:
        await asyncio.sleep(seconds)
        return answer

    return wait


def stubborn(seconds: float) -> Callable[..., Awaitable[Any]]:
    """A callback that, cancelled, takes so long to end."""

    async def wait(filter_: Any, ctx: Any, event: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds)

    return wait


async def forever(filter_: Any, ctx: Any, event: Any) -> None:
    await asyncio.Event().wait()


class Stopwatch:
    """When a peer got what, from the moment that the watch began."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.began = asyncio.get_running_loop().time()
        self.before = len(peer.wire.writes)

    def read(self) -> list[tuple[float, str]]:
        """Seconds and codes of each write."""
        wire = self.peer.wire
        written = zip(wire.written_at, wire.writes, strict=True)
        return [(round(at - self.began, 3), codes(octets)) for at, octets in list(written)[self.before :]]


async def asked(scene: Scene, mta: str, stage: Stage) -> Stopwatch:
    """A peer that has just asked for the answer of a stage, on a watch."""
    # Of CONNECT the macros come first, too.
    upto = TO[stage] + (MTAS[mta] if stage is Stage.CONNECT else b"")
    peer = await scene.opened(opening(mta, upto))
    watch = Stopwatch(peer)
    peer.write(STAGE_PACKETS[stage])
    return watch


def patience(until: int) -> list[tuple[float, str]]:
    """PROGRESS every five seconds."""
    return [(float(second), "p") for second in range(5, until, 5)]


# The defaults


DEFAULTS: Final = [
    *[("postfix", stage, [*patience(60), (60.0, "t")]) for stage in BEFORE_END],
    *[("sendmail", stage, [(8.0, "t")]) for stage in BEFORE_END],
    *[(mta, Stage.EOM, [*patience(240), (240.0, "t")]) for mta in MTAS],
]


@pytest.mark.parametrize(("mta", "stage", "expected"), DEFAULTS, ids=lambda value: getattr(value, "name", None))
@on_clock
async def test_a_callback_that_hangs_is_answered_for_before_the_mta_gives_up(
    mta: str, stage: Stage, expected: list[tuple[float, str]]
) -> None:
    """P-093, P-096: PROGRESS wherever the MTA takes it, then one answer, one record, and the connection goes on."""
    filter_ = filter_class({NAME_OF[stage]: forever})
    async with serving(filter_) as scene:
        watch = await asked(scene, mta, stage)
        await asyncio.sleep(250)
        assert watch.read() == expected
        filter_.play = {}
        assert await watch.peer.send(ABORT + MESSAGE) == "ccccccc"

    ((where, what, error),) = scene.watcher.failures
    late = f"the answer was due after {expected[-1][0]:g} s (answer_timeout)"
    if stage is Stage.EOM:
        late = "the callback did not end within 240 s (callback_timeout)"
    assert (where.callback, where.queue_id, error) == (NAME_OF[stage], "Q1", None)
    assert what == f"{late}; cancelled, answered tempfail"


@pytest.mark.parametrize("mta", MTAS)
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
@on_clock
async def test_a_long_look_up_ends_as_the_filter_decided_where_the_mta_takes_progress(mta: str, stage: Stage) -> None:
    """P-093: 42 s, above what either waits for an answer."""
    async with serving(filter_class({NAME_OF[stage]: lasting(42, REJECT)})) as scene:
        watch = await asked(scene, mta, stage)
        await asyncio.sleep(50)
        decided = mta == "postfix" or stage is Stage.EOM
        assert watch.read() == ([*patience(42), (42.0, "r")] if decided else [(8.0, "t")])

    assert len(scene.watcher.failures) == (not decided)


async def play(scene: Scene, octets: bytes, seconds: float = 300) -> list[tuple[float, str]]:
    """Send octets as one batch on a connection with Sendmail, and return what was answered when."""
    peer = await scene.opened(opening("sendmail", OPENING))
    watch = Stopwatch(peer)
    peer.write(octets)
    await asyncio.sleep(seconds)
    return watch.read()


# The options


@pytest.mark.parametrize(
    ("options", "stage", "when", "limit"),
    [
        ({"answer_timeout": 3}, Stage.MAIL, 3, "3 s (answer_timeout)"),
        ({"answer_timeout": 20}, Stage.MAIL, 20, "20 s (answer_timeout)"),
        ({"answer_timeout": 3}, Stage.EOM, 3, "3 s (answer_timeout)"),
        ({"answer_timeouts": {Stage.MAIL: 2.5}}, Stage.MAIL, 2.5, "2.5 s (answer_timeout)"),
        ({"answer_timeouts": {Stage.MAIL: 2.5}}, Stage.RCPT, 8, "8 s (answer_timeout)"),
        ({"answer_timeouts": {Stage.MAIL: 2.5}, "answer_timeout": 4}, Stage.MAIL, 2.5, "2.5 s (answer_timeout)"),
        ({"answer_timeouts": {Stage.EOM: 4}, "answer_timeout": 20}, Stage.EOM, 4, "4 s (answer_timeout)"),
        ({"callback_timeout": 7}, Stage.MAIL, 7, "7 s (callback_timeout)"),
        ({"callback_timeouts": {Stage.MAIL: 0.5}}, Stage.MAIL, 0.5, "0.5 s (callback_timeout)"),
        ({"callback_timeouts": {Stage.MAIL: 0.5}}, Stage.HELO, 8, "8 s (answer_timeout)"),
        ({"callback_timeouts": {Stage.MAIL: 0.5}, "callback_timeout": 6}, Stage.HELO, 6, "6 s (callback_timeout)"),
        ({"progress_interval": None}, Stage.EOM, 240, "240 s (callback_timeout)"),
        ({"callback_timeout": float("inf")}, Stage.EOM, 240, "240 s (answer_timeout)"),
    ],
)
@on_clock
async def test_which_time_is_up_first(options: dict[str, Any], stage: Stage, when: float, limit: str) -> None:
    filter_ = filter_class({NAME_OF[stage]: forever})
    async with serving(filter_, **options) as scene:
        watch = await asked(scene, "sendmail", stage)
        await asyncio.sleep(250)
        assert [answer for answer in watch.read() if answer[1] != "p"] == [(when, "t")]

    ((_, what, _),) = scene.watcher.failures
    assert limit in what


@on_clock
async def test_without_progress_postfix_gets_its_answer_as_early_as_sendmail() -> None:
    async with serving(filter_class({"envfrom": forever}), progress_interval=None) as scene:
        watch = await asked(scene, "postfix", Stage.MAIL)
        await asyncio.sleep(250)
        assert watch.read() == [(8.0, "t")]


@on_clock
async def test_progress_comes_as_often_as_the_option_says() -> None:
    async with serving(filter_class({"helo": lasting(1.9, ACCEPT)}), progress_interval=0.5) as scene:
        watch = await asked(scene, "postfix", Stage.HELO)
        await asyncio.sleep(3)
        assert watch.read() == [(0.5, "p"), (1.0, "p"), (1.5, "p"), (1.9, "a")]


@pytest.mark.parametrize(
    ("options", "stage", "answer"),
    [
        ({"on_timeout": ACCEPT}, Stage.MAIL, ACCEPT),
        ({"on_timeout": ACCEPT, "on_error": REJECT}, Stage.EOM, ACCEPT),
        ({"on_timeout": CONTINUE}, Stage.RCPT, CONTINUE),
        ({"on_timeout": DISCARD}, Stage.BODY, DISCARD),
        ({"on_timeout": DISCARD}, Stage.CONNECT, TEMPFAIL),
        ({"on_timeout": ACCEPT}, Stage.UNKNOWN, TEMPFAIL),
        ({"on_timeout": Reply(451, "4.7.1", "slow")}, Stage.HEADER, Reply(451, "4.7.1", "slow")),
        ({"on_error": REJECT}, Stage.MAIL, REJECT),
        ({"on_error": DISCARD}, Stage.HELO, TEMPFAIL),
    ],
    ids=str,
)
@on_clock
async def test_what_is_answered_when_time_is_up(options: dict[str, Any], stage: Stage, answer: Any) -> None:
    """P-091, P-096: on_timeout, else on_error, where the stage takes it."""
    filter_ = filter_class({NAME_OF[stage]: forever})
    async with serving(filter_, answer_timeout=1, **options) as scene:
        watch = await asked(scene, "sendmail", stage)
        await asyncio.sleep(2)
        assert watch.peer.wire.writes[watch.before :] == [answer.packet]


@on_clock
async def test_edits_are_not_sent_with_the_answer_to_a_time_out() -> None:
    async def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.add_header("X-A", "1")
        await asyncio.Event().wait()

    async with serving(filter_class({"eom": eom}), on_timeout=ACCEPT, answer_timeout=3) as scene:
        watch = await asked(scene, "sendmail", Stage.EOM)
        await asyncio.sleep(5)
        assert watch.read() == [(3.0, "a")]


# What the message is afterwards


@on_clock
async def test_a_refused_stage_is_refused_as_if_the_filter_had_done_so() -> None:
    """P-063, P-068, P-071: the message is decided, one recipient refused, and no abort follows an answer of our own."""
    filter_ = filter_class({"envfrom": forever})
    async with serving(filter_) as scene:
        assert await play(scene, mail() + rcpt() + DATA + EOM + ABORT) == [(8.0, "t"), (8.0, "ttt")]
        assert names(filter_) == ["connect", "helo", "envfrom"]
        filter_.told.clear()

        filter_.play = {"envrcpt": lambda f, ctx, rcpt: forever(f, ctx, rcpt) if "slow" in rcpt.address else None}
        told: list[str] = []
        filter_.play["eom"] = lambda f, ctx, e: told.extend(rcpt.address for rcpt in ctx.recipients)
        content = DATA + header() + EOH + body() + EOM
        answers = await play(scene, mail() + rcpt("<slow@x>") + rcpt("<quick@x>") + content)
        assert answers == [(0.0, "c"), (8.0, "t"), (8.0, "cccccc")]
        assert told == ["quick@x"]
        assert [summary.refused_count for summary in scene.watcher.messages] == [0, 1]


@on_clock
async def test_a_recipient_let_through_when_time_is_up_is_one() -> None:
    told: list[str] = []
    filter_ = filter_class(
        {"envrcpt": forever, "eom": lambda f, ctx, e: told.extend(rcpt.address for rcpt in ctx.recipients)}
    )
    async with serving(filter_, on_timeout=CONTINUE) as scene:
        await play(scene, MESSAGE)

    assert told == ["bob@example.net"]


@on_clock
async def test_a_client_refused_when_time_is_up_is_told_to_the_observer() -> None:
    async with serving(filter_class({"helo": forever}), on_timeout=REJECT) as scene:
        await asked(scene, "sendmail", Stage.HELO)
        await asyncio.sleep(10)

    assert ("refused", "reject") in scene.watcher.heard


@pytest.mark.parametrize("answer", [None, REJECT, "nonsense"], ids=repr)
@on_clock
async def test_what_a_callback_answers_after_its_time_does_not_count(answer: Any) -> None:
    """P-031: the MTA would take a second answer for that of its next command."""

    async def swallows(filter_: Any, ctx: Any, event: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ctx.progress()
            await asyncio.sleep(1)
            ctx.progress()
            return answer

    filter_ = filter_class({"envfrom": swallows, "eom": swallows})
    async with serving(filter_) as scene:
        for mta, stage in (("sendmail", Stage.MAIL), ("sendmail", Stage.EOM), ("postfix", Stage.MAIL)):
            filter_.play = {} if stage is Stage.EOM else filter_.play
            peer = await scene.opened(opening(mta, TO[stage]))
            filter_.play = {NAME_OF[stage]: swallows}
            watch = Stopwatch(peer)
            peer.write(STAGE_PACKETS[stage])
            await asyncio.sleep(250)
            assert "".join(code for _, code in watch.read()).lstrip("p") == "t"

    assert len(scene.watcher.failures) == 3


# The next callback


@on_clock
async def test_the_answer_leaves_at_once_and_the_next_callback_waits_for_the_end_of_this_one() -> None:
    """P-135, and what came meanwhile counts from when it came."""
    began: list[float] = []

    async def helo_(filter_: Any, ctx: Any, event: Any) -> None:
        began.append(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    async with serving(filter_class({"envfrom": stubborn(3), "helo": helo_})) as scene:
        scene.watcher.heard.clear()
        peer = await scene.opened(offer() + SENDMAIL + connect())
        watch = Stopwatch(peer)
        peer.write(mail())
        await asyncio.sleep(9)
        assert watch.read() == [(8.0, "t")]
        peer.write(helo())
        await asyncio.sleep(20)
        # helo came at 9, began at 11, when envfrom had ended, and has its answer 8 s after it came.
        assert watch.read() == [(8.0, "t"), (17.0, "t")]
        assert [round(at - watch.began, 3) for at in began] == [11.0]


@on_clock
async def test_a_cancelled_callback_that_does_not_end_loses_its_connection() -> None:
    """P-136: five seconds after its answer has left."""
    async with serving(filter_class({"envfrom": stubborn(60)})) as scene:
        watch = await asked(scene, "sendmail", Stage.MAIL)
        await asyncio.sleep(12.9)
        lost = [watch.peer.wire.lost]
        await asyncio.sleep(0.2)
        lost.append(watch.peer.wire.lost)
        assert lost == [False, True]
        assert watch.read() == [(8.0, "t")]
        await asyncio.sleep(100)

    first, second = (what for _, what, _ in scene.watcher.failures)
    assert "8 s (answer_timeout)" in first
    assert "within 5 s of its cancellation; closing" in second


@on_clock
async def test_no_progress_follows_the_answer_until_the_mta_asks_again() -> None:
    """It would take it for news of its next command; that has its own, from when it came."""
    async with serving(filter_class({"envfrom": stubborn(4)}), progress_interval=1, answer_timeout=2.5) as scene:
        watch = await asked(scene, "postfix", Stage.MAIL)
        await asyncio.sleep(3.25)
        assert watch.read() == [(1.0, "p"), (2.0, "p"), (2.5, "t")]
        watch.peer.write(rcpt())
        await asyncio.sleep(6)
        assert watch.read()[3:] == [(4.25, "p"), (5.25, "p"), (6.25, "p"), (6.5, "t")]


@on_clock
async def test_a_cancelled_callback_may_have_more_time_than_the_answer_behind_it() -> None:
    """Nothing can be done for that before it has ended, and nothing is: the timer does not spin."""
    filter_ = filter_class({"envfrom": stubborn(10), "helo": forever})
    async with serving(filter_, answer_timeout=2, cancel_timeout=20) as scene:
        peer = await scene.opened(offer() + SENDMAIL + connect())
        watch = Stopwatch(peer)
        peer.write(mail())
        await asyncio.sleep(3)
        armed = peer.timers()
        peer.write(helo())
        await asyncio.sleep(30)
        assert watch.read() == [(2.0, "t"), (12.0, "t")]
        assert len(armed) < 6


@on_clock
async def test_every_callback_has_its_own_time() -> None:
    """The same stage of a later message, too."""
    async with serving(filter_class({"envfrom": lasting(4)}), callback_timeout=5) as scene:
        peer = await scene.opened(opening("sendmail", OPENING))
        for _ in range(3):
            watch = Stopwatch(peer)
            peer.write(mail())
            await asyncio.sleep(7)
            assert watch.read()[-1] == (4.0, "c")

    assert scene.watcher.failures == []


@pytest.mark.parametrize("end", ["lost", "quit", "server"])
@on_clock
async def test_the_end_of_the_connection_after_the_answer_needs_no_abort(end: str) -> None:
    """P-063: the message was decided by the answer that has left."""
    filter_ = filter_class({"envfrom": stubborn(2)})
    async with serving(filter_) as scene:
        watch = await asked(scene, "sendmail", Stage.MAIL)
        await asyncio.sleep(9)
        if end == "lost":
            watch.peer.hang_up()
        elif end == "quit":
            watch.peer.write(QUIT)
        else:
            closing = asyncio.ensure_future(scene.server.close())
        await asyncio.sleep(5)
        if end == "server":
            await closing
        assert watch.peer.wire.lost
        assert watch.read() == [(8.0, "t")]

    assert names(filter_) == ["connect", "helo", "envfrom", "close"]
    assert [summary.answer for summary in scene.watcher.messages] == ["tempfail"]


@on_clock
async def test_what_comes_while_a_callback_waits_counts_from_when_it_came() -> None:
    """The answer of RCPT is due 8 s after RCPT was read, however late its callback begins."""
    async with serving(filter_class({"envfrom": lasting(7), "envrcpt": forever})) as scene:
        watch = await asked(scene, "sendmail", Stage.MAIL)
        await asyncio.sleep(5)
        watch.peer.write(rcpt(), size=1)
        await asyncio.sleep(20)
        assert watch.read() == [(7.0, "c"), (13.0, "t")]


# Stages without an answer


@on_clock
async def test_a_callback_that_nobody_waits_for_has_its_own_time_only() -> None:
    filter_ = filter_class({"envfrom": forever}, silent=["envfrom"])
    async with serving(filter_, callback_timeout=100) as scene:
        watch = await asked(scene, "postfix", Stage.MAIL)
        await asyncio.sleep(99)
        assert not scene.watcher.failures
        await asyncio.sleep(2)
        assert watch.read() == []
        watch.peer.write(rcpt() + DATA)
        await asyncio.sleep(1)
        assert watch.read() == [(101.0, "tt")]

    ((where, what, _),) = scene.watcher.failures
    assert (where.callback, what) == ("envfrom", "the callback did not end within 100 s (callback_timeout); cancelled")
    assert scene.watcher.remarks == []


@on_clock
async def test_queued_stages_without_an_answer_count_against_the_one_that_has_it() -> None:
    """MAIL and RCPT ask for nothing; the time of DATA runs from its arrival, whoever spends it."""
    filter_ = filter_class(dict.fromkeys(("envfrom", "envrcpt", "data"), lasting(4)), silent=["envfrom", "envrcpt"])
    async with serving(filter_) as scene:
        watch = await asked(scene, "sendmail", Stage.MAIL)
        watch.peer.write(rcpt())
        await asyncio.sleep(2)
        watch.peer.write(DATA)
        await asyncio.sleep(20)
        # envfrom to 4, envrcpt to 8, data is cut off at 10.
        assert watch.read() == [(10.0, "t")]

    assert [where.callback for where, _, _ in scene.watcher.failures] == ["data"]


@on_clock
async def test_one_batch_of_stages_without_an_answer_has_one_time() -> None:
    """At 8 s the callback that waits is cancelled; its answer is given at the first stage that has one."""
    silent = ["envfrom", "envrcpt", "data", "header", "eoh", "body"]
    filter_ = filter_class(dict.fromkeys(("envfrom", "envrcpt"), lasting(5)), silent=silent)
    async with serving(filter_, answer_timeouts={Stage.EOM: 8}, progress_interval=None) as scene:
        assert await play(scene, MESSAGE) == [(8.0, "t")]

    assert [where.callback for where, _, _ in scene.watcher.failures] == ["envrcpt"]
    assert names(filter_)[:5] == ["connect", "helo", "envfrom", "envrcpt", "close"]


@on_clock
async def test_every_further_callback_is_cut_short_where_a_time_out_lets_the_message_pass() -> None:
    filter_ = filter_class({"header": forever, "body": forever, "eom": forever}, silent=["header", "body"])
    async with serving(filter_, on_timeout=CONTINUE, answer_timeouts={Stage.EOM: 8}) as scene:
        answers = await play(scene, MESSAGE)
        assert answers == [(0.0, "ccc"), (8.0, "c"), (8.0, "c")]
        assert await play(scene, mail() + rcpt()) == [(0.0, "cc")]

    assert [where.callback for where, _, _ in scene.watcher.failures] == ["header", "body", "eom"]


@on_clock
async def test_sendmail_gets_progress_for_a_callback_before_the_end_once_the_end_has_come() -> None:
    """P-093: it waits for nothing else by then."""
    filter_ = filter_class({"body": lasting(22)}, silent=["body"])
    async with serving(filter_) as scene:
        watch = await asked(scene, "sendmail", Stage.BODY)
        await asyncio.sleep(9)
        watch.peer.write(EOM)
        await asyncio.sleep(20)
        assert watch.read() == [(14.0, "p"), (19.0, "p"), (22.0, "c")]


@on_clock
async def test_the_last_piece_of_a_body_is_answered_with_the_end() -> None:
    """P-046: one answer for both."""
    end = b"\0\0\0\2Ex"
    filter_ = filter_class({"body": forever})
    async with serving(filter_, answer_timeouts={Stage.EOM: 12}) as scene:
        answers = await play(scene, mail() + rcpt() + DATA + header() + EOH + end)
        assert answers == [(0.0, "ccccc"), (5.0, "p"), (10.0, "p"), (12.0, "t")]
        filter_.play = {"body": lasting(7), "eom": lasting(4)}
        answers = await play(scene, mail() + rcpt() + DATA + header() + EOH + end)
        assert answers == [(0.0, "ccccc"), (5.0, "p"), (10.0, "p"), (11.0, "c")]

    assert [where.callback for where, _, _ in scene.watcher.failures] == ["body"]


# abort, close, negotiate


@on_clock
async def test_an_abort_in_the_way_of_a_stage_may_not_take_its_time() -> None:
    """MAIL inside a message implies an abort: the MTA waits for MAIL."""
    filter_ = filter_class({"abort": forever})
    async with serving(filter_) as scene:
        assert await play(scene, mail() + mail()) == [(0.0, "c"), (8.0, "c")]
        assert await play(scene, mail() + ABORT) == [(0.0, "c")]
        filter_.play = {}

    assert [where.callback for where, _, _ in scene.watcher.failures] == ["abort", "abort"]
    assert "8 s (answer_timeout)" in scene.watcher.failures[0][1]
    assert "240 s (callback_timeout)" in scene.watcher.failures[1][1]


@on_clock
async def test_a_close_that_nobody_waits_for_has_its_own_time_and_no_progress() -> None:
    filter_ = filter_class({"close": lasting(100)})
    async with serving(filter_) as scene:
        peer = await scene.opened(opening("postfix", OPENING))
        watch = Stopwatch(peer)
        peer.write(QUIT + mail())
        await asyncio.sleep(101)
        assert watch.read() == []
        between = await scene.opened(opening("postfix", OPENING))
        watch = Stopwatch(between)
        between.write(QUIT_NC + POSTFIX + connect())
        await asyncio.sleep(101)
        assert watch.read() == [*patience(60), (60.0, "c")]  # the close was cancelled: the next client waits
        filter_.play = {}

    assert [where.callback for where, _, _ in scene.watcher.failures] == ["close"]


IN_TIME: Final = "at the end of the server the callback did not end within 5 s (cancel_timeout); cancelled"


@pytest.mark.parametrize("waits", [False, True], ids=["not yet called", "that waits already"])
@pytest.mark.parametrize("callback", ["abort", "close"])
@on_clock
async def test_the_end_of_the_server_waits_for_no_abort_or_close_that_hangs(callback: str, waits: bool) -> None:
    async with serving(filter_class({callback: forever})) as scene:
        peer = await scene.opened(OPENING + mail())
        if waits:
            peer.hang_up()
            await asyncio.sleep(100)
        began = asyncio.get_running_loop().time()
        await scene.server.close()
        assert round(asyncio.get_running_loop().time() - began, 3) == 5.0

    assert [(where.callback, what) for where, what, _ in scene.watcher.failures] == [(callback, IN_TIME)]


@on_clock
async def test_the_end_of_a_connection_may_take_its_time() -> None:
    filter_ = filter_class(dict.fromkeys(("abort", "close"), lasting(100)))
    async with serving(filter_) as scene:
        peer = await scene.opened(OPENING + mail())
        peer.hang_up()
        await asyncio.sleep(201)
        assert not scene.server._connections

    assert names(filter_)[-2:] == ["abort", "close"]
    assert scene.watcher.failures == []


@on_clock
async def test_a_negotiation_that_hangs_closes() -> None:
    filter_ = filter_class({"negotiate": forever}, callbacks=CALLBACKS)
    async with serving(filter_, callback_timeout=20) as scene:
        peer = scene.peer()
        peer.write(offer())
        await asyncio.sleep(19)
        lost = [peer.wire.lost]
        await asyncio.sleep(2)
        lost.append(peer.wire.lost)
        assert lost == [False, True]
        assert peer.octets == b""


# A body that streams


def streaming(*pieces: Any, before: float = 0) -> Callable[..., Awaitable[None]]:
    """Replace the body by pieces: octets, or a number of seconds to wait."""

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await asyncio.sleep(piece)

    async def eom(filter_: Any, ctx: Any, event: Any) -> None:
        await asyncio.sleep(before)
        ctx.add_header("X-A", "1")
        ctx.replace_body(source())

    return eom


CHUNK: Final = b"x" * 65535


@pytest.mark.parametrize(
    ("eom", "expected"),
    [
        # Nothing of the body has left: PROGRESS goes on, between edits and body, too.
        (
            streaming(12, b"new", before=12),
            [(5.0, "p"), (10.0, "p"), (12.0, "h"), (15.0, "p"), (20.0, "p"), (24.0, "bc")],
        ),
        # Its first chunk has: no more PROGRESS (Postfix).
        (streaming(12, CHUNK, 12, b"new", before=0), [(0.0, "h"), (5.0, "p"), (10.0, "p"), (12.0, "b"), (24.0, "bc")]),
        # One time for both: 14 s in the callback, 16 s in the body.
        (
            streaming(30, CHUNK, before=14),
            [(5.0, "p"), (10.0, "p"), (14.0, "h"), (15.0, "p"), (20.0, "p"), (25.0, "p"), (30.0, "t")],
        ),
        (streaming(CHUNK, 60, CHUNK), [(0.0, "hb"), (30.0, "t")]),
    ],
    ids=["before the body", "inside the body", "time is up before", "time is up inside"],
)
@pytest.mark.parametrize("mta", MTAS)
@pytest.mark.parametrize("limit", ["callback_timeouts", "answer_timeouts"])
@on_clock
async def test_a_body_that_streams_is_part_of_the_end_of_message(
    mta: str, eom: Any, expected: list[tuple[float, str]], limit: str
) -> None:
    """P-120: same time, PROGRESS until it begins, and what has begun never passes by halves."""
    options: dict[str, Any] = {limit: {Stage.EOM: 30}}
    async with serving(filter_class({"eom": eom}), on_timeout=ACCEPT, **options) as scene:
        watch = await asked(scene, mta, Stage.EOM)
        await asyncio.sleep(100)
        joined: list[tuple[float, str]] = []
        for when, code in watch.read():
            if joined and joined[-1][0] == when:
                joined[-1] = (when, joined[-1][1] + code)
            else:
                joined.append((when, code))
        assert joined == expected

    assert len(scene.watcher.failures) == (expected[-1][1] == "t")


@on_clock
async def test_a_source_that_takes_no_notice_sends_nothing_behind_the_answer() -> None:
    """P-031."""

    async def source() -> AsyncIterator[bytes]:
        yield CHUNK
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield CHUNK
            yield CHUNK

    async with serving(filter_class({"eom": lambda f, ctx, e: ctx.replace_body(source())}), answer_timeout=9) as scene:
        watch = await asked(scene, "sendmail", Stage.EOM)
        await asyncio.sleep(20)
        assert watch.read()[-1] == (9.0, "t")
        assert "".join(code for _, code in watch.read()) == "bt"


@on_clock
async def test_a_source_that_hangs_as_it_closes_holds_up_no_answer() -> None:
    class Source:
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise AssertionError("it is not read")

        async def aclose(self) -> None:
            await asyncio.Event().wait()

    def eom(filter_: Any, ctx: Any, event: Any) -> Any:
        ctx.replace_body(Source())
        return REJECT

    filter_ = filter_class({"eom": eom})
    async with serving(filter_, answer_timeout=3) as scene:
        watch = await asked(scene, "sendmail", Stage.EOM)
        await asyncio.sleep(20)
        assert watch.read() == [(3.0, "t")]
        filter_.play = {}
        assert await watch.peer.send(MESSAGE) == "ccccccc"

    # The callback's time first, then that of what it leaves behind.
    async def hangs(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.replace_body(Source())
        await asyncio.Event().wait()

    async with serving(filter_class({"eom": hangs}), answer_timeout=3) as scene:
        watch = await asked(scene, "sendmail", Stage.EOM)
        await asyncio.sleep(20)
        assert watch.read() == [(3.0, "t")]
        assert await watch.peer.send(mail()) == "c"

    assert [what for _, what, _ in scene.watcher.failures] == [
        "the answer was due after 3 s (answer_timeout); cancelled, answered tempfail",
        "the callback did not end within 5 s (cancel_timeout); cancelled",
    ]


# What it costs


@on_clock
async def test_nothing_is_armed_for_callbacks_that_do_not_wait() -> None:
    async with serving(filter_class()) as scene:
        peer = scene.peer()
        armed = peer.timers()
        await peer.send(opening("postfix", OPENING) + MESSAGE + mail() + ABORT + MESSAGE)
        assert armed == []
        assert peer.protocol.session._suspension is None


@on_clock
async def test_callbacks_that_wait_for_a_moment_share_one_timer() -> None:
    async with serving(filter_class(dict.fromkeys(CALLBACKS, later()))) as scene:
        peer = scene.peer()
        armed = peer.timers()
        for _ in range(10):
            await peer.send((OPENING if not armed else b"") + MESSAGE)
        assert len(armed) == 1
        await asyncio.sleep(10)
        assert len(armed) == 1  # it found nothing to wait for
        await peer.send(MESSAGE + QUIT)
        assert len(armed) == 2
        assert peer.protocol.session.suspension._deadlines._timer is None


@on_clock
async def test_a_peer_that_sends_single_octets_fills_no_memory() -> None:
    async with serving(filter_class({"envfrom": forever}, silent=["header"])) as scene:
        watch = await asked(scene, "sendmail", Stage.MAIL)
        for _ in range(50):
            watch.peer.write(header("A", "x" * 100), size=1)
            await asyncio.sleep(0.01)
        deadlines = watch.peer.protocol.session.suspension._deadlines
        assert len(deadlines._arrivals) <= 20


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_clock_of_every_loop_will_do(loop: str) -> None:
    """P-093: PROGRESS, the deadline, and one that lets a callback go on."""

    async def main() -> None:
        gate = Gate(REJECT)
        filter_ = filter_class({"envfrom": gate(), "eom": forever})
        options: dict[str, Any] = {"progress_interval": 0.002, "answer_timeouts": {Stage.EOM: 0.02}}
        async with serving(filter_, **options) as scene:
            peer = await scene.opened(opening("postfix", OPENING))
            peer.write(mail())
            async with asyncio.timeout(PATIENCE):
                while not peer.answers.endswith("pp"):
                    await asyncio.sleep(0)
            gate.opened.set()
            await peer.quiet()
            assert peer.answers.endswith("pr")
            filter_.play = {"eom": forever}
            assert (await peer.send(MESSAGE)).strip("p").replace("p", "") == "cccccct"

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def test_what_waits_is_walked_over_once_not_once_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []

    class Counting(Lookahead):
        def feed(self, data: bytes, pos: int = 0) -> int | None:
            before = self.walked
            found = super().feed(data, pos)
            walked.append(self.walked - before)
            return found

    class Slow(Milter):
        @no_reply
        async def body(self, ctx: Context, chunk: bytes) -> None:
            await asyncio.sleep(0)

    monkeypatch.setattr("aiomilter.wire.connection.Lookahead", Counting)
    packets = body(b"x") * 400
    async with serving(Slow) as scene:
        peer = await scene.opened(OPENING + mail() + rcpt() + header())
        await peer.send(packets)

    assert 0 < sum(walked) <= 2 * len(packets)


# While others have their turn


@pytest.mark.parametrize("mta", MTAS)
@on_clock
async def test_an_answer_that_the_mta_does_not_take_is_not_due(mta: str) -> None:
    """Nothing waits but for the MTA: that is write_timeout's, not a failure, and no more is piled up meanwhile."""

    async def replace(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.replace_body(b"x" * 20_000)

    async with serving(filter_class({"eom": replace}, callbacks=["eom"]), write_timeout=100) as scene:
        peer = await scene.opened(opening(mta, OPENING))
        peer.wire.stalled = True
        peer.write((mail("<>") + rcpt("<>") + EOH + EOM) * 100)
        await asyncio.sleep(0.1)
        piled_up = peer.wire.size
        await asyncio.sleep(90)
        assert scene.watcher.failures == []
        # PROGRESS may be added to what waits.
        assert peer.wire.size < piled_up + 100
        peer.wire.take()
        await peer.quiet()
        assert peer.answers.count("b") == 100
    assert scene.watcher.failures == []
