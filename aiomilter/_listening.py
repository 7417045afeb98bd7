"""Sockets to listen on: bound or inherited, with their permissions, and accepted from a few connections at a time."""

import asyncio
import enum
import errno
import ipaddress
import mmap
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiomilter import _socket_file
from aiomilter._access import group_number, user_number
from aiomilter._bind_errors import cannot_listen, cannot_look_up
from aiomilter._forked import keep_from_children
from aiomilter._socket_file import SocketFile
from aiomilter.addresses import Address, Inet, Inherited, Unix

__all__ = [
    "PLACES",
    "Bound",
    "Listener",
    "Permissions",
    "Share",
    "Turn",
    "absent",
    "bind",
    "bind_found",
    "present",
    "query",
    "tally",
]

PLACES: Final = 256
"""Most processes that accept from the same sockets."""

_AT_ONCE: Final = 64
"""Connections accepted before those that are open get their turn again."""
_REST: Final = 1.0
"""Seconds to let go by where the system has nothing left for another connection."""
_COURTESY: Final = 0.001
"""Seconds for the other processes to accept what they should; they have been woken, too."""
_PATIENCE: Final = 20
"""How many times as long a process is waited for that has not accepted anything meanwhile: a busy machine gives it its turn
within about as many milliseconds."""
_ABSENT: Final = 2**64 - 1


class Permissions:
    """Who may connect to a UNIX-domain socket.

    Args:
        mode: Such as ``0o660``; None leaves it to the umask.
        owner: Name or number; None for the user that binds it.
        group: The same of a group.

    Raises:
        TypeError: A user or group is neither name nor number.
        ValueError: This machine knows no such user or group.
    """

    def __init__(self, mode: int | None, owner: str | int | None, group: str | int | None) -> None:
        self.mode = mode
        self.owner: int | None = user_number("socket_owner", owner) if owner is not None else None
        self.group: int | None = group_number("socket_group", group) if group is not None else None


class Bound:
    """A socket that is bound, whether it listens yet or not.

    Args:
        sock: The socket.
        file: Of a UNIX-domain socket that we have made, and that is ours to remove.
    """

    def __init__(self, sock: socket.socket, file: SocketFile | None = None) -> None:
        self.socket = sock
        self._file = file

    @property
    def name(self) -> str:
        """What clients use to reach it."""
        return str(self._address)

    @property
    def _address(self) -> Unix | Inet:
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return Unix(os.fsdecode(name))
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])
        return Inet(host, name[1], self.socket.family)

    @property
    def everywhere(self) -> bool:
        """Whether it listens on all addresses of the machine."""
        return self.socket.family != socket.AF_UNIX and self.socket.getsockname()[0] in ("0.0.0.0", "::")

    @property
    def exposed(self) -> bool:
        """Whether other machines may reach it."""
        if self.socket.family == socket.AF_UNIX:
            return False
        return not ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback

    def listen(self, backlog: int) -> None:
        """Listen; a socket that was handed over and listens already keeps the backlog it has.

        Raises:
            OSError: It cannot, or its path is not ours any more: until now it looked like one that nobody serves, and another
                process may have put its own in the place.
        """
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return
        try:
            self.socket.listen(backlog)
        except OSError as error:
            raise cannot_listen(self._address, error, self.socket.getsockname()[0]) from error
        if self._file is not None and not self._file.in_place:
            raise cannot_listen(self._address, _socket_file.replaced())

    def close(self) -> None:
        """Close the socket, and remove its file if that is still ours: another process may listen there by now."""
        if self._file is not None:
            self._file.remove()  # while the socket keeps its inode from being another's
        self.socket.close()


def tally() -> "memoryview[int]":
    """Return how many connections each process has, in memory that all share who are forked from here on."""
    counts = memoryview(mmap.mmap(-1, 8 * PLACES)).cast("Q")
    for place in range(PLACES):
        absent(counts, place)
    return counts


def present(counts: "memoryview[int]", place: int) -> None:
    """Have others leave connections to a process that is about to accept its first."""
    counts[place] = 0


