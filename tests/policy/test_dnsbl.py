import asyncio
from ipaddress import IPv4Address

import pytest

from aiomilter.dns import CachingResolver
from aiomilter.exceptions import AddressError
from aiomilter.policy.dnsbl import DnsList, Listing, check_address, check_domain
from aiomilter.testing.resolver import HANG, ZoneResolver

IP = "192.0.2.1"
NAME = "1.2.0.192.bl.example"


async def ask(zone: str, entry: DnsList | str = "bl.example") -> Listing:
    (listing,) = await check_address(IP, [entry], resolver=ZoneResolver(zone))
    return listing


async def test_a_listed_address_comes_with_its_codes() -> None:
    listing = await ask(f"{NAME} A 127.0.0.10\n{NAME} A 127.0.0.4")

    assert listing == Listing("bl.example", True, (IPv4Address("127.0.0.4"), IPv4Address("127.0.0.10")))


async def test_an_address_that_is_not_there_is_not_listed() -> None:
    assert await ask("") == Listing("bl.example")


@pytest.mark.parametrize("answer", ["203.0.113.9", "127.255.255.254", "127.255.255.1", "127.0.0.1", "0.0.0.0"])
async def test_an_answer_that_is_no_listing_is_a_problem(answer: str) -> None:
    listing = await ask(f"{NAME} A 127.0.0.2\n{NAME} A {answer}")

    assert not listing.listed
    assert listing.problem == f"answered {answer}, which is not a listing"


async def test_only_the_codes_asked_for_count() -> None:
    entry = DnsList("bl.example", frozenset({IPv4Address("127.0.0.2")}))

    assert not (await ask(f"{NAME} A 127.0.0.3", entry)).listed
    assert (await ask(f"{NAME} A 127.0.0.3\n{NAME} A 127.0.0.2", entry)).codes == (IPv4Address("127.0.0.2"),)


async def test_a_list_says_why_if_asked() -> None:
    resolver = ZoneResolver({NAME: {"A": "127.0.0.2", "TXT": b"listed\r\nX: y \xff"}})

    (plain, why) = await check_address(IP, ["bl.example", DnsList("bl.example", text=True)], resolver=resolver)

    assert plain.text == ""
    assert why.text == "listed?X: y ?"


async def test_a_long_reason_is_seen_to_be_cut() -> None:
    resolver = ZoneResolver({NAME: {"A": "127.0.0.2", "TXT": b"x" * 400}})

    (listing,) = await check_address(IP, [DnsList("bl.example", text=True)], resolver=resolver)

    assert listing.text == "x" * 253 + "..."


async def test_a_list_that_cannot_say_why_still_lists() -> None:
    listing = await ask(f"{NAME} A 127.0.0.2\n{NAME} TXT TIMEOUT", DnsList("bl.example", text=True))

    assert (listing.listed, listing.text) == (True, "")


async def test_a_list_that_fails_has_a_problem_and_the_others_count() -> None:
    resolver = ZoneResolver(f"{NAME} * FAILURE\n1.2.0.192.other.example A 127.0.0.2")

    failed, listed = await check_address(IP, ["bl.example", "other.example"], resolver=resolver)

    assert (failed.listed, listed.listed) == (False, True)
    assert "no usable answer" in failed.problem


async def test_what_the_lists_said_at_the_deadline_counts() -> None:
    async with CachingResolver(ZoneResolver({NAME: HANG, "1.2.0.192.other.example": {"A": "127.0.0.2"}})) as resolver:
        await check_address(IP, ["other.example"], resolver=resolver)  # known from here on, however busy the machine is
        late, listed = await check_address(IP, ["bl.example", "other.example"], resolver=resolver, timeout=0.01)

    assert late == Listing("bl.example", problem="no answer in 0.01 s")
    assert listed.listed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_check_leaves_no_task() -> None:
    async with CachingResolver(ZoneResolver({NAME: HANG})) as resolver:
        checking = asyncio.create_task(check_address(IP, ["bl.example"], resolver=resolver))
        await asyncio.wait([checking], timeout=0)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_ipv6_addresses_are_looked_up_by_nibble() -> None:
    resolver = ZoneResolver("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example A 127.0.0.2")

    (listing,) = await check_address("2001:db8::1", ["bl.example"], resolver=resolver)

    assert listing.listed


@pytest.mark.parametrize("domain", ["bad.example", "BAD.example.", "bad.EXAMPLE"])
async def test_domains_are_looked_up_as_they_are(domain: str) -> None:
    resolver = ZoneResolver("bad.example.dbl.example A 127.0.1.2\nxn--bcher-kva.example.dbl.example A 127.0.1.2")

    assert (await check_domain(domain, ["dbl.example"], resolver=resolver))[0].listed
    assert (await check_domain("bücher.example", ["dbl.example"], resolver=resolver))[0].listed


@pytest.mark.parametrize("domain", ["", "a..b", "x" * 64, "a\0b", ".".join(["a" * 60] * 4)])
async def test_what_is_no_domain_is_listed_nowhere(domain: str) -> None:
    assert await check_domain(domain, ["dbl.example"], resolver=ZoneResolver()) == (Listing("dbl.example"),)


async def test_no_lists_list_nothing() -> None:
    assert await check_address(IP, [], resolver=ZoneResolver()) == ()
    with pytest.raises(AddressError):
        await check_address("unknown", [], resolver=ZoneResolver())


async def test_a_bug_in_the_resolver_is_not_hidden() -> None:
    class Broken:
        async def lookup(self, name: object, rdtype: object, /) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await check_address(IP, ["a.example", "b.example"], resolver=Broken())  # type: ignore[arg-type]  # it is broken
