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


def read_object(octets: bytes) -> Mapping[str, Json]:
    """Return an object.

    Raises:
        Unavailable: It is not one.
    """
    try:
        found: Json = json.loads(octets.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Unavailable("expected an answer of JSON") from None
    if not isinstance(found, dict):
        raise Unavailable("expected an object of JSON")
    return found


def mapping(value: Json) -> Mapping[str, Json]:
    """Return an object as it is, an empty one instead of anything else."""
    return value if isinstance(value, dict) else _EMPTY
