"""``aiomilter state``: shows and forgets what policies keep, moves a store, and takes over other greylists."""

import argparse
import asyncio
import contextlib
import datetime
import io
import itertools
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from aiomilter._cli.parsing import whole
from aiomilter._cli.terminal import safe
from aiomilter._cli.trouble import FAILED, MISSING, USAGE, Trouble
from aiomilter.exceptions import StoreError
from aiomilter.policy.greylist import general_sender
from aiomilter.policy.old_greylists import Attempt, PostgreyDump, read_pymilter, rows_of
from aiomilter.policy.stores import GuardedStore, open_store, read_keys, urls
from aiomilter.policy.stores.keys import Keys, address, network, subject
from aiomilter.policy.stores.moving import FIRST_LINE, Movable, Row, line, read_lines
from aiomilter.policy.stores.operations import SECOND, Mode, Op, State

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Show what policies keep, forget it, move a store, or take over the greylist of another program.

What is kept stands under hashes: one is found by all parts that it was made of, and by nothing less.
"""
_EPILOG: Final = """\
WHAT is one of:
  rate NAME KEY                         rates: the login, client or domain
  greylist CLIENT SENDER RECIPIENT      with --domain what was noted for the domain that SPF or DKIM passed for, too
  known USER OTHER                      known senders
  reputation KIND KEY                   such as  reputation domain example.com
  trap CLIENT                           clients that have written to traps

examples:
  aiomilter state show sqlite:/var/lib/filter/state.db rate user bob@example.org
  aiomilter state forget redis://127.0.0.1/3 rate user bob@example.org --keys state.keys
  aiomilter state export sqlite:state.db --output dump
  aiomilter state import redis://127.0.0.1/3 dump
  aiomilter state import sqlite:state.db /var/lib/pymilter/greylist.db
  db5.3_dump -p -h /var/lib/postgrey postgrey.db | aiomilter state import sqlite:state.db -
"""
_RATES: Final = 10
"""Rates of one name that are looked for."""
_TOGETHER: Final = 1000
_TIMEOUT: Final = 5.0
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "rate": ("NAME", "KEY"),
    "greylist": ("CLIENT", "SENDER", "RECIPIENT"),
    "known": ("USER", "OTHER"),
    "reputation": ("KIND", "KEY"),
    "trap": ("CLIENT",),
}
_SQLITE: Final = b"SQLite format 3\0"
Subjects = dict[str, list[bytes]]
"""What is shown, and its keys."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands and their options."""
    parser = commands.add_parser(
        "state", help="show, forget and move what policies keep", description=_DESCRIPTION, epilog=_EPILOG
    )
    ways = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(parser))
    texts = {
        "show": "print what is kept",
        "forget": "forget what is kept",
        "export": "print everything, as hashes, for import elsewhere",
        "import": "take over what export has printed, or another program's greylist",
    }
    for name, does in texts.items():
        way = ways.add_parser(name, help=does, description=f"{does.capitalize()}.")
        way.set_defaults(command=_run, parser=way, way=name)
        way.add_argument("url", metavar="URL", help="of the store, see 'aiomilter help stores'")
        if name in ("show", "forget"):
            way.add_argument("what", metavar="WHAT", choices=tuple(_PARTS), help=", ".join(_PARTS))
            way.add_argument("parts", metavar="PART", nargs="+", help="see 'aiomilter state --help'")
            way.add_argument("--domain", metavar="DOMAIN", help="greylist: the one that SPF or DKIM passed for")
            sizes = {"ipv4": (32, "24, for traps 32"), "ipv6": (128, "56, for traps 64")}
            for family, (most, usual) in sizes.items():
                kind = lambda text, most=most: whole(text, zero=True, maximum=most)  # noqa: E731  # argparse wants one
                way.add_argument(
                    f"--{family}-prefix", metavar="BITS", type=kind, help=f"of networks (default: {usual})"
                )
        if name == "export":
            way.add_argument("--output", metavar="FILE", help="instead of printing; for its owner alone")
        if name == "import":
            way.add_argument("file", metavar="FILE", nargs="+", help="'-' is standard input")
        way.add_argument(
            "--keys", metavar="FILE", help="secrets, one a line, the newest first (sqlite: URL's PATH.key)"
        )
        way.add_argument("--prefix", metavar="TEXT", default="aiomilter:", help="of keys in Redis and PostgreSQL")
        way.add_argument("--password-file", metavar="FILE", help="for the store, instead of one in URL")


