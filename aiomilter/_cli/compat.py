"""``aiomilter compat``: a program written for pymilter, run unchanged, as ``python SCRIPT`` would run it."""

import argparse
import builtins
import io
import os
import sys
import threading
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any, Final

from aiomilter._cli.aside import Aside
from aiomilter._cli.beside import look_in
from aiomilter._cli.parsing import seconds, whole
from aiomilter._cli.trouble import FAILED, MISSING, Trouble
from aiomilter.compat import children, install, limit
from aiomilter.compat.uncaught import status_of
from aiomilter.options import Options

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Run a program written for pymilter, unchanged: "import Milter" gives it aiomilter's modules, whether or not pymilter is there.
Options of this command stand before SCRIPT; what stands behind it is the program's.
"""
_EPILOG: Final = """\
examples:
  aiomilter compat milter.py
  aiomilter compat --threads 50 /usr/local/bin/milter.py -c /etc/milter.conf
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "compat",
        help="run a program written for pymilter",
        usage="%(prog)s [options] SCRIPT [ARGUMENTS]...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(command=_compat, parser=parser)
    parser.add_argument(
        "--threads", metavar="N", type=whole, help="callbacks at work at once (as many as there are connections)"
    )
    parser.add_argument(
        "--drain-timeout",
        metavar="SECONDS",
        type=seconds,
        default=Options().drain_timeout,
        help="time for open SMTP sessions to end when the program stops (default: %(default)g)",
    )
    parser.add_argument(
        "--any-octets",
        action="store_true",
        help="hand over names that are not UTF-8, with surrogates, instead of answering 451 for the program",
    )
    parser.add_argument("script", metavar="SCRIPT", help="the program")
    arguments = parser.add_argument("arguments", metavar="ARGUMENTS", nargs=argparse.REMAINDER, help="its arguments")
    arguments.required = False  # else argparse asks for them where SCRIPT is missing


def _compat(options: argparse.Namespace) -> int:
    try:
        # As Python makes it.
        path = options.script if os.path.isabs(options.script) else os.path.join(os.getcwd(), options.script)
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        raise Trouble(f"cannot run {options.script!r}: {error.strerror}", status=MISSING) from None
    aside = Aside("aiomilter", "asyncio")
    install()
    limit(threads=options.threads, drain_timeout=options.drain_timeout, any_octets=options.any_octets)
    sys.argv = [options.script, *options.arguments]
    directory = os.path.dirname(os.path.realpath(path))
    sys.path[0] = directory
    look_in(directory, own_first=True)
    children.leave_out(directory)
    children.call_in_children(look_in, directory, own_first=True)
    children.pass_on(os.environ)
    main = ModuleType("__main__")
    main.__dict__.update(
        __file__=path,
        __builtins__=builtins,
        __cached__=None,
        __loader__=SourceFileLoader("__main__", path),
    )
    sys.modules["__main__"] = main
    status = 0
    try:
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - the user's program
    except SystemExit as end:
        status = status_of(end.code)
    except BaseException as error:  # the end of the program, whatever it is
        # As Python ends a program, except that frames of ours are left out.
        traceback = _own(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
        if isinstance(error, KeyboardInterrupt):
            sys.excepthook = _silent
            raise
        status = FAILED
    aside.status = status
    _join()
    return status


def _silent(*_: object) -> None:
    """Print nothing: it has been printed."""


def _join() -> None:
    """Wait for the program's threads before Python does, from when on no executor takes work: their callbacks may need one."""
    main = threading.main_thread()
    while threads := [each for each in threading.enumerate() if not each.daemon and each is not main]:
        for thread in threads:
            try:
                thread.join()
            except KeyboardInterrupt:
                return  # as Python does then


def _own(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code is _compat.__code__:
        traceback = traceback.tb_next
    return traceback
