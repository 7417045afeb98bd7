"""Greylisting: ask the client of a new sender and recipient to come back, which spam programs rarely do."""

import ipaddress
import time
from collections.abc import Callable, MutableMapping

from aiomilter import Context, Milter, Rcpt, Reply, Response, run

DELAY = 300.0  # seconds
LIFETIME = 35 * 86_400.0  # seconds

Key = tuple[str, str, str]


class Greylist(Milter):
    """Refuse a recipient for now, until the same network has come again after a while.

    Args:
        store: When each client, sender and recipient was first seen; share it between all connections.
        clock: Tells the time in seconds.
    """

    def __init__(self, store: MutableMapping[Key, float], clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.clock = clock

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        if ctx.client.ip is None or ctx.auth is not None or ctx.sender is None:
            return None
        prefix = 24 if ctx.client.ip.version == 4 else 64
        network = ipaddress.ip_network((ctx.client.ip, prefix), strict=False)
        key = (str(network), ctx.sender.address.lower(), rcpt.address.lower())
        now = self.clock()
        age = now - self.store.setdefault(key, now)
        if age > LIFETIME:
            self.store[key], age = now, 0.0
        if age < DELAY:
            return Reply(451, "4.7.1", f"Greylisted, come back in {DELAY - age:.0f} seconds")
        return None


if __name__ == "__main__":
    seen: dict[Key, float] = {}
    run(lambda: Greylist(seen), "inet:8890@127.0.0.1")
