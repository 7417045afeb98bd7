"""Seals made while messages come."""

import asyncio
import time
from itertools import pairwise
from typing import Any, Final

import pytest

from aiomilter.auth import arc, dkim
from aiomilter.auth.arc import _recorded
from aiomilter.auth.arc._sealer import _with_signature
from aiomilter.auth.dkim._layout import Layout
from aiomilter.auth.results import AuthenticationResults, MethodResult, Property, forged, parse
from aiomilter.mail.headers import HeaderSection, split_message
from tests.auth.arc.made import FOUND, LIST, MESSAGE, NOW, OTHER, RSA, above, sealed, verified, with_footer
from tests.auth.dkim.made import HEADER, MESSAGES, cut, signed
from tests.auth.steps import Steps

NONE: Final = arc.Chain("none")
ID: Final = "mx.example.org"


async def seal(message: bytes, made_with: dkim.Key = LIST, **settings: Any) -> list[str]:
    """Return the fields of a set, made with a key at a time."""
    known: dict[str, Any] = {"authserv_id": ID, "chain": settings.get("chain") or await verified(message)}
    return await arc.seal(message, made_with, now=NOW, **(known | settings))


async def recorded(message: bytes, **settings: Any) -> str:
    """Return the value of ARC-Authentication-Results on one line."""
    *_, field = await seal(message, **settings)
    return " ".join(field.partition(": ")[2].split())


async def test_a_set_is_three_fields() -> None:
    """A-001, A-003, A-004, A-020."""
    fields = await seal(MESSAGE, results=FOUND)
    assert [field.partition(": ")[0] for field in fields] == [
        "ARC-Seal",
        "ARC-Message-Signature",
        "ARC-Authentication-Results",
    ]
    tags = [{tag.partition("=")[0].strip() for tag in field.partition(": ")[2].split(";")} for field in fields[:2]]
    assert tags == [{"a", "b", "cv", "d", "i", "s", "t"}, {"a", "b", "bh", "c", "d", "h", "i", "s", "t"}]
    assert "cv=none; d=lists.example.org; i=1; s=list; t=1790000000" in fields[0]
    assert fields[2] == (
        "ARC-Authentication-Results: i=1; mx.example.org;\n spf=pass smtp.mailfrom=alice@example.com;\n "
        "dmarc=pass header.from=example.com"
    )


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("made_with", [LIST, RSA], ids=lambda each: each.algorithm)
async def test_what_is_sealed_verifies(name: str, made_with: dkim.Key) -> None:
    message = above(await seal(MESSAGES[name], made_with, results=FOUND), MESSAGES[name])
    found = await verified(message, made_with)
    assert (found.result, found.problem) == ("pass", "")
    assert (await verified(with_footer(message), made_with)).result == "fail"


@pytest.mark.parametrize("size", [1, 7, 65_535])
async def test_a_seal_made_of_chunks_is_the_same(size: int) -> None:
    message = await sealed(MESSAGE, OTHER)
    chain = await verified(message)
    whole = await arc.seal(message, RSA, chain=chain, results=FOUND, now=NOW)
    for early in (True, False):
        sealing = arc.Sealer(RSA).start(*((chain, FOUND) if early else ()), now=NOW)
        for field in split_message(message)[0]:
            sealing.header(field.raw)
        sealing.end_of_headers()
        for chunk in cut(message, size):
            sealing.body(chunk)
        fields = await (sealing.finish() if early else sealing.finish(chain, FOUND))
        assert [f"{name}: {value}" for name, value in fields] == whole


async def test_signed_are_the_fields_of_the_message_and_its_dkim_signatures_and_no_others() -> None:
    """A-022."""
    message = await sealed(signed(MESSAGE, OTHER, OTHER), OTHER)
    message = b"Authentication-Results: mx.example.org; spf=pass\r\nReceived: x\r\n" + message
    _, signature, _ = await seal(message)
    names = "".join(signature.partition(" h=")[2].partition(";")[0].split()).split(":")
    assert names == ["From", "Subject", "Date", "To", "Message-ID", "DKIM-Signature", "DKIM-Signature"]
    assert set(arc.SIGN) - set(dkim.SIGN) == {"DKIM-Signature"}
    found = await verified(above(await seal(message), message))
    assert (found.result, found.instance) == ("pass", 2)


@pytest.mark.parametrize("name", ["ARC-Seal", "arc-message-signature", "Authentication-Results", "a:b", ""])
def test_some_fields_cannot_be_signed(name: str) -> None:
    """A-022."""
    with pytest.raises(ValueError, match=r"headers|name"):
        arc.Sealer(LIST, headers=["From", name])


async def test_fields_that_are_chosen_are_signed_in_their_order_and_as_often_as_they_are_there() -> None:
    _, signature, _ = await seal(b"To: x\r\n" + MESSAGE, headers=["subject", "To", "X-None", "from"])
    assert "h=subject:To:To:from;" in signature
    for headers in ((), ("X-None",)):
        message = above(await seal(MESSAGE, headers=headers), MESSAGE)
        assert (await verified(message)).result == "pass"


