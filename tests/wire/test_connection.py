import contextlib
import itertools
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire import connection
from aiomilter.wire.connection import Connection, OutOfOrder, Repeated, TooMany
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.framing import packet
from aiomilter.wire.macros import Macros
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer, Wants
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL, Reply, Verdict
from tests.wire.driver import EVERYTHING, Listener, Seen, Sent, cut
from tests.wire.packets import EXAMPLE_FROM_MTA
from tests.wire.strategies import CONVERSATIONS, RESPONSES, WANTS

pytestmark = pytest.mark.usefixtures("each_reader")
START = Sent.OFFER + Sent.CONNECT + Sent.HELO
HELO_SEEN, MAIL_SEEN, RCPT_SEEN = Helo("first"), Mail("<a@x.y>"), Rcpt("<r@x.y>")
MESSAGE = Sent.MAIL + Sent.RCPT + Sent.DATA + Sent.HEADER + Sent.EOH + Sent.BODY + Sent.EOM
MESSAGE_SEEN: list[Seen] = [
    MAIL_SEEN,
    RCPT_SEEN,
    Data(),
    Header("Subject", "hi"),
    EndOfHeaders(),
    BodyChunk(b"body\r\n"),
    EndOfMessage(),
]
ANSWERED = frozenset(map(int, map(Command, b"CHMRTLNBEU")))


def started(*data: bytes, wants: Wants = EVERYTHING, answers: str = "") -> Listener:
    """Return a listener that has seen the start of a connection, and what else was sent."""
    verdicts: dict[str, Verdict | Reply] = {verdict.value.name[0].lower(): verdict for verdict in Verdict}
    listener = Listener(wants, [verdicts["c"], verdicts["c"], *(verdicts[letter] for letter in answers)])
    listener.feed(START + b"".join(data))
    return listener


def feed_all(listener: Listener, pieces: list[bytes]) -> None:
    """Feed octets piece by piece."""
    for piece in pieces:
        listener.feed(piece)


def declining(*stages: Stage) -> Wants:
    """Return what a filter wants that has no use for some stages, nor for those before them."""
    return Wants(frozenset(Stage) - set(stages))


def agreeing(*declined: Stage) -> Listener:
    """Return a listener at the start of a connection that has declined some stages, MAIL among them perhaps."""
    bits = sum(stage.no_flag for stage in declined)
    agreement = Agreement(
        NegotiateAnswer(6, 0, bits), Negotiate(6, 0x1FF, 0x1FFFFF), silent=frozenset(), declined=frozenset(declined)
    )
    return Listener(agreement=agreement)


def test_the_worked_example_is_told_as_events() -> None:
    """P-001, P-005, P-030: macros are no events of their own."""
    expected = [sample.event for sample in EXAMPLE_FROM_MTA if not isinstance(sample.event, Macros)]
    octets = b"".join(sample.octets for sample in EXAMPLE_FROM_MTA)
    assert Listener().feed(octets) == expected
    single = Listener()
    for i in range(len(octets)):
        single.feed(octets[i : i + 1])
    assert single.seen == expected


def test_nothing_is_told_before_a_packet_is_whole() -> None:
    """P-004, P-007: what a stream ends with, in the middle of a packet, is never seen."""
    octets = START + MESSAGE
    ends = [0]
    while ends[-1] < len(octets):
        ends.append(ends[-1] + 4 + int.from_bytes(octets[ends[-1] : ends[-1] + 4], "big"))
    for stop in range(len(octets)):
        assert len(Listener().feed(octets[:stop])) == sum(end <= stop for end in ends[1:])


def test_the_first_packet_is_an_offer() -> None:
    """P-010."""
    for code in set(range(256)) - {ord("O")}:
        listener = Connection()
        listener.receive_data(b"\0\0\0\x0d" + bytes([code]) + bytes(12) + Sent.OFFER)
        with pytest.raises(RemoteProtocolError, match=f"expected OPTNEG as the first packet, found code {code:#04x}"):
            listener.next_event()


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\0\0\0\x0cO" + bytes(11), b"GET / HTTP/1.1\r\n\r\n", b"EHLO x\r\n"])
def test_what_is_no_offer_breaks_the_protocol(data: bytes) -> None:
    """P-002, P-003, P-010, P-011."""
    listener = Connection()
    listener.receive_data(data)
    with pytest.raises(RemoteProtocolError):
        listener.next_event()


def test_the_offer_is_an_event_and_the_rest_waits_until_it_is_agreed() -> None:
    """P-010, P-012."""
    listener = Listener()
    extra = b"\0\0\0\x0fO" + bytes.fromhex("00000006 000001ff 001fffff") + b"xx"
    assert not listener.connection.negotiated
    assert listener.feed(extra + Sent.HELO) == [Negotiate(6, 0x1FF, 0x1FFFFF), HELO_SEEN]
    assert listener.connection.negotiated


def test_a_second_offer_breaks_the_protocol() -> None:
    """P-023."""
    for before in (b"", Sent.MAIL, MESSAGE):
        with pytest.raises(RemoteProtocolError, match="expected one OPTNEG packet, found a second one"):
            started(before, Sent.OFFER)


