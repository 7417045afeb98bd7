import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire import modifications
from aiomilter.wire.constants import ReplyCode
from aiomilter.wire.framing import packet
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
from aiomilter.wire.negotiation import NegotiateAnswer
from tests.wire.packets import ASKED, Asked, FromFilter
from tests.wire.strategies import REQUESTS

DECODERS: dict[ReplyCode, Callable[[bytes], FromFilter]] = {
    ReplyCode.OPTNEG: NegotiateAnswer.decode,
    ReplyCode.ADDHEADER: AddHeader.decode,
    ReplyCode.INSHEADER: InsertHeader.decode,
    ReplyCode.CHGHEADER: ChangeHeader.decode,
    ReplyCode.REPLBODY: ReplaceBody.decode,
    ReplyCode.ADDRCPT: AddRecipient.decode,
    ReplyCode.ADDRCPT_PAR: AddRecipient.decode_par,
    ReplyCode.DELRCPT: DeleteRecipient.decode,
    ReplyCode.CHGFROM: ChangeSender.decode,
    ReplyCode.QUARANTINE: Quarantine.decode,
    ReplyCode.PROGRESS: Progress.decode,
}


def test_the_samples_hold_every_kind_of_packet() -> None:
    assert {entry.packet.CODE for entry in ASKED} == set(DECODERS)


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: repr(asked)[:60])
def test_a_packet_of_the_filter_is_its_octets(asked: Asked) -> None:
    """P-001, P-090, P-114, P-115, P-116, P-118, P-121: each kind of packet, both ways."""
    packet, octets = asked
    assert len(octets) - 4 == int.from_bytes(octets[:4], "big")
    assert octets[4] == packet.CODE
    assert packet.payload == octets[5:]
    assert DECODERS[packet.CODE](octets[5:]) == packet


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(REQUESTS)
def test_any_packet_of_the_filter_comes_back_as_it_was(packet: FromFilter) -> None:
    assert DECODERS[packet.CODE](packet.payload) == packet


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(DECODERS)), st.binary(max_size=20) | st.binary(max_size=6).map(lambda x: b"\0\0\0\1X\0" + x)
)
def test_any_payload_is_a_request_or_a_broken_rule(code: ReplyCode, payload: bytes) -> None:
    """Octets from a peer are never blamed on our own side."""
    try:
        packet = DECODERS[code](payload)
    except RemoteProtocolError:
        return
    assert packet.CODE is code
    assert DECODERS[code](packet.payload) == packet


BROKEN = [
    (ReplyCode.ADDHEADER, b"", "ADDHEADER packet: expected 2 to 2 strings"),
    (ReplyCode.ADDHEADER, b"X\0", "ADDHEADER packet: expected 2 to 2 strings"),
    (ReplyCode.ADDHEADER, b"X\0v", "ADDHEADER packet: expected 2 to 2 strings"),
    (ReplyCode.ADDHEADER, b"X\0v\0w\0", "ADDHEADER packet: expected 2 to 2 strings"),
    (ReplyCode.ADDHEADER, b"\0v\0", "ADDHEADER packet: header name"),
    (ReplyCode.ADDHEADER, b"X-Bad:\0v\0", "ADDHEADER packet: header name"),
    (ReplyCode.ADDHEADER, b"X\0a\nb\0", "ADDHEADER packet: header value"),
    (ReplyCode.INSHEADER, b"\0\0\0", "INSHEADER packet: expected an index of 4 octets, found 3"),
    (ReplyCode.INSHEADER, b"\0\0\0\0X\0", "INSHEADER packet: expected 2 to 2 strings"),
    (ReplyCode.INSHEADER, b"\x80\0\0\0X\0v\0", "INSHEADER packet: header index"),
    (ReplyCode.INSHEADER, b"\0\0\0\0X Y\0v\0", "INSHEADER packet: header name"),
    (ReplyCode.CHGHEADER, b"", "CHGHEADER packet: expected an index of 4 octets, found 0"),
    (ReplyCode.CHGHEADER, b"\0\0\0\1X\0v\0\0", "CHGHEADER packet: expected 2 to 2 strings"),
    (ReplyCode.CHGHEADER, b"\xff\xff\xff\xffX\0v\0", "CHGHEADER packet: header index"),
    (ReplyCode.CHGHEADER, b"\0\0\0\1\0v\0", "CHGHEADER packet: header name"),
    (ReplyCode.ADDRCPT, b"", "ADDRCPT packet: expected 1 to 1 strings"),
    (ReplyCode.ADDRCPT, b"\0", "ADDRCPT packet: recipient"),
    (ReplyCode.ADDRCPT, b"a\0b\0", "ADDRCPT packet: expected 1 to 1 strings"),
    (ReplyCode.ADDRCPT, b"a\r\nb\0", "ADDRCPT packet: recipient"),
    (ReplyCode.ADDRCPT_PAR, b"", "ADDRCPT_PAR packet: expected 1 to 2 strings"),
    (ReplyCode.ADDRCPT_PAR, b"a\0b\0c\0", "ADDRCPT_PAR packet: expected 1 to 2 strings"),
    (ReplyCode.ADDRCPT_PAR, b"a\0b\n\0", "ADDRCPT_PAR packet: recipient parameters"),
    (ReplyCode.DELRCPT, b"\0", "DELRCPT packet: recipient"),
    (ReplyCode.DELRCPT, b"a", "DELRCPT packet: expected 1 to 1 strings"),
    (ReplyCode.CHGFROM, b"\0", "CHGFROM packet: sender"),
    (ReplyCode.CHGFROM, b"a\0b\0c\0", "CHGFROM packet: expected 1 to 2 strings"),
    (ReplyCode.CHGFROM, b"a\0\r\0", "CHGFROM packet: sender parameters"),
    (ReplyCode.QUARANTINE, b"\0", "QUARANTINE packet: quarantine reason"),
    (ReplyCode.QUARANTINE, b"why", "QUARANTINE packet: expected 1 to 1 strings"),
    (ReplyCode.PROGRESS, b"x", "PROGRESS packet: expected no payload, found 1 octets"),
]


