"""Filters that are not ours: one in C on libmilter, compiled here, and OpenDKIM."""

import asyncio
import base64
import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aiomilter.mta import Session, Style, connect
from aiomilter.wire.constants import Protocol
from aiomilter.wire.events import Mail, Rcpt
from aiomilter.wire.modifications import InsertHeader, Quarantine
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL, Reply
from tests.patience import PATIENCE
from tests.programs import compiled, needed

pytestmark = pytest.mark.interop
both_styles = pytest.mark.parametrize("style", ["postfix", "sendmail"])

SOURCE = Path(__file__).parent / "filter.c"
MESSAGE = b"From: a@example.org\nX-A: one\nX-A: two\nSubject: x\n\nhello\n"


@asynccontextmanager
async def running(*command: str, socket: Path) -> AsyncIterator[str]:
    """Run a filter until the block ends; the address is where it listens by then."""
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(socket):
                assert process.returncode is None, f"{command[0]} ended with status {process.returncode}"
                # Another process is at work: there is nothing to await.
                await asyncio.sleep(0.01)
        yield f"unix:{socket}"
    finally:
        if process.returncode is None:
            # libmilter takes seconds to stop when asked to.
            process.kill()
        await process.wait()


async def _listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(SOURCE, tmp_path_factory.mktemp("c"))


@asynccontextmanager
async def playing(program: Path, how: str, style: Style) -> AsyncIterator[Session]:
    """A session to the C filter, which is run as ``how`` says."""
    path = program.parent / "s"
    path.unlink(missing_ok=True)
    async with (
        running(str(program), str(path), how, socket=path) as address,
        connect(address, style=style, timeout=PATIENCE) as session,
    ):
        yield session


async def envelope(session: Session) -> None:
    assert await session.connect("client.example", "192.0.2.1") is CONTINUE
    assert await session.helo("client.example") is CONTINUE
    assert await session.mail("<alice@example.org>", "SIZE=9") is CONTINUE
    assert await session.rcpt("<bob@example.org>") is CONTINUE
    assert await session.rcpt("<carol@example.org>", "NOTIFY=NEVER") is CONTINUE


@both_styles
@pytest.mark.parametrize("how", ["reply", "noreply"])
async def test_a_c_filter_makes_every_modification(program: Path, how: str, style: Style) -> None:
    async with playing(program, how, style) as session:
        await envelope(session)
        result = await session.message(MESSAGE)

    assert result.answer is CONTINUE
    assert result.progress == 1
    assert Quarantine("why") in result.modifications
    assert result.delivered is not None
    assert result.delivered.octets.decode().split("\r\n") == [
        "X-Top: inserted",
        "From: a@example.org",
        "X-A: ONE",
        "Subject: x",
        "X-Seen: CHMRRTLLLLNBE",
        "X-Client: 192.0.2.1",
        "X-Folded: one",
        "\ttwo",
        "",
        "new body",
        "",
    ]
    assert result.delivered.quarantine == "why"
    sender_params = ("SIZE=9", "RET=HDRS") if style == "postfix" else ("RET=HDRS",)
    assert result.delivered.sender == Mail("<new@example.org>", sender_params)
    assert result.delivered.recipients == (
        Rcpt("<carol@example.org>", ("NOTIFY=NEVER",)),
        Rcpt("<dave@example.org>"),
        Rcpt("<erin@example.org>", ("NOTIFY=NEVER",)),
    )
    assert bool(session.agreed.protocol & Protocol.NR_HEADER) is (how == "noreply")


@both_styles
async def test_a_c_filter_gives_every_verdict(program: Path, style: Style) -> None:
    async with playing(program, "reply", style) as session:
        await envelope(session)
        assert await session.rcpt("<reply@example.org>") == Reply(550, "5.7.1", "no 100% sure", "second line")
        assert await session.rcpt("<reject@example.org>") is REJECT
        assert await session.rcpt("<tempfail@example.org>") is TEMPFAIL
        assert await session.rcpt("<dave@example.org>") is CONTINUE
        discarded = await session.message(b"X-Do: discard\n\nhello\n")
        assert await session.mail("<accept@example.org>") is ACCEPT
        assert await session.rcpt("<bob@example.org>") is CONTINUE
        accepted = await session.message(MESSAGE)
        await session.mail("<alice@example.org>")
        await session.rcpt("<bob@example.org>")
        skipped = await session.message(b"X-Do: skip\n\n" + b"x" * 200_000)

    assert (discarded.answer, discarded.delivered) == (DISCARD, None)
    assert accepted.answer is ACCEPT
    assert accepted.delivered is not None
    assert accepted.delivered.octets == MESSAGE.replace(b"\n", b"\r\n")
    assert skipped.answer is CONTINUE
    assert skipped.delivered is not None
    assert b"LNBE" in skipped.delivered.octets


