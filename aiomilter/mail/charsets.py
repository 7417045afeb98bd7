"""Names of charsets as mail has them, without keeping the unknown ones in memory.

Python keeps every name that it was ever asked for, known or not, in every spelling, for the life of the process.  So it is
asked only for names that it is known to have, in one spelling.
"""

import encodings
import pkgutil
from encodings.aliases import aliases
from functools import cache
from typing import Final

__all__ = ["codec_of"]

# Codecs of Python that are no charsets.  The first takes time that grows with the square of the text.
_NO_CHARSETS: Final = frozenset(
    {"punycode", "unicode_escape", "raw_unicode_escape", "undefined", "aliases", "mbcs", "oem"}
    | {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
)
_MAX_NAME: Final = 64
"""Characters; the longest that there is has 40 (RFC 2978 section 2.3)."""


def codec_of(charset: str) -> str | None:
    """Return Python's one name for a charset, whatever its spelling; None for an unknown one."""
    if len(charset) > _MAX_NAME or not charset.isascii():
        return None
    name = encodings.normalize_encoding(charset).lower()
    return _codecs().get(name) or _codecs().get(name.replace(".", "_"))


@cache
def _codecs() -> dict[str, str]:
    """Return the names of Python's codecs, as Python writes them, with their modules."""
    modules = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    known = {name: name for name in modules} | aliases
    return {name: codec for name, codec in known.items() if codec in modules and codec not in _NO_CHARSETS}
