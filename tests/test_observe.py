"""What a postmaster reads: one line a message, one record a failure, nothing that text from outside could forge."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Final

import pytest

from aiomilter import DISCARD, REJECT, TEMPFAIL, Reply, serve
from aiomilter.observe import MessageSummary, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.server import Server
from aiomilter.wire.events import BodyChunk, Header, Helo

from .peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    Peer,
    Watcher,
    body,
    connect,
    filter_class,
    header,
    helo,
    later,
    macros,
    mail,
    offer,
    rcpt,
    serving,
)

HOSTILE: Final = "a\r\nb\x1b[31m\udcff\u202e"
WHERE: Final = Where(7, HOSTILE, "envfrom", HOSTILE)


class Records(list[logging.LogRecord]):
    """What was logged."""


class Keeping(logging.Handler):
    def __init__(self, found: Records) -> None:
        super().__init__()
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


@pytest.fixture
def records() -> Iterator[Records]:
    found = Records()
    handler = Keeping(found)
    logger = logging.getLogger("aiomilter")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.setLevel(level)
    logger.removeHandler(handler)


def summary(**more: Any) -> MessageSummary:
    fields: dict[str, Any] = {
        "where": WHERE,
        "helo": HOSTILE,
        "sender": HOSTILE,
        "recipients": (HOSTILE,) * 12,
        "refused": 2,
        "answer": "continue",
        "edits": 3,
        "duration": 0.5,
    }
    return MessageSummary(**{**fields, **more})


def tell_all(observer: Any) -> None:
    observer.started("inet:1@127.0.0.1", True)
    observer.stopped("inet:1@127.0.0.1")
    observer.event(WHERE, Helo(HOSTILE))
    observer.event(WHERE, Header("Subject", HOSTILE))
    observer.event(WHERE, BodyChunk(b"secret"))
    observer.refused(WHERE, "tempfail")
    observer.message_ended(summary)
    observer.failed(WHERE, "what", ValueError(HOSTILE))
    observer.remarked(WHERE, "what")


def test_each_event_is_one_line_that_nothing_can_forge(records: Records) -> None:
    tell_all(LogObserver())
    assert [record.levelname for record in records] == ["INFO"] * 2 + ["DEBUG"] * 3 + ["INFO"] * 2 + [
        "ERROR",
        "WARNING",
    ]
    for record in records:
        text = record.getMessage()
        assert text.isprintable(), text
        assert text.encode("utf-8")
        assert "secret" not in text
    assert records[3].getMessage().endswith("Header 'Subject', 11 characters")
    assert records[4].getMessage().endswith("BodyChunk, 6 octets")


def test_records_carry_where_they_come_from(records: Records) -> None:
    LogObserver().remarked(Where(7, "192.0.2.1", "envfrom", "Q1"), "what")
    (record,) = records
    found: Any = record
    assert (found.connection, found.queue_id, found.stage) == (7, "Q1", "envfrom")


def test_a_failure_has_its_traceback(records: Records) -> None:
    error = ValueError("x")
    LogObserver().failed(WHERE, "what", error)
    LogObserver().failed(Where(1, "", "", None), "what", None)
    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is error
    assert not records[1].exc_info
    assert records[1].getMessage().startswith("server failed")


def test_the_line_of_a_message(records: Records) -> None:
    LogObserver().message_ended(
        lambda: MessageSummary(Where(1, "192.0.2.1", "eom", "Q1"), "h", "a@x", ("b@x", "c@x"), 0, "continue", 2, 0.25)
    )
    assert records[0].getMessage() == (
        "client='192.0.2.1' helo='h' sender='a@x' recipients=['b@x', 'c@x'] queue_id='Q1' eom: continue edits=2 time=0.250"
    )


def test_a_message_of_many_recipients_is_still_a_line(records: Records) -> None:
    LogObserver().message_ended(lambda: summary(recipients=tuple(f"r{number}@x" for number in range(1000))))
    text = records[0].getMessage()
    assert "(+990 more)" in text
    assert "refused=2" in text
    assert len(text) < 600


def test_nothing_is_made_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="aiomilter"):
        assert not LogObserver().debug
        LogObserver().message_ended(lambda: pytest.fail("made a summary for nobody"))
    assert caplog.records == []


def test_another_logger(caplog: pytest.LogCaptureFixture) -> None:
    LogObserver(logging.getLogger("other")).remarked(WHERE, "what")
    assert caplog.records[0].name == "other"


async def test_debug_is_read_when_a_connection_begins() -> None:
    watcher = Watcher()
    async with serving(filter_class(), observer=watcher) as scene:
        await scene.opened()
        assert watcher.events == []
        watcher.debug = True
        await scene.opened()
        assert [type(event).__name__ for event in watcher.events] == ["Negotiate", "Connect", "Helo"]


async def test_what_a_server_logs_by_default(records: Records) -> None:
    server: Server = serve(filter_class({"eom": ValueError("x"), "connect": later()}), "inet:0@127.0.0.1")
    async with server:
        peer = Peer(server)
        peer.write(OPENING + macros("M", i="Q1") + MESSAGE + QUIT)
        await peer.quiet()
        for _ in range(3):
            await asyncio.sleep(0)

    levels = [record.levelname for record in records if record.levelname != "DEBUG"]
    assert levels == ["INFO", "ERROR", "INFO", "INFO"]
    assert all(record.name == "aiomilter" for record in records)
    assert sum("eom: tempfail edits=0" in record.getMessage() for record in records) == 1


SUMMARIES: Final = [
    # What is said; what the filter does; callback, answer, edits.
    (MESSAGE, {}, "eom", "continue", 0),
    (MESSAGE, {"eom": lambda f, ctx, e: ctx.add_header("A", "1")}, "eom", "continue", 1),
    (MESSAGE, {"eom": REJECT}, "eom", "reject", 0),
    (MESSAGE, {"eom": Reply(550, "5.7.1", "no", "never")}, "eom", "550-5.7.1 no / 550 5.7.1 never", 0),
    (MESSAGE, {"envfrom": TEMPFAIL}, "envfrom", "tempfail", 0),
    (MESSAGE, {"header": DISCARD}, "header", "discard", 0),
    (mail() + ABORT, {}, "abort", "abort", 0),
    (mail() + QUIT, {}, "abort", "abort", 0),
    (MESSAGE, {"body": ValueError("x")}, "body", "tempfail", 0),
]


@pytest.mark.parametrize(("octets", "play", "callback", "answer", "edits"), SUMMARIES)
async def test_every_message_has_one_summary(
    octets: bytes, play: dict[str, Any], callback: str, answer: str, edits: int
) -> None:
    """P-067: with its own client, sender, recipients and queue id."""
    async with serving(filter_class(play)) as scene:
        peer = await scene.opened()
        await peer.send(macros("M", i="Q1") + octets)

    (found,) = scene.watcher.messages
    assert (found.where.callback, found.answer, found.edits) == (callback, answer, edits)
    assert (found.where.client, found.where.queue_id, found.helo) == ("192.0.2.1", "Q1", "client.example")
    assert found.sender == "alice@example.org"
    assert 0 <= found.duration < 60


async def test_a_client_without_an_address_is_known_by_its_name() -> None:
    async with serving(filter_class({"connect": REJECT})) as scene:
        peer = await scene.opened(offer() + b"\0\0\0\x0cClocalhost\0U")
        await peer.send(mail() + rcpt() + DATA + header() + EOH + body() + EOM)

    assert scene.watcher.messages[0].where.client == "localhost"
    assert scene.watcher.heard[-1] == ("refused", "reject")


async def test_answers_to_a_client_are_told() -> None:
    filter_ = filter_class({"connect": Reply(421, "4.7.0", "busy"), "helo": TEMPFAIL})
    async with serving(filter_) as scene:
        await scene.opened(offer() + connect() + helo())
    assert scene.watcher.heard == [("refused", "421 4.7.0 busy"), ("refused", "tempfail")]


def test_a_guard_passes_everything_on() -> None:
    watcher = Watcher(debug=True)
    guard = Guard(watcher)
    tell_all(guard)
    assert guard.debug
    assert [what for what, _ in watcher.heard] == ["started", "stopped", "refused"]
    assert len(watcher.events) == 3
    assert len(watcher.messages) == len(watcher.failures) == len(watcher.remarks) == 1


def test_a_guard_drops_an_observer_whose_debug_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Watcher):
        @property
        def debug(self) -> bool:
            raise ValueError("broken")

        @debug.setter
        def debug(self, value: bool) -> None:
            """Take it."""

    guard = Guard(Broken())
    assert not guard.debug
    assert not guard.debug
    tell_all(guard)
    assert len(caplog.records) == 1
