"""The event of a message names it, its answer with the reason, and what its filters did."""

import asyncio
import logging
import re
from typing import Any, Final

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Header,
    LocalProtocolError,
    Mail,
    Milter,
    Rcpt,
    Refusal,
    Reply,
)
from aiomilter.compose import check, compose
from aiomilter.context import TLS, Auth
from aiomilter.observe import Answer, MessageEnded
from aiomilter.testing import session
from tests.peer import MESSAGE, Watcher, filter_class, serving

TEXT: Final = b"Subject: x\r\n\r\nx\r\n"
ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
MACROS: Final = {
    "i": "4XyZ",
    "auth_authen": "alice",
    "auth_type": "PLAIN",
    "tls_version": "TLSv1.3",
    "cipher": "AES",
    "cipher_bits": "256",
}


async def ended(factory: Any, *recipients: str, params: tuple[str, ...] = (), **options: Any) -> MessageEnded:
    """Play a message, and return its event."""
    watcher = Watcher()
    async with session(factory, macros=MACROS, observer=watcher, failures="answer", **options) as s:
        await s.mail("<a@x.example>", *params)
        for each in recipients or ("<b@y.example>",):
            await s.rcpt(each)
        if s.decided is None:
            await s.message(TEXT)
    (event,) = watcher.messages
    return event


def answering(response: Any, reason: str = "", stage: str = "eom", quarantine: str = "") -> type[Milter]:
    """Return a filter that gives one answer at one stage."""

    async def answer(self: Milter, ctx: Any, *_: object) -> Any:
        if reason:
            ctx.reason(reason)
        if quarantine:
            ctx.quarantine(quarantine)
        return response

    return type("Answers", (Milter,), {stage: answer})


ANSWERS: Final = [
    (Reply(550, "5.7.1", "Go away", "now"), ("reject", 550, "5.7.1", "Go away / now")),
    (Reply(451, None, "Later"), ("tempfail", 451, "", "Later")),
    (Reply(550), ("reject", 550, "", "")),
    (REJECT, ("reject", 550, "", "")),
    (Refusal(TEMPFAIL, reason="x"), ("tempfail", 451, "", "")),
    (DISCARD, ("discard", 250, "", "")),
    (ACCEPT, ("accept", 250, "", "")),
    (CONTINUE, ("continue", 250, "", "")),
]


@pytest.mark.parametrize(("given", "parts"), ANSWERS, ids=repr)
async def test_an_answer_is_told_in_parts(given: Any, parts: tuple[object, ...]) -> None:
    answer = (await ended(answering(given))).answer
    assert (answer.verdict, answer.code, answer.enhanced, answer.text) == parts
    assert answer == (str(given).replace("\r\n", " / ") if isinstance(given, Reply) else parts[0])


def test_an_answer_made_from_a_line_knows_what_it_does() -> None:
    found = [Answer(line).verdict for line in ("abort", "accept", "550 5.1.1 no", "421 later")]
    assert found == ["abort", "accept", "reject", "tempfail"]


async def test_an_event_names_message_client_login_and_encryption() -> None:
    event = await ended(answering(ACCEPT), params=("SIZE=12345",))
    assert ULID.fullmatch(event.id)
    assert (event.queue_id, event.client, event.stage, event.connection) == ("4XyZ", "192.0.2.1", "eom", 1)
    assert (event.auth, event.tls) == (Auth("alice", "PLAIN"), TLS("TLSv1.3", "AES", "256", "", ""))
    assert (event.size, event.generation, event.shadow, event.failed) == (12345, 1, (), ())


