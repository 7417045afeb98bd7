"""Whether all mail passes the filters, and passes each once: the lists of Postfix, services with their own, maps."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from aiomilter._doctor.case import Case, machine_address, same
from aiomilter._doctor.checks.endpoints import meant
from aiomilter._doctor.endpoints import of_postfix
from aiomilter._doctor.findings import Finding, Kind, Severity, Step, run
from aiomilter._doctor.milter_lists import split, unbraced, write
from aiomilter._doctor.model import Asker, Milter
from aiomilter._doctor.postconf import Parameters, Service
from aiomilter._doctor.postfix import LIST_OF, Postfix, asks, is_open

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "local-mail-unfiltered": "smtpd_milters is set and non_smtpd_milters is not: mail of local programs passes no filter",
    "smtp-mail-unfiltered": "non_smtpd_milters is set and smtpd_milters is not: mail that comes by SMTP passes no filter",
    "service-unfiltered": "a service that takes mail of others switches the filters off that the rest of Postfix asks",
    "clients-unfiltered": "smtpd_milter_maps switches filters off for some clients, or cannot be read",
    "override-ignored": "a service sets a list that its program does not read",
    "asked-twice": "one service asks the same filter twice",
    "filtered-twice": "mail passes the filters again when it comes back from a content filter",
}
_LINED: Final = ("cidr", "regexp", "pcre")
_FILES: Final = (*_LINED, "texthash", "hash", "btree", "lmdb")
_MOST: Final = 1 << 20
"""Octets of a map."""


def check(case: Case) -> Iterator[Finding]:
    """Yield mail that passes no filter, or the same twice."""
    yield from _twice(case)
    if isinstance(case.mta, Postfix):
        parameters = case.mta.parameters
        yield from _half(case.mta, parameters)
        for service in parameters.services:
            yield from _service(case.mta, parameters, service)
        yield from _maps(case.mta, parameters)
        yield from _again(case.mta, parameters)


def _half(mta: Postfix, parameters: Parameters) -> Iterator[Finding]:
    """Yield one list that is set without the other; an empty one that is written down is meant."""
    if any(meant(name) in LIST_OF.values() for name in parameters.unused):
        return  # the other one is misspelt
    lists = {LIST_OF[asker.program] for asker, milters in mta.lists.items() if milters}
    where = f"{parameters.main_cf}: "
    if lists == {"smtpd_milters"} and not _is_set(parameters, "cleanup"):
        yield Finding(
            "local-mail-unfiltered",
            Severity.WARNING,
            f"{where}non_smtpd_milters",
            "smtpd_milters is set, and non_smtpd_milters is not",
            "Mail that programs of this machine hand in with the sendmail command is neither checked nor signed.",
            (write(parameters, "non_smtpd_milters", "$smtpd_milters"), *mta.reload),
        )
    if lists == {"non_smtpd_milters"} and not _is_set(parameters, "smtpd"):
        value = parameters.given.get("non_smtpd_milters", "")
        yield Finding(
            "smtp-mail-unfiltered",
            Severity.ERROR,
            f"{where}smtpd_milters",
            "non_smtpd_milters is set, and smtpd_milters is not",
            "Only mail of local programs passes the filter; none that comes by SMTP does.",
            (write(parameters, "smtpd_milters", value), *mta.reload),
        )


def _is_set(parameters: Parameters, program: str) -> bool:
    """Return whether the list of a program is written down anywhere."""
    name = LIST_OF[program]
    return name in parameters.given or any(
        name in service.given for service in parameters.services if service.program == program
    )


def _service(mta: Postfix, parameters: Parameters, service: Service) -> Iterator[Finding]:
    """Yield what ``-o`` of a service does that is hardly meant."""
    where = f"{parameters.master_cf}: {service.name}"
    name = LIST_OF.get(service.program)
    for other in LIST_OF.values():
        if other in service.given and other != name and split(service.values[other]):
            yield Finding(
                "override-ignored",
                Severity.WARNING,
                f"{where}: -o {other}",
                f"{service.program} does not read {other}",
                "smtpd reads smtpd_milters, for mail by SMTP; cleanup reads non_smtpd_milters, for mail of local programs.",
                (_without(parameters, service, other), *mta.reload),
            )
    usual = split(parameters.values.get("smtpd_milters", ""))
    if service.program != "smtpd" or not usual or not is_open(parameters, service):
        return
    why = "Mail that comes in there passes no filter."
    if "smtpd_milters" in service.given and not split(service.values["smtpd_milters"]):
        what = f"the service {service.name} asks no filter, while main.cf names {', '.join(usual)}"
        steps = (_without(parameters, service, "smtpd_milters"), *mta.reload)
        yield Finding("service-unfiltered", Severity.WARNING, f"{where}: -o smtpd_milters", what, why, steps)
    if not asks(parameters, service):
        option = "receive_override_options"
        own = service if option in service.given else None
        written = (service.given if own else parameters.given).get(option, "")
        left = ",".join(each for each in re.split(r"[,\s]+", written) if each not in ("", "no_milters"))
        step = write(parameters, option, left, own) if left or own is None else _without(parameters, service, option)
        place = f"{where}: -o {option}" if own else f"{parameters.main_cf}: {option}"
        what = f"the service {service.name} asks no filter, since {option} has no_milters"
        yield Finding("service-unfiltered", Severity.WARNING, place, what, why, (step, *mta.reload))


def _without(parameters: Parameters, service: Service, name: str) -> Step:
    return run("postconf", "-c", parameters.directory, "-PX", f"{service.name}/{name}")


# ----------------------------------------------------------------------------------------------------------------- twice


def _twice(case: Case) -> Iterator[Finding]:
    """Yield filters that one service asks twice."""
    seen: set[str] = set()
    for asker, milters in case.mta.lists.items():
        for number, milter in enumerate(milters):
            before = next((each for each in milters[:number] if _are_one(each, milter, asker)), None)
            if before is None or milter.place.where in seen:
                continue
            seen.add(milter.place.where)
            yield Finding(
                "asked-twice",
                Severity.ERROR,
                milter.place.where,
                f"{before.text} and {milter.text} are one filter, and {milter.list_name} has both",
                "Each message passes it twice: two signatures, two header fields, two entries in greylists and limits.",
                (*milter.place.removed(), *case.mta.reload),
            )


def _are_one(one: Milter, other: Milter, asker: Asker) -> bool:
    return same(machine_address(one, asker), machine_address(other, asker))


def _again(mta: Postfix, parameters: Parameters) -> Iterator[Finding]:
    """Yield services that take mail back from a content filter, and ask the same filters as those that took it at first."""
    first = [
        service for service in parameters.services if service.program == "smtpd" and _goes_out(parameters, service)
    ]
    if not first:
        return
    lists = {asker.name: milters for asker, milters in mta.lists.items()}
    asked = {milter.text for service in first for milter in lists.get(service.name, ())}
    for service in parameters.services:
        back = [milter.text for milter in lists.get(service.name, ()) if milter.text in asked]
        if service.program != "smtpd" or service in first or is_open(parameters, service) or not back:
            continue
        if not service.name.endswith("/inet") or "content_filter" not in service.given:
            continue
        yield Finding(
            "filtered-twice",
            Severity.WARNING,
            f"{parameters.master_cf}: {service.name}",
            f"the service {service.name} takes mail back from a content filter, and asks {', '.join(back)} once more",
            "Each message passes the filter twice: two signatures, two header fields, two entries in greylists and limits.",
            (write(parameters, "smtpd_milters", "", service), *mta.reload),
        )


def _goes_out(parameters: Parameters, service: Service) -> bool:
    """Return whether a service gives its mail to a content filter."""
    return any(parameters.value(name, service) for name in ("content_filter", "smtpd_proxy_filter"))


# ------------------------------------------------------------------------------------------------------------------ maps


def _maps(mta: Postfix, parameters: Parameters) -> Iterator[Finding]:
    """Yield maps that switch filters off, or that cannot be read."""
    where = f"{parameters.main_cf}: smtpd_milter_maps"
    for table in split(parameters.values.get("smtpd_milter_maps", "")):
        entries = _entries(table)
        kind, _, path = table.partition(":")
        if entries is None:
            if kind in _FILES and not os.path.exists(path):
                yield Finding(
                    "clients-unfiltered",
                    Severity.ERROR,
                    where,
                    f"smtpd_milter_maps names {table}, and there is no such file",
                    "Postfix refuses all mail while it cannot read a map.",
                    (run("postconf", "-c", parameters.directory, "-X", "smtpd_milter_maps"), *mta.reload),
                )
            continue
        for number, key, value in entries:
            at = f"{path}:{number}" if number else where
            if value.upper() == "DISABLE":
                step = run("sed", "-i", f"{number}d", path) if number else _no_maps(parameters)
                yield Finding(
                    "clients-unfiltered",
                    Severity.WARNING,
                    at,
                    f"smtpd_milter_maps switches all filters off for {key}",
                    "Mail of these clients passes no filter.",
                    (step, *mta.reload),
                )
            elif (wrong := next((each for each in split(value) if _is_wrong(each)), None)) is not None:
                right = of_postfix(wrong).meant
                line = f"{key} {value.replace(wrong, right)}"
                written = parameters.given.get("smtpd_milter_maps", "")
                step = (
                    Step(Kind.WRITE, line, path, number)
                    if number
                    else write(parameters, "smtpd_milter_maps", written.replace(wrong, right))
                )
                steps = (step, *mta.reload) if right and (number or wrong in written) else ()
                what = f"{wrong!r} is not an endpoint: {of_postfix(wrong).fault}"
                yield Finding("endpoint-unreadable", Severity.ERROR, at, what, "The default action is taken.", steps)


def _no_maps(parameters: Parameters) -> Step:
    return run("postconf", "-c", parameters.directory, "-X", "smtpd_milter_maps")


def _is_wrong(endpoint: str) -> bool:
    return not endpoint.startswith("{") and of_postfix(endpoint).address is None


def _entries(table: str) -> Sequence[tuple[int, str, str]] | None:
    """Return the entries of a map, with their lines, or 0; None if it is of another kind, or cannot be read."""
    kind, _, rest = table.partition(":")
    if kind == "static":
        return [(0, "all clients", rest.strip("{ }"))]
    if kind == "inline":
        pairs = (entry.strip("{} ").partition("=") for entry in split(rest.strip()[1:-1]))
        return [(0, key.strip(), value.strip()) for key, _, value in pairs]
    if kind not in _FILES:
        return None
    if kind in _LINED and rest.startswith("{"):
        # Each rule is a line of its own.
        rules = (unbraced(rule).split(None, 1) for rule in split(unbraced(rest)))
        return [(0, words[0], words[1].strip()) for words in rules if len(words) == 2]
    try:
        with open(rest, "rb") as file:
            lines = file.read(_MOST).decode("utf-8", "surrogateescape").split("\n")
    except (OSError, ValueError):
        return None
    pairs_of = (
        (number, line.split(None, 1)) for number, line in enumerate(lines, 1) if line[:1] not in ("", "#", " ", "\t")
    )
    return [(number, words[0], words[1].strip()) for number, words in pairs_of if len(words) == 2]
