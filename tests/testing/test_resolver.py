import asyncio
from ipaddress import ip_address

import pytest

from aiomilter.dns import MX, Resolver
from aiomilter.exceptions import ResolverFailure, ResolverTimeout
from aiomilter.testing.resolver import FAILURE, HANG, TIMEOUT, ZoneResolver

ZONE = """
# what the tests below ask for
example.com        TXT   "v=spf1 mx -all"
example.com        TXT   other words
example.com        MX    10 mx.example.com.
mx.example.com     A     192.0.2.1
mx.example.com     A     192.0.2.2
mx.example.com     AAAA  2001:db8::1
www.example.com    CNAME mx.example.com
loop.example.com   CNAME loop.example.com
1.2.0.192.in-addr.arpa PTR mx.example.com.
slow.example       TXT   TIMEOUT
slow.example       A     192.0.2.9
broken.example     *     FAILURE
silent.example     *     HANG
"""


async def test_a_zone_written_as_text_answers_every_type() -> None:
    zone: Resolver = ZoneResolver(ZONE)

    assert (await zone.lookup("Example.com.", "TXT")).texts == (b"v=spf1 mx -all", b"other words")
    assert (await zone.lookup("example.com", "MX")).exchanges == (MX(10, "mx.example.com"),)
    assert (await zone.lookup("mx.example.com", "A")).addresses == (ip_address("192.0.2.1"), ip_address("192.0.2.2"))
    assert (await zone.lookup("mx.example.com", "AAAA")).addresses == (ip_address("2001:db8::1"),)
    assert (await zone.lookup("1.2.0.192.in-addr.arpa", "PTR")).names == ("mx.example.com",)


async def test_aliases_are_followed_and_loops_fail() -> None:
    zone = ZoneResolver(ZONE)

    answer = await zone.lookup("www.example.com", "AAAA")

    assert answer.canonical == "mx.example.com"
    assert answer.addresses == (ip_address("2001:db8::1"),)
    assert (await zone.lookup("www.example.com", "CNAME")).names == ("mx.example.com",)
    with pytest.raises(ResolverFailure, match="loop"):
        await zone.lookup("loop.example.com", "A")


async def test_a_missing_name_and_a_missing_type_are_told_apart() -> None:
    zone = ZoneResolver(ZONE)

    assert not (await zone.lookup("missing.example.com", "A")).exists
    assert (await zone.lookup("example.com", "A")).exists
    assert (await zone.lookup("0.192.in-addr.arpa", "PTR")).exists
    assert not (await zone.lookup("bad..name", "A")).exists


async def test_trouble_is_what_the_zone_says() -> None:
    zone = ZoneResolver(ZONE)

    with pytest.raises(ResolverTimeout):
        await zone.lookup("slow.example", "TXT")
    assert await zone.lookup("slow.example", "A")
    with pytest.raises(ResolverFailure):
        await zone.lookup("broken.example", "MX")
    hanging = asyncio.ensure_future(zone.lookup("silent.example", "A"))
    assert (await asyncio.wait([hanging], timeout=0))[1]
    hanging.cancel()
    assert zone.queries[-1] == ("silent.example", "A")


async def test_a_zone_written_as_a_mapping_answers_the_same() -> None:
    zone = ZoneResolver(
        {
            "example.com": {"TXT": ["v=spf1 -all", b"\xff"], "A": "192.0.2.1", "MX": TIMEOUT},
            "broken.example": FAILURE,
            "silent.example": {"A": HANG},
        },
        ttl=7,
    )

    answer = await zone.lookup("example.com", "TXT")

    assert answer.texts == (b"v=spf1 -all", b"\xff")
    assert answer.ttl == 7
    with pytest.raises(ResolverTimeout):
        await zone.lookup("example.com", "MX")
    with pytest.raises(ResolverFailure):
        await zone.lookup("broken.example", "A")


@pytest.mark.parametrize(
    "line", ["a.example A", "a..b A 192.0.2.1", "a.example SRV 1", "a.example A x", "a.example * x"]
)
def test_a_zone_that_cannot_be_read_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        ZoneResolver(line)


def test_records_and_trouble_for_one_question_are_refused() -> None:
    with pytest.raises(ValueError, match="both records and TIMEOUT"):
        ZoneResolver("a.example A TIMEOUT\na.example A 192.0.2.1")
