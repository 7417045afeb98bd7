"""Filters composed behind a real MTA: one connection, one answer, the same octets as of the filters in a row."""

import asyncio
import random
import re
from dataclasses import replace

import pytest

from aiomilter import CONTINUE, REJECT, Context, EndOfMessageContext, Mail, Milter, Rcpt, Reply, Response
from aiomilter.compose import check, compose
from aiomilter.message import Message, MessageMilter
from tests.compose.scripted import message, scripts
from tests.compose.test_shadow import Reports, wild
from tests.interop.client import RECIPIENTS, Client, accepted
from tests.interop.scene import Scene, serve

pytestmark = pytest.mark.interop

ROUNDS = 25
ROUNDS_OF_SHADOWS = 5
WITHOUT_TRACE = re.compile(rb"(?m)^Received:.*\r\n(?:[ \t].*\r\n)*")


class Judge(Milter):
    """Waits a moment; refuses one sender and one recipient, and notes who was let in."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        await asyncio.sleep(0)
        return REJECT if mail.domain == "spam.example" else None

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        return Reply(550, "5.1.1", "nobody") if rcpt.address == "nobody@example.test" else None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.results.put(len(ctx.recipients))
        ctx.insert_header("X-Judged", "yes")


class Broken(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Broken", "yes")
        raise ValueError("as asked")


class Footer(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        assert ctx.failed("broken")
        message.headers.append("X-Recipients", str(ctx.results.get(int)))
        message.banner("Footer", place="bottom")


class Sealer(MessageMilter):
    """Signs what leaves: its field has the size of the body that the others have made."""

    async def message(self, ctx: Context, message: Message) -> None:
        size = sum([len(octets) async for octets in message.body.chunks()])
        message.headers.prepend("X-Seal", f"{size} {message.headers[0].name}")


async def test_three_filters_and_a_broken_one_share_a_connection(scene: Scene) -> None:
    milter = compose(Judge, check(Broken, name="broken", on_error=CONTINUE), Footer, Sealer)
    first, _ = RECIPIENTS
    async with scene.filters(milter), scene.connect() as client:
        assert not accepted((await client.send(sender="alice@spam.example"))["MAIL"])
        replies = await client.send(recipients=(first, "nobody@example.test"))
    assert accepted(replies["."])
    assert "5.1.1" in replies["nobody@example.test"]
    (delivery,) = await scene.deliveries()
    assert [*delivery.recipients] == [first]
    assert b"X-Broken" not in delivery.head
    assert b"X-Recipients: 1" in delivery.head
    assert delivery.body.rstrip() == b"Hello Bob.\r\n\r\nFooter"
    size = len(b"Hello Bob.\r\n\r\nFooter\r\n")
    assert re.match(rb"X-Seal: %d X-Judged\r\nX-Judged: yes\r\n" % size, delivery.content)


async def replies_of(client: Client, octets: bytes) -> list[str]:
    """Send a message, and return the codes and texts of all replies."""
    replies = await client.send(octets, recipients=(*RECIPIENTS, "dave@example.test"))
    # Names of messages differ.
    return [
        f"{name} {re.sub(r'as [0-9A-Za-z]+$|[0-9A-Za-z]{14} Message', 'ID', text)}" for name, text in replies.items()
    ]


async def test_a_composition_does_what_its_filters_do_as_milters_in_a_row(
    pair: Scene, request: pytest.FixtureRequest
) -> None:
    """Random filters, two milters of one port against the same two composed on another."""
    alone = Scene(pair.rig, "tcp")
    first, second = pair.sockets
    for number in range(ROUNDS):
        chance = random.Random(number)
        filters = scripts(chance, 2)
        octets = message(chance)
        found = []
        for composed in (False, True):
            scene = alone if composed else pair
            before = len(await scene.deliveries())
            if composed:
                async with serve(compose(*(each.member() for each in filters)), first), scene.connect() as client:
                    replies = await replies_of(client, octets)
            else:
                async with serve(filters[0].make(), first), serve(filters[1].make(), second), scene.connect() as client:
                    replies = await replies_of(client, octets)
            delivered = [
                (
                    each.sender,
                    sorted(each.recipients),
                    WITHOUT_TRACE.sub(b"", each.content),
                )
                for each in (await scene.deliveries())[before:]
            ]
            found.append((replies, sorted(delivered)))
        assert found[0] == found[1], (number, filters)


async def test_mail_fares_with_shadows_as_without_them(scene: Scene) -> None:
    """Random filters composed, alone and with shadows that refuse, raise, hang and edit."""
    (socket,) = scene.sockets
    for number in range(ROUNDS_OF_SHADOWS):
        chance = random.Random(number)
        members = [each.member() for each in scripts(chance, 2)]
        shadows = [replace(wild(chance, 10 + place).member(), shadow=True) for place in range(2)]
        octets = message(chance)
        found = []
        for several in (members, [shadows[0], *members, shadows[1]]):
            reports = Reports()
            before = len(await scene.deliveries())
            async with serve(compose(*several), socket, observer=reports), scene.connect() as client:
                replies = await replies_of(client, octets)
            delivered = [
                (each.sender, sorted(each.recipients), WITHOUT_TRACE.sub(b"", each.content))
                for each in (await scene.deliveries())[before:]
            ]
            found.append((replies, sorted(delivered)))
        assert found[0] == found[1], number
        # The server has ended: all that it had to report is told.
        assert {outcome.filter for each in reports.ended for outcome in each.shadow} == {"f10", "f11"}
