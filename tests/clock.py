"""An event loop whose clock moves only when nothing else can happen: a test of minutes takes no time and is exact."""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec

from tests.patience import PATIENCE

P = ParamSpec("P")


_ON_ITS_WAY: Final = 0.02
"""Seconds, real ones, that octets between two sockets of this process may take where the loop has sockets."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.spins = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            ready = super().select(PATIENCE)  # a thread may still be at work
        elif not ready and timeout and len(self.get_map()) > 1:
            ready = super().select(_ON_ITS_WAY)
        self.spins = self.spins + 1 if timeout == 0 else 0
        assert self.spins < 10_000, "somebody waits for the clock, and lets it not move"
        if not ready:
            assert timeout is not None, "nothing is left that could wake the loop"
            self.now += timeout
        return ready


class ClockLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever all that can run has run."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads that work, however long: minutes of this clock are over before they can end."""
        await super().shutdown_default_executor()


def on_clock(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test on such a loop; there ``asyncio.sleep`` moves the clock."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> Any:
            return await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(main())

    return run
