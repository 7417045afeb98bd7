"""The resolver on aiodns (c-ares): an extra that takes less CPU per question than the built-in resolver.

c-ares returns the records that it has found, and hides the rest of a message: RCODE, flags, the SOA of a zone.  So only its
records are used.  If it reports none, or an error other than silence, our own resolver asks again and sees the whole answer.
"""

import asyncio
import math
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import aiodns
import pycares

from aiomilter.dns.answers import MX, Answer, RdType, Record
from aiomilter.dns.dnspython import DnspythonResolver
from aiomilter.dns.message import MAX_LINKS, MAX_RECORDS, MAX_STEPS, bounded_ttl
from aiomilter.dns.names import display_label, question_name
from aiomilter.dns.resolv_conf import system_servers
from aiomilter.exceptions import ResolverFailure, ResolverTimeout

__all__ = ["AiodnsResolver"]

# c-ares caches what it answers for up to an hour, without a bound on memory: half a megabyte for an answer of 65,535
# octets.  A new channel (0.2 ms of CPU) starts an empty cache.
_CHANNEL_QUESTIONS = 200
# c-ares waits for a server as its latency suggests, this at least, and twice as long each time it asks again.
_LEAST_TIMEOUT: Final = 0.25
_FIRST_TIMEOUT: Final = 0.5

_FLAGS: Final = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES
# c-ares refuses to ask for names with other characters; SPF macros and local-parts make them.
_ASKABLE: Final = re.compile(r"[a-z0-9._/*-]+")
# In a name as c-ares writes it: an octet by its number, or behind a backslash; and what is not visible.
_WRITTEN: Final = re.compile(r"\\([0-9]{3})|\\(.)|([^!-~])", re.DOTALL)
_KINDS: Final[dict[RdType, type]] = {
    "A": pycares.ARecordData,
    "AAAA": pycares.AAAARecordData,
    "CNAME": pycares.CNAMERecordData,
    "MX": pycares.MXRecordData,
    "NS": pycares.NSRecordData,
    "PTR": pycares.PTRRecordData,
    "TXT": pycares.TXTRecordData,
}
_NAMES: Final[dict[RdType, str]] = {"CNAME": "cname", "MX": "exchange", "NS": "nsdname", "PTR": "dname"}
_LATE: Final = (aiodns.error.ARES_ETIMEOUT, aiodns.error.ARES_ECANCELLED)


