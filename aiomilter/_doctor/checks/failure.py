"""What becomes of mail while a filter is down: the default action of Postfix, F= of Sendmail."""

from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Severity, Step
from aiomilter._doctor.milter_lists import write
from aiomilter._doctor.model import Milter
from aiomilter._doctor.postfix import Postfix, by_service

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "default-action-unknown": "the default action is none that the MTA knows",
    "setting-unknown": "a filter has a setting that the MTA does not know",
    "signer-skipped": "mail goes out unsigned while a filter that signs is down",
    "filter-skipped": "Sendmail delivers mail unfiltered while a filter is down, since its definition has no F=",
    "mail-bounces": "mail is refused for good while a filter is down",
}
_ACTIONS: Final = ("accept", "reject", "tempfail", "quarantine", "shutdown")
_SETTINGS: Final = ("connect_timeout", "command_timeout", "content_timeout", "default_action", "protocol")
_SIGNERS: Final = frozenset({"opendkim", "dkimpy-milter", "dkimpy_milter", "openarc", "rspamd", "dkim-filter"})
_EQUATES: Final = frozenset({"F", "T"})


def check(case: Case) -> Iterator[Finding]:
    """Yield filters whose failure has consequences that are hardly meant."""
    seen: set[tuple[str, str]] = set()
    for milter in case.mta.milters:
        found = _of_postfix(case, case.mta, milter) if isinstance(case.mta, Postfix) else _of_sendmail(case, milter)
        for finding in found:
            # One setting of main.cf is one finding, however many filters it is for.
            if (finding.check, finding.where) not in seen:
                seen.add((finding.check, finding.where))
                yield finding


def _of_postfix(case: Case, mta: Postfix, milter: Milter) -> Iterator[Finding]:
    unknown = [name for name in milter.settings if name not in _SETTINGS]
    if unknown or milter.fault:
        kept = {name: value for name, value in milter.settings.items() if name in _SETTINGS}
        yield Finding(
            "setting-unknown",
            Severity.ERROR,
            milter.place.where,
            f"{milter.text}: {milter.fault}"
            if milter.fault
            else f"{unknown[0]!r} of {milter.text} is no setting; Postfix knows {', '.join(_SETTINGS)}",
            "Postfix's SMTP server ends with a fatal error.",
            (*milter.place.rewritten(milter.text, kept), *mta.reload),
        )
    if "default_action" in milter.settings:
        settings = {**milter.settings, "default_action": "tempfail"}
        steps = (*milter.place.rewritten(milter.text, settings), *mta.reload)
        yield from _action(case, milter, milter.settings["default_action"], milter.place.where, steps)
        return
    for action, where, service in by_service(mta, milter, "milter_default_action"):
        steps = (write(mta.parameters, "milter_default_action", "tempfail", service), *mta.reload)
        yield from _action(case, milter, action, where, steps)


def _action(case: Case, milter: Milter, action: str, where: str, steps: tuple[Step, ...]) -> Iterator[Finding]:
    if action not in _ACTIONS:
        what = f"{action!r} is no default action; Postfix knows {', '.join(_ACTIONS)}"
        why = "All mail is refused with 451 4.3.5 while the filter is down."
        yield Finding("default-action-unknown", Severity.ERROR, where, what, why, steps)
    elif action == "accept" and (who := _signer(case, milter)):
        what = f"{who} signs messages, and while it is down mail goes out without its signature"
        why = "Receivers judge unsigned mail as forged where DMARC asks for a signature."
        yield Finding("signer-skipped", Severity.WARNING, where, what, why, steps)
    elif action == "reject":
        what = f"while {milter.text} is down, all mail is refused for good"
        why = "Senders get their mail back, though a restart takes seconds."
        yield Finding("mail-bounces", Severity.WARNING, where, what, why, steps)


def _of_sendmail(case: Case, milter: Milter) -> Iterator[Finding]:
    where, flag = milter.place.where, milter.settings.get("F", "")
    mend = (*milter.place.rewritten(milter.text, {**milter.settings, "F": "T"}), *case.mta.reload)
    if unknown := [name for name in milter.settings if name not in _EQUATES]:
        kept = {name: value for name, value in milter.settings.items() if name in _EQUATES}
        what = f"{unknown[0]!r} of {milter.text} is no equate; Sendmail knows S=, F= and T="
        steps = (*milter.place.rewritten(milter.text, kept), *case.mta.reload)
        yield Finding(
            "setting-unknown", Severity.ERROR, where, what, "Sendmail calls it an error of its configuration.", steps
        )
    elif flag not in ("", "T", "R", "4"):
        what = f"F={flag} is no default action; Sendmail knows F=T, F=R and F=4"
        why = "Sendmail starts with it, and does not say so."
        yield Finding("default-action-unknown", Severity.ERROR, where, what, why, mend)
    elif flag == "" and (who := _signer(case, milter)):
        what = f"{who} signs messages, and while it is down mail goes out without its signature"
        why = "Receivers judge unsigned mail as forged where DMARC asks for a signature."
        yield Finding("signer-skipped", Severity.WARNING, where, what, why, mend)
    elif flag == "":
        what = f"{milter.text} has no F=, so that mail passes unfiltered while it is down"
        yield Finding("filter-skipped", Severity.WARNING, where, what, "Nothing but a line of the log says so.", mend)
    elif flag == "R":
        what = f"while {milter.text} is down, all mail is refused for good"
        why = "Senders get their mail back, though a restart takes seconds."
        yield Finding("mail-bounces", Severity.WARNING, where, what, why, mend)


def _signer(case: Case, milter: Milter) -> str:
    """Return what to call a filter that signs; "" if it does not, or nothing says so."""
    if (
        case.own is not None
        and (case.own.does.signs or case.own.does.seals)
        and (case.is_own(milter) or len(case.mta.milters) == 1)
    ):
        return "the filter"
    process = case.answer(milter).process
    return process.name if process is not None and process.name in _SIGNERS else ""
