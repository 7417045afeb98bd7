"""What the ready filters of a process stand on: names and networks of the site, one resolver, one store, keys read once."""

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any, Final, TypeAlias, TypeVar

from aiomilter.auth.dkim import KeyFile, load_keys
from aiomilter.compose import known_at
from aiomilter.compose.conditions import WORDS, Predicate
from aiomilter.context import Context
from aiomilter.dns import Resolver, system_resolver
from aiomilter.filters.domains import domain_name
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.policy.stores import GuardedStore, Store, open_store
from aiomilter.secret import Secret
from aiomilter.wire.constants import Stage

__all__ = ["Network", "Site", "is_in", "networks_of"]

_T = TypeVar("_T")
Network: TypeAlias = IPv4Network | IPv6Network
_MAPPED: Final = 96
_MAX_RINGS: Final = 1_000
"""Files of keys; each filter names one."""


class _Shared:
    """What was opened for a site, and by how many filters."""

    def __init__(self) -> None:
        self.rings: dict[str, KeyFile] = {}
        self._open: dict[str, tuple[AsyncExitStack, Any, int]] = {}

    @asynccontextmanager
    async def entered(self, name: str, make: Callable[[], AbstractAsyncContextManager[_T]]) -> AsyncIterator[_T]:
        """Enter what has a lifespan, or take it if it is open; the last one to leave closes it."""
        if name in self._open:
            stack, value, users = self._open[name]
        else:
            stack = AsyncExitStack()
            value, users = await stack.enter_async_context(make()), 0
        self._open[name] = stack, value, users + 1
        try:
            yield value
        finally:
            stack, value, users = self._open.pop(name)
            if users > 1:
                self._open[name] = stack, value, users - 1
            else:
                await stack.aclose()


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the ready filters of a process know of their site, and share.

    Args:
        hostname: In replies and Received-SPF; "" for the MTA's own name (macro ``j``).
        authserv_id: In Authentication-Results and ARC; fields of others that claim it are removed.  "" for ``hostname``.
        own_domains: Our domains, with those below them.
        internal: Our networks: what the word ``internal`` means.  None for the loopback, and what has no address.
        trusted_relays: Networks of our own MTAs in front: the client is the one that they name.
        store: Where filters keep state, as for :func:`aiomilter.policy.stores.open_store`.
        password: Of the store, if it needs one.
        keys: Secrets that what is stored is hashed with, the newest first; none for one that is made.
        resolver: Answers DNS questions; None for one that asks the nameservers of the system.
        listeners: The sockets that have a name, by that: what ``listener:NAME`` means.

    Raises:
        TypeError, ValueError: One of them is not as described; the text begins with its name.
    """

    hostname: str = ""
    authserv_id: str = ""
    own_domains: Collection[str] = ()
    internal: Collection[str | Network] | None = None
    trusted_relays: Collection[str | Network] = ()
    store: str | Store = "memory:"
    password: Secret | None = None
    keys: Collection[Secret] = ()
    resolver: Resolver | None = None
    listeners: Mapping[str, str] = field(default_factory=dict)
    _own: frozenset[str] = field(init=False, repr=False, compare=False)
    _internal: tuple[Network, ...] = field(init=False, repr=False, compare=False)
    _relays: tuple[Network, ...] = field(init=False, repr=False, compare=False)
    _shared: _Shared = field(init=False, repr=False, compare=False, default_factory=_Shared)

    def __post_init__(self) -> None:
        for name in ("hostname", "authserv_id"):
            given = getattr(self, name)
            if given and domain_name(given) is None:
                raise ValueError(f"{name}: expected a domain name, found {given!r:.80}")
        object.__setattr__(self, "_own", frozenset(_domains("own_domains", self.own_domains)))
        object.__setattr__(self, "_internal", networks_of("internal", self.internal or ()))
        object.__setattr__(self, "_relays", networks_of("trusted_relays", self.trusted_relays))

    # ------------------------------------------------------------------------------------------------ names and networks

    def name(self, ctx: Context) -> str:
        """Return our name: that of the site, or else of the MTA."""
        return self.hostname or ctx.macro("j", "") or "localhost"

    def is_own(self, domain: str) -> bool:
        """Return whether a domain is ours, or below one that is."""
        name = domain_name(domain) or ""
        while name:
            if name in self._own:
                return True
            name = name.partition(".")[2]
        return False

    def is_internal(self, ctx: Context) -> bool:
        """Return whether the client is in our networks."""
        if self.internal is None or ctx.client.ip is None:
            return WORDS["internal"].holds(ctx)
        return is_in(ctx.client.ip, self._internal)

    def is_trusted_relay(self, ctx: Context) -> bool:
        """Return whether the client is one of our own MTAs in front."""
        return is_in(ctx.client.ip, self._relays)

    @property
    def words(self) -> Mapping[str, Predicate]:
        """The words of conditions that the site gives."""

        @known_at(Stage.DATA)
        def outbound(ctx: Context) -> bool:
            return any(not self.is_own(domain_of(each.address)) for each in ctx.recipients)

        return {"internal": self.is_internal, "trusted_relay": self.is_trusted_relay, "outbound": outbound}

    # ------------------------------------------------------------------------------------------------- what filters share

    def open_resolver(self) -> AbstractAsyncContextManager[Resolver]:
        """Open the resolver, or take the one that is open: ``async with site.open_resolver() as resolver``.

        Raises:
            ResolverFailure: It is to ask the system's nameservers, and there are none.
        """
        if self.resolver is not None:
            return nullcontext(self.resolver)
        return self._shared.entered("resolver", system_resolver)

    def key_ring(self, given: str | os.PathLike[str] | Mapping[str, Any]) -> KeyFile:
        """Return the keys of a file, or of a table ``[keys]``; of each file there is one ring.

        Raises:
            ImportError: The library cryptography is not installed.
            OSError, ValueError: They cannot be read.
        """
        if isinstance(given, Mapping):
            return load_keys(given)
        path = os.path.abspath(given)
        if path not in self._shared.rings:
            if len(self._shared.rings) >= _MAX_RINGS:
                return load_keys(path)
            self._shared.rings[path] = load_keys(path)
        return self._shared.rings[path]

    def open_store(self, *, prefix: str = "") -> AbstractAsyncContextManager[GuardedStore]:
        """Open the store, or take the one that is open: ``async with site.open_store() as store``.

        Args:
            prefix: What keys in a store that is shared begin with, behind ``aiomilter:``.

        Raises:
            StoreError: Its URL or its keys are not as they should be.
        """
        return self._shared.entered(
            f"store {prefix}",
            lambda: open_store(
                self.store,
                prefix=f"aiomilter:{prefix}",
                password=None if self.password is None else self.password.value,
                keys=tuple(each.value.encode() for each in self.keys),
            ),
        )


def _domains(name: str, given: Collection[str]) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"{name}: expected a collection of domains, found a text; write ({given!r},)")
    found = []
    for each in given:
        domain = domain_name(each) if isinstance(each, str) else None
        if domain is None:
            raise ValueError(f"{name}: expected domain names, found {each!r:.80}")
        found.append(domain)
    return found


def networks_of(name: str, given: Collection[str | Network]) -> tuple[Network, ...]:
    """Return networks as :func:`is_in` takes them.

    Args:
        name: Of the setting, which messages begin with.
        given: What it is set to.

    Raises:
        TypeError, ValueError: It is not as described.
    """
    if isinstance(given, str):
        raise TypeError(f"{name}: expected a collection of networks, found a text; write ({given!r},)")
    try:
        return tuple(_unmapped(ip_network(each)) for each in given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _unmapped(network: Network) -> Network:
    """Return a network of IPv4-mapped addresses as that of IPv4, which it is: ``::ffff:192.0.2.0/120``, as in Postfix."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return (
        network if mapped is None or network.prefixlen < _MAPPED else IPv4Network((mapped, network.prefixlen - _MAPPED))
    )


def is_in(ip: IPv4Address | IPv6Address | None, networks: Collection[Network]) -> bool:
    """Return whether an address is in one of several networks; one of IPv4 is, also as sockets of IPv6 write it."""
    if ip is None:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in networks)
