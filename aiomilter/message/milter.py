"""A filter that gets whole messages."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, final

from aiomilter.context import Context, EndOfMessageContext
from aiomilter.handler import Milter, no_reply
from aiomilter.message.envelope import Envelope
from aiomilter.message.headers import Headers
from aiomilter.message.incoming import Incoming
from aiomilter.message.message import Message
from aiomilter.message.outgoing import queue_edits
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Header
from aiomilter.wire.replies import ACCEPT, CONTINUE, Reply, Response

__all__ = ["MessageMilter"]

_OURS: Final = ("header", "eoh", "body", "eom")


class MessageMilter(Milter):
    """Base of filters that decide on, and change, a whole message: override :meth:`message`.

    What :meth:`message` changes leaves with its answer as the smallest edits that lead there, if the message passes; every
    octet that was not changed stays.  ``connect``, ``helo``, ``envfrom``, ``envrcpt``, ``data``, ``unknown``, ``abort`` and
    ``close`` may be overridden as in any filter, to refuse early; ``header``, ``eoh``, ``body`` and ``eom`` may not.

    The body is kept in memory up to ``memory_size``, and in a file without a name above that; the MTA waits while it is
    written.  If it cannot be written the answer is ``on_error``.

    Attributes:
        max_size: Octets of a message, header section included; :meth:`message` does not get a larger one.
        on_too_large: The answer to a larger one.
        memory_size: Octets of a body that are kept in memory; with more than 64 MiB in all, bodies go to files at once.
        spool_directory: Where the files are; None for the system's place for temporary files.
        body_wanted: False if only header fields and envelope matter: no body is asked for, no size is limited.
    """

    leading_space = True
    max_size: int = 104_857_600
    on_too_large: Response = Reply(552, "5.3.4", "Message too large")
    memory_size: int = 1_048_576
    spool_directory: str | None = None
    body_wanted: ClassVar[bool] = True

    _incoming: Incoming | None = None
    _sees_chunks: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the methods, and derive what to ask of the MTA.

        Raises:
            TypeError: A method is overridden that may not be, or not as it has to be.
        """
        super().__init_subclass__(**kwargs)
        for name in _OURS:
            if getattr(cls, name) is not getattr(MessageMilter, name):
                raise TypeError(
                    f"{cls.__qualname__}.{name}: expected 'async def message', or 'head' at the end of headers"
                )
        for name in ("message", "head"):
            if not inspect.iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"{cls.__qualname__}.{name}: expected 'async def {name}'")
        if inspect.iscoroutinefunction(cls.chunk):
            raise TypeError(f"{cls.__qualname__}.chunk: expected a plain 'def chunk'")
        cls._sees_chunks = cls.chunk is not MessageMilter.chunk
        dropped = set()
        if cls.head is MessageMilter.head:
            dropped.add(Stage.EOH)
        if not cls.body_wanted and not cls._sees_chunks:
            dropped.add(Stage.BODY)
        wants = cls._wants
        cls._wants = replace(wants, stages=wants.stages - dropped, no_reply=wants.no_reply - dropped)

    # ------------------------------------------------------------------------------------------------ for subclasses

    async def head(self, ctx: Context, headers: Headers) -> Response | None:
        """Handle the header section, before the body comes: to refuse early.  Changes of ``headers`` have no effect."""
        return None

    def chunk(self, octets: bytes) -> None:
        """See a piece of the body as it comes; with ``body_wanted = False`` it is seen and not kept."""

    def restart(self) -> None:
        """Forget all pieces: those of another body follow, from its start."""

    async def message(self, ctx: Context, message: Message) -> Response | None:
        """Handle the whole message, and change it.

        None, CONTINUE, ACCEPT: the message passes, as it is now.  Any other answer: it does not pass.
        """
        return None

    # ---------------------------------------------------------------------------------------------------- callbacks

    def _begun(self, ctx: Context) -> Incoming:
        if self._incoming is None:
            self._incoming = Incoming(self.max_size, self.memory_size, self.spool_directory, self.body_wanted)
            ctx.on_end(self._ended)
        return self._incoming

    def _ended(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.close()

    @final
    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        """Keep a header field."""
        incoming = self._incoming or self._begun(ctx)
        incoming.keep_field(header)

    def _begin_fields(self, ctx: Context, fields: Sequence[Header]) -> int:
        """Keep header fields that have come together, and return how many; see :class:`aiomilter._connection.dispatch`."""
        incoming = self._incoming or self._begun(ctx)
        incoming.keep_fields(fields)
        return len(fields)

    @final
    async def eoh(self, ctx: Context) -> Response | None:
        """Ask :meth:`head`."""
        return await self.head(ctx, self._begun(ctx).headers.copy())

    @final
    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        """Keep a piece of the body."""
        incoming = self._incoming or self._begun(ctx)
        if self._sees_chunks:
            self.chunk(chunk)
        if incoming.keeps:
            await incoming.take(chunk)

    @final
    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        """Ask :meth:`message`, and queue the edits that lead to what it has made."""
        incoming = self._begun(ctx)
        if incoming.too_large:
            return self.on_too_large
        message = incoming.message(Envelope(ctx.sender, ctx.recipients, ctx._edits().actions))
        if message.searched:
            await message.read_names()
        plain = Context.__new__(Context)
        plain._transaction = ctx._transaction
        try:
            response = await self.message(plain, message)
        finally:
            plain._transaction = None
        if response in (None, CONTINUE, ACCEPT):
            if message.unsettled:
                await message.settle()
            queue_edits(ctx, message)
        return response
