"""Log records as JSON, one object a line: a formatter for any handler.

``handler.setFormatter(JsonFormatter())``; ``aiomilter run --log-format json`` does that.  ``aiomilter help log`` has the keys.
A line is ASCII, shorter than 16 KiB, and valid whatever a mail server sends: control characters, and octets that are no
UTF-8, are the four characters ``\\xHH`` in a string.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii
from os import getpid
from time import time as now
from types import TracebackType
from typing import Any, Final, TypeAlias

from aiomilter._security import TLS, Auth
from aiomilter.observe.events import ClientRefused, LoopStalled, MessageEnded, RefusedRecipient
from aiomilter.observe.line_handler import MessageFormatter
from aiomilter.observe.observer import METHOD_OF

__all__ = ["JsonFormatter"]

_JSON: TypeAlias = dict[str, Any]

_LONGEST: Final = 1_000
"""Characters of a string."""
_MOST: Final = 20
"""Items of a list, and keys of a record's own."""
_MAX_SIZE: Final = 16_384
"""Octets that a line is shorter than, its end included."""
_SHORTEST: Final = 8
"""Characters of a string, and one item of a list, with which a line is always short enough."""
_DEPTH: Final = 3
"""Lists and objects within one another, of values that a program gives."""
_MAX_INTEGER: Final = 2**63
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_quote: Final = encode_basestring_ascii
_ODD: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_OF_RECORDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "told", "sentence"}
"""The attributes of a record that are not of a program, or that we write by other names."""
_WHERE: Final = ("connection", "client", "queue_id", "id", "stage", "peer", "server", "listener", "filter", "reason")
_FIELDS: Final = (
    "answer",
    "stuck",
    "limit",
    "number",
    "option",
    "resource",
    "kind",
    "cause",
    "pid",
    "duration",
    "over",
)
"""Fields of events that keep their names."""


