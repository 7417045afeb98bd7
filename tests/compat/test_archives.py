"""Names in zip files: all there are within bounds, and beyond these no work."""

import contextlib
import io
import tracemalloc
import warnings
import zipfile
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.compat.modules import archives
from aiomilter.compat.modules.archives import UnpackingLimit, names_in

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as archive:
        warnings.simplefilter("ignore")  # the same name twice
        for name, content in files:
            archive.writestr(name, content)
        archive.comment = comment
    return made.getvalue()


def found(octets: bytes, limit: UnpackingLimit | None = None) -> list[str]:
    return list(names_in(octets, limit or UnpackingLimit()))


def calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Have the results of a function of the module's kept."""
    kept: list[Any] = []
    real = getattr(archives, name)

    def keep(*arguments: Any) -> Any:
        kept.append(real(*arguments))
        return kept[-1]

    monkeypatch.setattr(archives, name, keep)
    return kept


@pytest.mark.parametrize("method", METHODS)
def test_names_are_found_however_they_are_packed(method: int) -> None:
    inner = zipped(("a.exe", b"MZ"), method=method)
    octets = zipped(("readme", b"x"), ("inner.ZIP", inner), ("\u00e4.txt", b""), method=method, comment=b"remark")
    assert found(octets) == found(b"\x7fELF" + octets) == ["readme", "inner.ZIP", "a.exe", "\u00e4.txt"]


def test_a_size_may_stand_in_a_field_of_its_own() -> None:
    octets = bytearray(zipped(("inner.zip", zipped(("a.exe", b"")))))
    entry = octets.rindex(b"PK\1\2")
    packed, size = octets[entry + 20 : entry + 24], octets[entry + 24 : entry + 28]
    octets[entry + 20 : entry + 28] = b"\xff" * 8
    field = pack("<HH", 9, 1) + b"?" + pack("<HH", 1, 16) + size + bytes(4) + packed + bytes(4)
    octets[entry + 30 : entry + 32] = pack("<H", len(field))
    name_end = entry + 46 + len("inner.zip")
    octets[name_end:name_end] = field
    end = octets.rindex(b"PK\5\6")
    octets[end + 12 : end + 16] = pack("<L", end - entry)
    assert found(bytes(octets)) == ["inner.zip", "a.exe"]


def test_a_directory_may_be_told_of_in_wider_numbers() -> None:
    octets = zipped(("a.exe", b""))
    end = octets.rindex(b"PK\5\6")
    start = octets.rindex(b"PK\1\2")
    wide = b"PK\6\6" + bytes(36) + pack("<QQ", end - start, start) + b"PK\6\7" + bytes(16)
    octets = octets[:end] + wide + octets[end : end + 12] + b"\xff" * 8 + octets[end + 20 :]
    assert found(octets) == ["a.exe"]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"PK\5\6",
        b"PK\5\6" + bytes(17),
        b"x" * 100,
        b"PK\5\6" + bytes(8) + b"\xff" * 8 + bytes(2),
        b"PK\1\2" + bytes(20) + b"PK\5\6" + bytes(8) + pack("<LL", 24, 0) + bytes(2),
        bytes(46) + b"PK\5\6" + bytes(8) + pack("<LL", 46, 0) + bytes(2),
    ],
)
def test_what_is_no_zip_file_is_told(octets: bytes) -> None:
    with pytest.raises(zipfile.BadZipFile):
        found(octets)


def test_a_zip_file_inside_that_cannot_be_read_counts_by_its_name() -> None:
    damaged = bytearray(zipped(("inner.zip", zipped(("a.exe", bytes(range(256)))))))
    damaged[50:70] = b"\xff" * 20
    encrypted = bytearray(zipped(("inner.zip", zipped(("a.exe", b"")))))
    encrypted[encrypted.rindex(b"PK\1\2") + 8] |= 1
    unknown = bytearray(zipped(("inner.zip", zipped(("a.exe", b"")))))
    unknown[unknown.rindex(b"PK\1\2") + 10] = 99
    moved = bytearray(zipped(("inner.zip", zipped(("a.exe", b"")))))
    moved[moved.rindex(b"PK\1\2") + 42] = 7
    for octets in (damaged, encrypted, unknown, moved):
        assert found(bytes(octets)) == ["inner.zip"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([zipped(("a.zip", zipped(("b", b"x" * 20), method=method)), method=method) for method in METHODS]),
    st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=4)), max_size=4),
)
def test_a_broken_file_raises_one_error_at_most(octets: bytes, changes: list[tuple[int, bytes]]) -> None:
    broken = bytearray(octets)
    for at, change in changes:
        at %= len(broken)
        broken[at : at + len(change)] = change
    with contextlib.suppress(zipfile.BadZipFile):
        found(bytes(broken))


