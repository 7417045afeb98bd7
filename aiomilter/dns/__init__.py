"""DNS for mail filters: a resolver interface, a cache that all sessions share, and two backends.

In reading order: :func:`system_resolver` and :func:`resolver` return a :class:`CachingResolver`, whose ``lookup`` returns
an :class:`Answer` or raises a :class:`~aiomilter.ResolverError`; :class:`Resolver` is the interface, for a resolver of your
own.  The modules: :mod:`~aiomilter.dns.answers`, :mod:`~aiomilter.dns.servers`, :mod:`~aiomilter.dns.cache`, then the
backends :mod:`~aiomilter.dns.dnspython` (with ``exchange`` and ``message``) and :mod:`~aiomilter.dns.aiodns`.  See
``aiomilter help dns``.

Importing this package imports neither backend.
"""

from aiomilter.dns.answers import MX, Answer, IPAddress, RdType, Record, Resolver
from aiomilter.dns.cache import CachingResolver, Counters
from aiomilter.dns.names import client_address, display_name, question_name, reverse_name
from aiomilter.dns.servers import Backend, resolver, system_resolver

__all__ = [
    "MX",
    "Answer",
    "Backend",
    "CachingResolver",
    "Counters",
    "IPAddress",
    "RdType",
    "Record",
    "Resolver",
    "client_address",
    "display_name",
    "question_name",
    "resolver",
    "reverse_name",
    "system_resolver",
]
