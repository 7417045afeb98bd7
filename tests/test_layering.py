"""Who may import whom, and which module alone may do what: tables, held against the source.

Modules that do not exist yet have their rows already; a module without a row fails.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

PACKAGE: Final = Path(__file__).parent.parent / "aiomilter"

# Room: the rooms it may import from, and all that these may.  A room is a module or package right below ``aiomilter``;
# "" is ``aiomilter`` itself, the public names.
ROOMS: Final[Mapping[str, frozenset[str]]] = {
    room: frozenset(may.split())
    for room, may in {
        "exceptions": "",
        # Toolkits: they know no milter.
        "mail": "exceptions",
        "dns": "mail _tally",
        "auth": "mail dns",
        "policy": "mail dns _worker_count _shadow",
        # Whether the code that runs is a shadow's: stores keep what that counts apart.
        "_shadow": "",
        # Numbers, which metrics show.
        "_tally": "",
        # A number; a store in memory is for one worker.
        "_worker_count": "",
        # It connects to what addresses name, and shows what others wrote as mail.display does.
        "scan": "mail addresses _tally",
        # Mail.address is parsed by RFC 5321 and Header.text by RFC 2047, so wire is above these modules of mail (see ONLY).
        "wire": "mail",
        "edits": "wire",
        # What filters tell one another, and the names that other libraries have.
        "results": "",
        "_context_hints": "",
        # How a client has logged in, and is encrypted.
        "_security": "",
        "context": "edits results observe _context_hints",
        "failures": "wire",
        "handler": "context failures",
        # Whole messages; neither the core nor ``aiomilter`` itself knows them.
        "message": "handler mail",
        # Several filters in one connection; the core knows neither.
        "compose": "message observe _shadow",
        # Ready filters: the only room that knows both milters and these toolkits.
        "filters": "compose auth policy scan secret _config",
        # Not in the chain above: an observer is told of events, and knows no callbacks.
        "observe": "wire _security _tally",
        "_option": "failures _serving",
        "_option_text": "_option",
        "secret": "",
        # Reads values for the tables that it is given; it knows no server.
        "_config": "_option_text secret",
        "options": "observe _option",
        # What a server is made of knows no options: it gets what it needs.
        "_serving": "handler observe addresses",
        "_connection": "options",
        "_address_hints": "",
        "addresses": "exceptions _address_hints",
        "server": "_connection _option_text",
        "_process": "_serving _worker_count",
        "daemon": "server _process",
        # Milter.dns and Milter.dsn ask DNS, for callbacks that wait.
        "compat": "daemon dns",
        "mta": "wire addresses",
        # It records what connections of ours send, and what it passes on to other filters.
        "recording": "_connection mta",
        # These two take what is public from below, see PUBLIC_ONLY.
        "testing": "mta recording daemon dns auth policy",
        "smtp": "mta daemon dns auth policy",
        # It records connections, and reads whole messages and what authentication has found.
        "inspector": "server mta message auth",
        # It looks at MTAs, and at what they ask.
        "_doctor": "mta options dns policy _config",
        # The commands are ours, and take what is private, too.
        "_cli": "testing smtp compat _config compose filters inspector _doctor",
        "__main__": "_cli",
        "": "daemon",
    }.items()
}
PUBLIC_ONLY: Final = frozenset({"testing", "smtp", "mta"})
# Exceptions to PUBLIC_ONLY: it plays in memory over the real session code.
PRIVATE_TOO: Final = frozenset({("aiomilter.testing._memory", "_connection")})
# Of some rooms, only these modules.
ONLY: Final = {("wire", "mail"): frozenset({"aiomilter.mail.envelope", "aiomilter.mail.encoded_words"})}
# Rooms that may ask for names of ``aiomilter`` itself, instead of the rooms these come from.
USERS: Final = frozenset({"testing", "smtp", "_cli", "compat"})

# Packages that do not come with Python: the one module that may import each.
THIRD_PARTY: Final = {
    "uvloop": "aiomilter.daemon",
    "aiosmtpd": "aiomilter.smtp.session",
    "idna": "aiomilter.mail.domain",
    "aiodns": "aiomilter.dns.aiodns",
    "pycares": "aiomilter.dns.aiodns",
    "redis": "aiomilter.policy.stores.redis",
    "asyncpg": "aiomilter.policy.stores.postgresql",
    "prometheus_client": "aiomilter.observe.prometheus",
    "aiohttp": "aiomilter._serving.status",
    "cryptography": "aiomilter.auth.dkim._crypto",
    # dnspython reads zone files here; answers of DNS are read by aiomilter.dns itself.
    "dns": "aiomilter._cli.zone",
    "pytest": "aiomilter.testing.pytest_plugin",
}

# Modules of Python, or what is called of them: who alone may.
OWNERS: Final[Mapping[str, frozenset[str]]] = {
    what: frozenset(f"aiomilter.{module}" for module in may.split())
    for what, may in {
        # The commands set logging up, which the library never does; a guard logs that an observer failed.
        # A program run by compat has its stderr for itself.
        # No observer is known where a factory is entered.
        "import logging": "compat.lowlevel observe.log observe.guard _cli.logs _cli.aside observe.last_resort "
        "compose.composition compose.shadowed observe.message_log observe.json inspector.logs",
        "import signal": "daemon _process.supervisor _process.worker _process.forking compat.lowlevel _serving.forked",
        "import threading": "observe.seldom compat.threads compat.serving compat.service policy.stores.sqlite _serving.stall "
        "compat.modules.dns compat.modules.greylist _cli.compat _cli.unread _cli.aside _serving.forked _cli.reloading",
        "import concurrent": "compat.threads policy.stores.sqlite _serving.stall",
        "import multiprocessing": "",
        # Postfix prints its own configuration.
        "import subprocess": "_doctor.postconf",
        # Milter.greysql is a file of its own format; state reads it, and it may be broken.
        "import sqlite3": "policy.stores.sqlite compat.modules.greylist _cli.state",
        # Packed numbers are octets of packets, of what the kernel says, or of zip files.
        "import struct": "_serving.access _serving.kernel compat.modules.archives dns.message wire.events wire.framing "
        "wire.modifications wire.negotiation wire.replies",
        # A connection sets options on the socket that the loop has accepted for it.
        # Programs get address families as socket has them; libmilter binds by rules of its own.
        # dns.resolv_conf reads addresses as the C library does (inet_aton), and opens nothing.
        "import socket": "addresses _serving.access _serving.bind_errors _serving.kernel _serving.binding _serving.listener "
        "_serving.listeners _serving.transports _serving.forked _serving.socket_file _serving.status server "
        "_connection.transport _connection.served _connection.acknowledging "
        "mta.opening _process.systemd _process.supervisor _process.channel _process.pipe dns.resolv_conf compat.threads "
        "compat.sending compat.handler compat.listening compat.modules.utils compat.modules.testctx mail.socketmap "
        "scan._exchange recording.relay _doctor.endpoints _doctor.backends _doctor.processes _doctor.checks.network",
        "call fork": "_process.forking",
        "call add_signal_handler": "",
        "call to_thread": "compat.threads policy.stores.sqlite auth.dkim._crypto message.spool message.parts message.banner "
        "recording.recorder",
        "call run_in_executor": "compat.threads policy.stores.sqlite",
        # smtp listens for SMTP, not for an MTA; _serving.listener accepts by itself.
        "call create_server": "smtp.front",
        "call create_unix_server": "",
        "call start_server": "mail.socketmap",
        "call start_unix_server": "mail.socketmap",
        "call connect_accepted_socket": "_serving.transports _serving.status",
        # A milter never calls out; the MTA's side does, and what asks the network.
        "call create_connection": "mta.opening",
        "call create_unix_connection": "mta.opening",
        # The doctor looks whether something listens.
        "call open_connection": "mta.opening policy.stores.redis dns.exchange recording.relay _doctor.backends",
        "call open_unix_connection": "mta.opening _doctor.backends",
        "call create_datagram_endpoint": "dns.exchange",
        "call getaddrinfo": "_serving.listeners _serving.binding compat.listening compat.modules.utils",
        "call gethostbyname": "",
        "call gethostbyaddr": "",
        "call getnameinfo": "",
        "call getfqdn": "",
        "call sleep": "compat.threads compat.lowlevel compat.modules.plock",
        "call basicConfig": "",
        # It is the whole process's, and other threads make files.
        "call umask": "",
        "call set_event_loop": "",
        "call install": "_cli.compat compat._elsewhere._aiomilter_elsewhere",
        "derive asyncio.Protocol": "_connection.transport",
        "derive asyncio.BufferedProtocol": "",
        "derive asyncio.Transport": "testing._memory",
        # Whatever leaves a callback is its failure; the other one is the driver that hands it on.
        # For a classic filter that is compat.handler; and a program that ends does so as Python would have it end.
        # The filters of a composition are run by compose.turns, and compose.shadow_asking.
        "swallow BaseException": "compose.turns compose.shadow_asking "
        "_connection.session _connection.native _connection.driver _connection.tasks "
        "compat.handler compat.threads compat.service compat.listening _cli.compat _cli.reloading",
    }.items()
}
_PYTHON_IMPORT: Final = re.compile(r"(from \S+ )?import ")


class Import(NamedTuple):
    """One imported module, or name of a module."""

    by: str
    line: int
    module: str
    name: str


def module_name(path: Path) -> str:
    """Return the name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@lru_cache(maxsize=1)
