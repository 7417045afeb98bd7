"""Checks whose facts no private set-up can have: other programs, users, nameservers, and hosts."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter._doctor import processes, resolving
from aiomilter._doctor.backends import Away, Backend, away, named, of_store
from aiomilter._doctor.case import Case, File, Own
from aiomilter._doctor.checks import CHECKS, WORDS, sockets
from aiomilter._doctor.endpoints import of_postfix, of_sendmail
from aiomilter._doctor.examination import Report
from aiomilter._doctor.findings import in_order
from aiomilter._doctor.milter_lists import _places, entries, split
from aiomilter._doctor.model import Endpoint
from aiomilter._doctor.paths import User, Way, look
from aiomilter._doctor.postconf import NotReadable, Parameters, Service
from aiomilter._doctor.postfix import Postfix, postfix
from aiomilter._doctor.processes import Process, children, groups_of, listener, master_of
from aiomilter._doctor.programs import program_of
from aiomilter._doctor.reaching import Answered, reach
from aiomilter._doctor.report import text
from aiomilter._doctor.resolving import Dns, DnsLists
from aiomilter._doctor.sendmail import read_sendmail
from aiomilter._doctor.source import SourceFacts, facts
from aiomilter.addresses import Inet, Unix
from aiomilter.dns import dnspython
from aiomilter.options import Options
from aiomilter.testing.resolver import ZoneResolver
from aiomilter.wire.constants import Stage
from aiomilter.wire.negotiation import NegotiateAnswer
from tests.dns.server import Manner, NameServer
from tests.doctor.setups import BROKEN
from tests.programs import need

FILTER: Final = NegotiateAnswer(6, 0, 0)
SMTPD: Final = Service("smtp/inet", False, True, "smtpd", {}, {})
HOST: Final = "inet:127.0.0.1:8890"


def mta(milters: str = HOST, queue: str = "/var/spool/postfix", **values: str) -> Postfix:
    """Return a Postfix whose main.cf sets parameters."""
    given = {"smtpd_milters": milters, "non_smtpd_milters": "", "queue_directory": queue, **values}
    usual = {
        "milter_default_action": "tempfail",
        "milter_protocol": "6",
        "milter_command_timeout": "30s",
        "milter_content_timeout": "300s",
        "milter_connect_macros": "j {daemon_name} {daemon_addr} v _",
        "mail_owner": "nobody",
    }
    return postfix(Parameters("/etc/postfix", given, {**usual, **given}, (SMTPD,)))


def found(case: Case) -> list[str]:
    return [finding.check for check in CHECKS for finding in check(case)]


def process(*command: str, **facts: object) -> Process:
    return Process(**{"pid": 7, "command": command, "uid": 0, "aiomilter": None, **facts})  # type: ignore[arg-type]  # by name


LIBMILTER: Final = Answered("filter", agreed=FILTER, process=process("/usr/sbin/opendkim", libmilter=True))
OURS: Final = process("/venv/bin/python", "/venv/bin/aiomilter", "run", "f.py", aiomilter="1.0", descriptors=1024)
BUSY: Final = Own("f.py", "f.py", (Inet("127.0.0.1", 8890),), Options(max_connections=5000))
ASKING: Final = Own("f.py", does=SourceFacts(resolves=True))
ADDRESS: Final = Inet("127.0.0.1", 8890)
CASES: Final = [
    (Case(mta(), {ADDRESS: Answered("filter", agreed=FILTER)}), []),
    (Case(mta(), {ADDRESS: Answered("silent", "no answer")}), ["no-answer"]),
    (Case(mta(), {ADDRESS: Answered("no host", "unknown")}), ["no-such-host"]),
    (Case(mta(), {ADDRESS: LIBMILTER}), ["tcp-slow"]),
    (Case(mta(), {ADDRESS: Answered("filter", agreed=FILTER, process=OURS)}), []),
    (Case(mta(), {ADDRESS: Answered("filter", agreed=FILTER, process=OURS)}, BUSY), ["descriptors-few"]),
    (Case(mta(), {}, ASKING, Dns(("192.0.2.1",), answers=True)), []),
    (Case(mta(), {}, ASKING, Dns(("192.0.2.1",), answers=False)), ["resolver-silent"]),
    (Case(mta(), {}, ASKING, Dns(("8.8.8.8",), answers=True)), ["resolver-public"]),
    (Case(mta(), {}, ASKING, Dns(("2606:4700:4700::1111",), answers=True)), ["resolver-public"]),
    (Case(mta(), {}, ASKING, Dns(("203.0.115.1",), True, is_local=False, validates=True)), ["resolver-remote"]),
    (Case(mta(), {}, ASKING, Dns(("2a02::53",), True, is_local=False, validates=False)), ["resolver-remote"]),
    (Case(mta(), {}, ASKING, Dns(("203.0.115.1",), True, is_local=True, validates=False)), []),
    (Case(mta(), {}, ASKING, Dns(("10.0.0.2",), True, is_local=False, validates=False)), []),
    (Case(mta(), {}, ASKING, Dns(("fe80::1%eth0",), True, is_local=False, validates=False)), []),
    (Case(mta(), {}, ASKING, Dns(("10.0.0.2",), True, is_local=False, validates=True, seconds=0.2)), ["resolver-far"]),
    (Case(mta(), {}, ASKING, Dns(("10.0.0.2",), True, lists=(("bl.example", "it refuses"),))), ["list-useless"]),
    (Case(mta(), {}, ASKING, Dns(("8.8.8.8",), True, lists=(("bl.example", "it refuses"),))), ["resolver-public"]),
    (Case(mta(), {}, ASKING, away=(Away(Backend("s", ADDRESS, "clamd"), "it hangs up", True),)), ["backend-confused"]),
    (Case(mta(), {}, ASKING, away=(Away(Backend("state", Unix("/a/b/c"), "file"), "no"),)), ["backend-away"]),
    (Case(mta(milter_default_action="accept"), {ADDRESS: LIBMILTER}), ["signer-skipped", "tcp-slow"]),
]


@pytest.mark.parametrize(("case", "words"), CASES)
def test_a_case_has_these_findings(case: Case, words: list[str]) -> None:
    assert found(case) == words


def test_a_clock_that_is_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    assert found(Case(mta(), {})) == ["clock-wrong"]


TRIED: Final = {word for _, words in CASES for word in words} | {"clock-wrong", "groups-stale", "socket-hidden"}
OF_THE_COMMAND: Final = {"configuration-unreadable"}


def test_every_finding_that_there_is_has_a_test() -> None:
    assert {setup.finds for setup in BROKEN.values()} | TRIED | OF_THE_COMMAND == WORDS.keys()


# ------------------------------------------------------------------------------------------------------------- processes


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Add processes to a /proc of one's own, which replaces that of the system."""
    root = tmp_path / "proc"
    (root / "net").mkdir(parents=True)
    monkeypatch.setattr(processes, "_PROC", root)

    def add(pid: int, name: str, *, parent: int = 1, groups: str = "", command: str = "", inode: str = "") -> None:
        directory = root / str(pid)
        (directory / "fd").mkdir(parents=True)
        (directory / "comm").write_text(f"{name}\n")
        (directory / "cmdline").write_text(command.replace(" ", "\0"))
        (directory / "status").write_text(
            f"Name:\t{name}\nPPid:\t{parent}\nUid:\t0\t0\t0\t0\nGid:\t9\t9\t9\t9\nGroups:\t{groups}\n"
        )
        if inode:
            (directory / "fd" / "3").symlink_to(f"socket:[{inode}]")

    return add


