"""The package that programs know as ``Milter``: one object per connection, one method per stage.

One piece, although long: it is the list of names that programs find there, each short.

Source: the documentation of pymilter, and its behaviour as observed.
"""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import iscoroutine, iscoroutinefunction
from itertools import count
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from aiomilter.compat import lowlevel as milter
from aiomilter.compat.context import Context
from aiomilter.compat.lowlevel import (
    ACCEPT,
    ADDHDRS,
    ADDRCPT,
    ADDRCPT_PAR,
    ALL_OPTS,
    CHGBODY,
    CHGFROM,
    CHGHDRS,
    CONTINUE,
    CURR_ACTS,
    DELRCPT,
    DISCARD,
    FAILURE,
    M_CONNECT,
    M_DATA,
    M_ENVFROM,
    M_ENVRCPT,
    M_EOH,
    M_EOM,
    M_HELO,
    MODBODY,
    NOREPLY,
    P_HDR_LEADSPC,
    P_NOBODY,
    P_NOCONNECT,
    P_NODATA,
    P_NOEOH,
    P_NOHDRS,
    P_NOHELO,
    P_NOMAIL,
    P_NORCPT,
    P_NOUNKNOWN,
    P_NR_BODY,
    P_NR_CONN,
    P_NR_DATA,
    P_NR_EOH,
    P_NR_HDR,
    P_NR_HELO,
    P_NR_MAIL,
    P_NR_RCPT,
    P_NR_UNKN,
    P_RCPT_REJ,
    P_SKIP,
    QUARANTINE,
    REJECT,
    SETSYMLIST,
    SKIP,
    SUCCESS,
    TEMPFAIL,
    V1_ACTS,
    V2_ACTS,
    VERSION,
    error,
    getdiag,
    getversion,
    main,
    opensocket,
    register,
    set_abort_callback,
    set_body_callback,
    set_close_callback,
    set_connect_callback,
    set_envfrom_callback,
    set_envrcpt_callback,
    set_eoh_callback,
    set_eom_callback,
    set_exception_policy,
    set_flags,
    set_header_callback,
    set_helo_callback,
    setbacklog,
    setconn,
    setdbg,
    settimeout,
    stop,
)
from aiomilter.compat.session import Callbacks

__all__ = [
    "ACCEPT",
    "ADDHDRS",
    "ADDRCPT",
    "ADDRCPT_PAR",
    "ALL_OPTS",
    "CHGBODY",
    "CHGFROM",
    "CHGHDRS",
    "CONTINUE",
    "CURR_ACTS",
    "DELRCPT",
    "DISCARD",
    "FAILURE",
    "MACRO_CALLBACKS",
    "MODBODY",
    "M_CONNECT",
    "M_DATA",
    "M_ENVFROM",
    "M_ENVRCPT",
    "M_EOH",
    "M_EOM",
    "M_HELO",
    "NOREPLY",
    "OPTIONAL_CALLBACKS",
    "P_HDR_LEADSPC",
    "P_NOBODY",
    "P_NOCONNECT",
    "P_NODATA",
    "P_NOEOH",
    "P_NOHDRS",
    "P_NOHELO",
    "P_NOMAIL",
    "P_NORCPT",
    "P_NOUNKNOWN",
    "P_NR_BODY",
    "P_NR_CONN",
    "P_NR_DATA",
    "P_NR_EOH",
    "P_NR_HDR",
    "P_NR_HELO",
    "P_NR_MAIL",
    "P_NR_RCPT",
    "P_NR_UNKN",
    "P_RCPT_REJ",
    "P_SKIP",
    "QUARANTINE",
    "REJECT",
    "SETSYMLIST",
    "SKIP",
    "SUCCESS",
    "TEMPFAIL",
    "V1_ACTS",
    "V2_ACTS",
    "VERSION",
    "Base",
    "DisabledAction",
    "Milter",
    "R",
    "callbacks_of",
    "close_callback",
    "connect_callback",
    "decode",
    "decode_mask",
    "dictfromlist",
    "enable_protocols",
    "envcallback",
    "error",
    "factory",
    "getdiag",
    "getversion",
    "header_leading_space",
    "main",
    "milter",
    "negotiate_callback",
    "never_blocks",
    "nocallback",
    "noreply",
    "opensocket",
    "param2dict",
    "register",
    "rejected_recipients",
    "runmilter",
    "set_abort_callback",
    "set_body_callback",
    "set_close_callback",
    "set_connect_callback",
    "set_envfrom_callback",
    "set_envrcpt_callback",
    "set_eoh_callback",
    "set_eom_callback",
    "set_exception_policy",
    "set_flags",
    "set_header_callback",
    "set_helo_callback",
    "setbacklog",
    "setconn",
    "setdbg",
    "settimeout",
    "stop",
    "symlist",
    "uniqueID",
]

