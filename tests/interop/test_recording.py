"""Sessions of real MTAs, recorded and replayed: equal on the same filter, different on a mutant of it."""

import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiomilter import ACCEPT, Context, EndOfMessageContext, Header, Mail, Milter, Rcpt, Reply, Response, serve
from aiomilter.mta.opening import open_streams
from aiomilter.options import Options
from aiomilter.recording import Recording, read
from aiomilter.recording.directory import RecordDirectory
from aiomilter.recording.format import ContentKind
from aiomilter.recording.recorder import RecordSettings
from aiomilter.recording.redaction import Redaction
from aiomilter.recording.relay import Relay
from aiomilter.testing import Replay, replay
from aiomilter.testing._replay import Played, ReplayPlan
from tests.interop.client import MESSAGE
from tests.interop.scene import Scene
from tests.life.daemon import running
from tests.mta.test_real_filters import SOURCE
from tests.mta.test_real_filters import running as running_filter
from tests.patience import PATIENCE
from tests.programs import compiled

pytestmark = pytest.mark.interop


class Gateway(Milter):
    """Answers and edits at every stage that it can."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return Reply(550, "5.7.1", "not from you") if mail.local_part == "spam" else None

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        return Reply(550, "5.1.1", "no such mailbox") if rcpt.local_part == "trap" else None

    async def header(self, ctx: Context, header: Header) -> Response | None:
        return ACCEPT if header.name == "X-Trusted" else None

    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["size"] = ctx.notes.get("size", 0) + len(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        if ctx.notes["size"] > 100_000:
            return Reply(452, "4.3.1", "too much")
        ctx.add_header("X-Size", str(ctx.notes["size"]))
        ctx.change_header("Subject", 1, "[EXT] hello")
        return None


class OtherEdit(Gateway):
    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        answer = await super().eom(ctx)
        ctx.add_header("X-More", "1")
        return answer


class OtherReply(Gateway):
    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        return Reply(550, "5.1.1", "unknown") if rcpt.local_part == "trap" else None


class OtherSender(Gateway):
    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return None


MUTANTS = {"OtherEdit": OtherEdit, "OtherReply": OtherReply, "OtherSender": OtherSender}


@asynccontextmanager
async def recorded(scene: Scene, directory: Path, content: ContentKind = "full", **options: Any) -> AsyncIterator[None]:
    """Have the MTA of a scene ask a filter through a pass-through that records."""
    settings = RecordSettings("gateway", content, frozenset(), Redaction(b"k" * 32))
    async with serve(Gateway, f"unix:{directory}/filter") as server:
        relay = Relay(
            server.addresses[0],
            scene.sockets,
            Options(socket_mode=0o666),
            settings,
            RecordDirectory(directory / "sessions", 1 << 24),
        )
        await relay.start()
        try:
            yield
            await relay.drain(PATIENCE)
        finally:
            await relay.close()


def sessions(directory: Path) -> list[Recording]:
    return [read(path) for path in sorted((directory / "sessions").glob("*.jsonl.gz"))]


async def play(scene: Scene) -> None:
    """Be clients of each kind."""
    async with scene.connect() as client:
        await client.send()
        await client.send(recipients=["trap@example.test", "bob@example.test"])
        await client.send(b"X-Trusted: yes\r\n" + MESSAGE)
        await client.send(MESSAGE + b"0123456789abcdef" * 4096 * 2 + b"\r\n")
        await client.say("RSET")
        await client.say("QUIT")
    async with scene.connect() as client:
        await client.send(sender="spam@client.test")
        await client.send(recipients=["trap@example.test"])
        await client.say("QUIT")
    async with scene.connect() as client:
        await client.say("MAIL FROM:<alice@client.test>")
        await client.hang_up()


@pytest.mark.parametrize("scene", ["postfix-tcp", "sendmail-unix"], indirect=True)
async def test_sessions_are_equal_on_the_same_filter_and_different_on_a_mutant(scene: Scene, tmp_path: Path) -> None:
    async with recorded(scene, tmp_path):
        await play(scene)
    found = sessions(tmp_path)

    assert len(found) == 3
    assert {recording.head.style for recording in found} == {scene.name}
    for recording in found:
        assert str(await replay(recording, Gateway)) == f"{recording.name}: equal"
    for name, mutant in MUTANTS.items():
        results = [await replay(recording, mutant) for recording in found]
        assert not all(result.equal for result in results), name


@pytest.mark.parametrize("scene", ["postfix-tcp", "sendmail-unix"], indirect=True)
async def test_shapes_of_sessions_tell_filters_apart_that_look_at_no_words(scene: Scene, tmp_path: Path) -> None:
    """What the filter was asked by name it is asked by tokens now: compared is what two filters make of these."""
    async with recorded(scene, tmp_path, content="shape"):
        await play(scene)

    for recording in sessions(tmp_path):
        texts = b"".join(packet.payload for packet in recording.packets)
        assert b"alice" not in texts
        assert b"trap" not in texts
        assert b"hello" not in texts.lower()
        assert (await replay(recording, Gateway, against=Gateway)).equal
    results = [await replay(recording, OtherEdit, against=Gateway) for recording in sessions(tmp_path)]
    assert not all(result.equal for result in results)


@pytest.mark.slow
@pytest.mark.parametrize("postfix", ["postfix"], indirect=True)
async def test_a_milter_of_another_make_is_recorded_and_replayed_to_itself(
    postfix: Scene, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A filter in C, on libmilter; one of ours answers otherwise."""
    program = compiled(SOURCE, tmp_path_factory.mktemp("c"))
    path = tmp_path / "c"
    command = ("-m", "aiomilter", "record", "--socket-mode", "666", "--record-content", "full", "--record", "sessions")
    where = ("--listen", postfix.sockets[0], "--connect", f"unix:{path}")
    async with (
        running_filter(str(program), str(path), "reply", socket=path),
        running(*where, directory=tmp_path, command=command) as daemon,
    ):
        await daemon.logged("listening on")
        async with postfix.connect() as client:
            await client.send()
            await client.say("QUIT")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
        (recording,) = sessions(tmp_path)
        assert str(await replayed_to(recording, path)) == f"{recording.name}: equal"
    assert not (await replay(recording, Gateway)).equal


