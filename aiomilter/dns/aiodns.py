"""The resolver on aiodns (c-ares): an extra that takes several times less CPU per question than dnspython."""

import asyncio
import math
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

import aiodns
import pycares

from aiomilter.dns.answers import MX, Answer, RdType, Record
from aiomilter.dns.dnspython import DnspythonResolver
from aiomilter.dns.names import display_name, question_name
from aiomilter.exceptions import ResolverFailure, ResolverTimeout

__all__ = ["AiodnsResolver"]

# c-ares does not hand out the SOA of a negative answer: this is how long one may be kept.
_NEGATIVE_TTL = 60
# c-ares caches what it answers, within its TTL but without a bound on memory; a new channel starts an empty one.
_CHANNEL_QUESTIONS = 10_000
_MAX_CHAIN = 16
# c-ares waits for a server as its latency suggests, this at least, and twice as long each time it asks again.
_LEAST_TIMEOUT = 0.25
_FIRST_TIMEOUT = 0.5

_FLAGS = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES
# c-ares refuses to ask for names with other characters; SPF macros and local-parts make them.
_ASKABLE = re.compile(r"[a-z0-9._/*-]+")
_PLAIN = re.compile(r"[A-Za-z0-9._-]*")
_NAME_PART = re.compile(r"\\([0-9]{3})|\\(.)|(\.)|(.)", re.DOTALL)
_NO_NAME = aiodns.error.ARES_ENOTFOUND
_NO_DATA = aiodns.error.ARES_ENODATA
_LATE = (aiodns.error.ARES_ETIMEOUT, aiodns.error.ARES_ECANCELLED)


class AiodnsResolver:
    """Asks nameservers with c-ares, which also remembers answers for their TTL.

    Names with characters that c-ares does not ask for go through dnspython.

    Args:
        nameservers: Address and port of each server, asked in this order; None takes those of the system's resolv.conf.
        timeout: Seconds until a question must be answered, waiting for its turn included.
        attempt_timeout: Seconds one server has for the first attempt; half a second at most, c-ares adapts it.
        max_queries: Questions in flight at most; further ones wait for their turn.
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
        self._others = DnspythonResolver(
            nameservers, timeout=timeout, attempt_timeout=attempt_timeout, max_queries=max_queries
        )
        self._servers = [_server(*server) for server in nameservers or ()]
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
                found = await self._ask(asked, rdtype)
        except TimeoutError as error:
            raise ResolverTimeout(f"no answer to {asked!r} {rdtype} in {self._timeout:g} s") from error
        except aiodns.error.DNSError as error:
            code = error.args[0] if error.args else None
            if code in (_NO_NAME, _NO_DATA):
                return Answer(asked, rdtype, ttl=_NEGATIVE_TTL, exists=code == _NO_DATA)
            reason = error.args[1] if len(error.args) > 1 else type(error).__name__
            kind = ResolverTimeout if code in _LATE else ResolverFailure
            raise kind(f"no usable answer to {asked!r} {rdtype}: {reason}") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise ResolverFailure(f"no usable answer to {asked!r} {rdtype}: {type(error).__name__}") from error
        return _answer(asked, rdtype, found.answer)

    async def close(self) -> None:
        """Close the sockets; whoever waits for an answer gets ResolverTimeout."""
        self._channel = None
        for channel in tuple(self._users):
            await channel.close()

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
            self._servers or None,
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
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _answer(name: str, rdtype: RdType, found: Iterable[pycares.DNSRecord]) -> Answer:
    """Follow the aliases in an answer and take the records at their end."""
    aliases: dict[str, tuple[str, int]] = {}
    owners: dict[str, list[tuple[Record, int]]] = {}
    for item in found:
        owner = _name(item.name).lower()
        data = item.data
        if isinstance(data, pycares.CNAMERecordData) and rdtype != "CNAME":
            aliases[owner] = (data.cname, item.ttl)
        elif (record := _record(rdtype, data)) is not None:
            owners.setdefault(owner, []).append((record, item.ttl))
    canonical, ttls = name, []
    for _ in range(_MAX_CHAIN):
        alias = aliases.get(canonical.lower())
        if alias is None:
            break
        canonical = _name(alias[0])
        ttls.append(alias[1])
    else:
        raise ResolverFailure(f"no usable answer to {name!r} {rdtype}: a loop of CNAMEs")
    records = owners.get(canonical.lower(), [])
    ttls += [ttl for _, ttl in records]
    return Answer(
        name,
        rdtype,
        tuple(dict.fromkeys(record for record, _ in records)),
        min(ttls, default=_NEGATIVE_TTL) if records else _NEGATIVE_TTL,
        canonical="" if canonical.lower() == name else canonical,
    )


def _record(rdtype: RdType, data: object) -> Record | None:
    match rdtype, data:
        case "A", pycares.ARecordData():
            return IPv4Address(data.addr)
        case "AAAA", pycares.AAAARecordData():
            return IPv6Address(data.addr)
        case "TXT", pycares.TXTRecordData():
            return data.data
        case "MX", pycares.MXRecordData():
            return MX(data.priority, _name(data.exchange))
        case "PTR", pycares.PTRRecordData():
            return _name(data.dname)
        case "NS", pycares.NSRecordData():
            return _name(data.nsdname)
        case "CNAME", pycares.CNAMERecordData():
            return _name(data.cname)
        case _:
            return None


def _name(text: str | bytes) -> str:
    """Return a name as c-ares writes it in our own form."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if _PLAIN.fullmatch(text):
        return text.removesuffix(".")
    labels = [bytearray()]
    for part in _NAME_PART.finditer(text):
        code, escaped, dot, plain = part.groups()
        if dot:
            labels.append(bytearray())
        elif code:
            labels[-1].append(int(code) & 255)
        else:
            labels[-1] += (escaped or plain).encode("latin-1", "replace")
    return display_name(map(bytes, labels))
