"""Whatever the package names as its source can be opened: an RFC, a libmilter page, a file that ships, or one of OTHERS."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.rules import HELP, TEXT, titles

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "aiomilter"

# Notes of those who write aiomilter; nobody else has them.
NOTES: Final = "protocol speed design style house judges pymilter newcomer"

# Files of these kinds are read.
KINDS: Final = ("py", "rst", "md", "c")

_PAGES: Final = """
api
smfi_addheader smfi_addrcpt smfi_addrcpt_par smfi_chgfrom smfi_chgheader smfi_delrcpt smfi_getpriv smfi_getsymval
smfi_insheader smfi_main smfi_opensocket smfi_progress smfi_quarantine smfi_register smfi_replacebody smfi_setbacklog
smfi_setconn smfi_setdbg smfi_setmlreply smfi_setpriv smfi_setreply smfi_setsymlist smfi_settimeout smfi_stop smfi_version
xxfi_abort xxfi_body xxfi_close xxfi_connect xxfi_data xxfi_envfrom xxfi_envrcpt xxfi_eoh xxfi_eom xxfi_header xxfi_helo
xxfi_negotiate xxfi_unknown
"""
TITLES: Final = frozenset(titles())
LIBMILTER: Final = frozenset(_PAGES.split())
"""The pages of libmilter's documentation, libmilter/docs/*.html in Sendmail's source."""

_SECTION: Final = r"(?:[1-9][0-9]*(?:\.[0-9]+)*|[A-Z](?:\.[0-9]+)*)"
_SECTIONS: Final = rf"(?:sections?|appendix) {_SECTION}(?:(?:, | and | to ){_SECTION})*"
RFC: Final = rf"RFC [1-9][0-9]{{2,3}}(?:,? {_SECTIONS})?"

OTHERS: Final = [
    # Manual pages, and what a standard or a library documents.
    r"[\w.]+\([1-8]\)",
    r"POSIX\.1-2017",
    r"systemd",
    r"the SRS draft|draft-levine-[\w-]+ section [0-9]+",
    r"(?:PKWARE's )?APPNOTE\.TXT",
    r"Python 2\.7's documentation of \w+",
    r":func:`email\.\w+\.\w+`",
    r"(?:the documentation of pymilter|pymilter's documentation)",
    # Source of an MTA, and what a version of a program was seen to do.
    r"libmilter/(?:engine|worker)\.c",
    r"Sendmail's (?:include/libmilter/\w+\.h|cf/README)",
    r"Sendmail, sendmail/\w+\.c",
    r"Postfix, (?:src/\w+/\w+\.c|README_FILES/\w+_README)",
    r"observed of (?:pymilter 1\.0\.5|libmilter 8\.17\.1\.9)",
    r"glibc 2\.36",
    # A measurement: it has to exist, see below.
    r"``benchmarks [a-z]+``",
]
"""What else may be a source, as the beginning of one; nothing but these."""

_BENCHMARK: Final = re.compile(r"\bbenchmarks ([a-z]+)\b")
_FILE: Final = re.compile(r"((?:aiomilter|tests|benchmarks|examples)/[\w/.-]*\w)")
_CITED: Final = re.compile(rf"(?:{'|'.join([_FILE.pattern, RFC, *OTHERS])})(?=$|[ ,:(]|\.$)")
_LIBMILTER: Final = re.compile(r"libmilter/docs/(\w+)\.html")


def sources(text: str) -> Iterator[str]:
    """Yield each source that a text names: what stands behind "Source:", up to a semicolon or the paragraph's end."""
    for match in re.finditer(r"^[ #]*(?:\"\"\")?Source: (.*?)(?=\n[ #]*\n|\"\"\"|\Z)", text, re.MULTILINE | re.DOTALL):
        lines = (line.strip(" #") for line in match[1].splitlines())
        yield from re.split(r"; (?![^()]*\))", " ".join(lines).strip())


def wrong(source: str, root: Path = ROOT) -> str:
    """Return what is wrong with a source; "" if nothing is."""
    if page := _LIBMILTER.match(source):
        return "" if page[1] in LIBMILTER else "no page of libmilter"
    found = _CITED.match(source)
    if found is None:
        return "of no known kind"
    if found[1] and not (root / found[1]).is_file():
        return "no such file"
    if source.startswith("aiomilter/help/protocol.rst"):
        return wrong_place(source)
    return ""


def wrong_place(source: str) -> str:
    """Return what is wrong with a place of the page on the protocol."""
    named = re.findall(r'"([^"]+)"', source)
    numbers = [int(number) for number in re.findall(r"\bP-([0-9]{3})\b", source)]
    if not named and not numbers:
        return "no section and no rule"
    if not TITLES.issuperset(named):
        return "no such section"
    return "" if TEXT.keys() >= set(numbers) else "no such rule"


