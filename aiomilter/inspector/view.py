"""Messages as the page gets them: values for JSON; text is as it came, and the page shows it as text alone."""

from collections import Counter
from typing import Any, Final

from aiomilter.handler import STAGE_OF
from aiomilter.inspector.changes import side_by_side
from aiomilter.inspector.conversation import Conversation, PlayedStage, read
from aiomilter.inspector.explained import explained, found_by_filters
from aiomilter.inspector.parts import part_tree
from aiomilter.inspector.recording import Recorded
from aiomilter.mta import Content, Delivered, Field, cut, deliver
from aiomilter.observe import ClientRefused, MessageEnded
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Mail
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

__all__ = ["detail", "kind_of", "summary"]

_MOST_NAMED: Final = 20
"""Recipients and refused ones that a line of the list names."""
_KINDS: Final = {
    "continue": "accept",
    "accept": "accept",
    "skip": "accept",
    "reject": "reject",
    "tempfail": "tempfail",
    "discard": "discard",
    "abort": "abort",
}


def kind_of(answer: str) -> str:
    """Return what an answer comes to: accept, reject, tempfail, discard or abort."""
    word = answer.partition(" ")[0]
    return _KINDS.get(word) or ("tempfail" if word.startswith("4") else "reject" if word.startswith("5") else "accept")


def summary(recorded: Recorded, *, content: bool) -> dict[str, Any]:
    """Return the line of a message in the list.

    Args:
        recorded: The message.
        content: Whether what stands in it may be shown: its subject.
    """
    if recorded.summary is None:
        recorded.summary = _summary(recorded, content)
    return recorded.summary


def _summary(recorded: Recorded, content: bool) -> dict[str, Any]:
    event = recorded.event
    where = event.where
    stage = STAGE_OF.get(where.callback)
    line: dict[str, Any] = {
        "id": recorded.id,
        "time": recorded.time,
        "client": where.client,
        "queue_id": where.queue_id or "",
        "filter": where.filter,
        "stage": "" if stage is None else stage.name,
        "answer": event.answer,
        "reason": event.reason,
        "kind": kind_of(event.answer),
        "failed": any(note.level == "ERROR" for note in recorded.notes),
        "notes": len(recorded.notes),
        "refused_client": isinstance(event, ClientRefused),
    }
    if isinstance(event, MessageEnded):
        line |= {
            "helo": event.helo,
            "sender": event.sender,
            "recipients": list((event.recipients or ())[:_MOST_NAMED]),
            "recipient_count": len(event.recipients or ()),
            "refused": [each._asdict() for each in event.refused[:_MOST_NAMED]],
            "refused_count": event.refused_count,
            "edits": dict(Counter(each.kind for each in event.edits)),
            "edit_count": event.edit_count,
            "quarantine": event.quarantine,
            "seconds": event.duration,
            "subject": _subject(recorded) if content else "",
            "login": "" if event.auth is None else event.auth.login,
            "tls": "" if event.tls is None else event.tls.version,
            "failed": bool(event.failed) or line["failed"],
            "durations": dict(event.durations),
            "generation": event.generation,
            "ulid": event.id,
        }
        if event.refused_count and not event.recipients and event.answer == "abort":
            # Nobody was left: the message ended with the refusal of the last recipient.
            line |= {"kind": kind_of(event.refused[-1].answer), "answer": event.refused[-1].answer, "stage": "RCPT"}
            line["filter"] = event.refused[-1].filter or line["filter"]
    return line


def _subject(recorded: Recorded) -> str:
    if recorded.original is not None:
        headers = [field.header for field in cut(recorded.original[:65_536]).fields]
    else:
        headers = read(recorded).headers
    return next((header.text for header in headers if header.name.lower() == "subject"), "")[:200]


async def detail(recorded: Recorded, *, content: bool) -> dict[str, Any]:
    """Return all of a message.

    Args:
        recorded: The message.
        content: Whether what stands in it may be shown; without, only envelope, answers, times and names of edits are.
    """
    found = read(recorded)
    shown: dict[str, Any] = {
        **summary(recorded, content=content),
        "mta": found.style,
        "conversation": [_stage(played, content) for played in found.stages],
        "total": found.seconds,
        "edits_made": [_edit(each, content) for each in _joined(found.modifications)],
        "macros": found.macros,
        "log": [note._asdict() for note in recorded.notes] if content else _outlines(recorded),
        "cut": recorded.cut,
        "content": content,
        "reply": _reply(found),
    }
    if content:
        shown |= await _content(recorded, found)
        ours = any(each["ours"] for each in shown["authentication"])
        if isinstance(recorded.event, MessageEnded) and not ours:
            shown["authentication"] += found_by_filters(recorded.event.results)
    return shown


