import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import LocalProtocolError
from aiomilter.wire.text import decode, encode, header_name, header_value, one_line, pack_strings

ANYTHING_ELSE = [None, 7, b"octets", ["a"]]


def test_any_octet_survives_decoding_and_encoding() -> None:
    """P-044."""
    for octet in range(256):
        octets = bytes([octet])
        assert encode(decode(octets)) == octets


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_any_octets_survive_decoding_and_encoding(octets: bytes) -> None:
    """P-044."""
    assert encode(decode(octets)) == octets


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_surrogate_that_stands_for_no_octet_is_refused(text: str) -> None:
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        encode(text)


@pytest.mark.parametrize("other", ANYTHING_ELSE)
def test_only_text_is_encoded(other: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"found {type(other).__name__}"):
        encode(other)


@pytest.mark.parametrize(
    ("texts", "octets"),
    [((), b""), (("",), b"\0"), (("a",), b"a\0"), (("a", "", "\u00e9"), b"a\0\0\xc3\xa9\0")],
)
def test_each_string_ends_in_one_nul(texts: tuple[str, ...], octets: bytes) -> None:
    assert pack_strings(*texts) == octets


@pytest.mark.parametrize("texts", [("\0",), ("a\0",), ("fine", "a\0b")])
def test_a_string_with_a_nul_is_refused(texts: tuple[str, ...]) -> None:
    """P-123: one string would arrive as two."""
    with pytest.raises(LocalProtocolError, match="NUL"):
        pack_strings(*texts)


@pytest.mark.parametrize("text", ["a", "a b\tc", " ", "\u00e9", "\udcff", "\x1b", "\u2028"])
def test_one_line_is_returned_as_it_is(text: str) -> None:
    assert one_line(text, "reason") is text


@pytest.mark.parametrize("text", ["\r", "\n", "\0", "a\r\nb", "a\n", "\0a"])
def test_more_than_one_line_is_refused(text: str) -> None:
    """P-123."""
    with pytest.raises(LocalProtocolError, match="reason: expected one line, found CR, LF or NUL"):
        one_line(text, "reason")


@pytest.mark.parametrize("other", ANYTHING_ELSE)
def test_one_line_is_text(other: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"reason: expected str, found {type(other).__name__}"):
        one_line(other, "reason")


def test_one_line_is_not_empty_unless_it_may_be() -> None:
    assert one_line("", "params", empty=True) == ""
    with pytest.raises(LocalProtocolError, match="reason: expected text, found nothing"):
        one_line("", "reason")


@pytest.mark.parametrize("text", ["\ud800", "a \udfff"])
def test_text_that_cannot_be_sent_is_refused_when_it_is_given(text: str) -> None:
    """Later, when the edits leave, nobody could tell which call was wrong."""
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        one_line(text, "reason")
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        header_value(text)


def test_header_names_take_printable_ascii_but_colon() -> None:
    """P-112."""
    for code in range(256):
        name = f"X{chr(code)}Y"
        if 0x21 <= code <= 0x7E and code != 0x3A:
            assert header_name(name) is name
        else:
            with pytest.raises(LocalProtocolError, match="header name: expected printable ASCII"):
                header_name(name)


@pytest.mark.parametrize("name", ["", "X\n", "\u0660", "X\udcff"])
def test_what_is_no_header_name_is_refused(name: str) -> None:
    """P-112."""
    with pytest.raises(LocalProtocolError, match="header name: expected printable ASCII"):
        header_name(name)


@pytest.mark.parametrize("other", ANYTHING_ELSE)
def test_header_names_and_values_are_text(other: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"header name: expected str, found {type(other).__name__}"):
        header_name(other)
    with pytest.raises(LocalProtocolError, match=f"header value: expected str, found {type(other).__name__}"):
        header_value(other)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("", ""),
        ("plain", "plain"),
        (" led by a space", " led by a space"),
        ("a\n b", "a\n b"),
        ("a\n\tb", "a\n\tb"),
        ("a\r\n b", "a\n b"),
        ("a\r\n\tb\r\n c", "a\n\tb\n c"),
        ("a\rb", "a b"),
        ("a\r", "a "),
        ("a\r b", "a  b"),
        ("a\r\r\n b", "a \n b"),
        ("\u00e9\udcff", "\u00e9\udcff"),
        ("a\x0b\x0c\x85b", "a\x0b\x0c\x85b"),
    ],
)
def test_a_header_value_goes_out_with_folds_as_line_feed_and_blank(value: str, sent: str) -> None:
    """P-113."""
    assert header_value(value) == sent


@pytest.mark.parametrize(
    "value", ["a\nb", "a\n", "\n", "a\r\nb", "a\r\n", "a\n\n b", "a\n \nb", "a\r\n\r\nb", "a\n\rb" + "\n", "a\n\x0bb"]
)
def test_a_line_end_without_blank_is_refused_in_a_header_value(value: str) -> None:
    """P-113: it would end the field and pass the rest off as a field of its own."""
    with pytest.raises(LocalProtocolError, match="space or tab after each line end"):
        header_value(value)


@pytest.mark.parametrize("value", ["\0", "a\0", "a\0\n b"])
def test_nul_is_refused_in_a_header_value(value: str) -> None:
    """P-113, P-123."""
    with pytest.raises(LocalProtocolError, match="header value: expected text, found NUL"):
        header_value(value)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("a \t\r\n\0\u00e9"), max_size=12))
def test_a_header_value_never_ends_its_field_early(value: str) -> None:
    """P-113."""
    try:
        sent = header_value(value)
    except LocalProtocolError:
        return
    assert "\r" not in sent
    assert "\0" not in sent
    assert all(line[:1] in (" ", "\t") for line in sent.split("\n")[1:])
    assert header_value(sent) == sent
