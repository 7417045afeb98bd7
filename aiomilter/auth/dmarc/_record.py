"""DMARC policy records: read as leniently as RFC 9989 section 4.8 wants it.

Source: RFC 9989 sections 4.7, 4.8 and 4.10.1.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast, get_args

from aiomilter.mail.display import visible

__all__ = ["Alignment", "Disposition", "Psd", "Record", "is_record", "parse", "read"]

Disposition: TypeAlias = Literal["none", "quarantine", "reject"]
"""What a domain asks for if its mail fails, weakest first."""

Alignment: TypeAlias = Literal["r", "s"]
"""Relaxed: the same Organizational Domain; strict: the same domain."""

Psd: TypeAlias = Literal["y", "n", "u"]
"""``"y"``: a public suffix domain; ``"n"``: an Organizational Domain; ``"u"``: the record does not say."""

# Each costs a DNS question and a report.
_MAX_URIS: Final = 10
_SHORT: Final = 512
"""Octets of a record that is kept once it is read."""

_VERSION: Final = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_SIZE: Final = re.compile(r"![0-9]+[kmgt]?\Z", re.IGNORECASE)
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@$&'()*+;=-]|%[0-9A-Fa-f]{2})+")
_MAILTO: Final = re.compile(r"mailto:(?:[^@?]|%40)+@[^@?]+(?:\?.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """What one DMARC policy record says, with the defaults in place of what is missing or cannot be read.

    Args:
        p: What the domain asks for if its mail fails.
        sp: The same for subdomains; None if it is missing.
        np: The same for subdomains that do not exist; None if it is missing.
        adkim: How closely a signature's domain has to match: ``"r"`` or ``"s"``.
        aspf: The same for SPF.
        psd: ``"y"``: a public suffix domain; ``"n"``: an Organizational Domain; ``"u"``: it does not say.
        testing: Test mode (``t=y``): apply one level less.
        fo: When failure reports are wanted, a list of ``0 1 d s``.
        rua: Where aggregate reports are to go: URIs without sizes, those that are URIs, the first ten.
        ruf: The same for failure reports.
        problem: What is wrong with the record; "" if nothing is.

    Source: RFC 9989 section 4.7.
    """

    p: Disposition
    sp: Disposition | None = None
    np: Disposition | None = None
    adkim: Alignment = "r"
    aspf: Alignment = "r"
    psd: Psd = "u"
    testing: bool = False
    fo: str = "0"
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    problem: str = ""


def parse(text: bytes) -> Record | str:
    """Read a DMARC policy record, its character-strings joined.

    Args:
        text: The octets of one TXT record.
    Returns:
        The record; or the reason why it cannot be applied, as visible text.

    Source: RFC 9989 sections 4.7, 4.8 and 4.10.1.
    """
    if not is_record(text):
        return "expected a record that begins with 'v=DMARC1'"
    record, applies = read(text)
    return record if applies else record.problem


def is_record(text: bytes) -> bool:
    """Whether a TXT record is a DMARC record, good or bad."""
    return _VERSION.match(text) is not None


def read(text: bytes) -> tuple[Record, bool]:
    """Read a DMARC record; also return whether it can be applied: one that cannot still has its place in a tree walk."""
    return _read_short(text) if len(text) <= _SHORT else _read(text)


def _read(text: bytes) -> tuple[Record, bool]:
    tags = _tags(text)
    rua = _uris(tags.get("rua", ""))
    problem = _policy_problem(tags)
    record = Record(
        cast(Disposition, _one_of(tags, "p", Disposition, "none")),
        cast(Disposition | None, _one_of(tags, "sp", Disposition, None)),
        cast(Disposition | None, _one_of(tags, "np", Disposition, None)),
        cast(Alignment, _one_of(tags, "adkim", Alignment, "r")),
        cast(Alignment, _one_of(tags, "aspf", Alignment, "r")),
        cast(Psd, _one_of(tags, "psd", Psd, "u")),
        tags.get("t", "").lower() == "y",
        _options(tags.get("fo", "")),
        rua,
        _uris(tags.get("ruf", "")),
    )
    if not problem:
        return record, True
    # The domain's owner learns of it from the reports.
    problem += "; taken as p=none" if rua else ", and no address for reports"
    return replace(record, p="none", sp=None, np=None, problem=problem), bool(rua)


# Most mail comes from few domains; read, a record of this length takes some 2 KiB with its text.
_read_short = lru_cache(maxsize=2_000)(_read)


def _tags(text: bytes) -> dict[str, str]:
    """Return the tags by name in lower case, those that can be read; the first of equals counts."""
    found: dict[str, str] = {}
    for part in text.decode("utf-8", "replace").split(";"):
        name, equals, value = part.partition("=")
        name = name.strip(" \t").lower()
        if equals and _NAME.fullmatch(name):
            found.setdefault(name, value.strip(" \t"))
    return found


def _one_of(tags: dict[str, str], name: str, values: object, default: str | None) -> str | None:
    value = tags.get(name, "").lower()
    return value if value in get_args(values) else default


def _policy_problem(tags: dict[str, str]) -> str:
    if "p" not in tags:
        return "no p= in the record"
    for name in ("p", "sp", "np"):
        if name in tags and tags[name].lower() not in get_args(Disposition):
            return f"expected none, quarantine or reject in {name}=, found {visible(tags[name], 40)!r}"
    return ""


def _options(text: str) -> str:
    """Return the failure reporting options that are known, as published; the default where there are none."""
    known = (word.strip(" \t").lower() for word in text.split(":"))
    return ":".join(dict.fromkeys(word for word in known if word in ("0", "1", "d", "s"))) or "0"


def _uris(text: str) -> tuple[str, ...]:
    """Return the URIs of a list without the sizes that RFC 7489 had behind them."""
    found: dict[str, None] = {}
    for part in text.split(","):
        uri = _SIZE.sub("", part.strip(" \t"))
        if _URI.fullmatch(uri) and (uri[:7].lower() != "mailto:" or _MAILTO.fullmatch(uri)):
            found[uri] = None
            if len(found) == _MAX_URIS:
                break
    return tuple(found)
