"""The file of a UNIX-domain socket, in a directory that somebody else may write to: attacked between any two steps."""

import contextlib
import errno
import gc
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from aiomilter._serving import socket_file
from aiomilter._serving.socket_file import SocketFile, bind, make_way, remove_socket

ROOT: Final = os.geteuid() == 0
NOBODY: Final = 65534
LINUX: Final = hasattr(os, "O_PATH")
linux = pytest.mark.skipif(not LINUX, reason="only Linux holds files that are not open")
MODE: Final = 0o666
STEPS: Final = frozenset(
    {"open", "close", "stat", "fstat", "lstat", "readlink", "chown", "chmod", "fchmod", "unlink", "geteuid"}
)


def unix(kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    return socket.socket(socket.AF_UNIX, kind)


def left(path: Path, mode: int = 0o755) -> Path:
    """Leave a socket that nobody serves."""
    with unix() as stale:
        stale.bind(str(path))
    path.chmod(mode)
    return path


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class Scene:
    """A directory that an attacker owns, and files of ours elsewhere.

    Args:
        folder: For all of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.theirs = folder / "theirs"
        self.theirs.mkdir()
        self.path = self.theirs / "sock"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.file = folder / "secret"
        self.file.write_text("ours only")
        self.file.chmod(0o600)
        self.listening = unix()
        # Of the same name, to be found if the directory becomes another.
        self.other = self.elsewhere / "sock"
        self.listening.bind(str(self.other))
        self.listening.listen()
        self.other.chmod(0o600)
        self.before = self.state()
        self.steps = 0

    def state(self) -> list[tuple[int, ...]]:
        """What must not change."""
        found = [path.lstat() for path in (self.file, self.other)]
        return [(each.st_ino, each.st_mode, each.st_uid, each.st_gid) for each in found]

    def close(self) -> None:
        self.listening.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    yield found
    found.close()


def link_to_file(scene: Scene) -> None:
    put(scene, lambda path: path.symlink_to(scene.file))


def link_to_socket(scene: Scene) -> None:
    put(scene, lambda path: path.symlink_to(scene.other))


def the_file_itself(scene: Scene) -> None:
    put(scene, lambda path: os.link(scene.file, path))


def the_socket_itself(scene: Scene) -> None:
    put(scene, lambda path: os.link(scene.other, path, follow_symlinks=False))


def another_directory(scene: Scene) -> None:
    if not scene.theirs.is_symlink():
        scene.theirs.rename(scene.folder / "moved")
        scene.theirs.symlink_to(scene.elsewhere)


def another_directory_for_a_moment(scene: Scene) -> None:
    if scene.theirs.is_symlink():
        scene.theirs.unlink()
        (scene.folder / "moved").rename(scene.theirs)
    else:
        another_directory(scene)


def put(scene: Scene, make: Callable[[Path], object]) -> None:
    """Put something in the place of the socket, as soon as it is there."""
    if scene.path.is_socket() and not scene.path.is_symlink():
        new = scene.theirs / "new"
        make(new)
        new.rename(scene.path)
        # A hard link to what is there already changes nothing, and stays.
        new.unlink(missing_ok=True)


ATTACKS: Final[tuple[Callable[[Scene], None], ...]] = (
    link_to_file,
    link_to_socket,
    the_file_itself,
    the_socket_itself,
    another_directory,
    another_directory_for_a_moment,
)


class Meddled:
    """The module ``os``, of which each call may be preceded by an attack.

    Args:
        attack: What to do.
        at: Before which calls, counted from 0.
    """

    def __init__(self, attack: Callable[[], None], at: range) -> None:
        self._attack = attack
        self._at = at
        self.calls = 0
        self.path = os.path

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in STEPS:
            return found

        def call(*args: Any, **keywords: Any) -> Any:
            self.step()
            return found(*args, **keywords)

        return call

    def step(self) -> None:
        self.calls += 1
        if self.calls - 1 in self._at:
            self._attack()


class Listening(socket.socket):
    """A socket whose bind is a step, too, before and after."""

    meddled: "Meddled"

    def bind(self, address: Any) -> None:
        self.meddled.step()
        super().bind(address)
        self.meddled.step()


def attacked(monkeypatch: pytest.MonkeyPatch, attack: Callable[[], None], at: range) -> Meddled:
    found: Any = Meddled(attack, at)
    monkeypatch.setattr(socket_file, "os", found)
    Listening.meddled = found
    return found  # type: ignore[no-any-return]  # it stands for a module


def bound_under_attack(scene: Scene) -> None:
    """Bind, serve for a moment, and end."""
    with Listening(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        file = bind(sock, str(scene.path), mode=MODE, owner=NOBODY if ROOT else None)
        _ = file.in_place
        file.remove()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
def test_no_other_file_is_changed_or_removed_whenever_the_path_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Scene], None], always: bool
) -> None:
    """Between any two steps of binding, looking and removing."""
    at, calls = 0, 1
    while at < calls:
        folder = tmp_path / str(at)
        folder.mkdir()
        scene = Scene(folder)
        meddled = attacked(monkeypatch, lambda scene=scene: attack(scene), range(at, 1000 if always else at + 1))  # type: ignore[misc]  # bound now
        bound_under_attack(scene)
        monkeypatch.undo()
        assert scene.state() == scene.before, f"before call {at}"
        scene.close()
        at, calls = at + 1, meddled.calls
    assert at > 10


@linux
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
def test_only_the_socket_that_was_tried_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Scene], None], always: bool
) -> None:
    at, calls = 0, 1
    while at < calls:
        folder = tmp_path / str(at)
        folder.mkdir()
        scene = Scene(folder)
        left(scene.path)
        meddled = attacked(monkeypatch, lambda scene=scene: attack(scene), range(at, 1000 if always else at + 1))  # type: ignore[misc]  # bound now
        with contextlib.suppress(OSError):
            make_way(str(scene.path))
        monkeypatch.undo()
        assert scene.state() == scene.before, f"before call {at}"
        scene.close()
        at, calls = at + 1, meddled.calls
    assert at > 3


def test_what_takes_the_place_of_a_stale_socket_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    left(scene.path)

    def somebody_is_quicker(path: str, whose: str) -> None:
        scene.path.unlink()
        left(scene.path)

    monkeypatch.setattr(socket_file, "_check_stale", somebody_is_quicker)
    make_way(str(scene.path))
    assert scene.path.is_socket()


@linux
@pytest.mark.parametrize("owner", [None, pytest.param(NOBODY, marks=pytest.mark.skipif(not ROOT, reason="root"))])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o606, 0o777, 0])
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_the_mode_is_what_was_asked_for_and_never_wider_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int | None, umask: int
) -> None:
    seen: list[tuple[int, int]] = []

    def look() -> None:
        if scene.path.is_socket():
            status = scene.path.lstat()
            seen.append((stat.S_IMODE(status.st_mode), status.st_uid))

    before = os.umask(umask)
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask is the whole process's"))
    attacked(monkeypatch, look, range(1000))
    try:
        with Listening(socket.AF_UNIX) as sock:
            bind(sock, str(scene.path), mode=mode, owner=owner)
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert permissions(scene.path) == mode
    assert scene.path.lstat().st_uid == (os.geteuid() if owner is None else owner)
    assert seen
    assert all(found & ~mode == 0 for found, _ in seen)
    assert all(found & 0o077 == 0 for found, uid in seen if owner is not None and uid != owner)


@linux
def test_a_path_that_leads_elsewhere_once_it_is_bound_is_no_start(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unix() as sock:
        monkeypatch.setattr(socket_file, "bound_place", lambda sock: (0, 0))
        monkeypatch.setattr(socket_file, "_only_we_can_change", lambda directory: False)
        with pytest.raises(OSError, match="its file was removed or replaced") as found:
            bind(sock, str(scene.path))
    assert found.value.errno == errno.ESTALE


def test_a_path_that_leads_to_no_socket_is_no_start_either(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            scene.path.unlink()
            scene.path.touch()

    monkeypatch.setattr(socket_file, "bound_place", lambda sock: None)
    with Replaced(socket.AF_UNIX) as sock, pytest.raises(OSError, match="its file was removed or replaced"):
        bind(sock, str(scene.path))


@pytest.mark.parametrize("held", [True, False], ids=["held", "by name"])
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(("umask", "asked"), [(0o022, 0o660), (0, 0o660), (0, None)])
def test_where_the_system_does_not_say_which_file_it_is_the_directory_has_to_be_ours_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, held: bool, ours: bool, umask: int, asked: int | None
) -> None:
    """Unless nothing is to be changed; as on macOS, or where a sandbox has neither netlink nor /proc."""
    monkeypatch.setattr(socket_file, "bound_place", lambda sock: None)
    monkeypatch.setattr(socket_file, "_only_we_can_change", lambda directory: ours)
    if not held:
        monkeypatch.setattr(socket_file, "_O_PATH", None)
    to_change = asked is not None and (umask or not LINUX)
    before = os.umask(umask)
    try:
        with unix() as sock:
            if to_change and not ours:
                with pytest.raises(OSError, match=f"another user may replace files in {re.escape(str(scene.theirs))},"):
                    bind(sock, str(scene.path), mode=asked)
                return
            file = bind(sock, str(scene.path), mode=asked)
            assert permissions(scene.path) == (0o777 if asked is None else asked)
            assert file.in_place
            file.remove()
    finally:
        os.umask(before)
    assert not scene.path.exists()


class Tree:
    """Directories and links as ``os`` tells of them, by path: owner, permissions, and where a link leads."""

    path = os.path

    def __init__(self, **entries: tuple[int, int, str]) -> None:
        self.entries = {
            "/": (0, 0o755, ""),
            **{f"/{name.replace('__', '/')}": entry for name, entry in entries.items()},
        }

    def geteuid(self) -> int:
        return 7

    def getcwd(self) -> str:
        return "/run"

    def lstat(self, path: str) -> os.stat_result:
        if path not in self.entries:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        owner, mode, target = self.entries[path]
        kind = stat.S_IFLNK if target else stat.S_IFDIR
        return os.stat_result((kind | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))

    def readlink(self, path: str) -> str:
        return self.entries[path][2]


RUN: Final = {"run": (0, 0o755, ""), "tmp": (0, 0o1777, ""), "home": (0, 0o755, "")}
ONLY_OURS: Final[list[tuple[str, dict[str, tuple[int, int, str]], bool]]] = [
    ("/run", {}, True),
    ("", {}, True),
    ("/tmp", {}, True),
    ("/run/f", {"run__f": (7, 0o755, "")}, True),
    ("f", {"run__f": (7, 0o755, "")}, True),
    ("/run//./f/../f/", {"run__f": (7, 0o755, "")}, True),
    ("/run/f", {"run__f": (8, 0o755, "")}, False),
    ("/run/f", {"run__f": (7, 0o775, "")}, False),
    ("/run/f", {"run__f": (7, 0o777, "")}, False),
    ("/run/f", {"run__f": (7, 0o1777, "")}, True),
    ("/run/f", {"run__f": (8, 0o1777, "")}, False),
    ("/tmp/f", {"tmp__f": (7, 0o700, "")}, True),
    ("/home/b/f", {"home__b": (8, 0o755, ""), "home__b__f": (7, 0o700, "")}, False),
    ("/tmp/l", {"tmp__l": (7, 0o777, "/run")}, True),
    ("/tmp/l", {"tmp__l": (8, 0o777, "/run")}, False),
    ("/run/l/f", {"run__l": (0, 0o777, "../tmp"), "tmp__f": (7, 0o700, "")}, True),
    ("/run/l", {"run__l": (0, 0o777, "/home/b"), "home__b": (8, 0o755, "")}, False),
    ("/run/l", {"run__l": (0, 0o777, "l")}, False),
    ("/run/missing", {}, False),
    ("/run", {"run": (8, 0o755, "")}, False),
]


@pytest.mark.parametrize(("path", "entries", "ours"), ONLY_OURS)
def test_who_can_change_a_path(
    monkeypatch: pytest.MonkeyPatch, path: str, entries: dict[str, tuple[int, int, str]], ours: bool
) -> None:
    tree: Any = Tree(**{**RUN, **entries})
    monkeypatch.setattr(socket_file, "os", tree)
    assert socket_file._only_we_can_change(path) == ours


# What is removed


def test_a_file_in_the_place_of_ours_stays(scene: Scene) -> None:
    with unix() as sock:
        file = bind(sock, str(scene.path))
        scene.path.unlink()
        left(scene.path)
        assert not file.in_place
        file.remove()
    assert scene.path.is_socket()


def test_of_a_moved_directory_nothing_is_removed(scene: Scene) -> None:
    with unix() as sock:
        file = bind(sock, str(scene.path))
        another_directory(scene)
        assert not file.in_place
        file.remove()
    assert scene.state() == scene.before
    assert (scene.folder / "moved/sock").is_socket()


def test_what_is_gone_already_is_no_matter(scene: Scene) -> None:
    with unix() as sock:
        file = bind(sock, str(scene.path))
        file.remove()
        file.remove()
        scene.theirs.rmdir()
        file.remove()
    assert not file.in_place


def test_libmilters_removal_asks_for_nobody_who_listens(scene: Scene) -> None:
    remove_socket(str(scene.other))
    assert not scene.other.exists()
    remove_socket(str(scene.other))
    remove_socket(str(scene.file))
    assert scene.file.exists()
    remove_socket("/no/such/directory")


# What is said of what is there


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user, as far as files are concerned."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may pass; pytest's own are for nobody else."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextlib.contextmanager
def served(path: Path, *, full: bool = False) -> Iterator[None]:
    with unix() as listening, unix() as client:
        listening.bind(str(path))
        listening.listen(0)
        if full:
            client.connect(str(path))
        yield


@contextlib.contextmanager
def datagrams(path: Path) -> Iterator[None]:
    with unix(socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        yield


def made(make: Callable[[Path], object]) -> Callable[[Path], Any]:
    def prepare(path: Path) -> Any:
        make(path)
        return contextlib.nullcontext()

    return prepare


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def to_a_socket(path: Path) -> None:
    path.symlink_to(left(path.with_name("other")))


IN_USE: Final = "Address already in use; another process"
THERE: Final[list[tuple[str, Callable[[Path], Any], int, str]]] = [
    ("served", served, errno.EADDRINUSE, f"{IN_USE} listens there; stop it, or choose another"),
    (
        "served, no room",
        lambda path: served(path, full=True),
        errno.EADDRINUSE,
        f"{IN_USE} listens there; stop it, or choose another",
    ),
    (
        "datagrams",
        datagrams,
        errno.EADDRINUSE,
        f"{IN_USE} has a socket of another type there; stop it, or choose another",
    ),
    (
        "file",
        made(Path.touch),
        errno.EEXIST,
        "there is a regular file, not a socket; choose another path, or remove it",
    ),
    (
        "directory",
        made(Path.mkdir),
        errno.EEXIST,
        "there is a directory, not a socket; choose another path, or remove it",
    ),
    ("fifo", made(os.mkfifo), errno.EEXIST, "there is a FIFO, not a socket; choose another path, or remove it"),
    (
        "dangling link",
        made(dangling),
        errno.EEXIST,
        "there is a symbolic link, not a socket; name the socket itself, or remove it",
    ),
    (
        "link to a socket",
        made(to_a_socket),
        errno.EEXIST,
        "there is a symbolic link, not a socket; name the socket itself, or remove it",
    ),
]


@pytest.mark.parametrize(("kind", "prepare", "number", "said"), THERE, ids=[row[0] for row in THERE])
def test_what_is_in_the_way_is_said(
    tmp_path: Path, kind: str, prepare: Callable[[Path], Any], number: int, said: str
) -> None:
    """P-132."""
    path = tmp_path / "sock"
    with prepare(path):
        with pytest.raises(OSError, match=r"^") as found:
            make_way(str(path))
        assert (found.value.errno, found.value.strerror) == (number, said)
        assert path.is_symlink() or path.exists()


def own_but_closed(path: Path) -> None:
    left(path, 0)
    os.chown(path, NOBODY, NOBODY)


def of_root(path: Path) -> None:
    left(path, 0o755)


def of_root_and_open(path: Path) -> None:
    left(path, 0o777)


TRIED: Final = "is there, and this user may not connect to it: whether a process listens there is not known"
NOBODY_SERVES: Final = "a socket of user root is there that no process serves, and this user may not remove it"
OTHERS: Final[list[tuple[Callable[[Path], None], int, int, str]]] = [
    # What is there; owner and permissions of the directory; what is said to nobody.
    (of_root, NOBODY, 0o755, f"a socket of user root {TRIED}; remove it, or give it to this user"),
    (own_but_closed, NOBODY, 0o755, f"a socket of user nobody {TRIED}; remove it, or give it to this user"),
    (of_root_and_open, 0, 0o1777, f"{NOBODY_SERVES} (Operation not permitted); remove it"),
    (of_root_and_open, 0, 0o755, f"{NOBODY_SERVES} (Permission denied); remove it"),
    (of_root_and_open, NOBODY, 0o755, ""),
]


@pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
@pytest.mark.parametrize(("leave", "owner", "mode", "said"), OTHERS)
def test_a_socket_of_another_user_is_called_that(
    public: Path, leave: Callable[[Path], None], owner: int, mode: int, said: str
) -> None:
    path = public / "sock"
    leave(path)
    os.chown(public, owner, owner)
    public.chmod(mode)
    with as_nobody(), contextlib.nullcontext() if not said else pytest.raises(OSError, match=r"^") as found:
        make_way(str(path))
    assert path.exists() == bool(said)
    assert said in ("", found and found.value.strerror)


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_who_may_not_give_a_socket_away_is_told_and_leaves_no_file(public: Path) -> None:
    os.chown(public, NOBODY, NOBODY)
    mend = "only root may give a socket to another user, or to a group that this user is not in"
    with as_nobody():
        for given in ({"owner": 0}, {"group": 1}):
            with unix() as sock, pytest.raises(PermissionError, match=mend):
                bind(sock, str(public / "sock"), mode=0o660, **given)
            assert not (public / "sock").exists()


def test_the_module_keeps_nothing_open(scene: Scene) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    gc.collect()  # what tests before this one have left to it
    before = descriptors()
    with unix() as sock:
        file: SocketFile = bind(sock, str(scene.path), mode=0o660)
        with pytest.raises(OSError, match="Address already in use"):
            bind(sock, str(scene.other))
        with pytest.raises(OSError, match="Address already in use"):
            make_way(str(scene.other))
        file.remove()
    assert descriptors() == before
    assert isinstance(socket_file, ModuleType)
