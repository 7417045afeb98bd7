"""What a store can do: four operations, each of them one atomic step, with one meaning on every store.

A step gets the states of some subjects, three integers and an expiry each, and leaves new ones.  The functions here are that
meaning; :mod:`~aiomilter.policy.stores.memory` and :mod:`~aiomilter.policy.stores.sqlite` call them, and the Lua of
:mod:`~aiomilter.policy.stores.redis` and the SQL of :mod:`~aiomilter.policy.stores.postgresql` say the same.  All numbers are
whole and below 2**53, since Lua knows no larger ones; times are microseconds since 1970.

A subject may have several keys, where the secret that keys are made with has been changed: the first is the newest.  The state
is that of the first key which has one, and is written to the newest.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, Protocol, TypeAlias

__all__ = ["CAP", "OPERATIONS", "SECOND", "Mode", "Op", "State", "Store", "apply"]

SECOND: Final = 1_000_000
"""Microseconds."""
CAP: Final = 2**31 - 1
"""No count is larger."""


class Op(IntEnum):
    """An operation.

    What it takes as ``args``, after the number of keys a subject has and a :class:`Mode`, and what it answers:

    - ``GCRA``, rates: cost, then interval and tolerance of each subject.  Whether the cost is too much, how long to wait, how
      much is left.  All rates count it, or none.
    - ``COUNT``, reputation: seconds in which counts halve, time to keep it, good and bad thousandths.  Good and bad ones.
    - ``PAIR``, known senders: time to keep it.  How often each subject was noted.
    - ``GREY``, greylisting: delay, window, time to keep it, passes that make a client known, and how many subjects are ways
      through; the one after them, if any, is the client.  Verdict (0 wait, 1 pass, 2 known), time to wait, time of the first
      attempt, passes.
    """

    GCRA = 0
    COUNT = 1
    PAIR = 2
    GREY = 3


class Mode(IntEnum):
    """Whether a step changes anything."""

    LOOK = 0
    DO = 1
    FORGET = 2


class State(NamedTuple):
    """What a store keeps of a subject.

    Args:
        expiry: From then on there is none.
        a: Three numbers, whose meaning is the operation's.
        b: See ``a``.
        c: See ``a``.
    """

    expiry: int
    a: int = 0
    b: int = 0
    c: int = 0


Answer: TypeAlias = tuple[int, ...]
States: TypeAlias = Sequence[State | None]
Step: TypeAlias = tuple[States, Answer]
"""The states afterwards, and the answer."""


class Store(Protocol):
    """Where policies keep what outlives a message."""

    async def step(self, op: Op, keys: Sequence[bytes], args: Sequence[int]) -> Sequence[int]:
        """Do one atomic step for all keys, and return its answer.

        Raises:
            StoreError: It could not be done, or nobody knows whether it was.
        """

    async def ready(self) -> str | None:
        """Return what keeps the store from working; None if nothing does."""

    async def aclose(self) -> None:
        """Close it."""


def gcra(now: int, states: States, args: Sequence[int]) -> Step:
    """Count a cost against some rates.

    The state is the time at which all that was counted will have been worked off.  Nothing is ever counted above the tolerance.
    """
    if len(states) == 1:
        # What most steps are, at a third of the cost (python -m benchmarks state).
        cost, interval, tolerance = args
        (state,) = states
        at = now if state is None or state.a < now else state.a
        then = at + cost * interval
        over = then - tolerance - now
        left = (tolerance + now - (at if over > 0 else then)) // interval
        if over > 0:
            return states, (1, over, left if left > 0 else 0)
        return (State(then, then, 0, 0),), (0, 0, left if left > 0 else 0)
    cost, wait, before, after = args[0], -1 << 63, [], []
    for number, state in enumerate(states):
        at = now if state is None or state.a < now else state.a
        before.append(at)
        at += cost * args[2 * number + 1]
        after.append(at)
        if (over := at - args[2 * number + 2] - now) > wait:
            wait = over
    exceeded = wait > 0
    remaining = min(
        (args[2 * number + 2] - (at - now)) // args[2 * number + 1]
        for number, at in enumerate(before if exceeded else after)
    )
    if exceeded:
        return states, (1, wait, max(remaining, 0))
    return [State(at, at) for at in after], (0, 0, max(remaining, 0))


def count(now: int, states: States, args: Sequence[int]) -> Step:
    """Add to two counts, which have halved with time: between two halvings they fall in a straight line."""
    half_life, keep, good, bad = args
    (state,) = states
    seconds = now // SECOND
    found = (0, 0)
    if state is not None:
        times, rest = divmod(max(0, seconds - state.c), half_life)
        halved = state.a >> min(times, 40), state.b >> min(times, 40)
        found = halved[0] - halved[0] * rest // (2 * half_life), halved[1] - halved[1] * rest // (2 * half_life)
    found = min(found[0] + good, CAP), min(found[1] + bad, CAP)
    return [State(now + keep, *found, seconds)], found


def pair(now: int, states: States, args: Sequence[int]) -> Step:
    """Note each subject once more."""
    (keep,) = args
    counts = [0 if state is None else state.a for state in states]
    return [State(now + keep, min(each + 1, CAP)) for each in counts], tuple(counts)


def grey(now: int, states: States, args: Sequence[int]) -> Step:
    """Let through what has come back after the delay, by one of its ways; or what comes from a known client."""
    delay, window, keep, often, number = args
    ways, client = states[:number], [*states[number:]]
    passes = client[0].a if client and client[0] is not None else 0
    known = passes >= often and bool(client)
    # Of a way: the first attempt, and how often it has passed; after the window, there is none.
    made = [way or State(now + window, now) for way in ways]
    ripe = [way.b > 0 or now - way.a >= delay for way in made]
    first = min(way.a for way in made)
    if not known and not any(ripe):
        wait = min(way.a + delay - now for way in made)
        return [*made, *client], (0, wait, first, 0)
    made = [
        State(now + keep, way.a, min(way.b + 1, CAP)) if good else way for way, good in zip(made, ripe, strict=True)
    ]
    if client and (known or any(ripe)):
        client = [State(now + keep, min(passes + 1, CAP))]
    return [*made, *client], (2 if known else 1, 0, first, max(way.b for way in made))


OPERATIONS: Final[Mapping[Op, Callable[[int, States, Sequence[int]], Step]]] = {
    Op.GCRA: gcra,
    Op.COUNT: count,
    Op.PAIR: pair,
    Op.GREY: grey,
}


class Table(Protocol):
    """Where :func:`apply` reads and writes."""

    def get(self, key: bytes) -> State | None:
        """Return the state of a key, expired or not."""

    def put(self, key: bytes, state: State) -> None:
        """Write one."""

    def remove(self, key: bytes) -> None:
        """Remove one, if there is any."""


def apply(op: Op, table: Table, now: int, keys: Sequence[bytes], args: Sequence[int]) -> Answer:
    """Do a step on a table that nobody else changes meanwhile."""
    each, mode = args[0], args[1]
    if each == 1:
        return _apply_plainly(op, table, now, keys, args)
    subjects = [keys[at : at + each] for at in range(0, len(keys), each)]
    found: list[State | None] = []
    places: list[bytes | None] = []
    for subject in subjects:
        for key in subject:
            state = table.get(key)
            if state is not None and state.expiry > now:
                found.append(state)
                places.append(key)
                break
        else:
            found.append(None)
            places.append(None)
    made, answer = OPERATIONS[op](now, found, args[2:])
    if mode == Mode.FORGET:
        for key in keys:
            table.remove(key)
    elif mode == Mode.DO:
        for subject, before, place, after in zip(subjects, found, places, made, strict=True):
            if after is not None and after != before:
                table.put(subject[0], after)
                if place is not None and place != subject[0]:
                    table.remove(place)
    return answer


def _apply_plainly(op: Op, table: Table, now: int, keys: Sequence[bytes], args: Sequence[int]) -> Answer:
    """Do a step where each subject has one key."""
    found: list[State | None] = []
    for key in keys:
        state = table.get(key)
        found.append(state if state is not None and state.expiry > now else None)
    made, answer = OPERATIONS[op](now, found, args[2:])
    mode = args[1]
    if mode == 1:  # Mode.DO: its name would cost a tenth of the step
        for key, before, after in zip(keys, found, made, strict=True):
            if after is not None and after != before:
                table.put(key, after)
    elif mode == Mode.FORGET:
        for key in keys:
            table.remove(key)
    return answer
