"""What the checks look at: an MTA, what answers at the endpoints that it asks, and the filter that the postmaster named."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiomilter._doctor.backends import Away, Backend
from aiomilter._doctor.findings import Kind, Step
from aiomilter._doctor.model import Asker, Milter, Mta
from aiomilter._doctor.reaching import Answered
from aiomilter._doctor.resolving import Dns, DnsLists
from aiomilter._doctor.source import SourceFacts
from aiomilter.addresses import Inet, Unix
from aiomilter.options import Options
from aiomilter.wire.constants import Stage
from aiomilter.wire.negotiation import Wants

__all__ = ["Case", "File", "Own", "machine_address", "same"]


@dataclass(frozen=True, slots=True)
class File:
    """A configuration file of ours.

    Args:
        path: Absolute.
        lines: Its lines.
        places: The numbers of the first and last line of keys that it sets, from 1, by their names: ``"socket.mode"``.
        tables: The numbers of the lines that begin tables, by their names.
    """

    path: str
    lines: Sequence[str]
    places: Mapping[str, tuple[int, int]]
    tables: Mapping[str, int]

    def set(self, **values: str) -> tuple[Step, ...]:
        """Return the steps that set keys, given with an underscore for the dot: ``socket_mode='"0660"'``.

        The last line comes first, so that the numbers of the others stay right; lines that are so already are left out.
        """
        steps = [self._set(name.replace("_", ".", 1), value) for name, value in values.items()]
        new = (step for step in steps if step.lines != 1 or self.lines[step.replaces - 1].strip() != step.text)
        return tuple(sorted(new, key=lambda step: -step.replaces))

    def _set(self, key: str, value: str) -> Step:
        table, _, last = key.rpartition(".")
        if key in self.places:
            first, end = self.places[key]
            dotted = self.lines[first - 1].lstrip().startswith(key)
            return Step(Kind.WRITE, f"{key if dotted else last} = {value}", self.path, first, end - first + 1)
        if table in self.tables:
            return Step(Kind.WRITE, f"{last} = {value}", self.path, self.tables[table] + 1, 0)
        return Step(Kind.WRITE, f"{key} = {value}", self.path, 1, 0)


@dataclass(frozen=True, slots=True)
class Own:
    """The filter that the postmaster named, as far as it is known.

    Args:
        name: What to call it.
        target: As given; "" for the one of the file.
        listen: Where it is told to listen.
        options: Those it is served with.
        file: Its configuration file.
        wants: What each of its filters asks of the MTA.
        does: What its source says.
        is_tls: Whether only clients with a certificate may connect by TCP.
        backends: The services that its settings name.
        lists: The DNS lists that it asks.
        authserv_ids: The names by which it writes Authentication-Results, "" for that of the MTA; none if that is not known.
    """

    name: str
    target: str = ""
    listen: tuple[Inet | Unix, ...] = ()
    options: Options = field(default_factory=Options)
    file: File | None = None
    wants: tuple[Wants, ...] = ()
    does: SourceFacts = field(default_factory=SourceFacts)
    is_tls: bool = False
    backends: tuple[Backend, ...] = ()
    lists: DnsLists = field(default_factory=DnsLists)
    authserv_ids: frozenset[str] = frozenset()

    @property
    def macros(self) -> frozenset[tuple[Stage, str]]:
        """The macros it reads, with the stage: those that its class declares, and those that its source names."""
        declared = ((stage, name) for each in self.wants for stage, names in each.macros.items() for name in names)
        return self.does.macros | frozenset(declared)

    @property
    def command(self) -> tuple[str, ...]:
        """The words that serve it."""
        words = ["aiomilter", "run", *([self.target] if self.target else [])]
        return (*words, "--config", self.file.path) if self.file is not None else tuple(words)


@dataclass(frozen=True, slots=True)
class Case:
    """What the checks look at.

    Args:
        mta: The MTA.
        answers: What came of a connection to each endpoint.
        own: The filter that was named; None for none.
        dns: The nameservers, if that filter asks any.
        away: The services of that filter that do not serve.
    """

    mta: Mta
    answers: Mapping[Inet | Unix, Answered]
    own: Own | None = None
    dns: Dns | None = None
    away: Sequence[Away] = ()

    def answer(self, milter: Milter) -> Answered:
        """Return what came of a connection to a filter."""
        for asker in milter.askers:
            address = machine_address(milter, asker)
            if address is not None and address in self.answers:
                return self.answers[address]
        return Answered("unknown")

    def is_own(self, milter: Milter) -> bool:
        """Return whether a filter is the one that was named, by where it is told to listen."""
        return self.own is not None and any(
            same(machine_address(milter, asker), each) for asker in milter.askers for each in self.own.listen
        )


def machine_address(milter: Milter, asker: Asker) -> Inet | Unix | None:
    """Return where processes find a filter, with the path as the machine sees it, links aside."""
    address = milter.endpoint.address
    if not isinstance(address, Unix):
        return address
    if not address.path.startswith("/"):
        return Unix(os.path.normpath(os.path.join(asker.directory, address.path)))
    return Unix(os.path.normpath(f"{asker.root}/{address.path}").replace("//", "/"))


def same(one: Inet | Unix | None, other: Inet | Unix | None) -> bool:
    """Return whether two endpoints are one: the names of the loopback are one host, and no host is all of them."""
    if isinstance(one, Inet) and isinstance(other, Inet):
        local = ("127.0.0.1", "localhost", "::1", None)
        return one.port == other.port and (one.host == other.host or (one.host in local and other.host in local))
    if isinstance(one, Unix) and isinstance(other, Unix):
        return os.path.realpath(one.path) == os.path.realpath(other.path)
    return False
