"""A filter that keeps what it is shown of each message, and changes nothing."""

import base64
import os
from collections.abc import Callable

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter

SHOWN = "AIOMILTER_TESTS_SHOWN"
"""Variable of the environment: the file that :func:`to_file` writes."""


class Shown(Milter):
    """Hands over each message that came to its end: header fields, an empty line, the body."""

    leading_space = True

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self._keep = keep
        self._parts: list[bytes] = []

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self._parts = []

    async def header(self, ctx: Context, header: Header) -> None:
        self._parts.append(header.raw)

    async def eoh(self, ctx: Context) -> None:
        self._parts.append(b"\r\n")

    async def body(self, ctx: Context, chunk: bytes) -> None:
        self._parts.append(chunk)

    async def eom(self, ctx: EndOfMessageContext) -> None:
        self._keep(b"".join(self._parts))


def to_file() -> Shown:
    """Be a filter for another process, which reads a file: a line of base64 for each message."""
    path = os.environ[SHOWN]

    def keep(shown: bytes) -> None:
        with open(path, "ab") as file:
            file.write(base64.b64encode(shown) + b"\n")

    return Shown(keep)
