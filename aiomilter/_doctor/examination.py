"""An examination: read how the MTA is set up, connect to what it asks, and check all of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from aiomilter._doctor.backends import away
from aiomilter._doctor.case import Case, Own, machine_address
from aiomilter._doctor.checks import CHECKS
from aiomilter._doctor.findings import Finding, Severity, in_order
from aiomilter._doctor.model import Mta
from aiomilter._doctor.reaching import reach
from aiomilter._doctor.resolving import resolving
from aiomilter.addresses import Inet, Unix

__all__ = ["Report", "examine", "unreadable"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination has found.

    Args:
        case: What was looked at.
        findings: The worst first.
    """

    case: Case
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether mail is refused, lost, or passes without the filter."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def as_json(self) -> Mapping[str, object]:
        """Return it as ``aiomilter doctor --json`` prints it."""
        return {
            "format": 1,
            "mta": self.case.mta.kind,
            "milters": [
                {
                    "endpoint": milter.text,
                    "where": milter.place.where,
                    "list": milter.list_name,
                    "asked_by": [asker.name for asker in milter.askers],
                    **self.case.answer(milter).as_json(),
                }
                for milter in self.case.mta.milters
            ],
            "findings": [finding.as_json() for finding in self.findings],
        }


async def examine(mta: Mta, own: Own | None = None) -> Report:
    """Return what is wrong with an MTA and its filters.

    Args:
        mta: As it is set up.
        own: The filter that the postmaster named; None for none.
    """
    answers = await reach(_addresses(mta, own), mta.kind)
    dns = await resolving(own.lists) if own is not None and own.does.resolves else None
    missing = await away(own.backends) if own is not None else []
    case = Case(mta, answers, own, dns, missing)
    return Report(case, in_order(finding for check in CHECKS for finding in check(case)))


def unreadable(kind: Literal["postfix", "sendmail"], where: str, why: str) -> Report:
    """Return the report on an MTA whose configuration cannot be read.

    Args:
        kind: Which.
        where: The file.
        why: What is wrong with it.
    """
    consequence = "The MTA does not start with it, or goes on as it was set up before."
    finding = Finding("configuration-unreadable", Severity.ERROR, where, why, consequence, ())
    return Report(Case(Mta(kind, ()), {}), (finding,))


def _addresses(mta: Mta, own: Own | None) -> Iterator[Inet | Unix]:
    for milter in mta.milters:
        for asker in milter.askers:
            address = machine_address(milter, asker)
            if address is not None:
                yield address
        # Outside the chroot, too.
        if isinstance(milter.endpoint.address, Unix):
            yield Unix("/" + milter.endpoint.address.path.lstrip("/"))
    if own is not None:
        yield from own.listen
