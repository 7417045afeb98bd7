"""However large a header is, others have their turn: what is done between two turns is counted in octets and steps."""

import asyncio
import hashlib
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth import Authenticator, arc, dkim
from aiomilter.auth.arc._sets import MAX_SIZE, read_sets
from aiomilter.auth.dkim import _checking
from aiomilter.auth.dkim._canonical import FORMS, Form, canonical_field, canonical_pieces
from aiomilter.auth.dkim._signature import Unusable, domain_name, parse_signing_tags, signed_names
from aiomilter.auth.dkim._tags import tag_list
from aiomilter.dns import CachingResolver
from aiomilter.mail.headers import Field, HeaderSection, split_message
from aiomilter.testing.resolver import HANG, ZoneResolver
from tests.auth.arc.made import LIST, sealed
from tests.auth.dkim.made import MESSAGE, NOW, key, zone
from tests.auth.steps import Steps, steps

KEY: Final = key("ed25519")
LARGE: Final = {
    "blanks": b"x \t" * 300_000,
    "folds": b"x\r\n " * 200_000,
    "only blanks": b" \t" * 400_000,
    "only folds": b"\r\n " * 200_000 + b"x",
    "no blank": b"x" * 900_000,
}


class Turns:
    """Counts the turns of a loop."""

    def __init__(self) -> None:
        self.number = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def end(self) -> None:
        self._task.cancel()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Octets of header fields that were looked at, by the turn of the loop; the test has a running loop."""
    turns: list[Turns] = []
    octets: dict[int, int] = {}

    def count(number: int) -> None:
        turns[:] = turns or [Turns()]
        octets[turns[0].number] = octets.get(turns[0].number, 0) + number

    def whole(field: Field, form: Form) -> bytes:
        count(len(field.raw))
        return canonical_field(field, form)

    def pieces(field: Field, form: Form, size: int) -> Any:
        for piece in canonical_pieces(field, form, size):
            count(size)
            yield piece

    monkeypatch.setattr(_checking, "canonical_field", whole)
    monkeypatch.setattr(_checking, "canonical_pieces", pieces)
    return octets


def large_message(value: bytes) -> bytes:
    return b"Subject: " + value + b"\r\n" + MESSAGE.replace(b"Subject:", b"X-Subject:")


def longest(octets: dict[int, int]) -> int:
    return max(octets.values())


@pytest.mark.parametrize("name", ["blanks", "folds", "no blank"])
@pytest.mark.parametrize("form", ["simple/simple", "relaxed/relaxed"])
async def test_a_large_field_is_hashed_in_turns(name: str, form: str, counted: dict[int, int]) -> None:
    message = large_message(LARGE[name])
    options = dkim.Options(canonicalization=form)
    fields = await dkim.sign(message, KEY, options=options, now=NOW)
    made = longest(counted)
    counted.clear()
    (found,) = await dkim.verify(fields + message, resolver=zone(KEY), now=NOW)

    assert found.result == "pass"
    assert made < 400_000
    assert longest(counted) < 400_000


async def test_a_large_field_is_sealed_and_verified_in_turns(counted: dict[int, int]) -> None:
    message = large_message(LARGE["folds"])
    sealing = await sealed(message, LIST, LIST)
    made = longest(counted)
    counted.clear()
    found = await arc.verify(sealing, resolver=zone(LIST), now=NOW)

    assert (found.result, found.instance) == ("pass", 2)
    assert made < 400_000
    assert longest(counted) < 400_000


async def test_large_results_of_a_chain_are_hashed_in_turns(counted: dict[int, int]) -> None:
    message = await sealed(MESSAGE, LIST)
    section, begin = split_message(message)
    raw = [field.raw for field in section]
    at = next(at for at, each in enumerate(raw) if each.startswith(b"ARC-Authentication-Results"))
    raw[at] = raw[at][:-2] + b"; " + b"x\r\n " * 200_000 + b"\r\n"
    found = await arc.verify(b"".join(raw) + b"\r\n" + message[begin:], resolver=zone(LIST), now=NOW)

    assert (found.result, found.problem) == ("fail", "seal 1: the signature does not match the header")
    assert longest(counted) < 400_000


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LARGE)
def test_large_fields_in_pieces_are_what_they_are_whole(name: str, form: Form) -> None:
    field = Field(b"X: " + LARGE[name] + b" end \r\n \r\n")

    assert b"".join(canonical_pieces(field, form, 131_072)) == canonical_field(field, form)


@given(
    st.lists(
        st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"\r\n", b"\r", b"\n", b"a", b"bc", b":"]), max_size=30
    ),
    st.sampled_from(FORMS),
    st.integers(1, 9),
)
def test_a_field_in_pieces_is_what_it_is_whole(parts: list[bytes], form: Form, size: int) -> None:
    field = Field(b"Subject :" + b"".join(parts))

    assert b"".join(canonical_pieces(field, form, size)) == canonical_field(field, form)


def test_pieces_of_a_large_field_are_not_kept() -> None:
    field = Field(b"X: " + LARGE["blanks"])
    made = hashlib.sha256()
    header = _checking.CanonicalHeader(HeaderSection([field]))

    tracemalloc.start()
    asyncio.run(header.feed(made, [field], "relaxed"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # The value without its name is one copy.
    assert most < len(field.raw) + 1_000_000


def test_signatures_and_seals_of_a_chain_are_bounded_together() -> None:
    def chain(size: int) -> HeaderSection:
        section = HeaderSection()
        for instance in range(1, 51):
            section.append(b"ARC-Authentication-Results: i=%d; mx.example.org; none" % instance)
            for name in (b"ARC-Message-Signature", b"ARC-Seal"):
                section.append(b"%b: i=%d; x=%b" % (name, instance, b"y" * size))
        return section

    whole, large = read_sets(chain(2_000)), read_sets(chain(16_000))

    assert (len(whole.complete), whole.problem) == (50, "")
    assert (large.complete, large.highest) == ((), 50)
    assert large.problem == f"the signatures and seals have more than {MAX_SIZE} octets"
    assert steps(lambda: read_sets(chain(16_000))) < steps(lambda: read_sets(chain(2_000)))


@pytest.mark.parametrize("count", [255, 256, 257, 4_000])
def test_a_list_has_256_tags_at_most(count: int) -> None:
    found = tag_list(";".join(f"t{number}=" for number in range(count)))

    assert (None if found is None else len(found)) == (count if count <= 257 else None)


def test_names_of_a_signature_are_bounded_before_they_are_read() -> None:
    tags = {"a": "rsa-sha256", "b": "AAAA", "bh": "AAAA", "d": "example.com", "s": "s"}

    def problem(names: str) -> str:
        try:
            parse_signing_tags(tags | {"h": names})
        except Unusable as error:
            return error.problem
        return ""

    assert problem("from" + ":" * 1_000) == ""
    assert problem("from" + ":a" * 511) == ""
    assert problem("from" + ":a" * 512) == "the signature names more than 512 fields"
    assert problem("from" + ":" * 8_000) == "the signature names more than 512 fields"
    assert len(signed_names("a:" * 8_000)) == 1_025


@pytest.mark.parametrize(("length", "known"), [(60, True), (101, False)])
def test_names_in_scripts_of_the_world_are_bounded(length: int, known: bool) -> None:
    name = ".".join(["\u00fc" * 20] * 6)[: length - 2] + ".x"

    assert (domain_name(name) is not None) is known
    assert domain_name("a" * 60 + "." + "b" * 60) is not None


def test_results_that_are_too_large_go_as_forged_without_a_look() -> None:
    async def forged(value: bytes) -> tuple[int, ...]:
        auth = Authenticator(ZoneResolver(), authserv_ids=["mx.example.net"], methods=["dkim"])
        check = auth.client(None).message(sender="", helo="x")
        check.header(b"Authentication-Results: other.example; none\r\n")
        check.header(b"Authentication-Results: " + value + b"\r\n")
        return (await check.finish()).forged

    counts: list[int] = []

    def of(size: int) -> Callable[[], None]:
        return lambda: counts.extend(asyncio.run(forged(b"(" * size)))

    asyncio.run(forged(b""))
    small, large = steps(of(100_000)), steps(of(3_000_000))

    assert counts == [2, 2]
    assert large == small


async def test_messages_whose_keys_hang_take_few_steps_a_turn_and_leave_no_task() -> None:
    messages, keys = 10, 10
    resolver = ZoneResolver()
    tags = b"v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; h=from; b=AAAA; bh=%b; s=" % b64encode(
        hashlib.sha256(b"x\r\n").digest()
    )
    for number in range(messages * keys):
        resolver.add(f"s{number}._domainkey.example.com", "TXT", HANG)
    auth = Authenticator(CachingResolver(resolver), authserv_ids=["mx.example.net"], methods=["dkim", "arc"])
    client, turns, before = auth.client(None), Turns(), asyncio.all_tasks()
    begun = [client.message(sender="", helo="x") for _ in range(messages)]
    longest = 0
    for number, check in enumerate(begun):
        with Steps() as counted:
            for at in range(number * keys, (number + 1) * keys):
                check.header(b"DKIM-Signature: " + tags + b"s%d\r\n" % at)
            check.end_of_headers()
            check.body(b"x\r\n")
        longest = max(longest, counted.lines)
        await asyncio.sleep(0)
    waiting = len(asyncio.all_tasks() - before)
    found = await asyncio.gather(*(check.finish(0.0) for check in begun))
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before
    turns.end()

    assert {signature.result for each in found for signature in each.dkim} == {"temperror"}
    assert waiting == 2 * messages * keys
    assert left == set()
    assert longest < 10_000


async def test_a_body_of_any_size_takes_the_same_steps_a_chunk() -> None:
    auth = Authenticator(zone(KEY), authserv_ids=["mx.example.net"], methods=["dkim", "arc"])
    check = auth.client(None).message(sender="", helo="x")
    for field in split_message(await dkim.sign(MESSAGE, KEY, now=NOW) + MESSAGE)[0]:
        check.header(field.raw)
    check.end_of_headers()
    chunk = b"0123456789 abcdef\r\n" * 3_449

    counts = {steps(lambda: check.body(chunk)) for _ in range(20)}
    check.cancel()

    # The first chunk has no line ends before it.
    assert len(counts) <= 2
    assert max(counts) < 60
