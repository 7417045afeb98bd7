"""Checks of a client before it has sent much, and decisions that need more than one message.

:mod:`~aiomilter.policy.dnsbl` asks DNS lists.  :mod:`~aiomilter.policy.rates` counts what logins, clients and domains send,
:mod:`~aiomilter.policy.greylist` has strangers come back; :mod:`~aiomilter.policy.reputation`,
:mod:`~aiomilter.policy.known` and :mod:`~aiomilter.policy.traps` remember.  :mod:`~aiomilter.policy.stores` keeps their state.

Each module serves any asyncio program and knows nothing of milters.  Nothing here imports the client of a database before a
store that needs it is opened.
"""

from aiomilter.policy.greylist import Greylist, Seen
from aiomilter.policy.known import Authenticated, Known, KnownSenders
from aiomilter.policy.rates import Rate, RateLimit, RateState
from aiomilter.policy.reputation import Reputation, Standing
from aiomilter.policy.traps import Caught, Traps

__all__ = [
    "Authenticated",
    "Caught",
    "Greylist",
    "Known",
    "KnownSenders",
    "Rate",
    "RateLimit",
    "RateState",
    "Reputation",
    "Seen",
    "Standing",
    "Traps",
]