@pytest.mark.parametrize(
    ("counted", "declared", "size"),
    [("54321", (), 54321), ("54321", ("SIZE=7",), 7), ("many", (), None), ("", (), None)],
)
async def test_the_size_is_what_was_declared_or_else_counted(
    counted: str, declared: tuple[str, ...], size: int | None
) -> None:
    watcher = Watcher()
    async with session(answering(ACCEPT), observer=watcher, macros={"msg_size": counted}) as s:
        await s.mail("<a@x.example>", *declared)
        await s.rcpt("<b@y.example>")
        await s.message(TEXT)
        # What an event is asked for later is still of its own message.
        await s.mail("<a@x.example>", "SIZE=1")
    assert [event.size for event in watcher.messages][:1] == [size]


async def test_ids_are_of_one_message_each_and_sort_by_time() -> None:
    watcher = Watcher()
    async with session(answering(ACCEPT), observer=watcher) as s:
        for _ in range(3):
            await s.send(TEXT, "<a@x.example>", "<b@y.example>")
            await asyncio.sleep(0.002)
    ids = [event.id for event in watcher.messages]
    assert len(set(ids)) == 3
    assert ids == sorted(ids)


@pytest.mark.parametrize("stage", ["envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"])
@pytest.mark.parametrize("response", [DISCARD, REJECT, TEMPFAIL, ACCEPT])
async def test_a_reason_before_an_answer_is_its_reason(stage: str, response: Any) -> None:
    event = await ended(answering(response, "trap", stage))
    reason = event.refused[0].reason if event.refused else event.reason
    assert (reason, event.stage) == ("trap", "abort" if event.refused else stage)


async def test_a_reason_is_that_of_a_quarantine_too() -> None:
    event = await ended(answering(None, "trap", quarantine="for people"))
    assert (event.answer, event.reason, event.quarantine) == ("continue", "trap", "for people")


async def test_the_reason_of_a_reply_has_precedence() -> None:
    event = await ended(answering(Reply(550, reason="own"), "before"))
    assert event.reason == "own"


