"""Checks of a client before it has sent much, and decisions that need more than one message.

:mod:`~aiomilter.policy.dnsbl` asks DNS lists.  :mod:`~aiomilter.policy.rates` counts what logins, clients and domains send,
:mod:`~aiomilter.policy.greylist` has strangers come back, and :mod:`~aiomilter.policy.stores` keeps their state.

Each module serves any asyncio program and knows nothing of milters.  Nothing here imports the client of a database before a
store that needs it is opened.
"""

from aiomilter.policy.greylist import Greylist, Seen
from aiomilter.policy.rates import Rate, RateLimit, RateState

__all__ = ["Greylist", "Rate", "RateLimit", "RateState", "Seen"]
