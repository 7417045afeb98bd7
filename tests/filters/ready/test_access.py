"""``access``: which rule counts, who is exempt, and who is banned."""

import time
from pathlib import Path
from typing import Any

import pytest

from aiomilter import CONTINUE, DISCARD, Reply, filters
from aiomilter.compose import compose
from aiomilter.filters.access_rules import AccessRule, Seen, compiled, rules_of
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import key, signed

SITE: dict[str, Any] = {
    "hostname": "mx.corp.example",
    "own_domains": ("corp.example",),
    "internal": ("198.51.100.0/24",),
    "trusted_relays": ("203.0.113.7",),
}
MESSAGE = b"From: a@x.example\r\nSubject: =?utf-8?q?Cheap_r=6flex?=\r\n\r\nHello\r\n"


async def sent(settings: dict[str, Any], *recipients: str, octets: bytes = MESSAGE, **changes: Any) -> Any:
    given = {"client": "192.0.2.1", "sender": "a@x.example", "helo": "mail.x.example", "login": ""} | changes
    macros = {"auth_authen": given["login"], "auth_type": "PLAIN"} if given["login"] else {}
    milter = compose(filters.Access(**settings), site=filters.Site(**SITE))
    who = {each: given[each] for each in ("client", "hostname", "helo") if each in given}
    async with session(milter, **who, macros=macros) as s:
        return await s.send(octets, given["sender"], recipients or ("u@corp.example",))


def rules(*given: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [AccessRule(**each) for each in given]}


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (rules({"client": ["192.0.2.0/24"]}), 550),
        (rules({"client": ["192.0.3.0/24"]}), None),
        (rules({"client": ["192.0.2.0/24"], "sender": ["y.example"]}), None),
        (rules({"sender": ["x.example"], "action": "tempfail"}), 451),
        (rules({"sender": [".x.example"]}), None),
        (rules({"sender": ["a@X.example"]}), 550),
        (rules({"helo": ["x.example"]}), 550),
        (rules({"hostname": [".example"]}), 550),
        (rules({"login": ["alice"]}), None),
        (rules({"sender": ["a@x.example"], "action": "note"}, {"client": ["192.0.2.1"]}), None),
        (rules({"header": "subject", "words": ["ROLEX"]}), 550),
        (rules({"header": "Subject", "words": ["role"]}), None),
        (rules({"header": "Subject", "regex": "ch[ea]+p r"}), 550),
        (rules({"header": "To", "words": ["rolex"]}), None),
        (rules({"sender": ["x.example"], "action": "note"}, {"header": "Subject", "words": ["rolex"]}), None),
        (rules({"header": "Subject", "words": ["rolex"], "action": "note"}, {"sender": ["x.example"]}), 550),
        (rules({"header": "Subject", "words": ["rolex"], "sender": ["y.example"]}), None),
    ],
)
async def test_the_first_rule_that_holds_counts(given: dict[str, Any], answer: int | None) -> None:
    found = await sent(given)
    assert (found.answer.code if not found.passed else None) == answer


@pytest.mark.parametrize(
    ("client", "answer"), [("", None), ("::ffff:192.0.2.1", 550), ("::ffff:192.0.3.1", None), ("2001:db8::1", None)]
)
async def test_a_network_holds_ipv4_clients_of_ipv6_sockets_and_no_client_without_an_address(
    client: str, answer: int | None
) -> None:
    found = await sent(rules({"client": ["192.0.2.0/24"]}), client=client)
    assert (found.answer.code if not found.passed else None) == answer


@pytest.mark.parametrize("settings", [{"null_sender_from": ["198.51.100.1"]}, {"false_localhost": "reject"}])
@pytest.mark.parametrize("client", ["::ffff:198.51.100.1", "::ffff:127.0.0.1"])
async def test_ipv4_clients_of_ipv6_sockets_may_do_what_others_may(settings: dict[str, Any], client: str) -> None:
    hostname = "localhost" if "127" in client else "mail.corp.example"
    assert (await sent(settings, client=client, hostname=hostname, sender="")).passed


async def test_a_rule_about_recipients_is_about_each() -> None:
    given = rules({"recipient": ["u@corp.example"], "reply": "gone"}, {"sender": ["x.example"], "action": "note"})
    found = await sent(given, "u@corp.example", "v@corp.example")
    assert found.refused == {"u@corp.example": Reply(550, "5.7.1", "gone")}
    assert found.passed


@pytest.mark.parametrize(("action", "mark"), [("header", True), ("quarantine", False), ("discard", False)])
async def test_what_is_no_refusal_waits_for_the_end(action: Any, mark: bool) -> None:
    for given in (
        {"sender": ["x.example"]},
        {"recipient": ["u@corp.example"]},
        {"header": "Subject", "words": ["rolex"]},
    ):
        found = await sent(rules({**given, "action": action}))
        if action == "discard":
            assert found.answer is DISCARD
        else:
            assert (b"X-Spam-Flag: YES" in found.octets) == mark
            assert (found.delivered.quarantine is not None) != mark


async def test_postmaster_hears_of_those_who_are_refused() -> None:
    found = await sent({"helo_own": ["corp.example"]}, "u@corp.example", "postmaster@corp.example", helo="corp.example")
    assert found.passed
    assert set(found.refused) == {"u@corp.example"}


