"""``milter``: registering, sockets, and running wherever a program runs it."""

import asyncio
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter.compat import classic as Milter
from aiomilter.compat import lowlevel as milter
from aiomilter.compat.listening import open_socket
from tests.compat.wire import client
from tests.patience import PATIENCE
from tests.peer import QUIT, codes, connect, helo, mail, offer


class Filter(Milter.Base):
    """Lets all pass."""

    def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
        return Milter.CONTINUE


def wait_until(done: Any, what: str) -> None:
    """Wait for what another thread or process does."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def accepts(address: str) -> bool:
    """Whether anybody listens at a path."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix:")) == 0


@contextmanager
def running(tmp_path: Path, factory: Any = Filter, name: str = "test") -> Iterator[str]:
    """Run a filter in a thread; stop it at the end."""
    address = f"unix:{tmp_path}/sock"
    Milter.factory = factory
    failures: list[BaseException] = []

    def run() -> None:
        try:
            assert Milter.runmilter(name, address) is None  # type: ignore[func-returns-value]
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: failures or accepts(address), "it listens")
        yield address
    finally:
        Milter.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not failures


def test_a_stop_counts_as_soon_as_the_socket_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_and_stop(*args: Any, **options: Any) -> Any:
        listening = open_socket(*args, **options)
        Milter.stop()
        return listening

    monkeypatch.setattr("aiomilter.compat.lowlevel.open_socket", open_and_stop)
    thread = threading.Thread(target=Milter.runmilter, args=("test", f"unix:{tmp_path}/sock"), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    stopped = not thread.is_alive()
    Milter.stop()
    assert stopped


async def test_a_program_that_logs_all_gets_no_records_of_an_event_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("asyncio"), "level", logging.NOTSET)
    caplog.set_level("DEBUG")
    with running(tmp_path):
        # The socket listens before the event loop runs, and a stop before that cancels the start.
        wait_until(lambda: any("listening on" in record.getMessage() for record in caplog.records), "it serves")
    assert {record.name for record in caplog.records} == {"aiomilter"}


async def test_it_runs_in_any_thread_and_again_and_stop_ends_it(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path) as address:
            async with client(address) as peer:
                assert await peer.ask(offer()) == "O"
                assert await peer.ask(connect()) == "c"
                peer.write(QUIT)
                assert await peer.rest() == b""
        assert not os.path.exists(address.removeprefix("unix:"))


async def test_contexts_are_counted(tmp_path: Path) -> None:
    made, ended = milter.getdiag()
    with running(tmp_path) as address:
        async with client(address) as peer:
            assert await peer.ask(offer()) == "O"
            assert milter.getdiag()[0] > made
    assert milter.getdiag()[0] - made == milter.getdiag()[1] - ended


async def test_the_factory_may_be_replaced_while_it_runs(tmp_path: Path) -> None:
    class Rejecting(Milter.Base):
        def connect(self, hostname: str, family: int, hostaddr: Any) -> Any:
            return Milter.REJECT

    with running(tmp_path) as address:
        for factory, answer in ((Filter, "c"), (Rejecting, "r"), (lambda: Rejecting(), "r")):
            Milter.factory = factory
            async with client(address) as peer:
                assert await peer.ask(offer()) == "O"
                assert await peer.ask(connect()) == answer