def test_an_unknown_command_breaks_the_protocol() -> None:
    """P-048: nobody knows whether the MTA waits for an answer to it."""
    for code in set(range(256)) - set(Command):
        for before in (b"", Sent.MAIL):
            listener = started(before)
            with pytest.raises(RemoteProtocolError, match=f"expected a command, found code {code:#04x}"):
                listener.feed(b"\0\0\0\2" + bytes([code]) + b"x")
            assert listener.connection.message_open is bool(before)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"\0\0\0\0",
            b"\0\1\0\1",
            b"\xff\xff\xff\xff",
            b"\x7f\xff\xff\xffB",
            b"\0\0\0\1D",
            b"\0\0\0\1C",
            b"\0\0\0\1H",
        ),
        *(b"\0\0\0\1M", b"\0\0\0\1U", b"\0\0\0\2CU", b"\0\0\0\2Hx", b"\0\0\0\2Mx"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_malformed_packet_breaks_the_protocol(data: bytes, split: bool) -> None:
    """P-002, P-003: after whole packets, which are told first."""
    listener = started()
    octets = Sent.HELO2 + data
    pieces = [octets[i : i + 1] for i in range(len(octets))] if split else [octets]
    with pytest.raises(RemoteProtocolError):
        feed_all(listener, pieces)
    assert listener.seen[3:4] == [EVENTS["H"]]


@pytest.mark.parametrize("place", ["idle", "data", "header", "body"])
def test_a_packet_of_no_length_is_never_taken_for_one_of_the_code_behind_it(place: str) -> None:
    """P-002: libmilter mistakes the octet after the length for a command."""
    for code in (*Command, 0, 1):
        listener = started(PLACES[place])
        seen = len(listener.seen)
        with pytest.raises(RemoteProtocolError):
            listener.feed(b"\0\0\0\0" + bytes([code]) + bytes(20))
        assert len(listener.seen) == seen


@pytest.mark.parametrize("data", [b"\0\0\0\1L", b"\0\0\0\3LX\0", b"\0\0\0\1B"])
def test_malformed_content_breaks_the_protocol(data: bytes) -> None:
    before = Sent.MAIL + Sent.RCPT + (Sent.EOH if b"B" in data else Sent.DATA)
    with pytest.raises(RemoteProtocolError, match="packet: expected"):
        started(before, data)


def test_a_packet_may_be_as_large_as_was_agreed() -> None:
    """P-003."""
    body = b"\0\1\0\0B" + bytes(65535)
    listener = started(Sent.MAIL, Sent.RCPT, Sent.EOH, body)
    assert listener.seen[-1] == BodyChunk(bytes(65535))
    large = Connection(max_frame_size=262143)
    large.receive_data(Sent.OFFER)
    large.next_event()
    large.agreed(agreeing().agreement or pytest.fail("there is one"))
    large.receive_data(Sent.MAIL + Sent.RCPT + Sent.EOH + b"\0\4\0\0B" + bytes(262143))
    assert [large.next_event() for _ in range(4)][-1] == BodyChunk(bytes(262143))


# Where a conversation is, and how it got there.
PLACES = {
    "idle": b"",
    "mail": Sent.MAIL,
    "rcpt": Sent.MAIL + Sent.RCPT,
    "data": Sent.MAIL + Sent.RCPT + Sent.DATA,
    "header": Sent.MAIL + Sent.RCPT + Sent.DATA + Sent.HEADER,
    "eoh": Sent.MAIL + Sent.RCPT + Sent.DATA + Sent.EOH,
    "body": Sent.MAIL + Sent.RCPT + Sent.DATA + Sent.EOH + Sent.BODY,
    "after": MESSAGE,
    "decided": Sent.MAIL,
}
PACKETS = {
    "C": Sent.CONNECT,
    "H": Sent.HELO2,
    "M": Sent.MAIL2,
    "R": Sent.RCPT,
    "T": Sent.DATA,
    "L": Sent.HEADER,
    "N": Sent.EOH,
    "B": Sent.BODY,
    "E": Sent.EOM,
    "U": Sent.UNKNOWN,
    "A": Sent.ABORT,
    "Q": Sent.QUIT,
    "K": Sent.QUIT_NC,
    "D": Sent.macro(b"L", "i", "Q"),
}
# What each packet brings there: the event of its letter, x for out of order, = for repeated, - for nothing.
BRINGS = """
          C   H  M  R  T  L  N  B  E  U  A  Q  K  D
idle      KC  H  M  x  x  x  x  x  x  U  -  Q  K  -
mail      AKC AH AM R  Ax Ax Ax Ax Ax U  A  Q  K  -
rcpt      AKC AH AM R  T  L  N  B  E  U  A  Q  K  -
data      AKC AH AM R  T  L  N  Ax Ax U  A  Q  K  -
header    AKC AH AM Ax Ax L  N  Ax Ax U  A  Q  K  -
eoh       AKC AH AM Ax Ax Ax Ax B  E  U  A  Q  K  -
body      AKC AH AM Ax Ax Ax Ax B  E  U  A  Q  K  -
after     KC  H  M  x  x  x  x  x  x  U  -  Q  K  -
decided   KC  H  M  =  =  =  =  =  =  U  -  Q  K  -
"""
EVENTS: dict[str, Seen] = {
    "C": Connect.decode(Sent.CONNECT[5:]),
    "H": Helo("second"),
    "M": Mail("<b@x.y>"),
    "R": RCPT_SEEN,
    "T": Data(),
    "L": Header("Subject", "hi"),
    "N": EndOfHeaders(),
    "B": BodyChunk(b"body\r\n"),
    "E": EndOfMessage(),
    "U": Unknown("FOO"),
    "A": Abort(),
    "Q": Quit(),
    "K": QuitNewConnection(),
}
CELLS = [
    (place, letter, cell)
    for place, *cells in map(str.split, BRINGS.strip().splitlines()[1:])
    for letter, cell in zip(PACKETS, cells, strict=True)
]


def brought(cell: str, letter: str) -> list[Seen]:
    """Return the events that a cell stands for."""
    command = Command(ord(letter))
    others: dict[str, Seen] = {"x": OutOfOrder(command), "=": Repeated(command)}
    return [others[sign] if sign in others else EVENTS[sign] for sign in cell if sign != "-"]


@pytest.mark.parametrize(("place", "letter", "cell"), CELLS)
def test_every_packet_at_every_place_brings_what_is_written(place: str, letter: str, cell: str) -> None:
    """P-023, P-030, P-047, P-049, P-050, P-060, P-063, P-065, P-071: no place leaves a packet without its meaning."""
    listener = started(PLACES[place], answers="r" if place == "decided" else "")
    before = listener.connection.message_open
    assert before is (place not in ("idle", "after", "decided"))
    assert listener.feed(PACKETS[letter]) == brought(cell, letter)
    if letter in "UQD":
        assert listener.connection.message_open is before
    elif letter in "CHAK" or "x" in cell or "=" in cell or letter == "E":
        assert not listener.connection.message_open
    else:
        assert listener.connection.message_open


def test_all_places_and_packets_are_in_the_table() -> None:
    assert {(place, letter) for place, letter, _ in CELLS} == set(itertools.product(PLACES, PACKETS))
    assert {ord(letter) for letter in PACKETS} == set(Command) - {Command.OPTNEG}


def test_a_whole_message_is_told_in_order() -> None:
    """P-005, P-045."""
    assert started(MESSAGE).seen[3:] == MESSAGE_SEEN


def test_messages_follow_each_other() -> None:
    """P-067."""
    assert started(MESSAGE * 3).seen[3:] == MESSAGE_SEEN * 3


def test_commands_before_connect_are_taken() -> None:
    """P-049: CONNECT and HELO may be missing."""
    assert Listener().feed(Sent.OFFER + MESSAGE)[1:] == MESSAGE_SEEN
    assert Listener().feed(Sent.OFFER + Sent.UNKNOWN + Sent.CONNECT)[1:] == [EVENTS["U"], EVENTS["C"]]


def test_repeated_aborts_are_one_and_none_comes_after_the_message() -> None:
    """P-060, P-061."""
    assert started(Sent.MAIL, Sent.ABORT * 3).seen[3:] == [MAIL_SEEN, Abort()]
    assert started(MESSAGE, Sent.ABORT * 3).seen[3:] == MESSAGE_SEEN


def test_abort_keeps_the_connection() -> None:
    """P-062."""
    listener = started(Sent.macro(b"H", "{tls_version}", "TLSv1.3"), Sent.HELO2, Sent.MAIL, Sent.ABORT)
    assert listener.connection.macros.value("tls_version") == "TLSv1.3"
    assert listener.feed(Sent.CONNECT)[0] == QuitNewConnection()


def test_helo_then_abort_as_postfix_sends_them_aborts_once() -> None:
    """P-070: inside a message Postfix sends HELO, then up to two ABORTs."""
    listener = started(Sent.MAIL, Sent.RCPT, Sent.macro(b"H", "{cipher}", "x"), Sent.HELO2, Sent.ABORT * 2)
    assert listener.seen[-2:] == [Abort(), EVENTS["H"]]
    assert listener.connection.macros.value("cipher") == "x"


@pytest.mark.parametrize("verdict", "rtad")
@pytest.mark.parametrize("place", ["mail", "data", "header", "eoh", "body"])
def test_after_an_own_verdict_the_rest_of_the_message_is_repeated(place: str, verdict: str) -> None:
    """P-063, P-071: a client may say RCPT and DATA once more after DATA was refused."""
    sent = {"body": 5, "eoh": 4, "header": 4, "data": 3, "mail": 1}[place]
    listener = started(PLACES[place], answers="c" * (sent - 1) + verdict)
    rest = Sent.RCPT + Sent.DATA + Sent.HEADER + Sent.EOH + Sent.BODY + Sent.EOM
    assert listener.feed(rest) == [Repeated(command) for command in map(Command, b"RTLNBE")]
    assert listener.feed(Sent.ABORT) == []
    assert listener.feed(MESSAGE) == MESSAGE_SEEN


@pytest.mark.parametrize(("verdict", "decided"), [("r", False), ("t", False), ("a", True), ("d", True)])
def test_refusing_a_recipient_leaves_the_message_open(verdict: str, decided: bool) -> None:
    """P-068."""
    listener = started(Sent.MAIL, Sent.RCPT, answers="c" + verdict)
    assert listener.connection.message_open is not decided
    assert listener.feed(Sent.RCPT) == [Repeated(Command.RCPT) if decided else RCPT_SEEN]


@pytest.mark.parametrize("place", PLACES)
def test_the_connection_may_be_used_again_from_every_place(place: str) -> None:
    """P-069: the options stay, everything else is forgotten."""
    wants = Wants(frozenset(Stage), leading_space=True)
    listener = started(
        Sent.macro(b"C", "j", "mx"), PLACES[place], wants=wants, answers="r" if place == "decided" else ""
    )
    assert listener.feed(Sent.macro(b"M", "i", "Q") + Sent.QUIT_NC) == [QuitNewConnection()]
    assert [listener.connection.macros.value(name) for name in ("j", "i")] == [None, None]
    assert not listener.connection.message_open
    message = MESSAGE.replace(Sent.HEADER, b"\0\0\0\x0dLSubject\0 hi\0")
    again = listener.feed(Sent.macro(b"C", "j", "mx2") + Sent.CONNECT + message)
    assert again == [EVENTS["C"], *MESSAGE_SEEN]
    assert listener.connection.macros.value("j") == "mx2"


def test_a_second_connect_implies_that_the_first_connection_is_over() -> None:
    """P-085: and its macros are those of the second."""
    listener = started(Sent.macro(b"H", "{cipher}", "x"), Sent.HELO2, Sent.macro(b"C", "j", "second"))
    assert listener.feed(Sent.CONNECT) == [QuitNewConnection(), EVENTS["C"]]
    assert listener.connection.macros.value("j") == "second"
    assert listener.connection.macros.value("cipher") is None


@pytest.mark.parametrize("place", ["rcpt", "eoh", "body"])
def test_end_of_message_with_body_is_body_and_end(place: str) -> None:
    """P-046."""
    listener = started(PLACES[place])
    assert listener.feed(b"\0\0\0\6Etail\r") == [BodyChunk(b"tail\r", with_end=True), EndOfMessage()]
    assert not listener.connection.message_open


def test_a_message_of_nothing_but_an_end_with_body_is_open_until_it_ends() -> None:
    """P-046, P-065: where MAIL and all the others were declined."""
    listener = agreeing(*set(Stage) - {Stage.EOM})
    listener.connection.receive_data(b"\0\0\0\5Etail")
    told = listener.take()
    assert next(told) == BodyChunk(b"tail", with_end=True)
    assert listener.connection.message_open
    assert next(told) == EndOfMessage()


@pytest.mark.parametrize("verdict", "rtad")
def test_a_verdict_to_the_body_inside_the_end_of_message_is_repeated_for_it(verdict: str) -> None:
    """P-046: one packet, one answer."""
    listener = started(PLACES["eoh"], answers="cccc" + verdict)
    assert listener.feed(b"\0\0\0\5Etail") == [BodyChunk(b"tail", with_end=True), Repeated(Command.BODYEOB)]
    assert listener.feed(MESSAGE) == MESSAGE_SEEN


def test_end_of_message_with_body_out_of_place_is_one_packet_too() -> None:
    """P-046."""
    assert started(b"\0\0\0\5Etail").seen[3:] == [OutOfOrder(Command.BODYEOB)]
    assert started(Sent.MAIL, b"\0\0\0\5Etail", answers="r").seen[4:] == [Repeated(Command.BODYEOB)]


def test_unknown_keeps_the_message() -> None:
    """P-047: between any two packets of it."""
    octets = b"".join(part + Sent.UNKNOWN for part in parts(MESSAGE))
    assert [event for event in started(octets).seen[3:] if event != EVENTS["U"]] == MESSAGE_SEEN


def parts(octets: bytes) -> list[bytes]:
    """Return the packets in octets, whole."""
    found = []
    while octets:
        stop = 4 + int.from_bytes(octets[:4], "big")
        found.append(octets[:stop])
        octets = octets[stop:]
    return found


def test_a_header_field_is_found_where_an_equal_one_is() -> None:
    """From Python 3.14 on a tuple keeps its hash, which has to be right in one that was made otherwise than by a call."""
    assert started(Sent.MAIL, Sent.RCPT, Sent.DATA, Sent.HEADER).seen[-1] in {Header("Subject", "hi")}


def test_leading_space_is_read_as_was_agreed() -> None:
    """P-043."""
    sent = PLACES["data"] + b"\0\0\0\6LX\0 v\0"
    assert started(sent).seen[-1] == Header("X", " v")
    assert started(sent, wants=Wants(frozenset(Stage), leading_space=True)).seen[-1] == Header("X", "v", " ")


# A message may begin with any of these where MAIL was declined, and RCPT and so on too.
BEGINNINGS = ["R", "T", "L", "N", "B", "E"]


@pytest.mark.parametrize("first", BEGINNINGS)
def test_a_message_without_mail_begins_with_what_comes(first: str) -> None:
    """P-050: MAIL declined, and all the stages before what comes."""
    stages = [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.HEADER, Stage.EOH, Stage.BODY][: 1 + BEGINNINGS.index(first)]
    listener = agreeing(*stages)
    rest = BEGINNINGS[BEGINNINGS.index(first) :]
    message = Sent.macro(b"M", "i", "Q1") + b"".join(PACKETS[letter] for letter in rest)
    expected = [EVENTS[letter] for letter in rest]
    assert listener.feed(message) == expected
    assert listener.feed(message * 2) == expected * 2


def test_macros_of_mail_end_the_message_before_where_mail_was_declined() -> None:
    """P-050, P-084: all that Sendmail tells of RSET; the macros belong to the new message."""
    listener = agreeing(Stage.MAIL)
    assert listener.feed(Sent.macro(b"M", "i", "Q1") + Sent.macro(b"R", "x", "1") + Sent.RCPT) == [RCPT_SEEN]
    assert listener.feed(Sent.macro(b"M", "i", "Q2")) == [Abort()]
    assert listener.connection.macros.value("i") == "Q2"
    assert listener.connection.macros.value("x") is None
    assert listener.feed(Sent.RCPT) == [RCPT_SEEN]
    assert listener.connection.macros.value("i") == "Q2"
    assert listener.connection.message_open


def test_macros_of_mail_end_a_decided_message_silently_where_mail_was_declined() -> None:
    """P-050, P-063."""
    listener = agreeing(Stage.MAIL)
    listener.answers = iter([REJECT, DISCARD])
    assert listener.feed(Sent.macro(b"M", "i", "Q1") + Sent.RCPT * 2 + Sent.DATA) == [
        RCPT_SEEN,
        RCPT_SEEN,
        Repeated(Command.DATA),
    ]
    assert listener.feed(Sent.macro(b"M", "i", "Q2") + Sent.RCPT) == [RCPT_SEEN]
    assert listener.connection.macros.value("i") == "Q2"


def test_the_same_macros_of_mail_again_end_the_message_before_all_the_same() -> None:
    """P-050: a set that says nothing new is still a sign."""
    listener = agreeing(Stage.MAIL, Stage.RCPT)
    sent = Sent.macro(b"M", "{mail_addr}", "a@x") + Sent.DATA * 2
    assert listener.feed(sent * 2) == [Data(), Data(), Abort(), Data(), Data()]


def test_macros_of_mail_between_messages_mean_nothing_where_mail_was_declined() -> None:
    """P-050, P-060."""
    listener = agreeing(Stage.MAIL)
    assert listener.feed(Sent.macro(b"M", "i", "Q1") + Sent.macro(b"M", "i", "Q2") + Sent.ABORT) == []
    listener.feed(Sent.RCPT)
    assert listener.connection.macros.value("i") == "Q2"


def test_macros_of_mail_inside_a_message_wait_for_its_mail() -> None:
    """P-050, P-084: where MAIL was not declined, the MAIL that follows ends the message before."""
    listener = started(Sent.macro(b"M", "i", "Q1"), Sent.MAIL, Sent.RCPT, Sent.macro(b"M", "i", "Q2"))
    assert listener.connection.message_open
    assert listener.feed(Sent.MAIL2) == [Abort(), EVENTS["M"]]
    assert listener.connection.macros.value("i") == "Q2"


@pytest.mark.parametrize("stage", "CHMRTLNBEU")
def test_macros_are_seen_in_their_stage(stage: str) -> None:
    """P-032, P-080, P-085: already when the event is told, for each stage that any MTA sends them for."""
    place = {"R": "mail", "T": "rcpt", "L": "data", "N": "data", "B": "eoh", "E": "body"}.get(stage, "idle")
    listener = agreeing()
    listener.feed(PLACES[place])
    listener.connection.receive_data(
        Sent.macro(stage.encode(), "i", "old") + Sent.macro(stage.encode(), "x", "1") + PACKETS[stage]
    )
    assert next(listener.take()) == EVENTS[stage]
    assert listener.connection.macros.value("x") == "1"
    assert listener.connection.macros.value("i") is None


def test_a_macro_is_found_with_and_without_braces() -> None:
    """P-082."""
    listener = started(Sent.macro(b"M", "i", "1", "{j}", "2", "{mail_addr}", "3", "plain", "4"), Sent.MAIL)
    for name, value in {"i": "1", "j": "2", "mail_addr": "3", "plain": "4"}.items():
        assert listener.connection.macros.value(name) == listener.connection.macros.value(f"{{{name}}}") == value
    for name in ("", "{}", "{i", "i}", "k", "{{i}}"):
        assert listener.connection.macros.value(name) is None


def test_the_first_of_two_equal_names_wins_and_an_empty_value_is_a_value() -> None:
    """P-082."""
    listener = started(Sent.macro(b"M", "i", "1", "{i}", "2", "i", "3", "{e}", "", "e", "4"), Sent.MAIL)
    assert listener.connection.macros.value("i") == "1"
    assert listener.connection.macros.value("e") == ""


def test_a_lone_name_has_no_value() -> None:
    """P-034."""
    listener = started(b"\0\0\0\x0aDMi\0Q\0lon\0", Sent.MAIL)
    assert (listener.connection.macros.value("i"), listener.connection.macros.value("lon")) == ("Q", None)


def test_an_empty_set_replaces_the_one_before() -> None:
    """P-033, P-080."""
    listener = started(Sent.macro(b"R", "i", "1"), Sent.macro(b"R"))
    assert listener.connection.macros.value("i") is None


@pytest.mark.parametrize("stage", [b"\0", b"\xff", b"A", b"Q", b"K", b"O", b"D", b"x"])
def test_macros_for_what_has_none_are_taken_and_dropped(stage: bytes) -> None:
    """P-032, P-035."""
    listener = started()
    assert listener.feed(Sent.macro(stage, "i", "Q") + Sent.HELO2) == [EVENTS["H"]]
    assert listener.connection.macros.value("i") is None


def test_macros_for_a_stage_that_never_comes_are_taken() -> None:
    """P-035: Sendmail sends them for a recipient it then refuses."""
    sent = [Sent.macro(b"R", "{rcpt_addr}", name) for name in ("first", "second")]
    listener = started(Sent.MAIL, sent[0], sent[1], Sent.RCPT)
    assert listener.seen[-2:] == [MAIL_SEEN, RCPT_SEEN]
    assert listener.connection.macros.value("rcpt_addr") == "second"


def test_macros_are_looked_up_from_the_latest_stage_to_the_earliest() -> None:
    """P-081."""
    listener = started(PLACES["body"])
    for stage, value in zip("CHMRTLNBE", "123456789", strict=True):
        listener.feed(Sent.macro(stage.encode(), "x", value, "{only_" + stage + "}", value))
    # END of message first; sets are dropped one by one to see which is next.
    for stage, value in zip("EBNLTRMHC", "987654321", strict=True):
        assert listener.connection.macros.value("x") == value
        assert listener.connection.macros.value(f"only_{stage}") == value
        listener.feed(Sent.macro(stage.encode()))
    assert listener.connection.macros.value("x") is None


# What a command clears: the macros of these stages; in a place where it is processed.
CLEARS = [
    ("C", "idle", "HMRTLNBE"),
    ("H", "idle", "MRTLNBE"),
    ("M", "idle", "RTLNBE"),
    ("R", "mail", "TLNBE"),
    ("T", "rcpt", ""),
    ("L", "rcpt", ""),
    ("N", "data", ""),
    ("B", "eoh", ""),
    ("U", "rcpt", ""),
    ("A", "idle", ""),
    ("A", "rcpt", "MRTLNBE"),
    ("E", "body", "MRTLNBE"),
]


@pytest.mark.parametrize(("letter", "place", "cleared"), CLEARS)
def test_a_command_clears_the_macros_of_the_stages_behind_it(letter: str, place: str, cleared: str) -> None:
    """P-062, P-067, P-083, P-084: and the end of a message those of the message."""
    listener = Listener(agreement=agreeing().agreement)
    listener.feed(PLACES[place])
    stages = "CHMRTLNBE"
    for stage in stages:
        listener.feed(Sent.macro(stage.encode(), f"{{of_{stage}}}", "set"))
    listener.feed(PACKETS[letter])
    assert {stage for stage in stages if listener.connection.macros.value(f"of_{stage}") is None} == set(cleared)


def test_the_macros_of_a_message_are_there_when_it_is_aborted_and_gone_after() -> None:
    """P-084."""
    listener = started(Sent.macro(b"M", "i", "Q1"), Sent.MAIL)
    listener.connection.receive_data(Sent.ABORT)
    told = listener.take()
    assert next(told) == Abort()
    assert listener.connection.macros.value("i") == "Q1"
    assert list(told) == []
    assert listener.connection.macros.value("i") is None


@pytest.mark.parametrize("end", ["E", "A", "H", "K", "", "decided"])
@pytest.mark.parametrize("read", [False, True])
def test_the_macros_of_a_message_do_not_leak_into_the_next(end: str, read: bool) -> None:
    """P-067, P-084: however it ended, by a new MAIL too."""
    listener = started(answers="ccr" if end == "decided" else "")
    listener.feed(Sent.macro(b"M", "i", "Q1") + Sent.MAIL + Sent.macro(b"R", "{rcpt_addr}", "r") + Sent.RCPT)
    if read:
        assert listener.connection.macros.value("i") == "Q1"
    listener.feed(Sent.macro(b"E", "{msg_id}", "m") if end == "E" else b"")
    listener.feed(Sent.DATA if end == "decided" else PACKETS.get(end, b""))
    listener.feed(Sent.MAIL2)
    assert [listener.connection.macros.value(name) for name in ("i", "rcpt_addr", "msg_id")] == [None, None, None]


@pytest.mark.parametrize("read", [False, True])
def test_the_macros_of_a_connection_do_not_leak_into_a_second(read: bool) -> None:
    """P-069: even where the MTA sends it none, nor says that the first is over."""
    listener = Listener(agreement=agreeing().agreement)
    listener.feed(Sent.macro(b"C", "j", "first") + Sent.CONNECT)
    if read:
        assert listener.connection.macros.value("j") == "first"
    listener.feed(Sent.CONNECT)
    assert listener.connection.macros.value("j") is None


def test_macros_that_came_after_a_verdict_belong_to_the_message_that_follows() -> None:
    """P-084, P-085."""
    listener = started(Sent.MAIL, answers="r")
    listener.feed(Sent.macro(b"R", "x", "old") + Sent.RCPT + Sent.macro(b"M", "i", "Q2") + Sent.MAIL2)
    assert (listener.connection.macros.value("i"), listener.connection.macros.value("x")) == ("Q2", None)


def test_the_macros_of_unknown_are_seen_in_its_callback_alone() -> None:
    """P-032, P-084, P-085."""
    listener = started(Sent.macro(b"M", "i", "Q1"), Sent.MAIL)
    listener.connection.receive_data(Sent.macro(b"U", "i", "U") + Sent.UNKNOWN)
    told = listener.take()
    assert next(told) == EVENTS["U"]
    assert listener.connection.macros.value("i") == "U"
    assert list(told) == []
    assert listener.connection.macros.value("i") == "Q1"


def test_the_macros_of_a_second_unknown_are_seen_though_they_are_the_same() -> None:
    """P-085."""
    listener = started(PLACES["rcpt"])
    unknown = Sent.macro(b"U", "i", "U") + Sent.UNKNOWN
    listener.connection.receive_data(unknown + Sent.DATA + unknown)
    told = listener.take()
    assert [next(told), next(told), next(told)] == [EVENTS["U"], Data(), EVENTS["U"]]
    assert listener.connection.macros.value("i") == "U"


def test_the_macros_of_the_next_message_are_seen_though_they_are_the_same() -> None:
    """P-067, P-085."""
    same = Sent.macro(b"L", "i", "Q")
    listener = started(PLACES["data"], same, Sent.HEADER, Sent.EOH, Sent.EOM)
    listener.feed(PLACES["data"] + Sent.HEADER + same + Sent.HEADER)
    assert listener.connection.macros.value("i") == "Q"


def test_the_macros_of_unknown_hide_no_others_where_unknown_was_declined() -> None:
    """P-035, P-081: Postfix sends them all the same, and no callback of theirs comes to end them."""
    listener = started(wants=declining(Stage.UNKNOWN))
    listener.feed(Sent.macro(b"M", "i", "Q1") + Sent.MAIL + Sent.macro(b"U", "i", "stale"))
    assert listener.connection.macros.value("i") == "Q1"
    listener.feed(MESSAGE[len(Sent.MAIL) :] + Sent.macro(b"M", "i", "Q2") + Sent.MAIL2)
    assert listener.connection.macros.value("i") == "Q2"


def test_two_filters_with_other_wishes_do_not_meet() -> None:
    """libmilter keeps one set of marks for all connections of a process."""
    plain, other = agreeing(), agreeing(Stage.MAIL, Stage.RCPT)
    assert other.feed(Sent.DATA) == [Data()]
    assert plain.feed(Sent.DATA) == [OutOfOrder(Command.DATA)]


@pytest.mark.parametrize(("abort", "found"), [(True, ord("A")), (False, ord("Q"))], ids=["inside a message", "outside"])
def test_the_look_ahead_sees_what_waits_to_be_read(abort: bool, found: int) -> None:
    listener = started()
    waiting = Sent.macro(b"M", "i", "Q") + Sent.ABORT + Sent.QUIT + Sent.MAIL
    listener.connection.receive_data(waiting[:9])
    listener.connection.receive_data(waiting[9:])
    walker = listener.connection.lookahead(abort, ANSWERED)
    assert walker.feed(b"") == found


def test_the_look_ahead_starts_behind_what_was_told() -> None:
    listener = started()
    listener.connection.receive_data(Sent.QUIT_NC + Sent.MAIL + Sent.QUIT)
    assert listener.connection.next_event() == QuitNewConnection()
    walker = listener.connection.lookahead(True, ANSWERED)
    assert walker.feed(Sent.QUIT) is None
    assert walker.feed(Sent.QUIT) is None


def told(octets: list[bytes], wants: Wants, answers: list[Verdict | Reply]) -> tuple[list[Seen], str | None]:
    """Return the events, and what was wrong with the octets."""
    listener = Listener(wants, itertools.cycle(answers) if answers else itertools.repeat(CONTINUE))
    try:
        for piece in octets:
            listener.feed(piece)
            assert len(listener.connection.buffer) <= sum(map(len, octets))
    except RemoteProtocolError as error:
        return listener.seen, str(error)
    return listener.seen, None


ANSWERS = st.lists(RESPONSES, max_size=5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(CONVERSATIONS, st.sets(st.integers(1, 400), max_size=40), WANTS, ANSWERS)
def test_any_split_gives_the_same_events(
    octets: bytes, places: set[int], wants: Wants, answers: list[Verdict | Reply]
) -> None:
    """P-004, P-005: any order of packets, after any negotiation, whatever the filter answers."""
    whole = told([octets], wants, answers)
    assert told(cut(octets, places), wants, answers) == whole
    assert told([octets[i : i + 1] for i in range(len(octets))], wants, answers) == whole


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(st.binary(max_size=20) | CONVERSATIONS.map(lambda o: o[17:]), max_size=5), WANTS)
def test_any_octets_are_events_or_a_broken_rule(offer: bool, pieces: list[bytes], wants: Wants) -> None:
    """P-044: nothing else is ever raised."""
    sent = [Sent.OFFER, *pieces] if offer else pieces
    seen, error = told(sent, wants, [])
    assert error is not None or len(seen) <= 3 * sum(map(len, sent)) // 5


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(CONVERSATIONS, WANTS, ANSWERS)
def test_each_packet_that_takes_an_answer_brings_one_event_that_does(
    octets: bytes, wants: Wants, answers: list[Verdict | Reply]
) -> None:
    """P-030, P-031, P-097: any order of packets; so the answers can never get out of step."""
    seen, error = told([octets], wants, answers)
    taking = []
    for event in seen:
        if isinstance(event, OutOfOrder | Repeated | TooMany):
            taking.append(event.command)
        elif not isinstance(event, BodyChunk) or not event.with_end:
            taking.append(event.CODE)
    sent = [part[4] for part in parts(octets)]
    if Command.QUIT in sent:
        sent = sent[: sent.index(Command.QUIT)]
    expected = [code for code in sent if code in (*ANSWERED, Command.OPTNEG)]
    answered = [code for code in taking if code in (*ANSWERED, Command.OPTNEG)]
    assert answered == expected[: len(answered)]
    assert error is not None or len(answered) == len(expected)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(CONVERSATIONS, WANTS, ANSWERS)
def test_messages_never_overlap(octets: bytes, wants: Wants, answers: list[Verdict | Reply]) -> None:
    """P-049, P-050, P-061, P-063, P-064, P-066, P-068: each message begins once and ends once, for any order of packets.

    It ends with its last answer, with an answer of ours that decides it, or with one abort; never with two of these.
    """
    listener = Listener(wants, itertools.cycle(answers) if answers else itertools.repeat(CONTINUE))
    with contextlib.suppress(RemoteProtocolError):
        listener.feed(octets)
    open_message = decided = connected = False
    for number, event in enumerate(listener.seen):
        match event:
            case Mail():
                assert not open_message
                open_message = True
            case Rcpt() | Data() | Header() | EndOfHeaders() | BodyChunk() | EndOfMessage():
                # Where MAIL was declined, the first of these begins the message.
                assert open_message or (listener.agreement and Stage.MAIL in listener.agreement.declined)
                open_message = not isinstance(event, EndOfMessage)
            case Abort():
                assert open_message
                open_message = False
            case Repeated():
                assert decided
            case OutOfOrder() | Helo():
                assert not open_message
            case Connect():
                assert not open_message
                assert not connected
                connected = True
            case QuitNewConnection():
                open_message = connected = False
        if number in listener.decided:
            open_message, decided = False, True
        elif not isinstance(event, Repeated | Unknown):
            decided = False


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=30)), max_size=30))
def test_macros_never_hold_more_than_the_last_set_of_each_stage(sets: list[tuple[int, bytes]]) -> None:
    """P-032, P-080: any octets, for any stage."""
    listener = started()
    last: dict[int, int] = {}
    for stage, octets in sets:
        payload = b"D" + bytes([stage]) + octets
        listener.feed(len(payload).to_bytes(4, "big") + payload)
        listener.connection.macros.value("x")
        if chr(stage) in "CHMRTLNBEU":
            last[stage] = len(payload) + 4  # kept whole until read
    held = sum(len(value) for value in listener.connection.macros.sets)
    assert held <= sum(last.values())
    assert len(listener.connection.macros.sets) == 11


