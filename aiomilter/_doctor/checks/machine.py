"""The machine: DNS, clock, space and descriptors, as far as the filter that was named needs them."""

import ipaddress
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeGuard

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Severity, run
from aiomilter._doctor.milter_lists import write
from aiomilter._doctor.postfix import Postfix, queue_directory
from aiomilter._doctor.resolving import Dns
from aiomilter.addresses import Inet, Unix
from aiomilter.options import Options

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "resolver-silent": "the filter asks DNS, and no nameserver answers",
    "resolver-public": "the filter asks DNS, and the nameserver is a public one, which block lists refuse",
    "resolver-remote": "the filter asks DNS, and the nameserver is outside of our networks: nothing protects its answers",
    "resolver-far": "the filter asks DNS, and the nameserver takes long for an answer that it has",
    "list-useless": "the filter asks a DNS list that refuses to answer, or that lists nothing or everything",
    "backend-away": "nothing listens where a setting of the filter names a service, such as clamd or Redis",
    "backend-confused": "what listens where a setting names a scanner or a store is something else, or does not answer",
    "clock-wrong": "the clock is behind the files of aiomilter",
    "space-low": "the file system of the queue has too little space for a message",
    "descriptors-few": "the running filter may open fewer files than it serves connections",
}
_PUBLIC: Final = re.compile(
    r"8\.8\.(8\.8|4\.4)|1\.[01]\.0\.[1-3]|1\.1\.1\.[1-3]|9\.9\.9\.\d+|149\.112\.112\.\d+|208\.67\.22[02]\.\d+|94\.140\.1[45]\.\d+"
    r"|2001:4860:4860::.*|2606:4700:4700::.*|2620:fe::.*|2620:119:[35]5::.*"
)
_FAR: Final = 0.05
"""Seconds for an answer that the nameserver has: a check of one message asks ten questions, several of them one by one."""
_DAY: Final = 86_400.0
_OTHERS: Final = 64
"""Descriptors besides those of connections."""


def check(case: Case) -> Iterator[Finding]:
    """Yield what the machine lacks."""
    yield from _clock()
    if isinstance(case.mta, Postfix):
        yield from _space(case.mta)
    yield from _dns(case)
    yield from _descriptors(case)
    yield from _backends(case)


def _backends(case: Case) -> Iterator[Finding]:
    assert case.own is not None or not case.away
    for (setting, address, kind), said, listens in case.away:
        if listens:
            word, what = "backend-confused", f"what listens at {address}, which {setting} names, is no {kind} ({said})"
        elif kind == "file":
            word, what = (
                "backend-away",
                f"{setting} names {address.path if isinstance(address, Unix) else address}: {said}",
            )
        else:
            word, what = "backend-away", f"nothing listens at {address}, which {setting} names ({said})"
        why = "The filter fails, or answers as it is told to for that, at each message that needs it."
        if kind == "file":
            why = "The filter does not start without it."
        mend = (
            (run("install", "-d", "-m", "0750", os.path.dirname(address.path)),) if _is_lacking(address, kind) else ()
        )
        yield Finding(word, Severity.ERROR, f"{case.own.name if case.own else ''}: {setting}", what, why, mend)


def _is_lacking(address: Inet | Unix, kind: str) -> TypeGuard[Unix]:
    return kind == "file" and isinstance(address, Unix) and not os.path.exists(os.path.dirname(address.path))


