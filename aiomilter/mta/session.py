"""One SMTP session as an MTA plays it to a filter.

One piece, although long: what a step sends, what it waits for and what its answer means to the steps after it are one
set of rules.

Source: aiomilter/help/protocol.rst, "Commands", "Answers", P-140 to P-148.
"""

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.mail.envelope import bare_address
from aiomilter.mta.content import Content, Style, cut
from aiomilter.mta.delivery import Delivered, deliver
from aiomilter.mta.link import Link, Writer
from aiomilter.mta.macros import MacroValues, hidden, macro_lists
from aiomilter.wire.constants import (
    ALL_ACTIONS,
    ALL_PROTOCOL,
    BODY_CHUNK_SIZE,
    MAX_FRAME_SIZE,
    MAX_VERSION,
    SINCE_VERSION,
    Action,
    Command,
    Protocol,
    ReplyCode,
    Stage,
)
from aiomilter.wire.events import Connect, Family, Mail, Negotiate, Rcpt
from aiomilter.wire.framing import packet
from aiomilter.wire.macros import Macros
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.negotiation import NegotiateAnswer, canonical_macro, check_answer
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, PASSING, SKIP, Reply, Verdict
from aiomilter.wire.state import ANSWERS, ends_message
from aiomilter.wire.text import pack_strings

__all__ = ["OFFER", "Answer", "EndOfMessageResult", "MessageResult", "Session"]

OFFER: Final = Negotiate(MAX_VERSION, ALL_ACTIONS, ALL_PROTOCOL)
"""What Postfix 3.7 and Sendmail 8.17 offer."""

Answer: TypeAlias = Verdict | Reply
"""What a filter says to a step."""

_MODIFICATION_COST: Final = 6144
"""Octets that each modification but a piece of the body counts beside its own, so that small ones fill no memory or time."""
_PIECE_COST: Final = 256

_NEEDS: Final[Mapping[int, Action]] = MappingProxyType(
    {
        ReplyCode.ADDHEADER: Action.ADD_HEADERS,
        ReplyCode.INSHEADER: Action.ADD_HEADERS,
        ReplyCode.CHGHEADER: Action.CHANGE_HEADERS,
        ReplyCode.REPLBODY: Action.REPLACE_BODY,
        ReplyCode.ADDRCPT: Action.ADD_RECIPIENTS,
        ReplyCode.ADDRCPT_PAR: Action.ADD_RECIPIENTS_WITH_PARAMS,
        ReplyCode.DELRCPT: Action.DELETE_RECIPIENTS,
        ReplyCode.CHGFROM: Action.CHANGE_SENDER,
        ReplyCode.QUARANTINE: Action.QUARANTINE,
    }
)
_DECODE: Final[Mapping[int, Callable[[bytes], Modification]]] = MappingProxyType(
    {
        ReplyCode.ADDHEADER: AddHeader.decode,
        ReplyCode.INSHEADER: InsertHeader.decode,
        ReplyCode.CHGHEADER: ChangeHeader.decode,
        ReplyCode.REPLBODY: ReplaceBody.decode,
        ReplyCode.ADDRCPT: AddRecipient.decode,
        ReplyCode.ADDRCPT_PAR: AddRecipient.decode_par,
        ReplyCode.DELRCPT: DeleteRecipient.decode,
        ReplyCode.CHGFROM: ChangeSender.decode,
        ReplyCode.QUARANTINE: Quarantine.decode,
    }
)
"""Answers to which the SMTP client is told that all is well."""
_VERDICTS: Final = {int(verdict.value): verdict for verdict in Verdict}
# Steps whose macros both MTAs send although the filter does not want the step.
_MACROS_ALWAYS: Final = frozenset({Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.UNKNOWN})
_CONTENT: Final = frozenset({Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM})
_MESSAGE_MACROS: Final = (
    "i",
    "msg_id",
    "mail_addr",
    "mail_host",
    "mail_mailer",
    "rcpt_addr",
    "rcpt_host",
    "rcpt_mailer",
)


