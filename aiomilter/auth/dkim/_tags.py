"""Tag lists: ``name=value`` with semicolons between, as signatures and key records are written.

Source: RFC 6376 section 3.2; RFC 8616 section 4.
"""

import binascii
import re
from typing import Final

__all__ = ["BLANKS", "base64_octets", "quoted_printable", "quoted_printable_text", "tag_list", "words"]

BLANKS: Final = " \t\r\n"
"""What may stand round names and values, and inside many values: blanks and folds."""

# No value has one, nor has a name; blanks and folds may stand between.
_CONTROL: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CONTROL_OCTETS: Final = bytes(each for each in range(128) if _CONTROL.match(chr(each)))
# Names of most tags, which need no look at their letters.
_USUAL: Final = frozenset(["v", "a", "b", "bh", "c", "d", "h", "i", "k", "l", "p", "q", "s", "t", "x", "cv"])
_MAX_TAGS: Final = 256
_BLANK_OCTETS: Final = BLANKS.encode("ascii")
_NO_BLANKS: Final = str.maketrans("", "", BLANKS)
# Only upper case digits (RFC 6376 section 2.11); senders take lower case, too.
_HEX: Final = re.compile(b"=([0-9A-Fa-f]{2})")
# dkim-safe-char: visible, and neither ";" nor "=" nor "|", which stands between copied fields.
_SAFE: Final = frozenset(range(0x21, 0x7F)) - frozenset(b";=|")


def tag_list(text: str) -> dict[str, str] | None:
    """Return the tags of a list in their order, values without the blanks at their ends; None for other text.

    One semicolon at the end is allowed.  A name that stands twice makes the whole list invalid, and so do more than 256
    tags: signatures have a dozen, and each tag costs time.
    """
    parts = text.split(";", _MAX_TAGS + 1)
    if len(parts) > _MAX_TAGS + 1 or _has_controls(text):
        return None
    if len(parts) > 1 and not parts[-1].strip(BLANKS):
        parts.pop()
    tags: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(BLANKS)
        if not equals or (name not in _USUAL and not _is_name(name)):
            return None
        tags[name] = value.strip(BLANKS)
    return tags if len(tags) == len(parts) else None


def _has_controls(text: str) -> bool:
    """Whether a text has control characters other than blanks and folds."""
    if text.isascii():
        # A fourth of what the search costs.
        return len(text.encode().translate(None, _CONTROL_OCTETS)) < len(text)
    return _CONTROL.search(text) is not None


def _is_name(name: str) -> bool:
    """Whether it is a letter, then letters, digits and "_"."""
    return name.isascii() and name.isidentifier() and name[0] != "_"


def words(value: str, limit: int = -1) -> list[str]:
    """Return the parts of a value between colons, without blanks round them; empty ones are left out.

    Args:
        value: The value.
        limit: Colons that are looked at; what follows the last of them is one part.  -1 for all.
    """
    return [word for part in value.split(":", limit) if (word := part.strip(BLANKS))]


def base64_octets(value: str) -> bytes | None:
    """Return what a value holds in base64, in which blanks may stand anywhere; None if it is not base64."""
    try:
        return binascii.a2b_base64(value.encode("ascii").translate(None, _BLANK_OCTETS), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return None


def quoted_printable_text(value: str) -> str:
    """Return text of DKIM's own quoted-printable, in which blanks and folds do not count.

    Other text stays as it is: it is shown, and proves nothing.

    Source: RFC 6376 section 2.11.
    """
    octets = value.translate(_NO_BLANKS).encode("utf-8", "surrogateescape")
    return _HEX.sub(lambda found: bytes.fromhex(found[1].decode()), octets).decode("utf-8", "surrogateescape")


def quoted_printable(text: str) -> str:
    """Return text as DKIM's own quoted-printable, in ASCII.

    Source: RFC 6376 section 2.11.
    """
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if octet in _SAFE else f"={octet:02X}" for octet in octets)