SCRIPT = """
import asyncio, os, signal, sys, threading, multiprocessing
import Milter

class Filter(Milter.Base):
    def connect(self, hostname, family, hostaddr):
        print("thread", threading.current_thread() is threading.main_thread(), flush=True)
        return Milter.CONTINUE
    def envfrom(self, f, *params):
        return Milter.REJECT
    def close(self):
        print("close", flush=True)
        return Milter.CONTINUE

def ours(*args):
    print("signal", flush=True)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, ours)
signal.signal(signal.SIGUSR1, lambda *args: Milter.stop())
Milter.factory = Filter

def run():
    print("returned", Milter.runmilter("test", sys.argv[1]), flush=True)

async def in_a_loop():
    task = asyncio.create_task(asyncio.sleep(0, "still there"))
    run()
    print(await task, flush=True)

match sys.argv[2]:
    case "main":
        run()
    case "loop":
        asyncio.run(in_a_loop())
    case "fork":
        if child := os.fork():
            print(child, flush=True)
            print("status", os.waitpid(child, 0)[1], flush=True)
        else:
            run()
            os._exit(0)
    case "multiprocessing":
        multiprocessing.set_start_method("fork")
        child = multiprocessing.Process(target=run)
        child.start()
        print(child.pid, flush=True)
        child.join()
        print("status", child.exitcode, flush=True)
print("restored", signal.getsignal(signal.SIGTERM) is ours, flush=True)
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("main", signal.SIGTERM),
        ("main", signal.SIGHUP),
        ("main", signal.SIGINT),
        ("main", signal.SIGUSR1),
        ("loop", signal.SIGTERM),
        ("fork", signal.SIGTERM),
        ("multiprocessing", signal.SIGTERM),
    ],
)
async def test_a_signal_drains_closes_and_returns_to_the_program(
    tmp_path: Path, where: str, number: signal.Signals
) -> None:
    script, address = tmp_path / "program.py", f"unix:{tmp_path}/sock"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-m", "aiomilter", "compat", str(script), address, where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        target = process.pid
        if where in ("fork", "multiprocessing"):
            target = int(process.stdout.readline())
        wait_until(lambda: accepts(address), "it listens")
        async with client(address) as peer:
            assert await peer.ask(offer()) == "O"
            assert await peer.ask(connect()) == "c"
            os.kill(target, number)
            wait_until(lambda: not accepts(address), "it stops listening")
            # An open session goes on.
            assert await peer.ask(mail()) == "r"
            peer.write(QUIT)
            assert await peer.rest() == b""
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    lines = ["thread False", "close", "returned None"]
    if where == "loop":
        lines.append("still there")
    if where in ("fork", "multiprocessing"):
        lines.append("status 0")
    assert (output.splitlines(), errors) == ([*lines, "restored True"], "")
    assert process.returncode == 0


async def test_a_second_signal_does_not_wait_for_open_sessions(tmp_path: Path) -> None:
    script, address = tmp_path / "program.py", f"unix:{tmp_path}/sock"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-m", "aiomilter", "compat", str(script), address, "main"], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: accepts(address), "it listens")
        async with client(address) as peer:
            assert await peer.ask(offer()) == "O"
            assert await peer.ask(connect()) == "c"
            process.terminate()
            wait_until(lambda: not accepts(address), "it stops listening")
            process.terminate()
            assert await peer.rest() == b""
        assert process.communicate(timeout=PATIENCE)[0].splitlines()[-3:] == ["close", "returned None", "restored True"]
    finally:
        process.kill()
        process.communicate()


RELOADING = """
import signal, sys, threading
import Milter

class Reload(Exception):
    pass

def reload(*args):
    raise Reload

class Filter(Milter.Base):
    def connect(self, hostname, family, hostaddr):
        return Milter.CONTINUE

signal.signal(signal.SIGUSR1, reload)
Milter.factory = Filter
for _ in range(2):
    try:
        Milter.runmilter("test", sys.argv[1])
    except Reload:
        # The thread that hands records to the program's handlers is the process's, not the server's.
        print([thread.name for thread in threading.enumerate() if thread.name != "aiomilter log"], flush=True)
