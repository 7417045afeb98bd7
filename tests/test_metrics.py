"""What is counted of each event, how it is shown to Prometheus, and that its names stay."""

import asyncio
import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from aiomilter import (
    ACCEPT,
    REJECT,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Milter,
    Observer,
    Rcpt,
    Refusal,
    Reply,
    Response,
    _tally,
)
from aiomilter._cli.status import health, readiness, tallies
from aiomilter._serving.feed import Feed, Key, Report, Reporter
from aiomilter._serving.readiness import Readiness
from aiomilter.compose import check, compose
from aiomilter.dns import resolver
from aiomilter.exceptions import ResolverError
from aiomilter.message import Message, MessageMilter
from aiomilter.observe import (
    OPTION_OF,
    SERVER,
    Answer,
    CallbackFailed,
    CallbackTimedOut,
    CallbackWaited,
    HealthChecked,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    LoopStalled,
    MessageCount,
    MessageEnded,
    RefusedRecipient,
    ShadowOutcome,
    TemporaryFailed,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.observe.metric_table import METRICS, metric
from aiomilter.observe.metrics import MOST_REASONS, Metrics
from aiomilter.observe.prometheus import Collector, exposition
from aiomilter.policy.stores import open_store
from aiomilter.policy.stores.operations import Mode, Op
from aiomilter.testing import session

HERE: Final = Path(__file__).parent
WHERE: Final = Where(connection=1, listener="inet:8890@127.0.0.1", filter="site.Policy", callback="eom")
GREY: Final = Answer("451 4.7.1 later", "tempfail", 451)
MESSAGE: Final = MessageCount(WHERE.listener, WHERE.filter, "eom", "continue", 250, "", (), (), 0, 0.2, None)


def shown(metrics: Metrics, accept: str = "") -> dict[str, float]:
    """Return all values, named as in the text."""
    text = exposition(metrics.tallies, accept)[0].decode()
    parse: Any = openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def message(**changes: Any) -> MessageCount:
    return MESSAGE._replace(**changes)


def test_names_types_and_labels_stay() -> None:
    """Dashboards and alerts of others are made of them: a line is added, never changed."""
    lines = [" ".join((row.name, row.kind, *row.labels)) for row in METRICS]
    assert lines == (HERE / "metric_names.txt").read_text("utf-8").splitlines()


def test_names_are_as_prometheus_has_them() -> None:
    for row in METRICS:
        assert row.name.startswith("aiomilter_")
        assert row.name.endswith("_total") == (row.kind == "counter")
        assert row.help.endswith(".")
        assert bool(row.bounds) == (row.kind == "histogram")
        assert list(row.bounds) == sorted(row.bounds)
    assert len(metric("aiomilter_callback_duration_seconds").bounds) == 12


@pytest.mark.parametrize(
    ("event", "values"),
    [
        (
            MESSAGE,
            {"aiomilter_messages_total answer=continue filter=site.Policy listener=inet:8890@127.0.0.1 stage=eom": 1},
        ),
        (
            message(verdict="reject", code=550, reason="spf_fail"),
            {
                "aiomilter_messages_total answer=reject filter=site.Policy listener=inet:8890@127.0.0.1 stage=eom": 1,
                "aiomilter_replies_total code=550 reason=spf_fail": 1,
            },
        ),
        (message(verdict="tempfail", code=451), {"aiomilter_replies_total code=451 reason=": 1}),
        (message(verdict="tempfail", code=421), {"aiomilter_replies_total code=421 reason=": 1}),
        (
            message(verdict="reject", code=552, reason="size", size=70000),
            {
                "aiomilter_messages_total answer=reject filter=site.Policy listener=inet:8890@127.0.0.1 stage=eom": 1,
                "aiomilter_replies_total code=552 reason=size": 1,
                "aiomilter_message_size_bytes_sum listener=inet:8890@127.0.0.1": 70000,
            },
        ),
        (
            message(
                refused=(RefusedRecipient("x@x", Answer("451 4.7.1 later", "tempfail", 451), "grey", "grey"),),
                refused_count=4,
            ),
            {
                "aiomilter_recipients_refused_total filter=grey kind=tempfail": 1,
                "aiomilter_recipients_refused_total filter=site.Policy kind=other": 3,
                "aiomilter_replies_total code=451 reason=grey": 1,
            },
        ),
        (
            message(edits=("add_header", "quarantine", "add_header")),
            {
                "aiomilter_edits_total filter=site.Policy kind=add_header": 2,
                "aiomilter_edits_total filter=site.Policy kind=quarantine": 1,
            },
        ),
        (CallbackFailed(WHERE, "failed"), {"aiomilter_failures_total callback=eom filter=site.Policy": 1}),
        (
            TemporaryFailed(WHERE, "down", OSError()),
            {"aiomilter_failures_total callback=eom filter=site.Policy": 1},
        ),
        (CallbackTimedOut(WHERE, "slow"), {"aiomilter_timeouts_total callback=eom filter=site.Policy": 1}),
        (
            LimitReached(WHERE, Limit.MEMORY, 5, OPTION_OF[Limit.MEMORY], "full"),
            {"aiomilter_limits_total limit=memory": 1},
        ),
        (
            LoopStalled(WHERE, "", 2.5, True),
            {
                "aiomilter_loop_stalls_total filter=site.Policy": 1,
                "aiomilter_loop_stall_seconds_total filter=site.Policy": 2.5,
            },
        ),
        (HealthChecked(WHERE), {"aiomilter_health_checks_total listener=inet:8890@127.0.0.1": 1}),
        (Lifecycle(SERVER, LifecycleKind.RELOADED, "reloaded"), {"aiomilter_generation": 2}),
    ],
)
def test_an_event_is_counted(event: Any, values: dict[str, float]) -> None:
    metrics = Metrics()
    getattr(metrics, {
        MessageCount: "message_counted", CallbackFailed: "callback_failed", TemporaryFailed: "temporary_failed",
        CallbackTimedOut: "callback_timed_out", LimitReached: "limit_reached", LoopStalled: "loop_stalled",
        HealthChecked: "health_checked", Lifecycle: "lifecycle",
    }[type(event)])(event)  # fmt: skip
    for accept in ("", "application/openmetrics-text"):
        found = shown(metrics, accept)
        assert values.items() <= found.items()
        totals = {name for name, value in found.items() if "_total" in name and "_messages_" not in name and value}
        assert totals == {name for name in values if "_total" in name and "_messages_" not in name}


def test_what_shadows_would_have_done_is_counted_where_it_differs() -> None:
    metrics, told = Metrics(), list[object]()

    class Log(Observer):
        def message_ended(self, event: MessageEnded) -> None:
            told.append(event)

    outcomes = (ShadowOutcome("New", "accept", "reject"), ShadowOutcome("Old", "accept", "continue"))
    event = MessageEnded(WHERE, "", "a@x", (), (), 0, Answer("accept"), "", (), 0, None, 0.1, shadow=outcomes)
    Guard([metrics]).message_ended(lambda: event)
    assert not told
    Guard([Log(), metrics]).message_ended(lambda: event)
    found = {name: value for name, value in shown(metrics).items() if "shadow" in name}
    assert told
    assert found == {"aiomilter_shadow_differences_total filter=New live=accept shadow=reject": 1}


def test_what_lasts_or_is_stuck_is_counted_once() -> None:
    metrics = Metrics()
    metrics.loop_stalled(LoopStalled(WHERE, "", 1.0, False))
    metrics.callback_timed_out(CallbackTimedOut(WHERE, "stuck", stuck=True))
    assert not [name for name in shown(metrics) if "_total" in name]


def test_a_histogram_has_each_value_in_its_bucket() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.3, 1000.0):
        metrics.message_counted(message(duration=seconds))
    found = shown(metrics)
    of = "aiomilter_message_duration_seconds"
    assert found[f"{of}_bucket le=0.001 listener=inet:8890@127.0.0.1"] == 2
    assert found[f"{of}_bucket le=0.25 listener=inet:8890@127.0.0.1"] == 2
    assert found[f"{of}_bucket le=1.0 listener=inet:8890@127.0.0.1"] == 3
    assert found[f"{of}_bucket le=60.0 listener=inet:8890@127.0.0.1"] == 3
    assert found[f"{of}_bucket le=+Inf listener=inet:8890@127.0.0.1"] == 4
    assert found[f"{of}_count listener=inet:8890@127.0.0.1"] == 4
    assert math.isclose(found[f"{of}_sum listener=inet:8890@127.0.0.1"], 1000.3015)


