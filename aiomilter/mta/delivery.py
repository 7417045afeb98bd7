"""A message after a filter's modifications, by the rules of Postfix or of Sendmail.

The two disagree on where a header field goes, which one an occurrence means, and what a deletion does to the count.

Source: aiomilter/help/protocol.rst, "Modifications"; Postfix, src/cleanup/cleanup_milter.c; Sendmail, sendmail/milter.c and
headers.c (behaviour, measured on 3.7.11 and 8.17.1.9).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from aiomilter.mail.envelope import bare_address
from aiomilter.mta.content import Content, Field, Style
from aiomilter.wire.events import Mail, Rcpt
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.text import encode

__all__ = ["Delivered", "deliver"]

_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
_LIST_SIZE: Final = 4096
"""Longest text that is read as a list of addresses: no MTA has longer ones, and each address costs memory."""
# A quote that is never closed takes the rest, so that no character is looked at twice.
_LIST: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|<(?:[^<>]*+>)?|[^,"<]++)++', re.DOTALL)
# The fields Sendmail keeps ready in front of those of the client, in the order of its default configuration.  None of them
# is visible before it gets a value; INSHEADER counts them, ADDHEADER and CHGHEADER may give them one.
_SENDMAIL_DEFAULTS: Final = (
    "Return-Path",
    "Received",
    "Resent-Date",
    "Date",
    "Resent-From",
    "From",
    "Full-Name",
    "Resent-Message-Id",
    "Message-Id",
)
# Fields that Sendmail's SMTP mailers leave out, whoever wrote them; and those that are left out, or else emptied, where the
# client named recipients in others.
_SENDMAIL_LEAVES_OUT: Final = frozenset({"content-length", "full-name", "return-path"})
_SENDMAIL_BLIND: Final = frozenset({"bcc", "resent-bcc"})
_SENDMAIL_OPEN: Final = frozenset({"to", "cc", "apparently-to"})


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as the MTA passes it on.

    Args:
        sender: Envelope sender with its parameters.
        recipients: Envelope recipients with their parameters; none means that the message is taken and dropped.
        quarantine: Why it is held in the queue; None if it is not.
        octets: The message, line ends as CRLF, without the fields that the MTA itself adds (``Received``).
    """

    sender: Mail
    recipients: tuple[Rcpt, ...]
    quarantine: str | None
    octets: bytes


def deliver(
    style: Style,
    sender: Mail,
    recipients: Iterable[Rcpt],
    content: Content,
    modifications: Sequence[Modification] = (),
    *,
    leading_space: bool = False,
) -> Delivered:
    """Apply a filter's modifications in order, and return the delivered message.

    Args:
        style: Whose rules.
        sender: Envelope sender, as the client sent it.
        recipients: Envelope recipients that were accepted.
        content: The message, cut in the same style and not refused.
        modifications: What the filter asked for at end of message.
        leading_space: HDR_LEADSPC was agreed: header values bring the space that follows the colon.
    """
    headers: _Headers = _Postfix(content.fields) if style == "postfix" else _Sendmail(content.fields)
    envelope = _Envelope(style, sender, recipients)
    body: list[bytes] | None = None
    gap = ":" if leading_space else ": "
    for change in modifications:
        match change:
            case AddHeader(name, value):
                headers.add(_line(name, gap, value))
            case InsertHeader(index, name, value):
                headers.insert(index, _line(name, gap, value))
            case ChangeHeader(index, name, value):
                headers.change(index, name, gap, value)
            case ReplaceBody(chunk):
                body = body or []
                body.append(chunk)
            case ChangeSender(address, params):
                envelope.change_sender(address, params)
            case AddRecipient(address, params):
                envelope.add(address, params)
            case DeleteRecipient(address):
                envelope.delete(address)
            case Quarantine(reason):
                envelope.quarantine = reason
            case _:  # pragma: no cover
                assert_never(change)
    octets = _ended(content.body) if body is None else _body(style, b"".join(body))
    gap_line = b"\r\n" if content.separated or octets or style == "sendmail" else b""
    return Delivered(
        envelope.sender,
        tuple(rcpt for _, rcpt in envelope.recipients),
        envelope.quarantine,
        b"".join([*headers.octets(), gap_line, octets]),
    )


def _ended(octets: bytes) -> bytes:
    return octets if not octets or octets.endswith(b"\n") else octets + b"\r\n"


def _body(style: Style, octets: bytes) -> bytes:
    octets = _LONE_LF.sub(b"\r\n", octets)
    if style == "postfix" and octets and not octets.endswith(b"\n"):
        octets += b"\r\n"
    return octets


@dataclass(slots=True)
class _Line:
    """A header field of the list an MTA keeps; no octets: invisible."""

    name: str
    octets: bytes | None
    user: bool = True
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.name.lower()


def _line(name: str, gap: str, value: str) -> _Line:
    return _Line(name, _octets(name, gap, value))


def _octets(name: str, gap: str, value: str) -> bytes:
    return encode(f"{name}{gap}{value}".replace("\n", "\r\n")) + b"\r\n"


