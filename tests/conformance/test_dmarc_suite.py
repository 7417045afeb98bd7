"""Cases for RFC 9989: the examples of its section 4.10 and appendix B.4, and rules, over an asyncio loop and uvloop.

They lie beside this file; ``zone`` lines are ``name TYPE value``, and what is not there does not exist.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aiomilter.auth.dmarc import DmarcResult, evaluate
from aiomilter.auth.spf import SpfResult
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dmarc.identities import Signed, spf_result
from tests.conformance.test_spf_suite import loop_factory

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


CASES: Final = [Case(case["name"], case) for case in yaml.safe_load(SUITE.read_text("utf-8"))]


async def play(case: Case) -> list[str]:
    """Play one case and return what is wrong."""
    fields = case.case["from"]
    spf: SpfResult | None = spf_result(*case.case["spf"]) if "spf" in case.case else None
    signatures = [Signed(*signature) for signature in case.case.get("dkim", ())]
    resolver = case.resolver()
    found = await evaluate([fields] if isinstance(fields, str) else fields, spf=spf, dkim=signatures, resolver=resolver)
    asked = [name.removeprefix("_dmarc.") for name, _ in resolver.queries if name.startswith("_dmarc.")]
    return case.wrong(found, asked)


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
