"""The same, on its way: the callback that waits for the network is ``async def``, the others are as they were.

aiomilter compat examples/from_pymilter/mixed.py inet:8890@127.0.0.1
"""

import asyncio
import os
import sys

import Milter
from Milter.utils import parse_addr

SERVICE = ("127.0.0.1", int(os.environ.get("REPUTATION_PORT", "7777")))


async def is_listed(domain):
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*SERVICE)
        writer.write(domain.encode("utf-8", "surrogateescape") + b"\n")
        answer = await reader.readline()
        writer.close()
        return answer == b"listed\n"


class Reputation(Milter.Base):
    async def envfrom(self, sender, *params):
        self.recipients = 0
        address = parse_addr(sender)
        if len(address) == 2 and await is_listed(address[1].lower()):
            self.setreply("550", "5.7.1", "Your domain is listed")
            return Milter.REJECT
        return Milter.CONTINUE

    @Milter.noreply
    def envrcpt(self, recipient, *params):
        self.recipients += 1
        return Milter.CONTINUE

    def eom(self):
        self.addheader("X-Recipients", str(self.recipients))
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Reputation
    Milter.runmilter("reputation", sys.argv[1], timeout=240)
