"""``dnsbl``: what the weights of lists come to, and who is refused."""

from typing import Any

import pytest

from aiomilter import filters
from aiomilter.compose import check
from tests.filters.ready.played import PASS, Reasons, Timed, answers, site

ZONE = """
1.2.0.192.bl.example A 127.0.0.2
1.2.0.192.second.example A 127.0.0.3
1.2.0.192.closed.example A 127.255.255.254
x.example.names.example A 127.0.1.2
"""
BL, SECOND, CLOSED, NAMES = "bl.example", "second.example", "closed.example", "names.example"


def refused(*lists: str) -> list[str]:
    return [f"550 5.7.1 The client or the sender's domain is listed by {', '.join(lists)}"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"client": {BL: 1}}, refused(BL)),
        ({"client": {BL: 1}, "reject_at": 2}, PASS),
        ({"client": {BL: 1, SECOND: 1}, "reject_at": 2}, refused(BL, SECOND)),
        ({"client": {BL: 0.5}, "domain": {NAMES: 0.5}}, refused(BL, NAMES)),
        ({"domain": {NAMES: 1, BL: 1}}, refused(NAMES)),
        ({"client": {CLOSED: 1, "away.example": 1}}, PASS),
    ],
)
async def test_weights_are_added_and_refuse_from_a_sum_on(settings: dict[str, Any], expected: list[str]) -> None:
    reasons = Reasons()
    where = site(zone=ZONE)
    assert await answers(Timed(), filters.Dnsbl(**settings), where=where, reasons=reasons) == expected
    assert reasons.found == (set() if expected == PASS else {"dnsbl"})


@pytest.mark.parametrize(
    "given",
    [
        {"client": "198.51.100.1"},
        {"client": "203.0.113.7"},
        {"client": ""},
        {"login": "alice"},
        {"sender": "", "client": "192.0.2.2"},
        {"recipients": ("postmaster@corp.example",)},
    ],
)
async def test_some_are_not_refused(given: dict[str, Any]) -> None:
    zone = ZONE + "1.100.51.198.bl.example A 127.0.0.2\n7.113.0.203.bl.example A 127.0.0.2\n"
    assert await answers(Timed(), filters.Dnsbl(client={BL: 1}), where=site(zone=zone), **given) == PASS


async def test_a_shadow_refuses_nobody() -> None:
    assert await answers(Timed(), check(filters.Dnsbl(client={BL: 1}), shadow=True), where=site(zone=ZONE)) == PASS


async def test_postmaster_is_reached_beside_others() -> None:
    to = ("u@corp.example", "postmaster@corp.example")
    found = await answers(Timed(), filters.Dnsbl(client={BL: 1}), where=site(zone=ZONE), recipients=to)
    assert found == [*refused(BL), *PASS]


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({}, "expected at least one of client, domain"),
        ({"client": {"b l": 1}}, "client: expected the domain names of lists"),
        ({"domain": {NAMES: 0}}, "domain: expected weights above 0"),
        ({"client": {BL: 1}, "reject_at": 0}, "reject_at: expected a number above 0"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=f"^{mistake}"):
        filters.Dnsbl(**settings)
