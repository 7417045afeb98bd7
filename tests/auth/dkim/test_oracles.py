"""OpenDKIM, Mail::DKIM and dkimpy verify what we sign, and we verify what they sign."""

import itertools
import random
import re
import time
from pathlib import Path
from typing import Final

import pytest

from aiomilter.auth import dkim
from tests.auth.dkim.made import HEADER, MESSAGES, key, signed, verified
from tests.auth.dkim.oracles import (
    Verified,
    dkimpy,
    mail_dkim,
    opendkim_signs,
    opendkim_verifies,
    to_sign,
    to_verify,
)

pytestmark = pytest.mark.interop

FORMS: Final = [f"{header}/{body}" for header in ("simple", "relaxed") for body in ("simple", "relaxed")]
KEYS: Final = (key("rsa"), key("ed25519"))
RECORDS: Final = {each.name: each.record() for each in KEYS}
# A body ends in a line end when it has come over SMTP; Mail::DKIM and OpenDKIM know no other.
NAMES: Final = [name for name in MESSAGES if name != "no line end"]
CASES: Final = list(itertools.product(FORMS, NAMES))


def without_blanks(message: bytes) -> bytes:
    """Return a message without the blanks at the ends of header lines, which OpenDKIM leaves out when it reads a file."""
    found = message.replace(b"Subject:\r\n ", b"Subject:").replace(b"Subject:   Minutes", b"Subject: Minutes")
    return found.replace(b"meeting \r\n", b"meeting\r\n")


def ours(*, plain: bool = False) -> list[Verified]:
    """Return each message, signed with both keys in every form; and then each with one line more."""
    # OpenDKIM has a clock of its own.
    now = time.time()
    made = []
    for form, name in CASES:
        message = without_blanks(MESSAGES[name]) if plain else MESSAGES[name]
        made.append(signed(message, *KEYS, options=dkim.Options(canonicalization=form), now=now))
    return [Verified(message, RECORDS) for message in (*made, *(message + b".\r\n" for message in made))]


EXPECTED: Final = [["pass", "pass"]] * len(CASES) + [["fail", "fail"]] * len(CASES)


@pytest.mark.slow
def test_opendkim_verifies_what_we_sign(tmp_path: Path) -> None:
    assert opendkim_verifies(tmp_path, ours(plain=True)) == EXPECTED


@pytest.mark.slow
def test_mail_dkim_verifies_what_we_sign() -> None:
    """Debian's is of a time before Ed25519."""
    found = mail_dkim([to_verify(each) for each in ours()])
    assert found == [[rsa, "invalid"] for rsa, _ in EXPECTED]


@pytest.mark.slow
def test_dkimpy_verifies_what_we_sign() -> None:
    found = dkimpy([to_verify(each) for each in ours()])
    assert [["pass" if result == "pass" else "fail" for result in results] for results in found] == EXPECTED


async def wrong(fields: list[list[str]], cases: list[tuple[str, str, dkim.Key]], *, plain: bool = False) -> list[str]:
    """Return which of the signatures that others made we do not verify."""
    found = []
    now = time.time()
    for (form, name, made_with), (field,) in zip(cases, fields, strict=True):
        octets = re.sub(rb"\r*\n", b"\r\n", field.encode().rstrip()) + b"\r\n"
        original = without_blanks(MESSAGES[name]) if plain else MESSAGES[name]
        for message, result in ((original, ["pass"]), (original + b".\r\n", ["fail"])):
            if await verified(octets + message, *KEYS, now=now) != result:
                found.append(f"{form} {name} {made_with.algorithm}: not {result}")
    return found


SIGNED: Final = [(form, name, made_with) for form, name in CASES for made_with in KEYS]


@pytest.mark.slow
async def test_we_verify_what_mail_dkim_signs() -> None:
    cases = [case for case in SIGNED if case[2] is KEYS[0]]
    questions = [to_sign(MESSAGES[name], made_with, form) for form, name, made_with in cases]
    assert await wrong(mail_dkim(questions), cases) == []


@pytest.mark.slow
async def test_we_verify_what_dkimpy_signs() -> None:
    questions = [to_sign(MESSAGES[name], made_with, form) for form, name, made_with in SIGNED]
    assert await wrong(dkimpy(questions), SIGNED) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
async def test_we_verify_what_opendkim_signs(form: str, tmp_path: Path) -> None:
    made_with = KEYS[0]
    (tmp_path / "key.pem").write_bytes(made_with.private.pem())
    settings = [
        f"Domain {made_with.domain}",
        f"Selector {made_with.selector}",
        "KeyFile key.pem",
        f"Canonicalization {form}",
    ]
    found = opendkim_signs(tmp_path, [without_blanks(MESSAGES[name]) for name in NAMES], *settings)
    assert await wrong(found, [(form, name, made_with) for name in NAMES], plain=True) == []


def odd(number: int) -> bytes:
    """Return a message made by chance: folds, runs of blanks, lines of blanks, names in any letter case."""
    chance = random.Random(number)

    def some(*parts: bytes, most: int) -> bytes:
        return b"".join(chance.choices(parts, k=chance.randrange(most)))

    names = chance.choices([b"Subject", b"TO", b"cc", b"X-Odd", b"Reply-To"], k=chance.randrange(6))
    values = [some(b"a", b"B;", b" ", b"  ", b"\t", b"\r\n x", b"\xc3\xa9", b":", most=9) for _ in names]
    fields = [name + b":" + value + b"\r\n" for name, value in zip(names, values, strict=True)]
    body = some(b"a", b".", b" ", b"  ", b"\t", b"\r\n", b"\r\n\r\n", b" \r\n", b"\xff", most=20)
    return HEADER + b"".join(fields) + b"\r\n" + body + b"\r\n"


@pytest.mark.slow
def test_odd_messages_verify_as_well() -> None:
    made = []
    for number in range(200):
        options = dkim.Options(canonicalization=FORMS[number % 4], headers=[*dkim.SIGN, "X-Odd"])
        made.append(to_verify(Verified(signed(odd(number), KEYS[0], options=options, now=time.time()), RECORDS)))
    assert mail_dkim(made) == [["pass"]] * 200
    assert dkimpy(made) == [["pass"]] * 200