def _outlines(recorded: Recorded) -> list[dict[str, Any]]:
    """Return the notes without what a filter may have written of the content."""
    return [{**note._asdict(), "text": "(text is content)", "traceback": ""} for note in recorded.notes]


def _stage(played: PlayedStage, content: bool) -> dict[str, Any]:
    what = played.what
    if played.stage is Stage.HEADER:
        what = f"{played.count} field{'s' * (played.count != 1)}" if played.why != "not sent" else ""
    elif played.stage is Stage.BODY and played.why != "not sent":
        what = f"{played.count} piece{'s' * (played.count != 1)}"
    elif played.stage is Stage.UNKNOWN and not content:
        what = ""  # a line of the client, in which a login may be
    return {
        "stage": played.stage.name,
        "what": what,
        "answer": played.answer,
        "kind": kind_of(played.answer) if played.answer else "",
        "why": played.why,
        "reply": played.reply,
        "begin": played.begin,
        "seconds": played.seconds,
        "progress": played.progress,
        "waits": [{"callback": wait.callback, "filter": wait.filter, "begin": wait.begin} for wait in played.waits],
    }


def _reply(found: Conversation) -> str:
    """Return what the SMTP client was told at last."""
    last = next((each for each in reversed(found.stages) if each.reply), None)
    if last is None:
        return ""
    if last.stage in (Stage.HEADER, Stage.EOH, Stage.BODY):
        return last.reply
    return last.reply if last.stage is not Stage.DATA or last.answer != "continue" else ""


def _joined(modifications: tuple[Modification, ...]) -> list[Modification]:
    """Return the edits, with the first of all pieces of a new body."""
    first = next((each for each in modifications if isinstance(each, ReplaceBody)), None)
    return [each for each in modifications if each is first or not isinstance(each, ReplaceBody)]


def _edit(change: Modification, content: bool) -> dict[str, Any]:
    edit: dict[str, Any]
    match change:
        case AddHeader(name, value):
            edit = {"edit": "add_header", "name": name, "value": value}
        case InsertHeader(index, name, value):
            edit = {"edit": "insert_header", "name": name, "value": value, "place": index}
        case ChangeHeader(index, name, ""):
            edit = {"edit": "delete_header", "name": name, "value": "", "place": index}
        case ChangeHeader(index, name, value):
            edit = {"edit": "change_header", "name": name, "value": value, "place": index}
        case AddRecipient(address, params):
            return {"edit": "add_recipient", "name": address, "value": params or ""}
        case DeleteRecipient(address):
            return {"edit": "delete_recipient", "name": address, "value": ""}
        case ChangeSender(address, params):
            return {"edit": "change_sender", "name": address, "value": params or ""}
        case Quarantine(reason):
            return {"edit": "quarantine", "name": "", "value": reason}
        case ReplaceBody():
            return {"edit": "replace_body", "name": "", "value": ""}
    return edit if content else {**edit, "value": ""}


async def _content(recorded: Recorded, found: Conversation) -> dict[str, Any]:
    """Return what stands in the message, before and after."""
    body = b"".join(found.body)
    content = Content(tuple(Field(header, header.raw) for header in found.headers), body)
    whole = found.complete and not recorded.cut
    if recorded.original is not None:
        content, whole = cut(recorded.original, found.style), True
    before = b"".join([*(each.raw for each in content.fields), b"\r\n", content.body])
    after = _delivered(recorded, found, content)
    shown = content.fields if after is None else cut(after.octets, found.style).fields
    return {
        "whole": whole,
        "size": len(before),
        "changes": side_by_side(before, None if after is None else after.octets),
        "after": None if after is None else _envelope(after),
        "parts": await part_tree(content),
        "authentication": explained([field.header for field in shown], before=[each.header for each in content.fields]),
    }


def _delivered(recorded: Recorded, found: Conversation, content: Content) -> Delivered | None:
    if kind_of(recorded.event.answer) != "accept" or (not content.fields and not content.body):
        return None
    leading = recorded.agreement is not None and recorded.agreement.leading_space
    sender = found.mail or Mail("<>")
    return deliver(found.style, sender, found.recipients, content, found.modifications, leading_space=leading)


def _envelope(delivered: Delivered) -> dict[str, Any]:
    return {
        "sender": delivered.sender.path,
        "recipients": [rcpt.path for rcpt in delivered.recipients[:_MOST_NAMED]],
        "quarantine": delivered.quarantine,
    }
