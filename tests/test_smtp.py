"""The embedded SMTP front, from an SMTP client's side."""

import asyncio
import errno
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import aiomilter
from aiomilter import (
    ACCEPT,
    DISCARD,
    REJECT,
    TEMPFAIL,
    AddressError,
    Connect,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
    Unknown,
    UnknownResponse,
)
from aiomilter.smtp import Front, Outcome, front, split_address, store
from aiomilter.smtp.client import Client as Client_
from tests.clock import on_clock
from tests.patience import PATIENCE
from tests.peer import Watcher


class Client:
    """An SMTP client that says exactly what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> str:
        """Return the next reply, lines joined by LF; "" at the end of the connection."""
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.removesuffix("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, *lines: str | bytes) -> str:
        """Send lines at once, and return the last reply."""
        self.send(*lines)
        replies = [await self.reply() for _ in lines]
        return replies[-1]

    def send(self, *lines: str | bytes) -> None:
        octets = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self.writer.write(b"".join(line + b"\r\n" for line in octets))

    async def message(self, content: bytes) -> str:
        """Send an envelope and a message, and return the reply to it."""
        assert (await self.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA"))[:3] == "354"
        return await self.say(content + b".")


@asynccontextmanager
async def connected(smtp: Front, hello: str | None = "EHLO me.example") -> AsyncIterator[Client]:
    """A client that was greeted, and has said EHLO unless told otherwise."""
    reader, writer = await asyncio.open_connection(smtp.host, smtp.port)
    client = Client(reader, writer)
    try:
        if hello is not None:
            assert (await client.reply())[:3] == "220"
            assert (await client.say(hello))[:3] == "250"
        yield client
    finally:
        writer.close()
        await writer.wait_closed()


class Scene:
    """A filter, the front, and what came out of it."""

    def __init__(self, smtp: Front, outcomes: list[Outcome]) -> None:
        self.smtp = smtp
        self.outcomes = outcomes

    @property
    def octets(self) -> list[bytes]:
        return [outcome.result.delivered.octets for outcome in self.outcomes if outcome.result.delivered]


@asynccontextmanager
async def scene(factory: aiomilter.Factory, **options: Any) -> AsyncIterator[Scene]:
    outcomes: list[Outcome] = []
    async with (
        aiomilter.serve(factory, "inet:0@127.0.0.1", stall_timeout=None) as server,
        front("127.0.0.1:0", server.addresses[0], on_message=outcomes.append, **options) as smtp,
    ):
        yield Scene(smtp, outcomes)


class Tag(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")


# --------------------------------------------------------------------------------------------- what a filter is shown


class Note(Milter):
    """Says in a header field what it was shown."""

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.seen: list[object] = [(connect.hostname, str(connect.ip))]
        self.bodies = b""

    async def helo(self, ctx: Context, helo: Helo) -> None:
        self.seen.append(helo.name)

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.bodies = b""
        self.seen.append((mail.path, mail.params))

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        self.seen.append((rcpt.path, rcpt.params))

    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.bodies += chunk

    async def abort(self, ctx: Context) -> None:
        self.seen.append("abort")

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", ascii([*self.seen, self.bodies, ctx.macro("j"), ctx.mta.kind]))


async def test_a_filter_is_shown_paths_parameters_and_content_as_they_were_sent() -> None:
    async with scene(Note) as played, connected(played.smtp) as client:
        await client.say(
            'MAIL FROM: <"a  b"@X.example> RET=hdrs ENVID=Ab+2B SIZE=5 BODY=8BITMIME SMTPUTF8',
            "rcpt to:<\u00fc@y.example> NOTIFY=never ORCPT=rfc822;Bob@y.example",
            "DATA",
        )
        reply = await client.say(b"A:  caf\xe9\r\n\tfold\r\n\r\n\x00\xff\r bare\r\n..\r\n.")

    assert reply.startswith("250 ")
    (octets,) = played.octets
    seen = eval(octets.partition(b"X-Seen: ")[2].partition(b"\r\n")[0])
    assert seen == [
        ("localhost", "127.0.0.1"),
        "me.example",
        ('<"a  b"@X.example>', ("RET=hdrs", "ENVID=Ab+2B", "SIZE=5", "BODY=8BITMIME", "SMTPUTF8")),
        ("<\u00fc@y.example>", ("NOTIFY=never", "ORCPT=rfc822;Bob@y.example")),
        b"\x00\xff  bare\r\n.\r\n",
        "localhost",
        "postfix",
    ]
    assert octets.startswith(b"A:  caf\xe9\r\n\tfold\r\nX-Seen: ")


@pytest.mark.parametrize(
    ("content", "delivered"),
    [
        (b".", b"X-Seen: yes\r\n"),
        (b"\r\n.", b"X-Seen: yes\r\n\r\n"),
        (b"..\r\n.", b"X-Seen: yes\r\n\r\n.\r\n"),
        (b"A: b\r\n\r\n..\r\n...x\r\n.", b"A: b\r\nX-Seen: yes\r\n\r\n.\r\n..x\r\n"),
        (b".\nA: b\r\n.", b"X-Seen: yes\r\n\r\n.\r\nA: b\r\n"),
        (b"A: b\r\n\r\na\n.x\n..\r\n..y\r\n.", b"A: b\r\nX-Seen: yes\r\n\r\na\r\nx\r\n.\r\n.y\r\n"),
        (b"A: b\r\n\r\nno end\n.\r\nof\r\n.\nmessage\r.\r\n.", None),
    ],
)
async def test_only_a_dot_between_line_ends_ends_a_message(content: bytes, delivered: bytes | None) -> None:
    """What follows a lone LF and a dot is content, not a second message (SMTP smuggling)."""
    if delivered is None:
        delivered = b"A: b\r\nX-Seen: yes\r\n\r\nno end\r\n.\r\nof\r\n.\r\nmessage .\r\n"
    async with scene(Tag) as played, connected(played.smtp) as client:
        await client.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
        assert (await client.say(content)).startswith("250 ")
        assert await client.say("QUIT") == "221 2.0.0 Bye"

    assert played.octets == [delivered]


async def test_a_message_that_arrives_octet_by_octet_is_the_same() -> None:
    async with scene(Tag) as played, connected(played.smtp) as client:
        await client.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
        transport = client.writer.transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in b"A: b\r\n\r\n..\r\n.\r\n":
            client.writer.write(bytes([octet]))
            await client.writer.drain()
        assert (await client.reply()).startswith("250 ")

    assert played.octets == [b"A: b\r\nX-Seen: yes\r\n\r\n.\r\n"]


async def test_everything_may_be_sent_at_once_and_the_side_be_closed() -> None:
    envelope = b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"
    async with scene(Tag) as played, connected(played.smtp, hello=None) as client:
        client.writer.write(b"EHLO me.example\r\n" + (envelope + b"A: b\r\n\r\nx\r\n.\r\n") * 3 + b"QUIT\r\n")
        client.writer.write_eof()
        codes = [(await client.reply())[:3] for _ in range(15)]
        assert await client.reply() == ""

    assert codes == ["220", "250", *["250", "250", "354", "250"] * 3, "221"]
    assert len(played.octets) == 3


async def test_a_client_that_leaves_in_the_midst_of_a_message_leaves_nothing() -> None:
    async with scene(Tag) as played, connected(played.smtp) as client:
        await client.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
        client.writer.write(b"A: b\r\n\r\nx\r\n")
        client.writer.write_eof()
        assert await client.reply() == ""

    assert played.outcomes == []


async def test_rset_and_a_second_helo_end_a_message_and_leave_the_session() -> None:
    async with scene(Note) as played, connected(played.smtp) as client:
        await client.say("MAIL FROM:<1@x.example>", "RCPT TO:<1@y.example>", "RSET")
        assert await client.say("DATA") == "503 5.5.1 Error: need MAIL command"
        await client.say(
            "MAIL FROM:<2@x.example>", "HELO again.example", "MAIL FROM:<3@x.example>", "RCPT TO:<3@y.example>"
        )
        await client.say("DATA", b"\r\nx\r\n.")
        await client.message(b"\r\ny\r\n")

    first, second = (octets.split(b"\r\n")[0].decode() for octets in played.octets)
    assert [first.count(text) for text in ("'abort'", "'again.example'", "<1@x", "<2@x", "<3@x")] == [2, 1, 1, 1, 1]
    assert "b'x" in first
    assert "b'y" in second
    assert "<b@y.example>" in second


async def test_many_sessions_at_once_do_not_mix() -> None:
    class Wait(Milter):
        """Goes on when all are there."""

        async def eom(self, ctx: EndOfMessageContext) -> None:
            await barrier.wait()
            ctx.add_header("X-Sender", ctx.sender.address if ctx.sender else "")

    async def send(number: int) -> None:
        async with connected(played.smtp) as client:
            await client.say(f"MAIL FROM:<{number}@x.example>", "RCPT TO:<b@y.example>", "DATA")
            assert (await client.say(b"A: %d\r\n\r\n." % number)).startswith("250 ")

    barrier = asyncio.Barrier(10)
    async with scene(Wait) as played, asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(send(number))

    assert sorted(played.octets) == [
        b"A: %d\r\nX-Sender: %d@x.example\r\n\r\n" % (number, number) for number in range(10)
    ]


# ------------------------------------------------------------------------------------------- what a client is answered


class AtSender(Milter):
    """Answers as the sender's name says."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return ANSWERS[mail.address.partition("@")[0]]


