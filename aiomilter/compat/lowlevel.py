"""The module that programs know as ``milter``: libmilter's interface, one function each.

Source: libmilter/docs/api.html; the documentation of pymilter, and its behaviour as observed.
"""

import logging
import signal
from collections.abc import Callable
from operator import index as whole
from types import FrameType
from typing import Any, Final, TypeAlias

from aiomilter._serving.forked import call_in_children
from aiomilter.compat import threads
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.context import error, number, text_of
from aiomilter.compat.listening import Listening, open_socket
from aiomilter.compat.service import ThreadedService, program_service

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
    "MODBODY",
    "M_CONNECT",
    "M_DATA",
    "M_ENVFROM",
    "M_ENVRCPT",
    "M_EOH",
    "M_EOM",
    "M_HELO",
    "NOREPLY",
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
    "error",
    "getdiag",
    "getversion",
    "main",
    "opensocket",
    "register",
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
    "set_inline",
    "setbacklog",
    "setconn",
    "setdbg",
    "settimeout",
    "stop",
]

Callback: TypeAlias = Callable[..., Any]

SUCCESS = 0
FAILURE = -1
VERSION = 0x1000001
CONTINUE = 0
REJECT = 1
DISCARD = 2
ACCEPT = 3
TEMPFAIL = 4
NOREPLY = 7
SKIP = 8
ALL_OPTS = 10
ADDHDRS = 0x1
CHGBODY = 0x2
MODBODY = 0x2
ADDRCPT = 0x4
DELRCPT = 0x8
CHGHDRS = 0x10
QUARANTINE = 0x20
CHGFROM = 0x40
ADDRCPT_PAR = 0x80
SETSYMLIST = 0x100
V1_ACTS = 0xF
V2_ACTS = 0x3F
CURR_ACTS = 0x1FF
M_CONNECT = 0
M_HELO = 1
M_ENVFROM = 2
M_ENVRCPT = 3
M_DATA = 4
M_EOM = 5
M_EOH = 6
P_NOCONNECT = 0x1
P_NOHELO = 0x2
P_NOMAIL = 0x4
P_NORCPT = 0x8
P_NOBODY = 0x10
P_NOHDRS = 0x20
P_NOEOH = 0x40
P_NR_HDR = 0x80
P_NOUNKNOWN = 0x100
P_NODATA = 0x200
P_SKIP = 0x400
P_RCPT_REJ = 0x800
P_NR_CONN = 0x1000
P_NR_HELO = 0x2000
P_NR_MAIL = 0x4000
P_NR_RCPT = 0x8000
P_NR_DATA = 0x10000
P_NR_UNKN = 0x20000
P_NR_EOH = 0x40000
P_NR_BODY = 0x80000
P_HDR_LEADSPC = 0x100000

_VERSION_TRIPLE: Final = (1, 0, 1)
_STOPPING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_POLICIES: Final = frozenset({CONTINUE, REJECT, TEMPFAIL, ACCEPT})


# A program's stderr is its own: our records go where it has configured logging, not to Python's handler of last resort.  For
# those that must be seen in any case, see LogObserver.
logging.getLogger("aiomilter").addHandler(logging.NullHandler())


def _spare(logger: str) -> None:
    """Keep DEBUG records out of the log of a program that sets the root logger to DEBUG; it can set this logger instead."""
    if logging.getLogger(logger).level == logging.NOTSET:
        logging.getLogger(logger).setLevel(logging.INFO)


# There is a line for each packet.
_spare("aiomilter")


class _Program:
    """The settings of a program so far, and its services that run."""

    def __init__(self) -> None:
        self.callbacks = Callbacks()
        self.connection: str | None = None
        self.backlog = 1024
        self.timeout: int | None = None
        self.registered = False
        self.listening: Listening | None = None
        # Whether stop() was called since opensocket(): then main() returns at once.
        self.stopped = False
        self.services: list[ThreadedService] = []
        # The signal handlers to restore when it no longer runs.
        self.handlers: dict[signal.Signals, Any] = {}
        self.inline: Callable[[], bool] = lambda: False


_program: Final = _Program()


def set_flags(flags: int, /) -> None:
    """Set the actions of the filter (``ADDHDRS`` and so on); as in pymilter, without effect on negotiation."""
    _program.callbacks.actions = number(flags)


def _set(name: str, callback: Callback | None) -> Callback | None:
    if callback is not None and not callable(callback):
        raise TypeError("callback parameter must be callable")
    before: Callback | None = getattr(_program.callbacks, name)
    setattr(_program.callbacks, name, callback)
    return before


def set_connect_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback with context, host name, family and address; return the one before, as all of these functions do."""
    return _set("connect", callback)


def set_helo_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback with context and name."""
    return _set("helo", callback)


def set_envfrom_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback with context, sender and parameters, all bytes."""
    return _set("envfrom", callback)


def set_envrcpt_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback with context, recipient and parameters, all bytes."""
    return _set("envrcpt", callback)


