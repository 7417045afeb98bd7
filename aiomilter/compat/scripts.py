"""Filters of HTML documents, which ``mime`` uses: one writes a document as it is, the other without its scripts."""

from typing import ClassVar, Protocol

from aiomilter.compat.modules.sgmllib import SGMLParser

__all__ = ["HTMLScriptFilter", "SGMLFilter", "Writable"]


class Writable(Protocol):
    """A file that text goes to."""

    def write(self, text: str, /) -> object:
        """Write a text."""


class SGMLFilter(SGMLParser):
    """Writes an HTML document to a file as it is; derived classes make exceptions.

    Args:
        out: Where the document goes.
    """

    _only_tags: ClassVar[tuple[str, ...]] = ()

    def __init__(self, out: Writable) -> None:
        super().__init__()
        self.out = out

    def write(self, buf: str) -> None:
        """Parse more of the document."""
        self.feed(buf)

    def handle_data(self, data: str) -> None:
        """Write text."""
        self.out.write(data)

    def handle_comment(self, comment: str) -> None:
        """Write a comment."""
        self.handle_special(comment)

    def handle_decl(self, decl: str) -> None:
        """Write a declaration."""
        self.handle_special(decl)

    def handle_pi(self, data: str) -> None:
        """Write a processing instruction."""
        self.handle_special(data)

    def handle_special(self, data: str) -> None:
        """Write markup that is neither text nor a tag."""
        self.handle_data(self.rawtext)

    def handle_entityref(self, ref: str) -> None:
        """Write an entity."""
        self.handle_data(self.rawtext)

    def handle_charref(self, ref: str) -> None:
        """Write a numeric reference."""
        self.handle_data(self.rawtext)

    def unknown_starttag(self, tag: str, attr: list[tuple[str, str]]) -> None:
        """Write a start tag."""
        self.handle_data(self.rawtext)

    def unknown_endtag(self, tag: str) -> None:
        """Write an end tag."""
        self.handle_data(self.rawtext)


class HTMLScriptFilter(SGMLFilter):
    """Writes an HTML document without its scripts; ``modified`` tells whether it had any.

    Args:
        out: Where the document goes.
    """

    _only_tags: ClassVar[tuple[str, ...]] = ("script",)
    msg = "<!-- WARNING: embedded script removed -->"

    def __init__(self, out: Writable) -> None:
        super().__init__(out)
        self.ignoring: int = 0
        self.modified: bool = False

    def start_script(self, unused: list[tuple[str, str]]) -> None:
        """Write nothing until the script ends."""
        self.ignoring += 1
        self.modified = True

    def end_script(self) -> None:
        """Write a warning in place of the script, then the text after it."""
        self.ignoring = 0
        self.handle_data(self.msg)

    def handle_data(self, data: str) -> None:
        """Write text outside scripts."""
        if not self.ignoring:
            self.out.write(data)
