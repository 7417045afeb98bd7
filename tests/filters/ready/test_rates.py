"""``rates``: who has to come back later, and how that is told."""

from typing import Any

import pytest

from aiomilter import CONTINUE, Reply, filters
from aiomilter.compose import check, compose
from aiomilter.filters.units import rate, seconds
from aiomilter.policy import Rate
from aiomilter.testing import session

SITE = filters.Site(internal=("198.51.100.0/24",), trusted_relays=("203.0.113.7",))


async def test_each_recipient_counts_and_the_eleventh_refusal_is_left_to_data() -> None:
    async with session(compose(filters.Rates(client="2/h"), site=SITE)) as s:
        await s.mail("<a@x.example>")
        answers = [await s.rcpt(f"<{number}@corp.example>") for number in range(14)]
        found = await s.message(b"Subject: x\r\n\r\n")
    assert answers[:2] == [CONTINUE, CONTINUE]
    assert all(isinstance(each, Reply) and str(each).startswith("450 4.7.1 Too many") for each in answers[2:12])
    assert answers[12:] == [CONTINUE, CONTINUE]
    assert found.stage.name == "DATA"
    assert str(found.answer).startswith("451 4.7.1 Too many recipients")


async def test_a_client_counts_as_one_however_its_address_is_written() -> None:
    where = filters.Site()
    milter = filters.Rates(client="1/h").bind(where)
    async with where.open_store():
        for client, refused in (("192.0.2.1", False), ("::ffff:192.0.2.1", True), ("192.0.2.2", False)):
            async with session(milter, client=client) as s:
                await s.mail("<a@x.example>")
                assert isinstance(await s.rcpt("<u@corp.example>"), Reply) == refused


@pytest.mark.parametrize(
    ("settings", "client", "login", "refused"),
    [
        ({"client": "1/h"}, "192.0.2.1", "", True),
        ({"client": "1/h"}, "192.0.2.1", "alice", False),
        ({"client": "1/h"}, "198.51.100.1", "", False),
        ({"client": "1/h"}, "203.0.113.7", "", False),
        ({"client": "1/h"}, "", "", False),
        ({"user": "1/h"}, "192.0.2.1", "alice", True),
        ({"user": "1/h"}, "198.51.100.1", "alice", True),
        ({"user": "1/h"}, "192.0.2.1", "", False),
        ({"sender_domain": "1/h"}, "203.0.113.7", "", True),
        ({"sender_domain": "1/h"}, "198.51.100.1", "", False),
        ({"user": ["1000/h", "1/s, burst 1"]}, "192.0.2.1", "alice", True),
    ],
)
async def test_it_is_counted_for_whom_it_is_set(
    settings: dict[str, Any], client: str, login: str, refused: bool
) -> None:
    macros = {"auth_authen": login, "auth_type": "PLAIN"} if login else {}
    async with session(compose(filters.Rates(**settings), site=SITE), client=client, macros=macros) as s:
        await s.mail("<a@x.example>")
        answers = [await s.rcpt("<u@corp.example>") for _ in range(2)]
    assert [each is CONTINUE for each in answers] == [True, not refused]


async def test_two_filters_share_one_store() -> None:
    """What is counted is the same, wherever it stands."""
    first, second = filters.Rates(client="2/h"), filters.Rates(client="2/h")
    async with session(compose(first, check(second, name="again"), site=SITE)) as s:
        await s.mail("<a@x.example>")
        answers = [await s.rcpt("<u@corp.example>") for _ in range(2)]
    assert [each is CONTINUE for each in answers] == [True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200/h", Rate(200, per=3600)),
        ("200/h, burst 50", Rate(200, per=3600, burst=50)),
        ("5 / 10 min", Rate(5, per=600)),
        ("1/day", Rate(1, per=86_400)),
        ("30/Min,burst 10", Rate(30, per=60, burst=10)),
    ],
)
def test_a_rate_is_read(text: str, expected: Rate) -> None:
    assert rate("user", text) == expected


@pytest.mark.parametrize(
    "text", ["", "200", "0/h", "200/week", "1e3/h", "200/h burst 5", "9999999/h", "1/999999 d", "-1/h"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^user: "):
        rate("user", text)


def test_times_are_read() -> None:
    assert (seconds("a", "5 min"), seconds("a", 5), seconds("a", "36d")) == (300.0, 5.0, 3_110_400.0)
    with pytest.raises(ValueError, match=r"^a: expected seconds above 0"):
        seconds("a", "soon")


@pytest.mark.parametrize("client", ["192.0.2.1", "::ffff:192.0.2.1"])
@pytest.mark.parametrize("network", ["192.0.2.0/24", "::ffff:192.0.2.0/120", "::ffff:0:0/96", "::ffff:192.0.2.1"])
@pytest.mark.parametrize("word", ["internal", "trusted_relay"])
async def test_networks_may_be_written_as_sockets_of_ipv6_do(client: str, network: str, word: str) -> None:
    internal, relays = ((network,), ()) if word == "internal" else ((), (network,))
    where = filters.Site(internal=internal, trusted_relays=relays)
    async with session(compose(filters.Rates(client="1/h"), site=where), client=client) as s:
        await s.mail("<a@x.example>")
        assert [await s.rcpt("<u@corp.example>") for _ in range(2)] == [CONTINUE, CONTINUE]
