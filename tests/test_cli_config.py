"""``aiomilter config`` and ``aiomilter run --config``: what they print, and with which status."""

import os
import re
import stat
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import pytest

from aiomilter._cli import main
from aiomilter._cli.config_init import begin
from aiomilter._cli.configured import AT_START, KEYS
from aiomilter._cli.options import RunOptions
from aiomilter._cli.service import _restart_needed
from aiomilter._cli.site import SiteOptions
from aiomilter._cli.target import names_of
from aiomilter.options import Options

FILTER: Final = """\
from dataclasses import dataclass
from aiomilter import Milter
from aiomilter.secret import Secret

print("imported")

@dataclass(frozen=True)
class Settings:
    tag: str
    phrase: Secret = Secret("")
    url: str = ""

    def __post_init__(self) -> None:
        if self.tag == "raise":
            raise LookupError("no such tag")

class Tag(Milter):
    def __init__(self, settings: Settings) -> None:
        if settings.tag == "fail":
            raise RuntimeError("no such tag")
"""
GOOD: Final = """\
filter = "tag.py"
listen = "inet:0@127.0.0.1"
[limits]
max_edits = 5
[settings]
tag = "x"
"""


class Printed(NamedTuple):
    status: int
    out: str
    err: str


class Command:
    """``aiomilter`` in a directory, with ``tag.py`` and ``x.toml``."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def __call__(self, *arguments: str, toml: str | None = GOOD, mode: int = 0o600) -> Printed:
        (self.directory / "tag.py").write_text(FILTER)
        if toml is not None:
            (self.directory / "x.toml").write_text(toml)
            (self.directory / "x.toml").chmod(mode)
        status = main(arguments)
        return Printed(status, *self._capsys.readouterr())


@pytest.fixture
def aiomilter(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AIOMILTER_")]:
        monkeypatch.delenv(name)
    return Command(tmp_path, capsys)


def test_a_file_in_order_is_told_in_one_line(aiomilter: Command) -> None:
    assert aiomilter("config", "check", "x.toml") == (0, "x.toml: in order\n", "imported\n")
    assert aiomilter("config", "check", "--syntax", "x.toml") == (0, "x.toml: in order\n", "")


def test_every_mistake_is_a_line_without_more_words(aiomilter: Command) -> None:
    toml = "filter = 'tag.py'\n\n[limits]\nmax_conections = 5\n\nmax_edits = '\u202e'\n"
    found = aiomilter("config", "check", "x.toml", toml=toml)
    assert (found.status, found.out) == (2, "")
    assert found.err.splitlines() == [
        "x.toml:4: [limits] max_conections: unknown, did you mean max_connections?",
        "x.toml:6: [limits] max_edits: expected a whole number, without quotes, found '\\u202e'",
    ]
    assert aiomilter("run", "--config", "x.toml", toml=toml) == found
    assert aiomilter("config", "show", "x.toml", toml=toml) == found


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("run", "--config")], ids=" ".join)
@pytest.mark.parametrize(
    ("toml", "status", "line"),
    [
        (None, 4, "x.toml: cannot be read: No such file or directory"),
        ("", 2, 'x.toml: filter: missing; write filter = "filter.py", or give TARGET'),
        ("filter = ''", 2, "x.toml:1: filter: expected a TARGET in quotes"),
        (
            "filter = ':Tag'",
            2,
            "x.toml:1: filter: ':Tag' names no filter; write FILE.py, FILE.py:NAME or MODULE:NAME",
        ),
        (
            "[[filter]]\nuse = 'tag.py:'",
            2,
            "x.toml:2: [filter[1]] use: 'tag.py:' names no filter; write FILE.py, FILE.py:NAME or MODULE:NAME",
        ),
        ("filter = tag.py", 2, "x.toml:1: is not TOML, column 10: invalid value; write texts in quotes"),
        ("filter = 'tag.py'\n[settings]\ntg = 1\ntag = 'x'", 2, "x.toml:3: [settings] tg: unknown, did you mean tag?"),
        ("filter = 'tag.py'\n", 2, "x.toml: [settings] tag: missing"),
        (
            "filter = 'none.py'",
            4,
            "aiomilter: there is no file 'none.py'; expected FILE.py, FILE.py:NAME or MODULE:NAME",
        ),
        (
            "[[filter]]\nname = 'x'",
            2,
            'x.toml:1: [filter[1]] use: missing; write use = "module:attribute" or the path of a file',
        ),
        (
            "[[filter]]\nuse = 'tag.py'\nenabled = false",
            2,
            "x.toml:1: filter: expected at least one filter that is enabled",
        ),
        (
            "[[filter]]\nuse = 'tag.py'\nenabled = 'no'",
            2,
            "x.toml:3: [filter[1]] enabled: expected true or false, found 'no'",
        ),
        ("[[filter]]\nuse = 'tag.py'\nwhn = 'tls'", 2, "x.toml:3: [filter[1]] whn: unknown, did you mean when?"),
        (
            "[[filter]]\nuse = 'tag.py'\ntag = 'x'",
            2,
            "x.toml:3: [filter[1]] tag: unknown; what is for the filter itself stands in [filter.settings]",
        ),
        (
            "[[filter]]\nuse = 'tag.py'\nwhen = ['tls', 'intern']",
            2,
            "x.toml:3: [filter[1]] when: expected a word such as authenticated, internal, null_sender, tls, found 'intern'; "
            "did you mean internal?",
        ),
        ("[[filter]]\nuse = 'tag.py'\nname = 5", 2, "x.toml:3: [filter[1]] name: expected a word in quotes, found 5"),
        (
            "[[filter]]\nuse = 'tag.py'\nafter = [5]",
            2,
            "x.toml:3: [filter[1]] after: expected a word in quotes, found 5",
        ),
        (
            "[[filter]]\nuse = 'tag.py'\non_error = 5",
            2,
            "x.toml:3: [filter[1]] on_error: expected an answer in quotes, found 5",
        ),
        ("[[filter]]\nuse = 'tag.py'\ntimeout = true", 2, "x.toml:3: [filter[1]] timeout: expected a time, found true"),
        (
            "[[filter]]\nuse = 'tag.py'\nsettings = { tag = 'x' }\n[[filter]]\nuse = 'tag.py'\n[filter.settings]\ntg = 'x'",
            2,
            None,
        ),
        ("[[filter]]\nuse = 5", 2, "x.toml:2: [filter[1]] use: expected a TARGET in quotes"),
        (
            "[[filter]]\nuse = 'tag.py'\n[settings]\ntag = 'x'",
            2,
            "x.toml:3: settings: with [[filter]], settings stand below it, as [filter.settings]",
        ),
        ("[[filter]]\nuse = 'tag.py'\nsettings = 5", 2, "x.toml:3: [filter[1]] settings: expected a table, found 5"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_line(
    command: tuple[str, ...], toml: str | None, status: int, line: str | None, aiomilter: Command
) -> None:
    found = aiomilter(*command, "x.toml", *(["--smtp", "0"] if command[0] == "run" else []), toml=toml)
    assert found.status == status
    lines = [each for each in found.err.splitlines() if each != "imported"]
    if line is not None:
        assert lines == [line]
    else:
        assert lines == [
            "x.toml:6: [filter[2].settings] tag: missing",
            "x.toml:7: [filter[2].settings] tg: unknown, did you mean tag?",
        ]


CLASHING: Final = [
    (
        '[metrics]\nlisten = "0.0.0.0:9464"',
        ["x.toml:4: --metrics '0.0.0.0:9464': other hosts would reach it; give --metrics-allow"],
    ),
    (
        '[metrics]\nlisten = "[::]:9464"',
        ["x.toml:4: --metrics '[::]:9464': other hosts would reach it; give --metrics-allow"],
    ),
    (
        'workers = 2\n[metrics]\nallow = ["192.0.2.0/24"]\n[inspect]\nplay = true',
        [
            "x.toml:5: --metrics-allow needs --metrics",
            "x.toml:7: --inspect-play needs --inspect",
            "x.toml:7: --inspect-play needs one process",
        ],
    ),
]
"""What each file says of options that are right one by one, and that a start refuses."""


@pytest.mark.parametrize(("toml", "lines"), CLASHING)
def test_options_that_do_not_go_together_are_found_before_a_start(
    toml: str, lines: list[str], aiomilter: Command
) -> None:
    whole = f"filter = 'tag.py'\nlisten = 'inet:0@127.0.0.1'\n{toml}\n"
    found = aiomilter("config", "check", "x.toml", toml=f"{whole}[settings]\ntag = 'x'\n")
    said = [line for line in found.err.splitlines() if line != "imported"]
    assert (found.status, found.out, len(said)) == (2, "", len(lines))
    assert [one.startswith(line) for one, line in zip(said, lines, strict=True)] == [True] * len(lines)

    found = aiomilter("config", "check", "x.toml", toml=f"{whole}[settings]\ntga = 'x'\n")
    assert [line.partition(" ")[2][:10] for line in found.err.splitlines()[-2:]] == ["[settings]"] * 2
    assert aiomilter("config", "check", "--syntax", "x.toml").status == 0


def test_of_very_many_mistakes_the_first_are_shown(aiomilter: Command) -> None:
    """Which key was meant is looked for as often, since that takes a while."""
    toml = "filter = 'tag.py'\n[limits]\n" + "".join(f"max_edit{number} = 1\n" for number in range(3000))
    lines = aiomilter("config", "check", "--syntax", "x.toml", toml=toml).err.splitlines()
    assert len(lines) == 101
    assert lines[99] == "x.toml:102: [limits] max_edit99: unknown, did you mean max_edits?"
    assert lines[100] == "x.toml: and 2900 more"


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        (f"filter = '{'x' * 5000}'", "x.toml:1: filter: expected a TARGET in quotes"),
        (
            f"filter = 'tag.py'\nlisten = [{', '.join(['1'] * 1001)}]",
            "x.toml:2: listen: expected at most 1000 sockets, found 1001",
        ),
    ],
    ids=["a long name", "many sockets"],
)
def test_what_is_too_long_is_a_short_line(toml: str, line: str, aiomilter: Command) -> None:
    assert aiomilter("config", "check", "x.toml", toml=toml).err.splitlines() == [line]


def test_a_filter_that_cannot_be_built_fails_the_check_but_for_syntax(aiomilter: Command) -> None:
    toml = GOOD.replace('"x"', '"fail"')
    found = aiomilter("config", "check", "x.toml", toml=toml)
    assert found.status == 1
    assert found.err.endswith("aiomilter: tag.py cannot be started: RuntimeError: no such tag\n")
    assert aiomilter("config", "check", "--syntax", "x.toml", toml=toml).status == 0


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("run", "--config")], ids=" ".join)
def test_what_the_settings_themselves_raise_is_shown_without_our_own_lines(
    command: tuple[str, ...], aiomilter: Command
) -> None:
    found = aiomilter(*command, "x.toml", toml=GOOD.replace('"x"', '"raise"'))
    assert found.status == 1
    lines = found.err.splitlines()
    assert any(line.endswith('tag.py", line 15, in __post_init__') for line in lines)
    assert not any("conversion.py" in line for line in lines)
    assert lines[-1] == "aiomilter: tag.py:Tag cannot be started: LookupError: no such tag"


def test_one_filter_table_is_a_filter_with_its_settings(aiomilter: Command) -> None:
    toml = '[[filter]]\nuse = "tag.py:Tag"\n[filter.settings]\ntag = "x"\n'
    assert aiomilter("config", "check", "x.toml", toml=toml).status == 0
    shown = aiomilter("config", "show", "x.toml", toml=toml).out
    assert re.sub(" {2,}#", " #", shown).splitlines()[-2:] == ["[filter.settings]", 'tag = "x" # x.toml:4']


TWO: Final = """\
[[filter]]
use = "tag.py"
name = "first"
[filter.settings]
tag = "x"
phrase = "pa55"
[[filter]]
use = "tag.py:Tag"
name = "second"
unless = "authenticated"
on_error = "continue"
timeout = "5 s"
after = "first"
settings = { tag = "y" }
[[filter]]
use = "none.py"
enabled = false
"""


def test_several_filter_tables_are_one_filter(aiomilter: Command) -> None:
    """The file of both is loaded once."""
    assert aiomilter("config", "check", "x.toml", toml=TWO) == (0, "x.toml: in order\n", "imported\n")
    shown = tomllib.loads(aiomilter("config", "show", "x.toml", toml=TWO).out)
    wanted = tomllib.loads(TWO.replace("pa55", "***"))
    assert shown["filter"] == wanted["filter"]


SHADOWS: Final = (
    ("shadow = 1", "4: [filter[1]] shadow: expected true or false, found 1"),
    ("share = 0.5", "4: [filter[1]] share: expected shadow = true for a share, found a filter that acts"),
    ("shadow = true\nshare = 5", "5: [filter[1]] share: expected a part between 0 and 1, found 5"),
    ("shadow = true\nshare = '5%'", "5: [filter[1]] share: expected a part between 0 and 1, found '5%'"),
    ("shadow = true\nshare = true", "5: [filter[1]] share: expected a part between 0 and 1, found True"),
    ("shadow = true\nshare = { by = 'client' }", "5: [filter[1]] share: expected a part, a number between 0 and 1"),
    (
        "shadow = true\nshare = { part = 1, by = 'x' }",
        "5: [filter[1]] share: expected by 'client' or 'recipient_domain', found 'x'",
    ),
    ("shadow = true\nshare = { part = 1, bye = 'x' }", "5: [filter[1].share] bye: unknown, did you mean by?"),
    (
        "shadow = true\nshare = { part = 1, key = 'k' }",
        '5: [filter[1].share] key: expected where the key is, as { file = "share.key" }, or credential, or env',
    ),
    (
        "shadow = true\nshare = { part = 1, key = { file = 'none.key' } }",
        "5: [filter[1].share] key: 'none.key' cannot be read: No such file or directory",
    ),
    ("shadw = true", "4: [filter[1]] shadw: unknown, did you mean shadow?"),
    ("shar = 1", "4: [filter[1]] shar: unknown, did you mean share?"),
)


@pytest.mark.parametrize(("lines", "line"), SHADOWS, ids=[lines for lines, _ in SHADOWS])
def test_a_mistake_about_a_shadow_is_a_line(aiomilter: Command, lines: str, line: str) -> None:
    toml = f'[[filter]]\nuse = "tag.py"\n\n{lines}\n[filter.settings]\ntag = "x"\n'
    found = aiomilter("config", "check", "x.toml", toml=toml)
    assert (found.status, found.err) == (4 if "No such file" in line else 2, f"x.toml:{line}\n")


def test_a_shadow_with_a_share_is_part_of_the_filter(aiomilter: Command) -> None:
    (aiomilter.directory / "share.key").write_text("a secret\n")
    share = 'share = { part = 0.05, by = "recipient_domain", key = { file = "share.key" } }'
    toml = TWO.replace('after = "first"\n', f"shadow = true\n{share}\n")
    assert aiomilter("config", "check", "x.toml", toml=toml) == (0, "x.toml: in order\n", "imported\n")
    shown = aiomilter("config", "show", "x.toml", toml=toml).out
    assert tomllib.loads(shown)["filter"] == tomllib.loads(toml.replace("pa55", "***"))["filter"]
    assert "a secret" not in shown


def test_files_of_one_name_in_several_directories_are_a_module_each(aiomilter: Command) -> None:
    places = [aiomilter.directory / name / "tag.py" for name in "abc"]
    for place in places:
        place.parent.mkdir()
        place.write_text(FILTER)
    tables = [
        f'[[filter]]\nuse = "{place}"\nname = "{place.parent.name}"\n[filter.settings]\ntag = "x"' for place in places
    ]
    assert aiomilter("config", "check", "x.toml", toml="\n".join([*tables, ""])).status == 0
    names = [name for place in places for name in names_of(place)]
    assert [sys.modules[name].__file__ for name in names] == [str(place) for place in places]


def test_two_filters_of_one_name_are_a_line(aiomilter: Command) -> None:
    found = aiomilter("config", "check", "x.toml", toml=TWO.replace('"second"', '"first"').replace("after", "#"))
    line = "aiomilter: x.toml: expected a name of its own for each member, found 'first' twice; give one name=\n"
    assert found == (1, "", f"imported\n{line}")


def test_the_mistakes_in_the_settings_of_all_filters_come_at_once(aiomilter: Command) -> None:
    found = aiomilter("config", "check", "x.toml", toml=TWO.replace("tag =", "tg ="))
    assert found.status == 2
    assert [line.partition(" [")[0] for line in found.err.splitlines()[1:]] == [
        "x.toml:4:",
        "x.toml:5:",
        "x.toml:14:",
        "x.toml:14:",
    ]


def test_a_warning_leaves_the_file_in_order(aiomilter: Command) -> None:
    found = aiomilter("config", "check", "x.toml", toml=f"{GOOD}phrase = 'pa55'\n", mode=0o644)
    assert found.status == 0
    assert "warning: x.toml:7: [settings] phrase: every user can read this file" in found.err
    assert "pa55" not in found.err


# ------------------------------------------------------------------------------------------------------------------ show


def test_what_is_in_force_is_shown_with_its_origin(aiomilter: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOMILTER_MAX_HEADERS", "7")
    found = aiomilter("config", "show", "x.toml")
    assert (found.status, found.err) == (0, "imported\n")
    lines = re.sub(" {2,}#", " #", found.out).splitlines()
    for line in [
        'filter = "tag.py" # x.toml:1',
        'listen = ["inet:0@127.0.0.1"] # x.toml:2',
        "max_edits = 5 # x.toml:4",
        "max_headers = 7 # AIOMILTER_MAX_HEADERS",
        "workers = 1 # default",
        "# max_messages: no separate limit",
        'tag = "x" # x.toml:6',
    ]:
        assert line in lines


def test_what_is_shown_is_a_file_of_the_same_meaning(aiomilter: Command) -> None:
    toml = """\