ANSWERS: dict[str, Response | None] = {
    "reject": REJECT,
    "tempfail": TEMPFAIL,
    "reply": Reply(550, "5.7.99", "not you", "and not today"),
    "discard": DISCARD,
    "accept": ACCEPT,
    "none": None,
}
TOLD = {
    "reject": "550 5.7.1 Command rejected",
    "tempfail": "451 4.7.1 Service unavailable - try again later",
    "reply": "550-5.7.99 not you\n550 5.7.99 and not today",
}


async def test_answers_to_a_sender_are_told_as_postfix_tells_them() -> None:
    replies = {}
    async with scene(AtSender) as played, connected(played.smtp) as client:
        for name in ANSWERS:
            sender = f"MAIL FROM:<{name}@x.example>"
            replies[name] = await client.say("RSET", sender, "RSET", sender)

    assert replies == {name: TOLD.get(name, "250 2.1.0 Ok") for name in ANSWERS}


class AtSubject(Milter):
    """Answers a header field as its value says."""

    async def header(self, ctx: Context, header: Header) -> Response | None:
        return ANSWERS[header.value]


async def test_answers_to_the_content_are_told_after_it() -> None:
    async with scene(AtSubject) as played, connected(played.smtp) as client:
        replies = {name: await client.message(f"A: {name}\r\n\r\n".encode()) for name in ANSWERS}

    for outcome, name in zip(played.outcomes, ANSWERS, strict=True):
        assert replies[name] == TOLD.get(name, f"250 2.0.0 Ok: queued as {outcome.queue_id}")
        assert outcome.reply.replace("\r\n", "\n") == replies[name]
    assert [outcome.result.delivered is not None for outcome in played.outcomes] == [
        False,
        False,
        False,
        False,
        True,
        True,
    ]


