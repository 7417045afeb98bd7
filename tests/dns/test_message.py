"""Answers read from octets: what they say, and what reading the most hostile ones costs."""

import random
import struct
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiomilter
from aiomilter.auth.iprev import check_iprev
from aiomilter.auth.spf import check_host
from aiomilter.dns import MX, Answer, CachingResolver, RdType
from aiomilter.dns.message import (
    MAX_RECORDS,
    MAX_STEPS,
    Alias,
    Fault,
    Question,
    Refusal,
    Useless,
    _Reader,
    belongs,
    read_answer,
)
from aiomilter.policy.dnsbl import check_address
from tests.dns.scripted import RECORD, RR, Asked, opt, reply, soa, wire

NAME = "probe.example"
PACKAGE = str(Path(aiomilter.__file__).parent)


def asked(rdtype: RdType = "A", name: str = NAME) -> tuple[Question, Asked]:
    """Return a question, and the query for it as a server sees it."""
    question = Question.of(name, rdtype)
    return question, Asked(question.query(0x1234, edns=True), "udp", 0)


def read(*sections: list[RR], rdtype: RdType = "A", **wrong: Any) -> object:
    question, query = asked(rdtype)
    return read_answer(reply(query, *sections, **wrong), question)


# What a message says.


@pytest.mark.parametrize(
    ("rdtype", "rdata", "record"),
    [
        ("A", bytes((192, 0, 2, 1)), ip_address("192.0.2.1")),
        ("AAAA", bytes(15) + b"\1", ip_address("::1")),
        ("TXT", b"\3abc\0\2\xff\n", b"abc\xff\n"),
        ("TXT", b"\0", b""),
        ("MX", b"\x01\x02\2mx\xc0\x12", MX(258, "mx.example")),
        ("MX", b"\0\0\0", MX(0, "")),
        ("NS", wire("NS.Example"), "NS.Example"),
        ("PTR", b"\5a.b\r\n\1\xff\xc0\x12", "a\\046b\\013\\010.\\255.example"),
        ("CNAME", b"\1c\xc0\x0c", "c.probe.example"),
    ],
)
def test_a_record_of_each_type_is_read(rdtype: RdType, rdata: bytes, record: object) -> None:
    assert read([RECORD._replace(rdata=rdata)], rdtype=rdtype) == Answer(NAME, rdtype, (record,), 300)  # type: ignore[arg-type]  # pytest's parameters are objects


def test_repeated_records_count_once_and_keep_their_order() -> None:
    data = [bytes((192, 0, 2, last)) for last in (3, 1, 3, 2, 1)]

    found = read([RECORD._replace(rdata=each) for each in data])

    assert isinstance(found, Answer)
    assert found.addresses == tuple(map(ip_address, ("192.0.2.3", "192.0.2.1", "192.0.2.2")))


def test_an_answer_is_kept_for_its_shortest_ttl_aliases_included() -> None:
    alias = RR(NAME, "CNAME", wire("t.x"), 50)

    assert read([RECORD._replace(ttl=40), RECORD._replace(ttl=70, rdata=bytes(4))]).ttl == 40  # type: ignore[attr-defined]
    assert read([alias, RECORD.at("t.x")]).ttl == 50  # type: ignore[attr-defined]


@pytest.mark.parametrize("ttl", [0x80000000, 0xFFFFFFFF])
def test_a_negative_ttl_is_none_at_all(ttl: int) -> None:
    """RFC 2181 section 8."""
    assert read([RECORD._replace(ttl=ttl)]).ttl == 0  # type: ignore[attr-defined]
    assert read([], [soa("example", ttl, 60)]).ttl == 0  # type: ignore[attr-defined]
    assert read([], [soa("example", 60, ttl)]).ttl == 0  # type: ignore[attr-defined]
    assert read([RECORD._replace(ttl=0x7FFFFFFF)]).ttl == 0x7FFFFFFF  # type: ignore[attr-defined]


@pytest.mark.parametrize(("ttl", "minimum", "kept"), [(60, 30, 30), (30, 60, 30), (0, 60, 0)])
@pytest.mark.parametrize("rcode", [0, 3])
def test_an_absence_is_kept_as_long_as_the_soa_lets_it(ttl: int, minimum: int, kept: int, rcode: int) -> None:
    """RFC 2308 section 5."""
    assert read([], [soa("example", ttl, minimum)], rcode=rcode) == Answer(NAME, "A", ttl=kept, exists=not rcode)


