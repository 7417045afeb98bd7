"""What SMTP clients do, and what a filter is told of it."""

import asyncio
from typing import Any

import pytest

from aiomilter import ACCEPT, DISCARD, REJECT, TEMPFAIL, Context, EndOfMessageContext, Milter, Reply, Response
from tests.interop.client import MESSAGE, RECIPIENTS, SENDER, Client, accepted, connect
from tests.interop.recorder import CALLBACKS, Script
from tests.interop.rigs.postfix import Postfix
from tests.interop.rigs.sendmail import Sendmail
from tests.interop.scene import Scene, serve

pytestmark = pytest.mark.interop

BOB, CAROL = RECIPIENTS
WHOLE = ["connect", "helo", "envfrom", "envrcpt", "envrcpt", "data", "header", "eoh", "body", "eom", "close"]


async def test_a_filter_is_told_of_the_whole_session_in_order(scene: Scene) -> None:
    """P-042, P-043, P-045, P-066: from the greeting to QUIT."""
    script = Script()
    async with scene.filters(script), scene.connect() as client:
        await client.send()

    assert script.names == WHOLE
    assert script.events[0] == ("connect", "localhost", "127.0.0.1")
    assert script.events[1:5] == [
        ("helo", "client.test"),
        ("envfrom", f"<{SENDER}>", ()),
        ("envrcpt", f"<{BOB}>", ()),
        ("envrcpt", f"<{CAROL}>", ()),
    ]
    assert ("header", "Subject", "hello") in script.events
    assert ("body", b"Hello Bob.\r\n") in script.events


@pytest.mark.parametrize(
    "slow", [["connect", "envrcpt", "header"], ["helo", "data", "body", "eom"], CALLBACKS], ids=len
)
async def test_callbacks_that_let_others_go_first_keep_their_place(scene: Scene, slow: list[str]) -> None:
    """P-005, P-135: suspended callbacks among inline ones, over a message of many fields and chunks."""
    head, _, body = MESSAGE.partition(b"\r\n\r\n")
    fields = [f"X-Number: {number}" for number in range(60)]
    script = Script(slow=frozenset(slow), edit=lambda ctx: ctx.add_header("X-Done", "yes"))
    async with scene.filters(script), scene.connect() as client:
        await client.send(head + b"\r\n" + "\r\n".join(fields).encode() + b"\r\n\r\n" + body * 20_000)
    (delivery,) = await scene.deliveries()

    assert script.names == WHOLE
    numbers = [event[2] for event in script.events if event[:2] == ("header", "X-Number")]
    assert numbers == [str(number) for number in range(60)]
    assert b"".join(event[1] for event in script.events if event[0] == "body") == body * 20_000
    assert delivery.values("X-Done") == [" yes"]


async def test_a_second_message_starts_clean(scene: Scene) -> None:
    """P-067, P-084: notes, recipients, sender, queue id and edits belong to one message."""
    told: list[dict[str, Any]] = []

    class Noting(Milter):
        async def envfrom(self, ctx: Context, mail: Any) -> None:
            told.append({"notes": dict(ctx.notes), "recipients": ctx.recipients, "early id": ctx.queue_id})
            told[-1]["early rcpt"] = ctx.macro("{rcpt_addr}")
            ctx.notes["mine"] = True

        async def eom(self, ctx: EndOfMessageContext) -> None:
            assert ctx.sender is not None
            told[-1] |= {
                "sender": ctx.sender.address,
                "to": [rcpt.address for rcpt in ctx.recipients],
                "id": ctx.queue_id,
                "last": ctx.macro("{rcpt_addr}"),
            }
            if len(told) == 1:
                ctx.add_header("X-First", "1")
                ctx.replace_body(b"first\r\n")

    async with scene.filters(Noting), scene.connect() as client:
        first = await client.send()
        second = await client.send(sender="", recipients=["dave@example.test"])
    deliveries = await scene.deliveries()

    assert [message["notes"] for message in told] == [{}, {}]
    assert [message["recipients"] for message in told] == [(), ()]
    assert [message["early rcpt"] for message in told] == [None, None]
    # Postfix has no queue id before the first recipient.
    assert [message["early id"] for message in told] == (
        [None, None] if scene.name == "postfix" else [message["id"] for message in told]
    )
    assert [message["sender"] for message in told] == [SENDER, ""]
    assert [message["to"] for message in told] == [[BOB, CAROL], ["dave@example.test"]]
    assert told[0]["id"] in first["."]
    assert told[1]["id"] in second["."]
    by_sender = {delivery.sender: delivery for delivery in deliveries}
    assert by_sender[SENDER].values("X-First") == [" 1"]
    assert by_sender[SENDER].body == b"first\r\n"
    assert by_sender[""].values("X-First") == []
    assert by_sender[""].body == b"Hello Bob.\r\n"
    assert list(by_sender[""].recipients) == ["dave@example.test"]


