"""Every captured conversation, with our client in the place of the MTA.

Source: tests/captures/README.md.
"""

import pytest

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mta import EndOfMessageResult, MessageResult, Session
from aiomilter.wire.constants import Protocol
from aiomilter.wire.events import Connect, Helo, Mail, Negotiate, Rcpt, Unknown
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import NegotiateAnswer
from aiomilter.wire.replies import CONTINUE, Reply, Verdict

from .fakes import (
    ALL_CAPTURES,
    CAPTURES,
    MTA_CAPTURES,
    Capture,
    Exchange,
    MemoryFilter,
    answers,
    captures,
    negotiated,
    opened,
)

MODIFICATION_CODES = frozenset(b"himb+2-eq")
UNKNOWN_USER = b"<nosuch@example.org>\0"
"""The recipient that Postfix itself refuses in its captures, and tells the filter of since RCPT_REJ was agreed."""


async def play(session: Session, exchange: Exchange) -> object:
    """Play the stage that a captured packet belongs to; ABORT and macros are the session's own business."""
    payload = exchange.payload
    match exchange.code:
        case "O":
            return await session.negotiate()
        case "C":
            client = Connect.decode(payload)
            return await session.connect(client.hostname, client.raw_address, client.port, client.family)
        case "H":
            return await session.helo(Helo.decode(payload).name)
        case "M":
            mail = Mail.decode(payload)
            return await session.mail(mail.path, *mail.params)
        case "R":
            rcpt = Rcpt.decode(payload)
            return await session.rcpt(rcpt.path, *rcpt.params)
        case "T":
            return await session.data()
        case "L":
            name, value = payload.decode("utf-8", "surrogateescape").split("\0")[:2]
            leading = session.agreed.protocol & Protocol.LEADING_SPACE
            space = " " if leading and value.startswith(" ") else ""
            return await session.header(name, value[len(space) :], space if leading else " ")
        case "N":
            return await session.eoh()
        case "B":
            return await session.body(payload)
        case "E":
            return await session.end_of_message()
        case "U":
            return await session.unknown(Unknown.decode(payload).line)
        case "Q":
            await session.quit()
    return None


def reported(exchange: Exchange) -> object:
    """What a session has to report for a captured exchange."""
    if exchange.code == "O":
        return NegotiateAnswer.decode(exchange.answers[0][5:])
    if exchange.code == "Q":
        return None
    *before, last = exchange.answers or [packet(ord("c"))]
    answer = Reply.decode(last[5:]) if last[4] == ord("y") else Verdict(last[4])
    if exchange.code != "E":
        return answer
    modifications = [octets for octets in before if octets[4] in MODIFICATION_CODES]
    return answer, [(octets[4], octets[5:]) for octets in modifications], len(before) - len(modifications)


def flat(result: object) -> object:
    """A session's report in the form of :func:`reported`."""
    if isinstance(result, EndOfMessageResult):
        changes = [(change.CODE, change.payload.replace(b">\0\0", b">\0")) for change in result.modifications]
        return result.answer, changes, result.progress
    return result


class Recorded(MemoryFilter):
    """A filter that says what a captured one said, packet for packet."""

    def __init__(self, capture: Capture) -> None:
        self.script = [exchange for exchange in capture.exchanges if exchange.code not in "DA"]
        super().__init__(self.next)

    def next(self, code: str, payload: bytes) -> bytes | None:
        if code in "DA":
            return None
        exchange = self.script.pop(0)
        assert (code, payload) == (exchange.code, exchange.payload)
        return b"".join(exchange.answers)


@pytest.mark.parametrize("capture", MTA_CAPTURES, ids=lambda capture: capture.name)
async def test_a_captured_smtp_session_is_played_as_the_mta_played_it(capture: Capture) -> None:
    """P-148, P-140, P-141: same packets in the same order, ABORTs and the place of MACRO packets included."""
    memory = Recorded(capture)
    offer = Negotiate.decode(capture.exchanges[0].payload)
    session = Session(memory.reader, memory, style=capture.style, offer=offer, timeout=5.0)  # type: ignore[arg-type]
    local = "local-submission" in capture.name

    for exchange in capture.exchanges:
        if exchange.code not in "DA":
            if exchange.payload == UNKNOWN_USER and session.style == "postfix":
                await session.rcpt("<nosuch@example.org>", rejected=Reply(550, "5.1.1", "User unknown"))
            else:
                assert flat(await play(session, exchange)) == reported(exchange)
    await session.close()

    sent = "".join(payload[:1].decode().lower() if code == "D" else code for code, payload in memory.received)
    seen = "".join(
        exchange.payload[:1].decode().lower() if exchange.code == "D" else exchange.code
        for exchange in capture.exchanges
    )
    # Mail that is not from SMTP gets no ABORT; a client played by Session is always one of SMTP.
    assert sent.replace("AAQ", "Q") == seen if local else sent == seen
    assert not memory.script


