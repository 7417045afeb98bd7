"""Loading a filter at the start and at each reload: a reload replaces all of a release, or nothing.

A reload imports in a thread of its own, where no event loop runs, so that mail goes on meanwhile.  Some
objects that a filter makes at import belong to the importing thread, as signal handlers and sqlite3's connections do, and a
change of directory concerns the whole process: such a filter is imported in the serving thread, between two events.
"""

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

from aiomilter._cli import logs
from aiomilter._cli.beside import look_in
from aiomilter._cli.release import INSTALLED, Release, home_of, real, under
from aiomilter._cli.target import Target, from_source, load, module_name, names_of
from aiomilter._cli.terminal import without_prompts
from aiomilter._cli.trouble import Trouble
from aiomilter.daemon import signals_kept
from aiomilter.server import Factory

__all__ = ["Loader"]

_OF_A_THREAD: Final = ("main thread", "event loop in thread")
"""In what Python says of that which works in the main thread only."""


class Loader:
    """Loads TARGET for a daemon, at its start and at each reload.

    Args:
        target: Where the filter is.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        # Of `python -m` the directory it was started in, without links.
        sys.path[:] = [target.directory if entry == target.led_to else entry for entry in sys.path]
        self._started_with = sys.path[:]
        # Directories on the path as links had them, by where these led when the filter was loaded.
        self._links: dict[str, str] = {}
        self._homes: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        # A thread that imports; what it does is of no interest once that was given up.
        self._importing: asyncio.Future[Factory] | None = None

    def load(self, *, later: bool = False) -> Factory:
        """Load it for the first time in this process.

        Args:
            later: Whether that is long after the start of the command, as for a worker that replaces another.

        Raises:
            Trouble: That failed.
        """
        if self._target.file is not None:
            self._names = (module_name(self._target.file),)
        with contextlib.ExitStack() as stack:
            if later:
                stack.enter_context(from_source())
                stack.enter_context(without_prompts())
                with contextlib.suppress(OSError):
                    os.chdir(self._target.directory)
            self._follow_links()
            factory = load(self._target)
        self._found_in(self._homes_now())
        return factory

    @asynccontextmanager
    async def reload(self, target: Target) -> AsyncIterator[Factory]:
        """Load its present code; if the block fails, modules, path, directory and logging are as they were.

        Reloaded are the target and its neighbours: modules and packages in its directory and below, or
        for ``package.module`` in the directory of the package; where a link was switched, those of the directory that it led
        to, too.  Of installed packages (in ``site-packages``) only the one that is named; extension modules,
        Python's own and aiomilter are never reloaded: for these restart the process.

        Args:
            target: The filter to load, which may be another one.

        Raises:
            Trouble: It names no factory now.
        """
        if self._importing is not None:
            await asyncio.wait((self._importing,))
        # Old releases are reference cycles that hold all their modules.
        gc.collect()
        before, self._target = self._target, target
        attempt = _Attempt(self._target, self._homes, self._names)
        path, links = self._fresh_path(), self._links
        try:
            homes = self._begin(attempt, path)
            try:
                # Where it has changed the directory, it will again, and what it opens meanwhile is in that.
                factory = await (_between_events if attempt.moved else self._in_thread)(attempt)
            except _OfAThread:
                attempt.undo()
                self._begin(attempt, path)
                factory = await _between_events(attempt)
            yield factory
        except BaseException:
            attempt.undo()
            self._links, self._target = links, before
            if self._importing is None:
                attempt.close()
            raise
        attempt.end()
        if self._target.file is not None and self._target.file != before.file:
            self._names = names_of(self._target.file)
        self._found_in(homes)

    def _begin(self, attempt: "_Attempt", path: list[str]) -> tuple[str, ...]:
        """Have all be as a start has it, and return where the new release is."""
        attempt.begin(path)
        self._follow_links()
        homes = self._homes_now()
        attempt.make_way(homes)
        return homes

    async def _in_thread(self, attempt: "_Attempt") -> Factory:
        """Import in a thread; if that is given up, what it still does is undone at its end.

        Raises:
            _OfAThread: What it has imported may be of no use elsewhere.
        """
        loop = asyncio.get_running_loop()
        importing: asyncio.Future[Factory] = loop.create_future()

        def work() -> None:
            def load_and_look() -> Factory:
                factory = attempt.load()
                if attempt.is_of_this_thread():
                    raise _OfAThread
                return factory

            end = _outcome(load_and_look, importing)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(end)

        def ended(_: object) -> None:
            self._importing = None

        def abandoned(_: object) -> None:
            importing.exception()
            attempt.undo()
            attempt.close()

        self._importing = importing
        importing.add_done_callback(ended)
        threading.Thread(target=work, name="milter-reload", daemon=True).start()
        try:
            await asyncio.wait((importing,))
        except asyncio.CancelledError:
            importing.add_done_callback(abandoned)
            raise
        return importing.result()

    # ------------------------------------------------------------------------------------------------- where it is

    def _follow_links(self) -> None:
        """Resolve the links of the path as they are now, so that late imports are of the same release."""
        self._links = {}
        for position, entry in enumerate(sys.path):
            place = real(entry) if entry else ""
            if place != entry and under(place, (os.sep,)) and os.path.isdir(place):
                self._links[place] = entry
                sys.path[position] = place

    def _fresh_path(self) -> list[str]:
        """Return the path for another release: links as they were given, and nothing that the one before has put there."""
        path = []
        for entry in sys.path:
            if entry in self._links:
                path.append(self._links[entry])
            elif entry in self._started_with or not under(real(entry), self._homes):
                path.append(entry)
        return path

    def _homes_now(self) -> tuple[str, ...]:
        """Return the directories of the target's filters, unless packages are installed there."""
        return tuple(dict.fromkeys(home for each in self._target.filters for home in self._homes_of(each)))

    def _homes_of(self, target: Target) -> tuple[str, ...]:
        if target.file is not None:
            return (real(os.path.dirname(real(str(target.file)))),)
        top = target.place.partition(".")[0]
        home = home_of(sys.modules[top]) if top in sys.modules else self._found(top)
        return (home,) if home is not None and os.path.basename(home) not in INSTALLED else ()

    def _found(self, top: str) -> str | None:
        look_in(real(self._target.home))
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
        return os.path.dirname(real(places[0])) if places[0] else None

    def _found_in(self, homes: tuple[str, ...]) -> None:
        self._homes = homes
        if self._target.members:
            of_files = [name for each in self._target.members if each.file is not None for name in names_of(each.file)]
            modules = [each for each in self._target.members if each.file is None and not self._homes_of(each)]
            self._names = (*of_files, *(each.place.partition(".")[0] for each in modules))
        elif self._target.file is None:
            self._names = () if homes else (self._target.place.partition(".")[0],)
        sys.path[:] = dict.fromkeys(sys.path)  # what a filter puts there it puts there at every reload


