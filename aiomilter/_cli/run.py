"""``aiomilter run``: the daemon, with an SMTP server in front of it where that is asked for.

One piece, although long: most of it is the list of the options, which goes with what they are turned into.
"""

import argparse
import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict

from aiomilter._cli import logs
from aiomilter._cli.beside import is_installed
from aiomilter._cli.parsing import (
    above_zero,
    file_mode,
    group_number_of,
    network,
    seconds,
    seconds_by_step,
    seconds_or_off,
    socket_text,
    user_number_of,
    verdict_or_reply,
)
from aiomilter._cli.places import absolute
from aiomilter._cli.printer import Printer
from aiomilter._cli.reloading import Loader
from aiomilter._cli.target import Target, own_frames, own_traceback, start_trouble
from aiomilter._cli.tls import Files, load_tls, tls
from aiomilter._cli.trouble import USAGE, Trouble, smtp_trouble, tell
from aiomilter.addresses import parse_all
from aiomilter.daemon import (
    GIVEN_UP,
    MAX_WORKERS,
    RELOADED,
    RELOADING,
    UNCHANGED,
    AcceptBalancer,
    ServeOptions,
    Systemd,
    run_service,
    run_workers,
)
from aiomilter.exceptions import AddressError
from aiomilter.failures import FailurePolicy
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.server import Server, serve
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import TEMPFAIL, Response

if TYPE_CHECKING:
    from aiomilter.smtp import Front, Outcome

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Serve a filter until SIGTERM or SIGINT; open SMTP sessions may then end in their own time, a second signal ends them now.
SIGHUP loads the filter anew for new connections, and the TLS certificate; if that fails, the log says why and the old one
serves on.
Each message is a line on stderr.
"""
_EPILOG: Final = """\
SOCKET is where the MTA finds the filter:
  inet:8890@127.0.0.1    TCP, one address        inet:8890       TCP, all addresses
  inet6:8890@::1         TCP, IPv6               unix:/run/filter.sock
  fd:3   fd:NAME         a socket that was handed over; without --listen, all that systemd has handed over

