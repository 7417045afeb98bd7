import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire import replies
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Refusal, Reply, Verdict
from tests.wire.packets import ANSWERS, Answer
from tests.wire.strategies import replies as any_reply


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: repr(answer.response)[:60])
def test_an_answer_is_its_octets(answer: Answer) -> None:
    """P-001, P-090, P-103, P-104, P-105, P-107: no verdict carries a payload."""
    assert len(answer.octets) - 4 == int.from_bytes(answer.octets[:4], "big")
    assert answer.response.packet == answer.octets
    if isinstance(answer.response, Reply):
        assert Reply.decode(answer.octets[5:]) == answer.response


def test_the_answers_hold_every_verdict() -> None:
    assert {answer.response for answer in ANSWERS if isinstance(answer.response, Verdict)} == set(Verdict)


def test_every_refusing_code_is_taken() -> None:
    """P-100."""
    for code in range(400, 600):
        reply = Reply(code, None, "text")
        assert str(reply) == f"{code} text"
        assert reply.temporary is (code < 500)


@pytest.mark.parametrize("code", [0, 250, 354, 399, 600, -550, 5500, 550.0, "550", True, None])
def test_any_other_code_is_refused(code: int) -> None:
    """P-100."""
    with pytest.raises(LocalProtocolError, match="reply code: expected 400 to 599"):
        Reply(code)


@pytest.mark.parametrize(("code", "enhanced"), [(450, "4.0.0"), (550, "5.7.1"), (550, "5.999.999"), (599, "5.07.001")])
def test_an_enhanced_code_of_the_same_class_is_taken(code: int, enhanced: str) -> None:
    """P-101."""
    assert Reply(code, enhanced, "x").packet == b"\0\0\0%cy%d %s x\0" % (len(enhanced) + 8, code, enhanced.encode())


@pytest.mark.parametrize(
    "enhanced",
    [
        *("4.7.1", "2.7.1", "5.7", "5.7.1.1", "5.7.", "5..1", "5.1000.1", "5.1.1000", "5.7.1 ", " 5.7.1", "5.7.1\n"),
        *("5.x.1", "6.1.1", "5,7,1", "5.-7.1", "5.\u0667.1", 571, b"5.7.1", ("5", "7", "1")),
    ],
)
def test_any_other_enhanced_code_is_refused(enhanced: str) -> None:
    """P-101."""
    with pytest.raises(LocalProtocolError, match=re.escape("enhanced code: expected 5.N.N")):
        Reply(550, enhanced, "x")


def test_a_4xx_code_takes_no_5xx_enhanced_code() -> None:
    """P-101."""
    with pytest.raises(LocalProtocolError, match=re.escape("enhanced code: expected 4.N.N, found '5.7.1'")):
        Reply(450, "5.7.1", "x")


@pytest.mark.parametrize("enhanced", [None, ""])
def test_no_enhanced_code_stays_none(enhanced: str | None) -> None:
    reply = Reply(550, enhanced, "go away")
    assert reply.enhanced is None
    assert reply.packet == b"\0\0\0\x0dy550 go away\0"


def test_any_octet_but_printable_ascii_and_tab_goes_out_as_a_question_mark() -> None:
    """P-102, P-103: each octet as a character of its own, and as an octet of no UTF-8."""
    for code in range(256):
        for text in {chr(code), bytes([code]).decode("utf-8", "surrogateescape")} - {"\0", "\n", "\r"}:
            payload = Reply(550, "5.7.1", f"a{text}b").packet[5:]
            if code == 0x25:
                assert payload == b"550 5.7.1 a%%b\0"
            elif 0x20 <= code <= 0x7E or code == 9:
                assert payload == b"550 5.7.1 a" + bytes([code]) + b"b\0"
            else:
                assert payload == b"550 5.7.1 a" + b"?" * len(text.encode("utf-8", "surrogateescape")) + b"b\0"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("\u010a", "??"),
        ("\u3a8a\u4aa5", "??????"),
        ("\U0001f600", "????"),
        ("\ud800", "?"),
        ("\x7f\x1b[31m", "??[31m"),
        ("\x85\u2028", "?????"),
    ],
)
def test_no_text_becomes_a_line_end_or_percent_where_the_high_bit_is_stripped(text: str, sent: str) -> None:
    """P-102: Sendmail would turn octets 8a, 8d and a5 into LF, CR and ``%``."""
    assert Reply(550, "5.7.1", text).lines == (sent,)


