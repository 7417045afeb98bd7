"""What ``aiomilter dkim`` does: keys are made and checked, messages signed."""

import argparse
import asyncio
import datetime
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from aiomilter._cli.selector import selector_of
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, USAGE, Trouble
from aiomilter._cli.zone import answers
from aiomilter.auth import dkim
from aiomilter.auth.dkim._crypto import generate
from aiomilter.auth.dkim._key_source import KeySource
from aiomilter.auth.dkim._record import KeyRecord, key_records
from aiomilter.dns import Resolver
from aiomilter.exceptions import ResolverError
from aiomilter.mail.headers import Field, split_message

__all__ = ["COMMANDS"]

_STRING: Final = 255
"""Octets of one character-string of a TXT record (RFC 1035 section 3.3.14)."""
_TTL: Final = 3_600


def _keygen(options: argparse.Namespace) -> int:
    selector = options.selector or selector_of(datetime.datetime.now(datetime.UTC))
    kinds: list[tuple[str, dkim.Key]] = []
    try:
        if not options.ed25519:
            kinds.append((selector, dkim.Key(options.domain, selector, generate("rsa", options.rsa))))
        if options.ed25519 or options.both:
            name = f"ed{selector}" if options.both else selector
            kinds.append((name, dkim.Key(options.domain, name, generate("ed25519"))))
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None
    paths = [Path(options.dir, f"{name}.pem") for name, _ in kinds]
    for path in paths:
        if os.path.lexists(path):
            raise Trouble(f"{path} is there already; choose another --selector or --dir")
    for path, (_, key) in zip(paths, kinds, strict=True):
        _write(path, key.private.pem())
    for _, key in kinds:
        print(_record(key, options.print_dns))
    if options.print_dns == "nsupdate":
        print("send")
    written = " and ".join(map(str, paths))
    print(
        f"wrote {safe(written)}. Next: publish what is printed above, and sign once this finds no fault:",
        file=sys.stderr,
    )
    for path, (name, key) in zip(paths, kinds, strict=True):
        print(f"  aiomilter dkim dns {key.domain} {name} --key {safe(str(path))}", file=sys.stderr)
    return 0


def _write(path: Path, octets: bytes) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(octets)
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}") from None


def _record(key: dkim.Key, form: str) -> str:
    """Return a key's record as it is to be printed."""
    text = key.record()
    if form == "text":
        return f"{key.name}\n{text}"
    strings = " ".join(f'"{text[at : at + _STRING]}"' for at in range(0, len(text), _STRING))
    if form == "nsupdate":
        return f"update add {key.name}. {_TTL} TXT {strings}"
    return f"{key.name}. {_TTL} IN TXT ( {strings} )"


def _dns(options: argparse.Namespace) -> int:
    key = _loaded(options.key, options.domain, options.selector) if options.key else None
    return asyncio.run(_show_record(options, key))


async def _show_record(options: argparse.Namespace, key: dkim.Key | None) -> int:
    name = f"{options.selector}._domainkey.{options.domain}"
    async with answers(options) as resolver:
        try:
            answer = await resolver.lookup(name, "TXT")
        except ResolverError as error:
            raise Trouble(str(error)) from None
    records = key_records(answer.texts)
    if not records:
        other = " among its TXT records" if answer.texts else ""
        print(safe(f"{name}: there is no key record{other}"))
        return FAILED
    good = False
    for record in records:
        said, usable = _said(record, key)
        print(safe(f"{name}: {said}"))
        good = good or usable
    if len(records) > 1:
        print("several key records stand there: which of them counts is up to the reader; leave one")
    return 0 if good else FAILED


