"""Captured conversations as recorded sessions, and filters that answer as one of them was answered."""

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final

from aiomilter import Milter, Stage, no_reply
from aiomilter.handler import CALLBACKS
from aiomilter.recording import FILTER, MTA, Packet, Recording
from aiomilter.recording.format import Head, head_of
from aiomilter.testing._exchanges import exchanges_of
from aiomilter.testing._replay import ReplayPlan
from aiomilter.wire.constants import Protocol
from aiomilter.wire.framing import packet
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.replies import CONTINUE
from tests.conformance.capture import Conversation
from tests.mta.fakes import MemoryFilter

_SIDES: Final = {"M": MTA, "F": FILTER}


def recording_of(conversation: Conversation) -> Recording:
    """Return a captured conversation as a recorded session; a burst takes a millisecond."""
    packets = tuple(
        Packet(each.burst / 1000, _SIDES[each.sender], each.octets[4], each.payload) for each in conversation.packets
    )
    head = head_of(packets, Head(time="2026-01-01T00:00:00Z", listener="inet:8890@127.0.0.1", filter="capture"))
    return Recording(conversation.name, head, packets)


def scripted(recording: Recording) -> type[Milter]:
    """Return a filter with the callbacks that the recorded one had; each answers as that did, in order."""
    plan = ReplayPlan(recording)
    script: dict[Stage, deque[Any]] = defaultdict(deque)
    for exchange, outcome in zip(plan.exchanges, plan.recorded, strict=True):
        if exchange.stage is not None:
            script[exchange.stage].append(outcome)
    protocol = plan.agreed.protocol
    members: dict[str, Any] = {
        "leading_space": bool(protocol & Protocol.LEADING_SPACE),
        "rejected_recipients": bool(protocol & Protocol.REJECTED_RECIPIENTS),
    }
    for stage, name in CALLBACKS.items():
        if not protocol & stage.no_flag:
            members[name] = _callback(stage, script, silent=bool(protocol & stage.nr_flag))
    return type("Scripted", (Milter,), members)


def _callback(stage: Stage, script: dict[Stage, deque[Any]], *, silent: bool) -> Callable[..., Any]:
    async def answered(self: Milter, ctx: Any, *event: Any) -> Any:
        outcome = script[stage].popleft()
        for change in outcome.modifications:
            _edit(ctx, change)
        return outcome.answer or CONTINUE

    async def silently(self: Milter, ctx: Any, *event: Any) -> None:
        pass

    return no_reply(silently) if silent else answered


def _edit(ctx: Any, change: Any) -> None:
    match change:
        case AddHeader(name, value):
            ctx.add_header(name, value)
        case InsertHeader(index, name, value):
            ctx.insert_header(name, value, index)
        case ChangeHeader(index, name, value):
            ctx.change_header(name, index, value) if value else ctx.delete_header(name, index)
        case ReplaceBody(chunk):
            ctx.replace_body(chunk)
        case ChangeSender(address, params):
            ctx.change_sender(address, *(params or "").split())
        case AddRecipient(address, params):
            ctx.add_recipient(address, *(params or "").split())
        case DeleteRecipient(address):
            ctx.delete_recipient(address)
        case Quarantine(reason):
            ctx.quarantine(reason)


class Recorded:
    """A filter of any make, in memory, that sends what the recorded one has sent, packet for packet.

    Args:
        recording: What it has sent.
    """

    def __init__(self, recording: Recording) -> None:
        self._script = deque(exchanges_of(recording))
        self.memory = MemoryFilter(self._answer)

    def _answer(self, code: str, payload: bytes) -> bytes | None:
        if code == "D":
            return None
        exchange = self._script.popleft()
        assert (code, payload) == (chr(exchange.code), exchange.payload)
        return b"".join(packet(*answer, max_size=1 << 20) for answer in exchange.answers)
