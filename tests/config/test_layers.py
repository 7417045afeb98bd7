"""Flags, variables of the environment and a file set the same options: each alone, and one before the other."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiomilter import ACCEPT, REJECT, TEMPFAIL, FailurePolicy, Stage
from aiomilter._cli.configured import KEYS, Configuration, configured
from aiomilter._cli.options import RunOptions, add_options
from aiomilter._cli.site import SiteOptions
from aiomilter._cli.trouble import Trouble, Troubles
from aiomilter._config.environment import misspelt
from aiomilter._config.table import Key
from aiomilter._config.values import FORMS
from aiomilter._option import Kind
from aiomilter.options import Options
from tests.config.values import of


def amount(directory: Path, *flags: str, file: str | None = None, **environment: str) -> Configuration:
    """Return what these amount to."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Options, RunOptions, SiteOptions)
    arguments = parser.parse_args(flags, argparse.Namespace(target="f.py", config=None))
    if file is not None:
        (directory / "x.toml").write_text(file)
        arguments.config = "x.toml"
    return configured(arguments, str(directory), environment)


def toml(key: Key, value: Any) -> str:
    """Return a file that gives a value, which TOML has as JSON has it."""
    *tables, name = key.path
    head = f"[{tables[0]}]\n" if tables else ""
    return f"{head}{name} = {json.dumps(value)}\n"


TEXTS: dict[Kind, list[Any]] = {
    Kind.DURATION: ["30", "0.5", "2 min", "90s"],
    Kind.SIZE: ["4096", "1 MiB", "64KiB"],
    Kind.COUNT: [5, 1, 100],
    Kind.ANSWER: ["reject", "tempfail", "451 4.3.0 Later"],
    Kind.NETWORKS: [["10.0.0.0/8"], ["::1", "192.0.2.1"]],
    Kind.DOMAINS: [["corp.example"], ["a.example", "b.example"]],
    Kind.USERS: [["root"], ["0"]],
    Kind.GROUPS: [["root"]],
    Kind.USER: ["root", "0"],
    Kind.GROUP: ["root"],
    Kind.MODE: ["660", "0600"],
    Kind.PATH: ["/x/a.pem"],
    Kind.SOCKETS: [["unix:/run/x"], ["inet:1@h", "fd:3"]],
    Kind.HTTP: ["127.0.0.1:9464", "unix:/run/http"],
    Kind.IP: ["192.0.2.1"],
    Kind.LINE: ["2525"],
    Kind.CHOICES: ["failed", "refused,slow", "slow, failed"],
    Kind.SHARE: ["0.01", "5 %", "1"],
    Kind.SWITCH: [True, False],
}
"""Values that can be written in all three ways, as JSON has them."""


def written(key: Key, value: Any) -> tuple[list[str], str]:
    """Return a value as flags and as a variable."""
    if key.row.option.kind is Kind.SWITCH:
        return [key.flag if value else f"--no-{key.flag[2:]}"], "yes" if value else "no"
    if key.row.option.kind is Kind.DURATIONS:
        parts = [f"{stage}={seconds}" for stage, seconds in value.items()]
        return [word for part in parts for word in (key.flag, part)], ", ".join(parts)
    values = value if isinstance(value, list) else [value]
    return [word for one in values for word in (key.flag, str(one))], " ".join(map(str, values))


def values(key: Key) -> st.SearchStrategy[Any]:
    if key.row.option.kind is Kind.DURATIONS:
        return st.dictionaries(
            st.sampled_from(["mail", "eom", "envrcpt"]), st.sampled_from(["20", "2 min"]), min_size=1
        )
    if key.row.option.kind is Kind.CHOICE:
        return st.sampled_from(key.row.option.choices)
    return st.sampled_from(TEXTS[key.row.option.kind])


