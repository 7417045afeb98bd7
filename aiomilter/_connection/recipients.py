"""The recipients of a message where they are many, large, or refused."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final, cast

from aiomilter._connection.answers import TimedOut, answer_of
from aiomilter.observe import MOST_REFUSED, Limit, RefusedRecipient
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Rcpt
from aiomilter.wire.reader import LARGE
from aiomilter.wire.replies import PASSING, Refusal, Reply, Response, Verdict
from aiomilter.wire.state import is_legal

__all__ = ["RECIPIENT_SIZE", "UNCOUNTED", "Recipients", "refusal"]

RECIPIENT_SIZE: Final = 1024
"""Octets that ``max_recipients`` allows for each, on average; a path has 256 (RFC 5321 section 4.5.3.1.3), ORCPT 500."""
_BETWEEN: Final = 16
"""Recipients after which their octets are counted: only a hostile peer sends any that are not small."""
UNCOUNTED: Final = _BETWEEN - 1
"""So many recipients of a message are not counted at all."""
_LARGE: Final = 16 * LARGE
_STRING_SIZE: Final = 64
"""Octets that a short text takes besides its characters, with its place in a tuple: many small ESMTP parameters are dear."""
_REFUSED_SIZE: Final = 256
"""Octets that a refusal takes besides its characters."""
_ADDRESS_LENGTH: Final = 320
"""Characters of an address: 64 of a local part, 255 of a domain, and ``@`` (RFC 5321 section 4.5.3.1)."""
_ANSWER_LENGTH: Final = 512


class Recipients:
    """The size of one message's recipients, and those refused.

    Args:
        most: Recipients that the message may have.
    """

    __slots__ = ("_counted", "_counted_size", "_most", "_option", "_refused_size", "refused")

    def __init__(self, most: int) -> None:
        self._option = most
        # Fewer, once those that came are too large.
        self._most = most
        # How many are counted, and their octets.
        self._counted = self._counted_size = 0
        self._refused_size = 0
        self.refused: list[RefusedRecipient] = []
        """Those that the filter refused, as many as are reported."""

    @property
    def large(self) -> bool:
        """Whether their octets have to be counted as buffered."""
        return self._counted_size + self._refused_size > _LARGE

    def admits(self, count: int, recipients: Sequence[Rcpt]) -> bool:
        """Return whether the message may have one more.

        Args:
            count: How many it has had, with those that were refused.
            recipients: Those that were not.
        """
        looks = count < self._most and count % _BETWEEN == UNCOUNTED
        if looks and self.size(recipients) > self._option * RECIPIENT_SIZE:
            self._most = count
        return count < self._most

    def limit_reached(self, count: int) -> Limit | None:
        """Return the limit that keeps a message from having one more, the first time it does; None after that."""
        if count != self._most:
            return None
        return Limit.RECIPIENTS if self._most == self._option else Limit.RECIPIENTS_SIZE

    def size(self, recipients: Sequence[Rcpt]) -> int:
        """Return the octets that the recipients take in memory; each is counted once.

        Args:
            recipients: Those that were not refused.
        """
        if not recipients:
            return self._refused_size
        for rcpt in islice(recipients, self._counted, None):
            self._counted_size += _STRING_SIZE + len(rcpt.path) + sum(map(len, rcpt.params))
            self._counted_size += _STRING_SIZE * len(rcpt.params)
        self._counted = len(recipients)
        return self._counted_size + self._refused_size

    def refuse(self, recipient: Rcpt, response: Any, reason: str, filter_name: str = "") -> None:
        """Keep a recipient that was refused with the answer to it and its reason, and which of several filters gave it.

        No more are kept than are reported.
        """
        if len(self.refused) >= MOST_REFUSED:
            return
        address, answer = recipient.address[:_ADDRESS_LENGTH], answer_of(response, _ANSWER_LENGTH)
        self.refused.append(RefusedRecipient(address, answer, reason, filter_name))
        self._refused_size += _REFUSED_SIZE + len(address) + len(answer) + len(answer.text)


def refusal(response: Any, on_error: Callable[[], Response]) -> Response | None:
    """Return the answer that refuses a recipient; None if the answer of a callback lets it pass.

    Args:
        response: The answer of the callback.
        on_error: Returns the answer in place of something that is not one.
    """
    if isinstance(response, TimedOut):
        response = response.response
    if not isinstance(response, Verdict | Reply | Refusal) or not is_legal(Stage.RCPT, response):
        response = on_error()
    return None if isinstance(response, Verdict) and response in PASSING else cast(Response, response)
