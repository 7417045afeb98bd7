"""SMTP sessions on several ports, in a process of their own: ``python -m benchmarks._smtp_sessions``.

Each line of its input is ``SESSIONS MESSAGES SECONDS PORT...``.  On every port so many sessions are opened; the ports take
turns, in an order that changes, and in each turn all sessions of one port send a message at the same time.  A port that has
taken SECONDS has no more turns.  Each line of the output is JSON: for each port the milliseconds that its messages took, from
MAIL until the end was answered.  The first message of a session is not counted.
"""

import asyncio
import json
import random
import sys
import time
from contextlib import AsyncExitStack

from tests.interop.client import Client, accepted, connect

FIELDS = (
    "From: Example Newsletter <news@example.net>",
    "To: Someone Else <someone.else@example.test>",
    "Subject: =?utf-8?Q?Weekly_report_=E2=80=93_numbers_and_figures?=",
    "Date: Sun, 22 Nov 2026 07:29:58 +0000",
    "Message-ID: <20261122072958.1234567890@news.example.net>",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=us-ascii",
    *(f"X-Campaign-{number}: a1b2c3d4-e5f6-{number:04}" for number in range(13)),
)
LINE = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod te\r\n"
MESSAGE = ("\r\n".join(FIELDS) + "\r\n\r\n" + LINE * (10_000 // len(LINE))).encode()
"""20 fields and 10 kB of body, as the generator's typical message."""


async def once(client: Client) -> float:
    """Send a message and return its milliseconds."""
    begun = time.perf_counter()
    replies = await client.send(MESSAGE, "news@example.net", ["one@example.test", "two@example.test"])
    took = time.perf_counter() - begun
    if not accepted(replies.get(".", "")):
        raise SystemExit(f"expected a message to be accepted, found {replies}")
    return took * 1000


async def play(ports: list[int], sessions: int, messages: int, seconds: float) -> list[list[float]]:
    """Return the milliseconds of all messages, by port."""
    chance = random.Random(sessions)
    found: dict[int, list[float]] = {port: [] for port in ports}
    spent = dict.fromkeys(ports, 0.0)
    async with AsyncExitStack() as stack:
        clients = {port: [await stack.enter_async_context(connect(port)) for _ in range(sessions)] for port in ports}
        for each in clients.values():
            await asyncio.gather(*map(once, each))
        for _ in range(messages):
            turns = [port for port in ports if spent[port] < seconds]
            chance.shuffle(turns)
            for port in turns:
                begun = time.perf_counter()
                found[port] += await asyncio.gather(*map(once, clients[port]))
                spent[port] += time.perf_counter() - begun
    return list(found.values())


def main() -> None:
    """Do as the input says until it ends."""
    for line in sys.stdin:
        sessions, messages, seconds, *ports = line.split()
        found = asyncio.run(play([int(port) for port in ports], int(sessions), int(messages), float(seconds)))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
