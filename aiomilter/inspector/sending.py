"""Recorded messages on their way from the process that serves to the one that shows them.

A record is a line of JSON and then octets, those of all packets joined.  It has to fit into a record of
:mod:`aiomilter._serving.feed`; of a larger message the first packets are sent, and that it was cut.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from aiomilter._security import SECURITY_MACROS
from aiomilter._serving.feed import MOST_RECORD
from aiomilter.inspector.frames import Head
from aiomilter.inspector.recording import WAITED, Entry, Note, Recorded
from aiomilter.inspector.store import Store
from aiomilter.observe import Answer, ClientRefused, Edit, MessageEnded, RefusedRecipient, Where
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Negotiate
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer

__all__ = ["SendingStore", "received", "sent"]

_ROOM: Final = 24_576
"""Octets of a record that are left for the line of JSON."""
_MOST_NAMED: Final = 20
"""Recipients, refused ones and edits that are sent."""
_WHERE: Final = tuple(each.name for each in fields(Where))
_LONGEST_NOTES: Final = 8_192
"""Characters of all notes."""


class SendingStore(Store):
    """Records the messages of one serving process, and sends each as it ends; it keeps none.

    Args:
        send: Sends a record; one that finds the pipe full is dropped.
        max_size: Octets that messages may take that are being received.
    """

    def __init__(self, send: Callable[[bytes], bool], max_size: int) -> None:
        super().__init__(max_size)
        self._send = send

    def add(self, recorded: Recorded) -> None:
        """Send a message that has ended."""
        self.give_back(recorded.size)
        self._send(sent(recorded))


def sent(recorded: Recorded) -> bytes:
    """Return the record of a message."""
    octets: list[bytes] = []
    entries: list[list[Any]] = []
    left, cut = MOST_RECORD - _ROOM, recorded.cut
    for when, kind, what in recorded.entries:
        if kind == WAITED:
            entries.append([when, kind, *what])
        elif len(what) <= left:
            entries.append([when, kind, len(what)])
            octets.append(what)
            left -= len(what)
        else:
            cut, left = True, 0
    agreement = recorded.agreement
    head = {
        "time": recorded.time,
        "event": _event(recorded.event),
        "entries": entries[:500],
        "head": [_texts(recorded.head.packets), _texts(recorded.head.macros)],
        "agreed": None if agreement is None else agreement.answer.payload.decode("latin-1"),
        "notes": list(_notes(recorded.notes)),
        "cut": cut,
    }
    line = json.dumps(head).encode("ascii")
    if len(line) >= _ROOM:  # of very long names: what has decided is worth more than how
        head |= {"entries": [], "notes": [], "head": [{}, {}], "cut": True}
        line, octets = json.dumps(head).encode("ascii"), []
    return line + b"\n" + b"".join(octets)


def received(record: bytes) -> Recorded:
    """Return the message of a record.

    Raises:
        ValueError, TypeError, KeyError: It cannot be read.
    """
    line, _, octets = record.partition(b"\n")
    head = json.loads(line)
    entries: list[Entry] = []
    place = 0
    for when, kind, *what in head["entries"]:
        if kind == WAITED:
            entries.append((when, kind, tuple(what)))
        else:
            entries.append((when, kind, octets[place : place + what[0]]))
            place += what[0]
    packets, macros = ({int(code): text.encode("latin-1") for code, text in each.items()} for each in head["head"])
    notes = [Note(*each) for each in head["notes"]]
    recorded = Recorded(
        _event_of(head["event"]),
        entries,
        Head(packets, macros),
        _agreement(head["agreed"]),
        notes,
        len(record),
        head["cut"],
    )
    recorded.time = head["time"]
    return recorded


def _texts(packets: Any) -> dict[int, str]:
    return {code: payload.decode("latin-1") for code, payload in packets.items()}


def _notes(notes: list[Note]) -> Iterator[Note]:
    left = _LONGEST_NOTES
    for note in notes:
        left -= len(note.text) + len(note.traceback)
        if left < 0:
            return
        yield note


def _event(event: MessageEnded | ClientRefused) -> dict[str, Any]:
    where = event.where
    shown: dict[str, Any] = {
        "where": [getattr(where, name) for name in _WHERE],
        "answer": event.answer,
        "reason": event.reason,
    }
    if isinstance(event, MessageEnded):
        shown |= {
            "helo": event.helo[:500],
            "sender": event.sender,
            "recipients": None if event.recipients is None else event.recipients[:_MOST_NAMED],
            "refused": event.refused[:_MOST_NAMED],
            "refused_count": event.refused_count,
            "edits": event.edits[:_MOST_NAMED],
            "edit_count": event.edit_count,
            "quarantine": event.quarantine,
            "duration": event.duration,
            "id": event.id,
            "macros": {name: value[:500] for name in SECURITY_MACROS if (value := event.macro(name)) is not None},
            "durations": dict(event.durations),
            "failed": event.failed,
            "generation": event.generation,
        }
    return shown


def _event_of(shown: dict[str, Any]) -> MessageEnded | ClientRefused:
    where, answer = Where(*shown["where"]), Answer(shown["answer"])
    if "duration" not in shown:
        return ClientRefused(where, answer, shown["reason"])
    return MessageEnded(
        where=where,
        helo=shown["helo"],
        sender=shown["sender"],
        recipients=None if shown["recipients"] is None else tuple(shown["recipients"]),
        refused=tuple(RefusedRecipient(each[0], Answer(each[1]), *each[2:]) for each in shown["refused"]),
        refused_count=shown["refused_count"],
        answer=answer,
        reason=shown["reason"],
        edits=tuple(Edit(*each) for each in shown["edits"]),
        edit_count=shown["edit_count"],
        quarantine=shown["quarantine"],
        duration=shown["duration"],
        id=shown["id"],
        macro=shown["macros"].get,
        durations=shown["durations"],
        failed=tuple(shown["failed"]),
        generation=shown["generation"],
    )


def _agreement(payload: str | None) -> Agreement | None:
    if payload is None:
        return None
    answer = NegotiateAnswer.decode(payload.encode("latin-1"))
    protocol = answer.protocol
    silent = frozenset(stage for stage in Stage if stage.nr_flag & protocol)
    declined = frozenset(stage for stage in Stage if stage.no_flag & protocol)
    return Agreement(answer, Negotiate(answer.version, 0, 0), silent, declined)
