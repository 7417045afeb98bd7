"""The package that programs know as ``Milter``: one object per connection, one method per stage.

The class of filters is in :mod:`aiomilter.compat.base`, the decorators are in :mod:`aiomilter.compat.decorators`.  This module
has the names that programs set, such as ``factory`` and ``NOREPLY``, and the functions that read them, which would not see the
new values from another module.

Source: the documentation of pymilter, and its behaviour as observed.
"""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, TypeVar

from aiomilter.compat import lowlevel as milter
from aiomilter.compat.base import Base, DisabledAction, R
from aiomilter.compat.context import Context
from aiomilter.compat.decorators import (
    MACRO_CALLBACKS,
    OPTIONAL_CALLBACKS,
    decode,
    enable_protocols,
    header_leading_space,
    nocallback,
    rejected_recipients,
    symlist,
    without_reply,
)
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
from aiomilter.compat.objects import METHODS, close_callback, made, never_blocks

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


def noreply(func: _F) -> _F:
    """Mark a method that always returns CONTINUE, so that the MTA does not wait for it."""
    # A program's unit tests set Milter.NOREPLY, and so does Milter.test.
    return without_reply(func, lambda: NOREPLY)


class Milter(Base):
    """A filter that prints its arguments, and gives no reply before the end of the message."""

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
        """Print that the message was aborted."""
        self.log("abort")
        return CONTINUE

    def close(self) -> Any:
        """Print that the connection has ended."""
        self.log("close")
        return CONTINUE


factory: Callable[[], Any] = Milter
"""Makes the object of a connection; programs set it."""


def negotiate_callback(ctx: Context, opts: list[int]) -> Any:
    """Make the object of a connection, and have it negotiate."""
    return made(ctx, factory).negotiate(opts)


def connect_callback(ctx: Context, hostname: str, family: int, hostaddr: Any, nr_mask: int = P_NR_CONN) -> Any:
    """Call ``connect``, of a new object if the connection has none."""
    return (ctx.getpriv() or made(ctx, factory)).connect(hostname, family, hostaddr)


def dictfromlist(args: Iterable[str]) -> dict[str, str]:
    """Return ESMTP parameters by keyword in upper case, without those that have no value."""
    pairs = (arg.partition("=") for arg in args)
    return {name.upper(): value for name, equals, value in pairs if equals and name}


def param2dict(str: Iterable[str]) -> dict[str, str | None]:
    """Return ESMTP parameters by keyword in upper case; None for those that have no value."""
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
    """Serve the filters that ``factory`` makes, until ``stop()`` or a signal.

    Args:
        name: The name of the filter.
        socketname: As for ``setconn``.
        timeout: Seconds an MTA may pause inside of a packet, and ten minutes less than it may between two; 0 for the default
            of two hours.
        rmsock: Whether to remove a socket that is at the path of the new one.

    Raises:
        error: The socket cannot be listened on.
    """
    milter.set_connect_callback(connect_callback)
    milter.set_helo_callback(METHODS.helo)
    milter.set_envfrom_callback(METHODS.envfrom)
    milter.set_envrcpt_callback(METHODS.envrcpt)
    milter.set_header_callback(METHODS.header)
    milter.set_eoh_callback(METHODS.eoh)
    milter.set_body_callback(METHODS.body)
    milter.set_eom_callback(METHODS.eom)
    milter.set_abort_callback(METHODS.abort)
    milter.set_close_callback(close_callback)
    milter.register(name, data=METHODS.data, unknown=METHODS.unknown, negotiate=negotiate_callback)
    milter.setconn(socketname)
    if timeout > 0:
        milter.settimeout(timeout)
    milter.opensocket(rmsock)
    milter.set_inline(lambda: never_blocks(factory))
    milter.main()
