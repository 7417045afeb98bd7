"""Phrases that readers stumbled over do not come back: in the manual, in the package, and most of all where users look."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.help.pages import PAGES, ROOT, prose

EVERYWHERE: Final = (
    "what a filter keeps of a message on",
    "sets anew",
    "gives the filter up",
    "may be away",
    "may come never",
    "the factory is left, which has",
    "gives up what has not",
    "serves nobody",
    "accepted to be told so",
    "for longer than it takes to handle it, on all",
    "from who keeps some",
    "it does not come to that",
    "is told as soon as",
    "rather does not designate",
    "neither yes nor no",
    "cannot be had now",
    "to let go or to stop",
    "what becomes of one more",
    "a step without an answer",
    "nothing says which",
    "may block everybody",
    "its own affair",
    "as the filter was shown them",
    "no limit of its own",
    "tell the others that they were seen",
    "tells the rest",
    "one more binds",
    "asked for patience",
    "nothing more is read from",
    "tasks that batches of packets run as",
    "the life of what serves",
    "of all peers and of each",
    "what keeps the interpreter's lock",
    "another sighup meanwhile",
    "stays trusted until a restart, but for",
    "whose manners to have",
    "or any where memory is short",
    "for its price",
    "other machines may connect, and",
    "told twice",
)
"""In no text of the package, in lower case; what to write instead is in the pages."""
WHERE_USERS_LOOK: Final = (
    r"\b(?:nobody|somebody|anybody)\b(?!`)",
    r"\bbut for\b",
    r"\btakes? note\b",
    r"(?<![Tt]here )\bis no\b(?! longer| more)",
    r"\bmeanwhile gives up\b",
    r"\bwhose manners\b",
    r"\bbegins? anew\b",
    r"\bgives? .{0,30} up\b",
    r"\bat every step\b",
)
IN_THE_MIDDLE: Final = (
    *WHERE_USERS_LOOK,
    r"\bwho(?:ever)?\b",
    r"\b(?:is|are|was) (?:told|no)\b(?! longer| more)",
    r"\bhears?\b",
    r"\bnotes? that\b",
    r"\bwhat (?:comes|came|has come|was|is|it|they|still)\b",
)
"""In no docstring of the packages that authors of milters read first."""
MIDDLE: Final = [
    str(path.relative_to(ROOT / "aiomilter").with_suffix(""))
    for room in ("_connection", "wire")
    for path in sorted((ROOT / "aiomilter" / room).glob("*.py"))
]
"""In no prose of the manual, and in no docstring of ROOMS."""
ROOMS: Final = [
    "__init__",
    "handler",
    "context",
    "edits",
    "options",
    "_option",
    "_option_text",
    "failures",
    "exceptions",
    "addresses",
    "_address_hints",
    "server",
    "daemon",
    "dns/__init__",
    "dns/answers",
    "dns/cache",
    "dns/servers",
    "dns/names",
    "dns/message",
    "dns/exchange",
    "dns/dnspython",
    "dns/aiodns",
    "dns/resolv_conf",
    "policy/__init__",
    "policy/dnsbl",
    "mail/__init__",
    "mail/domain",
    "mail/envelope",
    "mail/encoded_words",
    "mail/charsets",
    "auth/__init__",
    "auth/iprev",
    "auth/results",
    "auth/spf",
    "observe/__init__",
    "observe/observer",
    *(
        str(path.relative_to(ROOT / "aiomilter").with_suffix(""))
        for room in ("_cli", "_connection", "mta", "smtp", "testing", "wire")
        for path in sorted((ROOT / "aiomilter" / room).glob("*.py"))
    ),
]


def docstrings(text: str) -> Iterator[str]:
    """Yield all docstrings of a module, each in one line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield " ".join((ast.get_docstring(node) or "").split())


def test_no_text_of_the_package_has_a_phrase_that_was_replaced() -> None:
    paths = [ROOT / "README.rst", *(path for kind in ("py", "rst") for path in (ROOT / "aiomilter").rglob(f"*.{kind}"))]
    texts = {path: " ".join(re.sub(r"\n *#", "\n", path.read_text("utf-8")).split()).lower() for path in paths}
    found = [(path.name, phrase) for path, text in texts.items() for phrase in EVERYWHERE if phrase in text]
    assert found == []


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"protocol"}))
def test_a_page_says_nothing_in_words_of_its_own(page: str) -> None:
    text = " ".join(prose(page).split())
    assert [phrase for phrase in WHERE_USERS_LOOK if re.search(phrase, text)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_what_users_look_up_says_nothing_in_words_of_its_own(room: str) -> None:
    text = Path(ROOT / "aiomilter" / f"{room}.py").read_text("utf-8")
    wrong = [(phrase, line) for line in docstrings(text) for phrase in WHERE_USERS_LOOK if re.search(phrase, line)]
    assert wrong == []


@pytest.mark.parametrize("room", MIDDLE)
def test_the_middle_says_nothing_in_words_of_its_own(room: str) -> None:
    text = Path(ROOT / "aiomilter" / f"{room}.py").read_text("utf-8")
    wrong = [
        (phrase, line)
        for line in docstrings(text)
        for phrase in IN_THE_MIDDLE
        if re.search(phrase, line, re.IGNORECASE)
    ]
    assert wrong == []


LEFT: Final = frozenset(
    {
        *("auth/_authenticator", "auth/_checks", "auth/_received", "auth/arc/_sealer", "auth/dkim/_checking"),
        *("auth/dmarc/_evaluation", "message/message", "message/spool", "policy/greylist", "policy/known"),
        *("policy/stores/__init__", "policy/stores/operations", "policy/traps"),
    }
)
"""Modules that still have such words; take those out that you mend, and add none."""


@pytest.mark.slow
def test_no_other_docstring_says_anything_in_words_of_its_own() -> None:
    """Not even of what only its authors read."""
    modules = {str(path.relative_to(ROOT / "aiomilter"))[:-3]: path for path in (ROOT / "aiomilter").rglob("*.py")}
    lines = ((name, line) for name, path in modules.items() for line in docstrings(path.read_text("utf-8")))
    found = [(name, line) for name, line in lines if any(re.search(phrase, line) for phrase in WHERE_USERS_LOOK)]
    assert {name for name, _ in found} <= LEFT, [line for name, line in found if name not in LEFT]
