"""The changes that an edit whose answers are not sent has made in its copy of a message."""

from collections import Counter
from collections.abc import Iterator

from aiomilter.message import Message
from aiomilter.message.headers import Headers
from aiomilter.message.rewriting import pieces

__all__ = ["changes_between"]


def changes_between(before: Message, after: Message) -> tuple[list[str], int, str | None]:
    """Return the changes that lead from one state of a message to a later one, how many there are, and why it would be held.

    Args:
        before: As the filter got it.
        after: The filter's own copy.
    """
    found = [*_fields(before.headers, after.headers)]
    if _body(before) != _body(after):
        found.append("replace_body")
    old, new = before._envelope, after._envelope
    if new.new_sender is not None and new.new_sender != old.new_sender:
        found.append(f"change_sender {new.new_sender[0]}")
    found += [f"add_recipient {address}" for address, _ in new.added[len(old.added) :]]
    found += [f"delete_recipient {address}" for address in new.removed[len(old.removed) :]]
    quarantine = new.reason if new.reason != old.reason else None
    if quarantine is not None:
        found.append("quarantine")
    return found, len(found), quarantine


def _fields(before: Headers, after: Headers) -> Iterator[str]:
    """Yield a line for each field that is another: one that is gone and one that is new, of a name, are a change."""
    old, new = {id(field) for field in before}, {id(field) for field in after}
    gone = [field.name for field in before if id(field) not in new]
    left = Counter(name.lower() for name in gone)
    for field in after:
        if id(field) in old:
            continue
        if left[field.name.lower()] > 0:
            left[field.name.lower()] -= 1
            yield f"change_header {field.name}"
        else:
            yield f"insert_header {field.name}"
    for name in gone:
        if left[name.lower()] > 0:
            left[name.lower()] -= 1
            yield f"delete_header {name}"


def _body(message: Message) -> object:
    """Return what tells one body of a message from another: the spans and octets that it is made of."""
    around = message._around
    parts = None if around is None else ([*around.before], [*around.parts])
    return [*pieces(message._root, message._spool.size)] if message._edited else None, parts
