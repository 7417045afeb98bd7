"""Greylisting: whoever is seen for the first time has to come back; mail servers do, and much that sends spam does not.

Large senders come back from another address, so there are two ways through: the network of the client with sender and
recipient; or, where SPF or DKIM passed, the domain that did with the recipient.  A client that has passed often is not held up
any more.

Source: RFC 6647; aiomilter/help/greylist.rst.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.guarded import GuardedStore
from aiomilter.policy.stores.keys import address, network, subject
from aiomilter.policy.stores.operations import SECOND, Mode, Op

__all__ = ["Greylist", "Seen", "general_sender"]

_VERDICTS: Final[tuple[Literal["wait", "pass", "known"], ...]] = ("wait", "pass", "known")
_AGAIN: Final = 30.0
"""Seconds to wait for a store that is down."""
_MAX_SENDER: Final = 320
_BATV: Final = re.compile(r"(?:prvs|btv1)=+[^=]+=+(.+)")
_SRS0: Final = re.compile(r"srs0[-+=][^=]+=[^=]+=(.+)")
_SRS1: Final = re.compile(r"srs1[-+=][^=]+=([^=]+)=[-+=][^=]+=[^=]+=(.+)")
_RECIPIENT: Final = re.compile(r"[-.]?[^-.=]*=[a-z0-9-]+(?:\.[a-z0-9-]+)+$")
_WORD: Final = re.compile(r"[a-z0-9]+")
_HEX: Final = re.compile(r"[0-9a-f]+")
_HASHES: Final = re.compile(r"#(?:[-._=]?#)+")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a greylist says.

    Args:
        verdict: ``wait``: answer 451.  ``pass``: it has come back, or is not greylisted.  ``known``: its client has passed
            often.  ``unavailable``: the store has no answer, and it passes.
        wait: Seconds until it will pass.
        first: When it came first, in seconds since 1970; 0 if nobody knows.
        count: How often it has passed, this time included.
        problem: Why the store had no answer; "" if it had.
    """

    verdict: Literal["wait", "pass", "known", "unavailable"]
    wait: float = 0.0
    first: float = 0.0
    count: int = 0
    problem: str = ""


