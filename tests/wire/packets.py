"""Packets and their octets, as one list for every test that needs both: the example of the help page, and its edges.

Each entry stands for a whole packet: what it is in Python, and the octets on the wire, length and code included.
"""

from typing import Final, NamedTuple, TypeAlias

from aiomilter.wire.constants import Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.macros import Macros
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Progress,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.negotiation import NegotiateAnswer
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Reply, Verdict

FromMTA: TypeAlias = (
    Negotiate
    | Macros
    | Connect
    | Helo
    | Mail
    | Rcpt
    | Data
    | Header
    | EndOfHeaders
    | BodyChunk
    | EndOfMessage
    | Unknown
    | Abort
    | Quit
    | QuitNewConnection
)
FromFilter: TypeAlias = (
    NegotiateAnswer
    | AddHeader
    | InsertHeader
    | ChangeHeader
    | ReplaceBody
    | AddRecipient
    | DeleteRecipient
    | ChangeSender
    | Quarantine
    | Progress
)


class Sample(NamedTuple):
    """One packet of the MTA."""

    event: FromMTA
    octets: bytes


class Asked(NamedTuple):
    """One packet of the filter that is no answer."""

    packet: FromFilter
    octets: bytes


class Answer(NamedTuple):
    """One answer of the filter."""

    response: Verdict | Reply
    octets: bytes


_hex = bytes.fromhex

EXAMPLE_FROM_MTA: Final = [
    Sample(Negotiate(6, 0x1FF, 0x1FFFFF), _hex("0000000d 4f 00000006000001ff 001fffff")),
    Sample(
        Macros(0x43, {"j": "mx.example.org", "{daemon_name}": "MTA"}),
        _hex("00000025 44 436a006d782e6578616d706c652e6f7267007b6461656d6f6e5f6e616d657d004d544100"),
    ),
    Sample(
        Connect("client.example.net", Family.INET, 40000, "192.0.2.7"),
        _hex("00000021 43 636c69656e742e6578616d706c652e6e657400349c403139322e302e322e3700"),
    ),
    Sample(Macros(0x48, {}), _hex("00000002 44 48")),
    Sample(Helo("client.example.net"), _hex("00000014 48 636c69656e742e6578616d706c652e6e657400")),
    Sample(
        Macros(0x4D, {"i": "Q1", "{mail_addr}": "alice@example.org"}),
        _hex("00000025 44 4d69005131007b6d61696c5f616464727d00616c696365406578616d706c652e6f726700"),
    ),
    Sample(
        Mail("<alice@example.org>", ("SIZE=100",)),
        _hex("0000001e 4d 3c616c696365406578616d706c652e6f72673e0053495a453d31303000"),
    ),
    Sample(
        Macros(0x52, {"{rcpt_addr}": "bob@example.org"}),
        _hex("0000001e 44 527b726370745f616464727d00626f62406578616d706c652e6f726700"),
    ),
    Sample(Rcpt("<bob@example.org>"), _hex("00000013 52 3c626f62406578616d706c652e6f72673e00")),
    Sample(Data(), _hex("00000001 54")),
    Sample(Header("Subject", "hi"), _hex("0000000c 4c 5375626a65637400686900")),
    Sample(EndOfHeaders(), _hex("00000001 4e")),
    Sample(BodyChunk(b"Hello\r\n"), _hex("00000008 42 48656c6c6f0d0a")),
    Sample(EndOfMessage(), _hex("00000001 45")),
    Sample(Quit(), _hex("00000001 51")),
]
"""The MTA's half of the example in aiomilter/help/protocol.rst, "A conversation in octets"."""

