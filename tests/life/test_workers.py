"""Several processes that serve one filter: even load, deaths, reloads, the end."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from aiomilter._process.backoff import Backoff
from aiomilter._process.forking import fork_worker
from aiomilter._process.worker import WorkerProgram
from aiomilter._serving.binding import Bound
from aiomilter._serving.sharing import PLACES, AcceptBalancer, Turn, shared_counts
from aiomilter.mta import connect
from tests.patience import PATIENCE

from .daemon import (
    CACHING,
    ENDS,
    HANGS,
    LOOPS,
    Daemon,
    Load,
    deliver,
    marks,
    running,
    write_at_once,
    write_filter,
)
from .test_systemd import Manager

pytestmark = pytest.mark.slow
TWO: Final = ("f.py", "--workers", "2")
SERVE: Final = r"workers (\d+), (\d+) serve new connections"


async def serving(daemon: Daemon, count: int = 1) -> list[int]:
    """Wait until a set of workers serves, and return their numbers."""
    match = await daemon.logged(SERVE, count)
    return [int(match[1]), int(match[2])]


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between open and read
        return True


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and not waited for."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while not all(gone(pid) for pid in pids):
            await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------------------------- even load


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("burst", [False, True], ids=["one by one", "at once"])
async def test_long_connections_are_shared_evenly(burst: bool, loop: str, tmp_path: Path) -> None:
    """64 that stay, over 2 workers; asyncio alone would give all of a burst to one, uvloop too."""
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", "inet:0@127.0.0.1", loop, directory=tmp_path) as daemon:
        await serving(daemon)
        address = (await daemon.logged(r"listening on (inet:\S+)"))[1]
        found: Counter[str] = Counter()
        async with contextlib.AsyncExitStack() as stack:

            async def client() -> None:
                session = await stack.enter_async_context(connect(address, timeout=PATIENCE))
                await session.connect()
                await session.mail("<a@x>")
                await session.rcpt("<b@x>")
                found[marks((await session.message(b"A: b\r\n\r\n")).delivered)[1]] += 1

            for clients in [64] if burst else [1] * 64:
                await asyncio.gather(*(client() for _ in range(clients)))
        print(sorted(found.values()))
        assert sum(found.values()) == 64
        assert min(found.values()) >= (26 if burst else 30)


def sharing(*places: int) -> list[AcceptBalancer]:
    counts = shared_counts()
    with socket.socket() as one:
        return [AcceptBalancer([Bound(one)], counts, place) for place in places]


def test_it_is_the_turn_of_who_has_the_fewest() -> None:
    shares = sharing(0, 7, PLACES - 1)
    first, second, third = shares
    first.begin()
    first.count(5)
    assert first.turn() is Turn.OURS  # nobody else accepts
    second.begin()
    assert [first.turn(), second.turn()] == [Turn.THEIRS, Turn.OURS]
    second.count(5)
    third.count(2)  # not told to begin: nobody waits for it
    assert [first.turn(), second.turn()] == [Turn.OURS, Turn.OURS]
    third.begin()
    assert [share.turn() for share in shares] == [Turn.THEIRS, Turn.THEIRS, Turn.OURS]
    third.end()
    third.count(1)
    assert [first.turn(), second.turn()] == [Turn.OURS, Turn.OURS]


def test_who_is_held_up_is_not_waited_for_until_it_moves() -> None:
    first, second, third = sharing(0, 1, 2)
    for share in (first, second, third):
        share.begin()
    first.count(3)
    second.count(2)  # and the third has none
    assert [first.turn() for _ in range(21)] == [Turn.THEIRS] * 20 + [Turn.ANYBODYS]
    first.count(4)
    assert first.turn() is Turn.ANYBODYS
    second.count(3)  # this one is there
    assert [first.turn() for _ in range(21)] == [Turn.THEIRS] * 20 + [Turn.ANYBODYS]
    third.count(1)
    assert first.turn() is Turn.THEIRS
    third.count(4)
    second.count(4)
    assert first.turn() is Turn.OURS


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_worker_that_is_held_up_holds_up_nobody(loop: str, tmp_path: Path) -> None:
    """It is stopped: it has fewer connections than the other, and takes none."""
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), loop, directory=tmp_path) as daemon:
        first, second = await serving(daemon)
        os.kill(first, signal.SIGSTOP)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(20):
                    session = await stack.enter_async_context(connect(str(tmp_path / "s"), timeout=PATIENCE))
                    await session.connect()
                    await session.mail("<a@x>")
                    await session.rcpt("<b@x>")
                    assert marks((await session.message(b"A: b\r\n\r\n")).delivered)[1] == str(second)
        finally:
            os.kill(first, signal.SIGCONT)


# ----------------------------------------------------------------------------------------------------------------- death


def test_after_several_young_deaths_the_next_start_waits_longer() -> None:
    backoff = Backoff()
    assert [backoff.died(0.1) for _ in range(10)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.died(1000.0) == 0
    assert [backoff.died(9.9), backoff.died(10.0), backoff.died(0.0)] == [0.5, 0, 0.5]
    for _ in range(5000):
        assert backoff.died(0.0) <= 30


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_killed_worker_is_replaced_and_the_other_serves_on(loop: str, tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), loop, directory=tmp_path) as daemon:
        first, second = await serving(daemon)
        async with Load(str(tmp_path / "s")) as load:
            await load.until(lambda: load.processes.keys() == {str(first), str(second)})
            before = load.processes[str(second)]
            os.kill(first, signal.SIGKILL)
            await load.until(lambda: load.processes[str(second)] > before + 10)
            third = int((await daemon.logged(r"worker (\d+) serves$"))[1])
            await load.until(lambda: load.processes[str(third)] > 10)
        assert third not in (first, second)
        # Those that it held, and no others.
        assert len(load.lost) <= 8
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert next(line for line in daemon.log if " ERROR " in line).endswith(
        f"worker {first} was ended by SIGKILL; another takes its place"
    )
    assert not (tmp_path / "s").exists()


async def test_a_worker_that_cannot_be_replaced_is_tried_again_later_and_later(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        first, second = await serving(daemon)
        file.write_text("raise ValueError('not now')\n")
        os.kill(first, signal.SIGKILL)
        await daemon.logged(r"worker \d+ ended with status 1; another takes its place in 1 s")
        assert (await deliver(str(tmp_path / "s")))[1] == str(second)
        write_filter(file, "1")
        third = int((await daemon.logged(r"worker (\d+) serves$"))[1])
        assert len([line for line in daemon.log if "cannot start a worker: f.py cannot be imported" in line]) == 2
        assert len([line for line in daemon.log if "another takes its place" in line]) == 3
        os.kill(second, signal.SIGKILL)
        await until_gone(second)
        assert await deliver(str(tmp_path / "s")) == ("1", str(third))


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_worker_told_to_end_lets_its_sessions_end_and_is_replaced(loop: str, tmp_path: Path) -> None:
    """Told again, as by a service manager that tells all processes, it does not hurry."""
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), loop, directory=tmp_path) as daemon:
        first, second = await serving(daemon)
        async with connect(str(tmp_path / "s")) as one, connect(str(tmp_path / "s")) as other:
            for session in (one, other):
                await session.connect()
                await session.mail("<a@x>")
            for pid in (first, second, first, second):
                os.kill(pid, signal.SIGTERM)
            await daemon.logged("no longer listening", 2)
            await daemon.logged(r"worker \d+ serves$", 2)
            assert int((await deliver(str(tmp_path / "s")))[1]) not in (first, second)
            for session in (one, other):
                await session.rcpt("<b@x>")
                assert marks((await session.message(b"A: b\r\n\r\n")).delivered)[1] in (str(first), str(second))
        await until_gone(first, second)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert [line for line in daemon.log if " ERROR " in line] == []
    for pid in (first, second):
        assert (
            len([line for line in daemon.log if f"worker {pid} accepts no more; another takes its place" in line]) == 1
        )


async def test_a_worker_whose_factory_ends_is_replaced_while_its_sessions_go_on(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(ENDS)
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await serving(daemon)
        async with connect(str(tmp_path / "s")) as session:
            await session.connect()
            write_filter(tmp_path / "f.py", "1")
            (tmp_path / "end").touch()
            await daemon.logged(r"worker \d+ serves$", 2)
            assert (await deliver(str(tmp_path / "s")))[0] == "1"
            await session.mail("<a@x>")
        await daemon.logged(r"ERROR aiomilter\[\d+\]: worker \d+ ended with status 1$", 2)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_workers_whose_supervisor_is_killed_end(tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        workers = await serving(daemon)
        async with connect(str(tmp_path / "s")) as session:
            await session.connect()
            daemon.process.kill()
            await daemon.logged("no longer listening", 2)
            await session.mail("<a@x>")
            await session.rcpt("<b@x>")
            assert marks((await session.message(b"A: b\r\n\r\n")).delivered)[0] == "0"
        await until_gone(*workers)


# ---------------------------------------------------------------------------------------------------------- start and end


async def test_a_start_that_fails_is_said_once_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("def milter():\n    raise ValueError('no database')\n")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        assert await daemon.ended() == 1
    assert daemon.log[-1] == "aiomilter: f.py cannot be started: ValueError: no database"
    assert len([line for line in daemon.log if "no database" in line]) == 3  # source, exception, and our line
    assert not (tmp_path / "s").exists()


async def test_a_start_fails_where_one_worker_does(tmp_path: Path) -> None:
    """The second finds what the first has made; nobody was served."""
    write_filter(tmp_path / "f.py", "0", "os.mkdir('only-once')\n")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        assert await daemon.ended() == 1
    assert daemon.out == ["opened 0"]
    assert daemon.log[-1].startswith("aiomilter: f.py cannot be imported: FileExistsError")
    assert not any("listening" in line for line in daemon.log)


@pytest.mark.parametrize("option", [("--listen", "/no/s"), ("--smtp", "0"), ("--workers", "0")])
async def test_mistakes_are_one_line(option: tuple[str, str], tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), *option, directory=tmp_path) as daemon:
        assert await daemon.ended() == (1 if option[0] == "--listen" else 2)
    assert len(daemon.log) == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_signal_to_the_whole_group_drains_and_a_second_hurries(loop: str, tmp_path: Path) -> None:
    """As Control-C does, and systemd unless told otherwise."""
    write_filter(tmp_path / "f.py", "0")
    arguments = (*TWO, "--listen", str(tmp_path / "s"), loop)
    async with running(*arguments, directory=tmp_path, own_group=True) as daemon:
        await serving(daemon)
        async with connect(str(tmp_path / "s")) as session:
            await session.connect()
            os.killpg(daemon.pid, signal.SIGINT)
            await daemon.logged("no longer listening", 2)
            assert not (tmp_path / "s").exists()
            await session.mail("<a@x>")
            await session.rcpt("<b@x>")
            assert marks((await session.message(b"A: b\r\n\r\n")).delivered)[0] == "0"
            os.killpg(daemon.pid, signal.SIGTERM)
            assert await daemon.ended() == 0
    assert sorted(daemon.out) == ["closed 0", "closed 0", "opened 0", "opened 0"]


@contextlib.contextmanager
def holding(path: Path) -> Iterator[Callable[[int], object]]:
    """Make a place where processes wait, each for an octet, and yield what lets some go."""
    os.mkfifo(path)
    # For reading, too: it opens at once, and what was written stays until a process comes for it.
    hold = os.open(path, os.O_RDWR)
    try:
        yield lambda count: os.write(hold, bytes(count))
    finally:
        os.close(hold)


LINGERS: Final = """
class Lingering:
    def flush(self):
        say("leaving")
        os.read(os.open("hold", os.O_RDONLY), 1)

