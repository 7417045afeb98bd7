from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import LocalProtocolError, NegotiationError, RemoteProtocolError
from aiomilter.wire import negotiation
from aiomilter.wire.constants import Action, Protocol, Stage
from aiomilter.wire.events import Negotiate
from aiomilter.wire.negotiation import (
    USUAL_MACROS,
    NegotiateAnswer,
    Wants,
    agree,
    canonical_macro,
    check_answer,
    macro_lists,
)
from tests.wire.packets import EXAMPLE_FROM_FILTER, Asked
from tests.wire.strategies import U32, WANTS

ALL = Negotiate(6, 0x1FF, 0x1FFFFF)
NOTHING = Wants(frozenset())
EVERYTHING = Wants(frozenset(Stage))
C, H, M, R, T = Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA
L, N, B, E, U = Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM, Stage.UNKNOWN

# Flags by stage, as in aiomilter/help/protocol.rst, "Protocol flags".
NO = {C: 0x1, H: 0x2, M: 0x4, R: 0x8, B: 0x10, L: 0x20, N: 0x40, U: 0x100, T: 0x200, E: 0}
NR = {L: 0x80, C: 0x1000, H: 0x2000, M: 0x4000, R: 0x8000, T: 0x10000, U: 0x20000, N: 0x40000, B: 0x80000, E: 0}
SKIP, RCPT_REJ, LEADSPC = 0x400, 0x800, 0x100000


def answered(wants: Wants, offer: Negotiate = ALL) -> int:
    """Return the protocol bits that are answered."""
    return agree(offer, wants).answer.protocol


@pytest.mark.parametrize(("offered", "spoken"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 6), (2**32 - 1, 6)])
def test_the_older_version_is_spoken(offered: int, spoken: int) -> None:
    """P-013."""
    assert agree(Negotiate(offered, 0x1FF, 0x1FFFFF), EVERYTHING).answer.version == spoken


@pytest.mark.parametrize("version", [0, 1])
def test_a_version_that_is_too_old_breaks_the_protocol(version: int) -> None:
    """P-011."""
    with pytest.raises(RemoteProtocolError, match=f"expected version 2 or later, found {version}"):
        agree(Negotiate(version, 0x0F, 0x3F), EVERYTHING)


# Offers that were seen, or could be: actions and protocol bits that may be answered.
OFFERS = [
    (Negotiate(6, 0x1FF, 0x1FFFFF), 0x1FF, 0x1FFFFF),  # Sendmail 8.17, Postfix with milter_protocol 6
    (Negotiate(4, 0x1FF, 0x37F), 0x1FF, 0x37F),  # Postfix with milter_protocol 4
    (Negotiate(3, 0x1FF, 0x17F), 0x1FF, 0x17F),
    (Negotiate(2, 0x1FF, 0x7F), 0x1FF, 0x7F),
    (Negotiate(2, 0x3F, 0x7F), 0x3F, 0x7F),  # Sendmail 8.13
    (Negotiate(2, 0, 0), 0x0F, 0x3F),
    (Negotiate(6, 0, 0), 0x0F, 0x3F),
    (Negotiate(6, 0x1FF, 0), 0x1FF, 0x3F),
    (Negotiate(6, 0, 0x1FFFFF), 0x0F, 0x1FFFFF),
    (Negotiate(6, 0x1FF, 0x701FFFFF), 0x1FF, 0x1FFFFF),  # MDS bits, and the reserved one
    (Negotiate(6, 0x1FF, 0x801FFFFF), 0x1FF, 0x1FFFFF),  # the bit of test builds
    (Negotiate(7, 0xFFFFFFFF, 0xFFFFFFFF), 0x1FF, 0x1FFFFF),
    (Negotiate(6, 0xFFFFFE00, 0xFFE00000), 0, 0),  # only bits that nobody knows
]


