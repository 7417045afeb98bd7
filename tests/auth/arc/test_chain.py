"""What a chain says, and whom one has to trust for it."""

import pytest

from aiomilter.auth.arc import Chain, ChainSet, Result
from aiomilter.auth.results import AuthenticationResults, MethodResult, Property, parse


def chain(result: Result, *domains: str, oldest_pass: int | None = 0, last: str = "pass") -> Chain:
    sets = [
        ChainSet(number, domain, "s", "pass" if number > 1 else "none", domain, f"i={number}; {domain}; spf=pass")
        for number, domain in enumerate(domains, 1)
    ]
    if sets and last != "pass":
        newest = sets.pop()
        sets.append(ChainSet(newest.instance, newest.domain, "s", last, newest.domain, newest.value))
    return Chain(result, len(sets), oldest_pass if result == "pass" else None, tuple(sets))


TRUST = [
    (chain("pass", "a.example", "b.example"), ["a.example", "b.example"], True, "a.example"),
    (chain("pass", "a.example", "b.example"), ["A.Example", "B.EXAMPLE"], True, "a.example"),
    (chain("pass", "a.example", "b.example"), ["b.example"], False, ""),
    (chain("pass", "a.example", "b.example", oldest_pass=2), ["b.example"], True, "b.example"),
    (chain("pass", "a.example", "b.example", oldest_pass=2), ["a.example", "b.example"], True, "a.example"),
    (chain("pass", "a.example", "b.example", oldest_pass=2), ["a.example"], False, ""),
    (chain("pass", "a.example", "b.example", oldest_pass=None), ["b.example"], False, ""),
    (
        chain("pass", "a.example", "x.example", "c.example", oldest_pass=3),
        ["a.example", "c.example"],
        True,
        "c.example",
    ),
    (chain("fail", "a.example"), ["a.example"], False, ""),
    (chain("none"), ["a.example"], False, ""),
    # Names below a name are trusted where that is said, and only by labels.
    (chain("pass", "mx.a.example"), ["a.example"], False, ""),
    (chain("pass", "mx.a.example"), [".a.example"], True, "mx.a.example"),
    (chain("pass", "a.example"), [".a.example"], True, "a.example"),
    (chain("pass", "bada.example"), [".a.example"], False, ""),
    (chain("pass", "xn--bcher-kva.example"), ["b\u00fccher.example"], True, "xn--bcher-kva.example"),
    (chain("pass", ""), ["", ".", "not a name"], False, ""),
    (chain("pass", "a.example"), [], False, ""),
]


@pytest.mark.parametrize(("found", "domains", "trusted", "first"), TRUST)
def test_whom_one_has_to_trust(found: Chain, domains: list[str], trusted: bool, first: str) -> None:
    """A-023."""
    assert found.trusted_by(iter(domains)) is trusted
    assessment = found.assessment(iter(domains))
    assert (assessment.authserv_id if assessment is not None else "") == first


def test_sealers_are_named_from_the_oldest_on() -> None:
    assert chain("pass", "a.example", "b.example").sealers == ("a.example", "b.example")
    assert chain("none").sealers == ()


def test_the_results_of_a_set_are_read_from_its_field() -> None:
    (found,) = chain("pass", "a.example").sets
    assert found.results == AuthenticationResults("a.example", (MethodResult("spf", "pass"),))
    assert ChainSet(1, "a.example", "s", "none", "a.example", "i=1; ").results is None


REPORTED = [
    (chain("none"), None, "arc=none"),
    (
        chain("pass", "a.example", "b.example"),
        "192.0.2.1",
        "arc=pass (i=2: a.example, b.example) smtp.remote-ip=192.0.2.1 header.oldest-pass=0",
    ),
    (chain("pass", "a.example", "", oldest_pass=2), None, "arc=pass (i=2: a.example, ?) header.oldest-pass=2"),
    (
        Chain("fail", 1, None, chain("pass", "a.example").sets, "seal 1: no"),
        "2001:db8::1",
        'arc=fail (i=1: a.example) reason="seal 1: no" smtp.remote-ip="2001:db8::1"',
    ),
]


@pytest.mark.parametrize(("found", "ip", "text"), REPORTED)
def test_what_stands_in_authentication_results(found: Chain, ip: str | None, text: str) -> None:
    """A-010."""
    written = found.method_result(ip)
    assert str(written) == text
    read = parse(f"mx; {text}")
    assert read is not None
    assert read.results[0].properties == written.properties
    if ip is not None:
        assert Property("smtp", "remote-ip", ip) in read.results[0].properties


def test_a_chain_that_was_sealed_as_failed_says_so() -> None:
    """A-020."""
    assert chain("fail", "a.example", last="fail").sealed_as_failed
    assert not chain("fail", "a.example").sealed_as_failed
    assert not chain("none").sealed_as_failed
