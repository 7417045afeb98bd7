"""What a filter may answer: the six verdicts, and an SMTP reply of its own.

Which answer a stage takes is said by the types below, and once more at run time by ``wire.state``.
"""

import enum
import re
from struct import pack
from typing import Any, Final, Literal, Self, TypeAlias

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire.constants import ReplyCode
from aiomilter.wire.text import decode

__all__ = [
    "ACCEPT",
    "CONTINUE",
    "DISCARD",
    "PASSING",
    "REJECT",
    "SKIP",
    "TEMPFAIL",
    "BodyResponse",
    "ConnectionResponse",
    "Refusal",
    "Reply",
    "Response",
    "UnknownResponse",
    "Verdict",
]


class Verdict(enum.Enum):
    """An answer without a text of its own.

    What each does depends on the stage, see the callbacks of :class:`aiomilter.Milter`.

    Source: libmilter/docs/api.html, "Callback Return Status".
    """

    CONTINUE = ReplyCode.CONTINUE
    """Go on with the next stage."""
    ACCEPT = ReplyCode.ACCEPT
    """Let this message, or this connection, pass without asking again."""
    REJECT = ReplyCode.REJECT
    """Refuse for good, with the MTA's own 5xx text."""
    TEMPFAIL = ReplyCode.TEMPFAIL
    """Refuse for now, with the MTA's own 4xx text."""
    DISCARD = ReplyCode.DISCARD
    """Tell the client that the message was taken, and drop it."""
    SKIP = ReplyCode.SKIP
    """Send no more of the body."""

    def __repr__(self) -> str:
        """Return the name, as it is written in a filter."""
        return self.name

    @property
    def code(self) -> int | None:
        """The SMTP reply code it stands for: 250 for CONTINUE, ACCEPT and DISCARD, 550 for REJECT, 451 for TEMPFAIL.

        None for SKIP, which is not sent to a client.
        """
        return _CODES[self]

    @property
    def packet(self) -> bytes:
        """The whole packet."""
        return pack(">IB", 1, self.value)


CONTINUE: Final = Verdict.CONTINUE
ACCEPT: Final = Verdict.ACCEPT
REJECT: Final = Verdict.REJECT
TEMPFAIL: Final = Verdict.TEMPFAIL
DISCARD: Final = Verdict.DISCARD
SKIP: Final = Verdict.SKIP

_CODES: Final = {CONTINUE: 250, ACCEPT: 250, DISCARD: 250, REJECT: 550, TEMPFAIL: 451, SKIP: None}
_REASON: Final = re.compile(r"[a-z0-9_]{1,64}")
_LINE_SIZE: Final = 480
"""Octets of text in a reply line: with codes and line end it stays below 512 (RFC 5321 section 4.5.3.1.5)."""
_MAX_LINES: Final = 32
_ENHANCED: Final = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}")
_LINE: Final = re.compile(r"([45][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED_LINE: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: (.*))?", re.DOTALL)
# Sendmail strips the high bit of reply text, so that octets 8a, 8d and a5 would reach the client as LF, CR and %.
_PRINTABLE: Final = bytes(octet if 0x20 <= octet <= 0x7E or octet == 0x09 else 0x3F for octet in range(256))


