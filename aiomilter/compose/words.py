"""What the words of conditions mean: some are given by the site, others by a member that finds out what they are about.

A factory says what it gives by attributes, all of them optional, which the ready filters have:

* ``name``: of its filter, where the member has none.
* ``words``: predicates by the words that they are the meaning of.
* ``unless``: words that leave its filter out of a message where the member says nothing; those that are not given do not count.
* ``needs``: names of factories without which its own is of no use.
* ``takes_conditions``: False for a filter that is never left out.
* ``only_judges``, ``skips``: see :mod:`aiomilter.compose.sparing`.
* ``asks``: what it wants to be known early; with the words of all conditions that is ``asked`` of each factory.

A site has ``words``, too, which come before those that are known without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiomilter.compose.conditions import WORDS, Condition, Predicate, condition, named
from aiomilter.compose.members import Member

__all__ = ["asked", "attribute_of", "resolved"]


def resolved(members: Sequence[Member], site: object) -> list[Member]:
    """Return members whose conditions can be asked.

    Args:
        members: In the order in which they are written.
        site: What the members are bound to; None for nothing.

    Raises:
        TypeError: A word is not given by any of them; or a factory is missing that another needs.
    """
    there = {attribute_of(each, "name", "") for each in members}
    for each in members:
        for need in set(attribute_of(each, "needs", ())) - there:
            raise TypeError(f"compose: {attribute_of(each, 'name', '')}: expected {need} among the members, found none")
    of_site: Mapping[str, Predicate] = getattr(site, "words", {})
    given = {word: condition(predicate, word) for word, predicate in of_site.items()}
    for number, each in enumerate(members):
        for word, predicate in attribute_of(each, "words", {}).items():
            given.setdefault(word, replace(condition(predicate, word), giver=number))
    return [_with_meaning(each, number, given) for number, each in enumerate(members)]


def _with_meaning(member: Member, number: int, given: Mapping[str, Condition]) -> Member:
    name = member.name or attribute_of(member, "name", "")
    if (member.when or member.unless) and not attribute_of(member, "takes_conditions", True):
        raise TypeError(f"compose: {name}: expected neither when nor unless: it looks at every message")

    def mean(conditions: Sequence[Condition], *, is_default: bool = False) -> tuple[Condition, ...]:
        found = []
        for each in conditions:
            # A predicate of the user's may have the name of a word.
            means = given.get(each.text, each) if each.is_open or WORDS.get(each.text) is each else each
            if means.is_open and not is_default:
                who = name or "a member"
                raise TypeError(f"compose: {who}: expected a word that a member or the site gives, found {each.text!r}")
            if not means.is_open and means.giver != number:
                found.append(means)
        return tuple(found)

    if member.unless is None:
        unless = mean([named(word) for word in attribute_of(member, "unless", ())], is_default=True)
    else:
        unless = mean(member.unless)
    return replace(member, name=name, when=mean(member.when), unless=unless)


def asked(members: Sequence[Member]) -> frozenset[str]:
    """Return what members want to be known: the words of their conditions, and what their factories ask for."""
    found: set[str] = set()
    for each in members:
        found |= {one.text for one in (*each.when, *(each.unless or ()))}
        found |= set(attribute_of(each, "asks", ()))
    return frozenset(found)


def attribute_of(member: Member, name: str, default: Any) -> Any:
    """Return an attribute of a factory; of a class these are other things."""
    factory = member.factory
    return default if isinstance(factory, type) or not hasattr(factory, "bind") else getattr(factory, name, default)
