"""The parts of a message, found while its body arrives: offsets only, nothing is copied.

A delimiter is a line of two hyphens and the boundary of an open multipart, blanks behind it allowed.  Where mail programs are
known to disagree the structure is ambiguous, and a defect names it.  Time is linear in the octets, whatever they hold: each
chunk is searched once for each boundary that is open, 32 at most, and lines that only resemble a delimiter are counted.

Source: RFC 2046 section 5.1; RFC 2045 section 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from aiomilter.mail.headers import HeaderSection, split_message
from aiomilter.message.parameters import Parametrized, read

__all__ = ["AMBIGUOUS", "MAX_DEPTH", "MAX_HEAD", "MAX_PARTS", "Node", "Structure"]

MAX_PARTS: Final = 1_000
MAX_DEPTH: Final = 32
MAX_HEAD: Final = 65_536
"""Octets of one part's header section."""
_MAX_HEADS: Final = 1_048_576
"""Octets of the header sections of all parts."""
_MAX_BOUNDARY: Final = 256
_MAX_LINE: Final = 1_024
"""Octets of a delimiter's line that are looked at."""
_MAX_RESEMBLING: Final = 1_000
"""Lines that resemble a delimiter, after which the structure counts as unknown."""
_STEP: Final = 16_384
"""Octets that are waited for, so that many small chunks cost no more than few large ones."""
_MESSAGES: Final = frozenset({"message/rfc822", "message/global"})
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})

_BEGINNING: Final = 256
"""Octets of each content that are kept, to see what it is."""

AMBIGUOUS: Final = frozenset(
    {
        "unclosed_multipart",
        "boundary_after_end",
        "boundary_with_blanks",
        "boundary_with_text",
        "boundary_too_long",
        "no_boundary",
        "nested_same_boundary",
        "padded_delimiter",
        "no_empty_line",
        "encoded_multipart",
        "encoded_message",
        "content_type_conflict",
        "content_encoding_conflict",
        "bare_line_end",
        "too_many_names",
    }
)
"""Defects under which mail programs see different parts."""
_HIDING: Final = AMBIGUOUS - {"unclosed_multipart", "boundary_with_blanks", "padded_delimiter"}
"""Those under which there may be parts that are not found here."""


