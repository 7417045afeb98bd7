"""The page of the inspector beside a filter that ``run --inspect`` serves."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiomilter._cli.options import RunOptions
from aiomilter._cli.places import absolute
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._process.composite import Composite
from aiomilter._process.lifecycle import MainService
from aiomilter._serving.binding import Bound
from aiomilter._serving.feed import Feed, Reporter
from aiomilter._serving.status_address import bind_status, parse_status
from aiomilter._serving.status_service import StatusService
from aiomilter.addresses import Inet, Unix
from aiomilter.daemon import StatusSockets
from aiomilter.exceptions import AddressError
from aiomilter.observe import Lifecycle, LifecycleKind, Where
from aiomilter.observe.guard import Guard

if TYPE_CHECKING:
    from aiomilter.inspector.access import Access
    from aiomilter.inspector.inspector import Inspector
    from aiomilter.inspector.store import Store
    from aiomilter.options import Options
    from aiomilter.server import Factory
    from aiomilter.smtp import Outcome

__all__ = ["Inspection", "Page", "inspection_of"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is inspected, and how.

    Args:
        options: Of the command.
        name: The filter, for people.
        store: Records the messages.
        access: Says who may see the page.
        made: Whether the token was made at start, so that it has to be told.
        bound: The sockets of the page.
    """

    options: RunOptions
    name: str
    store: "Store"
    access: "Access"
    made: bool
    bound: list[Bound]

    def taking(self, on_message: "Callable[[Outcome], None]") -> "Callable[[Outcome], None]":
        """Return a function that also takes each message as the SMTP client has sent it."""

        def take(outcome: "Outcome") -> None:
            self.store.add_original(outcome.queue_id, outcome.original)
            on_message(outcome)

        return take

    def page(self, serving: "Callable[[], tuple[Factory, Options]]", observer: Guard) -> "Page":
        """Return the page.

        Args:
            serving: Returns the factory and the options that serve now.
            observer: Hears where it listens.
        """
        from aiomilter._cli.inspect_play import InspectedFilter
        from aiomilter.inspector.inspector import Inspector

        trial = self.options.smtp is not None
        content = trial if self.options.inspect_content is None else self.options.inspect_content
        plays = trial if self.options.inspect_play is None else self.options.inspect_play
        player = InspectedFilter(serving) if plays else None
        return Page(Inspector(self.store, self.name, content=content, player=player), self, observer)

    def worker_store(self, reporter: Reporter) -> "Store":
        """Return what records in a worker, and sends to the page; from then on the log records of callbacks, too."""
        from aiomilter.inspector.logs import take_log_records
        from aiomilter.inspector.sending import SendingStore

        take_log_records()
        return SendingStore(reporter.record, self.options.inspect_size)

    def beside_workers(self, metrics: StatusSockets | None, observer: Guard) -> StatusSockets:
        """Return the page in the process of the HTTP listener, with ``/metrics`` if that is asked for."""

        def make(feed: Feed) -> MainService:
            page = self._page_of_workers(feed, observer)
            main = StatusService((), observer) if metrics is None else metrics.make(feed)
            return Composite(main, lambda: page)

        return StatusSockets([*self.bound, *(() if metrics is None else metrics.bound)], make)

    def _page_of_workers(self, feed: Feed, observer: Guard) -> "Page":
        from aiomilter.inspector.charts import Charts
        from aiomilter.inspector.inspector import Inspector
        from aiomilter.inspector.sending import received

        def connections() -> float:
            gauges = (process.gauges.items() for process in feed.processes.values())
            return sum(value for each in gauges for key, value in each if key[0] == "aiomilter_connections")

        def take(_: int, octets: bytes) -> None:
            with suppress(ValueError, TypeError, KeyError, IndexError):
                self.store.take(received(octets))

        feed.follow(take)
        charts = Charts(self.store, connections=connections)
        content = bool(self.options.inspect_content)
        return Page(Inspector(self.store, self.name, content=content, charts=charts), self, observer)


