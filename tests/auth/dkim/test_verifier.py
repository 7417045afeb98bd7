import asyncio
import re
import tracemalloc
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth import dkim
from aiomilter.auth.dkim import _crypto
from aiomilter.auth.results import MethodResult, Property
from aiomilter.dns import Answer, RdType
from aiomilter.exceptions import ResolverFailure
from aiomilter.mail.headers import Field, split_message
from aiomilter.testing.resolver import HANG, TIMEOUT, ZoneResolver
from tests.auth.dkim.made import HEADER, MESSAGE, NOW, cut, key, signed, verified, zone

RSA, ED = key("rsa"), key("ed25519")
SIGNED = signed(MESSAGE, RSA, ED)


async def judged(message: bytes, resolver: Any = None, **kwargs: Any) -> tuple[dkim.Signature, ...]:
    return await dkim.verify(message, resolver=resolver or zone(RSA, ED), now=NOW, **kwargs)


async def test_a_signature_says_what_it_covers() -> None:
    first, second = await judged(SIGNED)
    assert first.result == second.result == "pass"
    assert first.problem == ""
    assert (first.domain, first.selector, first.identity) == ("example.com", "rsa2048", "@example.com")
    assert (first.algorithm, first.key_bits, first.canonicalization) == ("rsa-sha256", 2048, "relaxed/relaxed")
    assert first.signed_fields[:4] == ("from", "from", "reply-to", "subject")
    assert (first.body_length, first.timestamp, first.expiration, first.testing) == (None, NOW, None, False)
    assert first.aligned_identifier == "example.com"
    assert second.algorithm == "ed25519-sha256"
    assert first.method_result() == MethodResult(
        "dkim",
        "pass",
        (
            Property("header", "d", "example.com"),
            Property("header", "i", "@example.com"),
            Property("header", "s", "rsa2048"),
            Property("header", "a", "rsa-sha256"),
            Property("header", "b", first.value[:8]),
        ),
        comment="2048-bit key",
    )


async def test_only_what_passes_gives_an_identifier() -> None:
    (failed, _) = await judged(SIGNED + b"x")
    assert (failed.result, failed.problem, failed.aligned_identifier) == ("fail", "the body was changed", None)
    assert failed.method_result().reason == "the body was changed"


async def test_an_unsigned_message_has_one_result() -> None:
    """D-061."""
    assert await judged(MESSAGE) == ()
    assert dkim.method_results(()) == (MethodResult("dkim", "none"),)


def test_as_much_of_a_signature_is_shown_as_tells_it_from_the_others() -> None:
    """RFC 6008 section 4."""
    made = [dkim.Signature("pass", value=value) for value in ("abcdefghijkl", "abcdefghijklmn", "other")]
    shown = [result.properties[-1].value for result in dkim.method_results(made)]
    assert shown == ["abcdefghijkl", "abcdefghijklmn", "other"]
    same = [dkim.Signature("pass", value="abcdefghijkl")] * 2
    assert [result.properties[-1].value for result in dkim.method_results(same)] == ["abcdefgh"] * 2


@pytest.mark.parametrize("size", [1, 7, 65_535])
async def test_a_message_is_verified_as_it_streams(size: int) -> None:
    verifier = dkim.Verifier(zone(RSA, ED), now=NOW)
    for line in re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", SIGNED.partition(b"\r\n\r\n")[0] + b"\r\n"):
        verifier.header(line)
    verifier.end_of_headers()
    for chunk in cut(SIGNED, size):
        verifier.body(chunk)
    assert [each.result for each in await verifier.finish()] == ["pass", "pass"]


async def test_calls_out_of_order_are_refused() -> None:
    verifier = dkim.Verifier(zone())
    with pytest.raises(RuntimeError, match="expected end_of_headers"):
        verifier.body(b"x")
    with pytest.raises(RuntimeError, match="expected end_of_headers"):
        await verifier.finish()
    verifier.end_of_headers()
    with pytest.raises(RuntimeError, match="expected header"):
        verifier.header(b"A: b\r\n")


