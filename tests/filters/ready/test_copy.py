"""``copy``: who gets a message by which rules."""

from typing import Any

import pytest

from aiomilter import DISCARD, filters
from aiomilter.compose import compose
from aiomilter.filters.copy import CopyRule
from aiomilter.testing import session
from tests.filters.ready.played import MESSAGE, Reasons, site

ARCHIVE = "archive@corp.example"


async def delivered(rules: list[dict[str, Any]], sender: str, *recipients: str, reasons: Reasons | None = None) -> Any:
    copy = filters.Copy(rules=[CopyRule(**rule) for rule in rules])
    async with session(compose(copy, site=site()), observer=reasons) as s:
        await s.mail(f"<{sender}>")
        for each in recipients:
            await s.rcpt(f"<{each}>")
        found = await s.message(MESSAGE)
    return found.answer if found.delivered is None else [each.address for each in found.delivered.recipients]


@pytest.mark.parametrize(
    ("rules", "sender", "recipients", "get"),
    [
        ([{"to": [ARCHIVE]}], "a@x.example", ["u@y.example"], ["u@y.example", ARCHIVE]),
        ([{"to": ARCHIVE, "sender": "A@X.example"}], "a@x.example", ["u@y.example"], ["u@y.example", ARCHIVE]),
        ([{"to": ARCHIVE, "sender": "b@x.example"}], "a@x.example", ["u@y.example"], ["u@y.example"]),
        ([{"to": ARCHIVE, "sender": "@x.example"}], "a@x.example", ["u@y.example"], ["u@y.example", ARCHIVE]),
        ([{"to": ARCHIVE, "sender": ".example"}], "a@x.example", ["u@y.example"], ["u@y.example", ARCHIVE]),
        ([{"to": ARCHIVE, "recipient": "u@y.example"}], "", ["u@y.example"], ["u@y.example", ARCHIVE]),
        ([{"to": ARCHIVE, "recipient": "u@y.example"}], "", ["v@y.example"], ["v@y.example"]),
        # Once, whoever asks for it.
        ([{"to": ARCHIVE}, {"to": [ARCHIVE]}], "", [ARCHIVE], [ARCHIVE]),
        # In place of one, and of none that another rule wants.
        (
            [{"recipient": "u@y.example", "to": "b@z.example", "instead": True}],
            "a@x.example",
            ["u@y.example", "v@y.example"],
            ["v@y.example", "b@z.example"],
        ),
        (
            [{"recipient": "u@y.example", "to": ["u@y.example", "b@z.example"], "instead": True}],
            "a@x.example",
            ["u@y.example"],
            ["u@y.example", "b@z.example"],
        ),
        ([{"recipient": "y.example", "discard": True}], "", ["u@y.example", "u@z.example"], ["u@z.example"]),
    ],
)
async def test_who_gets_it(rules: list[dict[str, Any]], sender: str, recipients: list[str], get: list[str]) -> None:
    assert await delivered(rules, sender, *recipients) == get


async def test_a_message_that_no_one_gets_is_dropped_for_a_reason() -> None:
    reasons = Reasons()
    assert (
        await delivered([{"sender": "a@x.example", "discard": True}], "a@x.example", "u@y.example", reasons=reasons)
        is DISCARD
    )
    assert reasons.found == {"copy_discard"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "to: expected addresses, or discard"),
        ({"to": "nobody"}, "to: expected addresses, found 'nobody'"),
        ({"to": "a@b.example\r\nX: y"}, "to: expected addresses"),
        ({"to": ["a@b.example"] * 101}, "to: expected at most 100 addresses, found 101"),
        ({"to": "a@b.example", "sender": "?"}, "sender: expected an address, a domain"),
        ({"to": "a@b.example", "instead": True}, "instead: expected a recipient"),
        ({"to": "a@b.example", "discard": True}, "discard: expected no to"),
    ],
)
def test_what_cannot_be_meant_is_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CopyRule(**rule)


def test_it_has_rules() -> None:
    with pytest.raises(ValueError, match="rules: expected at least one"):
        filters.Copy()
