"""Every way an answer can be refused, cut off, not understood or incomplete: one row each, with what comes of it.

Only a whole answer that can be understood and says so is an absence.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from tests.dns.scripted import RECORD, RR, Asked, Do, Script, framed, opt, reply, soa, wire

Outcome: TypeAlias = Literal["record", "no data", "no such name", "failure", "timeout"]
Message: TypeAlias = Callable[[Asked], bytes]

NAME = "probe.example"
"""What is asked for."""


@dataclass(frozen=True)
class Row:
    """One way.

    Args:
        name: What the server does.
        script: How it does it.
        outcome: What a look-up comes to.
        aiodns: What it comes to with c-ares, where that is something else, or may be.
        why: The reason for that.
        udp: Whether there is a socket at the other end.
        tcp: Whether a connection is accepted.
        silent: Whether somebody has to wait, since a query is not answered, or a datagram does not count.
        alone: Whether the outcome is the same with another server, which answers well.
    """

    name: str
    script: Script
    outcome: Outcome
    aiodns: Outcome | tuple[Outcome, ...] = ()
    why: str = ""
    udp: bool = True
    tcp: bool = True
    silent: bool = False
    alone: bool = False

    def expected(self, backend: str) -> tuple[Outcome, ...]:
        outcome = self.aiodns or self.outcome if backend == "aiodns" else self.outcome
        return (outcome,) if isinstance(outcome, str) else outcome


def says(message: Message) -> Script:
    """Send the same over UDP and TCP."""

    def script(asked: Asked) -> Iterable[bytes]:
        octets = message(asked)
        return [octets] if asked.transport == "udp" else [framed(octets)]

    return script


def message(*sections: Iterable[RR], **wrong: Any) -> Message:
    """Return what makes a message of these sections, with what is wrong with it."""
    return lambda asked: reply(asked, *sections, **wrong)


def saying(*sections: Iterable[RR], **wrong: Any) -> Script:
    """Send one message over UDP and TCP, whatever is asked."""
    return says(message(*sections, **wrong))


good = message([RECORD])
"""The right answer."""


def to_edns(*sections: Iterable[RR], **wrong: Any) -> Script:
    """Send something to queries with EDNS, and the right answer to those without."""
    to_edns = message(*sections, **wrong)
    return says(lambda asked: to_edns(asked) if asked.edns else good(asked))


def truncating(tcp: Callable[[Asked], Iterable[bytes | Do]], *sections: Iterable[RR], **wrong: Any) -> Script:
    """Truncate over UDP, and do something over TCP."""
    udp = message(*sections, tc=True, **wrong)
    return lambda asked: [udp(asked)] if asked.transport == "udp" else tcp(asked)


def chain(*names: str) -> list[RR]:
    """CNAME records from one name to the next."""
    return [RR(alias, "CNAME", wire(target)) for alias, target in pairwise(names)]


def alias(*target: Iterable[RR], authority: Iterable[RR] = (), **wrong: Any) -> Script:
    """Send an alias alone, and something to the query for its target."""
    target_says = message(*target, **wrong)
    return says(lambda asked: target_says(asked) if asked.name != NAME else reply(asked, chain(NAME, "t.x"), authority))


def stray(datagram: Message) -> Script:
    """Send something that is not an answer, and then the answer."""
    return lambda asked: [datagram(asked), good(asked)] if asked.transport == "udp" else [framed(good(asked))]


NS = RR("example", "NS", wire("ns.example"))
SOA = soa("example")
CHAOS = RECORD._replace(rdclass=3)
RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 8: "NXRRSET", 9: "NOTAUTH"}

TRUNCATED = "c-ares does not show the flag TC of an answer over TCP"
HIDDEN = "c-ares shows no RCODE; beside records it looks at those only that it has an error for"
AGAIN = "c-ares asks again, until the time is over"
EDNS_ONLY = "c-ares goes on asking with EDNS, until the time is over"

ANSWERS = [
    Row("a record", saying([RECORD]), "record"),
    Row("a record and OPT", saying([RECORD], [], [opt()]), "record"),
    Row("a record from the authority", saying([RECORD], ra=False, aa=True), "record"),
    Row("a record, AA and RA clear", saying([RECORD], ra=False), "record"),
    Row("a record whose owner is written out", saying([RECORD.at(NAME)]), "record"),
    Row("a record whose owner is in other letters", saying([RECORD.at(NAME.upper())]), "record"),
    Row("a record and another name's", saying([RECORD.at("x.example"), RECORD]), "record"),
    Row("a record and another class's", saying([CHAOS, RECORD]), "record"),
    Row("a record and a referral", saying([RECORD], [NS]), "record"),
    Row("no data, with SOA", saying([], [SOA]), "no data"),
    Row("no data, with the root's SOA", saying([], [soa("")]), "no data"),
    Row("no data, with the name's own SOA", saying([], [soa(NAME)]), "no data"),
    Row("no data, with SOA and NS", saying([], [NS, SOA]), "no data"),
    Row("no data, with SOA, from the authority", saying([], [SOA], aa=True, ra=False), "no data"),
    Row("no data, with SOA and OPT", saying([], [SOA], [opt()]), "no data"),
    Row("nothing at all from a recursive server", saying(), "no data"),
    Row("nothing at all from the authority", saying(aa=True, ra=False), "no data"),
    Row("NXDOMAIN with SOA", saying([], [SOA], rcode=3), "no such name"),
    Row("NXDOMAIN without SOA", saying(rcode=3), "no such name"),
    Row("NXDOMAIN without SOA from the authority", saying(rcode=3, aa=True, ra=False), "no such name"),
    Row("NXDOMAIN with NS", saying([], [NS], rcode=3), "no such name"),
]

ALIASES = [
    Row("an alias and its record", saying([*chain(NAME, "t.x"), RECORD.at("t.x")]), "record"),
    Row("three aliases and a record", saying([*chain(NAME, "a.x", "B.x", "c.x"), RECORD.at("C.x")]), "record"),
    Row("aliases in the wrong order", saying([RECORD.at("b.x"), *chain(NAME, "a.x", "b.x")[::-1]]), "record"),
    Row(
        "16 aliases and a record", saying([*chain(NAME, *map("a{}.x".format, range(16))), RECORD.at("a15.x")]), "record"
    ),
    Row(
        "17 aliases and a record",
        saying([*chain(NAME, *map("a{}.x".format, range(17))), RECORD.at("a16.x")]),
        "failure",
    ),
    Row("the same alias twice", saying([*chain(NAME, "a.x"), *chain(NAME, "A.x"), RECORD.at("a.x")]), "record"),
    Row("two aliases of one name", saying([*chain(NAME, "a.x"), *chain(NAME, "b.x"), RECORD.at("b.x")]), "failure"),
    Row("an alias to no data, with SOA", saying(chain(NAME, "t.x"), [soa("x")]), "no data"),
    Row("an alias to NXDOMAIN, with SOA", saying(chain(NAME, "t.x"), [soa("x")], rcode=3), "no such name"),
    Row("an alias to NXDOMAIN, without SOA", saying(chain(NAME, "t.x"), rcode=3), "no such name"),
    Row("an alias alone; a record of its target", alias([RECORD]), "record"),
    Row("an alias alone; no data for its target", alias([], [soa("x")]), "no data"),
    Row("an alias alone; NXDOMAIN for its target", alias(rcode=3), "no such name"),
    Row("an alias alone; SERVFAIL for its target", alias(rcode=2), "failure"),
    Row("an alias alone; a referral for its target", alias([], [NS], ra=False), "failure"),
    Row("an alias and another zone's SOA; a record of its target", alias([RECORD], authority=[SOA]), "record"),
    Row(
        "an alias and a referral; REFUSED for its target",
        alias(rcode=5, authority=[RR("x", "NS", wire("n.x"))]),
        "failure",
    ),
    Row(
        "one more alias for each query",
        says(lambda q: reply(q, chain(q.name, f"a{q.number}.x"))),
        "failure",
        alone=True,
    ),
    Row("an alias of itself", saying(chain(NAME, NAME)), "failure"),
    Row("a loop of aliases", saying(chain(NAME, "a.x", NAME)), "failure"),
    Row(
        "a loop of aliases over two queries",
        says(lambda q: reply(q, chain(*(NAME, "a.x")[:: 1 if q.name == NAME else -1]))),
        "failure",
        alone=True,
    ),
    Row("an alias of another name", saying(chain("a.x", "b.x")), "failure"),
    Row("an alias of another name, with SOA", saying(chain("a.x", "b.x"), [SOA]), "failure"),
    Row(
        "an alias to no data, and another name's record",
        saying([*chain(NAME, "t.x"), RECORD.at("u.x")], [soa("x")]),
        "failure",
    ),
    Row(
        "DNAME, its alias and a record",
        saying([RR("example", "DNAME", wire("x")), *chain(NAME, "probe.x"), RECORD.at("probe.x")]),
        "record",
    ),
    Row(
        "DNAME, its alias and NXDOMAIN",
        saying([RR("example", "DNAME", wire("x")), *chain(NAME, "probe.x")], [soa("x")], rcode=3),
        "no such name",
    ),
    Row("DNAME without its alias", saying([RR("example", "DNAME", wire("x"))]), "failure"),
    Row("DNAME without its alias, NXDOMAIN", saying([RR("example", "DNAME", wire("x"))], rcode=3), "failure"),
]

LAME = [
    Row("a referral", saying([], [NS], ra=False), "failure"),
    Row("a referral with addresses", saying([], [NS], [RR("ns.example", "A", bytes(4))], ra=False), "failure"),
    Row("a referral to the root", saying([], [RR("", "NS", wire("a.root"))], ra=False), "failure"),
    Row("a referral from a recursive server", saying([], [NS]), "failure"),
    Row("a referral from the authority", saying([], [NS], aa=True), "failure"),
    Row("nothing at all, AA and RA clear", saying(ra=False), "failure"),
    Row("NXDOMAIN without SOA, AA and RA clear", saying(rcode=3, ra=False), "failure"),
    Row("no data, with another zone's SOA", saying([], [soa("other.example")]), "failure"),
    Row("no data, with the SOA of a name that ends alike", saying([], [soa("e.example")]), "failure"),
]

SECTIONS = [
    Row("the record in authority", saying([], [RECORD]), "failure"),
    Row("the record in additional", saying([], [], [RECORD]), "failure"),
    Row("the record in authority, with SOA", saying([], [SOA, RECORD]), "failure"),
    Row("the record in additional, with SOA", saying([], [SOA], [RECORD]), "failure"),
    Row("the SOA in the answer", saying([SOA]), "failure"),
    Row("the SOA in additional", saying([], [], [SOA], ra=False), "failure"),
    Row("another name's record", saying([RECORD.at("x.example")]), "failure"),
    Row("another name's record, with SOA", saying([RECORD.at("x.example")], [SOA]), "failure"),
    Row("another class's record", saying([CHAOS]), "failure"),
    Row("another class's record, with SOA", saying([CHAOS], [SOA]), "failure"),
    Row("another class's SOA", saying([], [SOA._replace(rdclass=3)], ra=False), "failure"),
    Row("another type's record", saying([RECORD._replace(rdtype=99, rdata=b"x")]), "failure"),
    Row("NXDOMAIN with the record", saying([RECORD], rcode=3), "failure"),
    Row("NXDOMAIN with another name's record", saying([RECORD.at("x.example")], rcode=3), "failure"),
    Row("NXDOMAIN with the record in additional", saying([], [], [RECORD], rcode=3), "failure"),
    Row("NXDOMAIN with an alias and its record", saying([*chain(NAME, "t.x"), RECORD.at("t.x")], rcode=3), "failure"),
]


def _refusals() -> Iterable[Row]:
    """Every RCODE but NOERROR and NXDOMAIN, with and without OPT, question and records."""
    hidden: dict[str, Any] = {"aiodns": "record", "why": HIDDEN}
    again: dict[str, Any] = {"aiodns": "timeout", "why": AGAIN}
    either: dict[str, Any] = {"aiodns": ("timeout", "record"), "why": f"{AGAIN}, or takes what comes over TCP"}
    for rcode in (1, 2, *range(4, 16)):
        name = RCODES.get(rcode, f"RCODE {rcode}")
        yield Row(name, saying(rcode=rcode), "failure")
        yield Row(f"{name} with OPT", saying([], [], [opt()], rcode=rcode), "failure")
        yield Row(f"{name} with SOA", saying([], [SOA], rcode=rcode), "failure")
        differs = hidden if 6 <= rcode <= 11 else {}
        yield Row(f"{name} with a record", saying([RECORD], rcode=rcode), "failure", **differs)
    for rcode in (16, 17, 18, 19, 21, 22, 23, 35, 0xFF0, 0xFF3):
        name = f"extended RCODE {rcode}"
        differs = again if rcode == 23 else {}
        yield Row(name, saying([], [], [opt(rcode)], rcode=rcode), "failure", **differs)
        yield Row(f"{name} with SOA", saying([], [SOA], [opt(rcode)], rcode=rcode), "failure", **differs)
        differs = either if rcode == 23 else hidden if rcode <= 22 else {}
        yield Row(f"{name} with a record", saying([RECORD], [], [opt(rcode)], rcode=rcode), "failure", **differs)
    for rcode in (1, 2, 4, 5):
        yield Row(f"{RCODES[rcode]} without the question", saying(rcode=rcode, question=b""), "failure")
        header = saying(rcode=rcode, question=b"", questions=1, counts=(0, 0, 1))
        yield Row(f"{RCODES[rcode]}, a header with the query's counts", header, "failure")


REFUSALS = list(_refusals())

EDNS = [
    Row("FORMERR to EDNS", to_edns(rcode=1), "record"),
    Row("FORMERR to EDNS, without the question", to_edns(rcode=1, question=b""), "record"),
    Row(
        "FORMERR to EDNS, a header with the query's counts",
        to_edns(rcode=1, question=b"", questions=1, counts=(0, 0, 1)),
        "record",
    ),
    Row("FORMERR to EDNS, the query sent back", to_edns([], [], [opt()], rcode=1), "record"),
    Row("NOTIMP to EDNS", to_edns(rcode=4), "record"),
    Row("NOTIMP to EDNS, without the question", to_edns(rcode=4, question=b""), "record"),
    Row("NOTIMP to EDNS, the query sent back", to_edns([], [], [opt()], rcode=4), "record"),
    Row("SERVFAIL to EDNS", to_edns(rcode=2), "record"),
    Row("SERVFAIL to EDNS, without the question", to_edns(rcode=2, question=b""), "record"),
    Row("SERVFAIL and OPT to EDNS", to_edns([], [], [opt()], rcode=2), "failure"),
    Row("BADVERS to EDNS", to_edns([], [], [opt(16)]), "record"),
    Row("BADVERS and a record to EDNS", to_edns([RECORD], [], [opt(16)]), "record"),
    Row("REFUSED to EDNS", to_edns(rcode=5), "failure"),
    Row("nothing to EDNS", lambda q: [] if q.edns else [good(q)], "record", "timeout", EDNS_ONLY, silent=True),
    Row(
        "to EDNS, an answer that breaks off", says(lambda q: good(q)[:-6] if q.edns else good(q)), "record", silent=True
    ),
    Row("to EDNS, two OPT records", to_edns([RECORD], [], [opt(), opt()]), "record"),
    Row("to EDNS, an OPT record with an owner", to_edns([RECORD], [], [opt(owner=wire("x"))]), "record"),
    Row("to EDNS, an OPT record in authority", to_edns([RECORD], [opt()]), "record"),
    Row("to EDNS, an OPT record that is too long", to_edns([RECORD], [], [opt(rdlength=10)]), "record", silent=True),
    Row("two OPT records, with SOA", saying([], [SOA], [opt(), opt()]), "failure"),
    Row("two OPT records, NXDOMAIN", saying([], [], [opt(), opt()], rcode=3), "failure"),
    Row("an OPT record of another version", saying([RECORD], [], [opt(version=1)]), "record"),
    Row("an OPT record with options", saying([RECORD], [], [opt(rdata=b"\0\x0f\0\2\0\3")]), "record"),
]


def _whole(asked: Asked) -> bytes:
    return framed(good(asked))


def _other(name: str = NAME, rdtype: bytes | None = None, rdclass: int = 1, **wrong: Any) -> Message:
    """Return what answers another question."""
    return lambda asked: reply(
        asked, [RECORD], question=wire(name) + (rdtype or asked.question[-4:-2]) + rdclass.to_bytes(2), **wrong
    )


TRANSPORT = [
    Row("truncated, whole over TCP", truncating(lambda q: [_whole(q)]), "record"),
    Row("truncated with OPT, whole over TCP", truncating(lambda q: [_whole(q)], [], [], [opt()]), "record"),
    Row("truncated with NXDOMAIN, whole over TCP", truncating(lambda q: [_whole(q)], rcode=3), "record"),
    Row(
        "truncated with a record, no data over TCP",
        truncating(lambda q: [framed(reply(q, [], [SOA]))], [RECORD]),
        "no data",
    ),
    Row("truncated, NXDOMAIN over TCP", truncating(lambda q: [framed(reply(q, rcode=3))]), "no such name"),
    Row("truncated, SERVFAIL over TCP", truncating(lambda q: [framed(reply(q, rcode=2))]), "failure"),
    Row("truncated, no TCP", truncating(lambda q: []), "failure", tcp=False),
    Row("truncated with SOA, no TCP", truncating(lambda q: [], [], [SOA]), "failure", tcp=False),
    Row("truncated with NXDOMAIN, no TCP", truncating(lambda q: [], rcode=3), "failure", tcp=False),
    Row("truncated with a record, no TCP", truncating(lambda q: [], [RECORD]), "failure", tcp=False),
    Row("truncated, TCP closed at once", truncating(lambda q: [Do.CLOSE]), "failure"),
    Row(
        "truncated, TCP closed inside the length", truncating(lambda q: [b"\0", Do.CLOSE]), "failure", "timeout", AGAIN
    ),
    Row(
        "truncated, TCP closed after the length",
        truncating(lambda q: [_whole(q)[:2], Do.CLOSE]),
        "failure",
        "timeout",
        AGAIN,
    ),
    Row(
        "truncated, TCP closed inside the answer",
        truncating(lambda q: [_whole(q)[:-5], Do.CLOSE]),
        "failure",
        "timeout",
        AGAIN,
    ),
    Row("truncated, TCP closed after the answer", truncating(lambda q: [_whole(q), Do.CLOSE]), "record"),
    Row(
        "truncated, TCP in pieces", truncating(lambda q: [_whole(q)[at : at + 7] for at in range(0, 140, 7)]), "record"
    ),
    Row("truncated, a length of 0 over TCP", truncating(lambda q: [b"\0\0", Do.CLOSE]), "failure"),
    Row("truncated, half a header over TCP", truncating(lambda q: [framed(good(q)[:6]), Do.CLOSE]), "failure"),
    Row(
        "truncated, another id over TCP",
        truncating(lambda q: [framed(reply(q, [RECORD], id_change=1)), Do.CLOSE]),
        "failure",
    ),
    Row(
        "truncated, another question over TCP",
        truncating(lambda q: [framed(_other("x.example")(q)), Do.CLOSE]),
        "failure",
    ),
    Row(
        "truncated, QR clear over TCP", truncating(lambda q: [framed(reply(q, rcode=3, qr=False)), Do.CLOSE]), "failure"
    ),
    Row("truncated, silence over TCP", truncating(lambda q: []), "timeout", silent=True),
    Row("truncated over TCP too", saying(tc=True), "failure"),
    Row("truncated over TCP too, with SOA", saying([], [SOA], tc=True), "failure"),
    Row("truncated over TCP too, NXDOMAIN", saying(tc=True, rcode=3), "failure"),
    Row("truncated over TCP too, with a record", saying([RECORD], tc=True), "failure", "record", TRUNCATED),
    Row("a closed port", saying([RECORD]), "failure", udp=False, tcp=False),
    Row("a closed port over UDP", saying([RECORD]), "failure", udp=False),
    Row("silence", lambda q: [], "timeout", silent=True),
]

_STRAYS: dict[str, Message] = {
    "another id": message(rcode=3, id_change=1),
    "another name": _other("x.example", rcode=3),
    "another type": _other(rdtype=b"\0\x63", rcode=3),
    "another class": _other(rdclass=3, rcode=3),
    "the query sent back": lambda asked: asked.octets,
    "QR clear": message(rcode=3, qr=False),
    "another opcode": message(rcode=3, opcode=2),
    "no question": message(rcode=3, question=b""),
    "no question, no data": message([], [SOA], question=b""),
    "two questions": lambda asked: reply(asked, rcode=3, question=asked.question * 2, questions=2),
    "garbage": lambda asked: b"\xff" * 40,
    "a header that breaks off": lambda asked: good(asked)[:11],
    "an empty datagram": lambda asked: b"",
    "NXDOMAIN from another port": message(rcode=3),
}


def _elsewhere(script: Script) -> Script:
    """Send the first datagram from another port."""
    return lambda asked: [Do.SEND_FROM_ELSEWHERE, *script(asked)][: 2 if asked.transport == "udp" else None]


STRAYS = [
    *(Row(f"{name}, then the answer", stray(what), "record", silent=True) for name, what in list(_STRAYS.items())[:-1]),
    *(Row(f"{name}, and no more", says(what), "timeout", silent=True) for name, what in list(_STRAYS.items())[:-1]),
    Row("NXDOMAIN from another port", _elsewhere(saying(rcode=3)), "timeout", silent=True),
]

_LABEL = b"\x3f" + b"a" * 63
_MALFORMED: dict[str, RR] = {
    "record data beyond the end": RECORD._replace(rdlength=2000),
    "an owner that points ahead": RECORD.at(b"\xc0\xff"),
    "an owner that points to itself": RECORD.at(b"\xc0" + bytes((12 + len(wire(NAME)) + 4,))),
    "an owner that points into the header": RECORD.at(b"\xc0\0"),
    "an owner with a label of an unknown kind": RECORD.at(b"\x80a\0"),
    "an owner of more than 255 octets": RECORD.at(_LABEL * 4 + b"\0"),
    "record data of another size": RECORD._replace(rdata=b"\x09sho"[:3]),
    "no record data": RECORD._replace(rdata=b""),
    "an alias that does not end with its record": RR(NAME, "CNAME", wire("t.x") + b"x"),
    "an alias that ends after its record": RR(NAME, "CNAME", wire("t.x"), rdlength=3),
}

MALFORMED = [
    *(Row(name, saying([rr]), "failure", silent=True) for name, rr in _MALFORMED.items()),
    *(Row(f"{name}, with SOA", saying([rr], [SOA]), "failure", silent=True) for name, rr in _MALFORMED.items()),
    Row("a record that breaks off", says(lambda q: good(q)[:-2]), "failure", silent=True),
    Row("no data that breaks off in its SOA", says(lambda q: reply(q, [], [SOA])[:-5]), "failure", silent=True),
    Row(
        "no data with half an SOA",
        saying([], [SOA._replace(rdata=wire("a") + wire("b") + bytes(9))]),
        "failure",
        silent=True,
    ),
    Row(
        "NXDOMAIN that breaks off in its SOA", says(lambda q: reply(q, [], [SOA], rcode=3)[:-5]), "failure", silent=True
    ),
    Row("more records promised than there are", saying([RECORD], counts=(2, 0, 0)), "failure", silent=True),
    Row("65,535 records promised and none there", saying(counts=(65535, 0, 0)), "failure", silent=True),
    Row("NXDOMAIN, more records promised", saying(counts=(0, 0, 1), rcode=3), "failure", silent=True),
    Row("no records promised and one there", saying([RECORD], counts=(0, 0, 0)), "failure"),
    Row("NXDOMAIN, no records promised and one there", saying([RECORD], counts=(0, 0, 0), rcode=3), "failure"),
    Row("a record and octets after it", saying([RECORD], after=b"\0" * 9), "record"),
    Row("no data and octets after it", saying([], [SOA], after=b"\0" * 9), "failure"),
    Row("NXDOMAIN and octets after it", saying([], [SOA], after=b"\0" * 9, rcode=3), "failure"),
    Row("501 records", truncating(lambda q: [framed(reply(q, _many(501)))]), "failure", alone=True),
    Row(
        "4,000 records of other names",
        truncating(lambda q: [framed(reply(q, [RECORD.at("")] * 4000))]),
        "failure",
        alone=True,
    ),
]


def _many(count: int) -> list[RR]:
    return [RECORD._replace(rdata=struct.pack(">I", 0x03000000 | number)) for number in range(count)]


ROWS = [*ANSWERS, *ALIASES, *LAME, *SECTIONS, *REFUSALS, *EDNS, *TRANSPORT, *STRAYS, *MALFORMED]
