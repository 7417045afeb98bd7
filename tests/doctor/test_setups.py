"""Every broken set-up has exactly the finding it must have, what is printed mends it, and sound ones have none."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

import aiomilter
from aiomilter import EndOfMessageContext, Milter
from aiomilter._cli import _parse, _parser, main
from aiomilter._cli.configured import configured
from tests.doctor.mends import do, printed_steps
from tests.doctor.setups import BROKEN, FILTERS, SEVERAL, SOUND, Setup
from tests.interop.rigs.mta import free_port
from tests.programs import needed

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MAIN_CF: Final = """\
compatibility_level = 3.6
queue_directory = {queue}
myhostname = mx.example.test
inet_interfaces = all
"""
TOML: Final = {
    "listen": 'filter = "{filter}"\nlisten = "inet:{port}@127.0.0.1"\n',
    "all": 'filter = "{filter}"\nlisten = "inet:{port}"\n',
    "settings": 'filter = "{filter}"\nlisten = "inet:{port}@127.0.0.1"\n[settings]\nredis = "redis://:secret@127.0.0.1:{free}/0"\n'
    '[settings.scan]\nclamd = ["inet:{port}@127.0.0.1"]\n',
    "auth": 'hostname = "mx.example.test"\nlisten = "inet:{port}@127.0.0.1"\n[[filter]]\nuse = "authenticate"\n'
    'dmarc = "report"\nambiguous_from = "note"\n',
    "banner": 'listen = "inet:{port}@127.0.0.1"\n[[filter]]\nuse = "banner"\ntext = "banner.txt"\n',
    "scan": 'listen = "inet:{port}@127.0.0.1"\n[[filter]]\nuse = "scan"\nclamd = "unix:{dir}/run/none.ctl"\n',
    "no clamd": 'listen = "inet:{port}@127.0.0.1"\n[[filter]]\nuse = "scan"\nclamd = "inet:{port}@127.0.0.1"\n',
    "redis": 'listen = "inet:{port}@127.0.0.1"\n[state]\nstore = "redis://127.0.0.1:{free}/0"\nkey = "a secret of sixteen"\n'
    '[[filter]]\nuse = "greylist"\n',
    "sqlite": 'listen = "inet:{port}@127.0.0.1"\nstate.store = "sqlite:lib/state.db"\n[[filter]]\nuse = "greylist"\n',
    "fresh": 'listen = "inet:{port}@127.0.0.1"\nstate.store = "sqlite:state.db"\n[[filter]]\nuse = "greylist"\n',
    "socket": 'listen = ["unix:{dir}/run/none.sock"]\nfilter = "{filter}"\n',
    "file": 'filter = "{filter}"\nlisten = "unix:{queue}/run/x.sock"\n',
}
OTHER: Final = """
import signal, socket, struct, sys
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.recv(17)
        connection.sendall(struct.pack(">LcLLL", 13, b"O", 6, 0x1, 0x37F))
        connection.recv(100)
"""
"""A program that speaks as much of the protocol as the doctor asks for."""


class Plain(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None: ...


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The ports of other programs, by their names."""
    ports = {name: str(free_port()) for name in ("opendkim", "opendmarc", "openarc", "spamass-milter")}
    running, directory = [], tmp_path_factory.mktemp("programs")
    values = {"programs": str(directory), **{name.partition("-")[0]: port for name, port in ports.items()}}
    for name, port in ports.items():
        (directory / name).symlink_to(os.path.realpath(sys.executable))
        option = "-x" if name == "opendkim" else "-c"
        command = [str(directory / name), "-S", "-E", "-c", OTHER, port, option, str(directory / f"{name}.conf")]
        running.append(subprocess.Popen(command, stdout=-1, start_new_session=True))
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
        yield values
    finally:
        for process in running:
            process.kill()
            process.communicate()


