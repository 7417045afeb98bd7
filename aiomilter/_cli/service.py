"""What ``aiomilter run`` runs: the server, with an SMTP server in front of it where that is asked for."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiomilter._cli import logs, status
from aiomilter._cli.configured import AT_START, KEYS
from aiomilter._cli.options import RunOptions
from aiomilter._cli.places import absolute
from aiomilter._cli.reloading import Loader
from aiomilter._cli.target import Target, own_frames, own_traceback, start_trouble
from aiomilter._cli.tls import Files, load_tls, tls, warning
from aiomilter._cli.trouble import Trouble, smtp_trouble, tell
from aiomilter._config.faults import shown_key
from aiomilter._config.table import Key
from aiomilter._connection.served import ServedConnection
from aiomilter._connection.transport import MilterProtocol
from aiomilter._process.composite import Composite
from aiomilter._process.lifecycle import UNCHANGED, ReloadFailed, Service
from aiomilter._process.supervisor import Rereading
from aiomilter._process.systemd import Systemd
from aiomilter._serving.feed import Feed, Reporter
from aiomilter._serving.sharing import AcceptBalancer
from aiomilter.daemon import run_service, run_workers
from aiomilter.observe import SERVER, Lifecycle, LifecycleKind, Misuse
from aiomilter.observe.address_policy import AddressPolicy
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.observe.metrics import Metrics
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Factory, Server

if TYPE_CHECKING:
    from aiomilter._cli.inspecting import Inspection
    from aiomilter.inspector.store import Store
    from aiomilter.recording.serving import ServerRecorder
    from aiomilter.smtp import Front, Outcome

__all__ = ["Settings", "run_alone", "run_with_workers"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What flags, environment and configuration file ask for.

    Args:
        target: The filter, as given.
        where: The same as an absolute path.
        values: Of all options, by the names of keys.
        options: Those of the command.
        tls_files: The files for TLS that these name.
        given: The options of :func:`aiomilter.serve` that were given.
        again: Reads the file and the flags once more; it raises Trouble if they are wrong now.
        addresses: How the log shows mail addresses.
        warnings: Sentences on what is questionable; more may come when the filter's settings are made.
    """

    target: str
    where: Target
    values: Mapping[str, Any]
    options: RunOptions
    tls_files: Files
    given: ServeOptions
    again: "Callable[[], Settings]"
    addresses: AddressPolicy
    warnings: list[str]

    def observer(self) -> LogObserver:
        """Return what writes the log."""
        return LogObserver(addresses=self.addresses)

    def serve_options(self) -> Options:
        """Return the options of the server, with a context for TLS of its own.

        Raises:
            Trouble: A value is out of range, or a file for TLS cannot be used.
        """
        given: ServeOptions = {**self.given, "ssl": tls(self.tls_files), "observer": self.observer()}
        try:
            return Options(**given)
        except ValueError as error:
            raise Trouble(str(error)) from None


def run_alone(
    settings: Settings,
    sockets: list[str],
    systemd: Systemd,
    on_message: "Callable[[Outcome], None] | None",
    inspected: "Inspection | None" = None,
) -> int:
    """Serve in this process until a signal comes; return the exit status.

    Args:
        settings: What to serve, and how.
        sockets: Where to listen.
        systemd: Gets the status of the service.
        on_message: Called with each message that the SMTP server has handled.
        inspected: What is inspected, and how; None for nothing.

    Raises:
        Trouble: It could not start, or did not end well.
    """
    feed = Feed() if settings.options.metrics is not None else None
    server = _server(
        settings,
        sockets,
        store=None if inspected is None else inspected.store,
        reporter=None if feed is None else Reporter(feed.take),
    )
    others: list[Callable[[], Service]] = []
    if inspected is not None:
        others.append(partial(inspected.page, lambda: server.serving, server.observer))
    if settings.options.smtp is not None:
        others.append(partial(_front, settings, server, on_message))
    if feed is not None:
        others.append(status.listener(settings.options, feed, server.observer))
    try:
        run_service(Composite(server, *others), uvloop=settings.options.uvloop, systemd=systemd)
    except Exception as error:  # noqa: BLE001  # the user's factory, while it is left
        raise _end_trouble(settings.target, error) from None
    return 0


