"""Finding TARGET: a factory of filters, in a file or in a module."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from importlib.machinery import SourceFileLoader
from itertools import chain, count
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from aiomilter._cli.beside import in_the_way, is_taken, look_in, whose
from aiomilter._cli.places import absolute, started_in
from aiomilter._cli.release import is_between, real
from aiomilter._cli.trouble import MISSING, USAGE, Trouble, Troubles
from aiomilter._config.faults import Fault, Faults
from aiomilter.exceptions import ResolverError, StoreError
from aiomilter.handler import Milter
from aiomilter.server import Factory

if TYPE_CHECKING:
    from aiomilter._config.filter_settings import FilterSettings

__all__ = [
    "Target",
    "from_source",
    "load",
    "module_name",
    "names_of",
    "own_frames",
    "own_traceback",
    "start_trouble",
]

_PACKAGE: Final = Path(__file__).parent.parent
_STDLIB: Final = Path(sysconfig.get_path("stdlib"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a filter is written, wherever the process goes later.

    Args:
        text: As the user wrote it.
        place: The file or module in it.
        attribute: The name in that; None if none was given.
        file: The path of the file, absolute, links kept; None for a module.
        directory: Where the command was started: modules are looked for there, too.
        led_to: Where that led then, without links.
        home: Where a module is looked for: that directory, or the one of the configuration file that names the target.
        settings: What that file sets for the filter; None without such a file.
        members: The filters of a composition, in order; none for one filter.
        member: As a member of a composition: the arguments of :class:`aiomilter.compose.Member`.
        ready: The settings of a ready filter, made; None for a filter of the user's.
        site: Returns what ready filters stand on, given lists of faults and warnings; None without one.
    """

    text: str
    place: str
    attribute: str | None
    file: Path | None
    directory: str
    led_to: str
    home: str
    settings: "FilterSettings | None" = None
    members: "tuple[Target, ...]" = ()
    member: Mapping[str, Any] = field(default_factory=dict)
    ready: Any = None
    site: "Callable[[list[Fault], list[str]], Any] | None" = None

    @property
    def filters(self) -> "tuple[Target, ...]":
        """The targets of its filters."""
        return self.members or (self,)

    @classmethod
    def composed(
        cls,
        text: str,
        members: "Sequence[Target]",
        directory: str,
        home: str,
        site: "Callable[[list[Fault], list[str]], Any]",
    ) -> Self:
        """Return several targets as one.

        Args:
            text: What errors call it.
            members: The targets, in order.
            directory: As for :meth:`named`.
            home: As for :meth:`named`.
            site: As the class has it.
        """
        return cls(text, text, None, None, directory, real(directory), home, members=tuple(members), site=site)

    @classmethod
    def named(
        cls,
        text: str,
        *,
        directory: str | None = None,
        home: str | None = None,
        settings: "FilterSettings | None" = None,
        member: Mapping[str, Any] = MappingProxyType({}),
        ready: Any = None,
        site: "Callable[[list[Fault], list[str]], Any] | None" = None,
    ) -> Self:
        """Find TARGET.

        Args:
            text: ``path/to/file.py``, ``path/to/file.py:attribute``, ``module`` or ``module:attribute``.
            directory: Where the command was started; None for the current directory.
            home: Where the target is, if that is another one.
            settings: As the class has them.
            member: As the class has it.
            ready: As the class has it.
            site: As the class has it.

        Raises:
            Trouble: It names nothing.
        """
        here = started_in() if directory is None else directory
        home = here if home is None else home
        place, attribute = _split(text, home)
        is_file = place.endswith(".py") or "/" in place
        file = Path(absolute(place, home)) if is_file else None
        return cls(text, place, attribute, file, here, real(here), home, settings, (), member, ready, site)