# What is bounded, and is not begun once the bound is reached


def test_names_beyond_the_bound_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = zipped(*((f"{number}", b"") for number in range(1000)))
    read = calls(monkeypatch, "_large")
    limit = UnpackingLimit(names=10)
    assert len(found(octets, limit)) == 10
    assert limit.names == 0
    assert len(read) == 11
    assert found(octets, limit) == []
    assert len(read) == 12


def test_files_inside_beyond_the_bound_are_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = zipped(("a.exe", b""))
    octets = zipped(*((f"{number}.zip", inner) for number in range(100)))
    unfolded = calls(monkeypatch, "_unfolded")
    assert found(octets, UnpackingLimit(archives=3)).count("a.exe") == 3
    assert len(unfolded) == 3


def test_a_file_that_says_that_it_is_too_large_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = zipped(("bomb.zip", bytes(100_000)), ("inner.zip", zipped(("a.exe", b""))))
    unfolded = calls(monkeypatch, "_unfolded")
    assert found(octets, UnpackingLimit(octets=50_000)) == ["bomb.zip", "inner.zip", "a.exe"]
    assert len(unfolded) == 1


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_file_that_says_that_it_is_small_is_unfolded_up_to_the_bound(
    monkeypatch: pytest.MonkeyPatch, method: int
) -> None:
    """64 MiB in less than 70 kB: all of it was in memory before what is too much was cut off."""
    octets = bytearray(zipped(("bomb.zip", bytes(64 << 20)), method=method))
    entry = octets.rindex(b"PK\1\2")
    octets[entry + 24 : entry + 28] = pack("<L", 100)
    unfolded = calls(monkeypatch, "_unfolded")
    limit = UnpackingLimit(octets=1 << 20)
    tracemalloc.start()
    try:
        assert found(bytes(octets), limit) == ["bomb.zip"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(inner) for inner in unfolded] == [1 << 20]
    assert limit.octets == 0
    assert peak < 4 << 20


def test_a_small_dictionary_is_enough_for_what_may_be_unfolded() -> None:
    octets = bytearray(zipped(("inner.zip", zipped(("a.exe", b""))), method=zipfile.ZIP_LZMA))
    # Behind the local header and the name: version, size of the properties, a first octet of them, size of the dictionary.
    dictionary = 30 + len("inner.zip") + 5
    octets[dictionary : dictionary + 4] = b"\xff" * 4
    assert found(bytes(octets)) == ["inner.zip", "a.exe"]


def test_a_file_that_holds_the_same_many_times_is_unfolded_within_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries may share their content: each level of these has ten times as many files, in a few hundred octets."""
    octets = zipped(("a.exe", b""))
    for _ in range(6):
        octets = zipped(("again.zip", octets))
        start, end = octets.rindex(b"PK\1\2"), octets.rindex(b"PK\5\6")
        entries = octets[start:end] * 10
        octets = octets[:start] + entries + octets[end : end + 12] + pack("<L", len(entries)) + octets[end + 16 :]
    assert len(octets) < 2000
    unfolded = calls(monkeypatch, "_unfolded")
    names = found(octets, UnpackingLimit(names=5000, archives=200))
    assert len(unfolded) == 200
    assert len(names) <= 5000


def test_only_so_many_levels_are_looked_into() -> None:
    octets = zipped(("a.exe", b""))
    for _ in range(20):
        octets = zipped(("again.zip", octets))
    assert found(octets) == ["again.zip"] * 9