def tagged(**tags: str | None) -> bytes:
    """Return a signed message whose first signature has other tags, unverifiable by its crypto."""
    found = dict(re.findall(r"(\w+)=([^;]*)", signed(MESSAGE, RSA).partition(b"From: A")[0].decode()[16:]))
    found.update({name: value for name, value in tags.items() if value is not None})
    for name, value in tags.items():
        if value is None:
            del found[name]
    text = "; ".join(f"{name}={value.strip()}" for name, value in found.items())
    return f"DKIM-Signature: {text}\r\n".encode() + MESSAGE


CLAIMS: list[tuple[dict[str, str | None], str, str]] = [
    ({"v": "2"}, "neutral", "the signature is not of version 1"),
    ({"a": "rsa-md5"}, "neutral", "the signature's algorithm is unknown"),
    ({"a": "RSA-SHA256"}, "neutral", "the signature's algorithm is unknown"),
    ({"a": "rsa-sha1"}, "policy", "the signature is made with SHA-1"),
    ({"c": "relaxed/"}, "neutral", "the signature's canonicalization is unknown"),
    ({"c": "relaxed/relaxed/relaxed"}, "neutral", "the signature's canonicalization is unknown"),
    ({"q": "dns/other"}, "neutral", "the signature's key is not in DNS (q=)"),
    ({"b": "!"}, "neutral", "the signature is not base64"),
    ({"bh": "YQ"}, "neutral", "the signature is not base64"),
    ({"d": "exa mple.com"}, "neutral", "the signature's d= or s= is not a domain name"),
    ({"d": "a" * 64 + ".com"}, "neutral", "the signature's d= or s= is not a domain name"),
    ({"d": ".".join(["a" * 60] * 5)}, "neutral", "the signature's d= or s= is not a domain name"),
    ({"s": "a..b"}, "neutral", "the signature's d= or s= is not a domain name"),
    ({"s": None}, "neutral", "the signature has no s="),
    ({"i": "alice"}, "neutral", "the signature's i= is not an address"),
    ({"i": "alice@example.net"}, "permerror", "the signature's i= is not in its d="),
    ({"i": "alice@badexample.com"}, "permerror", "the signature's i= is not in its d="),
    ({"h": "to"}, "permerror", "the From field is not signed"),
    ({"h": ":".join(["from"] * 513)}, "neutral", "the signature names more than 512 fields"),
    ({"l": "-1"}, "neutral", "the signature's l= is not a number"),
    ({"l": "1" * 77}, "neutral", "the signature's l= is not a number"),
    ({"l": "1" * 76}, "fail", "the body is shorter than l= says"),
    ({"t": "now"}, "neutral", "the signature's t= is not a number"),
    ({"t": "9" * 5_000}, "fail", "the signature was made in the future"),
    ({"t": str(NOW + 301)}, "fail", "the signature was made in the future"),
    ({"x": "1e9"}, "neutral", "the signature's x= is not a number"),
    ({"x": str(NOW)}, "neutral", "the signature's x= is not after its t="),
    ({"t": "1", "x": str(NOW - 61)}, "fail", "the signature has expired"),
    ({"x": "9" * 5_000}, "fail", "the signature does not match the header"),
    ({"t": "1", "x": str(NOW - 60)}, "fail", "the signature does not match the header"),
    ({"t": str(NOW + 300)}, "fail", "the signature does not match the header"),
    ({"zz": "x"}, "fail", "the signature does not match the header"),
    ({"z": "|" * 20_000}, "neutral", "the signature is not a tag list, or is too large"),
]


@pytest.mark.parametrize(("tags", "result", "problem"), CLAIMS)
async def test_what_is_wrong_with_a_signature_is_said(tags: dict[str, str | None], result: str, problem: str) -> None:
    """D-012 to D-017, D-042, D-050, D-051, D-053, D-072, D-073."""
    (found,) = await judged(tagged(**tags))
    assert (found.result, found.problem) == (result, problem)
    assert isinstance(str(found.method_result()), str)


