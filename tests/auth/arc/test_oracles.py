"""dkimpy and Mail::DKIM verify what we seal, and we verify what they seal, also in turn on one message.

With RSA alone: neither knows Ed25519 in ARC.
"""

import importlib.util
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter.auth import arc, dkim
from tests.auth.arc.made import MESSAGE, above
from tests.auth.dkim.made import MESSAGES, key, signed, zone
from tests.auth.dkim.oracles import Verified, asked, to_sign, to_verify
from tests.programs import lacking, needed

pytestmark = [pytest.mark.interop, pytest.mark.slow]

Judge = Callable[[Sequence[dict[str, Any]]], list[list[str]]]

ID: Final = "mx.example.org"
FIRST: Final = key("rsa", selector="first", domain="lists.example.org")
SECOND: Final = key("rsa", selector="second", domain="other.example.net")
ED: Final = key("ed25519", domain="ed.example")
RECORDS: Final = {each.name: each.record() for each in (FIRST, SECOND, ED)}
# As for DKIM: Mail::DKIM knows no body without a line end at its end.
NAMES: Final = [name for name in MESSAGES if name != "no line end"]
RESULTS: Final = b"Authentication-Results: mx.example.org; spf=pass smtp.mailfrom=alice@example.com; arc=%b\r\n"


def dkimpy(questions: Sequence[dict[str, Any]]) -> list[list[str]]:
    if importlib.util.find_spec("authres") is None:
        lacking("authres is not there: pip install 'dkimpy[ARC]'")
    return asked([sys.executable, "-W", "ignore", str(Path(__file__).parent / "dkimpy_process.py")], questions)


def mail_dkim(questions: Sequence[dict[str, Any]]) -> list[list[str]]:
    perl = needed("perl")
    needed("dkimproxy-verify", "libmail-dkim-perl")
    return asked([perl, str(Path(__file__).parent / "mail_dkim.pl")], questions)


async def verified(message: bytes) -> arc.Chain:
    return await arc.verify(message, resolver=zone(FIRST, SECOND, ED))


async def ours(message: bytes, made_with: dkim.Key) -> bytes:
    """Return a message with our seal."""
    chain = await verified(message)
    return above(await arc.seal(message, made_with, chain=chain, authserv_id=ID), message)


async def theirs(judge: Judge, message: bytes, made_with: dkim.Key) -> bytes:
    """Return a message with a seal of another program, which copies what its host found."""
    chain = await verified(message)
    # What the one before found is no word of this one.
    message = RESULTS % chain.result.encode() + re.sub(
        rb"^Authentication-Results: .*\r\n", b"", message, flags=re.MULTILINE
    )
    question = to_sign(message, made_with, "relaxed/relaxed") | {"authserv_id": ID, "chain": chain.result}
    (fields,) = judge([question])
    assert len(fields) == 3
    return above([re.sub(r"\r*\n", "\n", field.rstrip()) for field in fields], message)


async def chains() -> dict[str, tuple[bytes, str]]:
    """Return messages that we sealed, once and more often, and what their chains are worth."""
    made: dict[str, tuple[bytes, str]] = {}
    for name in NAMES:
        once = await ours(signed(MESSAGES[name], ED, now=time.time()), FIRST)
        twice = await ours(once, SECOND)
        made |= {f"{name} once": (once, "pass"), f"{name} twice": (twice, "pass")}
        made[f"{name} changed since"] = (twice + b".\r\n", "fail")
        made[f"{name} changed between"] = (await ours(RESULTS % b"pass" + twice, FIRST), "pass")
        made[f"{name} results changed"] = (twice.replace(b"i=1; mx.example.org", b"i=1; mx.example.com"), "fail")
        made[f"{name} sealed as failed"] = (await ours(twice + b".\r\n", FIRST), "fail")
    return made


@pytest.mark.parametrize("judge", [dkimpy, mail_dkim])
async def test_others_verify_what_we_seal(judge: Judge) -> None:
    made = await chains()
    assert [(await verified(message)).result for message, _ in made.values()] == [result for _, result in made.values()]
    answers = judge([to_verify(Verified(message, RECORDS)) for message, _ in made.values()])
    found = {name: answer[0] for name, answer in zip(made, answers, strict=True)}
    assert found == {name: result for name, (_, result) in made.items()}


@pytest.mark.parametrize("judge", [dkimpy, mail_dkim])
@pytest.mark.parametrize("name", ["text", "no body", "blank lines", "8-bit", "folded"])
async def test_we_verify_what_others_seal(judge: Judge, name: str) -> None:
    once = await theirs(judge, MESSAGES[name], FIRST)
    twice = await theirs(judge, once, SECOND)
    for message, result in ((once, "pass"), (twice, "pass"), (twice + b".\r\n", "fail")):
        found = await verified(message)
        assert (found.result, bool(found.problem)) == (result, result == "fail"), found
    assert (await verified(twice)).oldest_pass == 0


@pytest.mark.parametrize("order", ["dmo", "mod", "odm", "omd"])
async def test_a_chain_is_carried_on_by_others(order: str) -> None:
    """By dkimpy, Mail::DKIM and us, named by their first letters."""
    message = MESSAGE
    for letter, made_with in zip(order, (FIRST, SECOND, FIRST), strict=True):
        judge = {"d": dkimpy, "m": mail_dkim}.get(letter)
        message = await (ours(message, made_with) if judge is None else theirs(judge, message, made_with))
    found = await verified(message)
    assert (found.result, found.problem, found.oldest_pass) == ("pass", "", 0)
    assert found.sealers == (FIRST.domain, SECOND.domain, FIRST.domain)
    for judge in (dkimpy, mail_dkim):
        assert judge([to_verify(Verified(message, RECORDS))])[0][0] == "pass"