def set_header_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback with context, name, and the value as bytes."""
    return _set("header", callback)


def set_eoh_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback at the end of the header section."""
    return _set("eoh", callback)


def set_body_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback with context and a piece of the body."""
    return _set("body", callback)


def set_eom_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback at the end of the message."""
    return _set("eom", callback)


def set_abort_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback for a message that ends without a decision."""
    return _set("abort", callback)


def set_close_callback(callback: Callback | None, /) -> Callback | None:
    """Set the callback at the end of the connection."""
    return _set("close", callback)


def set_exception_policy(policy: int, /) -> None:
    """Set the answer to exceptions: ``CONTINUE``, ``REJECT``, ``TEMPFAIL`` or ``ACCEPT``."""
    if whole(policy) not in _POLICIES:
        raise error("invalid exception policy")
    _program.callbacks.policy = policy


def register(
    name: str, unknown: Callback | None = None, data: Callback | None = None, negotiate: Callback | None = None
) -> None:
    """Set the name of the filter, and the callbacks that have no function of their own."""
    text_of("register", 1, name)
    _set("unknown", unknown)
    _set("data", data)
    _set("negotiate", negotiate)
    _program.callbacks.name = name
    _program.registered = True


def setconn(name: str, /) -> None:
    """Set where to listen: ``unix:PATH``, ``inet:PORT@HOST``, ``inet6:PORT@HOST``."""
    text_of("setconn", 1, name)
    if not name:
        raise error("cannot set connection")
    _program.connection = name


def settimeout(seconds: int, /) -> None:
    """Set how long an MTA may pause within a packet before its connection is closed; below 0 there is no limit."""
    _program.timeout = number(seconds)


def setbacklog(connections: int, /) -> None:
    """Set how many connections may wait in the listen backlog."""
    if number(connections) <= 0:
        raise error("cannot set backlog")
    _program.backlog = connections


def setdbg(level: int, /) -> None:
    """Do nothing: see the logger ``aiomilter`` instead."""
    number(level)


def getdiag() -> tuple[int, int]:
    """Return how many connections have begun, and how many of them have ended."""
    return threads.counted()


def getversion() -> tuple[int, int, int]:
    """Return the version of libmilter that this module reproduces."""
    return _VERSION_TRIPLE


def opensocket(rmsock: bool, /) -> None:
    """Listen, so that MTAs can connect and wait for :func:`main`.

    Args:
        rmsock: Whether to remove a socket that is at the path of the new one.

    Raises:
        error: It cannot be listened on.
    """
    remove = bool(number(rmsock))
    if not _program.registered or _program.connection is None:
        raise error("cannot opensocket")
    if _program.listening is not None:
        _program.listening.close()
        _program.listening = None
    _program.stopped = False
    try:
        _program.listening = open_socket(_program.connection, remove=remove, backlog=_program.backlog)
    except (OSError, ValueError) as failure:
        raise error("cannot opensocket") from failure


def main() -> None:
    """Serve until :func:`stop`, SIGTERM, SIGHUP or SIGINT; signals work in the main thread only.

    Open SMTP sessions may go on to their end; a second signal ends them at once.

    Raises:
        error: There is no socket to listen on.
    """
    if _program.listening is None:
        if _program.connection is None:
            raise error("cannot run main")
        opensocket(False)
    listening = _program.listening
    assert listening is not None
    service = program_service(
        _program.callbacks,
        listening,
        inline=_program.inline,
        timeout=_program.timeout,
        backlog=_program.backlog,
    )
    _program.services.append(service)
    _program.listening = None
    if _program.stopped:
        service.stop()
    # The program does not know that there is an event loop.
    _spare("asyncio")
    before = _program.handlers = {}

    def stopped(which: int, frame: FrameType | None) -> None:
        service.stop()

    try:
        try:
            for which in _STOPPING:
                before[which] = signal.signal(which, stopped)
        except ValueError:
            pass  # not the main thread
        service.run()
    finally:
        _program.services.remove(service)
        listening.close()
        _set_back(before)


def _set_back(handlers: dict[signal.Signals, Any]) -> None:
    for which, handler in handlers.items():
        # None: it was not set by Python code, which cannot set it again, either.
        signal.signal(which, signal.SIG_DFL if handler is None else handler)
    handlers.clear()


# A child process has no service for a signal to stop, so a signal ends it, unless the program has set a handler.
call_in_children(lambda: _set_back(_program.handlers))


def set_inline(inline: Callable[[], bool]) -> None:
    """Set the function that returns whether no callback blocks, so that a connection needs no thread."""
    _program.inline = inline


def stop() -> None:
    """Have :func:`main` return; the connection whose callback calls this is closed without an answer."""
    threads.stop_here()
    _program.stopped = True
    for service in list(_program.services):
        service.stop()
