"""A message cut into what the MTA sends a filter: header fields, and the body.

Where a message is as RFC 5322 has it, all MTAs cut it alike.  Postfix and Sendmail read everything else as well, each in
its own way: the ``From`` line of an mbox file, NUL, a bare CR or LF, lines without a colon, huge fields.  The rules below are
theirs, seen from outside; ``tests/interop/odd_messages.py`` has the messages that they were asked about.

Source: RFC 5322 section 2; Postfix, src/smtpd/smtpd.c and src/global/mime_state.c; Sendmail, sendmail/collect.c and
headers.c (behaviour, measured on 3.7.11 and 8.17.1.9).
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from aiomilter.wire.events import Header
from aiomilter.wire.replies import Reply
from aiomilter.wire.text import decode

__all__ = ["HEADER_SIZE", "Content", "Field", "Style", "cut"]

Style: TypeAlias = Literal["postfix", "sendmail"]
"""The MTA to behave as: Postfix 3.7 or Sendmail 8.17."""

HEADER_SIZE: Final = 60000
"""Octets of one header field that Postfix keeps as soon as any milter is configured."""
# A field that Postfix cuts ends before its last fold, if that is behind this place.
_LAST_FOLD: Final = HEADER_SIZE * 9 // 10
# Postfix reads lines in records of this many octets (line_length_limit); a record of a field ends at a NUL.
_RECORD_SIZE: Final = 2048
# Its message_drop_headers.
_POSTFIX_DROPS: Final = frozenset({b"bcc", b"content-length", b"resent-bcc", b"return-path"})
# Octets of a header section that Sendmail takes, LF not counted (MaxHeadersLength).
_SECTION_SIZE: Final = 32768
# A longer name ends the header section for Sendmail, as do the names that follow.
_NAME_SIZE: Final = 100
_ENDING: Final = frozenset({b"message", b"text"})
# Fields that Sendmail writes itself where they are empty.
_OWN: Final = frozenset(
    {b"date", b"from", b"full-name", b"message-id", b"resent-date", b"resent-from", b"resent-message-id"}
)

_FIELD: Final = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\n]*\n(?:[ \t][^\n]*\n)*)")
_MAILBOX_LINE: Final = re.compile(rb">{0,2043}From [^\n]*\n")
_LINE: Final = re.compile(rb"[^\n]*\n")
_FOLDS: Final = re.compile(rb"(?:[ \t][^\n]*\n)*")
# A line with its folds, all of them there.
_FOLDED: Final = re.compile(rb"([^\n]*\n)(?:[ \t][^\n]*\n)*(?![ \t])")
# Sendmail takes for a blank what isspace() does.
_NAME: Final = re.compile(rb"(?!--)([!-9;-\x7f]++)[ \t\x0b\x0c]*+:")
_LINE_END: Final = re.compile(rb"(?<!\r)\r*+\n")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field.

    Args:
        header: As the filter is shown it.
        raw: Its octets as the MTA keeps them, ending in CRLF.
    """

    header: Header
    raw: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A message as an MTA received it.

    Args:
        fields: The header section, in order; empty if there is none.
        body: Octets after the empty line, line ends as CRLF.
        separated: Whether an empty line ends the header section.
        refusal: The reply with which the MTA itself refuses the message after DATA, whatever a filter answers; None if it
            accepts the message.  After a 421 Sendmail also hangs up.
    """

    fields: tuple[Field, ...]
    body: bytes
    separated: bool = True
    refusal: Reply | None = None


def cut(octets: bytes, style: Style = "postfix") -> Content:
    """Return header fields and body of a message, as an MTA understands it.

    Line ends may be CRLF, or LF throughout as in a file; the last line may lack its own, as SMTP would add it.  The first
    line that is neither a field nor a fold starts the body, with or without an empty line before it.

    Postfix: lines at the top that begin with ``From`` and a space, also behind ``>``, are shown as ``X-Mailbox-Line``;
    CRs before a line end are dropped, one elsewhere becomes a space, and a bare LF is a line end; a NUL in a field ends its
    line; a field is cut at :data:`HEADER_SIZE`; ``Bcc``, ``Resent-Bcc``, ``Return-Path`` and ``Content-Length`` go.

    Sendmail: a first line that begins with ``From`` and a space is dropped, and so is each NUL in the header section; a
    field with the name ``Message`` or ``Text``, or one of more than 100 characters, starts the body; an empty ``From``,
    ``Date`` or ``Message-Id`` is dropped; a bare CR or LF, a DEL in a name, or a header section over 32768 octets is refused.

    Args:
        octets: All of the message.
        style: Which MTA.
    """
    return _cut_as_postfix(octets) if style == "postfix" else _cut_as_sendmail(octets)


def _ended(octets: bytes) -> bytes:
    return octets if not octets or octets.endswith(b"\n") else octets + b"\r\n"


def _field(name: bytes, value: bytes) -> Field:
    """Return a field by its name and all that follows the colon, folds as CRLF."""
    shown = value.replace(b"\r\n", b"\n")
    spaced = shown.startswith(b" ")
    header = Header(decode(name), decode(shown[spaced:]), " " if spaced else "")
    return Field(header, name + b":" + value + b"\r\n")


# ------------------------------------------------------------------------------------------------------------- Postfix


def _cut_as_postfix(octets: bytes) -> Content:
    raw = _ended(octets)
    octets = _postfix_lines(raw)
    lines, position = _mailbox_lines(raw, octets)
    fields = [_postfix_field(b"X-Mailbox-Line", line, b" ") for line in lines]
    while match := _FIELD.match(octets, position):
        # A dot in front came as two.
        read = match.start(2) - match.start() + match[1].startswith(b".")
        if read > _RECORD_SIZE:
            break
        if match[1].lower() not in _POSTFIX_DROPS:
            fields.append(_postfix_field(match[1], match[2], b"", read))
        position = match.end()
    separated = octets.startswith(b"\r\n", position)
    return Content(tuple(fields), octets[position + 2 * separated :], separated)


def _mailbox_lines(raw: bytes, octets: bytes) -> tuple[list[bytes], int]:
    """Return the lines at the top of an mbox, and where the rest of ``octets`` begins."""
    lines: list[bytes] = []
    position = offset = 0
    first = True
    while first and (match := _MAILBOX_LINE.match(octets, position)):
        lines.append(match[0])
        position, offset = match.end(), raw.index(b"\n", offset) + 1
        first = len(match[0]) - 2 <= _RECORD_SIZE
    # A line with a blank in front is now the body, not a fold.  But Postfix stops looking after the first record, and turns
    # CR into a space only later: then it is a fold after all, perhaps of Postfix's own Received field, which no filter sees.
    if not first or (raw.startswith(b"\r", offset) and octets.startswith(b" ", position)):
        folds = _FOLDS.match(octets, position)
        assert folds is not None
        position = folds.end()
        if lines:
            lines[-1] += folds[0]
    return lines, position


def _postfix_lines(octets: bytes) -> bytes:
    ends = octets.count(b"\r\n")
    if octets.count(b"\n") != ends or octets.count(b"\r") != ends:
        octets = _BARE_CR.sub(b" ", _LINE_END.sub(b"\r\n", octets))
    return octets


def _postfix_field(name: bytes, lines: bytes, before: bytes, offset: int = 0) -> Field:
    """Return a field by its name and its lines.

    Args:
        name: Its name.
        lines: What follows the colon, line ends included.
        before: What Postfix puts between the two.
        offset: Octets that were read of the first line before ``lines`` begin.
    """
    value = before + lines[:-2]
    if b"\0" in value or len(name) + 1 + len(value) > HEADER_SIZE:
        kept = _postfix_kept(name + b":" + before, lines, offset)
        value = kept[len(name) + 1 :].replace(b"\n", b"\r\n")
    return _field(name, value)


def _postfix_kept(head: bytes, lines: bytes, offset: int) -> bytes:
    """Return the part of a field with NUL, or of one that is too large, that Postfix keeps; folds as LF."""
    text = bytearray(head)
    for number, line in enumerate(lines[:-2].split(b"\r\n")):
        if len(text) >= HEADER_SIZE:
            break
        text += b"\n" if number else b""
        start, end = 0, _RECORD_SIZE - offset
        while True:
            nul = line.find(b"\0", start, end)
            text += line[start : end if nul < 0 else nul]
            if end >= len(line) or len(text) >= HEADER_SIZE:
                break
            start, end = end, end + _RECORD_SIZE
        offset = 0
    if len(text) > HEADER_SIZE:
        del text[HEADER_SIZE:]
        fold = text.rfind(b"\n", _LAST_FOLD)
        if fold >= 0:
            del text[fold:]
    return bytes(text)


# ------------------------------------------------------------------------------------------------------------ Sendmail


def _cut_as_sendmail(octets: bytes) -> Content:
    if b"\r\n" not in octets:
        octets = octets.replace(b"\n", b"\r\n")
    octets = _ended(octets)
    bare = _BARE.search(octets)
    # It reads no further than that.
    text = octets if bare is None else octets[: bare.start()]
    fields = []
    lead = b""
    separated = False
    wrong: bytes | None = None
    position = end = _after_mailbox_line(text)
    while match := _FOLDED.match(text, position):
        end = match.end(1)
        line, folded = match[1].replace(b"\0", b""), match[0].replace(b"\0", b"")[:-2]
        name = _NAME.match(line)
        if name is None:
            separated = line == b"\r\n"
            lead = b"" if separated else line
            break
        end = match.end()
        if b"\x7f" in name[1]:
            wrong = line
        elif len(name[1]) > _NAME_SIZE or name[1].lower() in _ENDING:
            # It loses its line end on the way.
            lead = folded
            break
        elif folded[name.end() :].strip() or name[1].lower() not in _OWN:
            fields.append(_field(name[1], folded[name.end() :]))
        position = end
    else:
        end = len(text)
    size = end - text.count(b"\n", 0, end) - text.count(b"\0", 0, end)
    refusal = _sendmail_refusal(size, wrong, bare)
    return Content(tuple(fields), b"" if refusal else lead + text[end:], separated, refusal)


def _after_mailbox_line(text: bytes) -> int:
    line = _LINE.match(text)
    return line.end() if line and line[0].replace(b"\0", b"").startswith(b"From ") else 0


def _sendmail_refusal(size: int, wrong: bytes | None, bare: re.Match[bytes] | None) -> Reply | None:
    if size > _SECTION_SIZE:
        return Reply(552, "5.6.0", f"Headers too large ({_SECTION_SIZE} max)")
    if wrong is not None:
        return Reply(553, "5.3.0", f'header syntax error, line "{decode(wrong[:-2][:_NAME_SIZE])}"')
    if bare is not None:
        kind = "linefeed (LF)" if bare[0] == b"\n" else "carriage return (CR)"
        return Reply(421, "4.5.0", f"Bare {kind} not allowed")
    return None
