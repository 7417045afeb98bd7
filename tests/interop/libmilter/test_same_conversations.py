"""The same conversations played to a filter on libmilter and to ours: equal, or a listed improvement.

Compared are the octets answered to each packet, the callbacks with their arguments and look-ups, and whether the connection
was closed.  Edits alone are put into the order in which ours leave before that.
"""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.rules import TEXT, titles
from tests.interop.libmilter.conftest import Tally
from tests.interop.libmilter.conversations import CONVERSATIONS
from tests.interop.libmilter.improvements import differences, improvements, listed
from tests.interop.libmilter.playing import Played, canonical, play_to_libmilter, play_to_us

GROUPS: Final = sorted({name.partition(":")[0] for name in CONVERSATIONS})


@pytest.mark.interop
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_is_taken_as_libmilter_takes_it_or_the_difference_is_listed(
    name: str, program: Path, tally: Tally
) -> None:
    """P-010 to P-024, P-030 to P-050, P-060 to P-071, P-080 to P-108, P-110 to P-123."""
    packets, script = CONVERSATIONS[name]
    theirs = play_to_libmilter(program, script, packets)
    ours = asyncio.run(play_to_us(script, packets))
    found = differences(theirs, ours)
    tally.add(theirs, ours, len(found))

    report = "\n".join([f"= {name}", *map(str, found)])
    assert found == listed(name), f"expected {listed(name)}, found\n{report}"


@pytest.mark.interop
@pytest.mark.parametrize(
    "name", ["edit: all of them", "edit: all of them, with reject", "edit: a field changed twice", "edit: progress"]
)
def test_edits_leave_in_the_order_of_ours_not_as_they_were_called(name: str, program: Path) -> None:
    """P-117, P-120: what :func:`canonical` does to libmilter's answers has something to do."""
    packets, script = CONVERSATIONS[name]
    theirs = play_to_libmilter(program, script, packets)
    ours = asyncio.run(play_to_us(script, packets))
    end = next(number for number, step in enumerate(theirs.steps) if "eom" in step.calls)
    assert theirs.steps[end] != ours.steps[end]
    assert canonical(theirs.steps[end].answers) == canonical(ours.steps[end].answers) == list(ours.steps[end].answers)


def test_the_table_names_conversations_and_rules_that_are_there() -> None:
    sections = titles()
    for block in improvements():
        assert block.libmilter.endswith(".")
        assert block.aiomilter.endswith(".")
        assert block.differences
        assert block.differences.keys() <= CONVERSATIONS.keys()
        for rule in block.rule.split(", "):
            if rule.startswith("P-"):
                assert int(rule[2:]) in TEXT
            else:
                assert rule.strip('"') in sections
    places = [
        (name, difference.step)
        for block in improvements()
        for name, found in block.differences.items()
        for difference in found
    ]
    assert len(places) == len(set(places))


_PLAYED: Final[dict[str, Played]] = {}


async def played(name: str) -> Played:
    """What ours does, packet by packet."""
    if name not in _PLAYED:
        packets, script = CONVERSATIONS[name]
        _PLAYED[name] = await play_to_us(script, packets)
    return _PLAYED[name]


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
async def test_it_does_not_matter_whether_callbacks_suspend(group: str) -> None:
    """P-005."""
    for name, (packets, script) in CONVERSATIONS.items():
        if name.startswith(f"{group}:"):
            assert await play_to_us(script, packets, suspends=True) == await played(name), name


@pytest.mark.slow
@pytest.mark.parametrize("size", [1 << 16, 7])
@pytest.mark.parametrize("group", GROUPS)
async def test_it_does_not_matter_how_octets_are_cut(group: str, size: int) -> None:
    """P-004, P-005: all in one read, and 7 octets in each."""
    for name, (packets, script) in CONVERSATIONS.items():
        octets = b"".join(packets)
        if name.startswith(f"{group}:") and len(octets) < 10_000:
            cut = [octets[at : at + size] for at in range(0, len(octets), size)]
            assert together(await play_to_us(script, cut)) == together(await played(name)), name


def together(conversation: Played) -> tuple[list[tuple[str, bytes]], list[str]]:
    """All that was answered, and all that was called."""
    answers = [answer for step in conversation.steps for answer in step.answers]
    return answers, [call for step in conversation.steps for call in step.calls]
