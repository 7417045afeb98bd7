"""The checks of one client and of one message, while it comes."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final, overload

from aiomilter.auth import arc as arc_room
from aiomilter.auth import dkim as dkim_room
from aiomilter.auth import dmarc as dmarc_room
from aiomilter.auth._authentication import Authentication
from aiomilter.auth._claims import Names, claims_id
from aiomilter.auth._received import Origin, origin
from aiomilter.auth._waiting import BoundedResolver, Expired, Pending, remembered, until, within
from aiomilter.auth.dkim._body import BodyHashes
from aiomilter.auth.dkim._incoming import MAX_BODY_HASHES
from aiomilter.auth.dmarc._evaluation import Discovery
from aiomilter.auth.iprev import IprevResult, check_iprev
from aiomilter.auth.spf import Result as SpfWord
from aiomilter.auth.spf import SpfResult, check_host, unchecked
from aiomilter.dns import IPAddress, Resolver
from aiomilter.mail.display import visible
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.headers import Field, HeaderSection

__all__ = ["ClientCheck", "MessageCheck", "Settings"]

# The address in results of clients that have none: those of a UNIX-domain socket, or behind a relay that does not say.
_NOWHERE: Final = IPv4Address(0)
_NO_ADDRESS: Final = "the client's address is not known"
_NO_CHAIN: Final = arc_room.Chain("none")
_NO_DMARC: Final = dmarc_room.DmarcResult("none")
_TOO_LARGE: Final = "the header is too large"
_FIELD: Final = b"authentication-results"
_FIRST: Final = frozenset((b"A", b"a"))
# Nobody writes a longer one; to look for our name in it takes long, so it goes as a forged one.
_MAX_RESULTS: Final = 32_768
# Of the time for all, the part that DMARC may take once the others are known.
_FOR_DMARC: Final = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """What an Authenticator was made with."""

    resolver: Resolver
    methods: frozenset[str]
    dkim: dkim_room.Policy
    dmarc: dmarc_room.Policy
    sealers: tuple[str, ...]
    relays: tuple[IPv4Network | IPv6Network, ...]
    key_timeout: float
    clock: Callable[[], float]


class ClientCheck:
    """The checks of one client; made by :meth:`Authenticator.client`."""

    def __init__(self, settings: Settings, ip: IPAddress | None, ids: tuple[str, ...], ours: Names) -> None:
        self.ip: IPAddress | None = ip
        """The client's address; None if it has none."""
        self.is_relay: bool = ip is not None and any(ip in network for network in settings.relays)
        """Whether it is one of our own relays, and is not judged itself."""
        self._settings = settings
        self._ids = ids
        self._ours = ours
        self._iprev = _iprev(settings, None if self.is_relay else ip)
        self._resolver = BoundedResolver(settings.resolver)
        self._helo = ""
        self._helo_spf: Pending[SpfResult] | None = None
        self._no_helo_spf: tuple[str, SpfResult] | None = None

    async def iprev(self) -> IprevResult:
        """Wait for the check of the reverse name; its result is "none" if it is not made."""
        return await self._iprev.get()

    def message(self, *, sender: str, helo: str, leading_space: bool = True) -> "MessageCheck":
        """Begin to check a message: ask for SPF.

        To be called in a running event loop.

        Args:
            sender: The envelope sender without brackets; "" for the null sender.
            helo: The name that the client gave.
            leading_space: Whether header fields come with exactly the blanks behind their colon.
        """
        return MessageCheck(self, sender, helo, leading_space)

    def cancel(self) -> None:
        """Cancel all questions that are still open."""
        self._iprev.cancel()
        if self._helo_spf is not None:
            self._helo_spf.cancel()

    def helo_spf(self, helo: str) -> Pending[SpfResult]:
        """Return the check of a HELO name, which is the same for all messages."""
        if self._helo_spf is None or self._helo != helo:
            if self._helo_spf is not None:
                self._helo_spf.cancel()
            self._helo = helo
            none = partial(_no_spf, self._settings, self.ip, "", helo)
            self._helo_spf = Pending(self._check_helo(helo), none)
        return self._helo_spf

    def no_helo_spf(self, helo: str) -> SpfResult:
        """Return that a HELO name is not checked, the same value for all messages."""
        if self._no_helo_spf is None or self._no_helo_spf[0] != helo:
            self._no_helo_spf = helo, _no_spf(self._settings, self.ip, "", helo)
        return self._no_helo_spf[1]

    async def _check_helo(self, helo: str) -> SpfResult:
        if self.ip is None:
            return _no_spf(self._settings, None, "", helo)
        return await check_host(self.ip, "", helo, resolver=self._resolver, receiver=self._ids[0])


