import asyncio
import logging

import pytest

from aiomilter import (
    CONTINUE,
    REJECT,
    Connect,
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
)
from aiomilter.inspector.conversation import read
from aiomilter.inspector.store import Store
from aiomilter.inspector.view import detail
from aiomilter.observe import ClientRefused, MessageEnded
from aiomilter.options import Options
from aiomilter.testing._memory import MemoryServer
from aiomilter.wire.events import Negotiate
from aiomilter.wire.framing import packet
from aiomilter.wire.replies import ConnectionResponse, UnknownResponse
from tests.inspector.playing import MESSAGE, play, send, session


class Tag(Milter):
    async def connect(self, ctx: Context, connect: Connect) -> None:
        pass

    async def header(self, ctx: Context, header: Header) -> None:
        pass

    async def body(self, ctx: Context, chunk: bytes) -> None:
        pass

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")


def answers(store: Store, number: int = 1) -> list[tuple[str, str]]:
    return [(each.stage.name, each.answer or each.why) for each in read(store.messages[number]).stages]


async def test_a_message_is_recorded_with_its_answers_and_edits() -> None:
    store = await play(Tag)

    found = read(store.messages[1])
    assert [str(each.value) for each in found.headers] == ["hello", "alice@example.org"]
    assert b"".join(found.body) == b"Hello Bob\r\n"
    assert [type(each).__name__ for each in found.modifications] == ["AddHeader"]
    assert ("EOM", "continue") in answers(store)
    assert ("MAIL", "no reply") in answers(store)
    assert ("DATA", "not sent") in answers(store)
    assert found.complete
    assert found.style == "postfix"
    assert found.connect is not None
    assert found.connect.raw_address == "192.0.2.7"


async def test_a_later_message_of_the_connection_has_the_client_and_nothing_else_of_the_first() -> None:
    store = Store()
    async with session(store, Tag) as played:
        await send(played)
        await send(played, b"Subject: second\r\n\r\nMore\r\n")

    found = read(store.messages[2])
    assert found.connect is not None
    assert found.connect.hostname == "client.example"
    assert found.helo == "client.example"
    assert [each.value for each in found.headers] == ["second"]
    assert ("CONNECT", "before") in answers(store, 2)
    assert found.macros["CONNECT"]["j"] == "mx.example.org"


async def test_octets_behind_an_abort_belong_to_the_next_message() -> None:
    """They come in one piece, and one packet is cut in the middle by that."""
    store = Store()

    async with MemoryServer(Tag, Options(observer=store), store.connection_factory) as server:
        reader, writer = server.connect()
        writer.write(packet(Negotiate.CODE, Negotiate(6, 0x1FF, 0x1FFFFF).payload))
        await reader.readexactly(17)
        mail = packet(ord("M"), b"<one@example.org>\0") + packet(ord("R"), b"<bob@example.net>\0")
        again = packet(ord("A")) + packet(ord("M"), b"<two@example.org>\0") + packet(ord("R"), b"<eve@example.net>\0")
        writer.write(mail + again + packet(ord("E")))
        await reader.readexactly(5)
        writer.write(packet(ord("Q")))
        await reader.read()

    senders = [read(each).mail for each in store.messages.values()]
    assert [mail.path for mail in senders if mail is not None] == ["<one@example.org>", "<two@example.org>"]
    assert [each.event.answer for each in store.messages.values()] == ["abort", "continue"]


async def test_the_time_that_a_callback_waits_is_that_of_its_stage() -> None:
    class Waits(Tag):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            await asyncio.sleep(0)

    stages = {each.stage.name: each for each in read((await play(Waits)).messages[1]).stages}

    assert [wait.callback for wait in stages["RCPT"].waits] == ["envrcpt"]
    assert stages["RCPT"].seconds > 0
    assert stages["EOM"].waits == []


async def test_a_client_that_is_refused_is_recorded_without_a_message() -> None:
    class Closed(Milter):
        async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse:
            return REJECT

    store = Store()
    async with session(store, Closed):
        pass

    assert isinstance(store.messages[1].event, ClientRefused)
    assert answers(store)[0] == ("CONNECT", "reject")


async def test_refused_recipients_are_none_of_the_message() -> None:
    class Picky(Tag):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
            return Reply(550, "5.1.1", "no such mailbox") if rcpt.local_part == "eve" else CONTINUE

    store = await play(Picky, MESSAGE, "<eve@example.net>", "<bob@example.net>")

    found = read(store.messages[1])
    assert [each.path for each in found.recipients] == ["<bob@example.net>"]
    assert [each.reply for each in found.stages if each.stage.name == "RCPT"] == [
        "550 5.1.1 no such mailbox",
        "250 2.1.5 Ok",
    ]