async def test_a_refused_recipient_leaves_the_others() -> None:
    class Trap(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            return Reply(550, "5.1.1", "no such mailbox") if rcpt.address == "trap@y.example" else None

    async with scene(Trap) as played, connected(played.smtp) as client:
        assert await client.say("MAIL FROM:<>", "RCPT TO:<trap@y.example>") == "550 5.1.1 no such mailbox"
        assert await client.say("DATA") == "554 5.5.1 Error: no valid recipients"
        assert await client.say("RCPT TO:<b@y.example>") == "250 2.1.5 Ok"
        await client.say("DATA", b"\r\n.")

    (outcome,) = played.outcomes
    assert outcome.result.delivered is not None
    assert [rcpt.path for rcpt in outcome.result.delivered.recipients] == ["<b@y.example>"]
    assert (outcome.client, outcome.helo) == ("127.0.0.1", "me.example")


class AtConnection(Milter):
    """Answers CONNECT and HELO as the class says."""

    answers: tuple[ConnectionResponse | None, ConnectionResponse | None] = (None, None)

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        return self.answers[0]

    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse | None:
        return self.answers[1]


@pytest.mark.parametrize(
    ("at_connect", "at_helo", "told"),
    [
        (REJECT, None, ["554 localhost ESMTP not accepting connections", "250 ", "550 5.7.1 Command rejected"]),
        (TEMPFAIL, None, ["220 ", "250 ", "451 4.7.1 Service unavailable - try again later"]),
        (Reply(550, "5.7.1", "no"), None, ["220 ", "250 ", "550 5.7.1 no"]),
        (Reply(421, "4.7.0", "bye"), None, ["421 4.7.0 bye", "", ""]),
        (ACCEPT, None, ["220 ", "250 ", "250 2.1.0 Ok"]),
        (None, REJECT, ["220 ", "250 ", "550 5.7.1 Command rejected"]),
        (None, Reply(421, "4.7.0", "bye"), ["220 ", "421 4.7.0 bye", ""]),
    ],
)
async def test_a_client_may_be_refused_before_its_first_message(
    at_connect: ConnectionResponse | None, at_helo: ConnectionResponse | None, told: list[str]
) -> None:
    class Filter(AtConnection):
        answers = (at_connect, at_helo)

    async with scene(Filter) as played, connected(played.smtp, hello=None) as client:
        client.send("HELO me.example", "MAIL FROM:<a@x.example>")
        replies = [await client.reply() for _ in told]

    assert [reply.startswith(text) for reply, text in zip(replies, told, strict=True)] == [True] * 3
    assert [reply for reply, text in zip(replies, told, strict=True) if not text and reply] == []


async def test_421_is_the_last_reply() -> None:
    class Filter(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
            return Reply(421, "4.7.0", "too much")

    async with scene(Filter) as played, connected(played.smtp) as client:
        assert await client.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>") == "421 4.7.0 too much"
        assert await client.reply() == ""


async def test_a_filter_may_word_the_reply_to_an_unknown_command() -> None:
    class Filter(Milter):
        async def unknown(self, ctx: Context, unknown: Unknown) -> UnknownResponse | None:
            return Reply(500, "5.5.2", f"what is {unknown.line}?") if "foo" in unknown.line else None

    async with scene(Filter) as played, connected(played.smtp) as client:
        assert await client.say("foo Bar") == "500 5.5.2 what is foo Bar?"
        assert await client.say("bar") == "502 5.5.2 Error: command not recognized"


# ----------------------------------------------------------------------------------------------- clients that do wrong


async def test_the_log_offers_no_login_that_the_server_does_not_offer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mail.log")
    async with scene(Note) as played, connected(played.smtp) as client:
        assert "AUTH" not in await client.say("EHLO me.example")
    (available,) = [text for each in caplog.records if (text := each.getMessage()).startswith("Available AUTH")]
    assert available.endswith("mechanisms: ")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("EHLO", "501 5.5.4 Syntax: EHLO hostname"),
        ("HELO ", "501 5.5.4 Syntax: HELO hostname"),
        ("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL TO:<a@x>", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM:<a@x", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM:<a@x>SIZE=1", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM:<a@x> SIZE=x", "501 5.5.4 Bad message size syntax"),
        ("MAIL FROM:<a@x> SIZE=1001", "552 5.3.4 Message size exceeds fixed limit"),
        ("MAIL FROM:<a@x> FOO=1", "555 5.5.4 Unsupported option: FOO=1"),
        ("RCPT TO:<a@x>", "503 5.5.1 Error: need MAIL command"),
        ("DATA", "503 5.5.1 Error: need MAIL command"),
        ("DATA now", "501 5.5.4 Syntax: DATA"),
        ("NOOP\0", "500 5.5.2 Error: control characters in command"),
        ("\x1b[31m", "500 5.5.2 Error: control characters in command"),
        ("", "502 5.5.2 Error: command not recognized"),
        ("x" * 5000, "500 5.5.2 Error: line too long"),
        ("x" * 300_000, "500 5.5.2 Error: line too long"),
        ("AUTH PLAIN x", "502 5.5.1 Error: command not implemented"),
        ("STARTTLS", "502 5.5.1 Error: command not implemented"),
        ("VRFY a@x", "252 2.0.0 Send the message, and see"),
        ("HELP", "214 2.0.0 This server tries a mail filter; it relays nothing"),
        ("noop", "250 2.0.0 Ok"),
    ],
)
async def test_a_command_that_is_wrong_is_answered_and_the_session_lives(command: str, reply: str) -> None:
    async with scene(Milter, max_message_size=1000) as played, connected(played.smtp) as client:
        assert await client.say(command) == reply
        assert await client.say("MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>") == "250 2.1.5 Ok"
        assert await client.say("MAIL FROM:<a@x.example>") == "503 5.5.1 Error: nested MAIL command"
        assert await client.say("RCPT TO:<>") == "501 5.1.3 Bad recipient address syntax"


async def test_a_client_that_does_nothing_right_is_dropped() -> None:
    async with scene(Milter) as played, connected(played.smtp) as client:
        client.send(*["FOO"] * 30)
        replies = [await client.reply() for _ in range(21)]

    assert replies[18].startswith("502 ")
    assert replies[19] == "421 4.7.0 localhost Error: too many errors"
    assert replies[20] == ""


async def test_a_browser_is_dropped() -> None:
    async with scene(Milter) as played, connected(played.smtp, hello=None) as client:
        client.send("POST / HTTP/1.1", "Host: x", "", "MAIL FROM:<a@x>")
        replies = [await client.reply() for _ in range(3)]

    assert replies[1:] == ["421 5.7.0 Error: this is SMTP, not HTTP", ""]


async def test_limits_are_answered() -> None:
    async with scene(Tag, max_message_size=1000, max_recipients=2) as played, connected(played.smtp) as client:
        await client.say("MAIL FROM:<a@x>", "RCPT TO:<1@x>", "RCPT TO:<2@x>")
        assert await client.say("RCPT TO:<3@x>") == "452 4.5.3 Error: too many recipients"
        assert await client.say("DATA", b"x" * 1_000_000 + b"\r\n.") == "552 5.3.4 Error: message file too big"
        assert (await client.message(b"x" * 998 + b"\r\n")).startswith("250 ")
        assert await client.message(b"x" * 999 + b"\r\n") == "552 5.3.4 Error: message file too big"
        assert (await client.message(b"A: b\r\n\r\n")).startswith("250 ")

    assert [len(octets) for octets in played.octets] == [1015, 21]


async def test_one_session_too_many_is_told_to_come_back() -> None:
    async with scene(Tag, max_sessions=1) as played, connected(played.smtp) as client:
        async with connected(played.smtp, hello=None) as second:
            assert await second.reply() == "421 4.3.2 localhost Error: too many sessions"
            assert await second.reply() == ""
        assert (await client.message(b"\r\n")).startswith("250 ")


async def test_a_silent_client_is_dropped() -> None:
    async with scene(Tag, idle_timeout=0.02) as played, connected(played.smtp, hello=None) as client:
        await client.reply()
        assert await client.reply() == "421 4.4.2 localhost Error: timeout exceeded"
        assert await client.reply() == ""


@on_clock
async def test_a_slow_filter_is_not_a_silent_client() -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            waiting.set()
            await go_on.wait()

    async with scene(Slow, idle_timeout=20) as played, connected(played.smtp) as client:
        sending = asyncio.create_task(client.message(b"\r\n"))
        await waiting.wait()
        asyncio.get_running_loop().call_later(60, go_on.set)
        assert (await sending).startswith("250 ")


# ---------------------------------------------------------------------------------------------- who the client is said to be


class Who(Milter):
    """Says in a header field who it was told the client is."""

    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.opened = (connect.hostname, str(connect.ip), connect.port)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        auth = (ctx.auth.login, ctx.auth.mechanism) if ctx.auth is not None else None
        ctx.add_header("X-Who", ascii((*self.opened[:2], ctx.helo, auth)))


async def who(played: "Scene", *lines: str) -> object:
    """What the filter says once a client has said some lines."""
    async with connected(played.smtp) as client:
        for line in lines:
            assert (await client.say(line))[:1] == "2", line
        await client.message(b"\r\n")
    return eval(played.octets[-1].partition(b"X-Who: ")[2].partition(b"\r\n")[0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("localhost", "127.0.0.1", "me.example", None)),
        ({"client": "198.51.100.7"}, ("[198.51.100.7]", "198.51.100.7", "me.example", None)),
        ({"client": "2001:DB8::1"}, ("[2001:db8::1]", "2001:db8::1", "me.example", None)),
        ({"login": "alice"}, ("localhost", "127.0.0.1", "me.example", ("alice", "PLAIN"))),
    ],
)
async def test_a_filter_may_be_shown_another_client(options: dict[str, Any], expected: object) -> None:
    async with scene(Who, **options) as played:
        assert await who(played) == expected
        assert played.outcomes[0].client == expected[1]  # type: ignore[index]


