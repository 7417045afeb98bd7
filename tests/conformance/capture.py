"""Captured conversations as data; the format is in tests/captures/README.md."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

CAPTURES: Final = Path(__file__).parent.parent / "captures"
LIBMILTER: Final = "libmilter-8.17-filter"

_ELIDED: Final = re.compile(r"([0-9a-f]{10})\.\.\.\(([0-9]+)")


class Packet(NamedTuple):
    """One packet.

    Args:
        sender: "M" for the MTA, "F" for the filter.
        burst: Number of the read that completed it, or that it answers.
        octets: All of it.
        whole: Whether the file has all octets; otherwise the payload was rebuilt as a run of "x".
    """

    sender: str
    burst: int
    octets: bytes
    whole: bool = True

    @property
    def code(self) -> str:
        """The code as a letter."""
        return chr(self.octets[4])

    @property
    def payload(self) -> bytes:
        """What follows the code."""
        return self.octets[5:]


class Conversation(NamedTuple):
    """One milter connection of a file.

    Args:
        name: File and number of the connection.
        packets: In the order of the file.
        callbacks: What libmilter called; none in other files.
        closed_by_filter: Whether the file says so.
        scenario: What is probed, in libmilter's file.
    """

    name: str
    packets: tuple[Packet, ...]
    callbacks: tuple[str, ...]
    closed_by_filter: bool
    scenario: str

    def sent(self, sender: str) -> list[Packet]:
        """Return the packets of one side."""
        return [packet for packet in self.packets if packet.sender == sender]


def _packet(sender: str, burst: str, text: str) -> Packet:
    if elided := _ELIDED.match(text):
        head = bytes.fromhex(elided[1])
        return Packet(sender, int(burst[1:]), head + b"x" * (int(elided[2]) - len(head)), whole=False)
    return Packet(sender, int(burst[1:]), bytes.fromhex(text))


def _read(path: Path) -> Iterator[Conversation]:
    packets: dict[str, list[Packet]] = {}
    remarks: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            number, kind, rest = line.split(" ", 2)
            packets.setdefault(number, [])
            remarks.setdefault(number, [])
            if kind == "-":
                remarks[number].append(rest)
            else:
                burst, text, *_ = rest.split()
                packets[number].append(_packet(kind, burst, text))
    for number, found in packets.items():
        said = remarks[number]
        yield Conversation(
            f"{path.stem} {number}",
            tuple(found),
            tuple(remark.removeprefix("callback ") for remark in said if remark.startswith("callback ")),
            "filter closed the connection" in said,
            next((remark.removeprefix("scenario: ") for remark in said if remark.startswith("scenario: ")), ""),
        )


@lru_cache(maxsize=1)
def conversations() -> dict[str, Conversation]:
    """Return every captured conversation by name."""
    return {found.name: found for path in sorted(CAPTURES.glob("*.txt")) for found in _read(path)}


def of_mtas() -> list[str]:
    """Return the names of conversations that an MTA, or a test program in its place, has led."""
    return [name for name in conversations() if not name.startswith(LIBMILTER)]


def of_libmilter() -> list[str]:
    """Return the names of scenarios that were played to libmilter."""
    return [name for name in conversations() if name.startswith(LIBMILTER)]
