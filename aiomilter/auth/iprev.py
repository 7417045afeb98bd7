"""The reverse name of a client, believed only if it leads back to the client."""

import asyncio
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aiomilter.auth._waiting import Expired, within
from aiomilter.auth.results import MethodResult, Property
from aiomilter.dns import IPAddress, RdType, Resolver, client_address, reverse_name
from aiomilter.exceptions import ResolverError
from aiomilter.mail.display import visible

__all__ = ["IprevResult", "Result", "check_iprev"]

Result: TypeAlias = Literal["none", "pass", "fail", "temperror", "permerror"]
"""The results of RFC 8601 section 2.7.3, and "none" for a check that was not made."""

# As in RFC 7208 section 4.6.4: who holds an address may give it any number of names.
_MAX_NAMES = 10


@dataclass(frozen=True, slots=True)
class IprevResult:
    """The result of checking the reverse name of a client.

    Args:
        result: pass: a name leads back to the address; fail: no name does; permerror: the address has no name;
            temperror: DNS did not answer; none: the check was not made.
        ip: The client's address.
        name: The first name that leads back; "" if none does.
        problem: Why the result is temperror or permerror; "" otherwise.

    Source: RFC 8601 section 2.7.3.
    """

    result: Result
    ip: IPAddress
    name: str = ""
    problem: str = ""

    def method_result(self) -> MethodResult:
        """Return the result as a part of an Authentication-Results header field."""
        properties = (Property("policy", "iprev", str(self.ip)),)
        return MethodResult("iprev", self.result, properties, self.problem, self.name)


async def check_iprev(ip: IPAddress | str, *, resolver: Resolver, timeout: float = 10.0) -> IprevResult:
    """Check that the name of a client's address leads back to the address.

    Whatever DNS does is a result, never an exception.

    Args:
        ip: The client's address; IPv4-mapped IPv6 counts as IPv4.
        resolver: Answers the DNS questions.
        timeout: Seconds for the whole; temperror after that.
    Returns:
        The result.
    Raises:
        AddressError: ``ip`` is a text and not an address.

    Source: RFC 8601 section 2.7.3 and section 3.
    """
    address = client_address(ip)
    try:
        return await within(asyncio.get_running_loop().time() + timeout, _check(address, resolver))
    except Expired:
        return IprevResult("temperror", address, problem=f"no result in {timeout:g} s")


async def _check(ip: IPAddress, resolver: Resolver) -> IprevResult:
    try:
        pointers = await resolver.lookup(reverse_name(ip), "PTR")
    except ResolverError as error:
        return IprevResult("temperror", ip, problem=visible(str(error)))
    if not pointers.names:
        return IprevResult("permerror", ip, problem="the address has no name")
    rdtype: RdType = "A" if ip.version == 4 else "AAAA"
    problem = ""
    for name in pointers.names[:_MAX_NAMES]:
        try:
            answer = await resolver.lookup(name, rdtype)
        except ResolverError as error:
            problem = problem or visible(str(error))
            continue
        if ip in answer.addresses:
            return IprevResult("pass", ip, visible(name))
    return IprevResult("temperror" if problem else "fail", ip, problem=problem)
