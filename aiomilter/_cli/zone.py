"""Where commands get DNS answers from: the system's nameservers, other ones, or a zone file."""

import argparse
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final, get_args

import dns.name
import dns.rdata
import dns.rdataclass
import dns.tokenizer
import dns.transaction
import dns.zonefile
from dns.exception import DNSException

from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter.dns import CachingResolver, RdType, Resolver, resolver, system_resolver
from aiomilter.exceptions import AddressError, ResolverFailure
from aiomilter.testing.resolver import Trouble as DnsTrouble
from aiomilter.testing.resolver import ZoneResolver

__all__ = ["add_dns_options", "answers", "read_zone"]

_UNQUOTED: Final = re.compile(r"[^\"(;]*\sTXT\s+(?:\(\s*)?[^\s\"(;]", re.IGNORECASE)
_TROUBLE: Final = re.compile(r"(\S+)\s+(A|AAAA|CNAME|MX|NS|PTR|TXT|\*)\s+(TIMEOUT|FAILURE)\s*")


def add_dns_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where answers come from."""
    group = parser.add_argument_group("DNS").add_mutually_exclusive_group()
    group.add_argument(
        "--nameserver",
        metavar="ADDRESS",
        action="append",
        help="ask this nameserver, as in 192.0.2.53 or [2001:db8::1]:5353; repeatable",
    )
    group.add_argument(
        "--zone",
        metavar="FILE",
        help="answer from this file of records, in the form that BIND reads, without a nameserver",
    )


@contextlib.asynccontextmanager
async def answers(options: argparse.Namespace) -> AsyncIterator[Resolver]:
    """Give the resolver that the options ask for, and close it."""
    if options.zone is not None:
        yield read_zone(options.zone)
        return
    try:
        asking: CachingResolver = resolver(*options.nameserver) if options.nameserver else system_resolver()
    except (AddressError, ResolverFailure) as error:
        raise Trouble(str(error), status=USAGE if options.nameserver else 1) from None
    async with asking:
        yield asking


def read_zone(path: str) -> ZoneResolver:
    """Return a resolver that answers from a file of records.

    It is read as BIND reads a master file: names without a dot at their end are whole all the same, TTLs may be left out,
    and so may SOA and NS records.  ``name TYPE TIMEOUT`` and ``name TYPE FAILURE`` stand for nameservers that do so.

    Raises:
        Trouble: The file cannot be read, or holds something else.

    Source: RFC 1035 section 5.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}", status=USAGE) from None
    found = ZoneResolver()
    for number, line in enumerate(lines, 1):
        if trouble := _TROUBLE.fullmatch(line):
            _add(found, path, trouble[1], trouble[2], DnsTrouble[trouble[3]])
            lines[number - 1] = ""
        elif _UNQUOTED.match(line):
            raise Trouble(f"{path}:{number}: expected the text of a TXT record in quotes", status=USAGE)
    for name, kind, value in _records(path, "\n".join(lines) + "\n"):
        _add(found, path, name, kind, value)
    return found


class _Records(dns.transaction.Transaction):
    """Takes records as they are read, of any type and for any name; a zone of dnspython wants an origin, and its SOA."""

    def __init__(self) -> None:
        super().__init__(_Whole())
        self.found: list[tuple[dns.name.Name, dns.rdata.Rdata]] = []

    def add(self, *args: Any) -> None:
        """Take a record."""
        name, _, rdata = args
        self.found.append((name, rdata))

    def _set_origin(self, origin: dns.name.Name | None) -> None:
        """Pass over $ORIGIN: the names that come here are whole."""


class _Whole(dns.transaction.TransactionManager):
    """Says that names are whole."""

    def origin_information(self) -> tuple[dns.name.Name | None, bool, dns.name.Name | None]:
        """Return the origin, whether names are to be cut there, and the origin that matters then."""
        return dns.name.root, False, dns.name.root

    def get_class(self) -> dns.rdataclass.RdataClass:
        """Return the class of all records."""
        return dns.rdataclass.IN


def _records(path: str, text: str) -> list[tuple[str, str, str | bytes]]:
    into = _Records()
    tokens = dns.tokenizer.Tokenizer(text, path)
    try:
        # No $INCLUDE, no $GENERATE: a record is a line of this file.
        dns.zonefile.Reader(
            tokens, dns.rdataclass.IN, into, allow_directives={"$TTL", "$ORIGIN"}, default_ttl=300
        ).read()
    except (DNSException, ValueError, SyntaxError) as error:
        said = str(error) or type(error).__name__
        raise Trouble(said if said.startswith(path) else f"{path}: {said}", status=USAGE) from None
    return [
        (name.to_text(True), rdata.rdtype.name, _value(rdata))
        for name, rdata in into.found
        if rdata.rdtype.name in get_args(RdType)
    ]


def _value(rdata: Any) -> str | bytes:
    """Return a record's value as a zone in the form of tests has it."""
    match rdata.rdtype.name:
        case "TXT":
            return b"".join(rdata.strings)
        case "MX":
            return f"{rdata.preference} {rdata.exchange.to_text(True)}"
        case "A" | "AAAA":
            return str(rdata.address)
        case _:
            return str(rdata.target.to_text(True))


def _add(found: ZoneResolver, path: str, name: str, kind: str, value: str | bytes | DnsTrouble) -> None:
    try:
        found.add(name, kind, value)
    except ValueError as error:
        raise Trouble(f"{path}: {error}", status=USAGE) from None
