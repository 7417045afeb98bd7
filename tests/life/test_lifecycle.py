"""The lifecycle of a service, of one or of several: start, reload, drain, stop."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from aiomilter import Milter, serve
from aiomilter._process import lifecycle
from aiomilter._process.composite import Composite
from aiomilter._process.lifecycle import Control, MainService, NoManager, ReloadFailed, Service
from aiomilter.observe import LifecycleKind
from aiomilter.smtp import front
from tests.patience import PATIENCE

RELOADED: Final = "reloaded; open connections finish on what they began with"


class Fake:
    """A service that logs what is done to it, and waits or fails in what a test names.

    Args:
        log: Shared where several services are.
        name: Put before each entry.
        waits: Calls that wait until they are cancelled.
        fails: Calls that raise; ``drain-as-cancelled`` raises once it is cancelled.
        error: What is raised, if not a ValueError.
        drain_timeout: As of a server.
    """

    def __init__(
        self,
        log: list[str],
        name: str = "",
        *,
        waits: str = "",
        fails: str = "",
        error: Exception | None = None,
        drain_timeout: float = PATIENCE,
    ) -> None:
        self.log = log
        self.drain_timeout = drain_timeout
        self.broken = asyncio.Event()
        self.shown: BaseException | None = None
        self._name = f"{name} " if name else ""
        self._waits = waits.split()
        self._fails = fails.split()
        self._error = error or ValueError("no")

    async def _do(self, what: str) -> None:
        self.log.append(f"{self._name}{what}")
        if what in self._waits:
            try:
                await asyncio.Event().wait()
            finally:
                self.log.append(f"{self._name}{what} cancelled")
                if f"{what}-as-cancelled" in self._fails:
                    raise self._error
        if what in self._fails:
            raise self._error

    async def start(self) -> None:
        await self._do("start")

    async def reload(self) -> None:
        await self._do("reload")

    async def drain(self, timeout: float | None = None) -> None:
        await self._do("drain")

    async def close(self) -> None:
        await self._do("close")

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        self.log.append(f"{kind}: {what}")
        self.shown = error


class Manager(NoManager):
    """Logs what it is notified of."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def ready(self, status: str) -> None:
        self.log.append(f"ready: {status}")

    def reloading(self) -> None:
        self.log.append("notified: reloading")

    def stopping(self) -> None:
        self.log.append("notified: stopping")


async def led(service: MainService, log: list[str], *requests: tuple[str, Callable[[Control], None]]) -> list[str]:
    """Run a service; make each request once the log has an entry, and return the log."""
    control = Control()
    running = asyncio.create_task(lifecycle.run(service, control, manager=Manager(log)))
    try:
        async with asyncio.timeout(PATIENCE):
            for entry, request in requests:
                while entry not in log and not running.done():
                    await asyncio.sleep(0)
                request(control)
            await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return log


async def test_a_service_is_started_drained_and_closed() -> None:
    log: list[str] = []
    assert await led(Fake(log), log, ("ready: Serving", Control.request_stop)) == [
        "start",
        "ready: Serving",
        "notified: stopping",
        "drain",
        "close",
    ]


async def test_a_request_to_end_cancels_the_start() -> None:
    log: list[str] = []
    assert await led(Fake(log, waits="start"), log, ("start", Control.request_drain)) == ["start", "start cancelled"]


async def test_a_start_that_fails_is_raised_and_nothing_is_closed() -> None:
    log: list[str] = []
    with pytest.raises(ValueError, match="no"):
        await led(Fake(log, fails="start"), log)
    assert log == ["start"]


async def test_a_drain_has_its_time_after_a_request_to_stop() -> None:
    log: list[str] = []
    service = Fake(log, waits="drain", drain_timeout=0)
    await led(service, log, ("ready: Serving", Control.request_stop))
    assert log[-3:] == ["drain", "drain cancelled", "close"]


async def test_a_drain_without_a_request_to_stop_has_all_the_time() -> None:
    """It goes on for 50 turns of the loop, which is more than any of the other ways to end it takes."""
    log: list[str] = []
    control = Control()
    service = Fake(log, waits="drain", drain_timeout=0)
    running = asyncio.create_task(lifecycle.run(service, control, manager=NoManager()))
    async with asyncio.timeout(PATIENCE):
        while "start" not in log:
            await asyncio.sleep(0)
        control.request_drain()
        while "drain" not in log:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert log[-1] == "drain"
        control.request_stop()
        await running
    assert log[-2:] == ["drain cancelled", "close"]


async def test_a_service_that_cannot_serve_any_more_stops() -> None:
    log: list[str] = []
    service = Fake(log, waits="drain", drain_timeout=0)
    await led(service, log, ("ready: Serving", lambda _: service.broken.set()))
    assert log[2:] == ["notified: stopping", "drain", "drain cancelled", "close"]


async def test_what_a_service_raises_as_its_drain_is_cancelled_is_raised() -> None:
    """The factory, for one, as it is left."""
    log: list[str] = []
    service = Fake(log, waits="drain", fails="drain-as-cancelled")
    with pytest.raises(ValueError, match="no"):
        await led(service, log, ("ready: Serving", Control.request_stop), ("drain", Control.request_stop))
    assert log[-2:] == ["drain cancelled", "close"]


