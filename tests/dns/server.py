"""A small nameserver on loopback for tests: real packets over UDP and TCP, and every way to misbehave."""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset

Labels = tuple[bytes, ...]
Records = dict[tuple[Labels, str], list[dns.rdata.Rdata]]


class Silence(Enum):
    """What stands in a zone in place of records."""

    TIMEOUT = "no reply"
    SERVFAIL = "a reply that says SERVFAIL"


class Manner(Enum):
    """How the server answers everything."""

    PLAIN = "as it should"
    TRUNCATED = "every UDP answer is truncated"
    WRONG_ID = "another id"
    WRONG_QUESTION = "another question"
    GARBAGE = "octets that are no message"
    NOTHING = "never"
    HALF = "TCP closes in the middle of the answer, UDP truncates"


def labels(name: str) -> Labels:
    """Split a name that is written plainly: no escapes, lower case."""
    name = name.removesuffix(".").lower()
    return tuple(label.encode("utf-8") for label in name.split(".")) if name else ()


@dataclass
class NameServer:
    """Answers from ``records``; ``silent`` holds names (with a type, or "*") that get none."""

    records: Records = field(default_factory=dict)
    silent: dict[tuple[Labels, str], Silence] = field(default_factory=dict)
    manner: Manner = Manner.PLAIN
    ttl: int = 300
    soa_minimum: int | None = 60
    queries: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0
    host: str = "127.0.0.1"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._asked = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        for _ in range(20):
            self._tcp = await asyncio.start_server(self._serve_tcp, self.host, self.port)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self.host, port))
            except OSError:
                self._tcp.close()
                continue
            self.port = port
            return self
        raise OSError("no port free for both UDP and TCP")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        for connection in tuple(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await self._tcp.wait_closed()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def add(self, name: str, rdtype: str, *values: str) -> None:
        """Add records in master file syntax."""
        kind = dns.rdatatype.from_text(rdtype)
        found = self.records.setdefault((labels(name), rdtype), [])
        for value in values:
            found.append(dns.rdata.from_text(dns.rdataclass.IN, kind, value, dns.name.root, False))

    async def asked(self, count: int) -> None:
        """Wait until ``count`` questions have arrived."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.queries) >= count)

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        """Return the octets of the reply, or None for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name
        rdtype = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name.to_text(omit_final_dot=True), rdtype, transport))
        if self._asked._waiters:  # nobody waits: save the task
            asyncio.get_running_loop().create_task(self._notify())
        if self.manner is Manner.NOTHING:
            return None
        if self.manner is Manner.GARBAGE:
            return b"\x00" + wire[:1] + b"\xff" * 40
        if self.manner is Manner.WRONG_QUESTION:
            other = dns.message.make_query("other.example.", question.rdtype)
            other.id = query.id
            query = other
        response = dns.message.make_response(query, recursion_available=True)
        if self.manner is Manner.WRONG_ID:
            response.id = query.id ^ 1
        if transport == "udp" and self.manner in (Manner.TRUNCATED, Manner.HALF):
            response.flags |= dns.flags.TC
            return response.to_wire()
        silence = self._fill(response, name, rdtype)
        if silence is Silence.TIMEOUT:
            return None
        if silence is not None:
            response.set_rcode(dns.rcode.SERVFAIL)
            response.answer.clear()
        limit = 65535 if transport == "tcp" else max(512, query.payload)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            return response.to_wire(max_size=limit, prefer_truncation=True)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, rdtype: str) -> Silence | None:
        owner = name
        for _ in range(9):
            key = tuple(label.lower() for label in owner.labels[:-1])
            found = self.records.get((key, rdtype))
            if found:
                self._append(response, owner, rdtype, found)
                return None
            aliases = self.records.get((key, "CNAME"))
            if aliases:
                self._append(response, owner, "CNAME", aliases)
                owner = aliases[0].target  # type: ignore[attr-defined]  # a CNAME
                continue
            silence = self.silent.get((key, rdtype)) or self.silent.get((key, "*"))
            if silence is not None:
                return silence
            if not any(name[-len(key) :] == key for name, _ in (*self.records, *self.silent)):
                response.set_rcode(dns.rcode.NXDOMAIN)
            if self.soa_minimum is not None:
                soa = dns.rrset.from_text(".", self.ttl, "IN", "SOA", f"a. b. 1 1 1 1 {self.soa_minimum}")
                response.authority.append(soa)
            return None
        return None

    def _append(
        self, response: dns.message.Message, owner: dns.name.Name, rdtype: str, records: Sequence[dns.rdata.Rdata]
    ) -> None:
        rrset = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(rdtype))
        rrset.update_ttl(self.ttl)
        for record in records:
            rrset.items[record] = None
        response.answer.append(rrset)

    async def _notify(self) -> None:
        async with self._asked:
            self._asked.notify_all()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                reply = self.answer(await reader.readexactly(size), "tcp")
                if reply is None:
                    continue
                framed = struct.pack("!H", len(reply)) + reply
                if self.manner is Manner.HALF:
                    writer.write(framed[: len(framed) // 2])
                    return
                writer.write(framed)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client is done, or the test is
        finally:
            self._connections.discard(task)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is a DatagramTransport in all but name.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | object, int]) -> None:
        reply = self._server.answer(data, "udp")
        if reply is not None:
            self._transport.sendto(reply, address)


def zone(records: Mapping[str, Mapping[str, Sequence[str]]]) -> NameServer:
    """Return a server that answers from a mapping of names to types to values in master file syntax."""
    server = NameServer()
    for name, types in records.items():
        for rdtype, values in types.items():
            server.add(name, rdtype, *values)
    return server
