"""run(): a process that serves until it is told to stop, and stops well."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter import AddressError, Milter, run
from aiomilter.daemon import run_until_stopped
from aiomilter.mta import connect
from aiomilter.observe import Lifecycle, LifecycleKind

from .patience import PATIENCE
from .peer import Watcher, filter_class, names

PROGRAM: Final = """
import asyncio, logging, signal, sys, time
from contextlib import asynccontextmanager
from aiomilter import Milter, run

class Filter(Milter):
    async def envfrom(self, ctx, mail):
        if mail.address == "slow@x":
            print("waiting", flush=True)
            await asyncio.Event().wait()
        if mail.address == "blocks@x":
            print("waiting", flush=True)
            while True:
                time.sleep(1)
        while mail.address == "stubborn@x":
            print("waiting", flush=True)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    async def close(self, ctx):
        print("close", flush=True)

@asynccontextmanager
async def milter():
    if sys.argv[3:] == ["hang"]:
        print("building", flush=True)
        await asyncio.Event().wait()
    print("ready", flush=True)
    yield Filter
    while sys.argv[3:4] == ["stay"]:
        print("leaving", flush=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
    print("left", flush=True)

logging.basicConfig(format="%(message)s", level=logging.ERROR)
if sys.argv[3:] == ["blocked"]:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
cancel_timeout = float(sys.argv[4]) if sys.argv[4:] else 60
run(milter, sys.argv[1], uvloop=sys.argv[2] == "uvloop", drain_timeout=60, cancel_timeout=cancel_timeout)
print("returned", flush=True)
"""


@contextmanager
def program(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ends(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


async def reached(path: Path) -> None:
    """Wait until somebody listens there; the path alone appears a moment earlier."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(str(path))
                return
            await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_signal_drains_and_ends_with_0(number: int, loop: str, tmp_path: Path) -> None:
    """P-134: an open SMTP session goes on until QUIT."""
    path = tmp_path / "filter.sock"
    with program(str(path), loop) as process:
        assert line(process) == "ready"
        await reached(path)
        async with connect(str(path)) as session:
            await session.connect()
            process.send_signal(number)
            async with asyncio.timeout(PATIENCE):
                while path.exists():
                    await asyncio.sleep(0)
            await session.mail("<a@x>")
        assert ends(process) == (0, "close\nleft\nreturned\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_second_signal_hurries(loop: str, tmp_path: Path) -> None:
    """P-134: abort and close run, the exit is 0 all the same."""
    path = tmp_path / "filter.sock"
    with program(str(path), loop) as process:
        assert line(process) == "ready"
        await reached(path)
        async with connect(str(path)) as session:
            mail = asyncio.ensure_future(session.mail("<slow@x>"))
            assert await asyncio.to_thread(line, process) == "waiting"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                while path.exists():
                    await asyncio.sleep(0)
            process.send_signal(signal.SIGTERM)
            assert str(await mail) == "Verdict.TEMPFAIL"
            await session.close()
        assert ends(process) == (0, "close\nleft\nreturned\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_third_signal_ends_at_once(loop: str, tmp_path: Path) -> None:
    """Whatever is waited for, here a factory that holds on."""
    path = tmp_path / "filter.sock"
    with program(str(path), loop, "stay") as process:
        assert line(process) == "ready"
        await reached(path)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(line, process) == "leaving"
        async with asyncio.timeout(PATIENCE):
            while process.poll() is None:
                process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.01)
        assert ends(process) == (-signal.SIGTERM, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_third_signal_ends_a_process_whose_callback_blocks_the_loop(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "filter.sock"
    with program(str(path), loop) as process:
        assert line(process) == "ready"
        await reached(path)
        async with connect(str(path)) as session:
            mail = asyncio.ensure_future(session.mail("<blocks@x>"))
            assert await asyncio.to_thread(line, process) == "waiting"
            async with asyncio.timeout(PATIENCE / 10):
                while process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    await asyncio.sleep(0.01)
            await asyncio.gather(mail, return_exceptions=True)
        assert ends(process) == (-signal.SIGTERM, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_signal_that_was_blocked_ends_too(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "filter.sock"
    with program(str(path), loop, "blocked") as process:
        assert line(process) == "ready"
        await reached(path)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(ends, process) == (0, "left\nreturned\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_what_takes_no_notice_of_its_cancellation_is_left_behind(loop: str, tmp_path: Path) -> None:
    """A callback and a factory, of which the event loop, too, would wait for the end."""
    path = tmp_path / "filter.sock"
    with program(str(path), loop, "stay", "0.05") as process:
        assert line(process) == "ready"
        await reached(path)
        async with connect(str(path)) as session:
            mail = asyncio.ensure_future(session.mail("<stubborn@x>"))
            assert await asyncio.to_thread(line, process) == "waiting"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                while path.exists():
                    await asyncio.sleep(0)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(mail, return_exceptions=True)
        code, out, err = await asyncio.to_thread(ends, process)
    assert code == 0
    assert out == "waiting\nleaving\nleaving\nleaving\nreturned\n"
    assert "milter did not end within 0.05 s (cancel_timeout) of its cancellation; abandoned" in err


@pytest.mark.slow
def test_a_signal_while_the_filter_is_being_built_ends_too(tmp_path: Path) -> None:
    """P-134: nothing listens yet, and nothing has to be waited for."""
    with program(str(tmp_path / "filter.sock"), "asyncio", "hang") as process:
        assert line(process) == "building"
        process.send_signal(signal.SIGTERM)
        assert ends(process) == (0, "returned\n", "")


@pytest.mark.slow
def test_a_bind_that_fails_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with program(str(tmp_path / "no" / "such.sock"), "asyncio") as process:
        code, out, err = ends(process)
    assert code == 1
    assert out == "ready\nleft\n"
    assert err.splitlines()[-1].startswith("FileNotFoundError: ")
    assert "cannot listen on unix:" in err


def test_a_text_that_is_no_socket_is_an_error_before_anything_runs() -> None:
    with pytest.raises(AddressError):
        run(Milter, "nonsense")


def test_more_workers_than_a_reload_has_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="workers: expected at most 128, found 129"):
        run(Milter, "inet:0@127.0.0.1", workers=129)


class Service:
    """What is run, and notes what is done to it."""

    drain_timeout = 5.0

    def __init__(self) -> None:
        self.log: list[str] = []
        self.broken = asyncio.Event()
        self.drained = asyncio.Event()

    async def start(self) -> None:
        self.log.append("start")

    async def reload(self) -> None:
        self.log.append("reload")

    def report(self, kind: LifecycleKind, what: str, error: BaseException | None = None) -> None:
        self.log.append(what)

    async def drain(self, timeout: float | None = None) -> None:
        self.log.append(f"drain {timeout}")
        try:
            await self.drained.wait()
        finally:
            self.log.append("drained")

    async def close(self) -> None:
        self.log.append("close")


async def told(service: Service, entry: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while entry not in service.log:
            await asyncio.sleep(0)


async def test_what_cannot_serve_any_more_is_ended() -> None:
    service: Any = Service()
    running = asyncio.ensure_future(run_until_stopped(service))
    await told(service, "start")
    service.broken.set()
    await told(service, "drain None")
    signal.raise_signal(signal.SIGTERM)  # the second way to stop it: it hurries
    async with asyncio.timeout(PATIENCE):
        await running
    assert service.log == ["start", "drain None", "drained", "close"]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_factory_that_ends_while_it_is_in_use_ends_the_daemon() -> None:
    async def refresh() -> None:
        raise LookupError("no map")

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        async with asyncio.TaskGroup() as tasks:
            asyncio.get_running_loop().call_later(0.01, lambda: tasks.create_task(refresh()))
            yield Milter

    watcher = Watcher()
    with pytest.raises(RuntimeError, match="ended while it was in use: ExceptionGroup: unhandled errors"):
        run(factory, "inet:0@127.0.0.1", observer=watcher)
    assert [what for _, what, _ in watcher.failures] == [
        f"the factory {__name__}.{factory.__qualname__} ended while it was in use"
    ]


async def test_signals_are_ours_for_as_long_as_we_run() -> None:
    service: Any = Service()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    running = asyncio.ensure_future(run_until_stopped(service))
    await told(service, "start")
    signal.raise_signal(signal.SIGTERM)
    await told(service, "drain None")
    service.drained.set()
    await running
    assert service.log == ["start", "drain None", "drained", "close"]
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert after == [signal.SIG_DFL, signal.default_int_handler]
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


async def test_a_second_signal_ends_the_draining() -> None:
    service: Any = Service()
    running = asyncio.ensure_future(run_until_stopped(service))
    await told(service, "start")
    signal.raise_signal(signal.SIGINT)
    await told(service, "drain None")
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        await running
    assert service.log == ["start", "drain None", "drained", "close"]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


RELOADED: Final = "reloaded; open connections finish on what they began with"


async def test_hangup_reloads() -> None:
    service: Any = Service()
    running = asyncio.ensure_future(run_until_stopped(service))
    await told(service, "start")
    signal.raise_signal(signal.SIGHUP)
    await told(service, RELOADED)
    signal.raise_signal(signal.SIGTERM)
    await told(service, "drain None")
    service.drained.set()
    await running
    assert service.log == ["start", "reloading", "reload", RELOADED, "drain None", "drained", "close"]
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


async def test_hangup_gives_up_a_reload_that_hangs_and_begins_again() -> None:
    class Hanging(Service):
        async def reload(self) -> None:
            self.log.append("reload")
            if self.log.count("reload") < 3:
                await asyncio.Event().wait()

    service: Any = Hanging()
    running = asyncio.ensure_future(run_until_stopped(service))
    await told(service, "start")
    for count in (1, 2):
        signal.raise_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE):
            while service.log.count("reload") < count:
                await asyncio.sleep(0)
    signal.raise_signal(signal.SIGHUP)
    await told(service, RELOADED)
    cancelled = ["reloading", "reload", "reload cancelled: another was requested"]
    assert service.log == ["start", *cancelled, *cancelled, "reloading", "reload", RELOADED]
    service.drained.set()
    signal.raise_signal(signal.SIGTERM)
    await running
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


async def test_a_drain_that_fails_is_not_swallowed() -> None:
    class Failing(Service):
        async def drain(self, timeout: float | None = None) -> None:
            self.log.append("drain")
            raise ValueError("cannot drain")

    service: Any = Failing()
    running = asyncio.ensure_future(run_until_stopped(service))
    await told(service, "start")
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(ValueError, match="cannot drain"):
        await running
    assert service.log[-1] == "close"


def test_outside_the_main_thread_it_says_so() -> None:
    found: list[BaseException] = []

    def work() -> None:
        try:
            run(Milter, "inet:0@127.0.0.1", uvloop=False, observer=Watcher())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert [type(error) for error in found] in ([ValueError], [RuntimeError])


def test_uvloop_can_be_asked_for_and_refused() -> None:
    seen: list[str] = []

    class Looking(Watcher):
        def lifecycle(self, event: Lifecycle) -> None:
            if event.kind is LifecycleKind.LISTENER_STARTED:
                seen.append(type(asyncio.get_running_loop()).__module__)
                signal.raise_signal(signal.SIGTERM)

    filter_ = filter_class()
    for wanted in (True, False, None):
        run(filter_, "inet:0@127.0.0.1", uvloop=wanted, observer=Looking())

    assert [module.startswith("uvloop") for module in seen] == [True, False, True]
    assert names(filter_) == []


async def test_run_inside_a_running_loop_names_serve() -> None:
    with pytest.raises(RuntimeError, match=r"aiomilter\.serve"):
        run(Milter, "inet:0@127.0.0.1")
