"""Rates are exact, of several all count or none, and hold without a store as is said."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.exceptions import StoreError
from aiomilter.policy import Rate, RateLimit, RateState
from aiomilter.policy.stores import GuardedStore, Op, open_store
from aiomilter.policy.stores.keys import Keys
from aiomilter.policy.stores.memory import MemoryStore
from tests.policy.store_steps import Moved

KEYS = Keys([b"k" * 16])


def limit(rates: dict[str, Any], clock: Moved | None = None, **options: Any) -> RateLimit:
    store = MemoryStore(clock=clock or Moved())
    return RateLimit(GuardedStore(store, KEYS, timeout=None), rates, **options)


async def passed(rates: RateLimit, name: str, key: Any, tries: int, cost: int = 1) -> int:
    return sum([not (await rates.hit(name, key, cost)).exceeded for _ in range(tries)])


async def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Moved()
    rates = limit({"user": Rate(200, per=3600, burst=50)}, clock)
    assert await passed(rates, "user", "bob", 60) == 50
    assert await rates.hit("user", "bob") == RateState(True, wait=18.0)
    clock.move(18)
    assert await rates.hit("user", "bob") == RateState(False, remaining=0)
    clock.move(3600)
    assert await rates.hit("user", "bob") == RateState(False, remaining=49)


@given(
    st.integers(1, 20),
    st.sampled_from([0.001, 1, 7, 60, 3600]),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 8)), max_size=60),
)
def test_no_window_has_more_than_burst_and_rate(
    count: int, per: float, burst: int, tries: list[tuple[int, int]]
) -> None:
    """Against a log of all that was let through."""
    rate, clock = Rate(count, per=per, burst=burst), Moved()
    rates, log = limit({"r": rate}, clock), []

    async def play() -> None:
        for later, cost in tries:
            clock.now += later
            if not (await rates.hit("r", "x", cost)).exceeded:
                log.append((clock.now, cost))

    asyncio.run(play())
    for first in range(len(log)):
        for last in range(first, len(log)):
            seconds = (log[last][0] - log[first][0]) / 1e6
            assert sum(cost for _, cost in log[first : last + 1]) <= burst + seconds * count / per + 1e-6


@given(st.integers(1, 20), st.lists(st.integers(0, 5 * 10**6), max_size=60))
def test_what_is_within_the_rate_is_let_through(burst: int, gaps: list[int]) -> None:
    """Whatever waits as long as it is told is let through then, and nothing before."""
    clock = Moved()
    rates = limit({"r": Rate(1, per=1, burst=burst)}, clock)

    async def play() -> None:
        for gap in gaps:
            clock.now += gap
            state = await rates.hit("r", "x")
            if state.exceeded:
                clock.now += round(state.wait * 1e6) - 1
                assert (await rates.peek("r", "x")).exceeded
                clock.now += 1
                assert not (await rates.hit("r", "x")).exceeded

    asyncio.run(play())


async def test_several_rates_of_a_name_all_count_or_none_does() -> None:
    clock = Moved()
    rates = limit({"user": [Rate(5, per=60), Rate(8, per=86_400)]}, clock)
    assert await passed(rates, "user", "bob", 10) == 5
    clock.move(60)
    assert await passed(rates, "user", "bob", 10) == 3
    clock.move(60)
    assert (await rates.hit("user", "bob")).exceeded
    assert (await rates.hit("user", "bob")).wait == pytest.approx(86_400 / 8 - 120)


async def test_the_cost_is_counted_at_once_or_not() -> None:
    rates = limit({"user": Rate(10, per=60)})
    assert (await rates.hit("user", "bob", 8)).remaining == 2
    assert (await rates.hit("user", "bob", 3)).exceeded
    assert not (await rates.hit("user", "bob", 2)).exceeded
    assert (await rates.hit("user", "eve", 11)).exceeded
    assert (await rates.hit("user", "eve", 10**30)).exceeded
    assert (await rates.peek("user", "eve", 0)).remaining == 10


async def test_to_look_counts_nothing_and_to_forgive_all() -> None:
    rates = limit({"user": Rate(2, per=60)})
    for _ in range(5):
        assert await rates.peek("user", "bob") == RateState(False, remaining=1)
    assert await passed(rates, "user", "bob", 3) == 2
    assert (await rates.peek("user", "bob")).exceeded
    await rates.forgive("user", "bob")
    assert await passed(rates, "user", "bob", 3) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob", "BoB"),
        ("bob@example.org", " Bob@EXAMPLE.ORG. "),
        ("b\u00f6b@b\u00fccher.example", "B\u00d6B@xn--bcher-kva.example"),
        ("b\u00f6b", "bo\u0308b"),
        ("192.0.2.1", ip_address("::ffff:192.0.2.1")),
        (ip_address("2001:db8::1"), "2001:db8:0:0:ffff::2"),
    ],
)
async def test_spellings_of_one_have_one_rate(one: Any, other: Any) -> None:
    rates = limit({"r": Rate(1, per=60)})
    assert await passed(rates, "r", one, 1) == 1
    assert await passed(rates, "r", other, 1) == 0


@pytest.mark.parametrize(
    ("one", "other"), [("bob", "bo"), ("192.0.2.1", "192.0.2.2"), ("2001:db8::", "2001:db8:0:1::")]
)
async def test_others_have_rates_of_their_own(one: str, other: str) -> None:
    rates = limit({"r": Rate(1, per=60), "s": Rate(1, per=60)})
    assert [await passed(rates, *each, 2) for each in (("r", one), ("r", other), ("s", one))] == [1, 1, 1]


async def test_local_mail_has_no_rate() -> None:
    rates = limit({"client": Rate(1, per=60)})
    assert await passed(rates, "client", None, 5) == 5


class Down:
    """A store that is down."""

    def __init__(self) -> None:
        self.asked = 0

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        self.asked += 1
        raise StoreError("gone")

    async def ready(self) -> str | None:
        return "gone"

    async def aclose(self) -> None: ...


async def test_without_a_store_users_are_counted_here_and_clients_pass() -> None:
    rates = RateLimit(GuardedStore(Down(), KEYS), {"user": Rate(3, per=60), "client": Rate(3, per=60)})
    users = [await rates.hit("user", "bob") for _ in range(5)]
    assert [state.exceeded for state in users] == [False] * 3 + [True] * 2
    assert users[0].problem == "gone"
    assert users[4].problem == "the store is down: gone"
    assert await passed(rates, "client", "192.0.2.1", 5) == 5
    assert (await rates.peek("client", "192.0.2.1")).problem == "the store is down: gone"


async def test_what_holds_without_a_store_can_be_chosen() -> None:
    rates = RateLimit(GuardedStore(Down(), KEYS), {"user": Rate(3, per=60)}, on_failure="tempfail")
    assert await rates.hit("user", "bob") == RateState(True, 30.0, 0, "gone")
    chosen = RateLimit(GuardedStore(Down(), KEYS), {"user": Rate(3, per=60)}, on_failure={"user": "pass"})
    assert await chosen.hit("user", "bob") == RateState(False, problem="gone")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": {"User": Rate(1, per=1)}}, {"rates": {"": Rate(1, per=1)}}, {"rates": {"user": []}},
        {"on_failure": "reject"}, {"on_failure": {"user": "drop"}},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        RateLimit(GuardedStore(Down(), KEYS), **{"rates": {"user": Rate(1, per=1)}, **wrong})


@pytest.mark.parametrize(
    "wrong", [(0, 1), (1, 0), (1, -1), (1, 1e9), (1, 1, 0), (10**7, 1), (1, 1, 10**7), (1, 86_400 * 365, 11), (1.5, 1)]
)
def test_a_wrong_rate_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Rate(*wrong)


async def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of user"):
        await limit({"user": Rate(1, per=1)}).hit("client", "x")
    with pytest.raises(ValueError, match="cost of 0 or more"):
        await limit({"user": Rate(1, per=1)}).hit("user", "x", -1)


async def test_memory_never_suspends() -> None:
    """So that a callback stays inline, without a task."""
    async with open_store("memory:") as store:
        rates = RateLimit(store, {"user": Rate(1, per=60)})
        hit = rates.hit("user", "bob")
        with pytest.raises(StopIteration) as ended:
            hit.send(None)
        assert ended.value.value == RateState(False, remaining=0)
