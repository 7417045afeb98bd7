"""Names for observers of the packets that a connection sends: edits and answers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

from aiomilter._connection.answers import answer_text
from aiomilter.edits import Edits
from aiomilter.exceptions import RemoteProtocolError
from aiomilter.observe import MOST_EDITS, Edit, EditKind
from aiomilter.wire.constants import ReplyCode
from aiomilter.wire.replies import Reply, Verdict
from aiomilter.wire.text import decode

__all__ = ["ReportedPackets", "answer_name", "sent_edits", "sent_kinds"]

_KINDS: Final[dict[int, EditKind]] = {
    ReplyCode.ADDHEADER: "add_header",
    ReplyCode.INSHEADER: "insert_header",
    ReplyCode.CHGHEADER: "change_header",
    ReplyCode.CHGFROM: "change_sender",
    ReplyCode.ADDRCPT: "add_recipient",
    ReplyCode.ADDRCPT_PAR: "add_recipient",
    ReplyCode.DELRCPT: "delete_recipient",
    ReplyCode.QUARANTINE: "quarantine",
    ReplyCode.REPLBODY: "replace_body",
}
_NUMBERED: Final = (ReplyCode.INSHEADER, ReplyCode.CHGHEADER)
"""Their payload begins with four octets of a position."""
_CODE_AT: Final = 4
_PAYLOAD_AT: Final = 5
_TEXT_SIZE: Final = 512
"""Characters of an answer."""


class ReportedPackets(list[bytes]):
    """The packets to be sent, each reported when it is added; without an observer a plain list is used.

    Args:
        report: Called with each packet.
    """

    def __init__(self, report: Callable[[bytes], object]) -> None:
        super().__init__()
        self._report = report

    def append(self, packet: bytes, /) -> None:
        """Add a packet."""
        super().append(packet)
        self._report(packet)

    def __iadd__(self, packets: Iterable[bytes], /) -> Self:  # type: ignore[override,misc]  # a list takes any iterable, too
        """Add packets."""
        for packet in packets:
            self.append(packet)
        return self


def sent_edits(sent: Edits | Sequence[bytes] | None) -> tuple[tuple[Edit, ...], int, str | None]:
    """Return the edits that were sent, the first of them, how many there were, and why the message is held, if it is.

    Args:
        sent: The edits of a native filter, the packets of a classic one, or nothing.
    """
    if sent is None:
        return (), 0, None
    if isinstance(sent, Edits):
        packets, count, body = sent.packets(), sent.count, sent.body is not None
    else:
        packets = [octets for octets in sent if octets[_CODE_AT] in _KINDS and not _is_body(octets)]
        body = any(map(_is_body, sent))
        count = len(packets) + body
    edits = [Edit(_edit_kind(octets), _edit_name(octets)) for octets in packets[:MOST_EDITS]]
    if body:
        edits.append(Edit("replace_body"))
    return tuple(edits[:MOST_EDITS]), count, _quarantine(packets)


def sent_kinds(sent: Edits | Sequence[bytes] | None) -> Sequence[EditKind]:
    """Return the kinds of the edits that were sent; arguments as for :func:`sent_edits`."""
    if sent is None or (isinstance(sent, Edits) and not sent.count):
        return ()
    if not isinstance(sent, Edits):
        kinds = [_edit_kind(octets) for octets in sent if octets[_CODE_AT] in _KINDS and not _is_body(octets)]
        return [*kinds, "replace_body"] if any(map(_is_body, sent)) else kinds
    kinds = [_edit_kind(octets) for octets in sent.packets()]
    return kinds if sent.body is None else [*kinds, "replace_body"]


def _is_body(octets: bytes) -> bool:
    return octets[_CODE_AT] == ReplyCode.REPLBODY


def _edit_kind(octets: bytes) -> EditKind:
    kind = _KINDS[octets[_CODE_AT]]
    return "delete_header" if kind == "change_header" and octets.endswith(b"\0\0") else kind


def _edit_name(octets: bytes) -> str:
    code = octets[_CODE_AT]
    if code == ReplyCode.QUARANTINE:
        return ""
    start = _PAYLOAD_AT + (4 if code in _NUMBERED else 0)
    name = decode(octets[start:].partition(b"\0")[0])
    return name[1:-1] if name.startswith("<") and name.endswith(">") else name


def _quarantine(packets: Iterable[bytes]) -> str | None:
    found = None
    for octets in packets:
        if octets[_CODE_AT] == ReplyCode.QUARANTINE:
            found = decode(octets[_PAYLOAD_AT:-1])
    return found


def answer_name(octets: bytes) -> str:
    """Return a packet sent to the MTA as one line of text, without the values of header fields."""
    code = octets[_CODE_AT]
    if code == ReplyCode.REPLYCODE:
        try:
            return answer_text(Reply.decode(octets[_PAYLOAD_AT:]))
        except RemoteProtocolError:  # of a form that only a classic filter sends
            return repr(decode(octets[_PAYLOAD_AT:-1])[:_TEXT_SIZE])
    if code in _KINDS:
        name = _edit_name(octets) if not _is_body(octets) else ""
        return f"{_edit_kind(octets)} {name!r}" if name else _edit_kind(octets)
    if code == ReplyCode.PROGRESS:
        return "progress"
    try:
        return answer_text(Verdict(code))
    except ValueError:
        return "negotiate" if code == ReplyCode.OPTNEG else repr(chr(code))
