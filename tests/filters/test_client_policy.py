import pytest

from aiomilter import CONTINUE, Reply
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.filters.client_policy import ClientPolicy

OUTSIDE = "203.0.113.5"
GOOD = b"From: a@x.example\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n\r\nHello\r\n"
LOGGED_IN = {"auth_authen": "alice@example.org", "auth_type": "PLAIN"}
TLS = {"tls_version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "cipher_bits": "256"}


@pytest.mark.parametrize("client", ["192.0.2.1", "127.0.0.1", "::1", ""])
async def test_our_networks_pass_unasked(client: str, mta: Style) -> None:
    async with session(ClientPolicy, client=client, macros={"daemon_name": "submission"}, mta=mta) as s:
        assert s.decided is not None
        for _ in range(2):
            await s.mail("<a@x.example>")
            await s.rcpt("<b@example.org>")
            assert (await s.message(b"\r\n")).delivered is not None


async def test_outsiders_need_one_from_and_one_date_in_each_message(mta: Style) -> None:
    async with session(ClientPolicy, client=OUTSIDE, mta=mta) as s:
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        refused = await s.message(b"From: a@x.example\r\n" + GOOD)
        await s.mail("<a@x.example>")
        await s.rcpt("<b@example.org>")
        passed = await s.message(GOOD)

    assert refused.answer == Reply(550, "5.6.0", "Expected one From field, found 2")
    assert passed.delivered is not None
    assert passed.delivered.octets == GOOD


async def test_who_has_logged_in_sends_as_himself(mta: Style) -> None:
    async with session(ClientPolicy, client=OUTSIDE, macros=LOGGED_IN | TLS, mta=mta) as s:
        assert await s.mail("<Alice@example.org>") is CONTINUE
        refused = await s.mail("<bob@example.org>")
    assert refused == Reply(550, "5.7.1", "alice@example.org may not send as bob@example.org")


@pytest.mark.parametrize(
    ("macros", "text"), [(LOGGED_IN, "Use STARTTLS first"), ({"daemon_name": "submission"}, "Authentication required")]
)
async def test_the_way_in_is_asked_for(macros: dict[str, str], text: str, mta: Style) -> None:
    async with session(ClientPolicy, client=OUTSIDE, macros=macros, mta=mta) as s:
        assert await s.mail("<alice@example.org>") == Reply(530, "5.7.0", text)
