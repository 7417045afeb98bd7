"""One class of recipients a message: where what is done with a message differs by recipient."""

from collections.abc import Callable

from aiomilter.compose.members import Member, check
from aiomilter.context import Context
from aiomilter.handler import Milter
from aiomilter.wire.events import Rcpt
from aiomilter.wire.replies import Reply, Response

__all__ = ["one_class"]

_ANOTHER = Reply(452, "4.5.3", "This recipient needs a transaction of its own", reason="one_class")


class _OneClass(Milter):
    """Refuses for now what is of another class than the first recipient.

    Args:
        key: Returns the class of a recipient.
    """

    def __init__(self, key: Callable[[Rcpt], object]) -> None:
        self._key = key

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> Response | None:
        recipients = ctx.recipients
        return _ANOTHER if recipients and self._key(recipients[0]) != self._key(rcpt) else None


def one_class(key: Callable[[Rcpt], object], *, name: str = "one_class") -> Member:
    """Return a check by which all recipients of a message are of one class; others get 452 4.5.3, and come again.

    After DATA, SMTP has one answer for all recipients.  The MTA that sends queues the others: Postfix tries again after 300 s
    and more.  A Postfix that receives counts each as an error, and hangs up at the 21st (``smtpd_hard_error_limit``).

    Args:
        key: Returns the class of a recipient, anything that can be compared: ``lambda rcpt: rcpt.domain``.
        name: As for :func:`check`.

    Source: RFC 5321 section 4.5.3.1.10.
    """
    return check(lambda: _OneClass(key), name=name)
