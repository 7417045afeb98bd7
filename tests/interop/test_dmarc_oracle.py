"""libopendmarc says the same of generated messages, where RFC 7489 and RFC 9989 say the same."""

import asyncio
import random
from typing import Final

import pytest

from aiomilter.auth.dmarc import DmarcResult, evaluate
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dmarc.identities import Signed, spf_result
from tests.interop.rigs import libopendmarc
from tests.interop.rigs.libopendmarc import Message
from tests.programs import need

pytestmark = pytest.mark.interop

# Where each organization has one record, at its top, the walk and the list find the same Organizational Domain.
SUFFIXES: Final = ("com", "uk")
ORGANIZATIONS: Final = ("example.com", "example.uk")
OTHERS: Final = ("example.net", "badexample.com", "other.uk")
BELOW: Final = ("", "a.", "b.", "c.a.")


def messages(count: int) -> list[Message]:
    """Return messages that are the same every time."""
    chance = random.Random(9989)

    def domain() -> str:
        return chance.choice(BELOW) + chance.choice((*ORGANIZATIONS, *OTHERS))

    made = []
    for _ in range(count):
        organization = chance.choice(ORGANIZATIONS)
        author = chance.choice(BELOW) + organization
        tags = [f"p={chance.choice(('none', 'quarantine', 'reject'))}"]
        tags += chance.choice(([], ["sp=none"], ["sp=quarantine"], ["sp=reject"]))
        tags += chance.choice(([], ["adkim=r"], ["adkim=s"])) + chance.choice(([], ["aspf=r"], ["aspf=s"]))
        chance.shuffle(tags[1:])
        separator = chance.choice(("; ", ";", " ; "))
        record = separator.join(["v=DMARC1", *tags]) + chance.choice(("", ";"))
        at = chance.choice((author, organization))
        spf = (chance.choice(("pass", "fail")), chance.choice((author, domain())))
        results = [
            (chance.choice(("pass", "fail")), chance.choice((author, domain()))) for _ in range(chance.randrange(3))
        ]
        made.append(Message(author, record, at, spf, tuple(results)))
    return made


def ours(message: Message) -> DmarcResult:
    resolver = ZoneResolver()
    resolver.add(f"_dmarc.{message.at}", "TXT", message.record)
    for suffix in SUFFIXES:
        resolver.add(f"_dmarc.{suffix}", "TXT", "v=DMARC1; p=none; psd=y")
    result, domain = message.spf
    spf = spf_result("pass" if result == "pass" else "fail", domain)
    signatures = [Signed(*each) for each in message.dkim]
    return asyncio.run(evaluate([f"x@{message.author}"], spf=spf, dkim=signatures, resolver=resolver))


def otherwise(message: Message) -> bool:
    """Whether libopendmarc 1.4.2 says otherwise, for a reason that no RFC has."""
    passing = [domain for result, domain in (message.spf, *message.dkim) if result == "pass"]
    # It takes strict for relaxed.
    if "=s" in message.record and any(domain != message.author for domain in passing):
        return True
    # A signature of the author's organization that fails makes it forget one that passes.
    return any(result == "fail" and domain.endswith(ORGANIZATIONS) for result, domain in message.dkim)


def test_libopendmarc_says_the_same() -> None:
    need(libopendmarc.missing())
    played = [message for message in messages(500) if not otherwise(message)]
    assert len(played) > 200

    differing = []
    for message, theirs in zip(played, libopendmarc.judged(played, SUFFIXES), strict=True):
        found = ours(message)
        said = {"policy": "pass" if found.result == "pass" else found.policy, "aligned": list(found.aligned)}
        if said != theirs:
            differing.append((message, said, theirs))

    assert {found.result for found in map(ours, played)} == {"pass", "fail"}
    assert differing == []
