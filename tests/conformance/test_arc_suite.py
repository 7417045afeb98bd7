"""The suite of the authors of ARC, verified as it streams in; it lies beside this file with its licence, verbatim."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aiomilter.auth import arc, dkim
from aiomilter.dns import Resolver
from aiomilter.mail.headers import split_message
from aiomilter.testing.resolver import ZoneResolver
from tests.conformance.test_spf_suite import loop_factory, rdata_of
from tests.dns.server import NameServer, labels
from tests.dns.test_backends import make

SUITE: Final = Path(__file__).parent / "arc"
CHUNKS: Final = (1, 7, 65_535)


@dataclass(frozen=True)
class Case:
    name: str
    scenario: dict[str, Any]
    test: dict[str, Any]

    @property
    def message(self) -> bytes:
        text: str = self.test["message"]
        return text.replace("\n", "\r\n").encode()

    @property
    def records(self) -> dict[str, str]:
        return self.scenario["txt-records"] or {}

    @property
    def zone(self) -> ZoneResolver:
        return ZoneResolver({name: {"TXT": record} for name, record in self.records.items()})


def cases(name: str) -> Iterator[Case]:
    with (SUITE / name).open(encoding="utf-8") as file:
        for scenario in yaml.load_all(file, yaml.CSafeLoader):
            for test_name, test in scenario["tests"].items():
                yield Case(test_name, scenario, test)


VALIDATION: Final = list(cases("arc-draft-validation-tests.yml"))


async def streamed(message: bytes, resolver: Resolver, size: int) -> arc.Chain:
    """Verify a message whose body comes in chunks of one size."""
    verifier = arc.Verifier(resolver)
    section, begin = split_message(message)
    for field in section:
        verifier.header(field.raw)
    verifier.end_of_headers()
    for at in range(begin, len(message), size):
        verifier.body(message[at : at + size])
    return await verifier.finish()


def wrong(case: Case, found: arc.Chain) -> str:
    """Return what differs from the suite, "" if nothing does."""
    # "" is no verdict, for a chain that was sealed as failed: RFC 8617 section 5.2 step 2 says fail.
    expected = case.test["cv"].lower() or "fail"
    return "" if found.result == expected else f"{case.name}: {expected}, not {found.result} ({found.problem})"


def test_the_suite_is_whole() -> None:
    assert len(VALIDATION) == 171


@pytest.mark.slow
@pytest.mark.parametrize("size", CHUNKS)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_chains_that_stream_in(loop: str, size: int) -> None:
    """A-001 to A-005, A-008, A-009."""

    async def whole() -> list[str]:
        return [text for case in VALIDATION if (text := wrong(case, await streamed(case.message, case.zone, size)))]

    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        assert runner.run(whole()) == []


@pytest.mark.slow
async def test_chains_of_messages_at_hand() -> None:
    found = [wrong(case, await arc.verify(case.message, resolver=case.zone)) for case in VALIDATION]
    assert list(filter(None, found)) == []


@pytest.mark.slow
async def test_keys_of_chains_come_over_real_packets() -> None:
    server = NameServer()
    case = next(case for case in VALIDATION if case.name == "as_fields_b_2048")
    for name, record in case.records.items():
        server.records[labels(name), "TXT"] = [rdata_of("TXT", record)]
    async with server:
        assert wrong(case, await streamed(case.message, make("dnspython", ("127.0.0.1", server.port)), 65_535)) == ""


SEALING: Final = list(cases("arc-draft-sign-tests.yml"))
NAMES: Final = {"ARC-Seal": "AS", "ARC-Message-Signature": "AMS", "ARC-Authentication-Results": "AAR"}


def test_the_suite_for_sealers_is_whole() -> None:
    assert len(SEALING) == 17


def tags(value: str) -> set[str]:
    """Return the tags or results of a field, without white space."""
    return set("".join(value.split()).split(";"))


@pytest.mark.parametrize("size", CHUNKS)
@pytest.mark.parametrize("case", SEALING, ids=lambda case: case.name)
async def test_sets_are_made_as_the_suite_makes_them(case: Case, size: int) -> None:
    """A-020 to A-022: the signatures are the same, octet by octet."""
    private, domain, selector = (case.scenario[name] for name in ("privatekey", "domain", "sel"))
    key = dkim.Key.from_pem(private.encode(), domain=domain, selector=selector, allow_weak=True)
    message = case.message
    chain = await streamed(message, case.zone, size)
    sealer = arc.Sealer(key, authserv_id=case.test["srv-id"], headers=case.test["sig-headers"].split(":"))
    sealing = sealer.start(chain, now=int(case.test["t"]))
    section, begin = split_message(message)
    for field in section:
        sealing.header(field.raw)
    sealing.end_of_headers()
    for at in range(begin, len(message), size):
        sealing.body(message[at : at + size])
    fields = await sealing.finish()
    expected = {NAMES[name]: case.test[NAMES[name]] for name in NAMES}
    assert [(NAMES[name], tags(value)) for name, value in fields] == [
        (name, tags(value)) for name, value in expected.items() if value
    ]
    at_hand = await arc.seal(
        message,
        key,
        chain=chain,
        authserv_id=case.test["srv-id"],
        headers=case.test["sig-headers"].split(":"),
        now=int(case.test["t"]),
    )
    assert at_hand == [f"{name}: {value}" for name, value in fields]
