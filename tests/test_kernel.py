"""What the kernel says of sockets, and what is made of its silence."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter._serving import kernel
from aiomilter._serving.kernel import bound_place, credentials, file_place, listener_on, process_name, user_name

V4, V6 = socket.AF_INET, socket.AF_INET6
linux = pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="only Linux says it")


@linux
def test_the_kernel_says_which_file_a_socket_is_bound_to_wherever_its_path_leads(tmp_path: Path) -> None:
    path, moved = tmp_path / "sock", tmp_path / "moved"
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as other:
        sock.bind(str(path))
        path.rename(moved)
        other.bind(str(path))
        places = {}
        for name in (path, moved):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW)
            places[name] = file_place(fd)
            os.close(fd)
        assert bound_place(sock) == places[moved] is not None
        assert bound_place(other) == places[path] is not None
        assert places[path] != places[moved]


@linux
def test_a_socket_without_a_file_is_in_no_place() -> None:
    with socket.socket(socket.AF_UNIX) as unbound, socket.socket() as tcp:
        assert bound_place(unbound) is None
        assert bound_place(tcp) is None


class Netlink:
    """A kernel that answers as a test says."""

    answer: bytes | OSError = b""

    def __init__(self, *_: object) -> None:
        if isinstance(self.answer, PermissionError):
            raise self.answer

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def sendto(self, *_: object) -> None: ...

    def recv(self, size: int) -> bytes:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


HEAD: Final = struct.pack("=IHHII", 40, 20, 0, 0, 0) + bytes(16)


@pytest.mark.parametrize(
    "answer",
    [
        PermissionError(1, "a sandbox"),
        TimeoutError(),
        b"",
        bytes(3),
        struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -2),  # NLMSG_ERROR: no such socket, or nobody who knows
        struct.pack("=IHHII", 1000, 20, 0, 0, 0) + bytes(16),
        HEAD + struct.pack("=HH", 0, 9),
        HEAD + struct.pack("=HHI", 8, 9, 0),
        HEAD + struct.pack("=HH", 12, 1),
    ],
    ids=repr,
)
def test_a_kernel_that_does_not_say_it_is_no_error(monkeypatch: pytest.MonkeyPatch, answer: bytes | OSError) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.setattr(Netlink, "answer", answer)
        monkeypatch.setattr("aiomilter._serving.kernel.socket.socket", Netlink)
        assert bound_place(sock) is None


@pytest.mark.parametrize(
    ("info", "mounts", "place"),
    [
        ("mnt_id:\t27\nino:\t5\n", "27 1 254:3 / / rw\n", (254 << 20 | 3, 5)),
        ("mnt_id:\t27\nino:\t4294967301\n", "26 1 0:1 / / rw\n27 1 0:9 / / rw\n", (9, 5)),
        ("ino:\t5\n", "27 1 254:3 / / rw\n", None),
        ("mnt_id:\t27\nino:\t5\n", "28 1 254:3 / / rw\n", None),
        ("mnt_id:\t27\nino:\t5\n", "27\n", None),
        ("nothing", "", None),
    ],
)
def test_which_file_a_descriptor_is_of(
    monkeypatch: pytest.MonkeyPatch, info: str, mounts: str, place: kernel.Place | None
) -> None:
    files = {"/proc/self/fdinfo/7": info, "/proc/self/mountinfo": mounts}
    monkeypatch.setattr(kernel, "_lines", lambda path: files[path].splitlines())
    assert file_place(7) == place


def test_where_there_is_no_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(kernel, "_lines", nothing)
    assert file_place(0) is None
    assert listener_on(V4, "127.0.0.1", 25) is None
    assert process_name(os.getpid()) == ""


@contextmanager
def listening(family: socket.AddressFamily, address: str) -> Iterator[int]:
    with socket.socket(family) as sock:
        if family == V6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, 0))
        sock.listen()
        yield sock.getsockname()[1]


def has_ipv6() -> bool:
    try:
        with listening(V6, "::1"):
            return True
    except OSError:
        return False


WANTED: Final = [(V4, "127.0.0.1"), (V4, "127.0.0.2"), (V4, "0.0.0.0"), (V6, "::1"), (V6, "::")]


@linux
@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize(("family", "address"), [*WANTED, (V6, "::ffff:127.0.0.1")])
def test_who_keeps_a_port_is_known_just_where_it_is_kept(family: socket.AddressFamily, address: str) -> None:
    """The system itself says which sockets exclude each other."""
    with listening(family, address) as port:
        for wanted, at in WANTED:
            with socket.socket(wanted) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if wanted == V6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    sock.bind((at, port))
                except OSError:
                    assert listener_on(wanted, at, port) == (os.getpid(), os.geteuid()), at
                else:
                    assert listener_on(wanted, at, port) is None, at


def test_what_is_no_address_is_nobodys() -> None:
    assert listener_on(V4, "localhost", 25) is None
    assert listener_on(V6, "", 25) is None


def test_who_is_at_the_other_end() -> None:
    one, two = socket.socketpair()
    with one, two, socket.socket() as tcp:
        found = credentials(one)
        assert found in (None, (os.getpid(), os.geteuid(), os.getegid()))
        assert (found is None) == (not hasattr(socket, "SO_PEERCRED"))
        tcp_says: Any = credentials(tcp)
        assert tcp_says is None or tcp_says[0] == 0


def test_names_of_users_and_processes() -> None:
    assert user_name(0) == "root"
    assert user_name(4_294_967_000) == "4294967000"
    assert process_name(2**31 - 1) == ""
    assert process_name(os.getpid()).isprintable()
