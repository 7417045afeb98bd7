"""Aggregate reports: what they say, that the schema takes them, and who may be sent them."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dmarc import (
    DmarcRecord,
    Override,
    Record,
    SignatureResult,
    aggregate_xml,
    evaluate,
    report_destinations,
    report_name,
)
from aiomilter.testing.resolver import Trouble, ZoneResolver
from tests.auth.dmarc.identities import IP, Signed
from tests.auth.dmarc.test_walk import zone

META: Final[dict[str, Any]] = {
    "org_name": "Example Network",
    "email": "dmarc@example.net",
    "report_id": "20261130.1@example.net",
    "begin": 1_796_000_000,
    "end": 1_796_086_400,
}


@cache
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).parent / "report.xsd")


async def record(policy: str, author: str = "example.com", **options: Any) -> DmarcRecord:
    """Return the record of a message with two signatures, neither of which is the author's unless ``dkim`` says so."""
    signatures = options.pop("dkim", [Signed("pass", "example.net"), Signed("fail", "example.com", "s2")])
    found = await evaluate([f"x@{author}"], dkim=signatures, resolver=zone(example__com=policy))
    if "override" in options:
        found = found.overridden(options.pop("override"))
    results = [SignatureResult(each.domain, each.selector, each.result) for each in signatures]
    made = DmarcRecord.of(found, source_ip=IP, envelope_from="bounce.example", signatures=results, **options)
    assert made is not None
    return made


def report(*records: DmarcRecord, **options: Any) -> bytes:
    """Return a report that the schema takes."""
    xml = aggregate_xml(records, **{**META, **options})
    schema().validate(xml.decode())
    return xml


def texts(xml: bytes, name: str) -> list[str]:
    return [
        element.text or ""
        for element in ElementTree.fromstring(xml).iter(f"{{urn:ietf:params:xml:ns:dmarc-2.0}}{name}")
    ]


def names(xml: bytes) -> Iterator[str]:
    return (element.tag.partition("}")[2] for element in ElementTree.fromstring(xml).iter())


async def test_a_report_has_everything_in_its_place() -> None:
    """M-070, M-074."""
    made = await record(
        "p=reject; sp=quarantine; adkim=s; t=y; fo=1", "a.example.com", spf_domain="b.example", spf_result="softfail"
    )

    xml = report(made, extra_contact_info="https://example.net", errors="none")

    assert xml.startswith(
        b"<?xml version='1.0' encoding='utf-8'?>\n<feedback xmlns=\"urn:ietf:params:xml:ns:dmarc-2.0\">"
    )
    assert " ".join(names(xml)) == (
        "feedback version report_metadata org_name email extra_contact_info report_id date_range begin end error generator "
        "policy_published domain discovery_method p sp fo adkim aspf testing "
        "record row source_ip count policy_evaluated disposition dkim spf reason type identifiers header_from envelope_from "
        "auth_results dkim domain selector result dkim domain selector result spf domain scope result"
    )
    assert texts(xml, "domain") == ["example.com", "example.net", "example.com", "b.example"]
    assert texts(xml, "discovery_method") + texts(xml, "testing") == ["treewalk", "y"]
    assert texts(xml, "disposition") + texts(xml, "type") == ["none", "policy_test_mode"]
    assert texts(xml, "begin") + texts(xml, "end") == ["1796000000", "1796086400"]


@pytest.mark.parametrize(
    ("policy", "options", "disposition", "reasons"),
    [
        ("p=reject", {}, "reject", []),
        ("p=none", {}, "none", []),
        ("p=reject", {"dkim": [Signed("pass", "example.com")]}, "pass", []),
        ("p=reject; t=y", {}, "quarantine", ["policy_test_mode"]),
        # What was done is not what is published: a reason has to say so.
        ("p=reject", {"done": "quarantine"}, "quarantine", ["local_policy"]),
        ("p=reject; t=y", {"done": "none"}, "none", ["local_policy"]),
        ("p=none", {"done": "reject"}, "reject", ["local_policy"]),
        ("p=reject", {"done": "none", "reasons": [Override("mailing_list")]}, "none", ["mailing_list"]),
        ("p=reject", {"override": Override("local_policy", "arc=pass")}, "none", ["local_policy"]),
    ],
)
async def test_a_reason_says_why_something_else_was_done(
    policy: str, options: dict[str, Any], disposition: str, reasons: list[str]
) -> None:
    made = await record(policy, **options)

    xml = report(made)

    assert texts(xml, "disposition") == [disposition]
    assert texts(xml, "type") == reasons


