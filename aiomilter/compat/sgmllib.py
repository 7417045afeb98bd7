"""A parser that calls a method for each tag: ``Milter.sgmllib``, as Python 2 had it.

It reads as :class:`html.parser.HTMLParser` does.
"""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, Final

__all__ = ["SGMLParseError", "SGMLParser"]

Attributes = list[tuple[str, str]]


class SGMLParseError(RuntimeError):
    """Derived parsers may raise it; ours knows no markup that is an error."""


class SGMLParser:
    """Calls methods of derived classes for what is in a document.

    A tag calls ``start_TAG(attributes)``, or ``do_TAG(attributes)`` where it has no end, or :meth:`unknown_starttag`; its
    end ``end_TAG()`` or :meth:`unknown_endtag`.

    Args:
        verbose: Accepted and not used.

    Source: Python 2.7's documentation of sgmllib.
    """

    entitydefs: Final = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}

    def __init__(self, verbose: int = 0) -> None:
        self.verbose = verbose
        self.reset()

    def reset(self) -> None:
        """Forget what was fed."""
        self.rawtext = ""
        self.stack: list[str] = []
        self.nomoretags = self.literal = False
        self._source = ""
        self._lines = [0]
        self._tokens = _Tokens(self._token)
        self._done = 0
        self._pending: tuple[str, tuple[Any, ...]] | None = None

    def feed(self, data: str) -> None:
        """Parse more of the document; what may be the beginning of markup waits for the rest."""
        if self.literal or self.nomoretags:
            self.handle_data(data)
            return
        self._grow(data)
        self._tokens.feed(data)
        self._deliver(self._position())

    def close(self) -> None:
        """Parse what still waits."""
        self._tokens.close()
        self._deliver(len(self._source))
        if self._done < len(self._source):
            self.handle_data(self._source[self._done :])
            self._done = len(self._source)

    def setnomoretags(self) -> None:
        """Take all that is fed from now on for text."""
        self.nomoretags = self.literal = True

    def setliteral(self, *args: object) -> None:
        """Take all that is fed from now on for text."""
        self.literal = True

    def get_starttag_text(self) -> str | None:
        """Return the start tag that was read last, as it was written."""
        return self._tokens.get_starttag_text()

    # A construct is told with its source, which is known when the next one begins.

    def _grow(self, data: str) -> None:
        start = len(self._source)
        self._lines += [start + i + 1 for i, character in enumerate(data) if character == "\n"]
        self._source += data

    def _position(self) -> int:
        line, offset = self._tokens.getpos()
        return self._lines[line - 1] + offset

    def _token(self, kind: str, *arguments: Any) -> None:
        self._deliver(self._position())
        self._pending = (kind, arguments)

    def _deliver(self, end: int) -> None:
        if self._pending is None:
            return
        (kind, arguments), self._pending = self._pending, None
        # From where the one before ended: nothing that HTMLParser passes over in silence gets lost.
        self.rawtext, self._done = self._source[self._done : end], end
        if kind == "handle_data":
            self.handle_data(self.rawtext)
        else:
            getattr(self, kind)(*arguments)

    def _start(self, tag: str, attrs: Attributes) -> None:
        for prefix in ("start_", "do_"):
            method = getattr(self, prefix + tag, None)
            if method is not None:
                if prefix == "start_":
                    self.stack.append(tag)
                self.handle_starttag(tag, method, attrs)
                return
        self.unknown_starttag(tag, attrs)

    def _end(self, tag: str) -> None:
        method = getattr(self, "end_" + tag, None)
        if tag in self.stack:
            del self.stack[self.stack.index(tag) :]
        elif method is not None:
            self.report_unbalanced(tag)
            return
        if method is None:
            self.unknown_endtag(tag)
        else:
            self.handle_endtag(tag, method)

    def handle_starttag(self, tag: str, method: Callable[[Attributes], None], attrs: Attributes) -> None:
        """Call the method of a start tag."""
        method(attrs)

    def handle_endtag(self, tag: str, method: Callable[[], None]) -> None:
        """Call the method of an end tag."""
        method()

    def handle_charref(self, name: str) -> None:
        """Give the character of a numeric reference to :meth:`handle_data`."""
        replacement = self.convert_charref(name)
        if replacement is None:
            self.unknown_charref(name)
        else:
            self.handle_data(replacement)

    def convert_charref(self, name: str) -> str | None:
        """Return the character of a decimal reference; None for others than ASCII."""
        return self.convert_codepoint(int(name)) if name.isdecimal() and int(name) < 128 else None

    def convert_codepoint(self, codepoint: int) -> str:
        """Return the character with a number."""
        return chr(codepoint)

    def handle_entityref(self, name: str) -> None:
        """Give the text of an entity to :meth:`handle_data`."""
        replacement = self.convert_entityref(name)
        if replacement is None:
            self.unknown_entityref(name)
        else:
            self.handle_data(replacement)

    def convert_entityref(self, name: str) -> str | None:
        """Return the text of an entity, from ``entitydefs``; None if it has none."""
        return self.entitydefs.get(name)

    def handle_data(self, data: str) -> None:
        """Text; does nothing."""

    def handle_comment(self, data: str) -> None:
        """A comment, without its ends; does nothing."""

    def handle_decl(self, decl: str) -> None:
        """A declaration, without its ends; does nothing."""

    def handle_pi(self, data: str) -> None:
        """A processing instruction, without its ends; does nothing."""

    def report_unbalanced(self, tag: str) -> None:
        """The end of what did not begin; does nothing."""

    def unknown_starttag(self, tag: str, attrs: Attributes) -> None:
        """A tag that has no method; does nothing."""

    def unknown_endtag(self, tag: str) -> None:
        """The end of a tag that has no method; does nothing."""

    def unknown_charref(self, ref: str) -> None:
        """A numeric reference that cannot be converted; does nothing."""

    def unknown_entityref(self, ref: str) -> None:
        """An entity that has no text; does nothing."""


class _Tokens(HTMLParser):
    """Tells each construct to a parser, as a method's name and its arguments."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(convert_charrefs=False)
        self._tell = tell

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tell("_start", tag, [(name, name if value is None else value) for name, value in attrs])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # HTML knows no empty elements: <script/> is the beginning of one.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._tell("_end", tag)

    def handle_data(self, data: str) -> None:
        self._tell("handle_data", data)

    def handle_charref(self, name: str) -> None:
        self._tell("handle_charref", name)

    def handle_entityref(self, name: str) -> None:
        self._tell("handle_entityref", name)

    def handle_comment(self, data: str) -> None:
        self._tell("handle_comment", data)

    def handle_decl(self, decl: str) -> None:
        self._tell("handle_decl", decl)

    def unknown_decl(self, data: str) -> None:
        self._tell("handle_decl", data)

    def handle_pi(self, data: str) -> None:
        self._tell("handle_pi", data)

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        # As browsers do: it ends with the first ">".  What HTMLParser has raises where the markup is broken.
        end = self.rawdata.find(">", i)
        if end < 0:
            return -1
        self._tell("handle_decl", self.rawdata[i + 2 : end])
        return end + 1
