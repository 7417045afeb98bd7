"""All names that a mail program may give to the file in a part.

Programs disagree on odd values, and senders of malware use that: so every reading of a file's name is returned, and the most
dangerous one is *the* name.

Source: RFC 2183 section 2.3; RFC 2231 sections 3 and 4; RFC 2047 section 5 (encoded words, which do not belong here).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar
from urllib.parse import unquote, unquote_to_bytes

from aiomilter.mail.encoded_words import header_text
from aiomilter.message.parameters import Parametrized, continued, read, section, unquoted
from aiomilter.message.transfer import codec

__all__ = ["MOST", "dangerous", "extension", "filenames", "seen", "separators", "spellings"]

_T = TypeVar("_T")

_MAX_NAME: Final = 1_000
"""Characters of a file's name, from its end, where the extension is."""
_MAX_VALUE: Final = 65_536
"""Characters of a value, from its beginning and from its end."""
MOST: Final = 100
"""Readings of the names of one part that are spelled out; a long one counts as several."""
_MOST_NAMES: Final = 8
"""Names in one value."""

# Bidirectional controls, zero-width characters, and other controls: a reader does not see them.
_UNSEEN: Final = re.compile("[\x01-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_()\[\],-](?:[A-Za-z0-9_ ()\[\],.-]*[A-Za-z0-9_()\[\],-])?")
"""A name that has one reading."""
_EXTENSION: Final = re.compile(r"\.([^.\s]{1,20})\Z")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)
_BETWEEN_QUOTES: Final = re.compile(r'"\s*+"')
_WORD: Final = re.compile(r"=\?[^?\s]{1,80}\?([bBqQ])\?")
_FOLD: Final = re.compile(r"\r?\n[ \t]++")
_LINE_END: Final = re.compile(r"\r?\n(?=[ \t])")
_NO_NAME: Final = " \t\"'<>"
_DANGEROUS: Final = re.compile(
    r"ade|adp|apk|app|appx|bas|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|gadget|hta|inf|ins|"
    r"iso|isp|jar|js|jse|lib|lnk|mde|msc|msh|msi|msp|mst|nsh|pif|ps1|ps1xml|psc1|reg|"
    r"scf|scr|sct|shb|shs|svg|sys|url|vb|vbe|vbs|vhd|vhdx|vxd|wsc|wsf|wsh|xll|docm|"
    r"dotm|xlsm|xltm|xlam|pptm|potm|ppam|ppsm|sldm|one"
)
# A parameter wherever it stands: some programs do not ask for a semicolon before it, or look for it in quotes.
_ANYWHERE: Final = re.compile(r'(?<![^\s;,"\'(<=])(filename|name)\s*+(\*[0-9]{0,4}+\*?+)?\s*+=\s*+', re.IGNORECASE)
_ASSIGNED: Final = re.compile(r";[^;=]*+=")


def extension(name: str) -> str:
    """Return what follows the last dot, in lower case; "" if there is none."""
    match = _EXTENSION.search(name)
    return match[1].lower() if match else ""


def dangerous(name: str) -> bool:
    """Return whether a program, or a document that holds programs, has such a name."""
    return _DANGEROUS.fullmatch(extension(name)) is not None


def filenames(values: Sequence[tuple[str, str]], most: int = MOST) -> tuple[tuple[str, ...], int]:
    """Return every reading of a file's name, the most dangerous one first, and how many readings had to be spelled out.

    Args:
        values: Each value as written, with the name of its parameter that is the file's.
        most: Readings that are looked at, those of plain names not counted; a long one counts as several.
    """
    found: dict[str, None] = {}
    spelled = 0
    for text in _texts(values):
        if not _PLAIN.fullmatch(text):
            spelled += 1 + len(text) // 64
            if spelled > most:
                if not found and (name := _visible(text)):
                    found[name] = None
                break
        for name in spellings(text):
            found[name] = None
    paths = [name for name in found if "/" in name or "\\" in name]
    return tuple(sorted((name for name in found if name not in paths), key=_harmless)) + tuple(paths), spelled


def separators(values: Iterable[tuple[str, str]]) -> int:
    """Return how many parameters, values and comments begin in some values, at most: each takes time to read.

    Args:
        values: As for :func:`filenames`.
    """
    return sum(_cut(value).count(each) for value, _ in values for each in ";=(")


