"""``aiomilter dmarc``: what it prints, and how it ends; and the zone files that commands answer from."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from aiomilter._cli import main
from aiomilter._cli.trouble import Trouble
from aiomilter._cli.zone import read_zone
from aiomilter.dns import MX, RdType, Record
from tests.conformance.test_spf_suite import rdata_of
from tests.dns.server import NameServer, labels

ZONE: Final = """\
_dmarc.example.com. 300 IN TXT ( "v=DMARC1; p=reject; sp=quarantine; t=y; "
    "rua=mailto:d@example.com,mailto:d@reports.example" )
_dmarc.two.example TXT "v=DMARC1; p=reject"
_dmarc.two.example TXT "v=DMARC1; p=none"
_dmarc.rua.example TXT "v=DMARC1; adkim=s; rua=mailto:d@rua.example"
_dmarc.bad.example TXT "v=DMARC1; p=refuse"
_dmarc.np.example TXT "v=DMARC1; p=reject; np=none; psd=n"
_dmarc.slow.example TXT TIMEOUT
"""

SHOWN: Final = [
    (
        "News.example.com",
        0,
        """\
_dmarc.news.example.com  no record
_dmarc.example.com       p=reject; sp=quarantine; t=y; rua=mailto:d@example.com,mailto:d@reports.example
_dmarc.com               no record
organizational domain: example.com
policy: quarantine for mail of news.example.com that fails, says example.com
test mode (t=y): none is to be applied
reports: d@example.com
reports: not to mailto:d@reports.example: reports.example does not take reports about example.com
""",
    ),
    (
        "two.example",
        0,
        """\
_dmarc.two.example  2 records: none of them counts
_dmarc.example      no record
organizational domain: two.example
policy: none: two.example publishes 2 DMARC policies: none counts
""",
    ),
    (
        "rua.example",
        0,
        """\
_dmarc.rua.example  p=none; adkim=s; rua=mailto:d@rua.example (no p= in the record; taken as p=none)
_dmarc.example      no record
organizational domain: rua.example
policy: none for mail of rua.example that fails, says rua.example
reports: d@rua.example
""",
    ),
    (
        "bad.example",
        1,
        """\
_dmarc.bad.example  cannot be used: expected none, quarantine or reject in p=, found 'refuse', and no address for reports
_dmarc.example      no record
organizational domain: bad.example
policy: none: bad.example: expected none, quarantine or reject in p=, found 'refuse', and no address for reports
""",
    ),
    (
        "ghost.np.example",
        0,
        """\
_dmarc.ghost.np.example  no record
_dmarc.np.example        p=reject; np=none; psd=n
organizational domain: np.example
policy: none for mail of ghost.np.example that fails, says np.example
""",
    ),
    (
        "x.slow.example",
        1,
        """\
_dmarc.x.slow.example  no record
_dmarc.slow.example    DNS did not answer: no answer to '_dmarc.slow.example' TXT
policy: none: no answer to '_dmarc.slow.example' TXT
""",
    ),
    (
        "a.b.c.d.e.f.g.h.example",
        0,
        """\
_dmarc.a.b.c.d.e.f.g.h.example  no record
  (names with more than seven labels are passed over)
