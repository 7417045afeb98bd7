from itertools import chain

import pytest

from aiomilter.wire import constants
from aiomilter.wire.constants import Action, Command, Protocol, ReplyCode, Stage

# Names as in libmilter's headers, and in the tables of aiomilter/help/protocol.rst.
COMMANDS = {
    "ABORT": "A",
    "BODY": "B",
    "CONNECT": "C",
    "MACRO": "D",
    "BODYEOB": "E",
    "HELO": "H",
    "QUIT_NC": "K",
    "HEADER": "L",
    "MAIL": "M",
    "EOH": "N",
    "OPTNEG": "O",
    "QUIT": "Q",
    "RCPT": "R",
    "DATA": "T",
    "UNKNOWN": "U",
}
REPLIES = {
    "ADDRCPT": "+",
    "DELRCPT": "-",
    "ADDRCPT_PAR": "2",
    "OPTNEG": "O",
    "ACCEPT": "a",
    "REPLBODY": "b",
    "CONTINUE": "c",
    "DISCARD": "d",
    "CHGFROM": "e",
    "ADDHEADER": "h",
    "INSHEADER": "i",
    "CHGHEADER": "m",
    "PROGRESS": "p",
    "QUARANTINE": "q",
    "REJECT": "r",
    "SKIP": "s",
    "TEMPFAIL": "t",
    "REPLYCODE": "y",
}
ACTIONS = {
    "ADD_HEADERS": 0x001,
    "REPLACE_BODY": 0x002,
    "ADD_RECIPIENTS": 0x004,
    "DELETE_RECIPIENTS": 0x008,
    "CHANGE_HEADERS": 0x010,
    "QUARANTINE": 0x020,
    "CHANGE_SENDER": 0x040,
    "ADD_RECIPIENTS_WITH_PARAMS": 0x080,
    "SET_MACROS": 0x100,
}
PROTOCOL = {
    "NO_CONNECT": 0x1,
    "NO_HELO": 0x2,
    "NO_MAIL": 0x4,
    "NO_RCPT": 0x8,
    "NO_BODY": 0x10,
    "NO_HEADERS": 0x20,
    "NO_EOH": 0x40,
    "NR_HEADER": 0x80,
    "NO_UNKNOWN": 0x100,
    "NO_DATA": 0x200,
    "SKIP": 0x400,
    "REJECTED_RECIPIENTS": 0x800,
    "NR_CONNECT": 0x1000,
    "NR_HELO": 0x2000,
    "NR_MAIL": 0x4000,
    "NR_RCPT": 0x8000,
    "NR_DATA": 0x10000,
    "NR_UNKNOWN": 0x20000,
    "NR_EOH": 0x40000,
    "NR_BODY": 0x80000,
    "LEADING_SPACE": 0x100000,
    "MDS_256K": 0x10000000,
    "MDS_1M": 0x20000000,
}
# Stage: code letter, NO bit, NR bit, number in a macro list.
STAGES = {
    "CONNECT": ("C", 0x1, 0x1000, 0),
    "HELO": ("H", 0x2, 0x2000, 1),
    "MAIL": ("M", 0x4, 0x4000, 2),
    "RCPT": ("R", 0x8, 0x8000, 3),
    "DATA": ("T", 0x200, 0x10000, 4),
    "HEADER": ("L", 0x20, 0x80, None),
    "EOH": ("N", 0x40, 0x40000, 6),
    "BODY": ("B", 0x10, 0x80000, None),
    "EOM": ("E", 0, 0, 5),
    "UNKNOWN": ("U", 0x100, 0x20000, None),
}


def test_every_command_has_the_code_of_the_protocol() -> None:
    assert {command.name: chr(command) for command in Command} == COMMANDS


def test_every_reply_has_the_code_of_the_protocol_and_forbidden_ones_have_none() -> None:
    """P-094: the codes ``4``, ``f`` and ``l`` do not exist here, so they cannot be sent."""
    assert {reply.name: chr(reply) for reply in ReplyCode} == REPLIES
    assert not {"4", "f", "l"} & {chr(reply) for reply in ReplyCode}


def test_every_action_has_its_bit() -> None:
    assert {action.name: action.value for action in Action} == ACTIONS


def test_every_protocol_flag_has_its_bit() -> None:
    assert {flag.name: flag.value for flag in Protocol} == PROTOCOL


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_knows_its_packet_its_bits_and_its_macro_list(stage: Stage) -> None:
    assert (chr(stage.command), stage.no_flag, stage.nr_flag, stage.symlist) == STAGES[stage.name]


def test_stages_are_in_the_order_of_play() -> None:
    assert [stage.name for stage in sorted(Stage)] == list(STAGES)


def test_masks_hold_the_bits_of_their_tables() -> None:
    assert constants.ALL_ACTIONS == sum(ACTIONS.values()) == 0x1FF
    assert constants.ALL_PROTOCOL == sum(PROTOCOL.values()) - 0x30000000 == 0x1FFFFF
    assert constants.NO_FLAGS == sum(no for _, no, _, _ in STAGES.values()) == 0x37F
    assert constants.NR_FLAGS == sum(nr for _, _, nr, _ in STAGES.values()) == 0xFF080
    assert (constants.V1_ACTIONS, constants.V1_PROTOCOL) == (0x0F, 0x3F)


def test_limits_are_those_of_libmilter() -> None:
    assert (constants.MIN_VERSION, constants.MAX_VERSION) == (2, 6)
    assert constants.MAX_FRAME_SIZE == constants.BODY_CHUNK_SIZE == 65535


def test_all_names_exist() -> None:
    assert all(hasattr(constants, name) for name in chain(constants.__all__))
