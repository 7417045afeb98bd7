"""Real clamd, spamd and rspamd, each with a toy signature or rule, and filters that ask them behind real MTAs."""

import asyncio
import base64
import email.policy
from collections.abc import AsyncIterator
from dataclasses import replace
from email.message import EmailMessage

import pytest

from aiomilter.scan import AddedHeader, Clamd, ClamdResult, Envelope, RemovedHeader, Rspamd, Spamd, SpamdResult
from tests.examples.test_examples import load
from tests.interop.client import connect
from tests.interop.rigs.mta import free_port
from tests.interop.rigs.scanners import MALWARE, SPAM, ClamdRig, RspamdRig, SpamdRig
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop

CLIENT = Envelope(
    sender="<alice@client.test>",
    recipients=("bob@example.test", "carol@example.test"),
    ip="192.0.2.7",
    hostname="client.test",
    helo="helo.test",
    queue_id="4abc",
    mta_name="mx.example.test",
)


def message(subject: str = "hello", *attachments: tuple[str, bytes]) -> bytes:
    made = EmailMessage(policy=email.policy.SMTP)
    made["From"], made["To"], made["Subject"] = "alice@client.test", "bob@example.test", subject
    made.set_content("Hello\n")
    for name, octets in attachments:
        made.add_attachment(octets, maintype="application", subtype="octet-stream", filename=name)
    return bytes(made)


async def megabytes(number: int) -> AsyncIterator[bytes]:
    yield message()
    for _ in range(number * 16):
        yield b"x" * 63 * 1024 + b"\r\n" * 512


# ---------------------------------------------------------------------------------------------------------- clamd


async def test_clamd_finds_malware_in_an_attachment(clamd: ClamdRig) -> None:
    async with Clamd(clamd.address) as scanner:
        found = await scanner.scan(message("hello", ("a.bin", b"\0\1" * 5000 + MALWARE + b"\2")))
        clean = await scanner.scan(message("hello", ("a.bin", b"\0\1" * 5000)))
    assert found == ClamdResult(infected=True, name="Toy.Test.UNOFFICIAL")
    assert clean == ClamdResult()


async def test_clamd_does_not_look_into_attachments_without_the_header_section(clamd: ClamdRig) -> None:
    """So it gets the whole message."""
    octets = message("hello", ("a.bin", b"abc" + MALWARE))
    scanner = Clamd(clamd.address)
    assert (await scanner.scan(octets)).infected
    assert not (await scanner.scan(octets.partition(b"\r\n\r\n")[2])).infected


async def test_clamd_says_that_a_message_is_too_large(clamd: ClamdRig) -> None:
    scanner = Clamd(clamd.address)
    results = [await scanner.scan(megabytes(20)) for _ in range(20)]
    assert {result.too_large for result in results} == {True}


async def test_many_messages_are_scanned_at_once(clamd: ClamdRig) -> None:
    scanner = Clamd(clamd.address)
    infected = message("hello", ("a.bin", MALWARE))
    results = await asyncio.gather(*[scanner.scan(infected if n % 2 else message()) for n in range(50)])
    assert [result.infected for result in results] == [False, True] * 25


# ---------------------------------------------------------------------------------------------------------- spamd


@pytest.mark.parametrize("sized", [False, True])
async def test_spamd_judges_message_and_client(spamd: SpamdRig, sized: bool) -> None:
    spam, ham = message(SPAM.decode()), message()
    async with Spamd(spamd.address) as scanner:
        found = await scanner.scan(spam, len(spam) if sized else None, envelope=CLIENT)
        clean = await scanner.scan(ham, len(ham) if sized else None)
    assert found == SpamdResult(spam=True, score=8.2, threshold=5.0, symbols=("TOY_CLIENT", "TOY_SENDER", "TOY_SPAM"))
    assert clean == SpamdResult(threshold=5.0)


FORGED = [
    "x (y [127.0.0.1]) z",
    "x (y [127.0.0.1]) by localhost (Postfix) with ESMTP id 1; (",
    "[127.0.0.1] (y [127.0.0.1])\r\n\tby localhost",
    'a\\"b<c>@d;e',
]


@pytest.mark.parametrize("helo", FORGED)
async def test_a_client_cannot_show_spamd_another_one(spamd: SpamdRig, helo: str) -> None:
    """By what it says of itself."""
    found = await Spamd(spamd.address).scan(message(), envelope=replace(CLIENT, helo=helo))
    assert found.symbols == ("TOY_CLIENT", "TOY_SENDER")


