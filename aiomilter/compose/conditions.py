"""When a filter is left out of a message: words, and predicates of the context."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiomilter.context import Context
from aiomilter.failures import is_local
from aiomilter.wire.constants import Stage

__all__ = [
    "GIVEN",
    "WORDS",
    "Condition",
    "Predicate",
    "Word",
    "condition",
    "conditions",
    "known_at",
    "known_stage",
    "named",
    "stage_of",
]

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
        is_open: Whether it is one of :data:`GIVEN`, and has still to get its meaning from a member or the site.
        giver: The number of the member that finds it out, in the order in which they are written; None if none has to.
    """

    holds: Predicate
    stage: Stage
    text: str
    is_open: bool = False
    giver: int | None = None


def _is_null_sender(ctx: Context) -> bool:
    return ctx.sender is not None and not ctx.sender.address


WORDS: Final[dict[str, Condition]] = {
    "authenticated": Condition(lambda ctx: ctx.auth is not None, Stage.MAIL, "authenticated"),
    "internal": Condition(lambda ctx: is_local(ctx.client), Stage.MAIL, "internal"),
    "null_sender": Condition(_is_null_sender, Stage.MAIL, "null_sender"),
    "tls": Condition(lambda ctx: ctx.tls is not None, Stage.MAIL, "tls"),
}
"""The words that say a condition."""
_SPF: Final = ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")
_DKIM: Final = ("pass", "fail", "policy", "neutral", "none", "temperror", "permerror")
_RESULTS: Final[dict[str, tuple[Stage, tuple[str, ...]]]] = {
    "spf": (Stage.MAIL, _SPF),
    "helo_spf": (Stage.MAIL, _SPF),
    "dkim": (Stage.EOM, _DKIM),
    "arc": (Stage.EOM, ("pass", "fail", "none")),
    "dmarc": (Stage.EOM, ("pass", "fail", "none", "temperror", "permerror")),
}
GIVEN: Final[dict[str, Stage]] = {
    "trusted_relay": Stage.MAIL,
    "known_sender": Stage.RCPT,
    "good_reputation": Stage.RCPT,
    "outbound": Stage.DATA,
    **{f"{method}_{word}": stage for method, (stage, words) in _RESULTS.items() for word in words},
}
"""Words whose meaning a member or the site gives, and the stage at which each is known."""
_LISTENER: Final = "listener:"


def stage_of(word: str) -> Stage | None:
    """Return the stage at which a word is known; None if there is no such word."""
    if word in WORDS:
        return WORDS[word].stage
    return Stage.MAIL if word.startswith(_LISTENER) and len(word) > len(_LISTENER) else GIVEN.get(word)


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
        if stage_of(given) is None:
            raise ValueError(
                f"{what}: expected {', '.join(sorted(WORDS))} or a function of the context, found {given!a}"
            )
        return named(given)
    if not callable(given):
        raise TypeError(f"{what}: expected a word or a function of the context, found {type(given).__name__}")
    return condition(given, getattr(given, "__name__", type(given).__name__))


def named(word: str) -> Condition:
    """Return the condition of a word that :func:`stage_of` knows."""
    if word in WORDS:
        return WORDS[word]
    stage = stage_of(word)
    assert stage is not None
    return Condition(_never, stage, word, is_open=True)


def condition(predicate: Predicate, text: str) -> Condition:
    """Return the condition of a predicate.

    Args:
        predicate: Perhaps marked by :func:`known_at`.
        text: What it is called.
    """
    return Condition(predicate, getattr(predicate, "__aiomilter_known_at__", Stage.MAIL), text)


def _never(ctx: Context) -> bool:
    raise AssertionError("it has no meaning")


def known_stage(*given: Condition) -> Stage:
    """Return the stage at which all of them are known."""
    return max((each.stage for each in given), default=Stage.MAIL)
