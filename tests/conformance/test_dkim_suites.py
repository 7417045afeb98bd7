"""Signed messages of others, and those made rule by rule, verified as they stream in; the data lies beside this file."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter.auth import dkim
from aiomilter.dns import Resolver
from aiomilter.mail.headers import split_message
from aiomilter.testing.resolver import FAILURE, TIMEOUT, ZoneResolver
from tests.conformance.test_spf_suite import loop_factory, rdata_of
from tests.dns.server import NameServer, Silence, labels
from tests.dns.test_backends import make

SUITES: Final = Path(__file__).parent / "dkim"
RULES: Final[list[dict[str, Any]]] = json.loads((SUITES / "dkim-rules.json").read_text("utf-8"))
DKIMPY: Final = SUITES / "dkimpy"
MAIL_DKIM: Final = SUITES / "mail-dkim"
CHUNKS: Final = (1, 7, 65_535)


async def streamed(
    message: bytes, resolver: Resolver, size: int, *, now: float, policy: dkim.Policy
) -> tuple[dkim.Signature, ...]:
    """Verify a message whose body comes in chunks of one size."""
    verifier = dkim.Verifier(resolver, policy=policy, now=now)
    section, begin = split_message(message)
    for field in section:
        verifier.header(field.raw)
    verifier.end_of_headers()
    for at in range(begin, len(message), size):
        verifier.body(message[at : at + size])
    return await verifier.finish()


# ------------------------------------------------------------------------------------------------------- rule by rule


def zone_of(case: dict[str, Any]) -> ZoneResolver:
    zone = ZoneResolver()
    for name, records in case["dns"].items():
        if records in ("SERVFAIL", "TIMEOUT"):
            zone.add(name, "TXT", FAILURE if records == "SERVFAIL" else TIMEOUT)
        elif records != "NXDOMAIN":
            for record in records:
                zone.add(name, "TXT", "".join(record))
    return zone


def policy_of(case: dict[str, Any]) -> dkim.Policy:
    names = ("min_rsa_bits", "allow_sha1", "allow_length")
    return dkim.Policy(**{name: value for name, value in case["options"].items() if name in names})


async def played(case: dict[str, Any], resolver: Resolver, size: int) -> str:
    """Return what differs from the suite, "" if nothing does."""
    message = base64.b64decode(case["message"])
    found = await streamed(message, resolver, size, now=case["options"]["now"], policy=policy_of(case))
    wanted = [expected["result"] for expected in case["expect"]]
    if [signature.result for signature in found] == wanted:
        return ""
    return f"{case['name']}: {wanted}, not {[(signature.result, signature.problem) for signature in found]}"


def test_the_rules_are_whole() -> None:
    assert len(RULES) == 159


@pytest.mark.parametrize("size", CHUNKS)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_messages_made_rule_by_rule(loop: str, size: int) -> None:
    """The rule of each case stands with it."""

    async def whole() -> list[str]:
        return [wrong for case in RULES if (wrong := await played(case, zone_of(case), size))]

    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        assert runner.run(whole()) == []


async def test_messages_at_hand_are_verified_as_those_that_stream() -> None:
    for case in RULES:
        message, zone = base64.b64decode(case["message"]), zone_of(case)
        found = await dkim.verify(message, resolver=zone, policy=policy_of(case), now=case["options"]["now"])
        assert [each.result for each in found] == [expected["result"] for expected in case["expect"]], case["name"]


@pytest.mark.slow
async def test_keys_come_over_real_packets() -> None:
    """Long records truncated, servers that fail."""
    for case in RULES:
        server = NameServer()
        for name, records in case["dns"].items():
            owner = labels(name.encode("idna").decode("ascii"))
            if records in ("SERVFAIL", "TIMEOUT"):
                server.silent[owner, "*"] = Silence.SERVFAIL
            elif records != "NXDOMAIN":
                server.records[owner, "TXT"] = [rdata_of("TXT", record) for record in records]
        async with server:
            assert await played(case, make("dnspython", ("127.0.0.1", server.port)), 65_535) == ""


# -------------------------------------------------------------------------------------------------------- Mail::DKIM

# Mail::DKIM takes signatures of drafts of 2005, which have no version, and keys restricted to a local part by g=, which is
# history: RFC 6376 has the one invalid and ignores the other.
DRAFTS: Final = ("good_ietf01_", "mine_ietf0", "multiple_1.", "no_body_")
GRANULARITY: Final = frozenset({"badkey_8.txt", "badkey_9.txt", "badkey_12.txt", "badkey_13.txt"})
# As lenient as Mail::DKIM was in 2006, and in that time.
LENIENT: Final = dkim.Policy(min_rsa_bits=512, allow_sha1=True, allow_length=True)
NOW: Final = 1_200_000_000


with_mail_dkim = pytest.mark.skipif(
    not MAIL_DKIM.exists(), reason="Mail::DKIM's messages are not in a source distribution"
)


def mail_dkim_zone() -> ZoneResolver:
    zone = ZoneResolver()
    for line in (MAIL_DKIM / "FAKE_DNS.dat").read_text("ascii").splitlines():
        name, _, record = line.partition(" ")
        if record and not line.startswith("#"):
            zone.add(name, "TXT", FAILURE if record.strip().startswith("~~") else record.strip())
    return zone


def expected(name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((MAIL_DKIM / name).read_text("ascii"))
    return found


async def passes(name: str, size: int) -> bool:
    message = re.sub(rb"\r?\n", b"\r\n", (MAIL_DKIM / "corpus" / name).read_bytes())
    found = await streamed(message, mail_dkim_zone(), size, now=NOW, policy=LENIENT)
    return any(signature.result == "pass" for signature in found)


@with_mail_dkim
@pytest.mark.parametrize("size", CHUNKS)
async def test_mail_dkim_by_rfc_6376(size: int) -> None:
    wanted = expected("expect-rfc6376.json")
    assert len(wanted) == 56
    assert [name for name, result in wanted.items() if await passes(name, size) != (result == "pass")] == []


@with_mail_dkim
async def test_mail_dkim_by_its_own_results() -> None:
    """But for what is history: see above."""
    wanted = expected("expect.json")
    assert len(wanted) == 57
    different = {name for name, result in wanted.items() if await passes(name, 1000) != (result == "pass")}
    assert different == {name for name in wanted if name.startswith(DRAFTS)} | GRANULARITY


# ------------------------------------------------------------------------------------------------------------- dkimpy


def crlf(name: str) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", (DKIMPY / name).read_bytes())


def record_of(name: str) -> str:
    return (DKIMPY / name).read_text("ascii").strip()


def dkimpy_zone(record: str = "test.txt") -> ZoneResolver:
    """Return the keys of its tests, all of them on the domain they are used with."""
    return ZoneResolver(
        {
            "test._domainkey.example.com": {"TXT": record_of(record)},
            "test._domainkey.football.example.com": {"TXT": record_of("test.txt")},
            "brisbane._domainkey.football.example.com": {"TXT": RFC_8463},
            "sed._domainkey.test.ex": {"TXT": record_of("eximtest.dns")},
        }
    )


RFC_8463: Final = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(
    ("name", "results"),
    [
        # RFC 8463 appendix A.
        ("rfc6376.signed.msg", ["pass", "pass"]),
        ("ed25519test2.msg", ["pass"]),
        ("rfc6376.msg", []),
        ("test.message", []),
    ],
)
@pytest.mark.parametrize("size", CHUNKS)
async def test_messages_of_dkimpy(name: str, results: list[str], size: int) -> None:
    found = await streamed(crlf(name), dkimpy_zone(), size, now=1_600_000_000, policy=dkim.Policy())
    assert [signature.result for signature in found] == results, found


def names_of(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.iterdir())


@with_mail_dkim
def test_every_message_of_mail_dkim_has_its_result() -> None:
    assert set(names_of(MAIL_DKIM / "corpus")) == set(expected("expect.json"))
