"""``--expect``: the outcome that a message is expected to have."""

import argparse
import re
from dataclasses import dataclass
from typing import Final

from aiomilter._cli.play import Outcome, PlayedMessage
from aiomilter.wire.replies import CONTINUE

__all__ = ["Expected", "expected"]

_WORDS: Final = ("accept", "continue", "reject", "tempfail", "discard")
_CODE: Final = re.compile(r"([245]\d\d)?\s*([245]\.\d{1,3}\.\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Expected:
    """An outcome.

    Args:
        text: As the user wrote it: a word, or the codes that the SMTP reply begins with.
        code: The reply code; "" for any.
        enhanced: The enhanced status code; "" for any.
    """

    text: str
    code: str = ""
    enhanced: str = ""

    def matches(self, played: PlayedMessage) -> bool:
        """Return whether a message has this outcome."""
        if self.code or self.enhanced:
            code, _, rest = played.reply.partition("\r\n")[0].replace("-", " ", 1).partition(" ")
            return self.code in ("", code) and self.enhanced in ("", rest.partition(" ")[0])
        if self.text == "continue":
            return played.decided is not None and played.decided[1] is CONTINUE
        return played.outcome is Outcome(self.text)


def expected(text: str) -> Expected:
    """Return the outcome that an argument names."""
    if text.lower() in _WORDS:
        return Expected(text.lower())
    match = _CODE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        words = ", ".join(_WORDS)
        raise argparse.ArgumentTypeError(f"expected one of {words}, or a code as in 550 or 5.7.1, found {text!r}")
    return Expected(text, match[1] or "", match[2] or "")
