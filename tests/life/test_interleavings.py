"""A server in somebody else's hands: whatever starts, reloads, drains, closes or cancels it, and when, nothing stays open."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiomilter import Milter, serve
from aiomilter.server import Factory
from tests.patience import PATIENCE
from tests.peer import OPENING, Gate, Peer, Watcher, filter_class, mail

KINDS: Final = (
    "plain",
    "plain",
    "plain",
    "slow to end",
    "fails",
    "slow to start",
    "slow to end",
    "fails to end",
    "is no filter",
)
FAILURES: Final = (LookupError, TypeError, RuntimeError, ExceptionGroup)
"""What a factory raises, and what is said where there is no server any more."""


class Boom(Exception):
    """Raised in the block that serves."""


class Actor:
    """Somebody who does something with the server, in a Task of its own."""

    def __init__(self, kind: str, task: "asyncio.Task[Any]") -> None:
        self.kind = kind
        self.task = task
        self.cancelled = False

    @property
    def failed(self) -> bool:
        """Whether a start or a drain was not done to its end."""
        return self.kind in ("start", "drain") and (self.task.cancelled() or self.task.exception() is not None)


class Machine(RuleBasedStateMachine):
    """Leads one server."""

    new_loop: ClassVar[Callable[[], asyncio.AbstractEventLoop]] = asyncio.new_event_loop

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=type(self).new_loop)
        self.loop = self.runner.get_loop()
        self.contexts: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.contexts.append(context))
        self.go, self.leave = asyncio.Event(), asyncio.Event()
        self.error: BaseException | None = None
        self.entered = self.left = 0
        self.actors: list[Actor] = []
        self.peers: list[Peer] = []
        self.gate = Gate()
        self.filter = filter_class({"envfrom": self.gate()})
        self.server: Any = None
        self.directory = tempfile.TemporaryDirectory(prefix="aiomilter-")

    # ------------------------------------------------------------------------------------------------- what it is made of

    def factory(self, kind: str) -> Factory:
        if kind == "plain":
            return self.filter

        @asynccontextmanager
        async def factory() -> AsyncIterator[type[Milter]]:
            if kind == "slow to start":
                await self.go.wait()
            if kind == "fails":
                raise LookupError("no map")
            self.entered += 1
            try:
                yield self.filter if kind != "is no filter" else type("None", (), {})
                if kind == "fails to end":
                    raise LookupError("no map any more")
                if kind == "slow to end":
                    await self.go.wait()
            finally:
                self.left += 1

        return factory

    async def serve(self) -> None:
        async with self.server:
            await self.leave.wait()
            if self.error is not None:
                raise self.error

    def act(self, kind: str, work: Coroutine[Any, Any, Any]) -> None:
        self.actors.append(Actor(kind, self.loop.create_task(work)))

    def turn(self, turns: int) -> None:
        async def some() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.runner.run(some())

    # ------------------------------------------------------------------------------------------------------------ rules

    @precondition(lambda self: self.server is None)
    @rule(kind=st.sampled_from(KINDS), block=st.booleans(), turns=st.sampled_from([12, 12, 12, 0, 1, 2, 3, 4]))
    def begin(self, kind: str, block: bool, turns: int) -> None:
        async def make() -> None:
            self.server = server = serve(
                self.factory(kind),
                f"unix:{self.directory.name}/s",
                observer=Watcher(),
                cancel_timeout=PATIENCE,
                drain_timeout=PATIENCE,
            )
            listeners = server._listeners
            bind = listeners._bind

            async def slowly(address: Any) -> Any:
                # As where a name has to be looked up, but after the same time every time.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                return await bind(address)

            listeners._bind = slowly  # type: ignore[method-assign]

        self.runner.run(make())
        self.act("serve" if block else "start", self.serve() if block else self.server.start())
        self.turn(turns)

    @precondition(lambda self: self.server is not None)
    @rule(turns=st.integers(1, 12))
    def wait(self, turns: int) -> None:
        self.turn(turns)

    @precondition(lambda self: self.server is not None and len(self.actors) < 8)
    @rule(kind=st.sampled_from(KINDS), turns=st.integers(0, 3))
    def reload(self, kind: str, turns: int) -> None:
        self.act("reload", self.server.reload(self.factory(kind)))
        self.turn(turns)

    @precondition(lambda self: self.server is not None and len(self.actors) < 8)
    @rule(timeout=st.sampled_from([None, 0, PATIENCE]), turns=st.integers(0, 3))
    def drain(self, timeout: float | None, turns: int) -> None:
        self.act("drain", self.server.drain(timeout))
        self.turn(turns)

    @precondition(lambda self: self.server is not None and len(self.actors) < 8)
    @rule(turns=st.integers(0, 3))
    def close(self, turns: int) -> None:
        self.act("close", self.server.close())
        self.turn(turns)

    @precondition(lambda self: self.server is not None)
    @rule(error=st.sampled_from([None, Boom()]), turns=st.integers(0, 3))
    def leave_it(self, error: BaseException | None, turns: int) -> None:
        self.error = error
        self.leave.set()
        self.turn(turns)

    @precondition(lambda self: self.actors)
    @rule(which=st.sampled_from([-1, -1, 0, 1, 2]), turns=st.integers(0, 3))
    def cancel(self, which: int, turns: int) -> None:
        actor = self.actors[which % len(self.actors)]
        if not actor.task.done():
            actor.cancelled = True
            actor.task.cancel()
        self.turn(turns)

    @precondition(lambda self: self.server is not None)
    @rule()
    def let_go(self) -> None:
        self.go.set()
        self.turn(1)

    @precondition(lambda self: self.server is not None and len(self.peers) < 4)
    @rule(octets=st.sampled_from([OPENING + mail(), OPENING + mail(), OPENING, b""]))
    def connect(self, octets: bytes) -> None:
        async def made() -> None:
            if self.server._lifespans.current is not None and not self.server._stopped:
                peer = Peer(self.server)
                peer.write(octets)
                self.peers.append(peer)

        self.runner.run(made())
        self.turn(6)

    @precondition(lambda self: self.server is not None and self.server._begun)
    @rule()
    def enter_again(self) -> None:
        with pytest.raises(RuntimeError, match="a server starts once"):
            self.runner.run(self.server.start())

    # ------------------------------------------------------------------------------------------------------ what holds

    @invariant()
    def nothing_is_half_open(self) -> None:
        """Whoever has left the block, has closed, or has given up a start or a drain, leaves a server that is closed."""
        for actor in self.actors:
            if actor.task.done() and (actor.kind in ("serve", "close") or actor.failed):
                self.check_closed(actor)

    def check_closed(self, actor: Actor) -> None:
        what = (actor.kind, actor.task)
        assert not self.server._connections, what
        assert not self.server._listeners, what
        assert self.server._lifespans.current is None, what
        assert self.entered == self.left, what
        assert not self.server._timeouts.active, what

    def teardown(self) -> None:
        try:
            if self.server is not None:
                self.runner.run(self.end())
        finally:
            self.runner.close()
            self.directory.cleanup()

    async def end(self) -> None:
        """Let everybody come to an end, close, and see that nothing is left."""
        self.go.set()
        self.leave.set()
        self.gate.opened.set()
        for peer in self.peers:
            peer.hang_up()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([actor.task for actor in self.actors])
        if not any(actor.kind in ("serve", "close") for actor in self.actors):
            # Nobody has closed it but, maybe, a drain or a start that was cancelled.
            await asyncio.gather(self.server.close(), return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)
        for actor in self.actors:
            error = None if actor.task.cancelled() else actor.task.exception()
            assert error is None or isinstance(error, (*FAILURES, Boom)), (actor.kind, error)
            if actor.cancelled and error is None:
                assert actor.task.cancelled(), actor.kind
        assert self.server._closing is None or self.server._closing.done()
        assert not self.server._connections
        assert not self.server._listeners
        assert not self.server._memory.used
        assert not self.server._timeouts.active
        assert self.server._unwatch is None
        assert self.entered == self.left
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not self.contexts, self.contexts


class OnUvloop(Machine):
    new_loop = uvloop.new_event_loop


ONCE: Final = settings(max_examples=120, stateful_step_count=15, deadline=None)
TestServer = pytest.mark.slow(Machine.TestCase)
TestServer.settings = ONCE
TestServerOnUvloop = pytest.mark.slow(OnUvloop.TestCase)
TestServerOnUvloop.settings = ONCE