def test_an_absence_behind_an_alias_is_kept_as_long_as_the_alias() -> None:
    found = read([RR(NAME, "CNAME", wire("T.x"), 20)], [soa("x")])

    assert found == Answer(NAME, "A", ttl=20, canonical="T.x")


def test_an_alias_alone_leads_to_the_question_for_its_target() -> None:
    found = read([RR(NAME, "CNAME", b"\1a\xc0\x0c", 70), RR("a." + NAME, "CNAME", b"\4T.x\xff\1y\0", 50)])

    assert found == Alias(Question("t\\046x\\255.y", "A", b"\4t.x\xff\1y\0\0\1\0\1"), "T\\046x\\255.y", 50, 2)


@pytest.mark.parametrize("name", ["a  b%20c.example", 'q"u\\o;t($@.example', "a\\.b.example"])
def test_an_odd_name_is_the_owner_of_its_records(name: str) -> None:
    question, query = asked("A", name)

    found = read_answer(reply(query, [RECORD.at(wire(name))]), question)

    assert isinstance(found, Answer)
    assert len(found.records) == 1


def test_a_refusal_says_which_and_whether_the_server_knows_edns() -> None:
    assert read(rcode=2) == Refusal(2, False)
    assert read([], [], [opt()], rcode=5) == Refusal(5, True)
    assert read([], [], [opt(23)], rcode=23) == Refusal(23, True)
    assert [Refusal(rcode, True).problem for rcode in (1, 23, 77)] == ["FORMERR", "BADCOOKIE", "RCODE 77"]


@pytest.mark.parametrize(
    ("sections", "wrong", "fault"),
    [
        ([[RECORD]], {"tc": True}, Fault.TRUNCATED),
        ([[RECORD._replace(rdlength=5)]], {}, Fault.MALFORMED),
        ([[RECORD.at("")] * 4000], {}, Fault.TOO_MUCH),
        ([[RECORD._replace(rdata=struct.pack(">I", number)) for number in range(MAX_RECORDS + 1)]], {}, Fault.TOO_MUCH),
        ([[RECORD.at("x")]], {}, Fault.UNPROVEN),
    ],
)
def test_a_useless_message_says_why(sections: list[list[RR]], wrong: dict[str, Any], fault: Fault) -> None:
    found = read(*sections, **wrong)

    assert isinstance(found, Useless)
    assert found.fault is fault
    assert found.problem


def test_a_header_that_breaks_off_is_malformed() -> None:
    question, query = asked()

    for size in range(12):
        found = read_answer(reply(query, [RECORD])[:size], question)
        assert isinstance(found, Useless)
        assert found.fault is Fault.MALFORMED
        assert not belongs(reply(query, [RECORD])[:size], query.octets)


def test_as_many_records_as_an_answer_may_hold_are_read() -> None:
    found = read([RECORD._replace(rdata=struct.pack(">I", number)) for number in range(MAX_RECORDS)])

    assert isinstance(found, Answer)
    assert len(found.records) == MAX_RECORDS


def test_an_answer_belongs_to_its_query_only() -> None:
    _, query = asked()

    assert belongs(reply(query), query.octets)
    assert belongs(reply(query, question=wire(NAME.upper()) + query.question[-4:]), query.octets)
    assert belongs(reply(query, rcode=1, question=b""), query.octets)
    assert not belongs(reply(query, question=b""), query.octets)
    assert not belongs(reply(query, id_change=1), query.octets)
    # 0x41 and 0x61 are not one type in two letter cases.
    other = Question(NAME, "A", query.question[:-4] + b"\0\x41\0\1").query(0x1234, edns=True)
    assert not belongs(reply(query, question=query.question[:-4] + b"\0\x61\0\1"), other)


def _pointer(target: int) -> bytes:
    return struct.pack(">H", 0xC000 | target)


