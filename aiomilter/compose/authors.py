"""Which filter of a composition has asked for which edit."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from aiomilter.compose.edits import CheckEdits
from aiomilter.compose.filters import ComposedFilter
from aiomilter.compose.shadow_edits import changes_between
from aiomilter.message import Message
from aiomilter.observe import Edit

__all__ = ["Given", "authors_of"]

Given: TypeAlias = tuple[str, Message, Message]
"""The name of an edit, the message as it got it, and as it left it."""


def authors_of(edits: Iterable[Edit], checks: Iterable[ComposedFilter], given: Iterable[Given]) -> list[str]:
    """Return the name of the filter for each edit, of several the last that asked for it; "" if none did.

    Args:
        edits: As they were sent.
        checks: The filters whose edits were kept apart.
        given: What edits have made of the message, in order.
    """
    found: dict[str, str] = {}
    for each in checks:
        asked = None if each.transaction is None else each.transaction.edits
        if isinstance(asked, CheckEdits):
            found.update(dict.fromkeys(_things(asked), each.name))
    for name, before, after in given:
        changes, _, _ = changes_between(before, after)
        for change in changes:
            kind, _, what = change.partition(" ")
            found[_key(kind, what)] = name
    return [found.get(_key(*edit), "") for edit in edits]


def _things(edits: CheckEdits) -> Iterator[str]:
    fields: Sequence[Iterable[str]] = (
        (name for name, _, _, _ in edits.changes),
        (name for _, name, _ in edits.insertions),
        (name for name, _ in edits.additions),
    )
    for names in fields:
        yield from (_key("header", name) for name in names)
    for what, (text, *_) in edits.envelope:
        yield _key(what, text)


def _key(kind: str, what: str) -> str:
    """Return what is the same for two edits of one thing, however each of them is done."""
    if kind.endswith("header"):
        return f"header {what.lower()}"
    if kind.endswith("recipient") or kind in ("add", "remove"):
        return f"recipient {what.strip('<>')}"
    return kind.removeprefix("change_")