GIVEN = st.sampled_from(KEYS).flatmap(lambda key: st.tuples(st.just(key), values(key)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(GIVEN)
def test_a_flag_a_variable_and_a_key_give_the_same_option(tmp_path: Path, one: tuple[Key, Any]) -> None:
    key, value = one
    flags, variable = written(key, value)
    found = [
        amount(tmp_path, *flags),
        amount(tmp_path, **{key.variable: variable}),
        amount(tmp_path, file=toml_of(key, value)),
    ]
    assert found[0].values == found[1].values == found[2].values
    assert found[0].given == found[1].given == found[2].given
    assert found[0].options == found[1].options == found[2].options
    assert [each.origins[key.name] for each in found[:2]] == [key.flag, key.variable]
    assert found[2].origins[key.name].startswith("x.toml:")


def toml_of(key: Key, value: Any) -> str:
    if isinstance(value, dict):
        *_, name = key.path
        return f"[{key.path[0]}.{name}]\n" + "".join(f"{stage} = {json.dumps(one)}\n" for stage, one in value.items())
    return toml(key, value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.sampled_from([key for key in KEYS if key.row.option.kind is not Kind.DURATIONS]), st.data())
def test_a_flag_comes_before_a_variable_and_that_before_the_file(tmp_path: Path, key: Key, data: st.DataObject) -> None:
    of_flag, of_variable, of_file = (data.draw(values(key)) for _ in range(3))
    file = toml_of(key, of_file)
    flags, _ = written(key, of_flag)
    _, variable = written(key, of_variable)
    assert amount(tmp_path, *flags, file=file, **{key.variable: variable}).values == amount(tmp_path, *flags).values
    assert (
        amount(tmp_path, file=file, **{key.variable: variable}).values
        == amount(tmp_path, **{key.variable: variable}).values
    )


def test_answers_and_times_are_put_together_one_by_one(tmp_path: Path) -> None:
    file = """\
    [failure]
    on_error = "reject"
    on_error_authenticated = "accept"
    [deadlines]
    callback_timeout = 30
    callback_timeouts = { mail = 5, rcpt = 6 }
    """
    found = amount(tmp_path, "--on-error", "tempfail", file=file, AIOMILTER_CALLBACK_TIMEOUT="40, rcpt=7").given
    assert found == {
        "on_error": FailurePolicy(other=TEMPFAIL, local=TEMPFAIL, authenticated=ACCEPT),
        "callback_timeout": 40.0,
        "callback_timeouts": {Stage.MAIL: 5.0, Stage.RCPT: 7.0},
    }
    assert amount(tmp_path, AIOMILTER_ON_ERROR_LOCAL="reject").given == {"on_error": FailurePolicy(local=REJECT)}


def test_an_interval_may_be_off_everywhere(tmp_path: Path) -> None:
    for found in (
        amount(tmp_path, "--progress-interval", "off"),
        amount(tmp_path, AIOMILTER_PROGRESS_INTERVAL="off"),
        amount(tmp_path, file='[deadlines]\nprogress_interval = "off"'),
    ):
        assert found.given == {"progress_interval": None}


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert amount(tmp_path, AIOMILTER_LISTEN=" ", AIOMILTER_CONFIG="", AIOMILTER_FILTER="").values == {}


def test_paths_are_relative_to_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.toml").write_text('[tls]\nkey = "k.pem"\n')
    found = amount(tmp_path, AIOMILTER_CONFIG="sub/x.toml", AIOMILTER_TLS_CERTIFICATE="c.pem").options
    assert (found.tls_certificate, found.tls_key) == (str(tmp_path / "c.pem"), str(tmp_path / "sub" / "k.pem"))


def test_faults_of_variables_and_file_come_together(tmp_path: Path) -> None:
    with pytest.raises(Troubles) as caught:
        amount(
            tmp_path, file="[limits]\nmax_edits = 0\nmax_edit = 1", AIOMILTER_MAX_HEADERS="x", AIOMILTER_UVLOOP="maybe"
        )
    assert caught.value.status == 2
    assert list(caught.value.lines) == [
        "AIOMILTER_UVLOOP: expected yes or no, found 'maybe'",
        "AIOMILTER_MAX_HEADERS: expected a whole number above 0, found 'x'",
        "x.toml:2: [limits] max_edits: expected a whole number above 0, found 0",
        "x.toml:3: [limits] max_edit: unknown, did you mean max_edits?",
    ]


def test_values_that_do_not_go_together_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match=r"^--listen 'fd:3': expected each socket once$"):
        amount(tmp_path, "--listen", "fd:3", "--listen", "fd:3")


def test_a_variable_that_looks_misspelt_is_warned_of(tmp_path: Path) -> None:
    """Kubernetes sets the others for a service of our name."""
    others = {
        "AIOMILTER_PORT": "tcp://10.0.0.1:1",
        "AIOMILTER_SERVICE_HOST": "10.0.0.1",
        "AIOMILTER_PORT_25_TCP_PROTO": "tcp",
    }
    assert list(misspelt({"AIOMILTER_MAX_HEADRS": "5", "AIOMILTER_CONFIG": "x", **others}, KEYS)) == [
        "AIOMILTER_MAX_HEADRS is not an option; did you mean AIOMILTER_MAX_HEADERS?"
    ]
    assert amount(tmp_path, AIOMILTER_LISTN="fd:3").warnings == [
        "AIOMILTER_LISTN is not an option; did you mean AIOMILTER_LISTEN?"
    ]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_each_key_has_one_name_of_each_sort(key: Key) -> None:
    assert sum(each.path == key.path for each in KEYS) == sum(each.name == key.name for each in KEYS) == 1
    assert len(key.path) <= 2
    assert key.variable == f"AIOMILTER_{key.flag[2:].replace('-', '_').upper()}"
    assert key.row.option.kind in FORMS
    assert of(key).good
