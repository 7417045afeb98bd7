"""The parsers of foreign text: what a peer, a sender, a DNS answer or a mailbox can choose, and what each may raise.

A parser gets a text of any size; where it takes octets they are the text's UTF-8, surrogates as the octets they stand for.
What it is cut by stands beside it: texts that hurt are made of that.
"""

import contextlib
import io
import os
import re
import tempfile
from argparse import ArgumentTypeError
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile

from aiomilter._cli import expect, messages, scenario, terminal
from aiomilter._cli import parsing as arguments
from aiomilter._config import values
from aiomilter.addresses import parse as parse_address
from aiomilter.auth import _spf_record as spf_record
from aiomilter.auth import results, spf
from aiomilter.auth.arc import _sets as arc_sets
from aiomilter.auth.arc._recorded import aar_value
from aiomilter.auth.dkim import _canonical as dkim_canonical
from aiomilter.auth.dkim import _record as dkim_record
from aiomilter.auth.dkim import _signature as dkim_signature
from aiomilter.auth.dkim import _tags as dkim_tags
from aiomilter.auth.dkim._body import BodyHashes
from aiomilter.auth.dmarc import _record as dmarc_record
from aiomilter.auth.dmarc._author import author_domains
from aiomilter.compat import classic
from aiomilter.compat.modules import dsn, dynip, markup, mime, pyip6, sgmllib, unsign, utils
from aiomilter.compat.modules.cache import AddrCache
from aiomilter.compat.modules.config import MilterConfigParser
from aiomilter.compat.modules.greylist import Greylist
from aiomilter.compat.modules.policy import MTAPolicy
from aiomilter.context import Context, Transaction
from aiomilter.dns import names
from aiomilter.edits import Edits
from aiomilter.exceptions import AddressError, LocalProtocolError, RemoteProtocolError
from aiomilter.mail import domain, encoded_words, envelope
from aiomilter.mail.headers import Field, HeaderSection, split_message
from aiomilter.mail.srs import Rewriter
from aiomilter.mta import content, delivery
from aiomilter.policy.greylist import general_sender
from aiomilter.policy.stores import urls
from aiomilter.policy.stores.keys import subject
from aiomilter.smtp import split_address
from aiomilter.smtp.client import Client, XClientError, after_xclient
from aiomilter.wire import events, foreign, macros, modifications, negotiation, replies, text
from aiomilter.wire.constants import ALL_ACTIONS
from aiomilter.wire.framing import FrameBuffer, Lookahead
from tests.faults.growth.shapes import HOLE, NUMBER

__all__ = ["CONTROLS", "PARSERS", "Parser"]


class Parser(NamedTuple):
    """One of them.

    Args:
        read: Gets a text.
        atoms: What it is cut by.
        raises: What it says in its documentation that it raises.
        scale: How large texts are for it; smaller where they come character by character.
        weight: How many times as many shapes are made for it as for others.
        grows: Whether what it reads grows with the text; if not there is nothing to count.
    """

    read: Callable[[str], object]
    atoms: Sequence[str]
    raises: tuple[type[Exception], ...] = ()
    scale: float = 1.0
    weight: int = 1
    grows: bool = True


def octets(text: str) -> bytes:
    """Return the octets of a text."""
    return text.encode("utf-8", "surrogateescape")


# HTML and messages, for programs of pymilter's

HTML: Final = (
    "<", ">", "</", "/>", "<a", "<a ", "<p>", "</p>", "<b/>", "<script", "<script>", "</script>", "</script",
    "<style>", "<!--", "-->", "--", "<!", "<!DOCTYPE", "<![CDATA[", "]]>", "<?", "?>", "&", "&#", "&#x", "&amp;", ";",
    '"', "'", "=", "='", '="', "= '", "/", "b=c", "a='>'", "x",
    f"&#{HOLE};", f"b=&#{HOLE};", f"&{HOLE};", f"<a {HOLE}>", f"<{HOLE}>", f"<!--{HOLE}-->", f"b='{HOLE}'",
    "<a b='>'", "<a b='>'>",
)  # fmt: skip