@pytest.mark.slow
def test_a_long_conversation_keeps_no_memory() -> None:
    """Macros and buffers of hundreds of messages cost what one costs."""
    listener = started()
    message = b"".join(Sent.macro(packet[4:5], "i", "Q" * 5000) + packet for packet in parts(MESSAGE + Sent.UNKNOWN))
    listener.feed(message)
    listener.seen.clear()
    tracemalloc.start()
    try:
        for _ in range(100):
            listener.feed(message)
            listener.seen.clear()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * len(message)


@pytest.mark.parametrize("last", [b"", b"\0\0\0\2D"])
def test_an_idle_connection_keeps_nothing_of_what_it_has_read(last: bytes) -> None:
    """Hundreds of clients that say nothing must not hold the last body that each has sent."""
    listener = started(PLACES["eoh"])
    read = b"\0\1\0\0B" + bytes(65535) + last
    before = sys.getrefcount(read)
    event = listener.feed(read).pop()
    listener.seen.clear()
    assert isinstance(event, BodyChunk)
    if not last:
        assert sys.getrefcount(read) == before
    # The list above, this name, and the argument of the call.
    assert sys.getrefcount(event.chunk) <= 3
    assert sys.getrefcount(event) == 2


@pytest.mark.parametrize("between", ["", "L", "B", "U", "M"])
def test_the_same_macros_again_are_still_there(between: str) -> None:
    """P-080, P-085: Postfix sends them before each header field and each piece of body; something else may come between."""
    stage, place, packet = (b"B", "eoh", Sent.BODY) if between == "B" else (b"L", "data", Sent.HEADER)
    listener = started(PLACES[place])
    same = Sent.macro(stage, "i", "Q") + packet
    other = Sent.macro(between.encode(), "i", "other") if between else b""
    listener.feed(same * 3 + other + (Sent.UNKNOWN if between == "U" else b"") + same * 2)
    assert listener.connection.macros.value("i") == "Q"
    assert [type(event) for event in listener.seen].count(BodyChunk if between == "B" else Header) == 5
    listener.feed(Sent.macro(stage, "i", "new") + packet + Sent.macro(stage, "i", "Q")[:-1])
    assert listener.connection.macros.value("i") == "new"
    listener.feed(b"\0" + packet)
    assert listener.connection.macros.value("i") == "Q"


