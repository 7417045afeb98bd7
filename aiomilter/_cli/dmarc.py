"""The command ``aiomilter dmarc``: the DMARC policy of a domain, and where it was found."""

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any, Final

from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, USAGE, Trouble
from aiomilter._cli.zone import add_dns_options, answers
from aiomilter.auth import dmarc
from aiomilter.dns import Resolver
from aiomilter.exceptions import AddressError

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Show the DMARC policy of a domain as RFC 9989 finds it: each name that is asked on the way up, what is published there,
the Organizational Domain, the policy for mail of the domain, and who is sent reports.
"""
_EPILOG: Final = """\
examples:
  aiomilter dmarc news.example.com
  aiomilter dmarc news.example.com --nameserver 192.0.2.53
  aiomilter dmarc news.example.com --zone records.txt      before you publish them
  aiomilter dmarc report --help                            reports to domains about their mail

exit codes: 0 done, also where there is no policy; 1 DNS did not answer, or the policy cannot be used; 2 wrong usage
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "dmarc", help="show the DMARC policy of a domain", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=_show, parser=parser)
    parser.add_argument("domain", metavar="DOMAIN", help="the domain of a From address")
    add_dns_options(parser)


def _show(options: argparse.Namespace) -> int:
    return asyncio.run(_shown(options))


async def _shown(options: argparse.Namespace) -> int:
    async with answers(options) as resolver:
        try:
            walk = await dmarc.walk(options.domain, resolver=resolver)
        except AddressError as error:
            raise Trouble(str(error), status=USAGE) from None
        for line in _walked(walk):
            print(safe(line))
        # The author of a message without any passing identifier: only the policy is of interest.
        found = await dmarc.evaluate([f"postmaster@{walk.domain}"], resolver=resolver)
        if found.organizational_domain:
            print(f"organizational domain: {safe(found.organizational_domain)}")
        if found.record is None:
            print(safe(f"policy: none: {found.problem}"))
            return FAILED if walk.error or _unusable(walk) else 0
        for line in _policy(found):
            print(safe(line))
        for line in await _reports(found, resolver):
            print(safe(line))
    return 0


def _walked(walk: dmarc.Walk) -> Iterator[str]:
    width = max(len(level.domain) for level in walk.levels) + len("_dmarc.")
    for number, level in enumerate(walk.levels):
        yield f"{'_dmarc.' + level.domain:{width}}  {_published(level)}"
        if number == 0 and walk.skipped:
            yield "  (names with more than seven labels are passed over)"


def _published(level: dmarc.Level) -> str:
    if level.error:
        return f"DNS did not answer: {level.error}"
    if level.record is None:
        return f"{level.records} records: none of them counts" if level.records else "no record"
    record = level.record
    said: list[tuple[str, str | None]] = [
        ("p", record.p),
        ("sp", record.sp),
        ("np", record.np),
        ("adkim", record.adkim if record.adkim != "r" else None),
        ("aspf", record.aspf if record.aspf != "r" else None),
        ("psd", record.psd if record.psd != "u" else None),
        ("t", "y" if record.testing else None),
        ("rua", ",".join(record.rua)),
        ("ruf", ",".join(record.ruf)),
    ]
    shown = "; ".join(f"{name}={value}" for name, value in said if value)
    if not level.applies:
        return f"cannot be used: {record.problem}"
    return f"{shown} ({record.problem})" if record.problem else shown


def _policy(found: dmarc.DmarcResult) -> Iterator[str]:
    yield f"policy: {found.published} for mail of {found.author_domain} that fails, says {found.domain}"
    if found.policy != found.published:
        yield f"test mode (t=y): {found.policy} is to be applied"


async def _reports(found: dmarc.DmarcResult, resolver: Resolver) -> list[str]:
    assert found.record is not None
    lines = []
    for each in await dmarc.report_destinations(found.record, found.domain, resolver):
        lines.append(f"reports: {each.address}" if each.address else f"reports: not to {each.uri}: {each.problem}")
    return lines


def _unusable(walk: dmarc.Walk) -> bool:
    level = walk.policy
    return level is not None and not level.applies
