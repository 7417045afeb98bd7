"""The command ``aiomilter config``: configuration files checked, shown, described and begun."""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiomilter._cli import config_import
from aiomilter._cli.clashes import clashes, exposed
from aiomilter._cli.config_init import begin, write_new
from aiomilter._cli.configured import KEYS, Configuration, configured
from aiomilter._cli.logs import address_policy
from aiomilter._cli.options import RunOptions
from aiomilter._cli.places import started_in
from aiomilter._cli.site import SiteOptions
from aiomilter._cli.target import Target, load, start_trouble
from aiomilter._cli.terminal import safe
from aiomilter._cli.tls import Files, tls
from aiomilter._cli.trouble import USAGE, Trouble, Troubles
from aiomilter._config.file import Document
from aiomilter._config.reading import FILTER, SETTINGS
from aiomilter._config.schema import schema
from aiomilter._config.written import effective, settings_lines, toml, with_origin
from aiomilter._worker_count import as_one_of
from aiomilter.options import Options
from aiomilter.server import Server

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Check, show or begin a configuration file of 'aiomilter run --config FILE'.

  check FILE    find every mistake, and build the filter once, as a start does
  show FILE     print what is in force, and where each value comes from; secrets are left out
  schema        print the JSON Schema of such a file, for editors
  init [FILE]   write a file to start from: with every key as a comment, or with --for a gateway of ready filters; an
                existing file is left as it is
  import FILE   write a file that does what the settings of OpenDKIM, OpenDMARC, ... ask for
"""
_GATEWAY: Final = "gateway.toml"
_EPILOG: Final = """\
examples:
  aiomilter config init --for both
  aiomilter config check gateway.toml
  aiomilter run --config gateway.toml

'aiomilter help configuration' explains the file.

