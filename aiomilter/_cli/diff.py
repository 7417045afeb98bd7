"""What edits make of a message, as a diff."""

import difflib
from collections.abc import Iterator
from typing import Final

from aiomilter._cli.terminal import safe_octets

__all__ = ["diff"]

_LONGEST_LINE: Final = 400
"""Characters of a line that are shown."""
_MOST_LINES: Final = 4000
"""Lines that are compared: difflib's time grows with the square."""


def diff(before: bytes, after: bytes) -> Iterator[str]:
    """Return a unified diff, every line safe for a terminal."""
    old, new = _lines(before), _lines(after)
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    middle = max(len(old), len(new)) - start - end
    if middle > _MOST_LINES:
        yield from _parts(before, after)
        return
    # The common ends are not compared, except for the lines of context.
    first, last = max(0, start - 3), max(0, end - 3)
    old, new = old[first : len(old) - last], new[first : len(new) - last]
    lines = difflib.diff_bytes(difflib.unified_diff, old, new, b"as sent", b"as delivered", lineterm=b"")
    for number, line in enumerate(lines):
        yield _moved(line.decode("ascii"), first) if number > 1 and line.startswith(b"@@ ") else _cut(safe_octets(line))


def _parts(before: bytes, after: bytes) -> Iterator[str]:
    """Return the diff of the header sections alone, and how much else differs."""
    (old, _, old_body), (new, _, new_body) = before.partition(b"\r\n\r\n"), after.partition(b"\r\n\r\n")
    counts = old.count(b"\n"), new.count(b"\n")
    if max(counts) > _MOST_LINES:
        yield f"the header section changes, {counts[0] + 1} lines before and {counts[1] + 1} after: too many to show"
    elif old != new:
        yield from diff(old + b"\r\n", new + b"\r\n")
    if old_body != new_body:
        lines = len(_lines(old_body)), len(_lines(new_body))
        yield f"the body changes, {lines[0]} lines before and {lines[1]} after: too many to show"


def _moved(line: str, by: int) -> str:
    """Return the head of a hunk for lines that were counted from ``by``."""
    if not by:
        return line
    parts = []
    for part in line.split(" ")[1:3]:
        begin, comma, count = part[1:].partition(",")
        parts.append(f"{part[0]}{int(begin) + by}{comma}{count}")
    return f"@@ {' '.join(parts)} @@"


def _common(old: list[bytes], new: list[bytes]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _lines(octets: bytes) -> list[bytes]:
    lines = octets.replace(b"\r\n", b"\n").split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}... ({len(line) - 1} characters)"
