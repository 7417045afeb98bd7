"""The lines of keys: every key that tomllib finds has its line, however it is written."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter._config.lines import Again, Path, TooDeep, find_lines

EVERY_FORM = '''\
# a remark, with = and [brackets]
a = 1
b.c = "x" # y
"q\\u0041".'d e' = [1,
  2, # ] in a remark
  {x = 1, y = [3]},
]
s = """
multi "" line = 3
\\""" still"""
t = \'\'\'
[not.a.table]\'\'\'
u = ["""
x""", 5]
[limits]
max = 3
i = { a = 1, b.c = { d = 2 } }
e = []
f = {}
[[filter]]
use = "x"
[filter.settings]
k = 'v'
[[filter.sub]]
z = 1
[[filter.sub]]
z = 2
[[filter]]
use = "y"
d = 1979-05-27 07:32:00
[ filter . settings ]
k = 'v'
'''
LINES: dict[Path, int] = {
    ("a",): 2,
    ("b", "c"): 3,
    ("qA", "d e"): 4,
    ("qA", "d e", 1): 5,
    ("qA", "d e", 2, "y", 0): 6,
    ("s",): 8,
    ("t",): 11,
    ("u", 0): 13,
    ("u", 1): 14,
    ("limits",): 15,
    ("limits", "i", "b", "c", "d"): 17,
    ("limits", "f"): 19,
    ("filter", 0): 20,
    ("filter", 0, "settings", "k"): 23,
    ("filter", 0, "sub", 0, "z"): 25,
    ("filter", 0, "sub", 1, "z"): 27,
    ("filter", 1, "d"): 30,
    ("filter", 1, "settings"): 31,
}


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield the paths of all that tomllib has found."""
    if at:
        yield at
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from paths(member, (*at, name))


@pytest.mark.parametrize("end", ["\n", ""], ids=["with the last line end", "without"])
def test_every_key_has_its_line(end: str) -> None:
    text = EVERY_FORM.removesuffix("\n") + end
    lines, again = find_lines(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    assert {path: lines[path] for path in LINES} == LINES
    assert again is None


KEY = st.from_regex(r"[a-z_-]{1,3}", fullmatch=True) | st.sampled_from(['"a b"', "'#'", '"]\\""', '"="'])
PLAIN = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        '"x # = ] }"',
        "'it''".replace("''", ""),
        '"""a\n"" b"""',
        "'''\n'x'\n'''",
        "07:32:00",
        '""',
    ]
)


def inline(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    separators = st.sampled_from([", ", ",", " ,\n  # no, ]\n "])
    lists = st.builds(
        lambda each, sep, end: f"[{sep.join(each)}{end}]", st.lists(values, max_size=3), separators, st.just("")
    )
    flat = values.filter(lambda text: "\n" not in text)
    tables = st.lists(st.tuples(KEY, flat), max_size=3, unique_by=lambda pair: pair[0].strip("\"'")).map(
        lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
    )
    return lists | tables


VALUE = st.recursive(PLAIN, inline, max_leaves=6)
STATEMENT = st.one_of(
    st.builds(lambda parts, value: f"{' . '.join(parts)} = {value}", st.lists(KEY, min_size=1, max_size=3), VALUE),
    st.builds(lambda parts: f"[{'.'.join(parts)}]", st.lists(KEY, min_size=1, max_size=3)),
    st.builds(lambda parts: f"[[ {'. '.join(parts)} ]] # x", st.lists(KEY, min_size=1, max_size=2)),
    st.sampled_from(["", "# remark = 1", "\t"]),
)


@given(st.lists(STATEMENT, max_size=8))
def test_the_keys_of_any_text_are_those_that_tomllib_finds(statements: list[str]) -> None:
    """A key that stands alone on its line has that line; all others are found, and no more."""
    kept: list[str] = []
    for statement in statements:
        try:
            tomllib.loads("\n".join([*kept, statement]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(statement)
    text = "\n".join(kept)
    lines, again = find_lines(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    assert again is None
    numbered = text.split("\n")
    for path, line in lines.items():
        name = path[-1]
        if isinstance(name, str) and name.isidentifier() and '"""' not in text and "'''" not in text:
            assert name in numbered[line - 1]


@given(st.text(alphabet="ab=.[]{}\"'#\n\\, 1u", max_size=60))
def test_any_text_ends(text: str) -> None:
    lines, _ = find_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("a = 1\n[t]\nb = 1\nc.d = 2\nb = 2\n", Again(("t", "b"), 5, 3, False)),
        ("a.b = 1\n\na.b = 1\n", Again(("a", "b"), 3, 1, False)),
        ("x = { a = 1, a = 2 }\n", Again(("x", "a"), 1, 1, False)),
        ("[a]\n[b]\n[a]\n", Again(("a",), 3, 1, True)),
        ("[a]\n[a.b]\n[[c]]\n[[c]]\n", None),
    ],
)
def test_what_stands_there_twice_is_found(text: str, again: Again | None) -> None:
    assert find_lines(text)[1] == again


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 1000, "x = " + "{ a = " * 100, ".".join("a" * 1000) + " = 1", "[" + "a." * 99]
)
def test_what_is_too_deep_is_refused_before_python_parses_it(text: str) -> None:
    with pytest.raises(TooDeep) as caught:
        find_lines("\n" + text)
    assert caught.value.line == 2
