"""Each way in which a socket cannot be listened on, and the line that says why and what to do."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter._serving import bind_errors
from aiomilter._serving.bind_errors import cannot_listen, cannot_look_up
from aiomilter._serving.binding import Permissions, bind
from aiomilter.addresses import Inet, parse

ANYBODY: Final = Permissions(None, None, None)
SANDBOX: Final = "a sandbox or security module forbids it (SELinux? SocketBindDeny= of systemd?)"
# Where, what the system says, and what we say behind that.
SYSTEM: Final[list[tuple[str, int, str | None]]] = [
    ("unix:/run/f/s", errno.ENOENT, "make the directory first"),
    ("unix:/run/f/s", errno.ENOTDIR, "a part of the path is not a directory"),
    ("unix:/run/f/s", errno.ELOOP, "the path goes through symbolic links in a circle"),
    ("unix:/run/f/s", errno.EROFS, "choose a path on another file system, such as below /run"),
    ("unix:/run/f/s", errno.ENOSPC, "make room there, or choose another path"),
    ("unix:/run/f/s", errno.EDQUOT, "make room there, or choose another path"),
    ("unix:/run/f/s", errno.ENAMETOOLONG, "choose a shorter path"),
    ("unix:/run/f/s", errno.EADDRINUSE, "another process has just created a file there; choose another path"),
    (
        "unix:/run/f/s",
        errno.EAFNOSUPPORT,
        "a sandbox forbids UNIX-domain sockets (RestrictAddressFamilies= of systemd?)",
    ),
    ("unix:/run/f/s", errno.EIO, None),
    ("unix:/run/f/s", errno.EMFILE, "this process has as many files open as it may (LimitNOFILE= of systemd, ulimit -n)"),
    ("inet:25@127.0.0.1", errno.EMFILE, "this process has as many files open as it may (LimitNOFILE= of systemd, ulimit -n)"),
    ("fd:3", errno.ENFILE, "the system has as many files open as it may (fs.file-max)"),
    ("fd:3", errno.EBADF, "no socket was handed over there, see systemd.socket(5)"),
    ("fd:3", errno.ENOTSOCK, "no socket was handed over there, see systemd.socket(5)"),
    ("inet:25@127.0.0.1", errno.EADDRNOTAVAIL, "this machine has no such address"),
    ("inet6:25@2001:db8::1", errno.EADDRNOTAVAIL, "this machine has no such address"),
    ("inet6:25@fe80::1", errno.EINVAL, "a link-local address needs its interface, as in fe80::1%eth0"),
    ("inet6:25@fe80::1%lo", errno.EINVAL, None),
    ("inet:25@127.0.0.1", errno.EINVAL, None),
    ("inet6:25", errno.EAFNOSUPPORT, "this machine has no IPv6; write inet: with an IPv4 address"),
    ("inet:25", errno.EAFNOSUPPORT, None),
    ("inet:1023@127.0.0.1", errno.EACCES, "ports below 1024 are for root; choose 1024 or above, or give the process"
     " CAP_NET_BIND_SERVICE"),
    ("inet:1024@127.0.0.1", errno.EACCES, SANDBOX),
    ("inet:25@127.0.0.1", errno.EPERM, None),
]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """What the kernel is set to: as it comes."""
    found = {"_FIRST_FREE_PORT": tmp_path / "port", "_IPV6_OFF": tmp_path / "ipv6"}
    found["_FIRST_FREE_PORT"].write_text("1024\n")
    found["_IPV6_OFF"].write_text("0\n")
    for name, path in found.items():
        monkeypatch.setattr(bind_errors, name, str(path))
    return found


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(("text", "number", "mend"), SYSTEM)
def test_what_the_system_says_comes_with_what_to_do(text: str, number: int, mend: str | None) -> None:
    found = cannot_listen(parse(text), OSError(number, os.strerror(number)))
    said = f"cannot listen on {parse(text)}: {os.strerror(number)}"
    assert (found.errno, found.strerror) == (number, f"{said}; {mend}" if mend else said)


def test_an_error_with_words_of_its_own_keeps_them() -> None:
    found = cannot_listen(parse("/run/f/s"), OSError(errno.ENOENT, "what was seen; what to do"))
    assert found.strerror == "cannot listen on unix:/run/f/s: what was seen; what to do"


def test_the_ports_of_root_are_what_the_kernel_says(settings: dict[str, Path]) -> None:
    denied = OSError(errno.EACCES, os.strerror(errno.EACCES))
    settings["_FIRST_FREE_PORT"].write_text("80\n")
    assert "choose 80 or above" in str(cannot_listen(parse("inet:79"), denied))
    assert SANDBOX in str(cannot_listen(parse("inet:80"), denied))
    settings["_FIRST_FREE_PORT"].write_text("?")
    assert "choose 1024 or above" in str(cannot_listen(parse("inet:80"), denied))
    settings["_FIRST_FREE_PORT"].unlink()
    assert "choose 1024 or above" in str(cannot_listen(parse("inet:80"), denied))


def test_ipv6_that_is_switched_off_is_called_that(settings: dict[str, Path]) -> None:
    missing = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    settings["_IPV6_OFF"].write_text("1\n")
    off = "IPv6 is switched off on this machine (net.ipv6.conf.all.disable_ipv6); write inet: with an IPv4 address"
    assert off in str(cannot_listen(parse("inet6:0@::1"), missing))
    assert "this machine has no such address" in str(cannot_listen(parse("inet:0@192.0.2.1"), missing))
    settings["_IPV6_OFF"].unlink()
    assert "this machine has no such address" in str(cannot_listen(parse("inet6:0@::1"), missing))


# Ports


@contextmanager
def another_process_listens() -> Iterator[tuple[int, int]]:
    """Give its number and the port."""
    code = (
        "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.pid, int(process.stdout.readline())
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says who it is")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", None])
def test_who_has_the_port_is_named(host: str | None) -> None:
    import pwd

    in_use = pytest.raises(OSError, match="Address already in use; another process listens there")
    with another_process_listens() as (pid, port), in_use as found:
        bind(Inet(host, port), ANYBODY)
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert f", process {pid}, user {user}); stop it, or choose another" in str(found.value)


def test_a_port_of_this_process_is_in_use_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Inet("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match=r"another process listens there; stop it, or choose another$"):
            bind(address, ANYBODY)


def test_of_two_that_are_bound_the_second_to_listen_is_told_the_same() -> None:
    (first,) = bind(Inet("127.0.0.1", 0), ANYBODY)
    (second,) = bind(Inet("127.0.0.1", first.socket.getsockname()[1]), ANYBODY)
    first.listen(1)
    with pytest.raises(OSError, match=r"cannot listen on inet:\d+@127.0.0.1: .*; stop it, or choose another$"):
        second.listen(1)
    first.close()
    second.close()


# Hosts


def looked_up(number: int) -> OSError:
    return socket.gaierror(number, "what getaddrinfo says")


LOOKED_UP: Final[list[tuple[Inet, Exception, str]]] = [
    (
        Inet("mx.example", 25),
        looked_up(socket.EAI_NONAME),
        "what getaddrinfo says; check the spelling, or write an IP address",
    ),
    (
        Inet("mx.example", 25),
        looked_up(socket.EAI_AGAIN),
        "what getaddrinfo says; the DNS does not answer now; write an IP address, or try again later",
    ),
    (
        Inet("mx.example", 25),
        looked_up(socket.EAI_FAIL),
        "what getaddrinfo says; the DNS fails; write an IP address, or try again later",
    ),
    (Inet("mx.example", 25), looked_up(socket.EAI_MEMORY), "what getaddrinfo says"),
    (
        Inet("127.0.0.1", 25, socket.AF_INET6),
        looked_up(socket.EAI_NONAME),
        "what getaddrinfo says; that is an IPv4 address: write inet:25@127.0.0.1",
    ),
    (
        Inet("::1", 25),
        looked_up(socket.EAI_NONAME),
        "what getaddrinfo says; that is an IPv6 address: write inet6:25@[::1]",
    ),
    (
        Inet("mx.example", 25, socket.AF_INET6),
        looked_up(socket.EAI_ADDRFAMILY),
        "what getaddrinfo says; if it has an IPv4 address, write inet:25@mx.example",
    ),
    (
        Inet("mx.example", 25),
        looked_up(socket.EAI_NODATA),
        "what getaddrinfo says; if it has an IPv6 address, write inet6:25@mx.example",
    ),
    (Inet("x" * 64, 25), UnicodeError("label too long"), f"'{'x' * 64}' is not a host name"),
]


@pytest.mark.parametrize(("address", "error", "said"), LOOKED_UP)
def test_a_host_that_is_not_found(address: Inet, error: Exception, said: str) -> None:
    found = cannot_look_up(address, error)
    assert found.strerror == f"cannot listen on {address}: {said}"


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "127.0.0.1"])
def test_a_host_that_can_be_none_is_an_oserror(host: str) -> None:
    with pytest.raises(OSError, match="cannot listen on inet6:25@"):
        bind(Inet(host, 25, socket.AF_INET6), ANYBODY)


# Directories


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o755, "user nobody may not write to {}; choose another directory, or let that user write to it"),
        (0o700, "user nobody may not pass to {}; choose another directory, or let that user into it"),
    ],
)
def test_a_directory_that_is_not_for_us_is_named(mode: int, said: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, mode)
        os.seteuid(65534)
        try:
            with pytest.raises(OSError, match=r"^") as found:
                bind(parse(f"{name}/sock"), ANYBODY)
        finally:
            os.seteuid(0)
        assert found.value.strerror == f"cannot listen on unix:{name}/sock: Permission denied; {said.format(name)}"


MISSING: Final[list[tuple[str, int, str]]] = [
    ("no/s", errno.ENOENT, "No such file or directory; make the directory first"),
    ("file/s", errno.ENOTDIR, "Not a directory; a part of the path is not a directory"),
    ("loop/s", errno.ELOOP, "Too many levels of symbolic links; the path goes through symbolic links in a circle"),
]


@pytest.mark.parametrize(("path", "number", "said"), MISSING)
def test_a_directory_that_is_none(tmp_path: Path, path: str, number: int, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match=r"^") as found:
        bind(parse(f"{tmp_path}/{path}"), ANYBODY)
    assert (found.value.errno, found.value.strerror) == (number, f"cannot listen on unix:{tmp_path}/{path}: {said}")


def test_a_stale_socket_of_another_user_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root sees it, who may try all of them: what the system says to others is played."""

    class Denied(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    monkeypatch.setattr("aiomilter._serving.socket_file.socket.socket", Denied)
    with pytest.raises(OSError, match=r"this user may not connect to it: .*; remove it, or give it to this user$"):
        bind(parse(f"{tmp_path}/s"), ANYBODY)
