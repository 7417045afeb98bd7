"""``run``: a filter as a process of its own, with signals, reloads, a service manager and an exit status."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Final, NamedTuple, Unpack

from aiomilter._option import check_number
from aiomilter._process import lifecycle
from aiomilter._process.lifecycle import UNCHANGED, Control, MainService
from aiomilter._process.relay import StatusProgram
from aiomilter._process.supervisor import Rereading, Supervisor
from aiomilter._process.systemd import Systemd
from aiomilter._process.worker import Make, Report, WorkerProgram
from aiomilter._serving.binding import Bound, Permissions, bind
from aiomilter._serving.feed import Feed, Reporter
from aiomilter._serving.forked import call_in_children
from aiomilter._serving.sharing import PLACES, AcceptBalancer
from aiomilter.addresses import parse_all
from aiomilter.observe import Lifecycle, LifecycleKind, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver, hint_at_setup
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Factory, Server, warn_of_reach

__all__ = ["run"]

MAX_WORKERS: Final = PLACES // 2
"""A reload needs room for as many again, while the old ones drain."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(
    factory: Factory,
    *sockets: str,
    uvloop: bool | None = None,
    workers: int = 1,
    **options: Unpack[ServeOptions],
) -> None:
    """Serve a filter until SIGTERM or SIGINT, then drain and return; a second signal closes at once, a third ends the process.

    SIGHUP enters the factory again: new connections get their filters from its new value, open ones finish on the old one.
    If that fails, a log record says why, and nothing has changed.  A second SIGHUP cancels a reload still in progress and
    starts over.

    Under systemd (``Type=notify``) the service manager is notified of readiness, reloads and the end, and the event loop feeds
    its watchdog.  The variables that systemd has set are removed from the environment.  The program sets logging up:
    ``logging.basicConfig(level=logging.INFO)`` shows one line per message.  Where it does not, one line on stderr says so.

    Args:
        factory: As for :func:`aiomilter.serve`.  If it ends while it is in use, open SMTP sessions end as after a signal, and
            RuntimeError is raised.
        sockets: As for :func:`aiomilter.serve`; also ``fd:NAME``, a socket that systemd has handed over under that name.  None
            means all sockets handed over.
        uvloop: Whether to run on uvloop; None to do so where it is installed.
        workers: Processes that serve, at most 128.  For more than one, a supervisor process binds the sockets, forks the
            workers and watches them; it serves no mail itself.  Limits hold for each worker.  Each enters the factory, and a
            reload is a new set of processes.
        options: As for :func:`aiomilter.serve`.

    Raises:
        AddressError: A text of ``sockets`` is not an endpoint, or names one twice.
        ChildProcessError: A worker could not start, or did not end well; it has written why.
        OSError: A socket cannot be listened on.
        RuntimeError: An event loop runs already; use :func:`aiomilter.serve` in it.  Or the factory has ended by itself.
        TypeError: As for :func:`aiomilter.serve`.
        ValueError: As for :func:`aiomilter.serve`, or there are too many workers.
    """
    checked = Options.given_to(run, options)
    check_number("workers", workers, maximum=MAX_WORKERS)
    if checked.observer is None:
        hint_at_setup()
    systemd = Systemd.from_environment()
    if workers > 1:

        def make(share: AcceptBalancer, later: bool, _: Reporter | None) -> Server:
            server = Server(factory, texts, checked)
            server.share(share)
            return server

        texts = systemd.sockets(sockets)
        # Errors in the arguments are raised here, not written by a worker.
        Server(factory, texts, checked)
        observer = Guard(LogObserver() if checked.observer is None else checked.observer)
        if run_workers(make, workers, texts, checked, uvloop=uvloop, systemd=systemd, observer=observer):
            raise ChildProcessError("a worker could not start or did not end well; it has written why")
        return
    server = Server(factory, systemd.sockets(sockets), checked)
    run_service(server, uvloop=uvloop, systemd=systemd)


class Status(NamedTuple):
    """An HTTP listener beside workers.

    Args:
        bound: Its sockets.
        make: Makes, in its process, the service that listens on them, given what workers report there.
    """

    bound: Sequence[Bound]
    make: Callable[[Feed], MainService]


