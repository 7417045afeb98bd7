"""``access``: whom its rules let by other filters, and who is let by only with proof."""

from typing import Any

import pytest

from aiomilter import Context, EndOfMessageContext, Milter, Reply, filters
from aiomilter.compose import check, compose
from aiomilter.filters.access_rules import AccessRule
from aiomilter.message import Message, MessageMilter
from aiomilter.policy import Reputation, Standing
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from aiomilter.wire.events import Rcpt

ZONE = 'x.example. TXT "v=spf1 ip4:192.0.2.1 -all"\n'
NETWORK: dict[str, Any] = {"client": ["192.0.2.0/24", "192.0.3.1"], "action": "accept"}
SENDER: dict[str, Any] = {"sender": ["x.example"], "action": "accept"}
SKIP: dict[str, Any] = {"client": ["192.0.2.0/24"], "action": "note"}
STRANGER = "192.0.3.1"


class Late(Milter):
    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Reply:
        return Reply(451, "4.7.1", "later")


class Judge(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> Reply:
        return Reply(550, "5.7.1", "bad")


class Mark(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        message.headers.append("X-Edit", "1")


async def sent(
    *rules: dict[str, Any], client: str = "192.0.2.1", login: str = "", shadow: bool = False, **auth: Any
) -> Any:
    milter = compose(
        check(filters.Access(rules=[AccessRule(**each) for each in rules]), shadow=shadow),
        filters.Authenticate(**auth),
        check(Late, name="late"),
        check(Judge, name="judge"),
        Mark,
        site=filters.Site(hostname="mx.corp.example", internal=(), resolver=ZoneResolver(ZONE)),
    )
    macros = {"auth_authen": login, "auth_type": "PLAIN"} if login else {}
    async with session(milter, client=client, hostname="h.x.example", helo="h.x.example", macros=macros) as s:
        return await s.send(b"From: a@x.example\r\n\r\nHi\r\n", "a@x.example", ("u@corp.example",))


@pytest.mark.parametrize(
    ("rules", "given", "code"),
    [
        ([], {}, 451),
        ([NETWORK], {}, None),
        ([NETWORK], {"client": "192.0.4.1"}, 451),
        ([NETWORK], {"shadow": True}, 451),
        ([{"login": ["alice"], "action": "accept"}], {"login": "alice", "client": STRANGER}, None),
        ([{"login": ["alice"], "action": "accept"}], {"login": "bob", "client": STRANGER}, 451),
        ([SENDER], {}, None),
        ([SENDER], {"client": STRANGER}, 451),
        ([{"sender": ["x.example"], "action": "note"}, NETWORK], {}, 451),
        ([SKIP | {"skip": ["late"]}], {}, 550),
        ([SKIP | {"skip": ["judge"]}], {}, 451),
        ([SKIP | {"skip": ["late", "judge"]}], {}, None),
        ([NETWORK], {"client": STRANGER, "spf_fail": "reject"}, None),
        ([NETWORK], {"client": STRANGER, "spf_fail": "reject", "at": "mail"}, None),
        ([NETWORK], {"client": STRANGER, "spf_fail": "discard"}, None),
        ([SENDER], {"client": STRANGER, "spf_fail": "reject", "at": "mail"}, 550),
    ],
)
async def test_a_rule_lets_mail_by_other_checks(rules: Any, given: dict[str, Any], code: int | None) -> None:
    found = await sent(*rules, **given)
    assert (None if found.passed else found.answer.code) == code


async def test_edits_and_results_are_there_for_mail_that_is_let_by() -> None:
    found = await sent(NETWORK, client=STRANGER)
    assert b"X-Edit: 1" in found.octets
    assert b"spf=fail" in found.octets


@pytest.mark.parametrize("action", ["quarantine", "header"])
async def test_mail_that_is_let_by_is_neither_held_nor_marked(action: str) -> None:
    found = await sent(NETWORK, client=STRANGER, spf_fail=action)
    assert found.passed
    assert found.delivered.quarantine is None
    assert b"X-Spam-Flag" not in found.octets


@pytest.mark.parametrize(("rules", "code"), [([], 550), ([NETWORK], None)])
@pytest.mark.parametrize("setting", ["reject_bad_share", "reject_bad_share_at_mail"])
async def test_a_bad_reputation_does_not_refuse_mail_that_is_let_by(
    rules: list[dict[str, Any]], code: int | None, setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bad(*_: object) -> Standing:
        return Standing(bad=100.0)

    monkeypatch.setattr(Reputation, "standing", bad)
    milter = compose(
        filters.Access(rules=[AccessRule(**each) for each in rules]),
        filters.Authenticate(),
        filters.Reputation(**dict[str, Any]({setting: 0.5})),
        site=filters.Site(hostname="mx.corp.example", internal=(), resolver=ZoneResolver(ZONE)),
    )
    async with session(milter, client="192.0.2.1", hostname="h.x.example", helo="h.x.example") as s:
        found = await s.send(b"From: a@x.example\r\n\r\nHi\r\n", "a@x.example", ("u@corp.example",))
    assert (None if found.passed else found.answer.code) == code


@pytest.mark.parametrize(
    "rule",
    [
        {"helo": ["x.example"], "action": "accept"},
        {"hostname": ["x.example"], "action": "accept"},
        {"sender": [""], "action": "accept"},
        {"recipient": ["u@corp.example"], "client": ["192.0.2.1"], "action": "accept"},
        {"header": "Subject", "words": ["x"], "action": "accept"},
        {"client": ["192.0.2.1"], "skip": ["late"]},
    ],
)
def test_what_can_be_forged_or_comes_too_late_lets_nothing_by(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        AccessRule(**rule)


@pytest.mark.parametrize("name", ["nobody", "authenticate", "access"])
async def test_what_is_skipped_has_to_be_there(name: str) -> None:
    with pytest.raises(TypeError, match="skip"):
        await sent(SKIP | {"skip": [name]})
