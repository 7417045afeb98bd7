"""A Postfix as it is set up: which of its services ask which filters, from which chroot and as which user.

Source: master(5); postconf(5), smtpd_milters, non_smtpd_milters, receive_override_options, compatibility_level.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiomilter._doctor.endpoints import of_postfix
from aiomilter._doctor.findings import run
from aiomilter._doctor.milter_lists import ListPlace, entries
from aiomilter._doctor.model import Asker, Milter, Mta
from aiomilter._doctor.postconf import Parameters, Service
from aiomilter._doctor.processes import master_of

__all__ = ["LIST_OF", "Postfix", "asks", "by_service", "chrooted", "is_open", "postfix", "queue_directory"]

LIST_OF: Final[Mapping[str, str]] = {"smtpd": "smtpd_milters", "cleanup": "non_smtpd_milters"}
"""The programs that connect to filters, and the parameter with those that each asks."""
_LOOPBACK: Final = re.compile(r"127\.[0-9.]+|\[?::1\]?|localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Postfix(Mta):
    """A Postfix.

    Args:
        parameters: What its files say.
        master: The process id of its master; None if it does not run.
    """

    parameters: Parameters
    master: int | None


def postfix(parameters: Parameters) -> Postfix:
    """Return what a Postfix asks."""
    master = master_of(queue_directory(parameters))
    lists: dict[Asker, tuple[Milter, ...]] = {}
    askers: dict[tuple[str, str, int], list[Asker]] = {}
    found: dict[tuple[str, str, int], tuple[ListPlace, Milter]] = {}
    for service in parameters.services:
        name = LIST_OF.get(service.program)
        if name is None or not asks(parameters, service):
            continue
        asker = _asker(parameters, service)
        mine = []
        for entry in entries(parameters, name, service):
            endpoint = of_postfix(entry.endpoint)
            milter = Milter(entry.endpoint, endpoint, entry.settings, entry.place, (asker,), name, entry.fault)
            key = (entry.place.where, entry.endpoint, entry.place.number)
            askers.setdefault(key, []).append(asker)
            found.setdefault(key, (entry.place, milter))
            mine.append(milter)
        lists[asker] = tuple(mine)
    milters = tuple(
        Milter(each.text, each.endpoint, each.settings, place, tuple(askers[key]), each.list_name, each.fault)
        for key, (place, each) in found.items()
    )
    reload = (run("postfix", "-c", parameters.directory, "reload"),) if master is not None else ()
    return Postfix("postfix", milters, lists, reload, parameters=parameters, master=master)


def by_service(mta: Postfix, milter: Milter, name: str) -> Iterator[tuple[str, str, Service | None]]:
    """Yield the values of a parameter for a filter, each once, with where it is set and by which service.

    Args:
        mta: The Postfix.
        milter: The filter.
        name: Of the parameter, such as ``milter_default_action``.
    """
    parameters = mta.parameters
    names = {asker.name for asker in milter.askers}
    seen: set[str] = set()
    for service in parameters.services:
        if service.name in names:
            own = service if name in service.given else None
            file = f"{parameters.master_cf}: {service.name}: -o" if own is not None else f"{parameters.main_cf}:"
            if (where := f"{file} {name}") not in seen:
                seen.add(where)
                yield parameters.value(name, service), where, own


def asks(parameters: Parameters, service: Service) -> bool:
    """Return whether a service asks the filters in its list at all."""
    options = re.split(r"[,\s]+", parameters.value("receive_override_options", service))
    return service.program != "smtpd" or "no_milters" not in options


def queue_directory(parameters: Parameters) -> str:
    """Return the directory that services have as ``/`` in a chroot, and begin relative paths at."""
    return parameters.values.get("queue_directory") or "/var/spool/postfix"


def chrooted(parameters: Parameters, service: Service) -> bool:
    """Return whether a service runs in a chroot."""
    if service.chroot is not None:
        return service.chroot
    level = re.match(r"\d+", parameters.values.get("compatibility_level", "0"))
    # Before compatibility level 1 the default is y.
    return level is None or set(level[0]) == {"0"}


def is_open(parameters: Parameters, service: Service) -> bool:
    """Return whether a service takes mail of other machines."""
    name, _, kind = service.name.rpartition("/")
    if kind == "pass":
        return True
    if kind != "inet":
        return False
    host, colon, _ = name.rpartition(":")
    hosts = [host] if colon and host else re.split(r"[,\s]+", parameters.value("inet_interfaces", service))
    return not all(_LOOPBACK.fullmatch(each) or each == "loopback-only" for each in hosts if each)


def _asker(parameters: Parameters, service: Service) -> Asker:
    directory = queue_directory(parameters)
    user = parameters.values.get("mail_owner") or "postfix"
    return Asker(
        service.name,
        service.program,
        os.path.normpath(directory) if chrooted(parameters, service) else "/",
        os.path.normpath(directory),
        user if service.unprivileged else None,
    )
