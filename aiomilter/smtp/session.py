"""The conversation with one SMTP client, in front of a filter.

aiosmtpd provides the connection; the commands are parsed here, since a filter has to see paths, parameters and content
exactly as they were sent.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from aiomilter import mta
from aiomilter.mta.replies import smtp_reply
from aiomilter.observe import CallbackFailed, InternalError, TemporaryFailed, Where
from aiomilter.observe.guard import Guard
from aiomilter.smtp.asked import AskedMilter, MilterLost
from aiomilter.smtp.client import XCLIENT_NAMES, Client, XClientError, after_xclient
from aiomilter.smtp.input import READ_SIZE, ClientInput
from aiomilter.smtp.outcome import Outcome
from aiomilter.smtp.syntax import path_argument, size_of
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import PASSING, REJECT, Reply

try:
    from aiosmtpd.smtp import SMTP
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "aiomilter.smtp needs aiosmtpd: pip install 'aiomilter[smtp]'", name=_error.name
    ) from _error

__all__ = ["SMTPLimits", "SMTPSession"]


_MAX_ERRORS: Final = 20
"""Commands refused for their syntax or order before the client is dropped, as Postfix counts them."""
_UNAVAILABLE: Final = "451 4.7.1 Service unavailable - try again later"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SMTPLimits:
    """Limits of an SMTP client, as the arguments of :func:`aiomilter.smtp.front` say."""

    hostname: str
    max_message_size: int
    max_recipients: int
    max_sessions: int
    idle_timeout: float
    milter_timeout: float


class Owner(Protocol):
    """The server that an SMTP session belongs to."""

    draining: bool
    """Whether it takes no more messages."""
    port: int

    @property
    def host(self) -> str:
        """Where it listens."""
        ...

    @property
    def milter(self) -> str:
        """Where the filter listens."""
        ...

    def shown(self, client: Client) -> Client:
        """Return the client that a filter is shown in place of one that has connected."""
        ...

    @property
    def limits(self) -> SMTPLimits:
        """What an SMTP client may do."""
        ...

    @property
    def on_message(self) -> Callable[[Outcome], None] | None:
        """Called with each message that the filter has decided on."""
        ...

    @property
    def observer(self) -> Guard:
        """Hears what happens."""
        ...

    @property
    def full(self) -> bool:
        """Whether there are more sessions than there may be."""
        ...

    def began(self, session: "SMTPSession", task: "asyncio.Task[None]") -> int:
        """Record a session, and return its number."""
        ...

    def ended(self, session: "SMTPSession") -> None:
        """Forget a session."""


class _Hangup(Exception):
    """The SMTP client has left, or is to leave."""


class SMTPSession(SMTP):
    """One SMTP client."""

    line_length_limit = READ_SIZE

    def __init__(self, owner: Owner) -> None:
        limits = owner.limits
        super().__init__(
            None,
            hostname=limits.hostname,
            timeout=limits.idle_timeout,
            data_size_limit=limits.max_message_size,
            enable_SMTPUTF8=True,
            # None is offered; the log names those that are left.
            auth_exclude_mechanism=("LOGIN", "PLAIN"),
            loop=asyncio.get_running_loop(),
        )
        self._front = owner
        self._limits = limits
        self._number = 0
        self._client = Client("")
        self._input = ClientInput(self._read)
        self._milter = AskedMilter(owner.milter, limits.milter_timeout, self._lost)
        self._errors = 0
        self._may_xclient = False
        self._helo = ""
        self._mail_open = False
        self._accepted = 0

    # ------------------------------------------------------------------------------------------- what aiosmtpd calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the conversation."""
        super().connection_made(transport)
        task = self._handler_coroutine
        assert task is not None
        self._number = self._front.began(self, task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._front.ended(self)
        self._writer.close()
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionError):
            what = f"{type(error).__name__} left the SMTP session"
            self._front.observer.tell(InternalError(self._where(), what, error))

    def eof_received(self) -> bool:
        """Go on answering: a client may send all its commands and close its side."""
        asyncio.StreamReaderProtocol.eof_received(self)
        return True

    def _timeout_cb(self) -> None:
        if self._milter.asking:
            self._reset_timeout()  # the filter takes its time, not the client
            return
        self._say_goodbye(f"421 4.4.2 {self._limits.hostname} Error: timeout exceeded")

    async def _handle_client(self) -> None:
        peer = self.session.peer if self.session is not None else None
        client = Client(str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else Client("")
        self._may_xclient = client.is_local
        self._client = self._front.shown(replace(client, name="localhost" if client.is_local else ""))
        with contextlib.suppress(_Hangup, ConnectionError):
            if self._front.full:
                await self._hang_up(f"421 4.3.2 {self._limits.hostname} Error: too many sessions")
            try:
                await self._greet()
                while True:
                    await self._command(await self._line())
            finally:
                await self._milter.close()

    def leave(self) -> None:
        """Drop the client now if it is between two messages, else after this one."""
        if not self._mail_open and not self._milter.asking:
            self._say_goodbye(f"421 4.3.2 {self._limits.hostname} Service shutting down")

    def _say_goodbye(self, text: str) -> None:
        self._writer.write(text.encode("ascii") + b"\r\n")
        self._writer.close()

    def _lost(self, error: Exception) -> None:
        """Report that the filter cannot be asked any more."""
        what = f"the filter cannot be asked: {error}"
        self._front.observer.tell(TemporaryFailed(self._where(), what, error))

    def _where(self) -> Where:
        return Where(self._number, self._client.address, "smtp", self._milter.queue_id or None)

    # --------------------------------------------------------------------------------------------------- the client

    async def _say(self, reply: str) -> None:
        """Send a reply; one with code 421 is the last.

        Raises:
            _Hangup: It was.
        """
        lines = [_CONTROL.sub("?", line) for line in reply.split("\r\n")]
        await self.push("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        if reply.startswith("421"):
            raise _Hangup

    async def _hang_up(self, reply: str) -> None:
        await self._say(reply)
        raise _Hangup

    async def _complain(self, reply: str) -> None:
        """Refuse a command for its syntax or order; too many of them end the session."""
        self._errors += 1
        if self._errors >= _MAX_ERRORS:
            await self._hang_up(f"421 4.7.0 {self._limits.hostname} Error: too many errors")
        await self._say(reply)

    async def _read(self) -> bytes:
        """Return more octets.

        Raises:
            _Hangup: There are none to come.
        """
        octets = await self._reader.read(READ_SIZE)
        if not octets:
            raise _Hangup
        self._reset_timeout()
        return octets

    async def _line(self) -> bytes:
        """Return the next command line that is not too long."""
        while (line := await self._input.line()) is None:
            await self._complain("500 5.5.2 Error: line too long")
        return line

    # ------------------------------------------------------------------------------------------------- the commands

    async def _greet(self) -> None:
        """Begin with the filter, and with the client."""
        await self._milter.open(self._macros())
        refused = False
        with contextlib.suppress(MilterLost):
            client = self._client
            answer = await self._milter.ask(self._milter.session.connect(client.hostname, client.address, client.port))
            refused = answer is REJECT
            if isinstance(answer, Reply) and answer.code == 421:
                await self._hang_up(str(answer))
        if refused:
            await self._say(f"554 {self._limits.hostname} ESMTP not accepting connections")
        else:
            await self._say(f"220 {self._limits.hostname} ESMTP aiomilter (to try a filter; relays nothing)")

    def _macros(self) -> mta.MacroValues:
        """Return the macros that belong to this server and to the login of the client."""
        hostname, client = self._limits.hostname, self._client
        server = {
            "j": hostname,
            "daemon_name": hostname,
            "daemon_addr": self._front.host,
            "daemon_port": str(self._front.port),
        }
        if not client.login:
            return {Stage.CONNECT: server}
        return {Stage.CONNECT: server, Stage.MAIL: {"{auth_authen}": client.login, "{auth_type}": client.mechanism}}

    async def _command(self, line: bytes) -> None:
        text = line.decode("utf-8", "surrogateescape")
        if _CONTROL.search(text):
            await self._complain("500 5.5.2 Error: control characters in command")
            return
        verb, _, argument = text.strip().partition(" ")
        command = _COMMANDS.get(verb.upper())
        if command is not None:
            try:
                await command(self, argument.strip())
            except MilterLost:
                await self._say(_UNAVAILABLE)
        elif verb.upper() in ("GET", "POST", "CONNECT"):
            # A browser that was talked into speaking to this port.
            await self._hang_up("421 5.7.0 Error: this is SMTP, not HTTP")
        else:
            await self._unknown(text)
        if self._front.draining and not self._mail_open:
            await self._hang_up(f"421 4.3.2 {self._limits.hostname} Service shutting down")

    def _forget_message(self) -> None:
        self._mail_open = False
        self._accepted = 0

    async def _do_helo(self, name: str, extended: bool = False) -> None:
        if not name:
            await self._complain(f"501 5.5.4 Syntax: {'EHLO' if extended else 'HELO'} hostname")
            return
        self._forget_message()
        self._helo = name
        reply = f"250 {self._limits.hostname}"
        if extended:
            lines = [self._limits.hostname, "PIPELINING", f"SIZE {self._limits.max_message_size}"]
            lines += ["ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8"]
            lines += [" ".join(("XCLIENT", *XCLIENT_NAMES))] if self._may_xclient else []
            reply = "\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])
        with contextlib.suppress(MilterLost):
            answer = await self._milter.ask(self._milter.session.helo(name))
            if isinstance(answer, Reply) and answer.code == 421:
                reply = str(answer)
        await self._say(reply)

    async def _do_ehlo(self, name: str) -> None:
        await self._do_helo(name, extended=True)

    async def _do_mail(self, argument: str) -> None:
        if self._mail_open:
            await self._complain("503 5.5.1 Error: nested MAIL command")
            return
        path, params, wrong = path_argument(argument, "FROM:")
        size = size_of(params)
        if wrong or size is None:
            await self._complain(wrong or "501 5.5.4 Bad message size syntax")
            return
        if size > self._limits.max_message_size:
            await self._say("552 5.3.4 Message size exceeds fixed limit")
            return
        answer = await self._milter.ask(self._milter.session.mail(path, *params))
        self._mail_open = answer in PASSING
        await self._say(smtp_reply("postfix", Stage.MAIL, answer))

    async def _do_rcpt(self, argument: str) -> None:
        if not self._mail_open:
            await self._complain("503 5.5.1 Error: need MAIL command")
            return
        path, params, wrong = path_argument(argument, "TO:")
        if wrong:
            await self._complain(wrong)
            return
        if self._accepted >= self._limits.max_recipients:
            await self._say("452 4.5.3 Error: too many recipients")
            return
        answer = await self._milter.ask(self._milter.session.rcpt(path, *params))
        self._accepted += answer in PASSING
        await self._say(smtp_reply("postfix", Stage.RCPT, answer))

    async def _do_data(self, argument: str) -> None:
        if argument:
            await self._complain("501 5.5.4 Syntax: DATA")
            return
        if not self._accepted:
            reply = "554 5.5.1 Error: no valid recipients" if self._mail_open else "503 5.5.1 Error: need MAIL command"
            await self._complain(reply)
            return
        milter = self._milter.session
        answer = await self._milter.ask(milter.data())
        if answer not in PASSING:
            await self._say(smtp_reply("postfix", Stage.DATA, answer))
            return
        await self._say("354 End data with <CR><LF>.<CR><LF>")
        octets = await self._input.content(self._limits.max_message_size)
        try:
            if octets is None:
                await self._milter.ask(milter.abort())
                await self._say("552 5.3.4 Error: message file too big")
            else:
                queue_id = milter.queue_id
                result = await self._milter.ask(milter.message(octets))
                await self._say(self._told(queue_id, result, octets))
        finally:
            self._forget_message()

    def _told(self, queue_id: str, result: mta.MessageResult, octets: bytes) -> str:
        """Hand the result to the owner, and return the SMTP reply."""
        reply = smtp_reply("postfix", result.stage, result.answer, at=Stage.EOM, queue_id=queue_id)
        if self._front.on_message is not None:
            try:
                self._front.on_message(Outcome(queue_id, self._client.address, self._helo, result, reply, octets))
            except Exception as error:  # noqa: BLE001  # the owner's function; its failure must not lose the message
                what = "the message could not be handed on"
                self._front.observer.tell(CallbackFailed(self._where(), what, error))
                return "451 4.3.0 Error: the message could not be stored" if result.answer in PASSING else reply
        return reply

    async def _do_xclient(self, argument: str) -> None:
        """Begin anew as another client."""
        if not self._may_xclient:
            await self._complain("550 5.7.0 Error: insufficient authorization")
            return
        if self._mail_open:
            await self._complain("503 5.5.1 Error: MAIL transaction in progress")
            return
        try:
            client = after_xclient(self._client, argument)
        except XClientError as error:
            await self._complain(str(error))
            return
        await self._milter.close()
        self._client, self._helo = client, ""
        await self._greet()

    async def _do_rset(self, argument: str) -> None:
        self._forget_message()
        with contextlib.suppress(MilterLost):
            await self._milter.ask(self._milter.session.abort())
        await self._say("250 2.0.0 Ok")

    async def _do_noop(self, argument: str) -> None:
        await self._say("250 2.0.0 Ok")

    async def _do_vrfy(self, argument: str) -> None:
        await self._say("252 2.0.0 Send the message, and see")

    async def _do_help(self, argument: str) -> None:
        await self._say("214 2.0.0 This server tries a mail filter; it relays nothing")

    async def _do_quit(self, argument: str) -> None:
        await self._hang_up("221 2.0.0 Bye")

    async def _do_not(self, argument: str) -> None:
        await self._complain("502 5.5.1 Error: command not implemented")

    async def _unknown(self, line: str) -> None:
        """Ask the filter about an unknown command; without a filter, give the usual reply."""
        reply = "502 5.5.2 Error: command not recognized"
        if line.strip():
            with contextlib.suppress(MilterLost):
                answer = await self._milter.ask(self._milter.session.unknown(line))
                reply = smtp_reply("postfix", Stage.UNKNOWN, answer)
        await self._complain(reply)


_COMMANDS: Final[Mapping[str, Callable[[SMTPSession, str], Awaitable[None]]]] = {
    "HELO": SMTPSession._do_helo,
    "EHLO": SMTPSession._do_ehlo,
    "MAIL": SMTPSession._do_mail,
    "RCPT": SMTPSession._do_rcpt,
    "DATA": SMTPSession._do_data,
    "RSET": SMTPSession._do_rset,
    "NOOP": SMTPSession._do_noop,
    "VRFY": SMTPSession._do_vrfy,
    "HELP": SMTPSession._do_help,
    "QUIT": SMTPSession._do_quit,
    "STARTTLS": SMTPSession._do_not,
    "AUTH": SMTPSession._do_not,
    "EXPN": SMTPSession._do_not,
    "BDAT": SMTPSession._do_not,
    "XCLIENT": SMTPSession._do_xclient,
}
