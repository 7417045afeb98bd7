"""``aiomilter shadow report``: what shadows would have done, read from a log."""

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple, get_args

from aiomilter._cli.parsing import whole
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import MISSING, Trouble
from aiomilter.observe import AnswerVerdict, ShadowAnswer

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Print how often each shadow would have answered what, for messages that were answered what, with queue ids as examples of the
differences. LOG is what 'aiomilter run' has logged, as text or as JSON, also with the marks of syslog or the journal in front.
"""
_EPILOG: Final = """\
examples:
  aiomilter shadow report /var/log/filter.log
  journalctl -u filter --since yesterday | aiomilter shadow report -
  aiomilter shadow report filter.log --filter new --examples 20

exit codes: 0 done; 2 wrong usage; 4 no such file
"""
_LONGEST_LINE: Final = 65_536
"""Octets of a line; a longer one is skipped."""
_LONGEST_NAME: Final = 100
_LONGEST_ID: Final = 64
_MOST_FILTERS: Final = 100
_MOST_OF_LINE: Final = 100
"""Shadows that one message has."""
_LIVE: Final = get_args(AnswerVerdict)
_SHADOW: Final = get_args(ShadowAnswer)
_QUOTED: Final = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_MORE: Final = r"(?:\.\.\. \(\d+ characters\))?"
_NAMES: Final = rf"\d+ \({_QUOTED}{_MORE}(?:, {_QUOTED}{_MORE})*\)"
_OUTCOME: Final = (
    rf"({_QUOTED}) ({'|'.join(_LIVE)})->({'|'.join(_SHADOW)}) time=\d+\.\d+( differs)?(?: at=\w+)?"
    rf"(?: answer={_QUOTED}{_MORE})?(?: reason=\w+)?(?: (?:refused|accepted|edits)={_NAMES})*"
)
_ONE: Final = re.compile(_OUTCOME)
_FIELD: Final = re.compile(rf" shadow=\[({_OUTCOME}(?:; {_OUTCOME})*)\] of=(None|{_QUOTED})\s*\Z")
"""The end of the line of a message; what stands before may hold anything, also a copy of this."""
_BEGIN: Final = " shadow=["
_ESCAPED: Final = re.compile(r"\\(['\"\\])")


class Seen(NamedTuple):
    """What one shadow would have done with one message.

    Args:
        filter: Its name.
        live: The answer that the message got.
        shadow: Its own.
        differs: Whether the message would have fared otherwise.
        queue_id: Of the message; "" if it had none.
    """

    filter: str
    live: str
    shadow: str
    differs: bool
    queue_id: str


@dataclass(slots=True)
class _Cell:
    """Messages with one pair of answers."""

    count: int = 0
    differ: int = 0
    examples: list[str] = field(default_factory=list)


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands and their options."""
    parser = commands.add_parser("shadow", help="what filters on trial would have done")
    ways = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(parser))
    way = ways.add_parser("report", help="count it, from a log", description=_DESCRIPTION, epilog=_EPILOG)
    way.set_defaults(command=_report, parser=way)
    way.add_argument("logs", metavar="LOG", nargs="+", help="a file; - for standard input")
    way.add_argument("--filter", metavar="NAME", help="of this shadow alone")
    way.add_argument(
        "--examples",
        metavar="N",
        type=lambda text: whole(text, zero=True, maximum=1_000),
        default=5,
        help="queue ids of each difference (default: 5)",
    )
    way.add_argument("--json", action="store_true", help="print one JSON object")


def _report(arguments: argparse.Namespace) -> int:
    table, others, messages = _Table(arguments.examples), 0, 0
    for name in arguments.logs:
        with _opened(name) as file:
            for line in _lines(file):
                found = [each for each in seen(line) if arguments.filter in (None, each.filter)]
                messages += bool(found)
                others += sum(not table.add(each) for each in found)
    if arguments.json:
        print(json.dumps({"messages": messages, "shadows": table.rows()}))
        return 0
    if not messages:
        print("no message in this log was shown to a shadow")
        return 0
    print(f"{messages} message{'s' * (messages != 1)} shown to shadows")
    for name, rows in table.rows().items():
        _print(name, rows)
    if others:
        print(f"\nand {others} outcomes of further shadows: more than {_MOST_FILTERS} names")
    return 0


