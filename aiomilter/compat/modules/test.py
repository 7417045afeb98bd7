"""A base that plays messages to a filter derived from it, for the filter's unit tests: ``Milter.test``."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from aiomilter.compat import classic
from aiomilter.compat.lowlevel import CONTINUE, CURR_ACTS, M_EOM, NOREPLY
from aiomilter.compat.modules.mime import MimeMessage, message_from_file
from aiomilter.compat.modules.testctx import BLOCK, any_address, body_of
from aiomilter.compat.modules.testmessage import NEGOTIATING, TestMessage

__all__ = ["TestBase"]

_GOES_ON = (CONTINUE, NOREPLY)


def _imported() -> None:
    """Have callbacks marked with ``@noreply`` answer ``CONTINUE`` in a program that imports this, in every context.

    Source: observed of pymilter 1.0.5, where ``Milter.NOREPLY`` is 0 from then on, and its own unit tests count on that.
    """
    classic.NOREPLY = CONTINUE


class TestBase(TestMessage):
    """Comes first among the bases of a test's filter, and records the changes that the filter requests.

    It offers all of the protocol, now and in the future, and calls every method, whatever the filter makes of that.

    See :class:`~aiomilter.compat.modules.testmessage.TestMessage` for the attributes that a test looks at; ``_addrcpt`` has no
    parameters here.

    Args:
        logfile: Path of a file to which ``log`` appends.

    Source: observed of pymilter 1.0.5.
    """

    def __init__(self, logfile: str = "test/milter.log") -> None:
        super().__init__()
        self._protocol = 0
        self.logfp: TextIO = open(logfile, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - until _close()

    def _close(self) -> None:
        """Close the file of the log."""
        self.logfp.close()

    def log(self, *msg: object) -> None:
        """Append a line to the log."""
        print(*msg, file=self.logfp)

    # For the filter.

    def setsymval(self, name: str, val: str) -> None:
        """Set a macro, as the MTA does."""
        self._setsymval(name, val)

    def setsymlist(self, stage: int, *macros: str) -> None:
        """Ask for the macros of a stage."""
        super().setsymlist(stage, " ".join(macros))

    def addheader(self, field: str, value: str, idx: int = -1) -> None:
        """Add a header."""
        self.log(f"addheader: {field}={value}")
        super().addheader(field, value, idx)

    def chgheader(self, field: str, idx: int, value: str | None) -> None:
        """Change or delete a header."""
        self.log(f"chgheader: {field}[{idx}]={value}")
        super().chgheader(field, idx, value)

    def addrcpt(self, rcpt: str, params: str | None = None) -> None:
        """Remember an added recipient."""
        self._at_end("addrcpt")
        self._addrcpt.append(rcpt)

    def chgfrom(self, sender: str, params: str | None = None) -> None:
        """Change the envelope sender."""
        self.log(f"chgfrom: sender={sender}")
        super().chgfrom(sender, params)

    # For the test, in place of the MTA.

    def connect(self, host: str = "localhost", helo: str = "spamrelay", ip: str = "1.2.3.4") -> int:
        """Connect and say HELO; returns the first answer that is not ``CONTINUE``, after which the filter is closed."""
        filtering: Any = self
        self._body, self._bodyreplaced = None, False
        filtering._actions, self._protocol = CURR_ACTS, 0
        self._stage = NEGOTIATING
        filtering.negotiate([CURR_ACTS, -1, 0, 0])
        self._stage = None
        result: int = super().connect(host, *any_address(ip))  # type: ignore[misc]
        if result in _GOES_ON:
            result = filtering.hello(helo)
        if result in _GOES_ON:
            return CONTINUE
        filtering.close()
        return result

    def feedFile(self, fp: BinaryIO, sender: str = "spam@adv.com", rcpt: str = "victim@lamb.com", *rcpts: str) -> int:
        """Play the message in a file.

        Args:
            fp: File of octets; any line ends.
            sender: Envelope sender, without brackets.
            rcpt: Envelope recipient, without brackets.
            rcpts: Further ones.
        Returns:
            The first answer that is not ``CONTINUE``, else that of ``eom``, after which the filter is closed.
        """
        octets = fp.read()
        self._begin_message()
        message = message_from_file(BytesIO(octets))
        for result in self._stages(message, octets, sender, (rcpt, *rcpts)):
            if result not in _GOES_ON:
                return result
        filtering: Any = self
        self._msg, self._body, self._stage = message, BytesIO(), M_EOM
        answer: int = filtering.eom()
        self._stage = None
        self._body = BytesIO(self._became())
        filtering.close()
        return answer

    def _stages(self, message: MimeMessage, octets: bytes, sender: str, recipients: tuple[str, ...]) -> Iterator[int]:
        """Play what comes before the end of a message."""
        filtering: Any = self
        self._sender = f"<{sender}>"
        yield filtering.envfrom_bytes(self._sender.encode("utf-8", "surrogateescape"))
        for recipient in recipients:
            yield filtering.envrcpt_bytes(f"<{recipient}>".encode("utf-8", "surrogateescape"))
        yield filtering.data()
        for name, value in message.raw_items():
            yield filtering.header_bytes(name, value.encode("utf-8", "surrogateescape"))
        yield filtering.eoh()
        body = BytesIO(body_of(octets))
        while chunk := body.read(BLOCK):
            yield filtering.body(chunk)

    def feedMsg(self, fname: str, sender: str = "spam@adv.com", *rcpts: str) -> int:
        """Play a message of the directory ``test``."""
        with Path("test", fname).open("rb") as fp:
            return self.feedFile(fp, sender, *rcpts)
