"""What serving processes report, in frames, and the sums of it."""

import os
import random
import sys
from collections.abc import Callable, Mapping
from selectors import DefaultSelector

import pytest

from aiomilter._process.lifecycle import MainService
from aiomilter._process.pipe import pipe_pair
from aiomilter._process.relay import Relay, StatusProgram
from aiomilter._serving.feed import MOST_RECORD, MOST_SERIES, Feed, Key, Report, Reporter, ended_frame


class Source:
    """Something that counts."""

    def __init__(self) -> None:
        self.counts: dict[Key, float] = {("messages", "a"): 1, ("messages", "b"): 2.5}
        self.gauges: dict[Key, float] = {("open",): 3}

    def __call__(self) -> Report:
        return Report(dict(self.counts), dict(self.gauges), {"listening": True})


def reporting(send: Callable[[bytes], bool], source: Callable[[], Report]) -> Reporter:
    reporter = Reporter(send)
    reporter.add(source)
    return reporter


def as_process(pid: int, frame: bytes) -> bytes:
    """Return a frame as if another process had sent it."""
    return frame[:1] + pid.to_bytes(4) + frame[5:]


def test_a_report_arrives_as_it_was() -> None:
    feed, source = Feed(clock=lambda: 7.0), Source()
    reporting(feed.take, source).report()
    (process,) = feed.processes.values()
    assert (process.pid, process.seen) == (os.getpid(), 7.0)
    assert (process.counts, process.gauges, process.state) == (source.counts, source.gauges, {"listening": True})
    assert feed.snapshot() == source.counts


def test_values_of_processes_add_up_and_those_that_have_ended_stay() -> None:
    feed, source = Feed(), Source()
    for pid in (11, 12):
        reporting(lambda frame, pid=pid: feed.take(as_process(pid, frame)), source).report()  # type: ignore[misc]
    for gone in ((), (11,), (11, 12), (12, 12)):
        for pid in gone:
            feed.take(ended_frame(pid))
        assert feed.snapshot() == {("messages", "a"): 2, ("messages", "b"): 5.0}
    assert feed.processes == {}


def test_only_what_has_changed_is_sent_again_and_what_was_lost_too() -> None:
    frames: list[bytes] = []
    room = True

    def send(frame: bytes) -> bool:
        if room:
            frames.append(frame)
        return room

    feed, source = Feed(), Source()
    reporter = reporting(send, source)
    reporter.report()
    source.counts["messages", "a"] = 5
    room = False
    reporter.report()
    room = True
    reporter.report()
    assert b"messages\\u001fb" in frames[0]
    assert b"messages" not in frames[1]
    assert b"messages\\u001fa" in frames[2]
    assert b"messages\\u001fb" not in frames[2]
    for frame in frames:
        feed.take(frame)
    assert feed.snapshot()["messages", "a"] == 5


def test_many_values_are_sent_in_frames_that_a_socket_takes() -> None:
    ours, its = pipe_pair()
    source = Source()
    source.counts = {("messages", "x" * 60, str(number)): number for number in range(1000)}
    reporting(its.send, source).report()
    feed = Feed()
    for frame in ours.receive():
        feed.take(frame)
    assert feed.snapshot() == source.counts
    ours.close()
    its.close()


def test_no_process_makes_the_feed_grow_without_bound() -> None:
    feed = Feed()
    source = Source()
    source.counts = {("messages", str(number)): 1 for number in range(MOST_SERIES + 100)}
    reporting(feed.take, source).report()
    assert len(feed.snapshot()) == MOST_SERIES
    source.counts = {("other", str(number)): 1 for number in range(100)}
    feed.take(ended_frame(os.getpid()))
    reporting(feed.take, source).report()
    assert len(feed.snapshot()) == MOST_SERIES


def test_records_go_to_all_that_follow_and_one_that_raises_hears_no_more() -> None:
    feed = Feed()
    heard: list[bytes] = []

    def fails(pid: int, octets: bytes) -> None:
        heard.append(b"failed " + octets)
        raise ValueError

    feed.follow(fails)
    feed.follow(lambda pid, octets: heard.append(octets))
    reporter = Reporter(feed.take)
    reporter.record(b"one")
    reporter.record(b"two")
    assert heard == [b"failed one", b"one", b"two"]


