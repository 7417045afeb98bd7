"""What the help topic on DMARC shows is so."""

import gzip
from typing import Any

import pytest

from aiomilter import Reply
from aiomilter.auth.dmarc import DmarcRecord
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


async def test_organizations_are_compared() -> None:
    same = run_page("dmarc")["same_organization"]

    assert await same("a.example.com", "example.com", ZoneResolver(ZONE))
    assert not await same("example.net", "example.com", ZoneResolver(ZONE))
