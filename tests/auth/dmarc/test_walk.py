"""The tree walk: which names are asked, and what they say of the Organizational Domain and the policy."""

import asyncio
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dmarc import Policy, evaluate, organizational_domain, walk
from aiomilter.exceptions import AddressError, ResolverError
from aiomilter.testing.resolver import Trouble, ZoneResolver
from tests.auth.dmarc.identities import Signed, spf_result

DEEP: Final = "a.b.c.d.e.f.g.h.i.example.com"


def zone(**records: str) -> ZoneResolver:
    """Return a resolver for records, by names with two underscores for a dot."""
    resolver = ZoneResolver()
    for name, value in records.items():
        trouble = Trouble.__members__.get(value)
        resolver.add("_dmarc." + name.replace("__", "."), "TXT", trouble or f"v=DMARC1; {value}")
    return resolver


def asked(resolver: ZoneResolver) -> list[str]:
    return [name.removeprefix("_dmarc.") for name, rdtype in resolver.queries if rdtype == "TXT"]


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("com", "com"),
        ("example.com", "example.com com"),
        ("Example.COM.", "example.com com"),
        ("bücher.example", "xn--bcher-kva.example example"),
        ("a.b.c.d.e.f.g.com", "a.b.c.d.e.f.g.com b.c.d.e.f.g.com c.d.e.f.g.com d.e.f.g.com e.f.g.com f.g.com g.com com"),
        (DEEP, " ".join([DEEP, *("efghi"[at:].replace("", ".")[1:] + "example.com" for at in range(6)), "com"])),
    ],
)  # fmt: skip
async def test_the_walk_asks_eight_names_at_most(domain: str, names: str) -> None:
    """M-020, M-021."""
    resolver = zone()

    found = await walk(domain, resolver=resolver)

    assert asked(resolver) == [level.domain for level in found.levels] == names.split()
    assert found.organizational_domain == names.split()[0]
    assert found.skipped == (domain == DEEP)


ORGANIZATIONS: Final = [
    # M-022, M-023, M-024.
    ({"example__com": "p=none"}, "a.example.com", "example.com"),
    ({"example__com": "p=none", "a__example__com": "p=none"}, "a.example.com", "example.com"),
    ({"example__com": "p=none", "a__example__com": "p=none; psd=n"}, "b.a.example.com", "a.example.com"),
    ({"com": "p=none; psd=y", "example__com": "p=none"}, "a.example.com", "example.com"),
    ({"com": "p=none; psd=y"}, "a.example.com", "example.com"),
    ({"com": "p=none; psd=y"}, "com", "com"),
    ({"co__uk": "p=none; psd=y", "uk": "p=none; psd=n"}, "a.b.co.uk", "b.co.uk"),
    ({"com": "p=none; psd=y"}, DEEP, "example.com"),
    ({"e__f__g__h__i__example__com": "p=none; psd=y"}, DEEP, "d.e.f.g.h.i.example.com"),
    # A record that cannot be applied has its place.
    ({"example__com": "psd=n"}, "a.example.com", "example.com"),
]


@pytest.mark.parametrize(("records", "domain", "organization"), ORGANIZATIONS)
async def test_records_say_where_the_organizational_domain_is(
    records: dict[str, str], domain: str, organization: str
) -> None:
    assert await organizational_domain(domain, resolver=zone(**records)) == organization


@pytest.mark.parametrize("psd", ["y", "n"])
async def test_a_record_that_says_where_the_organization_is_ends_the_walk(psd: str) -> None:
    """M-022."""
    resolver = zone(b__example__com=f"p=none; psd={psd}")

    await walk("a.b.example.com", resolver=resolver)

    assert asked(resolver) == ["a.b.example.com", "b.example.com"]


async def test_several_records_are_none_and_the_walk_goes_on() -> None:
    """M-012."""
    resolver = zone(a__example__com="p=reject; psd=n", example__com="p=none")
    resolver.add("_dmarc.a.example.com", "TXT", "v=DMARC1; p=none")

    found = await walk("a.example.com", resolver=resolver)

    assert found.levels[0].records == 2
    assert found.policy is not None
    assert found.policy.domain == found.organizational_domain == "example.com"


@pytest.mark.parametrize("trouble", ["TIMEOUT", "FAILURE"])
async def test_an_error_ends_the_walk(trouble: str) -> None:
    resolver = zone(a__example__com="p=none", example__com=trouble)

    found = await walk("a.example.com", resolver=resolver)

    assert [level.domain for level in found.levels] == ["a.example.com", "example.com"]
    assert found.error
    with pytest.raises(ResolverError):
        await organizational_domain("a.example.com", resolver=resolver)