@pytest.mark.parametrize("command", ["RSET", "EHLO again.test"])
async def test_a_client_that_starts_over_aborts_the_message(scene: Scene, command: str) -> None:
    """P-049, P-060, P-061, P-062, P-070: one abort for the message that was open, none for others; HELO stays."""
    script = Script()
    async with scene.filters(script), scene.connect() as client:
        await client.say(f"MAIL FROM:<{SENDER}>")
        await client.say(f"RCPT TO:<{BOB}>")
        await client.say(command)
        await client.say(command)
        await client.send(recipients=[CAROL])
    deliveries = await scene.deliveries()

    messages = [event[0] for event in script.events if event[0] in ("envfrom", "envrcpt", "abort", "eom", "close")]
    assert messages == ["envfrom", "envrcpt", "abort", "envfrom", "envrcpt", "eom", "close"]
    assert [list(delivery.recipients) for delivery in deliveries] == [[CAROL]]
    names = [event[1] for event in script.events if event[0] == "helo"]
    assert names[0] == "client.test"
    assert set(names[1:]) == (set() if command == "RSET" else {"again.test"})


async def test_a_client_that_leaves_in_the_middle_aborts_the_message(scene: Scene) -> None:
    """P-065, P-066: abort, then close."""
    script = Script()
    async with scene.filters(script), scene.connect() as client:
        await client.say(f"MAIL FROM:<{SENDER}>")
        await client.say(f"RCPT TO:<{BOB}>")

    assert script.names == ["connect", "helo", "envfrom", "envrcpt", "abort", "close"]
    assert await scene.deliveries() == []


async def test_a_client_that_vanishes_inside_the_content_aborts_the_message(scene: Scene) -> None:
    """P-061, P-065: Sendmail sends neither ABORT nor QUIT here."""
    script = Script()
    async with scene.filters(script), scene.connect() as client:
        await client.say(f"MAIL FROM:<{SENDER}>")
        await client.say(f"RCPT TO:<{BOB}>")
        await client.say("DATA")
        await client.write(MESSAGE)
        await client.hang_up()

    assert script.names == ["connect", "helo", "envfrom", "envrcpt", "data", "abort", "close"]
    assert await scene.deliveries() == []


async def test_pipelined_commands_are_answered_one_by_one(scene: Scene) -> None:
    """P-005, P-068: each recipient has the answer it deserves."""
    script = Script({f"envrcpt {BOB}": Reply(550, "5.1.1", "who?")}, slow=frozenset(["envrcpt"]))
    async with scene.filters(script), scene.connect() as client:
        await client.write(
            f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{CAROL}>\r\nRCPT TO:<{BOB}>\r\nRCPT TO:<dave@example.test>\r\nDATA\r\n".encode()
        )
        replies = [await client.reply() for _ in range(5)]
        end = await client.content(MESSAGE)
    (delivery,) = await scene.deliveries()

    assert [reply[:3] for reply in replies] == ["250", "250", "550", "250", "354"]
    assert replies[2].endswith("who?")
    assert accepted(end)
    assert sorted(delivery.recipients) == [CAROL, "dave@example.test"]


async def test_a_client_that_breaks_off_and_pipelines_the_next_message(scene: Scene) -> None:
    """P-050, P-061, P-067: RSET and MAIL in one write."""
    script = Script()
    async with scene.filters(script), scene.connect() as client:
        await client.write(
            f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{BOB}>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<{CAROL}>\r\nDATA\r\n".encode()
        )
        replies = [await client.reply() for _ in range(6)]
        end = await client.content(MESSAGE)
    (delivery,) = await scene.deliveries()

    assert [reply[:3] for reply in replies] == ["250", "250", "250", "250", "250", "354"]
    assert accepted(end)
    assert delivery.sender == ""
    assert list(delivery.recipients) == [CAROL]
    assert [event[0] for event in script.events if event[0] in ("abort", "eom")] == ["abort", "eom"]


