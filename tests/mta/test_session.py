"""The MTA's side of the protocol: P-140 to P-147, and what each MTA does when."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.mta import OFFER, Delivered, MessageResult, Session, Style
from aiomilter.wire.constants import Action, Protocol, ReplyCode, Stage
from aiomilter.wire.events import Family, Mail, Negotiate, Rcpt
from aiomilter.wire.framing import packet
from aiomilter.wire.macros import Macros
from aiomilter.wire.modifications import AddHeader, Quarantine, ReplaceBody
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Reply
from aiomilter.wire.state import ANSWERS

from .fakes import CONTINUE_PACKET, MemoryFilter, answers, negotiated, opened

STYLES: list[Style] = ["postfix", "sendmail"]
MESSAGE = b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n"
PROGRESS = packet(ReplyCode.PROGRESS)
both_styles = pytest.mark.parametrize("style", STYLES)


def verdict(code: ReplyCode) -> bytes:
    return Reply(550, "5.7.1", "no").packet if code is ReplyCode.REPLYCODE else packet(code)


# Negotiation

ANSWERS_TO_THE_OFFER = [
    # Version, actions, protocol of the answer; taken strictly, taken leniently.
    (6, 0x1FF, 0x1FFFFF, True, True),
    (2, 0, 0, True, True),
    (7, 0, 0, False, False),
    (1, 0, 0, False, True),
    (0, 0, 0, False, True),
    (6, 0x200, 0, False, False),
    (6, 0, 0x200000, False, True),
    (6, 0, 0x10000000, False, True),
]


@pytest.mark.parametrize(("version", "actions", "protocol", "strictly", "leniently"), ANSWERS_TO_THE_OFFER)
async def test_answers_that_no_mta_takes_are_refused(
    version: int, actions: int, protocol: int, strictly: bool, leniently: bool
) -> None:
    """P-142."""
    for lenient, taken in ((False, strictly), (True, leniently)):
        opening = negotiated(version, actions, protocol)
        if taken:
            session, _ = await opened(answers(opening=opening), lenient=lenient)
            assert session.agreed.version == version
        else:
            with pytest.raises(RemoteProtocolError):
                await opened(answers(opening=opening), lenient=lenient)


@pytest.mark.parametrize(
    "opening",
    [
        packet(ReplyCode.OPTNEG, b"\0" * 11),
        CONTINUE_PACKET,
        negotiated() + b"\0",
        negotiated() + CONTINUE_PACKET,
        b"\0\0\0\0",
        b"\xff\xff\xff\xffO",
        packet(ReplyCode.OPTNEG, b"\0\0\0\6" + b"\0" * 8 + b"\0\0\0\7x\0"),
        packet(ReplyCode.OPTNEG, b"\0\0\0\6" + b"\0" * 8 + b"\0\0\0\1x"),
    ],
    ids=["short", "other packet", "more octets", "more packets", "length 0", "length 2^32-1", "stage 7", "no NUL"],
)
async def test_an_answer_to_the_offer_that_cannot_be_is_refused(opening: bytes) -> None:
    """P-142, P-147."""
    with pytest.raises(RemoteProtocolError):
        await opened(answers(opening=opening))


async def test_negotiation_happens_once_and_before_all_else() -> None:
    memory = MemoryFilter(answers())
    session = Session(memory.reader, memory)

    with pytest.raises(LocalProtocolError, match="negotiate"):
        await session.connect()
    assert await session.negotiate() is await session.negotiate()
    assert memory.received == [("O", OFFER.payload)]


async def test_an_older_mta_can_be_played() -> None:
    offer = Negotiate(2, 0x3F, 0x7F)
    _, memory = await opened(answers(opening=negotiated(2, 0, 0)), offer=offer)

    assert memory.received == [("O", offer.payload)]


# What is sent, and what is waited for

NO_FLAGS = {stage: stage.no_flag for stage in Stage if stage.no_flag}
EVERY_STEP = {
    "postfix": "cChHuUmMrRrRtTlLlLnNbBeE",
    "sendmail": "cChHUmMrRrRTLLNBeE",
}


async def everything(session: Session) -> None:
    await session.connect()
    await session.helo()
    await session.unknown("FOO")
    await session.mail("<alice@example.org>")
    await session.rcpt("<bob@example.org>")
    await session.rcpt("<carol@example.org>")
    result = await session.message(MESSAGE)
    assert result.delivered is not None
    assert result.delivered.octets == MESSAGE


@both_styles
@pytest.mark.parametrize("stage", list(NO_FLAGS))
async def test_a_declined_step_is_not_sent_but_its_macros_are(style: Style, stage: Stage) -> None:
    """P-140."""
    session, memory = await opened(answers(opening=negotiated(protocol=stage.no_flag)), style=style)
    await everything(session)
    letter = chr(stage.command)
    expected = EVERY_STEP[style].replace(letter, "")
    if stage in (Stage.HEADER, Stage.EOH, Stage.BODY):
        expected = expected.replace(letter.lower(), "")

    assert memory.codes_with_macros == "O" + expected


@both_styles
async def test_nothing_but_macros_and_the_end_of_message_is_left_once_all_is_declined(style: Style) -> None:
    """P-140."""
    session, memory = await opened(answers(opening=negotiated(protocol=0x37F)), style=style)
    await everything(session)

    assert memory.codes_with_macros == ("Ochumrrte" if style == "postfix" else "Ochmrre") + "E"


@both_styles
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage.nr_flag])
async def test_a_step_without_reply_is_not_waited_for(style: Style, stage: Stage) -> None:
    """P-141."""
    behaviour = answers(opening=negotiated(protocol=stage.nr_flag), silent=chr(stage.command))
    session, memory = await opened(behaviour, style=style)
    await everything(session)

    assert memory.codes_with_macros == "O" + EVERY_STEP[style]


async def test_postfix_writes_what_needs_no_reply_in_two_bursts() -> None:
    """P-141: at the hand-over after DATA, and when the end of message is answered."""
    behaviour = answers(opening=negotiated(protocol=0xFF080), silent="CHUMRTLNB")
    session, memory = await opened(behaviour, buffer_size=65536)
    await everything(session)

    assert len(memory.writes) == 3


async def test_postfix_writes_full_buffers_wherever_they_end() -> None:
    session, memory = await opened(answers(), buffer_size=7)
    await everything(session)
    sizes = [len(octets) for octets in memory.writes]

    assert memory.codes_with_macros == "O" + EVERY_STEP["postfix"]
    assert any(size == 7 for size in sizes)
    assert b"".join(memory.writes).endswith(packet(ord("E")))


async def test_sendmail_writes_each_packet_by_itself() -> None:
    session, memory = await opened(answers(), style="sendmail")
    await everything(session)

    assert len(memory.writes) == len(memory.received)


@pytest.mark.parametrize(("version", "missing"), [(2, "uUtT"), (3, "tT"), (4, "")])
async def test_an_answered_version_leaves_out_the_steps_it_does_not_know(version: int, missing: str) -> None:
    session, memory = await opened(answers(opening=negotiated(version)))
    await everything(session)

    assert memory.codes_with_macros == "O" + EVERY_STEP["postfix"].translate(str.maketrans("", "", missing))


@both_styles
async def test_an_empty_body_brings_no_body_packet(style: Style) -> None:
    """P-143."""
    session, memory = await opened(answers(), envelope=True, style=style)
    result = await session.message(b"A: 1\r\n\r\n")

    assert memory.codes == "OCHMRTLNE"
    assert result.delivered is not None
    assert result.delivered.octets == b"A: 1\r\n\r\n"


async def test_a_body_is_cut_at_65535_octets() -> None:
    """P-143."""
    session, memory = await opened(answers(), envelope=True)
    await session.message(b"\r\n" + b"x" * 65533 + b"\r\n" + b"y" * 65533 + b"\r\nz")

    assert [len(payload) for code, payload in memory.received if code == "B"] == [65535, 65535, 3]


@both_styles
async def test_after_skip_only_the_end_of_message_follows(style: Style) -> None:
    """P-144."""
    behaviour = answers({"B": packet(ReplyCode.SKIP)}, opening=negotiated(protocol=Protocol.SKIP))
    session, memory = await opened(behaviour, envelope=True, style=style)
    result = await session.message(b"\r\n" + b"x" * 70000)
    await session.mail("<a@example.org>")
    await session.rcpt("<b@example.org>")
    await session.message(b"\r\nx")

    assert memory.codes.replace("A", "") == "OCHMRTNBEMRTNBE"
    assert result.answer is CONTINUE
    assert result.delivered is not None
    assert len(result.delivered.octets) == 70004


async def test_the_body_step_tells_of_skip_and_sends_no_more() -> None:
    """P-144."""
    behaviour = answers({"B": packet(ReplyCode.SKIP)}, opening=negotiated(protocol=Protocol.SKIP))
    session, memory = await opened(behaviour, envelope=True)
    await session.data()
    await session.eoh()

    assert await session.body(b"x") is SKIP
    assert await session.body(b"y") is CONTINUE
    assert memory.codes.endswith("TNB")


@pytest.mark.parametrize(
    ("protocol", "payloads"), [(0, [b"X\0 a\0", b"X\0b\0"]), (Protocol.LEADING_SPACE, [b"X\0  a\0", b"X\0b\0"])]
)
async def test_the_leading_space_is_left_once_that_was_agreed(protocol: int, payloads: list[bytes]) -> None:
    session, memory = await opened(answers(opening=negotiated(protocol=protocol)), envelope=True)
    await session.message(b"X:  a\r\nX:b\r\n\r\n")

    assert [payload for code, payload in memory.received if code == "L"] == payloads


CLIENTS: list[tuple[dict[str, Any], bytes, bytes]] = [
    ({}, b"client.example\0" + b"4\x9c\x40192.0.2.1\0", b"client.example\0" + b"4\x9c\x40192.0.2.1\0"),
    ({"address": "::1", "port": 0}, b"client.example\x006\0\0::1\0", b"client.example\x006\0\0IPv6:0:0:0:0:0:0:0:1\0"),
    ({"hostname": "localhost", "address": ""}, b"localhost\0U", b"localhost\0U"),
    ({"hostname": "x", "address": "/run/s"}, b"x\0L\0\0/run/s\0", b"x\0L\0\0/run/s\0"),
    ({"hostname": "x", "address": "unknown", "port": 0}, b"x\x004\0\0unknown\0", b"x\x004\0\0unknown\0"),
    (
        {"hostname": "x", "address": "IPV6:::1", "port": 1, "family": Family.INET6},
        b"x\x006\0\1IPV6:::1\0",
        b"x\x006\0\1IPV6:::1\0",
    ),
]


@pytest.mark.parametrize(("client", "postfix", "sendmail"), CLIENTS)
async def test_clients_of_every_family(client: dict[str, Any], postfix: bytes, sendmail: bytes) -> None:
    for style, expected in (("postfix", postfix), ("sendmail", sendmail)):
        session, memory = await opened(answers(), style=style)
        await session.connect(**client)
        assert memory.received[-1] == ("C", expected)


# What an answer does to the stages after it

BARE = MESSAGE + b"a\nb\r\n"


async def test_sendmail_refuses_odd_content_itself_and_the_filter_sees_an_abort() -> None:
    """Seen on 8.17.1.9; see tests/interop/odd_messages.py."""
    session, memory = await opened(answers(), style="sendmail")
    await session.mail("<alice@example.org>")
    await session.rcpt("<bob@example.org>")
    result = await session.message(BARE)

    assert (result.answer, result.stage, result.passed) == (
        Reply(421, "4.5.0", "Bare linefeed (LF) not allowed"),
        Stage.DATA,
        False,
    )
    assert memory.codes.endswith("MRTA")
    await session.mail("<alice@example.org>")
    await session.rcpt("<bob@example.org>")
    assert (await session.message(MESSAGE)).passed


@pytest.mark.parametrize(
    ("code", "answer", "expected"),
    [
        ("R", ACCEPT, Reply(421, "4.5.0", "Bare linefeed (LF) not allowed")),
        ("T", DISCARD, Reply(421, "4.5.0", "Bare linefeed (LF) not allowed")),
        ("R", REJECT, REJECT),
        ("T", TEMPFAIL, TEMPFAIL),
    ],
)
async def test_odd_content_is_refused_unless_the_filter_refused_before(code: str, answer: Any, expected: Any) -> None:
    session, memory = await opened(answers({code: [answer.packet]}), style="sendmail")
    await session.mail("<alice@example.org>")
    await session.rcpt("<bob@example.org>")

    assert (await session.message(BARE)).answer == expected
    assert "L" not in memory.codes


REFUSALS = [REJECT, TEMPFAIL, Reply(451, "4.7.1", "later")]
STEP_CODES = {"M": Stage.MAIL, "T": Stage.DATA, "L": Stage.HEADER, "N": Stage.EOH, "B": Stage.BODY, "E": Stage.EOM}


@both_styles
@pytest.mark.parametrize("code", list(STEP_CODES))
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_a_refused_message_ends_there_and_is_not_delivered(style: Style, code: str, refusal: Any) -> None:
    session, memory = await opened(answers({code: [refusal.packet]}), style=style)
    answer = await session.mail("<alice@example.org>")
    if code == "M":
        assert answer == refusal
    assert await session.rcpt("<bob@example.org>") == (refusal if code == "M" else CONTINUE)
    result = await session.message(MESSAGE)

    assert (result.answer, result.stage, result.delivered) == (refusal, STEP_CODES[code], None)
    assert memory.codes.replace("A", "").endswith(code)


@both_styles
@pytest.mark.parametrize("code", [*STEP_CODES, "R"])
@pytest.mark.parametrize("answer", [ACCEPT, DISCARD])
async def test_after_accept_or_discard_the_rest_of_the_message_is_not_sent(
    style: Style, code: str, answer: Any
) -> None:
    session, memory = await opened(answers({code: [answer.packet]}), style=style)
    await session.mail("<alice@example.org>", "SIZE=1")
    await session.rcpt("<bob@example.org>", "NOTIFY=NEVER")
    result = await session.message(MESSAGE)

    assert (result.answer, result.stage) == (answer, {**STEP_CODES, "R": Stage.RCPT}[code])
    assert memory.codes.replace("A", "").endswith(code)
    if answer is DISCARD:
        assert result.delivered is None
    else:
        assert result.delivered is not None
        assert result.delivered.octets == MESSAGE
        assert result.delivered.sender.params == ("SIZE=1",)
        assert result.delivered.recipients == (Rcpt("<bob@example.org>", ("NOTIFY=NEVER",)),)

    await session.mail("<alice@example.org>")
    assert memory.codes.endswith("M")


@both_styles
async def test_steps_after_accept_or_discard_count_as_continue(style: Style) -> None:
    session, memory = await opened(answers({"R": DISCARD.packet}), style=style)
    await session.mail("<a@example.org>")

    assert await session.rcpt("<b@example.org>") is DISCARD
    assert await session.rcpt("<c@example.org>") is CONTINUE
    assert await session.unknown("FOO") is CONTINUE
    assert await session.data() is CONTINUE
    assert await session.header("A", "1") is CONTINUE
    assert (await session.end_of_message()).answer is DISCARD
    assert memory.codes == ("OMR" if style == "postfix" else "OMRA")


@both_styles
async def test_a_refused_recipient_leaves_the_message_and_the_others(style: Style) -> None:
    session, memory = await opened(answers({"R": [REJECT.packet, CONTINUE_PACKET]}), style=style)
    await session.mail("<a@example.org>")

    assert await session.rcpt("<b@example.org>") is REJECT
    assert await session.rcpt("<c@example.org>") is CONTINUE
    result = await session.message(MESSAGE)
    assert result.delivered is not None
    assert result.delivered.recipients == (Rcpt("<c@example.org>"),)
    assert memory.codes.startswith("OMRRTL")


async def test_a_message_without_a_recipient_left_is_not_sent() -> None:
    session, memory = await opened(answers({"R": REJECT.packet}))
    await session.mail("<a@example.org>")
    await session.rcpt("<b@example.org>")
    result = await session.message(MESSAGE)

    assert (result.answer, result.stage, result.delivered) == (REJECT, Stage.RCPT, None)
    assert memory.codes == "OMR"


@both_styles
async def test_a_refused_data_may_be_sent_again(style: Style) -> None:
    session, memory = await opened(answers({"T": [REJECT.packet, CONTINUE_PACKET]}), envelope=True, style=style)

    assert await session.data() is REJECT
    assert await session.header("A", "1") is REJECT
    assert await session.rcpt("<c@example.org>") is CONTINUE
    assert await session.data() is CONTINUE
    assert memory.codes == "OCHMRTRT"


async def test_a_message_refused_at_data_stays_open() -> None:
    session, memory = await opened(answers({"T": [REJECT.packet, CONTINUE_PACKET]}), envelope=True)

    assert (await session.message(MESSAGE)).stage is Stage.DATA
    assert await session.data() is CONTINUE
    assert (await session.message(MESSAGE)).delivered is not None
    assert memory.codes == "OCHMRTTLLNBEA"[:-1]


@pytest.mark.parametrize("code", ["C", "H"])
@pytest.mark.parametrize("answer", [ACCEPT, *REFUSALS], ids=str)
async def test_postfix_leaves_without_quit_once_a_connection_is_decided(code: str, answer: Any) -> None:
    session, memory = await opened(answers({code: answer.packet}))
    await session.connect()
    await session.helo()

    assert memory.closed
    assert memory.codes == ("OC" if code == "C" else "OCH")
    assert session.decided == (Stage.CONNECT if code == "C" else Stage.HELO, answer)
    await session.quit()
    assert memory.codes[-1] == code


@pytest.mark.parametrize(
    ("code", "answer", "codes"),
    [("C", ACCEPT, "OCQ"), ("C", REJECT, "OCQ"), ("H", ACCEPT, "OCHQ"), ("H", TEMPFAIL, "OCH")],
)
async def test_sendmail_says_quit_once_a_connection_is_decided(code: str, answer: Any, codes: str) -> None:
    session, memory = await opened(answers({code: answer.packet}), style="sendmail")
    await session.connect()
    await session.helo()
    await session.mail("<a@example.org>")

    assert memory.codes == codes
    await session.quit()
    assert memory.codes == codes.rstrip("Q") + "Q"


@both_styles
async def test_after_an_accepted_connection_mail_passes_unfiltered(style: Style) -> None:
    session, memory = await opened(answers({"C": ACCEPT.packet}), style=style)

    assert await session.connect() is ACCEPT
    assert await session.helo() is CONTINUE
    assert await session.unknown("FOO") is CONTINUE
    for _ in range(2):
        assert await session.mail("<a@example.org>") is CONTINUE
        assert await session.rcpt("<b@example.org>") is CONTINUE
        result = await session.message(MESSAGE)
        assert (result.answer, result.stage) == (ACCEPT, Stage.CONNECT)
        assert result.delivered is not None
        assert result.delivered.octets == MESSAGE
    assert memory.codes.rstrip("Q") == "OC"


@both_styles
async def test_after_a_refused_connection_every_step_is_refused(style: Style) -> None:
    session, _ = await opened(answers({"H": REJECT.packet}), style=style)
    await session.connect()

    assert await session.helo() is REJECT
    assert await session.helo() is REJECT
    assert await session.mail("<a@example.org>") is REJECT
    assert await session.rcpt("<b@example.org>") is REJECT
    result = await session.message(MESSAGE)
    assert (result.answer, result.stage, result.delivered) == (REJECT, Stage.HELO, None)


@pytest.mark.parametrize("stage", ["rcpt", "data", "eoh", "end_of_message"])
async def test_a_stage_of_a_message_needs_a_message(stage: str) -> None:
    session, _ = await opened(answers())
    arguments = ("<b@example.org>",) if stage == "rcpt" else ()

    with pytest.raises(LocalProtocolError, match="mail"):
        await getattr(session, stage)(*arguments)


async def test_a_message_needs_sender_and_recipient() -> None:
    session, _ = await opened(answers())

    with pytest.raises(LocalProtocolError, match="mail"):
        await session.message(MESSAGE)
    await session.mail("<a@example.org>")
    with pytest.raises(LocalProtocolError, match="rcpt"):
        await session.message(MESSAGE)


@both_styles
async def test_messages_after_each_other_are_independent(style: Style) -> None:
    behaviour = answers({"E": [packet(ReplyCode.ADDHEADER, b"X\x001\0") + CONTINUE_PACKET]})
    session, _ = await opened(behaviour, envelope=True, style=style)
    first = await session.message(MESSAGE)
    await session.mail("<x@example.org>")
    await session.rcpt("<y@example.org>")
    second = await session.message(b"A: 1\r\n\r\n")

    assert first.delivered is not None
    assert b"X: 1\r\n" in first.delivered.octets
    assert second.delivered is not None
    assert second.delivered.octets == b"A: 1\r\n\r\n"
    assert second.delivered.recipients == (Rcpt("<y@example.org>"),)


# ABORT and the ends of a session

ABORTS: list[tuple[str, Callable[[Session], Any], str, str]] = [
    ("nothing", lambda s: s.quit(), "OQ", "OQ"),
    ("helo", lambda s: s.helo(), "OHAQ", "OHQ"),
    ("two helos", lambda s: twice(s.helo), "OHHAAQ", "OHHQ"),
    ("open message", lambda s: s.mail("<a@x>"), "OMAQ", "OMQ"),
    ("rset", lambda s: then(s.mail("<a@x>"), s.abort), "OMAQ", "OMAQ"),
    ("two rsets", lambda s: then(s.mail("<a@x>"), s.abort, s.abort), "OMAQ", "OMAQ"),
    ("helo in a message", lambda s: then(s.mail("<a@x>"), s.helo), "OMHAAQ", "OMAHQ"),
    ("second helo in a message", lambda s: then(s.helo(), lambda: s.mail("<a@x>"), s.helo), "OHMHAAAQ", "OHMAHQ"),
    ("nested mail", lambda s: twice(lambda: s.mail("<a@x>")), "OMAMAQ", "OMAMQ"),
]


async def then(first: Any, *more: Callable[[], Any]) -> None:
    await first
    for stage in more:
        await stage()


async def twice(stage: Callable[[], Any]) -> None:
    await stage()
    await stage()


@pytest.mark.parametrize(("name", "play", "postfix", "sendmail"), ABORTS, ids=[row[0] for row in ABORTS])
async def test_where_each_mta_sends_abort(
    name: str, play: Callable[[Session], Any], postfix: str, sendmail: str
) -> None:
    for style, expected in (("postfix", postfix), ("sendmail", sendmail)):
        session, memory = await opened(answers(), style=style)
        await play(session)
        await session.quit()
        assert memory.codes == expected
        assert memory.closed


@pytest.mark.parametrize("bit", [Protocol.NO_MAIL, Protocol.NR_MAIL])
async def test_sendmail_sends_no_abort_where_mail_was_not_answered(bit: Protocol) -> None:
    behaviour = answers(opening=negotiated(protocol=bit), silent="M")
    session, memory = await opened(behaviour, style="sendmail")
    await session.mail("<a@x>")
    await session.rcpt("<b@x>")
    await session.abort()

    assert "A" not in memory.codes


async def test_postfix_keeps_abort_back_until_something_else_is_sent() -> None:
    session, memory = await opened(answers(), envelope=True)
    await session.message(MESSAGE)
    assert memory.codes.endswith("E")

    await session.mail("<a@x>")
    assert memory.codes.endswith("EAM")


async def test_sendmail_sends_abort_at_once() -> None:
    session, memory = await opened(answers(), envelope=True, style="sendmail")
    await session.abort()

    assert memory.codes.endswith("RA")


@both_styles
async def test_close_says_nothing(style: Style) -> None:
    session, memory = await opened(answers(), envelope=True, style=style)
    await session.close()
    await session.close()
    await session.quit()

    assert memory.closed
    assert memory.codes == "OCHMR"
    with pytest.raises(LocalProtocolError, match="closed"):
        await session.data()


@both_styles
async def test_a_new_connection_follows_on_the_same_streams(style: Style) -> None:
    session, memory = await opened(answers(), envelope=True, style=style)
    await session.quit_new_connection()
    await session.connect()
    await session.mail("<a@x>")

    assert memory.codes.endswith("KCM")
    assert memory.codes.count("O") == 1


@both_styles
async def test_no_abort_comes_between_a_message_and_a_new_connection(style: Style) -> None:
    session, memory = await opened(answers(), envelope=True, style=style)
    await session.message(MESSAGE)
    await session.quit_new_connection()

    assert memory.codes.endswith("EK")


# Recipients that the MTA refuses

REFUSED = Reply(550, "5.1.1", "User unknown")


@pytest.mark.parametrize(("style", "codes"), [("postfix", ""), ("sendmail", "r")])
async def test_a_recipient_the_mta_refuses_is_not_told(style: Style, codes: str) -> None:
    session, memory = await opened(answers(), style=style)
    await session.mail("<a@x>")

    assert await session.rcpt("<nosuch@x>", rejected=REFUSED) == REFUSED
    assert memory.codes_with_macros == "OmM" + codes
    assert (await session.message(MESSAGE)).answer == REFUSED


@both_styles
@pytest.mark.parametrize("answer", [CONTINUE, REJECT])
async def test_a_filter_that_asked_for_refused_recipients_cannot_change_them(style: Style, answer: Any) -> None:
    behaviour = answers({"R": [answer.packet]}, opening=negotiated(protocol=Protocol.REJECTED_RECIPIENTS))
    session, memory = await opened(behaviour, style=style)
    await session.mail("<a@x>")
    assert await session.rcpt("<nosuch@x>", rejected=REFUSED) == REFUSED
    assert memory.received[-1] == ("R", b"<nosuch@x>\0")
    told = Macros.decode(memory.received[-2][1]).values
    assert (told["{rcpt_mailer}"], told["{rcpt_host}"], told["{rcpt_addr}"]) == ("error", "5.1.1", "User unknown")

    await session.rcpt("<b@x>")
    result = await session.message(MESSAGE)
    assert result.delivered is not None
    assert result.delivered.recipients == (Rcpt("<b@x>"),)


async def test_discard_of_a_refused_recipient_takes_effect() -> None:
    behaviour = answers({"R": DISCARD.packet}, opening=negotiated(protocol=Protocol.REJECTED_RECIPIENTS))
    session, _ = await opened(behaviour)
    await session.mail("<a@x>")
    await session.rcpt("<nosuch@x>", rejected=REFUSED)
    await session.rcpt("<b@x>")

    assert (await session.message(MESSAGE)).answer is DISCARD


# End of message


async def test_modifications_come_back_in_order_with_the_verdict() -> None:
    """P-145."""
    octets = (
        packet(ReplyCode.ADDHEADER, b"X\x001\0")
        + PROGRESS
        + packet(ReplyCode.QUARANTINE, b"why\0")
        + packet(ReplyCode.REPLBODY, b"new\r\n")
        + ACCEPT.packet
    )
    session, _ = await opened(answers({"E": octets}), envelope=True)
    result = await session.message(MESSAGE)

    assert result.answer is ACCEPT
    assert result.modifications == (AddHeader("X", "1"), Quarantine("why"), ReplaceBody(b"new\r\n"))
    assert result.progress == 1
    assert result.delivered is not None
    assert result.delivered.octets.endswith(b"X: 1\r\n\r\nnew\r\n")


@pytest.mark.parametrize("answer", [REJECT, TEMPFAIL, DISCARD, Reply(550, "5.7.1", "no")], ids=str)
async def test_modifications_before_a_refusal_are_reported_and_not_applied(answer: Any) -> None:
    """P-145."""
    octets = packet(ReplyCode.ADDHEADER, b"X\x001\0") + answer.packet
    session, _ = await opened(answers({"E": octets}), envelope=True)
    result = await session.message(MESSAGE)

    assert (result.answer, result.modifications, result.delivered) == (answer, (AddHeader("X", "1"),), None)


@pytest.mark.parametrize("between", [PROGRESS, packet(ReplyCode.ADDHEADER, b"X\x001\0")])
async def test_a_body_replaced_in_parts_with_something_between_fails_in_postfix_only(between: bytes) -> None:
    octets = packet(ReplyCode.REPLBODY, b"a\r\n") + between + packet(ReplyCode.REPLBODY, b"b\r\n") + CONTINUE_PACKET
    session, _ = await opened(answers({"E": octets}), envelope=True)
    with pytest.raises(RemoteProtocolError, match="REPLBODY"):
        await session.message(MESSAGE)

    session, _ = await opened(answers({"E": octets}), envelope=True, style="sendmail")
    result = await session.message(MESSAGE)
    assert result.delivered is not None
    assert result.delivered.octets.endswith(b"\r\na\r\nb\r\n")


MODIFICATION_PACKETS = {
    "h": (b"X\x001\0", 0x1),
    "i": (b"\0\0\0\0X\x001\0", 0x1),
    "b": (b"new", 0x2),
    "+": (b"a@x\0", 0x4),
    "-": (b"a@x\0", 0x8),
    "m": (b"\0\0\0\1X\x001\0", 0x10),
    "q": (b"why\0", 0x20),
    "e": (b"a@x\0", 0x40),
    "2": (b"a@x\0A=1\0", 0x80),
}


@both_styles
@pytest.mark.parametrize("code", list(MODIFICATION_PACKETS))
async def test_a_modification_that_was_not_agreed_on_is_an_error_unless_lenient(style: Style, code: str) -> None:
    """P-147."""
    payload, action = MODIFICATION_PACKETS[code]
    for actions, lenient, taken in ((action, False, True), (0x1FF ^ action, False, False), (0, True, True)):
        behaviour = answers({"E": packet(ord(code), payload) + CONTINUE_PACKET}, opening=negotiated(6, actions, 0))
        session, _ = await opened(behaviour, envelope=True, style=style, lenient=lenient)
        if taken and not (lenient and code == "b" and style == "sendmail"):
            assert len((await session.message(MESSAGE)).modifications) == 1
        else:
            with pytest.raises(
                RemoteProtocolError, match=f"agreed on, found {Action(action).name}, which the filter did"
            ):
                await session.message(MESSAGE)


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        ("h", b"X\x001"),
        ("h", b"X\0"),
        ("h", b"X\x001\x002\0"),
        ("h", b"\x001\0"),
        ("h", b"X:\x001\0"),
        ("h", b"X\0a\nb\0"),
        ("i", b"\0\0\0"),
        ("i", b"\x80\0\0\0X\x001\0"),
        ("m", b"\0\0\0\1X\0"),
        ("+", b"\0"),
        ("+", b"a@x"),
        ("2", b"a@x\0b\0c\0"),
        ("e", b"a@x\0b\0c\0"),
        ("e", b"\0"),
        ("-", b"\0"),
        ("q", b"\0"),
        ("q", b""),
        ("l", b""),
        ("4", b""),
        ("f", b""),
        ("O", b"\0" * 12),
        ("p", b"x"),
    ],
)
async def test_a_malformed_modification_is_an_error(code: str, payload: bytes) -> None:
    """P-147."""
    session, _ = await opened(answers({"E": packet(ord(code), payload) + CONTINUE_PACKET}), envelope=True)

    with pytest.raises(RemoteProtocolError) as caught:
        await session.message(MESSAGE)
    assert "\n" not in str(caught.value)


# Answers that are illegal

PLAY: dict[Stage, Callable[[Session], Any]] = {
    Stage.CONNECT: lambda session: session.connect(),
    Stage.HELO: lambda session: session.helo(),
    Stage.MAIL: lambda session: session.mail("<a@x>"),
    Stage.RCPT: lambda session: session.rcpt("<b@x>"),
    Stage.DATA: lambda session: session.data(),
    Stage.HEADER: lambda session: session.header("A", "1"),
    Stage.EOH: lambda session: session.eoh(),
    Stage.BODY: lambda session: session.body(b"x"),
    Stage.EOM: lambda session: session.end_of_message(),
    Stage.UNKNOWN: lambda session: session.unknown("FOO"),
}


async def at(stage: Stage, octets: bytes, **options: Any) -> Session:
    """A session whose next stage is ``stage``, and whose filter will send ``octets`` to it."""
    session, memory = await opened(answers(opening=negotiated(protocol=Protocol.SKIP)), **options)
    if Stage.MAIL < stage <= Stage.EOM:
        await session.mail("<a@x>")
    memory.answer = answers({chr(stage.command): octets})
    return session


@both_styles
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("code", list(ReplyCode))
async def test_each_answer_at_each_step_is_taken_or_refused(style: Style, stage: Stage, code: ReplyCode) -> None:
    """P-147: every cell of the table "Answers by command" in aiomilter/help/protocol.rst."""
    session = await at(stage, verdict(code), style=style, timeout=0.0)

    if code in ANSWERS[stage]:
        answer = await PLAY[stage](session)
        assert getattr(answer, "answer", answer) in (Reply(550, "5.7.1", "no"), *ALL_VERDICTS)
    elif code is ReplyCode.PROGRESS and (style == "postfix" or stage is Stage.EOM):
        # Waits on: there is a time limit of zero, and nothing more comes.
        with pytest.raises(TimeoutError):
            await PLAY[stage](session)
    elif code is ReplyCode.REPLBODY and stage is Stage.EOM:
        with pytest.raises(TimeoutError):
            await PLAY[stage](session)
    else:
        with pytest.raises(RemoteProtocolError):
            await PLAY[stage](session)


ALL_VERDICTS = (CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP)


@both_styles
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("code", b"cartp")
async def test_a_verdict_with_octets_after_it_is_an_error(style: Style, stage: Stage, code: int) -> None:
    """P-147."""
    session = await at(stage, packet(code, b"x"), style=style)

    with pytest.raises(RemoteProtocolError):
        await PLAY[stage](session)


async def test_skip_is_an_error_unless_agreed() -> None:
    """P-147."""
    session, _ = await opened(answers({"B": SKIP.packet}), envelope=True)

    with pytest.raises(RemoteProtocolError, match="SKIP"):
        await session.message(MESSAGE)


@pytest.mark.parametrize("stage", list(Stage))
async def test_a_second_answer_is_an_error(stage: Stage) -> None:
    """P-147."""
    session = await at(stage, CONTINUE_PACKET + CONTINUE_PACKET[:1])

    with pytest.raises(RemoteProtocolError, match="one answer"):
        await PLAY[stage](session)


@pytest.mark.parametrize(
    "octets", [b"550\0", b"250 ok\0", b"550 5.7.1 no", b"", b"\0", b"550 a\0b\0", b"550-a\r\n551 b\0"]
)
async def test_a_reply_that_is_none_is_an_error(octets: bytes) -> None:
    """P-147."""
    session = await at(Stage.MAIL, packet(ReplyCode.REPLYCODE, octets))

    if octets == b"550\0":
        assert await session.mail("<a@x>") == Reply(550)
        return
    with pytest.raises(RemoteProtocolError):
        await session.mail("<a@x>")


@both_styles
@pytest.mark.parametrize("stage", [*Stage, None])
async def test_a_packet_that_nobody_asked_for_is_an_error_at_the_next_step(style: Style, stage: Stage | None) -> None:
    """P-147."""
    session, memory = await opened(answers(), style=style)
    if stage is not None and Stage.MAIL < stage <= Stage.EOM:
        await session.mail("<a@x>")
    memory.reader.feed_data(CONTINUE_PACKET[:3])

    with pytest.raises(RemoteProtocolError, match="expected nothing"):
        await (session.quit() if stage is None else PLAY[stage](session))


async def test_an_answer_to_a_step_without_reply_is_an_error() -> None:
    """P-147: an MTA would take it for the answer to a later stage."""
    behaviour = answers(opening=negotiated(protocol=Protocol.NR_MAIL))
    session, _ = await opened(behaviour, style="sendmail")
    await session.mail("<a@x>")

    with pytest.raises(RemoteProtocolError, match="expected nothing"):
        await session.rcpt("<b@x>")


@both_styles
@pytest.mark.parametrize("stage", list(Stage))
async def test_a_filter_that_leaves_breaks_the_protocol(style: Style, stage: Stage) -> None:
    session, memory = await opened(answers(), style=style)
    if Stage.MAIL < stage <= Stage.EOM:
        await session.mail("<a@x>")
    memory.answer = lambda code, payload: None
    memory.reader.feed_eof()

    with pytest.raises(RemoteProtocolError, match="closed"):
        await PLAY[stage](session)


async def test_a_connection_that_breaks_is_told_as_such() -> None:
    session, memory = await opened(answers())
    memory.reader.set_exception(ConnectionResetError("reset by peer"))

    with pytest.raises(RemoteProtocolError, match="reset by peer"):
        await session.connect()


class Broken(MemoryFilter):
    """A filter whose socket can no longer be written to."""

    async def drain(self) -> None:
        if len(self.received) > 1:
            raise BrokenPipeError("broken pipe")


async def test_a_connection_that_cannot_be_written_to_is_told_as_such() -> None:
    memory = Broken(answers({"C": b""}))
    session = Session(memory.reader, memory)
    await session.negotiate()

    with pytest.raises(RemoteProtocolError, match="broken pipe"):
        await session.connect()
    await session.quit()
    assert memory.closed


async def test_a_step_without_reply_notices_that_nothing_can_be_written() -> None:
    memory = Broken(answers(opening=negotiated(protocol=Protocol.NR_CONNECT), silent="C"))
    session = Session(memory.reader, memory, style="sendmail")
    await session.negotiate()

    with pytest.raises(RemoteProtocolError, match="broken pipe"):
        await session.connect()


# Time and size


@both_styles
@pytest.mark.parametrize("stage", list(Stage))
async def test_a_silent_filter_runs_into_the_time_limit(style: Style, stage: Stage) -> None:
    session = await at(stage, b"", style=style, timeout=0.0)

    with pytest.raises(TimeoutError, match=stage.name):
        await PLAY[stage](session)


class Stuck(MemoryFilter):
    """A filter that reads no more."""

    async def drain(self) -> None:
        if len(self.received) > 1:
            await asyncio.get_running_loop().create_future()


async def test_a_filter_that_does_not_read_runs_into_the_time_limit() -> None:
    memory = Stuck(answers(opening=negotiated(protocol=Protocol.NR_CONNECT), silent="C"))
    session = Session(memory.reader, memory, style="sendmail", timeout=0.0)
    await session.negotiate()

    with pytest.raises(TimeoutError, match="not read"):
        await session.connect()


async def test_progress_starts_the_time_limit_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """P-146."""
    session, memory = await opened(answers({"E": b""}), envelope=True)
    await session.data()
    waits: list[float | None] = []
    timeout = asyncio.timeout

    def spy(delay: float | None) -> asyncio.Timeout:
        waits.append(delay)
        return timeout(delay)

    monkeypatch.setattr(asyncio, "timeout", spy)
    ending = asyncio.ensure_future(session.end_of_message())
    for octets in (PROGRESS, PROGRESS, PROGRESS, CONTINUE_PACKET):
        began = len(waits)
        while len(waits) == began:
            await asyncio.sleep(0)
        memory.reader.feed_data(octets)
    result = await ending

    assert (result.answer, result.progress) == (CONTINUE, 3)
    assert waits.count(30.0) >= 4


async def test_more_modifications_than_the_limit_are_an_error() -> None:
    flood = packet(ReplyCode.ADDHEADER, b"X\x001\0") * 100 + CONTINUE_PACKET
    session, _ = await opened(answers({"E": flood}), envelope=True, max_answer_size=100 * 6144)
    with pytest.raises(RemoteProtocolError, match="at most"):
        await session.message(MESSAGE)

    session, _ = await opened(answers({"E": flood}), envelope=True, max_answer_size=101 * 6144)
    assert len((await session.message(MESSAGE)).modifications) == 100


async def test_a_packet_over_65535_octets_is_an_error_unless_lenient() -> None:
    octets = packet(ReplyCode.REPLBODY, b"x" * 65536, 65536) + CONTINUE_PACKET
    session, _ = await opened(answers({"E": octets}), envelope=True)
    with pytest.raises(RemoteProtocolError, match="frame"):
        await session.message(MESSAGE)

    session, _ = await opened(answers({"E": octets}), envelope=True, lenient=True)
    result = await session.message(MESSAGE)
    assert result.delivered is not None
    assert result.delivered.octets.endswith(b"x\r\n")


@pytest.mark.parametrize(
    "play",
    [
        lambda session: session.connect("a\0b"),
        lambda session: session.connect(port=65536),
        lambda session: session.helo("a\0b"),
        lambda session: session.mail("<a@x>", "A\0=1"),
        lambda session: session.unknown("\0"),
        lambda session: session.unknown("x" * 65535),
    ],
)
async def test_what_no_packet_can_carry_is_refused_here(play: Callable[[Session], Any]) -> None:
    session, memory = await opened(answers())

    with pytest.raises(LocalProtocolError):
        await play(session)
    assert memory.codes == "O"


def test_the_result_of_a_message_says_whether_it_passed() -> None:
    edit = AddHeader("X", "y")
    delivered = Delivered(Mail("<>"), (), None, b"X: y\r\n\r\n")
    passed = MessageResult(CONTINUE, Stage.EOM, (edit,), 0, delivered)
    refused = MessageResult(REJECT, Stage.EOM, (edit,))

    assert (passed.passed, passed.edits, passed.octets) == (True, (edit,), b"X: y\r\n\r\n")
    assert (refused.passed, refused.edits) == (False, ())
    with pytest.raises(LocalProtocolError, match="expected a message that was delivered, found REJECT at EOM"):
        _ = refused.octets