@pytest.mark.parametrize("text", ["\r", "\n", "\0", "a\r\nb", "a\n", "\u00e9\n"])
def test_text_of_more_than_one_line_is_refused(text: str) -> None:
    """P-102, P-123: the rest would be a reply of the client's making."""
    with pytest.raises(LocalProtocolError, match="reply text: expected one line, found CR, LF or NUL"):
        Reply(550, "5.7.1", "fine", text)


@pytest.mark.parametrize("other", [None, 7, b"octets", ["a"]])
def test_text_is_str(other: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"reply text: expected str, found {type(other).__name__}"):
        Reply(550, "5.7.1", other)


@pytest.mark.parametrize(
    ("text", "wire"),
    [("100%", "100%%"), ("%", "%%"), ("%%", "%%%%"), ("%s %d", "%%s %%d"), ("%%%", "%%%%%%")],
)
def test_percent_is_doubled_on_the_wire_and_single_for_the_client(text: str, wire: str) -> None:
    """P-103."""
    reply = Reply(550, "5.7.1", text)
    assert reply.packet.endswith(f"550 5.7.1 {wire}\0".encode())
    assert Reply.decode(reply.packet[5:]).lines == (text,)


@pytest.mark.parametrize(
    ("code", "lines", "enhanced"),
    [
        (550, ("3 strikes",), "5.0.0"),
        (450, ("3 strikes",), "4.0.0"),
        (550, ("fine", "2nd"), "5.0.0"),
        (550, ("5.7.1 text",), "5.0.0"),
        (550, (" 3",), None),
        (550, ("three",), None),
    ],
)
def test_text_that_starts_with_a_digit_gets_an_enhanced_code(
    code: int, lines: tuple[str, ...], enhanced: str | None
) -> None:
    """P-104: Postfix would take the digit for a code of the wrong class, and drop the filter."""
    reply = Reply(code, None, *lines)
    assert reply.enhanced == enhanced
    assert reply.lines == lines


def test_an_enhanced_code_that_was_given_stays_before_a_digit() -> None:
    """P-104."""
    assert str(Reply(550, "5.7.1", "3 strikes")) == "550 5.7.1 3 strikes"


@pytest.mark.parametrize("count", [2, 3, 32])
def test_each_line_repeats_the_codes_and_only_the_last_ends_the_reply(count: int) -> None:
    """P-105."""
    text = str(Reply(451, "4.7.1", *[f"line {number}" for number in range(count)]))
    *before, last = text.split("\r\n")
    assert before == [f"451-4.7.1 line {number}" for number in range(count - 1)]
    assert last == f"451 4.7.1 line {count - 1}"


def test_lines_without_enhanced_code_repeat_the_code() -> None:
    """P-105."""
    assert str(Reply(451, None, "a", "", "b")) == "451-a\r\n451-\r\n451 b"


@pytest.mark.parametrize("count", [33, 100])
def test_more_than_32_lines_are_refused(count: int) -> None:
    """P-106."""
    with pytest.raises(LocalProtocolError, match=f"reply: expected at most 32 lines, found {count}"):
        Reply(550, "5.7.1", *["x"] * count)


