import asyncio
from ipaddress import ip_address

import pytest

from aiomilter.auth.iprev import IprevResult, check_iprev
from aiomilter.dns import Answer, CachingResolver, RdType
from aiomilter.exceptions import AddressError
from aiomilter.testing.resolver import HANG, ZoneResolver

IP = "192.0.2.1"
POINTER = "1.2.0.192.in-addr.arpa"


@pytest.mark.parametrize(
    ("zone", "result", "name"),
    [
        (f"{POINTER} PTR mx.example\nmx.example A {IP}", "pass", "mx.example"),
        (f"{POINTER} PTR mx.example\nmx.example A 192.0.2.2", "fail", ""),
        (f"{POINTER} PTR mx.example", "fail", ""),
        (f"{POINTER} PTR x.example\n{POINTER} PTR mx.example\nmx.example A {IP}", "pass", "mx.example"),
        (
            f"{POINTER} PTR x.example\nx.example * TIMEOUT\n{POINTER} PTR mx.example\nmx.example A {IP}",
            "pass",
            "mx.example",
        ),
        (f"{POINTER} PTR x.example\nx.example * FAILURE", "temperror", ""),
        (f"{POINTER} * TIMEOUT", "temperror", ""),
        ("", "permerror", ""),
        (f"{POINTER} PTR a..b", "fail", ""),
    ],
)
async def test_a_name_counts_only_if_it_leads_back(zone: str, result: str, name: str) -> None:
    found = await check_iprev(IP, resolver=ZoneResolver(zone))

    assert (found.result, found.name) == (result, name)
    assert bool(found.problem) == (result in ("temperror", "permerror"))


async def test_an_ipv6_client_needs_an_ipv6_address() -> None:
    pointer = ip_address("2001:db8::1").reverse_pointer
    resolver = ZoneResolver(f"{pointer} PTR mx.example\nmx.example A {IP}\nmx.example AAAA 2001:db8::1")

    assert (await check_iprev("2001:db8::1", resolver=resolver)).result == "pass"
    assert (await check_iprev("::ffff:192.0.2.1", resolver=resolver)).result == "permerror"


async def test_only_ten_names_are_followed() -> None:
    zone = "".join(f"{POINTER} PTR p{n}.example\n" for n in range(11)) + f"p10.example A {IP}"
    resolver = ZoneResolver(zone)

    assert (await check_iprev(IP, resolver=resolver)).result == "fail"
    assert len(resolver.queries) == 11


async def test_a_check_that_takes_too_long_is_temperror() -> None:
    async with CachingResolver(ZoneResolver({POINTER: HANG})) as resolver:
        found = await check_iprev(IP, resolver=resolver, timeout=0.01)

    assert found == IprevResult("temperror", ip_address(IP), problem="no result in 0.01 s")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_bug_in_the_resolver_is_not_hidden() -> None:
    class Broken:
        async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
            raise TimeoutError("not ours")

    with pytest.raises(TimeoutError, match="not ours"):
        await check_iprev(IP, resolver=Broken())


async def test_an_address_that_is_none_is_the_callers_mistake() -> None:
    with pytest.raises(AddressError):
        await check_iprev("unknown", resolver=ZoneResolver())


async def test_the_authentication_results_part_names_the_address() -> None:
    found = await check_iprev(IP, resolver=ZoneResolver(f"{POINTER} PTR mx.example\nmx.example A {IP}"))

    assert str(found.method_result()) == "iprev=pass (mx.example) policy.iprev=192.0.2.1"
