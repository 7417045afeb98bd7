"""What the source of a filter says it does: macros that it reads, names of ours that it imports."""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiomilter._doctor.programs import Does
from aiomilter.handler import STAGE_OF
from aiomilter.wire.constants import Stage

__all__ = ["SourceFacts", "facts"]

_MOST: Final = 1 << 20
_SIGNS: Final = frozenset(
    {
        "aiomilter.auth.dkim.Signer",
        "aiomilter.auth.dkim.KeyRing",
    }
)
_SEALS: Final = frozenset({"aiomilter.auth.arc.Sealer", "aiomilter.auth.arc.seal"})
_VERIFIES: Final = frozenset(
    {"aiomilter.auth.Authenticator", "aiomilter.auth.dkim.Verifier", "aiomilter.auth.dkim.verify"}
)
_EDITS: Final = frozenset({"replace_body", "change_header", "delete_header", "add_part"})
"""Methods that change what signatures cover; a field that is added on top is not covered."""
_IDS: Final = frozenset({"authserv_id", "authserv_ids"})
_REWRITES: Final = "aiomilter.mail.srs"
_RESOLVES: Final = "aiomilter.dns"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a filter does.

    Args:
        macros: The macros it reads, with the stage of the callback.
        signs: Whether it signs messages.
        rewrites_senders: Whether it rewrites senders by SRS.
        resolves: Whether it asks DNS.
        seals: Whether it seals by ARC.
        verifies: Whether it verifies signatures of senders.
        edits: Whether it changes what signatures cover.
        authserv_ids: The names by which it writes Authentication-Results, as far as they are written there.
    """

    macros: frozenset[tuple[Stage, str]] = frozenset()
    signs: bool = False
    rewrites_senders: bool = False
    resolves: bool = False
    seals: bool = False
    verifies: bool = False
    edits: bool = False
    authserv_ids: frozenset[str] = frozenset()

    @property
    def done(self) -> Does:
        """What it does to messages."""
        return Does(verifies=self.verifies, edits=self.edits, signs=self.signs, seals=self.seals)

    def __or__(self, other: "SourceFacts") -> "SourceFacts":
        """Return what two filters do together."""
        return SourceFacts(
            self.macros | other.macros,
            self.signs or other.signs,
            self.rewrites_senders or other.rewrites_senders,
            self.resolves or other.resolves,
            self.seals or other.seals,
            self.verifies or other.verifies,
            self.edits or other.edits,
            self.authserv_ids | other.authserv_ids,
        )


def facts(path: str | os.PathLike[str]) -> SourceFacts:
    """Return what the source at a path says; nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(_MOST))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return SourceFacts()
    imported = frozenset(_imported(tree))
    return SourceFacts(
        frozenset(_macros(tree)),
        not _SIGNS.isdisjoint(imported),
        any(f"{name}.".startswith(f"{_REWRITES}.") for name in imported),
        any(f"{name}.".startswith(f"{_RESOLVES}.") for name in imported),
        not _SEALS.isdisjoint(imported),
        not _VERIFIES.isdisjoint(imported),
        any(isinstance(node, ast.Attribute) and node.attr in _EDITS for node in ast.walk(tree)),
        frozenset(_authserv_ids(tree)),
    )


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module imports, and those that it reaches through what it imports."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update((alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names)
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = _dotted(node)
            yield name
            first, _, rest = name.partition(".")
            if first in names:
                yield f"{names[first]}.{rest}"


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _macros(tree: ast.AST) -> Iterator[tuple[Stage, str]]:
    """Yield the macros that callbacks read by a name that is written there."""
    for function in ast.walk(tree):
        stage = STAGE_OF.get(function.name) if isinstance(function, ast.AsyncFunctionDef) else None
        if stage is None:
            continue
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(attr="macro"), args=[ast.Constant(value=str(name)), *_]):
                    yield stage, name


def _authserv_ids(tree: ast.AST) -> Iterator[str]:
    """Yield the names that are given for Authentication-Results, and written there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in _IDS:
            values = node.value.elts if isinstance(node.value, ast.List | ast.Tuple | ast.Set) else [node.value]
            for value in values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value