class Clinic:
    """A set-up in a directory of its own, with what listens there, and the doctor."""

    def __init__(
        self, directory: Path, setup: Setup, others: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.directory, self._setup, self._capsys = directory, setup, capsys
        self.values = {
            "dir": str(directory),
            "queue": str(directory / "queue"),
            "filter": f"doctored_{directory.name.replace('-', '_')}.py",
            "port": str(free_port()),
            "port6": str(free_port()),
            "web": str(free_port()),
            "free": str(free_port()),
            "chroot": setup.chroot,
            **others,
        }
        self.stack = AsyncExitStack()
        self._filters = AsyncExitStack()
        self.arguments = ["--main-cf", str(directory / "etc")]

    def text(self, text: str) -> str:
        return text.format(**self.values)

    async def open(self) -> None:
        """Write the files, and listen."""
        for name in ("etc", "run", "queue", "queue/run"):
            (self.directory / name).mkdir(mode=0o755)
        for path, mode in self._setup.modes.items():
            Path(self.text(path)).mkdir(exist_ok=True)
            Path(self.text(path)).chmod(mode)
        for path, content in self._setup.files.items():
            place, content = Path(self.text(path)), self.text(content)
            if content.startswith("->"):
                place.symlink_to(content[2:])
            else:
                place.write_text(content)
        self._configure()
        await self._listen()

    def _configure(self) -> None:
        setup = self._setup
        if setup.cf:
            (self.directory / "sendmail.cf").write_text(self.text(setup.cf))
            self.arguments = ["--sendmail-cf", str(self.directory / "sendmail.cf")]
        else:
            for name, content in (("main", MAIN_CF + setup.main), ("master", setup.master)):
                path = self.directory / "etc" / f"{name}.cf"
                path.write_text(self.text(content))
                os.utime(path, (time.time() - 10,) * 2)
        source = FILTERS[setup.target or "plain"]
        (self.directory / self.values["filter"]).write_text(source.replace("{{", "{").replace("}}", "}"))
        if setup.toml:
            (self.directory / "x.toml").write_text(self.text(TOML[setup.toml]))
            self.arguments += ["--config", str(self.directory / "x.toml")]
        elif setup.target:
            self.arguments.append(str(self.directory / self.values["filter"]))

    async def _listen(self) -> None:
        await self.stack.enter_async_context(aiomilter.serve(Plain, f"inet6:{self.values['port6']}@::1"))
        await self._filters.enter_async_context(aiomilter.serve(Plain, f"inet:{self.values['port']}@127.0.0.1"))
        for path, mode in self._setup.sockets.items():
            await self.stack.enter_async_context(aiomilter.serve(Plain, f"unix:{self.text(path)}", socket_mode=mode))
        if "{web}" in self._setup.main:

            async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                writer.close()

            web = await asyncio.start_server(refuse, "127.0.0.1", int(self.values["web"]))
            self.stack.callback(web.close)

    def serve(self, command: str) -> None:
        """Serve the filter by a command from now on; done in the loop that the test runs in."""
        words = shlex.split(command)
        assert words[0] == "aiomilter"
        arguments = _parse(_parser(words[1:]), words[1:])
        found = configured(arguments, str(self.directory), {})

        async def again() -> None:
            await self._filters.aclose()
            for address in found.options.listen or ():
                await self._filters.enter_async_context(aiomilter.serve(Plain, address, **found.given))

        asyncio.run_coroutine_threadsafe(again(), self.loop).result(60)

    async def examined(self, *arguments: str) -> tuple[int, str]:
        """Run the doctor while the filters are served."""
        self.loop = asyncio.get_running_loop()
        status = await asyncio.to_thread(main, ["doctor", *self.arguments, *arguments])
        printed = self._capsys.readouterr()
        assert printed.err == ""
        return status, printed.out

    async def found(self) -> tuple[int, list[dict[str, object]]]:
        status, printed = await self.examined("--json")
        report = json.loads(printed)
        return status, report["findings"]

    async def close(self) -> None:
        for file in Path(self.values["programs"]).glob("*.conf"):
            file.unlink()
        await self._filters.aclose()
        await self.stack.aclose()


@pytest.fixture
async def clinic(
    request: pytest.FixtureRequest,
    others: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Clinic]:
    needed("postconf", "postfix")
    for name in [name for name in os.environ if name.startswith("AIOMILTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", sys.path[:])
    modules = set(sys.modules)
    # Only its own user may go where pytest keeps temporary files.
    with tempfile.TemporaryDirectory(prefix="dr", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        made = Clinic(Path(directory), request.param, others, capsys)
        await made.open()
        try:
            yield made
        finally:
            await made.close()
    for name in set(sys.modules) - modules:
        if name.startswith("doctored_"):
            del sys.modules[name]


def setups(table: dict[str, Setup]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("clinic", table.values(), ids=table, indirect=True)


@setups(BROKEN)
async def test_a_broken_set_up_has_its_finding_alone_and_is_mended_by_what_is_printed(
    clinic: Clinic, request: pytest.FixtureRequest
) -> None:
    setup: Setup = request.node.callspec.params["clinic"]

    status, findings = await clinic.found()
    assert [finding["check"] for finding in findings] == [setup.finds], findings
    assert status == (0 if setup.warns else 1)
    assert findings[0]["severity"] == ("warning" if setup.warns else "error")

    status, report = await clinic.examined()
    steps = list(printed_steps(report))
    assert (steps == []) == setup.no_mend, report
    if steps:
        await asyncio.to_thread(do, report, clinic.serve)
        assert await clinic.found() == (0, []), report


@setups({name: setup for name, (setup, _) in SEVERAL.items()})
async def test_steps_of_one_report_keep_what_those_before_them_wrote(
    clinic: Clinic, request: pytest.FixtureRequest
) -> None:
    setup: Setup = request.node.callspec.params["clinic"]
    wanted = next(words for each, words in SEVERAL.values() if each is setup)

    status, findings = await clinic.found()
    assert (status, [finding["check"] for finding in findings]) == (1, wanted), findings

    _, report = await clinic.examined()
    await asyncio.to_thread(do, report, clinic.serve)
    assert [finding["check"] for finding in (await clinic.found())[1]] in ([], ["asked-twice"]), report


@setups(SOUND)
async def test_a_sound_set_up_has_no_finding(clinic: Clinic) -> None:
    before = sorted(clinic.directory.rglob("*"))
    status, findings = await clinic.found()
    assert (status, findings) == (0, []), findings
    status, report = await clinic.examined()
    assert (status, report.splitlines()[-1]) == (0, "no findings")
    assert sorted(clinic.directory.rglob("*")) == before


def test_there_are_forty_broken_set_ups_and_ten_sound_ones() -> None:
    assert (len(BROKEN) >= 40, len(SOUND) >= 10) == (True, True)


# ------------------------------------------------------------------------------------------------------------- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["doctor", *arguments])
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("main_cf", "master_cf", "says"),
    [
        ("smtpd_milters\n", "", "missing '=' after attribute name"),
        ("", "smtp inet n\n", "bad field count"),
        ("a = $a\nsmtpd_milters = $a\n", "", ""),
        ("smtpd_milters = ${x\n", "", ""),
    ],
)
def test_a_file_that_postfix_cannot_read_is_a_finding(
    main_cf: str, master_cf: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed("postconf", "postfix")
    for name, content in (("main.cf", main_cf), ("master.cf", master_cf)):
        (tmp_path / name).write_text(content)
        os.utime(tmp_path / name, (time.time() - 10,) * 2)
    status, out, err = run(capsys, "--main-cf", str(tmp_path), "--json")
    (finding,) = json.loads(out)["findings"]
    assert (status, err, finding["check"]) == (1, "", "configuration-unreadable")
    assert says in finding["what"]


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--main-cf", "--sendmail-cf"):
        status, out, err = run(capsys, option, str(tmp_path / "none"))
        assert (status, out, err.count("\n")) == (4, "", 1)
        assert err.startswith(f"aiomilter: there is no {tmp_path / 'none'}")


def test_the_source_of_sendmail_cf_is_not_taken_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sendmail.mc").write_text("dnl\nINPUT_MAIL_FILTER(`x', `S=inet:1@localhost')\n")
    status, out, _ = run(capsys, "--sendmail-cf", str(tmp_path / "sendmail.mc"))
    assert (status, "source for m4" in out) == (1, True)


def test_one_mail_server_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--main-cf", "/a", "--sendmail-cf", "/b")
    assert (status, out, "not allowed with" in err) == (2, "", True)


def test_a_report_has_a_stable_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sendmail.cf").write_text("O InputMailFilters=x\nXx, S=inet:nowhere, F=T\n")
    _, out, _ = run(capsys, "--sendmail-cf", str(tmp_path / "sendmail.cf"), "--json")
    report = json.loads(out)
    assert list(report) == ["format", "mta", "milters", "findings"]
    assert list(report["milters"][0]) == [
        *("endpoint", "where", "list", "asked_by", "answers", "version", "pid", "program", "aiomilter"),
    ]
    assert list(report["findings"][0]) == ["check", "severity", "where", "what", "why", "mend"]