def load(target: Target) -> Factory:
    """Return the factory that TARGET names.

    Raises:
        Trouble: It names none.
    """
    modules: dict[Path, ModuleType] = {}
    if not target.members:
        loaded: Any = _loaded(target, modules)
        if isinstance(loaded, type) or not hasattr(loaded, "check") or target.site is None:
            return cast(Factory, loaded)
        site = _site(target)
        _check_files(loaded, target, site)
        return cast(Factory, loaded.bind(site))
    from aiomilter.compose import Member, compose

    members: list[Member] = []
    mistakes: list[str] = []
    site = _site(target)
    for each in target.members:
        try:
            members.append(Member(_loaded(each, modules), **each.member))
            if each.ready is not None:
                _check_files(each.ready, each, site)
        except Troubles as troubles:
            mistakes += troubles.lines
    if mistakes:
        raise Troubles(mistakes)
    return cast(Factory, compose(*members, site=site))


def _check_files(ready: Any, target: Target, site: Any) -> None:
    """Look whether a ready filter finds its files."""
    try:
        ready.check(site)
    except ValueError as error:
        name, _, what = str(error).partition(": ")
        settings = target.settings
        line = (
            f"{target.text}: {error}"
            if settings is None
            else str(settings.document.fault((*settings.path, name), what))
        )
        raise Troubles([line], status=USAGE) from None


def _site(target: Target) -> Any:
    """Return what ready filters stand on."""
    faults: list[Fault] = []
    site = None if target.site is None else target.site(faults, [])
    if faults:
        raise Troubles(Faults(faults).lines(), status=USAGE)
    return site


def _loaded(target: Target, modules: dict[Path, ModuleType]) -> Factory:
    """Return the factory of one filter.

    Args:
        target: Where it is.
        modules: Those of the files that were loaded for filters before it: a file is loaded once.
    """
    if target.ready is not None:
        return cast(Factory, target.ready)
    place, attribute = target.place, target.attribute
    if target.file is None:
        module = _from_module(place, target.home)
    elif (loaded := modules.get(target.file)) is not None:
        module = loaded
    else:
        module = modules[target.file] = _from_file(place, target.file)
    if attribute is None:
        return _only_filter(module, place, target.settings)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise Trouble(f"{place} has no {attribute!r}; {_offers(module)}")
        found = getattr(found, name)
    return _checked(found, target.text, target.settings)


@contextlib.contextmanager
def from_source() -> Iterator[None]:
    """Import from source alone: stale compiled code is detected by times in seconds, and a quick edit is faster."""
    before = sys.pycache_prefix, sys.dont_write_bytecode
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
    try:
        yield
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = before


def _split(target: str, home: str) -> tuple[str, str | None]:
    if os.path.exists(os.path.join(home, target)):
        return target, None
    place, colon, attribute = target.rpartition(":")
    if not colon:
        return target, None
    if not place or not attribute:
        raise Trouble(f"{target!r} names no filter; write FILE.py, FILE.py:NAME or MODULE:NAME")
    return place, attribute


# ------------------------------------------------------------------------------------------------------------- modules


def module_name(file: Path) -> str:
    """Return the name of the module that a file is loaded as."""
    if file.stem.isidentifier() and file.stem not in sys.modules and not is_taken(file.stem):
        return file.stem
    name = f"_milter_{file.stem}"
    others = (f"{name}_{number}" for number in count(2))  # files of one name, in several directories
    return next(each for each in chain((name,), others) if each not in sys.modules or _is_of(each, file))


def names_of(file: Path) -> tuple[str, ...]:
    """Return the name of the module that a file was loaded as."""
    own = f"_milter_{file.stem}"
    return tuple(
        name for name in list(sys.modules) if (name == file.stem or name.startswith(own)) and _is_of(name, file)
    )


def _is_of(name: str, file: Path) -> bool:
    return getattr(sys.modules.get(name), "__file__", "") == str(file.parent.resolve() / file.name)


