"""Header values as a mail program displays them: unfolded, encoded words decoded.

Reads leniently, as mail programs do: an encoded word may be long, hold blanks, or touch its neighbours.  Time is linear in the
length of the value, whatever it holds.

Source: RFC 2047 sections 2 to 6; RFC 5322 section 2.2.3 (folding).
"""

import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Iterator
from typing import Final

from aiomilter.mail.charsets import codec_of

__all__ = ["header_text"]

_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
# RFC 2231 section 5 allows a language behind the charset.
_BEGINNING: Final = re.compile(r"=\?([^?*\s]{1,64})(?:\*[^?\s]{0,64})?\?([bBqQ])\?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# Those that stand for no octet.
_NO_OCTET: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_ONE_LINE: Final = str.maketrans("\r\n\0", "   ")


def header_text(value: str) -> str:
    """Return a header value as text of one line that can be encoded: no CR, LF, NUL and no surrogates.

    An encoded word with an unknown charset or broken Base64 stays as it is.  Octets that are not in their charset become
    U+FFFD, and so do those of raw text that is not UTF-8.

    Source: RFC 2047 section 6.
    """
    text = _FOLD.sub("", value)
    if "=?" in text:
        text = _decoded(_NO_OCTET.sub("\ufffd", text))
    if not text.isprintable():
        text = _SURROGATE.sub("\ufffd", text).translate(_ONE_LINE)
    return text


def _decoded(text: str) -> str:
    """Return a text with its encoded words decoded; blanks between two of them are dropped."""
    parts: list[str] = []
    # Words in a row of one charset are decoded as one: senders cut characters in two.
    run, codec, last = bytearray(), "", 0
    for start, end, word_codec, octets in _words(text):
        between = text[last:start]
        in_a_row = bool(codec) and (not between or between.isspace())
        if not in_a_row or word_codec != codec:
            parts.append(run.decode(codec, "replace") if codec else "")
            run.clear()
            codec = word_codec
        if not in_a_row:
            parts.append(between)
        run += octets
        last = end
    parts.append(run.decode(codec, "replace") if codec else "")
    parts.append(text[last:])
    return "".join(parts)


def _words(text: str) -> Iterator[tuple[int, int, str, bytes]]:
    """Yield start, end, codec and octets of each valid encoded word."""
    position = 0
    while (beginning := _BEGINNING.search(text, position)) is not None:
        end = text.find("?=", beginning.end())
        if end < 0:
            return
        position = end + 2
        codec = codec_of(beginning[1])
        if codec is None or codec == "idna":  # a codec of Python, but no charset; it raises, and is slow
            continue
        octets = text[beginning.end() : end].encode("utf-8", "surrogateescape")
        try:
            octets = a2b_qp(octets, header=True) if beginning[2] in "qQ" else a2b_base64(octets + b"===")
        except Error:
            continue
        yield beginning.start(), position, codec, octets