SAMPLES: Final = [
    *EXAMPLE_FROM_MTA,
    Sample(Negotiate(2, 0, 0), _hex("0000000d 4f 00000002 00000000 00000000")),
    Sample(Negotiate(2**32 - 1, 2**32 - 1, 2**32 - 1), _hex("0000000d 4f ffffffff ffffffff ffffffff")),
    Sample(Macros(0x55, {}), _hex("00000002 44 55")),
    Sample(Macros(0x4C, {"i": "Q"}), _hex("00000006 44 4c 6900 5100")),
    Sample(Macros(0x00, {"i": ""}), _hex("00000005 44 00 6900 00")),
    Sample(Macros(0xFF, {"{mail_addr}": "\udcff@x"}), _hex("00000012 44 ff 7b6d61696c5f616464727d00 ff407800")),
    Sample(Connect("localhost"), _hex("0000000c 43 6c6f63616c686f7374 00 55")),
    Sample(Connect("mx", Family.INET6, 25, "2001:db8::1"), _hex("00000013 43 6d7800 36 0019 323030313a6462383a3a3100")),
    Sample(
        Connect("[IPv6:::1]", Family.INET6, 65535, "IPv6:0:0:0:0:0:0:0:1"),
        _hex("00000024 43 5b495076363a3a3a315d00 36 ffff 495076363a303a303a303a303a303a303a303a3100"),
    ),
    Sample(
        Connect("unknown", Family.INET, 0, "unknown"), _hex("00000014 43 756e6b6e6f776e00 34 0000 756e6b6e6f776e00")
    ),
    Sample(
        Connect("localhost", Family.UNIX, 0, "/run/x"), _hex("00000015 43 6c6f63616c686f737400 4c 0000 2f72756e2f7800")
    ),
    Sample(Connect("", Family.UNIX), _hex("00000006 43 00 4c 0000 00")),
    Sample(Helo(""), _hex("00000002 48 00")),
    Sample(Helo("gr\u00fc\u00df.example"), _hex("00000010 48 6772c3bcc39f2e6578616d706c6500")),
    Sample(Helo("\udce9\udc80"), _hex("00000004 48 e980 00")),
    Sample(Mail("<>"), _hex("00000004 4d 3c3e00")),
    Sample(Mail(""), _hex("00000002 4d 00")),
    Sample(Mail("alice"), _hex("00000007 4d 616c69636500")),
    Sample(
        Mail("<a@x>", ("size=1", "BODY=8BITMIME", "SMTPUTF8")),
        _hex("00000025 4d 3c6140783e00 73697a653d3100 424f44593d384249544d494d4500 534d54505554463800"),
    ),
    Sample(Mail("<a@x>", ("", "A=")), _hex("0000000b 4d 3c6140783e00 00 413d00")),
    Sample(
        Rcpt("<@a,@b:bob@example.org>", ("NOTIFY=NEVER",)),
        _hex("00000026 52 3c40612c40623a626f62406578616d706c652e6f72673e00 4e4f544946593d4e4556455200"),
    ),
    Sample(Rcpt("bob"), _hex("00000005 52 626f6200")),
    Sample(Header("X", ""), _hex("00000004 4c 5800 00")),
    Sample(
        Header("X", "first\n\tsecond\n  third"), _hex("00000019 4c 5800 66697273740a097365636f6e640a202074686972 6400")
    ),
    Sample(Header("X-\udcff", "\udcfe \u00e9"), _hex("0000000a 4c 582dff00 fe20c3a900")),
    Sample(BodyChunk(b"\0"), _hex("00000002 42 00")),
    Sample(BodyChunk(b"\r"), _hex("00000002 42 0d")),
    Sample(BodyChunk(b"\n.\r\n\xff"), _hex("00000006 42 0a2e0d0aff")),
    Sample(BodyChunk(bytes(65535)), _hex("00010000 42") + bytes(65535)),
    Sample(Unknown("FOO bar"), _hex("00000009 55 464f4f2062617200")),
    Sample(Unknown(""), _hex("00000002 55 00")),
    Sample(Abort(), _hex("00000001 41")),
    Sample(QuitNewConnection(), _hex("00000001 4b")),
]
"""Every kind of packet that an MTA sends."""

EXAMPLE_FROM_FILTER: Final[list[Asked | Answer]] = [
    Asked(NegotiateAnswer(6, 0x001, 0), _hex("0000000d 4f 0000000600000001 00000000")),
    Answer(CONTINUE, _hex("00000001 63")),
    Asked(AddHeader("X-Checked", "yes"), _hex("0000000f 68 582d436865636b656400 79657300")),
    Answer(ACCEPT, _hex("00000001 61")),
]
"""The filter's half of the worked example; CONTINUE is in it eight times."""

