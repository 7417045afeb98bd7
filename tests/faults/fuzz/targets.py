"""What is fuzzed: each target takes octets and raises where a promise is broken."""

import asyncio
import contextlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from aiomilter import ACCEPT, DISCARD, REJECT, SKIP, TEMPFAIL, Reply
from aiomilter.edits import Edits, body_packets
from aiomilter.exceptions import LocalProtocolError, RemoteProtocolError
from aiomilter.wire import events, macros, modifications, negotiation
from aiomilter.wire.constants import ALL_ACTIONS, ReplyCode, Stage
from aiomilter.wire.framing import FrameBuffer, Lookahead
from aiomilter.wire.state import ANSWERS
from tests.faults.fuzz.chains import chains
from tests.faults.fuzz.mail import dmarc
from tests.faults.fuzz.senders import senders
from tests.faults.fuzz.signatures import signatures
from tests.peer import (
    CALLBACKS,
    DATA,
    OPENING,
    Scripted,
    body,
    filter_class,
    frames,
    header,
    mail,
    offer,
    rcpt,
    serving,
)

__all__ = ["TARGETS"]


def framing(octets: bytes) -> None:
    """However octets are split they give the same frames, or are refused at the same place; and each is looked at once."""
    limit, size, octets = octets[:1], octets[1:2], octets[2:]
    max_size, step = (limit or b"\0")[0] * 4, (size or b"\0")[0] % 16 + 1
    pieces = [octets[start : start + step] for start in range(0, len(octets), step)]
    whole, split = _frames([octets], max_size), _frames(pieces, max_size)
    assert whole == split, (whole, split)

    codes, until = frozenset(b"AQ"), frozenset(b"ME")
    once, often = Lookahead(codes, until), Lookahead(codes, until)
    found = None
    for piece in pieces:
        found = often.feed(piece)
    assert once.feed(octets) == found


def _frames(pieces: Sequence[bytes], max_size: int) -> list[object]:
    buffer = FrameBuffer(max_size)
    found: list[object] = []
    try:
        for piece in pieces:
            buffer.feed(piece)
            while (frame := buffer.next_frame()) is not None:
                assert len(frame[1]) <= max_size
                found.append(frame)
        found.append(len(buffer))
    except RemoteProtocolError as error:
        if str(error).startswith("speaks the milter protocol"):
            raise AssertionError(error) from error
        # Not the text: where more has come it may name what is spoken.
        found.append("refused")
    return found


_KINDS: Final[Sequence[Any]] = (
    events.Negotiate,
    negotiation.NegotiateAnswer,
    macros.Macros,
    events.Connect,
    events.Helo,
    events.Mail,
    events.Rcpt,
    events.Data,
    events.Header,
    events.BodyChunk,
    events.Unknown,
    modifications.AddHeader,
    modifications.InsertHeader,
    modifications.ChangeHeader,
    modifications.ReplaceBody,
    modifications.AddRecipient,
    modifications.DeleteRecipient,
    modifications.ChangeSender,
    modifications.Quarantine,
    modifications.Progress,
)


def packets(octets: bytes) -> None:
    """Any payload is a value or a RemoteProtocolError, and a value is what comes back of its own payload."""
    which, payload = (octets[:1] or b"\0")[0], octets[1:]
    if which % (len(_KINDS) + 1) == len(_KINDS):
        with contextlib.suppress(RemoteProtocolError):
            str(Reply.decode(payload))
        return
    kind = _KINDS[which % (len(_KINDS) + 1)]
    try:
        value = kind.decode(payload)
    except RemoteProtocolError:
        return
    again = kind.decode(value.payload)
    assert again == value, (value, again)
    # What users read is worked out late; it may not raise either.
    for name in ("address", "keywords", "ip", "raw", "params"):
        getattr(value, name, None)
    repr(value)


_LINE: Final = re.compile(rb"([45][0-9][0-9])([ -])[\t\x20-\x7e]*")


def replies(octets: bytes) -> None:
    """A reply is refused when it is made, or is one that says to the SMTP client what it was to say, and no more."""
    code, strings = 380 + (octets[:1] or b"\0")[0], _strings(octets[1:])
    enhanced, *lines = strings
    try:
        reply = Reply(code, enhanced or None, *lines)
    except LocalProtocolError:
        return
    ((letter, payload),) = frames(reply.packet)
    assert letter == "y"
    assert payload.index(0) == len(payload) - 1
    text = payload[:-1]
    assert b"%" not in text.replace(b"%%", b"")
    said = text.replace(b"%%", b"%").split(b"\r\n")
    assert len(said) <= 32
    for number, line in enumerate(said):
        match = _LINE.fullmatch(line)
        assert match is not None, line
        assert int(match[1]) == code
        assert match[2] == (b" " if number == len(said) - 1 else b"-")
        assert len(line) <= 510
    assert str(Reply.decode(payload)) == str(reply)


def edits(octets: bytes) -> None:
    """An edit raises when it is asked for, or becomes packets that carry nothing but what was asked."""
    choice, strings = (octets[:1] or b"\0")[0], _strings(octets[1:])
    made = Edits(int(ALL_ACTIONS), bool(choice & 128), 20, 100_000, 1_000_000)
    for number, text in enumerate(strings):
        other = strings[number - 1]
        calls: Sequence[Callable[[], None]] = (
            partial(made.add_header, text, other),
            partial(made.insert_header, text, other, number),
            partial(made.change_header, text, number, other),
            partial(made.change_header, "Subject", number + 1, text),
            partial(made.change_sender, text, (other,)),
            partial(made.add_recipient, text, (other,)),
            partial(made.delete_recipient, text),
            partial(made.quarantine, text),
        )
        with contextlib.suppress(LocalProtocolError):
            calls[(choice + number * (choice >> 4 | 1)) % len(calls)]()
    octets = b"".join([*made.packets(), *body_packets(octets)])
    for letter, payload in frames(octets):
        if letter == "b":
            continue
        assert _ASKED[ord(letter)](payload).payload == payload
        assert payload.endswith(b"\0")
        assert b"\r" not in payload[4:]
        if letter in "him":
            fields = payload[4 * (letter != "h") :].split(b"\0")
            assert len(fields) == 3
            assert re.fullmatch(rb"[!-9;-~]+", fields[0])
            assert not re.search(rb"\n(?![ \t])", fields[1])
        else:
            assert b"\n" not in payload