def _run(options: argparse.Namespace) -> int:
    does: dict[str, Callable[..., Coroutine[Any, Any, int]]] = {
        "show": _show,
        "forget": _forget,
        "export": _export,
        "import": _import,
    }
    try:
        url = urls.parse(options.url)
        if url.scheme == "memory":
            raise Trouble(
                "memory: is gone with its process; expected sqlite:PATH, redis:// or postgresql://", status=USAGE
            )
        if url.scheme == "sqlite" and options.way != "import" and not os.path.exists(url.path):
            raise Trouble(f"{url.path!r}: no such file", status=MISSING)
        return asyncio.run(_opened(options, does[options.way]))
    except (StoreError, ImportError) as error:
        raise Trouble(str(error)) from None


async def _opened(options: argparse.Namespace, do: Callable[..., Coroutine[Any, Any, int]]) -> int:
    """Open the store, and do what is wanted with it.

    Raises:
        Trouble: It cannot be used.
    """
    scheme = urls.parse(options.url).scheme
    password = _text_of(options.password_file).rstrip("\r\n") if options.password_file else None
    keys: Iterable[bytes] = ()
    if options.keys:
        keys = read_keys(options.keys)
    elif scheme != "sqlite":
        # Nothing is hashed where rows are moved; where something is, keys are asked for when it is.
        keys = (secrets.token_bytes(32),)
    async with open_store(options.url, prefix=options.prefix, password=password, keys=keys, timeout=_TIMEOUT) as store:
        assert isinstance(store.store, Movable)
        if problem := await store.ready(reads_only=options.way in ("show", "export")):
            raise Trouble(problem)
        return await do(options, store, store.store)


def _text_of(name: str) -> str:
    try:
        return Path(name).read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise Trouble(f"cannot read {name!r}: {error.strerror}", status=MISSING) from None


def _hashing(options: argparse.Namespace, store: GuardedStore) -> Keys:
    """Return what makes keys.

    Raises:
        Trouble: The secret was not given.
    """
    if not options.keys and not options.url.lower().startswith("sqlite:"):
        raise Trouble("give --keys FILE: what is kept is found by hashes that are made with it", status=USAGE)
    return store.keys


def _subjects(options: argparse.Namespace, keys: Keys) -> Subjects:
    """Return the keys of what is asked for.

    Raises:
        Trouble: The parts are not as they should be.
    """
    what, parts = options.what, options.parts
    if len(parts) != len(_PARTS[what]):
        expected = " ".join((what, *_PARTS[what]))
        raise Trouble(f"expected {expected}, found {' '.join([what, *parts])!r}", status=USAGE)
    with contextlib.suppress(ValueError):
        match what:
            case "rate":
                who = _who(parts[1], 32, 64)
                return {f"rate {n + 1}": [*keys.of(f"rate_{parts[0]}", who, str(n))] for n in range(_RATES)}
            case "known":
                return {"known": [*keys.of("known", subject(parts[0]), subject(parts[1]))]}
            case "reputation":
                domain = parts[1] if "@" in parts[1] or address(parts[1]) else f"@{parts[1]}"
                return {"reputation": [*keys.of(f"rep_{parts[0]}", _who(domain, 24, 56))]}
            case "trap":
                return {"trap": [*keys.of("trap", _network(options, parts[0], 32, 64))]}
            case _:
                return _greylist(options, keys)
    raise Trouble(f"expected a name of lower-case letters, found {parts[0]!r}", status=USAGE)


def _greylist(options: argparse.Namespace, keys: Keys) -> Subjects:
    client, sender, recipient = options.parts
    net, to = _network(options, client, 24, 56), subject(recipient)
    found = {"client and sender": [*keys.of("grey", "net", net, general_sender(sender.strip("<>")), to)]}
    if options.domain:
        author = subject(f"@{options.domain}")
        found["domain"] = [*keys.of("grey", "domain", author, to)]
        found["client of the domain"] = [*keys.of("grey_client", net, author)]
    return found


def _who(text: str, ipv4: int, ipv6: int) -> str:
    client = address(text)
    return subject(text) if client is None else network(client, ipv4, ipv6)


def _network(options: argparse.Namespace, text: str, ipv4: int, ipv6: int) -> str:
    client = address(text)
    if client is None:
        raise Trouble(f"expected an IP address, found {text!r}", status=USAGE)
    sizes = (options.ipv4_prefix, options.ipv6_prefix)
    return network(client, *(usual if size is None else size for size, usual in zip(sizes, (ipv4, ipv6), strict=True)))


async def _found(options: argparse.Namespace, store: GuardedStore, whole_store: Movable) -> dict[str, State]:
    """Return what is kept, by what it is."""
    subjects = _subjects(options, _hashing(options, store))
    states = iter(await whole_store.fetch([key for keys in subjects.values() for key in keys]))
    found = {}
    for name, keys in subjects.items():
        there = [state for state in itertools.islice(states, len(keys)) if state is not None]
        if there:
            found[name] = there[0]
    return found


