"""Programs written for pymilter, run without libmilter: ``import Milter`` gives them modules of this package.

``aiomilter compat SCRIPT`` runs such a program unchanged; one that is started otherwise calls :func:`install` before its first
``import Milter``.  In reading order:

- ``names``: which module of ours each import gives;
- ``lowlevel`` (``milter``), ``callbacks``, ``context``: libmilter's interface, the callbacks that a program registers, and the
  context that each of them gets;
- ``classic`` (``Milter``), ``base``, ``decorators``, ``objects``: filters as classes, on top of it;
- ``modules``: pymilter's utilities (``Milter.utils`` and others, ``mime``), with the HTML filters of ``scripts``;
- ``handler``, ``answering``: one connection, how callbacks are called in it, and what their answers mean to the MTA;
- ``threads``: the thread of each connection; ``serving``: their server; ``service``, ``listening``: the server of a program,
  and its socket;
- ``uncaught``, ``children``: what Python does with uncaught exceptions, and with child processes.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Unpack

from aiomilter.compat import children
from aiomilter.compat.names import MODULES

if TYPE_CHECKING:
    from aiomilter.options import ServeOptions
    from aiomilter.server import Server

__all__ = ["MODULES", "install", "limit", "serve"]


def install() -> None:
    """Have ``import Milter``, ``milter``, ``mime`` and ``Milter.*`` give the modules of :data:`MODULES`, each when needed.

    If pymilter is installed, this process no longer sees it, except for modules that were imported before.  The same holds for
    child processes that ``multiprocessing`` starts from here on, in any way.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    children.call_in_children(install)
    children.prepare()


def limit(*, threads: int | None = None, drain_timeout: float | None = None, any_octets: bool = False) -> None:
    """Set options that programs have no words for; they hold for all servers of this process and its children from now on.

    Args:
        threads: The most callbacks that run at once; None for as many as there are connections.
        drain_timeout: Seconds that open SMTP sessions have at the end; None for the default of :func:`aiomilter.serve`.
        any_octets: Whether host names, header names and unknown commands may hold octets that are not UTF-8.  If so, a program
            gets a surrogate for each such octet, and can send them; otherwise the answer is that to an exception, and the
            callback is not called.
    """
    from aiomilter.compat.context import Text
    from aiomilter.compat.service import Limits

    Text.errors = "surrogateescape" if any_octets else "strict"
    Limits.threads, Limits.drain_timeout = threads, drain_timeout
    children.call_in_children(limit, threads=threads, drain_timeout=drain_timeout, any_octets=any_octets)


def serve(
    factory: Callable[[], Any],
    *sockets: str,
    threads: int | None = None,
    **options: "Unpack[ServeOptions]",
) -> "Server":
    """Serve a classic filter within a running event loop: ``async with compat.serve(MyFilter, "inet:8890") as server: ...``.

    Nothing global is touched, so several may be served side by side.

    Args:
        factory: Makes the object of a connection; usually a subclass of ``Milter.Base``.
        sockets: Where to listen, as for :func:`aiomilter.serve`.
        threads: The most callbacks that run at once; None for as many as there are connections.
        options: Those of :func:`aiomilter.serve`, except ``ssl``.  ``name`` is also in the replies to exceptions; the default
            there is "pymilter".  Failures are answered as pymilter answers them.  Limits of content are higher by default than
            there, since the MTA has its own.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint.
        TypeError: An option does not exist or has a value of the wrong type; or ``ssl`` was given, which the thread of a
            connection cannot read.
        OSError: A socket cannot be listened on; on entering the block.
    """
    from aiomilter.compat.objects import callbacks_of, never_blocks
    from aiomilter.compat.serving import classic_server
    from aiomilter.options import Options

    Options.given_to(serve, options)
    if options.get("ssl") is not None:
        raise TypeError("ssl: a classic filter speaks no TLS; put a proxy in front of it")
    callbacks = callbacks_of(factory, options.get("name") or "pymilter")
    return classic_server(callbacks, *sockets, inline=lambda: never_blocks(factory), threads=threads, **options)


class _Finder(MetaPathFinder):
    """Finds the modules that programs import under pymilter's names, before any other finder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is; None if it is not one of ours."""
        if fullname == children.SPAWN:
            return children.find_spawn(path)
        name = MODULES.get(fullname)
        if name is None:
            return None
        is_package = fullname == "Milter"
        return importlib.util.spec_from_loader(fullname, _Loader(name), is_package=is_package)


class _Loader(Loader):
    """Gives a module of ours under another name: the same object, so that ours sees the names that a program sets."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module, which is imported if need be, and rename it and its classes as the program knows them.

        ``from Milter import utils`` looks for a submodule below the package's own ``__name__``, and a class is printed and
        pickled with the name of its module.
        """
        module = importlib.import_module(self._name)
        for found in vars(module).values():
            if isinstance(found, type) and found.__module__ == self._name:
                found.__module__ = spec.name
        module.__name__ = spec.name
        module.__package__ = spec.parent
        if spec.submodule_search_locations is not None:
            module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Call its hook, if it has one; the module itself has run when it was imported under its own name."""
        imported = getattr(module, "_imported", None)
        if imported is not None:
            imported()
