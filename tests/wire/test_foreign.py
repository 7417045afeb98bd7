"""What a peer speaks that does not speak the milter protocol."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire.constants import MAX_FRAME_SIZE
from aiomilter.wire.foreign import NEEDED, protocol_of
from aiomilter.wire.framing import FrameBuffer
from tests.wire.packets import ANSWERS, ASKED, SAMPLES

HTTP, SMTP, TLS, SSH = "HTTP", "SMTP", "TLS", "SSH"
PROXY, REDIS = "the PROXY protocol", "the protocol of Redis"
PROXY_V2: Final = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1\x9c\x40\x22\xba"
HELLO: Final = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"

SPOKEN: Final[list[tuple[bytes, str]]] = [
    (b"GET /ping HTTP/1.0\r\n\r\n", HTTP),
    (b"get / http/1.1\r\n", HTTP),
    (b"HEAD / HTTP/1.1\r\n", HTTP),
    (b"POST / HTTP/1.1\r\n", HTTP),
    (b"OPTIONS * HTTP/1.1\r\n", HTTP),
    (b"CONNECT mx.example:25 HTTP/1.1\r\n", HTTP),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP),
    (b"HTTP/1.1 400 Bad Request\r\n", HTTP),
    (b"EHLO x\r\n", SMTP),
    (b"ehlo x\n", SMTP),
    (b"HELO x\r\n", SMTP),
    (b"LHLO x\r\n", SMTP),
    (b"MAIL FROM:<>\r\n", SMTP),
    (b"QUIT\r\n", SMTP),
    (b"quit\n", SMTP),
    (b"QUIT", SMTP),
    (b"STARTTLS\r\n", SMTP),
    (b"NOOP hello\r\n", SMTP),
    (b"220 mx.example ESMTP\r\n", SMTP),
    (b"554-no\r\n", SMTP),
    (HELLO, TLS),
    (b"\x16\x03\x03\0\x05", TLS),
    (b"\x15\x03\x01\0\x02\x02\x46", TLS),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 8890\r\n", PROXY),
    (b"PROXY UNKNOWN\r\n", PROXY),
    (PROXY_V2, PROXY),
    (b"SSH-2.0-OpenSSH_9.2\r\n", SSH),
    (b"*1\r\n$4\r\nPING\r\n", REDIS),
    (b"PING\r\n", REDIS),
]


@pytest.mark.parametrize(("octets", "name"), SPOKEN)
def test_it_is_known_by_its_first_octets_and_no_frame(octets: bytes, name: str) -> None:
    """P-003: the frame is refused once its length is there, however the peer splits what it says."""
    for size in (len(octets), 4, 1):
        buffer = FrameBuffer()
        with pytest.raises(RemoteProtocolError) as found:  # noqa: PT012 - any of them may be the last
            for start in range(0, len(octets), size):
                buffer.feed(octets[start : start + size])
                buffer.next_frame()
        if size == len(octets):
            assert str(found.value) == f"speaks {name}, not the milter protocol"
        assert "\r" not in str(found.value)
    assert protocol_of(octets[:NEEDED]) == name


def test_an_offer_that_is_refused_for_its_length_is_not_said_to_be_of_another_protocol() -> None:
    buffer = FrameBuffer(max_size=16)
    buffer.feed(b"\0\0\1\xffO" + bytes(16))
    with pytest.raises(RemoteProtocolError, match=r"\Aframe: expected a length of 1 to 17, found 511\Z"):
        buffer.next_frame()


UNKNOWN: Final = [
    b"",
    b"GE",
    b"\r\n\r\n",
    b"GETTING",
    b"\r\n",
    b"hello\r\n",
    b"QUITE",
    b"\x16\x02\0\0",
    b"\xff" * 16,
    b"999 x",
    b"*x\r\n",
]


@pytest.mark.parametrize("octets", UNKNOWN)
def test_what_is_not_known_is_not_guessed(octets: bytes) -> None:
    assert protocol_of(octets) is None


def test_only_an_offer_is_the_milter_protocol() -> None:
    """It is what an MTA begins with, seen by a listener that waits for TLS."""
    packets = [*(each.octets for each in SAMPLES), *(each.octets for each in ASKED), *(each.octets for each in ANSWERS)]
    for octets in packets:
        assert protocol_of(octets[:NEEDED]) == ("the milter protocol" if octets[4:5] == b"O" else None)


@given(st.binary(max_size=NEEDED))
def test_what_is_known_could_be_no_frame(octets: bytes) -> None:
    name = protocol_of(octets)
    if name not in (None, "the milter protocol"):
        assert int.from_bytes(octets[:4].ljust(4, b"\0"), "big") > 100 * MAX_FRAME_SIZE
