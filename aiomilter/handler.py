"""The base class of filters, and what a class asks of the MTA by the callbacks it overrides."""

import difflib
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ClassVar, Final, Protocol, TypeVar

from aiomilter.context import Context, EndOfMessageContext
from aiomilter.failures import FailurePolicy, check_answer
from aiomilter.wire.constants import STAGE_WORDS, Action, Stage, stage_hint
from aiomilter.wire.events import Connect, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.negotiation import Wants, canonical_macro, macro_lists
from aiomilter.wire.replies import BodyResponse, ConnectionResponse, Response, UnknownResponse

__all__ = ["CALLBACKS", "STAGE_OF", "Handler", "Milter", "no_reply", "overrides", "ready_method"]

NoReply = TypeVar("NoReply", bound=Callable[..., Coroutine[Any, Any, None]])

CALLBACKS: Final[Mapping[Stage, str]] = {
    Stage.CONNECT: "connect",
    Stage.HELO: "helo",
    Stage.MAIL: "envfrom",
    Stage.RCPT: "envrcpt",
    Stage.DATA: "data",
    Stage.HEADER: "header",
    Stage.EOH: "eoh",
    Stage.BODY: "body",
    Stage.EOM: "eom",
    Stage.UNKNOWN: "unknown",
}
"""The callback of each stage."""
STAGE_OF: Final[Mapping[str, Stage]] = {name: stage for stage, name in CALLBACKS.items()}
"""The stage of each callback that has one."""

_NAMES: Final = (*CALLBACKS.values(), "abort", "close", "negotiate")
# What others call them; compared without underscores, "on" and "handle".
_MISNAMED: Final = {word: CALLBACKS[stage] for word, stage in STAGE_WORDS.items()} | {"quit": "close"}
_MACRO_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_MAX_MACROS: Final = 50
"""Names that Sendmail takes in one list; it cuts off the rest without a word."""


class Handler(Protocol):
    """The interface that a connection calls on the object that handles it.

    A :class:`Milter` is one.  So is any object that has these members: several filters behind one connection, for example.

    ``wants`` says which of the callbacks with an answer are called, and whether they answer at all; the others need not do
    anything.  ``abort`` and ``close`` are always called, ``negotiate`` before all others.  Callbacks run one at a time; each
    is a coroutine function, or returns an awaitable.  The callbacks of :class:`Milter` document the answers.

    A handler of several filters may have an attribute ``acting``: the name of the filter that is called just now, or that has
    given the answer, for logs and observers; "" for none of them.  It may be read from any thread.  It may have a method
    ``hold_report(event, tell)``, called where observers want the report of a message: it returns that, or None if it
    calls ``tell`` with a function that returns it later."""

    @property
    def wants(self) -> Wants:
        """What to ask of the MTA; the same object for all handlers of a class, or tables are made for each connection."""
        ...

    @property
    def on_error(self) -> Response | FailurePolicy | None:
        """The answer when this handler fails; None leaves it to the server."""
        ...

    @property
    def on_timeout(self) -> Response | FailurePolicy | None:
        """The answer when a callback of this handler times out; None leaves it to the server."""
        ...

    async def negotiate(self, ctx: Context, offer: Negotiate, /) -> None:
        """Look at what the MTA offers, or raise :class:`NegotiationError`."""

    async def connect(self, ctx: Context, connect: Connect, /) -> ConnectionResponse | None:
        """Handle a new SMTP client."""

    async def helo(self, ctx: Context, helo: Helo, /) -> ConnectionResponse | None:
        """Handle HELO or EHLO."""

    async def envfrom(self, ctx: Context, mail: Mail, /) -> Response | None:
        """Handle the envelope sender."""

    async def envrcpt(self, ctx: Context, rcpt: Rcpt, /) -> Response | None:
        """Handle one envelope recipient."""

    async def data(self, ctx: Context, /) -> Response | None:
        """Handle DATA."""

    async def header(self, ctx: Context, header: Header, /) -> Response | None:
        """Handle one header field."""

    async def eoh(self, ctx: Context, /) -> Response | None:
        """Handle the end of the header section."""

    async def body(self, ctx: Context, chunk: bytes, /) -> BodyResponse | None:
        """Handle a piece of the body."""

    async def eom(self, ctx: EndOfMessageContext, /) -> Response | None:
        """Handle the end of the message."""

    async def unknown(self, ctx: Context, unknown: Unknown, /) -> UnknownResponse | None:
        """Handle an SMTP command that the MTA does not know."""

    async def abort(self, ctx: Context, /) -> None:
        """Clean up after a message without a verdict."""

    async def close(self, ctx: Context, /) -> None:
        """Clean up at the end of the connection."""


