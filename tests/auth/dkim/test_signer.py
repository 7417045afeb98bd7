import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth import dkim
from aiomilter.auth.dkim import _signer
from aiomilter.auth.dkim._layout import Layout
from aiomilter.auth.dkim._problems import Problems
from aiomilter.mail.headers import split_message
from tests.auth.dkim.made import HEADER, MESSAGE, MESSAGES, NOW, cut, key, signed, verified

RSA, ED = key("rsa"), key("ed25519")


async def started(message: bytes, *keys: dkim.Key, size: int = 1000, **kwargs: Any) -> tuple[list[str], dkim.Signing]:
    """Sign a message that streams; return the values, and what was signed."""
    options = dkim.Options(**{name: kwargs.pop(name) for name in list(kwargs) if name in dkim.Options.__slots__})
    signing = dkim.Signer(keys or [RSA], options).start(now=NOW, **kwargs)
    section, _ = split_message(message)
    for field in section:
        signing.header(field.raw)
    signing.end_of_headers()
    for chunk in cut(message, size):
        signing.body(chunk)
    return await signing.finish(), signing


def tags(value: str) -> dict[str, str]:
    return {name: re.sub(r"\s", "", text) for name, text in re.findall(r"(\w+)=([^;]*)", value)}


async def test_a_signature_has_its_tags() -> None:
    """D-035, D-037, D-038."""
    (value,), signing = await started(MESSAGE)
    found = tags(value)
    assert list(found) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert found["c"] == "relaxed/relaxed"
    assert found["t"] == str(NOW)
    assert found["h"] == (
        "From:From:Reply-To:Subject:Subject:Date:To:To:Cc:MIME-Version:Content-Type:Content-Transfer-Encoding:Message-ID"
    )
    assert signing.problems == ()


async def test_a_signature_may_end() -> None:
    (value,), _ = await started(MESSAGE, expire=60)
    assert tags(value)["x"] == str(NOW + 60)


async def test_an_identity_is_named_where_it_is_asked_for() -> None:
    named = dkim.Key("example.com", "s", RSA.private, identity="a b@news.example.com")
    (value,), _ = await started(MESSAGE, named)
    assert tags(value)["i"] == "a=20b@news.example.com"


@pytest.mark.parametrize("size", [1, 7, 65_535])
async def test_several_keys_sign_one_message_as_it_streams(size: int) -> None:
    values, _ = await started(MESSAGE, RSA, ED, size=size)
    assert [tags(value)["a"] for value in values] == ["rsa-sha256", "ed25519-sha256"]
    fields = "".join(f"DKIM-Signature: {value}\n" for value in values).replace("\n", "\r\n").encode()
    assert await verified(fields + MESSAGE, RSA, ED) == ["pass", "pass"]


@pytest.mark.parametrize(
    "form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "simple", "relaxed"]
)
async def test_every_message_verifies_in_every_form(form: str) -> None:
    for name, message in MESSAGES.items():
        assert await verified(signed(message, RSA, ED, options=dkim.Options(canonicalization=form)), RSA, ED) == [
            "pass",
            "pass",
        ], name


