"""The parts of a message: read, and changed; only what is changed is written anew."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, field
from typing import Final

from aiomilter.message import transfer
from aiomilter.message.errors import ProtectedError, StructureError
from aiomilter.message.filenames import MOST, extension, filenames, seen, separators
from aiomilter.message.headers import Field, Headers
from aiomilter.message.parameters import Parametrized, read
from aiomilter.message.spool import Spool
from aiomilter.message.structure import Node, Structure
from aiomilter.message.zips import MAX_SIZE, begins_as_zip, zip_names

__all__ = ["DEFAULT_LIMIT", "Content", "Part", "new_part"]

DEFAULT_LIMIT: Final = 10_485_760
"""Octets of a part that are read, unless told otherwise: 10 MiB."""
_PROTECTED: Final = frozenset(
    {"multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"}
)
_ZIP: Final = re.compile(r"application/(?:x-)?zip(?:-compressed)?\Z")
_MAX_READINGS: Final = 1_500
"""Readings of files' names that are spelled out for one message: with more, the loop would stand still."""
_ORDINARY: Final = 16
"""Separators in the fields that may name the file of one part: with so many they are read in any message."""
_MAX_SEPARATORS: Final = 8_000
"""Separators of one message above that, for the same reason."""
_NAMED: Final = (("Content-Disposition", "filename"), ("Content-Type", "name"))
_BEGINNING: Final = 256
_OF_CONTENT: Final = ("Content-Type", "Content-Transfer-Encoding", "Content-Disposition")
_STALE: Final = ("Content-Description", "Content-MD5", "Content-Length", "Content-Language")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_MIME_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
_ATTRIBUTE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(eq=False, slots=True)
class Content:
    """What all parts of a message share.

    Args:
        spool: The octets of the body.
        structure: Where the parts are.
        headers: The fields of the message itself.
        pgp: Where in the body text begins that PGP has signed or encrypted.
    """

    spool: Spool
    structure: Structure
    headers: Headers
    pgp: list[int] = field(default_factory=list)
    edited: bool = False
    readings: int = 0
    """Readings of files' names that had to be spelled out."""
    separators: int = 0
    """Separators that parts have more than is ordinary."""

    def filenames(self, values: list[tuple[str, str]], node: Node) -> tuple[str, ...]:
        """Return the names of a part, as many as there is work left for; a defect tells that there may be others."""
        more = separators(values) - _ORDINARY
        self.separators += max(more, 0)
        if more > 0 and self.separators > _MAX_SEPARATORS:
            node.defects.add("too_many_names")
            return seen(values)
        most = min(MOST, max(_MAX_READINGS - self.readings, 0))
        names, spelled = filenames(values, most)
        self.readings += spelled
        if spelled > most:
            node.defects.add("too_many_names")
        return names

    def check(self, force: bool) -> None:
        """Raise StructureError where a part cannot be edited safely."""
        if not self.structure.complete:
            raise StructureError(
                "expected a message whose parts are all known, found too many, too deep or too large ones"
            )
        if self.structure.ambiguous and not force:
            defects = ", ".join(sorted(self.structure.defects))
            raise StructureError(f"expected one structure, found that mail programs see different parts: {defects}")


