"""The file of a UNIX-domain socket: made, given its owner and mode, and removed, even where others may write to its directory.

Another user who may write there can have the path lead elsewhere between any two looks at it.  So a file is held (``O_PATH``)
before it is looked at, and changed through that descriptor.  Owner and mode are set once the kernel has confirmed that our
socket is bound to that very file.  Where the kernel cannot confirm it (no netlink, no /proc, another system), they are set only
where no user except root and this one can change the path.
"""

import contextlib
import errno
import os
import socket
import stat
from collections import deque
from collections.abc import Iterator
from typing import Final, Self

from aiomilter._serving.kernel import bound_place, credentials, file_place, process_name, user_name

__all__ = ["SocketFile", "bind", "holder", "make_way", "remove_socket", "replaced"]

_O_PATH: Final[int | None] = getattr(os, "O_PATH", None)
"""Linux only: holds a file of any kind without opening it."""
_HELD: Final = "/proc/self/fd"
_MOST_LINKS: Final = 40
"""Symbolic links in a path, as Linux has it."""
_KINDS: Final = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_REPLACED: Final = "its file was removed or replaced; does another daemon use it?"
_IN_USE: Final = "Address already in use"


def replaced() -> OSError:
    """Return the error for a path that no longer leads to our file."""
    return OSError(errno.ESTALE, _REPLACED)


class SocketFile:
    """The file that a socket of ours is bound to.

    While the socket is open no other file gets the number of its inode, so the number identifies the file.

    Args:
        path: As it was bound.
        directory: Which directory that was in.
        file: Which file it is.
    """

    def __init__(self, path: str, directory: os.stat_result, file: os.stat_result) -> None:
        self._path = path
        self._directory = directory
        self._file = file

    @property
    def in_place(self) -> bool:
        """Whether the path still leads to it."""
        with self._found() as directory:
            return directory is not None

    def remove(self) -> None:
        """Remove it, unless its path leads to another file by now: another process may listen there."""
        with self._found() as directory:
            if directory is not None:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.basename(self._path), dir_fd=directory)

    @contextlib.contextmanager
    def _found(self) -> Iterator[int | None]:
        """Hold the directory if the file is in it; a file of that name in another directory is not ours."""
        with contextlib.ExitStack() as stack:
            try:
                directory, name = stack.enter_context(_directory_of(self._path))
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                found = os.path.samestat(status, self._file) and os.path.samestat(os.fstat(directory), self._directory)
            except OSError:
                found = False
            yield directory if found else None


