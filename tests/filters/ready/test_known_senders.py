"""``known_senders``: what is learnt, and when a sender counts as known."""

from typing import Any

import pytest

from aiomilter import filters
from aiomilter.compose import check
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import key, signed
from tests.auth.dkim.made import zone as zone_of
from tests.filters.ready.played import MESSAGE, PASS, AwayStore, Timed, answers, site

WAIT = ["451 4.7.1 Greylisted, come back in 300 s"]
ZONE = 'x.example TXT "v=spf1 ip4:192.0.2.1 -all"\ny.example TXT "v=spf1 ip4:192.0.2.1 -all"'
KNOWN = (filters.Authenticate(dmarc="off"), filters.KnownSenders(), filters.Greylist())


async def learnt(store: Any, octets: bytes = MESSAGE, *members: Any, **given: Any) -> None:
    """Have one of our users write to ``a@x.example``."""
    user: dict[str, Any] = {"login": "u", "sender": "u@corp.example", "recipients": ("a@x.example", "b@y.example")}
    found = await answers(store, *(members or KNOWN), octets=octets, where=site(store, ZONE), **user | given)
    assert found[-1] == "passes"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({}, True),
        ({"sender": "A@X.example"}, True),
        ({"sender": "c@x.example"}, False),
        ({"client": "192.0.2.99"}, False),
        ({"recipients": ("v@corp.example",)}, False),
        ({"sender": "b@y.example"}, True),
        ({"sender": ""}, None),
    ],
)
async def test_whom_a_user_has_written_to_is_known_with_proof(given: dict[str, Any], known: bool | None) -> None:
    store = Timed()
    await learnt(store)
    found = await answers(store, *KNOWN, where=site(store, ZONE), **given)
    assert found == (["passes", f"DATA {WAIT[0]}"] if known is None else PASS if known else WAIT)


@pytest.mark.parametrize(
    ("given", "field", "known"),
    [
        ({"login": "", "client": "198.51.100.1"}, b"", True),
        ({"sender": "u@elsewhere.example"}, b"", False),
        ({}, b"Auto-Submitted: auto-replied; owner=u\r\n", False),
        ({}, b"Auto-Submitted: No\r\n", True),
        ({}, b"Precedence: Bulk\r\n", False),
        ({}, b"Precedence: first-class\r\n", True),
    ],
)
async def test_it_learns_from_what_users_write_themselves(given: dict[str, Any], field: bytes, known: bool) -> None:
    store = Timed()
    await learnt(store, field + MESSAGE, **given)
    assert await answers(store, *KNOWN, where=site(store, ZONE)) == (PASS if known else WAIT)


async def test_it_learns_only_when_it_is_told_to() -> None:
    store = Timed()
    members = (KNOWN[0], filters.KnownSenders(learn_when=["authenticated"]), KNOWN[2])
    await learnt(store, MESSAGE, *members, login="", client="198.51.100.1")
    assert await answers(store, *members, where=site(store, ZONE)) == WAIT


async def test_a_pair_is_forgotten_after_a_time() -> None:
    store = Timed()
    await learnt(store)
    store.now += 61 * 86_400
    assert await answers(store, *KNOWN, where=site(store, ZONE)) == WAIT


async def test_at_the_end_of_the_message_dkim_is_a_proof() -> None:
    store, pair = Timed(), key("ed25519", domain="x.example")
    await learnt(store)
    octets = signed(MESSAGE, pair, now=store.now)
    members = (KNOWN[0], KNOWN[1], filters.Greylist(at="eom"))
    for resolver, expected in ((zone_of(pair), PASS), (ZoneResolver(""), ["passes", f"EOM {WAIT[0]}"])):
        where = site(store, resolver=resolver)
        assert await answers(store, *members, where=where, client="192.0.2.77", octets=octets) == expected


async def test_while_the_store_is_away_nobody_is_known_and_mail_passes() -> None:
    store = AwayStore()
    await learnt(store)
    assert await answers(store, *KNOWN, where=site(store, ZONE)) == PASS


async def test_a_shadow_learns_apart() -> None:
    store = Timed()
    await learnt(store, MESSAGE, KNOWN[0], check(filters.KnownSenders(), shadow=True))
    assert store.kinds == {"shadow:known"}


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^keep: expected seconds above 0"):
        filters.KnownSenders(keep="soon")
