"""How a signature field is written: folded, ``b=`` at its end.

Source: RFC 6376 section 3.5; RFC 5322 section 2.1.1.
"""

from collections.abc import Iterable
from typing import Final

__all__ = ["Layout"]

_WIDTH: Final = 76
_FOLD: Final = "\n "


class Layout:
    """The value of a field, folded where it would be wider than 76 characters.

    Args:
        name: The name of the field, which stands before it on the first line.
    """

    __slots__ = ("_parts", "_used")

    def __init__(self, name: str) -> None:
        self._parts: list[str] = []
        self._used = len(name) + len(": ")

    def __str__(self) -> str:
        """Return the value as far as it is written, folds as LF and a space."""
        return "".join(self._parts)

    def word(self, text: str) -> None:
        """Write a word behind a space, or on a line of its own."""
        self._put(text, " " if self._parts else "")

    def names(self, tag: str, names: Iterable[str]) -> None:
        """Write names between colons, which lines may end behind."""
        first, *others = names
        waiting = f"{tag}={first}"
        put = self.word
        for name in others:
            put(waiting + ":")
            put, waiting = self._glue, name
        put(waiting + ";")

    def base64(self, text: str) -> None:
        """Write what may be cut anywhere."""
        while text:
            room = _WIDTH - self._used
            if room <= 0:
                self._glue(text[: _WIDTH - 1])
                text = text[_WIDTH - 1 :]
            else:
                self._glue(text[:room])
                text = text[room:]

    def _glue(self, text: str) -> None:
        self._put(text, "")

    def _put(self, text: str, before: str) -> None:
        if self._used + len(before) + len(text) > _WIDTH and self._parts:
            before = _FOLD
            self._used = 0
        self._parts.append(before + text)
        self._used += len(before.lstrip("\n")) + len(text)
