"""What the modules beside this one do: become pymilter's if that is installed, otherwise aiomilter's."""

import importlib.util
import os
import sys

__all__ = ["give_way"]

_HERE = os.path.dirname(os.path.abspath(__file__))


def give_way(name: str) -> None:
    """Replace a module that is being imported by pymilter's or aiomilter's.

    Args:
        name: The name of the module.

    Raises:
        ImportError: There is neither pymilter nor aiomilter.
    """
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if os.path.abspath(entry) != _HERE]
    del sys.modules[name]
    try:
        if importlib.util.find_spec(name) is None:
            _install()
        importlib.import_module(name)
    finally:
        sys.path[:] = path


def _install() -> None:
    try:
        from aiomilter.compat import install
    except (ImportError, SyntaxError):  # a Python without aiomilter, or an old one
        return
    install()
