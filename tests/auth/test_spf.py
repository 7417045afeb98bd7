import asyncio
import time
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.auth._spf_record import Record, parse_record
from aiomilter.auth.results import AuthenticationResults
from aiomilter.auth.spf import SpfResult, check_host, forged_received_spf
from aiomilter.dns import Answer, CachingResolver, RdType
from aiomilter.exceptions import AddressError
from aiomilter.testing.resolver import HANG, TIMEOUT, ZoneResolver

IP = "192.0.2.1"


async def check(policy: str, zone: str = "", *, ip: str = IP, sender: str = "alice@example.com") -> SpfResult:
    resolver = ZoneResolver(f"{zone}\nexample.com TXT {policy}")
    return await check_host(ip, sender, "client.example", resolver=resolver)


async def test_a_result_says_who_was_checked_and_what_decided() -> None:
    found = await check("v=spf1 ip4:192.0.2.0/24 -all")

    assert found == SpfResult(
        "pass",
        "example.com",
        "mailfrom",
        ip_address(IP),
        "alice@example.com",
        "client.example",
        "ip4:192.0.2.0/24",
        "SPF pass: domain of alice@example.com designates 192.0.2.1 as permitted sender",
    )


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("v=spf1 +all", "SPF pass: domain of alice@example.com designates 192.0.2.1 as permitted sender"),
        ("v=spf1 -all", "SPF fail: domain of alice@example.com does not designate 192.0.2.1 as permitted sender"),
        (
            "v=spf1 ~all",
            "SPF softfail: domain of alice@example.com does not designate 192.0.2.1 as permitted sender (softfail)",
        ),
        ("v=spf1 ?all", "SPF neutral: domain of alice@example.com makes no assertion about 192.0.2.1"),
        ("none", "SPF none: domain of alice@example.com publishes no SPF policy"),
        ("TIMEOUT", "SPF temperror: a temporary error prevented looking up the SPF policy of example.com"),
        ("v=spf1 nonsense", "SPF permerror: the SPF policy of example.com cannot be interpreted"),
    ],
)
async def test_an_explanation_is_worded_as_smtp_clients_know_it(policy: str, sentence: str) -> None:
    assert (await check(policy)).explanation == sentence


async def test_without_a_sender_the_helo_name_is_checked() -> None:
    resolver = ZoneResolver("client.example TXT v=spf1 -all")

    found = await check_host(IP, "", "client.example", resolver=resolver)

    assert (found.result, found.identity, found.domain) == ("fail", "helo", "client.example")
    assert found.sender == "postmaster@client.example"


@pytest.mark.parametrize(
    "sender", ["alice", "alice@", "alice@localhost", "alice@[192.0.2.1]", "alice@a..b", "@", "a@b@"]
)
async def test_a_sender_without_a_domain_has_no_policy(sender: str) -> None:
    resolver = ZoneResolver()

    found = await check_host(IP, sender, "client.example", resolver=resolver)

    assert found.result == "none"
    assert "is not a domain name" in found.problem
    assert resolver.queries == []


async def test_the_domain_is_what_follows_the_last_at() -> None:
    found = await check("v=spf1 -all", sender='"a@b"@Example.COM.')

    assert (found.result, found.domain) == ("fail", "Example.COM")


async def test_an_address_that_is_none_is_the_callers_mistake() -> None:
    with pytest.raises(AddressError, match="expected an IP address"):
        await check_host("unknown", "alice@example.com", "client.example", resolver=ZoneResolver())


async def test_a_mapped_address_counts_as_ipv4() -> None:
    found = await check("v=spf1 ip6:::/0 ip4:192.0.2.1 -all", ip="::ffff:192.0.2.1")

    assert found.mechanism == "ip4:192.0.2.1"
    assert str(found.ip) == IP


