"""``aiomilter help``: lists the pages, shows one, and knows what a wrong name was meant to be."""

import io
import pydoc
import sys

import pytest

from aiomilter._cli import main
from aiomilter._cli.manual import page, topics
from tests.help.pages import PAGES


def test_without_a_topic_all_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == topics() == sorted(PAGES.keys() - {"README"})
    assert all(page(name).startswith(f"{title}\n===") for name, title in lines)


def test_a_topic_is_plain_text_where_it_goes_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "postfix"]) == 0
    assert capsys.readouterr().out == page("postfix")


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("postfx", "did you mean 'postfix'?"),
        ("Postfix", "did you mean 'postfix'?"),
        ("run", "see 'aiomilter run --help'"),
        ("zzz", "'aiomilter help' lists them"),
        ("../../README", "'aiomilter help' lists them"),
    ],
)
def test_a_topic_that_is_not_there_is_one_line(topic: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 2
    assert capsys.readouterr() == ("", f"aiomilter: there is no topic {topic!r}; {hint}\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    paged: list[str] = []
    monkeypatch.setattr(pydoc, "pager", paged.append)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["help", "log"]) == 0
    assert paged == [page("log")]


def test_a_terminal_without_unicode_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    assert main(["help", "footer"]) == 0
    assert b"Gr\\xfc\\xdfe" in raw.getvalue()