class JsonFormatter(MessageFormatter):
    """Write each record as a JSON object on a line of its own; never raises, whatever the record holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        event: Any = getattr(record, "told", None)
        if isinstance(event, MessageEnded):
            begin = _begin(record.created, record.levelname.lower(), record.name, record.process)
            return _line(lambda cut: begin + _message(event, cut))
        return _line(lambda cut: _encode(self._object(record, cut)))

    def message_line(self, logger: str, event: MessageEnded) -> str:
        """Return the line of a message, as of a record of the level INFO.

        Args:
            logger: Name of the logger.
            event: The message.
        """
        begin = _begin(now(), "info", logger, getpid())
        line = begin + _message(event, _WHOLE)
        return line if len(line) < _MAX_SIZE else _line(lambda cut: begin + _message(event, cut))

    def _object(self, record: logging.LogRecord, cut: "_Cut") -> _JSON:
        event: Any = getattr(record, "told", None)
        kind = METHOD_OF.get(type(event))
        found: _JSON = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": cut.text(record.name),
            "process": record.process,
            "event": kind or "record",
        }
        found["text"] = cut.text(getattr(record, "sentence", None) or _message_of(record))
        for name in _WHERE:
            value = getattr(record, name, None)
            if value not in (None, "", 0):
                found[name] = cut.plain(value)
        for name in _FIELDS if kind is not None else ():
            value = getattr(event, name, None)
            if value is not None:
                found[name] = cut.plain(value)
        if isinstance(event, ClientRefused):
            found["answer"] = _answer(event.answer, cut)
        self._add_failure(found, record, event, cut)
        extra = {name: value for name, value in vars(record).items() if name not in _OF_RECORDS and name not in _WHERE}
        if extra:
            found["extra"] = cut.plain(extra)
        return found

    def _add_failure(self, found: _JSON, record: logging.LogRecord, event: object, cut: "_Cut") -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.exc_info and error is not None:
            found["error"] = cut.text(f"{type(error).__name__}: {_text_of(error)}")
            found["traceback"] = cut.lines(self._traceback((type(error), error, record.exc_info[2])))
        stack = event.stack if isinstance(event, LoopStalled) else record.stack_info
        if stack:
            found["stack"] = cut.lines(stack)

    def _traceback(self, exception: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
        try:
            return self.formatException(exception)
        except Exception as error:  # noqa: BLE001 - the text of an exception is the filter's own code
            return f"no traceback: {type(error).__name__}"


class _Cut:
    """Makes values that JSON has, cut to a size.

    Args:
        longest: Characters of a string.
        most: Items of a list.
    """

    def __init__(self, longest: int, most: int) -> None:
        self._longest = longest
        self.most: Final = most

    def text(self, text: str) -> str:
        """Return a string."""
        text = text[: self._longest]
        if not text.isascii() or not text.isprintable():
            text = text.translate(_escapes())[: self._longest] if _ODD.search(text) else text
        return text

    def quoted(self, text: str) -> str:
        """Return a string as JSON has it."""
        return _quote(text if len(text) <= self._longest and text.isprintable() else self.text(text))

    def texts(self, texts: Iterable[str]) -> list[str]:
        """Return a list of strings."""
        return [self.text(each) for _, each in zip(range(self.most), texts, strict=False)]

    def lines(self, text: str) -> list[str]:
        """Return the last lines of a text: those that say where it happened."""
        return [self.text(line) for line in text.splitlines()[-self.most :]]

    def plain(self, value: object, depth: int = _DEPTH) -> Any:
        """Return a value of a program."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self.text(str.__str__(value))
        if isinstance(value, int):
            return int(value) if -_MAX_INTEGER <= value < _MAX_INTEGER else f"an integer of {value.bit_length()} bits"
        if isinstance(value, float):
            return round(float(value), 6) if math.isfinite(value) else str(float(value))
        if depth and isinstance(value, Mapping):
            return _guarded(lambda: self._items(value, depth - 1))
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self.plain(each, depth - 1) for _, each in zip(range(self.most), value, strict=False)]
        return self.text(_guarded(lambda: repr(value)))

    def _items(self, mapping: Mapping[Any, object], depth: int) -> _JSON:
        pairs = zip(range(self.most), mapping.items(), strict=False)
        return {self.text(_text_of(name))[:100]: self.plain(each, depth) for _, (name, each) in pairs}


_WHOLE: Final = _Cut(_LONGEST, _MOST)
"""With which nearly all lines are short enough."""


@cache
def _escapes() -> dict[int, str]:
    """Return what stands for each character that no line may hold; made for the first line that has one."""
    found = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
    for code in range(0xD800, 0xE000):
        octets = chr(code).encode("utf-8", "surrogatepass")
        found[code] = "".join(f"\\x{octet:02x}" for octet in octets)
    # Octets that are no UTF-8, as Python has them in text.
    return found | {0xDC00 + octet: f"\\x{octet:02x}" for octet in range(0x80, 0x100)}


def _time(created: float) -> str:
    return f"{_second(int(created))}.{int(created % 1 * 1000):03}Z"


