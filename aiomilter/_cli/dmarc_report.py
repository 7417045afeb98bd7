"""The command ``aiomilter dmarc report``: the aggregate reports that are due, made of the records that filters have stored."""

import argparse
import asyncio
import contextlib
import fcntl
import gzip
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiomilter._cli.parsing import seconds, whole
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, USAGE, Trouble
from aiomilter._cli.zone import add_dns_options, answers
from aiomilter.auth.dmarc import (
    DayRecords,
    Destination,
    DmarcRecord,
    ReportStore,
    aggregate_xml,
    report_destinations,
    report_name,
)
from aiomilter.dns import Resolver, question_name

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Make the DMARC aggregate reports that are due: one for each day that is over (UTC) and each domain that wants them, of the
records in RECORDS, the directory of a ReportStore. Either write them into a directory, or hand each to a program. This command
sends no mail. Records are removed once all domains of their day have had their report; run it once a day, some minutes after
midnight UTC, and again after a failure: only what is left is done then.
"""
_EPILOG: Final = """\
PROGRAM is run without a shell, once for each report, as
  PROGRAM ARGUMENT... FILE ADDRESS...
with the compressed report in FILE, which is removed afterwards, and the addresses to send it to. Its environment has
DMARC_SUBJECT, the subject that RFC 9990 wants, and DMARC_DOMAIN. A report counts as delivered if PROGRAM exits with 0. Its
output goes to stderr.

examples:
  aiomilter dmarc report /var/lib/filter/dmarc --email dmarc@example.net --out reports
  aiomilter dmarc report /var/lib/filter/dmarc --email dmarc@example.net --command /usr/local/bin/send-report

