"""All checks of messages, made while they come: each question is asked as early as the protocol allows."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from aiomilter.auth import dkim as dkim_room
from aiomilter.auth import dmarc as dmarc_room
from aiomilter.auth._authentication import METHODS, Authentication
from aiomilter.auth._checks import ClientCheck, Settings
from aiomilter.auth._claims import names
from aiomilter.dns import IPAddress, Resolver, client_address
from aiomilter.mail.headers import split_message

__all__ = ["Authenticator"]

# Octets that are hashed before others have their turn.
_TURN: Final = 262_144


class Authenticator:
    """Checks where messages come from: reverse name, SPF, DKIM, ARC and DMARC.  Make one for the whole process.

    Args:
        resolver: Answers the DNS questions; a :class:`~aiomilter.dns.CachingResolver`, shared by all sessions.
        authserv_ids: Our names in Authentication-Results, in any letter case; the first is written, and fields that claim
            to be of any of them are forged.  ``".example.net"`` is example.net and all names below it.  Empty only if each
            client is given its own.
        methods: The checks to make, of "iprev", "spf", "dkim", "arc" and "dmarc".
        dkim: What counts of signatures that can be verified; None for the defaults.
        dmarc: The receiver's choices in DMARC; None for the defaults.
        trusted_sealers: Domains whose seals may overrule DMARC: of forwarders and mailing lists; ``".example.net"`` is
            example.net and all names below it.
        trusted_relays: Networks of our own relays: their Authentication-Results stay, and the client that is judged is the
            one that they took the message from.
        max_signatures: How many signatures of a message are looked at, from the top; 1..50.
        key_timeout: Seconds for each DKIM key, > 0.
        clock: Seconds since 1970, for the times in signatures.
    Raises:
        ValueError: A name or network is none, a method is unknown, a number is not in its range.
        ImportError: The library cryptography is not installed, and DKIM needs it.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        authserv_ids: Collection[str],
        methods: Collection[str] = METHODS,
        dkim: dkim_room.Policy | None = None,
        dmarc: dmarc_room.Policy | None = None,
        trusted_sealers: Iterable[str] = (),
        trusted_relays: Iterable[str | IPAddress | IPv4Network | IPv6Network] = (),
        max_signatures: int = 10,
        key_timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if unknown := sorted(set(methods) - set(METHODS)):
            raise ValueError(f"methods: expected some of {', '.join(METHODS)}, found {', '.join(unknown)}")
        policy = replace(dkim or dkim_room.Policy(), max_signatures=max_signatures)
        if not {"dkim", "arc"}.isdisjoint(methods):
            # If the library is missing, this raises now, not at the end of the first message.
            dkim_room.Verifier(resolver, policy=policy)
        self._ids = _ids(authserv_ids)
        relays = tuple(ip_network(network) for network in trusted_relays)
        self._settings = Settings(
            resolver,
            frozenset(methods),
            policy,
            dmarc or dmarc_room.Policy(),
            tuple(trusted_sealers),
            relays,
            key_timeout,
            clock,
        )

    def client(self, ip: IPAddress | str | None, *, authserv_ids: Collection[str] = ()) -> "ClientCheck":
        """Begin to check a client that has connected: ask for its reverse name.

        To be called in a running event loop.

        Args:
            ip: Its address; None for one that has none, whose name, sender and author are not judged.
            authserv_ids: Our names for this client, where only the MTA knows them; empty for those of the Authenticator.
        Raises:
            AddressError: ``ip`` is a text and not an address.
            ValueError: There is no name of ours, or one that is none.
        """
        ids = _ids(authserv_ids) or self._ids
        return ClientCheck(self._settings, None if ip is None else client_address(ip), ids, names(*ids))

    async def check(
        self,
        message: bytes,
        *,
        ip: IPAddress | str | None = None,
        helo: str = "",
        sender: str = "",
        timeout: float = 10.0,
    ) -> Authentication:
        """Check a whole message.

        Args:
            message: All of it, line ends as CRLF.
            ip: The client's address; None if it is not known: then SPF is not checked, and DMARC goes by signatures alone.
            helo: The name that the client gave.
            sender: The envelope sender without brackets; "" for the null sender.
            timeout: Seconds for the whole.
        Raises:
            AddressError: ``ip`` is a text and not an address.
        """
        client = self.client(ip)
        check = client.message(sender=sender, helo=helo)
        check.any_author = True
        try:
            section, at = split_message(message)
            for field in section:
                check.header(field.raw)
            check.headers.complete = section.complete
            check.end_of_headers()
            for begin in range(at, len(message), _TURN):
                check.body(message[begin : begin + _TURN])
                await asyncio.sleep(0)
            return await check.finish(timeout)
        finally:
            check.cancel()
            client.cancel()


def _ids(authserv_ids: Collection[str]) -> tuple[str, ...]:
    """Return names of ours.

    Raises:
        ValueError: One is no name.
    """
    found = (authserv_ids,) if isinstance(authserv_ids, str) else tuple(authserv_ids)
    if found:
        names(*found)
        if found[0].startswith("."):
            raise ValueError(f"authserv_ids: expected first the name that is written, found {found[0]!r}")
    return found
