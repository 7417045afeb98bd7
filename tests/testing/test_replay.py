"""Recorded sessions replayed: equal on the filter that was recorded, different on another."""

from collections import Counter

import pytest

from aiomilter.recording import Recording
from aiomilter.testing import replay
from aiomilter.testing._replay import Played, ReplayPlan
from tests.conformance.capture import conversations, of_mtas
from tests.recorded import Recorded, recording_of, scripted

ORDERED_OTHERWISE = ("postfix-3.7-modify c1", "sendmail-8.17-modify c1")
"""We send edits in an order of our own; with these, a field that is added comes after another."""


def capture(name: str) -> Recording:
    return recording_of(conversations()[name])


@pytest.mark.parametrize("name", of_mtas())
async def test_every_capture_is_equal_on_a_filter_that_sends_the_same(name: str) -> None:
    plan = ReplayPlan(capture(name))
    filter = Recorded(plan.recording)
    outcomes, agreed = await plan.play((filter.memory.reader, filter.memory), timeout=5.0)
    result = plan.result(Played(outcomes, agreed), plan.recorded, whole=True)

    assert str(result) == f"{name}: equal"
    assert all(outcome.sent for outcome in outcomes)


@pytest.mark.parametrize("name", of_mtas())
async def test_every_capture_is_equal_on_a_filter_of_ours_that_answers_the_same(name: str) -> None:
    recording = capture(name)
    result = await replay(recording, scripted(recording))

    if name in ORDERED_OTHERWISE:
        (difference,) = result.differences
        assert Counter(difference.before.modifications) == Counter(difference.now.modifications)
    else:
        assert str(result) == f"{name}: equal"
    assert result.failures == ()
