"""How much a call does, counted: lines of the package's own code, so that no clock and no load matters."""

import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import aiomilter.auth

_FOLDER = aiomilter.auth.__path__[0]


class Steps:
    """Counts lines of ``aiomilter.auth`` while it is entered."""

    def __init__(self) -> None:
        self.lines = 0

    def __enter__(self) -> "Steps":
        self._previous = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.settrace(self._previous)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(_FOLDER):
            return None
        self.lines += event == "line"
        return self._trace


def steps(call: Callable[[], object]) -> int:
    """Return how many lines a call takes."""
    with Steps() as counted:
        call()
    return counted.lines
