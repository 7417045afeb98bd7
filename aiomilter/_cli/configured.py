"""What ``aiomilter run`` is asked for by flags, the environment and a configuration file: read, checked and put together."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from aiomilter._cli.beside import is_installed
from aiomilter._cli.given_settings import settings_of_flags
from aiomilter._cli.options import RunOptions, flags
from aiomilter._cli.places import absolute
from aiomilter._cli.site import SiteOptions, site_of
from aiomilter._cli.target import Target
from aiomilter._cli.trouble import MISSING, USAGE, Trouble, Troubles
from aiomilter._config.environment import from_environment, misspelt
from aiomilter._config.faults import Fault, Faults
from aiomilter._config.table import Key, assembled, keys, together
from aiomilter.options import Options, ServeOptions

if TYPE_CHECKING:
    from aiomilter._config.reading import FileValues

__all__ = ["AT_START", "KEYS", "Configuration", "configured"]

KEYS: Final = tuple(keys(RunOptions, Options, SiteOptions))
"""All keys of a file, besides those of the filter."""
AT_START: Final = tuple(
    key
    for key in KEYS
    if key.path[0] in ("socket", "smtp", "inspect", "log", "metrics", "record")
    or key.path in (("listen",), ("workers",), ("uvloop",))
)
"""Those that a reload does not take over."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a daemon is asked for.

    Args:
        target: The filter, as given.
        where: The same, found; None if none was given.
        is_of_file: Whether it is the filter of the file.
        values: Of the options, by the names of keys.
        origins: Where each value comes from: a flag, a variable, a line of the file.
        options: Those of the command.
        given: Those of :func:`aiomilter.serve`.
        file: The file; None if there is none.
        warnings: What is questionable; more may come when the filter's settings are made.
    """

    target: str
    where: Target | None
    is_of_file: bool
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    options: RunOptions
    given: ServeOptions
    file: "FileValues | None"
    warnings: list[str] = field(default_factory=list)


def configured(
    arguments: argparse.Namespace, directory: str, environment: Mapping[str, str] | None = None
) -> Configuration:
    """Return what flags, environment and file amount to.

    Args:
        arguments: Of the command line: the options that were given, ``target`` and ``config``, or None for these.
        directory: Where the command was started.
        environment: The variables; ``os.environ`` if None.

    Raises:
        Trouble: Something is wrong with them: everything at once.
    """
    variables = os.environ if environment is None else environment
    name = arguments.config or variables.get("AIOMILTER_CONFIG") or None
    faults: list[Fault] = []
    file = None
    if name is not None:
        # What reads files is imported only for one.
        from aiomilter._config.file import read_file
        from aiomilter._config.reading import read_values

        try:
            file = read_values(read_file(name, absolute(name, directory)), KEYS)
            faults += file.faults
        except Faults as error:
            faults += error.faults
    from_variables, wrong = from_environment(variables, KEYS, lambda path: absolute(path, directory))
    faults += wrong
    layers = {"file": file.values if file is not None else {}, "variable": from_variables}
    layers["flag"] = flags(arguments, RunOptions, Options, SiteOptions)
    values = together(list(layers.values()))
    warnings = [*misspelt(variables, KEYS)]
    text, where = _target(arguments, variables, file, directory, faults, warnings, values)
    if faults:
        raise Troubles(Faults(faults).lines(), status=MISSING if _is_missing(faults) else USAGE)
    options = _options(values)
    given = cast(ServeOptions, assembled(values, Options))
    is_of_file = not (arguments.target or variables.get("AIOMILTER_FILTER"))
    return Configuration(text, where, is_of_file, values, _origins(layers, file), options, given, file, warnings)


def _is_missing(faults: list[Fault]) -> bool:
    return any("cannot be read: No such file" in fault.what for fault in faults) and len(faults) == 1


def _options(values: Mapping[str, Any]) -> RunOptions:
    own = assembled(values, RunOptions)
    if "uvloop" not in own and not is_installed("uvloop"):
        own["uvloop"] = False  # a file of that name beside the filter is not the library
    try:
        return RunOptions(**own)
    except ValueError as error:  # values that are right one by one
        name, _, what = str(error).partition(": ")
        flag = next((key.flag for key in KEYS if key.row.name == name), name)
        raise Trouble(f"{flag} {what}", status=USAGE) from None


def _origins(layers: Mapping[str, Mapping[str, Any]], file: "FileValues | None") -> dict[str, str]:
    def origin(key: Key) -> str:
        if key.name in layers["flag"]:
            return key.flag
        if key.name in layers["variable"]:
            return key.variable
        assert file is not None
        return f"{file.document.name}:{file.document.line(key.path)}"

    return {key.name: origin(key) for key in KEYS if any(key.name in layer for layer in layers.values())}


def _target(
    arguments: argparse.Namespace,
    variables: Mapping[str, str],
    file: "FileValues | None",
    directory: str,
    faults: list[Fault],
    warnings: list[str],
    values: Mapping[str, Any],
) -> tuple[str, Target | None]:
    """Return the filter, by its name and where it is: that of the command line, the environment or the file."""
    text: str | None = arguments.target or variables.get("AIOMILTER_FILTER") or None
    given = getattr(arguments, "set", None)
    if given and text is None:
        raise Trouble("--set goes with TARGET; what is for the filters of a file stands there", status=USAGE)
    site = partial(site_of, values, file)
    if file is None:
        if text is None:
            return "", None
        settings = settings_of_flags(given, directory, warnings) if given else None
        return text, Target.named(text, directory=directory, settings=settings, site=site)
    from aiomilter._cli.members import of_file, settings_of

    # The filters of the file are checked although another one may be asked for.
    before = len(faults)
    found = of_file(file, directory, faults, warnings, site)
    if text is not None:
        settings = settings_of_flags(given, directory, warnings) if given else settings_of(file, warnings)
        return text, Target.named(text, directory=directory, settings=settings, site=site)
    if found is None and len(faults) == before and not file.faults:
        faults.append(Fault(file.document.name, 0, 'filter: missing; write filter = "filter.py", or give TARGET'))
    return (found.text, found) if found is not None else ("", None)
