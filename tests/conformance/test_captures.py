"""Captured conversations played to our side: same events as Postfix and Sendmail meant, same callbacks as libmilter's.

Source: tests/captures/README.md; aiomilter/help/protocol.rst, "Commands" and "Order of the conversation".
"""

import itertools
import random
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import pytest

from aiomilter.exceptions import NegotiationError, RemoteProtocolError
from aiomilter.wire.connection import OutOfOrder, Repeated
from aiomilter.wire.constants import Action, Command, Protocol, Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.framing import FrameBuffer
from aiomilter.wire.macros import Macros
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Progress,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer, Wants, agree
from aiomilter.wire.replies import Reply, Verdict
from aiomilter.wire.state import ends_message
from tests.conformance.capture import Conversation, Packet, conversations, of_libmilter, of_mtas
from tests.wire.driver import STAGES, Listener, Seen
from tests.wire.packets import FromFilter, FromMTA

KINDS: Final[dict[str, type[FromMTA]]] = {
    chr(kind.CODE): kind
    for kind in (
        *(Negotiate, Macros, Connect, Helo, Mail, Rcpt, Data, Header, EndOfHeaders, BodyChunk, EndOfMessage),
        *(Unknown, Abort, Quit, QuitNewConnection),
    )
}
ASKED: Final[dict[str, Callable[[bytes], FromFilter]]] = {
    "O": NegotiateAnswer.decode,
    "h": AddHeader.decode,
    "i": InsertHeader.decode,
    "m": ChangeHeader.decode,
    "b": ReplaceBody.decode,
    "+": AddRecipient.decode,
    "2": AddRecipient.decode_par,
    "-": DeleteRecipient.decode,
    "e": ChangeSender.decode,
    "q": Quarantine.decode,
    "p": Progress.decode,
}
VERDICTS: Final = {chr(verdict.value): verdict for verdict in Verdict}
ANSWERED: Final = "CHMRTLNBEU"


def response(packet: Packet) -> Verdict | Reply | None:
    """Return the answer that a packet of a filter is; None if it is none."""
    return Reply.decode(packet.payload) if packet.code == "y" else VERDICTS.get(packet.code)


def agreement(conversation: Conversation) -> Agreement | None:
    """Return what was agreed on in a conversation, as its packets say."""
    answers = [packet for packet in conversation.sent("F") if packet.code == "O"]
    if not answers:
        return None
    answer = NegotiateAnswer.decode(answers[0].payload)
    return Agreement(
        answer,
        Negotiate.decode(conversation.sent("M")[0].payload),
        silent=frozenset(stage for stage in Stage if answer.protocol & stage.nr_flag),
        declined=frozenset(stage for stage in Stage if answer.protocol & stage.no_flag),
    )


class Replay(Listener):
    """A filter that agrees to what was agreed, and answers what was answered.

    Args:
        conversation: What was captured.
        answers: What the filter answers, one for each stage that was not agreed to be silent.
    """

    def __init__(self, conversation: Conversation, answers: Iterable[Verdict | Reply] | None = None) -> None:
        if answers is None:
            answers = [answer for answer in map(response, conversation.sent("F")) if answer is not None]
        super().__init__(answers=answers)
        self.captured = agreement(conversation)

    def handle(self, event: Seen) -> None:
        """Agree to what was agreed."""
        if isinstance(event, Negotiate) and self.captured is not None:
            self.agreement = self.captured
            self.connection.agreed(self.captured)
        else:
            super().handle(event)

    def answer(self, stage: Stage) -> None:
        """Answer a stage, unless it is silent; what an illegal answer means to a later stage is the session's business."""
        if self.captured is not None and stage in self.captured.silent:
            self.connection.macros.forget_unknown()
            return
        super().answer(stage)


def meant(conversation: Conversation) -> list[FromMTA]:
    """Return the events that the packets of a conversation mean, by SMTP's own order; nothing here reads our tables."""
    agreed = agreement(conversation)
    assert agreed is not None
    answers = iter([answer for answer in map(response, conversation.sent("F")) if answer is not None])
    found: list[FromMTA] = []
    open_message = False
    for packet in conversation.sent("M"):
        if packet.code == "D":
            continue
        event = decoded(packet, agreed)
        if open_message and packet.code in "AHM":
            found.append(Abort())
        if packet.code != "A":
            found.append(event)
        if packet.code in "AHME":
            open_message = packet.code == "M"
        if packet.code in ANSWERED and type(event) in STAGES and STAGES[type(event)] not in agreed.silent:
            answer = next(answers)
            open_message = open_message and not ends_message(STAGES[type(event)], answer)
    assert list(answers) == []
    return found


