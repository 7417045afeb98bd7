"""The line of a message is the same whether it is made of a record or not, and a record is made wherever one may be seen."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from aiomilter._cli.logs import OneLine
from aiomilter.observe import Answer, Edit, MessageEnded, RefusedRecipient, ShadowOutcome, Where
from aiomilter.observe.draft import draft_of
from aiomilter.observe.json import JsonFormatter
from aiomilter.observe.line_handler import LineHandler, MessageFormatter, only_handler
from aiomilter.observe.log import LogObserver
from aiomilter.observe.ulid import ulid

NOW: Final = 1_764_554_412.5
MACROS: Final = {"tls_version": "TLSv1.3", "auth_authen": "alice\x01", "msg_size": "77"}
PLAIN: Final = MessageEnded(
    where=Where(7, "192.0.2.1", "eom", "4XyZ", "uid 1 pid 2", "", "inet:1@127.0.0.1", "m.Filter"),
    helo="client.example",
    sender="alice@x.example",
    recipients=("bob@y.example",),
    refused=(),
    refused_count=0,
    answer=Answer("continue"),
    reason="",
    edits=(Edit("add_header", "X-Seen"), Edit("add_header", "X-Too"), Edit("quarantine")),
    edit_count=3,
    quarantine=None,
    duration=0.0123456789,
    id="01KBBT6R801DNPJXBYRYZA0000",
)
REFUSED: Final = replace(
    PLAIN,
    where=Where(1, 'a"b', "envrcpt", None, server="é\udcff\x00"),
    sender=None,
    recipients=None,
    refused=(RefusedRecipient("bob\udc80", Answer("550 5.1.1 no", "reject", 550, "5.1.1", "no"), "trap", "f"),),
    refused_count=200,
    answer=Answer("550 5.7.1 go / away", "reject", 550, "5.7.1", "go / away"),
    reason="trap",
    quarantine="hold\r\n",
    macro=MACROS.get,
    durations={"f": 0.5},
    results=(object(),),
    failed=("f",),
    shadow=(ShadowOutcome("s", "continue", "reject"),),
)
HUGE: Final = replace(PLAIN, helo="\x01" * 5000, recipients=("\x01" * 5000,) * 100)


class Seen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every line of the same time, whichever clock is read."""
    monkeypatch.setattr("aiomilter._cli.logs.time", lambda: NOW)
    monkeypatch.setattr("aiomilter.observe.json.now", lambda: NOW)
    made = logging.LogRecord

    def record(*args: Any, **more: Any) -> logging.LogRecord:
        found = made(*args, **more)
        found.created, found.msecs = NOW, 500.0
        return found

    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(record)
    yield
    logging.setLogRecordFactory(factory)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of this test alone."""
    found = logging.Logger("lines", logging.INFO)
    factory = logging.getLogRecordFactory()
    yield found
    logging.setLogRecordFactory(factory)


FORMS: Final[list[Callable[[], MessageFormatter]]] = [OneLine, lambda: OneLine(process=True), JsonFormatter]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("event", [PLAIN, REFUSED, HUGE], ids=["plain", "refused", "huge"])
@pytest.mark.parametrize("form", FORMS, ids=["text", "syslog", "json"])
def test_with_and_without_a_record_the_line_is_the_same(
    logger: logging.Logger, form: Callable[[], MessageFormatter], event: MessageEnded
) -> None:
    stream = io.StringIO()
    handler = LineHandler(stream, form())
    logger.addHandler(handler)
    LogObserver(logger).message_ended(event)  # by a record: the factory is another
    assert handler.write_message(logger.name, event)

    first, second = stream.getvalue().splitlines()
    assert first == second


@pytest.mark.parametrize("event", [PLAIN, REFUSED, HUGE], ids=["plain", "refused", "huge"])
def test_the_line_of_a_message_is_json_of_limited_length(event: MessageEnded) -> None:
    line = JsonFormatter().message_line("aiomilter", event)

    assert len(line) < 16_384
    assert line.isascii()
    found = json.loads(line)
    assert found["connection"] == event.connection
    assert found["recipient_count"] == (None if event.recipients is None else len(event.recipients))


def test_a_record_is_made_where_anything_else_may_see_it(logger: logging.Logger) -> None:
    handler = LineHandler(io.StringIO(), OneLine())
    assert only_handler(logger) is None
    logger.addHandler(handler)
    assert only_handler(logger) is handler

    seen = Seen()
    logger.addHandler(seen)
    assert only_handler(logger) is None
    LogObserver(logger).message_ended(PLAIN)
    assert [record.getMessage().partition(" ")[0] for record in seen.records] == ["client='192.0.2.1'"]
    logger.removeHandler(seen)

    logger.addFilter(lambda _: True)
    assert only_handler(logger) is None
    logger.filters[:] = []
    handler.setLevel(logging.WARNING)
    assert only_handler(logger) is None
    handler.setLevel(logging.INFO)
    handler.addFilter(lambda _: True)
    assert only_handler(logger) is None
    handler.filters[:] = []
    assert only_handler(logger) is handler
    logging.setLogRecordFactory(lambda *args, **more: logging.LogRecord(*args, **more))
    assert only_handler(logger) is None


def test_a_record_is_made_for_a_logger_that_another_program_watches(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.addHandler(LineHandler(io.StringIO(), OneLine()))
    calls = logging.Logger.callHandlers
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda self, record: calls(self, record))

    assert only_handler(logger) is None


def test_another_formatter_that_is_set_later_is_asked(logger: logging.Logger) -> None:
    stream = io.StringIO()
    handler = LineHandler(stream, OneLine())
    handler.setFormatter(logging.Formatter("mine %(levelname)s"))
    logger.addHandler(handler)
    LogObserver(logger).message_ended(PLAIN)

    assert stream.getvalue() == "mine INFO\n"


def test_a_draft_becomes_the_frozen_value() -> None:
    made = draft_of(Where)()
    for name in Where.__slots__:
        setattr(made, name, getattr(PLAIN.where, name))
    made.__class__ = Where

    assert made == PLAIN.where
    assert hash(made) == hash(PLAIN.where)
    with pytest.raises(AttributeError):
        made.client = "x"


def test_names_sort_by_time_and_are_never_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter.observe.ulid._MOST", 3)
    names = [ulid(5) for _ in range(10)]

    assert len(set(names)) == 10
    assert len({name[10:22] for name in names}) >= 4
    assert all(len(name) == 26 and name.startswith("0000000005") for name in names)
    assert ulid(6) > max(names)
    assert ulid((1 << 48) - 1).startswith("7ZZZZZZZZZ")
