"""Conversations read by both readers of the protocol: ``python -m tests.faults.twins [--conversations N] [--seed N]``.

They are the kept inputs of the fuzz targets that read packets, and others made at random: octets, how they are split, what is
agreed and what a filter answers come from a seed.  After each batch the events, the errors with their texts, and the whole
state of the connection have to be equal.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

from aiomilter.exceptions import MilterError
from aiomilter.wire import reader
from aiomilter.wire.connection import Connection
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Abort, EndOfMessage, Negotiate, QuitNewConnection, Unknown
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import Wants, agree
from aiomilter.wire.reader import LARGE, MOST, Wire
from aiomilter.wire.state import LIBMILTER, NATIVE, Rules
from tests.faults.fuzz import corpus

Read: TypeAlias = Callable[[Wire, int], list[Any]]

OFFER: Final = Negotiate(6, 0x1FF, 0x1FFFFF).payload
USUAL: Final = {
    b"C": b"h\0004\0\x19192.0.2.1\0",
    b"H": b"h\0",
    b"M": b"<a@x>\0SIZE=3\0",
    b"R": b"<b@x>\0",
    b"T": b"",
    b"L": b"Subject\0 hi\0",
    b"N": b"",
    b"B": b"x\r\n",
    b"E": b"",
    b"U": b"FOO\0",
    b"A": b"",
    b"K": b"",
}
ORDER: Final = [b"C", b"H", b"M", b"R", b"R", b"T", *[b"L"] * 6, b"N", b"B", b"B", b"E", b"M", b"R", b"L", b"E"]
FIELDS: Final = [
    b"A\0b\0",
    b"A\0\0",
    b"Received\0 from x\n\tby y\0",
    "Übergröße\0größer\0".encode(),
    b"A\0\xff\xfe\0",
    b"\xff\0b\0",
    b"A\0b\0c\0",
    b"A\0b\0\xff",
    b"A\0b\0\0",
    b"\0b\0",
    b"\0\0",
    b"A\0b",
    b"A",
    b"",
    b"A\0\xed\xa0\x80\0",
    b"Long\0" + b"x" * 1100 + b"\0",
]
"""Usual ones, unusual ones, and some that break the protocol."""
STAGES: Final = b"CHMRTLNBEUXD\0\xff"
MACROS: Final = [b"i\0x\0", b"i\0y\0", b"", b"i\0", b"{a}\0\xff\0", b"v\0" + b"x" * 1100 + b"\0"]
# Lengths around limits, of LARGE and of a frame; a length counts the code, and a macro's the stage.
_AROUND_LARGE: Final = [b"x" * (size - 2 + more) + b"\0" for size in (LARGE, 1201, 41) for more in (-1, 0, 1, 2)]


class Conversation(NamedTuple):
    """The input of two connections."""

    rules: Rules
    limits: tuple[int, int, int]
    wants: Wants
    pieces: list[bytes]
    most: int
    answers: int
    """A bit for each answer: whether it ends the message."""


def conversation(seed: int) -> Conversation:
    """Return the conversation of a seed."""
    random = Random(seed)
    octets = packet(79, OFFER) + b"".join(_packets(random))
    ends = sorted(random.sample(range(len(octets)), min(len(octets), random.choice((0, 1, 3, 20)))))
    pieces = [octets[start:stop] for start, stop in zip([0, *ends], [*ends, len(octets)], strict=True)]
    stages = frozenset(Stage) if random.random() < 0.8 else frozenset(random.sample(list(Stage), 6))
    silent = frozenset(random.sample(list(Stage), random.choice((0, 3, 8, 10))))
    return Conversation(
        random.choice((NATIVE, LIBMILTER)),
        random.choice(
            ((1 << 20, 1 << 40, 1 << 40), (1 << 20, 3, 1 << 40), (1 << 20, 99, 60), (1200, 9, 2000), (40, 9, 99))
        ),
        Wants(stages, no_reply=silent, leading_space=random.random() < 0.2),
        pieces,
        random.choice((1, 2, 3, 5, MOST, MOST)),
        random.choice((0, 0, random.getrandbits(64) & random.getrandbits(64) & random.getrandbits(64))),
    )


def kept() -> Iterator[Conversation]:
    """Yield a conversation for each kept input, whole and octet by octet."""
    wants = Wants(frozenset(Stage), no_reply=frozenset(Stage) - {Stage.EOM, Stage.UNKNOWN})
    for target in ("framing", "packets", "sessions"):
        for octets in corpus.read(target):
            for pieces in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
                yield Conversation(NATIVE, (1 << 20, 9, 2000), wants, [packet(79, OFFER), *pieces], MOST, 0)


def _packets(random: Random) -> Iterator[bytes]:
    macros, odd = random.choice((0.0, 0.5, 1.0)), random.choice((0.0, 0.0, 0.03, 0.1, 0.3))
    same = random.choice(MACROS)
    for code in ORDER[random.choice((0, 0, 2)) : random.choice((6, 10, 14, len(ORDER), len(ORDER)))]:
        if random.random() < odd:
            code = random.choice((*USUAL, b"Q", b"O", b"D", b"Z", b"L"))
        if random.random() < macros:
            stage = code if random.random() > odd else bytes([random.choice(STAGES)])
            yield packet(68, stage + (same if random.random() > odd else random.choice((*MACROS, *_AROUND_LARGE))))
        payload = USUAL.get(code, b"")
        if code == b"L" and random.random() < 0.5:
            payload = random.choice(FIELDS[:10] if random.random() > odd else FIELDS)
        elif random.random() < odd / 3:
            payload = random.choice((b"", b"x", payload[:-1], payload + b"\xff", *_AROUND_LARGE))
        if random.random() < odd / 20:
            yield random.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\5\0", b"GET / HTTP/1.1\r\n"))
        yield packet(code[0], payload)


def played(read: Read, given: Conversation) -> list[object]:
    """Return all that one reader brings, and the state of the connection after each batch."""
    size, *limits = given.limits
    wire = Connection(size, given.rules, *limits)
    answers = given.answers
    found: list[object] = []
    for piece in given.pieces:
        wire.receive_data(piece)
        while True:
            try:
                batch = read(wire, given.most)
            except MilterError as error:
                return [*found, type(error), str(error), *_state(wire)]
            found += [batch, *map(type, batch), *_state(wire)]
            if not batch:
                break
            for item in [*batch]:
                if isinstance(item, bytes):
                    wire.macros.keep(item)
                    continue
                if isinstance(item, list):
                    found += map(type, item)
                try:
                    _handle(wire, item, given.wants)
                except MilterError as error:
                    return [*found, str(error)]
                if answers & 1 and wire.message_open and not isinstance(item, Abort):
                    wire.decide()
                answers >>= 1
            found.append(wire.place)
    return found


def _handle(wire: Connection, event: object, wants: Wants) -> None:
    """Do what the caller of a reader does about an event."""
    match event:
        case Negotiate():
            wire.agreed(agree(event, wants))
        case Abort() | EndOfMessage():
            wire.end_message()
        case QuitNewConnection():
            wire.end_connection()
        case Unknown():
            wire.macros.forget_unknown()
    if wire.last_of_body:
        wire.end_of_message()
        wire.end_message()


def _state(wire: Connection) -> list[object]:
    buffer, macros = wire.buffer, wire.macros
    return [
        (buffer.data, buffer.pos, buffer.end, [*buffer.parts], buffer.skip, buffer.missing, buffer.looks),
        ([*macros.sets], macros.last, macros.in_unknown, macros.size),
        (wire.state, _row(wire), wire.large, wire.headers_left, wire.headers_size_left, wire.last_of_body, wire.broken),
        ([*wire.batch], wire.read_from, wire.connected),
    ]


def _row(wire: Connection) -> list[object]:
    """Return the names of the row that holds: an equal one is another."""
    return [state for state, row in (wire._rows or {}).items() if row is wire.row]


def difference(first: Read, second: Read, conversations: int, seed: int = 0) -> str | None:
    """Return the first conversation that two readers differ in; None if there is none."""
    for given in chain(kept(), map(conversation, range(seed, seed + conversations))):
        one, other = played(first, given), played(second, given)
        if one != other:
            place = next(i for i, (a, b) in enumerate(zip([*one, None], [*other, None], strict=False)) if a != b)
            return f"{given}\n{[*one, None][place]}\n{[*other, None][place]}"
    return None


def _library(path: Path | None) -> Read:
    """Return the compiled reader, as installed or of a file."""
    name = "aiomilter.wire._reader"
    spec = find_spec(name) if path is None else spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SystemExit("twins: aiomilter was installed without a C compiler, so there is no compiled reader")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    read: Read = module.read
    return read


def main() -> int:
    """Compare the readers, and return 1 if they differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.twins", description=__doc__)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", type=Path, help="a compiled reader that is not installed")
    options = parser.parse_args()
    found = difference(reader.read, _library(options.library), options.conversations, options.seed)
    print(found or f"{options.conversations} conversations from seed {options.seed} on: no difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
