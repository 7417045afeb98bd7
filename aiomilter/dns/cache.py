"""One cache for all sessions: each question is asked once, however many sessions ask it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeAlias

from aiomilter._tally import count, took
from aiomilter.dns.answers import MX, Answer, RdType, Record, Resolver
from aiomilter.dns.names import question_name
from aiomilter.exceptions import ResolverError, ResolverFailure, ResolverTimeout

__all__ = ["CachingResolver", "Counters", "cached_answer"]

# What an entry costs besides the octets of its names and records (key, Answer, tuple, OrderedDict slot), measured.
_ENTRY_SIZE = 600
_TEXT_SIZE = 80
_ADDRESS_SIZE = 120
_MX_SIZE = 160
# Characters of a failure's message.
_MAX_MESSAGE = 500


@dataclass(slots=True)
class Counters:
    """Counters of a :class:`CachingResolver`; read them, or take differences, at any time.

    Args:
        hits: Answered from memory, remembered failures included.
        misses: Asked of the resolver below.
        joined: Answered by a query that another session had in progress.
        timeouts: Queries that ended in ResolverTimeout.
        failures: Queries that ended in ResolverFailure.
        stale: Answered with an expired answer because the servers failed.
        evicted: Entries dropped to stay within the bounds.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    timeouts: int = 0
    failures: int = 0
    stale: int = 0
    evicted: int = 0


@dataclass(frozen=True, slots=True)
class _Failed:
    """A failure as a value: every session raises its own exception, with its own traceback."""

    kind: type[ResolverError]
    message: str

    def error(self) -> ResolverError:
        return self.kind(self.message)


_Key: TypeAlias = tuple[str, RdType]
_Outcome: TypeAlias = Answer | _Failed


@dataclass(slots=True)
class _Entry:
    outcome: _Outcome
    expires: float
    size: int
    # The answer before a failure, and until when it may be served in its place.
    stale: Answer | None = None
    stale_until: float = 0.0


@dataclass(eq=False, slots=True)
class _Flight:
    """One query in progress, and the sessions that wait for it."""

    task: asyncio.Task[_Outcome]
    waiters: set[asyncio.Future[_Outcome]] = field(default_factory=set)


