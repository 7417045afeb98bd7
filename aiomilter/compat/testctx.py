"""A context that plays messages to a filter, for the filter's unit tests: ``Milter.testctx``."""

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6
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
    NOREPLY,
    P_NOBODY,
    P_NOCONNECT,
    P_NODATA,
    P_NOEOH,
    P_NOHDRS,
    P_NOHELO,
    P_NOMAIL,
    P_NORCPT,
    SKIP,
)
from aiomilter.compat.mime import MimeMessage, message_from_file

__all__ = ["TestCtx", "client_address"]

_ALL_STEPS: Final = 0x1FFFFF
_BLOCK: Final = 65535
_STAGES: Final = 7
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_NEGOTIATING: Final = -1
_GOES_ON: Final = (CONTINUE, NOREPLY)


def client_address(ip: str) -> tuple[int, tuple[Any, ...]]:
    """Return family and address of a client, as ``connect`` gets them.

    Raises:
        ValueError: It is no address.
    """
    try:
        version = ip_address(ip).version
    except ValueError as error:
        raise ValueError(f"TestCtx.connect: invalid ip address: {ip}") from error
    return (AF_INET, (ip, 1234)) if version == 4 else (AF_INET6, (ip, 1234, 0, 0))


class TestCtx:
    """Calls a filter, which ``Milter.factory`` makes, as a message would, and remembers what it asks for.

    ``_msg`` is the message with its headers changed, ``_body`` a file of the message as it became, ``_bodyreplaced``,
    ``_headerschanged`` and ``_envfromchanged`` tell what changed, ``_sender``, ``_addrcpt`` (with parameters) and ``_delrcpt``
    the envelope, ``_reply`` the arguments of setreply.

    Args:
        logfile: Accepted and not used.

    Source: observed of pymilter 1.0.5.
    """

    __test__ = False
    default_opts: ClassVar[list[int]] = [CURR_ACTS, _ALL_STEPS, 0, 0]

    def __init__(self, logfile: str = "test/milter.log") -> None:
        self._priv: Any = None
        self._macros: dict[str, str] = {}
        self._symlist: list[str | None] = [None] * _STAGES
        self._opts = list(self.default_opts)
        self._protocol = 0
        self._stage: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._msg: MimeMessage | None = None
        self._body: BytesIO | None = None
        self._reply: tuple[Any, ...] | None = None
        self._sender: str | None = None
        self._addrcpt: list[tuple[str, str | None]] = []
        self._delrcpt: list[str] = []
        self._bodyreplaced = self._headerschanged = self._envfromchanged = False

    # What a filter may do: the methods of every context.

    def getpriv(self) -> Any:
        """Return what :meth:`setpriv` kept: the filter."""
        return self._priv

    def setpriv(self, priv: Any) -> Any:
        """Keep an object and return the one before."""
        before, self._priv = self._priv, priv
        return before

    def getsymval(self, name: str) -> str | None:
        """Return a macro, as far as the stage's ``setsymlist`` asked for it."""
        if self._stage is not None and self._stage >= 0:
            names = self._symlist[self._stage]
            if names is not None and name not in re.split("[ ,]+", names):
                return None
        return self._macros.get(name)

    def _setsymval(self, name: str, val: str) -> None:
        """Set a macro, as the MTA does."""
        self._macros[name] = val

    def setreply(self, rcode: str, xcode: str | None, *msg: str) -> None:
        """Remember a reply."""
        self._reply = (rcode, xcode, *msg)

    def setsymlist(self, stage: int, macros: str) -> None:
        """Ask for the macros of a stage.

        Raises:
            RuntimeError: The filter is not negotiating.
        """
        if self._stage != _NEGOTIATING:
            raise RuntimeError("setsymlist may only be called from negotiate")
        self._symlist[stage] = macros

    def addheader(self, field: str, value: str, idx: int = -1) -> None:
        """Add a header, at an index if it is not negative."""
        headers = self._changed()
        headers.insert(idx if idx >= 0 else len(headers), (field, value))

    def chgheader(self, field: str, idx: int, value: str | None) -> None:
        """Change an occurrence of a header, or delete it; one that is not there is added."""
        headers = self._changed()
        same = [place for place, (name, _) in enumerate(headers) if name.lower() == field.lower()]
        place = same[max(idx, 1) - 1] if len(same) >= max(idx, 1) else None
        if place is None:
            if value:
                headers.append((field, value))
        elif value:
            headers[place] = (headers[place][0], value)
        else:
            del headers[place]

    def _changed(self) -> list[tuple[str, Any]]:
        self._at_end("headers")
        assert self._msg is not None
        self._headerschanged = True
        return self._msg._headers

    def _at_end(self, what: str) -> None:
        if self._stage != M_EOM or self._msg is None:
            raise RuntimeError(f"{what}: only at the end of a message")

    def addrcpt(self, rcpt: str, params: str | None = None) -> None:
        """Remember an added recipient."""
        self._at_end("addrcpt")
        self._addrcpt.append((rcpt, params))

    def delrcpt(self, rcpt: str) -> None:
        """Remember a deleted recipient."""
        self._at_end("delrcpt")
        self._delrcpt.append(rcpt)

    def replacebody(self, chunk: bytes | str) -> None:
        """Replace the body; further calls add to it."""
        self._at_end("replacebody")
        octets = chunk.encode() if isinstance(chunk, str) else chunk
        if not self._bodyreplaced:
            self._bodyreplaced = True
            self._new_body = bytearray()
        self._new_body += octets

    def chgfrom(self, sender: str, params: str | None = None) -> None:
        """Change the envelope sender."""
        self._at_end("chgfrom")
        self._sender = sender
        self._envfromchanged = True

    def quarantine(self, reason: str) -> None:
        """Remember why the message is held, as ``_quarantined``."""
        self._at_end("quarantine")
        self._quarantined = reason

    def progress(self) -> None:
        """Do nothing."""

    # What the MTA does.

    def _negotiate(self) -> int:
        context: Any = self
        return self._negotiate_with(lambda opts: classic.negotiate_callback(context, opts))

    def _negotiate_with(self, negotiate: Callable[[list[int]], int]) -> int:
        self._stage = _NEGOTIATING
        self._opts = list(self.default_opts)
        result = negotiate(self._opts)
        if result == ALL_OPTS:
            self._opts[1:] = [0, 0, 0]
        self._protocol = self._opts[1]
        self._stage = None
        return CONTINUE if result == ALL_OPTS else result

    def _asks(self, declined: int, stage: int | None) -> bool:
        """Tell whether the filter wants a callback, and enter its stage."""
        self._stage = stage
        return not self._protocol & declined

    def _connect(self, host: str = "localhost", helo: str = "spamrelay", ip: str = "1.2.3.4") -> int:
        """Connect and say HELO.

        Raises:
            ValueError: ``ip`` is no address.
        """
        self._begin()
        result = self._negotiate()
        if result != CONTINUE:
            return result
        if self._asks(P_NOCONNECT, M_CONNECT):
            context: Any = self
            result = classic.connect_callback(context, host, *client_address(ip))
        if result in _GOES_ON:
            result = self._helo(helo)
        if result not in _GOES_ON:
            self._close()
        return CONTINUE if result == NOREPLY else result

    def _helo(self, helo: str) -> int:
        result: int = self._priv.hello(helo) if self._asks(P_NOHELO, M_HELO) else CONTINUE
        return result

    def _envfrom(self, *s: str) -> int:
        self._begin()
        self._sender = s[0]
        result: int = CONTINUE
        if self._asks(P_NOMAIL, M_ENVFROM):
            result = self._priv.envfrom_bytes(*(text.encode("utf-8", "surrogateescape") for text in s))
        return result

    def _envrcpt(self, *s: str) -> int:
        result: int = CONTINUE
        if self._asks(P_NORCPT, M_ENVRCPT):
            result = self._priv.envrcpt_bytes(*(text.encode("utf-8", "surrogateescape") for text in s))
        return result

    def _data(self) -> int:
        result: int = self._priv.data() if self._asks(P_NODATA, M_DATA) else CONTINUE
        return result

    def _header(self, fld: str, val: str) -> int:
        result: int = CONTINUE
        if self._asks(P_NOHDRS, None):
            result = self._priv.header_bytes(fld, val.encode("utf-8", "surrogateescape"))
        return result

    def _eoh(self) -> int:
        result: int = self._priv.eoh() if self._asks(P_NOEOH, M_EOH) else CONTINUE
        return result

    def _feed_body(self, bfp: BinaryIO) -> int:
        while self._asks(P_NOBODY, None) and (chunk := bfp.read(_BLOCK)):
            result: int = self._priv.body(chunk)
            if result == SKIP:
                break
            if result not in _GOES_ON:
                return result
        return CONTINUE

    def _eom(self) -> int:
        self._stage = M_EOM
        if self._msg is None:
            self._msg = MimeMessage()
        result: int = self._priv.eom()
        self._stage = None
        return result

    def _abort(self) -> None:
        """What Milter sets for abort_callback."""
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
            The first answer that is not ``CONTINUE``, else that of ``eom``.
        """
        octets = fp.read()
        for result in self._played(octets, sender, (rcpt, *rcpts)):
            if result not in _GOES_ON:
                break
        # A verdict before eom is the message's; its body is that of the message all the same.
        self._body = BytesIO(self._became())
        self._stage = None
        return CONTINUE if result == NOREPLY else result

    def _played(self, octets: bytes, sender: str, recipients: tuple[str, ...]) -> Iterator[int]:
        yield self._envfrom(f"<{sender}>")
        for recipient in recipients:
            yield self._envrcpt(f"<{recipient}>")
        yield self._data()
        self._msg = message_from_file(BytesIO(octets))
        for name, value in self._msg.raw_items():
            yield self._header(name, value)
        yield self._eoh()
        # Past the first empty line, which is the first thing where there are no headers.
        lines = _LINE_END.sub(b"\n", octets)
        yield self._feed_body(BytesIO(lines[1:] if lines[:1] == b"\n" else lines.partition(b"\n\n")[2]))
        yield self._eom()

    def _became(self) -> bytes:
        if self._msg is None:
            return b""
        if not self._bodyreplaced:
            return self._msg.as_bytes()
        head = "".join(f"{name}: {value}\n" for name, value in self._msg.raw_items())
        return head.encode("utf-8", "surrogateescape") + b"\n" + self._new_body

    def _feedMsg(self, fname: str, sender: str = "spam@adv.com", *rcpts: str) -> int:
        """Play a message of the directory ``test``; see :meth:`_feedFile`."""
        with Path("test", fname).open("rb") as fp:
            return self._feedFile(fp, sender, *rcpts)