def run_workers(
    make: Make,
    workers: int,
    sockets: Sequence[str],
    options: Options,
    *,
    uvloop: bool | None,
    systemd: Systemd,
    observer: Guard,
    report: Report | None = None,
    rereading: Rereading | None = None,
    status: "Status | None" = None,
) -> int:
    """Serve with several processes until a signal comes; return the exit status.

    Args:
        make: Makes the service, in a worker; it accepts by the share that it gets.  See :data:`Make`.
        workers: How many.
        sockets: Where to listen.
        options: Of the server; those on sockets and timeouts apply in this process.
        uvloop: As for :func:`run`.
        systemd: The service manager.
        observer: Hears, in this process, of workers that start and end.
        report: Reports to the user, in a worker, what failed there.  See :data:`Report`.
        rereading: What is read in this process at a reload; None for nothing.
        status: The HTTP listener, which is a process of its own; None for none.

    Raises:
        OSError: A socket cannot be listened on, or a process cannot be forked.
        RuntimeError: An event loop runs already.
    """
    _check_no_loop()
    permissions = Permissions(options.socket_mode, options.socket_owner, options.socket_group)
    bound: list[Bound] = []
    report = report or _reporter(observer, options.name)
    try:
        for address in parse_all(sockets):
            bound += bind(address, permissions)
        supervisor = Supervisor(
            WorkerProgram(make, report, _loop_factory(uvloop), systemd.watchdog, workers),
            workers,
            bound,
            backlog=options.backlog,
            drain_timeout=options.drain_timeout,
            cancel_timeout=options.cancel_timeout,
            systemd=systemd,
            observer=observer,
            name=options.name,
            listening=lambda: warn_of_reach(bound, options, observer),
            rereading=rereading,
            status=status and StatusProgram(status.bound, status.make, report, _loop_factory(uvloop)),
        )
        return supervisor.run()
    finally:
        for one in (*bound, *(status.bound if status is not None else ())):
            one.close()


def _reporter(observer: Guard, name: str) -> Report:
    def report(error: BaseException, what: str) -> int:
        if what:
            text = f"cannot {what}: {type(error).__name__}: {error}; {UNCHANGED}"
            observer.tell(Lifecycle(Where(server=name), LifecycleKind.RELOAD_FAILED, text, error))
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        return 1

    return report


def run_service(service: MainService, *, uvloop: bool | None = None, systemd: Systemd | None = None) -> None:
    """Run a service in an event loop of its own, as :func:`run_until_stopped` does."""
    _check_no_loop()
    with asyncio.Runner(loop_factory=_loop_factory(uvloop)) as runner:
        runner.run(run_until_stopped(service, own_process=True, systemd=systemd))


async def run_until_stopped(service: MainService, *, own_process: bool = False, systemd: Systemd | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal closes at once, one during the start cancels that.

    A third ends the process by the signal, whatever it still waits for.  SIGHUP reloads.  In the main thread only.

    Args:
        service: What to serve.
        own_process: Whether the process has no other purpose, so that what it has made so far stays for good.
        systemd: Is notified of start, reload and end, and of signs of life while the event loop turns.
    """
    loop = asyncio.get_running_loop()
    control = Control()
    stops = 0

    # Not handlers of the loop: where a callback blocks it they are not called.
    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stops
        stops += 1
        if stops > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        pass_on(control.request_stop)

    def reload(_: int, __: FrameType | None) -> None:
        pass_on(control.request_reload)

    def pass_on(request: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(request)

    for number in _SIGNALS:
        signal.signal(number, reload if number == signal.SIGHUP else stop)
    # The parent process may have blocked them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _Handling.now = True
    try:
        await lifecycle.run(service, control, manager=systemd or Systemd(), own_process=own_process)
    finally:
        _Handling.now = False
        _give_back()


class _Handling:
    """Whether signals are ours."""

    now = False


def _give_back() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _forked() -> None:
    """Have signals end a child process of the filter, such as one of a pool: it has no service that they could stop."""
    if _Handling.now:
        _Handling.now = False
        _give_back()
        signal.set_wakeup_fd(-1)  # uvloop's, which the parent reads


call_in_children(_forked)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the handlers of a daemon's signals at the end of the block, which may set others."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_no_loop() -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run: an event loop runs here already; write 'async with aiomilter.serve(...)' instead")


def _loop_factory(wanted: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if wanted is False:
        return None
    try:
        import uvloop
    except ImportError:
        if wanted:
            raise
        return None
    return uvloop.new_event_loop
