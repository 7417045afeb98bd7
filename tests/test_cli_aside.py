"""Records of ours wait for the handlers of a program in a thread, and not in the event loop."""

import atexit
import logging
import threading
from collections.abc import Iterator

import pytest

from aiomilter._cli import aside
from aiomilter._cli.aside import Aside

from .patience import PATIENCE

LOGGER = logging.getLogger("aiomilter")


class Handler(logging.Handler):
    """One that waits until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.opened.wait(PATIENCE)
        self.texts.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def handler() -> Iterator[Handler]:
    found = Handler()
    LOGGER.addHandler(found)
    yield found
    LOGGER.removeHandler(found)


@pytest.fixture
def held(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aside]:
    monkeypatch.setattr(aside, "_MOST", 10)
    found = Aside("aiomilter")
    yield found
    handler.opened.set()
    found.finish()
    # What a test has done to it is not to decide how the run of all tests ends.
    atexit.unregister(found.finish)
    LOGGER.removeFilter(found._take)


def test_records_come_in_order_and_nobody_waits_for_the_handler(held: Aside, handler: Handler) -> None:
    for number in range(10):
        LOGGER.warning("%d", number)
    assert handler.texts == []
    handler.opened.set()
    held.finish()
    assert handler.texts == [f"WARNING {number}" for number in range(10)]


def test_too_many_are_dropped_and_counted(held: Aside, handler: Handler) -> None:
    for number in range(25):
        LOGGER.warning("%d", number)
    handler.opened.set()
    held.finish()
    what = "WARNING 15 records were dropped: the handlers took too long"
    assert handler.texts == [*(f"WARNING {number}" for number in range(10)), what]


def test_a_process_that_was_forked_has_none_of_them(held: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    # A child has no thread: one that went on here would hand its record to the handler of the next test.
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)
    LOGGER.warning("one")
    waiting, lock = held._waiting, held._lock
    held._restart()  # as in the child
    assert (waiting, held._waiting, held._thread) == (1, 0, None)
    assert held._lock is not lock


def test_where_no_thread_can_begin_the_handler_is_called_at_once(
    held: Aside, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", fails)
    handler.opened.set()
    LOGGER.warning("one")
    assert handler.texts == ["WARNING one"]
