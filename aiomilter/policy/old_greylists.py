"""Greylists of other programs: pymilter's, written by ``export_csv``, and postgrey's, written by ``db5.3_dump -p``.

Source: aiomilter/help/greylist.rst; observed of pymilter 1.0.5 and postgrey 1.37.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from aiomilter.policy.greylist import general_sender
from aiomilter.policy.stores.keys import Keys, address, network, subject
from aiomilter.policy.stores.moving import Row
from aiomilter.policy.stores.operations import CAP, SECOND, State

__all__ = ["Attempt", "PostgreyDump", "read_pymilter", "rows_of"]

_POSTGREY_DELAY: Final = 300
"""Seconds; it does not write down what it was told."""
_ESCAPE: Final = re.compile(r"\\(\\|[0-9a-fA-F]{2})")
_HASH: Final = re.compile(r"[0-9a-f]{40}")
_MAX_TIME: Final = 1 << 33


class Attempt(NamedTuple):
    """What another greylist knows of a client, sender and recipient.

    Args:
        client: Its address, or that of its network.
        sender: Of the envelope.
        recipient: Of the envelope.
        first: Seconds since 1970.
        last: The same.
        passes: How often it has passed.
    """

    client: str
    sender: str
    recipient: str
    first: float
    last: float
    passes: int


def read_pymilter(lines: Iterable[str]) -> Iterator[Attempt]:
    """Yield what pymilter's greylist has written as CSV.

    Raises:
        ValueError: A line is not as that writes them.
    """
    try:
        for number, row in enumerate(csv.reader(lines), 1):
            if row:
                yield _pymilter_attempt(number, row)
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _pymilter_attempt(number: int, row: Sequence[str]) -> Attempt:
    try:
        client, sender, recipient, first, last, count = row[:6]
        passes = min(max(0, int(count)), CAP)
        return Attempt(client, _bare(sender), _bare(recipient), _time(first), _time(last), passes)
    except ValueError:
        raise ValueError(f"line {number}: expected client, sender, recipient, two times and a count") from None


class PostgreyDump:
    """Reads ``postgrey.db``, or ``postgrey_clients.db``, as ``db5.3_dump -p`` prints it.

    Args:
        lines: Of the dump, all of them.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.clients: int = 0
        """Clients that were passed over: they are known whatever they send, and here together with a domain alone."""

    def attempts(self) -> Iterator[Attempt]:
        """Yield what it holds.

        Raises:
            ValueError: It is not such a dump, or its keys were hashed (``--privacy``).
        """
        plain = self._head()
        for key in self._lines:
            if not key.startswith(" "):
                return  # DATA=END
            name, value = _octets(key, plain), _octets(next(self._lines, ""), plain)
            if _HASH.fullmatch(name):
                raise ValueError(
                    "postgrey was run with --privacy: its keys are SHA-1 hashes, in which no address can be read"
                )
            if "/" not in name:
                self.clients += 1
                continue
            try:
                first, last = map(_time, value.split(",")[:2])
                yield Attempt(*_parts(name), first, last, int(last - first >= _POSTGREY_DELAY))
            except ValueError:
                raise ValueError(
                    f"expected net/sender/recipient and two times, found {name[:60]!r}, {value[:60]!r}"
                ) from None

    def _head(self) -> bool:
        """Read the head, and return whether octets that print are written plainly."""
        plain = False
        for text in self._lines:
            plain = plain or text.strip() == "format=print"
            if text.strip() == "HEADER=END":
                return plain
        raise ValueError("expected a dump of db5.3_dump -p, found no HEADER=END")


def rows_of(
    attempts: Iterable[Attempt], keys: Keys, *, now: float, window: float = 48 * 3600, keep: float = 36 * 86_400
) -> list[Row]:
    """Return what a :class:`~aiomilter.policy.greylist.Greylist` would keep of attempts, those left out that are too old.

    Args:
        attempts: Those of one client network, sender and recipient become one.
        keys: Of the store.
        now: Seconds since 1970.
        window: See :class:`~aiomilter.policy.greylist.Greylist`.
        keep: The same.
    """
    found: dict[bytes, State] = {}
    for each in attempts:
        client = address(each.client)
        if client is None:
            continue
        expiry = each.last + keep if each.passes else each.first + window
        if expiry <= now:
            continue
        key = keys.of("grey", "net", network(client, 24, 56), general_sender(each.sender), subject(each.recipient))[0]
        state = State(round(expiry * SECOND), round(each.first * SECOND), each.passes)
        if (other := found.get(key)) is not None:
            state = State(max(state.expiry, other.expiry), min(state.a, other.a), max(state.b, other.b))
        found[key] = state
    return [Row(key, state) for key, state in found.items()]


def _octets(text: str, plain: bool) -> str:
    text = text.rstrip("\n").removeprefix(" ")
    if not plain:
        return bytes.fromhex(text).decode("utf-8", "surrogateescape").rstrip("\0")
    raw = _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1], 16)), text)
    return raw.encode("latin-1", "replace").decode("utf-8", "surrogateescape").rstrip("\0")


def _parts(name: str) -> tuple[str, str, str]:
    """Return net, sender and recipient; each of the addresses may hold slashes, and the sender may be empty."""
    net, _, rest = name.partition("/")
    for cut in (found.start() for found in re.finditer("/", rest[:1000])):
        sender, recipient = rest[:cut], rest[cut + 1 :]
        if (not sender or "@" in sender) and "@" in recipient:
            return net, sender, recipient
    sender, _, recipient = rest.rpartition("/")
    return net, sender, recipient


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _time(text: str) -> float:
    found = float(text)
    if not 0 <= found < _MAX_TIME:
        raise ValueError("expected seconds since 1970")
    return found