@pytest.mark.parametrize(
    "added", [b"From: x@example.net", b"Cc: x@example.net", b"Subject: x", b"Content-Type: text/html"]
)
async def test_a_field_added_later_breaks_the_signature(added: bytes) -> None:
    """D-032, D-037: one more, or one where there was none."""
    message = signed(MESSAGE, ED)
    assert await verified(added + b"\r\n" + message, ED) == ["fail"]
    assert await verified(message.replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n\r\n", 1), ED) == ["fail"]


@pytest.mark.parametrize(
    "added", [b"Received: by x", b"X-Spam-Flag: NO", b"Date: today", b"Authentication-Results: x; none"]
)
async def test_a_field_of_the_way_may_be_added(added: bytes) -> None:
    """D-036, D-087: where Date is absent it is not named, so that an MTA may add it."""
    message = signed(MESSAGE.replace(b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\n", b""), ED)
    assert await verified(added + b"\r\n" + message, ED) == ["pass"]


PROBLEMS = [
    (MESSAGE, []),
    (MESSAGE.replace(b"Date:", b"X-Date:"), ["there is no Date field"]),
    (b"\r\nx", ["there is no From field", "there is no Date field", "there is no Message-ID field"]),
    (HEADER + b"\r\n" + b"x" * 998 + b"\r\n", []),
    (HEADER + b"\r\n" + b"x" * 999 + b"\r\n", ["a line of the body has more than 998 octets"]),
    (HEADER + b"\r\n" + b"x" * 998 + b"\r\n" + b"x" * 999 + b"\r\n", ["a line of the body has more than 998 octets"]),
    (
        HEADER + b"References: " + b"x" * 987 + b"\r\n\r\nx",
        ["a line of the field 'references' has more than 998 octets"],
    ),
    (HEADER + b"References: " + b"x" * 986 + b"\r\n " + b"x" * 997 + b"\r\n\r\nx", []),
    (HEADER + b"\r\ncaf\xc3\xa9", ["the body has 8-bit octets that Content-Transfer-Encoding does not declare"]),
    (HEADER + b"Content-Transfer-Encoding: 8BIT\r\n\r\ncaf\xc3\xa9", []),
]


@pytest.mark.parametrize("size", [1, 7, 997, 65_535])
@pytest.mark.parametrize(("message", "problems"), PROBLEMS)
async def test_what_may_break_a_signature_is_said(message: bytes, problems: list[str], size: int) -> None:
    """D-085, D-086, D-087."""
    _, signing = await started(message, ED, size=size)
    assert len(signing.problems) == len(problems)
    assert all(found.startswith(problem) for found, problem in zip(signing.problems, problems, strict=True))


@given(st.lists(st.integers(0, 1100), max_size=6), st.lists(st.integers(1, 2100), max_size=6))
def test_long_lines_are_found_in_any_split(lines: list[int], sizes: list[int]) -> None:
    body = b"".join(b"x" * length + b"\r\n" for length in lines)
    problems = Problems()
    at = 0
    for size in [*sizes, len(body)]:
        problems.body(body[at : at + size])
        at += size
    assert bool(problems.found()) == any(length > 998 for length in lines)


async def test_without_the_leading_space_the_header_is_signed_relaxed() -> None:
    """D-080."""
    (value,), signing = await started(MESSAGE, canonicalization="simple/simple", leading_space=False)
    assert tags(value)["c"] == "relaxed/simple"
    assert signing.problems == ("the header's octets are not known exactly: it is signed relaxed",)


async def test_a_header_that_is_too_large_is_not_signed() -> None:
    """D-074."""
    values, signing = await started(MESSAGE, max_fields=2)
    assert values == []
    assert "the header is too large: the message is not signed" in signing.problems


async def test_more_fields_than_a_verifier_takes_are_not_named() -> None:
    """D-073."""
    message = b"To: x\r\n" * 600 + MESSAGE
    values, signing = await started(message, ED)
    assert signing.problems == ("more than 512 fields to sign: the others are not signed",)
    assert await verified(f"DKIM-Signature: {values[0]}\n".replace("\n", "\r\n").encode() + message, ED) == ["pass"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"canonicalization": "strict"}, "canonicalization: expected simple or relaxed"),
    ({"expire": 0}, "expire: expected seconds above 0, found 0"),
    ({"headers": ["To"], "oversign": []}, "headers: From has to be signed"),
    ({"headers": ["From", "Received"]}, "headers: received changes on its way"),
    ({"headers": ["From", "ARC-Seal"]}, "headers: arc-seal changes on its way"),
    ({"oversign": ["From", "X-Spam-Flag"]}, "headers: x-spam-flag changes on its way"),
    ({"headers": ["From", "To:Cc"]}, "expected the name of a header field"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    """D-036."""
    with pytest.raises(ValueError, match=message):
        dkim.Options(**options)


def test_a_signer_needs_a_key() -> None:
    with pytest.raises(ValueError, match="expected a key"):
        dkim.Signer([])


async def test_calls_out_of_order_are_refused() -> None:
    signing = dkim.Signer(ED).start()
    with pytest.raises(RuntimeError, match="expected end_of_headers"):
        signing.body(b"x")
    with pytest.raises(RuntimeError, match="expected end_of_headers"):
        await signing.finish()
    signing.end_of_headers()
    with pytest.raises(RuntimeError, match="expected header"):
        signing.header(b"A: b\r\n")


@pytest.mark.slow
async def test_long_signing_is_done_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """D-076: more than 2,048 bits, and the fifth of one turn of the loop."""
    threads = 0

    async def counted(function: Any) -> Any:
        nonlocal threads
        threads += 1
        return function()

    monkeypatch.setattr(_signer, "in_thread", counted)
    await started(MESSAGE, ED, *[RSA] * 4)
    assert threads == 0
    await asyncio.sleep(0)
    await started(MESSAGE, *[RSA] * 6)
    assert threads == 2
    await asyncio.sleep(0)
    await started(MESSAGE, key("rsa", 3072))
    assert threads == 3


NAMES = st.lists(st.text("abc-", min_size=1, max_size=30), min_size=1, max_size=30)


@given(NAMES, st.text("x", max_size=400), st.lists(st.text("w", min_size=1, max_size=100), max_size=5))
def test_a_field_is_folded_and_can_be_read_again(names: list[str], base64: str, words: list[str]) -> None:
    """D-039."""
    layout = Layout("DKIM-Signature")
    for word in words:
        layout.word(f"{word};")
    layout.names("h", names)
    layout.word("b=")
    layout.base64(base64)
    lines = f"DKIM-Signature: {layout}".split("\n")
    longest = max(map(len, (*words, *names)))
    assert all(len(line) <= max(76, longest + 5) for line in lines)
    assert all(line.strip() and line[0] == " " for line in lines[1:])
    assert "".join("".join(lines).split()) == "DKIM-Signature:" + "".join(f"{word};" for word in words) + (
        "h=" + ":".join(names) + ";b=" + base64
    )
