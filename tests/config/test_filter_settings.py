"""What a file sets for the filter: dataclasses made field by field, other classes by themselves, mistakes with their lines."""

import datetime
import enum
import ipaddress
import os
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from aiomilter._config.faults import Faults
from aiomilter._config.file import read_file
from aiomilter._config.filter_settings import FilterSettings
from aiomilter.secret import Secret


class Action(enum.Enum):
    REJECT = "reject"
    TEMPFAIL = "tempfail"


@dataclass(frozen=True)
class Place:
    host: str
    port: int = 25


@dataclass(frozen=True, kw_only=True)
class Settings:
    text: str = ""
    number: int = 0
    share: float = 0.0
    switch: bool = False
    secret: Secret | None = None
    words: list[str] = field(default_factory=list)
    pair: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    few: frozenset[str] = frozenset()
    order: Sequence[int] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    place: Place | None = None
    places: dict[str, Place] = field(default_factory=dict)
    file: Path | None = None
    action: Action = Action.REJECT
    word: Literal["a", "b", 1] = "a"
    either: str | int = ""
    time: datetime.timedelta = datetime.timedelta()
    day: datetime.date | None = None
    network: ipaddress.IPv4Network | None = None
    anything: Any = None
    odd: complex = 0j

    def __post_init__(self) -> None:
        if self.number > 9:
            raise ValueError(f"number: expected at most 9, found {self.number}")


def takes(settings: Settings) -> Settings:
    return settings


def settings(directory: Path, text: str, *, mode: int = 0o600) -> tuple[FilterSettings, list[str]]:
    """Return what a text sets, and the list of its warnings."""
    path = directory / "x.toml"
    path.write_text(text)
    path.chmod(mode)
    document = read_file("x.toml", str(path))
    warnings: list[str] = []
    return FilterSettings(document, ("settings",), document.values.get("settings"), warnings.append, set()), warnings


def made(directory: Path, text: str, factory: Callable[..., Any] = takes) -> Any:
    return settings(directory, f"[settings]\n{text}")[0].bound(factory)()


def mistakes(directory: Path, text: str, factory: Callable[..., Any] = takes) -> list[str]:
    with pytest.raises(Faults) as caught:
        made(directory, text, factory)
    return caught.value.lines()


