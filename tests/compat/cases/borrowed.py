"""The conversations that libmilter and our native API are compared with; their scripts become plans."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.compat.cases.making import (
    Group,
)
from tests.compat.playing import Case
from tests.interop.libmilter.conversations import CONVERSATIONS
from tests.interop.libmilter.script import unescaped

__all__ = ["borrowed"]

_CALLBACKS: Final = {"helo": "hello", "mail": "envfrom", "rcpt": "envrcpt"}
_VERDICTS: Final = frozenset({"accept", "reject", "tempfail", "discard", "skip"})
_EDITS: Final = {
    "addheader": "addheader({0!a}, {1!a})",
    "insheader": "addheader({1!a}, {2!a}, {0})",
    "chgheader": "chgheader({0!a}, {1}, {2!a})",
    "delheader": "chgheader({0!a}, {1}, None)",
    "replacebody": "replacebody({0!a})",
    "chgfrom": "chgfrom({0!a})",
    "chgfrom 2": "chgfrom({0!a}, {1!a})",
    "addrcpt": "addrcpt({0!a})",
    "addrcpt 2": "addrcpt({0!a}, {1!a})",
    "delrcpt": "delrcpt({0!a})",
    "quarantine": "quarantine({0!a})",
    "progress": "progress()",
}


def attempt(call: str) -> str:
    """Try a call, and tell what came of it."""
    name, _, rest = call.partition("(")
    return f"self.attempt({name!r}, {rest}"


def _act(action: str, args: list[str]) -> list[str]:
    if action in _VERDICTS:
        return [f"answer = Milter.{action.upper()}"]
    if action == "nonsense":
        return ["answer = 99"]
    if action == "reply":
        code, enhanced, *lines = args
        texts = [line.replace("%", "%%") for line in lines]
        wanted = ", ".join(map(ascii, [code, None if enhanced == "-" else enhanced, *texts]))
        return [f"self.attempt('setreply', {wanted})", f"answer = Milter.{'REJECT' if code[0] == '5' else 'TEMPFAIL'}"]
    call = _EDITS.get(f"{action} {len(args)}") or _EDITS[action]
    return [attempt(call.format(*args))]


def _converted(script: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Make shape and plan of a script for the C filter; None if it does what a pymilter program cannot."""
    shape: dict[str, Any] = {}
    plan: dict[str, list[str]] = {}
    for line in script.splitlines():
        word, *rest = (unescaped(field) for field in line.split("\t"))
        callbacks = [_CALLBACKS.get(step, step) for step in rest]
        match word:
            case "callbacks":
                shape["callbacks"] = [*callbacks, "abort", "close"]
            case "silent":
                shape["noreply"] = callbacks
            case "leading" | "rejected":
                shape[word] = True
            case "macros":
                plan.setdefault(callbacks[0], []).append(f"self.look({', '.join(map(ascii, rest[1:]))})")
            case "do":
                when = "True" if rest[1] == "each" else f"n == {rest[1]}"
                lines = plan.setdefault(callbacks[0], [])
                lines += [f"if {when}:", *(f" {act}" for act in _act(rest[2], rest[3:]))]
            case _:
                return None
    return shape, {step: "\n".join(["answer = 0", *lines, "return answer"]) for step, lines in plan.items()}


_UNDEFINED: Final = frozenset(
    {"macros: value without NUL", "macros: odd number of strings", "macros: last string without NUL"}
)
"""Where libmilter reads past the end of an array: looking a macro up may end the process, or may not."""


def _borrowed() -> Iterator[tuple[str, Mapping[str, Any], Case]]:
    for name, (packets, script) in CONVERSATIONS.items():
        converted = _converted(script)
        if converted is not None and name not in _UNDEFINED:
            yield name, converted[0], Case(b"".join(packets), converted[1])


def borrowed() -> Iterator[tuple[str, Group]]:
    grouped: dict[str, tuple[Mapping[str, Any], dict[str, Case]]] = {}
    for name, shape, case in _borrowed():
        grouped.setdefault(json.dumps(shape), (shape, {}))[1][name] = case
    for key, (shape, cases) in grouped.items():
        yield f"libmilter {key}", Group(shape, cases)