class CachingResolver:
    """Remembers what another resolver answers, and asks it each question once at a time.

    A question that is already in progress is not asked again: its caller waits for that query.  Cancelling one caller does not
    affect the others; the query is cancelled when no caller waits for it any more.  An answer from memory does not suspend the
    caller.  Use it from one event loop only.

    Args:
        resolver: The resolver that is asked; its own deadline bounds every query.
        min_ttl: Seconds an answer is kept at least, >= 0.
        max_ttl: Seconds an answer with records is kept at most.
        max_negative_ttl: Seconds "no such name" and "no data" are kept at most; the zone's SOA bounds it too.
        failure_ttl: Seconds a time-out or failure is remembered; 0 asks again at once.
        stale_ttl: Seconds an expired answer may still be served while its servers fail; 0 never serves one.
        max_entries: Entries kept at most, > 0; the least recently used goes first.
        max_size: Octets kept at most, estimated.
        clock: Returns the time in seconds.

    Source: RFC 2308 sections 5 and 7; RFC 8767 section 4.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        min_ttl: float = 5.0,
        max_ttl: float = 3600.0,
        max_negative_ttl: float = 900.0,
        failure_ttl: float = 5.0,
        stale_ttl: float = 0.0,
        max_entries: int = 20_000,
        max_size: int = 32 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters: Counters = Counters()
        self._resolver = resolver
        self._backend = type(resolver).__name__.removesuffix("Resolver").lower()
        self._min_ttl = min_ttl
        self._max_ttl = max_ttl
        self._max_negative_ttl = max_negative_ttl
        self._failure_ttl = failure_ttl
        self._stale_ttl = stale_ttl
        self._max_entries = max_entries
        self._max_size = max_size
        self._clock = clock
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._size = 0
        self._flights: dict[_Key, _Flight] = {}
        # Also those that no caller waits for any more, until they have ended.
        self._tasks: set[asyncio.Task[_Outcome]] = set()

    def __len__(self) -> int:
        """Return how many answers and failures are kept."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """Octets kept, estimated."""
        return self._size

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question, from memory if possible; see :meth:`Resolver.lookup`."""
        key = (name, rdtype)
        entry = self._entries.get(key)
        if entry is None:
            normal = question_name(name)
            if normal is None:
                return Answer(name, rdtype, exists=False)
            if normal != name:
                key = (normal, rdtype)
                entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.expires:
            self._entries.move_to_end(key)
            self.counters.hits += 1
            return self._answer_of(entry.outcome, entry)
        flight = self._flights.get(key)
        if flight is None:
            self.counters.misses += 1
            flight = self._start(key)
        else:
            self.counters.joined += 1
        outcome = await self._wait(key, flight)
        return self._answer_of(outcome, self._entries.get(key))

    def lookup_cached(self, name: str, rdtype: RdType, /) -> Answer | None:
        """Return an answer that is in memory; None if the question has to be asked with :meth:`lookup`.

        For who would make a task to ask: where the answer is known, none is needed.  A failure is never returned.

        Args:
            name: As for :meth:`lookup`, in its normal form; another spelling is not found.
            rdtype: The type of record.
        """
        entry = self._entries.get((name, rdtype))
        if entry is None or not isinstance(entry.outcome, Answer) or self._clock() >= entry.expires:
            return None
        self._entries.move_to_end((name, rdtype))
        self.counters.hits += 1
        return entry.outcome

    def clear(self) -> None:
        """Forget everything; queries in progress continue."""
        self._entries.clear()
        self._size = 0

    async def close(self) -> None:
        """Cancel the queries in progress (lookups that wait for one raise ResolverFailure), and close the resolver below."""
        for flight in self._flights.values():
            flight.task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        close = getattr(self._resolver, "close", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _answer_of(self, outcome: _Outcome, entry: _Entry | None) -> Answer:
        if isinstance(outcome, Answer):
            return outcome
        if entry is not None and entry.stale is not None and self._clock() < entry.stale_until:
            self.counters.stale += 1
            return entry.stale
        raise outcome.error()

    def _start(self, key: _Key) -> _Flight:
        flight = _Flight(asyncio.get_running_loop().create_task(self._fetch(key), name=f"dns {key[1]} {key[0]!r}"))
        self._flights[key] = flight
        self._tasks.add(flight.task)

        def landed(task: asyncio.Task[_Outcome]) -> None:
            self._tasks.discard(task)
            if self._flights.get(key) is flight:
                del self._flights[key]
            error = None if task.cancelled() else task.exception()
            for waiter in flight.waiters:
                if waiter.done():
                    continue
                if task.cancelled():
                    # Not by us: our own cancellation leaves no waiters.
                    waiter.set_result(_Failed(ResolverFailure, f"the query for {key[0]!r} {key[1]} was cancelled"))
                elif error is not None:
                    waiter.set_exception(error)
                else:
                    waiter.set_result(task.result())

        flight.task.add_done_callback(landed)
        return flight

    async def _wait(self, key: _Key, flight: _Flight) -> _Outcome:
        waiter: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        flight.waiters.add(waiter)
        try:
            return await waiter
        finally:
            flight.waiters.discard(waiter)
            if not flight.waiters and not flight.task.done():
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.task.cancel()

    async def _fetch(self, key: _Key) -> _Outcome:
        began = time.monotonic()
        try:
            answer = await self._resolver.lookup(*key)
        except ResolverTimeout as error:
            self.counters.timeouts += 1
            self._tally("timeout", began)
            return self._fail(key, _Failed(ResolverTimeout, str(error)[:_MAX_MESSAGE]))
        except ResolverError as error:
            self.counters.failures += 1
            self._tally("failure", began)
            return self._fail(key, _Failed(ResolverFailure, str(error)[:_MAX_MESSAGE]))
        self._tally("records" if answer else "none", began)
        ttl = min(answer.ttl, self._max_ttl if answer else self._max_negative_ttl)
        self._keep(key, _Entry(answer, self._clock() + max(ttl, self._min_ttl), _size(key, answer)))
        return answer

    def _tally(self, result: str, began: float) -> None:
        count("aiomilter_dns_queries_total", result, self._backend)
        took("aiomilter_dns_duration_seconds", time.monotonic() - began, result, self._backend)

    def _fail(self, key: _Key, failed: _Failed) -> _Failed:
        now = self._clock()
        entry = _Entry(failed, now + self._failure_ttl, _size(key, None))
        before = self._entries.get(key)
        if before is not None and self._stale_ttl:
            if isinstance(before.outcome, Answer):
                entry.stale, entry.stale_until = replace(before.outcome, stale=True), before.expires + self._stale_ttl
            else:
                entry.stale, entry.stale_until = before.stale, before.stale_until
        if entry.stale is not None:
            if now >= entry.stale_until:
                entry.stale = None
            else:
                entry.size = _size(key, entry.stale)
        if self._failure_ttl or entry.stale is not None:
            self._keep(key, entry)
        else:
            self._drop(key)
        return failed

    def _keep(self, key: _Key, entry: _Entry) -> None:
        self._drop(key)
        if entry.size > self._max_size:
            return
        self._entries[key] = entry
        self._size += entry.size
        while len(self._entries) > self._max_entries or self._size > self._max_size:
            _, oldest = self._entries.popitem(last=False)
            self._size -= oldest.size
            self.counters.evicted += 1

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size


def cached_answer(resolver: Resolver, name: str, rdtype: RdType) -> Answer | None:
    """Return an answer that a resolver has in memory; None if it has none, or is not one that can say.

    Args:
        resolver: Any; it can say if it has the method :meth:`CachingResolver.lookup_cached`.
        name: The name, in its normal form.
        rdtype: The type of record.
    """
    known = getattr(resolver, "lookup_cached", None)
    answer: Answer | None = None if known is None else known(name, rdtype)
    return answer


def _size(key: _Key, answer: Answer | None) -> int:
    size = _ENTRY_SIZE + 2 * len(key[0])
    if answer is None:
        return size + _MAX_MESSAGE
    return size + len(answer.canonical) + sum(map(_record_size, answer.records))


def _record_size(record: Record) -> int:
    match record:
        case str() | bytes():
            return _TEXT_SIZE + len(record)
        case MX():
            return _MX_SIZE + len(record.exchange)
        case _:
            return _ADDRESS_SIZE
