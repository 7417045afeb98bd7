"""Other programs' configuration files, setting by setting; and the kinds of values that they have in common."""

import configparser
import ipaddress
import re
import shlex
from collections.abc import Iterator
from typing import Final

from aiomilter._config.imported.gateway import Gateway, Given

__all__ = ["MAX_SIZE", "assignments", "hosts", "ini", "is_yes", "listed", "names_and_values", "socket", "words"]

MAX_SIZE: Final = 1 << 20
"""Octets of a file, and of a list that it names."""
_INCLUDED: Final = 5
"""Files within files, as opendkim.conf(5) has it."""


def text_of(path: str) -> str:
    """Return what a file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large.
    """
    with open(path, encoding="utf-8", errors="backslashreplace") as file:
        text = file.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise ValueError(f"{path}: larger than {MAX_SIZE:,} characters")
    return text


def names_and_values(path: str, depth: int = 0) -> Iterator[Given]:
    """Yield the settings of a file as OpenDKIM and OpenDMARC write them: a name, space, a value; ``#`` begins a comment."""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        found = re.match(r"(\S+)\s*(.*)", line.partition("#")[0].strip())
        if found is None:
            continue
        name, value = found.groups()
        if name.lower() == "include" and depth < _INCLUDED:
            yield from names_and_values(value.strip(), depth + 1)
        else:
            yield Given(path, number, name, value.strip())


def assignments(path: str) -> Iterator[Given]:
    """Yield the settings of a file of ``NAME = value`` lines, of the shell's kind or not."""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        name, equals, value = line.partition("=")
        if equals and re.fullmatch(r"\s*\w+\s*", name):
            yield Given(path, number, name.strip(), _unquoted(value))


def _unquoted(value: str) -> str:
    try:
        parts = shlex.split(value, comments=True)
    except ValueError:  # a quote that is not closed
        return value.strip()
    return " ".join(parts)


def ini(path: str) -> Iterator[Given]:
    """Yield the settings of a file in sections; the name is ``section.key``.

    Raises:
        ValueError: The file has no sections, or a line that is neither a setting nor a comment.
    """
    text, parser = text_of(path), configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise ValueError(str(error).replace("\n", " ")) from None
    lines = _lines_of(text)
    for section in parser.sections():
        for key, value in parser.items(section):
            number = lines.get((section, key)) or lines.get((parser.default_section, key), 1)
            yield Given(path, number, f"{section}.{key}", " ".join(value.split()))


def _lines_of(text: str) -> dict[tuple[str, str], int]:
    """Return the line of each setting, by its section and its key; of one that is there again the last counts."""
    found, section = {}, ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := configparser.ConfigParser.SECTCRE.match(line.strip()):
            section = header["header"]
        else:
            found[section, re.split("[=:]", line, maxsplit=1)[0].strip().lower()] = number
    return found


def is_yes(value: str) -> bool:
    """Return whether a switch is on: the first character decides, as these programs have it."""
    return value[:1] in tuple("TtYy1")


def words(value: str) -> list[str]:
    """Return the items of a list that commas or space divide."""
    return [each for each in re.split(r"[,\s]+", value) if each]


def listed(value: str) -> tuple[list[str], str]:
    """Return the items of a data set, and what is wrong with it: ``""``, or why it cannot be read."""
    kind, _, rest = value.partition(":")
    if kind in ("file", "refile") or value.startswith("/"):
        path = value if value.startswith("/") else rest
        try:
            lines = [line.partition("#")[0].strip() for line in text_of(path).split("\n")]
        except (OSError, ValueError):
            return [], f"its list is in {path}, which cannot be read here"
        return [line.split()[0] for line in lines if line], ""
    if kind == "csl":
        return words(rest), ""
    if re.match(r"[a-z]+:", value) and not _is_network(words(value)[0]):
        return [], f"data sets of the kind {kind}: are not read"
    return words(value), ""


def hosts(gateway: Gateway, network: str, given: Given) -> str | None:
    """Add the networks of a list of hosts to one of ``[networks]``."""
    found, problem = listed(given.value)
    if problem:
        return problem
    # An entry may have brackets, and a mark for those that are not meant.
    plain = [each.strip("[]") for each in found]
    networks = [each for each in plain if _is_network(each)]
    gateway.add_networks(
        network, [str(ipaddress.ip_network(each, strict=False)) if "/" in each else each for each in networks]
    )
    others = [each for each in plain if each not in networks and each != "localhost"]
    return f"[networks] takes no names and no exceptions: {', '.join(others)}" if others else None


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def socket(gateway: Gateway, given: Given) -> str | None:
    """Say that the MTA is to ask one socket instead."""
    gateway.top.setdefault("listen", ["unix:/run/aiomilter/gateway.sock"])
    address = re.sub("^local:", "unix:", given.value)
    gateway.do(f"In smtpd_milters put unix:/run/aiomilter/gateway.sock in place of {address}.")
    return None
