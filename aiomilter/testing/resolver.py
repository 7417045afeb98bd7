"""A resolver that answers from a zone written in the test: no socket, no server, no waiting."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias, cast, get_args

from aiomilter.dns import MX, Answer, RdType, Record, question_name
from aiomilter.exceptions import ResolverFailure, ResolverTimeout

__all__ = ["FAILURE", "HANG", "TIMEOUT", "Trouble", "Zone", "ZoneResolver"]


class Trouble(Enum):
    """What a question can meet besides an answer."""

    TIMEOUT = "TIMEOUT"
    FAILURE = "FAILURE"
    HANG = "HANG"


TIMEOUT = Trouble.TIMEOUT
"""In place of records: raises ResolverTimeout at once."""
FAILURE = Trouble.FAILURE
"""In place of records: raises ResolverFailure at once."""
HANG = Trouble.HANG
"""In place of records: never answers, until whoever asks is cancelled."""

_Value: TypeAlias = str | bytes
Zone: TypeAlias = str | Mapping[str, Trouble | Mapping[RdType, Trouble | _Value | Sequence[_Value]]]
"""A text of ``name TYPE value`` lines, or a mapping of names to types to values; a test uses what reads better."""

# A chain longer than this is a loop.
_MAX_CHAIN = 16


class ZoneResolver:
    """Answers DNS questions from a zone, as a :class:`~aiomilter.dns.Resolver`.

    The text form has one record a line, ``#`` starts a comment, and a TXT value may be quoted::

        example.com      TXT   "v=spf1 mx -all"
        example.com      MX    10 mx.example.com
        mx.example.com   A     192.0.2.1
        www.example.com  CNAME example.com
        slow.example     TXT   TIMEOUT
        broken.example   *     FAILURE
        silent.example   *     HANG

    Names above a name in the zone exist and are empty, CNAMEs are followed, every other name does not exist.

    Args:
        zone: The records.
        ttl: Seconds that answers say they may be kept.
    Raises:
        ValueError: The zone is not written as above.
    """

    def __init__(self, zone: Zone = "", *, ttl: int = 300) -> None:
        self.ttl = ttl
        self.queries: list[tuple[str, RdType]] = []
        """Every question so far, in order."""
        self._records: dict[tuple[str, str], list[Record] | Trouble] = {}
        self._names: set[str] = set()
        if isinstance(zone, str):
            self._read_text(zone)
        else:
            for name, types in zone.items():
                if isinstance(types, Trouble):
                    self.add(name, "*", types)
                    continue
                for rdtype, values in types.items():
                    for value in [values] if isinstance(values, (str, bytes, Trouble)) else values:
                        self.add(name, rdtype, value)

    def add(self, name: str, rdtype: RdType | str, value: str | bytes | Trouble) -> None:
        """Add a record, or trouble for a name and type; the type ``"*"`` is all types without records.

        Raises:
            ValueError: The name, the type or the value is not one.
        """
        owner = question_name(name)
        if owner is None:
            raise ValueError(f"not a name that DNS can hold: {name!r}")
        if rdtype not in (*get_args(RdType), "*") or (rdtype == "*" and not isinstance(value, Trouble)):
            raise ValueError(f"not a record type with a value: {rdtype!r} {value!r}")
        if isinstance(value, Trouble):
            self._records[owner, rdtype] = value
        else:
            records = self._records.setdefault((owner, rdtype), [])
            if isinstance(records, Trouble):
                raise ValueError(f"{name!r} {rdtype} has both records and {records.value}")
            records.append(_record(cast(RdType, rdtype), value))
        while owner and owner not in self._names:
            self._names.add(owner)
            owner = owner.partition(".")[2]

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question; see :meth:`aiomilter.dns.Resolver.lookup`."""
        asked = question_name(name)
        if asked is None:
            return Answer(name, rdtype, exists=False)
        self.queries.append((asked, rdtype))
        owner = asked
        for _ in range(_MAX_CHAIN):
            records = self._records.get((owner, rdtype))
            if records is None and (alias := self._records.get((owner, "CNAME"))) and not isinstance(alias, Trouble):
                owner = str(alias[0]).lower()
                continue
            if records is None:
                records = self._records.get((owner, "*"), [])
            if isinstance(records, Trouble):
                return await _meet(records, asked, rdtype)
            canonical = "" if owner == asked else owner
            return Answer(asked, rdtype, tuple(records), self.ttl, owner in self._names, canonical)
        raise ResolverFailure(f"no usable answer to {asked!r} {rdtype}: a loop of CNAMEs")

    def _read_text(self, zone: str) -> None:
        for line in zone.splitlines():
            words = line.strip().split(None, 2)
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 3:
                raise ValueError(f"expected name, type and value, found {line!r}")
            name, rdtype, value = words
            if value in Trouble.__members__:
                self.add(name, rdtype, Trouble[value])
            elif rdtype == "TXT" and value.startswith('"'):
                self.add(name, rdtype, "".join(shlex.split(value)))
            else:
                self.add(name, rdtype, value)


async def _meet(trouble: Trouble, name: str, rdtype: RdType) -> Answer:
    if trouble is TIMEOUT:
        raise ResolverTimeout(f"no answer to {name!r} {rdtype}")
    if trouble is HANG:
        await asyncio.get_running_loop().create_future()
    raise ResolverFailure(f"no usable answer to {name!r} {rdtype}")


def _record(rdtype: RdType, value: str | bytes) -> Record:
    if rdtype == "TXT":
        return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    text = value.decode("ascii") if isinstance(value, bytes) else value
    match rdtype:
        case "A":
            return IPv4Address(text)
        case "AAAA":
            return IPv6Address(text)
        case "MX":
            preference, _, exchange = text.partition(" ")
            return MX(int(preference), exchange.strip().removesuffix("."))
        case _:
            return text.removesuffix(".")