def absent(counts: "memoryview[int]", place: int) -> None:
    """Have nobody leave connections to a process that does not accept any."""
    counts[place] = _ABSENT


class Share:
    """What one of several processes has of the sockets that all of them accept from: its turn when it has the fewest.

    Every process is woken by every new connection.  Those that have more than another leave it to that one for a
    millisecond, and again, up to 20 of them.  One that has not taken it by then is held up, and until it takes something
    nobody waits for it any more: the others take what is there, one a millisecond.

    Args:
        bound: The sockets.
        counts: See :func:`tally`.
        place: Ours in the counts.
    """

    def __init__(self, bound: Iterable[Bound], counts: "memoryview[int]", place: int) -> None:
        self.bound: list[Bound] = [Bound(one.socket) for one in bound]  # the paths are not ours to remove
        self._counts = counts
        self._place = place
        self._accepting = False
        self._connections = 0
        # By place of those that had fewer: how many, and how often they were waited for since.
        self._waited: dict[int, tuple[int, int]] = {}
        self._begin: Callable[[], None] | None = None
        self._ended: Callable[[], None] | None = None

    def when_told(self, begin: Callable[[], None]) -> None:
        """Keep what begins to accept."""
        self._begin = begin

    def when_ended(self, ended: Callable[[], None]) -> None:
        """Keep what wants to hear that no more is accepted."""
        self._ended = ended

    def begin(self) -> None:
        """Accept from now on."""
        self._accepting = True
        self.count(self._connections)
        if self._begin is not None:
            self._begin()

    def end(self) -> None:
        """Accept no more, so that nobody leaves a connection to us."""
        self._accepting = False
        absent(self._counts, self._place)
        if self._ended is not None:
            self._ended()

    def count(self, connections: int) -> None:
        """Take note of how many connections are open."""
        self._connections = connections
        if self._accepting:
            self._counts[self._place] = connections

    def turn(self) -> "Turn":
        """Return whose turn it is to accept."""
        ours = self._connections
        if ours <= min(self._counts):
            return Turn.OURS
        turn = Turn.ANYBODYS
        for place, count in enumerate(self._counts):
            if count < ours:
                before, times = self._waited.get(place, (count, 0))
                times = times + 1 if before == count else 1
                self._waited[place] = count, times
                if times <= _PATIENCE:
                    turn = Turn.THEIRS
        return turn


class Turn(enum.Enum):
    """Whose turn it is to accept, of several processes."""

    OURS = enum.auto()
    """No other has fewer connections."""
    THEIRS = enum.auto()
    """Others have fewer."""
    ANYBODYS = enum.auto()
    """Others have fewer, but do not take any."""


