"""The two protocols that a session relies on: the side that holds the transport, and the meaning of answers."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Protocol

from aiomilter._connection import suspension
from aiomilter._connection.dispatch import DispatchEntry
from aiomilter._serving.memory import MemoryLimit
from aiomilter.wire.connection import OutOfOrder, Repeated
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import BodyChunk, Negotiate, Unknown
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.state import Rules

__all__ = ["Answering", "Channel"]


class Channel(suspension.Channel, Protocol):
    """What a session needs of the side that holds the transport."""

    number: int
    """Of the connection, for the log."""
    peer: str
    """The other end of the connection, for the log; "" if not known."""
    listener: str
    """The socket that accepted the connection; "" if none did."""
    memory: MemoryLimit
    """What all connections may keep."""

    def kept(self) -> None:
        """Record what is kept for longer than this batch."""

    async def drain(self) -> None:
        """Wait until the MTA has taken enough of what was written."""

    async def turn(self) -> None:
        """Write what is in ``Session.out``, and let others have their turn."""

    def close(self) -> None:
        """Close the connection once what was written has left."""


class Answering(Protocol):
    """What answers mean on one connection, and what failures answer."""

    rules: ClassVar[Rules]
    """The order of the conversation."""
    entry_for: ClassVar[Mapping[type, Callable[[Any, Any], DispatchEntry | None]]]
    """What finds, given session and event, the entry of an event of the envelope or of the end of a message; None if it
    has answered the event itself.  ``Session.mail``, ``Session.rcpt``, and one of its own for the end."""

    def begin(self) -> None:
        """Record a new SMTP connection: its handler has been made."""

    def filter_name(self) -> str:
        """Return the class of the filter, for the observers; called from any thread."""
        ...

    async def negotiate(self, offer: Negotiate) -> tuple[Agreement, bytes] | None:
        """Return what is agreed on, and the packet that says so; None to close the connection."""
        ...

    async def call(self, stage: Stage, *args: object) -> Any:
        """Call the callback of a stage and return its answer, whatever happens."""

    async def call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; no answer is waited for."""

    def failed(self, error: BaseException) -> Any:
        """Turn what left a callback into its answer; for use in an ``except`` block."""

    def answer(self, stage: Stage, response: Any, answer: bytes) -> None:
        """Send an answer that is not CONTINUE, or defer it where the stage has none.

        Args:
            stage: The stage.
            response: What the callback returned.
            answer: What a CONTINUE would have sent, empty if the stage has no answer.
        """

    def decided(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Answer the end of the message; return what is left to be awaited where a body comes from an async iterator."""

    async def last_of_body(self, event: BodyChunk) -> None:
        """Handle octets of the body that come in the packet of the end of the message."""

    async def unknown(self, event: Unknown) -> None:
        """Handle an SMTP command that the MTA does not know."""

    async def out_of_order(self, event: OutOfOrder) -> None:
        """Handle a command where it means nothing."""

    async def repeated(self, event: Repeated) -> None:
        """Handle more of a message that was decided."""
