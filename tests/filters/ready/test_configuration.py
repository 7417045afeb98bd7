"""Ready filters in a configuration file: what is wrong with one is said with its line, and how it is mended."""

import asyncio
import re
import signal
import tomllib
from pathlib import Path
from typing import Final

import pytest

from aiomilter import EndOfMessageContext, Milter, filters
from aiomilter._cli import main
from aiomilter._cli.trouble import Troubles
from aiomilter.compose import check, compose
from aiomilter.compose.conditions import WORDS
from aiomilter.mta import connect
from aiomilter.testing import session
from tests.auth.dkim.made import key
from tests.filters.ready.gateway import gateway, read
from tests.help.pages import PAGES, literal
from tests.life.daemon import running
from tests.patience import PATIENCE

HEAD: Final = 'hostname = "mx.corp.example"\nown_domains = ["corp.example"]\n'
AUTHENTICATE: Final = '[[filter]]\nuse = "authenticate"\n'

WRONG: Final = tomllib.loads((Path(__file__).parent / "mistakes.toml").read_text("utf-8"))


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_with_its_line_and_the_mend(case: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(case["file"])
    with pytest.raises(Troubles) as found:
        read(path)
    assert f"gateway.toml:{case['says']}" in found.value.lines


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(HEAD + '[[filter]]\nuse = "sign"\n[[filter]]\nuse = "rates"\nuser = "x"\n[limits]\nmax_edist = 1\n')
    with pytest.raises(Troubles) as found:
        read(path)
    assert [line.split(":")[1] for line in found.value.lines] == ["3", "7", "9"]


def test_a_file_of_keys_that_is_missing_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(HEAD + '[[filter]]\nuse = "sign"\nkeys = "keys.toml"\n')
    assert main(["config", "check", str(path)]) == 2
    assert f"{path}:5: [filter[1]] keys: {tmp_path}/keys.toml: No such file" in capsys.readouterr().err


def test_a_whole_file_is_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.toml"
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "key").chmod(0o600)
    path.write_text(
        'listen = { mx = "inet:0@127.0.0.1" }\n'
        + HEAD
        + '[networks]\ninternal = ["192.0.2.0/24"]\n[state]\nstore = "sqlite:state.db"\nkey = { file = "key" }\n'
        + AUTHENTICATE
        + '[[filter]]\nuse = "rates"\nuser = "1/h"\nunless = ["spf_pass", "internal"]\n'
    )
    assert main(["config", "check", str(path)]) == 0
    assert main(["config", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert 'own_domains = ["corp.example"]' in shown
    assert "0123456789abcdef" not in shown


def test_what_a_program_composes_is_checked_at_its_start() -> None:
    async def start(*members: object) -> None:
        async with session(compose(*members)):  # type: ignore[arg-type]
            pass

    rates = filters.Rates(user="1/h")
    for members, text in (
        (
            (check(rates, unless="spf_pass"),),
            "rates: expected a word that a member or the site gives, found 'spf_pass'",
        ),
        ((check(filters.Authenticate(), when="internal"),), "authenticate: expected neither when nor unless"),
        ((filters.Authenticate(), check(rates, unless="dkim_pass")), "known at RCPT.*known at EOM: dkim_pass"),
        ((rates, filters.Rates(client="1/h")), "found 'rates' twice"),
    ):
        with pytest.raises(TypeError, match=text):
            asyncio.run(start(*members))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: filters.Rates(), "expected at least one of"),
        (lambda: filters.Sign(keys="k", expire="soon"), "expire: expected seconds"),
        (lambda: filters.Sign(keys="k", oversign=("Received",)), "oversign: .*received"),
        (lambda: filters.Authenticate(dkim_min_bits=1), "dkim_min_bits: expected 512"),
        (lambda: filters.Authenticate(exempt_recipients=("@x",)), "exempt_recipients: expected"),
        (lambda: filters.Site(hostname="a b"), "hostname: expected"),
        (lambda: filters.Site(internal=("192.0.2.1/24",)), "internal: .*host bits"),
    ],
)
def test_settings_are_checked_when_they_are_made(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()  # type: ignore[operator]


def test_a_filter_is_run_alone_with_settings_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["--set", "kyes=keys.toml"], "--set: kyes: unknown, did you mean keys?"),
        (["--set", "keys=no.toml"], "no.toml: No such file or directory"),
        ([], "--set: keys: missing"),
        (["--set", "keys"], "expected NAME=VALUE, found 'keys'"),
        (["--set", "keys=a", "--set", "keys=b"], "given again"),
    ):
        assert main(["run", "aiomilter.filters:Sign", "--listen", "inet:0@127.0.0.1", *arguments]) == 2
        assert text in capsys.readouterr().err


