"""A stolen password sends no more than 200 recipients an hour; it is counted for all workers and machines that share a store.

STORE=sqlite:/var/lib/filter/state.db aiomilter run examples/user_rates.py --listen inet:8890@127.0.0.1 --workers 4
STORE=redis://127.0.0.1/3 STORE_KEYS=/etc/filter/state.keys aiomilter run ...
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import Context, Milter, Rcpt, Reply, Response
from aiomilter.policy import Rate, RateLimit
from aiomilter.policy.stores import open_store, read_keys

RATES = {"user": [Rate(50, per=60), Rate(200, per=3600)]}
log = logging.getLogger("user_rates")


class UserRates(Milter):
    def __init__(self, rates: RateLimit) -> None:
        self.rates = rates

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if ctx.auth is None:
            return None
        state = await self.rates.hit("user", ctx.auth.login)
        if state.exceeded:
            return Reply(450, "4.7.1", f"Too many recipients, try again in {state.wait:.0f} s", reason="rate_user")
        return None


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], UserRates]]:
    """Open the store, and say at the start if it is down."""
    path = os.environ.get("STORE_KEYS")
    keys = read_keys(path) if path else ()  # what addresses are hashed with; a file makes its own
    async with open_store(os.environ.get("STORE", "memory:"), keys=keys, on_change=log.warning) as store:
        if problem := await store.ready():
            log.warning("the store is down, each process counts alone: %s", problem)
        rates = RateLimit(store, RATES)
        yield lambda: UserRates(rates)