@pytest.mark.parametrize("client", ["", "x", "198.51.100", "mail.example"])
def test_another_client_has_an_ip_address(client: str) -> None:
    with pytest.raises(AddressError, match="expected an IP address, as in"):
        front("0", "inet:1", client=client)


@pytest.mark.parametrize(
    ("xclient", "expected"),
    [
        ("ADDR=198.51.100.7", ("localhost", "198.51.100.7", "me", None)),
        ("ADDR=198.51.100.7 NAME=[UNAVAILABLE]", ("[198.51.100.7]", "198.51.100.7", "me", None)),
        ("addr=198.51.100.7 name=mx.example", ("mx.example", "198.51.100.7", "me", None)),
        (
            "ADDR=IPV6:2001:db8::1 NAME=mx.example LOGIN=al+2Bice",
            ("mx.example", "2001:db8::1", "me", ("al+ice", "XCLIENT")),
        ),
        ("ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]", ("unknown", "None", "me", None)),
        ("LOGIN=+C3+BC", ("localhost", "127.0.0.1", "me", ("\u00fc", "XCLIENT"))),
        (
            "PORT=25 PROTO=ESMTP HELO=x DESTADDR=192.0.2.9 DESTPORT=25",
            ("localhost", "127.0.0.1", "me", None),
        ),
    ],
)
async def test_a_client_of_this_machine_may_be_another_by_xclient(xclient: str, expected: object) -> None:
    async with scene(Who) as played:
        assert await who(played, f"XCLIENT {xclient}", "EHLO me") == expected


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4 Syntax: XCLIENT attribute=value..."),
        ("ADDR", "501 5.5.4 Bad XCLIENT ADDR syntax: "),
        ("ADDR=", "501 5.5.4 Bad XCLIENT ADDR syntax: "),
        ("ADDR=me", "501 5.5.4 Bad XCLIENT ADDR syntax: me"),
        ("PORT=70000", "501 5.5.4 Bad XCLIENT PORT syntax: 70000"),
        ("LOGIN=a+0D+0Ab", "501 5.5.4 Bad XCLIENT LOGIN syntax: a+0D+0Ab"),
        ("NAME=a+00", "501 5.5.4 Bad XCLIENT NAME syntax: a+00"),
        ("NAME=a+0", "501 5.5.4 Bad XCLIENT NAME syntax: a+0"),
        ("LOGIN=\u00fc", "501 5.5.4 Bad XCLIENT LOGIN syntax: \u00fc"),
        ("COLOUR=red", "501 5.5.4 Bad XCLIENT attribute name: COLOUR"),
    ],
)
async def test_a_wrong_xclient_changes_nothing(argument: str, reply: str) -> None:
    async with scene(Who) as played, connected(played.smtp) as client:
        assert await client.say(f"XCLIENT {argument}") == reply
        assert (await client.message(b"\r\n")).startswith("250 ")
        assert b"'localhost', '127.0.0.1'" in played.octets[0]


