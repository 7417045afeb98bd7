"""A greylist lets through what comes back, by either way; large senders lose nothing."""

import random
from collections.abc import Callable
from ipaddress import ip_address
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.policy import Greylist, Seen
from aiomilter.policy.greylist import general_sender
from aiomilter.policy.stores import GuardedStore
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.examples.test_examples import load
from tests.policy.store_steps import NOW, Moved
from tests.policy.test_rates import KEYS, Down

TRIPLE = ("192.0.2.1", "alice@example.com", "bob@example.net")
BEGAN = NOW / 1e6
DAY = 86_400


@pytest.fixture
def clock() -> Moved:
    return Moved()


@pytest.fixture
def greylist(clock: Moved) -> Callable[..., Greylist]:
    """Make greylists that share a store."""
    store = GuardedStore(MemoryStore(clock=clock), KEYS, timeout=None)
    return lambda **options: Greylist(store, **options)


Make = Callable[..., Greylist]


async def test_the_first_attempt_waits_and_one_after_the_delay_passes(greylist: Make, clock: Moved) -> None:
    grey = greylist()
    assert await grey.check(*TRIPLE) == Seen("wait", 300.0, BEGAN)
    clock.move(299)
    assert await grey.check(*TRIPLE) == Seen("wait", 1.0, BEGAN)
    clock.move(1)
    assert await grey.check(*TRIPLE) == Seen("pass", 0.0, BEGAN, 1)
    assert await grey.check(*TRIPLE) == Seen("pass", 0.0, BEGAN, 2)


@pytest.mark.parametrize(("after", "verdict"), [(48 * 3600 - 1, "pass"), (48 * 3600, "wait")])
async def test_one_that_comes_back_too_late_is_new(greylist: Make, clock: Moved, after: int, verdict: str) -> None:
    grey = greylist()
    await grey.check(*TRIPLE)
    clock.move(after)
    assert (await grey.check(*TRIPLE)).verdict == verdict


async def test_what_has_passed_is_remembered_from_the_last_time_on(greylist: Make, clock: Moved) -> None:
    grey = greylist()
    await grey.check(*TRIPLE)
    clock.move(300)
    for expected in (1, 2, 3):
        assert (await grey.check(*TRIPLE)).count == expected
        clock.move(36 * DAY - 1)
    clock.move(1)
    assert (await grey.check(*TRIPLE)).verdict == "wait"


async def test_what_has_passed_does_not_wait_again_where_the_delay_has_grown(greylist: Make, clock: Moved) -> None:
    await greylist().check(*TRIPLE)
    clock.move(300)
    assert (await greylist().check(*TRIPLE)).verdict == "pass"
    assert (await greylist(delay=3600).check(*TRIPLE)).verdict == "pass"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (("192.0.2.254", *TRIPLE[1:]), "pass"),
        (("::ffff:192.0.2.7", *TRIPLE[1:]), "pass"),
        (("192.0.3.1", *TRIPLE[1:]), "wait"),
        ((TRIPLE[0], "ALICE@Example.Com", "Bob@EXAMPLE.net"), "pass"),
        ((TRIPLE[0], "alice+x@example.com", TRIPLE[2]), "pass"),
        ((TRIPLE[0], "carol@example.com", TRIPLE[2]), "wait"),
        ((*TRIPLE[:2], "carol@example.net"), "wait"),
    ],
)
async def test_a_triple_is_a_network_a_sender_and_a_recipient(
    greylist: Make, clock: Moved, change: tuple[str, str, str], verdict: str
) -> None:
    grey = greylist()
    await grey.check(*TRIPLE)
    clock.move(300)
    assert (await grey.check(*change)).verdict == verdict


async def test_networks_have_other_lengths_if_told(greylist: Make, clock: Moved) -> None:
    grey = greylist(ipv4_prefix=32, ipv6_prefix=64)
    for ip in ("192.0.2.1", "2001:db8:0:1::1"):
        await grey.check(ip, *TRIPLE[1:])
    clock.move(300)
    for ip, verdict in (("192.0.2.2", "wait"), ("2001:db8:0:1::2", "pass"), ("2001:db8:0:2::1", "wait")):
        assert (await grey.check(ip, *TRIPLE[1:])).verdict == verdict


async def test_a_domain_comes_back_from_anywhere(greylist: Make, clock: Moved) -> None:
    grey = greylist()
    assert (await grey.check("192.0.2.1", "a1@x.example", "bob@example.net", domain="x.example")).verdict == "wait"
    clock.move(300)
    seen = await grey.check("198.51.100.1", "zz@x.example", "bob@example.net", domain="X.Example.")
    assert seen == Seen("pass", 0.0, BEGAN, 1)
    # Only by the domain, and to this recipient.
    assert (await grey.check("198.51.100.1", "zz@x.example", "bob@example.net")).verdict == "wait"
    assert (await grey.check("203.0.113.1", "zz@x.example", "bob@example.net")).verdict == "wait"
    assert (await grey.check("203.0.113.2", "zz@x.example", "carol@example.net", domain="x.example")).verdict == "wait"


