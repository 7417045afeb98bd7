"""What all ready filters have: settings that are checked when they are made, and are a factory once they have a site."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from aiomilter.compose.conditions import Predicate
from aiomilter.filters.site import Site
from aiomilter.handler import Milter
from aiomilter.message import MessageMilter
from aiomilter.wire.constants import Stage

__all__ = ["Bound", "EditLifespan", "Lifespan", "ReadyEdit", "ReadyFilter"]

Lifespan: TypeAlias = AbstractAsyncContextManager[Callable[[], Milter]]
"""Of a filter: entered once a process, it yields what makes the filter of each connection."""
EditLifespan: TypeAlias = AbstractAsyncContextManager[Callable[[], MessageMilter]]
"""The same of a filter that gets whole messages."""


class Bound:
    """The settings of a ready filter with their site: a factory, as :func:`aiomilter.serve` takes it.

    Args:
        settings: Of the filter.
        site: What it stands on.
    """

    def __init__(self, settings: "ReadyFilter", site: Site) -> None:
        self.settings: ReadyFilter = settings
        """Those of the filter."""
        self.site: Site = site
        """What it stands on."""
        self.asked: frozenset[str] = frozenset()
        """What other members of its composition want to be known: words of their conditions, and what they ask for."""

    def __call__(self) -> Lifespan:
        """Return the lifespan of the filter."""
        return self.settings.start(self.site, self.asked)


@dataclass(frozen=True, kw_only=True)
class ReadyFilter(ABC):
    """Base of the settings of ready filters: a subclass is a frozen dataclass, each field of which has its line under Args.

    An instance is the factory of a filter that is alone, with a :class:`~aiomilter.filters.Site` of its own; composed it is
    bound to the site of all.

    Attributes:
        name: What the configuration file calls it, and what its filter is called if nothing else is said.
        unless: The words that leave it out of a message if nothing else is said.
        gives: The words of conditions that it gives to others, with their predicates.
        takes_conditions: Whether it may be left out of messages by ``when`` and ``unless``.
        only_judges: Whether a message loses nothing but a verdict where it is not asked.
        reasons: The word that goes with each refusal, discard and quarantine, and what it means.
        stores: What it keeps, and for how long; "" for nothing.
        mta: What the MTA needs to be set up for it; "" for nothing.
        example: A ``[[filter]]`` table.
    """

    name: ClassVar[str]
    unless: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[Mapping[str, Predicate]] = MappingProxyType({})
    takes_conditions: ClassVar[bool] = True
    only_judges: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]] = MappingProxyType({})
    stores: ClassVar[str] = ""
    mta: ClassVar[str] = ""
    example: ClassVar[str] = ""

    @property
    def words(self) -> Mapping[str, Predicate]:
        """The words of conditions that it gives as it is set."""
        return self.gives

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of ready filters without which it cannot do its work."""
        return ()

    @property
    def asks(self) -> frozenset[str]:
        """What it wants other filters to know early, and to heed.

        ``"spf"``: SPF at RCPT; ``"spf_pass"``: at MAIL; ``"accept"``: it may let mail by, which is known behind MAIL.
        """
        return frozenset()

    @property
    def first_stage(self) -> Stage:
        """The stage of its first callback of a message; what its conditions are about has to be known there."""
        return Stage.EOM

    def check(self, site: Site) -> None:
        """Look whether the files that it needs are there and can be read, as a start does.

        Raises:
            ImportError: A library is not installed.
            ValueError: One cannot; the text begins with the name of the setting.
        """

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yield what can hardly be meant: the name of a setting, and a sentence about it."""
        return iter(())

    @staticmethod
    def new_site() -> Site:
        """Return the site of filters that were given none."""
        return Site()

    def bind(self, site: Site | None) -> Bound:
        """Return the factory of the filter on a site; None for one of its own."""
        return Bound(self, site if site is not None else self.new_site())

    def __call__(self) -> Lifespan:
        """Return the lifespan of the filter, alone."""
        return self.bind(None)()

    @abstractmethod
    def start(self, site: Site, asked: frozenset[str]) -> Lifespan:
        """Return the lifespan of the filter on a site.

        Args:
            site: What it stands on.
            asked: What other filters want to be known.
        """


class ReadyEdit(ReadyFilter):
    """Base of the settings of ready filters that get whole messages."""

    def __call__(self) -> EditLifespan:
        """Return the lifespan of the filter, alone."""
        return self.start(self.new_site(), frozenset())

    @abstractmethod
    def start(self, site: Site, asked: frozenset[str]) -> EditLifespan:
        """Return the lifespan of the filter on a site."""