async def test_xclient_is_for_a_session_without_an_open_message_and_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(Who) as played:
        async with connected(played.smtp) as client:
            assert "\n250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in await client.say("EHLO x")
            await client.say("MAIL FROM:<a@x>")
            assert await client.say("XCLIENT ADDR=192.0.2.5") == "503 5.5.1 Error: MAIL transaction in progress"
        monkeypatch.setattr(Client_, "is_local", False)
        async with connected(played.smtp) as client:
            assert "XCLIENT" not in await client.say("EHLO x")
            assert await client.say("XCLIENT ADDR=192.0.2.5") == "550 5.7.0 Error: insufficient authorization"


async def test_a_filter_may_refuse_the_client_of_xclient() -> None:
    class Refusing(Milter):
        async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse:
            return REJECT if str(connect.ip) == "192.0.2.5" else ACCEPT

    async with scene(Refusing) as played, connected(played.smtp) as client:
        assert (await client.say("XCLIENT ADDR=192.0.2.5")).startswith("554 localhost ESMTP not accepting")
        assert (await client.say("XCLIENT ADDR=192.0.2.6")).startswith("220 ")


# --------------------------------------------------------------------------------------------- a filter that goes away


async def test_a_filter_that_dies_is_told_as_451_for_the_rest_of_the_session(caplog: pytest.LogCaptureFixture) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(17)
        writer.write(b"\0\0\0\x0dO\0\0\0\6\0\0\1\xff\0\x1f\xbf\xfb")  # MAIL is all it wants
        await reader.readuntil(b"M<a@x>\0")
        writer.close()

    async with await asyncio.start_server(die, "127.0.0.1", 0) as dying:
        milter = f"inet:{dying.sockets[0].getsockname()[1]}@127.0.0.1"
        async with front("0", milter) as smtp, connected(smtp) as client:
            assert await client.say("MAIL FROM:<a@x>") == "451 4.7.1 Service unavailable - try again later"
            assert await client.say("RSET") == "250 2.0.0 Ok"
            assert await client.say("MAIL FROM:<a@x>") == "451 4.7.1 Service unavailable - try again later"
            assert await client.say("EHLO again") != ""
            assert await client.say("FOO") == "502 5.5.2 Error: command not recognized"

    assert "the filter cannot be asked: MAIL: expected an answer, found the connection closed" in caplog.text


