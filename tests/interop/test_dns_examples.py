"""The example filters that ask DNS, behind Postfix, which is told the clients' addresses with XCLIENT."""

import asyncio
from typing import Any

import pytest

from aiomilter.auth import spf
from aiomilter.dns import resolver
from aiomilter.policy.dnsbl import DnsList
from tests.dns.server import NameServer, Silence, labels
from tests.examples.test_examples import load
from tests.interop.client import MESSAGE, accepted, connect
from tests.interop.rigs.postfix import Postfix
from tests.interop.scene import Scene
from tests.patience import PATIENCE

pytestmark = [pytest.mark.interop, pytest.mark.slow]

spf_milter = load("spf_milter")
dnsbl_milter = load("dnsbl_milter")

SESSIONS = 500
# Postfix runs a hundred processes of a service.
AT_ONCE = 80
FORGED = (
    b"Authentication-Results: mx.example.test; spf=pass\r\n"
    b"Authentication-Results : mx.example.test; dkim=pass\r\n"
    b'AUTHENTICATION-RESULTS\t:"mx" .\r\n\t(x) example\\.test; dkim=pass\r\n'
    b"Received-SPF: Pass receiver=mx.example.test\r\n"
    b"Received-SPF : Pass receiver = mx.(x)example.test\r\n"
)


@pytest.fixture
def scene(postfix_rig: Postfix) -> Scene:
    return Scene(postfix_rig, "tcp")


def address(number: int) -> str:
    return f"198.18.{number // 250}.{number % 250 + 1}"


async def spf_session(scene: Scene, number: int) -> str:
    """Say from whom a message comes, and return the reply."""
    async with connect(scene.port) as client:
        assert accepted(await client.say(f"XCLIENT ADDR={address(number)} NAME=[UNAVAILABLE]"))
        await client.say("EHLO client.test")
        return await client.say(f"MAIL FROM:<a@d{number}.example>")


async def test_a_silent_nameserver_holds_up_nobody_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 sessions from 500 addresses pass while 40 wait for a nameserver that never answers."""
    check = spf.check_host

    async def patiently(*args: Any, **given: Any) -> spf.SpfResult:
        return await check(*args, **{**given, "timeout": PATIENCE})

    # Of the example's 20 seconds a busy machine needs more to serve all the others.
    monkeypatch.setattr(spf, "check_host", patiently)
    turn = asyncio.Semaphore(AT_ONCE // 2)
    config = spf_milter.Config.from_toml("policy.temperror = 'tempfail'")
    server = NameServer()
    for number in range(SESSIONS):
        allowed = address(number) if number % 2 else "192.0.2.1"
        server.add(f"d{number}.example", "TXT", f'"v=spf1 ip4:{allowed} -all"')
    silent = range(SESSIONS, SESSIONS + AT_ONCE // 2)
    for number in silent:
        server.silent[labels(f"d{number}.example"), "*"] = Silence.TIMEOUT

    async def session(number: int) -> str:
        async with turn:
            return await spf_session(scene, number)

    async with (
        server,
        resolver(server.address, timeout=PATIENCE, attempt_timeout=PATIENCE) as shared,
        scene.filters(
            lambda: spf_milter.SpfMilter(config, shared),
            answer_timeout=PATIENCE,
            callback_timeout=PATIENCE,
            drain_timeout=0,
        ),
    ):
        waiting = [asyncio.create_task(spf_session(scene, number)) for number in silent]
        await server.asked(len(waiting))
        played = await asyncio.gather(*(session(number) for number in range(SESSIONS)))
        gone = [task.result() for task in waiting if task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    assert gone == []
    for number, reply in enumerate(played):
        assert accepted(reply) if number % 2 else reply.startswith("550 5.7.23 SPF fail: "), (number, reply)


async def test_a_silent_nameserver_is_a_temporary_error_in_time(scene: Scene) -> None:
    config = spf_milter.Config.from_toml("policy.temperror = 'tempfail'")
    async with (
        NameServer(silent={(labels("d1.example"), "*"): Silence.TIMEOUT}) as server,
        resolver(server.address, timeout=0.5, attempt_timeout=0.2) as shared,
        scene.filters(lambda: spf_milter.SpfMilter(config, shared)),
    ):
        reply = await spf_session(scene, 1)

    assert reply.startswith("451 4.7.24 ")


async def test_headers_are_added_and_forged_ones_removed(scene: Scene) -> None:
    server = NameServer()
    server.add("good.example", "TXT", '"v=spf1 ip4:198.18.0.1 -all"')
    async with server, resolver(server.address) as shared:
        async with (
            scene.filters(lambda: spf_milter.SpfMilter(spf_milter.Config(), shared)),
            connect(scene.port) as client,
        ):
            assert accepted(await client.say("XCLIENT ADDR=198.18.0.1 NAME=[UNAVAILABLE]"))
            await client.say("EHLO client.test")
            replies = await client.send(FORGED + MESSAGE, "a@good.example")
        (delivery,) = await scene.deliveries()

    assert accepted(replies["."])
    (authentication,) = delivery.values("Authentication-Results")
    (received,) = delivery.values("Received-SPF")
    assert authentication.split() == ["mx.example.test;", "spf=pass", "smtp.mailfrom=a@good.example"]
    assert "client-ip=198.18.0.1" in received


async def test_a_listed_client_is_refused_but_reaches_postmaster(scene: Scene) -> None:
    server = NameServer()
    server.add("1.0.18.198.bl.example", "A", "127.0.0.2")
    async with server, resolver(server.address) as shared:
        lists = [DnsList("bl.example")]
        async with scene.filters(lambda: dnsbl_milter.DnsblMilter(lists, shared)):
            replies = {}
            for client_address in ("198.18.0.1", "198.18.0.2"):
                async with connect(scene.port) as client:
                    assert accepted(await client.say(f"XCLIENT ADDR={client_address} NAME=[UNAVAILABLE]"))
                    await client.say("EHLO client.test")
                    await client.say("MAIL FROM:<a@client.test>")
                    for recipient in ("bob@example.test", "postmaster@example.test"):
                        reply = await client.say(f"RCPT TO:<{recipient}>")
                        replies[client_address, recipient] = reply

    assert replies["198.18.0.1", "bob@example.test"] == "550 5.7.1 198.18.0.1 is listed by bl.example"
    del replies["198.18.0.1", "bob@example.test"]
    assert all(accepted(reply) for reply in replies.values()), replies
