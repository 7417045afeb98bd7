"""Every row of the table of trouble, on both backends: what a look-up and an SPF check come to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiomilter.auth.spf import check_host
from aiomilter.dns import Answer, CachingResolver, RdType
from aiomilter.exceptions import ResolverFailure, ResolverTimeout
from tests.dns.scripted import RECORD, Asked, ScriptedServer, framed, reply
from tests.dns.test_backends import BACKENDS, make
from tests.dns.trouble import NAME, ROWS, Row, good, says

TROUBLE = [row for row in ROWS if row.outcome in ("failure", "timeout") or row.aiodns]


def cases(rows: list[Row]) -> list[Any]:
    """Each row on each backend."""
    return [
        pytest.param(
            row,
            backend,
            id=f"{row.name}-{backend}",
            marks=[pytest.mark.slow] if row.silent or "timeout" in row.expected(backend) else [],
        )
        for row in rows
        for backend in BACKENDS
    ]


@asynccontextmanager
async def asking(row: Row, backend: str, *servers: ScriptedServer, patient: bool = False) -> AsyncIterator[Any]:
    # Patient where an answer comes, however busy the machine is.
    timeout = 0.3 if "timeout" in row.expected(backend) and not patient else 20.0
    # Only where a server is silent has somebody to wait; on a busy machine any other answer may take its time.
    attempt = 0.1 if row.silent or "timeout" in row.expected(backend) else 5.0
    where = [("127.0.0.1", server.port) for server in servers]
    resolver = make(backend, *where, timeout=timeout, attempt_timeout=attempt)
    try:
        yield resolver
    finally:
        await resolver.close()


async def outcome(resolver: Any, name: str, rdtype: RdType) -> str:
    try:
        answer = await resolver.lookup(name, rdtype)
    except ResolverTimeout:
        return "timeout"
    except ResolverFailure:
        return "failure"
    assert isinstance(answer, Answer)
    assert answer.name == name
    if answer:
        return "record"
    return "no data" if answer.exists else "no such name"


def whole(row: Row, backend: str, *servers: ScriptedServer) -> str:
    """Return all there is to a row that failed."""
    log = "\n".join(line for server in servers for line in server.log)
    return f"{row.name}, on {backend}; {row!r}\n{log}"


@pytest.mark.parametrize(("row", "backend"), cases(ROWS))
async def test_a_look_up_comes_to_what_the_table_says(row: Row, backend: str) -> None:
    async with ScriptedServer(row.script, row.udp, row.tcp) as server, asking(row, backend, server) as resolver:
        assert await outcome(resolver, NAME, "A") in row.expected(backend), whole(row, backend, server)


@pytest.mark.parametrize(("row", "backend"), cases(TROUBLE))
async def test_a_server_in_trouble_is_followed_by_the_next(row: Row, backend: str) -> None:
    # A record is an answer wherever it comes from; a silent server leaves time for the next one.
    expected = "failure" if row.alone else "record"
    async with (
        ScriptedServer(row.script, row.udp, row.tcp) as server,
        ScriptedServer(says(good)) as second,
        asking(row, backend, server, second, patient=True) as resolver,
    ):
        assert await outcome(resolver, NAME, "A") == expected, whole(row, backend, server, second)


SPF = {"record": "pass", "no data": "none", "no such name": "none", "failure": "temperror", "timeout": "temperror"}


@pytest.mark.parametrize(("row", "backend"), cases(ROWS))
async def test_no_spf_result_is_made_of_trouble(row: Row, backend: str) -> None:
    """Asked for the policy, and for an address that a policy names; a sender's first question is for TXT."""

    def script(asked: Asked) -> Any:
        if asked.name != "policy.example":
            return row.script(asked)
        policy = f"v=spf1 a:{NAME} -all".encode()
        message = reply(asked, [RECORD._replace(rdata=bytes((len(policy),)) + policy)])
        return [message] if asked.transport == "udp" else [framed(message)]

    async with ScriptedServer(script, row.udp, row.tcp) as server, asking(row, backend, server) as resolver:
        cache = CachingResolver(resolver)
        published = await check_host("192.0.2.1", f"a@{NAME}", "c.example", resolver=cache)
        named = await check_host("192.0.2.1", "a@policy.example", "c.example", resolver=cache)

        expected = row.expected(backend)
        assert published.result in {SPF[each] for each in expected}, whole(row, backend, server)
        if row.udp:  # else there is no policy, either
            assert named.result in {SPF[each].replace("none", "fail") for each in expected}, whole(row, backend, server)
