"""Filters that take longer than the MTA waits for an answer: 2 s here, for each."""

import asyncio
from typing import Any

import pytest

from aiomilter import Connect, Context, EndOfMessageContext, Header, Helo, Mail, Milter, Rcpt, Reply, Stage, Unknown
from tests.interop.client import RECIPIENTS, SENDER, Client, accepted
from tests.interop.conftest import on_port
from tests.interop.rigs.mta import HASTE
from tests.interop.scene import Scene, serve
from tests.patience import PATIENCE

pytestmark = pytest.mark.interop

LONG = 1.5 * HASTE
"""Seconds that a look-up takes."""
FOUND = "550 5.7.7 found after all"
STAGES = ("connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "edits", "unknown")
"""Where one is made; ``edits`` is the end of a message, too, which then passes."""
BEFORE_END = [stage for stage in Stage if stage is not Stage.EOM]
PATIENT: dict[str, Any] = {"progress_interval": HASTE / 4}


class Plan:
    """The factory of :class:`Slow`, and what its filters share."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    def __call__(self) -> "Slow":
        return Slow(self)


class Slow(Milter):
    """Looks something up at one stage, once: ``connect`` of the first client, of the others the one in the HELO name."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stage = ""

    async def at(self, stage: str) -> Reply | None:
        if stage != self.stage:
            return None
        self.stage = ""
        self.plan.begun.append(stage)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            self.plan.cancelled.append(stage)
            raise
        return Reply(550, "5.7.7", "found after all")

    async def connect(self, ctx: Context, connect: Connect) -> Any:
        self.stage = "" if self.plan.begun else "connect"
        return await self.at("connect")

    async def helo(self, ctx: Context, helo: Helo) -> Any:
        self.stage = helo.name.partition(".")[0].removeprefix("connect")
        return await self.at("helo")

    async def envfrom(self, ctx: Context, mail: Mail) -> Any:
        return await self.at("envfrom")

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Any:
        return await self.at("envrcpt")

    async def data(self, ctx: Context) -> Any:
        return await self.at("data")

    async def header(self, ctx: Context, header: Header) -> Any:
        return await self.at("header")

    async def eoh(self, ctx: Context) -> Any:
        return await self.at("eoh")

    async def body(self, ctx: Context, chunk: bytes) -> Any:
        return await self.at("body")

    async def eom(self, ctx: EndOfMessageContext) -> Any:
        answer = await self.at("eom")
        await self.at("edits")
        ctx.add_header("X-Looked-Up", "yes")
        return answer

    async def unknown(self, ctx: Context, unknown: Unknown) -> Any:
        return await self.at("unknown")


async def message(client: Client) -> str:
    """Play a message and return the first reply that was no yes, or the last."""
    for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENTS[0]}>", "DATA"):
        reply = await client.say(line)
        if not accepted(reply):
            return reply
    return await client.content(b"Subject: x\r\n\r\nHello\r\n")


async def session(scene: Scene, stage: str) -> tuple[str, str]:
    """Be a client at whose stage the filter is slow; return what its command or message is told, and its next message."""
    async with scene.connect(None) as client:
        await client.say(f"EHLO {stage}.test")
        first = await client.say("XYZZY") if stage == "unknown" else await message(client)
        await client.say("RSET")
        return first, await message(client)


async def sessions(scene: Scene, plan: Plan) -> dict[str, tuple[str, str]]:
    """A client for each stage, all at once; for ``connect`` the one that comes first."""
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(session(scene, "connect"))
        await scene.rig.until(lambda: bool(plan.begun), PATIENCE, "connection")
        others = [tasks.create_task(session(scene, stage)) for stage in STAGES[1:]]
    return dict(zip(STAGES, [task.result() for task in (first, *others)], strict=True))


