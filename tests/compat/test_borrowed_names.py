"""What compat takes of the core that has an underscore: only these names, and each for a reason."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from aiomilter._connection.served import ServedConnection
from aiomilter._connection.session import Session
from aiomilter._connection.transport import MilterProtocol
from aiomilter.compat import threads
from aiomilter.server import Server

BORROWED: Final[Mapping[str, Mapping[str, str]]] = {
    "LoopConnection": {
        "_transport _mute": "other threads add packets to be written while flush() takes them",
        "_writable": "an MTA that reads nothing need not send anything, either",
    },
    "ThreadConnection": {},
}
"""By class: private names of its base that it uses or has instead, and why."""


def private(kind: type) -> set[str]:
    """Return the names of a class with one underscore, those of its instances included."""
    return {name for name in (*vars(kind), *getattr(kind, "__slots__", ())) if name[0] == "_" and name[1] != "_"}


def touched(node: ast.AST, names: set[str]) -> Iterator[str]:
    """Yield the attributes among some names that are used, or defined as a method."""
    for each in ast.walk(node):
        match each:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) if name in names:
                yield name


def test_a_connection_takes_of_the_core_what_the_table_says() -> None:
    tree = ast.parse(Path(threads.__file__).read_text("utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    of_a_base = private(MilterProtocol) | private(ServedConnection)
    for name, table in BORROWED.items():
        assert {*touched(classes[name], of_a_base)} == {each for names in table for each in names.split()}


def test_no_private_name_of_a_session_or_a_server_is_taken() -> None:
    names = (private(Session) | private(Server)) - private(MilterProtocol) - private(ServedConnection)
    found = []
    for path in sorted(Path(threads.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(value=ast.Name(id="self")):
                    pass
                case ast.Attribute(attr=name) if name in names:
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
