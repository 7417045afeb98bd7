"""The context that low-level callbacks get, with libmilter's functions, which check their arguments as libmilter does.

Packets go out in the order of the calls, at the latest with the answer of the callback.
"""

import re
from operator import index as whole
from typing import Any, Final, Protocol

from aiomilter.exceptions import LocalProtocolError
from aiomilter.wire.constants import BODY_CHUNK_SIZE, Action, ReplyCode
from aiomilter.wire.events import Negotiate
from aiomilter.wire.framing import packet
from aiomilter.wire.replies import Reply

__all__ = ["Context", "Conversation", "RawReply", "Text", "error", "number", "strict", "text_of"]


class error(Exception):
    """A call failed: not at this stage, not with this MTA, or not with these values; ``milter.error`` to programs."""

    __module__ = "milter"


class RawReply(Reply):
    """A reply that goes out as it was set, in libmilter's form.

    Args:
        code: Three digits.
        text: The text of the whole packet.
    """

    __slots__ = ("_packet",)
    _packet: bytes

    def __init__(self, code: str, text: str) -> None:
        self._set(int(code), None, (text,))
        # Sendmail strips the high bit: U+010A would end the line, and the client would take the rest for the next reply.
        octets = text.encode("utf-8", "surrogateescape").translate(_SEVEN_BIT)
        object.__setattr__(self, "_packet", packet(ReplyCode.REPLYCODE, octets + b"\0"))

    @property
    def packet(self) -> bytes:
        """The whole packet."""
        return self._packet

    def __str__(self) -> str:
        """Return the text as it was set."""
        return self.lines[0]


_SEVEN_BIT: Final = bytes(octet if octet <= 0x7E else 0x3F for octet in range(256))
_CODE: Final = re.compile(r"[45][0-9][0-9]", re.ASCII)
_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)
_MAX_LINES: Final = 32
_MAX_LINE: Final = 980
_ADD_HEADERS: Final = int(Action.ADD_HEADERS)
_CHANGE_HEADERS: Final = int(Action.CHANGE_HEADERS)
_REPLACE_BODY: Final = int(Action.REPLACE_BODY)
_CHANGE_SENDER: Final = int(Action.CHANGE_SENDER)
_ADD_RECIPIENTS: Final = int(Action.ADD_RECIPIENTS)
_ADD_RECIPIENTS_WITH_PARAMS: Final = int(Action.ADD_RECIPIENTS_WITH_PARAMS)
_DELETE_RECIPIENTS: Final = int(Action.DELETE_RECIPIENTS)
_QUARANTINE: Final = int(Action.QUARANTINE)
_SET_MACROS: Final = int(Action.SET_MACROS)
_LAST_STAGE: Final = 6
# A line end in a header value without a blank after it would end the field, or the header section.
_NO_FOLD: Final = re.compile(r"\r?\n(?![ \t])|\r(?!\n)")


class Text:
    """How this process treats text that is not UTF-8.

    Attributes:
        errors: "strict" rejects it, as pymilter does; "surrogateescape" passes its octets to the program, and sends them back.
    """

    errors = "strict"


class Conversation(Protocol):
    """The conversation with an MTA that a context belongs to."""

    offered: Negotiate | None
    """The MTA's offer."""
    reply: RawReply | None
    """The reply that :meth:`Context.setreply` has set, until an answer uses it."""

    def symbol(self, name: str) -> str | None:
        """Return the value of a macro by its exact name."""

    def send(self, octets: bytes) -> None:
        """Send a packet with the next write."""

    def flush(self) -> None:
        """Write the packets that wait."""


