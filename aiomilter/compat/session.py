"""One connection with an MTA under libmilter's rules, and what calls a classic filter's callbacks in it.

The order of the conversation is data (:data:`aiomilter.wire.state.LIBMILTER`), and the driver is the native one; what stands
here is what the answers of a classic filter mean, and what becomes of its failures.
"""

import atexit
import gc
import io
import os
import socket
import sys
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from inspect import iscoroutine
from operator import index as whole
from types import TracebackType
from typing import Any, ClassVar, Final, NoReturn, Protocol, cast

from aiomilter._address_hints import MAX_UNIX_PATH
from aiomilter._connection.dispatch import DispatchEntry, connection_callback
from aiomilter._connection.native import MUCH, NativeAnswering
from aiomilter._connection.session import Session
from aiomilter.compat.context import Context, RawReply, error, strict
from aiomilter.compat.names import MODULES
from aiomilter.handler import CALLBACKS
from aiomilter.wire.connection import OutOfOrder, Repeated
from aiomilter.wire.constants import MAX_VERSION, MIN_VERSION, NR_FLAGS, V1_ACTIONS, V1_PROTOCOL, Stage
from aiomilter.wire.constants import Protocol as Flag
from aiomilter.wire.events import BodyChunk, Connect, EndOfMessage, Family, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer, Wants
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Verdict
from aiomilter.wire.state import LIBMILTER, Rules, ends_message

__all__ = ["Callbacks", "ClassicAnswering", "ClassicHandler", "end_child", "status_of"]

_NOREPLY: Final = 7
_ALL_OPTS: Final = 10
_VERDICTS: Final[dict[int, Verdict]] = {0: CONTINUE, 1: REJECT, 2: DISCARD, 3: ACCEPT, 4: TEMPFAIL, 8: SKIP}
_UNOFFERED: Final = 0x70000000
"""Bits of an offer that are no steps: sizes of data."""
_NAME_SIZE: Final = 40
_STAGE_OF_LIST: Final = {stage.symlist: stage for stage in Stage if stage.symlist is not None}
_AF: Final = {
    Family.INET: int(socket.AF_INET),
    Family.INET6: int(socket.AF_INET6),
    Family.UNIX: int(socket.AF_UNIX),
}


@dataclass(slots=True)
class Callbacks:
    """What a program has registered: the callbacks by the names that libmilter's have, each called with a context first.

    Args:
        name: Of the filter, for replies to exceptions.
        actions: Bits of ``ADDHDRS`` and so on; used only where there is no ``negotiate``.
        policy: The answer to an exception: ``CONTINUE``, ``REJECT``, ``TEMPFAIL`` or ``ACCEPT``.
    """

    name: str = "pymilter"
    actions: int = 0
    policy: int = 4
    negotiate: Callable[..., Any] | None = None
    connect: Callable[..., Any] | None = None
    helo: Callable[..., Any] | None = None
    envfrom: Callable[..., Any] | None = None
    envrcpt: Callable[..., Any] | None = None
    data: Callable[..., Any] | None = None
    header: Callable[..., Any] | None = None
    eoh: Callable[..., Any] | None = None
    body: Callable[..., Any] | None = None
    eom: Callable[..., Any] | None = None
    unknown: Callable[..., Any] | None = None
    abort: Callable[..., Any] | None = None
    close: Callable[..., Any] | None = None


