"""The openspf RFC 7208 suite, over real packets from a nameserver on loopback.

The suite lies beside this file with its licence, verbatim.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import pytest
import yaml

from aiomilter.auth.spf import SpfResult, check_host
from aiomilter.dns import CachingResolver
from tests.dns.server import Manner, NameServer, Silence, labels
from tests.dns.test_backends import make
from tests.patience import PATIENCE

SUITE = Path(__file__).parent / "spf" / "rfc7208-tests.yml"


@dataclass(frozen=True)
class Case:
    name: str
    scenario: str
    zone: dict[str, list[Any]]
    test: dict[str, Any]

    def wrong(self, found: SpfResult) -> str:
        """Return what differs from the suite, "" if nothing does."""
        wanted = self.test["result"]
        if found.result not in (wanted if isinstance(wanted, list) else [wanted]):
            return f"{self.name}: {wanted}, not {found.result} ({found.problem})"
        explanation = self.test.get("explanation")
        if explanation == "DEFAULT":
            explanation = f"SPF fail: domain of {found.sender} does not designate {found.ip} as permitted sender"
        if explanation is not None and found.explanation != explanation:
            return f"{self.name}: {explanation!r}, not {found.explanation!r}"
        return ""


def cases() -> Iterator[Case]:
    with SUITE.open(encoding="utf-8") as file:
        for scenario in yaml.load_all(file, yaml.CSafeLoader):
            for name, test in scenario["tests"].items():
                yield Case(name, scenario["description"], scenario["zonedata"], test)


CASES = list(cases())


def name_of(text: str) -> dns.name.Name:
    return dns.name.Name([*(label.encode("latin-1") for label in text.removesuffix(".").split(".") if label), b""])


def strings(value: str | list[str]) -> tuple[bytes, ...]:
    texts = [text.encode("latin-1") for text in ([value] if isinstance(value, str) else value)] or [b""]
    return tuple(text[at : at + 255] for text in texts for at in range(0, max(1, len(text)), 255))


# dnspython's record classes have no types; from_text would take the odd characters in names for escapes.
RDATA: dict[str, Any] = {
    "A": dns.rdtypes.IN.A.A,
    "AAAA": dns.rdtypes.IN.AAAA.AAAA,
    "CNAME": dns.rdtypes.ANY.CNAME.CNAME,
    "MX": dns.rdtypes.ANY.MX.MX,
    "PTR": dns.rdtypes.ANY.PTR.PTR,
    "TXT": dns.rdtypes.ANY.TXT.TXT,
}


def rdata_of(rdtype: str, value: Any) -> dns.rdata.Rdata:
    match rdtype:
        case "TXT":
            fields: tuple[Any, ...] = (strings(value),)
        case "MX":
            fields = (value[0], name_of(value[1]))
        case "PTR" | "CNAME":
            fields = (name_of(value),)
        case _:
            fields = (value,)
    made: dns.rdata.Rdata = RDATA[rdtype](dns.rdataclass.IN, dns.rdatatype.from_text(rdtype), *fields)
    return made


def serve(zone: dict[str, list[Any]], manner: Manner, silence: Silence) -> NameServer:
    server = NameServer(manner=manner)
    for owner, items in zone.items():
        key = labels(owner)
        # An SPF item stands for TXT too, unless the name says what its TXT is.
        texts = "TXT" if any(isinstance(item, dict) and "TXT" in item for item in items) else "SPF"
        for item in items:
            if item == "TIMEOUT":
                server.silent[key, "*"] = silence
                continue
            for rdtype, value in item.items():
                if value == "NONE" or (rdtype in ("TXT", "SPF") and rdtype != texts):
                    server.records.setdefault((key, "SPF"), [])
                    continue
                kind = "TXT" if rdtype == "SPF" else rdtype
                server.records.setdefault((key, kind), []).append(rdata_of(kind, value))
    return server


async def play(case: Case, resolver: Any) -> SpfResult:
    test = case.test
    return await check_host(test["host"], test["mailfrom"], test["helo"], resolver=resolver)


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 203
    assert sum("explanation" in case.test for case in CASES) == 22


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_openspf(case: Case) -> None:
    async with serve(case.zone, Manner.PLAIN, Silence.SERVFAIL) as server:
        resolver = make("dnspython", ("127.0.0.1", server.port))

        assert case.wrong(await play(case, resolver)) == ""


async def whole_suite(backend: str, manner: Manner, silence: Silence) -> list[str]:
    """Play every case, the cases of a scenario sharing a nameserver and a cache, and return what is wrong."""

    async def scenario(group: list[Case], seconds: float) -> list[str]:
        async with serve(group[0].zone, manner, silence) as server:
            below = make(backend, ("127.0.0.1", server.port), timeout=seconds, attempt_timeout=seconds)
            async with CachingResolver(below) as resolver:
                found = await asyncio.gather(*(play(case, resolver) for case in group))
            return [wrong for case, result in zip(group, found, strict=True) if (wrong := case.wrong(result))]

    groups: dict[str, list[Case]] = {}
    for case in CASES:
        groups.setdefault(case.scenario, []).append(case)
    silent = [group for group in groups.values() if any("TIMEOUT" in items for items in group[0].zone.values())]
    assert silent
    wrong = await asyncio.gather(*(scenario(group, PATIENCE) for group in groups.values() if group not in silent))
    # Silence takes the whole of the time, which is enough for the other answers of these few scenarios.
    wrong += await asyncio.gather(
        *(scenario(group, 5.0 if silence is Silence.TIMEOUT else PATIENCE) for group in silent)
    )
    return [line for lines in wrong for line in lines]


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "uvloop":
        factory: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
        return factory
    return asyncio.new_event_loop


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manner", "silence"),
    [(Manner.PLAIN, Silence.TIMEOUT), (Manner.PLAIN, Silence.SERVFAIL), (Manner.TRUNCATED, Silence.SERVFAIL)],
    ids=["silence", "servfail", "truncated"],
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("backend", ["dnspython", "aiodns"])
def test_openspf_with_every_resolver_and_loop(backend: str, loop: str, manner: Manner, silence: Silence) -> None:
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        assert runner.run(whole_suite(backend, manner, silence)) == []
