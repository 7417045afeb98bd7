"""Makes resolvers that are ready to use."""

import re
from ipaddress import ip_address
from typing import Literal, TypeAlias

from aiomilter.dns.answers import Resolver
from aiomilter.dns.cache import CachingResolver
from aiomilter.exceptions import AddressError

__all__ = ["Backend", "resolver", "system_resolver"]

Backend: TypeAlias = Literal["dnspython", "aiodns"]
"""What asks the name servers: dnspython, which the core needs anyway, or aiodns, an extra."""

_SERVER = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)


def system_resolver(
    *, timeout: float = 5.0, attempt_timeout: float = 2.0, max_queries: int = 500, backend: Backend = "dnspython"
) -> CachingResolver:
    """Return a caching resolver that asks the nameservers of the system's resolv.conf.

    It is read once, as the C library reads it; one RuntimeWarning names the lines that are passed over.

    Args:
        timeout: Seconds until a question must be answered.
        attempt_timeout: Seconds one server has for one attempt.
        max_queries: Questions in progress at most; others wait for their turn within their time.
        backend: Who asks; ``"aiodns"`` needs the extra of that name and takes less CPU for answers with records.
    Raises:
        ResolverFailure: resolv.conf cannot be read or names no server.

    Source: resolv.conf(5).
    """
    return CachingResolver(_backend(None, timeout, attempt_timeout, max_queries, backend))


def resolver(
    *servers: str,
    timeout: float = 5.0,
    attempt_timeout: float = 2.0,
    max_queries: int = 500,
    backend: Backend = "dnspython",
) -> CachingResolver:
    """Return a caching resolver that asks these nameservers, in this order.

    Args:
        servers: ``"127.0.0.1"``, ``"127.0.0.1:5353"``, ``"::1"``, ``"[::1]:5353"``; at least one.
        timeout: Seconds until a question must be answered.
        attempt_timeout: Seconds one server has for one attempt.
        max_queries: Questions in progress at most; others wait for their turn within their time.
        backend: Who asks; ``"aiodns"`` needs the extra of that name and takes less CPU for answers with records.
    Raises:
        AddressError: A text is not the address of a server, or there is none.
    """
    if not servers:
        raise AddressError("expected the address of at least one nameserver, found none")
    addresses = [_parse_server(server) for server in servers]
    return CachingResolver(_backend(addresses, timeout, attempt_timeout, max_queries, backend))


def _backend(
    servers: list[tuple[str, int]] | None, timeout: float, attempt_timeout: float, max_queries: int, backend: Backend
) -> Resolver:
    # Imported here: users of another Resolver import neither.
    if backend == "aiodns":
        from aiomilter.dns.aiodns import AiodnsResolver

        return AiodnsResolver(servers, timeout=timeout, attempt_timeout=attempt_timeout, max_queries=max_queries)
    from aiomilter.dns.dnspython import DnspythonResolver

    return DnspythonResolver(servers, timeout=timeout, attempt_timeout=attempt_timeout, max_queries=max_queries)


def _parse_server(text: str) -> tuple[str, int]:
    try:
        return str(ip_address(text)), 53
    except ValueError:
        pass
    match = _SERVER.fullmatch(text)
    port = int(match["port"] or 53) if match else 0
    try:
        if match is None or not 0 < port < 65536:
            raise ValueError("no address and port")
        address = ip_address(match["six"] or match["four"])
        if (address.version == 6) is not (match["six"] is not None):
            raise ValueError("brackets are for IPv6")
    except ValueError as error:
        raise AddressError(f"expected a nameserver such as '127.0.0.1:5353' or '[::1]:5353', found {text!r}") from error
    return str(address), port
