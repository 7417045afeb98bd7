"""Scenes with pymilter's submodules, played to pymilter's and to ours: same arguments, same answers.

Runs in pymilter's interpreter as well, so it needs nothing but the standard library.  A scene takes a function that imports
a module by its pymilter name, and literals; it returns literals.
"""

import io
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

Load = Callable[[str], ModuleType]
SCENES: dict[str, Callable[..., object]] = {}


def scene(function: Callable[..., object]) -> Callable[..., object]:
    SCENES[function.__name__] = function
    return function


def play(load: Load, name: str, *arguments: Any) -> object:
    """Play a scene; an exception that leaves it is an answer as well."""
    return attempt(SCENES[name], load, *arguments)


def attempt(function: Callable[..., object], *arguments: Any, **keywords: Any) -> object:
    """Return what a function returns, or the name of what it raises: the texts are our own."""
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        # struct.error is a ValueError in all but its base class.
        names = {kind.__name__ for kind in type(error).__mro__}
        for known in ("OSError", "ValueError", "TypeError", "AttributeError", "KeyError", "LookupError"):
            if known in names:
                return f"raises {known}"
        return f"raises {type(error).__name__}"


@contextmanager
def directory(files: dict[str, str] | None = None) -> Iterator[None]:
    """Work in a directory of one's own, with these files in it."""
    before, name, umask = os.getcwd(), tempfile.mkdtemp(), os.umask(0o027)
    os.chdir(name)
    try:
        for path, text in (files or {}).items():
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        yield
    finally:
        os.chdir(before)
        os.umask(umask)
        shutil.rmtree(name)


def tree() -> dict[str, tuple[str, str]]:
    """Return permissions and content of all files here."""
    found = {}
    for name in sorted(os.listdir(".")):
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            found[name] = (oct(stat.S_IMODE(os.stat(name).st_mode)), file.read())
    return found


@scene
def call(load: Load, module: str, function: str, *arguments: object) -> object:
    return getattr(load(module), function)(*arguments)


@scene
def matches(load: Load, module: str, pattern: str, text: str) -> bool:
    return getattr(load(module), pattern).match(text) is not None


@scene
def configuration(
    load: Load, text: str, files: dict[str, str], defaults: dict[str, str], asked: list[tuple[object, ...]]
) -> object:
    with directory(files):
        parser = load("Milter.config").MilterConfigParser(defaults)
        parser.read_string(text)
        return [attempt(getattr(parser, str(method)), *arguments) for method, *arguments in asked]


@scene
def locking(load: Load, steps: list[tuple[Any, ...]]) -> object:
    """Each step is a method and its arguments, or ("write", text)."""
    with directory({"file": "old\n"}):
        os.chmod("file", 0o640)
        lock, seen = load("Milter.plock").PLock("file"), []
        for method, *arguments in steps:
            if method == "write":
                result: object = lock.fp.write(*arguments)
            else:
                result = attempt(getattr(lock, method), *arguments)
            seen.append((result if result is None or isinstance(result, (int, str)) else "file", tree()))
        return seen


@scene
def caching(load: Load, lines: list[tuple[str, float | None]], renew: int, steps: list[tuple[Any, ...]]) -> object:
    """A file of addresses, each with its age in days or none, then calls; times are left out of what is returned."""
    cache = load("Milter.cache").AddrCache(renew=renew)
    now = time.time()
    text = ""
    for address, age in lines:
        when = "" if age is None else time.strftime(" " + cache.time_format, time.localtime(now - age * 86400))
        text += f"{address}{when}\n"
    with directory({"list": text}):
        cache.load("list")
        answers = []
        for method, *arguments in steps:
            answers.append(attempt(getattr(cache, method), *arguments))
        with open("list", encoding="utf-8", errors="surrogateescape") as file:
            return answers, [line.split(" ")[0] for line in file.read().splitlines()]


@scene
def greylisting(load: Load, options: dict[str, int], steps: list[tuple[Any, ...]]) -> object:
    """Each step is a method and its arguments; the clock stands still."""
    real, time.time = time.time, lambda: 1_700_000_000.0
    try:
        with directory():
            grey = load("Milter.greysql").Greylist("grey.db", **options)
            answers = [attempt(getattr(grey, method), *arguments) for method, *arguments in steps]
            grey.close()
            return answers
    finally:
        time.time = real


@scene
def parts(load: Load, octets: bytes) -> object:
    """What each part of a message says of itself."""
    message = load("mime").message_from_file(io.BytesIO(octets))
    methods = ("getname", "getnames", "getfilename", "gettype", "getparams", "ismultipart", "getencoding", "ismodified")
    return [
        [attempt(getattr(part, method)) for method in methods]
        + [None if part.is_multipart() else part.get_payload_decoded()]
        for part in message.walk()
    ]


@scene
def defanged(load: Load, octets: bytes) -> object:
    """What becomes of a message: every part's type and content."""
    mime = load("mime")
    message = mime.message_from_file(io.BytesIO(octets))
    changed = mime.defang(message, scan_zip=True)
    found = [(part.gettype(), None if part.is_multipart() else part.get_payload_decoded()) for part in message.walk()]
    return changed, message.ismodified(), found


