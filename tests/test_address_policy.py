"""The log shows addresses and logins as it was asked to, in every record of ours."""

import json
import logging
from collections.abc import Iterator
from typing import Any, Final

import pytest

from aiomilter import REJECT, Context, EndOfMessageContext, Mail, Milter, Rcpt, Refusal, TemporaryFailure
from aiomilter.observe import (
    Answer,
    Edit,
    Lifecycle,
    LifecycleKind,
    MessageEnded,
    Misuse,
    RefusedRecipient,
    ShadowOutcome,
    Where,
)
from aiomilter.observe.address_policy import AddressPolicy, Shown
from aiomilter.observe.json import JsonFormatter
from aiomilter.observe.log import LogObserver
from aiomilter.testing import session

KEY: Final = b"0123456789abcdef"
WAYS: Final = ("full", "domain", "hash", "none")
PLANTED: Final = (
    "senderperson",
    "rcptperson",
    "refusedperson",
    "loginperson",
    "addedperson",
    "goneperson",
    "certperson",
)


def policy(shown: Shown) -> AddressPolicy:
    return AddressPolicy(shown, KEY if shown == "hash" else b"")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("alice@example.org", ("alice@example.org", "***@example.org", "#b3cf2e6ae0b2e1c4", "***")),
        ('"a@b c"@x', ('"a@b c"@x', "***@x", None, "***")),
        ("postmaster", ("postmaster", "***", None, "***")),
        ("", ("", "", "", "")),
        ("a@\udcff", ("a@\udcff", "***@\udcff", None, "***")),
    ],
)
def test_an_address_is_shown_in_four_ways(address: str, shown: tuple[str | None, ...]) -> None:
    for way, wanted in zip(WAYS, shown, strict=True):
        found = policy(way).address(address)  # type: ignore[arg-type]
        if way != "hash":
            assert found == wanted
        elif address:
            assert found.startswith("#")
            assert len(found) == 17


def test_a_hash_is_the_same_for_the_same_address_and_key() -> None:
    one, other = AddressPolicy("hash", KEY), AddressPolicy("hash", b"another key, longer")
    assert one.address("Alice@Example.ORG") == one.address("alice@example.org")
    assert one.address("alice@example.org") != one.address("bob@example.org")
    assert one.address("alice@example.org") != other.address("alice@example.org")
    assert "0123" not in repr(one)


@pytest.mark.parametrize("key", [b"", b"short"])
def test_a_hash_needs_a_key(key: bytes) -> None:
    with pytest.raises(ValueError, match="hash needs a key of 16 octets or more"):
        AddressPolicy("hash", key)


def test_a_way_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of full, domain, hash, none, found 'all'"):
        AddressPolicy("all")  # type: ignore[arg-type]


class Everything(Milter):
    """Has each address that a filter can have a record about."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.log.info("a record of its own")

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Any:
        return Refusal(REJECT, reason="no") if "refused" in rcpt.path else None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_recipient("addedperson@secret.example")
        ctx.delete_recipient("goneperson")
        ctx.change_sender("addedperson@secret.example")

    async def close(self, ctx: Context) -> None:
        raise TemporaryFailure("no answer for <rcptperson@secret.example>")


MACROS: Final = {
    "auth_authen": "loginperson",
    "tls_version": "TLSv1.3",
    "cert_subject": "/emailAddress=certperson@secret.example",
}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []

    class Both(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.extend((self.format(record), JsonFormatter().format(record)))

    handler, logger = Both(), logging.getLogger("aiomilter")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.setLevel(level)
    logger.removeHandler(handler)


async def play(shown: Shown) -> None:
    observer = LogObserver(addresses=policy(shown))
    async with session(Everything, macros=MACROS, observer=observer, failures="answer") as s:
        await s.mail("<senderperson@secret.example>")
        await s.rcpt("<refusedperson@secret.example>")
        await s.rcpt("<rcptperson@secret.example>")
        await s.message(b"Subject: x\r\n\r\nx\r\n")


@pytest.mark.parametrize("shown", ["domain", "hash", "none"])
async def test_no_record_of_ours_holds_an_address(lines: list[str], shown: Shown) -> None:
    await play(shown)
    assert len(lines) > 20
    assert [line for line in lines if any(name in line for name in PLANTED)] == []
    assert any("secret.example" in line for line in lines) == (shown == "domain")


async def test_in_full_each_is_there(lines: list[str]) -> None:
    await play("full")
    assert [name for name in PLANTED if not any(name in line for line in lines)] == []


def test_what_shadows_would_have_done_hides_addresses_too(lines: list[str]) -> None:
    outcome = ShadowOutcome(
        "new",
        "continue",
        "reject",
        refused=("refusedperson@secret.example",),
        accepted=("rcptperson@secret.example",),
        edits=("add_recipient addedperson@secret.example", "add_header X-Spam"),
    )
    ended = MessageEnded(Where(), "h", "", (), (), 0, Answer("continue"), "", (), 0, None, 0.1, shadow=(outcome,))
    LogObserver(addresses=policy("domain")).message_ended(ended)
    assert [line for line in lines if any(name in line for name in PLANTED)] == []
    (found,) = json.loads(lines[1])["shadow"]
    assert (found["refused"], found["accepted"], found["differs"]) == (["***@secret.example"],) * 2 + (True,)
    assert found["edits"] == ["add_recipient ***@secret.example", "add_header X-Spam"]


async def test_the_null_sender_is_told_from_one_that_is_hidden(lines: list[str]) -> None:
    async with session(Milter, observer=LogObserver(addresses=policy("none"))) as s:
        await s.send(b"Subject: x\r\n\r\nx\r\n", "<>", "<a@x>")
    (found,) = [record for line in lines[1::2] if (record := json.loads(line))["event"] == "message_ended"]
    assert found["sender"] in ("", None)


def test_what_an_observer_of_a_programs_own_gets_is_in_full() -> None:
    where = Where(1)
    refused = (RefusedRecipient("c@x", Answer("reject")),)
    event = MessageEnded(
        where, "h", "a@x", ("b@x",), refused, 1, Answer("reject"), "", (Edit("add_header"),), 1, None, 1
    )
    shown = policy("none").event(event)
    assert (event.sender, shown.sender, shown.recipients) == ("a@x", "***", ("***",))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "delete_recipient: the message has no recipient 'x y@z'",
            "delete_recipient: the message has no recipient '***'",
        ),
        ("for <a@b.example>: no", "for <***>: no"),
        ("for a@b.example, c@[192.0.2.1]", "for ***, ***"),
        ("nothing here", "nothing here"),
    ],
)
def test_addresses_in_our_sentences_are_found(text: str, shown: str) -> None:
    assert policy("none").event(Misuse(Where(1), text)).what == shown


def test_sockets_in_our_sentences_are_no_addresses() -> None:
    event = Lifecycle(Where(), LifecycleKind.LISTENER_STARTED, "listening on inet:8890@127.0.0.1")
    assert policy("none").event(event) == event


def test_a_text_of_many_signs_takes_linear_time() -> None:
    """A hostile text is looked through once, not once for each place in it."""
    text = policy("none").text("@" * 50_000 + '"' * 50_000)
    assert len(text) <= 100_000
