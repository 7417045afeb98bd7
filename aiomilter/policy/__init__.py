"""What to think of a client before it has said much, and what a single message cannot decide.

``dnsbl`` asks DNS lists.  ``rates`` counts what logins, clients and domains send; ``greylist`` has strangers come back;
``reputation``, ``known`` and ``traps`` remember; ``stores`` is where that is kept.

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
