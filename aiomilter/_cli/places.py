"""The directory that a command was started in, by the name that its user has for it."""

import os

__all__ = ["absolute", "started_in"]


def started_in() -> str:
    """Return the current directory, by the name that the shell has for it.

    A link in that name stays one, as in ``cd current``: it may lead to another release later.
    """
    name = os.environ.get("PWD", "")
    try:
        here = os.getcwd()
        return name if os.path.isabs(name) and os.path.samefile(name, here) else here
    except OSError:  # one of them no longer exists
        return name if os.path.isabs(name) else os.sep


def absolute(path: str, directory: str | None = None) -> str:
    """Return a path that leads to the same file from everywhere; links in it, and ``..`` behind them, stay.

    Args:
        path: Absolute or not.
        directory: The one it is relative to; None for the current one.
    """
    return os.path.join(started_in() if directory is None else directory, path)
