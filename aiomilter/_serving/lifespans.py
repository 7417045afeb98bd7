"""The factories of one server: the one in use, and those before it until the last of their connections is over."""

import asyncio
from collections.abc import Callable

from aiomilter._serving.factory import Factory, FactoryLifespan
from aiomilter._serving.shielded import finish

__all__ = ["FactoryLifespans"]


class FactoryLifespans:
    """Enters and closes the factories of a server.

    Args:
        cancel_timeout: Seconds that a factory has to end at the end; then it is cancelled.
        failed: Hears of a failure: a sentence for the log, and the exception.
        broke: Called with a factory that has ended while it was in use.
    """

    def __init__(
        self,
        cancel_timeout: float,
        failed: Callable[[str, BaseException | None], object],
        broke: Callable[[FactoryLifespan], object],
    ) -> None:
        self.current: FactoryLifespan | None = None
        """The factory of new connections; None before the start, and once the server closes it."""
        self.entered: set[FactoryLifespan] = set()
        self.broken: asyncio.Event = asyncio.Event()
        """Set while the factory in use has ended by itself."""
        self.cancel_timeout = cancel_timeout
        self._failed = failed
        self._broke = broke
        self._building: set[FactoryLifespan] = set()

    async def build(self, factory: Factory) -> FactoryLifespan:
        """Enter a factory; a cancellation closes it."""
        lifespan = FactoryLifespan(factory, self._forget)
        self._building.add(lifespan)
        try:
            await lifespan.start()
        except asyncio.CancelledError:
            lifespan.give_up()
            await finish(self._end(lifespan))
            raise
        finally:
            self._building.discard(lifespan)
        self.entered.add(lifespan)
        return lifespan

    def give_up(self) -> None:
        """Give up those that are about to start."""
        for lifespan in self._building:
            lifespan.give_up()

    async def replace(self, lifespan: FactoryLifespan) -> None:
        """Have new connections served by another factory.

        Raises:
            RuntimeError: None is in use.
        """
        if self.current is None:
            await finish(self._end(lifespan))
            raise RuntimeError("reload: the server does not serve")
        # Not before: another reload may have been quicker.
        old, self.current = self.current, lifespan
        lifespan.generation = old.generation + 1
        if old.broken:
            self.entered.discard(old)
            self.broken.clear()
        old.retire()

    async def let_go(self) -> None:
        """Close the factories, and wait until they have ended; :meth:`end` raises their exceptions."""
        self.current = None
        entered = list(self.entered)  # a reload may end meanwhile; it closes its own
        for lifespan in entered:
            lifespan.release()
        for lifespan in entered:
            await lifespan.ended()

    async def end(self) -> None:
        """End all of them, also those that are about to start.

        Raises:
            Exception: A factory raised it as it was closed; several are an ExceptionGroup.
        """
        self.current = None
        # Their start fails by that.
        await asyncio.gather(*map(self._end, self._building))
        ended = await asyncio.gather(*map(self._end, self.entered))
        errors = [error for error in ended if error is not None]
        self.entered.clear()
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("factories failed to end", errors)

    async def _end(self, lifespan: FactoryLifespan) -> Exception | None:
        return await lifespan.end(self.cancel_timeout, lambda what: self._failed(what, None))

    def _forget(self, lifespan: FactoryLifespan, error: BaseException | None) -> None:
        """Forget a factory that has ended, and report its exception where :meth:`end` does not raise that.

        One that ended although it was in use, such as a TaskGroup of which a task has failed, serves no new SMTP session.  If
        it is the current one, none is served until a reload.
        """
        if self.current is None or lifespan not in self.entered:
            return
        if lifespan.broken:
            self._failed(f"the factory {lifespan.name} ended while it was in use", error)
            self._broke(lifespan)
        elif error is not None:
            self._failed("the factory raised as it ended", error)
        if lifespan is self.current:
            self.broken.set()
        else:
            self.entered.discard(lifespan)
