"""Other programs' settings as a configuration file: ``aiomilter config import``.

In reading order: :mod:`~aiomilter._config.imported.gateway` is the file in the making,
:mod:`~aiomilter._config.imported.reading` reads theirs; then a module for each program, with a table of its settings:
``opendkim``, ``opendmarc``, ``policyd_spf``, ``postsrsd``, ``pymilter`` and ``access_map``.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Final, NamedTuple

from aiomilter._config.imported import access_map, opendkim, opendmarc, policyd_spf, postsrsd, pymilter
from aiomilter._config.imported.gateway import Gateway, Given, Left, Rule
from aiomilter._config.imported.reading import assignments, ini, names_and_values
from aiomilter._config.values import did_you_mean

__all__ = ["PROGRAMS", "Gateway", "program_of", "take_over"]


class _Program(NamedTuple):
    read: Callable[[str], Iterator[Given]]
    known: Callable[[], Mapping[str, Rule]]
    finish: Callable[[Gateway, Collection[str]], None]
    rule_of: Callable[[str], Rule | None] = lambda name: None
    """For names that the user makes."""


PROGRAMS: Final[Mapping[str, _Program]] = {
    "opendkim": _Program(names_and_values, opendkim.known, opendkim.finish),
    "opendmarc": _Program(names_and_values, opendmarc.known, opendmarc.finish),
    "policyd-spf": _Program(assignments, policyd_spf.known, policyd_spf.finish),
    "postsrsd": _Program(assignments, postsrsd.known, postsrsd.finish),
    "pymilter": _Program(ini, pymilter.known, pymilter.finish, pymilter.rule_of),
    "access": _Program(access_map.lines, access_map.known, access_map.finish, access_map.rule_of),
}
"""The programs whose files are read."""
_NAMES: Final[Mapping[str, str]] = {
    "opendkim": "opendkim",
    "opendmarc": "opendmarc",
    "policyd-spf": "policyd-spf",
    "pyspf-milter": "policyd-spf",
    "postsrsd": "postsrsd",
    "spfmilter": "pymilter",
    "dkim-milter": "pymilter",
    "pysrs": "pymilter",
    "milter": "pymilter",
    "pymilter": "pymilter",
    "access": "access",
}
"""By how the name of a file begins."""


def program_of(path: str) -> str | None:
    """Return the program that a file is one of, by its name; None if that says nothing."""
    name = PurePath(path).name.lower()
    return next((program for begins, program in _NAMES.items() if name.startswith(begins)), None)


def take_over(files: Iterable[tuple[str, str]]) -> Gateway:
    """Return a configuration file that does what other programs are set to do.

    Args:
        files: Programs and their files.

    Raises:
        OSError: A file cannot be read.
        ValueError: It is none of that program.
    """
    gateway, used = Gateway(), dict[str, set[str]]()
    for program, path in files:
        reads, names = PROGRAMS[program], used.setdefault(program, set())
        known = {name.lower(): (name, rule) for name, rule in reads.known().items()}
        for given in reads.read(path):
            name, rule = known.get(given.name.lower(), (given.name, reads.rule_of(given.name)))
            names.add(name)
            if rule is None:
                why = f"{program} has no such setting{did_you_mean(given.name, [each for each, _ in known.values()])}"
            else:
                why = rule(gateway, given._replace(name=name)) or ""
            if why:
                gateway.left.append(Left(given, why))
    for program, names in used.items():
        PROGRAMS[program].finish(gateway, names)
    return gateway
