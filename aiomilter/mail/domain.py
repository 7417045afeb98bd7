"""Domain names of mail addresses in the normal form, for comparing and lookups.

Source: RFC 5890 section 2.3.2.1; RFC 5891 section 4.
"""

import re
from functools import lru_cache
from typing import Final

__all__ = ["MAX_NAME", "ascii_name"]

MAX_NAME: Final = 253
"""Characters of a domain name, as text without the trailing dot (RFC 1035 section 2.3.4)."""

# RFC 3490 section 3.1: these separate labels as the full stop does.
_DOTS: Final = re.compile("[\u3002\uff0e\uff61]")


def ascii_name(name: str) -> str | None:
    """Return a domain name with its U-labels converted to A-labels, otherwise unchanged.

    Returns:
        The name in ASCII, or None when a label has no ASCII form.

    Source: RFC 5891 section 4, with the mapping of UTS 46.
    """
    if name.isascii():
        return name
    # The longest U-label that fits 63 octets is shorter than 63 characters; encoding is quadratic in what it is given.
    if len(name) > MAX_NAME:
        return None
    return _converted(name)


# A conversion takes half a millisecond, and the names of one message come again and again.
@lru_cache(maxsize=1_000)
def _converted(name: str) -> str | None:
    import idna

    labels = []
    for label in _DOTS.sub(".", name).split("."):
        if label.isascii():
            labels.append(label)
            continue
        try:
            labels.append(idna.encode(label, uts46=True).decode("ascii"))
        except (idna.IDNAError, UnicodeError, ValueError, IndexError):
            return None
    return ".".join(labels)