def decoded(packet: Packet, agreed: Agreement | None) -> FromMTA:
    """Return the event of a packet of an MTA."""
    if packet.code == "L" and agreed is not None and agreed.leading_space:
        return Header.decode_leading(packet.payload)
    return KINDS[packet.code].decode(packet.payload)


def played(conversation: Conversation, pieces: Iterable[bytes]) -> list[Seen]:
    """Return the events of octets that are fed piece by piece."""
    replay = Replay(conversation)
    for piece in pieces:
        replay.feed(piece)
    assert next(replay.answers, None) is None
    return replay.seen


def octets(conversation: Conversation) -> bytes:
    """Return all octets of the MTA."""
    return b"".join(packet.octets for packet in conversation.sent("M"))


def test_the_captures_are_there() -> None:
    assert len(of_mtas()) == 27
    assert len(of_libmilter()) == 44


@pytest.mark.parametrize("name", of_mtas())
def test_each_packet_of_an_mta_brings_the_event_it_means(name: str) -> None:
    """P-030, P-031, P-032, P-061, P-070, P-148: fed packet by packet; one answer for each stage that had one."""
    conversation = conversations()[name]
    assert played(conversation, [packet.octets for packet in conversation.sent("M")]) == meant(conversation)


@pytest.mark.parametrize("name", of_mtas())
def test_glued_packets_bring_the_same_events(name: str) -> None:
    """P-005, P-148."""
    conversation = conversations()[name]
    assert played(conversation, [octets(conversation)]) == meant(conversation)


@pytest.mark.slow
@pytest.mark.parametrize("name", of_mtas())
def test_packets_split_at_random_bring_the_same_events(name: str) -> None:
    """P-004, P-148."""
    conversation = conversations()[name]
    data = octets(conversation)
    source = random.Random(name)
    for _ in range(10):
        ends = [0, *sorted(source.sample(range(1, len(data)), min(40, len(data) - 1))), len(data)]
        pieces = [data[start:stop] for start, stop in itertools.pairwise(ends)]
        assert played(conversation, pieces) == meant(conversation)


@pytest.mark.slow
@pytest.mark.parametrize("name", of_mtas())
def test_single_octets_bring_the_same_events(name: str) -> None:
    """P-004, P-148."""
    conversation = conversations()[name]
    data = octets(conversation)
    assert played(conversation, [data[i : i + 1] for i in range(len(data))]) == meant(conversation)


@pytest.mark.parametrize("name", of_mtas())
def test_an_answer_comes_before_the_mta_goes_on(name: str) -> None:
    """P-005, P-031: so the captures prove which stages take an answer, and that no other does."""
    conversation = conversations()[name]
    agreed = agreement(conversation)
    assert agreed is not None
    waiting = ""
    for packet in conversation.packets:
        if packet.sender == "M" and packet.code in ANSWERED:
            stage = STAGES[KINDS[packet.code]]
            assert not waiting
            waiting = packet.code if stage not in agreed.silent else ""
        elif packet.sender == "F" and response(packet) is not None:
            assert waiting
            waiting = ""
    assert not waiting


@pytest.mark.parametrize("name", of_mtas())
def test_each_offer_of_an_mta_is_answered_within_it(name: str) -> None:
    """P-013, P-016, P-017: by a filter that has all callbacks, and one that has few."""
    offer = Negotiate.decode(conversations()[name].sent("M")[0].payload)
    for stages in (frozenset(Stage), frozenset({Stage.RCPT, Stage.EOM})):
        answer = agree(offer, Wants(stages)).answer
        assert answer.version == min(6, offer.version)
        assert answer.actions == offer.actions
        assert answer.protocol & ~offer.protocol == 0


# Packets that were made to be wrong, or that we mean to read as something else; all others come back unchanged.
NOT_KEPT: Final = {
    # The body inside an end of message is an event of its own, made by Connection.
    "libmilter-8.17-filter c3": [b"Etail\r\n"],
    "libmilter-8.17-filter c42": [b"Ezz"],
    # ADDRCPT_PAR without parameters means the same as with empty ones, and is written so.
    "libmilter-8.17-filter c41": [b"2<c@d>\0"],
    "libmilter-8.17-filter c23": [b"Zx"],  # no such command
    "libmilter-8.17-filter c34": [b"B"],  # empty BODY
    "libmilter-8.17-filter c36": [b"L\0v\0"],  # empty name
    "libmilter-8.17-filter c37": [b"DCj\0mx\0i\0", b"D"],  # a lone name; MACRO without command
}


