"""When a filter is left out of a message: words, and predicates of the context."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiomilter.context import Context
from aiomilter.failures import is_local
from aiomilter.wire.constants import Stage

__all__ = ["WORDS", "Condition", "Predicate", "Word", "conditions", "known_at", "known_stage"]

Predicate: TypeAlias = Callable[[Context], bool]
Word: TypeAlias = str | Predicate

_FROM_MAIL: Final = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.EOH, Stage.EOM})


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A condition, and the stage at which it is known.

    Args:
        holds: Asked once a message.
        stage: From which stage on.
        text: What it is called in messages.
    """

    holds: Predicate
    stage: Stage
    text: str


def _is_null_sender(ctx: Context) -> bool:
    return ctx.sender is not None and not ctx.sender.address


WORDS: Final[dict[str, Condition]] = {
    "authenticated": Condition(lambda ctx: ctx.auth is not None, Stage.MAIL, "authenticated"),
    "internal": Condition(lambda ctx: is_local(ctx.client), Stage.MAIL, "internal"),
    "null_sender": Condition(_is_null_sender, Stage.MAIL, "null_sender"),
    "tls": Condition(lambda ctx: ctx.tls is not None, Stage.MAIL, "tls"),
}
"""The words that say a condition."""


def known_at(stage: Stage) -> Callable[[Predicate], Predicate]:
    """Mark a predicate for ``when`` or ``unless`` that cannot be asked before a stage; without the mark that is MAIL.

    A filter whose first callback comes before that stage is refused when the composition starts.

    Args:
        stage: MAIL, RCPT, DATA, EOH or EOM.

    Raises:
        ValueError: It is another stage.
    """
    if stage not in _FROM_MAIL:
        raise ValueError(f"known_at: expected one of MAIL, RCPT, DATA, EOH and EOM, found {stage!r}")

    def mark(predicate: Predicate) -> Predicate:
        predicate.__aiomilter_known_at__ = stage  # type: ignore[attr-defined]
        return predicate

    return mark


def conditions(what: str, given: Word | Sequence[Word]) -> tuple[Condition, ...]:
    """Return conditions as they were given: one, or several.

    Raises:
        TypeError: One is neither a word nor can it be called.
        ValueError: A word is not known.
    """
    several: Sequence[Any] = given if isinstance(given, list | tuple) else (given,)
    return tuple(_condition(what, each) for each in several)


def _condition(what: str, given: object) -> Condition:
    if isinstance(given, str):
        if given not in WORDS:
            raise ValueError(
                f"{what}: expected {', '.join(sorted(WORDS))} or a function of the context, found {given!a}"
            )
        return WORDS[given]
    if not callable(given):
        raise TypeError(f"{what}: expected a word or a function of the context, found {type(given).__name__}")
    stage = getattr(given, "__aiomilter_known_at__", Stage.MAIL)
    return Condition(given, stage, getattr(given, "__name__", type(given).__name__))


def known_stage(*given: Condition) -> Stage:
    """Return the stage at which all of them are known."""
    return max((each.stage for each in given), default=Stage.MAIL)
