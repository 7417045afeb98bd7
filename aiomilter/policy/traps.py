"""Traps: addresses that no honest mail is sent to, and the clients that have sent some.

Source: aiomilter/help/reputation.rst.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from aiomilter.exceptions import StoreError
from aiomilter.mail.envelope import domain
from aiomilter.policy.stores.guarded import GuardedStore
from aiomilter.policy.stores.keys import address, network, subject
from aiomilter.policy.stores.operations import SECOND, Mode, Op

__all__ = ["Caught", "Traps"]


@dataclass(frozen=True, slots=True)
class Caught:
    """Whether a client has written to a trap.

    Args:
        caught: Whether.
        count: How often, of those times that are still remembered.
        problem: Why the store had no answer; "" if it had.
    """

    caught: bool = False
    count: int = 0
    problem: str = ""


class Traps:
    """Remembers the networks of clients that write to some addresses.

    Args:
        store: Where.
        addresses: The traps: addresses, or ``@example.org`` for a whole domain.
        keep: Seconds for which a client is remembered, after the last time.
        ipv4_prefix: Bits of the network that an IPv4 client counts as.
        ipv6_prefix: The same of an IPv6 client.
        kind: What is remembered, a word of lower-case letters: clients of another kind are not mixed with these.

    Raises:
        ValueError: An argument is not as described.

    Source: aiomilter/help/reputation.rst.
    """

    def __init__(
        self,
        store: GuardedStore,
        addresses: Iterable[str],
        *,
        keep: float = 7 * 86_400,
        ipv4_prefix: int = 32,
        ipv6_prefix: int = 64,
        kind: str = "trap",
    ) -> None:
        if isinstance(addresses, str):
            raise ValueError("addresses: expected several, found one text")
        self._traps = frozenset(map(subject, addresses))
        if not all("@" in trap for trap in self._traps):
            raise ValueError("addresses: expected addresses or @domains")
        if not 0 < keep <= 3660 * 86_400:
            raise ValueError(f"expected keep of more than 0 s and up to 10 years, found {keep}")
        if not (0 <= ipv4_prefix <= 32 and 0 <= ipv6_prefix <= 128):
            raise ValueError(f"expected prefixes of 0 to 32 and 0 to 128 bits, found {ipv4_prefix} and {ipv6_prefix}")
        store.keys.of(kind, "")  # says what is wrong with it
        self._store = store
        self._kind = kind
        self._keep = round(keep * SECOND)
        self._prefixes = (ipv4_prefix, ipv6_prefix)

    def is_trap(self, recipient: str) -> bool:
        """Return whether an address is a trap."""
        return subject(recipient) in self._traps or f"@{domain(recipient)}" in self._traps

    async def note(self, ip: IPv4Address | IPv6Address | str | None) -> Caught:
        """Note that a client has written to a trap; local mail is not noted."""
        return await self._step(Mode.DO, ip)

    async def caught(self, ip: IPv4Address | IPv6Address | str | None) -> Caught:
        """Return whether a client has; nobody has while the store has no answer."""
        return await self._step(Mode.LOOK, ip)

    async def forget(self, ip: IPv4Address | IPv6Address | str | None) -> Caught:
        """Forget a client, and return what was noted."""
        return await self._step(Mode.FORGET, ip)

    async def _step(self, mode: Mode, ip: IPv4Address | IPv6Address | str | None) -> Caught:
        client = None if ip is None else address(ip)
        if client is None or client.is_loopback:
            return Caught()
        keys = self._store.keys
        names = keys.of(self._kind, network(client, *self._prefixes))
        try:
            (before,) = await self._store.step(Op.PAIR, names, (keys.each, mode, self._keep))
        except StoreError as error:
            return Caught(problem=str(error))
        count = before + (mode is Mode.DO)
        return Caught(count > 0, count)
