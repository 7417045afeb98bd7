"""Imports from the directory of a filter or program, and which modules come before it.

A filter's directory comes first on Python's path, so that its own modules are found before installed ones.  But Python's
modules and those of the libraries that aiomilter uses are looked for where they are installed first: most are imported late,
and a ``dns.py`` beside the filter, or a filter of that name, would be taken for the library at the first message.
"""

import importlib
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

__all__ = ["LIBRARIES", "in_the_way", "is_installation", "is_installed", "is_taken", "look_in", "whose"]

LIBRARIES: Final = frozenset(
    {
        "aiomilter",
        "dns",
        "idna",
        "uvloop",
        # smtp
        "aiosmtpd",
        "attr",
        "attrs",
        "public",
        # aiodns
        "aiodns",
        "pycares",
        "_cffi_backend",
        "cffi",
        "pycparser",
        "typing_extensions",
        # dkim, redis, postgresql
        "cryptography",
        "redis",
        "asyncpg",
        # metrics, web
        "prometheus_client",
        "aiohttp",
        "aiohappyeyeballs",
        "aiosignal",
        "frozenlist",
        "multidict",
        "propcache",
        "yarl",
    }
)
"""Names of what aiomilter and its extras need, directly or not."""
_INSTALLATION: Final = Path(__file__).resolve().parent.parent.parent
_OURS: Final = (str(_INSTALLATION / "aiomilter"),)


def is_installation(directory: Path) -> bool:
    """Return whether aiomilter and what it needs lie in a directory, as in site-packages or after ``pip install --target``."""
    return directory == _INSTALLATION and (directory / "dns" / "exception.py").exists()


def _real(path: str) -> str:
    """Return a path without links; unchanged if the current directory no longer exists."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path


def is_taken(name: str) -> bool:
    """Return whether a module's name is one of Python's own, or of what aiomilter needs."""
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in LIBRARIES


def whose(name: str) -> str:
    """Return whose a name is that is taken."""
    return "Python's own" if name.partition(".")[0] in sys.stdlib_module_names else "a library's"


def is_installed(name: str) -> bool:
    """Return whether a module is there that does not just lie in the current directory or beside a filter."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return _finder().installed(name) is not None


def look_in(directory: str, *, own_first: bool = False) -> None:
    """Import from a directory first, except for names that are taken.

    Args:
        directory: Its path, absolute and without symbolic links.
        own_first: Whether modules in the directory find their neighbours first, as in a Python program.
    """
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    if not is_installation(Path(directory)):
        _finder().leave_out(directory, own_first=own_first)


def _finder() -> "_InstalledFirst":
    """Return what finds modules before Python's own means do, put in its place if it is not there."""
    for finder in sys.meta_path:
        if isinstance(finder, _InstalledFirst):
            return finder
    found = _InstalledFirst()
    sys.meta_path.insert(0, found)
    return found


class _InstalledFirst:
    """Finds modules whose names are taken where they are installed, if they are."""

    def __init__(self) -> None:
        self._left_out = self._spellings(os.curdir)
        # Modules in these find their neighbours first.
        self._own_first: frozenset[str] = frozenset()

    def leave_out(self, directory: str, *, own_first: bool) -> None:
        """Look elsewhere than in a directory, and in the current one, which ``python -m`` puts first."""
        spellings = self._spellings(directory)
        self._left_out = self._spellings(os.curdir) | spellings
        self._own_first = spellings if own_first else frozenset()

    @staticmethod
    def _spellings(directory: str) -> frozenset[str]:
        """Return how the path of modules has a directory, unless it is the installation."""
        real = _real(directory)
        if is_installation(Path(real)):
            return frozenset()
        return frozenset(entry for entry in ("", directory, *sys.path) if _real(entry) == real)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is looked for anywhere; None to have it looked for as Python does."""
        if path is not None or not is_taken(fullname) or (self._own_first and self._is_asked_from_there()):
            return None
        return self.installed(fullname, target)

    def installed(self, name: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module that is installed, or that any other means find."""
        entries = [entry for entry in sys.path if entry not in self._left_out]
        for finder in sys.meta_path:
            find: Any = getattr(finder, "find_spec", None)
            if find is None or isinstance(finder, _InstalledFirst):
                continue
            found: ModuleSpec | None = find(name, entries if finder is PathFinder else None, target)
            if found is not None:
                return found
        return None

    def _is_asked_from_there(self) -> bool:
        """Return whether the code that imports finds its neighbours first."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and _imports(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is None:
            return False
        file = os.path.realpath(frame.f_code.co_filename)
        # Of the directories that modules are looked for in, one may be below another, as an environment beside the program.
        homes = [entry for entry in (*sys.path, *_OURS) if file.startswith(os.path.join(os.path.realpath(entry), ""))]
        return max(homes, key=len, default="") in self._own_first

    def invalidate_caches(self) -> None:
        """Do nothing: nothing is kept."""


def _imports(filename: str) -> bool:
    """Return whether a frame is one of Python's means to import."""
    return filename.startswith("<frozen importlib") or filename == importlib.__file__


def in_the_way(error: Exception, target: Path) -> str | None:
    """Return a hint for an import that found an installed module although the target has a neighbour of that name.

    Args:
        error: What the import has raised.
        target: The file that was imported.
    """
    name: object = None
    if isinstance(error, ImportError):
        name = error.name
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    top = name.partition(".")[0] if isinstance(name, str) else ""
    if not top or not is_taken(top):
        return None
    directory = target.resolve().parent
    if is_installation(directory):
        return None
    for neighbour in (directory / f"{top}.py", directory / top):
        if neighbour.exists() and neighbour != target.resolve():
            return f"the module {top!r} is {whose(top)}, not {neighbour}: if that was meant, rename it"
    return None
