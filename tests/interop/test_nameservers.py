"""Both resolvers against NSD and Unbound."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from aiomilter.auth.spf import check_host
from aiomilter.dns import MX, CachingResolver, RdType
from aiomilter.exceptions import ResolverError
from tests.dns.test_backends import BACKENDS, make
from tests.dns.test_trouble import outcome
from tests.interop.rigs.mta import free_port
from tests.patience import PATIENCE
from tests.programs import needed

pytestmark = [pytest.mark.interop, pytest.mark.slow]

ZONE = f"""
$ORIGIN example.com.
$TTL 300
@       IN SOA   ns hostmaster 1 3600 600 86400 42
@       IN NS    ns
@       IN MX    10 mx
@       IN TXT   "v=spf1 mx include:_spf.example.com " "-all"
ns      IN A     127.0.0.1
mx  77  IN A     192.0.2.1
mx  77  IN AAAA  2001:db8::1
www 120 IN CNAME web
web 60  IN CNAME mx
_spf    IN TXT   "v=spf1 ip4:198.51.100.0/24 ?all"
long    IN TXT   {" ".join(f'"{"x" * 250}"' for _ in range(8))}
huge    IN TXT   {" ".join(f'"{"y" * 250}"' for _ in range(240))}
many    IN A     192.0.2.1
{chr(10).join(f"many IN A 198.51.{100 + number // 250}.{number % 250}" for number in range(600))}
a.empty IN A     192.0.2.1
*.wild  IN TXT   "any"
tree    IN DNAME branch
x.branch IN A    192.0.2.7
across  IN CNAME far.example.net.
abroad  IN CNAME nowhere.example.org.
nodata  IN CNAME text.example.net.
missing-far IN CNAME missing.example.net.
round   IN CNAME round-again
round-again IN CNAME round
cut     IN NS    ns.cut
ns.cut  IN A     127.0.0.1
"""
OTHER_ZONE = """
$ORIGIN example.net.
$TTL 300
@       IN SOA   ns hostmaster 1 3600 600 86400 30
@       IN NS    ns.example.com.
far     IN A     192.0.2.9
text    IN TXT   "text"
"""

NSD = """
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  rrl-ratelimit: 0
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  cookie-secret-file: "{folder}/cookies"
remote-control:
  control-enable: no
zone:
  name: "example.com"
  zonefile: "example.com.zone"
zone:
  name: "example.net"
  zonefile: "example.net.zone"
"""

UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  port: {port}
  do-ip6: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  verbosity: 1
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "iterator"
  # Nothing of ours leaves the machine.
  root-hints: "{folder}/root.hints"
  local-zone: "org" refuse
remote-control:
  control-enable: no
stub-zone:
  name: "example.com"
  stub-addr: 127.0.0.1@{upstream}
stub-zone:
  name: "example.net"
  stub-addr: 127.0.0.1@{upstream}
stub-zone:
  name: "dead.example"
  stub-addr: 127.0.0.1@{closed}
stub-zone:
  name: "refused.example"
  stub-addr: 127.0.0.1@{upstream}
"""


@asynccontextmanager
async def running(command: list[str], ready: bytes) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server until the block ends; enter the block once the server says that it is ready."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    said = []
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                line = await process.stderr.readline()
                said.append(line)
                if ready in line:
                    break
                assert line, b"".join(said).decode()
        # Whatever else it says is not to fill the pipe.
        draining = asyncio.create_task(process.stderr.read())
        yield process
        if process.returncode is None:
            process.terminate()
        await draining
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def nsd(folder: Path, port: int) -> list[str]:
    (folder / "example.com.zone").write_text(ZONE)
    (folder / "example.net.zone").write_text(OTHER_ZONE)
    config = folder / "nsd.conf"
    config.write_text(NSD.format(port=port, folder=folder))
    return [needed("nsd"), "-d", "-c", str(config)]


def unbound(folder: Path, port: int, upstream: int) -> list[str]:
    config = folder / "unbound.conf"
    (folder / "root.hints").write_text(". 3600 IN NS root.invalid.\nroot.invalid. 3600 IN A 127.0.0.1\n")
    config.write_text(UNBOUND.format(port=port, folder=folder, upstream=upstream, closed=free_port()))
    return [needed("unbound"), "-d", "-c", str(config)]


@asynccontextmanager
async def on_a_free_port(command: Callable[[int], list[str]], ready: bytes) -> AsyncIterator[int]:
    """Run a server on a port; on another one where somebody else was quicker to take it."""
    for attempt in range(5):
        port = free_port()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(running(command(port), ready))
            except AssertionError:
                if attempt == 4:
                    raise
                continue
            yield port
            return


