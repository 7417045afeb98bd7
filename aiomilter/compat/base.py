"""``Milter.Base``: the class of filters, whose methods are the callbacks and the actions.

Source: the documentation of pymilter, and its behaviour as observed.
"""

import re
from typing import Any, Final

from aiomilter.compat.context import Context
from aiomilter.compat.decorators import MACRO_CALLBACKS, OPTIONAL_CALLBACKS, nocallback
from aiomilter.compat.lowlevel import (
    ADDHDRS,
    ADDRCPT,
    ADDRCPT_PAR,
    ALL_OPTS,
    CHGFROM,
    CHGHDRS,
    CONTINUE,
    CURR_ACTS,
    DELRCPT,
    MODBODY,
    P_HDR_LEADSPC,
    P_RCPT_REJ,
    QUARANTINE,
    SETSYMLIST,
)

__all__ = ["Base", "DisabledAction", "R"]

R = re.compile("%+")
# A filter gets these only on request: no-reply stages, recipients that were rejected, the space after the colon.
_ON_REQUEST: Final = sum(no_reply for no_reply, _ in OPTIONAL_CALLBACKS.values()) | P_RCPT_REJ | P_HDR_LEADSPC


class DisabledAction(RuntimeError):
    """The MTA has not offered the action that was asked for."""

    __module__ = "Milter"


def _decoded(method: Any, *octets: bytes) -> list[Any]:
    """Return arguments of a callback, decoded as its :func:`decode` says: all of them or, if one is not UTF-8, none."""
    strategy = getattr(method, "error_strategy", "surrogateescape")
    if strategy == "bytes":
        return list(octets)
    if strategy == "strict":
        try:
            return [text.decode("utf-8") for text in octets]
        except UnicodeDecodeError:
            return list(octets)
    return [text.decode("utf-8", strategy) for text in octets]


