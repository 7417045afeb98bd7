"""``--metrics``: what each serving process reports, and the pages ``/metrics``, ``/healthz`` and ``/readyz`` made of that."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from aiomilter import __version__
from aiomilter._cli.beside import is_installed
from aiomilter._cli.options import RunOptions
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._serving.binding import Bound
from aiomilter._serving.feed import Feed, Key, Process, Report, Reporter
from aiomilter._serving.readiness import Readiness
from aiomilter._serving.status_address import bind_status
from aiomilter._serving.status_service import StatusService
from aiomilter._tally import counted
from aiomilter.daemon import StatusSockets
from aiomilter.exceptions import AddressError
from aiomilter.observe.guard import Guard
from aiomilter.observe.metrics import Metrics, Tally
from aiomilter.server import Server

if TYPE_CHECKING:
    from aiomilter._serving.status import StatusListener, web

__all__ = ["Reporting", "beside_workers", "check_installed", "health", "listener", "readiness", "routes", "tallies"]

_MOST_SECONDS: Final = 5.0
"""Since the last turn of an event loop that is well."""
_GENERATION: Final = "aiomilter_generation"
_LOADED: Final = "aiomilter_config_reload_success_timestamp_seconds"
_NOT_SUMMED: Final = frozenset({_GENERATION, _LOADED})
"""Of all processes the largest counts."""


def check_installed() -> None:
    """Check that the libraries are there.

    Raises:
        Trouble: One is not.
    """
    for name, library in (("prometheus_client", "prometheus-client"), ("aiohttp", "aiohttp")):
        if not is_installed(name):
            raise Trouble(f"--metrics needs {library}: pip install 'aiomilter[metrics]'", status=USAGE)


class Reporting:
    """Reports what a server counts, while it serves.

    Args:
        server: The server.
        metrics: One of its observers.
        reporter: Sends it.
    """

    def __init__(self, server: Server, metrics: Metrics, reporter: Reporter) -> None:
        self._server = server
        self._metrics = metrics
        self._reporter = reporter
        self._readiness = Readiness(lambda: server.load().filters)
        self._runs = False

    def start(self) -> None:
        """Begin."""
        self._runs = True
        self._readiness.start()
        self._reporter.add(self._report)
        self._reporter.start()

    def stop(self) -> None:
        """Report for the last time."""
        if self._runs:
            self._runs = False
            self._readiness.stop()
            self._reporter.stop()

    def _report(self) -> Report:
        load = self._server.load()
        counts: dict[Key, float] = {**dict(self._metrics.tallies()), **counted()}
        gauges: dict[Key, float] = {key: counts.pop(key) for key in ((_GENERATION,), (_LOADED,))}
        gauges |= {("aiomilter_connections", listener): number for listener, number in load.connections.items()}
        gauges |= {("aiomilter_messages_in_progress", listener): number for listener, number in load.messages.items()}
        gauges["aiomilter_memory_bytes", ""] = load.memory
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        gauges["aiomilter_info", __version__, platform.python_version(), loop] = 1
        problem = "the factory has ended" if self._server.broken.is_set() else self._readiness.problem
        return Report(
            counts, gauges, {"serves": bool(self._server.addresses), "stopped": load.stopped, "lacks": problem}
        )


def listener(options: RunOptions, feed: Feed, observer: Guard) -> "Callable[[], StatusListener]":
    """Bind where ``--metrics`` says, and return what makes the listener.

    Raises:
        Trouble: That cannot be.
    """
    # Imported before mail is served: that takes a while.
    import aiomilter._serving.status  # noqa: F401

    return partial(_listener, options, _bound(options), feed, observer)


def beside_workers(options: RunOptions, observer: Guard) -> StatusSockets | None:
    """Bind where ``--metrics`` says, and return the HTTP listener beside workers; None if none is asked for.

    Raises:
        Trouble: That cannot be.
    """
    if options.metrics is None:
        return None
    bound = _bound(options)
    return StatusSockets(bound, lambda feed: StatusService([_listener(options, bound, feed, observer)], observer))


def _bound(options: RunOptions) -> list[Bound]:
    try:
        return bind_status(options.metrics or "", options.metrics_allow, option="--metrics-allow")
    except AddressError as error:
        raise Trouble(f"--metrics {error}", status=USAGE) from None
    except OSError as error:
        raise Trouble(f"--metrics: {error.strerror}") from None


def _listener(options: RunOptions, bound: list[Bound], feed: Feed, observer: Guard) -> "StatusListener":
    from aiomilter._serving.status import StatusListener

    return StatusListener(bound, routes, feed, observer.tell, options.metrics_allow)


def tallies(feed: Feed) -> Iterator[Tally]:
    """Yield all values: sums over all processes, and the gauges of each that runs."""
    for key, value in feed.snapshot().items():
        yield Tally(key, value)
    largest: dict[Key, float] = {}
    infos: dict[Key, float] = {}
    for process in feed.processes.values():
        for key, value in process.gauges.items():
            if key[0] in _NOT_SUMMED:
                largest[key] = max(value, largest.get(key, 0))
            elif key[0] == "aiomilter_info":
                infos[key] = value
            else:
                yield Tally((*key, str(process.pid)), value)
    for key, value in (largest | infos).items():
        yield Tally(key, value)


def health(feed: Feed, now: float) -> str | None:
    """Return what is wrong with the serving processes, in a line; None for nothing.

    Args:
        feed: What they have reported.
        now: By ``time.monotonic``.
    """
    for process in feed.processes.values():
        if (late := now - process.seen) > _MOST_SECONDS:
            return f"process {process.pid}: its event loop has not turned for {late:.0f} s"
    if not any(_listens(process) or process.state.get("stopped") for process in feed.processes.values()):
        return "no process listens"
    return None


def readiness(feed: Feed, now: float) -> str | None:
    """Return why no mail is to be sent here, in a line; None for no reason.  Arguments as for :func:`health`."""
    if (problem := health(feed, now)) is not None:
        return problem
    serving = [process for process in feed.processes.values() if _listens(process)]
    if not serving:
        return "draining"
    for process in serving:
        if (lacks := process.state.get("lacks")) is not None:
            return f"process {process.pid}: {lacks}"
    return None


def _listens(process: Process) -> bool:
    return bool(process.state.get("serves")) and not process.state.get("stopped")


def routes(feed: Feed) -> "web.Application":
    """Return the pages.  It imports aiohttp and prometheus-client, so it is called only where a listener is asked for."""
    from aiomilter._serving.status import web
    from aiomilter.observe.prometheus import exposition

    async def metrics(request: web.Request) -> web.Response:
        octets, kind = exposition(lambda: tallies(feed), request.headers.get("Accept", ""))
        return web.Response(body=octets, headers={"Content-Type": kind})

    def page(problem: Callable[[Feed, float], str | None]) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
        async def answer(_: web.Request) -> web.Response:
            found = problem(feed, monotonic())
            return web.Response(text=f"{found or 'ok'}\n", status=200 if found is None else 503)

        return answer

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/healthz", page(health))
    application.router.add_get("/readyz", page(readiness))
    return application
