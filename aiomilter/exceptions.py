"""Every exception class of aiomilter, one tree.

Octets from a peer raise :class:`RemoteProtocolError`, objects from the user of the library raise
:class:`LocalProtocolError`.  A result that an RFC names (``temperror``, ``softfail``) is a value, never an exception.
"""

__all__ = [
    "AddressError",
    "LocalProtocolError",
    "MilterError",
    "NegotiationError",
    "NotNegotiatedError",
    "ProtocolError",
    "RemoteProtocolError",
    "ResolverError",
    "ResolverFailure",
    "ResolverTimeout",
    "StoreError",
    "StoreSettingsError",
    "TemporaryFailure",
]


class MilterError(Exception):
    """Base of every exception that aiomilter raises on purpose."""


class ProtocolError(MilterError):
    """A rule of the milter protocol was broken."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol: log it and close the connection, never answer."""


class LocalProtocolError(ProtocolError):
    """Our side was about to break the protocol: a bug in the filter, or in aiomilter."""


class NotNegotiatedError(LocalProtocolError):
    """An action or option was used that this MTA did not agree to."""


class NegotiationError(MilterError):
    """The MTA does not offer what the filter requires; the connection is closed without an answer."""


class AddressError(MilterError, ValueError):
    """A text is not a valid path, socket address or domain."""


class ResolverError(MilterError):
    """A DNS question got no usable answer ("no such name" is an answer, not an error)."""


class ResolverTimeout(ResolverError):
    """A DNS question was not answered in time."""


class ResolverFailure(ResolverError):
    """A DNS server reported a failure, refused, or sent a malformed answer."""


class StoreError(MilterError):
    """A store could not read or write."""


class StoreSettingsError(StoreError, ValueError):
    """A store cannot be opened as it is described: its URL or its keys are wrong, or its secret cannot be read."""


class TemporaryFailure(MilterError):
    """Raised by a filter to answer ``on_error``, with one log line and no traceback; never a 5xx.

    Use it if a dependency is down and may be back soon: a database, a web service.  If ``on_error`` is REJECT or a Reply of 500
    and above, the answer is TEMPFAIL.  A :class:`ResolverError` or :class:`StoreError` that leaves a callback has the same
    effect, and so has an exception group of only these.
    """
