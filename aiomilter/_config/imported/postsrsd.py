"""/etc/default/postsrsd of PostSRSd 1.10: each of its variables, as Debian's file names them."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from aiomilter._config.imported.gateway import SERVICE, Gateway, Given, Rule, left_out
from aiomilter._config.imported.reading import words

__all__ = ["finish", "known"]

_TABLES: Final = left_out("there are no tables: take sender_canonical_maps and recipient_canonical_maps out of main.cf")


def _as_it_is(name: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> None:
        gateway.filter("srs")[name] = given.value

    return rule


def _local(gateway: Gateway, given: Given) -> str | None:
    # A name with a full stop in front means only what is below it.
    found = [each.lstrip(".") for each in words(given.value)]
    gateway.filter("srs")["local_domains"] = list(dict.fromkeys(found))
    below = [each for each in words(given.value) if each.startswith(".")]
    return f"counted with the domain itself: {', '.join(below)}" if below else None


def _secrets(gateway: Gateway, given: Given) -> None:
    gateway.filter("srs")["secrets"] = [{"file": given.value}]


def _length(gateway: Gateway, given: Given) -> str | None:
    if not given.value.isdecimal():
        return "no number"
    gateway.filter("srs")["hash_length"] = int(given.value)
    return None


def _least(gateway: Gateway, given: Given) -> str | None:
    length = gateway.filter("srs").get("hash_length", 4)
    if given.value.isdecimal() and int(given.value) < length:
        return f"hashes shorter than hash_length are refused; wait 21 days before hash_length becomes {length}"
    return None


def _separator(gateway: Gateway, given: Given) -> str | None:
    return None if given.value == "=" else "rewritten addresses have = after SRS0; all three separators are read"


def _extra(gateway: Gateway, given: Given) -> str | None:
    return "-A: own senders are never rewritten" if re.search(r"(^|\s)-A", given.value) else "there are no tables"


_SETTINGS: Final[Mapping[str, Rule]] = {
    "SRS_DOMAIN": _as_it_is("domain"),
    "SRS_EXCLUDE_DOMAINS": _local,
    "SRS_SEPARATOR": _separator,
    "SRS_SECRET": _secrets,
    "SRS_HASHLENGTH": _length,
    "SRS_HASHMIN": _least,
    "SRS_FORWARD_PORT": _TABLES,
    "SRS_REVERSE_PORT": _TABLES,
    "RUN_AS": SERVICE,
    "SRS_LISTEN_ADDR": _TABLES,
    "CHROOT": SERVICE,
    "SRS_EXTRA_OPTIONS": _extra,
}


def known() -> Mapping[str, Rule]:
    """Return the rule of each variable."""
    return _SETTINGS


def finish(gateway: Gateway, given: Collection[str]) -> None:
    """Say what a milter cannot see by itself."""
    gateway.filter("srs").setdefault("secrets", [{"file": "/etc/postsrsd.secret"}])
    gateway.do("List in 'forwards' of srs the addresses of ours that are sent on: a milter does not see aliases.")
