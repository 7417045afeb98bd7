"""Encoded words of header values (RFC 2047) decoded, in time that grows with the value and no faster.

What is one, and what becomes of the text between two, is as :func:`email.header.decode_header` of Python 3.11 has it, which
looks for the end of each from its beginning up to the end of the value.
"""

import re
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiomilter.mail.charsets import codec_of

__all__ = ["parse_header"]

_BEGINNING: Final = re.compile(r"=\?([^?]*+)\?([qQbB])\?")
_OCTET: Final = re.compile(r"=[a-fA-F0-9]{2}")


class _Word(NamedTuple):
    """An encoded word, or text, whose encoding is None."""

    text: str
    encoding: str | None = None
    charset: str | None = None


def parse_header(val: str) -> str:
    """Decode the encoded words (RFC 2047) of a header value.

    Octets that their charset does not have become U+FFFD; a value that cannot be decoded, its charset being unknown or
    its Base64 broken, comes back as it is.
    """
    if next(_encoded_words(val), None) is None:
        return val
    words = [word for line in val.splitlines() for word in _words(line)]
    latin = val.isascii() or max(val) <= "\xff"
    try:
        return "".join(_decoded(octets, charset, latin) for octets, charset in _joined(_without_blanks(words)))
    except (ValueError, LookupError):
        return val


def _encoded_words(text: str) -> Iterator[tuple[int, int, _Word]]:
    """Yield each encoded word, with its start and end."""
    position = end = line = 0
    while (match := _BEGINNING.search(text, position)) is not None:
        if end < match.end():
            end = text.find("?=", match.end())
            if end < 0:
                return
        if line < match.end():
            line = text.find("\n", match.end())
            line = len(text) if line < 0 else line
        if end > line:
            # It would have to end on its line.
            position = match.start() + 1
            continue
        yield match.start(), end + 2, _Word(text[match.end() : end], match[2].lower(), match[1].lower())
        position = end + 2


def _words(line: str) -> Iterator[_Word]:
    """Yield the encoded words of a line and the text before, between and behind them."""
    position = 0
    for begin, end, word in _encoded_words(line):
        text = line[position:begin] if position else line[:begin].lstrip()
        if text:
            yield _Word(text)
        yield word
        position = end
    text = line[position:] if position else line.lstrip()
    if text:
        yield _Word(text)


def _without_blanks(words: list[_Word]) -> list[_Word]:
    """Return the words without what is but blank between two encoded ones."""
    kept = words[:1]
    for before, word, after in zip(words, words[1:], [*words[2:], _Word("")], strict=False):
        if not (before.encoding and after.encoding and word.text.isspace()):
            kept.append(word)
    return kept


def _joined(words: list[_Word]) -> Iterator[tuple[bytes, str | None]]:
    """Yield the octets of words that follow each other and have the same charset."""
    octets: list[bytes] = []
    charset = None
    for word in words:
        if octets and word.charset != charset:
            yield (b"" if charset is not None else b" ").join(octets), charset
            octets = []
        charset = word.charset
        octets.append(_octets(word))
    yield (b"" if charset is not None else b" ").join(octets), charset


def _octets(word: _Word) -> bytes:
    if word.encoding == "b":
        return a2b_base64((word.text + "=" * (-len(word.text) % 4)).encode("raw-unicode-escape"))
    text = word.text
    if word.encoding == "q":
        text = _OCTET.sub(lambda match: chr(int(match[0][1:], 16)), text.replace("_", " "))
    return text.encode("raw-unicode-escape")


def _decoded(octets: bytes, charset: str | None, latin: bool) -> str:
    if not octets:
        return ""
    if charset is None:
        # Characters outside Latin-1 were written as escapes.
        return octets.decode("latin-1" if latin else "raw-unicode-escape")
    codec = codec_of(charset)
    if codec is not None:
        return octets.decode(codec, "replace")
    if not charset:
        raise LookupError("expected a charset, found none")
    return octets.decode("ascii")
