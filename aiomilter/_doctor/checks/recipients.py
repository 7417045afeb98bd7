"""Refusals by recipient, and forwarding, against what Postfix does with them."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Severity
from aiomilter._doctor.milter_lists import split, write
from aiomilter._doctor.postconf import Parameters
from aiomilter._doctor.postfix import Postfix
from aiomilter.wire.constants import Stage

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "hard-error-limit": "Postfix hangs up on a client after fewer refused recipients than a message may have",
    "aliases-lead-outside": "virtual_alias_maps forwards to other domains, which a filter that rewrites senders does not see",
}
_RECIPIENTS: Final = 100
"""Recipients of one message that every SMTP server takes.

Source: RFC 5321 section 4.5.3.1.8.
"""
_MOST: Final = 1 << 20
_TEXT: Final = ("hash", "btree", "lmdb", "texthash", "cdb", "dbm")
"""Kinds of maps whose source is a text of that name."""


def check(case: Case) -> Iterator[Finding]:
    """Yield limits that refusals exceed, and aliases that lead outside."""
    if not isinstance(case.mta, Postfix) or case.own is None:
        return
    parameters = case.mta.parameters
    limit = parameters.values.get("smtpd_hard_error_limit", "")
    asked = any(Stage.RCPT in wants.stages - wants.no_reply for wants in case.own.wants)
    if asked and limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) <= _RECIPIENTS:
        yield Finding(
            "hard-error-limit",
            Severity.WARNING,
            f"{parameters.main_cf}: smtpd_hard_error_limit",
            f"the filter answers each recipient, and Postfix hangs up after {limit} refusals",
            "The whole message is lost for all recipients then, at each retry; a message may have 100 recipients and more.",
            (write(parameters, "smtpd_hard_error_limit", str(_RECIPIENTS + 1)), *case.mta.reload),
        )
    if case.own.does.rewrites_senders:
        yield from _aliases(case.mta, parameters)


def _aliases(mta: Postfix, parameters: Parameters) -> Iterator[Finding]:
    own = {parameters.values.get(name, "").lower() for name in ("myhostname", "mydomain", "myorigin")}
    for name in ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"):
        own.update(each.lower() for each in split(parameters.values.get(name, "")))
    for table in split(parameters.values.get("virtual_alias_maps", "")):
        for number, alias, targets in _entries(table):
            outside = next(
                (each for each in targets if (at := each.rpartition("@"))[1] and at[2].lower() not in own), None
            )
            if outside is None:
                continue
            path = table.partition(":")[2]
            yield Finding(
                "aliases-lead-outside",
                Severity.WARNING,
                f"{path}:{number}" if number else f"{parameters.main_cf}: virtual_alias_maps",
                f"virtual_alias_maps forwards {alias} to {outside}",
                "A filter sees recipients before aliases are looked up, and cannot rewrite the sender for this one; SPF of the "
                "sender's domain fails at the other server. Let sender_canonical_maps do it: 'aiomilter help srs'.",
                (),
            )
            return


def _entries(table: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the entries of a map that is, or is made from, a text: line or 0, alias, targets."""
    kind, _, rest = table.partition(":")
    if kind == "inline":
        for entry in split(rest.strip()[1:-1]):
            alias, _, targets = entry.strip("{} ").partition("=")
            yield 0, alias.strip(), re.split(r"[,\s]+", targets.strip())
        return
    if kind not in _TEXT:
        return
    try:
        with open(rest, "rb") as file:
            lines = file.read(_MOST).decode("utf-8", "surrogateescape").split("\n")
    except (OSError, ValueError):
        return
    for number, line in enumerate(lines, 1):
        words = line.split(None, 1)
        if len(words) == 2 and line[:1] not in ("#", " ", "\t"):
            yield number, words[0], re.split(r"[,\s]+", words[1].strip())
