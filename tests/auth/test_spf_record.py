"""What is kept of the SPF records that strangers publish: no more than can matter, within a bound that they cannot pass."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiomilter.auth import spf
from aiomilter.auth._spf_record import Record, _parse_long, _parse_short, parse_record
from aiomilter.dns import Answer, CachingResolver, RdType

UNITS = (
    "a:b.c",
    "a",
    "mx//0",
    "ip4:0.0.0.0",
    "ip6:::",
    "?ip6:1::/1",
    "-ip6:1::2",
    "include:b.c",
    "exists:" + "%{d}" * 40 + ".c",
    "exists:" + "a%{d}" * 40,
    "exists:" + "%{L1r-+}" * 20 + ".c",
    "exists:%{d}%{d}.c",
    "x=%{d}",
    "exp=%{d}",
    "redirect=" + "%{d}" * 60,
)
"""What a record costs most with, an octet."""


def records(size: int, number: int) -> Iterator[bytes]:
    """Records of this many octets, no two alike, each of a few kinds of terms."""
    chance = random.Random(size)
    for each in range(number):
        text = f"v=spf1 x={each}"
        units = chance.sample(UNITS, chance.randrange(1, 4))
        while True:
            term = " " + units[chance.randrange(len(units))]
            if len(text) + len(term) > size:
                break
            text += term
        yield text.encode()


def grown(action: Callable[[], object]) -> int:
    """Octets that are in use after an action and were not before it; what is parsed has no cycles."""
    tracemalloc.start()
    try:
        kept = action()
        size, _ = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return size


@pytest.mark.parametrize(
    ("keeper", "size", "most", "number"), [(_parse_short, 512, 21, 512), (_parse_long, 2048, 87, 128)]
)
def test_what_is_kept_of_the_records_of_strangers_is_bounded(keeper: Any, size: int, most: int, number: int) -> None:
    """512 times 21 KiB and 128 times 87 KiB: 22 MiB in all."""
    texts = [b"v=spf1" + f" {unit}".encode() * ((size - 6) // (len(unit) + 1)) for unit in UNITS]
    for text in [*texts, *records(size, 10)]:
        unkept = text + b" " * (2049 - len(text))
        assert grown(lambda text=unkept: parse_record(text)) < most * 1024, text  # type: ignore[misc]
    for each in range(number + 10):
        parse_record(f"v=spf1 x={each} ".encode() + b" " * (size - 20))
    assert keeper.cache_info().currsize == number


class Hostile:
    """Publishes another policy under every name."""

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        if rdtype != "TXT":
            return Answer(name, rdtype, ttl=1, exists=False)
        text = f"v=spf1 all exists:{name}"
        return Answer(name, rdtype, ((text + " a:b.c" * ((2048 - len(text)) // 6)).encode(),), ttl=1)


async def test_senders_cannot_fill_memory_with_policies() -> None:
    async with CachingResolver(Hostile(), max_size=2**20) as resolver:
        await spf.check_host("192.0.2.1", "a@x.evil.example", "h.example", resolver=resolver)
        tracemalloc.start()
        try:
            for number in range(20):
                sender = f"a@n{number}.evil.example"
                found = await spf.check_host("192.0.2.1", sender, "h.example", resolver=resolver)
                assert found.result == "pass"
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size < 2**20


@pytest.mark.parametrize(
    ("terms", "kept", "redirects"),
    [
        ("ip4:192.0.2.1 all a mx", ["ip4:192.0.2.1", "all"], False),
        ("-all redirect=b.example", ["-all"], False),
        ("redirect=b.example ~all a", ["~all"], False),
        ("a redirect=b.example", ["a"], True),
        ("ip4:192.0.2.1 " * 40 + "a " * 11 + "mx all", ["ip4:192.0.2.1"] * 40 + ["a"] * 11, False),
        ("a " * 10 + "ip6:::1 all", ["a"] * 10 + ["ip6:::1", "all"], False),
    ],
)
def test_directives_that_no_evaluation_reaches_are_not_kept(terms: str, kept: list[str], redirects: bool) -> None:
    record = parse_record(b"v=spf1 " + terms.encode())
    assert isinstance(record, Record)
    assert [directive.text for directive in record.directives] == kept
    assert (record.redirect is not None) is redirects


@pytest.mark.parametrize("terms", ["all ip4:1.2.3", "a " * 11 + "b", "-all redirect=b", "all exp=%{x}"])
def test_a_syntax_error_counts_where_no_evaluation_comes(terms: str) -> None:
    assert isinstance(parse_record(b"v=spf1 " + terms.encode()), str)
