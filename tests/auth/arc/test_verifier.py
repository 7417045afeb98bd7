"""Chains verified while messages come: limits, DNS, and whatever a sender makes up."""

import asyncio
import re
import tracemalloc
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth import arc, dkim
from aiomilter.auth.arc import _sealer
from aiomilter.auth.arc._sets import read_sets
from aiomilter.auth.dkim import _crypto
from aiomilter.dns import Resolver
from aiomilter.mail.headers import Field, HeaderSection, split_message
from aiomilter.testing.resolver import FAILURE, HANG, TIMEOUT, ZoneResolver
from tests.auth.arc.made import (
    ALL,
    LIST,
    MESSAGE,
    NOW,
    OTHER,
    RSA,
    above,
    sealed,
    verified,
    with_footer,
    zone,
)
from tests.auth.dkim.made import key
from tests.auth.steps import Steps

TWICE: Final = asyncio.run(sealed(MESSAGE, LIST, RSA))


async def streamed(verifier: arc.Verifier, message: bytes, size: int = 65_535) -> arc.Chain:
    """Return what a verifier says of a message whose body comes in chunks."""
    section, begin = split_message(message)
    for field in section:
        verifier.header(field.raw)
    verifier.end_of_headers()
    for at in range(begin, len(message), size):
        verifier.body(message[at : at + size])
    return await verifier.finish()


def edited(message: bytes, name: str, old: str, new: str) -> bytes:
    """Return a message with its topmost field of a name changed."""
    section, begin = split_message(message)
    changed = section.get(name)
    assert changed is not None
    assert old.encode() in changed.raw
    fields = [Field(f.raw.replace(old.encode(), new.encode(), 1)) if f is changed else f for f in section]
    return b"".join(field.raw for field in fields) + b"\r\n" + message[begin:]


async def test_a_chain_passes_and_names_its_sets() -> None:
    """A-005, A-006."""
    found = await verified(TWICE)
    assert (found.result, found.problem, found.instance, found.oldest_pass) == ("pass", "", 2, 0)
    assert found.sealers == (LIST.domain, RSA.domain)
    assert [(each.instance, each.status, each.selector, each.signer, each.timestamp) for each in found.sets] == [
        (1, "none", "list", LIST.domain, NOW),
        (2, "pass", "rsa", RSA.domain, NOW),
    ]


async def test_a_message_without_a_chain_has_none() -> None:
    found = await verified(MESSAGE)
    assert found == arc.Chain("none")


async def test_a_message_that_was_changed_on_the_way_passes_since_then() -> None:
    """A-006."""
    message = await sealed(MESSAGE, LIST, OTHER, LIST)
    assert (await verified(message)).oldest_pass == 0
    message = await sealed(await sealed(await sealed(MESSAGE, LIST), OTHER, change=with_footer), RSA)
    found = await verified(message)
    assert (found.result, found.oldest_pass) == ("pass", 2)
    found = await arc.verify(message, resolver=zone(*ALL), now=NOW, oldest_pass=False)
    assert (found.result, found.oldest_pass) == ("pass", None)


async def test_a_message_that_was_changed_since_the_newest_seal_fails() -> None:
    """A-005."""
    found = await verified(with_footer(TWICE))
    assert (found.result, found.problem) == ("fail", "message signature 2: the body was changed")
    found = await verified(TWICE.replace(b"Minutes", b"minutes"))
    assert (found.result, found.problem) == ("fail", "message signature 2: the signature does not match the header")