async def test_a_record_that_lost_its_reason_gets_one() -> None:
    made = replace(await record("p=reject"), disposition="none")

    assert texts(report(made), "type") == ["other"]


async def test_records_that_are_alike_are_one_row() -> None:
    first, other = await record("p=reject"), await record("p=reject", "a.example.com")

    xml = report(first, other, first, replace(first, count=3), replace(other, source_ip=IPv6Address("2001:db8::1")))

    assert texts(xml, "count") == ["5", "1", "1"]
    assert texts(xml, "header_from") == ["example.com", "a.example.com", "a.example.com"]
    assert texts(xml, "source_ip") == ["192.0.2.1", "192.0.2.1", "2001:db8::1"]


async def test_the_newest_policy_is_shown() -> None:
    xml = report(await record("p=reject"), await record("p=none"))

    assert texts(xml, "p") == ["none"]


async def test_signatures_that_speak_for_the_author_come_first_and_a_hundred_are_enough() -> None:
    """M-072: strictly aligned, aligned, passing, all others."""
    signatures = [Signed("fail", f"f{number}.example") for number in range(120)]
    signatures += [Signed("pass", "p.example"), Signed("pass", "a.example.com"), Signed("pass", "example.com")]

    made = await record("p=none", dkim=signatures)

    assert [each.domain for each in made.signatures[:4]] == ["example.com", "a.example.com", "p.example", "f0.example"]
    assert len(made.signatures) == texts(report(made), "selector").count("s1") == 100


@pytest.mark.parametrize("envelope_from", [None, "", "b.example"])
async def test_the_null_sender_is_an_empty_element(envelope_from: str | None) -> None:
    xml = report(replace(await record("p=none"), envelope_from=envelope_from))

    assert texts(xml, "envelope_from") == ([] if envelope_from is None else [envelope_from])


@pytest.mark.parametrize(
    ("authors", "records"),
    [(["x@example.com"], {}), ([], {"example__com": "p=none"}), (["x@example.com"], {"example__com": "TIMEOUT"})],
)
async def test_nobody_is_told_of_mail_without_a_policy(authors: list[str], records: dict[str, str]) -> None:
    found = await evaluate(authors, resolver=zone(**records))

    assert DmarcRecord.of(found, source_ip=IP, envelope_from="") is None


async def test_a_report_is_about_one_domain() -> None:
    made = await record("p=none")

    with pytest.raises(ValueError, match="expected those of one domain"):
        aggregate_xml([made, replace(made, domain="example.net")], **META)
    with pytest.raises(ValueError, match="expected at least one"):
        aggregate_xml([], **META)


@pytest.mark.parametrize("report_id", ["", "a b", "a@b@c", "a\n", ".a", "a..b", "ä"])
async def test_a_report_id_is_a_dot_atom(report_id: str) -> None:
    with pytest.raises(ValueError, match="report_id: expected"):
        aggregate_xml([await record("p=none")], **{**META, "report_id": report_id})


ANY: Final = st.text(st.sampled_from("a<>&'\"]\0\x08\r\n\t\x85\ud800\ufffe\U0001f600\U0010ffff"), max_size=20)


@given(ANY, ANY.map("a{}".format))
def test_any_text_is_written_so_that_xml_can_hold_it(text: str, name: str) -> None:
    made = asyncio.run(record("p=none"))
    hostile = replace(
        made,
        header_from=name,
        envelope_from=text,
        signatures=(SignatureResult(name, name, text, text),),
        spf_domain=name,
        reasons=(Override("other", text),),
    )

    report(hostile, org_name=name, errors=text)


async def test_what_is_wrong_with_the_policy_is_reported() -> None:
    xml = report(await record("p=refuse; rua=mailto:d@example.com"))

    assert texts(xml, "error") == ["expected none, quarantine or reject in p=, found 'refuse'; taken as p=none"]


