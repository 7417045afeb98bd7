"""A parser that calls a method for each tag: ``Milter.sgmllib``, as in Python 2; ``markup`` finds the tags."""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from aiomilter.compat.modules.markup import Attributes, Markup, Token, attributes

__all__ = ["SGMLParseError", "SGMLParser"]


class SGMLParseError(RuntimeError):
    """Derived parsers may raise it; ours knows no markup that is an error."""


class SGMLParser:
    """Calls methods of derived classes for the tags and text of a document.

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
        self.rawtext: str = ""
        self.stack: list[str] = []
        self.nomoretags: bool = False
        self.literal: bool = False
        # An attribute of a class itself does not hold for derived classes.
        self._only: Collection[str] | None = vars(type(self)).get("_only_tags")
        self._markup = Markup(self._only)
        self._start_tag = ""
        # Where each tag is in the stack, the first time; and how many tags this knows.
        self._opened: dict[str, int] = {}
        self._known = 0

    def feed(self, data: str) -> None:
        """Parse more of the document; what may be the beginning of markup waits for the rest."""
        if self.literal or self.nomoretags:
            self.handle_data(data)
        else:
            self._tell(self._markup.feed(data))

    def close(self) -> None:
        """Parse what still waits."""
        self._tell(self._markup.close())

    def setnomoretags(self) -> None:
        """Take all that is fed from now on for text."""
        self.nomoretags = self.literal = True

    def setliteral(self, *args: object) -> None:
        """Take all that is fed from now on for text."""
        self.literal = True

    def get_starttag_text(self) -> str | None:
        """Return the start tag that was read last, as it was written."""
        return self._start_tag or None

    def _tell(self, tokens: Iterable[Token]) -> None:
        for kind, self.rawtext, value in tokens:
            match kind:
                case "text":
                    self.handle_data(self.rawtext)
                case "start":
                    self._start_tag = self.rawtext
                    self._start(value)
                case "end":
                    self._end(value)
                case "entityref":
                    self.handle_entityref(value)
                case "charref":
                    self.handle_charref(value)
                case "comment":
                    self.handle_comment(value)
                case "decl":
                    self.handle_decl(value)
                case "pi":
                    self.handle_pi(value)

    def _start(self, tag: str) -> None:
        # Where only tags matter, their attributes do not.
        attrs = attributes(self.rawtext) if self._only is None else []
        for prefix in ("start_", "do_"):
            method = getattr(self, prefix + tag, None)
            if method is not None:
                if prefix == "start_":
                    self._forget_popped()
                    self.stack.append(tag)
                self.handle_starttag(tag, method, attrs)
                return
        self.unknown_starttag(tag, attrs)

    def _end(self, tag: str) -> None:
        method = getattr(self, "end_" + tag, None)
        first = self._first(tag) if self.stack else None
        if first is not None:
            self._unwind(first)
        elif method is not None:
            self.report_unbalanced(tag)
            return
        if method is None:
            self.unknown_endtag(tag)
        else:
            self.handle_endtag(tag, method)

    def _first(self, tag: str) -> int | None:
        """Return where a tag is in the stack, the first time, without a look at all of it for each end tag."""
        if self.stack[0] == tag:
            return 0
        self._forget_popped()
        for index in range(self._known, len(self.stack)):
            self._opened.setdefault(self.stack[index], index)
        self._known = len(self.stack)
        return self._opened.get(tag)

    def _forget_popped(self) -> None:
        """Count anew after a program has taken tags off the stack."""
        if self._known > len(self.stack):
            self._opened, self._known = {}, 0

    def _unwind(self, first: int) -> None:
        if self._known > first:
            for tag in self.stack[first : self._known]:
                if self._opened.get(tag, -1) >= first:
                    del self._opened[tag]
            self._known = first
        del self.stack[first:]

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
        digits = name.lstrip("0") or "0"
        # What has too many digits, int() refuses.
        return (
            self.convert_codepoint(int(digits)) if name.isdecimal() and len(digits) < 4 and int(digits) < 128 else None
        )

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