filter = "tag.py"
listen = ["unix:/run/x y.sock", "fd:3"]
[socket]
mode = "0660"
[failure]
on_error = "451 4.3.0 It is \\"later\\""
on_error_local = "accept"
[deadlines]
progress_interval = "off"
callback_timeouts = { envfrom = 20, eom = "2 min" }
[access]
allowed_networks = ["::1"]
[settings]
tag = "tab\\t \\u007f ü"
"""
    first = aiomilter("config", "show", "x.toml", toml=toml).out
    values = tomllib.loads(first)
    assert values["settings"] == {"tag": "tab\t \x7f ü"}
    assert values["failure"]["on_error"] == '451 4.3.0 It is "later"'
    assert values["deadlines"]["callback_timeouts"] == {"mail": 20, "eom": 120}
    second = aiomilter("config", "show", "x.toml", toml=first).out
    assert tomllib.loads(second) == values


def test_another_filter_than_that_of_the_file_is_shown(aiomilter: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOMILTER_FILTER", "tag.py:Tag")
    for toml in (GOOD, "[settings]\ntag = 'x'\n"):
        first = aiomilter("config", "show", "x.toml", toml=toml).out.splitlines()[0]
        assert re.sub(" +#", " #", first) == 'filter = "tag.py:Tag" # AIOMILTER_FILTER'


def test_secrets_are_not_shown(aiomilter: Command) -> None:
    """By their types, by their names, and in URLs."""
    toml = f'{GOOD}phrase = "pa55"\nurl = "redis://me:pa55@h:6379/0?x=1"\n'
    out = aiomilter("config", "show", "x.toml", toml=toml).out
    assert "pa55" not in out
    assert 'phrase = "***"' in out
    assert 'url = "redis://me:***@h:6379/0?x=1"' in out


def test_where_a_secret_is_is_shown(aiomilter: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "pa55")
    out = aiomilter("config", "show", "x.toml", toml=f'{GOOD}phrase = {{ env = "THE_SECRET" }}\n').out
    assert 'phrase = { env = "THE_SECRET" }' in out
    assert "pa55" not in out


# ------------------------------------------------------------------------------------------------------------------ init


def test_a_file_to_start_from_has_every_key_and_is_in_order(aiomilter: Command) -> None:
    found = aiomilter("config", "init", "new.toml")
    assert found == (
        0,
        "new.toml: written; name your filter there, then: aiomilter config check new.toml\n",
        "",
    )
    path = aiomilter.directory / "new.toml"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    assert aiomilter("config", "check", "--syntax", "new.toml").status == 0
    text = path.read_text()
    every = re.sub(r"(?m)^#(\[?\w+(?: = |\]))", r"\1", text)  # all comments that are keys
    for key in KEYS:
        place = tomllib.loads(every)
        for name in key.path:
            place = place[name]


def test_every_value_of_a_file_to_start_from_is_one(aiomilter: Command) -> None:
    """Some of them name users and files that are not here; and one needs the other."""
    text = begin(aiomilter.directory, RunOptions, Options, SiteOptions)
    every = re.sub(r"(?m)^#(\w+ = )", r"\1", text).replace('"postfix"', '"root"').replace('"filter.py"', '"tag.py"')
    assert aiomilter("config", "check", "--syntax", "x.toml", toml=every).err == ""


def test_an_existing_file_is_left_as_it_is(aiomilter: Command) -> None:
    found = aiomilter("config", "init", "x.toml")
    assert (found.status, found.err) == (1, "aiomilter: 'x.toml' exists, and is left as it is; name another file\n")
    assert (aiomilter.directory / "x.toml").read_text() == GOOD
    (aiomilter.directory / "link").symlink_to("nowhere")
    assert aiomilter("config", "init", "link").status == 1
    found = aiomilter("config", "init", "no/x.toml")
    assert found.err == "aiomilter: cannot write 'no/x.toml': No such file or directory\n"


def test_a_file_to_start_from_is_for_the_postfix_that_is_here(tmp_path: Path) -> None:
    assert 'listen = ["inet:8890@127.0.0.1"]' in begin(tmp_path, RunOptions, Options, SiteOptions)
    (tmp_path / "main.cf").write_text("# x\nqueue_directory = /srv/queue\n")
    text = begin(tmp_path, RunOptions, Options, SiteOptions)
    assert 'listen = ["unix:/srv/queue/aiomilter/filter.sock"]' in text
    assert "#     smtpd_milters = unix:aiomilter/filter.sock" in text
    assert tomllib.loads(text)["socket"] == {"mode": "0660", "group": "postfix"}
    (tmp_path / "main.cf").write_text("")
    assert 'listen = ["unix:/var/spool/postfix/aiomilter/filter.sock"]' in begin(
        tmp_path, RunOptions, Options, SiteOptions
    )


def test_an_action_is_needed(aiomilter: Command) -> None:
    found = aiomilter("config")
    assert (found.status, found.err) == (2, "aiomilter: expected an action: check, show, schema, init or import\n")


# ------------------------------------------------------------------------------------------------------------------- run


def test_a_flag_names_another_filter_than_the_file(aiomilter: Command) -> None:
    found = aiomilter("run", "other.py", "--config", "x.toml")
    assert found == (4, "", "aiomilter: there is no file 'other.py'; expected FILE.py, FILE.py:NAME or MODULE:NAME\n")


def test_without_a_filter_the_line_says_how_to_name_one(aiomilter: Command) -> None:
    found = aiomilter("run", "--listen", "inet:0@127.0.0.1")
    assert found == (2, "", "aiomilter: which filter? give TARGET, or --config FILE with a filter\n")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"workers": 1, "log_level": "info", "backlog": 1024}, None),
        ({"workers": 2, "log_level": "info"}, "workers: changed; that takes effect at a restart"),
    ],
)
def test_a_default_that_a_reload_finds_written_is_no_change(values: dict[str, Any], sentence: str | None) -> None:
    before: Any = SimpleNamespace(values={})
    after: Any = SimpleNamespace(values=values)
    assert _restart_needed(AT_START, before, after) == sentence


def test_settings_need_a_file(aiomilter: Command) -> None:
    found = aiomilter("run", "tag.py", "--listen", "inet:0@127.0.0.1")
    assert found.status == 1
    assert found.err.endswith("tag.py: Tag needs arguments; write a function milter() that makes one\n")
