"""Messages whose parts can be looked at and replaced: ``mime``.

On :mod:`email`, with what filters want besides: a hook for changed headers, the names that mail programs may take for that
of an attachment, dangerous ones among them, and scripts taken out of HTML.
"""

import platform
import quopri
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.feedparser import FeedParser
from email.message import Message
from io import BytesIO, StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from aiomilter.compat.lowlevel import CONTINUE
from aiomilter.compat.modules.archives import UnpackingLimit, names_in
from aiomilter.compat.modules.generator import MimeGenerator
from aiomilter.compat.modules.parameters import collapsed, parse_parameters
from aiomilter.compat.modules.parameters import split_parameters as _parseparam  # noqa: F401  # programs look at it
from aiomilter.compat.modules.words import parse_header
from aiomilter.compat.scripts import HTMLScriptFilter, SGMLFilter, Writable
from aiomilter.mail.charsets import codec_of

__all__ = [
    "HTMLScriptFilter",
    "MimeGenerator",
    "MimeMessage",
    "SGMLFilter",
    "bad_extensions",
    "check_attachments",
    "check_ext",
    "check_html",
    "check_name",
    "defang",
    "extlist",
    "message_from_file",
    "unquote",
    "virus_msg",
    "zipnames",
]

extlist: str = (
    "ade,adp,asd,asx,asp,bas,bat,chm,cmd,com,cpl,crt,dll,exe,hlp,hta,inf,ins,isp,js,jse,lnk,mdb,mde,msc,msi,msp,mst,ocx,pcd,"
    "pif,reg,scr,sct,shs,url,vb,vbe,vbs,wsc,wsf,wsh"
)
"""Extensions of names that Windows runs."""

bad_extensions: list[str] = ["." + extension for extension in extlist.split(",")]
"""The extensions that :func:`check_ext` finds; programs may change it."""

virus_msg: str = (
    "This message appeared to contain a virus.\n"
    "It was originally named '%s', and has been removed.\n"
    "A copy of your original message was saved as '%s:%s'.\n"
    "See your administrator.\n"
)
"""The text that replaces an attachment; its name, this host and the name of a copy are filled in."""

_MAX_NESTING: Final = 100
"""Messages and multiparts within each other; deeper ones are text, as in Postfix (mime_nesting_limit)."""
_MAX_BOUNDARY: Final = 998
"""Characters, as many as a line may have (RFC 5322 section 2.1.1): a pattern is made of it, and kept."""
_READ_SIZE: Final = 8192
# As in mail programs, text after the quotes does not count.
_QUOTED: Final = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_FOLD: Final = re.compile(r"\r?\n[ \t]*")
_WIDE_CHARSETS: Final = ("utf_16", "utf_32", "utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be")
_UCS: Final = {"ucs-2": "utf-16", "iso-10646-ucs-2": "utf-16", "ucs-4": "utf-32", "iso-10646-ucs-4": "utf-32"}

Check = Callable[[str], object]


def unquote(s: str) -> str:
    """Return the content of the quotes or brackets at the start of a text; a text without them as it is."""
    if s.startswith("<") and s.endswith(">"):
        return s[1:-1]
    quoted = _QUOTED.match(s)
    return s if quoted is None else _ESCAPED.sub(r"\1", quoted[1])


# Also a parameter's name.
_unquoted: Final = unquote


def zipnames(txt: bytes) -> list[tuple[str, str]]:
    """Return the names in a zip file, and in those inside of it, each as ``("zipname", name)``.

    Where there are too many, or too much to unfold, the rest is left out.

    Raises:
        zipfile.BadZipFile: It is none.
    """
    return [("zipname", name) for name in names_in(txt, UnpackingLimit())]


