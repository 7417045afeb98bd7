"""Messages that the embedded SMTP server has handled, printed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiomilter import mta
from aiomilter._cli.diff import diff
from aiomilter._cli.terminal import safe, safe_octets

if TYPE_CHECKING:
    from aiomilter.smtp import Outcome

__all__ = ["Printer"]


class Printer:
    """Prints each message that the SMTP server has handled, as long as stdout is read."""

    def __init__(self) -> None:
        self._read = True

    def __call__(self, outcome: "Outcome") -> None:
        """Print a message."""
        if not self._read:
            return
        try:
            print("\n".join(_lines(outcome)), flush=True)
        except BrokenPipeError:
            self._read = False


def _lines(outcome: "Outcome") -> Iterator[str]:
    told = outcome.reply.replace("\r\n", " / ")
    yield f"======== message {outcome.queue_id} from {safe(outcome.client)} ({safe(outcome.helo)}): {safe(told)}"
    message = outcome.result.delivered
    if message is None:
        return
    yield " ".join(["from", *map(safe, (message.sender.path, *message.sender.params))])
    for recipient in message.recipients:
        yield " ".join(["to", *map(safe, (recipient.path, *recipient.params))])
    if not message.recipients:
        yield "to no recipient"
    if message.quarantine is not None:
        yield f"held: {safe(message.quarantine)}"
    yield "--------"
    for line in message.octets.split(b"\n"):
        yield safe_octets(line.removesuffix(b"\r"))
    # Changes of the MTA itself are not shown as the filter's.
    before = mta.deliver("postfix", message.sender, message.recipients, mta.cut(outcome.original, "postfix")).octets
    if before != message.octets:
        yield "-------- changed"
        yield from diff(before, message.octets)