@pytest.mark.parametrize("domain", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.EXAMPLE"])
async def test_an_internationalized_domain_is_checked_as_a_labels(domain: str) -> None:
    resolver = ZoneResolver("xn--bcher-kva.example TXT v=spf1 exists:%{o} -all\nxn--bcher-kva.example A 192.0.2.9")

    found = await check_host(IP, f"alice@{domain}", "client.example", resolver=resolver)

    assert found.result == "pass"


async def test_a_domain_without_an_ascii_form_has_no_policy() -> None:
    found = await check_host(IP, "alice@\u2028.example", "client.example", resolver=ZoneResolver())

    assert found.result == "none"
    assert found.domain.isascii()


@pytest.mark.parametrize("spec", ["%{l}.x.example", "%{L}.x.example", "%{s}", "%{S}"])
async def test_a_term_with_a_local_part_that_is_not_ascii_matches_nothing(spec: str) -> None:
    names = ["xn--tda.x.example", "%c3%bc.x.example", "xn--@example-s2a.com", "%c3%bc%40example.com"]
    zone = "".join(f"{name} A 192.0.2.1\n{name} TXT v=spf1 +all\n" for name in names)

    found = await check(f"v=spf1 exists:{spec} -all", zone, sender="ü@example.com")
    redirected = await check(f"v=spf1 redirect={spec}", zone, sender="ü@example.com")

    assert (found.result, found.mechanism) == ("fail", "-all")
    assert redirected.problem == "redirect leads to a name that cannot be in DNS"


async def test_a_default_is_neutral() -> None:
    found = await check("v=spf1")

    assert (found.result, found.mechanism) == ("neutral", "default")


@pytest.mark.parametrize(
    "policy",
    [
        "v=spf1 a:silent.example",
        "v=spf1 include:silent.example",
        "v=spf1 redirect=silent.example",
        "v=spf1 mx:m.example",
    ],
)
async def test_a_time_out_is_temperror(policy: str) -> None:
    found = await check(policy, "silent.example * TIMEOUT\nm.example MX 0 silent.example")

    assert found.result == "temperror"
    assert "no answer to 'silent.example'" in found.problem


async def test_pointer_lookups_that_fail_are_no_match() -> None:
    found = await check("v=spf1 ptr -all", "1.2.0.192.in-addr.arpa * TIMEOUT")
    skipped = await check(
        "v=spf1 ptr -all",
        "1.2.0.192.in-addr.arpa PTR a.example.com\na.example.com * FAILURE\n"
        "1.2.0.192.in-addr.arpa PTR b.example.com\nb.example.com A 192.0.2.1",
    )

    assert found.result == "fail"
    assert (skipped.result, skipped.mechanism) == ("pass", "ptr")


async def test_a_check_that_takes_too_long_is_temperror() -> None:
    resolver = CachingResolver(ZoneResolver({"example.com": HANG}))

    found = await check_host(IP, "alice@example.com", "client.example", resolver=resolver, timeout=0.01)

    assert (found.result, found.problem) == ("temperror", "no result in 0.01 s")
    await resolver.close()


async def test_a_cancelled_check_is_cancelled() -> None:
    resolver = CachingResolver(ZoneResolver({"example.com": HANG}))
    checking = asyncio.create_task(check_host(IP, "alice@example.com", "client.example", resolver=resolver))
    await asyncio.wait([checking], timeout=0)

    checking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await checking
    await resolver.close()


async def test_a_bug_in_the_resolver_is_not_hidden() -> None:
    class Broken:
        async def lookup(self, name: str, rdtype: RdType, /) -> Answer:
            raise TimeoutError("not ours")

    with pytest.raises(TimeoutError, match="not ours"):
        await check_host(IP, "alice@example.com", "client.example", resolver=Broken())


@pytest.mark.parametrize(("terms", "result"), [(10, "pass"), (11, "permerror")])
async def test_ten_terms_may_need_dns(terms: int, result: str) -> None:
    found = await check("v=spf1 " + "a:x.example " * terms + "+all", "x.example A 192.0.2.9")

    assert found.result == result


@pytest.mark.parametrize(("exchangers", "result"), [(10, "fail"), (11, "permerror")])
async def test_ten_mail_exchangers_may_be_looked_up(exchangers: int, result: str) -> None:
    zone = "".join(f"example.com MX {n} m{n}.example\nm{n}.example A 192.0.2.9\n" for n in range(exchangers))

    assert (await check("v=spf1 mx -all", zone)).result == result


async def test_only_ten_pointers_are_followed() -> None:
    zone = "".join(f"1.2.0.192.in-addr.arpa PTR p{n}.example.com\n" for n in range(11)) + "p10.example.com A 192.0.2.1"
    resolver = ZoneResolver(f"{zone}\nexample.com TXT v=spf1 ptr -all")

    found = await check_host(IP, "alice@example.com", "client.example", resolver=resolver)

    assert found.result == "fail"
    assert len([name for name, _ in resolver.queries if name.endswith(".example.com")]) == 10


@pytest.mark.parametrize(("voids", "result"), [(2, "fail"), (3, "permerror")])
async def test_two_terms_may_lead_to_nothing(voids: int, result: str) -> None:
    terms = ["a:a.missing.example", "exists:b.missing.example", "mx:c.missing.example"][:voids]

    found = await check(f"v=spf1 {' '.join(terms)} -all")

    assert found.result == result


async def test_mail_exchangers_of_the_other_family_are_one_void_lookup() -> None:
    zone = "".join(f"example.com MX {n} m{n}.example\nm{n}.example A 192.0.2.9\n" for n in range(5))

    found = await check("v=spf1 mx -all", zone, ip="2001:db8::1")

    assert found.result == "fail"


async def test_the_void_limit_is_the_callers() -> None:
    resolver = ZoneResolver("example.com TXT v=spf1 a:a.x.example -all")

    found = await check_host(IP, "a@example.com", "client.example", resolver=resolver, max_void_lookups=0)

    assert found.result == "permerror"


async def test_a_policy_of_ones_own_takes_the_place_of_the_published_one() -> None:
    resolver = ZoneResolver("forwarders.example TXT v=spf1 ip4:192.0.2.1 -all\nexample.com TXT v=spf1 -all")

    found = await check_host(
        IP, "a@example.com", "c.example", resolver=resolver, record="v=spf1 include:forwarders.example -all"
    )
    broken = await check_host(IP, "a@example.com", "c.example", resolver=resolver, record="v=spf1 ü")

    assert (found.result, found.mechanism) == ("pass", "include:forwarders.example")
    assert broken.result == "permerror"
    assert ("example.com", "TXT") not in resolver.queries


@pytest.mark.parametrize(
    "record",
    [
        "",
        " ",
        "ip4:192.0.2.1 -all",
        "a mx -all",
        "-all",
        "v=spf2 ip4:192.0.2.1 -all",
        "v=spf10 -all",
        "v=spf1;ip4:192.0.2.1 -all",
        "v=spf1-all",
        "v=spf1\tip4:192.0.2.1 -all",
        "v=spf1\n",
        "v=spf1\u00a0-all",
        " v=spf1 -all",
        '"v=spf1 -all"',
        "spf2.0/pra -all",
        "spf1 -all",
        "v = spf1 -all",
        "\ufeffv=spf1 -all",
        "\udcff",
        b"v=spf1 -all",
    ],
)
@pytest.mark.parametrize("sender", ["a@example.com", "", "nobody"])
async def test_a_policy_of_ones_own_begins_with_its_version(record: str, sender: str) -> None:
    """RFC 7208 section 4.5; whoever the sender is, so that the mistake shows with the first message."""
    with pytest.raises(ValueError, match=r"^record: expected a policy that begins with 'v=spf1' and a space, found "):
        await check_host(IP, sender, "c.example", resolver=ZoneResolver(), record=record)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("v=spf1 ipv4:192.0.2.1 -all", "'ipv4:192.0.2.1': no such mechanism"),
        ("v=spf1 ip4:192.0.2.1 -all\n", "'-all?': neither a mechanism nor a modifier"),
        ("v=spf1 ip4:192.0.2.1, -all", "'ip4:192.0.2.1,': expected an address or a network"),
        ("v=spf1 \u00fc -all", "the record is not ASCII"),
        ("v=spf1 \udcff -all", "udcff': neither a mechanism nor a modifier"),
        ("v=spf1 redirect=missing.example", "redirect to missing.example, which publishes no SPF policy"),
        ("v=spf1 " + "a " * 10_000, "the record is longer than 16384 octets"),
    ],
)
async def test_what_is_wrong_with_a_policy_of_ones_own_is_a_problem(record: str, problem: str) -> None:
    found = await check_host(IP, "a@example.com", "c.example", resolver=ZoneResolver(), record=record)

    assert found.result == "permerror"
    assert problem in found.problem
    assert found.problem.startswith(("policy given for example.com: ", "redirect to"))