def _dns(case: Case) -> Iterator[Finding]:
    if case.own is None or not case.own.does.resolves or case.dns is None:
        return
    where, found = "/etc/resolv.conf", case.dns
    own = "run a resolver of your own, as unbound, and name it there."
    if not found.answers:
        what = f"no nameserver answers ({', '.join(found.servers) or 'there is none'})"
        why = "Checks of SPF, DKIM, DMARC and block lists fail for all mail."
        yield Finding("resolver-silent", Severity.ERROR, where, what, why, ())
        return
    if public := [each for each in found.servers if _PUBLIC.fullmatch(each)]:
        what = f"the nameserver {public[0]} is a public resolver"
        why = f"Block lists refuse its questions, and all clients count as not listed; {own}"
        yield Finding("resolver-public", Severity.WARNING, where, what, why, ())
    elif (remote := _remote(found)) is not None:
        why = f"Whoever is on the way may write the answers by which SPF, DKIM and DMARC are judged; {own}"
        yield Finding("resolver-remote", Severity.WARNING, where, remote, why, ())
    elif found.seconds > _FAR:
        what = f"the nameserver {found.servers[0]} takes {found.seconds * 1000:.0f} ms for an answer that it has"
        why = f"A message takes ten questions and more, several of them one after the other; {own}"
        yield Finding("resolver-far", Severity.WARNING, where, what, why, ())
    for zone, problem in () if public else found.lists:
        what = f"the DNS list {zone} does not serve this machine: {problem}"
        why = "Nothing counts as listed there, or everything; take it out of the settings, or ask its operator."
        yield Finding("list-useless", Severity.WARNING, case.own.name, what, why, ())


def _remote(found: Dns) -> str | None:
    """Return why what the first nameserver says is not to be trusted; None if it is, or that is not known.

    One of this machine is, and one of a private network: what AD it sets is as good as the way from there to here.
    """
    first = found.servers[0]
    if found.is_local is not False or not ipaddress.ip_address(first.partition("%")[0]).is_global:
        return None
    says = {True: "says that it validates (AD)", False: "does not validate (DNSSEC)"}
    validates = f" {says[found.validates]}, and" if found.validates is not None else ""
    return f"the nameserver {first}{validates} is a machine outside of this one's networks"


def _clock() -> Iterator[Finding]:
    with_us = Path(__file__).stat().st_mtime
    if time.time() < with_us - _DAY:
        what = f"the clock says {time.strftime('%Y-%m-%d', time.gmtime())}, and aiomilter was installed later"
        why = "Signatures count as made in the future, or as expired."
        yield Finding("clock-wrong", Severity.ERROR, "the system's clock", what, why, ())


def _space(mta: Postfix) -> Iterator[Finding]:
    parameters = mta.parameters
    directory = queue_directory(parameters)
    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        return
    # As smtpd reckons: it refuses mail if less than one and a half messages would fit.
    limits = {
        "queue_minfree": _number(parameters.values.get("queue_minfree", "")),
        "message_size_limit": _number(parameters.values.get("message_size_limit", "")) * 3 // 2,
    }
    for name, needed in limits.items():
        if free < needed:
            yield Finding(
                "space-low",
                Severity.ERROR,
                f"{parameters.main_cf}: {name}",
                f"{directory} has {free >> 20} MiB free, and Postfix takes no mail below {needed >> 20} MiB",
                "It refuses mail with 452 before a filter sees it.",
                (write(parameters, name, "0" if name == "queue_minfree" else "10240000"), *mta.reload),
            )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _descriptors(case: Case) -> Iterator[Finding]:
    for milter in case.mta.milters:
        process = case.answer(milter).process
        if process is None or process.aiomilter is None or process.descriptors is None:
            continue
        own = case.own if case.own is not None and case.is_own(milter) else None
        # Where nobody has chosen the limit, it is not meant to be reached.
        if own is None or own.options.max_connections == Options().max_connections:
            continue
        if process.descriptors < own.options.max_connections + _OTHERS:
            yield Finding(
                "descriptors-few",
                Severity.WARNING,
                own.name,
                f"the filter may open {process.descriptors} files, and serves up to {own.options.max_connections} connections",
                "Connections beyond that wait, and the MTA takes its default action; set LimitNOFILE= of its unit.",
                own.file.set(limits_max_connections=str(process.descriptors - _OTHERS)) if own.file is not None else (),
            )
            return
