"""The order of a conversation, and which answer each stage takes: tables, and the pure functions that read them.

Source: libmilter/engine.c (next_states, trans_ok); aiomilter/help/protocol.rst, "Answers by command" and
"Order of the conversation".
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

from aiomilter.wire.constants import Command, ReplyCode, Stage
from aiomilter.wire.replies import Refusal, Reply, Verdict

__all__ = [
    "ANSWERS",
    "FOLLOWS",
    "LIBMILTER",
    "NATIVE",
    "Effect",
    "Rules",
    "State",
    "Transition",
    "ends_message",
    "is_legal",
    "transitions",
    "without",
]


class State(enum.IntEnum):
    """Where a conversation is: between messages, or in one, named for the last stage."""

    IDLE = enum.auto()
    MAIL = enum.auto()
    RCPT = enum.auto()
    DATA = enum.auto()
    HEADER = enum.auto()
    EOH = enum.auto()
    BODY = enum.auto()
    EOM = enum.auto()
    DECIDED = enum.auto()
    """This filter has ended the message with a verdict of its own, but the MTA may still send some of it."""
    UNKNOWN = enum.auto()
    """The last command was one that the MTA does not know: a state in libmilter only, and there outside of a message."""


class Effect(enum.IntEnum):
    """What a command means in a state."""

    PROCESS = enum.auto()
    """Call its callback."""
    BEGIN = enum.auto()
    """A message begins; call its callback."""
    INTERRUPT = enum.auto()
    """The open message is aborted first; then the command is handled as between messages."""
    ABORT = enum.auto()
    """The open message is aborted."""
    STRAY = enum.auto()
    """It belongs to no message: answer CONTINUE, call nothing."""
    REPEAT = enum.auto()
    """The message was decided: the same answer again, call nothing."""
    FORGET = enum.auto()
    """The decided message is over; call nothing."""
    IGNORE = enum.auto()
    """Means nothing here; never answered."""


class Transition(NamedTuple):
    """One cell of the table."""

    effect: Effect
    state: State


_ORDER: Final = (State.MAIL, State.RCPT, State.DATA, State.HEADER, State.EOH, State.BODY)

FOLLOWS: Final[Mapping[State, frozenset[Command]]] = MappingProxyType(
    {
        State.MAIL: frozenset({Command.RCPT}),
        State.RCPT: frozenset(
            {
                Command.RCPT,
                Command.DATA,
                Command.HEADER,
                Command.EOH,
                Command.BODY,
                Command.BODYEOB,
            }
        ),
        # Once another filter has refused DATA, the client may name more recipients and send DATA again.  libmilter drops
        # these; answering CONTINUE outside a message would let the message pass unseen.
        State.DATA: frozenset({Command.RCPT, Command.DATA, Command.HEADER, Command.EOH}),
        State.HEADER: frozenset({Command.HEADER, Command.EOH}),
        State.EOH: frozenset({Command.BODY, Command.BODYEOB}),
        State.BODY: frozenset({Command.BODY, Command.BODYEOB}),
        State.EOM: frozenset(),
    }
)
"""The commands that may follow each stage of a message; UNKNOWN and ABORT may follow all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The differences between the order of native filters and that of libmilter; a session has one for its whole life.

    Args:
        follows: The commands that may follow each stage if no stage is declined.  With a row for UNKNOWN, UNKNOWN is a state
            of its own, after which an ABORT always counts as one.
        unknown_follows: The stages of a message that an UNKNOWN may follow without aborting it.
        tolerant: If true, a message needs no MAIL, header field or second CONNECT where the MTA may have left these out, and
            a decided message is remembered until the MTA has ended it.  If false, any packet out of order, a second OPTNEG
            included, ends the open message and gets no answer.
        keeps_macros: Macros outlive their message until those of another replace them, and ``"{j}"`` and ``"j"`` are the same
            for a single letter only.
        splits_space: The space after a header's colon is not part of its value, even where it was agreed to send it.

    Source: aiomilter/help/protocol.rst, "Packets out of order", for the native rules; libmilter/engine.c, observed, for the
    others.
    """

    follows: Mapping[State, frozenset[Command]]
    unknown_follows: frozenset[State]
    tolerant: bool
    keeps_macros: bool
    splits_space: bool


_IN_MESSAGE: Final = frozenset(State) - {State.IDLE, State.DECIDED, State.UNKNOWN}

NATIVE: Final = Rules(
    follows=FOLLOWS, unknown_follows=_IN_MESSAGE, tolerant=True, keeps_macros=False, splits_space=True
)
"""The rules of :class:`aiomilter.Milter`: no message passes unseen, no answer is missing."""

LIBMILTER: Final = Rules(
    follows=MappingProxyType(
        {
            **FOLLOWS,
            State.DATA: frozenset({Command.HEADER, Command.EOH}),
            State.UNKNOWN: frozenset({Command.RCPT, Command.DATA, Command.BODY}),
        }
    ),
    unknown_follows=frozenset({State.MAIL, State.RCPT}),
    tolerant=False,
    keeps_macros=True,
    splits_space=False,
)
"""The rules of filters that were written for libmilter."""

_REACHED: Final = {
    Command.CONNECT: State.IDLE,
    Command.HELO: State.IDLE,
    Command.MAIL: State.MAIL,
    Command.RCPT: State.RCPT,
    Command.DATA: State.DATA,
    Command.HEADER: State.HEADER,
    Command.EOH: State.EOH,
    Command.BODY: State.BODY,
    Command.BODYEOB: State.EOM,
}
_ABORTS: Final = {
    state: Effect.IGNORE if state is State.IDLE else Effect.FORGET if state is State.DECIDED else Effect.ABORT
    for state in State
}
_STATE_OF: Final = {
    Stage.MAIL: State.MAIL,
    Stage.RCPT: State.RCPT,
    Stage.DATA: State.DATA,
    Stage.HEADER: State.HEADER,
    Stage.EOH: State.EOH,
    Stage.BODY: State.BODY,
}


def without(declined: frozenset[Stage], rules: Rules = NATIVE) -> dict[State, frozenset[Command]]:
    """Return what may follow each state as one connection sees it once ``declined`` never arrive.

    What may follow a declined stage may follow the stage before it.  The rules stay as they are: two filters in one process may
    decline different stages.

    Source: libmilter/engine.c, fix_stm and trans_ok.
    """
    missing = {_STATE_OF[stage] for stage in declined if stage in _STATE_OF}
    if rules.tolerant:
        # A message may have no header field.  Where EOH was declined its body then follows DATA; taken for out of order, the
        # message would pass unseen.  libmilter drops it, and the MTA waits in vain.
        missing.add(State.HEADER)
    table = {State.IDLE: frozenset({Command.MAIL}), **rules.follows}
    for before, after in reversed(tuple(pairwise((State.IDLE, *_ORDER)))):
        if after in missing:
            table[before] |= table[after]
    return table


@lru_cache(maxsize=64)
def transitions(declined: frozenset[Stage], rules: Rules = NATIVE) -> Mapping[State, Mapping[Command, Transition]]:
    """Return the whole table of a connection: for each state, what each command means and where it leads.

    MACRO means nothing by itself, OPTNEG comes once and before all of this, QUIT and QUIT_NC end everything: they are in
    no row, except OPTNEG where a second one is out of order like anything else.  A command that is in no row is unknown.

    Args:
        declined: Steps the filter asked the MTA not to send.
        rules: Whose.

    Source: aiomilter/help/protocol.rst, "Order in libmilter", "Packets out of order" and
    "Where a message begins and ends".
    """
    follows = without(declined, rules)
    begins = {Command.MAIL, *(_REACHED if rules.tolerant and Stage.MAIL in declined else ()), *follows[State.IDLE]}
    table: dict[State, dict[Command, Transition]] = {}
    for state in State:
        if state is State.UNKNOWN and state not in follows:
            continue
        open_message = state in _IN_MESSAGE
        row = {
            Command.UNKNOWN: Transition(Effect.PROCESS, State.UNKNOWN if State.UNKNOWN in follows else state),
            Command.ABORT: Transition(_ABORTS[state], State.IDLE),
        }
        if open_message and state not in rules.unknown_follows:
            row[Command.UNKNOWN] = Transition(Effect.INTERRUPT, State.IDLE)
        if not rules.tolerant:
            row[Command.OPTNEG] = Transition(Effect.INTERRUPT if open_message else Effect.STRAY, State.IDLE)
        for command, reached in _REACHED.items():
            if open_message and command not in follows[state]:
                row[command] = Transition(Effect.INTERRUPT, State.IDLE)
            elif command in (Command.CONNECT, Command.HELO):
                row[command] = Transition(Effect.PROCESS, State.IDLE)
            elif open_message or (state is State.UNKNOWN and command in follows[state]):
                row[command] = Transition(Effect.PROCESS, reached)
            elif command is Command.MAIL:
                row[command] = Transition(Effect.BEGIN, reached)
            elif state is State.DECIDED:
                row[command] = Transition(Effect.REPEAT, State.DECIDED)
            elif command in begins:
                row[command] = Transition(Effect.BEGIN, reached)
            else:
                row[command] = Transition(Effect.STRAY, State.IDLE)
        table[state] = row
    return table


_ANY: Final = frozenset(
    {
        ReplyCode.CONTINUE,
        ReplyCode.ACCEPT,
        ReplyCode.DISCARD,
        ReplyCode.REJECT,
        ReplyCode.TEMPFAIL,
        ReplyCode.REPLYCODE,
    }
)

ANSWERS: Final[Mapping[Stage, frozenset[ReplyCode]]] = MappingProxyType(
    {
        # Undefined by the protocol: Postfix ignores DISCARD here, Sendmail lets everything pass unfiltered.
        Stage.CONNECT: _ANY - {ReplyCode.DISCARD},
        Stage.HELO: _ANY - {ReplyCode.DISCARD},
        Stage.MAIL: _ANY,
        Stage.RCPT: _ANY,
        Stage.DATA: _ANY,
        Stage.HEADER: _ANY,
        Stage.EOH: _ANY,
        Stage.BODY: _ANY | {ReplyCode.SKIP},
        Stage.EOM: _ANY,
        # ACCEPT makes Postfix's SMTP server panic, DISCARD drops the current or next message.
        Stage.UNKNOWN: _ANY - {ReplyCode.ACCEPT, ReplyCode.DISCARD},
    }
)
"""The answers each stage takes; SKIP only if it was agreed on.

