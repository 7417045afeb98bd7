"""The members of a composition as they are written down: a factory, and what is to be done with its filter."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from aiomilter.compose.conditions import Condition, Word, conditions
from aiomilter.compose.share import MailShare, share_of
from aiomilter.failures import FailurePolicy, check_answer
from aiomilter.handler import Milter
from aiomilter.message import MessageMilter
from aiomilter.wire.replies import Response

__all__ = ["Member", "MemberFactory", "Rank", "Words", "check", "edit", "member"]

Make: TypeAlias = Callable[[], Milter]
MemberFactory: TypeAlias = Make | Callable[[], AbstractAsyncContextManager[Make]]
"""Makes the filter of a member: as for :func:`aiomilter.serve`."""
EditFactory: TypeAlias = (
    Callable[[], MessageMilter] | Callable[[], AbstractAsyncContextManager[Callable[[], MessageMilter]]]
)
Rank: TypeAlias = Literal["check", "edit", ""]
"""Of a member; "" for what its filter is."""
Words: TypeAlias = Word | Sequence[Word]
"""One condition, or several, of which any will do."""

_LONGEST_NAME: Final = 100
_ALL: Final = MailShare(1)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A member of a composition; made by :func:`check` and :func:`edit`.

    Args:
        factory: Makes its filter.
        rank: Whether it is a check or an edit; "" for what its filter is.
        name: Of the filter; "" for the name of its class.
        when: Conditions, one of which must hold; none for always.
        unless: Conditions, none of which may hold; None for those that the factory has by itself.
        after: Names of members that it waits for.
        on_error: The answer if it fails; None for the filter's own, or else the server's.
        on_timeout: The answer if it takes too long; None as for ``on_error``.
        timeout: Seconds that each callback may take; None for what the server allows.
        shadow: Whether its answers and edits are compared, and never sent.
        share: The part of mail that a shadow is asked about.
    """

    factory: Any
    rank: Rank = ""
    name: str = ""
    when: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] | None = None
    after: tuple[str, ...] = ()
    on_error: Response | FailurePolicy | None = None
    on_timeout: Response | FailurePolicy | None = None
    timeout: float | None = None
    shadow: bool = False
    share: MailShare = _ALL


def check(
    factory: MemberFactory,
    *,
    name: str = "",
    when: Words = (),
    unless: Words | None = None,
    after: str | Sequence[str] = (),
    on_error: Response | FailurePolicy | None = None,
    on_timeout: Response | FailurePolicy | None = None,
    timeout: float | None = None,
    shadow: bool = False,
    share: MailShare | float = _ALL,
) -> Member:
    """Return a member that decides as the message arrives, and that sees it as the MTA has it.

    Args:
        factory: Makes the filter, as for :func:`aiomilter.serve`.
        name: What logs and other members call it; the name of its class if left out.
        when: A condition, or several of which one must hold, or the filter is left out of a message; see
            ``aiomilter help composing``.
        unless: A condition, or several of which none may hold; None for those that the factory has by itself, as some ready
            filters do.
        after: Names of members whose callback has to end before its own of the same stage begins.
        on_error: The answer if it fails; CONTINUE leaves it out of the message.  None: the filter's own, or the server's.
        on_timeout: The answer if a callback takes too long; None as for ``on_error``.
        timeout: Seconds that each callback may take; None for what the server allows, or 30 of a shadow.
        shadow: Whether to try it on live mail: it sees everything, and what it answers and edits is compared and never sent.
            See ``aiomilter help shadow``.
        share: The part of mail that a shadow is asked about: a number between 0 and 1, or a :class:`MailShare`.

    Raises:
        TypeError: An argument is not what is written here.
        ValueError: A condition is not known, ``timeout`` is not above 0, or ``share`` is not between 0 and 1, or given
            without ``shadow``.
    """
    return _made("check", factory, name, when, unless, after, on_error, on_timeout, timeout, shadow, share)


def edit(
    factory: EditFactory,
    *,
    name: str = "",
    when: Words = (),
    unless: Words | None = None,
    after: str | Sequence[str] = (),
    on_error: Response | FailurePolicy | None = None,
    on_timeout: Response | FailurePolicy | None = None,
    timeout: float | None = None,
    shadow: bool = False,
    share: MailShare | float = _ALL,
) -> Member:
    """Return a member that gets the whole message, after all checks and with the changes of all edits before it.

    The arguments are as for :func:`check`; the factory makes a :class:`~aiomilter.message.MessageMilter`.

    Raises:
        TypeError, ValueError: As for :func:`check`.
    """
    return _made("edit", factory, name, when, unless, after, on_error, on_timeout, timeout, shadow, share)


def member(given: "Member | MemberFactory") -> Member:
    """Return what is given to ``compose`` as a member.

    Raises:
        TypeError: It is not a factory.
    """
    return given if isinstance(given, Member) else _made("", given, "", (), None, (), None, None, None, False, _ALL)


def _made(
    rank: Rank,
    factory: object,
    name: str,
    when: Words,
    unless: Words | None,
    after: str | Sequence[str],
    on_error: object,
    on_timeout: object,
    timeout: float | None,
    shadow: object,
    share: MailShare | float,
) -> Member:
    if isinstance(factory, Member):
        raise TypeError("member: expected a factory, found a member: check and edit are not put into one another")
    if not callable(factory):
        raise TypeError(f"member: expected a factory, found {type(factory).__name__}")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or (name and not name.isprintable()):
        raise TypeError(f"name: expected a word, found {name!r:.120}")
    names = (after,) if isinstance(after, str) else tuple(after)
    if not all(isinstance(each, str) for each in names):
        raise TypeError(f"after: expected names of members, found {names!r:.120}")
    check_answer("on_error", on_error, none=True)
    check_answer("on_timeout", on_timeout, none=True)
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout: expected more than 0 seconds, found {timeout!r}")
    part = share_of(share)
    if not isinstance(shadow, bool):
        raise TypeError(f"shadow: expected True or False, found {shadow!r:.120}")
    if part != _ALL and not shadow:
        raise ValueError("share: expected shadow=True, found a filter whose answers are sent")
    answers: Any = {"on_error": on_error, "on_timeout": on_timeout}
    words = conditions("when", when), None if unless is None else conditions("unless", unless)
    return Member(factory, rank, name, *words, names, timeout=timeout, shadow=shadow, share=part, **answers)