def _said(record: KeyRecord, key: dkim.Key | None) -> tuple[str, bool]:
    """Return what there is to say of a record, and whether all is well."""
    if record.key is None:
        return record.problem, False
    said = [f"{record.key.type}, {record.key.bits} bits"]
    said += ["testing (t=y)"] if record.testing else []
    said += ["not for subdomains (t=s)"] if record.strict else []
    usable = True
    if problem := record.refuses(record.key.type, "sha256", subdomain=False):
        said.append(problem)
        usable = False
    if record.key.type == "rsa" and record.key.bits < 2_048:
        said.append("2048 bits are recommended")
    if key is not None:
        belongs = record.key.octets() == key.private.public()
        said.append("belongs to the private key" if belongs else "belongs to another private key")
        usable = usable and belongs
    return ", ".join(said), usable


def _check(options: argparse.Namespace) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ring = dkim.load_keys(options.keys)
    except OSError as error:
        raise Trouble(f"{error.filename or options.keys}: {error.strerror}") from None
    except ValueError as error:
        raise Trouble(str(error)) from None
    return asyncio.run(_check_all(options, list(ring.sources())))


async def _check_all(options: argparse.Namespace, sources: list[KeySource]) -> int:
    good = True
    async with answers(options) as resolver:
        for source in sources:
            wrong = await _problems(source, resolver)
            good = good and not wrong
            where = source.path or source.place
            said = f"{source.domain} {source.selector}: {'; '.join(wrong) or 'signs'} ({where})"
            print(safe(said))
    if not sources:
        print("every key depends on the author: none can be checked")
    return 0 if good else FAILED


async def _problems(source: KeySource, resolver: Resolver) -> list[str]:
    """Return what is wrong with a key: its file, its size, its record, and a message signed with it."""
    wrong = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            key = source.load()
        except (OSError, ValueError) as error:
            return [str(error)]
    wrong += ["everybody may read the file; chmod 640"] if said else []
    if key is None:
        return [*wrong, "there is no file"]
    if key.algorithm.startswith("rsa") and key.bits < 2_048:
        wrong.append(f"{key.bits} bits, 2048 are recommended")
    message = f"From: postmaster@{key.domain}\r\n\r\n".encode()
    (found,) = await dkim.verify(await dkim.sign(message, key) + message, resolver=resolver)
    if found.result != "pass":
        wrong.append(f"{found.problem}: {key.name}")
    return wrong


def _sign(options: argparse.Namespace) -> int:
    selectors = options.selector or [Path(path).name.removesuffix(".pem") for path in options.key]
    if len(selectors) != len(options.key):
        raise Trouble("expected a --selector for each --key, or for none", status=USAGE)
    keys = [_loaded(path, options.domain, name) for path, name in zip(options.key, selectors, strict=True)]
    try:
        signed = dkim.Options(canonicalization=options.canonicalization)
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None
    octets = _octets(options.message)
    message = re.sub(rb"\r?\n", b"\r\n", octets)
    fields = asyncio.run(_signed(message, keys, signed))
    # As its own lines end.
    own = fields if b"\r\n" in octets else fields.replace(b"\r\n", b"\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(own + octets)
    sys.stdout.buffer.flush()
    return 0


async def _signed(message: bytes, keys: list[dkim.Key], options: dkim.Options) -> bytes:
    signing = dkim.Signer(keys, options).start()
    section, begin = split_message(message)
    for field in section:
        signing.header(field.raw)
    signing.end_of_headers()
    signing.body(message[begin:])
    values = await signing.finish()
    for problem in signing.problems:
        print(f"aiomilter: {safe(problem)}", file=sys.stderr)
    if not values:
        raise Trouble("the message is not signed")
    return b"".join(Field.made("DKIM-Signature", value).raw for value in values)


def _octets(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Trouble(f"{name!r} cannot be read: {error.strerror}", status=USAGE) from None


def _loaded(path: str, domain: str, selector: str) -> dkim.Key:
    try:
        return dkim.Key.load(path, domain=domain, selector=selector, allow_weak=True)
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}", status=USAGE) from None
    except ValueError as error:
        raise Trouble(str(error), status=USAGE) from None


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "keygen": _keygen,
    "dns": _dns,
    "check": _check,
    "sign": _sign,
}
"""Each command by its name."""