class Part:
    """One part of a message: a text, an attachment, or a multipart with parts of its own.

    Args:
        content: What all parts share.
        node: Where it is.
        parent: The part that it is in.
    """

    def __init__(self, content: Content, node: Node, parent: "Part | None" = None) -> None:
        self._content = content
        self._node = node
        self.parent: Part | None = parent
        """The multipart or message that it is in; None for the message itself."""
        self.depth: int = node.depth
        """0 for the message itself."""
        self.children: list[Part] = []
        """Its own parts, in order."""
        self.removed: bool = False
        """Whether :meth:`remove` was called."""
        self.zip_problem: str = ""
        """Why :meth:`zip_names` has not seen all: "encrypted", "broken", "too many", "too deep"; "" if it has."""
        self._head: Headers = content.headers if parent is None else Headers(Field(each.raw) for each in node.section)
        self._names: tuple[list[tuple[str, str]], tuple[str, ...]] | None = None
        self._new: bytes | None = None
        self._added: list[bytes] = []

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def headers(self) -> Headers:
        """Its header fields as they are now; a list of its own, to read."""
        return self._head.copy()

    @property
    def _type(self) -> Parametrized:
        given = self._head.get("Content-Type")
        return self._node.type if given is None or not self._changed_head else read(given.value)

    @property
    def _changed_head(self) -> bool:
        return self._head.changed

    @property
    def content_type(self) -> str:
        """Such as ``text/plain``, in lower case; the default where there is none."""
        return self._type.main

    @property
    def charset(self) -> str:
        """As the part names it, in lower case; "" if it does not."""
        return (self._type.get("charset") or "").lower()

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding in lower case; "" if there is none."""
        given = self._head.get("Content-Transfer-Encoding")
        return read(given.value).main if given is not None else ""

    @property
    def _disposition(self) -> Parametrized:
        given = self._head.get("Content-Disposition")
        return read(given.value) if given is not None else Parametrized()

    @property
    def disposition(self) -> str:
        """Such as ``attachment`` or ``inline``; "" if there is none."""
        return self._disposition.main

    @property
    def filenames(self) -> tuple[str, ...]:
        """Every name that a mail program may give the file, the most dangerous one first; with any path last."""
        values = [(field.value, name) for of, name in _NAMED for field in self._head.get_all(of)[:10]]
        if self._names is None or self._names[0] != values:
            self._names = values, self._content.filenames(values, self._node)
        return self._names[1]

    @property
    def filename(self) -> str:
        """The most dangerous of all names that a mail program may give the file; "" if it has none."""
        return next(iter(self.filenames), "")

    @property
    def extension(self) -> str:
        """What follows the last dot of :attr:`filename`, in lower case; "" if there is none."""
        return extension(self.filename)

    @property
    def size(self) -> int:
        """Octets of its content as it is encoded."""
        return self._node.stop - self._node.body if self._new is None else len(self._new)

    @property
    def is_multipart(self) -> bool:
        """Whether it has parts of its own, or should have."""
        return self._new is None and (self._node.opens or self._node.multipart)

    @property
    def is_zip(self) -> bool:
        """Whether its type, its name or its content says that it is a zip file."""
        types = [self.content_type, *(read(each.value).main for each in self._head.get_all("Content-Type")[:10])]
        return (
            any(_ZIP.match(each) for each in types)
            or any(extension(name) == "zip" for name in self.filenames)
            or begins_as_zip(self._beginning)
        )

    @property
    def _beginning(self) -> bytes:
        return self._node.beginning[: self.size] if self._new is None else self._new[:_BEGINNING]

    @property
    def attached(self) -> bool:
        """Whether it is not just text to be shown, or a multipart whose parts are all known."""
        named = self.filename != ""  # first: it may be what is doubted
        if self._doubted:
            return True
        if self.is_multipart:
            return named
        inline = all(read(each.value).main in ("", "inline") for each in self._head.get_all("Content-Disposition")[:10])
        return named or not inline or self.content_type not in ("text/plain", "text/html")

    @property
    def _doubted(self) -> bool:
        """Whether other programs may find another content, or parts that are not here."""
        if self._new is not None:
            return False
        return self._node.doubted or (self.parent is None and not self._content.structure.complete)

    @property
    def gone(self) -> bool:
        """Whether it was removed, or is in a part that was."""
        part: Part | None = self
        while part is not None and not part.removed:
            part = part.parent
        return part is not None

    @property
    def defects(self) -> frozenset[str]:
        """What is wrong with it."""
        return frozenset(self._node.defects)

    @property
    def protected(self) -> bool:
        """Whether it is signed or encrypted, or in a part that is."""
        part: Part | None = self
        while part is not None:
            if part._node.type.main in _PROTECTED:
                return True
            part = part.parent
        first = self._node
        return not first.multipart and any(first.body <= at < first.stop for at in self._content.pgp)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield its content as it is encoded, in pieces."""
        if self._new is not None:
            yield self._new
            return
        async with aclosing(self._content.spool.read(self._node.body, self._node.stop)) as kept:
            async for octets in kept:
                yield octets

    async def read(self, limit: int = DEFAULT_LIMIT) -> bytes:
        """Return its content, decoded as far as that goes.

        Args:
            limit: Octets that are returned at most.
        """
        return await self._read(limit)

    async def _read(self, limit: int, check: transfer.Base64Check | None = None) -> bytes:
        found, size = [], 0
        async with (
            aclosing(self.chunks()) as pieces,
            aclosing(transfer.decoded(pieces, self.encoding, check)) as contents,
        ):
            async for octets in contents:
                found.append(octets)
                size += len(octets)
                if size >= limit:
                    break
        return b"".join(found)[:limit]

    async def text(self, limit: int = DEFAULT_LIMIT) -> str:
        """Return its content as text; U+FFFD for octets that are not in its charset, or not known to be.

        Args:
            limit: Octets that are read at most.
        """
        octets = await self.read(limit)
        return octets.decode(transfer.codec(self.charset or "utf-8") or "ascii", "replace")

    async def zip_names(self) -> tuple[str, ...]:
        """Return the names in a zip file, those of zip files inside as well; :attr:`zip_problem` is known then."""
        strict = transfer.Base64Check()
        octets = await self._read(MAX_SIZE + 1, strict if self.encoding == "base64" else None)
        names, self.zip_problem = await asyncio.to_thread(zip_names, octets[:MAX_SIZE])
        if len(octets) > MAX_SIZE:
            self.zip_problem = "too many"
        elif strict.broken or self._doubted:
            self.zip_problem = self.zip_problem or "broken"  # another program may read another file
        return names

    # ------------------------------------------------------------------------------------------------------ writing

    def replace(
        self,
        content: str | bytes,
        *,
        content_type: str | None = None,
        filename: str = "",
        force: bool = False,
    ) -> None:
        """Put another content in the place of this one and of its parts; other fields of its header section stay.

        Args:
            content: Text, or octets.
            content_type: Such as ``text/plain``; None for that, or ``application/octet-stream`` for octets.
            filename: Makes it an attachment of that name.
            force: Edit also where mail programs see different parts.

        Raises:
            StructureError: The structure of the message is ambiguous, or not all of it is known.
            ProtectedError: The part is signed or encrypted.
        """
        self._check(force)
        fields, octets = new_content(content, content_type, filename)
        for name in (*_OF_CONTENT, *_STALE):
            if name not in fields:
                self._head.remove_all(name)
        for name, value in fields.items():
            self._head.set(name, value)
        self._new, self.children = octets, []

    def remove(self, *, force: bool = False) -> None:
        """Take it out of its multipart; the last one there leaves an empty text.

        Args:
            force: As for :meth:`replace`.

        Raises:
            StructureError: It is the message itself, or a message in another one: replace that; or as for :meth:`replace`.
            ProtectedError: As for :meth:`replace`.
        """
        self._check(force)
        if self.parent is None or not self.parent._node.boundary:
            raise StructureError("expected a part of a multipart, found a message: replace it")
        if all(other.removed for other in self.parent.children if other is not self) and not self.parent._added:
            self.replace("", force=force)
        else:
            self.removed = True

    def rename(self, filename: str, *, force: bool = False) -> None:
        """Give the file another name.

        Args:
            filename: The name; encoded if it is not ASCII (RFC 2231).
            force: As for :meth:`replace`.

        Raises:
            StructureError, ProtectedError: As for :meth:`replace`.
        """
        self._check(force)
        given = self._disposition
        rest = [(name, value) for name, value in given.parameters if name.partition("*")[0] != "filename"]
        self._head.set("Content-Disposition", _written(given.main or "attachment", rest, ("filename", filename)))
        if self._head.get("Content-Type") is not None:
            kept = [(name, value) for name, value in self._type.parameters if name.partition("*")[0] != "name"]
            self._head.set("Content-Type", _written(self._type.main, kept))

    def put(self, octets: bytes, fields: dict[str, str]) -> None:
        """Have these octets as the content, as they are encoded, and these fields."""
        for name, value in fields.items():
            self._head.set(name, value)
        self._new = octets
        self._content.edited = True

    def with_charset(self, charset: str) -> str:
        """Return its Content-Type with another charset."""
        kept = [(name, value) for name, value in self._type.parameters if name.partition("*")[0] != "charset"]
        return _written(self._type.main, kept, ("charset", charset))

    def add(self, part: bytes) -> None:
        """Add a part, header section and all, at the end of this multipart."""
        self._added.append(part)
        self._content.edited = True

    def copy_to(self, content: Content, head: Headers) -> "Part":
        """Return this part and all below it, for another message.

        Args:
            content: What all parts of that share.
            head: Its header fields there.
        """
        root = self._copied(content, None, head)
        waiting = [(self, root)]
        while waiting:
            old, new = waiting.pop()
            for child in old.children:
                new.children.append(child._copied(content, new, child._head.copy()))
                waiting.append((child, new.children[-1]))
        return root

    def _copied(self, content: Content, parent: "Part | None", head: Headers) -> "Part":
        other = copy(self)
        other._content, other.parent, other._head = content, parent, head
        other._added, other.children = [*self._added], []
        return other

    def _check(self, force: bool) -> None:
        self._content.check(force)
        if self.protected:
            raise ProtectedError(f"expected a part that is neither signed nor encrypted, found {self._node.type.main}")
        above = self.parent
        while above is not None:
            if above.removed or above._new is not None:
                raise StructureError("expected a part of the message, found one in a part that was removed or replaced")
            above = above.parent
        self._content.edited = True

    def __repr__(self) -> str:
        """Show its type and its name."""
        name = f" {self.filename!r}" if self.filename else ""
        return f"<Part {self.content_type}{name}, {self.size} octets>"