_ASKED: Final[Mapping[int, Callable[[bytes], Any]]] = {
    **{kind.CODE: kind.decode for kind in _KINDS if kind.__module__ == modifications.__name__},
    ReplyCode.ADDRCPT: modifications.AddRecipient.decode,
    ReplyCode.ADDRCPT_PAR: modifications.AddRecipient.decode_par,
}


def _strings(octets: bytes) -> list[str]:
    """Return what a user may pass: any text, surrogates that stand for no octet among it."""
    return [
        part[1:].decode("utf-16-le", "surrogatepass")
        if part[:1] == b"\x1e" and len(part) % 2
        else part.decode("utf-8", "surrogateescape")
        for part in octets.split(b"\x1f")
    ]


_STARTS: Final = (
    b"",
    offer(),
    OPENING,
    OPENING + mail() + rcpt() + DATA,
    OPENING + mail() + rcpt() + DATA + header(),
    OPENING + mail() + rcpt() + DATA + header() + body(),
)
_RESPONSES: Final = (
    None,
    None,
    None,
    None,
    None,
    ACCEPT,
    REJECT,
    TEMPFAIL,
    DISCARD,
    SKIP,
    Reply(550, "5.7.1", "no"),
    "?",
)
_RAISES: Final = 12
_LEGAL: Final = frozenset(chr(code) for codes in ANSWERS.values() for code in codes) | frozenset("O")
_ANSWERED: Final = frozenset(chr(stage.command) for stage in Stage)


def sessions(octets: bytes) -> None:
    """However an MTA splits what it says the filter sees and answers the same; and no more answers than were due."""
    start, silent, step, wait, octets = *octets[:4].ljust(4, b"\0"), octets[4:]
    conversation = _STARTS[start % len(_STARTS)] + octets
    quiet = [name for number, name in enumerate(CALLBACKS[1:9]) if silent >> number & 1]
    leading = bool(start & 64)
    whole = _play(conversation, 0, quiet, leading, wait & 1)
    split = _play(conversation, step % 32 + 1, quiet, leading, wait & 1)
    # What waits behind a callback that has suspended cancels it or not, as it comes in time or not.
    assert wait & 1 or whole == split, (whole, split)


def _play(conversation: bytes, step: int, quiet: Sequence[str], leading: bool, wait: int) -> object:
    """Play octets in pieces of a size and return what was told and answered."""
    told: list[object] = []

    async def react(filter_: Any, ctx: Any, event: Any) -> Any:
        told.append((event, ctx.macro("i"), ctx.macro("rcpt_addr"), ctx.helo))
        chosen = zlib.crc32(repr(event).encode("utf-8", "replace"))
        if wait and chosen & 3 == 0:
            await asyncio.sleep(0)
        if chosen % 29 == _RAISES:
            raise ValueError("by chance")
        return _RESPONSES[chosen % 31 % len(_RESPONSES)] if chosen & 64 else None

    # A function each: what is played is called only where it is one.
    play = {name: (lambda filter_, ctx, event: react(filter_, ctx, event)) for name in CALLBACKS[1:]}
    filter_: type[Scripted] = filter_class(play, silent=quiet, leading_space=leading)
    answered: list[tuple[str, bytes]] = []

    async def scenario() -> None:
        async with serving(filter_, max_headers=20, max_headers_size=2000, max_recipients=5) as scene:
            peer = scene.peer()
            peer.write(conversation, size=step)
            await peer.quiet()
            answered.extend(frames(peer.octets))
            peer.hang_up()
            await peer.quiet()
            assert not [what for _, what, _ in scene.watcher.failures if "bug" in what], scene.watcher.failures

    _runner().run(scenario())
    assert {letter for letter, _ in answered} <= _LEGAL, answered
    sent = _sent(conversation)
    assert len(answered) <= sum(letter in _ANSWERED or letter == "O" for letter in sent)
    names = [name for name, _ in filter_.told]
    assert names.count("close") == len(filter_.made) - 1
    assert names.count("abort") <= sum(letter in "MRTLNBE" for letter in sent)
    return told, names, answered


def _sent(conversation: bytes) -> str:
    """Return the commands, a letter each, as far as they are whole."""
    buffer, letters = FrameBuffer(), ""
    buffer.feed(conversation)
    with contextlib.suppress(RemoteProtocolError):
        while (frame := buffer.next_frame()) is not None:
            letters += chr(frame[0])
    return letters


_RUNNERS: Final[list[asyncio.Runner]] = []


def _runner() -> asyncio.Runner:
    """Return one event loop for all runs: to make one costs more than to play a session."""
    if not _RUNNERS:
        _RUNNERS.append(asyncio.Runner())
    return _RUNNERS[0]


def close() -> None:
    """End what the targets share."""
    while _RUNNERS:
        _RUNNERS.pop().close()


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (framing, packets, replies, edits, sessions, dmarc, signatures, chains, senders)
}