class Listener:
    """Accepts connections, a few at a time, so that the ones that are open are not held up by a crowd at the door.

    The event loop's own listener would take as many as ``backlog`` at once, or all (uvloop).

    Args:
        bound: Where.
        accepted: Gets every new connection, and the address of its peer.
        failing: Called with the error when the system has nothing left for another connection; then it is tried again every
            second, and this called again.
        share: If other processes accept from the same socket.
    """

    def __init__(
        self,
        bound: Bound,
        accepted: Callable[[socket.socket, Any], object],
        failing: Callable[[OSError], object],
        share: Share | None = None,
    ) -> None:
        self.bound = bound
        self._accepted = accepted
        self._failing = failing
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        self._held = False

    def start(self, backlog: int) -> None:
        """Listen and accept."""
        keep_from_children(self.bound.socket)
        self.bound.socket.setblocking(False)
        self.bound.listen(backlog)
        self._read()

    def _read(self) -> None:
        self._rest = None
        self._loop.add_reader(self.bound.socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._held:
                return
            turn = self._share.turn() if self._share is not None else Turn.OURS
            if turn is not Turn.THEIRS and not self._accept_one():
                return
            if turn is not Turn.OURS and not self._held:
                self._pause(_COURTESY, self._read)
                return

    def _accept_one(self) -> bool:
        try:
            connection, name = self.bound.socket.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            self._pause(_REST, self._read)
            self._failing(error)
            return False
        connection.setblocking(False)
        self._accepted(connection, name)
        return True

    def _pause(self, delay: float, resume: Callable[[], None]) -> None:
        self._loop.remove_reader(self.bound.socket.fileno())
        self._rest = self._loop.call_later(delay, resume)

    def hold(self) -> None:
        """Accept nobody until :meth:`go_on`; who comes meanwhile waits in the socket."""
        if not self._held:
            self._held = True
            self._leave_alone()

    def go_on(self) -> None:
        """Accept again."""
        if self._held:
            self._held = False
            self._read()

    def _leave_alone(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        elif self.bound.socket.fileno() >= 0:
            self._loop.remove_reader(self.bound.socket.fileno())

    def close(self) -> None:
        """Stop listening."""
        self._leave_alone()
        self.bound.close()


# ------------------------------------------------------------------------------------------------------------- binding


def query(address: Inet) -> tuple[tuple[str, int], dict[str, Any]]:
    """Return what to ask ``getaddrinfo`` about where to listen."""
    everywhere = "::" if address.family == socket.AF_INET6 else "0.0.0.0"
    return (address.host or everywhere, address.port), {"family": address.family, "type": socket.SOCK_STREAM}


def bind(address: Address, permissions: Permissions) -> list[Bound]:
    """Bind what an address names; a host name may be looked up, which blocks.

    Raises:
        OSError: It cannot be bound.
    """
    found: Iterable[Any] = ()
    if isinstance(address, Inet):
        args, keywords = query(address)
        try:
            found = socket.getaddrinfo(*args, **keywords)
        except (OSError, UnicodeError) as error:
            raise cannot_look_up(address, error) from error
    return bind_found(address, permissions, found)


def bind_found(address: Address, permissions: Permissions, found: Iterable[Any]) -> list[Bound]:
    """Bind what an address names, given what ``getaddrinfo`` has found for it."""
    match address:
        case Inherited(int(fd)):
            return [Bound(_inherit(fd))]
        case Inherited():
            raise OSError(
                errno.EBADF, f"cannot listen on {address}: only a daemon knows sockets by name, see aiomilter.run"
            )
        case Unix(path):
            return [_bind_unix(path, permissions)]
        case Inet():
            return _bind_inet(address, found)


def _inherit(fd: int) -> socket.socket:
    address = Inherited(fd)
    try:
        listening = socket.socket(fileno=fd)
    except OSError as error:
        raise cannot_listen(address, error) from error
    if listening.type != socket.SOCK_STREAM:
        listening.close()
        what = "expected a stream socket; a socket unit needs ListenStream=, see systemd.socket(5)"
        raise cannot_listen(address, OSError(errno.EPROTOTYPE, what))
    if _is_connected(listening):
        listening.close()
        what = (
            "expected a socket to listen on, found a connection; a socket unit needs Accept=no, see systemd.socket(5)"
        )
        raise cannot_listen(address, OSError(errno.EISCONN, what))
    return listening


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _bind_unix(path: str, permissions: Permissions) -> Bound:
    """Bind a UNIX-domain socket, in place of a stale one: a socket that nobody serves (P-132)."""
    listening: socket.socket | None = None
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _socket_file.make_way(path)
        file = _socket_file.bind(
            listening, path, mode=permissions.mode, owner=permissions.owner, group=permissions.group
        )
    except OSError as error:
        if listening is not None:
            listening.close()
        raise cannot_listen(Unix(path), error) from error
    return Bound(listening, file)


def _bind_inet(address: Inet, found: Iterable[Any]) -> list[Bound]:
    """Bind a TCP socket for every address of a host; port 0 is the same port for all."""
    family = address.family
    sockets: list[socket.socket] = []
    at = ""
    try:
        for where in dict.fromkeys(entry[4] for entry in found):
            at = where[0]
            # With its protocol named: only then asyncio turns Nagle's algorithm off for what it accepts.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            first = sockets[0].getsockname()[1] if address.port == 0 and len(sockets) > 1 else address.port
            listening.bind((at, first, *where[2:]))
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise cannot_listen(address, error, at) from error
    return [Bound(listening) for listening in sockets]
