"""The filters of a configuration file; of ``[[filter]]`` tables each with what is to be done with it in a composition."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any, Final

from aiomilter._cli.member_checks import check_words, questionable
from aiomilter._cli.target import Target
from aiomilter._cli.trouble import Trouble
from aiomilter._config.faults import MANY, Fault, Faults
from aiomilter._config.file import Document
from aiomilter._config.filter_settings import FilterSettings
from aiomilter._config.lines import Path
from aiomilter._config.reading import FILTER, SETTINGS, FileValues
from aiomilter._config.secrets import is_reference, resolved
from aiomilter._config.values import did_you_mean, duration, found, verdict_or_reply

__all__ = ["of_file", "settings_of"]

_OWN: Final = ("use", SETTINGS, "enabled")
_LONGEST_NAME: Final = 100
_LONGEST_TARGET: Final = 4096


def settings_of(file: FileValues, warnings: list[str]) -> FilterSettings:
    """Return what a file sets for a filter that is alone."""
    return FilterSettings(file.document, (SETTINGS,), file.settings, warnings.append, set())


def of_file(
    file: FileValues,
    directory: str,
    faults: list[Fault],
    warnings: list[str],
    site: Callable[[list[Fault], list[str]], Any],
) -> Target | None:
    """Return the filter of a file, or its filters as one; None if there is none, or they are wrong.

    Args:
        file: The file.
        directory: Where the command was started.
        faults: Gets what is wrong.
        warnings: Gets what is questionable.
        site: Returns what ready filters stand on.
    """
    document, home = file.document, os.path.dirname(file.document.path)
    before = len(faults)
    targets = []
    is_alone = _is_alone(file.filters)
    for path, table in file.filters:
        text = _use(document, path, table, faults)
        if text is not None and len(path) > 1 and (cls := ready_class(text)) is not None:
            is_alone = False
            if (target := _ready(file, path, table, cls, faults, warnings, directory)) is not None:
                targets.append(target)
            continue
        given = _member(document, path, table, faults)
        own = settings_of(file, warnings)
        if len(path) > 1:
            own = own._replace(path=(*path, SETTINGS), table=table.get(SETTINGS))
        if text is not None and table.get("enabled", True):
            try:
                targets.append(Target.named(text, directory=directory, home=home, settings=own, member=given))
            except Trouble as trouble:
                faults.append(document.fault(_place_of(path), str(trouble)))
    if file.filters and len(file.filters[0][0]) > 1 and file.settings is not None:
        what = f"with [[filter]], settings stand below it, as [filter.{SETTINGS}]"
        faults.append(document.fault((SETTINGS,), what))
    if file.filters and not targets and len(faults) == before:
        faults.append(document.fault((FILTER,), "expected at least one filter that is enabled"))
    made_site = site(faults, warnings)
    if made_site is not None:
        check_words(document, targets, made_site.words, faults)
        warnings += questionable(document, targets)
    if not targets or len(faults) > before:
        return None
    return targets[0] if is_alone else Target.composed(document.name, targets, directory, home, site)


def ready_class(name: str) -> Any:
    """Return the class of the settings of a ready filter; None if there is none of this name."""
    from aiomilter import filters

    return getattr(filters, filters.NAMES[name]) if name in filters.NAMES else None


def _ready(
    file: FileValues,
    path: Path,
    table: Mapping[str, Any],
    cls: Any,
    faults: list[Fault],
    warnings: list[str],
    directory: str,
) -> Target | None:
    """Return a ready filter, whose own settings stand in the table itself; None if it is wrong, or not enabled."""
    document, before = file.document, len(faults)
    names = {each.name for each in fields(cls) if each.init}
    own = {key: value for key, value in table.items() if key in names}
    rest = {key: value for key, value in table.items() if key not in names}
    if rest.pop(SETTINGS, None) is not None:
        what = f"is for a TARGET; the settings of {cls.name} stand in its own table, above this line"
        faults.append(document.fault((*path, SETTINGS), what))
    given = _member(document, path, rest, faults, names)
    settings = FilterSettings(document, path, own, warnings.append, set())
    try:
        ready = settings.made(cls)
    except Faults as error:
        faults += error.faults
    if len(faults) > before or not table.get("enabled", True):
        return None
    text = f"aiomilter.filters:{cls.__name__}"
    return Target.named(text, directory=directory, settings=settings, member=given, ready=ready)


def _use(document: Document, path: Path, table: Mapping[str, Any], faults: list[Fault]) -> str | None:
    """Return the TARGET of a filter; None if that is wrong."""
    given = table.get("use")
    if isinstance(given, str) and (hint := _hint(given, os.path.dirname(document.path))):
        faults.append(document.fault(_place_of(path), f"there is no ready filter {given!r}{hint}"))
        return None
    if isinstance(given, str) and 0 < len(given) <= _LONGEST_TARGET and "\0" not in given:
        return given
    if given is None:
        faults.append(document.fault((*path, "use"), 'missing; write use = "module:attribute" or the path of a file'))
    else:
        faults.append(document.fault(_place_of(path), "expected a TARGET in quotes"))
    return None


def _hint(name: str, home: str) -> str:
    """Return the ready filter that a misspelt name means; "" where it is the name of something else."""
    from aiomilter.filters import NAMES

    is_plain = name.isidentifier() and name not in NAMES
    if not is_plain or any(os.path.exists(os.path.join(home, f"{name}{end}")) for end in ("", ".py")):
        return ""
    return did_you_mean(name, NAMES)


def _place_of(path: Path) -> Path:
    """Return the key of a TARGET: ``use``, or ``filter`` itself."""
    return (*path, "use") if len(path) > 1 else path


def _is_alone(filters: list[tuple[Path, Mapping[str, Any]]]) -> bool:
    """Return whether there is one filter, with which nothing is done that needs a composition."""
    return len(filters) == 1 and set(filters[0][1]) <= {"use", SETTINGS}


def _member(
    document: Document, path: Path, table: Mapping[str, Any], faults: list[Fault], own: Collection[str] = ()
) -> dict[str, Any]:
    """Return the arguments of :class:`aiomilter.compose.Member` that a table gives, besides the factory.

    Args:
        document: The file.
        path: Of the table.
        table: The table, without the settings of a ready filter.
        faults: Gets what is wrong.
        own: The names of these settings.
    """
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key == "share":
            share = _share(document, (*path, key), value, faults)
            if share is not None:
                given[key] = share
            if table.get("shadow", False) is False:
                faults.append(
                    document.fault((*path, key), "expected shadow = true for a share, found a filter that acts")
                )
        elif key in _READERS:
            try:
                given[key] = _READERS[key](value)
            except ValueError as error:
                faults.append(document.fault((*path, key), str(error)))
        elif key not in _OWN:
            known = [*_READERS, "share", *own, *(name for name in _OWN if not own or name != SETTINGS)]
            hint = did_you_mean(key, known).replace("; ", ", ") if len(faults) < MANY else ""
            if not own:
                hint = hint or f"; what is for the filter itself stands in [filter.{SETTINGS}]"
            faults.append(document.fault((*path, key), f"unknown{hint}"))
    if not isinstance(table.get(SETTINGS, {}), dict):
        faults.append(document.fault((*path, SETTINGS), f"expected a table, found {found(table[SETTINGS])}"))
    if not isinstance(table.get("enabled", True), bool):
        faults.append(document.fault((*path, "enabled"), f"expected true or false, found {found(table['enabled'])}"))
    return given


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise ValueError(f"expected a word in quotes, found {found(value)}")
    return value


def _names(value: object) -> tuple[str, ...]:
    return tuple(map(_name, value)) if isinstance(value, list) else (_name(value),)


def _words(value: object) -> tuple[Any, ...]:
    """Return conditions, each a word; functions of the context are for programs."""
    from aiomilter.compose.conditions import GIVEN, WORDS, named, stage_of

    for word in (names := _names(value)):
        if stage_of(word) is None:
            hint = did_you_mean(word, [*WORDS, *GIVEN])
            raise ValueError(f"expected a word such as {', '.join(WORDS)}, found {found(word)}{hint}")
    return tuple(map(named, names))


def _shadow(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {found(value)}")
    return value


def _share(document: Document, path: Path, value: object, faults: list[Fault]) -> Any:
    """Return the part of mail that a shadow is asked about: a number, or a table; None if it is wrong."""
    from aiomilter.compose.share import MailShare

    given: dict[str, Any] = dict(value) if isinstance(value, dict) else {"part": value}
    before = len(faults)
    for key in given.keys() - {"part", "by", "key"}:
        hint = did_you_mean(key, ("part", "by", "key")).replace("; ", ", ")
        faults.append(document.fault((*path, key), f"unknown{hint}"))
    if "part" not in given:
        faults.append(document.fault(path, "expected a part, a number between 0 and 1"))
    if "key" in given:
        try:
            if not is_reference(given["key"]):
                raise ValueError('expected where the key is, as { file = "share.key" }, or credential, or env')
            given["key"] = resolved(document, given["key"]).secret.value.encode("utf-8", "surrogateescape")
        except ValueError as error:
            faults.append(document.fault((*path, "key"), str(error)))
    if len(faults) > before:
        return None
    try:
        return MailShare(**given)
    except ValueError as error:
        faults.append(document.fault(path, str(error).removeprefix("share: ")))
        return None


def _answer(value: object) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"expected an answer in quotes, found {found(value)}")
    return verdict_or_reply(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a time, found {found(value)}")
    return duration(str(value))


_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "name": _name,
    "when": _words,
    "unless": _words,
    "after": _names,
    "on_error": _answer,
    "on_timeout": _answer,
    "timeout": _seconds,
    "shadow": _shadow,
}
