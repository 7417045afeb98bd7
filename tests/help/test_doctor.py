"""The page on the doctor lists all findings, and describes the JSON that is printed."""

import re

from aiomilter._doctor.findings import Finding, Kind, Severity, Step
from tests.help.findings import table, written
from tests.help.pages import PAGES


def test_all_findings_are_listed_as_the_checks_have_them() -> None:
    """``python -m tests.help.findings`` writes the list."""
    assert written() == table()


def test_the_page_names_every_key_of_a_finding() -> None:
    text = PAGES["doctor"].read_text("utf-8")
    step = Step(Kind.RUN, "true")
    finding = Finding("word", Severity.ERROR, "main.cf", "this", "that", (step,)).as_json()
    named = set(re.findall(r"``([a-z]+)``", text))
    assert {*finding} | {"do", "text", "file", "replaces", "lines"} | {kind.value for kind in Kind} <= named
