"""All checks of a message, made while it comes: what they find, when they ask, and that none outlives the message."""

import asyncio
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiomilter
from aiomilter.auth import Authentication, Authenticator, MessageCheck, arc, dkim, dmarc
from aiomilter.auth._authentication import METHODS
from aiomilter.auth._checks import _override
from aiomilter.auth.results import MethodResult, Property, parse
from aiomilter.dns import Answer, RdType
from aiomilter.mail.headers import split_message
from aiomilter.testing.resolver import HANG, TIMEOUT, Trouble, ZoneResolver
from tests.auth.dkim.made import MESSAGE, NOW, cut, key, signed
from tests.conformance.test_arc_suite import cases

ID: Final = "mx.example.net"
ZONE: Final = """
example.com               TXT  "v=spf1 ip4:192.0.2.1 -all"
_dmarc.example.com        TXT  "v=DMARC1; p=reject"
mx.example.com            A    192.0.2.1
mx.example.com            TXT  "v=spf1 a -all"
1.2.0.192.in-addr.arpa    PTR  mx.example.com
"""
KEY: Final = key("ed25519")
SIGNED: Final = signed(MESSAGE, KEY)


def zone() -> ZoneResolver:
    resolver = ZoneResolver(ZONE)
    resolver.add(KEY.name, "TXT", KEY.record())
    return resolver


def made(resolver: ZoneResolver | None = None, **options: Any) -> Authenticator:
    options.setdefault("authserv_ids", [ID])
    return Authenticator(resolver or zone(), clock=lambda: NOW, **options)


def feed(check: MessageCheck, message: bytes, size: int = 65_535) -> None:
    for field in split_message(message)[0]:
        check.header(field.raw)
    check.end_of_headers()
    for chunk in cut(message, size):
        check.body(chunk)


def tasks() -> int:
    return len(asyncio.all_tasks())


@asynccontextmanager
async def message_of(
    auth: Authenticator, ip: str | None = "192.0.2.1", helo: str = "mx.example.com", sender: str = "alice@example.com"
) -> AsyncIterator[MessageCheck]:
    client = auth.client(ip)
    check = client.message(sender=sender, helo=helo)
    try:
        yield check
    finally:
        check.cancel()
        client.cancel()


GOOD: Final = (
    f"{ID};\n"
    "\tiprev=pass (mx.example.com) policy.iprev=192.0.2.1;\n"
    "\tspf=pass smtp.mailfrom=alice@example.com;\n"
    "\tdkim=pass (256-bit key) header.d=example.com header.i=@example.com header.s=ed25519 header.a=ed25519-sha256 "
    "header.b={b};\n"
    "\tarc=none;\n"
    "\tdmarc=pass (p=reject dis=none) header.from=example.com policy.dmarc=reject"
)


@pytest.mark.parametrize("size", [1, 7, 65_535])
async def test_all_checks_are_one_field(size: int) -> None:
    async with message_of(made()) as check:
        feed(check, SIGNED, size)
        found = await check.finish()

    written = str(found.results())
    assert written.replace('"', "") == GOOD.format(b=found.dkim[0].value[:8])
    assert (found.dmarc.aligned, found.helo_spf.result, found.temporary) == (("spf", "dkim"), "pass", False)
    assert (found.ip, found.sender_domain) == (IPv4Address("192.0.2.1"), "example.com")


async def test_a_message_at_hand_gives_the_same() -> None:
    async with message_of(made()) as check:
        feed(check, SIGNED)
        streamed = await check.finish()

    found = await made().check(SIGNED, ip="192.0.2.1", helo="mx.example.com", sender="alice@example.com")

    assert found == streamed


async def test_no_body_is_kept() -> None:
    chunk = b"0123456789 abcdef\r\n" * 3000
    async with message_of(made()) as check:
        feed(check, SIGNED)
        check.body(chunk)
        tracemalloc.start()
        for _ in range(100):
            check.body(chunk)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert kept < 200_000


