"""Options are checked once, when a server is made."""

from dataclasses import fields
from typing import Any

import pytest

from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Milter, Reply, Stage, serve
from aiomilter.options import Options

NUMBERS = [
    option.name
    for option in fields(Options)
    if not option.name.startswith(("on_", "observer", "name", "allowed_", "ssl"))
    and not option.name.endswith("_timeouts")
]


def test_every_option_is_one_of_serve() -> None:
    import inspect

    given = inspect.signature(serve).parameters
    for option in fields(Options):
        assert given[option.name].default == option.default, option.name


def test_the_default_idle_timeout_is_that_of_libmilter() -> None:
    """P-130."""
    assert Options().idle_timeout == 7210


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), "5", True, [1]], ids=repr)
@pytest.mark.parametrize("name", [*NUMBERS, "drain_timeout", "backlog"])
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


@pytest.mark.parametrize("answer", [SKIP, "tempfail", 451, True], ids=repr)
def test_on_timeout_is_an_answer_or_that_of_on_error(answer: Any) -> None:
    with pytest.raises(TypeError, match="on_timeout"):
        Options(on_timeout=answer)
    assert Options(on_timeout=ACCEPT).on_timeout is ACCEPT


def test_progress_may_be_off() -> None:
    assert Options(progress_interval=None).progress_interval is None
    assert Options(progress_interval=0.5).progress_interval == 0.5
