import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire import events
from aiomilter.wire.constants import Command, Stage
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
from aiomilter.wire.macros import Macros, macro_values
from aiomilter.wire.negotiation import NegotiateAnswer
from tests.wire.packets import ASKED, EXAMPLE_FROM_FILTER, EXAMPLE_FROM_MTA, SAMPLES, Asked, FromMTA, Sample
from tests.wire.strategies import EVENTS

KINDS: list[type[FromMTA]] = [
    Negotiate,
    Macros,
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    Header,
    EndOfHeaders,
    BodyChunk,
    EndOfMessage,
    Unknown,
    Abort,
    Quit,
    QuitNewConnection,
]
OFFERS_BACK = [entry for entry in ASKED if isinstance(entry.packet, NegotiateAnswer)]


def test_the_samples_hold_every_kind_of_packet() -> None:
    assert {type(sample.event) for sample in SAMPLES} == set(KINDS)
    assert {kind.CODE for kind in KINDS} == set(Command)


def test_the_worked_example_is_as_long_as_it_says() -> None:
    assert sum(len(sample.octets) for sample in EXAMPLE_FROM_MTA) == 305
    offer_back, go_on, *end = (entry.octets for entry in EXAMPLE_FROM_FILTER)
    assert len(offer_back) + 8 * len(go_on) + sum(map(len, end)) == 81


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: repr(sample)[:60])
def test_a_packet_of_the_mta_is_its_octets(sample: Sample) -> None:
    """P-001, P-039, P-041, P-043, P-044, P-045: each kind of packet, both ways."""
    event, octets = sample
    assert len(octets) - 4 == int.from_bytes(octets[:4], "big")
    assert octets[4] == event.CODE
    assert event.payload == octets[5:]
    assert type(event).decode(octets[5:]) == event


@pytest.mark.parametrize("asked", OFFERS_BACK, ids=lambda asked: repr(asked)[:60])
def test_an_answer_to_the_offer_is_its_octets(asked: Asked) -> None:
    """P-021."""
    answer, octets = asked
    assert isinstance(answer, NegotiateAnswer)
    assert len(octets) - 4 == int.from_bytes(octets[:4], "big")
    assert octets[4] == answer.CODE
    assert answer.payload == octets[5:]
    assert NegotiateAnswer.decode(octets[5:]) == answer


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_any_packet_of_the_mta_comes_back_as_it_was(event: FromMTA) -> None:
    """P-044."""
    assert type(event).decode(event.payload) == event


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*KINDS, NegotiateAnswer]), st.binary(max_size=40))
def test_any_payload_is_a_packet_or_a_broken_rule(kind: type[FromMTA] | type[NegotiateAnswer], payload: bytes) -> None:
    try:
        event = kind.decode(payload)
    except RemoteProtocolError:
        return
    assert kind.decode(event.payload) == event


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_any_header_payload_survives_with_its_leading_space(payload: bytes) -> None:
    """P-043."""
    try:
        header = Header.decode_leading(payload)
    except RemoteProtocolError:
        return
    assert payload.startswith(header.leading_payload)
    assert Header.decode_leading(header.leading_payload) == header


# What no MTA sends: payload, and what the message has to name.
BROKEN: list[tuple[type[FromMTA] | type[NegotiateAnswer], bytes, str]] = [
    (Negotiate, b"", "OPTNEG packet: expected at least 12 octets, found 0"),
    (Negotiate, bytes(11), "OPTNEG packet: expected at least 12 octets, found 11"),
    (Macros, b"", "MACRO packet: expected a command octet, found nothing"),
    (Connect, b"", "CONNECT packet: expected host name and family"),
    (Connect, b"host", "CONNECT packet: expected host name and family"),
    (Connect, b"host\0", "CONNECT packet: expected host name and family"),
    (Connect, b"host\0X", "CONNECT packet: expected family 4, 6, L or U, found 0x58"),
    (Connect, b"host\0\xff\0\0x\0", "CONNECT packet: expected family 4, 6, L or U, found 0xff"),
    (Connect, b"host\0\x00\0\0x\0", "CONNECT packet: expected family 4, 6, L or U, found 0x00"),
    (Connect, b"host\x004", "CONNECT packet: expected port and address"),
    (Connect, b"host\x004\0", "CONNECT packet: expected port and address"),
    (Connect, b"host\x006\0\x19", "CONNECT packet: expected port and address"),
    (Connect, b"host\0L\0\0/run/x", "CONNECT packet: expected port and address"),
    (Helo, b"", "HELO packet: expected a string"),
    (Helo, b"name", "HELO packet: expected a string"),
    (Mail, b"", "MAIL packet: expected an address"),
    (Mail, b"<a@b>", "MAIL packet: expected an address"),
    (Rcpt, b"", "RCPT packet: expected an address"),
    (Rcpt, b"<a@b>", "RCPT packet: expected an address"),
    (Header, b"", "HEADER packet: expected name and value"),
    (Header, b"name", "HEADER packet: expected name and value"),
    (Header, b"name\0", "HEADER packet: expected name and value"),
    (Header, b"name\0value", "HEADER packet: expected name and value"),
    (Header, b"\0value\0", "HEADER packet: expected name and value"),
    (Header, b"\0\0", "HEADER packet: expected name and value"),
    (BodyChunk, b"", "BODY packet: expected at least 1 octet, found 0"),
    (Unknown, b"", "UNKNOWN packet: expected a string"),
    (Unknown, b"FOO", "UNKNOWN packet: expected a string"),
    (NegotiateAnswer, bytes(11), "OPTNEG answer: expected at least 12 octets, found 11"),
    (NegotiateAnswer, bytes(13), "OPTNEG answer: expected a macro list that ends in NUL"),
    (NegotiateAnswer, bytes(12) + b"\0\0\0\x02i", "OPTNEG answer: expected a macro list that ends in NUL"),
    (NegotiateAnswer, bytes(12) + b"\0\0\0\x07i\0", "OPTNEG answer: expected a macro list for stage 0 to 6, found 7"),
]


