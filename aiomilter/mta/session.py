"""One SMTP session as an MTA plays it to a filter, whole messages included."""

from collections.abc import Sequence
from dataclasses import replace

from aiomilter.exceptions import LocalProtocolError
from aiomilter.mta.content import Content, cut
from aiomilter.mta.delivery import deliver
from aiomilter.mta.results import Answer, MessageResult
from aiomilter.mta.stages import StageSession
from aiomilter.wire.constants import Protocol, Stage
from aiomilter.wire.replies import ACCEPT, CONTINUE, PASSING

__all__ = ["Session"]


class Session(StageSession):
    """Play one SMTP session to a filter, stage by stage or a whole message at once; see :class:`StageSession`."""

    async def message(self, octets: bytes) -> MessageResult:
        """Play a whole message, from DATA or where :meth:`data` left it, to the answer that decides.

        Args:
            octets: Header section, empty line and body, line ends as CRLF or LF; nothing at all is a message, too.  They are
                read as the MTA of this style reads them, see :func:`cut`.

        Raises:
            LocalProtocolError: No sender or no recipient was named before.
        """
        content = cut(octets, self.style)
        if self._open and not self._recipients:
            if self._refusal is None:
                raise LocalProtocolError("message: expected rcpt() before, found no recipient")
            return MessageResult(self._refusal, Stage.RCPT)
        if self._open and self.decided is None and not self._data_sent:
            await self.data()
        decided = self.decided
        if not self._open and (decided is None or decided[1] in PASSING):
            raise LocalProtocolError("message: expected mail() before, found no sender")
        if content.refusal is not None and (decided is None or decided[1] in PASSING):
            await self.abort()
            return MessageResult(content.refusal, Stage.DATA)
        if decided is None:
            await self._content(content)
            decided = self.decided
        elif decided[0] is Stage.DATA and decided[1] not in PASSING:
            return MessageResult(decided[1], decided[0])
        stage = decided[0] if decided else Stage.EOM
        sender, recipients = self._sender, tuple(self._recipients)
        end = await self.end_of_message()
        if end.answer not in (CONTINUE, ACCEPT):
            return MessageResult(end.answer, stage, end.modifications, end.progress)
        leading = bool(self.agreed.protocol & Protocol.LEADING_SPACE)
        delivered = deliver(self.style, sender, recipients, content, end.modifications, leading_space=leading)
        return MessageResult(end.answer, stage, end.modifications, end.progress, delivered)

    async def send(self, octets: bytes, sender: str, recipients: str | Sequence[str]) -> MessageResult:
        """Play a message from its sender on: MAIL, RCPT for each recipient, and :meth:`message`.

        Args:
            octets: As for :meth:`message`.
            sender: With or without angle brackets; "" for the null sender.
            recipients: One, or several; with or without angle brackets.

        Returns:
            What became of it, and which recipients were refused with what; with none left, the last refusal is the answer.

        Raises:
            LocalProtocolError: There is no recipient.
        """
        named = [recipients] if isinstance(recipients, str) else list(recipients)
        if not named:
            raise LocalProtocolError("send: expected one recipient or more, found none")
        refused: dict[str, Answer] = {}
        if await self.mail(_bracketed(sender)) in PASSING:
            for recipient in named:
                answer = await self.rcpt(_bracketed(recipient))
                if answer not in PASSING:
                    refused[recipient] = answer
        return replace(await self.message(octets), refused=refused)

    async def _content(self, content: Content) -> None:
        for line in content.fields:
            await self.header(*line.header)
            if self._settled is not None:
                return
        await self.eoh()
        await self.body(content.body)


def _bracketed(path: str) -> str:
    return path if path.startswith("<") else f"<{path}>"
