"""The two protocols that a session relies on: the side that holds the transport, and the meaning of answers."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Protocol

from aiomilter._connection.dispatch import DispatchEntry
from aiomilter._connection.suspension import SuspensionChannel
from aiomilter._serving.memory import MemoryLimit
from aiomilter.wire.connection import OutOfOrder, Repeated
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import BodyChunk, Negotiate, Unknown
from aiomilter.wire.negotiation import Agreement
from aiomilter.wire.state import Rules

__all__ = ["Answering", "Channel"]


class Channel(SuspensionChannel, Protocol):
    """What a session needs of the side that holds the transport."""

    number: int
    """Of the connection, for the log."""
    peer: str
    """The other end of the connection, for the log; "" if not known."""
    listener: str
    """The socket that accepted the connection; "" if none did."""
    memory: MemoryLimit
    """The limit on the data that all connections buffer."""

    def kept(self) -> None:
        """Count the octets that stay buffered after this batch."""

    async def drain(self) -> None:
        """Wait until the MTA has read enough of the octets written."""

    async def turn(self) -> None:
        """Write the packets in ``Session.out``, and let other connections run."""

    def close(self) -> None:
        """Close the connection once all octets are written."""


class Answering(Protocol):
    """Applies the answers of callbacks on one connection, and answers for failures."""

    rules: ClassVar[Rules]
    """The order of the conversation."""
    entry_for: ClassVar[Mapping[type, Callable[[Any, Any], DispatchEntry | None]]]
    """By kind of event of the envelope and of the end of a message: a function of session and event that returns the entry,
    or None if it has answered the event itself.  ``Session.mail_entry``, ``Session.rcpt_entry``, and its own for the end."""

    def begin(self) -> None:
        """Record a new SMTP connection: its handler has been made."""

    def filter_name(self) -> str:
        """Return the class of the filter, for the observers; called from any thread."""
        ...

    async def negotiate(self, offer: Negotiate) -> tuple[Agreement, bytes] | None:
        """Return the agreement and its packet; None to close the connection."""
        ...

    async def call(self, stage: Stage, *args: object) -> Any:
        """Call the callback of a stage and return its answer, whatever happens."""

    async def call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; no answer is waited for."""

    def failed(self, error: BaseException) -> Any:
        """Turn an exception that left a callback into its answer; for use in an ``except`` block."""

    def answer(self, stage: Stage, response: Any, continue_packet: bytes) -> None:
        """Send an answer that is not CONTINUE, or defer it where the stage has none.

        Args:
            stage: The stage.
            response: What the callback returned.
            continue_packet: The packet that CONTINUE would have sent; empty at a no-reply stage.
        """

    def answer_end(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Answer the end of the message; return a coroutine if that takes longer: a body from an async iterator, a slow MTA."""

    async def last_of_body(self, event: BodyChunk) -> None:
        """Handle octets of the body that come in the packet of the end of the message."""

    async def unknown(self, event: Unknown) -> None:
        """Handle an SMTP command that the MTA does not know."""

    async def out_of_order(self, event: OutOfOrder) -> None:
        """Handle a command that comes out of order."""

    async def repeated(self, event: Repeated) -> None:
        """Handle a packet of a message that was decided."""
