"""Signatures hold behind real MTAs: what we sign there others verify, and what comes in signed we verify there."""

from pathlib import Path
from typing import Final

import pytest

from aiomilter import Context, EndOfMessageContext, Header, Milter, no_reply
from aiomilter.auth import dkim
from tests.auth.dkim.made import key, signed, zone
from tests.auth.dkim.oracles import Verified, dkimpy, mail_dkim, opendkim_verifies, to_verify
from tests.interop.client import accepted
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop

KEYS: Final = (key("rsa"), key("ed25519"))
RECORDS: Final = {each.name: each.record() for each in KEYS}
MESSAGE: Final = (
    b"From: Alice <alice@example.com>\r\n"
    b"To:bob@example.net\r\n"
    b"Cc:\tcarol@example.net,\r\n  dave@example.net\r\n"
    b"Subject:  Minutes of the\r\n\t meeting \r\n"
    b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b"Hello  Bob,\r\n.\r\n..\r\n \tcaf\xc3\xa9 \t\r\n\r\n\r\n"
)


# Sendmail writes lists of addresses anew, whatever filters have signed.
ONE_ADDRESS: Final = MESSAGE.replace(b"Cc:\tcarol@example.net,\r\n  dave@example.net", b"Cc: carol@example.net")


class Signing(Milter):
    """Signs each message with both keys."""

    leading_space = True

    def __init__(self, form: str) -> None:
        self.options = dkim.Options(canonicalization=form)

    async def data(self, ctx: Context) -> None:
        ctx.notes["signing"] = dkim.Signer(KEYS, self.options).start()

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        ctx.notes["signing"].header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        ctx.notes["signing"].end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["signing"].body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        for value in await ctx.notes["signing"].finish():
            ctx.insert_header("DKIM-Signature", value)


@pytest.mark.parametrize("form", ["simple/simple", "relaxed/relaxed"])
async def test_what_is_signed_in_an_mta_verifies_where_it_is_delivered(form: str, scene: Scene, tmp_path: Path) -> None:
    """D-080, D-088, D-089."""
    exact = form == "relaxed/relaxed" or scene.name == "postfix"
    async with scene.filters(lambda: Signing(form)), scene.connect() as client:
        replies = await client.send(MESSAGE if exact else ONE_ADDRESS)
    assert accepted(replies["."]), replies
    (delivery,) = await scene.deliveries()

    found = await dkim.verify(delivery.content, resolver=zone(*KEYS))
    assert [(each.result, each.problem) for each in found] == [("pass", ""), ("pass", "")]
    question = to_verify(Verified(delivery.content, RECORDS))
    assert dkimpy([question]) == [["pass", "pass"]]
    # Debian's is of a time before Ed25519.
    assert sorted(mail_dkim([question])[0]) == ["invalid", "pass"]
    # It leaves blanks out when it reads a file.
    if form == "relaxed/relaxed":
        assert opendkim_verifies(tmp_path, [Verified(delivery.content, RECORDS)]) == [["pass", "pass"]]


class Verifying(Milter):
    """Verifies each message."""

    def __init__(self, found: list[dkim.Signature]) -> None:
        self.found = found

    async def data(self, ctx: Context) -> None:
        ctx.notes["verifier"] = dkim.Verifier(zone(*KEYS), leading_space=self.leading_space)
        ctx.on_end(ctx.notes["verifier"].cancel)

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        ctx.notes["verifier"].header(header.raw)

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        ctx.notes["verifier"].end_of_headers()

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        ctx.notes["verifier"].body(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        self.found += await ctx.notes["verifier"].finish()


class VerifyingExactly(Verifying):
    """Verifies each message with the octets of its header."""

    leading_space = True


@pytest.mark.parametrize(
    ("kind", "form", "result"),
    [
        (VerifyingExactly, "simple/simple", "pass"),
        (VerifyingExactly, "relaxed/relaxed", "pass"),
        (Verifying, "relaxed/relaxed", "pass"),
        # To has no blank behind its colon, and nobody tells the filter so.
        (Verifying, "simple/simple", "neutral"),
    ],
)
async def test_what_comes_in_signed_verifies_in_an_mta(
    kind: type[Verifying], form: str, result: str, postfix: Scene
) -> None:
    """D-080, D-084."""
    found: list[dkim.Signature] = []
    message = signed(MESSAGE, *KEYS, options=dkim.Options(canonicalization=form))
    async with postfix.filters(lambda: kind(found)), postfix.connect() as client:
        assert accepted((await client.send(message))["."])
    await postfix.deliveries()

    assert [each.result for each in found] == [result, result]
    assert {each.approximate for each in found} == {kind is Verifying and form == "simple/simple"}
