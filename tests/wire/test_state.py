from collections.abc import Mapping
from itertools import combinations

import pytest

from aiomilter.wire import state
from aiomilter.wire.constants import Command, ReplyCode, Stage
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Reply, Verdict
from aiomilter.wire.state import (
    ANSWERS,
    FOLLOWS,
    Effect,
    State,
    Transition,
    ends_message,
    is_legal,
    transitions,
    without,
)

COLUMNS = {
    "C": Command.CONNECT,
    "H": Command.HELO,
    "M": Command.MAIL,
    "R": Command.RCPT,
    "T": Command.DATA,
    "L": Command.HEADER,
    "N": Command.EOH,
    "B": Command.BODY,
    "E": Command.BODYEOB,
    "U": Command.UNKNOWN,
    "A": Command.ABORT,
}
OUTCOMES = {
    "p": Effect.PROCESS,
    "b": Effect.BEGIN,
    "i": Effect.INTERRUPT,
    "a": Effect.ABORT,
    "s": Effect.STRAY,
    "r": Effect.REPEAT,
    "f": Effect.FORGET,
    "-": Effect.IGNORE,
}
STATES = {
    "I": State.IDLE,
    "M": State.MAIL,
    "R": State.RCPT,
    "T": State.DATA,
    "L": State.HEADER,
    "N": State.EOH,
    "B": State.BODY,
    "E": State.EOM,
    "D": State.DECIDED,
}
CONTENT = "RTLNBE"

# Each cell: what the command means, and where it leads; rows are states, columns as above.
TABLE = """
     C  H  M  R  T  L  N  B  E  U  A
I    pI pI bM sI sI sI sI sI sI pI -I
M    iI iI iI pR iI iI iI iI iI pM aI
R    iI iI iI pR pT pL pN pB pE pR aI
T    iI iI iI pR pT pL pN iI iI pT aI
L    iI iI iI iI iI pL pN iI iI pL aI
N    iI iI iI iI iI iI iI pB pE pN aI
B    iI iI iI iI iI iI iI pB pE pB aI
E    iI iI iI iI iI iI iI iI iI pE aI
D    pI pI bM rD rD rD rD rD rD pD fI
"""

# The rows that change where a stage was declined; all others stay.
DECLINED = {
    "C": "",
    "H": "",
    "M": "I    pI pI bM bR bT bL bN bB bE pI -I",
    "R": "M    iI iI iI pR pT pL pN pB pE pM aI",
    "T": "",  # after RCPT comes content anyway
    "L": "",  # a message may have no header, so that EOH follows DATA anyway
    "N": """
T    iI iI iI pR pT pL pN pB pE pT aI
L    iI iI iI iI iI pL pN pB pE pL aI
""",
    "B": "",  # a message may have no body
    "U": "",
    "E": "",
    # What our own filters ask for where they only look at the envelope, at the end, or at the headers.
    "TLNBU": """
T    iI iI iI pR pT pL pN pB pE pT aI
L    iI iI iI iI iI pL pN pB pE pL aI
""",
    "CHMRTLNBU": """
I    pI pI bM bR bT bL bN bB bE pI -I
M    iI iI iI pR pT pL pN pB pE pM aI
T    iI iI iI pR pT pL pN pB pE pT aI
L    iI iI iI iI iI pL pN pB pE pL aI
""",
}
LETTERS = dict(zip("CHMRTLNBEU", Stage, strict=True))


def read(text: str) -> dict[State, dict[Command, Transition]]:
    """Return the rows written in a text."""
    rows = {}
    for line in text.strip().splitlines():
        name, *cells = line.split()
        if name in STATES and len(cells[0]) == 2:
            rows[STATES[name]] = {
                command: Transition(OUTCOMES[cell[0]], STATES[cell[1]])
                for command, cell in zip(COLUMNS.values(), cells, strict=True)
            }
    return rows


def declined(letters: str) -> frozenset[Stage]:
    """Return the stages that letters stand for."""
    return frozenset(LETTERS[letter] for letter in letters)


def as_dict(table: Mapping[State, Mapping[Command, Transition]]) -> dict[State, dict[Command, Transition]]:
    """Return a table that can be compared."""
    return {row: dict(cells) for row, cells in table.items()}


