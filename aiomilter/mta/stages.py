"""One SMTP session as an MTA plays it to a filter, stage by stage.

What a stage sends, what it waits for and what its answer means to the stages after it are one set of rules.

Source: aiomilter/help/protocol.rst, "Commands", "Answers", P-140 to P-148.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.mail.envelope import bare_address
from aiomilter.mta.answers import EndOfMessageReader, code_name, expect_no_payload, read_answer
from aiomilter.mta.client import client_event, client_macros
from aiomilter.mta.content import Style
from aiomilter.mta.link import Link, Writer
from aiomilter.mta.macros import KnownMacros, MacroValues
from aiomilter.mta.results import Answer, EndOfMessageResult
from aiomilter.wire.constants import (
    ALL_ACTIONS,
    ALL_PROTOCOL,
    BODY_CHUNK_SIZE,
    MAX_FRAME_SIZE,
    MAX_VERSION,
    SINCE_VERSION,
    Command,
    Protocol,
    ReplyCode,
    Stage,
)
from aiomilter.wire.events import Family, Mail, Negotiate, Rcpt
from aiomilter.wire.negotiation import NegotiateAnswer, check_answer
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, PASSING, SKIP, Reply
from aiomilter.wire.state import ends_message
from aiomilter.wire.text import pack_strings

__all__ = ["OFFER", "StageSession"]

OFFER: Final = Negotiate(MAX_VERSION, ALL_ACTIONS, ALL_PROTOCOL)
"""What Postfix 3.7 and Sendmail 8.17 offer."""

# Stages whose macros both MTAs send although the filter does not want the stage.
_MACROS_ALWAYS: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.UNKNOWN})
_CONTENT: Final = frozenset({Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM})


@dataclass(frozen=True, slots=True)
class _Decision:
    stage: Stage
    answer: Answer

    @property
    def afterwards(self) -> Answer:
        """What the stages after it come to: the MTA goes on alone, or gives the same answer again."""
        return CONTINUE if self.answer in PASSING else self.answer


class StageSession:
    """Play one SMTP session to a filter, stage by stage.

    Each stage returns the filter's answer; CONTINUE where the stage was not sent or gets no reply.  After ACCEPT or DISCARD
    the rest of the message (after CONNECT or HELO: of the session) is not sent and counts as CONTINUE; after a refusal the
    same answer comes again without asking, until the MTA would ask again.

    Every stage may raise :class:`RemoteProtocolError` (the filter broke a rule, sent something unasked, or closed the
    connection), :class:`TimeoutError`, or :class:`LocalProtocolError` (a text with NUL, a packet that is too large).  The
    session is of no use afterwards; :meth:`close` it.

    Args:
        reader: Octets from the filter.
        writer: Octets for the filter.
        style: The MTA to behave as: which macros, when ABORT, how packets are written, how modifications are applied.
        offer: What to offer; older versions and fewer bits play older MTAs.
        lenient: Let pass what Postfix lets pass: protocol bits that were not offered, modifications that were not agreed on,
            packets over 65535 octets.
        timeout: Seconds to wait for each packet of the filter, or for it to read ours; PROGRESS restarts them (P-146), any
            number of times, as in Postfix.
        macros: Values by stage, known from that stage on; their names are added to the MTA's list for the stage.
        max_answer_size: Octets of one stage's answer, all its packets together.
        buffer_size: Octets that Postfix collects before it writes without need.
        on_answer: Called after each stage, once it is answered; what it raises, the stage raises.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: Writer,
        *,
        style: Style = "postfix",
        offer: Negotiate = OFFER,
        lenient: bool = False,
        timeout: float = 30.0,
        macros: MacroValues = MappingProxyType({}),
        max_answer_size: int = 64 << 20,
        buffer_size: int = 4096,
        on_answer: Callable[[], None] | None = None,
    ) -> None:
        if style not in ("postfix", "sendmail"):
            raise ValueError(f"style: expected 'postfix' or 'sendmail', found {style!r}")
        self.style: Final = style
        self.offer: Final = offer
        self.queue_id: str = ""
        self._link = Link(
            reader,
            writer,
            timeout=timeout,
            max_size=max_answer_size if lenient else MAX_FRAME_SIZE,
            buffer_size=buffer_size if style == "postfix" else 1,
        )
        self._lenient = lenient
        self._on_answer = on_answer
        self._max_answer_size = max_answer_size
        self._agreed: NegotiateAnswer | None = None
        self._unsent: frozenset[Stage] = frozenset()
        self._silent: frozenset[Stage] = frozenset()
        self._macros = KnownMacros(style, macros)
        self._begin_connection()

    def _begin_connection(self) -> None:
        """Forget the SMTP client."""
        self._helo = False
        self._aborts = 0
        self._over: _Decision | None = None
        self._macros.begin_connection()
        self._begin_message()

    def _begin_message(self) -> None:
        """Forget the message."""
        self._open = False
        # Whether Sendmail takes the filter to be inside a message, so that ABORT is due.
        self._inside = False
        self._settled: _Decision | None = None
        self._sender = Mail("<>")
        self._recipients: list[Rcpt] = []
        self._refusal: Answer | None = None
        self._data_sent = False
        self._skipping = False
        self._macros.begin_message()

    @property
    def agreed(self) -> NegotiateAnswer:
        """What the filter answered to the offer.

        Raises:
            LocalProtocolError: :meth:`negotiate` was not called.
        """
        if self._agreed is None:
            raise LocalProtocolError("session: expected negotiate() first, found another stage")
        return self._agreed

    @property
    def decided(self) -> tuple[Stage, Answer] | None:
        """The answer that ended the session or the message for this filter, and its stage; None while it takes part."""
        decision = self._over or self._settled
        return (decision.stage, decision.answer) if decision else None

    async def negotiate(self) -> NegotiateAnswer:
        """Offer, and return what the filter wants of it; a second call only returns it again.

        Source: aiomilter/help/protocol.rst, "Negotiation", P-142.
        """
        if self._agreed is not None:
            return self._agreed
        self._link.send(Command.OPTNEG, self.offer.payload)
        code, payload = await self._link.receive("OPTNEG")
        if code != ReplyCode.OPTNEG:
            raise RemoteProtocolError(f"OPTNEG answer: expected an OPTNEG packet, found {code_name(code)}")
        answer = NegotiateAnswer.decode(payload)
        check_answer(self.offer, answer, lenient=self._lenient)
        self._link.expect_nothing_more("OPTNEG")
        self._unsent = frozenset(
            stage for stage in Stage if answer.protocol & stage.no_flag or answer.version < SINCE_VERSION.get(stage, 0)
        )
        self._silent = frozenset(stage for stage in Stage if answer.protocol & stage.nr_flag)
        self._macros.negotiated(answer.macros)
        self._agreed = answer
        return answer

    async def connect(
        self,
        hostname: str = "client.example",
        address: str = "192.0.2.1",
        port: int = 40000,
        family: Family | None = None,
    ) -> Answer:
        """Announce the SMTP client (CONNECT).

        Args:
            hostname: Its verified name.
            address: Its address; "" for a client without one.  IPv6 is written as the MTA of this style writes it.
            port: Its port.
            family: Kind of address, to send ``address`` as it is; None to read it off ``address``, which is then IPv4,
                IPv6, a path, or a text that is none of them.
        """
        client = client_event(self.style, hostname, address, port, family)
        pack_strings(hostname, address)
        self._macros.define(**client_macros(self.style, client))
        answer = await self._play(Stage.CONNECT, client.payload)
        if answer is not CONTINUE and self._over is None:
            await self._give_up(Stage.CONNECT, answer)
        return answer

    async def helo(self, name: str = "client.example") -> Answer:
        """Send the name given in HELO or EHLO; an open message is aborted."""
        due = self._helo + self._open
        if self.style == "sendmail" and self._over is None:
            self._abort_packets(self._inside)
        answer = await self._play(Stage.HELO, pack_strings(name))
        if self.style == "postfix" and self._over is None:
            self._abort_packets(due)
        self._helo = True
        self._begin_message()
        if answer is not CONTINUE and self._over is None:
            await self._give_up(Stage.HELO, answer)
        return answer

    async def unknown(self, line: str) -> Answer:
        """Send an SMTP command that the MTA does not know; nothing changes."""
        if self._settled is not None and self._settled.answer in (ACCEPT, DISCARD):
            return CONTINUE
        return await self._play(Stage.UNKNOWN, pack_strings(line))

    async def _give_up(self, stage: Stage, answer: Answer) -> None:
        """End the session as the MTA does when CONNECT or HELO was answered for all of it."""
        self._over = _Decision(stage, answer)
        if self.style == "postfix":
            await self.close()
        elif stage is Stage.CONNECT or answer is ACCEPT:
            await self._quit()

    async def quit(self) -> None:
        """End the SMTP session and close the connection, after the ABORTs that this MTA sends before QUIT."""
        if self._link.closed:
            return
        if self.style == "postfix":
            self._abort_packets(self._helo + self._open)
        await self._quit()

    async def _quit(self) -> None:
        self._link.expect_silence("QUIT")
        self._send_aborts()
        self._link.send(Command.QUIT)
        # A filter may have closed before it got QUIT.
        with contextlib.suppress(RemoteProtocolError):
            await self._link.flush("QUIT")
        await self.close()

    async def quit_new_connection(self) -> None:
        """End the SMTP session but keep the connection for another, which begins with :meth:`connect`.

        No MTA does it, and libmilter understands it only right after an end of message that it answered with CONTINUE: an
        ABORT that is still due is not sent.
        """
        self._link.expect_silence("QUIT_NC")
        self._link.send(Command.QUIT_NC)
        await self._link.flush("QUIT_NC")
        self._begin_connection()

    async def close(self) -> None:
        """Close the connection without another packet; unwritten packets are lost."""
        await self._link.close()

    async def mail(self, sender: str, *params: str) -> Answer:
        """Begin a message; one that is open is aborted, as by RSET.

        Args:
            sender: As the client wrote it, ``"<alice@example.org>"``, ``"<>"``; from a local program without brackets.
            params: ESMTP parameters, ``"SIZE=300"``.
        """
        payload = pack_strings(sender, *params)
        await self.abort()
        self._open = True
        self._sender = Mail(sender, params)
        self.queue_id = secrets.token_hex(5).upper() if self.style == "postfix" else f"{secrets.token_hex(4)}000001"
        address = bare_address(sender)
        host = address.rpartition("@")[2]
        if self.style == "postfix":
            self._macros.define(mail_addr=address, mail_host=host or "mx.example.org", mail_mailer="smtp")
        else:
            self._macros.define(i=self.queue_id, mail_addr=address, mail_host=host and f"{host}.", mail_mailer="esmtp")
        answer = await self._play(Stage.MAIL, payload)
        self._inside = answer is CONTINUE and Stage.MAIL not in self._unsent | self._silent
        if answer not in PASSING:
            await self._end_message()
        return answer

    async def rcpt(self, recipient: str, *params: str, rejected: Reply | None = None) -> Answer:
        """Name a recipient.

        Args:
            recipient: As the client wrote it, ``"<bob@example.org>"``.
            params: ESMTP parameters, ``"NOTIFY=NEVER"``.
            rejected: The reply with which the MTA itself refuses it, which is then returned; the filter sees it only if it
                asked for such recipients, and cannot change it.
        """
        payload = pack_strings(recipient, *params)
        self._ask_again()
        if rejected is not None:
            return await self._rejected(payload, rejected)
        address = bare_address(recipient)
        host = address.rpartition("@")[2]
        if self.style == "postfix":
            self._macros.define(rcpt_addr=address, rcpt_host=host, rcpt_mailer="smtp")
        else:
            self._macros.define(rcpt_addr=address, rcpt_host=f"{host}.", rcpt_mailer="esmtp")
        answer = await self._play(Stage.RCPT, payload)
        if answer in PASSING:
            self._recipients.append(Rcpt(recipient, params))
            self._macros.define(i=self.queue_id)
        else:
            self._refusal = answer
        return answer

    async def _rejected(self, payload: bytes, reply: Reply) -> Reply:
        self._refusal = reply
        self._macros.define(rcpt_addr=" ".join(reply.lines), rcpt_host=reply.enhanced or "", rcpt_mailer="error")
        if self.agreed.protocol & Protocol.REJECTED_RECIPIENTS:
            await self._play(Stage.RCPT, payload)
        elif self.style == "sendmail" and self.decided is None:
            self._link.write(self._macros.packet(Stage.RCPT))
        return reply

    async def data(self) -> Answer:
        """Announce DATA; a refusal leaves the message open, and DATA may come again."""
        self._ask_again()
        self._data_sent = True
        answer = await self._play(Stage.DATA)
        # Here Postfix hands the connection over to another of its processes.
        if not self._link.closed:
            await self._link.flush("DATA")
        return answer

    def _ask_again(self) -> None:
        """Forget that DATA was refused: the client may name more recipients and send it again."""
        if self._settled and self._settled.stage is Stage.DATA and self._settled.answer not in PASSING:
            self._settled = None

    async def header(self, name: str, value: str, separator: str = " ") -> Answer:
        """Send a header field.

        Args:
            name: Without colon.
            value: Without the one space after the colon; folds as LF and blank.
            separator: That space, or "" if there was none.
        """
        if self.style == "sendmail" and name.lower() == "message-id":
            self._macros.define(msg_id=value.strip())
        leading = separator if self.agreed.protocol & Protocol.LEADING_SPACE else ""
        return await self._play(Stage.HEADER, pack_strings(name, leading + value))

    async def eoh(self) -> Answer:
        """Announce the end of the header section."""
        return await self._play(Stage.EOH)

    async def body(self, octets: bytes) -> Answer:
        """Send a piece of the body, in packets of at most 65535 octets, none of them empty (P-143).

        Returns:
            The first answer that is not CONTINUE; after SKIP nothing more of this body is sent (P-144).
        """
        for start in range(0, len(octets), BODY_CHUNK_SIZE):
            if self._skipping:
                break
            answer = await self._play(Stage.BODY, octets[start : start + BODY_CHUNK_SIZE])
            self._skipping = answer is SKIP
            if answer is not CONTINUE:
                return answer
        return CONTINUE

    async def end_of_message(self) -> EndOfMessageResult:
        """Announce the end of the message, and collect answer and modifications.

        Returns:
            The verdict, CONTINUE and ACCEPT being the same here; the answer that decided earlier, if one did.
        """
        decided = self.decided
        result = await self._end_of_message() if decided is None else EndOfMessageResult(decided[1])
        await self._end_message()
        return result

    async def abort(self) -> None:
        """End the open message without a decision, as RSET does; nothing is sent if there is none."""
        if not self._link.closed and self._over is None:
            self._abort_packets(self._open if self.style == "postfix" else self._inside)
            await self._link.drain("ABORT")
        self._begin_message()

    async def _end_message(self) -> None:
        """Send the packets due after a message; its decision stays known."""
        settled = self._settled
        await self.abort()
        self._settled = settled if settled and settled.answer not in PASSING else None

    def _abort_packets(self, number: int) -> None:
        self._aborts += number
        if self.style == "sendmail":
            self._send_aborts()

    def _send_aborts(self) -> None:
        """Send ABORTs that Postfix holds back until its next packet."""
        for _ in range(self._aborts):
            self._link.send(Command.ABORT)
        self._aborts = 0

    async def _play(self, stage: Stage, payload: bytes = b"") -> Answer:
        """Play a stage, if the filter is to see it, and return what it comes to."""
        if self._over is not None:
            return self._over.afterwards
        if Stage.MAIL < stage < Stage.UNKNOWN:
            if self._settled is not None:
                return self._settled.afterwards
            if not self._open:
                raise LocalProtocolError(f"{stage.name}: expected mail() before, found no message")
        if not self._tell(stage, payload):
            return CONTINUE
        if stage in self._silent:
            await self._link.drain(stage.name)
            self._answered()
            return CONTINUE
        answer = await self._answer(stage)
        if ends_message(stage, answer):
            self._settled = _Decision(stage, answer)
            self._inside = self._inside and stage not in _CONTENT and answer is not ACCEPT
        self._answered()
        return answer

    def _answered(self) -> None:
        if self._on_answer is not None:
            self._on_answer()

    def _tell(self, stage: Stage, payload: bytes) -> bool:
        """Send a stage with its macros; return whether it is one that this filter is sent."""
        version = self.agreed.version
        self._link.expect_silence(stage.name)
        self._send_aborts()
        if stage not in self._unsent:
            self._link.write(self._macros.packet(stage))
            self._link.send(stage.command, payload)
            return True
        if stage in _MACROS_ALWAYS and version >= SINCE_VERSION.get(stage, 0):
            self._link.write(self._macros.packet(stage))
        return False

    async def _answer(self, stage: Stage) -> Answer:
        code, payload = await self._link.receive(stage.name)
        while code == ReplyCode.PROGRESS and self.style == "postfix":
            expect_no_payload(code, payload)
            code, payload = await self._link.receive(stage.name)
        answer = read_answer(stage, code, payload, self.agreed)
        self._link.expect_nothing_more(stage.name)
        return answer

    async def _end_of_message(self) -> EndOfMessageResult:
        if not self._open:
            raise LocalProtocolError("EOM: expected mail() before, found no message")
        if self.style == "sendmail" and self._macros.get("msg_id") is None:
            self._macros.define(msg_id=f"<{self.queue_id}@{self._macros.get('j')}>")
        self._tell(Stage.EOM, b"")
        collected = EndOfMessageReader(self.style, self.agreed, lenient=self._lenient, max_size=self._max_answer_size)
        code, payload = await self._link.receive("EOM")
        while collected.take(code, payload):
            code, payload = await self._link.receive("EOM")
        answer = read_answer(Stage.EOM, code, payload, self.agreed)
        self._link.expect_nothing_more("EOM")
        self._settled = _Decision(Stage.EOM, answer)
        self._inside = False
        self._answered()
        return collected.result(answer)