@both_styles
async def test_a_c_filter_is_played_several_messages_and_connections(program: Path, style: Style) -> None:
    async with playing(program, "reply", style) as session:
        await envelope(session)
        await session.abort()
        await envelope_again(session)
        first = await session.message(MESSAGE)
        await session.quit_new_connection()
        await envelope(session)
        second = await session.message(MESSAGE)

    assert first.delivered is not None
    assert b"X-Seen: CHMRRAUHMRTLLLLNBE\r\n" in first.delivered.octets
    assert second.delivered is not None
    assert b"X-Seen: CHMRRTLLLLNBE\r\n" in second.delivered.octets


async def envelope_again(session: Session) -> None:
    assert await session.unknown("FOO bar") is CONTINUE
    assert await session.helo("again.example") is CONTINUE
    assert await session.mail("<>") is CONTINUE
    assert await session.rcpt("<bob@example.org>") is CONTINUE


@asynccontextmanager
async def opendkim(directory: Path, *lines: str) -> AsyncIterator[str]:
    program = needed("opendkim")
    configuration = directory / "conf"
    common = ("Syslog no", "RequireSafeKeys no", "Canonicalization relaxed/simple", "InternalHosts 192.0.2.1")
    configuration.write_text("\n".join([*common, *lines]) + "\n")
    path = directory / "s"
    path.unlink(missing_ok=True)
    command = (program, "-f", "-x", str(configuration), "-p", f"local:{path}")
    async with running(*command, socket=path) as address:
        yield address


@both_styles
async def test_opendkim_signs_what_is_delivered(style: Style, tmp_path: Path) -> None:
    """It asks for HDR_LEADSPC and SKIP, and signs octets as they leave: folds, double spaces and 8-bit included."""
    openssl = needed("openssl")
    key = tmp_path / "key.pem"
    subprocess.run([openssl, "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    octets = b"From: a@example.org\nSubject:  two  spaces\n\tfolded caf\xe9\nX:none\n\nhello\n\nworld\n"

    async with (
        opendkim(tmp_path, "Mode s", "Domain example.org", "Selector sel", f"KeyFile {key}") as address,
        connect(address, style=style, timeout=PATIENCE) as session,
    ):
        await session.connect("client.example", "192.0.2.1")
        await session.helo("client.example")
        await session.mail("<a@example.org>")
        await session.rcpt("<b@example.net>")
        result = await session.message(octets)

    assert session.agreed.protocol & Protocol.LEADING_SPACE
    assert result.answer is ACCEPT
    assert result.delivered is not None
    (signature,) = result.modifications
    assert isinstance(signature, InsertHeader)
    tags = dict(tag.strip().split("=", 1) for tag in "".join(signature.value.split()).split(";") if tag)
    assert tags["d"] == "example.org"
    assert tags["bh"] == base64.b64encode(hashlib.sha256(b"hello\r\n\r\nworld\r\n").digest()).decode()
    assert result.delivered.octets.startswith(b"DKIM-Signature: v=1;")
    assert result.delivered.octets.endswith(octets.replace(b"\n", b"\r\n"))
    assert verifies(str(openssl), key, result.delivered.octets, tags)


def verifies(openssl: str, key: Path, octets: bytes, tags: dict[str, str]) -> bool:
    """Whether the signature of a delivered message is right, by RFC 6376 sections 3.4.2 and 3.7."""
    head = octets.partition(b"\r\n\r\n")[0] + b"\r\n"
    fields = head.replace(b"\r\n\t", b"\t").replace(b"\r\n ", b" ").split(b"\r\n")[:-1]
    relaxed = {}
    for field in fields:
        name, _, value = field.partition(b":")
        relaxed[name.strip().lower()] = b" ".join(value.split())
    signature = relaxed[b"dkim-signature"]
    unsigned = signature[: signature.index(b" b=") + 3]
    names = [name.lower().encode() for name in tags["h"].split(":")]
    signed = b"".join(name + b":" + relaxed[name] + b"\r\n" for name in names if name in relaxed)
    signed += b"dkim-signature:" + unsigned
    (key.parent / "signed").write_bytes(signed)
    (key.parent / "b").write_bytes(base64.b64decode(tags["b"]))
    command = f"rsa -in {key} -pubout -out public.pem"
    subprocess.run([openssl, *command.split()], cwd=key.parent, check=True, capture_output=True)
    command = "dgst -sha256 -verify public.pem -signature b signed"
    return subprocess.run([openssl, *command.split()], cwd=key.parent, check=False, capture_output=True).returncode == 0
