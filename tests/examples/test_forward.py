from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import pytest

from aiomilter import Milter, Reply
from aiomilter.auth import Authenticator, arc
from aiomilter.mail.srs import Rewriter
from aiomilter.testing import session
from aiomilter.testing.resolver import TIMEOUT, ZoneResolver
from tests.auth.arc.made import LIST, sealed
from tests.auth.dkim.made import MESSAGE, NOW, key, signed
from tests.examples.test_examples import load

example = load("forward")

AUTHOR: Final = key("ed25519")
OURS: Final = key("rsa", selector="arc1", domain=example.DOMAIN)
FORGED: Final = b"Authentication-Results: mx.example.org; dmarc=pass header.from=bank.example\r\n"


def resolver() -> ZoneResolver:
    found = ZoneResolver('example.com TXT "v=spf1 ip4:192.0.2.1 -all"\n_dmarc.example.com TXT "v=DMARC1; p=reject"\n')
    for each in (AUTHOR, OURS, LIST):
        found.add(each.name, "TXT", each.record())
    return found


def factory(zone: ZoneResolver) -> Callable[[], Milter]:
    auth = Authenticator(zone, authserv_ids=[example.NAME], clock=lambda: NOW)
    rewriter = Rewriter(["a secret of 16 octets"], example.DOMAIN, own_domains=example.OWN_DOMAINS)
    return lambda: example.Forward(auth, arc.Sealer(OURS), rewriter)


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
@pytest.mark.parametrize("before", [(), (LIST,)])
async def test_what_is_forwarded_gets_a_sender_of_ours_and_a_seal(
    before: tuple[arc.Sealer, ...], mta: Literal["postfix", "sendmail"]
) -> None:
    """A-020, A-021: also on top of a chain."""
    zone = resolver()
    message = FORGED + await sealed(signed(MESSAGE, AUTHOR), *before)  # type: ignore[arg-type]  # keys both
    async with session(factory(zone), client="192.0.2.1", helo="mail.example.com", mta=mta) as s:
        outcome = await s.send(message, "alice@example.com", "club@example.org")

    assert outcome.delivered is not None
    assert outcome.delivered.sender.address.endswith("=example.com=alice@fwd.example.org")
    assert b"bank" not in outcome.octets
    chain = await arc.verify(outcome.octets, resolver=zone)
    assert (chain.result, chain.problem, chain.instance, chain.oldest_pass) == ("pass", "", 1 + len(before), 0)
    newest = chain.sets[-1]
    assert newest.domain == example.DOMAIN
    assert newest.results is not None
    assert newest.results.authserv_id == example.NAME
    results = {each.method: each.result for each in newest.results.results}
    arc_result = "pass" if before else "none"
    assert results == {"iprev": "permerror", "spf": "pass", "dkim": "pass", "arc": arc_result, "dmarc": "pass"}


async def test_what_stays_here_is_marked_alone() -> None:
    async with session(factory(resolver()), client="192.0.2.1") as s:
        outcome = await s.send(MESSAGE, "alice@example.com", "bob@example.org")
    assert outcome.delivered is not None
    assert outcome.delivered.sender.address == "alice@example.com"
    assert b"ARC-" not in outcome.octets
    assert outcome.octets.startswith(b"Authentication-Results: mx.example.org;")


async def test_a_chain_that_cannot_be_checked_now_is_not_sealed_as_failed() -> None:
    """A-007."""
    zone = resolver()
    zone.add(LIST.name, "TXT", TIMEOUT)
    async with session(factory(zone), client="192.0.2.1") as s:
        outcome = await s.send(await sealed(MESSAGE, LIST), "alice@example.com", "club@example.org")
    assert outcome.answer == Reply(451, "4.7.0", "The chain of seals cannot be checked now")


async def test_bounces_go_back_where_they_belong() -> None:
    async with session(factory(resolver()), client="192.0.2.1") as s:
        sent = await s.send(MESSAGE, "alice@example.com", "club@example.org")
        assert sent.delivered is not None
        address = sent.delivered.sender.address
        bounce = await s.send(MESSAGE, "", address)
        assert bounce.delivered is not None
        assert [rcpt.address for rcpt in bounce.delivered.recipients] == ["alice@example.com"]
        await s.mail("<spammer@x.example>")
        assert await s.rcpt(f"<{address}>") == Reply(550, "5.7.1", "This address takes bounces only")
        await s.mail("<>")
        forged = address.replace("alice", "eve")
        assert await s.rcpt(f"<{forged}>") == Reply(550, "5.7.1", "Not an address for bounces: forged")


async def test_secrets_and_key_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "srs.secrets").write_text("a secret of 16 octets\n")
    (tmp_path / "srs.secrets").chmod(0o600)
    (tmp_path / "arc1.pem").write_bytes(OURS.private.pem())
    (tmp_path / "arc1.pem").chmod(0o600)
    monkeypatch.setenv("SRS_SECRETS", str(tmp_path / "srs.secrets"))
    monkeypatch.setenv("ARC_KEY", str(tmp_path / "arc1.pem"))
    async with example.milter() as make:
        assert isinstance(make(), Milter)
