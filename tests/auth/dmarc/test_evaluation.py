"""What DMARC says of a message, whatever its header, DNS, SPF and its signatures hold."""

import asyncio
from typing import Any, Final

import pytest

from aiomilter.auth.dmarc import DmarcResult, Override, Policy, evaluate
from aiomilter.auth.results import AuthenticationResults
from aiomilter.testing.resolver import HANG, TIMEOUT, ZoneResolver
from tests.auth.dmarc.identities import Signed, spf_result
from tests.auth.dmarc.test_walk import zone

STRICTEST: Final = Policy(several_authors="strictest")


async def said(resolver: ZoneResolver, author: str = "x@example.com", **options: Any) -> DmarcResult:
    return await evaluate([author], resolver=resolver, **options)


async def test_spf_speaks_for_the_null_sender_by_its_helo_name() -> None:
    """M-033: RFC 7208 section 2.4 has postmaster@HELO as the sender."""
    found = await said(zone(example__com="p=reject"), spf=spf_result("pass", "Example.com", "helo"))

    assert found.aligned == ("spf",)


@pytest.mark.parametrize("result", ["none", "neutral", "softfail", "fail", "permerror"])
async def test_only_a_pass_of_spf_counts(result: Any) -> None:
    found = await said(zone(example__com="p=reject"), spf=spf_result(result, "example.com"))

    assert (found.result, found.disposition) == ("fail", "reject")


async def test_a_signature_that_covers_a_part_does_not_count() -> None:
    """M-033: l=, or a policy of ours."""
    signatures = [Signed("pass", "example.com", whole=False), Signed("policy", "example.com")]

    found = await said(zone(example__com="p=reject"), dkim=signatures)

    assert (found.result, found.aligned_signatures) == ("fail", ())


async def test_signatures_that_count_are_named_by_their_places() -> None:
    signatures = [Signed("pass", name) for name in ("example.net", "example.com", "a.example.com")]

    found = await said(zone(example__com="p=reject"), dkim=signatures)

    assert found.aligned_signatures == (1, 2)


