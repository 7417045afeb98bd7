"""The names in zip files, and in those inside of them, within bounds that hold for all of a message.

What a zip file says of itself is not believed: a bound is taken off before the work that it bounds, and what does not fit
is left out.

Source: PKWARE's APPNOTE.TXT 6.3.10, section 4.3.
"""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Final
from zipfile import BadZipFile

__all__ = ["UnpackingLimit", "names_in"]

_MAX_DEPTH: Final = 8
"""Zip files inside of zip files: one may hold itself."""
_MAX_COMMENT: Final = 0xFFFF

_END: Final = Struct("<4s8xLLH")
_END_MARK: Final = b"PK\5\6"
_END64: Final = Struct("<4s36xQQ")
_END64_MARK: Final = b"PK\6\6"
_LOCATOR_SIZE: Final = 20
_ENTRY: Final = Struct("<4s4xHH8xLLHHH8xL")
_ENTRY_MARK: Final = b"PK\1\2"
_LOCAL: Final = Struct("<4s22xHH")
_LOCAL_MARK: Final = b"PK\3\4"
# Version, size of the properties, and these: three small numbers in one octet, and the size of the dictionary.
_LZMA: Final = Struct("<2xHBL")
_FIELD64: Final = 1
_IN_FIELD64: Final = 0xFFFFFFFF
"""In place of a number that an extra field holds, since it may be larger."""
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800


@dataclass(slots=True)
class UnpackingLimit:
    """The work that may still be done for a message.

    Args:
        names: Names that are found.
        archives: Zip files inside of others that are looked into.
        octets: Octets that these unfold to.
    """

    names: int = 65_536
    archives: int = 1_000
    octets: int = 32 << 20


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file in a zip file, as the directory has it."""

    name: str
    flags: int
    method: int
    packed: int
    size: int
    offset: int


def names_in(octets: bytes, limit: UnpackingLimit, depth: int = _MAX_DEPTH) -> Iterator[str]:
    """Yield the names in a zip file, those in a zip file inside of it behind its own.

    Args:
        octets: The file.
        limit: The work that may be done; reduced as it is done.
        depth: How deep to look into zip files inside of zip files.
    Raises:
        zipfile.BadZipFile: It is none.
    """
    for entry in _entries(octets):
        if limit.names <= 0:
            return
        limit.names -= 1
        yield entry.name
        if not entry.name.lower().endswith(".zip") or not depth or not limit.archives or entry.size > limit.octets:
            continue
        limit.archives -= 1
        try:
            inner = _unfolded(octets, entry, limit.octets)
            limit.octets -= len(inner)
            yield from names_in(inner, limit, depth - 1)
        except (BadZipFile, StructError, ValueError, EOFError, OSError, MemoryError, zlib.error, lzma.LZMAError):
            # Damaged, or encrypted: its own name is all there is to know.
            continue


def _entries(octets: bytes) -> Iterator[_Entry]:
    """Yield the files in the order of the directory."""
    start, end, base = _directory(octets)
    directory, position = octets[start:end], 0
    while position < len(directory):
        try:
            mark, flags, method, packed, size, name, extra, comment, offset = _ENTRY.unpack_from(directory, position)
        except StructError as error:
            raise BadZipFile("expected an entry of 46 octets, found the end of the directory") from error
        if mark != _ENTRY_MARK:
            raise BadZipFile("expected an entry, found something else")
        position += _ENTRY.size
        raw, field = directory[position : position + name], directory[position + name : position + name + extra]
        position += name + extra + comment
        packed, size, offset = _large(field, packed, size, offset)
        # Text after a NUL is not shown.
        text = raw.decode("utf-8", "replace") if flags & _UTF8 else raw.decode("cp437")
        yield _Entry(text.partition("\0")[0], flags, method, packed, size, base + offset)


def _directory(octets: bytes) -> tuple[int, int, int]:
    """Return where the directory begins and ends, and from where offsets count."""
    end = len(octets) - _END.size
    if end < 0 or octets[end : end + 4] != _END_MARK or octets[-2:] != b"\0\0":
        end = octets.rfind(_END_MARK, max(0, end - _MAX_COMMENT))
    if end < 0:
        raise BadZipFile("expected the end of a directory, found none")
    if end > len(octets) - _END.size:
        raise BadZipFile("expected the end of a directory, found a part of one")
    _, size, offset, _ = _END.unpack_from(octets, end)
    end64 = end - _LOCATOR_SIZE - _END64.size
    if end64 >= 0 and octets[end64 : end64 + 4] == _END64_MARK:
        _, size, offset = _END64.unpack_from(octets, end64)
        end = end64
    start = end - size
    if start < 0:
        raise BadZipFile("expected a directory inside of the file, found one that is larger")
    return start, end, start - offset


def _large(field: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """Return the packed size, the size and the offset of an entry whose extra field may hold them.

    Source: APPNOTE.TXT section 4.5.3.
    """
    numbers = [size, packed, offset]
    while len(field) >= 4:
        kind, length = int.from_bytes(field[:2], "little"), int.from_bytes(field[2:4], "little")
        content, field = field[4 : 4 + length], field[4 + length :]
        if kind == _FIELD64:
            for index, number in enumerate(numbers):
                if number == _IN_FIELD64 and len(content) >= 8:
                    numbers[index], content = int.from_bytes(content[:8], "little"), content[8:]
            break
    size, packed, offset = numbers
    return packed, size, offset


def _unfolded(octets: bytes, entry: _Entry, most: int) -> bytes:
    """Return the content of a file, up to so many octets, whatever size it is said to have.

    Raises:
        ValueError: It is encrypted, or packed in a way that is not known.
    """
    if entry.flags & _ENCRYPTED or entry.offset < 0:
        raise ValueError("expected a file that can be read, found one that is encrypted")
    mark, name, extra = _LOCAL.unpack_from(octets, entry.offset)
    if mark != _LOCAL_MARK:
        raise ValueError("expected a file where the directory says, found something else")
    start = entry.offset + _LOCAL.size + name + extra
    packed = memoryview(octets)[start : start + entry.packed]
    match entry.method:
        case 0:
            return bytes(packed[:most])
        case 8:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
        case 12:
            return bz2.BZ2Decompressor().decompress(packed, most)
        case 14:
            return _lzma(packed, most)
    raise ValueError(f"expected method 0, 8, 12 or 14, found {entry.method}")


def _lzma(packed: memoryview, most: int) -> bytes:
    """Return data unpacked by LZMA; its own header comes first.

    Source: APPNOTE.TXT section 5.8.8.
    """
    size, first, dictionary = _LZMA.unpack_from(packed)
    filters = {
        "id": lzma.FILTER_LZMA1,
        # More than all that it may unfold to is of no use, and would be had from the system at once.
        "dict_size": min(max(dictionary, 4096), most + 4096),
        "lc": first % 9,
        "lp": first // 9 % 5,
        "pb": first // 45,
    }
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[filters]).decompress(packed[4 + size :], most)
