"""Whether the processes of the MTA get to the UNIX-domain sockets: chroot, directories, permissions, groups."""

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case, machine_address
from aiomilter._doctor.findings import Finding, Severity, Step, run
from aiomilter._doctor.listening import lasting_permissions, listen_at
from aiomilter._doctor.model import Asker, Milter
from aiomilter._doctor.paths import User, View, Way, directories, group_name, look, user_name, user_of
from aiomilter._doctor.postfix import Postfix
from aiomilter._doctor.processes import Process, children, groups_of
from aiomilter._doctor.sendmail import Sendmail
from aiomilter.addresses import Unix

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "socket-outside-chroot": "the socket is there, but not in the chroot of the service that asks",
    "socket-elsewhere": "the socket is in the queue directory, or outside it, and the setting names the other place",
    "socket-missing": "there is no such socket",
    "socket-hidden": "the filter's process has directories of its own (PrivateTmp= of systemd), and its socket is in one",
    "not-a-socket": "something else is at this path",
    "directory-closed": "the MTA's user may not pass a directory on the way to the socket",
    "socket-closed": "the MTA's user may not write to the socket",
    "directory-unsafe": "Sendmail does not use a socket below a directory that others may write to",
    "groups-stale": "the MTA's user may use the socket by a group that the running processes are not in yet",
}
_DIRECTORY: Final = "filter"
"""In the queue directory: for the sockets of filters."""
_WHY: Final = "Without the socket the default action is taken for all mail, and the filter sees none."


def check(case: Case) -> Iterator[Finding]:
    """Yield what is between the MTA and each socket."""
    for milter in case.mta.milters:
        address = milter.endpoint.address
        if not isinstance(address, Unix):
            continue
        if isinstance(case.mta, Sendmail) and (finding := _unsafe(case, case.mta, milter, address.path)) is not None:
            yield finding
            continue
        # Processes with the same view find the same.
        views = {(asker.root, asker.directory, asker.user): asker for asker in reversed(milter.askers)}
        for asker in views.values():
            if (finding := _of(case, milter, address.path, asker)) is not None:
                yield finding
                break


def _of(case: Case, milter: Milter, path: str, asker: Asker) -> Finding | None:
    user = user_of(asker.user) if asker.user is not None else None
    # Relative paths begin at the queue directory, which is the chroot if there is one.
    begins_at_root = path.startswith("/") or asker.root != "/"
    view = look(path, user, asker.root) if begins_at_root else look(os.path.join(asker.directory, path), user)
    who = f"{asker.program} of the service {asker.name}" if asker.name else asker.program
    match view.way:
        case Way.MISSING:
            return _missing(case, milter, path, asker, who)
        case Way.NO_SOCKET:
            return Finding(
                "not-a-socket",
                Severity.ERROR,
                milter.place.where,
                f"{view.path} is not a socket",
                _WHY,
                (run("rm", "-r", view.path), *_listen_here(case, milter, asker)),
            )
        case Way.CLOSED if user is not None:
            return _closed(case, milter, view, asker, user, who)
        case Way.OPEN if view.group is not None:
            return _stale(case, milter, view.group, asker)
    return None


# ------------------------------------------------------------------------------------------------------------ no socket


def _missing(case: Case, milter: Milter, path: str, asker: Asker, who: str) -> Finding:
    inside = os.path.join(asker.directory, path.lstrip("/"))
    places = dict.fromkeys([path if path.startswith("/") else inside, inside, "/" + path.lstrip("/")])
    if asker.root != "/" and (there := next((each for each in places if _is_there(case, each)), None)) is not None:
        outside = os.path.realpath(there)
        within = os.path.realpath(asker.root) + "/"
        if outside.startswith(within):
            right = f"unix:{outside[len(within) :]}"
            what = (
                f"{who} runs in a chroot, where {path} is {inside}; the socket is at {outside}, which is {right} there"
            )
            return _elsewhere(case, milter, what, right)
        return Finding(
            "socket-outside-chroot",
            Severity.ERROR,
            milter.place.where,
            f"{who} runs in a chroot, where {path} is {inside}, and there is no such socket; it is at {outside}",
            _WHY,
            _into_chroot(case, milter, asker, outside),
        )
    if (process := _hidden(case, milter)) is not None:
        return Finding(
            "socket-hidden",
            Severity.ERROR,
            milter.place.where,
            f"{process.name}, process {process.pid}, listens at {path} in a file system of its own, which {who} does not see",
            f"{_WHY} systemd's PrivateTmp= and ProtectSystem= do that.",
            _out_of_sandbox(case, milter, asker),
        )
    elsewhere = next((each for each in places if each != _shown(milter, asker) and _is_there(case, each)), None)
    if asker.directory != "/" and elsewhere is not None:
        chrooted = any(each.root != "/" for each in milter.askers)
        right = f"unix:{path.lstrip('/')}" if elsewhere == inside and chrooted else f"unix:{elsewhere}"
        what = f"{who} looks for the socket at {_shown(milter, asker)}; it is at {elsewhere}"
        return _elsewhere(case, milter, what, right)
    return Finding(
        "socket-missing",
        Severity.ERROR,
        milter.place.where,
        f"{who} looks for a socket at {_shown(milter, asker)}, and there is none",
        _WHY,
        _listen_here(case, milter, asker),
    )


def _elsewhere(case: Case, milter: Milter, what: str, right: str) -> Finding:
    mend = (*milter.place.rewritten(right, milter.settings), *case.mta.reload)
    return Finding("socket-elsewhere", Severity.ERROR, milter.place.where, what, _WHY, mend)


def _is_there(case: Case, path: str) -> bool:
    """Return whether a socket is at a path, or will be once the filter that was named runs."""
    own = case.own.listen if case.own is not None else ()
    return look(path, None).way is Way.OPEN or Unix(path) in own


