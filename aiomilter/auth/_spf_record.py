"""The syntax of SPF records and macros: text in, values out, no DNS."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias
from urllib.parse import quote

from aiomilter.mail.display import visible

__all__ = ["MAX_TERMS", "Directive", "MacroString", "Mechanism", "Record", "parse_explanation", "parse_record"]

Mechanism: TypeAlias = Literal["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"]
_Qualified: TypeAlias = Literal["pass", "fail", "softfail", "neutral"]

# A record is to fit 512 octets (RFC 7208 section 3.4); what is longer than this is meant to keep us busy.
_MAX_RECORD = 16_384
MAX_TERMS = 10
"""Terms of one check that may ask DNS; the next one ends it (RFC 7208 section 4.6.4)."""
# Parsed records that are kept for the next session, by the octets of their text.  A stranger chooses what is in them:
# parsed, the first kind takes 21 KiB at most and the second 87 KiB, so that all of them take 22 MiB at most.
_SHORT, _SHORT_KEPT = 512, 512
_LONG, _LONG_KEPT = 2048, 128
_MAX_MACROS = 64
_MAX_NAME = 253
_MAX_TEXT = 512

_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9]*)((?:[:/].*)?)", re.DOTALL)
_DUAL_CIDR = re.compile(
    r"(?::(?P<domain>.*?))?(?:/(?P<four>0|[1-9][0-9]?))?(?://(?P<six>0|[1-9][0-9]{0,2}))?", re.DOTALL
)
_NETWORK = re.compile(r":([0-9A-Fa-f:.]+)(?:/(0|[1-9][0-9]{0,2}))?")
_MACRO = re.compile(r"%(?:([%_-])|\{([A-Za-z])([0-9]*)([rR]?)([.+,/_=-]*)\})")
_LITERAL = re.compile(r"[!-$&-~]*")
_TOPLABEL = re.compile(r"(?=.*[A-Za-z-])[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_PLAIN = {"%": "%", "_": " ", "-": "%20"}
_QUALIFIERS: Mapping[str, _Qualified] = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_ASK_NOTHING = frozenset({"all", "ip4", "ip6"})
_DOMAIN_LETTERS = "slodiphv"
_TEXT_LETTERS = "slodiphvcrt"


@dataclass(frozen=True, slots=True)
class _Macro:
    """One ``%{...}``: the letter, how many parts of its value from the right, reversed or not, cut where."""

    letter: str
    parts: int
    reverse: bool
    delimiters: str
    escape: bool

    def expand(self, value: str) -> str:
        if self.parts or self.reverse or self.delimiters:
            pieces = re.split(f"[{re.escape(self.delimiters or '.')}]", value)
            if self.reverse:
                pieces.reverse()
            value = ".".join(pieces[-self.parts :] if self.parts else pieces)
        return quote(value, safe="-._~", errors="replace") if self.escape else value


@dataclass(frozen=True, slots=True)
class MacroString:
    """A text with macros in it.

    Args:
        parts: Literal text and macros in turn.
        letters: The macro letters in use, lower case.
        name: The domain name that it is when it has no letters.
    """

    parts: tuple[str | _Macro, ...]
    letters: frozenset[str] = frozenset()
    name: str = ""

    def domain(self, value: Callable[[str], str]) -> str:
        """Expand to a domain name: no trailing dot, labels dropped from the left until it fits.

        Source: RFC 7208 section 7.3.
        """
        # From the right, and no further than can be of use: what a sender writes may be long.
        pieces: list[str] = []
        size = 0
        for part in reversed(self.parts):
            pieces.append(part if isinstance(part, str) else part.expand(value(part.letter)))
            size += len(pieces[-1])
            if size > 2 * _MAX_NAME:
                break
        name = "".join(reversed(pieces)).removesuffix(".")
        if len(name) > _MAX_NAME:
            name = name[-_MAX_NAME - 1 :].partition(".")[2]
        return name

    def text(self, value: Callable[[str], str]) -> str:
        """Expand to text for people, cut to what fits an SMTP reply."""
        pieces: list[str] = []
        size = 0
        for part in self.parts:
            pieces.append(part if isinstance(part, str) else part.expand(value(part.letter)))
            size += len(pieces[-1])
            if size > _MAX_TEXT:
                break
        return "".join(pieces)[:_MAX_TEXT]


@dataclass(frozen=True, slots=True)
class Directive:
    """One mechanism of a record and the result it stands for.

    Args:
        mechanism: Its name, lower case.
        result: What a match means.
        text: The term as published.
        domain: The name to look at; None for the domain of the record.
        network: ip4 and ip6: the address, shifted right until only the network is left.
        prefix4: Bits of an IPv4 address that count, 0..32.
        prefix6: Bits of an IPv6 address that count, 0..128.
    """

    mechanism: Mechanism
    result: _Qualified
    text: str
    domain: MacroString | None = None
    network: int = 0
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    """A record without syntax errors.

    Args:
        directives: Those that an evaluation can reach, in order: none after ``all``, nor after the term that is one too many.
        redirect: Where to go on when no directive matches; None where ``all`` always does.
        explanation: Where the explanation of a fail is.

    Source: RFC 7208 sections 4.6.4, 5.1 and 6.1.
    """

    directives: tuple[Directive, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None


def parse_record(text: bytes) -> Record | str:
    """Read the text of an SPF record, version included.

    Returns:
        The record, or what is wrong with it.

    Source: RFC 7208 section 12.
    """
    if len(text) <= _SHORT:
        return _parse_short(text)
    return _parse_long(text) if len(text) <= _LONG else _parse(text)


def parse_explanation(text: bytes) -> MacroString | None:
    """Read an explanation as it is published; None when it has a syntax error.

    Source: RFC 7208 section 6.2.
    """
    try:
        return _macro_string(text.decode("ascii"), _TEXT_LETTERS, spaces=True)
    except ValueError:
        return None


def _parse(text: bytes) -> Record | str:
    if len(text) > _MAX_RECORD:
        return f"the record is longer than {_MAX_RECORD} octets"
    try:
        terms = text.decode("ascii").split(" ")
    except UnicodeDecodeError:
        return "the record is not ASCII"
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    asking, reachable = 0, True
    for term in filter(None, terms[1:]):
        try:
            modifier = _MODIFIER.fullmatch(term)
            if modifier is None:
                # Its syntax counts wherever it stands: RFC 7208 section 4.6.
                directive = _directive(term)
                if reachable:
                    directives.append(directive)
                    asking += directive.mechanism not in _ASK_NOTHING
                    reachable = directive.mechanism != "all" and asking <= MAX_TERMS
                continue
            name, value = modifier[1].lower(), modifier[2]
            if name not in ("redirect", "exp"):
                _macro_string(value, _DOMAIN_LETTERS)
            elif name in modifiers:
                raise ValueError("appears twice")
            else:
                modifiers[name] = _domain_spec(value)
        except ValueError as error:
            return f"{visible(term, 60)!r}: {error}"
    matches_always = bool(directives) and directives[-1].mechanism == "all"
    return Record(tuple(directives), None if matches_always else modifiers.get("redirect"), modifiers.get("exp"))


_parse_short = lru_cache(maxsize=_SHORT_KEPT)(_parse)
_parse_long = lru_cache(maxsize=_LONG_KEPT)(_parse)


def _directive(term: str) -> Directive:
    found = _DIRECTIVE.fullmatch(term)
    if found is None:
        raise ValueError("neither a mechanism nor a modifier")
    result = _QUALIFIERS[found[1]]
    name, rest = found[2].lower(), found[3]
    match name:
        case "all":
            if rest:
                raise ValueError("'all' takes nothing")
            return Directive("all", result, term)
        case "include" | "exists" | "ptr":
            if not rest and name == "ptr":
                return Directive("ptr", result, term)
            if not rest.startswith(":"):
                raise ValueError("expected ':' and a domain")
            return Directive(name, result, term, _domain_spec(rest[1:]))
        case "a" | "mx":
            four, six, domain = _dual_cidr(rest)
            return Directive(name, result, term, domain, prefix4=four, prefix6=six)
        case "ip4" | "ip6":
            return _network(name, result, term, rest)
        case _:
            raise ValueError("no such mechanism")


def _dual_cidr(rest: str) -> tuple[int, int, MacroString | None]:
    found = _DUAL_CIDR.fullmatch(rest)
    if found is None:
        raise ValueError("expected a domain, a prefix length, or both")
    four, six = int(found["four"] or 32), int(found["six"] or 128)
    if four > 32 or six > 128:
        raise ValueError("the prefix length is too large")
    return four, six, None if found["domain"] is None else _domain_spec(found["domain"])


def _network(name: Literal["ip4", "ip6"], result: _Qualified, term: str, rest: str) -> Directive:
    found = _NETWORK.fullmatch(rest)
    if found is None:
        raise ValueError("expected an address or a network")
    try:
        address = IPv4Address(found[1]) if name == "ip4" else IPv6Address(found[1])
    except ValueError:
        raise ValueError("expected an address or a network") from None
    bits = address.max_prefixlen
    prefix = bits if found[2] is None else int(found[2])
    if prefix > bits:
        raise ValueError("the prefix length is too large")
    network = int(address) >> (bits - prefix)
    if name == "ip4":
        return Directive(name, result, term, network=network, prefix4=prefix)
    return Directive(name, result, term, network=network, prefix6=prefix)


def _domain_spec(text: str) -> MacroString:
    spec = _macro_string(text, _DOMAIN_LETTERS)
    last = spec.parts[-1] if spec.parts else ""
    if isinstance(last, str) and not text.endswith(("%%", "%_", "%-")):
        _, dot, label = last.removesuffix(".").rpartition(".")
        if not dot or not _TOPLABEL.fullmatch(label):
            raise ValueError("the domain does not end in a top-level domain or a macro")
    # Expanded once, not once a check: most names have no macro.
    return spec if spec.letters else replace(spec, name=spec.domain(str))


def _macro_string(text: str, letters: str, *, spaces: bool = False) -> MacroString:
    parts: list[list[str] | _Macro] = []
    used = set()
    macros = 0
    at = 0

    def literal(piece: str) -> None:
        if parts and isinstance(parts[-1], list):
            parts[-1].append(piece)
        else:
            parts.append([piece])

    while at < len(text):
        if text[at] != "%":
            end = text.find("%", at)
            piece = text[at : end if end >= 0 else len(text)]
            if not _LITERAL.fullmatch(piece.replace(" ", "") if spaces else piece):
                raise ValueError("a character that may not stand there")
            literal(piece)
            at += len(piece)
            continue
        found = _MACRO.match(text, at)
        if found is None:
            raise ValueError("'%' begins no macro")
        at = found.end()
        if found[1]:
            literal(_PLAIN[found[1]])
            continue
        macros += 1
        if macros > _MAX_MACROS:
            raise ValueError(f"more than {_MAX_MACROS} macros")
        letter = found[2].lower()
        digits = found[3].lstrip("0")
        if letter not in letters:
            raise ValueError(f"no macro '%{{{found[2]}}}' here")
        if found[3] and not digits:
            raise ValueError("a macro takes no zero parts")
        used.add(letter)
        # More digits than this are more parts than a name can have.
        parts.append(_Macro(letter, int(digits[:9] or 0), bool(found[4]), found[5], found[2].isupper()))
    together = ("".join(part) if isinstance(part, list) else part for part in parts)
    return MacroString(tuple(together), frozenset(used))
