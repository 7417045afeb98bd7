"""All ready filters at once, and each alone, while what they stand on is away: no message is lost, the outcome is stated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter import DISCARD, Reply, filters, mta
from aiomilter.exceptions import StoreError
from aiomilter.policy.stores.memory import MemoryStore
from aiomilter.testing import session
from aiomilter.testing.resolver import FAILURE, TIMEOUT, Trouble, ZoneResolver
from tests.auth.dkim.made import key
from tests.filters.ready.gateway import factory, written

HAM: Final = (
    b"From: a@out.example\r\nTo: bob@corp.example\r\nSubject: hello\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@out.example>\r\n\r\nHello Bob.\r\n"
)
WHOLE: Final[dict[str, dict[str, Any]]] = {
    "access": {"false_localhost": "reject", "rules": [{"header": "Subject", "words": ["rolex"]}]},
    "authenticate": {"spf_fail": "reject", "spf_temperror": "tempfail", "dmarc": "enforce"},
    "dnsbl": {"client": {"bl.example": 1}, "reject_at": 1},
    "known_senders": {},
    "traps": {"addresses": ["spam-me@corp.example"]},
    "reputation": {},
    "greylist": {"delay": "5 min", "unless": "internal"},
    "rates": {"client": "1/h", "unless": "internal"},
    "copy": {"rules": [{"recipient": "bob@corp.example", "to": ["archive@corp.example"]}]},
    "scan": {"clamd": "unix:/nonexistent/clamd.ctl"},
    "attachments": {"extensions": ["exe"]},
    "banner": {"text": "banner.txt"},
    "srs": {"domain": "fwd.example", "secrets": ["0123456789abcdef"]},
    "verify_from": {"domains": ["corp.example"], "when": "authenticated"},
    "sign": {"keys": "keys.toml", "when": "authenticated"},
    "seal": {"keys": "keys.toml", "domain": "example.com"},
}
NEEDS: Final = {"known_senders": "authenticate", "reputation": "authenticate", "seal": "authenticate"}


class Away(MemoryStore):
    """A store whose server has stopped."""

    async def step(self, *given: Any) -> Sequence[int]:
        raise StoreError("the server has stopped")


def zone(trouble: Trouble | None) -> ZoneResolver:
    """Return what the sender's names say, or what comes of asking."""
    resolver = ZoneResolver()
    names = ("out.example", "_dmarc.out.example", "1.2.0.192.in-addr.arpa", "1.2.0.192.bl.example", "mail.out.example")
    if trouble is not None:
        for name in names:
            resolver.add(name, "*", trouble)
    return resolver


async def fate(
    names: Sequence[str],
    directory: Path,
    *,
    store: MemoryStore | None = None,
    trouble: Trouble | None = None,
    common: dict[str, Any] | None = None,
) -> mta.MessageResult:
    """Return what becomes of a good message that passes filters of these names."""
    (directory / "s1.pem").touch(0o600)
    (directory / "s1.pem").write_bytes(key("ed25519").private.pem())
    (directory / "keys.toml").write_text('[keys."example.com"]\nselector = "s1"\nkey = "s1.pem"\n')
    (directory / "banner.txt").write_text("From outside.\n")
    tables = [{"use": name, **WHOLE[name], **(common or {})} for name in names]
    path = directory / "gateway.toml"
    path.write_text(written(tables, hostname="mx.corp.example", own_domains=["corp.example"]))
    async with session(
        factory(path, zone(trouble), store), client="192.0.2.1", hostname="mail.out.example", helo="mail.out.example"
    ) as s:
        return await s.send(HAM, "a@out.example", ["bob@corp.example"])


def told(found: mta.MessageResult) -> str:
    """Return the answer as a word: its code, or ``passes``, with ``edited`` if the message is changed."""
    assert found.answer is not DISCARD
    if isinstance(found.answer, Reply) and found.answer.code >= 400:
        return str(found.answer.code)
    refused = {str(reply.code) for reply in found.refused.values()}
    return refused.pop() if refused else "edited" if found.modifications else "passes"


STORE_AWAY: Final = "a store that has stopped"
DNS: Final = {"DNS that fails": FAILURE, "DNS that is silent": TIMEOUT}
# What a filter does with a good message; then where that is different.
ALONE: Final[dict[str, dict[str, str]]] = {
    "access": {"": "passes"},
    "authenticate": {"": "edited", **dict.fromkeys(DNS, "451")},
    "dnsbl": {"": "passes"},
    "known_senders": {"": "edited", **dict.fromkeys(DNS, "451")},
    "traps": {"": "passes"},
    "reputation": {"": "edited", **dict.fromkeys(DNS, "451")},
    "greylist": {"": "451", STORE_AWAY: "passes"},
    "rates": {"": "passes"},
    "copy": {"": "edited"},
    "scan": {"": "451"},
    "attachments": {"": "passes"},
    "banner": {"": "edited"},
    "srs": {"": "passes"},
    "verify_from": {"": "passes"},
    "sign": {"": "passes"},
    "seal": {"": "edited", **dict.fromkeys(DNS, "451")},
}
CIRCUMSTANCES: Final[dict[str, dict[str, Any]]] = {
    "all is well": {},
    STORE_AWAY: {"store": Away()},
    **{name: {"trouble": trouble} for name, trouble in DNS.items()},
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
@pytest.mark.parametrize("name", filters.NAMES)
async def test_a_filter_alone_does_as_stated(name: str, circumstance: str, tmp_path: Path) -> None:
    names = [NEEDS[name], name] if name in NEEDS else [name]
    found = await fate(names, tmp_path, **CIRCUMSTANCES[circumstance])
    assert told(found) == ALONE[name].get(circumstance, ALONE[name][""])


@pytest.mark.parametrize("away", [False, True], ids=["all is well", "everything is away"])
@pytest.mark.parametrize("name", filters.NAMES)
async def test_a_filter_under_shadow_changes_nothing(name: str, away: bool, tmp_path: Path) -> None:
    names = [NEEDS[name], name] if name in NEEDS else [name]
    without: dict[str, Any] = {"store": Away(), "trouble": TIMEOUT} if away else {}
    found = await fate(names, tmp_path, common={"shadow": True}, **without)
    assert (told(found), list(found.modifications)) == ("passes", [])


@pytest.mark.parametrize(
    ("circumstance", "without", "expected"),
    [
        ("all is well", (), "451"),
        ("all is well", ("greylist",), "451"),
        ("all is well", ("greylist", "scan"), "edited"),
        (STORE_AWAY, (), "451"),
        (STORE_AWAY, ("scan",), "edited"),
        *((name, ("greylist", "scan"), "451") for name in DNS),
        *((name, ("greylist", "scan", "authenticate", *NEEDS), "edited") for name in DNS),
    ],
)
async def test_all_together_do_as_stated(
    circumstance: str, without: Sequence[str], expected: str, tmp_path: Path
) -> None:
    names = [name for name in WHOLE if name not in without]
    assert told(await fate(names, tmp_path, **CIRCUMSTANCES[circumstance])) == expected