Source: aiomilter/help/protocol.rst, "Answers by command", P-091 and P-092.
"""


def is_legal(stage: Stage, response: Verdict | Reply | Refusal) -> bool:
    """Return whether a stage takes an answer."""
    return _code(response) in ANSWERS[stage]


def ends_message(stage: Stage, response: Verdict | Reply | Refusal, rules: Rules = NATIVE) -> bool:
    """Return whether an answer to a stage ends the message, so that no ABORT callback follows.

    Refusing a recipient concerns that recipient only.

    Args:
        stage: The stage.
        response: The answer.
        rules: Whose; libmilter takes DISCARD for a recipient not for the end of the message, but ACCEPT for an
            unknown command.

    Source: aiomilter/help/protocol.rst, "Where a message begins and ends", P-063 and P-068.
    """
    if stage is Stage.UNKNOWN:
        return response is Verdict.ACCEPT and not rules.tolerant
    if stage in (Stage.CONNECT, Stage.HELO):
        return False
    if stage is Stage.EOM:
        return True
    if stage is Stage.RCPT:
        return response is Verdict.ACCEPT or (response is Verdict.DISCARD and rules.tolerant)
    return response not in (Verdict.CONTINUE, Verdict.SKIP)


def _code(response: Verdict | Reply | Refusal) -> ReplyCode:
    if isinstance(response, Reply):
        return ReplyCode.REPLYCODE
    return response.verdict.value if isinstance(response, Refusal) else response.value