async def test_a_failure_is_noted_with_its_traceback() -> None:
    class Broken(Tag):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response:
            raise LookupError("the table is gone")

    store = await play(Broken)

    note = store.messages[1].notes[0]
    assert note.level == "ERROR"
    assert "the table is gone" in note.traceback
    assert 'LookupError("the table is gone")' in note.traceback


async def test_log_records_of_a_callback_go_to_its_message() -> None:
    class Talks(Tag):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            logging.getLogger("mine").warning("sender %s", mail.address)

    store = Store()
    with store.log_records():
        async with session(store, Talks) as played:
            logging.getLogger("mine").warning("of no message")
            await send(played)

    assert [(note.level, note.source, note.text) for note in store.messages[1].notes] == [
        ("WARNING", "mine", "sender alice@example.org")
    ]


@pytest.mark.parametrize("content", [False, True])
async def test_a_line_of_smtp_that_no_stage_has_is_content(content: bool) -> None:
    class Hears(Tag):
        async def unknown(self, ctx: Context, unknown: Unknown) -> None:
            pass

    store = Store()
    async with session(store, Hears) as played:
        await played.unknown("XLOGIN secret")
        await send(played)

    shown = await detail(store.messages[1], content=content)
    assert [each["stage"] for each in shown["conversation"]][:3] == ["UNKNOWN", "CONNECT", "HELO"]
    assert ("XLOGIN secret" in str(shown)) == content


async def test_a_message_that_is_too_large_is_recorded_without_the_rest_of_its_content() -> None:
    store = Store(max_size=400_000)
    async with session(store, Tag) as played:
        await send(played, b"Subject: large\r\n\r\n" + b"x" * 70 + (b"\r\n" + b"y" * 998) * 400)

    recorded = store.messages[1]
    assert recorded.cut
    assert isinstance(recorded.event, MessageEnded)
    assert recorded.event.answer == "continue"
    assert store.size <= store.max_size


async def test_all_memory_is_given_back_when_connections_end() -> None:
    store = Store(max_messages=1)
    async with session(store, Tag) as played:
        await send(played)
        await send(played)
        await played.mail("<alice@example.org>")

    assert store.connections == {}
    assert store.size == sum(each.size for each in store.messages.values())


class Closed(Milter):
    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse:
        return REJECT


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "in one piece"])
async def test_a_client_that_is_refused_often_is_recorded_once(at_once: bool) -> None:
    store = Store()
    async with MemoryServer(Closed, Options(observer=store), store.connection_factory) as server:
        reader, writer = server.connect()
        writer.write(packet(Negotiate.CODE, Negotiate(6, 0x1FF, 0x1FFFFF).payload))
        await reader.readexactly(17)
        for _ in range(1 if at_once else 50):
            writer.write(packet(ord("H"), b"client.example\0") * (50 if at_once else 1))
            await reader.readexactly(5 * (50 if at_once else 1))
        writer.write(packet(ord("Q")))
        await reader.read()

    refused = list(store.messages.values())
    assert [each.event.answer for each in refused] == ["reject"] * 50
    assert sum(len(each.entries) for each in refused) <= 2 * 50 + 2
    assert store.size == sum(each.size for each in refused) < 50 * 400
    if not at_once:
        assert all(("HELO", "reject") in answers(store, number) for number in store.messages)


async def test_what_waits_once_a_message_is_cut_is_not_kept() -> None:
    class Waits(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
            await asyncio.sleep(0)
            return CONTINUE

        async def unknown(self, ctx: Context, line: Unknown) -> UnknownResponse:
            await asyncio.sleep(0)
            return CONTINUE

    store = Store(max_size=10_000)
    async with MemoryServer(Waits, Options(observer=store), store.connection_factory) as server:
        reader, writer = server.connect()
        writer.write(packet(Negotiate.CODE, Negotiate(6, 0x1FF, 0x1FFFFF).payload))
        await reader.readexactly(17)
        writer.write(packet(ord("M"), b"<one@example.org>\0"))
        for _ in range(100):
            for command, argument in ((b"R", b"<bob@example.net>\0"), (b"U", b"NOSUCH " + b"x" * 400 + b"\0")):
                writer.write(packet(command[0], argument))
                await reader.readexactly(5)
        writer.write(packet(ord("E")))
        await reader.readexactly(5)
        writer.write(packet(ord("Q")))
        await reader.read()

    message = store.messages[1]
    assert message.cut
    assert len(message.entries) < 10
