"""Policies by sender from a Sendmail access map: ``Milter.policy``."""

import dbm
from collections.abc import Iterator
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Protocol, Self

__all__ = ["MTAPolicy"]

_MAX_DOMAIN: Final = 255


class _Map(Protocol):
    def get(self, key: bytes, /) -> bytes | None: ...
    def close(self) -> None: ...


class MTAPolicy:
    """Looks policies up in an access map, while it is entered.

    The map's keys are, the first with a value counts: ``prefix:sender``; ``prefix:domain``; ``prefix:.parent`` for each domain
    above, the nearest first; ``prefix:``; ``prefix``.  Maps for older programs have ``!`` in the place of the colon.

    Args:
        sender: Address that is asked about, without brackets.
        conf: Has the attributes ``access_file``, the path of the map as makemap wrote it, or None;
            ``access_file_nulls``, whether its keys end in NUL; and perhaps ``access_file_colon``, whether they have a colon.
            Without the last both are looked up, ``!`` first.
        access_file: Path of the map, instead of ``conf``'s.

    Source: observed of pymilter 1.0.5, and of its later tests for colon and parents; Sendmail's cf/README, "Access database".
    """

    def __init__(self, sender: str, conf: Any, access_file: str | None = None) -> None:
        self.sender = sender
        self.domain: str = sender.split("@")[-1].lower()
        self.access_file: str | None = access_file or conf.access_file
        self.use_nulls: bool = conf.access_file_nulls
        self.use_colon: bool | None = getattr(conf, "access_file_colon", None)
        self.acf: _Map | None = None

    def __enter__(self) -> Self:
        """Open the map.

        Raises:
            OSError: It cannot be opened.
        """
        self.acf = _open(self.access_file) if self.access_file else None
        return self

    def __exit__(self, t: type[BaseException] | None, v: BaseException | None, b: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the map."""
        if self.acf is not None:
            self.acf.close()
        self.acf = None

    def getPolicy(self, pfx: str) -> str | None:
        """Return the sender's policy.

        Args:
            pfx: Prefix, as in ``spf-fail``.
        Returns:
            The value as it stands in the map; None if there is none, or no map.
        """
        if self.acf is None:
            return None
        separators = "!:" if self.use_colon is None else ":" if self.use_colon else "!"
        names = [self.sender, self.domain, *_parents(self.domain), ""]
        for key in (*(f"{pfx}{separator}{name}" for name in names for separator in separators), pfx):
            octets = key.encode("utf-8", "surrogateescape")
            found = self.acf.get(octets + b"\0" if self.use_nulls else octets)
            if found:
                return found.rstrip(b"\0").decode("utf-8", "surrogateescape")
        return None


def _parents(domain: str) -> Iterator[str]:
    """Give the domains above one, each with its dot in front: ``.example.org`` and ``.org`` for ``mail.example.org``.

    A sender names the domain: one that is longer than DNS allows has no parents.
    """
    labels = domain.split(".") if len(domain) <= _MAX_DOMAIN else []
    for first in range(1, len(labels)):
        yield "." + ".".join(labels[first:])


def _open(path: str) -> _Map:
    """Open a map that makemap wrote (Berkeley DB), where a package for that is installed, or one of dbm's."""
    for package in ("berkeleydb", "bsddb3"):
        try:
            db = import_module(package).db
        except ImportError:
            continue
        opened = db.DB()
        try:
            opened.open(path, flags=db.DB_RDONLY)
        except db.DBError as error:
            raise OSError(f"{path}: cannot open the access map: {error}") from error
        found: _Map = opened
        return found
    try:
        return dbm.open(path, "r")
    except dbm.error as error:
        raise OSError(f"{path}: cannot open the access map: {error}") from error