async def test_a_chain_that_fails_is_sealed_as_failed_over_the_own_set_alone() -> None:
    """A-020."""
    broken = with_footer(await sealed(MESSAGE, LIST))
    fields = await seal(broken, RSA)
    assert "cv=fail;" in fields[0]
    assert "i=2;" in fields[0]
    once_more = above(fields, broken)
    found = await verified(once_more)
    assert (found.result, found.sealed_as_failed) == ("fail", True)
    assert await seal(once_more, RSA) == []
    # The seal covers no field but its own, so it is the same whatever the older set is.
    changed = with_footer((await sealed(MESSAGE, OTHER)).replace(b"spf=pass", b"spf=none"))
    assert (await seal(changed, RSA))[0] == fields[0]


async def test_a_chain_that_is_not_the_one_that_was_verified_is_sealed_as_failed() -> None:
    """A-020."""
    once, twice = await sealed(MESSAGE, LIST), await sealed(MESSAGE, LIST, OTHER)
    for message, chain in ((once, NONE), (MESSAGE, await verified(once)), (twice, await verified(once))):
        fields = await seal(message, RSA, chain=chain)
        assert "cv=fail;" in fields[0]
    # Instances that were there already are not used again.
    assert "i=2;" in (await seal(MESSAGE, RSA, chain=await verified(once)))[0]


async def test_the_results_of_other_filters_here_are_recorded_with_their_comments() -> None:
    """A-021."""
    message = (
        b"Authentication-Results: MX.example.org (ours) 1;\r\n\tdkim=pass (2048-bit key; s\\)x)  header.d=a.example;\r\n"
        b" spf=pass smtp.mailfrom=alice@example.com\r\n"
        b"authentication-results: mx.example.org; none\r\n"
        b'Authentication-Results: "mx.example.org"; iprev=fail reason="a;  b" policy.iprev=192.0.2.1;;\r\n'
        b"Authentication-Results: mx.example.org; iprev=pass; dkim=pass (never closed; iprev=none\r\n"
        b"Authentication-Results: other.example.org; dkim=fail\r\n"
        b"Authentication-Results: mx.example.org.evil.example; dkim=fail\r\n" + MESSAGE
    )
    assert await recorded(message, results=FOUND) == (
        "i=1; mx.example.org; dmarc=pass header.from=example.com; dkim=pass (2048-bit key; s\\)x) header.d=a.example; "
        'spf=pass smtp.mailfrom=alice@example.com; iprev=fail reason="a; b" policy.iprev=192.0.2.1; iprev=pass'
    )
    assert await recorded(message.replace(b"fail reason", b"pass (x) reason"), results=None) == (
        "i=1; mx.example.org; dkim=pass (2048-bit key; s\\)x) header.d=a.example; spf=pass smtp.mailfrom=alice@example.com; "
        'iprev=pass (x) reason="a; b" policy.iprev=192.0.2.1; iprev=pass'
    )
    assert await recorded(MESSAGE) == "i=1; mx.example.org; none"


async def test_results_are_taken_from_forged_fields_unless_these_are_deleted() -> None:
    """A-021: the seal is of the message as it leaves."""
    message = b"Authentication-Results: mx.example.org; dmarc=pass header.from=bank.example\r\n" + MESSAGE
    section, begin = split_message(message)
    sealing = arc.Sealer(LIST, authserv_id=ID).start(NONE, now=NOW)
    for field in section:
        sealing.header(field.raw)
    sealing.end_of_headers()
    sealing.body(message[begin:])
    found = forged([(field.name, field.value) for field in section], ID)
    assert found == [1]
    sealing.delete_headers("authentication-results", [*found, 0, 7])
    sealing.insert_header("Authentication-Results", str(FOUND))
    added = (signed(MESSAGE, OTHER).partition(b"\r\nFrom:")[0]).decode().replace("\r\n", "\n").partition(": ")[2]
    sealing.insert_header("DKIM-Signature", added)
    assert [field.name for field in sealing.headers[:3]] == ["DKIM-Signature", "Authentication-Results", "From"]
    fields = await sealing.finish()
    assert "bank" not in fields[2][1]
    assert "dmarc=pass header.from=example.com" in fields[2][1]
    assert "DKIM-Signature" in fields[1][1]
    leaves = above([f"{name}: {value}" for name, value in fields] + [f"DKIM-Signature: {added}"], MESSAGE)
    assert (await verified(leaves)).result == "pass"


async def test_a_header_that_is_too_large_is_not_sealed() -> None:
    """A-024."""
    sealing = arc.Sealer(LIST, authserv_id=ID).start(NONE, max_header_size=100)
    sealing.header(b"A: " + b"b" * 100)
    sealing.end_of_headers()
    sealing.delete_headers("A", [1])
    sealing.body(b"x")
    assert await sealing.finish() == []
    assert "the header is too large: the message is not signed" in sealing.problems


