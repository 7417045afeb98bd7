"""The envelope of a message, as it is and as it is to be."""

from collections.abc import Iterator, Sequence
from typing import Final, overload

from aiomilter.edits import Edits
from aiomilter.wire.constants import ALL_ACTIONS
from aiomilter.wire.events import Mail, Rcpt

__all__ = ["Envelope", "Recipients"]

_MOST: Final = 10_000_000


class Envelope:
    """Changes of the envelope: checked when they are asked for, made when the message is done.

    Args:
        sender: As the MTA has it.
        recipients: Those that the filter did not refuse.
        actions: What the MTA offers; anything for a message outside of a connection.
    """

    def __init__(self, sender: Mail | None, recipients: Sequence[Rcpt], actions: int = ALL_ACTIONS) -> None:
        self.sender: Mail | None = sender
        self.given: tuple[Rcpt, ...] = tuple(recipients)
        self.new_sender: tuple[str, tuple[str, ...]] | None = None
        self.added: list[tuple[str, tuple[str, ...]]] = []
        self.removed: list[str] = []
        self.reason: str | None = None
        self._actions = actions
        self._checker: Edits | None = None

    @property
    def _checks(self) -> Edits:
        """What checks the changes, and is never sent; made at the first change, since most filters make none."""
        if self._checker is None:
            self._checker = Edits(self._actions, True, _MOST, _MOST, 0)
        return self._checker

    def copy(self) -> "Envelope":
        """Return another with the same changes."""
        other = Envelope(self.sender, self.given, self._actions)
        other.new_sender, other.reason = self.new_sender, self.reason
        other.added, other.removed = [*self.added], [*self.removed]
        return other

    def change_sender(self, address: str, params: tuple[str, ...]) -> None:
        """Have another sender."""
        self._checks.change_sender(address, params)
        self.new_sender = address, params

    def add(self, address: str, params: tuple[str, ...]) -> None:
        """Have another recipient."""
        self._checks.add_recipient(address, params)
        self.added.append((address, params))

    def remove(self, address: str) -> None:
        """Have one recipient less."""
        self._checks.delete_recipient(address, self.given)
        self.removed.append(address)

    def quarantine(self, reason: str) -> None:
        """Have the message held."""
        self._checks.quarantine(reason)
        self.reason = reason

    def queue(self, edits: Edits) -> None:
        """Queue all that was asked for."""
        if self.new_sender is not None:
            edits.change_sender(*self.new_sender)
        for address, params in self.added:
            edits.add_recipient(address, params)
        for address in self.removed:
            edits.delete_recipient(address, self.given)
        if self.reason is not None:
            edits.quarantine(self.reason)


class Recipients(Sequence[Rcpt]):
    """The envelope recipients that the filter did not refuse, as the MTA has shown them; and changes of them.

    Args:
        envelope: Keeps the changes.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._envelope.given)

    def __iter__(self) -> Iterator[Rcpt]:
        """Return them in order."""
        return iter(self._envelope.given)

    @overload
    def __getitem__(self, place: int) -> Rcpt: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Rcpt, ...]: ...
    def __getitem__(self, place: int | slice) -> Rcpt | tuple[Rcpt, ...]:
        """Return one, or some."""
        return self._envelope.given[place]

    def add(self, address: str, *params: str) -> None:
        """Add one.

        Args:
            address: One mailbox, with or without angle brackets.
            params: ESMTP parameters; Postfix knows NOTIFY and ORCPT.
        """
        self._envelope.add(address, params)

    def remove(self, address: str) -> None:
        """Remove one: the SMTP client is told that it was accepted, all the same.

        Args:
            address: As in ``Rcpt.path`` or ``Rcpt.address``.
        """
        self._envelope.remove(address)
