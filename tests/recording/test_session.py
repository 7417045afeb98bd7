"""What waits while a session is redacted is bounded, whatever its body looks like."""

from collections.abc import Iterator

import pytest

from aiomilter.recording import FILTER, MTA, Packet
from aiomilter.recording.redaction import Redaction
from aiomilter.recording.session import SessionRedactor
from aiomilter.wire.constants import Command, ReplyCode

CHUNK = 65535
BODIES = {
    "no line end": b"x" * CHUNK,
    "one long field of a part": b" x\r\n" * (CHUNK // 4),
    "fields of a part": b"X: y\r\n" * (CHUNK // 6),
    "lines that may be boundaries": b"--x\r\n" * (CHUNK // 5),
    "boundaries": b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n" * (CHUNK // 52),
    "lines": b"hello\r\n" * (CHUNK // 7),
}


def chunks(body: bytes) -> Iterator[Packet]:
    """Yield a message of 1 MiB whose header section says that its body is one of parts, each chunk answered."""
    yield Packet(0.0, MTA, Command.HEADER, b"Content-Type\0multipart/mixed; boundary=b\0")
    yield Packet(0.0, MTA, Command.BODY, b"--b\r\nX: y\r\n")
    for _ in range(16):
        yield Packet(0.0, MTA, Command.BODY, body)
        yield Packet(0.0, FILTER, ReplyCode.CONTINUE)


@pytest.mark.parametrize("kind", BODIES)
def test_few_packets_wait_for_the_end_of_a_line(kind: str) -> None:
    redactor = SessionRedactor(Redaction(b"k" * 32), "shape")
    came = went = 0
    for packet in chunks(BODIES[kind]):
        came += len(packet.payload)
        went += sum(len(each.payload) for each in redactor.redacted(packet))
        assert came - went <= 4 * CHUNK
    assert went + sum(len(each.payload) for each in redactor.rest() if each.sender == MTA) == came
