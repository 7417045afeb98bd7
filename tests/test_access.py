"""Who may connect, and how many of them: on real sockets, on both event loops."""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from aiomilter import Milter, serve
from aiomilter._serving.access import Access, peer_name
from aiomilter._serving.admission import ConnectionLimits
from aiomilter.server import Server

from .patience import PATIENCE
from .peer import MESSAGE, OPENING, QUIT, QUIT_NC, Watcher, codes, filter_class, serving

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def apart_from_private(watcher: Watcher) -> list[str]:
    """What a watcher heard, except that a socket is in a directory of this user's own, as pytest makes them."""
    return [remark for remark in watcher.remarks if not remark.startswith("unix:")]


def on(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


def port_of(server: Server, at: int = 0) -> int:
    return int(server.addresses[at].rpartition(":")[2].partition("@")[0])


async def played(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, octets: bytes = OPENING + QUIT) -> str:
    """Say all at once, and return what was answered until the filter closes."""
    try:
        writer.write(octets)
        answered = await reader.read()
        writer.close()
        return codes(answered)
    except ConnectionError:
        return ""


# Networks


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("networks", "answered"),
    [(("127.0.0.0/8",), "Occ"), (("192.0.2.0/24", "127.0.0.1"), "Occ"), (("192.0.2.0/24", "::1"), "")],
)
def test_only_allowed_networks_may_connect(loop: str, networks: tuple[str, ...], answered: str) -> None:
    watcher = Watcher()

    async def main() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", allowed_networks=networks, observer=watcher) as server:
            for _ in range(3):
                assert await played(*await asyncio.open_connection("127.0.0.1", port_of(server))) == answered
            assert not server._connections

    on(loop, main)
    said = ["a connection was closed: 127.0.0.1 is not in allowed_networks (--allow-network)"]
    assert watcher.remarks == ([] if answered else said * 3)


def test_ipv4_on_a_socket_for_both_is_ipv4() -> None:
    access = Access(("127.0.0.0/8",), None, None)
    with socket.socket(socket.AF_INET6) as listening, socket.socket() as client:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(("::", 0))
        listening.listen()
        client.connect(("127.0.0.1", listening.getsockname()[1]))
        accepted, name = listening.accept()
        with accepted:
            assert name[0] == "::ffff:127.0.0.1"
            assert access.refusal(accepted) is None
            assert peer_name(accepted) == "127.0.0.1"


def test_who_has_left_already_is_nobody() -> None:
    with socket.socket() as never_connected:
        assert (
            Access(("0.0.0.0/0",), None, None).refusal(never_connected)
            == "None is not in allowed_networks (--allow-network)"
        )
        assert peer_name(never_connected) == ""


def test_a_unix_socket_knows_no_network() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert Access(("192.0.2.1",), None, None).refusal(one) is None


