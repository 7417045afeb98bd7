"""Whom our users have written to is known, if it is them."""

from typing import Any

import pytest

from aiomilter.policy import Authenticated, Known, KnownSenders
from aiomilter.policy.stores import GuardedStore
from aiomilter.policy.stores.memory import MemoryStore
from tests.policy.store_steps import Moved
from tests.policy.test_rates import KEYS, Down

SPF = Authenticated("example.com", "spf")
DAY = 86_400


def known(clock: Moved | None = None, **options: Any) -> KnownSenders:
    return KnownSenders(GuardedStore(MemoryStore(clock=clock or Moved()), KEYS, timeout=None), **options)


async def test_whom_a_user_has_written_to_is_known_to_that_user() -> None:
    senders = known()
    assert await senders.note("bob@ours.example", ["alice@example.com", "Alice@EXAMPLE.com", "eve@example.com"]) == ""
    assert await senders.knows("alice@example.com", "Bob@Ours.Example", SPF) == Known(True, 1)
    assert await senders.knows("carol@example.com", "bob@ours.example", SPF) == Known()
    assert await senders.knows("alice@example.com", "dora@ours.example", SPF) == Known()
    await senders.note("bob@ours.example", ["alice@example.com"])
    assert await senders.knows("alice@example.com", "bob@ours.example", SPF) == Known(True, 2)


@pytest.mark.parametrize(
    ("proof", "expected"),
    [
        (None, False),
        (Authenticated("evil.example", "spf"), False),
        (Authenticated("ample.com", "dkim"), False),
        (Authenticated("", "dkim"), False),
        (Authenticated("Example.COM.", "dkim"), True),
        (Authenticated("com.example", "spf"), False),
        (Authenticated("mail.example.com", "spf"), False),
    ],
)
async def test_a_sender_that_nothing_proves_is_not_known(proof: Authenticated | None, expected: bool) -> None:
    """Anybody can write any address."""
    senders = known()
    await senders.note("bob@ours.example", ["alice@example.com"])
    assert (await senders.knows("alice@example.com", "bob@ours.example", proof)).known is expected


def test_no_domain_proves_no_sender() -> None:
    assert not any(Authenticated("", "spf").covers(sender) for sender in ("", "alice", "alice@", "alice@x.example"))


async def test_a_domain_proves_those_below_it() -> None:
    senders = known()
    await senders.note("bob@ours.example", ["alice@mail.example.com"])
    assert (await senders.knows("alice@mail.example.com", "bob@ours.example", SPF)).known


async def test_a_pair_is_forgotten_after_60_days_or_when_told() -> None:
    clock = Moved()
    senders = known(clock)
    await senders.note("bob@ours.example", ["alice@example.com", "eve@example.com"])
    assert await senders.forget("bob@ours.example", "eve@example.com") == ""
    assert not (await senders.knows("eve@example.com", "bob@ours.example", SPF)).known
    clock.move(60 * DAY - 1)
    assert (await senders.knows("alice@example.com", "bob@ours.example", SPF)).known
    clock.move(1)
    assert not (await senders.knows("alice@example.com", "bob@ours.example", SPF)).known


async def test_a_thousand_recipients_are_noted() -> None:
    senders = known()
    await senders.note("bob@ours.example", [f"a{number}@example.com" for number in range(1050)])
    assert (await senders.knows("a1049@example.com", "bob@ours.example", SPF)).known


async def test_without_a_store_nobody_is_known() -> None:
    senders = KnownSenders(GuardedStore(Down(), KEYS))
    assert await senders.note("bob@ours.example", ["alice@example.com"]) == "gone"
    assert await senders.forget("bob@ours.example", "alice@example.com") == "gone"
    assert await senders.knows("alice@example.com", "bob@ours.example", SPF) == Known(problem="gone")


@pytest.mark.parametrize("keep", [0, -1, 1e12])
def test_how_long_a_pair_is_kept_is_bounded(keep: float) -> None:
    with pytest.raises(ValueError, match="expected keep"):
        known(keep=keep)