class Refusal:
    """REJECT or TEMPFAIL with a reason for logs and metrics, accepted wherever the verdict is; equal to its verdict.

    Args:
        verdict: REJECT or TEMPFAIL.
        reason: A word such as ``"spf_fail"``: 1 to 64 of ``a`` to ``z``, digits and ``_``.  It is never sent.  Take it from a
            small set: metrics count by it.

    Raises:
        LocalProtocolError: The verdict is another, or the reason is not such a word.

    Source: libmilter/docs/api.html, "Callback Return Status".
    """

    __slots__ = ("reason", "verdict")

    verdict: Literal[Verdict.REJECT, Verdict.TEMPFAIL]
    reason: str

    def __init__(self, verdict: Literal[Verdict.REJECT, Verdict.TEMPFAIL], *, reason: str) -> None:
        if verdict is not REJECT and verdict is not TEMPFAIL:
            raise LocalProtocolError(f"refusal: expected REJECT or TEMPFAIL, found {verdict!r}")
        object.__setattr__(self, "verdict", verdict)
        object.__setattr__(self, "reason", checked_reason(reason))

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: a refusal does not change."""
        raise AttributeError(f"a Refusal does not change: cannot set {name}")

    def __eq__(self, other: object) -> bool:
        """Compare the verdict, with another refusal's or with a verdict."""
        if isinstance(other, Refusal):
            return self.verdict is other.verdict
        return self.verdict is other if isinstance(other, Verdict) else NotImplemented

    def __hash__(self) -> int:
        """Hash the fields that are compared."""
        return hash(self.verdict)

    def __repr__(self) -> str:
        """Show the call that makes this refusal."""
        return f"Refusal({self.verdict!r}, reason={self.reason!r})"

    @property
    def code(self) -> int | None:
        """The verdict's."""
        return self.verdict.code

    @property
    def packet(self) -> bytes:
        """The whole packet, the verdict's."""
        return self.verdict.packet


def checked_reason(reason: str) -> str:
    """Return a reason for logs and metrics.

    Raises:
        LocalProtocolError: It is not 1 to 64 of ``a`` to ``z``, digits and ``_``.

    Source: libmilter/docs/api.html, "Callback Return Status".
    """
    if not isinstance(reason, str) or _REASON.fullmatch(reason) is None:
        raise LocalProtocolError(f"reason: expected 1 to 64 of a-z, 0-9 and _, found {reason!a:.80}")
    return reason


class Reply:
    """A refusal with code and text of the filter's own, immutable; equal when code, enhanced code and lines are.

    The text reaches the SMTP client of either MTA as given, within these bounds: printable ASCII and tab, any other
    octet becomes ``?``; 480 octets a line, the rest is cut; ``%`` may be used freely.  A 421 makes both MTAs drop the
    client.

    Args:
        code: 400 to 599.
        enhanced: RFC 3463 code of the same class, such as ``"5.7.1"``; None or "" to send none (a line that
            starts with a digit gets ``5.0.0`` or ``4.0.0`` all the same, or the MTA would take it for a code).
        lines: At most 32 lines of text, without line ends; none, or one empty line, for no text.
        reason: A word for logs and metrics, such as ``"spf_fail"``, see :class:`Refusal`; not sent, not compared; "" for none.

    Raises:
        LocalProtocolError: The codes do not fit, a line holds CR, LF or NUL, there are more than 32, or the reason is not one
            word.

    Source: RFC 5321 section 4.2; RFC 2034; libmilter/docs/smfi_setmlreply.html.
    """

    __slots__ = ("code", "enhanced", "lines", "reason")

    code: int
    enhanced: str | None
    lines: tuple[str, ...]
    reason: str

    def __init__(self, code: int, enhanced: str | None = None, *lines: str, reason: str = "") -> None:
        if type(code) is not int or not 400 <= code <= 599:
            raise LocalProtocolError(f"reply code: expected 400 to 599, found {code!r}")
        if enhanced:
            match = _ENHANCED.fullmatch(enhanced) if isinstance(enhanced, str) else None
            if match is None or int(match[1]) != code // 100:
                raise LocalProtocolError(f"enhanced code: expected {code // 100}.N.N, found {enhanced!r}")
        if len(lines) > _MAX_LINES:
            raise LocalProtocolError(f"reply: expected at most {_MAX_LINES} lines, found {len(lines)}")
        text = tuple(map(_clean_line, lines)) if lines != ("",) else ()
        if not enhanced and any(line[:1].isdigit() for line in text):
            enhanced = f"{code // 100}.0.0"
        self._set(code, enhanced or None, text, checked_reason(reason) if reason != "" else "")

    def _set(self, code: int, enhanced: str | None, lines: tuple[str, ...], reason: str = "") -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "enhanced", enhanced)
        object.__setattr__(self, "lines", lines)
        object.__setattr__(self, "reason", reason)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: a reply does not change."""
        raise AttributeError(f"a Reply does not change: cannot set {name}")

    def __eq__(self, other: object) -> bool:
        """Compare code, enhanced code and lines."""
        if not isinstance(other, Reply):
            return NotImplemented
        return (self.code, self.enhanced, self.lines) == (other.code, other.enhanced, other.lines)

    def __hash__(self) -> int:
        """Hash the fields that are compared."""
        return hash((self.code, self.enhanced, self.lines))

    def __repr__(self) -> str:
        """Show the call that makes this reply."""
        reason = f", reason={self.reason!r}" if self.reason else ""
        return f"Reply({', '.join(map(repr, (self.code, self.enhanced, *self.lines)))}{reason})"

    def __str__(self) -> str:
        """Return the reply as the SMTP client reads it, lines separated by CRLF."""
        codes = f" {self.enhanced}" if self.enhanced else ""
        lines = self.lines or ("",)
        last = len(lines) - 1
        parts = []
        for number, line in enumerate(lines):
            separated = f"{codes} {line}" if codes and line else codes or f" {line}"
            parts.append(f"{self.code}{'-' if number < last else ' '}{separated[1:]}")
        return "\r\n".join(parts)

    @property
    def temporary(self) -> bool:
        """Whether the code is a 4xx."""
        return self.code < 500

    @property
    def packet(self) -> bytes:
        """The whole REPLYCODE packet; at most 32 lines of 980 octets, so it always fits."""
        payload = str(self).replace("%", "%%").encode("utf-8", "surrogateescape") + b"\0"
        return pack(">IB", len(payload) + 1, ReplyCode.REPLYCODE) + payload

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the reply of a REPLYCODE packet, as the SMTP client would see it.

        Raises:
            RemoteProtocolError: It is not one string that holds an SMTP reply.
        """
        text = decode(payload)
        if text.find("\0") != len(text) - 1:
            raise RemoteProtocolError("REPLYCODE packet: expected one string that ends in NUL")
        code, enhanced, lines = "", None, []
        for line in text[:-1].split("\r\n"):
            match = _LINE.fullmatch(line)
            if match is None or (code and match[1] != code):
                raise RemoteProtocolError("REPLYCODE packet: expected an SMTP reply 4xx or 5xx, found something else")
            rest = (match[3] or "").replace("%%", "%")
            with_enhanced = _ENHANCED_LINE.fullmatch(rest)
            if with_enhanced and (not code or with_enhanced[1] == enhanced):
                enhanced, rest = with_enhanced[1], with_enhanced[2] or ""
            code = match[1]
            lines.append(rest)
        if lines == [""]:
            lines = []
        reply = cls.__new__(cls)
        reply._set(int(code), enhanced, tuple(lines))
        return reply