@contextlib.contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(name, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        status = MISSING if isinstance(error, FileNotFoundError) else 1
        raise Trouble(f"{name}: cannot be read: {error.strerror}", status=status) from None
    with file:
        yield file


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Yield the lines that may tell of a shadow; those that are too long are left out."""
    skips = False
    while octets := file.readline(_LONGEST_LINE):
        ended = octets.endswith(b"\n")
        if not skips and (ended or len(octets) < _LONGEST_LINE) and b"shadow" in octets:
            yield octets.decode("utf-8", "surrogateescape")
        skips = not ended


def seen(line: str) -> Iterable[Seen]:
    """Return what a line of a log tells of shadows."""
    start = line.find("{")
    if '"shadow"' in line and start >= 0:
        found = _of_json(line[start:])
        if found:
            return found
    return _of_text(line)


def _of_text(line: str) -> list[Seen]:
    # The last ones only: each costs a look at the rest of the line.
    at = len(line)
    for _ in range(_MOST_OF_LINE):
        at = line.rfind(_BEGIN, 0, at)
        if at < 0:
            break
        match = _FIELD.match(line, at)
        if match is not None:
            queue_id = match[match.lastindex or 0]
            queue_id = "" if queue_id == "None" else _unquoted(queue_id)
            outcomes = [_ONE.match(text) for text in _split(match[1])]
            return [
                Seen(_unquoted(each[1])[:_LONGEST_NAME], each[2], each[3], each[4] is not None, queue_id[:_LONGEST_ID])
                for each in outcomes[:_MOST_OF_LINE]
                if each is not None
            ]
    return []


def _unquoted(text: str) -> str:
    """Return what a quoted text says; what does not print stays as it is written."""
    return _ESCAPED.sub(r"\1", text[1:-1])


def _split(text: str) -> Iterator[str]:
    at = 0
    while match := _ONE.match(text, at):
        yield match[0]
        at = match.end() + len("; ")


def _of_json(text: str) -> list[Seen]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(record, dict) or not isinstance(record.get("shadow"), list):
        return []
    queue_id = record.get("queue_id")
    queue_id = queue_id if isinstance(queue_id, str) else ""
    found = []
    for each in record["shadow"][:_MOST_OF_LINE]:
        if not isinstance(each, dict):
            continue
        name, live, shadow = (each.get(key) for key in ("filter", "live", "shadow"))
        if isinstance(name, str) and isinstance(live, str) and isinstance(shadow, str):
            differs = each.get("differs") is True
            if live in _LIVE and shadow in _SHADOW:
                found.append(Seen(name[:_LONGEST_NAME], live, shadow, differs, queue_id[:_LONGEST_ID]))
    return found


class _Table:
    """Counts by shadow, live answer and its own.

    Args:
        examples: How many queue ids are kept of each difference.
    """

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._cells: dict[str, dict[tuple[str, str], _Cell]] = {}

    def add(self, outcome: Seen) -> bool:
        """Count one, and return whether there is room for its shadow."""
        if outcome.filter not in self._cells and len(self._cells) >= _MOST_FILTERS:
            return False
        cell = self._cells.setdefault(outcome.filter, {}).setdefault((outcome.live, outcome.shadow), _Cell())
        cell.count += 1
        if outcome.differs:
            cell.differ += 1
            if outcome.queue_id and len(cell.examples) < self._examples:
                cell.examples.append(outcome.queue_id)
        return True

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of each shadow, in the order of answers."""
        return {
            name: [
                {
                    "live": live,
                    "shadow": shadow,
                    "messages": cell.count,
                    "differ": cell.differ,
                    "examples": cell.examples,
                }
                for (live, shadow), cell in sorted(cells.items(), key=lambda item: _order(*item[0]))
            ]
            for name, cells in sorted(self._cells.items())
        }


def _order(live: str, shadow: str) -> tuple[int, int]:
    return _LIVE.index(live), _SHADOW.index(shadow)


def _print(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    print(f"\n{safe(name)}\n  {'live':<10}{'shadow':<10}{'messages':>9}{'differ':>8}  examples")
    for row in rows:
        examples = " ".join(safe(each) for each in row["examples"])
        text = f"  {row['live']:<10}{row['shadow']:<10}{row['messages']:>9}{row['differ']:>8}  {examples}"
        print(text.rstrip())
