"""serve(): sockets, the life of a factory, draining, reloading and closing."""

import asyncio
import errno
import os
import pwd
import resource
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import pytest

from aiomilter import REJECT, TEMPFAIL, AddressError, Milter, RemoteProtocolError, serve
from aiomilter import mta as aiomilter_mta
from aiomilter._serving.binding import Bound
from aiomilter._serving.listener import Listener
from aiomilter.mta import connect

from .clock import on_clock
from .patience import PATIENCE
from .peer import (
    CALLBACKS,
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    Gate,
    Scripted,
    Watcher,
    filter_class,
    names,
    offer,
    serving,
)

WHOLE: Final = b"From: a@x\r\nSubject: s\r\n\r\nbody\r\n"


async def deliver(address: str) -> aiomilter_mta.MessageResult:
    """Play a whole SMTP session to a filter that listens."""
    async with connect(address) as session:
        await session.connect()
        await session.helo()
        await session.mail("<a@x>")
        await session.rcpt("<b@x>")
        return await session.message(WHOLE)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# Sockets


@pytest.mark.parametrize(
    "text", ["inet:0@127.0.0.1", "inet:127.0.0.1:0", "inet:0@localhost", "inet:0", "unix", "local", "path"]
)
async def test_a_filter_is_reached_where_the_server_says(text: str, tmp_path: Path) -> None:
    """P-131."""
    path = tmp_path / "filter.sock"
    text = {"unix": f"unix:{path}", "local": f"local:{path}", "path": str(path)}.get(text, text)
    filter_ = filter_class()
    async with serve(filter_, text, observer=Watcher()) as server:
        (address,) = server.addresses
        assert (await deliver(address)).delivered is not None
    assert names(filter_)[-1] == "close"
    assert not path.exists()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("text", ["inet6:0@::1", "inet6:0@[::1]", "inet:[::1]:0", "inet6:0"])
async def test_ipv6(text: str) -> None:
    """P-131."""
    async with serve(filter_class(), text, observer=Watcher()) as server:
        assert (await deliver(server.addresses[0])).delivered is not None
        assert server.addresses[0].startswith("inet6:")


async def test_several_listeners_are_one_server(tmp_path: Path) -> None:
    filter_ = filter_class()
    watcher = Watcher()
    paths = [str(tmp_path / name) for name in ("a.sock", "b.sock")]
    async with serve(filter_, "inet:0@127.0.0.1", *paths, "inet:0@127.0.0.1", observer=watcher) as server:
        assert len(set(server.addresses)) == 4
        for address in server.addresses:
            await deliver(address)
        started = [value[0] for what, value in watcher.heard if what == "started"]
        assert started == list(server.addresses)
    assert [value for what, value in watcher.heard if what == "stopped"] == started
    assert len(filter_.made) == 5


async def test_all_addresses_are_said_to_be_so() -> None:
    watcher = Watcher()
    async with serve(Milter, "inet:0", observer=watcher) as server:
        connected_to, at, host = server.addresses[0].partition("@")
        assert watcher.heard[0] == ("started", (connected_to, True))
        assert (at, host) == ("@", "127.0.0.1")


async def test_two_servers_in_one_loop_know_nothing_of_each_other() -> None:
    one, two = filter_class({"envfrom": REJECT}), filter_class()
    async with serve(one, "inet:0@127.0.0.1", observer=Watcher()) as first:
        async with serve(two, "inet:0@127.0.0.1", observer=Watcher()) as second:
            assert (await deliver(second.addresses[0])).answer is not REJECT
            async with connect(first.addresses[0]) as session:
                assert await session.mail("<a@x>") is REJECT
        assert (await connected(first.addresses[0])) is True
    assert len(one.made) == 3
    assert len(two.made) == 2


async def connected(address: str) -> bool:
    try:
        async with connect(address, timeout=PATIENCE):
            return True
    except (OSError, RemoteProtocolError):
        return False


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_an_inherited_socket(family: socket.AddressFamily, tmp_path: Path) -> None:
    """P-131, P-132: the path of an inherited socket is somebody else's."""
    listening = socket.socket(family)
    path = tmp_path / "inherited.sock"
    listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(path))
    async with serve(filter_class(), f"fd:{listening.detach()}", observer=Watcher()) as server:
        assert (await deliver(server.addresses[0])).delivered is not None
    assert path.exists() == (family == socket.AF_UNIX)


