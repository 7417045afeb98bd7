"""A context that plays messages to a filter, for the filter's unit tests: ``Milter.testctx``."""

import re
from collections.abc import Iterator
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX
from typing import Any, BinaryIO, ClassVar, Final

from aiomilter.compat import classic
from aiomilter.compat.lowlevel import (
    ALL_OPTS,
    CONTINUE,
    CURR_ACTS,
    M_CONNECT,
    M_DATA,
    M_ENVFROM,
    M_ENVRCPT,
    M_EOH,
    M_EOM,
    M_HELO,
    P_NOBODY,
    P_NOCONNECT,
    P_NODATA,
    P_NOEOH,
    P_NOHELO,
    P_NOMAIL,
    P_NORCPT,
)
from aiomilter.compat.modules.mime import MimeMessage, message_from_file
from aiomilter.compat.modules.testmessage import NEGOTIATING, TestMessage

__all__ = ["BLOCK", "TestCtx", "any_address", "body_of", "client_address"]

_ALL_STEPS: Final = 0x1FFFFF
BLOCK: Final = 65535
"""Octets of a body that a filter is given at once."""
_LINE_END: Final = re.compile(rb"\r\n?|\n")


def body_of(octets: bytes) -> bytes:
    """Return the body of a message, after its first empty line or, without headers, its first line; with LF for CRLF."""
    lines = _LINE_END.sub(b"\n", octets)
    return lines[1:] if lines[:1] == b"\n" else lines.partition(b"\n\n")[2]


def client_address(ip: str) -> tuple[int, tuple[Any, ...]]:
    """Return family and address of a client, as ``connect`` gets them.

    Raises:
        ValueError: It is not an address.
    """
    try:
        version = ip_address(ip).version
    except ValueError as error:
        raise ValueError(f"TestCtx.connect: invalid ip address: {ip}") from error
    return (AF_INET, (ip, 1234)) if version == 4 else (AF_INET6, (ip, 1234, 0, 0))


def any_address(ip: str) -> tuple[int, tuple[Any, ...]]:
    """Return the same; for other texts the family of UNIX-domain sockets."""
    try:
        return client_address(ip)
    except ValueError:
        return AF_UNIX, (ip, 1234)