@pytest.mark.parametrize(
    ("network", "allowed"),
    [
        ("::ffff:127.0.0.0/104", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:0:0/96", True),
        ("::ffff:192.0.2.0/120", False),
        ("::fffe:0:0/95", False),
        ("::/0", False),
    ],
)
def test_networks_of_ipv4_written_as_ipv6_are_ipv4(network: str, allowed: bool) -> None:
    access = Access((network,), None, None)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert (access.refusal(accepted) is None) == allowed


# Users and groups

_HIGHEST: Final = 2**32 - 2
"""Of users and groups; the one above means none."""


def children_connect(path: str, uid: int, gid: int, others: Sequence[int]) -> str:
    """Have another user, with other groups beside its own, play a session to a socket."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "try:\n s.sendall(bytes.fromhex(sys.argv[2]))\n while part := s.recv(4096): sys.stdout.write(part.hex())\n"
        "except OSError: pass"
    )
    child = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code, path, (OPENING + QUIT).hex()],
        user=uid,
        group=gid,
        extra_groups=others,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return codes(bytes.fromhex(child.stdout))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("options", "others", "answered"),
    [
        ({"allowed_users": ("nobody", 4711)}, (), "Occ"),
        ({"allowed_users": (4711,)}, (), ""),
        ({"allowed_groups": (4712, "daemon")}, (), "Occ"),
        ({"allowed_groups": (4711,)}, (), ""),
        ({"allowed_groups": (4711,)}, (4713, 4711), "Occ"),
        ({"allowed_groups": (4711,)}, (4713,), ""),
        ({"allowed_groups": (4711,)}, range(4711, 4711 + 256), "Occ"),
        ({"allowed_groups": (4711,)}, range(4711, 4711 + 257), ""),  # more than can be asked for
        ({"allowed_users": (4711,)}, (4711,), ""),
        ({"allowed_users": (4711,), "allowed_groups": ("daemon",)}, (), "Occ"),
    ],
    ids=str,
)
def test_only_allowed_users_and_groups_may_connect(
    loop: str, options: dict[str, Any], others: Sequence[int], answered: str
) -> None:
    import grp
    import pwd
    import tempfile

    watcher = Watcher()
    uid, gid = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:  # pytest's own is for nobody else
            os.chmod(directory, 0o755)
            path = str(Path(directory) / "filter.sock")
            async with serve(filter_class(), path, socket_mode=0o666, observer=watcher, **options):
                child = asyncio.to_thread(children_connect, path, uid, gid, others)
                assert await child == answered

    on(loop, main)
    not_in = "is not in allowed_users (--allow-user) or allowed_groups (--allow-group)"
    said = f"a connection was closed: user {uid} with group {gid} {not_in}"
    assert watcher.remarks == ([] if answered else [said])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("option", ["allowed_users", "allowed_groups"])
@pytest.mark.parametrize("extra", [True, False])
async def test_the_highest_numbers_are_numbers_too(option: str, extra: bool) -> None:
    import tempfile

    options: dict[str, Any] = {option: (_HIGHEST,)}
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = str(Path(directory) / "filter.sock")
        async with serve(filter_class(), path, socket_mode=0o666, observer=Watcher(), **options):
            gid = 4711 if extra else _HIGHEST
            child = asyncio.to_thread(children_connect, path, _HIGHEST, gid, [_HIGHEST] if extra else [])
            assert await child == "Occ"


async def test_users_do_not_matter_to_tcp() -> None:
    async with serve(filter_class(), "inet:0@127.0.0.1", allowed_users=(4711,), observer=Watcher()) as server:
        assert await played(*await asyncio.open_connection("127.0.0.1", port_of(server))) == "Occ"


# What is no such option


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"allowed_networks": "10.0.0.0/8"}, TypeError, "allowed_networks: expected a sequence"),
        ({"allowed_networks": ()}, ValueError, "allowed_networks: expected at least one"),
        ({"allowed_networks": (10,)}, TypeError, "allowed_networks: expected texts"),
        (
            {"allowed_networks": ("10.0.0.1/8",)},
            ValueError,
            "allowed_networks: 10.0.0.1/8 has host bits set; write 10.0.0.0/8 for the network, 10.0.0.1 for the address",
        ),
        ({"allowed_networks": ("mx.example",)}, ValueError, "allowed_networks: 'mx.example' does not appear"),
        ({"allowed_users": "postfix"}, TypeError, "allowed_users: expected a sequence"),
        ({"allowed_users": ("no such user",)}, ValueError, "allowed_users: this machine does not know 'no such user'"),
        ({"allowed_groups": ("no such group",)}, ValueError, "allowed_groups: this machine does not know"),
        ({"allowed_groups": (True,)}, TypeError, "allowed_groups: expected names or numbers"),
        ({"allowed_users": (_HIGHEST + 1,)}, ValueError, f"allowed_users: expected 0 to {_HIGHEST}, found 4294967295"),
        ({"allowed_groups": (-1,)}, ValueError, f"allowed_groups: expected 0 to {_HIGHEST}, found -1"),
        ({"socket_owner": _HIGHEST + 1}, ValueError, f"socket_owner: expected 0 to {_HIGHEST}, found 4294967295"),
        ({"socket_group": -1}, ValueError, f"socket_group: expected 0 to {_HIGHEST}, found -1"),
        ({"allowed_groups": []}, ValueError, "allowed_groups: expected at least one"),
        ({"ssl": True}, TypeError, "ssl: expected an ssl.SSLContext"),
        ({"ssl": ssl.create_default_context()}, ValueError, "ssl: expected a context of a server"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0][:40],
)
def test_what_is_no_such_option_is_refused_when_the_server_is_made(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        serve(Milter, "inet:0@127.0.0.1", **options)


# TLS


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for the server, and one for a client."""
    where = tmp_path_factory.mktemp("tls")
    for name in ("server", "client"):
        command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
        files = ["-keyout", str(where / f"{name}.key"), "-out", str(where / f"{name}.pem")]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return where


def of_server(certificates: Path, *, ask: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "client.pem")
    return context


def of_client(certificates: Path, *, known: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates / "server.pem"))
    context.check_hostname = False
    if known:
        context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    return context


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("ask", "known"), [(False, False), (True, True), (True, False)])
def test_tls(loop: str, ask: bool, known: bool, certificates: Path) -> None:
    watcher = Watcher()

    async def main() -> None:
        context = of_server(certificates, ask=ask)
        async with serve(filter_class(), "inet:0@127.0.0.1", ssl=context, observer=watcher) as server:
            for _ in range(2):
                try:
                    client = of_client(certificates, known=known)
                    streams = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=client)
                    answered = await played(*streams, OPENING + MESSAGE + QUIT)
                except (ssl.SSLError, ConnectionError):
                    answered = ""
                assert answered == ("Occccccccc" if known or not ask else "")
            while server._connections:
                await asyncio.sleep(0)

    on(loop, main)
    assert not watcher.failures
    assert len(watcher.remarks) == 2 * (ask and not known)
    assert all(said.startswith("a new connection is lost: TLS failed: ") for said in watcher.remarks)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("said", [b"", OPENING, OPENING + QUIT, OPENING + QUIT_NC, OPENING + QUIT[:2]])
