"""A factory of filters in use: entered, called for each connection, and closed once the last of these has ended."""

import asyncio
import inspect
from asyncio.tasks import _unregister_task  # documented for those who extend asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias, cast

from aiomilter.handler import Handler
from aiomilter.wire.negotiation import Wants

__all__ = ["Factory", "FactoryLifespan"]

Make: TypeAlias = Callable[[], Handler]
Factory: TypeAlias = Make | Callable[[], AbstractAsyncContextManager[Make]]
"""Makes filters: a callable that returns one, such as a :class:`Milter` subclass; or an async context manager function that
yields such a callable, entered once in the event loop and closed after its last connection."""


class FactoryLifespan:
    """The lifespan of one factory, entered and closed in one Task, as a TaskGroup or a timeout in it requires.

    Args:
        factory: See :data:`Factory`.
        forget: Called once it has ended, with the exception that it raised.
    """

    def __init__(self, factory: Factory, forget: "Callable[[FactoryLifespan, BaseException | None], None]") -> None:
        self.make: Make
        self.checked: Handler
        """The filter that was made at the start, to see that one can be."""
        self.connections = 0
        self.generation: int = 1
        """Which of the factories that the server has had in use it is, from 1."""
        self.broken = False
        """It has ended without a request to."""
        self._factory = factory
        self._forget = forget
        self._retired = False
        self._released = asyncio.Event()
        self._task: asyncio.Task[None]
        self._started: asyncio.Future[None]

    async def start(self) -> None:
        """Enter the factory and make one filter, to see that it can be made."""
        self._started = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold())
        self._task.add_done_callback(self._ended)
        await asyncio.wait((self._task, self._started), return_when=asyncio.FIRST_COMPLETED)
        if self._task.cancelled() or self._started.cancelled():
            raise RuntimeError("factory: it was cancelled while it started")
        if not self._started.done():
            await self._task
            raise RuntimeError("factory: expected it to wait until it is left, found it ended")

    def give_up(self) -> None:
        """Have it end, even if it has not started; see :meth:`end`."""
        self.release()
        self._task.cancel()

    async def _hold(self) -> None:
        try:
            await self._enter()
        except SystemExit as error:
            # A Task that raises it ends the event loop, and with it every other service there.
            raise RuntimeError(f"factory: it called sys.exit({error.code!r})") from error

    async def _enter(self) -> None:
        made = self._factory()
        if isinstance(made, AbstractAsyncContextManager):
            async with made as make:
                if not callable(make):
                    raise TypeError(f"factory: expected it to yield a callable, found {type(make).__name__}")
                self.checked = _check_handler(make())
                await self._serve(make)
        else:
            self.checked = _check_handler(made)
            await self._serve(cast(Make, self._factory))

    async def _serve(self, make: Make) -> None:
        self.make = make
        if not self._started.done():
            self._started.set_result(None)
        await self._released.wait()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.broken = not self._released.is_set()
        self._forget(self, None if task.cancelled() else task.exception())

    @property
    def name(self) -> str:
        """Of the factory, for the log."""
        named = self._factory if hasattr(self._factory, "__qualname__") else type(self._factory)
        return f"{named.__module__}.{named.__qualname__}"

    def retire(self) -> None:
        """Close the factory once the last of its connections has ended."""
        self._retired = True
        if not self.connections:
            self.release()

    def leave(self) -> None:
        """Count the end of a connection."""
        self.connections -= 1
        if self._retired and not self.connections:
            self.release()

    def release(self) -> None:
        """Close the factory."""
        self._released.set()

    async def ended(self) -> None:
        """Wait until it is closed."""
        await asyncio.wait((self._task,))

    async def end(self, timeout: float, late: Callable[[str], object]) -> Exception | None:
        """Close the factory, and return the exception that it raised.

        Args:
            timeout: Seconds that it has to end; then it is cancelled, and has as many again.
            late: Hears a sentence where it takes longer.
        """
        self.release()
        what = f"the factory {self.name} did not end within {timeout:g} s (cancel_timeout)"
        for then in ("; cancelled", " of its cancellation; abandoned"):
            await asyncio.wait((self._task,), timeout=timeout)
            if self._task.done():
                break
            late(what + then)
            self._task.cancel()
        else:
            # The end of the event loop waits for all Tasks that it knows of; a start() in progress waits for the Future.
            _unregister_task(self._task)
            self._started.cancel()
        error = None if not self._task.done() or self._task.cancelled() else self._task.exception()
        if self.broken:  # its traceback is in the log
            why = f"{type(error).__name__}: {error}" if error is not None else "it was cancelled"
            return RuntimeError(f"factory: {self.name} ended while it was in use: {why}")
        if error is not None and not isinstance(error, Exception):
            raise error
        return error


def _check_handler(made: object) -> Handler:
    if isinstance(getattr(made, "wants", None), Wants):
        return cast(Handler, made)
    hint = ""
    if inspect.iscoroutine(made):
        made.close()
        hint = "; a factory is a plain function, or an @asynccontextmanager"
    elif inspect.isasyncgen(made):
        hint = "; is @asynccontextmanager missing?"
    elif callable(made):
        hint = "; call it, or pass the class itself"
    raise TypeError(f"factory: expected it to make a Milter, found {type(made).__name__}{hint}")
