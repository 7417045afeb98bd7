"""Files that are no configuration: each is one line with its place and the mend, and none is waited for."""

import os
from pathlib import Path

import pytest

from aiomilter._config.faults import Faults
from aiomilter._config.file import MAX_SIZE, read_file


def refused(path: Path) -> str:
    with pytest.raises(Faults) as caught:
        read_file("x.toml", str(path))
    (line,) = caught.value.lines()
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("octets", "line"),
    [
        (b"\xff", "x.toml:1: expected UTF-8, found the octet 0xff; save the file as UTF-8"),
        (b"a = 1\nb = '\xe9'\n", "x.toml:2: expected UTF-8, found the octet 0xe9; save the file as UTF-8"),
        ("a = 1".encode("utf-16"), "x.toml:1: expected UTF-8, found the octet 0xff; save the file as UTF-8"),
        (b"\xef\xbb\xbfa = 1", "x.toml:1: begins with a byte order mark; save the file as UTF-8 without one"),
        (
            b"#" * (MAX_SIZE + 1),
            "x.toml: expected at most 1048576 octets, found more; is it the right file?",
        ),
        (b"a = 1\na = 2\n", "x.toml:2: a: given again, first in line 1; keep one of them"),
        (b"[t]\nb.c = 1\n\nb.c = 2\n", "x.toml:4: [t.b] c: given again, first in line 2; keep one of them"),
        (b"x = { a = 1, a = 2 }\n", "x.toml:1: [x] a: given again, first in line 1; keep one of them"),
        (b"[a]\n[b]\n[a]\n", "x.toml:3: [a]: given again, first in line 1; keep its keys together"),
        (
            b"\nfilter = mysite.filters:gateway\n",
            "x.toml:2: is not TOML, column 10: invalid value; write texts in quotes",
        ),
        (b"a = [ b ]\n", "x.toml:1: is not TOML, column 7: invalid value; write texts in quotes"),
        (b"filter: x\n", "x.toml:1: is not TOML, column 7: expected '=' after a key in a key/value pair"),
        (b"a = 1\nb =\n", "x.toml:2: is not TOML, column 4: invalid value"),
        (b"a = [\n1,\n", "x.toml:3: is not TOML: invalid value"),
        (b'a = "x\n', None),
        (b"a = 1\r\nb = \x00\r\n", None),
        (b"\x00" * 100, None),
        (
            b"\n\nx = " + b"[" * 5000,
            "x.toml:3: expected at most 32 parts of a key, and as many levels of lists and tables",
        ),
        (
            b"a." * 20000 + b"a = 1",
            "x.toml:1: expected at most 32 parts of a key, and as many levels of lists and tables",
        ),
        (b"a = " + b"1" * 10000, None),
        (b"a = 2026-13-45", None),
    ],
    ids=lambda value: None if not isinstance(value, bytes) else repr(value[:30]),
)
def test_a_file_that_is_not_toml_is_one_line(octets: bytes, line: str | None, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(octets)
    found = refused(tmp_path / "x.toml")
    if line is not None:
        assert found == line
    else:
        assert found.startswith("x.toml:")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert refused(tmp_path / "x.toml") == "x.toml: cannot be read: No such file or directory"
    assert refused(Path("x\0")) == "x.toml: is not the name of a file"


def test_a_directory_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path) == "x.toml: cannot be read: Is a directory"
    assert refused(tmp_path / "pipe") == "x.toml: expected a regular file, which can be read again at a reload"


def test_a_file_of_another_user_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root may read everything, so the system says no in its place."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aiomilter._config.file.os.open", refuse)
    assert (
        refused(tmp_path) == "x.toml: cannot be read: Permission denied; the user that runs aiomilter has to be let in"
    )


def test_a_file_with_the_line_ends_of_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"a = 1\r\n[b]\r\nc = 2\r\n")
    document = read_file("x.toml", str(tmp_path / "x.toml"))
    assert document.values == {"a": 1, "b": {"c": 2}}
    assert document.line(("b", "c")) == 3