# UNKNOWN is a state in libmilter only.
@pytest.mark.parametrize("row", [state for state in State if state is not State.UNKNOWN])
@pytest.mark.parametrize("letter", COLUMNS)
def test_every_cell_of_the_table_is_as_written(row: State, letter: str) -> None:
    """P-047, P-049, P-050, P-060, P-071: what a command means in a state, and where it leads."""
    assert transitions(frozenset())[row][COLUMNS[letter]] == read(TABLE)[row][COLUMNS[letter]]


def test_the_table_has_a_row_for_each_state_and_no_cells_beyond() -> None:
    assert as_dict(transitions(frozenset())) == read(TABLE)
    assert set(read(TABLE)) == set(State) - {State.UNKNOWN}


@pytest.mark.parametrize("letters", DECLINED)
def test_a_declined_stage_is_transparent(letters: str) -> None:
    """P-017, P-050: each stage alone, and what our own filters ask for."""
    assert as_dict(transitions(declined(letters))) == read(TABLE) | read(DECLINED[letters])


def test_a_message_without_header_is_a_message_where_end_of_header_was_declined() -> None:
    """P-071: the body follows DATA then; taken for stray, the message would have passed unseen."""
    for letters in ("N", "TN", "NB", "TNB"):
        table = transitions(declined(letters))
        for row in (State.RCPT, State.DATA):
            assert table[row][Command.BODYEOB] == Transition(Effect.PROCESS, State.EOM)
            assert table[row][Command.BODY] == Transition(Effect.PROCESS, State.BODY)


MESSAGE = [
    ("M", State.MAIL),
    ("R", State.RCPT),
    ("T", State.DATA),
    ("L", State.HEADER),
    ("N", State.EOH),
    ("B", State.BODY),
]


@pytest.mark.parametrize("count", range(10))
def test_whatever_is_declined_each_whole_message_is_processed(count: int) -> None:
    """P-031, P-071: no message of a client that keeps to SMTP is ever stray, for any set of declined stages.

    The message has one or two recipients, DATA or not (an old MTA), some header fields or none, a body or none.
    """
    optional = "TLB"
    for letters in combinations("CHMRTLNBU", count):
        table = transitions(declined("".join(letters)))
        for missing in ("", *optional, "TL", "TB", "LB", "TLB"):
            sent = [c for c in "MRRTLLNBBE" if c not in letters and c not in missing]
            row = State.IDLE
            for number, letter in enumerate(sent):
                effect, row = table[row][COLUMNS[letter]]
                assert effect is (Effect.BEGIN if number == 0 else Effect.PROCESS), (letters, sent, letter)
            assert row is State.EOM


@pytest.mark.parametrize("count", range(10))
def test_whatever_is_declined_the_other_rules_hold(count: int) -> None:
    """P-047, P-049, P-050, P-060, P-063, P-068, P-071: for any set of declined stages."""
    for letters in combinations("CHMRTLNBU", count):
        stages = declined("".join(letters))
        table = transitions(stages)
        for row, cells in table.items():
            message = row not in (State.IDLE, State.DECIDED)
            assert set(cells) == set(COLUMNS.values())
            assert cells[Command.UNKNOWN] == Transition(Effect.PROCESS, row)
            assert cells[Command.ABORT].state is State.IDLE
            for command in (Command.CONNECT, Command.HELO, Command.MAIL):
                assert (cells[command].effect is Effect.INTERRUPT) is message
            for letter in CONTENT:
                effect, after = cells[COLUMNS[letter]]
                if row is State.DECIDED:
                    assert (effect, after) == (Effect.REPEAT, State.DECIDED)
                elif row is State.IDLE:
                    expected = Effect.BEGIN if Stage.MAIL in stages else Effect.STRAY
                    assert effect is expected
                else:
                    assert effect in (Effect.PROCESS, Effect.INTERRUPT)
                assert (after is State.IDLE) is (effect in (Effect.STRAY, Effect.INTERRUPT))


