"""Settings of a filter that the command line gives: ``--set keys=keys.toml``."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiomilter._cli.trouble import USAGE, Trouble

if TYPE_CHECKING:
    from aiomilter._config.filter_settings import FilterSettings

__all__ = ["setting", "settings_of_flags"]

_FLAG: Final = "--set"
_LONGEST: Final = 65_536


def settings_of_flags(given: Sequence[Mapping[str, Any]], directory: str, warnings: list[str]) -> "FilterSettings":
    """Return what flags set for a filter.

    Args:
        given: Their values, as :func:`setting` reads them.
        directory: What paths are relative to.
        warnings: Gets what is questionable.

    Raises:
        Trouble: One is given twice.
    """
    from aiomilter._config.file import Document
    from aiomilter._config.filter_settings import FilterSettings

    table: dict[str, Any] = {}
    for one in given:
        _add(table, one)
    document = Document(_FLAG, os.path.join(directory, _FLAG), table, {}, False)
    return FilterSettings(document, (), table, warnings.append, set())


def setting(text: str) -> dict[str, Any]:
    """Return what one flag gives: ``name=value`` with a value as TOML has it, or a text without quotes.

    Raises:
        ValueError: It is not that.
    """
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip() or len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"expected NAME=VALUE, found {text!r:.80}")
    for line in (text, f"{name} = {json.dumps(value, ensure_ascii=False)}"):
        try:
            return tomllib.loads(line)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
    raise ValueError(f"expected NAME=VALUE, found {text!r:.80}")


def _add(table: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add settings to others; tables are put together."""
    for name, value in more.items():
        before = table.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            _add(before, value)
        elif name in table:
            raise Trouble(f"{_FLAG} {name}: given again", status=USAGE)
        else:
            table[name] = value