def test_verdicts_of_a_connection_decide_no_message() -> None:
    listener = Listener(answers=[ACCEPT, TEMPFAIL, Reply(550)])
    listener.feed(START)
    assert listener.feed(MESSAGE)[0] == MAIL_SEEN


def test_all_names_exist() -> None:
    assert all(hasattr(connection, name) for name in connection.__all__)


def test_looking_ahead_starts_behind_what_was_read_of_a_piece() -> None:
    """A large read brings the end of one frame and more behind it, which is not copied."""
    listener = started()
    body = packet(Command.BODY, b"x" * 60_000)
    listener.feed(packet(Command.MAIL, b"<>\0") + packet(Command.RCPT, b"<b>\0") + packet(Command.EOH) + body[:20_000])
    connection = listener.connection
    connection.receive_data(body[20_000:] + body * 2 + packet(Command.QUIT))
    assert connection.next_event() == BodyChunk(b"x" * 60_000)
    assert connection.buffer.skip
    assert connection.lookahead(True, frozenset()).found == Command.QUIT
    assert [connection.next_event() for _ in range(3)] == [BodyChunk(b"x" * 60_000)] * 2 + [Quit()]


def test_what_is_let_go_keeps_no_macros_not_even_those_of_a_message_to_come() -> None:
    listener = started()
    listener.feed(packet(Command.MAIL, b"<>\0") + packet(Command.RCPT, b"<b>\0"))
    connection = listener.connection
    connection.receive_data(packet(Command.MACRO, b"Mi\0NEXT\0") + packet(Command.MAIL, b"<>\0"))
    assert connection.next_event() == Abort()
    connection.let_go()
    assert set(connection.macros.sets) == {b""}
    assert connection.buffer.kept == 0
