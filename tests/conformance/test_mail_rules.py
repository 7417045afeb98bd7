"""The rules of DMARC and of Authentication-Results, by number; each is cited by at least one test."""

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

RULES: Final = {
    "M-010": "A record begins with v=DMARC1, exact in case (RFC 9989 sections 4.7, 4.8).",
    "M-011": "Names and values have no letter case; what cannot be read is ignored; the first of equal tags counts.",
    "M-012": "Several DMARC records at a name are none, and the walk goes on (section 4.10).",
    "M-013": "Character-strings are joined.",
    "M-014": "A bad adkim, aspf, psd or t is the default (section 4.8).",
    "M-020": "_dmarc. and the name is asked for TXT (section 4.10).",
    "M-021": "Eight questions at most; of longer names all but seven labels go after the first.",
    "M-022": "A single record with psd=n or psd=y ends the walk.",
    "M-023": "The Organizational Domain: psd=n itself, psd=y one label below, else the shortest name (section 4.10.2).",
    "M-024": "Without a record it is the start itself.",
    "M-025": "The policy: the author's own record, its Organizational Domain's, the public suffix domain's (section 4.10.1).",
    "M-026": "No name is asked twice, and none that does not matter (section 4.10.2).",
    "M-030": "Strict alignment: the same domain.",
    "M-031": "Relaxed alignment: the same Organizational Domain.",
    "M-032": "No letter case, no trailing dot.",
    "M-033": "Signatures that pass and cover the whole body; SPF that passes for MAIL FROM (section 4.4).",
    "M-040": "p at the Author Domain itself; below its record sp, or np if it does not exist.",
    "M-041": "A name exists unless DNS says NXDOMAIN; asked only if np is there (section 3.2.13).",
    "M-042": "Without usable p, sp and np: p=none if rua has a URI, else no DMARC (section 4.10.1).",
    "M-043": "t=y lowers what is applied by one level.",
    "M-044": "pct, rf and ri are history.",
    "M-045": "A size behind a URI is ignored.",
    "M-050": "A DNS error on the way to the policy: temperror, and nothing is rejected (section 5.3.6).",
    "M-051": "An error about one identifier does not matter if another aligns.",
    "M-052": "SPF or a signature of an aligned domain with temperror: temperror.",
    "M-053": "Authentication-Results has header.from and policy.dmarc (section 9.1).",
    "M-054": "p=reject alone rejects nothing: the filter does, with 550 5.7.1 and the domain (sections 5.4, 7.4).",
    "M-060": "One From field with an address, else permerror (section 5.3.1).",
    "M-061": "Several addresses of one domain are one author.",
    "M-062": "Several domains: permerror, or the strictest policy of those that fail (section 11.5).",
    "M-063": "From is read by RFC 5322; an address without a comma before it is one more.",
    "M-064": "U-labels become A-labels.",
    "M-070": "A record for each message, as plain data (RFC 9990).",
    "M-071": "Reports go to another organization only if it agrees (RFC 9990 section 4).",
    "M-072": "One report for a policy domain; its file name; a hundred signatures a row (RFC 9990 sections 3.1.3, 3.5).",
    "M-074": "The form of a report (RFC 9990 section 3.1.1).",
    "A-001": "The three fields of a set share i=, 1 to 50 (RFC 8617 sections 4.1 and 4.2).",
    "A-002": "i= is found wherever it stands; one that is no number of two digits makes the set malformed (section 4.2.1).",
    "A-003": "ARC-Message-Signature is as in DKIM, without v=, From need not be signed; seals must not be (section 4.1.2).",
    "A-004": "ARC-Seal has neither h= nor bh=, its header is relaxed (section 4.1.3).",
    "A-005": "The order of validation (section 5.2).",
    "A-006": "Older message signatures need not verify; oldest_pass says since when all do (section 5.2 step 5).",
    "A-007": "All failures are final; DNS trouble is told as temporary (section 5.2.1).",
    "A-008": "Neither the order of the fields nor their letter case matters.",
    "A-009": "SHA-1 and keys under 1,024 bits fail; Ed25519 is as in DKIM.",
    "A-010": "arc=, smtp.remote-ip and header.oldest-pass (section 6).",
    "A-020": "Sealing is last, with the result of what arrived; not on top of cv=fail or 50 sets (section 5.1).",
    "A-021": "ARC-Authentication-Results holds all results of this host, comments kept (section 4.1.1).",
    "A-022": "ARC-Message-Signature covers what DKIM does and DKIM-Signature, neither results nor ARC fields (section 4.1.2).",
    "A-023": "A chain overrules DMARC only if it passes and all who sealed it are trusted (RFC 8617 section 7.2.2).",
    "A-024": "What is looked at of a chain is bounded.",
    "A-025": "ARC is a package that no other check needs.",
    "R-001": "One field for all checks (RFC 8601).",
    "R-002": "Fields with our name are deleted, except those of our own relays (section 5).",
    "R-003": "ARC-Authentication-Results is never deleted.",
    "R-004": "What each check has looked at, as properties (section 2.7).",
    "R-005": "Values from a message cannot leave their place.",
    "R-006": "A message without a check: none (section 2.2).",
    "R-007": "temperror is written.",
    "R-008": "The field is under 4 kB, signatures that pass first.",
    "R-009": "The order: auth iprev spf dkim arc dmarc.",
}
TESTS: Final = Path(__file__).parents[1]


@cache
def cited() -> frozenset[str]:
    """Return the numbers that tests cite, in a docstring, a comment or a case."""
    paths = [path for folder in ("auth", "conformance", "examples") for path in (TESTS / folder).rglob("*.*")]
    texts = [path.read_text("utf-8") for path in paths if path.suffix in (".py", ".yml") and path != Path(__file__)]
    found = {number for text in texts for number in re.findall(r"\b[AMR]-0\d\d\b", text)}
    for first, last in {each for text in texts for each in re.findall(r"\bA-0(\d\d) to A-0(\d\d)\b", text)}:
        found |= {f"A-0{number:02}" for number in range(int(first), int(last) + 1)}
    return frozenset(found)


@pytest.mark.parametrize("number", RULES)
def test_a_rule_has_a_test(number: str) -> None:
    assert number in cited()


def test_tests_cite_rules_that_there_are() -> None:
    assert cited() <= set(RULES)