__version__ = "1.0.5"

_F = TypeVar("_F", bound=Callable[..., Any])
_C = TypeVar("_C", bound=type)

R = re.compile("%+")
OPTIONAL_CALLBACKS = {
    "connect": (P_NR_CONN, P_NOCONNECT),
    "hello": (P_NR_HELO, P_NOHELO),
    "envfrom": (P_NR_MAIL, P_NOMAIL),
    "envrcpt": (P_NR_RCPT, P_NORCPT),
    "data": (P_NR_DATA, P_NODATA),
    "unknown": (P_NR_UNKN, P_NOUNKNOWN),
    "eoh": (P_NR_EOH, P_NOEOH),
    "body": (P_NR_BODY, P_NOBODY),
    "header": (P_NR_HDR, P_NOHDRS),
}
"""The bits that say that a callback gives no reply, and that it is not to be called."""
MACRO_CALLBACKS = {
    "connect": M_CONNECT,
    "hello": M_HELO,
    "envfrom": M_ENVFROM,
    "envrcpt": M_ENVRCPT,
    "data": M_DATA,
    "eom": M_EOM,
    "eoh": M_EOH,
}
"""The stages for which macros can be asked for."""
_MAX_MACROS: Final = 5
# What a filter gets only if it says so: no-reply stages, recipients that were refused, the space after the colon.
_ON_REQUEST: Final = sum(no_reply for no_reply, _ in OPTIONAL_CALLBACKS.values()) | P_RCPT_REJ | P_HDR_LEADSPC

_numbers: Final = count(1)


def uniqueID() -> int:
    """Return a number that no other call in this process returns."""
    return next(_numbers)


def decode_mask(bits: int, names: Iterable[str]) -> list[str]:
    """Return the names of the bits that are set, and the rest of them as one hexadecimal number."""
    found = []
    for name in names:
        bit = getattr(milter, name)
        if bits & bit:
            found.append(name)
            bits &= ~bit
    return [*found, hex(bits)] if bits else found


def enable_protocols(klass: _C, mask: int) -> _C:
    """Have a class ask for more of the protocol (``P_RCPT_REJ``, ``P_HDR_LEADSPC``)."""
    klass._protocol_mask = klass.protocol_mask() & ~mask  # type: ignore[attr-defined]
    return klass


def rejected_recipients(klass: _C) -> _C:
    """Have a class be told of recipients that the MTA itself refuses, too."""
    return enable_protocols(klass, P_RCPT_REJ)


def header_leading_space(klass: _C) -> _C:
    """Have a class be given the space that follows the colon of a header field."""
    return enable_protocols(klass, P_HDR_LEADSPC)


_wrappers: Final[WeakSet[Callable[..., Any]]] = WeakSet()
"""What the decorators below have made; none of it blocks."""


def _bits(decorator: str, function: Callable[..., Any]) -> tuple[int, int]:
    try:
        return OPTIONAL_CALLBACKS[function.__name__]
    except KeyError:
        raise ValueError(f"@{decorator} applied to non-optional method: {function.__name__}") from None


def _continuing(decorator: str, name: str, answer: Any, given: int) -> Any:
    """Return what is given for an answer that has to be CONTINUE; a coroutine gives it once it has been awaited."""
    if answer == CONTINUE and answer is not None:
        return given
    if iscoroutine(answer):
        return _continued(decorator, name, answer, given)
    raise RuntimeError(f"{name} return code must be CONTINUE with @{decorator}")


async def _continued(decorator: str, name: str, answer: Any, given: int) -> Any:
    return _continuing(decorator, name, await answer, given)


def nocallback(func: _F) -> _F:
    """Mark a method that is not to be called; one that is called all the same, by the program or its test, may only go on."""
    _, bit = _bits("nocallback", func)
    name = func.__name__

    @wraps(func)
    def wrapper(self: Any, *args: Any) -> Any:
        return _continuing("nocallback", name, func(self, *args), CONTINUE)

    wrapper.milter_protocol = bit  # type: ignore[attr-defined]
    _wrappers.add(wrapper)
    return cast(_F, wrapper)


def noreply(func: _F) -> _F:
    """Mark a method that always returns CONTINUE, so that the MTA need not wait for it."""
    bit, _ = _bits("noreply", func)
    name = func.__name__

    @wraps(func)
    def wrapper(self: Any, *args: Any) -> Any:
        answer = func(self, *args)
        return _continuing("noreply", name, answer, NOREPLY) if self._protocol & bit else answer

    wrapper.milter_protocol = bit  # type: ignore[attr-defined]
    _wrappers.add(wrapper)
    return cast(_F, wrapper)


