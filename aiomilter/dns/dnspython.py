"""The built-in resolver: asks recursive name servers, and needs no compiler and no other library.

``backend="dnspython"`` is its name for those who choose a backend.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aiomilter.dns.answers import Answer, RdType
from aiomilter.dns.exchange import Server, ask_tcp, ask_udp
from aiomilter.dns.message import MAX_LINKS, Alias, Fault, Question, Reading, Refusal, Useless, belongs, read_answer
from aiomilter.dns.names import question_name
from aiomilter.dns.resolv_conf import system_servers
from aiomilter.exceptions import ResolverFailure, ResolverTimeout

__all__ = ["DnspythonResolver"]

# Questions begun in one turn of the event loop, so that a burst of them does not stop everything else.
_MAX_BEGUN: Final = 16
# Seconds until a server that does not take EDNS is asked with it again.
_PLAIN_FOR: Final = 300.0
# Questions in a row that a server left without answer until they came without EDNS: one may be lost on the way.
_MAX_LOST: Final = 3
_ANSWERS: Final = (Answer, Alias)


class DnspythonResolver:
    """Asks name servers over UDP, and over TCP if the answer does not fit; has no cache.

    Each question has a socket, and so a port, of its own; datagrams with a wrong source, id or question are ignored.

    A server that refuses, fails or makes no sense is followed by the next one; a silent one is asked again after the
    others.  A question that EDNS may have spoiled (FORMERR, NOTIMP, BADVERS, a SERVFAIL or malformed answer, silence) is
    asked again without, and a server that answers it then is not asked with EDNS for five minutes.

    Args:
        nameservers: Address and port of each server, asked in this order; None takes those of the system's resolv.conf.
        timeout: Seconds until a question must be answered, waiting for its turn included.
        attempt_timeout: Seconds one server has for one attempt.
        max_queries: Questions in progress at most; others wait for their turn.  Each holds one socket.
    Raises:
        ResolverFailure: The system's resolv.conf cannot be read or names no server.

    Source: RFC 6891 sections 6.2.2 and 7; RFC 7766 section 5.
    """

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]] | None = None,
        *,
        timeout: float = 5.0,
        attempt_timeout: float = 2.0,
        max_queries: int = 500,
    ) -> None:
        servers = system_servers() if nameservers is None else nameservers
        self._servers = [_Asked(server) for server in servers]
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        self._turn = asyncio.Semaphore(max_queries)
        self._begun = 0

    async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
        """Answer one question; see :meth:`aiomilter.dns.Resolver.lookup`."""
        asked = question_name(name)
        if asked is None:
            return Answer(name, rdtype, exists=False)
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                return await self.ask(asked, rdtype)
        except TimeoutError as error:
            raise ResolverTimeout(f"no answer to {asked!r} {rdtype} in {self._timeout:g} s") from error

    async def close(self) -> None:
        """Do nothing: a question's socket is closed with the question."""

    async def ask(self, asked: str, rdtype: RdType, /) -> Answer:
        """Answer one question, however long that takes and how many others there are.

        An alias that a server has not followed is followed here.

        Args:
            asked: The name, as :func:`aiomilter.dns.question_name` returns it.
            rdtype: The record type.
        Raises:
            ResolverFailure: As :meth:`lookup`.
        """
        aliases: list[Alias] = []
        question = Question.of(asked, rdtype)
        while isinstance(found := await self._ask(asked, question), Alias):
            aliases.append(found)
            if sum(alias.links for alias in aliases) > MAX_LINKS:
                raise _failure(asked, rdtype, ["a loop of aliases (CNAME)"])
            question = found.question
        if aliases:
            canonical = found.canonical or aliases[-1].canonical if found.exists else ""
            ttl = min(found.ttl, *(alias.ttl for alias in aliases))
            return replace(found, name=asked, ttl=ttl, canonical=canonical)
        return found if found.name == asked else replace(found, name=asked)

    async def _ask(self, asked: str, question: Question) -> Answer | Alias:
        """Ask the servers in turn, silent ones again after the others, until one has an answer."""
        problems: list[str] = []
        servers = list(self._servers)
        first = True
        while servers:
            for server in tuple(servers):
                found = await self._ask_server(server, question, first)
                if isinstance(found, _ANSWERS):
                    return found
                if found is None:
                    continue  # silent: its next attempt comes after the others' turn
                problems.append(found.problem)
                servers.remove(server)
                if isinstance(found, Useless) and found.fault is Fault.TOO_MUCH:
                    raise _failure(asked, question.rdtype, problems)  # others would say the same, at the same cost
            first = False
        raise _failure(asked, question.rdtype, problems)

    async def _ask_server(self, server: "_Asked", question: Question, first: bool) -> Reading | None:
        """Ask one server, without EDNS if that may be the cause of its failure; None for silence."""
        loop = asyncio.get_running_loop()
        takes_edns = server.takes_edns(loop.time())
        edns = takes_edns and first
        found = await self._attempt(server.address, question, edns=edns)
        if edns and found is not None and _may_be_of_edns(found):
            again = await self._attempt(server.address, question, edns=False)
            if isinstance(again, _ANSWERS):
                server.refused_edns(loop.time())
            return again or found
        if isinstance(found, _ANSWERS):
            if edns:
                server.lost = 0
            elif takes_edns:
                server.lost += 1
                if server.lost == _MAX_LOST:
                    server.refused_edns(loop.time())
        return found

    async def _attempt(self, server: Server, question: Question, *, edns: bool) -> Reading | None:
        """Ask one server once, over UDP and, if the answer does not fit, over TCP; None for silence."""
        # Not an Event: that would let all of them through at once.
        while self._begun >= _MAX_BEGUN:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._begun += 1
        # Unguessable, with the port: RFC 5452 section 4.
        query = question.query(int.from_bytes(os.urandom(2)), edns=edns)
        try:
            octets = await ask_udp(server, query, self._attempt_timeout)
            if octets is None:
                return None
            if octets:
                found = read_answer(octets, question)
                if not isinstance(found, Useless) or found.fault is not Fault.TRUNCATED:
                    return found
            octets = await ask_tcp(server, query, self._attempt_timeout)
        except (OSError, EOFError, ValueError) as error:
            return Useless(Fault.UNPROVEN, type(error).__name__)
        if octets is None:
            return None
        if not belongs(octets, query):
            return Useless(Fault.UNPROVEN, "an answer to another question")
        return read_answer(octets, question)

    def _next_turn(self) -> None:
        self._begun = 0


class _Asked:
    """A name server, and what is known about it."""

    def __init__(self, address: Server) -> None:
        self.address = address
        self.lost = 0
        """Questions in a row that it answered only once they came without EDNS."""
        self._plain_until = 0.0

    def takes_edns(self, now: float) -> bool:
        """Return whether to ask this server with EDNS."""
        return now >= self._plain_until

    def refused_edns(self, now: float) -> None:
        """Record that a question was answered without EDNS only."""
        self.lost = 0
        self._plain_until = now + _PLAIN_FOR


def _may_be_of_edns(found: Reading) -> bool:
    if isinstance(found, Refusal):
        return found.may_be_of_edns
    return isinstance(found, Useless) and found.fault is Fault.MALFORMED


def _failure(name: str, rdtype: RdType, problems: Sequence[str]) -> ResolverFailure:
    return ResolverFailure(f"no usable answer to {name!r} {rdtype}: {', '.join(problems)}")
