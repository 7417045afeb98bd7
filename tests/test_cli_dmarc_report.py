"""``aiomilter dmarc report``: what is due is written or handed over once, and what fails is tried again."""

import fcntl
import gzip
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
import xmlschema

from aiomilter._cli import main
from aiomilter.auth.dmarc import DmarcRecord, ReportStore
from tests.auth.dmarc.test_store import NOON, RECORD

Run = Callable[..., tuple[int, str, str]]

ZONE: Final = """\
_dmarc.example.com TXT "v=DMARC1; p=reject; rua=mailto:d@example.com"
example.org._report._dmarc.reports.example TXT "v=DMARC1"
bad.example._report._dmarc.slow.example TXT TIMEOUT
"""
BEGIN: Final = 20_000 * 86_400
NAME: Final = f"example.net!example.com!{BEGIN}!{BEGIN + 86_399}.xml.gz"
HERE: Final = Path(__file__).parent


def about(domain: str, *rua: str, **changes: object) -> DmarcRecord:
    """Return a record of mail of a domain that has such a policy."""
    policy = replace(RECORD.policy, rua=tuple(f"mailto:{each}" for each in rua))
    return replace(RECORD, domain=domain, header_from=domain, policy=policy, **changes)  # type: ignore[arg-type]  # of it


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command over records of a day long past; give exit code, stdout and stderr."""
    (tmp_path / "zone").write_text(ZONE)

    def command(*options: str) -> tuple[int, str, str]:
        arguments = ["dmarc", "report", str(tmp_path / "records"), "--email", "dmarc@example.net"]
        status = main([*arguments, "--zone", str(tmp_path / "zone"), *options])
        return (status, *capfd.readouterr())

    return command


def stored(tmp_path: Path, *records: DmarcRecord, now: float = NOON) -> Path:
    store = ReportStore(tmp_path / "records", clock=lambda: now)
    assert {store.add(each) for each in records} == {""}
    store.close()
    return tmp_path / "records"


def program(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    return ["--command", sys.executable, str(path)]


def test_a_report_is_written_for_each_domain_that_wants_one(tmp_path: Path, run: Run) -> None:
    """M-070, M-072."""
    records = stored(
        tmp_path,
        RECORD,
        about("example.org", "d@reports.example"),
        RECORD,
        about("silent.example"),
        replace(RECORD, spf="fail"),
    )

    status, out, err = run(
        "--out", str(tmp_path / "out"), "--org-name", "Example & Co", "--contact", "https://example.net"
    )

    other = NAME.replace("example.com", "example.org")
    assert (status, out, err) == (0, f"{NAME}: d@example.com\n{other}: d@reports.example\n", "")
    assert os.listdir(records) == []
    assert sorted(os.listdir(tmp_path / "out")) == [NAME, other]
    file = tmp_path / "out" / NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    xml = gzip.decompress(file.read_bytes())
    xmlschema.XMLSchema(HERE / "auth" / "dmarc" / "report.xsd").validate(xml.decode())
    texts = {each.tag.partition("}")[2]: each.text for each in ElementTree.fromstring(xml).iter()}
    assert (texts["org_name"], texts["email"]) == ("Example & Co", "dmarc@example.net")
    assert texts["report_id"] == f"{BEGIN}.example.com@example.net"
    assert (texts["begin"], texts["end"]) == (str(BEGIN), str(BEGIN + 86_399))
    assert xml.count(b"<record>") == 2
    assert b"<count>2</count>" in xml


def test_nothing_is_due_before_the_day_is_over(tmp_path: Path, run: Run) -> None:
    import time

    records = stored(tmp_path, RECORD, now=time.time())

    assert run("--out", str(tmp_path / "out")) == (0, "", "")
    assert len(os.listdir(records)) == 1


def test_a_domain_that_dns_has_no_answer_for_is_tried_again_and_the_others_are_not(tmp_path: Path, run: Run) -> None:
    """M-071."""
    records = stored(tmp_path, RECORD, about("bad.example", "d@slow.example"))
    question = "'bad.example._report._dmarc.slow.example' TXT"
    no_answer = f"aiomilter: bad.example: not to mailto:d@slow.example: no answer to {question}"

    status, out, err = run("--out", str(tmp_path / "out"))
    assert (status, out, err) == (1, f"{NAME}: d@example.com\n", f"{no_answer}; to be tried again\n")
    assert len(os.listdir(records)) == 2
    assert run("--out", str(tmp_path / "out")) == (1, "", err)
    zone = tmp_path / "zone"
    zone.write_text(ZONE.replace("TIMEOUT", '"v=DMARC1"'))
    status, out, err = run("--out", str(tmp_path / "out"))
    assert (status, out, err) == (0, f"{NAME.replace('example.com', 'bad.example')}: d@slow.example\n", "")
    assert os.listdir(records) == []


def test_an_address_elsewhere_that_did_not_agree_gets_nothing(tmp_path: Path, run: Run) -> None:
    """M-071."""
    records = stored(tmp_path, about("example.com", "d@victim.example"))

    status, out, err = run("--out", str(tmp_path / "out"))

    assert (status, out) == (0, "")
    assert err == (
        "aiomilter: example.com: not to mailto:d@victim.example: victim.example does not take reports about example.com\n"
    )
    assert os.listdir(records) == os.listdir(tmp_path / "out") == []


def test_each_report_is_handed_to_a_program_without_a_shell(tmp_path: Path, run: Run) -> None:
    stored(tmp_path, about("example.com", "d@example.com", "$HOME`x`|e@example.com", "-oQ/tmp@example.com"))
    told = tmp_path / "told"
    text = f"""\