def test_processes_of_a_master_and_their_groups_are_found(proc: Callable[..., None], tmp_path: Path) -> None:
    proc(10, "master")
    proc(11, "smtpd", parent=10, groups="9 42")
    proc(12, "smtpd", parent=99)
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "master.pid").write_text("        10\n")

    assert master_of(str(tmp_path)) == 10
    assert list(children(10, "smtpd")) == [11]
    assert groups_of(11) == frozenset({9, 42})
    assert groups_of(1234) is None


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user may pass."""
    with tempfile.TemporaryDirectory(prefix="dr", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def listening(path: Path, mode: int) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        path.chmod(mode)
        yield


def test_a_process_that_was_started_before_its_user_came_into_a_group_is_found(
    proc: Callable[..., None], directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the group lets the user write to the socket."""
    (directory / "pid").mkdir()
    (directory / "pid" / "master.pid").write_text("10")
    proc(10, "master")
    proc(11, "smtpd", parent=10)
    with listening(directory / "x.sock", 0o660):
        group = os.stat(directory / "x.sock").st_gid
        monkeypatch.setattr(sockets, "user_of", lambda name: User("nobody", 65534, (65534, group)))
        case = Case(mta("unix:x.sock", str(directory)), {})
        (finding,) = [each for check in CHECKS for each in check(case)]
        assert finding.check == "groups-stale"
        assert finding.mend[-1].text == "postfix -c /etc/postfix reload"

        status = tmp_path / "proc" / "11" / "status"
        status.write_text(f"PPid:\t10\nGid:\t9\t9\t9\t9\nGroups:\t9 {group}\n")
        assert found(case) == []


