"""Generated conversations with compositions: any packets in any order, filters that answer, raise and wait at random."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter import CONTINUE, Context, Stage
from aiomilter.compose import check, compose, edit
from aiomilter.handler import CALLBACKS as NAME_OF
from aiomilter.message import Message, MessageMilter
from tests.peer import OPENING, QUIT, filter_class, frames, names, offer, serving
from tests.test_session_generated import ORDERS, PACKETS, Chance, check_pairs, due, play_of, run

EDITS = frozenset("himb+-eq")
"""The codes of edits."""


def editing(chance: Chance) -> type[MessageMilter]:
    """Return an edit that changes something, and then does what chance says."""

    class Editing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> Any:
            message.headers.append("X-Edited", "1")
            message.banner("Edited")
            return await chance(self, ctx, None)

    return Editing


def composed(seed: int, silent: list[str]) -> tuple[Any, list[Any], list[Chance]]:
    """Return a composition of up to three checks and two edits, its checks, and what they go by."""
    choose = random.Random(seed)
    chances = [Chance(seed + number) for number in range(choose.randint(1, 3))]
    checks = []
    for chance in chances:
        called = ["envfrom", *choose.sample(sorted({*NAME_OF.values()} - {"envfrom"}), 4)]
        quiet = [name for name in called if name in silent]
        checks.append(filter_class(play_of(chance), silent=quiet, callbacks=[*called, "abort", "close"]))
    members: list[Any] = [
        check(
            each, name=f"c{number}", on_error=choose.choice([None, CONTINUE]), after=[f"c{number - 1}"] * (number > 1)
        )
        for number, each in enumerate(checks)
    ]
    for number in range(choose.randint(0, 2)):
        chances.append(Chance(seed - number))
        members.append(edit(editing(chances[-1]), name=f"e{number}", on_error=choose.choice([None, CONTINUE])))
    return compose(*members), checks, chances


@pytest.mark.slow
@given(
    order=ORDERS,
    seed=st.integers(0, 2**32),
    size=st.sampled_from([0, 0, 1, 5, 50]),
    end=st.sampled_from(["quit", "lost", "garbage", "server"]),
    silent=st.booleans(),
)
def test_any_conversation_all_at_once(order: str, seed: int, size: int, end: str, silent: bool) -> None:
    """One answer at most for each packet; callbacks of one filter do not overlap; nothing is left behind."""

    async def scenario() -> None:
        stages = [NAME_OF[stage] for stage in Stage if stage is not Stage.EOM] if silent else []
        milter, checks, chances = composed(seed, stages)
        async with serving(milter) as scene:
            peer = scene.peer()
            octets = OPENING + b"".join(PACKETS[letter] for letter in order)
            peer.write(octets + {"quit": QUIT, "garbage": b"\0\0\0\0"}.get(end, b""), size=size)
            if end == "lost":
                peer.hang_up()
            if end == "server":
                await scene.server.close()
            await peer.quiet()
            assert peer.wire.lost
            assert not any(each.running for each in chances)
            answers = [code for code, _ in frames(peer.octets)[1:] if code not in EDITS]
            assert len(answers) <= 2 + len(due(order, frozenset()))
        for each in checks:
            # One was made to see that it can be, and one to see that the handler can be.
            assert names(each).count("close") == len(each.made) - 2

    run(scenario())


@pytest.mark.slow
@given(order=ORDERS, seed=st.integers(0, 2**32), size=st.sampled_from([0, 0, 1, 7]))
def test_any_conversation_one_packet_at_a_time(order: str, seed: int, size: int) -> None:
    """An MTA that waits for each answer gets exactly one."""

    async def scenario() -> None:
        milter, checks, _ = composed(seed, [])
        async with serving(milter) as scene:
            peer = await scene.opened(offer())
            (agreed,) = frames(peer.octets)
            quiet = frozenset(stage for stage in Stage if int.from_bytes(agreed[1][8:12], "big") & int(stage.nr_flag))
            for letter in order:
                before = len(peer.octets)
                await peer.send(PACKETS[letter], size=size)
                assert not peer.wire.closing
                found = frames(peer.octets[before:])
                asked = due(letter, quiet)
                final = [code for code, _ in found if code not in EDITS]
                assert len(final) == len(asked), (letter, found)
            await peer.send(QUIT)
            assert peer.wire.lost
        for each in checks:
            check_pairs(each)

    run(scenario())