# Field, what is changed in the newest of its name, and the problem.
EDITS = [
    (arc_field, old, new, problem)
    for arc_field, old, new, problem in (
        ("ARC-Seal", "cv=pass", "cv=none", "the seal of instance 2 does not say cv=pass"),
        ("ARC-Seal", "cv=pass", "cv=fail", "the newest seal says that the chain has failed"),
        ("ARC-Seal", "cv=pass", "cv=PASS", "the seal of instance 2 does not say cv=pass"),
        ("ARC-Seal", "cv=pass", "cv=pass; h=from", "seal 2: the seal has h="),
        ("ARC-Seal", "cv=pass", "cv=pass; bh=YQ==", "seal 2: the seal has bh="),
        ("ARC-Seal", "rsa-sha256", "rsa-sha1", "seal 2: made with SHA-1"),
        ("ARC-Seal", "i=2", "i=3", "the set of instance 2 is not complete"),
        ("ARC-Seal", "i=2", "i=1", "there are two fields ARC-Seal of instance 1"),
        ("ARC-Seal", "i=2", "i=51", "a field ARC-Seal has no instance that can be read"),
        ("ARC-Seal", "i=2", "i=002", "a field ARC-Seal has no instance that can be read"),
        ("ARC-Seal", "i=2", "i=0", "a field ARC-Seal has no instance that can be read"),
        ("ARC-Seal", "i=2", "i=\u0662", "a field ARC-Seal has no instance that can be read"),
        ("ARC-Seal", "i=2", "i=02", "seal 2: the signature does not match the header"),
        ("ARC-Seal", "i=2;", "", "a field ARC-Seal has no instance that can be read"),
        ("ARC-Message-Signature", "i=2", "i=2; i=2", "a field ARC-Message-Signature has no instance that can be read"),
        (
            "ARC-Message-Signature",
            "h=From",
            "h=ARC-Seal:From",
            "message signature 2: the message signature covers seals",
        ),
        ("ARC-Message-Signature", "rsa-sha256", "rsa-sha1", "message signature 2: made with SHA-1"),
        (
            "ARC-Authentication-Results",
            "i=2;",
            "i=2",
            "a field ARC-Authentication-Results has no instance that can be read",
        ),
        (
            "ARC-Authentication-Results",
            "i=2;",
            "(c) i (d(e)) = (f)\r\n 2 (g) ;",
            "seal 2: the signature does not match the header",
        ),
        ("ARC-Authentication-Results", "pass", "fail", "seal 2: the signature does not match the header"),
    )
]


@pytest.mark.parametrize(("name", "old", "new", "problem"), EDITS)
async def test_a_set_that_was_changed_fails(name: str, old: str, new: str, problem: str) -> None:
    """A-001 to A-005, A-009."""
    found = await verified(edited(TWICE, name, old, new))
    assert (found.result, found.problem, found.temporary) == ("fail", problem, False)
    assert found.oldest_pass is None


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("ARC-Authentication-Results", "(a (b)) i (c)\r\n = (d) 1 (e) ; mx.example.org; none"),
        ("ARC-Authentication-Results", "i=1;"),
        ("ARC-Message-Signature", "a=rsa-sha256; x=y;\r\n\ti = 1"),
        ("ARC-Seal", "cv=none; a=b; i=\r\n 1;"),
        ("ARC-Seal", "i=01"),
    ],
)
def test_the_instance_is_found_wherever_it_stands(name: str, written: str) -> None:
    """A-002."""
    fields = {"ARC-Authentication-Results": "i=1; x; none", "ARC-Message-Signature": "i=1", "ARC-Seal": "i=1"}
    section = HeaderSection([Field(f"{each}: {value}".encode()) for each, value in (fields | {name: written}).items()])

    found = read_sets(section)
    assert (len(found.complete), found.highest, found.problem) == (1, 1, "")


@pytest.mark.parametrize("name", ["ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"])
@pytest.mark.parametrize("instance", ["0", "00", "51", "001", "a", "", "-1", "1 2", "\u0661"])
def test_an_instance_that_is_no_number_of_two_digits_makes_a_set_malformed(name: str, instance: str) -> None:
    """A-001, A-002."""
    section = HeaderSection([Field(f"{name}: i={instance}; x; y".encode())])

    found = read_sets(section)
    assert (found.complete, found.highest) == ((), 0)
    assert found.problem == f"a field {name} has no instance that can be read"


