"""The order of several filters: those that verify before those that change messages, and those before the ones that sign.

What a filter is, is known by the program that listens at its endpoint, and of the one that was named by what it does.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Kind, Severity, Step
from aiomilter._doctor.milter_lists import ListPlace, write
from aiomilter._doctor.model import Milter
from aiomilter._doctor.sendmail import FilterPlace, Sendmail

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "order": "a filter comes before one whose results or changes it needs",
}
_VERIFIERS: Final = frozenset(
    {"opendkim", "dkimpy-milter", "dkimpy_milter", "pyspf-milter", "spfmilter", "spf-milter", "smf-spf"}
)
"""They write the results that OpenDMARC reads, of DKIM and of SPF."""
_EVALUATORS: Final = frozenset({"opendmarc"})
_EDITORS: Final = frozenset(
    {"spamass-milter", "amavisd-milter", "altermime-milter", "mimedefang", "j-chkmail", "milter-regex"}
)
_SIGNERS: Final = frozenset({"opendkim", "dkimpy-milter", "dkimpy_milter", "openarc"})


def check(case: Case) -> Iterator[Finding]:
    """Yield filters that come too early; one finding for a list."""
    seen: set[str] = set()
    for milters in case.mta.lists.values():
        names = [_name(case, milter) for milter in milters]
        for number, name in enumerate(names):
            later = next((at for at in range(number + 1, len(names)) if _comes_first(names[at], name)), None)
            if later is None:
                continue
            early = milters[number]
            if early.place.where not in seen:
                seen.add(early.place.where)
                yield _finding(case, milters, number, later, names)
            break


def _name(case: Case, milter: Milter) -> str:
    process = case.answer(milter).process
    if process is not None:
        return process.name if process.aiomilter is None else "aiomilter"
    return ""


def _comes_first(one: str, other: str) -> bool:
    """Return whether a filter has to be asked before another."""
    if one in _VERIFIERS and other in _EVALUATORS:
        return True
    return one in _EDITORS and other in _SIGNERS


def _finding(case: Case, milters: tuple[Milter, ...], early: int, late: int, names: list[str]) -> Finding:
    reason = (
        "It reads the results that the other writes, and judges as if there were none."
        if names[early] in _EVALUATORS
        else "A change after the signature breaks it."
    )
    return Finding(
        "order",
        Severity.WARNING,
        milters[early].place.where,
        f"{names[early]} ({milters[early].text}) is asked before {names[late]} ({milters[late].text})",
        reason,
        (*_moved(case, milters, early, late), *case.mta.reload),
    )


def _moved(case: Case, milters: tuple[Milter, ...], early: int, late: int) -> tuple[Step, ...]:
    """Return the step that has a filter asked right after another; none if they are written in different places."""
    one, other = milters[early].place, milters[late].place
    if isinstance(one, ListPlace) and isinstance(other, ListPlace):
        if (one.name, one.service) != (other.name, other.service):
            return ()
        tokens = list(one.tokens)
        tokens.insert(other.number, tokens.pop(one.number))
        return (write(one.parameters, one.name, ", ".join(tokens), one.service),)
    if isinstance(one, FilterPlace) and isinstance(other, FilterPlace) and isinstance(case.mta, Sendmail):
        found = case.mta.options.get("inputmailfilters")
        if found is None:
            return ()
        line, value = found
        names = [name for part in value.split(",") if (name := part.strip())]
        names.insert(names.index(other.name), names.pop(names.index(one.name)))
        return (Step(Kind.WRITE, f"O InputMailFilters={', '.join(names)}", case.mta.file, line.number, line.count),)
    return ()
