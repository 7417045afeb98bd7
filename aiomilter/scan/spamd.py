"""spamd, the daemon of SpamAssassin: is a message spam?

Source: spamd(8).
"""

import re
from dataclasses import dataclass
from email.utils import formatdate
from typing import ClassVar, Final

from aiomilter.scan._exchange import Answer, Request
from aiomilter.scan._fields import bracketed, host_name, word
from aiomilter.scan._trouble import Declined, Unavailable, name_shown
from aiomilter.scan.envelope import Envelope
from aiomilter.scan.scanner import Result, Scanner

__all__ = ["Spamd", "SpamdResult"]

_STATUS: Final = re.compile(rb"SPAMD/[0-9]\.[0-9] ([0-9]{1,3}) ([\x20-\x7e]*)")
_NUMBER: Final = rb"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)"
_SPAM: Final = re.compile(rb"[Ss]pam: *(True|False|Yes|No) *; *" + _NUMBER + b" */ *" + _NUMBER)
_LENGTH: Final = re.compile(rb"[Cc]ontent-[Ll]ength: *([0-9]{1,9})")
_MAX_SYMBOLS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpamdResult(Result):
    """What SpamAssassin says of a message.

    Args:
        spam: Whether the score reaches the threshold.
        score: Of the message.
        threshold: From which on a message is spam, ``required_score`` of its configuration.
        symbols: The rules that have hit: printable ASCII, 100 octets each at most.
    """

    spam: bool = False
    score: float = 0.0
    threshold: float = 0.0
    symbols: tuple[str, ...] = ()


class Spamd(Scanner[SpamdResult]):
    """Asks spamd: ``found = await spamd.scan(message.octets(), envelope=envelope)``.

    A filter sees a message before the MTA has put its own Received field on top, which SpamAssassin reads the client from: one
    is made of the envelope, and a Return-Path, for spamd alone.

    Args:
        address: Where it listens: ``inet:783@127.0.0.1``, ``unix:/run/spamd.sock``.
        user: Whose preferences hold; "" for those of the user that spamd runs as.
        connect_timeout: Seconds for the connection.
        timeout: Seconds for a scan, with the wait for other scans and for the message's octets.
        max_size: Octets of a message; a larger one has a problem.  The default is that of spamc, since SpamAssassin takes long.
        concurrency: Scans at once; more wait.  spamd has a limit of its own, ``--max-children``.

    Raises:
        AddressError: The text is not an address that can be connected to.
        ValueError: A number is not above 0, or the user's name is not one.

    Source: spamd(8); spamc(1).
    """

    _name: ClassVar[str] = "spamd"
    _kind = SpamdResult

    def __init__(
        self,
        address: str,
        *,
        user: str = "",
        connect_timeout: float = 3.0,
        timeout: float = 30.0,
        max_size: int = 512_000,
        concurrency: int = 5,
    ) -> None:
        super().__init__(
            address, connect_timeout=connect_timeout, timeout=timeout, max_size=max_size, concurrency=concurrency
        )
        if not re.fullmatch(r"[!-~]{0,100}", user):
            raise ValueError(f"expected the name of a user, found {user!r:.100}")
        self._user = user

    def _request(self, size: int | None, envelope: Envelope) -> Request:
        trace = _trace(envelope)
        lines = [b"SYMBOLS SPAMC/1.5"]
        if size is not None:
            lines.append(b"Content-length: %d" % (len(trace) + size))
        if self._user:
            lines.append(b"User: " + self._user.encode())
        # Without a length the end of the message is the end of our direction; with one it does no harm.
        return Request(b"\r\n".join([*lines, b"", b""]) + trace, half_close=True)

    async def _parse(self, answer: Answer) -> SpamdResult:
        head = (await answer.until(b"\r\n\r\n")).split(b"\r\n")
        status = _STATUS.fullmatch(head[0])
        if status is None:
            raise Unavailable(f"expected an answer of spamd, found {name_shown(head[0])!r}")
        if int(status[1]):
            raise Declined(f"answered {name_shown(head[0])}")
        spam = [found for line in head if (found := _SPAM.match(line))]
        length = [found for line in head if (found := _LENGTH.fullmatch(line))]
        if len(spam) != 1 or len(length) > 1:
            raise Unavailable("expected one verdict, found none or several")
        body = await (answer.exactly(int(length[0][1])) if length else answer.rest())
        names = [name_shown(name) for name in body.split(b",", _MAX_SYMBOLS)[:_MAX_SYMBOLS]]
        return SpamdResult(
            spam=spam[0][1] in (b"True", b"Yes"),
            score=float(spam[0][2]),
            threshold=float(spam[0][3]),
            symbols=tuple(filter(None, names)),
        )


def _trace(envelope: Envelope) -> bytes:
    """Return the fields that an MTA puts on top when it takes a message; no Received if no client is known."""
    fields = []
    if envelope.sender is not None:
        fields.append(b"Return-Path: " + bracketed(envelope.sender))
    if envelope.ip is not None:
        client = b"%b [%b]" % (word(host_name(envelope.hostname)) or b"unknown", word(str(envelope.ip)))
        login = b"\r\n\t(Authenticated sender: %b)" % word(envelope.login) if envelope.login else b""
        fields.append(
            b"Received: from %b (%b)%b\r\n\tby %b (Postfix) with %b id %b;\r\n\t%b"
            % (
                word(envelope.helo) or b"unknown",
                client,
                login,
                word(envelope.mta_name) or b"localhost",
                b"ESMTPA" if envelope.login else b"ESMTP",
                word(envelope.queue_id) or b"unknown",
                formatdate().encode(),
            )
        )
    return b"".join([field + b"\r\n" for field in fields])