import gzip, os, sys
option, file, *addresses = sys.argv[1:]
said = [option, os.path.basename(file), *addresses, os.environ["DMARC_DOMAIN"], os.environ["DMARC_SUBJECT"]]
said += [gzip.open(file).read()[:5].decode(), sys.stdin.read()]
open({str(told)!r}, "w").write("\\n".join(said))
print("sent")
"""

    status, out, err = run(*program(tmp_path, text), "--fast")

    assert (status, out) == (0, f"{NAME}: d@example.com, $HOME`x`|e@example.com\n")
    assert err.splitlines()[-1] == "sent"
    assert told.read_text().split("\n") == [
        "--fast",
        NAME,
        "d@example.com",
        "$HOME`x`|e@example.com",
        "example.com",
        f"Report Domain: example.com Submitter: example.net Report-ID: <{BEGIN}.example.com@example.net>",
        "<?xml",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("raise SystemExit(75)", "failed with exit status 75"),
        ("import os; os.kill(os.getpid(), 9)", "failed with signal 9"),
        ("import time; time.sleep(1000)", "did not end within 0.5 s"),
    ],
)
def test_a_program_that_fails_is_told_and_run_again_the_next_time(
    text: str, problem: str, tmp_path: Path, run: Run
) -> None:
    records = stored(tmp_path, RECORD)

    status, out, err = run("--timeout", "0.5", *program(tmp_path, text))
    assert (status, out, err) == (1, "", f"aiomilter: example.com: {sys.executable} {problem}\n")
    assert len(os.listdir(records)) == 1
    assert run(*program(tmp_path, ""))[0] == 0
    assert os.listdir(records) == []


def test_a_program_that_is_not_there_is_told(tmp_path: Path, run: Run) -> None:
    stored(tmp_path, RECORD)

    status, out, err = run("--command", "/nonexistent/program")

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("aiomilter: example.com: [Errno 2] No such file or directory")


def test_a_dry_run_changes_nothing(tmp_path: Path, run: Run) -> None:
    records = stored(tmp_path, RECORD)

    assert run("--dry-run") == (0, f"{NAME}: d@example.com\n", "")
    assert run("--dry-run") == (0, f"{NAME}: d@example.com\n", "")
    assert os.listdir(records) == ["2024-10-04.jsonl"]


def test_a_report_of_too_many_rows_says_what_is_left_out(tmp_path: Path, run: Run) -> None:
    made = [replace(RECORD, source_ip=IPv4Address(0xC0000200 + number % 4)) for number in range(9)]
    stored(tmp_path, *made)

    assert run("--out", str(tmp_path / "out"), "--max-rows", "2")[0] == 0
    xml = gzip.decompress((tmp_path / "out" / NAME).read_bytes())

    assert xml.count(b"<record>") == 2
    assert b"<error>4 more messages would be more than 2 rows</error>" in xml
    assert xml.count(b"<count>3</count>") == 1


def test_lines_that_are_no_records_are_told(tmp_path: Path, run: Run) -> None:
    records = stored(tmp_path, RECORD)
    with open(records / "2024-10-04.jsonl", "ab") as file:
        file.write(b'{"half')

    status, out, err = run("--dry-run")

    assert (status, out) == (0, f"{NAME}: d@example.com\n")
    assert err == "aiomilter: 2024-10-04: 1 lines are no records, and are passed over\n"


def test_a_domain_too_long_for_a_file_name_gets_no_report(tmp_path: Path, run: Run) -> None:
    long = ".".join(["a" * 60] * 4)
    records = stored(tmp_path, about(long, f"d@{long}"))

    status, out, err = run("--out", str(tmp_path / "out"))

    assert (status, out, err) == (0, "", f"aiomilter: {long}: too long for the name of a file, no report\n")
    assert os.listdir(records) == []


def test_a_second_run_waits_for_no_other(tmp_path: Path, run: Run) -> None:
    records = stored(tmp_path, RECORD)
    directory = os.open(records, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_SH)
    try:
        found = run("--dry-run")
    finally:
        os.close(directory)

    assert found == (1, "", f"aiomilter: {records}: another run is making reports of these records\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["x", "--email", "a@b.example"], 2, "aiomilter dmarc report: one of the arguments --out --dry-run --command"),
        (["x", "--dry-run"], 2, "aiomilter dmarc report: the following arguments are required: --email"),
        (["x", "--email", "nobody", "--dry-run"], 2, "aiomilter: --email: expected an address of mail, found 'nobody'"),
        (["x", "--email", "a@b.example", "--receiver", "a..b", "--dry-run"], 2, "aiomilter: --receiver: expected a domain"),
        (["x", "--email", "a@b.example", "--command"], 2, "aiomilter: --command: expected a program"),
        (["/nonexistent", "--email", "a@b.example", "--dry-run"], 1, "aiomilter: /nonexistent: No such file or directory"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dmarc", "report", *arguments]) == status
    out, err = capsys.readouterr()
    assert (out, err[: len(message)], err.count("\n")) == ("", message, 1)
