"""Who can reach the sockets of a server, as warnings: more than may, fewer than should, and options that have no effect."""

import os
import stat
from collections.abc import Iterator, Sequence

from aiomilter._serving.binding import Bound
from aiomilter._serving.kernel import user_name

__all__ = ["COMMANDS", "reach_warnings"]

COMMANDS = {
    "allowed_networks": "--allow-network",
    "allowed_users": "--allow-user",
    "allowed_groups": "--allow-group",
    "ssl": "--tls-certificate",
}
"""The options on access as the command line has them."""


def reach_warnings(bound: Sequence[Bound], *, known: bool, mode: int | None, given: Sequence[str]) -> Iterator[str]:
    """Yield the warnings for the sockets of a server.

    Args:
        bound: All sockets; those of paths have their files.
        known: Whether only known hosts are let in by TCP.
        mode: The permissions that were asked for; None for those of the umask.
        given: The names of the options on access that were given.
    """
    for each in bound:
        what = _exposed(each) if each.exposed and not known else _private(each, mode)
        if what is not None:
            yield what
    yield from _without_effect(given, bound)


def _exposed(bound: Bound) -> str:
    """Return the warning for a TCP socket that any host may connect to; such a peer may claim that mail comes from anywhere."""
    mend = "set allowed_networks (--allow-network), or ssl with client certificates (--tls-client-ca)"
    return f"{bound.label}: reachable from other hosts without access control; {mend}"


def _private(bound: Bound, mode: int | None) -> str | None:
    """Return the warning for a UNIX-domain socket that only one user can connect to; None if others can.

    A mail server usually has a user of its own.  It answers 4xx to all mail if it cannot connect, and of that the filter sees
    nothing.  None, too, if the permissions asked for allow only this user.

    Args:
        bound: The socket.
        mode: The permissions that were asked for; None for those of the umask.
    """
    path = bound.path
    if path is None:
        return None
    try:
        status = os.stat(path)
        closed = next(_closed_directories(path), None)
    except OSError:
        return None
    user = os.geteuid()
    own = status.st_uid == user and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if (own and mode is not None) or not (own or closed is not None):
        return None
    who = "root" if user == 0 else f"user {user_name(user)} and root"
    if own:
        mend = "socket_mode and socket_group (--socket-mode, --socket-group) let a mail server in that has its own user"
        return f"{bound.label}: only {who} may connect; {mend}"
    return f"{bound.label}: only {who} may enter {closed}; let in the user of the mail server, or choose another path"


def _closed_directories(path: str) -> Iterator[str]:
    """Yield the directories on a path that root and this user have for themselves."""
    directory = os.path.dirname(os.path.abspath(path))
    while True:
        status = os.stat(directory)
        if status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IXGRP | stat.S_IXOTH):
            yield directory
        if directory == (above := os.path.dirname(directory)):
            return
        directory = above


def _without_effect(given: Sequence[str], bound: Sequence[Bound]) -> Iterator[str]:
    """Yield a warning for each option on access that has no effect, since no socket is of its kind.

    Args:
        given: The names of those that were given.
        bound: All sockets.
    """
    local = [each.local for each in bound]
    for name in given:
        unix = name in ("allowed_users", "allowed_groups")
        if not (any(local) if unix else not all(local)):
            kind = "UNIX-domain" if unix else "TCP"
            yield f"{name} ({COMMANDS[name]}) has no effect: there is no {kind} socket"