async def test_the_order_of_the_fields_does_not_matter() -> None:
    """A-008."""
    section, begin = split_message(TWICE)
    raws = [re.sub(rb"^ARC-(Seal|Message)", rb"aRc-\1", field.raw) for field in reversed(section)]
    found = await verified(b"".join(raws) + b"\r\n" + TWICE[begin:])
    assert (found.result, found.problem) == ("pass", "")


async def test_a_set_that_is_missing_fails() -> None:
    """A-005."""
    thrice = await sealed(TWICE, OTHER)
    section, begin = split_message(thrice)
    arc_fields = [field for field in section if field.key.startswith(b"arc-")]
    for gone, problem in (
        (arc_fields[3:6], "the instances of the sets have gaps"),
        (arc_fields[6:9], "the instances of the sets have gaps"),
        (arc_fields[3:4], "the set of instance 2 is not complete"),
    ):
        kept = b"".join(field.raw for field in section if field not in gone)
        found = await verified(kept + b"\r\n" + thrice[begin:])
        assert (found.result, found.problem) == ("fail", problem)


async def test_the_newest_set_cannot_be_cut_off() -> None:
    """A-005: what is left is the chain as it was, if the message was not changed since."""
    section, _ = split_message(await sealed(await sealed(MESSAGE, LIST), OTHER, change=with_footer))
    older = b"".join(field.raw for field in section[3:]) + b"\r\n"
    found = await verified(older + with_footer(MESSAGE).partition(b"\r\n\r\n")[2])
    assert (found.result, found.problem) == ("fail", "message signature 1: the body was changed")


@pytest.mark.slow
async def test_a_chain_has_fifty_sets_and_no_more() -> None:
    """A-001, A-005, A-020, A-024."""
    message = MESSAGE
    chain = arc.Chain("none")
    for _ in range(50):
        message = above(await arc.seal(message, LIST, chain=chain, authserv_id="mx", now=NOW), message)
        chain = await verified(message)
    assert (chain.result, chain.instance, len(chain.sets)) == ("pass", 50, 50)
    # Ten signatures are verified, that of the newest set among them.
    assert chain.oldest_pass == 41
    sealing = arc.Sealer(LIST, authserv_id="mx").start(chain)
    for field in split_message(message)[0]:
        sealing.header(field.raw)
    sealing.end_of_headers()
    assert await sealing.finish() == []
    assert sealing.problems[-1] == "the chain has 50 sets: nothing is added to it"
    section, _ = split_message(message)
    more = b"".join(field.raw for field in section[:1]) + message
    found = await verified(more)
    assert (found.result, found.problem, found.instance) == ("fail", "there are more than 50 fields ARC-Seal", 50)
    assert await arc.seal(more, LIST, chain=found, authserv_id="mx") == []


async def test_the_keys_of_a_chain_are_asked_for_once_and_at_the_end_of_the_header() -> None:
    """A-024."""
    resolver = zone(*ALL)
    message = await sealed(MESSAGE, LIST, OTHER, LIST)
    verifier = arc.Verifier(resolver, now=NOW)
    section, begin = split_message(message)
    for field in section:
        verifier.header(field.raw)
    assert resolver.queries == []
    verifier.end_of_headers()
    await asyncio.sleep(0)
    assert len(resolver.queries) == 2
    verifier.body(message[begin:])
    assert (await verifier.finish()).result == "pass"
    assert len(resolver.queries) == 2


async def test_at_most_twenty_keys_are_asked_for() -> None:
    """A-024."""
    keys = [key("ed25519", selector=f"s{number}") for number in range(21)]
    message = await sealed(MESSAGE, *keys)
    resolver = zone(*keys)
    found = await arc.verify(message, resolver=resolver, now=NOW)
    assert (found.result, found.problem) == ("fail", "seal 1: too many different keys")
    assert len(resolver.queries) <= 20
    message = await sealed(MESSAGE, *keys[:20])
    assert (await arc.verify(message, resolver=zone(*keys), now=NOW)).result == "pass"


