import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from aiomilter.dns import MX, Answer, CachingResolver, RdType, Record
from aiomilter.dns.cache import cached_answer
from aiomilter.exceptions import ResolverError, ResolverFailure, ResolverTimeout
from aiomilter.testing.resolver import FAILURE, TIMEOUT, ZoneResolver


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A resolver that answers when the test opens it, and counts who asked and who was cancelled."""

    def __init__(self) -> None:
        self.queries = 0
        self.cancelled = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.error: BaseException | None = None

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        self.queries += 1
        self.asked.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Answer(name, rdtype, (b"yes",), 300)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_an_answer_is_kept_for_its_ttl(clock: Clock) -> None:
    zone = ZoneResolver("a.example A 192.0.2.1", ttl=60)
    cache = CachingResolver(zone, clock=clock)

    first = await cache.lookup("a.example", "A")
    clock.now += 59
    assert await cache.lookup("A.Example.", "A") == first
    assert len(zone.queries) == 1
    clock.now += 1
    await cache.lookup("a.example", "A")

    assert len(zone.queries) == 2
    assert first.addresses == (ip_address("192.0.2.1"),)
    assert (cache.counters.hits, cache.counters.misses) == (1, 2)


async def test_what_is_in_memory_can_be_had_without_waiting(clock: Clock) -> None:
    zone = ZoneResolver("a.example A 192.0.2.1", ttl=60)
    zone.add("broken.example", "*", FAILURE)
    cache = CachingResolver(zone, clock=clock)
    assert cache.lookup_cached("a.example", "A") is None

    first = await cache.lookup("a.example", "A")
    with pytest.raises(ResolverFailure):
        await cache.lookup("broken.example", "A")
    missing = await cache.lookup("none.example", "A")

    assert cached_answer(cache, "a.example", "A") is first
    assert cached_answer(cache, "none.example", "A") is missing
    assert cached_answer(cache, "a.example", "TXT") is None
    assert cached_answer(cache, "broken.example", "A") is None
    assert cached_answer(zone, "a.example", "A") is None
    assert cache.counters.hits == 2
    clock.now += 60
    assert cached_answer(cache, "a.example", "A") is None
    assert len(zone.queries) == 3


async def test_what_is_had_without_waiting_is_kept_as_one_that_is_used(clock: Clock) -> None:
    cache = CachingResolver(ZoneResolver("a.example A 192.0.2.1"), clock=clock, max_entries=2)
    await cache.lookup("a.example", "A")
    await cache.lookup("b.example", "A")

    cache.lookup_cached("a.example", "A")
    await cache.lookup("c.example", "A")

    assert cache.lookup_cached("a.example", "A") is not None
    assert cache.lookup_cached("b.example", "A") is None


@pytest.mark.parametrize(("ttl", "kept"), [(0, 5), (1_000_000, 3600)])
async def test_a_ttl_has_a_floor_and_a_cap(clock: Clock, ttl: int, kept: int) -> None:
    zone = ZoneResolver("a.example A 192.0.2.1", ttl=ttl)
    cache = CachingResolver(zone, clock=clock)

    await cache.lookup("a.example", "A")
    clock.now += kept - 0.1
    await cache.lookup("a.example", "A")
    assert len(zone.queries) == 1
    clock.now += 0.1
    await cache.lookup("a.example", "A")

    assert len(zone.queries) == 2


@pytest.mark.parametrize("name", ["missing.example", "a.example"])
async def test_negative_answers_are_kept_within_their_own_cap(clock: Clock, name: str) -> None:
    zone = ZoneResolver("a.example A 192.0.2.1", ttl=86400)
    cache = CachingResolver(zone, clock=clock, max_negative_ttl=100)

    await cache.lookup(name, "TXT")
    clock.now += 99
    assert not await cache.lookup(name, "TXT")
    assert len(zone.queries) == 1
    clock.now += 1
    await cache.lookup(name, "TXT")

    assert len(zone.queries) == 2


@pytest.mark.parametrize(("trouble", "error"), [(TIMEOUT, ResolverTimeout), (FAILURE, ResolverFailure)])
async def test_a_failure_is_remembered_for_a_short_time(
    clock: Clock, trouble: object, error: type[ResolverError]
) -> None:
    zone = ZoneResolver({"a.example": trouble})  # type: ignore[dict-item]  # pytest's parameters are objects
    cache = CachingResolver(zone, clock=clock, failure_ttl=5)

    with pytest.raises(error) as first:
        await cache.lookup("a.example", "A")
    with pytest.raises(error) as second:
        await cache.lookup("a.example", "A")
    assert len(zone.queries) == 1
    clock.now += 5
    with pytest.raises(error):
        await cache.lookup("a.example", "A")

    assert len(zone.queries) == 2
    assert first.value is not second.value
    assert (cache.counters.timeouts, cache.counters.failures) in {(2, 0), (0, 2)}


async def test_without_failure_ttl_nothing_is_remembered_of_a_failure(clock: Clock) -> None:
    zone = ZoneResolver({"a.example": FAILURE})
    cache = CachingResolver(zone, clock=clock, failure_ttl=0)

    for _ in range(2):
        with pytest.raises(ResolverFailure):
            await cache.lookup("a.example", "A")

    assert len(zone.queries) == 2
    assert len(cache) == 0


async def test_a_stale_answer_is_served_while_its_servers_fail(clock: Clock) -> None:
    zone = ZoneResolver("a.example A 192.0.2.1", ttl=60)
    cache = CachingResolver(zone, clock=clock, stale_ttl=100, failure_ttl=5)
    await cache.lookup("a.example", "A")
    zone.add("a.example", "*", FAILURE)
    del zone._records["a.example", "A"]

    clock.now += 60
    stale = await cache.lookup("a.example", "A")
    clock.now += 6
    again = await cache.lookup("a.example", "A")
    assert stale.stale
    assert again.stale
    assert stale.addresses == (ip_address("192.0.2.1"),)
    assert cache.counters.stale == 2
    clock.now += 94
    with pytest.raises(ResolverFailure):
        await cache.lookup("a.example", "A")


async def test_no_stale_answer_is_served_unless_asked_for(clock: Clock) -> None:
    zone = ZoneResolver("a.example A 192.0.2.1", ttl=60)
    cache = CachingResolver(zone, clock=clock)
    await cache.lookup("a.example", "A")
    del zone._records["a.example", "A"]
    zone.add("a.example", "*", TIMEOUT)
    clock.now += 60

    with pytest.raises(ResolverTimeout):
        await cache.lookup("a.example", "A")


async def test_entries_are_bounded_and_the_least_recently_used_goes_first(clock: Clock) -> None:
    zone = ZoneResolver()
    cache = CachingResolver(zone, clock=clock, max_entries=3)
    for name in ("a.example", "b.example", "c.example", "a.example", "d.example"):
        await cache.lookup(name, "A")
    zone.queries.clear()

    for name in ("a.example", "c.example", "d.example", "b.example"):
        await cache.lookup(name, "A")

    assert zone.queries == [("b.example", "A")]
    assert len(cache) == 3
    assert cache.counters.evicted == 2


async def test_octets_are_bounded(clock: Clock) -> None:
    zone = ZoneResolver({f"n{i}.example": {"TXT": ["x" * 60_000]} for i in range(20)})
    cache = CachingResolver(zone, clock=clock, max_size=200_000)

    for i in range(20):
        await cache.lookup(f"n{i}.example", "TXT")
        assert cache.size <= 200_000

    assert len(cache) == 3
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)


async def test_an_answer_larger_than_the_cache_is_given_and_not_kept(clock: Clock) -> None:
    cache = CachingResolver(ZoneResolver({"n.example": {"TXT": ["x" * 60_000]}}), clock=clock, max_size=50_000)

    assert await cache.lookup("n.example", "TXT")
    assert (len(cache), cache.size) == (0, 0)


RECORDS: dict[str, Callable[[str], tuple[Record, ...]]] = {
    "nothing": lambda name: (),
    "an address": lambda name: (IPv4Address(hash(name) % 2**32),),
    "addresses": lambda name: tuple(IPv4Address(hash((name, each)) % 2**32) for each in range(300)),
    "long addresses": lambda name: tuple(IPv6Address(hash((name, each)) % 2**63 << 64) for each in range(300)),
    "exchangers": lambda name: tuple(MX(each + 300, f"mx{each}.{name}") for each in range(300)),
    "names": lambda name: tuple(f"mx{each}.{name}" for each in range(300)),
    "a text": lambda name: (name.encode() * 20,),
    "texts": lambda name: tuple(f"{each}{name}"[:5].encode() for each in range(300)),
}


class Maker:
    """Answers each question with records of its own."""

    def __init__(self, records: Callable[[str], tuple[Record, ...]] | None) -> None:
        self.records = records

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        if self.records is None:
            raise ResolverFailure(f"no usable answer to {name!r} {rdtype}: " + "SERVFAIL, " * 1000)
        return Answer(name[:], rdtype, self.records(name), ttl=60)


@pytest.mark.parametrize("records", [*RECORDS, "a failure"])
async def test_the_size_is_no_less_than_what_the_answers_take(records: str) -> None:
    """Strangers choose what is in them, so what is estimated bounds memory only if it is not too low."""
    cache = CachingResolver(Maker(RECORDS.get(records)))
    names = [f"n{each}." + "x" * 60 + ".example" for each in range(50)]
    gc.collect()
    tracemalloc.start()
    try:
        for name in names:
            with contextlib.suppress(ResolverFailure):
                await cache.lookup(name, "A")
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == len(names)
    assert size <= cache.size


async def test_fifty_sessions_that_ask_the_same_send_one_query() -> None:
    gate = Gate()
    cache = CachingResolver(gate)
    sessions = [asyncio.create_task(cache.lookup("a.example", "TXT")) for _ in range(50)]
    await gate.asked.wait()
    gate.open.set()

    answers = await asyncio.gather(*sessions)

    assert gate.queries == 1
    assert all(answer.texts == (b"yes",) for answer in answers)
    assert (cache.counters.misses, cache.counters.joined) == (1, 49)


async def test_a_cancelled_session_does_not_touch_the_others() -> None:
    gate = Gate()
    cache = CachingResolver(gate)
    sessions = [asyncio.create_task(cache.lookup("a.example", "TXT")) for _ in range(3)]
    await gate.asked.wait()
    sessions[0].cancel()
    sessions[1].cancel()
    await asyncio.wait(sessions[:2])
    gate.open.set()

    assert (await sessions[2]).texts == (b"yes",)
    assert [session.cancelled() for session in sessions] == [True, True, False]
    assert (gate.queries, gate.cancelled) == (1, 0)


async def test_a_query_that_nobody_waits_for_is_cancelled() -> None:
    gate = Gate()
    cache = CachingResolver(gate)
    sessions = [asyncio.create_task(cache.lookup("a.example", "TXT")) for _ in range(2)]
    await gate.asked.wait()
    for session in sessions:
        session.cancel()
    await asyncio.wait(sessions)
    late = asyncio.create_task(cache.lookup("a.example", "TXT"))
    gate.open.set()

    assert (await late).texts == (b"yes",)
    assert (gate.queries, gate.cancelled) == (2, 1)
    assert not cache._flights


@pytest.mark.parametrize("error", [ResolverTimeout("late"), ResolverFailure("broken")])
async def test_a_failure_reaches_every_session_as_its_own_exception(error: ResolverError) -> None:
    gate = Gate()
    gate.error = error
    cache = CachingResolver(gate)
    sessions = [asyncio.create_task(cache.lookup("a.example", "TXT")) for _ in range(3)]
    await gate.asked.wait()
    gate.open.set()

    results = await asyncio.gather(*sessions, return_exceptions=True)

    assert [type(result) for result in results] == [type(error)] * 3
    assert len({id(result) for result in results}) == 3


async def test_a_bug_in_the_resolver_reaches_every_session() -> None:
    gate = Gate()
    gate.error = ZeroDivisionError("bug")
    cache = CachingResolver(gate)
    sessions = [asyncio.create_task(cache.lookup("a.example", "TXT")) for _ in range(2)]
    await gate.asked.wait()
    gate.open.set()

    results = await asyncio.gather(*sessions, return_exceptions=True)

    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    assert len(cache) == 0


async def test_a_cancellation_from_inside_the_resolver_is_a_failure_not_a_cancellation() -> None:
    gate = Gate()
    gate.error = asyncio.CancelledError()
    gate.open.set()
    cache = CachingResolver(gate)

    with pytest.raises(ResolverFailure, match="was cancelled"):
        await cache.lookup("a.example", "TXT")


async def test_close_ends_the_queries_under_way_and_the_resolver_below() -> None:
    closed = asyncio.Event()

    class Below(Gate):
        async def close(self) -> None:
            closed.set()

    gate = Below()
    async with CachingResolver(gate) as cache:
        session = asyncio.create_task(cache.lookup("a.example", "TXT"))
        await gate.asked.wait()

    with pytest.raises(ResolverFailure):
        await session
    assert gate.cancelled == 1
    assert closed.is_set()
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_dns_cannot_hold_does_not_exist_and_is_not_asked() -> None:
    zone = ZoneResolver()
    cache = CachingResolver(zone)

    for name in ("a..example", "x" * 64, "a\0b.example", "\udc80.example"):
        answer = await cache.lookup(name, "A")
        assert not answer
        assert not answer.exists

    assert zone.queries == []


async def test_an_answer_from_memory_does_not_suspend() -> None:
    cache = CachingResolver(ZoneResolver("a.example A 192.0.2.1"))
    await cache.lookup("a.example", "A")

    lookup = cache.lookup("a.example", "A")
    with pytest.raises(StopIteration) as stopped:
        lookup.send(None)

    assert stopped.value.value.addresses == (ip_address("192.0.2.1"),)