async def test_more_names_than_a_signature_may_have_are_not_signed() -> None:
    """D-073."""
    message = b"To: x\r\n" * 600 + MESSAGE
    sealing = arc.Sealer(LIST, authserv_id=ID).start(NONE, now=NOW)
    sealing.headers, _ = split_message(message)
    sealing.end_of_headers()
    sealing.body(MESSAGE[len(HEADER) + 2 :])
    fields = await sealing.finish()
    assert "more than 512 fields to sign: the others are not signed" in sealing.problems
    assert (await verified(above([f"{name}: {value}" for name, value in fields], message))).result == "pass"


async def test_what_does_not_fit_is_said_to_be_missing() -> None:
    """A-021, R-008."""
    many = AuthenticationResults(
        ID, tuple(MethodResult("x", "pass", (Property("x", f"y{n}", "z" * 200),)) for n in range(99))
    )
    sealing = arc.Sealer(LIST).start(NONE, many, now=NOW)
    sealing.header(b"Authentication-Results: mx.example.org; spf=pass x.y=" + b"z" * 950)
    sealing.end_of_headers()
    *_, (_, value) = await sealing.finish()
    assert len(value) < 9_000
    assert all(len(line) < 240 for line in value.split("\n"))
    assert "more results than fit: the others are not recorded" in sealing.problems


@pytest.mark.parametrize("made_with", [LIST, RSA], ids=lambda each: each.algorithm)
async def test_no_line_is_longer_than_a_line_may_be(made_with: dkim.Key) -> None:
    """D-039."""
    long = FOUND.results[0]
    results = AuthenticationResults(ID, (long, MethodResult("x", "pass", comment="word " * 100, reason="r" * 300)))
    fields = await seal(MESSAGE, made_with, results=results)
    lines = "\n".join(fields).split("\n")
    assert max(map(len, lines)) < 998
    assert all(line.strip() for line in lines)
    assert all(not second.startswith("  ") for _, second in pairwise(lines))
    assert (await verified(above(fields, MESSAGE), made_with)).result == "pass"


def test_a_signature_that_no_line_could_hold_is_folded() -> None:
    """D-039: as of a key of 8,192 bits."""
    value = _with_signature(RSA, "A" * 1_368, Layout(""))
    assert max(map(len, value.split("\n"))) < 998
    assert "".join(value.split()).count("A") == 1_368


@pytest.mark.parametrize(
    ("authserv_id", "written"),
    [
        ("mx.example.org", "mx.example.org"),
        ("a b\r\nX: y", '"a b?X: y"'),
        ("a@b", '"a@b"'),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
    ],
)
async def test_the_name_of_this_host_stays_in_its_place(authserv_id: str, written: str) -> None:
    """R-005."""
    value = await recorded(MESSAGE, authserv_id=authserv_id)
    assert value == f"i=1; {written}; none"
    found = parse(value)
    assert found is not None
    assert found.results == ()


async def test_what_is_missing_is_an_error() -> None:
    sealing = arc.Sealer(LIST).start()
    with pytest.raises(RuntimeError, match="end_of_headers"):
        sealing.body(b"")
    with pytest.raises(RuntimeError, match="end_of_headers"):
        await sealing.finish()
    sealing.end_of_headers()
    with pytest.raises(RuntimeError, match="end_of_headers"):
        sealing.header(b"A: b\r\n")
    with pytest.raises(ValueError, match="chain"):
        await sealing.finish()
    with pytest.raises(ValueError, match="authserv-id"):
        await sealing.finish(NONE)


async def test_a_seal_is_of_now_unless_told_otherwise() -> None:
    before = int(time.time())
    fields = await arc.seal(MESSAGE, LIST, chain=NONE, authserv_id=ID)
    made = int(fields[0].rpartition("t=")[2])
    assert before <= made <= time.time()


async def test_few_of_many_fields_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A-024."""
    read: list[str] = []

    def noted(value: str) -> AuthenticationResults | None:
        read.append(value)
        return parse(value)

    monkeypatch.setattr(_recorded, "parse", noted)
    for field in (b"Authentication-Results: mx.example.org; x=y\r\n", b"Authentication-Results: mx.example.org;\r\n"):
        read.clear()
        await seal(field * 3_000 + MESSAGE)
        assert 0 < sum(map(len, read)) <= 32_768
        assert len(read) <= 101 or b"x=y" not in field


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        "Authentication-Results: mx.example.org; spf=pass x.y={}\r\n",
        "Authentication-Results: mx.example.org; ((({}\r\n",
        "Authentication-Results: {}(((((((((((\r\n",
    ],
)
def test_fields_made_to_keep_us_busy_take_steps_as_many_as_they_are(shape: str) -> None:
    async def counted(number: int) -> int:
        section = HeaderSection()
        for each in range(number):
            section.append(shape.format(each).encode())
        sealing = arc.Sealer(LIST, authserv_id=ID).start(NONE, now=NOW)
        sealing.headers = section
        with Steps() as steps:
            sealing.end_of_headers()
            sealing.delete_headers("Authentication-Results", range(1, number, 2))
            assert await sealing.finish()
        return steps.lines

    few, many = (asyncio.run(counted(number)) for number in (1_000, 2_000))
    assert many < 3 * few
