"""DNS messages: encodes a question, and decodes the answer to it.

No socket, no clock.  A message comes from strangers, so reading one is bounded and linear: a name at an offset is read
once, a pointer leads back, and labels, records and character-strings are counted.
"""

import struct
from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, TypeAlias

from aiomilter.dns.answers import MX, Answer, RdType, Record
from aiomilter.dns.names import display_name

__all__ = [
    "MAX_LINKS",
    "MAX_RECORDS",
    "MAX_STEPS",
    "Alias",
    "Fault",
    "Question",
    "Reading",
    "Refusal",
    "Useless",
    "belongs",
    "bounded_ttl",
    "read_answer",
]

MAX_RECORDS: Final = 500
"""Records that an answer may hold, several times what domains publish.  More is a failure: no part of them is an answer."""
MAX_LINKS: Final = 16
"""Aliases (CNAMEs) in a row."""
MAX_STEPS: Final = 3000
"""Labels, pointers, records and character-strings read in one message.

The dearest of them, a record with a name of its own, takes 3 µs on CPython 3.11.7 (x86-64), so that of the messages of
65,535 octets that ``tests/dns/test_message.py`` generates the worst takes 9 ms of CPU, 13 ms on a busy machine.  An honest
one needs ten, or a few hundred.
"""

# What fits any path without fragments: DNS flag day 2020.
_PAYLOAD: Final = 1232
# After the id: recursion desired, one question; and no other record, or one, the OPT record that is all of EDNS.
_PLAIN: Final = b"\1\0\0\1\0\0\0\0\0\0"
_EDNS: Final = b"\1\0\0\1\0\0\0\0\0\1"
_OPT: Final = b"\0\0\x29" + _PAYLOAD.to_bytes(2) + bytes(6)

_IN: Final = 1
_TYPES: Final[dict[RdType, int]] = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
_NS, _CNAME, _SOA, _DNAME, _OPT_TYPE, _RRSIG = 2, 5, 6, 39, 41, 46

_HEADER: Final = struct.Struct(">HHHHHH")
_FIXED: Final = struct.Struct(">HHIH")
_SERIALS: Final = struct.Struct(">IIIII")
_AA, _TC, _RA = 0x0400, 0x0200, 0x0080
_NOERROR, _NXDOMAIN = 0, 3
# What a server may say without repeating the question.
_REFUSALS: Final = (1, 2, 4, 5)
_RCODES: Final = {
    1: "FORMERR",
    2: "SERVFAIL",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    16: "BADVERS",
    23: "BADCOOKIE",
}
_MAX_NAME: Final = 255
_MAX_POINTERS: Final = 127
_MAX_TTL: Final = 0x7FFFFFFF


class Question(NamedTuple):
    """One question.

    Args:
        name: The name asked for, as :func:`aiomilter.dns.display_name` writes it, lower case.
        rdtype: The record type.
        octets: Name, type and class as they stand in a message.
    """

    name: str
    rdtype: RdType
    octets: bytes

    @classmethod
    def of(cls, name: str, rdtype: RdType) -> "Question":
        """Return the question for a name in the form of :func:`aiomilter.dns.question_name`.

        A backslash in it is a backslash, not an escape.
        """
        labels = name.encode("ascii").split(b".")
        octets = b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"
        shown = display_name(labels) if "\\" in name or " " in name else name
        return cls(shown, rdtype, octets + _TYPES[rdtype].to_bytes(2) + b"\0\1")

    def query(self, number: int, *, edns: bool) -> bytes:
        """Return the message that asks it.

        Args:
            number: The message's id, 0..65535.
            edns: Whether to say that answers of up to 1232 octets can be taken.

        Source: RFC 1035 section 4.1; RFC 6891 section 6.1.
        """
        return number.to_bytes(2) + (_EDNS if edns else _PLAIN) + self.octets + (_OPT if edns else b"")


class Alias(NamedTuple):
    """An answer that has only the alias of a name, and no records of its target.

    Args:
        question: The question to go on with.
        canonical: The name at the end of the aliases, in the letter case received.
        ttl: Seconds the aliases may be kept.
        links: How many aliases there are, 1 or more.
    """

    question: Question
    canonical: str
    ttl: int
    links: int


class Refusal(NamedTuple):
    """An answer whose RCODE says that there is none.

    Args:
        rcode: With the upper bits that an OPT record holds.
        edns: Whether there was an OPT record.
    """

    rcode: int
    edns: bool

    @property
    def problem(self) -> str:
        """The name of the RCODE."""
        return _RCODES.get(self.rcode, f"RCODE {self.rcode}")

    @property
    def may_be_of_edns(self) -> bool:
        """Whether the same question without EDNS may be answered.

        A server that knows EDNS and fails puts an OPT record into what it says.

        Source: RFC 6891 sections 6.1.3 and 7.
        """
        return self.rcode in (1, 4, 16) or (self.rcode == 2 and not self.edns)