async def test_hanging_keys_hold_nothing_up() -> None:
    """A message is done while fifty others wait for ten keys each."""
    resolver = zone()
    for number in range(10):
        resolver.add(f"s{number}._domainkey.example.com", "TXT", HANG)
    hanging = b"".join(SIGNED[: -len(MESSAGE)].replace(b"s=ed25519", b"s=s%d" % number) for number in range(10))
    clients = [made(resolver).client("192.0.2.1") for _ in range(50)]
    checks = [client.message(sender="alice@example.com", helo="mx.example.com") for client in clients]
    for check in checks:
        feed(check, hanging + MESSAGE)
    async with message_of(made(resolver)) as check:
        feed(check, SIGNED)
        found = await check.finish()
    assert sum(name.startswith("s") and "_domainkey" in name for name, _ in resolver.queries) == 500
    for check, client in zip(checks, clients, strict=True):
        check.cancel()
        client.cancel()

    assert found.dmarc.result == "pass"


def test_all_checks_run_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(made().check(SIGNED, ip="192.0.2.1", helo="mx.example.com", sender="alice@example.com"))

    assert found.dmarc.aligned == ("spf", "dkim")


async def until(resolver: ZoneResolver, name: str) -> None:
    while name not in [asked for asked, _ in resolver.queries]:
        await asyncio.sleep(0)


async def test_questions_are_asked_as_early_as_the_protocol_allows() -> None:
    """Section 6 of the contract: iprev at connect, SPF at MAIL, keys and the author's policy at the end of the header."""
    resolver = zone()
    auth = made(resolver)

    client = auth.client("192.0.2.1")
    await until(resolver, "1.2.0.192.in-addr.arpa")
    assert "example.com" not in [name for name, _ in resolver.queries]

    check = client.message(sender="alice@example.com", helo="mx.example.com")
    await until(resolver, "example.com")
    assert KEY.name not in [name for name, _ in resolver.queries]

    for field in split_message(SIGNED)[0]:
        check.header(field.raw)
    check.end_of_headers()
    await until(resolver, KEY.name)
    await until(resolver, "_dmarc.example.com")

    asked = len(resolver.queries)
    for chunk in cut(SIGNED, 100):
        check.body(chunk)
    assert (await check.finish()).dmarc.result == "pass"
    assert [name for name, _ in resolver.queries[asked:]] in ([], ["_dmarc.com"])


async def test_spf_and_the_reverse_name_can_be_had_before_the_end() -> None:
    resolver = zone()
    client = made(resolver).client("192.0.2.1")
    check = client.message(sender="alice@example.com", helo="mx.example.com")

    assert (await check.spf()).result == "pass"
    assert (await client.iprev()).result == "pass"
    feed(check, MESSAGE)
    await check.finish()

    assert [resolver.queries.count(each) for each in (("example.com", "TXT"), ("1.2.0.192.in-addr.arpa", "PTR"))] == [
        1,
        1,
    ]


async def test_the_helo_name_is_checked_once_for_all_messages() -> None:
    resolver = zone()
    client = made(resolver).client("192.0.2.1")
    for _ in range(2):
        check = client.message(sender="alice@example.com", helo="mx.example.com")
        feed(check, MESSAGE)
        assert (await check.finish()).helo_spf.result == "pass"

    assert resolver.queries.count(("mx.example.com", "TXT")) == 1


async def test_the_null_sender_is_checked_by_its_helo_name() -> None:
    found = await made().check(MESSAGE, ip="192.0.2.1", helo="mx.example.com", sender="")

    assert "spf=pass smtp.helo=mx.example.com" in str(found.results())
    assert found.helo_spf == found.spf
    assert found.dmarc.aligned == ("spf",)
    assert found.sender_domain == ""


async def test_who_waits_for_spf_and_stops_does_not_stop_it() -> None:
    resolver = zone()
    async with message_of(made(resolver)) as check:
        waiting = asyncio.ensure_future(check.spf())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        feed(check, MESSAGE)

        assert (await check.finish()).spf.result == "pass"


# What hangs, and what is said of it at the deadline.
HANGING: Final = [
    ("1.2.0.192.in-addr.arpa", "PTR", "iprev"),
    ("example.com", "TXT", "spf"),
    ("mx.example.com", "TXT", "helo_spf"),
    (KEY.name, "TXT", "dkim"),
    ("_dmarc.example.com", "TXT", "dmarc"),
]