class _OfAThread(Exception):
    """What a filter does while it is imported concerns the thread that imports it."""


class _Attempt:
    """A reload that may fail.

    Args:
        target: What is loaded.
        homes: Directories of the release that serves.
        names: Its modules that may be elsewhere.
    """

    def __init__(self, target: Target, homes: tuple[str, ...], names: tuple[str, ...]) -> None:
        self._homes = homes
        self._names = names
        self._old = Release(homes, names)
        self._in_the_way: Release | None = None
        self._path = sys.path[:]
        self._logging = logs.Kept()
        self._directory = _held_directory()
        self._target = target
        self.moved = not _is_current(target.directory)
        """Whether the process is no longer in the directory it was started in."""

    def begin(self, path: list[str]) -> None:
        """Restore the state from before the serving release was loaded."""
        self._old.set_aside()
        sys.path[:] = path
        if self.moved:
            with contextlib.suppress(OSError):  # it is no longer there
                os.chdir(self._target.directory)
        importlib.invalidate_caches()

    def make_way(self, homes: tuple[str, ...]) -> None:
        """Set aside the modules that were imported from the new release's directories."""
        self._in_the_way = Release(homes, ())
        self._in_the_way.set_aside()
        Release.newest = homes
        self._homes = tuple(dict.fromkeys((*self._homes, *homes)))

    def load(self) -> Factory:
        """Run the user's code."""
        with from_source(), without_prompts():
            return load(self._target)

    def is_of_this_thread(self) -> bool:
        """Return whether modules hold what other threads cannot use, or do not see."""
        sqlite3 = sys.modules.get("sqlite3")
        connections = (sqlite3.Connection, sqlite3.Cursor) if sqlite3 is not None else ()
        return any(
            isinstance(value, connections) or (isinstance(value, threading.local) and bool(vars(value)))
            for module in Release(self._homes, self._names).modules.values()
            for value in list(vars(module).values())
        )

    def undo(self) -> None:
        """Put everything back."""
        failed = Release(self._homes, self._names)
        Release.newest = self._old.homes
        if self._in_the_way is not None:
            self._in_the_way.put_back(failed)
        self._old.put_back(*(() if self._in_the_way is not None else (failed,)))
        sys.path[:] = self._path
        self._logging.put_back()
        if self._directory is not None:
            with contextlib.suppress(OSError):
                os.fchdir(self._directory)

    def end(self) -> None:
        """Forget what was."""
        for entry in [
            entry for entry in sys.path_importer_cache if entry not in sys.path and under(entry, self._homes)
        ]:
            if not any(entry.startswith(os.path.join(each, "")) for each in sys.path):
                sys.path_importer_cache.pop(entry, None)
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None


def _held_directory() -> int | None:
    try:
        return os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it may not be read
        return None


def _is_current(directory: str) -> bool:
    try:
        return os.path.samefile(directory, os.curdir)
    except OSError:
        return False


# --------------------------------------------------------------------------------------------------- running the code


def _outcome(action: Callable[[], Factory], future: "asyncio.Future[Factory]") -> Callable[[], None]:
    """Run the user's code; return what hands its outcome over.

    Whatever it raises is its failure: a Task that raises KeyboardInterrupt would end the event loop.
    """
    error: Exception
    try:
        factory = action()
    except Trouble as trouble:
        of_a_thread = any(what in str(trouble) for what in _OF_A_THREAD)
        error = _OfAThread() if of_a_thread and threading.current_thread() is not threading.main_thread() else trouble
    except Exception as raised:  # noqa: BLE001 - it is handed over
        error = raised
    except BaseException as raised:  # noqa: BLE001 - it is handed over
        error = Trouble(f"the filter cannot be imported: it raised {type(raised).__name__}")
    else:
        return lambda: None if future.done() else future.set_result(factory)
    return lambda: None if future.done() else future.set_exception(error)


async def _between_events(attempt: _Attempt) -> Factory:
    """Import in the thread that serves, as at a start: no loop runs there, as far as the filter can see."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Factory] = loop.create_future()

    def work() -> None:
        if done.cancelled():
            return
        with signals_kept(), _no_loop():
            end = _outcome(attempt.load, done)
        end()

    loop.call_soon(work)  # not in a Task, of which there is one at a time
    return await done


@contextlib.contextmanager
def _no_loop() -> Iterator[None]:
    """Have no event loop run in this thread, so that ``asyncio.run`` can make one."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
