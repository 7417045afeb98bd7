"""Aggregate reports: one record for each message, the report as XML, and where it may be sent.

When to report, where to store records, and how to send mail is up to the caller.

Source: RFC 9990 sections 3.1, 3.5 and 4.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import unquote
from xml.etree.ElementTree import Element, SubElement, tostring

from aiomilter.auth.dmarc._evaluation import MAX_LOOKUPS, DmarcResult, Override
from aiomilter.auth.dmarc._record import Disposition, Record, is_record, read
from aiomilter.auth.dmarc._walk import Lookups
from aiomilter.auth.spf import Result as SpfWord
from aiomilter.dns import IPAddress, Resolver, question_name
from aiomilter.exceptions import ResolverError
from aiomilter.mail.display import visible

__all__ = [
    "Destination",
    "DispositionDone",
    "DmarcRecord",
    "SignatureResult",
    "aggregate_xml",
    "report_destinations",
    "report_name",
]

DispositionDone: TypeAlias = Literal["none", "pass", "quarantine", "reject"]
"""What was done with a message: "pass" where DMARC passed."""

NAMESPACE: Final = "urn:ietf:params:xml:ns:dmarc-2.0"
# RFC 9990 section 3.1.3.
_MAX_SIGNATURES: Final = 100

_REPORT_ID: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+(?:@[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+)?", re.ASCII)
_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAILTO: Final = re.compile(r"mailto:([^?]+)", re.IGNORECASE)
# The first sign does not make an option of it, where a program gets it as an argument.
_ADDRESS: Final = re.compile(r"(?!-)[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9_.-]+", re.ASCII)
_DKIM_WORDS: Final = frozenset({"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"})


class SignatureResult(NamedTuple):
    """What a report says of one DKIM signature.

    Args:
        domain: The domain that signed (d=).
        selector: Its selector (s=).
        result: The result of RFC 8601 section 2.7.1.
        human_result: More for people; "" for nothing.
    """

    domain: str
    selector: str
    result: str
    human_result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcRecord:
    """What to report to a domain about one message, or about ``count`` equal ones.

    Made by :meth:`of`.  Plain data, to be stored until a report is due.

    Args:
        source_ip: The client's address.
        header_from: The Author Domain.
        envelope_from: The domain of the envelope sender; "" for the null sender, None if it is not known.
        domain: The domain that published the policy, to which the report goes.
        policy: The policy record.
        published: What the policy asks for if a message of this author fails.
        disposition: What was done.
        dkim: Whether a signature agrees with the Author Domain.
        spf: Whether SPF agrees with it.
        signatures: The results of all signatures, those that agree with the Author Domain first.
        spf_domain: The domain that SPF checked; "" if it checked none.
        spf_result: Its result.
        reasons: Why something else was done than the policy asks for.
        discovery_method: How the policy was found.
        count: The number of messages.

    Source: RFC 9990 section 3.1.1.
    """

    source_ip: IPAddress
    header_from: str
    envelope_from: str | None
    domain: str
    policy: Record
    published: Disposition
    disposition: DispositionDone
    dkim: Literal["pass", "fail"]
    spf: Literal["pass", "fail"]
    signatures: tuple[SignatureResult, ...] = ()
    spf_domain: str = ""
    spf_result: SpfWord = "none"
    reasons: tuple[Override, ...] = ()
    discovery_method: Literal["psl", "treewalk"] = "treewalk"
    count: int = 1

    @classmethod
    def of(
        cls,
        found: DmarcResult,
        *,
        source_ip: IPAddress,
        envelope_from: str | None,
        signatures: Sequence[SignatureResult] = (),
        spf_domain: str = "",
        spf_result: SpfWord = "none",
        done: Disposition | None = None,
        reasons: Iterable[Override] = (),
    ) -> "DmarcRecord | None":
        """Return the record of a message; None if its author's domain publishes no policy.

        Args:
            found: The result of DMARC.
            source_ip: The client's address.
            envelope_from: The domain of the envelope sender; "" for the null sender, None if it is not known.
            signatures: The results of all signatures, in the order that ``found`` was made from.
            spf_domain: The domain that SPF checked.
            spf_result: Its result.
            done: What was done with a message that failed; None for ``found.disposition``.
            reasons: Why something else was done; an override in ``found``, and test mode, are added.
        """
        if found.record is None or found.published is None or found.result not in ("pass", "fail"):
            return None
        disposition: DispositionDone = "pass" if found.result == "pass" else done or found.disposition
        every = [*reasons, *((found.override,) if found.override is not None else ())]
        if disposition not in ("pass", found.published) and not every:
            tested = found.record.testing and disposition == found.policy
            every.append(Override("policy_test_mode") if tested else Override("local_policy"))
        aligned = set(found.aligned_signatures)
        in_order = sorted(
            enumerate(signatures),
            key=lambda item: (
                item[0] not in aligned,
                item[0] not in aligned or item[1].domain != found.author_domain,
                item[1].result != "pass",
            ),
        )
        return cls(
            source_ip=source_ip,
            header_from=found.author_domain,
            envelope_from=envelope_from,
            domain=found.domain,
            policy=found.record,
            published=found.published,
            disposition=disposition,
            dkim="pass" if "dkim" in found.aligned else "fail",
            spf="pass" if "spf" in found.aligned else "fail",
            signatures=tuple(signature for _, signature in in_order[:_MAX_SIGNATURES]),
            spf_domain=spf_domain,
            spf_result=spf_result,
            reasons=tuple(dict.fromkeys(every)) if disposition != "pass" else (),
            discovery_method=found.discovery_method,
        )


def aggregate_xml(
    records: Iterable[DmarcRecord],
    *,
    org_name: str,
    email: str,
    report_id: str,
    begin: int,
    end: int,
    extra_contact_info: str = "",
    errors: str = "",
    generator: str = "aiomilter",
) -> bytes:
    """Return an aggregate report as XML, in UTF-8.

    Equal records become one row.  If the policy changed during the period, the report shows that of the last record.

    Args:
        records: The records of one policy domain, in the order of the messages; at least one.
        org_name: The name of the reporter.
        email: The address for questions about the report.
        report_id: A unique name: letters, digits and most signs, with one "@" at most.
        begin: Seconds since 1970 when the period began.
        end: Seconds since 1970 when it ended.
        extra_contact_info: More about the contact.
        errors: What was wrong with the policy record, as text; "" for what the record itself says.
        generator: The program that makes the report.
    Raises:
        ValueError: There is no record, there are several policy domains, or the report_id is none.

    Source: RFC 9990 section 3.1.1 and appendix A.
    """
    rows: dict[DmarcRecord, int] = {}
    policy = None
    for record in records:
        alike = replace(record, count=1)
        rows[alike] = rows.get(alike, 0) + record.count
        if policy is not None and policy.domain != record.domain:
            raise ValueError(f"records: expected those of one domain, found {policy.domain!r} and {record.domain!r}")
        policy = record
    if policy is None:
        raise ValueError("records: expected at least one")
    if not _REPORT_ID.fullmatch(report_id) or ".." in report_id or {report_id[0], report_id[-1]} & {"."}:
        raise ValueError(f"report_id: expected letters, digits and dots, with one '@' at most, found {report_id!r}")
    root = Element("feedback", xmlns=NAMESPACE)
    _text(root, "version", "1.0")
    metadata = SubElement(root, "report_metadata")
    _text(metadata, "org_name", org_name)
    _text(metadata, "email", email)
    _optional(metadata, "extra_contact_info", extra_contact_info)
    _text(metadata, "report_id", report_id)
    period = SubElement(metadata, "date_range")
    _text(period, "begin", str(int(begin)))
    _text(period, "end", str(int(end)))
    _optional(metadata, "error", errors or policy.policy.problem)
    _optional(metadata, "generator", generator)
    _published(root, policy)
    for record, count in rows.items():
        _row(SubElement(root, "record"), record, count)
    found: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def report_name(receiver: str, domain: str, begin: int, end: int, unique_id: str = "") -> str:
    """Return the name of the file that a report is sent as, compressed.

    Args:
        receiver: The domain of the reporter.
        domain: The policy domain.
        begin: Seconds since 1970 when the period began.
        end: Seconds since 1970 when it ended.
        unique_id: Letters and digits that tell reports of one period apart; "" for none.
    Raises:
        ValueError: A domain is none, or the id has other characters.

    Source: RFC 9990 section 3.5.
    """
    names = [question_name(receiver), question_name(domain)]
    if None in names or not all(re.fullmatch(r"[a-z0-9_.-]+", str(name)) for name in names):
        raise ValueError(f"expected two domain names, found {receiver!r} and {domain!r}")
    if not re.fullmatch(r"[A-Za-z0-9]*", unique_id):
        raise ValueError(f"unique_id: expected letters and digits, found {unique_id!r}")
    return "!".join([*map(str, names), str(int(begin)), str(int(end)), *filter(None, [unique_id])]) + ".xml.gz"


def _published(root: Element, record: DmarcRecord) -> None:
    policy = record.policy
    element = SubElement(root, "policy_published")
    _text(element, "domain", record.domain)
    _optional(element, "discovery_method", record.discovery_method)
    _text(element, "p", policy.p)
    _optional(element, "sp", policy.sp or "")
    _optional(element, "np", policy.np or "")
    _text(element, "fo", policy.fo)
    _text(element, "adkim", policy.adkim)
    _text(element, "aspf", policy.aspf)
    _text(element, "testing", "y" if policy.testing else "n")


def _row(element: Element, record: DmarcRecord, count: int) -> None:
    row = SubElement(element, "row")
    _text(row, "source_ip", str(record.source_ip))
    _text(row, "count", str(count))
    evaluated = SubElement(row, "policy_evaluated")
    _text(evaluated, "disposition", record.disposition)
    _text(evaluated, "dkim", record.dkim)
    _text(evaluated, "spf", record.spf)
    reasons = record.reasons
    if not reasons and record.disposition not in ("pass", record.published):
        reasons = (Override("other"),)  # RFC 9990 section 3.1.1.6: one has to be there
    for each in reasons:
        reason = SubElement(evaluated, "reason")
        _text(reason, "type", each.type)
        _optional(reason, "comment", each.comment)
    identifiers = SubElement(element, "identifiers")
    _text(identifiers, "header_from", record.header_from)
    if record.envelope_from is not None:
        _text(identifiers, "envelope_from", record.envelope_from)
    results = SubElement(element, "auth_results")
    for signature in record.signatures[:_MAX_SIGNATURES]:
        if not (signature.domain and signature.selector):
            continue  # a field that could not be read: nobody's signature
        dkim = SubElement(results, "dkim")
        _text(dkim, "domain", signature.domain)
        _text(dkim, "selector", signature.selector)
        _text(dkim, "result", signature.result if signature.result in _DKIM_WORDS else "neutral")
        _optional(dkim, "human_result", signature.human_result)
    if record.spf_domain:
        spf = SubElement(results, "spf")
        _text(spf, "domain", record.spf_domain)
        _text(spf, "scope", "mfrom")
        _text(spf, "result", record.spf_result if record.spf_result in get_args(SpfWord) else "none")


def _text(parent: Element, name: str, text: str) -> None:
    """Add an element with text, without the characters that XML 1.0 cannot hold."""
    SubElement(parent, name).text = _NOT_XML.sub("", text)


def _optional(parent: Element, name: str, text: str) -> None:
    if text:
        _text(parent, name, text)


class Destination(NamedTuple):
    """One address that a domain asks to have its aggregate reports sent to.

    Args:
        uri: The URI as published.
        address: The mail address to send to; "" if no report may be sent.
        problem: Why none may be sent; "" if one may.
        temporary: Whether to try again later: DNS did not answer.
    """

    uri: str
    address: str = ""
    problem: str = ""
    temporary: bool = False


async def report_destinations(record: Record, domain: str, resolver: Resolver) -> tuple[Destination, ...]:
    """Return where the aggregate reports of a domain may be sent.

    Another organization has to agree: by a TXT record at ``DOMAIN._report._dmarc.HOST`` that begins with ``v=DMARC1``.  The
    record may name another address at the same host.

    Args:
        record: The domain's policy record.
        domain: The domain that published it.
        resolver: Answers the DNS questions.
    Returns:
        One for each URI of the record, in order; those with an address may be sent a report.

    Source: RFC 9990 section 4.
    """
    lookups = Lookups(resolver, MAX_LOOKUPS)
    policy_domain = question_name(domain)
    found = []
    for uri in record.rua:
        address = _mail_address(uri)
        host = _host(address)
        if not host or policy_domain is None:
            found.append(Destination(uri, problem="not an address of mail"))
            continue
        try:
            problem, address = await _verified(policy_domain, host, address, lookups)
            found.append(Destination(uri, "" if problem else address, problem))
        except ResolverError as error:
            found.append(Destination(uri, problem=visible(str(error)), temporary=True))
    return tuple(found)


async def _verified(domain: str, host: str, address: str, lookups: Lookups) -> tuple[str, str]:
    """Return why an address may not be sent reports, "" if it may; and the address to use."""
    if host == domain:
        return "", address
    walks = await lookups.walk((domain, host))
    for each in walks.values():
        if each.error:
            raise ResolverError(each.error)
    if len({each.organizational_domain for each in walks.values()}) == 1:
        return "", address
    name = question_name(f"{domain}._report._dmarc.{host}")
    if name is None:
        return "the name to verify it by is too long for DNS", ""
    answer = await lookups.lookup(name, "TXT")
    texts = [text for text in answer.texts if is_record(text)]
    if not texts:
        return f"{visible(host, 100)} does not take reports about {visible(domain, 100)}", ""
    others = [_mail_address(uri) for uri in read(texts[0])[0].rua]
    if not others:
        return "", address
    if _host(others[0]) != host:
        return f"{visible(host, 100)} names an address at another host", ""
    return "", others[0]


def _mail_address(uri: str) -> str:
    """Return the address of a mailto URI; "" if it is another kind, or holds more than one."""
    found = _MAILTO.fullmatch(uri.partition("?")[0])
    address = unquote(found[1]) if found else ""
    # Nothing that could be more than one word of a header field or command.
    return address if _ADDRESS.fullmatch(address) else ""


def _host(address: str) -> str:
    return question_name(address.rpartition("@")[2]) or "" if "@" in address else ""