class MessageCheck:
    """The checks of one message; made by :meth:`ClientCheck.message`.

    Give it the header, its end, and the body, as they come; then await :meth:`finish`.  If the message ends otherwise, call
    :meth:`cancel`.
    """

    def __init__(self, client: ClientCheck, sender: str, helo: str, leading_space: bool) -> None:
        settings = client._settings
        self._client = client
        self._settings = settings
        self._sender = sender
        self._resolver = BoundedResolver(settings.resolver)
        self.headers: HeaderSection = HeaderSection()
        """The header, as far as it has come."""
        self._hashes = BodyHashes(MAX_BODY_HASHES)
        self._verifiers = _Verifiers(settings, self._resolver, leading_space)
        for verifier in self._verifiers:
            verifier.share(self.headers, self._hashes)
        self.any_author: bool = False
        """Whether DMARC goes by signatures alone where the client's address is not known."""
        self._fields = 0
        self._forged: list[int] = []
        self._ended = self._given_up = False
        self._found: Authentication | None = None
        self._discovery: Discovery | None = None
        self._walk: Pending[None] = Pending(None, _nothing)
        # Behind a relay of ours the client is known at the end of the header.
        self._known = asyncio.Event()
        self._origin: Origin | None = None
        self._iprev = client._iprev
        self._helo = helo
        self._helo_spf = Pending(None, partial(client.no_helo_spf, helo))
        if not client.is_relay:
            self._learn(None if client.ip is None else Origin(client.ip, helo))
        self._spf = self._begin_spf()

    async def spf(self) -> SpfResult:
        """Wait for SPF of the sender; for mail from one of our relays, until the header has ended."""
        return await self._spf.get()

    async def helo_spf(self) -> SpfResult:
        """Wait for SPF of the HELO name, in the same way; without a sender it is the same as :meth:`spf`."""
        await self._known.wait()
        return await (self._helo_spf if self._sender else self._spf).get()

    def header(self, raw: bytes) -> None:
        """Take the next header field.

        Args:
            raw: Its octets, folds as CRLF, as :attr:`aiomilter.Header.raw` has them.
        Raises:
            RuntimeError: The header has ended.
        """
        if self._ended:
            raise RuntimeError("expected header() before end_of_headers()")
        self.headers.append(raw)
        if raw[:1] in _FIRST and raw[: len(_FIELD)].lower() == _FIELD and not self._client.is_relay:
            field = Field(raw)
            if field.key == _FIELD:
                self._fields += 1
                if len(raw) > _MAX_RESULTS or claims_id(field.value, self._client._ours):
                    self._forged.append(self._fields)

    def end_of_headers(self) -> None:
        """End the header: ask for the keys of signatures and for the author's policy."""
        if self._ended or self._given_up:
            return
        self._ended = True
        if self._client.is_relay:
            received = self.headers.get("Received")
            self._learn(None if received is None else origin(received.value))
            self._iprev = _iprev(self._settings, self._origin.ip if self._origin is not None else None)
        for verifier in self._verifiers:
            verifier.end_of_headers()
        if "dmarc" in self._settings.methods and (self._origin is not None or self.any_author):
            authors = [field.value for field in self.headers.get_all("From")]
            self._discovery = Discovery(authors, self._resolver, self._settings.dmarc)
            # Most policies are in the cache, where a task would cost more than the answer.
            if self.headers.complete and not self._discovery.recall():
                self._walk = Pending(self._discovery.walk(), _nothing)

    def body(self, chunk: bytes) -> None:
        """Take the next octets of the body, cut anywhere; line ends are CRLF."""
        self.end_of_headers()
        if not self._given_up:
            self._hashes.update(chunk)

    async def finish(self, timeout: float = 10.0) -> Authentication:
        """Wait for everything, and return it.

        Whatever sender and DNS did is a result, never an exception.

        Args:
            timeout: Seconds until what is not known is temperror.
        """
        if self._found is None:
            self._found = await self._finish(timeout)
        return self._found

    async def _finish(self, timeout: float) -> Authentication:
        self.end_of_headers()
        end = asyncio.get_running_loop().time() + timeout
        late = f"no result in {timeout:g} s"
        dkim, arc = (None, None) if self._given_up else (self._verifiers.dkim, self._verifiers.arc)
        signatures: Pending[tuple[dkim_room.Signature, ...]] = Pending(None, tuple)
        chain = Pending(None, _no_chain)
        ip = self._origin.ip if self._origin is not None else None
        no_spf = partial(_no_spf, self._settings, ip, helo=self._helo, result="temperror", problem=late)
        discovery = None if self._given_up else self._discovery
        dmarc: dmarc_room.DmarcResult | None = None
        try:
            if dkim is not None:
                signatures = await _found(dkim)
            if arc is not None:
                chain = await _found(arc)
            # What hangs does not take the time that DMARC needs with the rest: a signature may be enough for it.
            await until(
                end - timeout * _FOR_DMARC, self._spf, signatures, chain, self._walk, self._iprev, self._helo_spf
            )
            spf = self._spf.now(partial(no_spf, sender=self._sender))
            found = signatures.now(lambda: (dkim_room.Signature("temperror", late),))
            arc_found = chain.now(lambda: arc_room.Chain("fail", problem=late, temporary=True))
            if discovery is not None and discovery.walked:
                with contextlib.suppress(TimeoutError, Expired):
                    dmarc = await within(end, self._judge(discovery, spf, found, arc_found))
        finally:
            signatures.cancel()
            chain.cancel()
            self.cancel()
        if dmarc is None:
            dmarc = _NO_DMARC if discovery is None else discovery.timed_out(timeout)
        if not self.headers.complete and discovery is not None:
            dmarc = dmarc_room.DmarcResult("temperror", problem=_TOO_LARGE)
        return Authentication(
            authserv_id=self._client._ids[0],
            methods=self._methods(),
            ip=ip,
            sender_domain=domain_of(self._sender),
            iprev=self._iprev.now(lambda: IprevResult("temperror", ip or _NOWHERE, problem=late)),
            spf=spf,
            helo_spf=self._helo_spf.now(partial(no_spf, sender="")) if self._sender else spf,
            dkim=found,
            arc=arc_found,
            dmarc=dmarc,
            forged=tuple(reversed(self._forged)),
        )

    def cancel(self) -> None:
        """Cancel all questions that are still open for this message."""
        self._given_up = True
        self._spf.cancel()
        self._walk.cancel()
        for verifier in self._verifiers:
            verifier.cancel()
        if self._client.is_relay:
            self._iprev.cancel()
            self._helo_spf.cancel()

    def _learn(self, found: Origin | None) -> None:
        """Take the client that counts, or that it cannot be known."""
        self._origin = found
        if found is not None:
            self._helo = found.helo
        if "spf" in self._settings.methods and self._sender and found is not None:
            if self._client.is_relay:
                none = partial(_no_spf, self._settings, found.ip, "", found.helo)
                self._helo_spf = Pending(self._check_host(found, ""), none)
            else:
                self._helo_spf = self._client.helo_spf(found.helo)
        self._known.set()

    def _begin_spf(self) -> Pending[SpfResult]:
        """Begin the check of the sender."""
        origin, sender = self._origin, self._sender
        none = partial(_no_spf, self._settings, self._client.ip, sender, self._helo)
        if "spf" not in self._settings.methods:
            return Pending(None, none)
        if origin is not None:
            # Most policies are in the cache, where a task would cost more than the answer.
            found = remembered(lambda resolver: self._check_host(origin, sender, resolver), self._resolver)
            if found is not None:
                return Pending(None, lambda: found)
        return Pending(self._check_spf(), none)

    async def _check_spf(self) -> SpfResult:
        await self._known.wait()
        if self._origin is None:
            return _no_spf(self._settings, None, self._sender, self._helo)
        return await self._check_host(self._origin, self._sender)

    async def _check_host(self, client: Origin, sender: str, resolver: Resolver | None = None) -> SpfResult:
        receiver = self._client._ids[0]
        return await check_host(client.ip, sender, client.helo, resolver=resolver or self._resolver, receiver=receiver)

    async def _judge(
        self, discovery: Discovery, spf: SpfResult, signatures: tuple[dkim_room.Signature, ...], chain: arc_room.Chain
    ) -> dmarc_room.DmarcResult:
        """Return the result of DMARC, given those of SPF, DKIM and ARC."""
        found = await discovery.result(spf, signatures)
        sealers = self._settings.sealers
        if found.result != "fail" or not sealers:
            return found
        if chain.temporary and replace(chain, result="pass").trusted_by(sealers):
            return replace(
                found, result="temperror", policy=None, problem="a chain of trusted sealers could not be checked"
            )
        override = _override(chain, sealers)
        return found if override is None else found.overridden(override)

    def _methods(self) -> frozenset[str]:
        """Return what was looked at of this message."""
        methods = self._settings.methods
        if self._origin is None:
            methods -= {"iprev", "spf"}
        return methods if self._discovery is not None else methods - {"dmarc"}