def decode(strategy: str) -> Callable[[_F], _F]:
    """Say how octets that are no UTF-8 reach a method: ``strict`` (as bytes), ``bytes`` (always), or an error handler."""

    def mark(func: _F) -> _F:
        func.error_strategy = strategy  # type: ignore[attr-defined]
        return func

    return mark


def symlist(*syms: str) -> Callable[[_F], _F]:
    """Name the macros that a stage is to bring, at most five."""

    def mark(func: _F) -> _F:
        if func.__name__ not in MACRO_CALLBACKS:
            raise ValueError(f"@symlist applied to non-symlist method: {func.__name__}")
        if len(syms) > _MAX_MACROS:
            raise ValueError(f"@symlist limited to {_MAX_MACROS} macros by MTA: {func.__name__}")
        func._symlist = syms  # type: ignore[attr-defined]
        return func

    return mark


class DisabledAction(RuntimeError):
    """The MTA has not offered the action that was asked for."""

    __module__ = "Milter"


def _decoded(method: Any, *octets: bytes) -> list[Any]:
    """Return arguments of a callback, decoded as its :func:`decode` says: all of them or, where one is no UTF-8, none."""
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
    a thread of its connection; it may also be ``async def``, and then runs on the event loop.  What is not overridden is not
    called.
    """

    __module__ = "Milter"

    _ctx: Any
    _actions: int
    _protocol: int
    _protocol_mask: int

    def _setctx(self, ctx: Context | None) -> None:
        """Take the context of a connection, or let go of it."""
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
        return method(fld, *_decoded(method, val))

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
        """Clean up after a message that has ended without a decision."""
        return CONTINUE

    def close(self) -> Any:
        """Clean up at the end of the connection."""
        return CONTINUE

    @classmethod
    def protocol_mask(cls) -> int:
        """Return the bits of an offer that a class does not take, as its methods are marked."""
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
        except Exception:  # noqa: BLE001 - whatever it is, the whole offer can be taken
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
        """Name the macros that a stage is to bring; while negotiating only."""
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
        """Tell the MTA that work goes on."""
        return self._ctx.progress()

    def _need(self, action: int, name: str) -> None:
        if not self._actions & action:
            raise DisabledAction(name)


class Milter(Base):
    """A filter that prints what it is told, and answers nothing before the end of the message."""

    __module__ = "Milter"

    def log(self, *msg: object) -> None:
        """Print a heading, and each item on a line of its own."""
        print("Milter:", *msg, "", sep="\n")

    @noreply
    def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
        """Print the client."""
        self.log(f"connect from {hostname} at {hostaddr}")
        return CONTINUE

    @noreply
    def hello(self, hostname: str) -> Any:
        """Print the name."""
        self.log(f"hello from {hostname}")
        return CONTINUE

    @noreply
    def envfrom(self, f: Any, *str: Any) -> Any:
        """Print the sender."""
        self.log("mail from", f, str)
        return CONTINUE

    @noreply
    def envrcpt(self, to: Any, *str: Any) -> Any:
        """Print the recipient."""
        self.log("rcpt to", to, str)
        return CONTINUE

    @noreply
    def header(self, field: str, value: Any) -> Any:
        """Print the field."""
        self.log(f"{field}: {value}")
        return CONTINUE

    @noreply
    def eoh(self) -> Any:
        """Print that the header section has ended."""
        self.log("eoh")
        return CONTINUE

    def eom(self) -> Any:
        """Print that the message has ended."""
        self.log("eom")
        return CONTINUE

    def abort(self) -> Any:
        """Print that the message was given up."""
        self.log("abort")
        return CONTINUE

    def close(self) -> Any:
        """Print that the connection has ended."""
        self.log("close")
        return CONTINUE


factory: Callable[[], Any] = Milter
"""What makes the object of a connection; programs set it."""


def negotiate_callback(ctx: Context, opts: list[int]) -> Any:
    """Make the object of a connection, and have it negotiate."""
    return _made(ctx, factory).negotiate(opts)


def connect_callback(ctx: Context, hostname: str, family: int, hostaddr: Any, nr_mask: int = P_NR_CONN) -> Any:
    """Call ``connect``, of a new object if the connection has none."""
    return (ctx.getpriv() or _made(ctx, factory)).connect(hostname, family, hostaddr)


def _made(ctx: Context, make: Callable[[], Any]) -> Any:
    made = make()
    made._setctx(ctx)
    return made


def close_callback(ctx: Context) -> Any:
    """Call ``close``, and part object and context."""
    serving = ctx.getpriv()
    if not serving:
        return CONTINUE
    answer = CONTINUE
    try:
        answer = serving.close()
    finally:
        if not iscoroutine(answer):
            serving._setctx(None)
    return _closed(serving, answer) if iscoroutine(answer) else answer


async def _closed(serving: Any, answer: Any) -> Any:
    try:
        return await answer
    finally:
        serving._setctx(None)


def dictfromlist(args: Iterable[str]) -> dict[str, str]:
    """Return ESMTP parameters by keyword in upper case, those without value left out."""
    pairs = (arg.partition("=") for arg in args)
    return {name.upper(): value for name, equals, value in pairs if equals and name}


def param2dict(str: Iterable[str]) -> dict[str, str | None]:
    """Return ESMTP parameters by keyword in upper case, None where there is no value."""
    pairs = (arg.partition("=") for arg in str)
    return {name.upper(): value if equals else None for name, equals, value in pairs}


def envcallback(c: Callable[..., Any], args: list[str]) -> Any:
    """Call a function with an address and its ESMTP parameters, those that have a value as keywords."""
    plain, named = [args[0]], {}
    for arg in args[1:]:
        name, equals, value = arg.partition("=")
        if equals and name:
            named[name.upper()] = value
        else:
            plain.append(arg)
    return c(*plain, **named)


def runmilter(name: str, socketname: str, timeout: int = 0, rmsock: bool = True) -> None:
    """Serve what ``factory`` makes until ``stop()`` or a signal.

    Args:
        name: Of the filter.
        socketname: As for ``setconn``.
        timeout: Seconds an MTA may pause inside of a packet, and ten minutes less than it may between two; 0 for the default
            of two hours.
        rmsock: Whether a socket that is in the place of the new one is removed.

    Raises:
        error: The socket cannot be listened on.
    """
    milter.set_connect_callback(connect_callback)
    milter.set_helo_callback(_hello)
    milter.set_envfrom_callback(_envfrom)
    milter.set_envrcpt_callback(_envrcpt)
    milter.set_header_callback(_header)
    milter.set_eoh_callback(_eoh)
    milter.set_body_callback(_body)
    milter.set_eom_callback(_eom)
    milter.set_abort_callback(_abort)
    milter.set_close_callback(close_callback)
    milter.register(name, data=_data, unknown=_unknown, negotiate=negotiate_callback)
    milter.setconn(socketname)
    if timeout > 0:
        milter.settimeout(timeout)
    milter.opensocket(rmsock)
    milter.set_inline(lambda: never_blocks(factory))
    milter.main()


def callbacks_of(make: Callable[[], Any], name: str) -> Callbacks:
    """Return what to register for the objects of one factory, beside those of any other.

    Args:
        make: The factory.
        name: Of the filter.
    """
    return Callbacks(
        name=name,
        negotiate=lambda ctx, opts: _made(ctx, make).negotiate(opts),
        connect=lambda ctx, *client: (ctx.getpriv() or _made(ctx, make)).connect(*client),
        helo=_hello,
        envfrom=_envfrom,
        envrcpt=_envrcpt,
        data=_data,
        header=_header,
        eoh=_eoh,
        body=_body,
        eom=_eom,
        unknown=_unknown,
        abort=_abort,
        close=close_callback,
    )


def never_blocks(make: object) -> bool:
    """Return whether a factory's objects need no thread: it is a class, and all callbacks of its own are ``async def``."""
    if not isinstance(make, type) or not issubclass(make, Base):
        return False
    if any(getattr(make, name) is not getattr(Base, name) for name in _RAW) or make.__init__ is not object.__init__:
        return False
    return all(
        getattr(make, name) is getattr(Base, name) or iscoroutinefunction(_unwrapped(getattr(make, name)))
        for name in (*OPTIONAL_CALLBACKS, "eom", "abort", "close")
    )


_RAW: Final = ("envfrom_bytes", "envrcpt_bytes", "header_bytes", "negotiate", "_setctx")


def _unwrapped(method: Any) -> Any:
    while method in _wrappers:
        method = method.__wrapped__
    return method


def _hello(ctx: Context, name: str) -> Any:
    return ctx.getpriv().hello(name)


def _envfrom(ctx: Context, *strings: bytes) -> Any:
    return ctx.getpriv().envfrom_bytes(*strings)


def _envrcpt(ctx: Context, *strings: bytes) -> Any:
    return ctx.getpriv().envrcpt_bytes(*strings)


def _data(ctx: Context) -> Any:
    return ctx.getpriv().data()


def _header(ctx: Context, name: str, value: bytes) -> Any:
    return ctx.getpriv().header_bytes(name, value)


def _eoh(ctx: Context) -> Any:
    return ctx.getpriv().eoh()


def _body(ctx: Context, chunk: bytes) -> Any:
    return ctx.getpriv().body(chunk)


def _eom(ctx: Context) -> Any:
    return ctx.getpriv().eom()


def _unknown(ctx: Context, line: str) -> Any:
    return ctx.getpriv().unknown(line)


def _abort(ctx: Context) -> Any:
    return ctx.getpriv().abort()
