"""A whole message: its fields, its parts and its envelope, and what is to become of them."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from typing import Final, Literal, NamedTuple

from aiomilter.message.banner import Banner, Place, put_in, targets
from aiomilter.message.envelope import Envelope, Recipients
from aiomilter.message.errors import StructureError
from aiomilter.message.found import Found
from aiomilter.message.headers import Headers
from aiomilter.message.parts import Content, Part, new_part
from aiomilter.message.rewriting import pieces
from aiomilter.message.spool import Spool
from aiomilter.message.structure import AMBIGUOUS, Node, Structure
from aiomilter.wire.events import Mail

__all__ = ["Body", "Changes", "Message"]

_MOVED: Final = (
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Content-ID",
    "Content-Language",
)
_ONE: Final = (
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
)
"""Fields of which a message has one at most (RFC 5322 section 3.6)."""
_EIGHT_BITS: Final = ("8bit", "binary")
_MANY: Final = 64
"""Parts of a message whose names may take longer than the loop can wait."""
_AT_ONCE: Final = 0.01
"""Seconds for which they are read until other callbacks of the loop have a turn."""


class Changes(NamedTuple):
    """What an edited message has otherwise than the original one.

    Args:
        fields: Names of the fields that were added, changed or removed, in lower case.
        body: Whether the body is another.
        parts: Parts that were replaced, removed, renamed or added.
    """

    fields: tuple[str, ...]
    body: bool
    parts: int


class Body:
    """The body of a message, as it is now.

    Args:
        message: The message.
    """

    def __init__(self, message: "Message") -> None:
        self._message = message

    @property
    def size(self) -> int:
        """Octets of the original one."""
        return self._message._spool.size

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield its octets, line ends as CRLF, in pieces."""
        await self._message.settle()
        async with aclosing(self._message.new_body()) as body:
            async for octets in body:
                yield octets


