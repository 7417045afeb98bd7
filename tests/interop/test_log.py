"""What a postmaster finds in the log, at INFO, of a conversation with a real Postfix."""

import ast
import asyncio
import logging
import re

import pytest

from aiomilter import REJECT, Context, EndOfMessageContext, Milter, Rcpt, Refusal, Reply, Response, TemporaryFailure
from tests.interop.client import MESSAGE, accepted
from tests.interop.scene import Scene
from tests.patience import PATIENCE

pytestmark = pytest.mark.interop

RECIPIENTS = ("bob@example.test", "closed@example.test", "later@example.test")
TRAPPED = "held for review"


class Policy(Milter):
    """Refuses two of three recipients, each in another way, and edits what is left."""

    async def envfrom(self, ctx: Context, mail: object) -> None:
        """Ask for the sender, so that the log has it."""

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        match rcpt.local_part:
            case "closed":
                return Reply(550, "5.7.1", "closed list", reason="closed")
            case "later":
                raise TemporaryFailure("the list of members is away")
        return None

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Checked", "yes")
        ctx.add_header("X-Checked-By", "policy")
        ctx.change_header("Subject", 1, "[list] hello")
        ctx.quarantine(TRAPPED)


class Doorkeeper(Milter):
    """Refuses senders."""

    async def envfrom(self, ctx: Context, mail: object) -> Response:
        return Refusal(REJECT, reason="trap")


def read(line: str) -> dict[str, str]:
    """Return the parts of the line of a message, as a postmaster's script would read them."""
    parts = dict(re.findall(r"(\w+)=(\[.*?\](?= \w+=)|'(?:[^'\\]|\\.)*'|\S+)", line))
    stage, answer = re.findall(r" (\w+): (.*?)(?= \w+=)", line)[-1]
    return {**parts, "stage": stage, "answer": answer}


async def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of messages, once there are any: they are written when the answer leaves, which is what the client
    waits for, or when the MTA gives the message up."""
    async with asyncio.timeout(PATIENCE):
        while not (found := [text for each in caplog.records if "edits=" in (text := each.getMessage())]):
            await asyncio.sleep(0)
    return found


async def test_who_was_refused_by_which_filter_with_which_reply_and_what_was_edited(
    postfix: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="aiomilter")
    async with postfix.filters(Policy, name="inbound"), postfix.connect() as client:
        replies = await client.send(MESSAGE, "alice@client.test", RECIPIENTS)
        (line,) = await lines(caplog)
    assert accepted(replies["."]), replies

    found = read(line)
    assert found["filter"] == repr(f"{__name__}.Policy")
    assert found["server"] == "'inbound'"
    assert ast.literal_eval(found["sender"]) == "alice@client.test"
    assert ast.literal_eval(found["recipients"]) == ["bob@example.test"]
    refused = found["refused"][1:-1].split(", ")
    assert refused == ["'closed@example.test': 550 5.7.1 closed list (closed)", "'later@example.test': tempfail"]
    assert (found["stage"], found["answer"]) == ("eom", "continue")
    assert found["edits"] == "change_header,add_header*2,quarantine"
    assert ast.literal_eval(found["quarantine"]) == TRAPPED
    assert replies["closed@example.test"] == "550 5.7.1 closed list"
    assert ast.literal_eval(found["queue_id"]) in replies["."]
    # Why the other one has to wait is a warning of its own, of the same filter and message.
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "envrcpt: temporary failure: 'the list of members is away'" in warning.getMessage()
    assert f"filter='{__name__}.Policy'" in warning.getMessage()


async def test_a_refused_sender_is_a_line_with_the_reason(postfix: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="aiomilter")
    async with postfix.filters(Doorkeeper), postfix.connect() as client:
        replies = await client.send(MESSAGE, "alice@client.test", RECIPIENTS)
        (line,) = await lines(caplog)
    assert not accepted(replies["MAIL"])

    found = read(line)
    assert (found["filter"], found["reason"]) == (repr(f"{__name__}.Doorkeeper"), "trap")
    assert (found["stage"], found["answer"], found["edits"]) == ("envfrom", "reject", "none")
    # This filter did not ask for recipients; nothing is said of them.
    assert "recipients" not in found
    assert "server" not in found