TROUBLE: Final[list[tuple[dict[str, str], dict[str, Any], str]]] = [
    # M-050: the policy cannot be found.
    ({"example__com": "TIMEOUT"}, {}, "temperror"),
    ({"com": "TIMEOUT"}, {}, "temperror"),
    # The policy is known, and nothing speaks for the author.
    ({"example__com": "p=reject", "com": "TIMEOUT"}, {}, "fail"),
    ({"example__com": "p=reject", "com": "TIMEOUT"}, {"dkim": [Signed("pass", "example.com")]}, "pass"),
    # Whether it does is not known.
    ({"example__com": "p=reject", "com": "TIMEOUT"}, {"dkim": [Signed("pass", "a.example.com")]}, "temperror"),
    ({"example__com": "p=reject", "a__example__com": "FAILURE"}, {"dkim": [Signed("pass", "a.example.com")]}, "temperror"),
    # M-051: another one does.
    (
        {"example__com": "p=reject", "a__example__com": "FAILURE"},
        {"dkim": [Signed("pass", "a.example.com"), Signed("pass", "b.example.com")]},
        "pass",
    ),
    ({"example__com": "p=reject; adkim=s", "a__example__com": "FAILURE"}, {"dkim": [Signed("pass", "a.example.com")]}, "fail"),
    # M-052: SPF or a signature of the author's domain could not be checked.
    ({"example__com": "p=reject"}, {"dkim": [Signed("temperror", "example.com")]}, "temperror"),
    ({"example__com": "p=reject"}, {"dkim": [Signed("temperror", "a.example.com")]}, "temperror"),
    ({"example__com": "p=reject; adkim=s"}, {"dkim": [Signed("temperror", "a.example.com")]}, "fail"),
    ({"example__com": "p=reject"}, {"dkim": [Signed("temperror", "example.net")]}, "fail"),
    ({"example__com": "p=reject"}, {"dkim": [Signed("temperror", "")]}, "fail"),
    ({"example__com": "p=reject"}, {"spf": spf_result("temperror", "a.example.com")}, "temperror"),
    ({"example__com": "p=reject"}, {"spf": spf_result("temperror", "example.net")}, "fail"),
    (
        {"example__com": "p=reject"},
        {"dkim": [Signed("temperror", "example.com")], "spf": spf_result("pass", "example.com")},
        "pass",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("records", "options", "result"), TROUBLE)
async def test_dns_trouble_rejects_nothing(records: dict[str, str], options: dict[str, Any], result: str) -> None:
    found = await said(zone(**records), **options)

    assert found.result == result
    if result == "temperror":
        assert (found.policy, found.disposition) == (None, "none")
        assert found.problem


async def test_trouble_with_the_name_that_np_asks_about_is_a_temperror() -> None:
    """M-041, M-050."""
    resolver = zone(example__com="p=reject; np=none")
    resolver.add("a.example.com", "A", TIMEOUT)

    assert (await said(resolver, "x@a.example.com")).result == "temperror"


async def test_existence_is_asked_only_where_it_matters() -> None:
    """M-041."""
    for record, questions in [("p=reject; np=none", 1), ("p=reject; sp=none", 0)]:
        resolver = zone(example__com=record)

        await said(resolver, "x@a.example.com")

        assert [kind for _, kind in resolver.queries].count("A") == questions


async def test_a_record_that_cannot_be_applied_ends_the_search() -> None:
    """M-042: the one of the Organizational Domain is not taken in its place."""
    found = await said(zone(a__example__com="p=refuse", example__com="p=reject"), "x@a.example.com")

    assert (found.result, found.policy) == ("none", None)
    assert "p=, found 'refuse'" in found.problem


async def test_records_between_the_author_and_the_organization_are_not_used() -> None:
    """M-025."""
    found = await said(zone(a__example__com="p=reject", example__com="p=none"), "x@b.a.example.com")

    assert (found.domain, found.policy) == ("example.com", "none")


async def test_several_records_are_said_to_be_there() -> None:
    resolver = zone(example__com="p=reject")
    resolver.add("_dmarc.example.com", "TXT", "v=DMARC1; p=none")

    assert (await said(resolver)).problem == "example.com publishes 2 DMARC policies: none counts"


@pytest.mark.parametrize(
    ("record", "published", "policy"),
    [
        ("p=reject; t=y", "reject", "quarantine"),
        ("p=quarantine; t=y", "quarantine", "none"),
        ("p=none; t=y", "none", "none"),
    ],
)
async def test_test_mode_lowers_what_is_applied(record: str, published: str, policy: str) -> None:
    """M-043: and it is reported."""
    found = await said(zone(example__com=record))

    assert (found.published, found.policy, found.disposition) == (published, policy, policy)
    assert found.record is not None
    assert found.record.testing


AUTHORS: Final = "x@example.com, y@example.net"


@pytest.mark.parametrize(
    ("records", "passing", "result", "domain", "policy"),
    [
        # Never "pass because one of them passed".
        ({"example__com": "p=none", "example__net": "p=reject"}, "example.com", "fail", "example.net", "reject"),
        ({"example__com": "p=quarantine", "example__net": "p=reject"}, "", "fail", "example.net", "reject"),
        ({"example__com": "p=quarantine", "example__net": "p=none"}, "", "fail", "example.com", "quarantine"),
        ({"example__com": "p=reject"}, "example.com", "none", "", None),
        ({"example__com": "p=reject", "example__net": "TIMEOUT"}, "example.com", "temperror", "", None),
        (
            {"example__com": "p=reject", "example__net": "p=none"},
            "example.com example.net",
            "pass",
            "example.com",
            "reject",
        ),
    ],
)
async def test_several_author_domains_are_judged_by_the_strictest(
    records: dict[str, str], passing: str, result: str, domain: str, policy: str | None
) -> None:
    """M-062."""
    signatures = [Signed("pass", name) for name in passing.split()]

    found = await said(zone(**records), AUTHORS, dkim=signatures, policy=STRICTEST)

    assert (found.result, found.domain, found.policy) == (result, domain, policy)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([], {}),
        (["x@example.com", "x@example.com"], {}),
        (["nobody"], {}),
        ([AUTHORS], {}),
        (["a@a.example, b@b.example, c@c.example, d@d.example"], {"policy": STRICTEST}),
    ],
)
async def test_authors_that_cannot_be_told_are_a_permerror_without_a_question(
    fields: list[str], options: dict[str, Any]
) -> None:
    """M-060, M-062."""
    resolver = zone(example__com="p=reject")

    found = await evaluate(fields, resolver=resolver, **options)

    assert (found.result, found.disposition, resolver.queries) == ("permerror", "none", [])
    assert found.problem


