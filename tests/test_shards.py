"""The parts of the suite, and what names its tests have."""

import re
import subprocess
import sys

import pytest

from tests.__main__ import parts
from tests.conftest import COLLECTED
from tests.shards import SAME_MODULES, SHARDS, has_module, may_need_programs, shard


def test_each_test_is_in_one_shard_and_the_one_asked_for_runs(request: pytest.FixtureRequest) -> None:
    """Of all tests, where all are collected."""
    every = request.config.stash[COLLECTED]
    parts = {name: shard(every, name) for name in SHARDS}

    assert sum(map(len, parts.values())) == len(every)
    assert set().union(*parts.values()) == set(every)
    names = request.config.option.shards
    assert set(request.session.items) <= set(every if names is None else shard(every, *names))


def test_of_two_parts_with_the_same_modules_each_test_is_in_one(request: pytest.FixtureRequest) -> None:
    every = request.config.stash[COLLECTED]
    both = [shard(every, *names) for names in SAME_MODULES]

    assert sorted(name for names in SAME_MODULES for name in names) == [*SHARDS]
    assert sorted(item.nodeid for part in both for item in part) == sorted(item.nodeid for item in every)
    for names in SAME_MODULES:
        assert (
            len(
                {
                    has_module(names[0], f"tests/test_{number}.py") == has_module(names[1], f"tests/test_{number}.py")
                    for number in range(9)
                }
            )
            == 1
        )


def test_a_test_that_needs_programs_is_in_a_module_that_says_so(request: pytest.FixtureRequest) -> None:
    """Else its module would not be collected where there are programs; the runs that collect all modules see that it is."""
    marked = {item.path for item in request.config.stash[COLLECTED] if item.get_closest_marker("interop")}

    assert [path for path in sorted(marked) if not may_need_programs(path)] == []


@pytest.mark.parametrize("value", ["", "1"])
def test_a_run_has_each_part_once(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are programs or not."""
    monkeypatch.setenv("AIOMILTER_TESTS_BARE", value)

    assert sorted(name for names in parts() for name in names) == [*SHARDS]


def test_no_test_has_another_name_in_the_next_run(request: pytest.FixtureRequest) -> None:
    """Else the same seed would not give the same order, nor a name the test that failed."""
    named = [item.nodeid for item in request.config.stash[COLLECTED]]

    assert [name for name in named if re.search(r" at 0x[0-9a-f]{6}", name)] == []
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/2", "x"])
def test_a_shard_that_does_not_exist_is_refused(text: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tests", "--shard", text], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--shard" in done.stderr