async def replayed_to(recording: Recording, path: Path) -> Replay:
    """Replay a session to a filter that runs."""
    plan = ReplayPlan(recording)
    played = Played(*await plan.play(await open_streams(f"unix:{path}", PATIENCE), PATIENCE))
    return plan.result(played, plan.recorded, whole=True)


FILTER = """\
from aiomilter import Milter, Reply

class Gateway(Milter):
    async def envrcpt(self, ctx, rcpt):
        if rcpt.local_part == "trap":
            return Reply(550, "5.1.1", "no such mailbox")

    async def eom(self, ctx):
        ctx.add_header("X-Seen", "yes")
"""
TEST = """\
import gateway, mutant, pytest

@pytest.mark.milter_sessions("sessions/*.jsonl.gz")
@pytest.mark.parametrize("module", [gateway, mutant], ids=["gateway", "mutant"])
async def test_it_answers_as_it_did_in_production(milter_replay, module):
    await milter_replay(module.Gateway)
"""
CONFIGURATION = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
addopts = --strict-markers -W error
"""
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gateway.py")


@pytest.mark.slow
@pytest.mark.parametrize("postfix", ["postfix"], indirect=True)
async def test_a_session_of_production_fails_in_pytest_on_the_mutant_of_its_filter(
    postfix: Scene, tmp_path: Path
) -> None:
    (tmp_path / "gateway.py").write_text(FILTER)
    (tmp_path / "mutant.py").write_text(FILTER.replace("trap", "trip"))
    (tmp_path / "test_gateway.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text(CONFIGURATION)
    options = ("--socket-mode", "666", "--record", "sessions", "--record-content", "full")
    async with running("gateway.py", "--listen", postfix.sockets[0], *options, directory=tmp_path) as daemon:
        await daemon.logged("listening on")
        async with postfix.connect() as client:
            replies = await client.send(recipients=["trap@example.test", "bob@example.test"])
            assert replies["trap@example.test"] == "550 5.1.1 no such mailbox"
            await client.say("QUIT")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    (file,) = (tmp_path / "sessions").glob("*.jsonl.gz")
    assert file.stat().st_mode & 0o777 == 0o600

    done = subprocess.run([sys.executable, *PYTEST], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stdout
    assert f"{file}: 2 differ" in done.stdout
    assert "RCPT <trap@example.test>: 550 5.1.1 no such mailbox, now continue" in done.stdout
    assert re.search(r"FAILED .*production\[.*mutant.*\]", done.stdout)
    assert "1 failed, 1 passed" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("scene", ["postfix-tcp", "sendmail-unix"], indirect=True)
async def test_five_hundred_sessions_are_equal_and_the_mutants_are_found(scene: Scene, tmp_path: Path) -> None:
    """Half of them of each MTA; a mutant differs wherever the filter has come to what it does otherwise."""
    source = random.Random(scene.name)
    bodies = [MESSAGE, b"X-Trusted: yes\r\n" + MESSAGE, MESSAGE + b"0123456789abcdef" * 8192 + b"\r\n"]
    async with recorded(scene, tmp_path):
        for _ in range(250):
            async with scene.connect() as client:
                for _ in range(source.randint(1, 3)):
                    sender = source.choice(["alice@client.test", "spam@client.test"])
                    recipients = source.choices(["trap@example.test", "bob@example.test", "carol@example.test"], k=2)
                    await client.send(source.choice(bodies), sender, recipients)
                    await client.say("RSET")
                await client.say("QUIT")
    found = sessions(tmp_path)

    assert len(found) == 250
    different = dict.fromkeys(MUTANTS, 0)
    for recording in found:
        assert str(await replay(recording, Gateway)) == f"{recording.name}: equal"
        for name, mutant in MUTANTS.items():
            different[name] += not (await replay(recording, mutant)).equal
    assert all(count > 50 for count in different.values()), different
