"""Ready filters as a file configures them, behind a real Postfix: mail is authenticated, signed, refused."""

import time
from pathlib import Path
from typing import Final

import pytest

from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dkim.made import key, signed, verified
from tests.auth.dkim.oracles import Verified, dkimpy, to_verify
from tests.filters.ready.gateway import factory
from tests.interop.client import accepted
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop

OURS: Final = key(domain="corp.example")
THEIRS: Final = key("ed25519", domain="signed.example")
ZONE: Final = """
pass.example           TXT  "v=spf1 ip4:127.0.0.1 -all"
fail.example           TXT  "v=spf1 ip4:192.0.2.1 -all"
_dmarc.signed.example  TXT  "v=DMARC1; p=reject"
_dmarc.forged.example  TXT  "v=DMARC1; p=reject"
"""
CONFIGURATION: Final = """\
listen = { mx = "inet:0@127.0.0.1" }
hostname = "mx.corp.example"
own_domains = ["corp.example", "example.test"]

[networks]
internal = [%s]

[[filter]]
use = "authenticate"
spf_fail = "reject"
dmarc = "enforce"

[[filter]]
use = "rates"
client = "4/h"
unless = ["internal", "spf_pass"]

[[filter]]
use = "sign"
when = "internal"
keys = "keys.toml"
"""
FORGED: Final = b"Authentication-Results: mx.corp.example; dmarc=pass\r\n"
MESSAGE: Final = (
    b"From: a@%s\r\nTo: bob@example.test\r\nSubject:  x\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\n.Hello \r\n\r\n"
)


def configured(directory: Path, internal: str) -> tuple[Path, ZoneResolver]:
    """Write the file and the keys; return it, and a resolver."""
    (directory / "s1.pem").touch(0o600)
    (directory / "s1.pem").write_bytes(OURS.private.pem())
    (directory / "keys.toml").write_text('[keys."corp.example"]\nselector = "rsa2048"\nkey = "s1.pem"\n')
    path = directory / "gateway.toml"
    path.write_text(CONFIGURATION % internal)
    resolver = ZoneResolver(ZONE)
    resolver.add(THEIRS.name, "TXT", THEIRS.record())
    return path, resolver


async def test_mail_from_outside_is_judged_by_a_file(postfix: Scene, tmp_path: Path) -> None:
    good = signed(MESSAGE % b"signed.example", THEIRS, now=time.time())
    async with postfix.filters(factory(*configured(tmp_path, '"192.0.2.0/24"'))), postfix.connect() as client:
        assert accepted((await client.send(FORGED + good, "a@pass.example"))["."])
        spf = await client.send(
            MESSAGE % b"x.example", "a@fail.example", ["bob@example.test", "postmaster@example.test"]
        )
        dmarc = await client.send(MESSAGE % b"forged.example", "a@pass.example")
        first = await client.send(MESSAGE % b"x.example", "a@x.example")
        second = await client.send(MESSAGE % b"x.example", "a@x.example", ["bob@example.test"] * 2)
    assert spf["bob@example.test"].startswith("550 5.7.23 ")
    assert accepted(spf["postmaster@example.test"])
    assert dmarc["."].startswith("550 5.7.1 the DMARC policy of forged.example")
    assert accepted(first["."])
    assert second["bob@example.test"].startswith("450 4.7.1 Too many recipients")
    delivered = await postfix.deliveries()
    (field,) = delivered[0].values("Authentication-Results")
    assert [word for word in ("spf=pass", "dkim=pass", "dmarc=pass") if word not in field] == []


async def test_mail_of_our_own_leaves_signed_by_a_file(postfix: Scene, tmp_path: Path) -> None:
    async with postfix.filters(factory(*configured(tmp_path, '"127.0.0.0/8"'))), postfix.connect() as client:
        for _ in range(3):
            assert accepted((await client.send(MESSAGE % b"corp.example", "a@fail.example"))["."])
    (delivered, *_) = await postfix.deliveries()
    # Of a client in our networks that has not logged in nothing is said, and what others wrote is gone.
    assert delivered.values("Authentication-Results") == [" mx.corp.example; none"]
    assert await verified(delivered.content, OURS, now=time.time()) == ["pass"]
    assert dkimpy([to_verify(Verified(delivered.content, {OURS.name: OURS.record()}))]) == [["pass"]]