async def test_a_reason_for_one_recipient_is_none_for_the_next() -> None:
    class Recipients(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Any:
            if "first" in rcpt.path:
                ctx.reason("first")
                return None
            if "second" in rcpt.path:
                return REJECT
            if "third" in rcpt.path:
                ctx.reason("third")
                return REJECT
            return DISCARD

    event = await ended(Recipients, "<first@y>", "<second@y>", "<third@y>", "<fourth@y>")
    assert [each.reason for each in event.refused] == ["", "third"]
    assert (event.answer, event.reason) == ("discard", "")


async def test_a_reason_of_a_stage_is_none_for_another() -> None:
    class Stages(Milter):
        async def header(self, ctx: Context, header: Header) -> None:
            ctx.reason("header")

        async def eom(self, ctx: EndOfMessageContext) -> Any:
            return DISCARD

    assert (await ended(Stages)).reason == ""


async def test_the_reason_of_a_callback_that_fails_is_forgotten() -> None:
    class Fails(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> Any:
            ctx.reason("trap")
            raise ValueError

    event = await ended(Fails)
    assert (event.answer, event.reason) == ("tempfail", "")
    assert event.failed == (f"{__name__}.{Fails.__qualname__}",)


@pytest.mark.parametrize("word", ["", "Two", "a b", "x" * 65, "ä", 1])
async def test_a_reason_that_is_no_word_is_refused(word: Any) -> None:
    found = []

    class Asks(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            try:
                ctx.reason(word)
            except LocalProtocolError as error:
                found.append(str(error))

    assert (await ended(Asks)).reason == ""
    assert len(found) == 1
    assert "expected 1 to 64" in found[0]


async def test_a_reason_at_connect_is_that_of_the_client() -> None:
    watcher = Watcher()
    async with session(answering(REJECT, "blocked", "connect"), observer=watcher):
        pass
    (event,) = watcher.all
    assert (getattr(event, "reason", None), getattr(event, "answer", None)) == ("blocked", "reject")


class Slow(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.results.put("found")
        await asyncio.sleep(0)


async def test_an_event_tells_how_long_callbacks_waited_and_what_was_found() -> None:
    event = await ended(Slow)
    assert list(event.durations) == [f"{__name__}.Slow"]
    assert 0 < event.durations[f"{__name__}.Slow"] <= event.duration
    assert event.results == ("found",)


async def test_a_callback_that_never_waits_has_no_duration() -> None:
    assert (await ended(answering(ACCEPT, stage="header"))).durations == {}


class Fails(Milter):
    async def header(self, ctx: Context, header: Header) -> None:
        raise ValueError


async def test_of_several_filters_each_has_its_time_reason_and_failure() -> None:
    members = (check(Slow, name="slow"), check(Fails, name="fails", on_error=CONTINUE), answering(DISCARD, "trap"))
    event = await ended(compose(*members))
    assert event.durations["slow"] > 0
    assert (event.results, event.failed) == (("found",), ("fails",))
    assert (event.answer, event.reason) == ("discard", "trap")
    assert event.filter == "Answers"


class Quiet(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        return None


async def test_of_several_filters_one_that_is_quiet_at_the_end_has_its_time_too() -> None:
    event = await ended(compose(check(Quiet, name="quiet"), check(Slow, name="slow")))
    assert list(event.durations) == ["quiet", "slow"]


async def test_of_several_filters_the_reason_of_a_quarantine_is_told() -> None:
    event = await ended(
        compose(check(answering(None, "trap", quarantine="held"), name="one"), answering(None, stage="header"))
    )
    assert (event.answer, event.reason, event.quarantine, event.filter) == ("continue", "trap", "held", "")


async def test_records_of_a_filter_name_message_client_and_filter(caplog: pytest.LogCaptureFixture) -> None:
    class Logs(Milter):
        async def connect(self, ctx: Context, connect: Any) -> None:
            ctx.log.info("connect")

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            ctx.log.info("found %s", "it", extra={"mine": 1, "id": "forged"})
            ctx.on_end(self.end, ctx.log)

        def end(self, log: Any) -> None:
            log.warning("at the end")

        async def close(self, ctx: Context) -> None:
            ctx.log.info("close")

    with caplog.at_level(logging.INFO, "aiomilter"):
        event = await ended(Logs)
    records = [record for record in caplog.records if record.name == "aiomilter.filter"]
    assert [record.getMessage() for record in records] == ["connect", "found it", "at the end", "close"]
    named = [vars(record) for record in records]
    assert [each["id"] for each in named] == ["", event.id, event.id, ""]
    assert [each["queue_id"] for each in named[1:3]] == ["4XyZ", "4XyZ"]
    assert {(each["client"], each["connection"], each["filter"]) for each in named} == {("192.0.2.1", 1, event.filter)}
    assert named[1]["mine"] == 1


async def test_a_logger_that_is_kept_names_the_message_that_it_is_of(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[Any] = []

    class Keeps(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            kept.append(ctx.log)

    watcher = Watcher()
    with caplog.at_level(logging.INFO, "aiomilter"):
        async with session(Keeps, observer=watcher) as s:
            for _ in range(2):
                await s.send(TEXT, "<a@x.example>", "<b@y.example>")
            for log in kept:
                log.info("later")
    ids = [vars(record)["id"] for record in caplog.records if record.getMessage() == "later"]
    assert ids == [event.id for event in watcher.messages]


async def test_of_several_filters_each_logs_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    class Logs(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.log.info("here")

    with caplog.at_level(logging.INFO, "aiomilter"):
        await ended(compose(check(Logs, name="one"), check(Logs, name="two")))
    found = [vars(record)["filter"] for record in caplog.records if record.getMessage() == "here"]
    assert found == ["one", "two"]


async def test_a_reload_is_another_generation() -> None:
    async with serving(filter_class()) as scene:
        await (await scene.opened()).send(MESSAGE)
        await scene.server.reload()
        await (await scene.opened()).send(MESSAGE)
    assert [event.generation for event in scene.watcher.messages] == [1, 2]
