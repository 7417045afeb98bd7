"""The inputs that are kept: ``corpus/TARGET.txt``, a line of hexadecimal digits each; ``#`` begins a remark."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["read", "write"]

_DIRECTORY: Final = Path(__file__).parent / "corpus"
_LONGEST: Final = 300
"""Octets of an input that is kept by itself: longer ones reach little that shorter ones do not."""
_MOST: Final = 150
"""Inputs that are kept by themselves."""


def read(target: str) -> list[bytes]:
    """Return the inputs of a target."""
    path = _DIRECTORY / f"{target}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [bytes.fromhex(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def write(target: str, inputs: Iterable[bytes]) -> None:
    """Keep the shortest of these; what has a remark stays."""
    path = _DIRECTORY / f"{target}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    remarked = [line for line in lines if "#" in line]
    short = sorted(
        {octets for octets in inputs if 0 < len(octets) <= _LONGEST}, key=lambda octets: (len(octets), octets)
    )
    path.write_text("".join(f"{line}\n" for line in [*remarked, *(octets.hex() for octets in short[:_MOST])]))
