"""The edits of a filter, as plain data: checked when made, sent with the verdict, in an order that works on both MTAs.

Postfix renumbers header fields after a deletion and Sendmail does not, and both count what is inserted; so changes and
deletions go first, of each name from the highest occurrence down, and an occurrence means the same on both.

Source: aiomilter/help/protocol.rst, "Modifications" and "Header fields".
"""

import re
from collections.abc import AsyncIterable, Iterable
from typing import Final, TypeAlias

from aiomilter.exceptions import LocalProtocolError, NotNegotiatedError
from aiomilter.mail.envelope import bare_address
from aiomilter.wire.constants import BODY_CHUNK_SIZE, Action, ReplyCode
from aiomilter.wire.events import Rcpt
from aiomilter.wire.framing import packet
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Quarantine,
)
from aiomilter.wire.text import one_line

__all__ = ["Body"]

Body: TypeAlias = bytes | bytearray | memoryview | AsyncIterable[bytes]
"""A new body: octets, or an async iterator of them."""

# As ints: an operation on an IntFlag costs a hundred times as much.
_ADD_HEADERS: Final = int(Action.ADD_HEADERS)
_CHANGE_HEADERS: Final = int(Action.CHANGE_HEADERS)
_REPLACE_BODY: Final = int(Action.REPLACE_BODY)
_CHANGE_SENDER: Final = int(Action.CHANGE_SENDER)
_ADD_RECIPIENTS_WITH_PARAMS: Final = int(Action.ADD_RECIPIENTS_WITH_PARAMS)
_ADD_RECIPIENTS: Final = int(Action.ADD_RECIPIENTS)
_DELETE_RECIPIENTS: Final = int(Action.DELETE_RECIPIENTS)
_QUARANTINE: Final = int(Action.QUARANTINE)

# A mailbox as it may stand between angle brackets: blanks, commas and brackets only inside a quoted local part.  Sendmail
# would take an unquoted comma for the next recipient.
_MAILBOX: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s<>,;"\x00-\x20\x7f])+')
_PARAM: Final = re.compile(r"[^\s\x00-\x20\x7f]+")


class _Recipients:
    """The recipients of a message, by mailbox: an MTA deletes one only in its own spelling."""

    def __init__(self, recipients: Iterable[Rcpt]) -> None:
        self._exact: dict[tuple[str, str], list[str]] = {}
        self._loose: dict[tuple[str, str], list[str]] = {}
        for rcpt in recipients:
            local, domain = _mailbox(rcpt.path)
            path = _path(rcpt.path)
            self._exact.setdefault((local, domain), []).append(path)
            self._loose.setdefault((local.lower(), domain), []).append(path)

    def paths(self, address: str) -> list[str]:
        """Return the paths, as the MTA sent them, of the recipients with an address.

        The letter case of a domain does not matter.  That of a local-part matters if a recipient has exactly these letters;
        otherwise it does not, since Postfix sends ``{rcpt_addr}`` in lower case.

        Source: RFC 5321 section 2.4.
        """
        local, domain = _mailbox(address)
        found = self._exact.get((local, domain)) or self._loose.get((local.lower(), domain), [])
        return list(dict.fromkeys(found))


def _mailbox(path: str) -> tuple[str, str]:
    """Return local-part, and domain in lower case."""
    local, _, domain = bare_address(path).rpartition("@")
    return (local, domain.lower()) if local else (domain, "")


def _path(path: str) -> str:
    """Return a path as it is deleted: Sendmail 8.17.1 built with EAI has ESMTP parameters behind the bracket."""
    if not path.startswith("<"):
        return f"<{path}>"
    end = path.rfind(">")
    return path[: end + 1] if end > 0 else f"{path}>"


