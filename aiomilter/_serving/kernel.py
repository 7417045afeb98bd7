"""What the kernel reports of sockets (Linux): the file that one is bound to, and the process on a port or at the other end.

On other systems, and where a sandbox denies the question, the answer is "not known".
"""

import os
import pwd
import socket
from collections.abc import Iterator
from struct import Struct
from struct import error as StructError
from typing import Final, TypeAlias

__all__ = ["Place", "bound_place", "credentials", "file_place", "listener_on", "process_name", "user_name"]

Place: TypeAlias = tuple[int, int]
"""The identity of a file: the numbers of its file system and of its inode, as the kernel has them.  ``st_dev`` may be another
number (overlayfs, btrfs)."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_VFS: Final = 2
_UNIX_DIAG_VFS: Final = 1
_ANY: Final = 0xFFFFFFFF
# struct nlmsghdr with struct unix_diag_req, and with struct unix_diag_msg; struct nlattr; struct unix_diag_vfs.
_REQUEST: Final = Struct("=IHHII BBHIIIII")
_ANSWER: Final = Struct("=IHHII BBBBIII")
_ATTRIBUTE: Final = Struct("=HH")
_VFS: Final = Struct("=II")
_PATIENCE: Final = 1.0
"""Seconds for an answer, which the kernel gives at once."""
_MINOR_BITS: Final = 20
_LISTENS: Final = "0A"
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Before an IPv4 address that is written as IPv6."""
_CREDENTIALS: Final = Struct("iII")
_SO_PEERCRED: Final[int | None] = getattr(socket, "SO_PEERCRED", None)


def bound_place(sock: socket.socket) -> Place | None:
    """Return the file that a UNIX-domain socket is bound to, even if its path leads to another; None if that is not known.

    Source: sock_diag(7), UNIX_DIAG_VFS.
    """
    inode = os.fstat(sock.fileno()).st_ino & _ANY
    size = _REQUEST.size
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_PATIENCE)
            head = (size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
            wanted = (int(socket.AF_UNIX), 0, 0, _ANY, inode, _UDIAG_SHOW_VFS, _ANY, _ANY)
            kernel.sendto(_REQUEST.pack(*head, *wanted), (0, 0))
            answer = kernel.recv(4096)
        length, kind, *_ = _ANSWER.unpack_from(answer)
        if kind != _SOCK_DIAG_BY_FAMILY:
            return None
        at = _ANSWER.size
        while at < length:
            size, attribute = _ATTRIBUTE.unpack_from(answer, at)
            if attribute == _UNIX_DIAG_VFS:
                number, device = _VFS.unpack_from(answer, at + _ATTRIBUTE.size)
                return device, number
            at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    except (OSError, AttributeError, StructError):  # no netlink, no such question, or another answer
        pass
    return None


def file_place(fd: int) -> Place | None:
    """Return the file that a descriptor refers to; None if that is not known.

    Source: proc(5), /proc/PID/fdinfo and /proc/PID/mountinfo.
    """
    try:
        fields = dict(line.split(":", 1) for line in _lines(f"/proc/self/fdinfo/{fd}"))
        inode = int(fields["ino"]) if "ino" in fields else os.fstat(fd).st_ino  # since Linux 5.14
        mount = fields["mnt_id"].strip()
        for line in _lines("/proc/self/mountinfo"):
            number, _, device, *_ = line.split(" ", 3)
            if number == mount:
                major, _, minor = device.partition(":")
                return int(major) << _MINOR_BITS | int(minor), inode & _ANY
    except (OSError, ValueError, KeyError):
        pass
    return None


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()


def credentials(sock: socket.socket) -> tuple[int, int, int] | None:
    """Return process, user and group at the other end of a UNIX-domain socket, as they were when it connected or listened."""
    if _SO_PEERCRED is None:
        return None
    try:
        octets = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    process, user, group = _CREDENTIALS.unpack(octets)
    return process, user, group


def listener_on(family: socket.AddressFamily, address: str, port: int) -> tuple[int | None, int] | None:
    """Return the process and user that listen on a port; None for a process that is not known, and for an unknown listener.

    Args:
        family: ``AF_INET`` or ``AF_INET6``.
        address: The IP address on which the port is wanted.
        port: The port.

    Source: proc(5), /proc/net/tcp.
    """
    try:
        wanted = socket.inet_pton(family, address.partition("%")[0])
    except OSError:
        return None
    for table in ("tcp", "tcp6"):
        try:
            for row in [line.split() for line in _lines(f"/proc/net/{table}")[1:]]:
                host, _, number = row[1].partition(":")
                if row[3] == _LISTENS and int(number, 16) == port and _overlap(_in_order(bytes.fromhex(host)), wanted):
                    return _holder(row[9]), int(row[7])
        except (OSError, ValueError, IndexError):
            continue
    return None


def _in_order(octets: bytes) -> bytes:
    """Return an address in network order; the kernel prints words of 32 bits in the order of this machine."""
    words = Struct(f"={len(octets) // 4}I").unpack(octets)
    return Struct(f">{len(words)}I").pack(*words)


def _overlap(taken: bytes, wanted: bytes) -> bool:
    """Return whether a socket on one address may keep another socket from the other address, on the same port."""
    taken = taken.removeprefix(_MAPPED)
    if len(taken) != len(wanted):
        return len(taken) > len(wanted) and not any(taken)  # all IPv6 addresses may include all IPv4 ones
    return taken == wanted or not any(taken) or not any(wanted)


def _holder(inode: str) -> int | None:
    """Return the process that has a socket, by the number of its inode; None if this user may not see it."""
    for pid, fd in _descriptors():
        try:
            if os.readlink(fd) == f"socket:[{inode}]":
                return pid
        except OSError:
            continue
    return None


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fds = os.listdir(f"/proc/{name}/fd")
            except OSError:
                continue
            yield from ((int(name), f"/proc/{name}/fd/{fd}") for fd in fds)


def process_name(pid: int) -> str:
    """Return the name of a process; "" if it is not known."""
    try:
        return "".join(each for each in "".join(_lines(f"/proc/{pid}/comm")) if each.isprintable())
    except OSError:
        return ""


def user_name(number: int) -> str:
    """Return the name of a user, or its number if it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
