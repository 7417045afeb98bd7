"""Messages written as they were read."""

import re
from contextlib import suppress
from email.generator import BytesGenerator
from email.policy import Compat32
from typing import Any, Final

__all__ = ["AS_READ", "MimeGenerator"]

_LINE_LENGTH: Final = 78
"""Characters of a line of a header that has to be encoded."""
# What ends a header, or makes another of its rest.
_NO_FOLD: Final = re.compile(r"\r?\n(?![ \t])|\r(?!\n)")
_LINE_END: Final = re.compile(r"\r?\n")
# What Python splits lines at besides; of a header it would make two.
_SPLITS: Final = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_LAST_BLANK: Final = re.compile(r"(?<=[^ \t\n]) (?=\r?\n|\Z)")


class _AsRead(Compat32):
    """Writes headers as they were read, except for a blank at the end of a folded line, as pymilter does.

    What programs have set, if it is not ASCII, and what is to be wrapped is written as :mod:`email` does, which takes time with
    the square of a line's length.
    """

    def fold(self, name: str, value: Any) -> str:
        """Return a header as text."""
        if isinstance(value, str) and value.isascii() and self._as_read(value):
            return self._lines(name, _LAST_BLANK.sub("", value) if "\n" in value else value)
        return self._wrapped(name, value)

    def fold_binary(self, name: str, value: Any) -> bytes:
        """Return a header as octets."""
        if isinstance(value, str) and not value.isascii() and self._as_read(value):
            # Values that programs have set are text, and have to be encoded.
            with suppress(UnicodeEncodeError):
                return self._lines(name, value).encode("ascii", "surrogateescape")
        return self.fold(name, value).encode("ascii", "surrogateescape")

    def _as_read(self, value: str) -> bool:
        return not self.max_line_length and not _NO_FOLD.search(value)

    def _lines(self, name: str, value: str) -> str:
        return self.linesep.join([*_LINE_END.split(f"{name}: {value}"), ""])

    def _wrapped(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            # Octets among other characters have no charset that would hold both.
            value = _SPLITS.sub(" ", value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        policy = Compat32(linesep=self.linesep, max_line_length=self.max_line_length or _LINE_LENGTH)
        return policy.fold(name, value)


AS_READ: Final = _AsRead()
"""How messages are written."""


class MimeGenerator(BytesGenerator):
    """Writes a message as it was read, except for the parts that were changed.

    Args:
        outfp: File of octets.
        mangle_from_: Whether ``From`` at the beginning of a line gets a ``>`` before it.
        maxheaderlen: Length that headers are wrapped at; 0 leaves them as they are.
        policy: How the rest is written, see :mod:`email.policy`.
    """

    def __init__(
        self, outfp: Any, mangle_from_: bool = True, maxheaderlen: int | None = 0, *, policy: Any = AS_READ
    ) -> None:
        super().__init__(outfp, mangle_from_, maxheaderlen, policy=policy)

    def _dispatch(self, msg: Any) -> None:
        if isinstance(msg._payload, str):
            # Also a multipart whose parts were not found: others than text would lose their octets.
            self._handle_text(msg)  # type: ignore[attr-defined]
        else:
            super()._dispatch(msg)  # type: ignore[misc]
