"""What a filter's class asks of a real MTA, and gets."""

from typing import Any

import pytest

from aiomilter import (
    REJECT,
    BodyResponse,
    Connect,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Rcpt,
    Reply,
    Response,
    Stage,
    no_reply,
)
from tests.interop.client import MESSAGE, RECIPIENTS, SENDER, accepted
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop

BOB, CAROL = RECIPIENTS


async def test_a_filter_that_only_decides_knows_the_whole_envelope(scene: Scene) -> None:
    """P-017: stages without a callback are asked for without answer where a later callback may want to know them."""
    told: list[Any] = []

    class Deciding(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> None:
            assert ctx.sender is not None
            told.append((str(ctx.client.ip), ctx.helo, ctx.sender.address, [rcpt.address for rcpt in ctx.recipients]))

    async with scene.filters(Deciding), scene.connect() as client:
        await client.send()
        await client.send(sender="", recipients=[CAROL])

    assert told == [
        ("127.0.0.1", "client.test", SENDER, [BOB, CAROL]),
        ("127.0.0.1", "client.test", "", [CAROL]),
    ]


class Silent(Milter):
    """Answers nothing before the end of the message."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @no_reply
    async def connect(self, ctx: Context, connect: Connect) -> None:
        self.events.append("connect")

    @no_reply
    async def helo(self, ctx: Context, helo: Helo) -> None:
        self.events.append("helo")

    @no_reply
    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.events.append(f"envfrom {mail.address}")

    @no_reply
    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        self.events.append(f"envrcpt {rcpt.address}")

    @no_reply
    async def data(self, ctx: Context) -> None:
        self.events.append("data")

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.events.append(f"header {header.name}")

    @no_reply
    async def eoh(self, ctx: Context) -> None:
        self.events.append("eoh")

    @no_reply
    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.events.append(f"body {len(chunk)}")

    async def eom(self, ctx: EndOfMessageContext) -> None:
        self.events.append("eom")
        ctx.add_header("X-Recipients", " ".join(rcpt.address for rcpt in ctx.recipients))

    async def abort(self, ctx: Context) -> None:
        self.events.append("abort")

    async def close(self, ctx: Context) -> None:
        self.events.append("close")


async def test_a_filter_that_answers_at_the_end_only_sees_everything_in_order(scene: Scene) -> None:
    """P-018, P-031, P-050, P-067: Sendmail tells of RSET by the next MAIL only, Postfix streams several transactions."""
    milters: list[Silent] = []

    def factory() -> Silent:
        milters.append(Silent())
        return milters[-1]

    async with scene.filters(factory), scene.connect() as client:
        await client.say("MAIL FROM:<given-up@client.test>")
        await client.say(f"RCPT TO:<{BOB}>")
        await client.say("RSET")
        await client.send(recipients=[CAROL])
        await client.send(sender="")
    deliveries = await scene.deliveries()

    (seen,) = [milter.events for milter in milters if milter.events]
    fields = [f"header {name}" for name in ("From", "To", "Date", "Message-ID", "Subject")]
    content = ["data", *fields, "eoh", "body 12", "eom"]
    assert seen == [
        *("connect", "helo"),
        *("envfrom given-up@client.test", f"envrcpt {BOB}", "abort"),
        *(f"envfrom {SENDER}", f"envrcpt {CAROL}", *content),
        *("envfrom ", f"envrcpt {BOB}", f"envrcpt {CAROL}", *content),
        "close",
    ]
    values = {delivery.sender: delivery.values("X-Recipients") for delivery in deliveries}
    assert values == {SENDER: [f" {CAROL}"], "": [f" {BOB} {CAROL}"]}


@pytest.mark.parametrize("where", ["envfrom", "envrcpt", "header", "body"])
async def test_a_failure_in_a_stage_without_answer_refuses_the_message_later(scene: Scene, where: str) -> None:
    """P-095: given at the next stage that has an answer; the next message passes."""
    failures = [where]

    class Failing(Silent):
        @no_reply
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            self.fail("envfrom")

        @no_reply
        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            self.fail("envrcpt")

        @no_reply
        async def header(self, ctx: Context, header: Header) -> None:
            self.fail("header")

        @no_reply
        async def body(self, ctx: Context, chunk: bytes) -> None:
            self.fail("body")

        def fail(self, name: str) -> None:
            if name in failures:
                failures.remove(name)
                raise RuntimeError("as asked")

    async with scene.filters(Failing), scene.connect() as client:
        first = await client.send()
        await client.say("RSET")
        second = await client.send()
    deliveries = await scene.deliveries()

    *before, last = first.values()
    assert all(accepted(reply) for reply in before)
    assert last[:3] == "451"
    assert all(accepted(reply) for reply in second.values())
    assert len(deliveries) == 1


async def test_macros_asked_for_come_besides_the_usual_ones(scene: Scene) -> None:
    """P-021, P-022, P-080 to P-085: a list of ours replaces the MTA's, and nothing usual is lost by it."""
    told: dict[str, Any] = {}

    class Asking(Milter):
        macros = {  # noqa: RUF012  # as a user would write it
            Stage.CONNECT: ("{client_addr}",),
            Stage.MAIL: ("{client_name}",),
            Stage.RCPT: ("{client_port}",),
            Stage.EOM: ("{client_ptr}",),
        }

        async def connect(self, ctx: Context, connect: Connect) -> None:
            told["connect"] = (ctx.macro("{client_addr}"), ctx.macro("j"), ctx.mta.kind, ctx.mta.version)

        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            told["mail"] = (ctx.macro("client_name"), ctx.macro("mail_addr"))

        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            told["rcpt"] = ((ctx.macro("{client_port}") or "").isdigit(), ctx.macro("{rcpt_addr}"))

        async def eom(self, ctx: EndOfMessageContext) -> None:
            told["eom"] = (ctx.macro("client_ptr"), ctx.queue_id)

    async with scene.filters(Asking), scene.connect() as client:
        replies = await client.send()

    version = ".".join(map(str, scene.rig.version))
    assert told["connect"] == ("127.0.0.1", "mx.example.test", scene.name, version)
    assert told["mail"] == ("localhost", SENDER)
    assert told["rcpt"] == (True, CAROL)
    assert told["eom"][0] == "localhost"
    assert told["eom"][1] in replies["."]


async def test_recipients_that_the_mta_refuses_are_shown_on_request(postfix: Scene) -> None:
    """P-020: marked by their macros, and no recipients of the message."""
    told: list[Any] = []

    class Curious(Milter):
        rejected_recipients = True

        async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
            told.append((rcpt.address, ctx.macro("{rcpt_mailer}") == "error"))

        async def eom(self, ctx: EndOfMessageContext) -> None:
            told.append([rcpt.address for rcpt in ctx.recipients])

    async with postfix.filters(Curious), postfix.connect() as client:
        replies = await client.send(recipients=["nobody@elsewhere.test", BOB])

    assert not accepted(replies["nobody@elsewhere.test"])
    assert told == [("nobody@elsewhere.test", True), (BOB, False), [BOB]]


async def test_progress_keeps_either_mta_waiting(scene: Scene) -> None:
    """P-093: at any stage to Postfix, at end of message to Sendmail, and never where it would do harm."""
    sent: list[bool] = []

    class Working(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None:
            sent.append(ctx.progress())

        async def header(self, ctx: Context, header: Header) -> None:
            sent.append(ctx.progress())

        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.replace_body(b"new\r\n")
            sent.append(ctx.progress() and ctx.progress())

    async with scene.filters(Working), scene.connect() as client:
        replies = await client.send()
    (delivery,) = await scene.deliveries()

    assert accepted(replies["."])
    assert sent == [scene.name == "postfix"] * 6 + [True]
    assert delivery.body == b"new\r\n"


async def test_a_body_nobody_wants_more_of_is_not_sent_to_other_callbacks(scene: Scene) -> None:
    """P-090 to P-092: a verdict at a middle chunk ends the message for the filter."""
    chunks = 0

    class Refusing(Milter):
        async def body(self, ctx: Context, chunk: bytes) -> BodyResponse | None:
            nonlocal chunks
            chunks += 1
            return Reply(554, "5.6.0", "enough") if chunks == 2 else None

        async def eom(self, ctx: EndOfMessageContext) -> Response:
            return REJECT

    head, _, _ = MESSAGE.partition(b"\r\n\r\n")
    async with scene.filters(Refusing), scene.connect() as client:
        replies = await client.send(head + b"\r\n\r\n" + b"a line that is repeated\r\n" * 20_000)

    assert replies["."] == "554 5.6.0 enough"
    assert chunks == 2
    assert await scene.deliveries() == []
