"""Cases for RFC 9989: the examples of its section 4.10 and appendix B.4, and rules, over an asyncio loop and uvloop.

They lie beside this file; ``zone`` lines are ``name TYPE value``, and what is not there does not exist.
"""

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aiomilter.auth.dmarc import DmarcResult, evaluate
from aiomilter.auth.spf import SpfResult
from aiomilter.dns import CachingResolver, Resolver
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dmarc.identities import Signed, spf_result
from tests.conformance.test_spf_suite import loop_factory, rdata_of
from tests.dns.server import Manner, NameServer, Silence, labels
from tests.dns.test_backends import make
from tests.patience import PATIENCE

SUITE: Final = Path(__file__).parent / "dmarc" / "dmarc-cases.yml"


@dataclass(frozen=True)
class Case:
    name: str
    case: dict[str, Any]

    def resolver(self) -> ZoneResolver:
        return ZoneResolver(self.case.get("zone", "").replace("SERVFAIL", "FAILURE"))

    def wrong(self, found: DmarcResult, asked: list[str]) -> list[str]:
        """Return what differs from the suite."""
        values = {
            "result": found.result,
            "policy": found.policy,
            "domain": found.domain,
            "org": found.organizational_domain,
            "aligned": list(found.aligned),
        }
        problems = []
        for key, wanted in self.case["expect"].items():
            accepted = wanted if isinstance(wanted, list) and key != "aligned" else [wanted]
            if values[key] not in accepted:
                problems.append(f"{self.name}: {key} {wanted}, not {values[key]} ({found.problem})")
        queries = self.case.get("queries", [])
        if asked[: len(queries)] != queries:
            problems.append(f"{self.name}: {queries}, not {asked}")
        return problems


CASES: Final = [Case(case["name"], case) for case in yaml.load(SUITE.read_text("utf-8"), yaml.CSafeLoader)]


async def judged(case: Case, resolver: Resolver) -> DmarcResult:
    """Evaluate the message of a case."""
    fields = case.case["from"]
    spf: SpfResult | None = spf_result(*case.case["spf"]) if "spf" in case.case else None
    signatures = [Signed(*signature) for signature in case.case.get("dkim", ())]
    return await evaluate([fields] if isinstance(fields, str) else fields, spf=spf, dkim=signatures, resolver=resolver)


async def play(case: Case) -> list[str]:
    """Play one case and return what is wrong."""
    resolver = case.resolver()
    found = await judged(case, resolver)
    asked = [name.removeprefix("_dmarc.") for name, _ in resolver.queries if name.startswith("_dmarc.")]
    return case.wrong(found, asked)


def serve(case: Case, manner: Manner) -> NameServer:
    """Return a nameserver with the zone of a case."""
    server = NameServer(manner=manner)
    for line in case.case.get("zone", "").splitlines():
        name, kind, value = line.split(None, 2)
        if value in Silence.__members__:
            server.silent[labels(name), "*"] = Silence[value]
        elif kind == "TXT":
            server.records.setdefault((labels(name), kind), []).append(
                rdata_of(kind, shlex.split(value) if value.startswith('"') else value)
            )
        else:
            server.add(name, kind, value if kind != "MX" else f"{value}.")
    return server


@pytest.mark.slow
@pytest.mark.parametrize("manner", [Manner.PLAIN, Manner.TRUNCATED])
@pytest.mark.parametrize("backend", ["dnspython", "aiodns"])
async def test_dmarc_over_real_packets(backend: str, manner: Manner) -> None:
    problems = []
    for case in CASES:
        silent = "TIMEOUT" in case.case.get("zone", "")
        async with serve(case, manner) as server:
            seconds = 0.2 if silent else PATIENCE
            resolver = make(backend, ("127.0.0.1", server.port), timeout=seconds, attempt_timeout=seconds)
            async with CachingResolver(resolver) as caching:
                found = await judged(case, caching)
            asked = [name.removeprefix("_dmarc.") for name, _, _ in server.queries if name.startswith("_dmarc.")]
            problems += case.wrong(found, list(dict.fromkeys(asked)))

    assert problems == []


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 39
    assert sum("queries" in case.case for case in CASES) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_dmarc(case: Case) -> None:
    assert await play(case) == []


def test_dmarc_on_uvloop() -> None:
    async def every() -> list[str]:
        return [problem for case in CASES for problem in await play(case)]

    factory: Callable[[], asyncio.AbstractEventLoop] = loop_factory("uvloop")
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(every()) == []
