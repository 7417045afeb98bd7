"""What users write, and what has to pass ``mypy --strict`` as it stands; ``wrong/`` holds what must not."""

import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    MTA,
    REJECT,
    SKIP,
    TEMPFAIL,
    TLS,
    Action,
    Auth,
    BodyResponse,
    Connect,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Family,
    Header,
    Helo,
    Mail,
    Milter,
    Negotiate,
    NegotiationError,
    Observer,
    Rcpt,
    Refusal,
    Reply,
    Response,
    Server,
    Stage,
    TemporaryFailure,
    Unknown,
    UnknownResponse,
    no_reply,
    run,
    serve,
)
from aiomilter.observe import MessageEnded
from aiomilter.observe.log import LogObserver
from aiomilter.testing import session

# Stand-ins for aiomilter.dns and aiomilter.auth, for as long as there are none.


class Resolver:
    """Asks DNS."""


def system_resolver() -> Resolver:
    """Return the system's."""
    return Resolver()


@dataclass
class Result:
    """What SPF says."""

    result: str
    explanation: str

    def received_spf(self, *, receiver: str) -> str:
        """Return the header field's value."""
        return f"{self.result} ({receiver})"


class spf:
    """The module."""

    @staticmethod
    async def check_host(
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address, sender: str, helo: str, *, resolver: Resolver
    ) -> Result:
        """Check."""
        return Result("pass", "")


# The example that the API was designed by.


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


class Everything(Milter):
    """Every callback, with the widest answer it may give, and every part of a context."""

    macros: ClassVar = {Stage.MAIL: ("{mail_host}",), Stage.EOM: ("{verify}",)}
    leading_space = True
    rejected_recipients = True
    actions = Action.ADD_HEADERS | Action.CHANGE_HEADERS

    async def negotiate(self, ctx: Context, offer: Negotiate) -> None:
        if offer.version < 6 or not offer.actions & Action.QUARANTINE:
            raise NegotiationError("too old")

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        if connect.family is Family.UNKNOWN or connect.port == 0:
            return ACCEPT
        if connect.hostname.startswith("["):
            return TEMPFAIL
        return Reply(421, None, "go away") if connect.raw_address == "192.0.2.66" else None

    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse | None:
        return REJECT if helo.name == "localhost" else CONTINUE

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        size: str | None = mail.keywords.get("SIZE")
        if size and int(size) > 10_000_000:
            return DISCARD
        if mail.domain == "spam.example" or mail.local_part == "nobody":
            return REJECT
        if not mail.path or mail.params:
            raise TemporaryFailure("not now")
        return None

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        return Reply(550, "5.1.1", "one", "two") if rcpt.address in {one.address for one in ctx.recipients} else None

    async def data(self, ctx: Context) -> Response | None:
        ctx.on_end(print, ctx.queue_id, ctx.notes)
        return TEMPFAIL if ctx.progress() else None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        raw: bytes = header.raw
        name, value = header.name, header.value
        ctx.notes.setdefault("fields", []).append((name, value, raw))

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        ctx.notes["done"] = True

    async def body(self, ctx: Context, chunk: bytes) -> BodyResponse | None:
        return SKIP if b"\0" in chunk else None

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        ctx.add_header("A", "1")
        ctx.insert_header("A", "1")
        ctx.change_header("A", 1, "2")
        ctx.delete_header("A", 2)
        ctx.change_sender("", "RET=HDRS")
        ctx.add_recipient("a@x", "NOTIFY=NEVER")
        ctx.delete_recipient("a@x")
        ctx.quarantine("held")
        ctx.replace_body(b"new")
        ctx.replace_body(self.pieces())
        return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Make a body piece by piece."""
        yield b"new"

    async def unknown(self, ctx: Context, unknown: Unknown) -> UnknownResponse | None:
        return Reply(500, "5.5.1", "What is", unknown.line)

    async def abort(self, ctx: Context) -> None:
        ctx.notes.clear()

    async def close(self, ctx: Context) -> None:
        raw: str = ctx.client.raw_address
        helo: str = ctx.helo
        sender: Mail | None = ctx.sender
        auth: Auth | None = ctx.auth
        tls: TLS | None = ctx.tls
        mta: MTA = ctx.mta
        found: str | None = ctx.macro("i")
        given: str = ctx.macro("i", "none")
        print(raw, helo, sender, auth, tls, mta.kind, found, given)


class Narrow(Milter):
    """Callbacks that say less than they may."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.sender = mail.address

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response:
        return CONTINUE

    async def eom(self, ctx: Context) -> Reply:
        return Reply(550)


class Configured(Milter):
    """A filter that its factory gives what it needs."""

    def __init__(self, limit: int, /) -> None:
        self.limit = limit


@asynccontextmanager
async def configured() -> AsyncIterator[Callable[[], Milter]]:
    yield lambda: Configured(5)


def either(wanted: bool) -> Milter:
    """Make one filter or the other."""
    return Everything() if wanted else Narrow()


async def embed(observer: Observer) -> tuple[str, ...]:
    """Serve several filters in one process."""
    async with (
        serve(Everything, "inet:0@127.0.0.1", observer=observer, on_error=Reply(451, "4.3.0", "later")) as one,
        serve(
            lambda: Configured(1), "unix:/run/x.sock", socket_mode=0o660, socket_group="postfix", idle_timeout=None
        ) as two,
        serve(configured, "fd:3", "inet6:0", on_error=ACCEPT, callback_timeout=5) as three,
        serve(lambda: either(True), "/run/y.sock"),
    ):
        server: Server = one
        await server.reload(milter)
        await two.drain(5)
        await three.close()
        return one.addresses


async def try_out() -> bytes:
    """Try a filter without an MTA."""
    async with session(milter, client="2001:db8::1", helo="x", macros={"{auth_type}": "PLAIN"}, mta="sendmail") as smtp:
        await smtp.mail("<a@x>", "SIZE=1")
        answer = await smtp.rcpt("<b@x>")
        code: int | None = answer.code
        if code == 550 or answer is not CONTINUE:
            return b""
        result = await smtp.message(b"From: a@x\r\n\r\nbody\r\n")
        return result.delivered.octets if result.delivered else b""


def log() -> Observer:
    """The log is one observer."""
    return LogObserver()


class Refusing(Milter):
    """Refuses with a reason at every stage that can refuse."""

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse:
        return Refusal(REJECT, reason="listed")

    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        return Refusal(TEMPFAIL, reason="greylisted")

    async def body(self, ctx: Context, chunk: bytes) -> BodyResponse:
        return Refusal(REJECT, reason="virus")

    async def unknown(self, ctx: Context, unknown: Unknown) -> UnknownResponse:
        return Reply(550, reason="unknown_command")


class Counting(Observer):
    """Hears of messages only, and beside the log."""

    count = 0

    def message_ended(self, event: MessageEnded) -> None:
        self.count += event.edit_count + len(event.refused)


several: list[Observer] = [LogObserver(), Counting()]
beside_the_log = serve(Refusing, "inet:0@127.0.0.1", observer=several, name="inbound")
