"""A configuration file: its text, read and parsed within bounds."""

import errno
import os
import re
import stat
from typing import Any, Final, NamedTuple

from aiomilter._config.faults import Fault, Faults, shown_key
from aiomilter._config.lines import Again, Path, TooDeep, find_lines

__all__ = ["MAX_SIZE", "Document", "read_file"]

MAX_SIZE: Final = 1_048_576
"""Octets of a file."""
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE_TEXT: Final = re.compile(r"""[^=]*=\s*(?:\[\s*)?[A-Za-z_/.~][^"'=]*$""")
"""A line with a text that has no quotes."""


class Document(NamedTuple):
    """A file that is TOML.

    Args:
        name: The file, by the name that the user has for it.
        path: The same, absolute.
        values: As tomllib has them.
        lines: Of keys, tables and members of lists.
        readable_by_others: Whether users other than the owner and the group may read it.
    """

    name: str
    path: str
    values: dict[str, Any]
    lines: dict[Path, int]
    readable_by_others: bool

    def fault(self, path: Path, what: str) -> Fault:
        """Return a fault of a key, which is named in front; of one that is not there, the line is that of its table."""
        return Fault(self.name, self.line(path), f"{shown_key(path)}: {what}")

    def line(self, path: Path) -> int:
        """Return the line of a key, or of the table that it would stand in; 0 if there is none."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0)

    def beside(self, path: str) -> str:
        """Return the absolute path of a file that this one names: where it is relative, it is so to this file."""
        return os.path.join(os.path.dirname(self.path), path)


def read_file(name: str, path: str) -> Document:
    """Return what is in a file.

    Args:
        name: The name that the user has for it.
        path: The absolute path.

    Raises:
        Faults: It cannot be read, or is not TOML.
    """
    octets, readable_by_others = _octets(name, path)
    text = _text(name, octets)
    try:
        lines, again = find_lines(text)
    except TooDeep as error:
        raise Faults([Fault(name, error.line, str(error))]) from None
    return Document(name, path, _parsed(name, text, again), lines, readable_by_others)


def _octets(name: str, path: str) -> tuple[bytes, bool]:
    try:
        # A pipe without a writer would keep us waiting.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise Faults([Fault(name, 0, "expected a regular file, which can be read again at a reload")])
            octets = file.read(MAX_SIZE + 1)
    except OSError as error:
        hint = "; the user that runs aiomilter has to be let in" if error.errno == errno.EACCES else ""
        raise Faults([Fault(name, 0, f"cannot be read: {error.strerror}{hint}")]) from None
    except ValueError:
        raise Faults([Fault(name, 0, "is not the name of a file")]) from None
    if len(octets) > MAX_SIZE:
        raise Faults([Fault(name, 0, f"expected at most {MAX_SIZE} octets, found more; is it the right file?")])
    return octets, bool(state.st_mode & stat.S_IROTH)


def _text(name: str, octets: bytes) -> str:
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        what = f"expected UTF-8, found the octet {octets[error.start]:#04x}; save the file as UTF-8"
        raise Faults([Fault(name, line, what)]) from None
    if text.startswith("\ufeff"):
        raise Faults([Fault(name, 1, "begins with a byte order mark; save the file as UTF-8 without one")])
    return text.replace("\r\n", "\n")


def _parsed(name: str, text: str, again: Again | None) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Faults([_toml_fault(name, text, again, str(error))]) from None
    except (RecursionError, ValueError) as error:  # a number of thousands of digits, a date that is none
        raise Faults([Fault(name, 0, f"is not TOML: {error}")]) from None


def _toml_fault(name: str, text: str, again: Again | None, message: str) -> Fault:
    """Return the fault that tomllib has found, in our words where the user needs more than its own."""
    place = _PLACE.search(message)
    what = message[: place.start()] if place else message
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    if again is not None and what.startswith(("Cannot ", "Duplicate ")):
        if again.is_table:
            key = ".".join(part for part in again.path if isinstance(part, str))
            mend = f"[{key}]: given again, first in line {again.first}; keep its keys together"
        else:
            mend = f"{shown_key(again.path)}: given again, first in line {again.first}; keep one of them"
        return Fault(name, again.line, mend)
    lines = text.split("\n")
    faulty = lines[line - 1] if line <= len(lines) else ""
    hint = "; write texts in quotes" if what.startswith("Invalid value") and _BARE_TEXT.match(faulty) else ""
    where = f", column {place[2]}" if place and place[1] else ""
    return Fault(name, line, f"is not TOML{where}: {what[:1].lower()}{what[1:]}{hint}")
