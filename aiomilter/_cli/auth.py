"""The command ``aiomilter auth``: all checks of a message and, if a signature fails, what exactly was hashed."""

import argparse
import asyncio
import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiomilter._cli.messages import messages
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._cli.zone import add_dns_options, answers
from aiomilter.auth import Authentication, Authenticator
from aiomilter.auth.dkim import Signature
from aiomilter.auth.dkim._body import BodyStream
from aiomilter.auth.dkim._checking import CanonicalHeader
from aiomilter.auth.dkim._signature import Tags, Unusable, parse_tags, read_tags
from aiomilter.exceptions import AddressError
from aiomilter.mail.envelope import bare_address
from aiomilter.mail.headers import Field, HeaderSection, split_message

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Check where messages come from: the reverse name of the client, SPF, DKIM, ARC and DMARC, one line for each finding, and the
Authentication-Results field that a filter would add.  A signature that fails says why; with -v also which octets it
covers, as they were hashed.

MESSAGE is a file, a directory, an mbox, or - for standard input.  Without --ip only the signatures speak for the author.
"""
_EPILOG: Final = """\
examples:
  aiomilter auth message.eml
  aiomilter auth message.eml --ip 192.0.2.1 --helo mail.example.com --sender alice@example.com
  aiomilter auth message.eml -v --zone records.txt      with keys that are not published yet

