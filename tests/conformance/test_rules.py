from pathlib import Path

import pytest

from tests.conformance.__main__ import main
from tests.conformance.rules import RULES, TEXT, citations, cited


def test_every_rule_of_the_checklist_is_here() -> None:
    """The numbers leave room between the sections."""
    expected = [
        *range(1, 8),
        *range(10, 25),
        *range(30, 51),
        *range(60, 72),
        *range(80, 86),
        *range(90, 98),
        *range(100, 109),
        *range(110, 124),
        *range(130, 137),
        *range(140, 149),
    ]
    assert list(TEXT) == expected
    assert [number for rules in RULES.values() for number in rules] == expected
    assert all(text.endswith(".") for text in TEXT.values())


@pytest.mark.slow
def test_every_rule_has_a_test_that_cites_it() -> None:
    missing = [f"P-{number:03} {TEXT[number]}" for number in sorted(TEXT.keys() - citations().keys())]
    assert missing == []


@pytest.mark.slow
def test_what_is_cited_is_a_rule() -> None:
    unknown = {number: tests for number, tests in citations().items() if number not in TEXT}
    assert unknown == {}


SOURCE = '''
"""P-001: a module cites nothing."""

def test_one() -> None:
    """P-002, and P-003."""
    # P-004: neither does a comment
    text = "P-005"

def helper() -> None:
    """P-006."""

async def test_two() -> None:
    """P-002."""

class TestThree:
    """P-007."""

    def test_in_a_class(self) -> None:
        """XP-008, P-0090, P-010."""

def test_four() -> None: ...
'''


def test_citations_are_read_from_the_docstrings_of_tests() -> None:
    assert cited(SOURCE) == {"test_one": {2, 3}, "test_two": {2}, "test_in_a_class": {10}}


def test_of_a_range_only_the_ends_are_cited() -> None:
    assert cited('def test_x() -> None:\n    """P-010 to P-013."""') == {"test_x": {10, 13}}


def test_citations_are_collected_from_all_tests_below(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "wire").mkdir(parents=True)
    (tests / "test_a.py").write_text('def test_x() -> None:\n    """P-001."""\n')
    (tests / "wire" / "test_b.py").write_text('async def test_y() -> None:\n    """P-001, P-002."""\n')
    (tests / "wire" / "helper.py").write_text('def test_z() -> None:\n    """P-003."""\n')
    assert citations(tests) == {
        1: ["tests/test_a.py::test_x", "tests/wire/test_b.py::test_y"],
        2: ["tests/wire/test_b.py::test_y"],
    }


@pytest.mark.slow
def test_the_list_names_each_rule_and_its_tests(capsys: pytest.CaptureFixture[str]) -> None:
    status = main()
    printed = capsys.readouterr().out
    assert all(f"P-{number:03} {text}\n" in printed for number, text in TEXT.items())
    assert "      tests/wire/test_framing.py::test_a_packet_is_made_of_length_code_and_payload\n" in printed
    found = citations()
    assert f"{len(found)} of {len(TEXT)} rules have a test." in printed
    assert status == (len(found) < len(TEXT))
