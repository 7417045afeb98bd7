"""What the page asks for: the list, one message, play and replay, the charts."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from time import time
from typing import Any, Final, Protocol

from aiomilter.inspector.charts import Charts
from aiomilter.inspector.store import Store
from aiomilter.inspector.view import detail, summary

__all__ = ["Inspector", "Player"]

_MOST_AT_ONCE: Final = 200
"""Messages of one event."""


class Player(Protocol):
    """Plays a message to a filter of its own, made from the running configuration."""

    async def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return what became of it, as :func:`aiomilter.inspector.view.detail` does.

        Raises:
            ValueError: What is asked for is wrong.
        """
        ...


class Inspector:
    """What the page asks for.

    Args:
        store: Has the messages.
        name: The filter, for people.
        content: Whether what stands in messages is shown.
        player: Plays messages; None if that is not offered.
        charts: Measures.
    """

    def __init__(
        self, store: Store, name: str, *, content: bool, player: Player | None = None, charts: Charts | None = None
    ) -> None:
        self.store: Store = store
        self.measured: Charts = Charts(store) if charts is None else charts
        self._name = name
        self._content = content
        self._player = player
        self._ended = False
        # So that a page notices that the process is another one, which counts anew.
        self._run = secrets.token_hex(8)

    def end(self) -> None:
        """End the streams of :meth:`news`: the server ends."""
        self._ended = True
        self.store.wake()

    def about(self) -> dict[str, Any]:
        """Return what is inspected, and what may be done."""
        store = self.store
        return {
            "filter": self._name,
            "content": self._content,
            "play": self._player is not None,
            "kept": store.max_messages,
            "run": self._run,
            "now": time(),
        }

    def after(self, number: int, most: int | None = None) -> list[dict[str, Any]]:
        """Return the lines of messages newer than a number, oldest first."""
        store = self.store
        begin = max(number, store.last - store.max_messages)
        found = [store.messages[each] for each in range(begin + 1, store.last + 1) if each in store.messages]
        return [summary(each, content=self._content) for each in found[:most]]

    async def news(
        self, number: int, pause: float, keep_alive: float
    ) -> AsyncGenerator[tuple[str, object] | None, None]:
        """Yield new messages and measured values.

        Args:
            number: Of the last message that is known.
            pause: Seconds between two of them.
            keep_alive: Seconds until None, if there is no message; values are looked for as often.
        """
        seen = self.measured.last
        yield "hello", {"run": self._run}
        if number > self.store.last:
            number = 0
        while not self._ended:
            try:
                async with asyncio.timeout(keep_alive):
                    await self.store.wait(number)
            except TimeoutError:
                pass
            lines = self.after(number, _MOST_AT_ONCE)
            if lines:
                number = lines[-1]["id"]
                yield "messages", lines
            elif number < self.store.last:
                number = self.store.last
            if self.measured.last != seen:
                seen = self.measured.last
                yield "measured", self.measured.newest()
            elif not lines:
                yield None
            await asyncio.sleep(pause)

    async def message(self, identity: str) -> dict[str, Any] | None:
        """Return all of a message; None if it is not kept."""
        found = self.store.messages.get(_number(identity))
        return None if found is None else await detail(found, content=self._content)

    def charts(self) -> dict[str, Any]:
        """Return the values of the last hour."""
        return self.measured.all()

    async def play(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Play a message.

        Raises:
            LookupError: That is not offered.
            ValueError: What is asked for is wrong.
        """
        if self._player is None:
            raise LookupError("play is not offered here: see --inspect-play")
        return await self._player(asked)

    async def replay(self, identity: str) -> dict[str, Any]:
        """Play a message of the list again, and return what became of it before and now.

        Raises:
            LookupError: It is not kept any more, or play is not offered.
            ValueError: It was not kept as a whole.
        """
        from aiomilter.inspector.replaying import scenario_of

        found = self.store.messages.get(_number(identity))
        if found is None:
            raise LookupError("this message is not kept any more")
        before = await detail(found, content=self._content)
        return {"before": before, "now": await self.play(scenario_of(found))}


def _number(identity: str) -> int:
    return int(identity) if identity.isascii() and identity.isdigit() and len(identity) < 16 else 0
