"""``sign``: what leaves is signed as it leaves, with all keys of its author."""

import time
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter import Reply, filters
from aiomilter.auth import dkim
from aiomilter.compose import compose, edit
from aiomilter.message import Message, MessageMilter
from aiomilter.testing import session
from tests.auth.dkim.made import key, verified

RSA: Final = key(domain="corp.example")
ED: Final = key("ed25519", domain="corp.example")
MESSAGE: Final = b"From: u@corp.example\r\nTo: a@out.example\r\nSubject: x\r\n\r\nHello \r\n\r\n"


class Ring:
    """A ring of one's own: it is asked with what there is to know."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    async def keys(self, author: str, sender: str, auth: str | None) -> list[dkim.Key]:
        self.asked.append((author, sender, auth))
        return [RSA, ED] if author.endswith("@corp.example") else []


class Footer(MessageMilter):
    async def message(self, ctx: object, message: Message) -> None:
        message.headers.set_text("Subject", "[EXT] x")
        message.banner(text="A footer.")


async def sent(*members: Any, octets: bytes = MESSAGE, login: str = "u") -> Any:
    macros = {"auth_authen": login, "auth_type": "PLAIN"} if login else {}
    async with session(compose(*members), macros=macros) as s:
        await s.send(b"From: other@corp.example\r\n\r\nAnother message\r\n", "u@corp.example", "a@out.example")
        return await s.send(octets, "u@corp.example", "a@out.example")


async def test_all_keys_sign_what_leaves() -> None:
    ring = Ring()
    found = await sent(filters.Sign(keys=ring))
    assert await verified(found.octets, RSA, ED, now=time.time()) == ["pass", "pass"]
    assert ring.asked[1] == ("u@corp.example", "u@corp.example", "u")
    assert found.octets.startswith(b"DKIM-Signature: ")


async def test_edits_before_it_are_signed() -> None:
    found = await sent(Footer, filters.Sign(keys=Ring()))
    assert b"A footer." in found.octets
    assert await verified(found.octets, RSA, ED, now=time.time()) == ["pass", "pass"]


async def test_missing_fields_are_added_and_signed() -> None:
    found = await sent(filters.Sign(keys=Ring()))
    assert found.octets.count(b"\r\nDate: ") == found.octets.count(b"\r\nMessage-ID: <") == 1
    assert b":Date:" in found.octets.replace(b"\r\n ", b"").replace(b"\r\n\t", b"")
    without = await sent(filters.Sign(keys=Ring(), add_missing=()))
    assert b"\r\nDate: " not in without.octets


@pytest.mark.parametrize(("mismatch", "code"), [("note", None), ("reject", 550), ("tempfail", 451)])
async def test_mail_without_a_key_leaves_or_not_as_is_set(mismatch: Any, code: int | None) -> None:
    octets = MESSAGE.replace(b"From: u@corp", b"From: u@other")
    found = await sent(filters.Sign(keys=Ring(), mismatch=mismatch), octets=octets)
    if code is None:
        assert found.octets == octets
    else:
        assert isinstance(found.answer, Reply)
        assert found.answer.code == code


async def test_who_is_not_to_be_signed_for_is_not() -> None:
    signing = edit(filters.Sign(keys=Ring()), when="authenticated")
    assert b"DKIM-Signature" in (await sent(signing)).octets
    found = await sent(signing, login="")
    assert found.passed
    assert b"DKIM-Signature" not in found.octets


async def test_keys_are_read_from_a_file_once(tmp_path: Path) -> None:
    pem = tmp_path / "s1.pem"
    pem.touch(0o600)
    pem.write_bytes(ED.private.pem())
    (tmp_path / "keys.toml").write_text('[keys."corp.example"]\nfiles = ["s1.pem"]\n')
    site = filters.Site()
    assert site.key_ring(tmp_path / "keys.toml") is site.key_ring(str(tmp_path / "keys.toml"))
    found = await sent(filters.Sign(keys=tmp_path / "keys.toml"))
    assert b"s=s1;" in found.octets
    table = await sent(filters.Sign(keys={"corp.example": {"selector": "s2", "key": str(pem)}}))  # type: ignore[dict-item]
    assert b"s=s2;" in table.octets


async def test_a_signature_expires_where_that_is_set() -> None:
    found = await sent(filters.Sign(keys=Ring(), expire="2 d"))
    assert b" x=" in found.octets