def run_with_workers(
    settings: Settings, sockets: list[str], systemd: Systemd, inspected: "Inspection | None" = None
) -> int:
    """Serve with several processes, each of which loads the filter for itself; return the exit status.

    Raises:
        Trouble: A socket cannot be listened on, or a process not be forked.
    """
    observer = Guard(settings.observer())
    plan = _Plan(settings, observer)

    def make(share: AcceptBalancer, later: bool, reporter: Reporter | None) -> _FilterServer:
        server = _server(
            plan.settings,
            sockets,
            later=later,
            store=inspected.worker_store(reporter) if inspected is not None and reporter is not None else None,
            reporter=reporter,
            generation=plan.generation,
        )
        server.share(share)
        return server

    def report(error: BaseException, what: str) -> int:
        trouble = _end_trouble(settings.target, error)
        if what:
            observer.tell(Lifecycle(SERVER, LifecycleKind.RELOAD_FAILED, *_failure(what, trouble, error)))
        else:
            tell(trouble)
        return trouble.status

    beside = status.beside_workers(settings.options, observer)
    if inspected is not None:
        beside = inspected.beside_workers(beside, observer)
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
            rereading=plan,
            status=beside,
        )
    except OSError as error:
        if _is_of_listening(error):
            raise Trouble(str(error.strerror)) from None
        raise Trouble(f"cannot start workers: {error.strerror or error}") from None


def _restart_needed(keys: Iterable[Key], before: Settings, after: Settings) -> str | None:
    """Return a sentence on those of some keys that have changed, and that a reload does not take over."""

    def value(settings: Settings, key: Key) -> object:
        return settings.values.get(key.name, key.row.default)

    changed = [key for key in keys if value(before, key) != value(after, key)]
    if not changed:
        return None
    names = ", ".join(shown_key(key.path) for key in changed)
    return f"{names}: changed; that takes effect at a restart"


def _switched(before: Settings, after: Settings) -> list[Key]:
    """Return the keys of TLS that are set only before or only after: a context that is in use takes other files, no more."""
    keys = [key for key in KEYS if key.path[0] == "tls"]
    return [key for key in keys if (key.name in before.values) != (key.name in after.values)]


class _Plan(Rereading):
    """The settings that workers are started with: those of the last reload, unless that failed.

    Args:
        settings: At the start.
        observer: Hears of what takes effect at a restart.
    """

    def __init__(self, settings: Settings, observer: Guard) -> None:
        self._serving = self._at_start = settings
        self._next: Settings | None = None
        self._observer = observer
        self.generation = 1
        """How often filters were loaded, as far as they serve or are about to."""

    @property
    def settings(self) -> Settings:
        """Those for the next worker."""
        return self._serving if self._next is None else self._next

    def begin(self) -> str | None:
        """Read them again."""
        try:
            self._next = self._serving.again()
            self.generation += 1
        except Trouble as trouble:
            return _failure("reload", trouble, trouble)[0]
        return None

    def end(self, *, serves: bool) -> None:
        """Keep them if they serve."""
        if not serves and self._next is not None:
            self.generation -= 1
        if serves and self._next is not None:
            self._serving = self._next
            supervised = [key for key in KEYS if key.name in ("drain_timeout", "cancel_timeout")]
            what = _restart_needed([*AT_START, *supervised], self._at_start, self._serving)
            if what is not None:
                self._observer.tell(Misuse(SERVER, what))
        self._next = None


def _server(
    settings: Settings,
    sockets: list[str],
    *,
    later: bool = False,
    store: "Store | None" = None,
    reporter: Reporter | None = None,
    generation: int = 1,
) -> "_FilterServer":
    options = settings.serve_options()
    loader = Loader(settings.where)
    try:
        factory = loader.load(later=later)
        logs.go_on(settings.options.log_level)
        make = store.connection_factory if store is not None else MilterProtocol
        recorder = _recorder(settings, make)
        server = (
            _FilterServer(loader, factory, sockets, options, settings, make)
            if recorder is None
            else _FilterServer(loader, factory, sockets, options, settings, recorder.connection, recorder.close)
        )
        if recorder is not None:
            server.observer.add(recorder)
        if store is not None:
            server.observer.add(store)
        if reporter is not None:
            server.report_to(reporter, generation)
        return server
    except ValueError as error:
        raise Trouble(str(error)) from None


def _recorder(settings: Settings, make: Callable[..., ServedConnection]) -> "ServerRecorder | None":
    """Return what records the sessions of connections, if that is asked for."""
    options = settings.options
    if options.record is None:
        return None
    from aiomilter._cli.recording import record_into
    from aiomilter.recording.serving import ServerRecorder

    made = record_into(absolute(options.record, settings.where.directory), options, settings.target)
    return ServerRecorder(*made, options.record_share, make)


def _front(settings: Settings, server: Server, on_message: "Callable[[Outcome], None] | None") -> "Front":
    """Return the SMTP server in front of a server that listens."""
    from aiomilter.smtp import front

    options = settings.options
    return front(
        options.smtp or "",
        server.addresses[0],
        on_message=on_message,
        client=options.smtp_client,
        login=options.smtp_auth,
        max_message_size=options.smtp_size,
        drain_timeout=server.drain_timeout,
        observer=settings.observer(),
    )