def modules() -> dict[str, ast.Module]:
    """Return every module of the package, parsed; of a Cython module, what it imports."""
    trees = {module_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    for path in sorted(PACKAGE.rglob("*.pyx")):
        lines = path.read_text("utf-8").splitlines()
        trees[module_name(path)] = ast.parse("\n".join(line for line in lines if _PYTHON_IMPORT.match(line)))
    return trees


def room(module: str) -> str:
    """Return the room of a module: "" for ``aiomilter`` itself."""
    return module.partition(".")[2].partition(".")[0]


def imports(trees: Mapping[str, ast.Module]) -> Iterator[Import]:
    """Yield every import, wherever in a module it stands."""
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (Import(module, node.lineno, alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    yield Import(module, node.lineno, "." * node.level, "")
                    continue
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    if whole in trees or (node.module == "aiomilter" and alias.name in ROOMS):
                        yield Import(module, node.lineno, whole, "")
                    else:
                        yield Import(module, node.lineno, node.module or "", alias.name)


def allowed(importer: str) -> frozenset[str]:
    """Return all rooms that a room may import from."""
    found: set[str] = set()
    waiting = [importer]
    while waiting:
        for other in ROOMS[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return frozenset(found)


def promised(tree: ast.Module) -> set[str] | None:
    """Return what a module has in ``__all__``; None if it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return None


def wrong_imports(trees: Mapping[str, ast.Module]) -> list[str]:
    """Return what the tables above forbid."""
    found = []
    for by, line, module, name in imports(trees):
        where = f"{by}:{line}: "
        if module.startswith("."):
            found.append(f"{where}relative import")
            continue
        top = module.partition(".")[0]
        if top != "aiomilter":
            if top not in sys.stdlib_module_names and THIRD_PARTY.get(top) != by:
                found.append(f"{where}{module} is for {THIRD_PARTY.get(top, 'nobody')}")
            continue
        here, there = room(by), room(module)
        if here not in ROOMS:
            continue
        if there == here:
            continue
        if there not in allowed(here) and not (there == "" and here in USERS):
            found.append(f"{where}{here or 'aiomilter'} may not import {module}")
        elif (here, there) in ONLY and module not in ONLY[here, there]:
            found.append(f"{where}{here} may not import {module}, only {', '.join(ONLY[here, there])}")
        elif here in PUBLIC_ONLY and (by, there) not in PRIVATE_TOO:
            promise = promised(trees[module]) if module in trees else None
            if any(part.startswith("_") for part in module.split(".")):
                found.append(f"{where}{here} may not import {module}, which is private")
            elif name and not (name == "__version__" or (promise is not None and name in promise)):
                found.append(f"{where}{here} may not import {name}, which {module} does not promise")
    return found


def wrong_owners(trees: Mapping[str, ast.Module]) -> list[str]:
    """Return who does what only another may."""
    found = []
    for module, tree in trees.items():
        for line, what in deeds(tree):
            if what in OWNERS and module not in OWNERS[what]:
                found.append(f"{module}:{line}: only {', '.join(sorted(OWNERS[what])) or 'nobody'} may {what}")
    return found


def deeds(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what a module does that may have an owner."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, f"import {alias.name.partition('.')[0]}") for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, f"import {module.partition('.')[0]}"
                yield from ((node.lineno, f"call {alias.name}") for alias in node.names)
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                # asyncio.sleep waits for a moment, which a library does for a reason; time.sleep stops the loop.
                if name != "sleep" or (isinstance(value, ast.Name) and value.id == "time"):
                    yield node.lineno, f"call {name}"
            case ast.ClassDef(bases=bases):
                yield from ((node.lineno, f"derive {ast.unparse(base)}") for base in bases)
            case ast.ExceptHandler(type=kind, body=body):
                caught = "BaseException" if kind is None else ast.unparse(kind)
                last = body[-1]
                if "BaseException" in caught and not (isinstance(last, ast.Raise) and last.exc is None):
                    yield node.lineno, "swallow BaseException"


@pytest.mark.slow
def test_every_module_has_a_row() -> None:
    assert {room(module) for module in modules()} <= set(ROOMS)


@pytest.mark.slow
def test_no_module_imports_what_its_row_forbids() -> None:
    assert wrong_imports(modules()) == []


@pytest.mark.slow
def test_what_one_module_owns_no_other_does() -> None:
    assert wrong_owners(modules()) == []


@pytest.mark.slow
def test_every_public_module_says_what_it_promises() -> None:
    """A name without underscore that is missing in ``__all__`` is nobody's promise."""
    for module, tree in modules().items():
        public = not any(part.startswith("_") for part in module.split("."))
        if public and any(not isinstance(node, ast.Expr) for node in tree.body) and module != "aiomilter":
            assert promised(tree) is not None, module


def test_toolkits_know_no_milter() -> None:
    """They serve any asyncio program."""
    for toolkit in ("mail", "dns", "auth", "policy", "scan"):
        assert allowed(toolkit) <= {
            "exceptions",
            "mail",
            "dns",
            "addresses",
            "_address_hints",
            "_worker_count",
            "_shadow",
            "_tally",
        }


def test_the_table_has_no_circle() -> None:
    for name in ROOMS:
        assert name not in allowed(name)


@pytest.mark.slow
def test_no_modules_import_one_another_in_a_circle() -> None:
    """Within a room, too, and whether for types alone or not."""
    trees = modules()
    needs: dict[str, set[str]] = {name: set() for name in trees}
    for found in imports(trees):
        if found.module in trees and found.module != found.by:
            needs[found.by].add(found.module)
    for name in trees:
        reached, waiting = set(), list(needs[name])
        while waiting:
            if (each := waiting.pop()) not in reached:
                reached.add(each)
                waiting += needs[each]
        assert name not in reached, f"{name} imports, by others, itself: {sorted(reached)}"


def parsed(**sources: str) -> dict[str, ast.Module]:
    """Return modules of ``aiomilter``, named with two underscores for a dot."""
    trees = {"aiomilter." + name.replace("__", "."): ast.parse(source) for name, source in sources.items()}
    return {"aiomilter.mail.envelope": ast.parse("__all__ = ['bare_address']"), **trees}


WRONG = [
    (parsed(wire__text="from aiomilter.context import Context"), "aiomilter.wire.text:1: wire may not import"),
    (parsed(wire__text="import aiomilter.handler"), "wire may not import aiomilter.handler"),
    (parsed(wire__text="from aiomilter import handler"), "wire may not import aiomilter.handler"),
    (parsed(wire__text="from aiomilter import Milter"), "wire may not import aiomilter"),
    (parsed(wire__text="from aiomilter.mail import headers"), "wire may not import aiomilter.mail, only"),
    (parsed(wire__text="from aiomilter.mail.headers import x"), "wire may not import aiomilter.mail.headers, only"),
    (
        parsed(context="def f():\n    from aiomilter._connection.session import x"),
        "aiomilter.context:2: context may not import",
    ),
    (parsed(observe__log="from aiomilter.handler import Milter"), "observe may not import aiomilter.handler"),
    (parsed(mail__srs="from aiomilter.wire.text import decode"), "mail may not import aiomilter.wire.text"),
    (
        parsed(mta__session="from aiomilter._connection.transport import x"),
        "mta may not import aiomilter._connection.transport",
    ),
    (
        parsed(smtp="from aiomilter._connection.session import Session"),
        "smtp may not import aiomilter._connection.session, which is private",
    ),
    (parsed(smtp="from aiomilter.mail.envelope import _x"), "does not promise"),
    (parsed(context="from . import exceptions"), "relative import"),
    (parsed(server="import uvloop"), "uvloop is for aiomilter.daemon"),
    (parsed(wire__text="import dns.resolver"), "dns.resolver is for aiomilter._cli.zone"),
    (parsed(wire__text="from requests import get"), "requests is for nobody"),
]


@pytest.mark.parametrize(("trees", "message"), WRONG)
def test_a_forbidden_import_is_found(trees: Mapping[str, ast.Module], message: str) -> None:
    (found,) = wrong_imports(trees)
    assert message in found


@pytest.mark.parametrize(
    ("source", "deed"),
    [
        ("import logging", "import logging"),
        ("from logging import getLogger", "import logging"),
        ("import logging.handlers", "import logging"),
        ("def f(loop):\n    loop.add_signal_handler(1, f)", "call add_signal_handler"),
        ("import asyncio\nasyncio.to_thread(print)", "call to_thread"),
        ("from asyncio import to_thread", "call to_thread"),
        ("import time\ntime.sleep(1)", "call sleep"),
        ("import asyncio\nclass P(asyncio.Protocol): ...", "derive asyncio.Protocol"),
        ("try:\n    pass\nexcept BaseException:\n    pass", "swallow BaseException"),
        ("try:\n    pass\nexcept:\n    pass", "swallow BaseException"),
        ("try:\n    pass\nexcept BaseException as error:\n    raise ValueError from error", "swallow BaseException"),
    ],
)
def test_what_is_not_ones_own_is_found(source: str, deed: str) -> None:
    assert [message.partition(" may ")[2] for message in wrong_owners(parsed(context=source))] == [deed]


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasync def f():\n    await asyncio.sleep(0)",
        "try:\n    pass\nexcept BaseException:\n    x = 1\n    raise",
        "from aiomilter.edits import Edits\nfrom aiomilter.exceptions import MilterError",
    ],
)
def test_what_is_allowed_is_not_found(source: str) -> None:
    assert wrong_owners(parsed(context=source)) == wrong_imports(parsed(context=source)) == []
