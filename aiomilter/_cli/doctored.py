"""The filter that ``aiomilter doctor`` is asked about: where it listens, its options, and what it asks of the MTA."""

import argparse
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from aiomilter._cli.configured import Configuration, configured
from aiomilter._cli.places import started_in
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._config.file import Document
from aiomilter._doctor.case import File, Own
from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError
from aiomilter.options import Options

__all__ = ["own_filter"]

_LONGEST: Final = 100
"""Lines of one value."""


def own_filter(arguments: argparse.Namespace) -> Own | None:
    """Return the filter that the command line names; None if it names none.

    Raises:
        Trouble: There is no such filter, or its file has mistakes.
    """
    if arguments.target is None and arguments.config is None:
        return None
    found = configured(arguments, started_in())
    try:
        options = Options(**found.given)
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None
    return Own(
        target="" if found.is_of_file else found.target,
        listen=tuple(_addresses(found.options.listen or ())),
        options=options,
        file=_file(found),
    )


def _addresses(texts: Iterable[str]) -> list[Inet | Unix]:
    found = []
    for text in texts:
        try:
            address = parse(text)
        except AddressError as error:
            raise Trouble(str(error), status=USAGE) from None
        if isinstance(address, Inet | Unix):
            found.append(address)
    return found


def _file(found: Configuration) -> File | None:
    if found.file is None:
        return None
    document = found.file.document
    lines = Path(document.path).read_text("utf-8").splitlines()
    names = {".".join(key): key for key in (("listen",), ("socket", "mode"), ("socket", "group"))}
    places = {name: _lines(lines, document.line(key)) for name, key in names.items() if _has(document, key)}
    line = document.line(("socket",)) if "socket" in document.values else 0
    tables = {"socket": line} if line and lines[line - 1].strip().startswith("[") else {}
    return File(document.path, lines, places, tables)


def _has(document: Document, key: tuple[str, ...]) -> bool:
    values: object = document.values
    for part in key:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _lines(lines: Sequence[str], first: int) -> tuple[int, int]:
    """Return the first and the last line of a statement."""
    for last in range(first, min(len(lines), first + _LONGEST) + 1):
        try:
            tomllib.loads("\n".join(lines[first - 1 : last]))
        except tomllib.TOMLDecodeError:
            continue
        return first, last
    return first, first
