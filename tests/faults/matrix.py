"""The faults, one a row: what is done, under which options, what must become of the mail, and what the log must say."""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tests.faults.load import Load
from tests.faults.process import FilterProcess

__all__ = ["FAULTS", "Fault"]

Act: TypeAlias = Callable[[FilterProcess, Load, int], Coroutine[Any, Any, None]]
"""What is done to filter and MTA while the load is on; gets the port of the MTA."""


@dataclass(frozen=True)
class Fault:
    """A row.

    Args:
        name: What happens.
        environment: What ``faulty.py`` is told.
        options: Of ``aiomilter run``.
        wrapper: A command that takes something away from the filter.
        act: What is done meanwhile.
        struck: First digits of the replies that the struck messages may get.
        others: Those that all others may get; "" stands for none, where the MTA itself goes away.
        passing: Whether mail may pass that the filter has not finished.
        inherited: Whether the socket outlives the filter, as with systemd.
        log: What the log must hold: once for each struck message if True, else at least once.
        mtas: Who is asked.
        copies: How often a message may arrive.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    act: Act | None = None
    struck: tuple[str, ...] = ("2",)
    others: tuple[str, ...] = ("2",)
    passing: bool = False
    inherited: bool = False
    log: Mapping[str, bool] = field(default_factory=dict)
    mtas: tuple[str, ...] = ("postfix", "sendmail")
    copies: int = 1


async def _kill(filter_: FilterProcess, load: Load, port: int) -> None:
    await load.reached(1 / 3)
    await filter_.kill()
    await filter_.start()


async def _terminate(filter_: FilterProcess, load: Load, port: int) -> None:
    await load.reached(1 / 3)
    filter_.signal(signal.SIGTERM)
    assert await filter_.wait() == 0
    await filter_.start()


async def _reload(filter_: FilterProcess, load: Load, port: int) -> None:
    for number, part in enumerate((1 / 4, 1 / 2, 3 / 4), 1):
        await load.reached(part)
        filter_.signal(signal.SIGHUP)
        await filter_.until(lambda number=number: filter_.log.count(": reloaded") == number, "reload")  # type: ignore[misc]


async def _kill_worker(filter_: FilterProcess, load: Load, port: int) -> None:
    await load.reached(1 / 3)
    os.kill(filter_.workers[0], signal.SIGKILL)
    await filter_.until(lambda: re.search(r"worker \d+ serves", filter_.log) is not None, "another worker")


async def _kill_mta(filter_: FilterProcess, load: Load, port: int) -> None:
    for part in (1 / 4, 1 / 2):
        await load.reached(part)
        await filter_.until(lambda: bool(_serving(port)), "client of the MTA")
        for pid in _serving(port):
            with contextlib.suppress(ProcessLookupError):  # its client may have left
                os.kill(pid, signal.SIGKILL)


def _serving(port: int) -> list[int]:
    """Return the processes of the MTA that have a client on this port."""
    with open("/proc/net/tcp") as lines:
        rows = [line.split() for line in lines][1:]
    links = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            files = {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
        except OSError:  # it has just ended
            continue
        if files & links:
            found.append(int(pid))
    return found


def _does(fault: str) -> Mapping[str, str]:
    return {"FAULT": fault}


_WORKERS: Final = ("--workers", "2")

FAULTS: Final = (
    Fault("none"),
    Fault(
        "callback raises at RCPT",
        _does("raise@envrcpt"),
        struck=("4",),
        log={"envrcpt failed for client='127.0.0.1' .*: ValueError left the callback": True},
    ),
    Fault(
        "callback raises at end of message",
        _does("raise@eom"),
        struck=("4",),
        log={r"eom failed for client='127.0.0.1' queue_id='\w+': ValueError left the callback": True},
    ),
    Fault(
        "callback raises, on_error=accept",
        _does("raise@body"),
        options=("--on-error", "accept"),
        passing=True,
        log={"body failed .*: ValueError left the callback": True},
    ),
    Fault(
        "callback raises, on_error=reject",
        _does("raise@header"),
        options=("--on-error", "reject"),
        struck=("5",),
        log={"header failed .*: ValueError left the callback": True},
    ),
    Fault(
        "callback exits", _does("exit@eom"), struck=("4",), log={"eom failed .*: SystemExit left the callback": True}
    ),
    Fault(
        "what the filter needs is away",
        _does("unavailable@envfrom"),
        struck=("4",),
        log={"envfrom: temporary failure: 'the database is away'": True},
    ),
    Fault(
        "callback hangs",
        _does("hang@eom"),
        options=("--callback-timeout", "0.5"),
        struck=("4",),
        log={
            "eom failed .*: the callback did not end within 0.5 s .callback_timeout.; cancelled, answered tempfail": True
        },
    ),
    Fault(
        "callback returns nonsense",
        _does("nonsense@eom"),
        struck=("4",),
        log={"eom failed .*: expected a verdict or Reply that this stage takes, or None, found True": True},
    ),
    Fault(
        "callback blocks the loop",
        _does("block@header"),
        options=("--stall-timeout", "0.05"),
        log={
            r"Faulty\.header has blocked the event loop for .* all sessions wait": False,
            "time.sleep": False,
        },
    ),
    Fault(
        "no room for spools",
        _does("spool@body"),
        struck=("4",),
        log={"body failed .*: OSError left the callback": True, "No space left on device": True},
    ),
    Fault("filter killed", act=_kill, struck=("2", "4"), others=("2", "4")),
    Fault(
        "filter stopped and started",
        act=_terminate,
        struck=("2", "4"),
        others=("2", "4"),
        log={"no longer listening": False},
    ),
    Fault("filter restarted, its socket kept", act=_terminate, inherited=True, log={"no longer listening": False}),
    Fault("filter reloaded", act=_reload, log={": reloaded": False}),
    Fault("workers reloaded", options=_WORKERS, act=_reload, log={": reloaded: workers ": False}),
    Fault(
        "worker killed",
        options=_WORKERS,
        act=_kill_worker,
        struck=("2", "4"),
        others=("2", "4"),
        log={"ended by SIGKILL; another takes its place": False},
    ),
    Fault(
        "more connections than allowed",
        options=("--max-connections", "3"),
        struck=("2", "4"),
        others=("2", "4"),
        log={"3 connections are open; answering TEMPFAIL to more": False},
    ),
    Fault(
        "more messages than allowed",
        _does("keep@eom"),
        options=("--max-messages", "3"),
        struck=("2", "4"),
        others=("2", "4"),
        log={"3 messages are in progress; answering 452 to more": False},
    ),
    Fault(
        "memory budget reached",
        _does("keep@eom"),
        options=("--max-memory", "150000"),
        struck=("2", "4"),
        others=("2", "4"),
        log={r"octets are buffered \(--max-memory\); pausing connections that hold some, refusing new messages": False},
    ),
    Fault(
        "no descriptors left",
        wrapper=("prlimit", "--nofile=20"),
        log={"cannot accept connections: Too many open files; trying again every second": False},
    ),
    Fault("MTA killed", act=_kill_mta, struck=("2", ""), others=("2", ""), copies=2),
)
