"""The table of options: what is checked, once, when a server is made, and what is made from the table."""

import argparse
import inspect
import pydoc
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Unpack, get_type_hints

import pytest

from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Milter, Reply, Stage, run, serve
from aiomilter._cli import main
from aiomilter._cli.options import RunOptions, add_options, given
from aiomilter._cli.site import SiteOptions
from aiomilter._connection.transport import MilterProtocol
from aiomilter._option import _CHECKS, Group, Kind, Option, check, option, rows
from aiomilter._option_text import documented, reference, shown
from aiomilter.compat import serve as serve_classic
from aiomilter.options import Options, ServeOptions
from aiomilter.server import Server
from aiomilter.testing import session

TYPES: dict[Kind, Any] = {
    Kind.DURATION: float,
    Kind.DURATIONS: Mapping[Stage, float],
    Kind.SIZE: int,
    Kind.COUNT: int,
    Kind.ANSWER: Options.__annotations__["on_error"],
    Kind.NETWORKS: Collection[str],
    Kind.DOMAINS: Collection[str],
    Kind.USERS: Collection[str | int],
    Kind.GROUPS: Collection[str | int],
    Kind.USER: str | int,
    Kind.GROUP: str | int,
    Kind.MODE: int,
    Kind.PATH: str,
    Kind.SOCKETS: Collection[str],
    Kind.HTTP: str,
    Kind.IP: str,
    Kind.LINE: str,
    Kind.CHOICE: str,
    Kind.CHOICES: Collection[str],
    Kind.SHARE: float,
    Kind.SWITCH: bool,
}
"""What a field of a kind is declared as; TLS and OBJECT are declared as what they are."""
NUMBERS = [row.name for row in rows(Options) if row.option.kind in (Kind.DURATION, Kind.SIZE, Kind.COUNT)]
TABLES = pytest.mark.parametrize("table", [Options, RunOptions, SiteOptions])


async def begin_session(**options: Any) -> None:
    async with session(Milter, **options):
        pytest.fail("began")


DOORS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (serve, lambda **options: serve(Milter, "inet:0@127.0.0.1", **options)),
    (run, lambda **options: run(Milter, "inet:0@127.0.0.1", **options)),
    (session, lambda **options: begin_session(**options).send(None)),
    (serve_classic, lambda **options: serve_classic(Milter, "inet:0@127.0.0.1", **options)),
]
EACH_DOOR = pytest.mark.parametrize(("door", "call"), DOORS, ids=lambda one: getattr(one, "__module__", ""))


def test_type_checkers_are_told_the_fields_of_the_table() -> None:
    assert list(ServeOptions.__annotations__) == [row.name for row in rows(Options)]
    assert list(Options.__dataclass_fields__) == [row.name for row in rows(Options)]
    assert get_type_hints(ServeOptions) == {
        name: get_type_hints(Options)[name] for name in ServeOptions.__annotations__
    }


@TABLES
def test_a_field_is_declared_as_its_kind_is(table: type[Any]) -> None:
    hints = get_type_hints(table)
    for row in rows(table):
        if row.option.kind in TYPES:
            declared = TYPES[row.option.kind]
            assert hints[row.name] == (declared | None if row.option.none else declared), row.name
    assert set(TYPES) | {Kind.TLS, Kind.OBJECT} == set(Kind) == set(_CHECKS)


@TABLES
def test_the_defaults_are_in_range(table: type[Any]) -> None:
    check(table())


@EACH_DOOR
def test_every_door_takes_the_table(door: Callable[..., Any], call: Callable[..., Any]) -> None:
    annotation = inspect.signature(door).parameters["options"].annotation
    assert annotation in (Unpack[ServeOptions], "Unpack[ServeOptions]")


@EACH_DOOR
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(
    door: Callable[..., Any], call: Callable[..., Any]
) -> None:
    what = rf"^{door.__name__}\(\) got an unexpected keyword argument 'callback_timout'; did you mean 'callback_timeout'\?$"
    with pytest.raises(TypeError, match=what):
        call(callback_timout=5)
    with pytest.raises(TypeError, match=rf"^{door.__name__}\(\) got an unexpected keyword argument 'zzz'$"):
        call(zzz=5)


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [(DOORS[1][1], "wokers", "workers"), (DOORS[2][1], "hostnam", "hostname"), (DOORS[3][1], "thread", "threads")],
)
def test_a_keyword_that_is_no_option_is_suggested_too(call: Callable[..., Any], wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=rf"'{wrong}'; did you mean '{right}'\?"):
        call(**{wrong: 1})


