"""Programs from the package index run unchanged: ``aiomilter compat PROGRAM``, a real Postfix before them, DNS on loopback."""

import asyncio
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.compat.rigs import programs, pymilter
from tests.dns.server import NameServer
from tests.interop.client import MESSAGE, RECIPIENTS, accepted
from tests.interop.conftest import on_port
from tests.interop.rigs.mta import GLANCE
from tests.interop.scene import Scene
from tests.listening import listening_ports, listens
from tests.patience import PATIENCE
from tests.programs import need

pytestmark = [pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DELIVERED = {"MAIL": True, **dict.fromkeys(RECIPIENTS, True), "DATA": True, ".": True}

# They ask the nameserver of resolv.conf, on port 53, and log to /dev/log: a mount namespace has both to the test's mind.
NAMESPACE = """\
set -e
directory=$1
shift
mkdir "$directory/dev"
mount -t tmpfs -o mode=755 tmpfs "$directory/dev"
for node in null zero random urandom; do
    touch "$directory/dev/$node"
    mount --bind "/dev/$node" "$directory/dev/$node"
done
mkdir -m 1777 "$directory/dev/shm"
ln -s /proc/self/fd "$directory/dev/fd"
ln -s "$directory/../devlog" "$directory/dev/log"
mount --rbind "$directory/dev" /dev
mount --bind "$directory/resolv.conf" "$(readlink -f /etc/resolv.conf)"
exec "$@"
"""


@pytest.fixture
async def postfix(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    need(programs.missing())
    async for scene in on_port(request, "postfix", "tcp"):
        yield scene


@pytest.fixture(params=["without pymilter", "with pymilter"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """What a program is run with: pymilter may be there, or not."""
    path = [str(ROOT)]
    if request.param == "with pymilter":
        need(pymilter.missing())
        path += map(str, pymilter.PREFIX.glob("lib/python*/site-packages"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


@pytest.fixture
async def zone() -> AsyncIterator[NameServer]:
    # One of loopback's own addresses: port 53 of the others may be somebody's.
    number = os.getpid()
    async with NameServer(
        host=f"127.{number >> 16 & 63 | 64}.{number >> 8 & 255}.{number & 255 or 1}", port=53
    ) as server:
        yield server


class Program:
    """A running program.

    Args:
        scene: Whose first socket it listens on.
        directory: Its own.
    """

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.directory = directory
        self.socket = scene.sockets[0]
        self.status: int | None = None
        self.errors = ""


@pytest.fixture
def program(postfix: Scene, environment: dict[str, str], zone: NameServer) -> Iterator["Runner"]:
    directory = Path(tempfile.mkdtemp(dir=postfix.rig.directory))
    directory.chmod(0o777)
    yield Runner(Program(postfix, directory), environment, zone)
    shutil.rmtree(directory, ignore_errors=True)


class Runner:
    """Runs one program behind Postfix."""

    def __init__(self, program: Program, environment: dict[str, str], zone: NameServer) -> None:
        self.program, self.environment, self.zone = program, environment, zone

    def file(self, name: str, content: str | bytes) -> Path:
        """Make a file of the program's."""
        path = self.program.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        return path

    def listens(self) -> bool:
        """Whether somebody is at the program's socket."""
        if self.program.socket.startswith("unix:"):
            return listens(self.program.socket)
        return int(re.findall("[0-9]+", self.program.socket)[0]) in listening_ports()

    @asynccontextmanager
    async def running(self, script: str, *arguments: object) -> AsyncIterator[Program]:
        """Start a program, and stop it in the end as an administrator does."""
        program = self.program
        self.file("resolv.conf", f"nameserver {self.zone.host}\noptions attempts:1\n").chmod(0o644)
        command = [programs.PYTHON, "-m", "aiomilter", "compat", programs.PREFIX / "bin" / script, *arguments]
        inside = ["unshare", "-m", "bash", "-c", NAMESPACE, "namespace", program.directory]
        with (program.directory / "errors").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *map(str, [*inside, *command]),
                env=self.environment,
                cwd=program.directory,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                umask=0,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.listens():
                    assert process.returncode is None, (program.directory / "errors").read_text()
                    await asyncio.sleep(GLANCE)
            assert "libmilter" not in Path(f"/proc/{process.pid}/maps").read_text()
            yield program
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                async with asyncio.timeout(PATIENCE):
                    program.status = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
            program.errors = (program.directory / "errors").read_text()


def replies(found: dict[str, str]) -> dict[str, bool]:
    return {step: accepted(reply) for step, reply in found.items()}


async def test_dkimpy_milter_signs_and_verifies(postfix: Scene, program: Runner) -> None:
    key = program.program.directory / "key"
    subprocess.run(
        [programs.PREFIX / "bin/dknewkey", key], check=True, capture_output=True, cwd=program.program.directory
    )
    record = next(program.program.directory.glob("key.dns")).read_text()
    public = re.search(r"p=([A-Za-z0-9+/=]+)", record)
    assert public is not None
    program.zone.add("sel._domainkey.client.test", "TXT", f'"v=DKIM1; k=rsa; p={public[1][:200]}" "{public[1][200:]}"')
    config = program.file(
        "dkimpy.conf",
        f"Syslog yes\nMode sv\nDomain client.test\nSelector sel\nKeyFile {key}.key\nSocket {program.program.socket}\n"
        f"PidFile {program.program.directory}/pid\nUserID root\nInternalHosts 127.0.0.1\nAuthservID mx.example.test\n",
    )
    async with program.running("dkimpy-milter", config) as running:
        async with postfix.connect() as client:
            assert replies(await client.send()) == DELIVERED
        (signed,) = await postfix.deliveries()
        async with postfix.connect() as client:
            assert accepted(await client.say("XCLIENT ADDR=192.0.2.1 NAME=mail.client.test"))
            await client.say("EHLO mail.client.test")
            assert replies(await client.send(signed.content)) == DELIVERED
        verified = (await postfix.deliveries())[1]

    assert running.status == 0, running.errors
    fields = dict(signed.fields)
    assert re.search(r"\bd=client\.test;", fields["DKIM-Signature"]), signed.fields
    assert "dkim=pass" in dict(verified.fields)["Authentication-Results"], verified.fields


async def test_pyspf_milter_refuses_and_notes(postfix: Scene, program: Runner) -> None:
    program.zone.add("client.test", "TXT", '"v=spf1 ip4:192.0.2.1 -all"')
    config = program.file(
        "pyspf.conf",
        "debugLevel = 1\nTestOnly = 1\nHELO_reject = Fail\nMail_From_reject = Fail\nPermError_reject = False\n"
        "TempError_Defer = False\nskip_addresses = 127.0.0.0/8,::ffff:127.0.0.0/104,::1\nInternalHosts = 127.0.0.1\n"
        f"Socket = {program.program.socket}\nPidFile = {program.program.directory}/pid\nUserID = root\n"
        "Authserv_Id = mx.example.test\n",
    )
    outcome = {}
    async with program.running("pyspf-milter", config) as running:
        for address in ("192.0.2.1", "192.0.2.9"):
            async with postfix.connect() as client:
                assert accepted(await client.say(f"XCLIENT ADDR={address} NAME=client.test"))
                await client.say("EHLO client.test")
                outcome[address] = await client.send()
        (delivery,) = await postfix.deliveries()

    assert running.status == 0, running.errors
    assert replies(outcome["192.0.2.1"]) == DELIVERED
    assert "spf=pass" in dict(delivery.fields)["Authentication-Results"], delivery.fields
    refused = [reply for reply in outcome["192.0.2.9"].values() if not accepted(reply)]
    assert refused, outcome["192.0.2.9"]
    assert all(reply.startswith("550 5.7.23 ") for reply in refused), refused


def attached(octets: bytes) -> bytes:
    head, _, _ = MESSAGE.partition(b"\r\n\r\n")
    content = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    return (
        head + b'\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="X"\r\n\r\n--X\r\n\r\ntext\r\n--X\r\n'
        b"Content-Type: application/zip; name=z.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + content
        + b"--X--\r\n"
    )


def zipped(encrypted: bool) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", "text")
    octets = bytearray(made.getvalue())
    if encrypted:
        # Bit 0 of the flags, in the file's own header and in the directory.
        octets[octets.index(b"PK\x03\x04") + 6] |= 1
        octets[octets.index(b"PK\x01\x02") + 8] |= 1
    return bytes(octets)


async def test_no_ppap_milter_refuses_encrypted_zip_files(postfix: Scene, program: Runner) -> None:
    async with program.running("no-ppap-milter", "--socket-name", program.program.socket) as running:
        async with postfix.connect() as client:
            refused = await client.send(attached(zipped(encrypted=True)))
            taken = await client.send(attached(zipped(encrypted=False)))
        deliveries = await postfix.deliveries()

    assert running.status == 0, running.errors
    assert refused["."] == "550 5.7.1 We do not accpet encrypted zip."
    assert replies(taken) == DELIVERED
    assert len(deliveries) == 1


async def test_pyquarantine_keeps_and_marks(postfix: Scene, program: Runner) -> None:
    store = program.program.directory / "store"
    store.mkdir()
    rules = {
        "socket": program.program.socket,
        "rules": [
            {
                "name": "spam",
                "conditions": {"headers": ["^Subject: .*spam.*$"]},
                "actions": [
                    {
                        "name": "keep",
                        "type": "quarantine",
                        "options": {
                            "store": {"type": "file", "directory": str(store)},
                            "smtp_host": "127.0.0.1",
                            "smtp_port": 25,
                            "milter_action": "REJECT",
                            "reject_reason": "not wanted",
                        },
                    }
                ],
            },
            {
                "name": "others",
                "actions": [
                    {"name": "mark", "type": "add_header", "options": {"field": "X-Marked", "value": "yes"}},
                    {
                        "name": "change",
                        "type": "mod_header",
                        "options": {"field": "^Subject$", "search": "^(.*)$", "value": "[marked] \\1"},
                    },
                ],
            },
        ],
    }
    config = program.file("pyquarantine.conf", json.dumps(rules))
    async with program.running("pyquarantine-milter", "-c", config) as running:
        async with postfix.connect() as client:
            # It forgets every other recipient of what it refuses.
            spam = MESSAGE.replace(b"Subject: hello", b"Subject: this is spam")
            refused = await client.send(spam, recipients=RECIPIENTS[:1])
            taken = await client.send()
        (delivery,) = await postfix.deliveries()

    assert running.status == 0, running.errors
    assert refused["."] == "554 5.7.0 not wanted"
    assert replies(taken) == DELIVERED
    fields = {name: value.strip() for name, value in delivery.fields}
    assert (fields["X-Marked"], fields["Subject"]) == ("yes", "[marked] hello")
    kept = {path.suffix: path for path in store.rglob("*") if path.is_file()}
    assert any(b"Subject: this is spam" in path.read_bytes() for path in kept.values()), kept


# pymilter's own samples and tests, as its source distribution has them.


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    need(programs.missing())
    return Path(
        shutil.copytree(programs.SOURCES, tmp_path / "sources", ignore=shutil.ignore_patterns("Milter", "mime.py"))
    )


@pytest.mark.parametrize("tests", ["testmime.py", "testsample.py", "testutils.py"])
def test_pymilters_own_unit_tests_pass(sources: Path, tests: str) -> None:
    # testsample.py wants a program that the source distribution lacks.
    (sources / "template.py").write_text("import Milter\nclass myMilter(Milter.Base):\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "aiomilter", "compat", tests],
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "\nOK" in done.stderr, done.stderr


@pytest.fixture
async def local(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    need(programs.missing())
    async for scene in on_port(request, "postfix", "unix"):
        yield scene


@pytest.mark.parametrize("environment", ["without pymilter"], indirect=True)
async def test_pymilters_sample_removes_programs(
    local: Scene, environment: dict[str, str], zone: NameServer, tmp_path: Path
) -> None:
    # Its socket is in its user's home.
    home = local.rig.directory / "home"
    home.mkdir(mode=0o755)
    found = Path(local.sockets[0].removeprefix("unix:"))
    found.symlink_to(home / "pythonsock")
    runner = Runner(Program(local, home), {**environment, "HOME": str(home), "TMPDIR": str(home)}, zone)
    part = attached(b"MZ").replace(b"z.zip", b"z.exe")
    async with runner.running(str(programs.SOURCES / "sample.py")) as running:
        async with local.connect() as client:
            assert replies(await client.send(part)) == DELIVERED
        (delivery,) = await local.deliveries()
    found.unlink()
    shutil.rmtree(home)

    assert running.status == 0, running.errors
    assert b"It was originally named 'z.exe'" in delivery.body
    assert b"\r\ntext\r\n" in delivery.body
    assert "sample milter shutdown" in running.errors
