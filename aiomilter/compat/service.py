"""The server of a program: in an event loop and a thread of its own, from ``milter.main()`` to ``milter.stop()``."""

import asyncio
import contextlib
import os
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final

from aiomilter._process import lifecycle
from aiomilter._process.lifecycle import Control, NoManager
from aiomilter._serving.forked import keep_from_children
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.listening import Listening
from aiomilter.compat.serving import classic_server
from aiomilter.compat.threads import WRITE_TIMEOUT
from aiomilter.options import Options
from aiomilter.server import Server

__all__ = ["Limits", "ThreadedService", "program_service"]

_SIGNAL_PERIOD: Final = 1.0
_TIMEOUT: Final = 7210
"""libmilter's own."""
_CHECK_PERIOD: Final = 600.0
"""So often libmilter looks for connections that have been idle between two stages for longer than its timeout."""


class ThreadedService(NoManager):
    """A server in an event loop of its own, in a thread of its own: any thread may wait for its end.

    Args:
        make_server: Makes the server; called in the loop.
        stopping: Called as soon as it is to stop, maybe more than once.
    """

    def __init__(self, make_server: Callable[[], Server], stopping: Callable[[], None]) -> None:
        self._make_server = make_server
        self._stopping = stopping
        self._loop: AbstractEventLoop | None = None
        self._control = Control()
        # How often the end was requested, and how many of these requests the service has.
        self._requests = 0
        self._passed_on = 0
        self._done = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Serve until :meth:`stop` is called, then drain and return.

        Raises:
            OSError: A socket cannot be listened on.
        """
        thread = threading.Thread(target=self._run, name="milter-loop", daemon=True)
        thread.start()
        # Handlers of signals run here, but the system may wake another thread for one: then this one has to look by itself.
        try:
            while not self._done.wait(_SIGNAL_PERIOD):
                pass
        except BaseException:  # a handler of the program's has raised; the program may catch that and listen again
            self.stop()
            self.stop()
            raise
        finally:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Have :meth:`run` drain and return; the second time, without waiting for open sessions.

        From any thread, or a handler of a signal.
        """
        self._requests += 1
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        while self._passed_on < self._requests:
            self._passed_on += 1
            self._control.request_stop()

    def stopping(self) -> None:
        """Note that the end has begun."""
        self._stopping()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - raised where run() was called
            self._failure = failure
        finally:
            self._done.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pass_on()
        try:
            await lifecycle.run(self._make_server(), self._control, manager=self)
        finally:
            self._stopping()  # the start may have failed, or may have been cancelled


def program_service(
    callbacks: Callbacks, listening: Listening, *, inline: Callable[[], bool], timeout: int | None, backlog: int
) -> ThreadedService:
    """Return what serves a program on a socket that listens.

    The timeout is libmilter's, which counts inside of a packet: from octet to octet of one that has begun, and while the MTA
    takes nothing.  A connection that is idle between two packets is closed when libmilter finds, as it looks every ten minutes,
    that it has been idle for longer; here once it has been idle for ten minutes more.

    Args:
        callbacks: What it calls.
        listening: The socket; closed when the service begins to stop, lest MTAs wait in its queue until the end.
        inline: As for :func:`classic_server`.
        timeout: Seconds; below 0 a packet may take any time; None for libmilter's default.
        backlog: Connections the system may keep waiting.

    Source: libmilter/docs/smfi_settimeout.html; libmilter/worker.c, mi_pool_controller; observed of libmilter 8.17.1.9.
    """
    keep_from_children(listening.socket)
    seconds = float(_TIMEOUT if timeout is None else timeout)
    return ThreadedService(
        lambda: classic_server(
            callbacks,
            f"fd:{os.dup(listening.socket.fileno())}",
            inline=inline,
            threads=Limits.threads,
            read_timeout=seconds if seconds >= 0 else None,
            idle_timeout=max(seconds, 0.0) + _CHECK_PERIOD,
            write_timeout=seconds if 0 < seconds < WRITE_TIMEOUT else WRITE_TIMEOUT,
            drain_timeout=Options().drain_timeout if Limits.drain_timeout is None else Limits.drain_timeout,
            backlog=backlog,
        ),
        listening.close,
    )


class Limits:
    """What the command line sets for all servers of a program."""

    threads: int | None = None
    drain_timeout: float | None = None
