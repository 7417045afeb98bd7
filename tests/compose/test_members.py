"""What may be composed, in which order, and when a filter is left out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    Action,
    Connect,
    Context,
    EndOfMessageContext,
    Header,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
    Stage,
)
from aiomilter.compose import check, compose, edit, known_at, one_class
from aiomilter.handler import Handler
from aiomilter.message import Headers, Message, MessageMilter
from aiomilter.testing import session
from tests.two_filters import TwoFilters

MESSAGE = b"From: a@x.example\r\nSubject: hello\r\n\r\nHello\r\n"
NO = Reply(550, "5.7.1", "no")


class First(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return None


class Second(First):
    pass


class Editing(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        message.headers.append("X-Edited", "yes")


class Reading(First):
    reads = (int,)


class Providing(First):
    provides = (int,)


class Both(First):
    reads = (int,)
    provides = (str,)


class Back(First):
    reads = (str,)
    provides = (int,)


def macros(count: int, letter: str) -> type[Milter]:
    class Asking(First):
        macros = {Stage.MAIL: tuple(f"{letter}{number}" for number in range(count))}  # noqa: RUF012

    return type(f"Asking{letter}", (Asking,), {})


async def nothing() -> None: ...


AT_ONCE: list[tuple[str, Callable[[], object], str]] = [
    ("no member", lambda: compose(), "at least one"),
    ("no factory", lambda: compose(3), "a factory, found int"),  # type: ignore[arg-type]
    ("a composition", lambda: compose(compose(First)), "found a composition"),  # type: ignore[arg-type]
    ("a composition in check", lambda: compose(check(compose(First))), "found a composition"),  # type: ignore[arg-type]
    ("a member in a member", lambda: check(edit(Editing)), "not put into one another"),  # type: ignore[arg-type]
    ("True as an answer", lambda: check(First, on_error=True), "on_error"),  # type: ignore[arg-type]
    ("a name that is none", lambda: check(First, name="a\nb"), "name"),
    ("after nothing", lambda: check(First, after=(1,)), "after"),  # type: ignore[arg-type]
    ("a condition that is none", lambda: check(First, when=3), "when"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "text"), [row[1:] for row in AT_ONCE], ids=[row[0] for row in AT_ONCE])
def test_what_cannot_be_composed_is_refused_where_it_is_written(make: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


def test_values_are_checked() -> None:
    with pytest.raises(ValueError, match="timeout"):
        check(First, timeout=0)
    with pytest.raises(ValueError, match="authenticated, internal, null_sender, tls"):
        check(First, when="autenticated")
    with pytest.raises(ValueError, match="known_at"):
        known_at(Stage.CONNECT)


AT_START: list[tuple[str, tuple[Any, ...], str]] = [
    ("one name twice", (First, First), "'First' twice"),
    ("given names twice", (check(First, name="a"), check(Second, name="a")), "'a' twice"),
    ("a plain filter as an edit", (edit(First),), "MessageMilter"),  # type: ignore[arg-type]
    ("a handler that is no filter", (lambda: TwoFilters(First, Second),), "found one of TwoFilters"),
    ("a coroutine function", (nothing,), "found one of coroutine"),
    ("a composition that a function makes", (lambda: compose(First)(),), "found a composition"),
    ("after an unknown name", (check(First, after="spf"),), "found 'spf'"),
    ("after an edit", (check(First, after="Editing"), Editing), "the edit 'Editing'"),
    ("after a later edit", (edit(Editing, name="a", after="b"), edit(Editing, name="b")), "the edit 'b'"),
    ("a circle", (check(First, after="Second"), check(Second, after="First")), "circle, found First, Second"),
    ("a circle of results", (Both, Back), "circle"),
    ("a circle with itself", (check(First, after="First"),), "circle"),
    ("too many macros", (macros(30, "a"), macros(30, "b")), "at most 50"),
    ("a condition that comes late", (check(First, when=known_at(Stage.EOM)(lambda ctx: True)),), "MAIL.*EOM"),
]


@pytest.mark.parametrize(("members", "text"), [row[1:] for row in AT_START], ids=[row[0] for row in AT_START])
async def test_what_does_not_fit_together_does_not_start(members: tuple[Any, ...], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        async with session(compose(*members)):
            pass


def lifespan(log: list[str], name: str, *, fails: bool = False) -> Any:
    @asynccontextmanager
    async def milter() -> AsyncIterator[Callable[[], Milter]]:
        log.append(f"{name} entered")
        if fails:
            raise OSError("as asked")
        try:
            yield type(name, (First,), {})
        finally:
            log.append(f"{name} left")

    return milter


async def test_lifespans_are_entered_in_order_and_left_in_reverse() -> None:
    log: list[str] = []
    async with session(compose(lifespan(log, "A"), check(lifespan(log, "B")), First)) as s:
        assert await s.mail("<a@x.example>") is CONTINUE
        assert log == ["A entered", "B entered"]
    assert log[2:] == ["B left", "A left"]


async def test_a_lifespan_that_fails_leaves_those_entered() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="as asked"):
        async with session(compose(lifespan(log, "A"), lifespan(log, "B", fails=True), lifespan(log, "C"))):
            pass
    assert log == ["A entered", "B entered", "A left"]


async def test_a_factory_with_bind_is_asked_for_its_factory() -> None:
    class Settings:
        def bind(self, site: object) -> type[Milter]:
            assert site == "the site"
            return First

        def __call__(self) -> Milter:
            raise AssertionError

    async with session(compose(Settings(), site="the site")) as s:
        assert await s.mail("<a@x.example>") is CONTINUE


async def test_edits_run_after_checks_and_a_check_below_one_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    class Looking(Milter):
        async def header(self, ctx: Context, header: Header) -> None:
            assert header.name != "X-Edited"

    with caplog.at_level(logging.INFO, "aiomilter"):
        async with session(compose(Editing, Looking)) as s:
            await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert "the check 'Looking' is written below an edit" in caplog.text


async def test_the_answer_of_a_check_counts_before_that_of_an_edit() -> None:
    class Edit(MessageMilter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response:
            return Reply(451, "4.7.1", "an edit")

    async with session(compose(Edit, refusing("envfrom"))) as s:
        assert await s.mail("<a@x.example>") == NO


async def test_recipients_that_the_mta_refuses_are_shown_to_those_that_ask_for_them() -> None:
    log: list[str] = []

    def logging(name: str, asks: bool) -> type[Milter]:
        class Logging(Milter):
            rejected_recipients = asks

            async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
                log.append(name)

        return type(name, (Logging,), {})

    async with session(compose(logging("A", True), logging("B", False)), macros={"rcpt_mailer": "error"}) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@y.example>")
    assert log == ["A"]


async def test_required_actions_are_those_of_all() -> None:
    class Quarantining(First):
        actions = Action.QUARANTINE

    class Adding(First):
        actions = Action.ADD_HEADERS

    async with session(compose(Quarantining, First, Adding)) as s:
        made: Handler = await _made(compose(Quarantining, First, Adding))
        assert made.wants.actions == Action.QUARANTINE | Action.ADD_HEADERS
        assert s.agreed.actions & Action.QUARANTINE


async def _made(composition: Any) -> Handler:
    async with composition() as make:
        handler: Handler = make()
        return handler


# ------------------------------------------------------------------------------------------------------ order and results


def ordered(log: list[str], name: str, *, suspends: bool) -> type[Milter]:
    class Ordered(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            log.append(f"{name} begun")
            if suspends:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            log.append(f"{name} ended")

    return type(name, (Ordered,), {})


@pytest.mark.parametrize("suspends", [False, True])
async def test_after_waits_for_others_wherever_they_are_written(suspends: bool) -> None:
    log: list[str] = []
    milter = compose(
        check(ordered(log, "A", suspends=suspends), after=("C", "B")),
        check(ordered(log, "B", suspends=suspends), after="C"),
        ordered(log, "C", suspends=suspends),
    )
    async with session(milter) as s:
        await s.mail("<a@x.example>")
    assert log == [f"{name} {what}" for name in "CBA" for what in ("begun", "ended")]


async def test_one_that_a_refusal_has_decided_against_still_runs_for_those_before() -> None:
    """List order decides: the second refuses at once, but the first comes before it, and waits for the third."""
    log: list[str] = []

    class Refusing(Milter):
        def __init__(self, text: str) -> None:
            self.text = text

        async def envfrom(self, ctx: Context, mail: Mail) -> Response:
            return Reply(550, "5.7.1", self.text)

    milter = compose(
        check(lambda: Refusing("first"), name="first", after="third"),
        check(lambda: Refusing("second"), name="second"),
        check(ordered(log, "third", suspends=True), name="third"),
    )
    async with session(milter) as s:
        assert await s.mail("<a@x.example>") == Reply(550, "5.7.1", "first")
    assert log == ["third begun", "third ended"]


async def test_results_go_from_one_filter_to_another_that_reads_them() -> None:
    found: list[object] = []

    class Reader(Milter):
        reads = (int,)

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            found.append((ctx.results.get(int), ctx.results.all(int), ctx.results.get(str), ctx.results.get(bool)))

    class Provider(Milter):
        provides = (int,)

        async def connect(self, ctx: Context, connect: Connect) -> None:
            ctx.results.put("of the connection")

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            await asyncio.sleep(0)
            ctx.results.put(len(found) + 1)
            ctx.results.put(10)

    async with session(compose(Reader, Provider)) as s:
        for _ in range(2):
            await s.mail("<a@x.example>")
            await s.abort()
    assert found == [(10, (number, 10), "of the connection", None) for number in (1, 2)]


async def test_results_end_with_their_message_whatever_was_cancelled_in_it() -> None:
    """A recipient is refused while another filter waits; later the server itself refuses the message, and calls no callback."""
    found: list[object] = []

    class Putting(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            found.append(ctx.results.get(int))
            ctx.results.put(1)

    class Refusing(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            await asyncio.sleep(0)
            return NO if rcpt.local_part == "carol" else None

    class Waiting(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            if rcpt.local_part == "carol":
                await asyncio.Event().wait()

        async def header(self, ctx: Context, header: Header) -> None: ...

    async with session(compose(Putting, Refusing, Waiting), max_headers=1) as s:
        for _ in range(2):
            result = await s.send(b"\r\nHello\r\n", "a@x.example", ["b@y.example", "carol@y.example"])
            assert result.refused == {"carol@y.example": NO}
            await s.mail("<a@x.example>")
            await s.rcpt("<b@y.example>")
            await s.rcpt("<carol@y.example>")
            for _ in range(5):
                await asyncio.sleep(0)
            assert (await s.message(b"A: 1\r\nB: 2\r\n\r\n")).answer == Reply(552, "5.3.4", "Message header too large")
    assert found == [None] * 4


async def test_a_filter_alone_has_its_own_results() -> None:
    found: list[object] = []

    class Alone(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            found.append(ctx.results.get(int))
            ctx.results.put(1)

        async def eom(self, ctx: EndOfMessageContext) -> None:
            found.append((ctx.results.get(int), ctx.failed("Alone")))

    async with session(Alone) as s:
        for _ in range(2):
            await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert found == [None, (1, False)] * 2


# ------------------------------------------------------------------------------------------------------------- conditions


def refusing(*stages: str) -> type[Milter]:
    class Refusing(Milter):
        pass

    async def one(self: Milter, ctx: Context, event: object) -> Any:
        return NO

    async def none(self: Milter, ctx: Context) -> Any:
        return NO

    for stage in stages:
        setattr(Refusing, stage, none if stage in ("data", "eom") else one)
    return type("Refusing", (Refusing,), {})


CONDITIONS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("a login", {"when": "authenticated"}, {"macros": {"auth_authen": "alice"}}, True),
    ("no login", {"when": "authenticated"}, {}, False),
    ("unless a login", {"unless": "authenticated"}, {"macros": {"auth_authen": "alice"}}, False),
    ("unless no login", {"unless": "authenticated"}, {}, True),
    ("loopback", {"when": "internal"}, {"client": "127.0.0.1"}, True),
    ("loopback, version 6", {"when": "internal"}, {"client": "::1"}, True),
    ("elsewhere", {"when": "internal"}, {"client": "192.0.2.1"}, False),
    ("TLS", {"when": "tls"}, {"macros": {"tls_version": "TLSv1.3"}}, True),
    ("any of two", {"when": ("tls", "internal")}, {"client": "127.0.0.1"}, True),
    ("none of two", {"when": ["tls", "internal"]}, {}, False),
    ("both ways", {"when": "internal", "unless": "tls"}, {"client": "::1", "macros": {"tls_version": "1"}}, False),
    ("a function", {"when": lambda ctx: ctx.helo == "client.example"}, {}, True),
]


@pytest.mark.parametrize(
    ("given", "scene", "asked"), [row[1:] for row in CONDITIONS], ids=[row[0] for row in CONDITIONS]
)
@pytest.mark.parametrize("stage", ["envfrom", "data", "eom"])
async def test_a_filter_is_left_out_by_its_conditions(
    given: dict[str, Any], scene: dict[str, Any], asked: bool, stage: str
) -> None:
    milter = compose(check(refusing(stage), **given), Editing)
    async with session(milter, **scene) as s:
        result = await s.send(MESSAGE, "a@x.example", "b@y.example")
    assert (result.answer == NO) is asked


async def test_the_null_sender_is_a_condition_of_each_message() -> None:
    async with session(compose(check(refusing("envfrom"), when="null_sender"), Editing)) as s:
        assert await s.mail("<a@x.example>") is CONTINUE
        await s.abort()
        assert await s.mail("<>") == NO


@pytest.mark.parametrize("stage", ["connect", "helo"])
@pytest.mark.parametrize("login", ["alice", ""])
async def test_what_is_answered_at_connect_is_held_until_the_condition_is_known(stage: str, login: str) -> None:
    milter = compose(check(refusing(stage), unless="authenticated"), First)
    async with session(milter, macros={"auth_authen": login}) as s:
        assert s.decided is None
        for _ in range(2):
            assert await s.mail("<a@x.example>") == (CONTINUE if login else NO)
            await s.abort()


async def test_a_condition_may_be_known_later_for_one_that_answers_later() -> None:
    @known_at(Stage.RCPT)
    def to_postmaster(ctx: Context) -> bool:
        return any(rcpt.local_part == "postmaster" for rcpt in ctx.recipients)

    milter = compose(check(refusing("data"), unless=to_postmaster), First)
    async with session(milter) as s:
        refused = await s.send(MESSAGE, "a@x.example", "b@y.example")
        passed = await s.send(MESSAGE, "a@x.example", ["b@y.example", "postmaster@y.example"])
    assert (refused.answer, passed.answer) == (NO, CONTINUE)


async def test_a_condition_that_raises_is_a_failure_of_its_filter() -> None:
    def broken(ctx: Context) -> bool:
        raise KeyError("as asked")

    milter = compose(check(First, when=broken, on_error=NO), Second)
    async with session(milter, failures="answer") as s:
        assert await s.mail("<a@x.example>") == NO


async def test_an_edit_is_left_out_at_the_end_too() -> None:
    @known_at(Stage.EOM)
    def clean(ctx: Context) -> bool:
        return ctx.results.get(str) == "clean"

    class Marking(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.results.put("clean" if ctx.sender and ctx.sender.domain == "x.example" else "dirty")

    async with session(compose(Marking, edit(Editing, when=clean))) as s:
        one = await s.send(MESSAGE, "a@x.example", "b@y.example")
        other = await s.send(MESSAGE, "a@z.example", "b@y.example")
    assert (len(one.edits), len(other.edits)) == (1, 0)


async def test_a_message_that_all_filters_are_left_out_of_is_accepted() -> None:
    async with session(compose(check(First, when="tls"), check(Second, when="tls"))) as s:
        assert await s.mail("<a@x.example>") is ACCEPT


async def test_recipients_of_another_class_are_asked_to_come_again() -> None:
    async with session(compose(one_class(lambda rcpt: rcpt.domain), First)) as s:
        await s.mail("<a@x.example>")
        assert await s.rcpt("<b@y.example>") is CONTINUE
        assert await s.rcpt("<c@z.example>") == Reply(452, "4.5.3", "This recipient needs a transaction of its own")
        assert await s.rcpt("<d@y.example>") is CONTINUE


async def test_a_refused_recipient_fixes_no_class() -> None:
    class NotBob(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            return NO if rcpt.local_part == "bob" else None

    async with session(compose(one_class(lambda rcpt: rcpt.domain), NotBob)) as s:
        await s.mail("<a@x.example>")
        assert await s.rcpt("<bob@y.example>") == NO
        assert await s.rcpt("<c@z.example>") is CONTINUE


async def test_a_refused_client_needs_no_headers() -> None:
    class Head(MessageMilter):
        async def head(self, ctx: Context, headers: Headers) -> Response | None:
            return NO if headers.get("List-Id") else None

    async with session(compose(First, Head)) as s:
        result = await s.send(b"List-Id: x\r\n\r\nHello\r\n", "a@x.example", "b@y.example")
        assert result.answer == NO
        assert (await s.send(MESSAGE, "a@x.example", "b@y.example")).answer is CONTINUE
