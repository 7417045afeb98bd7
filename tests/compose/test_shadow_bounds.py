"""What shadows may take: time, memory, a store of their own; and where they may stand."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from aiomilter import CONTINUE, REJECT, Action, Context, Mail, Milter, Rcpt, Stage
from aiomilter.compose import MailShare, check, compose, edit, in_shadow, known_at
from aiomilter.compose.shadow_filters import ShadowFilter, ShadowPool
from aiomilter.compose.shadow_messages import Event, Play, ShadowMessage
from aiomilter.context import Transaction
from aiomilter.message import Message, MessageMilter
from aiomilter.policy import Rate, RateLimit
from aiomilter.policy.stores import open_store
from aiomilter.testing import session
from aiomilter.wire.macros import MacroStore
from tests.compose.test_shadow import MESSAGE, Passes, Reports, answers, hangs


async def test_a_shadow_that_lags_too_many_octets_behind_is_dropped() -> None:
    reports = Reports()
    octets = MESSAGE + b"x" * 998 + b"\r\n"
    octets += (b"y" * 998 + b"\r\n") * 1100

    class Hangs(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            await asyncio.Event().wait()

        async def body(self, ctx: Context, chunk: bytes) -> None: ...

    async with session(compose(Passes, check(Hangs, shadow=True)), observer=reports) as s:
        result = await s.send(octets, "a@x.example", "b@y.example")
        (found,) = await reports.outcomes()

    assert result.octets == b"X-Live: 1\r\n" + octets
    assert (found.shadow, found.answer) == ("dropped", "too far behind")


async def test_shadows_are_dropped_first_when_memory_is_short() -> None:
    reports = Reports()
    octets = MESSAGE + (b"y" * 998 + b"\r\n") * 200

    class Hangs(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            await asyncio.Event().wait()

        async def body(self, ctx: Context, chunk: bytes) -> None: ...

    milter = compose(Passes, check(Hangs, shadow=True))
    async with session(milter, observer=reports, max_memory=100_000, failures="answer") as s:
        result = await s.send(octets, "a@x.example", "b@y.example")
        (found,) = await reports.outcomes()
        again = await s.send(MESSAGE, "a@x.example", "b@y.example")

    assert result.octets == b"X-Live: 1\r\n" + octets
    assert again.answer is CONTINUE
    assert (found.shadow, found.answer) == ("dropped", "memory is short")


class Memory:
    """Counts as a server does."""

    def __init__(self) -> None:
        self.used = 0
        self.expendable: set[Any] = set()

    def change(self, octets: int) -> None:
        self.used += octets


async def test_what_is_counted_of_a_shadow_is_given_back_however_it_ends() -> None:
    memory, pool = Memory(), ShadowPool()
    made = compose(check(hangs("envfrom"), shadow=True))
    async with made() as make:
        (seat,) = make.args[0].shadows  # type: ignore[attr-defined]
    source: Any = SimpleNamespace(memory=memory, macros=None, callback="", client="", details=None)
    source.report_failure = source.report_timeout = lambda *_: None
    shadow = ShadowFilter(seat, source, [], pool)
    message = ShadowMessage(Transaction(source), None)
    plays = [Play(message, seat), Play(message, seat)]
    for number, play in enumerate(plays):
        play.taken = True
        message.plays.append(play)
        shadow.take(play)
        for stage, args in ((Stage.MAIL, (Mail("<a@x.example>"),)), (Stage.BODY, (b"x" * 20_000,))):
            play.add(Event(stage, args, MacroStore(exact=False), (), 0, number, 20_000))
        shadow.count(play)
    shadow.go_on()
    await asyncio.sleep(0)
    assert memory.used == 80_000
    assert (pool.pending, memory.expendable) == (2, {shadow})

    shadow.drop()
    while shadow.task is not None:
        await asyncio.sleep(0)

    assert (memory.used, memory.expendable, pool.pending) == (0, set(), 0)
    assert [play.outcome and play.outcome.answer for play in plays] == ["memory is short"] * 2


async def test_only_so_many_messages_are_with_shadows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter.compose.shadow_filters._MOST", 1)
    reports = Reports()
    async with session(compose(Passes, check(hangs("envfrom"), shadow=True)), observer=reports) as s:
        for _ in range(2):
            await s.send(MESSAGE, "a@x.example", "b@y.example")
        (found,) = await reports.outcomes()
    assert (found.shadow, found.answer) == ("dropped", "too many messages at once")


async def test_what_a_shadow_counts_in_a_store_is_apart_from_what_others_count() -> None:
    seen: list[tuple[bool, int]] = []

    class Counts(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            state = await rates.hit("sender", "a@x.example")
            seen.append((ctx.shadow, state.remaining))

    reports = Reports()
    async with open_store("memory:") as store:
        rates = RateLimit(store, {"sender": Rate(100, per=3600, burst=10)})
        members = [check(Counts, name="live"), check(Counts, name="new", shadow=True)]
        async with session(compose(*members), observer=reports) as s:
            await s.send(MESSAGE, "a@x.example", ["b@y.example", "c@y.example"])
            await reports.outcomes()
        assert (await rates.peek("sender", "a@x.example")).remaining == 7  # after one more

    assert [remaining for shadow, remaining in seen if not shadow] == [9, 8]
    assert [remaining for shadow, remaining in seen if shadow] == [9, 8]


async def test_a_factory_and_bind_know_whether_they_are_for_a_shadow() -> None:
    seen: list[tuple[str, bool]] = []

    class Ready:
        def bind(self, site: object) -> Any:
            seen.append(("bind", in_shadow()))
            return self.make

        def make(self) -> Milter:
            seen.append(("make", in_shadow()))
            return Passes()

        def __call__(self) -> Milter:
            raise AssertionError

    async with compose(check(Ready(), name="a"), check(Ready(), name="b", shadow=True))():
        assert seen == [("bind", False), ("make", False), ("bind", True), ("make", True)]
        assert not in_shadow()


class Needs(Milter):
    actions = Action.QUARANTINE

    async def envfrom(self, ctx: Context, mail: Mail) -> None: ...


async def test_a_shadow_asks_for_no_answer_and_refuses_no_mail_server() -> None:
    async with compose(Needs, check(Needs, name="b", shadow=True))() as make:
        wanted = make().wants
    assert wanted.actions == Action.QUARANTINE
    async with compose(Passes, check(Needs, shadow=True), check(answers("helo", REJECT), shadow=True))() as make:
        wanted = make().wants
    assert wanted.actions is None
    assert Stage.HELO in wanted.no_reply
    assert Stage.HELO in wanted.stages


class Provides(Milter):
    provides = (int,)

    async def envfrom(self, ctx: Context, mail: Mail) -> None: ...


class Reads(Milter):
    reads = (int,)

    async def envfrom(self, ctx: Context, mail: Mail) -> None: ...


async def test_no_filter_whose_answers_are_sent_waits_for_a_shadow() -> None:
    with pytest.raises(TypeError, match="found the shadow 'new'"):
        async with compose(check(Passes, after="new"), check(Passes, name="new", shadow=True))():
            pass
    async with compose(Reads, check(Provides, shadow=True), check(Reads, name="b", shadow=True))() as make:
        plan = make.args[0]  # type: ignore[attr-defined]
    assert [seat.after for seat in plan.seats] == [()]
    assert [(seat.name, seat.after) for seat in plan.shadows] == [("Provides", ()), ("b", (0,))]


async def test_a_shadow_is_left_out_where_its_conditions_say_so() -> None:
    reports = Reports()
    members: list[Any] = [
        Passes,
        check(answers("envfrom", REJECT), name="a", shadow=True, when="authenticated"),
        check(answers("connect", REJECT), name="b", shadow=True, unless="authenticated"),
    ]
    async with session(compose(*members), observer=reports) as s:
        await s.send(MESSAGE, "a@x.example", "b@y.example")
        found = await reports.outcomes()
    assert [(each.filter, each.shadow, each.callback) for each in found] == [("b", "reject", "connect")]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_share_by_domain_is_decided_at_the_first_recipient(taken: bool) -> None:
    share = MailShare(0.5, by="recipient_domain")
    domain = next(d for d in map("d{}.example".format, range(100)) if share.has("new", d) is taken)
    seen: list[str] = []

    class Sees(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            seen.append(mail.address)

    reports = Reports()
    async with session(compose(Passes, check(Sees, name="new", shadow=True, share=share)), observer=reports) as s:
        await s.send(MESSAGE, "a@x.example", f"b@{domain}")
        found = await reports.outcomes()
    assert len(found) == len(seen) == taken


async def test_an_edit_that_sees_pieces_sees_those_of_the_edited_body() -> None:
    seen: list[bytes] = []

    class Sees(MessageMilter):
        body_wanted = False

        def chunk(self, octets: bytes) -> None:
            seen.append(octets)

        def restart(self) -> None:
            seen.clear()

        async def message(self, ctx: Context, message: Message) -> None: ...

    class Footer(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            message.banner("Footer", place="bottom")

    reports = Reports()
    async with session(compose(Footer, edit(Sees, shadow=True)), observer=reports) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
        (found,) = await reports.outcomes()
    assert b"".join(seen) == b"Hello\r\n\r\nFooter\r\n"
    assert result.octets.endswith(b"Hello\r\n\r\nFooter\r\n")
    assert (found.shadow, found.edits) == ("continue", ())


async def test_a_shadow_sees_the_results_of_its_own_message_alone() -> None:
    seen: list[tuple[str, ...]] = []

    class Finds(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            ctx.results.put(mail.address)

    class Sees(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            seen.append(ctx.results.all(str))

    reports = Reports()
    async with session(compose(Finds, check(Sees, shadow=True)), observer=reports) as s:
        for number in range(3):
            await s.send(MESSAGE, f"a{number}@x.example", "b@y.example")
            await reports.outcomes(number + 1)
    assert seen == [(f"a{number}@x.example",) for number in range(3)]


@pytest.mark.parametrize("holds", [True, False])
async def test_a_condition_that_is_known_late_is_asked_when_it_is_known(holds: bool) -> None:
    asked: list[int] = []

    @known_at(Stage.EOM)
    def several(ctx: Context) -> bool:
        asked.append(len(ctx.recipients))
        return holds

    class Marks(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            message.headers.append("X-New", str(len(message.headers)))

    reports = Reports()
    members: list[Any] = [Passes, edit(Marks, name="new", shadow=True, when=several)]
    async with session(compose(*members), observer=reports) as s:
        await s.send(MESSAGE, "a@x.example", ["b@y.example", "c@y.example"])
        found = await reports.outcomes()
    assert asked == [2]
    assert [each.edits for each in found] == [("insert_header X-New",)] * holds
