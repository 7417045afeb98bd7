"""A nameserver that sends the octets it is told to: for answers that no honest server gives."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias, cast

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "DNAME": 39, "OPT": 41}


DATA = {
    "A": bytes((192, 0, 2, 1)),
    "TXT": b"\x19v=spf1 ip4:192.0.2.1 -all",
    "AAAA": bytes(15) + b"\1",
    "MX": b"\0\x0a\x02mx\0",
}


def wire(name: str) -> bytes:
    """Return a name as a message has it, without pointers; labels hold no dots."""
    labels = name.removesuffix(".").encode("latin-1").split(b".") if name not in ("", ".") else []
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


class RR(NamedTuple):
    """One resource record; the owner is a name, or octets as they are to stand there.

    The type ASKED is the one that is asked for; no rdata is an address, a policy, whatever answers well.
    """

    owner: str | bytes
    rdtype: int | str
    rdata: bytes | None
    ttl: int = 300
    rdclass: int = 1
    rdlength: int | None = None

    def at(self, owner: str | bytes) -> "RR":
        """Return the same record of another owner."""
        return self._replace(owner=owner)

    def octets(self, asked: str) -> bytes:
        owner = self.owner if isinstance(self.owner, bytes) else wire(self.owner)
        rdtype = asked if self.rdtype == "ASKED" else self.rdtype
        kind = TYPES[rdtype] if isinstance(rdtype, str) else rdtype
        rdata = DATA[asked] if self.rdata is None else self.rdata
        size = len(rdata) if self.rdlength is None else self.rdlength
        return owner + struct.pack(">HHIH", kind, self.rdclass, self.ttl, size) + rdata


def opt(rcode: int = 0, owner: bytes = b"\0", version: int = 0, rdata: bytes = b"", rdlength: int | None = None) -> RR:
    """Return an OPT record that holds the upper bits of an RCODE."""
    return RR(owner, "OPT", rdata, rcode >> 4 << 24 | version << 16, 1232, rdlength)


def soa(owner: str, ttl: int = 60, minimum: int = 60) -> RR:
    """Return the SOA record of a zone."""
    return RR(owner, "SOA", wire("ns." + owner) + wire("x." + owner) + struct.pack(">IIIII", 1, 2, 3, 4, minimum), ttl)


@dataclass(frozen=True)
class Asked:
    """A query as the server sees it."""

    octets: bytes
    transport: str
    number: int

    @property
    def question(self) -> bytes:
        return self.octets[12 : self.octets.index(0, 12) + 5]

    @property
    def edns(self) -> bool:
        return self.octets[10:12] == b"\0\1"

    @property
    def name(self) -> str:
        labels, at = [], 0
        while size := self.question[at]:
            labels.append(self.question[at + 1 : at + 1 + size].decode("latin-1"))
            at += 1 + size
        return ".".join(labels)

    @property
    def rdtype(self) -> str:
        number = int.from_bytes(self.question[-4:-2])
        return next(name for name, value in TYPES.items() if value == number)


RECORD = RR(b"\xc0\x0c", "ASKED", None)
"""What answers a question well; the owner is a pointer to the question."""


def reply(
    asked: Asked,
    answers: Iterable[RR] = (),
    authority: Iterable[RR] = (),
    additional: Iterable[RR] = (),
    *,
    rcode: int = 0,
    qr: bool = True,
    opcode: int = 0,
    aa: bool = False,
    tc: bool = False,
    ra: bool = True,
    id_change: int = 0,
    question: bytes | None = None,
    questions: int | None = None,
    counts: Sequence[int] | None = None,
    after: bytes = b"",
) -> bytes:
    """Return a message, of which everything can be made wrong."""
    sections = [list(answers), list(authority), list(additional)]
    flags = qr << 15 | opcode << 11 | aa << 10 | tc << 9 | 1 << 8 | ra << 7 | rcode & 15
    asks = asked.question if question is None else question
    numbers = (len(section) for section in sections) if counts is None else counts
    head = struct.pack(
        ">HHHHHH",
        int.from_bytes(asked.octets[:2]) ^ id_change,
        flags,
        bool(asks) if questions is None else questions,
        *numbers,
    )
    return head + asks + b"".join(rr.octets(asked.rdtype) for section in sections for rr in section) + after


def framed(message: bytes) -> bytes:
    """Return a message as it goes over TCP."""
    return len(message).to_bytes(2) + message


class Do(Enum):
    """What a server may do besides sending."""

    CLOSE = "close the connection"
    SEND_FROM_ELSEWHERE = "send what comes next from another port"


Script: TypeAlias = Callable[[Asked], Iterable[bytes | Do]]
"""What is sent for a query, in order: datagrams, or the octets of a stream."""


@dataclass
class ScriptedServer:
    """Plays a script to those that ask it.

    Args:
        script: What it does.
        udp: Whether it has a socket there.
        tcp: Whether it listens there.
    """

    script: Script
    udp: bool = True
    tcp: bool = True
    log: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._connections: set[asyncio.Task[None]] = set()
        for _ in range(20):
            self._tcp = await asyncio.start_server(self._serve_tcp, "127.0.0.1", 0)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=("127.0.0.1", port))
            except OSError:
                self._tcp.close()
                continue
            break
        else:
            raise OSError("no port free for both UDP and TCP")
        self._elsewhere, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        self.port = port
        # Closed only now, so that the port was free for both.
        if not self.udp:
            self._udp.close()
        if not self.tcp:
            self._tcp.close()
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._udp.close()
        self._elsewhere.close()
        self._tcp.close()
        for connection in tuple(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await self._tcp.wait_closed()

    def play(self, octets: bytes, transport: str) -> Iterable[bytes | Do]:
        """Yield what the script does, and write it down."""
        asked = Asked(octets, transport, len(self.asked))
        self.asked.append(asked)
        self.log.append(f"asked over {transport}{'' if asked.edns else ' without EDNS'}: {asked.name} {asked.rdtype}")
        for action in self.script(asked):
            self.log.append(f"  {action.value if isinstance(action, Do) else action[:120].hex(' ', 2)}")
            yield action

    def send(self, octets: bytes, address: tuple[str | object, int]) -> None:
        socket = self._udp
        for action in self.play(octets, "udp"):
            if action is Do.SEND_FROM_ELSEWHERE:
                socket = self._elsewhere
            elif isinstance(action, bytes):
                socket.sendto(action, address)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2))
                for action in self.play(await reader.readexactly(size), "tcp"):
                    if action is Do.CLOSE:
                        return
                    if isinstance(action, bytes):
                        writer.write(action)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client is done, or the test is
        finally:
            self._connections.discard(task)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is a DatagramTransport in all but name.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | object, int]) -> None:
        self._server.send(data, address)