examples:
  aiomilter run filter.py --smtp 2525
      try it: then send a message to port 2525 of this machine, with
      python3 -c "import smtplib; smtplib.SMTP('127.0.0.1', 2525).sendmail('a@x.example', 'b@y.example', 'Subject: hi')"
  aiomilter run filter.py --listen inet:8890@127.0.0.1
      Postfix finds it with   smtpd_milters = inet:127.0.0.1:8890
  aiomilter run filter.py --listen unix:/run/filter/sock --socket-mode 660 --socket-group postfix
      Sendmail finds it with  INPUT_MAIL_FILTER(`f', `S=unix:/run/filter/sock')
"""
_CALLBACK_TIMEOUT: Final = 240.0


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "run",
        help="serve a filter",
        usage="%(prog)s TARGET [--listen SOCKET]... [--smtp [HOST:]PORT] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=_run, parser=parser)
    parser.add_argument("target", metavar="TARGET", help="the filter: FILE.py, FILE.py:NAME or MODULE:NAME")
    parser.add_argument(
        "--listen", metavar="SOCKET", action="append", default=[], type=socket_text, help="where; may be repeated"
    )
    _add_smtp(parser.add_argument_group("trying it without an MTA"))
    _add_deadlines(
        parser.add_argument_group("deadlines; [STEP=] may name a callback, as in envfrom=20, and may be repeated")
    )
    _add_policy(parser.add_argument_group("when things go wrong"))
    _add_limits(parser.add_argument_group("limits"))
    _add_access(parser.add_argument_group("who may connect"))
    _add_process(parser.add_argument_group("sockets and process"))


def _add_smtp(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--smtp",
        metavar="[HOST:]PORT",
        help="also be an SMTP server that asks this filter, relays nothing and prints what comes out;"
        " without HOST on the loopback, port 0 is a free one",
    )
    group.add_argument(
        "--store", metavar="DIR", help="put what comes out there, ID.eml and ID.json, instead of printing it"
    )
    group.add_argument(
        "--smtp-size", metavar="OCTETS", type=above_zero, default=10_240_000, help="largest message (%(default)s)"
    )


def _add_deadlines(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--answer-timeout",
        metavar="[STEP=]SECONDS",
        action="append",
        default=[],
        type=seconds_by_step,
        help="from a packet to its answer (240 at end of message, before it 60 with Postfix, else 8)",
    )
    group.add_argument(
        "--callback-timeout",
        metavar="[STEP=]SECONDS",
        action="append",
        default=[],
        type=seconds_by_step,
        help=f"for one callback ({_CALLBACK_TIMEOUT:g})",
    )
    group.add_argument(
        "--on-timeout", metavar="ANSWER", type=verdict_or_reply, help="the answer when time is up (as --on-error)"
    )
    group.add_argument(
        "--cancel-timeout",
        metavar="SECONDS",
        type=seconds,
        default=5.0,
        help="for a callback to end once it was cancelled; then its connection is closed (%(default)g)",
    )
    group.add_argument(
        "--progress-interval",
        metavar="SECONDS",
        type=seconds_or_off,
        default=5.0,
        help="how often the MTA is asked for patience, where it can be; less than its time-out; or 'off' (%(default)g)",
    )


def _add_policy(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--on-error",
        metavar="ANSWER",
        type=verdict_or_reply,
        default=TEMPFAIL,
        help="the answer when the filter raises: tempfail, reject, accept, continue or a reply, as in"
        " '451 4.3.0 Try again later' (tempfail: the client tries again later)",
    )
    group.add_argument(
        "--on-error-local",
        metavar="ANSWER",
        type=verdict_or_reply,
        help="the same to clients without address or on the loopback (as --on-error)",
    )
    group.add_argument(
        "--on-error-authenticated",
        metavar="ANSWER",
        type=verdict_or_reply,
        help="the same to those that have logged in (as --on-error)",
    )
    group.add_argument(
        "--idle-timeout",
        metavar="SECONDS",
        type=seconds,
        default=7210.0,
        help="without a packet from the MTA (%(default)g)",
    )
    group.add_argument(
        "--packet-timeout",
        metavar="SECONDS",
        type=seconds,
        default=60.0,
        help="for the first packets of a connection to come, or any where memory is short (%(default)g)",
    )
    group.add_argument(
        "--write-timeout",
        metavar="SECONDS",
        type=seconds,
        default=60.0,
        help="for the MTA to read an answer (%(default)g)",
    )
    group.add_argument(
        "--stall-timeout",
        metavar="SECONDS",
        type=seconds_or_off,
        default=1.0,
        help="that the filter may block everybody before the log says where; or 'off' (%(default)g)",
    )
    group.add_argument(
        "--drain-timeout",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="for open sessions at the end (%(default)g)",
    )


def _add_limits(group: "argparse._ArgumentGroup") -> None:
    for name, default, text in (
        ("connections", 10_000, "that are served at once"),
        ("refused-connections", 1_000, "above that, answered TEMPFAIL; then no more are accepted"),
        ("headers", 5_000, "header fields of a message"),
        ("headers-size", 4_194_304, "octets in these"),
        ("recipients", 50_000, "of a message"),
        ("edits", 10_000, "of a message"),
        ("edits-size", 16_777_216, "octets in these, the body not counted"),
        ("new-body-size", 104_857_600, "octets of a body that the filter replaces"),
        ("frame-size", 65_535, "octets in a packet; a larger one closes the connection"),
        ("waiting-size", 262_144, "octets that wait behind a callback before reading pauses"),
        ("memory", 268_435_456, "octets that wait, of all connections; above it new messages are answered --on-error"),
    ):
        option, help_text = f"--max-{name}", f"{text} (%(default)s)"
        group.add_argument(option, metavar="N", type=above_zero, default=default, help=help_text)

    group.add_argument(
        "--max-messages",
        metavar="N",
        type=above_zero,
        help="in work at once; more are answered 452 (no limit of its own)",
    )
    group.add_argument(
        "--max-connections-per-peer",
        metavar="N",
        type=above_zero,
        help="of one MTA: an address, or the user of a UNIX socket (no limit of its own)",
    )


def _add_access(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--allow-network",
        metavar="NETWORK",
        action="append",
        type=network,
        help="that may connect by TCP, as in 10.0.0.0/8; may be repeated (everybody)",
    )
    group.add_argument(
        "--allow-user",
        metavar="USER",
        action="append",
        type=user_number_of,
        help="that may connect to UNIX sockets; may be repeated (whom the permissions let in)",
    )
    group.add_argument(
        "--allow-group",
        metavar="GROUP",
        action="append",
        type=group_number_of,
        help="the same of groups; may be repeated",
    )
    group.add_argument("--tls-certificate", metavar="FILE", help="speak TLS on TCP sockets, with this chain in PEM")
    group.add_argument("--tls-key", metavar="FILE", help="its private key (in the same file)")
    group.add_argument(
        "--tls-client-ca", metavar="FILE", help="only for clients with a certificate signed by one of these"
    )


def _add_process(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--socket-mode", metavar="MODE", type=file_mode, help="permissions of UNIX sockets, as in 660")
    group.add_argument("--socket-owner", metavar="USER", type=user_number_of, help="owner of UNIX sockets")
    group.add_argument("--socket-group", metavar="GROUP", type=group_number_of, help="group of UNIX sockets")
    group.add_argument(
        "--backlog", metavar="N", type=above_zero, default=1024, help="connections that may wait (%(default)s)"
    )
    group.add_argument(
        "--workers",
        metavar="N",
        type=_workers,
        default=1,
        help=f"processes that serve (%(default)s), at most {MAX_WORKERS}; with more than one, another binds the sockets,"
        " replaces who dies, and reloads with new ones; limits hold for each",
    )
    group.add_argument(
        "--uvloop",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run on uvloop; if neither is given, where it is installed",
    )
    group.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="(%(default)s: a line per message)",
    )


class _Deadlines(TypedDict):
    """Those of :class:`aiomilter.daemon.ServeOptions` that are about time and have to be put together."""

    on_timeout: Response | None
    callback_timeout: float
    callback_timeouts: dict[Stage, float]
    answer_timeout: float | None
    answer_timeouts: dict[Stage, float]
    progress_interval: float | None


def _deadlines(options: argparse.Namespace) -> _Deadlines:
    """Return what the options about time mean to :func:`aiomilter.serve`."""
    callback: dict[Stage | None, float] = dict(options.callback_timeout)
    answer: dict[Stage | None, float] = dict(options.answer_timeout)
    return {
        "on_timeout": options.on_timeout,
        "callback_timeout": callback.pop(None, _CALLBACK_TIMEOUT),
        "callback_timeouts": {stage: number for stage, number in callback.items() if stage is not None},
        "answer_timeout": answer.pop(None, None),
        "answer_timeouts": {stage: number for stage, number in answer.items() if stage is not None},
        "progress_interval": options.progress_interval,
    }


def _failure_policy(options: argparse.Namespace) -> FailurePolicy:
    """Return the answers to failures by class of client."""
    local, authenticated = options.on_error_local, options.on_error_authenticated
    return FailurePolicy(
        local=options.on_error if local is None else local,
        authenticated=options.on_error if authenticated is None else authenticated,
        other=options.on_error,
    )


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_WORKERS}, found {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    _keep_places(options)
    systemd = Systemd.from_environment()
    try:
        sockets = systemd.sockets(options.listen)
        parse_all(sockets)
    except AddressError as error:
        raise Trouble(f"--listen {error}", status=USAGE) from None
    if not sockets and options.smtp is None:
        raise Trouble(
            "where to listen? give --listen inet:8890@127.0.0.1 for an MTA, or --smtp 2525 to try it without one",
            status=USAGE,
        )
    if options.store is not None and options.smtp is None:
        raise Trouble("--store needs --smtp, as in --smtp 2525: an MTA's mail is not stored", status=USAGE)
    if options.workers > 1 and options.smtp is not None:
        raise Trouble("--smtp is for trying a filter out, with one process; leave --workers out", status=USAGE)
    if options.uvloop and not is_installed("uvloop"):
        raise Trouble("--uvloop needs uvloop: pip install 'aiomilter[uvloop]'")
    if options.uvloop is None and not is_installed("uvloop"):
        options.uvloop = False  # a file of that name beside the filter is none
    if options.smtp is not None:
        _check_nothing_keeps_out(options)
    on_message = _message_taker(options) if options.smtp is not None else None
    logs.set_up(options.log_level, process=options.workers > 1)
    if options.workers > 1:
        return _run_workers(options, sockets, systemd)
    daemon = _daemon(options, sockets or ["inet:0@127.0.0.1"], on_message=on_message)
    try:
        run_service(daemon, uvloop=options.uvloop, reload=daemon.reload, systemd=systemd)
    except Exception as error:  # noqa: BLE001  # the user's factory, while it is left
        raise _end_trouble(options.target, error) from None
    return 0


def _keep_places(options: argparse.Namespace) -> None:
    """Have what the options name be found wherever the filter goes."""
    options.where = Target.named(options.target)
    _tls_files(options)


def _tls_files(options: argparse.Namespace) -> Files:
    """Return the files as they were found first."""
    if not hasattr(options, "tls_files"):
        options.tls_files = Files(options)
    found: Files = options.tls_files
    return found


def _check_nothing_keeps_out(options: argparse.Namespace) -> None:
    """Check that the SMTP server of the command may connect to the filter."""
    given = {
        "--allow-network": options.allow_network,
        "--allow-user": options.allow_user,
        "--allow-group": options.allow_group,
        "--tls-certificate": options.tls_certificate,
    }
    if names := [name for name, value in given.items() if value is not None]:
        what = f"--smtp is for trying a filter: give it without {' and '.join(names)}"
        raise Trouble(what, status=USAGE)


def _run_workers(options: argparse.Namespace, sockets: list[str], systemd: Systemd) -> int:
    """Serve with several processes, each of which loads the filter for itself."""
    observer = Guard(LogObserver())

    def make(share: AcceptBalancer, later: bool) -> _Daemon:
        return _daemon(options, sockets, share=share, later=later)

    def report(error: BaseException, what: str) -> int:
        trouble = _end_trouble(options.target, error)
        if what:
            _log_trouble(observer, what, trouble, error)
        else:
            tell(trouble)
        return trouble.status

    try:
        return run_workers(
            make,
            options.workers,
            sockets,
            _serve_options(options),
            uvloop=options.uvloop,
            systemd=systemd,
            observer=observer,
            report=report,
        )
    except OSError as error:
        if _is_of_listening(error):
            raise Trouble(str(error.strerror)) from None
        raise Trouble(f"cannot start workers: {error.strerror or error}") from None


def _daemon(
    options: argparse.Namespace,
    sockets: list[str],
    *,
    share: AcceptBalancer | None = None,
    later: bool = False,
    on_message: Callable[["Outcome"], None] | None = None,
) -> "_Daemon":
    given = _serve_options(options)
    loader = Loader(options.where)
    try:
        factory = loader.load(later=later)
        logs.go_on(options.log_level)
        server = serve(factory, *sockets, **given)
    except ValueError as error:
        raise Trouble(str(error)) from None
    if share is not None:
        server.share(share)
    return _Daemon(server, loader, given.get("ssl"), options, on_message)


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    context = tls(_tls_files(options))
    times = _deadlines(options)
    return {
        "on_error": _failure_policy(options),
        "on_timeout": times["on_timeout"],
        "cancel_timeout": options.cancel_timeout,
        "callback_timeout": times["callback_timeout"],
        "callback_timeouts": times["callback_timeouts"],
        "answer_timeout": times["answer_timeout"],
        "answer_timeouts": times["answer_timeouts"],
        "progress_interval": times["progress_interval"],
        "drain_timeout": options.drain_timeout,
        "idle_timeout": options.idle_timeout,
        "packet_timeout": options.packet_timeout,
        "write_timeout": options.write_timeout,
        "stall_timeout": options.stall_timeout,
        "max_connections": options.max_connections,
        "max_connections_per_peer": options.max_connections_per_peer,
        "max_refused_connections": options.max_refused_connections,
        "max_headers": options.max_headers,
        "max_headers_size": options.max_headers_size,
        "max_recipients": options.max_recipients,
        "max_edits": options.max_edits,
        "max_edits_size": options.max_edits_size,
        "max_frame_size": options.max_frame_size,
        "max_waiting_size": options.max_waiting_size,
        "max_new_body_size": options.max_new_body_size,
        "max_messages": options.max_messages,
        "max_memory": options.max_memory,
        "allowed_networks": options.allow_network,
        "allowed_users": options.allow_user,
        "allowed_groups": options.allow_group,
        "ssl": context,
        "socket_mode": options.socket_mode,
        "socket_owner": options.socket_owner,
        "socket_group": options.socket_group,
        "backlog": options.backlog,
    }


def _end_trouble(target: str, error: BaseException) -> Trouble:
    if isinstance(error, Trouble):
        return error
    if isinstance(error, RuntimeError) and str(error).startswith("factory: "):
        return Trouble(f"{target}: {str(error).removeprefix('factory: ')}")
    return Trouble(f"{target} failed at its end: {type(error).__name__}: {error}", details=own_traceback(error))


def _log_trouble(observer: Guard, what: str, trouble: Trouble, error: BaseException) -> None:
    """Write a record on what could not be done, with the user's own exception where there is more to be seen in that."""
    cause = error.__context__ if trouble is error else error
    shown = cause.with_traceback(own_frames(cause)) if trouble.details and cause is not None else None
    text = f"cannot {what}: {trouble}; {UNCHANGED}"
    observer.tell(Lifecycle(SERVER, LifecycleKind.RELOAD_FAILED, text, shown))


def _message_taker(options: argparse.Namespace) -> Callable[["Outcome"], None]:
    """Return what takes the messages that come out of the SMTP server, after a look at what it needs."""
    try:
        from aiomilter.smtp import split_address, store
    except ModuleNotFoundError as error:
        raise Trouble(str(error).replace("aiomilter.smtp", "--smtp")) from None
    try:
        split_address(options.smtp)
        return store(absolute(options.store)) if options.store is not None else Printer()
    except AddressError as error:
        raise Trouble(f"--smtp {error}", status=USAGE) from None
    except OSError as error:
        raise Trouble(f"cannot store in {options.store!r}: {error.strerror}") from None


def _socket_trouble(error: OSError, options: argparse.Namespace) -> Trouble:
    """Return what to say to an OSError at start, which may be the filter's own."""
    if _is_of_listening(error):
        return Trouble(str(error.strerror))
    return start_trouble(options.target, error)


def _is_of_listening(error: OSError) -> bool:
    return str(error.strerror).startswith("cannot listen")


class _Daemon:
    """The server, and the SMTP server in front of it.

    Args:
        server: Not yet entered.
        loader: Has loaded its filter.
        context: Its TLS; None if it speaks none.
        options: Of the command line.
        on_message: Gets what comes out of the SMTP server.
    """

    def __init__(
        self,
        server: Server,
        loader: Loader,
        context: ssl.SSLContext | None,
        options: argparse.Namespace,
        on_message: Callable[["Outcome"], None] | None,
    ) -> None:
        self.drain_timeout = server.drain_timeout
        self._server = server
        self._loader = loader
        self._context = context
        self._on_message = on_message
        self._options = options
        self._front: Front | None = None
        self._stack = AsyncExitStack()

    @property
    def broken(self) -> asyncio.Event:
        """As of the server."""
        return self._server.broken

    async def __aenter__(self) -> Self:
        """Build the filter and listen.

        Raises:
            Trouble: That failed.
        """
        try:
            await self._stack.enter_async_context(self._server)
            if self._options.smtp is not None:
                await self._start_front()
        except Trouble as trouble:
            raise await self._not_started(trouble) from None
        except OSError as error:
            raise await self._not_started(_socket_trouble(error, self._options)) from None
        except Exception as error:  # noqa: BLE001  # the user's code; a traceback is what it gets
            raise await self._not_started(start_trouble(self._options.target, error)) from None
        except asyncio.CancelledError:
            await self._server.close()
            raise
        logs.go_on(self._options.log_level)
        return self

    async def _not_started(self, trouble: Trouble) -> Trouble:
        await self._server.close()
        return trouble

    async def _start_front(self) -> None:
        from aiomilter.smtp import front

        smtp = front(
            self._options.smtp,
            self._server.addresses[0],
            on_message=self._on_message,
            max_message_size=self._options.smtp_size,
            drain_timeout=self.drain_timeout,
        )
        try:
            self._front = await self._stack.enter_async_context(smtp)
        except OSError as error:
            raise smtp_trouble(error) from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End both, the front first."""
        await self._stack.__aexit__(kind, error, traceback)

    async def reload(self) -> bool:
        """Load the filter and the certificate anew for new connections.

        Returns:
            Whether that worked; the log says what has happened.
        """
        target, server = self._options.target, self._server
        server.tell_reload(LifecycleKind.RELOADING, RELOADING)
        try:
            tls(_tls_files(self._options))  # if it cannot be used, nothing has changed yet
            async with self._loader.anew() as factory:
                await self._server.reload(factory)
        except asyncio.CancelledError:
            server.tell_reload(LifecycleKind.RELOAD_CANCELLED, GIVEN_UP)
            raise
        except Exception as error:  # noqa: BLE001  # the user's code; it is logged, and what has served so far goes on
            trouble = error if isinstance(error, Trouble) else start_trouble(target, error)
            _log_trouble(server.observer, "reload", trouble, error)
            return False
        logs.go_on(self._options.log_level)
        try:
            self._renew_tls()
        except Trouble as trouble:  # the files have changed since a moment ago
            what = f"reloaded the filter alone: {trouble}; TLS goes on as before"
            server.tell_reload(LifecycleKind.RELOAD_FAILED, what)
            return False
        server.tell_reload(LifecycleKind.RELOADED, RELOADED)
        return True

    def _renew_tls(self) -> None:
        """Have the context that serves use the files as they are now.

        Another tries them first: what has failed to load could not be put back.
        """
        if self._context is not None:
            tls(_tls_files(self._options))
            load_tls(self._context, _tls_files(self._options))

    async def drain(self, timeout: float | None = None) -> None:
        """Drain both at once: neither takes anybody new, and what the one waits for the other still answers."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.drain(timeout))
            if self._front is not None:
                tasks.create_task(self._front.drain(timeout))

    async def close(self) -> None:
        """Close both."""
        try:
            if self._front is not None:
                await self._front.close()
        finally:
            await self._server.close()
