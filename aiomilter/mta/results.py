"""Results: a filter's answer, and the fate of a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aiomilter.exceptions import LocalProtocolError
from aiomilter.mta.delivery import Delivered
from aiomilter.wire.constants import Stage
from aiomilter.wire.modifications import Modification
from aiomilter.wire.replies import Reply, Verdict

__all__ = ["Answer", "EndOfMessageResult", "MessageResult"]

Answer: TypeAlias = Verdict | Reply
"""What a filter answers at a stage."""


@dataclass(frozen=True, slots=True)
class EndOfMessageResult:
    """What the filter answered at end of message.

    Args:
        answer: The verdict.
        modifications: Those it asked for before, in order (P-145); without effect unless the answer is CONTINUE or ACCEPT.
        progress: How many PROGRESS packets came.
    """

    answer: Answer
    modifications: tuple[Modification, ...] = ()
    progress: int = 0


@dataclass(frozen=True, slots=True)
class MessageResult:
    """What became of a message.

    Args:
        answer: The answer that decided; CONTINUE and ACCEPT let the message pass.  What the MTA itself refuses the content
            with stands here, too: see :attr:`Content.refusal`.
        stage: The stage at which it came, which may be one before the message's content; DATA if the MTA refused the content.
        modifications: What the filter asked for, in order.
        progress: How many PROGRESS packets came at end of message.
        delivered: The message as the MTA passes it on; None if it was refused or discarded.
        refused: The answer to each recipient that was refused, by its path as given to :meth:`Session.send`.
    """

    answer: Answer
    stage: Stage
    modifications: tuple[Modification, ...] = ()
    progress: int = 0
    delivered: Delivered | None = None
    refused: Mapping[str, Answer] = field(default_factory=dict, hash=False)

    @property
    def passed(self) -> bool:
        """Whether the message goes on its way; one that is discarded, or refused, does not."""
        return self.delivered is not None

    @property
    def edits(self) -> tuple[Modification, ...]:
        """The modifications that were applied; none where the message does not pass."""
        return self.modifications if self.passed else ()

    @property
    def octets(self) -> bytes:
        """The message as it was delivered, line ends as CRLF.

        Raises:
            LocalProtocolError: It was not; the message says what the filter answered instead.
        """
        if self.delivered is None:
            raise LocalProtocolError(
                f"expected a message that was delivered, found {self.answer!r} at {self.stage.name}"
            )
        return self.delivered.octets
