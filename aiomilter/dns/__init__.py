"""DNS for mail filters: a resolver interface, a cache that all sessions share, and two backends that ask.

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