@pytest.mark.parametrize(("offer", "actions", "protocol"), OFFERS)
def test_nothing_is_answered_that_was_not_offered(offer: Negotiate, actions: int, protocol: int) -> None:
    """P-014, P-015, P-016: a filter that takes what is offered gets all of it, and nothing more."""
    greedy = Wants(frozenset(Stage), frozenset(Stage), leading_space=True, rejected_recipients=True)
    agreed = agree(offer, greedy)
    assert agreed.answer.actions == agreed.actions == actions
    assert agreed.answer.protocol == protocol & (sum(NR.values()) | SKIP | RCPT_REJ | LEADSPC)
    idle = agree(offer, NOTHING)
    assert idle.answer.protocol == protocol & sum(NO.values())
    assert idle.offer == offer


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.builds(Negotiate, st.integers(2, 2**32 - 1), U32, U32), WANTS)
def test_any_agreement_is_within_its_offer_and_says_what_it_means(offer: Negotiate, wants: Wants) -> None:
    """P-014, P-015, P-016, P-018, P-020."""
    agreed = agree(offer, wants)
    answer = agreed.answer
    assert answer.version == min(6, offer.version)
    assert answer.actions & ~(offer.actions or 0x0F) == 0
    assert answer.protocol & ~(offer.protocol or 0x3F) == 0
    assert answer.protocol >> 21 == 0
    assert answer.actions >> 9 == 0
    assert agreed.silent == {stage for stage in Stage if answer.protocol & NR[stage]}
    assert agreed.declined == {stage for stage in Stage if answer.protocol & NO[stage]}
    assert not agreed.declined & wants.stages
    assert not agreed.silent & agreed.declined
    assert agreed.silent & wants.stages <= wants.no_reply
    assert agreed.skip is bool(answer.protocol & SKIP)
    assert agreed.leading_space is bool(answer.protocol & LEADSPC)
    check_answer(Negotiate(offer.version, offer.actions or 0x0F, offer.protocol or 0x3F), answer)
    assert NegotiateAnswer.decode(answer.payload) == answer


@pytest.mark.parametrize("stage", Stage)
def test_each_bit_is_answered_only_if_it_is_offered(stage: Stage) -> None:
    """P-016, P-017, P-018: every NO and NR bit, alone and all but it."""
    silent = Wants(frozenset(Stage), frozenset({stage}))
    for wants, bit in ((NOTHING, NO[stage]), (silent, NR[stage])):
        whole = answered(wants)
        assert whole & bit == bit
        # An offer of 0 would mean the oldest one, so a bit that nobody knows goes with it.
        assert answered(wants, Negotiate(6, 0, bit | 2**30)) == whole & bit
        assert answered(wants, Negotiate(6, 0, 0x1FFFFF & ~bit)) == whole & ~bit


# Stages with a callback; expected NO bits; expected NR bits.
STAGES: list[tuple[str, str, str]] = [
    ("", "C H M R T L N B U", ""),
    ("C", "H M R T L N B U", ""),
    ("H", "M R T L N B U", "C"),
    ("M", "R T L N B U", "C H"),
    ("R", "T L N B U", "C H M"),
    ("T", "L N B U", "C H M R"),
    ("L", "T N B U", "C H M R"),
    ("N", "T L B U", "C H M R"),
    ("B", "T L N U", "C H M R"),
    ("E", "T L N B U", "C H M R"),
    ("U", "T L N B", "C H M R"),
    ("C E", "T L N B U", "H M R"),
    ("C H M R T L N B E U", "", ""),
    ("C H", "M R T L N B U", ""),
    ("H R", "T L N B U", "C M"),
]


def stages(letters: str) -> frozenset[Stage]:
    """Return the stages that letters stand for."""
    by_letter = dict(zip("CHMRTLNBEU", (C, H, M, R, T, L, N, B, E, U), strict=True))
    return frozenset(by_letter[letter] for letter in letters.split())


@pytest.mark.parametrize(("handled", "declined", "silent"), STAGES)
def test_stages_without_callback_are_declined_or_come_without_reply(handled: str, declined: str, silent: str) -> None:
    """P-017: who speaks is known to every later callback, whether or not its own stage has one."""
    agreed = agree(ALL, Wants(stages(handled)))
    assert agreed.declined == stages(declined)
    assert agreed.silent == stages(silent)
    skip = SKIP if "B" in handled else 0
    assert agreed.answer.protocol == skip | sum(NO[stage] for stage in stages(declined)) | sum(
        NR[stage] for stage in stages(silent)
    )


def test_a_filter_of_ends_alone_is_told_whose_end_it_is() -> None:
    """P-017: ``abort`` and ``close`` come later than every stage."""
    agreed = agree(ALL, Wants(frozenset(), ends=True))
    assert agreed.silent == stages("C H M R")
    assert agreed.declined == stages("T L N B U")


def test_where_no_reply_is_not_offered_the_stages_come_and_are_answered() -> None:
    """P-017, P-019: the answer is ours to send, so the stage is not silent."""
    agreed = agree(Negotiate(2, 0x3F, 0x7F), Wants(stages("M L E"), stages("M L")))
    assert agreed.silent == frozenset()
    assert agreed.declined == stages("N B")
    assert agreed.answer.protocol == 0x50


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not E])
def test_no_reply_is_asked_for_where_it_was_declared_and_nowhere_else(stage: Stage) -> None:
    """P-018."""
    assert agree(ALL, Wants(frozenset(Stage), frozenset({stage}))).silent == {stage}
    assert agree(ALL, EVERYTHING).silent == frozenset()


def test_end_of_message_always_takes_an_answer() -> None:
    """P-018."""
    agreed = agree(ALL, Wants(frozenset(Stage), frozenset({E})))
    assert agreed.silent == agreed.declined == frozenset()