@pytest.mark.parametrize(("name", "rdtype", "method"), HANGING)
async def test_what_hangs_is_a_temperror_at_the_deadline(name: str, rdtype: str, method: str) -> None:
    before = tasks()
    resolver = zone()
    resolver._records[name, rdtype] = HANG
    async with message_of(made(resolver, key_timeout=60.0)) as check:
        feed(check, SIGNED)
        found = await check.finish(timeout=0.05)

    value = getattr(found, method)
    (value,) = value if method == "dkim" else (value,)
    assert (value.result, value.problem) == ("temperror", "no result in 0.05 s")
    assert found.temporary or method == "helo_spf"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tasks() == before


@pytest.mark.slow
@pytest.mark.parametrize(("name", "aligned"), [("example.com", ("dkim",)), (KEY.name, ("spf",))])
async def test_one_that_hangs_does_not_matter_where_another_is_aligned(name: str, aligned: tuple[str, ...]) -> None:
    """M-051."""
    resolver = zone()
    resolver._records[name, "TXT"] = HANG
    async with message_of(made(resolver, key_timeout=60.0)) as check:
        feed(check, SIGNED)
        found = await check.finish(timeout=1.0)

    assert (found.dmarc.result, found.dmarc.aligned, found.temporary) == ("pass", aligned, True)


class Unhurried(ZoneResolver):
    """Lets others have their turn before it answers."""

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        await asyncio.sleep(0)
        return await super().lookup(name, rdtype)


@pytest.mark.slow
async def test_what_hangs_leaves_dmarc_the_time_for_its_own_questions() -> None:
    """It has to walk up from the domain that has signed."""
    below = key("ed25519", domain="a.example.com")
    resolver = Unhurried(ZONE)
    resolver.add(below.name, "TXT", below.record())
    resolver._records["example.com", "TXT"] = HANG
    signature = await dkim.sign(MESSAGE, [below], now=NOW)
    async with message_of(made(resolver)) as check:
        feed(check, signature + MESSAGE)
        found = await check.finish(timeout=2.0)

    assert (found.spf.result, found.dmarc.result, found.dmarc.aligned) == ("temperror", "pass", ("dkim",))


async def test_the_end_may_be_asked_for_again() -> None:
    async with message_of(made()) as check:
        feed(check, SIGNED)

        assert await check.finish() is await check.finish()


async def test_a_field_behind_the_header_is_a_mistake() -> None:
    async with message_of(made()) as check:
        check.end_of_headers()
        with pytest.raises(RuntimeError, match="before end_of_headers"):
            check.header(b"X: y\r\n")


async def test_what_comes_for_a_message_given_up_asks_nothing() -> None:
    before = tasks()
    resolver = zone()
    async with message_of(made(resolver, methods=["dkim", "arc", "dmarc"])) as check:
        check.header(b"From: a@example.com\r\n")
        check.cancel()
        check.end_of_headers()
        check.body(b"x\r\n")
        found = await check.finish()

    assert (resolver.queries, tasks()) == ([], before)
    assert (found.dkim, found.arc.result, found.dmarc.result) == ((), "none", "none")


@pytest.mark.parametrize("name", ["example.com", KEY.name, "_dmarc.example.com"])
async def test_dns_trouble_rejects_nothing(name: str) -> None:
    resolver = zone()
    resolver._records[name, "TXT"] = TIMEOUT

    found = await made(resolver).check(SIGNED, ip="203.0.113.1", sender="alice@example.com")

    assert found.temporary or found.dmarc.result == "pass"
    assert found.dmarc.disposition == "none"


STAGES: Final[list[Callable[[MessageCheck], object]]] = [
    lambda check: None,
    lambda check: check.header(b"From: a@example.com\r\n"),
    lambda check: feed(check, SIGNED),
]


@pytest.mark.parametrize("stage", range(len(STAGES)))
@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_message_given_up_leaves_no_task(stage: int, turns: int) -> None:
    before = tasks()
    resolver = zone()
    for name in ("example.com", KEY.name, "_dmarc.example.com", "1.2.0.192.in-addr.arpa"):
        for rdtype in ("TXT", "PTR"):
            resolver._records[name, rdtype] = HANG
    async with message_of(made(resolver)) as check:
        STAGES[stage](check)
        for _ in range(turns):
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)

    assert tasks() == before


