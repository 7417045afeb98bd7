"""The parts of a message as a tree, with names, sizes and the text of those that are text."""

from itertools import islice
from typing import Any, Final

from aiomilter.message import Part
from aiomilter.message.envelope import Envelope
from aiomilter.message.incoming import Incoming
from aiomilter.mta import Content

__all__ = ["part_tree"]

_MOST_PARTS: Final = 200
_LONGEST_TEXT: Final = 65_536
"""Octets of a text that are shown."""
_MOST_TEXT: Final = 262_144
"""Octets of all texts of a message."""


async def part_tree(content: Content) -> list[dict[str, Any]]:
    """Return the parts in order, each with its depth.

    Args:
        content: The message.
    """
    size = len(content.body) + sum(len(field.raw) for field in content.fields) + 1024
    incoming = Incoming(size, size, None, keeps=True)
    try:
        for field in content.fields:
            incoming.add_field(field.raw)
        await incoming.take(content.body)
        message = incoming.message(Envelope(None, []))
        left = _MOST_TEXT
        found = []
        for part in islice(message.parts(), _MOST_PARTS):
            shown = await _part(part, min(left, _LONGEST_TEXT))
            left -= len(shown["text"])
            found.append(shown)
        return found
    finally:
        incoming.close()


async def _part(part: Part, most: int) -> dict[str, Any]:
    text = ""
    if part.content_type.startswith("text/") and most > 0:
        text = await part.text(most)
    return {
        "depth": part.depth,
        "type": part.content_type,
        "name": part.filename,
        "charset": part.charset,
        "encoding": part.encoding,
        "disposition": part.disposition,
        "size": part.size,
        "defects": sorted(part.defects),
        "text": text,
    }
