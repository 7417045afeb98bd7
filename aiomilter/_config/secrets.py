"""Secrets that a configuration file names: where they are instead of what they are."""

import os
import stat
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aiomilter._config.file import Document
from aiomilter._config.lines import Path
from aiomilter.secret import Secret

__all__ = ["SOURCES", "Resolved", "is_reference", "resolved", "suspicious"]

SOURCES: Final = ("file", "credential", "env")
"""The keys of a table that says where a secret is."""
_MAX_SIZE: Final = 65_536
"""Octets of a secret."""
_NAMES: Final = frozenset({"password", "token", "secret"})
"""Words in the names of settings that hold secrets."""


class Resolved(NamedTuple):
    """A secret that was found.

    Args:
        secret: It.
        warning: What is wrong with the place it was in; "" if nothing is.
    """

    secret: Secret
    warning: str = ""


def is_reference(value: object) -> bool:
    """Return whether a value says where a secret is."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in SOURCES


def suspicious(path: Path) -> bool:
    """Return whether the name of a setting is that of a secret."""
    # A list of tokens has the name of the list.
    name = next((part for part in reversed(path) if isinstance(part, str)), "").lower().removesuffix("s")
    return any(word in _NAMES for word in name.replace("-", "_").split("_"))


def resolved(document: Document, table: Mapping[str, Any]) -> Resolved:
    """Return the secret that a table leads to.

    Args:
        document: The file it stands in.
        table: As :func:`is_reference` has it.

    Raises:
        ValueError: It cannot be had; what is wrong, and the mend.
    """
    ((source, name),) = table.items()
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"expected a text in quotes behind {source} =")
    if source == "env":
        value = os.environ.get(name)
        if value is None:
            raise ValueError(f"the environment has no variable {name!r}")
        return Resolved(Secret(value))
    if source == "file":
        return _from_file(document.beside(name), name)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        what = f"there are no credentials: CREDENTIALS_DIRECTORY is not set; systemd sets it for LoadCredential={name}:/..."
        raise ValueError(what)
    if "/" in name or name in (".", ".."):
        raise ValueError(f"expected the name of a credential, without a path, found {name!r}")
    return Resolved(_from_file(os.path.join(directory, name), name).secret)


def _from_file(path: str, name: str) -> Resolved:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ValueError(f"{name!r} is not a regular file")
            octets = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ValueError(f"{name!r} cannot be read: {error.strerror}") from None
    if len(octets) > _MAX_SIZE:
        raise ValueError(f"{name!r}: expected at most {_MAX_SIZE} octets, found more")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name!r}: expected a text in UTF-8") from None
    # Editors, and echo, end a file with a line end that is no part of the secret.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{name!r} is empty")
    warning = ""
    if mode & stat.S_IROTH:
        warning = f"{name!r} can be read by every user; chmod o= {name}"
    return Resolved(Secret(text), warning)
