"""A header section as it was sent: its fields in order, every octet kept.

Fields are read-only: signatures cover these octets, and an edit is made by comparing with what was there.
Time is linear in the octets, and what is kept is bounded.

Source: RFC 5322 sections 2.1 and 2.2.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, Self, overload

from aiomilter.mail.encoded_words import header_text

__all__ = ["MAX_FIELDS", "MAX_SIZE", "Field", "HeaderSection", "split_message"]

MAX_FIELDS: Final = 5_000
"""Fields of a section that are kept, unless told otherwise: as many as a session takes."""
MAX_SIZE: Final = 4_194_304
"""Octets of a section that are kept, unless told otherwise: as many as a session takes."""

_BLANKS: Final = b" \t"
# Names of so many octets at most are kept once they are read, so many of them.
_SHORT, _SHORT_KEPT = 64, 1_000
# Where a field ends: at a line end that is not a fold.
_END: Final = re.compile(rb"\r\n(?![ \t])")
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_NAME: Final = re.compile(r"[!-9;-~]+")
# A line end that is not a fold, and octets that no field may hold.
_BREAK: Final = re.compile(r"\0|\r|\n(?![ \t])")
_new: Final = object.__new__


class Field:
    """One header field, and the octets it is made of.

    A line without a colon is a field as well, with no name: so nothing of a section is lost.

    Args:
        raw: All of its octets: name, colon, value with its folds as CRLF, and the CRLF at its end, which may be left out.
    """

    __slots__ = ("_colon", "_key", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw: bytes = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
        """All octets, CRLF at the end."""
        # Looked for at its first use, with the colon: a field that is only kept costs half.
        self._key: bytes | None = None

    @property
    def key(self) -> bytes:
        """The name as it is compared: lower case, without the blanks before the colon; empty where there is no colon."""
        key = self._key
        return self._find_name() if key is None else key

    def _find_name(self) -> bytes:
        raw = self.raw
        colon = raw.find(b":")
        key: bytes | None = b""
        if colon > 0:
            key = _short_key(raw[:colon]) if colon <= _SHORT else _written_key(raw[:colon])
        self._colon = -1 if key is None else colon
        self._key = key = key or b""
        return key

    @classmethod
    def made(cls, name: str, value: str, separator: str = " ") -> Self:
        """Return a field made from text.

        Args:
            name: Printable ASCII without colon.
            value: Text; surrogates stand for octets that are not UTF-8.  Folds are LF or CRLF before a space or tab.
            separator: What stands between colon and value.
        Raises:
            ValueError: The name is not one, or the value holds NUL, CR or a line end that is not a fold.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected the name of a header field, found {name[:80]!r}")
        text = value.replace("\r\n", "\n")
        if found := _BREAK.search(text):
            raise ValueError(f"expected a header value without NUL and line ends except folds, found {found[0]!r}")
        return cls(f"{name}:{separator}{text}\n".replace("\n", "\r\n").encode("utf-8", "surrogateescape"))

    @property
    def name(self) -> str:
        """As it is written, without the blanks before the colon; "" where there is no colon."""
        return _text(self.raw[: self._colon].rstrip(_BLANKS)) if self.key else ""

    @property
    def octets(self) -> bytes:
        """All that follows the colon, folds and blanks included, without the CRLF at the end."""
        if self._key is None:
            self._find_name()
        return self.raw[self._colon + 1 : -2]

    @property
    def value(self) -> str:
        """What follows the colon and, if there, one space; folds as LF and blank.

        Octets that are not UTF-8 are surrogates (PEP 383), which files and databases refuse: give these :attr:`text`.
        """
        return _text(self.octets).removeprefix(" ").replace("\r\n", "\n")

    @property
    def unfolded(self) -> str:
        """The value without its folds and the blanks at its ends."""
        return _FOLD.sub("", self.value).strip(" \t")

    @property
    def text(self) -> str:
        """The value for people: on one line, encoded words decoded (RFC 2047), U+FFFD for octets that are not UTF-8."""
        return header_text(self.value)

    def __eq__(self, other: object) -> bool:
        """Whether all octets are the same."""
        return self.raw == other.raw if isinstance(other, Field) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of its octets."""
        return hash(self.raw)

    def __repr__(self) -> str:
        """Show its octets, as many as one can read."""
        return f"Field({self.raw[:100]!r}{'...' if len(self.raw) > 100 else ''})"


class HeaderSection(Sequence[Field]):
    """The header fields of one message, in the order received.

    Args:
        fields: Those to begin with.
        max_fields: How many are kept at most.
        max_size: Octets kept at most.
    """

    __slots__ = ("_fields", "_places", "complete", "max_fields", "max_size", "size")

    def __init__(self, fields: Iterable[Field] = (), *, max_fields: int = MAX_FIELDS, max_size: int = MAX_SIZE) -> None:
        self.max_fields: int = max_fields
        self.max_size: int = max_size
        self.size: int = 0
        """Octets of all fields kept."""
        self.complete: bool = True
        """False as soon as a field was too much; it and whatever came after it is not here."""
        self._fields: list[Field] = []
        # Of each name the places of its fields, from the top.
        self._places: dict[bytes, list[int]] = {}
        for field in fields:
            self._keep(field)

    def append(self, raw: bytes) -> bool:
        """Add a field at the end.

        Args:
            raw: Its octets, as :class:`Field` takes them.
        Returns:
            False if it is more than the section may hold.
        """
        if not raw.endswith(b"\r\n"):
            # The check spares a copy of what is not kept.
            raw = raw + b"\r\n" if len(raw) <= self.max_size else raw
        fields, size = self._fields, self.size + len(raw)
        place = len(fields)
        if size > self.max_size or place >= self.max_fields or not self.complete:
            self.complete = False
            return False
        # All in one: each call less is a call less for each field of each message (``benchmarks auth``).
        colon = raw.find(b":")
        key = _short_key(raw[:colon]) if 0 < colon <= _SHORT else None
        field = _new(Field)
        field.raw, field._key, field._colon = raw, key, colon
        if key is None:
            key = field._find_name()
        places = self._places.get(key)
        if places is None:
            self._places[key] = [place]
        else:
            places.append(place)
        fields.append(field)
        self.size = size
        return True

    def _keep(self, field: Field) -> None:
        if not self.append(field.raw):
            return
        # The very field: signatures are told by identity.
        self._fields[-1] = field

    def __len__(self) -> int:
        """Return how many fields there are."""
        return len(self._fields)

    def __iter__(self) -> Iterator[Field]:
        """Return the fields from top to bottom."""
        return iter(self._fields)

    @overload
    def __getitem__(self, place: int) -> Field: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Field]: ...
    def __getitem__(self, place: int | slice) -> Field | Sequence[Field]:
        """Return the field at a place, 0 is the top."""
        return self._fields[place]

    def get(self, name: str) -> Field | None:
        """Return the topmost field of a name in any letter case; None if there is none."""
        places = self._places.get(_key(name))
        return self._fields[places[0]] if places else None

    def get_all(self, name: str) -> tuple[Field, ...]:
        """Return all fields of a name in any letter case, from top to bottom."""
        places = self._places.get(_key(name))
        return tuple([self._fields[place] for place in places]) if places else ()

    def repeated(self) -> list[bytes]:
        """Return the names that stand more than once, lower case, in the order of their topmost fields."""
        if len(self._places) == len(self._fields):
            return []
        return [key for key, places in self._places.items() if len(places) > 1]

    def from_below(self, names: Iterable[str], *, without: Field | None = None) -> list[Field]:
        """Return the field that each name in turn means, from the lowest of that name upwards.

        A name that is there once more than there are fields of it means nothing, and adds nothing.

        Args:
            names: In any letter case.
            without: A field that no name means, itself and not one that equals it: the signature being checked.

        Source: RFC 6376 section 5.4.2.
        """
        found: list[Field] = []
        # Of each name how many of its fields are left, from the top.
        left: dict[bytes, int] = {}
        for name in names:
            # As _key does, a call less for each name.
            key = _short_encoded_key(name) if len(name) <= _SHORT else _encoded_key(name)
            places = self._places.get(key)
            if places is None:
                continue
            at = left.get(key)
            if at is None:
                at = len(places)
            while at:
                at -= 1
                field = self._fields[places[at]]
                if field is not without:
                    found.append(field)
                    break
            left[key] = at
        return found

    def raw(self) -> bytes:
        """Return the octets of all fields, without the empty line that ends a section."""
        return b"".join([field.raw for field in self._fields])


def split_message(
    message: bytes, *, max_fields: int = MAX_FIELDS, max_size: int = MAX_SIZE
) -> tuple[HeaderSection, int]:
    """Read the header section of a message whose line ends are CRLF.

    Args:
        message: All of it.
        max_fields: How many fields are kept at most.
        max_size: Octets of fields kept at most.
    Returns:
        The section, and where the body begins: behind the first empty line, or at the end if there is none.
    """
    section = HeaderSection(max_fields=max_fields, max_size=max_size)
    if message.startswith(b"\r\n"):
        return section, 2
    end = message.find(b"\r\n\r\n")
    body = len(message) if end < 0 else end + 4
    end = len(message) if end < 0 else end + 2
    begin = 0
    while begin < end and section.complete:
        found = _END.search(message, begin, end)
        stop = end if found is None else found.end()
        section.append(message[begin:stop])
        begin = stop
    return section, body


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _written_key(name: bytes) -> bytes | None:
    """Return a name as it is compared; None if what stands before the first colon is none."""
    # The name ends in the first line: what looks like one behind a fold is part of a line without a colon.
    return None if b"\r\n" in name else name.rstrip(_BLANKS).lower()


# The names of fields are few, and all messages have them (``benchmarks auth``).
_short_key = lru_cache(maxsize=_SHORT_KEPT)(_written_key)


def _encoded_key(name: str) -> bytes:
    # Octets have letter case in ASCII alone, as names of fields have.
    return name.encode("utf-8", "surrogateescape").lower()


_short_encoded_key = lru_cache(maxsize=_SHORT_KEPT)(_encoded_key)


def _key(name: str) -> bytes:
    return _short_encoded_key(name) if len(name) <= _SHORT else _encoded_key(name)