@pytest.mark.parametrize("answer", [None, REJECT, TEMPFAIL, Reply(550, "5.5.9", "what?"), ACCEPT, DISCARD], ids=str)
async def test_an_unknown_command_leaves_the_message_as_it_is(scene: Scene, answer: Any) -> None:
    """P-047: inside a transaction and before; the MTA always refuses the command, the filter may choose the text.

    P-091: ACCEPT would kill Postfix's SMTP server at the next MAIL, DISCARD the message.
    """
    script = Script({"unknown": answer})
    async with scene.filters(script), scene.connect() as client:
        before = await client.say("FOOO bar")
        script.recorders[0].answers["unknown"] = answer
        await client.say(f"MAIL FROM:<{SENDER}>")
        await client.say(f"RCPT TO:<{BOB}>")
        reply = await client.say("FOOO bar")
        data = await client.say("DATA")
        end = await client.content(MESSAGE)
    deliveries = await scene.deliveries()

    whole_line = scene.name == "sendmail" or scene.rig.version >= (3, 10)
    assert ("unknown", "FOOO bar" if whole_line else "FOOO") in script.events
    assert before == reply
    assert reply[:1] in ("4", "5")
    if isinstance(answer, Reply) and not (scene.name == "postfix" and scene.rig.version >= (3, 10)):
        assert reply == str(answer)
    assert accepted(data)
    assert accepted(end)
    assert len(deliveries) == 1


async def test_odd_addresses_arrive_as_they_were_sent(scene: Scene) -> None:
    """P-041, P-042: brackets, quotes and parameters are kept; ``address`` is what to compare."""
    seen: list[tuple[str, str, tuple[str, ...]]] = []

    class Looking(Milter):
        async def envfrom(self, ctx: Context, mail: Any) -> None:
            seen.append((mail.path, mail.address, mail.params))

        async def envrcpt(self, ctx: Context, rcpt: Any) -> None:
            seen.append((rcpt.path, rcpt.address, rcpt.params))

    async with scene.filters(Looking), scene.connect() as client:
        await client.say("MAIL FROM:<> SIZE=300 BODY=8BITMIME")
        await client.say('RCPT TO:<"odd user"@example.test> NOTIFY=NEVER')
        await client.say(f"RCPT TO:{BOB}")

    assert seen == [
        ("<>", "", ("SIZE=300", "BODY=8BITMIME")),
        ('<"odd user"@example.test>', '"odd user"@example.test', ("NOTIFY=NEVER",)),
        (BOB, BOB, ()),
    ]


async def test_text_that_is_no_ascii_arrives_unharmed(scene: Scene) -> None:
    """P-044: in HELO, in fields and in the body, UTF-8 or not."""
    head, _, _ = MESSAGE.partition(b"\r\n\r\n")
    script = Script()
    async with scene.filters(script), scene.connect(None) as client:
        await client.say("EHLO gr\u00fc\u00df.test")
        await client.say(f"MAIL FROM:<{SENDER}> BODY=8BITMIME")
        await client.say(f"RCPT TO:<{BOB}>")
        await client.say("DATA")
        await client.content(head + b"\r\nX-Odd: \xff\xfe gr\xc3\xbc\r\n\r\n\xe4\xf6\xfc \xc3\xa4\r\n")
    (delivery,) = await scene.deliveries()

    assert ("header", "X-Odd", "\udcff\udcfe gr\u00fc") in script.events
    assert ("body", b"\xe4\xf6\xfc \xc3\xa4\r\n") in script.events
    assert delivery.values("X-Odd") == [" \udcff\udcfe gr\u00fc"]
    assert delivery.body == b"\xe4\xf6\xfc \xc3\xa4\r\n"
    if scene.name == "postfix":
        assert ("helo", "gr\u00fc\u00df.test") in script.events


async def test_internationalized_addresses_pass_both_ways(postfix: Scene) -> None:
    """P-042, P-044: SMTPUTF8 is a parameter like any other, and an added recipient may be UTF-8 too."""
    script = Script(edit=lambda ctx: ctx.add_recipient("j\u00fcrgen@example.test"))
    async with postfix.filters(script), postfix.connect() as client:
        assert accepted(await client.say("MAIL FROM:<j\u00f6rg@client.test> SMTPUTF8"))
        assert accepted(await client.say("RCPT TO:<ren\u00e9e@example.test>"))
        await client.say("DATA")
        await client.content(MESSAGE)
    (delivery,) = await postfix.deliveries()

    assert ("envfrom", "<j\u00f6rg@client.test>", ("SMTPUTF8",)) in script.events
    assert ("envrcpt", "<ren\u00e9e@example.test>", ()) in script.events
    assert delivery.sender == "j\u00f6rg@client.test"
    assert sorted(delivery.recipients) == ["j\u00fcrgen@example.test", "ren\u00e9e@example.test"]


