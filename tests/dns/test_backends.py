"""Both resolvers behind the same tests, against real packets on loopback."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.auth.spf import SpfResult, check_host
from aiomilter.dns import MX, Answer, CachingResolver, RdType, Resolver
from aiomilter.dns.exchange import _Exchange
from aiomilter.exceptions import ResolverError, ResolverFailure, ResolverTimeout
from tests.clock import on_clock
from tests.dns.scripted import RECORD, RR, Asked, ScriptedServer, framed, reply, soa
from tests.dns.server import Manner, NameServer, Silence, labels, zone
from tests.patience import PATIENCE

BACKENDS = ["dnspython", "aiodns"]


def make(backend: str, *servers: tuple[str, int], **options: Any) -> Any:
    if backend == "dnspython":
        from aiomilter.dns.dnspython import DnspythonResolver

        return DnspythonResolver(servers, **options)
    pytest.importorskip("aiodns")
    from aiomilter.dns.aiodns import AiodnsResolver

    return AiodnsResolver(servers, **options)


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    records = {
        "example.com": {
            "TXT": ['"v=spf1 " "mx -all"', '"\\200\\010"'],
            "MX": ["20 mx2.example.com.", "10 mx1.example.com.", "0 ."],
            "NS": ["ns.example.com."],
        },
        "mx1.example.com": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
        "alias.example.com": {"CNAME": ["middle.example.com."]},
        "middle.example.com": {"CNAME": ["MX1.example.com."]},
        "dangling.example.com": {"CNAME": ["missing.example.com."]},
        "loop.example.com": {"CNAME": ["loop.example.com."]},
        "1.2.0.192.in-addr.arpa": {"PTR": ["a\\.b\\013\\010\\255.example.com."]},
        "long.example.com": {"TXT": [" ".join(f'"{"x" * 200}"' for _ in range(11))]},
        "huge.example.com": {"TXT": [" ".join(f'"{"y" * 250}"' for _ in range(240))]},
    }
    async with zone(records) as server:
        for name in (b"foo:bar/baz", b"a  b%20c", b'q"u\\o;t($@'):
            server.records[((name, b"example", b"com"), "A")] = server.records[(labels("mx1.example.com"), "A")]
        yield server


@pytest.fixture(params=BACKENDS)
async def resolver(request: pytest.FixtureRequest, server: NameServer) -> AsyncIterator[Any]:
    made = make(request.param, ("127.0.0.1", server.port))
    yield made
    await made.close()


@pytest.fixture(params=BACKENDS)
async def impatient(request: pytest.FixtureRequest, server: NameServer) -> AsyncIterator[Any]:
    made = make(request.param, ("127.0.0.1", server.port), timeout=0.05, attempt_timeout=0.02)
    yield made
    await made.close()


async def test_records_arrive_as_plain_values(resolver: Resolver) -> None:
    assert sorted((await resolver.lookup("Example.com.", "TXT")).texts) == [b"v=spf1 mx -all", b"\xc8\n"]
    assert (await resolver.lookup("example.com", "MX")).exchanges == (
        MX(0, ""),
        MX(10, "mx1.example.com"),
        MX(20, "mx2.example.com"),
    )
    assert (await resolver.lookup("example.com", "NS")).names == ("ns.example.com",)
    assert set((await resolver.lookup("mx1.example.com", "A")).addresses) == {
        ip_address("192.0.2.1"),
        ip_address("192.0.2.2"),
    }
    assert (await resolver.lookup("mx1.example.com", "AAAA")).addresses == (ip_address("2001:db8::1"),)


async def test_an_answer_says_what_was_asked_and_how_long_it_may_be_kept(resolver: Resolver) -> None:
    answer = await resolver.lookup("MX1.Example.com", "AAAA")

    assert answer == Answer("mx1.example.com", "AAAA", (ip_address("2001:db8::1"),), 300)


async def test_aliases_are_followed(resolver: Resolver, server: NameServer) -> None:
    answer = await resolver.lookup("alias.example.com", "A")

    assert answer.canonical.lower() == "mx1.example.com"
    assert len(answer.addresses) == 2
    assert len(server.queries) == 1
    assert (await resolver.lookup("alias.example.com", "CNAME")).names == ("middle.example.com",)


async def test_an_alias_to_nothing_does_not_exist(resolver: Resolver) -> None:
    answer = await resolver.lookup("dangling.example.com", "A")

    assert not answer
    assert not answer.exists


async def test_a_loop_of_aliases_is_a_failure_or_no_data(impatient: Resolver) -> None:
    try:
        answer = await impatient.lookup("loop.example.com", "A")
    except ResolverError:
        return
    assert not answer


async def test_no_such_name_and_no_data_are_answers(resolver: Resolver) -> None:
    missing = await resolver.lookup("missing.example.com", "A")
    empty = await resolver.lookup("example.com", "AAAA")

    assert (missing.exists, empty.exists) == (False, True)
    assert not missing
    assert not empty
    assert (missing.ttl, empty.ttl) == (60, 60)


async def test_a_negative_answer_without_soa_gives_no_bound(server: NameServer) -> None:
    server.soa_minimum = None
    resolver = make("dnspython", ("127.0.0.1", server.port))

    assert (await resolver.lookup("missing.example.com", "A")).ttl == 0
    assert (await resolver.lookup("example.com", "AAAA")).ttl == 0


async def test_a_hostile_name_in_an_answer_is_escaped(resolver: Resolver) -> None:
    answer = await resolver.lookup("1.2.0.192.in-addr.arpa", "PTR")

    assert answer.names == ("a\\046b\\013\\010\\255.example.com",)


@pytest.mark.parametrize("name", ["foo:bar/baz.example.com", "a  b%20c.example.com", 'q"u\\o;t($@.example.com'])
async def test_odd_names_are_asked_as_they_are(resolver: Resolver, name: str) -> None:
    assert len((await resolver.lookup(name, "A")).addresses) == 2


@pytest.mark.parametrize("name", ["a..example.com", "x" * 64 + ".example.com", "a\0.example.com", "", "\udcff.example"])
async def test_what_dns_cannot_hold_is_not_asked(resolver: Resolver, server: NameServer, name: str) -> None:
    answer = await resolver.lookup(name, "A")

    assert not answer.exists
    assert server.queries == []


async def test_names_in_other_scripts_are_asked_as_a_labels(resolver: Resolver, server: NameServer) -> None:
    await resolver.lookup("bücher.example.com", "A")

    assert server.queries[0][0] == "xn--bcher-kva.example.com"


@pytest.mark.parametrize(("name", "size"), [("long.example.com", 2200), ("huge.example.com", 60_000)])
async def test_what_does_not_fit_a_datagram_comes_over_tcp(
    resolver: Resolver, server: NameServer, name: str, size: int
) -> None:
    answer = await resolver.lookup(name, "TXT")

    assert len(answer.texts[0]) == size
    assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]


async def test_a_server_that_says_it_failed_is_a_failure(resolver: Resolver, server: NameServer) -> None:
    server.silent[labels("broken.example.com"), "*"] = Silence.SERVFAIL

    with pytest.raises(ResolverFailure, match="broken"):
        await resolver.lookup("broken.example.com", "A")


@pytest.mark.slow
@pytest.mark.parametrize(
    "manner", [Manner.NOTHING, Manner.WRONG_ID, Manner.WRONG_QUESTION, Manner.GARBAGE, Manner.HALF]
)
async def test_a_server_that_makes_no_sense_is_an_error_in_time(
    impatient: Resolver, server: NameServer, manner: Manner
) -> None:
    server.manner = manner

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ResolverError):
            await impatient.lookup("mx1.example.com", "A")


async def test_a_server_that_is_not_there_is_a_failure_at_once(server: NameServer) -> None:
    async with NameServer() as gone:
        pass
    limits = {"timeout": 4 * PATIENCE, "attempt_timeout": 2 * PATIENCE}
    alone = make("dnspython", ("127.0.0.1", gone.port), **limits)
    first = make("dnspython", ("127.0.0.1", gone.port), ("127.0.0.1", server.port), **limits)

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ResolverFailure, match="ConnectionRefusedError"):
            await alone.lookup("mx1.example.com", "A")
        assert await first.lookup("mx1.example.com", "A")


async def test_who_guesses_ids_gets_no_answer_in(server: NameServer) -> None:
    class Guesser(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport

        def datagram_received(self, data: bytes, address: object) -> None:
            for guess in range(40):
                self.transport.sendto(bytes((data[0] ^ 1, guess)) + data[2:], address)

    loop = asyncio.get_running_loop()
    for _ in range(20):  # until a port is free for both
        tcp = await asyncio.start_server(server._serve_tcp, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        try:
            transport, _ = await loop.create_datagram_endpoint(Guesser, local_addr=("127.0.0.1", port))
            break
        except OSError:
            tcp.close()
    server.port, before = port, server.port
    resolver = make("dnspython", ("127.0.0.1", port))

    answer = await resolver.lookup("mx1.example.com", "A")

    assert len(answer.addresses) == 2
    assert [how for _, _, how in server.queries] == ["tcp"]
    transport.close()
    tcp.close()
    await tcp.wait_closed()
    server.port = before


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("manner", [Manner.PLAIN, Manner.TRUNCATED])
async def test_a_check_cancelled_at_any_await_leaves_nothing_behind(
    server: NameServer, manner: Manner, backend: str
) -> None:
    server.manner = manner
    server.add("spf.example.com", "TXT", '"v=spf1 mx:example.com a:mx1.example.com -all"')
    resolver = make(backend, ("127.0.0.1", server.port))
    before = asyncio.all_tasks()
    turns, cancelled = 0, True
    while cancelled:
        async with CachingResolver(resolver) as cache:
            # Two sessions share each query; only one of them is cancelled.
            checks = [
                asyncio.create_task(check_host("192.0.2.1", "a@spf.example.com", "c.example", resolver=cache))
                for _ in range(2)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            checks[0].cancel()
            first, second = await asyncio.gather(*checks, return_exceptions=True)
            cancelled = isinstance(first, asyncio.CancelledError)
            assert isinstance(second, SpfResult)
            assert second.result == "pass"
            assert not cache._flights
            assert not cache._tasks
        turns += 1
        assert resolver._turn._value == 500
    await resolver.close()
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)

    assert turns > 5
    assert asyncio.all_tasks() - before - server._connections == set()


async def test_a_late_answer_is_nobodys(server: NameServer) -> None:
    exchange = _Exchange(b"\0" * 20)
    exchange.give_up()
    exchange.give_up()
    exchange.datagram_received(b"\0" * 20, None)
    exchange.error_received(OSError())

    assert exchange.answer.result() is None


@pytest.mark.slow
@on_clock
async def test_silence_over_tcp_is_silence() -> None:
    silent = {(labels("silent.example.com"), "*"): Silence.TIMEOUT}
    async with NameServer(manner=Manner.TRUNCATED, silent=silent) as server:
        resolver = make("dnspython", ("127.0.0.1", server.port), timeout=10.0, attempt_timeout=2.0)

        with pytest.raises(ResolverTimeout):
            await resolver.lookup("silent.example.com", "A")

    assert "tcp" in [transport for _, _, transport in server.queries]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda reply: bytes((reply[0] ^ 1,)) + reply[1:],
        lambda reply: reply[:13] + b"x" + reply[14:],
        lambda reply: reply[:30],
    ],
)
async def test_nonsense_over_tcp_is_a_failure(
    server: NameServer, spoil: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.manner = Manner.TRUNCATED
    answer = server.answer

    def spoiled(wire: bytes, transport: str) -> bytes | None:
        reply = answer(wire, transport)
        return spoil(reply) if reply and transport == "tcp" else reply

    monkeypatch.setattr(server, "answer", spoiled)
    resolver = make("dnspython", ("127.0.0.1", server.port))

    with pytest.raises(ResolverFailure):
        await resolver.lookup("mx1.example.com", "A")


async def test_a_server_may_refuse_without_repeating_the_question(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "answer", lambda wire, transport: wire[:2] + b"\x80\x05" + b"\0" * 8)
    resolver = make("dnspython", ("127.0.0.1", server.port))

    with pytest.raises(ResolverFailure, match="REFUSED"):
        await resolver.lookup("mx1.example.com", "A")


@given(st.binary(max_size=120))
@settings(deadline=None, max_examples=40)
def test_any_octets_after_the_question_are_an_answer_or_a_failure(octets: bytes) -> None:
    def odd(asked: Asked) -> list[bytes]:
        message = reply(asked, counts=(2, 1, 0), after=octets)
        return [message] if asked.transport == "udp" else [framed(message)]

    async def run() -> None:
        async with ScriptedServer(odd) as server:
            resolver = make("dnspython", ("127.0.0.1", server.port))
            try:
                answer = await resolver.lookup("mx1.example.com", "A")
            except ResolverFailure:
                return
            assert answer.name == "mx1.example.com"

    asyncio.run(run())


def refusing_edns(asked: Asked) -> list[bytes]:
    return [reply(asked, [], rcode=1) if asked.edns else reply(asked, [RECORD])]


async def test_a_server_that_refuses_edns_is_asked_without_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer(refusing_edns) as server:
        resolver = make("dnspython", ("127.0.0.1", server.port))

        for name in ("a.example", "b.example", "c.example"):
            assert await resolver.lookup(name, "A")
        asked = [(query.name[0], query.edns) for query in server.asked]
        assert asked == [("a", True), ("a", False), ("b", False), ("c", False)]

        monkeypatch.setattr(resolver._servers[0], "_plain_until", asyncio.get_running_loop().time())
        assert await resolver.lookup("d.example", "A")
        assert [query.edns for query in server.asked[4:]] == [True, False]


async def test_each_server_is_remembered_for_itself(server: NameServer) -> None:
    async with ScriptedServer(lambda asked: [reply(asked, rcode=1 if asked.edns else 5)]) as broken:
        resolver = make("dnspython", ("127.0.0.1", broken.port), ("127.0.0.1", server.port))

        assert await resolver.lookup("mx1.example.com", "A")
        assert await resolver.lookup("mx1.example.com", "AAAA")

    # Without EDNS there was no answer, either: that does not say what it takes.
    assert [query.edns for query in broken.asked] == [True, False, True, False]


@pytest.mark.slow
async def test_a_server_that_is_silent_to_edns_is_asked_without_after_three_questions() -> None:
    async with ScriptedServer(lambda asked: [] if asked.edns else [reply(asked, [RECORD])]) as server:
        resolver = make("dnspython", ("127.0.0.1", server.port), timeout=20.0, attempt_timeout=0.03)

        for number in range(5):
            assert await resolver.lookup(f"n{number}.example", "A")

    with_edns = {query.name for query in server.asked if query.edns}
    assert with_edns == {"n0.example", "n1.example", "n2.example"}


@pytest.mark.slow
async def test_lost_datagrams_do_not_make_a_server_one_without_edns() -> None:
    """Whenever a question with EDNS is answered, the count begins again."""
    seen: set[str] = set()

    def lossy(asked: Asked) -> list[bytes]:
        if asked.name[0] == "l" and asked.name not in seen:
            seen.add(asked.name)
            return []
        return [reply(asked, [RECORD])]

    async with ScriptedServer(lossy) as server:
        resolver = make("dnspython", ("127.0.0.1", server.port), timeout=20.0, attempt_timeout=0.03)

        for name in ("l1.example", "l2.example", "good.example", "l3.example", "l4.example", "better.example"):
            assert await resolver.lookup(name, "A")

    assert all(query.edns for query in server.asked if query.name in ("good.example", "better.example"))


async def test_an_answer_that_is_too_much_is_not_asked_for_again(server: NameServer) -> None:
    """Neither without EDNS nor of another server: each time costs as much."""

    def too_much(asked: Asked) -> list[bytes]:
        records = [RECORD.at("")] * 4000
        return [reply(asked, tc=True)] if asked.transport == "udp" else [framed(reply(asked, records))]

    async with ScriptedServer(too_much) as first:
        resolver = make("dnspython", ("127.0.0.1", first.port), ("127.0.0.1", server.port))

        with pytest.raises(ResolverFailure, match="an answer of more than"):
            await resolver.lookup("mx1.example.com", "A")

    assert len(first.asked) == 2
    assert server.queries == []


async def test_an_alias_alone_is_followed_in_the_octets_that_came() -> None:
    target = b"\4T.\r\xff\1y\0"

    def script(asked: Asked) -> list[bytes]:
        if asked.name == "a.example":
            return [reply(asked, [RR("a.example", "CNAME", target, 40)])]
        assert asked.question == target.lower() + b"\0\1\0\1"
        return [reply(asked, [RECORD])]

    async with ScriptedServer(script) as server:
        resolver = make("dnspython", ("127.0.0.1", server.port))

        answer = await resolver.lookup("a.example", "A")

    assert answer == Answer("a.example", "A", (ip_address("192.0.2.1"),), 40, canonical="T\\046\\013\\255.y")


async def test_a_burst_of_questions_is_spread_over_turns_of_the_loop(server: NameServer) -> None:
    resolver = make("dnspython", ("127.0.0.1", server.port))
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, resolver._begun)

    asking = [asyncio.create_task(resolver.lookup(f"n{number}.example.com", "A")) for number in range(100)]
    while not all(task.done() for task in asking):
        look()
        await asyncio.sleep(0)

    assert 0 < most <= 16
    assert len(server.queries) == 100


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
async def test_the_next_server_is_asked_when_one_is_silent(backend: str, server: NameServer) -> None:
    async with NameServer(manner=Manner.NOTHING) as silent:
        servers = (("127.0.0.1", silent.port), ("127.0.0.1", server.port))
        resolver = make(backend, *servers, timeout=PATIENCE, attempt_timeout=0.05)

        answer = await resolver.lookup("mx1.example.com", "A")
        await resolver.close()

    assert len(answer.addresses) == 2


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
async def test_waiting_for_a_turn_counts_against_the_deadline(backend: str, server: NameServer) -> None:
    server.manner = Manner.NOTHING
    resolver = make(backend, ("127.0.0.1", server.port), timeout=0.1, attempt_timeout=5.0, max_queries=1)

    results = await asyncio.gather(
        *(resolver.lookup(f"n{i}.example.com", "A") for i in range(10)), return_exceptions=True
    )
    await resolver.close()

    assert [type(result) for result in results] == [ResolverTimeout] * 10
    # All had the same deadline, and those that waited for their turn have asked nothing.
    assert len({name for name, _, _ in server.queries}) < 10


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("manner", [Manner.NOTHING, Manner.TRUNCATED])
async def test_a_cancelled_question_leaves_nothing_behind(backend: str, manner: Manner, server: NameServer) -> None:
    server.manner = manner
    server.silent[labels("silent.example.com"), "*"] = Silence.TIMEOUT
    resolver = make(backend, ("127.0.0.1", server.port))
    before = asyncio.all_tasks()
    asking = asyncio.create_task(resolver.lookup("silent.example.com", "A"))
    await server.asked(1 if manner is Manner.NOTHING else 2)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await resolver.close()

    gc.collect()
    assert asyncio.all_tasks() - before - server._connections == set()
    assert resolver._turn._value == 500


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_turn_is_given_back_however_a_question_ends(backend: str, server: NameServer) -> None:
    server.silent[labels("broken.example.com"), "*"] = Silence.SERVFAIL
    resolver = make(backend, ("127.0.0.1", server.port), max_queries=1)
    questions: list[tuple[str, RdType]] = [
        ("mx1.example.com", "A"),
        ("missing.example.com", "A"),
        ("broken.example.com", "A"),
    ]

    for name, rdtype in questions:
        await asyncio.gather(resolver.lookup(name, rdtype), return_exceptions=True)
    await resolver.close()

    assert resolver._turn._value == 1


async def test_a_new_channel_takes_over_without_losing_a_question(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiodns")
    import aiomilter.dns.aiodns as module

    monkeypatch.setattr(module, "_CHANNEL_QUESTIONS", 2)
    resolver = module.AiodnsResolver([("127.0.0.1", server.port)])

    answers = await asyncio.gather(*(resolver.lookup("mx1.example.com", "A") for _ in range(7)))
    await resolver.lookup("mx1.example.com", "A")

    assert all(len(answer.addresses) == 2 for answer in answers)
    assert len(resolver._users) == 1
    await resolver.close()


@pytest.mark.parametrize("ttl", [0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_negative_ttl_is_none(backend: str, ttl: int) -> None:
    async with ScriptedServer(lambda asked: [reply(asked, [RECORD._replace(ttl=ttl)])]) as server:
        resolver = make(backend, ("127.0.0.1", server.port))

        answer = await resolver.lookup("a.example", "A")
        await resolver.close()

    assert answer.ttl == 0


@pytest.mark.parametrize("backend", BACKENDS)
async def test_an_absence_is_kept_as_long_as_its_soa_says(backend: str) -> None:
    async with ScriptedServer(lambda asked: [reply(asked, [], [soa("example", 70, 900)], rcode=3)]) as server:
        resolver = make(backend, ("127.0.0.1", server.port))

        answer = await resolver.lookup("a.example", "A")
        await resolver.close()

    assert (answer.exists, answer.ttl) == (False, 70)


async def test_a_server_on_an_interface_that_is_not_there_is_passed_over(server: NameServer) -> None:
    for backend in BACKENDS:
        resolver = make(backend, ("fe80::1%nosuch", 53), ("127.0.0.1", server.port))
        assert await resolver.lookup("mx1.example.com", "A")
        await resolver.close()

        alone = make(backend, ("fe80::1%nosuch", 53))
        with pytest.raises(ResolverFailure, match="no usable answer"):
            await alone.lookup("mx1.example.com", "A")
        await alone.close()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("mx.Example.com", "mx.Example.com"),
        ("", ""),
        ("a\\.b.example", "a\\046b.example"),
        ('\\$\\(\\"\\;.x', '$(";.x'),
        ("\\000\\255\\065.x", "\\000\\255A.x"),
        ("a\\\\b.x", "a\\092b.x"),
        ("a b.x", "a\\032b.x"),
        ("a\\.", "a\\046"),
    ],
)
def test_a_name_as_c_ares_writes_it_becomes_ours(written: str, name: str) -> None:
    pytest.importorskip("aiodns")
    from aiomilter.dns.aiodns import _name

    assert _name(written) == name


@pytest.mark.parametrize("count", [500, 501, 4000])
async def test_what_c_ares_has_read_is_bounded_in_records(count: int) -> None:
    pytest.importorskip("aiodns")
    from aiomilter.dns.aiodns import _answer

    data = pycares_records("mx.example", "MX", [f"m{number}.x" for number in range(count)])

    if count == 500:
        answer = _answer("mx.example", "MX", data)
        assert answer is not None
        assert len(answer.exchanges) == count
    else:
        with pytest.raises(ResolverFailure, match="an answer of more than 500 records"):
            _answer("mx.example", "MX", data)


async def test_what_c_ares_has_read_is_bounded_in_odd_octets() -> None:
    pytest.importorskip("aiodns")
    from aiomilter.dns.aiodns import _answer

    data = pycares_records("mx.example", "MX", ["\\255" * 60 + f".x{number}" for number in range(60)])

    with pytest.raises(ResolverFailure, match="more than 3000 odd octets"):
        _answer("mx.example", "MX", data)


def pycares_records(owner: str, rdtype: str, exchanges: list[str]) -> Any:
    import pycares

    return [
        pycares.DNSRecord(owner, pycares.QUERY_TYPE_MX, pycares.QUERY_CLASS_IN, 60, pycares.MXRecordData(1, exchange))
        for exchange in exchanges
    ]
