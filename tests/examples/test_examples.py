"""Every example does what it says."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import ModuleType

import pytest

from aiomilter import ACCEPT, CONTINUE, REJECT, Reply, mta
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MESSAGE = b"From: a@x.example\r\nSubject: Hello\r\n\r\nbody\r\n"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [path.stem for path in EXAMPLES.glob("*.py") if f'load("{path.stem}")' not in text]
    assert missing == []


async def test_mail_from_outside_is_tagged_once() -> None:
    example = load("tag_external")
    async with session(example.TagExternal) as s:
        await s.mail("<a@elsewhere.example>")
        await s.rcpt("<b@example.org>")
        first = await s.message(MESSAGE)
        await s.mail("<a@elsewhere.example>")
        await s.rcpt("<b@example.org>")
        second = await s.message(b"Subject: Re: [EXTERNAL] Hello\r\n\r\n")
        await s.mail("<a@elsewhere.example>")
        await s.rcpt("<b@example.org>")
        third = await s.message(b"From: a@x.example\r\n\r\n")

    assert first.delivered is not None
    assert b"\r\nSubject: [EXTERNAL] Hello\r\n" in first.delivered.octets
    assert second.modifications == ()
    assert third.delivered is not None
    assert b"Subject: [EXTERNAL]\r\n" in third.delivered.octets


async def test_our_people_who_have_logged_in_are_not_tagged() -> None:
    example = load("tag_external")
    async with session(example.TagExternal, macros={"auth_authen": "alice"}) as s:
        assert await s.mail("<alice@EXAMPLE.org>") is ACCEPT
        assert await s.mail("<alice@elsewhere.example>") is CONTINUE


async def test_header_rules_refuse_and_hold() -> None:
    example = load("header_rules")
    async with session(example.HeaderRules) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        refused = await s.message(b"Subject: Win a CAR today\r\n\r\n")
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        held = await s.message(b'Content-Type: application/x; name="a.EXE"\r\nReply-To: <x@freemail.example>\r\n\r\n')
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        passed = await s.message(MESSAGE)

    assert refused.answer == Reply(550, "5.7.1", "We do not want to win anything")
    assert held.delivered is not None
    assert held.delivered.quarantine == "executable attachment; answers go to a free mail account"
    assert passed.modifications == ()


@asynccontextmanager
async def reputation_service(answers: dict[str, str]) -> AsyncIterator[str]:
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        while line := await reader.readline():
            said = answers.get(line.decode().strip(), "unknown")
            if said == "hang up":
                break
            writer.write(said.encode() + b"\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*filter(None, served))


async def test_a_slow_lookup_decides_and_a_dead_service_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("slow_lookup")
    said = {"evil@x.example": "bad", "good@x.example": "good", "odd@x.example": "hang up"}
    async with reputation_service(said) as address:
        monkeypatch.setattr(example, "SERVICE", address)
        async with session(example.milter) as s:
            assert await s.mail("<evil@x.example>") == Reply(
                550, "5.7.1", "Mail from evil@x.example is not welcome here"
            )
            found = []
            for sender in ("good", "odd", "nobody"):
                assert await s.mail(f"<{sender}@x.example>") is CONTINUE
                await s.rcpt("<b@example.org>")
                result = await s.message(MESSAGE)
                assert result.delivered is not None
                found.append(result.delivered.octets.partition(b"X-Reputation: ")[2].split(b"\r\n")[0])

    assert found == [b"good", b"unknown", b"unknown"]


async def test_a_service_with_two_filters_and_a_web_endpoint() -> None:
    example = load("embedded")
    ready: asyncio.Future[tuple[str, str, int]] = asyncio.get_running_loop().create_future()
    service = asyncio.create_task(example.main("inet:0@127.0.0.1", "inet:0@127.0.0.1", 0, ready))
    incoming, outgoing, port = await ready

    async def ask(method: str, path: str) -> dict[str, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        counts: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return counts

    for address in (incoming, outgoing):
        async with mta.connect(address) as s:
            await s.connect()
            await s.helo()
            await s.mail("<a@x.example>")
            await s.rcpt("<b@example.org>")
            await s.message(MESSAGE)
    await ask("POST", "/block/a@x.example")
    async with mta.connect(incoming) as s:
        await s.connect()
        await s.helo()
        assert await s.mail("<a@x.example>") is REJECT
    counts = await ask("GET", "/")
    service.cancel()
    await asyncio.wait([service])

    assert counts == {"incoming": 1, "outgoing": 1, "refused": 1}


async def test_a_forwarder_rewrites_senders_and_sends_bounces_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load("srs_forwarder")
    (tmp_path / "secrets").write_text("a secret of 16 octets\n")
    monkeypatch.setenv("SRS_SECRETS", str(tmp_path / "secrets"))
    async with session(example.milter) as s:
        sent = await s.send(MESSAGE, "alice@sender.example", ["alumni@example.org", "bob@example.org"])
        kept = await s.send(MESSAGE, "alice@sender.example", ["bob@example.org"])
        assert sent.delivered is not None
        assert kept.modifications == ()
        address = sent.delivered.sender.address
        assert address.startswith("SRS0=")
        assert address.endswith("=sender.example=alice@fwd.example.org")

        bounce = await s.send(MESSAGE, "", [address])
        assert bounce.delivered is not None
        assert [rcpt.address for rcpt in bounce.delivered.recipients] == ["alice@sender.example"]

        await s.mail("<spammer@x.example>")
        assert await s.rcpt(f"<{address}>") == Reply(550, "5.7.1", "This address takes bounces only")
        await s.mail("<>")
        forged = address.replace("alice", "eve")
        assert await s.rcpt(f"<{forged}>") == Reply(550, "5.7.1", "Not an address for bounces: forged")


async def test_a_user_has_a_rate_that_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("user_rates")
    monkeypatch.setenv("STORE", f"sqlite:{tmp_path / 'state.db'}")
    found = []
    for _ in range(2):
        async with session(example.milter, macros={"auth_authen": "Bob"}) as s:
            await s.mail("<bob@example.org>")
            found += [await s.rcpt(f"<user{number}@example.net>") for number in range(30)]
    assert [answer.code for answer in found].count(250) in (50, 51)  # a minute may have gone by
    assert isinstance(found[-1], Reply)
    assert found[-1].code == 450
    async with session(example.milter) as s:
        await s.mail("<carol@example.org>")
        assert await s.rcpt("<user@example.net>") is CONTINUE


async def test_strangers_and_bounces_have_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("greylisting")
    monkeypatch.setattr(example, "system_resolver", lambda: nullcontext(ZoneResolver("")))
    async with session(example.milter) as s:
        await s.mail("<alice@example.com>")
        assert await s.rcpt("<bob@example.net>") == Reply(451, "4.7.1", "Greylisted, come back in 300 s")
        await s.mail("<>")
        assert await s.rcpt("<bob@example.net>") is CONTINUE
        bounce = await s.message(MESSAGE)
        assert bounce.answer == Reply(451, "4.7.1", "Greylisted, come back in 300 s")
    async with session(example.milter, macros={"auth_authen": "bob"}) as s:
        await s.mail("<alice@example.com>")
        assert await s.rcpt("<bob@example.net>") is CONTINUE
