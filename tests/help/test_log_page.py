"""The page on the log: each record it shows is one that the code writes, and it names every event and its kinds."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, get_args, get_type_hints

import pytest

from aiomilter.observe import events
from aiomilter.observe.events import (
    Answer,
    ClientRefused,
    ConnectionRefused,
    LifecycleKind,
    Limit,
    LoopStalled,
    MessageEnded,
    ObserverEvent,
    PeerErrorKind,
    RefusedRecipient,
    ResourceExhausted,
    Where,
)
from aiomilter.observe.log import LogObserver
from aiomilter.observe.observer import METHOD_OF
from tests.help.pages import PAGES, ROOT, literal

PAGE: Final = PAGES["log"].read_text("utf-8")
WORDS: Final = " ".join(PAGE.split())
SHOWN: Final = [
    found
    for block in literal("log")
    for line in block.text.splitlines()
    if (found := re.match(r"(ERROR|WARNING|INFO|DEBUG) (.+)", line))
]
# What LogObserver puts before and behind the sentence of an event.
_BEFORE: Final = re.compile(
    r"(?:(?:inet|unix):\S+: "
    r"|(?:peer='[^']*' )?client='[^']*' queue_id=\S+ \w*: "
    r"|peer='[^']*': "
    r"|\w+ failed for client='[^']*' queue_id=\S+: )"
)
_BEHIND: Final = re.compile(r"(?:, filter='[^']*')?(?:, peer='[^']*')?(?:, server='[^']*')?$")


def pattern(node: ast.JoinedStr | ast.Constant) -> str:
    """Return what the text of a literal looks like, whatever is put into it."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%(?:\.\d+)?[a-z]", ".+", re.escape(str(node.value)))
    parts = (re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in node.values)
    return "".join(parts)


@cache
def texts() -> list[tuple[str, re.Pattern[str]]]:
    """Return the patterns of all texts in the package that have a word or more, each with a part that is always there."""
    found: dict[str, str] = {}
    for path in Path(ROOT / "aiomilter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                text = pattern(node)
                # A pattern that is mostly what is put in would match anything.
                fixed = max(re.split(r"\.[*+]", text), key=len)
                if len(re.sub(r"[^a-z]", "", fixed)) >= 6 and len(text) < 300:
                    found[text] = re.sub(r"\\(.)", r"\1", fixed)
    return [(fixed, re.compile(text)) for text, fixed in found.items()]


def of_the_code(sentence: str) -> bool:
    """Return whether a sentence is one that the code makes."""
    return any(fixed in sentence and text.fullmatch(sentence) for fixed, text in texts())


@pytest.mark.slow
@pytest.mark.parametrize("shown", [found[2] for found in SHOWN if "edits=" not in found[2]])
def test_each_record_is_one_that_the_code_writes(shown: str) -> None:
    sentence = _BEHIND.sub("", _BEFORE.sub("", shown, count=1))
    assert of_the_code(sentence) or of_the_code(shown) or shown in BY_OBSERVER, sentence


def records() -> Iterator[tuple[object, str]]:
    """Yield events that the log writes in more than a sentence, and what is shown of them."""
    where = Where(1, "192.0.2.1", "eom", "4XyZ", "127.0.0.1:40312", filter="policy.Filter")
    refused = (RefusedRecipient("c@y.example", Answer("550 5.1.1 no such mailbox")),)
    envelope = ("h", "a@x.example", ("b@y.example",), refused, 1)
    ended = MessageEnded(where, *envelope, Answer("reject"), "spf_fail", (), 0, None, 0.012)
    yield ended, next(found[2] for found in SHOWN if "edits=" in found[2])
    at_connect = Where(1, "192.0.2.1", "connect", None, "127.0.0.1:40312", filter="policy.Filter")
    yield ClientRefused(at_connect, Answer("reject"), "blocked"), next(f[2] for f in SHOWN if " connect: " in f[2])
    in_body = Where(1, "192.0.2.1", "body", "4XyZ", "127.0.0.1:40312", filter="module.Filter")
    stalls = [found[2] for found in SHOWN if "blocked the event loop" in found[2]]
    yield LoopStalled(in_body, "", 1.0, False), stalls[0]
    yield LoopStalled(in_body, "", 3.2, True), stalls[1]


BY_OBSERVER: Final = [shown for _, shown in records()]


@pytest.mark.parametrize(("event", "shown"), list(records()), ids=lambda each: type(each).__name__)
def test_each_line_is_what_the_log_makes_of_its_event(
    event: ObserverEvent, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="aiomilter"):
        getattr(LogObserver(), METHOD_OF[type(event)])(event)
    assert caplog.records[0].getMessage() == shown


def test_every_event_is_on_the_page() -> None:
    assert [event.__name__ for event in METHOD_OF if f"``{event.__name__}``" not in PAGE] == []


@pytest.mark.parametrize(
    "kinds",
    [
        list(PeerErrorKind),
        list(Limit),
        list(LifecycleKind),
        get_args(get_type_hints(ConnectionRefused)["cause"]),
        get_args(get_type_hints(ResourceExhausted)["resource"]),
    ],
    ids=["peer errors", "limits", "lifecycle", "refused connections", "resources"],
)
def test_every_kind_of_an_event_is_on_the_page(kinds: list[str]) -> None:
    assert kinds
    assert [str(kind) for kind in kinds if f"``{kind}``" not in PAGE] == []


def test_the_page_names_no_event_that_is_not_there() -> None:
    named = set(re.findall(r"``([A-Z][a-z]+[A-Z]\w+)``", PAGE))
    others = {"TemporaryFailure", "ResolverError", "StoreError", "LimitNOFILE", "TasksMax"}
    assert {name for name in named if not hasattr(events, name)} <= others
