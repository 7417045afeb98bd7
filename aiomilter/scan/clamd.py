"""clamd, the daemon of ClamAV: is there malware in a message?

Source: clamd(8).
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from aiomilter.scan._exchange import Answer, Request
from aiomilter.scan._trouble import Declined, TooLarge, Unavailable, name_shown
from aiomilter.scan.envelope import Envelope
from aiomilter.scan.scanner import Result, Scanner

__all__ = ["Clamd", "ClamdResult"]

_FOUND: Final = b" FOUND"
_STREAM: Final = b"stream: "


@dataclass(frozen=True, slots=True, kw_only=True)
class ClamdResult(Result):
    """What clamd says of a message.

    Args:
        infected: Whether it has found malware.
        name: Of the malware, as its signature has it: printable ASCII, 100 octets at most; "" if nothing was found.
    """

    infected: bool = False
    name: str = ""


class Clamd(Scanner[ClamdResult]):
    """Asks clamd: ``found = await clamd.scan(message.octets())``.

    Give it the whole message, header section first: without that, clamd does not look into attachments.

    Args:
        address: Where it listens: ``unix:/run/clamav/clamd.ctl``, ``inet:3310@127.0.0.1``.
        connect_timeout: Seconds for the connection.
        timeout: Seconds for a scan, with the wait for other scans and for the message's octets.
        max_size: Octets of a message; a larger one has a problem.  clamd has a limit of its own, StreamMaxLength.
        concurrency: Scans at once; more wait.  clamd has a limit of its own, MaxThreads.

    Raises:
        AddressError: The text is not an address that can be connected to.
        ValueError: A number is not above 0.

    Source: clamd(8), INSTREAM.
    """

    _name: ClassVar[str] = "clamd"
    _kind = ClamdResult

    def __init__(
        self,
        address: str,
        *,
        connect_timeout: float = 3.0,
        timeout: float = 30.0,
        max_size: int = 104_857_600,
        concurrency: int = 10,
    ) -> None:
        super().__init__(
            address, connect_timeout=connect_timeout, timeout=timeout, max_size=max_size, concurrency=concurrency
        )

    def _request(self, size: int | None, envelope: Envelope) -> Request:
        return Request(b"zINSTREAM\0", frame=_chunk, closing=bytes(4))

    async def _parse(self, answer: Answer) -> ClamdResult:
        line = await answer.until(b"\0")
        if line == b"stream: OK":
            return ClamdResult()
        if line.startswith(_STREAM) and line.endswith(_FOUND):
            return ClamdResult(infected=True, name=name_shown(line[len(_STREAM) : -len(_FOUND)]) or "?")
        if line.startswith(b"INSTREAM size limit exceeded"):
            raise TooLarge("the message is larger than clamd takes (StreamMaxLength)")
        if line.endswith(b"ERROR"):
            raise Declined(f"answered {name_shown(line)}")
        raise Unavailable(f"expected an answer of clamd, found {name_shown(line)!r}")


def _chunk(octets: bytes) -> bytes:
    return len(octets).to_bytes(4) + octets
