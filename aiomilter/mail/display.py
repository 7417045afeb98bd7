"""Text that others wrote, as it may be shown: in a header field, a log line or on a terminal."""

import re

__all__ = ["MAX_SHOWN", "visible"]

MAX_SHOWN = 256
"""Octets that are shown unless another limit is given."""

# Not in SMTPUTF8 mail either: control characters, line separators, what turns the direction of text round, surrogates
# (octets that are not UTF-8), what Unicode has set aside as no character.
_INVISIBLE = {
    False: re.compile(r"[^ -~]+"),
    True: re.compile(
        r"[^ -~\u00a0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufefe\uff00-\uffef"
        r"\ufffc\ufffd\U00010000-\U000dffff\U000e0100-\U000e01ef\U000f0000-\U000ffffd\U00100000-\U0010fffd]+"
    ),
}


def visible(text: str, limit: int = MAX_SHOWN, *, smtputf8: bool = False) -> str:
    """Return text as printable ASCII on one line, cut to ``limit`` octets; runs of anything else become ``?``.

    Args:
        text: Any text.
        limit: Octets of the result at most, 3 or more.
        smtputf8: Keep what is not ASCII but can be seen, as UTF-8: for SMTPUTF8 mail.

    Source: RFC 5322 section 3.2.1; RFC 6532 section 3.2.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    octets = _INVISIBLE[smtputf8].sub("?", text[: limit + 1]).encode()
    if len(octets) > limit:
        octets = octets[: limit - 3] + b"..."
    return octets.decode("utf-8", "ignore")
