"""``greylist``: who has to come back, where that is told, and what holds while the store is away."""

from typing import Any

import pytest

from aiomilter import filters
from aiomilter.compose import check, compose
from aiomilter.testing import session
from tests.auth.dkim.made import key, signed
from tests.auth.dkim.made import zone as zone_of
from tests.filters.ready.played import PASS, AwayStore, Reasons, Timed, answers, site, told

POOL = 'pool.example TXT "v=spf1 ip4:192.0.2.0/24 ip4:203.0.113.0/24 -all"'
WAIT = "451 4.7.1 Greylisted, come back in 300 s"


async def test_it_passes_when_it_comes_back_in_time_and_not_too_early() -> None:
    store = Timed()
    assert await answers(store, filters.Greylist()) == [WAIT]
    store.now += 100
    assert await answers(store, filters.Greylist()) == [WAIT.replace("300", "200")]
    store.now += 200
    assert await answers(store, filters.Greylist()) == PASS
    assert await answers(store, filters.Greylist(), sender="b@x.example") == [WAIT]
    store.now += 49 * 3600
    assert await answers(store, filters.Greylist()) == PASS
    assert await answers(store, filters.Greylist(), sender="b@x.example") == [WAIT]


@pytest.mark.parametrize(
    ("given", "waits"),
    [
        ({}, True),
        ({"client": "198.51.100.1"}, False),
        ({"client": "203.0.113.7"}, False),
        ({"login": "alice"}, False),
        ({"client": ""}, False),
        ({"recipients": ("postmaster@corp.example",)}, False),
        ({"recipients": ("Abuse@CORP.example",)}, False),
        ({"recipients": ("postmaster@x.example",)}, True),
    ],
)
async def test_some_never_wait(given: dict[str, Any], waits: bool) -> None:
    assert await answers(Timed(), filters.Greylist(), **given) == ([WAIT] if waits else PASS)


async def test_one_recipient_waits_and_another_passes() -> None:
    found = await answers(Timed(), filters.Greylist(), recipients=("u@corp.example", "abuse@corp.example"))
    assert found == [WAIT, *PASS]


async def test_the_eleventh_refusal_is_left_to_data() -> None:
    to = tuple(f"u{number}@corp.example" for number in range(13))
    reasons = Reasons()
    found = await answers(Timed(), filters.Greylist(), recipients=to, reasons=reasons)
    assert reasons.found == {"greylisted"}
    assert found == [WAIT] * 10 + ["passes"] * 3 + [f"DATA {WAIT}"]


async def test_a_bounce_waits_at_data() -> None:
    store, bounce = Timed(), dict[str, Any](sender="", recipients=("u@corp.example", "v@corp.example"))
    assert await answers(store, filters.Greylist(), **bounce) == ["passes", "passes", f"DATA {WAIT}"]
    store.now += 300
    assert await answers(store, filters.Greylist(), **bounce) == ["passes", *PASS]


@pytest.mark.parametrize(("given", "waits"), [("pass", False), ("tempfail", True)])
async def test_while_the_store_is_away_it_does_what_is_set(given: Any, waits: bool) -> None:
    found = await answers(AwayStore(), filters.Greylist(on_failure=given))
    assert found == ([WAIT.replace("300", "30")] if waits else PASS)


async def test_a_shadow_counts_apart_and_lets_all_pass() -> None:
    store = Timed()
    assert await answers(store, check(filters.Greylist(), shadow=True)) == PASS
    assert store.kinds == {"shadow:grey"}
    store.now += 300
    assert await answers(store, filters.Greylist()) == [WAIT]


async def test_where_spf_passes_the_domain_may_come_back_from_elsewhere() -> None:
    store, members = Timed(), (filters.Authenticate(), filters.Greylist())
    assert await answers(store, *members, sender="n@pool.example", where=site(store, POOL)) == [WAIT]
    store.now += 300
    again: dict[str, Any] = {"sender": "m@pool.example", "where": site(store, POOL)}
    assert await answers(store, *members, client="203.0.113.200", **again) == PASS
    assert await answers(store, *members, client="198.18.0.1", **again) == [WAIT]


async def test_at_the_end_of_the_message_dkim_counts_too() -> None:
    store, pair = Timed(), key("ed25519", domain="signed.example")
    octets = signed(b"From: a@signed.example\r\nSubject: x\r\n\r\nHello\r\n", pair, now=store.now)
    members = (filters.Authenticate(), filters.Greylist(at="eom"))
    found = []
    for client in ("192.0.2.1", "203.0.113.200"):
        where = site(store, resolver=zone_of(pair))
        async with session(compose(*members, site=where), client=client) as s:
            found.append(await s.send(octets, f"{client}@x.example", ["postmaster@corp.example", "u@corp.example"]))
        store.now += 300
    assert [told(each.answer) for each in found] == [WAIT, "passes"]


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"delay": "soon"}, "delay: expected seconds above 0"),
        ({"delay": "3 h", "window": "2 h"}, "window: expected more than delay"),
        ({"keep": "1 h"}, "window: expected more than delay, and keep of as much or more"),
        ({"exempt_recipients": ["a@"]}, "exempt_recipients: expected addresses"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=f"^{mistake}"):
        filters.Greylist(**settings)