async def test_a_message_with_no_body_and_one_with_no_header(scene: Scene) -> None:
    """P-045: no body callback without body; end of headers always comes."""
    script = Script()
    async with scene.filters(script), scene.connect() as client:
        no_body = await client.send(b"Subject: only\r\n\r\n")
        no_header = await client.send(b"\r\nonly\r\n")
    assert accepted(no_body["."])
    assert accepted(no_header["."])

    content = [event[0] for event in script.events if event[0] in ("eoh", "body", "eom")]
    assert content == ["eoh", "eom", "eoh", "body", "eom"]


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ("ADDR=192.0.2.7 NAME=mail.client.test PORT=4711", ("mail.client.test", "192.0.2.7")),
        ("ADDR=192.0.2.7 NAME=[UNAVAILABLE]", ("[192.0.2.7]", "192.0.2.7")),
        ("ADDR=IPV6:2001:db8::7 NAME=six.client.test", ("six.client.test", "2001:db8::7")),
        ("ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]", ("unknown", None)),
    ],
)
async def test_the_address_of_the_client_is_told(
    postfix: Scene, attributes: str, shown: tuple[str, str | None]
) -> None:
    """P-037, P-038, P-040: as a proxy before Postfix gives it; the filter has a new connection for it."""
    script = Script()
    async with postfix.filters(script), postfix.connect() as client:
        assert accepted(await client.say(f"XCLIENT {attributes}"))
        await client.say("EHLO client.test")
        await client.send()

    first, second = script.recorders
    assert first.events[0] == ("connect", "localhost", "127.0.0.1")
    assert [event[0] for event in first.events] == ["connect", "helo", "close"]
    assert second.events[0] == ("connect", *shown)
    assert [event[0] for event in second.events][-2:] == ["eom", "close"]


async def test_a_client_that_logged_in_is_known(postfix: Scene) -> None:
    """Macros {auth_authen} and {auth_type}; the context reads them (P-085)."""
    logins: list[Any] = []

    class Knowing(Milter):
        async def envfrom(self, ctx: Context, mail: Any) -> Response:
            logins.append(ctx.auth and ctx.auth.login)
            return ACCEPT

    async with postfix.filters(Knowing), postfix.connect() as client:
        await client.say("XCLIENT LOGIN=user1")
        await client.say("EHLO client.test")
        await client.send()

    assert logins == ["user1"]


async def test_mail_of_local_programs_passes_the_filter(postfix_rig: Postfix) -> None:
    """P-039, P-041: no brackets, port 0: mail that does not come by SMTP."""
    script = Script(edit=lambda ctx: ctx.add_header("X-Local", "yes"))
    before = len(postfix_rig.deliveries)
    async with serve(script, postfix_rig.submitted):
        await postfix_rig.submit("root@example.test", BOB, b"Subject: cron\n\noutput\n")
        await postfix_rig.settled()
    (delivery,) = postfix_rig.deliveries[before:]

    assert script.events[0] == ("connect", "localhost", "127.0.0.1")
    assert ("envfrom", "root@example.test", ()) in script.events
    assert ("envrcpt", BOB, ()) in script.events
    assert script.names[-2:] == ["eom", "close"]
    assert delivery.sender == "root@example.test"
    assert delivery.values("X-Local") == [" yes"]


async def test_a_client_without_address_is_served(sendmail_rig: Sendmail) -> None:
    """P-036: Sendmail on a pipe names no address at all."""
    script = Script(edit=lambda ctx: ctx.add_header("X-Local", "yes"))
    before = len(sendmail_rig.deliveries)
    async with serve(script, sendmail_rig.first):
        process = await sendmail_rig.submission()
        assert process.stdin is not None
        assert process.stdout is not None
        client = Client(process.stdout, process.stdin)
        assert accepted(await client.reply())
        assert accepted(await client.say("EHLO client.test"))
        await client.send()
        await client.say("QUIT")
        await process.wait()
        await sendmail_rig.settled()
    (delivery,) = sendmail_rig.deliveries[before:]

    assert script.events[0] == ("connect", "localhost", None)
    assert delivery.values("X-Local") == [" yes"]


async def test_sessions_side_by_side_do_not_meet(scene: Scene) -> None:
    """P-135: a callback that waits in one session holds up no other."""
    let_go = asyncio.Event()
    waiting = asyncio.Event()

    class Waiting(Milter):
        async def envfrom(self, ctx: Context, mail: Any) -> None:
            if mail.address == "slow@client.test":
                waiting.set()
                await let_go.wait()

    async with scene.filters(Waiting), connect(scene.port) as slow, connect(scene.port) as quick:
        blocked = asyncio.create_task(slow.send(sender="slow@client.test"))
        await waiting.wait()
        replies = await quick.send(sender="quick@client.test")
        assert not blocked.done()
        let_go.set()
        await blocked
    deliveries = await scene.deliveries()

    assert accepted(replies["."])
    assert sorted(delivery.sender for delivery in deliveries) == ["quick@client.test", "slow@client.test"]
