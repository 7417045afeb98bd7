"""The gateway in containers: its file is in order, its commands are ones that aiomilter takes, its parts fit together."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aiomilter._cli import main

FOLDER: Final = Path(__file__).parents[2] / "examples" / "gateway"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a container file, with their arguments."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", path.read_text()))
    return [(name, rest) for line in text.splitlines() if line for name, _, rest in [line.partition(" ")]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with what its first comment says to make."""
    pytest.importorskip("cryptography")
    text = (FOLDER / "gateway.toml").read_text()
    (tmp_path / "state.key").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "state.key").chmod(0o600)
    (tmp_path / "gateway.toml").write_text(text.replace("/run/secrets/state_key", "state.key"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_configuration_is_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "keys").mkdir(0o700)
    assert main(["dkim", "keygen", "example.com", "--selector", "2026q4", "--dir", "keys"]) == 0
    capsys.readouterr()
    assert main(["config", "check", "gateway.toml"]) == 0, capsys.readouterr().err
    assert capsys.readouterr() == ("gateway.toml: in order\n", "")


def test_the_commands_of_the_container_are_ones_that_aiomilter_takes(capsys: pytest.CaptureFixture[str]) -> None:
    found = instructions(FOLDER / "Containerfile")
    entry = json.loads(next(rest for name, rest in found if name == "ENTRYPOINT"))
    program = entry[0]
    assert [shlex.split(rest)[1:] for name, rest in found if name == "RUN" and rest.startswith(program)] == [
        ["--version"]
    ]
    command = json.loads(next(rest for name, rest in found if name == "CMD"))
    assert main(command) == 4  # the file is not here
    health = json.loads(next(rest for name, rest in found if name == "HEALTHCHECK").partition("CMD ")[2])
    assert health[0] == program
    assert main(health[1:]) == 1  # nothing listens here
    assert capsys.readouterr().out == ""
    last = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    assert ("USER", "65534:65534") in found[last:]


def test_the_parts_of_the_compose_file_fit_together() -> None:
    compose: Any = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services = compose["services"]
    volumes = {each.partition(":")[0] for one in services.values() for each in one.get("volumes", ())}
    assert {each for each in volumes if not each.startswith(".")} == set(compose["volumes"])
    assert {name for one in services.values() for name in one.get("secrets", ())} == set(compose["secrets"])
    assert {name for one in services.values() for name in one.get("depends_on", ())} <= set(services)
    text = (FOLDER / "gateway.toml").read_text()
    assert {"redis://valkey:6379", "inet:3310@clamd"} <= {
        each.rstrip("/0") for each in re.findall(r'"(\S+:\S+)"', text)
    }
    (milters,) = re.findall(r"smtpd_milters = inet:(\w+):(\d+)", (FOLDER / "postfix" / "Containerfile").read_text())
    assert milters[0] in services
    assert f'listen = ["inet:{milters[1]}@0.0.0.0"]' in text
