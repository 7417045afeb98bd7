"""The messages that ``check`` is given: files, directories, mbox files, standard input."""

import mmap
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from aiomilter._cli.places import absolute
from aiomilter._cli.trouble import MISSING, USAGE, Trouble

__all__ = ["Message", "messages"]

# The line before each message of an mbox: sender and date, as asctime() writes it, perhaps with a zone behind.  The expression
# begins with plain characters, which are quick to search for.
_MBOX_LINE: Final = re.compile(rb"From [^\n]{1,998}(?:\n|\Z)")
_MBOX_DATE: Final = re.compile(rb"\d\d:\d\d.*\d{4}")
# Lines of a message that would look like one have ">" in front.
_QUOTED_LINE: Final = re.compile(rb"^>(?=>*From )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to play.

    Args:
        source: The name of its file, of an mbox with ``:NUMBER``; "-" for standard input, "" for the sample.
        octets: Its content.
    """

    source: str
    octets: bytes


def messages(names: Sequence[str]) -> Iterator[Message]:
    """Return an iterator over the messages that arguments name; their files are read when their turn comes.

    A directory stands for the ``.eml`` files in it and below, or for all files if it has none; hidden ones and the ``tmp`` of a
    Maildir are left out.  A file that begins as an mbox does is one, except that a name in ``.eml`` is always one message.

    Raises:
        Trouble: There is no such message; for a file that cannot be read, when its turn comes.
    """
    # Absolute, since a filter may change the directory.
    found = [each for name in names for each in _named(name)]
    return (message for each in found for message in ((each,) if isinstance(each, Message) else _read(each)))


class _File(NamedTuple):
    name: str
    path: Path


def _named(name: str) -> Sequence[_File | Message]:
    if name == "-":
        return [Message(name, sys.stdin.buffer.read())]
    path = Path(absolute(name))
    if path.is_dir():
        return [_File(found, Path(absolute(found))) for found in _in_directory(name)]
    if not path.exists():
        raise Trouble(f"there is no message {name!r}", status=MISSING)
    if path.suffix == ".py":
        what = f"{name!r} is a Python file, not a message"
        raise Trouble(f"{what}; several filters run as one process each, and are checked one by one", status=USAGE)
    return [_File(name, path)]


def _in_directory(name: str) -> list[str]:
    files: list[str] = []
    for directory, below, inside in os.walk(name):
        maildir = {"cur", "new"} <= set(below)
        below[:] = sorted(each for each in below if not each.startswith(".") and not (maildir and each == "tmp"))
        files += [os.path.join(directory, each) for each in sorted(inside) if not each.startswith(".")]
    found = [each for each in files if each.endswith(".eml")] or [each for each in files if not each.endswith(".py")]
    if not found:
        raise Trouble(f"there is no message in the directory {name!r}", status=MISSING)
    return found


def _read(named: _File) -> Iterator[Message]:
    name = named.name
    try:
        with named.path.open("rb") as file:
            begin = file.read(5)
            if begin != b"From " or name.endswith(".eml"):
                yield Message(name, begin + file.read())
            elif file.seekable():
                # An archive of years does not have to fit into memory.
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
                    yield from _from_mbox(name, octets)
            else:
                yield from _from_mbox(name, begin + file.read())
    except OSError as error:
        raise Trouble(f"{name!r} cannot be read: {error.strerror}", status=MISSING) from None


def _from_mbox(name: str, octets: mmap.mmap | bytes) -> Iterator[Message]:
    begin = number = 0
    for line in _MBOX_LINE.finditer(octets):
        before = octets[max(0, line.start() - 3) : line.start()]
        if (before and not before.endswith((b"\n\n", b"\n\r\n"))) or _MBOX_DATE.search(line[0]) is None:
            continue
        if number:
            yield _mbox_message(f"{name}:{number}", octets[begin : line.start()])
        begin, number = line.end(), number + 1
    if number:
        yield _mbox_message(f"{name}:{number}", octets[begin:])
    else:
        yield Message(name, octets[:])  # it only begins with the word


def _mbox_message(source: str, octets: bytes) -> Message:
    # The empty line before the next message belongs to the mbox.
    for end in (b"\r\n\r\n", b"\n\n"):
        if octets.endswith(end):
            octets = octets[: len(octets) - len(end) // 2]
            break
    return Message(source, _QUOTED_LINE.sub(b"", octets))