import sys
sys.stdout = Lingering()
"""
"""More of a filter: when its event loop is closed, its process waits."""


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_signal_to_the_whole_group_does_not_fail_a_worker_that_has_ended(loop: str, tmp_path: Path) -> None:
    """Its event loop is closed and its process is about to exit: SIGTERM does not kill it."""
    write_filter(tmp_path / "f.py", "0", LINGERS)
    arguments = (*TWO, "--listen", str(tmp_path / "s"), loop)
    with holding(tmp_path / "hold") as let_go:
        async with running(*arguments, directory=tmp_path, own_group=True) as daemon:
            await serving(daemon)
            os.killpg(daemon.pid, signal.SIGTERM)
            await daemon.printed("leaving", 2)
            os.killpg(daemon.pid, signal.SIGTERM)
            let_go(2)
            assert await daemon.ended() == 0
    assert [line for line in daemon.log if " ERROR " in line] == []


@pytest.mark.parametrize("forks", [1, 2])
async def test_a_supervisor_obeys_a_signal_before_it_looks_at_what_that_has_done_to_workers(
    forks: int, tmp_path: Path
) -> None:
    """It is held up after a fork, until the signal to the whole group has ended the workers."""
    wait = f"""
def forked():
    forks.append(None)
    if len(forks) == {forks}:
        os.write(1, b"forked\\n")
        os.read(os.open("hold", os.O_RDONLY), 1)

