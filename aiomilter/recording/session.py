"""The packets of a session without what is private in them."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from aiomilter.recording.body import BodyShape, filler
from aiomilter.recording.field import field_name, field_value
from aiomilter.recording.format import CLOSED, MTA, REMARK, ContentKind, Packet
from aiomilter.recording.redaction import Redaction
from aiomilter.recording.vocabulary import DAEMONS, HOST_MACROS, MACROS_KEPT, PARAMETERS, SECRET_MACROS
from aiomilter.wire.constants import Command, ReplyCode

__all__ = ["SessionRedactor"]

_MACRO_NAME: Final = re.compile(rb"\{?[A-Za-z_]{1,40}\}?")
_SIZE: Final = re.compile(rb"(?i)SIZE=[0-9]{1,20}")
_LOGIN: Final = re.compile(rb"(?i)AUTH=")
_REPLY: Final = re.compile(rb"([45][0-9]{2}(?:[ -]|$))([245]\.[0-9]{1,3}\.[0-9]{1,3}(?: |$))?", re.MULTILINE)
_VERB: Final = re.compile(rb"[A-Za-z]{0,20}")
_VERBS: Final = frozenset(
    b"helo ehlo lhlo mail rcpt data bdat rset vrfy expn help noop quit auth starttls etrn xclient xforward get post".split()
)
_CONNECT_FIXED: Final = 3
"""Octets of family and port behind the host name of a CONNECT packet."""


class SessionRedactor:
    """Redacts the packets of one session, in their order.

    Args:
        redaction: Makes the tokens.
        content: "shape" to redact everything that could tell something; "full" to redact logins and certificates only.
    """

    def __init__(self, redaction: Redaction, content: ContentKind) -> None:
        self._redaction = redaction
        self._full = content == "full"
        self._content_type = b""
        self._body: BodyShape | None = None
        # Packets that wait until the shape of the body in front of them is known, with the octets they wait for.
        self._waiting: deque[tuple[Packet, int]] = deque()
        self._shape = bytearray()

    def mta(self, text: str) -> str:
        """Return what the head says about the MTA."""
        words = text.encode("utf-8", "surrogateescape")
        known = re.fullmatch(r"(?:Postfix )?[0-9][0-9.A-Za-z+/-]{0,40}", text)
        return text if known or self._full else self._redaction.text(words).decode("utf-8", "replace")

    def redacted(self, packet: Packet) -> Iterator[Packet]:
        """Take a packet; yield it and those before it that are known now."""
        body = packet.payload if packet.sender == MTA and packet.code in (Command.BODY, Command.BODYEOB) else b""
        if self._full or not (body or self._body or self._waiting):
            yield self._packet(packet)
            return
        if body:
            if self._body is None:
                self._body = BodyShape(self._redaction, self._content_type)
            self._shape += self._body.add(body)
        elif packet.sender == MTA and packet.code != Command.MACRO:
            yield from self.rest(packet.time)
        self._waiting.append((packet if body else self._packet(packet), len(body)))
        if packet.sender == MTA and packet.code == Command.BODYEOB:
            yield from self.rest(packet.time)
        yield from self._ready()

    def rest(self, seconds: float | None = None) -> Iterator[Packet]:
        """End the body; yield the packets that have waited for that.

        Args:
            seconds: When that was; None for the time of the last packet.
        """
        if self._body is None:
            yield from self._ready()
            return
        body, self._body = self._body, None
        self._shape += body.rest()
        last = self._waiting[-1][0].time if self._waiting else 0.0
        yield from self._ready()
        yield Packet(last if seconds is None else seconds, REMARK, Command.BODY, body.hash.encode("ascii"))

    def _ready(self) -> Iterator[Packet]:
        while self._waiting and self._waiting[0][1] <= len(self._shape):
            packet, size = self._waiting.popleft()
            if size:
                packet = packet._replace(payload=bytes(self._shape[:size]))
                del self._shape[:size]
            yield packet

    def _packet(self, packet: Packet) -> Packet:
        if packet.sender == MTA and packet.code in (Command.MAIL, Command.HELO, Command.ABORT, Command.CONNECT):
            self._content_type = b""
        if not packet.payload or packet.code == CLOSED:
            return packet
        if self._full:
            handler = _SECRETS.get(packet.code) if packet.sender == MTA else None
            return packet if handler is None else packet._replace(payload=handler(self, packet.payload))
        table = _OF_MTA if packet.sender == MTA else _OF_FILTER
        payload = table.get(packet.code, SessionRedactor._anything)(self, packet.payload)
        return packet._replace(payload=payload)

    # ------------------------------------------------------------------------------------------------ by kind of packet

    def _anything(self, payload: bytes) -> bytes:
        return self._redaction.text(payload)

    def _as_it_is(self, payload: bytes) -> bytes:
        return payload

    def _macros(self, payload: bytes) -> bytes:
        strings = payload[1:].split(b"\0")
        for place in range(0, len(strings) - 1, 2):
            strings[place], strings[place + 1] = self._macro(strings[place], strings[place + 1])
        if len(strings) % 2:
            # Behind the last NUL, or a name without value.
            strings[-1] = strings[-1] if self._full else self._redaction.text(strings[-1])
        return payload[:1] + b"\0".join(strings)

    def _macro(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        bare = name.strip(b"{}").lower()
        if bare in SECRET_MACROS:
            return name, self._redaction.text(value)
        if self._full:
            return name, value
        known = _MACRO_NAME.fullmatch(name)
        kept = known is not None and bare in MACROS_KEPT
        if bare in HOST_MACROS:
            redacted = self._redaction.host(value)
        elif bare == b"daemon_name":
            redacted = self._redaction.text(value, DAEMONS)  # of Postfix, its host name, unless a service has another
        else:
            redacted = value if kept else self._redaction.text(value)
        return name if known else self._redaction.text(name), redacted

    def _connect(self, payload: bytes) -> bytes:
        host, nul, rest = payload.partition(b"\0")
        fixed = _CONNECT_FIXED if rest[:1] in (b"4", b"6", b"L") else 1
        return self._redaction.host(host) + nul + rest[:fixed] + self._redaction.text(rest[fixed:])

    def _helo(self, payload: bytes) -> bytes:
        return self._redaction.host(payload)

    def _path(self, payload: bytes) -> bytes:
        path, *params = payload.split(b"\0")
        return b"\0".join([self._redaction.text(path), *map(self._parameter, params)])

    def _parameter(self, param: bytes) -> bytes:
        if _SIZE.fullmatch(param):
            return param
        if _LOGIN.match(param):
            return param[:5] + self._redaction.text(param[5:])
        return param if self._full else self._redaction.text(param, PARAMETERS)

    def _logins(self, payload: bytes) -> bytes:
        path, *params = payload.split(b"\0")
        return b"\0".join([path, *map(self._parameter, params)])

    def _unknown(self, payload: bytes) -> bytes:
        # A login may be in it: "AUTHPLAIN AGFs...".
        match = _VERB.match(payload)
        verb = match[0] if match is not None and match[0].lower() in _VERBS else b""
        return verb + self._redaction.words(payload[len(verb) :])

    def _header(self, payload: bytes) -> bytes:
        name, nul, value = payload.partition(b"\0")
        if name.strip().lower() == b"content-type":
            self._content_type = value.rstrip(b"\0")
        return field_name(self._redaction, name) + nul + field_value(self._redaction, name.strip(), value)

    def _edit(self, payload: bytes) -> bytes:
        return payload[:4] + self._added(payload[4:])

    def _added(self, payload: bytes) -> bytes:
        name, nul, value = payload.partition(b"\0")
        return field_name(self._redaction, name) + nul + field_value(self._redaction, name.strip(), value)

    def _new_body(self, payload: bytes) -> bytes:
        return filler(payload)

    def _reply(self, payload: bytes) -> bytes:
        made, position = [], 0
        for match in _REPLY.finditer(payload):
            made += [self._redaction.text(payload[position : match.start()]), match[0]]
            position = match.end()
        return b"".join([*made, self._redaction.text(payload[position:])])


_Handler = Callable[[SessionRedactor, bytes], bytes]
_OF_MTA: Final[Mapping[int, _Handler]] = MappingProxyType(
    {
        Command.OPTNEG: SessionRedactor._as_it_is,
        Command.MACRO: SessionRedactor._macros,
        Command.CONNECT: SessionRedactor._connect,
        Command.HELO: SessionRedactor._helo,
        Command.MAIL: SessionRedactor._path,
        Command.RCPT: SessionRedactor._path,
        Command.HEADER: SessionRedactor._header,
        Command.UNKNOWN: SessionRedactor._unknown,
    }
)
_OF_FILTER: Final[Mapping[int, _Handler]] = MappingProxyType(
    {
        ReplyCode.OPTNEG: SessionRedactor._as_it_is,
        ReplyCode.ADDHEADER: SessionRedactor._added,
        ReplyCode.INSHEADER: SessionRedactor._edit,
        ReplyCode.CHGHEADER: SessionRedactor._edit,
        ReplyCode.REPLBODY: SessionRedactor._new_body,
        ReplyCode.ADDRCPT_PAR: SessionRedactor._path,
        ReplyCode.CHGFROM: SessionRedactor._path,
        ReplyCode.REPLYCODE: SessionRedactor._reply,
    }
)
_SECRETS: Final[Mapping[int, _Handler]] = MappingProxyType(
    {
        Command.MACRO: SessionRedactor._macros,
        Command.MAIL: SessionRedactor._logins,
        Command.UNKNOWN: SessionRedactor._unknown,
    }
)
"""What is redacted even where the content is recorded in full."""
