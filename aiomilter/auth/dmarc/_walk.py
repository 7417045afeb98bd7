"""The tree walk: the records on the way from a domain up to its top-level domain, and what follows from them.

Source: RFC 9989 section 4.10.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiomilter.auth.dmarc._record import Record, is_record, read
from aiomilter.dns import Answer, RdType, Resolver
from aiomilter.dns.cache import cached_answer
from aiomilter.exceptions import ResolverError
from aiomilter.mail.display import visible

__all__ = ["Level", "Lookups", "Walk", "parent"]

# RFC 9989 section 4.10: at most so many questions, whatever the number of labels.
_MAX_LEVELS: Final = 8


class Level(NamedTuple):
    """One name that was asked for a DMARC record.

    Args:
        domain: The name, without ``_dmarc.``.
        record: The one record there; None if there is none, or more than one.
        applies: Whether the record can be applied; see ``record.problem``.
        records: How many DMARC records there are: more than one count as none.
        error: Why DNS did not answer; "" if it did.
    """

    domain: str
    record: Record | None = None
    applies: bool = False
    records: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Walk:
    """What one tree walk found.

    Args:
        domain: Where it began.
        levels: The names that were asked, in order: the domain itself first; the last may have met an error.
        skipped: Whether names between the first and the second were skipped, because the domain has too many labels.
    """

    domain: str
    levels: tuple[Level, ...]
    skipped: bool = False

    @property
    def error(self) -> str:
        """Why the walk ended early: a DNS error; "" if there was none."""
        return self.levels[-1].error

    @property
    def organizational_domain(self) -> str:
        """The Organizational Domain: the domain itself where no name has a record.

        Source: RFC 9989 section 4.10.2.
        """
        found = [level for level in self.levels if level.record is not None]
        for level in found:
            assert level.record is not None
            if level.record.psd == "n":
                return level.domain
            if level.record.psd == "y" and level.domain != self.domain:
                return _one_below(level.domain, self.domain)
        return found[-1].domain if found else self.domain

    @property
    def policy(self) -> Level | None:
        """The level with the policy for the domain: its own, that of its Organizational Domain, or of its public suffix domain.

        Source: RFC 9989 section 4.10.1.
        """
        return self.policy_at(self.organizational_domain)

    def policy_at(self, organizational_domain: str) -> Level | None:
        """Return where the policy stands, given the Organizational Domain."""
        found = {level.domain: level for level in self.levels if level.record is not None}
        suffix = next((level for level in found.values() if level.record and level.record.psd == "y"), None)
        return found.get(self.domain) or found.get(organizational_domain) or suffix

    @property
    def marked(self) -> bool:
        """Whether a record says where the Organizational Domain is (psd=y, psd=n)."""
        return any(level.record is not None and level.record.psd != "u" for level in self.levels)


class Lookups:
    """The DNS questions of one evaluation: each name is asked once, and their number is bounded."""

    def __init__(self, resolver: Resolver, most: int) -> None:
        self._resolver = resolver
        self._left = most
        self._levels: dict[str, Level] = {}

    async def walk(self, domains: Iterable[str]) -> dict[str, Walk]:
        """Walk up from several domains at once, level by level."""
        walks = {domain: self.known(domain) for domain in domains}
        paths = {domain: _path(domain) for domain, found in walks.items() if found is None}
        walked: dict[str, list[Level]] = {domain: [] for domain in paths}
        for at in range(_MAX_LEVELS):
            names = {
                domain: path[at] for domain, path in paths.items() if at < len(path) and not _ended(walked[domain])
            }
            if not names:
                break
            await self._ask(names.values())
            for domain, name in names.items():
                walked[domain].append(self._levels[name])
        return {domain: found or _walk(domain, walked[domain]) for domain, found in walks.items()}

    def known(self, domain: str) -> Walk | None:
        """Return the walk up from a domain if all answers to it are in memory; None if one has to be asked for."""
        levels: list[Level] = []
        for name in _path(domain):
            level = self._levels.get(name) or self._cached(name)
            if level is None:
                return None
            levels.append(level)
            if _ended(levels):
                break
        return _walk(domain, levels)

    async def level(self, domain: str) -> Level:
        """Ask one name for its record."""
        await self._ask((domain,))
        return self._levels[domain]

    async def exists(self, domain: str) -> bool:
        """Return whether a name exists in DNS, with records or names below it.

        Raises:
            ResolverError: DNS did not answer.

        Source: RFC 9989 section 3.2.13 and appendix A.4.
        """
        return (await self.lookup(domain, "A")).exists

    async def lookup(self, name: str, rdtype: RdType) -> Answer:
        """Ask one question.

        Raises:
            ResolverError: DNS did not answer, or too many questions have been asked.
        """
        if self._left <= 0:
            raise ResolverError("too many DNS questions for one message")
        self._left -= 1
        return await self._resolver.lookup(name, rdtype)

    async def _ask(self, domains: Iterable[str]) -> None:
        unknown = [domain for domain in dict.fromkeys(domains) if domain not in self._levels]
        if not unknown:
            return
        if len(unknown) == 1:
            found = [await self._looked_up(unknown[0])]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._looked_up(domain)) for domain in unknown]
            found = [task.result() for task in tasks]
        self._levels.update(zip(unknown, found, strict=True))

    async def _looked_up(self, domain: str) -> Level:
        try:
            answer = await self.lookup(f"_dmarc.{domain}", "TXT")
        except ResolverError as error:
            return Level(domain, error=visible(str(error)))
        return _level(domain, answer)

    def _cached(self, domain: str) -> Level | None:
        """Return a level whose answer is in memory, which counts as a question."""
        answer = cached_answer(self._resolver, f"_dmarc.{domain}", "TXT") if self._left > 0 else None
        if answer is None:
            return None
        self._left -= 1
        level = self._levels[domain] = _level(domain, answer)
        return level


def _level(domain: str, answer: Answer) -> Level:
    """Return what an answer says of a name."""
    texts = [text for text in answer.texts if is_record(text)]
    if len(texts) != 1:
        return Level(domain, records=len(texts))
    record, applies = read(texts[0])
    return Level(domain, record, applies, 1)


def _walk(domain: str, levels: list[Level]) -> Walk:
    return Walk(domain, tuple(levels), domain.count(".") >= _MAX_LEVELS)


def parent(domain: str) -> str:
    """Return the name above a domain; "" above a top-level domain."""
    return domain.partition(".")[2]


def _path(domain: str) -> list[str]:
    """Return the names to ask, from the domain up to its top-level domain.

    Source: RFC 9989 section 4.10, steps 3 and 4.
    """
    labels = domain.split(".")
    begin = max(1, len(labels) - _MAX_LEVELS + 1)
    return [domain, *(".".join(labels[at:]) for at in range(begin, len(labels)))]


def _ended(levels: list[Level]) -> bool:
    """Whether a walk is at its end before the top: a record says so, or DNS failed."""
    if not levels:
        return False
    last = levels[-1]
    return bool(last.error) or (last.record is not None and last.record.psd != "u")


def _one_below(domain: str, start: str) -> str:
    """Return the name on the way from ``start`` that has one label more than ``domain``."""
    return ".".join(start.split(".")[-(domain.count(".") + 2) :])
