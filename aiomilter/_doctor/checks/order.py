"""The order of several filters: those that verify before those that change messages, and those before the ones that sign.

What a filter is, is known by the program that listens at its endpoint and the file of that, and of the one that was named by
what it does.  A filter that verifies and signs counts by what it does last.

Source: RFC 8601 section 5; RFC 8617 section 5.1; opendmarc.conf(5), TrustedAuthservIDs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Kind, Severity, Step
from aiomilter._doctor.milter_lists import ListPlace, write
from aiomilter._doctor.model import Milter
from aiomilter._doctor.postfix import Postfix
from aiomilter._doctor.programs import Does, Program, program_of
from aiomilter._doctor.sendmail import FilterPlace, Sendmail

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "order": "a filter comes before one whose results or changes it needs",
    "signed-twice": "two filters sign the same messages",
    "authserv-id-shared": "another filter writes Authentication-Results by our name: one removes those of the other",
}
_SIGNED: Final = "A change after the signature breaks it."
_UNREAD: Final = "It reads the results that the other writes, and judges as if there were none."
_CHANGED: Final = "Signatures of senders are judged by a message that has been changed, and do not hold."
_SEALED: Final = "The seal has to be the last that is written: it covers what it finds, and says so of all."


@dataclass(frozen=True, slots=True)
class _Filter:
    """A filter of a list, as far as it is known.

    Args:
        milter: Itself.
        name: What to call it.
        does: What it does.
        program: The program, if it is another's.
    """

    milter: Milter
    name: str
    does: Does
    program: Program | None = None

    @property
    def signs(self) -> bool:
        """Whether it signs, and has keys to do so as far as that is known."""
        return self.does.signs and (self.program is None or self.program.has_keys or not self.program.file)


def check(case: Case) -> Iterator[Finding]:
    """Yield filters that come too early, one finding for a list, and two that get in the way of one another."""
    seen: set[tuple[str, str]] = set()
    for milters in case.mta.lists.values():
        filters = [_filter(case, milter) for milter in milters]
        for finding in (*_early(case, milters, filters), *_signed_twice(case, filters), *_shared_id(case, filters)):
            if (finding.check, finding.where) not in seen:
                seen.add((finding.check, finding.where))
                yield finding


def _filter(case: Case, milter: Milter) -> _Filter:
    process = case.answer(milter).process
    if _is_own(case, milter):
        assert case.own is not None
        return _Filter(milter, case.own.name, case.own.does.done)
    program = program_of(process) if process is not None and process.aiomilter is None else None
    return _Filter(milter, program.name if program else "", program.does if program else Does(), program)


def _is_own(case: Case, milter: Milter) -> bool:
    """Return whether a filter is the one that was named: where it is told to listen, or the only one that may be it."""
    if case.own is None or case.own.listen:
        return case.is_own(milter)
    processes = {each: case.answer(each).process for each in case.mta.milters}
    ours = [each for each, process in processes.items() if process is not None and process.may_be_ours]
    return len(ours) == 1 and ours[0].text == milter.text


# ---------------------------------------------------------------------------------------------------------------- order


def _early(case: Case, milters: tuple[Milter, ...], filters: list[_Filter]) -> Iterator[Finding]:
    for number, early in enumerate(filters):
        for later in range(number + 1, len(filters)):
            late = filters[later]
            reason = _why_first(late, early)
            if reason is None or (reason == _UNREAD and any(each.does.verifies for each in filters[:number])):
                continue
            yield Finding(
                "order",
                Severity.WARNING,
                early.milter.place.where,
                f"{early.name} ({early.milter.text}) is asked before {late.name} ({late.milter.text})",
                reason,
                (*_moved(case, milters, number, later), *case.mta.reload),
            )
            return


def _why_first(one: _Filter, other: _Filter) -> str | None:
    """Return why a filter has to be asked before another; None if it has not."""
    first, then = one.does, other.does
    if first.verifies and then.evaluates:
        return _UNREAD
    # Ours is known to edit; one that could sign and has no key does not mind.
    closes = then.seals or (then.signs and (one.program is not None or other.signs))
    if first.edits and closes and not (first.signs or first.seals):
        return _SIGNED
    if one.signs and then.seals and not (first.seals or then.signs):
        return _SEALED
    if (
        first.verifies
        and not (first.signs or first.seals or first.edits)
        and then.edits
        and not (closes or then.verifies)
    ):
        return _CHANGED
    return None


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


# ------------------------------------------------------------------------------------------------- ours and those of others


def _signed_twice(case: Case, filters: list[_Filter]) -> Iterator[Finding]:
    """Yield filters of others that sign what another one signs, too."""
    signers = [each for each in filters if each.signs and (each.program is None or each.program.file)]
    for each in signers:
        if each.program is None or len(signers) < 2:
            continue
        other = next(one for one in signers if one is not each)
        verifies = each.does.verifies
        steps = each.program.set("Mode", "v") if verifies else (*each.milter.place.removed(), *case.mta.reload)
        yield Finding(
            "signed-twice",
            Severity.WARNING,
            each.milter.place.where,
            f"{each.name} ({each.milter.text}) and {other.name} ({other.milter.text}) both sign",
            "Messages get two signatures, which costs twice and proves nothing more.",
            steps,
        )
        return


def _shared_id(case: Case, filters: list[_Filter]) -> Iterator[Finding]:
    """Yield filters of others that write Authentication-Results by the name of the one that was named."""
    at = next((number for number, each in enumerate(filters) if _is_own(case, each.milter)), None)
    if case.own is None or at is None:
        return
    mta_name = case.mta.parameters.values.get("myhostname", "") if isinstance(case.mta, Postfix) else ""
    ours = {(each or mta_name).lower() for each in case.own.authserv_ids} - {""}
    for number, each in enumerate(filters):
        name = each.program.authserv_id(mta_name) if each.program is not None else None
        if each.program is None or name not in ours:
            continue
        why = "The filter removes results of that name as forged, and what reads them later finds none."
        if number > at:
            why = "Readers find two sets of results of one name, or one: it may remove those of the filter as forged."
        only_signs = each.does.signs and each.program.has_keys
        yield Finding(
            "authserv-id-shared",
            Severity.WARNING,
            each.milter.place.where,
            f"{each.name} ({each.milter.text}) writes Authentication-Results of {name}, as the filter does",
            why,
            each.program.set("Mode", "s") if only_signs else each.program.set("AuthservID", f"{each.name}.{name}"),
        )
