"""Read a JSON object that another program has written.

Source: RFC 8259.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from aiomilter.scan._trouble import Unavailable

__all__ = ["Json", "mapping", "read_object"]

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
"""A value of JSON."""

_EMPTY: Final[Mapping[str, Json]] = MappingProxyType({})
_MOST: Final = 50_000
"""Strings, and values, of an object: they are what takes time, 4 MiB of nothing but empty lists a second.  A message has some
10,000 links and as many addresses at most, which rspamd names."""


def read_object(octets: bytes) -> Mapping[str, Json]:
    """Return an object.

    Raises:
        Unavailable: It is not one, or has too many values.
    """
    _check_number_of_values(octets)
    try:
        found: Json = json.loads(octets.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Unavailable("expected an answer of JSON") from None
    if not isinstance(found, dict):
        raise Unavailable("expected an object of JSON")
    return found


def _check_number_of_values(octets: bytes) -> None:
    # What is in a string is a sender's, and counts as one.
    plain = octets.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') <= 2 * _MOST:
        outside = b"".join(plain.split(b'"')[::2])
        if sum(map(outside.count, (b",", b"[", b"{"))) <= _MOST:
            return
    raise Unavailable(f"expected an answer of at most {_MOST:,} values")


def mapping(value: Json) -> Mapping[str, Json]:
    """Return an object as it is, an empty one instead of anything else."""
    return value if isinstance(value, dict) else _EMPTY