exit codes: 0 in order, 1 the filter cannot be built, 2 mistakes in the file, 4 no such file
"""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "config", help="check or show a configuration file", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=_config, parser=parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", parser_class=type(parser))
    check = actions.add_parser(
        "check", help="find every mistake of a file", description="Find every mistake of a file."
    )
    check.set_defaults(command=_check, parser=check)
    check.add_argument("config", metavar="FILE", help="the file")
    check.add_argument(
        "--syntax", action="store_true", help="look at the file alone; neither import nor build the filter"
    )
    show = actions.add_parser(
        "show",
        help="print what is in force",
        description="Print what the file and the variables of the environment amount to, and where each value comes from.",
    )
    show.set_defaults(command=_show, parser=show)
    show.add_argument("config", metavar="FILE", help="the file")
    described = actions.add_parser(
        "schema", help="print the JSON Schema", description="Print the JSON Schema of a file."
    )
    described.set_defaults(command=_schema, parser=described)
    init = actions.add_parser(
        "init",
        help="write a file to start from",
        description="Write a file with every key as a comment; or with --for a gateway of ready filters for this machine.",
    )
    init.set_defaults(command=_init, parser=init)
    init.add_argument(
        "--for",
        dest="purpose",
        choices=("inbound", "outbound", "both"),
        help="a gateway for mail that comes in, that goes out, or both; it needs no Python",
    )
    init.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=f"where to write it; with --for {_GATEWAY}, else stdout, if it is left out",
    )
    config_import.add_parser(actions)


def _config(arguments: argparse.Namespace) -> int:
    raise Trouble("expected an action: check, show, schema, init or import", status=USAGE)


def _check(arguments: argparse.Namespace) -> int:
    found = _configured(arguments)
    if not arguments.syntax:
        if clashing := list(_clashing(found)):
            raise Troubles([*clashing, *_mistakes_of_filters(found.where)], status=USAGE)
        with contextlib.redirect_stdout(sys.stderr):
            _build(found)
    for what in found.warnings:
        print(f"warning: {safe(what)}", file=sys.stderr)
    print(f"{safe(arguments.config)}: in order")
    return 0


def _clashing(found: Configuration) -> Iterator[str]:
    """Yield what a start would say of options that do not go together, with their lines."""
    for name, trouble in (*clashes(found.options, found.given), *exposed(found.options)):
        yield f"{found.origins.get(name, found.file.document.name if found.file else '')}: {trouble}"


def _mistakes_of_filters(where: Target | None) -> list[str]:
    """Return the mistakes in the settings of filters, as far as these can be loaded."""
    if where is None:
        return []
    try:
        with contextlib.redirect_stdout(sys.stderr):
            load(where)
    except Troubles as error:
        return list(error.lines)
    except Trouble:
        return []  # it is said once the file is in order
    return []


def _configured(arguments: argparse.Namespace) -> Configuration:
    arguments.target = None
    found = configured(arguments, started_in())
    try:
        Options(**found.given)
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None
    address_policy(found.options.log_addresses, found.options.log_key)
    return found


def _build(found: Configuration) -> None:
    """Build the filter as a start does, and close it."""
    tls(Files(found.options))
    assert found.where is not None, "a file without a filter is a mistake"
    factory = load(found.where)

    async def build() -> None:
        server = Server(factory, ["inet:0@127.0.0.1"], Options(**found.given))
        await server.start(listen=False)
        await server.close()

    try:
        with as_one_of(found.options.workers):
            asyncio.run(build())
    except Exception as error:  # noqa: BLE001  # the user's code; a traceback is what it gets
        raise start_trouble(found.target, error) from None


def _show(arguments: argparse.Namespace) -> int:
    found = _configured(arguments)
    assert found.where is not None, "a file without a filter is a mistake"
    # Which settings are secrets is known by their types.
    with contextlib.redirect_stdout(sys.stderr):
        load(found.where)
    for line in _lines(found):
        print(safe(line))
    return 0


def _lines(found: Configuration) -> Iterator[str]:
    file, where = found.file, found.where
    assert file is not None
    assert where is not None
    document = file.document
    is_text = not found.is_of_file or len(file.filters[0][0]) == 1
    if is_text:
        origin = f"{document.name}:{document.line((FILTER,))}" if found.is_of_file else "AIOMILTER_FILTER"
        yield with_origin(f"{FILTER} = {toml(where.text)}", origin)
    yield from effective(KEYS, found.values, found.origins)
    if is_text:
        yield from _settings(where, document, SETTINGS)
        return
    by_path = {each.settings.path[:-1]: each for each in where.filters if each.settings is not None}
    for path, table in file.filters:
        yield ""
        yield f"[[{FILTER}]]"
        own = {name: value for name, value in table.items() if name != SETTINGS}
        yield from settings_lines(own, (), document, path)
        if path in by_path:  # it is enabled
            yield from _settings(by_path[path], document, f"{FILTER}.{SETTINGS}")


def _settings(target: Target, document: Document, name: str) -> Iterator[str]:
    settings = target.settings
    if settings is not None and settings.table is not None:
        yield ""
        yield f"[{name}]"
        yield from settings_lines(settings.table, settings.secrets, document, settings.path)


def _schema(arguments: argparse.Namespace) -> int:
    from aiomilter.filters import NAMES

    print(json.dumps(schema(KEYS, NAMES), indent=2))
    return 0


def _init(arguments: argparse.Namespace) -> int:
    if arguments.purpose is not None:
        from aiomilter._cli.gateway_init import begin_gateway, look, next_steps

        name, machine = arguments.file or _GATEWAY, look()
        write_new(name, begin_gateway(arguments.purpose, os.path.basename(name), machine))
        print(safe(next_steps(arguments.purpose, os.path.basename(name), machine), also="\n"))
        return 0
    text = begin(Path("/etc/postfix"), RunOptions, Options, SiteOptions)
    if arguments.file is None:
        print(text, end="")
        return 0
    write_new(arguments.file, text)
    print(
        f"{safe(arguments.file)}: written; name your filter there, then: aiomilter config check {safe(arguments.file)}"
    )
    return 0
