"""What an MTA is set up to ask, of either kind: filters, where each is written, and the processes that connect to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiomilter._doctor.findings import Step
from aiomilter.addresses import Inet, Unix

__all__ = ["Asker", "Endpoint", "Milter", "Mta", "Place"]


class Place(Protocol):
    """Where a filter is written."""

    @property
    def where(self) -> str:
        """File and setting, for people: ``"/etc/postfix/main.cf: smtpd_milters"``."""
        ...

    def rewritten(self, endpoint: str, settings: Mapping[str, str]) -> tuple[Step, ...]:
        """Return the steps that write another endpoint, or other settings of this filter alone."""
        ...

    def removed(self) -> tuple[Step, ...]:
        """Return the steps that take this filter out."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Processes of an MTA that connect to filters.

    Args:
        name: Of the service: ``"smtp/inet"``.
        program: Such as ``"smtpd"``.
        root: The directory they have as ``/``.
        directory: Where relative paths begin, as the machine sees it.
        user: The user they run as; None for root.
    """

    name: str
    program: str
    root: str = "/"
    directory: str = "/"
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as an MTA reads it.

    Args:
        address: Where it connects to; of a relative path the path from the MTA's directory on, None if it cannot be read.
        fault: Why it cannot be read.
        meant: What it should be, in this MTA's spelling; "" if that cannot be told.
    """

    address: Inet | Unix | None
    fault: str = ""
    meant: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Milter:
    """A filter that an MTA asks.

    Args:
        text: Its endpoint, as written, with the values of variables.
        endpoint: The same, read.
        settings: Of this filter alone.
        place: Where it is written.
        askers: Who connects to it.
        list_name: The setting that lists it.
        fault: Why its settings cannot be read; "" if they can.
    """

    text: str
    endpoint: Endpoint
    settings: Mapping[str, str]
    place: Place
    askers: tuple[Asker, ...]
    list_name: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Mta:
    """An MTA as it is set up.

    Args:
        kind: Which.
        milters: All filters that it asks.
        lists: The filters that each service asks, in its order.
        reload: The steps that make it read its configuration again; none if it does not run.
    """

    kind: Literal["postfix", "sendmail"]
    milters: tuple[Milter, ...]
    lists: Mapping[Asker, tuple[Milter, ...]] = field(default_factory=dict)
    reload: tuple[Step, ...] = ()
