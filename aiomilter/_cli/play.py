"""Messages played to a filter stage by stage, and what it answered to each: the data that ``check`` reports."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import perf_counter
from typing import Final

from aiomilter import mta
from aiomilter._cli.messages import Message
from aiomilter.mta.replies import smtp_reply
from aiomilter.wire.constants import SINCE_VERSION, Protocol, Stage
from aiomilter.wire.events import Mail, Rcpt
from aiomilter.wire.modifications import Modification, ReplaceBody
from aiomilter.wire.negotiation import NegotiateAnswer
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, PASSING, TEMPFAIL, Reply

__all__ = [
    "CheckScenario",
    "Failure",
    "Outcome",
    "Path",
    "Play",
    "PlayedMessage",
    "PlayedStage",
    "begin",
    "play_message",
]

_8BIT: Final = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True, slots=True)
class Path:
    """A sender or recipient to play.

    Args:
        text: With its brackets.
        params: ESMTP parameters.
    """

    text: str
    params: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as the client writes it."""
        return " ".join((self.text, *self.params))


@dataclass(frozen=True, slots=True)
class CheckScenario:
    """Who sends, and who asks.

    Args:
        style: Which MTA asks.
        client: Address of the SMTP client.
        hostname: Its name.
        helo: What it says in EHLO.
        sender: Envelope sender of every message.
        recipients: Envelope recipients of every message.
        macros: Values by stage.
        timeout: Seconds to wait for an answer.
    """

    style: mta.Style
    client: str
    hostname: str
    helo: str
    sender: Path
    recipients: tuple[Path, ...]
    macros: mta.MacroValues
    timeout: float


@dataclass(slots=True)
class Failure:
    """Something that went wrong in the filter, or a note on what it does.

    Args:
        callback: Its name, or "".
        what: One line.
        traceback: The filter's own lines; "" if there is none.
        fatal: Whether the command is to fail; else it is a note.
    """

    callback: str
    what: str
    traceback: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class PlayedStage:
    """A stage, or several alike: all header fields, all pieces of the body.

    Args:
        stage: Which.
        what: The event, for people to read.
        answer: What it answered; None if it was not asked, or not for an answer.
        why: Why there is no answer: "not sent" (the filter declined the stage), "no reply" (it gives none), "decided before",
            "none there"; else "".
        reply: The SMTP reply sent at once; "" if nothing.
        seconds: Until the answer; None if that was not measured.
        filter: Which filter of a composition has answered; "" for none or if there is only one.
    """

    stage: Stage
    what: str
    answer: mta.Answer | None
    why: str = ""
    reply: str = ""
    seconds: float | None = None
    filter: str = ""


class Outcome(StrEnum):
    """What becomes of a message."""

    ACCEPT = "accept"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    DISCARD = "discard"
    BROKEN = "broken off"