@EACH_DOOR
def test_every_door_checks_the_values(door: Callable[..., Any], call: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"^max_headers: expected a whole number, found '5'$"):
        call(max_headers="5")


# ------------------------------------------------------------------------------------------------------- one more option


@dataclass(frozen=True, slots=True, kw_only=True)
class Wider(Options):
    """The table with options that nothing else knows of."""

    max_jokes: int = option(
        7, Option(Kind.COUNT, Group.LIMITS, "jokes of a message; see ``on_error``", details="Or puns.")
    )
    joke_timeout: float | None = option(
        2.5, Option(Kind.DURATION, Group.DEADLINES, "time for a laugh", none="as long as it takes", off=True)
    )
    joke_timeouts: Mapping[Stage, float] | None = option(
        None,
        Option(Kind.DURATIONS, Group.DEADLINES, "the same by stage", none="``joke_timeout``", command="joke-timeout"),
    )
    trusted_networks: Collection[str] | None = option(
        None, Option(Kind.NETWORKS, Group.ACCESS, "where jokes are fine", none="nowhere", command="trust-network")
    )


def parsed(table: type[Any], *arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, table)
    return given(parser.parse_args(arguments), table)


def test_one_more_option_is_a_field(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is checked, an argument of the command line with its help, and in the reference."""
    assert Wider.given_to(serve, {"max_jokes": 3}).max_jokes == 3
    with pytest.raises(ValueError, match=r"^max_jokes: expected more than 0, found 0$"):
        Wider(max_jokes=0)
    with pytest.raises(ValueError, match=r"^trusted_networks: 'x' does not"):
        Wider(trusted_networks=["x"])
    with pytest.raises(ValueError, match=r"^MAIL in joke_timeouts: expected more than 0"):
        Wider(joke_timeouts={Stage.MAIL: 0})

    arguments = [
        "--max-jokes",
        "3",
        "--joke-timeout",
        "helo=4",
        "--trust-network",
        "::1",
        "--trust-network",
        "10.0.0.0/8",
    ]
    assert parsed(Wider, *arguments) == {
        "max_jokes": 3,
        "joke_timeouts": {Stage.HELO: 4.0},
        "trusted_networks": ["::1", "10.0.0.0/8"],
    }
    assert Wider(**parsed(Wider, *arguments)).joke_timeout == 2.5
    assert parsed(Wider, "--joke-timeout", "off") == {"joke_timeout": None}

    monkeypatch.setenv("COLUMNS", "300")
    parser = argparse.ArgumentParser()
    add_options(parser, Wider)
    assert "--max-jokes" not in parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["--help-all"])
    words = " ".join(capsys.readouterr().out.split())
    assert "--max-jokes N jokes of a message; see --on-error (default: 7)" in words
    assert "--joke-timeout [STAGE=]SECONDS time for a laugh; may be repeated; or 'off' (default: 2.5)" in words

    text = " ".join(reference(Wider).split())
    assert (
        "``max_jokes`` (command line: ``--max-jokes``) Jokes of a message; see ``on_error`` (default 7). Or puns."
        in text
    )
    assert "Time for a laugh (seconds; default 2.5; None: as long as it takes)." in text


def test_the_help_shows_the_common_options_and_help_all_the_others_too(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for flag in ("--help", "--help-all"):
        assert main(["run", flag]) == 0
        shown[flag] = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    every = [row for row in (*rows(Options), *rows(RunOptions), *rows(SiteOptions)) if row.command is not None]
    named = {f"--{row.command}" for row in every}
    assert named <= shown["--help-all"]
    assert {f"--{row.command}" for row in every if row.option.common} == named & shown["--help"]
    assert len(shown["--help"]) < len(shown["--help-all"]) / 2


def test_one_more_option_of_the_table_is_one_of_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter.server.Options", Wider)
    more: dict[str, Any] = {"max_jokes": 3}
    server = serve(Milter, "inet:0@127.0.0.1", **more)
    assert server._options == Wider(max_jokes=3)


# --------------------------------------------------------------------------------------------------------------- texts


@TABLES
def test_texts_leave_unit_and_default_to_the_table(table: type[Any]) -> None:
    for row in rows(table):
        text = row.option.help
        assert text[0].islower(), row.name
        assert not text.endswith("."), row.name
        assert "default" not in text + row.option.details, row.name
        assert not row.option.details or row.option.details.endswith("."), row.name
        if row.option.kind in (Kind.DURATION, Kind.DURATIONS):
            assert "second" not in text + row.option.details, row.name
        if row.option.kind is Kind.SIZE:
            assert "octet" not in text, row.name


def test_names_in_texts_are_options_or_well_known() -> None:
    names = {row.name for row in rows(Options)}
    for row in rows(Options):
        for name in re.findall(r"``([a-z]+_[a-z_]+)``", row.option.help + row.option.details + row.option.none):
            assert name in names | {"load_verify_locations"}, (row.name, name)


def test_help_of_serve_lists_every_option_with_its_default() -> None:
    text = pydoc.plain(pydoc.render_doc(serve))
    assert "Raises:\n        AddressError" in text
    for row in rows(Options):
        (found,) = re.findall(rf"(?m)^        {row.name}: (.+(?:\n            .+)*)", text)
        default = f"None: {row.option.none}" if row.default is None else shown(row)
        assert f"default {default}" in " ".join(found.split()), row.name


def test_docstrings_may_be_left_out() -> None:
    """As ``python -OO`` does."""

    def bare() -> None: ...

    assert documented(options=Options)(bare).__doc__ is None


def test_the_reference_has_every_option_in_the_section_of_its_group() -> None:
    sections = re.split(r"(?m)^(.+)\n-+\n", reference(Options))
    by_title = dict(zip(sections[1::2], sections[2::2], strict=True))
    for row in rows(Options):
        assert f"\n``{row.name}``" in by_title[row.option.group.value.capitalize()]
    assert max(map(len, reference(Options).splitlines())) <= 128


@TABLES
def test_every_option_that_is_not_an_object_has_an_argument(table: type[Any]) -> None:
    for row in rows(table):
        assert (row.command is None) == (row.toml is None) == (row.option.kind in (Kind.TLS, Kind.OBJECT)), row.name


# -------------------------------------------------------------------------------------------------------------- checks


def test_the_default_idle_timeout_is_that_of_libmilter() -> None:
    """P-130."""
    assert Options().idle_timeout == 7210


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), "5", True, [1]], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    """P-130."""
    options: dict[str, Any] = {name: value}
    if name == "drain_timeout" and value == 0 and value is not True:
        assert serve(Milter, "inet:0@127.0.0.1", **options).drain_timeout == 0
        return
    with pytest.raises((ValueError, TypeError), match=name):
        serve(Milter, "inet:0@127.0.0.1", **options)


def test_only_the_idle_timeout_may_be_none() -> None:
    """P-130."""
    assert Options(idle_timeout=None).idle_timeout is None
    options: dict[str, Any] = {"callback_timeout": None}
    with pytest.raises(TypeError, match="callback_timeout"):
        Options(**options)


@pytest.mark.parametrize("name", ["callback_timeout", "idle_timeout", "max_headers", "write_timeout"])
def test_numbers_above_zero_are_taken(name: str) -> None:
    options: dict[str, Any] = {name: 3}
    assert getattr(Options(**options), name) == 3


@pytest.mark.parametrize("answer", [CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, Reply(451, "4.7.1", "x")], ids=repr)
def test_on_error_is_an_answer(answer: Any) -> None:
    assert Options(on_error=answer).on_error is answer


@pytest.mark.parametrize("answer", [SKIP, None, "tempfail", 451, True], ids=repr)
def test_on_error_is_an_answer_of_every_step(answer: Any) -> None:
    """P-092, P-097: what would fail at the first failure fails at start."""
    with pytest.raises(TypeError, match="on_error"):
        Options(on_error=answer)


def test_options_do_not_change() -> None:
    options: Any = Options()
    with pytest.raises(AttributeError):
        options.on_error = REJECT


@pytest.mark.parametrize("name", ["callback_timeouts", "answer_timeouts"])
@pytest.mark.parametrize(
    "value", [{Stage.MAIL: 0}, {Stage.MAIL: "5"}, {Stage.MAIL: True}, {"envfrom": 5}, {2: 5}, 5, [Stage.MAIL]], ids=repr
)
def test_times_by_step_are_checked(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises((ValueError, TypeError), match=name):
        Options(**options)
    options = {name: {Stage.MAIL: 2.5, Stage.EOM: 100}}
    assert Options(**options)


@pytest.mark.parametrize("name", ["callback_timeouts", "answer_timeouts"])
@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("mail", "; did you mean Stage.MAIL?"),
        ("envfrom", "; did you mean Stage.MAIL?"),
        ("RCPT", "; did you mean Stage.RCPT?"),
        ("envrcpt", "; did you mean Stage.RCPT?"),
        ("headers", "; did you mean Stage.HEADER?"),
        ("eom", "; did you mean Stage.EOM?"),
        ("nothing like it", ""),
        ("mail" * 1000, ""),
        (2, ""),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_stage_by_a_text_is_told_which_it_is(name: str, key: Any, hint: str) -> None:
    options: dict[str, Any] = {name: {key: 5}}
    with pytest.raises(TypeError) as caught:
        Options(**options)
    assert str(caught.value) == f"{name}: expected a Stage as key, found {key!r}{hint}"


@pytest.mark.parametrize("answer", [SKIP, "tempfail", 451, True], ids=repr)
def test_on_timeout_is_an_answer_or_that_of_on_error(answer: Any) -> None:
    with pytest.raises(TypeError, match="on_timeout"):
        Options(on_timeout=answer)
    assert Options(on_timeout=ACCEPT).on_timeout is ACCEPT


def test_progress_may_be_off() -> None:
    assert Options(progress_interval=None).progress_interval is None
    assert Options(progress_interval=0.5).progress_interval == 0.5


WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("socket_mode", "660", TypeError, "socket_mode: expected permissions such as 0o660, found '660'"),
    ("socket_mode", True, TypeError, "socket_mode: expected permissions such as 0o660, found True"),
    ("socket_mode", 660, ValueError, "socket_mode: expected 0 to 0o777, found 0o1224"),
    ("socket_mode", -1, ValueError, "socket_mode: expected 0 to 0o777, found -0o1"),
    ("socket_owner", 1.5, TypeError, "socket_owner: expected names or numbers, found 1.5"),
    ("socket_group", "nobody-there", ValueError, "socket_group: this machine does not know 'nobody-there'"),
    ("drain_timeout", -1, ValueError, "drain_timeout: expected 0 or more, found -1"),
    ("backlog", 1.5, TypeError, "backlog: expected a whole number, found 1.5"),
    ("allowed_networks", "10.0.0.0/8", TypeError, "allowed_networks: expected a sequence, found '10.0.0.0/8'"),
]


@pytest.mark.parametrize(("name", "value", "error", "what"), WRONG)
def test_a_value_is_checked_by_its_kind(name: str, value: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error) as caught:
        Options(**{name: value})
    assert str(caught.value) == what


@pytest.mark.parametrize(
    ("table", "name", "value", "what"),
    [
        (RunOptions, "workers", 129, "workers: expected at most 128, found 129"),
        (RunOptions, "uvloop", 1, "uvloop: expected True or False, found 1"),
        (RunOptions, "log_level", "loud", "log_level: expected one of debug, info, warning, error, found 'loud'"),
        (RunOptions, "tls_key", 5, "tls_key: expected a text, found 5"),
    ],
)
def test_a_value_of_the_command_is_checked_by_its_kind(table: type[Any], name: str, value: Any, what: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        table(**{name: value})
    assert str(caught.value) == what


@pytest.mark.parametrize("socket", [8890, b"inet:8890", None, ("inet:8890",)], ids=repr)
@pytest.mark.parametrize("call", [serve, run, serve_classic])
def test_a_socket_that_is_not_a_text_is_refused(call: Callable[..., Any], socket: Any) -> None:
    what = f"socket: expected a text such as 'inet:8890@127.0.0.1', found {socket!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(what)}$"):
        call(Milter, socket)


async def test_a_server_takes_what_serves_a_connection_and_what_ends_with_it() -> None:
    ended: list[str] = []

    async def closed() -> None:
        ended.append("closed")

    class Own(MilterProtocol):
        pass

    server = Server(Milter, ["inet:0@127.0.0.1"], Options(), connection_factory=Own, on_closed=closed)
    async with server:
        connection = server.accept()
        assert isinstance(connection, Own)
        connection.transport_failed()
        assert ended == []
    assert (type(connection), ended) == (Own, ["closed"])