def no_reply(callback: NoReply) -> NoReply:
    """Mark a callback that never answers, so that the MTA does not wait for it.

    It has to return None.  If it answers all the same, or fails, that is logged and given at the next stage that has an
    answer.  Do not use it on ``eom``, or where the moment matters (greylisting, limits): the MTA may send the stage long
    after it happened.

    Source: libmilter/docs/xxfi_negotiate.html, SMFIP_NR_*; aiomilter/help/protocol.rst, "Protocol flags".
    """
    callback.__aiomilter_no_reply__ = True  # type: ignore[attr-defined]
    return callback


class Milter:
    """Base of every filter: override the callbacks you need, each ``async def``.

    In the order of the conversation: :meth:`connect`, :meth:`helo`; for each message :meth:`envfrom`, :meth:`envrcpt` for
    each recipient, :meth:`data`, :meth:`header` for each field, :meth:`eoh`, :meth:`body` for each piece, and :meth:`eom`,
    the one that can change the message; :meth:`close` at the end::

        class NotFromThere(Milter):
            async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
                return REJECT if mail.domain == "spam.example" else None

    One instance serves one SMTP connection, so its attributes are the connection's state; ``ctx.notes`` is the message's.
    Callbacks of one connection run one at a time; those of different connections side by side.  Returning None is the same as
    CONTINUE.  A callback that raises, or returns something that is not an answer there, gives ``on_error`` (TEMPFAIL unless
    set) and a log record.

    Attributes:
        macros: Names of macros to ask for by stage, beyond those the MTA sends anyway and ``ctx`` reads itself.
        leading_space: Ask for header fields exactly as they were; ``Header.raw`` is exact then, as DKIM needs it.
        rejected_recipients: Ask for the recipients that the MTA itself refuses, too.
        actions: Edits that this filter requires; an MTA that does not offer them is refused.  Other edits can be made as well,
            if the MTA offers them.
        on_error: The answer when this filter fails, see :func:`aiomilter.serve`; None leaves it to the server.
        on_timeout: The answer when a callback of this filter times out; None leaves it to the server.
    """

    macros: ClassVar[Mapping[Stage, tuple[str, ...]]] = {}
    leading_space: ClassVar[bool] = False
    rejected_recipients: ClassVar[bool] = False
    actions: ClassVar[Action | None] = None
    on_error: Response | FailurePolicy | None = None
    on_timeout: Response | FailurePolicy | None = None

    _wants: ClassVar[Wants]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the callbacks, and derive what to ask of the MTA.

        Raises:
            TypeError: A callback would never be called, or not as it expects.
        """
        super().__init_subclass__(**kwargs)
        for name in _NAMES:
            _check_callback(cls, name)
        for name, member in inspect.getmembers(cls, inspect.iscoroutinefunction):
            _check_name(cls, name, member)
        check_answer(f"{cls.__qualname__}.on_error", cls.on_error, none=True)
        check_answer(f"{cls.__qualname__}.on_timeout", cls.on_timeout, none=True)
        cls._wants = _read_wants(cls)

    @property
    def wants(self) -> Wants:
        """What this filter asks of the MTA, by the callbacks of its class."""
        return self._wants

    async def negotiate(self, ctx: Context, offer: Negotiate) -> None:
        """Look at what the MTA offers, first of all on a connection.

        Raise :class:`NegotiationError` to refuse the MTA; the connection is closed and the MTA takes its default action.

        Source: libmilter/docs/xxfi_negotiate.html.
        """

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        """Handle a new SMTP client, once per connection.

        ACCEPT: all mail of this client passes unchecked.  REJECT, TEMPFAIL, a Reply: all of it is refused; Sendmail uses its
        own text, Postfix refuses MAIL.

        Source: libmilter/docs/xxfi_connect.html; aiomilter/help/protocol.rst, "Answers by stage", as for all callbacks.
        """
        return None

    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse | None:
        """Handle HELO or EHLO; optional, may be repeated.

        The answers have the same effect as at :meth:`connect`.

        Source: libmilter/docs/xxfi_helo.html.
        """
        return None

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        """Handle the envelope sender; a message begins.

        ACCEPT, DISCARD: the message passes, or is dropped; no other callback is called for it.  REJECT, TEMPFAIL, a Reply: the
        sender is refused, and with it the message.

        Source: libmilter/docs/xxfi_envfrom.html.
        """
        return None

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        """Handle one envelope recipient.

        REJECT, TEMPFAIL, a Reply: this recipient only is refused.  ACCEPT, DISCARD: the whole message.

        Source: libmilter/docs/xxfi_envrcpt.html.
        """
        return None

    async def data(self, ctx: Context) -> Response | None:
        """Handle DATA, before the client sends the content.

        Source: libmilter/docs/xxfi_data.html.
        """
        return None

    async def header(self, ctx: Context, header: Header) -> Response | None:
        """Handle one header field, in the order of the message.

        Use ``header.text`` for rules, logs and databases: ``header.value`` may hold surrogates, for octets that are not UTF-8.

        Source: libmilter/docs/xxfi_header.html.
        """
        return None

    async def eoh(self, ctx: Context) -> Response | None:
        """Handle the end of the header section.

        Source: libmilter/docs/xxfi_eoh.html.
        """
        return None

    async def body(self, ctx: Context, chunk: bytes) -> BodyResponse | None:
        """Handle a piece of the body: 1 to 65535 octets, line ends as CRLF, cut anywhere; never called for an empty body.

        SKIP: the rest of the body is not sent; end of message follows.

        Source: libmilter/docs/xxfi_body.html.
        """
        return None

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        """Handle the end of the message: the only place where it can be changed.

        CONTINUE, ACCEPT: the message passes with the edits queued on ``ctx``.  Any other answer: it does not pass, and no
        edit is sent.

        Source: libmilter/docs/xxfi_eom.html.
        """
        return None

    async def unknown(self, ctx: Context, unknown: Unknown) -> UnknownResponse | None:
        """Handle an SMTP command that the MTA does not know; it fails anyway, and the answer chooses the text.

        Source: libmilter/docs/xxfi_unknown.html.
        """
        return None

    async def abort(self, ctx: Context) -> None:
        """Clean up after a message that ended without a verdict of this filter and before ``eom`` was done.

        Source: libmilter/docs/xxfi_abort.html.
        """

    async def close(self, ctx: Context) -> None:
        """Clean up at the end of the connection, once, always.

        Source: libmilter/docs/xxfi_close.html.
        """


def overrides(cls: type, name: str) -> bool:
    """Return whether a class has a callback of its own."""
    found = getattr(cls, name, None)
    return found is not None and found is not getattr(Milter, name)


def _check_callback(cls: type, name: str) -> None:
    callback = inspect.getattr_static(cls, name)
    if callback is inspect.getattr_static(Milter, name):
        return
    where = f"{cls.__qualname__}.{name}"
    if isinstance(callback, staticmethod | classmethod):
        callback = callback.__func__
        raise TypeError(f"{where}: expected a method of the instance, found a static or class method")
    if not inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"{where}: expected 'async def {name}', found {_kind_of(callback)}; "
            "for callbacks that block see aiomilter.compat"
        )
    expected = inspect.signature(getattr(Milter, name))
    try:
        inspect.signature(callback).bind(*expected.parameters)
    except TypeError:
        parameters = ", ".join(expected.parameters)
        raise TypeError(f"{where}: expected to take ({parameters}), found {inspect.signature(callback)}") from None
    if getattr(callback, "__aiomilter_no_reply__", False) and name not in _SILENCEABLE:
        raise TypeError(f"{where}: expected @no_reply on a stage that the MTA can leave unanswered, found it on {name}")


def _kind_of(callback: object) -> str:
    if inspect.isasyncgenfunction(callback):
        return "an async generator, since it yields"
    return f"a plain {type(callback).__name__}"


_SILENCEABLE: Final = frozenset(CALLBACKS.values()) - {"eom"}


def _check_name(cls: type, name: str, member: Any) -> None:
    if name.startswith("_") or name in _NAMES:
        return
    plain = name.removeprefix("handle_").removeprefix("on_").replace("_", "").lower()
    meant = plain if plain in _NAMES else _MISNAMED.get(plain)
    if meant is not None:
        raise TypeError(f"{cls.__qualname__}.{name} would never be called: expected the callback's name, {meant!r}")
    if name.startswith("handle_"):
        raise TypeError(f"{cls.__qualname__}.{name} would never be called: expected one of {', '.join(_NAMES)}")
    for close in difflib.get_close_matches(name, _NAMES, cutoff=0.85):
        if len(close) > 4 and abs(len(close) - len(name)) <= 1:
            raise TypeError(
                f"{cls.__qualname__}.{name} would never be called: expected {close!r}, or a name less like it"
            )


def _read_wants(cls: type[Milter]) -> Wants:
    where = f"{cls.__qualname__}.macros"
    macros: object = cls.macros
    if not isinstance(macros, Mapping):
        raise TypeError(f"{where}: expected a mapping of stages to names, found {type(macros).__name__}")
    for stage, names in macros.items():
        if not isinstance(stage, Stage) or stage.symlist is None:
            found = f"{getattr(stage, 'name', stage)!r}{stage_hint(stage)}"
            raise TypeError(f"{where}: expected a Stage with macros, found {found}")
        if not isinstance(names, tuple | list):
            raise TypeError(f"{where}: expected a tuple of names for {stage.name}, found {type(names).__name__}")
        for name in names:
            bare = canonical_macro(name) if isinstance(name, str) else ""
            if not _MACRO_NAME.fullmatch(bare):
                raise TypeError(f"{where}: expected the name of a macro, found {name!r}")
    for stage, names in macro_lists(cls.macros).items() if cls.macros else ():
        if len(names) > _MAX_MACROS:
            raise TypeError(
                f"{cls.__qualname__}.macros: expected at most {_MAX_MACROS} names, found more at {stage.name}"
            )
    stages = frozenset(stage for stage, name in CALLBACKS.items() if overrides(cls, name))
    return Wants(
        stages=stages,
        no_reply=frozenset(
            stage for stage in stages if getattr(getattr(cls, CALLBACKS[stage]), "__aiomilter_no_reply__", False)
        ),
        ends=overrides(cls, "abort") or overrides(cls, "close"),
        actions=cls.actions,
        macros=cls.macros,
        leading_space=cls.leading_space,
        rejected_recipients=cls.rejected_recipients,
    )


Milter._wants = _read_wants(Milter)


def ready_method(objects: Iterable[object]) -> Callable[[], Awaitable[Any]] | None:
    """Return the method ``ready`` by which a filter says whether it can do its work; None if there is none.

    Args:
        objects: What may have it, the first counts: what makes filters, and one of these.
    """
    for each in objects:
        # Of a class the method has no object yet.
        method = None if isinstance(each, type) else getattr(each, "ready", None)
        if inspect.iscoroutinefunction(method):
            return method
    return None
