"""Before and after side by side: the lines of two messages, those that differ marked."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

__all__ = ["side_by_side"]

_MOST_COMPARED: Final = 2_000
"""Lines in the middle that are compared: difflib's time grows with the square."""
_MOST_SHOWN: Final = 4_000
"""Rows."""
_LONGEST: Final = 1_000
"""Characters of a line that are shown."""


def side_by_side(before: bytes, after: bytes | None) -> dict[str, Any]:
    """Return rows of lines, each with a mark: ``"="``, ``"~"`` changed, ``"-"`` gone, ``"+"`` new.

    Args:
        before: A message.
        after: What became of it; None to show the first alone.
    """
    old = _lines(before)
    new = old if after is None else _lines(after)
    rows = list(_rows(old, new))
    return {
        "rows": [[mark, _shown(left), _shown(right)] for mark, left, right in rows[:_MOST_SHOWN]],
        "more": max(0, len(rows) - _MOST_SHOWN),
        "changed": sum(mark != "=" for mark, _, _ in rows),
        "alone": after is None,
    }


def _rows(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    start = _common(old, new)
    end = min(_common(old[::-1], new[::-1]), min(len(old), len(new)) - start)
    for line in old[:start]:
        yield "=", line, line
    yield from _middle(old[start : len(old) - end], new[start : len(new) - end])
    for line in old[len(old) - end :]:
        yield "=", line, line


def _middle(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    if max(len(old), len(new)) > _MOST_COMPARED:
        yield from (("-", line, None) for line in old)
        yield from (("+", None, line) for line in new)
        return
    for what, left, left_end, right, right_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        one, other = old[left:left_end], new[right:right_end]
        for number in range(max(len(one), len(other))):
            was = one[number] if number < len(one) else None
            now = other[number] if number < len(other) else None
            if what == "equal":
                yield "=", was, now
            else:
                yield ("-" if now is None else "+" if was is None else "~"), was, now


def _common(old: Sequence[bytes], new: Sequence[bytes]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _lines(octets: bytes) -> list[bytes]:
    lines = octets.replace(b"\r\n", b"\n").split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _shown(line: bytes | None) -> str | None:
    if line is None:
        return None
    text = line[:_LONGEST].decode("utf-8", "surrogateescape")
    return text if len(line) <= _LONGEST else f"{text} ... ({len(line)} octets)"
