"""The modules of one release of a filter: TARGET, and what it has imported from beside it.

A reload takes them out of ``sys.modules`` and loads their successors, from another directory where TARGET leads through a link
that was switched.  Until the successors serve, and in sessions that were open then, the old code goes on; what it imports in a
callback is of its own release, never of the new one.
"""

import builtins
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final

from aiomilter._cli.beside import LIBRARIES, is_installation, is_taken

__all__ = ["INSTALLED", "Release", "home_of", "is_between", "real", "under"]

_PACKAGE: Final = Path(__file__).parent.parent
INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_PYTHON: Final = tuple({os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_MARK: Final = "__aiomilter_release__"
"""In the globals of a module, once its successor is being loaded: the release that it belongs to."""
_import = builtins.__import__


def real(path: str) -> str:
    """Return a path without links; "" where it is unknown, since the current directory no longer exists."""
    try:
        return os.path.realpath(path)
    except OSError:
        return ""


def home_of(module: ModuleType | None) -> str | None:
    """Return the directory that a top-level module or package was found in."""
    found = [os.path.dirname(place) for place in _places(module)]
    # A namespace package has more than one, and an installed part is not the one that was meant.
    return next((home for home in found if os.path.basename(home) not in INSTALLED), found[0] if found else None)


def _places(module: object) -> list[str]:
    """Return the file of a module, the directory of a package: more than one of a namespace package."""
    path = getattr(module, "__path__", None)
    file = getattr(module, "__file__", None)
    if path is not None:
        return [real(entry) for entry in path if isinstance(entry, str)]
    return [real(file)] if isinstance(file, str) else []


def under(path: str, homes: Iterable[str]) -> bool:
    """Return whether a file lies in one of some directories or below, and is neither installed nor Python's own."""
    if any(_inside(path, each) is not None for each in (*_PYTHON, str(_PACKAGE))):
        return False
    insides = (_inside(path, home) for home in homes)
    return any(inside is not None and INSTALLED.isdisjoint(inside.split(os.sep)) for inside in insides)


def _inside(path: str, directory: str) -> str | None:
    """Return the rest of a path that leads into a directory."""
    if path == directory:
        return ""
    start = os.path.join(directory, "")
    return path.removeprefix(start) if path.startswith(start) else None


def _is_source(module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or (isinstance(file, str) and file.endswith(".py"))


class Release:
    """Modules that were loaded together.

    Args:
        homes: Directories, without links; installed packages do not count as theirs.
        names: Modules that belong to it wherever they are, with their submodules.
    """

    newest: ClassVar[tuple[str, ...]] = ()
    """The directories of the one whose modules are not set aside."""

    def __init__(self, homes: Sequence[str], names: Sequence[str]) -> None:
        self.homes = tuple(homes)
        self._names = frozenset(names)
        self.modules: Mapping[str, ModuleType] = {
            name: module
            for name, module in list(sys.modules.items())
            if isinstance(module, ModuleType) and self._has(name, module)
        }
        self._tops = frozenset(name.partition(".")[0] for name in self.modules)
        # Packages that stay where one of their modules goes, as of a namespace that reaches beyond the release.
        self._kept_parents: list[tuple[ModuleType, str, ModuleType]] = []
        for name, module in self.modules.items():
            parent, _, last = name.rpartition(".")
            owner = sys.modules.get(parent)
            if isinstance(owner, ModuleType) and parent not in self.modules and vars(owner).get(last) is module:
                self._kept_parents.append((owner, last, module))

    def _has(self, name: str, module: object) -> bool:
        top = name.partition(".")[0]
        if top in ("__main__", _PACKAGE.name) or not _is_source(module):
            return False
        if name in self._names or top in self._names:
            return True
        if top in LIBRARIES and is_installation(_PACKAGE.parent):
            return False
        places = _places(module)
        return bool(places) and all(under(place, self.homes) for place in places)

    def set_aside(self) -> None:
        """Take the modules out of where Python looks for them; what they import from now on is of their own release."""
        for name, module in self.modules.items():
            vars(module)[_MARK] = self
            del sys.modules[name]
        for owner, name, _ in self._kept_parents:
            delattr(owner, name)
        # Not before: most processes never reload.
        builtins.__import__ = _import_of_own_release

    def put_back(self, *others: "Release") -> None:
        """Have the modules where they were, in place of those of other releases."""
        for other in others:
            for name in other.modules:
                sys.modules.pop(name, None)
            for owner, name, _ in other._kept_parents:
                vars(owner).pop(name, None)
        sys.modules.update(self.modules)
        for owner, name, module in self._kept_parents:
            setattr(owner, name, module)
        for module in self.modules.values():
            vars(module).pop(_MARK, None)

    def own(self, name: str, fromlist: Sequence[str], *, relative: bool) -> ModuleType | None:
        """Return what an ``import`` statement in a module that was set aside gives; None if its name is not of a release.

        Args:
            name: Absolute.
            fromlist: Names behind ``from ... import``.
            relative: Whether the statement has dots in front.

        Raises:
            ImportError: That would be a module of a later release.
        """
        top = name.partition(".")[0]
        if top not in self._tops:
            if self._is_later(top):
                raise self._too_late(name)
            return None
        if name not in self.modules:
            if _is_elsewhere(name, self.modules):
                return None
            raise self._too_late(name)
        if not fromlist and not relative:
            return self.modules.get(top) or sys.modules.get(top)
        module = self.modules[name]
        for each in fromlist:
            below = f"{name}.{each}"
            if each != "*" and hasattr(module, "__path__") and not hasattr(module, each):
                raise self._too_late(below)
        return module

    def _is_later(self, top: str) -> bool:
        """Return whether a top-level module would come from the directories of releases."""
        if is_taken(top):
            return False
        homes = (*self.homes, *Release.newest)
        known = sys.modules.get(top)
        if known is not None:
            places = _places(known)
        else:
            found = PathFinder.find_spec(top, [entry for entry in sys.path if under(real(entry), homes)])
            return found is not None
        return bool(places) and all(under(place, homes) for place in places)

    def _too_late(self, name: str) -> ImportError:
        what = f"{name} is of another release by now, and this session began before the reload"
        return ImportError(f"{what}; import it where the file begins", name=name)


def _is_elsewhere(name: str, modules: Mapping[str, ModuleType]) -> bool:
    """Return whether a module is in a part of a namespace package that does not belong to the release."""
    parent = name.rpartition(".")[0]
    return bool(parent) and parent not in modules and parent in sys.modules


def _import_of_own_release(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Import as Python does, except for modules that were set aside."""
    release: Release | None = globals.get(_MARK) if globals is not None else None
    if release is not None and globals is not None:
        package = globals.get("__package__") or ""
        base = package.rsplit(".", level - 1)[0] if level else ""
        whole = f"{base}.{name}".strip(".") if level else name
        found = release.own(whole, fromlist or (), relative=bool(level))
        if found is not None:
            return found
    return _import(name, globals, locals, fromlist or (), level)


def is_between(code: object) -> bool:
    """Return whether a frame's code is ours between an ``import`` statement and what it imports."""
    return code is _import_of_own_release.__code__
