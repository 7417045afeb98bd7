"""Every key with a good value, one of another type, one out of range and a misspelt name, in each form that TOML has for it."""

from pathlib import Path

import pytest

from aiomilter._config.file import read_file
from aiomilter._config.reading import FileValues, read_values
from aiomilter._config.table import Key
from tests.config.values import BY_KIND, KEYS, of

EACH_KEY = pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)


def forms(key: Key, value: str, name: str = "") -> list[tuple[str, int]]:
    """Return texts that give a key, and the line of the key in each."""
    *tables, own = key.path
    own = name or own
    if not tables:
        return [(f"\n{own} = {value}\n[limits]\n", 2), (f'# x = 1\n\n"{own}"={value}', 3)]
    (table,) = tables
    found = [
        (f"# [x]\n[{table}]\n\n{own} = {value}\n", 4),
        (f'{table}.{own} = {value}\nworkers = 2\nlisten = ["fd:3"]', 1),
        (f"\n'{table}'.\"{own}\" = {value}", 2),
    ]
    if "\n" not in value:
        found.append((f"\n\n{table} = {{ {own} = {value} }}\n", 3))
    return found


def read(text: str, directory: Path) -> FileValues:
    (directory / "x.toml").write_text(text)
    return read_values(read_file("x.toml", str(directory / "x.toml")), KEYS)


def test_every_kind_has_its_values() -> None:
    assert {key.row.option.kind for key in KEYS} == set(BY_KIND)


@EACH_KEY
def test_a_good_value_is_what_the_option_takes(key: Key, tmp_path: Path) -> None:
    for number, (value, meant) in enumerate(of(key).good.items()):
        for text, _ in forms(key, value)[: None if number == 0 else 1]:
            found = read(text, tmp_path)
            assert found.faults == [], text
            assert found.values[key.name] == meant
            assert type(found.values[key.name]) is type(meant)


@EACH_KEY
def test_a_value_that_cannot_be_is_a_fault_with_its_line(key: Key, tmp_path: Path) -> None:
    for number, value in enumerate((*of(key).wrong, *of(key).out)):
        if (key.row.option.zero and value.strip('"') == "0") or (key.row.option.off and value == '"off"'):
            continue
        for text, line in forms(key, value)[: None if number == 0 else 1]:
            faults = read(text, tmp_path).faults
            assert [fault.line for fault in faults] == [line], (text, faults)
            assert key.path[-1] in faults[0].what
            assert any(word in faults[0].what for word in ("expected", "does not know", "network")), faults


@EACH_KEY
def test_a_misspelt_key_is_told_which_is_meant(key: Key, tmp_path: Path) -> None:
    """Some letters are those of another key, too."""
    value = next(iter(of(key).good))
    wrong = f"{key.path[-1][:-1]}_x" if len(key.path[-1]) > 4 else f"{key.path[-1]}x"
    for text, line in forms(key, value, wrong):
        (fault,) = read(text, tmp_path).faults
        assert fault.line == line
        assert "unknown" in fault.what
        assert "did you mean" in fault.what or len(key.path[-1]) <= 4, fault


@EACH_KEY
def test_a_key_in_the_wrong_table_is_told_the_right_one(key: Key, tmp_path: Path) -> None:
    table = "log" if key.path[0] != "log" else "limits"
    if (table, key.path[-1]) in {each.path for each in KEYS}:
        return
    (fault,) = read(f"[{table}]\n{key.path[-1]} = {next(iter(of(key).good))}", tmp_path).faults
    assert fault.what.startswith(f"[{table}] {key.path[-1]}: unknown here; it stands ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("limits = 5", "limits: expected a table, as in [limits], found 5"),
        ("[limit]\nmax_edits = 5\nmax_edit = 2", "limit: unknown table; did you mean [limits]?"),
        ("[nothing_like_it]", "nothing_like_it: unknown table"),
        ("[[limits]]\nmax_edits = 5", "limits: expected a table, as in [limits], found a list"),
        ("wokers = 2", "wokers: unknown, did you mean workers?"),
        ("fliter = 'x'", "fliter: unknown, did you mean filter?"),
        ("max_conections = 2", "max_conections: unknown, did you mean [limits] max_connections?"),
        ("max_connections = 2", "max_connections: unknown here; it stands in [limits]"),
        ("[limits]\nworkers = 2", "[limits] workers: unknown here; it stands at the top, above all tables"),
        ("socket_mode = '0660'", "socket_mode: unknown, did you mean [socket] mode?"),
        ("[log]\nlevel = 'loud'", "[log] level: expected one of debug, info, warning, error, found 'loud'"),
        ("[socket]\nmode = 660", '[socket] mode: expected permissions in quotes, as in "0660", found 660'),
        ("filter = 5", "filter: expected a TARGET in quotes, or [[filter]] tables, found 5"),
        ("filter = []", "filter: expected a TARGET in quotes, or [[filter]] tables, found a list"),
        ("settings = 5", "settings: expected a table, as in [settings], found 5"),
        ('"\\u0000\\u001b" = 5', "'\\x00\\x1b': unknown"),
        ("[limits.max_edits]\nx = 1", "[limits] max_edits: expected a whole number, found a table"),
    ],
)
def test_a_fault_says_what_is_meant(text: str, what: str, tmp_path: Path) -> None:
    (fault,) = read(text, tmp_path).faults
    assert fault.what == what


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = '[limits]\nmax_edits = 0\n[failure]\non_error = 5\n[access]\nallowed_networks = ["x",\n"::1",\n"y"]\n'
    faults = read(text, tmp_path).faults
    assert [(fault.line, fault.what.partition(":")[0]) for fault in faults] == [
        (2, "[limits] max_edits"),
        (4, "[failure] on_error"),
        (6, "[access] allowed_networks[1]"),
        (8, "[access] allowed_networks[3]"),
    ]


def test_a_relative_path_is_beside_the_file(tmp_path: Path) -> None:
    found = read('[tls]\ncertificate = "certs/a.pem"\nkey = "/etc/b.pem"\n', tmp_path)
    assert found.values == {"tls_certificate": str(tmp_path / "certs/a.pem"), "tls_key": "/etc/b.pem"}
