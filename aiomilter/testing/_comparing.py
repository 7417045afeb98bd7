"""What differs between two plays of one session, and how it is shown."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mta import Answer, Delivered
from aiomilter.testing._exchanges import Exchange
from aiomilter.testing._outcomes import Outcome
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.events import Connect, Header, Helo, Mail, Rcpt
from aiomilter.wire.modifications import Modification
from aiomilter.wire.replies import ACCEPT, CONTINUE, SKIP, Reply

__all__ = ["Difference", "compare"]

_LONGEST_LINE: Final = 400
"""Characters of a line that are shown."""
_MOST_LINES: Final = 2000
"""Lines that are compared: difflib's time grows with the square."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A packet that came to something else than before.

    Args:
        number: Of the packet in the session, macros not counted; 1 is the first.
        stage: What it is called: "MAIL", "EOM".
        what: What it brought, for people: a path, the name of a header field; "" for nothing.
        before: What it came to in the recording, or for the filter that is compared with.
        now: What it comes to.
    """

    number: int
    stage: str
    what: str
    before: Outcome
    now: Outcome

    def lines(self) -> Iterator[str]:
        """Yield lines for people; text of the message in them is as it was sent."""
        place = " ".join(filter(None, (f"packet {self.number},", self.stage, self.what)))
        old, new = _answered(self.before), _answered(self.now)
        edited = Counter(self.before.modifications) != Counter(self.now.modifications)
        if old != new:
            yield f"{place}: {old}, now {new}"
        else:
            yield f"{place}: {old}, with {'other edits' if edited else 'another message delivered'}"
        yield from _changed("edits before", "edits now", *map(_edits, (self.before, self.now)))
        delivered = [_delivered(one.delivered) for one in (self.before, self.now)]
        if self.before.delivered is not None and self.now.delivered is not None:
            yield from _changed("delivered before", "delivered now", *delivered)


def compare(
    exchanges: Sequence[Exchange], before: Sequence[Outcome], now: Sequence[Outcome], *, whole: bool
) -> tuple[Difference, ...]:
    """Return what differs.

    Args:
        exchanges: The session.
        before: What its packets came to.
        now: What they come to.
        whole: Whether texts count; False where one side is only the shape of what was sent.
    """
    return tuple(
        Difference(number, exchange.name, _what(exchange), old, new)
        for number, (exchange, old, new) in enumerate(zip(exchanges, before, now, strict=True), 1)
        if new.sent and old.sent and not _equal(exchange.stage, old, new, whole=whole)
    )


def _equal(stage: Stage | None, old: Outcome, new: Outcome, *, whole: bool) -> bool:
    if bool(old.trouble) != bool(new.trouble):
        return False
    if _meant(stage, old.answer, whole=whole) != _meant(stage, new.answer, whole=whole) and not _passes(old, new):
        return False
    if whole:
        # Edits in another order are the same if they come to the same message.
        return old.delivered == new.delivered and Counter(old.modifications) == Counter(new.modifications)
    return list(map(_kind, old.modifications)) == list(map(_kind, new.modifications))


def _passes(old: Outcome, new: Outcome) -> bool:
    """Return whether one has no answer, which lets the message go on, and the other lets it go on."""
    answers = (old.answer, new.answer)
    return None in answers and all(answer in (None, CONTINUE, SKIP) for answer in answers)


def _meant(stage: Stage | None, answer: Answer | None, *, whole: bool) -> object:
    if stage is Stage.EOM and answer is ACCEPT:
        return CONTINUE  # the same here
    if isinstance(answer, Reply) and not whole:
        return answer.code, answer.enhanced
    return answer


def _kind(change: Modification) -> tuple[type, object]:
    return type(change), getattr(change, "index", None)


def _what(exchange: Exchange) -> str:
    try:
        match exchange.code:
            case Command.CONNECT:
                return Connect.decode(exchange.payload).hostname
            case Command.HELO:
                return Helo.decode(exchange.payload).name
            case Command.MAIL:
                return Mail.decode(exchange.payload).path
            case Command.RCPT:
                return Rcpt.decode(exchange.payload).path
            case Command.HEADER:
                return Header.decode(exchange.payload).name
    except RemoteProtocolError:
        pass
    return ""


def _answered(outcome: Outcome) -> str:
    if outcome.trouble:
        return outcome.trouble
    answer = outcome.answer
    if answer is None:
        return "no answer"
    return str(answer).replace("\r\n", " / ") if isinstance(answer, Reply) else answer.name.lower()


def _edits(outcome: Outcome) -> list[str]:
    return [repr(change) for change in outcome.modifications]


def _delivered(delivered: Delivered | None) -> list[str]:
    if delivered is None:
        return []
    lines = [" ".join(["from", delivered.sender.path, *delivered.sender.params])]
    lines += [" ".join(["to", rcpt.path, *rcpt.params]) for rcpt in delivered.recipients]
    if delivered.quarantine is not None:
        lines.append(f"held: {delivered.quarantine}")
    text = delivered.octets.decode("utf-8", "surrogateescape")
    return [*lines, "", *(line.removesuffix("\r") for line in text.split("\n"))]


def _changed(name: str, now: str, old: list[str], new: list[str]) -> Iterator[str]:
    """Yield a unified diff; of long texts what lies between their common ends, if that is not too long."""
    start = _common(old, new)
    end = min(_common(old[::-1], new[::-1]), len(old) - start, len(new) - start)
    old, new = (lines[max(0, start - 3) : len(lines) - max(0, end - 3)] for lines in (old, new))
    if max(len(old), len(new)) > _MOST_LINES:
        yield f"  {name}: {len(old)} lines, {now}: {len(new)}; too many to show"
        return
    for line in difflib.unified_diff(old, new, name, now, lineterm=""):
        if not line.startswith("@@"):
            yield f"  {line}" if len(line) <= _LONGEST_LINE else f"  {line[:_LONGEST_LINE]}... ({len(line)} characters)"


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count
