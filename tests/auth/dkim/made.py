"""Keys and messages for tests."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from aiomilter.auth import dkim
from aiomilter.auth.dkim._crypto import KeyType, generate
from aiomilter.mail.headers import split_message
from aiomilter.testing.resolver import ZoneResolver

NOW: Final = 1_790_000_000

HEADER: Final = (
    b"From: Alice <alice@example.com>\r\n"
    b"To: bob@example.net\r\n"
    b"Subject:   Minutes of the\r\n\t meeting \r\n"
    b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n"
)
MESSAGE: Final = HEADER + b"\r\nHello  Bob,\r\n\r\n\tsee \t you. \r\n\r\n\r\n"

MESSAGES: Final = {
    "text": MESSAGE,
    "no body": HEADER + b"\r\n",
    "empty lines": HEADER + b"\r\n\r\n\r\n",
    "blank lines": HEADER + b"\r\n \t\r\n  \r\n",
    "no line end": HEADER + b"\r\nHello",
    "8-bit": HEADER + "\r\ncaf\u00e9\r\n".encode() + b"\xff\r\n",
    "folded": HEADER.replace(b"Subject:", b"Subject:\r\n ") + b"\r\nx\r\n",
    "twice": b"To: carol@example.net\r\n" + HEADER + b"\r\nx\r\n",
    "long": HEADER + b"\r\n" + b"0123456789 " * 60 + b"\r\n" * 70 + b"x\r\n",
}


@cache
def key(kind: KeyType = "rsa", bits: int = 2048, selector: str = "", domain: str = "example.com") -> dkim.Key:
    """Return a key, the same one each time."""
    return dkim.Key(domain, selector or f"{kind}{bits if kind == 'rsa' else ''}", generate(kind, bits))


def zone(*keys: dkim.Key) -> ZoneResolver:
    """Return a resolver that knows keys."""
    return ZoneResolver({each.name: {"TXT": each.record()} for each in keys})


def cut(message: bytes, size: int) -> list[bytes]:
    """Return a message's body in chunks."""
    _, begin = split_message(message)
    return [message[at : at + size] for at in range(begin, len(message), size)]


async def verified(message: bytes, *keys: dkim.Key, now: float = NOW) -> list[str]:
    """Return the results of a message's signatures."""
    return [each.result for each in await dkim.verify(message, resolver=zone(*keys), now=now)]


def signed(message: bytes, *keys: dkim.Key, options: dkim.Options | None = None, now: float = NOW) -> bytes:
    """Return a message with signatures above it; the test may have a loop of its own."""

    def fields() -> bytes:
        return asyncio.run(dkim.sign(message, keys, options=options or dkim.Options(), now=now))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(fields).result() + message
