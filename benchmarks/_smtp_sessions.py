"""SMTP sessions at the same time, in a process of their own: ``python -m benchmarks._smtp_sessions``.

Each line of its input is ``PORT SESSIONS MESSAGES SECONDS``, and each line of its output the milliseconds that the messages
took, as JSON: from MAIL until the end was answered.  A session has said EHLO and sent one message before any is timed, and
begins none after SECONDS.
"""

import asyncio
import json
import sys
import time

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


async def session(port: int, messages: int, seconds: float, ready: asyncio.Barrier) -> list[float]:
    """Send messages one after the other, beginning with all other sessions."""
    async with connect(port) as client:
        await once(client)
        await ready.wait()
        until = time.perf_counter() + seconds
        found = [await once(client)]
        while len(found) < messages and time.perf_counter() < until:
            found.append(await once(client))
        return found


async def play(port: int, sessions: int, messages: int, seconds: float) -> list[float]:
    """Return the milliseconds of all messages of all sessions."""
    ready = asyncio.Barrier(sessions)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(session(port, messages, seconds, ready)) for _ in range(sessions)]
    return [took for task in tasks for took in task.result()]


def main() -> None:
    """Do as the input says until it ends."""
    for line in sys.stdin:
        port, sessions, messages, seconds = line.split()
        print(json.dumps(asyncio.run(play(int(port), int(sessions), int(messages), float(seconds)))), flush=True)


if __name__ == "__main__":
    main()
