"""A whole gateway without Python: only what the commands themselves print is typed."""

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aiomilter._cli import gateway_init
from aiomilter._cli.gateway_init import Machine, begin_gateway
from tests.life.daemon import running
from tests.patience import PATIENCE

MACHINE = Machine("mx.corp.example", "corp.example", ("127.0.0.0/8", "::1"), "a test")


async def typed(line: str, directory: Path) -> tuple[int, str]:
    """Type a line into a shell; return the exit status and what it prints."""
    words = shlex.split(line)
    command = [sys.executable, "-m", *words] if words[0] == "aiomilter" else [sys.executable, *words[1:]]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.slow
async def test_from_nothing_to_signed_mail_with_what_the_commands_print(tmp_path: Path) -> None:
    status, printed = await typed("aiomilter config init --for both", tmp_path)
    assert status == 0, printed
    keygen, check, run, send = (line.strip() for line in printed.splitlines()[1:])
    for line in (keygen, check):
        status, printed = await typed(line, tmp_path)
        assert status == 0, printed

    arguments = shlex.split(run.partition("   ")[0])[2:]
    assert arguments[-2:] == ["--smtp", "2525"]
    given = (*arguments[:-1], "0", "--listen", "inet:0@127.0.0.1", "--smtp-auth", "me")
    async with running(*given, directory=tmp_path) as daemon:
        port = (await daemon.logged(r"listening on 127\.0\.0\.1:(\d+) for SMTP"))[1]
        status, printed = await typed(send.replace("2525", port), tmp_path)
        assert status == 0, printed
        await daemon.printed("^hi")
        shown = "\n".join(daemon.out)
    domain = keygen.split()[3]
    assert f"d={domain};" in shown
    assert re.search(r"Authentication-Results: \S+;\s+auth=pass", shown)


@pytest.mark.parametrize(
    ("purpose", "filters"),
    [
        ("inbound", ["authenticate", "rates"]),
        ("outbound", ["authenticate", "rates", "sign"]),
        ("both", ["authenticate", "rates", "sign", "seal"]),
    ],
)
def test_a_file_to_start_from_has_what_it_is_for(purpose: gateway_init.Purpose, filters: list[str]) -> None:
    text = begin_gateway(purpose, "gateway.toml", MACHINE)
    assert re.findall(r'(?m)^use = "(\w+)"', text) == filters
    assert 'hostname = "mx.corp.example"\n' in text
    assert 'internal = ["127.0.0.0/8", "::1"]\n' in text
    assert ('user = "200/h' in text, 'client = "300/h' in text) == (purpose != "inbound", purpose != "outbound")


@pytest.mark.parametrize(
    ("said", "name", "domain", "internal"),
    [
        (["mx.a.example", "a.example", "127.0.0.0/8 [::1]/128 [::ffff:127.0.0.0]/104 hash:/x 192.0.2.0/24"],
         "mx.a.example", "a.example", ("127.0.0.0/8", "::1/128", "192.0.2.0/24")),
        (["vm", "localdomain", "127.0.0.0/8"], "mx.example.com", "example.com", ("127.0.0.0/8",)),
        (["mx.a.example", "a.example", ""], "mx.a.example", "a.example", ("127.0.0.0/8", "::1")),
        (['mx"\n', "x", ""], "mx.example.com", "example.com", ("127.0.0.0/8", "::1")),
    ],
)  # fmt: skip
def test_what_postfix_says_of_the_machine_is_used(
    said: list[str], name: str, domain: str, internal: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def postconf(*names: str) -> list[str]:
        return said

    monkeypatch.setattr(gateway_init, "_postconf", postconf)
    found = gateway_init.look()
    assert found[:3] == (name, domain, internal)
