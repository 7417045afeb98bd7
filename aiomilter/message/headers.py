"""The header section of a message as a list that can be changed; what is not changed keeps every octet."""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, Self, overload

from aiomilter.exceptions import LocalProtocolError
from aiomilter.mail import headers
from aiomilter.mail.addresses import addresses
from aiomilter.mail.encoding import encoded_text
from aiomilter.wire.text import header_name, header_value

__all__ = ["Field", "Headers"]

_NEW: Final = -1
_raw: Final = attrgetter("raw")


class Field(headers.Field):
    """One header field, immutable: ``name``, ``value``, ``text`` (decoded, on one line), ``raw`` (all octets)."""

    __slots__ = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The mailboxes that the value names, in order, without names and comments."""
        return addresses(self.value)


class Headers(Sequence[Field]):
    """The header fields from top to bottom.

    Fields that the MTA has shown are never reordered: to move one, remove it and insert another.  A field is meant by
    identity, since two fields of a message may be equal.  All methods that write raise :class:`LocalProtocolError` for a name
    or value that must not reach an MTA.

    Args:
        fields: As the MTA has shown them.
    """

    __slots__ = ("_fields", "_hint", "_ids", "_origins", "original")

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self.original: tuple[Field, ...] = tuple(fields)
        """The fields as the MTA has shown them."""
        self._fields: list[Field] = list(self.original)
        # The identity of each field: found by C code, however many fields there are.
        self._ids: list[int] = list(map(id, self._fields))
        # Where a field was found last: whoever goes through all fields means this one or the next.
        self._hint = 0
        # Of each field the place of the one it stands for among the original ones.
        self._origins: list[int] = list(range(len(self._fields)))

    def copy(self) -> Self:
        """Return a list that changes apart from this one."""
        other = type(self).__new__(type(self))
        other._hint = 0
        other.original = self.original
        other._fields, other._ids, other._origins = [*self._fields], [*self._ids], [*self._origins]
        return other

    # ------------------------------------------------------------------------------------------------------- reading

    def __len__(self) -> int:
        """Return how many fields there are."""
        return len(self._fields)

    def __iter__(self) -> Iterator[Field]:
        """Return the fields from top to bottom, as they are now."""
        return iter([*self._fields])

    def __contains__(self, field: object) -> bool:
        """Return whether there is a field of this name, or this field."""
        return self.get(field) is not None if isinstance(field, str) else id(field) in self._ids

    @overload
    def __getitem__(self, place: int) -> Field: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Field]: ...
    def __getitem__(self, place: int | slice) -> Field | Sequence[Field]:
        """Return the field at a place, 0 is the top."""
        return self._fields[place]

    def get(self, name: str) -> Field | None:
        """Return the topmost field of a name in any letter case; None if there is none."""
        key = _key(name)
        return next((field for field in self._fields if field.key == key), None)

    def get_all(self, name: str) -> tuple[Field, ...]:
        """Return all fields of a name in any letter case, from top to bottom."""
        key = _key(name)
        return tuple(field for field in self._fields if field.key == key)

    def text(self, name: str) -> str:
        """Return the value of the topmost field of a name for people: decoded, on one line; "" if there is none."""
        field = self.get(name)
        return "" if field is None else field.text

    def addresses(self, name: str) -> tuple[str, ...]:
        """Return the mailboxes in all fields of a name, in order."""
        return tuple(mailbox for field in self.get_all(name) for mailbox in field.addresses)

    @property
    def changed(self) -> bool:
        """Whether a field was added, removed or replaced."""
        return self._ids != list(map(id, self.original))

    def octets(self) -> bytes:
        """Return all fields as they are now, without the empty line that ends the section."""
        return b"".join(map(_raw, self._fields))

    # ------------------------------------------------------------------------------------------------------- writing

    def append(self, name: str, value: str, *, raw: bytes | None = None) -> Field:
        """Add a field at the end, and return it.

        Args:
            name: Printable ASCII without colon and blank.
            value: Text; folds are a line end before a space or tab.
            raw: All that follows the colon, as octets, instead of a value: for signers.
        """
        return self._insert(len(self._fields), made(name, value, raw))

    def prepend(self, name: str, value: str, *, raw: bytes | None = None) -> Field:
        """Add a field above all others, and return it; the arguments are as for :meth:`append`."""
        return self._insert(0, made(name, value, raw))

    def insert_before(self, field: Field, name: str, value: str, *, raw: bytes | None = None) -> Field:
        """Add a field above another, and return it; the rest is as for :meth:`append`.

        Raises:
            ValueError: The other is not in the list.
        """
        return self._insert(self._place(field), made(name, value, raw))

    def insert_after(self, field: Field, name: str, value: str, *, raw: bytes | None = None) -> Field:
        """Add a field below another, and return it; the rest is as for :meth:`append`.

        Raises:
            ValueError: The other is not in the list.
        """
        return self._insert(self._place(field) + 1, made(name, value, raw))

    def replace(self, field: Field, value: str, *, raw: bytes | None = None) -> Field:
        """Give a field another value, and return the new one; its name stays as it is written.

        Raises:
            ValueError: The field is not in the list.
        """
        return self._put(self._place(field), made(field.name, value, raw))

    def remove(self, field: Field) -> None:
        """Remove a field.

        Raises:
            ValueError: It is not in the list.
        """
        place = self._place(field)
        _check_name(field)
        del self._fields[place], self._ids[place], self._origins[place]

    def remove_all(self, name: str) -> int:
        """Remove all fields of a name in any letter case, and return how many there were."""
        key, before = _key(name), len(self._fields)
        kept = [place for place, field in enumerate(self._fields) if field.key != key]
        if len(kept) < before:
            header_name(name)
            self._fields = [self._fields[place] for place in kept]
            self._ids = [self._ids[place] for place in kept]
            self._origins = [self._origins[place] for place in kept]
        return before - len(kept)

    def set(self, name: str, value: str, *, raw: bytes | None = None) -> Field:
        """Have one field of a name, and return it: at the place of the topmost one there was, or at the end."""
        field = made(name, value, raw)
        found = self.get_all(name)
        for other in found[1:]:
            self.remove(other)
        return self._put(self._place(found[0]), field) if found else self._insert(len(self._fields), field)

    def set_text(self, name: str, text: str) -> Field:
        """Have one field of a name with this text, folded, and encoded where it is not ASCII (RFC 2047)."""
        return self.set(name, encoded_text(text, len(name) + 2))

    def _place(self, field: Field) -> int:
        for place in (self._hint, self._hint + 1):
            if place < len(self._fields) and self._fields[place] is field:
                self._hint = place
                return place
        try:
            self._hint = self._ids.index(id(field))
            return self._hint
        except ValueError:
            raise ValueError(f"expected a field of this message, found {field!r:.200}") from None

    def _insert(self, place: int, field: Field) -> Field:
        self._fields.insert(place, field)
        self._ids.insert(place, id(field))
        self._origins.insert(place, _NEW)
        return field

    def _put(self, place: int, field: Field) -> Field:
        _check_name(self._fields[place])
        self._fields[place], self._ids[place] = field, id(field)
        return field

    def entries(self) -> list[tuple[Field, int]]:
        """Return the fields, each with its place among the original ones; -1 for a new one."""
        return list(zip(self._fields, self._origins, strict=True))


def made(name: str, value: str, raw: bytes | None = None) -> Field:
    """Return a field made from text, or from the octets behind its colon.

    Raises:
        LocalProtocolError: Name, value or octets must not reach an MTA.
    """
    header_name(name)
    text = " " + value if raw is None and isinstance(value, str) else value
    if raw is not None:
        text = raw.removesuffix(b"\r\n").decode("utf-8", "surrogateescape")
    text = header_value(text).replace("\n", "\r\n")
    return Field(f"{name}:{text}\r\n".encode("utf-8", "surrogateescape"))


def _check_name(field: Field) -> None:
    """Raise where no MTA can be told which field is meant."""
    try:
        header_name(field.name)
    except LocalProtocolError:
        raise LocalProtocolError(f"expected a field whose name an MTA takes, found {field!r:.200}") from None


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape").lower()
