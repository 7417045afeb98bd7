"""Reading files of recorded sessions.  They may come from anywhere, so everything has a bound."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from aiomilter.recording.errors import RecordingError
from aiomilter.recording.format import MAX_PAYLOAD_SIZE, Packet, Recording, parse_head, parse_packet

__all__ = ["MAX_SIZE", "read"]

MAX_SIZE: Final = 256 << 20
"""Octets of a file once it is decompressed."""
_MAX_PACKETS: Final = 1_000_000
_LINE_SIZE: Final = 6 * MAX_PAYLOAD_SIZE + 1024
"""Octets of a line: JSON writes an octet as at most six."""
_GZIP: Final = b"\x1f\x8b"


def read(path: str | os.PathLike[str], *, max_size: int = MAX_SIZE) -> Recording:
    """Return the recorded session of a file, gzipped or not.

    Args:
        path: Of the file.
        max_size: Most octets of it once it is decompressed; no more are decompressed.

    Raises:
        RecordingError: It is not such a file, is damaged or too large.
        OSError: It cannot be read.
    """
    name = os.fspath(path)
    with Path(name).open("rb") as file:
        try:
            lines = _lines(_decompressed(file), max_size)
            head = parse_head(next(lines, b""))
            packets = tuple(_packets(lines))
        except RecordingError as error:
            raise RecordingError(f"{name}: {error}") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise RecordingError(f"{name}: damaged: {error}") from None
        except EOFError:
            raise RecordingError(f"{name}: ends in the middle") from None
    return Recording(name, head, packets)


def _decompressed(file: io.BufferedReader) -> BinaryIO:
    if file.peek(2)[:2] != _GZIP:
        return file
    return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))


def _lines(file: BinaryIO, max_size: int) -> Iterator[bytes]:
    left = max_size
    while line := file.readline(min(_LINE_SIZE, left) + 1):
        left -= len(line)
        if left < 0:
            raise RecordingError(f"expected at most {max_size} octets, found more")
        if len(line) > _LINE_SIZE:
            raise RecordingError(f"expected lines of at most {_LINE_SIZE} octets, found a longer one")
        yield line


def _packets(lines: Iterator[bytes]) -> Iterator[Packet]:
    for number, line in enumerate(lines, 2):
        if number > _MAX_PACKETS:
            raise RecordingError(f"expected at most {_MAX_PACKETS} lines, found more")
        try:
            yield parse_packet(line)
        except RecordingError as error:
            raise RecordingError(f"line {number}: {error}") from None