async def test_a_relayed_message_given_up_leaves_no_task() -> None:
    before = tasks()
    resolver = zone()
    for name, rdtype in (("1.2.0.192.in-addr.arpa", "PTR"), ("mx.example.com", "TXT")):
        resolver._records[name, rdtype] = HANG
    async with message_of(made(resolver, trusted_relays=["198.51.100.7"]), ip="198.51.100.7") as check:
        feed(check, relayed(RECEIVED[0]))
        await until(resolver, "mx.example.com")
    for _ in range(5):
        await asyncio.sleep(0)

    assert tasks() == before


class Late(ZoneResolver):
    """Answers some names only once it is let."""

    def __init__(self, *names: str) -> None:
        super().__init__(ZONE)
        self.names = names
        self.let = asyncio.Event()

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        answer = await super().lookup(name, rdtype)
        if name in self.names:
            await self.let.wait()
        return answer


@pytest.mark.parametrize(("name", "method"), [("1.2.0.192.in-addr.arpa", "iprev"), ("mx.example.com", "helo_spf")])
async def test_the_end_waits_for_every_check(name: str, method: str) -> None:
    resolver = Late(name)
    async with message_of(made(resolver)) as check:
        feed(check, MESSAGE)
        finishing = asyncio.ensure_future(check.finish())
        await until(resolver, "_dmarc.com")
        for _ in range(20):
            await asyncio.sleep(0)
        resolver.let.set()
        found = await finishing

    assert getattr(found, method).result == "pass"


ARC_SETS: Final = b"".join(
    b"ARC-Seal: i=%d; a=b\r\nARC-Message-Signature: i=%d; a=b\r\nARC-Authentication-Results: i=%d; x; none\r\n"
    % (number, number, number)
    for number in range(1, 5)
)


@pytest.mark.parametrize("turns", [None, 1, 2])
async def test_finish_that_is_cancelled_leaves_no_task(turns: int | None) -> None:
    """Where it waits for a key, and where it lets others have their turn."""
    before = tasks()
    resolver = zone()
    resolver._records[KEY.name, "TXT"] = HANG
    client = made(resolver).client("192.0.2.1")
    check = client.message(sender="alice@example.com", helo="mx.example.com")
    feed(check, SIGNED if turns is None else ARC_SETS + SIGNED)
    finishing = asyncio.ensure_future(check.finish())
    if turns is None:
        await until(resolver, KEY.name)
    for _ in range(turns or 0):
        await asyncio.sleep(0)

    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)
    client.cancel()
    for _ in range(5):
        await asyncio.sleep(0)

    assert finishing.cancelled()
    assert tasks() == before


async def test_a_message_that_was_given_up_has_no_result_but_none() -> None:
    async with message_of(made()) as check:
        feed(check, SIGNED)
        check.cancel()
        found = await check.finish()

    assert (found.spf.result, found.dmarc.result) == ("none", "none")


FORGED: Final = (
    b"Authentication-Results: other.example; spf=pass\r\n"
    b"Authentication-Results: mx.example.net; dkim=pass\r\n"
    b"X: y\r\n"
    b"authentication-results : MX.EXAMPLE.NET; dmarc=pass\r\n"
    b"Authentication-Results-Original: mx.example.net; dkim=pass\r\n"
    b"ARC-Authentication-Results: i=1; mx.example.net; spf=pass\r\n"
    b"Authentication-Results: in.example.net; none\r\n"
)


@pytest.mark.parametrize(
    ("ids", "occurrences"),
    [((ID,), (3, 2)), (("example.org",), ()), ((ID, "in.example.net"), (4, 3, 2)), ((ID, ".example.net"), (4, 3, 2))],
)
async def test_fields_that_claim_to_be_ours_are_found(ids: tuple[str, ...], occurrences: tuple[int, ...]) -> None:
    """R-002, R-003."""
    found = await made(authserv_ids=ids).check(FORGED + MESSAGE)

    assert found.forged == occurrences
    assert found.authserv_id == ids[0]


