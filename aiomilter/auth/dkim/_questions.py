"""The questions for the keys of one message: all at once, each once, bounded in number and time.

Source: RFC 6376 sections 3.6.2 and 6.1.2.
"""

import asyncio
from typing import Final

from aiomilter.auth.dkim._record import KeyRecord, key_records
from aiomilter.auth.dkim._signature import Unusable
from aiomilter.dns import Answer, Resolver
from aiomilter.dns.cache import cached_answer
from aiomilter.exceptions import ResolverError
from aiomilter.mail.display import visible

__all__ = ["KeyQuestions"]

_NO_RECORD: Final = "there is no key record"


class KeyQuestions:
    """Asks for keys as soon as a message names them, and waits for none before it is wanted.

    Args:
        resolver: Who answers the DNS questions.
        timeout: Seconds for each; a temporary error after that.
        limit: How many different ones are asked.
    """

    __slots__ = ("_known", "_limit", "_resolver", "_tasks", "_timeout")

    def __init__(self, resolver: Resolver, *, timeout: float, limit: int) -> None:
        self._resolver = resolver
        self._timeout = timeout
        self._limit = limit
        self._known: dict[str, list[KeyRecord] | Unusable] = {}
        self._tasks: dict[str, asyncio.Task[list[KeyRecord] | Unusable]] = {}

    def ask(self, domain: str, selector: str) -> bool:
        """Ask for a key, unless it is asked for already; False if there are too many.

        Args:
            domain: The signing domain.
            selector: The selector.
        """
        name = _name(domain, selector)
        if name not in self._tasks and name not in self._known:
            if len(self._tasks) + len(self._known) >= self._limit:
                return False
            # Most keys are in the cache, where a task would cost more than the answer.
            answer = cached_answer(self._resolver, name, "TXT")
            if answer is not None:
                self._known[name] = _records(answer)
            else:
                self._tasks[name] = asyncio.get_running_loop().create_task(self._answer(name), name=f"key {name!r}")
        return True

    @property
    def answered(self) -> bool:
        """Whether all that was asked for is there."""
        return all(task.done() for task in self._tasks.values())

    async def records(self, domain: str, selector: str) -> list[KeyRecord]:
        """Wait for a key that was asked for and return its records, one at least.

        Raises:
            Unusable: There are none, or DNS could not say.
        """
        name = _name(domain, selector)
        known = self._known.get(name)
        found = await self._tasks[name] if known is None else known
        if isinstance(found, Unusable):
            raise Unusable(found.result, found.problem)
        return found

    def cancel(self) -> None:
        """Cancel the questions that are not answered yet."""
        for task in self._tasks.values():
            task.cancel()

    async def _answer(self, name: str) -> list[KeyRecord] | Unusable:
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                answer = await self._resolver.lookup(name, "TXT")
        except TimeoutError:
            if not deadline.expired():
                raise
            return Unusable("temperror", f"no answer for the key in {self._timeout:g} s")
        except ResolverError as error:
            return Unusable("temperror", visible(str(error)))
        return _records(answer)


def _records(answer: Answer) -> list[KeyRecord] | Unusable:
    return key_records(answer.texts) or Unusable("permerror", _NO_RECORD)


def _name(domain: str, selector: str) -> str:
    return f"{selector}._domainkey.{domain}"
