"""``aiomilter run``: a process that serves, and what it says when it cannot."""

import argparse
import contextlib
import errno
import json
import logging
import os
import re
import shlex
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiomilter import ACCEPT, REJECT, FailurePolicy, Reply, Stage
from aiomilter._cli import _COMMANDS, main
from aiomilter._cli.logs import OneLine
from aiomilter._cli.options import given
from aiomilter._cli.run import _EPILOG, add_parser
from aiomilter.exceptions import LocalProtocolError
from aiomilter.handler import CALLBACKS
from aiomilter.options import Options
from aiomilter.wire.text import header_name
from tests.help.pages import ROOT, literal
from tests.patience import PATIENCE

FILTER = """\
import asyncio
from contextlib import asynccontextmanager
from aiomilter import Milter, Reply

class Tag(Milter):
    async def envrcpt(self, ctx, rcpt):
        if rcpt.address.startswith("trap"):
            return Reply(550, "5.1.1", "no such mailbox")

    async def header(self, ctx, header):
        if header.name == "Subject":
            ctx.notes["subject"] = header.value

    async def eom(self, ctx):
        if ctx.notes["subject"] == "wait":
            print("waiting", flush=True)
            await asyncio.Event().wait()
        if ctx.notes["subject"] == "raise":
            raise ValueError("\\x1b[31m")
        ctx.change_header("Subject", 1, f"[EXT] {ctx.notes['subject']}")
        ctx.quarantine("look at it")

@asynccontextmanager
async def milter():
    print("opened", flush=True)
    yield Tag
    print("closed", flush=True)
"""


class Daemon:
    """``aiomilter run``, once it listens."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.log: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        """Read the log to a line that holds ``pattern``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no {pattern!r} in:\n" + "\n".join(self.log))

    def output(self, pattern: str) -> None:
        """Read the output to a line that is ``pattern``."""
        assert self.process.stdout is not None
        assert any(re.fullmatch(pattern, line.rstrip("\n")) for line in self.process.stdout)

    def end(self, *signals: signal.Signals) -> tuple[int, str, str]:
        """Send signals; return exit code, the rest of the output and of the log."""
        for number in signals:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "f.py").write_text(FILTER)
    with contextlib.ExitStack() as stack:

        def run(*arguments: str, filter_file: str = "f.py") -> Daemon:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-X", "dev", "-m", "aiomilter", "run", filter_file, *arguments],
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    stdin=subprocess.DEVNULL,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return Daemon(process)

        yield run


def smtp_port(daemon: Daemon) -> int:
    return int(daemon.until(r"INFO aiomilter: listening on 127\.0\.0\.1:(\d+) for SMTP")[1])


def smtp(daemon: Daemon) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", smtp_port(daemon), timeout=PATIENCE)


