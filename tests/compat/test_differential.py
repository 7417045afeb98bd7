"""The same programs and conversations on pymilter and on ours: equal octet for octet, or a listed improvement.

Compared are the packets answered, what callbacks were called with (values and types), the threads they were called on, what
each method returned or raised, what stderr got but for the frames of tracebacks, and how programs end.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.compat.cases.groups import GROUPS
from tests.compat.conftest import Tally
from tests.compat.expressions import EXPRESSIONS
from tests.compat.improvements import block, difference, improvements, listed
from tests.compat.playing import ROOT, Case, Side, evaluate, play
from tests.compat.scenes import SCENES
from tests.compat.sessions import SESSIONS, SHAPES
from tests.peer import MESSAGE, OPENING, QUIT


def compared(found: Mapping[str, tuple[str, ...]], names: Iterator[str]) -> None:
    """Fail on a difference that is not listed, and on a listed one that has gone."""
    wrong = {name: lines for name in names if (lines := found.get(name, ())) != listed(name)}
    gone = [name for name, lines in wrong.items() if not lines]
    unlisted = {name: lines for name, lines in wrong.items() if lines}
    assert not wrong, f"{len(wrong)} are not as listed\n{block(unlisted)}\n" + "".join(
        f"no more: {name}\n" for name in gone
    )


@pytest.mark.interop
@pytest.mark.parametrize("name", GROUPS)
def test_conversations_are_taken_as_pymilter_takes_them(name: str, oracle: Side, mine: Side, tally: Tally) -> None:
    group = GROUPS[name]
    with ThreadPoolExecutor(2) as both:
        theirs, answers = both.map(
            lambda side: play(side, group.cases.values(), group.shape, group.script), (oracle, mine)
        )
    found = {}
    for case, expected, answered in zip(group.cases, theirs, answers, strict=True):
        if lines := difference(expected.lines(), answered.lines()):
            found[f"{name} / {case}"] = lines
        tally.conversations += 1
        tally.callbacks += expected.callbacks
    tally.programs += 1
    tally.differences += len(found)

    compared(found, (f"{name} / {case}" for case in group.cases))


@pytest.mark.interop
@pytest.mark.parametrize("name", SHAPES)
def test_sessions_of_an_mta_that_waits_for_answers_are_taken_as_pymilter_takes_them(
    name: str, oracle: Side, mine: Side, tally: Tally
) -> None:
    sessions = SESSIONS[name]
    with ThreadPoolExecutor(2) as both:
        theirs, answers = both.map(lambda side: play(side, sessions.values(), SHAPES[name]), (oracle, mine))
    found = {}
    for session, expected, answered in zip(sessions, theirs, answers, strict=True):
        if lines := difference(expected.lines(), answered.lines()):
            found[f"session, {name} / {session}"] = lines
        tally.conversations += 1
        tally.callbacks += expected.callbacks
    tally.programs += 1
    tally.differences += len(found)

    compared(found, (f"session, {name} / {session}" for session in sessions))


@pytest.mark.interop
def test_names_constants_and_helpers_are_those_of_pymilter(oracle: Side, mine: Side, tally: Tally) -> None:
    with ThreadPoolExecutor(2) as both:
        theirs, answers = both.map(lambda side: evaluate(side, EXPRESSIONS), (oracle, mine))
    found = {}
    for expression, expected, value in zip(EXPRESSIONS, theirs, answers, strict=True):
        if lines := difference(expected, value):
            found[f"expression / {expression}"] = lines
    tally.programs += 1
    tally.expressions += len(EXPRESSIONS)
    tally.differences += len(found)

    compared(found, (f"expression / {expression}" for expression in EXPRESSIONS))


Played = dict[str, tuple[Future[list[str]], Future[list[str]]]]


@pytest.fixture(scope="session")
def lives(oracle: Side, mine: Side) -> Played:
    """All scenes on both sides, at once: most of the time pymilter waits for itself.  Nothing of it goes on afterwards."""
    with ThreadPoolExecutor(16) as pool:
        return {name: (pool.submit(scene, oracle), pool.submit(scene, mine)) for name, scene in SCENES.items()}


@pytest.mark.interop
@pytest.mark.parametrize("name", SCENES)
def test_programs_start_and_end_as_on_pymilter(name: str, lives: Played, tally: Tally) -> None:
    theirs, ours = (future.result() for future in lives[name])
    lines = difference(theirs, ours)
    tally.programs += 1
    tally.differences += bool(lines)

    compared({f"scene / {name}": lines}, iter([f"scene / {name}"]))


@pytest.mark.interop
def test_what_is_compared_can_differ_and_pymilter_does_not_from_itself(oracle: Side) -> None:
    changed = {"envrcpt": "return Milter.REJECT", "header": "self.attempt('addheader', 'X', b'y')\nreturn 0"}
    case = Case(OPENING + MESSAGE + QUIT)
    one, two, three = play(oracle, [case, case, case._replace(plan=changed)], {})

    assert one.lines() == two.lines()
    assert difference(one.lines(), three.lines()) == (
        *("- answer c", "+ answer r"),
        "+ ! addheader('X', b'y') raised builtins.TypeError 'addheader() argument 2 must be str, not bytes'",
    )


def test_the_manual_has_a_row_for_each_improvement() -> None:
    page = (ROOT / "aiomilter" / "help" / "pymilter.rst").read_text("utf-8")
    rows = page.partition("What differs from pymilter")[2]
    for improvement in improvements():
        assert f"\n{improvement.row}  " in rows, improvement.row


def test_the_table_names_what_is_played() -> None:
    names = {f"{name} / {case}".replace("\n", "\\n") for name, group in GROUPS.items() for case in group.cases}
    names |= {f"session, {name} / {session}" for name, sessions in SESSIONS.items() for session in sessions}
    names |= {f"expression / {expression}" for expression in EXPRESSIONS} | {f"scene / {name}" for name in SCENES}
    seen: list[str] = []
    for improvement in improvements():
        assert improvement.pymilter.endswith(".")
        assert improvement.aiomilter.endswith(".")
        assert improvement.differences.keys() <= names
        seen += improvement.differences
    assert len(seen) == len(set(seen))
