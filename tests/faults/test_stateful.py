"""A server and its connections, led anywhere: what each MTA was answered, what each filter was told, and what is left.

Several connections at once; packets whole, halved or in a row; callbacks that wait until they are let go; MTAs that leave;
a server that gets another factory, drains, or closes.
"""

import asyncio
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiomilter import TEMPFAIL, Reply
from tests.peer import (
    ABORT,
    CALLBACKS,
    DATA,
    EOH,
    EOM,
    QUIT,
    QUIT_NC,
    Gate,
    Peer,
    Scene,
    body,
    connect,
    filter_class,
    header,
    helo,
    macros,
    mail,
    names,
    offer,
    rcpt,
    serving,
    unknown,
)

PACKETS: Final = {
    "C": connect(),
    "H": helo(),
    "D": macros("M", i="Q1"),
    "M": mail(),
    "R": rcpt(),
    "T": DATA,
    "L": header(),
    "N": EOH,
    "B": body(),
    "E": EOM,
    "U": unknown(),
    "A": ABORT,
    "K": QUIT_NC,
    "Q": QUIT,
}
UNANSWERED: Final = "DAKQ"
GATED: Final = ("envfrom", "envrcpt", "header", "eom", "abort", "close")
MOST: Final = 4
"""Connections at once."""


class Link:
    """One connection, as its MTA sees it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.due = 1
        self.half = b""
        self.gone = False


class Machine(RuleBasedStateMachine):
    """Leads one server."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.links: list[Link] = []
        self.gates: list[Gate] = []
        self.gated = ""
        self.filters = [self.filter_class()]
        self.over = False
        self.scene: Scene
        self.loop = self.runner.get_loop()
        self.ending = asyncio.Event()
        self.holding = self.loop.create_task(self.hold())
        self.turn()

    async def hold(self) -> None:
        """Serve in a task of its own, which finds no other but itself at the end."""
        async with serving(self.filters[0]) as self.scene:
            await self.ending.wait()

    def filter_class(self) -> Any:
        """A filter that waits in the callback that the machine has chosen, and answers at each by turns."""

        def play(name: str) -> Any:
            async def call(filter_: Any, ctx: Any, event: Any) -> Any:
                if name == self.gated and len(self.gates) < 20:
                    gate = Gate(TEMPFAIL if len(self.gates) % 3 == 1 else None)
                    self.gates.append(gate)
                    return await gate()(filter_, ctx, event)
                if name == "envrcpt" and len(filter_.told) % 4 == 3:
                    return Reply(550, "5.1.1", "not here")
                if name == "header" and len(filter_.told) % 7 == 6:
                    raise ValueError("by turns")
                return None

            return call

        return filter_class({name: play(name) for name in CALLBACKS[1:]})

    def turn(self) -> None:
        """Let the loop do what it can."""

        async def turns() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.runner.run(turns())

    @property
    def open(self) -> list[Link]:
        return [link for link in self.links if not link.gone and not link.peer.wire.closing]

    @property
    def waiting(self) -> list[Gate]:
        """Where callbacks wait, those left out that were cancelled."""
        return [gate for gate in self.gates if gate.reached.is_set() and not gate.opened.is_set() and not gate.left]

    @initialize()
    def begin(self) -> None:
        self.connect(greet=True)

    @precondition(lambda self: not self.over and len(self.open) < MOST)
    @rule(greet=st.booleans())
    def connect(self, greet: bool) -> None:
        async def made() -> None:
            link = Link(self.scene.peer())
            link.peer.write(offer() + (PACKETS["C"] + PACKETS["H"] if greet else b""))
            link.due += 2 * greet
            self.links.append(link)

        self.runner.run(made())
        self.turn()

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(0, MOST),
        letters=st.one_of(
            st.sampled_from(["MRTLNBE", "MRTLNBEA", "MRLLN", "MRRA", "CH", "A", "A", "Q", "K", *PACKETS]),
            st.text(alphabet="".join(PACKETS), min_size=1, max_size=6),
        ),
        gated=st.sampled_from(["", *GATED]),
        cut=st.sampled_from([0, 0, 0, 1, 4, 9]),
    )
    def send(self, which: int, letters: str, gated: str, cut: int) -> None:
        """Say some packets, the last of them perhaps not to its end; callbacks of one name wait from now on."""
        self.gated = gated
        link = self.open[which % len(self.open)]
        octets = link.half + b"".join(PACKETS[letter] for letter in letters)
        link.half = octets[len(octets) - cut :] if 0 < cut < len(PACKETS[letters[-1]]) else b""
        link.due += sum(letter not in UNANSWERED for letter in letters)

        async def written() -> None:
            link.peer.write(octets[: len(octets) - len(link.half)])

        self.runner.run(written())
        self.turn()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, MOST))
    def leave(self, which: int) -> None:
        link = self.open[which % len(self.open)]
        link.gone = True

        async def left() -> None:
            link.peer.hang_up()

        self.runner.run(left())
        self.turn()

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 20))
    def let_go(self, which: int) -> None:
        self.waiting[which % len(self.waiting)].opened.set()
        self.turn()

    @precondition(lambda self: not self.over)
    @rule()
    def reload(self) -> None:
        self.filters.append(self.filter_class())
        self.runner.run(self.scene.server.reload(self.filters[-1]))

    @rule()
    def wait(self) -> None:
        self.turn()

    @precondition(lambda self: not self.over and len(self.links) > MOST)
    @rule(timeout=st.sampled_from([0, 0.001]))
    def drain(self, timeout: float) -> None:
        """Stop the server in its own time; what still waits then is answered."""
        self.over = True
        self.gated = ""
        for gate in self.gates:
            gate.opened.set()
        self.runner.run(self.scene.server.drain(timeout))
        self.turn()
        assert not self.open

    @invariant()
    def answers_are_due(self) -> None:
        """Never more answers than commands that have one; all of them once nobody waits, unless the MTA has left."""
        waits = bool(self.waiting)
        for link in self.links:
            answers = link.peer.answers
            assert len(answers) <= link.due
            if not waits and not link.half and link in self.open and answers and "Q" not in answers:
                assert len(answers) == link.due, (answers, link.due)

    @invariant()
    def nothing_breaks(self) -> None:
        """Failures are the filter's own."""
        assert all("ValueError" in what for _, what, _ in self.scene.watcher.failures), self.scene.watcher.failures

    def teardown(self) -> None:
        """Close; every filter has its end, and no task stays."""
        for gate in self.gates:
            gate.opened.set()
        self.gated = ""
        try:
            self.turn()
            self.loop.call_soon(self.ending.set)
            self.loop.run_until_complete(self.holding)
            for filter_ in self.filters:
                told = names(filter_)
                assert told.count("close") <= len(filter_.made) - 1
                assert told.count("abort") <= told.count("envfrom") + told.count("envrcpt") + told.count("eom")
            assert sum(names(filter_).count("close") for filter_ in self.filters) == sum(
                len(filter_.made) - 1 for filter_ in self.filters
            )
        finally:
            self.runner.close()


TestServer = pytest.mark.slow(Machine.TestCase)
TestServer.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