class _Verifiers:
    """The verifiers of one message, which share its header.

    Args:
        settings: Those of the Authenticator.
        resolver: Answers the DNS questions.
        leading_space: Whether fields come with exactly the blanks behind their colon.
    """

    def __init__(self, settings: Settings, resolver: Resolver, leading_space: bool) -> None:
        now = settings.clock()
        self.dkim: dkim_room.Verifier | None = None
        self.arc: arc_room.Verifier | None = None
        if "dkim" in settings.methods:
            self.dkim = dkim_room.Verifier(
                resolver,
                policy=settings.dkim,
                key_timeout=settings.key_timeout,
                leading_space=leading_space,
                now=now,
            )
        if "arc" in settings.methods:
            self.arc = arc_room.Verifier(
                resolver,
                policy=settings.dkim,
                key_timeout=settings.key_timeout,
                leading_space=leading_space,
                now=now,
            )

        self._all = [each for each in (self.dkim, self.arc) if each is not None]

    def __iter__(self) -> Iterator[dkim_room.Verifier | arc_room.Verifier]:
        """Return those that there are."""
        return iter(self._all)


@overload
async def _found(verifier: dkim_room.Verifier) -> Pending[tuple[dkim_room.Signature, ...]]: ...
@overload
async def _found(verifier: arc_room.Verifier) -> Pending[arc_room.Chain]: ...
async def _found(verifier: dkim_room.Verifier | arc_room.Verifier) -> Pending[Any]:
    """Return what a verifier finds: at once if it waits for no key, since a task costs more than most of what it does."""
    if verifier.answered:
        found = await verifier.finish()
        return Pending(None, lambda: found)
    return Pending(verifier.finish(), _no_chain if isinstance(verifier, arc_room.Verifier) else tuple)


