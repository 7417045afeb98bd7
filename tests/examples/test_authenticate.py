import asyncio
import re
from collections.abc import Callable
from typing import Final, Literal

import pytest

from aiomilter import Milter, Reply
from aiomilter.auth import Authenticator
from aiomilter.auth.dkim import Options
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import NOW, key, signed
from tests.examples.test_examples import load

example = load("authenticate")

ZONE: Final = """
example.com         TXT  "v=spf1 ip4:192.0.2.1 -all"
_dmarc.example.com  TXT  "v=DMARC1; p=reject"
"""
KEY: Final = key("ed25519")
MESSAGE: Final = (
    b"Authentication-Results: mx.example.net; dmarc=pass\r\n"
    b"From: Alice <alice@example.com>\r\nSubject:  two  spaces\r\n\r\nHello.\r\n"
)


def factory() -> Callable[[], Milter]:
    resolver = ZoneResolver(ZONE)
    resolver.add(KEY.name, "TXT", KEY.record())
    auth = Authenticator(resolver, authserv_ids=[example.NAME], clock=lambda: NOW)
    return lambda: example.Authenticate(auth)


EXACT: Final = Options(canonicalization="simple/simple")
REFUSED: Final = Reply(550, "5.7.1", "rejected by the DMARC policy of example.com")


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
@pytest.mark.parametrize(
    ("client", "message", "results"),
    [
        ("192.0.2.1", MESSAGE, "spf=pass dkim=none dmarc=pass"),
        ("203.0.113.1", signed(MESSAGE, KEY, options=EXACT), "spf=fail dkim=pass dmarc=pass"),
        ("203.0.113.1", MESSAGE, ""),
        ("203.0.113.1", signed(MESSAGE, KEY) + b"More.\r\n", ""),
    ],
)
async def test_forged_mail_is_rejected_and_the_rest_is_marked(
    client: str, message: bytes, results: str, mta: Literal["postfix", "sendmail"]
) -> None:
    """M-054, R-001: the signature covers a double blank behind a colon."""
    async with session(factory(), client=client, helo="mail.example.com", mta=mta) as s:
        outcome = await s.send(message, "alice@example.com", "bob@example.org")

    if not results:
        assert outcome.answer == REFUSED
        return
    assert outcome.octets.startswith(b"Authentication-Results: mx.example.net;\r\n\tiprev=permerror")
    assert outcome.octets.count(b"Authentication-Results:") == 1
    assert re.findall(r"(?<!\.)(?:spf|dkim|dmarc)=\w+", outcome.octets.decode()) == results.split()


async def test_our_own_users_are_not_judged() -> None:
    async with session(factory(), client="203.0.113.1", macros={"auth_authen": "alice"}) as s:
        outcome = await s.send(MESSAGE, "alice@example.com", "bob@example.org")

    assert outcome.passed
    assert b"dmarc=fail" in outcome.octets


async def test_a_message_that_is_given_up_leaves_no_task() -> None:
    before = len(asyncio.all_tasks())
    async with session(factory(), client="192.0.2.1") as s:
        await s.mail("<alice@example.com>")
        await s.rcpt("<bob@example.org>")
        await s.abort()

    assert len(asyncio.all_tasks()) == before


async def test_the_filter_starts() -> None:
    """It reads the nameservers of this machine, and asks them nothing."""
    async with session(example.milter, client=""):
        pass