# After the question, which ends at 31; a record of a type that nobody reads has room for names of our making.
START = 12 + len(Question.of(NAME, "A").octets)
ROOM = START + 1 + 10
NAMES: dict[str, tuple[bytes, bytes, str | None]] = {
    "a name there": (wire("x.y"), _pointer(ROOM), "x.y"),
    "the end of a name there": (wire("x.y"), _pointer(ROOM + 2), "y"),
    "a label before it": (wire("x.y"), b"\1a" + _pointer(ROOM), "a.x.y"),
    "127 pointers in a row": (
        b"\0\0" + b"".join(_pointer(ROOM + 2 * at) for at in range(126)),
        _pointer(ROOM + 252),
        "",
    ),
    "128 pointers in a row": (
        b"\0\0" + b"".join(_pointer(ROOM + 2 * at) for at in range(127)),
        _pointer(ROOM + 254),
        None,
    ),
    "8,000 pointers in a row": (
        b"\0\0" + b"".join(_pointer(ROOM + 2 * at) for at in range(8000)),
        _pointer(ROOM + 16000),
        None,
    ),
    "127 labels": (b"", b"\1a" * 127 + b"\0", ".".join("a" * 127)),
    "128 labels": (b"", b"\1a" * 128 + b"\0", None),
    "127 labels in two pieces": (b"\1a" * 63 + b"\0", b"\1b" * 64 + _pointer(ROOM), ".".join("b" * 64 + "a" * 63)),
    "128 labels in two pieces": (b"\1a" * 64 + b"\0", b"\1b" * 64 + _pointer(ROOM), None),
    "a pointer to a pointer to itself": (_pointer(ROOM), _pointer(ROOM), None),
    "pointers to each other": (_pointer(ROOM + 2) + _pointer(ROOM), _pointer(ROOM), None),
    "a label and a pointer to it": (b"\1a" + _pointer(ROOM), _pointer(ROOM), None),
    "a pointer into its own labels": (b"\1a\1b" + _pointer(ROOM + 2), _pointer(ROOM), None),
    "a pointer to a name ahead": (_pointer(ROOM + 2) + wire("x.y"), _pointer(ROOM), None),
    "a pointer into the header": (b"", _pointer(4), None),
    "half a pointer at the end": (b"", b"\xc0", None),
    "a label beyond the end": (b"", b"\x3fabc", None),
    "a label of kind 01": (b"", b"\x41a\0", None),
    "a label of kind 10": (b"", b"\x81a\0", None),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_read_or_the_message_is_malformed(case: str) -> None:
    room, name, text = NAMES[case]

    found = read([RR("", 99, room), RR(NAME, "NS", name)], rdtype="NS")

    if text is None:
        assert isinstance(found, Useless)
        assert found.fault is Fault.MALFORMED
    else:
        assert isinstance(found, Answer)
        assert found.names == (text,)


def test_a_name_is_read_once_whatever_points_to_it() -> None:
    question, query = asked("MX", ".".join(["a"] * 125) + ".x")
    long = b"\1b" * 126 + b"\0"
    first = RECORD._replace(rdata=b"\0\1" + long)
    at = 12 + len(question.octets) + 12 + 2
    others = [RECORD._replace(rdata=struct.pack(">HH", number, 0xC000 | at)) for number in range(300)]
    reader = _Reader(reply(query, [first, *others]), question)

    assert isinstance(reader.read(), Answer)

    # A record, a pointer to its owner, and a name or a pointer to it.
    assert reader.steps == 301 * 3 + 126


LABELS = st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=6)


@pytest.mark.slow
@given(st.lists(st.tuples(LABELS, LABELS), max_size=12), st.data())
@settings(deadline=None, max_examples=60)
def test_names_are_read_as_dnspython_writes_them(
    pairs: list[tuple[list[bytes], list[bytes]]], data: st.DataObject
) -> None:
    """It compresses them; the exchanges of one owner, and others around them."""
    names = [[*front, *back] for front, back in pairs]
    question, query = asked("MX")
    response = dns.message.make_response(dns.message.from_wire(query.octets), recursion_available=True)
    owner = dns.name.from_text(NAME)
    wanted = []
    for number, labels in enumerate(names):
        name = dns.name.Name([*labels, b""])
        rdata = dns.rrset.from_rdata(owner, 300, _mx(number, name))
        if data.draw(st.booleans()):
            wanted.append((number, name))
        else:
            rdata = dns.rrset.from_rdata(name, 300, _mx(number, owner))
        response.answer.append(rdata)

    found = read_answer(response.to_wire(), question)

    if not wanted:
        assert not found or not isinstance(found, Answer)
        return
    assert isinstance(found, Answer)
    assert {(mx.preference, mx.exchange) for mx in found.exchanges} == {
        (number, _shown(name)) for number, name in wanted
    }


def _mx(preference: int, exchange: dns.name.Name) -> Any:
    return dns.rdtypes.ANY.MX.MX(dns.rdataclass.IN, dns.rdatatype.MX, preference, exchange)  # type: ignore[no-untyped-call]


def _shown(name: dns.name.Name) -> str:
    return ".".join(
        "".join(chr(octet) if 0x21 <= octet <= 0x7E and octet not in b".\\" else f"\\{octet:03d}" for octet in label)
        for label in name.labels[:-1]
    )


# What reading costs.


