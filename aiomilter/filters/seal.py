"""``seal``: an ARC seal on what came from outside, for those it may be sent on to."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from aiomilter.auth import Authentication, arc, dkim
from aiomilter.context import Context
from aiomilter.filters.domains import domain_name
from aiomilter.filters.hashing import HashingEdit
from aiomilter.filters.keys import Keys, key_ring
from aiomilter.filters.ready import ReadyEdit
from aiomilter.filters.site import Site
from aiomilter.mail.headers import HeaderSection
from aiomilter.message import Message, MessageMilter
from aiomilter.wire.replies import Reply, Response

__all__ = ["Seal"]


@dataclass(frozen=True, kw_only=True)
class Seal(ReadyEdit):
    """Seal mail by ARC, after all other edits: with what authenticate found when it arrived.

    Mail that is not judged, of our networks and of those who have logged in, is not sealed.

    Args:
        keys: The file of keys, as for sign; or its table ``[keys]`` itself.
        domain: Whose key seals; that of ``[seal]`` in the file, the only one, or the one that authserv_id names, if left out.
        temporary: What is done where DNS had no answer for the seals so far: note (it is not sealed), or tempfail.
    """

    name: ClassVar[str] = "seal"
    unless: ClassVar[tuple[str, ...]] = ("internal", "authenticated")
    reasons: ClassVar[Mapping[str, str]] = {"arc_temporary": "the chain of seals cannot be checked now"}
    example: ClassVar[str] = (
        '[[filter]]\nuse = "authenticate"\n\n[[filter]]\nuse = "seal"\nkeys = "keys.toml"\ndomain = "example.com"\n'
    )

    keys: Keys
    domain: str = ""
    temporary: Literal["note", "tempfail"] = "note"

    def __post_init__(self) -> None:
        if self.domain and domain_name(self.domain) is None:
            raise ValueError(f"domain: expected the name of a domain, found {self.domain!r:.80}")

    @property
    def needs(self) -> tuple[str, ...]:
        """It records what was found."""
        return ("authenticate",)

    def check(self, site: Site) -> None:
        """Read the keys."""
        self._domain(key_ring(self.keys, site), site)

    def _domain(self, ring: dkim.KeyRing, site: Site) -> str:
        """Return whose key seals.

        Raises:
            ValueError: That is not clear.
        """
        named = self.domain or getattr(ring, "seal_domain", "") or site.authserv_id or site.hostname
        if not named:
            raise ValueError("domain: expected the domain whose key seals, found several keys and no authserv_id")
        return named

    @asynccontextmanager
    async def start(self, site: Site, asked: frozenset[str]) -> AsyncIterator[Callable[[], MessageMilter]]:
        """Read the keys, and find the one that seals."""
        ring = key_ring(self.keys, site)
        domain = self._domain(ring, site)
        keys = await ring.keys(f"postmaster@{domain}", "", None)
        if not keys:
            raise ValueError(f"domain: expected a domain that has keys, found {domain!r}")
        # Those who check chains know RSA; few know Ed25519.
        key = next((each for each in keys if each.algorithm.startswith("rsa")), keys[0])
        yield partial(_Seal, self, key)


class _Seal(HashingEdit):
    reads = (Authentication,)

    def __init__(self, settings: Seal, key: dkim.Key) -> None:
        self.settings = settings
        self.key = key
        super().__init__()

    async def message(self, ctx: Context, message: Message) -> Response | None:
        found = ctx.results.get(Authentication)
        if found is None:
            return None
        if found.arc.temporary:
            if self.settings.temporary == "note":
                return None
            return Reply(451, "4.7.0", "The chain of seals cannot be checked now", reason="arc_temporary")
        sealing = arc.Sealer(self.key, authserv_id=found.authserv_id).start(found.arc, found.results())
        sealing.share(HeaderSection(message.headers), self.hashes)
        sealing.end_of_headers()
        for name, value in reversed(await sealing.finish()):
            message.headers.prepend(name, value)
        return None
