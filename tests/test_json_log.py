"""Each record is one JSON object, whatever is in it; the keys are those that the manual has."""

import json
import logging
import re
import sys
from datetime import datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.observe import (
    Answer,
    CallbackFailed,
    CallbackTimedOut,
    ClientRefused,
    ConnectionRefused,
    Edit,
    InternalError,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    LoopStalled,
    MessageEnded,
    Misuse,
    ObserverEvent,
    PeerError,
    PeerErrorKind,
    RefusedRecipient,
    ResourceExhausted,
    ShadowOutcome,
    TemporaryFailed,
    Where,
)
from aiomilter.observe.json import JsonFormatter
from aiomilter.observe.log import LogObserver
from aiomilter.observe.observer import METHOD_OF
from tests.help.pages import PAGES

WHERE: Final = Where(7, "192.0.2.1", "eom", "4XyZ", "127.0.0.1:40312", "mx", "inet:8890", "policy.Filter")
PAGE: Final = PAGES["log"].read_text("utf-8")
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# A control character, DEL, one of Latin-1's, an octet that is no UTF-8, a lone surrogate, a line separator, a bidi mark.
HOSTILE: Final = "a\x00\x1b\r\n\x7f\x85\udcff\ud800\u2028\u202e\\"


class Written(logging.Handler):
    """Keeps the lines that a formatter makes."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def only(self) -> dict[str, Any]:
        """Return the one record."""
        (line,) = self.lines
        return read(line)


def read(line: str) -> dict[str, Any]:
    """Return a line as any reader has it: strict, and of octets."""
    octets = line.encode("ascii")
    assert len(octets) < 16_384
    assert not re.search(rb"[\x00-\x1f\x7f]", octets)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found: dict[str, Any] = json.loads(octets, parse_constant=refuse)
    assert _RFC_3339.fullmatch(found["time"])
    datetime.fromisoformat(found["time"])
    for text in texts_of(found):
        text.encode("utf-8")  # no lone surrogate
        assert len(text) <= 1_000
    return found


def texts_of(value: object) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts_of(each)
        assert len(value) <= 40
    elif isinstance(value, list):
        assert len(value) <= 20
        for each in value:
            yield from texts_of(each)


@pytest.fixture
def written() -> Any:
    handler, logger = Written(), logging.Logger("tests", logging.DEBUG)
    logger.addHandler(handler)
    handler.logger = logger  # type: ignore[attr-defined]
    return handler


def tell(written: Any, event: ObserverEvent) -> dict[str, Any]:
    getattr(LogObserver(written.logger), METHOD_OF[type(event)])(event)
    return written.only()  # type: ignore[no-any-return]


def ended(text: str = "x", many: int = 1, **more: Any) -> MessageEnded:
    refused = RefusedRecipient(text, Answer(f"550 5.1.1 {text}", "reject", 550, "5.1.1", text), "closed", text)
    shadow = ShadowOutcome(text, "continue", "reject", answer=text, refused=(text,) * 20, edits=(text,) * 20)
    given: dict[str, Any] = {
        "where": Where(1, text, "eom", text, text, text, text, text),
        "helo": text,
        "sender": text,
        "recipients": (text,) * many,
        "refused": (refused,) * many,
        "refused_count": many,
        "answer": refused.answer,
        "reason": "trap",
        "edits": (Edit("add_header", text), Edit("add_header", text), Edit("quarantine")),
        "edit_count": 3,
        "quarantine": text,
        "duration": 0.5,
        "id": "01M8Q8TBVYWQTER9X7F1FETZM1",
        "declared": 12_345,
        "macro": lambda name: None if name == "msg_size" else text,
        "durations": {text: 0.25},
        "results": (object(),) * many,
        "failed": (text,) * many,
        "shadow": (shadow,) * many,
        "generation": 2,
    }
    return MessageEnded(**{**given, **more})


def test_the_line_of_a_message_has_everything(written: Any) -> None:
    found = tell(written, ended("x", 2))
    answer = {"verdict": "reject", "code": 550, "enhanced": "5.1.1", "text": "x"}
    assert found["answer"] == answer
    assert found["refused"] == [{"address": "x", "answer": answer, "reason": "closed", "filter": "x"}] * 2
    assert (found["recipients"], found["recipient_count"], found["refused_count"]) == (["x", "x"], 2, 2)
    assert (found["edits"], found["edit_count"]) == ({"add_header": 2, "quarantine": 1}, 3)
    assert (found["event"], found["level"], found["reason"], found["stage"]) == ("message_ended", "info", "trap", "eom")
    assert (found["duration"], found["durations"], found["size"], found["generation"]) == (0.5, {"x": 0.25}, 12_345, 2)
    assert found["auth"] == {"login": "x", "mechanism": "x"}
    assert found["results"] == [{"type": "object"}] * 2


def rows(heading: str) -> list[str]:
    """Return the keys in the table below a sentence of the page."""
    _, _, after = PAGE.partition(heading)
    found: list[str] = re.findall(r"^``(\w+)``", after.split("====\n", 1)[1].partition("\n===")[0], re.MULTILINE)
    return found


def test_the_keys_of_the_manual_are_those_that_are_written(written: Any) -> None:
    found = tell(written, ended())
    assert rows("All records have these:") + rows("The line of a message") == list(found)


@pytest.mark.parametrize("group", ["tls", "auth"])
def test_the_manual_has_the_keys_of_objects(written: Any, group: str) -> None:
    (row,) = re.findall(rf"^``{group}`` .*$", PAGE, re.MULTILINE)
    assert re.findall(r"``(\w+)``", row)[1:] == list(tell(written, ended())[group])


EVENTS: Final[list[ObserverEvent]] = [
    ClientRefused(WHERE, Answer("reject", code=550), "blocked"),
    CallbackFailed(WHERE, "it failed", ValueError("why")),
    CallbackTimedOut(WHERE, "too late", "tempfail", stuck=True),
    TemporaryFailed(WHERE, "down", ValueError("why")),
    Misuse(WHERE, "no effect"),
    InternalError(WHERE, "a bug", ValueError("why")),
    LoopStalled(WHERE, "a\nb", 1.5, False),
    LimitReached(WHERE, Limit.EDITS, 5, "max_edits", "more"),
    LimitReached(WHERE, Limit.HEADERS, 5, "max_headers", "more"),
    ResourceExhausted(WHERE, "threads", "no more"),
    PeerError(WHERE, PeerErrorKind.IDLE, "idle"),
    ConnectionRefused(WHERE, "access", "not allowed"),
    Lifecycle(WHERE, LifecycleKind.WORKER_STARTED, "serves", None, 4711),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_each_event_is_an_object_with_its_place_and_its_fields(written: Any, event: Any) -> None:
    found = tell(written, event)
    assert found["event"] == METHOD_OF[type(event)]
    place = ("connection", "client", "stage", "queue_id", "peer", "server", "listener", "filter")
    assert tuple(found[name] for name in place) == tuple(WHERE.__getattribute__(n) for n in Where.__slots__)
    fields = {"answer", "stuck", "limit", "number", "option", "resource", "kind", "cause", "pid", "duration", "over"}
    for name in fields - {"answer"}:
        value = getattr(event, name, None)
        assert found.get(name) == value
    for name in found.keys() - {"text"}:
        assert f"``{name}``" in PAGE


def test_a_failure_has_its_error_and_the_end_of_its_traceback(written: Any) -> None:
    def odd(depth: int) -> None:
        even(depth - 1)

    def even(depth: int) -> None:
        if not depth:
            raise ValueError("why")
        odd(depth - 1)

    try:
        even(12)
    except ValueError as error:
        found = tell(written, CallbackFailed(WHERE, "it failed", error))
    assert (found["error"], found["text"]) == ("ValueError: why", "it failed")
    assert len(found["traceback"]) == 20
    assert found["traceback"][-1] == "ValueError: why"


def test_a_stall_has_its_stack(written: Any) -> None:
    assert tell(written, LoopStalled(WHERE, "a\nb", 1.5, False))["stack"] == ["a", "b"]


def test_what_is_said_seldom_says_how_often_it_was(written: Any) -> None:
    times = iter((0.0, 1.0, 100.0))
    log = LogObserver(written.logger, lambda: next(times))
    for _ in range(3):
        log.peer_error(PeerError(WHERE, PeerErrorKind.IDLE, "idle"))
    assert [read(line)["text"] for line in written.lines] == ["idle", "idle (and 1 more like this before)"]


def test_a_record_of_a_program_has_its_own_fields_apart(written: Any) -> None:
    extra = {"order": 1, "queue_id": "4XyZ", "deep": [[[[[1]]]]], "nan": float("nan"), "big": 2**70, "none": None}
    written.logger.warning("an %s", "order", extra=extra)
    found = written.only()
    assert (found["text"], found["event"], found["queue_id"]) == ("an order", "record", "4XyZ")
    assert found["extra"] == {
        "order": 1,
        "deep": [["[[[1]]]"]],
        "nan": "nan",
        "big": "an integer of 71 bits",
        "none": None,
    }


class Broken:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


class BrokenError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError


def test_a_record_that_cannot_be_shown_is_a_line_all_the_same(written: Any) -> None:
    written.logger.info("%d", "x", extra={"broken": Broken(), "in": {Broken(): 1}})
    assert written.only()["text"] == "%d"
    written.lines.clear()
    try:
        raise BrokenError
    except BrokenError:
        written.logger.exception(Broken())
    assert written.only()["error"].startswith("BrokenError: cannot be shown")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, r"a\x00\x1b\x0d\x0a\x7f\x85\xff\xed\xa0\x80" + "\u2028\u202e\\"),
        ("é\U0001f600", "é\U0001f600"),
    ],
)
def test_controls_and_octets_that_are_no_utf_8_are_four_characters(written: Any, text: str, shown: str) -> None:
    found = tell(written, ended(text))
    assert {found[name] for name in ("helo", "sender", "queue_id", "client", "quarantine")} == {shown}
    assert found["durations"] == {shown: 0.25}


@pytest.mark.parametrize("text", ["x", "\U0001f600", "\x00", "\udcff", '"', "é"])
@pytest.mark.parametrize("length", [999, 1_000, 1_001, 60_000])
def test_a_line_is_below_16_kib_whatever_a_message_holds(written: Any, text: str, length: int) -> None:
    found = tell(written, ended(text * length, 100))
    assert (found["refused_count"], found["recipient_count"], found["reason"]) == (100, 100, "trap")
    assert found["recipients"]
    assert found["helo"]


def test_strings_are_cut_at_1000_characters_and_lists_at_20(written: Any) -> None:
    found = tell(written, ended(helo="x" * 2_000, recipients=("y",) * 100))
    assert (found["helo"], found["recipients"]) == ("x" * 1_000, ["y"] * 20)


@given(st.text(), st.lists(st.text() | st.floats() | st.integers() | st.binary(), max_size=30))
def test_any_record_is_one_object(text: str, values: list[Any]) -> None:
    record = logging.LogRecord(text, logging.INFO, "", 0, text, (), None)
    record.values = values
    record.nested = {text: values, 1: {text: tuple(values)}}
    read(JsonFormatter().format(record))
    read(JsonFormatter().format(logging.makeLogRecord({"msg": text, "told": ended(text, 30), "name": "x"})))


def test_any_record_of_a_huge_program_is_below_16_kib(written: Any) -> None:
    extra = {f"{number}{'é' * 500}": ["é" * 5_000] * 100 for number in range(100)}
    written.logger.error("é" * 50_000, extra=extra, stack_info=True)
    assert written.only()["text"]


def test_without_a_message_the_text_of_the_page_is_true(written: Any) -> None:
    """A record without an exception has no traceback, whatever sys.exc_info says."""
    written.logger.error("x", exc_info=sys.exc_info())
    assert "error" not in written.only()