@pytest.mark.parametrize(
    ("zone_of_list", "problem", "temporary"),
    [
        ({"TXT": FAILURE}, "seal 1: ", True),
        (TIMEOUT, "seal 1: no answer", True),
        (HANG, "seal 1: no answer for the key in 0.01 s", True),
        ({}, "seal 1: there is no key record", False),
        ({"TXT": "v=DKIM1; p="}, "seal 1: the key is revoked", False),
        ({"TXT": OTHER.record()}, "seal 1: the signature does not match the header", False),
    ],
)
async def test_what_dns_does_is_a_result(zone_of_list: object, problem: str, temporary: bool) -> None:
    """A-007."""
    resolver = ZoneResolver({RSA.name: {"TXT": RSA.record()}, LIST.name: zone_of_list})  # type: ignore[dict-item]
    found = await arc.verify(TWICE, resolver=resolver, now=NOW, key_timeout=0.01)
    assert (found.result, found.temporary) == ("fail", temporary)
    assert found.problem.startswith(problem)
    assert found.method_result().result == "fail"


async def test_dns_trouble_with_an_older_signature_alone_spoils_nothing() -> None:
    """A-006."""
    strange = dkim.Key("elsewhere.example", "s", LIST.private)
    first = await sealed(MESSAGE, LIST)
    first = edited(first, "ARC-Message-Signature", f"d={LIST.domain}", f"d={strange.domain}")
    section, begin = split_message(first)
    # Sealed with the edited signature in it.
    seal, signature, results = section[:3]
    unsealed = b"".join(field.raw for field in section[3:]) + b"\r\n" + first[begin:]
    sealing = arc.Sealer(LIST, authserv_id="mx").start(arc.Chain("none"), now=NOW)
    resealed = await sealing._seal(1, NOW, "none", [results, signature])
    message = Field.made("ARC-Seal", resealed).raw + signature.raw + results.raw + unsealed
    chain = arc.Chain("pass", 1, 0, (await arc.verify(message, resolver=zone(LIST), now=NOW)).sets)
    message = above(await arc.seal(message, RSA, chain=chain, authserv_id="mx", now=NOW), message)
    resolver = ZoneResolver({RSA.name: {"TXT": RSA.record()}, LIST.name: {"TXT": LIST.record()}, strange.name: TIMEOUT})
    found = await arc.verify(message, resolver=resolver, now=NOW)
    assert (found.result, found.oldest_pass, found.temporary) == ("pass", 2, False)
    assert seal.raw != Field.made("ARC-Seal", resealed).raw


async def test_weak_keys_fail() -> None:
    """A-009."""
    weak = key("rsa", 1024, domain="weak.example")
    message = await sealed(MESSAGE, weak)
    assert (await verified(message, weak)).result == "pass"
    found = await arc.verify(message, resolver=zone(weak), now=NOW, policy=dkim.Policy(min_rsa_bits=2048))
    assert (found.result, found.problem) == ("fail", "message signature 1: the key has 1024 bits, fewer than 2048")


async def test_a_signature_of_the_future_or_of_the_past_fails() -> None:
    found = await verified(TWICE, now=NOW - 301)
    assert (found.result, found.problem) == ("fail", "message signature 2: the signature was made in the future")
    assert (await verified(TWICE, now=NOW - 299)).result == "pass"
    expired = edited(TWICE, "ARC-Message-Signature", f"t={NOW}", f"t={NOW}; x={NOW + 1}")
    found = await verified(expired, now=NOW + 100)
    assert (found.result, found.problem) == ("fail", "message signature 2: the signature has expired")