class Edits:
    """The edits of one filter in one message.

    Args:
        actions: Bits of :class:`Action` that were agreed on.
        leading_space: Whether values include the space that follows the colon.
        max_count: Most edits that are kept; one more sets :attr:`overflow` and is dropped.
        max_size: Most octets of edits, the body not counted; more sets :attr:`overflow`.
        max_body_size: Most octets of a new body; more sets :attr:`overflow`.
    """

    __slots__ = (
        "_added",
        "_additions",
        "_changes",
        "_envelope",
        "_insertions",
        "_max_body_size",
        "_max_count",
        "_max_size",
        "_quarantine",
        "_recipients",
        "_sender",
        "_size",
        "actions",
        "body",
        "count",
        "leading_space",
        "missed",
        "overflow",
        "sources",
    )

    def __init__(self, actions: int, leading_space: bool, max_count: int, max_size: int, max_body_size: int) -> None:
        self.actions: int = actions
        self.leading_space: bool = leading_space
        self._max_count = max_count
        self._max_size = max_size
        self._max_body_size = max_body_size
        # How many would be sent.
        self.count: int = 0
        self._size = 0
        self._changes: dict[tuple[str, int], bytes] = {}
        self._insertions: list[bytes] = []
        self._additions: list[bytes] = []
        self._sender: bytes | None = None
        self._envelope: list[bytes] = []
        # Those that were added, and the message's own, once one was asked for.
        self._added: dict[tuple[str, str], str] = {}
        self._recipients: _Recipients | None = None
        # Recipients that were to be deleted and do not exist.
        self.missed: int = 0
        self._quarantine: bytes | None = None
        self.body: Body | None = None
        # Iterators of bodies that have not been started.
        self.sources: list[AsyncIterable[bytes]] = []
        self.overflow: str = ""
        """The option whose limit was passed first; "" if none was."""

    def add_header(self, name: str, value: str) -> None:
        """Queue a field for the end of the header section."""
        if not self.actions & _ADD_HEADERS:
            self._need(_ADD_HEADERS)
        self._queue(self._additions, AddHeader.packed(name, self._value(value)))

    def insert_header(self, name: str, value: str, index: int = 0, separator: str = " ") -> None:
        """Queue a field for a position.

        Args:
            name: Of the field.
            value: Without what stands between it and the colon.
            index: The position.
            separator: What stands between; without effect unless the leading space was agreed on.
        """
        self._need(_ADD_HEADERS)
        first: object = name
        if isinstance(first, int):
            raise LocalProtocolError(f"insert_header: expected (name, value, index=0), found {first!r} as the name")
        self._queue(self._insertions, InsertHeader.packed(index, name, self._value(value, separator)))

    def change_header(self, name: str, occurrence: int, value: str, separator: str = " ") -> None:
        """Queue a new value for a field; an empty one deletes it.  ``separator`` is as for :meth:`insert_header`."""
        self._need(_CHANGE_HEADERS)
        if type(occurrence) is not int or occurrence < 1:
            raise LocalProtocolError(f"header occurrence: expected 1 or more, found {occurrence!r}")
        edit = ChangeHeader(occurrence, name, self._value(value, separator) if value != "" else "")
        octets = packet(edit.CODE, edit.payload)
        key = name.lower(), occurrence
        self._drop(self._changes.pop(key, None))
        if self._room(octets):
            self._changes[key] = octets

    def replace_body(self, body: Body) -> None:
        """Queue a new body."""
        self._need(_REPLACE_BODY)
        if isinstance(body, bytearray | memoryview):
            body = bytes(body)
        elif not isinstance(body, bytes | AsyncIterable):
            raise LocalProtocolError(f"body: expected bytes or an async iterator of bytes, found {type(body).__name__}")
        if isinstance(body, AsyncIterable):
            self.sources.append(body)
        elif len(body) > self._max_body_size:
            self.overflow = self.overflow or "max_new_body_size"
            return
        self.count += self.body is None
        self.body = body

    def change_sender(self, address: str, params: tuple[str, ...]) -> None:
        """Queue a new envelope sender."""
        self._need(_CHANGE_SENDER)
        edit = ChangeSender(_bracketed(address, "sender", null=True), _params(params, "sender"))
        octets = packet(edit.CODE, edit.payload)
        self._drop(self._sender)
        self._sender = None
        if self._room(octets):
            self._sender = octets

    def add_recipient(self, address: str, params: tuple[str, ...]) -> None:
        """Queue another envelope recipient."""
        self._need(_ADD_RECIPIENTS_WITH_PARAMS if params else _ADD_RECIPIENTS)
        edit = AddRecipient(_bracketed(address, "recipient"), _params(params, "recipient"))
        self._queue(self._envelope, packet(edit.CODE, edit.payload))
        self._added[_mailbox(address)] = edit.address

    def delete_recipient(self, address: str, recipients: Iterable[Rcpt] = ()) -> None:
        """Queue the deletion of an envelope recipient, under each path that the MTA has it by.

        Args:
            address: With or without brackets.
            recipients: Those of the message, the same at each call.
        """
        self._need(_DELETE_RECIPIENTS)
        one_line(address, "recipient")
        if address == "<>":
            raise LocalProtocolError("recipient: expected one mailbox, found none")
        if self._recipients is None:
            self._recipients = _Recipients(recipients)
        paths = self._recipients.paths(address)
        if not paths:
            # Another filter may have added it, which only the MTA knows.
            added = self._added.get(_mailbox(address))
            paths = [added or _path(address)]
            self.missed += added is None
        for path in paths:
            edit = DeleteRecipient(path)
            self._queue(self._envelope, packet(edit.CODE, edit.payload))

    def quarantine(self, reason: str) -> None:
        """Queue a quarantine."""
        self._need(_QUARANTINE)
        edit = Quarantine(reason)
        octets = packet(edit.CODE, edit.payload)
        self._drop(self._quarantine)
        self._quarantine = None
        if self._room(octets):
            self._quarantine = octets

    @property
    def limits(self) -> tuple[int, int, int]:
        """``max_count``, ``max_size`` and ``max_body_size``."""
        return self._max_count, self._max_size, self._max_body_size

    @property
    def kept(self) -> int:
        """Octets in memory, the body counted."""
        return self._size + (len(self.body) if isinstance(self.body, bytes) else 0)

    def packets(self) -> list[bytes]:
        """Return the packets of all edits except the body, in the order they have to be sent."""
        found = [self._changes[key] for key in sorted(self._changes, reverse=True)] if self._changes else []
        found += self._insertions
        found += self._additions
        if self._sender is not None:
            found.append(self._sender)
        found += self._envelope
        if self._quarantine is not None:
            found.append(self._quarantine)
        return found

    def _need(self, action: int) -> None:
        if not self.actions & action:
            raise NotNegotiatedError(f"the MTA does not offer {Action(action).name}, which this edit needs")

    def _value(self, value: str, separator: str = " ") -> str:
        return separator + value if self.leading_space and isinstance(value, str) else value

    def _queue(self, queue: list[bytes], octets: bytes) -> None:
        if self._room(octets):
            queue.append(octets)

    def _room(self, octets: bytes) -> bool:
        """Count an edit, and return whether it is to be kept."""
        self._size += len(octets)
        if self.count >= self._max_count:
            self.overflow = self.overflow or "max_edits"
        elif self._size > self._max_size:
            self.overflow = self.overflow or "max_edits_size"
        if self.overflow:
            self._size -= len(octets)
            return False
        self.count += 1
        return True

    def _drop(self, octets: bytes | None) -> None:
        """Stop counting an edit that another one replaces."""
        if octets is not None:
            self._size -= len(octets)
            self.count -= 1


def _bracketed(address: str, what: str, *, null: bool = False) -> str:
    one_line(address, what, empty=null)
    bare = address[1:-1] if address[:1] == "<" and address[-1:] == ">" else address
    if not bare and null:
        return "<>"
    if not _MAILBOX.fullmatch(bare):
        raise LocalProtocolError(f"{what}: expected one mailbox, found {address!a:.80}")
    return f"<{bare}>"


def _params(params: tuple[str, ...], what: str) -> str | None:
    for param in params:
        one_line(param, f"{what} parameter")
        if not _PARAM.fullmatch(param):
            raise LocalProtocolError(f"{what} parameter: expected a word, found blanks or control characters")
    return " ".join(params) if params else None


def body_packets(body: bytes) -> list[bytes]:
    """Return the packets that replace the body: pieces of 65535 octets, one empty packet for an empty body.

    Source: aiomilter/help/protocol.rst, P-120 and P-121.
    """
    pieces = range(0, len(body), BODY_CHUNK_SIZE) or (0,)
    return [packet(ReplyCode.REPLBODY, body[at : at + BODY_CHUNK_SIZE]) for at in pieces]