# ---------------------------------------------------------------------------------------------------------------- reload

CAUSE: Final = LookupError("no map")
FAILED: Final = "ready: Serving; the last reload failed, see the log"


@pytest.mark.parametrize(
    ("error", "record", "shown"),
    [
        (CAUSE, "cannot reload: LookupError: no map; nothing has changed", CAUSE),
        (ReloadFailed("reloaded the half of it", CAUSE), "reloaded the half of it", CAUSE),
        (ReloadFailed("no such file"), "no such file", None),
    ],
)
async def test_a_reload_that_fails_is_reported_once_and_the_service_goes_on(
    error: Exception, record: str, shown: BaseException | None
) -> None:
    log: list[str] = []
    service = Fake(log, fails="reload", error=error)
    await led(service, log, ("ready: Serving", Control.request_reload), (FAILED, Control.request_stop))
    assert log[2:] == [
        "reloading: reloading",
        "notified: reloading",
        "reload",
        f"reload_failed: {record}",
        FAILED,
        "notified: stopping",
        "drain",
        "close",
    ]
    assert service.shown is shown


async def test_a_request_to_end_cancels_a_reload() -> None:
    log: list[str] = []
    service = Fake(log, waits="reload")
    await led(service, log, ("ready: Serving", Control.request_reload), ("reload", Control.request_stop))
    assert log[4:7] == [
        "reload",
        "reload cancelled",
        "reload_cancelled: reload cancelled: the server stops",
    ]
    assert log[7:] == ["notified: stopping", "drain", "close"]


# ------------------------------------------------------------------------------------------------------------- composite


async def test_several_start_in_turn_drain_at_once_and_close_in_reverse() -> None:
    log: list[str] = []

    class Last(Fake):
        async def drain(self, timeout: float | None = None) -> None:
            # The first waits for the last, as a server waits for the SMTP server in front of it.
            await super().drain(timeout)
            first_may_end.set()

    class First(Fake):
        async def drain(self, timeout: float | None = None) -> None:
            await super().drain(timeout)
            await first_may_end.wait()

    first_may_end = asyncio.Event()
    first = First(log, "server")
    both = Composite(first, lambda: Last(log, "front"))
    serving, reloaded = "ready: Serving", f"reloaded: {RELOADED}"
    await led(both, log, (serving, Control.request_reload), (reloaded, Control.request_stop))
    assert [entry for entry in log if entry.startswith(("server", "front"))] == [
        *("server start", "front start", "server reload", "front reload"),
        *("server drain", "front drain", "front close", "server close"),
    ]
    assert both.broken is first.broken


async def test_the_others_are_made_once_the_first_has_started() -> None:
    log: list[str] = []

    def make() -> Service:
        assert log == ["server start"]
        return Fake(log, "front")

    await led(Composite(Fake(log, "server"), make), log, ("ready: Serving", Control.request_stop))
    assert "front start" in log


async def test_where_one_cannot_start_those_before_it_close() -> None:
    log: list[str] = []
    several = Composite(
        Fake(log, "server"), lambda: Fake(log, "front", fails="start"), lambda: Fake(log, "never", fails="start")
    )
    with pytest.raises(ValueError, match="no"):
        await led(several, log)
    assert log == ["server start", "front start", "server close"]


async def test_where_the_drain_of_one_fails_the_others_are_cancelled_and_all_close() -> None:
    log: list[str] = []
    several = Composite(Fake(log, "server", waits="drain"), lambda: Fake(log, "front", fails="drain"))
    with pytest.raises(ValueError, match="no"):
        await led(several, log, ("ready: Serving", Control.request_stop))
    assert log[-3:] == ["server drain cancelled", "front close", "server close"]


async def test_what_one_raises_as_all_are_hurried_is_raised_itself() -> None:
    log: list[str] = []
    server = Fake(log, "server", waits="drain", fails="drain-as-cancelled")
    several = Composite(server, lambda: Fake(log, "front", waits="drain"))
    with pytest.raises(ValueError, match="no"):
        await led(several, log, ("ready: Serving", Control.request_stop), ("front drain", Control.request_stop))
    assert log[-2:] == ["front close", "server close"]


async def test_where_one_cannot_close_the_others_do() -> None:
    log: list[str] = []
    several = Composite(Fake(log, "server"), lambda: Fake(log, "front", fails="close"))
    with pytest.raises(ValueError, match="no"):
        await led(several, log, ("ready: Serving", Control.request_stop))
    assert log[-2:] == ["front close", "server close"]


async def test_a_server_and_a_front_are_services() -> None:
    """The type checker compares them with the protocols."""
    server = serve(Milter, "inet:0@127.0.0.1")
    main: MainService = server

    def in_front() -> Service:
        return front("127.0.0.1:0", server.addresses[0])

    log: list[str] = []
    await led(Composite(main, in_front), log, ("ready: Serving", Control.request_stop))
    assert log == ["ready: Serving", "notified: stopping"]
