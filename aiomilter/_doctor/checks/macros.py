"""Macros that the filter reads and the MTA does not send, and lists of the postmaster that leave usual names out.

Source: aiomilter/help/protocol.rst, "Macro lists" and "Usual macros".
"""

from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Kind, Severity, Step
from aiomilter._doctor.milter_lists import write
from aiomilter._doctor.postfix import Postfix
from aiomilter._doctor.sendmail import Sendmail
from aiomilter.mta.macros import macro_lists
from aiomilter.wire.constants import Stage
from aiomilter.wire.negotiation import canonical_macro

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "macro-never-sent": "the filter reads a macro that this MTA does not have at that stage",
    "macro-list-short": "a list of macros in the MTA's configuration leaves out names that filters without own lists expect",
}
_PARAMETERS: Final = {
    Stage.CONNECT: "milter_connect_macros",
    Stage.HELO: "milter_helo_macros",
    Stage.MAIL: "milter_mail_macros",
    Stage.RCPT: "milter_rcpt_macros",
    Stage.DATA: "milter_data_macros",
    Stage.EOH: "milter_end_of_header_macros",
    Stage.EOM: "milter_end_of_data_macros",
}
_REPLACES: Final = (
    "Filters that ask for no list of their own do not get them; a list replaces the default, it adds nothing to it."
)
_OPTIONS: Final = {
    Stage.CONNECT: "connect",
    Stage.HELO: "helo",
    Stage.MAIL: "envfrom",
    Stage.RCPT: "envrcpt",
    Stage.EOM: "eom",
}
_FIRST: Final = {
    "postfix": {
        **dict.fromkeys(("j", "v", "_", "daemon_name", "daemon_addr", "daemon_port"), Stage.CONNECT),
        **dict.fromkeys(("client_addr", "client_name", "client_port", "client_ptr"), Stage.CONNECT),
        **dict.fromkeys(("client_connections", "client_resolve"), Stage.CONNECT),
        **dict.fromkeys(("tls_version", "cipher", "cipher_bits", "cert_subject", "cert_issuer"), Stage.HELO),
        **dict.fromkeys(("auth_type", "auth_authen", "auth_author"), Stage.MAIL),
        **dict.fromkeys(("mail_addr", "mail_host", "mail_mailer"), Stage.MAIL),
        **dict.fromkeys(("rcpt_addr", "rcpt_host", "rcpt_mailer", "i"), Stage.RCPT),
    },
    "sendmail": {
        **dict.fromkeys(("i", "mail_addr", "mail_host", "mail_mailer"), Stage.MAIL),
        **dict.fromkeys(("auth_type", "auth_authen", "auth_author", "auth_ssf"), Stage.MAIL),
        **dict.fromkeys(("rcpt_addr", "rcpt_host", "rcpt_mailer"), Stage.RCPT),
        "msg_id": Stage.EOM,
    },
}
"""The stage from which a macro has a value; Sendmail has many more, of any name."""


def check(case: Case) -> Iterator[Finding]:
    """Yield macros that are read and not sent."""
    yield from _never(case)
    yield from _short(case)


def _never(case: Case) -> Iterator[Finding]:
    if case.own is None:
        return
    first = _FIRST[case.mta.kind]
    mta = case.mta.kind.capitalize()
    for stage, name in sorted(case.own.macros):
        bare = canonical_macro(name)
        since = first.get(bare)
        shown = bare if len(bare) == 1 else f"{{{bare}}}"
        if since is None:
            if case.mta.kind == "sendmail":
                continue
            what = f"the filter reads the macro {shown}, which {mta} does not have"
            instead = "Read another, or have a default: ctx.macro(name, default)."
        elif since > stage:
            what = f"the filter reads the macro {shown} at {stage.name}, and {mta} has it from {since.name} on"
            instead = f"Read it at {since.name} or later."
        else:
            continue
        why = f"ctx.macro returns None each time. {instead}"
        yield Finding("macro-never-sent", Severity.WARNING, case.own.name, what, why, ())


def _short(case: Case) -> Iterator[Finding]:
    usual = macro_lists(case.mta.kind, {}, {})
    names: Mapping[Stage, str] = _PARAMETERS if isinstance(case.mta, Postfix) else _OPTIONS
    if isinstance(case.mta, Postfix):
        yield from _short_of_services(case, case.mta)
    for stage, name in names.items():
        given = _listed(case, name)
        if given is None or not _is_needed(case, stage):
            continue
        listed = [canonical_macro(word) for word in given.replace(",", " ").split()]
        lacking = [word for word in usual.get(stage, ()) if canonical_macro(word) not in listed]
        if not lacking or (isinstance(case.mta, Postfix) and "v" in lacking and _is_ours(case)):
            # Without v ours has a finding of its own, which writes the whole list.
            continue
        whole = " ".join(dict.fromkeys([*given.replace(",", " ").split(), *lacking]))
        where, steps = _write(case, name, whole)
        yield Finding(
            "macro-list-short",
            Severity.WARNING,
            where,
            f"{name} leaves out {' '.join(lacking)}",
            _REPLACES,
            (*steps, *case.mta.reload),
        )


def _short_of_services(case: Case, mta: Postfix) -> Iterator[Finding]:
    """Yield lists that ``-o`` of a service sets, as :func:`_short` does those of main.cf."""
    asking = {asker.name for asker, milters in mta.lists.items() if milters}
    usual = macro_lists("postfix", {}, {})
    for service in mta.parameters.services:
        for stage, name in _PARAMETERS.items() if service.name in asking else ():
            if name not in service.given or not _is_needed(case, stage):
                continue
            given = service.values.get(name, "").replace(",", " ").split()
            listed = [canonical_macro(word) for word in given]
            lacking = [word for word in usual.get(stage, ()) if canonical_macro(word) not in listed]
            if lacking:
                yield Finding(
                    "macro-list-short",
                    Severity.WARNING,
                    f"{mta.parameters.master_cf}: {service.name}: -o {name}",
                    f"{name} leaves out {' '.join(lacking)}",
                    _REPLACES,
                    (write(mta.parameters, name, ",".join(dict.fromkeys([*given, *lacking])), service), *mta.reload),
                )


def _is_needed(case: Case, stage: Stage) -> bool:
    """Return whether a filter is asked that has no list of its own at a stage."""
    answers = [case.answer(milter).agreed for milter in case.mta.milters]
    return any(agreed is None or stage not in agreed.macros for agreed in answers)


def _is_ours(case: Case) -> bool:
    processes = [case.answer(milter).process for milter in case.mta.milters]
    return any(process is None or process.may_be_ours for process in processes)


def _listed(case: Case, name: str) -> str | None:
    if isinstance(case.mta, Postfix):
        return case.mta.parameters.values.get(name) if name in case.mta.parameters.given else None
    assert isinstance(case.mta, Sendmail)
    found = case.mta.options.get(f"milter.macros.{name}")
    return found[1] if found is not None else None


def _write(case: Case, name: str, value: str) -> tuple[str, tuple[Step, ...]]:
    """Return where a list is, and the step that writes it."""
    if isinstance(case.mta, Postfix):
        parameters = case.mta.parameters
        return f"{parameters.main_cf}: {name}", (write(parameters, name, value),)
    assert isinstance(case.mta, Sendmail)
    line, _ = case.mta.options[f"milter.macros.{name}"]
    text = f"O Milter.macros.{name}={', '.join(value.split())}"
    return f"{case.mta.file}:{line.number}", (Step(Kind.WRITE, text, case.mta.file, line.number, line.count),)
