"""Child processes, which import the same modules as the program.

A forked child has them already.  A child that ``multiprocessing`` starts by ``spawn`` or ``forkserver`` is a new Python, which
gets the parent's path and main module first; here it installs our modules before these.  Any other Python that the program
starts, as ``[sys.executable, "other.py"]``, can only be reached by the environment: a directory of modules that look for
pymilter, and give way to it if it is installed.
"""

import importlib.machinery
import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

__all__ = ["SPAWN", "call_in_children", "find_spawn", "leave_out", "pass_on", "prepare"]

SPAWN: Final = "multiprocessing.spawn"
_ELSEWHERE: Final = Path(__file__).parent / "_elsewhere"
_HOME: Final = str(Path(__file__).parents[2])
_FIRST: Final = """\
import sys
sys.path[:] = ours
try:
    from importlib import import_module
    calls = [(getattr(import_module(module), name), *how) for module, name, *how in calls]
except (ImportError, SyntaxError):
    calls = []  # a Python without aiomilter, or an old one: set_executable() may have named any
sys.path[:] = path
for call, args, keywords in calls:
    call(*args, **keywords)
"""
"""Code that a child runs as it unpickles its instructions: a text, since our modules need not be on its path yet."""


class _Call(NamedTuple):
    """A function of a module, and its arguments."""

    module: str
    name: str
    args: tuple[Any, ...]
    keywords: dict[str, Any]


_calls: Final[dict[tuple[str, str], _Call]] = {}
_left_out: Final[set[str]] = set()


def call_in_children(function: Callable[..., object], *args: Any, **keywords: Any) -> None:
    """Have each child call a function of a module before it imports the program; the last call of one counts.

    Args:
        function: What to call.
        args: Its arguments, which can be pickled.
        keywords: Its keyword arguments, which can be pickled.
    """
    call = _Call(function.__module__, function.__qualname__, args, keywords)
    _calls[call.module, call.name] = call


def leave_out(directory: str) -> None:
    """Keep a directory off a child's path while it imports aiomilter."""
    _left_out.add(directory)


class _Beginning:
    """Runs code as it is unpickled."""

    def __init__(self, path: Sequence[str]) -> None:
        self._path = list(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        ours = [*(entry for entry in self._path if entry not in _left_out), _HOME]
        calls = [tuple(call) for call in _calls.values()]
        return exec, (_FIRST, {"path": self._path, "ours": ours, "calls": calls})


def prepare() -> None:
    """Put our calls first in the instructions of ``multiprocessing`` to a child, once a program imports it."""
    module = sys.modules.get(SPAWN)
    if module is not None:
        _change(module)


def _change(module: ModuleType) -> None:
    original = module.get_preparation_data
    if getattr(original, "__module__", None) == __name__:
        return

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        if sys._getframe(1).f_globals.get("__name__") == "multiprocessing.forkserver":
            # Written into a command line, where nothing can be called: the server must not import the program yet.
            data.pop("init_main_from_path", None)
            return data
        return {"aiomilter": _Beginning(data.get("sys_path", sys.path)), **data}

    module.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]  # it was there


def find_spawn(path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Return where the module is that writes the instructions for children; it is changed as it is imported."""
    spec = importlib.machinery.PathFinder.find_spec(SPAWN, path)
    if spec is not None and spec.loader is not None:
        spec.loader = _Changing(spec.loader)
    return spec


class _Changing(Loader):
    """Loads a module as another loader does, then changes it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Return the module of the other loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, and leave no trace of ours except the function."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _change(module)


def pass_on(environment: MutableMapping[str, str]) -> None:
    """Have any Python that is started with an environment find our modules, unless pymilter is installed.

    Args:
        environment: Our directory is added at the end of its ``PYTHONPATH``.
    """
    entries = [environment.get("PYTHONPATH", ""), str(_ELSEWHERE)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
