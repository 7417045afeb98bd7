"""``aiomilter state``: what is kept is shown, forgotten and moved, and the greylists of other programs are taken over."""

import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aiomilter._cli import main
from aiomilter.compat.modules.greylist import Greylist as PymilterGreylist
from aiomilter.policy import Greylist, KnownSenders, Rate, RateLimit, Reputation, Traps
from aiomilter.policy.stores import GuardedStore, open_store

Run = Callable[..., tuple[int, list[str], list[str]]]
DUMP = """\
VERSION=3
format={format}
type=btree
db_pagesize=4096
HEADER=END
{lines}DATA=END
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its status, and the lines of output and errors."""

    def state(*arguments: str) -> tuple[int, list[str], list[str]]:
        status = main(["state", *arguments])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return state


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store in which each policy keeps something."""
    made = f"sqlite:{tmp_path}/state.db"
    asyncio.run(fill(made))
    return made


async def fill(url: str) -> None:
    async with open_store(url) as store:
        await RateLimit(store, {"user": [Rate(10, per=60), Rate(100, per=3600)]}).hit("user", "Bob@example.org", 5)
        await Greylist(store).check("192.0.2.7", "alice@client.example", "bob@example.org", domain="client.example")
        await KnownSenders(store).note("bob@example.org", ["carol@client.example"])
        await Reputation(store).record("domain", "client.example", True)
        await Reputation(store).record("ip_net", "192.0.2.7", False)
        await Traps(store, ["trap@example.org"]).note("192.0.2.7")


async def verdict(store: GuardedStore, client: str, sender: str, recipient: str) -> str:
    return (await Greylist(store).check(client, sender, recipient)).verdict


SHOWN: list[tuple[tuple[str, ...], list[str]]] = [
    (("rate", "user", "bob@example.org"), ["rate 1: what was counted will be", "rate 2: what was counted will be"]),
    (("greylist", "192.0.2.200", "alice+x@client.example", "BOB@example.org"), ["client and sender: first seen "]),
    (
        ("greylist", "192.0.2.7", "<alice@client.example>", "bob@example.org", "--domain", "client.example"),
        ["client and sender: first seen ", "domain: first seen "],
    ),
    (("known", "bob@example.org", "carol@client.example"), ["known: noted 1 times"]),
    (("reputation", "domain", "Client.Example"), ["reputation: 1 good, 0 bad as of "]),
    (("reputation", "ip_net", "192.0.2.99"), ["reputation: 0 good, 1 bad as of "]),
    (("trap", "::ffff:192.0.2.7"), ["trap: noted 1 times"]),
]


@pytest.mark.parametrize(("what", "lines"), SHOWN)
def test_what_is_kept_is_shown_and_forgotten(run: Run, url: str, what: tuple[str, ...], lines: list[str]) -> None:
    status, out, err = run("show", url, *what)
    assert (status, err) == (0, [])
    assert len(out) == len(lines)
    assert all(found.startswith(line) for found, line in zip(out, lines, strict=True)), out
    status, out, err = run("forget", url, *what)
    assert (status, out) == (0, [f"{line.partition(':')[0]}: forgotten" for line in lines])
    for command in ("show", "forget"):
        assert run(command, url, *what) == (1, [], ["nothing is kept under these names"])


def test_one_address_finds_nothing_of_several(run: Run, url: str) -> None:
    assert run("show", url, "known", "bob@example.org", "dave@client.example")[0] == 1


def test_a_store_is_moved_as_hashes(run: Run, url: str, tmp_path: Path) -> None:
    status, dump, _ = run("export", url)
    assert status == 0
    assert run("export", url, "--output", str(tmp_path / "dump")) == (0, [], [])
    assert (tmp_path / "dump").read_text().splitlines() == dump
    assert (tmp_path / "dump").stat().st_mode & 0o777 == 0o600
    assert dump[0] == "aiomilter state 1"
    assert len(dump) == 9
    assert not any(word in "\n".join(dump) for word in ("bob", "example", "192.0"))
    (tmp_path / "other.db.key").write_bytes((tmp_path / "state.db.key").read_bytes())
    other = f"sqlite:{tmp_path}/other.db"
    for written in (8, 0):
        status, out, _ = run("import", other, str(tmp_path / "dump"))
        assert (status, out[0].partition(": ")[2].split()[:3]) == (0, [str(written), "of", "8"])
    assert run("export", other)[1] == dump
    assert run("show", other, "known", "bob@example.org", "carol@client.example")[0] == 0


def test_pymilters_greylist_is_taken_over_as_csv_and_as_its_file(run: Run, tmp_path: Path) -> None:
    """What has passed there passes here; what is new there has to wait as long as it would have."""
    file, text = tmp_path / "grey.db", io.StringIO()
    theirs = PymilterGreylist(str(file))
    for later in (-3000, -1000):
        theirs.check("192.0.2.7", "alice@client.example", "bob@example.org", timeinc=later)
    theirs.check("192.0.2.8", "<eve@client.example>", "bob@example.org", timeinc=-100)
    theirs.export_csv(text)
    theirs.close()
    (tmp_path / "csv").write_text(text.getvalue())
    for number, name in enumerate(("grey.db", "csv")):
        url = f"sqlite:{tmp_path}/{number}.db"
        assert run("import", url, str(tmp_path / name))[0] == 0
        assert asyncio.run(verdicts(url)) == ["pass", "wait"]


async def verdicts(url: str) -> list[str]:
    async with open_store(url) as store:
        return [
            await verdict(store, "192.0.2.200", "alice@client.example", "bob@example.org"),
            await verdict(store, "192.0.2.8", "eve@client.example", "bob@example.org"),
        ]


def test_a_count_of_pymilters_greylist_may_be_any(run: Run, tmp_path: Path) -> None:
    now, url = int(time.time()), f"sqlite:{tmp_path}/state.db"
    (tmp_path / "csv").write_text(f"192.0.2.7,alice@client.example,bob@example.org,{now},{now},{2**70}\n")
    assert run("import", url, str(tmp_path / "csv"))[0] == 0
    assert asyncio.run(verdicts(url)) == ["pass", "wait"]


def dumped(format: str, entries: dict[str, str]) -> str:
    def written(text: str) -> str:
        return text if format == "print" else text.encode().hex()

    lines = "".join(f" {written(key)}\n {written(value)}\n" for key, value in entries.items())
    return DUMP.format(format=format, lines=lines)


@pytest.mark.parametrize("format", ["print", "bytevalue"])
def test_postgreys_databases_are_taken_over(run: Run, tmp_path: Path, format: str) -> None:
    now = int(time.time())
    entries = {
        "192.0.2.0/alice@client.example/bob@example.org": f"{now - 4000},{now - 2000},mail.client.example",
        "192.0.2.8/eve@client.example/bob@example.org": f"{now - 100},{now - 100}",
        "198.51.100.0//bob@example.org": f"{now - 4000},{now - 2000}",
        "192.0.2.9": f"5,{now}",
    }
    (tmp_path / "dump").write_text(dumped(format, entries))
    url = f"sqlite:{tmp_path}/state.db"
    status, out, _ = run("import", url, str(tmp_path / "dump"))
    assert (status, "3 of 3 written" in out[0], "1 clients passed over" in out[0]) == (0, True, True)
    assert asyncio.run(verdicts(url)) == ["pass", "wait"]
    assert run("show", url, "greylist", "198.51.100.7", "", "bob@example.org")[0] == 0


def test_hashed_keys_of_postgrey_are_refused_with_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(dumped("print", {"0" * 40: "1,2"}))
    status, out, err = run("import", f"sqlite:{tmp_path}/state.db", str(tmp_path / "dump"))
    assert (status, out) == (1, [])
    assert "--privacy" in err[0]


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["show", "memory:", "rate", "user", "x"], 2, "memory: is gone with its process"),
        (["show", "mysql://x", "rate", "user", "x"], 1, "found one that begins with 'mysql'"),
        (["show", "sqlite:no.db", "rate", "user", "x"], 4, "'no.db': no such file"),
        (["show", "redis://127.0.0.1:1", "rate", "user", "x"], 1, "Redis: Error 111 connecting to 127.0.0.1:1"),
        (["show", "redis://127.0.0.1:1", "rate", "user", "x", "--keys", "no"], 1, "cannot take keys from 'no'"),
        (["show", "URL", "rate", "user"], 2, "expected rate NAME KEY, found 'rate user'"),
        (["show", "URL", "rate", "User", "x"], 2, "expected a name of lower-case letters, found 'User'"),
        (["show", "URL", "trap", "me"], 2, "expected an IP address, found 'me'"),
        (["show", "URL", "trap", "::1", "--ipv6-prefix", "129"], 2, "--ipv6-prefix: expected"),
        (["show", "URL", "mail", "x"], 2, "expected one of rate, greylist, known, reputation, trap, found 'mail'"),
        (["import", "URL", "no.csv"], 4, "cannot read 'no.csv': No such file or directory"),
        (["import", "URL", "text"], 1, "'text': line 1: expected client, sender, recipient, two times and a count"),
        (["import", "URL", "long"], 1, "'long': field larger than field limit"),
        (["import", "URL", "dump"], 1, "'dump': line 2: expected a kind, a hash and four numbers"),
        (["import", "URL", "cut"], 1, "'cut': expected a dump of db5.3_dump -p, found no HEADER=END"),
        (["import", "URL", "broken"], 1, "'broken': "),
        (["export", "URL", "--output", "no/where"], 1, "cannot write 'no/where': No such file or directory"),
        (["export", "URL", "--password-file", "no"], 4, "cannot read 'no': No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no,greylist\n")
    (tmp_path / "long").write_text("x" * 200_000)
    (tmp_path / "dump").write_text("aiomilter state 1\ngrey xyz 1 2 3 4\n")
    (tmp_path / "cut").write_text("VERSION=3\nformat=print\n")
    (tmp_path / "broken").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    found = run(*(url if each == "URL" else each for each in arguments))
    assert (found[0], found[1], len(found[2])) == (status, [], 1)
    assert line in found[2][0]


def test_a_line_of_a_dump_with_a_number_too_large_is_refused(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(f"aiomilter state 1\ngrey {'0' * 32} {2**60} 0 0 0\n")
    assert "expected numbers up to" in run("import", url, str(tmp_path / "dump"))[2][0]
