"""Settings of programs for pymilter beside those of aiomilter that take their place: nothing is lost, and mail fares alike."""

import re
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import pytest

from aiomilter import Reply
from aiomilter._cli import main
from aiomilter._config.imported import Gateway, program_of, take_over
from aiomilter.wire.modifications import AddRecipient, ChangeHeader, ChangeSender, DeleteRecipient
from tests.auth.dkim.made import key
from tests.filters.ready.gateway import START, gateway

FOLDER: Final = Path(__file__).parents[2] / "examples" / "from_pymilter"
OLD: Final = {
    "bms": ("milter.cfg",),
    "dkim-milter": ("dkim-milter.cfg",),
    "spfmilter": ("spfmilter.cfg", "access"),
    "srsmilter": ("pysrs.cfg",),
    "vrfydmn": ("vrfydmn.default",),
}
"""The files of each program."""
IMPORTED: Final = sorted(OLD.keys() - {"vrfydmn"})
ZONE: Final = """\
bank.example TXT "v=spf1 ip4:203.0.113.1 ~all"
clumsy.example TXT "v=spf1 ip4:203.0.113.1 -all"
strict.example TXT "v=spf1 ip4:203.0.113.1 -all"
careless.example TXT "v=spf1 ip4:203.0.113.1 ?all"
good.example TXT "v=spf1 ip4:203.0.113.9 -all"
"""
INSIDE: Final = "192.0.2.10"
OUTSIDE: Final = "203.0.113.9"
RELAY: Final = "192.0.2.80"
"""The web server."""
COMPLETE: Final = "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@out.example>\r\n"
"""Fields that are added where they are missing."""
TEXT: Final = "Hello\r\n"
PROGRAM: Final = (
    "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    'Content-Disposition: attachment; filename="a.exe"\r\n\r\nMZ\r\n'
)


@pytest.fixture
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy the folder of a program, with the secrets that are not shown."""
    pytest.importorskip("cryptography")
    directory = tmp_path / "site"
    shutil.copytree(FOLDER / request.param, directory)
    for name, octets in {"srs.secret": b"0123456789abcdef0123", "2026q4.pem": key().private.pem()}.items():
        (directory / name).touch(0o600)
        (directory / name).write_bytes(octets)
    path = directory / "gateway.toml"
    path.write_text(path.read_text().replace("/var/lib/aiomilter/", ""))
    return directory


def imported(program: str) -> Gateway:
    """Return what the command makes of the old files."""
    files = [str(FOLDER / program / name) for name in OLD[program]]
    return take_over([(program_of(file) or "", file) for file in files])


def contradicted(expected: Any, found: Any, where: str) -> list[str]:
    """Return where a table lacks something that another has."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            each
            for name, value in expected.items()
            for each in contradicted(value, found.get(name), f"{where}.{name}".lstrip("."))
        ]
    return [] if expected == found else [f"{where}: {found!r}, imported {expected!r}"]


def test_each_program_has_its_files() -> None:
    found = {each.name: {path.name for path in each.iterdir()} for each in FOLDER.iterdir() if each.is_dir()}
    found.pop("__pycache__", None)
    assert found == {program: {*files, "gateway.toml"} for program, files in OLD.items()}


