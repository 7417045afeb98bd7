"""What Python does where nothing catches an exception: it prints a traceback, and ends the process with a status."""

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
    """End this process, which a callback has forked, as Python ends a program, but say nothing to the MTA.

    In pymilter ``sys.exit()`` does so; one that returns from its callback goes on as a second reader of the MTA's.

    Args:
        failure: What has left the callback.
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
    with suppress(AttributeError, OSError, ValueError):  # there is none, it is full, or closed
        sys.stderr.write(f"{code}\n")
    return 1


def show(failure: BaseException) -> None:
    """Print what left a callback on stderr, as Python does, without the frames that are not the program's."""
    traceback = failure.__traceback__
    # The first frame is the one that has called; of the others the last one stays, whose ever it is.
    traceback = traceback and traceback.tb_next
    while traceback is not None and traceback.tb_next is not None and _ours(traceback):
        traceback = traceback.tb_next
    # Python prints the traceback that an exception holds, whatever it is given.
    sys.excepthook(type(failure), failure.with_traceback(traceback), traceback)


def _ours(traceback: TracebackType) -> bool:
    # A callback on the event loop is waited for by a future of a thread's.  What a program imports has the name it is known by.
    name = str(traceback.tb_frame.f_globals.get("__name__"))
    return name in MODULES or name.startswith(("aiomilter.", "concurrent.futures."))