def test_a_socket_in_a_file_system_of_the_filter_alone_is_found(
    proc: Callable[..., None], directory: Path, tmp_path: Path
) -> None:
    path = directory / "private.sock"
    proc(20, "aiomilter", command="/venv/bin/aiomilter run f.py --listen unix:/x", inode="777")
    unix = f"Num RefCount Protocol Flags Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 777 {path}\n"
    (tmp_path / "proc" / "net" / "unix").write_text(unix)
    made = mta(f"unix:{path}", str(directory))

    answers = asyncio.run(reach([Unix(str(path))], "postfix"))
    assert answers[Unix(str(path))].process == listener(Unix(str(path)))
    (finding,) = [each for check in CHECKS for each in check(Case(made, answers))]
    assert finding.check == "socket-hidden"
    serve = next(step for step in finding.mend if step.text.startswith("aiomilter"))
    assert serve.text.startswith(
        f"aiomilter run f.py --listen unix:{directory}/filter/private.sock --socket-mode 0660 "
    )


async def test_what_listens_and_does_not_answer_is_given_up() -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        address = Inet("127.0.0.1", server.sockets[0].getsockname()[1])
        answers = await reach([address, address], "sendmail", timeout=0.01)
    assert [answer.result for answer in answers.values()] == ["silent"]


# ----------------------------------------------------------------------------------------------------------------- paths


def test_links_in_a_chroot_begin_at_its_root(directory: Path) -> None:
    (directory / "jail" / "run").mkdir(parents=True)
    (directory / "jail" / "absolute").symlink_to("/run")
    (directory / "jail" / "above").symlink_to("../../run")
    (directory / "jail" / "loop").symlink_to("loop")
    with listening(directory / "jail" / "run" / "x.sock", 0o666):
        jail = str(directory / "jail")
        for path in ("/run/x.sock", "/absolute/x.sock", "/above/x.sock", "/../run/./x.sock"):
            assert look(path, None, jail).way is Way.OPEN, path
        for path in ("/loop/x.sock", "/none/x.sock", "/run/x.sock/more", f"{jail}/run/x.sock"):
            assert look(path, None, jail).way is Way.MISSING, path
        assert look("/run", None, jail).way is Way.NO_SOCKET
        assert look("/run/x.sock", None).way is Way.MISSING


@pytest.mark.parametrize(
    ("mode", "user", "way"),
    [
        (0o600, None, Way.OPEN),
        (0o600, User("root", 0, (0,)), Way.OPEN),
        (0o600, User("u", 4242, (4242,)), Way.CLOSED),
        (0o602, User("u", 4242, (4242,)), Way.OPEN),
        (0o020, User("u", 4242, (4242, 0)), Way.OPEN),
        (0o602, User("u", 4242, (4242, 0)), Way.CLOSED),
    ],
)
def test_permissions_are_those_of_owner_group_or_others(
    mode: int, user: User | None, way: Way, directory: Path
) -> None:
    need(None if os.geteuid() == 0 else "these permissions are those of root")
    with listening(directory / "x.sock", mode):
        assert look(str(directory / "x.sock"), user).way is way


# ----------------------------------------------------------------------------------------------------- DNS and services


class Validating(NameServer):
    """Says of all answers that it has validated them, to those who understand it."""

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        reply = super().answer(wire, transport)
        return reply if reply is None else reply[:3] + bytes((reply[3] | wire[3] & 0x20,)) + reply[4:]