class MimeMessage(Message):
    """A message, or a part of one.

    ``headerchange`` is called with the message, a name and a value when a header was set, with None before all of a name are
    deleted; so a filter can do the same in the MTA.

    Args:
        fp: File to read the message from; None for an empty one.
        seekable: Accepted and not used.

    Source: pymilter's documentation; observed of pymilter 1.0.5.
    """

    def __init__(self, fp: BinaryIO | None = None, seekable: int = 1) -> None:
        super().__init__()
        self.headerchange: Callable[[MimeMessage, str, str | None], object] | None = None
        self.submsg: MimeMessage | None = None
        self.modified: bool = False
        # How deep it is in others, and what may be done to look into zip files, for all parts of a message.
        self._level = 0
        self._limit = UnpackingLimit()
        if fp is not None:
            read = message_from_file(fp)
            self._headers: list[tuple[str, Any]] = list(read.raw_items())
            self._payload: Any = read.get_payload()
            self.preamble: str | None = read.preamble
            self.epilogue: str | None = read.epilogue

    def get_param(self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        """Return a parameter of a header, decoded where RFC 2231 encodes it; see :meth:`email.message.Message.get_param`."""
        value = super().get_param(param, failobj, header, unquote)
        if value is failobj:
            return failobj
        if isinstance(value, tuple):
            return collapsed(value)
        # A boundary ends with its quotes, whatever else a broken header has there.
        return _unquoted(value) if unquote and param.lower() == "boundary" else value

    def _get_params_preserve(self, failobj: Any, header: str) -> Any:
        value = self.get(header)
        return failobj if value is None else parse_parameters(str(value))

    def get_boundary(self, failobj: Any = None) -> Any:
        """Return the boundary of a multipart; one that fits no line is none."""
        boundary = super().get_boundary(failobj)
        return boundary if boundary is failobj or len(boundary) <= _MAX_BOUNDARY else failobj

    getparam = get_param

    def getfilename(self, failobj: Any = None) -> Any:
        """Return the name of the part's file, see :meth:`email.message.Message.get_filename`."""
        return Message.get_filename(self, failobj)

    def ismultipart(self) -> bool:
        """Return whether there are parts."""
        return Message.is_multipart(self)

    def getheaders(self, name: str, failobj: Any = None) -> Any:
        """Return the values of all headers of a name, see :meth:`email.message.Message.get_all`."""
        return Message.get_all(self, name, failobj)

    def gettype(self) -> str:
        """Return the media type, in lower case."""
        return Message.get_content_type(self)

    def getparams(self) -> list[tuple[str, str]]:
        """Return the parameters of Content-Type, names in lower case; the type itself comes first, as a name."""
        # RFC 2231 makes a value a triple.
        return [(name.lower(), collapsed(value)) for name, value in self.get_params([]) if name]

    def getname(self) -> str | None:
        """Return the parameter ``name`` of Content-Type."""
        name: str | None = self.get_param("name")
        return name

    def getnames(self, scan_zip: bool = False) -> list[tuple[str, str | None]]:
        """Return everything that a mail program may take for the name of an attachment, each with what it is.

        Args:
            scan_zip: Whether names in a zip file count, as ``zipname``.
        """
        names: list[tuple[str, str | None]] = list(self.getparams())
        names.append(("filename", self.getfilename()))
        if scan_zip and any((name or "").lower().endswith(".zip") for _, name in names):
            # Its content may be of another type than its name.
            with suppress(zipfile.BadZipFile):
                names.extend(("zipname", name) for name in names_in(self.get_payload_decoded(), self._limit))
        return names

    def ismodified(self) -> bool:
        """Return whether this message, or a part of it, was changed."""
        parts = self.get_payload() if self.is_multipart() else []
        return self.modified or any(part.ismodified() for part in parts if isinstance(part, MimeMessage))

    def dump(self, file: BinaryIO, unixfrom: bool = False) -> None:
        """Write this message with all its parts to a file."""
        MimeGenerator(file, mangle_from_=False, maxheaderlen=0).flatten(self, unixfrom=unixfrom)

    def as_bytes(self, unixfrom: bool = False, policy: Any = None) -> bytes:
        """Return this message with all its parts."""
        file = BytesIO()
        self.dump(file, unixfrom)
        return file.getvalue()

    def getencoding(self) -> str | None:
        """Return the Content-Transfer-Encoding in lower case."""
        value = self.get("content-transfer-encoding")
        return None if value is None else str(value).strip().lower()

    def decode(self, filt: Writable) -> None:
        """Write the decoded content as text, octet by octet unless its charset has wider units.

        Args:
            filt: Gets it; what parses HTML, for example.
        """
        # Octets that are not text in its charset are replaced: mail programs show the rest.
        filt.write(self.get_payload_decoded().decode(self._text_charset(), "replace"))

    def get_payload_decoded(self) -> bytes:
        """Return the content without its Content-Transfer-Encoding."""
        decoded = self.get_payload(decode=True)
        return decoded if isinstance(decoded, bytes) else b""

    def _text_charset(self) -> str:
        """Return a charset that every octet of the content is text in, and markup what it is in the content's own."""
        charset = str(self.get_param("charset", "")).lower()
        codec = codec_of(_UCS.get(charset, charset))
        return codec if codec in _WIDE_CHARSETS else "latin-1"

    def __setitem__(self, name: str, value: Any) -> None:
        """Append a header."""
        super().__setitem__(name, value)
        self.modified = True
        if self.headerchange is not None:
            self.headerchange(self, name, value)

    def __delitem__(self, name: str) -> None:
        """Delete all headers of a name."""
        # Told while they are still there: they may have to be counted.
        if self.headerchange is not None:
            self.headerchange(self, name, None)
        super().__delitem__(name)
        self.modified = True

    def set_payload(self, val: Any, charset: Any = None) -> None:
        """Replace the content."""
        self.submsg = None
        self.modified = True
        super().set_payload(val, charset)

    def get_submsg(self) -> "list[MimeMessage] | MimeMessage | None":
        """Return the message inside of a message/rfc822: a list of it, or itself where it was encoded; None if it is none."""
        if self.get_content_type() != "message/rfc822":
            return None
        encoding = self.getencoding()
        readable = encoding in ("base64", "quoted-printable") and self._level < _MAX_NESTING
        if self.submsg is None and readable and self.is_multipart():
            # Against RFC 2046, but mail programs decode it; the parser took the encoded text for the message.
            encoded = Message()
            encoded["Content-Transfer-Encoding"] = str(encoding)
            parsed: Any = self.get_payload()
            encoded.set_payload(parsed[0].as_bytes().decode("latin-1"))
            decoded: Any = encoded.get_payload(decode=True)
            self.submsg = _parse(BytesIO(decoded), self._level + 1, self._limit)
        if self.submsg is not None or not self.is_multipart():
            return self.submsg
        payload: Any = self.get_payload()
        return payload  # type: ignore[no-any-return]

    def _inside(self) -> "list[MimeMessage] | None":
        """Return the parts, or the message inside; None if there are none."""
        inside = self.get_submsg()
        if inside is None and self.is_multipart():
            payload: Any = self.get_payload()
            return payload  # type: ignore[no-any-return]
        return [inside] if isinstance(inside, MimeMessage) else inside


if TYPE_CHECKING:
    _FeedParser = FeedParser["MimeMessage"]
else:
    _FeedParser = FeedParser


class _Parser(_FeedParser):
    """Reads a message; parts that are nested too deep are text.

    Args:
        level: How deep the message itself is in others.
        limit: The work that may be done for all of its parts.
    """

    def __init__(self, level: int, limit: UnpackingLimit) -> None:
        # Before its own, which begins to read.
        self._level = level
        self._limit = limit
        self.parts: list[MimeMessage] = []
        super().__init__(MimeMessage)

    def _new_message(self) -> None:
        super()._new_message()  # type: ignore[misc]
        part: MimeMessage = self._cur  # type: ignore[attr-defined]
        part._level = self._level + len(self._msgstack) - 1  # type: ignore[attr-defined]
        part._limit = self._limit
        self.parts.append(part)

    def _parsegen(self) -> Iterator[object]:
        nested: Iterator[object] = super()._parsegen()  # type: ignore[misc]
        return nested if self._level + len(self._msgstack) < _MAX_NESTING else self._text_of(nested)  # type: ignore[attr-defined]

    def _text_of(self, nested: Iterator[object]) -> Iterator[object]:
        """Read a part as one that has none itself."""
        self._headersonly = True
        yield from nested
        self._headersonly = False


def message_from_file(fp: BinaryIO) -> MimeMessage:
    """Return the message in a file of octets."""
    return _parse(fp, 0, UnpackingLimit())


def _parse(fp: BinaryIO, level: int, limit: UnpackingLimit) -> MimeMessage:
    parser = _Parser(level, limit)
    text = TextIOWrapper(fp, encoding="ascii", errors="surrogateescape")
    try:
        while data := text.read(_READ_SIZE):
            parser.feed(data)
    finally:
        text.detach()
    message = parser.close()
    for part in parser.parts:
        part.modified = False
    return message


def check_ext(name: str | None) -> str | None:
    """Return a name that Windows runs, None for any other."""
    if not name:
        return name
    return name if name.lower().endswith(tuple(bad_extensions)) else None


def check_name(msg: MimeMessage, savname: str | None = None, ckname: Check = check_ext, scan_zip: bool = False) -> int:
    """Replace an attachment by a warning if one of its names is dangerous.

    Names are looked at as they are written and with encoded words (RFC 2047) and line folds taken out, as mail programs do.

    Args:
        msg: The attachment.
        savname: Name of a copy, for the warning.
        ckname: Gets a name; true for a dangerous one.
        scan_zip: Whether the names in a zip file count.
    Returns:
        ``Milter.CONTINUE``.
    """
    for attribute, name in msg.getnames(scan_zip):
        if not name:
            continue
        shown = _FOLD.sub("", parse_header(name))
        bad = next((each for each in dict.fromkeys((name, shown)) if ckname(each)), None)
        if bad is not None:
            named = msg.getname() or msg.getfilename() or bad if attribute == "zipname" else bad
            _replace(msg, virus_msg % (named, platform.node(), savname))
            break
    return CONTINUE


def _replace(msg: MimeMessage, text: str) -> None:
    # Told of all three, whether they are there or not, as in pymilter.
    for name in ("content-type", "content-disposition", "content-transfer-encoding"):
        del msg[name]
    if text.isascii():
        msg.set_payload(text)
        msg["Content-Type"] = "text/plain; name=WARNING.TXT"
    else:
        # The name that it holds may be of any script.
        msg.set_payload(text.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape"))
        msg["Content-Type"] = "text/plain; charset=utf-8; name=WARNING.TXT"
        msg["Content-Transfer-Encoding"] = "8bit"


def check_attachments(msg: MimeMessage, check: Callable[[MimeMessage], int], lev: Sequence[int] | None = None) -> int:
    """Show each part of a message that has no parts itself to a function.

    Args:
        msg: The message.
        check: Gets a part; anything but ``Milter.CONTINUE`` ends the search.
        lev: Accepted and not used.
    Returns:
        What ``check`` returned last.
    """
    inside = msg._inside()
    if inside is None:
        return check(msg)
    for part in inside:
        result = check_attachments(part, check)
        if result != CONTINUE:
            return result
    return CONTINUE


def defang(
    msg: MimeMessage,
    savname: str | None = None,
    check: Check = check_ext,
    scan_rfc822: bool = True,
    scan_zip: bool = False,
) -> bool:
    """Replace all attachments with dangerous names, and take the scripts out of HTML.

    Args:
        msg: The message.
        savname: Name of a copy, for the warnings.
        check: Gets a name; true for a dangerous one.
        scan_rfc822: Whether attached messages are looked into.
        scan_zip: Whether the names in zip files count.
    Returns:
        Whether the message was changed.
    """
    if msg.get_content_type() == "message/rfc822" and not scan_rfc822:
        check_name(msg, savname, check, scan_zip)
    elif (inside := msg._inside()) is not None:
        for part in inside:
            defang(part, savname, check, scan_rfc822, scan_zip)
        if msg.submsg is not None and msg.submsg.ismodified():
            decoded = msg.submsg
            del msg["content-transfer-encoding"]
            msg.set_payload([decoded])
    else:
        check_name(msg, savname, check, scan_zip)
        check_html(msg, savname)
    return msg.ismodified()


def check_html(msg: MimeMessage, savname: str | None = None) -> int:
    """Take the scripts out of a part that is HTML, whatever its charset and encoding.

    Args:
        msg: The part.
        savname: Accepted and not used.
    Returns:
        ``Milter.CONTINUE``.
    """
    if msg.get_content_type() != "text/html" or msg.is_multipart():
        return CONTINUE
    text = StringIO(newline="")
    filtered = HTMLScriptFilter(text)
    msg.decode(filtered)
    filtered.close()
    if filtered.modified:
        octets = text.getvalue().encode(msg._text_charset(), "replace")
        del msg["content-transfer-encoding"]
        # Blanks as well, as pymilter and the email package write them.
        msg.set_payload(quopri.encodestring(octets, quotetabs=True).decode("ascii"))
        msg["Content-Transfer-Encoding"] = "quoted-printable"
    return CONTINUE
