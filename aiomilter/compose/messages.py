"""The message that all edits of a composition share: kept while it arrives, edited by one after the other."""

from collections.abc import Callable, Iterable, Sequence

from aiomilter.compose.filters import ComposedFilter
from aiomilter.context import Context, EndOfMessageContext
from aiomilter.exceptions import NotNegotiatedError
from aiomilter.message import Message, MessageMilter
from aiomilter.message.envelope import Envelope
from aiomilter.message.incoming import Incoming
from aiomilter.wire.constants import Action
from aiomilter.wire.events import Header
from aiomilter.wire.replies import ACCEPT, CONTINUE, Response

__all__ = ["MessageKeeper", "ask_for_edits", "milter_of"]


def milter_of(edit: ComposedFilter) -> MessageMilter:
    """Return the filter of an edit."""
    milter = edit.milter
    assert isinstance(milter, MessageMilter)
    return milter


class MessageKeeper:
    """Keeps one message for all edits.

    Args:
        edits: Those of the composition, at least one.
    """

    def __init__(self, edits: Sequence[ComposedFilter]) -> None:
        keeping = [milter_of(each) for each in edits if each.seat.keeps_body]
        self._edits = edits
        self._incoming = Incoming(
            max((each.max_size for each in keeping), default=0),
            min((each.memory_size for each in keeping), default=0),
            next((each.spool_directory for each in keeping if each.spool_directory is not None), None),
            bool(keeping),
        )
        self.add_field: Callable[[Header], None] = self._incoming.keep_field
        """Keeps a header field."""
        self.add_fields: Callable[[Iterable[Header]], None] = self._incoming.keep_fields
        """Keeps several."""

    @property
    def keeping(self) -> list[ComposedFilter]:
        """The edits that the body is kept for."""
        return [each for each in self._edits if each.seat.keeps_body and each.is_open]

    async def add_chunk(self, octets: bytes) -> None:
        """Keep a piece of the body, if an edit wants it.

        Raises:
            OSError: It cannot be written.
        """
        if self._incoming.keeps and self.keeping:
            await self._incoming.take(octets)

    async def head(self, edit: ComposedFilter, context: Context) -> Response | None:
        """Show the header section to an edit."""
        return await milter_of(edit).head(context, self._incoming.headers.copy())

    def is_too_large_for(self, edit: ComposedFilter) -> bool:
        """Return whether an edit does not take so large a message."""
        return edit.seat.keeps_body and self._incoming.size > milter_of(edit).max_size

    def message(self, ctx: EndOfMessageContext) -> Message:
        """Return the whole message."""
        return self._incoming.message(Envelope(ctx.sender, ctx.recipients, ctx._edits().actions))

    def close(self) -> None:
        """Forget the body."""
        self._incoming.close()


async def ask_for_edits(
    milter: MessageMilter, context: Context, message: Message, actions: int, *, restarts: bool
) -> Response | None:
    """Have an edit change the message; what the MTA does not offer is its failure, and not that of the others.

    Args:
        milter: The edit's filter.
        context: For it.
        message: Its own copy.
        actions: What the MTA offers.
        restarts: Whether the body is another than the filter has seen in pieces.
    """
    if restarts and milter._sees_chunks:
        milter.restart()
        async for octets in message.body.chunks():
            milter.chunk(octets)
    if message.searched:
        await message.read_names()
    response = await milter.message(context, message)
    if response in (None, CONTINUE, ACCEPT):
        if message.unsettled:
            await message.settle()
        needed = Action.REPLACE_BODY if message.body_changed else Action(0)
        if message.headers.changed:
            needed |= Action.ADD_HEADERS | Action.CHANGE_HEADERS
        if missing := int(needed) & ~actions:
            raise NotNegotiatedError(f"the MTA does not offer {Action(missing)!r}, which these changes need")
    return response