async def test_descriptors_that_are_no_listeners(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, (tmp_path / "file").open("w") as file:
        for fd in (os.dup(datagrams.fileno()), file.fileno(), 999_999):
            with pytest.raises(OSError, match=f"cannot listen on fd:{fd}"):
                await serve(Milter, f"fd:{fd}").start()


@pytest.mark.parametrize("text", ["inet:x@y@z", "relative", "", "tcp:1@x"])
def test_a_text_that_names_no_socket(text: str) -> None:
    with pytest.raises(AddressError):
        serve(Milter, text)


@pytest.mark.parametrize("texts", [("unix:/x", "/x"), ("fd:3", "fd:3"), ("inet:25@h", "inet:26@h", "inet:h:25")])
def test_the_same_socket_twice(texts: tuple[str, ...]) -> None:
    with pytest.raises(AddressError, match=f"{texts[-1]!r}: expected each socket once"):
        serve(Milter, *texts)


async def test_ports_that_the_system_chooses_are_several() -> None:
    async with serve(Milter, "inet:0@127.0.0.1", "inet:0@127.0.0.1", observer=Watcher()) as server:
        assert len(set(server.addresses)) == 2


def test_no_socket() -> None:
    with pytest.raises(ValueError, match="at least one socket"):
        serve(Milter)


async def test_a_port_that_is_taken_is_an_error_and_frees_what_was_bound(tmp_path: Path) -> None:
    """One line that names the socket; the sockets before it are gone, and the factory was left."""
    ended: list[str] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        yield Milter
        ended.append("ended")

    path = tmp_path / "first.sock"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on inet:{port}@127.0.0.1") as found:
            async with serve(factory, str(path), f"inet:{port}@127.0.0.1", observer=Watcher()):
                pytest.fail("listens")
        assert found.value.errno == errno.EADDRINUSE
    assert not path.exists()
    assert ended == ["ended"]


@pytest.mark.parametrize(
    "text", ["inet:0@no-such-host.invalid", "inet:0@192.0.2.1", "inet6:0@127.0.0.1", "/nowhere/at/all.sock"]
)
async def test_where_nobody_can_listen(text: str) -> None:
    with pytest.raises(OSError, match="cannot listen on") as found:
        await serve(Milter, text, observer=Watcher()).start()
    assert "\n" not in str(found.value)


@pytest.mark.slow
async def test_where_descriptors_run_out_connections_wait_and_it_is_said_once() -> None:
    watcher = Watcher()
    async with serve(filter_class(), "inet:0@127.0.0.1", observer=watcher) as server:
        port = int(server.addresses[0].removeprefix("inet:").partition("@")[0])
        with socket.socket() as client:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            spare = os.dup(client.fileno())
            os.close(spare)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
            try:
                client.connect(("127.0.0.1", port))
                async with asyncio.timeout(PATIENCE):
                    while not watcher.remarks:
                        await asyncio.sleep(0)
                (listener,) = server._listeners
                listener._accept()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            async with asyncio.timeout(PATIENCE):
                while not server._connections:
                    await asyncio.sleep(0)
    assert set(watcher.remarks) == {"cannot accept connections: Too many open files; trying again every second"}


class Door:
    """A listening socket that gives errors."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)
        self.socket = self

    def fileno(self) -> int:
        return 0

    def accept(self) -> Any:
        raise self.errors.pop(0)


async def test_it_is_said_again_that_descriptors_run_out_after_a_time_when_there_were_some() -> None:
    """Even if nobody came meanwhile; how often it reaches the log is the observer's to say."""
    full, nobody = OSError(errno.EMFILE, "Too many open files"), BlockingIOError()
    door = Door(full, full, nobody, full)
    said: list[OSError] = []
    listener = Listener(cast(Bound, door), lambda sock, name: None, said.append)
    while door.errors:
        listener._accept_one()
        if listener._rest is not None:
            listener._rest.cancel()
    assert said == [full, full, full]


# UNIX-domain sockets


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_the_mode_of_a_socket(mode: int, tmp_path: Path) -> None:
    """P-133."""
    path = tmp_path / "filter.sock"
    before = os.umask(0o022)
    try:
        async with serve(Milter, str(path), socket_mode=mode, observer=Watcher()):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


async def test_the_mode_is_left_to_the_umask(tmp_path: Path) -> None:
    """P-133."""
    path = tmp_path / "filter.sock"
    before = os.umask(0o027)
    try:
        async with serve(Milter, str(path), observer=Watcher()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o750
    finally:
        os.umask(before)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a file away")
@pytest.mark.parametrize("by_name", [True, False])
async def test_owner_and_group_of_a_socket(by_name: bool, tmp_path: Path) -> None:
    """P-133."""
    import grp

    user, group = pwd.getpwall()[1], grp.getgrall()[1]
    path = tmp_path / "filter.sock"
    owner: str | int = user.pw_name if by_name else user.pw_uid
    wanted: str | int = group.gr_name if by_name else group.gr_gid
    async with serve(Milter, str(path), socket_owner=owner, socket_group=wanted, observer=Watcher()):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (user.pw_uid, group.gr_gid)


def test_an_owner_that_is_none() -> None:
    for option in ("socket_owner", "socket_group"):
        options: Any = {option: "no such name"}
        with pytest.raises(ValueError, match="no such name"):
            serve(Milter, "/tmp/x.sock", **options)


async def test_a_socket_that_cannot_be_given_away_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-132."""

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "filter.sock"
    with pytest.raises(OSError, match="cannot listen on unix:"):
        await serve(Milter, str(path), socket_owner=0, observer=Watcher()).start()
    assert not path.exists()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """P-132."""
    path = tmp_path / "filter.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
    assert path.is_socket()
    async with serve(filter_class(), str(path), observer=Watcher()) as server:
        assert (await deliver(server.addresses[0])).delivered is not None
    assert not path.exists()


async def test_a_served_socket_is_not_touched(tmp_path: Path) -> None:
    """P-132."""
    path = tmp_path / "filter.sock"
    async with serve(filter_class(), str(path), observer=Watcher()) as server:
        inode = path.stat().st_ino
        with pytest.raises(OSError, match="cannot listen on unix:") as found:
            await serve(Milter, str(path), observer=Watcher()).start()
        assert found.value.errno == errno.EADDRINUSE
        assert path.stat().st_ino == inode
        assert (await deliver(server.addresses[0])).delivered is not None


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "fifo", "datagram socket"])
async def test_what_is_no_listener_is_not_touched(kind: str, tmp_path: Path) -> None:
    """P-132."""
    path, other = tmp_path / "filter.sock", tmp_path / "other"
    datagrams = None
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(other))
        path.symlink_to(other)
    elif kind == "dangling link":
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind(str(path))
    before = path.lstat()
    with pytest.raises(OSError, match="cannot listen on unix:"):
        await serve(Milter, str(path), observer=Watcher()).start()
    assert path.lstat().st_ino == before.st_ino
    if kind == "file":
        assert path.read_text() == "precious"
    if datagrams is not None:
        datagrams.close()


async def test_a_path_that_somebody_else_took_is_not_removed(tmp_path: Path) -> None:
    """P-132."""
    path = tmp_path / "filter.sock"
    async with serve(Milter, str(path), observer=Watcher()):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


async def test_a_path_that_is_gone_is_no_matter(tmp_path: Path) -> None:
    """P-132."""
    path = tmp_path / "filter.sock"
    async with serve(Milter, str(path), observer=Watcher()):
        path.unlink()
    assert not path.exists()


async def test_a_path_that_somebody_took_before_anybody_listened_is_an_error(tmp_path: Path) -> None:
    """P-132: a socket that does not listen yet looks like a stale one."""
    path = tmp_path / "filter.sock"
    with pytest.raises(OSError, match=r"cannot listen on unix:\S+: its file was removed or replaced"):
        await serve(Milter, f"unix:{path}", f"unix:{tmp_path}/./filter.sock", observer=Watcher()).start()
    assert not path.exists()


# Factories


class Pool:
    """A factory with a life, and what it saw."""

    def __init__(self, make: Callable[[], Milter]) -> None:
        self.make = make
        self.log: list[Any] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Callable[[], Milter]]:
        self.log.append(("enter", asyncio.current_task()))
        try:
            yield self.make
        finally:
            await asyncio.sleep(0)
            self.log.append(("leave", asyncio.current_task()))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.log]


async def test_a_factory_is_entered_once_and_left_by_the_same_task() -> None:
    pool = Pool(filter_class())
    async with serving(pool) as scene:
        for _ in range(3):
            await scene.opened(OPENING + QUIT)
        assert pool.names == ["enter"]
        assert pool.log[0][1] is not asyncio.current_task()
    assert pool.names == ["enter", "leave"]
    assert pool.log[0][1] is pool.log[1][1]


async def test_a_factory_is_left_after_its_last_connection() -> None:
    filter_ = filter_class()
    order: list[str] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[Callable[[], Milter]]:
        yield filter_
        order.extend(names(filter_))

    async with serving(factory) as scene:
        await scene.opened()
    assert order == ["connect", "helo", "close"]


FACTORIES: Final[list[Any]] = [
    pytest.param(Milter(), "pass Milter itself", id="an instance"),
    pytest.param(5, "expected a callable, found int", id="a number"),
    pytest.param(lambda: 5, "expected it to make a Milter, found int", id="makes a number"),
    pytest.param(lambda: Milter, "call it, or pass the class itself", id="makes a class"),
    pytest.param(lambda: None, "found NoneType", id="makes nothing"),
    pytest.param(dict, "found dict", id="makes a dict"),
]


async def an_async_def() -> Milter:
    return Milter()


async def an_async_generator() -> AsyncIterator[type[Milter]]:
    yield Milter


@asynccontextmanager
async def yields_a_filter() -> AsyncIterator[Milter]:
    yield Milter()


@asynccontextmanager
async def yields_what_makes_none() -> AsyncIterator[Callable[[], int]]:
    yield lambda: 5


@asynccontextmanager
async def swallows_its_failure() -> AsyncIterator[Any]:
    with suppress(TypeError):
        yield lambda: 5


MORE_FACTORIES: Final[list[Any]] = [
    pytest.param(an_async_def, "@asynccontextmanager", id="async def"),
    pytest.param(an_async_generator, "is @asynccontextmanager missing", id="async generator"),
    pytest.param(yields_a_filter, "to yield a callable, found Milter", id="yields a filter"),
    pytest.param(yields_what_makes_none, "to make a Milter, found int", id="yields what makes none"),
    pytest.param(swallows_its_failure, "found it ended", id="swallows its failure"),
]


@pytest.mark.parametrize(("factory", "said"), [*FACTORIES, *MORE_FACTORIES])
async def test_what_is_no_factory_fails_the_start_with_one_line(factory: Any, said: str) -> None:
    with pytest.raises((TypeError, RuntimeError), match="factory: ") as found:
        await serve(factory, "inet:0@127.0.0.1", observer=Watcher()).start()
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("error", [ValueError("no model"), OSError("no file")])
async def test_what_cannot_be_built_fails_the_start(error: Exception) -> None:
    def factory() -> Milter:
        raise error

    @asynccontextmanager
    async def entered() -> AsyncIterator[Callable[[], Milter]]:
        if error.args:
            raise error
        yield Milter

    @asynccontextmanager
    async def made() -> AsyncIterator[Callable[[], Milter]]:
        yield factory

    for each in (factory, entered, made):
        with pytest.raises(type(error), match=str(error)):
            await serve(each, "inet:0@127.0.0.1", observer=Watcher()).start()


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    log: list[str] = []
    entered = asyncio.Event()

    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        try:
            entered.set()
            await asyncio.Event().wait()
            yield Milter
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            log.append("left")

    before = asyncio.all_tasks()
    starting = asyncio.ensure_future(serve(factory, "inet:0@127.0.0.1", observer=Watcher()).start())
    await entered.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert log == ["left"]
    assert asyncio.all_tasks() == before


async def test_what_a_factory_raises_at_its_end_comes_out_of_the_block() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        yield Milter
        raise ValueError("cannot end")

    with pytest.raises(ValueError, match="cannot end"):
        async with serve(factory, "inet:0@127.0.0.1", observer=Watcher()):
            pass


async def test_factories_that_raise_at_their_end_do_not_keep_others_from_ending() -> None:
    ended: list[str] = []

    def failing(name: str) -> Any:
        @asynccontextmanager
        async def factory() -> AsyncIterator[type[Milter]]:
            yield filter_class()
            ended.append(name)
            raise ValueError(name)

        return factory

    server = serve(failing("one"), "inet:0@127.0.0.1", observer=Watcher())
    await server.start(listen=False)
    from .peer import Scene

    await Scene(server, Watcher()).opened()
    await server.reload(failing("two"))
    with pytest.raises(ExceptionGroup) as found:
        await server.close()
    assert sorted(str(error) for error in found.value.exceptions) == ["one", "two"]
    assert sorted(ended) == ["one", "two"]
    await server.close()


@pytest.mark.parametrize("stubborn", [False, True], ids=["that hangs", "that takes no notice of its cancellation"])
@on_clock
async def test_the_end_waits_for_no_factory(stubborn: bool) -> None:
    released = asyncio.Event()

    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        yield filter_class()
        try:
            await released.wait()
        finally:
            if stubborn:
                await released.wait()

    async with serving(factory) as scene:
        began = asyncio.get_running_loop().time()
        await scene.server.close()
        assert round(asyncio.get_running_loop().time() - began, 3) == (10.0 if stubborn else 5.0)
        released.set()

    late = f"the factory {__name__}.{factory.__qualname__} did not end within 5 s (cancel_timeout)"
    said = [f"{late}; cancelled", f"{late} of its cancellation; abandoned"]
    assert [what for _, what, _ in scene.watcher.failures] == (said if stubborn else said[:1])


@on_clock
async def test_a_factory_has_what_is_left_of_the_time_for_open_sessions() -> None:
    left: list[float] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        yield filter_class()
        await asyncio.sleep(20)
        left.append(asyncio.get_running_loop().time())

    async with serving(factory) as scene:
        began = asyncio.get_running_loop().time()
        for timeout in (None, 30):
            await scene.server.drain(timeout)
        assert [round(when - began, 3) for when in left] == [20.0]
    async with serving(factory) as scene:
        await scene.server.drain(10)
        await scene.server.close()

    assert len(left) == 1
    assert [what.rpartition(" ")[2] for _, what, _ in scene.watcher.failures] == ["cancelled"]


@pytest.mark.parametrize("timeout", [None, 30])
async def test_what_a_factory_raises_at_the_end_of_draining_comes_out_of_the_block(timeout: float | None) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        yield Milter
        raise ValueError("cannot end")

    async with serving(factory) as scene:
        await scene.server.drain(timeout)
        with pytest.raises(ValueError, match="cannot end"):
            await scene.server.close()
    assert scene.watcher.failures == []


# Reload


async def test_reload_serves_new_connections_and_open_ones_finish_on_the_old() -> None:
    old, new = filter_class(), filter_class({"envfrom": REJECT})
    first, second = Pool(old), Pool(new)
    async with serving(first) as scene:
        before = await scene.opened()
        await scene.server.reload(second)
        after = await scene.opened()
        assert await before.send(MESSAGE) == "ccccccc"
        assert (await after.send(MESSAGE))[0] == "r"
        assert first.names == ["enter"]
        await before.send(QUIT)
        for _ in range(5):
            await asyncio.sleep(0)
        assert first.names == ["enter", "leave"]
        assert len(scene.server._lifespans.entered) == 1
    assert second.names == ["enter", "leave"]


async def test_reload_leaves_an_unused_factory_at_once() -> None:
    first = Pool(filter_class())
    async with serving(first) as scene:
        for _ in range(3):
            await scene.server.reload(filter_class())
            for _ in range(5):
                await asyncio.sleep(0)
        assert first.names == ["enter", "leave"]
        assert len(scene.server._lifespans.entered) == 1


async def test_a_reload_without_a_factory_enters_the_one_in_use_again() -> None:
    """That of the last reload that worked, if there was one."""

    def broken() -> Milter:
        raise LookupError("no map")

    first, second = Pool(filter_class()), Pool(filter_class())
    async with serving(first) as scene:
        await scene.server.reload()
        assert first.names.count("enter") == 2
        await scene.server.reload(second)
        with pytest.raises(LookupError):
            await scene.server.reload(broken)
        await scene.server.reload()
    assert first.names.count("enter") == first.names.count("leave") == 2
    assert second.names.count("enter") == second.names.count("leave") == 2


@pytest.mark.parametrize("error", [ValueError("broken"), SyntaxError("broken")])
async def test_a_reload_that_fails_changes_nothing(error: Exception) -> None:
    filter_ = filter_class()

    def broken() -> Milter:
        raise error

    async with serving(filter_) as scene:
        with pytest.raises(type(error), match="broken"):
            await scene.server.reload(broken)
        peer = await scene.opened()
        assert await peer.send(MESSAGE) == "ccccccc"
    assert names(filter_)[-1] == "close"


async def test_of_two_reloads_at_once_the_later_is_served_and_the_other_is_left() -> None:
    slow, quick = asyncio.Event(), asyncio.Event()
    held: list[str] = []
    last = filter_class()

    def factory(name: str, ready: asyncio.Event, filter_: type[Milter]) -> Any:
        @asynccontextmanager
        async def build() -> AsyncIterator[type[Milter]]:
            held.append(name)
            await ready.wait()
            yield filter_
            held.remove(name)

        return build

    async with serving(filter_class()) as scene:
        first = asyncio.ensure_future(scene.server.reload(factory("slow", slow, last)))
        second = asyncio.ensure_future(scene.server.reload(factory("quick", quick, filter_class())))
        await asyncio.sleep(0)
        quick.set()
        await second
        slow.set()
        await first
        for _ in range(5):
            await asyncio.sleep(0)
        assert held == ["slow"]
        await scene.opened()
        assert len(last.made) == 2
    assert held == []


async def test_a_reload_that_outlives_the_server_is_undone() -> None:
    pool = Pool(filter_class())
    ready = asyncio.Event()

    @asynccontextmanager
    async def build() -> AsyncIterator[Any]:
        async with pool() as made:
            await ready.wait()
            yield made

    async with serving(filter_class()) as scene:
        reloading = asyncio.ensure_future(scene.server.reload(build))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(scene.server.close())
        await closing
        ready.set()
        with pytest.raises(RuntimeError, match="the server is closed"):
            await reloading
        assert pool.names == ["enter", "leave"]


@pytest.mark.parametrize("turns", range(6))
async def test_a_reload_that_is_about_to_end_does_not_fail_the_drain(turns: int) -> None:
    """Its factory is entered already, or is just being entered, when the drain begins."""
    ready = asyncio.Event()
    held: list[str] = []

    @asynccontextmanager
    async def old() -> AsyncIterator[type[Milter]]:
        yield Milter
        for _ in range(10):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def new() -> AsyncIterator[type[Milter]]:
        held.append("new")
        try:
            await ready.wait()
            yield Milter
        finally:
            held.remove("new")

    async with serve(old, "inet:0@127.0.0.1") as server:
        reloading = asyncio.ensure_future(server.reload(new))
        while not held:
            await asyncio.sleep(0)
        ready.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.drain()
        await asyncio.gather(reloading, return_exceptions=True)
        assert held == []


async def test_an_old_factory_that_raises_at_its_end_is_logged() -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        yield filter_class()
        raise ValueError("cannot end")

    async with serving(factory) as scene:
        await scene.server.reload(filter_class())
        for _ in range(5):
            await asyncio.sleep(0)

    assert [str(error) for _, _, error in scene.watcher.failures] == ["cannot end"]


class Breaking:
    """A factory that a task of its own ends, once it is told to."""

    def __init__(self, make: Callable[[], Milter]) -> None:
        self._make = make
        self._told = asyncio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Callable[[], Milter]]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refresh())
            yield self._make

    async def _refresh(self) -> None:
        await self._told.wait()
        raise ValueError("cannot refresh")

    async def breaks(self) -> None:
        self._told.set()
        for _ in range(10):
            await asyncio.sleep(0)


async def test_a_factory_that_ends_while_it_is_in_use_serves_nobody_new_until_a_reload() -> None:
    factory = Breaking(filter_class())
    async with serving(factory) as scene:
        before, between = await scene.opened(), await scene.opened()
        await between.send(QUIT_NC)
        await factory.breaks()
        assert [what for _, what, _ in scene.watcher.failures] == [
            f"the factory {__name__}.Breaking ended while it was in use"
        ]
        for _ in range(2):
            after = await scene.opened(offer())
            assert (await after.send(OPENING[len(offer()) :]))[0] == "t"
            after.hang_up()
        what = "the factory has ended; answering TEMPFAIL to new connections until a reload"
        assert scene.watcher.remarks == [what, what]
        assert between.wire.lost
        assert await before.send(MESSAGE) == "ccccccc"  # it may need nothing of the factory
        await before.send(QUIT_NC)
        assert before.wire.lost

        await scene.server.reload(filter_class())
        assert "t" not in (await scene.opened()).answers
    assert len(scene.watcher.failures) == 1


async def test_a_factory_that_ended_while_it_was_in_use_fails_the_end() -> None:
    factory = Breaking(filter_class())
    server = serve(factory, "inet:0@127.0.0.1", observer=Watcher())
    await server.start()
    await factory.breaks()
    await server.drain()
    with pytest.raises(RuntimeError, match=r"Breaking ended while it was in use: ExceptionGroup: unhandled errors in"):
        await server.close()


async def test_a_factory_that_is_cancelled_while_it_is_in_use_is_no_end_of_the_server() -> None:
    tasks: list[Any] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[type[Milter]]:
        tasks.append(asyncio.current_task())
        yield filter_class()

    watcher = Watcher()
    server = serve(factory, "inet:0@127.0.0.1", observer=watcher)
    await server.start()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert len(watcher.failures) == 1
    with pytest.raises(RuntimeError, match="ended while it was in use: it was cancelled"):
        await server.close()


async def test_an_old_factory_that_ends_before_its_last_connection_is_logged() -> None:
    factory = Breaking(filter_class())
    async with serving(factory) as scene:
        before = await scene.opened()
        await scene.server.reload(filter_class())
        await factory.breaks()
        assert [what for _, what, _ in scene.watcher.failures] == [
            f"the factory {__name__}.Breaking ended while it was in use"
        ]
        await before.send(QUIT_NC)
        assert before.wire.lost
        assert "t" not in (await scene.opened()).answers


async def test_quit_nc_after_a_reload_stays_with_the_old_factory() -> None:
    """P-069."""
    old, new = filter_class(), filter_class()
    async with serving(old) as scene:
        peer = await scene.opened()
        await scene.server.reload(new)
        assert await peer.send(b"\0\0\0\1K" + MESSAGE) == "ccccccc"
    assert len(old.made) == 3
    assert len(new.made) == 1


# Ends


async def test_leaving_the_block_drains() -> None:
    """P-134."""
    gate = Gate()
    filter_ = filter_class({"eom": gate()})
    async with serve(filter_, "inet:0@127.0.0.1", observer=Watcher()) as server:
        playing = asyncio.ensure_future(deliver(server.addresses[0]))
        await gate.reached.wait()
        asyncio.get_running_loop().call_soon(gate.opened.set)
    assert (await playing).delivered is not None
    assert gate.left == ["opened"]


async def test_draining_takes_no_new_connection() -> None:
    """P-134."""
    filter_ = filter_class()
    async with serve(filter_, "inet:0@127.0.0.1", observer=Watcher()) as server:
        async with connect(server.addresses[0]) as session:
            draining = asyncio.ensure_future(server.drain())
            await asyncio.sleep(0)
            assert not await connected(server.addresses[0])
            await session.mail("<a@x>")
            await session.rcpt("<b@x>")
            assert (await session.message(WHOLE)).delivered is not None
            assert not draining.done()
        await draining


async def test_draining_does_not_wait_where_no_smtp_session_is_open() -> None:
    """P-069, P-134: one has ended with QUIT_NC, the other has not begun and does not in a second."""
    async with serving(filter_class()) as scene:
        ended = await scene.opened()
        await ended.send(QUIT_NC)
        silent = await scene.opened(b"")
        draining = asyncio.ensure_future(scene.server.drain())
        async with asyncio.timeout(PATIENCE):
            while not ended.wire.lost:
                await asyncio.sleep(0)
            assert not silent.wire.lost
            await draining
        assert silent.wire.lost


async def test_what_was_accepted_just_before_draining_is_served() -> None:
    """P-134: the MTA believes that it is connected, and its first packet is on the way."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        late = scene.peer()
        draining = asyncio.ensure_future(scene.server.drain())
        await asyncio.sleep(0)
        assert (await late.send(OPENING + MESSAGE))[-1] == "c"
        assert not draining.done()
        await late.send(QUIT)
        await draining
    assert "eom" in names(filter_)


async def test_the_end_of_the_grace_period_ends_what_is_open() -> None:
    """P-134."""
    gate = Gate()
    filter_ = filter_class({"envfrom": gate()})
    async with serve(filter_, "inet:0@127.0.0.1", drain_timeout=0.01, observer=Watcher()) as server:
        session = await asyncio.wait_for(_mail_waits(server.addresses[0], gate), PATIENCE)
    answer = await session
    assert answer is TEMPFAIL
    assert gate.left == ["CancelledError"]
    assert names(filter_)[-2:] == ["abort", "close"]


async def _mail_waits(address: str, gate: Gate) -> "asyncio.Task[Any]":
    async def mail() -> Any:
        host = address.split("@")[1]
        reader, writer = await asyncio.open_connection(host, int(address.split("@")[0].removeprefix("inet:")))
        session = aiomilter_mta.Session(reader, writer)
        try:
            await session.negotiate()
            return await session.mail("<a@x>")
        finally:
            await session.close()

    task = asyncio.ensure_future(mail())
    await gate.reached.wait()
    return task


@pytest.mark.parametrize("how", ["exception", "cancellation"])
async def test_leaving_the_block_otherwise_closes_at_once(how: str) -> None:
    """P-134."""
    filter_ = filter_class()
    reached = asyncio.Event()
    pool = Pool(filter_)

    async def main() -> None:
        async with (
            serve(pool, "inet:0@127.0.0.1", observer=Watcher()) as server,
            connect(server.addresses[0]) as session,
        ):
            await session.mail("<a@x>")
            reached.set()
            if how == "exception":
                raise KeyError("why")
            await asyncio.Event().wait()

    task = asyncio.ensure_future(main())
    await reached.wait()
    if how == "cancellation":
        task.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(KeyError if how == "exception" else asyncio.CancelledError):
            await task
    assert names(filter_)[-2:] == ["abort", "close"]
    assert pool.names == ["enter", "leave"]


async def test_close_may_come_twice_and_after_drain() -> None:
    async with serving(filter_class()) as scene:
        peer = await scene.opened()
        await scene.server.close()
        await scene.server.drain()
        await scene.server.close()
        assert peer.wire.lost


async def test_connections_above_the_limit_are_asked_to_come_back() -> None:
    """Over the limit CONNECT is asked for, so that TEMPFAIL can be said."""
    filter_ = filter_class(callbacks=["eom"])
    async with serving(filter_, max_connections=2) as scene:
        first, _ = await scene.opened(), await scene.opened()
        for _ in range(3):
            third = await scene.opened(offer())
            assert int.from_bytes(third.octets[13:17], "big") & 0x1001 == 0
            assert await third.send(OPENING[17:][: len(OPENING) - 17]) in ("tc", "t")
            third.hang_up()
            await third.quiet()
        assert len(scene.watcher.remarks) == 3
        await first.send(QUIT)
        again = await scene.opened()
        assert "t" not in again.answers
        full = await scene.opened()
        assert "t" in full.answers
        assert len(scene.watcher.remarks) == 4
    assert len(filter_.made) == 4


async def test_the_limit_keeps_a_filter_from_nothing_it_serves() -> None:
    filter_ = filter_class()
    async with serving(filter_, max_connections=1) as scene:
        peer = await scene.opened()
        await scene.opened()
        assert await peer.send(MESSAGE) == "ccccccc"


async def test_nothing_global_is_touched(tmp_path: Path) -> None:
    import logging
    import signal

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)]
    logger = logging.getLogger("aiomilter")
    before = (logger.level, list(logger.handlers), logger.propagate, logging.getLogger().level)
    async with serve(Milter, str(tmp_path / "x.sock")):
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)]
    assert during == handlers
    assert (logger.level, list(logger.handlers), logger.propagate, logging.getLogger().level) == before


async def test_a_client_that_only_connects_leaves_nothing() -> None:
    """P-136."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = scene.peer()
        peer.hang_up()
        await peer.quiet()
        assert not scene.server._connections
    assert filter_.told == []


def test_every_callback_is_known_to_the_tests() -> None:
    assert set(CALLBACKS) == {name for name in vars(Milter) if not name.startswith("_")} - {
        "macros",
        "leading_space",
        "rejected_recipients",
        "actions",
        "on_error",
        "on_timeout",
        "wants",
    }
    assert issubclass(filter_class(), Scripted)
