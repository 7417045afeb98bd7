"""Calling the callbacks of a classic filter, and making answers of what they return or raise."""

import socket
from asyncio import CancelledError
from collections.abc import Coroutine
from functools import lru_cache
from inspect import iscoroutine
from operator import index as whole
from typing import Any, Final, Protocol

from aiomilter._address_hints import MAX_UNIX_PATH
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.context import Context, Conversation, RawReply, error, strict
from aiomilter.compat.uncaught import end_child, show
from aiomilter.handler import CALLBACKS
from aiomilter.wire.constants import MAX_VERSION, NR_FLAGS, Stage
from aiomilter.wire.constants import Protocol as Flag
from aiomilter.wire.events import Connect, Family, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.negotiation import Agreement, NegotiateAnswer, Wants
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Verdict

__all__ = ["ClassicHandler", "CloseConnection", "Serving", "Settling"]

_NOREPLY: Final = 7
_ALL_OPTS: Final = 10
_VERDICTS: Final[dict[int, Verdict]] = {0: CONTINUE, 1: REJECT, 2: DISCARD, 3: ACCEPT, 4: TEMPFAIL, 8: SKIP}
_UNOFFERED: Final = 0x70000000
"""Bits of an offer that concern no stage: sizes of data."""
_NAME_SIZE: Final = 40
_STAGE_OF_LIST: Final = {stage.symlist: stage for stage in Stage if stage.symlist is not None}
_AF: Final = {
    Family.INET: int(socket.AF_INET),
    Family.INET6: int(socket.AF_INET6),
    Family.UNIX: int(socket.AF_UNIX),
}


class Settling(Protocol):
    """The channel of a session, as far as classic filters need more of it."""

    async def settle(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a callback that is a coroutine on the event loop and return its answer."""


class CloseConnection:
    """The answer of a stage that ends the connection without an answer."""


_CLOSE: Final = CloseConnection()


class Serving(Conversation, Protocol):
    """The conversation with an MTA, in which callbacks are called."""

    forked: bool
    """Whether this is the copy in a process that a callback has forked, which ends with the callback."""

    @property
    def settling(self) -> Settling:
        """The channel, which runs coroutines."""
        ...


class ClassicHandler:
    """Calls the callbacks of one SMTP connection, and turns what they return or raise into answers.

    Its methods raise nothing except for a cancellation.

    Args:
        callbacks: Looked up for each call, so that a program may register others at any time.
    """

    wants: Final = Wants(frozenset(Stage))
    on_error: Final[None] = None
    on_timeout: Final[None] = None

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._session: Serving
        self.context: Context
        # The callbacks that give no reply, whether the MTA knows of it or not.
        self._quiet: frozenset[str] = frozenset()
        # Whether the program knows of this connection.
        self._told = False

    @property
    def name(self) -> str:
        """The name that the program has registered."""
        return self._callbacks.name

    def begin(self, session: Serving, actions: int) -> None:
        """Begin an SMTP connection."""
        self._session = session
        self.context = Context(session)
        self.context.agreed(actions)

    # --------------------------------------------------------------------------------------------------- negotiation

    async def negotiate(self, _: object, offer: Negotiate) -> None:
        """Do nothing: :meth:`agree` does."""

    async def agree(self, offer: Negotiate) -> Agreement | None:
        """Return the agreement; None to close the connection."""
        callbacks = self._callbacks
        shown = (offer.protocol | NR_FLAGS) & ~_UNOFFERED
        # All offered actions and every stage, since pymilter gives libmilter a callback of its own for each.
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
                        show(failure.with_traceback(None))
                        return None
                elif answer != _ALL_OPTS:
                    return None
            except CancelledError:
                return None  # the server stops
            except BaseException as failure:  # noqa: BLE001 - whatever leaves a callback is its failure
                if self._session.forked:
                    end_child(failure)
                show(failure)
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
        if not name.isascii():
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
        """Keep a reply that no answer has used: the next answer of its class takes it."""
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
        """Return the answer on the wire for that of a callback; None for CONTINUE."""
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
        """Print what left a callback, and return the answer of the exception policy."""
        if self._session.forked:
            end_child(failure)
        show(failure)
        policy = _VERDICTS[self._callbacks.policy]
        if policy is CONTINUE or policy is ACCEPT:
            return None if policy is CONTINUE else ACCEPT
        # It replaces the reply that was set, and is used at once.
        self._session.reply = None
        code = "554" if policy is REJECT else "451"
        name = self._callbacks.name.encode("utf-8", "surrogateescape")[:_NAME_SIZE].decode("utf-8", "surrogateescape")
        return RawReply(code, f"{code} {code[0]}.3.0 pymilter: untrapped exception in {name}")


# Both are cached, since an operation on a flag costs as much as a call: without the caches a connection costs a third more.
@lru_cache(maxsize=64)
def _quiet(protocol: int) -> frozenset[str]:
    """Return the names of the callbacks that give no reply."""
    return frozenset(name for stage, name in CALLBACKS.items() if stage.nr_flag & protocol)


@lru_cache(maxsize=64)
def _agreement(
    offer: Negotiate, actions: int, protocol: int, lists: tuple[tuple[int, tuple[str, ...]], ...]
) -> Agreement:
    """Make the agreement."""
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
    """Return the client's address in the form of module ``socket``; None if there is no address.

    Raises:
        ValueError: It is not an address of its family.
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
