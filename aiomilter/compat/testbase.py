"""A base that plays messages to a filter derived from it, for the filter's unit tests: ``Milter.test``."""

from pathlib import Path
from typing import Any, BinaryIO, TextIO

from aiomilter.compat.lowlevel import CONTINUE, NOREPLY
from aiomilter.compat.mime import MimeMessage
from aiomilter.compat.testctx import TestCtx, client_address

__all__ = ["TestBase"]


class TestBase:
    """Comes first among the bases of a test's filter, and remembers what the filter asks for.

    See :class:`~aiomilter.compat.testctx.TestCtx` for the attributes that a test looks at; ``_addrcpt`` has no parameters
    here.

    Args:
        logfile: Path of a file to which ``log`` appends.

    Source: observed of pymilter 1.0.5.
    """

    __test__ = False

    def __init__(self, logfile: str = "test/milter.log") -> None:
        self.logfp: TextIO = open(logfile, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - until _close()
        self._played = TestCtx()

    def _close(self) -> None:
        """Close the file of the log."""
        self.logfp.close()

    def log(self, *msg: object) -> None:
        """Append a line to the log."""
        print(*msg, file=self.logfp)

    # What a test looks at.

    @property
    def _msg(self) -> MimeMessage | None:
        return self._played._msg

    @property
    def _body(self) -> Any:
        return self._played._body

    @property
    def _bodyreplaced(self) -> bool:
        return self._played._bodyreplaced

    @property
    def _headerschanged(self) -> bool:
        return self._played._headerschanged

    @property
    def _envfromchanged(self) -> bool:
        return self._played._envfromchanged

    @property
    def _sender(self) -> str | None:
        return self._played._sender

    @property
    def _reply(self) -> tuple[Any, ...] | None:
        return self._played._reply

    @property
    def _addrcpt(self) -> list[str]:
        return [recipient for recipient, _ in self._played._addrcpt]

    @property
    def _delrcpt(self) -> list[str]:
        return self._played._delrcpt

    # What a filter does.

    def setsymval(self, name: str, val: str) -> None:
        """Set a macro, as the MTA does."""
        self._played._setsymval(name, val)

    def getsymval(self, name: str) -> str | None:
        """Return a macro."""
        return self._played.getsymval(name)

    def setsymlist(self, stage: int, *macros: str) -> None:
        """Ask for the macros of a stage."""
        self._played.setsymlist(stage, " ".join(macros))

    def setreply(self, rcode: str, xcode: str | None, *msg: str) -> None:
        """Remember a reply."""
        self._played.setreply(rcode, xcode, *msg)

    def addheader(self, field: str, value: str, idx: int = -1) -> None:
        """Add a header."""
        self.log(f"addheader: {field}={value}")
        self._played.addheader(field, value, idx)

    def chgheader(self, field: str, idx: int, value: str | None) -> None:
        """Change or delete a header."""
        self.log(f"chgheader: {field}[{idx}]={value}")
        self._played.chgheader(field, idx, value)

    def addrcpt(self, rcpt: str, params: str | None = None) -> None:
        """Remember an added recipient."""
        self._played.addrcpt(rcpt, params)

    def delrcpt(self, rcpt: str) -> None:
        """Remember a deleted recipient."""
        self._played.delrcpt(rcpt)

    def replacebody(self, chunk: bytes | str) -> None:
        """Replace the body."""
        self._played.replacebody(chunk)

    def chgfrom(self, sender: str, params: str | None = None) -> None:
        """Change the envelope sender."""
        self.log(f"chgfrom: sender={sender}")
        self._played.chgfrom(sender, params)

    def quarantine(self, reason: str) -> None:
        """Remember why the message is held."""
        self._played.quarantine(reason)

    def progress(self) -> None:
        """Do nothing."""

    # What the MTA does.

    def connect(self, host: str = "localhost", helo: str = "spamrelay", ip: str = "1.2.3.4") -> int:
        """Connect and say HELO; returns the first answer that is not ``CONTINUE``."""
        filtering: Any = self
        filtering._setctx(self._played)
        self._played._begin()
        if (answer := self._played._negotiate_with(filtering.negotiate)) != CONTINUE:
            return answer
        result: int = super().connect(host, *client_address(ip))  # type: ignore[misc]
        if result in (CONTINUE, NOREPLY):
            result = filtering.hello(helo)
        if result in (CONTINUE, NOREPLY):
            return CONTINUE
        filtering.close()
        return result

    def feedFile(self, fp: BinaryIO, sender: str = "spam@adv.com", rcpt: str = "victim@lamb.com", *rcpts: str) -> int:
        """Play the message in a file, then close; see :meth:`aiomilter.compat.testctx.TestCtx._feedFile`."""
        result = self._played._feedFile(fp, sender, rcpt, *rcpts)
        filtering: Any = self
        filtering.close()
        return result

    def feedMsg(self, fname: str, sender: str = "spam@adv.com", *rcpts: str) -> int:
        """Play a message of the directory ``test``."""
        with Path("test", fname).open("rb") as fp:
            return self.feedFile(fp, sender, *rcpts)
