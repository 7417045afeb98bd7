"""DMARC: does the domain in From agree with what SPF and DKIM have checked?  RFC 9989, with the tree walk.

- :func:`evaluate`: the result for one message, from its From fields and the results of SPF and DKIM.
- :func:`organizational_domain`, :func:`walk`: the tree walk by itself; :func:`parse`: one record.
- :class:`DmarcRecord`, :func:`aggregate_xml`, :func:`report_destinations`: reports to domains about their mail;
  :class:`ReportStore` keeps records until a report is due.
"""

from aiomilter.auth.dmarc._evaluation import (
    DmarcResult,
    Override,
    OverrideType,
    Policy,
    PublicSuffixes,
    Result,
    Signature,
    evaluate,
    organizational_domain,
    walk,
)
from aiomilter.auth.dmarc._record import Alignment, Disposition, Psd, Record, parse
from aiomilter.auth.dmarc._report import (
    Destination,
    DispositionDone,
    DmarcRecord,
    SignatureResult,
    aggregate_xml,
    report_destinations,
    report_name,
)
from aiomilter.auth.dmarc._store import DayRecords, ReportStore
from aiomilter.auth.dmarc._walk import Level, Walk

__all__ = [
    "Alignment",
    "DayRecords",
    "Destination",
    "Disposition",
    "DispositionDone",
    "DmarcRecord",
    "DmarcResult",
    "Level",
    "Override",
    "OverrideType",
    "Policy",
    "Psd",
    "PublicSuffixes",
    "Record",
    "ReportStore",
    "Result",
    "Signature",
    "SignatureResult",
    "Walk",
    "aggregate_xml",
    "evaluate",
    "organizational_domain",
    "parse",
    "report_destinations",
    "report_name",
    "walk",
]