@lru_cache(maxsize=1)
def _second(created: int) -> str:
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _guarded(call: Callable[[], Any]) -> Any:
    """Return the result of code of a program, or the error that it raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is shown
        return f"cannot be shown: {type(error).__name__}"


def _text_of(value: object) -> str:
    text = _guarded(lambda: str(value))
    return text if isinstance(text, str) else ""


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - its arguments do not fit
        return _text_of(record.msg)


def _line(make: Callable[[_Cut], str]) -> str:
    """Return a line that is short enough.

    Args:
        make: Returns it with what is cut.
    """
    longest, most = _LONGEST, _MOST
    while True:
        line = make(_Cut(longest, most))
        if len(line) < _MAX_SIZE or (longest, most) == (_SHORTEST, 1):
            return line
        # Only hostile records come here, and go round a few times.
        longest = max(_SHORTEST, int(longest * min(0.8, _MAX_SIZE / len(line))))
        most = max(1, most * 3 // 4)


def _answer(answer: Any, cut: _Cut) -> _JSON:
    return {
        "verdict": answer.verdict,
        "code": answer.code,
        "enhanced": answer.enhanced,
        "text": cut.text(answer.text),
    }


def _texts_of(value: Auth | TLS, cut: _Cut) -> _JSON:
    return {name: cut.text(getattr(value, name)) for name in value.__slots__}


def _result(result: object, cut: _Cut) -> _JSON:
    """Return the type of a result, and its word if it has one; the rest may hold addresses."""
    word = _guarded(lambda: getattr(result, "result", None))
    return {"type": cut.text(type(result).__name__)} | ({"result": cut.text(word)} if isinstance(word, str) else {})


def _refused(each: RefusedRecipient, cut: _Cut) -> _JSON:
    found = {"address": cut.text(each.address), "reason": each.reason, "filter": cut.text(each.filter)}
    return found | {"answer": _answer(each.answer, cut)}


def _begin(created: float, level: str, logger: str, process: int | None) -> str:
    """Return what the line of a message begins with."""
    time, name, number = _time(created), _quote(_WHOLE.text(logger)), "null" if process is None else process
    return f'{{"time":"{time}","level":"{level}","logger":{name},"process":{number},"event":"message_ended",'


def _message(event: MessageEnded, cut: _Cut) -> str:
    """Return the rest of it.

    Written piece by piece, and what most messages do not have by the encoder: to have it encode everything costs twice as much.
    """
    where, most, answer, quoted = event.where, cut.most, event.answer, cut.quoted
    recipients = event.recipients
    shown = "null" if recipients is None else f"[{','.join([quoted(each) for each in recipients[:most]])}]"
    count = "null" if recipients is None else len(recipients)
    refused = _encode([_refused(each, cut) for each in event.refused[:most]]) if event.refused else "[]"
    results = _encode([_result(each, cut) for each in event.results[:most]]) if event.results else "[]"
    durations = _encode(cut.plain(event.durations)) if event.durations else "{}"
    failed = _encode(cut.texts(event.failed)) if event.failed else "[]"
    shadow = "[]"
    if event.shadow:
        shadow = _encode(cut.plain([{**asdict(each), "differs": each.differs} for each in event.shadow[:most]]))
    size, auth, tls = event.size, event.auth, event.tls
    return (
        f'"id":"{event.id}","queue_id":{_optional(where.queue_id, cut)},"connection":{where.connection},'
        f'"client":{quoted(where.client)},"helo":{quoted(event.helo)},'
        f'"auth":{"null" if auth is None else _encode(_texts_of(auth, cut))},'
        f'"tls":{"null" if tls is None else _encode(_texts_of(tls, cut))},'
        f'"sender":{_optional(event.sender, cut)},"recipients":{shown},"recipient_count":{count},'
        f'"refused":{refused},"refused_count":{event.refused_count},'
        f'"answer":{{"verdict":"{answer.verdict}","code":{"null" if answer.code is None else answer.code},'
        f'"enhanced":{quoted(answer.enhanced)},"text":{quoted(answer.text)}}},'
        f'"stage":"{where.callback}","filter":{quoted(where.filter)},"reason":{quoted(event.reason)},'
        f'"edits":{_edits(event)},"edit_count":{event.edit_count},"quarantine":{_optional(event.quarantine, cut)},'
        f'"size":{"null" if size is None else size},"duration":{round(event.duration, 6)!r},'
        f'"durations":{durations},"results":{results},"failed":{failed},"shadow":{shadow},'
        f'"generation":{event.generation},"peer":{quoted(where.peer)},"server":{quoted(where.server)},'
        f'"listener":{quoted(where.listener)}}}'
    )


def _optional(text: str | None, cut: _Cut) -> str:
    return "null" if text is None else cut.quoted(text)


def _edits(event: MessageEnded) -> str:
    edits: dict[str, int] = {}
    for edit in event.edits:
        edits[edit.kind] = edits.get(edit.kind, 0) + 1
    return f"{{{','.join([f'{_quote(kind)}:{count}' for kind, count in edits.items()])}}}"