@pytest.mark.parametrize("directory", sorted(OLD), indirect=True)
def test_the_file_is_in_order(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(directory)
    assert main(["config", "check", "gateway.toml"]) == 0, capsys.readouterr().err
    assert capsys.readouterr() == ("gateway.toml: in order\n", "")


@pytest.mark.parametrize("program", IMPORTED)
def test_the_file_has_all_that_an_import_makes(program: str) -> None:
    made = imported(program)
    found = tomllib.loads((FOLDER / program / "gateway.toml").read_text())
    filters = {each["use"]: each for each in found["filter"]}
    assert contradicted({**made.top, **made.tables}, found, "") == []
    assert contradicted(made.filters, filters, "") == []


@pytest.mark.parametrize("program", IMPORTED)
def test_what_an_import_leaves_out_has_a_comment(program: str) -> None:
    comments = " ".join(re.findall(r"#.*", (FOLDER / program / "gateway.toml").read_text()))
    left = [each.given.name for each in imported(program).left]
    assert left
    assert [name for name in left if name not in comments] == []


def test_each_option_of_vrfydmn_has_a_comment() -> None:
    old = (FOLDER / "vrfydmn" / "vrfydmn.default").read_text()
    comments = " ".join(re.findall(r"#.*", (FOLDER / "vrfydmn" / "gateway.toml").read_text()))
    options = set(re.findall(r" (-\w)\b", " ".join(re.findall(r'"(.*)"', old)).join("  ")))
    assert options == {"-s", "-f", "-a", "-F"}
    assert {each for each in options if not re.search(rf"{each}\b", comments)} == set()


class Case(NamedTuple):
    """A message, and how it fares."""

    program: str
    what: str
    sender: str
    fate: str
    """``stage code enhanced`` of a refusal; else the edits, in their order, without Authentication-Results."""
    client: str = OUTSIDE
    auth: str = ""
    recipient: str = "joe@branch.example"
    helo: str = "mail.out.example"
    author: str = ""
    """In From, if that is not the sender."""
    subject: str = "lunch"
    content: str = "\r\n" + TEXT


CASES: Final = (
    Case("spfmilter", "a hard fail", "a@strict.example", "RCPT 550 5.7.23"),
    Case("spfmilter", "a hard fail that the map lets pass", "a@clumsy.example", "Received-SPF"),
    Case("spfmilter", "a softfail that the map refuses", "a@bank.example", "RCPT 550 5.7.1"),
    Case("spfmilter", "a pass", "a@good.example", "Received-SPF"),
    Case("spfmilter", "an address as HELO name", "a@good.example", "RCPT 550 5.7.1", helo="203.0.113.9"),
    Case("spfmilter", "a login and its domain", "a@corp.example", "", auth="scanner"),
    Case("spfmilter", "a login and another domain", "a@x.example", "RCPT 550 5.7.1", auth="scanner"),
    Case("dkim-milter", "mail of ours", "a@corp.example", "DKIM-Signature", client=INSIDE),
    Case("dkim-milter", "mail of a login", "a@corp.example", "DKIM-Signature", auth="a"),
    Case("dkim-milter", "mail from outside", "a@good.example", ""),
    Case("vrfydmn", "an author of ours", "a@corp.example", "", auth="a"),
    Case("vrfydmn", "a foreign author", "a@corp.example", "EOM 550 5.7.1", auth="a", author="b@x.example"),
    Case("vrfydmn", "a name that ends alike", "a@corp.example", "EOM 550 5.7.1", auth="a", author="b@notcorp.example"),
    Case(
        "vrfydmn", "a script", "www@shop.example", "From=www@shop.example Reply-To", client=RELAY, author="b@x.example"
    ),
    Case("vrfydmn", "mail from outside", "a@good.example", ""),
    Case("srsmilter", "mail that leaves", "a@corp.example", "sender=SRS0", client=INSIDE, recipient="b@x.example"),
    Case("srsmilter", "mail that stays", "a@good.example", "", recipient="a@corp.example"),
    Case("srsmilter", "a bounce of nothing that we sent", "", "RCPT 550 5.7.1", recipient="a@corp.example"),
    Case("srsmilter", "a forged address", "", "RCPT 550 5.7.1", recipient="SRS0=aaaaa=aa=x.example=a@fwd.corp.example"),
    Case("bms", "a new client", "a@good.example", "RCPT 451 4.7.1"),
    Case("bms", "a recipient that is not there", "a@good.example", "RCPT 550 5.1.1", recipient="eve@branch.example"),
    Case("bms", "our own name as HELO", "a@good.example", "RCPT 550 5.7.1", helo="mx.corp.example"),
    Case("bms", "a neutral result that is refused", "a@careless.example", "RCPT 550 5.7.1"),
    Case("bms", "a zombie of ours", "a@x.example", "RCPT 550 5.7.1", client=INSIDE),
    Case("bms", "a domain for our people", "a@good.example", "RCPT 550 5.7.1", recipient="a@intranet.example"),
    Case("bms", "a word", "a@corp.example", "EOH 550 5.7.1", client=INSIDE, subject="a Rolex"),
    Case("bms", "a program", "a@corp.example", "Content-Type DKIM-Signature", client=INSIDE, content=PROGRAM),
    Case(
        "bms",
        "a pair with an alias",
        "customer@other.example",
        "+boss@corp.example -walter@corp.example",
        auth="joe",
        recipient="walter@corp.example",
    ),
    Case("bms", "a user who is watched", "mallory@corp.example", "DKIM-Signature +archive@corp.example", client=INSIDE),
)


def fate(found: Any) -> str:
    """Return how a message fared, as the cases write it."""
    if found.delivered is None:
        answer = found.answer
        return f"{found.stage.name} " + (
            f"{answer.code} {answer.enhanced}" if isinstance(answer, Reply) else str(answer)
        )
    edits = []
    for each in found.modifications:
        name = getattr(each, "name", "")
        if isinstance(each, ChangeSender):
            edits.append("sender=" + each.address.strip("<>").partition("=")[0])
        elif isinstance(each, AddRecipient):
            edits.append("+" + each.address.strip("<>"))
        elif isinstance(each, DeleteRecipient):
            edits.append("-" + each.address.strip("<>"))
        elif isinstance(each, ChangeHeader) and name == "From":
            edits.append("From=" + each.value.strip().strip("<>"))
        elif name not in ("Authentication-Results", "Content-Disposition", "Content-Transfer-Encoding", ""):
            edits.append(name)
    return " ".join(edits)


@pytest.mark.parametrize(
    ("directory", "case"),
    [pytest.param(each.program, each, id=f"{each.program}: {each.what}") for each in CASES],
    indirect=["directory"],
)
async def test_mail_fares_as_the_old_settings_had_it(
    directory: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiomilter.filters.srs.time", SimpleNamespace(time=lambda: START))
    author = case.author or case.sender or "postmaster@out.example"
    head = f"From: {author}\r\nTo: {case.recipient}\r\nSubject: {case.subject}\r\n{COMPLETE}"
    octets = f"{head}{case.content}".encode()
    async with (
        gateway(directory / "gateway.toml", ZONE) as running,
        running.session(case.client, helo=case.helo, auth=case.auth) as s,
    ):
        assert fate(await s.send(octets, case.sender, [case.recipient])) == case.fate
