"""Edits of whole messages on real MTAs: what is delivered is what the filter made, octet for octet."""

import base64
import email.policy
import random
from collections.abc import AsyncIterator, Callable, Iterator
from email.message import EmailMessage
from importlib import import_module
from itertools import zip_longest

import pytest

from aiomilter import Context
from aiomilter.message import Message, MessageMilter
from tests.interop.rigs.sendmail import Sendmail
from tests.interop.scene import Scene
from tests.message.random_edits import edited, header_section
from tests.programs import running

pytestmark = pytest.mark.interop

MESSAGES = 150
OWN_FIELD = b"X-Site"


class SendmailWithMoreFields(Sendmail):
    """One whose configuration has more ``H`` lines: they change what a position means."""

    def _configuration(self, sink_port: int) -> bytes:
        return super()._configuration(sink_port) + b"\nH" + OWN_FIELD + b": $j\nH?x?X-Never: $j\n"


@pytest.fixture(scope="module")
def other_sendmail_rig() -> Iterator[Sendmail]:
    yield from running(SendmailWithMoreFields)


@pytest.fixture(params=["postfix", "sendmail", "other_sendmail"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    rig = request.getfixturevalue(f"{request.param}_rig")
    yield Scene(rig, "tcp")
    await rig.settled()


def fields(octets: bytes) -> list[bytes]:
    """Return the header fields of a message, those of the MTA itself left out."""
    lines: list[bytes] = []
    for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            lines[-1] += b"\r\n" + line
        else:
            lines.append(line)
    return [line for line in lines if not line.startswith((b"Received:", OWN_FIELD + b":"))]


async def test_header_edits_are_delivered_as_they_were_made(site: Scene) -> None:
    """In the middle too, with any blanks, folds and octets, whatever the configuration of Sendmail has."""
    wanted: list[bytes] = []

    class Editing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            chance = random.Random(len(wanted))
            edited(chance, message.headers)
            message.headers.append("X-Number", str(len(wanted)))
            wanted.append(message.headers.octets())

    chance = random.Random(1)
    async with site.filters(Editing), site.connect() as client:
        for _ in range(MESSAGES):
            await client.send(b"".join(header_section(chance)) + b"\r\nHello\r\n")
    delivered = {}
    for delivery in await site.deliveries():
        found = fields(delivery.content)
        delivered[int(next(line for line in found if line.startswith(b"X-Number:"))[9:])] = found

    assert len(delivered) == len(wanted) == MESSAGES
    differences = [
        (number, line, line_wanted)
        for number, found in sorted(delivered.items())
        for line, line_wanted in zip_longest(found, fields(wanted[number] + b"\r\n"))
        if line != line_wanted
    ]
    assert differences[:5] == []


EDITS: dict[str, Callable[[Message], object]] = {
    "banner": lambda message: message.banner("From outs\u00efde.", "<p>From outside.</p>"),
    "footer": lambda message: message.banner("Footer", place="bottom"),
    "replaced": lambda message: message.root.children[1].replace("a.bin was removed.", filename="a.txt"),
    "removed": lambda message: message.root.children[1].remove(),
    "renamed": lambda message: message.root.children[1].rename("gr\u00fc\u00dfe.bin"),
    "added": lambda message: message.add_part(b"\0\1" * 50_000, filename="b.bin"),
    "whole": lambda message: message.root.replace("Nothing is left."),
}


def with_attachment() -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = "alice@client.test", "bob@example.test", "hello"
    message["Date"], message["Message-ID"] = "Mon, 30 Nov 2026 12:00:00 +0000", "<1@client.test>"
    message.set_content("Gr\u00fc\u00dfe\n", cte="quoted-printable")
    message.add_alternative("<html><body>Hello</body></html>\n", subtype="html")
    message.add_attachment(bytes(range(256)) * 2000, maintype="application", subtype="octet-stream", filename="a.bin")
    return bytes(message)


async def test_edits_of_parts_are_delivered_as_they_were_made(scene: Scene) -> None:
    """One spliced body, part of it from a file."""
    wanted: list[tuple[list[bytes], bytes]] = []

    class Editing(MessageMilter):
        memory_size = 100_000

        async def message(self, ctx: Context, message: Message) -> None:
            [*EDITS.values()][len(wanted)](message)
            octets = b"".join([piece async for piece in message.octets()])
            wanted.append((fields(octets), octets.partition(b"\r\n\r\n")[2]))

    async with scene.filters(Editing), scene.connect() as client:
        for _ in EDITS:
            await client.send(with_attachment())
            await scene.rig.settled()
    delivered = [(fields(each.content), each.body) for each in await scene.deliveries()]

    assert [found for found, _ in delivered] == [found for found, _ in wanted]
    assert [body.rstrip(b"\r\n") for _, body in delivered] == [body.rstrip(b"\r\n") for _, body in wanted]


async def test_a_signature_survives_edits_above_and_below(scene: Scene) -> None:
    """DKIM made and checked by another program; a field that it covers, changed, breaks it."""
    dkim = import_module("dkim")
    rsa = import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    codes = import_module("cryptography.hazmat.primitives.serialization")
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = key.private_bytes(codes.Encoding.PEM, codes.PrivateFormat.TraditionalOpenSSL, codes.NoEncryption())
    public = key.public_key().public_bytes(codes.Encoding.DER, codes.PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    octets = with_attachment()
    head = (b"simple", b"simple")
    signature = dkim.sign(
        octets, b"s", b"client.test", private, canonicalize=head, include_headers=[b"from", b"subject"]
    )
    edits: list[Callable[[Message], object]] = [
        lambda message: None,
        lambda message: message.headers.prepend("X-Top", "1"),
        lambda message: message.headers.append("X-End", "1"),
        lambda message: message.headers.insert_before(message.headers[2], "X-Inner", "1"),
        lambda message: message.headers.set_text("Subject", "changed"),
    ]
    count = iter(edits)

    class Editing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            next(count)(message)

    async with scene.filters(Editing), scene.connect() as client:
        for _ in edits:
            await client.send(signature + octets)
            await scene.rig.settled()
    found = [dkim.verify(each.content, dnsfunc=lambda *_, **__: record) for each in await scene.deliveries()]

    assert found == [True, True, True, True, False]
