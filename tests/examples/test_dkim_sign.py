from pathlib import Path

import pytest

from aiomilter import ACCEPT
from aiomilter.auth import dkim
from aiomilter.testing import session
from tests.auth.dkim.made import MESSAGE, key, zone
from tests.examples.test_examples import load

example = load("dkim_sign")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for made in (key("rsa"), key("ed25519")):
        path = tmp_path / f"{made.selector}.pem"
        path.write_bytes(made.private.pem())
        path.chmod(0o600)
        files.append(path.name)
    (tmp_path / "keys.toml").write_text(f'[keys."example.com"]\nfiles = {files}\n')
    monkeypatch.setenv("DKIM_KEYS", str(tmp_path / "keys.toml"))


@pytest.mark.usefixtures("keys")
async def test_mail_of_users_is_signed_with_both_keys() -> None:
    async with example.milter() as make, session(make, macros={"auth_authen": "alice"}) as s:
        await s.mail("<alice@example.com>")
        await s.rcpt("<bob@example.net>")
        result = await s.message(MESSAGE)
    assert result.delivered is not None
    found = await dkim.verify(result.delivered.octets, resolver=zone(key("rsa"), key("ed25519")))
    assert sorted(each.algorithm for each in found if each.result == "pass") == ["ed25519-sha256", "rsa-sha256"]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("macros", "author"), [({}, b"alice@example.com"), ({"auth_authen": "alice"}, b"alice@example.org")]
)
async def test_other_mail_is_not_signed(macros: dict[str, str], author: bytes) -> None:
    async with example.milter() as make, session(make, macros=macros) as s:
        if await s.mail("<alice@example.com>") == ACCEPT:
            return
        await s.rcpt("<bob@example.net>")
        result = await s.message(MESSAGE.replace(b"alice@example.com", author))
    assert result.modifications == ()
