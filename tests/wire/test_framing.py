import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire.framing import HEAD, FrameBuffer, Lookahead, packet
from tests.wire.packets import ANSWERS, ASKED, SAMPLES

PACKETS = [
    *(sample.octets for sample in SAMPLES),
    *(asked.octets for asked in ASKED),
    *(answer.octets for answer in ANSWERS),
]
SHORT = [octets for octets in PACKETS if len(octets) < 100]
CODE = st.integers(0, 255) | st.sampled_from(b"AQKMET")
FRAMES = st.lists(st.tuples(CODE, st.binary(max_size=30)), max_size=8)


def frames(pieces: Iterable[bytes], max_size: int = 65535) -> list[tuple[int, bytes]]:
    """Return the frames of what is fed piece by piece."""
    buffer = FrameBuffer(max_size)
    found = []
    for piece in pieces:
        buffer.feed(piece)
        while (frame := buffer.next_frame()) is not None:
            found.append(frame)
    return found


def parted(octets: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return octets cut at some places."""
    places = [0, *sorted(cuts), len(octets)]
    return [octets[start:stop] for start, stop in itertools.pairwise(places)]


@pytest.mark.parametrize("octets", SHORT, ids=lambda octets: octets.hex()[:24])
def test_a_packet_is_made_of_length_code_and_payload(octets: bytes) -> None:
    """P-001."""
    assert packet(octets[4], octets[5:]) == octets
    assert frames([octets]) == [(octets[4], octets[5:])]


@pytest.mark.parametrize("octets", SHORT, ids=lambda octets: octets.hex()[:24])
def test_a_packet_split_at_any_octet_is_one_frame(octets: bytes) -> None:
    """P-004: each octet alone, and each way to split it in two."""
    whole = [(octets[4], octets[5:])]
    assert frames(octets[i : i + 1] for i in range(len(octets))) == whole
    for cut in range(1, len(octets)):
        assert frames([octets[:cut], octets[cut:]]) == whole


@pytest.mark.parametrize("octets", SHORT, ids=lambda octets: octets.hex()[:24])
def test_what_follows_a_packet_waits(octets: bytes) -> None:
    """P-004, P-007: a partial packet at the end of stream is never a frame."""
    for tail in (b"\0", b"\0\0\0\2", b"\0\0\0\3Bx"):
        buffer = FrameBuffer()
        buffer.feed(octets + tail)
        assert buffer.next_frame() == (octets[4], octets[5:])
        assert buffer.next_frame() is None
        assert len(buffer) == len(tail)


def test_packets_in_one_read_come_in_order() -> None:
    """P-005."""
    assert frames([b"".join(PACKETS)]) == [(octets[4], octets[5:]) for octets in PACKETS]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(FRAMES, st.sets(st.integers(0, 320)), st.data())
def test_any_split_gives_the_same_frames(parts: list[tuple[int, bytes]], cuts: set[int], data: st.DataObject) -> None:
    """P-004; read between any two pieces, or not."""
    octets = b"".join(packet(code, payload) for code, payload in parts)
    buffer = FrameBuffer()
    found = []
    fed = 0
    for piece in [*parted(octets, {cut for cut in cuts if cut < len(octets)}), b""]:
        buffer.feed(piece)
        fed += len(piece)
        for _ in range(data.draw(st.integers(0, 3)) if fed < len(octets) else len(parts) + 1):
            frame = buffer.next_frame()
            if frame is None:
                break
            found.append(frame)
        assert len(buffer) == fed - sum(len(payload) + 5 for _, payload in found)
    assert found == parts


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=12) | FRAMES.map(lambda fs: b"".join(packet(*f) for f in fs)), max_size=8))
def test_any_octets_are_frames_or_a_broken_rule(pieces: list[bytes]) -> None:
    try:
        found = frames(pieces, 40)
    except RemoteProtocolError:
        return
    assert b"".join(pieces).startswith(b"".join(packet(*frame) for frame in found))


@pytest.mark.parametrize("length", [0, 65537, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_bad_length_is_refused_before_its_payload_comes(length: int, pieces: int) -> None:
    """P-002, P-003: as soon as the four octets are there, however they come, and after whole frames too."""
    octets = b"\0\0\0\1T" + length.to_bytes(4, "big")
    for trailing in (b"", b"B", b"Bxx"):
        data = octets + trailing
        buffer = FrameBuffer()
        buffer.feed(data[: -pieces - len(trailing)])
        assert buffer.next_frame() == (ord("T"), b"") if pieces < 5 else buffer.next_frame() is None
        for octet in data[-pieces - len(trailing) :]:
            buffer.feed(bytes([octet]))
        if pieces == 5:
            assert buffer.next_frame() == (ord("T"), b"")
        with pytest.raises(RemoteProtocolError, match=f"frame: expected a length of 1 to 65536, found {length}"):
            buffer.next_frame()


@pytest.mark.parametrize("limit", [1, 65535, 262143])
def test_a_frame_may_be_as_large_as_was_agreed_and_not_larger(limit: int) -> None:
    """P-003, P-006."""
    largest = packet(ord("B"), bytes(limit), limit)
    assert frames([largest], limit) == [(ord("B"), bytes(limit))]
    with pytest.raises(LocalProtocolError, match=f"packet B: expected at most {limit} octets, found {limit + 1}"):
        packet(ord("B"), bytes(limit + 1), limit)
    with pytest.raises(RemoteProtocolError):
        frames([HEAD.pack(limit + 2, ord("B"))], limit)


def test_the_default_limit_is_65535_octets_of_payload() -> None:
    """P-003, P-006."""
    assert len(packet(ord("B"), bytes(65535))) == 65540
    with pytest.raises(LocalProtocolError):
        packet(ord("B"), bytes(65536))
    assert FrameBuffer().max_length == 65536


def test_a_broken_length_stays_broken() -> None:
    buffer = FrameBuffer()
    buffer.feed(b"\0\0\0\0")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            buffer.next_frame()
        buffer.feed(b"\0\0\0\1T")


def test_the_buffer_holds_no_more_than_waits() -> None:
    """What was read is let go: an idle connection does not keep the last body it saw."""
    buffer = FrameBuffer()
    for size in (1, 3, 65535):
        buffer.feed(packet(ord("B"), bytes(size)) * 3)
        while buffer.next_frame() is not None:
            assert len(buffer) % (size + 5) == 0
        assert len(buffer) == 0
        assert not buffer.parts
        assert buffer.data == b""


@pytest.mark.slow
def test_a_peer_that_sends_single_octets_costs_no_more_than_they_are_worth() -> None:
    """Never quadratic: four times the octets take about four times the time."""

    def seconds(size: int) -> float:
        octets = packet(ord("B"), bytes(size))
        buffer = FrameBuffer()
        started = time.process_time()
        for i in range(len(octets)):
            buffer.feed(octets[i : i + 1])
            frame = buffer.next_frame()
        assert frame == (ord("B"), bytes(size))
        return time.process_time() - started

    seconds(1000)
    small = min(seconds(8000) for _ in range(3))
    assert min(seconds(32000) for _ in range(3)) < 9 * small


@pytest.mark.slow
def test_many_frames_in_one_read_are_not_copied_once_a_frame() -> None:
    octets = packet(ord("L"), b"X\0v\0")

    def seconds(count: int) -> float:
        data = octets * count
        started = time.process_time()
        assert len(frames([data])) == count
        return time.process_time() - started

    seconds(1000)
    small = min(seconds(10_000) for _ in range(3))
    assert min(seconds(40_000) for _ in range(3)) < 9 * small


TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]
CODES = frozenset(b"AQK")
UNTIL = frozenset(b"ME")


def walk(pieces: Iterable[bytes]) -> int | None:
    """Return what a look ahead finds in what is fed piece by piece."""
    lookahead = Lookahead(CODES, UNTIL)
    found = None
    for piece in pieces:
        found = lookahead.feed(piece)
    return found


@pytest.mark.parametrize("end", [b"A", b"Q", b"K"])
def test_looking_ahead_finds_the_end_however_it_is_split(end: bytes) -> None:
    octets = packet(ord("L"), b"X\0Q\0") + packet(ord("D"), b"M") + packet(ord(end)) + packet(ord("T"))
    assert walk([octets]) == ord(end)
    assert walk(octets[i : i + 1] for i in range(len(octets))) == ord(end)
    for cut in range(1, len(octets)):
        assert walk([octets[:cut], octets[cut:]]) == ord(end)


def test_looking_ahead_finds_nothing_in_payloads_nor_in_half_a_head() -> None:
    body = packet(ord("B"), b"\0\0\0\1Q" * 50)
    assert walk([body * 3]) is None
    assert walk(body[i : i + 1] for i in range(len(body))) is None
    assert walk([b"\0\0\0\1"]) is None


def test_looking_ahead_reports_the_first_end_and_stays_there() -> None:
    assert walk([packet(ord("A")) + packet(ord("Q"))]) == ord("A")
    assert walk([packet(ord("A")), packet(ord("Q")), b"\xff" * 9]) == ord("A")


def test_looking_ahead_ends_at_a_command_that_waits_for_an_answer() -> None:
    """Nothing behind it is urgent, since the MTA waits; whatever comes later."""
    assert walk([packet(ord("T")) + packet(ord("E")) + packet(ord("Q"))]) is None
    assert walk([packet(ord("M"), b"<>\0"), packet(ord("A")), packet(ord("Q"))]) is None


def test_looking_ahead_starts_where_it_is_told() -> None:
    lookahead = Lookahead(CODES, UNTIL)
    assert lookahead.feed(packet(ord("Q")) + packet(ord("A")), 5) == ord("A")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(FRAMES, st.sets(st.integers(0, 320)))
def test_looking_ahead_sees_what_reading_would(parts: list[tuple[int, bytes]], cuts: set[int]) -> None:
    octets = b"".join(packet(code, payload) for code, payload in parts)
    end = next((code for code, _ in parts if code in CODES | UNTIL), None)
    expected = end if end in CODES else None
    assert walk(parted(octets, {cut for cut in cuts if cut < len(octets)})) == expected


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=6))
def test_looking_ahead_takes_any_octets_and_keeps_none(pieces: list[bytes]) -> None:
    lookahead = Lookahead(CODES, UNTIL)
    for piece in pieces:
        assert lookahead.feed(piece) in (None, *CODES)
        assert len(lookahead.head) < HEAD.size


def test_looking_ahead_looks_at_each_octet_once() -> None:
    """A large body is stepped over, not walked through."""
    lookahead = Lookahead(CODES, UNTIL)
    body = packet(ord("B"), bytes(65535))
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal lines
        lines += event == "line"
        return trace

    pieces = [body * 20, packet(ord("Q"))]
    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        for piece in pieces:
            lookahead.feed(piece)
    finally:
        sys.settrace(previous)
    assert lookahead.found == ord("Q")
    assert lines < 2000


def test_random_splits_of_large_packets_are_reassembled() -> None:
    """P-004."""
    source = random.Random(4)
    octets = b"".join(PACKETS)
    expected = [(part[4], part[5:]) for part in PACKETS]
    for _ in range(5):
        assert frames(parted(octets, source.sample(range(len(octets)), 30))) == expected


def test_what_follows_an_unfinished_frame_is_not_copied_with_it() -> None:
    """However much that is: a body comes in reads of up to 256 KiB."""
    first, second = packet(ord("B"), bytes(65_000)), packet(ord("B"), b"x" * 65_000)
    rest = (first + second * 3)[30_000:]
    buffer = FrameBuffer()
    buffer.feed(first[:30_000])
    assert buffer.next_frame() is None
    buffer.feed(rest)
    assert buffer.next_frame() == (ord("B"), bytes(65_000))
    assert buffer.parts[0] is rest
    assert len(buffer) == 3 * len(second)
    assert buffer.kept == len(rest) + len(first)
    buffer.feed(second[:100])  # and more comes before that is looked at
    assert len(buffer) == 3 * len(second) + 100
    assert [buffer.next_frame() for _ in range(4)] == [(ord("B"), b"x" * 65_000)] * 3 + [None]
    assert len(buffer) == 100
    buffer.feed(second[100:])
    assert buffer.next_frame() == (ord("B"), b"x" * 65_000)
    assert (len(buffer), buffer.kept) == (0, len(second))
    assert buffer.next_frame() is None
    assert buffer.kept == 0


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0, 7, 300, 16_380, 40_000, 65_535]), min_size=1, max_size=12),
    st.lists(st.sampled_from([1, 2, 5, 4096, 16_384, 20_000, 65_536, 200_000]), min_size=1, max_size=20),
    st.data(),
)
def test_large_frames_are_the_same_however_they_come_and_are_read(
    sizes: list[int], reads: list[int], data: st.DataObject
) -> None:
    """P-004; and no octet is counted twice or forgotten on the way."""
    sent = [(number + 1, bytes([number]) * size) for number, size in enumerate(sizes)]
    octets = b"".join(packet(code, payload) for code, payload in sent)
    buffer = FrameBuffer()
    got: list[tuple[int, bytes]] = []
    fed = turn = 0
    while fed < len(octets):
        size = reads[turn % len(reads)] if turn < 200 else len(octets)
        buffer.feed(octets[fed : fed + size])
        fed, turn = min(fed + size, len(octets)), turn + 1
        for _ in range(data.draw(st.integers(0, 3))):  # a callback may wait, and reading goes on
            frame = buffer.next_frame()
            got += [frame] if frame is not None else []
            assert len(buffer) == fed - sum(len(payload) + 5 for _, payload in got)
    while (frame := buffer.next_frame()) is not None:
        got.append(frame)
    assert got == sent
    assert (len(buffer), buffer.kept) == (0, 0)


def test_a_frame_that_dribbles_in_takes_little_more_than_its_octets() -> None:
    """P-002, P-003: a piece of two octets is an object of 35, so pieces must not be kept as they come."""
    octets = packet(ord("B"), bytes(60_000))
    buffer = FrameBuffer()
    most = 0
    for start in range(0, len(octets) - 2, 2):
        buffer.feed(octets[start : start + 2])
        assert buffer.next_frame() is None
        if start % 1000 == 0:
            most = max(most, sys.getsizeof(buffer.parts) + sum(map(sys.getsizeof, buffer.parts)))
    buffer.feed(octets[-2:])
    assert buffer.next_frame() == (ord("B"), bytes(60_000))

    assert most < 2 * len(octets)
