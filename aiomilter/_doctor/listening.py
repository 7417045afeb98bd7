"""The steps that have a filter of ours listen somewhere else: in its configuration file, or by its flags."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence

from aiomilter._doctor.case import Case, same
from aiomilter._doctor.findings import Kind, Step, run
from aiomilter._doctor.model import Asker
from aiomilter._doctor.paths import group_name, user_name, user_of
from aiomilter.addresses import Inet, Unix

__all__ = ["lasting_permissions", "listen_at", "serve", "served_at"]


def listen_at(case: Case, now: Inet | Unix, path: str, asker: Asker) -> tuple[Step, ...]:
    """Return the steps that serve a filter at a path; none if it is not known how it is served.

    Args:
        case: The whole.
        now: Where it listens, or is thought to.
        path: Where it is to listen.
        asker: Who connects to it.
    """
    user = user_of(asker.user) if asker.user is not None else None
    group = group_name(user.groups[0]) if user is not None else "root"
    options = {"listen": f"unix:{path}", "socket_mode": "0660", "socket_group": group}
    served = serve(case, now, **options) or (served_at(case, Unix(path), **options) if now == Unix(path) else ())
    if not served:
        return ()
    answered = case.answers.get(now)
    process = answered.process if answered is not None else None
    owner = user_name(process.uid if process is not None else os.geteuid())
    made = run("install", "-d", "-o", owner, "-g", group, "-m", "0750", os.path.dirname(path))
    return (*([] if os.path.isdir(os.path.dirname(path)) else [made]), *served)


def served_at(case: Case, address: Inet | Unix, **options: str) -> tuple[Step, ...]:
    """Return the step that serves a filter that was not named, where nothing listens yet; TARGET stands for it."""
    answered = case.answers.get(address)
    if case.own is not None or (answered is not None and answered.process is not None):
        return ()
    words = _flags({"listen": str(address), **options})
    return (Step(Kind.SERVE, shlex.join(["aiomilter", "run", "TARGET", *words])),)


def lasting_permissions(case: Case, now: Inet | Unix | None, group: str) -> tuple[Step, ...]:
    """Return the steps that have a filter give its socket to a group at each start; none if unknown."""
    return serve(case, now, socket_mode="0660", socket_group=group) if now is not None else ()


def serve(case: Case, now: Inet | Unix, **options: str) -> tuple[Step, ...]:
    """Return the steps that serve a filter with options.

    Args:
        case: The whole.
        now: Where it listens, or is thought to.
        options: By their keys in a file, with an underscore for the dot.
    """
    own = case.own
    answered = case.answers.get(now)
    process = answered.process if answered is not None else None
    if own is not None and (not own.listen or any(same(now, each) for each in own.listen)):
        if own.file is not None:
            values = {name: f'"{value}"' for name, value in options.items()}
            return (*own.file.set(**values), Step(Kind.SERVE, shlex.join(own.command)))
        words: Sequence[str] = own.command
    elif process is not None and any(os.path.basename(word) == "aiomilter" for word in process.command):
        words = process.command  # one that serves a filter by its own code takes no flags of ours
    else:
        return ()
    flags = _flags(options)
    return (Step(Kind.SERVE, shlex.join([*_without(words, set(flags[::2])), *flags])),)


def _flags(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]


def _without(command: Sequence[str], names: set[str]) -> Iterator[str]:
    """Yield a command line without some options, from the name of its program on."""
    words = iter(command)
    for word in words:
        if os.path.basename(word) == "aiomilter":
            yield "aiomilter"
            break
    for word in words:
        if word in names:
            next(words, None)
        elif word.partition("=")[0] not in names:
            yield word
