"""A recorded message read: its stages with answers and times, its content, and the edits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiomilter._connection.answers import answer_text
from aiomilter.exceptions import RemoteProtocolError
from aiomilter.handler import CALLBACKS
from aiomilter.inspector.frames import Frame, frames
from aiomilter.inspector.recording import RECEIVED, SENT, WAITED, Entry, Recorded
from aiomilter.mta import Answer, Style
from aiomilter.mta.answers import EndOfMessageReader
from aiomilter.mta.replies import smtp_reply
from aiomilter.observe import ClientRefused
from aiomilter.wire.constants import STAGE_OF_COMMAND, Command, ReplyCode, Stage
from aiomilter.wire.events import Connect, Header, Helo, Mail, Rcpt, Unknown
from aiomilter.wire.modifications import Modification
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer
from aiomilter.wire.replies import CONTINUE, PASSING, SKIP, Reply, Verdict

__all__ = ["Conversation", "PlayedStage", "Wait", "read"]

_OF_CONNECTION: Final = (Stage.CONNECT, Stage.HELO)
_NOT_SENT: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.HEADER, Stage.EOH, Stage.BODY)
_MOST_STAGES: Final = 2000
"""Rows of a conversation; recipients above that are counted alone."""
_COUNTED: Final = frozenset({Stage.HEADER, Stage.BODY})
"""Stages of which many packets are one row."""
_EDITS_SIZE: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Wait:
    """A callback that has suspended.

    Args:
        callback: Its name.
        filter: Of a composition, the filter.
        begin: When, in seconds from the begin of the conversation.
    """

    callback: str
    filter: str
    begin: float


@dataclass(slots=True)
class PlayedStage:
    """A stage, or several alike: all header fields, all pieces of the body.

    Args:
        stage: Which.
        what: What the MTA has told, for people.
        begin: When it came, in seconds from the begin of the conversation.
        answer: In one line; "" for none.
        why: Why there is no answer: "no reply", "not sent", "before" (of an earlier message); else "".
        reply: The SMTP reply that follows; "" if nothing is sent at once.
        seconds: Until the answer.
        waits: The callbacks that have suspended.
        progress: How many PROGRESS packets were sent.
        count: How many packets it stands for.
    """

    stage: Stage
    what: str
    begin: float = 0.0
    answer: str = ""
    why: str = ""
    reply: str = ""
    seconds: float = 0.0
    waits: list[Wait] = field(default_factory=list)
    progress: int = 0
    count: int = 1


@dataclass(slots=True)
class Conversation:
    """What was said about one message.

    Args:
        style: The MTA.
        stages: In order.
        connect: The client; None if it was not told.
        helo: Its name.
        mail: The sender.
        recipients: Those that were not refused.
        headers: The fields that the filter has seen.
        body: What it has seen of the body.
        macros: By stage.
        modifications: The edits.
        complete: Whether the filter has seen all of header section and body.
        seconds: From the first packet of the message to the last answer.
    """

    style: Style = "postfix"
    stages: list[PlayedStage] = field(default_factory=list)
    connect: Connect | None = None
    helo: str = ""
    mail: Mail | None = None
    recipients: list[Rcpt] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    macros: dict[str, dict[str, str]] = field(default_factory=dict)
    modifications: tuple[Modification, ...] = ()
    complete: bool = False
    seconds: float = 0.0


def read(recorded: Recorded) -> Conversation:
    """Return the conversation of a message; what cannot be read is left out."""
    reader = _Reader(recorded)
    reader.read()
    return reader.found


class _Reader:
    def __init__(self, recorded: Recorded) -> None:
        self.found = Conversation()
        self._event = recorded.event
        self._entries = recorded.entries
        self._head = recorded.head
        self._agreement: Agreement | None = recorded.agreement
        answer = NegotiateAnswer(6, 0, 0, {}) if recorded.agreement is None else recorded.agreement.answer
        self._edits = EndOfMessageReader("postfix", answer, lenient=True, max_size=_EDITS_SIZE)
        self._silent = frozenset() if recorded.agreement is None else recorded.agreement.silent
        self._declined = frozenset() if recorded.agreement is None else recorded.agreement.declined
        if Stage.CONNECT not in answer.macros:
            self.found.style = "sendmail"  # Postfix names itself, unless the filter has asked for other macros
        self._began = self._entries[0][0] if self._entries else 0.0
        self._answers: Iterator[Frame] = frames(self._entries, SENT)

    def read(self) -> None:
        """Read all packets."""
        self._read_head()
        for frame in frames(self._entries, RECEIVED):
            try:
                self._take(frame)
            except (RemoteProtocolError, UnicodeError):
                continue
        found = self.found
        last = found.stages[-1] if found.stages else None
        if isinstance(self._event, ClientRefused) and last is not None and last.why == "unanswered":
            last.answer, last.why = self._event.answer, ""  # which has not left yet when this is recorded
        found.complete = found.complete and not {Stage.HEADER, Stage.BODY} & self._declined
        found.modifications = self._edits.result(CONTINUE).modifications
        found.stages += [PlayedStage(stage, "", why="not sent") for stage in _NOT_SENT if stage in self._declined]
        found.stages.sort(key=lambda played: played.stage if played.stage is not Stage.UNKNOWN else -1)
        _divide(found.stages, self._entries, self._began)
        end = self._entries[-1][0] if self._entries else self._began
        begin = next((played.begin for played in found.stages if played.stage is Stage.MAIL), 0.0)
        found.seconds = max(0.0, end - self._began - begin)

    def _read_head(self) -> None:
        """Read what was told of the client before an earlier message."""
        for stage in _OF_CONNECTION:
            payload = self._head.packets.get(stage.command)
            macros = self._head.macros.get(stage.command)
            if macros is not None:
                self._take_macros(bytes((stage.command,)) + macros)
            if payload is not None:
                self.found.stages.append(PlayedStage(stage, self._what(stage, payload), why="before"))

    def _take(self, frame: Frame) -> None:
        _, code, payload = frame
        if code == Command.MACRO:
            self._take_macros(payload)
        elif code == Command.OPTNEG:
            next(self._answers, None)
        elif code in STAGE_OF_COMMAND:
            stage = STAGE_OF_COMMAND[Command(code)]
            if stage in _OF_CONNECTION:
                self.found.stages = [each for each in self.found.stages if each.stage is not stage]
            what = self._what(stage, payload)
            played = self._row(stage, what, frame.time - self._began)
            self._answer(played, frame)

    def _row(self, stage: Stage, what: str, begin: float) -> PlayedStage:
        stages = self.found.stages
        alike = stages and stages[-1].stage is stage and (stage in _COUNTED or len(stages) >= _MOST_STAGES)
        if alike and stages[-1].answer in ("", "continue"):
            stages[-1].count += 1
            return stages[-1]
        played = PlayedStage(stage, what, begin)
        stages.append(played)
        return played

    def _what(self, stage: Stage, payload: bytes) -> str:
        """Return what a packet tells, for people, and keep it."""
        found = self.found
        match stage:
            case Stage.CONNECT:
                found.connect = connect = Connect.decode(payload)
                address = f" [{connect.raw_address}]" if connect.raw_address else ""
                return f"{connect.hostname}{address}"
            case Stage.HELO:
                found.helo = Helo.decode(payload).name
                return found.helo
            case Stage.MAIL:
                found.mail = Mail.decode(payload)
                return " ".join((found.mail.path, *found.mail.params))
            case Stage.RCPT:
                rcpt = Rcpt.decode(payload)
                found.recipients.append(rcpt)
                return " ".join((rcpt.path, *rcpt.params))
            case Stage.HEADER:
                leading = self._agreement is not None and self._agreement.leading_space
                header = Header.decode_leading(payload) if leading else Header.decode(payload)
                found.headers.append(header)
                return header.name
            case Stage.BODY:
                found.body.append(payload)
                return ""
            case Stage.EOM:
                found.complete = True
                if payload:
                    found.body.append(payload)
                return ""
            case Stage.UNKNOWN:
                return Unknown.decode(payload).line
            case _:
                return ""

    def _answer(self, played: PlayedStage, frame: Frame) -> None:
        """Find the answer to a packet."""
        stage = played.stage
        if stage in self._silent:
            played.why = "no reply"
            return
        for when, code, payload in self._answers:
            if self._edits.take(code, payload):
                played.progress += code == ReplyCode.PROGRESS
                continue
            answer = _answer_of(code, payload)
            played.answer = f"unknown ({code:#04x})" if answer is None else answer_text(answer)
            played.seconds += max(0.0, when - frame.time)
            if answer is not None:
                self._follow(played, answer)
            return
        played.why = "unanswered"

    def _follow(self, played: PlayedStage, answer: Answer) -> None:
        """Record what follows from an answer."""
        stage = played.stage
        passes = answer in PASSING or answer is SKIP
        if stage is Stage.RCPT and not passes and self.found.recipients:
            self.found.recipients.pop()
        if stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.EOM) or not passes:
            queue_id = self._event.where.queue_id or ""
            played.reply = smtp_reply(self.found.style, stage, answer, queue_id=queue_id)

    def _take_macros(self, payload: bytes) -> None:
        """Keep the macros of a stage."""
        try:
            stage = STAGE_OF_COMMAND[Command(payload[0])].name
        except (ValueError, KeyError, IndexError):
            return
        texts = payload[1:].decode("utf-8", "surrogateescape").split("\0")[:200]
        values = {name.strip("{}"): value for name, value in zip(texts[::2], texts[1::2], strict=False)}
        self.found.macros.setdefault(stage, {}).update(values)
        version = values.get("v")
        if version is not None:
            self.found.style = "postfix" if version.startswith("Postfix") else "sendmail"


def _answer_of(code: int, payload: bytes) -> Answer | None:
    try:
        return Reply.decode(payload) if code == ReplyCode.REPLYCODE else Verdict(code)
    except (ValueError, RemoteProtocolError):
        return None


def _divide(stages: Sequence[PlayedStage], entries: Sequence[Entry], began: float) -> None:
    """Give each stage its part of the time of the packets that came together.

    A callback that has not suspended took next to nothing; one that has took the time until the next one suspends, or until
    the answer.
    """
    waits: list[Wait] = []
    end = 0.0
    for when, kind, what in entries:
        if kind == WAITED:
            waits.append(Wait(what[0], what[1], when - began))
        else:
            if kind == SENT and waits:
                _give(stages, waits, when - began)
                waits = []
            end = when - began
    if waits:
        _give(stages, waits, end)


def _give(stages: Sequence[PlayedStage], waits: Sequence[Wait], end: float) -> None:
    """Give the stages of callbacks that have suspended the time until ``end``."""
    ends = [*(wait.begin for wait in waits[1:]), end]
    for wait, until in zip(waits, ends, strict=True):
        played = next(
            (
                each
                for each in reversed(stages)
                if CALLBACKS[each.stage] == wait.callback and each.begin <= wait.begin and each.why != "before"
            ),
            None,
        )
        if played is None:
            continue
        played.waits.append(wait)
        if played.why == "no reply":
            taken = max(0.0, until - wait.begin)
            played.seconds += taken
            last = next(
                (each for each in stages if each.stage > played.stage and each.answer and each.seconds >= taken), None
            )
            if last is not None:
                last.seconds -= taken
