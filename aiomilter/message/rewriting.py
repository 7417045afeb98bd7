"""A new body made of spans of the old one and of new octets: what is not edited is copied."""

from collections.abc import Iterator
from typing import Final, TypeAlias

from aiomilter.message.parts import Part

__all__ = ["Splice", "pieces", "splices"]

_EMPTY_LINE: Final = b"\r\n"
Splice: TypeAlias = tuple[int, int, bytes]
"""Octets that take the place of those between two offsets of the body."""


def splices(part: Part) -> Iterator[Splice]:
    """Yield what is new in a part, from its beginning to its end."""
    node = part._node
    if part.removed:
        yield node.delimiter, node.end, b""
        return
    head = part._head.octets() + _EMPTY_LINE if part.parent is not None and part._head.changed else None
    if part._new is not None:
        if head is not None:
            yield node.start, node.end, head + part._new
        elif node.end < node.body:  # the line end of its header section is the next delimiter's
            yield node.end, node.end, _EMPTY_LINE + part._new
        else:
            yield node.body, node.end, part._new
        return
    if head is not None:
        yield node.start, node.body, head
    for child in part.children:
        yield from splices(child)
    if part._added:
        lines = [b"--" + node.boundary + b"\r\n" + added for added in part._added]
        if node.close < 0:
            yield 0, 0, b"\r\n".join([*lines, b""])
        else:
            yield node.close, node.close, b"".join([b"\r\n" + line for line in lines])


def pieces(part: Part, size: int) -> Iterator[tuple[int, int] | bytes]:
    """Yield a body in order: spans of the old one, and new octets.

    Args:
        part: The message itself.
        size: Octets of the old body.
    """
    position = 0
    for start, stop, octets in splices(part):
        start = max(start, position)
        if start > position:
            yield position, start
        if octets:
            yield octets
        position = max(stop, start)
    if position < size:
        yield position, size
