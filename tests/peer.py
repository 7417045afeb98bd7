"""An MTA of nothing but octets, and filters that do as a test says: what the tests of the server's side are written with.

The transport is a fake: a test sees every write, and decides when octets are read, taken, or lost.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, cast

from aiomilter import Milter, no_reply, serve
from aiomilter._connection.transport import MilterProtocol
from aiomilter.observe import (
    AnswerSent,
    CallbackFailed,
    CallbackTimedOut,
    ClientRefused,
    ConnectionRefused,
    EventSeen,
    InternalError,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    LoopStalled,
    MessageEnded,
    Misuse,
    Observer,
    ObserverEvent,
    PeerError,
    ResourceExhausted,
    TemporaryFailed,
    Where,
)
from aiomilter.server import Factory, Server
from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, NO_FLAGS, NR_FLAGS, Command, Stage
from aiomilter.wire.events import Connect, Family, Negotiate
from aiomilter.wire.framing import FrameBuffer, packet
from aiomilter.wire.macros import Macros
from aiomilter.wire.replies import Reply
from aiomilter.wire.text import pack_strings
from tests.patience import PATIENCE

CALLBACKS: Final = (
    "negotiate",
    "connect",
    "helo",
    "envfrom",
    "envrcpt",
    "data",
    "header",
    "eoh",
    "body",
    "eom",
    "unknown",
    "abort",
    "close",
)
_ALONE: Final = frozenset({"data", "eoh", "eom", "abort", "close"})
"""Callbacks that get the context only."""


# ------------------------------------------------------------------------------------------------------------ packets


def offer(actions: int = ALL_ACTIONS, protocol: int = ALL_PROTOCOL, version: int = 6) -> bytes:
    return packet(Command.OPTNEG, Negotiate(version, actions, protocol).payload)


def macros(command: str, **values: str) -> bytes:
    named = {name if len(name) == 1 else f"{{{name}}}": value for name, value in values.items()}
    return packet(Command.MACRO, Macros(ord(command), named).payload)


def connect(hostname: str = "client.example", address: str = "192.0.2.1") -> bytes:
    return packet(Command.CONNECT, Connect(hostname, Family.INET, 40000, address).payload)


def helo(name: str = "client.example") -> bytes:
    return packet(Command.HELO, pack_strings(name))


def mail(sender: str = "<alice@example.org>", *params: str) -> bytes:
    return packet(Command.MAIL, pack_strings(sender, *params))


def rcpt(recipient: str = "<bob@example.net>", *params: str) -> bytes:
    return packet(Command.RCPT, pack_strings(recipient, *params))


def header(name: str = "Subject", value: str = "hello") -> bytes:
    return packet(Command.HEADER, pack_strings(name, value))


def body(octets: bytes = b"Hello\r\n") -> bytes:
    return packet(Command.BODY, octets)


def unknown(line: str = "XYZZY") -> bytes:
    return packet(Command.UNKNOWN, pack_strings(line))


DATA: Final = packet(Command.DATA)
EOH: Final = packet(Command.EOH)
EOM: Final = packet(Command.BODYEOB)
ABORT: Final = packet(Command.ABORT)
QUIT: Final = packet(Command.QUIT)
QUIT_NC: Final = packet(Command.QUIT_NC)
STAGE_PACKETS: Final[Mapping[Stage, bytes]] = {
    Stage.CONNECT: connect(),
    Stage.HELO: helo(),
    Stage.MAIL: mail(),
    Stage.RCPT: rcpt(),
    Stage.DATA: DATA,
    Stage.HEADER: header(),
    Stage.EOH: EOH,
    Stage.BODY: body(),
    Stage.EOM: EOM,
    Stage.UNKNOWN: unknown(),
}
MESSAGE: Final = mail() + rcpt() + DATA + header() + EOH + body() + EOM
OPENING: Final = offer() + connect() + helo()
ONLY_BASIC: Final = ALL_PROTOCOL & ~NR_FLAGS & ~NO_FLAGS
"""What an MTA may offer that must send all, and have an answer to all."""


def pieces(octets: bytes) -> list[bytes]:
    """Each packet by itself; what is no whole packet comes last."""
    found = []
    while len(octets) > 4 and 0 < (length := int.from_bytes(octets[:4], "big")) <= len(octets) - 4:
        found.append(octets[: 4 + length])
        octets = octets[4 + length :]
    return [*found, octets] if octets else found


def codes(octets: bytes) -> str:
    """What was answered, a letter a packet."""
    return "".join(code for code, _ in frames(octets))


def frames(octets: bytes) -> list[tuple[str, bytes]]:
    """What was answered, code and payload a packet."""
    buffer = FrameBuffer(1 << 20)
    buffer.feed(octets)
    found = []
    while (frame := buffer.next_frame()) is not None:
        found.append((chr(frame[0]), frame[1]))
    assert not len(buffer), "expected whole packets"
    return found


# ------------------------------------------------------------------------------------------------------------- filters


class Scripted(Milter):
    """Notes what it is told and does what ``play`` says; its subclasses, by :func:`filter_class`, have callbacks.

    What ``play`` has for a callback is returned; an exception is raised; a function is called with filter, context and
    event first, and what that gives is awaited if it can be.
    """

    play: ClassVar[Mapping[str, Any]] = {}
    told: ClassVar[list[tuple[str, Any]]]
    made: ClassVar[list["Scripted"]]

    def __init__(self) -> None:
        self.made.append(self)

    async def said(self, name: str, ctx: Any, event: Any) -> Any:
        self.told.append((name, event))
        answer = self.play.get(name)
        if inspect.isfunction(answer):
            answer = answer(self, ctx, event)
            if isinstance(answer, Awaitable):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


def filter_class(
    play: Mapping[str, Any] | None = None,
    *,
    callbacks: Iterable[str] = CALLBACKS[1:],
    silent: Iterable[str] = (),
    **attributes: Any,
) -> type[Scripted]:
    """Make a filter.

    Args:
        play: What it does, by callback.
        callbacks: Those it overrides.
        silent: Those of them marked ``@no_reply``.
        attributes: Of the class.
    """
    members = {name: _callback(name) for name in callbacks}
    for name in silent:
        members[name] = no_reply(members[name])
    told: list[tuple[str, Any]] = []
    return type("Filter", (Scripted,), {**members, "play": play or {}, "told": told, "made": [], **attributes})


def _callback(name: str) -> Callable[..., Any]:
    if name in _ALONE:

        async def alone(self: Scripted, ctx: Any) -> Any:
            return await self.said(name, ctx, None)

        return alone

    async def callback(self: Scripted, ctx: Any, event: Any) -> Any:
        return await self.said(name, ctx, event)

    return callback


def names(filter_: type[Scripted]) -> list[str]:
    """Names of the callbacks that were called, in order."""
    return [name for name, _ in filter_.told]


def later(answer: Any = None) -> Callable[..., Awaitable[Any]]:
    """Answer after a turn of the loop: the callback suspends."""

    async def wait(filter_: Any, ctx: Any, event: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return wait


class Gate:
    """A place where a callback waits until the test opens it."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.left: list[str] = []

    def __call__(self) -> Callable[..., Awaitable[Any]]:
        """Return what to put into a play."""

        async def wait(filter_: Any, ctx: Any, event: Any) -> Any:
            self.reached.set()
            try:
                await self.opened.wait()
            except BaseException as error:
                self.left.append(type(error).__name__)
                raise
            self.left.append("opened")
            return self.answer

        return wait


