"""What ``check --json`` prints; ``check.schema.json`` describes it, and stays as it is within a format number."""

import base64
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from typing import Any, Final, TypeAlias, assert_never

from aiomilter import mta
from aiomilter._cli.play import Failure, Path, Play, PlayedMessage, PlayedStage
from aiomilter.mail.envelope import bare_address
from aiomilter.wire.constants import Action, Protocol, Stage
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.replies import Verdict

__all__ = ["FORMAT", "edits", "report", "schema"]

FORMAT: Final = 1
"""Rises when something that is there changes its meaning or goes; something new may come without."""

_JSON: TypeAlias = dict[str, Any]


def schema() -> str:
    """Return the JSON Schema of :func:`report`."""
    return resources.files(__package__).joinpath("check.schema.json").read_text("utf-8")


def report(play: Play) -> _JSON:
    """Return all of a play, for ``json.dumps``."""
    scenario = play.scenario
    return {
        "format": FORMAT,
        "summary": _summary(play),
        "filter": _text(play.asked),
        "mta": scenario.style,
        "client": {
            "address": _text(scenario.client),
            "hostname": _text(scenario.hostname),
            "helo": _text(scenario.helo),
        },
        "negotiated": _negotiated(play),
        "connection": [_stage(stage) for stage in play.connection],
        "messages": [_message(played) for played in play.messages],
        "failures": [*_failures(play.failures, None), *_failures_of_messages(play)],
        "failed": play.failed,
    }


def _summary(play: Play) -> _JSON:
    return {
        "messages": len(play.messages),
        "unplayed": play.unplayed,
        "outcomes": {outcome.value: count for outcome, count in play.outcomes.items()},
        "failed": sum(played.failed for played in play.messages),
        "unexpected": sum(played.expected is False for played in play.messages),
        "seconds": round(sum(played.seconds for played in play.messages), 6),
    }


def _octets(octets: bytes) -> str | _JSON:
    """Return octets as text if they are UTF-8, else as base64."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(octets).decode("ascii")}


def _text(text: str) -> str | _JSON:
    return _octets(text.encode("utf-8", "surrogateescape"))


def _negotiated(play: Play) -> _JSON | None:
    agreed = play.agreed
    if agreed is None:
        return None
    return {
        "version": agreed.version,
        "actions": [action.name for action in Action if agreed.actions & action],
        "protocol": [flag.name for flag in Protocol if agreed.protocol & flag],
        "macros": {stage.name: [_text(name) for name in names] for stage, names in agreed.macros.items()},
    }


def _stage(played: PlayedStage) -> _JSON:
    return {
        "stage": played.stage.name,
        "what": _text(played.what),
        "answer": None if played.answer is None else _answer(played.answer),
        "why": played.why,
        "reply": _text(played.reply),
        "seconds": None if played.seconds is None else round(played.seconds, 6),
        "filter": _text(played.filter),
    }


def _answer(answer: mta.Answer) -> _JSON:
    if isinstance(answer, Verdict):
        return {"verdict": answer.name}
    lines = [_text(line) for line in answer.lines]
    return {"verdict": "REPLY", "code": answer.code, "enhanced": answer.enhanced, "lines": lines}


def _message(played: PlayedMessage) -> _JSON:
    decided: tuple[Stage, mta.Answer] | None = played.decided
    return {
        "source": _text(played.message.source),
        "sender": _path(played.sender),
        "recipients": [_path(recipient) for recipient in played.recipients],
        "stages": [_stage(stage) for stage in played.stages],
        "decided": {"stage": decided[0].name, **_answer(decided[1])} if decided else None,
        "outcome": played.outcome.value,
        "expected": played.expected,
        "edits": edits(played.modifications),
        "reply": _text(played.reply),
        "queue_id": played.queue_id,
        "delivered": _delivered(played.delivered) if played.delivered else None,
    }


def _path(path: Path) -> _JSON:
    return _envelope(path.text, path.params)


def _envelope(path: str, params: tuple[str, ...]) -> _JSON:
    return {"path": _text(path), "address": _text(bare_address(path)), "params": [_text(param) for param in params]}


def edits(modifications: tuple[Modification, ...], text: Callable[[str], Any] = _text) -> list[_JSON]:
    """Return what a filter asked for; all pieces of a new body are one edit, where the first of them was.

    Args:
        modifications: As they came.
        text: What to make of their texts.
    """
    found: list[_JSON] = []
    body: list[bytes] = []
    for change in modifications:
        match change:
            case ReplaceBody(chunk):
                if not body:
                    found.append({"edit": "replace_body"})
                body.append(chunk)
            case _:
                found.append(_edit(change, text))
    for edit in found:
        if edit["edit"] == "replace_body":
            edit["body"] = _octets(b"".join(body))
    return found


def _edit(change: Modification, text: Callable[[str], Any]) -> _JSON:
    match change:
        case AddHeader(name, value):
            return {"edit": "add_header", "name": text(name), "value": text(value)}
        case InsertHeader(index, name, value):
            return {"edit": "insert_header", "index": index, "name": text(name), "value": text(value)}
        case ChangeHeader(index, name, ""):
            return {"edit": "delete_header", "name": text(name), "occurrence": index}
        case ChangeHeader(index, name, value):
            return {"edit": "change_header", "name": text(name), "occurrence": index, "value": text(value)}
        case AddRecipient(address, params):
            return {"edit": "add_recipient", **_mailbox(address, text), "params": text(params or "")}
        case DeleteRecipient(address):
            return {"edit": "delete_recipient", **_mailbox(address, text)}
        case ChangeSender(address, params):
            return {"edit": "change_sender", **_mailbox(address, text), "params": text(params or "")}
        case Quarantine(reason):
            return {"edit": "quarantine", "reason": text(reason)}
        case ReplaceBody(chunk):
            return {"edit": "replace_body", "body": _octets(chunk)}
        case _:  # pragma: no cover
            assert_never(change)


def _mailbox(path: str, text: Callable[[str], Any]) -> _JSON:
    return {"path": text(path), "address": text(bare_address(path))}


def _delivered(delivered: mta.Delivered) -> _JSON:
    return {
        "sender": _envelope(delivered.sender.path, delivered.sender.params),
        "recipients": [_envelope(rcpt.path, rcpt.params) for rcpt in delivered.recipients],
        "quarantine": None if delivered.quarantine is None else _text(delivered.quarantine),
        "message": _octets(delivered.octets),
    }


def _failures_of_messages(play: Play) -> Iterator[_JSON]:
    for number, played in enumerate(play.messages):
        yield from _failures(played.failures, number)


def _failures(failures: Iterable[Failure], message: int | None) -> Iterator[_JSON]:
    return (_failure(failure, message) for failure in failures)


def _failure(failure: Failure, message: int | None) -> _JSON:
    return {
        "message": message,
        "callback": failure.callback,
        "what": _text(failure.what),
        "traceback": _text(failure.traceback),
        "fatal": failure.fatal,
    }