ASKED: Final = [
    *(entry for entry in EXAMPLE_FROM_FILTER if isinstance(entry, Asked)),
    Asked(
        NegotiateAnswer(6, 0x1FF, 0, {Stage.CONNECT: ("j", "{x}"), Stage.EOM: ()}),
        _hex("0000001c 4f 00000006000001ff00000000 00000000 6a207b787d00 00000005 00"),
    ),
    Asked(
        NegotiateAnswer(
            2,
            0,
            0,
            {
                Stage.HELO: ("a",),
                Stage.MAIL: ("b",),
                Stage.RCPT: ("c",),
                Stage.DATA: ("d",),
                Stage.EOH: ("{ee}",),
            },
        ),
        _hex(
            "0000002e 4f 000000020000000000000000 00000001 6100 00000002 6200 00000003 6300 00000004 6400"
            "00000006 7b65657d00"
        ),
    ),
    Asked(AddHeader("X", ""), _hex("00000004 68 5800 00")),
    Asked(AddHeader("X", "a\n b"), _hex("00000008 68 5800 610a206200")),
    Asked(InsertHeader(0, "X-Top", "inserted"), _hex("00000014 69 00000000 582d546f7000 696e73657274656400")),
    Asked(InsertHeader(2**31 - 1, "X", "\u00e9\udcff"), _hex("0000000b 69 7fffffff 5800 c3a9ff00")),
    Asked(ChangeHeader(3, "X-A", ""), _hex("0000000a 6d 00000003 582d4100 00")),
    Asked(ChangeHeader(1, "Subject", "new"), _hex("00000011 6d 00000001 5375626a65637400 6e657700")),
    Asked(ReplaceBody(b""), _hex("00000001 62")),
    Asked(ReplaceBody(b"new\r\n\0"), _hex("00000007 62 6e65770d0a00")),
    Asked(ReplaceBody(bytes(65535)), _hex("00010000 62") + bytes(65535)),
    Asked(AddRecipient("<c@d>"), _hex("00000007 2b 3c6340643e00")),
    Asked(
        AddRecipient("<erin@example.com>", "NOTIFY=NEVER"),
        _hex("00000021 32 3c6572696e406578616d706c652e636f6d3e00 4e4f544946593d4e4556455200"),
    ),
    Asked(AddRecipient("<c@d>", ""), _hex("00000008 32 3c6340643e00 00")),
    Asked(DeleteRecipient("<e@f>"), _hex("00000007 2d 3c6540663e00")),
    Asked(ChangeSender("<>"), _hex("00000004 65 3c3e00")),
    Asked(
        ChangeSender("<new@example.org>", "RET=HDRS"),
        _hex("0000001c 65 3c6e6577406578616d706c652e6f72673e00 5245543d4844525300"),
    ),
    Asked(ChangeSender("a", ""), _hex("00000004 65 6100 00")),
    Asked(Quarantine("held for review"), _hex("00000011 71 68656c6420666f722072657669657700")),
    Asked(Progress(), _hex("00000001 70")),
]
"""Every kind of packet that a filter sends and that is no answer."""

ANSWERS: Final = [
    Answer(CONTINUE, _hex("00000001 63")),
    Answer(ACCEPT, _hex("00000001 61")),
    Answer(REJECT, _hex("00000001 72")),
    Answer(TEMPFAIL, _hex("00000001 74")),
    Answer(DISCARD, _hex("00000001 64")),
    Answer(SKIP, _hex("00000001 73")),
    Answer(Reply(550, "5.7.1", "text"), b"\0\0\0\x10y550 5.7.1 text\0"),
    Answer(
        Reply(550, "5.7.1", "line one", "550-5.7.1", "last line"),
        b"\0\0\0\x3ey550-5.7.1 line one\r\n550-5.7.1 550-5.7.1\r\n550 5.7.1 last line\0",
    ),
    Answer(Reply(550, "5.7.1", "custom 50%"), b"\0\0\0\x17y550 5.7.1 custom 50%%\0"),
    Answer(Reply(550), b"\0\0\0\x06y550 \0"),
    Answer(Reply(550, "5.7.1"), b"\0\0\0\x0by550 5.7.1\0"),
    Answer(Reply(421, None, "closing"), b"\0\0\0\x0dy421 closing\0"),
    Answer(Reply(450, "4.0.0", "3 strikes"), b"\0\0\0\x15y450 4.0.0 3 strikes\0"),
    Answer(Reply(599, "5.999.999", "", "\tx", ""), b"\0\0\0\x30y599-5.999.999\r\n599-5.999.999 \tx\r\n599 5.999.999\0"),
]
"""Every kind of answer."""