def test_a_record_is_dropped_where_the_pipe_is_full_or_it_is_too_large() -> None:
    ours, its = pipe_pair()
    reporter = Reporter(its.send)
    assert not reporter.record(bytes(MOST_RECORD + 1))
    sent = 0
    while reporter.record(bytes(MOST_RECORD)):
        sent += 1
    assert sent >= 1
    feed, heard = Feed(), list[int]()
    feed.follow(lambda pid, octets: heard.append(len(octets)))
    for frame in ours.receive():
        feed.take(frame)
    assert heard == [MOST_RECORD] * sent
    assert reporter.record(b"there is room again")
    ours.close()
    its.close()


@pytest.mark.parametrize("knows", ["nothing", "too much"])
def test_a_feed_tells_another_everything(knows: str) -> None:
    feed, other, source = Feed(), Feed(), Source()
    for pid in (11, 12, 13):
        reporting(lambda frame, pid=pid: feed.take(as_process(pid, frame)), source).report()  # type: ignore[misc]
        if knows == "too much":
            for frame in feed.frames():
                other.take(frame)
    feed.end(12)
    seen = set()
    for frame in feed.frames():
        other.take(frame)
        seen.add(tuple(sorted(other.snapshot().items())))
    assert other.snapshot() == feed.snapshot() == {("messages", "a"): 3, ("messages", "b"): 7.5}
    assert set(other.processes) == {11, 13}
    # No sum is ever smaller than before: Prometheus would take it for a restart.
    assert len(seen) == (2 if knows == "nothing" else 1)


def test_a_frame_that_cannot_be_read_is_left_out() -> None:
    feed, source = Feed(), Source()
    frames: list[bytes] = []

    def keep(frame: bytes) -> bool:
        frames.append(frame)
        return True

    reporting(keep, source).report()
    numbers = random.Random(17)
    for frame in frames * 300:
        broken = bytearray(frame)
        broken[numbers.randrange(len(broken))] = numbers.randrange(256)
        feed.take(bytes(broken[: numbers.randrange(len(broken) + 1)]))
    assert len(feed.processes) + sum(len(each.counts) for each in feed.processes.values()) < 3 * 600


def test_a_pipe_shows_that_its_other_end_is_closed() -> None:
    ours, its = pipe_pair()
    assert its.send(b"last")
    its.close()
    assert list(ours.receive()) == [b"last"]
    assert ours.ended or not hasattr(os, "O_PATH")
    ours.close()


def test_what_a_process_has_counted_at_its_end_is_behind_all_that_waits() -> None:
    def run(feed: Feed) -> MainService:
        raise AssertionError("it is not started")

    with DefaultSelector() as selector:
        relay = Relay(StatusProgram((), run, lambda error, what: 1, None), selector, lambda what, pid: None)
        ours, its = relay.pipe()
        source = Source()
        reporter = reporting(its.send, source)
        waiting = 0
        while waiting < 300 and reporter.record(b"a record"):
            waiting += 1
        reporter.report()
        its.close()
        relay.ended(os.getpid(), ours)
        assert relay._feed.snapshot() == source.counts
    assert waiting == 300 or not sys.platform.startswith("linux")


def test_sums_never_fall_whatever_is_lost() -> None:
    """A process sends what it could not send before; the sums of the feed only grow."""
    numbers = random.Random(1)
    feed, source = Feed(), Source()
    reporter = reporting(lambda frame: numbers.random() < 0.5 and feed.take(frame), source)
    before: Mapping[Key, float] = {}
    for _ in range(200):
        source.counts["messages", "a"] += numbers.randrange(5)
        reporter.report()
        now = feed.snapshot()
        assert all(now[key] >= value for key, value in before.items())
        before = now
    while feed.snapshot() != source.counts:
        reporter.report()
