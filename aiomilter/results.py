"""What filters have found out about a message, by type: for the filters composed with them."""

from typing import Any, TypeVar

__all__ = ["Results"]

_Found = TypeVar("_Found")


class Results:
    """Results of a message, and of its connection; found by their exact type.

    ``ctx.results.put(spf_result)`` in one filter, ``ctx.results.get(SpfResult)`` in another.
    """

    __slots__ = ("_of_connection", "_of_message", "in_message")

    def __init__(self) -> None:
        self._of_connection: list[Any] = []
        self._of_message: list[Any] = []
        self.in_message: bool = False
        """Whether what is put now belongs to a message."""

    def put(self, result: object) -> None:
        """Add a result: of this message, or at ``connect`` and ``helo`` of all messages of the connection."""
        (self._of_message if self.in_message else self._of_connection).append(result)

    def get(self, kind: type[_Found]) -> _Found | None:
        """Return the newest result of a type; None if there is none: its filter did not run, failed, or was left out."""
        found = self.all(kind)
        return found[-1] if found else None

    def all(self, kind: type[_Found]) -> tuple[_Found, ...]:
        """Return all results of a type, oldest first."""
        return tuple(each for each in self.found() if type(each) is kind)

    def found(self) -> tuple[Any, ...]:
        """Return all results, oldest first; those of the connection before those of the message."""
        return (*self._of_connection, *self._of_message)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._of_connection) + len(self._of_message)

    def end_message(self) -> None:
        """Forget those of the message."""
        self._of_message.clear()
        self.in_message = False
