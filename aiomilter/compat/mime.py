"""Messages whose parts can be looked at and replaced: ``mime``.

On :mod:`email`, with what filters want besides: a hook for changed headers, the names that mail programs may take for that
of an attachment, dangerous ones among them, and scripts taken out of HTML.
"""

import platform
import quopri
import re
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from email import message_from_binary_file
from email.generator import BytesGenerator
from email.message import Message, _parseparam  # type: ignore[attr-defined]  # programs look at it
from email.utils import collapse_rfc2231_value, decode_params
from io import BytesIO, StringIO
from typing import Any, BinaryIO, ClassVar, Final, Protocol

from aiomilter.compat.lowlevel import CONTINUE
from aiomilter.compat.parsing import parse_header
from aiomilter.compat.sgmllib import SGMLParser

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
"""What :func:`check_ext` finds; programs may change it."""

virus_msg: str = (
    "This message appeared to contain a virus.\n"
    "It was originally named '%s', and has been removed.\n"
    "A copy of your original message was saved as '%s:%s'.\n"
    "See your administrator.\n"
)
"""What takes the place of an attachment: its name, this host and the name of a copy go in."""

# A zip inside a zip may unfold to any size, or to itself.
_MAX_ZIP_DEPTH: Final = 8
_MAX_ZIP_SIZE: Final = 32 << 20
# What follows the quotes does not count, as mail programs have it.
_QUOTED: Final = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_FOLD: Final = re.compile(r"\r?\n[ \t]*")
_WIDE_CHARSETS: Final = ("utf-16", "utf-32", "utf-16le", "utf-16be", "utf-32le", "utf-32be", "ucs-2")

Check = Callable[[str], object]


def unquote(s: str) -> str:
    """Return what is in the quotes, or the brackets, that a text begins with; a text without them as it is."""
    if s.startswith("<") and s.endswith(">"):
        return s[1:-1]
    quoted = _QUOTED.match(s)
    return s if quoted is None else _ESCAPED.sub(r"\1", quoted[1])


# Also a parameter's name.
_unquoted: Final = unquote


def _collapsed(value: str | tuple[str | None, str | None, str]) -> str:
    """Return the value of a parameter, decoded where RFC 2231 encodes it."""
    if not isinstance(value, tuple):
        return value
    try:
        return collapse_rfc2231_value(value)
    except ValueError:
        return value[2]  # what it names is no charset


class _Writer(Protocol):
    def write(self, text: str, /) -> object: ...


def zipnames(txt: bytes) -> list[tuple[str, str]]:
    """Return the names in a zip file, and in those inside of it, each as ``("zipname", name)``.

    Raises:
        zipfile.BadZipFile: It is none.
    """
    names: list[tuple[str, str]] = []
    _zipnames(txt, names, _MAX_ZIP_DEPTH, [_MAX_ZIP_SIZE])
    return names


def _zipnames(octets: bytes, names: list[tuple[str, str]], depth: int, budget: list[int]) -> None:
    with zipfile.ZipFile(BytesIO(octets)) as archive:
        for entry in archive.infolist():
            names.append(("zipname", entry.filename))
            if depth == 0 or not entry.filename.lower().endswith(".zip") or entry.file_size > budget[0]:
                continue
            try:
                with archive.open(entry) as file:
                    # As much as it says: what unfolds to more is cut.
                    inner = file.read(entry.file_size)
                budget[0] -= len(inner)
                _zipnames(inner, names, depth - 1, budget)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError):
                # Damaged, or encrypted: its own name is all there is to know.
                continue