@pytest.mark.parametrize("count", range(10))
def test_declining_more_never_forbids_what_was_allowed(count: int) -> None:
    for letters in combinations("CHMRTLNBU", count):
        table = without(declined("".join(letters)))
        assert all(table[row] >= FOLLOWS[row] for row in FOLLOWS)


def test_one_filters_declined_stages_leave_the_tables_of_others_alone() -> None:
    """libmilter's marks are for the process, and never unset."""
    before = as_dict(transitions(frozenset()))
    assert as_dict(transitions(frozenset(Stage))) != before
    assert as_dict(transitions(frozenset())) == before == read(TABLE)


# aiomilter/help/protocol.rst, "Order in libmilter", for the states of a message, plus what may follow DATA once another
# filter has refused it.
ROWS = {"M": "R", "R": "RTLNBE", "T": "RTLN", "L": "LN", "N": "BE", "B": "BE", "E": ""}


def test_what_may_follow_is_as_libmilter_has_it() -> None:
    assert {row: set(commands) for row, commands in FOLLOWS.items()} == {
        STATES[row]: {COLUMNS[letter] for letter in letters} for row, letters in ROWS.items()
    }


# aiomilter/help/protocol.rst, "Answers by command": c a d r t y s.
LEGAL = {
    "CONNECT": "ca rty ",
    "HELO": "ca rty ",
    "MAIL": "cadrty ",
    "RCPT": "cadrty ",
    "DATA": "cadrty ",
    "HEADER": "cadrty ",
    "EOH": "cadrty ",
    "BODY": "cadrtys",
    "EOM": "cadrty ",
    "UNKNOWN": "c  rty ",
}
RESPONSES: list[Verdict | Reply] = [CONTINUE, ACCEPT, DISCARD, REJECT, TEMPFAIL, Reply(550, "5.7.1", "no"), SKIP]


@pytest.mark.parametrize("stage", Stage)
def test_every_cell_of_the_answer_table_is_as_written(stage: Stage) -> None:
    """P-091, P-092, P-094: no DISCARD before a message, no ACCEPT to UNKNOWN, SKIP to BODY alone."""
    letters = LEGAL[stage.name]
    for response, letter, column in zip(RESPONSES, letters, "cadrtys", strict=True):
        assert is_legal(stage, response) is (letter == column), (stage, response)
    assert {chr(code) for code in ANSWERS[stage]} == set(letters.replace(" ", ""))
    assert set(ANSWERS) == set(Stage)


@pytest.mark.parametrize("stage", Stage)
def test_a_reply_is_legal_wherever_a_refusal_is(stage: Stage) -> None:
    for reply in (Reply(421), Reply(450, "4.7.1", "x"), Reply(550, "5.7.1", "x")):
        assert is_legal(stage, reply) is is_legal(stage, REJECT) is is_legal(stage, TEMPFAIL)


# Which answers end the message (P-063, P-068).  Upper case: it does.
ENDS = {
    "CONNECT": "cadrtys",
    "HELO": "cadrtys",
    "MAIL": "cADRTYs",
    "RCPT": "cADrtys",
    "DATA": "cADRTYs",
    "HEADER": "cADRTYs",
    "EOH": "cADRTYs",
    "BODY": "cADRTYs",
    "EOM": "CADRTYS",
    "UNKNOWN": "cadrtys",
}


@pytest.mark.parametrize("stage", Stage)
def test_an_answer_ends_the_message_or_not_as_written(stage: Stage) -> None:
    """P-063, P-064, P-068: refusing a recipient leaves the message open."""
    for response, letter in zip(RESPONSES, ENDS[stage.name], strict=True):
        assert ends_message(stage, response) is letter.isupper(), (stage, response)


def test_a_reply_ends_a_message_as_a_refusal_does() -> None:
    for stage in Stage:
        for reply in (Reply(421), Reply(450), Reply(550)):
            assert ends_message(stage, reply) is ends_message(stage, REJECT)


def test_the_codes_of_the_answer_table_are_those_of_answers() -> None:
    """P-094."""
    assert frozenset().union(*ANSWERS.values()) == {*(verdict.value for verdict in Verdict), ReplyCode.REPLYCODE}


def test_all_names_exist() -> None:
    assert all(hasattr(state, name) for name in state.__all__)
