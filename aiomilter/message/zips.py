"""The names in a zip file, read from its directory and from the files themselves: whichever a program reads, it is here.

Source: PKWARE's APPNOTE.TXT 6.3.10, section 4.3.
"""

import re
import zlib
from binascii import a2b_qp
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiomilter.message.filenames import extension, spellings
from aiomilter.message.transfer import decoded_whole

__all__ = ["MAX_NAMES", "MAX_SIZE", "ZipNames", "begins_as_zip", "zip_names"]

MAX_NAMES: Final = 1_000
MAX_SIZE: Final = 33_554_432
"""Octets of a zip file that are looked into, and octets that all files in it are unpacked to: 32 MiB each."""
_MAX_LEVEL: Final = 2
_SLICE: Final = 256
"""Octets that are unpacked at once: what comes of them before an error, 264 KB at most, is not counted."""
_MAX_NAME: Final = 2_000
"""Characters of a name, from its end, of which other readings are looked for."""
_MAX_WORK: Final = 20_000
"""Entries that are read and names that are spelled out, again and again or not, zip files inside included; long ones count as
several.  A thousand names of 250 characters that are not ASCII, each at two places and in an extra field, take as much."""
_BLOCK: Final = 4_096
_MARK: Final = re.compile(rb"PK(?:\x01\x02|\x03\x04)")
_BEGINNINGS: Final = (b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"PK00PK")
_UNICODE_PATH: Final = b"\x75\x70"
_ENCRYPTED: Final = 0x2041
"""Bits of those whose content, or whose names, are encrypted."""
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


class _TooMuch(Exception):
    """More has to be read than is looked into; it never leaves this module."""


class _Limits:
    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.octets = MAX_SIZE
        self.problem = ""
        self._work = _MAX_WORK
        # Whether each name is that of a zip file: most stand at two places.
        self._taken: dict[tuple[str, ...], bool] = {}

    def work(self, steps: int) -> None:
        """Count work that is about to be done, and raise :class:`_TooMuch` if it is too much."""
        self._work -= steps
        if self._work < 0:
            raise _TooMuch

    def take(self, *readings: str) -> bool:
        """Keep a name, and what programs may make of it; return whether the first reading is the name of a zip file."""
        found = self._taken.get(readings)
        if found is None:
            found = self._taken[readings] = self._take(readings[0], dict.fromkeys(readings))
        return found

    def _take(self, name: str, readings: dict[str, None]) -> bool:
        self.work(sum(1 + len(each) // 64 for each in readings))
        self.names[name.replace("\0", "")] = None
        # Text after a NUL is not shown by some programs.
        self.names[name.partition("\0")[0] or name] = None
        for each in readings:
            for spelled in spellings(each[-_MAX_NAME:]):
                if extension(spelled) not in ("", extension(name)):
                    self.names[spelled] = None
        return any(each.lower().endswith(".zip") for each in spellings(name))

    def fail(self, problem: str) -> None:
        self.problem = self.problem or problem


def begins_as_zip(octets: bytes) -> bool:
    """Return whether a content begins as a zip file does: as it stands, or in an encoding."""
    readings = octets, a2b_qp(octets), decoded_whole(octets, "base64")
    return any(reading.startswith(_BEGINNINGS) for reading in readings)


def zip_names(octets: bytes) -> ZipNames:
    """Return the names in a zip file."""
    limits = _Limits()
    try:
        _read(octets, limits, 1)
    except _TooMuch:
        limits.fail("too many")
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
            flags, method, name_size, extra_size = *_numbers(octets, start, 6, 8), *_numbers(octets, start, 26, 28)
        else:
            flags, method, name_size, extra_size = *_numbers(octets, start, 8, 10), *_numbers(octets, start, 28, 30)
        limits.work(1 + name_size // 256 + extra_size // 64)
        begin = start + (30 if local else 46)
        name, extra = octets[begin : begin + name_size], octets[begin + name_size : begin + name_size + extra_size]
        if len(name) < name_size or not name:
            limits.fail("broken")
            continue
        charsets = ("utf-8", "cp437") if flags & _UTF8 else ("cp437", "utf-8")
        text, other = (name.decode(charset, "replace") for charset in charsets)
        named = limits.take(text, other)
        for written in _unicode_paths(extra):
            limits.take(written)
        if flags & _ENCRYPTED:
            limits.fail("encrypted")
        elif local:
            _look_inside(octets, begin + name_size + extra_size, method, named, limits, level)


def _unicode_paths(extra: bytes) -> Iterator[str]:
    """Yield the names in extra fields, which some programs take instead of the other one."""
    at = 0
    while at + 4 <= len(extra):
        size = _number(extra, at + 2, 2)
        if extra[at : at + 2] == _UNICODE_PATH and size > 5:
            yield extra[at + 9 : at + 4 + size].decode("utf-8", "replace")
        at += 4 + size


def _look_inside(octets: bytes, start: int, method: int, named: bool, limits: _Limits, level: int) -> None:
    """Read the names of a zip file in a zip file; one that is stored as it is has been seen already.

    Neither the size nor the method in the header of a file is believed: the directory may have others.
    """
    if method not in (0, _DEFLATED):
        if named:
            limits.fail("broken")
        return
    packed = memoryview(octets)[start:]
    try:
        inner = _beginning(packed, limits)
        if not inner.startswith(b"PK") and not (named and method == _DEFLATED):
            return
        if level >= _MAX_LEVEL:
            limits.fail("too deep")
            return
        inner = _unpacked(packed, limits)
    except zlib.error:
        if method == _DEFLATED:
            limits.fail("broken")
        return
    if limits.octets < 0:
        limits.fail("too deep")
        return
    if named and b"PK\5\6" not in inner:
        limits.fail("broken")
    _read(inner, limits, level + 1)


def _beginning(packed: memoryview, limits: _Limits) -> bytes:
    """Return the first octets of a file unpacked; blocks that are empty may come before them.

    Raises:
        zlib.error: It is broken.
    """
    unpacker, found = zlib.decompressobj(-zlib.MAX_WBITS), b""
    for at in range(0, len(packed), _BLOCK):
        found += unpacker.decompress(packed[at : at + _BLOCK], 4)
        if len(found) >= 4 or unpacker.eof or limits.octets < 0:
            break
        limits.octets -= _BLOCK
    return found


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