def test_a_peer_may_close_tls_at_any_time(loop: str, said: bytes, certificates: Path) -> None:
    watcher = Watcher()

    async def main() -> None:
        context = of_server(certificates, ask=False)
        async with serve(filter_class(), "inet:0@127.0.0.1", ssl=context, observer=watcher) as server:
            client = of_client(certificates, known=False)
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=client)
            writer.write(said)
            if said:
                await reader.readexactly(17)
            writer.close()
            with contextlib.suppress(ssl.SSLError, ConnectionError):  # what else was answered comes after its end
                await writer.wait_closed()
            while server._connections:
                await asyncio.sleep(0)

    on(loop, main)
    assert (watcher.failures, watcher.remarks) == ([], [])


@pytest.mark.parametrize("loop", LOOPS)
def test_a_unix_socket_speaks_no_tls(loop: str, certificates: Path, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "x.sock")
        async with serve(filter_class(), path, ssl=of_server(certificates, ask=False), observer=Watcher()):
            assert await played(*await asyncio.open_unix_connection(path)) == "Occ"

    on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_speaks_no_tls_is_gone_and_leaves_nothing(loop: str, certificates: Path) -> None:
    watcher = Watcher()

    async def main() -> None:
        context = of_server(certificates, ask=False)
        async with serve(filter_class(), "inet:0@127.0.0.1", ssl=context, observer=watcher) as server:
            assert "O" not in await played_raw(port_of(server))
            while server._connections or server._transports.pending:
                await asyncio.sleep(0)

    on(loop, main)
    assert len(watcher.remarks) == 1
    assert not watcher.failures


