"""Three other programs that sign and verify, each in a process of its own and without a network."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from aiomilter.auth.dkim import Key
from tests.programs import needed

Records = dict[str, str]

_PERL: Final = Path(__file__).parent / "mail_dkim.pl"
_DKIMPY: Final = Path(__file__).parent / "dkimpy_process.py"
_SHOWN: Final = re.compile(r"^opendkim: message(\d+):[ ]?\n", re.MULTILINE)
_FIELD: Final = re.compile(r"^([A-Z][A-Za-z-]+): (.*\n(?:[ \t].*\n)*)", re.MULTILINE)
_INSERTED: Final = re.compile(r"### INSHEADER: idx=\d+ hname='Authentication-Results' hvalue='(.*?)'\n", re.DOTALL)
_RESULT: Final = re.compile(r"dkim=(\w+)")


@dataclass(frozen=True)
class Verified:
    """A message and the keys of its signatures."""

    message: bytes
    records: Records


def mail_dkim(questions: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Ask Mail::DKIM, one process for all questions."""
    perl = needed("perl")
    needed("dkimproxy-verify", "libmail-dkim-perl")
    return asked([perl, str(_PERL)], questions)


def dkimpy(questions: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Ask dkimpy, one process for all questions."""
    return asked([sys.executable, "-W", "ignore", str(_DKIMPY)], questions)


def asked(command: Sequence[str], questions: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    run = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(questions)
    return answers


def to_verify(verified: Verified) -> dict[str, Any]:
    return {"message": b64encode(verified.message).decode(), "records": verified.records}


def to_sign(message: bytes, key: Key, canonicalization: str) -> dict[str, Any]:
    private = key.private._key
    encoding, encryption = serialization.Encoding.PEM, serialization.NoEncryption()
    rsa = key.algorithm.startswith("rsa")
    # Both know the older form alone.
    form = serialization.PrivateFormat.TraditionalOpenSSL if rsa else serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(encoding, form, encryption).decode()
    return {
        "message": b64encode(message).decode(),
        "key": pem,
        "type": key.algorithm.partition("-")[0],
        "domain": key.domain,
        "selector": key.selector,
        "canonicalization": canonicalization,
    }


def opendkim(folder: Path, messages: Sequence[bytes], *settings: str, verbose: str = "-v", check: bool = True) -> str:
    """Return what OpenDKIM prints of messages; one process, no network.

    Args:
        folder: An empty directory.
        messages: What it is shown.
        settings: Lines of its configuration.
        verbose: How much it prints.
        check: Whether it has to go through all of them.
    """
    program = needed("opendkim")
    (folder / "opendkim.conf").write_text("\n".join(["Syslog false", "RequireSafeKeys false", *settings, ""]))
    for number, message in enumerate(messages):
        (folder / f"message{number}").write_bytes(message)
    names = ",".join(f"message{number}" for number in range(len(messages)))
    command = [program, "-x", "opendkim.conf", verbose, "-t", names]
    run = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    said = run.stdout.decode("utf-8", "surrogateescape")
    assert run.returncode == 0 or not check, (said + run.stderr.decode("utf-8", "replace"))[-2000:]
    return said


def opendkim_signs(folder: Path, messages: Sequence[bytes], *settings: str) -> list[list[str]]:
    """Return the fields that OpenDKIM puts on top of each message; it stops behind the first that it does not sign."""
    said = opendkim(folder, messages, "Mode s", "InternalHosts 0.0.0.0/0", *settings, check=False)
    _, *shown = _SHOWN.split(said)
    found: list[list[str]] = [[] for _ in messages]
    for number, text in zip(shown[::2], shown[1::2], strict=True):
        found[int(number)] += [match[0] for match in _FIELD.finditer(text)]
    return found


def opendkim_verifies(folder: Path, verified: Sequence[Verified]) -> list[list[str]]:
    """Return what OpenDKIM says of the signatures of each message."""
    records = {name: text for each in verified for name, text in each.records.items()}
    (folder / "zone").write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    settings = ("Mode v", "TestDNSData file:zone", "AlwaysAddARHeader yes")
    said = opendkim(folder, [each.message for each in verified], *settings, verbose="-vv")
    # In the order of the messages, one field each.
    fields = _INSERTED.findall(said)
    assert len(fields) == len(verified), said[-2000:]
    return [_RESULT.findall(field) for field in fields]