class Counter:
    """Counts the lines of aiomilter that run: the same on a busy machine and on an idle one."""

    def __init__(self) -> None:
        self.lines = 0

    def __enter__(self) -> "Counter":
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        self.lines += event == "line"
        return self._line


Owner = Callable[[random.Random, int], bytes]
Data = Callable[[random.Random, int], bytes]


def _labels(dice: random.Random, size: int, count: int) -> bytes:
    return b"".join(bytes((size,)) + dice.randbytes(size) for _ in range(count)) + b"\0"


# By what they cost a careless reader; the second argument is the offset at which they stand.
OWNERS: dict[str, Owner] = {
    "the question": lambda dice, at: b"\xc0\x0c",
    "the root": lambda dice, at: b"\0",
    "its own": lambda dice, at: dice.randbytes(1).join((b"\x04", dice.randbytes(3))) + b"\xc0\x0c",
    "126 labels": lambda dice, at: _labels(dice, 1, 126),
    "invisible octets": lambda dice, at: _labels(dice, 62, 4),
    "a label before the last name": lambda dice, at: b"\1x" + struct.pack(">H", 0xC000 | min(max(at - 14, 12), 0x3FFF)),
    "a pointer to the last owner": lambda dice, at: struct.pack(">H", 0xC000 | min(max(at - 12, 12), 0x3FFF)),
    "a pointer anywhere before": lambda dice, at: struct.pack(">H", 0xC000 | dice.randrange(12, min(at, 0x3FFF))),
    "a pointer to itself": lambda dice, at: struct.pack(">H", 0xC000 | min(at, 0x3FFF)),
    "a pointer ahead": lambda dice, at: struct.pack(">H", 0xC000 | min(at + 20, 0x3FFF)),
}
DATA: dict[str, Data] = {
    "nothing": lambda dice, at: b"",
    "an address": lambda dice, at: dice.randbytes(4),
    "a pointer to the question": lambda dice, at: b"\xc0\x0c",
    "an exchange": lambda dice, at: dice.randbytes(2) + b"\xc0\x0c",
    "an exchange of its own": lambda dice, at: dice.randbytes(2) + b"\x02" + dice.randbytes(2) + b"\xc0\x0c",
    "126 labels": lambda dice, at: _labels(dice, 1, 126),
    "empty strings": lambda dice, at: bytes(dice.randrange(1, 300)),
    "short strings": lambda dice, at: b"\1a" * dice.randrange(1, 200),
    "as many strings as fit": lambda dice, at: bytes(60_000),
    "one long string": lambda dice, at: b"\xff" + dice.randbytes(255),
    "noise": lambda dice, at: dice.randbytes(dice.randrange(300)),
    "an SOA": lambda dice, at: b"\xc0\x0c\xc0\x0c" + dice.randbytes(20),
}
RDTYPES: list[RdType] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"]
KINDS = [1, 2, 5, 6, 12, 15, 16, 28, 39, 41, 46, 99]


def hostile(seed: int, size: int) -> tuple[Question, bytes]:
    """Return a question and a message of ``size`` octets, full of what one throw of the dice has chosen."""
    dice = random.Random(seed)
    name = ".".join(["a"] * dice.choice((1, 125))) + ".x"
    question, query = asked(dice.choice(RDTYPES), name)
    owners = dice.sample(list(OWNERS), dice.choice((1, 1, 2, len(OWNERS))))
    shapes = dice.sample(list(DATA), dice.choice((1, 1, 2, len(DATA))))
    kinds = [dice.choice([int.from_bytes(question.octets[-4:-2]), 5, *KINDS]) for _ in range(dice.choice((1, 2, 12)))]
    records: list[bytes] = []
    at = 12 + len(question.octets)
    while True:
        owner = OWNERS[dice.choice(owners)](dice, at)
        rdata = DATA[dice.choice(shapes)](dice, at + len(owner) + 10)
        claimed = len(rdata) if dice.random() < 0.9995 else dice.randrange(65536)
        octets = owner + struct.pack(">HHIH", dice.choice(kinds), 1, dice.randrange(1 << 32), claimed) + rdata
        if at + len(octets) > size:
            break
        records.append(octets)
        at += len(octets)
    cuts = sorted(dice.choices(range(len(records) + 1), k=2)) if dice.random() < 0.5 else [len(records)] * 2
    counts = [cuts[0], cuts[1] - cuts[0], len(records) - cuts[1]]
    if dice.random() < 0.2:
        counts[dice.randrange(3)] = 65535
    message = reply(query, rcode=dice.choice((0, 0, 0, 3, 2)), counts=counts, after=b"".join(records))
    return question, message.ljust(size, b"\0")[:size]


