"""The edits of checks: kept apart for each, joined when all have ended, and put into the message where edits follow."""

from collections.abc import Iterable, Sequence
from typing import NoReturn, TypeAlias

from aiomilter.edits import Body, Edits
from aiomilter.exceptions import LocalProtocolError
from aiomilter.message import Field, Headers, Message
from aiomilter.wire.events import Rcpt

__all__ = ["CheckEdits", "apply"]

_Insertion: TypeAlias = tuple[int, str, str]


class CheckEdits(Edits):
    """The edits of one check; none of the body.

    Args:
        edits: Of the handler, for its limits.
    """

    __slots__ = ("additions", "changes", "envelope", "insertions")

    def __init__(self, edits: Edits) -> None:
        super().__init__(edits.actions, edits.leading_space, *edits.limits)
        self.changes: list[tuple[str, int, str, str]] = []
        self.insertions: list[_Insertion] = []
        self.additions: list[tuple[str, str]] = []
        self.envelope: list[tuple[str, tuple[str, ...]]] = []

    def add_header(self, name: str, value: str) -> None:
        """Queue a field for the end of the header section."""
        super().add_header(name, value)
        self.additions.append((name, " " + value))

    def insert_header(self, name: str, value: str, index: int = 0, separator: str = " ") -> None:
        """Queue a field for a position."""
        super().insert_header(name, value, index, separator)
        self.insertions.append((index, name, separator + value))

    def change_header(self, name: str, occurrence: int, value: str, separator: str = " ") -> None:
        """Queue a new value for a field."""
        super().change_header(name, occurrence, value, separator)
        self.changes.append((name, occurrence, value, separator))

    def replace_body(self, body: Body) -> NoReturn:
        """Refuse: the filters after this one would not see it."""
        raise LocalProtocolError("replace_body: expected a MessageMilter for this in a composition, found a check")

    def change_sender(self, address: str, params: tuple[str, ...]) -> None:
        """Queue a new envelope sender."""
        super().change_sender(address, params)
        self.envelope.append(("sender", (address, *params)))

    def add_recipient(self, address: str, params: tuple[str, ...]) -> None:
        """Queue another envelope recipient."""
        super().add_recipient(address, params)
        self.envelope.append(("add", (address, *params)))

    def delete_recipient(self, address: str, recipients: Iterable[Rcpt] = ()) -> None:
        """Queue the deletion of an envelope recipient."""
        super().delete_recipient(address, recipients)
        self.envelope.append(("remove", (address,)))

    def quarantine(self, reason: str) -> None:
        """Queue a quarantine."""
        super().quarantine(reason)
        self.envelope.append(("quarantine", (reason,)))

    def replay(self, edits: Edits, recipients: Sequence[Rcpt]) -> None:
        """Queue them again, as those of the handler."""
        for change in self.changes:
            edits.change_header(*change)
        for index, name, value in self.insertions:
            edits.insert_header(name, value.removeprefix(" "), index, " " if value.startswith(" ") else "")
        for name, value in self.additions:
            edits.add_header(name, value.removeprefix(" "))
        for what, (text, *params) in self.envelope:
            if what == "sender":
                edits.change_sender(text, tuple(params))
            elif what == "add":
                edits.add_recipient(text, tuple(params))
            elif what == "remove":
                edits.delete_recipient(text, recipients)
            else:
                edits.quarantine(text)


def apply(checks: Sequence[CheckEdits], message: Message) -> None:
    """Make the edits of checks in a message: what they asked for above all others is at its top, the last one's first."""
    headers = message.headers
    latest = {
        (name.lower(), occurrence): (name, occurrence, value, separator)
        for each in checks
        for name, occurrence, value, separator in each.changes
    }
    if latest:
        # In the order in which they are sent to an MTA: so what is added is where the MTA would have added it.
        _change(headers, [latest[key] for key in sorted(latest, reverse=True)])
    if insertions := [insertion for each in checks for insertion in each.insertions]:
        _insert(headers, insertions)
    for each in checks:
        for name, value in each.additions:
            headers.append(name, "", raw=_octets(value))
    for each in checks:
        for what, (text, *params) in each.envelope:
            if what == "sender":
                message.change_sender(text, *params)
            elif what == "add":
                message.recipients.add(text, *params)
            elif what == "remove":
                message.recipients.remove(text)
            else:
                message.quarantine(text)


def _change(headers: Headers, changes: Iterable[tuple[str, int, str, str]]) -> None:
    """Change and remove the fields that the MTA has shown; one past the last of its name is added."""
    places: dict[bytes, list[int]] = {}
    for place, field in enumerate(headers.original):
        places.setdefault(field.key, []).append(place)
    shown, added = {}, []
    for name, occurrence, value, separator in changes:
        found = places.get(name.encode("utf-8", "surrogateescape").lower(), [])
        if occurrence <= len(found):
            shown[found[occurrence - 1]] = value, separator
        elif value != "":
            added.append((name, value, separator))
    # From top to bottom: so each is found where the last one was.
    for place, (value, separator) in sorted(shown.items()):
        if value == "":
            headers.remove(headers.original[place])
        else:
            headers.replace(headers.original[place], "", raw=_octets(separator + value))
    for name, value, separator in added:
        headers.append(name, "", raw=_octets(separator + value))


def _insert(headers: Headers, insertions: Iterable[_Insertion]) -> None:
    """Insert fields as Postfix counts: its own one, which it does not show, is above those that it does.

    0 is above all others, 1 below the first, a large number last.
    """
    now: list[Field | None] = [None, *headers]
    for index, name, value in insertions:
        place = min(index, len(now))
        below = now[place] if place < len(now) else None
        if below is None and place + 1 < len(now):
            below = now[place + 1]
        if below is None:
            made = headers.append(name, "", raw=_octets(value))
        else:
            made = headers.insert_before(below, name, "", raw=_octets(value))
        now.insert(place, made)


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