@pytest.mark.parametrize("capture", ALL_CAPTURES, ids=lambda capture: capture.name)
async def test_each_captured_answer_is_reported_or_refused(capture: Capture) -> None:
    """P-148: every F packet of every file, each in a session of its own at its stage."""
    for exchange in capture.exchanges:
        if exchange.answers and exchange.code == "O":
            memory = MemoryFilter(answers(opening=exchange.answers[0]))
            offer = Negotiate.decode(exchange.payload)
            session = Session(memory.reader, memory, offer=offer)
            if offer.actions:
                assert await session.negotiate() == reported(exchange)
            else:
                # A script's offer of nothing means version 1 to libmilter; no MTA would take what it answers.
                with pytest.raises(RemoteProtocolError):
                    await session.negotiate()
        if not exchange.answers or exchange.code not in "CHMRTLNBEU":
            continue
        session, memory = await opened(answers(opening=negotiated(protocol=Protocol.SKIP)), timeout=5.0)
        if exchange.code not in "CHMU":
            await session.mail("<a@example.org>")
        memory.answer = answers({exchange.code: b"".join(exchange.answers)})
        if capture.name.startswith("libmilter"):
            try:
                result = flat(await play(session, exchange))
            except RemoteProtocolError:
                # Two verdicts for one packet and the like, which the library really does.
                assert len(exchange.answers) > 1 or exchange.answers[0][4] not in b"carty"
                continue
        else:
            result = flat(await play(session, exchange))
        assert result == reported(exchange)


def result_of(name: str) -> list[str]:
    """The lines of the resulting envelope and message at the foot of a captured file."""
    lines = (CAPTURES / name).read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("# resulting"))
    return [line[1:].removeprefix("   ") for line in lines[start + 1 :]]


async def modified(name: str) -> MessageResult:
    """Play the captured message of a file to a filter that sends the captured packets."""
    (capture,) = captures([CAPTURES / name])
    memory = Recorded(capture)
    style = "postfix" if name.startswith("postfix") else "sendmail"
    session = Session(memory.reader, memory, style=style, timeout=5.0)  # type: ignore[arg-type]
    octets = b""
    for exchange in capture.exchanges:
        if exchange.code == "L":
            header, value, _ = exchange.payload.split(b"\0")
            octets += header + b": " + value.replace(b"\n", b"\r\n") + b"\r\n"
        elif exchange.code == "B":
            octets += b"\r\n" + exchange.payload
    for exchange in capture.exchanges:
        if exchange.code in "OCHMR":
            await play(session, exchange)
    return await session.message(octets)


async def test_postfix_delivery_equals_the_captured_queue_file() -> None:
    """P-145, and the result at the foot of postfix-3.7-modify.txt."""
    result = await modified("postfix-3.7-modify.txt")
    lines = result_of("postfix-3.7-modify.txt")
    text = "\n".join(lines[lines.index("") + 1 :])
    text = text.replace(text[text.index("Received:") : text.index("From: ")], "")

    assert result.answer is CONTINUE
    assert result.progress == 1
    assert result.delivered is not None
    assert result.delivered.octets.decode().replace("\r\n", "\n") == text
    assert result.delivered.sender == Mail("<new@example.org>", ("SIZE=400", "BODY=8BITMIME", "RET=HDRS"))
    assert result.delivered.quarantine == "held for review"
    assert result.delivered.recipients == (
        Rcpt("<bob@example.org>", ("NOTIFY=NEVER",)),
        Rcpt("<dave@example.com>"),
        Rcpt("<erin@example.com>", ("NOTIFY=NEVER",)),
    )


async def test_sendmail_delivery_equals_the_captured_queue_file() -> None:
    """P-145, and the result at the foot of sendmail-8.17-modify.txt."""
    result = await modified("sendmail-8.17-modify.txt")
    lines = result_of("sendmail-8.17-modify.txt")
    headers = "\n".join(line.removeprefix("H??") for line in lines if line.startswith(("H??", "\t")))
    headers = headers.replace(headers[headers.index("Received:") : headers.index("From: ")], "")

    assert result.delivered is not None
    head, _, body = result.delivered.octets.decode().replace("\r\n", "\n").partition("\n\n")
    assert head == headers
    assert f"BODY:{body.encode()!r}" in lines
    assert f"S{result.delivered.sender.path}" in lines
    assert f"q{result.delivered.quarantine}" in lines
    assert result.delivered.recipients == (
        Rcpt("<bob@example.com>", ("NOTIFY=NEVER",)),
        Rcpt("<dave@example.com>"),
        Rcpt("<erin@example.com>", ("NOTIFY=NEVER",)),
    )


def test_the_reader_of_captures_finds_all_files() -> None:
    names = {capture.name.rsplit("-c", 1)[0] for capture in ALL_CAPTURES}

    assert names == {file.stem for file in CAPTURES.glob("*.txt")}
