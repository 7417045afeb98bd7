"""The resolver on dnspython: the required dependency, and the one that needs no compiler.

dnspython reads the system's configuration and every message; the questions are sent from here.  Its own asyncio
resolver overshoots its lifetime and takes nearly twice the CPU (``benchmarks/spf.py``, dnspython-cold: 75 checks of 8
lookups per CPU second with it, 130 without, same machine and load, one run each).
"""

import asyncio
import os
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import cast

import dns.exception
import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver

from aiomilter.dns.answers import MX, Answer, RdType, Record
from aiomilter.dns.names import display_name, question_name
from aiomilter.exceptions import ResolverFailure, ResolverTimeout

__all__ = ["DnspythonResolver"]

# What fits any path without fragments: DNS flag day 2020.
_PAYLOAD = 1232
# After the id: recursion desired, one question, and one OPT record, which is all that EDNS needs.
_HEADER = b"\1\0\0\1\0\0\0\0\0\1"
_OPT = b"\0\0\x29" + _PAYLOAD.to_bytes(2) + bytes(6)
_IN = b"\0\1"
_TYPES: dict[RdType, int] = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
# Datagrams with a wrong id or question: who sends more than this is guessing, and we ask over TCP.
_MAX_STRAY = 16
# Questions begun in one turn of the event loop, so that a burst of them does not stop everything else.
_MAX_BEGUN = 16

_ANSWERS = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
# What a server may say without repeating the question.
_REFUSALS = (dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED)


class DnspythonResolver:
    """Asks nameservers over UDP, and over TCP what does not fit; remembers nothing.

    Each question has a socket, and so a port, of its own; datagrams with a wrong source, id or question are ignored.

    Args:
        nameservers: Address and port of each server, asked in this order; None takes those of the system's resolv.conf.
        timeout: Seconds until a question must be answered, waiting for its turn included.
        attempt_timeout: Seconds one server has for one attempt.
        max_queries: Questions in flight at most; further ones wait for their turn.  Each holds one socket.
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
        self._servers = tuple(_system_servers() if nameservers is None else nameservers)
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        self._turn = asyncio.Semaphore(max_queries)
        self._begun = 0

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question; see :meth:`aiomilter.dns.Resolver.lookup`."""
        asked = question_name(name)
        if asked is None:
            return Answer(name, rdtype, exists=False)
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                response = await self._ask(asked, rdtype)
        except TimeoutError as error:
            raise ResolverTimeout(f"no answer to {asked!r} {rdtype} in {self._timeout:g} s") from error
        try:
            return _answer(asked, rdtype, response)
        except (dns.exception.DNSException, ValueError) as error:
            raise _failure(asked, rdtype, [type(error).__name__]) from error

    async def close(self) -> None:
        """Do nothing: a question's socket is closed with the question."""

    async def _ask(self, name: str, rdtype: RdType) -> dns.message.QueryMessage:
        """Ask the servers in turn, and again those that were silent, until one has an answer."""
        # Not from dnspython's text parser: a backslash in a sender's name is a backslash.
        labels = b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split("."))
        question = labels + b"\0" + _TYPES[rdtype].to_bytes(2) + _IN
        problems: list[str] = []
        servers = list(self._servers)
        while servers:
            for server in tuple(servers):
                try:
                    response = await self._ask_server(server, question)
                except (OSError, EOFError, dns.exception.DNSException, ValueError) as error:
                    problems.append(type(error).__name__)
                    servers.remove(server)
                    continue
                if response is None:
                    continue  # silent: its next attempt comes after the others' turn
                if response.rcode() in _ANSWERS:
                    return response
                problems.append(dns.rcode.to_text(response.rcode()))
                servers.remove(server)
        raise _failure(name, rdtype, problems)

    async def _ask_server(self, server: tuple[str, int], question: bytes) -> dns.message.QueryMessage | None:
        # Not an Event: that would let all of them through at once.
        while self._begun >= _MAX_BEGUN:  # noqa: ASYNC110
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        if not self._begun:
            loop.call_soon(self._next_turn)
        self._begun += 1
        # Unguessable, with the port: RFC 5452 section 4.
        query = os.urandom(2) + _HEADER + question + _OPT
        exchange = _Exchange(query, len(question))
        try:
            await loop.create_datagram_endpoint(lambda: exchange, remote_addr=server)
            timer = loop.call_later(self._attempt_timeout, exchange.give_up)
            try:
                found = await exchange.answer
            finally:
                timer.cancel()
        finally:
            exchange.close()
        if found is None:
            return None
        if not found or found[2] & 0x02:  # truncated, or somebody guesses ids
            try:
                async with asyncio.timeout(self._attempt_timeout) as deadline:
                    found = await _ask_tcp(server, query)
            except TimeoutError:
                if deadline.expired():
                    return None
                raise
            if not _belongs(found, query, len(question)):
                raise ValueError("the answer is to another question")
        # Query messages parse to this class.
        return cast(dns.message.QueryMessage, dns.message.from_wire(found, ignore_trailing=True))

    def _next_turn(self) -> None:
        self._begun = 0


