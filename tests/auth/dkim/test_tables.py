"""OpenDKIM's tables, as opendkim.conf(5) has them and as OpenDKIM itself reads them."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from aiomilter.auth.dkim import _tables
from aiomilter.auth.dkim._tables import OpenDkimTables, read_tables
from tests.auth.dkim.made import HEADER, key
from tests.auth.dkim.oracles import opendkim_signs

# Of each signing table: kind, rows (pattern, key), and which key signs for whom.
AUTHORS: Final = [
    "alice@example.com",
    "bob@example.com",
    "alice@news.example.com",
    "bob@news.example.com",
    "bob@a.b.example.com",
    "alice@example.org",
    "bob@example.org",
    "bob@badexample.com",
    "Alice@Example.COM",
    "bob@other.test",
]
TABLES: Final[list[tuple[str, str, list[str]]]] = [
    ("file", "alice@example.com k1|example.com k2", ["k1", "k2", "", "", "", "", "", "", "k1", ""]),
    # The most exact counts, wherever it stands.
    ("file", "* k3|example.com k2|alice@example.com k1", ["k1", "k2", *["k3"] * 6, "k1", "k3"]),
    (
        "file",
        ".example.com k1|alice@.example.com k2|alice@* k3",
        ["k3", "", "k2", "k1", "k1", "k3", "", "", "k3", ""],
    ),
    ("file", ".com k1", ["k1", "k1", "k1", "k1", "k1", "", "", "k1", "k1", ""]),
    ("file", "example.com k1|example.com k2", ["k1", "k1", "", "", "", "", "", "", "k1", ""]),
    # The first counts, whatever it is.
    ("refile", "*@example.com k2|alice@example.com k1", ["k2", "k2", "", "", "", "", "", "", "k2", ""]),
    ("refile", "alice@example.com k1|*@example.com k2|* k3", ["k1", "k2", *["k3"] * 6, "k1", "k3"]),
    ("refile", "*@*.example.com k1|*example.com k2", ["k2", "k2", "k1", "k1", "k1", "", "", "k2", "k2", ""]),
    ("refile", "alice@* k1|b*@*.test k2", ["k1", "", "k1", "", "", "k1", "", "", "k1", "k2"]),
    ("refile", "*.b.example.com k1|*o*@ex*.org k2", ["", "", "", "", "k1", "", "k2", "", "", ""]),
    ("refile", "example.com k1", [""] * 10),
    ("refile", "*@*e.com k1", ["k1", "k1", "k1", "k1", "k1", "", "", "k1", "k1", ""]),
    ("csl", "example.com=k1,*=k2", ["k1", "k1", *["k2"] * 6, "k1", "k2"]),
]
IDS: Final = [f"{kind}: {rows}" for kind, rows, _ in TABLES]


def written(folder: Path, kind: str, rows: str, *, keys: str = "") -> tuple[str, str]:
    """Write both tables, and return their settings."""
    (folder / "key.pem").write_bytes(key("rsa").private.pem())
    (folder / "key.pem").chmod(0o600)
    keys = keys or "".join(f"k{number} signing{number}.test:k{number}:./key.pem  # a comment\n" for number in (1, 2, 3))
    (folder / "keys").write_text("# a comment\n\n" + keys)
    if kind == "csl":
        return "file:keys", f"csl:{rows}"
    (folder / "signing").write_text(rows.replace("|", "\n") + "\n")
    return "file:keys", f"{kind}:signing"


def selectors(tables: OpenDkimTables, author: str) -> str:
    return " ".join(source.selector for source in tables.sources(author))


@pytest.mark.parametrize(("kind", "rows", "wanted"), TABLES, ids=IDS)
def test_rows_sign_for_their_authors(kind: str, rows: str, wanted: list[str], tmp_path: Path) -> None:
    tables = read_tables(*written(tmp_path, kind, rows), tmp_path)
    assert [selectors(tables, author) for author in AUTHORS] == wanted


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rows", "wanted"), TABLES, ids=IDS)
def test_opendkim_says_so_too(kind: str, rows: str, wanted: list[str], tmp_path: Path) -> None:
    keys, signing = written(tmp_path, kind, rows)
    messages = [HEADER.replace(b"Alice <alice@example.com>", author.encode()) + b"\r\nx\r\n" for author in AUTHORS]

    def found(*some: bytes) -> list[str]:
        fields = opendkim_signs(tmp_path, some, f"KeyTable {keys}", f"SigningTable {signing}")
        return [" ".join(re.findall(r"\bs=(\w+)", " ".join(each))) for each in fields]

    sure = [message for message, selector in zip(messages, wanted, strict=True) if selector]
    assert not sure or found(*sure) == [selector for selector in wanted if selector]
    assert [found(message) for message, selector in zip(messages, wanted, strict=True) if not selector] == [
        [""] for selector in wanted if not selector
    ]


def test_all_matches_sign_if_wanted(tmp_path: Path) -> None:
    rows = "*@example.com k2|alice@example.com k1|* k3|*@example.com k2"
    tables = read_tables(*written(tmp_path, "refile", rows), tmp_path, multiple=True)
    assert selectors(tables, "alice@example.com") == "k2 k1 k3"
    rows = "* k3|example.com k2|alice@example.com k1"
    tables = read_tables(*written(tmp_path, "file", rows), tmp_path, multiple=True)
    assert selectors(tables, "alice@example.com") == "k1 k2 k3"


def test_a_percent_sign_is_the_authors_domain(tmp_path: Path) -> None:
    keys = "k1 %:sel:./keys/%/key.pem\nexample.org example.org:own:./key.pem\n"
    tables = read_tables(*written(tmp_path, "refile", "*@example.org %:%|* k1:alice@%", keys=keys), tmp_path)
    (source,) = tables.sources("bob@Example.COM")
    assert (source.domain, source.selector, source.identity) == ("example.com", "sel", "alice@example.com")
    assert source.path == f"{tmp_path}/./keys/example.com/key.pem"
    # There may be one for each author, or not.
    assert source.optional
    assert source.load() is None
    (source,) = tables.sources("bob@example.org")
    assert (source.domain, source.selector, source.identity) == ("example.org", "own", "@example.org")
    assert not source.optional
    assert [each.selector for each in tables.all()] == ["own"]


def test_an_identity_of_another_domain_is_not_named(tmp_path: Path) -> None:
    tables = read_tables(
        *written(tmp_path, "file", "example.com k1:bob@example.net|example.org k1:bob@a.signing1.test"), tmp_path
    )
    for author, identity in (("a@example.com", ""), ("a@example.org", "bob@a.signing1.test")):
        (source,) = tables.sources(author)
        made = source.load()
        assert made is not None
        assert made.identity == identity


def test_a_key_may_stand_in_the_table(tmp_path: Path) -> None:
    pem = key("rsa").private.pem().decode()
    data = re.sub(r"-----[^-]+-----|\s", "", pem)
    tables = read_tables(*written(tmp_path, "file", "* k1", keys=f"k1 example.com:sel:{data}\n"), tmp_path)
    (source,) = tables.sources("a@example.com")
    made = source.load()
    assert made is not None
    assert made.record() == key("rsa").record()


WRONG = [
    ("file", "* k9", "", "signing:1: the key 'k9' is not in the key table"),
    ("file", "example.com", "", "signing:1: expected a name and a value, found 'example.com'"),
    ("file", "* k1", "k1 example.com:sel", "keys:3: expected DOMAIN:SELECTOR:KEY, found 'example.com:sel'"),
    ("file", "* k1", "k1 example.com::/x", "keys:3: expected DOMAIN:SELECTOR:KEY"),
    ("file", "* k1", "k1 exa mple:sel:/x", "keys:3: expected names of a domain and a selector"),
    ("csl", "example.com", "", "csl: expected NAME=VALUE, found 'example.com'"),
]


@pytest.mark.parametrize(("kind", "rows", "keys", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_place(kind: str, rows: str, keys: str, message: str, tmp_path: Path) -> None:
    settings = written(tmp_path, kind, rows, keys=keys + "\n" if keys else "")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_tables(*settings, tmp_path)


@pytest.mark.parametrize("setting", ["db:/x", "/x.db", "dsn:mysql://x", "ldap://x", "lua:/x", "mdb:/x"])
def test_kinds_of_data_sets_that_need_more_are_named(setting: str, tmp_path: Path) -> None:
    keys, _ = written(tmp_path, "file", "* k1")
    with pytest.raises(ValueError, match="expected a data set of the kinds file:, refile: or csl:"):
        read_tables(keys, setting, tmp_path)


def test_a_path_is_a_file(tmp_path: Path) -> None:
    written(tmp_path, "file", "* k1")
    tables = read_tables(str(tmp_path / "keys"), str(tmp_path / "signing"), tmp_path)
    assert selectors(tables, "a@example.com") == "k1"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), [("file", 10_000), ("refile", 100_000)])
def test_a_look_up_touches_few_rows_of_many(
    kind: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the domain has labels."""
    star = "*@" if kind == "refile" else ""
    domains = [f"d{one}.example{one % 7}.com" for one in range(number)]
    rows = "|".join(f"{star}{domain} k{one}" for one, domain in enumerate(domains))
    keys = "".join(f"k{one} {domain}:s{one}:/k/{one}.pem\n" for one, domain in enumerate(domains))
    tables = read_tables(*written(tmp_path, kind, rows, keys=keys), tmp_path)
    touched = 0
    fits = _tables._fits

    def counted(*arguments: Any) -> bool:
        nonlocal touched
        touched += 1
        return fits(*arguments)

    monkeypatch.setattr(_tables, "_fits", counted)
    for one in (0, 1, number // 2, number - 1):
        (source,) = tables.sources(f"alice@{domains[one]}")
        assert source.selector == f"s{one}"
    assert tables.sources("alice@other.example") == []
    assert touched <= 4 * 3