class Message:
    """A whole message, with what is to be changed.

    Args:
        headers: Its fields.
        spool: Its body.
        found: What is in it; None if the body was not asked for.
        envelope: Sender and recipients.
    """

    def __init__(self, headers: Headers, spool: Spool, found: Found | None, envelope: Envelope) -> None:
        self.headers: Headers = headers
        """The header fields, from top to bottom."""
        self.recipients: Recipients = Recipients(envelope)
        """The envelope recipients."""
        self.body: Body = Body(self)
        """The body."""
        self._envelope = envelope
        self._spool = spool
        self._found = found
        # Made at its first use.
        self._tree: Part | None = None
        self._banners: list[tuple[Banner, Literal["skip", "wrap"]]] = []
        self._skipped: set[str] = set()
        # The body that is put around the original one: octets before and after, and parts at the end.
        self._around: _Around | None = None

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def sender(self) -> Mail | None:
        """The envelope sender."""
        return self._envelope.sender

    @property
    def size(self) -> int:
        """Octets of the message as it came: header section, empty line and body."""
        return sum(len(field.raw) for field in self.headers.original) + 2 + self._spool.size

    @property
    def root(self) -> Part:
        """The message itself as a part.

        Raises:
            StructureError: The filter has ``body_wanted = False``.
        """
        if self._found is None:
            raise StructureError("expected a filter that asks for the body, found body_wanted = False")
        return self._root

    @property
    def _root(self) -> Part:
        if self._tree is None:
            found = self._found
            structure, pgp = (Structure(b""), []) if found is None else (found.structure, found.pgp)
            self._tree = _part_tree(Content(self._spool, structure, self.headers, pgp))
        return self._tree

    @property
    def _content(self) -> Content:
        return self._root._content

    @property
    def _edited(self) -> bool:
        """Whether a part was changed."""
        return self._tree is not None and self._content.edited

    @property
    def complete(self) -> bool:
        """Whether all parts are here; False for more than 1,000, deeper than 32, or with header sections over 64 KiB."""
        return self._content.structure.complete

    @property
    def defects(self) -> frozenset[str]:
        """What is wrong with the structure, and why a banner was left out."""
        counts: dict[bytes, int] = {}
        for field in self.headers.original:
            counts[field.key] = counts.get(field.key, 0) + 1
        several = {
            f"several_{name.lower().replace('-', '_')}" for name in _ONE if counts.get(name.lower().encode(), 0) > 1
        }
        return self._content.structure.defects | several | self._skipped

    @property
    def ambiguous(self) -> bool:
        """Whether mail programs see different parts."""
        return not AMBIGUOUS.isdisjoint(self._content.structure.defects)

    def parts(self) -> Iterator[Part]:
        """Yield the message itself and all of its parts, in order, those in attached messages included."""
        waiting = [self.root]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.children)

    def attachments(self) -> Iterator[Part]:
        """Yield what is not just text to be shown: each part with a file's name, an attachment, or of a type that is not text.

        A part that mail programs disagree on is one, too, and so is a multipart in which some find parts that are not here.
        """
        for part in [*self.parts()]:
            if not part.gone and part.attached:
                yield part

    @property
    def searched(self) -> bool:
        """Whether its parts were found while it arrived; a small body, whose parts are found at first use, has few."""
        return self._found is not None and self._found.begun

    async def read_names(self) -> None:
        """Read the names of files where there are many parts, and let the loop run in between; they are kept.

        A name that is written oddly takes a hundred times as long as a plain one: whoever goes through all parts then does
        not hold up what else the loop has to do.
        """
        found = [*self.parts()]
        began = monotonic()
        for part in found if len(found) > _MANY else ():
            part.filenames  # noqa: B018 - it keeps them
            if monotonic() - began > _AT_ONCE:
                await asyncio.sleep(0)
                began = monotonic()

    async def octets(self) -> AsyncGenerator[bytes]:
        """Yield the message as it is now: header section, empty line, body."""
        if self._banners:
            await self.settle()
        yield self.headers.octets() + b"\r\n"
        if self._is_whole:
            # Each generator within another costs as much as a filter's own callback.
            for octets in self._spool.kept():
                yield octets
            return
        async with aclosing(self.new_body()) as body:
            async for octets in body:
                yield octets

    @property
    def unsettled(self) -> bool:
        """Whether there are banners to put in."""
        return len(self._banners) > 0

    @property
    def _is_whole(self) -> bool:
        """Whether the body is in memory, and as it came."""
        return self._around is None and not self._edited and not self._spool.in_file

    @property
    def changes(self) -> Changes:
        """What was changed so far; banners count once the message was read, or is sent."""
        return self._changes()

    # ------------------------------------------------------------------------------------------------------ writing

    def change_sender(self, address: str, *params: str) -> None:
        """Change the envelope sender.

        Args:
            address: With or without angle brackets; "" for the null sender.
            params: ESMTP parameters; Postfix knows RET and ENVID.
        """
        self._envelope.change_sender(address, params)

    def quarantine(self, reason: str) -> None:
        """Have the message held in the MTA's queue.

        Args:
            reason: For the MTA's log or queue, one line.
        """
        self._envelope.quarantine(reason)

    def banner(
        self,
        text: str,
        html: str = "",
        *,
        place: Place = "top",
        signed: Literal["skip", "wrap"] = "skip",
    ) -> None:
        """Put a text into what the reader sees: into plain text and HTML, as far as there are any.

        A text in a charset that cannot hold it becomes UTF-8.  A part that cannot be read stays as it is; :attr:`defects` says
        so.

        Args:
            text: For plain text.
            html: For HTML; the text if left out.
            place: Above the text, or below.
            signed: What happens to a signed or encrypted message: "skip" leaves it alone, "wrap" puts it, untouched, behind a
                part of its own with the banner.

        Raises:
            StructureError: The structure of the message is ambiguous, or not all of it is known.
        """
        self.root._content.check(force=False)
        self._banners.append((Banner(text, html, place), signed))

    def add_part(
        self, content: str | bytes, *, content_type: str | None = None, filename: str = "", force: bool = False
    ) -> None:
        """Add a part at the end; a message that is no multipart/mixed becomes one.

        Args:
            content: Text, or octets.
            content_type: Such as ``application/pdf``; None for text/plain, or application/octet-stream for octets.
            filename: Makes it an attachment of that name.
            force: Edit also where mail programs see different parts.

        Raises:
            StructureError: The structure of the message is ambiguous, or not all of it is known.
        """
        root = self.root
        self._content.check(force)
        part = new_part(content, content_type, filename)
        if self._around is not None:
            self._around.parts.append(part)
        elif root.content_type == "multipart/mixed" and root._node.closed and root._new is None:
            root.add(part)
        else:
            self._wrap().parts.append(part)

    def _wrap(self) -> "_Around":
        """Put the message into a multipart/mixed; the fields of its content go with it."""
        boundary = f"=_{secrets.token_hex(16)}"
        inner = Headers()
        encoding = self._root.encoding
        for name in _MOVED:
            for field in self.headers.get_all(name):
                inner.append(field.name, "", raw=field.octets)
                self.headers.remove(field)
        self.headers.set("Content-Type", f'multipart/mixed;\n boundary="{boundary}"')
        if encoding in _EIGHT_BITS:
            self.headers.set("Content-Transfer-Encoding", encoding)
        self._have_mime_version()
        self._root._head = inner
        self._content.edited = True
        self._around = _Around(boundary.encode())
        return self._around

    def _have_mime_version(self) -> None:
        if self.headers.get("MIME-Version") is None:
            self.headers.append("MIME-Version", "1.0")

    async def settle(self) -> None:
        """Put the banners in, which takes reading the texts."""
        banners, self._banners = self._banners, []
        for banner, signed in banners:
            if self._root.protected:
                if signed == "wrap":
                    around = self._around or self._wrap()
                    around.before.append(new_part(banner.text + "\n", None, ""))
                continue
            for part in [*targets(self._root)]:
                coded = part.charset, part.encoding
                why = await put_in(part, banner)
                if why:
                    self._skipped.add(why)
                if part is self._root and (part.charset, part.encoding) != coded:
                    self._have_mime_version()

    async def new_body(self) -> AsyncGenerator[bytes]:
        """Yield the body as it is now, banners that were not put in left out."""
        around = self._around
        if around is not None:
            yield around.top(self._root._head)
        size = self._spool.size
        for piece in pieces(self._root, size) if self._edited else [(0, size)]:
            if isinstance(piece, bytes):
                yield piece
            else:
                # Whoever stops reading leaves nothing that a task of the loop would have to close.
                async with aclosing(self._spool.read(*piece)) as kept:
                    async for octets in kept:
                        yield octets
        if around is not None:
            yield around.bottom()

    @property
    def body_changed(self) -> bool:
        """Whether the body is another than the MTA has."""
        spans = [*pieces(self._root, self._spool.size)] if self._edited else []
        return self._around is not None or spans not in ([], [(0, self._spool.size)])

    def _changes(self) -> Changes:
        before, after = self.headers.original, [*self.headers]
        old, new = {id(field) for field in before}, {id(field) for field in after}
        fields = [field for field in before if id(field) not in new] + [
            field for field in after if id(field) not in old
        ]
        names = dict.fromkeys(field.name.lower() for field in fields)
        parts = sum(
            part.removed or part._new is not None or len(part._added) > 0 or part._head.changed
            for part in (() if self._tree is None else _below(self._tree))
        )
        around = 0 if self._around is None else len(self._around.parts) + len(self._around.before)
        return Changes(tuple(names), self.body_changed, parts + around)

    def copy(self) -> "Message":
        """Return the same message, to be changed apart from this one."""
        other: Message = Message.__new__(Message)
        other.headers = self.headers.copy()
        other._envelope = self._envelope.copy()
        other.recipients, other.body = Recipients(other._envelope), Body(other)
        other._spool, other._found, other._tree = self._spool, self._found, None
        if self._tree is not None:
            head = other.headers if self._tree._head is self.headers else self._tree._head.copy()
            other._tree = self._tree.copy_to(replace(self._content, headers=other.headers), head)
        other._banners, other._skipped = [*self._banners], {*self._skipped}
        other._around = None if self._around is None else self._around.copy()
        return other

    def queue_envelope(self) -> Envelope:
        """Return the changes of the envelope."""
        return self._envelope