class Settling(Protocol):
    """What a channel adds for classic filters."""

    async def settle(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a callback that is a coroutine on the event loop and return its answer."""


class _Close:
    """An answer that ends the connection without an answer."""


_CLOSE: Final = _Close()


def _end(session: Session, event: EndOfMessage) -> DispatchEntry | None:
    """Return the entry of the end of a message; None if it was answered."""
    if session.give_deferred(Stage.EOM):
        return None
    cast(ClassicAnswering, session.answering).before_end = len(session.out)
    return session.dispatch.envelope[EndOfMessage]


class ClassicAnswering:
    """The :class:`aiomilter._connection.session.Answering` of classic filters, under libmilter's rules.

    Args:
        session: Of the connection; its handlers are :class:`ClassicHandler`.
    """

    __slots__ = ("before_end", "forked", "offered", "reply", "session")
    rules: ClassVar[Rules] = LIBMILTER
    entry_for: ClassVar[Mapping[type, Callable[[Session, Any], DispatchEntry | None]]] = {
        Mail: Session.mail,
        Rcpt: Session.rcpt,
        EndOfMessage: _end,
    }

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self.offered: Negotiate | None = None
        # What setreply() has set, until an answer uses it: even one to the next SMTP client of the connection.
        self.reply: RawReply | None = None
        # Whether this is a copy, in a process that a callback has forked: it ends with the callback.
        self.forked: bool = False
        # Packets that waited to leave when the end of the message came.
        self.before_end: int = 0

    def symbol(self, name: str) -> str | None:
        """Return the value of a macro by its exact name."""
        return self.session.wire.macros.symbol(name)

    def send(self, octets: bytes) -> None:
        """Have a packet leave with the next that is written."""
        self.session.out.append(octets)

    def flush(self) -> None:
        """Write what waits to leave."""
        self.session.channel.flush()

    @property
    def settling(self) -> Settling:
        """What runs coroutines."""
        return cast(Settling, self.session.channel)

    @property
    def _handler(self) -> "ClassicHandler":
        return cast(ClassicHandler, self.session.handler)

    def filter_name(self) -> str:
        """Return the name that the program has registered."""
        return self._handler.name

    def begin(self) -> None:
        """Give the handler of a new SMTP connection its context."""
        agreement = self.session.agreement
        self._handler.begin(self, 0 if agreement is None else agreement.actions)

    async def negotiate(self, offer: Negotiate) -> tuple[Agreement, bytes] | None:
        """Return what is agreed on, and the packet that says so; None to close the connection."""
        if offer.version < MIN_VERSION:
            return None
        self.session.callback = "negotiate"
        self.offered = offer = Negotiate(offer.version, offer.actions or V1_ACTIONS, offer.protocol or V1_PROTOCOL)
        agreement = await self._handler.agree(offer)
        if agreement is None:
            return None
        self._handler.context.agreed(agreement.actions)
        return agreement, packet(NegotiateAnswer.CODE, agreement.answer.payload)

    async def call(self, stage: Stage, *args: object) -> Any:
        """Call the callback of a stage and return its answer."""
        session = self.session
        session.callback = CALLBACKS[stage]
        callback = connection_callback(session.handler, stage)
        try:
            response = None if callback is None else await callback(None, *args)
        except CancelledError as error:
            response = self.failed(error)
        return session.resumed(response) if session.suspended else response

    async def call_last(self, name: str) -> None:
        """Call ``abort`` or ``close``; no answer is waited for."""
        session = self.session
        if session.handler is None:
            return
        if self.forked:
            end_child()
        session.callback = name
        # At the end of a server, a callback that waits is cancelled; the others that a connection ends with follow.
        with suppress(CancelledError):
            await getattr(session.handler, name)(None)
        if self.forked:
            end_child()
        if session.suspended:
            session.resumed(None)

    def failed(self, error: BaseException) -> Any:
        """Answer for a cancellation that was not asked for; nothing else leaves a :class:`ClassicHandler`."""
        return self._native.failed(error)

    @property
    def _native(self) -> NativeAnswering:
        """What a cancelled or late callback answers is the same as for native filters."""
        return NativeAnswering(self.session)

    def answer(self, stage: Stage, response: Any, answer: bytes) -> None:
        """Send an answer that is not CONTINUE, or defer it where the stage has none."""
        session = self.session
        if self.forked:
            end_child()
        if isinstance(response, _Close):
            session.over = True
        elif not isinstance(response, Verdict | RawReply):
            self._native.answer(stage, response, answer)
        elif answer:
            session.out.append(response.packet)
            if response is not SKIP and ends_message(stage, response, LIBMILTER):
                session.decide(response)
        elif response is not SKIP:
            self._native.defer(stage, response)

    def decided(self, response: Any) -> Coroutine[Any, Any, None] | None:
        """Answer the end of the message; return what is left to be awaited where a lot was written."""
        session = self.session
        if self.forked:
            end_child()
        if response is None:
            response = CONTINUE
        if isinstance(response, Verdict | RawReply):
            edits = session.out[self.before_end :]
            session.out.append(response.packet)
            session.end_message(response, edits)
            session.wire.end_message()
            if session.congested or (len(edits) > 1 and sum(map(len, session.out)) > MUCH):
                return session.breathe()
        elif isinstance(response, _Close):
            session.over = True
        else:
            self._native.answer(Stage.EOM, response, CONTINUE.packet)
        return None

    async def last_of_body(self, event: BodyChunk) -> None:
        """Handle octets of the body in the packet that ends the message: what they answer is the answer to that."""
        response = await self.call(Stage.BODY, event.chunk)
        if response is not None and response is not SKIP:
            self.session.deferred = response
            self.session.skip_body()

    async def unknown(self, event: Unknown) -> None:
        """Handle an SMTP command that the MTA does not know."""
        session = self.session
        session.answer_stage(Stage.UNKNOWN, await self.call(Stage.UNKNOWN, event), session.answers[Stage.UNKNOWN])

    async def out_of_order(self, event: OutOfOrder) -> None:
        """Leave what came out of order without an answer."""

    async def repeated(self, event: Repeated) -> None:
        """Leave it without an answer; under libmilter's rules there is none."""


class ClassicHandler:
    """Calls the callbacks of one SMTP connection, and turns what they return or raise into answers.

    Its methods never raise but for a cancellation.

    Args:
        callbacks: What is called; looked up for each call, so that a program may register others at any time.
    """

    wants: Final = Wants(frozenset(Stage))
    on_error: Final[None] = None
    on_timeout: Final[None] = None

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._session: ClassicAnswering
        self.context: Context
        # The callbacks that do without a reply, whether the MTA knows of it or not.
        self._quiet: frozenset[str] = frozenset()
        # Whether the program knows of this connection.
        self._told = False

    @property
    def name(self) -> str:
        """The name that the program has registered."""
        return self._callbacks.name

    def begin(self, session: ClassicAnswering, actions: int) -> None:
        """Begin an SMTP connection."""
        self._session = session
        self.context = Context(session)
        self.context.agreed(actions)

    # --------------------------------------------------------------------------------------------------- negotiation

    async def negotiate(self, _: object, offer: Negotiate) -> None:
        """Do nothing: :meth:`agree` does."""

    async def agree(self, offer: Negotiate) -> Agreement | None:
        """Return what is agreed on; None to close the connection."""
        callbacks = self._callbacks
        shown = (offer.protocol | NR_FLAGS) & ~_UNOFFERED
        # All that is offered, and every stage, since pymilter gives libmilter a callback of its own for each.
        actions, protocol = offer.actions, int(Flag.SKIP) & offer.protocol
        if callbacks.negotiate is not None:
            self._told = True
            options = [offer.actions, shown, 0, 0]
            try:
                answer = callbacks.negotiate(self.context, options)
                if iscoroutine(answer):
                    answer = await self._session.settling.settle(answer)
                if not isinstance(answer, int):
                    raise _not_int("negotiate")
                if answer == 0:
                    try:
                        actions, protocol, *_ = [whole(option) & 0xFFFFFFFF for option in options[:4]]
                    except (TypeError, ValueError) as failure:
                        _show(failure.with_traceback(None))
                        return None
                elif answer != _ALL_OPTS:
                    return None
            except CancelledError:
                return None  # at the end of the server
            except BaseException as failure:  # noqa: BLE001 - whatever leaves a callback is its failure
                if self._session.forked:
                    end_child(failure)
                _show(failure)
                return None
        if actions & ~offer.actions or protocol & ~shown:
            return None
        self._quiet = _quiet(protocol)
        lists = tuple(sorted(self.context.lists.items()))
        return _agreement(offer, actions, protocol & offer.protocol, lists)

    # ----------------------------------------------------------------------------------------------------- callbacks

    async def connect(self, _: object, event: Connect) -> Any:
        """Call ``connect`` with host, family and address."""
        callback = self._callbacks.connect
        try:
            address = _address(event)
        except ValueError:
            return _CLOSE
        if callback is None:
            return None
        try:
            strict(event.hostname)
            if event.family is Family.UNIX:
                strict(event.raw_address)
        except UnicodeDecodeError as failure:
            return self._untrapped(failure.with_traceback(None))
        self._told = True
        try:
            answer = callback(self.context, event.hostname, _AF.get(event.family, 0), address)
        except BaseException as failure:  # noqa: BLE001 - see _untrapped
            return self._untrapped(failure)
        if answer.__class__ is int and (not answer or (answer == _NOREPLY and "connect" in self._quiet)):
            return None
        return await self._answer("connect", answer)

    async def helo(self, _: object, event: Helo) -> Any:
        """Call ``helo`` with the name."""
        return await self._ask_text("helo", event.name)

    async def unknown(self, _: object, event: Unknown) -> Any:
        """Call ``unknown`` with the line."""
        return await self._ask_text("unknown", event.line)

    async def envfrom(self, _: object, event: Mail) -> Any:
        """Call ``envfrom`` with the octets of sender and parameters."""
        return await self._ask("envfrom", *map(_octets, (event.path, *event.params)))

    async def envrcpt(self, _: object, event: Rcpt) -> Any:
        """Call ``envrcpt`` with the octets of recipient and parameters."""
        return await self._ask("envrcpt", *map(_octets, (event.path, *event.params)))

    async def data(self, _: object) -> Any:
        """Call ``data``."""
        return await self._ask("data")

    async def header(self, _: object, event: Header) -> Any:
        """Call ``header`` with the name, and the octets of the value."""
        callback = self._callbacks.header
        if callback is None:
            return None
        name, value, _ = event
        try:
            strict(name)
        except UnicodeDecodeError as failure:
            return self._untrapped(failure.with_traceback(None))
        try:
            answer = callback(self.context, name, value.encode("utf-8", "surrogateescape"))
        except BaseException as failure:  # noqa: BLE001 - see _untrapped
            return self._untrapped(failure)
        if answer.__class__ is int and (not answer or (answer == _NOREPLY and "header" in self._quiet)):
            return None
        return await self._answer("header", answer)

    async def eoh(self, _: object) -> Any:
        """Call ``eoh``."""
        return await self._ask("eoh")

    async def body(self, _: object, chunk: bytes) -> Any:
        """Call ``body`` with a piece of it."""
        return await self._ask("body", chunk)

    async def eom(self, _: object) -> Any:
        """Call ``eom``, while the message can be changed."""
        self.context.at_end(True)
        try:
            return await self._ask("eom")
        finally:
            self.context.at_end(False)

    async def abort(self, _: object) -> None:
        """Call ``abort``; what it answers is ignored."""
        self._leave(await self._ask("abort"))

    async def close(self, _: object) -> None:
        """Call ``close``; what it answers is ignored."""
        try:
            if self._told:
                self._leave(await self._ask("close"))
        finally:
            self.context.die()

    def _leave(self, answer: Any) -> None:
        """Keep a reply that nothing has used: the next answer of its class takes it."""
        if isinstance(answer, RawReply):
            self._session.reply = answer

    async def _ask_text(self, name: str, text: str) -> Any:
        if getattr(self._callbacks, name) is None:
            return None
        try:
            strict(text)
        except UnicodeDecodeError as failure:
            return self._untrapped(failure.with_traceback(None))
        return await self._ask(name, text)

    async def _ask(self, name: str, *args: object) -> Any:
        callback = getattr(self._callbacks, name)
        if callback is None:
            return None
        self._told = True
        try:
            answer = callback(self.context, *args)
        except BaseException as failure:  # noqa: BLE001 - see _untrapped
            return self._untrapped(failure)
        if answer.__class__ is int and (not answer or (answer == _NOREPLY and name in self._quiet)):
            return None
        return await self._answer(name, answer)

    async def _answer(self, name: str, answer: Any) -> Any:
        """Return what a callback's answer means on the wire; None for CONTINUE."""
        if iscoroutine(answer):
            try:
                answer = await self._session.settling.settle(answer)
            except CancelledError:
                raise
            except BaseException as failure:  # noqa: BLE001 - see _untrapped
                return self._untrapped(failure)
        verdict = _VERDICTS.get(answer) if isinstance(answer, int) else None
        if verdict is CONTINUE or (answer == _NOREPLY and name in self._quiet and isinstance(answer, int)):
            return None
        if verdict is None:
            return self._untrapped(_not_int(name))
        reply = self._session.reply
        if reply is not None and (
            (verdict is REJECT and reply.code // 100 == 5) or (verdict is TEMPFAIL and reply.code // 100 == 4)
        ):
            self._session.reply = None
            return reply
        return verdict

    def _untrapped(self, failure: BaseException) -> Any:
        """Show what left a callback, and return what the policy answers."""
        if self._session.forked:
            end_child(failure)
        _show(failure)
        policy = _VERDICTS[self._callbacks.policy]
        if policy is CONTINUE or policy is ACCEPT:
            return None if policy is CONTINUE else ACCEPT
        # It takes the place of what was set, and is used up at once.
        self._session.reply = None
        code = "554" if policy is REJECT else "451"
        name = self._callbacks.name.encode("utf-8", "surrogateescape")[:_NAME_SIZE].decode("utf-8", "surrogateescape")
        return RawReply(code, f"{code} {code[0]}.3.0 pymilter: untrapped exception in {name}")


# Both are kept, since an operation on a flag costs as much as a call: without this a connection costs a third more.
@lru_cache(maxsize=64)
def _quiet(protocol: int) -> frozenset[str]:
    """Return the names of the callbacks that do without a reply."""
    return frozenset(name for stage, name in CALLBACKS.items() if stage.nr_flag & protocol)


@lru_cache(maxsize=64)
def _agreement(
    offer: Negotiate, actions: int, protocol: int, lists: tuple[tuple[int, tuple[str, ...]], ...]
) -> Agreement:
    """Return what is agreed on."""
    return Agreement(
        NegotiateAnswer(
            min(MAX_VERSION, offer.version),
            actions,
            protocol,
            {_STAGE_OF_LIST[number]: names for number, names in lists},
        ),
        offer,
        silent=frozenset(stage for stage in Stage if stage.nr_flag & protocol),
        declined=frozenset(stage for stage in Stage if stage.no_flag & protocol),
    )


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _address(event: Connect) -> Any:
    """Return the client's address as ``socket`` has it; None if there is none.

    Raises:
        ValueError: It is none of its family.
    """
    text = event.raw_address
    try:
        match event.family:
            case Family.INET:
                return socket.inet_ntoa(socket.inet_aton(text)), event.port
            case Family.INET6:
                text = text[5:] if text[:5].lower() == "ipv6:" else text
                return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text)), event.port, 0, 0
            case Family.UNIX if len(_octets(text)) > MAX_UNIX_PATH:
                raise ValueError("the path is too long")
            case Family.UNIX:
                return text
            case Family.UNKNOWN:
                return None
    except OSError as failure:
        raise ValueError(str(failure)) from failure