class Fault(Enum):
    """What makes a message useless."""

    TRUNCATED = "it says that it is cut short"
    MALFORMED = "it breaks off, or is not in the form of a message"
    TOO_MUCH = "it has more than we read"
    UNPROVEN = "it does not answer the question"


class Useless(NamedTuple):
    """A message without a usable answer.

    Args:
        fault: Why, as far as it decides what to do now.
        problem: Why, for people.
    """

    fault: Fault
    problem: str


Reading: TypeAlias = Answer | Alias | Refusal | Useless


def belongs(octets: bytes, query: bytes) -> bool:
    """Return whether octets are an answer to a query: its id, and its question in any letter case.

    An answer that refuses may leave the question out, or be a header that has the counts of the query.
    """
    if len(octets) < 12 or octets[:2] != query[:2] or octets[2] & 0xF8 != 0x80:
        return False
    if octets[4:6] == b"\0\0" or len(octets) == 12:
        return octets[3] & 15 in _REFUSALS
    end = query.index(0, 12) + 1
    return (
        octets[4:6] == b"\0\1"
        and octets[12:end].lower() == query[12:end].lower()
        and octets[end : end + 4] == query[end : end + 4]
    )


def read_answer(octets: bytes, question: Question) -> Reading:
    """Return the answer in a message that belongs to a question (see :func:`belongs`).

    The absence of records is believed only of a complete, well-formed message that holds nothing else, and if it is
    vouched for: by the SOA record of a zone that the name is in, or by a server with authority or recursion.

    Source: RFC 1035 section 4.1; RFC 2181 section 8; RFC 2308 sections 2 and 5; RFC 6604; RFC 6891 section 6.1.
    """
    return _Reader(octets, question).read()


class _MalformedError(Exception):
    """A message that breaks its form; it never leaves this module."""


class _TooMuchError(Exception):
    """A message that has more than we read; it never leaves this module."""


# A name's text, its octets (the last one included), and the offset after it where it stands: after its first pointer.
# A tuple, for it is made for each record.
_Name: TypeAlias = tuple[str, int, int]


class _RR(NamedTuple):
    owner: str
    rdtype: int
    ttl: int
    start: int
    end: int


_ROOT: Final[_Name] = ("", 1, 0)