@pytest.mark.parametrize(("kind", "payload", "message"), BROKEN)
def test_a_payload_that_lacks_something_breaks_the_protocol(
    kind: type[FromMTA] | type[NegotiateAnswer], payload: bytes, message: str
) -> None:
    """P-011, P-142: too short an offer and too short an answer are among them."""
    with pytest.raises(RemoteProtocolError) as caught:
        kind.decode(payload)
    assert str(caught.value).startswith(message)


# Payloads that real MTAs, or libmilter's tolerance, ask us to take.
TOLERATED: list[tuple[type[FromMTA], bytes, FromMTA]] = [
    (Negotiate, bytes.fromhex("00000006 000001ff 001fffff") + b"extra", Negotiate(6, 0x1FF, 0x1FFFFF)),
    (Macros, b"H", Macros(0x48, {})),
    (Macros, b"Cj\0mx\0i\0", Macros(0x43, {"j": "mx"})),
    (Macros, b"Cj\0mx\0i\0Q", Macros(0x43, {"j": "mx"})),
    (Macros, b"Cj", Macros(0x43, {})),
    (Macros, b"Ci\0first\0i\0second\0", Macros(0x43, {"i": "first"})),
    (Macros, b"\0i\0Q\0", Macros(0, {"i": "Q"})),
    (Connect, b"localhost\0U", Connect("localhost")),
    (Connect, b"localhost\0U\0\0what\0", Connect("localhost")),
    (Connect, b"h\x004\0\x19192.0.2.1\0extra", Connect("h", Family.INET, 25, "192.0.2.1")),
    (Connect, b"h\0L\0\0" + b"/" * 300 + b"\0", Connect("h", Family.UNIX, 0, "/" * 300)),
    (Helo, b"name\0extra", Helo("name")),
    (Mail, b"<a@b>\0SIZE=1", Mail("<a@b>", ("SIZE=1",))),
    (Mail, b"<a@b>\0SIZE=1\0BODY", Mail("<a@b>", ("SIZE=1", "BODY"))),
    (Rcpt, b"<a@b>\0NOTIFY=NEVER", Rcpt("<a@b>", ("NOTIFY=NEVER",))),
    (Header, b"name\0value\0extra", Header("name", "value")),
    (Header, b"name\0value\0\0", Header("name", "value")),
    (Data, b"extra", Data()),
    (EndOfHeaders, b"extra", EndOfHeaders()),
    (Unknown, b"FOO\0extra", Unknown("FOO")),
    (Abort, b"extra", Abort()),
    (Quit, b"extra", Quit()),
    (QuitNewConnection, b"extra", QuitNewConnection()),
]


@pytest.mark.parametrize(("kind", "payload", "event"), TOLERATED)
def test_a_payload_that_real_peers_send_is_taken(kind: type[FromMTA], payload: bytes, event: FromMTA) -> None:
    """P-012, P-032, P-033, P-034, P-036, P-042, and octets after what counts."""
    assert kind.decode(payload) == event


