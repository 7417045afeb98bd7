"""What the checks of a message cost, in counts: hashes of the body, tasks, fields that are written."""

import asyncio
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth import Authenticator, MessageCheck
from aiomilter.auth._authentication import _at_most, _size
from aiomilter.auth.dkim._body import BodyStream
from aiomilter.auth.results import AuthenticationResults, MethodResult, Property
from aiomilter.dns import CachingResolver
from aiomilter.mail.headers import split_message
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.arc.made import LIST, sealed
from tests.auth.dkim.made import MESSAGE, NOW, cut, key, signed

KEY: Final = key("ed25519")
SIGNED: Final = signed(MESSAGE, KEY)


def zone() -> ZoneResolver:
    return ZoneResolver({each.name: {"TXT": each.record()} for each in (KEY, LIST)})


def check_of(resolver: Any, *methods: str) -> MessageCheck:
    auth = Authenticator(resolver, authserv_ids=["mx.example.net"], methods=methods, clock=lambda: NOW)
    return auth.client(None).message(sender="alice@example.com", helo="mx.example.com")


def feed(check: MessageCheck, message: bytes) -> None:
    for field in split_message(message)[0]:
        check.header(field.raw)
    check.end_of_headers()
    for chunk in cut(message, 65_535):
        check.body(chunk)


async def test_the_body_is_hashed_once_for_dkim_and_arc(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    update = BodyStream.update

    def counting(self: BodyStream, chunk: bytes) -> None:
        taken.append(len(chunk))
        update(self, chunk)

    message = await sealed(SIGNED, LIST)
    body = sum(map(len, cut(message, 65_535)))
    check = check_of(zone(), "dkim", "arc")
    monkeypatch.setattr(BodyStream, "update", counting)
    feed(check, message)
    found = await check.finish()

    assert sum(taken) == body
    assert ([each.result for each in found.dkim], found.arc.result) == (["pass"], "pass")


async def test_all_signatures_of_a_message_have_three_hashes_of_its_body_together() -> None:
    """D-071."""
    message = await sealed(MESSAGE, LIST)
    for length in (1, 2, 3):
        message = signed(message, KEY).replace(b"bh=", b"l=%d; bh=" % length, 1)
    check = check_of(zone(), "dkim", "arc")
    feed(check, message)
    found = await check.finish()

    assert (found.arc.result, found.arc.problem) == (
        "fail",
        "message signature 1: too many different hashes of the body",
    )


@pytest.mark.parametrize("message", [MESSAGE, SIGNED])
async def test_keys_that_are_known_cost_no_task(message: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CachingResolver(zone())
    await cache.lookup(KEY.name, "TXT")
    loop, made = asyncio.get_running_loop(), []
    create = loop.create_task

    def counting(*args: Any, **named: Any) -> Any:
        made.append(args)
        return create(*args, **named)

    monkeypatch.setattr(loop, "create_task", counting)
    check = check_of(cache, "dkim", "arc")
    feed(check, message)
    found = await check.finish()

    assert made == []
    assert [each.result for each in found.dkim] == ["pass"] * (message is SIGNED)


async def test_policies_that_are_known_cost_neither_task_nor_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = zone()
    resolver.add("example.com", "TXT", "v=spf1 include:_spf.example.com -all")
    resolver.add("_spf.example.com", "TXT", "v=spf1 ip4:192.0.2.1 -all")
    resolver.add("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")
    auth = Authenticator(CachingResolver(resolver), authserv_ids=["mx.example.net"], clock=lambda: NOW)
    client = auth.client("192.0.2.1")
    loop, made, results = asyncio.get_running_loop(), [], []
    create, timer = loop.create_task, loop.call_at

    def counting_tasks(*args: Any, **named: Any) -> Any:
        made.append(args)
        return create(*args, **named)

    def counting_timers(*args: Any, **named: Any) -> Any:
        made.append(args)
        return timer(*args, **named)

    # The first message brings the answers, and the check of the HELO name, which is the client's.
    for _ in range(2):
        made.clear()
        check = client.message(sender="alice@example.com", helo="mx.example.com")
        feed(check, SIGNED)
        results.append(await check.finish())
        monkeypatch.setattr(loop, "create_task", counting_tasks)
        monkeypatch.setattr(loop, "call_at", counting_timers)

    assert made == []
    assert (results[0], results[0].spf.result, results[0].dmarc.aligned) == (results[1], "pass", ("spf", "dkim"))


async def test_a_known_key_counts_as_a_question() -> None:
    cache = CachingResolver(zone())
    await cache.lookup(KEY.name, "TXT")
    check = check_of(cache, "dkim")
    feed(check, SIGNED)
    assert check._resolver.asked == 1

    check = check_of(cache, "dkim")
    check._resolver.asked = 100
    feed(check, SIGNED)
    (signature,) = (await check.finish()).dkim

    assert (signature.result, signature.problem) == ("temperror", "more than 100 DNS questions for one message")


TEXTS: Final = st.text(st.characters(codec="utf-8"), max_size=20)
WORDS: Final = st.sampled_from(["a", "header", "dkim"])
RESULTS: Final = st.builds(
    MethodResult, WORDS, WORDS, st.lists(st.builds(Property, WORDS, WORDS, TEXTS), max_size=3).map(tuple), TEXTS, TEXTS
)


@given(TEXTS, st.lists(RESULTS, max_size=3))
def test_a_field_is_never_longer_than_was_reckoned(name: str, results: list[MethodResult]) -> None:
    found = AuthenticationResults(name, tuple(results))

    assert _size(found) <= _at_most(found)


@given(st.lists(RESULTS, max_size=3), st.sampled_from(['"', "\\", "(", ")", "a b"]))
def test_what_is_escaped_is_reckoned_with(results: list[MethodResult], sign: str) -> None:
    results.append(MethodResult("dkim", "fail", (Property("header", "d", sign * 99),), sign * 99, sign * 99))
    found = AuthenticationResults(sign, tuple(results))

    assert _size(found) <= _at_most(found)


async def test_a_helo_name_that_is_not_checked_is_the_one_given() -> None:
    auth = Authenticator(zone(), authserv_ids=["mx.example.net"], methods=["dkim"], clock=lambda: NOW)
    client = auth.client("192.0.2.1")
    found = [await client.message(sender="a@b.example", helo=helo).finish() for helo in ("one", "one", "two", "one")]

    assert [each.helo_spf.helo for each in found] == ["one", "one", "two", "one"]
    assert found[0].helo_spf is found[1].helo_spf
