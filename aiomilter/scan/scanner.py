"""What all scanners share: limits, deadlines, and a result for whatever happens."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from aiomilter._tally import count
from aiomilter.addresses import Inherited, parse
from aiomilter.exceptions import AddressError
from aiomilter.scan._breaker import Breaker
from aiomilter.scan._exchange import MAX_ANSWER, Answer, Request, connect, exchange
from aiomilter.scan._trouble import TooLarge, Trouble, Unavailable
from aiomilter.scan.envelope import Envelope

__all__ = ["Result", "Scanner"]

_NOTHING_KNOWN: Final = Envelope()
_REQUESTS: Final = "aiomilter_scanner_requests_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a scan.

    Args:
        problem: Why there is no verdict, for a log; "" if there is one.  With a problem all other fields are as for a message
            that nothing was found in: look at it first.
        too_large: Whether the problem is the size of the message, so that another try would not help.
    """

    problem: str = ""
    too_large: bool = False


R = TypeVar("R", bound=Result, covariant=True)


class Scanner(ABC, Generic[R]):
    """Base of :class:`Clamd`, :class:`Spamd` and :class:`Rspamd`.

    Nothing is open between two scans: each has a connection of its own.  After five failures in a row the scanner is not asked
    for 10 s, then one scan tries.  As an async context manager it is closed at the end of the block.

    Args:
        address: Where it listens: ``unix:/run/clamav/clamd.ctl``, ``inet:3310@127.0.0.1``.
        connect_timeout: Seconds for the connection.
        timeout: Seconds for a scan, with the wait for other scans and for the message's octets.
        max_size: Octets of a message; a larger one has a problem.
        concurrency: Scans at once; more wait.

    Raises:
        AddressError: The text is not an address that can be connected to.
        ValueError: A number is not above 0.
    """

    _name: ClassVar[str]
    _kind: type[R]
    _max_answer: ClassVar[int] = MAX_ANSWER

    def __init__(
        self, address: str, *, connect_timeout: float, timeout: float, max_size: int, concurrency: int
    ) -> None:
        where = parse(address)
        if isinstance(where, Inherited):
            raise AddressError(f"{self._name} to connect to: expected a path or a port, found {address!r:.200}")
        if not min(connect_timeout, timeout, max_size, concurrency) > 0:
            raise ValueError("expected connect_timeout, timeout, max_size and concurrency above 0")
        self.address: Final[str] = str(where)
        self.max_size: Final[int] = max_size
        self.timeout: Final[float] = timeout
        self._where = where
        self._connect_timeout = connect_timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._breaker = Breaker()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Return the scanner."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the scanner."""
        await self.aclose()

    async def aclose(self) -> None:
        """Begin no more scans: those after this have a problem."""
        self._closed = True

    @abstractmethod
    def _request(self, size: int | None, envelope: Envelope) -> Request:
        """Return how a message is wrapped."""

    @abstractmethod
    async def _parse(self, answer: Answer) -> R:
        """Read the verdict; raise :class:`Trouble` if there is none."""

    async def scan(
        self, octets: bytes | AsyncIterable[bytes], size: int | None = None, *, envelope: Envelope = _NOTHING_KNOWN
    ) -> R:
        """Have a message scanned; whatever is wrong with the scanner is in the result, never an exception.

        Args:
            octets: The whole message, header section first, at once or in pieces.  What it raises, this raises.
            size: Its octets, if they are known.
            envelope: What is known besides.

        Raises:
            ValueError: The message has no octets, or not as many as ``size`` says.
        """
        loop = asyncio.get_running_loop()
        if size is not None and size > self.max_size:
            return self._failed(TooLarge(self._too_large()))
        if why := self._refusal(loop.time()):
            return self._failed(Unavailable(why))
        until = loop.time() + self.timeout
        try:
            async with asyncio.timeout_at(until):
                await self._slots.acquire()
        except TimeoutError:
            return self._failed(Unavailable(f"waited {self.timeout:g} s for other scans"))
        try:
            if why := self._refusal(loop.time()):  # found while this one waited
                return self._failed(Unavailable(why))
            return await self._tried(_Source(octets, size, self), self._request(size, envelope), until)
        finally:
            self._slots.release()

    async def _tried(self, source: "_Source", request: Request, until: float) -> R:
        """Ask the scanner, and count what comes of it."""
        breaker, loop = self._breaker, asyncio.get_running_loop()
        tries = breaker.begin()
        try:
            async with asyncio.timeout_at(until) as deadline:
                result = await self._exchange(source, request)
            breaker.succeeded()
            count(_REQUESTS, "ok", self._name)
            return result
        except TimeoutError:
            if not deadline.expired():  # the message's own
                raise
            trouble: Trouble = Unavailable(f"no answer in {self.timeout:g} s")
            breaker.failed(str(trouble), loop.time(), tries)
            return self._failed(trouble)
        except Unavailable as error:
            breaker.failed(str(error), loop.time(), tries)
            return self._failed(error)
        except Trouble as error:
            if not source.too_large:  # that was no answer
                breaker.succeeded()
            return self._failed(error)
        finally:
            breaker.end(tries)

    async def _exchange(self, source: "_Source", request: Request) -> R:
        try:
            with await connect(self._where, self._connect_timeout) as sock:
                async with aclosing(source.pieces()) as pieces:
                    return await exchange(sock, request, pieces, self._parse, self._max_answer)
        finally:
            await source.aclose()

    def _refusal(self, now: float) -> str:
        return "closed" if self._closed else self._breaker.refusal(now)

    def _too_large(self) -> str:
        return f"the message has more than {self.max_size:,} octets"

    def _failed(self, trouble: Trouble) -> R:
        too_large = isinstance(trouble, TooLarge)
        count(_REQUESTS, "too_large" if too_large else "problem", self._name)
        return self._kind(problem=f"{self._name} at {self.address}: {trouble}", too_large=too_large)


class _Source:
    """The octets of a message, counted.

    Args:
        octets: The octets.
        size: How many there should be.
        scanner: Whose limit holds.
    """

    def __init__(self, octets: bytes | AsyncIterable[bytes], size: int | None, scanner: Scanner[Any]) -> None:
        self.too_large = False
        self._iterator = aiter(_at_once(octets) if isinstance(octets, bytes) else octets)
        self._size = size
        self._scanner = scanner

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the pieces.

        Raises:
            TooLarge: There are more octets than the scanner takes.
            ValueError: There are not as many as there should be, or none.
        """
        count, size = 0, self._size
        async for piece in self._iterator:
            count += len(piece)
            if size is not None and count > size:
                break
            if count > self._scanner.max_size:
                self.too_large = True
                raise TooLarge(self._scanner._too_large())
            yield piece
        if size is not None and count != size:
            more = "more" if count > size else f"only {count:,}"
            raise ValueError(f"expected a message of {size:,} octets as size says, found {more}")
        if not count:  # nothing is found in nothing: that would be a verdict on another message than is meant
            raise ValueError("expected the octets of a message, found none; an iterator can be read once")

    async def aclose(self) -> None:
        """Close what yields the octets: nothing is to be left of it."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


async def _at_once(octets: bytes) -> AsyncIterator[bytes]:
    yield octets