async def test_a_client_that_has_passed_three_times_is_known(greylist: Make, clock: Moved) -> None:
    grey = greylist()
    for recipient in ("a@x.example", "b@x.example", "c@x.example"):
        assert (await grey.check("192.0.2.1", "s@d.example", recipient, domain="d.example")).verdict == "wait"
        clock.move(300)
        assert (await grey.check("192.0.2.1", "s@d.example", recipient, domain="d.example")).verdict == "pass"
    assert (await grey.check("192.0.2.9", "t@d.example", "new@x.example", domain="d.example")).verdict == "known"
    # Its domain elsewhere, and another one here, are not.
    assert (await grey.check("198.51.100.1", "t@d.example", "y@x.example", domain="d.example")).verdict == "wait"
    assert (await grey.check("192.0.2.9", "t@e.example", "z@x.example", domain="e.example")).verdict == "wait"
    assert (await grey.check("192.0.2.9", "t@d.example", "w@x.example")).verdict == "wait"
    clock.move(36 * DAY)
    assert (await grey.check("192.0.2.9", "t@d.example", "v@x.example", domain="d.example")).verdict == "wait"


@pytest.mark.parametrize("ip", [None, "127.0.0.1", "::1", ip_address("127.9.9.9"), "no address"])
async def test_local_mail_passes(greylist: Make, ip: Any) -> None:
    assert await greylist().check(ip, *TRIPLE[1:]) == Seen("pass")


@pytest.mark.parametrize(
    ("how", "rcpt", "data"), [("data", "pass", "wait"), ("rcpt", "wait", "wait"), ("never", "pass", "pass")]
)
async def test_the_null_sender_waits_at_data(greylist: Make, how: Any, rcpt: str, data: str) -> None:
    """Else a server that asks whether an address exists gets no answer."""
    grey = greylist(null_sender=how)
    assert (await grey.check("192.0.2.1", "", "bob@example.net")).verdict == rcpt
    assert (await grey.check("192.0.2.1", "", "bob@example.net", stage="data")).verdict == data


@pytest.mark.parametrize("ip", [None, "127.0.0.1", "::1", "192.0.2.1"])
@pytest.mark.parametrize("stage", ["rcpt", "data"])
@pytest.mark.parametrize("sender", ["", "alice@example.com"])
async def test_to_look_says_what_the_check_would(greylist: Make, ip: Any, stage: Any, sender: str) -> None:
    grey = greylist()
    seen = await grey.look(ip, sender, "bob@example.net", stage=stage)
    assert await grey.check(ip, sender, "bob@example.net", stage=stage) == seen
    await grey.forget(ip, sender, "bob@example.net")


async def test_to_look_notes_nothing_and_to_forget_all(greylist: Make, clock: Moved) -> None:
    grey = greylist()
    assert await grey.look(*TRIPLE) == Seen("wait", 300.0, BEGAN)
    clock.move(300)
    assert (await grey.check(*TRIPLE)).verdict == "wait"
    clock.move(300)
    assert (await grey.look(*TRIPLE)).verdict == "pass"
    await grey.forget(*TRIPLE)
    assert (await grey.check(*TRIPLE)).verdict == "wait"


async def test_a_dry_run_notes_and_lets_pass(greylist: Make, clock: Moved) -> None:
    grey = greylist(dry_run=True)
    assert await grey.check(*TRIPLE) == Seen("pass", 300.0, BEGAN)
    clock.move(300)
    assert (await greylist().check(*TRIPLE)).verdict == "pass"