async def played_raw(port: int) -> str:
    """Speak plainly, and return what comes back as it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(OPENING)
    try:
        answered = await reader.read()
    except ConnectionError:
        answered = b""
    writer.close()
    return answered.decode("latin-1")


@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_begin_tls_keeps_no_server_from_closing(
    loop: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiomilter._serving.transports._TLS_BEGINS", 2 * PATIENCE)
    watcher = Watcher()

    async def main() -> None:
        context = of_server(certificates, ask=False)
        server = serve(filter_class(), "inet:0@127.0.0.1", ssl=context, observer=watcher)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        while not server._transports.pending:
            await asyncio.sleep(0)
        await server.close()
        assert not server._connections
        writer.close()
        del reader

    on(loop, main)
    assert not watcher.failures


# What is said at start


@pytest.mark.parametrize(
    ("socket_text", "options", "said"),
    [
        ("inet:0", {}, True),
        ("inet:0@127.0.0.1", {}, False),
        ("inet:0", {"allowed_networks": ("10.0.0.0/8",)}, False),
        ("inet:0", {"ssl": False}, True),
        ("inet:0", {"ssl": True}, False),
        ("unix", {}, False),
    ],
)
async def test_a_listener_that_anybody_may_use_says_so(
    socket_text: str, options: dict[str, Any], said: bool, certificates: Path, tmp_path: Path
) -> None:
    watcher = Watcher()
    if "ssl" in options:
        options = {"ssl": of_server(certificates, ask=options["ssl"])}
    text = str(tmp_path / "x.sock") if socket_text == "unix" else socket_text
    async with serve(Milter, text, observer=watcher, **options) as server:
        what = "reachable from other hosts without access control; set allowed_networks (--allow-network), or ssl with "
        label = f"inet:{server.addresses[0].partition('@')[0].partition(':')[2]}"
        assert apart_from_private(watcher) == (
            [f"{label}: {what}client certificates (--tls-client-ca)"] if said else []
        )


@pytest.mark.parametrize(
    ("socket_texts", "options", "said"),
    [
        (
            ("tcp",),
            {"allowed_users": (4711,)},
            ["allowed_users (--allow-user) has no effect: there is no UNIX-domain socket"],
        ),
        (
            ("tcp",),
            {"allowed_groups": (4711,)},
            ["allowed_groups (--allow-group) has no effect: there is no UNIX-domain socket"],
        ),
        (
            ("unix",),
            {"allowed_networks": ("192.0.2.1",)},
            ["allowed_networks (--allow-network) has no effect: there is no TCP socket"],
        ),
        (("unix",), {"ssl": True}, ["ssl (--tls-certificate) has no effect: there is no TCP socket"]),
        (("tcp", "unix"), {"allowed_networks": ("192.0.2.1",), "allowed_users": (4711,), "ssl": True}, []),
    ],
)
async def test_an_option_that_has_no_effect_is_said(
    socket_texts: tuple[str, ...], options: dict[str, Any], said: list[str], certificates: Path, tmp_path: Path
) -> None:
    watcher = Watcher()
    if "ssl" in options:
        options |= {"ssl": of_server(certificates, ask=True)}
    texts = [{"unix": str(tmp_path / "x.sock"), "tcp": "inet:0@127.0.0.1"}[text] for text in socket_texts]
    async with serve(Milter, *texts, observer=watcher, **options):
        assert apart_from_private(watcher) == said


# How many


def test_a_crowd_counts_all_and_each() -> None:
    said: list[tuple[str, str]] = []
    limits = ConnectionLimits(3, 2, 2, lambda limit, number, what: said.append((limit, what)))
    assert [limits.enter(number, "a") for number in (1, 2, 3)] == [True, True, False]
    assert said == [
        (
            "connections_per_peer",
            "2 connections of a are open; answering TEMPFAIL to more of it (--max-connections-per-peer)",
        )
    ]
    assert limits.enter(4, "b")
    assert (limits.full, limits.enter(5, "")) == (False, False)
    full: list[bool] = [limits.full]
    assert said[1:] == [
        ("connections", "3 connections are open; answering TEMPFAIL to more (--max-connections)"),
        (
            "refused_connections",
            "2 connections above the limit are open; accepting no more until one has ended (--max-refused-connections)",
        ),
    ]
    limits.leave(3)
    assert [*full, limits.full] == [True, False]
    limits.leave(1)
    assert limits.enter(6, "a")
    for number in (2, 4, 5, 6):
        limits.leave(number)
    assert (limits._served, limits._refused, limits._peers, limits._of_peer) == (0, set(), {}, {})


def test_who_was_refused_keeps_nobody_out_when_there_is_room() -> None:
    limits = ConnectionLimits(1, None, 1, lambda limit, number, what: None)
    assert [limits.enter(number, "") for number in (1, 2)] == [True, False]
    full = [limits.full]
    limits.leave(1)
    assert [*full, limits.full] == [True, False]
    assert limits.enter(3, "")
    assert limits.full


def test_one_peer_does_not_take_the_room_for_refusals_from_the_others() -> None:
    said: list[tuple[str, str]] = []
    limits = ConnectionLimits(5, 1, 1, lambda limit, number, what: said.append((limit, what)))
    assert [limits.rejects("a"), limits.enter(1, "a"), limits.rejects("a"), limits.enter(2, "a")] == [
        False,
        True,
        False,
        False,
    ]
    assert [limits.rejects(peer) for peer in ("a", "b", "")] == [True, False, False]
    assert said[-1] == (
        "refused_connections_per_peer",
        "closing connections of a: 1 are refused already (--max-refused-connections)",
    )
    assert limits.enter(3, "b")
    limits.leave(2)
    assert not limits.rejects("a")


def test_nobody_in_particular_has_no_limit_of_its_own() -> None:
    limits = ConnectionLimits(5, 1, 1, lambda limit, number, what: None)
    assert all(limits.enter(number, "") for number in range(5))


@pytest.mark.parametrize("loop", LOOPS)
def test_one_mta_does_not_take_the_connections_of_the_others(loop: str) -> None:
    watcher = Watcher()

    async def main() -> None:
        options: dict[str, Any] = {"max_connections_per_peer": 1, "observer": watcher}
        async with serve(filter_class(), "inet:0@127.0.0.1", **options) as server:
            address = ("127.0.0.1", port_of(server))
            first = await asyncio.open_connection(*address)
            while not server._connections:
                await asyncio.sleep(0)
            assert await played(*await asyncio.open_connection(*address)) == "Otc"
            other = await asyncio.open_connection(*address, local_addr=("127.0.0.2", 0))
            assert await played(*other) == "Occ"
            assert await played(*first) == "Occ"
            while server._connections:
                await asyncio.sleep(0)
            assert await played(*await asyncio.open_connection(*address)) == "Occ"

    on(loop, main)
    assert watcher.remarks == [
        "1 connections of 127.0.0.1 are open; answering TEMPFAIL to more of it (--max-connections-per-peer)"
    ]


async def test_an_mta_that_has_its_share_and_its_refusals_is_closed_at_once() -> None:
    watcher = Watcher()
    options: dict[str, Any] = {"max_connections_per_peer": 1, "max_refused_connections": 1, "observer": watcher}
    async with serve(filter_class(), "inet:0@127.0.0.1", **options) as server:
        address = ("127.0.0.1", port_of(server))
        waiting = [await asyncio.open_connection(*address) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            while len(server._connections) < 2:
                await asyncio.sleep(0)
            assert await played(*await asyncio.open_connection(*address)) == ""
            assert await played(*await asyncio.open_connection(*address, local_addr=("127.0.0.2", 0))) == "Occ"
            assert [await played(*each) for each in waiting] == ["Occ", "Otc"]
    assert watcher.remarks[-1] == "closing connections of 127.0.0.1: 1 are refused already (--max-refused-connections)"


@pytest.mark.parametrize("loop", LOOPS)
def test_users_of_a_unix_socket_are_counted(loop: str, tmp_path: Path) -> None:
    watcher = Watcher()

    async def main() -> None:
        path = str(tmp_path / "x.sock")
        async with serve(filter_class(), path, max_connections_per_peer=1, observer=watcher) as server:
            _, writer = await asyncio.open_unix_connection(path)
            while not server._connections:
                await asyncio.sleep(0)
            assert await played(*await asyncio.open_unix_connection(path)) == "Otc"
            writer.close()

    on(loop, main)
    assert apart_from_private(watcher) == [
        f"1 connections of user {os.geteuid()} are open; answering TEMPFAIL to more of it (--max-connections-per-peer)"
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_above_all_limits_connections_wait_in_the_socket(loop: str) -> None:
    watcher = Watcher()

    async def main() -> None:
        options: dict[str, Any] = {"max_connections": 1, "max_refused_connections": 2, "observer": watcher}
        async with serve(filter_class(), "inet:0@127.0.0.1", **options) as server:
            streams = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(5)]
            while len(server._connections) < 3:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(server._connections) == 3
            # Each that ends lets another in; the filter serves one at a time.
            answered = [await played(*each) for each in streams]
            assert answered == ["Occ", "Ot", "Ot", "Occ", "Occ"] or sorted(answered)[-1] == "Otc"
            assert all(answered)

    on(loop, main)
    first = "1 connections are open; answering TEMPFAIL to more (--max-connections)"
    assert watcher.remarks[:2] == [first, first]
    full = "2 connections above the limit are open; accepting no more until one has ended (--max-refused-connections)"
    assert watcher.remarks[2] == full
    assert set(watcher.remarks) == {first, full}


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_where_descriptors_run_out_nobody_spins_on_any_loop(loop: str) -> None:
    watcher = Watcher()

    async def main() -> None:
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=watcher) as server:
            (listener,) = server._listeners
            with socket.socket() as client:
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                spare = os.dup(client.fileno())
                os.close(spare)
                resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
                try:
                    client.connect(("127.0.0.1", port_of(server)))
                    while not watcher.remarks:
                        await asyncio.sleep(0)
                    # It is left alone, not tried at every turn of the loop.
                    rests = set()
                    for _ in range(100):
                        await asyncio.sleep(0)
                        rests.add(listener._rest)
                    assert len(rests) == 1
                    assert None not in rests
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                while not server._connections:
                    await asyncio.sleep(0)

    on(loop, main)
    assert watcher.remarks == ["cannot accept connections: Too many open files; trying again every second"]


async def test_refused_connections_are_no_reason_to_refuse() -> None:
    """Who is refused takes no place of one who would be served."""
    async with serving(filter_class(), max_connections=1, max_refused_connections=5) as scene:
        first = await scene.opened()
        refused = await scene.opened()
        assert "t" in refused.answers
        await first.send(QUIT)
        assert (await scene.opened()).answers == "Occ"


@pytest.mark.parametrize("loop", LOOPS)
def test_who_finishes_tls_after_its_time_leaves_nothing_to_the_loop(loop: str, certificates: Path) -> None:
    watcher, told = Watcher(), []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        options: dict[str, Any] = {"ssl": of_server(certificates, ask=False), "packet_timeout": 0.05}
        async with serve(filter_class(), "inet:0@127.0.0.1", observer=watcher, **options) as server:
            with socket.create_connection(("127.0.0.1", port_of(server))) as plain:
                plain.setblocking(False)
                async with asyncio.timeout(PATIENCE):
                    while not watcher.remarks:
                        await asyncio.sleep(0.01)
                try:
                    streams = await asyncio.open_connection(
                        sock=plain, ssl=of_client(certificates, known=False), server_hostname="server"
                    )
                    await streams[0].read()
                    streams[1].close()
                except OSError:
                    pass

    on(loop, main)
    assert not told
