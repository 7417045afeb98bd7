"""systemd: sockets handed over, readiness told, the watchdog fed; and the example units."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from aiomilter import AddressError
from aiomilter._process.systemd import Systemd
from tests.patience import PATIENCE
from tests.programs import needed

from .daemon import LOOPS, Load, deliver, running, write_filter

UNITS: Final = Path(__file__).parents[2] / "examples" / "systemd"
OURS: Final = str(os.getpid())


class Manager:
    """The socket of a service manager."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address}

    async def told(self, wanted: str) -> dict[str, str]:
        """Wait for a datagram that has a line, and return it; signs of life are not counted."""
        async with asyncio.timeout(PATIENCE):
            while True:
                octets = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
                lines = octets.decode().split("\n")
                if wanted in lines:
                    return dict(line.split("=", 1) for line in lines)
                assert lines == ["WATCHDOG=1"], lines

    def skipped(self) -> list[bytes]:
        """Take what has been told and nobody asked for."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096))
        except BlockingIOError:
            return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@aiomilter-test-{OURS}"
    found = Manager(address)
    with found.socket:
        yield found


# ------------------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize(
    ("variables", "handed"),
    [
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, ((3, "a"), (4, "b"))),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, ((3, "a"), (4, ""))),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "1"}, ((3, ""),)),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "-2"}, ()),
        ({"LISTEN_PID": OURS, "LISTEN_FDS": "x"}, ()),
        ({}, ()),
    ],
)
def test_sockets_are_those_handed_to_this_process(
    variables: Mapping[str, str], handed: tuple[tuple[int, str], ...]
) -> None:
    environment = {"PATH": "/bin", **variables}
    assert Systemd.from_environment(environment).handed == handed
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("variables", "watchdog"),
    [
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": OURS}, 2.5),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_or_not(variables: dict[str, str], watchdog: float | None) -> None:
    assert Systemd.from_environment(variables).watchdog == watchdog
    assert variables == {}


def test_sockets_by_name() -> None:
    systemd = Systemd(handed=[(3, "smtp"), (4, "other"), (5, "smtp")])
    assert systemd.sockets(["fd:smtp", "inet:1@127.0.0.1"]) == ["fd:3", "fd:5", "inet:1@127.0.0.1"]
    assert systemd.sockets(["fd:4"]) == ["fd:4"]
    assert systemd.sockets([]) == ["fd:3", "fd:4", "fd:5"]
    assert Systemd().sockets([]) == []
    with pytest.raises(AddressError, match="'fd:nope': systemd has handed over smtp, other, smtp"):
        systemd.sockets(["fd:nope"])
    with pytest.raises(AddressError, match="handed over no socket"):
        Systemd().sockets(["fd:nope"])


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1", "/no/such/socket", "@nobody-is-there"])
def test_a_manager_that_cannot_be_told_does_no_harm(address: str) -> None:
    Systemd.from_environment({"NOTIFY_SOCKET": address}).ready("Serving")


# ------------------------------------------------------------------------------------------------------------ the daemon


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
async def test_start_reload_and_end_are_told(manager: Manager, loop: str, tmp_path: Path) -> None:
    file, address = tmp_path / "f.py", str(tmp_path / "s")
    write_filter(file, "0")
    file.write_text("import os; print(sorted(v for v in os.environ if 'NOTIFY' in v or 'WATCHDOG' in v), flush=True)\n" +
                    file.read_text())  # fmt: skip
    environment = {**manager.environment, "WATCHDOG_USEC": "60000000"}
    async with running("f.py", "--listen", address, loop, directory=tmp_path, environment=environment) as daemon:
        ready = await manager.told("READY=1")
        assert ready["MAINPID"] == str(daemon.pid)
        assert ready["STATUS"] == "Serving"
        await deliver(address)  # it listened already
        assert daemon.out[0] == "[]"

        daemon.send(signal.SIGHUP)
        assert int((await manager.told("RELOADING=1"))["MONOTONIC_USEC"]) > 0
        assert (await manager.told("READY=1"))["STATUS"] == "Serving"
        file.write_text("")
        daemon.send(signal.SIGHUP)
        await manager.told("RELOADING=1")
        assert (await manager.told("READY=1"))["STATUS"] == "Serving; the last reload failed, see the log"

        daemon.send(signal.SIGTERM)
        assert "STATUS" in await manager.told("STOPPING=1")
        assert await daemon.ended() == 0


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
async def test_the_watchdog_is_fed_by_the_event_loop(loop: str, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    os.mkfifo(tmp_path / "hold")
    (tmp_path / "f.py").write_text(
        "from aiomilter import Milter\nclass F(Milter):\n    async def envfrom(self, ctx, mail):\n"
        "        open('hold').read()\n    async def eom(self, ctx):\n"
        "        ctx.add_header('X-Version', '1')\n        ctx.add_header('X-Process', '')\n"
    )
    address, environment = str(tmp_path / "s"), {**manager.environment, "WATCHDOG_USEC": "100000"}
    with manager.socket:
        async with running("f.py", "--listen", address, loop, directory=tmp_path, environment=environment) as daemon:
            await manager.told("READY=1")
            for _ in range(3):
                await manager.told("WATCHDOG=1")
            delivering = asyncio.create_task(deliver(address))
            writer = await asyncio.to_thread(open, tmp_path / "hold", "w")  # opens once the callback has begun to read
            manager.skipped()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.get_running_loop().sock_recv(manager.socket, 4096)
            writer.close()
            await delivering
            await manager.told("WATCHDOG=1")
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("family", "loop"), [(socket.AF_INET, "--uvloop"), (socket.AF_UNIX, "--no-uvloop")])
async def test_a_restart_by_socket_activation_loses_nothing(
    family: socket.AddressFamily, loop: str, tmp_path: Path
) -> None:
    """What comes while no process is there waits in the socket."""
    with socket.socket(family) as listening:
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
        listening.listen(128)
        name = listening.getsockname()
        address = f"inet:{name[1]}@127.0.0.1" if family == socket.AF_INET else name
        async with Load(address) as load:
            for version in ("0", "1"):
                write_filter(tmp_path / "f.py", version)
                async with running("f.py", loop, directory=tmp_path, handed=[listening.fileno()]) as daemon:
                    await load.more(40, version)
                    daemon.send(signal.SIGTERM)
                    assert await daemon.ended() == 0
            async with running("f.py", loop, directory=tmp_path, handed=[listening.fileno()]):
                await load.more(10, "1")
                await load.__aexit__()
        assert load.lost == []
        if family == socket.AF_UNIX:
            assert (tmp_path / "s").exists()


@pytest.mark.slow
async def test_a_socket_by_its_name(tmp_path: Path) -> None:
    write_filter(tmp_path / "f.py", "0")
    names = {"LISTEN_FDNAMES": "other:milter"}
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as listening:
        handed = [other.fileno(), listening.fileno()]
        arguments = ("f.py", "--listen", "fd:milter")
        async with running(*arguments, directory=tmp_path, environment=names, handed=handed) as daemon:
            found = await daemon.logged(r"listening on inet:(\d+)@")
            assert int(found[1]) == listening.getsockname()[1]
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0
        arguments = ("f.py", "--listen", "fd:nope")
        async with running(*arguments, directory=tmp_path, environment=names, handed=handed) as daemon:
            assert await daemon.ended() == 2
    assert daemon.log == [
        "aiomilter: --listen 'fd:nope': systemd has handed over other, milter,"
        " see FileDescriptorName= in systemd.socket(5)"
    ]


# ------------------------------------------------------------------------------------------------------------- the units


@pytest.mark.interop
@pytest.mark.slow
def test_the_example_units_are_good(tmp_path: Path) -> None:
    analyze = needed("systemd-analyze", "systemd")
    for unit in UNITS.iterdir():
        # What would be installed on the machine is not there.
        text = unit.read_text().replace("ExecStart=/opt/aiomilter/bin/aiomilter ", "ExecStart=/bin/true ")
        (tmp_path / unit.name).write_text(text)
    units = [str(unit) for unit in sorted(tmp_path.iterdir())]
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    # In tenths: 2.0 of 10 is as much as a service may be exposed.
    services = [unit for unit in units if unit.endswith(".service")]
    strict = [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", *services]
    done = subprocess.run(strict, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("unit", "status", "said"),
    [
        ("aiomilter-filter.service", 2, "'fd:milter': systemd has handed over no socket"),
        ("aiomilter.service", 4, "/etc/aiomilter/aiomilter.toml"),
    ],
)
def test_each_example_service_is_a_command_that_aiomilter_takes(
    unit: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from aiomilter._cli import main

    (command,) = [line for line in (UNITS / unit).read_text().splitlines() if line.startswith("ExecStart=")]
    program, *arguments = command.removeprefix("ExecStart=").split()
    assert program.endswith("/aiomilter")
    assert main(arguments) == status
    assert said in capsys.readouterr().err
