from dataclasses import fields

import pytest

from aiomilter import Context, Milter, Rcpt, Reply, Response
from aiomilter._serving.feed import MOST_RECORD
from aiomilter.inspector.conversation import read
from aiomilter.inspector.sending import SendingStore, received, sent
from aiomilter.inspector.store import Store
from aiomilter.inspector.view import detail, summary
from aiomilter.observe import MessageEnded
from tests.inspector.gateway import gateway
from tests.inspector.playing import MESSAGE, play, send, session
from tests.inspector.test_recording import Tag


async def test_a_message_is_shown_in_another_process_as_in_its_own() -> None:
    store = await play(gateway, MESSAGE, "<bob@example.net>", "<nobody@example.net>")
    here = store.messages[1]
    there = received(sent(here))
    there.id = here.id

    mine, other = await detail(here, content=True), await detail(there, content=True)
    # What filters found is any object, and stays where it is.
    assert {**other, "authentication": None} == {**mine, "authentication": None}
    assert isinstance(here.event, MessageEnded)
    assert isinstance(there.event, MessageEnded)
    kept = {each.name for each in fields(MessageEnded)} - {"results", "declared", "macro", "shadow", "durations"}
    kept |= {"auth", "tls"}
    assert [getattr(there.event, name) for name in kept] == [getattr(here.event, name) for name in kept]


@pytest.mark.parametrize("size", [100, 30_000, 60_000, 200_000])
async def test_a_record_always_fits(size: int) -> None:
    store = await play(Tag, b"Subject: large\r\n\r\n" + b"x" * size)
    record = sent(store.messages[1])

    assert len(record) <= MOST_RECORD
    there = received(record)
    assert there.cut == (size >= 60_000)
    assert [each.value for each in read(there).headers] == ["large"]
    assert summary(there, content=True)["answer"] == "continue"


async def test_names_that_are_very_long_fit_as_well() -> None:
    class Picky(Milter):
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
            return Reply(550, "5.1.1", "x" * 400)

    many = [f"<{'u' * 900}{number}@example.net>" for number in range(60)]
    store = await play(Picky, MESSAGE, *many)
    record = sent(store.messages[1])

    assert len(record) <= MOST_RECORD
    assert received(record).event.answer == store.messages[1].event.answer


async def test_a_serving_process_keeps_none() -> None:
    records: list[bytes] = []

    def take(octets: bytes) -> bool:
        records.append(octets)
        return True

    store = SendingStore(take, 1_000_000)
    async with session(store, Tag) as played:
        await send(played)
        await send(played)

    assert len(records) == 2
    assert store.messages == {}
    assert store.size == 0
    shown = Store()
    for record in records:
        shown.take(received(record))
    assert [summary(each, content=True)["subject"] for each in shown.messages.values()] == ["hello", "hello"]
    assert shown.answers == {"continue": 2}
