"""Values with parameters, such as Content-Type.

Reads leniently, in linear time, and tells where programs disagree.

Source: RFC 2045 section 5.1; RFC 2183 section 2; RFC 2231 sections 3 and 4.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from aiomilter.message.transfer import codec

__all__ = ["Parametrized", "continued", "read", "section", "unquoted"]

_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*+"?)|\([^()]*+\)')
_MAIN: Final = re.compile(r"[^;\s(]+")
# Semicolons are taken with or without a parameter: each of them would look at all that follow it.
_PARAMETER: Final = re.compile(r';[\s;]*+(?:([^\s=;"]*+)\s*+=\s*+("(?:[^"\\]|\\.)*+"?[^;]*+|[^;]*+))?')
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_SECTION: Final = re.compile(r"(.+?)(?:\*([0-9]{1,4}))?(\*)?")
_MOST: Final = 200
"""Parameters of a value."""
_MAX_VALUE: Final = 16_384
"""Characters of a value that are read; readers disagree on a longer one."""


@dataclass(frozen=True, slots=True)
class Parametrized:
    """A value with parameters.

    Args:
        main: What stands before the first semicolon, in lower case.
        parameters: Name in lower case and value of each, as written, quotes included.
        conflict: Whether a parameter is there twice, so that readers disagree.
    """

    main: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    conflict: bool = field(default=False)

    def get(self, name: str) -> str | None:
        """Return the first value of a parameter without quotes; continued and encoded ones as RFC 2231 has them."""
        for found, value in self.parameters:
            if found == name:
                return unquoted(value)
        return continued(self.parameters, name)


def read(value: str) -> Parametrized:
    """Return a value with its parameters."""
    text = _COMMENT.sub(lambda match: match[1] or " ", _FOLD.sub("", value[:_MAX_VALUE]))
    main = _MAIN.match(text.lstrip())
    found: list[tuple[str, str]] = []
    for match in _PARAMETER.finditer(text):
        if match[2] is None:
            continue
        found.append((match[1].lower(), match[2].strip()))
        if len(found) >= _MOST:
            break
    names = [(name.partition("*")[0], *(section(name) or (-1, False))[:1]) for name, _ in found]
    bases = {name for name, number in names if number >= 0}
    return Parametrized(
        main[0].lower() if main else "",
        tuple(found),
        len(value) > _MAX_VALUE or len(set(names)) < len(names) or any((name, -1) in names for name in bases),
    )


def section(name: str) -> tuple[int, bool] | None:
    """Return number and whether it is encoded, of a parameter's name that has an asterisk."""
    match = _SECTION.fullmatch(name)
    return (int(match[2] or 0), match[3] is not None) if match and (match[2] or match[3]) else None


def unquoted(value: str) -> str:
    """Return a value without quotes; one that has none ends at a blank."""
    quoted = _QUOTED.match(value)
    return _ESCAPE.sub(r"\1", quoted[1]) if quoted else value.split(" ")[0].split("\t")[0]


def continued(parameters: Iterable[tuple[str, str]], name: str) -> str | None:
    """Return the value of a parameter that is written in sections, or with a charset."""
    sections: dict[int, tuple[str, bool]] = {}
    for found, value in parameters:
        match = _SECTION.fullmatch(found)
        if match is not None and match[1] == name and (match[2] or match[3]):
            sections.setdefault(int(match[2] or 0), (unquoted(value), match[3] is not None))
    if 0 not in sections:
        return None
    charset, octets = "utf-8", b""
    for number in range(len(sections)):
        if number not in sections:
            break
        value, encoded = sections[number]
        if number == 0 and encoded and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        written = value.encode("utf-8", "surrogateescape")
        octets += unquote_to_bytes(written) if encoded else written
    return octets.decode(codec(charset) or "utf-8", "replace")
