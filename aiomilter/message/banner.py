"""A text that is put into what readers of a message see, in plain text and in HTML.

Only the text that is shown first is changed: not attached ones, no calendar, nothing signed or encrypted.

Source: RFC 2046 section 5.1; RFC 3676 section 4 (format=flowed).
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

from aiomilter.message import transfer
from aiomilter.message.parts import Part

__all__ = ["MAX_TEXT", "Banner", "Place", "put_in", "targets"]

Place = Literal["top", "bottom"]

MAX_TEXT: Final = 1_048_576
"""Octets of a text that a banner is put into at most: 1 MiB; a longer one stays as it is."""
_IN_LOOP: Final = 16_384
"""Octets that are worked on without a thread."""
_KINDS: Final = ("text/plain", "text/html")
_TAG: Final = re.compile(r"<(!--|/body\b|body\b|script\b|style\b|title\b|textarea\b)", re.IGNORECASE)
_REST_OF_TAG: Final = re.compile(r"(?:\"[^\"]*+\"|'[^']*+'|[^>\"'])*+>")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_LONGEST: Final = 900


@dataclass(frozen=True, slots=True)
class Banner:
    """What is put in.

    Args:
        text: For plain text; also for HTML if there is no ``html``.
        html: For HTML.
        place: Above the text, or below.
    """

    text: str
    html: str
    place: Place

    def of(self, kind: str) -> str:
        """Return it for a kind of text."""
        if kind == "text/plain":
            return "\r\n".join(_LINE_END.split(self.text.rstrip("\r\n")))
        return self.html or f"<p>{escape(self.text)}</p>"


def targets(part: Part) -> Iterator[Part]:
    """Yield the texts that a reader is shown first: each alternative, and of other multiparts the first part."""
    if part.removed or part.protected or part.disposition == "attachment":
        return
    kind = part.content_type
    if part.is_multipart and kind.startswith("multipart/"):
        left = [child for child in part.children if not child.removed]
        for child in left if kind == "multipart/alternative" else left[:1]:
            yield from targets(child)
    elif kind in _KINDS and not part.filename:
        yield part


async def put_in(part: Part, banner: Banner) -> str:
    """Put a banner into a text, and return why that was not possible; "" if it was."""
    octets = b"".join([piece async for piece in part.chunks()]) if part.size <= MAX_TEXT else b""
    if part.size > MAX_TEXT:
        return "text_too_large"
    flowed = (part._type.get("format") or "").lower() == "flowed"
    given = _Text(part.content_type, part.charset, part.encoding, flowed)
    if len(octets) <= _IN_LOOP:
        done = _with_banner(octets, given, banner)
    else:
        done = await asyncio.to_thread(_with_banner, octets, given, banner)
    if isinstance(done, str):
        return done
    fields = {}
    if done.charset != given.charset:
        fields["Content-Type"] = part.with_charset(done.charset)
    if done.encoding != given.encoding:
        fields["Content-Transfer-Encoding"] = done.encoding
    part.put(done.octets, fields)
    return ""


@dataclass(frozen=True, slots=True)
class _Text:
    kind: str
    charset: str
    encoding: str
    flowed: bool
    octets: bytes = b""


def _with_banner(octets: bytes, given: _Text, banner: Banner) -> _Text | str:
    """Return a text with a banner in it, or what kept it out."""
    codec = transfer.codec(given.charset or "us-ascii")
    if codec is None:
        return "unknown_charset"
    if given.encoding == "base64" and transfer.broken_base64(octets):
        return "broken_base64"
    try:
        # Octets above 127 in what calls itself ASCII come back as they were.
        errors = "surrogateescape" if codec in ("ascii", "utf_8") else "strict"
        text = transfer.decoded_whole(octets, given.encoding).decode(codec, errors)
    except ValueError:
        return "undecodable_text"
    added = banner.of(given.kind)
    new = (
        _in_html(text, added, banner.place)
        if given.kind == "text/html"
        else _in_text(text, added, banner, given.flowed)
    )
    try:
        plain = new.encode(codec, errors)
    except ValueError:
        return _as_utf8(new, given)
    long = any(len(line) > _LONGEST for line in added.split("\r\n"))
    if given.encoding in ("base64", "quoted-printable"):
        return _Text(given.kind, given.charset, given.encoding, given.flowed, transfer.encoded(plain, given.encoding))
    if long or (given.encoding in ("", "7bit") and not added.isascii()):
        return _Text(
            given.kind, given.charset, "quoted-printable", given.flowed, transfer.encoded(plain, "quoted-printable")
        )
    return _Text(given.kind, given.charset, given.encoding, given.flowed, plain)


def _as_utf8(text: str, given: _Text) -> _Text | str:
    try:
        octets = text.encode("utf-8")
    except ValueError:
        return "undecodable_text"
    return _Text(given.kind, "utf-8", "quoted-printable", given.flowed, transfer.encoded(octets, "quoted-printable"))


def _in_text(text: str, added: str, banner: Banner, flowed: bool) -> str:
    if flowed:
        lines = added.split("\r\n")
        added = "\r\n".join(" " + line if line.startswith((" ", ">", "From ")) else line.rstrip(" ") for line in lines)
    if banner.place == "top":
        return f"{added}\r\n\r\n{text}"
    gap = "" if not text or text.endswith("\n") else "\r\n"
    return f"{text}{gap}\r\n{added}\r\n"


def _in_html(text: str, added: str, place: Place) -> str:
    begin, end = _body_of(text)
    at = begin if place == "top" else end
    return f"{text[:at]}{added}{text[at:]}"


def _body_of(text: str) -> tuple[int, int]:
    """Return where the content of HTML begins and ends: behind ``<body>`` and before the last ``</body>``.

    Comments, scripts, styles, titles and text areas are passed over.  What is never closed takes the rest, so no character is
    looked at twice.
    """
    begin, end, position = 0, len(text), 0
    seen = False
    lower = text.lower()
    if len(lower) != len(text):  # a letter that has two in lower case
        lower = text
    while (tag := _TAG.search(text, position)) is not None:
        name = tag[1].lower()
        if name == "!--":
            stop = text.find("-->", tag.end())
        elif name in ("body", "/body"):
            match = _REST_OF_TAG.match(text, tag.end())
            stop = match.end() if match else -1
            if stop >= 0 and name == "body" and not seen:
                begin, seen = stop, True
            elif stop >= 0 and name == "/body":
                end = tag.start()
        else:
            stop = lower.find(f"</{name}", tag.end())
        if stop < 0:
            break
        position = stop
    return begin, max(begin, end)