@pytest.fixture(params=["nsd", "unbound"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    async with on_a_free_port(lambda port: nsd(tmp_path, port), b"nsd started") as authority:
        if request.param == "nsd":
            yield authority
            return
        async with on_a_free_port(lambda port: unbound(tmp_path, port, authority), b"start of service") as recursive:
            yield recursive


@pytest.fixture(params=BACKENDS)
async def resolver(request: pytest.FixtureRequest, port: int) -> AsyncIterator[Any]:
    made = make(request.param, ("127.0.0.1", port), timeout=20.0)
    yield made
    await made.close()


async def test_records_ttls_aliases_and_long_texts(resolver: Any) -> None:
    mx = await resolver.lookup("MX.example.com", "A")
    www = await resolver.lookup("www.example.com", "AAAA")
    missing = await resolver.lookup("missing.example.com", "A")
    empty = await resolver.lookup("mx.example.com", "TXT")

    assert mx.addresses == (ip_address("192.0.2.1"),)
    assert 70 <= mx.ttl <= 77
    assert (await resolver.lookup("example.com", "MX")).exchanges == (MX(10, "mx.example.com"),)
    assert www.addresses == (ip_address("2001:db8::1"),)
    assert www.canonical.lower() == "mx.example.com"
    assert 50 <= www.ttl <= 60
    assert (missing.exists, empty.exists) == (False, True)
    assert not missing
    assert not empty
    assert 30 <= missing.ttl <= 60
    assert (await resolver.lookup("long.example.com", "TXT")).texts == (b"x" * 2000,)


# What is asked for, and what comes of it: with the authority alone, and behind a recursive server.
OUTCOMES: list[tuple[str, RdType, str, str]] = [
    ("mx.example.com", "A", "record", "record"),
    ("www.example.com", "A", "record", "record"),
    ("missing.example.com", "A", "no such name", "no such name"),
    ("mx.example.com", "MX", "no data", "no data"),
    ("www.example.com", "TXT", "no data", "no data"),
    ("empty.example.com", "A", "no data", "no data"),
    ("x.wild.example.com", "TXT", "record", "record"),
    ("x.wild.example.com", "A", "no data", "no data"),
    ("x.tree.example.com", "A", "record", "record"),
    ("y.tree.example.com", "A", "no such name", "no such name"),
    ("long.example.com", "TXT", "record", "record"),
    ("huge.example.com", "TXT", "record", "record"),
    ("many.example.com", "A", "failure", "failure"),
    # An alias into another zone.
    ("across.example.com", "A", "record", "record"),
    ("nodata.example.com", "A", "no data", "no data"),
    ("missing-far.example.com", "A", "no such name", "no such name"),
    ("round.example.com", "A", "failure", "failure"),
    # The authority has no such zone (REFUSED); the recursive server refuses, or is refused (SERVFAIL).
    ("x.example.org", "A", "failure", "failure"),
    ("x.refused.example", "A", "failure", "failure"),
]
# The authority refers to a server that is not there, or has no such zone; the recursive server tries for some time.
DEAD = ["cut.example.com", "x.cut.example.com", "x.dead.example", "abroad.example.com"]


async def test_what_a_look_up_comes_to(resolver: Any, request: pytest.FixtureRequest) -> None:
    """All at once: a server for each would take longer than they do."""
    server = request.node.callspec.params["port"]
    expected = {(name, rdtype): alone if server == "nsd" else behind for name, rdtype, alone, behind in OUTCOMES}

    found = await asyncio.gather(*(outcome(resolver, name, rdtype) for name, rdtype in expected))

    assert dict(zip(expected, found, strict=True)) == expected


async def test_an_absence_is_kept_as_long_as_its_zone_says(resolver: Any) -> None:
    """42 seconds, and behind an alias into the other zone 30; less what a recursive server has had it."""
    for name, most in (("missing.example.com", 42), ("mx.example.com", 42), ("missing-far.example.com", 30)):
        answer = await resolver.lookup(name, "PTR")
        assert not answer
        assert most - 10 <= answer.ttl <= most


@pytest.mark.parametrize("backend", BACKENDS)
async def test_no_absence_is_made_of_a_dead_server(backend: str, port: int, request: pytest.FixtureRequest) -> None:
    resolver = make(backend, ("127.0.0.1", port), timeout=0.5)

    found = await asyncio.gather(*(outcome(resolver, name, rdtype) for name in DEAD for rdtype in ("A", "TXT")))
    await resolver.close()

    expected = {"failure"} if request.node.callspec.params["port"] == "nsd" else {"failure", "timeout"}
    assert set(found) <= expected


async def test_no_spf_result_is_made_of_a_referral_or_a_refusal(resolver: Any) -> None:
    for domain in ("cut.example.com", "x.example.org", "x.refused.example"):
        found = await check_host("192.0.2.1", f"a@{domain}", "c.example", resolver=resolver, timeout=1.0)
        assert found.result == "temperror"


async def test_spf_is_checked(resolver: Any) -> None:
    cache = CachingResolver(resolver)

    for ip, result in (("192.0.2.1", "pass"), ("198.51.100.7", "pass"), ("203.0.113.1", "fail")):
        found = await check_host(ip, "alice@example.com", "mx.example.com", resolver=cache)
        assert found.result == result


async def test_five_hundred_questions_at_once(resolver: Any) -> None:
    answers = await asyncio.gather(*(resolver.lookup(f"n{number}.example.com", "A") for number in range(500)))

    assert not any(answer.exists for answer in answers)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_server_may_be_killed_and_started_again_under_load(backend: str, tmp_path: Path) -> None:
    port = free_port()
    command = nsd(tmp_path, port)
    resolver = make(backend, ("127.0.0.1", port), timeout=0.5, attempt_timeout=0.2)
    stop = False
    results: list[type[Exception] | bool] = []

    async def session(number: int) -> None:
        count = 0
        while not stop:
            count += 1
            try:
                results.append(bool((await resolver.lookup(f"n{count}.s{number}.example.com", "A")).exists))
            except ResolverError as error:
                results.append(type(error))

    async def seen(count: int, wanted: Any) -> None:
        del results[:]
        while sum(wanted(result) for result in results) < count:
            await asyncio.wait(sessions, timeout=0.01)

    async with running(command, b"nsd started") as process:
        sessions = [asyncio.create_task(session(number)) for number in range(20)]
        await seen(100, lambda result: result is False)
        process.kill()
        await process.wait()
        async with asyncio.timeout(PATIENCE):
            await seen(20, lambda result: result is not False)
    async with running(command, b"nsd started"), asyncio.timeout(PATIENCE):
        await seen(100, lambda result: result is False)
        stop = True
        await asyncio.gather(*sessions)
    await resolver.close()

    assert len(results) >= 100
