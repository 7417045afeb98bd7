"""The report of an examination, for people."""

from collections.abc import Iterator
from typing import Final

from aiomilter._doctor.examination import Report
from aiomilter._doctor.findings import Finding, Kind, Step
from aiomilter._doctor.model import Milter

__all__ = ["text"]

_RESULTS: Final = {
    "filter": "speaks the milter protocol",
    "nobody": "nothing listens there",
    "silent": "does not answer",
    "not a filter": "does not speak the milter protocol",
    "no host": "there is no such host",
    "unknown": "not tried",
}


def text(report: Report) -> Iterator[str]:
    """Yield the lines of a report; what is to be typed stands on lines of its own, after four blanks."""
    for milter in report.case.mta.milters:
        yield f"{milter.text}: {_answer(report, milter)} ({milter.place.where})"
    if not report.case.mta.milters:
        yield "no filter is asked"
    for finding in report.findings:
        yield ""
        yield from _finding(finding)
    yield ""
    yield _sum(report)


def _answer(report: Report, milter: Milter) -> str:
    answer = report.case.answer(milter)
    said = _RESULTS[answer.result]
    if answer.agreed is not None:
        said += f", version {answer.agreed.version}"
    process = answer.process
    if process is None:
        return said
    who = process.name if process.aiomilter is None else f"aiomilter {process.aiomilter}".rstrip()
    return f"{who} (process {process.pid}) {said}"


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity.value}: {finding.check}: {finding.what}"
    yield f"  in {finding.where}"
    yield f"  {finding.why}"
    for step in finding.mend:
        yield f"  {_heading(step)}:"
        yield f"    {step.text}"


def _heading(step: Step) -> str:
    match step.kind:
        case Kind.RUN:
            return "run"
        case Kind.SERVE:
            return "serve the filter by"
    if not step.replaces:
        return f"write at the end of {step.file}"
    if not step.lines:
        return f"write into {step.file}, before line {step.replaces}"
    last = step.replaces + step.lines - 1
    return f"write into {step.file}, in place of line {step.replaces}" + (f" to {last}" if step.lines > 1 else "")


def _sum(report: Report) -> str:
    if not report.findings:
        return "no findings"
    count = len(report.findings)
    return f"{count} finding{'s' if count > 1 else ''}; changes are yours to make, the doctor has made none"