@pytest.mark.parametrize(("kind", "validates"), [(NameServer, False), (Validating, True)])
async def test_the_nameserver_and_lists_are_asked(
    kind: type[NameServer], validates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kind() as server:
        server.add("2.0.0.127.good.example", "A", "127.0.0.2")
        server.add("2.0.0.127.refusing.example", "A", "127.255.255.254")
        server.add("invalid.all.example", "A", "127.0.0.2")
        for module in (resolving, dnspython):
            monkeypatch.setattr(module, "system_servers", lambda: [("127.0.0.1", server.port)])
        lists = DnsLists(("good.example", "refusing.example", "dead.example"), ("good.example", "all.example"))
        found = await resolving.resolving(lists)

    assert (found.servers, found.answers, found.is_local, found.validates) == (("127.0.0.1",), True, True, validates)
    assert found.seconds > 0
    assert [zone for zone, _ in found.lists] == ["refusing.example", "dead.example", "all.example"]


async def test_the_resolver_that_was_opened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Closing(ZoneResolver):
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            closed.append("yes")

    async with NameServer(manner=Manner.NOTHING) as server:
        monkeypatch.setattr(resolving, "system_servers", lambda: [("127.0.0.1", server.port)])
        monkeypatch.setattr(resolving, "_ATTEMPT", 0.01)
        for zone, answers in (("example.com A 192.0.2.1", True), ("example.com * FAILURE", False)):
            monkeypatch.setattr("aiomilter.dns.system_resolver", lambda zone=zone, **_: Closing(zone))
            found = await resolving.resolving(DnsLists())
            assert (found.answers, found.validates, closed.pop()) == (answers, None, "yes")


SERVICES: Final = [
    # What it answers, for which kind, and whether that is one.
    (b"PONG\0", "clamd", True),
    (b"220 mx ESMTP\r\n", "clamd", False),
    (b"SPAMD/1.5 0 PONG\r\n", "spamd", True),
    (b"HTTP/1.1 200 OK\r\n\r\npong", "rspamd", True),
    (b"", "rspamd", False),
    (b"+PONG\r\n", "redis", True),
    (b"-NOAUTH Authentication required.\r\n", "redis", True),
    (b"HTTP/1.1 400 Bad Request\r\n", "redis", False),
    (b"", "", True),
]


@pytest.mark.parametrize(("answer", "kind", "is_one"), SERVICES)
async def test_a_service_is_one_that_answers_as_such(answer: bytes, kind: str, is_one: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kind:
            await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        backend = Backend("s", Inet("127.0.0.1", server.sockets[0].getsockname()[1]), kind)
        found = await away([backend, backend])
    assert [(each.backend, each.listens) for each in found] == ([] if is_one else [(backend, True)])


async def test_a_service_that_says_nothing_is_given_up() -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        backend = Backend("s", Inet("127.0.0.1", server.sockets[0].getsockname()[1]), "spamd")
        (found,) = await away([backend], timeout=0.01)
    assert (found.said, found.listens) in {("no answer in 0.01 s", True), ("no connection in 0.01 s", False)}


def test_stores_and_settings_name_services(tmp_path: Path) -> None:
    assert list(of_store("redis://:secret@127.0.0.1/0", "s")) == [Backend("s", Inet("127.0.0.1", 6379), "redis")]
    assert list(of_store("rediss://a.example", "s")) == [Backend("s", Inet("a.example", 6379), "")]
    assert list(of_store("redis+unix:/run/r.sock", "s")) == [Backend("s", Unix("/run/r.sock"), "redis")]
    assert list(of_store("sqlite:/a/b", "s")) == [Backend("s", Unix("/a/b"), "file")]
    assert list(of_store("memory:", "s")) == list(of_store("nonsense", "s")) == []
    assert list(named({"a": {"clamd": "unix:/c"}})) == [Backend("a.clamd", Unix("/c"))]
    files = [Backend("s", Unix(str(tmp_path / name)), "file") for name in ("new", "", "none/x")]
    assert [each.said for each in asyncio.run(away(files))] == [
        "it is a directory",
        f"there is no directory {tmp_path}/none",
    ]


# ------------------------------------------------------------------------------------------------------------ hostile text

_WORDS: Final = st.sampled_from(
    [
        "inet:",
        "unix:",
        "{",
        "}",
        ",",
        " ",
        "=",
        "$smtpd_milters",
        "${x}",
        "$(a)",
        "127.0.0.1",
        ":",
        "8890",
        "/x",
        "\0",
        "\udcff",
    ]
)
_TEXTS: Final = st.one_of(st.text(), st.lists(_WORDS).map("".join))


@pytest.mark.slow
@given(_TEXTS, _TEXTS)
def test_no_text_of_main_cf_raises(milters: str, other: str) -> None:
    made = mta(milters, smtpd_milter_maps=other, milter_connect_macros=other, milter_command_timeout=other)
    findings = in_order(finding for check in CHECKS for finding in check(Case(made, {})))
    lines = list(text(Report(Case(made, {}), findings)))
    assert len(lines) >= 3
    assert {finding.check for finding in findings} <= WORDS.keys()


@pytest.mark.slow
@given(_TEXTS)
def test_no_text_of_sendmail_cf_raises(content: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"O InputMailFilters=a,b\nXa, S={content}\nXb, {content}\nX{content}\nO {content}\n")
        file.flush()
        try:
            made = read_sendmail(file.name)
        except NotReadable:
            return  # it looks like sendmail.mc
        findings = in_order(finding for check in CHECKS for finding in check(Case(made, {})))
        assert {finding.check for finding in findings} <= WORDS.keys()


def test_lists_that_name_one_another_end() -> None:
    """Each name three times in the next: ten levels are 59,049 entries."""
    names = {f"n{number}": f"$n{number + 1} " * 3 for number in range(30)}
    parameters = mta("$n0", **names).parameters
    assert len(list(_places(parameters, "smtpd_milters", SMTPD, iter(range(1000)), 0))) < 5000
    assert len(entries(parameters, "smtpd_milters", SMTPD)) <= 1000
    assert len(split("a " * 100_000)) <= 1001


@pytest.mark.slow
@pytest.mark.parametrize("read", [of_postfix, of_sendmail])
@pytest.mark.parametrize("kind", ["", "inet:", "inet6:", "unix:", "local:"])
@given(text_=st.text(max_size=200))
def test_no_endpoint_raises(read: Callable[[str], Endpoint], kind: str, text_: str) -> None:
    found = read(kind + text_)
    assert (found.address is None) == bool(found.fault)


# ---------------------------------------------------------------------------------------------------------------- sources


def test_what_a_source_reads_and_imports_is_found(tmp_path: Path) -> None:
    path = tmp_path / "f.py"
    path.write_text(
        "import aiomilter.dns\nfrom aiomilter.auth.dkim import Signer\nimport aiomilter.mail.srs as srs\n"
        "class F:\n    async def envrcpt(self, ctx, rcpt):\n        ctx.macro('nrcpts', '')\n        ctx.macro(name)\n"
        "    def helper(self, ctx):\n        ctx.macro('not a callback')\n"
    )
    assert facts(path) == SourceFacts(frozenset({(Stage.RCPT, "nrcpts")}), True, True, True)
    path.write_text("from aiomilter.auth import dkim as d\nsign = d.Signer\n")
    assert facts(path) == SourceFacts(signs=True)
    path.write_text(
        "from aiomilter.auth import Authenticator, arc\nAuthenticator(r, authserv_ids=('a.example', name))\n"
        "arc.Sealer(k, authserv_id='b.example')\nctx.change_header('Subject', 1, 'x')\n"
    )
    names = frozenset({"a.example", "b.example"})
    assert facts(path) == SourceFacts(seals=True, verifies=True, edits=True, authserv_ids=names)
    path.write_text("class (")
    assert facts(path) == facts(tmp_path / "none.py") == SourceFacts()


def test_what_a_program_does_is_read_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "opendkim.conf"
    opendkim = process("/usr/sbin/opendkim", "-x", "/none", "-x", str(file))
    file.write_text(
        "# Mode s\nMode  v # only\n\nKeyTable\t/x\nAuthservID HOSTNAME\nMode\nbroken\0\udcff\n",
        errors="surrogateescape",
    )
    found = program_of(opendkim)
    assert found is not None
    assert (found.does.verifies, found.does.signs, found.has_keys) == (True, False, True)
    assert found.authserv_id("mx.example") == os.uname().nodename.lower()
    assert [(step.text, step.replaces) for step in found.set("Mode", "s")] == [("Mode s", 2), ("kill -USR1 7", 0)]

    for path, name in ((tmp_path, None), (tmp_path / "none", None)):
        found = program_of(process("opendkim", "-x", str(path)))
        assert found is not None
        assert (found.authserv_id("mx.example"), found.set("Mode", "s")) == (name, ())
    found = program_of(process("opendmarc", "-c", "relative"))
    assert found is not None
    assert found.authserv_id("mx.example") is None
    assert program_of(process("other")) is program_of(None) is None


def test_lines_of_a_configuration_file_are_set_from_its_end() -> None:
    lines = ['filter = "f.py"', "listen = [", '  "inet:1"', "]", "[socket]", 'mode = "0600"']
    file = File("/x.toml", lines, {"listen": (2, 4), "socket.mode": (6, 6)}, {"socket": 5})
    steps = file.set(listen='"unix:/x"', socket_mode='"0660"', socket_group='"g"')
    assert [(step.text, step.replaces, step.lines) for step in steps] == [
        ('mode = "0660"', 6, 1),
        ('group = "g"', 6, 0),
        ('listen = "unix:/x"', 2, 3),
    ]
    assert file.set(socket_mode='"0600"') == ()