@pytest.mark.parametrize("record", ["v=spf1", "V=SPF1 ip4:192.0.2.9"])
async def test_a_policy_of_ones_own_may_be_short_and_in_capitals(record: str) -> None:
    found = await check_host(IP, "a@example.com", "c.example", resolver=ZoneResolver(), record=record)

    assert (found.result, found.problem) == ("neutral", "")


async def test_a_published_record_whose_version_ends_in_a_line_feed_is_none() -> None:
    found = await check_host(
        IP, "a@example.com", "c.example", resolver=ZoneResolver({"example.com": {"TXT": b"v=spf1\n"}})
    )

    assert found.result == "none"


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("%{i} may not, %{s}", "192.0.2.1 may not, alice@example.com"),
        ("see http://x.example/?l=%{L}&r=%{r}&t", "see http://x.example/?l=alice&r=mx.example&t"),
        ("100%% %_ %-", "100%   %20"),
        ("x" * 5000, "x" * 512),
    ],
)
async def test_the_domain_explains_a_fail(text: str, explanation: str) -> None:
    resolver = ZoneResolver({"example.com": {"TXT": "v=spf1 -all exp=why.example"}, "why.example": {"TXT": text}})

    found = await check_host(IP, "alice@example.com", "c.example", resolver=resolver, receiver="mx.example")

    assert found.explanation == explanation


