"""The example that checks where mail comes from, behind Postfix and Sendmail."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from aiomilter.auth import Authenticator
from aiomilter.auth.dkim import Options
from aiomilter.auth.results import AuthenticationResults, parse
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import NOW, key, signed
from tests.examples.test_examples import load
from tests.interop.client import accepted
from tests.interop.conftest import on_port
from tests.interop.scene import Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

example = load("authenticate")

KEY: Final = key("ed25519", domain="signed.example")
ZONE: Final = """
spf.example            TXT  "v=spf1 ip4:127.0.0.1 -all"
_dmarc.spf.example     TXT  "v=DMARC1; p=reject"
_dmarc.signed.example  TXT  "v=DMARC1; p=reject; adkim=s"
1.0.0.127.in-addr.arpa PTR  client.test
client.test            A    127.0.0.1
"""
FORGED: Final = (
    b"Authentication-Results: mx.example.net; dmarc=pass\r\nauthentication-results: (x) MX.example.net; spf=pass\r\n"
)


def message(domain: str) -> bytes:
    """Return a message whose blanks matter to simple canonicalisation."""
    head = f"From: a@{domain}\r\nSubject:   three  blanks\r\n\tand a fold\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    return f"{head}Message-ID: <1@{domain}>\r\nTo: bob@example.test\r\n\r\n.dot\r\n  blanks \r\n\r\n\r\n".encode()


SIGNED: Final = signed(message("signed.example"), KEY, options=Options(canonicalization="simple/simple"))


@pytest.fixture(params=["postfix", "sendmail"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async for scene in on_port(request, request.param, "tcp"):
        yield scene


async def sent(scene: Scene, octets: bytes, sender: str) -> str | AuthenticationResults:
    """Send a message; return the refusal, or what our one field says."""
    resolver = ZoneResolver(ZONE)
    resolver.add(KEY.name, "TXT", KEY.record())
    auth = Authenticator(resolver, authserv_ids=[example.NAME], clock=lambda: NOW)
    async with scene.filters(lambda: example.Authenticate(auth)), scene.connect() as client:
        replies = await client.send(FORGED + octets, sender)
    if not accepted(replies["."]):
        return replies["."]
    (delivery,) = await scene.deliveries()
    (field,) = delivery.values("Authentication-Results")
    found = parse(field)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("octets", "sender", "results"),
    [
        (SIGNED, "a@other.example", "iprev=pass spf=none dkim=pass arc=none dmarc=pass"),
        (message("spf.example"), "a@spf.example", "iprev=pass spf=pass dkim=none arc=none dmarc=pass"),
        (message("other.example"), "", "iprev=pass spf=none dkim=none arc=none dmarc=none"),
    ],
)
async def test_mail_is_marked_once(scene: Scene, octets: bytes, sender: str, results: str) -> None:
    found = await sent(scene, octets, sender)

    assert isinstance(found, AuthenticationResults)
    assert [f"{each.method}={each.result}" for each in found.results] == results.split()


@pytest.mark.parametrize(
    ("octets", "domain"),
    [
        (message("spf.example"), "spf.example"),
        (message("signed.example"), "signed.example"),
        (SIGNED.replace(b"three", b"3"), "signed.example"),
        (SIGNED.replace(b"  blanks", b" blanks"), "signed.example"),
    ],
)
async def test_forged_mail_is_rejected(scene: Scene, octets: bytes, domain: str) -> None:
    assert await sent(scene, octets, "a@other.example") == f"550 5.7.1 rejected by the DMARC policy of {domain}"