@pytest.mark.parametrize("changes", [{"client": "198.51.100.1"}, {"client": "203.0.113.7"}, {"login": "alice"}])
async def test_our_own_may_say_what_they_like_in_helo(changes: dict[str, Any]) -> None:
    settings = {"helo_own": ["corp.example"], "helo_address": "reject", "ban": {"after": 1}}
    assert (await sent(settings, helo="corp.example", **changes)).passed
    assert (await sent(settings, helo="192.0.2.7", **changes)).passed


@pytest.mark.parametrize(
    ("settings", "changes", "reply"),
    [
        ({"inside_sender": "own"}, {"client": "198.51.100.1"}, "this machine sends from"),
        ({"inside_sender": "own"}, {"client": "198.51.100.1", "sender": ""}, ""),
        ({"inside_sender": "own"}, {"client": "198.51.100.1", "login": "a"}, ""),
        ({"inside_sender": "own"}, {"client": "127.0.0.1"}, ""),
        ({"null_sender_from": ["198.51.100.2"]}, {"client": "198.51.100.1", "sender": ""}, "no bounces"),
        ({"null_sender_from": ["198.51.100.0/30"]}, {"client": "198.51.100.1", "sender": ""}, ""),
        ({"own_sender": "never"}, {"sender": "x@sub.corp.example"}, "comes from here"),
        ({"own_sender": "never"}, {"sender": "x@corp.example", "login": "x"}, ""),
        ({"login_sender": {"*": ["corp.example"]}}, {"login": "x"}, "your login may not"),
        ({"login_sender": {"*": ["corp.example"], "x": ["x.example"]}}, {"login": "x"}, ""),
        ({"login_sender": {"y": []}}, {"login": "x"}, ""),
        ({"inside_only_recipients": ["corp.example"]}, {}, "only our own"),
        ({"inside_only_recipients": ["corp.example"]}, {"client": "198.51.100.1"}, ""),
    ],
)
async def test_each_rule_is_for_whom_it_is(settings: dict[str, Any], changes: dict[str, Any], reply: str) -> None:
    found = await sent(settings, **changes)
    assert found.passed == (reply == "")
    assert reply in str(found.answer)


async def test_our_domain_from_elsewhere_needs_a_proof() -> None:
    ours = key("ed25519", domain="corp.example")
    resolver = ZoneResolver({ours.name: {"TXT": ours.record()}})
    milter = compose(
        filters.Authenticate(), filters.Access(own_sender="authenticated"), site=filters.Site(**SITE, resolver=resolver)
    )
    octets = b"From: u@corp.example\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\nHello\r\n"
    async with session(milter) as s:
        forged = await s.send(octets, "u@corp.example", "v@corp.example")
        proven = await s.send(signed(octets, ours, now=time.time()), "u@corp.example", "v@corp.example")
    assert str(forged.answer).startswith("550 5.7.1 mail from this domain is signed")
    assert proven.passed


async def test_who_is_refused_again_and_again_is_banned() -> None:
    settings = filters.Access(recipients={"corp.example": ["u"]}, ban={"after": 2, "for": "1h"})
    async with compose(settings, site=filters.Site(**SITE))() as make:
        for client, code in (("192.0.2.1", 250), ("192.0.2.1", 550), ("192.0.2.2", 250), ("198.51.100.1", 250)):
            async with session(make, client=client) as s:
                await s.mail("<a@x.example>")
                assert (await s.rcpt("<u@corp.example>")).code == code, client
                if client == "192.0.2.1" and code == 250:
                    refused = [await s.rcpt(f"<{name}@corp.example>") for name in "vw"]
                    assert all(str(each).startswith("550 5.1.1") for each in refused)


def test_rules_are_read_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "access.toml").write_text(
        '[[rule]]\nsender = ["bad.example"]\n[[rule]]\nheader = "Subject"\nwords = ["x"]\n'
    )
    assert [each.sender for each in rules_of(tmp_path / "access.toml")] == [("bad.example",), ()]
    (tmp_path / "access.toml").write_text('[[rule]]\nsendr = ["bad.example"]\n')
    with pytest.raises(ValueError, match=r"access\.toml:2: \[rule\[1\]\] sendr: unknown, did you mean sender\?"):
        rules_of(tmp_path / "access.toml")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sender": "x.example"},
        {"sender": ["@"]},
        {"client": ["192.0.2.1/24"]},
        {"words": ["x"]},
        {"header": "Subject"},
        {"header": "Subject", "words": ["x"], "recipient": ["u@corp.example"]},
        {"header": "Subject", "regex": "(a+)+"},
        {"header": "Subject", "regex": "(a|b*)*c"},
        {"header": "Subject", "regex": "("},
        {"header": "Subject", "regex": "(?:x{2,})+"},
    ],
)
def test_a_rule_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|regex|client"):
        AccessRule(**given)


def test_a_pattern_is_looked_for_in_the_beginning_of_a_field() -> None:
    holds = compiled(AccessRule(header="Subject", regex="x$|x"))
    assert holds(Seen(header=("subject", "x" + "y" * 999))) is True
    assert holds(Seen(header=("subject", "y" * 1000 + "x"))) is False
    assert holds(Seen()) is None


async def test_an_ordinary_message_passes() -> None:
    assert (await sent({"helo_required": True, "false_localhost": "reject", "bounce_recipients": 1})).answer is CONTINUE
