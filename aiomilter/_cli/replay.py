"""``aiomilter replay``: recorded sessions played to a filter, and what it answers otherwise."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, cast

from aiomilter._cli.filter_stdout import stdout_to_stderr
from aiomilter._cli.options import add_options, given
from aiomilter._cli.parsing import seconds, socket_text
from aiomilter._cli.target import Target, load, own_traceback, start_trouble
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, MISSING, USAGE, Trouble
from aiomilter.mta import Style
from aiomilter.mta.opening import open_streams
from aiomilter.options import Options, ServeOptions
from aiomilter.recording import Recording, RecordingError, read
from aiomilter.recording.directory import SUFFIX
from aiomilter.recording.redaction import KEY
from aiomilter.server import Factory
from aiomilter.testing import Replay, replay
from aiomilter.testing._replay import Played, ReplayPlan

__all__ = ["add_parser"]

_USAGE: Final = """%(prog)s FILE... TARGET [options]
       %(prog)s FILE... --connect SOCKET [options]"""
_DESCRIPTION: Final = """\
Play recorded sessions to a filter as the MTA played them, and print what differs, stage by stage: answers, edits, and the
message that would be delivered.  FILE is what 'aiomilter run --record' or 'aiomilter record' has written, or a directory of
such files.
Nothing is sent anywhere.
"""
_EPILOG: Final = """\
examples:
  aiomilter replay refused.jsonl.gz filter.py
  aiomilter replay /var/lib/sessions filter.py --against old_filter.py
  aiomilter replay session.jsonl.gz --connect inet:8890@127.0.0.1

A session that was recorded as its shape has tokens in place of addresses and words: a filter that looks at words may answer it
otherwise than it did, and texts are not compared.  --against OLD plays it to both, and compares all.

exit codes:
  0  every session comes to the same
  1  one differs, or the filter failed
  2  wrong usage
  4  there is no such file, or it is damaged; nothing listens at SOCKET
"""
_OPTIONS: Final = frozenset({"on-error", "on-timeout", "max-headers", "max-recipients", "max-edits", "max-edits-size"})


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "replay", help="play recorded sessions to a filter", usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=_command, parser=parser)
    parser.add_argument("arguments", nargs="*", metavar="FILE TARGET", help="recorded sessions; then the filter")
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="compare with what this filter answers, or with another recording of the session (default: the recording itself)",
    )
    parser.add_argument(
        "--connect", metavar="SOCKET", type=socket_text, help="play to the milter that runs there instead of TARGET"
    )
    parser.add_argument(
        "--mta",
        choices=("postfix", "sendmail"),
        help="whose rules the delivery follows (default: those of the recorded MTA)",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=30.0, help="time for each answer (default: 30)"
    )
    add_options(parser, Options, only=_OPTIONS)


def _command(options: argparse.Namespace) -> int:
    names = options.arguments if options.connect is not None else options.arguments[:-1]
    if not names:
        what = "which session, and which filter? write aiomilter replay FILE.jsonl.gz FILTER.py, or --connect SOCKET"
        raise Trouble(what, status=USAGE)
    files = list(_files(names))
    with stdout_to_stderr():
        player = _Player(options)
        results = [player.replayed(file) for file in files]
    for result in results:
        for line in str(result).split("\n"):
            print(safe(line))
        for error in result.failures:
            print(safe(own_traceback(error).rstrip(), also="\n"))
    if len(results) > 1:
        different = sum(not result.equal for result in results)
        print(f"{len(results)} sessions, {different} differ")
    return 0 if all(result.equal and not result.failures for result in results) else FAILED


def _files(names: Sequence[str]) -> list[str]:
    """Return the files that are meant, those of directories by name.

    Raises:
        Trouble: A directory has none.
    """
    found: list[str] = []
    for name in names:
        if not os.path.isdir(name):
            if len(names) == 1 or not _is_key(name):
                found.append(name)
            continue
        inside = sorted(str(path) for path in Path(name).iterdir() if path.name.endswith((SUFFIX, ".jsonl")))
        if not inside:
            raise Trouble(f"{name!r} has no recorded sessions, no file whose name ends in {SUFFIX}", status=MISSING)
        found += inside
    return found


def _is_key(name: str) -> bool:
    """Return whether a file is the key that lies beside the sessions of a directory: a shell names it, too, for ``*``."""
    path = Path(name)
    return path.name == KEY and any(path.parent.glob(f"*{SUFFIX}"))


def _read(name: str) -> Recording:
    try:
        return read(name)
    except RecordingError as error:
        raise Trouble(str(error), status=MISSING) from None
    except OSError as error:
        raise Trouble(f"{name!r} cannot be read: {error.strerror}", status=MISSING) from None


class _Player:
    """Plays sessions to what the command names.

    Args:
        options: Of the command.

    Raises:
        Trouble: The filter cannot be loaded.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._serve_options = cast(ServeOptions, given(options, Options))
        if options.connect is not None and self._serve_options:
            name = next(iter(self._serve_options)).replace("_", "-")
            raise Trouble(f"--{name} is for TARGET; a filter that runs has its own", status=USAGE)
        self._target: str = "" if options.connect is not None else options.arguments[-1]
        self._factory: Factory | None = None if options.connect is not None else load(Target.named(self._target))
        self._against: Factory | Recording | None = None
        against = options.against
        if against is not None:
            is_recording = against.endswith((SUFFIX, ".jsonl"))
            self._against = _read(against) if is_recording else load(Target.named(against))

    def replayed(self, file: str) -> Replay:
        """Return what a session comes to.

        Raises:
            Trouble: It cannot be read or played.
        """
        recording = _read(file)
        try:
            return asyncio.run(self._replayed(recording))
        except RecordingError as error:
            raise Trouble(str(error), status=MISSING) from None
        except Trouble:
            raise
        except Exception as error:  # noqa: BLE001  # the user's factory
            raise start_trouble(self._target, error) from None

    async def _replayed(self, recording: Recording) -> Replay:
        options = self._options
        mta: Style | None = options.mta
        if self._factory is not None:
            return await replay(
                recording, self._factory, against=self._against, mta=mta, timeout=options.timeout, **self._serve_options
            )
        plan = ReplayPlan(recording, mta)
        before, whole = await plan.compared_with(self._against, Options(), options.timeout)
        try:
            streams = await open_streams(options.connect, options.timeout)
        except OSError as error:
            what = f"cannot connect to {options.connect}: {error.strerror or error}; does the milter run, and listen there?"
            raise Trouble(what, status=MISSING) from None
        with closing(streams[1]):
            return plan.result(Played(*await plan.play(streams, options.timeout)), before, whole=whole)
