"""Every verdict at every stage, as the SMTP client of a real MTA meets it.

The tables are in aiomilter/help/protocol.rst, "Answers by stage" and "SMTP replies".
"""

from collections.abc import Iterator

import pytest

from aiomilter import (
    ACCEPT,
    DISCARD,
    REJECT,
    SKIP,
    TEMPFAIL,
    BodyResponse,
    Context,
    EndOfMessageContext,
    Milter,
    Reply,
    Response,
)
from tests.interop.client import MESSAGE, RECIPIENTS, SENDER, accepted
from tests.interop.recorder import Answer, Script
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop

FIRST, SECOND = RECIPIENTS

VERDICTS: dict[str, Answer] = {
    "accept": ACCEPT,
    "discard": DISCARD,
    "reject": REJECT,
    "tempfail": TEMPFAIL,
    "4xx": Reply(450, "4.7.7", "later, 100% sure"),
    "5xx": Reply(554, "5.7.7", "no, 100% sure", "and never"),
    "421": Reply(421, "4.7.8", "bye"),
    "failure": RuntimeError("as asked"),
    "nonsense": True,
}

FAILURES = ("failure", "nonsense")
"""A filter's own; they are answered like TEMPFAIL and logged once."""

STAGES = {
    "envfrom": "MAIL",
    "envrcpt": FIRST,
    "data": "DATA",
    "header": ".",
    "eoh": ".",
    "body": ".",
    "eom": ".",
}
"""The SMTP command that gets what a callback of the message answers; ``"."`` ends the content."""

TWO_LINES = "554-5.7.7 no, 100% sure\n554 5.7.7 and never"
POSTFIX_TEXTS = {
    "reject": "550 5.7.1 Command rejected",
    "tempfail": "451 4.7.1 Service unavailable - try again later",
    "4xx": "450 4.7.7 later, 100% sure",
    "5xx": TWO_LINES,
    "421": "421 4.7.8 bye",
}
SENDMAIL_TEXTS = {**POSTFIX_TEXTS, "tempfail": "451 4.3.2 Please try again later"}

SENDMAIL_ADDRESSED = {"reject": "550 5.7.1 <{}>... Command rejected", "4xx": "450 4.7.7 <{}>... later, 100% sure"}
SENDMAIL_CONTENT = {"reject": "554 5.7.1 Command rejected"}


def refusal(mta: str, stage: str, verdict: str) -> str:
    """What the client reads for a verdict on a message; Sendmail has other words at some stages."""
    verdict = "tempfail" if verdict in FAILURES else verdict
    if mta == "postfix":
        return POSTFIX_TEXTS[verdict]
    if stage in ("envfrom", "envrcpt"):
        address = SENDER if stage == "envfrom" else FIRST
        return SENDMAIL_ADDRESSED.get(verdict, SENDMAIL_TEXTS[verdict]).format(address)
    if stage != "data":
        return SENDMAIL_CONTENT.get(verdict, SENDMAIL_TEXTS[verdict])
    return SENDMAIL_TEXTS[verdict]


def refusals(replies: dict[str, str]) -> dict[str, str]:
    """What was not a yes."""
    return {stage: reply for stage, reply in replies.items() if not accepted(reply)}


WHOLE = ["envfrom", "envrcpt", "envrcpt", "data", "header", "eoh", "body", "eom"]


def shown(stage: str, verdict: str) -> list[str]:
    """The callbacks of a message until its verdict; refusing a recipient does not end it."""
    if stage == "envrcpt":
        return {"accept": WHOLE[:2], "discard": WHOLE[:2], "421": [*WHOLE[:2], "abort"]}.get(verdict, WHOLE)
    return WHOLE[: WHOLE.index(stage) + 1]


