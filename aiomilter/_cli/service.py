"""What ``aiomilter run`` runs: the server, with an SMTP server in front of it where that is asked for."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiomilter._cli import logs
from aiomilter._cli.options import RunOptions
from aiomilter._cli.reloading import Loader
from aiomilter._cli.target import Target, own_frames, own_traceback, start_trouble
from aiomilter._cli.tls import Files, load_tls, tls
from aiomilter._cli.trouble import Trouble, smtp_trouble, tell
from aiomilter._process.systemd import Systemd
from aiomilter._serving.sharing import AcceptBalancer
from aiomilter.daemon import GIVEN_UP, RELOADED, RELOADING, UNCHANGED, run_service, run_workers
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Server

if TYPE_CHECKING:
    from aiomilter.smtp import Front, Outcome

__all__ = ["Settings", "run_alone", "run_with_workers"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for.

    Args:
        target: The filter, as given.
        where: The same as an absolute path.
        options: Those of the command.
        tls_files: The files for TLS that these name.
        given: The options of :func:`aiomilter.serve` that were given.
        smtp: Where the SMTP server in front listens; None for no such server.
        max_message_size: Octets of the largest message that it takes.
        smtp_client: IP address that the filter is shown for each of its clients; None for theirs.
        smtp_login: The name that each of them has logged in with; None if none has.
    """

    target: str
    where: Target
    options: RunOptions
    tls_files: Files
    given: ServeOptions
    smtp: str | None = None
    max_message_size: int = 0
    smtp_client: str | None = None
    smtp_login: str | None = None

    def serve_options(self) -> Options:
        """Return the options of the server, with a context for TLS of its own.

        Raises:
            Trouble: A value is out of range, or a file for TLS cannot be used.
        """
        given: ServeOptions = {**self.given, "ssl": tls(self.tls_files)}
        try:
            return Options(**given)
        except ValueError as error:
            raise Trouble(str(error)) from None


def run_alone(
    settings: Settings, sockets: list[str], systemd: Systemd, on_message: "Callable[[Outcome], None] | None"
) -> int:
    """Serve in this process until a signal comes; return the exit status.

    Args:
        settings: What to serve, and how.
        sockets: Where to listen.
        systemd: Gets the status of the service.
        on_message: Called with each message that the SMTP server has handled.

    Raises:
        Trouble: It could not start, or did not end well.
    """
    service = _service(settings, sockets, on_message=on_message)
    try:
        run_service(service, uvloop=settings.options.uvloop, reload=service.reload, systemd=systemd)
    except Exception as error:  # noqa: BLE001  # the user's factory, while it is left
        raise _end_trouble(settings.target, error) from None
    return 0


def run_with_workers(settings: Settings, sockets: list[str], systemd: Systemd) -> int:
    """Serve with several processes, each of which loads the filter for itself; return the exit status.

    Raises:
        Trouble: A socket cannot be listened on, or a process not be forked.
    """
    observer = Guard(LogObserver())

    def make(share: AcceptBalancer, later: bool) -> _FilterService:
        return _service(settings, sockets, share=share, later=later)

    def report(error: BaseException, what: str) -> int:
        trouble = _end_trouble(settings.target, error)
        if what:
            _log_trouble(observer, what, trouble, error)
        else:
            tell(trouble)
        return trouble.status

    try:
        return run_workers(
            make,
            settings.options.workers,
            sockets,
            settings.serve_options(),
            uvloop=settings.options.uvloop,
            systemd=systemd,
            observer=observer,
            report=report,
        )
    except OSError as error:
        if _is_of_listening(error):
            raise Trouble(str(error.strerror)) from None
        raise Trouble(f"cannot start workers: {error.strerror or error}") from None


def _service(
    settings: Settings,
    sockets: list[str],
    *,
    share: AcceptBalancer | None = None,
    later: bool = False,
    on_message: Callable[["Outcome"], None] | None = None,
) -> "_FilterService":
    options = settings.serve_options()
    loader = Loader(settings.where)
    try:
        factory = loader.load(later=later)
        logs.go_on(settings.options.log_level)
        server = Server(factory, sockets, options)
    except ValueError as error:
        raise Trouble(str(error)) from None
    if share is not None:
        server.share(share)
    return _FilterService(server, loader, options.ssl, settings, on_message)