def filtered(pieces: Sequence[str]) -> None:
    parser = mime.HTMLScriptFilter(io.StringIO(newline=""))
    for piece in pieces:
        parser.feed(piece)
    parser.close()


class Elements(sgmllib.SGMLParser):
    """Has tags that have to be closed."""

    def start_a(self, attrs: object) -> None: ...

    def start_b(self, attrs: object) -> None: ...

    def end_b(self) -> None: ...

    def start_p(self, attrs: object) -> None: ...


def elements(pieces: Sequence[str]) -> None:
    parser = Elements()
    for piece in pieces:
        parser.feed(piece)
    parser.close()


def message(text: str) -> mime.MimeMessage:
    return mime.message_from_file(io.BytesIO(octets(text)))


def looked_at(read: mime.MimeMessage) -> None:
    for part in read.walk():
        part.getnames(scan_zip=True)
        part.gettype()
        part.getname()
        part.getencoding()
        part.get_payload_decoded()
        part.get_submsg()
    mime.check_attachments(read, lambda part: 0)
    read.as_bytes()


def defanged(read: mime.MimeMessage) -> None:
    mime.defang(read, scan_zip=True)
    read.as_bytes()


MESSAGE: Final = (
    "Content-Type: ", "multipart/mixed; boundary=X\n\n", "multipart/digest; boundary=X\n\n", "message/rfc822\n", "\n",
    "\n\n", "\n--X\n", "\n--X--\n", "text/html\n\n", "text/plain; charset=utf-16\n\n",
    "Content-Type: message/rfc822\n\n", f"Content-Type: multipart/mixed; boundary=X{NUMBER}\n\n--X{NUMBER}\n", "--X",
    "--", "Content-Transfer-Encoding: base64\n", "Content-Transfer-Encoding: quoted-printable\n",
    "Content-Transfer-Encoding: uuencode\n",
    "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\n", "begin 644 a\n", "M", "`\nend\n",
    "=", "=\n", "YQ==", "<script>", "Subject: x\n", f"X{NUMBER}: y\n", " folded\n", "From ", ":",
)  # fmt: skip
PARAMETERS: Final = (
    ";", "; ", '"', "\\", '\\"', "=", "*", "*=", "name", "name=", "filename=", "*0*=", f"*{NUMBER}=", f"*{NUMBER}*=",
    f"; name*{NUMBER}=a", f"; a{NUMBER}=b", "utf-8''", "''", "'", "%41", "%", "<", ">", "(", ")", ",", "a.exe",
    ".zip", "\n ", "=?utf-8?q?a?=", "boundary=", "charset=",
    f"; name*{HOLE}=a", f"; name=\"{HOLE}\"", f"; name*={HOLE}''a", "; name*=utf-8''%C3%A4.exe",
)  # fmt: skip
ENCODED: Final = (
    "=?", "?=", "?", "=?utf-8?q?", "=?utf-8?b?", "=?utf-8?q?a?=", "=?utf-8?q?a?= ", "=?latin-1?Q?=E4?=",
    "=?x?b?YQ==?=", "q", "b", "_", "=41", "=", "YQ==", "\n ", " ", "utf-8", "*en",
    f"=?{HOLE}?q?a?=", f"=?utf-8?q?{HOLE}?=", f"=?utf-8?b?{HOLE}?=",
)  # fmt: skip
ZIP: Final = (
    "PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", "\0", "\0\0\0\0", "\x01", "\x7f", "\x08",
    "\x2e\0", "\x16\0", "a.zip", "PK\x05\x06" + "\0" * 18, "PK\x01\x02" + "\0" * 42,
)  # fmt: skip
MAILBOX: Final = (
    "<", ">", "<>", '"', "\\", "(", ")", "@", ",", ":", ";", ".", "[", "]", "a@b", "<a@b>", "a", "X Y", "a:", '"X" ',
    "\r\n ", "@a:", "@a,", "=?utf-8?q?a?=",
    f"({HOLE})", f"\"{HOLE}\"", f"<{HOLE}>",
)  # fmt: skip
ADDRESS: Final = (
    "1", "0", "255", "1.", ".", ":", "::", "0:", "f", "ffff:", "::ffff:", "%", "%eth0", "/", "/8", "192.0.2.1",
    "2001:db8::1", "[", "]", "@", "IPv6:",
    f"{HOLE}:", f"inet:{HOLE}", f"fd:{HOLE}", f"inet:1@{HOLE}",
)  # fmt: skip
HOST: Final = (
    ".", "-", "a", "0", "00", "192", "192-0", "2.1", "dsl", "-dyn", ".ppp.", "user", "h", "0123456789ab",
    "no-reverse", "x1-1", "_", "xn--", "xn--a", "\u3002", "\u00e4", "\u0130", "\u200d", "[", "]", "*", "\\", "\\000",
    f"{HOLE}.", f"-{HOLE}-",
)  # fmt: skip
SIGNED: Final = (
    "SRS0=",
    "SRS1=",
    "SRS0+",
    "=",
    "==",
    "=+",
    "-",
    "@",
    "prvs=",
    "1234abcdef",
    "SES=",
    "a",
    "=a=b=",
    "a@b",
    "\n",
)