async def test_without_a_store_mail_passes_or_waits() -> None:
    assert await Greylist(GuardedStore(Down(), KEYS)).check(*TRIPLE) == Seen("unavailable", problem="gone")
    waiting = Greylist(GuardedStore(Down(), KEYS), on_failure="tempfail")
    assert await waiting.check(*TRIPLE) == Seen("wait", 30.0, problem="gone")


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": 0}, {"delay": 10, "window": 10}, {"window": 100, "keep": 10, "delay": 1}, {"often": 0},
        {"ipv4_prefix": 33}, {"ipv6_prefix": -1}, {"null_sender": "mail"}, {"on_failure": "reject"}, {"keep": 1e9},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(greylist: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        greylist(**wrong)


# The schedule of a patient mail server, in minutes.
RETRIES = [0, 5, 15, 30, 60, 120, 240, 480, 720, 1080, 1440, 2160, 2880]


async def simulated(greylist: Make, clock: Moved, nets: int, addresses: int, domain: str | None) -> list[float]:
    """Return after how many minutes messages pass, each retry from any address of a pool; infinity for those lost."""
    chance, grey, found = random.Random(1), greylist(), []
    for run in range(500):
        began, passed = clock.now, float("inf")
        for minutes in RETRIES:
            clock.now = began + minutes * 60 * 1_000_000
            ip = f"10.{chance.randrange(nets)}.0.{chance.randrange(addresses)}"
            seen = await grey.check(ip, "a@pool.example", f"r{run}@example.net", domain=domain)
            if seen.verdict != "wait":
                passed = minutes
                break
        found.append(passed)
        clock.now = began + 3 * DAY * 1_000_000
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("nets", "addresses"), [(1, 8), (8, 8), (64, 8)])
async def test_no_pool_of_senders_loses_mail_that_spf_passes(
    greylist: Make, clock: Moved, nets: int, addresses: int
) -> None:
    found = await simulated(greylist, clock, nets, addresses, "pool.example")
    assert max(found) == 5


@pytest.mark.slow
async def test_without_spf_a_large_pool_loses_mail(greylist: Make, clock: Moved) -> None:
    """What the domain is for: 512 addresses in 64 networks."""
    found = await simulated(greylist, clock, 64, 8, None)
    assert 720 <= median(found) <= 1440
    assert 0.2 < found.count(float("inf")) / len(found) < 0.35
    assert max(await simulated(greylist, clock, 1, 8, None)) == 5


@pytest.mark.slow
async def test_a_pool_whose_mail_spf_passes_loses_none_over_smtp(greylist: Make, clock: Moved) -> None:
    """The example, asked as Postfix asks it; each attempt is of another client."""
    grey, example = greylist(), load("greylisting")
    resolver = ZoneResolver({"pool.example": {"TXT": ["v=spf1 ip4:10.0.0.0/8 -all"]}})
    chance, found = random.Random(2), []
    for run in range(25):
        for minutes in RETRIES:
            client = f"10.{chance.randrange(64)}.0.{chance.randrange(8)}"
            async with session(lambda: example.Greylisting(resolver, grey), client=client) as s:
                await s.mail("<a@pool.example>")
                answer = await s.rcpt(f"<r{run}@example.net>")
                if answer.code != 451:
                    assert (await s.message(b"Subject: x\r\n\r\n")).answer.code == 250
                    found.append(minutes)
                    break
            clock.move(300)
    assert found == [5] * 25


@pytest.mark.parametrize(
    ("senders", "general"),
    [
        (["Alice@Example.COM", "alice@example.com."], "alice@example.com"),
        (["alice+news@example.com", "alice+x=y@example.com"], "alice@example.com"),
        (["list-bounces+bob=x.example@l.example", "list-bounces+eve=y.example@l.example"], "list-bounces@l.example"),
        (["list-bounces-bob=x.example@l.example", "list-bounces-eve=y.z.example@l.example"], "list-bounces@l.example"),
        (["bounce-12345-678@m.example", "bounce-9-1@m.example"], "bounce-#@m.example"),
        (["prvs=1234abcdef=alice@x.example", "prvs=9999000000=alice@x.example", "alice@x.example"], "alice@x.example"),
        (["SRS0=AbCd=G3=o.example=al@f.example", "srs0=wxyz=g4=o.example=al@f.example"], "srs=o.example=al@f.example"),
        (
            ["SRS1=AbCd=f.example==wxyz=G3=o.example=al@g.example", "SRS1=qqqq=f.example==wxyz=G3=o.example=al@g.example"],
            "srs=f.example=o.example=al@g.example",
        ),
        (
            ["0100018f3c2a-5d1e2f3a-4b5c-000000@ses.example", "010001900000-1a2b3c4d-9999-000000@ses.example"],
            "#@ses.example",
        ),
        (["a1@x.example"], "a1@x.example"),
        (["room101@x.example"], "room101@x.example"),
        (["x7k2m9q4z8t1-w@x.example"], "#-w@x.example"),
        (["+@x.example"], "+@x.example"),
        (["=a.b@x.example"], "=a.b@x.example"),
        ([""], "@"),
        (["postmaster"], "postmaster@"),
    ],
)  # fmt: skip
def test_a_sender_is_made_general(senders: list[str], general: str) -> None:
    assert {general_sender(sender) for sender in senders} == {general}


@given(st.text(max_size=400))
def test_any_sender_has_a_general_form_and_that_is_its_own(sender: str) -> None:
    general = general_sender(sender)
    assert len(general) <= 700
    general_sender(general)
