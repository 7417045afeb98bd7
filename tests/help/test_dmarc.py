"""What the help topic on DMARC shows is so."""

import gzip
import sys
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from aiomilter import Reply
from aiomilter.auth import Authenticator
from aiomilter.auth.dmarc import DmarcRecord, ReportStore
from aiomilter.testing.resolver import ZoneResolver
from tests.auth.dmarc.identities import IP
from tests.help.test_pages import run_page

ZONE = """
_dmarc.example.com  TXT  "v=DMARC1; p=reject; rua=mailto:d@example.com"
example.com         TXT  "v=spf1 ip4:192.0.2.1 -all"
"""


@pytest.mark.parametrize(("client", "result"), [("192.0.2.1", "pass"), ("192.0.2.2", "fail")])
async def test_a_message_is_judged(client: str, result: str) -> None:
    names: dict[str, Any] = run_page("dmarc")

    found = await names["judge"](client, "a@example.com", "mx.example.com", ["a@example.com"], (), ZoneResolver(ZONE))

    assert found.result == result
    assert names["answer"](found) == (
        None if result == "pass" else Reply(550, "5.7.1", "rejected by the DMARC policy of example.com")
    )


async def test_a_report_is_made() -> None:
    names = run_page("dmarc")
    found = await names["judge"]("192.0.2.2", "a@example.com", "x", ["a@example.com"], (), ZoneResolver(ZONE))
    record = DmarcRecord.of(found, source_ip=IP, envelope_from="example.com")

    octets, name, addresses = await names["report"]([record], 1, 2, ZoneResolver(ZONE))

    assert gzip.decompress(octets).startswith(b"<?xml")
    assert (name, addresses) == ("example.net!example.com!1!2.xml.gz", ["d@example.com"])


async def test_records_are_stored(tmp_path: Path) -> None:
    recorder = run_page("dmarc")["Recorder"](tmp_path / "records")
    authenticator = Authenticator(ZoneResolver(ZONE), authserv_ids=["mx.example.net"], methods={"spf", "dmarc"})
    found = await authenticator.check(b"From: a@example.com\r\n\r\n", ip="192.0.2.2", sender="a@example.com")

    assert recorder.record(found, "quarantine") == ""

    (day,) = ReportStore(tmp_path / "records", clock=lambda: 2e9).due()
    assert day.domains() == ["example.com"]
    (record,) = day.records("example.com")
    assert (record.disposition, record.spf, record.envelope_from) == ("quarantine", "fail", "example.com")


async def test_a_report_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f"#!/bin/sh\ncat >{tmp_path}/sent\n")
    sendmail.chmod(0o755)
    (tmp_path / "a.xml.gz").write_bytes(b"report")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DMARC_SUBJECT", "Report Domain: example.com")
    monkeypatch.setattr(sys, "argv", ["send-report", str(tmp_path / "a.xml.gz"), "d@example.com", "e@example.com"])

    run_page("dmarc")["main"]()

    sent = message_from_bytes((tmp_path / "sent").read_bytes(), policy=policy.default)
    (attached,) = sent.iter_attachments()
    assert (sent["To"], sent["Subject"]) == ("d@example.com, e@example.com", "Report Domain: example.com")
    assert (attached.get_filename(), attached.get_content()) == ("a.xml.gz", b"report")


async def test_organizations_are_compared() -> None:
    same = run_page("dmarc")["same_organization"]

    assert await same("a.example.com", "example.com", ZoneResolver(ZONE))
    assert not await same("example.net", "example.com", ZoneResolver(ZONE))