@pytest.mark.parametrize(
    ("octets", "values"),
    [
        (b"", {}),
        (b"i\0Q\0", {"i": "Q"}),
        (b"i\0Q", {}),
        (b"i\0", {}),
        (b"i", {}),
        (b"i\0\0", {"i": ""}),
        (b"\0\0", {"": ""}),
        (b"a\x001\0b\x002\0a\x003\0", {"a": "1", "b": "2"}),
        (b"\xff\0\xfe\0", {"\udcff": "\udcfe"}),
    ],
)
def test_macro_values_are_pairs_and_the_first_of_equals_wins(octets: bytes, values: dict[str, str]) -> None:
    """P-034."""
    assert macro_values(octets) == values


@pytest.mark.parametrize(
    ("connect", "ip"),
    [
        (Connect("h", Family.INET, 1, "192.0.2.1"), ipaddress.IPv4Address("192.0.2.1")),
        (Connect("h", Family.INET6, 1, "::1"), ipaddress.IPv6Address("::1")),
        (Connect("h", Family.INET6, 1, "IPv6:::1"), ipaddress.IPv6Address("::1")),
        (Connect("h", Family.INET6, 1, "IPv6:0:0:0:0:0:0:0:1"), ipaddress.IPv6Address("::1")),
        (Connect("h", Family.INET6, 1, "ipv6:2001:db8::1"), ipaddress.IPv6Address("2001:db8::1")),
        (Connect("h", Family.INET6, 1, "IPV6:2001:DB8::1"), ipaddress.IPv6Address("2001:db8::1")),
        (Connect("h", Family.INET6, 1, "fe80::1%eth0"), ipaddress.IPv6Address("fe80::1%eth0")),
        (Connect("h", Family.INET, 1, "::1"), None),
        (Connect("h", Family.INET, 1, "IPv6:::1"), None),
        (Connect("h", Family.INET6, 1, "192.0.2.1"), None),
        (Connect("h", Family.INET6, 1, "IPv6:IPv6:::1"), None),
        (Connect("h", Family.INET, 1, "unknown"), None),
        (Connect("h", Family.INET, 1, "192.0.2.256"), None),
        (Connect("h", Family.INET, 1, "192.0.2.1 "), None),
        (Connect("h", Family.INET, 1, "\udcff"), None),
        (Connect("h", Family.INET6, 1, "\udcff"), None),
        (Connect("h", Family.INET, 1, ""), None),
        (Connect("h", Family.INET6, 1, "::1%" + "x" * 65000), None),
        (Connect("h", Family.UNIX, 0, "192.0.2.1"), None),
        (Connect("192.0.2.1"), None),
    ],
)
def test_a_client_has_an_address_if_its_text_is_one(
    connect: Connect, ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> None:
    """P-036, P-037, P-038: the text stays available either way."""
    decoded = Connect.decode(connect.payload)
    assert decoded.ip == ip
    assert decoded.raw_address == connect.raw_address


@pytest.mark.parametrize("hostname", ["", "[192.0.2.1]", "[IPv6:::1]", "unknown", "\udcff", "a" * 60000])
def test_a_host_name_is_passed_on_unchanged(hostname: str) -> None:
    """P-040."""
    assert Connect.decode(Connect(hostname).payload).hostname == hostname


@pytest.mark.parametrize(
    ("path", "address"),
    [("<alice@example.org>", "alice@example.org"), ("alice@example.org", "alice@example.org"), ("<>", ""), ("", "")],
)
def test_paths_are_kept_as_sent_and_compared_without_brackets(path: str, address: str) -> None:
    """P-041."""
    mail, rcpt = Mail.decode(path.encode() + b"\0"), Rcpt.decode(path.encode() + b"\0")
    assert (mail.path, mail.address) == (path, address)
    assert (rcpt.path, rcpt.address) == (path, address)


@pytest.mark.parametrize("kind", [Mail, Rcpt])
def test_the_domain_of_a_path_is_the_same_however_it_was_written(kind: type[Mail] | type[Rcpt]) -> None:
    found = kind.decode('<"Alice"@B\u00fccher.EXAMPLE>'.encode() + b"\0")
    assert (found.path, found.address) == ('<"Alice"@B\u00fccher.EXAMPLE>', '"Alice"@B\u00fccher.EXAMPLE')
    assert (found.local_part, found.domain) == ("Alice", "xn--bcher-kva.example")


def test_a_header_field_has_its_text_beside_value_and_octets() -> None:
    header = Header.decode(b"Subject\0=?utf-8?q?caf=C3=A9?=\n raw \xfc\0")
    assert header.text == "caf\u00e9 raw \ufffd"
    assert header.value == "=?utf-8?q?caf=C3=A9?=\n raw \udcfc"
    assert header.raw == b"Subject: =?utf-8?q?caf=C3=A9?=\r\n raw \xfc\r\n"


def test_parameters_are_kept_as_sent_and_read_by_keyword() -> None:
    """P-042."""
    payload = b"<a@b>\0size=1\0ENVID=a+2Bb\0SMTPUTF8\0"
    mail, rcpt = Mail.decode(payload), Rcpt.decode(payload)
    assert mail.params == rcpt.params == ("size=1", "ENVID=a+2Bb", "SMTPUTF8")
    assert mail.keywords == rcpt.keywords == {"SIZE": "1", "ENVID": "a+b", "SMTPUTF8": ""}


# What an MTA has in its message; payload without the leading space; payload with it; the field's octets.
LEADING = [
    (b"X: a", b"X\0a\0", b"X\0 a\0", "a", " "),
    (b"X:  a", b"X\0 a\0", b"X\0  a\0", " a", " "),
    (b"X:a", b"X\0a\0", b"X\0a\0", "a", ""),
    (b"X:\ta", b"X\0\ta\0", b"X\0\ta\0", "\ta", ""),
    (b"X:", b"X\0\0", b"X\0\0", "", ""),
    (b"X: ", b"X\0\0", b"X\0 \0", "", " "),
    (b"X: a\r\n b\r\n\tc", b"X\0a\n b\n\tc\0", b"X\0 a\n b\n\tc\0", "a\n b\n\tc", " "),
    (b"X: \xff\xc3\xa9", b"X\0\xff\xc3\xa9\0", b"X\0 \xff\xc3\xa9\0", "\udcff\u00e9", " "),
]


@pytest.mark.parametrize(("field", "plain", "leading", "value", "separator"), LEADING)
def test_a_header_value_is_the_same_with_and_without_its_leading_space(
    field: bytes, plain: bytes, leading: bytes, value: str, separator: str
) -> None:
    """P-043: what the filter sees never begins with the one space that follows the colon."""
    assert Header.decode(plain) == Header("X", value)
    header = Header.decode_leading(leading)
    assert header == Header("X", value, separator)
    assert header.raw == field + b"\r\n"
    assert header.leading_payload == leading
    assert header.payload == plain


@pytest.mark.parametrize(
    ("event", "field"), [(Mail("<>"), "sender"), (Header("X", "v"), "value"), (BodyChunk(b"x"), "chunk"), (Data(), "x")]
)
def test_an_event_does_not_change(event: FromMTA, field: str) -> None:
    with pytest.raises((AttributeError, TypeError)):
        setattr(event, field, "changed")


@pytest.mark.parametrize("stage", [Stage.HEADER, Stage.BODY, Stage.UNKNOWN])
def test_a_macro_list_names_a_stage_that_has_one(stage: Stage) -> None:
    """P-021."""
    with pytest.raises(LocalProtocolError, match=f"macro list: .* found {stage.name}"):
        _ = NegotiateAnswer(6, 0, 0, {stage: ("i",)}).payload


def test_a_macro_name_with_a_nul_is_refused() -> None:
    """P-123."""
    with pytest.raises(LocalProtocolError, match="NUL"):
        _ = NegotiateAnswer(6, 0, 0, {Stage.MAIL: ("a\0\0\0\0\3b",)}).payload


@pytest.mark.parametrize("names", [b"i {x}", b"i,{x}", b" i , {x} ", b"i  {x}"])
def test_macro_names_are_separated_by_blanks_or_commas(names: bytes) -> None:
    answer = NegotiateAnswer.decode(bytes(12) + b"\0\0\0\2" + names + b"\0")
    assert answer.macros == {Stage.MAIL: ("i", "{x}")}


def test_of_two_macro_lists_for_one_stage_the_last_counts() -> None:
    answer = NegotiateAnswer.decode(bytes(12) + b"\0\0\0\2i\0\0\0\0\3r\0\0\0\0\2j\0")
    assert answer.macros == {Stage.MAIL: ("j",), Stage.RCPT: ("r",)}


def test_all_names_exist() -> None:
    assert all(hasattr(events, name) for name in events.__all__)


def test_a_sender_never_equals_a_recipient() -> None:
    sender, recipient = Mail("<a@b.example>"), Rcpt("<a@b.example>")
    assert sender == Mail("<a@b.example>")
    assert recipient == Rcpt("<a@b.example>")
    assert [sender != Mail("<a@b.example>"), recipient != Rcpt("<a@b.example>")] == [False, False]
    assert sender != recipient
    assert recipient != ("<a@b.example>", ())
    assert len({sender, recipient, Mail("<a@b.example>")}) == 2