BLOCKS: Final = [each for each in literal("gateway") if each.language == "toml"]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_files_of_the_manual_are_in_order(tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.toml").write_text(BLOCKS[number].text)
    (tmp_path / "2026q4.pem").touch(0o600)
    (tmp_path / "2026q4.pem").write_bytes(key("ed25519").private.pem())
    assert main(["config", "check", str(tmp_path / "gateway.toml")]) == 0
    assert capsys.readouterr().err == ""


def test_the_manual_names_all_words() -> None:
    text = PAGES["gateway"].read_text("utf-8")
    giving = {word for name in filters.NAMES.values() for word in getattr(filters, name).gives}
    shown = {re.sub(r"^((helo_)?spf|dkim|arc|dmarc)_.*", r"\1_RESULT", each) for each in giving}
    assert [each for each in {*WORDS, *filters.Site().words, *shown} if f"``{each}``" not in text] == []


@pytest.mark.parametrize(
    ("filters_of_file", "warning"),
    [
        (
            'sign when="tls" keys="k"|banner subject="x"',
            "banner changes what sign has signed before it; put sign below banner",
        ),
        (
            'authenticate|seal keys="k" domain="a.example"|sign when="tls" keys="k"',
            "seal has to be the last; put it below sign",
        ),
        ('banner subject="x"|scan clamd="unix:/x"', "scan sees the banner, too; put it above banner"),
        (
            'sign keys="k"',
            'sign signs for whoever writes our domain into From; add when = ["authenticated", "internal"]',
        ),
        (
            'authenticate|scan clamd="unix:/x" unless="dkim_pass"',
            "dkim_pass says who has sent the message, and not that it is",
        ),
        ('authenticate|banner subject="x"|sign when="tls" keys="k"|seal keys="k" domain="a.example"', ""),
        ('scan clamd="unix:/x" unless="internal"', ""),
        (
            'srs domain="f.example" local_domains=["c.example"] secrets=["0123456789abcdef","short"]',
            "one has 5 octets; write 16 or more of chance",
        ),
        ('srs domain="f.example" local_domains=["c.example"] secrets=["0123456789abcdef"]', ""),
    ],
)
def test_what_can_hardly_be_meant_is_warned_of(filters_of_file: str, warning: str, tmp_path: Path) -> None:
    tables = [each.split() for each in filters_of_file.split("|")]
    text = "\n".join("\n".join(["[[filter]]", f'use = "{name}"', *settings]) for name, *settings in tables)
    (tmp_path / "gateway.toml").touch(0o600)
    (tmp_path / "gateway.toml").write_text(f"{text}\n")
    found = read(tmp_path / "gateway.toml").warnings
    assert [warning in each for each in found] == [True] * bool(warning)


class Tagger(Milter):
    """One's own filter."""

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Tag", "yes")


async def test_ones_own_filter_goes_with_ready_ones(tmp_path: Path) -> None:
    own = '[[filter]]\nuse = "tests.filters.ready.test_configuration:Tagger"\nname = "tagger"\nwhen = "spf_none"\n'
    (tmp_path / "gateway.toml").write_text(HEAD + own + AUTHENTICATE)
    async with gateway(tmp_path / "gateway.toml") as running, running.session() as s:
        found = await s.send(b"From: a@x.example\r\n\r\n", "a@x.example", "u@corp.example")
    assert b"X-Tag: yes" in found.octets


async def test_a_filter_in_shadow_answers_nothing_and_keeps_its_own_state(tmp_path: Path) -> None:
    rates = '[[filter]]\nuse = "rates"\nclient = "1/h"\n'
    shadow = '[[filter]]\nuse = "rates"\nname = "new"\nclient = "1/h"\nshadow = true\n'
    authenticate = '[[filter]]\nuse = "authenticate"\nname = "strict"\nspf_none = "reject"\nshadow = true\n'
    (tmp_path / "gateway.toml").write_text(HEAD + shadow + authenticate + rates)
    async with gateway(tmp_path / "gateway.toml") as running, running.session() as s:
        first = await s.send(b"From: a@x.example\r\n\r\n", "a@x.example", "u@corp.example")
        second = await s.send(b"From: a@x.example\r\n\r\n", "a@x.example", "u@corp.example")
    assert first.octets == b"From: a@x.example\r\n\r\n"
    assert str(second.answer).startswith("450 4.7.1 Too many")


@pytest.mark.slow
async def test_a_reload_takes_the_whole_file_or_nothing(tmp_path: Path) -> None:
    def configure(mark: str, rate: str) -> None:
        text = f'listen = ["inet:0@127.0.0.1"]\n[[filter]]\nuse = "rates"\nuser = "{rate}"\n'
        (tmp_path / "gateway.toml").write_text(f'{text}[[filter]]\nuse = "banner"\nsubject = "{mark}"\n')

    async def delivered() -> str:
        async with connect(address, timeout=PATIENCE) as s:
            await s.connect("client.test", "192.0.2.1")
            await s.helo("client.test")
            found = await s.send(b"Subject: x\r\n\r\n", "a@x.example", "u@corp.example")
        return found.octets.decode().splitlines()[0]

    configure("[A]", "1/h")
    async with running("--config", "gateway.toml", directory=tmp_path) as daemon:
        port = (await daemon.logged(r"listening on inet:(\d+)@127\.0\.0\.1"))[1]
        address = f"inet:{port}@127.0.0.1"
        assert await delivered() == "Subject: [A] x"
        configure("[B]", "2/h")
        daemon.send(signal.SIGHUP)
        await daemon.logged("reloaded")
        assert await delivered() == "Subject: [B] x"
        configure("[C]", "many")
        daemon.send(signal.SIGHUP)
        await daemon.logged(r"cannot reload: gateway\.toml:4: \[filter\[1\]\] user: expected a rate")
        assert await delivered() == "Subject: [B] x"
