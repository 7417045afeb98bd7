"""rspamd: what is to be done with a message?

Source: rspamd(8); RFC 9112; RFC 8259.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final

from aiomilter.scan._exchange import Answer, Request
from aiomilter.scan._fields import bracketed, host_name, value_octets
from aiomilter.scan._http import read_response
from aiomilter.scan._json import Json, mapping, read_object
from aiomilter.scan._trouble import Declined, TooLarge, Unavailable, name_shown, shown
from aiomilter.scan.envelope import Envelope
from aiomilter.scan.header_changes import NO_CHANGES, AddedHeader, HeaderChanges, RemovedHeader, header_changes
from aiomilter.scan.scanner import Result, Scanner

__all__ = ["AddedHeader", "HeaderChanges", "RemovedHeader", "Rspamd", "RspamdResult", "Symbol"]

_MAX_ENVELOPE: Final = 49_152
"""Octets of an envelope; rspamd takes 80 KiB of header fields."""
_MAX_SYMBOLS: Final = 1_000
_MAX_OPTIONS: Final = 100
_MAX_REPLY: Final = 400
_MAX_SUBJECT: Final = 1_000
_PROXY_ERRORS: Final = (502, 503, 504)
_TOO_LARGE: Final = 413


@dataclass(frozen=True, slots=True)
class Symbol:
    """One rule of rspamd that has hit.

    Args:
        score: What it adds to the score of the message.
        options: What the rule says of it; printable ASCII, 100 octets each at most.
    """

    score: float
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RspamdResult(Result):
    """What rspamd says of a message.

    Args:
        action: What is to be done: "no action", "greylist", "add header", "rewrite subject", "soft reject", "reject",
            "discard", "quarantine", or an action of its configuration; "" with a problem.
        score: Of the message.
        required_score: From which on rspamd rejects.
        symbols: The rules that have hit, by name; names are printable ASCII, 100 octets each at most.
        headers: The changes of the header section that rspamd asks for.
        subject: The new Subject for "rewrite subject"; "" otherwise.
        reply: Text for the SMTP client of "reject" and "soft reject"; "" if it has none.
    """

    action: str = ""
    score: float = 0.0
    required_score: float = 0.0
    symbols: Mapping[str, Symbol] = field(default_factory=lambda: MappingProxyType({}))
    headers: HeaderChanges = NO_CHANGES
    subject: str = ""
    reply: str = ""


class Rspamd(Scanner[RspamdResult]):
    """Asks rspamd: ``found = await rspamd.scan(message.octets(), envelope=envelope)``.

    The address is that of a normal worker, or of a proxy in front of one that speaks HTTP; not of one that speaks milter.

    Args:
        address: Where it listens: ``inet:11333@127.0.0.1``, ``http://127.0.0.1:11333``, ``unix:/run/rspamd/normal.sock``.
        settings_id: Of the settings that hold, such as "inbound"; "" for those that rspamd finds.
        connect_timeout: Seconds for the connection.
        timeout: Seconds for a scan, with the wait for other scans and for the message's octets.
        max_size: Octets of a message; a larger one has a problem.  The default is that of rspamd.
        concurrency: Scans at once; more wait.

    Raises:
        AddressError: The text is not an address that can be connected to.
        ValueError: A number is not above 0, or the id of the settings is not one.

    Source: RFC 9112 sections 3 and 7.1.
    """

    _name: ClassVar[str] = "rspamd"
    _kind = RspamdResult
    # It names all hosts that a message links to: a message of 9,000 links was seen to have an answer of 241 kB.  If that were
    # too much, a sender could have a scan fail.
    _max_answer: ClassVar[int] = 4_194_304

    def __init__(
        self,
        address: str,
        *,
        settings_id: str = "",
        connect_timeout: float = 3.0,
        timeout: float = 30.0,
        max_size: int = 52_428_800,
        concurrency: int = 20,
    ) -> None:
        if address.startswith("http://"):
            address = "inet:" + address.removeprefix("http://").removesuffix("/")
        super().__init__(
            address, connect_timeout=connect_timeout, timeout=timeout, max_size=max_size, concurrency=concurrency
        )
        if any(not "!" <= letter <= "~" for letter in settings_id) or len(settings_id) > _MAX_REPLY:
            raise ValueError(f"expected the id of settings, found {settings_id!r:.100}")
        self._settings_id = settings_id

    def _request(self, size: int | None, envelope: Envelope) -> Request:
        lines = [b"POST /checkv2 HTTP/1.1", b"Host: localhost", b"Connection: close", b"Transfer-Encoding: chunked"]
        if self._settings_id:
            lines.append(b"Settings-ID: " + self._settings_id.encode())
        room = _MAX_ENVELOPE
        for line in _lines(envelope):
            room -= len(line) + 2
            if room < 0:  # of thousands of recipients the first will do
                break
            lines.append(line)
        return Request(b"\r\n".join([*lines, b"", b""]), frame=_chunk, closing=b"0\r\n\r\n")

    async def _parse(self, answer: Answer) -> RspamdResult:
        status, content = await read_response(answer)
        if status == _TOO_LARGE:
            raise TooLarge("the message is larger than rspamd takes (max_message)")
        if status != 200:
            text = f"answered {status} {name_shown(content[:1000])}"
            raise Unavailable(text) if status in _PROXY_ERRORS else Declined(text)
        return _result(read_object(content))


def _lines(envelope: Envelope) -> Iterator[bytes]:
    known = {
        b"IP": b"" if envelope.ip is None else value_octets(str(envelope.ip)),
        b"Hostname": value_octets(host_name(envelope.hostname)),
        b"Helo": value_octets(envelope.helo),
        b"User": value_octets(envelope.login),
        b"Queue-Id": value_octets(envelope.queue_id),
        b"MTA-Name": value_octets(envelope.mta_name),
    }
    for name, value in known.items():
        if value:
            yield name + b": " + value
    if envelope.sender is not None:
        yield b"From: " + bracketed(envelope.sender)
    for recipient in envelope.recipients:
        yield b"Rcpt: " + bracketed(recipient)


def _chunk(octets: bytes) -> bytes:
    # One of no octets would end the message.
    return b"%x\r\n%b\r\n" % (len(octets), octets) if octets else b""


def _result(answer: Mapping[str, Json]) -> RspamdResult:
    action = answer.get("action")
    score, required = _number(answer.get("score")), _number(answer.get("required_score"))
    if not isinstance(action, str) or not action or score is None or required is None:
        raise Unavailable(f"expected action and score, found {name_shown(str(answer.get('error', 'neither')))!r}")
    symbols = {}
    for name, value in [*mapping(answer.get("symbols")).items()][:_MAX_SYMBOLS]:
        options = mapping(value).get("options")
        texts = [each for each in options if isinstance(each, str)] if isinstance(options, list) else []
        weight = _number(mapping(value).get("score")) or 0.0
        symbols[name_shown(name)] = Symbol(weight, tuple(map(name_shown, texts[:_MAX_OPTIONS])))
    reply, subject = mapping(answer.get("messages")).get("smtp_message"), answer.get("subject")
    return RspamdResult(
        action=name_shown(action),
        score=score,
        required_score=required,
        symbols=MappingProxyType(symbols),
        headers=header_changes(mapping(answer.get("milter"))),
        subject=_one_line(subject) if isinstance(subject, str) else "",
        reply=shown(reply, _MAX_REPLY) if isinstance(reply, str) else "",
    )


def _number(value: Json) -> float | None:
    # An integer of JSON may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_SUBJECT])
