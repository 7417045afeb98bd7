"""Running processes: those of an MTA, and the one that listens at an endpoint.

Everything is read in /proc.  Where that says nothing, nothing is known.

Source: proc(5); unix(7), SO_PEERCRED.
"""

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiomilter.addresses import Inet, Unix

__all__ = ["Process", "children", "groups_of", "is_of_this_machine", "listener", "master_of"]

_PROC: Final = Path("/proc")
_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*")
_MOST: Final = 1 << 20
"""Octets of one file."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process.

    Args:
        pid: Its number.
        command: Its command line, word by word.
        uid: The user it runs as.
        aiomilter: The version of aiomilter that it runs; "" if that is not known; None if it runs none.
        libmilter: Whether it is made with libmilter.
        descriptors: How many files it may have open; None if that is not known.
    """

    pid: int
    command: tuple[str, ...]
    uid: int
    aiomilter: str | None
    libmilter: bool = False
    descriptors: int | None = None

    @property
    def may_be_ours(self) -> bool:
        """Whether it may be a filter made with aiomilter: any program in Python may, unless it uses libmilter."""
        program = os.path.basename(self.command[0]) if self.command else ""
        return self.aiomilter is not None or (not self.libmilter and _PYTHON.fullmatch(program) is not None)

    @property
    def name(self) -> str:
        """The name of its program, or of the script that it runs."""
        words = [word for word in self.command if not word.startswith("-")]
        program = os.path.basename(words[0]) if words else ""
        if (_PYTHON.fullmatch(program) or program in ("perl", "ruby", "sh", "bash")) and len(words) > 1:
            return os.path.basename(words[1])
        return program


def master_of(queue_directory: str) -> int | None:
    """Return the process id of the master that runs in a queue directory; None if none does."""
    text = _read(Path(queue_directory) / "pid" / "master.pid").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    return int(text) if _read(_PROC / text / "comm").strip() == "master" else None


def children(pid: int, program: str) -> Iterator[int]:
    """Yield the children of a process that run a program."""
    for directory in _processes():
        if _read(directory / "comm").strip() == program and _field(directory, "PPid") == str(pid):
            yield int(directory.name)


def groups_of(pid: int) -> frozenset[int] | None:
    """Return the groups of a process; None if they cannot be read."""
    directory = _PROC / str(pid)
    own, others = _field(directory, "Gid").split(), _field(directory, "Groups").split()
    return frozenset(map(int, own[1:2] + others)) if own else None


def listener(address: Inet | Unix) -> Process | None:
    """Return the process that listens at an endpoint of this machine; None if that is not known."""
    if isinstance(address, Inet) and not is_of_this_machine(address):
        return None
    inodes = set(_unix_inodes(address.path) if isinstance(address, Unix) else _tcp_inodes(address.port))
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for directory in _processes():
        with contextlib.suppress(OSError):
            for fd in os.listdir(directory / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(directory / "fd" / fd) in wanted:
                        return _process(directory)
    return None


def is_of_this_machine(address: Inet) -> bool:
    """Return whether an address is one of this machine's; names other than localhost count as others'.

    Nothing is sent: a socket is bound to it.
    """
    if address.host in (None, "localhost"):
        return True
    with contextlib.suppress(OSError, ValueError, OverflowError), socket.socket(address.family) as probe:
        ipaddress.ip_address(address.host or "")
        probe.bind((address.host, 0))
        return True
    return False


def _process(directory: Path) -> Process | None:
    words = tuple(word for word in _read(directory / "cmdline").split("\0") if word)
    uid = _field(directory, "Uid").split()
    if not uid:
        return None
    maps = _read(directory / "maps")
    limit = re.search(r"^Max open files +(\d+)", _read(directory / "limits"), re.MULTILINE)
    return Process(
        int(directory.name),
        words,
        int(uid[0]),
        _version(maps, words),
        "/libmilter.so" in maps,
        int(limit[1]) if limit is not None else None,
    )


def _version(maps: str, words: tuple[str, ...]) -> str | None:
    """Return the version of aiomilter that a process runs, without running anything of it."""
    compiled = re.search(r"(/\S+)/aiomilter/wire/\S+\.so", maps)
    if compiled is None and not any(os.path.basename(word) == "aiomilter" for word in words):
        return None
    homes = [Path(compiled[1])] if compiled else []
    for word in words[:2]:
        homes += Path(word).parent.parent.glob("lib/python3*/site-packages")
    for home in homes:
        for found in home.glob("aiomilter-*.dist-info"):
            return found.name.removeprefix("aiomilter-").removesuffix(".dist-info")
    return ""


def _unix_inodes(path: str) -> Iterator[str]:
    """Yield the inodes of listening sockets bound to a path."""
    for line in _read(_PROC / "net" / "unix").splitlines()[1:]:
        columns = line.split(None, 7)
        if len(columns) == 8 and columns[7] == path and columns[3] == "00010000":
            yield columns[6]


def _tcp_inodes(port: int) -> Iterator[str]:
    """Yield the inodes of sockets that listen on a port."""
    for table in ("tcp", "tcp6"):
        for line in _read(_PROC / "net" / table).splitlines()[1:]:
            columns = line.split(None, 10)
            if len(columns) > 9 and columns[3] == "0A" and columns[1].endswith(f":{port:04X}"):
                yield columns[9]


def _processes() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (entry for entry in _PROC.iterdir() if entry.name.isdigit())


def _field(directory: Path, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*)$", _read(directory / "status"), re.MULTILINE)
    return found[1] if found else ""


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST).decode("utf-8", "surrogateescape")
    except (OSError, ValueError):
        return ""
