"""What is done with each result of SPF, for all domains and for single ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from aiomilter.auth.spf import SpfResult
from aiomilter.filters.actions import Action, refusal
from aiomilter.filters.domains import covering, key
from aiomilter.mail.envelope import domain as domain_of
from aiomilter.mail.envelope import local_part
from aiomilter.wire.replies import Reply

__all__ = ["DomainRules", "Rule", "RuleTable", "SpfRules"]

_DETAILS: Final[Mapping[str, str]] = {"fail": "7.23", "permerror": "7.24", "temperror": "7.24"}
"""Of enhanced codes (RFC 7372)."""


@dataclass(frozen=True, kw_only=True)
class SpfRules:
    """Actions by result of SPF; None where nothing is said."""

    spf_pass: Action | None = None
    spf_fail: Action | None = None
    spf_softfail: Action | None = None
    spf_neutral: Action | None = None
    spf_none: Action | None = None
    spf_temperror: Action | None = None
    spf_permerror: Action | None = None
    helo_spf_pass: Action | None = None
    helo_spf_fail: Action | None = None
    helo_spf_softfail: Action | None = None
    helo_spf_neutral: Action | None = None
    helo_spf_none: Action | None = None
    helo_spf_temperror: Action | None = None
    helo_spf_permerror: Action | None = None

    def action(self, name: str) -> Action | None:
        """Return the action of a setting; None where nothing is said."""
        found: Action | None = getattr(self, name)
        return found

    def actions(self) -> set[Action]:
        """Return all that are said."""
        return {found for each in fields(SpfRules) if (found := self.action(each.name)) is not None}


@dataclass(frozen=True, kw_only=True)
class DomainRules(SpfRules):
    """What is set for one domain: actions by result of SPF, and whether they hold for the domains below it."""

    subdomains: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be done, and why.

    Args:
        action: What.
        reason: The setting that says so.
        found: The result.
    """

    action: Action
    reason: str
    found: SpfResult

    def reply(self) -> Reply:
        """Return the refusal."""
        found = self.found
        whose = "HELO name" if self.reason.startswith("helo") else "sender"
        text = found.explanation if found.result == "fail" else ""
        text = text or f"SPF {found.result} for the {whose} {found.domain}"
        return refusal(self.action, text, reason=self.reason, detail=self.detail)

    @property
    def detail(self) -> str:
        """Of the enhanced code, without its class."""
        return _DETAILS.get(self.found.result, "7.1")

    def text(self) -> str:
        """Return why, for a log."""
        return f"SPF {self.found.result} for {self.found.domain}"


class RuleTable:
    """The rules of all domains.

    Args:
        general: For all.
        domains: By address, domain, or ``.domain`` for all below it; the most exact one that says something counts.

    Raises:
        ValueError: A key of ``domains`` is none of these.
    """

    def __init__(self, general: SpfRules, domains: Mapping[str, DomainRules]) -> None:
        self._general = general
        self._domains: dict[str, DomainRules] = {}
        for name, rules in domains.items():
            try:
                self._domains[key(name)] = rules
            except ValueError as error:
                raise ValueError(f"domains: {error}") from None
        tables: Iterable[SpfRules] = (general, *domains.values())
        self.matter: bool = any(each.actions() - {"note"} for each in tables)
        """Whether any result makes a difference."""

    def rule(self, spf: SpfResult, helo: SpfResult, sender: str) -> Rule | None:
        """Return what is to be done with a message; None for nothing.

        Args:
            spf: Of the sender; of the HELO name if there is none.
            helo: Of the HELO name; it counts if the sender does not pass.
            sender: The envelope sender, without brackets.
        """
        if not self.matter:
            return None
        found = self._found(f"spf_{spf.result}", spf, sender or spf.domain)
        if found is None and sender and spf.result != "pass":
            found = self._found(f"helo_spf_{helo.result}", helo, helo.domain)
        return found

    def _found(self, name: str, result: SpfResult, who: str) -> Rule | None:
        local, domain = (local_part(who), domain_of(who)) if "@" in who else ("", who)
        for each, is_above in covering(local, domain) if self._domains else ():
            rules = self._domains.get(each)
            if rules is not None and (rules.subdomains or not is_above) and (action := rules.action(name)) is not None:
                return None if action == "note" else Rule(action, name, result)
        action = self._general.action(name)
        return None if action in (None, "note") else Rule(action, name, result)
