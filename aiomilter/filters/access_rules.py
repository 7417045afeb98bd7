"""Rules of ``access``: what they look at, and whether it is there."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, TypeAlias

from aiomilter.filters.domains import covering, covers, domain_name, key
from aiomilter.filters.site import is_in, networks_of

__all__ = ["AccessRule", "Seen", "compiled", "names_of", "rules_of"]

_LOOKED_AT: Final = 1_000
"""Characters that a pattern is looked for in: Python's ``re`` has no time limit."""
_REPEATED_REPEAT: Final = re.compile(r"[*+}]\??\)[*+{]")
_LONGEST: Final = 1_000


RuleAction: TypeAlias = Literal["accept", "note", "header", "quarantine", "tempfail", "reject", "discard"]
"""The actions of all filters, and accept: other checks are not asked."""


@dataclass(slots=True)
class Seen:
    """What is known of a message so far; None where that is not known yet, and "" where there is none."""

    client: IPv4Address | IPv6Address | Literal[""] | None = None
    hostname: str | None = None
    helo: str | None = None
    login: str | None = None
    sender: str | None = None
    recipient: str | None = None
    header: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class AccessRule:
    """One rule: it holds if all that it names is so; the first rule that holds counts.

    Args:
        client: Networks of clients.
        hostname: Their names, or domains that these are below.
        helo: The same of HELO names.
        login: Logins.
        sender: Envelope senders: addresses, domains, or ``.domain`` for those below one; "" for the null sender.
        recipient: Envelope recipients, in the same way; the rule is then about each, and has no header.
        header: The name of a field; with words or regex, what is in it, decoded.
        words: Words, of which one has to be there as a whole, whatever its letter case.
        regex: A pattern that has to be found in the first 1,000 characters.
        action: What is done.  accept: the other checks are not asked about the message, and what authenticate and
            reputation find out has no consequences; edits see it all the same.
        skip: Names of filters that are not asked about the message, with action = "note".  Both are for rules with client,
            login or sender; without client and login they hold if SPF passes for the sender's domain at MAIL, which needs
            authenticate, and is not known there behind a trusted relay.
        reply: The text of a refusal.
    """

    client: Collection[str] = ()
    hostname: Collection[str] = ()
    helo: Collection[str] = ()
    login: Collection[str] = ()
    sender: Collection[str] = ()
    recipient: Collection[str] = ()
    header: str = ""
    words: Collection[str] = ()
    regex: str = ""
    action: RuleAction = "reject"
    skip: Collection[str] = ()
    reply: str = ""

    def __post_init__(self) -> None:
        if not any(getattr(self, each.name) for each in fields(self) if each.name not in ("action", "skip", "reply")):
            raise ValueError("expected something that the rule is about, as client, sender or header")
        for name in ("client", "hostname", "helo", "login", "sender", "recipient", "words", "skip"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: expected a list, found a text")
        if bool(self.words or self.regex) != bool(self.header):
            raise ValueError("header: expected together with words or regex")
        if self.header and self.recipient:
            raise ValueError("recipient: expected none with header, which comes after all recipients")
        if self.spares and (self.header or self.recipient or not (self.client or self.login or self.sender)):
            raise ValueError("action: expected client, login or sender, and neither header nor recipient, to let by")
        if self.spares and "" in self.sender:
            raise ValueError('sender: expected no "" here: nothing proves where a bounce is from')
        if self.skip and self.action != "note":
            raise ValueError('skip: expected action = "note" with it')
        compiled(self)

    @property
    def spares(self) -> bool:
        """Whether other filters are not asked where it holds."""
        return self.action == "accept" or bool(self.skip)

    @property
    def needs_proof(self) -> bool:
        """Whether it holds with an aligned pass only: what it is about can be forged."""
        return self.spares and not (self.client or self.login)


def compiled(rule: AccessRule) -> Callable[[Seen], bool | None]:
    """Return what says whether a rule holds; None where that is not known yet.

    Raises:
        ValueError: It cannot be made; the text begins with the name of what is wrong.
    """
    tests = list(_tests(rule))

    def holds(seen: Seen) -> bool | None:
        known: bool | None = True
        for name, test in tests:
            value = getattr(seen, name)
            if value is None:
                known = None
            elif not test(value):
                return False
        return known

    return holds


def _tests(rule: AccessRule) -> Iterator[tuple[str, Callable[..., bool]]]:
    if rule.client:
        networks = networks_of("client", rule.client)
        yield "client", lambda ip: is_in(ip or None, networks)
    for name, given in (("hostname", rule.hostname), ("helo", rule.helo)):
        if given:
            yield name, _is_name(name, given)
    if rule.login:
        logins = frozenset(rule.login)
        yield "login", lambda login: login in logins
    for name, given in (("sender", rule.sender), ("recipient", rule.recipient)):
        if given:
            yield name, _is_address(name, given)
    if rule.header:
        yield "header", _is_header(rule.header.lower(), rule.words, rule.regex)


def _is_name(name: str, given: Collection[str]) -> Callable[[str], bool]:
    names = frozenset(_keys(name, given))
    return lambda text: any(each in names for each, _ in covering("", text))


def _is_address(name: str, given: Collection[str]) -> Callable[[str], bool]:
    names = frozenset(_keys(name, [each for each in given if each]))
    has_null = "" in given
    return lambda address: covers(names, address) if address else has_null


def _keys(name: str, given: Collection[str]) -> Iterator[str]:
    for each in given:
        try:
            yield key(each)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _is_header(name: str, words: Collection[str], regex: str) -> Callable[[tuple[str, str]], bool]:
    patterns: list[re.Pattern[str]] = []
    if words:
        patterns.append(re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE))
    if regex:
        if len(regex) > _LONGEST or _REPEATED_REPEAT.search(regex):
            raise ValueError("regex: expected no repeat of what repeats, as (a+)+, which may take for ever")
        try:
            patterns.append(re.compile(regex, re.IGNORECASE))
        except re.error as error:
            raise ValueError(f"regex: {error}") from None
    return lambda field: field[0] == name and any(each.search(field[1][:_LOOKED_AT]) for each in patterns)


def names_of(name: str, given: Sequence[str]) -> frozenset[str]:
    """Return names as they are compared.

    Raises:
        ValueError: One is none; the text begins with the setting.
    """
    found = [domain_name(each) for each in given]
    if None in found:
        raise ValueError(f"{name}: expected names of domains, found {given[found.index(None)]!r:.80}")
    return frozenset(each for each in found if each is not None)


def rules_of(path: str | os.PathLike[str]) -> list[AccessRule]:
    """Read the rules of a file: ``[[rule]]`` tables.

    Raises:
        ValueError: Something is wrong with it; says where.
    """
    from aiomilter._config.conversion import Conversion
    from aiomilter._config.faults import Faults
    from aiomilter._config.file import read_file

    try:
        document = read_file(str(path), os.path.abspath(path))
        conversion = Conversion(document, lambda warning: None)
        made = conversion.made(list[AccessRule], document.values.get("rule", []), ("rule",))
        unknown = [document.fault((name,), "unknown; expected [[rule]]") for name in document.values if name != "rule"]
        if faults := [*conversion.faults, *unknown]:
            raise Faults(faults)
    except Faults as error:
        raise ValueError(error.lines()[0]) from None
    rules: list[AccessRule] = made
    return rules
