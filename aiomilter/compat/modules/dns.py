"""DNS questions that a blocking callback waits for: ``Milter.dns``.

They are asked by an event loop of their own, on a thread of its own, with one cache for all of a program's sessions.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, TypeVar, get_args

from aiomilter.dns import MX, Answer, RdType, Record, Resolver, system_resolver
from aiomilter.exceptions import ResolverError

__all__ = ["MAX_CNAME", "DNSError", "DNSLookup", "Session"]

DNSError = ResolverError
"""No server answers; py3dns has this name for it."""

MAX_CNAME: Final = 10
"""Aliases in a row that are followed at most."""

# Octets of a session's questions and answers, and those that a name or a value takes besides its text.
_MAX_CACHE_SIZE: Final = 256 * 1024
_VALUE_SIZE: Final = 100

_T = TypeVar("_T")
_Result = list[tuple[tuple[str, str], Any]]


class _Loop:
    """The event loop that asks; made at the first question of a process."""

    _made: ClassVar["_Loop | None"] = None
    _making: ClassVar = threading.Lock()

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.resolver: Resolver | None = None
        self.thread = threading.Thread(target=self.loop.run_forever, name="Milter.dns", daemon=True)
        self.thread.start()

    @classmethod
    def get(cls) -> "_Loop":
        with cls._making:
            # A thread does not come along when a program forks.
            if cls._made is None or cls._made.process != os.getpid():
                cls._made = _Loop()
            return cls._made

    def wait_for(self, asked: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(asked, self.loop).result()

    async def lookup(self, name: str, rdtype: RdType) -> Answer:
        if self.resolver is None:
            self.resolver = system_resolver()
        return await self.resolver.lookup(name, rdtype)


def DNSLookup(name: str, qtype: str) -> _Result:
    """Ask a question and wait for the answer.

    Args:
        name: Name, with or without trailing dot.
        qtype: A, AAAA, CNAME, MX, NS, PTR or TXT; also SPF, which nothing has.
    Returns:
        ``((name, type), value)`` of each record; an alias on the way has its own.  A value is an address as text, a
        (preference, name) of MX, a list of one ``bytes`` for TXT (its strings joined), else a name.
    Raises:
        DNSError: No server answered, or with an error; it is another type.
    """
    if qtype == "SPF":
        return []  # RFC 7208 section 3.1: no longer in use
    if qtype not in get_args(RdType):
        raise DNSError(f"record type: expected one of {', '.join(get_args(RdType))}, found {qtype!r}")
    rdtype: RdType = qtype  # type: ignore[assignment]  # looked up right above
    asker = _Loop.get()
    answer = asker.wait_for(asker.lookup(name, rdtype))
    found: _Result = []
    owner = name.removesuffix(".")
    if answer.canonical:
        found.append(((owner, "CNAME"), answer.canonical))
        owner = answer.canonical
    return found + [((owner, qtype), _value(record)) for record in answer.records]


def _value(record: Record) -> Any:
    match record:
        case bytes():
            return [record]
        case MX():
            return (record.preference, record.exchange)
        case str():
            return record
        case _:
            return str(record)


class Session:
    """Answers that are remembered for a session, an SMTP conversation for example.

    Senders choose what is asked, and what is answered: of 256 KiB of answers and more the first are forgotten.

    Args:
        cache: Answers to begin with, by (name in lower case, type); shared, not copied.
    """

    def __init__(self, cache: dict[tuple[str, str], list[Any]] | None = None) -> None:
        self.cache: dict[tuple[str, str], list[Any]] = {} if cache is None else cache
        # Of what was asked, in this order.
        self._sizes: dict[tuple[str, str], int] = {}

    def dns(self, name: str, qtype: str, cnames: dict[str, str] | None = None) -> list[Any]:
        """Return the values of a name's records, as :func:`DNSLookup` has them; aliases are followed.

        Args:
            name: Name, with or without trailing dot.
            qtype: Type of the records.
            cnames: Aliases that were followed on the way here, which are added to: name to its alias.
        Returns:
            The values; none if the name has no such records.
        Raises:
            DNSError: No server answered, or with an error; an alias leads back to itself.
        """
        name = name.removesuffix(".").lower()
        if (name, qtype) in self.cache:
            return self.cache[name, qtype]
        values = []
        for (owner, kind), value in DNSLookup(name, qtype):
            if kind == qtype:
                values.append(value)
            elif cnames is not None:
                cnames[owner] = value
        self._remember((name, qtype), values)
        return values

    def _remember(self, key: tuple[str, str], values: list[Any]) -> None:
        self.cache[key] = values
        self._sizes[key] = _VALUE_SIZE + len(key[0]) + sum(_VALUE_SIZE + len(str(value)) for value in values)
        size = sum(self._sizes.values())
        while size > _MAX_CACHE_SIZE:
            oldest = next(iter(self._sizes))
            size -= self._sizes.pop(oldest)
            self.cache.pop(oldest, None)

    def dns_txt(self, domainname: str, enc: str = "ascii") -> list[str]:
        """Return the texts of a domain's TXT records.

        Args:
            domainname: Domain.
            enc: Their charset.
        Raises:
            DNSError: As :meth:`dns`; a text is not of that charset.
        """
        try:
            return [b"".join(strings).decode(enc) for strings in self.dns(domainname, "TXT")]
        except UnicodeDecodeError as error:
            raise DNSError(f"a TXT record of {domainname!r} is not {enc}") from error
