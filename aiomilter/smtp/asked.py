"""The filter that an SMTP session asks, until it is lost."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiomilter import mta
from aiomilter.exceptions import MilterError

__all__ = ["AskedMilter", "MilterLost"]

_T = TypeVar("_T")


class MilterLost(Exception):
    """The filter cannot be asked any more in this session."""


class AskedMilter:
    """A filter, connected or lost; whatever goes wrong ends its part in the session, as Postfix has it.

    Args:
        address: Where it listens.
        timeout: Seconds it may take for an answer.
        on_lost: Called with what went wrong.
    """

    def __init__(self, address: str, timeout: float, on_lost: Callable[[Exception], None]) -> None:
        self.asking: bool = False
        """Whether an answer is awaited."""
        self._address = address
        self._timeout = timeout
        self._on_lost = on_lost
        self._stack = contextlib.AsyncExitStack()
        self._session: mta.Session | None = None

    @property
    def lost(self) -> bool:
        """Whether it cannot be asked."""
        return self._session is None

    @property
    def session(self) -> mta.Session:
        """The session with it.

        Raises:
            MilterLost: There is none.
        """
        if self._session is None:
            raise MilterLost
        return self._session

    @property
    def queue_id(self) -> str:
        """The name of the message; "" for none."""
        return self._session.queue_id if self._session is not None else ""

    async def open(self, macros: mta.MacroValues) -> None:
        """Connect, at first or after :meth:`close`; a filter that is not there counts as lost.

        Args:
            macros: Values by stage.
        """
        connecting = mta.connect(self._address, timeout=self._timeout, macros=macros)
        with contextlib.suppress(MilterLost):
            self._session = await self.ask(self._stack.enter_async_context(connecting))

    async def ask(self, stage: Awaitable[_T]) -> _T:
        """Play a stage.

        Raises:
            MilterLost: It went wrong.
        """
        self.asking = True
        try:
            found = await stage
        except (MilterError, OSError) as error:
            self.asking = False
            self._on_lost(error)
            session, self._session = self._session, None
            if session is not None:
                await session.close()
            raise MilterLost from error
        self.asking = False
        return found

    async def close(self) -> None:
        """Say QUIT, unless the client was lost while the filter worked on an answer: then there is none to wait for."""
        session, self._session = self._session, None
        async with self._stack:
            if session is not None:
                with contextlib.suppress(MilterError, OSError):
                    if not self.asking:
                        await session.quit()
                await session.close()