class Context:
    """One SMTP connection, as low-level callbacks see it.

    Methods raise :class:`error` if libmilter's function of the same name fails, and after the end of the connection.

    Source: libmilter/docs/api.html, "Data Access Functions" and "Message Modification Functions".
    """

    __module__ = "milter"
    __slots__ = ("_actions", "_at_end", "_negotiating", "_private", "_session", "lists")

    def __init__(self, session: Conversation, private: object = None) -> None:
        self._session: Conversation | None = session
        self._private = private
        # The actions agreed on; none before.
        self._actions = 0
        self._at_end = False
        # The macro lists asked for.
        self.lists: dict[int, tuple[str, ...]] = {}

    def getpriv(self) -> Any:
        """Return the object that :meth:`setpriv` was given, even after the end of the connection."""
        return self._private

    def setpriv(self, private: object, /) -> Any:
        """Keep an object for this connection and return the one before."""
        before, self._private = self._private, private
        return before

    def getsymval(self, name: str, /) -> str | None:
        """Return the value of a macro; None if the MTA has not sent it.

        Source: libmilter/docs/smfi_getsymval.html.
        """
        session = self._alive()
        value = session.symbol(text_of("getsymval", 1, name))
        return None if value is None else strict(value)

    def setreply(self, rcode: str, xcode: str | None, /, *lines: str) -> None:
        """Set the SMTP reply that the next REJECT (5xx) or TEMPFAIL (4xx) gives.

        Source: libmilter/docs/smfi_setmlreply.html.
        """
        session = self._alive()
        if len(lines) > _MAX_LINES:
            raise TypeError(f"setreply() takes at most {_MAX_LINES + 2} arguments ({len(lines) + 2} given)")
        text_of("setreply", 1, rcode)
        if xcode is not None:
            text_of("setreply", 2, xcode, "str or None")
        for number, line in enumerate(lines, 3):
            text_of("setreply", number, line)
        if (
            not _CODE.fullmatch(rcode)
            or (xcode is not None and not _ENHANCED.fullmatch(xcode))
            or any(len(line.encode("utf-8", Text.errors)) > _MAX_LINE or "\r" in line or "\n" in line for line in lines)
        ):
            raise error("cannot set reply")
        if xcode is None and len(lines) > 1:
            xcode = f"{rcode[0]}.0.0"
        middle = "" if xcode is None else f"{xcode} "
        last = lines[-1] if lines else ""
        whole_lines = [f"-{middle}{line}" for line in lines[:-1]] + [f" {middle}{last}" if lines else f" {middle[:-1]}"]
        session.reply = RawReply(rcode, "\r\n".join(rcode + line for line in whole_lines))

    def addheader(self, field: str, value: str, idx: int = -1, /) -> None:
        """Add a header field, or insert it at a position from 0 on.

        Source: libmilter/docs/smfi_addheader.html, smfi_insheader.html.
        """
        text_of("addheader", 1, field)
        text_of("addheader", 2, value)
        idx = number(idx)
        self._change(_ADD_HEADERS, "cannot add header", one_line=(field,), folded=value)
        if idx < 0:
            self._send(ReplyCode.ADDHEADER, _strings(field, value), "cannot add header")
        else:
            self._send(ReplyCode.INSHEADER, idx.to_bytes(4, "big") + _strings(field, value), "cannot add header")

    def chgheader(self, field: str, idx: int, value: str | None, /) -> None:
        """Change an occurrence of a header field; None or "" deletes it.

        Source: libmilter/docs/smfi_chgheader.html.
        """
        text_of("chgheader", 1, field)
        idx = number(idx)
        if value is not None:
            text_of("chgheader", 3, value, "str or None")
        self._change(_CHANGE_HEADERS, "cannot change header", one_line=(field,), folded=value or "")
        if idx < 0:
            raise error("cannot change header")
        octets = idx.to_bytes(4, "big") + _strings(field, value or "")
        self._send(ReplyCode.CHGHEADER, octets, "cannot change header")

    def addrcpt(self, rcpt: str, params: str | None = None, /) -> None:
        """Add an envelope recipient.

        Source: libmilter/docs/smfi_addrcpt.html, smfi_addrcpt_par.html.
        """
        what = "cannot add recipient"
        text_of("addrcpt", 1, rcpt)
        if params is None:
            self._change(_ADD_RECIPIENTS, what, one_line=(rcpt,))
            self._send(ReplyCode.ADDRCPT, _strings(rcpt), what)
        else:
            text_of("addrcpt", 2, params, "str or None")
            self._change(_ADD_RECIPIENTS_WITH_PARAMS, what, one_line=(rcpt,), rest=params)
            self._send(ReplyCode.ADDRCPT_PAR, _strings(rcpt, params), what)

    def delrcpt(self, rcpt: str, /) -> None:
        """Delete an envelope recipient.

        Source: libmilter/docs/smfi_delrcpt.html.
        """
        text_of("delrcpt", 1, rcpt)
        self._change(_DELETE_RECIPIENTS, "cannot delete recipient", one_line=(rcpt,))
        self._send(ReplyCode.DELRCPT, _strings(rcpt), "cannot delete recipient")

    def replacebody(self, body: Any, /) -> None:
        """Send a new body, or the next piece of it.

        Source: libmilter/docs/smfi_replacebody.html.
        """
        if isinstance(body, str):
            octets = body.encode("utf-8", Text.errors)
        elif isinstance(body, bytes):
            octets = body
        elif isinstance(body, bytearray | memoryview):
            raise TypeError(f"argument 1 must be read-only bytes-like object, not {type(body).__name__}")
        else:
            raise TypeError(f"a bytes-like object is required, not {type(body).__name__!r}")
        what = "cannot replace message body"
        self._change(_REPLACE_BODY, what)
        for at in range(0, len(octets), BODY_CHUNK_SIZE) or (0,):
            self._send(ReplyCode.REPLBODY, octets[at : at + BODY_CHUNK_SIZE], what)

    def chgfrom(self, sender: str, params: str | None = None, /) -> None:
        """Change the envelope sender.

        Source: libmilter/docs/smfi_chgfrom.html.
        """
        text_of("chgfrom", 1, sender)
        if params is not None:
            text_of("chgfrom", 2, params, "str or None")
        self._change(_CHANGE_SENDER, "cannot change sender", one_line=(sender,), rest=params or "")
        strings = _strings(sender) if params is None else _strings(sender, params)
        self._send(ReplyCode.CHGFROM, strings, "cannot change sender")

    def quarantine(self, reason: str, /) -> None:
        """Have the message held.

        Source: libmilter/docs/smfi_quarantine.html.
        """
        text_of("quarantine", 1, reason)
        self._change(_QUARANTINE, "cannot quarantine message", one_line=(reason,))
        self._send(ReplyCode.QUARANTINE, _strings(reason), "cannot quarantine message")

    def progress(self) -> None:
        """Have the MTA wait longer; packets that wait to leave go out before.

        Source: libmilter/docs/smfi_progress.html.
        """
        session = self._alive()
        session.send(_PROGRESS)
        session.flush()

    def setsymlist(self, stage: int, names: str, /) -> None:
        """Request macros for a stage (``M_*``), once for each, while negotiating.

        Source: libmilter/docs/smfi_setsymlist.html.
        """
        session = self._alive()
        stage = number(stage)
        text_of("setsymlist", 2, names)
        wanted = tuple(names.replace(",", " ").split())
        offer = session.offered
        if not 0 <= stage <= _LAST_STAGE or stage in self.lists or not wanted or offer is None:
            raise error("cannot set macro list")
        if not offer.actions & _SET_MACROS:
            raise error("cannot set macro list")
        self.lists[stage] = wanted

    # ------------------------------------------------------------------------------------------ for the session

    def agreed(self, actions: int) -> None:
        """Set the actions agreed on."""
        self._actions = actions

    def at_end(self, at_end: bool) -> None:
        """Set whether a message is at its end, so that it can be changed."""
        self._at_end = at_end

    def die(self) -> None:
        """End; only :meth:`getpriv` and :meth:`setpriv` work afterwards."""
        self._session = None

    def _alive(self) -> Conversation:
        if self._session is None:
            raise error("bad context")
        return self._session

    def _change(
        self, action: int, what: str, *, one_line: tuple[str, ...] = (), rest: str = "", folded: str = ""
    ) -> None:
        """Check the texts of a change, and that it is allowed here."""
        self._alive()
        if not self._at_end or not self._actions & action:
            raise error(what)
        if any(not text or "\r" in text or "\n" in text for text in one_line) or "\r" in rest or "\n" in rest:
            raise error(what)
        if ("\n" in folded or "\r" in folded) and _NO_FOLD.search(folded):
            raise error(what)

    def _send(self, code: int, payload: bytes, what: str) -> None:
        try:
            self._alive().send(packet(code, payload))
        except LocalProtocolError:
            raise error(what) from None


_PROGRESS: Final = packet(ReplyCode.PROGRESS)


def strict(text: str) -> str:
    """Return a text that the MTA sent.

    Raises:
        UnicodeDecodeError: Its octets are not UTF-8.
    """
    if text.isascii() or Text.errors == "surrogateescape":
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8")


def text_of(function: str, number: int, text: object, expected: str = "str") -> str:
    """Return a text, with the checks of a string argument in C."""
    if not isinstance(text, str):
        found = "None" if text is None else type(text).__name__
        raise TypeError(f"{function}() argument {number} must be {expected}, not {found}")
    if not text.isascii():
        text.encode("utf-8", Text.errors)
    if "\0" in text:
        raise ValueError("embedded null character")
    return text


def number(value: int) -> int:
    """Return a number, with the checks of an int argument in C."""
    found = whole(value)
    if not -(2**63) <= found < 2**63:
        raise OverflowError("Python int too large to convert to C long")
    if not -(2**31) <= found < 2**31:
        raise OverflowError(
            "signed integer is greater than maximum" if found > 0 else "signed integer is less than minimum"
        )
    return found


def _strings(*texts: str) -> bytes:
    return "".join([f"{text}\0" for text in texts]).encode("utf-8", Text.errors)
