"""``reputation``: who is refused or trusted for what it has sent, and what is counted."""

from typing import Any

import pytest

from aiomilter import EndOfMessageContext, Milter, filters, policy
from aiomilter.compose import check
from aiomilter.filters.reputation import Judged
from tests.filters.ready.played import PASS, AwayStore, Reasons, Timed, answers, site

ZONE = 'x.example TXT "v=spf1 ip4:192.0.2.1 ?all"\nmail.example TXT "v=spf1 ip4:192.0.2.0/24 -all"'
BAD = ["550 5.7.1 Most of what we have seen of x.example was unwanted"]
WAIT = ["451 4.7.1 Greylisted, come back in 300 s"]


async def counted(good: float, bad: float, kind: str = "domain", domain: str = "x.example") -> Timed:
    """Return a store where messages were counted."""
    store = Timed()
    async with site(store).open_store() as opened:
        counts = policy.Reputation(opened)
        await counts.record(kind, domain, True, weight=good)
        await counts.record(kind, domain, False, weight=bad)
    return store


def members(**settings: Any) -> tuple[Any, ...]:
    return (filters.Authenticate(dmarc="off"), filters.Reputation(**settings))


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [(20, 180, BAD), (22.6, 77.4, PASS), (22, 78, BAD), (0, 29, PASS), (0, 30, BAD), (0, 0, PASS)],
)
async def test_a_domain_is_refused_from_a_share_and_evidence_on(good: float, bad: float, expected: list[str]) -> None:
    store, reasons = await counted(good, bad), Reasons()
    assert await answers(store, *members(), where=site(store, ZONE), reasons=reasons) == expected
    assert reasons.found == (set() if expected == PASS else {"bad_reputation"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"client": "192.0.2.9"}, PASS),
        ({"sender": "a@y.example"}, PASS),
        ({"sender": ""}, PASS),
        ({"login": "u"}, PASS),
        ({"client": "198.51.100.1"}, PASS),
        ({"client": "203.0.113.7"}, PASS),
        ({"recipients": ("postmaster@corp.example",)}, PASS),
        ({"recipients": ("u@corp.example", "abuse@corp.example")}, [*BAD, *PASS]),
    ],
)
async def test_some_are_not_refused(given: dict[str, Any], expected: list[str]) -> None:
    store = await counted(1, 99)
    assert await answers(store, *members(), where=site(store, ZONE), **given) == expected


async def test_what_does_not_pass_counts_apart() -> None:
    store = await counted(0, 99, "domain_neutral")
    assert await answers(store, *members(), where=site(store, ZONE)) == PASS
    assert await answers(store, *members(), where=site(store, ZONE), client="192.0.2.9") == BAD


@pytest.mark.parametrize(("bad", "expected"), [(94, [f"MAIL {BAD[0]}"]), (93, BAD), (70, PASS)])
async def test_at_mail_it_is_refused_from_another_share_on(bad: int, expected: list[str]) -> None:
    store = await counted(100 - bad, bad)
    found = await answers(store, *members(reject_bad_share_at_mail=0.934), where=site(store, ZONE))
    assert found == expected


@pytest.mark.parametrize(("good", "bad", "trusted"), [(72, 28, True), (71, 29, False), (29, 0, False)])
async def test_who_is_trusted_does_not_wait(good: int, bad: int, trusted: bool) -> None:
    store = await counted(good, bad)
    found = await answers(store, *members(), filters.Greylist(), where=site(store, ZONE))
    assert found == (PASS if trusted else WAIT)


@pytest.mark.parametrize(
    ("said", "counts"),
    [((), (0, 0)), ((True,), (1, 0)), ((False,), (0, 1)), ((True, False), (0, 1)), ((True, True), (1, 0))],
)
async def test_a_message_counts_if_a_filter_says_what_it_is(said: tuple[bool, ...], counts: tuple[int, int]) -> None:
    class Says(Milter):
        provides = (Judged,)

        async def eom(self, ctx: EndOfMessageContext) -> None:
            for good in said:
                ctx.results.put(Judged(good=good))

    store = Timed()
    assert await answers(store, *members(), Says, where=site(store, ZONE)) == PASS
    async with site(store).open_store() as opened:
        found = await policy.Reputation(opened).standing("domain", "x.example")
    assert (found.good, found.bad) == counts


async def test_while_the_store_is_away_nothing_is_known() -> None:
    store = AwayStore()
    found = await answers(store, *members(), filters.Greylist(), where=site(store, ZONE))
    assert found == PASS
    assert store.asked > 0


async def test_a_shadow_refuses_nobody() -> None:
    store = await counted(0, 99)
    shadow = check(filters.Reputation(), shadow=True)
    assert await answers(store, members()[0], shadow, where=site(store, ZONE)) == PASS


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"reject_bad_share": 0}, "reject_bad_share: expected a part above 0"),
        ({"trust_good_share": 1.1}, "trust_good_share: expected a part above 0"),
        ({"min_evidence": 0}, "min_evidence: expected 1 to 1000000"),
        ({"half_life": "2 years"}, "half_life: expected seconds above 0"),
        ({"half_life": "400 d"}, "half_life: expected 1 s to a year"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=f"^{mistake}"):
        filters.Reputation(**settings)