class _Entry:
    """The file at a name in a directory, held where the system can: a file that replaces it later is another."""

    def __init__(self, directory: int, name: str) -> None:
        self.directory = directory
        self.name = name
        self.fd: int | None = None
        if _O_PATH is not None:
            self.fd = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        self.status = os.stat(name, dir_fd=directory, follow_symlinks=False) if self.fd is None else os.fstat(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd is not None:
            os.close(self.fd)

    @property
    def held(self) -> str | None:
        """A path that leads to it even after a rename; None if there is no such path."""
        return f"{_HELD}/{self.fd}" if self.fd is not None and os.path.isdir(_HELD) else None

    @property
    def is_socket(self) -> bool:
        return stat.S_ISSOCK(self.status.st_mode)

    def unlink(self) -> None:
        """Remove its name, unless another file has it by now."""
        status = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        if os.path.samestat(status, self.status):
            os.unlink(self.name, dir_fd=self.directory)

    def give(self, owner: int | None, group: int | None, mode: int | None) -> None:
        """Set owner, group and mode, as far as they are given."""
        owner, group = -1 if owner is None else owner, -1 if group is None else group
        given = owner != -1 or group != -1
        if self.held is not None:
            if given:
                os.chown(self.held, owner, group)
            if mode is not None:
                os.chmod(self.held, mode)
            return
        # By its name: in a directory with the sticky bit the owner of a file may replace it, so the owner comes last.
        if mode is not None:
            os.chmod(self.name, mode, dir_fd=self.directory)
        if given:
            os.chown(self.name, owner, group, dir_fd=self.directory, follow_symlinks=False)


@contextlib.contextmanager
def _directory_of(path: str) -> Iterator[tuple[int, str]]:
    """Hold the directory of a path, and give the name in it."""
    parent, name = os.path.split(path)
    fd = os.open(parent or ".", (_O_PATH or os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd, name
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------------------------------- binding


def bind(
    sock: socket.socket, path: str, *, mode: int | None = None, owner: int | None = None, group: int | None = None
) -> SocketFile:
    """Bind a socket that does not listen yet, so that no process can connect before its file has its owner and mode.

    Args:
        sock: The socket.
        path: Where; no file may be there.
        mode: Permissions, which are never wider in between; None leaves them to the umask.
        owner: Number of the user who gets the file; None for this one.
        group: The same for a group.

    Raises:
        OSError: The socket cannot be bound, or the file cannot be given away; then it is removed.
    """
    given_away = owner is not None or group is not None
    if mode is not None:
        # Linux makes the file with the socket's own mode, less the umask.  Groups come in once it is known which.
        with contextlib.suppress(OSError):  # elsewhere a socket has no mode
            os.fchmod(sock.fileno(), mode & stat.S_IRWXU if given_away else mode)
    with _directory_of(path) as (directory, name):
        sock.bind(path)
        try:
            entry = _Entry(directory, name)
        except FileNotFoundError:
            raise replaced() from None
        with entry:
            to_change = given_away or (mode is not None and stat.S_IMODE(entry.status.st_mode) != mode)
            _check_ours(entry, sock, os.path.dirname(path), to_change)
            if to_change:
                try:
                    entry.give(owner, group, mode)
                except OSError as error:
                    with contextlib.suppress(OSError):
                        entry.unlink()
                    if error.errno != errno.EPERM:
                        raise
                    mend = "only root may give a socket to another user, or to a group that this user is not in"
                    raise PermissionError(errno.EPERM, f"{error.strerror}; {mend}") from error
            return SocketFile(path, os.fstat(directory), entry.status)


def _check_ours(entry: _Entry, sock: socket.socket, parent: str, to_change: bool) -> None:
    """Check that a file is the one that a socket was bound to.

    Args:
        entry: The file.
        sock: The socket.
        parent: The path of their directory.
        to_change: Whether it will be changed, which needs certainty.

    Raises:
        OSError: It is another, or that is uncertain and certainty is needed.
    """
    bound = bound_place(sock)
    found = None if entry.fd is None else file_place(entry.fd)
    known = bound is not None and found is not None
    if not entry.is_socket or (known and bound != found):
        raise replaced()
    if to_change and not known and not _only_we_can_change(parent):
        what = f"another user may replace files in {parent}, and the system does not report which file is ours"
        mend = "let only this user write there, or give no mode, owner or group"
        raise OSError(errno.EPERM, f"{what}; {mend}")


def _only_we_can_change(directory: str) -> bool:
    """Return whether only root and this user can have the path of a directory lead elsewhere, or change its files."""
    here, links = "/", 0
    rest = deque(os.path.join(os.getcwd(), directory).split("/"))
    try:
        if not _is_kept(os.lstat(here)):
            return False
        while rest:
            name = rest.popleft()
            if name == "..":
                here = os.path.dirname(here)
            elif name not in ("", "."):
                path = os.path.join(here, name)
                status = os.lstat(path)
                if not _is_kept(status):
                    return False
                if not stat.S_ISLNK(status.st_mode):
                    here = path
                    continue
                links += 1
                target = os.readlink(path)
                here = "/" if target.startswith("/") else here
                rest.extendleft(reversed(target.split("/")))
                if links > _MOST_LINKS:
                    return False
    except OSError:
        return False
    return True


def _is_kept(status: os.stat_result) -> bool:
    """Return whether only root and this user may change a link, or replace their files in a directory."""
    if status.st_uid not in (0, os.geteuid()):
        return False
    free = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return stat.S_ISLNK(status.st_mode) or not free


# ------------------------------------------------------------------------------------------- what is there already


def make_way(path: str) -> None:
    """Remove a socket that no process serves (P-132).

    Raises:
        FileExistsError: There is another kind of file.
        OSError: A process serves it, or it could not be tested or removed; the message has the reason.
    """
    with contextlib.ExitStack() as stack:
        directory, name = stack.enter_context(_directory_of(path))
        try:
            entry = stack.enter_context(_Entry(directory, name))
        except FileNotFoundError:
            return
        if not entry.is_socket:
            kind = _KINDS.get(stat.S_IFMT(entry.status.st_mode), "a file")
            mend = "name the socket itself, or" if kind == "a symbolic link" else "choose another path, or"
            raise FileExistsError(errno.EEXIST, f"there is {kind}, not a socket; {mend} remove it")
        whose = user_name(entry.status.st_uid)
        _check_stale(entry.held or path, whose)
        try:
            entry.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            what = f"a socket of user {whose} is there that no process serves, and this user may not remove it"
            raise OSError(error.errno, f"{what} ({error.strerror}); remove it") from error


def _check_stale(path: str, whose: str) -> None:
    """Check that no process serves a socket.

    Raises:
        OSError: One does, or that is not known.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:
            who = ""  # it listens, and has no room
        except PermissionError:
            what = f"a socket of user {whose} is there, and this user may not connect to it"
            mend = "whether a process listens there is not known; remove it, or give it to this user"
            raise PermissionError(errno.EACCES, f"{what}: {mend}") from None
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
            what = "another process has a socket of another type there"
            raise OSError(errno.EADDRINUSE, f"{_IN_USE}; {what}; stop it, or choose another") from None
        else:
            found = credentials(probe)
            who = "" if found is None else holder(found[0], found[1])
    raise OSError(errno.EADDRINUSE, f"{_IN_USE}; another process listens there{who}; stop it, or choose another")


def holder(process: int | None, user: int) -> str:
    """Return the process that has a socket, in parentheses, to follow "another process listens there"; "" if it is this one."""
    if process == os.getpid():
        return ""
    name = process_name(process) if process else ""
    number = f"process {process}, " if process else ""
    return f" ({f'{name}, ' if name else ''}{number}user {user_name(user)})"


def remove_socket(path: str) -> None:
    """Remove a socket, even one that a process serves; another kind of file stays.

    Raises:
        OSError: It cannot be removed.
    """
    with (
        contextlib.suppress(FileNotFoundError),
        _directory_of(path) as (directory, name),
        _Entry(directory, name) as entry,
    ):
        if entry.is_socket:
            entry.unlink()
