"""Checks of a client before it has sent much, and decisions that need more than one message.

:mod:`~aiomilter.policy.dnsbl` asks DNS lists.  :mod:`~aiomilter.policy.rates` counts what logins, clients and domains send, and
:mod:`~aiomilter.policy.stores` keeps the counts.

Each module serves any asyncio program and knows nothing of milters.  Nothing here imports the client of a database before a
store that needs it is opened.
"""

from aiomilter.policy.rates import Rate, RateLimit, RateState

__all__ = ["Rate", "RateLimit", "RateState"]