REWRITER: Final = Rewriter(["secret"], "x.example", too_long="rewrite")


def packed() -> list[bytes]:
    """Return zip files inside of zip files, one for each way to pack them."""
    made = []
    for method in (ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA):
        octets = b"MZ"
        for name in ("a.exe", "inner.zip"):
            file = io.BytesIO()
            with ZipFile(file, "w", method) as archive:
                archive.writestr(name, octets)
            octets = file.getvalue()
        made.append(octets)
    return made


def damaged(text: str) -> None:
    """Read zip files in which a few octets are others, as a text says."""
    for octets in packed():
        changed = bytearray(octets)
        for number, character in enumerate(text[-4:]):
            changed[(ord(character) * 7 + number * 31) % len(changed)] = ord(character) * 5 & 0xFF
        with contextlib.suppress(BadZipFile):
            mime.zipnames(bytes(changed))
        with contextlib.suppress(BadZipFile):
            mime.zipnames(bytes(changed) + text.encode("latin-1", "replace")[: len(text) // 2])


def notification(sender: str) -> None:
    original = mime.MimeMessage(io.BytesIO(b"Subject: " + octets(sender) + b"\n\n"))
    values = SimpleNamespace(sender=sender, receiver="mx", perm_error=sender)
    template = "To: %(sender)s\nSubject: %(subject)s\n\n%(rcpt)s %(spf_result)s"
    made = dsn.create_msg(values, [sender, sender], original, template)
    assert made is not None
    dsn._octets(made)


def remembered(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "list")
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
        cache = AddrCache()
        cache.load(path)
        cache.has_key(text)
        cache[text] = None
        cache.addperm(text)
        AddrCache(fname=path).load(path)


def greylisted(text: str) -> None:
    grey = Greylist(":memory:")
    grey.check(text, text, text)
    grey.export_csv(io.StringIO())
    grey.close()


def policy_of(text: str) -> None:
    found = MTAPolicy(text, SimpleNamespace(access_file=None, access_file_nulls=True))
    found.acf = SimpleNamespace(get=lambda key: key, close=lambda: None)
    found.getPolicy("spf")


def configured(text: str) -> None:
    parser = MilterConfigParser({"x": text})
    parser.read_dict({"s": {"list": text.replace("%", "")}})
    parser.getlist("s", "list")
    with contextlib.suppress(ValueError, OSError):
        parser.getaddrset("s", "list")


# The wire


def decoder(kind: Any) -> Callable[[str], None]:
    def read(text: str) -> None:
        value = kind.decode(octets(text))
        for name in ("address", "local_part", "domain", "keywords", "ip", "raw", "text", "params", "payload"):
            with contextlib.suppress(LocalProtocolError):
                getattr(value, name, None)
        repr(value)

    return read


def framed(text: str) -> None:
    buffer, ahead = FrameBuffer(1 << 20), Lookahead(frozenset(b"AQ"), frozenset(b"ME"))
    for octet in octets(text):
        piece = bytes((octet,))
        ahead.feed(piece)
        buffer.feed(piece)
        while buffer.next_frame() is not None:
            pass


def edited(text: str) -> None:
    edits = Edits(int(ALL_ACTIONS), True, 10, 1 << 30, 1 << 30)
    for edit, *given in (
        (edits.add_header, "X", text),
        (edits.add_header, text, "x"),
        (edits.change_header, "X", 1, text),
        (edits.change_sender, text, ("a",)),
        (edits.change_sender, "a@b", (text,)),
        (edits.add_recipient, text, ()),
        (edits.delete_recipient, text),
        (edits.quarantine, text),
    ):
        with contextlib.suppress(LocalProtocolError):
            edit(*given)
    edits.packets()


def seen(value: str) -> None:
    source: Any = SimpleNamespace(macro=lambda name: value)
    context = Context.__new__(Context)
    context._transaction = Transaction(source)
    assert context.mta is not None
    assert context.tls is not None
    assert context.auth is not None


STYLES: Final[tuple[content.Style, ...]] = ("postfix", "sendmail")


def delivered(text: str) -> None:
    for style in STYLES:
        read = content.cut(octets(text), style)
        mailbox = text.replace("\r", "").replace("\n", "").replace("\0", "") or "a"
        changes = (modifications.AddRecipient(mailbox), modifications.DeleteRecipient(mailbox))
        delivery.deliver(style, events.Mail(text), [events.Rcpt(text)], read, changes)


PACKET: Final = (
    "\0",
    "\0\0",
    "\0\0\0\x01",
    "\0\0\0\x05",
    "\x01",
    "4",
    "6",
    "L",
    "U",
    "127.0.0.1",
    "::1",
    "{i}",
    "i",
    "<a@b>",
    "SIZE=1",
)
PATH: Final = (
    "<", ">", '"', "\\", '\\"', "@", ",", ":", "@a", "@a,", "[", "]", "[1]", " ", "\t", "<a@b>", '"a"@b', "+41", "+",
    "ORCPT=", "=", "NOTIFY=", ";",
    f"<{HOLE}>", f"\"{HOLE}\"", f"[{HOLE}]", f"@{HOLE}:",
)  # fmt: skip
XCLIENT: Final = ("ADDR=", "NAME=", "LOGIN=", "PORT=", "IPV6:", "::1", "+41", "+", "[UNAVAILABLE]", " ", "=", "0")
MBOX: Final = ("From ", ">From ", "\n", "\n\n", "\r\n", " 12:00 2026", "12:00", "2026", "0", ">")
REPLY: Final = (
    "550",
    "550-",
    "550 ",
    "5.7.1",
    "5.7.1 ",
    "\r\n",
    "\r\n550 ",
    "\r\n550-",
    "%",
    "%%",
    "4",
    ".",
    "\0",
    "\r",
    "\n",
    f"550 {HOLE}",
    f"550-5.7.1{HOLE}",
)
MAIL: Final = (":", "A:", "A: b\r\n", "\r\n", "\n", " ", "\t", "\r\n ", "\n\t", "A", "-", "\r", "\0", "A :", "A  ")
CONTENT: Final = (*MAIL, "From ", ">", "From \r\n", "\r\r\n", "\x7f:", "Text:", "bcc:\r\n", ".")
TEXT: Final = (
    "\r",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\r\n ",
    "\n\t",
    "\0",
    ":",
    "=",
    "\x1b[",
    "\x7f",
    "\u202e",
    "%",
    "%s",
    "{",
    "{}",
)

# Authentication and DNS

SPF: Final = (
    "v=spf1 ", " ", "a", "a:", "mx", "ptr", "ip4:", "ip6:", "include:", "exists:", "redirect=", "exp=", "x=", "-all",
    "~", "?", "+", "/", "//", "/24", "//64", "%", "%%", "%_", "%-", "%{", "}", "%{d}", "%{s}", "%{L1r-}", "%{i}",
    "%{p}", ".", "a.b", "1.2.3.4", "::1", ":", "=", "0", f"a{NUMBER}",
    f"%{{d{HOLE}}}", f"a:{HOLE}/24", f"ip4:{HOLE}", f"x={HOLE}",
)  # fmt: skip
RESULTS: Final = (
    "mx.example", ";", "; ", "=", "spf=pass", " smtp.mailfrom=a@b", "reason=", '"', "\\", '\\"', "(", ")", "((",
    "\\(", "none", "dkim=fail", " header.d=x", ".", "/1", "@", "\r\n ", " ", "receiver=", "mx.example;", f"a{NUMBER}",
    "i", "i=", "i=1;", '""', "mx.EXAMPLE", "sub.example.net", "=?utf-8?q?mx=2Eexample?=", "%6dx.example", "\u200b",
    "\uff0e", "xn--", "\\(", '"(', "client-ip=1.2.3.4;", "(mx.example: ", "Pass ",
    f"i={HOLE}1;", f"({HOLE})", f"\"{HOLE}\"", f"mx.example {HOLE};", f"spf{HOLE}=pass",
)  # fmt: skip
DKIM: Final = (
    "v=1", "a=rsa-sha256", "b=", "bh=", "d=example.com", "s=s", "h=from", ":", "from:", "l=1", "t=1", "x=2",
    "i=@example.com", "=20", "=", ";", "; ", "\r\n ", "\r\n\t", "YQ==", "z=|", f"a{NUMBER}=", "v=DKIM1", "p=", "k=rsa",
    f"b={HOLE};", f"h={HOLE};", f"i={HOLE}@example.com", f"{HOLE}=1;", f"{HOLE};",
)  # fmt: skip
DMARC: Final = (
    "v=DMARC1", ";", "; ", "=", "p=reject", "sp=", "np=none", "adkim=s", "rua=", "mailto:a@b", ",", "!10m", "!", "%40",
    "fo=1:d:s", ":", "t=y", "psd=n", " ", "\t", f"a{NUMBER}=", f"rua=mailto:{HOLE}@b;", f"{HOLE}=;", f"p={HOLE};",
)  # fmt: skip
AUTHORS: Final = (
    "a@b.example", "<", ">", ",", ";", ":", '"', "\\", "(", ")", "((", "@", ".", " ", "\r\n ", "=?utf-8?q?a?=", "=?", "?=",
    "<@a,@b:c@d>", "x", "group:", "\u00fc.example", f"({HOLE})", f'"{HOLE}"', f"<{HOLE}>", f"a@{HOLE}.example,",
)  # fmt: skip
BODY: Final = ("\r\n", "\r", "\n", " ", "  ", "\t", " \r\n", "\r\n\r\n", "a", f"a{HOLE}b", f"{HOLE}\r\n", f"\r\n{HOLE}")


def signed(text: str) -> None:
    field = Field(b"DKIM-Signature: v=1; a=rsa-sha256; d=a.b; s=c; h=from; bh=YQ==; b=YQ==; " + octets(text))
    tags = dkim_signature.read_tags(field)
    str(dkim_signature.claims(tags or {}).method_result())
    dkim_signature.parse_tags(tags)


def canonical(text: str) -> None:
    field = Field(b"A:" + octets(text))
    for form in dkim_canonical.FORMS:
        dkim_canonical.canonical_field(field, form)
        dkim_canonical.header_input([], field, form)


def in_pieces(text: str) -> None:
    field = Field(b"A:" + octets(text))
    for form in dkim_canonical.FORMS:
        for _ in dkim_canonical.canonical_pieces(field, form, 64):
            pass


def chained(text: str) -> None:
    """Read one field of each kind, and many that share it."""
    raw = octets(text)
    kinds = (b"ARC-Seal: i=1; ", b"ARC-Message-Signature: i=1; ", b"ARC-Authentication-Results: ")
    section = HeaderSection([Field(kind + raw) for kind in kinds])
    arc_sets.broken(arc_sets.read_sets(section))
    for part in range(0, min(len(raw), 4_000), 100):
        section.append(kinds[part % 3] + raw[part : part + 100])
    arc_sets.read_sets(section)


def recorded(text: str) -> None:
    aar_value(1, "mx.example", None, HeaderSection([Field(b"Authentication-Results: mx.example; " + octets(text))]))


def hashed(text: str, size: int) -> None:
    body, hashes = octets(text), BodyHashes(2)
    for form in dkim_canonical.FORMS:
        hashes.want("sha256", form)
    for at in range(0, len(body), size):
        hashes.update(body[at : at + size])
    hashes.finish()


def sectioned(text: str) -> None:
    section, _ = split_message(octets(text))
    section.from_below([field.name for field in section] * 2)
    for field in section:
        repr((field.value, field.unfolded, field.text))


def expanded(text: str) -> None:
    found = spf_record.parse_explanation(octets(text))
    if found is not None:
        found.text(lambda letter: "a.b-c" * 50)
        found.domain(lambda letter: "a.b-c" * 50)


def checked(text: str) -> None:
    check = spf._Check(ip_address("192.0.2.1"), text, text, None, text, 2)  # type: ignore[arg-type]
    for result in ("pass", "fail", "temperror"):
        made = check.result(result, text, explanation=text, problem=text)
        made.received_spf(receiver=text)
        str(made.method_result())


def authenticated(text: str) -> None:
    parsed = results.parse(text)
    if parsed is not None:
        str(parsed)


def claimed(text: str) -> None:
    results.forged([("Authentication-Results", text)], "mx.example", ".example.net")
    results.forged([("Authentication-Results", text[:100])] * (len(text) // 100), "mx.example", name="X-Results")


def quoted(text: str) -> None:
    for smtputf8 in (False, True):
        results.quote(text, smtputf8=smtputf8)
        results.visible(text, smtputf8=smtputf8)


def copied(text: str) -> None:
    while text:
        text = text[1:].upper()


# For the harness: what it has to find, and what not.
CONTROLS: Final[Mapping[str, Parser]] = {
    "scanned anew": Parser(re.compile(".*!").findall, ("a", "b"), scale=0.5),
    "copied anew": Parser(copied, ("a", "b"), scale=0.5),
    "once": Parser(str.upper, ("a", "b")),
}

# Where it is, and what of it.
PARSERS: Final[Mapping[str, Parser]] = {
    "html": Parser(lambda text: filtered([text]), HTML, weight=3),
    "html in pieces": Parser(filtered, HTML, scale=0.3, weight=2),
    "sgml": Parser(lambda text: elements([text]), (*HTML, "<b>", "</b>", "<a>"), weight=2),
    "sgml in pieces": Parser(elements, (*HTML, "<b>", "</b>", "<a>"), scale=0.3, weight=2),
    "sgml attributes": Parser(lambda text: markup.attributes(f"<a {text}>"), HTML),
    "message": Parser(lambda text: looked_at(message(text)), MESSAGE, weight=3),
    "message, defanged": Parser(lambda text: defanged(message(text)), MESSAGE),
    "message, headers": Parser(lambda text: defanged(message(f"Content-Type: {text}\n\nx")), PARAMETERS),
    "message, disposition": Parser(lambda text: defanged(message(f"Content-Disposition: {text}\n\nx")), PARAMETERS),
    "message, html": Parser(lambda text: defanged(message(f"Content-Type: text/html\n\n{text}<script>x")), HTML),
    "message, utf-16": Parser(
        lambda text: defanged(message(f"Content-Type: text/html; charset=utf-16\n\n{text}")), HTML
    ),
    "zip": Parser(lambda text: mime.zipnames(text.encode("latin-1", "replace")), ZIP, (BadZipFile,)),
    "zip, damaged": Parser(damaged, [chr(code) for code in range(256)], weight=3, grows=False),
    "unquote": Parser(mime.unquote, PARAMETERS),
    "parse_addr": Parser(utils.parse_addr, MAILBOX),
    "parseaddr": Parser(utils.parseaddr, MAILBOX),
    "parse_header": Parser(utils.parse_header, ENCODED),
    "addr2bin": Parser(utils.addr2bin, ADDRESS, (OSError,)),
    "inet_pton": Parser(utils.inet_pton, ADDRESS, (OSError,)),
    "pyip6": Parser(pyip6.inet_pton, ADDRESS, (ValueError,)),
    "iniplist": Parser(lambda text: utils.iniplist(text, ["192.0.2.*", "10.0.0.0/8", "::1"]), ADDRESS, (ValueError,)),
    "ip4re": Parser(utils.ip4re.match, ADDRESS),
    "ip6re": Parser(utils.ip6re.match, ADDRESS),
    "dnsre": Parser(utils.dnsre.match, HOST),
    "decode": Parser(utils.decode, (*ENCODED, "Y", "/", "+"), (Base64Error,)),
    "dictfromlist": Parser(lambda text: classic.dictfromlist(text.split(" ")), PATH),
    "param2dict": Parser(lambda text: classic.param2dict(text.split(" ")), PATH),
    "dsn": Parser(notification, TEXT, scale=0.2),
    "dynip": Parser(lambda text: dynip.is_dynip(text, "192.0.2.1"), HOST, scale=0.5),
    "dynip, IPv6": Parser(lambda text: dynip.is_dynip(text, "2001:db8::1"), HOST, scale=0.5),
    "dynip, zeros": Parser(lambda text: dynip.is_dynip(text, "0.0.0.0"), HOST, scale=0.5),
    "dynip, address": Parser(lambda text: dynip.is_dynip("mx.example", text), ADDRESS),
    "policy": Parser(policy_of, MAILBOX),
    "unsign": Parser(unsign.unsign, SIGNED),
    "greylist": Parser(greylisted, MAILBOX),
    "cache": Parser(remembered, (*MAILBOX, "\n", "2024Jan01 00:00:00 UTC", "0001Jan01 00:00:00 UTC", " ")),
    "config": Parser(configured, (*MAILBOX, "file:", "\n", " ")),
    "srs": Parser(REWRITER.forward, (*SIGNED, *PATH), (AddressError,)),
    "srs, reverse": Parser(lambda text: REWRITER.reverse(f"SRS0={text}@x.example"), (*SIGNED, *PATH), (AddressError,)),
    "srs, reverse again": Parser(lambda text: REWRITER.reverse(f"SRS1={text}@x.example"), SIGNED, (AddressError,)),
    "store, URL": Parser(
        urls.parse, (*ADDRESS, "redis://", "memory:?", "?sentinel=", "/", ",", "&", "="), (ValueError,)
    ),
    "greylist, sender": Parser(general_sender, (*SIGNED, *PATH, "12", "ab12", "#", "-", "prvs=x=")),
    "subject": Parser(subject, (*PATH, *HOST)),
    "envelope": Parser(envelope.bare_address, PATH),
    "envelope, local part": Parser(envelope.local_part, PATH),
    "envelope, domain": Parser(envelope.domain, (*PATH, *HOST)),
    "encoded words": Parser(encoded_words.header_text, (*ENCODED, "=?utf-7?b?", "\udcff", "\n", "\0")),
    "envelope, keywords": Parser(lambda text: envelope.keywords(text.split(" ")), PATH),
    "envelope, xtext": Parser(envelope.xtext_decode, ("+", "+41", "+4", "4", "+ZZ", "++", "=")),
    "foreign": Parser(lambda text: foreign.protocol_of(octets(text)), ("GET ", "EHLO ", "*", "1", "220 ", "\r\n")),
    "framing in pieces": Parser(framed, PACKET, (RemoteProtocolError,), scale=0.3),
    **{
        f"packet, {kind.__name__}": Parser(decoder(kind), (*PACKET, *PATH), (RemoteProtocolError,))
        for kind in (
            events.Negotiate,
            negotiation.NegotiateAnswer,
            macros.Macros,
            events.Connect,
            events.Helo,
            events.Mail,
            events.Rcpt,
            events.Header,
            events.Unknown,
            modifications.AddHeader,
            modifications.InsertHeader,
            modifications.ChangeHeader,
            modifications.AddRecipient,
            modifications.ChangeSender,
            modifications.Quarantine,
        )
    },
    "reply": Parser(lambda text: str(replies.Reply.decode(octets(text) + b"\0")), REPLY, (RemoteProtocolError,)),
    "reply, text": Parser(lambda text: replies.Reply(550, "5.7.1", text).packet, REPLY, (LocalProtocolError,)),
    "text": Parser(lambda value: text.header_value(value), TEXT, (LocalProtocolError,)),
    "edits": Parser(edited, PATH),
    "macros": Parser(seen, ("Postfix ", "3.7", ".", " ", "/")),
    "content": Parser(lambda text: [content.cut(octets(text), style) for style in STYLES], CONTENT),
    "delivery": Parser(delivered, (*MAIL, *PATH)),
    "spf": Parser(lambda text: spf_record.parse_record(octets("v=spf1 " + text)), SPF),
    "spf, explanation": Parser(expanded, SPF),
    "spf, result": Parser(checked, (*PATH, *HOST), scale=0.5),
    "spf, forged": Parser(
        lambda text: spf.forged_received_spf([("Received-SPF", text)], "mx.example", ".example.net"), RESULTS
    ),
    "results": Parser(authenticated, RESULTS),
    "results, forged": Parser(claimed, RESULTS),
    "results, forged many": Parser(
        lambda text: results.forged([("Authentication-Results", text[:200])] * (len(text) // 200), "mx.example"),
        RESULTS,
    ),
    "results, quoted": Parser(quoted, RESULTS),
    "headers": Parser(sectioned, (*MAIL, "=?utf-8?q?a?=")),
    "dkim, tags": Parser(dkim_tags.tag_list, DKIM),
    "dkim, quoted-printable": Parser(dkim_tags.quoted_printable_text, DKIM),
    "dkim, signature": Parser(signed, DKIM, (dkim_signature.Unusable,), weight=2),
    "dkim, record": Parser(lambda text: dkim_record.parse_record(octets("v=DKIM1; " + text)), DKIM),
    "dkim, header": Parser(canonical, (*DKIM, *BODY)),
    "dkim, body": Parser(lambda text: hashed(text, 65_535), BODY),
    "dkim, body in pieces": Parser(lambda text: hashed(text, 1), BODY, scale=0.1),
    "dkim, header in pieces": Parser(in_pieces, (*DKIM, *BODY)),
    "arc, sets": Parser(chained, (*DKIM, *RESULTS)),
    "arc, results": Parser(recorded, RESULTS),
    "dmarc, record": Parser(lambda text: dmarc_record.read(octets("v=DMARC1; " + text)), DMARC),
    "dmarc, From": Parser(lambda text: author_domains([text]), AUTHORS),
    "names": Parser(names.question_name, HOST),
    "names, IDNA": Parser(domain.ascii_name, HOST),
    "names, shown": Parser(lambda text: names.display_name(octets(text).split(b".")), HOST, scale=0.3),
    "addresses": Parser(parse_address, (*ADDRESS, "inet:", "inet6:", "unix:", "fd:", "1@"), (AddressError,), scale=0.3),
    "addresses, SMTP": Parser(split_address, (*ADDRESS, "1@"), (AddressError,)),
    "XCLIENT": Parser(lambda text: after_xclient(Client(""), text), XCLIENT, (XClientError,)),
    "arguments, seconds": Parser(
        values.duration_by_stage, ("1", "e", "envfrom=", "=", ".", "_", "inf", " min"), (ValueError,)
    ),
    "arguments, number": Parser(arguments.whole, ("1", "0", "_", "+"), (ArgumentTypeError,)),
    "arguments, mode": Parser(arguments.file_mode, ("7", "0", "0o", "_"), (ArgumentTypeError,)),
    "arguments, reply": Parser(values.verdict_or_reply, REPLY, (ValueError,)),
    "arguments, path": Parser(scenario._path, PATH, (ArgumentTypeError,)),
    "arguments, macro": Parser(scenario._macro, PATH, (ArgumentTypeError,)),
    "arguments, outcome": Parser(expect.expected, REPLY, (ArgumentTypeError,)),
    "mbox": Parser(lambda text: list(messages._from_mbox("", octets(text))), MBOX),
    "terminal": Parser(terminal.safe, TEXT, scale=0.3),
}
