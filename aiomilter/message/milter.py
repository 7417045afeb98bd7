"""A filter that gets whole messages."""

import inspect
from dataclasses import replace
from typing import Any, ClassVar, Final, final

from aiomilter.context import Context, EndOfMessageContext
from aiomilter.handler import Milter, no_reply
from aiomilter.message.envelope import Envelope
from aiomilter.message.header_edits import plan, queue
from aiomilter.message.headers import Field, Headers
from aiomilter.message.message import Message
from aiomilter.message.spool import Spool
from aiomilter.message.structure import Structure
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Header
from aiomilter.wire.replies import ACCEPT, CONTINUE, Reply, Response

__all__ = ["MessageMilter"]

_OURS: Final = ("header", "eoh", "body", "eom")
_PGP: Final = b"-----BEGIN PGP "
_MOST_PGP: Final = 1_000


class _Incoming:
    """A message while it arrives.

    Args:
        milter: The filter, for its limits.
        keeps: Whether the body is kept.
    """

    def __init__(self, milter: "MessageMilter", keeps: bool) -> None:
        self.fields: list[Field] = []
        self.size = 2  # the empty line
        self.most = milter.max_size
        self.keeps = keeps
        self.spool = Spool(milter.memory_size, milter.spool_directory)
        self.pgp: list[int] = []
        self._structure: Structure | None = None
        self._headers: Headers | None = None
        self._tail = b""

    @property
    def too_large(self) -> bool:
        """Whether it has more octets than the filter takes."""
        return self.keeps and self.size > self.most

    @property
    def headers(self) -> Headers:
        """Its fields; all of them have come."""
        if self._headers is None:
            self._headers = Headers(self.fields)
        return self._headers

    @property
    def structure(self) -> Structure | None:
        """Its parts, as far as they have come."""
        if self._structure is None and self.keeps:
            content = [field.raw for field in self.fields if field.key.startswith(b"content-")]
            self._structure = Structure(b"".join(content))
        return self._structure

    async def take(self, octets: bytes) -> None:
        """Take a piece of the body; what is too large is forgotten."""
        self.size += len(octets)
        if self.too_large:
            self.spool.close()
            return
        self._look_for_pgp(octets)
        structure = self.structure
        assert structure is not None
        structure.feed(octets)
        if self.spool.add(octets):
            await self.spool.store()

    def _look_for_pgp(self, octets: bytes) -> None:
        data, base = self._tail + octets, self.spool.size - len(self._tail)
        at = data.find(_PGP)
        while at >= 0 and len(self.pgp) < _MOST_PGP:
            self.pgp.append(base + at)
            at = data.find(_PGP, at + len(_PGP))
        self._tail = data[-len(_PGP) + 1 :]

    def message(self, ctx: EndOfMessageContext) -> Message:
        """Return the whole message."""
        structure = self.structure
        if structure is not None:
            structure.end()
        envelope = Envelope(ctx.sender, ctx.recipients, ctx._edits().actions)
        return Message(self.headers, self.spool, structure, envelope, self.pgp)


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

    _incoming: _Incoming | None = None
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

    def _begun(self, ctx: Context) -> _Incoming:
        if self._incoming is None:
            self._incoming = _Incoming(self, self.body_wanted)
            ctx.on_end(self._ended)
        return self._incoming

    def _ended(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.spool.close()

    @final
    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        """Keep a header field."""
        incoming = self._incoming or self._begun(ctx)
        field = Field(header.raw)
        incoming.fields.append(field)
        incoming.size += len(field.raw)

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
        message = incoming.message(ctx)
        plain = Context.__new__(Context)
        plain._transaction = ctx._transaction
        try:
            response = await self.message(plain, message)
        finally:
            plain._transaction = None
        if response in (None, CONTINUE, ACCEPT):
            await message.settle()
            _queue_edits(ctx, message)
        return response


def _queue_edits(ctx: EndOfMessageContext, message: Message) -> None:
    edits, headers = ctx._edits(), message.headers
    if headers.changed:
        postfix, spaced = ctx.mta.kind == "postfix", edits.leading_space
        asked = plan(headers.original, headers.entries(), postfix=postfix, leading_space=spaced)
        queue(asked, edits)
        for field in asked.misplaced:
            what = f"header field {field.name!a:.80} is above all others: fields below its place cannot be moved on this MTA"
            ctx._live().source.report_misuse(what)
    if message.body_changed:
        edits.replace_body(message.new_body())
    message.queue_envelope().queue(edits)