@pytest.mark.parametrize(("code", "payload", "message"), BROKEN)
def test_a_malformed_request_of_a_filter_breaks_the_protocol(code: ReplyCode, payload: bytes, message: str) -> None:
    """P-147."""
    with pytest.raises(RemoteProtocolError) as caught:
        DECODERS[code](payload)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("make", [AddHeader, lambda n, v: InsertHeader(0, n, v), lambda n, v: ChangeHeader(1, n, v)])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("", "v", "header name"),
        ("X:", "v", "header name"),
        ("X Y", "v", "header name"),
        ("X\t", "v", "header name"),
        ("X\u00e9", "v", "header name"),
        ("X\n", "v", "header name"),
        ("X", "v\0", "header value"),
        ("X", "v\nInjected: yes", "header value"),
        ("X", "v\r\n\r\nbody", "header value"),
        ("X", "v\n", "header value"),
        ("X", "\ud800", "UTF-8"),
        (None, "v", "header name: expected str"),
        ("X", None, "header value: expected str"),
    ],
)
def test_a_header_that_would_break_the_message_is_refused(
    make: type[AddHeader], name: str, value: str, message: str
) -> None:
    """P-112, P-113, P-123."""
    with pytest.raises(LocalProtocolError, match=message):
        make(name, value)


def test_a_header_value_is_kept_as_it_goes_out() -> None:
    """P-113."""
    assert AddHeader("X", "a\r\n b\rc").value == "a\n b c"
    assert InsertHeader(0, "X", "a\r\n b\rc").value == "a\n b c"
    assert ChangeHeader(1, "X", "a\r\n b\rc").value == "a\n b c"


@pytest.mark.parametrize("make", [InsertHeader, ChangeHeader])
@pytest.mark.parametrize("index", [-1, 2**31, 2**32, 1.0, "1", None, True])
def test_a_header_index_is_a_number_that_both_mtas_read_alike(make: type[InsertHeader], index: int) -> None:
    """P-115: Sendmail takes 2**31 and above for the first one, Postfix for the end."""
    with pytest.raises(LocalProtocolError, match=re.escape("header index: expected 0 to 2147483647")):
        make(index, "X", "v")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (AddRecipient, "recipient"),
        (DeleteRecipient, "recipient"),
        (ChangeSender, "sender"),
        (Quarantine, "quarantine reason"),
        (lambda text: AddRecipient("<a@x>", text + "\n"), "recipient parameters"),
        (lambda text: ChangeSender("<a@x>", text + "\n"), "sender parameters"),
    ],
)
@pytest.mark.parametrize("text", ["", "a\r", "a\nb", "a\0b"])
def test_empty_and_broken_texts_are_refused(make: type[Quarantine], what: str, text: str) -> None:
    """P-119, P-122, P-123."""
    with pytest.raises(LocalProtocolError, match=f"{what}: expected"):
        make(text)


def test_a_request_does_not_change() -> None:
    with pytest.raises(AttributeError):
        AddHeader("X", "v").name = "Y"  # type: ignore[misc]


def test_all_names_exist() -> None:
    assert all(hasattr(modifications, name) for name in modifications.__all__)


@pytest.mark.parametrize(
    ("name", "value"), [("X-A", " one"), ("X-B", ""), ("X-C", "caf\u00e9 \udcff\n folded\r\n twice")]
)
def test_a_field_is_packed_as_its_value_is(name: str, value: str) -> None:
    inserted, added = InsertHeader(2**30, name, value), AddHeader(name, value)
    assert InsertHeader.packed(2**30, name, value) == packet(inserted.CODE, inserted.payload)
    assert AddHeader.packed(name, value) == packet(added.CODE, added.payload)


@pytest.mark.parametrize(
    ("index", "name", "value"), [(-1, "X", "1"), (2**32, "X", "1"), (0, "X Y", "1"), (0, "X", "a\0b"), (0, "X", "a\nb")]
)
def test_what_may_not_be_sent_is_not_packed(index: int, name: str, value: str) -> None:
    with pytest.raises(LocalProtocolError):
        InsertHeader.packed(index, name, value)
    with pytest.raises(LocalProtocolError):
        InsertHeader(index, name, value)
