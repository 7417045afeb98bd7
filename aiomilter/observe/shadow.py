"""What a shadow, a filter whose answers are not sent, would have done with a message."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["MOST_SHADOW_NAMES", "AnswerVerdict", "ShadowAnswer", "ShadowOutcome"]

AnswerVerdict: TypeAlias = Literal["accept", "continue", "reject", "tempfail", "discard", "abort"]
"""What an answer does: a reply 5xx is "reject", 4xx "tempfail"; "abort" stands for the end of a message without an answer."""
ShadowAnswer: TypeAlias = Literal[
    "accept", "continue", "reject", "tempfail", "discard", "failed", "timeout", "dropped", "none"
]
"""What a shadow answered; "failed", "timeout": its callback did; "dropped": it was not asked to the end, for want of time or
memory; "none": the message ended before it had decided."""
MOST_SHADOW_NAMES: Final = 20
"""Edits, and refused recipients, that a :class:`ShadowOutcome` names."""
_DECIDED: Final = frozenset({"accept", "continue", "reject", "tempfail", "discard"})
_PASSING: Final = frozenset({"accept", "continue"})


@dataclass(frozen=True, slots=True)
class ShadowOutcome:
    """What one shadow would have done with a message.

    Args:
        filter: Its name in the composition.
        live: The answer that the message got.
        shadow: Its own.
        callback: The callback that gave it, or that failed; "" for none.
        answer: Its answer in one line, cut at 512 characters; or why there is none.
        reason: The reason that it gave for its answer; "" without one.
        refused: Recipients that it refused and that were accepted, the first :data:`MOST_SHADOW_NAMES`, each cut at 320
            characters.
        refused_count: How many of these there were.
        accepted: Recipients that it did not refuse and that were refused, as many.
        accepted_count: How many of these there were.
        edits: Its edits, each as kind and name, ``"add_header X-Spam"``, the first :data:`MOST_SHADOW_NAMES`.
        edit_count: How many there were.
        quarantine: Why it would have held the message; None if it would not.
        duration: Seconds that its callbacks took.
    """

    filter: str
    live: AnswerVerdict
    shadow: ShadowAnswer
    callback: str = ""
    answer: str = ""
    reason: str = ""
    refused: tuple[str, ...] = ()
    refused_count: int = 0
    accepted: tuple[str, ...] = ()
    accepted_count: int = 0
    edits: tuple[str, ...] = ()
    edit_count: int = 0
    quarantine: str | None = None
    duration: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether the message would have fared otherwise: another kind of answer, other recipients, an edit more.

        An answer that passes the message is one kind, whatever it is called.  False where one of both has not decided.
        """
        if self.shadow not in _DECIDED or self.live not in _DECIDED:
            return False
        if (self.live in _PASSING) != (self.shadow in _PASSING):
            return True
        if self.shadow in _PASSING:
            return bool(self.refused_count or self.accepted_count or self.edit_count)
        return self.live != self.shadow
