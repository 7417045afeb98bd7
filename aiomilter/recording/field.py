"""Header fields without what they tell: their structure, folds, charsets and sizes stay."""

import re
from collections.abc import Callable
from typing import Final

from aiomilter.recording.redaction import Redaction, is_charset
from aiomilter.recording.vocabulary import FIELDS, OF_FIELD

__all__ = ["boundary_of", "field_name", "field_value", "is_message"]

_NOTHING: Final[frozenset[bytes]] = frozenset()
_DATE: Final = re.compile(
    rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), {1,2})?[0-9]{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}"
    rb" [0-9]{2}:[0-9]{2}(?::[0-9]{2})? [+-][0-9]{4}"
)
_DATED: Final = frozenset({b"date", b"resent-date", b"received"})
_STRUCTURED: Final = frozenset({b"content-type", b"content-disposition"})
_VALUE: Final = rb'("[^"]{0,1000}"?|[^;\s"]{0,1000})'
_PARAMETER: Final = re.compile(rb"(?i)\b(boundary|charset|(?:file)?name)(\*?[0-9]{0,3}\*?\s{0,20}=\s{0,20})" + _VALUE)
_BOUNDARY: Final = re.compile(rb"(?i)\bboundary\s{0,20}=\s{0,20}" + _VALUE)
_MESSAGE: Final = re.compile(rb"(?i)\s*message/(?:rfc822|global)\b")
_EXTENSION: Final = re.compile(
    rb"(?i)\.(?:exe|com|bat|cmd|scr|pif|js|jse|vbs|vbe|wsf|hta|lnk|jar|ps1|iso|img|zip|rar|7z|gz|tar|pdf|docx?|docm|xlsx?|xlsm"
    rb"|pptx?|rtf|odt|ods|html?|txt|csv|xml|json|eml|ics|vcf|p7s|p7m|asc|png|jpe?g|gif|svg|bmp|tiff?|webp|mp[34]|wav)\"?$"
)


def field_name(redaction: Redaction, name: bytes) -> bytes:
    """Return the name of a field, or its token."""
    if name.lower() in FIELDS:
        return name
    return name[:2] + redaction.words(name[2:]) if name[:2] in (b"X-", b"x-") else redaction.words(name)


def field_value(redaction: Redaction, name: bytes, value: bytes) -> bytes:
    """Return the value of a field with tokens in place of what is not of its format.

    Args:
        redaction: Makes the tokens.
        name: Of the field, as it was sent.
        value: Any octets, folds included.
    """
    key = name.lower()
    kept = OF_FIELD.get(key, _NOTHING)
    if key == b"mime-version" and value.strip() == b"1.0":
        return value
    if key in _DATED:
        return _around(_DATE, value, lambda text: redaction.text(text, kept), lambda match: match[0])
    if key in _STRUCTURED:
        return _around(
            _PARAMETER, value, lambda text: redaction.text(text, kept), lambda match: _parameter(redaction, match)
        )
    return redaction.text(value, kept)


def _around(
    pattern: re.Pattern[bytes],
    octets: bytes,
    other: Callable[[bytes], bytes],
    found: Callable[["re.Match[bytes]"], bytes],
) -> bytes:
    """Return octets with what matches replaced in one way, and what lies between in another."""
    made, position = [], 0
    for match in pattern.finditer(octets):
        made += [other(octets[position : match.start()]), found(match)]
        position = match.end()
    return b"".join([*made, other(octets[position:])])


def _parameter(redaction: Redaction, match: "re.Match[bytes]") -> bytes:
    name, sign, value = match.groups()
    if name.lower() == b"charset" and is_charset(value.strip(b'"')):
        return match[0]
    extension = _EXTENSION.search(value) if name.lower().endswith(b"name") else None
    end = len(value) if extension is None else extension.start()
    return name + sign + redaction.words(value[:end]) + value[end:]


def boundary_of(value: bytes) -> bytes | None:
    """Return the boundary that a Content-Type names; None if it names none."""
    match = _BOUNDARY.search(value)
    return match[1].strip(b'"') or None if match is not None else None


def is_message(value: bytes) -> bool:
    """Return whether a Content-Type is that of a message in a message."""
    return _MESSAGE.match(value) is not None
