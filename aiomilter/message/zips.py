"""The names in a zip file, read from its directory and from the files themselves: whichever a program reads, it is here.

Source: PKWARE's APPNOTE.TXT 6.3.10, section 4.3.
"""

import re
import zlib
from typing import Final, NamedTuple

__all__ = ["MAX_NAMES", "MAX_SIZE", "ZipNames", "zip_names"]

MAX_NAMES: Final = 1_000
MAX_SIZE: Final = 33_554_432
"""Octets of a zip file that are looked into, and octets that all files in it are unpacked to: 32 MiB each."""
_MAX_LEVEL: Final = 2
_SLICE: Final = 256
"""Octets that are unpacked at once: what comes of them before an error, 264 KB at most, is not counted."""
_MARK: Final = re.compile(rb"PK(?:\x01\x02|\x03\x04)")
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800
_DEFLATED: Final = 8


class ZipNames(NamedTuple):
    """What was found in a zip file.

    Args:
        names: Each name once, those in zip files inside as well.
        problem: "" if all was read, else "encrypted", "broken", "too many" or "too deep": such a file is not known to be clean.
    """

    names: tuple[str, ...]
    problem: str = ""


class _Limits:
    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.octets = MAX_SIZE
        self.problem = ""

    def fail(self, problem: str) -> None:
        self.problem = self.problem or problem


def zip_names(octets: bytes) -> ZipNames:
    """Return the names in a zip file."""
    limits = _Limits()
    _read(octets, limits, 1)
    if b"PK\5\6" not in octets:
        limits.fail("broken")
    return ZipNames(tuple(limits.names), limits.problem)


def _read(octets: bytes, limits: _Limits, level: int) -> None:
    """Read every entry that there is a mark of, wherever it is."""
    count = 0
    for match in _MARK.finditer(octets):
        count += 1
        if count > 2 * MAX_NAMES or len(limits.names) >= MAX_NAMES:
            limits.fail("too many")
            return
        start, local = match.start(), match[0].endswith(b"\4")
        if local:
            flags, method, size, name_size, extra, header = *_numbers(octets, start, 6, 8), *_sizes(octets, start), 30
        else:
            flags, method = _numbers(octets, start, 8, 10)
            size, name_size, extra, header = 0, _number(octets, start + 28, 2), 0, 46
        name = octets[start + header : start + header + name_size]
        if len(name) < name_size or not name:
            limits.fail("broken")
            continue
        text = name.decode("utf-8", "replace") if flags & _UTF8 else name.decode("cp437")
        # Text after a NUL is not shown by some programs.
        limits.names[text.replace("\0", "")] = None
        limits.names[text.partition("\0")[0] or text] = None
        if flags & _ENCRYPTED:
            limits.fail("encrypted")
        elif local:
            _look_inside(octets, start + header + name_size + extra, method, size, text, limits, level)


def _look_inside(octets: bytes, start: int, method: int, size: int, name: str, limits: _Limits, level: int) -> None:
    """Read the names of a zip file in a zip file; one that is stored as it is has been seen already."""
    if method != _DEFLATED:
        if name.lower().endswith(".zip") and method != 0:
            limits.fail("broken")
        return
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = memoryview(octets)[start : start + size if size else len(octets)]
    try:
        inner = unpacker.decompress(packed[:4096], 4)
        if inner != b"PK\3\4":
            return
        if level >= _MAX_LEVEL:
            limits.fail("too deep")
            return
        inner = _unpacked(packed, limits)
    except zlib.error:
        limits.fail("broken")
        return
    if limits.octets < 0:
        limits.fail("too deep")
        return
    _read(inner, limits, level + 1)


def _unpacked(packed: memoryview, limits: _Limits) -> bytes:
    """Return a file unpacked, or some of it where it is too much.

    All that comes of it is counted, however it ends: many files may share their octets, each to be unpacked again.

    Raises:
        zlib.error: It is broken.
    """
    unpacker, found = zlib.decompressobj(-zlib.MAX_WBITS), []
    for at in range(0, len(packed), _SLICE):
        octets = unpacker.decompress(packed[at : at + _SLICE], max(limits.octets, 0) + 1)
        found.append(octets)
        limits.octets -= max(len(octets), _SLICE)
        if unpacker.eof or limits.octets < 0:
            break
    return b"".join(found)


def _number(octets: bytes, at: int, size: int) -> int:
    return int.from_bytes(octets[at : at + size], "little")


def _numbers(octets: bytes, start: int, flags: int, method: int) -> tuple[int, int]:
    return _number(octets, start + flags, 2), _number(octets, start + method, 2)


def _sizes(octets: bytes, start: int) -> tuple[int, int, int]:
    """Return packed size, and the sizes of name and extra field, of a file in the zip file."""
    return _number(octets, start + 18, 4), _number(octets, start + 26, 2), _number(octets, start + 28, 2)