def new_content(content: str | bytes, content_type: str | None, filename: str) -> tuple[dict[str, str], bytes]:
    """Return the fields of a content and its octets, encoded.

    Raises:
        ValueError: The type is not one.
    """
    kind = content_type or ("text/plain" if isinstance(content, str) else "application/octet-stream")
    if not _MIME_TYPE.fullmatch(kind) or kind.lower().startswith(("multipart/", "message/")):
        raise ValueError(f"content_type: expected such as 'text/plain', found {kind!a:.80}")
    parameters = []
    if isinstance(content, str):
        octets, charset, encoding = transfer.encoded_text(content)
        parameters.append(("charset", charset))
    else:
        octets, encoding = transfer.encoded(bytes(content), "base64"), "base64"
    fields = {"Content-Type": _written(kind, [], *parameters), "Content-Transfer-Encoding": encoding}
    if filename:
        fields["Content-Disposition"] = _written("attachment", [], ("filename", filename))
    return fields, octets


def new_part(content: str | bytes, content_type: str | None, filename: str) -> bytes:
    """Return a part with its header section."""
    fields, octets = new_content(content, content_type, filename)
    head = Headers()
    for name, value in fields.items():
        head.append(name, value)
    return head.octets() + b"\r\n" + octets


def _written(main: str, kept: list[tuple[str, str]], *new: tuple[str, str]) -> str:
    """Return a value with parameters: some as they were written, and new ones."""
    parameters = [f"{name}={value}" for name, value in kept if name]
    for name, value in new:
        if _TOKEN.fullmatch(value):
            parameters.append(f"{name}={value}")
        elif value.isascii() and value.isprintable():
            escaped = re.sub(r'(["\\])', r"\\\1", value)
            parameters.append(f'{name}="{escaped}"')
        else:
            octets = value.encode("utf-8", "replace")
            coded = "".join(chr(octet) if octet in _ATTRIBUTE else f"%{octet:02X}" for octet in octets)
            pieces = re.findall(r"(?:%..|[^%]){1,20}", coded)
            if len(pieces) == 1:
                parameters.append(f"{name}*=utf-8''{coded}")
            else:
                pieces[0] = f"utf-8''{pieces[0]}"
                parameters += [f"{name}*{number}*={piece}" for number, piece in enumerate(pieces)]
    return ";\n ".join([main, *parameters])