@pytest.mark.parametrize(
    ("wants", "bit"),
    [
        (Wants(stages("B")), SKIP),
        (Wants(frozenset(), rejected_recipients=True), RCPT_REJ),
        (Wants(frozenset(), leading_space=True), LEADSPC),
    ],
)
def test_the_other_forms_are_asked_for_if_wanted_and_offered(wants: Wants, bit: int) -> None:
    """P-020."""
    assert answered(wants) & bit
    assert not answered(wants, Negotiate(6, 0x1FF, 0x1FFFFF & ~bit)) & bit
    assert not answered(NOTHING) & bit


@pytest.mark.parametrize("action", Action)
def test_a_required_action_that_is_not_offered_ends_the_negotiation(action: Action) -> None:
    """P-015."""
    wants = Wants(frozenset(), actions=action)
    assert agree(ALL, wants).actions == 0x1FF
    with pytest.raises(NegotiationError, match=f"does not offer what the filter requires.*{action.name}"):
        agree(Negotiate(6, 0x1FF & ~action, 0x1FFFFF), wants)
    assert agree(Negotiate(6, 0x1FF & ~action, 0x1FFFFF), NOTHING).actions == 0x1FF & ~action


def test_a_required_action_counts_as_offered_by_an_old_offer_of_none() -> None:
    """P-014, P-015."""
    assert agree(Negotiate(2, 0, 0), Wants(frozenset(), actions=Action.ADD_HEADERS)).actions == 0x0F
    with pytest.raises(NegotiationError, match="CHANGE_HEADERS"):
        agree(Negotiate(2, 0, 0), Wants(frozenset(), actions=Action.ADD_HEADERS | Action.CHANGE_HEADERS))


@pytest.mark.parametrize("required", [None, Action(0), Action.ADD_HEADERS, Action.ADD_HEADERS | Action.QUARANTINE])
def test_what_is_offered_is_taken_whatever_is_required(required: Action | None) -> None:
    """P-015: a filter that names what it requires has not given up the rest."""
    assert agree(ALL, Wants(frozenset(), actions=required)).actions == 0x1FF
    assert agree(Negotiate(6, 0x7F, 0), Wants(frozenset(), actions=required)).actions == 0x7F


def test_the_worked_example_is_what_its_filter_wants() -> None:
    answer = agree(ALL, Wants(frozenset(Stage) - {B}, actions=Action.ADD_HEADERS)).answer
    first = EXAMPLE_FROM_FILTER[0]
    assert isinstance(first, Asked)
    # Its filter sees the body as well, does not ask for SKIP, and gives up the actions it does not need.
    assert NegotiateAnswer(answer.version, answer.actions & 0x01, answer.protocol & ~0x10) == first.packet


LISTS: list[tuple[Mapping[Stage, tuple[str, ...]], set[Stage]]] = [
    ({}, set()),
    ({C: ()}, {C}),
    ({M: ("{client_addr}",), R: ("x",)}, {M, R}),
    ({E: ("x",)}, {N, E}),
    ({N: ("x",)}, {N, E}),
    ({E: ("x",), N: ("y",)}, {N, E}),
    ({T: ("x",)}, {T}),
]


@pytest.mark.parametrize(("wanted", "sent"), LISTS)
def test_a_macro_list_keeps_the_usual_names_and_end_of_message_never_comes_alone(
    wanted: Mapping[Stage, tuple[str, ...]], sent: set[Stage]
) -> None:
    """P-021, P-022."""
    lists = macro_lists(wanted)
    assert set(lists) == sent
    for stage, names in lists.items():
        assert names == (*USUAL_MACROS[stage], *wanted.get(stage, ()))


def test_macro_lists_travel_if_they_are_offered() -> None:
    """P-021, P-022: stage numbers 5 and 6 are end of message and end of header, and come in this order, as libmilter's."""
    wants = Wants(frozenset(Stage), macros={E: ("{xx}",)})
    payload = agree(ALL, wants).answer.payload
    assert payload[12:] == b"\0\0\0\5i {msg_id} {xx}\0\0\0\0\6i\0"
    assert agree(ALL, wants).actions & Action.SET_MACROS
    without = agree(Negotiate(6, 0xFF, 0x1FFFFF), wants)
    assert without.answer.macros == {}
    assert without.actions == 0xFF


def test_a_macro_list_asks_for_its_action_even_if_none_was_declared() -> None:
    """P-021: a list without it would be against what was answered."""
    wants = Wants(frozenset(Stage), actions=Action.ADD_HEADERS, macros={M: ("x",)})
    assert agree(ALL, wants).actions & Action.SET_MACROS
    assert not agree(Negotiate(6, 0xFF, 0), wants).answer.macros