@dataclass(slots=True)
class PlayedMessage:
    """What became of one message.

    Args:
        message: The one.
        sender: As played, with its parameters.
        recipients: As played.
        content: As the filter was shown it.
        stages: In order.
        decided: The stage at which the decision was answered, and the answer; DATA where the MTA itself refuses the content;
            None if the filter broke off.
        modifications: What the filter asked for.
        delivered: The message as the MTA would pass it on; None if it does not.
        reply: The final SMTP reply.
        queue_id: The MTA's name for it.
        failures: What went wrong with it, in order.
        expected: Whether the outcome is the expected one; None if none is expected.
    """

    message: Message
    sender: Path
    recipients: tuple[Path, ...]
    content: mta.Content
    stages: list[PlayedStage] = field(default_factory=list)
    decided: tuple[Stage, mta.Answer] | None = None
    modifications: tuple[Modification, ...] = ()
    delivered: mta.Delivered | None = None
    reply: str = ""
    queue_id: str = ""
    failures: list[Failure] = field(default_factory=list)
    expected: bool | None = None

    @property
    def outcome(self) -> Outcome:
        """What becomes of the message."""
        if self.decided is None:
            return Outcome.BROKEN
        answer = self.decided[1]
        if answer in (CONTINUE, ACCEPT):
            return Outcome.ACCEPT
        if answer is DISCARD:
            return Outcome.DISCARD
        later = answer is TEMPFAIL or (isinstance(answer, Reply) and answer.temporary)
        return Outcome.TEMPFAIL if later else Outcome.REJECT

    @property
    def failed(self) -> bool:
        """Whether the filter failed."""
        return any(failure.fatal for failure in self.failures)

    @property
    def seconds(self) -> float:
        """How long the filter took for it."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    def forget_octets(self) -> None:
        """Drop what is large: it is not going to be shown."""
        self.message = replace(self.message, octets=b"")
        self.content = replace(self.content, fields=(), body=b"")
        if self.delivered is not None:
            self.delivered = replace(self.delivered, octets=b"")
        self.modifications = tuple(
            ReplaceBody(b"") if isinstance(each, ReplaceBody) else each for each in self.modifications
        )


@dataclass(slots=True)
class Play:
    """All that was played on one connection.

    Args:
        scenario: Who sent, and who asked.
        asked: TARGET, or the socket of the running filter.
        agreed: The negotiated options; None if the negotiation failed.
        connection: CONNECT and HELO.
        messages: In order.
        failures: What went wrong apart from a message, in order.
        expect: The outcome that each message is expected to have; "" for none.
        unplayed: Messages that were not played, since the filter could not be asked any more.
        current: The message that is played; None while a session begins.
        answered: Which filter of a composition has answered last at each stage.
    """

    scenario: CheckScenario
    asked: str
    agreed: NegotiateAnswer | None = None
    connection: list[PlayedStage] = field(default_factory=list)
    messages: list[PlayedMessage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    expect: str = ""
    unplayed: int = 0
    current: PlayedMessage | None = None
    answered: dict[Stage, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the filter failed or broke the protocol."""
        return any(failure.fatal for failure in self.failures) or any(played.failed for played in self.messages)

    @property
    def unexpected(self) -> bool:
        """Whether an outcome is not the expected one."""
        return any(played.expected is False for played in self.messages)

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many messages have each outcome."""
        return Counter(played.outcome for played in self.messages)

    def add_failure(self, failure: Failure) -> None:
        """Add a failure to the message that is played, or else to those of the connection."""
        (self if self.current is None else self.current).failures.append(failure)


async def begin(session: mta.Session, play: Play, *, connected: bool) -> None:
    """Play CONNECT and HELO, and record the answers.

    Args:
        session: Negotiated.
        play: Takes the negotiated options and the answers.
        connected: Both have been played already.
    """
    scenario = play.scenario
    play.current, play.agreed = None, session.agreed
    stages = []
    times: dict[Stage, float] = {}
    if not connected:
        began = perf_counter()
        await session.connect(scenario.hostname, scenario.client)
        times[Stage.CONNECT] = perf_counter() - began
        if session.decided is None:
            began = perf_counter()
            await session.helo(scenario.helo)
            times[Stage.HELO] = perf_counter() - began
    decided = session.decided
    for stage, what in ((Stage.CONNECT, f"{scenario.hostname} [{scenario.client}]"), (Stage.HELO, scenario.helo)):
        why = _unasked(session, stage)
        if decided and decided[0] < stage:
            why = "decided before"
        answer = decided[1] if decided and decided[0] is stage else CONTINUE
        by = play.answered.pop(stage, "") if not why else ""
        stages.append(PlayedStage(stage, what, None if why else answer, why, seconds=times.get(stage), filter=by))
    play.connection = stages


async def play_message(session: mta.Session, play: Play, message: Message) -> None:
    """Play a message; the result is recorded in ``play``, as far as the filter went.

    Raises:
        MilterError: The filter broke the protocol, or hung up.
        TimeoutError: It did not answer.
    """
    sender = play.scenario.sender
    if not sender.params:
        sender = replace(sender, params=_usual_params(message.octets))
    played = PlayedMessage(message, sender, play.scenario.recipients, mta.cut(message.octets, play.scenario.style))
    play.messages.append(played)
    play.current = played
    await _Player(session, play, played).play()


def _usual_params(octets: bytes) -> tuple[str, ...]:
    size = len(octets) + octets.count(b"\n") - octets.count(b"\r\n")
    return (f"SIZE={size}", "BODY=8BITMIME") if _8BIT.search(octets) else (f"SIZE={size}",)


def _unasked(session: mta.Session, stage: Stage) -> str:
    """Return why a filter is not asked for an answer at a stage, by what was negotiated; "" if it is."""
    agreed = session.agreed
    if agreed.protocol & stage.no_flag or agreed.version < SINCE_VERSION.get(stage, 0):
        return "not sent"
    return "no reply" if agreed.protocol & stage.nr_flag else ""


class _Player:
    """Plays one message."""

    def __init__(self, session: mta.Session, play: Play, played: PlayedMessage) -> None:
        self._session = session
        self._style = play.scenario.style
        self._by_filter = play.answered
        self._played = played
        self._began = 0.0

    async def play(self) -> None:
        if await self._mail() and (accepted := await self._recipients()) and await self._data():
            if (refusal := self._played.content.refusal) is not None:
                self._began = perf_counter()
                await self._session.abort()
                self._played.decided, self._played.reply = (Stage.DATA, refusal), str(refusal)
                self._note(Stage.EOM, "", "decided before", refusal, str(refusal))
                return
            await self._headers()
            await self._rest()
            await self._end(accepted)
        elif self._session.decided is None:
            await self._session.abort()

    def _why(self, stage: Stage) -> str:
        """Begin a stage; return why there is no answer, "" if there is one."""
        self._began = perf_counter()
        decided = self._session.decided
        # At MAIL only what holds for the session counts: a message before may have left its decision.
        if decided is not None and (stage is not Stage.MAIL or decided[0] < Stage.MAIL):
            return "decided before"
        return _unasked(self._session, stage)

    def _note(self, stage: Stage, what: str, why: str, answer: mta.Answer, reply: str = "") -> None:
        seconds = perf_counter() - self._began
        by = self._by_filter.pop(stage, "") if not why else ""
        self._played.stages.append(PlayedStage(stage, what, None if why else answer, why, reply, seconds, by))

    def _answered(self, stage: Stage, what: str, why: str, answer: mta.Answer) -> bool:
        """Record a stage of the envelope, and return whether the message goes on."""
        played, decided = self._played, self._session.decided
        passes = answer in PASSING
        by = stage if passes or decided is None else decided[0]
        reply = smtp_reply(self._style, by, answer, at=stage)
        self._note(stage, what, why, answer, reply)
        if not passes:
            played.decided, played.reply = (by, answer), reply
        return passes

    async def _mail(self) -> bool:
        sender = self._played.sender
        why = self._why(Stage.MAIL)
        answer = await self._session.mail(sender.text, *sender.params)
        self._played.queue_id = self._session.queue_id
        return self._answered(Stage.MAIL, str(sender), why, answer)

    async def _recipients(self) -> tuple[Rcpt, ...]:
        accepted = []
        for recipient in self._played.recipients:
            why = self._why(Stage.RCPT)
            answer = await self._session.rcpt(recipient.text, *recipient.params)
            if self._answered(Stage.RCPT, str(recipient), why, answer):
                accepted.append(Rcpt(recipient.text, recipient.params))
        if accepted:
            self._played.decided, self._played.reply = None, ""
        return tuple(accepted)

    async def _data(self) -> bool:
        why = self._why(Stage.DATA)
        return self._answered(Stage.DATA, "", why, await self._session.data())

    async def _headers(self) -> None:
        fields = self._played.content.fields
        why = self._why(Stage.HEADER)
        answer: mta.Answer = CONTINUE
        what = f"{len(fields)} field{'s' * (len(fields) != 1)}"
        for number, line in enumerate(fields, 1):
            answer = await self._session.header(*line.header)
            if answer is not CONTINUE:
                what = f"{line.header.name}, field {number} of {len(fields)}"
                break
        self._note(Stage.HEADER, what, why if fields else "none there", answer)

    async def _rest(self) -> None:
        body = self._played.content.body
        why = self._why(Stage.EOH)
        self._note(Stage.EOH, "", why, await self._session.eoh())
        why = self._why(Stage.BODY)
        answer = await self._session.body(body)
        self._note(Stage.BODY, f"{len(body)} octets", why if body else "none there", answer)

    async def _end(self, accepted: tuple[Rcpt, ...]) -> None:
        session, played = self._session, self._played
        why, decided = self._why(Stage.EOM), session.decided
        result = await session.end_of_message()
        stage = decided[0] if decided else Stage.EOM
        played.decided = stage, result.answer
        played.modifications = result.modifications
        played.reply = smtp_reply(self._style, stage, result.answer, at=Stage.EOM, queue_id=played.queue_id)
        self._note(Stage.EOM, "", why, result.answer, played.reply)
        if result.answer in (CONTINUE, ACCEPT):
            played.delivered = mta.deliver(
                self._style,
                Mail(played.sender.text, played.sender.params),
                accepted,
                played.content,
                result.modifications,
                leading_space=bool(session.agreed.protocol & Protocol.LEADING_SPACE),
            )