@cache
def texts() -> dict[str, str]:
    """Return all modules and help pages of the package by path."""
    paths = [path for kind in KINDS for path in PACKAGE.rglob(f"*.{kind}")]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted(paths)}


def test_every_source_can_be_opened() -> None:
    found = [(path, source) for path, text in texts().items() for source in sources(text)]
    assert len(found) > 200
    assert [f"{path}: {source}: {why}" for path, source in found if (why := wrong(source))] == []


def notes(text: str) -> list[str]:
    """Return the pages a text names that only those who wrote aiomilter have."""
    return re.findall(rf"\b(?:{NOTES.replace(' ', '|')})\.md\b", text)


def test_no_file_of_the_package_names_a_page_that_does_not_ship() -> None:
    assert [(path, found) for path, text in texts().items() if (found := notes(text))] == []


@pytest.mark.slow
def test_no_other_file_names_one_either() -> None:
    """Except for this module."""
    paths = [path for folder in ("tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*")]
    read = [path for path in paths if path.suffix.lstrip(".") in (*KINDS, "txt") and path != Path(__file__)]
    found = [(path, notes(path.read_text("utf-8"))) for path in (*read, ROOT / "README.rst", ROOT / "pyproject.toml")]
    assert [(path, pages) for path, pages in found if pages] == []


@pytest.mark.parametrize("text", ["as protocol.md P-001 has it", "Source: design.md, decision 4.", "(`../speed.md`)"])
def test_a_page_that_does_not_ship_is_found(text: str) -> None:
    assert len(notes(text)) == 1


def test_a_source_begins_its_line() -> None:
    """One inside a sentence would not be read."""
    for path, text in texts().items():
        if path.endswith(".py"):
            assert len(re.findall(r"\bSource: ", text)) == len(re.findall(r"^[ #\"]*Source: ", text, re.MULTILINE)), (
                path
            )


def test_every_rule_that_the_package_names_is_one() -> None:
    numbers = [(path, number) for path, text in texts().items() for number in re.findall(r"\bP-([0-9]{3})\b", text)]
    assert [f"{path}: P-{number}" for path, number in numbers if int(number) not in TEXT] == []


def test_every_section_that_the_package_names_is_one() -> None:
    named = [
        (path, title)
        for path, text in texts().items()
        for place in re.findall(r"help/protocol\.rst,((?:[\s#]+(?:and )?\"[^\"]+\",?)+)", text)
        for title in re.findall(r'"([^"]+)"', place)
    ]
    assert named
    assert [f"{path}: {title}" for path, title in named if " ".join(title.split()) not in TITLES] == []


def test_every_benchmark_that_the_package_names_is_one() -> None:
    named = [(path, name) for path, text in texts().items() for name in _BENCHMARK.findall(text)]
    assert named
    assert [f"{path}: {name}" for path, name in named if not (ROOT / "benchmarks" / f"{name}.py").is_file()] == []


def test_sections_have_titles_of_their_own() -> None:
    found = titles(HELP)
    assert len(set(found)) == len(found)


def test_sources_are_read_from_docstrings_and_comments() -> None:
    text = '''"""One.

    Source: RFC 5321 section 4.1; libmilter/docs/api.html
    and more (one; two).
    """
# Source: proc(5).
#
x = 1
"""Source: resolv.conf(5)."""
'''
    assert list(sources(text)) == [
        "RFC 5321 section 4.1",
        "libmilter/docs/api.html and more (one; two).",
        "proc(5).",
        "resolv.conf(5).",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "RFC 5321.",
        "RFC 5321 section 4.1.1.2",
        "RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2",
        "RFC 5322 section 3.4.",
        "libmilter/docs/xxfi_eom.html, for what follows.",
        "aiomilter/help/protocol.rst, P-001 to P-007.",
        'aiomilter/help/protocol.rst, "Packets" and "Negotiation", P-142.',
        "tests/captures/README.md.",
        "``benchmarks gates`` counts it.",
        "proc(5), /proc/net/tcp.",
        "observed of pymilter 1.0.5, and of its tests.",
    ],
)
def test_what_can_be_opened_is_a_source(source: str) -> None:
    assert wrong(source) == ""


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("protocol.md P-001.", "of no known kind"),
        ("somebody told us.", "of no known kind"),
        ("RFC 53210.", "of no known kind"),
        ("RFC5321.", "of no known kind"),
        ("observed of pymilter 1.0.", "of no known kind"),
        ("libmilter/docs/.", "of no known kind"),
        ("libmilter/docs/xxfi_mail.html.", "no page of libmilter"),
        ("tests/captures/README.rst.", "no such file"),
        ("aiomilter/help/protocol.rst.", "no section and no rule"),
        ("aiomilter/help/protocol.rst, P-008.", "no such rule"),
        ('aiomilter/help/protocol.rst, "Parcels".', "no such section"),
    ],
)
def test_what_cannot_be_opened_is_none(source: str, why: str) -> None:
    assert wrong(source) == why
