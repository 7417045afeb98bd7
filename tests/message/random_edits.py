"""Header sections and edits by chance: the same for the rules of MTAs in this process, and for real ones."""

import random
from collections.abc import Callable
from typing import Final

from aiomilter.message.headers import Headers

NAMES: Final = ("Subject", "X-A", "X-B", "x-a", "To", "Comments")
VALUES: Final = (
    b" one",
    b"none",
    b"  two",
    b"\ttab",
    b" folded\r\n\tand folded\r\n again",
    b"\r\n folded at once",
    b" trailing  ",
    b" caf\xc3\xa9 \xff",
    b" a:b",
)
HEAD: Final = [
    b"From: alice@client.test\r\n",
    b"Date: Mon, 30 Nov 2026 12:00:00 +0000\r\n",
    b"Message-ID: <1@client.test>\r\n",
]


def header_section(chance: random.Random) -> list[bytes]:
    """Return fields, those that an MTA would add itself among them, since addresses and dates are not to be rewritten."""
    odd = [name for name in NAMES if name != "To"]
    fields = [
        f"{chance.choice(odd)}:".encode() + chance.choice(VALUES) + b"\r\n" for _ in range(chance.randrange(1, 8))
    ]
    for field in HEAD:
        fields.insert(chance.randrange(len(fields) + 1), field)
    fields.insert(chance.randrange(len(fields) + 1), b"To: bob@example.test\r\n")
    return fields


def edited(chance: random.Random, headers: Headers) -> Headers:
    """Make one to four edits; fields that an MTA adds itself stay where one is."""

    def anywhere() -> None:
        field, name = chance.choice(headers), f"X-New-{chance.randrange(3)}"
        (headers.insert_after if chance.random() < 0.5 else headers.insert_before)(field, name, "", raw=value())

    def value() -> bytes:
        return chance.choice(VALUES)

    def of_ours() -> list[str]:
        return [field.name for field in headers if field.name.lower() in ("subject", "x-a", "x-b", "comments")] or [
            "X-A"
        ]

    def replaced() -> None:
        found = [field for field in headers if field.name in of_ours()]
        if found:
            headers.replace(chance.choice(found), "", raw=value())

    def removed() -> None:
        found = [field for field in headers if field.name in of_ours()]
        if found:
            headers.remove(chance.choice(found))

    edits: list[Callable[[], object]] = [
        anywhere,
        anywhere,
        replaced,
        removed,
        lambda: headers.append("X-End", "", raw=value()),
        lambda: headers.prepend("X-Top", "", raw=value()),
        lambda: headers.set(chance.choice(of_ours()), "", raw=value()),
        lambda: headers.set(chance.choice(of_ours()).swapcase(), "", raw=value()),
        lambda: headers.remove_all(chance.choice(of_ours())),
    ]
    for _ in range(chance.randrange(1, 5)):
        chance.choice(edits)()
    return headers