def test_every_captured_packet_comes_back_unchanged() -> None:
    """P-001, P-148: both sides, every file."""
    count = 0
    changed: dict[str, list[bytes]] = {}
    for name, conversation in conversations().items():
        agreed = agreement(conversation)
        for packet in filter(lambda packet: packet.whole, conversation.packets):
            buffer = FrameBuffer()
            buffer.feed(packet.octets)
            assert buffer.next_frame() == (packet.octets[4], packet.payload)
            if again(packet, agreed) == packet.octets:
                count += 1
            else:
                changed.setdefault(name, []).append(packet.octets[4:])
    assert changed == NOT_KEPT
    assert count > 1000


def again(packet: Packet, agreed: Agreement | None) -> bytes:
    """Return a packet, decoded and encoded; nothing if it breaks the protocol."""
    try:
        if packet.sender == "F":
            answer = response(packet)
            if answer is not None:
                return answer.packet
            payload = ASKED[packet.code](packet.payload).payload
        else:
            event = decoded(packet, agreed)
            leading = isinstance(event, Header) and agreed is not None and agreed.leading_space
            payload = event.leading_payload if isinstance(event, Header) and leading else event.payload
    except (RemoteProtocolError, KeyError):
        return b""
    return (len(payload) + 1).to_bytes(4, "big") + packet.octets[4:5] + payload


class Difference(NamedTuple):
    """What aiomilter does otherwise than libmilter in one scenario.

    Args:
        why: What, and why.
        answers: Answers due to the packets of some bursts, where libmilter sent another number.
        callbacks: All callbacks, where they differ.
        closes: Whether we close the connection, where that differs.
    """

    why: str
    answers: dict[int, int] = {}  # noqa: RUF012  # nobody changes it
    callbacks: list[str] | None = None
    closes: bool | None = None


CONNECTED: Final = "connect host='host.example' addr=inet 192.0.2.1:4711"
MAILED: Final = "mail [<a@example.org>] [SIZE=9]"
NAMED: Final = "rcpt [<b@example.org>]"
GREETED: Final = "helo 'client.example.net'"

# aiomilter/help/protocol.rst, "Packets out of order", as far as a connection without a session can show it.  Scenarios
# that are not here are equal.
DIFFERENCES: Final = {
    "c11": Difference(
        "A verdict in a stage without reply leaves the message where it is, so that the stages after it are seen and its "
        "end is answered; libmilter leaves the message by itself, and the MTA waits in vain (4.7, P-095).",
        {6: 1},
        [CONNECTED, "helo 'mail=1'", MAILED, NAMED, "eom", "close"],
    ),
    "c13": Difference(
        "What is no offer closes the connection at once, instead of leaving it dead (5.3, P-010).", closes=True
    ),
    "c15": Difference("A recipient without message is answered, so that no MTA waits for us (5.3).", {3: 1}),
    "c18": Difference("DATA without recipient is answered (5.3).", {4: 1}),
    "c19": Difference(
        "A recipient after DATA is a recipient: once another filter has refused DATA, the client may name more.",
        {6: 1, 7: 1},
        [CONNECTED, MAILED, NAMED, "data", NAMED, "header [Subject] [hi]", "abort", "close"],
    ),
    "c20": Difference("A body before the end of the header is answered (5.3).", {7: 1}),
    "c21": Difference(
        "A second CONNECT is another SMTP client, and is never dropped (5.3).",
        {3: 1},
        [CONNECTED, "close", CONNECTED, GREETED, "close"],
    ),
    "c22": Difference("A second offer closes the connection (5.3, P-023).", {4: 0}, [CONNECTED, "close"], closes=True),
    "c24": Difference(
        "UNKNOWN leaves the message where it is (5.3, P-047); libmilter loses it, and forgets its abort callback.",
        {6: 1},
        [CONNECTED, MAILED, NAMED, "unknown [FOO bar]", "eoh", "abort", "close"],
    ),
    "c26": Difference(
        "QUIT_NC is taken in every state (5.5, P-069); libmilter drops it, and the next CONNECT too.",
        {5: 1},
        [CONNECTED, GREETED, "close", CONNECTED, GREETED, "close"],
    ),
    "c27": Difference(
        "QUIT_NC is taken inside a message too (5.5, P-069).",
        {6: 1},
        [CONNECTED, GREETED, MAILED, "abort", "close", CONNECTED, "close"],
    ),
    "c33": Difference(
        "An address that does not parse is handed on as text (2.3, P-038): Postfix sends such a thing after XCLIENT.",
        {2: 1},
        ["connect host='unknown' addr=inet unknown:0", "close"],
        closes=False,
    ),
    "c42": Difference("Body inside the end of message brings one answer, not two (2.3, P-046).", {6: 1}),
    "c43": Difference("What still comes of a decided message gets its verdict again (5.3, P-071).", {7: 1}),
    "c44": Difference("No answer of a filter is too wrong to be answered (6.4, P-097).", {4: 1}),
}