@pytest.mark.parametrize(
    ("name", "canonical", "travelling"),
    [
        ("i", "i", "i"),
        ("{i}", "i", "i"),
        ("_", "_", "_"),
        ("mail_addr", "mail_addr", "{mail_addr}"),
        ("{mail_addr}", "mail_addr", "{mail_addr}"),
        ("{x", "{x", None),
        ("x}", "x}", None),
        ("{", "{", None),
        ("", "", None),
    ],
)
def test_a_macro_has_one_name_with_and_without_braces(name: str, canonical: str, travelling: str | None) -> None:
    """P-082."""
    assert canonical_macro(name) == canonical
    if travelling is not None:
        names = macro_lists({R: (name,)})[R]
        assert (travelling in names, len(names)) == (True, 4 if name in ("i", "{i}") else 5)


@pytest.mark.parametrize(
    "name", ["", "{}", "a b", "{a b}", "a,b", "a\0b", "a\tb", "a\n", "{{x}}", "{x", "x}", "a{b}", 7, None]
)
def test_what_is_no_macro_name_is_refused(name: str) -> None:
    """P-021, P-123: it would change the list it stands in."""
    with pytest.raises(LocalProtocolError, match="macro name: expected"):
        macro_lists({M: (name,)})


@pytest.mark.parametrize("stage", [L, B, U])
def test_a_macro_list_is_for_a_stage_that_has_one(stage: Stage) -> None:
    """P-021."""
    with pytest.raises(LocalProtocolError, match=f"macro list: expected a stage .* found {stage.name}"):
        macro_lists({stage: ("x",)})


def test_the_usual_macros_are_those_of_both_mtas() -> None:
    """P-021: a list of ours replaces theirs."""
    assert {stage.name: " ".join(names) for stage, names in USUAL_MACROS.items()} == {
        "CONNECT": "j _ v {daemon_name} {daemon_addr} {if_name} {if_addr}",
        "HELO": "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
        "MAIL": "i {auth_type} {auth_authen} {auth_author} {auth_ssf} {mail_addr} {mail_host} {mail_mailer}",
        "RCPT": "i {rcpt_addr} {rcpt_host} {rcpt_mailer}",
        "DATA": "i",
        "EOH": "i",
        "EOM": "i {msg_id}",
    }


OFFER = Negotiate(6, 0xFF, 0xFFFFF)
# Version, actions, protocol; accepted by the strict check; by the lenient one.
REACTIONS = [
    (6, 0xFF, 0xFFFFF, True, True),
    (6, 0, 0, True, True),
    (5, 0, 0, True, True),
    (2, 0, 0, True, True),
    (1, 0, 0, False, True),
    (0, 0, 0, False, True),
    (7, 0, 0, False, False),
    (2**32 - 1, 0, 0, False, False),
    (6, 0x100, 0, False, False),
    (6, 0x1FF, 0, False, False),
    (6, 0, 0x100000, False, True),
    (6, 0, 0x10000000, False, True),
    (6, 0, 0x80000000, False, True),
]


@pytest.mark.parametrize(("version", "actions", "protocol", "strict", "lenient"), REACTIONS)
def test_an_answer_is_checked_as_the_mtas_do(
    version: int, actions: int, protocol: int, strict: bool, lenient: bool
) -> None:
    """P-142: strict as Sendmail, lenient as Postfix."""
    answer = NegotiateAnswer(version, actions, protocol)
    for forgiving, passes in ((False, strict), (True, lenient)):
        if passes:
            check_answer(OFFER, answer, lenient=forgiving)
        else:
            with pytest.raises(RemoteProtocolError, match="OPTNEG answer: expected"):
                check_answer(OFFER, answer, lenient=forgiving)


@pytest.mark.parametrize("bit", [1 << n for n in range(32)])
def test_every_bit_that_was_not_offered_is_refused_in_an_answer(bit: int) -> None:
    """P-142."""
    with pytest.raises(RemoteProtocolError, match=f"found {bit:#x} more"):
        check_answer(Negotiate(6, 0xFFFFFFFF & ~bit, 0xFFFFFFFF), NegotiateAnswer(6, 0xFFFFFFFF, 0))
    with pytest.raises(RemoteProtocolError, match=f"found {bit:#x} more"):
        check_answer(Negotiate(6, 0xFFFFFFFF, 0xFFFFFFFF & ~bit), NegotiateAnswer(6, 0, 0xFFFFFFFF))


def test_the_flags_of_an_agreement_are_bits_of_protocol() -> None:
    assert (Protocol.SKIP, Protocol.REJECTED_RECIPIENTS, Protocol.LEADING_SPACE) == (SKIP, RCPT_REJ, LEADSPC)


def test_all_names_exist() -> None:
    assert all(hasattr(negotiation, name) for name in negotiation.__all__)