@pytest.mark.parametrize(
    ("text", "sent"), [("x" * 481, "x" * 480), ("\u00e9" * 300, "?" * 480), ("x" * 480, "x" * 480)]
)
def test_text_is_cut_at_480_octets_a_line(text: str, sent: str) -> None:
    """P-106."""
    assert Reply(550, "5.7.1", "short", text).lines == ("short", sent)


@pytest.mark.parametrize("text", ["x", "%"])
def test_the_longest_reply_fits_its_packet_and_the_clients_lines(text: str) -> None:
    """P-006, P-106: a reply line has at most 512 octets (RFC 5321 section 4.5.3.1.5)."""
    reply = Reply(550, "5.999.999", *[text * 1000] * 32)
    assert len(reply.packet) - 5 <= 65535
    assert max(len(line) + 2 for line in str(reply).split("\r\n")) <= 512


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(any_reply())
def test_any_reply_comes_back_as_it_was(reply: Reply) -> None:
    """P-101, P-103, P-105, P-107."""
    payload = reply.packet[5:]
    assert payload.count(0) == 1
    assert payload.endswith(b"\0")
    assert Reply.decode(payload) == reply


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=30) | st.from_regex(rb"\A([45][0-9][0-9][ -](5\.7\.1 )?[%a]*(\r\n)?){1,3}\x00\Z"))
def test_any_payload_is_a_reply_or_a_broken_rule(payload: bytes) -> None:
    try:
        reply = Reply.decode(payload)
    except RemoteProtocolError:
        return
    again = Reply.decode(reply.packet[5:])
    assert (again.code, str(again)) == (reply.code, str(reply))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.integers(400, 599), st.text(max_size=30), st.booleans())
def test_no_text_reaches_the_client_as_anything_but_one_line(code: int, text: str, coded: bool) -> None:
    """P-102."""
    try:
        reply = Reply(code, f"{code // 100}.7.1" if coded else None, text)
    except LocalProtocolError:
        assert set(text) & set("\r\n\0")
        return
    stripped = bytes(octet & 0x7F for octet in reply.packet[5:-1])
    assert stripped == reply.packet[5:-1]
    assert not set(stripped) & {0, 10, 13}
    assert stripped.count(b"%") == 2 * stripped.count(b"%%")


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"\0", b"550 x", b"550 x\0y\0", b"550 x\0\0", b"55 x\0", b"250 x\0", b"5505.7.1\0", b"550_x\0", b"x\0"),
        *(b"550-a\r\n551 b\0", b"550-a\r\nb\0", b"550-a\r\n\0", b"\r\n550 a\0", b"5\xb250 x\0"),
    ],
)
def test_what_is_no_reply_breaks_the_protocol(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="REPLYCODE packet: expected"):
        Reply.decode(payload)


@pytest.mark.parametrize(
    ("payload", "code", "enhanced", "lines"),
    [
        (b"550\0", 550, None, ()),
        (b"550 \0", 550, None, ()),
        (b"550 5.7.1\0", 550, "5.7.1", ()),
        (b"550-a\r\n550-\r\n550 b\0", 550, None, ("a", "", "b")),
        (b"550-5.7.1 a\r\n550 b\0", 550, "5.7.1", ("a", "b")),
        (b"550 50%% of 100%\0", 550, None, ("50% of 100%",)),
        (b"451 4.7.1 \xff\0", 451, "4.7.1", ("\udcff",)),
    ],
)
def test_replies_of_other_filters_are_read_as_the_client_would(
    payload: bytes, code: int, enhanced: str | None, lines: tuple[str, ...]
) -> None:
    reply = Reply.decode(payload)
    assert (reply.code, reply.enhanced, reply.lines) == (code, enhanced, lines)


