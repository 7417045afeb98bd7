"""Redaction: nothing that was planted is left, and what a parser looks at stays."""

import base64
import email
import quopri
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.recording import CLOSED, FILTER, MTA, REMARK, Packet
from aiomilter.recording.redaction import Redaction
from aiomilter.recording.session import SessionRedactor
from aiomilter.wire.constants import Command, ReplyCode
from aiomilter.wire.events import Connect, Family, Helo, Mail, Rcpt, Unknown
from aiomilter.wire.macros import Macros
from aiomilter.wire.text import pack_strings

KEY = b"0123456789abcdef0123456789abcdef"
REDACTION = Redaction(KEY)
WINDOW = 12
"""Characters of a token that are enough to know it by; even of digits, chance does not make them."""


def redacted(packets: list[Packet], **options: bool) -> list[Packet]:
    redactor = SessionRedactor(Redaction(KEY, **options), "shape")
    found = [each for packet in packets for each in redactor.redacted(packet)]
    return [*found, *redactor.rest()]


def of_mta(code: int, payload: bytes) -> Packet:
    return Packet(0.0, MTA, code, payload)


def of_filter(code: int, payload: bytes) -> Packet:
    return Packet(0.0, FILTER, code, payload)


def session(token: Callable[[], str], source: random.Random) -> list[Packet]:
    """Return a session with a token at each place that text can be at."""
    t = token

    def address() -> str:
        return f"{t()}.{t()}+{t()}@{t()}.{t()}.example"

    macros = {
        "j": f"{t()}.{t()}",
        "{daemon_name}": t(),
        "_": f"{t()} [{t()}]",
        "{own_macro}": t(),
        "{auth_authen}": t(),
    }
    macros |= {"{cert_subject}": f"/CN={t()}", "{client_name}": t(), "{mail_addr}": address(), "i": t()}
    boundary = f"=_{t()}-{t()}"
    fields = {
        "From": f'"{t()}, {t()}" <{address()}>',
        "To": f"{t()} <{address()}>,\n\t{t()} <{address()}>",
        "Subject": f"Re: {t()} =?utf-8?B?{base64.b64encode(t().encode()).decode()}?= =?iso-8859-1?Q?{t()}=E4{t()}?= {t()}",
        "Date": f"Mon, 1 Jan 2024 00:00:00 +0000 ({t()})",
        "Message-ID": f"<{t()}.{t()}@{t()}>",
        "Received": f"from {t()} ({t()} [{t()}]) by {t()} with ESMTPSA id {t()}\n\tfor <{address()}>; {t()}",
        "Content-Type": f'multipart/mixed; charset="{t()}"; name="{t()}.pdf"; boundary="{boundary}"',
        "Content-Disposition": f"attachment; filename*=utf-8''{t()}.exe; {t()}={t()}",
        "Authentication-Results": f"{t()}; spf=pass smtp.mailfrom={address()} ({t()})",
        "DKIM-Signature": f"v=1; a=rsa-sha256; d={t()}; s={t()}; i={address()}; b={t()}\n {t()}",
        f"X-{t()}": t(),
        t(): t(),
        "MIME-Version": f"1.0 ({t()})",
    }
    part = f"Content-Type: text/plain; charset=utf-8; name={t()}\r\nX-{t()}: {t()}\r\n\t{t()}\r\n\r\n{t()} {t()}\r\n"
    quoted = quopri.encodestring(f"Zoë {t()} = {t()}\r\n".encode()).decode("ascii")
    inner = f"Content-Type: message/rfc822\r\n\r\nSubject: {t()}\r\nFrom: {address()}\r\n\r\n{t()}\r\n"
    border = f"--{boundary}\r\n"
    encoded = base64.encodebytes((t() * 12).encode()).replace(b"\n", b"\r\n").decode()
    body = f"{t()}\r\n{border}{part}{border}{quoted}{border}{inner}{border}{encoded}--{boundary}--\r\n{t()}".encode()
    cut = source.randrange(1, len(body))
    return [
        of_mta(Command.OPTNEG, b"\0\0\0\6\0\0\1\xff\0\x1f\xff\xff"),
        of_mta(Command.MACRO, Macros(Command.CONNECT, macros).payload),
        of_mta(Command.CONNECT, Connect(f"{t()}.{t()}", Family.INET, 25, "192.0.2.1").payload),
        of_mta(Command.CONNECT, Connect(t(), Family.UNIX, 0, f"/{t()}/{t()}").payload),
        of_mta(Command.HELO, Helo(f"{t()}.{t()}").payload),
        of_mta(Command.UNKNOWN, Unknown(f"AUTH {t()} {t()}").payload),
        of_mta(Command.UNKNOWN, Unknown(f"{t()} {t()}").payload),
        of_mta(Command.MAIL, Mail(f"<{address()}>", ("SIZE=300", f"AUTH={t()}", f"{t()}={t()}")).payload),
        of_mta(Command.RCPT, Rcpt(f'<"{t()} {t()}"@{t()}>', (f"ORCPT=rfc822;{address()}",)).payload),
        of_filter(ReplyCode.REPLYCODE, f"550-5.7.1 {t()}\r\n550 5.7.1 <{address()}> {t()}\0".encode()),
        *(of_mta(Command.HEADER, pack_strings(name, value)) for name, value in fields.items()),
        of_mta(Command.BODY, body[:cut]),
        of_filter(ReplyCode.CONTINUE, b""),
        of_mta(Command.BODY, body[cut:]),
        of_mta(Command.BODYEOB, t().encode()),
        of_filter(ReplyCode.ADDHEADER, pack_strings(f"X-{t()}", t())),
        of_filter(ReplyCode.INSHEADER, b"\0\0\0\1" + pack_strings("Subject", t())),
        of_filter(ReplyCode.CHGHEADER, b"\0\0\0\1" + pack_strings(t(), t())),
        of_filter(ReplyCode.ADDRCPT, pack_strings(address())),
        of_filter(ReplyCode.ADDRCPT_PAR, pack_strings(address(), f"NOTIFY={t()}")),
        of_filter(ReplyCode.DELRCPT, pack_strings(address())),
        of_filter(ReplyCode.CHGFROM, pack_strings(address(), f"RET={t()}")),
        of_filter(ReplyCode.QUARANTINE, pack_strings(f"{t()}: {t()}")),
        of_filter(ReplyCode.REPLBODY, f"{t()}\r\n{t()}".encode()),
        of_filter(0x78, t().encode()),
        of_mta(0x78, t().encode()),
        of_mta(CLOSED, b""),
    ]