def seen(values: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return names that are seen without reading the values, the most dangerous one first: there may be others.

    Args:
        values: As for :func:`filenames`.
    """
    places = [
        (text, match.end())
        for text, name in ((_cut(value), name) for value, name in values)
        for match in _ANYWHERE.finditer(text)
        if match[1].lower() == name
    ]
    found = [_visible(unquoted(_value(text[at : at + 4 * _MAX_NAME]).strip())) for text, at in _ends(places)]
    return tuple(sorted(dict.fromkeys(filter(None, found)), key=_harmless))


def _cut(value: str) -> str:
    return value if len(value) <= 2 * _MAX_VALUE else value[:_MAX_VALUE] + value[-_MAX_VALUE:]


def _visible(text: str) -> str:
    return _UNSEEN.sub("", text.replace("\0", ""))[-_MAX_NAME:].strip()


def _texts(values: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the readings of the parameters, each once."""
    known: set[str] = set()
    for whole, name in values:
        value = _cut(whole)
        for unfolded in dict.fromkeys((_LINE_END.sub("", value), _FOLD.sub("", value))):
            for text in _readings(unfolded, name):
                text = text[-4 * _MAX_NAME :]
                if text not in known:
                    known.add(text)
                    yield text


def _readings(text: str, name: str) -> Iterator[str]:
    value = read(text)
    for found in _ends([found for key, found in value.parameters if key == name]):
        yield from _quoting(found)
    sections = [(section(key), found) for key, found in value.parameters if key.partition("*")[0] == name]
    yield from _joined(value, name, [(place[0], place[1], found) for place, found in sections if place])
    for at in _ends([match.end() for match in _ANYWHERE.finditer(text) if match[1].lower() == name]):
        yield from _quoting(_value(text[at : at + 4 * _MAX_NAME]).strip())


def _ends(found: list[_T]) -> list[_T]:
    """Return the first ones and the last ones: programs take either."""
    half = _MOST_NAMES // 2
    return found if len(found) <= _MOST_NAMES else [found[0], found[-1], *found[1:half], *found[-half:-1]]


def _value(text: str) -> str:
    """Return a value up to the end of its quotes, or without any, up to the next parameter."""
    if text.startswith('"'):
        match = _QUOTED.match(text)
        return match[0] if match else text
    following = _ASSIGNED.search(text)
    return text[: following.start()] if following else text


def _quoting(written: str) -> Iterator[str]:
    """Yield a value without its quotes, and what becomes of it where a program knows them not so well."""
    yield (bare := unquoted(written))
    if written in (bare, f'"{bare}"') and _PLAIN.fullmatch(bare):
        return
    yield written.strip('"')
    yield written
    quoted = _QUOTED.match(written)
    if quoted:
        yield quoted[1]
        yield written[quoted.end() :]
        yield _BETWEEN_QUOTES.sub("", written)
    else:
        yield "".join(written.split())


def _joined(value: Parametrized, name: str, sections: list[tuple[int, bool, str]]) -> Iterator[str]:
    """Yield what sections are together, and each alone: numbers may lack, be there twice, or be in another order."""
    if not sections:
        return
    whole = continued(value.parameters, name)
    if whole is not None:
        yield whole
    sections = [(number, encoded, unquoted(text)) for number, encoded, text in sections]
    first: dict[int, tuple[int, bool, str]] = {}
    last: dict[int, tuple[int, bool, str]] = {}
    for each in sections:
        first.setdefault(each[0], each)
        last[each[0]] = each
    by_number = sorted(sections, key=lambda each: each[0])
    orders = [
        by_number,
        sections,
        [first[number] for number in sorted(first)],
        [last[number] for number in sorted(last)],
        *([each] for each in _ends(sections)[:4]),
    ]
    for order in orders:
        charset, prefix = "", order[0][2]
        if prefix.count("'") >= 2:
            charset, _, prefix = prefix.split("'", 2)
        texts = [prefix, *(text for _, _, text in order[1:])]
        yield unquote("".join(texts), errors="replace")
        yield "".join(texts)
        yield "".join(unquote(text) if each[1] else text for each, text in zip(order, texts, strict=True))
        known = codec(charset)
        if known is not None and known != "utf_8":
            yield unquote_to_bytes("".join(texts).encode("utf-8", "surrogateescape")).decode(known, "replace")


def spellings(text: str) -> Iterator[str]:
    """Yield what a program may make of a name, itself first: decoded, without invisible characters, and without its path."""
    if _PLAIN.fullmatch(text):
        yield text[-_MAX_NAME:]
        return
    for reading in _decoded(text):
        # What follows a NUL may be dropped, or not; blanks and dots at the end are dropped by Windows.
        for whole in (reading, *reading.split("\0")[:1]):
            visible = _UNSEEN.sub("", whole.replace("\0", ""))[-2 * _MAX_NAME :]
            for candidate in dict.fromkeys(_parts(visible)):
                if clean := candidate.strip().rstrip(". "):
                    yield clean[-_MAX_NAME:]


def _decoded(text: str) -> Iterator[str]:
    yield text
    if "=?" in text:
        yield header_text(text)
        # Some take any charset for their own, and a word that has no end for one that has.
        word = _WORD.sub(r"=?utf-8?\1?", text)
        yield header_text(word if word.rstrip('" ').endswith("?=") else word + "?=")
    if "%" in text:
        yield unquote(text, errors="replace")


def _parts(visible: str) -> Iterator[str]:
    yield visible
    yield re.split(r"[/\\]", visible)[-1]
    bare = unicodedata.normalize("NFKC", visible).strip(_NO_NAME + "/\\")
    bare = re.split(r"[/\\]", bare)[-1].strip(_NO_NAME)
    yield bare
    # What follows a colon is no part of the name on Windows.
    yield from bare.split(":", 2)[:2]


def _harmless(name: str) -> bool:
    return not dangerous(name)