Milter.runmilter("test", sys.argv[1])
"""


async def test_a_handler_of_the_programs_that_raises_leaves_no_server_behind(tmp_path: Path) -> None:
    script, address = tmp_path / "program.py", f"unix:{tmp_path}/sock"
    script.write_text(RELOADING)
    process = subprocess.Popen(
        [sys.executable, "-m", "aiomilter", "compat", str(script), address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for _ in range(2):
            wait_until(lambda: accepts(address), "it listens")
            async with client(address) as peer:
                assert await peer.ask(offer()) == "O"
                process.send_signal(signal.SIGUSR1)
                assert await asyncio.to_thread(process.stdout.readline) == "['MainThread']\n"
                assert await peer.rest() == b""
        wait_until(lambda: accepts(address), "it listens")
        process.terminate()
        assert process.communicate(timeout=PATIENCE) == ("", "")
    finally:
        process.kill()
        process.communicate()


# ------------------------------------------------------------------------------------------------------------- sockets


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot set connection"),
        ("unix:/nowhere/sock", "cannot opensocket"),
        (f"unix:/{'x' * 200}", "cannot opensocket"),
        ("foo:x", "cannot opensocket"),
        ("inet:", "cannot opensocket"),
        ("inet:none-such", "cannot opensocket"),
        ("inet:-1", "cannot opensocket"),
        ("inet:0@", "cannot opensocket"),
        ("inet:0@" + "x" * 64, "cannot opensocket"),
    ],
)
def test_what_cannot_be_listened_on_is_an_error(name: str, message: str) -> None:
    with pytest.raises(milter.error, match=message):
        Milter.runmilter("test", name)


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(milter.error, match=r"^cannot opensocket$"):
        Milter.runmilter("test", f"inet:{taken.getsockname()[1]}@127.0.0.1")


@pytest.mark.parametrize("name", ["inet:0@127.0.0.1", "INET:0@[127.0.0.1]", "inet:0", "inet6:0@::1", "Inet6:0@[::1]"])
def test_schemes_are_known_in_any_case_and_hosts_with_brackets(name: str) -> None:
    milter.register("test")
    milter.setconn(name)
    milter.opensocket(True)
    assert milter._program.listening is not None
    milter._program.listening.close()
    milter._program.listening = None


def open_at(path: Path, remove: bool) -> None:
    milter.register("test")
    milter.setconn(f"LOCAL:{path}")
    milter.opensocket(remove)
    assert milter._program.listening is not None
    milter._program.listening.close()
    milter._program.listening = None


def test_a_stale_socket_is_removed_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with pytest.raises(milter.error, match=r"^cannot opensocket$"):
        open_at(path, False)
    assert path.exists()
    open_at(path, True)
    assert not path.exists()


def test_what_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(milter.error, match=r"^cannot opensocket$"):
        open_at(path, True)
    assert path.read_text() == "precious"


def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    milter.register("test")
    milter.setconn(str(path))
    milter.opensocket(True)
    listening = milter._program.listening
    milter._program.listening = None
    assert listening is not None
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        listening.close()
        assert path.exists()


def test_the_mode_of_a_socket_is_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with running(tmp_path) as address:
            assert stat.S_IMODE(os.stat(address.removeprefix("unix:")).st_mode) == 0o750
    finally:
        os.umask(before)


# --------------------------------------------------------------------------------------------------------- registering

SETTERS = [
    milter.set_connect_callback,
    milter.set_helo_callback,
    milter.set_envfrom_callback,
    milter.set_envrcpt_callback,
    milter.set_header_callback,
    milter.set_eoh_callback,
    milter.set_body_callback,
    milter.set_eom_callback,
    milter.set_abort_callback,
    milter.set_close_callback,
]


@pytest.mark.parametrize("setter", SETTERS, ids=lambda setter: setter.__name__)
def test_a_callback_is_set_and_the_one_before_returned(setter: Any) -> None:
    setter(None)
    assert setter(len) is None
    assert setter(None) is len
    with pytest.raises(TypeError, match="callable"):
        setter(5)


def test_settings_refuse_what_makes_no_sense() -> None:
    with pytest.raises(milter.error, match=r"^invalid exception policy$"):
        milter.set_exception_policy(milter.DISCARD)
    for backlog in (0, -1):
        with pytest.raises(milter.error, match=r"^cannot set backlog$"):
            milter.setbacklog(backlog)
    for setting in (milter.set_flags, milter.settimeout, milter.setbacklog, milter.setdbg, milter.set_exception_policy):
        with pytest.raises(TypeError):
            setting("5")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        milter.register(5)  # type: ignore[arg-type]
    assert milter.getversion() == (1, 0, 1)
    assert milter.stop() is None  # type: ignore[func-returns-value]


def test_constants_are_plain_ints_that_can_be_added() -> None:
    constants = {name: value for name, value in vars(milter).items() if name.isupper() and not name.startswith("_")}
    assert {type(value) for value in constants.values()} == {int}
    assert milter.ADDHDRS + milter.CHGHDRS == 0x11
    assert milter.CURR_ACTS == 0x1FF


async def test_a_program_of_the_low_level_gets_contexts_and_octets(tmp_path: Path) -> None:
    told: list[Any] = []

    def note(name: str) -> Any:
        def callback(ctx: Any, *args: Any) -> int:
            before = ctx.setpriv(name)
            told.append((name, before, *args))
            return milter.CONTINUE

        return callback

    for setter in SETTERS:
        setter(note(setter.__name__.split("_")[1]))
    milter.register("low", data=note("data"), unknown=note("unknown"))
    address = f"unix:{tmp_path}/sock"
    milter.setconn(address)
    milter.opensocket(True)
    thread = threading.Thread(target=milter.main)
    thread.start()
    try:
        async with client(address) as peer:
            assert await peer.ask(offer()) == "O"
            for packet in (connect(), helo(), mail("<\xe9@x>", "SIZE=1")):
                assert await peer.ask(packet) == "c"
            peer.write(QUIT)
            assert codes(await peer.rest()) == ""
    finally:
        milter.stop()
        await asyncio.to_thread(thread.join, 30)
    assert told == [
        ("connect", None, "client.example", 2, ("192.0.2.1", 40000)),
        ("helo", "connect", "client.example"),
        ("envfrom", "helo", "<\xe9@x>".encode(), b"SIZE=1"),
        ("abort", "envfrom"),
        ("close", "abort"),
    ]


def test_a_stop_before_main_is_not_lost(tmp_path: Path) -> None:
    milter.register("test")
    milter.setconn(f"unix:{tmp_path}/sock")
    milter.opensocket(True)
    milter.stop()
    assert milter.main() is None  # type: ignore[func-returns-value]