@pytest.mark.slow
def test_who_may_connect_is_an_option(start: Start) -> None:
    daemon = start("--listen", "inet:0@127.0.0.1", "--allow-network", "192.0.2.0/24", "--allow-network", "2001:db8::1")
    port = int(daemon.until(r"listening on inet:(\d+)@127")[1])
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(1) == b""
    daemon.until("WARNING aiomilter: a connection was closed: 127.0.0.1 is not in allowed_networks")
    assert daemon.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_tls_is_an_option(start: Start, tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x"
    subprocess.run([*command.split(), "-keyout", "k", "-out", "c"], cwd=tmp_path, check=True, capture_output=True)
    files = ("--tls-certificate", "c", "--tls-key", "k", "--tls-client-ca", "c")
    daemon = start("--listen", "inet:0", *files, "--max-connections-per-peer", "3")
    port = int(daemon.until(r"listening on inet:(\d+) ")[1])
    context = ssl.create_default_context(cafile=str(tmp_path / "c"))
    context.check_hostname = False
    context.load_cert_chain(tmp_path / "c", tmp_path / "k")
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as client:
        client.sendall(bytes.fromhex("0000000d4f00000006000001ff001fffff"))
        assert client.recv(5)[4:] == b"O"
    assert daemon.end(signal.SIGTERM)[0] == 0
    assert not any("other hosts" in line for line in daemon.log)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
def test_a_reload_loads_the_certificate_anew_too(start: Start, tmp_path: Path, loop: str) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x"
    for name in ("old", "new"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([*command.split(), *files], cwd=tmp_path, check=True, capture_output=True)

    def install(certificate: str, key: str) -> None:
        shutil.copy(tmp_path / certificate, tmp_path / "live.pem")
        shutil.copy(tmp_path / key, tmp_path / "live.key")

    def served() -> str:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.check_hostname = False
        context.load_cert_chain(tmp_path / "new.pem", tmp_path / "new.key")
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as client:
            client.sendall(bytes.fromhex("0000000d4f00000006000001ff001fffff"))
            assert client.recv(5)[4:] == b"O"  # our own certificate is known
            return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True) or b"")

    old, new = ((tmp_path / f"{name}.pem").read_text() for name in ("old", "new"))
    (tmp_path / "ca.pem").write_text(old + new)
    shutil.copy(tmp_path / "ca.pem", tmp_path / "clients.pem")
    install("old.pem", "old.key")
    files = ["--tls-certificate", "live.pem", "--tls-key", "live.key", "--tls-client-ca", "clients.pem"]
    daemon = start("--listen", "inet:0@127.0.0.1", loop, *files)
    port = int(daemon.until(r"listening on inet:(\d+)@127")[1])
    assert served() == old
    install("new.pem", "old.key")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until("ERROR aiomilter: cannot reload: cannot use 'live.pem' for TLS: .*; nothing has changed")
    assert served() == old
    install("new.pem", "new.key")
    (tmp_path / "f.py").write_text("x = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until("ERROR aiomilter: cannot reload: f.py has no filter")
    assert served() == old
    (tmp_path / "f.py").write_text(FILTER)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until("INFO aiomilter: reloaded")
    assert served() == new
    assert daemon.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_a_reload_takes_new_authorities_of_clients(start: Start, tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN="
    for name in ("server", "client"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([*(command + name).split(), *files], cwd=tmp_path, check=True, capture_output=True)

    def answered() -> bool:
        context = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
        context.check_hostname = False
        context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        try:
            with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as client:
                client.sendall(bytes.fromhex("0000000d4f00000006000001ff001fffff"))
                return client.recv(5)[4:] == b"O"
        except OSError:
            return False

    shutil.copy(tmp_path / "server.pem", tmp_path / "ca.pem")
    files = ["--tls-certificate", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem"]
    daemon = start("--listen", "inet:0@127.0.0.1", *files)
    port = int(daemon.until(r"listening on inet:(\d+)@127")[1])
    assert not answered()
    shutil.copy(tmp_path / "client.pem", tmp_path / "ca.pem")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until("INFO aiomilter: reloaded")
    assert answered()
    assert daemon.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("options", [["--uvloop"], ["--no-uvloop"], ["--workers", "2"]], ids=" ".join)
def test_standard_streams_that_are_closed_are_nowhere(tmp_path: Path, closed: str, options: list[str]) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        fd = listening.fileno()
        command = [sys.executable, "-X", "dev", "-m", "aiomilter", "run", "f.py", "--listen", f"fd:{fd}", *options]
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" {closed}', "bash", *command],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[fd],
        )
    with process:
        try:
            assert main(["check", "--connect", f"unix:{tmp_path}/s"]) == 0
            assert [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "printed"),
    # What the filter prints goes to stderr.
    [("--version", ""), ("check f.py", "opened\nclosed\n")],
)
def test_output_to_a_closed_stream_is_no_error(tmp_path: Path, command: str, printed: str) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    shell = f'"$0" -X dev -m aiomilter {command} <&- >&-'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, printed)


@pytest.mark.slow
def test_a_daemon_whose_path_was_taken_while_it_loaded_does_not_start(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    hold = "import os\nif not os.path.exists('go'):\n    with open('hold') as hold:\n        hold.read()\n"
    (tmp_path / "f.py").write_text(hold + FILTER)
    first = start("--listen", f"unix:{tmp_path}/s", "--workers", "2")
    with open(tmp_path / "hold", "w"):  # opens once the first worker loads its filter
        (tmp_path / "go").touch()
        second = start("--listen", f"unix:{tmp_path}/s", "--workers", "2")
        second.until("workers .* serve new connections")

    status, _, err = first.end()

    assert status == 1
    what = "its file was removed or replaced; does another daemon use it?"
    assert f"aiomilter: cannot listen on unix:{tmp_path}/s: {what}" in err.splitlines()
    assert "Traceback" not in err
    assert main(["check", "--connect", f"unix:{tmp_path}/s"]) == 0
    assert second.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_filter_answers_smtp_and_ends_at_a_signal(start: Start, loop: str, number: signal.Signals) -> None:
    daemon = start("--smtp", "127.0.0.1:0", loop)
    with smtp(daemon) as client:
        refused = client.sendmail("a@x.example", ["b@y.example", "trap@y.example"], "Subject: \x1b[2Jhi\n\nbody\x07")
        with pytest.raises(smtplib.SMTPDataError) as failing:
            client.sendmail("a@x.example", "b@y.example", "Subject: raise\n\n")

    status, out, err = daemon.end(number)

    assert refused == {"trap@y.example": (550, b"5.1.1 no such mailbox")}
    assert failing.value.smtp_code == 451
    assert status == 0
    first, *shown = out.splitlines()
    assert first == "opened"
    assert re.fullmatch(r"======== message (\w+) from 127\.0\.0\.1 \(.*\): 250 2\.0\.0 Ok: queued as \1", shown[0])
    assert [re.sub("^from .*", "from", line) for line in shown[1:8]] == [
        "from",
        "to <b@y.example>",
        "held: look at it",
        "--------",
        "Subject: [EXT] \\x1b[2Jhi",
        "",
        "body\\x07",
    ]
    assert shown[-1] == "closed"
    edits = "edits=change_header,quarantine quarantine='look at it' time="
    assert re.search(
        rf"(?m)^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} INFO aiomilter: client='127.0.0.1' helo=.* {edits}", err
    )
    assert "ERROR aiomilter: eom failed" in err
    assert "ValueError: \\x1b[31m" in err
    assert "Warning" not in err


@pytest.mark.slow
def test_messages_are_stored_not_printed_and_the_filter_is_reached_by_mtas_too(start: Start, tmp_path: Path) -> None:
    daemon = start("--smtp", "0", "--store", "out", "--listen", "unix:" + str(tmp_path / "s"), "--socket-mode", "600",
                   "--listen", "inet:0@127.0.0.1")  # fmt: skip
    with smtp(daemon) as client:
        client.sendmail("a@x.example", ["b@y.example"], "Subject: hi\n\nbody")
    (stored,) = (tmp_path / "out").glob("*.eml")
    assert stored.read_bytes() == b"Subject: [EXT] hi\r\n\r\nbody\r\n"
    assert json.loads(stored.with_suffix(".json").read_text())["quarantine"] == "look at it"
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert main(["check", "--connect", f"unix:{tmp_path}/s"]) == 0

    status, out, _ = daemon.end(signal.SIGTERM)

    assert (status, out) == (0, "opened\nclosed\n")
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_the_first_two_commands_of_the_readme_show_the_tagged_message(start: Start) -> None:
    try_it, send, *_ = (block.text for block in literal("README"))
    (filter_file, option, port) = try_it.partition("aiomilter run ")[2].split()
    daemon = start(option, "0", filter_file=str(ROOT / filter_file))
    ours = str(smtp_port(daemon))
    assert port in send
    command = send.replace(port, ours).replace("python3", sys.executable, 1)
    subprocess.run(shlex.split(command), check=True, timeout=PATIENCE)
    status, out, _ = daemon.end(signal.SIGINT)
    assert status == 0
    assert "Subject: [EXTERNAL] hi" in out.splitlines()


@pytest.mark.slow
def test_the_smtp_clients_may_be_shown_as_another_that_has_logged_in(start: Start, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "from aiomilter import Milter, Reply\nclass F(Milter):\n    async def envfrom(self, ctx, mail):\n"
        "        return Reply(550, '5.7.1', f'{ctx.client.ip} {ctx.auth and ctx.auth.login}')\n"
    )
    daemon = start("--smtp", "0", "--smtp-client", "198.51.100.7", "--smtp-auth", "alice")
    with smtp(daemon) as client:
        client.ehlo()
        assert client.mail("a@x.example") == (550, b"5.7.1 198.51.100.7 alice")
        assert client.docmd("XCLIENT", "ADDR=192.0.2.5 LOGIN=[UNAVAILABLE]")[0] == 220
        client.ehlo()
        assert client.mail("a@x.example") == (550, b"5.7.1 192.0.2.5 None")
    assert daemon.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_a_second_signal_ends_a_message_under_way(start: Start) -> None:
    daemon = start("--smtp", "0")
    with contextlib.suppress(smtplib.SMTPServerDisconnected), smtp(daemon) as client:
        client.mail("a@x.example")
        client.rcpt("b@y.example")
        client.putcmd("data")
        assert client.getreply()[0] == 354
        client.send(b"Subject: wait\r\n\r\n.\r\n")
        daemon.output("waiting")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.until("no longer listening on .* for SMTP")
        assert daemon.process.poll() is None

        status, out, err = daemon.end(signal.SIGTERM)

    assert status == 0
    assert out == "closed\n"
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_signal_while_the_filter_is_still_being_made_ends_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "import asyncio\nfrom contextlib import asynccontextmanager\n@asynccontextmanager\nasync def milter():\n"
        "    print('opening', flush=True)\n    await asyncio.Event().wait()\n    yield\n"
    )
    daemon = start("--smtp", "0")
    daemon.output("opening")

    assert daemon.end(signal.SIGINT) == (0, "", "")


@pytest.mark.slow
def test_a_factory_that_fails_at_its_end_fails_the_command(start: Start, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(FILTER.replace('print("closed", flush=True)', "raise RuntimeError('stuck')"))
    daemon = start("--listen", "inet:0@127.0.0.1")
    daemon.until("listening on inet")

    status, _, err = daemon.end(signal.SIGTERM)

    assert status == 1
    assert err.endswith("RuntimeError: stuck\naiomilter: f.py failed at its end: RuntimeError: stuck\n")


@pytest.mark.slow
def test_output_that_nobody_reads_does_not_stop_the_mail(start: Start) -> None:
    daemon = start("--smtp", "0")
    assert daemon.process.stdout is not None
    with smtp(daemon) as client:
        daemon.process.stdout.readline()
        daemon.process.stdout.close()
        for _ in range(3):
            client.sendmail("a@x.example", ["b@y.example"], "Subject: hi\n\nbody")
    daemon.process.stdout = None
    daemon.process.send_signal(signal.SIGTERM)
    daemon.until("no longer listening on inet")


# -------------------------------------------------------------------------------------------------- mistakes of the user


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a filter, and nothing of it left in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr("aiomilter._cli.logs.set_up", lambda level, **more: None)
    (tmp_path / "f.py").write_text("from aiomilter import Milter\nclass F(Milter): pass\n")
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            [],
            2,
            "where to listen? give --listen inet:8890@127.0.0.1 for an MTA, or --smtp 2525 to try it without one",
        ),
        (
            ["--store", "x", "--listen", "inet:0"],
            2,
            "--store needs --smtp, as in --smtp 2525: an MTA's mail is not stored",
        ),
        (["--listen", "/s", "--listen", "unix:/s"], 2, "--listen 'unix:/s': expected each socket once"),
        (["--listen", "inet:0", "--tls-key", "k"], 2, "--tls-key and --tls-client-ca need --tls-certificate"),
        (
            ["--smtp", "0", "--allow-network", "10.0.0.0/8"],
            2,
            "--smtp is for trying a filter: give it without --allow-network",
        ),
        (
            ["--smtp", "0", "--listen", "/tmp/s", "--allow-user", "12345", "--allow-group", "0"],
            2,
            "--smtp is for trying a filter: give it without --allow-user and --allow-group",
        ),
        (
            ["--listen", "inet:0", "--tls-certificate", "no.pem"],
            1,
            "cannot use 'no.pem' for TLS: No such file or directory",
        ),
        (
            ["--listen", "inet:0", "--smtp-client", "192.0.2.1"],
            2,
            "--smtp-client needs --smtp, as in --smtp 2525",
        ),
        (["--listen", "inet:0", "--smtp-auth", "alice"], 2, "--smtp-auth needs --smtp, as in --smtp 2525"),
        (["--smtp", "x"], 2, "--smtp 'x': expected HOST:PORT or PORT, as in 127.0.0.1:2525 or 2525"),
        (["--smtp", "0", "--store", "f.py"], 1, "cannot store in 'f.py': File exists"),
        (
            ["--listen", "fd:0"],
            1,
            "cannot listen on fd:0: Socket operation on non-socket; no socket was handed over there, see systemd.socket(5)",
        ),
        (["--listen", "/no/s"], 1, "cannot listen on unix:/no/s: No such file or directory; make the directory first"),
        (
            ["--listen", "inet:0@192.0.2.1"],
            1,
            "cannot listen on inet:0@192.0.2.1: Cannot assign requested address; this machine has no such address",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, line: str
) -> None:
    assert main(["run", "f.py", *arguments]) == status
    assert capsys.readouterr() == ("", f"aiomilter: {line}\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--socket-mode", "999"], "argument --socket-mode: expected permissions in octal, as in 660, found '999'"),
        (["--max-connections", "0"], "argument --max-connections: expected a whole number above 0, found '0'"),
        (
            ["--listen", "x"],
            "argument --listen: 'x': expected the absolute path of a socket, as in unix:/run/filter.sock",
        ),
        (["--socket-owner", "nobody-there"], "argument --socket-owner: this machine does not know 'nobody-there'"),
        (["--socket-group", "nobody-there"], "argument --socket-group: this machine does not know 'nobody-there'"),
        (["--socket-owner", "99999999999"], "argument --socket-owner: expected 0 to 4294967294, found 99999999999"),
        (["--allow-user", "99999999999"], "argument --allow-user: expected 0 to 4294967294, found 99999999999"),
        (["--allow-group", "4294967295"], "argument --allow-group: expected 0 to 4294967294, found 4294967295"),
        (["--workers", "129"], "argument --workers: expected 1 to 128, found '129'"),
        (["--workers", "0"], "argument --workers: expected 1 to 128, found '0'"),
        (
            ["--allow-network", "x"],
            "argument --allow-network: 'x' does not appear to be an IPv4 or IPv6 network",
        ),
        (
            ["--allow-network", "10.0.0.1/8"],
            "argument --allow-network: 10.0.0.1/8 has host bits set; write 10.0.0.0/8 for the network, 10.0.0.1 for the"
            " address",
        ),
        (["--answer-timeout", "0"], "argument --answer-timeout: expected seconds above 0, as in 30 or 0.5, found '0'"),
        (
            ["--callback-timeout", "rcptto=3"],
            "argument --callback-timeout: expected one of connect, helo, mail, rcpt, data, header, eoh, body, eom,"
            " unknown before the '=', found 'rcptto'; did you mean rcpt=3?",
        ),
        (
            ["--answer-timeout", "MAIL=3"],
            "argument --answer-timeout: expected one of connect, helo, mail, rcpt, data, header, eoh, body, eom,"
            " unknown before the '=', found 'MAIL'; did you mean mail=3?",
        ),
        (
            ["--callback-timeout", "end-of-mesage=2.5"],
            "argument --callback-timeout: expected one of connect, helo, mail, rcpt, data, header, eoh, body, eom,"
            " unknown before the '=', found 'end-of-mesage'; did you mean eom=2.5?",
        ),
        (
            ["--callback-timeout", "quit=3"],
            "argument --callback-timeout: expected one of connect, helo, mail, rcpt, data, header, eoh, body, eom,"
            " unknown before the '=', found 'quit'",
        ),
        (
            ["--on-error", "discard"],
            "argument --on-error: expected one of tempfail, reject, accept, continue, or a reply as in"
            " '451 4.3.0 Try again later', found 'discard'",
        ),
        (
            ["--on-error-local", "250 ok"],
            "argument --on-error-local: expected one of tempfail, reject, accept, continue, or a reply as in"
            " '451 4.3.0 Try again later', found '250 ok'",
        ),
        (["--smtp-client", "me"], "argument --smtp-client: expected an IP address, found 'me'"),
        (["--smtp-auth", "a\nb"], "argument --smtp-auth: expected one line, found a line end or NUL"),
        (
            ["--listen", "8890"],
            "argument --listen: '8890': expected inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or fd:NUMBER;"
            " write inet:8890@127.0.0.1",
        ),
        (
            ["--listen", "127.0.0.1:8890"],
            "argument --listen: '127.0.0.1:8890': expected inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or"
            " fd:NUMBER; write inet:8890@127.0.0.1",
        ),
        (
            ["--listen", "tcp:8890"],
            "argument --listen: 'tcp:8890': expected inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or fd:NUMBER;"
            " write inet:8890@127.0.0.1",
        ),
        (["--nope"], "unknown argument: --nope"),
        (["--lisen", "inet:1"], "unknown argument: --lisen; did you mean --listen?"),
        (["-listen=inet:1"], "unknown argument: -listen=inet:1; did you mean --listen?"),
        (["--socket-moed", "3", "--smtpp"], "unknown argument: --socket-moed --smtpp; did you mean --socket-mode?"),
        (["--max-header", "3"], "unknown argument: --max-header; did you mean --max-headers?"),
        (["--" + "x" * 9], f"unknown argument: --{'x' * 9}"),
        (
            ["--log-level", "inof"],
            "argument --log-level: expected one of debug, info, warning, error, found 'inof'; did you mean info?",
        ),
        (
            ["--on-error", "tempfal"],
            "argument --on-error: expected one of tempfail, reject, accept, continue, or a reply as in"
            " '451 4.3.0 Try again later', found 'tempfal'; did you mean tempfail?",
        ),
        (["another.py"], "unknown argument: another.py; one filter a process: run each by a command of its own"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert main(["run", "f.py", *arguments]) == 2
    assert capsys.readouterr() == ("", f"aiomilter run: {line}; see 'aiomilter run --help'\n")


def test_no_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr() == (
        "",
        "aiomilter: expected a command, such as run or check; see 'aiomilter --help'\n",
    )


@pytest.mark.parametrize(("word", "hint"), [("chekc", "; did you mean check?"), ("serve", ""), ("x" * 101, "")])
def test_a_misspelt_command_is_one_line(capsys: pytest.CaptureFixture[str], word: str, hint: str) -> None:
    assert main([word, "f.py"]) == 2
    said = f"expected one of {', '.join(_COMMANDS)}, found {word!r}{hint}"
    assert capsys.readouterr() == ("", f"aiomilter: argument COMMAND: {said}; see 'aiomilter --help'\n")


@pytest.mark.parametrize("option", ["--listen", "--smtp"])
def test_a_port_in_use_is_one_line(directory: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text, shown = (f"inet:{port}@127.0.0.1",) * 2 if option == "--listen" else (str(port), f"127.0.0.1:{port}")
        assert main(["run", "f.py", option, text]) == 1

    line = (
        f"cannot listen on {shown}: Address already in use; another process listens there; stop it, or choose another"
    )
    assert capsys.readouterr() == ("", f"aiomilter: {line}\n")


@pytest.mark.parametrize(
    ("module", "option", "line"),
    [
        ("aiosmtpd.smtp", "--smtp=0", "--smtp needs aiosmtpd: pip install 'aiomilter[smtp]'"),
        ("uvloop", "--uvloop", "--uvloop needs uvloop: pip install 'aiomilter[uvloop]'"),
    ],
)
def test_a_missing_extra_is_named(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    option: str,
    line: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in [name for name in sys.modules if name.startswith("aiomilter.smtp")]:
        monkeypatch.delitem(sys.modules, loaded)

    assert main(["run", "f.py", "--listen", "inet:0@127.0.0.1", option]) == 1
    assert capsys.readouterr() == ("", f"aiomilter: {line}\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_connection_that_was_handed_over_is_no_listener(
    directory: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    one, two = socket.socketpair()
    with one:
        fd = two.detach()
        assert main(["run", "f.py", "--listen", f"fd:{fd}", "--workers", workers]) == 1
    what = "expected a socket to listen on, found a connection; a socket unit needs Accept=no, see systemd.socket(5)"
    assert capsys.readouterr() == ("", f"aiomilter: cannot listen on fd:{fd}: {what}\n")


def test_workers_that_cannot_be_made_are_no_matter_of_sockets(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **keywords: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("aiomilter._cli.service.run_workers", refuse)
    assert main(["run", "f.py", "--listen", f"unix:{directory}/s", "--workers", "2"]) == 1
    assert capsys.readouterr() == ("", "aiomilter: cannot start workers: Resource temporarily unavailable\n")


def test_a_factory_that_cannot_start_is_shown_from_its_first_line_on(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "g.py").write_text("def milter():\n    raise RuntimeError('no database')\n")

    assert main(["run", "g.py", "--listen", "inet:0@127.0.0.1"]) == 1
    assert capsys.readouterr().err == (
        'Traceback (most recent call last):\n'
        f'  File "{directory}/g.py", line 2, in milter\n'
        "    raise RuntimeError('no database')\n"
        "RuntimeError: no database\n"
        "aiomilter: g.py cannot be started: RuntimeError: no database\n"
    )  # fmt: skip


def test_a_system_without_nameservers_is_one_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "from aiomilter import ResolverFailure\n\ndef milter():\n    raise ResolverFailure('names no nameserver')\n"
    (directory / "g.py").write_text(text)

    assert main(["run", "g.py", "--listen", "inet:0@127.0.0.1"]) == 1
    assert capsys.readouterr().err == "aiomilter: g.py cannot be started: names no nameserver\n"


WARNING = """
import warnings
import aiomilter
import aiomilter.dns.resolv_conf as read
from pathlib import Path

def milter():
    read._PATH = Path("resolv.conf")
    read.system_servers()
    warnings.warn("of the filter", DeprecationWarning, stacklevel=1)
    return aiomilter.Milter()
"""


@pytest.mark.slow
def test_warnings_are_records_of_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(WARNING)
    (tmp_path / "resolv.conf").write_text("nameserver ::1\nnameserver dns.example\n")
    daemon = start("--listen", "inet:0@127.0.0.1")
    daemon.until("listening")
    assert daemon.end(signal.SIGTERM)[0] == 0
    said = [line.partition(" WARNING aiomilter: ")[2] for line in daemon.log[:-1]]
    assert said == [
        "'resolv.conf': expected 'nameserver' and an IP address, passed over 'nameserver dns.example' (line 2)",
        f"{tmp_path}/f.py:10: DeprecationWarning: of the filter",
    ]


def test_a_log_record_is_one_line_whatever_it_says() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\n%s\x1b\u202e", ("b",), None)
    assert OneLine().format(record).endswith(" INFO x: a\\x0ab\\x1b\\u202e")


def test_a_traceback_in_the_log_ends_at_the_line_of_the_filter_that_ours_refused() -> None:
    try:
        header_name("a b")
    except LocalProtocolError:
        shown = OneLine().formatException(sys.exc_info())
    assert shown.count('  File "') == 1
    assert 'header_name("a b")' in shown
    try:
        json.loads("{")
    except ValueError:
        assert "json/decoder.py" in OneLine().formatException(sys.exc_info())


def given_to_serve(*arguments: str) -> dict[str, object]:
    """The options of ``serve`` that a command line gives."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return given(parser.parse_args(["run", "f.py", *arguments]), Options)


def test_times_are_for_all_stages_or_for_one() -> None:
    arguments = ["--answer-timeout", "28", "--answer-timeout", "eom=240", "--callback-timeout", "envfrom=2.5"]
    arguments += ["--callback-timeout", "rcpt=3"]
    assert given_to_serve(*arguments, "--on-timeout", "accept", "--progress-interval", "off") == {
        "on_timeout": ACCEPT,
        "callback_timeouts": {Stage.MAIL: 2.5, Stage.RCPT: 3.0},
        "answer_timeout": 28.0,
        "answer_timeouts": {Stage.EOM: 240.0},
        "progress_interval": None,
    }


@pytest.mark.parametrize(("stage", "callback"), CALLBACKS.items(), ids=lambda value: str(value))
def test_a_stage_has_the_name_of_its_member_and_of_its_callback(stage: Stage, callback: str) -> None:
    for name in (stage.name.lower(), callback):
        assert given_to_serve("--callback-timeout", f"{name}=20") == {"callback_timeouts": {stage: 20.0}}


@pytest.mark.parametrize("name", ["idle", "stall"])
def test_off_is_none(name: str) -> None:
    assert given_to_serve(f"--{name}-timeout", "off") == {f"{name}_timeout": None}


def test_sessions_may_have_no_time_at_the_end() -> None:
    assert given_to_serve("--drain-timeout", "0") == {"drain_timeout": 0.0}


@pytest.mark.parametrize(
    ("arguments", "policy"),
    [
        ([], FailurePolicy()),
        (["--on-error", "accept"], FailurePolicy(local=ACCEPT, authenticated=ACCEPT, other=ACCEPT)),
        (
            ["--on-error", "451 4.3.0 Try again", "--on-error-local", "accept", "--on-error-authenticated", "reject"],
            FailurePolicy(local=ACCEPT, authenticated=REJECT, other=Reply(451, "4.3.0", "Try again")),
        ),
    ],
)
def test_answers_to_failures_by_class_of_client(arguments: list[str], policy: FailurePolicy) -> None:
    assert given_to_serve(*arguments).get("on_error", FailurePolicy()) == policy


def test_options_unless_given_are_those_of_serve() -> None:
    assert given_to_serve() == {}


def test_limits_are_options() -> None:
    names = [name for name in Options.__dataclass_fields__ if name.startswith("max_")]
    arguments = [word for name in names for word in (f"--{name.replace('_', '-')}", "7")]
    assert given_to_serve(*arguments, "--packet-timeout", "7") == dict.fromkeys([*names, "packet_timeout"], 7)


def test_what_help_shows_for_sendmail_lets_no_mail_past_a_filter_that_is_down() -> None:
    shown = [line for line in _EPILOG.splitlines() if "INPUT_MAIL_FILTER" in line]
    assert [line for line in shown if "F=T" in line] == shown != []