def test_labels_have_a_bound_whatever_a_filter_gives() -> None:
    metrics = Metrics()
    for number in range(3000):
        where = dataclasses.replace(WHERE, filter=f"f{number}", listener=f"l{number}")
        metrics.message_counted(
            message(filter=f"f{number}", listener=f"l{number}", verdict="reject", code=550, reason=f"reason_{number}")
        )
        metrics.callback_failed(CallbackFailed(where, "failed"))
    found = shown(metrics)
    reasons = {name.rpartition("=")[2] for name in found if name.startswith("aiomilter_replies_total")}
    assert len(reasons) == MOST_REASONS + 1
    assert found["aiomilter_replies_total code=550 reason=other"] == 3000 - MOST_REASONS
    for name in ("aiomilter_messages_total", "aiomilter_failures_total"):
        assert sum(each.startswith(name) for each in found) == 1001
        assert sum(value for each, value in found.items() if each.startswith(name)) == 3000
    assert sum(each.startswith("aiomilter_message_duration_seconds_count") for each in found) <= 1001 // 12 + 1


async def test_mail_is_in_no_label() -> None:
    class Chatty(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            return Reply(550, "5.1.1", f"no {rcpt.address}") if "nobody" in rcpt.address else None

        async def eom(self, ctx: EndOfMessageContext) -> Response | None:
            ctx.add_header("X-Planted", "planted")
            return Reply(550, "5.7.1", "planted") if ctx.sender and "planted" in ctx.sender.address else None

    metrics = Metrics()
    for sender in ("<planted@planted.example>", "<other@planted.example>", "<>"):
        async with session(Chatty, observer=metrics, helo="planted", macros={"i": "planted"}) as s:
            await s.mail(sender)
            await s.rcpt("<nobody@planted.example>")
            await s.rcpt("<planted@planted.example>")
            await s.message(b"Subject: planted\r\nX-Planted: planted\r\n\r\nplanted\r\n")
    text = exposition(metrics.tallies, "")[0]
    assert b"aiomilter_messages_total" in text
    assert b"planted" not in text.replace(b"test_mail_is_in_no_label", b"")


async def test_a_refusal_is_counted_by_the_word_that_a_filter_gives() -> None:
    class Refusing(Milter):
        async def envfrom(self, ctx: Context, mail: object) -> Response:
            return Refusal(REJECT, reason="spf_fail")

        async def helo(self, ctx: Context, helo: object) -> Refusal:
            return Refusal(TEMPFAIL, reason="slow")

    metrics = Metrics()
    async with session(Refusing, observer=metrics) as s:
        await s.mail("<x@spam.example>")
    found = shown(metrics)
    assert found["aiomilter_replies_total code=451 reason=slow"] == 1


def test_a_registry_of_a_program_shows_them_beside_its_own() -> None:
    registry, metrics = CollectorRegistry(auto_describe=True), Metrics()
    registry.register(Collector(metrics))
    metrics.message_counted(MESSAGE)
    assert b'aiomilter_messages_total{answer="continue",' in generate_latest(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(Metrics()))


def test_every_metric_can_be_shown_and_read_back() -> None:
    def values() -> Iterator[Any]:
        for row in METRICS:
            labels = ['a"b\\c\nd'] * len(row.labels)
            for end in ([str(bucket) for bucket in range(len(row.bounds) + 1)] + ["sum"]) if row.bounds else [None]:
                yield (row.name, *labels, *([end] if end else [])), 7

    text = exposition(values, "application/openmetrics-text; version=1.0.0")[0].decode()
    parse: Any = openmetrics.text_string_to_metric_families
    families = {family.name: family for family in parse(text)}
    assert len(families) == len(METRICS)
    for row in METRICS:
        family = families[row.name.removesuffix("_total").removesuffix("_info")]
        assert family.type == row.kind
        assert all(value == 'a"b\\c\nd' for s in family.samples for name, value in s.labels.items() if name != "le")


# --------------------------------------------------------------------------------------------------------------- health


def reported(feed: Feed, pid: int = 7, **state: Any) -> None:
    gauges: dict[Key, float] = {("aiomilter_connections", "unix:/s"): 2, ("aiomilter_generation",): pid}
    reporter = Reporter(lambda frame: feed.take(frame[:1] + pid.to_bytes(4) + frame[5:]))
    reporter.add(lambda: Report({("aiomilter_limits_total", "memory"): 1}, gauges, state))
    reporter.report()


@pytest.mark.parametrize(
    ("states", "healthy", "ready"),
    [
        ([], "no process listens", "no process listens"),
        ([{"serves": False}], "no process listens", "no process listens"),
        ([{"serves": True}], None, None),
        ([{"serves": True}, {"serves": False}], None, None),
        ([{"serves": True, "stopped": True}], None, "draining"),
        ([{"serves": True}, {"serves": True, "stopped": True, "lacks": "old"}], None, None),
        ([{"serves": True, "lacks": "no database"}, {"serves": True}], None, "process 1: no database"),
    ],
)
def test_health_and_readiness_are_those_of_all_processes(
    states: list[dict[str, Any]], healthy: str | None, ready: str | None
) -> None:
    feed = Feed(clock=lambda: 100.0)
    for pid, state in enumerate(states, start=1):
        reported(feed, pid, **state)
    assert health(feed, 100.0) == healthy
    assert readiness(feed, 100.0) == ready
    if states:
        late = f"process {1}: its event loop has not turned for 6 s"
        assert health(feed, 106.0) == readiness(feed, 106.0) == late
        feed.end(1)
        assert health(feed, 106.0) != late


def test_sums_are_of_all_processes_and_gauges_of_each() -> None:
    feed = Feed()
    reported(feed, 11)
    reported(feed, 12)
    assert {each.key: each.value for each in tallies(feed)} == {
        ("aiomilter_limits_total", "memory"): 2,
        ("aiomilter_connections", "unix:/s", "11"): 2,
        ("aiomilter_connections", "unix:/s", "12"): 2,
        ("aiomilter_generation",): 12,
    }


class _Made:
    """Something with a method ``ready``."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def ready(self) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        if self._answer == "hangs":
            await asyncio.Event().wait()
        return self._answer


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ((), None),
        ((Milter, Milter()), None),
        ((_Made, _Made(None)), None),
        ((_Made, _Made("no\r\ndatabase ")), "no database"),
        ((Milter, _Made("x" * 1000)), "x" * 200),
        ((_Made("first"), _Made("second")), "first"),
        ((_Made(OSError("gone")),), "ready() raised OSError: gone"),
        ((_Made(TimeoutError()),), "ready() raised TimeoutError"),
        ((_Made(asyncio.CancelledError()),), "ready() raised CancelledError"),
        ((_Made("hangs"),), "ready() took longer than 0.01 s"),
        ((_Made(""),), "ready() returned an empty text"),
    ],
)
async def test_a_filter_is_asked_whether_it_is_ready(
    filters: tuple[object, ...], problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiomilter._serving.readiness._TIMEOUT", 0.01)
    assert await Readiness(lambda: filters).ask() == problem


# ------------------------------------------------------------------------------------------------------------- toolkits


class Database(Milter):
    async def ready(self) -> str | None:
        return "no connection"

    async def eom(self, ctx: EndOfMessageContext) -> None: ...


class Raising(Database):
    async def ready(self) -> str | None:
        raise OSError("gone")


class Working(Database):
    async def ready(self) -> str | None:
        return None


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ((Working, check(Working, name="w")), None),
        ((Working, Database, check(Raising, name="r")), "Database: no connection; r: ready() raised OSError: gone"),
        ((Working, check(Database, shadow=True)), None),
    ],
)
async def test_all_filters_of_a_composition_are_asked_whether_they_are_ready(
    members: tuple[Any, ...], problem: str | None
) -> None:
    async with compose(*members)() as make:
        assert await Readiness(lambda: (make, make())).ask() == problem


class Marks(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Checked", "yes")
        ctx.change_header("X-Both", 1, "checked")


class Tags(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        message.headers.set("Subject", "tagged")
        message.headers.set("X-Both", "tagged")
        message.recipients.add("copy@example.org")
        message.quarantine("look at it")


class Rewrites(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        message.banner("new")
        message.change_sender("new@example.org")


class Accepts(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> Response:
        return ACCEPT


async def test_edits_of_a_composition_are_counted_for_the_filter_that_asked_for_them() -> None:
    metrics = Metrics()
    async with session(compose(Marks, Tags, Rewrites, Accepts), observer=metrics) as s:
        await s.send(b"Subject: a\r\nX-Both: b\r\n\r\nold\r\n", "a@example.org", "b@example.org")
    found = {
        tuple(name.split()[1:]): value for name, value in shown(metrics).items() if "edits_total" in name and value
    }
    assert found == {
        ("filter=Marks", "kind=insert_header"): 1,
        ("filter=Tags", "kind=change_header"): 2,
        ("filter=Tags", "kind=add_recipient"): 1,
        ("filter=Tags", "kind=quarantine"): 1,
        ("filter=Rewrites", "kind=replace_body"): 1,
        ("filter=Rewrites", "kind=change_sender"): 1,
    }


class Later(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> Response:
        await asyncio.sleep(0)
        return REJECT


@pytest.mark.parametrize("others", [(), (LogObserver(),)], ids=["alone", "beside the log"])
async def test_what_shadows_would_have_done_is_counted_whoever_else_listens(others: tuple[Observer, ...]) -> None:
    metrics = Metrics()
    async with session(compose(Accepts, check(Later, shadow=True)), observer=[metrics, *others]) as s:
        for _ in range(2):
            await s.send(b"Subject: a\r\n\r\nold\r\n", "a@example.org", "b@example.org")
    found = {name: value for name, value in shown(metrics).items() if "shadow" in name}
    assert found == {"aiomilter_shadow_differences_total filter=Later live=accept shadow=reject": 2}


def grown(before: dict[Key, float], name: str) -> dict[Key, float]:
    """Return what was counted since, of one metric."""
    return {
        key[1:]: value - before.get(key, 0)
        for key, value in _tally.counted().items()
        if key[0] == name and value != before.get(key, 0)
    }


async def test_questions_to_name_servers_are_counted() -> None:
    before = dict(_tally.counted())
    async with resolver("127.0.0.1:9", timeout=0.2, attempt_timeout=0.1) as dns:
        for _ in range(2):
            with pytest.raises(ResolverError):
                await dns.lookup("x.example", "A")
    asked = grown(before, "aiomilter_dns_queries_total")
    assert list(asked.values()) == [1]
    assert set(asked) <= {("failure", "dnspython"), ("timeout", "dnspython")}
    assert sum(grown(before, "aiomilter_dns_duration_seconds").values()) > 1


async def test_steps_of_stores_are_counted() -> None:
    before = dict(_tally.counted())
    async with open_store("memory:") as store:
        await store.step(Op.PAIR, store.keys.of("a"), (store.keys.each, int(Mode.DO), 1))
    assert grown(before, "aiomilter_store_operations_total") == {("ok", "memory"): 1}


# ------------------------------------------------------------------------------------------------------- times and checks


class Waiting(Milter):
    """Waits at one stage, not at others."""

    async def envfrom(self, ctx: Context, mail: object) -> None:
        await asyncio.sleep(0)

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        return None


class Patient(Milter):
    """Waits at the end."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        await asyncio.sleep(0)


async def test_a_callback_that_waited_is_measured() -> None:
    metrics = Metrics()
    async with session(Waiting, observer=metrics) as s:
        await s.mail("<a@x>")
        await s.rcpt("<b@x>")
        await s.message(b"Subject: x\r\n\r\n")
    counts = {name: value for name, value in shown(metrics).items() if "callback_duration_seconds_count" in name}
    (name,) = counts
    assert re.fullmatch(r"aiomilter_callback_duration_seconds_count callback=envfrom filter=\S+\.Waiting", name)
    assert counts[name] == 1


async def test_callbacks_of_several_filters_are_measured_by_their_names() -> None:
    metrics = Metrics()
    both = compose(check(Waiting, name="first"), check(Patient, name="second"))
    async with session(both, observer=metrics) as s:
        await s.mail("<a@x>")
        await s.rcpt("<b@x>")
        await s.message(b"Subject: x\r\n\r\n")
    counts = {name: value for name, value in shown(metrics).items() if "callback_duration_seconds_count" in name}
    assert counts == {
        "aiomilter_callback_duration_seconds_count callback=envfrom filter=first": 1,
        "aiomilter_callback_duration_seconds_count callback=eom filter=second": 1,
    }


async def test_times_are_not_told_where_nobody_wants_them() -> None:
    told: list[object] = []

    class Hears(Observer):
        def callback_waited(self, event: CallbackWaited) -> None:
            told.append(event)

    async with session(Waiting, observer=[Hears(), LogObserver()]) as s:
        await s.mail("<a@x>")
    assert not told
    async with session(Waiting, observer=[Hears(), Metrics()]) as s:
        await s.mail("<a@x>")
    assert len(told) == 1
