"""The example that forwards, behind Postfix and Sendmail: its seals hold where the message is delivered."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from aiomilter.auth import Authenticator, arc
from aiomilter.mail.srs import Rewriter
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.arc.made import RSA, sealed, with_footer
from tests.auth.arc.test_oracles import dkimpy, mail_dkim
from tests.auth.dkim.made import NOW, key, signed
from tests.auth.dkim.oracles import Verified, to_verify
from tests.examples.test_examples import load
from tests.interop.client import RECIPIENTS, accepted
from tests.interop.conftest import on_port
from tests.interop.scene import Scene
from tests.interop.test_dkim import ONE_ADDRESS

pytestmark = [pytest.mark.interop, pytest.mark.slow]

example = load("forward")

AUTHOR: Final = key("rsa")
OURS: Final = key("rsa", selector="arc1", domain=example.DOMAIN)
RECORDS: Final = {each.name: each.record() for each in (AUTHOR, RSA, OURS)}
FORGED: Final = b"Authentication-Results: mx.example.org; dmarc=pass header.from=bank.example\r\n"


@pytest.fixture(params=["postfix", "sendmail"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async for scene in on_port(request, request.param, "tcp"):
        yield scene


@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
async def test_what_is_forwarded_verifies_where_it_is_delivered(
    before: bool, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-020, A-021: also after a list that has changed and sealed the message."""
    zone = ZoneResolver({name: {"TXT": record} for name, record in RECORDS.items()})
    auth = Authenticator(zone, authserv_ids=[example.NAME], clock=lambda: NOW)
    rewriter = Rewriter(["a secret of 16 octets"], example.DOMAIN, own_domains=example.OWN_DOMAINS)
    monkeypatch.setattr(example, "FORWARDED", set(RECIPIENTS))
    message = signed(ONE_ADDRESS, AUTHOR)
    if before:
        message = await sealed(message, RSA, change=with_footer)
    async with (
        scene.filters(lambda: example.Forward(auth, arc.Sealer(OURS), rewriter)),
        scene.connect() as client,
    ):
        replies = await client.send(FORGED + message, "alice@example.com")
    assert accepted(replies["."]), replies
    (delivery,) = await scene.deliveries()

    assert delivery.sender.endswith("=example.com=alice@fwd.example.org")
    assert b"bank.example" not in delivery.content
    chain = await arc.verify(delivery.content, resolver=zone)
    assert (chain.result, chain.problem, chain.oldest_pass) == ("pass", "", 0)
    assert chain.sealers == (*[RSA.domain] * before, OURS.domain)
    newest = chain.sets[-1].results
    assert newest is not None
    found = {each.method: each.result for each in newest.results}
    assert (found["dkim"], found["arc"]) == (("fail", "pass") if before else ("pass", "none"))
    for judge in (dkimpy, mail_dkim):
        assert judge([to_verify(Verified(delivery.content, RECORDS))])[0][0] == "pass"