def _listen_here(case: Case, milter: Milter, asker: Asker) -> tuple[Step, ...]:
    """Return the steps that have the filter listen where the MTA looks for it."""
    path = _shown(milter, asker)
    return listen_at(case, Unix(path), path, asker)


def _shown(milter: Milter, asker: Asker) -> str:
    address = machine_address(milter, asker)
    assert isinstance(address, Unix)
    return address.path


def _hidden(case: Case, milter: Milter) -> Process | None:
    """Return the process that listens at the path, though no socket is there to be seen."""
    for asker in milter.askers:
        address = machine_address(milter, asker)
        answered = case.answers.get(address) if address is not None else None
        if answered is not None and answered.process is not None and answered.result == "nobody":
            return answered.process
    return None


def _out_of_sandbox(case: Case, milter: Milter, asker: Asker) -> tuple[Step, ...]:
    """Return the steps that have a filter listen where both see the same."""
    now, name = _shown(milter, asker), os.path.basename(_shown(milter, asker))
    if asker.directory != "/":
        path, right = os.path.join(asker.directory, _DIRECTORY, name), f"unix:{_DIRECTORY}/{name}"
    else:
        path = f"/run/aiomilter/{name}"
        right = f"local:{path}"
    moved = listen_at(case, Unix(now), path, asker)
    return (*moved, *milter.place.rewritten(right, milter.settings), *case.mta.reload) if moved else ()


def _into_chroot(case: Case, milter: Milter, asker: Asker, outside: str) -> tuple[Step, ...]:
    """Return the steps that have the filter listen in the chroot; or none in a chroot, if it cannot be told where to listen."""
    name = os.path.basename(outside)
    inside = os.path.join(asker.directory, _DIRECTORY, name)
    if moved := listen_at(case, Unix(outside), inside, asker):
        return (*moved, *milter.place.rewritten(f"unix:{_DIRECTORY}/{name}", milter.settings), *case.mta.reload)
    assert isinstance(case.mta, Postfix)
    directory = case.mta.parameters.directory
    names = [each.name for each in milter.askers if each.root != "/"]
    return (*(run("postconf", "-c", directory, "-F", f"{name}/chroot=n") for name in names), *case.mta.reload)


# ---------------------------------------------------------------------------------------------------------- permissions


def _unsafe(case: Case, mta: Sendmail, milter: Milter, path: str) -> Finding | None:
    """Return a finding if others may write to a directory on the way: Sendmail does not use such a socket."""
    trusted = {word.strip().lower() for word in mta.option("DontBlameSendmail").split(",")}
    for directory in directories(os.path.realpath(path)):
        try:
            mode = os.stat(directory).st_mode
        except OSError:
            return None
        sticky = bool(mode & stat.S_ISVTX)
        by_all = mode & stat.S_IWOTH and not (sticky and "truststickybit" in trusted)
        by_group = mode & stat.S_IWGRP and not sticky and "groupwritabledirpathsafe" not in trusted
        if not by_all and not by_group:
            continue
        what = f"others may write to {directory} (mode {stat.S_IMODE(mode):04o}), and Sendmail does not use a socket below it"
        if sticky:
            moved = listen_at(case, Unix(path), f"/run/aiomilter/{os.path.basename(path)}", mta.asker)
            right = f"local:/run/aiomilter/{os.path.basename(path)}"
            steps = (*moved, *milter.place.rewritten(right, milter.settings), *mta.reload) if moved else ()
        else:
            steps = (run("chmod", "o-w" if by_all and not mode & stat.S_IWGRP else "go-w", directory),)
        return Finding("directory-unsafe", Severity.ERROR, milter.place.where, what, _WHY, steps)
    return None


def _closed(case: Case, milter: Milter, view: View, asker: Asker, user: User, who: str) -> Finding:
    found = os.stat(view.path)
    owner = f"{user_name(found.st_uid)}:{group_name(found.st_gid)}, mode {stat.S_IMODE(found.st_mode):04o}"
    group = group_name(user.groups[0])
    in_group = found.st_gid in user.groups
    if stat.S_ISDIR(found.st_mode):
        what = f"{who} runs as {user.name}, which may not pass the directory {view.path} ({owner})"
        allow = run("chmod", "g+x" if in_group else "u+x" if found.st_uid == user.uid else "o+x", view.path)
        return Finding("directory-closed", Severity.ERROR, milter.place.where, what, _WHY, (allow,))
    what = f"{who} runs as {user.name}, which may not write to the socket {view.path} ({owner})"
    steps = [] if in_group or found.st_uid == user.uid else [run("chgrp", group, view.path)]
    steps.append(run("chmod", "u+w" if found.st_uid == user.uid else "g+w", view.path))
    # The filter makes the socket anew at its next start.
    steps += lasting_permissions(case, machine_address(milter, asker), group)
    return Finding("socket-closed", Severity.ERROR, milter.place.where, what, _WHY, tuple(steps))


def _stale(case: Case, milter: Milter, group: int, asker: Asker) -> Finding | None:
    """Return a finding if processes have been started before their user came into a group."""
    if not isinstance(case.mta, Postfix) or case.mta.master is None:
        return None
    running = [groups for pid in children(case.mta.master, asker.program) if (groups := groups_of(pid)) is not None]
    if all(group in groups for groups in running):
        return None
    return Finding(
        "groups-stale",
        Severity.ERROR,
        milter.place.where,
        f"{asker.user} may use the socket {_shown(milter, asker)} by the group {group_name(group)}, but processes of "
        f"{asker.program} that run now are not in that group",
        "A process has the groups of the moment it was started.",
        case.mta.reload,
    )