def test_replies_are_values() -> None:
    """P-108: a reply carries its own text, and nothing can change it later."""
    reply = Reply(550, "5.7.1", "a", "b")
    assert reply == Reply(550, "5.7.1", "a", "b")
    assert hash(reply) == hash(Reply(550, "5.7.1", "a", "b"))
    assert repr(reply) == "Reply(550, '5.7.1', 'a', 'b')"
    assert reply not in (Reply(551, "5.7.1", "a", "b"), Reply(550, "5.7.2", "a", "b"), Reply(550, "5.7.1", "a"), None)
    for name in ("code", "enhanced", "lines", "other"):
        with pytest.raises(AttributeError, match=f"cannot set {name}"):
            setattr(reply, name, 421)
    assert str(reply) == "550-5.7.1 a\r\n550 5.7.1 b"


def test_a_reason_is_shown_and_neither_compared_nor_sent() -> None:
    plain, reply = Reply(550, "5.7.1", "no"), Reply(550, "5.7.1", "no", reason="spf_fail")
    assert reply == plain
    assert hash(reply) == hash(plain)
    assert reply.packet == plain.packet
    assert str(reply) == str(plain)
    assert (plain.reason, reply.reason) == ("", "spf_fail")
    assert repr(reply) == "Reply(550, '5.7.1', 'no', reason='spf_fail')"
    with pytest.raises(AttributeError, match="cannot set reason"):
        reply.reason = "other"


@pytest.mark.parametrize("verdict", [REJECT, TEMPFAIL])
def test_a_refusal_is_its_verdict_with_a_reason(verdict: Any) -> None:
    refusal = Refusal(verdict, reason="spf_fail")
    assert refusal == verdict
    assert verdict == refusal
    assert refusal == Refusal(verdict, reason="other")
    assert refusal not in (CONTINUE, ACCEPT, DISCARD, SKIP, None, "spf_fail", Reply(550))
    assert len({refusal, verdict}) == 1
    assert refusal.packet == verdict.packet
    assert repr(refusal) == f"Refusal({verdict!r}, reason='spf_fail')"
    for name in ("verdict", "reason", "other"):
        with pytest.raises(AttributeError, match=f"cannot set {name}"):
            setattr(refusal, name, "x")


@pytest.mark.parametrize("verdict", [CONTINUE, ACCEPT, DISCARD, SKIP, Reply(550), None, "r"], ids=repr)
def test_only_what_refuses_is_a_refusal(verdict: Any) -> None:
    with pytest.raises(LocalProtocolError, match="expected REJECT or TEMPFAIL"):
        Refusal(verdict, reason="x")


@pytest.mark.parametrize(
    "reason", ["x" * 65, "SPF", "spf-fail", "spf fail", "a\r\nb", "a\n", "\0", "\udc80", "\u0661", "ä", None, 7, b"a"]
)
def test_a_reason_is_a_short_word(reason: Any) -> None:
    with pytest.raises(LocalProtocolError, match="reason: expected 1 to 64 of a-z, 0-9 and _") as found:
        Reply(550, reason=reason)
    assert str(found.value).isprintable()
    with pytest.raises(LocalProtocolError, match="reason: expected"):
        Refusal(REJECT, reason=reason)
    for one in ("x" * 64, "spf_fail", "9", "_"):
        assert Reply(550, reason=one).reason == Refusal(TEMPFAIL, reason=one).reason == one


def test_a_refusal_has_a_reason() -> None:
    with pytest.raises(LocalProtocolError, match="reason: expected"):
        Refusal(REJECT, reason="")


def test_one_empty_line_is_no_text() -> None:
    assert Reply(550, None, "") == Reply(550)


def test_all_names_exist() -> None:
    assert all(hasattr(replies, name) for name in replies.__all__)


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.CONTINUE, 250),
        (Verdict.ACCEPT, 250),
        (Verdict.DISCARD, 250),
        (Verdict.REJECT, 550),
        (Verdict.TEMPFAIL, 451),
        (Verdict.SKIP, None),
    ],
)
def test_each_verdict_has_a_code_as_a_reply_has(verdict: Verdict, code: int | None) -> None:
    answer: Verdict | Reply = verdict
    assert answer.code == code
