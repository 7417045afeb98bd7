"""The settings of ``access`` as its modules read them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiomilter.filters.access_rules import AccessRule
from aiomilter.filters.actions import Action
from aiomilter.filters.recipients import EXEMPT
from aiomilter.filters.units import seconds

__all__ = ["AccessSettings"]


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """What :class:`aiomilter.filters.access.Access` may be given, and says the meaning of."""

    rules: Sequence[AccessRule] = ()
    table: Path | str | None = None
    false_localhost: Action = "note"
    helo_address: Action = "note"
    helo_own: Sequence[str] = ()
    helo_required: bool = False
    inside_sender: Literal["any", "own"] = "any"
    own_sender: Literal["any", "authenticated", "never"] = "any"
    null_sender_from: Collection[str] = ()
    login_sender: Mapping[str, Collection[str]] = field(default_factory=dict)
    no_recipients: Collection[str] = ()
    recipients: Mapping[str, Collection[str]] = field(default_factory=dict)
    inside_only_recipients: Sequence[str] = ()
    bounce_recipients: int | None = None
    ban: Mapping[str, int | float | str] | None = None
    exempt_recipients: Collection[str] = EXEMPT
    header: str = "X-Spam-Flag"

    def banning(self) -> tuple[int, float] | None:
        """Return after how many a client is banned, and for how many seconds; None for never.

        Raises:
            ValueError: It is not as described.
        """
        if self.ban is None:
            return None
        after = self.ban.get("after", 3)
        if set(self.ban) - {"after", "for"} or not isinstance(after, int) or not 0 < after <= 10_000:
            raise ValueError('ban: expected { after = 3, for = "30d" }')
        return after, seconds("ban", self.ban.get("for", "30d"))
