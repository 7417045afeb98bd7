"""A filter's configuration file: ``Milter.config``."""

from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

__all__ = ["MilterConfigParser"]


class MilterConfigParser(ConfigParser):
    """:class:`configparser.ConfigParser` without an error for a missing option, and with lists of addresses.

    Args:
        defaults: Values of options that no section has; unlike ConfigParser's they belong to no section.

    Source: observed of pymilter 1.0.5.
    """

    def __init__(self, defaults: Mapping[str, str] = {}) -> None:
        super().__init__()
        # Programs read it as an attribute, where ConfigParser has a method.
        self._fallbacks = dict(defaults)
        self.defaults: dict[str, str] = self._fallbacks  # type: ignore[assignment]

    def get(self, sect: str, opt: str, fallback: Any = None, **kwds: Any) -> Any:  # type: ignore[override]
        """Return the value of an option.

        Args:
            sect: Section; it may be missing.
            opt: Option.
            fallback: The value if neither the section nor ``defaults`` has it.
            kwds: As ConfigParser.get takes them: ``raw``, ``vars``.
        """
        if not fallback:
            fallback = self._fallbacks.get(opt, fallback)
        return super().get(sect, opt, fallback=fallback, **kwds)

    def getlist(self, sect: str, opt: str) -> list[str]:
        """Return the items of an option, which commas separate; without the option, none."""
        if not self.has_option(sect, opt):
            return []
        return [item.strip() for item in self.get(sect, opt).split(",")]

    def getaddrset(self, sect: str, opt: str, dir: str = "") -> dict[str, list[str]]:
        """Return the local-parts of each domain that an option lists.

        Args:
            sect: Section.
            opt: Option; its items are ``local@domain``, or ``file:domain`` for a file of that name that has the domain's
                local-parts, separated by white space.
            dir: Directory of the files.
        Returns:
            The local-parts by domain, which is in lower case.
        Raises:
            ValueError: An item is neither.
            OSError: A file cannot be read.
        """
        found: dict[str, list[str]] = {}
        for item in self.getlist(sect, opt):
            if item.startswith("file:"):
                domain = item.removeprefix("file:")
                found.setdefault(domain.lower(), []).extend(_words(domain, dir))
            else:
                local, domain = item.split("@")
                found.setdefault(domain.lower(), []).append(local)
        return found

    def getaddrdict(self, sect: str, opt: str, dir: str = "") -> dict[str, str]:
        """Return the addresses in the options that an option names, each with the name of its option.

        Args:
            sect: Section of both options.
            opt: Option; its items are names of options that list addresses, ``file:name`` among them for a file of
                addresses, separated by white space.
            dir: Directory of the files.
        Raises:
            OSError: A file cannot be read.
        """
        found: dict[str, str] = {}
        for name in self.getlist(sect, opt):
            for item in self.getlist(sect, name):
                listed = _words(item.removeprefix("file:"), dir) if item.startswith("file:") else [item]
                found.update(dict.fromkeys(listed, name))
        return found

    def getdefault(self, sect: str, opt: str, default: str | None = None) -> str | None:
        """Return the value of an option, ``default`` if its section has none."""
        return self.get(sect, opt) if self.has_option(sect, opt) else default

    def getintdefault(self, sect: str, opt: str, default: int | None = None) -> int | None:
        """Return an option as a number, ``default`` if its section has none.

        Raises:
            ValueError: It is not a number.
        """
        return self.getint(sect, opt) if self.has_option(sect, opt) else default


def _words(name: str, directory: str) -> list[str]:
    return Path(directory, name).read_text("utf-8", "surrogateescape").split()