class Base:
    """Base of filters: an object of it serves one SMTP connection.

    A callback returns ``CONTINUE``, ``ACCEPT``, ``REJECT``, ``TEMPFAIL``, ``DISCARD`` or ``SKIP``.  It may block, as it runs in
    a thread of its connection; it may also be ``async def``, and then runs on the event loop.  Methods that are not
    overridden are not called.
    """

    __module__ = "Milter"

    _ctx: Any
    _actions: int
    _protocol: int
    _protocol_mask: int

    def _setctx(self, ctx: Context | None) -> None:
        """Set the context of a connection, or drop it."""
        self._ctx = ctx
        self._actions = CURR_ACTS
        self._protocol = 0
        if ctx is not None:
            ctx.setpriv(self)

    def log(self, *msg: object) -> None:
        """Do nothing; for subclasses."""

    @nocallback
    def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
        """Handle a new SMTP client."""
        return CONTINUE

    @nocallback
    def hello(self, hostname: str) -> Any:
        """Handle HELO or EHLO."""
        return CONTINUE

    def envfrom_bytes(self, *b: bytes) -> Any:
        """Take sender and parameters as octets, and call :meth:`envfrom`."""
        method = self.envfrom
        return method(*_decoded(method, *b))

    @nocallback
    def envfrom(self, f: Any, *s: Any) -> Any:
        """Handle the envelope sender; a message begins."""
        return CONTINUE

    def envrcpt_bytes(self, *b: bytes) -> Any:
        """Take recipient and parameters as octets, and call :meth:`envrcpt`."""
        method = self.envrcpt
        return method(*_decoded(method, *b))

    @nocallback
    def envrcpt(self, to: Any, *str: Any) -> Any:
        """Handle one envelope recipient."""
        return CONTINUE

    @nocallback
    def data(self) -> Any:
        """Handle DATA."""
        return CONTINUE

    def header_bytes(self, fld: str, val: bytes) -> Any:
        """Take a header field, its value as octets, and call :meth:`header`."""
        method = self.header
        # Asked of the function: a method that lacks an attribute raises for getattr() to catch, 2000 instructions.
        if hasattr(getattr(method, "__func__", method), "error_strategy"):
            return method(fld, *_decoded(method, val))
        return method(fld, val.decode("utf-8", "surrogateescape"))

    @nocallback
    def header(self, field: str, value: Any) -> Any:
        """Handle one header field."""
        return CONTINUE

    @nocallback
    def eoh(self) -> Any:
        """Handle the end of the header section."""
        return CONTINUE

    @nocallback
    def body(self, blk: bytes) -> Any:
        """Handle a piece of the body."""
        return CONTINUE

    @nocallback
    def unknown(self, cmd: str) -> Any:
        """Handle an SMTP command that the MTA does not know."""
        return CONTINUE

    def eom(self) -> Any:
        """Handle the end of the message: the one place where it can be changed."""
        return CONTINUE

    def abort(self) -> Any:
        """Clean up after a message that was given up before a decision."""
        return CONTINUE

    def close(self) -> Any:
        """Clean up at the end of the connection."""
        return CONTINUE

    @classmethod
    def protocol_mask(cls) -> int:
        """Return the bits of an offer that a class declines, as its methods are marked."""
        try:
            return cls._protocol_mask
        except AttributeError:
            mask = _ON_REQUEST
            for name, (no_reply, no_call) in OPTIONAL_CALLBACKS.items():
                marked = getattr(getattr(cls, name), "milter_protocol", 0)
                mask |= no_call & ~marked
                mask &= ~(no_reply & marked)
            cls._protocol_mask = mask
            return mask

    def negotiate(self, opts: list[int]) -> Any:
        """Choose from what the MTA offers, by how the methods are marked."""
        try:
            self._actions, offered, _, _ = opts
            self._protocol = 0
            for name, stage in MACRO_CALLBACKS.items():
                names = getattr(getattr(self, name), "_symlist", ())
                if names:
                    self.setsymlist(stage, *names)
            self._protocol = opts[1] = offered & ~self.protocol_mask()
            opts[2] = opts[3] = 0
        except Exception:  # noqa: BLE001 - whatever it is, the whole offer can be accepted
            return ALL_OPTS
        return CONTINUE

    def getsymval(self, sym: str) -> Any:
        """Return the value of a macro, or None."""
        return self._ctx.getsymval(sym)

    def setreply(self, rcode: str, xcode: str | None = None, msg: Any = None, *ml: Any) -> Any:
        """Set the SMTP reply that the next REJECT or TEMPFAIL gives; each ``%`` has to be doubled."""
        for line in (msg, *ml):
            if any(len(run) % 2 for run in R.findall(line)):
                raise ValueError(f"'%' must be doubled: {line}")
        return self._ctx.setreply(rcode, xcode, msg, *ml)

    def setsymlist(self, stage: int, *macros: str) -> Any:
        """Request macros for a stage; while negotiating only."""
        self._need(SETSYMLIST, "SETSYMLIST")
        return self._ctx.setsymlist(stage, " ".join(macros))

    def addheader(self, field: str, value: str, idx: int = -1) -> Any:
        """Add a header field, or insert it at a position."""
        self._need(ADDHDRS, "ADDHDRS")
        return self._ctx.addheader(field, value, idx)

    def chgheader(self, field: str, idx: int, value: str | None) -> Any:
        """Change or delete an occurrence of a header field."""
        self._need(CHGHDRS, "CHGHDRS")
        return self._ctx.chgheader(field, idx, value)

    def addrcpt(self, rcpt: str, params: str | None = None) -> Any:
        """Add an envelope recipient."""
        self._need(ADDRCPT, "ADDRCPT")
        if params is not None:
            self._need(ADDRCPT_PAR, "ADDRCPT_PAR")
        return self._ctx.addrcpt(rcpt, params)

    def delrcpt(self, rcpt: str) -> Any:
        """Delete an envelope recipient."""
        self._need(DELRCPT, "DELRCPT")
        return self._ctx.delrcpt(rcpt)

    def replacebody(self, body: Any) -> Any:
        """Send a new body, or the next piece of it."""
        self._need(MODBODY, "MODBODY")
        return self._ctx.replacebody(body)

    def chgfrom(self, sender: str, params: str | None = None) -> Any:
        """Change the envelope sender."""
        self._need(CHGFROM, "CHGFROM")
        return self._ctx.chgfrom(sender, params)

    def quarantine(self, reason: str) -> Any:
        """Have the message held."""
        self._need(QUARANTINE, "QUARANTINE")
        return self._ctx.quarantine(reason)

    def progress(self) -> Any:
        """Have the MTA wait longer."""
        return self._ctx.progress()

    def _need(self, action: int, name: str) -> None:
        if not self._actions & action:
            raise DisabledAction(name)
