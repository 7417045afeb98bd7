"""``banner``: a text above or below what the reader sees, and a mark in the subject."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Literal

from aiomilter.context import Context
from aiomilter.filters.ready import ReadyEdit
from aiomilter.filters.site import Site
from aiomilter.message import Message, MessageMilter, StructureError
from aiomilter.wire.replies import Response

__all__ = ["Banner"]

_MAX_SIZE: Final = 65_536
_LONGEST: Final = 100


@dataclass(frozen=True, kw_only=True)
class Banner(ReadyEdit):
    """Put a text into the mail, in plain text and HTML, as far as there are any; and a mark in front of the subject.

    Put it before sign: a signature does not survive it.  Mail whose structure is ambiguous gets no text.

    Args:
        text: A file with the text, UTF-8.
        html: A file with the same in HTML; the text is used if it is left out.
        place: Above what the reader sees, or below it.
        subject: A mark such as [EXT]; subjects that have it already stay as they are.
        signed: What is done with signed or encrypted mail: skip it, or wrap it, untouched, behind a part with the text.
    """

    name: ClassVar[str] = "banner"
    example: ClassVar[str] = (
        '[[filter]]\nuse = "banner"\nunless = ["authenticated", "internal"]\ntext = "banner.txt"\nsubject = "[EXT]"\n'
    )

    text: Path | str | None = None
    html: Path | str | None = None
    place: Literal["top", "bottom"] = "bottom"
    subject: str = ""
    signed: Literal["skip", "wrap"] = "skip"

    def __post_init__(self) -> None:
        if self.text is None and not self.subject:
            raise ValueError("expected text, subject or both")
        if self.html is not None and self.text is None:
            raise ValueError("html: expected text, too, for mail without HTML")
        if not self.subject.isprintable() or len(self.subject) > _LONGEST:
            raise ValueError(f"subject: expected a mark of up to {_LONGEST} characters, found {self.subject!r:.80}")

    def check(self, site: Site) -> None:
        """Read the files."""
        self._read()

    def _read(self) -> tuple[str, str]:
        """Return the text, and the HTML.

        Raises:
            ValueError: A file cannot be read; the text begins with the setting.
        """
        return _read("text", self.text), _read("html", self.html)

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], MessageMilter]]:
        """Read the files."""
        text, html = self._read()
        yield partial(_Banner if text else _Subject, self, text, html)


def _read(name: str, path: Path | str | None) -> str:
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            octets = file.read(_MAX_SIZE + 1)
        text = octets.decode()
    except OSError as error:
        raise ValueError(f"{name}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name}: {path}: expected UTF-8") from None
    if not text.strip() or len(octets) > _MAX_SIZE or "\0" in text:
        raise ValueError(f"{name}: {path}: expected a text of up to {_MAX_SIZE} octets")
    return text.rstrip()


class _Subject(MessageMilter):
    """Marks the subject; the body is not asked for."""

    body_wanted = False

    def __init__(self, settings: Banner, text: str, html: str) -> None:
        self.settings = settings
        self.text = text
        self.html = html

    async def message(self, ctx: Context, message: Message) -> Response | None:
        mark, subject = self.settings.subject, message.headers.text("Subject")
        if mark and mark not in subject:
            message.headers.set_text("Subject", f"{mark} {subject}".rstrip())
        return None


class _Banner(_Subject):
    """Puts in the text, too."""

    body_wanted = True

    async def message(self, ctx: Context, message: Message) -> Response | None:
        with suppress(StructureError):  # mail programs do not agree on where the text is
            message.banner(self.text, self.html, place=self.settings.place, signed=self.settings.signed)
        return await super().message(ctx, message)