async def test_a_signature_of_the_future_may_be_taken() -> None:
    message = signed(MESSAGE, RSA, now=NOW + 1_000)
    (found,) = await judged(message)
    assert found.result == "fail"
    (found,) = await judged(message, policy=dkim.Policy(allow_future=True))
    assert found.result == "pass"


RECORDS = [
    ("p=", "permerror", "the key is revoked"),
    ("v=DKIM1; k=dsa; p=YQ==", "permerror", "the key is of an unknown type"),
    ("v=DKIM1; k=ed25519; p=" + b64encode(bytes(32)).decode(), "permerror", "the key is not of the type rsa"),
    (
        "v=DKIM1; k=ed25519; p=YQ==",
        "permerror",
        "the key cannot be used: expected an Ed25519 key of 32 octets, found 1",
    ),
    ("v=DKIM1; p=!", "permerror", "the key is not base64"),
    ("v=DKIM1; p=YQ==", "permerror", "the key cannot be used: not an RSA key"),
    ("v=DKIM1; k=rsa", "permerror", "the key record has no p="),
    ("v=spf1 -all", "permerror", "there is no key record"),
    ("hello", "permerror", "there is no key record"),
    ("v=DKIM1; n=" + "x" * 4_096, "permerror", "the key record has more than 4096 octets"),
    (RSA.record() + "; s=other", "permerror", "the key is not for email"),
    (RSA.record() + "; h=sha1:md5", "permerror", "the key is not for sha256"),
    (RSA.record() + "; h=sha1 : sha256", "pass", ""),
    (RSA.record() + "; t=s:y; g=nobody; n=a note", "pass", ""),
    (key("rsa", selector="other").record(), "fail", "the signature does not match the header"),
]


@pytest.mark.parametrize(("record", "result", "problem"), RECORDS)
async def test_what_is_wrong_with_a_key_is_said(record: str, result: str, problem: str) -> None:
    """D-100 to D-111."""
    (found,) = await judged(signed(MESSAGE, RSA), ZoneResolver({RSA.name: {"TXT": record}}))
    assert (found.result, found.problem) == (result, problem)
    assert found.testing == ("t=s:y" in record)


async def test_of_several_keys_one_that_fits_is_enough() -> None:
    """D-102."""
    others = ["v=spf1 -all", "hello", key("rsa", selector="other").record(), "v=DKIM1; p="]
    (found,) = await judged(signed(MESSAGE, RSA), ZoneResolver({RSA.name: {"TXT": [*others, RSA.record()]}}))
    assert found.result == "pass"
    # The fourth is not tried.
    (found,) = await judged(
        signed(MESSAGE, RSA), ZoneResolver({RSA.name: {"TXT": [*others, "v=DKIM1; p=", RSA.record()]}})
    )
    assert (found.result, found.problem) == ("fail", "the signature does not match the header")


