"""Text between Python and the wire: what strings packets may carry, and how they become octets.

Text from a peer is read as UTF-8 with surrogateescape, so that any octets come back unchanged.  Text for a peer is
checked here, and every check raises :class:`LocalProtocolError`.
"""

import re
from typing import Final

from aiomilter.exceptions import LocalProtocolError

__all__ = ["decode", "encode", "header_name", "header_value", "one_line", "pack_strings"]

# The rest of a line end once folds are written as LF and blank.
_BROKEN_FOLD: Final = re.compile(r"\n(?![ \t])")


def decode(octets: bytes) -> str:
    """Return octets from a peer as text; any octets do."""
    return octets.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Return the octets of a text.

    Raises:
        LocalProtocolError: The text is not a ``str``, or holds a surrogate that stands for no octet.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"expected text that UTF-8 can carry, found {error.reason}") from error
    except AttributeError:
        raise LocalProtocolError(f"expected str, found {type(text).__name__}") from None


def pack_strings(*texts: str) -> bytes:
    """Return the octets of each text, each with the NUL that ends it.

    Raises:
        LocalProtocolError: A text holds a NUL of its own, and would arrive as two (P-123), or cannot be encoded.
    """
    octets = b"".join([encode(text) + b"\0" for text in texts])
    if octets.count(0) != len(texts):
        raise LocalProtocolError("expected text, found NUL in it")
    return octets


def _check_encodable(text: str) -> None:
    if not text.isascii():
        encode(text)


def one_line(text: str, what: str, *, empty: bool = False) -> str:
    """Return ``text`` if it can be one string of a packet that the MTA reads as one line.

    Raises:
        LocalProtocolError: It is not a ``str``, holds CR, LF or NUL, cannot be encoded, or is empty where ``empty`` is
            false.

    Source: aiomilter/help/protocol.rst, P-119, P-122 and P-123.
    """
    if not isinstance(text, str):
        raise LocalProtocolError(f"{what}: expected str, found {type(text).__name__}")
    if "\r" in text or "\n" in text or "\0" in text:
        raise LocalProtocolError(f"{what}: expected one line, found CR, LF or NUL")
    if not text and not empty:
        raise LocalProtocolError(f"{what}: expected text, found nothing")
    _check_encodable(text)
    return text


def header_name(name: str) -> str:
    """Return ``name`` if it is a header field's name: printable ASCII, no blank, no colon, at least one character.

    Raises:
        LocalProtocolError: It is not.

    Source: RFC 5322 section 3.6.8; aiomilter/help/protocol.rst, P-112.
    """
    if not isinstance(name, str):
        raise LocalProtocolError(f"header name: expected str, found {type(name).__name__}")
    # A regular expression costs three times as much, and nearly every message gets a field.
    if not (name and name.isascii() and name.isprintable()) or " " in name or ":" in name:
        raise LocalProtocolError(f"header name: expected printable ASCII without colon or blank, found {name!a:.80}")
    return name


def header_value(value: str) -> str:
    """Return ``value`` as it goes to the MTA: folds as LF and blank, a lone CR as a space.

    Raises:
        LocalProtocolError: It is not a ``str``, cannot be encoded, holds NUL, or a line end that no blank follows (it
            would end the field and let the rest pass for a field, or for the body).

    Source: RFC 5322 section 2.2.3; aiomilter/help/protocol.rst, P-113.
    """
    if not isinstance(value, str):
        raise LocalProtocolError(f"header value: expected str, found {type(value).__name__}")
    if "\0" in value:
        raise LocalProtocolError("header value: expected text, found NUL")
    if "\r" in value:
        value = value.replace("\r\n", "\n").replace("\r", " ")
    if "\n" in value and _BROKEN_FOLD.search(value):
        raise LocalProtocolError("header value: expected a space or tab after each line end, found none")
    _check_encodable(value)
    return value