import os, sys
forks = []
os.register_at_fork(after_in_parent=forked)
"""
    command = ("-c", wait + PROGRAM)
    with holding(tmp_path / "hold") as let_go:
        async with running(str(tmp_path / "s"), command=command, directory=tmp_path, own_group=True) as daemon:
            await daemon.printed("forked")
            workers = children(daemon.pid)
            assert len(workers) == forks
            os.killpg(daemon.pid, signal.SIGTERM)
            await until_gone(*workers)
            let_go(1)
            assert await daemon.ended() == 0
    assert daemon.log == []


@contextlib.asynccontextmanager
async def held(path: Path) -> AsyncIterator[None]:
    """Wait until a process reads there, and keep it reading."""
    writer = await asyncio.to_thread(open, path, "w")
    try:
        yield
    finally:
        writer.close()


async def test_one_signal_ends_a_worker_that_loads(tmp_path: Path) -> None:
    """Its event loop does not turn yet, so it hears nothing, and nobody waits for it."""
    os.mkfifo(tmp_path / "hold")
    write_filter(tmp_path / "f.py", "0", "open('hold').read()\n")
    async with (
        running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path, own_group=True) as daemon,
        held(tmp_path / "hold"),
    ):
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert daemon.log == []


async def test_one_signal_ends_a_worker_that_loads_again(tmp_path: Path) -> None:
    """It has the listening sockets, too: until it ends, connections are taken that nobody serves."""
    os.mkfifo(tmp_path / "hold")
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", "inet:0@127.0.0.1", directory=tmp_path, own_group=True) as daemon:
        await serving(daemon)
        address = (await daemon.logged(r"listening on (inet:\S+)"))[1]
        write_filter(tmp_path / "f.py", "1", "open('hold').read()\n")
        daemon.send(signal.SIGHUP)
        async with held(tmp_path / "hold"):
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0
        with pytest.raises(OSError, match="Connect call failed"):
            await deliver(address)
    assert daemon.out.count("closed 0") == 2
    assert [line for line in daemon.log if " ERROR " in line] == []


async def test_a_reload_ends_a_replacement_that_loads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    write_filter(tmp_path / "f.py", "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path, own_group=True) as daemon:
        first, _ = await serving(daemon)
        write_filter(tmp_path / "f.py", "0", "open(1, 'w').write(f'loads {os.getpid()}\\n')\nopen('hold').read()\n")
        os.kill(first, signal.SIGKILL)
        replacement = int((await daemon.printed(r"loads (\d+)"))[1])
        write_filter(tmp_path / "f.py", "1")
        daemon.send(signal.SIGHUP)
        await serving(daemon, 2)
        await until_gone(replacement)
        assert (await deliver(str(tmp_path / "s")))[0] == "1"
    assert len([line for line in daemon.log if " ERROR " in line]) == 1


async def test_a_signal_to_reload_that_comes_as_they_start_is_heeded(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    os.mkfifo(tmp_path / "hold")
    write_filter(file, "0", "open('hold').read()\n")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path, own_group=True) as daemon:
        writer = await asyncio.to_thread(open, tmp_path / "hold", "w")
        write_filter(file, "1")
        daemon.send(signal.SIGHUP)
        writer.close()
        await serving(daemon, 2)
        assert (await deliver(str(tmp_path / "s")))[0] == "1"


async def test_a_filter_that_fails_at_its_end_fails_the_command(tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", "0")
    text = (tmp_path / "f.py").read_text()
    (tmp_path / "f.py").write_text(text.replace('say("closed 0")', "raise RuntimeError('stuck')"))
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await serving(daemon)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 1
    assert daemon.log.count("aiomilter: f.py failed at its end: RuntimeError: stuck") == 2


async def test_a_third_signal_kills_them(tmp_path: Path) -> None:
    program = PROGRAM.replace('os.write(1, b"closed\\n")', 'os.write(1, b"leaving\\n"); await asyncio.Event().wait()')
    program = program.replace("workers=2", "workers=2, drain_timeout=60, cancel_timeout=60")
    program = f"import asyncio, logging; logging.basicConfig(level=20)\n{program}"
    async with running(str(tmp_path / "s"), command=("-c", program), directory=tmp_path, own_group=True) as daemon:
        workers = await serving(daemon)
        daemon.send(signal.SIGTERM)
        await daemon.printed("leaving", 2)
        async with asyncio.timeout(PATIENCE):
            while daemon.process.returncode is None:
                daemon.send(signal.SIGTERM)
                await asyncio.sleep(0.01)
        assert all(gone(pid) for pid in workers)
        assert await daemon.ended() in (3, -signal.SIGTERM)  # the latter for one that comes when all is over


# ---------------------------------------------------------------------------------------------------------------- reload


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_reload_under_load_loses_nothing(loop: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running(*TWO, "--listen", "inet:0@127.0.0.1", loop, directory=tmp_path) as daemon:
        sets = [await serving(daemon)]
        address = (await daemon.logged(r"listening on (inet:\S+)"))[1]
        async with Load(address) as load:
            for number in range(1, 4):
                await load.more(10, str(number - 1))
                write_filter(file, str(number))
                daemon.send(signal.SIGHUP)
                sets.append(await serving(daemon, number + 1))
                assert "reloaded: " in (await daemon.logged(SERVE, number + 1)).string
                await until_gone(*sets[-2])
            await load.more(10, "3")
        assert load.lost == []
        assert len({pid for workers in sets for pid in workers}) == 8
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert [line for line in daemon.log if re.search(r" (WARNING|ERROR) aiomilter", line)] == []


async def test_workers_that_come_later_load_what_was_written_in_the_same_second(tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", '" + MARK + "', "\nfrom settings import MARK\n")
    write_at_once(tmp_path / "settings.py", "MARK = 'a'\n")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path, environment=CACHING) as daemon:
        await serving(daemon)
        assert (await deliver(str(tmp_path / "s")))[0] == "a"
        write_at_once(tmp_path / "settings.py", "MARK = 'b'\n")
        daemon.send(signal.SIGHUP)
        await serving(daemon, 2)
        assert (await deliver(str(tmp_path / "s")))[0] == "b"


async def test_an_open_session_keeps_what_it_began_with_and_stop_comes_for_it_too(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "old")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await serving(daemon)
        async with connect(str(tmp_path / "s")) as session:
            await session.connect()
            write_filter(file, "new")
            daemon.send(signal.SIGHUP)
            await serving(daemon, 2)
            await daemon.logged("no longer listening", 2)
            assert (await deliver(str(tmp_path / "s")))[0] == "new"
            daemon.send(signal.SIGTERM)
            await daemon.logged("no longer listening", 4)
            await session.mail("<a@x>")
            await session.rcpt("<b@x>")
            assert marks((await session.message(b"A: b\r\n\r\n")).delivered)[0] == "old"
        assert await daemon.ended() == 0


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ValueError('no')\n", r"cannot reload: f\.py cannot be imported: ValueError: no; nothing has changed"),
        (
            "def milter():\n    raise OSError('no database')\n",
            r"cannot reload: f\.py cannot be started: OSError: no data",
        ),
        (
            "import os; os.kill(os.getpid(), 9)\n",
            r"cannot reload: worker \d+ was ended by SIGKILL; nothing has changed",
        ),
    ],
)
async def test_a_reload_that_fails_changes_nothing_and_is_one_record(code: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "old")
    manager = Manager(str(tmp_path / "notify"))
    arguments = (*TWO, "--listen", str(tmp_path / "s"))
    with manager.socket:
        async with running(*arguments, directory=tmp_path, environment=manager.environment) as daemon:
            workers = await serving(daemon)
            await manager.told("READY=1")
            await daemon.logged("listening on", 2)
            before = len(daemon.log)
            file.write_text(code)
            daemon.send(signal.SIGHUP)
            await daemon.logged(why)
            await manager.told("RELOADING=1")
            assert (await manager.told("READY=1"))["STATUS"].endswith("the last reload failed, see the log")
            version, process = await deliver(str(tmp_path / "s"))
            assert version == "old"
            assert int(process) in workers
            records = [line for line in daemon.log[before:] if re.search(r" aiomilter\[\d+\]: (?!reloading)", line)]
            assert [line for line in records if "client=" not in line and "cannot reload" not in line] == []
            assert len([line for line in records if "cannot reload" in line]) == 1
            write_filter(file, "new")
            daemon.send(signal.SIGHUP)
            await serving(daemon, 2)
            assert (await deliver(str(tmp_path / "s")))[0] == "new"


async def test_a_reload_that_hangs_is_given_up_for_the_next(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    write_filter(file, "0")
    async with running(*TWO, "--listen", str(tmp_path / "s"), directory=tmp_path) as daemon:
        await serving(daemon)
        for count in (1, 2):
            file.write_text(HANGS)
            daemon.send(signal.SIGHUP)
            await daemon.logged("reloading", count)
            await daemon.printed("opening", count)
        write_filter(file, "1")
        daemon.send(signal.SIGHUP)
        await daemon.logged(r"WARNING aiomilter\[\d+\]: reload cancelled: another was requested", 2)
        await serving(daemon, 2)
        assert (await deliver(str(tmp_path / "s")))[0] == "1"
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert [line for line in daemon.log if " ERROR " in line] == []


# --------------------------------------------------------------------------------------------------------------- systemd


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_stuck_worker_is_killed_and_replaced(loop: str, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    os.mkfifo(tmp_path / "hold")
    write_filter(tmp_path / "f.py", "0")
    text = (tmp_path / "f.py").read_text()
    stuck = "    async def envfrom(self, ctx, mail):\n        mail.address == 'stuck@x' and open('hold').read()\n"
    (tmp_path / "f.py").write_text(text.replace("    async def eom", stuck + "    async def eom"))
    address, environment = str(tmp_path / "s"), {**manager.environment, "WATCHDOG_USEC": "2000000"}
    with manager.socket:
        async with running(*TWO, "--listen", address, loop, directory=tmp_path, environment=environment) as daemon:
            ready = await manager.told("READY=1")
            assert (ready["MAINPID"], ready["STATUS"]) == (str(daemon.pid), "Serving with 2 workers")
            workers = await serving(daemon)
            await manager.told("WATCHDOG=1")
            async with connect(address) as session:
                await session.connect()
                waiting = asyncio.ensure_future(session.mail("<stuck@x>"))
                killed = int((await daemon.logged(r"worker (\d+) gave no sign of life for 2 s; killing it"))[1])
                assert killed in workers
                await asyncio.gather(waiting, return_exceptions=True)
            await daemon.logged(rf"worker {killed} was ended by SIGABRT; another takes its place")
            await daemon.logged(r"worker \d+ serves$")
            await manager.told("WATCHDOG=1")
            daemon.send(signal.SIGTERM)
            await manager.told("STOPPING=1")
            assert await daemon.ended() == 0


async def test_a_restart_by_socket_activation_loses_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        async with Load(f"inet:{listening.getsockname()[1]}@127.0.0.1") as load:
            for version in ("0", "1"):
                write_filter(tmp_path / "f.py", version)
                async with running(*TWO, directory=tmp_path, handed=[listening.fileno()]) as daemon:
                    await load.more(40, version)
                    daemon.send(signal.SIGTERM)
                    assert await daemon.ended() == 0
            async with running(*TWO, directory=tmp_path, handed=[listening.fileno()]):
                await load.more(10, "1")
                await load.__aexit__()
        assert load.lost == []


# ------------------------------------------------------------------------------------------------------------------ run

PROGRAM: Final = """
import logging, os, sys
from contextlib import asynccontextmanager
from aiomilter import Milter, run