def _from_file(place: str, file: Path) -> ModuleType:
    shown = str(Path(place))
    if not os.path.exists(file):
        what = f"there is no file {shown!r}; expected FILE.py, FILE.py:NAME or MODULE:NAME"
        raise Trouble(what, status=MISSING)
    if file.is_dir():
        raise _directory_trouble(shown)
    # As with `python FILE.py`: neighbours of the file can be imported.
    look_in(str(file.resolve().parent))
    name = module_name(file)
    # Not through a link to the directory: the link may be switched later.
    path = file.parent.resolve() / file.name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Trouble(f"{shown!r} is not a Python file; its name has to end in .py")
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = _AsScript(name, spec.loader.path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    _import(shown, path, lambda: loader.exec_module(module))
    return module


class _AsScript(SourceFileLoader):
    """Loads a file from its source alone, as ``python FILE.py`` does: see :func:`from_source`."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _directory_trouble(place: str) -> Trouble:
    what = f"{place!r} is a directory; name a file in it, as in {Path(place) / 'filter.py'}"
    return Trouble(what, status=MISSING)


def _from_module(name: str, directory: str) -> ModuleType:
    here = Path(directory).resolve()
    look_in(str(here))
    if not all(part.isidentifier() for part in name.split(".")):
        if (here / name).is_dir():
            raise _directory_trouble(name)
        raise Trouble(f"{name!r} is not a module; write FILE.py, FILE.py:NAME or MODULE:NAME")
    if is_taken(name) and (here / f"{name}.py").exists():
        raise Trouble(f"{name!r} is {whose(name)} module; for the file here write its path, as in ./{name}.py")
    try:
        _import(name, here / name, lambda: importlib.import_module(name))
    except ModuleNotFoundError as error:
        what = f"there is no module {error.name!r}; for a file write its path, as in ./{name}.py"
        raise Trouble(what, status=MISSING) from None
    return sys.modules[name]


def _import(place: str, path: Path, action: Callable[[], object]) -> None:
    """Run the user's code; what it raises is shown from its own first line on.

    Args:
        place: What it is called.
        path: Where it is; of a module, in the directory where that is looked for.
        action: Runs it.
    """
    try:
        action()
    except SyntaxError as error:
        # A text that is none at all, as one with a NUL, has no line.
        at = f"{error.filename}:{error.lineno}" if error.filename is not None else place
        raise Trouble(f"{at}: {error.msg}") from None
    except OSError as error:
        if error.filename is not None and str(error.filename) in (place, str(path)):
            raise Trouble(f"{place!r} cannot be read: {error.strerror}", status=MISSING) from None
        raise _user_trouble(place, path, error) from None
    except SystemExit:
        raise Trouble(
            f"{place} ended the program while it was imported; put that under if __name__ == '__main__':"
        ) from None
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise
        raise _user_trouble(place, path, error) from None
    except Exception as error:  # noqa: BLE001  # the user's code; a traceback is what it gets
        raise _user_trouble(place, path, error) from None


def _user_trouble(place: str, path: Path, error: Exception) -> Trouble:
    what = f"{place} cannot be imported: {type(error).__name__}: {error}"
    if (hint := in_the_way(error, path)) is not None:
        return Trouble(f"{what}; {hint}")
    return Trouble(what, details=own_traceback(error))


def own_traceback(error: BaseException) -> str:
    """Return a traceback of the user's code, see :func:`own_frames`."""
    return "".join(traceback.format_exception(type(error), error, own_frames(error)))


def own_frames(error: BaseException) -> TracebackType | None:
    """Return the frames of an exception, from the user's first line to the last.

    Frames before the first that is neither ours nor Python's own are left out, and those that the user's last line led to in
    our code; so are ours between an ``import`` and the imported module, as Python does with its own.
    """
    frames = list(_each(error.__traceback__))
    users = [number for number, frame in enumerate(frames) if not _is_ours(frame.tb_frame.f_code.co_filename)]
    if not users:
        return None
    inside = frames[users[-1] + 1 :]
    end = users[-1] + 1 if inside and _is_in_package(inside[0].tb_frame.f_code.co_filename) else len(frames)
    own = None
    for frame in reversed(frames[users[0] : end]):
        if not is_between(frame.tb_frame.f_code):
            own = TracebackType(own, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return own


def _each(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    if _is_in_package(filename) or filename.startswith("<frozen "):
        return True
    return path.is_relative_to(_STDLIB) and "site-packages" not in path.parts


def _is_in_package(filename: str) -> bool:
    return Path(filename).is_relative_to(_PACKAGE)


def start_trouble(target: str, error: Exception) -> Trouble:
    """Return the error message for a filter that cannot be made."""
    if isinstance(error, TypeError) and str(error).startswith("factory: "):
        return Trouble(f"{target}: {str(error).removeprefix('factory: ')}")
    if isinstance(error, TypeError | ValueError) and str(error).startswith(("compose: ", "member: ")):
        # Where in our code it was found out does not matter either.
        return Trouble(f"{target}: {str(error).partition(': ')[2]}")
    if isinstance(error, ResolverError | StoreError):
        # Of the system's resolv.conf, or of a store: where in the code it was found does not matter.
        return Trouble(f"{target} cannot be started: {error}")
    return Trouble(f"{target} cannot be started: {type(error).__name__}: {error}", details=own_traceback(error))


# ------------------------------------------------------------------------------------------------------------- filters


def _only_filter(module: ModuleType, place: str, settings: "FilterSettings | None") -> Factory:
    if hasattr(module, "milter"):
        return _checked(module.milter, f"{place}:milter", settings)
    found = _filters(module)
    ready = [cls for cls in found if settings is not None or _needs_nothing(cls)]
    if len(ready) == 1:
        return _checked(ready[0], f"{place}:{ready[0].__name__}", settings)
    if ready:
        names = ", ".join(cls.__name__ for cls in ready)
        raise Trouble(f"{place} has several filters ({names}); name one, as in {place}:{ready[0].__name__}")
    if found:
        names = ", ".join(cls.__name__ for cls in found)
        needs = "needs" if len(found) == 1 else "need"
        raise Trouble(f"{place}: {names} {needs} arguments; write a function milter() that makes one")
    raise Trouble(f"{place} has no filter; expected a function 'milter' or one subclass of aiomilter.Milter")


def _filters(module: ModuleType) -> list[type[Milter]]:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Milter) and value.__module__ == module.__name__
    ]
    return list(dict.fromkeys(classes))


def _offers(module: ModuleType) -> str:
    names = [cls.__name__ for cls in _filters(module)]
    names += ["milter"] if hasattr(module, "milter") else []
    return f"it has {', '.join(names)}" if names else "nor any other subclass of aiomilter.Milter"


def _needs_nothing(factory: Callable[..., object]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    except ValueError:
        pass  # a callable without a signature
    return True


def _made(cls: type, settings: "FilterSettings | None") -> object:
    """Return what a class of settings amounts to, which is a factory itself."""
    from aiomilter._cli.given_settings import settings_of_flags

    try:
        return (settings or settings_of_flags((), "", [])).made(cls)
    except Faults as error:
        raise Troubles(error.lines(), status=USAGE) from None


def _checked(found: object, target: str, settings: "FilterSettings | None") -> Factory:
    """Return ``found`` if it can be a factory, with its settings if a file has set some.

    Raises:
        Trouble: It cannot.
    """
    if isinstance(found, Milter):
        name = type(found).__name__
        raise Trouble(f"{target} is one filter, but each connection needs its own; name the class {name} instead")
    if isinstance(found, type) and is_dataclass(found) and hasattr(found, "bind"):
        return cast(Factory, _made(found, settings))
    if isinstance(found, type) and not issubclass(found, Milter) and not hasattr(found, "wants"):
        raise Trouble(f"{target} is a class, but not a subclass of aiomilter.Milter")
    if not callable(found):
        raise Trouble(
            f"{target} is of type {type(found).__name__}; expected a subclass of aiomilter.Milter or a factory"
        )
    if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
        raise Trouble(
            f"{target} is an async function; make it an @asynccontextmanager that yields a factory, or a plain function"
        )
    if settings is not None:
        try:
            found = settings.bound(found)
        except Faults as error:
            raise Troubles(error.lines()) from None
        except Exception as error:  # noqa: BLE001  # of the settings' own checks; a traceback is what it gets
            raise start_trouble(target, error) from None
    if not _needs_nothing(found):
        raise Trouble(f"{target} needs arguments; write a function milter() that gives them")
    return cast(Factory, found)