def test_a_report_is_named_after_its_period() -> None:
    """M-072."""
    assert report_name("Mx.example.net", "bücher.example", 1, 2) == "mx.example.net!xn--bcher-kva.example!1!2.xml.gz"
    assert report_name("a.example", "b.example", 1, 2, "x7") == "a.example!b.example!1!2!x7.xml.gz"


@pytest.mark.parametrize(
    ("receiver", "domain", "unique_id"),
    [("a/b", "b.example", ""), ("", "b.example", ""), ("a.example", "..", "x"), ("a.example", "b", "../x")],
)
def test_no_report_is_named_after_another_file(receiver: str, domain: str, unique_id: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        report_name(receiver, domain, 1, 2, unique_id)


async def test_a_signature_that_could_not_be_read_is_left_out() -> None:
    made = await record("p=none", dkim=[Signed("neutral", "")])

    assert list(names(report(made))).count("selector") == 0


AT: Final = "example.com._report._dmarc.reports.example"
DESTINATIONS: Final = [
    # M-071.
    ("mailto:d@example.com", "", "d@example.com", ""),
    ("mailto:d%2Be@example.com?subject=x", "", "d+e@example.com", ""),
    ("mailto:d@a.example.com", "_dmarc.example.com TXT v=DMARC1;p=none", "d@a.example.com", ""),
    ("mailto:d@reports.example", f"{AT} TXT v=DMARC1", "d@reports.example", ""),
    ("mailto:d@reports.example", f"{AT} TXT v=DMARC1;rua=mailto:e@Reports.example", "e@Reports.example", ""),
    ("mailto:d@reports.example", f"{AT} TXT other\n{AT} TXT v=DMARC1;\n{AT} TXT v=DMARC1;", "d@reports.example", ""),
    (
        "mailto:d@reports.example",
        f"{AT} TXT v=DMARC1;rua=mailto:e@other.example",
        "",
        "names an address at another host",
    ),
    (
        "mailto:d@reports.example",
        f"{AT} TXT v=DMARC1;rua=https://reports.example/",
        "",
        "names an address at another host",
    ),
    ("mailto:d@reports.example", f"{AT} TXT yes", "", "does not take reports about example.com"),
    ("mailto:d@reports.example", "", "", "does not take reports about example.com"),
    ("mailto:d@" + "b." * 120 + "example", "", "", "too long for DNS"),
    ("https://example.com/", "", "", "not an address"),
    ("mailto:d%0d%0aX@example.com", "", "", "not an address"),
    ("mailto:d@example.com%2Ce@other.example", "", "", "not an address"),
    ("mailto:%3Cd@example.com%3E", "", "", "not an address"),
    ("mailto:-oQx@example.com", "", "", "not an address"),
]


@pytest.mark.parametrize(("uri", "records", "address", "problem"), DESTINATIONS)
async def test_reports_are_sent_to_those_who_agree(uri: str, records: str, address: str, problem: str) -> None:
    (found,) = await report_destinations(Record("none", rua=(uri,)), "example.com", ZoneResolver(records))

    assert (found.uri, found.address, found.temporary) == (uri, address, False)
    assert problem in found.problem


@pytest.mark.parametrize("name", [AT, "_dmarc.example.com", "_dmarc.reports.example"])
async def test_where_dns_does_not_answer_the_report_waits(name: str) -> None:
    resolver = ZoneResolver()
    resolver.add(name, "TXT", Trouble.TIMEOUT)

    (found,) = await report_destinations(Record("none", rua=("mailto:d@reports.example",)), "example.com", resolver)

    assert (found.address, found.temporary) == ("", True)
    assert found.problem


async def test_questions_about_destinations_are_bounded() -> None:
    hosts = [".".join("abcdefgh"[:7]) + f".example{number}" for number in range(10)]
    resolver = ZoneResolver()

    found = await report_destinations(
        Record("none", rua=tuple(f"mailto:d@{host}" for host in hosts)), "a.b.c.d", resolver
    )

    assert len(resolver.queries) <= 60
    assert found[0].temporary is False
    assert found[-1].temporary is True
