"""``verify_from``: which authors belong, and what is done with others."""

import time
from typing import Any

import pytest

from aiomilter import filters
from aiomilter.compose import check, compose
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import key, signed
from tests.filters.ready.played import PASS, Reasons, Timed, answers, site

FOREIGN = ["passes", "EOM 550 5.7.1 {} in From is not an address that you may write from"]
UNCLEAR = ["passes", "EOM 550 5.7.1 The author in From is not clear"]


def message(*fields: str) -> bytes:
    return "".join(f"{each}\r\n" for each in (*fields, "Subject: x")).encode() + b"\r\nHello\r\n"


def foreign(address: str) -> list[str]:
    return [each.format(address) for each in FOREIGN]


@pytest.mark.parametrize(
    ("settings", "author", "given", "expected"),
    [
        ({}, "Boss <boss@corp.example>", {}, PASS),
        ({}, "boss@Shop.CORP.example", {}, PASS),
        ({"subdomains": False}, "boss@shop.corp.example", {}, foreign("boss@shop.corp.example")),
        ({"subdomains": False}, "boss@corp.example", {}, PASS),
        ({}, "boss@notcorp.example", {}, foreign("boss@notcorp.example")),
        ({}, '"boss@corp.example" <boss@out.example>', {}, foreign("boss@out.example")),
        ({}, "a@corp.example, b@out.example", {}, foreign("b@out.example")),
        ({}, "a@b\u00fccher.example", {}, foreign("a@b?cher.example")),
        ({"domains": ["out.example"]}, "b@out.example", {}, PASS),
        ({"domains": ["b\u00fccher.example"]}, "a@xn--bcher-kva.example", {}, PASS),
        ({"match": "address", "domains": ["a@out.example"]}, "A@OUT.example", {}, PASS),
        ({"match": "address", "domains": ["a@out.example"]}, "b@out.example", {}, foreign("b@out.example")),
        ({"match": "envelope"}, "b@x.example", {}, PASS),
        ({"match": "envelope"}, "b@corp.example", {}, foreign("b@corp.example")),
        ({"match": "envelope"}, "b@corp.example", {"sender": ""}, PASS),
        ({"match": "login"}, "u@corp.example", {"login": "U"}, PASS),
        ({"match": "login"}, "v@corp.example", {"login": "u"}, foreign("v@corp.example")),
        ({"match": "login"}, "u@out.example", {"login": "u"}, foreign("u@out.example")),
        ({"match": "login"}, "u@out.example", {"login": "u@out.example"}, PASS),
        ({"match": "login"}, "u@corp.example", {}, foreign("u@corp.example")),
        ({"action": "note"}, "b@out.example", {}, PASS),
        ({"action": "quarantine"}, "b@out.example", {}, PASS),
    ],
)
async def test_each_author_has_to_belong(
    settings: dict[str, Any], author: str, given: dict[str, Any], expected: list[str]
) -> None:
    reasons = Reasons()
    member = filters.VerifyFrom(**settings)
    found = await answers(Timed(), member, octets=message(f"From: {author}"), reasons=reasons, **given)
    assert found == expected
    is_told = expected != PASS or settings.get("action") == "quarantine"
    assert reasons.found == ({"foreign_from"} if is_told else set())


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("From: nobody",),
        ("From: <>",),
        ("From: a@corp.example", "From: b@corp.example"),
        ("Sender: a@corp.example",),
    ],
)
async def test_an_author_that_is_not_clear_is_refused(fields: tuple[str, ...]) -> None:
    reasons = Reasons()
    assert await answers(Timed(), filters.VerifyFrom(), octets=message(*fields), reasons=reasons) == UNCLEAR
    assert reasons.found == {"unclear_from"}
    assert await answers(Timed(), filters.VerifyFrom(ambiguous="note"), octets=message(*fields)) == PASS


async def mended(sender: str, *fields: str) -> bytes | str:
    """Return the message as it is delivered, or the refusal."""
    async with session(compose(filters.VerifyFrom(action="mend"), site=site())) as s:
        found = await s.send(message(*fields), sender, "b@out.example")
    return found.octets if found.delivered is not None else str(found.answer)


@pytest.mark.parametrize(
    ("sender", "fields", "expected"),
    [
        ("w@corp.example", ("From: V <v@y.example>",), ("Reply-To: V <v@y.example>", "From: <w@corp.example>")),
        (
            "w@corp.example",
            ("From: v@y.example", "Reply-To: d@corp.example"),
            ("From: <w@corp.example>", "Reply-To: d@corp.example"),
        ),
        ("w@corp.example", ("From: W <w@corp.example>",), ("From: W <w@corp.example>",)),
        ("", ("From: v@y.example",), ("From: v@y.example",)),
    ],
)
async def test_the_envelope_sender_takes_the_place_of_a_foreign_author(
    sender: str, fields: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert await mended(sender, *fields) == message(*expected)


async def test_a_foreign_sender_is_not_put_into_from() -> None:
    assert str(await mended("w@y.example", "From: v@y.example")).startswith("550 5.7.1 v@y.example in From")


async def test_our_domains_from_outside_need_a_dmarc_pass() -> None:
    pair = key("ed25519", domain="corp.example")
    records = {pair.name: pair.record(), "_dmarc.corp.example": "v=DMARC1; p=none"}
    where = site(resolver=ZoneResolver({name: {"TXT": text} for name, text in records.items()}))
    inverted = filters.VerifyFrom(invert=True)
    forged = message("From: Boss <boss@corp.example>")
    reasons = Reasons()
    found = await answers(Timed(), filters.Authenticate(), inverted, octets=forged, where=where, reasons=reasons)
    assert found[-1].startswith("EOM 550 5.7.1 From names one of our domains")
    assert reasons.found == {"own_from"}
    assert await answers(Timed(), inverted, octets=message("From: a@out.example"), where=where) == PASS
    proven = signed(forged, pair, now=time.time())
    assert await answers(Timed(), filters.Authenticate(), inverted, octets=proven, where=where) == PASS


async def test_a_shadow_changes_nothing() -> None:
    octets = message("From: b@out.example")
    assert await answers(Timed(), check(filters.VerifyFrom(), shadow=True), octets=octets) == PASS


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"domains": ["a b"]}, "domains: expected domain names"),
        ({"domains": ["a@x.example"]}, "domains: expected domain names"),
        ({"domains": ["x.example"], "match": "address"}, "domains: expected addresses"),
        ({"match": "address"}, "domains: expected addresses, found none"),
        ({"invert": True, "action": "mend"}, "invert: expected no mend"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=f"^{mistake}"):
        filters.VerifyFrom(**settings)


def test_it_needs_domains() -> None:
    with pytest.raises(ValueError, match=r"^domains: expected domains, or own_domains"):
        filters.VerifyFrom().check(filters.Site())