def _end_trouble(target: str, error: BaseException) -> Trouble:
    if isinstance(error, Trouble):
        return error
    if isinstance(error, OSError) and _is_of_listening(error):
        return smtp_trouble(error)  # the server itself raises Trouble
    if isinstance(error, RuntimeError) and str(error).startswith("factory: "):
        return Trouble(f"{target}: {str(error).removeprefix('factory: ')}")
    return Trouble(f"{target} failed at its end: {type(error).__name__}: {error}", details=own_traceback(error))


def _failure(what: str, trouble: Trouble, error: BaseException) -> tuple[str, BaseException | None]:
    """Return a sentence for the log on what failed, and the user's own exception if its traceback shows more."""
    cause = error.__context__ if trouble is error else error
    shown = cause.with_traceback(own_frames(cause)) if trouble.details and cause is not None else None
    return f"cannot {what}: {trouble}; {UNCHANGED}", shown


def _socket_trouble(error: OSError, target: str) -> Trouble:
    """Return the error message for an OSError at the start, which may be the filter's own."""
    if _is_of_listening(error):
        return Trouble(str(error.strerror))
    return start_trouble(target, error)


def _is_of_listening(error: OSError) -> bool:
    return str(error.strerror).startswith("cannot listen")


class _FilterServer(Server):
    """A server that reloads its filter and its certificate.

    Args:
        loader: Has loaded its filter.
        factory: What that has found.
        sockets: Where to listen.
        options: Of the server.
        settings: What the command line asks for.
        connection_factory: Makes the object of a connection.
        on_closed: Awaited when the server closes.
    """

    def __init__(
        self,
        loader: Loader,
        factory: Factory,
        sockets: list[str],
        options: Options,
        settings: Settings,
        connection_factory: Callable[..., ServedConnection] = MilterProtocol,
        on_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(factory, sockets, options, connection_factory=connection_factory, on_closed=on_closed)
        self._loader = loader
        self._context = options.ssl
        self._settings = self._at_start = settings
        self._reporting: status.Reporting | None = None

    @property
    def serving(self) -> tuple[Factory, Options]:
        """What new connections are served by."""
        return self._factory, self._options

    def report_to(self, reporter: Reporter, generation: int) -> None:
        """Report what is counted, from the start on."""
        metrics = Metrics(generation)
        self.observer.add(metrics)
        self._reporting = status.Reporting(self, metrics, reporter)

    async def start(self, *, listen: bool = True) -> None:
        """Build the filter and listen.

        Raises:
            Trouble: That failed.
        """
        try:
            await super().start(listen=listen)
        except OSError as error:
            raise _socket_trouble(error, self._settings.target) from None
        except Exception as error:  # noqa: BLE001  # the user's code; a traceback is what it gets
            raise start_trouble(self._settings.target, error) from None
        logs.go_on(self._settings.options.log_level)
        self._warn()
        self._warn_of_certificate()
        if self._reporting is not None:
            self._reporting.start()

    async def close(self) -> None:
        """Report for the last time, and close."""
        await super().close()
        if self._reporting is not None:
            self._reporting.stop()

    def _warn_of_certificate(self) -> None:
        what = warning(self._context, self._settings.tls_files)
        if what is not None:
            self.observer.tell(Misuse(SERVER, what))

    async def reload(self, factory: Factory | None = None) -> None:
        """Reload configuration, filter and certificate for new connections; a factory that is given is used as it is.

        Raises:
            ReloadFailed: That failed.
        """
        if factory is not None:
            await super().reload(factory)
            return
        try:
            settings = self._settings.again()
            options = settings.serve_options()  # TLS included: if it cannot be used, nothing has changed yet
            async with self._loader.reload(settings.where) as loaded:
                await super().reload(loaded)
                self.take(options)
        except Exception as error:  # the user's code; logged, and the old filter stays in service
            trouble = error if isinstance(error, Trouble) else start_trouble(self._settings.target, error)
            raise ReloadFailed(*_failure("reload", trouble, error)) from error
        self._settings = settings
        logs.go_on(self._at_start.options.log_level)
        self._warn()
        if (
            what := _restart_needed([*AT_START, *_switched(self._at_start, settings)], self._at_start, settings)
        ) is not None:
            self.observer.tell(Misuse(SERVER, what))
        try:
            self._renew_tls()
        except Trouble as trouble:  # the files have changed since a moment ago
            what = f"reloaded the filter alone: {trouble}; TLS goes on as before"
            raise ReloadFailed(what) from None

    def _warn(self) -> None:
        for what in self._settings.warnings:
            self.observer.tell(Misuse(SERVER, what))

    def _renew_tls(self) -> None:
        """Load the present files into the context that is in use.

        Another context loads them first: after a failed load this one could not be restored.
        """
        if self._context is not None:
            tls(self._settings.tls_files)
            load_tls(self._context, self._settings.tls_files)
            self._warn_of_certificate()
