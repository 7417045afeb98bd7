"""Two other SPF verifiers say the same of generated records, or differ for a listed reason."""

import asyncio
import warnings
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.auth.spf import SpfResult, check_host
from aiomilter.testing.resolver import TIMEOUT, ZoneResolver

Items = list[tuple[str, Any]]
# None: every question about the name times out.
Zone = dict[str, Items | None]

HOSTS = ["example.com", "b.example.com", "c.example.org", "mx.example.com"]
NAMES = [*HOSTS, "void.example", "v2.example"]
CLIENTS = ["192.0.2.1", "2001:db8::1", "192.0.2.200"]
MACROS = "%{d} %{o} %{l}.example.com %{ir}.x.example %{h} %{p} %{d1} %{dr}.example.com %{v}.example a..b.com"
ODD = (
    "foo=bar foo=%{c} foo x:y foo=% all: a: A:Example.COM MX -ALL ip4 %{d} redirect:example.com a:b.example.com. "
    "exp=%{p} ip4:192.0.2.1/33 ip4:1.2.3 ip6:2001:db8::/129 a/33 mx/24/64"
)
NETWORKS = "ip4:192.0.2.1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 ip6:2001:db8::1 ip6:2001:db8::/32 ip6:::/0"


def terms() -> st.SearchStrategy[str]:
    qualifiers = st.sampled_from(["", "", "", "-", "~", "?", "+"])
    specs = st.sampled_from([*NAMES, *MACROS.split()])
    prefixes = st.sampled_from(["", "", "", "/24", "/0", "//64", "/24//64"])
    networks = st.sampled_from(NETWORKS.split())
    plain = st.sampled_from(["all", "a", "mx", "ptr"])
    named = st.builds("{}:{}".format, st.sampled_from(["include", "exists", "ptr", "a", "mx"]), specs)
    addressed = st.builds("{}{}".format, st.sampled_from(["a", "mx", "a:example.com", "mx:b.example.com"]), prefixes)
    modifiers = st.builds("{}={}".format, st.sampled_from(["redirect", "exp"]), specs)
    directives = st.builds("{}{}".format, qualifiers, plain | named | addressed | networks)
    return directives | directives | directives | modifiers | st.sampled_from(ODD.split())


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """Draw a few hosts that publish policies about each other."""
    zone: Zone = {}
    policies = st.lists(terms(), max_size=5).map(lambda words: " ".join(["v=spf1", *words]))
    for host in HOSTS:
        texts = draw(st.lists(policies, max_size=1) | st.lists(policies | st.just("hello"), max_size=2))
        items: Items = [("TXT", text) for text in texts]
        items += [
            ("A", ip) for ip in draw(st.lists(st.sampled_from(["192.0.2.1", "192.0.2.7", "198.51.100.1"]), max_size=2))
        ]
        items += [("AAAA", ip) for ip in draw(st.lists(st.sampled_from(["2001:db8::1", "2001:db8::7"]), max_size=1))]
        items += [("MX", (10, name)) for name in draw(st.lists(st.sampled_from(NAMES), max_size=2))]
        zone[host] = None if draw(st.integers(0, 19)) == 0 else items
    for ip in CLIENTS[:2]:
        names = draw(st.lists(st.sampled_from(NAMES), max_size=2))
        zone[ip_address(ip).reverse_pointer] = [("PTR", name) for name in names]
    return zone


SENDERS = st.sampled_from(["alice@example.com", "a.b-c@b.example.com", ""])
HELO = "mx.example.com"


def ours(zone: Zone, ip: str, sender: str) -> SpfResult:
    resolver = ZoneResolver()
    for name, items in zone.items():
        resolver._names.add(name)
        if items is None:
            resolver.add(name, "*", TIMEOUT)
        for rdtype, value in items or ():
            resolver.add(name, rdtype, "{} {}".format(*value) if rdtype == "MX" else value)
    return asyncio.run(check_host(ip, sender, HELO, resolver=resolver))


@pytest.mark.slow
@given(zones(), st.sampled_from(CLIENTS), SENDERS)
@settings(deadline=None, max_examples=100)
def test_pyspf_says_the_same_or_differs_for_a_listed_reason(zone: Zone, ip: str, sender: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spf = pytest.importorskip("spf")

    def lookup(name: str, rdtype: str, strict: bool = True, timeout: float = 20) -> list[tuple[tuple[str, str], Any]]:
        items = zone.get(name.lower().removesuffix("."), [])
        if items is None:
            raise spf.TempError("DNS timeout")
        return [
            ((name, kind), (value.encode(),) if kind == "TXT" else value) for kind, value in items if kind == rdtype
        ]

    spf.DNSLookup = lookup
    result, _, text = spf.query(ip, sender, HELO).check()
    found = ours(zone, ip, sender)

    reasons = {
        # It counts each lookup, we each term, as RFC 7208 section 4.6.4 does: a domain whose mail exchangers have no
        # IPv6 addresses is not to be refused for it.
        "void lookups": result == "permerror" and "Void lookup limit" in text,
        # It refuses a domain that includes itself before evaluating what else the record says.
        "includes itself": result == "permerror" and "trivial recursion" in text,
        # It takes a DNS error in the names of the client for an error, RFC 7208 section 5.5 for no match.
        "client's names": result == "temperror" and None in zone.values(),
        # It lets no unknown modifier appear twice; RFC 7208 section 6 forbids that for redirect and exp.
        "modifiers": result == "permerror" and "MUST appear at most once" in text and found.result != "permerror",
    }
    assert found.result == result or any(reasons.values()), (result, text, found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it is not ready for Python 3.13
@given(zones(), st.sampled_from(CLIENTS), SENDERS)
@settings(deadline=None, max_examples=100)
def test_spftrace_says_the_same_or_differs_for_a_listed_reason(zone: Zone, ip: str, sender: str) -> None:
    spftrace = pytest.importorskip("spftrace")
    from spftrace.resolver import ZoneResolver as TraceZone

    plain: dict[str, object] = {
        name: "TIMEOUT" if items is None else [(kind, value[1] if kind == "MX" else value) for kind, value in items]
        for name, items in zone.items()
    }
    trace = asyncio.run(spftrace.Evaluator(TraceZone(plain)).evaluate(ip, sender, HELO))
    found = ours(zone, ip, sender)

    said = " ".join(str(event.get("reason", "")) + str(event.get("message", "")) for event in trace.trace.to_list())
    reasons = {
        # It counts each lookup that is not from its cache, we each term.
        "void lookups": "void" in said or "lead to nothing" in found.problem,
        # A name with an empty label is an error in the record to it, and no match to us: RFC 7208 section 4.8.
        "empty label": "invalid label" in said,
    }
    assert found.result == trace.result or any(reasons.values()), (trace.result, said, found)