@pytest.mark.parametrize("domain", ["", "a..example", "a" * 64 + ".example"])
async def test_what_is_no_domain_name_has_no_walk(domain: str) -> None:
    with pytest.raises(AddressError, match="expected a domain name"):
        await walk(domain, resolver=zone())


class Suffixes:
    """A public suffix list in which com and co.uk are registries."""

    def privatesuffix(self, domain: str, /) -> str | None:
        labels = domain.split(".")
        known = 3 if domain.endswith(".co.uk") else 2
        return ".".join(labels[-known:]) if len(labels) >= known else None


SUFFIX_LIST: Final = Policy(fallback=Suffixes())


@pytest.mark.parametrize(
    ("records", "domain", "organization"),
    [
        ({}, "a.b.co.uk", "b.co.uk"),
        ({}, "com", "com"),
        ({"a__example__com": "p=none"}, "a.example.com", "example.com"),
        ({"a__example__com": "p=none; psd=n"}, "a.example.com", "a.example.com"),
    ],
)
async def test_a_public_suffix_list_says_so_where_no_record_does(
    records: dict[str, str], domain: str, organization: str
) -> None:
    assert await organizational_domain(domain, resolver=zone(**records), policy=SUFFIX_LIST) == organization


async def test_a_policy_that_the_walk_passed_over_is_found_by_a_public_suffix_list() -> None:
    class Far:
        def privatesuffix(self, domain: str, /) -> str | None:
            return "b." + domain.split(".b.")[1]

    resolver = zone(**{f"b__{DEEP.partition('.b.')[2].replace('.', '__')}": "p=reject"})

    found = await evaluate([f"x@{DEEP}"], resolver=resolver, policy=Policy(fallback=Far()))

    assert (found.result, found.policy, found.discovery_method) == ("fail", "reject", "psl")
    assert found.domain == DEEP.removeprefix("a.")


async def test_no_name_is_asked_twice() -> None:
    """M-026."""
    resolver = zone(example__com="p=none")
    signatures = [Signed("pass", f"{name}.example.com") for name in "abcaA"]

    found = await evaluate(
        ["x@example.com"], dkim=signatures, spf=spf_result("pass", "b.example.com"), resolver=resolver
    )

    assert found.aligned == ("spf", "dkim")
    assert asked(resolver) == ["example.com", "com", "b.example.com", "a.example.com", "c.example.com"]


@pytest.mark.parametrize(
    ("record", "signed"),
    [
        ("p=none", Signed("pass", "example.com")),
        ("p=none; adkim=s", Signed("pass", "a.example.com")),
        ("p=none", Signed("fail", "a.example.com")),
        ("p=none", Signed("pass", "a.example.com", whole=False)),
        # It cannot be in the author's organization.
        ("p=none", Signed("pass", "example.net")),
        ("p=none", Signed("pass", "badexample.com")),
    ],
)
async def test_a_domain_that_does_not_matter_is_not_asked(record: str, signed: Signed) -> None:
    """M-026, M-033."""
    resolver = zone(example__com=record)

    await evaluate(["x@example.com"], dkim=[signed], resolver=resolver)

    assert asked(resolver) == ["example.com", "com"]


LABELS: Final = st.sampled_from(["a", "b", "example", "com"])
NAMES: Final = st.lists(LABELS, min_size=1, max_size=12).map(".".join)
TAGS: Final = st.sampled_from(
    ["p=none", "p=reject; psd=n", "p=none; psd=y", "p=bad", "p=reject; np=none; adkim=s", "TIMEOUT"]
)


@given(
    st.dictionaries(NAMES, TAGS, max_size=5),
    NAMES,
    st.lists(st.builds(Signed, st.sampled_from(["pass", "fail", "temperror"]), NAMES), max_size=30),
    NAMES,
)
def test_questions_are_bounded(records: dict[str, str], author: str, signatures: list[Signed], sender: str) -> None:
    """RFC 9989 section 4.10: eight for the author; all others are below its Organizational Domain, and asked once."""
    resolver = zone(**{name.replace(".", "__"): value for name, value in records.items()})

    found = asyncio.run(evaluate([f"x@{author}"], dkim=signatures, spf=spf_result("pass", sender), resolver=resolver))

    names = asked(resolver)
    assert len(set(names)) == len(names) <= 60
    assert len(resolver.queries) - len(names) <= 1
    below = (
        {name for name in names if name.endswith("." + found.organizational_domain)}
        if found.organizational_domain
        else set()
    )
    assert len(set(names) - below) <= 8
    assert found.result != "pass" or found.aligned
    assert found.disposition == "none" or found.result == "fail"