class _Headers(ABC):
    """The header fields of a message in an MTA's list, its own among them."""

    def __init__(self, own: Iterable[str], fields: Iterable[Field]) -> None:
        self.lines = [_Line(name, None, user=False) for name in own]
        self.lines += [_Line(line.header.name, line.raw) for line in fields]
        # Names that were ever in the list: most changes are of others, and need no search.
        self.keys = {line.key for line in self.lines}

    def put(self, position: int, line: _Line) -> None:
        self.lines.insert(position, line)
        self.keys.add(line.key)

    @abstractmethod
    def add(self, line: _Line) -> None: ...

    @abstractmethod
    def insert(self, index: int, line: _Line) -> None: ...

    @abstractmethod
    def change(self, index: int, name: str, gap: str, value: str) -> None: ...

    def octets(self) -> list[bytes]:
        return [line.octets for line in self.lines if line.octets is not None]


class _Postfix(_Headers):
    """Postfix: a deleted field is gone, a changed one takes the new name, an added one is the last.

    CHGHEADER never looks at the first field of the list, which is the MTA's own ``Received`` until something was inserted
    above it.
    """

    def __init__(self, fields: Iterable[Field]) -> None:
        super().__init__(("Received",), fields)

    def add(self, line: _Line) -> None:
        self.put(len(self.lines), line)

    def insert(self, index: int, line: _Line) -> None:
        self.put(index, line)

    def change(self, index: int, name: str, gap: str, value: str) -> None:
        wanted = name.lower()
        for position in range(1, len(self.lines) if wanted in self.keys else 0):
            if self.lines[position].key == wanted:
                index -= 1
                if index <= 0:
                    self.lines[position : position + 1] = [_line(name, gap, value)] if value else []
                    return
        if value:
            self.add(_line(name, gap, value))


class _Sendmail(_Headers):
    """Sendmail: a deleted field keeps its place, a changed one its name, an added one precedes the first of its name.

    A field that the MTA would generate itself has its place before those of the client.
    """

    def __init__(self, fields: Iterable[Field]) -> None:
        super().__init__(_SENDMAIL_DEFAULTS, fields)
        self.blind = not self.keys & _SENDMAIL_OPEN

    def add(self, line: _Line) -> None:
        first = len(self.lines)
        for position, other in enumerate(self.lines if line.key in self.keys else ()):
            if other.key != line.key:
                continue
            if not other.user and line.key != "received":
                octets = other.name.encode() + (line.octets or b"")[len(line.name) :]
                self.lines[position] = _Line(other.name, octets)
                return
            first = min(first, position)
        self.put(first, line)

    def insert(self, index: int, line: _Line) -> None:
        # Behind the one the index names, and Return-Path, which comes first, is never seen here.
        self.put(index + 1, line)

    def change(self, index: int, name: str, gap: str, value: str) -> None:
        wanted = name.lower()
        found: _Line | None = None
        for line in self.lines if wanted in self.keys else ():
            if line.key != wanted:
                continue
            if line.user:
                index -= 1
                if index <= 0:
                    found = line
                    break
            elif wanted != "received":
                found = line
        if found is not None:
            found.octets = _octets(found.name, gap, value) if value else None
            found.user = found.user or bool(value)
        elif value:
            self.add(_line(name, gap, value))

    def octets(self) -> list[bytes]:
        found = []
        for line in self.lines:
            if line.octets is None or line.key in _SENDMAIL_LEAVES_OUT:
                continue
            if line.key not in _SENDMAIL_BLIND:
                found.append(line.octets)
            elif self.blind:
                found.append(encode(line.name) + b":\r\n")
        return found


class _Envelope:
    """Sender and recipients while they change."""

    def __init__(self, style: Style, sender: Mail, recipients: Iterable[Rcpt]) -> None:
        self.style = style
        self.sender = sender
        self.recipients = [(rcpt.address, rcpt) for rcpt in recipients]
        self.quarantine: str | None = None

    def change_sender(self, address: str, params: str | None) -> None:
        asked = tuple((params or "").split())
        if self.style == "postfix":
            asked = _known(asked, ("RET", "ENVID"))
            replaced = {_keyword(param) for param in asked}
            asked = (*(param for param in self.sender.params if _keyword(param) not in replaced), *asked)
        elif not asked:
            asked = self.sender.params
        self.sender = Mail(f"<{bare_address(address)}>", asked)

    def add(self, address: str, params: str | None) -> None:
        asked = tuple((params or "").split())
        if self.style == "postfix":
            asked = _known(asked, ("NOTIFY", "ORCPT"))
        for one in _addresses(address, several=self.style == "sendmail" and params is None):
            if bare := bare_address(one):
                self.recipients.append((bare, Rcpt(f"<{bare}>", asked)))

    def delete(self, address: str) -> None:
        wanted = bare_address(address)
        self.recipients = [pair for pair in self.recipients if pair[0] != wanted]


def _addresses(text: str, several: bool) -> list[str]:
    if len(text) > _LIST_SIZE:
        return [text]
    addresses = _LIST.findall(text)
    return addresses if several else addresses[:1]


def _keyword(param: str) -> str:
    return param.partition("=")[0].upper()


def _known(params: Iterable[str], keywords: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(param for param in params if _keyword(param) in keywords)