def _nothing() -> None:
    """Return that there is nothing to know."""


def _no_chain() -> arc_room.Chain:
    return _NO_CHAIN


def _override(chain: arc_room.Chain, sealers: tuple[str, ...]) -> dmarc_room.Override | None:
    """Return the reason not to follow a DMARC policy that a trusted chain gives; None if it gives none.

    A sealer that says that DMARC had failed already when the message came to it is believed, too.

    Source: RFC 8617 section 7.2.2.
    """
    if not chain.trusted_by(sealers):
        return None
    found = chain.assessment(sealers)
    said = {each.result for each in found.results if each.method == "dmarc"} if found is not None else set()
    if said and "pass" not in said:
        return None
    seals = (
        f"as[{each.instance}].d={each.domain} as[{each.instance}].s={each.selector}" for each in reversed(chain.sets)
    )
    return dmarc_room.Override("local_policy", visible(" ".join(["arc=pass", *seals])))


def _iprev(settings: Settings, ip: IPAddress | None) -> Pending[IprevResult]:
    """Begin to check the reverse name of a client; nothing is asked if it has no address, or nobody wants to know."""
    none = partial(IprevResult, "none", ip or _NOWHERE)
    if ip is None or "iprev" not in settings.methods:
        return Pending(None, none)
    return Pending(check_iprev(ip, resolver=settings.resolver), none)


def _no_spf(
    settings: Settings,
    ip: IPAddress | None,
    sender: str,
    helo: str,
    result: SpfWord = "none",
    problem: str = _NO_ADDRESS,
) -> SpfResult:
    """Return the result of an SPF check that was not made, or not to its end."""
    return unchecked(ip or _NOWHERE, sender, helo, settings.resolver, result, problem)