async def test_spamd_trusts_a_client_that_has_authenticated(spamd: SpamdRig) -> None:
    found = await Spamd(spamd.address).scan(message(), envelope=replace(CLIENT, login="alice"))
    assert found.symbols == ("TOY_SENDER",)


# --------------------------------------------------------------------------------------------------------- rspamd


async def test_rspamd_judges_message_and_envelope(rspamd: RspamdRig) -> None:
    async with Rspamd(rspamd.address) as scanner:
        found = await scanner.scan(message(SPAM.decode()), envelope=CLIENT)
        clean = await scanner.scan(message())
    assert (found.problem, found.action, found.score, found.required_score) == ("", "add header", 7.5, 15.0)
    assert (found.symbols["TOY_SPAM"].score, found.symbols["TOY_SPAM"].options) == (7.5, ("subject",))
    assert found.symbols["TOY_SEEN"].options == ("alice@client.test 2 192.0.2.7 helo.test nil",)
    assert set(found.headers.add) == {AddedHeader("X-Toy", "checked"), AddedHeader("X-Toy-Top", "first", 0)}
    assert set(found.headers.remove) == {RemovedHeader("X-Forged"), RemovedHeader("X-Second", 2)}
    assert (clean.action, "TOY_SPAM" in clean.symbols) == ("no action", False)


async def test_a_message_of_many_links_has_an_answer(rspamd: RspamdRig) -> None:
    """rspamd names all hosts."""
    links = b"".join(b"http://host%d.example%d.test/\r\n" % (number, number) for number in range(9000))
    result = await Rspamd(rspamd.address).scan(message() + links)
    assert (result.problem, result.action) == ("", "no action")


async def test_rspamd_takes_an_envelope_of_any_size(rspamd: RspamdRig) -> None:
    recipients = tuple(f"{number}@example.test" for number in range(5000))
    result = await Rspamd(rspamd.address).scan(message(), envelope=Envelope(sender="", recipients=recipients))
    assert result.problem == ""


# -------------------------------------------------------------------------------------------------------- examples


async def test_the_gateway_refuses_malware_and_takes_programs_out(
    scene: Scene, clamd: ClamdRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAMD", clamd.address)
    async with scene.filters(load("malware_gateway").milter), scene.connect() as client:
        refused = await client.send(message("hello", ("a.bin", b"\0" * 1_200_000 + MALWARE)))
        taken = await client.send(message("hello", ("a.EXE", b"MZ\0"), ("b.bin", b"\0")))
        large = await client.send(message("hello", ("a.bin", b"\0" * 3_000_000)))
    (delivery,) = await scene.deliveries()

    assert refused["."] == "550 5.7.1 Malware found: Toy.Test.UNOFFICIAL"
    assert large["."] == "552 5.3.4 Message too large to be scanned"
    assert taken["."].startswith("250 ")
    assert b"\r\nSubject: [EXT] hello\r\n" in delivery.content
    assert delivery.content.count(b"X-Scanned: clean\r\n") == 1
    assert b"a.EXE was removed." in delivery.content
    assert base64.b64encode(b"MZ\0") not in delivery.content


async def test_without_clamd_the_gateway_refuses_mail_for_now(postfix: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMD", f"inet:{free_port()}@127.0.0.1")
    async with postfix.filters(load("malware_gateway").milter), postfix.connect() as client:
        reply = (await client.send(message()))["."]
    assert reply.startswith("451 4.7.1 ")
    assert await postfix.deliveries() == []


async def test_what_rspamd_asks_for_is_done(postfix: Scene, rspamd: RspamdRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSPAMD", rspamd.address)
    forged = b"X-Forged: 1\r\nX-Second: 1\r\nX-forged: 2\r\nX-Second: 2\r\nX-Spam: no\r\n"
    async with postfix.filters(load("rspamd_milter").milter), connect(postfix.port) as client:
        for subject in ("hello", SPAM.decode()):
            assert (await client.send(forged + message(subject)))["."].startswith("250 ")
            await postfix.rig.settled()
    ham, spam = [each.content.partition(b"\r\n\r\n")[0].split(b"\r\n") for each in await postfix.deliveries()]

    ours = [[line for line in head if line.startswith((b"X-", b"x-"))] for head in (ham, spam)]
    assert ours[0] == [b"X-Toy-Top: first", b"X-Second: 1", b"X-Toy: checked"]
    assert ours[1] == [b"X-Spam: yes", b"X-Toy-Top: first", b"X-Second: 1", b"X-Toy: checked"]