class TestCtx(TestMessage):
    """Calls a filter, which ``Milter.factory`` makes, as a message would, and records the changes that it requests.

    See :class:`~aiomilter.compat.modules.testmessage.TestMessage` for the attributes that a test looks at; ``_addrcpt`` has the
    parameters as well.

    Args:
        logfile: Accepted and not used.

    Source: observed of pymilter 1.0.5.
    """

    default_opts: ClassVar[list[int]] = [CURR_ACTS, _ALL_STEPS, 0, 0]

    def __init__(self, logfile: str = "test/milter.log") -> None:
        super().__init__()
        self._priv: Any = None
        self._opts = list(self.default_opts)
        self._protocol: int

    # State of a context.

    def getpriv(self) -> Any:
        """Return the object of :meth:`setpriv`: the filter."""
        return self._priv

    def setpriv(self, priv: Any) -> Any:
        """Keep an object and return the one before."""
        before, self._priv = self._priv, priv
        return before

    # For the test, in place of the MTA.

    def _negotiate(self) -> int:
        context: Any = self
        self._stage = NEGOTIATING
        self._opts = list(self.default_opts)
        result: int = classic.negotiate_callback(context, self._opts)
        if result == ALL_OPTS:
            self._opts[1:] = [0, 0, 0]
        self._protocol = self._opts[1]
        self._stage = None
        return CONTINUE if result == ALL_OPTS else result

    def _wants(self, declined: int, stage: int | None) -> bool:
        """Return whether the filter wants a callback, and enter its stage."""
        self._stage = stage
        return not self._protocol & declined

    def _connect(self, host: str = "localhost", helo: str = "spamrelay", ip: str = "1.2.3.4") -> int:
        """Connect and say HELO, the latter only if the filter wants to know of the client.

        Returns:
            The first answer that is not ``CONTINUE``, after which the filter is closed, else that of ``hello``.
        Raises:
            ValueError: ``ip`` is not an address.
        """
        self._body, self._bodyreplaced = None, False
        result: int = self._negotiate()
        if result != CONTINUE or not self._wants(P_NOCONNECT, M_CONNECT):
            return result
        context: Any = self
        result = classic.connect_callback(context, host, *client_address(ip))
        if result == CONTINUE:
            return self._helo(helo)
        self._close()
        return result

    def _helo(self, helo: str) -> int:
        result: int = self._priv.hello(helo) if self._wants(P_NOHELO, M_HELO) else CONTINUE
        if result != CONTINUE:
            self._close()
        return result

    def _envfrom(self, *s: str) -> int:
        self._sender = s[0]
        result: int = CONTINUE
        if self._wants(P_NOMAIL, M_ENVFROM):
            result = self._priv.envfrom_bytes(*(text.encode("utf-8", "surrogateescape") for text in s))
        return result

    def _envrcpt(self, *s: str) -> int:
        result: int = CONTINUE
        if self._wants(P_NORCPT, M_ENVRCPT):
            result = self._priv.envrcpt_bytes(*(text.encode("utf-8", "surrogateescape") for text in s))
        return result

    def _data(self) -> int:
        result: int = self._priv.data() if self._wants(P_NODATA, M_DATA) else CONTINUE
        return result

    def _header(self, fld: str, val: str) -> int:
        self._stage = None
        result: int = self._priv.header_bytes(fld, val.encode("utf-8", "surrogateescape"))
        return result

    def _eoh(self) -> int:
        result: int = self._priv.eoh() if self._wants(P_NOEOH, M_EOH) else CONTINUE
        return result

    def _feed_body(self, bfp: BinaryIO) -> int:
        while self._wants(P_NOBODY, None) and (chunk := bfp.read(BLOCK)):
            result: int = self._priv.body(chunk)
            if result != CONTINUE:
                return result
        return CONTINUE

    def _eom(self) -> int:
        self._stage = M_EOM
        self._body = BytesIO()
        result: int = self._priv.eom()
        self._stage = None
        return result

    def _abort(self) -> None:
        """Call ``abort``, then ``close``."""
        self._priv.abort()
        self._close()

    def _close(self) -> None:
        context: Any = self
        classic.close_callback(context)

    def _feedFile(self, fp: BinaryIO, sender: str = "spam@adv.com", rcpt: str = "victim@lamb.com", *rcpts: str) -> int:
        """Play the message in a file.

        Args:
            fp: File of octets; any line ends.
            sender: Envelope sender, without brackets.
            rcpt: Envelope recipient, without brackets.
            rcpts: Further ones.
        Returns:
            The first answer that is not ``CONTINUE``, that of a method with ``@noreply`` included, else that of ``eom``.
        """
        octets = fp.read()
        self._begin_message()
        self._msg = message_from_file(BytesIO(octets))
        for result in self._played(octets, self._msg, sender, (rcpt, *rcpts)):
            if result != CONTINUE:
                break
        self._stage = None
        if self._body is not None:  # eom has been called
            self._body = BytesIO(self._became())
        return result

    def _played(self, octets: bytes, message: MimeMessage, sender: str, recipients: tuple[str, ...]) -> Iterator[int]:
        yield self._envfrom(f"<{sender}>")
        for recipient in recipients:
            yield self._envrcpt(f"<{recipient}>")
        yield self._data()
        for name, value in message.raw_items():
            yield self._header(name, value)
        yield self._eoh()
        yield self._feed_body(BytesIO(body_of(octets)))
        yield self._eom()

    def _feedMsg(self, fname: str, sender: str = "spam@adv.com", *rcpts: str) -> int:
        """Play a message of the directory ``test``; see :meth:`_feedFile`."""
        with Path("test", fname).open("rb") as fp:
            return self._feedFile(fp, sender, *rcpts)
