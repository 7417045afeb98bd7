"""A client that writes to a trap is remembered."""

from typing import Any

import pytest

from aiomilter.policy import Caught, Traps
from aiomilter.policy.stores import GuardedStore
from aiomilter.policy.stores.memory import MemoryStore
from tests.policy.store_steps import Moved
from tests.policy.test_rates import KEYS, Down

ADDRESSES = ["info-2009@Example.org", "@old.example"]


def traps(clock: Moved | None = None, **options: Any) -> Traps:
    store = GuardedStore(MemoryStore(clock=clock or Moved()), KEYS, timeout=None)
    return Traps(store, options.pop("addresses", ADDRESSES), **options)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("INFO-2009@example.ORG", True), ("info@example.org", False), ("anybody@old.example", True),
        ("x@Old.Example.", True), ("x@very.old.example", False), ("", False), ("old.example", False),
    ],
)  # fmt: skip
def test_a_trap_is_an_address_or_a_domain(address: str, expected: bool) -> None:
    assert traps().is_trap(address) is expected


async def test_a_client_that_writes_to_a_trap_is_remembered_for_a_week() -> None:
    clock = Moved()
    found = traps(clock)
    assert await found.caught("192.0.2.1") == Caught()
    assert await found.note("192.0.2.1") == Caught(True, 1)
    assert await found.note("192.0.2.1") == Caught(True, 2)
    assert await found.caught("192.0.2.1") == Caught(True, 2)
    assert await found.caught("192.0.2.2") == Caught()
    clock.move(7 * 86_400)
    assert await found.caught("192.0.2.1") == Caught()


async def test_a_client_may_be_its_network_and_be_forgotten() -> None:
    found = traps(ipv4_prefix=24)
    await found.note("192.0.2.1")
    assert (await found.caught("192.0.2.2")).caught
    assert await found.forget("192.0.2.3") == Caught(True, 1)
    assert await found.caught("192.0.2.1") == Caught()


@pytest.mark.parametrize("ip", [None, "127.0.0.1", "::1", "no address"])
async def test_local_mail_is_never_caught(ip: str | None) -> None:
    assert await traps().note(ip) == Caught()


async def test_without_a_store_nobody_is_caught() -> None:
    found = Traps(GuardedStore(Down(), KEYS), ADDRESSES)
    assert await found.note("192.0.2.1") == Caught(problem="gone")
    assert await found.caught("192.0.2.1") == Caught(problem="gone")


@pytest.mark.parametrize(
    "wrong",
    [{"addresses": "a@b"}, {"addresses": ["old.example"]}, {"keep": 0}, {"ipv4_prefix": 33}, {"ipv6_prefix": -1}],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        traps(**wrong)