@scene
def written(load: Load, octets: bytes, act: str) -> object:
    """The octets of a message after something was done to it: a body of a function of ``message`` and ``mime``."""
    mime = load("mime")
    message = mime.message_from_file(io.BytesIO(octets))
    exec(act, {"message": message, "mime": mime})  # the test's own text
    out = io.BytesIO()
    message.dump(out)
    return message.as_bytes(), out.getvalue(), message.ismodified()


@scene
def html(load: Load, pieces: list[str]) -> object:
    """What becomes of a document in pieces."""
    out = io.StringIO(newline="")
    parser = load("mime").HTMLScriptFilter(out)
    for piece in pieces:
        parser.feed(piece)
    parser.close()
    return out.getvalue()


class AccessMap:
    """In place of Berkeley DB's; both sides keep the class that they found first."""

    records: ClassVar[dict[bytes, bytes]] = {}

    def open(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        return self.records.get(key, default)

    def close(self) -> None:
        pass


@scene
def policies(load: Load, records: dict[bytes, bytes], nulls: bool, asked: list[tuple[str, str]]) -> object:
    """Asked for are policies of (sender, prefix)."""
    library: Any = ModuleType("bsddb3")
    library.db = SimpleNamespace(DB=AccessMap, DB_RDONLY=1, DBError=OSError, DBNoSuchFileError=OSError)
    sys.modules["bsddb3"] = library
    AccessMap.records = records
    try:
        found = []
        for sender, prefix in asked:
            configured = SimpleNamespace(access_file="access.db", access_file_nulls=nulls)
            with load("Milter.policy").MTAPolicy(sender, configured) as policy:
                found.append(attempt(policy.getPolicy, prefix))
        return found
    finally:
        del sys.modules["bsddb3"]


_SEEN = (
    "_reply _sender _addrcpt _delrcpt _bodyreplaced _headerschanged _envfromchanged _protocol _opts _symlist _macros"
)


def _filter(milter: Any, does: dict[str, str], marks: dict[str, str], seen: list[object]) -> Any:
    """A class whose callbacks do what a text says, a body of a function of ``self`` and ``a``, and tell what they are given."""

    def method(name: str, body: str, mark: str | None) -> Any:
        scope: dict[str, Any] = {"Milter": milter}
        lines = "\n ".join(body.splitlines())
        exec(f"def {name}(self, *a):\n {lines}\n return Milter.CONTINUE", scope)  # the test's own text

        def told(self: Any, *a: Any) -> Any:
            seen.append((name, *a))
            return scope[name](self, *a)

        told.__name__ = name
        return getattr(milter, mark)(told) if mark else told

    names = {name: method(name, does.get(name, ""), marks.get(name)) for name in {**does, **marks}}
    return type("Filter", (milter.Base,), names)


def _plain(value: Any) -> Any:
    """Return a value as a literal."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # a family of addresses is a number of a name
    if value is None or isinstance(value, (bool, str, bytes)):
        return value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "getvalue"):
        return value.getvalue()
    return f"a {type(value).__name__}"


def _state(played: Any) -> dict[str, object]:
    found = {name: _plain(getattr(played, name, "absent")) for name in (*_SEEN.split(), "_body")}
    message: Any = getattr(played, "_msg", None)
    found["_msg"] = list(message.items()) if hasattr(message, "items") else message
    return found


@scene
def tested(load: Load, does: dict[str, str], marks: dict[str, str], steps: list[tuple[Any, ...]], base: bool) -> object:
    """A filter in its unit test: each step is a method of ``TestCtx`` (or of a ``TestBase``, the same names) and its arguments.

    Octets are handed over as a file.  Told are the answers, what the callbacks were given, and what a test can look at.
    """
    milter, seen = load("Milter"), []  # type: tuple[Any, list[object]]
    before = milter.factory
    with directory():
        os.mkdir("test")
        if base:
            bases = (load("Milter.test").TestBase, _filter(milter, does, marks, seen))
            played = type("Tested", bases, {})("log")
        else:
            milter.factory = _filter(milter, does, marks, seen)
            context = load("Milter.testctx").TestCtx
            # pymilter's keeps what one filter has agreed to, and offers no more to the next.
            context.default_opts = [milter.CURR_ACTS, 0x1FFFFF, 0, 0]
            played = context()
        told: list[object] = []
        try:
            for method, *arguments in steps:
                seen.clear()
                if method == "set":
                    setattr(played, *arguments)
                    answer: object = None
                else:
                    files = [io.BytesIO(given) if isinstance(given, bytes) else given for given in arguments]
                    answer = attempt(getattr, played, method)
                    if callable(answer):
                        answer = attempt(answer, *files)
                told.append((_plain(answer), _plain(seen), attempt(_state, played)))
        finally:
            milter.factory = before
            if base:
                played._close()
        return told