def _clean_line(line: str) -> str:
    if not isinstance(line, str):
        raise LocalProtocolError(f"reply text: expected str, found {type(line).__name__}")
    if "\r" in line or "\n" in line or "\0" in line:
        raise LocalProtocolError("reply text: expected one line, found CR, LF or NUL")
    if line.isascii() and line.isprintable():
        return line[:_LINE_SIZE]
    try:
        octets = line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        octets = line.encode("utf-8", "replace")
    return octets[:_LINE_SIZE].translate(_PRINTABLE).decode("ascii")


Response: TypeAlias = (
    Literal[Verdict.CONTINUE, Verdict.ACCEPT, Verdict.REJECT, Verdict.TEMPFAIL, Verdict.DISCARD] | Reply | Refusal
)
"""What ``envfrom``, ``envrcpt``, ``data``, ``header``, ``eoh`` and ``eom`` answer."""

ConnectionResponse: TypeAlias = (
    Literal[Verdict.CONTINUE, Verdict.ACCEPT, Verdict.REJECT, Verdict.TEMPFAIL] | Reply | Refusal
)
"""The answers of ``connect`` and ``helo``: there is no message to discard (Sendmail would switch the filter off)."""

BodyResponse: TypeAlias = Response | Literal[Verdict.SKIP]
"""What ``body`` answers."""

UnknownResponse: TypeAlias = Literal[Verdict.CONTINUE, Verdict.REJECT, Verdict.TEMPFAIL] | Reply | Refusal
"""What ``unknown`` answers: Postfix's SMTP server dies of ACCEPT there."""

PASSING: Final = (CONTINUE, ACCEPT, DISCARD)
"""The answers that refuse nothing."""