@pytest.mark.parametrize("verdict", list(VERDICTS))
@pytest.mark.parametrize("stage", list(STAGES))
async def test_a_verdict_on_a_message_reaches_the_client_and_spares_the_next(
    scene: Scene, stage: str, verdict: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P-031, P-063, P-067, P-068, P-071, P-090, P-096, P-097, P-100 to P-107."""
    script = Script({stage: VERDICTS[verdict]})

    async with scene.filters(script), scene.connect() as client:
        first = await client.send()
        await client.say("RSET")
        second = await client.send()
    delivered = [sorted(delivery.recipients) for delivery in await scene.deliveries()]

    refused = {} if verdict in ("accept", "discard") else {STAGES[stage]: refusal(scene.name, stage, verdict)}
    assert refusals(first) == refused
    assert second == {"MAIL": ""} if verdict == "421" else not refusals(second)
    everybody, after = sorted(RECIPIENTS), [*WHOLE, "close"]
    if verdict == "421":
        assert delivered == []
        after = ["close"]
    elif verdict == "accept":
        assert delivered == [everybody, everybody]
    elif verdict == "discard" or stage != "envrcpt":
        assert delivered == [everybody]
    else:
        assert sorted(delivered) == sorted([[SECOND], everybody])
    assert script.names == ["connect", "helo", *shown(stage, verdict), *after]
    assert len(errors(caplog)) == (verdict in FAILURES)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server logged as the filter's failures."""
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


CONNECTION = {
    ("postfix", "connect", "accept"): {},
    ("postfix", "connect", "reject"): {
        "greeting": "554 mx.example.test ESMTP not accepting connections",
        "MAIL": "550 5.7.1 Command rejected",
    },
    ("postfix", "connect", "tempfail"): {"MAIL": "451 4.7.1 Service unavailable - try again later"},
    ("postfix", "connect", "4xx"): {"MAIL": "450 4.7.7 later, 100% sure"},
    ("postfix", "connect", "5xx"): {
        "greeting": "554 mx.example.test ESMTP not accepting connections",
        "MAIL": TWO_LINES,
    },
    ("postfix", "connect", "421"): {
        "greeting": "421 mx.example.test Service unavailable - try again later",
        "EHLO": "",
        "MAIL": "",
    },
    ("postfix", "helo", "accept"): {},
    ("postfix", "helo", "reject"): {"MAIL": "550 5.7.1 Command rejected"},
    ("postfix", "helo", "tempfail"): {"MAIL": "451 4.7.1 Service unavailable - try again later"},
    ("postfix", "helo", "4xx"): {"MAIL": "450 4.7.7 later, 100% sure"},
    ("postfix", "helo", "5xx"): {"MAIL": TWO_LINES},
    ("postfix", "helo", "421"): {"EHLO": "421 4.7.8 bye", "MAIL": ""},
    ("sendmail", "connect", "accept"): {},
    ("sendmail", "connect", "reject"): {
        "greeting": "554 mx.example.test ESMTP not accepting messages",
        "MAIL": "550 5.0.0 Command rejected",
    },
    ("sendmail", "connect", "tempfail"): {"MAIL": "451 4.3.2 Please try again later"},
    ("sendmail", "connect", "4xx"): {"MAIL": "451 4.3.2 Please try again later"},
    ("sendmail", "connect", "5xx"): {
        "greeting": "554 mx.example.test ESMTP not accepting messages",
        "MAIL": "550 5.0.0 Command rejected",
    },
    ("sendmail", "connect", "421"): {
        "greeting": "421 4.7.0 mx.example.test closing connection",
        "EHLO": "",
        "MAIL": "",
    },
    ("sendmail", "helo", "accept"): {},
    ("sendmail", "helo", "reject"): {"MAIL": "550 5.0.0 Command rejected"},
    ("sendmail", "helo", "tempfail"): {"MAIL": "451 4.3.2 Please try again later"},
    ("sendmail", "helo", "4xx"): {"MAIL": "450 4.7.7 later, 100% sure"},
    ("sendmail", "helo", "5xx"): {"MAIL": TWO_LINES},
    ("sendmail", "helo", "421"): {"EHLO": "421 4.7.8 bye", "MAIL": ""},
}
"""What is refused by stage when the answer to CONNECT or HELO is ...; the rest is said yes to."""


@pytest.mark.parametrize("verdict", list(VERDICTS))
@pytest.mark.parametrize("stage", ["connect", "helo"])
async def test_a_verdict_on_a_connection_holds_for_all_its_messages(
    scene: Scene, stage: str, verdict: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P-031, P-066, P-090, P-091, P-096, P-097: the MTA asks no more, and close comes.

    DISCARD is none of its verdicts: Sendmail would let all mail pass unfiltered.
    """
    failures = (*FAILURES, "discard")
    script = Script({stage: VERDICTS[verdict]})

    async with scene.filters(script), scene.connect(None) as client:
        first = {"greeting": client.greeting, "EHLO": await client.say("EHLO client.test"), **await client.send()}
        second = await client.send()
    deliveries = await scene.deliveries()

    expected = CONNECTION[scene.name, stage, "tempfail" if verdict in failures else verdict]
    assert refusals(first) == expected
    assert refusals(second) == (
        {"MAIL": ""} if verdict == "421" else {k: v for k, v in expected.items() if k == "MAIL"}
    )
    assert len(deliveries) == (2 if verdict == "accept" else 0)
    assert script.names == (["connect", "close"] if stage == "connect" else ["connect", "helo", "close"])
    assert len(errors(caplog)) == (verdict in failures)


async def test_skip_spares_the_rest_of_the_body_only(scene: Scene) -> None:
    """P-092: the message is delivered whole, with the filter's edits."""
    chunks = 0

    class Skipping(Milter):
        async def body(self, ctx: Context, chunk: bytes) -> BodyResponse:
            nonlocal chunks
            chunks += 1
            return SKIP

        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Chunks", str(chunks))

    head, _, _ = MESSAGE.partition(b"\r\n\r\n")
    body = b"a line that is repeated\r\n" * 20_000
    async with scene.filters(Skipping), scene.connect() as client:
        await client.send(head + b"\r\n\r\n" + body)
    (delivery,) = await scene.deliveries()

    assert chunks == 1
    assert delivery.values("X-Chunks") == [" 1"]
    assert delivery.body == body


async def test_all_recipients_refused_leaves_no_message(scene: Scene) -> None:
    """P-068, P-061: the message is open until the client gives up, and is then aborted once."""
    script = Script({f"envrcpt {FIRST}": REJECT, f"envrcpt {SECOND}": TEMPFAIL})
    async with scene.filters(script), scene.connect() as client:
        replies = await client.send()
        await client.say("RSET")
        await client.send()
    deliveries = await scene.deliveries()

    assert [replies[FIRST][:3], replies[SECOND][:3]] == ["550", "451"]
    assert "DATA" not in replies
    assert script.names == ["connect", "helo", "envfrom", "envrcpt", "envrcpt", "abort", *WHOLE, "close"]
    assert len(deliveries) == 1


async def test_a_client_that_repeats_a_refused_data_is_refused_again(scene: Scene) -> None:
    """P-071: both MTAs keep the transaction open after a refused DATA; no message slips through."""
    script = Script({"data": Reply(550, "5.7.7", "no")})
    async with scene.filters(script), scene.connect() as client:
        await client.say(f"MAIL FROM:<{SENDER}>")
        await client.say(f"RCPT TO:<{FIRST}>")
        replies = [await client.say("DATA")]
        replies.append(await client.say(f"RCPT TO:<{SECOND}>"))
        replies.append(await client.say("DATA"))
        assert not any(accepted(reply) for reply in (replies[0], replies[2])), replies
    assert await scene.deliveries() == []
    assert script.names == ["connect", "helo", "envfrom", "envrcpt", "data", "close"]


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        (["100% %s %% done"], "550 5.7.7 100% %s %% done"),
        (["3 strikes"], "550 5.7.7 3 strikes"),
        (["gr\u00fc\u00df \u010a injected"], "550 5.7.7 gr???? ?? injected"),
        (["x" * 600], "550 5.7.7 " + "x" * 480),
        ([f"line {number}" for number in range(32)], None),
    ],
    ids=["percent", "digit", "octets", "long", "many"],
)
async def test_the_text_of_a_reply_reaches_the_client_as_given(
    scene: Scene, lines: list[str], read: str | None
) -> None:
    """P-100 to P-107: nothing in it means anything to the MTA, and no line of it is another reply."""
    async with scene.filters(Script({"data": Reply(550, "5.7.7", *lines)})), scene.connect() as client:
        replies = await client.send()
        following = await client.say("NOOP")

    if read is None:
        last = len(lines) - 1
        read = "\n".join(f"550{' ' if i == last else '-'}5.7.7 {line}" for i, line in enumerate(lines))
    assert replies["DATA"] == read
    assert following[:3] == "250"


async def test_the_text_of_a_reply_is_used_once(scene: Scene) -> None:
    """P-108: a later plain REJECT does not speak with an earlier reply's words."""
    answers: Iterator[Response] = iter([Reply(550, "5.7.7", "mine"), REJECT])

    class Refusing(Milter):
        async def data(self, ctx: Context) -> Response:
            return next(answers)

    async with scene.filters(Refusing), scene.connect() as client:
        first = await client.send()
        await client.say("RSET")
        second = await client.send()

    assert first["DATA"] == "550 5.7.7 mine"
    assert second["DATA"] == "550 5.7.1 Command rejected"