def test_one_text_is_one_field() -> None:
    assert asyncio.run(evaluate("x@example.com", resolver=zone(example__com="p=reject"))).result == "fail"


def test_a_misspelt_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="several_authors: expected"):
        Policy(several_authors="strict")  # type: ignore[arg-type]  # what a user may write


async def test_a_resolver_that_hangs_is_a_temperror_in_time() -> None:
    resolver = ZoneResolver()
    resolver.add("_dmarc.example.com", "TXT", HANG)

    found = await said(resolver, timeout=0.01)

    assert (found.result, found.author_domain, found.problem) == ("temperror", "example.com", "no result in 0.01 s")


async def test_cancellation_leaves_no_task() -> None:
    resolver = zone(a__example__com="p=none")
    for name in ("b.a.example.com", "c.a.example.com"):
        resolver.add(f"_dmarc.{name}", "TXT", HANG)
    signatures = [Signed("pass", f"{name}.a.example.com") for name in "bc"]
    task = asyncio.ensure_future(said(resolver, "x@a.example.com", dkim=signatures))
    while len(resolver.queries) < 5:
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


RESULTS: Final[list[tuple[dict[str, str], dict[str, Any], str]]] = [
    # M-053.
    (
        {"example__com": "p=reject; sp=quarantine"},
        {},
        "dmarc=fail (p=reject sp=quarantine dis=reject) header.from=example.com policy.dmarc=reject",
    ),
    (
        {"example__com": "p=reject; np=none; t=y"},
        {},
        "dmarc=fail (p=reject np=none dis=quarantine) header.from=example.com policy.dmarc=quarantine",
    ),
    (
        {"example__com": "p=reject"},
        {"spf": spf_result("pass", "example.com")},
        "dmarc=pass (p=reject dis=none) header.from=example.com policy.dmarc=reject",
    ),
    ({}, {}, 'dmarc=none reason="example.com publishes no DMARC policy" header.from=example.com'),
    (
        {"example__com": "TIMEOUT"},
        {},
        "dmarc=temperror reason=\"no answer to '_dmarc.example.com' TXT\" header.from=example.com",
    ),
]


@pytest.mark.parametrize(("records", "options", "text"), RESULTS)
async def test_the_result_is_written_in_authentication_results(
    records: dict[str, str], options: dict[str, Any], text: str
) -> None:
    found = await said(zone(**records), **options)

    assert str(found.method_result()) == text


async def test_no_author_is_written_without_one() -> None:
    """R-005."""
    found = await evaluate(["x@a.example, y@\r\nb.example"], resolver=zone())
    written = str(AuthenticationResults("mx.example.net", (found.method_result(),)))

    assert written.endswith('dmarc=permerror reason="From addresses of 2 domains"')


async def test_an_override_leaves_the_policy_and_takes_the_disposition() -> None:
    """A-023: what a trusted forwarder says."""
    found = (await said(zone(example__com="p=reject"))).overridden(Override("local_policy", "arc=pass"))

    assert (found.result, found.policy, found.disposition) == ("fail", "reject", "none")
    assert str(found.method_result()) == (
        "dmarc=fail (p=reject dis=none local_policy: arc=pass) header.from=example.com policy.dmarc=reject"
    )
