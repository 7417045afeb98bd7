"""The file format of a recorded session, as values and as lines of JSON.

A file is JSON Lines, usually compressed by gzip, and holds one milter connection.  The first line is the head; each further
line is a packet, or the end of the connection::

    {"format": 1, "mta": "Postfix 3.7.11", "time": "2026-05-04T10:11:12.345Z", "listener": "unix:/run/filter.sock",
     "filter": "filter.py", "agreed": {"version": 6, "actions": 511, "protocol": 1024}, "content": "full"}
    {"t": 0.0021, "d": ">", "c": "H", "s": "client.example\\u0000"}

``t`` is in seconds from the beginning of the session, ``d`` is ``>`` for a packet of the MTA and ``<`` for one of the filter,
``c`` is the packet's code and ``s`` its payload, each character an octet (latin-1).  An empty ``c`` says that this side has
closed the connection.  ``d`` is ``#`` for a remark: ``c`` is then ``B`` and ``s`` the keyed hash of a body that is not there.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.recording.errors import RecordingError
from aiomilter.wire.constants import Command, ReplyCode
from aiomilter.wire.macros import Macros
from aiomilter.wire.negotiation import NegotiateAnswer

__all__ = [
    "CLOSED",
    "FILTER",
    "FORMAT",
    "KINDS",
    "MAX_PAYLOAD_SIZE",
    "MTA",
    "REMARK",
    "ContentKind",
    "Head",
    "Packet",
    "Recording",
    "head_line",
    "head_of",
    "packet_line",
    "parse_head",
    "parse_packet",
]

FORMAT: Final = 1
"""The number of this format."""
MTA: Final = ">"
"""``Packet.sender`` of what the MTA has sent."""
FILTER: Final = "<"
"""``Packet.sender`` of what the filter has sent."""
REMARK: Final = "#"
"""``Packet.sender`` of a remark."""
CLOSED: Final = -1
"""``Packet.code`` where the sender has closed the connection."""
MAX_PAYLOAD_SIZE: Final = 1 << 20
"""Octets of one payload; MTAs may agree on up to 1 MiB (MILTER_MDS_1M)."""

ContentKind: TypeAlias = Literal["full", "shape"]
"""Whether a recording holds what was sent, or only its shape."""
KINDS: Final[tuple[ContentKind, ...]] = ("shape", "full")
_TEXT_SIZE: Final = 1000
"""Characters of a text of the head."""
_LONGEST: Final = 1e9
"""Seconds, some thirty years."""
_U32: Final = 0xFFFFFFFF


class Packet(NamedTuple):
    """One line of a recording after its head.

    Args:
        time: Seconds from the beginning of the session.
        sender: :data:`MTA`, :data:`FILTER` or :data:`REMARK`.
        code: The code octet; :data:`CLOSED` for the end of the connection.
        payload: What follows the code.
    """

    time: float
    sender: str
    code: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a recording is of.

    Args:
        mta: As it calls itself (macro ``v``), "Postfix 3.7.11" or "8.17.1"; "" if it does not.
        time: Of the beginning, RFC 3339.
        listener: The socket that the MTA has connected to.
        filter: The filter, as it was given on the command line.
        version: The agreed version; 0 if there was no agreement.
        actions: Agreed bits, see :class:`aiomilter.wire.constants.Action`.
        protocol: Agreed bits, see :class:`aiomilter.wire.constants.Protocol`.
        content: Whether the packets are as they were sent, or only their shape.
    """

    mta: str = ""
    time: str = ""
    listener: str = ""
    filter: str = ""
    version: int = 0
    actions: int = 0
    protocol: int = 0
    content: ContentKind = "full"

    @property
    def style(self) -> Literal["postfix", "sendmail"]:
        """Whose rules the MTA follows; of both, Postfix alone always says its name."""
        return "postfix" if self.mta.startswith("Postfix") else "sendmail"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded session.

    Args:
        name: Of its file.
        head: What it is of.
        packets: In order; of remarks and the end of the connection, too.
    """

    name: str
    head: Head
    packets: tuple[Packet, ...]


def head_of(packets: Iterable[Packet], head: Head) -> Head:
    """Return a head with what the first packets say: the MTA and the agreement."""
    mta, agreed = head.mta, (head.version, head.actions, head.protocol)
    for packet in packets:
        try:
            if packet.sender == FILTER and packet.code == ReplyCode.OPTNEG:
                answer = NegotiateAnswer.decode(packet.payload)
                agreed = (answer.version, answer.actions, answer.protocol)
            elif packet.sender == MTA and packet.code == Command.MACRO and not mta:
                values = Macros.decode(packet.payload).values
                mta = values.get("v") or values.get("{v}") or ""
        except RemoteProtocolError:
            continue  # of a filter or an MTA that breaks the rules: what it has sent is recorded all the same
        if packet.code == Command.MAIL:
            break
    version, actions, protocol = agreed
    return Head(
        mta=mta[:_TEXT_SIZE],
        time=head.time,
        listener=head.listener[:_TEXT_SIZE],
        filter=head.filter[:_TEXT_SIZE],
        version=version,
        actions=actions,
        protocol=protocol,
        content=head.content,
    )


def head_line(head: Head) -> bytes:
    """Return the first line of a file."""
    agreed = {"version": head.version, "actions": head.actions, "protocol": head.protocol}
    fields: dict[str, object] = {"format": FORMAT, "mta": head.mta, "time": head.time, "listener": head.listener}
    fields |= {"filter": head.filter, "agreed": agreed, "content": head.content}
    return _line(fields)


def packet_line(packet: Packet) -> bytes:
    """Return the line of a packet."""
    code = "" if packet.code == CLOSED else chr(packet.code)
    seconds = round(packet.time, 6)
    return _line({"t": seconds, "d": packet.sender, "c": code, "s": packet.payload.decode("latin-1")})


def _line(fields: Mapping[str, object]) -> bytes:
    # In ASCII: a surrogate that stands for an octet is written as an escape, and a terminal shows all of it.
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def parse_head(line: bytes) -> Head:
    """Return the head that a first line is.

    Raises:
        RecordingError: It is none.
    """
    fields = _object(line)
    number = fields.get("format")
    if number != FORMAT or isinstance(number, bool):
        raise RecordingError(f"expected a recorded session of format {FORMAT}, found {number!s:.40}")
    agreed = fields.get("agreed")
    if not isinstance(agreed, dict):
        raise RecordingError("head: expected an object as agreed")
    content = fields.get("content")
    if content not in KINDS:
        raise RecordingError("head: expected full or shape as content")
    return Head(
        mta=_text(fields, "mta"),
        time=_text(fields, "time"),
        listener=_text(fields, "listener"),
        filter=_text(fields, "filter"),
        version=_bits(agreed, "version"),
        actions=_bits(agreed, "actions"),
        protocol=_bits(agreed, "protocol"),
        content=cast(ContentKind, content),
    )


def parse_packet(line: bytes) -> Packet:
    """Return the packet that a line is.

    Raises:
        RecordingError: It is none.
    """
    fields = _object(line)
    seconds, sender, code, text = (fields.get(key) for key in "tdcs")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= _LONGEST:
        raise RecordingError("t: expected seconds, 0 or more")
    if sender not in (MTA, FILTER, REMARK):
        raise RecordingError("d: expected >, < or #")
    if not isinstance(code, str) or len(code) > 1 or code > "\xff":
        raise RecordingError("c: expected one octet, or nothing")
    if not isinstance(text, str) or len(text) > MAX_PAYLOAD_SIZE:
        raise RecordingError(f"s: expected a text of at most {MAX_PAYLOAD_SIZE} octets")
    try:
        payload = text.encode("latin-1")
    except UnicodeEncodeError:
        raise RecordingError("s: expected characters that are octets, found others") from None
    return Packet(float(seconds), cast(str, sender), ord(code) if code else CLOSED, payload)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        # A decoding error of UTF-8 is a ValueError, too; so are digits without end.
        raise RecordingError(f"expected a JSON object, found something else ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise RecordingError(f"expected a JSON object, found {type(found).__name__}")
    return found


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > _TEXT_SIZE:
        raise RecordingError(f"head: expected a text of at most {_TEXT_SIZE} characters as {name}")
    return value


def _bits(agreed: Mapping[str, Any], name: str) -> int:
    value = agreed.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _U32:
        raise RecordingError(f"head: expected a number of 32 bits as {name}")
    return value
