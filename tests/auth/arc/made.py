"""Chains for tests."""

from collections.abc import Callable
from typing import Final

from aiomilter.auth import arc, dkim
from aiomilter.auth.results import AuthenticationResults, MethodResult, Property
from tests.auth.dkim.made import MESSAGE, NOW, key, zone

LIST: Final = key("ed25519", selector="list", domain="lists.example.org")
OTHER: Final = key("ed25519", selector="other", domain="other.example.net")
RSA: Final = key("rsa", selector="rsa", domain="big.example.com")
ALL: Final = (LIST, OTHER, RSA)

FOUND: Final = AuthenticationResults(
    "mx.example.org",
    (
        MethodResult("spf", "pass", (Property("smtp", "mailfrom", "alice@example.com"),)),
        MethodResult("dmarc", "pass", (Property("header", "from", "example.com"),)),
    ),
)


def above(fields: list[str], message: bytes) -> bytes:
    """Return a message with fields above it."""
    return b"".join(f"{field}\n".replace("\n", "\r\n").encode() for field in fields) + message


async def verified(message: bytes, *keys: dkim.Key, now: float = NOW) -> arc.Chain:
    """Return what the chain of a message is worth."""
    return await arc.verify(message, resolver=zone(*(keys or ALL)), now=now)


async def sealed(
    message: bytes,
    *keys: dkim.Key,
    change: Callable[[bytes], bytes] = lambda message: message,
    results: AuthenticationResults = FOUND,
) -> bytes:
    """Return a message as it comes from the last of a row of forwarders, each of which changes it and seals it."""
    for each in keys:
        chain = await verified(message, *keys, *ALL)
        message = change(message)
        message = above(await arc.seal(message, each, chain=chain, results=results, now=NOW), message)
    return message


def with_footer(message: bytes) -> bytes:
    """Return a message as a mailing list changes it."""
    return message + b"-- \r\nTo unsubscribe, ask.\r\n"


__all__ = [
    "ALL",
    "FOUND",
    "LIST",
    "MESSAGE",
    "NOW",
    "OTHER",
    "RSA",
    "above",
    "sealed",
    "verified",
    "with_footer",
    "zone",
]
