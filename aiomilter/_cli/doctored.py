"""The filter that ``aiomilter doctor`` is asked about: where it listens, its options, and what it asks of the MTA."""

import argparse
import asyncio
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from aiomilter._cli.configured import Configuration, configured
from aiomilter._cli.places import started_in
from aiomilter._cli.target import Target, load, start_trouble
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._config.faults import Fault
from aiomilter._config.file import Document
from aiomilter._doctor.backends import Backend, named, of_store
from aiomilter._doctor.case import File, Own
from aiomilter._doctor.resolving import DnsLists
from aiomilter._doctor.source import SourceFacts, facts
from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError
from aiomilter.filters import Authenticate, Dnsbl, Scan
from aiomilter.options import Options
from aiomilter.wire.negotiation import Wants

__all__ = ["own_filter"]

_READY: Final = {
    "sign": SourceFacts(signs=True),
    "seal": SourceFacts(seals=True),
    "srs": SourceFacts(rewrites_senders=True),
    "authenticate": SourceFacts(resolves=True, verifies=True),
    "attachments": SourceFacts(edits=True),
    "banner": SourceFacts(edits=True),
    "dnsbl": SourceFacts(resolves=True),
}
"""What ready filters do."""
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
    wants = asyncio.run(_wants(found)) if found.where is not None else ()
    does = _does(found.where) if found.where is not None else SourceFacts()
    return Own(
        name=found.target,
        target="" if found.is_of_file else found.target,
        listen=tuple(_addresses(found.options.listen or ())),
        options=options,
        file=_file(found),
        wants=wants,
        does=does,
        is_tls=found.options.tls_client_ca is not None,
        backends=tuple(_backends(found)),
        lists=_dns_lists(found.where),
        authserv_ids=does.authserv_ids | _authserv_ids(found),
    )


def _backends(found: Configuration) -> Iterator[Backend]:
    """Yield the services that settings name: of ready filters, of the state that they keep, and of filters of the user's."""
    site = found.where.site([], []) if found.where is not None and found.where.site is not None else None
    if site is not None:
        yield from of_store(site.store, "state.store" if "state" in found.values and found.file else "--state")
    for number, each in enumerate(found.where.filters if found.where is not None else (), 1):
        if isinstance(each.ready, Scan):
            for scanner in each.ready.scanners():
                kind = type(scanner).__name__.lower()
                address = parse(scanner.address)
                assert isinstance(address, Inet | Unix)
                yield Backend(f"filter[{number}].{kind}", address, kind)
    if found.file is not None:
        yield from named(found.file.settings or {}, "settings.")
        for _, table in found.file.filters:
            if isinstance(settings := table.get("settings"), Mapping):
                yield from named(settings, "settings.")


def _authserv_ids(found: Configuration) -> frozenset[str]:
    """Return the name by which ready filters write Authentication-Results; "" is that of the MTA."""
    filters = found.where.filters if found.where is not None else ()
    if not any(isinstance(each.ready, Authenticate) for each in filters):
        return frozenset()
    return frozenset({found.values.get("authserv_id") or found.values.get("hostname") or ""})


def _dns_lists(target: Target | None) -> DnsLists:
    """Return the DNS lists that ready filters ask."""
    found = [each.ready for each in (target.filters if target is not None else ()) if isinstance(each.ready, Dnsbl)]
    return DnsLists(
        tuple(dict.fromkeys(zone for each in found for zone in each.client)),
        tuple(dict.fromkeys(zone for each in found for zone in each.domain)),
    )


def _without_file(target: Target) -> Target:
    """Return a target whose ready filters keep no state in a file: one that is not there is made with its secret."""
    make = target.site
    if make is None:
        return target

    def site(faults: list[Fault], warnings: list[str]) -> Any:
        made = make(faults, warnings)
        is_file = made is not None and made.store.startswith("sqlite:")
        return replace(made, store="memory:") if is_file else made

    return replace(target, site=site)


async def _wants(found: Configuration) -> tuple[Wants, ...]:
    """Return what the filter asks of the MTA; it is made for that, and closed."""
    assert found.where is not None
    factory = load(_without_file(found.where))
    try:
        made = factory()
        if isinstance(made, AbstractAsyncContextManager):
            async with made as make:
                return (make().wants,)
        return (made.wants,)
    except Exception as error:  # noqa: BLE001  # the user's code; a traceback is what it gets
        raise start_trouble(found.target, error) from None


def _does(target: Target) -> SourceFacts:
    """Return what the source of a filter says; of several, of all of them."""
    found = SourceFacts()
    for each in target.filters:
        if each.ready is not None:
            found |= _READY.get(each.ready.name, SourceFacts())
            continue
        module = sys.modules.get(each.place)
        path = each.file if each.file is not None else getattr(module, "__file__", None)
        found |= facts(path) if path is not None else SourceFacts()
    return found


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
    names = {
        ".".join(key): key
        for key in (("listen",), ("socket", "mode"), ("socket", "group"), ("limits", "max_connections"))
    }
    places = {name: _lines(lines, document.line(key)) for name, key in names.items() if _has(document, key)}
    tables = {}
    for name in ("socket", "limits"):
        line = document.line((name,)) if name in document.values else 0
        if line and lines[line - 1].strip().startswith("["):
            tables[name] = line
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