class Watcher(Observer):
    """An observer that keeps what it hears."""

    debug: bool = False

    def __init__(self, debug: bool = False) -> None:
        self.debug = debug
        self.all: list[ObserverEvent] = []
        self.heard: list[tuple[str, Any]] = []
        self.failures: list[tuple[Where, str, BaseException | None]] = []
        self.remarks: list[str] = []
        self.messages: list[MessageEnded] = []
        self.events: list[object] = []
        self.answers: list[str] = []
        self.stalls: list[LoopStalled] = []

    def lifecycle(self, event: Lifecycle) -> None:
        self.all.append(event)
        listener = event.where.listener
        if event.kind is LifecycleKind.LISTENER_STARTED:
            self.heard.append(("started", (listener, "all addresses" in event.what)))
        elif event.kind is LifecycleKind.LISTENER_STOPPED:
            self.heard.append(("stopped", listener))
        elif event.kind.endswith("_failed"):
            self.failures.append((event.where, event.what, event.error))
        elif event.kind is LifecycleKind.RELOAD_CANCELLED:
            self.remarks.append(event.what)
        else:
            self.heard.append(("noted", event.what))

    def event_seen(self, event: EventSeen) -> None:
        self.events.append(event.event)

    def answer_sent(self, event: AnswerSent) -> None:
        self.answers.append(event.answer)

    def client_refused(self, event: ClientRefused) -> None:
        self.all.append(event)
        self.heard.append(("refused", event.answer))

    def message_ended(self, event: MessageEnded) -> None:
        self.all.append(event)
        self.messages.append(event)

    def _fail(self, event: CallbackFailed | CallbackTimedOut | InternalError | LimitReached) -> None:
        self.all.append(event)
        self.failures.append((event.where, event.what, getattr(event, "error", None)))

    def callback_failed(self, event: CallbackFailed) -> None:
        self._fail(event)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        self._fail(event)

    def internal_error(self, event: InternalError) -> None:
        self._fail(event)

    def limit_reached(self, event: LimitReached) -> None:
        if event.limit in (Limit.EDITS, Limit.EDITS_SIZE, Limit.NEW_BODY_SIZE):
            self._fail(event)
        else:
            self._remark(event)

    def _remark(self, event: Any) -> None:
        self.all.append(event)
        self.remarks.append(event.what)

    def temporary_failed(self, event: TemporaryFailed) -> None:
        self._remark(event)

    def misuse(self, event: Misuse) -> None:
        self._remark(event)

    def peer_error(self, event: PeerError) -> None:
        self._remark(event)

    def connection_refused(self, event: ConnectionRefused) -> None:
        self._remark(event)

    def resource_exhausted(self, event: ResourceExhausted) -> None:
        self._remark(event)

    def loop_stalled(self, event: LoopStalled) -> None:
        self.all.append(event)
        self.stalls.append(event)


