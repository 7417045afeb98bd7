"""``aiomilter dkim``: make keys, see what DNS says of them, and sign by hand."""

import argparse
from typing import Any, Final

from aiomilter._cli.trouble import Trouble
from aiomilter._cli.zone import add_dns_options

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Make keys for DKIM, see what DNS says of them, and sign a message by hand.
"""
_EPILOG: Final = """\
examples:
  aiomilter dkim keygen example.com --both --print-dns bind
  aiomilter dkim dns example.com 2026q4 --key 2026q4.pem
  aiomilter dkim check keys.toml
  aiomilter dkim sign message.eml --domain example.com --key 2026q4.pem

exit codes: 0 done, 1 something is wrong with a key, 2 wrong usage
"""
_BITS: Final = (1_024, 2_048, 3_072, 4_096)


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands and their options."""
    parser = commands.add_parser("dkim", help="make and check keys, sign", description=_DESCRIPTION, epilog=_EPILOG)
    ways = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(parser))
    _add_keygen(ways)
    _add_dns(ways)
    _add_check(ways)
    _add_sign(ways)


def _add_keygen(ways: "argparse._SubParsersAction[Any]") -> None:
    way = ways.add_parser(
        "keygen",
        help="make a key and print its record",
        description="Make key files that only you can read, and print the records to publish. No file is overwritten.",
    )
    way.set_defaults(command=_run, parser=way, way="keygen")
    way.add_argument("domain", metavar="DOMAIN", help="the domain that signs")
    way.add_argument("--selector", metavar="S", help="name of the key (default: the quarter, such as 2026q4)")
    kinds = way.add_mutually_exclusive_group()
    kinds.add_argument(
        "--rsa",
        metavar="BITS",
        type=int,
        choices=_BITS,
        default=2_048,
        help="an RSA key of so many bits (default: 2048)",
    )
    kinds.add_argument("--ed25519", action="store_true", help="an Ed25519 key")
    kinds.add_argument("--both", action="store_true", help="one of each: the other's selector begins with 'ed'")
    way.add_argument("--dir", metavar="DIR", default=".", help="where to write the files (default: here)")
    way.add_argument(
        "--print-dns",
        choices=("bind", "text", "nsupdate"),
        default="bind",
        help="how to print records: for a zone file (the default), as name and text, or for nsupdate(1)",
    )


def _add_dns(ways: "argparse._SubParsersAction[Any]") -> None:
    way = ways.add_parser(
        "dns",
        help="look at a record in DNS",
        description="Ask for the record of a key, and say whether it can be used, and belongs to a file.",
    )
    way.set_defaults(command=_run, parser=way, way="dns")
    way.add_argument("domain", metavar="DOMAIN", help="the domain that signs")
    way.add_argument("selector", metavar="SELECTOR", help="name of the key")
    way.add_argument("--key", metavar="FILE", help="the private key that it should belong to")
    add_dns_options(way)


def _add_check(ways: "argparse._SubParsersAction[Any]") -> None:
    way = ways.add_parser(
        "check",
        help="look at all keys of a file",
        description="Read every key that a file of keys names, and compare each with its record in DNS.",
    )
    way.set_defaults(command=_run, parser=way, way="check")
    way.add_argument("keys", metavar="KEYS.toml", help="the file of keys")
    add_dns_options(way)


def _add_sign(ways: "argparse._SubParsersAction[Any]") -> None:
    way = ways.add_parser(
        "sign", help="sign a message", description="Print a message with signatures above it; '-' reads it from stdin."
    )
    way.set_defaults(command=_run, parser=way, way="sign")
    way.add_argument("message", metavar="MESSAGE.eml", help="the message, line ends as LF or CRLF")
    way.add_argument("--key", metavar="FILE", action="append", required=True, help="a private key; may be repeated")
    way.add_argument("--domain", metavar="D", required=True, help="the domain that signs")
    way.add_argument(
        "--selector", metavar="S", action="append", help="name of each key (default: that of its file, without .pem)"
    )
    way.add_argument(
        "--canonicalization",
        metavar="HEADER/BODY",
        default="relaxed/relaxed",
        help="simple or relaxed, for both (default: %(default)s)",
    )


def _run(options: argparse.Namespace) -> int:
    # Other commands do without the library that these need.
    from aiomilter._cli import dkim_keys

    try:
        return dkim_keys.COMMANDS[options.way](options)
    except ImportError as error:
        raise Trouble(str(error)) from None
