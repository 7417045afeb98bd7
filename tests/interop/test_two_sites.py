"""Mail from one site to another: signed by our filter behind one Postfix, judged by ours and by OpenDKIM behind another."""

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from aiomilter import EndOfMessageContext, Milter, Response
from aiomilter.auth import Authenticator
from aiomilter.auth.results import parse
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import key
from tests.auth.dkim.oracles import Verified, dkimpy, opendkim_verifies, to_verify
from tests.examples.test_examples import load
from tests.interop.client import accepted
from tests.interop.rigs.mta import GLANCE, free_port
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sink import Delivery
from tests.interop.scene import Scene
from tests.interop.test_dkim import Signing
from tests.listening import listens
from tests.patience import PATIENCE
from tests.programs import need, needed

pytestmark = pytest.mark.interop

example = load("authenticate")

KEYS: Final = (key("rsa"), key("ed25519"))
RECORDS: Final = {each.name: each.record() for each in KEYS}
MESSAGE: Final = (
    b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject:  The\r\n\t minutes \r\n"
    b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nHello  Bob,\r\n.\r\n \tsee you \t\r\n\r\n"
)
OPENDKIM: Final = """\
Mode v
Socket inet:{port}@127.0.0.1
AuthservID judge.test
AlwaysAddARHeader yes
TestDNSData file:{folder}/zone
Syslog false
"""


class Marking(example.Authenticate):  # type: ignore[misc,name-defined]  # the module is loaded by its path
    """Writes what it finds, and leaves the rest to others: what the example does without the postmaster's word."""

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        found = await self.check.finish()
        ctx.insert_header("Authentication-Results", str(found.results()))
        return None


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    """Another Postfix: port ``ours`` asks our filter, ``opendkim`` a real OpenDKIM."""
    need(Postfix.missing())
    program = needed("opendkim")
    folder: Path = tmp_path_factory.mktemp("opendkim")
    (folder / "zone").write_text("".join(f"{name} {record}\n" for name, record in RECORDS.items()))
    port = free_port()
    (folder / "conf").write_text(OPENDKIM.format(port=port, folder=folder))
    rig = Postfix()
    rig.ask({"ours": (rig.first,), "opendkim": (f"inet:{port}@127.0.0.1",)})
    process = subprocess.Popen([program, "-f", "-x", str(folder / "conf")], stdin=-3, stdout=-3, stderr=-3)
    try:
        rig.start()
        yield rig
    finally:
        # It takes seconds to end by itself.
        process.kill()
        process.wait(PATIENCE)
        rig.stop()


async def signed(postfix: Scene) -> bytes:
    """Return a message as it leaves the first site."""
    async with postfix.filters(lambda: Signing("relaxed/relaxed")), postfix.connect() as client:
        replies = await client.send(MESSAGE)
    assert accepted(replies["."]), replies
    (delivery,) = await postfix.deliveries()
    return delivery.content


async def judged(
    second: Postfix, octets: bytes, filter_: Callable[[Authenticator], Milter] = example.Authenticate
) -> str | Delivery:
    """Give a message to our filter behind the second site; return the refusal, or what is delivered."""
    resolver = ZoneResolver({"_dmarc.example.com": {"TXT": "v=DMARC1; p=reject"}})
    for name, record in RECORDS.items():
        resolver.add(name, "TXT", record)
    auth = Authenticator(resolver, authserv_ids=[example.NAME])
    scene = Scene(second, "ours")
    async with scene.filters(lambda: filter_(auth)), scene.connect() as client:
        replies = await client.send(octets, "alice@example.com")
    if not accepted(replies["."]):
        return replies["."]
    (delivery,) = await scene.deliveries()
    return delivery


def results(delivery: str | Delivery, name: str) -> list[str]:
    """Return what one host's field says."""
    assert isinstance(delivery, Delivery), delivery
    fields = [found for value in delivery.values("Authentication-Results") if (found := parse(value)) is not None]
    return [f"{each.method}={each.result}" for field in fields if field.authserv_id == name for each in field.results]


async def test_what_is_signed_at_one_site_verifies_at_the_other(
    postfix: Scene, second: Postfix, tmp_path: Path
) -> None:
    octets = await signed(postfix)
    found = await judged(second, octets)
    scene = Scene(second, "opendkim")
    async with asyncio.timeout(PATIENCE):
        while not listens(second.filters["opendkim"][0]):
            await asyncio.sleep(GLANCE)
    async with scene.connect() as client:
        assert accepted((await client.send(octets, "alice@example.com"))["."])
    (theirs,) = await scene.deliveries()

    ours = ["iprev=permerror", "spf=none", "dkim=pass", "dkim=pass", "arc=none", "dmarc=pass"]
    assert results(found, example.NAME) == ours
    assert results(theirs, "judge.test")[:2] == ["dkim=pass", "dkim=pass"]
    question = Verified(octets, RECORDS)
    assert dkimpy([to_verify(question)]) == [["pass", "pass"]]
    assert opendkim_verifies(tmp_path, [question]) == [["pass", "pass"]]


@pytest.mark.parametrize(
    ("part", "other"),
    [(b"Hello  Bob", b"Pay Mallory"), (b"Subject:  The", b"Subject:  Pay"), (b"DKIM-Signature", b"X-Signature")],
)
async def test_a_forged_message_is_refused_when_the_postmaster_says_so(
    part: bytes, other: bytes, postfix: Scene, second: Postfix
) -> None:
    """M-054."""
    octets = (await signed(postfix)).replace(part, other)
    assert other in octets

    assert await judged(second, octets) == "550 5.7.1 rejected by the DMARC policy of example.com"
    marked = await judged(second, octets, Marking)
    assert results(marked, example.NAME)[-1] == "dmarc=fail"
    assert isinstance(marked, Delivery)
    (field,) = marked.values("Authentication-Results")
    assert re.search(r"dmarc=fail \(p=reject dis=reject\)\s+header.from=example.com policy.dmarc=reject", field)