class _Reader:
    """Reads one message; ``steps`` counts what has been read."""

    def __init__(self, octets: bytes, question: Question) -> None:
        self.steps = 0
        self._octets = octets
        self._question = question
        self._names: dict[int, _Name] = {}
        self._flags = 0

    def read(self) -> Reading:
        if len(self._octets) < _HEADER.size:
            return Useless(Fault.MALFORMED, "malformed answer (it breaks off)")
        _, self._flags, questions, *counts = _HEADER.unpack_from(self._octets)
        rcode = self._flags & 15
        if self._flags & _TC:
            return Useless(Fault.TRUNCATED, "truncated answer")
        try:
            at = 12
            if questions:
                at += len(self._question.octets)
                # As asked: servers repeat it in other letter cases.
                self._names[12] = (self._question.name, len(self._question.octets) - 4, at - 4)
            sections = []
            for count in counts:
                records, at = self._section(at, count)
                sections.append(records)
            answers, authority, additional = sections
            opt = _opt(answers, authority, additional)
            if opt is not None:
                rcode |= opt.ttl >> 24 << 4
            if rcode not in (_NOERROR, _NXDOMAIN):
                return Refusal(rcode, opt is not None)
            return self._answer(rcode, answers, authority, additional, whole=at == len(self._octets))
        except _TooMuchError:
            return Useless(Fault.TOO_MUCH, f"an answer of more than {MAX_STEPS} labels and records")
        except (_MalformedError, IndexError, struct.error) as error:
            if rcode not in (_NOERROR, _NXDOMAIN):
                return Refusal(rcode, False)
            what = str(error) if isinstance(error, _MalformedError) else "it breaks off"
            return Useless(Fault.MALFORMED, f"malformed answer ({what})")

    def _step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise _TooMuchError

    def _section(self, at: int, count: int) -> tuple[list[_RR], int]:
        """Return the records of one section, and the offset after them."""
        octets = self._octets
        found = []
        for _ in range(count):
            self._step()
            owner, _, at = self._name(at)
            rdtype, rdclass, ttl, size = _FIXED.unpack_from(octets, at)
            start, at = at + 10, at + 10 + size
            if at > len(octets):
                raise _MalformedError("it breaks off")
            # An OPT record has a size in place of a class.
            if rdclass != _IN and rdtype != _OPT_TYPE:
                rdtype = -1
            found.append(_RR(owner.lower(), rdtype, ttl, start, at))
        return found, at

    def _name(self, at: int, pointers: int = 0) -> _Name:
        """Return the name at an offset, which is read once, whatever points to it.

        Source: RFC 1035 sections 2.3.4 and 4.1.4.
        """
        known = self._names.get(at)
        if known is not None:
            return known
        octets, first = self._octets, at
        labels: list[bytes] = []
        while True:
            length = octets[at]
            if length >= 0xC0:
                target = (length & 0x3F) << 8 | octets[at + 1]
                if not 12 <= target < first:
                    raise _MalformedError("a pointer that does not lead back to a name")
                if pointers == _MAX_POINTERS:
                    raise _MalformedError(f"a name with more than {_MAX_POINTERS} pointers")
                rest, end = self._name(target, pointers + 1), at + 2
                break
            if not length:
                rest, end = _ROOT, at + 1
                break
            if length > 63:
                raise _MalformedError("a label of an unknown kind")
            labels.append(octets[at + 1 : at + 1 + length])
            at += 1 + length
            if at - first >= _MAX_NAME:
                raise _MalformedError(f"a name of more than {_MAX_NAME} octets")
        self._step(len(labels) + 1)
        text, size, _ = rest
        if labels:
            size += at - first
            if size > _MAX_NAME:
                raise _MalformedError(f"a name of more than {_MAX_NAME} octets")
            text = f"{display_name(labels)}.{text}" if text else display_name(labels)
        name = self._names[first] = (text, size, end)
        return name

    def _only_name(self, start: int, end: int) -> str:
        """Return the name that record data ends in."""
        text, _, after = self._name(start)
        if after != end:
            raise _MalformedError("a name that does not end with its record")
        return text

    def _answer(
        self, rcode: int, answers: list[_RR], authority: list[_RR], additional: list[_RR], *, whole: bool
    ) -> Reading:
        """Follow the aliases from the name asked for, and take the records at their end."""
        question = self._question
        wanted = _TYPES[question.rdtype]
        owners: dict[str, list[_RR]] = {}
        for record in answers:
            owners.setdefault(record.owner, []).append(record)
        name, ttl, canonical = question.name, _MAX_TTL, ""
        passed: set[str] = {name}
        links: list[_RR] = []
        while not (found := [record for record in owners.get(name, ()) if record.rdtype == wanted]):
            aliases = [record for record in owners.get(name, ()) if record.rdtype == _CNAME]
            if not aliases:
                break
            targets = {self._only_name(alias.start, alias.end) for alias in aliases}
            canonical = targets.pop()
            if any(target.lower() != canonical.lower() for target in targets):
                return Useless(Fault.UNPROVEN, "two aliases (CNAME) of one name")
            links.append(aliases[0])
            name = canonical.lower()
            if name in passed or len(links) > MAX_LINKS:
                return Useless(Fault.UNPROVEN, "a loop of aliases (CNAME)")
            passed.add(name)
            ttl = min(ttl, *(bounded_ttl(alias.ttl) for alias in aliases))
        if found:
            if rcode == _NXDOMAIN:
                return Useless(Fault.UNPROVEN, "NXDOMAIN with records")
            if len(found) > MAX_RECORDS:
                return Useless(Fault.TOO_MUCH, f"an answer of more than {MAX_RECORDS} records")
            ttl = min(ttl, *(bounded_ttl(record.ttl) for record in found))
            return Answer(question.name, question.rdtype, self._records(found), ttl, canonical=canonical)
        doubt = self._doubt(name, passed, answers, authority + additional)
        if doubt or not whole:
            return Useless(Fault.UNPROVEN, doubt or "octets after the last record")
        soa = self._soa_ttl(name, authority)
        entitled = soa is not None or self._flags & (_AA | _RA)
        if rcode == _NXDOMAIN and entitled:
            return Answer(question.name, question.rdtype, ttl=0 if soa is None else min(ttl, soa), exists=False)
        if rcode == _NOERROR and soa is not None:
            return Answer(question.name, question.rdtype, ttl=min(ttl, soa), canonical=canonical)
        if rcode == _NOERROR and links:
            return Alias(self._question_behind(links[-1]), canonical, ttl, len(links))
        if rcode == _NOERROR and any(record.rdtype in (_NS, _SOA) for record in authority):
            return Useless(Fault.UNPROVEN, "a referral to other servers")
        if not entitled:
            return Useless(Fault.UNPROVEN, "a server without authority or recursion")
        return Answer(question.name, question.rdtype)

    def _doubt(self, name: str, passed: set[str], answers: list[_RR], others: list[_RR]) -> str:
        """Return why a message without records is not proof of their absence; "" if it is."""
        wanted = _TYPES[self._question.rdtype]
        for record in answers:
            # A DNAME comes with the CNAME that it stands for, RRSIG with anything.
            if record.rdtype not in (_DNAME, _RRSIG) and (record.rdtype != _CNAME or record.owner not in passed):
                return "records that were not asked for"
            if record.rdtype == _DNAME and name.endswith(f".{record.owner}"):
                return "a DNAME without the alias (CNAME) that it makes"
        if any(record.rdtype == wanted and record.owner == name for record in others):
            return "records outside of the answer section"
        return ""

    def _soa_ttl(self, name: str, authority: list[_RR]) -> int | None:
        """Return how many seconds the absence of a name may be kept, by the SOA of its zone; None without one.

        Source: RFC 2308 sections 3 and 5.
        """
        ttls = []
        for record in authority:
            if record.rdtype == _SOA and (not record.owner or f".{name}".endswith(f".{record.owner}")):
                start = self._name(self._name(record.start)[2])[2]
                if start + _SERIALS.size != record.end:
                    raise _MalformedError("an SOA record of another size")
                ttls += [bounded_ttl(record.ttl), bounded_ttl(_SERIALS.unpack_from(self._octets, start)[4])]
        return min(ttls, default=None)

    def _question_behind(self, alias: _RR) -> Question:
        """Return the question for the name that an alias leads to, whose octets have been read."""
        octets, at = self._octets, alias.start
        labels = []
        while length := octets[at]:
            if length > 63:
                at = (length & 0x3F) << 8 | octets[at + 1]
                continue
            labels.append(octets[at : at + 1 + length])
            at += 1 + length
        name = b"".join(labels).lower() + b"\0"
        shown = self._name(alias.start)[0].lower()
        return Question(shown, self._question.rdtype, name + self._question.octets[-4:])

    def _records(self, found: list[_RR]) -> tuple[Record, ...]:
        """Return the data of records of the type asked for, without repetitions."""
        octets = self._octets
        data: Iterable[Record]
        match self._question.rdtype:
            case "A":
                data = map(IPv4Address, dict.fromkeys(self._addresses(found, 4)))
            case "AAAA":
                data = map(IPv6Address, dict.fromkeys(self._addresses(found, 16)))
            case "TXT":
                data = dict.fromkeys(self._text(record) for record in found)
            case "MX":
                data = dict.fromkeys(
                    MX(
                        int.from_bytes(octets[record.start : record.start + 2]),
                        self._only_name(record.start + 2, record.end),
                    )
                    for record in found
                )
            case "PTR" | "NS" | "CNAME":
                data = dict.fromkeys(self._only_name(record.start, record.end) for record in found)
        return tuple(data)

    def _addresses(self, found: list[_RR], size: int) -> list[bytes]:
        if any(record.end - record.start != size for record in found):
            raise _MalformedError("an address of another size")
        return [self._octets[record.start : record.end] for record in found]

    def _text(self, record: _RR) -> bytes:
        """Return the character-strings of a TXT record, joined.

        Source: RFC 1035 section 3.3.14; RFC 7208 section 3.3.
        """
        octets, at = self._octets, record.start
        strings: list[bytes] = []
        while at < record.end and self.steps + len(strings) <= MAX_STEPS:
            after = at + 1 + octets[at]
            strings.append(octets[at + 1 : after])
            at = after
        self._step(len(strings))
        if at != record.end or not strings:
            raise _MalformedError("a text that does not end with its record")
        return b"".join(strings)


def _opt(answers: list[_RR], authority: list[_RR], additional: list[_RR]) -> _RR | None:
    """Return the OPT record of a message.

    Source: RFC 6891 section 6.1.1.
    """
    found = [record for record in additional if record.rdtype == _OPT_TYPE]
    misplaced = any(record.rdtype == _OPT_TYPE for record in (*answers, *authority))
    if misplaced or len(found) > 1 or (found and found[0].owner):
        raise _MalformedError("an OPT record where none may be")
    return found[0] if found else None


def bounded_ttl(seconds: int) -> int:
    """Return a TTL: a sign makes it none.

    Source: RFC 2181 section 8.
    """
    return seconds if seconds <= _MAX_TTL else 0
