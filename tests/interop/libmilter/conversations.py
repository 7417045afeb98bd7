"""What is played to both: whole sessions, and everything an MTA or a client of ours might send that is odd.

A conversation is a script for the filter (see script.py) and the packets, each sent after the one before was handled.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL
from tests.interop.libmilter.script import STEPS, do
from tests.peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    ONLY_BASIC,
    OPENING,
    QUIT,
    QUIT_NC,
    body,
    connect,
    header,
    helo,
    macros,
    mail,
    offer,
    pieces,
    rcpt,
    unknown,
)

__all__ = ["CONVERSATIONS", "Conversation"]


class Conversation(NamedTuple):
    """One connection.

    Args:
        packets: What the MTA writes, in order.
        script: What the filter does.
    """

    packets: tuple[bytes, ...]
    script: str = ""


def raw(code: str, payload: bytes = b"") -> bytes:
    """A packet, whatever is in it."""
    return (len(payload) + 1).to_bytes(4, "big") + code.encode("latin-1") + payload


def talk(*octets: bytes, script: str = "") -> Conversation:
    """A conversation; octets that are whole packets are sent as such, others as they are."""
    return Conversation(tuple(piece for part in octets for piece in pieces(part)), script)


CONNECT: Final = connect()
HELO: Final = helo()
MAIL: Final = mail()
RCPT: Final = rcpt()
HEADER: Final = header()
BODY: Final = body()
UNKNOWN: Final = unknown()
ENVELOPE: Final = MAIL + RCPT
CONTENT: Final = DATA + HEADER + EOH + BODY + EOM
SECOND: Final = mail("<carol@example.org>") + rcpt("<dave@example.net>") + CONTENT

# ------------------------------------------------------------------------------------------------------ whole sessions

WHOLE: Final = {
    "one message": talk(OPENING, MESSAGE, QUIT),
    "no ESMTP": talk(OPENING, mail("<>"), rcpt("<a@b>"), CONTENT, QUIT),
    "three messages, as Sendmail": talk(OPENING, MESSAGE, SECOND, MESSAGE, QUIT),
    "three messages, as Postfix": talk(OPENING, MESSAGE, ABORT, SECOND, ABORT, MESSAGE, ABORT, QUIT),
    "message without content": talk(OPENING, ENVELOPE, DATA, EOH, EOM, QUIT),
    "as before DATA was sent": talk(offer(0x3F, 0x7F, 2), CONNECT, HELO, ENVELOPE, HEADER, EOH, BODY, EOM, QUIT),
    "many fields and chunks": talk(
        OPENING,
        mail("<a@b>", "SIZE=9", "BODY=8BITMIME"),
        rcpt("<c@d>", "NOTIFY=NEVER"),
        RCPT,
        DATA,
        HEADER * 5,
        EOH,
        BODY * 3,
        EOM,
        QUIT,
    ),
    "largest body chunk": talk(OPENING, ENVELOPE, DATA, EOH, body(b"y" * 65535), EOM, QUIT),
    "largest header field": talk(OPENING, ENVELOPE, DATA, header("X", "y" * 65532), EOH, EOM, QUIT),
    "octets of all kinds in the body": talk(OPENING, ENVELOPE, DATA, EOH, body(bytes(range(256))), body(b"\r"), EOM),
    "end of message with body": talk(OPENING, ENVELOPE, DATA, HEADER, EOH, BODY, raw("E", b"rest\r\n"), MESSAGE, QUIT),
    "end of message with all of the body": talk(OPENING, ENVELOPE, DATA, EOH, raw("E", b"all\r\n"), MESSAGE, QUIT),
    "end without QUIT": talk(OPENING, MESSAGE),
    "end at once": talk(),
    "end after the offer": talk(offer()),
    "QUIT after the offer": talk(offer(), QUIT),
    "QUIT with a payload": talk(OPENING, raw("Q", b"bye")),
    "no message": talk(OPENING, ABORT, QUIT),
    "no reply to anything": talk(
        OPENING,
        MESSAGE,
        UNKNOWN,
        SECOND,
        QUIT,
        script="silent\tconnect\thelo\tmail\trcpt\tdata\theader\teoh\tbody\tunknown\n",
    ),
    "no reply, which the MTA does not know": talk(
        offer(ALL_ACTIONS, ONLY_BASIC),
        CONNECT,
        HELO,
        MESSAGE,
        UNKNOWN,
        SECOND,
        QUIT,
        script="silent\tconnect\thelo\tmail\trcpt\tdata\theader\teoh\tbody\tunknown\n",
    ),
    "no reply to header fields, as in version 2": talk(
        offer(0x3F, 0xFF, 2), CONNECT, HELO, ENVELOPE, HEADER * 3, EOH, BODY, EOM, script="silent\theader\tbody\n"
    ),
}

# --------------------------------------------------------------------------------------------------------------- order

_SO_FAR: Final = {
    "MAIL": MAIL,
    "RCPT": ENVELOPE,
    "DATA": ENVELOPE + DATA,
    "a header field": ENVELOPE + DATA + HEADER,
    "EOH": ENVELOPE + DATA + HEADER + EOH,
    "body": ENVELOPE + DATA + HEADER + EOH + BODY,
    "end of message": MESSAGE,
}
"""Octets of a message up to a step."""


def _after_each() -> Iterator[tuple[str, Conversation]]:
    """What an MTA may send at any time, after each step of a message."""
    for step, octets in _SO_FAR.items():
        yield f"ABORT after {step}", talk(OPENING, octets, ABORT, SECOND, QUIT)
        yield f"ABORT twice after {step}", talk(OPENING, octets, ABORT, ABORT, ABORT, SECOND, QUIT)
        yield f"MAIL after {step}", talk(OPENING, octets, SECOND, QUIT)
        yield f"HELO after {step}", talk(OPENING, octets, helo("again"), SECOND, QUIT)
        yield f"HELO, then ABORT after {step}", talk(OPENING, octets, helo("again"), ABORT, ABORT, SECOND, QUIT)
        yield f"QUIT after {step}", talk(OPENING, octets, QUIT)
        yield f"end after {step}", talk(OPENING, octets)
        yield f"UNKNOWN after {step}", talk(OPENING, octets, UNKNOWN, ABORT, SECOND, QUIT)
        yield f"UNKNOWN twice after {step}", talk(OPENING, octets, UNKNOWN, UNKNOWN, QUIT)
        yield f"unknown command after {step}", talk(OPENING, octets, raw("X", b"what"))
        yield f"QUIT_NC after {step}", talk(OPENING, octets, QUIT_NC, CONNECT, helo("next"), SECOND, QUIT)


def _steps_out_of_order() -> Iterator[tuple[str, Conversation]]:
    """Every step after every step of a message; those in order are there, too."""
    steps = {"RCPT": RCPT, "DATA": DATA, "a header field": HEADER, "EOH": EOH, "body": BODY, "end of message": EOM}
    for after, octets in {"HELO": b"", **_SO_FAR}.items():
        for step, packet in steps.items():
            yield f"{step} follows {after}", talk(OPENING, octets, packet, ABORT, SECOND, QUIT)


ORDER: Final = {
    **dict(_after_each()),
    **dict(_steps_out_of_order()),
    "HELO is missing": talk(offer(), CONNECT, MESSAGE, QUIT),
    "CONNECT is missing": talk(offer(), HELO, MESSAGE, QUIT),
    "MAIL directly after the offer": talk(offer(), MESSAGE, QUIT),
    "HELO three times": talk(offer(), CONNECT, helo("one"), helo("two"), helo("three"), MESSAGE, QUIT),
    "ABORT after the offer": talk(offer(), ABORT, CONNECT, HELO, MESSAGE, QUIT),
    "ABORT between messages": talk(OPENING, ABORT, MESSAGE, ABORT, ABORT, SECOND, QUIT),
    "CONNECT twice": talk(OPENING, connect("second.example", "192.0.2.2"), HELO, MESSAGE, QUIT),
    "CONNECT inside a message": talk(OPENING, ENVELOPE, connect("second.example", "192.0.2.2"), HELO, QUIT),
    "UNKNOWN before CONNECT": talk(offer(), UNKNOWN, CONNECT, HELO, MESSAGE, QUIT),
    "UNKNOWN before HELO": talk(offer(), CONNECT, UNKNOWN, HELO, MESSAGE, QUIT),
    "UNKNOWN before MAIL": talk(OPENING, UNKNOWN, UNKNOWN, MESSAGE, QUIT),
    "UNKNOWN, then ABORT, outside a message": talk(OPENING, UNKNOWN, ABORT, MESSAGE, QUIT),
    "UNKNOWN between recipients": talk(OPENING, MAIL, RCPT, UNKNOWN, RCPT, DATA, HEADER, EOH, BODY, EOM, QUIT),
    "UNKNOWN before DATA": talk(OPENING, ENVELOPE, UNKNOWN, CONTENT, QUIT),
    "second offer": talk(OPENING, offer(), MAIL),
    "second offer inside a message": talk(OPENING, ENVELOPE, offer()),
    "offer twice at once": talk(offer(), offer(), CONNECT),
    "CONNECT comes first": talk(CONNECT, offer()),
    "macros come first": talk(macros("C", j="mx"), offer()),
    "QUIT comes first": talk(QUIT),
    "ABORT comes first": talk(ABORT, offer()),
    "UNKNOWN comes first": talk(UNKNOWN, offer()),
    "unknown command comes first": talk(raw("X"), offer()),
    "unknown command after the offer": talk(offer(), raw("X")),
    "code 0": talk(OPENING, raw("\0")),
    "code of an answer": talk(OPENING, raw("c")),
    "QUIT_NC after the offer": talk(offer(), QUIT_NC, CONNECT, HELO, QUIT),
    "QUIT_NC after HELO": talk(OPENING, QUIT_NC, CONNECT, HELO, MESSAGE, QUIT),
    "QUIT_NC after UNKNOWN": talk(OPENING, UNKNOWN, QUIT_NC, CONNECT, HELO, MESSAGE, QUIT),
    "QUIT_NC after ABORT": talk(OPENING, ENVELOPE, ABORT, QUIT_NC, CONNECT, HELO, MESSAGE, QUIT),
    "QUIT_NC after ABORT, without UNKNOWN": talk(
        OPENING,
        ENVELOPE,
        ABORT,
        QUIT_NC,
        CONNECT,
        HELO,
        MESSAGE,
        QUIT,
        script="callbacks\tconnect\thelo\tmail\trcpt\tdata\theader\teoh\tbody\teom\n",
    ),
    "QUIT_NC twice": talk(OPENING, MESSAGE, QUIT_NC, QUIT_NC, CONNECT, HELO, MESSAGE, QUIT),
    "QUIT_NC, then QUIT": talk(OPENING, MESSAGE, QUIT_NC, QUIT),
    "QUIT_NC, then the end": talk(OPENING, MESSAGE, QUIT_NC),
    "QUIT_NC, then MAIL": talk(OPENING, MESSAGE, QUIT_NC, MESSAGE, QUIT),
    "three connections in one": talk(OPENING, MESSAGE, QUIT_NC, CONNECT, HELO, SECOND, QUIT_NC, CONNECT, MESSAGE, QUIT),
}

# ------------------------------------------------------------------------------------------------------------- framing

FRAMING: Final = {
    "length 0 comes first": talk(b"\0\0\0\0", offer()),
    "length 0 between packets": talk(OPENING, MAIL, b"\0\0\0\0", RCPT),
    "length 2**31 - 1": talk(OPENING, MAIL, b"\x7f\xff\xff\xffR"),
    "length 2**31": talk(OPENING, MAIL, b"\x80\0\0\0R"),
    "length 2**32 - 1": talk(OPENING, MAIL, b"\xff\xff\xff\xffR"),
    "payload of 65536 octets": talk(OPENING, ENVELOPE, EOH, body(b"y" * 65535), b"\0\1\0\1B" + b"y" * 65536),
    "split in the length": talk(OPENING, MAIL[:2], MAIL[2:], RCPT[:3], RCPT[3:], QUIT),
    "split after the code": talk(OPENING, MAIL[:5], MAIL[5:], RCPT[:4], RCPT[4:], QUIT),
    "split in the payload": talk(OPENING, MAIL[:9], MAIL[9:12], MAIL[12:], RCPT, QUIT),
    "end in the length": talk(OPENING, ENVELOPE, DATA[:3]),
    "end in the payload": talk(OPENING, MAIL, RCPT[:-4]),
    "end in the offer": talk(offer()[:9]),
}

# --------------------------------------------------------------------------------------------------------- negotiation

CONTENT_ONLY: Final = "callbacks\theader\teoh\tbody\teom\n"


def negotiated(offered: bytes, script: str = "") -> Conversation:
    """An offer and a session after it."""
    return talk(offered, CONNECT, HELO, MESSAGE, UNKNOWN, QUIT, script=script)


NEGOTIATION: Final = {
    **{f"version {version}": negotiated(offer(version=version)) for version in (2, 3, 4, 5, 7, 0x01000000)},
    **{f"version {version}, too old": negotiated(offer(version=version)) for version in (0, 1)},
    "as Postfix with milter_protocol 2": negotiated(offer(0x1FF, 0x7F, 2)),
    "as Postfix with milter_protocol 4": negotiated(offer(0x1FF, 0x37F, 4)),
    "no actions offered": negotiated(offer(0, ALL_PROTOCOL, 2), do("eom", "addheader", "X-A", "b")),
    "no steps offered": negotiated(offer(ALL_ACTIONS, 0, 2)),
    "nothing offered": negotiated(offer(0, 0, 2)),
    "unknown bits offered": negotiated(offer(0xFFFFFFFF, 0x8FFFFFFF)),
    "large packets offered": negotiated(offer(0x1FF, 0x301FFFFF)),
    "offer of 11 octets": talk(raw("O", offer()[5:16]), CONNECT),
    "offer of 16 octets": negotiated(raw("O", offer()[5:] + b"more")),
    "offer of no octets": talk(raw("O"), CONNECT),
    "SKIP not offered": negotiated(offer(0x1FF, ALL_PROTOCOL & ~0x400)),
    "offer is looked at": negotiated(offer(0x3F, 0x7F, 2), "negotiate\tlook\n"),
    "offer is looked at, all of it": negotiated(offer(), "negotiate\tlook\n"),
    "offer of nothing is looked at": negotiated(offer(0, 0, 2), "negotiate\tlook\n"),
    "offer is refused": negotiated(offer(), "negotiate\tlook\trefuse\n"),
    "actions required and offered": negotiated(offer(0x3F), "require\t0x21\n" + do("eom", "quarantine", "why")),
    "actions required, not offered": negotiated(offer(0x3F), "require\t0x61\n"),
    "actions required, nothing offered": negotiated(offer(0), "require\t0x10\n"),
    "no callback there": negotiated(offer(), "negotiate\tnone\n"),
    "no callback there, version 2": negotiated(offer(0x3F, 0x7F, 2), "negotiate\tnone\nrequire\t0x3f\n"),
    "all options": negotiated(offer(), "negotiate\tall\n"),
    "all options, version 2": negotiated(offer(0x3F, 0x7F, 2), "negotiate\tall\n"),
    "content only": negotiated(offer(), CONTENT_ONLY),
    "content only, as Sendmail after RSET": talk(
        OPENING,
        macros("M", i="Q1"),
        MAIL,
        RCPT,
        macros("M", i="Q2"),
        MAIL,
        RCPT,
        HEADER,
        EOH,
        BODY,
        EOM,
        QUIT,
        script=CONTENT_ONLY + "macros\teom\ti\n",
    ),
    "envelope only": negotiated(offer(), "callbacks\tconnect\thelo\tmail\trcpt\n"),
    "envelope only, all has to be sent": negotiated(offer(0x1FF, ONLY_BASIC), "callbacks\tconnect\thelo\tmail\trcpt\n"),
    "no callback for DATA and EOH": negotiated(offer(), "callbacks\tconnect\thelo\tmail\trcpt\theader\tbody\teom\n"),
    "no callback for header fields": talk(
        OPENING, ENVELOPE, DATA, EOH, BODY, EOM, SECOND, QUIT, script="callbacks\tmail\trcpt\tdata\teoh\tbody\teom\n"
    ),
    "no callback but for the end": talk(OPENING, ENVELOPE, EOM, EOM, QUIT, script="callbacks\teom\n"),
    "leading space": talk(
        OPENING,
        ENVELOPE,
        DATA,
        header("A", " a"),
        header("B", "  b"),
        header("C", "c"),
        header("D", "\td"),
        header("E", ""),
        header("F", " "),
        header("G", " a\n\tb\n  c"),
        EOH,
        EOM,
        script="leading\n"
        + do("eom", "addheader", "X", "v")
        + do("eom", "chgheader", "A", 1, "w")
        + do("eom", "insheader", 0, "Y", " z")
        + do("eom", "delheader", "B", 1),
    ),
    "leading space not offered": talk(
        offer(0x1FF, ALL_PROTOCOL & ~0x100000),
        CONNECT,
        HELO,
        ENVELOPE,
        DATA,
        header("A", "a"),
        header("B", " b"),
        EOH,
        EOM,
        script="leading\n" + do("eom", "addheader", "X", "v"),
    ),
    "rejected recipients": negotiated(offer(), "rejected\n"),
    "rejected recipients not offered": negotiated(offer(0x1FF, 0x7FF), "rejected\n"),
    "some steps without answer": negotiated(offer(), "silent\tconnect\trcpt\tbody\n"),
    "some bits for no reply are missing": negotiated(
        offer(0x1FF, ALL_PROTOCOL & ~0x9000), "silent\tconnect\trcpt\tbody\n"
    ),
    "a list of macros": negotiated(offer(), "list\trcpt\ti {rcpt_addr} {rcpt_host} {rcpt_mailer} {client_addr}\n"),
    "lists of macros for the content": negotiated(
        offer(), "list\teoh\ti {auth_authen}\nlist\teom\ti {msg_id} {auth_authen}\n"
    ),
    "list of macros not offered": negotiated(
        offer(0x3F, 0x7F, 2), "list\trcpt\ti {rcpt_addr} {rcpt_host} {rcpt_mailer} {client_addr}\n"
    ),
}

# ----------------------------------------------------------------------------------------------------- macros, payloads

LOOKED_UP: Final = "".join(f"macros\t{step}\ti\t{{i}}\tj\t{{two}}\tv\n" for step in STEPS)


def looked_up(*octets: bytes) -> Conversation:
    """A filter that looks up macros at each step."""
    return talk(offer(), *octets, script=LOOKED_UP)


ALL_MACROS: Final = {letter: macros(letter, i=f"i{letter}", j=f"j{letter}", two=f"two{letter}") for letter in "CHMRTNE"}
MACROS: Final = {
    "none at all": looked_up(CONNECT, HELO, MESSAGE, QUIT),
    "for each step": looked_up(
        ALL_MACROS["C"],
        CONNECT,
        ALL_MACROS["H"],
        HELO,
        ALL_MACROS["M"],
        MAIL,
        ALL_MACROS["R"],
        RCPT,
        ALL_MACROS["T"],
        DATA,
        HEADER,
        ALL_MACROS["N"],
        EOH,
        BODY,
        ALL_MACROS["E"],
        EOM,
        QUIT,
    ),
    "empty set": looked_up(
        macros("C", j="mx"), CONNECT, macros("H"), HELO, macros("M", i="Q"), MAIL, macros("R"), RCPT
    ),
    "empty set takes the place of another": looked_up(
        macros("C", j="mx"), macros("C"), CONNECT, macros("H", i="1"), macros("H"), HELO, QUIT
    ),
    "a set takes the place of another": looked_up(macros("C", i="1", j="2"), macros("C", j="3"), CONNECT, HELO),
    "odd number of strings": looked_up(raw("D", b"Cj\0mx\0i\0"), CONNECT, HELO),
    "last string without NUL": looked_up(raw("D", b"Cj\0mx\0i\0Q"), CONNECT, HELO),
    "value without NUL": looked_up(raw("D", b"Cj\0mx"), CONNECT, HELO),
    "no command": looked_up(raw("D"), CONNECT),
    "names in braces": talk(
        offer(),
        raw("D", b"C{j}\0mx\0{two}\0braced\0three\0bare\0"),
        CONNECT,
        HELO,
        script="macros\tconnect\tj\t{j}\t{two}\tthree\nmacros\thelo\ttwo\t{three}\n",
    ),
    "one name twice": looked_up(raw("D", b"Cj\0one\0j\0two\0"), CONNECT, HELO),
    "empty name and value": looked_up(raw("D", b"C\0empty\0j\0\0"), CONNECT, HELO),
    "8-bit": looked_up(raw("D", b"Cj\0caf\xe9\xc3\xa9\0"), CONNECT, HELO),
    "no such step": looked_up(raw("D", b"Xj\0mx\0"), raw("D", b"\0j\0mx\0"), CONNECT, HELO),
    "step that never comes": looked_up(CONNECT, HELO, macros("R", i="Q"), MAIL, RCPT, QUIT),
    "between the fields, as Postfix": looked_up(
        CONNECT,
        HELO,
        macros("M", i="Q"),
        MAIL,
        RCPT,
        DATA,
        macros("L", i="Q"),
        HEADER,
        macros("L", i="Q"),
        HEADER,
        macros("N", i="Q"),
        EOH,
        macros("B", i="Q"),
        BODY,
        macros("E", i="Q"),
        EOM,
        QUIT,
    ),
    "for UNKNOWN": looked_up(macros("C", j="mx"), CONNECT, HELO, macros("U", i="U", j="unknown"), UNKNOWN, MAIL, QUIT),
    "HELO again": looked_up(
        macros("C", j="mx"),
        CONNECT,
        macros("H", two="1"),
        HELO,
        macros("M", i="Q"),
        MAIL,
        macros("H", two="2"),
        HELO,
        macros("M", i="R"),
        MAIL,
    ),
    "second recipient": looked_up(
        CONNECT, HELO, macros("M", i="Q"), MAIL, macros("R", two="1"), RCPT, macros("R", two="2"), RCPT, DATA, EOH, EOM
    ),
    "second message with its own": looked_up(
        CONNECT,
        HELO,
        macros("M", i="Q"),
        MAIL,
        macros("R", two="1"),
        RCPT,
        CONTENT,
        macros("M", i="R"),
        MAIL,
        macros("R", two="2"),
        RCPT,
        CONTENT,
        QUIT,
    ),
    "second message without": looked_up(
        CONNECT,
        HELO,
        macros("M", i="Q"),
        MAIL,
        macros("R", two="1"),
        RCPT,
        macros("E", j="eom"),
        CONTENT,
        MAIL,
        RCPT,
        CONTENT,
        QUIT,
    ),
    "RSET": looked_up(
        CONNECT,
        HELO,
        macros("M", i="Q"),
        MAIL,
        macros("R", two="1"),
        RCPT,
        ABORT,
        macros("M", i="R"),
        MAIL,
        macros("R", two="2"),
        RCPT,
        CONTENT,
        QUIT,
    ),
    "MAIL inside a message": looked_up(
        CONNECT,
        HELO,
        macros("M", i="Q"),
        MAIL,
        macros("R", two="1"),
        RCPT,
        macros("M", i="R"),
        MAIL,
        RCPT,
        DATA,
        EOH,
        EOM,
    ),
    "QUIT_NC": looked_up(
        macros("C", j="mx"),
        CONNECT,
        HELO,
        macros("M", i="Q"),
        MESSAGE,
        QUIT_NC,
        macros("C", v="2"),
        CONNECT,
        HELO,
        MESSAGE,
    ),
}


def connected(payload: bytes) -> Conversation:
    """A CONNECT packet with this payload, and what follows."""
    return talk(offer(), raw("C", payload), HELO, QUIT)


def greeted(*packets: bytes) -> Conversation:
    """What comes after HELO."""
    return talk(OPENING, *packets, QUIT)


def in_header(*packets: bytes) -> Conversation:
    """What comes after DATA."""
    return talk(OPENING, ENVELOPE, DATA, *packets, EOH, EOM, QUIT)


PAYLOADS: Final = {
    **{
        f"CONNECT: {name}": connected(payload)
        for name, payload in {
            "IPv4": b"host\x004\x9c\x40192.0.2.7\0",
            "port 0": b"host\x004\0\x00192.0.2.7\0",
            "port 65535": b"host\x004\xff\xff192.0.2.7\0",
            "IPv6, as Postfix": b"host\x006\0\x19::1\0",
            "IPv6, as Sendmail": b"host\x006\0\x19IPv6:2001:db8:0:0:0:0:0:1\0",
            "IPv6, prefix in lower case": b"host\x006\0\x19ipv6:2001:DB8::1\0",
            "IPv4 in IPv6": b"host\x006\0\x19::ffff:192.0.2.7\0",
            "UNIX-domain": b"localhost\0L\0\0/run/x\0",
            "UNIX-domain, longest path": b"localhost\0L\0\0/" + b"x" * 106 + b"\0",
            "UNIX-domain, path too long": b"localhost\0L\0\0/" + b"x" * 108 + b"\0",
            "UNIX-domain, no path": b"localhost\0L\0\0\0",
            "no address": b"localhost\0U",
            "no address, with more": b"localhost\0U\0\x19::1\0",
            "no host name": b"\x004\0\x19192.0.2.7\0",
            "host name in brackets": b"[192.0.2.7]\x004\0\x19192.0.2.7\0",
            "8-bit host name": b"caf\xe9\x004\0\x19192.0.2.7\0",
            "unknown address": b"unknown\x004\0\0unknown\0",
            "unknown IPv6 address": b"unknown\x006\0\0unknown\0",
            "empty address": b"unknown\x004\0\0\0",
            "IPv4 with a prefix": b"host\x004\0\x19IPv6:192.0.2.7\0",
            "IPv4 in three parts": b"host\x004\0\x19192.0.2\0",
            "IPv4 with leading zeros": b"host\x004\0\x19192.000.002.007\0",
            "IPv6 with a zone": b"host\x006\0\x19fe80::1%eth0\0",
            "address without NUL": b"host\x004\0\x19192.0.2.7",
            "more after the address": b"host\x004\0\x19192.0.2.7\0more\0",
            "no family": b"host\0",
            "no NUL": b"host",
            "nothing": b"",
            "no port": b"host\x004",
            "half a port": b"host\x004\0",
            "no such family": b"host\x005\0\x19192.0.2.7\0",
            "IPX": b"host\x001\0\x19192.0.2.7\0",
        }.items()
    },
    "HELO: empty": talk(offer(), CONNECT, raw("H", b"\0"), QUIT),
    "HELO: nothing": talk(offer(), CONNECT, raw("H"), MAIL),
    "HELO: no NUL": talk(offer(), CONNECT, raw("H", b"name"), MAIL),
    "HELO: two strings": talk(offer(), CONNECT, raw("H", b"name\0more\0"), MAIL),
    "HELO: 8-bit": talk(offer(), CONNECT, raw("H", b"caf\xe9 \xc3\xa9 \\ \t\0"), MAIL),
    **{
        f"{letter}: {name}": greeted(*([MAIL] if letter == "R" else []), raw(letter, payload))
        for letter in "MR"
        for name, payload in {
            "no brackets": b"alice@example.org\0",
            "null": b"<>\0",
            "empty": b"\0",
            "empty, with arguments": b"\0SIZE=1\0",
            "quoted": b'<"odd user"@example.org>\0',
            "source route": b"<@a,@b:bob@example.org>\0",
            "8-bit": b"<caf\xe9@\xc3\xa9.example>\0SMTPUTF8\0",
            "empty argument": b"<a@b>\0\0SIZE=1\0",
            "last argument without NUL": b"<a@b>\0SIZE=1\0BODY=8BITMIME",
            "no NUL": b"<a@b>",
            "nothing": b"",
        }.items()
    },
    "DATA: with a payload": talk(OPENING, ENVELOPE, raw("T", b"x"), HEADER, EOH, EOM),
    "EOH: with a payload": talk(OPENING, ENVELOPE, DATA, raw("N", b"x"), EOM),
    "ABORT: with a payload": talk(OPENING, ENVELOPE, raw("A", b"x"), MESSAGE),
    "QUIT_NC: with a payload": talk(OPENING, MESSAGE, raw("K", b"x"), CONNECT, HELO),
    "header: empty value": in_header(raw("L", b"N\0\0")),
    "header: empty name": in_header(raw("L", b"\0v\0")),
    "header: no value": in_header(raw("L", b"N\0")),
    "header: value without NUL": in_header(raw("L", b"N\0v")),
    "header: nothing": in_header(raw("L")),
    "header: three strings": in_header(raw("L", b"N\0v\0w\0")),
    "header: more without NUL": in_header(raw("L", b"N\0v\0w")),
    "header: 8-bit": in_header(raw("L", b"N\xe9\0caf\xe9 \xc3\xa9\0")),
    "header: folded": in_header(header("A", "one\n\ttwo\n  three"), header("B", " two spaces"), header("C", "\ttab")),
    "header: odd name": in_header(header("a b:c", "v"), header(":", "v"), header(" ", "v")),
    "header: CR and controls": in_header(header("A", "a\rb\x01\x7f\r\n c")),
    "body: empty": talk(OPENING, ENVELOPE, DATA, EOH, raw("B"), EOM),
    "UNKNOWN: empty": greeted(raw("U", b"\0")),
    "UNKNOWN: nothing": greeted(raw("U")),
    "UNKNOWN: no NUL": greeted(raw("U", b"FOO bar")),
    "UNKNOWN: two strings": greeted(raw("U", b"FOO\0bar\0")),
    "UNKNOWN: 8-bit": greeted(raw("U", b"caf\xe9 \xc3\xa9\0")),
}

# ------------------------------------------------------------------------------------------------------------ verdicts

_BEFORE: Final = {
    "connect": offer(),
    "helo": offer() + CONNECT,
    "mail": OPENING,
    "rcpt": OPENING + MAIL,
    "data": OPENING + ENVELOPE,
    "header": OPENING + ENVELOPE + DATA,
    "eoh": OPENING + ENVELOPE + DATA + HEADER,
    "body": OPENING + ENVELOPE + DATA + HEADER + EOH,
    "eom": OPENING + ENVELOPE + DATA + HEADER + EOH + BODY,
    "unknown": OPENING,
}
_PACKET: Final = {
    "connect": CONNECT,
    "helo": HELO,
    "mail": MAIL,
    "rcpt": RCPT,
    "data": DATA,
    "header": HEADER,
    "eoh": EOH,
    "body": BODY,
    "eom": EOM,
    "unknown": UNKNOWN,
}
_VERDICTS: Final = ("accept", "reject", "tempfail", "discard", "skip", "nonsense")


def _verdicts() -> Iterator[tuple[str, Conversation]]:
    """Each verdict at each step, from an MTA that goes on with the next message after it."""
    for step, before in _BEFORE.items():
        for verdict in _VERDICTS:
            yield (
                f"{verdict} at {step}",
                talk(before, _PACKET[step], ABORT, SECOND, QUIT, script=do(step, verdict, when=1)),
            )
        for code, enhanced in (("550", "5.7.1"), ("451", "4.7.1")):
            script = do(step, "reply", code, enhanced, "no, 100 %", when=1)
            yield f"{code} at {step}", talk(before, _PACKET[step], ABORT, SECOND, QUIT, script=script)


def _insisting() -> Iterator[tuple[str, Conversation]]:
    """A verdict that ends the message, from an MTA that sends the rest of it all the same."""
    rest = {
        "mail": RCPT + CONTENT,
        "data": RCPT + CONTENT,
        "header": HEADER + EOH + BODY + EOM,
        "eoh": BODY + EOM,
        "body": EOM,
    }
    for step, octets in rest.items():
        for verdict in ("accept", "reject"):
            script = do(step, verdict, when=1)
            yield (
                f"{verdict} at {step}, and the rest",
                talk(_BEFORE[step], _PACKET[step], octets, SECOND, script=script),
            )


def _silent() -> Iterator[tuple[str, Conversation]]:
    """A verdict at a step that gets no reply."""
    rest = {"mail": RCPT + CONTENT, "rcpt": RCPT + CONTENT, "header": EOH + BODY + EOM, "body": EOM}
    for step, octets in rest.items():
        for verdict in ("accept", "reject"):
            script = f"silent\t{step}\n" + do(step, verdict, when=1)
            yield (
                f"{verdict} at {step} without answer",
                talk(_BEFORE[step], _PACKET[step], octets, SECOND, script=script),
            )


def replied(*args: str) -> Conversation:
    """A reply at RCPT."""
    return talk(OPENING, MAIL, RCPT, RCPT, QUIT, script=do("rcpt", "reply", *args, when=1))


VERDICTS: Final = {
    **dict(_verdicts()),
    **dict(_insisting()),
    **dict(_silent()),
    "every recipient refused": talk(OPENING, MAIL, RCPT * 3, ABORT, SECOND, QUIT, script=do("rcpt", "reject")),
    "one recipient refused": talk(OPENING, MAIL, RCPT * 3, CONTENT, QUIT, script=do("rcpt", "reject", when=2)),
    "every recipient refused, and content": talk(OPENING, MAIL, RCPT, CONTENT, QUIT, script=do("rcpt", "reject")),
    "skip, and more body": talk(
        OPENING, ENVELOPE, DATA, EOH, BODY, BODY, EOM, SECOND, QUIT, script=do("body", "skip", when=1)
    ),
    "skip, and the end with body": talk(
        OPENING, ENVELOPE, DATA, EOH, BODY, raw("E", b"rest"), SECOND, script=do("body", "skip", when=1)
    ),
    "skip, which was not offered": talk(
        offer(0x1FF, ALL_PROTOCOL & ~0x400),
        CONNECT,
        HELO,
        ENVELOPE,
        DATA,
        EOH,
        BODY,
        BODY,
        EOM,
        SECOND,
        QUIT,
        script=do("body", "skip", when=1),
    ),
    "reject of the body that came with the end": talk(
        OPENING, ENVELOPE, DATA, EOH, raw("E", b"all"), SECOND, script=do("body", "reject", when=1)
    ),
    "skip of the body that came with the end": talk(
        OPENING, ENVELOPE, DATA, EOH, raw("E", b"all"), SECOND, script=do("body", "skip", when=1)
    ),
    "reject at each message": talk(
        OPENING,
        MAIL,
        ABORT,
        MAIL,
        mail("<c@d>"),
        MESSAGE,
        script=do("mail", "reject", when=1) + do("mail", "tempfail", when=2),
    ),
    "accept at UNKNOWN inside a message": talk(
        OPENING, ENVELOPE, UNKNOWN, CONTENT, script=do("unknown", "reject", when=1)
    ),
    **{
        f"reply: {name}": replied(*args)
        for name, args in {
            "one line": ("550", "5.7.1", "not here"),
            "two lines": ("550", "5.7.1", "one", "two"),
            "32 lines": ("451", "4.7.1", *["x"] * 32),
            "33 lines": ("451", "4.7.1", *["x"] * 33),
            "no text": ("550", "5.7.1"),
            "no text and no enhanced code": ("550", "-"),
            "empty text": ("550", "5.7.1", ""),
            "no enhanced code": ("550", "-", "not here"),
            "two lines, no enhanced code": ("550", "-", "one", "two"),
            "percent": ("550", "5.7.1", "100 %", "%%", "%s%n"),
            "text begins with a digit": ("550", "-", "3 strikes"),
            "421": ("421", "4.7.0", "closing"),
            "class of the enhanced code": ("550", "4.7.1", "not here"),
            "enhanced code of two parts": ("550", "5.7", "not here"),
            "enhanced code with four digits": ("550", "5.1000.1", "not here"),
            "enhanced code with three digits": ("550", "5.100.999", "not here"),
            "code 250": ("250", "2.0.0", "fine"),
            "code 600": ("600", "5.7.1", "x"),
            "code 55": ("55", "5.7.1", "x"),
            "LF in the text": ("550", "5.7.1", "one\n250 two"),
            "CR in the text": ("550", "5.7.1", "one\rtwo"),
            "8-bit": ("550", "5.7.1", "caf\udce9 \u00e9"),
            "control characters": ("550", "5.7.1", "a\x01b\x7fc\td"),
            "480 octets": ("550", "5.7.1", "x" * 480),
            "481 octets": ("550", "5.7.1", "x" * 481),
            "980 octets": ("550", "5.7.1", "x" * 980),
            "981 octets": ("550", "5.7.1", "x" * 981),
            "empty line between": ("550", "5.7.1", "one", "", "three"),
        }.items()
    },
    "a reply is not for later": talk(
        OPENING,
        MAIL,
        RCPT,
        MAIL,
        MAIL,
        QUIT,
        script=do("rcpt", "reply", "550", "5.7.1", "text", when=1)
        + do("rcpt", "tempfail", when=1)
        + do("mail", "reject", when=2),
    ),
}

# --------------------------------------------------------------------------------------------------------------- edits


def edited(*actions: str, actions_offered: int = ALL_ACTIONS, protocol: int = ALL_PROTOCOL) -> Conversation:
    """Edits at the end of the first message, and a second message without."""
    return talk(offer(actions_offered, protocol), CONNECT, HELO, MESSAGE, SECOND, QUIT, script="".join(actions))


def edit(action: str, *args: object) -> str:
    """An action at the end of the first message."""
    return do("eom", action, *args, when=1)


_EACH_EDIT: Final = {
    "addheader": ("X-A", "b"),
    "insheader": (0, "X-A", "b"),
    "chgheader": ("Subject", 1, "new"),
    "delheader": ("Subject", 1),
    "replacebody": ("new\r\n",),
    "chgfrom": ("<new@example.org>",),
    "addrcpt": ("<new@example.org>",),
    "delrcpt": ("<bob@example.net>",),
    "quarantine": ("why",),
}
_ALL_EDITS: Final = "".join(edit(name, *args) for name, args in reversed(_EACH_EDIT.items()))
EDITS: Final = {
    **{f"{name} alone": edited(edit(name, *args)) for name, args in _EACH_EDIT.items()},
    **{f"{name}, not offered": edited(edit(name, *args), actions_offered=0x100) for name, args in _EACH_EDIT.items()},
    "all of them": edited(_ALL_EDITS),
    "all of them, with accept": edited(_ALL_EDITS, edit("accept")),
    **{
        f"all of them, with {verdict}": edited(_ALL_EDITS, edit(verdict))
        for verdict in ("reject", "tempfail", "discard")
    },
    "all of them, with a reply": edited(_ALL_EDITS, edit("reply", "550", "5.7.1", "no")),
    "arguments of a sender": edited(edit("chgfrom", "<a@b>", "RET=HDRS ENVID=x")),
    "arguments of a recipient": edited(edit("addrcpt", "<a@b>", "NOTIFY=NEVER")),
    "arguments of a recipient, not offered": edited(edit("addrcpt", "<a@b>", "NOTIFY=NEVER"), actions_offered=0x3F),
    "null sender": edited(edit("chgfrom", "<>")),
    "address without brackets": edited(
        edit("chgfrom", "a@b"), edit("addrcpt", "c@d"), edit("delrcpt", "bob@example.net")
    ),
    "empty addresses": edited(edit("chgfrom", ""), edit("addrcpt", ""), edit("delrcpt", "")),
    "two addresses": edited(edit("addrcpt", "<a@b>, <c@d>")),
    "a line end in an address": edited(edit("addrcpt", "<a@b>\r\nx")),
    "a name with a colon": edited(
        edit("addheader", "X:", "v"), edit("insheader", 1, "X Y", "v"), edit("chgheader", "\u00e9", 1, "v")
    ),
    "an empty name": edited(edit("addheader", "", "v"), edit("insheader", 0, "", "v"), edit("chgheader", "", 1, "v")),
    "an empty value": edited(
        edit("addheader", "A", ""), edit("insheader", 0, "B", ""), edit("chgheader", "Subject", 1, "")
    ),
    "a folded value": edited(edit("addheader", "A", "one\n\ttwo\n three")),
    "a value folded with CRLF": edited(edit("addheader", "A", "one\r\n\ttwo")),
    "a value with CR": edited(edit("addheader", "A", "one\rtwo")),
    "a value with a line of its own": edited(edit("addheader", "A", "one\nB: two")),
    "an 8-bit value": edited(edit("addheader", "A", "caf\udce9 \u00e9")),
    "a value of 65532 octets": edited(edit("addheader", "A", "x" * 65532)),
    "a value of 65533 octets": edited(edit("addheader", "A", "x" * 65533)),
    "index -1": edited(edit("insheader", -1, "A", "v"), edit("chgheader", "Subject", -1, "v")),
    "index 0": edited(edit("insheader", 0, "A", "v"), edit("chgheader", "Subject", 0, "v")),
    "index 2**31 - 1": edited(edit("insheader", 2**31 - 1, "A", "v"), edit("chgheader", "Subject", 2**31 - 1, "v")),
    "fields changed in any order": edited(
        edit("delheader", "a", 1),
        edit("chgheader", "A", 3, "x"),
        edit("delheader", "B", 2),
        edit("delheader", "A", 2),
        edit("chgheader", "B", 1, "y"),
    ),
    "a field changed twice": edited(edit("chgheader", "A", 1, "x"), edit("chgheader", "a", 1, "y")),
    "a field inserted thrice": edited(
        edit("insheader", 0, "A", "1"), edit("insheader", 5, "A", "2"), edit("insheader", 0, "A", "3")
    ),
    "sender changed twice": edited(edit("chgfrom", "<a@b>"), edit("chgfrom", "<c@d>")),
    "recipients in order": edited(
        edit("delrcpt", "<a@b>"), edit("addrcpt", "<a@b>"), edit("addrcpt", "<c@d>", "X=1"), edit("delrcpt", "<e@f>")
    ),
    "quarantined twice": edited(edit("quarantine", "one"), edit("quarantine", "two")),
    "quarantined for no reason": edited(edit("quarantine", "")),
    "empty body": edited(edit("replacebody", "")),
    "body of 65535 octets": edited(edit("replacebody", "x" * 65535)),
    "body of 65536 octets": edited(edit("replacebody", "x" * 65536)),
    "body of 200000 octets": edited(edit("replacebody", "x" * 200000)),
    "body in two calls": edited(edit("replacebody", "one"), edit("replacebody", "two")),
    "progress": edited(edit("progress"), edit("addheader", "A", "b"), edit("progress")),
    "edits of each message": talk(OPENING, MESSAGE, SECOND, MESSAGE, QUIT, script=do("eom", "addheader", "A", "b")),
    "edits with the body at the end": talk(
        OPENING, ENVELOPE, DATA, EOH, raw("E", b"all"), MESSAGE, script=do("eom", "addheader", "A", "b")
    ),
    **{
        f"edits at {step}": talk(OPENING, MESSAGE, QUIT, script=do(step, "addheader", "A", "b"))
        for step in ("connect", "mail", "rcpt", "header", "body")
    },
}

CONVERSATIONS: Final[Mapping[str, Conversation]] = {
    f"{group}: {name}": conversation
    for group, conversations in {
        "whole": WHOLE,
        "order": ORDER,
        "framing": FRAMING,
        "negotiation": NEGOTIATION,
        "macros": MACROS,
        "payload": PAYLOADS,
        "verdict": VERDICTS,
        "edit": EDITS,
    }.items()
    for name, conversation in conversations.items()
}
