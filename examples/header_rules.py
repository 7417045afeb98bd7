"""Refuse or hold messages by what their header fields say.

aiomilter check examples/header_rules.py message.eml
"""

import re
from dataclasses import dataclass

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter, Reply, Response, run


@dataclass(frozen=True)
class Rule:
    """One line of policy: a field, what to look for in its value, and what to do then."""

    name: str
    pattern: re.Pattern[str]
    action: str  # "refuse" or "hold"
    reason: str


RULES = (
    Rule("Subject", re.compile(r"\bwin a (car|prize)\b", re.IGNORECASE), "refuse", "We do not want to win anything"),
    Rule("X-Mailer", re.compile(r"^Bulk Blaster"), "refuse", "Bulk mail software is not welcome"),
    Rule("Content-Type", re.compile(r"name=\"?[^\"]+\.(exe|scr|js)\b", re.IGNORECASE), "hold", "executable attachment"),
    Rule("Reply-To", re.compile(r"@freemail\.example>?\s*$"), "hold", "answers go to a free mail account"),
)


class HeaderRules(Milter):
    """Refuse at the first field that breaks a rule; hold at the end of a message that only looks odd."""

    def __init__(self) -> None:
        self.held_for: list[str] = []

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.held_for = []

    async def header(self, ctx: Context, header: Header) -> Response | None:
        for rule in RULES:
            if header.name.lower() == rule.name.lower() and rule.pattern.search(header.text):
                if rule.action == "refuse":
                    return Reply(550, "5.7.1", rule.reason)
                self.held_for.append(rule.reason)
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.held_for:
            ctx.quarantine("; ".join(self.held_for))


if __name__ == "__main__":
    run(HeaderRules, "inet:8890@127.0.0.1")