@dataclass(eq=False, slots=True)
class Node:
    """One part, by offsets in the body of the message.

    Args:
        parent: The multipart, or message/rfc822, that it is in; None for the message itself.
        depth: 0 for the message itself.
        delimiter: Where its delimiter begins, the line end before it included.
        start: Where its header section begins.
        default: Its type if it names none.
    """

    parent: "Node | None" = None
    depth: int = 0
    delimiter: int = 0
    start: int = 0
    default: str = "text/plain"
    head: bytes = b""
    section: HeaderSection = field(default_factory=HeaderSection)
    type: Parametrized = field(default_factory=Parametrized)
    encoding: str = ""
    boundary: bytes = b""
    is_message: bool = False
    """Whether it is a message of its own."""
    beginning: bytes = b""
    """The first octets of its content, as it is encoded, and of what follows; of one that has no parts."""
    body: int = 0
    """Where its content begins."""
    stop: int = 0
    """Where its content ends."""
    end: int = 0
    """Where the next delimiter begins; the line end of an empty content is that of its header section."""
    closed: bool = False
    """Whether there is a closing delimiter."""
    close: int = 0
    """Where the closing delimiter begins, the line end before it included: -2 where the body begins with it."""
    children: "list[Node]" = field(default_factory=list)
    defects: set[str] = field(default_factory=set)

    def take_head(self, head: bytes) -> None:
        """Read the header section."""
        self.head = head
        self.section, _ = split_message(head + b"\r\n", max_size=max(len(head), 1))
        types = [read(each.value) for each in self.section.get_all("Content-Type")]
        self.type = types[0] if types else Parametrized(self.default)
        if "/" not in self.type.main:
            self.type = Parametrized("text/plain", self.type.parameters, self.type.conflict)
        if len(types) > 1 or any(each.conflict for each in types):
            self.defects.add("content_type_conflict")
        encodings = [each.unfolded.lower().strip() for each in self.section.get_all("Content-Transfer-Encoding")]
        self.encoding = read(encodings[0]).main if encodings else ""
        if len(set(encodings)) > 1:
            self.defects.add("content_encoding_conflict")
        if self.multipart:
            self._take_boundary()
        self.is_message = self.type.main in _MESSAGES and self.encoding in _IDENTITY
        if self.type.main in _MESSAGES and not self.is_message:
            self.defects.add("encoded_message")

    def _take_boundary(self) -> None:
        given = (self.type.get("boundary") or "").encode("utf-8", "surrogateescape")
        boundary = given.rstrip(b" \t")
        if boundary != given:
            self.defects.add("boundary_with_blanks")
        if self.encoding not in _IDENTITY:
            self.defects.add("encoded_multipart")
        if not boundary or b"\r" in boundary or b"\n" in boundary:
            self.defects.add("no_boundary")
        elif len(boundary) > _MAX_BOUNDARY:
            self.defects.add("boundary_too_long")
        else:
            self.boundary = boundary

    @property
    def multipart(self) -> bool:
        """Whether its type says that it has parts."""
        return self.type.main.startswith("multipart/")

    @property
    def opens(self) -> bool:
        """Whether parts are looked for in it."""
        return bool(self.boundary) or self.is_message

    @property
    def doubted(self) -> bool:
        """Whether another program may find another content, or parts that are not found here."""
        return not _HIDING.isdisjoint(self.defects) or (self.multipart and not self.children and not self.closed)

    def walk(self) -> "Iterator[Node]":
        """Yield this part and all below it, in the order of the message."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)


class Structure:
    """Finds the parts of a body.

    Args:
        head: The header section of the message, each field ending in CRLF.
        max_parts: Parts that are looked for.
        max_depth: How deep.
        max_head: Octets of one part's header section.
    """

    def __init__(
        self, head: bytes, *, max_parts: int = MAX_PARTS, max_depth: int = MAX_DEPTH, max_head: int = MAX_HEAD
    ) -> None:
        self.root: Node = Node()
        self.root.take_head(head)
        self.complete: bool = True
        """False if there are more parts, deeper ones or larger headers than are looked for: the rest is not here."""
        self.size: int = 0
        """Octets of the body so far."""
        self.steps: int = 0
        """Lines that were looked at one by one."""
        self._limits = max_parts, max_depth, max_head
        self._count, self._heads, self._resembling = 0, 0, 0
        self._waiting: list[bytes] = []
        self._waited = 0
        # As if an empty line stood before the body, as it does in a message: a delimiter may come first.
        self._data, self._base = b"\r\n", -2
        self._open: list[Node] = []
        self._current: Node | None = self.root
        self._in_head: Node | None = None
        self._ends = 0
        self._last = 0
        self._begin_content(self.root)

    @property
    def defects(self) -> frozenset[str]:
        """What is wrong, of all parts."""
        return frozenset(defect for node in self.root.walk() for defect in node.defects)

    @property
    def ambiguous(self) -> bool:
        """Whether mail programs see different parts."""
        return not AMBIGUOUS.isdisjoint(self.defects)

    # ------------------------------------------------------------------------------------------------------ feeding

    def feed(self, chunk: bytes) -> None:
        """Take the next octets of the body."""
        if not chunk:
            return
        self.size += len(chunk)
        self._count_line_ends(chunk)
        if not self.complete or not self._open:
            self._look_at_beginning(chunk)
            return
        self._waiting.append(chunk)
        self._waited += len(chunk)
        if self._waited >= _STEP:
            self._search(ended=False)

    def end(self) -> None:
        """Take the end of the body."""
        if self.complete and self._open:
            self._search(ended=True)
        if self.root.opens and (self._ends or self._last == 0x0D):
            self.root.defects.add("bare_line_end")
        if self._in_head is not None:
            self._in_head.body = self._in_head.stop = self._in_head.end = self.size
        self._leave(-1, self.size)

    def _count_line_ends(self, chunk: bytes) -> None:
        """Count the CRs and LFs that are no line end of their own: for some programs they are."""
        pairs = chunk.count(b"\r\n") + (self._last == 0x0D and chunk[:1] == b"\n")
        returns = chunk.count(b"\r") + (self._last == 0x0D) - (chunk[-1:] == b"\r")
        self._ends += returns - pairs + chunk.count(b"\n") - pairs
        self._last = chunk[-1]

    def _look_at_beginning(self, octets: bytes) -> None:
        """Keep the next octets of the content that is open."""
        node = self._current
        if node is not None and len(node.beginning) < _BEGINNING:
            node.beginning += octets[: _BEGINNING - len(node.beginning)]

    # ---------------------------------------------------------------------------------------------------- searching

    def _search(self, *, ended: bool) -> None:
        new = b"".join(self._waiting)
        data = self._data + new
        self._look_at_beginning(new)
        self._waiting.clear()
        self._waited = 0
        finder = _Finder(data)
        position = 0
        while self.complete and self._open:
            if self._in_head is not None:
                found = self._end_head(data, position, finder, ended)
            else:
                found = self._next_delimiter(data, position, finder, ended)
            if found is None:
                break
            position = found
        keep = len(data) if ended or not self._open else max(position, self._keep_from(data, position))
        self._look_for_text(data[position:keep])
        self._data = data[keep:]
        self._base += keep

    def _keep_from(self, data: bytes, position: int) -> int:
        """Return where in the octets a delimiter may have begun that is not here whole."""
        if self._in_head is not None:
            return position
        longest = max(len(node.boundary) for node in self._open) + 4
        line = data.rfind(b"\r\n--", max(position, len(data) - _MAX_LINE))
        return min(len(data) - longest + 1, line) if line >= 0 else len(data) - longest + 1

    def _next_delimiter(self, data: bytes, position: int, finder: "_Finder", ended: bool) -> int | None:
        at = finder.next(position, self._open)
        if at < 0:
            return None
        line_end = data.find(b"\r\n", at + 4, at + _MAX_LINE)
        if line_end < 0 and not ended and len(data) - at < _MAX_LINE:
            return None
        self.steps += 1
        self._look_for_text(data[position:at])
        known = line_end if line_end >= 0 else min(len(data), at + _MAX_LINE)
        line = data[at + 4 : known]
        if line_end < 0 and not (ended and known == len(data)):
            self._open[-1].defects.add("boundary_with_text")
            return self._resembles(at)
        return self._take_line(line, at, known)

    def _look_for_text(self, octets: bytes) -> None:
        """Look whether there is text behind the last part of a multipart."""
        inner = self._open[-1] if self._open else self.root
        if (
            self._in_head is None
            and self._current is None
            and inner.closed
            and "text_after_end" not in inner.defects
            and octets.strip()
        ):
            inner.defects.add("text_after_end")

    def _take_line(self, line: bytes, at: int, line_end: int) -> int:
        """Take a line that begins like a delimiter, and return from where to search on."""
        text = line.rstrip(b" \t")
        for index in range(len(self._open) - 1, -1, -1):
            node = self._open[index]
            if not node.boundary or text not in (node.boundary, node.boundary + b"--"):
                continue
            if node.closed and any(other.boundary == node.boundary for other in self._open[:index]):
                continue
            if text != line:
                node.defects.add("padded_delimiter")
            if node.closed:
                node.defects.add("boundary_after_end")
                return self._resembles(at)
            self._leave(index, self._base + at)
            if text == node.boundary:
                self._begin_part(node, at, line_end + 2)
            else:
                node.close, node.closed = self._base + at, True
            return line_end
        self._open[-1].defects.add("boundary_with_text")
        return self._resembles(at)

    def _resembles(self, at: int) -> int:
        self._resembling += 1
        if self._resembling > _MAX_RESEMBLING:
            self.complete = False
        return at + 2

    def _leave(self, index: int, end: int) -> None:
        """End all parts inside of an open one; of all for -1."""
        for node in self._open[index + 1 :]:
            node.stop, node.end = max(end, node.body), end
            if node.boundary and not node.closed and self.complete:
                node.defects.add("unclosed_multipart")
        del self._open[index + 1 :]
        if self._current is not None:
            self._current.stop, self._current.end = max(end, self._current.body), end
        self._current = None

    # ------------------------------------------------------------------------------------------------------- parts

    def _begin_part(self, parent: Node, at: int, start: int) -> None:
        max_parts, max_depth, _ = self._limits
        self._count += 1
        if self._count > max_parts or parent.depth >= max_depth:
            self.complete = False
            return
        default = "message/rfc822" if parent.type.main == "multipart/digest" else "text/plain"
        begin = min(self._base + start, self.size)
        node = Node(parent, parent.depth + 1, self._base + at, begin, default)
        parent.children.append(node)
        self._in_head = node

    def _end_head(self, data: bytes, position: int, finder: "_Finder", ended: bool) -> int | None:
        """Take a header section, and return from where to search on; None if it is not here whole."""
        node = self._in_head
        assert node is not None
        start = node.start - self._base
        end = start - 2 if data.startswith(b"\r\n", start) else data.find(b"\r\n\r\n", max(start, position))
        delimiter = finder.next(max(0, start - 2), self._open)
        if end < 0 and delimiter < 0 and not ended:
            if len(data) - start > self._limits[2]:
                self.complete = False
            return None
        if delimiter >= 0 and (end < 0 or delimiter < end):
            # A line that only resembles a delimiter does not end a header section; whether this one does is seen next.
            head = data[start : delimiter + 2]
            node.defects.add("no_empty_line")
            body = max(start, delimiter + 2)
        elif end < 0:
            head, body, delimiter = data[start:], len(data), len(data)
            node.defects.add("no_empty_line")
        else:
            head, body, delimiter = data[start : end + 2], end + 4, end + 2
        self._heads += len(head)
        if len(head) > self._limits[2] or self._heads > _MAX_HEADS:
            self.complete = False
            return None
        self._in_head = None
        node.take_head(head)
        node.body = node.stop = self._base + body
        self._begin_content(node)
        if self._current is node:
            self._look_at_beginning(data[body : body + _BEGINNING])
        return max(0, delimiter)

    def _begin_content(self, node: Node) -> None:
        if not node.opens:
            self._current = node
            return
        if node.depth >= self._limits[1]:
            self.complete = False
            return
        if any(other.boundary == node.boundary for other in self._open if node.boundary):
            node.defects.add("nested_same_boundary")
        self._open.append(node)
        self._current = None
        if node.is_message:
            self._count += 1
            child = Node(node, node.depth + 1, node.body, node.body)
            node.children.append(child)
            self._in_head = child


class _Finder:
    """The next place of each delimiter in some octets, each looked for once.

    Args:
        data: The octets.
    """

    __slots__ = ("_data", "_next")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next: dict[bytes, int] = {}

    def next(self, position: int, nodes: list[Node]) -> int:
        """Return where the line end is that comes before the next line that may be a delimiter; -1 if there is none."""
        nearest = -1
        for boundary in {node.boundary for node in nodes if node.boundary}:
            at = self._next.get(boundary, -2)
            if at != -1 and at < position:
                at = self._next[boundary] = self._data.find(b"\r\n--" + boundary, position)
            if at >= 0 and (nearest < 0 or at < nearest):
                nearest = at
        return nearest
