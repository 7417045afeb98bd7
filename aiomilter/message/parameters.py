"""Values with parameters, such as Content-Type, and all names that one may give to a file.

Reads leniently, in linear time.  Programs disagree on odd values, and who sends malware knows that: so every reading of a
file's name is returned, and the one that is most dangerous is *the* name.

Source: RFC 2045 section 5.1; RFC 2183 section 2; RFC 2231 sections 3 and 4.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from aiomilter.mail.encoded_words import header_text
from aiomilter.message.transfer import codec

__all__ = ["Parametrized", "dangerous", "extension", "filenames", "read"]

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
_MAX_NAME: Final = 1_000
"""Characters of a file's name, from its end, where the extension is."""

# Bidirectional controls, zero-width characters, and other controls: a reader does not see them.
_UNSEEN: Final = re.compile("[\x01-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_EXTENSION: Final = re.compile(r"\.([^.\s]{1,20})\Z")
_DANGEROUS: Final = re.compile(
    r"ade|adp|apk|app|appx|bas|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|gadget|hta|inf|ins|"
    r"iso|isp|jar|js|jse|lib|lnk|mde|msc|msh|msi|msp|mst|nsh|pif|ps1|ps1xml|psc1|reg|"
    r"scf|scr|sct|shb|shs|svg|sys|url|vb|vbe|vbs|vhd|vhdx|vxd|wsc|wsf|wsh|xll|docm|"
    r"dotm|xlsm|xltm|xlam|pptm|potm|ppam|ppsm|sldm|one"
)


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
                return _unquoted(value)
        return _continued(self.parameters, name)


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
    names = [name for name, _ in found]
    plain = {name.partition("*")[0] for name in names if "*" in name}
    return Parametrized(
        main[0].lower() if main else "",
        tuple(found),
        len(value) > _MAX_VALUE or len(set(names)) < len(names) or not plain.isdisjoint(names),
    )


def _unquoted(value: str) -> str:
    quoted = _QUOTED.match(value)
    return _ESCAPE.sub(r"\1", quoted[1]) if quoted else value.split(" ")[0].split("\t")[0]


def _continued(parameters: Iterable[tuple[str, str]], name: str) -> str | None:
    """Return the value of a parameter that is written in sections, or with a charset."""
    sections: dict[int, tuple[str, bool]] = {}
    for found, value in parameters:
        match = _SECTION.fullmatch(found)
        if match is not None and match[1] == name and (match[2] or match[3]):
            sections.setdefault(int(match[2] or 0), (_unquoted(value), match[3] is not None))
    if 0 not in sections:
        return None
    charset, octets = "utf-8", b""
    for number in range(len(sections)):
        if number not in sections:
            break
        value, encoded = sections[number]
        if number == 0 and encoded and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets += unquote_to_bytes(value) if encoded else value.encode("utf-8", "surrogateescape")
    return octets.decode(codec(charset) or "utf-8", "replace")


def filenames(values: Sequence[tuple[Parametrized, str]]) -> tuple[str, ...]:
    """Return every reading of a file's name, the most dangerous one first.

    Args:
        values: Each value, with the name of its parameter that is the file's.
    """
    found: dict[str, None] = {}
    for value, name in values:
        for reading in _readings(value, name):
            # What follows a NUL may be dropped, or not; blanks and dots at the end are dropped by Windows.
            for text in (reading, *reading.split("\0")[:1]):
                visible = _UNSEEN.sub("", text.replace("\0", ""))
                for candidate in (visible, re.split(r"[/\\]", visible)[-1]):
                    if clean := candidate.strip().rstrip(". "):
                        found[clean[-_MAX_NAME:]] = None
    paths = [name for name in found if "/" in name or "\\" in name]
    return tuple(sorted((name for name in found if name not in paths), key=_harmless)) + tuple(paths)


def _readings(value: Parametrized, name: str) -> Iterable[str]:
    for found, written in value.parameters:
        if found == name:
            texts = [_unquoted(written), written.strip('"'), written]
            quoted = _QUOTED.match(written)
            if quoted:
                texts += [quoted[1], written[quoted.end() :]]
            for text in dict.fromkeys(texts):
                yield text
                if "=?" in text:
                    yield header_text(text)
    continued = _continued(value.parameters, name)
    if continued is not None:
        yield continued
        yield header_text(continued)


def extension(name: str) -> str:
    """Return what follows the last dot, in lower case; "" if there is none."""
    match = _EXTENSION.search(name)
    return match[1].lower() if match else ""


def dangerous(name: str) -> bool:
    """Return whether a program, or a document that holds programs, has such a name."""
    return _DANGEROUS.fullmatch(extension(name)) is not None


def _harmless(name: str) -> bool:
    return not dangerous(name)