def inspection_of(options: RunOptions, name: str, directory: str) -> Inspection:
    """Return what ``--inspect`` asks for.

    Raises:
        Trouble: As for the access to the page.
    """
    from aiomilter.inspector.store import Store

    access, made = _access(options, directory)
    # Here, since a running event loop would wait for the import of aiohttp.
    import aiomilter.inspector.web  # noqa: F401

    return Inspection(options, name, Store(options.inspect_size), access, made, _bind(options))


def _access(options: RunOptions, directory: str) -> "tuple[Access, bool]":
    """Return who may see the page, and whether the token was made here.

    Raises:
        Trouble: The address is wrong, it needs a token, or that cannot be read.
    """
    from aiomilter.inspector.access import Access, read_token

    try:
        address = parse_status(_address(options))
    except AddressError as error:
        raise Trouble(f"--inspect {error}", status=USAGE) from None
    host = (address.host or "") if isinstance(address, Inet) else ""
    token = None
    if options.inspect_token is not None:
        try:
            with open(absolute(options.inspect_token, directory), "rb") as file:
                token = read_token(file.read(4096))
        except OSError as error:
            raise Trouble(f"--inspect-token {options.inspect_token!r} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise Trouble(f"--inspect-token {options.inspect_token!r}: {error}", status=USAGE) from None
    made = token is None and options.smtp is None
    return Access(secrets.token_urlsafe(24) if made else token, host, unix=isinstance(address, Unix)), made


def _address(options: RunOptions) -> str:
    """Return where to listen; a port alone is one of the loopback."""
    given = options.inspect or ""
    return f"127.0.0.1:{given}" if given.isascii() and given.isdigit() else given


def _bind(options: RunOptions) -> list[Bound]:
    """Bind the sockets of the page.

    Raises:
        Trouble: That cannot be done, or other machines could see the page without a token.
    """
    everywhere = ("0.0.0.0/0", "::/0") if options.inspect_token is not None else None
    try:
        return bind_status(_address(options), everywhere, option="--inspect-token FILE, and TLS by a proxy")
    except AddressError as error:
        raise Trouble(f"--inspect {error}", status=USAGE) from None
    except OSError as error:
        raise Trouble(f"--inspect {options.inspect}: {error.strerror}") from None


class Page:
    """The page, as a service beside the filter.

    Args:
        inspector: Has what is shown.
        inspection: Says who may see it.
        observer: Hears where it listens.
    """

    def __init__(self, inspector: "Inspector", inspection: Inspection, observer: Guard) -> None:
        from aiomilter._serving.status import StatusListener
        from aiomilter.inspector.web import application

        self._inspector = inspector
        self._inspection = inspection
        self._observer = observer
        self._measuring: asyncio.Task[None] | None = None
        self._records = ExitStack()
        self._listener = StatusListener(
            inspection.bound,
            lambda _: application(inspector, inspection.access),
            Feed(),
            observer.tell,
            allow=("0.0.0.0/0", "::/0") if inspection.options.inspect_token is not None else None,
        )

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: It cannot be listened on.
        """
        await self._listener.start()
        self._records.enter_context(self._inspection.store.log_records())
        self._measuring = asyncio.create_task(self._measure())
        access, made = self._inspection.access, self._inspection.made
        for bound in self._inspection.bound:
            token = f"#token={access.token}" if made else ""
            what = f"the inspector is at {_url(bound)}{token}"
            self._observer.tell(Lifecycle(Where(listener=bound.label), LifecycleKind.LISTENER_STARTED, what))

    async def _measure(self) -> None:
        from aiomilter.inspector.charts import PERIOD

        while True:
            await asyncio.sleep(PERIOD)
            self._inspector.measured.measure()

    async def reload(self) -> None:
        """Do nothing: the page shows the filter that serves."""

    async def drain(self, timeout: float | None = None) -> None:
        """Do nothing: the page shows the last messages until they have ended; :meth:`close` follows."""

    async def close(self) -> None:
        """Stop."""
        if self._measuring is not None:
            self._measuring.cancel()
            self._measuring = None
        self._records.close()
        await self._listener.close()


def _url(bound: Bound) -> str:
    """Return what to give to a browser."""
    name = bound.socket.getsockname()
    if isinstance(name, tuple):
        return f"http://[{name[0]}]:{name[1]}/" if ":" in name[0] else f"http://{name[0]}:{name[1]}/"
    return bound.label