async def test_the_time_macro_is_seconds() -> None:
    before = int(time.time())
    found = await check("v=spf1 -all exp=why.example", "why.example TXT %{t}")

    assert before <= int(found.explanation) <= int(time.time())


@pytest.mark.parametrize("text", ["%{x}", "100%", "\x07", "\xff", "a\r\nb"])
async def test_an_explanation_with_an_error_is_replaced_by_ours(text: str) -> None:
    resolver = ZoneResolver(
        {"example.com": {"TXT": "v=spf1 -all exp=why.example"}, "why.example": {"TXT": text.encode("latin-1")}}
    )

    found = await check_host(IP, "alice@example.com", "c.example", resolver=resolver)

    assert found.explanation.startswith("SPF fail: domain of alice@example.com")


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("v=spf1 foo", "'foo': no such mechanism"),
        ("v=spf1 ip4:1.2.3", "'ip4:1.2.3': expected an address"),
        ("v=spf1 a:%{c}.example", "no macro '%{c}' here"),
        ("v=spf1 a:%{d0}", "a macro takes no zero parts"),
        ("v=spf1 a:" + "%{d}" * 65, "more than 64 macros"),
        ("v=spf1 a:1.2.3.4", "does not end in a top-level domain"),
        ("v=spf1 include:missing.example", "include of missing.example, which publishes no SPF policy"),
        ("v=spf1 redirect=missing.example", "redirect to missing.example, which publishes no SPF policy"),
        ("v=spf1 " + "ip4:192.0.2.9 " * 2000, "the record is longer than 16384 octets"),
        ("v=spf1 \x1b[2J", "'?[2J'"),
    ],
)
async def test_a_permerror_says_what_is_wrong(policy: str, problem: str) -> None:
    found = await check_host(
        IP, "alice@example.com", "c.example", resolver=ZoneResolver({"example.com": {"TXT": policy}})
    )

    assert found.result == "permerror"
    assert problem in found.problem


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{d00000000000000000000000000000000000002}", "example.com"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("%{h}.x.example", "client.example.x.example"),
        ("%{p}.x.example", "unknown.x.example"),
    ],
)
async def test_macros_expand_as_in_rfc_7208_section_7_4(spec: str, name: str) -> None:
    resolver = ZoneResolver({"email.example.com": {"TXT": f"v=spf1 exists:{spec} -all"}})

    await check_host("192.0.2.3", "strong-bad@email.example.com", "client.example", resolver=resolver)

    assert (name, "A") in resolver.queries


async def test_a_name_that_is_too_long_loses_labels_from_the_left() -> None:
    resolver = ZoneResolver({"example.com": {"TXT": "v=spf1 exists:%{l}.%{l}.%{l}.x.example -all"}})

    await check_host(IP, ".".join(["a" * 30] * 8) + "@example.com", "client.example", resolver=resolver)

    (asked,) = [name for name, rdtype in resolver.queries if rdtype == "A"]
    assert asked == ".".join(["a" * 30] * 7) + ".x.example"


