"""The example that the API was designed by; ``mypy --strict`` takes it once ``milter`` says what it yields."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiomilter import ACCEPT, CONTINUE, Context, EndOfMessageContext, Mail, Milter, Reply, Response, run
from aiomilter.auth import spf
from aiomilter.dns import Resolver, system_resolver


class SpfMilter(Milter):
    """Refuse mail whose SPF result is fail; note the result on the rest."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver  # one instance serves one SMTP connection

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if ctx.auth is not None or ctx.client.ip is None:
            return ACCEPT  # our own users, local mail
        result = await spf.check_host(ctx.client.ip, mail.address, ctx.helo, resolver=self.resolver)
        if result.result == "fail":
            return Reply(550, "5.7.23", result.explanation)
        ctx.notes["spf"] = result  # notes are empty again at the next message
        return None  # the same as CONTINUE

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        ctx.insert_header("Received-SPF", ctx.notes["spf"].received_spf(receiver=ctx.macro("j", "unknown")))
        return CONTINUE


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], SpfMilter]]:
    resolver = system_resolver()  # one cache for all connections
    yield lambda: SpfMilter(resolver)


if __name__ == "__main__":
    run(milter, "inet:8890@127.0.0.1")
