"""Shadows: filters that see everything, and whose answers are noted and never sent."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    TEMPFAIL,
    Connect,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Observer,
    Rcpt,
    Reply,
    Response,
)
from aiomilter.compose import Member, check, compose, edit, in_shadow
from aiomilter.compose.shadowed import _Recorder
from aiomilter.message import Message, MessageMilter
from aiomilter.observe import CallbackFailed, CallbackTimedOut, MessageEnded, ShadowOutcome
from aiomilter.testing import session
from tests.clock import on_clock
from tests.compose.scripted import Script, Step, message, scripts
from tests.compose.test_sequence import Fate, played

MESSAGE = b"From: a@x.example\r\nSubject: hello\r\n\r\nHello\r\n"
NO = Reply(550, "5.7.1", "no", reason="no_way")


class Reports(Observer):
    """Keeps the reports of messages, and lets a test wait for them."""

    def __init__(self) -> None:
        self.ended: list[MessageEnded] = []
        self.failures: list[CallbackFailed | CallbackTimedOut] = []
        self._more = asyncio.Event()

    def message_ended(self, event: MessageEnded) -> None:
        self.ended.append(event)
        self._more.set()

    def callback_failed(self, event: CallbackFailed) -> None:
        self.failures.append(event)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        self.failures.append(event)

    async def outcomes(self, count: int = 1) -> tuple[ShadowOutcome, ...]:
        """Wait until so many messages have ended, and return what shadows would have done with the last."""
        while len(self.ended) < count:
            self._more.clear()
            await self._more.wait()
        return self.ended[-1].shadow


async def outcome_of(*members: Any, octets: bytes = MESSAGE, **options: Any) -> tuple[Any, ShadowOutcome]:
    """Send a message, and return what became of it, and what the one shadow would have done."""
    reports = Reports()
    async with session(compose(*members), observer=reports, failures="answer") as s:
        result = await s.send(octets, "alice@x.example", ["bob@y.example", "carol@z.example"], **options)
        (found,) = await reports.outcomes()
    return result, found


def answers(callback: str, answer: Any) -> type[Milter]:
    """Return a filter with one callback, which gives an answer, or raises it."""

    async def call(self: Milter, ctx: Context, *args: object) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    call.__name__ = callback
    return type("Answers", (Milter,), {callback: call})


class Passes(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        assert not ctx.shadow
        assert not in_shadow()

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.insert_header("X-Live", "1")


@pytest.mark.parametrize("callback", ["connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"])
@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (REJECT, "reject"),
        (TEMPFAIL, "tempfail"),
        (NO, "reject"),
        (Reply(451, "4.7.1", "later"), "tempfail"),
        (ACCEPT, "accept"),
        (ValueError("broken"), "failed"),
        ("no answer", "failed"),
    ],
)
async def test_an_answer_of_a_shadow_is_noted_and_not_sent(callback: str, answer: Any, word: str) -> None:
    result, found = await outcome_of(Passes, check(answers(callback, answer), shadow=True))

    assert result.answer is CONTINUE
    assert result.octets == b"X-Live: 1\r\n" + MESSAGE
    assert result.refused == {}
    if callback == "envrcpt" and word in ("reject", "tempfail"):
        assert (found.shadow, found.refused_count) == ("continue", 2)
        assert found.refused == ("bob@y.example", "carol@z.example")
        assert found.differs
    else:
        assert (found.shadow, found.callback) == (word, callback)
        assert found.differs == (word in ("reject", "tempfail"))
    assert found.live == "continue"
    if answer is NO and callback != "envrcpt":
        assert (found.answer, found.reason) == ("550 5.7.1 no", "no_way")


async def test_the_edits_of_a_check_are_noted_and_not_sent() -> None:
    class Marks(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Spam", "yes")
            ctx.delete_header("Subject", 1)
            ctx.quarantine("looks bad")

    result, found = await outcome_of(Passes, check(Marks, shadow=True))

    assert result.octets == b"X-Live: 1\r\n" + MESSAGE
    assert set(found.edits) == {"add_header X-Spam", "delete_header Subject", "quarantine"}
    assert (found.edit_count, found.quarantine, found.differs) == (3, "looks bad", True)


def footer(text: str, seen: list[bytes]) -> type[MessageMilter]:
    class Footer(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            seen.append(b"".join([octets async for octets in message.octets()]))
            message.banner(text, place="bottom")
            message.headers.append(f"X-{text}", "1")

    return Footer


@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_an_edit_works_on_a_copy_of_the_message_at_its_place(place: int) -> None:
    seen: list[bytes] = []
    members: list[Any] = [Passes, edit(footer("One", []), name="one"), edit(footer("Two", []), name="two")]
    members.insert(place, edit(footer("Mine", seen), name="mine", shadow=True))

    result, found = await outcome_of(*members)

    live = b"X-Live: 1\r\nFrom: a@x.example\r\nSubject: hello\r\n"
    one, two = b"X-One: 1\r\n" * (place > 1), b"X-Two: 1\r\n" * (place > 2)
    body = b"\r\nHello\r\n" + b"\r\nOne\r\n" * (place > 1) + b"\r\nTwo\r\n" * (place > 2)
    assert seen == [live + one + two + body]
    assert result.octets == live + b"X-One: 1\r\nX-Two: 1\r\n\r\nHello\r\n\r\nOne\r\n\r\nTwo\r\n"
    assert found.edits == ("insert_header X-Mine", "replace_body")
    assert found.shadow == "continue"


async def test_a_shadow_edit_alone_sees_the_edits_of_checks() -> None:
    seen: list[bytes] = []
    result, found = await outcome_of(Passes, edit(footer("Mine", seen), shadow=True))

    assert seen == [result.octets] == [b"X-Live: 1\r\n" + MESSAGE]
    assert found.edit_count == 2


async def test_a_shadow_alone_lets_all_mail_pass() -> None:
    result, found = await outcome_of(check(answers("envfrom", REJECT), shadow=True))

    assert (result.answer, result.octets) == (CONTINUE, MESSAGE)
    assert (found.live, found.shadow) == ("continue", "reject")


async def test_a_shadow_sees_the_client_the_envelope_and_the_macros_of_each_event() -> None:
    seen: list[Any] = []

    class Sees(Milter):
        async def connect(self, ctx: Context, connect: Connect) -> None:
            seen.append(("connect", connect.raw_address, ctx.client.raw_address))

        async def helo(self, ctx: Context, helo: Helo) -> None:
            seen.append(("helo", ctx.helo))

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            await asyncio.sleep(0)
            ctx.notes["sender"] = mail.address
            seen.append(("mail", ctx.sender == mail, ctx.macro("mail_addr"), ctx.shadow, in_shadow()))

        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            seen.append(("rcpt", rcpt.address, [each.address for each in ctx.recipients], ctx.macro("rcpt_addr")))

        async def header(self, ctx: Context, header: Header) -> None:
            seen.append(("header", header.name, header.value, len(ctx.recipients)))

        async def body(self, ctx: Context, chunk: bytes) -> None:
            seen.append(("body", chunk))

        async def eom(self, ctx: EndOfMessageContext) -> None:
            seen.append(("eom", ctx.notes, ctx.macro("rcpt_addr") is None, ctx.queue_id is not None))

    await outcome_of(check(Sees, shadow=True), check(answers("data", None)))

    bob, carol = "bob@y.example", "carol@z.example"
    assert seen == [
        ("connect", "192.0.2.1", "192.0.2.1"),
        ("helo", "client.example"),
        ("mail", True, "alice@x.example", True, True),
        ("rcpt", bob, [], bob),
        ("rcpt", carol, [bob], carol),
        ("header", "From", "a@x.example", 2),
        ("header", "Subject", "hello", 2),
        ("body", b"Hello\r\n"),
        ("eom", {"sender": "alice@x.example"}, False, True),
    ]


async def test_recipients_that_only_the_others_refuse_are_noted() -> None:
    class NotBob(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            return REJECT if rcpt.address.startswith("bob") else None

    result, found = await outcome_of(NotBob, check(answers("envrcpt", None), name="new", shadow=True))

    assert set(result.refused) == {"bob@y.example"}
    assert (found.shadow, found.accepted, found.accepted_count, found.differs) == (
        "continue",
        ("bob@y.example",),
        1,
        True,
    )


class Live(Milter):
    """Asks for the recipients that the MTA refuses by itself."""

    rejected_recipients = True

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        return None


@pytest.mark.parametrize("asks", [True, False])
async def test_a_recipient_that_the_mta_refuses_is_nothing_that_a_shadow_would_refuse(asks: bool) -> None:
    seen: list[str] = []

    class Refuses(Milter):
        rejected_recipients = asks

        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Any:
            seen.append(rcpt.address)
            return NO if rcpt.address.startswith("nobody") else None

    reports = Reports()
    async with session(compose(Live, check(Refuses, name="new", shadow=True)), observer=reports) as s:
        await s.mail("<alice@x.example>")
        await s.rcpt("<bob@y.example>")
        await s.rcpt("<nobody@y.example>", rejected=Reply(550, "5.1.1", "no such user"))
        await s.message(MESSAGE)
        (found,) = await reports.outcomes()

    assert seen == ["bob@y.example", *(["nobody@y.example"] if asks else [])]
    assert (found.refused, found.refused_count) == ((), 0)


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("method", ["of_connection", "begin", "add", "end", "abort", "close", "hold"])
async def test_a_record_that_breaks_does_not_disturb_the_mail(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise BrokenError

    monkeypatch.setattr(_Recorder, method, broken)
    reports = Reports()
    async with session(compose(Passes, check(answers("eom", REJECT), shadow=True)), observer=reports) as s:
        assert (await s.send(MESSAGE, "alice@x.example", ["bob@y.example"])).answer is CONTINUE
        await s.mail("<alice@x.example>")
        await s.abort()
        assert (await s.send(MESSAGE, "alice@x.example", ["bob@y.example"])).answer is CONTINUE

    assert [event.answer.verdict for event in reports.ended] == ["continue", "abort", "continue"]
    assert not reports.failures


async def test_a_message_that_ends_before_a_shadow_has_decided_is_no_difference() -> None:
    called: list[str] = []

    class Late(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> Response:
            return REJECT

        async def abort(self, ctx: Context) -> None:
            called.append("abort")

    _, found = await outcome_of(answers("data", NO), check(Late, shadow=True))

    assert (found.live, found.shadow, found.differs) == ("reject", "none", False)
    assert called == ["abort"]


async def test_results_of_a_shadow_are_seen_by_other_shadows_only() -> None:
    seen: list[Any] = []
    ended = asyncio.Event()

    class Finds(Milter):
        provides = (int,)

        def __init__(self, number: int = 7) -> None:
            self.number = number

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            if ctx.shadow:
                await ended.wait()
            ctx.results.put(self.number)

    class Reads(Milter):
        reads = (int,)

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            seen.append((ctx.shadow, ctx.results.all(int)))

        async def eom(self, ctx: EndOfMessageContext) -> None:
            seen.append((ctx.shadow, ctx.results.all(int)))
            if not ctx.shadow:
                ended.set()

    reports = Reports()
    members = [
        check(Reads, name="live"),
        check(lambda: Finds(1), name="finds"),
        check(Reads, name="shadow", shadow=True),
        check(lambda: Finds(2), name="hidden", shadow=True),
    ]
    async with session(compose(*members), observer=reports) as s:
        for count in (1, 2):
            ended.clear()
            await s.send(MESSAGE, "alice@x.example", "bob@y.example")
            await reports.outcomes(count)

    assert [found for shadow, found in seen if not shadow] == [(1,), (1,)] * 2
    assert [found for shadow, found in seen if shadow] == [(1, 2), (1, 2)] * 2


async def hang(self: Milter, ctx: Context, *args: object) -> None:
    await asyncio.Event().wait()


def hangs(callback: str) -> type[Milter]:
    return type("Hangs", (Milter,), {callback: _named(hang, callback)})


def _named(function: Any, name: str) -> Any:
    async def call(self: Milter, ctx: Context, *args: object) -> Any:
        return await function(self, ctx, *args)

    call.__name__ = name
    return call


@on_clock
async def test_a_shadow_may_be_one_message_behind_and_is_not_asked_about_more() -> None:
    loop = asyncio.get_running_loop()
    reports = Reports()
    milter = compose(Passes, check(hangs("envfrom"), name="slow", shadow=True, timeout=5))
    async with session(milter, observer=reports, failures="answer") as s:
        before = loop.time()
        for _ in range(3):
            result = await s.send(MESSAGE, "alice@x.example", "bob@y.example")
            assert result.answer is CONTINUE
        assert loop.time() == before
        await reports.outcomes(3)
        assert loop.time() - before == pytest.approx(10)

    assert [each.shadow[0].shadow for each in reports.ended] == ["dropped", "timeout", "timeout"]
    assert [type(each).__name__ for each in reports.failures] == ["CallbackTimedOut"] * 2
    assert {each.where.filter for each in reports.failures} == {"slow"}


@on_clock
async def test_a_shadow_that_ignores_its_cancellation_holds_back_no_report() -> None:
    release = asyncio.Event()

    class Stubborn(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    reports = Reports()
    async with session(
        compose(Passes, check(Stubborn, shadow=True, timeout=5)), observer=reports, failures="answer"
    ) as s:
        result = await s.send(MESSAGE, "alice@x.example", "bob@y.example")
        (found,) = await reports.outcomes()
        release.set()

    assert result.answer is CONTINUE
    assert found.shadow == "timeout"


@on_clock
async def test_an_abort_cancels_a_shadow_and_has_it_clean_up() -> None:
    called: list[str] = []

    class Slow(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            if mail.domain == "x.example":
                try:
                    await asyncio.Event().wait()
                finally:
                    called.append("cancelled")

        async def abort(self, ctx: Context) -> None:
            called.append(f"abort {ctx.shadow}")

        async def close(self, ctx: Context) -> None:
            called.append("close")

    reports = Reports()
    async with session(compose(Passes, check(Slow, shadow=True)), observer=reports) as s:
        await s.mail("alice@x.example")
        await s.rcpt("bob@y.example")
        await asyncio.sleep(0)
        await s.abort()
        await s.send(MESSAGE, "alice@z.example", "bob@y.example")  # the client sends ABORT with the next command
        (after,) = await reports.outcomes(2)
        (found,) = reports.ended[0].shadow

    assert after.shadow == "continue"
    assert (found.live, found.shadow) == ("abort", "none")
    assert called == ["cancelled", "abort True", "close"]


async def test_what_is_not_done_when_the_factory_is_left_is_dropped_and_reported() -> None:
    called: list[str] = []

    class Slow(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            called.append("eom")
            try:
                await asyncio.Event().wait()
            finally:
                called.append("cancelled")

        async def close(self, ctx: Context) -> None:
            called.append("close")

    reports = Reports()
    async with session(compose(Passes, check(Slow, shadow=True)), observer=reports) as s:
        await s.send(MESSAGE, "alice@x.example", "bob@y.example")
    (found,) = await reports.outcomes()

    assert (found.shadow, found.answer) == ("dropped", "the server ends")
    assert called in (["close"], ["eom", "cancelled", "close"])


@pytest.mark.slow
@given(st.integers(0, 2**32))
async def test_with_any_shadows_mail_fares_as_without_them(seed: int) -> None:
    chance = random.Random(seed)
    filters = scripts(chance, chance.randint(1, 3))
    hidden = [wild(chance, 10 + number) for number in range(chance.randint(1, 2))]
    octets = message(chance)
    members = [each.member() for each in filters]

    without = await fate_of(members, octets)
    for each in hidden:
        members.insert(chance.randint(0, len(members)), replace(each.member(), shadow=True))

    assert await fate_of(members, octets) == without


def wild(chance: random.Random, number: int) -> Script:
    """Return a filter that refuses, raises, waits or hangs anywhere."""
    (script,) = scripts(chance, 1)
    steps = {
        stage: Step(
            chance.choice([None, ACCEPT, REJECT, TEMPFAIL, DISCARD, NO]),
            chance.choice((0, 1, 3)),
            chance.random() < 0.3,
            chance.random() < 0.3,
        )
        for stage in chance.sample(["envfrom", "envrcpt", "data", "header", "head", "eoh", "body", "eom", "message"], 4)
    }
    return replace(script, number=number, steps=steps)


async def fate_of(members: Sequence[Member], octets: bytes) -> tuple[Fate, Fate]:
    async with session(compose(*members), failures="answer") as s:
        return await played([s], octets), await played([s], octets)
