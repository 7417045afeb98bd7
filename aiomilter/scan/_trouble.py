"""What may go wrong while a scanner is asked: each ends one scan, and becomes the ``problem`` of its result."""

from typing import Final

from aiomilter.mail.display import visible

__all__ = ["MAX_NAME", "Declined", "TooLarge", "Trouble", "Unavailable", "name_shown", "shown"]

MAX_NAME: Final = 100
"""Octets of a name that a scanner gives."""


class Trouble(Exception):
    """There is no verdict on a message; the text says why, without the scanner's name."""


class Unavailable(Trouble):
    """The scanner does not work: it is down, slow, or what answers there speaks another protocol."""


class Declined(Trouble):
    """The scanner works, and says that it has no verdict on this message."""


class TooLarge(Trouble):
    """The message is larger than the scanner takes."""


def name_shown(octets: bytes | str) -> str:
    """Return text that a scanner gave as printable ASCII, 100 octets at most."""
    return shown(octets if isinstance(octets, str) else octets.decode("latin-1"), MAX_NAME)


def shown(text: str, limit: int) -> str:
    """Return text as printable ASCII on one line."""
    return visible(text.strip(), limit)
