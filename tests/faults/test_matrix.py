"""Each fault against each MTA, under a load of twenty sessions: no message is lost, doubled, or let through unfiltered."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.load import Books, Load
from tests.faults.matrix import FAULTS, Fault
from tests.faults.process import FilterProcess
from tests.faults.report import Report
from tests.interop.scene import Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MESSAGES = 100
AFTERWARDS = range(1000, 1010)
"""Messages that show that the filter serves on."""
FORBIDDEN = ("aiomilter has a bug here", "never retrieved", "never awaited", " ERROR asyncio")
"""What no log may hold."""


@pytest.mark.parametrize(
    ("fault", "scene"),
    [pytest.param(fault, mta, id=f"{fault.name}-{mta}") for fault in FAULTS for mta in fault.mtas],
    indirect=["scene"],
)
async def test_no_message_is_lost(fault: Fault, scene: Scene, directory: Path, report: Report) -> None:
    """Accepted is delivered or held, refused has a reply, each exactly once; the filter serves on and holds on to nothing."""
    load, later = Load(scene.rig, scene.port), Load(scene.rig, scene.port)
    earlier = len(scene.rig.deliveries)
    with _inherited(scene, fault.inherited) as inherited:
        filter_ = FilterProcess(scene.sockets[0], directory, fault.options, fault.environment, fault.wrapper, inherited)
        try:
            await filter_.start()
            idle = filter_.descriptors
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(range(MESSAGES)))
                if fault.act is not None:
                    tasks.create_task(fault.act(filter_, load, scene.port))
            books = await Books.close(scene.rig, load, earlier)
            logged = filter_.log
            earlier = len(scene.rig.deliveries)
            await later.run([number for number in AFTERWARDS if number % 3], 1)
            served = await Books.close(scene.rig, later, earlier)
            await filter_.until(lambda: filter_.descriptors <= idle, "end of all connections")
        finally:
            await filter_.kill()
    report.add(scene.name, fault.name, books)

    assert sorted(books.replies) == list(range(MESSAGES))
    books.balance(fault.copies)
    for numbers, expected in ((books.struck, fault.struck), (set(books.replies) - books.struck, fault.others)):
        wrong = {number: load.replies[number] for number in numbers - books.by(*expected)}
        assert not wrong, f"expected {expected}: {wrong}"
    if not fault.passing:
        assert all(set(marks) == {" yes"} for marks in books.marks.values())
    for pattern, each in fault.log.items():
        found = len(re.findall(pattern, logged))
        assert (found == len(books.struck)) if each else found, (pattern, found, logged)
    assert not [text for text in FORBIDDEN if text in filter_.log], filter_.log
    served.balance()
    assert served.by("2") == set(later.replies)
    assert all(marks == [" yes"] for marks in served.marks.values())


@contextmanager
def _inherited(scene: Scene, wanted: bool) -> Iterator[socket.socket | None]:
    """Listen where the MTA looks for the filter, as systemd does for a service that it starts on demand."""
    if not wanted:
        yield None
        return
    kind, _, rest = scene.sockets[0].partition(":")
    if kind == "unix":
        Path(rest).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(rest)
        Path(rest).chmod(0o666)
    else:
        listening = socket.create_server(("127.0.0.1", int(rest.partition("@")[0])))
    with listening:
        listening.listen(128)
        yield listening
