"""The lines of a TOML text that its keys stand in: tomllib reads values, and does not say where it has found them.

The text is walked once, from left to right, in time that grows with its length alone.  Of a text that is not TOML everything up
to the first mistake is found, or a little more; tomllib then reports the mistake.

The grammar is that of TOML v1.0.0, https://toml.io/en/v1.0.0.
"""

import re
from bisect import bisect_right
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Again", "Path", "TooDeep", "find_lines"]

Path: TypeAlias = tuple[str | int, ...]
"""Names of keys and positions in lists, from the outermost on."""

_DEEPEST: Final = 32
"""Parts of a path."""
_BLANK: Final = re.compile(r"(?:[ \t\n\r]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_PART: Final = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_STRING: Final = re.compile(
    r""""{3}(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}|'{3}(?:[^']|'{1,2}(?!'))*'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'"""
)
_PLAIN: Final = re.compile(r"""[^,\]}#\n\s"'][^,\]}#\n]*""")
_ESCAPE: Final = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([btnfr"\\]))')
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


class Again(NamedTuple):
    """A key or a table that a text has a second time.

    Args:
        path: Which.
        line: Of the second.
        first: Line of the first.
        is_table: Whether it is a ``[table]``.
    """

    path: Path
    line: int
    first: int
    is_table: bool


class TooDeep(Exception):
    """A key has too many parts, or values are too deep in one another.

    Args:
        line: Where.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"expected at most {_DEEPEST} parts of a key, and as many levels of lists and tables")
        self.line = line


def find_lines(text: str) -> tuple[dict[Path, int], Again | None]:
    """Return the line of each key, table and member of a list, from 1, and the first key that stands there twice.

    Raises:
        TooDeep: Python's own parser would take very long, or reach its limit of recursion.
    """
    finder = _Finder(text)
    while finder.statement():
        pass
    return finder.lines, finder.again


class _End(Exception):
    """Here the text is not TOML."""


class _Finder:
    """A walk through a text.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.again: Again | None = None
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._table: Path = ()
        self._headers: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}

    def statement(self) -> bool:
        """Walk over a table's header, or a key and its value; return whether there was one."""
        self._skip(_BLANK)
        if self._at >= len(self._text):
            return False
        try:
            if self._text.startswith("[", self._at):
                self._header()
            else:
                path = self._assignment(self._table)
                self._value(path)
        except _End:
            return False
        return True

    # ------------------------------------------------------------------------------------------------------------ parts

    def _line(self, at: int) -> int:
        return bisect_right(self._ends, at - 1) + 1

    def _skip(self, what: re.Pattern[str]) -> bool:
        """Walk over what matches; return whether that was anything."""
        found = what.match(self._text, self._at)
        if found is None or found.end() == self._at:
            return False
        self._at = found.end()
        return True

    def _takes(self, mark: str) -> bool:
        if self._text.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            found = _PART.match(self._text, self._at)
            if found is None:
                raise _End
            bare, quoted, literal = found.groups()
            parts.append(bare or literal or (_unescaped(quoted) if quoted is not None else ""))
            if len(parts) > _DEEPEST:
                raise TooDeep(self._line(self._at))
            self._at = found.end()
            if not self._takes("."):
                return tuple(parts)

    def _header(self) -> None:
        """Walk over ``[table]`` or ``[[table]]``."""
        start = self._at
        many = self._takes("[[")
        if not many:
            self._takes("[")
        key = self._key()
        if not self._takes("]]" if many else "]"):
            raise _End
        path = self._resolved(key[:-1])
        if many:
            path += (key[-1],)
            count = self._counts[path] = self._counts.get(path, -1) + 1
            self._note(path, start)
            path += (count,)
        else:
            path = self._resolved(key) if (*path, key[-1]) in self._counts else (*path, key[-1])
            line = self._line(start)
            if path in self._headers and self.again is None:
                self.again = Again(path, line, self._headers[path], True)
            self._headers.setdefault(path, line)
        self._note(path, start)
        self._table = path

    def _resolved(self, key: Path) -> Path:
        """Return the path of a table, which may be in the last one of a list of tables."""
        path: Path = ()
        for part in key:
            path += (part,)
            if path in self._counts:
                path += (self._counts[path],)
        return path

    def _note(self, path: Path, at: int) -> None:
        line = self._line(at)
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], line)

    def _assignment(self, within: Path) -> Path:
        """Walk over a key and ``=``, and return the path of the key."""
        self._skip(_SPACE)
        start = self._at
        path = within + self._key()
        if not self._takes("="):
            raise _End
        if path in self.lines and self.again is None:
            self.again = Again(path, self._line(start), self.lines[path], False)
        self._note(path, start)
        return path

    # ----------------------------------------------------------------------------------------------------------- values

    def _value(self, path: Path) -> None:
        """Walk over the value of a key, however deep: each level of it is a list, with the position in it, or a table."""
        levels: list[tuple[Path, int]] = []
        while True:
            self._skip(_BLANK if levels and levels[-1][1] >= 0 else _SPACE)
            start = self._at
            if levels and self._text.startswith("]", self._at):
                pass  # a list that is empty, or ends with a comma
            elif levels and levels[-1][1] < 0 and self._text.startswith("}", self._at):
                pass
            elif self._takes("["):
                self._note(path, start)
                levels.append((path, 0))
                path = (*path, 0)
                self._check(path, levels)
                continue
            elif self._takes("{"):
                self._note(path, start)
                levels.append((path, -1))
                self._check(path, levels)
                self._skip(_BLANK)
                if not self._text.startswith("}", self._at):
                    path = self._assignment(path)
                continue
            elif not (self._skip(_STRING) or self._skip(_PLAIN)):
                raise _End
            else:
                self._note(path, start)
            next_path = self._after(levels)
            if next_path is None:
                return
            path = next_path

    def _check(self, path: Path, levels: list[tuple[Path, int]]) -> None:
        if len(path) > _DEEPEST or len(levels) > _DEEPEST:
            raise TooDeep(self._line(self._at))

    def _after(self, levels: list[tuple[Path, int]]) -> Path | None:
        """Walk over what follows a value in lists and tables; return the path of the next value, None if there is none."""
        while levels:
            path, position = levels[-1]
            self._skip(_BLANK)
            if self._takes("]" if position >= 0 else "}"):
                levels.pop()
            elif self._takes(","):
                self._skip(_BLANK)
                if position >= 0:
                    levels[-1] = path, position + 1
                    return (*path, position + 1)
                return path if self._text.startswith("}", self._at) else self._assignment(path)
            else:
                raise _End
        return None


def _unescaped(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        short, long, letter = found.groups()
        if letter:
            return _ESCAPED[letter]
        code = int(short or long, 16)
        return chr(code) if code < 0x110000 else ""

    return _ESCAPE.sub(character, text)
