"""Read the configuration of a Postfix with ``postconf``, which only prints.

Source: postconf(1), options -n, -x, -M and -P; master(5).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["NotReadable", "Parameters", "Service", "read"]

_PATH: Final = "/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/bin"
_PATIENCE: Final = 60.0
"""Seconds for one run: postconf waits up to two for a file that was changed a moment ago."""
_MOST: Final = 16 << 20
"""Octets that are read of what one run prints."""
_COLUMNS: Final = 8


class NotReadable(Exception):
    """The configuration of the MTA cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A line of master.cf.

    Args:
        name: ``"smtp/inet"``: its first two columns.
        chroot: Whether it runs in a chroot; None for the default.
        unprivileged: Whether it runs as ``mail_owner``.
        program: Such as ``"smtpd"``.
        given: The parameters that ``-o`` sets, as written.
        values: The same, with the values of variables.
    """

    name: str
    chroot: bool | None
    unprivileged: bool
    program: str
    given: Mapping[str, str]
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What ``postconf`` prints.

    Args:
        directory: Of main.cf and master.cf.
        given: The parameters that main.cf sets, as written.
        values: Those and the defaults, with the values of variables.
        services: Of master.cf, in its order.
        unused: Names in main.cf that Postfix does not know, and what they are set to.
        unused_of_services: Those in master.cf.
        version: Of Postfix.
    """

    directory: str
    given: Mapping[str, str]
    values: Mapping[str, str]
    services: tuple[Service, ...]
    unused: Mapping[str, str] = field(default_factory=dict)
    version: tuple[int, ...] = ()
    unused_of_services: frozenset[str] = frozenset()

    @property
    def main_cf(self) -> str:
        """The path of main.cf."""
        return os.path.join(self.directory, "main.cf")

    @property
    def master_cf(self) -> str:
        """The path of master.cf."""
        return os.path.join(self.directory, "master.cf")

    def value(self, name: str, service: Service | None = None) -> str:
        """Return the value that a service sees, with the values of variables; "" for none."""
        if service is not None and name in service.values:
            return service.values[name]
        return self.values.get(name, "")


def read(directory: str) -> Parameters:
    """Return the configuration of a Postfix.

    Args:
        directory: Of main.cf and master.cf.

    Raises:
        NotReadable: There is none, or Postfix would not start with it.
    """
    given, unused = _printed(directory, "-n")
    values, _ = _printed(directory, "-x")
    given_by_service = _by_service(_printed(directory, "-P")[0])
    values_by_service = _by_service(_printed(directory, "-Px")[0])
    parameters = _pairs(values)
    services = []
    for line in _printed(directory, "-M")[0]:
        columns = line.split(None, _COLUMNS)
        if len(columns) >= _COLUMNS:
            name = f"{columns[0]}/{columns[1]}"
            services.append(
                Service(
                    name,
                    {"y": True, "n": False}.get(columns[4]),
                    columns[3] != "n",
                    columns[7].rpartition("/")[2],
                    given_by_service.get(name, {}),
                    values_by_service.get(name, {}),
                )
            )
    return Parameters(
        parameters.get("config_directory") or directory,
        _pairs(given),
        parameters,
        tuple(services),
        dict(_unused(unused, "main.cf")),
        _numbers(parameters.get("mail_version", "")),
        frozenset(name for name, _ in _unused(unused, "master.cf")),
    )


def _printed(directory: str, option: str) -> tuple[list[str], list[str]]:
    """Return the lines that postconf prints, and its warnings."""
    program = shutil.which("postconf") or shutil.which("postconf", path=_PATH)
    if program is None:
        raise NotReadable("there is no program postconf; is Postfix installed?")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            done = subprocess.run(
                [program, "-c", directory, option],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=_PATIENCE,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise NotReadable(f"postconf {option} did not end within {_PATIENCE:g} s") from None
        except OSError as error:
            raise NotReadable(f"postconf cannot be run: {error.strerror}") from None
        out.seek(0)
        err.seek(0)
        lines, said = (
            file.read(_MOST).decode("utf-8", "surrogateescape").replace("\0", "").split("\n") for file in (out, err)
        )
    if done.returncode != 0:
        fatal = [line for line in said if ": fatal: " in line or ": error: " in line] or [line for line in said if line]
        what = fatal[-1].partition(": fatal: ")[2] or fatal[-1] if fatal else f"exit status {done.returncode}"
        raise NotReadable(what)
    return lines, said


def _pairs(lines: Iterable[str]) -> dict[str, str]:
    found = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, _, value in found}


def _by_service(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return parameters by service; a line is ``SERVICE/TYPE/NAME = VALUE``."""
    found: dict[str, dict[str, str]] = {}
    for whole, value in _pairs(lines).items():
        service, _, name = whole.rpartition("/")
        found.setdefault(service, {})[name] = value
    return found


def _unused(said: Iterable[str], file: str) -> Iterable[tuple[str, str]]:
    for line in said:
        where, found, setting = line.partition(": unused parameter: ")
        if found and where.endswith(f"/{file}"):
            name, _, value = setting.partition("=")
            yield name, value


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit() and len(part) < 9)