class MimeGenerator(BytesGenerator):
    """Writes a message as it was read, but for what was changed."""

    def _dispatch(self, msg: Any) -> None:
        if isinstance(msg._payload, str):
            # Also a multipart whose parts were not found: others than text would lose their octets.
            self._handle_text(msg)  # type: ignore[attr-defined]
        else:
            super()._dispatch(msg)  # type: ignore[misc]


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
        self.modified = False
        if fp is not None:
            read = message_from_file(fp)
            self._headers: list[tuple[str, Any]] = list(read.raw_items())
            self._payload: Any = read.get_payload()
            self.preamble, self.epilogue = read.preamble, read.epilogue

    def get_param(self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        """Return a parameter of a header, decoded where RFC 2231 encodes it; see :meth:`email.message.Message.get_param`."""
        value = super().get_param(param, failobj, header, unquote)
        if value is failobj:
            return failobj
        if isinstance(value, tuple):
            return _collapsed(value)
        # A boundary ends with its quotes, whatever else a broken header has there.
        return _unquoted(value) if unquote and param.lower() == "boundary" else value

    def _get_params_preserve(self, failobj: Any, header: str) -> Any:
        try:
            return super()._get_params_preserve(failobj, header)  # type: ignore[misc]
        except (TypeError, ValueError):
            # The numbered parts of RFC 2231 and a whole one of the same name: each for itself, then.
            pieces = [piece.partition("=") for piece in _parseparam(str(self.get(header, "")))]
            found = [(name.strip(), value.strip()) for name, _, value in pieces]
            decoded = [decode_params([("", ""), piece])[1:] for piece in found]
            return [piece for each in decoded for piece in each]

    getparam = get_param
    getfilename = Message.get_filename
    ismultipart = Message.is_multipart
    getheaders = Message.get_all
    gettype = Message.get_content_type

    def getparams(self) -> list[tuple[str, str]]:
        """Return the parameters of Content-Type, names in lower case; the type itself comes first, as a name."""
        # RFC 2231 makes a value a triple.
        return [(name.lower(), _collapsed(value)) for name, value in self.get_params([]) if name]

    def getname(self) -> str | None:
        """Return the parameter ``name`` of Content-Type."""
        name: str | None = self.get_param("name")
        return name

    def getnames(self, scan_zip: bool = False) -> list[tuple[str, str | None]]:
        """Return everything that a mail program may take for the name of an attachment, each with what it is.

        Args:
            scan_zip: Whether names in a zip file count, as ``zipname``.
        """
        names: list[tuple[str, str | None]] = [*self.getparams(), ("filename", self.getfilename())]
        if scan_zip and any((name or "").lower().endswith(".zip") for _, name in names):
            # It may not be what its name says.
            with suppress(zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
                names += zipnames(self.get_payload_decoded())
        return names

    def ismodified(self) -> bool:
        """Tell whether this message, or a part of it, was changed."""
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

    def decode(self, filt: _Writer) -> None:
        """Write the decoded content as text, octet by octet unless its charset has wider units.

        Args:
            filt: Gets it; what parses HTML, for example.
        """
        filt.write(self.get_payload_decoded().decode(self._text_charset(), "surrogateescape"))

    def get_payload_decoded(self) -> bytes:
        """Return the content without its Content-Transfer-Encoding."""
        decoded = self.get_payload(decode=True)
        return decoded if isinstance(decoded, bytes) else b""

    def _text_charset(self) -> str:
        """Return a charset that every octet of the content is text in, and markup what it is in the content's own."""
        charset = str(self.get_param("charset", "")).lower().replace("_", "-")
        return charset if charset in _WIDE_CHARSETS else "latin-1"

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
        if self.submsg is None and encoding in ("base64", "quoted-printable") and self.is_multipart():
            # Against RFC 2046, but mail programs decode it; the parser took the encoded text for the message.
            encoded = Message()
            encoded["Content-Transfer-Encoding"] = encoding
            parsed: Any = self.get_payload()
            encoded.set_payload(parsed[0].as_bytes().decode("latin-1"))
            decoded: Any = encoded.get_payload(decode=True)
            self.submsg = message_from_file(BytesIO(decoded))
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


def message_from_file(fp: BinaryIO) -> MimeMessage:
    """Return the message in a file of octets."""
    message = message_from_binary_file(fp, MimeMessage)
    for part in message.walk():
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
    msg.set_payload(text)
    msg["Content-Type"] = "text/plain; name=WARNING.TXT"


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


class SGMLFilter(SGMLParser):
    """Writes an HTML document to a file as it is; derived classes make exceptions.

    Args:
        out: Where the document goes.
    """

    _only_tags: ClassVar[tuple[str, ...]] = ()

    def __init__(self, out: _Writer) -> None:
        super().__init__()
        self.out = out

    def write(self, buf: str) -> None:
        """Take more of the document, as a file would."""
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
        """Write what is neither text nor tag."""
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

    def __init__(self, out: _Writer) -> None:
        super().__init__(out)
        self.ignoring = 0
        self.modified = False

    def start_script(self, unused: list[tuple[str, str]]) -> None:
        """Write nothing from here on."""
        self.ignoring += 1
        self.modified = True

    def end_script(self) -> None:
        """Write a warning in the script's place, and what follows."""
        self.ignoring = 0
        self.handle_data(self.msg)

    def handle_data(self, data: str) -> None:
        """Write what is in no script."""
        if not self.ignoring:
            self.out.write(data)


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
        octets = text.getvalue().encode(msg._text_charset(), "surrogateescape")
        del msg["content-transfer-encoding"]
        msg.set_payload(quopri.encodestring(octets).decode("ascii"))
        msg["Content-Transfer-Encoding"] = "quoted-printable"
    return CONTINUE