async def test_a_body_that_is_signed_in_part_fails_unless_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A-024, D-042."""
    found = await verified(edited(TWICE, "ARC-Message-Signature", "i=2", "l=999; i=2"))
    assert found.problem == "message signature 2: the body is shorter than l= says"
    written = _sealer._with_signature
    monkeypatch.setattr(
        _sealer, "_with_signature", lambda made_with, text, tags: f"{written(made_with, text, tags)}; l=7"
    )
    message = await sealed(MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\nHello\r\n", LIST)
    assert (await verified(message)).result == "pass"
    found = await verified(message + b"More.\r\n")
    assert (found.result, found.problem) == ("fail", "message signature 1: the body is signed in part")
    lenient = dkim.Policy(allow_length=True)
    assert (await arc.verify(message + b"More.\r\n", resolver=zone(LIST), now=NOW, policy=lenient)).result == "pass"


async def test_a_header_that_is_too_large_fails_for_now() -> None:
    """A-007, A-024."""
    verifier = arc.Verifier(zone(), max_header_size=100)
    verifier.header(b"A: " + b"b" * 100)
    verifier.end_of_headers()
    verifier.body(b"x")
    assert await verifier.finish() == arc.Chain("fail", problem="the header is too large", temporary=True)


async def test_without_the_leading_space_a_simple_signature_may_not_match() -> None:
    message = edited(TWICE, "ARC-Message-Signature", "relaxed/relaxed", "simple/relaxed")
    found = await streamed(arc.Verifier(zone(*ALL), now=NOW, leading_space=False), message)
    assert found.problem == "message signature 2: the header's octets are not known exactly (no leading space)"
    found = await streamed(arc.Verifier(zone(*ALL), now=NOW, leading_space=False), TWICE)
    assert found.result == "pass"


async def test_calls_out_of_order_are_errors() -> None:
    verifier = arc.Verifier(zone())
    with pytest.raises(RuntimeError, match="end_of_headers"):
        verifier.body(b"")
    with pytest.raises(RuntimeError, match="end_of_headers"):
        await verifier.finish()
    verifier.end_of_headers()
    with pytest.raises(RuntimeError, match="end_of_headers"):
        verifier.header(b"A: b\r\n")


async def test_a_message_that_is_given_up_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    resolver = ZoneResolver({LIST.name: HANG, RSA.name: HANG})
    verifier = arc.Verifier(resolver, now=NOW)
    for field in split_message(TWICE)[0]:
        verifier.header(field.raw)
    verifier.end_of_headers()
    started = asyncio.all_tasks() - before
    assert len(started) == 2
    verifier.cancel()
    await asyncio.wait(started)
    waiting = asyncio.create_task(streamed(arc.Verifier(resolver, now=NOW), TWICE))
    while len(resolver.queries) < 2:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await assert_ended(before)
    # A chain that cannot pass is not asked for further.
    broken = edited(TWICE, "ARC-Seal", "cv=pass", "cv=pass; h=from")
    verifier = arc.Verifier(resolver, now=NOW)
    for field in split_message(broken)[0]:
        verifier.header(field.raw)
    verifier.end_of_headers()
    await assert_ended(before)
    assert (await verifier.finish()).problem == "seal 2: the seal has h="


async def assert_ended(before: set[asyncio.Task[Any]]) -> None:
    """Fail if there are more tasks than before, as soon as those that are cancelled had their turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_without_the_library_what_needs_it_says_so_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_crypto, "_THERE", False)
    for make in (lambda: arc.Verifier(zone()), lambda: arc.Sealer(LIST)):
        with pytest.raises(ImportError, match=r"pip install 'aiomilter\[dkim\]'"):
            make()


@pytest.mark.slow
async def test_a_large_message_is_not_kept() -> None:
    chunk = b"Hello  Bob, \t see you.\r\n" * 2_730
    verifier = arc.Verifier(zone(*ALL), now=NOW)
    sealing = arc.Sealer(LIST, authserv_id="mx").start(arc.Chain("none"), now=NOW)
    for field in split_message(TWICE)[0]:
        verifier.header(field.raw)
        sealing.header(field.raw)
    verifier.end_of_headers()
    sealing.end_of_headers()
    tracemalloc.start()
    try:
        for _ in range(160):
            verifier.body(chunk)
            sealing.body(chunk)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (await verifier.finish()).result == "fail"
    assert len(await sealing.finish()) == 3
    assert kept < 8_192
    assert peak < 1_000_000


