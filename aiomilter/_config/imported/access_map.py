"""The access map of Sendmail, as bms and spfmilter read it: ``SPF-Fail:bad.example REJECT``."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from aiomilter._config.imported.gateway import Gateway, Given, Rule
from aiomilter._config.imported.reading import text_of

__all__ = ["finish", "known", "lines", "rule_of"]

_LINE: Final = re.compile(r"(\S+)\s+(\S.*)")
_RESULT: Final = re.compile(r"(SPF|HELO)-([a-z]+)(?::(.*))?", re.I)
_RESULTS: Final = ("pass", "fail", "softfail", "neutral", "none", "permerror", "temperror")
_ACTIONS: Final[Mapping[str, str]] = {"OK": "note", "REJECT": "reject", "BAN": "reject", "CBV": "note", "DSN": "note"}


def lines(path: str) -> Iterator[Given]:
    """Yield the lines of the map's source."""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if (found := _LINE.fullmatch(line.partition("#")[0].strip())) is not None:
            yield Given(path, number, *found.groups())


def known() -> Mapping[str, Rule]:
    """Return nothing: each name has a domain in it."""
    return {}


def rule_of(name: str) -> Rule | None:
    """Return the rule of a line, by its key."""
    if _RESULT.fullmatch(name):
        return _by_result
    return _login if name.lower().startswith("smtp-auth:") else _another


def finish(gateway: Gateway, given: Collection[str]) -> None:
    """Nothing holds without a line."""


def _by_result(gateway: Gateway, given: Given) -> str | None:
    found = _RESULT.fullmatch(given.name)
    assert found is not None, "its rule is this"
    kind, result, domain = found[1].lower(), found[2].lower(), found[3] or ""
    if result not in _RESULTS:
        return f"{result} is no result of SPF"
    value = given.value.split()[0].upper()
    action = _ACTIONS.get(value)
    if action is None:
        return "senders are let past other checks by rules of access, and only with an aligned pass"
    settings = gateway.filter("authenticate")
    if domain:
        settings = settings.setdefault("domains", {}).setdefault(domain, {})
    settings[f"helo_spf_{result}" if kind == "helo" else f"spf_{result}"] = action
    return "noted: strangers' servers are not asked, and no notices are sent" if value in ("CBV", "DSN") else None


def _login(gateway: Gateway, given: Given) -> str | None:
    login, _, domain = given.name.partition(":")[2].rpartition("@")
    if given.value.split()[0].upper() != "OK" or not login:
        return "login_sender of access names what a login may send as; all else is refused"
    gateway.filter("access").setdefault("login_sender", {}).setdefault(login, []).append(domain)
    return None


def _another(gateway: Gateway, given: Given) -> str:
    return "for the MTA itself; bms and spfmilter do not look at it"