class AiodnsResolver:
    """Asks nameservers with c-ares, which also remembers answers for their TTL.

    What c-ares calls absent, answers with an error or cannot be asked for is asked by
    :class:`~aiomilter.dns.dnspython.DnspythonResolver`, whose answer counts.  So the two differ in records and time only:
    c-ares takes the records of an answer that is truncated over TCP, or that has an RCODE it does not know; it goes on
    asking a server that is silent to EDNS, or that closes a connection early, until the time is over; and it reads
    any number of records before we see them, on a thread of its own: 50 ms of CPU for 4,000.

    Args:
        nameservers: Address and port of each server, asked in this order; None takes those of the system's resolv.conf.
        timeout: Seconds until a question must be answered, waiting for its turn included.
        attempt_timeout: Seconds one server has for the first attempt; half a second at most, c-ares adapts it.
        max_queries: Questions in progress at most; others wait for their turn.
    Raises:
        ResolverFailure: The system's resolv.conf cannot be read or names no server.
    """

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]] | None = None,
        *,
        timeout: float = 5.0,
        attempt_timeout: float = 2.0,
        max_queries: int = 500,
    ) -> None:
        servers = system_servers() if nameservers is None else nameservers
        self._others = DnspythonResolver(
            servers, timeout=timeout, attempt_timeout=attempt_timeout, max_queries=max_queries
        )
        self._servers = [_server(*server) for server in servers]
        self._timeout = timeout
        self._first_timeout = min(attempt_timeout, _FIRST_TIMEOUT)
        # So many that it is our deadline that ends a question, and few, for c-ares goes on asking after that.
        self._tries = max(1, math.ceil(math.log2(timeout / _LEAST_TIMEOUT + 1)))
        self._turn = asyncio.Semaphore(max_queries)
        self._channel: aiodns.DNSResolver | None = None
        self._questions = 0
        self._users: dict[aiodns.DNSResolver, int] = {}

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question; see :meth:`aiomilter.dns.Resolver.lookup`."""
        asked = question_name(name)
        if asked is None:
            return Answer(name, rdtype, exists=False)
        if _ASKABLE.fullmatch(asked) is None:
            return await self._others.lookup(asked, rdtype)
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                found = await self._records(asked, rdtype)
                return found or await self._others.ask(asked, rdtype)
        except TimeoutError as error:
            raise ResolverTimeout(f"no answer to {asked!r} {rdtype} in {self._timeout:g} s") from error

    async def close(self) -> None:
        """Close the sockets; waiting lookups raise ResolverTimeout."""
        self._channel = None
        for channel in tuple(self._users):
            await channel.close()

    async def _records(self, name: str, rdtype: RdType) -> Answer | None:
        """Return the records that c-ares finds; None for none, and for errors after which our own resolver asks."""
        try:
            found = await self._ask(name, rdtype)
        except aiodns.error.DNSError as error:
            if error.args and error.args[0] in _LATE:
                raise ResolverTimeout(f"no answer to {name!r} {rdtype}: {error.args[-1]}") from error
            return None
        except (pycares.AresError, OSError, ValueError, RuntimeError):
            return None
        return _answer(name, rdtype, found.answer)

    async def _ask(self, name: str, rdtype: RdType) -> pycares.DNSResult:
        if self._channel is None or self._questions >= _CHANNEL_QUESTIONS:
            await self._renew()
        channel = self._channel
        assert channel is not None
        self._questions += 1
        self._users[channel] += 1
        try:
            return await channel.query_dns(name, rdtype)
        finally:
            self._users[channel] -= 1
            if channel is not self._channel and not self._users[channel]:
                del self._users[channel]
                await channel.close()

    async def _renew(self) -> None:
        before, self._questions = self._channel, 0
        self._channel = aiodns.DNSResolver(
            self._servers,
            loop=asyncio.get_running_loop(),
            flags=_FLAGS,
            timeout=self._first_timeout,
            tries=self._tries,
        )
        self._users[self._channel] = 0
        if before is not None and not self._users[before]:
            del self._users[before]
            await before.close()


def _server(address: str, port: int) -> str:
    bare, percent, scope = address.partition("%")
    return f"[{bare}]:{port}{percent}{scope}" if ":" in bare else f"{bare}:{port}"


def _answer(name: str, rdtype: RdType, found: Sequence[pycares.DNSRecord]) -> Answer | None:
    """Follow the aliases in an answer and take the records at their end; None without any.

    Names are compared as c-ares writes them, which is the same for a name wherever it stands.
    """
    if len(found) > MAX_RECORDS + MAX_LINKS:
        raise _too_much(name, rdtype, f"an answer of more than {MAX_RECORDS} records")
    owners: dict[str, list[pycares.DNSRecord]] = {}
    for item in found:
        if item.record_class == pycares.QUERY_CLASS_IN:
            owners.setdefault(_text(item.name).lower(), []).append(item)
    kind = _KINDS[rdtype]
    owner, canonical, ttl = name, "", 0x7FFFFFFF
    for _ in range(MAX_LINKS + 1):
        items = owners.get(owner, ())
        wanted = [item for item in items if isinstance(item.data, kind)]
        if wanted:
            ttl = min(ttl, *[bounded_ttl(item.ttl) for item in wanted])
            records = dict.fromkeys(_records(name, rdtype, [item.data for item in wanted]))
            return Answer(name, rdtype, tuple(records), ttl, canonical=_name(canonical))
        aliases = [(item.data, item.ttl) for item in items if isinstance(item.data, pycares.CNAMERecordData)]
        targets = {_text(alias.cname) for alias, _ in aliases}
        if len(targets) != 1:
            return None
        canonical = targets.pop()
        owner = canonical.lower()
        ttl = min(ttl, *[bounded_ttl(seconds) for _, seconds in aliases])
    return None


def _records(name: str, rdtype: RdType, data: Sequence[Any]) -> list[Record]:
    """Return the data of records of one type in our own form."""
    if len(data) > MAX_RECORDS:
        raise _too_much(name, rdtype, f"an answer of more than {MAX_RECORDS} records")
    match rdtype:
        case "A":
            return [IPv4Address(each.addr) for each in data]
        case "AAAA":
            return [IPv6Address(each.addr) for each in data]
        case "TXT":
            return [each.data for each in data]
    names = [_text(getattr(each, _NAMES[rdtype])) for each in data]
    if sum(text.count("\\") for text in names) > MAX_STEPS:
        raise _too_much(name, rdtype, f"names with more than {MAX_STEPS} odd octets")
    if rdtype == "MX":
        return [MX(each.priority, _name(text)) for each, text in zip(data, names, strict=True)]
    return [_name(text) for text in names]


def _too_much(name: str, rdtype: RdType, problem: str) -> ResolverFailure:
    return ResolverFailure(f"no usable answer to {name!r} {rdtype}: {problem}")


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("latin-1")


def _name(text: str) -> str:
    """Return a name as c-ares writes it in our own form."""
    return _WRITTEN.sub(_octet, text).removesuffix(".")


def _octet(written: re.Match[str]) -> str:
    code, escaped, bare = written.groups()
    return display_label(bytes((int(code) & 255 if code else ord(escaped or bare) & 255,)))