class _Exchange(asyncio.DatagramProtocol):
    """One query over UDP: its answer is octets, empty octets to ask over TCP, or None for silence."""

    def __init__(self, query: bytes, question_size: int) -> None:
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._query = query
        self._question_size = question_size
        self._stray = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is a DatagramTransport in all but name.
        self._transport = cast(asyncio.DatagramTransport, transport)
        if self.answer.done():
            # Whoever asked was cancelled before there was a socket to close.
            self._transport.close()
            return
        self._transport.sendto(self._query)

    def datagram_received(self, data: bytes, address: object) -> None:
        if self.answer.done():
            return
        if _belongs(data, self._query, self._question_size):
            self.answer.set_result(data)
            return
        self._stray += 1
        if self._stray >= _MAX_STRAY:
            self.answer.set_result(b"")

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_result(None)

    def close(self) -> None:
        self.answer.cancel()
        if self._transport is not None:
            self._transport.close()


async def _ask_tcp(server: tuple[str, int], query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(query).to_bytes(2) + query)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.close()


def _belongs(data: bytes, query: bytes, question_size: int) -> bool:
    """Tell whether octets are an answer to a query: its id, and its question in any letter case."""
    if len(data) < 12 or data[:2] != query[:2] or data[2] & 0xF8 != 0x80:
        return False
    questions = data[4:6]
    if questions == b"\0\0":
        return data[3] & 15 in _REFUSALS
    end = 12 + question_size
    return questions == b"\0\1" and data[12:end].lower() == query[12:end].lower()


def _system_servers() -> list[tuple[str, int]]:
    try:
        servers = dns.resolver.Resolver(configure=True).nameservers
    except dns.exception.DNSException as error:
        raise ResolverFailure("the system's resolver configuration names no nameserver") from error
    return [(str(server), 53) for server in servers]


def _failure(name: str, rdtype: RdType, problems: Sequence[str]) -> ResolverFailure:
    return ResolverFailure(f"no usable answer to {name!r} {rdtype}: {', '.join(problems)}")


def _answer(name: str, rdtype: RdType, response: dns.message.QueryMessage) -> Answer:
    if response.rcode() == dns.rcode.NXDOMAIN:
        return Answer(name, rdtype, ttl=_ttl(response.resolve_chaining(), response), exists=False)
    chain = response.resolve_chaining()
    canonical = display_name(chain.canonical_name.labels) if chain.cnames else ""
    records = tuple(_record(rdata) for rdata in chain.answer or ())
    return Answer(name, rdtype, records, _ttl(chain, response), canonical=canonical)


def _ttl(chain: dns.message.ChainingResult, response: dns.message.Message) -> int:
    # Nothing says how long this may be kept: RFC 2308 section 5.
    if chain.answer is None and not any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority):
        return 0
    return chain.minimum_ttl


def _record(rdata: dns.rdata.Rdata) -> Record:
    match rdata:
        case dns.rdtypes.IN.A.A():
            return IPv4Address(rdata.address)
        case dns.rdtypes.IN.AAAA.AAAA():
            return IPv6Address(rdata.address)
        case dns.rdtypes.ANY.TXT.TXT():
            return b"".join(rdata.strings)
        case dns.rdtypes.ANY.MX.MX():
            return MX(rdata.preference, display_name(rdata.exchange.labels))
        case dns.rdtypes.ANY.PTR.PTR() | dns.rdtypes.ANY.CNAME.CNAME() | dns.rdtypes.ANY.NS.NS():
            return display_name(rdata.target.labels)
        case _:
            raise ValueError(f"unexpected record {type(rdata).__name__}")
