"""Programs written for pymilter: ``import Milter`` and its like resolve to modules of this package, without libmilter.

``aiomilter compat SCRIPT`` runs a program so; one that runs itself calls :func:`install` before its first ``import Milter``.
Children that it starts by ``multiprocessing`` import the same (:mod:`aiomilter.compat.children`).
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

    Where pymilter is installed it stays so, unseen by this process; what of it was imported before stays imported.  Children
    that ``multiprocessing`` starts from here on, in any way, have it so from their beginning.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    children.call_in_children(install)
    children.prepare()


def limit(*, threads: int | None = None, drain_timeout: float | None = None, any_octets: bool = False) -> None:
    """Set what a program cannot say itself, for all that it and its children serve from now on.

    Args:
        threads: Callbacks at work at once; None for as many as there are connections.
        drain_timeout: Seconds for open SMTP sessions at the end; None for the default of :func:`aiomilter.serve`.
        any_octets: Whether names of hosts and headers and unknown commands that are no UTF-8 reach a program, with a surrogate
            for each odd octet, and such text can be sent; otherwise the first are exceptions before the callback is called.
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
    """Serve a classic filter in a service that runs already: ``async with compat.serve(MyFilter, "inet:8890") as server: ...``.

    Nothing global is touched, so several may be served side by side.

    Args:
        factory: Makes the object of a connection, a subclass of ``Milter.Base`` above all.
        sockets: Where to listen, as for :func:`aiomilter.serve`.
        threads: Callbacks at work at once; None for as many as there are connections.
        options: Those of :func:`aiomilter.serve` but ``ssl``.  ``name`` is also in the replies to exceptions, which have
            "pymilter" without one.  The answer to failures is the classic one; limits of content are
            higher than there unless given, since the MTA has them.

    Raises:
        AddressError: A text of ``sockets`` names no endpoint.
        TypeError: There is no such option, or a value is not of its type.  Or ``ssl`` was given: a thread that owns its
            socket reads no TLS.
        OSError: A socket cannot be listened on; on entering the block.
    """
    from aiomilter.compat.objects import callbacks_of, never_blocks
    from aiomilter.compat.threads import classic_server
    from aiomilter.options import Options

    Options.given_to(serve, options)
    if options.get("ssl") is not None:
        raise TypeError("ssl: a classic filter speaks no TLS; put a proxy in front of it")
    callbacks = callbacks_of(factory, options.get("name") or "pymilter")
    return classic_server(callbacks, *sockets, inline=lambda: never_blocks(factory), threads=threads, **options)


class _Finder(MetaPathFinder):
    """Finds what programs import under pymilter's names, before anybody else does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is; None for those that are none of ours."""
        if fullname == children.SPAWN:
            return children.find_spawn(path)
        name = MODULES.get(fullname)
        if name is None:
            return None
        is_package = fullname == "Milter"
        return importlib.util.spec_from_loader(fullname, _Loader(name), is_package=is_package)


class _Loader(Loader):
    """Gives a module of ours under another name: the very object, so that what a program sets in it is set."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module, imported if need be, under the name that the program knows, and its classes.

        Python looks for a submodule that ``from Milter import utils`` names below the package's own ``__name__``; what is
        printed or pickled names a class by its module.
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
        """Have it know that a program imports it; it has run when it was imported under its own name."""
        imported = getattr(module, "_imported", None)
        if imported is not None:
            imported()