def counted(message: bytes) -> int:
    """Return how many lines the verification of a message takes."""

    async def whole() -> int:
        with Steps() as steps:
            await streamed(arc.Verifier(zone(*ALL), now=NOW), message)
        return steps.lines

    return asyncio.run(whole())


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        "ARC-Seal: i={}; cv=pass; a=rsa-sha256; b=YQ==; d=e.example; s=s\r\n",
        "ARC-Authentication-Results: i=1; ((((({}\r\n",
        "ARC-Message-Signature: i=1{}\r\n",
        "Subject: {}\r\n",
    ],
)
def test_fields_made_to_keep_us_busy_take_steps_as_many_as_they_are(shape: str) -> None:
    few, many = (
        counted("".join(shape.format(each) for each in range(number)).encode() + TWICE) for number in (1_000, 2_000)
    )
    assert many < 3 * few


PARTS: Final = (
    "i=1 i=2 i=50 i=51 i=x i= a=rsa-sha256 a=ed25519-sha256 c=relaxed c=simple/relaxed d=lists.example.org d=\u00e4.com s=s "
    "s=list h=from h=arc-seal h= bh=YQ== b=YQ== b= l=1 t=1 x=2 cv=none cv=pass cv=fail cv=x v=1 ; ="
)
VALUE: Final = st.lists(
    st.sampled_from([*PARTS.split(" "), "(", ")", '"', "\r\n", " ", "\0", "\udcff", "spf=pass"])
).map("; ".join)
NAMES: Final = st.sampled_from(["ARC-Seal", "arc-message-signature", "ARC-Authentication-Results", "From"])
RECORDS: Final = ["v=DKIM1; p=YQ==", "p", LIST.record(), "v=DKIM1; h=;t=;p=;"]


def resolver_of(record: str) -> Resolver:
    return ZoneResolver({f"{selector}._domainkey.lists.example.org": {"TXT": record} for selector in ("s", "list")})


@given(st.lists(st.tuples(NAMES, VALUE), max_size=7), st.booleans(), st.sampled_from(RECORDS))
def test_whatever_a_message_and_a_record_hold_is_a_result(
    fields: list[tuple[str, str]], above_chain: bool, record: str
) -> None:
    header = b"".join(Field(f"{name}: {value}".encode("utf-8", "surrogateescape")).raw for name, value in fields)
    message = header + (TWICE if above_chain else MESSAGE)
    found = asyncio.run(arc.verify(message, resolver=resolver_of(record), now=NOW))
    assert found.result in ("none", "fail")
    assert (found.result == "fail") == bool(found.problem)
    assert str(found.method_result("192.0.2.1")).isprintable()
    assert not found.trusted_by([LIST.domain, RSA.domain])
    for each in found.sets:
        assert each.results is None or str(each.results)
    fresh = asyncio.run(arc.seal(message, LIST, chain=found, authserv_id="mx.example.org", now=NOW))
    for field in fresh:
        name, _, value = field.partition(": ")
        assert Field.made(name, value)
        assert value.isascii()


FIELDS: Final = [field.raw for field in split_message(TWICE)[0]]


@given(st.permutations(range(6)), st.sampled_from([1, 2, 3, 7, 65_535]))
def test_any_order_and_any_chunks_give_the_same_chain(order: list[int], size: int) -> None:
    """A-008."""
    _, begin = split_message(TWICE)
    message = b"".join([*(FIELDS[place] for place in order), *FIELDS[6:]]) + b"\r\n" + TWICE[begin:]
    found = asyncio.run(streamed(arc.Verifier(zone(*ALL), now=NOW), message, size))
    assert (found.result, found.oldest_pass) == ("pass", 0)
