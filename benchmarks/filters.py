"""The filters that are measured: ``python -m benchmarks.filters SOCKET FILTER [uvloop]`` serves one of
FILTERS until SIGTERM.
"""

import asyncio
import ctypes
import os
import sys

from aiomilter import (
    CONTINUE,
    Connect,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Rcpt,
    Response,
    no_reply,
)
from aiomilter.daemon import run


class Typical(Milter):
    """What most filters do: look at the envelope, collect the content without answering it, add one header field."""

    async def connect(self, ctx: Context, connect: Connect) -> None: ...

    async def helo(self, ctx: Context, helo: Helo) -> None: ...

    async def envfrom(self, ctx: Context, mail: Mail) -> None: ...

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None: ...

    @no_reply
    async def data(self, ctx: Context) -> None: ...

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None: ...

    async def eoh(self, ctx: Context) -> None: ...

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None: ...

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Seen", "yes")


class Waiting(Typical):
    """As typical, but MAIL takes 50 ms."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        await asyncio.sleep(0.05)


class Noop(Milter):
    """Every callback overridden and answered, none does anything."""

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse:
        return CONTINUE

    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse:
        return CONTINUE

    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        return CONTINUE

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
        return CONTINUE

    async def data(self, ctx: Context) -> Response:
        return CONTINUE

    async def header(self, ctx: Context, header: Header) -> Response:
        return CONTINUE

    async def eoh(self, ctx: Context) -> Response:
        return CONTINUE

    async def body(self, ctx: Context, chunk: bytes) -> Response:
        return CONTINUE

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        return CONTINUE


class Sender(Milter):
    """Answers the sender and the end of a message, and takes nothing else."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        return CONTINUE

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        return CONTINUE


class End(Milter):
    """Answers the end of a message, and takes nothing else."""

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        return CONTINUE


FILTERS = {"typical": Typical, "noop": Noop, "waiting": Waiting, "sender": Sender, "end": End}

if __name__ == "__main__":
    if "COUNTED_FROM" in os.environ:
        # What came before is not counted, and costs a tenth of the time.
        ctypes.CDLL(os.environ["COUNTED_FROM"]).start()
    run(FILTERS[sys.argv[2]], sys.argv[1], uvloop="uvloop" in sys.argv, drain_timeout=1.0)