_dmarc.c.d.e.f.g.h.example      no record
_dmarc.d.e.f.g.h.example        no record
_dmarc.e.f.g.h.example          no record
_dmarc.f.g.h.example            no record
_dmarc.g.h.example              no record
_dmarc.h.example                no record
_dmarc.example                  no record
organizational domain: a.b.c.d.e.f.g.h.example
policy: none: a.b.c.d.e.f.g.h.example publishes no DMARC policy
""",
    ),
]


@pytest.fixture
def zone(tmp_path: Path) -> str:
    path = tmp_path / "zone"
    path.write_text(ZONE)
    return str(path)


@pytest.mark.parametrize(("domain", "status", "text"), SHOWN, ids=[domain for domain, _, _ in SHOWN])
def test_the_walk_and_the_policy_are_shown(
    domain: str, status: int, text: str, zone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dmarc", domain, "--zone", zone]) == status
    assert capsys.readouterr() == (text, "")


async def test_a_nameserver_can_be_asked(tmp_path: Path) -> None:
    """In a process of its own, since the nameserver needs this one's loop."""
    import asyncio
    import sys

    async with NameServer() as server:
        server.records[labels("_dmarc.example.com"), "TXT"] = [rdata_of("TXT", "v=DMARC1; p=none")]
        command = [
            sys.executable,
            "-m",
            "aiomilter",
            "dmarc",
            "example.com",
            "--nameserver",
            f"127.0.0.1:{server.port}",
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
        out, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")
    assert b"policy: none for mail of example.com that fails, says example.com\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a..b"], "aiomilter: expected a domain name, found 'a..b'\n"),
        (["a\x1b[2J.example."], "aiomilter: expected a domain name, found 'a?[2J.example.'\n"),
        (["a.example", "--nameserver", "ns"], "aiomilter: expected a nameserver such as"),
        (["a.example", "--zone", "missing"], "aiomilter: missing: No such file or directory\n"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, zone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dmarc", *(arguments if len(arguments) > 1 else [*arguments, "--zone", zone])]) == 2
    out, err = capsys.readouterr()
    assert (out, err[: len(message)], err.count("\n")) == ("", message, 1)


MASTER: Final = """\
$TTL 1h
$ORIGIN example.com.
@ IN SOA ns.example.com. hostmaster.example.com. ( 1 2h 3h 4h 5h ) ; all of it
www.example.net A 192.0.2.1
$ORIGIN .
s1._domainkey.example.com. 3600 IN TXT ( "v=DKIM1; "
    "p=abc" )   ; strings are joined
    MX 10 mx.example.com.
mx.example.com CNAME example.net.
bücher.example TXT "ü"
"""


async def test_a_zone_file_is_read_as_bind_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_text(MASTER, "utf-8")
    found = read_zone(str(path))
    expected: list[tuple[str, RdType, Record]] = [
        ("www.example.net.example.com", "A", IPv4Address("192.0.2.1")),
        ("s1._domainkey.example.com", "TXT", b"v=DKIM1; p=abc"),
        ("s1._domainkey.example.com", "MX", MX(10, "mx.example.com")),
        ("mx.example.com", "CNAME", "example.net"),
        ("xn--bcher-kva.example", "TXT", "ü".encode()),
    ]

    for name, rdtype, record in expected:
        assert (await found.lookup(name, rdtype)).records == (record,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.example TXT v=spf1 -all\n", ":2: expected the text of a TXT record in quotes"),
        ("a.example 300 IN TXT ( v=spf1 )\n", ":2: expected the text of a TXT record in quotes"),
        ("a.example FOO x\n", ":2: unknown rdatatype 'FOO'"),
        ("a.example A 192.0.2.300\n", "malformed"),
        ("$INCLUDE /etc/hostname\n", ":2: zone file directive '$INCLUDE' is not allowed"),
        ("$GENERATE 1-1000000 a$ A 192.0.2.1\n", ":2: zone file directive '$GENERATE' is not allowed"),
        ("a" * 64 + " A 192.0.2.1\n", "63 octets"),
        ("x CNAME a.b\nx CNAME TIMEOUT\n", ""),
        ("a\udcff A 192.0.2.1\n", "IDNA"),
    ],
)
def test_what_is_wrong_in_a_zone_file_is_said_with_its_place(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_text("b.example A 192.0.2.1\n" + text, "utf-8", "surrogateescape")

    with pytest.raises(Trouble) as found:
        read_zone(str(path))

    assert str(found.value).startswith(str(path))
    assert problem in str(found.value)
    assert "\n" not in str(found.value)