class _Around:
    """A multipart/mixed around a message.

    Args:
        boundary: Of the new multipart.
    """

    def __init__(self, boundary: bytes) -> None:
        self.boundary = boundary
        self.before: list[bytes] = []
        self.parts: list[bytes] = []

    def copy(self) -> "_Around":
        """Return another, of the same parts."""
        other = _Around(self.boundary)
        other.before, other.parts = [*self.before], [*self.parts]
        return other

    def top(self, head: Headers) -> bytes:
        """Return what is above the original body."""
        line = b"--" + self.boundary + b"\r\n"
        return b"".join([line + part + b"\r\n" for part in self.before]) + line + head.octets() + b"\r\n"

    def bottom(self) -> bytes:
        """Return what is below it."""
        line = b"\r\n--" + self.boundary
        return b"".join([line + b"\r\n" + part for part in self.parts]) + line + b"--\r\n"


def _below(part: Part) -> Iterator[Part]:
    waiting = [part]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += found.children


def _part_tree(content: Content) -> Part:
    """Return the parts that were found."""
    root = Part(content, content.structure.root)
    waiting: list[tuple[Part, Node]] = [(root, node) for node in content.structure.root.children]
    waiting.reverse()
    while waiting:
        parent, node = waiting.pop()
        part = Part(content, node, parent)
        parent.children.append(part)
        waiting += [(part, child) for child in reversed(node.children)]
    return root
