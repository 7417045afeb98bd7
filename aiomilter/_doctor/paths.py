"""Whether a user of this machine gets to the socket at a path, as seen from a chroot: directories, links, permissions.

Permissions are read, not tried: the doctor does not run as the user that the MTA runs as.

Source: path_resolution(7), unix(7), "Pathname socket ownership and permissions".
"""

import contextlib
import enum
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["User", "View", "Way", "directories", "group_name", "look", "user_name", "user_of"]

_LINKS: Final = 40
"""Symbolic links that Linux follows in one path."""


class Way(enum.Enum):
    """How far one gets on the way to a socket."""

    OPEN = "open"
    """Up to the socket."""
    MISSING = "missing"
    CLOSED = "closed"
    """The user may not pass a directory, or not write to the socket."""
    NO_SOCKET = "no socket"
    """Something else is there."""
    UNSEEN = "unseen"
    """We may not look ourselves, or an access list decides."""


@dataclass(frozen=True, slots=True)
class User:
    """A user that processes run as.

    Args:
        name: Its name.
        uid: Its number.
        groups: The numbers of its groups, the primary one first.
    """

    name: str
    uid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What was found at a path.

    Args:
        way: How far one gets.
        path: Where that is, as the machine sees it.
        group: The group that lets the user pass somewhere on the way, if it is not the user's primary one.
    """

    way: Way
    path: str
    group: int | None = None


def user_of(name: str) -> User | None:
    """Return a user; None if there is no such one."""
    try:
        entry = pwd.getpwnam(name)
        groups = os.getgrouplist(name, entry.pw_gid)
    except (KeyError, OSError, ValueError, UnicodeError):
        return None
    others = (group for group in groups if group != entry.pw_gid)
    return User(name, entry.pw_uid, (entry.pw_gid, *others))


def user_name(uid: int) -> str:
    """Return the name of a user, or else its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, or else its number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def look(path: str, user: User | None, root: str = "/") -> View:
    """Return how far a user gets.

    Args:
        path: Absolute, as processes with this root see it.
        user: Who; None for root.
        root: The directory that these processes have as ``/``.
    """
    waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    parents: list[str] = []
    place, links, by_group = root, 0, None
    while True:
        try:
            found = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return View(Way.MISSING, place, by_group)
        except (OSError, ValueError):
            return View(Way.UNSEEN, place, by_group)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            target = _target(place)
            if target is None or links > _LINKS:
                return View(Way.MISSING, place, by_group)
            waiting += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            place = parents.pop()
            if target.startswith("/"):
                place, parents = root, []
            continue
        if not waiting and not stat.S_ISDIR(found.st_mode):
            if not stat.S_ISSOCK(found.st_mode):
                return View(Way.NO_SOCKET, place, by_group)
            way, by = _may(found, place, user, stat.S_IWOTH)
            return View(way, place, by if by is not None else by_group)
        if not stat.S_ISDIR(found.st_mode):
            return View(Way.MISSING, place, by_group)
        if not waiting:
            return View(Way.NO_SOCKET, place, by_group)
        way, by = _may(found, place, user, stat.S_IXOTH)
        by_group = by if by is not None else by_group
        if way is not Way.OPEN:
            return View(way, place, by_group)
        part = waiting.pop()
        if part == "..":
            place = parents.pop() if parents else root
        else:
            parents.append(place)
            place = os.path.join(place, part)


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None


def _may(found: os.stat_result, path: str, user: User | None, bit: int) -> tuple[Way, int | None]:
    """Return whether a user has a permission, and by which group if that is not its primary one.

    Args:
        found: Of the file.
        path: Its path.
        user: Who; None for root.
        bit: The permission, as others have it.
    """
    if user is None or user.uid == 0:
        return Way.OPEN, None
    if _has_access_list(path):
        return Way.UNSEEN, None
    if found.st_uid == user.uid:
        return _way(found.st_mode & bit << 6), None
    if found.st_gid in user.groups:
        way = _way(found.st_mode & bit << 3)
        return way, found.st_gid if way is Way.OPEN and found.st_gid != user.groups[0] else None
    return _way(found.st_mode & bit), None


def _way(allowed: int) -> Way:
    return Way.OPEN if allowed else Way.CLOSED


def _has_access_list(path: str) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        return bool(os.getxattr(path, "system.posix_acl_access"))
    return False


def directories(path: str) -> Iterator[str]:
    """Yield the directories above a path, ``/`` first."""
    parts = [part for part in path.split("/")[:-1] if part]
    yield "/"
    for number in range(len(parts)):
        yield "/" + "/".join(parts[: number + 1])
