import pytest

from aiomilter import Stage
from aiomilter.auth.dkim import Options, Signer, verify
from aiomilter.mta import Style
from aiomilter.testing import session
from tests.auth.dkim.made import MESSAGES, key, zone
from tests.filters.dkim_signer import SignOurMail

KEY = key("ed25519")


async def sent(message: bytes, mta: Style, *, form: str = "simple/simple", login: bool = True) -> bytes:
    """Return what is delivered of a message."""
    signer = Signer(KEY, Options(canonicalization=form))
    macros = {Stage.MAIL: {"auth_authen": "alice", "auth_type": "PLAIN"}} if login else {}
    async with session(lambda: SignOurMail(signer), mta=mta, macros=macros) as s:
        await s.mail("<alice@example.com>")
        await s.rcpt("<bob@example.net>")
        result = await s.message(message)
    assert result.delivered is not None
    return result.delivered.octets


@pytest.mark.parametrize("form", ["simple/simple", "relaxed/relaxed"])
@pytest.mark.parametrize("name", ["text", "folded", "blank lines", "no body"])
async def test_what_is_delivered_verifies(name: str, form: str, mta: Style) -> None:
    delivered = await sent(MESSAGES[name], mta, form=form)
    (signature,) = await verify(delivered, resolver=zone(KEY))
    assert (signature.result, signature.domain) == ("pass", "example.com")


async def test_mail_of_strangers_is_not_signed(mta: Style) -> None:
    assert b"DKIM-Signature" not in await sent(MESSAGES["text"], mta, login=False)