exit codes: 0 done, also where nothing is due; 1 a report could not be made or delivered, or is to be tried again; 2 wrong usage
"""
_AT_ONCE: Final = 16
"""Domains that DNS is asked about at a time."""
_STDERR: Final = 2
_MAX_FILE_NAME: Final = 255
_EMAIL: Final = re.compile(r"[!#-'*+/-9=?A-Z^-~.-]+@([A-Za-z0-9.-]+)", re.ASCII)


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser("dmarc", help="the DMARC policy of a domain, and reports")
    ways = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(parser))
    way = ways.add_parser("report", help="make the reports that are due", description=_DESCRIPTION, epilog=_EPILOG)
    way.set_defaults(command=_report, parser=way)
    way.add_argument("records", metavar="RECORDS", help="the directory of the records")
    way.add_argument("--email", metavar="ADDRESS", required=True, help="for questions about the reports")
    way.add_argument("--receiver", metavar="DOMAIN", help="the reporter, in file names (default: of --email)")
    way.add_argument("--org-name", metavar="NAME", help="the reporter, in the reports (default: the receiver)")
    way.add_argument("--contact", metavar="TEXT", default="", help="more about whom to ask")
    rows = partial(whole, maximum=1_000_000)
    way.add_argument(
        "--max-rows", metavar="N", type=rows, default=20_000, help="of one report; the report says if there are more"
    )
    way.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=60.0, help="for PROGRAM, each time (default: 60)"
    )
    where = way.add_argument_group("where reports go").add_mutually_exclusive_group(required=True)
    where.add_argument("--out", metavar="DIRECTORY", type=Path, help="write them here")
    where.add_argument("--dry-run", action="store_true", help="only print what would be done")
    where.add_argument(
        "--command",
        dest="program",
        metavar="PROGRAM",
        nargs=argparse.REMAINDER,
        help="hand each to it; the last option",
    )
    add_dns_options(way)


class _Reporter(NamedTuple):
    """Who reports, and how.

    Args:
        domain: The reporter.
        options: Of the command line.
        folder: Where files are made.
        resolver: Answers the DNS questions.
    """

    domain: str
    options: argparse.Namespace
    folder: Path
    resolver: Resolver


def _report(options: argparse.Namespace) -> int:
    email = _EMAIL.fullmatch(options.email)
    if email is None:
        raise Trouble(f"--email: expected an address of mail, found {options.email!r:.300}", status=USAGE)
    domain = question_name(options.receiver or email[1])
    if domain is None or not re.fullmatch(r"[a-z0-9_-][a-z0-9_.-]*", domain):
        raise Trouble(f"--receiver: expected a domain name, found {options.receiver or email[1]!r:.300}", status=USAGE)
    if options.program is not None and not options.program:
        raise Trouble("--command: expected a program", status=USAGE)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(Path(options.records)))
            if options.out is not None:
                options.out.mkdir(exist_ok=True)
            folder = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmarc-")))
            return asyncio.run(_all(domain, options, folder))
    except OSError as error:
        raise Trouble(f"{error.filename or options.records}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(records: Path) -> Iterator[None]:
    """Keep another run of this command away from the records while inside."""
    directory = os.open(records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Trouble(f"{records}: another run is making reports of these records") from None
    finally:
        os.close(directory)


async def _all(domain: str, options: argparse.Namespace, folder: Path) -> int:
    """Make all reports that are due, and return the exit code."""
    status = 0
    async with answers(options) as resolver:
        reporter = _Reporter(domain, options, folder, resolver)
        for day in ReportStore(options.records).due():
            wanted = day.domains()
            if day.unread:
                _warn(f"{day.name}: {day.unread} lines are no records, and are passed over")
            done = 0
            for at in range(0, len(wanted), _AT_ONCE):
                some = wanted[at : at + _AT_ONCE]
                found = await asyncio.gather(*(_destinations(day, each, resolver) for each in some))
                for each, destinations in zip(some, found, strict=True):
                    done += await _one(reporter, day, each, destinations)
            if done < len(wanted):
                status = FAILED
            elif not options.dry_run:
                day.remove()
    return status


async def _destinations(day: DayRecords, domain: str, resolver: Resolver) -> tuple[Destination, ...]:
    """Return where the reports on a domain may go, as its last record of the day has it."""
    policy = None
    for record in day.records(domain):
        policy = record.policy
    return () if policy is None else await report_destinations(policy, domain, resolver)


async def _one(reporter: _Reporter, day: DayRecords, domain: str, destinations: Iterable[Destination]) -> bool:
    """Make and deliver one report; return whether nothing is left to do for the domain."""
    addresses = list(dict.fromkeys(each.address for each in destinations if each.address))
    refused = [each for each in destinations if each.problem]
    later = not addresses and any(each.temporary for each in refused)
    for each in refused:
        _warn(f"{domain}: not to {each.uri}: {each.problem}{'; to be tried again' if later and each.temporary else ''}")
    if later:
        return False
    if not addresses:
        return _marked(reporter, day, domain)
    name = report_name(reporter.domain, domain, day.begin, day.end - 1)
    if len(name) > _MAX_FILE_NAME:
        _warn(f"{domain}: too long for the name of a file, no report")
        return _marked(reporter, day, domain)
    problem = ""
    if not reporter.options.dry_run:
        report_id = f"{day.begin}.{domain}@{reporter.domain}"
        try:
            path = _written(reporter.folder / name, _compressed(reporter, day, domain, report_id))
            if reporter.options.program:
                problem = await _handed_over(reporter, path, domain, report_id, addresses)
                path.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            problem = str(error)
    if problem:
        _warn(f"{domain}: {problem}")
        return False
    print(safe(f"{name}: {', '.join(addresses)}"))
    return _marked(reporter, day, domain)


def _marked(reporter: _Reporter, day: DayRecords, domain: str) -> bool:
    if not reporter.options.dry_run:
        day.mark(domain)
    return True


def _compressed(reporter: _Reporter, day: DayRecords, domain: str, report_id: str) -> bytes:
    options = reporter.options
    rows, left_out = _rows(day.records(domain), options.max_rows)
    xml = aggregate_xml(
        rows,
        org_name=options.org_name or reporter.domain,
        email=options.email,
        report_id=report_id,
        begin=day.begin,
        end=day.end - 1,
        extra_contact_info=options.contact,
        errors=f"{left_out} more messages would be more than {options.max_rows} rows" if left_out else "",
    )
    # The same report has the same octets, whenever it is made.
    return gzip.compress(xml, mtime=day.end)


def _rows(records: Iterable[DmarcRecord], most: int) -> tuple[list[DmarcRecord], int]:
    """Return records with equal ones joined, in order, and the number of messages that are left out."""
    rows: dict[DmarcRecord, int] = {}
    left_out = 0
    for record in records:
        alike = replace(record, count=1)
        if alike in rows or len(rows) < most:
            rows[alike] = rows.get(alike, 0) + record.count
        else:
            left_out += record.count
    return [replace(each, count=count) for each, count in rows.items()], left_out


def _written(path: Path, octets: bytes) -> Path:
    """Write a file for its owner alone; it gets its name once it is whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".report-", delete=False) as file:
        try:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise
    return path


async def _handed_over(reporter: _Reporter, path: Path, domain: str, report_id: str, addresses: list[str]) -> str:
    """Run the program for one report, and return why it has failed; "" if it has not."""
    program = reporter.options.program
    subject = f"Report Domain: {domain} Submitter: {reporter.domain} Report-ID: <{report_id}>"
    process = await asyncio.create_subprocess_exec(
        *program,
        str(path),
        *addresses,
        stdin=asyncio.subprocess.DEVNULL,
        # What it says is for people; nothing is kept of it.
        stdout=_STDERR,
        env={**os.environ, "DMARC_SUBJECT": subject, "DMARC_DOMAIN": domain},
    )
    try:
        async with asyncio.timeout(reporter.options.timeout):
            status = await process.wait()
    except TimeoutError:
        return f"{program[0]} did not end within {reporter.options.timeout:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status == 0:
        return ""
    return f"{program[0]} failed with {f'exit status {status}' if status > 0 else f'signal {-status}'}"


def _warn(text: str) -> None:
    print(f"aiomilter: {safe(text)}", file=sys.stderr)