async def test_fields_are_found_where_the_header_is_too_large_to_keep() -> None:
    resolver = zone()
    async with message_of(made(resolver)) as check:
        check.header(b"From: alice@example.com\r\n")
        check.header(b"X: " + b"x" * 5_000_000 + b"\r\n")
        feed(check, FORGED + MESSAGE)
        found = await check.finish()

    assert found.forged == (3, 2)
    assert (found.dmarc.result, found.dkim[0].result) == ("temperror", "temperror")
    assert not any(name.startswith("_dmarc.") for name, _ in resolver.queries)


async def test_a_message_at_hand_with_too_large_a_header_is_a_temperror() -> None:
    found = await made().check(b"X: y\r\n" * 6000 + MESSAGE)

    assert (found.dmarc.result, found.dkim[0].result) == ("temperror", "temperror")


@pytest.mark.parametrize("name", ["1.2.0.192.in-addr.arpa", "mx.example.com"])
async def test_a_check_of_a_message_at_hand_leaves_no_task(name: str) -> None:
    before = tasks()
    resolver = zone()
    resolver._records[name, "TXT"] = resolver._records[name, "PTR"] = HANG

    await made(resolver).check(SIGNED, ip="192.0.2.1", helo="mx.example.com", sender="a@example.com", timeout=0.05)
    for _ in range(5):
        await asyncio.sleep(0)

    assert tasks() == before


async def test_a_client_may_have_names_of_its_own() -> None:
    client = made(authserv_ids=()).client(None, authserv_ids=["other.example"])
    check = client.message(sender="", helo="")
    feed(check, FORGED + MESSAGE)

    found = await check.finish()

    assert (found.forged, found.authserv_id) == ((1,), "other.example")


def relayed(received: str) -> bytes:
    return f"Received: {received}\r\n".encode() + FORGED + SIGNED


RECEIVED: Final = [
    "from mx.example.com (mx.example.com [192.0.2.1])\r\n\tby relay.example.net (Postfix) with ESMTP id 1; now",
    "from mx.example.com (unknown [192.0.2.1]) by relay.example.net",
    "from mx.example.com ([192.0.2.1]) by relay.example.net",
    "from mx.example.com (a@mx.example.com [192.0.2.1] (may be forged))\r\n\tby relay.example.net (8.17.1/8.17.1); now",
]


@pytest.mark.parametrize("received", RECEIVED)
async def test_behind_a_relay_of_ours_the_client_is_the_one_it_names(received: str) -> None:
    message = relayed(received)
    async with message_of(
        made(trusted_relays=["198.51.100.0/24"]), ip="198.51.100.7", helo="relay.example.net"
    ) as check:
        waiting = asyncio.ensure_future(check.spf())
        await asyncio.sleep(0)
        assert not waiting.done()
        feed(check, message)
        found = await check.finish()

    assert (found.iprev.result, found.spf.result, found.helo_spf.result) == ("pass", "pass", "pass")
    assert (found.ip, found.spf.helo) == (IPv4Address("192.0.2.1"), "mx.example.com")
    assert (found.forged, (await waiting).result) == ((), "pass")


UNREADABLE: Final = [
    "",
    "by relay.example.net (Postfix, from userid 1000)",
    "from mx.example.com by relay.example.net",
    "from mx.example.com (mx.example.com [192.0.2.300]) by relay.example.net",
    "from mx.example.com (mx.example.com [192.0.2.1.9]) by relay.example.net",
    "from mx.example.com (mx.example.com [192.0.2.1]x) by relay.example.net",
    "from mx.example.com (x) by relay.example.net (y [192.0.2.1])",
]


@pytest.mark.parametrize("received", UNREADABLE)
async def test_where_a_relay_names_no_client_it_is_not_judged(received: str) -> None:
    """A Received field below it is no proof."""
    message = relayed(received)
    message = message.replace(b"X: y\r\n", b"Received: from mx.example.com (mx.example.com [192.0.2.1]) by x\r\n")
    async with message_of(made(trusted_relays=["198.51.100.7"]), ip="198.51.100.7") as check:
        feed(check, message)
        found = await check.finish()

    assert [found.iprev.result, found.spf.result, found.helo_spf.result, found.dmarc.result] == ["none"] * 4
    assert [each.method for each in found.results().results] == ["dkim", "arc"]