async def test_large_keys_and_odd_exponents_are_refused() -> None:
    """D-105."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    modulus = (1 << 8_200) + 1
    for exponent, number in ((65_537, modulus), ((1 << 65) + 1, (1 << 2_047) + 1)):
        octets = RSAPublicNumbers(exponent, number).public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        assert isinstance(_crypto.load_public("rsa", octets), str)


async def test_dns_is_asked_once_a_key_and_at_most_ten_times() -> None:
    """D-070."""
    keys = [key("ed25519", selector=f"s{number}") for number in range(12)]
    message = signed(MESSAGE, *keys, *keys)
    resolver = zone(*keys)
    found = await judged(message, resolver, policy=dkim.Policy(max_signatures=50))
    assert len(resolver.queries) == 10
    assert [each.result for each in found] == [*["pass"] * 10, "policy", "policy"] * 2
    assert found[10].problem == "too many different keys"


async def test_the_topmost_signatures_are_looked_at() -> None:
    """D-070."""
    found = await judged(signed(MESSAGE, *[ED] * 12))
    assert [(each.result, each.problem) for each in found[9:]] == [
        ("pass", ""),
        ("policy", "too many signatures"),
        ("policy", "too many signatures"),
    ]


async def test_a_body_is_hashed_in_few_ways() -> None:
    """D-071."""
    messages = b"".join(tagged(l=str(length)).partition(b"From: A")[0] for length in range(5))
    found = await judged(messages + MESSAGE, policy=dkim.Policy(allow_length=True))
    assert [each.problem for each in found[3:]] == ["too many different hashes of the body"] * 2


async def test_a_header_that_is_too_large_is_no_verdict() -> None:
    """D-074."""
    verifier = dkim.Verifier(zone(), max_header_size=100)
    verifier.header(b"A: " + b"b" * 100)
    verifier.header(b"From: a@example.com\r\n")
    verifier.end_of_headers()
    verifier.body(b"x")
    (found,) = await verifier.finish()
    assert (found.result, found.problem) == ("temperror", "the header is too large")


async def test_fields_that_stand_twice_are_named() -> None:
    """D-062."""
    (found,) = await judged(b"From: mallory@example.net\r\nX: 1\r\nX: 2\r\nto: x\r\n" + signed(MESSAGE, ED))
    assert found.duplicates == ("from", "to")
    (found,) = await judged(signed(MESSAGE, ED))
    assert found.duplicates == ()


async def test_without_the_leading_space_a_simple_header_is_approximate() -> None:
    """D-080."""
    for message, form, result in (
        (MESSAGE, "simple/simple", "pass"),
        (MESSAGE.replace(b"To: ", b"To:  "), "simple/simple", "neutral"),
        (MESSAGE.replace(b"To: ", b"To:  "), "relaxed/simple", "pass"),
    ):
        whole = signed(message, ED, options=dkim.Options(canonicalization=form))
        verifier = dkim.Verifier(zone(ED), leading_space=False, now=NOW)
        for line in re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", whole.partition(b"\r\n\r\n")[0] + b"\r\n"):
            verifier.header(line.replace(b"To:  ", b"To: "))
        verifier.end_of_headers()
        for chunk in cut(whole, 1000):
            verifier.body(chunk)
        (found,) = await verifier.finish()
        assert (found.result, found.approximate) == (result, form == "simple/simple")


class Scripted:
    """A resolver that does one thing, and counts who waits."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        raise self.error


async def test_what_dns_does_is_a_result() -> None:
    """D-112."""
    message = signed(MESSAGE, RSA)
    for resolver, problem in (
        (ZoneResolver({RSA.name: TIMEOUT}), "no answer to"),
        (Scripted(ResolverFailure("bad\r\nnews")), "bad?news"),
    ):
        (found,) = await judged(message, resolver)
        assert found.result == "temperror"
        assert found.problem.startswith(problem)
    with pytest.raises(ZeroDivisionError):
        await judged(message, Scripted(ZeroDivisionError()))
    with pytest.raises(TimeoutError):
        await judged(message, Scripted(TimeoutError()))


async def test_a_key_is_waited_for_as_long_as_is_told() -> None:
    """D-070."""
    (found,) = await judged(signed(MESSAGE, RSA), ZoneResolver({RSA.name: HANG}), key_timeout=0.01)
    assert (found.result, found.problem) == ("temperror", "no answer for the key in 0.01 s")


def begun(resolver: ZoneResolver) -> dkim.Verifier:
    """Return a verifier that has asked for the keys of both signatures."""
    verifier = dkim.Verifier(resolver, now=NOW)
    for field in split_message(SIGNED)[0]:
        verifier.header(field.raw)
    verifier.end_of_headers()
    return verifier


async def test_a_message_that_is_given_up_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    verifier = begun(ZoneResolver({RSA.name: HANG, ED.name: HANG}))
    started = asyncio.all_tasks() - before
    assert len(started) == 2
    verifier.cancel()
    await asyncio.wait(started)
    assert all(task.cancelled() for task in started)