async def test_received_spf_says_what_was_checked() -> None:
    found = await check("v=spf1 ip4:192.0.2.0/24 -all")

    assert found.received_spf(receiver="mx.example.net") == (
        "Pass (mx.example.net: domain of alice@example.com designates 192.0.2.1 as permitted sender)\n\t"
        'receiver=mx.example.net;\n\tclient-ip=192.0.2.1;\n\tenvelope-from="alice@example.com";\n\t'
        'helo=client.example;\n\tidentity=mailfrom;\n\tmechanism="ip4:192.0.2.0/24"'
    )


async def test_the_authentication_results_part_names_the_identity() -> None:
    found = await check("v=spf1 -all")
    helo = await check_host(IP, "", "client.example", resolver=ZoneResolver())

    assert str(found.method_result()) == "spf=fail smtp.mailfrom=alice@example.com"
    assert str(helo.method_result()) == (
        'spf=none reason="client.example publishes no SPF policy" smtp.helo=client.example'
    )


async def test_internationalized_senders_survive_in_smtputf8_mail() -> None:
    """RFC 6532; elsewhere the domain is A-labels."""
    resolver = ZoneResolver("xn--dmne-moa0i.example TXT v=spf1 -all")

    found = await check_host(IP, "użytkownik@dömäne.example", "client.example", resolver=resolver)

    assert found.sender == "u?ytkownik@xn--dmne-moa0i.example"
    assert found.utf8_sender == "użytkownik@dömäne.example"
    ours = AuthenticationResults("mx.example.net", (found.method_result(),))
    assert str(ours) == "mx.example.net;\n\tspf=fail smtp.mailfrom=u?ytkownik@xn--dmne-moa0i.example"
    assert ours.value(smtputf8=True) == "mx.example.net;\n\tspf=fail smtp.mailfrom=użytkownik@dömäne.example"
    assert 'envelope-from="u?ytkownik@xn--dmne-moa0i.example"' in found.received_spf(receiver="mx.example.net")
    assert found.received_spf(receiver="mx.dömäne.example", smtputf8=True) == (
        "Fail (mx.dömäne.example: domain of użytkownik@dömäne.example does not designate 192.0.2.1 as permitted sender)"
        '\n\treceiver="mx.dömäne.example";\n\tclient-ip=192.0.2.1;\n\tenvelope-from="użytkownik@dömäne.example";\n\t'
        "helo=client.example;\n\tidentity=mailfrom;\n\tmechanism=-all"
    )


async def test_an_ascii_sender_is_the_same_in_smtputf8_mail() -> None:
    found = await check("v=spf1 -all")

    assert found.utf8_sender == ""
    assert found.received_spf(receiver="x", smtputf8=True) == found.received_spf(receiver="x")


HOSTILE = [
    '"a\r\nX: y"@example.com',
    "a)(b@example.com",
    'a"\\@example.com',
    "ü\udcff\0@example.com",
    "\U0001f600" * 300 + "@example.com",
    "a" * 9000 + "@b.c",
]


@pytest.mark.parametrize("sender", HOSTILE)
@pytest.mark.parametrize("helo", ["c.example", "a\r\nX: y", '")(\\', "\udcff\0ü", "h" * 9000])
async def test_no_sender_or_helo_injects_a_header(sender: str, helo: str) -> None:
    resolver = ZoneResolver(
        {"example.com": {"TXT": "v=spf1 -all exp=e.example"}, "e.example": {"TXT": "%{s} %{h} %{l}"}}
    )

    for address in (sender, ""):
        found = await check_host(IP, address, helo, resolver=resolver)
        header = found.received_spf(receiver="mx\r\nX: y)")
        fields = (found.domain, found.sender, found.helo, found.mechanism, found.explanation, found.problem)
        for text in (*header.split("\n\t"), str(found.method_result()), *fields):
            assert all(" " <= character <= "~" for character in text)
            assert len(text) < 998
        header = found.received_spf(receiver="mx\r\nX: y)\udcff", smtputf8=True)
        for text in (*header.split("\n\t"), found.method_result().value(smtputf8=True), found.utf8_sender):
            assert text.isprintable()
            assert len(text.encode()) < 998


