"""Uncaught exceptions, as Python treats them: a traceback on stderr, and the end of the process with a status."""

import atexit
import gc
import io
import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn

from aiomilter.compat.names import MODULES

__all__ = ["end_child", "show", "status_of"]


def end_child(failure: BaseException | None = None) -> NoReturn:
    """End this process, which a callback has forked, as Python ends a program, but send nothing to the MTA.

    In pymilter ``sys.exit()`` does so; a process that returns from its callback goes on as a second reader of the connection.

    Args:
        failure: The exception that has left the callback, if one has.
    """
    status = 0
    try:
        if isinstance(failure, SystemExit):
            status = status_of(failure.code)
        elif failure is not None:
            status = 1
            show(failure)
        atexit._run_exitfuncs()
        files: list[Any] = [found for found in gc.get_objects() if issubclass(type(found), io.IOBase)]
        for file in (*files, sys.stdout, sys.stderr):
            with suppress(Exception):  # it is closed, or full
                file.flush()
    finally:
        os._exit(status & 0xFF)


def status_of(code: object) -> int:
    """Return the exit status that Python makes of the argument of ``sys.exit``, printing what it prints."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    with suppress(AttributeError, OSError, ValueError):  # stderr is missing, full or closed
        sys.stderr.write(f"{code}\n")
    return 1


def show(failure: BaseException) -> None:
    """Print an exception that left a callback on stderr, as Python does, without the frames that are not the program's."""
    traceback = failure.__traceback__
    # The first frame is ours, which has called the callback; the last one is always shown.
    traceback = traceback and traceback.tb_next
    while traceback is not None and traceback.tb_next is not None and _ours(traceback):
        traceback = traceback.tb_next
    # Python prints the traceback that the exception holds, not the one that it is given.
    sys.excepthook(type(failure), failure.with_traceback(traceback), traceback)


def _ours(traceback: TracebackType) -> bool:
    # A thread waits by a future for a callback on the event loop.  Modules that a program imports have pymilter's names.
    name = str(traceback.tb_frame.f_globals.get("__name__"))
    return name in MODULES or name.startswith(("aiomilter.", "concurrent.futures."))
