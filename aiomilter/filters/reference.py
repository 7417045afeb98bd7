"""The reference of a ready filter, made from the class of its settings."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import indent, wrap
from typing import Any, Final, Literal, get_args, get_origin

from aiomilter.compose.conditions import stage_of
from aiomilter.filters.ready import ReadyFilter

__all__ = ["documented", "reference", "summary"]

_WIDTH: Final = 100
_FIELD: Final = re.compile(r"([a-z_]+\*?): (.*)")
_WORDS: Final[dict[Any, str]] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    Path: "path",
}


def summary(cls: type[ReadyFilter]) -> str:
    """Return what a filter does, in a line."""
    return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "")


def documented(cls: type[ReadyFilter]) -> dict[str, str]:
    """Return the text of each setting, by its name, or by the beginning of several names with a ``*`` behind."""
    found: dict[str, str] = {}
    name = ""
    _, _, section = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    for line in section.splitlines():
        if not line.strip():
            break
        if (start := _FIELD.match(line.strip())) and not line.startswith("     "):
            name = start[1]
            found[name] = start[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found


def reference(cls: type[ReadyFilter]) -> str:
    """Return what there is to know of a filter, as text."""
    return "\n".join(_lines(cls)) + "\n"


def _lines(cls: type[ReadyFilter]) -> Iterator[str]:
    text = (inspect.getdoc(cls) or "").partition("\nArgs:\n")[0].replace("``", "")
    yield f'use = "{cls.name}"'
    for paragraph in text.strip().split("\n\n"):
        yield ""
        yield from wrap(" ".join(paragraph.split()), _WIDTH)
    yield from ["", "settings:"]
    yield from _settings(cls)
    if cls.takes_conditions:
        yield "  and those of every filter: name, when, unless, after, shadow, share, on_error, on_timeout, timeout, enabled"
        if cls.unless:
            shown = ", ".join(f'"{word}"' for word in cls.unless)
            text = f"unless = [{shown}], as far as others give these words, if nothing else is said"
            yield from (f"  {line}" for line in wrap(text, _WIDTH - 2))
    else:
        yield "  and those of every filter: name, after, shadow, share, on_error, on_timeout, timeout, enabled"
    if cls.reasons:
        yield from ["", "reasons, in log and metrics:"]
        width = max(map(len, cls.reasons))
        yield from (f"  {name:{width}}  {what}" for name, what in cls.reasons.items())
    if words := _words_given(cls):
        yield from ["", "words for when and unless of others:"]
        yield from (f"  {line}" for line in wrap(words, _WIDTH - 2))
    for title, what in (("stores", cls.stores), ("the MTA needs", cls.mta)):
        if what:
            yield from ["", f"{title}: {what}"]
    yield from ["", "example:", indent(cls.example.rstrip(), "  ")]


def _settings(cls: type[ReadyFilter]) -> Iterator[str]:
    texts = documented(cls)
    hints = typing.get_type_hints(cls)
    said: set[str] = set()
    for each in dataclasses.fields(cls):
        if not each.init:
            continue
        name = next(name for name in texts if fnmatchcase(each.name, name))
        if name not in said:
            said.add(name)
            shown = name.replace("*", "RESULT")
            yield f"  {shown} = {_type(hints[each.name])}{_default(each)}"
            yield from (f"      {line}" for line in wrap(texts[name].replace("``", ""), _WIDTH - 6))


def _type(kind: Any) -> str:
    """Return what a setting takes, in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(f'"{each}"' for each in arguments)
    if origin in (typing.Union, types.UnionType):
        kinds = [
            _type(each) for each in arguments if each is not type(None) and not getattr(each, "_is_protocol", False)
        ]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "text" or "path" not in kinds))
    if dataclasses.is_dataclass(kind):
        return "table"
    if origin is not None and issubclass(origin, typing.Mapping):
        return f"table of {_type(arguments[1])}s"
    if origin is not None:
        return f"list of {_type(arguments[0])}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)).lower())


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "  (has to be set)"
    if value is None or value in ((), {}, ""):
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(list(value) if isinstance(value, tuple) else value)
    return f"  (default {shown})".replace("'", '"')


def _words_given(cls: type[ReadyFilter]) -> str:
    """Return the words that a filter gives, with the stage at which they are known."""
    words = cls.gives
    stages: dict[str, list[str]] = {}
    for word in words:
        stage = stage_of(word)
        stages.setdefault(stage.name if stage is not None else "MAIL", []).append(word)
    return "; ".join(f"known at {stage}: {', '.join(names)}" for stage, names in stages.items())