async def _show(options: argparse.Namespace, store: GuardedStore, whole_store: Movable) -> int:
    found = await _found(options, store, whole_store)
    for name, state in found.items():
        print(f"{name}: {_told(options.what, name, state)}; kept until {_time(state.expiry)}")
    return 0 if found else _nothing()


def _nothing() -> int:
    print("nothing is kept under these names", file=sys.stderr)
    return FAILED


def _told(what: str, name: str, state: State) -> str:
    """Return what a state means."""
    if what == "rate":
        return f"what was counted will be worked off in {max(0, state.a / SECOND - time.time()):.0f} s"
    if what == "reputation":
        return f"{state.a / 1000:g} good, {state.b / 1000:g} bad as of {_time(state.c * SECOND)}"
    if what == "greylist" and not name.startswith("client of"):
        return f"first seen {_time(state.a)}, passed {state.b} times"
    return f"noted {state.a} times"


def _time(microseconds: int) -> str:
    return datetime.datetime.fromtimestamp(microseconds // SECOND, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def _forget(options: argparse.Namespace, store: GuardedStore, whole_store: Movable) -> int:
    found = await _found(options, store, whole_store)
    for name, keys in _subjects(options, store.keys).items():
        if name in found:
            # What an operation forgets it reads first: one interval and tolerance for the one subject of rates.
            op, args = (Op.GCRA, (0, 1, 1)) if options.what == "rate" else (Op.PAIR, (0,))
            await store.step(op, keys, (store.keys.each, Mode.FORGET, *args))
            print(f"{name}: forgotten")
    return 0 if found else _nothing()


async def _export(options: argparse.Namespace, store: GuardedStore, whole_store: Movable) -> int:
    rows: AsyncIterator[Iterable[Row]] = whole_store.rows()
    with _writing(options.output) as file:
        print(FIRST_LINE, file=file)
        async for some in rows:
            file.writelines(f"{line(row)}\n" for row in some)
    return 0


@contextlib.contextmanager
def _writing(name: str | None) -> Iterator[TextIO]:
    if name is None:
        yield sys.stdout
        return
    try:
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            yield file
    except OSError as error:
        raise Trouble(f"cannot write {name!r}: {error.strerror}") from None


async def _import(options: argparse.Namespace, store: GuardedStore, whole_store: Movable) -> int:
    for name in options.file:
        try:
            with _reading(name) as file:
                rows, remark = _read(file, lambda: _hashing(options, store))
        except OSError as error:
            raise Trouble(f"cannot read {name!r}: {error.strerror}", status=MISSING) from None
        except ValueError as error:
            raise Trouble(f"{name!r}: {error}") from None
        written = 0
        for start in range(0, len(rows), _TOGETHER):
            written += await whole_store.load(rows[start : start + _TOGETHER])
        print(f"{safe(name)}: {written} of {len(rows)} written, the others are there already, or have expired{remark}")
    return 0


@contextlib.contextmanager
def _reading(name: str) -> Iterator[io.TextIOBase]:
    """Open a file; one of pymilter's sqlite is read as the CSV that it would write."""
    if name == "-":
        yield io.TextIOWrapper(sys.stdin.buffer, "utf-8", "surrogateescape")
        return
    with open(name, "rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            from aiomilter.compat.modules.greylist import Greylist

            text = io.StringIO(newline="")
            try:
                with contextlib.closing(Greylist(name)) as greylist:
                    greylist.export_csv(text)
            except sqlite3.Error as error:
                raise ValueError(str(error)) from None
            text.seek(0)
            yield text
            return
        file.seek(0)
        yield io.TextIOWrapper(file, "utf-8", "surrogateescape")


def _read(file: Iterable[str], keys: Callable[[], Keys]) -> tuple[list[Row], str]:
    """Return the rows of a file, whatever it is, and a remark.

    Raises:
        ValueError: It cannot be read.
    """
    lines = iter(file)
    first = next(lines, "")
    if first.rstrip("\r\n") == FIRST_LINE:
        return [Row(key, state) for key, state in {row.key: row.state for row in read_lines(lines)}.items()], ""
    every = itertools.chain([first], lines)
    now = time.time()
    if first.startswith("VERSION="):
        dump = PostgreyDump(every)
        rows = rows_of(dump.attempts(), keys(), now=now)
        passed_over = f"; {dump.clients} clients passed over, which here are known together with a domain alone"
        return rows, passed_over if dump.clients else ""
    attempts: Iterator[Attempt] = read_pymilter(every)
    return rows_of(attempts, keys(), now=now), ""