def _end_trouble(target: str, error: BaseException) -> Trouble:
    if isinstance(error, Trouble):
        return error
    if isinstance(error, RuntimeError) and str(error).startswith("factory: "):
        return Trouble(f"{target}: {str(error).removeprefix('factory: ')}")
    return Trouble(f"{target} failed at its end: {type(error).__name__}: {error}", details=own_traceback(error))


def _log_trouble(observer: Guard, what: str, trouble: Trouble, error: BaseException) -> None:
    """Log a failure, with the user's own exception where its traceback helps."""
    cause = error.__context__ if trouble is error else error
    shown = cause.with_traceback(own_frames(cause)) if trouble.details and cause is not None else None
    text = f"cannot {what}: {trouble}; {UNCHANGED}"
    observer.tell(Lifecycle(SERVER, LifecycleKind.RELOAD_FAILED, text, shown))


def _socket_trouble(error: OSError, target: str) -> Trouble:
    """Return the error message for an OSError at the start, which may be the filter's own."""
    if _is_of_listening(error):
        return Trouble(str(error.strerror))
    return start_trouble(target, error)


def _is_of_listening(error: OSError) -> bool:
    return str(error.strerror).startswith("cannot listen")


class _FilterService:
    """The server, and the SMTP server in front of it.

    Args:
        server: Not yet entered.
        loader: Has loaded its filter.
        context: Its TLS; None if it speaks none.
        settings: What the command line asks for.
        on_message: Called with each message that the SMTP server has handled.
    """

    def __init__(
        self,
        server: Server,
        loader: Loader,
        context: SSLContext | None,
        settings: Settings,
        on_message: Callable[["Outcome"], None] | None,
    ) -> None:
        self.drain_timeout = server.drain_timeout
        self._server = server
        self._loader = loader
        self._context = context
        self._on_message = on_message
        self._settings = settings
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
            if self._settings.smtp is not None:
                await self._start_front(self._settings.smtp)
        except Trouble as trouble:
            raise await self._not_started(trouble) from None
        except OSError as error:
            raise await self._not_started(_socket_trouble(error, self._settings.target)) from None
        except Exception as error:  # noqa: BLE001  # the user's code; a traceback is what it gets
            raise await self._not_started(start_trouble(self._settings.target, error)) from None
        except asyncio.CancelledError:
            await self._server.close()
            raise
        logs.go_on(self._settings.options.log_level)
        return self

    async def _not_started(self, trouble: Trouble) -> Trouble:
        await self._server.close()
        return trouble

    async def _start_front(self, where: str) -> None:
        from aiomilter.smtp import front

        smtp = front(
            where,
            self._server.addresses[0],
            on_message=self._on_message,
            client=self._settings.smtp_client,
            login=self._settings.smtp_login,
            max_message_size=self._settings.max_message_size,
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
        """Reload the filter and the certificate, for new connections.

        Returns:
            Whether that worked; the log says what has happened.
        """
        target, server = self._settings.target, self._server
        server.tell_reload(LifecycleKind.RELOADING, RELOADING)
        try:
            tls(self._settings.tls_files)  # if it cannot be used, nothing has changed yet
            async with self._loader.reload() as factory:
                await self._server.reload(factory)
        except asyncio.CancelledError:
            server.tell_reload(LifecycleKind.RELOAD_CANCELLED, GIVEN_UP)
            raise
        except Exception as error:  # noqa: BLE001  # the user's code; logged, and the old filter stays in service
            trouble = error if isinstance(error, Trouble) else start_trouble(target, error)
            _log_trouble(server.observer, "reload", trouble, error)
            return False
        logs.go_on(self._settings.options.log_level)
        try:
            self._renew_tls()
        except Trouble as trouble:  # the files have changed since a moment ago
            what = f"reloaded the filter alone: {trouble}; TLS goes on as before"
            server.tell_reload(LifecycleKind.RELOAD_FAILED, what)
            return False
        server.tell_reload(LifecycleKind.RELOADED, RELOADED)
        return True

    def _renew_tls(self) -> None:
        """Load the present files into the context that is in use.

        Another context loads them first: after a failed load this one could not be restored.
        """
        if self._context is not None:
            tls(self._settings.tls_files)
            load_tls(self._context, self._settings.tls_files)

    async def drain(self, timeout: float | None = None) -> None:
        """Drain both at once: neither accepts connections, and the server still answers what the front asks."""
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