def planted(source: random.Random, found: list[str]) -> Callable[[], str]:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    kinds = [letters, letters + "0123456789", "0123456789"]

    def token() -> str:
        kind = source.choices(kinds, [6, 3, 1])[0]
        found.append("".join(source.choices(kind, k=source.randint(WINDOW, 40))))
        return found[-1]

    return token


def check(count: int, seed: int) -> None:
    """Plant so many tokens, in as many sessions as that takes, and look for all of them in what is recorded."""
    source = random.Random(seed)
    tokens: list[str] = []
    packets: list[Packet] = []
    while len(tokens) < count:
        packets += session(planted(source, tokens), source)
    result = redacted(packets)

    kept = [packet for packet in result if packet.sender != REMARK]
    assert [(each.sender, each.code, len(each.payload)) for each in kept] == [
        (each.sender, each.code, len(each.payload)) for each in packets
    ]
    octets = b"\n".join(packet.payload for packet in result)
    text = octets.decode("latin-1").lower()
    # Also joined where lines were folded, and decoded where it looks encoded.
    texts = [text, re.sub(r"\s", "", text), *decoded(octets)]
    places = {token[start : start + WINDOW].lower() for token in tokens for start in range(len(token) - WINDOW + 1)}
    assert [place for place in windows(texts) if place in places] == []


