import pytest

from aiomilter import CONTINUE, Milter, Reply
from aiomilter.policy.dnsbl import DnsList
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.examples.test_examples import load

example = load("dnsbl_milter")

ZONE = """
1.2.0.192.bl.example      A    127.0.0.2
1.2.0.192.bl.example      TXT  "open relay"
2.2.0.192.bl.example      *    TIMEOUT
1.2.0.192.broken.example  *    FAILURE
"""


def make() -> Milter:
    lists = [DnsList("broken.example", text=True), DnsList("bl.example", text=True)]
    made: Milter = example.DnsblMilter(lists, ZoneResolver(ZONE))
    return made


async def test_a_listed_client_is_refused_at_each_recipient_but_postmaster() -> None:
    async with session(make, client="192.0.2.1") as s:
        assert await s.mail("<alice@example.com>") == CONTINUE
        refused = await s.rcpt("<bob@example.net>")
        kept = await s.rcpt("<Postmaster@example.net>")

    assert refused == Reply(550, "5.7.1", "192.0.2.1 is listed by bl.example (open relay)")
    assert kept == CONTINUE


@pytest.mark.parametrize("client", ["192.0.2.2", "192.0.2.3", ""])
async def test_nobody_is_refused_for_a_list_that_fails_or_says_nothing(client: str) -> None:
    async with session(make, client=client) as s:
        await s.mail("<alice@example.com>")
        assert await s.rcpt("<bob@example.net>") == CONTINUE


async def test_authenticated_users_pass() -> None:
    async with session(make, client="192.0.2.1", macros={"{auth_authen}": "alice"}) as s:
        await s.mail("<alice@example.com>")
        assert await s.rcpt("<bob@example.net>") == CONTINUE


async def test_without_lists_the_filter_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNSBL_ZONES", raising=False)

    with pytest.raises(ValueError, match="DNSBL_ZONES"):
        async with example.milter():
            pass
