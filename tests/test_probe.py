"""``python -m benchmarks probe``: what is said of an interpreter, and that the prices are printed beside ratios."""

import json
from pathlib import Path

import pytest

from benchmarks import probe

PYENV = {"CONFIG_ARGS": "'--enable-shared'", "PY_CFLAGS": "-DNDEBUG -O3 -Wall", "PGO_PROF_USE_FLAG": "-fprofile-use"}
DEBIAN = {"CONFIG_ARGS": "'--prefix=/usr'", "PY_CFLAGS": "-DNDEBUG -O2 -Wall", "PGO_PROF_USE_FLAG": ""}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PYENV, "-O3, without profile-guided optimization"),
        (
            {**PYENV, "CONFIG_ARGS": "'--enable-optimizations' '--with-lto'"},
            "-O3, with profile-guided optimization, link-time optimization",
        ),
        (DEBIAN, "-O2, profile-guided optimization not recorded (Debian's packages have it)"),
        ({**PYENV, "PY_CFLAGS": "-O3 -Og", "Py_DEBUG": 1}, "-Og, without profile-guided optimization, debug build"),
        ({**PYENV, "Py_GIL_DISABLED": 1}, "-O3, without profile-guided optimization, free threads"),
        ({}, "no -O recorded, profile-guided optimization not recorded (Debian's packages have it)"),
    ],
)
def test_how_an_interpreter_was_built_is_said(config: dict[str, object], said: str) -> None:
    assert probe.build(config) == said


def test_the_probe_prints_each_price_and_the_interpreter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "probe.json"
    assert probe.main(["--quick", "--json", str(found)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{probe.interpreter()}; uvloop {probe.uvloop_version()}\n")
    assert [label for label in probe.LABELS.values() if f"\n{label} " not in printed] == []
    assert json.loads(found.read_text())["prices"].keys() == probe.LABELS.keys()
