"""Texts of all kinds in every place where the MTA has a text."""

from typing import Final

from tests.compat.cases.making import ENVELOPE, NEXT, packet
from tests.compat.playing import Case
from tests.peer import (
    DATA,
    EOH,
    MESSAGE,
    OPENING,
    QUIT,
    connect,
    helo,
    mail,
    offer,
)

__all__ = ["VALUES"]

_TEXTS: Final = {
    "ASCII": b"plain",
    "UTF-8": b"caf\xc3\xa9 \xe2\x82\xac",
    "latin-1": b"caf\xe9",
    "any octets": bytes(range(1, 256)),
    "empty": b"",
    "cut UTF-8": b"caf\xc3",
    "surrogate in UTF-8": b"\xed\xa0\x80",
    "fold": b"a\n b\n\tc",
    "spaces": b"  a ",
}


VALUES: Final = {
    f"{where}: {name}": Case(before + packet(code, payload) + NEXT)
    for name, text in _TEXTS.items()
    for where, before, code, payload in (
        ("host", offer(), "C", text + b"\x004\x9c\x40192.0.2.7\0"),
        ("UNIX-domain path", offer(), "C", b"host\0L\0\0" + text + b"\0"),
        ("HELO", offer() + connect(), "H", text + b"\0"),
        ("sender", OPENING, "M", text + b"\0"),
        ("parameter of a sender", OPENING, "M", b"<a@b>\0" + text + b"\0SIZE=1\0"),
        ("recipient", OPENING + mail(), "R", text + b"\0"),
        ("parameter of a recipient", OPENING + mail(), "R", b"<a@b>\0" + text + b"\0"),
        ("header name", OPENING + ENVELOPE + DATA, "L", text + b"\0value\0"),
        ("header value", OPENING + ENVELOPE + DATA, "L", b"X\0" + text + b"\0"),
        ("body", OPENING + ENVELOPE + DATA + EOH, "B", text),
        ("end with body", OPENING + ENVELOPE + DATA + EOH, "E", text),
        ("unknown command", OPENING, "U", text + b"\0"),
    )
} | {
    f"macro value: {name}": Case(
        offer() + packet("D", b"Cj\0" + text + b"\0{two}\0" + text + b"\0") + connect() + helo() + MESSAGE + QUIT,
        {"connect": "self.look('j', '{j}', 'two', '{two}', 'three')", "eom": "self.look('j', '{two}')"},
    )
    for name, text in _TEXTS.items()
}