def untouched(told: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The same without what each MTA says of a message that it takes."""

    def plain(reply: str) -> str:
        return "250" if accepted(reply) else reply

    return {stage: (plain(first), plain(second)) for stage, (first, second) in told.items()}


async def test_postfix_waits_for_the_filter_at_every_stage(hasty_postfix: Scene) -> None:
    """P-093: each look-up takes longer than milter_command_timeout, and ends as the filter decided."""
    plan = Plan()
    async with hasty_postfix.filters(plan, **PATIENT):
        told = await sessions(hasty_postfix, plan)
    deliveries = await hasty_postfix.deliveries()

    once, always = (FOUND, "250"), (FOUND, FOUND)
    assert untouched(told) == {
        **dict.fromkeys(STAGES, once),
        "connect": always,
        "helo": always,
        "edits": ("250", "250"),
    }
    assert plan.cancelled == []
    assert [delivery.values("X-Looked-Up") for delivery in deliveries] == [[" yes"]] * (len(STAGES) - 1)


async def test_sendmail_waits_at_the_end_of_a_message_and_has_its_answer_in_time_before(hasty_sendmail: Scene) -> None:
    """P-093: before the end it takes no PROGRESS, so the answer leaves at the deadline, and the filter stays in use."""
    plan = Plan()
    async with hasty_sendmail.filters(plan, **PATIENT, answer_timeouts=dict.fromkeys(BEFORE_END, HASTE / 4)):
        told = await sessions(hasty_sendmail, plan)
    deliveries = await hasty_sendmail.deliveries()

    later = "451 4.3.2 Please try again later"
    assert untouched(told) == {
        **dict.fromkeys(STAGES, (later, "250")),
        "connect": (later, later),
        "helo": (later, later),
        "eom": (FOUND, "250"),
        "edits": ("250", "250"),
    }
    assert sorted(plan.cancelled) == sorted(set(STAGES) - {"eom", "edits"})
    assert [delivery.values("X-Looked-Up") for delivery in deliveries] == [[" yes"]] * (len(STAGES) - 1)


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
async def test_without_either_the_mta_gives_the_filter_up(request: pytest.FixtureRequest, mta: str) -> None:
    """Protocol.md 7.4: what the two tests above prevent."""
    later = {
        "postfix": "451 4.7.1 Service unavailable - try again later",
        "sendmail": "451 4.3.2 Please try again later",
    }
    async for scene in on_port(request, mta, "hasty"):
        plan = Plan()
        async with scene.filters(plan, answer_timeout=60, progress_interval=None):
            told = await sessions(scene, plan)
        assert told == dict.fromkeys(STAGES, (later[mta], later[mta]))
        assert sorted(plan.cancelled) == sorted(STAGES)
        assert await scene.deliveries() == []


class AtTheEnd(Milter):
    """Has nothing to say before the end of a message, so that the MTA waits for no answer before it."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")


@pytest.mark.parametrize("recipients", [1, 25, 60])
async def test_a_client_that_takes_its_time_between_many_recipients_and_data_is_no_peer_that_dribbles(
    scene: Scene, recipients: int
) -> None:
    """P-004: Postfix writes whenever 4096 octets are full, in the middle of a packet, and goes on when its client does."""
    halves, domain = 0, RECIPIENTS[0].partition("@")[2]
    async with serve(AtTheEnd, scene.sockets[0], packet_timeout=60.0) as server, scene.connect() as client:
        await client.say(f"MAIL FROM:<{SENDER}>")
        for number in range(recipients):
            assert accepted(await client.say(f"RCPT TO:<{'x' * 40}{number}@{domain}>"))
        for _ in range(20):  # what sees after 60 s, each time, that nothing whole has come since
            server._timeouts.close_idle()
            halves += any(len(connection.session.wire.buffer) for connection in server._connections)
            await asyncio.sleep(0)
        replies = [await client.say("DATA"), await client.content(b"Subject: hi\r\n\r\nHello\r\n")]
        assert [accepted(reply) for reply in replies] == [True, True], replies
    (delivery, *others) = await scene.deliveries()
    assert delivery.values("X-Seen") == [" yes"]
    print(f"{scene.name}: half a packet was there {halves} times, {len(others) + 1} deliveries")
