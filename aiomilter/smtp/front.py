"""Listening for SMTP clients, in front of a filter."""

import asyncio
import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from aiomilter.exceptions import AddressError
from aiomilter.observe import Lifecycle, LifecycleKind, Observer, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.smtp.client import Client
from aiomilter.smtp.outcome import Outcome
from aiomilter.smtp.session import SMTPLimits, SMTPSession

__all__ = ["Front", "front", "split_address"]


def front(
    address: str,
    milter: str,
    *,
    on_message: Callable[[Outcome], None] | None = None,
    hostname: str = "localhost",
    client: str | None = None,
    login: str | None = None,
    max_message_size: int = 10_240_000,
    max_recipients: int = 1000,
    max_sessions: int = 100,
    idle_timeout: float = 300.0,
    milter_timeout: float = 300.0,
    drain_timeout: float = 30.0,
    observer: Observer | Sequence[Observer] | None = None,
) -> "Front":
    """Serve SMTP in front of a filter: ``async with front("127.0.0.1:0", server.addresses[0]) as smtp: smtp.port``.

    Args:
        address: Where to listen: ``127.0.0.1:2525``, ``[::1]:2525``, or a port alone for the loopback; port 0 works.
        milter: Where the filter listens; see :func:`aiomilter.mta.connect`.
        on_message: Called with each message that the filter has decided on.  If it raises, a message that would have been
            taken is answered 451.
        hostname: What to call itself, to SMTP clients and to the filter.
        client: IP address that the filter is shown in place of that of each SMTP client; a client on this machine may choose
            another with XCLIENT.
        login: Name that the filter is told each SMTP client has logged in with; None if none has.
        max_message_size: Octets of a message; a larger one is answered 552.
        max_recipients: Recipients of a message; one more is answered 452.
        max_sessions: SMTP sessions at once; one more is answered 421.
        idle_timeout: Seconds an SMTP client may take for a command, or a piece of a message.
        milter_timeout: Seconds the filter may take for an answer; then the client gets 451.
        drain_timeout: Seconds that messages under way may take once the block is left.
        observer: As for :func:`aiomilter.serve`.

    Raises:
        AddressError: ``address`` or ``client`` is not as described.
        OSError: It cannot be listened on; on entering the block.
    """
    host, port = split_address(address)
    limits = SMTPLimits(hostname, max_message_size, max_recipients, max_sessions, idle_timeout, milter_timeout)
    if client is not None:
        try:
            client = str(ipaddress.ip_address(client))
        except ValueError:
            raise AddressError(f"{client!r}: expected an IP address, as in 198.51.100.7") from None
    return Front(host, port, milter, limits, on_message, drain_timeout, observer, client, login)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``[HOST]:PORT`` or ``PORT``, which means the loopback.

    Raises:
        AddressError: It is none of them.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # an IPv6 address without brackets: where does the port begin?
        colon = port = ""
    digits = port.lstrip("0") or port[-1:]
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else -1
    if not 0 <= number <= 65535 or (colon and not host):
        raise AddressError(f"{address!r}: expected HOST:PORT or PORT, as in 127.0.0.1:2525 or 2525")
    return host or "127.0.0.1", number


class Front:
    """An SMTP server in front of a filter, made by :func:`front`."""

    def __init__(
        self,
        host: str,
        port: int,
        milter: str,
        limits: SMTPLimits,
        on_message: Callable[[Outcome], None] | None,
        drain_timeout: float,
        observer: Observer | Sequence[Observer] | None,
        client: str | None = None,
        login: str | None = None,
    ) -> None:
        self.host: Final = host
        self.port: int = port
        self.milter: Final = milter
        self.drain_timeout = drain_timeout
        self.limits: Final = limits
        self.draining: bool = False
        self.on_message: Final = on_message
        self.observer: Final = Guard(LogObserver() if observer is None else observer)
        self._shown = client
        self._login = login
        self._listener: asyncio.Server | None = None
        self._sessions: dict[SMTPSession, asyncio.Task[None]] = {}
        self._number = 0

    @property
    def address(self) -> str:
        """Where it listens: ``127.0.0.1:2525``, ``[::1]:2525``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: It cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(lambda: SMTPSession(self), self.host, self.port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise OSError(error.errno, f"cannot listen on {self.address}: {reason}") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        what = f"listening on {self.address} for SMTP (to try the filter: relays nothing)"
        self.observer.tell(Lifecycle(Where(listener=self.address), LifecycleKind.LISTENER_STARTED, what))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drain; after an exception, or if it is cancelled meanwhile, close at once."""
        try:
            if kind is None:
                await self.drain(self.drain_timeout)
        finally:
            await self.close()

    async def reload(self) -> None:
        """Do nothing: each SMTP session connects to the filter by itself."""

    async def drain(self, timeout: float | None = None) -> None:
        """Stop listening, drop idle clients with a 421, and wait until the messages under way are answered.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Cancelled meanwhile it closes.
        """
        self._stop_listening()
        self.draining = True
        for session in self._sessions:
            session.leave()
        try:
            if self._sessions:
                await asyncio.wait(self._sessions.values(), timeout=timeout)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening and drop every client now."""
        self._stop_listening()
        tasks = list(self._sessions.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            what = f"no longer listening on {self.address} for SMTP"
            self.observer.tell(Lifecycle(Where(listener=self.address), LifecycleKind.LISTENER_STOPPED, what))

    def shown(self, client: Client) -> Client:
        """Return the client that a filter is shown in place of one that has connected."""
        if self._shown is not None:
            client = Client(self._shown, client.port)
        return client if self._login is None else replace(client, login=self._login, mechanism="PLAIN")

    def began(self, session: "SMTPSession", task: "asyncio.Task[None]") -> int:
        """Record a session, and return its number."""
        self._sessions[session] = task
        self._number += 1
        return self._number

    def ended(self, session: "SMTPSession") -> None:
        """Forget a session."""
        del self._sessions[session]

    @property
    def full(self) -> bool:
        """Whether there are more sessions than there may be."""
        return len(self._sessions) > self.limits.max_sessions
