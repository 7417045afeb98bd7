"""What a postmaster finds in the log, at INFO, of a conversation with a real Postfix."""

import ast
import asyncio
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiomilter import REJECT, Context, EndOfMessageContext, Milter, Rcpt, Refusal, Reply, Response, TemporaryFailure
from aiomilter.compose import check, compose
from aiomilter.observe.json import JsonFormatter
from tests.help.pages import python
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


class Virus(Milter):
    """Refuses whole messages."""

    async def eom(self, ctx: EndOfMessageContext) -> Response:
        return Reply(554, "5.7.1", "Infected: Eicar", reason="infected")


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


async def test_a_refused_message_is_found_in_the_json_log_by_its_queue_id(postfix: Scene, tmp_path: Path) -> None:
    """With filter, stage, reason and reply, by the lines of the manual."""
    log, logger = tmp_path / "aiomilter.log", logging.getLogger("aiomilter")
    handler = logging.FileHandler(log)
    handler.setFormatter(JsonFormatter())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        gateway = compose(check(Policy, name="policy"), check(Virus, name="virus"))
        async with postfix.filters(gateway), postfix.connect() as client:
            replies = await client.send(MESSAGE, "alice@client.test", RECIPIENTS)
            accepted_before = await client.send(MESSAGE, "carol@client.test", RECIPIENTS[:1])
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
    assert replies["."] == "554 5.7.1 Infected: Eicar"
    assert not accepted(accepted_before["."])

    refusals = [line for line in log.read_text("utf-8").splitlines() if '"event":"message_ended"' in line]
    queue_ids = [json.loads(line)["queue_id"] for line in refusals]
    assert len(set(queue_ids)) == 2
    (program,) = [block.text for block in python("log") if "sys.stdin" in block.text]
    found = subprocess.run(
        [sys.executable, "-c", program, queue_ids[0]],
        input=log.read_text("utf-8"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.fullmatch(r"\d{4}-\S+Z virus eom infected 554 Infected: Eicar\n", found)
    (line,) = [
        line
        for line in log.read_text("utf-8").splitlines()
        if f'"queue_id":"{queue_ids[0]}"' in line and line in refusals
    ]
    assert json.loads(line)["sender"] == "alice@client.test"
