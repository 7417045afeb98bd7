"""The JSON Schema of a configuration file, made from the tables of options: for editors, and for tools that write such files.

What a schema cannot say is left to ``aiomilter config check``: whether a user exists, or a socket's text is one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from aiomilter._config.table import Key
from aiomilter._config.values import ANSWERS, DURATION, LONGEST, MOST, SIZE, STAGES
from aiomilter._option import Group, Kind, Option
from aiomilter._option_text import sentences
from aiomilter.handler import STAGE_OF

__all__ = ["schema"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_REPLY: Final = r"[245][0-9][0-9]"
_TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
_ANSWER: Final = f"^(?:{'|'.join(ANSWERS)}|{_REPLY}(?: .*)?)$"


def schema(known: Iterable[Key], ready: Iterable[str] = ()) -> dict[str, Any]:
    """Return the schema of the keys, and of those of the filter.

    Args:
        known: The keys.
        ready: The names of ready filters, whose own settings stand in their tables.
    """
    tables = {"anyOf": [_ready(ready), _filter()]} if ready else _filter()
    top: dict[str, Any] = {
        "filter": {
            "description": "The filter: the path of a file, with :NAME if it has several, or MODULE:NAME.",
            "anyOf": [dict(_TEXT), {"type": "array", "minItems": 1, "items": tables}],
        },
        "settings": {"description": "What the filter itself is set by.", "type": "object"},
    }
    for key in known:
        place = top
        for name in key.path[:-1]:
            table = place.setdefault(name, {"type": "object", "additionalProperties": False, "properties": {}})
            place = table["properties"]
        text = sentences(key.row)
        if key.client:
            text = f"The same for one class of clients: {key.client}."
        place[key.path[-1]] = {"description": text, **_KINDS[key.row.option.kind](key.row.option)}
    if "state" in top:
        both = {"anyOf": [_SECRET, {"type": "array", "minItems": 1, "items": _SECRET}]}
        top["state"]["properties"] |= {"password": dict(_SECRET), "key": both}
    return {"$schema": _DRAFT, "title": "aiomilter", "type": "object", "additionalProperties": False, "properties": top}


_PART: Final[Mapping[str, Any]] = {"type": "number", "minimum": 0, "maximum": 1}
_SHARE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["part"],
    "additionalProperties": False,
    "properties": {"part": _PART, "by": {"enum": ["client", "recipient_domain"]}, "key": {"type": "object"}},
}


_SECRET: Final[Mapping[str, Any]] = {"anyOf": [dict(_TEXT), {"type": "object", "minProperties": 1, "maxProperties": 1}]}


def _ready(names: Iterable[str]) -> dict[str, Any]:
    """Return the schema of a ready filter; ``aiomilter filters NAME`` says what it is set by."""
    found = _filter()
    found["properties"] = {**found["properties"], "use": {"enum": list(names)}}
    del found["properties"]["settings"]
    return {**found, "additionalProperties": True}


def _filter() -> dict[str, Any]:
    """Return the schema of a ``[[filter]]`` table; :mod:`aiomilter._cli.members` reads it."""
    words = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
    answer = {"type": "string", "pattern": _ANSWER}
    return {
        "type": "object",
        "required": ["use"],
        "additionalProperties": False,
        "properties": {
            "use": dict(_TEXT),
            "settings": {"type": "object"},
            "enabled": {"type": "boolean"},
            "name": dict(_TEXT),
            "when": words,
            "unless": words,
            "after": words,
            "on_error": answer,
            "on_timeout": answer,
            "timeout": _duration(Option(Kind.DURATION, Group.DEADLINES, "")),
            "shadow": {"type": "boolean"},
            "share": {"anyOf": [_PART, _SHARE]},
        },
    }


def _duration(option: Option) -> dict[str, Any]:
    most = LONGEST if option.maximum is None else option.maximum
    number = {"type": "number", "minimum" if option.zero else "exclusiveMinimum": 0, "maximum": most}
    words = "|off" if option.off else ""
    return {"anyOf": [number, {"type": "string", "pattern": f"^(?:{DURATION}|{_NUMBER}{words})$"}]}


def _durations(option: Option) -> dict[str, Any]:
    stages = {name: _duration(option) for name in (*STAGES, *STAGE_OF)}
    return {"type": "object", "additionalProperties": False, "properties": stages}


def _whole(option: Option) -> dict[str, Any]:
    most = MOST if option.maximum is None else option.maximum
    return {"type": "integer", "minimum": 0 if option.zero else 1, "maximum": most}


def _size(option: Option) -> dict[str, Any]:
    return {"anyOf": [_whole(option), {"type": "string", "pattern": f"^(?:{SIZE}|[0-9]{{1,10}})$"}]}


def _list(of: Mapping[str, Any]) -> Callable[[Option], dict[str, Any]]:
    return lambda _: {"anyOf": [of, {"type": "array", "items": of}]}


def _sockets(_: Option) -> dict[str, Any]:
    return {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "object", "additionalProperties": _TEXT}]}


def _choices(option: Option) -> dict[str, Any]:
    word = "|".join(option.choices)
    one = {"type": "string", "pattern": f"^ *(?:{word}) *(?:, *(?:{word}) *)*$"}
    return {"anyOf": [one, {"type": "array", "items": one}]}


_OWNER: Final[Mapping[str, Any]] = {"anyOf": [dict(_TEXT), {"type": "integer", "minimum": 0}]}
_KINDS: Final[Mapping[Kind, Callable[[Option], dict[str, Any]]]] = {
    Kind.DURATION: _duration,
    Kind.DURATIONS: _durations,
    Kind.SIZE: _size,
    Kind.COUNT: _whole,
    Kind.ANSWER: lambda _: {"type": "string", "pattern": _ANSWER},
    Kind.NETWORKS: _list(_TEXT),
    Kind.DOMAINS: _list({"type": "string", "pattern": r"^\S+$"}),
    Kind.USERS: _list(_OWNER),
    Kind.GROUPS: _list(_OWNER),
    Kind.USER: lambda _: dict(_OWNER),
    Kind.GROUP: lambda _: dict(_OWNER),
    Kind.MODE: lambda _: {"type": "string", "pattern": "^(?:0o?)?[0-7]{1,4}$"},
    Kind.PATH: lambda _: dict(_TEXT),
    Kind.SOCKETS: _sockets,
    Kind.HTTP: lambda _: dict(_TEXT),
    Kind.IP: lambda _: dict(_TEXT),
    Kind.LINE: lambda _: {"type": "string", "pattern": "^[^\\r\\n]*$"},
    Kind.CHOICE: lambda option: {"enum": list(option.choices)},
    Kind.CHOICES: _choices,
    Kind.SHARE: lambda _: {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            {"type": "string", "pattern": "^[0-9]{1,10}(?:\\.[0-9]{1,10})? ?%?$"},
        ]
    },
    Kind.SWITCH: lambda _: {"type": "boolean"},
}
