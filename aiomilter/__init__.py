"""Mail filters for Postfix and Sendmail on asyncio, without libmilter."""

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