GOOD: list[tuple[str, str, Any]] = [
    ("text", '"x"', "x"),
    ("number", "5", 5),
    ("share", "0.5", 0.5),
    ("share", "1", 1.0),
    ("switch", "true", True),
    ("secret", '"x"', Secret("x")),
    ("words", '["a", "b"]', ["a", "b"]),
    ("pair", '[1, "b"]', (1, "b")),
    ("many", "[1, 2, 3]", (1, 2, 3)),
    ("few", '["a", "a"]', frozenset("a")),
    ("order", "[3, 1]", (3, 1)),
    ("table", "{ a = 1 }", {"a": 1}),
    ("place", '{ host = "h" }', Place("h")),
    ("places", '{ x = { host = "h", port = 5 } }', {"x": Place("h", 5)}),
    ("action", '"tempfail"', Action.TEMPFAIL),
    ("word", '"b"', "b"),
    ("word", "1", 1),
    ("either", "5", 5),
    ("either", '"5"', "5"),
    ("time", "1.5", datetime.timedelta(seconds=1.5)),
    ("time", '"5 min"', datetime.timedelta(minutes=5)),
    ("day", "2026-11-30", datetime.date(2026, 11, 30)),
    ("network", '"192.0.2.0/24"', ipaddress.IPv4Network("192.0.2.0/24")),
    ("anything", "[1, { a = 2 }]", [1, {"a": 2}]),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_setting_is_made_as_its_type_has_it(name: str, text: str, value: Any, tmp_path: Path) -> None:
    found = getattr(made(tmp_path, f"{name} = {text}"), name)
    assert found == value
    assert type(found) is type(value)


def test_a_path_is_beside_the_file(tmp_path: Path) -> None:
    assert made(tmp_path, 'file = "a/b"').file == tmp_path / "a/b"


WRONG: list[tuple[str, str]] = [
    ("txt = 1", "[settings] txt: unknown, did you mean text?"),
    ("text = 5", "[settings] text: expected a text in quotes, found 5"),
    ("number = true", "[settings] number: expected a whole number, found true"),
    ("number = 1.5", "[settings] number: expected a whole number, found 1.5"),
    ("number = 10", "[settings] number: expected at most 9, found 10"),
    ("share = '1'", "[settings] share: expected a number, found '1'"),
    ("switch = 1", "[settings] switch: expected true or false, found 1"),
    ("secret = 5", "[settings] secret: expected a text in quotes, or a table with file, credential or env, "
     "found something else"),
    ("secret = {}", "[settings] secret: expected a table with one of file, credential, env, found one with none"),
    ("text = { env = 'X' }", "[settings] text: expected a text in quotes, found a table; "
     "a secret needs a field of the type aiomilter.secret.Secret"),
    ("words = 'a'", "[settings] words: expected a list, as in [...], found 'a'"),
    ("words = ['a', 5]", "[settings] words[2]: expected a text in quotes, found 5"),
    ("pair = [1]", "[settings] pair: expected a list of 2, found 1"),
    ("pair = ['a', 'b']", "[settings] pair[1]: expected a whole number, found 'a'"),
    ("table = 5", "[settings] table: expected a table, found 5"),
    ("table = { a = 'x' }", "[settings.table] a: expected a whole number, found 'x'"),
    ("place = 5", "[settings] place: expected a table, found 5"),
    ("place = { port = 5 }", "[settings.place] host: missing"),
    ("place = { host = 'h', prt = 5 }", "[settings.place] prt: unknown, did you mean port?"),
    ("places = { x = { host = 5 } }", "[settings.places.x] host: expected a text in quotes, found 5"),
    ("file = ''", "[settings] file: expected the path of a file, in quotes, found ''"),
    ("action = 'rejct'", "[settings] action: expected one of reject, tempfail, found 'rejct'; did you mean reject?"),
    ("word = true", "[settings] word: expected one of a, b, 1, found true"),
    ("either = true", "[settings] either: expected a text in quotes or a whole number, found true"),
    ("time = 'soon'", "[settings] time: expected 0 or more seconds, as in 30 or 0.5, found 'soon'"),
    ("day = 5", "[settings] day: expected a date or time, found 5"),
    ("network = '192.0.2.1/24'", "[settings] network: 192.0.2.1/24 has host bits set"),
    ("odd = 5", "[settings] odd: has the type complex in the program, which a file cannot give"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what"), WRONG)
def test_a_setting_that_cannot_be_is_a_fault_with_its_line(text: str, what: str, tmp_path: Path) -> None:
    assert mistakes(tmp_path, f"\n{text}") == [f"x.toml:3: {what}"]


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = "txt = 1\nnumber = 'x'\n[settings.place]\nport = 'x'\n"
    assert mistakes(tmp_path, text) == [
        "x.toml:2: [settings] txt: unknown, did you mean text?",
        "x.toml:3: [settings] number: expected a whole number, found 'x'",
        "x.toml:4: [settings.place] host: missing",
        "x.toml:5: [settings.place] port: expected a whole number, found 'x'",
    ]


def test_no_fault_shows_what_may_be_a_secret(tmp_path: Path) -> None:
    @dataclass
    class Odd:
        token: int = 0
        my_secrets: Literal["a"] = "a"
        key: Secret | None = None

    def odd(settings: Odd) -> None: ...

    for text in ("token = 'pa55'", "my_secrets = 'pa55'", "key = 55_55", "key = { pa55 = 1.5 }"):
        (line,) = mistakes(tmp_path, text, odd)
        assert not re.search("'pa55'|5555|1.5", line), line


# ------------------------------------------------------------------------------------------------------------- factories


class Filter:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@asynccontextmanager
async def lifespan(settings: Settings) -> Any:
    yield lambda: settings


def keyword(*, settings: Settings) -> Settings:
    return settings


def second(cache=None, settings: Settings | None = None) -> Any:  # type: ignore[no-untyped-def]  # as a user may write it
    return settings


def ahead(settings: Settings, /) -> Settings:
    return settings


def optional(settings: Settings | None = None) -> object:
    return settings


def plain() -> str:
    return "plain"


def untyped(settings=None) -> object:  # type: ignore[no-untyped-def]  # as a user may write it
    return settings


async def test_settings_go_through_each_kind_of_factory(tmp_path: Path) -> None:
    for factory in (takes, keyword, second, ahead):
        assert made(tmp_path, "number = 1", factory).number == 1
    assert made(tmp_path, "number = 1", Filter).settings.number == 1
    async with made(tmp_path, "number = 1", lifespan) as make:
        assert make().number == 1


def test_without_a_table_a_factory_gets_defaults_or_is_left_alone(tmp_path: Path) -> None:
    bare, _ = settings(tmp_path, "")
    assert bare.bound(takes)() == Settings()
    assert bare.bound(plain) is plain
    assert bare.bound(optional) is optional


def test_a_missing_setting_without_a_table_is_a_fault_of_the_file(tmp_path: Path) -> None:
    def needs(place: Place) -> None: ...

    bare, _ = settings(tmp_path, "")
    with pytest.raises(Faults) as caught:
        bare.bound(needs)
    assert caught.value.lines() == ["x.toml: [settings] host: missing"]


@pytest.mark.parametrize("factory", [plain, untyped])
def test_a_table_for_a_factory_that_takes_none_is_a_fault(factory: Callable[..., Any], tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "a = 1", factory)
    assert line.startswith(
        "x.toml:1: [settings]: the filter takes no settings: its factory has no parameter with a type"
    )


def test_a_type_that_cannot_be_found_or_made_is_a_fault(tmp_path: Path) -> None:
    def strange(settings: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821  # what a user may write

    def number(settings: int) -> None: ...

    (line,) = mistakes(tmp_path, "a = 1", strange)
    assert "the type of 'settings' of the filter's factory cannot be found: NameError" in line
    (line,) = mistakes(tmp_path, "a = 1", number)
    assert "takes int; expected a dataclass, dict, a pydantic model or a msgspec.Struct" in line


def test_a_factory_may_take_a_dict(tmp_path: Path) -> None:
    def loose(settings: dict[str, Any]) -> dict[str, Any]:
        return settings

    (tmp_path / "key").write_text("k\n")
    (tmp_path / "key").chmod(0o600)
    found = made(tmp_path, 'a = 1\nb = [{ c = { file = "key" } }]', loose)
    assert found == {"a": 1, "b": [{"c": Secret("k")}]}


class Model:
    """As pydantic has them."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @classmethod
    def model_validate(cls, values: dict[str, Any]) -> "Model":
        if "bad" in values:
            raise PydanticError
        if "worse" in values:
            raise ValueError("no\nway")
        return cls(values)


class PydanticError(ValueError):
    def errors(self) -> list[dict[str, Any]]:
        return [{"loc": ("bad", 1, "x"), "msg": "Input should be a valid integer"}, {"loc": (), "msg": "Other"}]


def model(settings: Model) -> Model:
    return settings


def test_a_class_with_model_validate_validates_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "s")
    assert made(tmp_path, 'a = [{ env = "THE_SECRET" }]', model).values == {"a": ["s"]}
    assert mistakes(tmp_path, "\nbad = [1, { x = 'y' }]", model) == [
        "x.toml:1: [settings]: Other",
        "x.toml:3: [settings.bad[2]] x: Input should be a valid integer",
    ]
    assert mistakes(tmp_path, "worse = 1", model) == ["x.toml:1: [settings]: no way"]


def test_a_struct_is_made_by_msgspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Struct:
        __struct_fields__ = ("a",)

    def struct(settings: Struct) -> Struct:
        return settings

    fake = types.SimpleNamespace(convert=lambda values, kind: (values, kind))
    monkeypatch.setitem(sys.modules, "msgspec", fake)
    assert made(tmp_path, "a = 1", struct) == ({"a": 1}, Struct)


# --------------------------------------------------------------------------------------------------------------- secrets


def test_a_secret_comes_from_a_file_a_credential_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("of the file\r\n")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "redis").write_text("of systemd")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("THE_SECRET", "of the environment")
    for source, value in [
        ('{ file = "key" }', "of the file"),
        ('{ credential = "redis" }', "of systemd"),
        ('{ env = "THE_SECRET" }', "of the environment"),
        ('"literal"', "literal"),
    ]:
        assert made(tmp_path, f"secret = {source}").secret.value == value


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ('{ file = "none" }', "'none' cannot be read: No such file or directory"),
        ('{ file = "." }', "'.' cannot be read: Is a directory"),
        ('{ file = "pipe" }', "'pipe' is not a regular file"),
        ('{ file = "empty" }', "'empty' is empty"),
        ('{ file = "binary" }', "'binary': expected a text in UTF-8"),
        ('{ file = "large" }', "'large': expected at most 65536 octets, found more"),
        ('{ file = 5 }', "expected a text in quotes behind file ="),
        ('{ file = "a\\u0000" }', "expected a text in quotes behind file ="),
        ('{ credential = "x" }', "there are no credentials: CREDENTIALS_DIRECTORY is not set; systemd sets it for "
         "LoadCredential=x:/..."),
        ('{ env = "NOT_THERE" }', "the environment has no variable 'NOT_THERE'"),
        ('{ fil = "x" }', "expected a table with one of file, credential, env, found one with fil"),
        ('{ file = "x", env = "y" }', "expected a table with one of file, credential, env, found one with file, env"),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_be_had_is_a_fault(
    source: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"x" * 65537)
    assert mistakes(tmp_path, f"secret = {source}") == [f"x.toml:2: [settings] secret: {what}"]


def test_a_credential_has_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in ("../x", "/etc/passwd", ".."):
        (line,) = mistakes(tmp_path, f'secret = {{ credential = "{name}" }}')
        assert "expected the name of a credential, without a path" in line


def test_a_literal_secret_in_a_file_that_every_user_can_read_is_warned_of(tmp_path: Path) -> None:
    def loose(settings: dict[str, Any]) -> None: ...

    each: list[tuple[Callable[..., Any], str]] = [
        (takes, "secret = 'x'"),
        (loose, "db_password = 'x'"),
        (loose, "tokens = ['x']"),
        (model, "token = 'x'"),
    ]
    for factory, text in each:
        for mode, count in ((0o644, 1), (0o640, 0)):
            own, warnings = settings(tmp_path, f"[settings]\n{text}", mode=mode)
            own.bound(factory)
            assert len(warnings) == count, text
    own, warnings = settings(tmp_path, "[settings]\nsecret = 'x'", mode=0o604)
    own.bound(takes)
    assert warnings == [
        'x.toml:2: [settings] secret: every user can read this file, and it holds a secret; write { file = "..." }, '
        "or take the permission away"
    ]


def test_a_file_of_a_secret_that_every_user_can_read_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o644)
    own, warnings = settings(tmp_path, '[settings]\nsecret = { file = "key" }')
    own.bound(takes)
    assert warnings == ["x.toml:2: [settings] secret: 'key' can be read by every user; chmod o= key"]