logging.basicConfig(level=logging.ERROR)

class Version(Milter):
    async def eom(self, ctx):
        ctx.add_header("X-Version", "1")
        ctx.add_header("X-Process", str(os.getpid()))

@asynccontextmanager
async def milter():
    if sys.argv[2:] == ["fail"]:
        raise LookupError("no such thing")
    os.write(1, b"opened\\n")
    yield Version
    os.write(1, b"closed\\n")

try:
    run(milter, sys.argv[1], workers=2, stall_timeout=None)  # a machine that is busy stalls any loop
except ChildProcessError as error:
    print(error)
    raise SystemExit(3)
print("returned")
"""


async def test_run_with_workers_returns_once(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    async with running(address, command=("-W", "error", "-c", PROGRAM), directory=tmp_path) as daemon:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    await deliver(address)
                    break
                await asyncio.sleep(0.01)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert daemon.log == []
    assert daemon.out == ["opened", "opened", "closed", "closed", "returned"]


async def test_run_with_workers_that_cannot_start_raises(tmp_path: Path) -> None:
    arguments = (str(tmp_path / "s"), "fail")
    async with running(*arguments, command=("-W", "error", "-c", PROGRAM), directory=tmp_path) as daemon:
        assert await daemon.ended() == 3
    assert daemon.log[-1] == "LookupError: no such thing"
    assert daemon.out == ["a worker could not start or did not end well; it has written why"]


async def test_who_can_reach_the_sockets_of_workers_is_said_once(tmp_path: Path) -> None:
    """Not by each worker, and not again after a reload."""
    write_filter(tmp_path / "f.py", "1")
    path = str(tmp_path / "s")
    tmp_path.chmod(0o700)
    command = (*TWO, "--listen", "inet:0", "--listen", path, "--socket-mode", "666")
    async with running(*command, directory=tmp_path) as daemon:
        await serving(daemon)
        daemon.send(signal.SIGHUP)
        await daemon.logged("reloaded: ")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    said = [line for line in daemon.log if "reachable from" in line or "may enter" in line]
    assert len(said) == 2
    assert f"unix:{path}: only" in said[1]


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_worker_that_does_not_end_is_killed(signals: int, tmp_path: Path) -> None:
    """Its event loop is stuck, so it hears nothing: it has the time for open sessions, or little if it is to hurry."""
    os.mkfifo(tmp_path / "hold")
    stuck = "    async def envfrom(self, ctx, mail):\n        open('hold').read()\n    async def eom"
    program = PROGRAM.replace("    async def eom", stuck).replace(
        "try:",
        "import logging; logging.basicConfig()\nimport aiomilter._process.supervisor as s; s._HURRY_TIMEOUT = 0.2\ntry:",
    )
    times = f"workers=2, cancel_timeout=0.1, drain_timeout={0.1 if signals == 1 else 1000}"
    program = program.replace("workers=2", times)
    address = str(tmp_path / "s")
    async with running(address, command=("-c", program), directory=tmp_path, own_group=True) as daemon:
        await daemon.printed("opened", 2)
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    async with connect(address) as session:
                        await session.connect()
                        waiting = asyncio.ensure_future(session.mail("<a@x>"))
                        writer = await asyncio.to_thread(open, tmp_path / "hold", "w")
                        for _ in range(signals):
                            daemon.send(signal.SIGTERM)
                            while (tmp_path / "s").exists():
                                await asyncio.sleep(0.001)
                        assert await daemon.ended() == 3
                        writer.close()
                        await asyncio.gather(waiting, return_exceptions=True)
                        break
                await asyncio.sleep(0.01)
    assert [line for line in daemon.log if "did not end in time" in line]
    assert daemon.out == [
        "opened",
        "opened",
        "closed",
        "a worker could not start or did not end well; it has written why",
    ]


LATE = """
import sys
from pathlib import Path
from aiomilter._cli import main
from aiomilter._process.forking import Worker

