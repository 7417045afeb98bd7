"""Connect to a filter that listens, and play a session to it."""

import asyncio
import socket
import ssl as tls
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError
from aiomilter.mta.content import Style
from aiomilter.mta.macros import MacroValues
from aiomilter.mta.session import Session
from aiomilter.mta.stages import OFFER
from aiomilter.wire.events import Negotiate

__all__ = ["connect", "open_streams"]

_UNIX_BUFFER: Final = 4096
_TCP_BUFFER: Final = 256 << 10


@asynccontextmanager
async def connect(
    address: str,
    *,
    style: Style = "postfix",
    offer: Negotiate = OFFER,
    lenient: bool = False,
    timeout: float = 30.0,
    macros: MacroValues = MappingProxyType({}),
    max_answer_size: int = 64 << 20,
    ssl: tls.SSLContext | None = None,
) -> AsyncIterator[Session]:
    """Connect to a filter and negotiate; leaving the block sends QUIT, or closes at once if it is left by an exception.

    The SMTP client is not announced yet: :meth:`Session.connect` and :meth:`Session.helo` do that, before the first message.

    Args:
        address: Where the filter listens: ``inet:8890@127.0.0.1``, ``inet:127.0.0.1:8890``, ``inet6:8890@::1``,
            ``unix:/path``, ``/path``; without host the loopback is meant.
        style: The MTA to behave as, "postfix" or "sendmail"; see :class:`StageSession`.
        offer: What to offer to the filter; that of a current MTA by default.
        lenient: Let pass what Postfix lets pass, although it breaks the protocol; see :class:`StageSession`.
        timeout: Seconds for the connection, and for each packet.
        macros: Values by stage, known from that stage on: ``{Stage.MAIL: {"{auth_authen}": "alice"}}``.
        max_answer_size: Octets of one stage's answer.
        ssl: A context of a client for a filter that speaks TLS, by TCP; None for no TLS.

    Raises:
        AddressError: The text is not an address that can be connected to, or not by TLS.
        OSError: Nothing listens there; TimeoutError if nothing answers.  ssl.SSLError if TLS cannot be agreed on.
        RemoteProtocolError: The filter's answer to the offer is one that an MTA would not take.
    """
    reader, writer = await open_streams(address, timeout, ssl)
    session = Session(
        reader,
        writer,
        style=style,
        offer=offer,
        lenient=lenient,
        timeout=timeout,
        macros=macros,
        max_answer_size=max_answer_size,
        buffer_size=_UNIX_BUFFER if isinstance(parse(address), Unix) else _TCP_BUFFER,
    )
    try:
        await session.negotiate()
        yield session
        await session.quit()
    finally:
        await session.close()


async def open_streams(
    address: str, timeout: float, ssl: tls.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a filter, and return both directions of the connection.

    Args:
        address: As for :func:`connect`.
        timeout: Seconds for the connection.
        ssl: As for :func:`connect`.

    Raises:
        AddressError, OSError: As for :func:`connect`.
    """
    where = parse(address)
    try:
        async with asyncio.timeout(timeout):
            match where:
                case Unix() if ssl is not None:
                    raise AddressError(f"milter to connect to by TLS: expected a port, found {address!r}")
                case Unix(path):
                    return await asyncio.open_unix_connection(path)
                case Inet(host, port, family):
                    loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
                    return await asyncio.open_connection(host or loopback, port, family=family, ssl=ssl)
                case _:
                    raise AddressError(f"milter to connect to: expected a path or a port, found {address!r}")
    except TimeoutError:
        raise TimeoutError(f"{address}: no connection within {timeout:g} seconds") from None