class Greylist:
    """Tells who has to come back.

    Args:
        store: Where it is kept.
        delay: Seconds that one seen for the first time has to wait.
        window: Seconds within which it has to come back; after that it is new.
        keep: Seconds for which what has passed is remembered, after the last time.
        often: Passes that make a client known, whoever the recipient: its network, with the domain that SPF or DKIM passed for.
        ipv4_prefix: Bits of the network that an IPv4 client counts as.
        ipv6_prefix: The same of an IPv6 client.
        null_sender: From which stage on bounces are checked: at ``rcpt`` others' checks of addresses would fail, so ``data`` is
            the default; or ``never``.
        on_failure: Whether mail passes while the store is down, or has to wait: ``pass`` or ``tempfail``.
        dry_run: Note everything, and let everything pass.

    Raises:
        ValueError: An argument is not as described.

    Source: aiomilter/help/greylist.rst.
    """

    def __init__(
        self,
        store: GuardedStore,
        *,
        delay: float = 300,
        window: float = 48 * 3600,
        keep: float = 36 * 86_400,
        often: int = 3,
        ipv4_prefix: int = 24,
        ipv6_prefix: int = 56,
        null_sender: Literal["data", "rcpt", "never"] = "data",
        on_failure: Literal["pass", "tempfail"] = "pass",
        dry_run: bool = False,
    ) -> None:
        if not 0 < delay < window <= keep <= 3660 * 86_400 or often < 1:
            raise ValueError("expected 0 < delay < window <= keep, keep of 10 years or less, and often above 0")
        if not (0 <= ipv4_prefix <= 32 and 0 <= ipv6_prefix <= 128):
            raise ValueError(f"expected prefixes of 0 to 32 and 0 to 128 bits, found {ipv4_prefix} and {ipv6_prefix}")
        if null_sender not in ("data", "rcpt", "never") or on_failure not in ("pass", "tempfail"):
            raise ValueError("expected data, rcpt or never for null_sender, and pass or tempfail for on_failure")
        self._store = store
        self._times = (round(delay * SECOND), round(window * SECOND), round(keep * SECOND), often)
        self._prefixes = (ipv4_prefix, ipv6_prefix)
        self._null_sender = null_sender
        self._on_failure = on_failure
        self._dry_run = dry_run

    async def check(
        self,
        ip: IPv4Address | IPv6Address | str | None,
        sender: str,
        recipient: str,
        *,
        domain: str | None = None,
        stage: Literal["rcpt", "data"] = "rcpt",
    ) -> Seen:
        """Note an attempt, and return whether it passes.

        Args:
            ip: The client's address; None for local mail, which passes, as the loopback does.
            sender: Of the envelope, without brackets; "" for the null sender.
            recipient: Of the envelope, without brackets.
            domain: The one that SPF or DKIM passed for, if any did.
            stage: Where this is: at ``data`` also for what is sent in several messages.
        """
        return await self._step(Mode.DO, ip, sender, recipient, domain, stage)

    async def look(
        self,
        ip: IPv4Address | IPv6Address | str | None,
        sender: str,
        recipient: str,
        *,
        domain: str | None = None,
        stage: Literal["rcpt", "data"] = "rcpt",
    ) -> Seen:
        """Return what :meth:`check` would, and note nothing."""
        return await self._step(Mode.LOOK, ip, sender, recipient, domain, stage)

    async def forget(
        self, ip: IPv4Address | IPv6Address | str | None, sender: str, recipient: str, *, domain: str | None = None
    ) -> None:
        """Forget what was noted.

        Raises:
            StoreError: The store has no answer.
        """
        if client := None if ip is None else address(ip):
            names, args = self._subjects(Mode.FORGET, client, sender, recipient, domain)
            await self._store.step(Op.GREY, names, args)

    def _checks_null(self, stage: str) -> bool:
        return self._null_sender == "rcpt" or (self._null_sender == "data" and stage == "data")

    def _subjects(
        self, mode: Mode, client: IPv4Address | IPv6Address, sender: str, recipient: str, domain: str | None
    ) -> tuple[list[bytes], tuple[int, ...]]:
        """Return the keys and arguments of a step: one or two ways through, and the client if its domain is known."""
        keys, net, to = self._store.keys, network(client, *self._prefixes), subject(recipient)
        names = [*keys.of("grey", "net", net, general_sender(sender), to)]
        ways = 1
        if domain:
            author = subject(f"@{domain}")
            names += [*keys.of("grey", "domain", author, to), *keys.of("grey_client", net, author)]
            ways = 2
        return names, (keys.each, mode, *self._times, ways)

    async def _step(
        self,
        mode: Mode,
        ip: IPv4Address | IPv6Address | str | None,
        sender: str,
        recipient: str,
        domain: str | None,
        stage: str,
    ) -> Seen:
        client = None if ip is None else address(ip)
        if client is None or client.is_loopback or (not sender and not self._checks_null(stage)):
            return Seen("pass")
        names, args = self._subjects(mode, client, sender, recipient, domain)
        try:
            verdict, wait, first, count = await self._store.step(Op.GREY, names, args)
        except StoreError as error:
            if self._on_failure == "pass" or self._dry_run:
                return Seen("unavailable", problem=str(error))
            return Seen("wait", _AGAIN, problem=str(error))
        word = "pass" if self._dry_run and not verdict else _VERDICTS[verdict]
        return Seen(word, wait / SECOND, first / SECOND, count)


def general_sender(sender: str) -> str:
    """Return a sender without what differs from one attempt or message to the next.

    That is the recipient or a number in the address of a mailing list (VERP), what signs it (BATV, SRS), and an extension
    behind a plus sign.

    Source: RFC 5233; draft-levine-smtp-batv section 3; aiomilter/help/srs.rst.
    """
    local, at, domain = subject(sender[-_MAX_SENDER:]).rpartition("@")
    if not at:
        local, domain = domain, ""
    if signed := _BATV.fullmatch(local):
        local = signed[1]
    if rewritten := _SRS0.fullmatch(local) or _SRS1.fullmatch(local):
        local = "=".join(("srs", *rewritten.groups()))
    else:
        local = _RECIPIENT.sub("", local.partition("+")[0] or local) or local
        local = _HASHES.sub("#", _WORD.sub(_number, local))
    return f"{local}@{domain}"


def _number(word: re.Match[str]) -> str:
    text = word[0]
    digits = sum(map(str.isdigit, text))
    size = len(text)
    made = digits == size or (digits and size >= 4 and _HEX.fullmatch(text)) or (digits >= 3 and size >= 12)
    return "#" if made else text