has_ended, seen = Worker.has_ended, set()

def late(worker, *args, **kwargs):
    # As if it ended right after this look.
    state = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]
    if state == "Z" and worker.pid not in seen:
        seen.add(worker.pid)
        return False
    return has_ended(worker, *args, **kwargs)

Worker.has_ended = late
sys.exit(main(sys.argv[1:]))
"""


async def test_a_worker_that_ends_right_after_it_was_looked_at_is_replaced(tmp_path: Path) -> None:
    """Its channel ends before it does, and the signal that tells so comes once."""
    write_filter(tmp_path / "f.py", "0")
    (tmp_path / "late.py").write_text(LATE)
    command = [sys.executable, str(tmp_path / "late.py"), "run", str(tmp_path / "f.py"), "--workers", "2"]
    process = await asyncio.create_subprocess_exec(
        *command, "--listen", str(tmp_path / "s"), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(rb"workers (\d+), \d+ serve", await process.stderr.readline())):
                pass
            os.kill(int(found[1]), signal.SIGKILL)
            while b" ERROR " not in await process.stderr.readline():
                pass
            process.terminate()
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0


def test_a_fork_that_fails_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no signal blocked: the supervisor goes on, and tries again later."""

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    program = WorkerProgram(lambda share, later, reporter: pytest.fail("no"), lambda error, what: 1, None, None)
    before = os.listdir("/proc/self/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    (share,) = sharing(0)
    with pytest.raises(BlockingIOError):
        fork_worker(lambda its: program.run(its, share, later=False, purpose=""), 0, close_rest=lambda: None)
    assert (os.listdir("/proc/self/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
