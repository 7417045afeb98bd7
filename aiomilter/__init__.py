"""Mail filters for Postfix and Sendmail on asyncio, without libmilter.

A filter is a class with ``async def`` callbacks::

    from aiomilter import REJECT, Context, Mail, Milter, Response, run

    class Tagging(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
            return REJECT if mail.domain == "spam.example" else None

        async def eom(self, ctx) -> None:
            ctx.add_header("X-Seen", ctx.helo)

    run(Tagging, "inet:8890@127.0.0.1")

The words used here, and in all names:

- *MTA*: the mail server that asks.  *Filter*, also *milter*: what it asks.  *SMTP client*: who sends mail to the MTA.
- *Stage*: a place in the order of an SMTP conversation (:class:`Stage`).  *Callback*: the method of a filter for a stage.
- *Event*: what the MTA tells.  *Verdict*: CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP.  *Reply*: an SMTP reply with code,
  enhanced code and text.  *Response*: a verdict or a reply.  *No-reply stage*: one that the MTA waits for no answer of.
- *Edit*: a change that is asked for at end of message; *modification*: its packet.  *Quarantine*: hold in the MTA's queue.
- *Macro*: a value that the MTA gives with a stage.  *Path*: an address of the envelope as sent, brackets and all.
- *Factory*: what makes filters; its *lifespan* is from being entered to being left.  *Handler*: what serves one connection.
- *Drain*: take no new connections, let open sessions end.  *Stop*: drain, then close.  *Abort*: end a message without an
  answer.  *Close*: end a connection now.  *Reload*: new connections get filters of another lifespan.

Where to go on: :class:`Milter` for the callbacks, :func:`serve` and :func:`run` to serve, ``aiomilter.testing`` for tests,
``aiomilter.dns`` and ``aiomilter.auth`` for DNS and SPF, ``aiomilter.compat`` for programs written for pymilter,
``aiomilter/help/protocol.rst`` for the protocol.
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