async def test_a_filter_that_is_not_there_is_told_as_451() -> None:
    async with front("127.0.0.1:0", "unix:/nowhere/at/all") as smtp, connected(smtp) as client:
        assert await client.say("MAIL FROM:<a@x>") == "451 4.7.1 Service unavailable - try again later"
        assert await client.say("DATA") == "503 5.5.1 Error: need MAIL command"
        assert await client.say("QUIT") == "221 2.0.0 Bye"


@on_clock
async def test_a_filter_that_is_silent_is_told_as_451() -> None:
    class Silent(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            await asyncio.Event().wait()

    async with scene(Silent, milter_timeout=4) as played, connected(played.smtp) as client:
        assert await client.message(b"\r\n") == "451 4.7.1 Service unavailable - try again later"
        assert await client.say("MAIL FROM:<a@x>") == "451 4.7.1 Service unavailable - try again later"

    assert played.outcomes == []


async def test_a_client_that_leaves_while_the_filter_works_cancels_it() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    class Slow(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    async with scene(Slow) as played:
        async with connected(played.smtp) as client:
            await client.say("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA")
            client.send(b"\r\n.")
            await began.wait()
            # A reset; a mere end of file might come from a client that still reads.
            linger = struct.pack("ii", 1, 0)
            client.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            assert await ended.wait()


# ------------------------------------------------------------------------------------------------------ what comes out


async def test_a_message_that_cannot_be_handed_on_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    def fail(outcome: Outcome) -> None:
        raise OSError("disk full")

    async with (
        aiomilter.serve(Tag, "inet:0@127.0.0.1") as server,
        front("127.0.0.1:0", server.addresses[0], on_message=fail) as smtp,
        connected(smtp) as client,
    ):
        assert await client.message(b"\r\n") == "451 4.3.0 Error: the message could not be stored"

    assert "disk full" in caplog.text


async def test_messages_are_stored_with_their_envelope(tmp_path: Path) -> None:
    class Hold(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> Response | None:
            ctx.quarantine("look at it")
            ctx.add_recipient("new@y.example", "NOTIFY=NEVER")
            return REJECT if ctx.sender and ctx.sender.address == "no@x.example" else None

    folder = tmp_path / "a" / "b"
    async with (
        aiomilter.serve(Hold, "inet:0@127.0.0.1") as server,
        front("127.0.0.1:0", server.addresses[0], on_message=store(folder)) as smtp,
        connected(smtp) as client,
    ):
        queue_id = (await client.message(b"A: caf\xe9\r\n\r\n")).rpartition(" ")[2]
        await client.say("MAIL FROM:<no@x.example>", "RCPT TO:<b@y.example>", "DATA", b"\r\n.")

    assert sorted(path.name for path in folder.iterdir()) == [f"{queue_id}.eml", f"{queue_id}.json"]
    assert (folder / f"{queue_id}.eml").read_bytes() == b"A: caf\xe9\r\n\r\n"
    assert json.loads((folder / f"{queue_id}.json").read_text()) == {
        "queue_id": queue_id,
        "client": "127.0.0.1",
        "helo": "me.example",
        "sender": {"path": "<a@x.example>", "address": "a@x.example", "params": []},
        "recipients": [
            {"path": "<b@y.example>", "address": "b@y.example", "params": []},
            {"path": "<new@y.example>", "address": "new@y.example", "params": ["NOTIFY=NEVER"]},
        ],
        "quarantine": "look at it",
    }


@pytest.mark.parametrize("full", [".eml.part", ".json.part"])
async def test_nothing_stays_of_a_message_that_cannot_be_stored(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def fill(path: Path, octets: bytes) -> int:
        if not path.name.endswith(full):
            return write(path, octets)
        write(path, octets[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    async with (
        aiomilter.serve(Milter, "inet:0@127.0.0.1") as server,
        front("127.0.0.1:0", server.addresses[0], on_message=store(tmp_path), observer=Watcher()) as smtp,
        connected(smtp) as client,
    ):
        assert (await client.message(b"A: b\r\n\r\n")).startswith("451 ")

    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ start and stop


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2525", ("127.0.0.1", 2525)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:2525", ("::1", 2525)),
        ("0.0.0.0:25", ("0.0.0.0", 25)),
    ],
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert split_address(text) == found


@pytest.mark.parametrize("text", ["", ":25", "x", "x:", "x:65536", "::1:25", "a:b:1", "x:-1", "inet:25@x", "1" * 5000])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="expected HOST:PORT or PORT"):
        split_address(text)


async def test_it_says_where_it_listens_and_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aiomilter")
    async with scene(Tag) as played, connected(played.smtp, hello=None) as client:
        assert await client.reply() == "220 localhost ESMTP aiomilter (to try a filter; relays nothing)"
        assert f"listening on {played.smtp.address} for SMTP (to try the filter: relays nothing)" in caplog.text
        extensions = "PIPELINING\n250-SIZE 10240000\n250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-DSN\n250-SMTPUTF8"
        extensions += "\n250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
        assert await client.say("EHLO me") == f"250-localhost\n250-{extensions}"


async def test_a_port_in_use_raises_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with front(str(port), "unix:/s"):
                pass


async def test_leaving_drops_who_waits_and_lets_a_message_end() -> None:
    async with aiomilter.serve(Tag, "inet:0@127.0.0.1") as server:
        smtp = front("127.0.0.1:0", server.addresses[0])
        async with smtp:
            async with connected(smtp) as idle, connected(smtp) as busy:
                await busy.say("MAIL FROM:<a@x>", "RCPT TO:<b@y>")
                draining = asyncio.create_task(smtp.drain(30))
                assert await idle.reply() == "421 4.3.2 localhost Service shutting down"
                assert await idle.reply() == ""
                await busy.say("DATA")
                busy.send(b"\r\n.")
                assert (await busy.reply()).startswith("250 ")
                assert await busy.reply() == "421 4.3.2 localhost Service shutting down"
                await draining
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(smtp.host, smtp.port)


async def test_leaving_by_an_exception_drops_everybody_at_once() -> None:
    async def fail(smtp: Front) -> None:
        async with smtp:
            clients.append(await exits.enter_async_context(connected(smtp)))
            await clients[0].say("MAIL FROM:<a@x>")
            raise LookupError

    clients: list[Client] = []
    async with aiomilter.serve(Tag, "inet:0@127.0.0.1") as server, AsyncExitStack() as exits:
        with pytest.raises(LookupError):
            await fail(front("127.0.0.1:0", server.addresses[0]))
        assert await clients[0].reply() == ""