def _not_int(name: str) -> error:
    return error(f"The {name} callback must return int")


def end_child(failure: BaseException | None = None) -> NoReturn:
    """End this process, which a callback has forked, as Python ends a program, but say nothing to the MTA.

    In pymilter ``sys.exit()`` does so; one that returns from its callback goes on as a second reader of the MTA's.

    Args:
        failure: What has left the callback.
    """
    status = 0
    try:
        if isinstance(failure, SystemExit):
            status = status_of(failure.code)
        elif failure is not None:
            status = 1
            _show(failure)
        atexit._run_exitfuncs()
        files: list[Any] = [found for found in gc.get_objects() if issubclass(type(found), io.IOBase)]
        for file in (*files, sys.stdout, sys.stderr):
            with suppress(Exception):  # it is closed, or full
                file.flush()
    finally:
        os._exit(status & 0xFF)


def status_of(code: object) -> int:
    """Return the exit status that Python makes of the argument of ``sys.exit``, printing what it prints."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    with suppress(AttributeError, OSError, ValueError):  # there is none, it is full, or closed
        sys.stderr.write(f"{code}\n")
    return 1


def _show(failure: BaseException) -> None:
    """Print what left a callback on stderr, as Python does, without the frames that are not the program's."""
    traceback = failure.__traceback__
    # The first frame is the one that has called; of the others the last one stays, whose ever it is.
    traceback = traceback and traceback.tb_next
    while traceback is not None and traceback.tb_next is not None and _ours(traceback):
        traceback = traceback.tb_next
    # Python prints the traceback that an exception holds, whatever it is given.
    sys.excepthook(type(failure), failure.with_traceback(traceback), traceback)


def _ours(traceback: TracebackType) -> bool:
    # A callback on the event loop is waited for by a future of a thread's.  What a program imports has the name it is known by.
    name = str(traceback.tb_frame.f_globals.get("__name__"))
    return name in MODULES or name.startswith(("aiomilter.", "concurrent.futures."))