class Played(NamedTuple):
    """What a scenario has brought about on our side."""

    callbacks: list[str]
    answers: dict[int, int]
    closes: bool


def play(conversation: Conversation) -> Played:
    """Play a scenario, packet by packet, and say what a filter and its MTA would have seen."""
    given: dict[int, list[Verdict | Reply]] = {}
    for packet in conversation.sent("F"):
        answer = response(packet)
        if answer is not None:
            given.setdefault(packet.burst, []).append(answer)
    replay = Replay(conversation, [])
    silent = replay.captured.silent if replay.captured is not None else frozenset()
    if replay.captured is None:
        replay.wants = Wants(frozenset(Stage), actions=Action(0x1FF))
    callbacks: list[str] = []
    answers: dict[int, int] = {}
    closes = False
    for packet in conversation.sent("M"):
        replay.answers = iter(given.get(packet.burst, []))
        replay.connection.receive_data(packet.octets)
        try:
            for event in replay.take():
                if isinstance(event, Quit | QuitNewConnection) and replay.connection.message_open:
                    callbacks.append("abort")
                name = callback(event)
                if name:
                    callbacks.append(name)
                answers[packet.burst] = answers.get(packet.burst, 0) + due(event, silent)
        except (RemoteProtocolError, NegotiationError):
            closes = True
        if closes or replay.quit:
            break
    if not replay.quit:
        callbacks += ["abort"] * replay.connection.message_open + ["close"]
    return Played(callbacks, {burst: count for burst, count in answers.items() if count}, closes or replay.quit)


def due(event: Seen, silent: frozenset[Stage]) -> int:
    """Return how many answers an event is due: one or none."""
    if isinstance(event, OutOfOrder | Repeated):
        return chr(event.command) in ANSWERED and stage_of(event.command) not in silent
    if isinstance(event, BodyChunk) and event.with_end:
        return 0
    return type(event) in STAGES and STAGES[type(event)] not in silent


def stage_of(command: Command) -> Stage:
    """Return the stage of a command that takes an answer."""
    return next(stage for stage in Stage if stage.command is command)


def callback(event: Seen) -> str | None:
    """Return a callback as libmilter's file writes it; None for what calls nothing."""
    match event:
        case Connect(hostname, family, port, address):
            if family is Family.UNIX:
                return f"connect host='{hostname}' addr=unix {address}"
            kind = {Family.INET: "inet", Family.INET6: "inet6"}.get(family)
            where = f"{kind} {event.ip or address}:{port}" if kind else "NULL"
            return f"connect host='{hostname}' addr={where}"
        case Helo(name):
            return f"helo '{name}'"
        case Mail(path, params) | Rcpt(path, params):
            stage = "mail" if isinstance(event, Mail) else "rcpt"
            return " ".join([stage, *(f"[{text}]" for text in (path, *params))])
        case Header(name, value):
            return f"header [{name}] [{value}]"
        case BodyChunk(chunk):
            return f"body {len(chunk)}"
        case Unknown(line):
            return f"unknown [{line}]"
        case Data():
            return "data"
        case EndOfHeaders():
            return "eoh"
        case EndOfMessage():
            return "eom"
        case Abort():
            return "abort"
        case Quit() | QuitNewConnection():
            return "close"
        case _:
            return None