async def test_a_message_that_is_cancelled_while_it_waits_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    resolver = ZoneResolver({RSA.name: HANG, ED.name: HANG})
    verifier = begun(resolver)
    for chunk in cut(SIGNED, 1000):
        verifier.body(chunk)
    waiting = asyncio.create_task(verifier.finish())
    while len(resolver.queries) < 2:
        await asyncio.sleep(0)
    started = asyncio.all_tasks() - before - {waiting}
    assert len(started) == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait(started)
    assert all(task.cancelled() for task in started)


async def test_a_policy_is_within_bounds() -> None:
    for wrong in ({"min_rsa_bits": 511}, {"min_rsa_bits": 8_193}, {"max_signatures": 0}, {"max_signatures": 51}):
        with pytest.raises(ValueError, match="expected"):
            dkim.Policy(**wrong)  # type: ignore[arg-type]  # numbers all


async def test_without_the_library_what_needs_it_says_so_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_crypto, "_THERE", False)
    for make in (
        lambda: dkim.Verifier(zone()),
        lambda: dkim.Signer(RSA),
        lambda: dkim.Key("example.com", "s", RSA.private),
        lambda: dkim.Key.from_pem(b"", domain="example.com", selector="s"),
        lambda: dkim.load_keys("/nonexistent"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'aiomilter\[dkim\]'"):
            make()


@pytest.mark.slow
async def test_a_large_message_is_not_kept() -> None:
    chunk = b"Hello  Bob, \t see you.\r\n" * 2_730
    verifier = dkim.Verifier(zone(RSA, ED), now=NOW)
    signing = dkim.Signer([RSA, ED]).start(now=NOW)
    for raw in re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", SIGNED.partition(b"\r\n\r\n")[0] + b"\r\n"):
        verifier.header(raw)
        signing.header(raw)
    verifier.end_of_headers()
    signing.end_of_headers()
    tracemalloc.start()
    try:
        for _ in range(160):
            verifier.body(chunk)
            signing.body(chunk)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.result for each in await verifier.finish()] == ["fail", "fail"]
    assert len(await signing.finish()) == 2
    assert kept < 8_192
    assert peak < 1_000_000


TAGS = (
    "v=1 a=rsa-sha256 a=ed25519-sha256 c=relaxed c=simple/relaxed d=example.com d=\u00e4.com s=s s=rsa2048 h=from h=from:to:: "
    "bh=YQ== b=YQ== b= l=1 l=99999999999999999999 t=1 x=2 i=@example.com i=a=ZZ@\udcff q=dns/txt z=| ; ="
)
HOSTILE = st.lists(st.sampled_from([*TAGS.split(" "), "\r\n", "; ", " ", "\0", "x" * 100])).map("; ".join)
KEYS = ["v=DKIM1; p=YQ==", "p", RSA.record(), ED.record(), "v=DKIM1; h=;t=;p=;"]


@given(st.lists(HOSTILE, max_size=3), st.sampled_from(KEYS))
def test_whatever_a_message_and_a_record_hold_is_a_result(values: list[str], record: str) -> None:
    header = b"".join(Field(f"DKIM-Signature: {value}".encode("utf-8", "surrogateescape")).raw for value in values)
    resolver = ZoneResolver({f"{selector}._domainkey.example.com": {"TXT": record} for selector in ("s", "rsa2048")})
    found = asyncio.run(judged(header + MESSAGE, resolver))
    # Line ends inside a value end its field.
    assert len(found) <= len(values)
    for each in found:
        assert each.result in ("fail", "neutral", "permerror", "policy")
        assert each.problem
        assert str(each.method_result()).isprintable()


async def test_a_changed_octet_breaks_a_signature() -> None:
    for old, new in ((b"alice", b"Alice"), (b"Minutes", b"minutes"), (b"Hello", b"hello")):
        assert await verified(SIGNED.replace(old, new), RSA, ED) == ["fail", "fail"]
    assert await verified(SIGNED.replace(b"Hello  Bob", b"Hello \t Bob"), RSA, ED) == ["pass", "pass"]
    assert HEADER in SIGNED
