"""Reputation is the good share of what was seen, halved with time, and says how much it rests on."""

from typing import Any

import pytest

from aiomilter.policy import Reputation, Standing
from aiomilter.policy.stores import GuardedStore
from aiomilter.policy.stores.memory import MemoryStore
from tests.policy.store_steps import Moved
from tests.policy.test_rates import KEYS, Down

DAY = 86_400


def reputation(clock: Moved | None = None, **options: Any) -> Reputation:
    return Reputation(GuardedStore(MemoryStore(clock=clock or Moved()), KEYS, timeout=None), **options)


async def test_of_a_stranger_nothing_is_known() -> None:
    assert await reputation().standing("domain", "example.com") == Standing(0.5, 0.0)


async def test_the_score_is_the_good_share_and_confidence_grows() -> None:
    found = reputation()
    for _ in range(8):
        await found.record("domain", "example.com", True)
    assert await found.record("domain", "example.com", False, weight=2) == Standing(9 / 12, 0.5, 8.0, 2.0)
    for _ in range(90):
        await found.record("domain", "example.com", True)
    assert (await found.standing("domain", "example.com")).confidence == pytest.approx(100 / 110)


async def test_what_is_older_counts_less() -> None:
    clock = Moved()
    found = reputation(clock)
    await found.record("user", "bob", False, weight=100)
    for days, bad in ((0, 100), (15, 75), (30, 50), (60, 25), (90, 12.5)):
        clock.now = Moved().now
        clock.move(days * DAY)
        assert (await found.standing("user", "bob")).bad == pytest.approx(bad)
    await found.record("user", "bob", True, weight=100)
    clock.move(15 * DAY)
    standing = await found.standing("user", "bob")
    assert (standing.good, standing.bad) == pytest.approx((75, 9.375))
    clock.move(300 * DAY)
    assert await found.standing("user", "bob") == Standing()


async def test_many_messages_a_second_lose_nothing() -> None:
    clock = Moved()
    found = reputation(clock)
    for _ in range(1000):
        clock.now += 1000
        await found.record("user", "bob", True)
    assert (await found.standing("user", "bob")).good == pytest.approx(1000, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("domain", "Example.COM.", "example.com", True),
        ("domain", "b\u00fccher.example", "xn--bcher-kva.example", True),
        ("ip_net", "192.0.2.1", "192.0.2.254", True),
        ("ip_net", "192.0.2.1", "192.0.3.1", False),
        ("ip_net", "2001:db8::1", "2001:db8:0:ff::1", True),
        ("user", "bob", "BOB", True),
        ("user", "bob", "bo", False),
    ],
)
async def test_spellings_of_one_have_one_standing(kind: str, one: str, other: str, same: bool) -> None:
    found = reputation()
    await found.record(kind, one, True)
    assert ((await found.standing(kind, other)).good == 1) is same
    assert (await found.standing("other", one)).good == 0


async def test_a_subject_can_be_forgotten() -> None:
    found = reputation()
    await found.record("domain", "example.com", False)
    assert (await found.forget("domain", "example.com")).bad == 1
    assert await found.standing("domain", "example.com") == Standing()
    assert await found.record("ip_net", None, False) == Standing()


async def test_without_a_store_nothing_is_known() -> None:
    found = Reputation(GuardedStore(Down(), KEYS))
    assert await found.record("domain", "x.example", True) == Standing(problem="gone")
    assert await found.standing("domain", "x.example") == Standing(problem="gone")


async def test_wrong_arguments_are_refused() -> None:
    for half_life in (0, -1, 1e9):
        with pytest.raises(ValueError, match="half_life"):
            reputation(half_life=half_life)
    for weight in (-1, 1001):
        with pytest.raises(ValueError, match="weight"):
            await reputation().record("user", "bob", True, weight=weight)
    with pytest.raises(ValueError, match="kind"):
        await reputation().record("User", "bob", True)