async def test_a_client_without_an_address_is_not_judged() -> None:
    async with message_of(made(), ip=None) as check:
        feed(check, MESSAGE)
        found = await check.finish()

    assert str(found.results()) == f"{ID};\n\tdkim=none;\n\tarc=none"
    assert (found.dmarc.disposition, found.dmarc_record()) == ("none", None)


async def test_a_message_at_hand_is_judged_by_its_signatures_where_no_client_is_given() -> None:
    found = await made().check(SIGNED)

    assert (found.dmarc.result, found.dmarc.aligned) == ("pass", ("dkim",))
    assert found.dmarc_record() is None
    assert [each.method for each in found.results().results] == ["dkim", "arc", "dmarc"]


@pytest.mark.parametrize(
    "methods", [(), ("iprev",), ("spf",), ("dkim",), ("arc",), ("dmarc",), ("spf", "dkim", "dmarc"), METHODS]
)
async def test_only_what_is_asked_for_is_looked_at(methods: tuple[str, ...]) -> None:
    resolver = zone()

    found = await made(resolver, methods=methods).check(SIGNED, ip="192.0.2.1", helo="h", sender="alice@example.com")

    assert [each.method for each in found.results().results] == list(methods)
    assert bool(resolver.queries) == (methods not in ((), ("arc",)))
    if not methods:
        assert str(found.results()) == f"{ID}; none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["dns"]}, "methods: expected some of iprev, spf, dkim, arc, dmarc, found dns"),
        ({"authserv_ids": ["a b"]}, "expected a name such as"),
        ({"authserv_ids": [".example.net", ID]}, "authserv_ids: expected first the name that is written"),
        ({"trusted_relays": ["192.0.2.1/24"]}, "host bits"),
        ({"max_signatures": 0}, "max_signatures: expected 1 to 50"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_one_name_may_be_a_text() -> None:
    assert made(authserv_ids=ID)._ids == (ID,)


async def test_a_client_without_a_name_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a name"):
        made(authserv_ids=()).client(None)


def test_without_cryptography_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiomilter.auth.dkim import _crypto

    monkeypatch.setattr(_crypto, "_THERE", False)

    with pytest.raises(ImportError, match=r"aiomilter\[dkim\]"):
        made()
    made(methods=["spf", "dmarc"])


def test_one_check_alone_imports_no_other() -> None:
    """A-025: nothing needs ARC, in case it becomes history."""
    import subprocess

    code = (
        "import sys, aiomilter.auth.spf; print('aiomilter.auth.dkim' in sys.modules)\n"
        "import aiomilter.auth.iprev, aiomilter.auth.results, aiomilter.auth.dkim, aiomilter.auth.dmarc, aiomilter.mail.srs\n"
        "print([name for name in sys.modules if name.startswith('aiomilter.auth.arc')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "False\n[]\n"


def test_nothing_but_what_makes_all_checks_needs_arc() -> None:
    """A-025."""
    package = Path(aiomilter.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"^\s*(?:from|import) .*\b(?:auth\.arc|auth import .*\barc)\b", path.read_text(), re.MULTILINE)
    }

    assert {user for user in users if not user.startswith("auth/arc/")} == {
        "auth/_authentication.py",
        "auth/_checks.py",
        "filters/seal.py",
    }


def test_no_other_name_is_in_the_package() -> None:
    import aiomilter.auth

    with pytest.raises(AttributeError, match="nothing"):
        _ = aiomilter.auth.nothing


async def test_the_questions_of_a_message_are_bounded() -> None:
    """A hundred, then temperror."""
    resolver = zone()
    terms = " ".join(f"mx:{number}.spf.example" for number in range(10))
    resolver._records["example.com", "TXT"] = [f"v=spf1 {terms} -all".encode()]
    for number in range(10):
        for other in range(10):
            resolver.add(f"{number}.spf.example", "MX", f"10 {other}.{number}.spf.example")
            resolver.add(f"{other}.{number}.spf.example", "A", "203.0.113.1")

    found = await made(resolver, methods=["spf", "dkim", "dmarc"]).check(
        SIGNED, ip="192.0.2.2", sender="alice@example.com"
    )

    assert len(resolver.queries) <= 200
    assert found.spf.result == "temperror"
    assert "more than 100 DNS questions" in found.spf.problem


def with_signatures(*signatures: dkim.Signature, **options: Any) -> Authentication:
    found = asyncio.run(made().check(SIGNED, ip="192.0.2.1", helo="mx.example.com", sender="alice@example.com"))
    from dataclasses import replace

    return replace(found, dkim=signatures, **options)


LONG: Final = "x" * 60 + "." + "y" * 60 + "." + "z" * 60 + ".example"


@pytest.mark.parametrize("smtputf8", [False, True])
def test_the_field_is_bounded_and_the_best_signatures_stay(smtputf8: bool) -> None:
    """R-007, R-008."""
    results: list[Any] = ["fail"] * 9 + ["temperror"] * 2 + ["pass"] * 2
    local = "ä" * 90
    signatures = [
        dkim.Signature(result, domain=LONG, selector=LONG[:180], identity=f"{local}@{LONG}", value=f"{number:08d}")
        for number, result in enumerate(results)
    ]

    written = with_signatures(*signatures).results().value(smtputf8=smtputf8)

    assert len(written.encode()) < 4096
    assert (written.count("dkim=pass"), written.count("dkim=temperror")) == (2, 2)
    kept = written.count("dkim=")
    assert f"{13 - kept} more signatures" in written
    read = parse(written)
    assert read is not None
    assert [each.method for each in read.results] == ["iprev", "spf", *["dkim"] * kept, "arc", "dmarc"]


def test_results_of_others_are_joined_in_order() -> None:
    """R-004, R-009."""
    login = MethodResult("auth", "pass", (Property("smtp", "auth", "alice"),))
    other = MethodResult("x-other", "pass")

    found = with_signatures().results("other.example", extra=[other, login])

    assert found.authserv_id == "other.example"
    assert [each.method for each in found.results] == ["auth", "iprev", "spf", "dkim", "arc", "dmarc", "x-other"]


FORWARDED: Final = next(case for case in cases("arc-draft-validation-tests.yml") if case.name == "cv_pass_i1_1")
PUBLISHED: Final = "_dmarc.d1.example.org TXT v=DMARC1;p=reject\n"


async def forwarded(
    *sealers: str,
    change: Callable[[bytes], bytes] = bytes,
    trouble: Trouble | None = None,
    timeout: float = 10.0,
    policy: str = "",
) -> Authentication:
    """Return what is found of a message that was sealed by example.org, and whose author's domain publishes p=reject."""
    resolver = ZoneResolver(PUBLISHED + policy)
    for name, text in FORWARDED.records.items():
        resolver.add(name, "TXT", trouble or text)
    auth = made(resolver, trusted_sealers=sealers, key_timeout=60.0)
    message = change(FORWARDED.message)
    return await auth.check(message, ip="192.0.2.1", sender="list@example.org", timeout=timeout)


async def test_a_chain_of_a_trusted_sealer_overrules_the_policy() -> None:
    """A-023, M-070."""
    found = await forwarded("other.example", "example.org")

    assert (found.arc.result, found.dmarc.result, found.dmarc.policy) == ("pass", "fail", "reject")
    assert found.dmarc.disposition == "none"
    assert found.dmarc.override == dmarc.Override("local_policy", "arc=pass as[1].d=example.org as[1].s=dummy")
    assert "arc=pass (i=1: example.org) smtp.remote-ip=192.0.2.1 header.oldest-pass=0;" in str(found.results())
    record = found.dmarc_record()
    assert record is not None
    assert (record.disposition, record.reasons) == ("none", (found.dmarc.override,))


@pytest.mark.parametrize(
    ("sealers", "change"),
    [
        ((), bytes),
        (("other.example",), bytes),
        # The chain does not pass.
        (("example.org",), lambda message: message + b"more\r\n"),
    ],
)
async def test_any_other_chain_does_not(sealers: tuple[str, ...], change: Callable[[bytes], bytes]) -> None:
    found = await forwarded(*sealers, change=change)

    assert (found.dmarc.result, found.dmarc.disposition, found.dmarc.override) == ("fail", "reject", None)


async def test_a_message_that_passes_needs_no_chain() -> None:
    passing = "example.org TXT v=spf1 ip4:192.0.2.1 -all\n_dmarc.example.org TXT v=DMARC1;p=none\n"

    found = await forwarded("example.org", policy=passing)

    assert (found.dmarc.result, found.dmarc.override) == ("pass", None)


@pytest.mark.parametrize(("said", "overrules"), [("dmarc=pass", True), ("spf=pass", True), ("dmarc=fail", False)])
def test_a_sealer_that_saw_dmarc_fail_is_believed(said: str, overrules: bool) -> None:
    sealed = arc.ChainSet(1, "example.org", "s", "none", "example.org", f"i=1; example.org; {said}")

    assert bool(_override(arc.Chain("pass", 1, 0, (sealed,)), ("example.org",))) == overrules


async def test_a_chain_whose_keys_hang_is_a_temporary_failure() -> None:
    found = await forwarded("example.org", trouble=HANG, timeout=0.05)

    assert (found.arc.result, found.arc.temporary, found.temporary) == ("fail", True, True)
    assert found.dmarc.disposition == "none"


@pytest.mark.parametrize(("sealer", "result"), [("example.org", "temperror"), ("other.example", "fail")])
async def test_a_trusted_chain_that_cannot_be_checked_rejects_nothing(sealer: str, result: str) -> None:
    found = await forwarded(sealer, trouble=TIMEOUT)

    assert (found.arc.temporary, found.temporary, found.dmarc.result) == (True, True, result)
    assert (found.dmarc.disposition == "none") == (result == "temperror")


async def test_what_is_found_can_be_reported() -> None:
    found = await made().check(SIGNED, ip="192.0.2.1", helo="mx.example.com", sender="alice@example.com")

    record = found.dmarc_record()

    assert record is not None
    assert (record.domain, record.envelope_from, record.disposition) == ("example.com", "example.com", "pass")
    assert (record.spf_domain, record.spf_result) == ("example.com", "pass")
    assert record.signatures == (dmarc.SignatureResult("example.com", "ed25519", "pass"),)


async def test_what_was_done_otherwise_can_be_reported() -> None:
    found = await made().check(MESSAGE, ip="203.0.113.1", sender="alice@example.com")

    record = found.dmarc_record(done="quarantine", reasons=[dmarc.Override("local_policy", "on probation")])

    assert record is not None
    assert (record.disposition, record.reasons) == ("quarantine", (dmarc.Override("local_policy", "on probation"),))


async def test_the_body_or_the_end_may_come_before_the_end_of_the_header_is_told() -> None:
    for act in (lambda check: check.body(b"x\r\n"), lambda check: None):
        async with message_of(made()) as check:
            check.header(b"From: a@example.com\r\n")
            act(check)
            assert (await check.finish()).dmarc.result == "pass"


PIECES: Final = st.sampled_from(
    [
        b"From",
        b":",
        b" ",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"a@example.com",
        b"DKIM-Signature",
        b"v=1;",
        b"<",
        b"\xff",
        b"(",
        b'"',
        b"Received",
        b"Authentication-Results",
        b"mx.example.net;",
        b"from x (y [192.0.2.1])",
    ]
)


@given(st.lists(st.lists(PIECES, max_size=8).map(b"".join), max_size=6), st.binary(max_size=20), st.text(max_size=20))
def test_no_message_raises(fields: list[bytes], body: bytes, sender: str) -> None:
    async def played() -> Authentication:
        async with message_of(made(trusted_relays=["192.0.2.1"]), sender=sender, helo=sender) as check:
            for field in fields:
                check.header(field)
            check.body(body)
            return await check.finish()

    found = asyncio.run(played())

    assert "\r" not in str(found.results())
    assert len(str(found.results()).encode()) < 4096
