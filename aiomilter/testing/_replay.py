"""Replaying recorded sessions, and the result."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Unpack

from aiomilter.mta import Style, Writer
from aiomilter.options import Options, ServeOptions
from aiomilter.recording import Recording, RecordingError, read
from aiomilter.server import Factory
from aiomilter.testing._comparing import Difference, compare
from aiomilter.testing._exchanges import Exchange, agreed_in, exchanges_of
from aiomilter.testing._memory import MemoryServer
from aiomilter.testing._outcomes import Outcome, recorded_outcomes
from aiomilter.testing._player import Player
from aiomilter.wire.constants import Stage
from aiomilter.wire.negotiation import NegotiateAnswer

__all__ = ["Replay", "ReplayPlan", "replay"]


@dataclass(frozen=True, slots=True)
class Replay:
    """What a recorded session comes to.

    Args:
        name: Of the recording.
        differences: What differs, in order; empty if nothing does.
        failures: Exceptions that left callbacks, and other failures of the filter.
        notes: What could not be compared, one sentence each.
    """

    name: str
    differences: tuple[Difference, ...]
    failures: tuple[Exception, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every packet came to the same as before."""
        return not self.differences

    def __str__(self) -> str:
        """Return what differs, as lines for people."""
        lines = [f"{self.name}: {'equal' if self.equal else f'{len(self.differences)} differ'}"]
        lines += [line for difference in self.differences for line in difference.lines()]
        lines += [f"failure: {type(error).__name__}: {error}" for error in self.failures]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(slots=True)
class ReplayPlan:
    """A recorded session, ready to be played.

    Args:
        recording: The session.
        mta: The MTA to behave as; None for the one it was recorded with.
    """

    recording: Recording
    mta: Style | None = None
    agreed: NegotiateAnswer = field(init=False)
    exchanges: list[Exchange] = field(init=False)
    recorded: list[Outcome] = field(init=False)

    def __post_init__(self) -> None:
        """Read the session.

        Raises:
            RecordingError: It is not one that can be replayed.
        """
        self.agreed = agreed_in(self.recording)
        self.exchanges = exchanges_of(self.recording)
        self.recorded = recorded_outcomes(self.exchanges, self.style, self.agreed)

    @property
    def style(self) -> Style:
        """Whose rules are followed."""
        return self.recording.head.style if self.mta is None else self.mta

    async def play(
        self, streams: tuple[asyncio.StreamReader, Writer], timeout: float
    ) -> tuple[list[Outcome], NegotiateAnswer | None]:
        """Play it over streams; return what each packet comes to, and what was agreed on."""
        player = Player(*streams, self.style, self.agreed, timeout)
        return await player.play(self.exchanges, self.recorded), player.agreed

    async def play_to(self, factory: Factory, options: Options, timeout: float) -> "Played":
        """Play it to a filter in memory."""
        async with MemoryServer(factory, options) as server:
            outcomes, agreed = await self.play(server.connect(), timeout)
        return Played(outcomes, agreed, tuple(server.failures.take()))

    async def compared_with(
        self, against: Factory | Recording | None, options: Options, timeout: float
    ) -> tuple[list[Outcome], bool]:
        """Return what each packet came to in what is compared with, and whether its texts count."""
        kind = self.recording.head.content
        if against is None:
            return self.recorded, kind == "full"
        if isinstance(against, Recording):
            return self.outcomes_of(against), against.head.content == kind == "full"
        return (await self.play_to(against, options, timeout)).outcomes, True

    def outcomes_of(self, other: Recording) -> list[Outcome]:
        """Return what the packets of another recording of the same session came to.

        Raises:
            RecordingError: It is of another session.
        """
        plan = ReplayPlan(other, self.style)
        if [one.code for one in plan.exchanges] != [one.code for one in self.exchanges]:
            raise RecordingError(f"{other.name}: expected the same session as in {self.recording.name}, found another")
        return plan.recorded

    def result(self, played: "Played", before: Sequence[Outcome], *, whole: bool) -> Replay:
        """Return what differs between a play and another."""
        differences = compare(self.exchanges, before, played.outcomes, whole=whole)
        return Replay(self.recording.name, differences, played.failures, tuple(self._lacking(played.agreed)))

    def _lacking(self, agreed: NegotiateAnswer | None) -> list[str]:
        """Return notes on stages that the filter asks for, but that the recorded one did not."""
        if agreed is None:
            return []
        missing = [
            stage.name
            for stage in Stage
            if self.agreed.protocol & stage.no_flag and not agreed.protocol & stage.no_flag
        ]
        return [f"the filter asks for {', '.join(missing)}, which the recording does not have"] if missing else []


@dataclass(frozen=True, slots=True)
class Played:
    """A play of a session.

    Args:
        outcomes: What each packet came to.
        agreed: What was agreed on; None if nothing was.
        failures: Of the filter.
    """

    outcomes: list[Outcome]
    agreed: NegotiateAnswer | None
    failures: tuple[Exception, ...] = ()


async def replay(
    recording: Recording | str | os.PathLike[str],
    factory: Factory,
    *,
    against: Factory | Recording | None = None,
    mta: Style | None = None,
    timeout: float = 30.0,
    **options: Unpack[ServeOptions],
) -> Replay:
    """Play a recorded session to a filter: ``assert (await replay("refused.jsonl.gz", MyFilter)).equal``.

    Compared are, stage by stage, the filter's answer, its edits and the message as the MTA passes it on.  Of a recording that
    has only the shape of what was sent, the texts are not compared, unless it is played to two filters.

    Args:
        recording: The session, or the path of its file.
        factory: As for :func:`aiomilter.serve`.
        against: What to compare with: another filter, which the session is played to as well, or another recording of the same
            session; None for the answers in the recording.
        mta: The MTA whose rules the delivery follows; None for the one it was recorded with.
        timeout: Seconds to wait for each answer.
        options: As for :func:`aiomilter.serve`.

    Raises:
        RecordingError: The recording is damaged, or has no session to replay.
        OSError: Its file cannot be read.
        TypeError, ValueError: There is no such option, or a value is not one that it takes.
        Exception: What the factory raises.
    """
    checked = Options.given_to(replay, options)
    plan = ReplayPlan(recording if isinstance(recording, Recording) else read(recording), mta)
    before, whole = await plan.compared_with(against, checked, timeout)
    return plan.result(await plan.play_to(factory, checked, timeout), before, whole=whole)