@pytest.mark.parametrize("name", of_libmilter())
def test_a_scenario_brings_the_callbacks_and_answers_of_libmilter_or_the_difference_is_known(name: str) -> None:
    """P-023, P-031, P-046, P-047, P-048, P-049, P-050, P-060, P-065, P-066, P-069, P-071, P-148.

    What libmilter does, aiomilter does; but for the rows of DIFFERENCES.
    """
    conversation = conversations()[name]
    difference = DIFFERENCES.get(name.split()[-1], Difference("none"))
    ours = play(conversation)
    theirs = [said for said in conversation.callbacks if not said.startswith("negotiate")]
    assert ours.callbacks == (difference.callbacks if difference.callbacks is not None else theirs)

    answered: dict[int, int] = {}
    for packet in conversation.sent("F"):
        answered[packet.burst] = answered.get(packet.burst, 0) + (response(packet) is not None)
    expected = answered | difference.answers
    assert ours.answers == {burst: count for burst, count in expected.items() if count}
    assert ours.closes is (conversation.closed_by_filter if difference.closes is None else difference.closes)


@pytest.mark.parametrize("number", DIFFERENCES)
def test_each_difference_is_one(number: str) -> None:
    """A row that says what libmilter does, too, is no difference."""
    difference = DIFFERENCES[number]
    conversation = conversations()[f"libmilter-8.17-filter {number}"]
    answered = {packet.burst for packet in conversation.sent("F") if response(packet) is not None}
    assert difference.why.endswith(".")
    assert (
        (difference.callbacks is not None and difference.callbacks != list(conversation.callbacks))
        or any((burst in answered) is not bool(count) or number == "c42" for burst, count in difference.answers.items())
        or (difference.closes is not None and difference.closes is not conversation.closed_by_filter)
    )


# What our own negotiation asks for beyond libmilter's, for a filter with all callbacks: P-020.
OURS: Final = int(Protocol.SKIP)


@pytest.mark.parametrize("number", [1, 4, 5, 8])
def test_a_filter_with_all_callbacks_is_answered_as_libmilter_does_and_with_skip(number: int) -> None:
    """P-013, P-014, P-016: libmilter asks for SKIP only if told to; ours do without it where it is not offered."""
    conversation = conversations()[f"libmilter-8.17-filter c{number}"]
    offer = Negotiate.decode(conversation.sent("M")[0].payload)
    theirs = NegotiateAnswer.decode(conversation.sent("F")[0].payload)
    answer = agree(offer, Wants(frozenset(Stage))).answer
    assert (answer.version, answer.actions) == (theirs.version, theirs.actions)
    assert answer.protocol == theirs.protocol | (OURS & offer.protocol)


@pytest.mark.parametrize(("number", "error"), [(6, NegotiationError), (7, RemoteProtocolError)])
def test_an_offer_that_libmilter_refuses_is_refused(number: int, error: type[Exception]) -> None:
    """P-011, P-015."""
    offer = Negotiate.decode(conversations()[f"libmilter-8.17-filter c{number}"].sent("M")[0].payload)
    with pytest.raises(error):
        agree(offer, Wants(frozenset(Stage), actions=Action(0x1FF)))


def test_a_filter_without_early_callbacks_is_told_who_speaks_where_libmilter_is_not() -> None:
    """P-017: libmilter declines every stage without callback; ours come without reply, for those who look at ``ctx``."""
    conversation = conversations()["libmilter-8.17-filter c9"]
    theirs = NegotiateAnswer.decode(conversation.sent("F")[0].payload)
    agreed = agree(Negotiate.decode(conversation.sent("M")[0].payload), Wants(frozenset({Stage.EOM}), ends=True))
    early = [Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT]
    assert theirs.protocol & sum(stage.no_flag for stage in early) == 0xF
    assert agreed.silent == set(early)
    assert agreed.answer.protocol & ~sum(stage.nr_flag for stage in early) == theirs.protocol & ~0xF


def test_a_conversation_may_end_inside_a_message() -> None:
    """P-065: Sendmail says no ABORT before QUIT, and says nothing at all when its client leaves inside DATA."""
    open_ends = {}
    for name in of_mtas():
        replay = Replay(conversations()[name])
        replay.feed(octets(conversations()[name]))
        if replay.connection.message_open:
            open_ends[name] = replay.seen[-1]
    assert open_ends == {
        "sendmail-8.17-client-drop c2": Data(),
        "sendmail-8.17-connect-stdin c1": Quit(),
        "sendmail-8.17-multi c1": Quit(),
    }
