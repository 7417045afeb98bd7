"""The page on the protocol tells what the code does: its tables and its example are held against ``aiomilter.wire``."""

import re
from importlib import resources
from typing import Final

import pytest

from aiomilter.mta import macros
from aiomilter.wire.constants import (
    ALL_ACTIONS,
    ALL_PROTOCOL,
    V1_ACTIONS,
    V1_PROTOCOL,
    Action,
    Command,
    Protocol,
    ReplyCode,
    Stage,
)
from aiomilter.wire.framing import packet
from aiomilter.wire.modifications import AddHeader
from aiomilter.wire.negotiation import USUAL_MACROS, NegotiateAnswer
from aiomilter.wire.state import ANSWERS, LIBMILTER, State
from tests.conformance.rules import HELP, RULES, rules, titles
from tests.wire.packets import EXAMPLE_FROM_MTA

_LINE: Final = re.compile(r"^=+(?:  =+)+$")


def section(title: str) -> str:
    """Return the text of one section, without those below it."""
    found = re.search(
        rf"^{re.escape(title)}\n[=~-]+\n(.*?)(?=^[^\n]+\n[=~-]{{3,}}$|\Z)", HELP, re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found[1]


def table(title: str) -> list[list[str]]:
    """Return the rows of the first table of a section, without its head; a row without first cell goes on with the last."""
    lines = section(title).splitlines()
    first = next(number for number, line in enumerate(lines) if _LINE.match(line))
    starts = [match.start() for match in re.finditer("=+", lines[first])]
    head = next(number for number in range(first + 1, len(lines)) if _LINE.match(lines[number]))
    rows: list[list[str]] = []
    for line in lines[head + 1 :]:
        if _LINE.match(line):
            return rows
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True)]
    raise AssertionError(title)


def test_the_page_is_part_of_the_package() -> None:
    assert (resources.files("aiomilter") / "help" / "protocol.rst").is_file()


@pytest.mark.parametrize(("title", "codes"), [("Commands", Command), ("Answers", ReplyCode)])
def test_codes_are_those_of_the_wire(title: str, codes: type[Command] | type[ReplyCode]) -> None:
    rows = table(title)
    assert {name: int(number, 16) for _, number, name, *_ in rows} == {code.name: code.value for code in codes}
    assert all(letter == f"``{int(number, 16):c}``" for letter, number, *_ in rows)


def test_flags_of_commands_are_those_of_their_stages() -> None:
    values = {name: int(value, 16) for value, name, *_ in table("Protocol flags")}
    stages = {stage.command.name: stage for stage in Stage}
    for _, _, name, _, answered, no_reply, skipped, _ in table("Commands"):
        stage = stages.get(name)
        assert values.get(no_reply, 0) == (0 if stage is None else stage.nr_flag), name
        assert values.get(skipped, 0) == (0 if stage is None else stage.no_flag), name
        assert (answered == "yes") is (stage is not None), name


def test_flags_are_those_of_the_wire() -> None:
    protocol = {int(value, 16): since for value, _, _, since in table("Protocol flags")}
    actions = {int(value, 16): since for value, _, _, since in table("Actions")}
    assert set(protocol) == {flag.value for flag in Protocol}
    assert set(actions) == {flag.value for flag in Action}
    assert sum(value for value, since in protocol.items() if since == "1") == V1_PROTOCOL
    assert sum(value for value, since in protocol.items() if since.isdigit()) == ALL_PROTOCOL
    assert sum(value for value, since in actions.items() if since == "1") == V1_ACTIONS
    assert sum(actions) == ALL_ACTIONS


def test_answers_are_those_that_each_stage_takes() -> None:
    for name, *cells in table("Answers by command"):
        legal = {letter for letter, cell in zip("cadrtys", cells, strict=False) if cell == "yes"}
        assert legal == {chr(code) for code in ANSWERS[Stage[name]]}, name


def test_what_may_follow_is_as_in_the_table_for_filters_on_libmilter() -> None:
    rows = {name: set(may.split(", ")) for name, may in table("Order in libmilter")}
    for state in (State.MAIL, State.RCPT, State.DATA, State.HEADER, State.EOH, State.BODY):
        inside = rows[state.name] - {"ABORT", "UNKNOWN"}
        assert inside == {command.name for command in LIBMILTER.follows[state]}, state


def test_lists_of_macros_have_the_numbers_of_the_wire() -> None:
    rows = {name: (int(number), code) for number, name, code in table("Macro lists")}
    assert rows == {
        stage.name: (stage.symlist, f"``{stage.command:c}``") for stage in Stage if stage.symlist is not None
    }


def test_usual_macros_are_those_that_the_mta_side_sends() -> None:
    for name, postfix, sendmail in table("Usual macros"):
        stage = Stage[name]
        lists = [[] if cell == "none" else cell.split() for cell in (postfix, sendmail)]
        if sendmail == "the same":
            lists[1] = lists[0]
        for style, listed in zip(("postfix", "sendmail"), lists, strict=True):
            assert list(macros.macro_lists(style, {}, {}).get(stage, ())) == listed, (name, style)  # type: ignore[arg-type]
        if stage in USUAL_MACROS:
            assert set(USUAL_MACROS[stage]) == {*lists[0], *lists[1]}, name


def test_the_example_is_octet_for_octet_what_is_spoken() -> None:
    found = re.findall(r"^    ([MF]) ([0-9a-f ]+)$", section("A conversation in octets"), re.MULTILINE)
    octets = {side: [bytes.fromhex(text) for who, text in found if who == side] for side in "MF"}
    assert octets["M"] == [sample.octets for sample in EXAMPLE_FROM_MTA]
    answer = NegotiateAnswer(6, Action.ADD_HEADERS, 0)
    added = AddHeader("X-Checked", "yes")
    assert octets["F"] == [
        packet(answer.CODE, answer.payload),
        *[packet(ReplyCode.CONTINUE)] * 8,
        packet(added.CODE, added.payload),
        packet(ReplyCode.ACCEPT),
    ]


def test_every_section_that_the_page_points_to_is_one() -> None:
    pointed = {" ".join(name.split()) for name in re.findall(r"`([^`]+)`_", HELP)} | set(
        re.findall(r"\b(\w+)_\b(?!`)", HELP)
    )
    assert {"Larger packets", "Macro values"} <= pointed
    assert {name for name in pointed if name not in titles() and name[0].isupper() and not name.isupper()} == set()


def test_no_line_is_longer_than_a_terminal_of_120_columns() -> None:
    assert [line for line in HELP.splitlines() if len(line) > 120] == []


def test_rules_are_read_in_their_sections() -> None:
    page = "Top\n===\n\nOne\n---\n\n* P-001: First\n  rule.\n* P-002: Second.\n* none\n\nTwo\n~~~\n\ntext\n\n* P-010: Third.\n"
    assert rules(page) == {"One": {1: "First rule.", 2: "Second."}, "Two": {10: "Third."}}
    assert titles(page) == ["Top", "One", "Two"]
    assert all(section.startswith("Rules of ") for section in RULES)