SEEDS = range(80)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_most_hostile_message_takes_a_bounded_number_of_steps(seed: int) -> None:
    question, octets = hostile(seed, 65_535)
    reader = _Reader(octets, question)

    with Counter() as counter:
        found = reader.read()

    assert isinstance(found, Answer | Alias | Refusal | Useless)
    # The last name or text may pass the bound by its own labels or strings.
    assert reader.steps <= MAX_STEPS + 130, found
    assert counter.lines <= 20 * MAX_STEPS, found


@pytest.mark.slow
@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("shape", DATA)
def test_a_message_full_of_one_thing_takes_a_bounded_number_of_steps(owner: str, shape: str) -> None:
    question, octets = _filled(owner, shape, 65_535)
    reader = _Reader(octets, question)

    with Counter() as counter:
        found = reader.read()

    assert reader.steps <= MAX_STEPS + 130, found
    assert counter.lines <= 20 * MAX_STEPS, found


@pytest.mark.slow
@pytest.mark.parametrize("owner", [owner for owner in OWNERS if owner != "a pointer anywhere before"])
@pytest.mark.parametrize("shape", DATA)
def test_the_steps_grow_as_the_message_does(owner: str, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to stop it, four times the octets are four times the work, not sixteen."""
    monkeypatch.setattr("aiomilter.dns.message.MAX_STEPS", 1 << 30)
    monkeypatch.setattr("aiomilter.dns.message.MAX_RECORDS", 1 << 30)
    lines = []
    for size in (4_000, 16_000):
        question, octets = _filled(owner, shape, size)
        with Counter() as counter:
            read_answer(octets, question)
        lines.append(counter.lines)

    assert lines[1] <= 5 * lines[0] + 2_000


def _filled(owner: str, shape: str, size: int) -> tuple[Question, bytes]:
    dice = random.Random(size)
    question, query = asked(
        "MX" if "exchange" in shape else "TXT" if "string" in shape else "A", ".".join(["a"] * 125) + ".x"
    )
    records, at = b"", 12 + len(question.octets)
    count = 0
    while at + len(records) < size:
        before = OWNERS[owner](dice, at + len(records))
        rdata = DATA[shape](dice, at + len(records) + len(before) + 10)[: size - at - len(records)]
        records += before + struct.pack(">HHIH", int.from_bytes(question.octets[-4:-2]), 1, 60, len(rdata)) + rdata
        count += 1
    return question, reply(query, counts=(count, 0, 0), after=records)


@pytest.mark.slow
@given(
    st.integers(0, 1 << 30),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=4),
)
@settings(deadline=None, max_examples=200)
def test_any_octets_are_read_as_something(seed: int, size: int, changes: list[tuple[int, int]]) -> None:
    question, octets = hostile(seed, 400)
    spoilt = bytearray(octets[: max(size, 12)])
    for at, octet in changes:
        if 12 <= at < len(spoilt):
            spoilt[at] = octet

    assert isinstance(read_answer(bytes(spoilt), question), Answer | Alias | Refusal | Useless)


class Full:
    """A resolver whose every answer has as many records as one may have."""

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        records: list[Any] = []
        for number in range(MAX_RECORDS):
            match rdtype:
                case "A":
                    records.append(ip_address(0x7F000002 + number))
                case "MX":
                    records.append(MX(number % 3, f"{number}.{'a.' * 120}x"))
                case "TXT":
                    records.append(b"v=spf1 a mx ptr -all" if not number else b"x%d" % number)
                case _:
                    records.append(f"{number}.{'a.' * 120}x")
        return Answer(name, rdtype, tuple(records), 60)


CONSUMERS: dict[str, Callable[[CachingResolver], Any]] = {
    "the cache": lambda cache: cache.lookup("x.example", "MX"),
    "SPF": lambda cache: check_host("192.0.2.1", "a@x.example", "c.example", resolver=cache),
    "iprev": lambda cache: check_iprev("192.0.2.1", resolver=cache),
    "a DNS list": lambda cache: check_address("192.0.2.1", ["list.example"], resolver=cache),
}


@pytest.mark.slow
@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_what_an_answer_is_used_for_is_bounded_too(consumer: str) -> None:
    """A look-up of up to 500 records, for each of the eleven names that a check asks for."""
    cache = CachingResolver(Full())

    with Counter() as counter:
        await CONSUMERS[consumer](cache)

    assert counter.lines <= 80 * MAX_RECORDS
