"""Other programs that are asked as filters: what each does to a message, by its name and its configuration file.

Source: opendkim(8), opendkim.conf(5); opendmarc(8), opendmarc.conf(5); openarc.conf(5).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiomilter._doctor.findings import Kind, Step, run
from aiomilter._doctor.processes import Process

__all__ = ["Does", "Program", "program_of"]

_MOST: Final = 1 << 20
"""Octets of a file that are read."""
_LINE: Final = re.compile(r"[ \t]*([A-Za-z]\w*)[ \t]+(.*)")
_HOSTNAME: Final = "HOSTNAME"


@dataclass(frozen=True, slots=True)
class Does:
    """What a filter does to messages.

    Args:
        verifies: It writes results of DKIM, SPF or ARC.
        evaluates: It judges by results that others have written.
        edits: It changes what signatures cover.
        signs: It signs by DKIM.
        seals: It seals by ARC.
    """

    verifies: bool = False
    evaluates: bool = False
    edits: bool = False
    signs: bool = False
    seals: bool = False


_DKIM: Final = Does(verifies=True, signs=True)
_SPF: Final = Does(verifies=True)
_EDITS: Final = Does(edits=True)
_KNOWN: Final[Mapping[str, Does]] = {
    "opendkim": _DKIM,
    "dkimpy-milter": _DKIM,
    "dkimpy_milter": _DKIM,
    "opendmarc": Does(evaluates=True),
    "openarc": Does(verifies=True, seals=True),
    **dict.fromkeys(("pyspf-milter", "spfmilter", "spf-milter", "smf-spf"), _SPF),
    **dict.fromkeys(
        ("spamass-milter", "amavisd-milter", "altermime-milter", "mimedefang", "j-chkmail", "milter-regex"), _EDITS
    ),
}
_FILES: Final[Mapping[str, tuple[str, str]]] = {
    "opendkim": ("-x", "/etc/opendkim.conf"),
    "opendmarc": ("-c", "/etc/opendmarc.conf"),
    "openarc": ("-c", "/etc/openarc.conf"),
}
"""The option that names the file of a program, and the file without it; all are written alike."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is known.

    Args:
        name: Of the program.
        pid: Of its process.
        does: What it does.
        file: Its configuration file; "" if there is none, or it cannot be read.
        settings: What that sets, by the keys in lower case: the number of the line, and the value.
        is_known: Whether its settings are known: its file, or that there is none.
    """

    name: str
    pid: int
    does: Does
    file: str = ""
    settings: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    is_known: bool = False

    def setting(self, key: str) -> str:
        """Return what a key is set to; "" for nothing."""
        return self.settings.get(key.lower(), (0, ""))[1]

    @property
    def has_keys(self) -> bool:
        """Whether it can sign; it may be in the mode for that without."""
        return bool(self.setting("KeyFile") or self.setting("KeyTable"))

    def authserv_id(self, mta_name: str) -> str | None:
        """Return the name that it writes in Authentication-Results; None if it writes none, or that is not known.

        Args:
            mta_name: The name of the MTA, as filters are told it.
        """
        if not self.is_known or not (self.does.verifies or self.does.evaluates) or self.name not in _FILES:
            return None
        given = self.setting("AuthservID") or mta_name
        return (os.uname().nodename if given == _HOSTNAME else given).lower()

    def set(self, key: str, value: str) -> tuple[Step, ...]:
        """Return the steps that set a key, and have the program read it; none if it has no file."""
        if not self.file:
            return ()
        line = self.settings.get(key.lower(), (0, ""))[0]
        return Step(Kind.WRITE, f"{key} {value}", self.file, line), run("kill", "-USR1", str(self.pid))


def program_of(process: Process | None) -> Program | None:
    """Return the program that a process runs; None if it is not among those above."""
    if process is None or process.name not in _KNOWN:
        return None
    name = process.name
    does = _KNOWN[name]
    if name not in _FILES:
        return Program(name, process.pid, does)
    option, default = _FILES[name]
    words = process.command
    path = [default, *(words[at + 1] for at, word in enumerate(words[:-1]) if word == option)][-1]
    try:
        if not os.path.isabs(path):
            return Program(name, process.pid, does)
        with open(path, "rb") as file:
            settings = _settings(file.read(_MOST).decode("utf-8", "replace"))
    except FileNotFoundError:
        return Program(name, process.pid, does, is_known=path == default)
    except (OSError, ValueError):
        return Program(name, process.pid, does)
    return Program(name, process.pid, _in_mode(does, settings), path, settings, is_known=True)


def _settings(text: str) -> dict[str, tuple[int, str]]:
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if setting := _LINE.fullmatch(line.partition("#")[0].rstrip()):
            found[setting[1].lower()] = number, setting[2].strip()
    return found


def _in_mode(does: Does, settings: Mapping[str, tuple[int, str]]) -> Does:
    mode = settings.get("mode", (0, "sv"))[1].lower()
    return Does(
        verifies=does.verifies and "v" in mode,
        evaluates=does.evaluates,
        signs=does.signs and "s" in mode,
        seals=does.seals and "s" in mode,
    )