# ------------------------------------------------------------------------------------------------------------ the peer


class Wire(asyncio.Transport):
    """The filter's end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.protocol: MilterProtocol
        self.writes: list[bytes] = []
        self.written_at: list[float] = []
        self.reading = True
        self.closing = False
        self.aborted = False
        self.lost = False
        self.stalled = False
        """The peer takes nothing more: what is written stays."""
        self.size = 0
        """Octets that stay."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing, "written after close"
        self.writes.append(bytes(data))
        self.written_at.append(self.loop.time())
        if self.stalled:
            self.size += len(data)
            if self.size > 65536 >= self.size - len(data):
                self.protocol.pause_writing()

    def take(self) -> None:
        """Take what stays."""
        over, self.size, self.stalled = self.size > 65536, 0, False
        if over:
            self.protocol.resume_writing()
        if self.closing:
            self._lose_soon()

    def take_some(self, octets: int) -> None:
        """Take some of what stays, and no more for now."""
        over, self.size = self.size > 65536, self.size - octets
        if over and self.size <= 16384:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.size

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.size:
                self._lose_soon()

    def abort(self) -> None:
        self.aborted = True
        self.closing = True
        self._lose_soon()

    def _lose_soon(self) -> None:
        self.loop.call_soon(self.lose)

    def lose(self) -> None:
        if not self.lost:
            self.lost = self.closing = True
            self.protocol.connection_lost(None)


class Peer:
    """An MTA."""

    def __init__(self, server: Server) -> None:
        self.wire = Wire()
        self.wire.protocol = self.protocol = cast(MilterProtocol, server.accept())
        self._loop = asyncio.get_running_loop()
        self._pending = 1
        self._loop.call_soon(self._made)

    def _made(self) -> None:
        self._pending -= 1
        self.protocol.connection_made(self.wire)

    def _deliver(self, data: bytes) -> None:
        self._pending -= 1
        if not self.wire.closing:
            self.protocol.data_received(data)

    def timers(self) -> list[tuple[float, asyncio.TimerHandle]]:
        """Return a list that is to have the timers that are armed from now on, each with its delay."""
        armed: list[tuple[float, asyncio.TimerHandle]] = []

        class Noting(type(self.protocol)):  # type: ignore[misc]  # what serves the connection, with one method more
            __slots__ = ()

            def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
                handle: asyncio.TimerHandle = super().call_later(delay, callback)
                armed.append((delay, handle))
                return handle

        self.protocol.__class__ = Noting
        return armed

    def write(self, octets: bytes, *, size: int = 0) -> None:
        """Send octets, in pieces of ``size`` if given, each read by itself."""
        for start in range(0, len(octets), size or len(octets) or 1):
            self._pending += 1
            self._loop.call_soon(self._deliver, octets[start : start + size] if size else octets)

    async def send(self, octets: bytes, *, size: int = 0) -> str:
        """Send octets, wait until all callbacks have ended, and return the codes of what was answered to them."""
        before = len(self.wire.writes)
        self.write(octets, size=size)
        await self.quiet()
        return codes(b"".join(self.wire.writes[before:]))

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(PATIENCE):
            while (
                self._pending
                or self.protocol.waiting
                or (self.wire.closing and not self.wire.lost and not self.wire.size)
            ):
                await asyncio.sleep(0)

    async def send_each(self, octets: bytes) -> str:
        """Send packet by packet, each after the answer to the one before, and return what was answered."""
        return "".join([await self.send(piece) for piece in pieces(octets)])

    def hang_up(self) -> None:
        """Close without a word."""
        self._loop.call_soon(self.wire.lose)

    @property
    def octets(self) -> bytes:
        """All that was answered."""
        return b"".join(self.wire.writes)

    @property
    def answers(self) -> str:
        """The codes of all that was answered."""
        return codes(self.octets)


class Scene:
    """A server without sockets, and the loop it runs in."""

    def __init__(self, server: Server, watcher: Watcher) -> None:
        self.server = server
        self.watcher = watcher

    def peer(self) -> Peer:
        return Peer(self.server)

    async def opened(self, octets: bytes = OPENING) -> Peer:
        """A peer that has said as much."""
        peer = self.peer()
        await peer.send(octets)
        return peer


@asynccontextmanager
async def serving(factory: Factory, **options: Any) -> AsyncIterator[Scene]:
    """Serve a filter to peers; fail if the loop saw an exception, or anything is left at the end."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    watcher = options.pop("observer", None) or Watcher()
    server = serve(factory, "inet:0@127.0.0.1", observer=watcher, **options)
    await server.start(listen=False)
    try:
        yield Scene(server, watcher)
        async with asyncio.timeout(PATIENCE):
            await server.close()
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        assert not left, f"tasks are left: {left}"
        assert not server._connections
        assert not server._memory.used
        assert not server._memory.messages
        assert not contexts, contexts
    finally:
        async with asyncio.timeout(PATIENCE):
            await server.close()
        loop.set_exception_handler(None)


REPLY: Final = Reply(550, "5.7.1", "not here")