exit codes: 0 done, whatever the results; 1 failed; 2 wrong usage; 4 no such message
"""
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
# Lines of a body that -v shows at its beginning and at its end.
_BEGINNING: Final = 20
_END: Final = 5
_CHUNK: Final = 65_536


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "auth", help="check where a message comes from", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.set_defaults(command=_auth, parser=parser)
    parser.add_argument("arguments", metavar="MESSAGE", nargs="+", help="the message")
    parser.add_argument("--ip", metavar="ADDRESS", help="the address of the SMTP client")
    parser.add_argument("--helo", metavar="NAME", default="", help="what the client said in HELO or EHLO")
    parser.add_argument(
        "--sender", metavar="ADDRESS", default="", help="the envelope sender; the null sender if left out"
    )
    parser.add_argument(
        "--name", metavar="NAME", default="localhost", help="your name in Authentication-Results (default: %(default)s)"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="show which octets signatures cover; -vv: all lines of the body",
    )
    add_dns_options(parser)


def _auth(options: argparse.Namespace) -> int:
    return asyncio.run(_checked(options))


async def _checked(options: argparse.Namespace) -> int:
    async with answers(options) as resolver:
        try:
            auth = Authenticator(resolver, authserv_ids=[options.name])
        except ValueError as error:
            raise Trouble(f"--name: {error}", status=USAGE) from None
        except ImportError as error:
            raise Trouble(str(error)) from None
        for number, message in enumerate(messages(options.arguments)):
            octets = re.sub(rb"\r?\n", b"\r\n", message.octets)
            try:
                found = await auth.check(octets, ip=options.ip, helo=options.helo, sender=bare_address(options.sender))
            except AddressError as error:
                raise Trouble(f"--ip: {error}", status=USAGE) from None
            if len(options.arguments) > 1 or message.source != options.arguments[0]:
                print(f"{chr(10) * bool(number)}{safe(message.source)}:")
            for line in _findings(found, octets, options.verbose):
                print(safe(line, also="\t"))
    return 0


def _findings(found: Authentication, octets: bytes, verbose: int) -> Iterator[str]:
    if "iprev" in found.methods:
        yield _line("iprev", found.iprev.result, found.iprev.name or found.iprev.problem or str(found.iprev.ip))
    if "spf" in found.methods:
        spf = found.spf
        yield _line("spf", spf.result, f"{spf.sender}: {spf.problem or spf.mechanism}")
        if found.helo_spf.result != "none":
            yield _line(
                "helo",
                found.helo_spf.result,
                f"{found.helo_spf.helo}: {found.helo_spf.problem or found.helo_spf.mechanism}",
            )
    else:
        yield _line("spf", "none", "not checked without --ip")
    yield from _signatures(found.dkim, octets, verbose)
    arc = found.arc
    yield _line("arc", arc.result, arc.problem or ", ".join(f"sealed by {each}" for each in arc.sealers))
    yield _line("dmarc", found.dmarc.result, _policy(found))
    for occurrence in reversed(found.forged):
        yield _line(
            "forged",
            "",
            f"Authentication-Results, number {occurrence} from the top, claims to be {found.authserv_id}'s",
        )
    yield ""
    yield from f"Authentication-Results: {found.results()}".split("\n")


def _line(method: str, result: str, remark: str) -> str:
    return f"{method:7}{result:10}{remark}".rstrip()


def _policy(found: Authentication) -> str:
    dmarc = found.dmarc
    if dmarc.policy is None:
        return dmarc.problem
    said = f"{dmarc.author_domain}: p={dmarc.policy}, published by {dmarc.domain}"
    if dmarc.result == "pass":
        return f"{said}; aligned: {', '.join(dmarc.aligned)}"
    return f"{said}; neither SPF nor a signature is aligned"


def _signatures(signatures: Sequence[Signature], octets: bytes, verbose: int) -> Iterator[str]:
    if not signatures:
        yield _line("dkim", "none", "the message is not signed")
    section, body = split_message(octets)
    header = CanonicalHeader(section)
    fields = section.get_all("DKIM-Signature")
    for at, signature in enumerate(signatures):
        key = f", {signature.key_bits}-bit key" if signature.key_bits else ""
        remark = (
            f"{signature.domain}, selector {signature.selector}, {signature.algorithm}{key}" if signature.domain else ""
        )
        yield _line("dkim", signature.result, ": ".join(filter(None, (remark, signature.problem))))
        if verbose and at < len(fields):
            yield from _hashed(header, fields[at], octets[body:], verbose)


def _hashed(header: CanonicalHeader, field: Field, body: bytes, verbose: int) -> Iterator[str]:
    """Yield the octets that a signature covers, and whether those of the body are the ones that were signed."""
    try:
        tags = parse_tags(read_tags(field))
    except Unusable:
        return
    yield f"    header, {tags.header_form}:"
    for line in _lines(header.input(tags.names, field, tags.header_form)):
        yield f"      {line}"
    if absent := _absent(header.section, tags):
        yield f"    signed to be absent: {', '.join(absent)}"
    covered = _Kept(tags.length)
    stream = BodyStream(tags.body_form)
    stream.copy_to(covered)
    digest = stream.add(tags.hash_name, tags.length)
    for begin in range(0, len(body), _CHUNK):
        stream.update(body[begin : begin + _CHUNK])
    stream.finish()
    yield f"    body, {tags.body_form}, {len(covered.octets)} octets:"
    lines = _lines(bytes(covered.octets))
    if verbose < 2 and len(lines) > _BEGINNING + _END:
        left = len(lines) - _BEGINNING - _END
        lines = [*lines[:_BEGINNING], f"... {left} lines, all with -vv ...", *lines[-_END:]]
    for line in lines:
        yield f"      {line}"
    claimed, made = (base64.b64encode(each).decode() for each in (tags.body_hash, digest.digest()))
    yield f"    {tags.hash_name} of the body: {made}, {'as signed' if made == claimed else f'signed was {claimed}'}"


class _Kept:
    """Keeps the octets of a canonical body that a signature covers."""

    def __init__(self, length: int | None) -> None:
        self._length = length
        self.octets = bytearray()

    def update(self, octets: bytes) -> None:
        """Take the next octets."""
        self.octets += octets if self._length is None else octets[: max(0, self._length - len(self.octets))]


def _lines(octets: bytes) -> list[str]:
    """Return lines with each octet that one cannot see as an escape, line ends too."""
    return [repr(line)[2:-1] for line in _LINE.findall(octets)]


def _absent(section: HeaderSection, tags: Tags) -> list[str]:
    """Return the fields that a signature names once more than there are."""
    return sorted({name for name in tags.names if tags.names.count(name) > len(section.get_all(name))})