def test_received_spf_fields_in_our_name_are_found_from_the_last_to_the_first() -> None:
    headers = [
        ("Received-SPF", "Pass (mx.example.net: x) receiver=mx.example.net; client-ip=192.0.2.1"),
        ("Subject", "receiver=mx.example.net"),
        ("received-spf", "Pass receiver=other.example; x"),
        ("RECEIVED-SPF", 'Pass (c)\r\n\tclient-ip=1; Receiver = "MX.example.net"'),
        ("Received-SPF", "Pass receiver=mx.example.network"),
        ("Received-SPF", "Pass receiver; mx.example.net"),
        ("Received-SPF", 'Pass helo="receiver=mx.example.net"'),
        ("Received-SPF", "Pass (" + "x" * 5000 + ") receiver=MX.example.net"),
    ]

    assert forged_received_spf(headers, "mx.example.net") == [7, 3, 1]
    assert forged_received_spf([("Received-SPF", found_by_us())], "mx.example.net") == [1]


def found_by_us() -> str:
    result = SpfResult("none", "example.com", "mailfrom", ip_address(IP), "a@example.com", "c.example")
    return result.received_spf(receiver="mx.example.net")


def test_parsed_records_are_kept() -> None:
    assert parse_record(b"v=spf1 a mx -all") is parse_record(b"v=spf1 a mx -all")


WORDS = (
    "a mx ptr all -all ~all ?all ip4:192.0.2.0/24 ip6:2001:db8::/32 a:b.example/24//64 include:b.example "
    "redirect=b.example exists:%{ir}.%{v}.b.example exp=b.example mx:%{p} a:%{l1r+-}.%{d2} include:example.com "
    "foo=%{s} a/33 ip4:1 %% :"
)
TERMS = st.sampled_from(WORDS.split())


@given(st.lists(TERMS | st.text(max_size=12), max_size=14), st.text(max_size=40), st.text(max_size=40))
@settings(deadline=None, max_examples=150)
def test_any_record_sender_and_helo_give_a_result_within_the_limits(terms: list[str], sender: str, helo: str) -> None:
    resolver = ZoneResolver(
        {
            "example.com": {"TXT": "v=spf1 " + " ".join(terms), "A": "192.0.2.7", "MX": "1 b.example"},
            "b.example": {"TXT": "v=spf1 a mx include:example.com", "A": TIMEOUT, "AAAA": "2001:db8::1"},
            "1.2.0.192.in-addr.arpa": {"PTR": "example.com"},
        }
    )

    async def run() -> None:
        for address in (f"{sender}@example.com", sender):
            for ip in (IP, "2001:db8::1"):
                resolver.queries.clear()
                found = await check_host(ip, address, helo, resolver=resolver)
                assert len(resolver.queries) <= 11 + 10 * 11 + 12
                header = found.received_spf(receiver="mx.example") + str(found.method_result()) + found.explanation
                assert all(" " <= character <= "~" or character in "\n\t" for character in header)

    asyncio.run(run())


@given(st.binary(max_size=200).map(lambda text: b"v=spf1 " + text))
@settings(deadline=None)
def test_any_octets_are_a_record_or_a_problem(text: bytes) -> None:
    parsed = parse_record(text)

    assert isinstance(parsed, Record) or parsed.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        b"a " * 8000,
        b"a:" + b"/" * 16000,
        b"a:" + b"." * 16000,
        b"a:x." + b"1" * 16000,
        b"exists:" + b"%{l1r.-}" * 2000,
        b"x=" + b"%{d" + b"9" * 16000 + b"}",
        b"a:" + b"-" * 16000 + b".x",
        b"a/" + b"1" * 16000,
        b"ip6:" + b":" * 16000,
    ],
)
def test_a_record_made_to_keep_us_busy_is_read_in_bounded_time(text: bytes) -> None:
    started = time.process_time()

    parse_record(b"v=spf1 " + text)

    assert time.process_time() - started < 1


async def test_a_sender_made_to_keep_us_busy_is_checked_in_bounded_time() -> None:
    sender = ".-+" * 20_000 + "@example.com"
    started = time.process_time()

    found = await check(
        "v=spf1 exists:" + "%{S1r.-+}" * 1500 + " -all exp=e.example", f"e.example TXT {'%{S}' * 4000}", sender=sender
    )

    assert time.process_time() - started < 1
    assert len(found.explanation) <= 512
