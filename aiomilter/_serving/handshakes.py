"""A limit on TLS handshakes in progress, and whose turn it is next."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiomilter.observe import Limit

__all__ = ["Handshakes"]

_MOST: Final = 200
"""Handshakes at once: 61 MiB on asyncio, 11 MiB on uvloop."""
_PART: Final = 4
"""One peer may have this part of them, so that it cannot keep the others out; and all of them this part of the memory."""
_PRICE: Final = 316_416
_PRICE_OF_UVLOOP: Final = 59_392
"""Octets that one takes: 309 KiB on asyncio, of which it reads into 256, and 58 KiB on uvloop (resident memory, divided by 500
connections that had sent half a ClientHello; CPython 3.11, uvloop 0.23, OpenSSL 3.0)."""


class Handshakes:
    """Bounds the handshakes in progress, and counts their memory as buffered data.

    One above the limit waits for its turn: its octets stay in the socket, and it takes no more memory than a connection without
    TLS.  Peers take turns, no matter how many handshakes each of them wants.

    Args:
        loop: The event loop, on which the price depends.
        max_memory: Octets that all connections may buffer; handshakes may take a quarter of them.
        change: Gets the number of octets by which the memory in use grows; negative where it shrinks.
        patience: Seconds that one waits for its turn.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_memory: int,
        change: Callable[[int], None],
        patience: float,
    ) -> None:
        self._loop = loop
        self._change = change
        self._under_way: Counter[str] = Counter()
        self._count = 0
        # By peer, those that wait, in the order of their turns.
        self._waiting: OrderedDict[str, OrderedDict[asyncio.Future[None], None]] = OrderedDict()
        self._price = 0
        self.limit(max_memory, patience)

    def limit(self, max_memory: int, patience: float) -> None:
        """Have other limits from now on; handshakes in progress stay, and those that wait keep their time."""
        price = _PRICE if isinstance(self._loop, asyncio.BaseEventLoop) else _PRICE_OF_UVLOOP
        self.most: int = max(1, min(_MOST, max_memory // _PART // price))
        self.most_of_peer: int = max(1, self.most // _PART)
        self._patience = patience
        # One handshake is possible even where the memory is too small for it.
        before, self._price = self._price, max(1, min(price, max_memory // _PART))
        if self._count:
            self._change((self._price - before) * self._count)
        while self._give_turn():
            pass

    @asynccontextmanager
    async def turn(self, peer: str, report: Callable[[Limit, int, str], object]) -> AsyncIterator[None]:
        """Wait for a turn; the handshake is in progress until the block is left.

        Args:
            peer: Its peer; "" for all that are not known, which count as one.
            report: Hears, if it has to wait, which limit was reached, its value, and a line for the log.

        Raises:
            TimeoutError: No turn came in time.
        """
        if self._has_room(peer):
            self._begin(peer)
        else:
            self._report_wait(peer, report)
            await self._wait(peer)
        try:
            yield
        finally:
            self._end(peer)

    def _has_room(self, peer: str) -> bool:
        return self._count < self.most and self._under_way[peer] < self.most_of_peer

    def _report_wait(self, peer: str, report: Callable[[Limit, int, str], object]) -> None:
        if self._count >= self.most:
            report(
                Limit.HANDSHAKES,
                self.most,
                f"{self._count} TLS handshakes are in progress; others wait (--max-memory)",
            )
        else:
            count = self._under_way[peer]
            what = f"{count} TLS handshakes of {peer} are in progress; others of it wait (--max-memory)"
            report(Limit.HANDSHAKES_PER_PEER, self.most_of_peer, what)

    async def _wait(self, peer: str) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(peer, OrderedDict())[turn] = None
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._end(peer)  # it came, too late
            else:
                self._forget(peer, turn)
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no turn for a TLS handshake within {self._patience:g} s") from None
            raise

    def _begin(self, peer: str) -> None:
        self._count += 1
        self._under_way[peer] += 1
        self._change(self._price)

    def _end(self, peer: str) -> None:
        self._count -= 1
        self._under_way[peer] -= 1
        if not self._under_way[peer]:
            del self._under_way[peer]
        self._change(-self._price)
        self._give_turn()

    def _give_turn(self) -> bool:
        """Have the next one begin, and return whether there was one."""
        # At most four peers have their part and are passed over.
        while (peer := next(filter(self._has_room, self._waiting), None)) is not None:
            turn = next(iter(self._waiting[peer]))
            self._forget(peer, turn)
            if turn.done():
                continue  # cancelled, and not yet heard of it
            if peer in self._waiting:
                self._waiting.move_to_end(peer)
            self._begin(peer)
            turn.set_result(None)
            return True
        return False

    def _forget(self, peer: str, turn: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(peer, OrderedDict())
        waiting.pop(turn, None)
        if not waiting:
            self._waiting.pop(peer, None)
