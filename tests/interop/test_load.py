"""Many sessions at once, each message with a fate of its own."""

import asyncio
from collections import Counter

import pytest

from aiomilter import (
    CONTINUE,
    DISCARD,
    Context,
    EndOfMessageContext,
    Header,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
)
from tests.interop.client import Client, accepted, connect
from tests.interop.scene import Scene
from tests.patience import PATIENCE

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SESSIONS = 20
MESSAGES = 500
FATES = (
    "accept",
    "tag",
    "rewrite",
    "refuse",
    "discard",
    "hold",
    "one recipient refused",
    "one recipient refused later",
)


def fate(number: int) -> str:
    """What becomes of a message: all fates in each session, and neighbours differ."""
    return FATES[(number * 5 + number // SESSIONS) % len(FATES)]


class Judge(Milter):
    """Knows a message by its sender, tells it from its neighbours by its own state, and waits now and then."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        number = int(mail.address.partition("@")[0][1:])
        ctx.notes["number"] = number
        ctx.notes["hops"] = []
        if number % 3 == 0:
            await asyncio.sleep(0)

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
        number = ctx.notes["number"]
        if number % 5 == 0:
            await asyncio.sleep(0)
        if fate(number) == "one recipient refused" and rcpt.address.startswith("a"):
            return Reply(550, "5.1.1", f"no {number}")
        return CONTINUE

    async def header(self, ctx: Context, header: Header) -> None:
        if header.name == "X-Number":
            ctx.notes["hops"].append(header.value)

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        number = ctx.notes["number"]
        assert ctx.notes["hops"] == [str(number)]
        if number % 7 == 0:
            await asyncio.sleep(0.001)
        match fate(number):
            case "tag":
                ctx.add_header("X-Tag", str(number))
            case "rewrite":
                ctx.change_header("Subject", 1, f"rewritten {number}")
                ctx.replace_body(b"rewritten %d\r\n" % number)
            case "refuse":
                ctx.add_header("X-Tag", "refused")
                return Reply(554, "5.7.1", f"refused {number}")
            case "discard":
                return DISCARD
            case "hold":
                ctx.quarantine(f"held {number}")
            case "one recipient refused later":
                ctx.delete_recipient(f"b{number}@example.test")
        return CONTINUE


async def _play(client: Client, number: int) -> tuple[int, dict[str, str]]:
    message = (
        f"From: s{number}@client.test\r\nTo: a{number}@example.test\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        f"Message-ID: <{number}@client.test>\r\nX-Number: {number}\r\nSubject: message {number}\r\n\r\n"
    ).encode() + b"line of %d\r\n" % number * (1 + number * 7 % 400)
    recipients = [f"a{number}@example.test", f"b{number}@example.test"]
    return number, await client.send(message, f"s{number}@client.test", recipients)


async def _session(port: int, numbers: range) -> list[tuple[int, dict[str, str]]]:
    async with connect(port) as client:
        return [await _play(client, number) for number in numbers]


async def test_every_message_meets_the_fate_the_filter_chose(scene: Scene) -> None:
    """P-067, P-135: 500 messages in 20 sessions at once; what came out is exactly what was decided."""
    async with scene.filters(Judge):
        sessions = [_session(scene.port, range(start, MESSAGES, SESSIONS)) for start in range(SESSIONS)]
        played = dict([pair for session in await asyncio.gather(*sessions) for pair in session])
    delivered = {int(delivery.sender.partition("@")[0][1:]): delivery for delivery in await scene.deliveries()}
    held = len(scene.rig.held())
    await scene.rig.release()
    await scene.rig.until(lambda: not scene.rig.held(), PATIENCE, "release")
    arrived = Counter(int(delivery.sender.partition("@")[0][1:]) for delivery in await scene.deliveries())
    released = {int(delivery.sender.partition("@")[0][1:]): delivery for delivery in await scene.deliveries()}

    assert sorted(played) == list(range(MESSAGES))
    by_fate = {name: {number for number in range(MESSAGES) if fate(number) == name} for name in FATES}
    gone = by_fate["refuse"] | by_fate["discard"]
    assert set(delivered) == set(range(MESSAGES)) - gone - by_fate["hold"]
    assert held == len(by_fate["hold"])
    assert arrived == Counter(set(range(MESSAGES)) - gone)
    for number, replies in played.items():
        chosen = fate(number)
        end = replies["."]
        assert (end == f"554 5.7.1 refused {number}") if chosen == "refuse" else accepted(end), (number, replies)
        first = replies[f"a{number}@example.test"]
        assert first.endswith(f"no {number}") if chosen == "one recipient refused" else accepted(first)
        if number in gone:
            continue
        delivery = released[number]
        expected = {"a", "b"} - {"one recipient refused": {"a"}, "one recipient refused later": {"b"}}.get(
            chosen, set()
        )
        assert set(delivery.recipients) == {f"{name}{number}@example.test" for name in expected}
        assert delivery.values("X-Tag") == ([f" {number}"] if chosen == "tag" else [])
        word = "rewritten" if chosen == "rewrite" else "message"
        assert delivery.values("Subject") == [f" {word} {number}"]
        body = b"line of %d\r\n" % number * (1 + number * 7 % 400)
        assert delivery.body == (b"rewritten %d\r\n" % number if chosen == "rewrite" else body)
