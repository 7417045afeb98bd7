"""``run``: a filter as a process of its own, with signals, reloads, a service manager and an exit."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Final, Unpack

from aiomilter._option import check_number
from aiomilter._process import lifecycle
from aiomilter._process.lifecycle import UNCHANGED, Control, MainService
from aiomilter._process.supervisor import Supervisor
from aiomilter._process.systemd import Systemd
from aiomilter._process.worker import Make, Report, WorkerProgram
from aiomilter._serving.binding import Bound, Permissions, bind
from aiomilter._serving.forked import call_in_children
from aiomilter._serving.sharing import PLACES, AcceptBalancer
from aiomilter.addresses import parse_all
from aiomilter.observe import Lifecycle, LifecycleKind, Where
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Factory, Server

__all__ = ["run"]

MAX_WORKERS: Final = PLACES // 2
"""A reload needs room for as many again, while the old ones let their connections end."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(
    factory: Factory,
    *sockets: str,
    uvloop: bool | None = None,
    workers: int = 1,
    **options: Unpack[ServeOptions],
) -> None:
    """Serve a filter until SIGTERM or SIGINT, then drain and return; a second signal closes at once, a third ends the process.

    SIGHUP enters the factory again: new connections get their filters from what it then gives, open ones finish on the old.
    If it fails, a log record says why, and nothing has changed.  Another SIGHUP while the factory is being entered gives that
    up, and begins again.

    Under systemd (``Type=notify``) readiness, reloads and the end are told, and a watchdog is fed from the event loop; what
    systemd has left in the environment is removed from it.  Logging is the program's to set up:
    ``logging.basicConfig(level=logging.INFO)`` shows a line per message.

    Args:
        factory: As for :func:`aiomilter.serve`.  If it ends while it is in use, open SMTP sessions end as after a signal, and
            RuntimeError is raised.
        sockets: As for :func:`aiomilter.serve`; also ``fd:NAME``, a socket that systemd has handed over under that name.  None
            for all that it has handed over.
        uvloop: Whether to run on uvloop; None to do so where it is installed.
        workers: Processes that serve, at most 128; more than one are forked and watched over by another, which binds the
            sockets.  Limits hold for each of them.  The factory is entered in each, and a reload is a new set of processes.
        options: As for :func:`aiomilter.serve`.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint, or one that is there already.
        ChildProcessError: A worker could not start, or did not end well; it has written why.
        OSError: A socket cannot be listened on.
        RuntimeError: An event loop runs already; use :func:`aiomilter.serve` in it.  Or the factory has ended by itself.
        TypeError: As of :func:`aiomilter.serve`.
        ValueError: As of :func:`aiomilter.serve`, or there are too many workers.
    """
    checked = Options.given_to(run, options)
    check_number("workers", workers, maximum=MAX_WORKERS)
    systemd = Systemd.from_environment()
    if workers > 1:

        def make(share: AcceptBalancer, later: bool) -> Server:
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
) -> int:
    """Serve with several processes until a signal comes; return the exit status.

    Args:
        make: Makes, in a worker, what serves there, told whether others have before; that takes the share it is given.
        workers: How many.
        sockets: Where to listen.
        options: Those that concern sockets and the end are heeded here.
        uvloop: As for :func:`run`.
        systemd: Is told how the whole does.
        observer: Hears, in this process, of workers that come and go.
        report: Tells the user, in a worker, what went wrong there.

    Raises:
        OSError: A socket cannot be listened on, or a process not be forked.
        RuntimeError: An event loop runs already.
    """
    _check_no_loop()
    permissions = Permissions(options.socket_mode, options.socket_owner, options.socket_group)
    bound: list[Bound] = []
    try:
        for address in parse_all(sockets):
            bound += bind(address, permissions)
        supervisor = Supervisor(
            WorkerProgram(make, report or _reporter(observer, options.name), _loop_factory(uvloop), systemd.watchdog),
            workers,
            bound,
            backlog=options.backlog,
            drain_timeout=options.drain_timeout,
            cancel_timeout=options.cancel_timeout,
            systemd=systemd,
            observer=observer,
            name=options.name,
        )
        return supervisor.run()
    finally:
        for one in bound:
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
    # Whoever has started us may have blocked them.
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
    """Have signals end a child of the filter's, a pool's above all: it serves nothing that they could stop."""
    if _Handling.now:
        _Handling.now = False
        _give_back()
        signal.set_wakeup_fd(-1)  # uvloop's, which the parent reads


call_in_children(_forked)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Have the signals that a daemon heeds be its own again at the end, whatever handlers were set meanwhile."""
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
