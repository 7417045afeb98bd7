"""``authenticate``: what it writes, what it removes, and what it does about it."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from aiomilter import CONTINUE, Reply, filters, mta
from aiomilter.auth import Authentication
from aiomilter.auth.dkim import Options
from aiomilter.auth.results import parse
from aiomilter.compose import check, compose
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.handler import Milter
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from aiomilter.wire.events import Mail
from tests.auth.dkim.made import key, signed

KEY: Final = key("ed25519", domain="signed.example")
ZONE: Final = """
fail.example           TXT  "v=spf1 ip4:192.0.2.99 -all"
pass.example           TXT  "v=spf1 ip4:192.0.2.1 -all"
_dmarc.reject.example  TXT  "v=DMARC1; p=reject"
_dmarc.junk.example    TXT  "v=DMARC1; p=quarantine"
"""
MESSAGE: Final = (
    b"From: a@%s\r\nTo: u@corp.example\r\nSubject: x\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\nHello\r\n"
)


def site(**changes: Any) -> filters.Site:
    resolver = ZoneResolver(ZONE)
    resolver.add(KEY.name, "TXT", KEY.record())
    given: dict[str, Any] = {"hostname": "mx.corp.example", "own_domains": ("corp.example",), "resolver": resolver}
    return filters.Site(**{**given, "internal": ("198.51.100.0/24",), "trusted_relays": ("203.0.113.7",), **changes})


async def sent(
    settings: filters.Authenticate,
    octets: bytes,
    sender: str = "a@other.example",
    *,
    client: str = "192.0.2.1",
    macros: Mapping[str, str] = MappingProxyType({}),
    recipients: tuple[str, ...] = ("u@corp.example",),
    **changes: Any,
) -> mta.MessageResult:
    async with session(compose(settings, site=site(**changes)), client=client, macros=macros) as s:
        return await s.send(octets, sender, recipients)


def results(found: mta.MessageResult) -> list[str]:
    """Return the results in the one field that is ours, and that stands above all."""
    (field,) = values(found, "Authentication-Results")
    parsed = parse(field)
    assert parsed is not None
    assert parsed.authserv_id == "mx.corp.example"
    return [f"{each.method}={each.result}" for each in parsed.results]


def values(found: mta.MessageResult, name: str) -> list[str]:
    head = found.octets.partition(b"\r\n\r\n")[0].decode().replace("\r\n\t", " ").split("\r\n")
    return [line.partition(": ")[2] for line in head if line.lower().startswith(f"{name.lower()}:")]


TEXTS: Final = {
    "dmarc_reject": "550 5.7.1 the DMARC policy of reject.example",
    "ambiguous_from": "550 5.7.1 the author is not clear",
    "spf_none": "451 4.7.1 SPF none for the sender other.example",
}
FORGED: Final = b"authentication-results: (x) MX.corp.example; spf=pass\r\nX-Spam-Flag: NO\r\n"


async def test_one_field_says_everything() -> None:
    found = await sent(filters.Authenticate(), FORGED + signed(MESSAGE % b"signed.example", KEY, now=1_750_000_000))
    assert results(found) == ["iprev=permerror", "spf=none", "dkim=pass", "arc=none", "dmarc=none"]
    assert values(found, "X-Spam-Flag") == []


@pytest.mark.parametrize(
    ("client", "login", "written"),
    [("198.51.100.5", "", []), ("198.51.100.5", "alice", ["auth=pass"]), ("192.0.2.1", "alice", ["auth=pass"])],
)
async def test_our_own_are_not_judged_but_cannot_forge(client: str, login: str, written: list[str]) -> None:
    settings = filters.Authenticate(spf_fail="reject", dmarc="enforce")
    macros = {"auth_authen": login, "auth_type": "PLAIN"} if login else {}
    found = await sent(settings, FORGED + MESSAGE % b"reject.example", "a@fail.example", client=client, macros=macros)
    assert found.answer is CONTINUE
    assert results(found) == written
    if not written:
        assert values(found, "Authentication-Results") == ["mx.corp.example; none"]
    assert "alice" not in found.octets.decode()


async def test_a_login_is_shown_where_that_is_asked_for() -> None:
    macros = {"auth_authen": "alice", "auth_type": "PLAIN"}
    found = await sent(filters.Authenticate(show_login=True), MESSAGE % b"x.example", macros=macros)
    assert "smtp.auth=alice" in values(found, "Authentication-Results")[0]


@pytest.mark.parametrize(
    ("settings", "domain", "answer", "reason"),
    [
        ({"dmarc": "enforce"}, b"reject.example", Reply, "dmarc_reject"),
        ({"dmarc": "enforce"}, b"junk.example", "YES", ""),
        ({}, b"reject.example", "YES", ""),
        ({"dmarc_quarantine": "quarantine"}, b"reject.example", "held", ""),
        ({"dmarc": "report"}, b"reject.example", None, ""),
        ({"dmarc": "off"}, b"reject.example", None, ""),
        ({"header": "X-Junk"}, b"junk.example", "YES", ""),
        ({}, b"a.example, b@b.example", Reply, "ambiguous_from"),
        ({"ambiguous_from": "note"}, b"a.example, b@b.example", None, ""),
        ({"spf_pass": "quarantine"}, b"x.example", None, ""),
        ({"spf_none": "quarantine"}, b"x.example", "held", ""),
        ({"spf_none": "header"}, b"x.example", "YES", ""),
        ({"spf_none": "tempfail"}, b"x.example", Reply, "spf_none"),
    ],
)
async def test_what_is_found_has_the_consequence_that_is_set(
    settings: dict[str, Any], domain: bytes, answer: object, reason: str
) -> None:
    found = await sent(filters.Authenticate(**settings), MESSAGE % domain)
    if answer is Reply:
        assert isinstance(found.answer, Reply)
        assert TEXTS[reason] in str(found.answer)
        return
    assert found.delivered is not None
    held = found.delivered.quarantine is not None
    assert held == (answer == "held")
    assert values(found, settings.get("header", "X-Spam-Flag")) == (["YES"] if answer == "YES" else [])


async def test_each_recipient_is_refused_but_postmaster_can_be_reached() -> None:
    recipients = ("u@corp.example", "postmaster@corp.example", "<abuse@CORP.example>", "abuse@elsewhere.example")
    found = await sent(
        filters.Authenticate(spf_fail="reject"), MESSAGE % b"x.example", "a@fail.example", recipients=recipients
    )
    assert found.passed
    assert {name: str(reply)[:10] for name, reply in found.refused.items()} == {
        "u@corp.example": "550 5.7.23",
        "abuse@elsewhere.example": "550 5.7.23",
    }


async def test_refusals_can_be_told_at_mail() -> None:
    settings = filters.Authenticate(spf_fail="reject", at="mail")
    async with session(compose(settings, site=site())) as s:
        assert str(await s.mail("<a@fail.example>")).startswith("550 5.7.23")
        assert await s.mail("<a@pass.example>") is CONTINUE


async def test_behind_a_relay_of_ours_the_client_that_it_names_is_judged() -> None:
    received = b"Received: from m (m [192.0.2.1]) by mx2.corp.example; Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    settings = filters.Authenticate(spf_fail="reject", spf_pass="note")
    passes = await sent(settings, received + FORGED + MESSAGE % b"x.example", "a@pass.example", client="203.0.113.7")
    fails = await sent(settings, received + MESSAGE % b"x.example", "a@fail.example", client="203.0.113.7")
    assert "spf=pass" in values(passes, "Authentication-Results")[0]
    assert len(values(passes, "Authentication-Results")) == 2, "those of the relay stay"
    assert str(fails.answer).startswith("550 5.7.23")
    assert fails.stage.name == "EOM"


class Asks(Milter):
    """Says what it finds of SPF at RCPT, and of the rest at the end."""

    reads = (Authentication,)

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def eom(self, ctx: EndOfMessageContext) -> None:
        found = ctx.results.get(Authentication)
        assert found is not None
        ctx.add_header("X-Seen", f"{found.spf.result} {found.dkim[0].result}")


async def test_others_read_its_results_wherever_they_stand() -> None:
    octets = signed(MESSAGE % b"signed.example", KEY, options=Options(), now=1_750_000_000)
    async with session(compose(Asks, filters.Authenticate(), site=site())) as s:
        found = await s.send(octets, "a@pass.example", "u@corp.example")
    assert values(found, "X-Seen") == ["pass pass"]


class Tag(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.notes["tag"] = True

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Tag", "yes")


@pytest.mark.parametrize(("word", "sender", "tagged"), [
    ("spf_pass", "a@pass.example", True),
    ("spf_pass", "a@fail.example", False),
    ("spf_fail", "a@fail.example", True),
    ("helo_spf_none", "a@fail.example", True),
    ("trusted_relay", "a@pass.example", False),
])  # fmt: skip
async def test_words_of_its_results_are_known_at_mail(word: str, sender: str, tagged: bool) -> None:
    async with session(compose(check(Tag, when=word), filters.Authenticate(), site=site())) as s:
        found = await s.send(MESSAGE % b"x.example", sender, "u@corp.example")
    assert bool(values(found, "X-Tag")) == tagged


@pytest.mark.parametrize(
    ("word", "tagged"),
    [("dkim_pass", True), ("dkim_none", False), ("dmarc_none", False), ("dmarc_pass", True), ("arc_none", True)],
)
async def test_words_of_signatures_are_known_at_the_end(word: str, tagged: bool) -> None:
    class AtTheEnd(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Tag", "yes")

    resolver = ZoneResolver('_dmarc.signed.example TXT "v=DMARC1; p=reject"')
    resolver.add(KEY.name, "TXT", KEY.record())
    milter = compose(check(AtTheEnd, when=word), filters.Authenticate(), site=site(resolver=resolver))
    async with session(milter) as s:
        octets = signed(MESSAGE % b"signed.example", KEY, now=1_750_000_000)
        found = await s.send(octets, "a@pass.example", "u@corp.example")
    assert bool(values(found, "X-Tag")) == tagged


async def test_it_is_a_factory_by_itself(tmp_path: Path) -> None:
    settings = filters.Authenticate()
    async with session(settings.bind(site())) as s:
        found = await s.send(MESSAGE % b"x.example", "", "u@corp.example")
    assert results(found)[1] == "spf=none"
