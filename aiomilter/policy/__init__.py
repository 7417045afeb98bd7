"""What to think of a client before it has said much, and what a single message cannot decide.

``dnsbl`` asks DNS lists.  ``rates`` counts what logins, clients and domains send; ``greylist`` has
strangers come back; ``stores`` is where that is kept.

Each module serves any asyncio program and knows nothing of milters.  Nothing here imports the client of a database before a
store that needs it is opened.
"""

from aiomilter.policy.greylist import Greylist, Seen
from aiomilter.policy.rates import Rate, RateLimit, RateState

__all__ = ["Greylist", "Rate", "RateLimit", "RateState", "Seen"]