def windows(texts: list[str]) -> Iterator[str]:
    for text in texts:
        yield from (text[start : start + WINDOW] for start in range(len(text) - WINDOW + 1))


def decoded(octets: bytes) -> list[str]:
    words = re.findall(rb"[A-Za-z0-9+/]{12,}={0,2}", octets)
    plain = [base64.b64decode(word.rstrip(b"=")[: len(word) // 4 * 4 - 4]) for word in words]
    return [b"\n".join(plain).decode("latin-1").lower(), quopri.decodestring(octets).decode("latin-1").lower()]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_was_planted_is_left_in_a_shape(seed: int) -> None:
    check(300, seed)


@pytest.mark.long
def test_none_of_ten_thousand_planted_tokens_is_left() -> None:
    check(10_000, 17)


def test_equal_words_get_equal_tokens_of_equal_length_and_kind() -> None:
    text = REDACTION.text("Alice alice ALICE Alice2 Zoë 🙂 12 Bob".encode())
    words = text.decode().split(" ")

    assert words[0].lower() == words[1] == words[2].lower()
    assert words[0][0].isupper()
    assert words[0][1:].islower()
    assert [len(word.encode()) for word in words] == [5, 5, 5, 6, 4, 4, 2, 3]
    assert words[3][-1].isdigit()
    assert words[6].isdigit()
    assert REDACTION.text(b"alice@example.org") == words[1].encode() + b"@" + REDACTION.text(b"example.org")
    assert Redaction(b"another key of some 32 octets...").text(b"alice") != words[1].encode()


@given(st.binary(max_size=300))
def test_any_octets_keep_their_length_and_their_structure(octets: bytes) -> None:
    text = REDACTION.text(octets)
    assert len(text) == len(octets)
    assert REDACTION.text(octets) == text
    assert [byte for byte in text if byte < 0x30] == [byte for byte in octets if byte < 0x30] or b"=?" in octets


@given(st.lists(st.tuples(st.sampled_from([MTA, FILTER]), st.integers(0, 255), st.binary(max_size=60)), max_size=12))
def test_any_packets_come_back_in_their_order(packets: list[tuple[str, int, bytes]]) -> None:
    given = [Packet(0.0, *packet) for packet in packets]
    found = [packet for packet in redacted(given) if packet.sender != REMARK]

    assert [(each.sender, each.code, len(each.payload)) for each in found] == [
        (each.sender, each.code, len(each.payload)) for each in given
    ]


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (b"198.51.100.7", rb"[1-9]\d\d\.[1-9]\d\.[12]\d\d\.[1-9]"),
        (b"127.0.0.1", rb"127\.0\.0\.1"),
        (b"IPv6:2001:db8::25", rb"IPv6:\d{4}:[a-f]{2}\d::\d\d"),
        (b"::1", rb"::1"),
    ],
)
def test_addresses_of_networks_stay_such(address: bytes, kind: bytes) -> None:
    assert re.fullmatch(kind, REDACTION.text(address))


MIME = (
    b"From: Alice <alice@example.org>\r\nSubject: one\r\nContent-Type: multipart/mixed; charset=utf-8;\r\n"
    b'\tboundary="=_mixed one"\r\n\r\nhello\r\n--=_mixed one\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n'
    b'--inner\r\nContent-Type: text/plain; charset="iso-8859-1"\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8gYm9i\r\n'
    b"--inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello</p>\r\n--inner--\r\n--=_mixed one\r\n"
    b"Content-Type: application/pdf; name=bill.pdf\r\nContent-Disposition: attachment; filename=bill.pdf\r\n\r\n%PDF\r\n"
    b"--=_mixed one\r\nContent-Type: message/rfc822\r\n\r\nSubject: two\r\nContent-Type: multipart/mixed; boundary=deep\r\n\r\n"
    b"--deep\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nhi\r\n--deep--\r\n--=_mixed one--\r\n"
)


def tree(message: Any) -> object:
    kind = (message.get_content_type(), message.get_content_charset(), message["Content-Transfer-Encoding"])
    parts = message.get_payload()
    return kind, [tree(part) for part in parts] if isinstance(parts, list) else len(message.get_payload())


@pytest.mark.parametrize("size", [1, 7, 100, 65535])
def test_the_structure_of_a_message_stays(size: int) -> None:
    head, _, body = MIME.partition(b"\r\n\r\n")
    fields = [line.partition(b": ")[::2] for line in head.replace(b"\r\n\t", b"\n\t").split(b"\r\n")]
    packets = [of_mta(Command.HEADER, name + b"\0" + value + b"\0") for name, value in fields]
    packets += [of_mta(Command.BODY, body[start : start + size]) for start in range(0, len(body), size)]
    found = redacted([*packets, of_mta(Command.BODYEOB, b"")])
    lines = [b": ".join(each.payload.split(b"\0")[:2]) for each in found if each.code == Command.HEADER]
    octets = b"".join(each.payload for each in found if each.code == Command.BODY and each.sender == MTA)
    message = b"\r\n".join([line.replace(b"\n", b"\r\n") for line in lines]) + b"\r\n\r\n" + octets

    assert tree(email.message_from_bytes(message)) == tree(email.message_from_bytes(MIME))
    assert str([part.get_filename() for part in email.message_from_bytes(message).walk()][4]).endswith(".pdf")
    assert b"bill" not in message
    assert b"hello" not in message.lower()
    (remark,) = [each for each in found if each.sender == REMARK]
    assert re.fullmatch(rb"[0-9a-f]{64}", remark.payload)


def test_domains_and_hosts_stay_if_asked() -> None:
    packets = [
        of_mta(Command.HELO, b"mx.example.org\0"),
        of_mta(Command.MAIL, b"<alice@example.org>\0SIZE=300\0"),
        of_mta(Command.MACRO, Macros(Command.MAIL, {"{mail_host}": "example.org"}).payload),
    ]
    helo, mail, macros = (packet.payload for packet in redacted(packets, keep_domains=True))

    assert helo == b"mx.example.org\0"
    assert mail.endswith(b"@example.org>\0SIZE=300\0")
    assert b"alice" not in mail
    assert macros == packets[2].payload


@pytest.mark.parametrize(
    ("code", "payload", "gone"),
    [
        (
            Command.MACRO,
            Macros(Command.MAIL, {"{auth_authen}": "alice", "{auth_author}": "bob"}).payload,
            (b"alice", b"bob"),
        ),
        (
            Command.MACRO,
            Macros(Command.HELO, {"{cert_subject}": "/CN=alice", "{cert_issuer}": "/O=acme"}).payload,
            (b"alice", b"acme"),
        ),
        (Command.MACRO, Macros(Command.HELO, {"{CN_subject}": "alice"}).payload, (b"alice",)),
        (Command.MAIL, b"<x@y>\0SIZE=1\0AUTH=alice@example.org\0", (b"alice", b"example")),
        (Command.UNKNOWN, b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\0", (b"AGFsaWNlAHNlY3JldA", b"PLAIN")),
        (Command.UNKNOWN, b"AGFsaWNlAHNlY3JldA==\0", (b"AGFsaWNlAHNlY3JldA",)),
    ],
)
def test_logins_and_certificates_are_tokens_in_a_full_recording_too(
    code: int, payload: bytes, gone: tuple[bytes, ...]
) -> None:
    (packet,) = SessionRedactor(REDACTION, "full").redacted(of_mta(code, payload))

    assert len(packet.payload) == len(payload)
    assert not [word for word in gone if word in packet.payload]


def test_everything_else_of_a_full_recording_is_as_it_was() -> None:
    source = random.Random(5)
    secret = (Command.MACRO, Command.MAIL, Command.UNKNOWN)
    packets = [
        each for each in session(planted(source, []), source) if each.sender == FILTER or each.code not in secret
    ]
    redactor = SessionRedactor(REDACTION, "full")

    assert [each for packet in packets for each in redactor.redacted(packet)] == packets
