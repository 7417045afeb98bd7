"""The next hop of a rig: an SMTP server that takes every message and keeps it with its envelope.

It runs on an event loop of its own, in a thread, so that it outlives the loops of the tests.
"""

import asyncio
import email
import email.policy
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

EXTENSIONS = ("PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came over the wire, envelope without angle brackets."""

    sender: str
    params: tuple[str, ...]
    recipients: dict[str, tuple[str, ...]]
    content: bytes

    @property
    def head(self) -> bytes:
        """The header section."""
        return self.content.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """Everything after the first empty line."""
        return self.content.partition(b"\r\n\r\n")[2]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields in order: name, and all octets after the colon with folds as CRLF."""
        unfolded: list[str] = []
        for line in self.head.decode("utf-8", "surrogateescape").split("\r\n"):
            if line[:1] in (" ", "\t") and unfolded:
                unfolded[-1] += "\r\n" + line
            else:
                unfolded.append(line)
        pairs = (line.partition(":") for line in unfolded)
        return [(name, value) for name, _, value in pairs]

    def values(self, name: str) -> list[str]:
        """What the fields called ``name`` hold, in order, with what stands before the value."""
        return [value for found, value in self.fields if found.lower() == name.lower()]

    def parsed(self) -> EmailMessage:
        """The message as Python's ``email`` reads it."""
        message = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


class Sink:
    """An SMTP server on loopback, with a ``/dev/log`` for a program that can log in no other way (Sendmail)."""

    def __init__(self, log_socket: Path | None = None, log: Path | None = None) -> None:
        self.deliveries: list[Delivery] = []
        self._log_socket = log_socket
        self._log = log
        self._started: list[int | BaseException] = []
        self._ready = threading.Event()
        self._end: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def start(self) -> int:
        """Return the port, once somebody listens there."""
        self._thread.start()
        self._ready.wait()
        started = self._started[0]
        if isinstance(started, BaseException):
            raise started
        return started

    def stop(self) -> None:
        """End the thread; deliveries stay."""
        self._end()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._started.append(error)
            self._ready.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        records: asyncio.BaseTransport | None = None
        if self._log_socket is not None and self._log is not None:
            records = await _listen_for_records(self._log_socket, self._log)
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=512)
        self._started.append(server.sockets[0].getsockname()[1])
        self._end = lambda: loop.call_soon_threadsafe(done.set)
        self._ready.set()
        await done.wait()
        server.close()
        if records is not None:
            records.close()
            await asyncio.sleep(0)  # it closes in the next turn of the loop

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Conversation(reader, writer, self.deliveries.append).run()
        except ConnectionError:
            pass
        finally:
            writer.close()


class _Conversation:
    """One SMTP connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, store: Callable[[Delivery], None]
    ) -> None:
        self._reader, self._writer, self._store = reader, writer, store
        self._waiting = bytearray()
        self._sender = ""
        self._params: tuple[str, ...] = ()
        self._recipients: dict[str, tuple[str, ...]] = {}

    async def run(self) -> None:
        self._writer.write(b"220 sink ESMTP\r\n")
        while True:
            line = (await self._until(b"\r\n")).decode("utf-8", "surrogateescape")
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "EHLO":
                    lines = ("sink", *EXTENSIONS[:-1])
                    self._writer.write("".join(f"250-{text}\r\n" for text in lines).encode())
                    self._writer.write(f"250 {EXTENSIONS[-1]}\r\n".encode())
                case "MAIL":
                    self._sender, self._params = _path(rest.partition(":")[2])
                    self._recipients = {}
                    self._writer.write(b"250 2.1.0 Ok\r\n")
                case "RCPT":
                    address, params = _path(rest.partition(":")[2])
                    self._recipients[address] = params
                    self._writer.write(b"250 2.1.5 Ok\r\n")
                case "DATA":
                    self._writer.write(b"354 End data with <CR><LF>.<CR><LF>\r\n")
                    content = await self._content()
                    self._store(Delivery(self._sender, self._params, self._recipients, content))
                    self._writer.write(b"250 2.0.0 stored\r\n")
                case "QUIT":
                    self._writer.write(b"221 2.0.0 Bye\r\n")
                    return
                case _:
                    self._writer.write(b"250 2.0.0 Ok\r\n")

    async def _content(self) -> bytes:
        """Read up to the lone dot; only CRLF . CRLF ends a message."""
        self._waiting[:0] = b"\r\n"  # so that a dot on the first line is found as on any other
        content = await self._until(b"\r\n.\r\n") + b"\r\n"
        return content.replace(b"\r\n.", b"\r\n")[2:]

    async def _until(self, end: bytes) -> bytes:
        """What comes before the next ``end``; a client may send QUIT together with the end of its message."""
        searched = 0
        while (index := self._waiting.find(end, searched)) < 0:
            searched = max(0, len(self._waiting) - len(end))
            chunk = await self._reader.read(1 << 18)
            if not chunk:
                raise ConnectionResetError("the client went away")
            self._waiting += chunk
        found = bytes(self._waiting[:index])
        del self._waiting[: index + len(end)]
        return found


def _path(text: str) -> tuple[str, tuple[str, ...]]:
    """Split ``<address> A=1 B=2``; a quoted local part may hold blanks and brackets."""
    text = text.strip()
    quoted = False
    for index, character in enumerate(text):
        if character == '"' and text[index - 1] != "\\":
            quoted = not quoted
        elif character == ">" and not quoted:
            return text[1:index], tuple(text[index + 1 :].split())
    return text, ()


class _Records(asyncio.DatagramProtocol):
    def __init__(self, log: Path) -> None:
        self._log = log.open("ab", buffering=0)

    def datagram_received(self, data: bytes, addr: object) -> None:
        # <PRI>Mmm dd hh:mm:ss tag[pid]: text
        self._log.write(data.partition(b">")[2].rstrip(b"\0\n") + b"\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._log.close()


async def _listen_for_records(path: Path, log: Path) -> asyncio.BaseTransport:
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    endpoint.setblocking(False)
    endpoint.bind(str(path))
    path.chmod(0o666)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Records(log), sock=endpoint)
    return transport
