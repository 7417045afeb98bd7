"""What is said at the start of sockets that too many can reach, or too few."""

import os
import pwd
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter import Milter, serve

from .peer import Watcher

ME: Final = pwd.getpwuid(os.geteuid()).pw_name
WHO: Final = "root" if os.geteuid() == 0 else f"user {ME} and root"
MODE: Final = (
    f"only {WHO} may connect; socket_mode and socket_group (--socket-mode, --socket-group) let a mail server in that has "
    "its own user"
)
DIRECTORY: Final = "; let in the user of the mail server, or choose another path"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that everyone may enter, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        path.chmod(0o755)
        before = os.umask(0o022)
        yield path
        os.umask(before)


async def remarks(*sockets: str, **options: Any) -> list[str]:
    watcher = Watcher()
    async with serve(Milter, *sockets, observer=watcher, **options):
        return list(watcher.remarks)


@pytest.mark.parametrize(
    ("umask", "options", "warns"),
    [
        (0o022, {}, True),
        (0o077, {}, True),
        (0o002, {}, False),
        (0o000, {}, False),
        (0o022, {"socket_mode": 0o660}, False),
        (0o022, {"socket_mode": 0o600}, False),
        (0o077, {"socket_mode": 0o666}, False),
    ],
)
async def test_a_unix_socket_that_only_its_owner_can_connect_to_is_a_warning(
    umask: int, options: dict[str, Any], warns: bool, directory: Path
) -> None:
    """Unless that was asked for."""
    os.umask(umask)
    path = directory / "sock"
    assert await remarks(str(path), **options) == ([f"unix:{path}: {MODE}"] if warns else [])


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize(
    ("mode", "warns"), [(0o700, True), (0o744, True), (0o711, False), (0o710, False), (0o755, False)]
)
async def test_a_directory_that_only_its_owner_can_enter_is_a_warning(
    mode: int, warns: bool, depth: int, directory: Path
) -> None:
    closed = directory / "closed"
    inner = closed.joinpath(*["in"] * depth)
    inner.mkdir(parents=True)
    closed.chmod(mode)
    path = inner / "sock"
    expected = [f"unix:{path}: only {WHO} may enter {closed}{DIRECTORY}"] if warns else []
    assert await remarks(str(path), socket_mode=0o666) == expected


async def test_a_directory_of_its_owner_alone_is_none_where_the_socket_is_to_be_that_as_well(directory: Path) -> None:
    """As ``/run/user/1000`` is, where all programs run as one user."""
    directory.chmod(0o700)
    assert await remarks(str(directory / "sock"), socket_mode=0o600) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_a_socket_or_directory_of_the_mail_servers_own_is_none(directory: Path) -> None:
    """As Postfix's ``private`` is, or a socket that was given to its user."""
    nobody = pwd.getpwnam("nobody").pw_uid
    private = directory / "private"
    private.mkdir(mode=0o700)
    os.chown(private, nobody, -1)
    assert await remarks(str(private / "sock"), socket_mode=0o666) == []
    assert await remarks(str(directory / "sock"), socket_owner=nobody) == []


async def test_of_a_socket_that_was_handed_over_nothing_is_said(directory: Path) -> None:
    """Its permissions are those of the unit."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as given:
        given.bind(str(directory / "sock"))
        given.listen()
        number = os.dup(given.fileno())
        assert await remarks(f"fd:{number}") == []


@pytest.mark.parametrize(("text", "label"), [("inet:0", "inet"), ("inet6:0", "inet6")])
async def test_a_socket_on_all_addresses_is_not_named_after_the_loopback(text: str, label: str) -> None:
    """A client on this machine connects to the loopback all the same."""
    watcher = Watcher()
    async with serve(Milter, text, observer=watcher) as server:
        port = server.addresses[0].partition("@")[0].partition(":")[2]
        (remark,) = watcher.remarks
    assert remark.startswith(f"{label}:{port}: reachable from other hosts")
    assert [heard for _, heard in watcher.heard if "@" in str(heard)] == []
