"""Text as a header field carries it: folded, and in encoded words where it is not ASCII.

Source: RFC 2047 sections 2, 4 and 5; RFC 5322 section 2.2.3.
"""

import re
from binascii import b2a_base64
from typing import Final

__all__ = ["encoded_text"]

_LINE: Final = 76
# Octets of UTF-8 in one encoded word of 75 characters: 75 less "=?utf-8?b?" and "?=", in groups of three.
_WORD: Final = 45
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_PIECES: Final = re.compile(r"[ \t]*[^ \t]+")


def encoded_text(text: str, used: int = 0) -> str:
    """Return text as the value of an unstructured field; folds as LF and blank.

    Control characters become spaces, surrogates U+FFFD: what is returned never breaks out of its field.

    Args:
        text: Any text.
        used: Characters of the first line that are taken: name, colon and space.
    """
    clean = _SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", text)).strip()
    if clean.isascii() and "=?" not in clean and all(len(piece) < 900 for piece in _PIECES.findall(clean)):
        return _folded(_PIECES.findall(clean), used)
    # The first word shares its line with the name.
    words, octets, room = [], b"", max(12, (_LINE - used - 12) // 4 * 3)
    for character in clean:
        more = character.encode()
        if len(octets) + len(more) > room:
            words.append(octets)
            octets, room = b"", _WORD
        octets += more
    words.append(octets)
    return _folded([f" =?utf-8?b?{b2a_base64(word, newline=False).decode()}?=" for word in words], used).lstrip(" ")


def _folded(pieces: list[str], used: int) -> str:
    """Return pieces, each with the blanks before it, in lines as short as they get."""
    lines, line = [], ""
    for piece in pieces:
        if line and used + len(line) + len(piece) > _LINE:
            lines.append(line)
            line, used = "", 0
        line += piece
    return "\n".join([*lines, line])
