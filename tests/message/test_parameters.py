import pytest

from aiomilter.message.filenames import filenames
from aiomilter.message.parameters import read

VALUES = [
    ("text/plain", "text/plain", {}),
    ("Text/PLAIN; Charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
    ('multipart/mixed;\r\n boundary="a;b=\\"c"', "multipart/mixed", {"boundary": 'a;b="c'}),
    ("text/plain (comment); (other) x = y ; z=1", "text/plain", {"x": "y", "z": "1"}),
    ("text/plain;;; ;x=1", "text/plain", {"x": "1"}),
    ("a/b; x*=utf-8'en'%C3%A4; y*0=a; y*1*=%62; y*2=c", "a/b", {"x": "\u00e4", "y": "abc"}),
    ("a/b; x*=none'en'%C3%A4", "a/b", {"x": "\u00e4"}),
    ("a/b; x*1=b", "a/b", {"x": None}),
    ("", "", {"x": None}),
]


@pytest.mark.parametrize(("value", "main", "parameters"), VALUES)
def test_a_value_is_read(value: str, main: str, parameters: dict[str, str | None]) -> None:
    found = read(value)
    assert found.main == main
    assert {name: found.get(name) for name in parameters} == parameters


@pytest.mark.parametrize("value", ["a/b; x=1; x=2", "a/b; x=1; x*=''2", "a/b; X=1; x=1"])
def test_readers_disagree_on_what_is_there_twice(value: str) -> None:
    assert read(value).conflict
    assert not read("a/b; x*0=1; x*1=2; y=1").conflict


@pytest.mark.parametrize(
    "piece", [";", "; ", ";a", ";a=", '"', '\\"', "(", "()", "\r\n ", ";a=b", ';filename="a"', "'", "*", "a"]
)
def test_no_value_takes_long(piece: str) -> None:
    """With work for each pair of characters this would not end."""
    for value in (piece * 10_000, "a/b" + piece * 300_000, "a/b; filename=" + piece * 300_000):
        found = read(value)
        assert len(filenames([(value, "filename")])[0]) < 1_000
        found.get("filename")


def test_a_long_name_keeps_its_extension_and_a_long_value_is_doubted() -> None:
    assert filenames([(f"a/b; name={'a' * 5_000}.exe", "name")])[0][0].endswith("a.exe")
    assert read("a/b; x=" + "y" * 20_000).conflict
