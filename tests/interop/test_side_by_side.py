"""The same mail through the gateway and through the daemons whose place it takes, behind one Postfix.

They are Debian's OpenDKIM and OpenDMARC, and pyspf-milter, which tells OpenDMARC about SPF.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from aiomilter.auth.results import parse
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.oracles import Verified, dkimpy, opendkim_verifies, to_verify
from tests.dns.server import NameServer
from tests.filters.ready.gateway import factory
from tests.interop.client import accepted
from tests.interop.gateway_mail import KEYS, NAME, POLICIES, SPF, Sent, mail
from tests.interop.rigs import chain
from tests.interop.rigs.mta import free_port
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sink import Delivery
from tests.interop.scene import Scene
from tests.programs import need

pytestmark = [pytest.mark.interop, pytest.mark.slow]

CONFIGURATION: Final = f"""\
listen = {{ mx = "inet:0@127.0.0.1" }}
hostname = "{NAME}"
own_domains = ["example.test"]

[networks]
internal = ["198.51.100.99/32"]

[[filter]]
use = "authenticate"
dmarc = "enforce"
dmarc_quarantine = "quarantine"
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a message.

    Args:
        verdict: delivered, held, or the class of the refusal.
        results: Of each method, as delivered mail has them.
        delivery: What was delivered.
    """

    verdict: str
    results: dict[str, str]
    delivery: Delivery | None


@pytest.fixture
def rig() -> Iterator[Postfix]:
    """One Postfix; port ``ours`` asks the gateway, ``theirs`` the three daemons."""
    need(chain.missing())
    rig = Postfix()
    theirs = tuple(f"inet:{free_port()}@127.0.0.1" for _ in range(3))
    rig.ask({"ours": (rig.first,), "theirs": theirs})
    # One connection is several clients, one after the other.
    rig.smtpd = dict.fromkeys(rig.ports, "-o { smtpd_authorized_xclient_hosts = 0.0.0.0/0 }")
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


@asynccontextmanager
async def both(rig: Postfix, folder: Path) -> AsyncIterator[None]:
    """Serve the gateway and the three, who know the same records."""
    (folder / "gateway.toml").write_text(CONFIGURATION)
    keys = {each.name: each.record() for each in KEYS.values()}
    policies = {f"_dmarc.{domain}": text for domain, text in POLICIES.items() if text}
    spf = {f"{result}.{domain}": text for domain in POLICIES for result, text in SPF.items() if text}
    resolver = ZoneResolver()
    number = os.getpid()
    host = f"127.{number >> 16 & 63 | 64}.{number >> 8 & 255}.{number & 255 or 1}"
    async with NameServer(host=host, port=53) as nameserver:
        for name, text in {**keys, **policies, **spf}.items():
            resolver.add(name, "TXT", text)
        for name, text in spf.items():
            nameserver.add(name, "TXT", f'"{text}"')
        one, two, three = rig.filters["theirs"]
        async with (
            chain.serving(rig, (one, two, three), NAME, host, keys, policies),
            Scene(rig, "ours").filters(factory(folder / "gateway.toml", resolver)),
        ):
            yield


async def through(rig: Postfix, port: str, messages: Sequence[Sent]) -> list[dict[str, str]]:
    """Send all messages to a port, and return what is said of each."""
    said = []
    async with Scene(rig, port).connect("EHLO first.test") as client:
        for number, each in enumerate(messages):
            # As a client of its own: the filters get a new connection.
            assert accepted(await client.say(f"XCLIENT ADDR={each.client} NAME={each.helo}"))
            await client.say(f"EHLO {each.helo}")
            mark = f"X-Number: {port} {number}\r\n".encode()
            said.append(await client.send(mark + each.content, each.sender, ["bob@example.test"]))
    return said


def outcomes(said: list[dict[str, str]], port: str, delivered: dict[str, Delivery]) -> list[Outcome]:
    """Return what became of each message."""
    found = []
    for number, replies in enumerate(said):
        last = [*replies.values()][-1]
        delivery = delivered.get(f"{port} {number}")
        verdict = "delivered" if delivery else "held" if accepted(last) else last[:1]
        found.append(Outcome(verdict, results(delivery) if delivery else {}, delivery))
    return found


def results(delivery: Delivery) -> dict[str, str]:
    """Return the results of fields that are the gateway's own, the first of each method."""
    found: dict[str, str] = {}
    for value in delivery.values("Authentication-Results"):
        field = parse(value)
        if field is not None and field.authserv_id == NAME:
            for each in field.results:
                if each.method in ("spf", "dkim", "dmarc"):
                    found.setdefault(each.method, each.result)
    return found


async def played(rig: Postfix, folder: Path, messages: Sequence[Sent]) -> tuple[list[Outcome], list[Outcome]]:
    """Return what becomes of messages here, and there."""
    async with both(rig, folder):
        ours, theirs = await asyncio.gather(*(through(rig, port, messages) for port in ("ours", "theirs")))
        await rig.settled()
    delivered = {each.values("X-Number")[0].strip(): each for each in rig.deliveries}
    return outcomes(ours, "ours", delivered), outcomes(theirs, "theirs", delivered)


def reason(sent: Sent, ours: Outcome, theirs: Outcome) -> str | None:
    """Return why they may differ; None if there is no reason."""
    passes = ours.results.get("dmarc") == "pass"
    if "no key" in sent.what and ours.verdict == theirs.verdict:
        without = {method: result for method, result in ours.results.items() if method != "dkim"}
        return "OpenDKIM writes nothing of a key that is not there" if without == theirs.results else None
    if "From strict.example" in sent.what and (ours.verdict, theirs.results.get("dmarc")) == ("5", "pass"):
        return "OpenDMARC takes strict alignment for relaxed"
    if not sent.sender and passes and ours.results["spf"] == "pass" and theirs.verdict == "5":
        return "OpenDMARC lets SPF of the HELO name not count for a bounce, against RFC 7489 section 3.1.2"
    return None


def verified(
    messages: Sequence[Sent], found: Sequence[Outcome], folder: Path
) -> tuple[list[list[str]], list[list[str]]]:
    """Return what OpenDKIM and dkimpy say of the mail that was signed and is delivered."""
    records = {each.name: each.record() for each in KEYS.values()}
    questions = [
        Verified(each.delivery.content, records)
        for sent, each in zip(messages, found, strict=True)
        if sent.signed and each.delivery is not None
    ]
    return opendkim_verifies(folder, questions), dkimpy([to_verify(each) for each in questions])


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.long)])
async def test_the_gateway_says_what_the_daemons_say(rig: Postfix, tmp_path: Path, count: int) -> None:
    messages = list(mail(count))
    ours, theirs = await played(rig, tmp_path, messages)
    unequal = [each for each in zip(messages, ours, theirs, strict=True) if facts(each[1]) != facts(each[2])]
    unexplained = [f"{sent.what}: {facts(a)}, not {facts(b)}" for sent, a, b in unequal if reason(sent, a, b) is None]
    print(*unexplained, sep="\n")
    assert unexplained == []
    assert len(unequal) <= count // 20
    assert {each.verdict for each in ours} == {each.verdict for each in theirs} == {"delivered", "held", "5"}
    judges = verified(messages, ours, tmp_path)
    assert len(judges[0]) > count // 6
    assert all(each == ["pass"] for said in judges for each in said)


def facts(outcome: Outcome) -> tuple[str, dict[str, str]]:
    """Return what has to be the same."""
    return outcome.verdict, outcome.results
