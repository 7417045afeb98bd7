"""Mail filters for Postfix and Sendmail on asyncio, without libmilter.

A filter is a class with ``async def`` callbacks::

    from aiomilter import REJECT, Context, EndOfMessageContext, Mail, Milter, Response, run

    class Tagging(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
            return REJECT if mail.domain == "spam.example" else None

        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Seen", ctx.helo)

    run(Tagging, "inet:8890@127.0.0.1")

``aiomilter check FILE.py`` plays a message to it, ``aiomilter run FILE.py --listen inet:8890@127.0.0.1`` serves it with a
log, and ``aiomilter help`` lists the manual.

What to read next, in this order:

- :class:`Milter`: the callbacks, when each is called and what its answers do.
- :class:`Context`: the client, the envelope, the macros.  :class:`EndOfMessageContext`: the edits.
- :class:`Reply` and :class:`Verdict`: the answers.  :class:`TemporaryFailure`: what to raise if a dependency is down.
- :func:`run` serves a filter as a program, :func:`serve` inside one; both list all options.
- :mod:`aiomilter.message`: filters that get whole messages, with header fields, parts and attachments, and change them.
- :mod:`aiomilter.compose`: several filters in one connection.
- :mod:`aiomilter.testing` plays SMTP sessions in tests; :mod:`aiomilter.mta` to a filter that listens somewhere.
- :mod:`aiomilter.dns`, :mod:`aiomilter.auth`, :mod:`aiomilter.policy`: DNS; SPF, DKIM, DMARC; DNS lists, rates, greylisting.
  They know no milter: any asyncio program can use them, and :mod:`aiomilter.mail`.
- :class:`Observer`: metrics.  :mod:`aiomilter.compat`: programs written for pymilter.

The words used here, and in all names:

- *MTA*: the mail server that asks.  *Filter*, also *milter*: what it asks.  *SMTP client*: who sends mail to the MTA.
- *Stage*: a place in the order of an SMTP conversation (:class:`Stage`).  *Callback*: the method of a filter for a stage.
- *Event*: what the MTA tells.  *Verdict*: CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP.  *Reply*: an SMTP reply with code,
  enhanced code and text.  *Response*: a verdict or a reply.  *No-reply stage*: one whose answer the MTA does not wait for.
- *Edit*: a change that is asked for at end of message; *modification*: its packet.  *Quarantine*: hold in the MTA's queue.
- *Macro*: a value that the MTA gives with a stage.  *Path*: an address of the envelope as sent, brackets and all.
- *Factory*: what makes filters; its *lifespan* is from being entered to being left.  *Handler*: what serves one connection.
- *Drain*: take no new connections, let open sessions end.  *Stop*: drain, then close.  *Abort*: end a message without an
  answer.  *Close*: end a connection now.  *Reload*: new connections get filters of another lifespan.
"""

from types import FunctionType as _Function

from aiomilter.context import MTA, TLS, Auth, Context, EndOfMessageContext
from aiomilter.daemon import run
from aiomilter.exceptions import (
    AddressError,
    LocalProtocolError,
    MilterError,
    NegotiationError,
    NotNegotiatedError,
    ProtocolError,
    RemoteProtocolError,
    ResolverError,
    ResolverFailure,
    ResolverTimeout,
    StoreError,
    TemporaryFailure,
)
from aiomilter.failures import FailurePolicy
from aiomilter.handler import Milter, no_reply
from aiomilter.observe import Observer
from aiomilter.server import Factory, Server, serve
from aiomilter.wire.constants import Action, Stage
from aiomilter.wire.events import Connect, Family, Header, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.replies import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    SKIP,
    TEMPFAIL,
    BodyResponse,
    ConnectionResponse,
    Refusal,
    Reply,
    Response,
    UnknownResponse,
    Verdict,
)

__version__ = "0.1.0"

__all__ = [
    "ACCEPT",
    "CONTINUE",
    "DISCARD",
    "MTA",
    "REJECT",
    "SKIP",
    "TEMPFAIL",
    "TLS",
    "Action",
    "AddressError",
    "Auth",
    "BodyResponse",
    "Connect",
    "ConnectionResponse",
    "Context",
    "EndOfMessageContext",
    "Factory",
    "FailurePolicy",
    "Family",
    "Header",
    "Helo",
    "LocalProtocolError",
    "Mail",
    "Milter",
    "MilterError",
    "Negotiate",
    "NegotiationError",
    "NotNegotiatedError",
    "Observer",
    "ProtocolError",
    "Rcpt",
    "Refusal",
    "RemoteProtocolError",
    "Reply",
    "ResolverError",
    "ResolverFailure",
    "ResolverTimeout",
    "Response",
    "Server",
    "Stage",
    "StoreError",
    "TemporaryFailure",
    "Unknown",
    "UnknownResponse",
    "Verdict",
    "__version__",
    "no_reply",
    "run",
    "serve",
]


def _show_as_ours() -> None:
    """Show exports in ``repr``, ``help`` and tracebacks under the name that users import."""
    for name in __all__:
        exported = globals()[name]
        if isinstance(exported, type | _Function):
            exported.__module__ = __name__


_show_as_ours()
