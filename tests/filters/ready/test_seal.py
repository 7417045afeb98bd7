"""``seal``: what others check after us is what arrived, and what leaves."""

import time
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter import filters
from aiomilter._cli.trouble import Troubles
from aiomilter.auth import arc
from aiomilter.compose import compose
from aiomilter.message import Message, MessageMilter
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import key, signed, verified, zone
from tests.filters.ready.gateway import read

OURS: Final = key(domain="corp.example")
THEIRS: Final = key("ed25519", domain="signed.example")
MESSAGE: Final = b"From: a@signed.example\r\nSubject: x\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\nHello \r\n\r\n"


class Ring:
    async def keys(self, author: str, sender: str, auth: str | None) -> list[Any]:
        return [key("ed25519", domain="corp.example"), OURS] if author.endswith("@corp.example") else []


class Footer(MessageMilter):
    async def message(self, ctx: object, message: Message) -> None:
        message.banner(text="A footer.")


def site(resolver: ZoneResolver | None = None, **changes: Any) -> filters.Site:
    given: dict[str, Any] = {"hostname": "mx.corp.example", "internal": ("198.51.100.0/24",)}
    return filters.Site(**given | changes, resolver=resolver or zone(THEIRS, OURS))


def sealing(**settings: Any) -> filters.Seal:
    return filters.Seal(**{"keys": Ring(), "domain": "corp.example", **settings})


async def sent(*members: Any, octets: bytes = MESSAGE, client: str = "192.0.2.1", where: Any = None) -> Any:
    async with session(compose(filters.Authenticate(), *members, site=where or site()), client=client) as s:
        return await s.send(octets, "a@signed.example", "u@corp.example")


async def test_the_seal_holds_and_says_what_was_found() -> None:
    octets = b"Authentication-Results: mx.corp.example; dmarc=pass\r\n" + signed(MESSAGE, THEIRS, now=time.time())
    found = await sent(Footer, sealing(), octets=octets)
    chain = await arc.verify(found.octets, resolver=zone(OURS))
    assert (chain.result, chain.instance) == ("pass", 1)
    assert found.octets.startswith(b"ARC-Seal: ")
    recorded = next(
        line for line in found.octets.replace(b"\r\n ", b" ").split(b"\r\n") if line.startswith(b"ARC-Authent")
    )
    assert b"dkim=pass" in recorded
    assert b"dmarc=pass" not in recorded


async def test_a_second_seal_follows_a_first() -> None:
    first = await sent(sealing())
    again = await sent(sealing(), octets=first.octets)
    chain = await arc.verify(again.octets, resolver=zone(OURS))
    assert (chain.result, chain.instance) == ("pass", 2)


async def test_it_stands_above_our_signature() -> None:
    signing = filters.Sign(keys=Ring())
    octets = MESSAGE.replace(b"a@signed.example", b"a@corp.example")
    found = await sent(signing, sealing(), octets=octets)
    names = [
        line.partition(b":")[0] for line in found.octets.split(b"\r\n") if b": " in line and line[:1] not in b" \t"
    ]
    order = [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"DKIM-Signature"]
    assert [name for name in dict.fromkeys(names) if name in (*order, b"Authentication-Results")] == [
        *order,
        b"Authentication-Results",
    ]
    assert await verified(found.octets, OURS, key("ed25519", domain="corp.example"), now=time.time()) == [
        "pass",
        "pass",
    ]


async def test_our_own_mail_is_not_sealed() -> None:
    assert b"ARC-Seal" not in (await sent(sealing(), client="198.51.100.1")).octets


@pytest.mark.parametrize(("temporary", "answer"), [("note", ""), ("tempfail", "451 4.7.0 The chain of seals")])
async def test_a_chain_that_cannot_be_checked_now_is_not_sealed_as_broken(temporary: str, answer: str) -> None:
    first = await sent(sealing())
    broken = site(ZoneResolver(f"{OURS.name} TXT FAILURE"))
    found = await sent(sealing(temporary=temporary), octets=first.octets, where=broken)
    if answer:
        assert str(found.answer).startswith(answer)
    else:
        assert found.octets.count(b"ARC-Seal: ") == 1


async def test_without_authenticate_there_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="seal: expected authenticate among the members"):
        async with session(compose(sealing(), site=site())):
            pass
    (tmp_path / "gateway.toml").write_text('[[filter]]\nuse = "seal"\nkeys = "keys.toml"\n')
    with pytest.raises(Troubles, match=r"2: .*use: seal needs what authenticate finds; add"):
        read(tmp_path / "gateway.toml")


async def test_the_key_that_seals_has_to_be_clear() -> None:
    for settings, where, text in (
        ({"domain": "other.example"}, site(), "domain: expected a domain that has keys, found 'other.example'"),
        ({"domain": ""}, site(hostname=""), "domain: expected the domain whose key seals"),
    ):
        with pytest.raises(ValueError, match=text):
            await sent(sealing(**settings), where=where)
