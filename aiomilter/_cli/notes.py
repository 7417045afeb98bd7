"""Notes on edits that go out as they are, and that other mail systems may not take.

Source: RFC 5322 section 2.1.1 and 2.2; RFC 6532 for UTF-8 in header fields.
"""

import re
from collections.abc import Iterator
from typing import Final

from aiomilter._cli.play import Failure, PlayedMessage
from aiomilter.wire.modifications import AddHeader, ChangeHeader, InsertHeader, ReplaceBody

__all__ = ["notes"]

_LINE_SIZE: Final = 998
"""Octets of a line, its end not counted."""
_LONG_LINE: Final = re.compile(rb"[^\r\n]{999}")
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")


def notes(played: PlayedMessage) -> Iterator[Failure]:
    """Yield notes on the edits of a message."""
    utf8 = any(param.upper() == "SMTPUTF8" for param in played.sender.params)
    for change in played.modifications:
        match change:
            case AddHeader(name, value) | InsertHeader(_, name, value) | ChangeHeader(_, name, value):
                yield from (_note(f"{name}: {what}") for what in _of_field(name, value, utf8=utf8))
    body = b"".join(change.chunk for change in played.modifications if isinstance(change, ReplaceBody))
    if body:
        yield from map(_note, _of_body(body))


def _note(what: str) -> Failure:
    return Failure("eom", what, fatal=False)


def _of_field(name: str, value: str, *, utf8: bool) -> Iterator[str]:
    octets = f"{name}: {value}".encode("utf-8", "surrogateescape")
    if not octets.isascii() and not utf8:
        yield "non-ASCII text goes out as it is; encode it (email.header.Header), since not every system takes UTF-8 here"
    if any(len(line) > _LINE_SIZE for line in octets.split(b"\n")):
        yield f"a line of more than {_LINE_SIZE} octets; fold it, with a line end and a blank"


def _of_body(body: bytes) -> Iterator[str]:
    if (alone := len(_LONE_LF.findall(body))) and alone == body.count(b"\n"):
        yield "the new body has LF alone as line ends; write CRLF"
    elif alone:
        yield f"the new body has LF alone as line end in {alone} places; write CRLF"
    if _LONG_LINE.search(body):
        yield f"the new body has a line of more than {_LINE_SIZE} octets; break it, or encode the part"