@dataclass(frozen=True, slots=True)
class EndOfMessageResult:
    """What the filter said at end of message.

    Args:
        answer: The verdict.
        modifications: What it asked for before, in order (P-145); of no effect unless the answer is CONTINUE or ACCEPT.
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
        stage: The step that it answered, which may be one before the message's content; DATA if the MTA refused the content.
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


@dataclass(frozen=True, slots=True)
class _Decision:
    stage: Stage
    answer: Answer

    @property
    def afterwards(self) -> Answer:
        """What the steps after it come to: the MTA goes on alone, or says the same again."""
        return CONTINUE if self.answer in PASSING else self.answer


class Session:
    """Play one SMTP session to a filter, packet by packet or a whole message at once.

    Each step returns the filter's answer; CONTINUE where the step was not sent or gets no reply.  After ACCEPT or DISCARD
    the rest of the message (after CONNECT or HELO: of the session) is not sent and counts as CONTINUE; after a refusal the
    same answer comes again without asking, until the MTA would ask again.

    Every step may raise :class:`RemoteProtocolError` (the filter broke a rule, sent something unasked, or closed the
    connection), :class:`TimeoutError`, or :class:`LocalProtocolError` (a text with NUL, a packet that is too large).  The
    session is of no use afterwards; :meth:`close` it.

    Args:
        reader: Octets from the filter.
        writer: Octets for the filter.
        style: Whose manners: what macros, when ABORT, how packets are written, how modifications are applied.
        offer: What to offer; older versions and fewer bits play older MTAs.
        lenient: Let pass what Postfix lets pass: protocol bits that were not offered, modifications that were not agreed on,
            packets over 65535 octets.
        timeout: Seconds to wait for each packet of the filter, or for it to read ours; PROGRESS starts them anew (P-146), for
            ever if need be, as in Postfix.
        macros: Values by step, known from that step on; their names are added to the MTA's list for the step.
        max_answer_size: Octets of one step's answer, all its packets together.
        buffer_size: Octets that Postfix collects before it writes without need.
        on_answer: Called after each step, once it is answered; what it raises, the step raises.
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
        self._given = {stage: _given(values) for stage, values in macros.items()}
        self._extra = macros
        self._macro_lists: dict[Stage, tuple[str, ...]] = {}
        self._macro_packets: dict[Stage, bytes] = {}
        self._begin_connection()

    def _begin_connection(self) -> None:
        """Know nothing of an SMTP client yet."""
        self._helo = False
        self._aborts = 0
        self._over: _Decision | None = None
        self._values = {"j": "mx.example.org", "daemon_addr": "127.0.0.1"}
        if self.style == "postfix":
            self._values |= {"v": "Postfix 3.7.11", "daemon_name": "mx.example.org"}
        else:
            self._values |= {"v": "8.17.1.9", "daemon_name": "MTA", "if_name": "localhost"}
        self._begin_message()

    def _begin_message(self) -> None:
        """Know nothing of a message yet."""
        self._open = False
        # Whether Sendmail takes the filter to be inside a message, so that ABORT is due.
        self._inside = False
        self._settled: _Decision | None = None
        self._sender = Mail("<>")
        self._recipients: list[Rcpt] = []
        self._refusal: Answer | None = None
        self._data_sent = False
        self._skipping = False
        for name in _MESSAGE_MACROS:
            self._values.pop(name, None)
        self._macro_packets.clear()

    def _define(self, **values: str) -> None:
        """Give macros, named without braces, their values."""
        self._values |= values
        self._macro_packets.clear()

    @property
    def agreed(self) -> NegotiateAnswer:
        """What the filter answered to the offer.

        Raises:
            LocalProtocolError: :meth:`negotiate` was not called.
        """
        if self._agreed is None:
            raise LocalProtocolError("session: expected negotiate() first, found another step")
        return self._agreed

    @property
    def decided(self) -> tuple[Stage, Answer] | None:
        """The answer that ended the session or the message for this filter, and its step; None while it takes part."""
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
            raise RemoteProtocolError(f"OPTNEG answer: expected an OPTNEG packet, found {_name(code)}")
        answer = NegotiateAnswer.decode(payload)
        check_answer(self.offer, answer, lenient=self._lenient)
        self._link.expect_nothing_more("OPTNEG")
        self._unsent = frozenset(
            stage for stage in Stage if answer.protocol & stage.no_flag or answer.version < SINCE_VERSION.get(stage, 0)
        )
        self._silent = frozenset(stage for stage in Stage if answer.protocol & stage.nr_flag)
        self._macro_lists = macro_lists(self.style, answer.macros, self._extra)
        self._agreed = answer
        return answer

    async def connect(
        self,
        hostname: str = "client.example",
        address: str = "192.0.2.1",
        port: int = 40000,
        family: Family | None = None,
    ) -> Answer:
        """Tell of the SMTP client.

        Args:
            hostname: Its verified name.
            address: Its address; "" for a client without one.  IPv6 is written as the MTA of this style writes it.
            port: Its port.
            family: Kind of address, to send ``address`` as it is; None to read it off ``address``, which is then IPv4,
                IPv6, a path, or a text that is none of them.
        """
        client = _client(self.style, hostname, address, port, family)
        plain = client.raw_address.removeprefix("IPv6:")
        named = not hostname.startswith("[")
        if self.style == "postfix":
            who = f"{hostname if named else 'unknown'} [{plain}]"
        else:
            who = f"{hostname} [{client.raw_address}]" if named else hostname
        self._define(
            _=who,
            client_addr=f"IPv6:{plain}" if client.family is Family.INET6 else plain,
            client_name=hostname if named else "unknown",
            client_ptr=hostname if named else "unknown",
            client_port=str(client.port),
            client_resolve="OK" if named else "FAIL",
        )
        _strings(hostname, address)
        answer = await self._step(Stage.CONNECT, client.payload)
        if answer is not CONTINUE and self._over is None:
            await self._give_up(Stage.CONNECT, answer)
        return answer

    async def helo(self, name: str = "client.example") -> Answer:
        """Tell the name in HELO or EHLO; an open message is aborted."""
        due = self._helo + self._open
        if self.style == "sendmail" and self._over is None:
            self._abort_packets(self._inside)
        answer = await self._step(Stage.HELO, _strings(name))
        if self.style == "postfix" and self._over is None:
            self._abort_packets(due)
        self._helo = True
        self._begin_message()
        if answer is not CONTINUE and self._over is None:
            await self._give_up(Stage.HELO, answer)
        return answer

    async def unknown(self, line: str) -> Answer:
        """Tell of an SMTP command that the MTA does not know; nothing changes."""
        if self._settled is not None and self._settled.answer in (ACCEPT, DISCARD):
            return CONTINUE
        return await self._step(Stage.UNKNOWN, _strings(line))

    async def _give_up(self, stage: Stage, answer: Answer) -> None:
        """Do what the MTA does when CONNECT or HELO was answered for the whole session."""
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
        # A filter that has left before it was told to is of no matter now.
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
        """Close the connection without another packet; what was not written yet is lost."""
        await self._link.close()

    async def mail(self, sender: str, *params: str) -> Answer:
        """Begin a message; one that is open is aborted, as by RSET.

        Args:
            sender: As the client wrote it, ``"<alice@example.org>"``, ``"<>"``; from a local program without brackets.
            params: ESMTP parameters, ``"SIZE=300"``.
        """
        payload = _strings(sender, *params)
        await self.abort()
        self._open = True
        self._sender = Mail(sender, params)
        self.queue_id = secrets.token_hex(5).upper() if self.style == "postfix" else f"{secrets.token_hex(4)}000001"
        address = bare_address(sender)
        host = address.rpartition("@")[2]
        if self.style == "postfix":
            self._define(mail_addr=address, mail_host=host or "mx.example.org", mail_mailer="smtp")
        else:
            self._define(i=self.queue_id, mail_addr=address, mail_host=host and f"{host}.", mail_mailer="esmtp")
        answer = await self._step(Stage.MAIL, payload)
        self._inside = answer is CONTINUE and Stage.MAIL not in self._unsent | self._silent
        if answer not in PASSING:
            await self._end_message()
        return answer

    async def rcpt(self, recipient: str, *params: str, rejected: Reply | None = None) -> Answer:
        """Name a recipient.

        Args:
            recipient: As the client wrote it, ``"<bob@example.org>"``.
            params: ESMTP parameters, ``"NOTIFY=NEVER"``.
            rejected: What the MTA itself refuses it with, which is then returned; the filter is told only if it asked for
                such recipients, and cannot change it.
        """
        payload = _strings(recipient, *params)
        self._ask_again()
        if rejected is not None:
            return await self._rejected(payload, rejected)
        address = bare_address(recipient)
        host = address.rpartition("@")[2]
        if self.style == "postfix":
            self._define(rcpt_addr=address, rcpt_host=host, rcpt_mailer="smtp")
        else:
            self._define(rcpt_addr=address, rcpt_host=f"{host}.", rcpt_mailer="esmtp")
        answer = await self._step(Stage.RCPT, payload)
        if answer in PASSING:
            self._recipients.append(Rcpt(recipient, params))
            self._define(i=self.queue_id)
        else:
            self._refusal = answer
        return answer

    async def _rejected(self, payload: bytes, reply: Reply) -> Reply:
        self._refusal = reply
        self._define(rcpt_addr=" ".join(reply.lines), rcpt_host=reply.enhanced or "", rcpt_mailer="error")
        if self.agreed.protocol & Protocol.REJECTED_RECIPIENTS:
            await self._step(Stage.RCPT, payload)
        elif self.style == "sendmail" and self.decided is None:
            self._send_macros(Stage.RCPT)
        return reply

    async def data(self) -> Answer:
        """Tell of DATA; a refusal leaves the message open, and DATA may come again."""
        self._ask_again()
        self._data_sent = True
        answer = await self._step(Stage.DATA)
        # Here Postfix hands the connection over to another of its processes.
        if not self._link.closed:
            await self._link.flush("DATA")
        return answer

    def _ask_again(self) -> None:
        """Forget that DATA was refused: the client may name more recipients and send it again."""
        if self._settled and self._settled.stage is Stage.DATA and self._settled.answer not in PASSING:
            self._settled = None

    async def header(self, name: str, value: str, separator: str = " ") -> Answer:
        """Tell a header field.

        Args:
            name: Without colon.
            value: Without the one space after the colon; folds as LF and blank.
            separator: That space, or "" if there was none.
        """
        if self.style == "sendmail" and name.lower() == "message-id":
            self._define(msg_id=value.strip())
        leading = separator if self.agreed.protocol & Protocol.LEADING_SPACE else ""
        return await self._step(Stage.HEADER, _strings(name, leading + value))

    async def eoh(self) -> Answer:
        """Tell that all header fields were told."""
        return await self._step(Stage.EOH)

    async def body(self, octets: bytes) -> Answer:
        """Tell a piece of the body, in packets of at most 65535 octets, none of them empty (P-143).

        Returns:
            The first answer that is not CONTINUE; after SKIP nothing more of this body is sent (P-144).
        """
        for start in range(0, len(octets), BODY_CHUNK_SIZE):
            if self._skipping:
                break
            answer = await self._step(Stage.BODY, octets[start : start + BODY_CHUNK_SIZE])
            self._skipping = answer is SKIP
            if answer is not CONTINUE:
                return answer
        return CONTINUE

    async def end_of_message(self) -> EndOfMessageResult:
        """Tell that the message is complete, and collect what the filter wants of it.

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
        """Send what is due after a message, whose decision stays known."""
        settled = self._settled
        await self.abort()
        self._settled = settled if settled and settled.answer not in PASSING else None

    def _abort_packets(self, number: int) -> None:
        self._aborts += number
        if self.style == "sendmail":
            self._send_aborts()

    def _send_aborts(self) -> None:
        """Send what Postfix keeps back until it has something else to send."""
        for _ in range(self._aborts):
            self._link.send(Command.ABORT)
        self._aborts = 0

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

    async def _step(self, stage: Stage, payload: bytes = b"") -> Answer:
        """Play a step, if the filter is to see it, and return what it comes to."""
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
        """Send a step with its macros; return whether it is one that this filter is sent."""
        version = self.agreed.version
        self._link.expect_silence(stage.name)
        self._send_aborts()
        if stage not in self._unsent:
            self._send_macros(stage)
            self._link.send(stage.command, payload)
            return True
        if stage in _MACROS_ALWAYS and version >= SINCE_VERSION.get(stage, 0):
            self._send_macros(stage)
        return False

    def _send_macros(self, stage: Stage) -> None:
        names = self._macro_lists.get(stage)
        if names is None:
            return
        out = self._macro_packets.get(stage)
        if out is None:
            known = self._known(stage)
            values = {name: known[key] for name in names if (key := canonical_macro(name)) in known}
            out = packet(Command.MACRO, Macros(stage.command, values).payload)
            self._macro_packets[stage] = out
        self._link.write(out)

    def _known(self, stage: Stage) -> dict[str, str]:
        """Return the values of all macros at a step."""
        known = dict(self._values)
        last = Stage.HELO if stage is Stage.UNKNOWN else stage
        for earlier in sorted(self._given):
            if earlier <= last:
                known |= self._given[earlier]
        return {name: value for name, value in known.items() if not hidden(self.style, stage, name)} | self._given.get(
            stage, {}
        )

    async def _answer(self, stage: Stage) -> Answer:
        code, payload = await self._link.receive(stage.name)
        while code == ReplyCode.PROGRESS and self.style == "postfix":
            _no_payload(code, payload)
            code, payload = await self._link.receive(stage.name)
        answer = self._verdict(stage, code, payload)
        self._link.expect_nothing_more(stage.name)
        return answer

    async def _end_of_message(self) -> EndOfMessageResult:
        if not self._open:
            raise LocalProtocolError("EOM: expected mail() before, found no message")
        if self.style == "sendmail" and "msg_id" not in self._values:
            self._define(msg_id=f"<{self.queue_id}@{self._values['j']}>")
        self._tell(Stage.EOM, b"")
        modifications: list[Modification] = []
        progress = size = 0
        replaced = apart = False
        code, payload = await self._link.receive("EOM")
        while code == ReplyCode.PROGRESS or code in _DECODE:
            apart = replaced and (apart or code != ReplyCode.REPLBODY)
            if code == ReplyCode.PROGRESS:
                _no_payload(code, payload)
                progress += 1
            else:
                size += len(payload) + (_PIECE_COST if code == ReplyCode.REPLBODY else _MODIFICATION_COST)
                if size > self._max_answer_size:
                    raise RemoteProtocolError(
                        f"EOM answer: expected at most {self._max_answer_size} octets, found more"
                    )
                if code == ReplyCode.REPLBODY:
                    if apart and self.style == "postfix":
                        raise RemoteProtocolError("REPLBODY packet: expected right after the one before, found apart")
                    replaced = True
                modifications.append(self._modification(code, payload))
            code, payload = await self._link.receive("EOM")
        answer = self._verdict(Stage.EOM, code, payload)
        self._link.expect_nothing_more("EOM")
        self._settled = _Decision(Stage.EOM, answer)
        self._inside = False
        self._answered()
        return EndOfMessageResult(answer, tuple(modifications), progress)

    def _verdict(self, stage: Stage, code: int, payload: bytes) -> Answer:
        legal = ANSWERS[stage]
        if code not in legal or (code == ReplyCode.SKIP and not self.agreed.protocol & Protocol.SKIP):
            raise RemoteProtocolError(f"{stage.name} answer: expected a verdict of this step, found {_name(code)}")
        if code == ReplyCode.REPLYCODE:
            return Reply.decode(payload)
        _no_payload(code, payload)
        return _VERDICTS[code]

    def _modification(self, code: int, payload: bytes) -> Modification:
        strict = not self._lenient or (code == ReplyCode.REPLBODY and self.style == "sendmail")
        # Both MTAs apply it all the same, but for Sendmail and REPLBODY.
        if strict and not self.agreed.actions & _NEEDS[code]:
            raise RemoteProtocolError(f"{_name(code)} packet: expected what was agreed on, found another action")
        return _DECODE[code](payload)


def _bracketed(path: str) -> str:
    return path if path.startswith("<") else f"<{path}>"


def _name(code: int) -> str:
    try:
        return ReplyCode(code).name
    except ValueError:
        return f"{code:#04x}"


def _no_payload(code: int, payload: bytes) -> None:
    if payload:
        raise RemoteProtocolError(f"{_name(code)} packet: expected no payload, found {len(payload)} octets")


def _strings(*texts: str) -> bytes:
    payload = pack_strings(*texts)
    if payload.count(b"\0") != len(texts):
        raise LocalProtocolError("packet: expected text without NUL, found NUL")
    return payload


def _given(values: Mapping[str, str]) -> dict[str, str]:
    _strings(*values, *values.values())
    return {canonical_macro(name): value for name, value in values.items()}


def _client(style: Style, hostname: str, address: str, port: int, family: Family | None) -> Connect:
    if not 0 <= port <= 65535:
        raise LocalProtocolError(f"port: expected 0 to 65535, found {port}")
    if family is Family.UNKNOWN or (family is None and not address):
        return Connect(hostname)
    if family is None:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            # What Postfix sends where it knows no address: family 4 with some text.
            family = Family.UNIX if address.startswith("/") else Family.INET
        else:
            family = Family.INET if ip.version == 4 else Family.INET6
            address = ip.compressed if style == "postfix" or ip.version == 4 else _sendmail_ipv6(ip.exploded)
    return Connect(hostname, family, 0 if family is Family.UNIX else port, address)


def _sendmail_ipv6(exploded: str) -> str:
    return "IPv6:" + ":".join(group.lstrip("0") or "0" for group in exploded.split(":"))
