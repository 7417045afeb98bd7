"""Edits on the wire: with which verdict they leave, a body that comes piece by piece, and the limits of a message."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL, LocalProtocolError, NotNegotiatedError, Reply
from aiomilter.observe import Limit, LimitReached
from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, Protocol

from .peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    REPLY,
    Gate,
    Peer,
    body,
    codes,
    connect,
    filter_class,
    frames,
    header,
    helo,
    later,
    macros,
    mail,
    names,
    offer,
    rcpt,
    serving,
)

CONTENT: Final = mail() + rcpt() + DATA + header() + EOH + body()


async def at_end(peer: Peer) -> list[tuple[str, bytes]]:
    """Play a message and return what came at its end."""
    assert await peer.send(CONTENT) == "cccccc"
    before = len(peer.octets)
    await peer.send(EOM)
    return frames(peer.octets[before:])


def with_edits(answer: Any = None, *, suspended: bool = False) -> Any:
    async def eom(filter_: Any, ctx: Any, event: Any) -> Any:
        ctx.add_header("X-A", "1")
        if suspended:
            await asyncio.sleep(0)
        ctx.replace_body(b"new")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return eom


@pytest.mark.parametrize("suspended", [False, True], ids=["inline", "suspended"])
@pytest.mark.parametrize(
    "answer", [None, CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, REPLY, "nonsense", ValueError("x")], ids=repr
)
async def test_edits_leave_with_a_verdict_that_lets_the_message_pass_and_no_other(answer: Any, suspended: bool) -> None:
    """P-110."""
    filter_ = filter_class({"eom": with_edits(answer, suspended=suspended)})
    async with serving(filter_) as scene:
        found = await at_end(await scene.opened())

    last = (
        {None: CONTINUE, "nonsense": TEMPFAIL}.get(answer, answer)
        if not isinstance(answer, BaseException)
        else TEMPFAIL
    )
    edits = [("h", b"X-A\x001\0"), ("b", b"new")] if answer in (None, CONTINUE, ACCEPT) else []
    assert found == [*edits, *frames(last.packet)]
    assert [summary.edit_count for summary in scene.watcher.messages] == [len(edits)]


async def test_edits_of_one_message_are_not_in_the_next() -> None:
    """P-067."""
    filter_ = filter_class({"eom": with_edits(REJECT)})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert [code for code, _ in await at_end(peer)] == ["r"]
        filter_.play = {}
        assert [code for code, _ in await at_end(peer)] == ["c"]


@pytest.mark.parametrize("on_error", [CONTINUE, ACCEPT])
async def test_a_failure_that_lets_the_message_pass_lets_it_pass_unchanged(on_error: Any) -> None:
    """P-096."""
    filter_ = filter_class({"eom": with_edits(ValueError("x"))})
    async with serving(filter_, on_error=on_error) as scene:
        found = await at_end(await scene.opened())

    assert found == frames(on_error.packet)


async def test_the_order_of_edits_on_the_wire() -> None:
    """P-120, P-122: the body last, whatever was asked for first."""

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.replace_body(b"x" * 70000)
        ctx.quarantine("held")
        ctx.add_recipient("a@x")
        ctx.add_header("A", "1")
        ctx.insert_header("B", "1")
        ctx.delete_header("C", 1)
        ctx.change_header("C", 2, "1")
        ctx.change_sender("")
        ctx.delete_recipient("b@x")
        ctx.add_recipient("c@x", "NOTIFY=NEVER")

    async with serving(filter_class({"eom": eom})) as scene:
        found = await at_end(await scene.opened())

    assert "".join(code for code, _ in found) == "mmihe+-2qbbc"


async def test_recipients_that_are_not_there_are_one_warning() -> None:
    """It is the filter's mistake that a message goes to somebody it was kept from."""

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.delete_recipient("BOB@Example.NET")
        ctx.delete_recipient("nobody\u2028@example.net")
        ctx.delete_recipient("nothing@example.net")

    async with serving(filter_class({"eom": eom})) as scene:
        found = await at_end(await scene.opened())

    assert [payload for code, payload in found if code == "-"] == [
        b"<bob@example.net>\0",
        b"<nobody\xe2\x80\xa8@example.net>\0",
        b"<nothing@example.net>\0",
    ]
    assert scene.watcher.remarks == ["delete_recipient: the message has no recipient 'nobody\\u2028@example.net'"]


@pytest.mark.parametrize(
    "name", ["connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "unknown", "abort", "close"]
)
async def test_edits_outside_end_of_message_are_not_to_be_had(name: str) -> None:
    """P-110."""

    def callback(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.add_header("A", "1")

    async with serving(filter_class({name: callback})) as scene:
        peer = await scene.opened()
        await peer.send(MESSAGE + mail() + ABORT + b"\0\0\0\3UX\0" + QUIT)
        assert set(peer.answers) <= set("Oct")

    assert all(isinstance(error, AttributeError) for _, _, error in scene.watcher.failures)
    assert scene.watcher.failures


@pytest.mark.parametrize("actions", [ALL_ACTIONS & ~1, 0x3E])
async def test_an_edit_that_was_not_agreed_on_is_an_error_where_it_is_made(actions: int) -> None:
    """P-111."""
    caught: list[BaseException] = []

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        try:
            ctx.add_header("A", "1")
        except NotNegotiatedError as error:
            caught.append(error)
        ctx.quarantine("instead")

    async with serving(filter_class({"eom": eom})) as scene:
        peer = await scene.opened(offer(actions) + connect() + helo())
        found = await at_end(peer)

    assert [code for code, _ in found] == ["q", "c"]
    assert len(caught) == 1


async def test_values_carry_their_space_where_the_leading_space_was_agreed_on() -> None:
    """P-020, P-043, P-114."""
    seen: list[Any] = []

    def on_header(filter_: Any, ctx: Any, event: Any) -> None:
        seen.append((event.name, event.value, event.separator, event.raw))

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.add_header("A", "1")
        ctx.delete_header("B", 1)

    filter_ = filter_class({"header": on_header, "eom": eom}, leading_space=True)
    fields = (
        header("A", " one\n two") + header("B", "two") + header("C", "") + header("D", "  four") + header("E", "\tfive")
    )
    async with serving(filter_) as scene:
        peer = await scene.opened()
        await peer.send(mail() + rcpt() + DATA + fields + EOH + EOM)
        lenient = await scene.opened(offer(protocol=ALL_PROTOCOL & ~Protocol.LEADING_SPACE))
        await lenient.send(mail() + rcpt() + DATA + header("A", "one") + EOH + EOM)

    assert seen == [
        ("A", "one\n two", " ", b"A: one\r\n two\r\n"),
        ("B", "two", "", b"B:two\r\n"),
        ("C", "", "", b"C:\r\n"),
        ("D", " four", " ", b"D:  four\r\n"),
        ("E", "\tfive", "", b"E:\tfive\r\n"),
        ("A", "one", " ", b"A: one\r\n"),
    ]
    assert frames(peer.octets)[-3:] == [("m", b"\0\0\0\1B\0\0"), ("h", b"A\0 1\0"), ("c", b"")]
    assert frames(lenient.octets)[-3:] == [("m", b"\0\0\0\1B\0\0"), ("h", b"A\x001\0"), ("c", b"")]


# A body that comes piece by piece


class Source:
    """A body of pieces, that knows how far it was read and whether it was closed."""

    def __init__(self, pieces: list[Any], *, suspend: bool = False) -> None:
        self.pieces = pieces
        self.read = 0
        self.closed = 0
        self.suspend = suspend

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> Any:
        if self.suspend:
            await asyncio.sleep(0)
        if self.read == len(self.pieces):
            raise StopAsyncIteration
        piece = self.pieces[self.read]
        self.read += 1
        if isinstance(piece, BaseException):
            raise piece
        return piece

    async def aclose(self) -> None:
        self.closed += 1


def replacing(source: Any, answer: Any = None) -> Any:
    def eom(filter_: Any, ctx: Any, event: Any) -> Any:
        ctx.add_header("A", "1")
        ctx.replace_body(source)
        return answer

    return eom


BODIES: Final[list[tuple[list[Any], list[int]]]] = [
    ([], [0]),
    ([b""], [0]),
    ([b"a", b"b"], [2]),
    ([b"x" * 65535], [65535]),
    ([b"x" * 65536], [65535, 1]),
    ([b"x" * 40000] * 4, [65535, 65535, 28930]),
    ([b"x" * 200000], [65535, 65535, 65535, 3395]),
    ([bytearray(b"x" * 3), memoryview(b"yy"), b""], [5]),
]


@pytest.mark.parametrize("suspend", [False, True], ids=["inline", "suspended"])
@pytest.mark.parametrize(("pieces", "sizes"), BODIES, ids=lambda value: None)
async def test_a_body_in_pieces_leaves_in_whole_packets(pieces: list[Any], sizes: list[int], suspend: bool) -> None:
    """P-120, P-121."""
    source = Source(pieces, suspend=suspend)
    async with serving(filter_class({"eom": replacing(source)})) as scene:
        peer = await scene.opened()
        found = await at_end(peer)
        assert await peer.send(MESSAGE[:]) != ""

    assert [code for code, _ in found] == ["h", *"b" * len(sizes), "c"]
    assert [len(payload) for code, payload in found if code == "b"] == sizes
    assert b"".join(payload for code, payload in found if code == "b") == b"".join(bytes(piece) for piece in pieces)
    assert source.closed >= 1


@pytest.mark.parametrize("suspend", [False, True], ids=["inline", "suspended"])
@pytest.mark.parametrize("on_error", [TEMPFAIL, ACCEPT, CONTINUE, REJECT], ids=repr)
@pytest.mark.parametrize(
    "failure",
    [ValueError("x"), SystemExit(1), asyncio.CancelledError(), "text", None, 5],
    ids=["Exception", "exit", "cancel", "str", "None", "int"],
)
@pytest.mark.parametrize("sent", [0, 2], ids=["before the first piece", "in the middle"])
async def test_a_body_that_fails_is_a_temporary_failure_whatever_on_error_says(
    failure: Any, on_error: Any, suspend: bool, sent: int
) -> None:
    """P-096: a message with half a body never passes."""
    source = Source([*[b"x" * 65535] * sent, failure, b"more"], suspend=suspend)
    async with serving(filter_class({"eom": replacing(source)}), on_error=on_error) as scene:
        peer = await scene.opened()
        found = await at_end(peer)

    assert [code for code, _ in found] == ["h", *"b" * sent, "t"]
    assert source.closed == 1
    assert len(scene.watcher.failures) == 1
    assert [summary.answer for summary in scene.watcher.messages] == ["tempfail"]


@pytest.mark.parametrize("answer", [REJECT, "nonsense", ValueError("x"), DISCARD], ids=repr)
async def test_a_body_that_is_not_sent_is_closed(answer: Any) -> None:
    source, other = Source([b"x"]), Source([b"y"])

    def eom(filter_: Any, ctx: Any, event: Any) -> Any:
        ctx.replace_body(other)
        ctx.replace_body(source)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async with serving(filter_class({"eom": eom})) as scene:
        found = await at_end(await scene.opened())

    assert len(found) == 1
    assert [(each.read, each.closed) for each in (source, other)] == [(0, 1), (0, 1)]


async def test_a_body_that_was_replaced_is_closed_and_one_that_fails_to_close_is_logged() -> None:
    class Failing(Source):
        async def aclose(self) -> None:
            await asyncio.sleep(0)
            raise ValueError("cannot close")

    source = Failing([b"x"])

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.replace_body(source)
        ctx.replace_body(b"new")

    async with serving(filter_class({"eom": eom})) as scene:
        found = await at_end(await scene.opened())

    assert found == [("b", b"new"), ("c", b"")]
    assert [str(error) for _, _, error in scene.watcher.failures] == ["cannot close"]


async def test_an_async_generator_is_a_body() -> None:
    ended: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield b"%d" % number
        finally:
            ended.append("ended")

    async with serving(filter_class({"eom": lambda f, ctx, e: ctx.replace_body(pieces())})) as scene:
        found = await at_end(await scene.opened())

    assert found == [("b", b"012"), ("c", b"")]
    assert ended == ["ended"]


@pytest.mark.parametrize("end", ["abort", "quit", "lost", "server", "time"])
@pytest.mark.parametrize("on_error", [TEMPFAIL, CONTINUE], ids=repr)
async def test_a_body_that_is_cut_short_never_passes(end: str, on_error: Any) -> None:
    """P-064, P-136."""
    gate = Gate()
    closed: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"x" * 65535
            await gate()(None, None, None)
        finally:
            closed.append("closed")

    filter_ = filter_class({"eom": lambda f, ctx, e: ctx.replace_body(pieces())})
    async with serving(filter_, on_error=on_error, callback_timeout=0.005 if end == "time" else 60) as scene:
        peer = scene.peer()
        peer.write(OPENING + CONTENT + EOM)
        await gate.reached.wait()
        if end == "abort":
            peer.write(ABORT)
        elif end == "quit":
            peer.write(QUIT)
        elif end == "lost":
            peer.hang_up()
        elif end == "server":
            await scene.server.close()
        await peer.quiet()
        found = codes(peer.octets)[9:]

    assert closed == ["closed"]
    assert found == {"abort": "bt", "quit": "b", "lost": "b", "server": "bt", "time": "bt"}[end]
    assert names(filter_).count("abort") == (0 if end == "time" else 1)


async def test_twenty_megabytes_obey_the_mta_that_reads_them() -> None:
    """P-120: nothing is made before it can be written."""
    source = Source([b"x" * 65535] * 320)
    async with serving(filter_class({"eom": replacing(source)})) as scene:
        peer = await scene.opened()
        await peer.send(CONTENT)
        before = len(peer.wire.writes)
        while True:
            peer.wire.stalled = True
            if not source.read:
                peer.write(EOM)
            read = source.read
            for _ in range(10):
                await asyncio.sleep(0)
            assert source.read <= read + 3
            assert peer.wire.size < 4 * 65540
            if not peer.protocol.waiting:
                break
            peer.wire.take()
        peer.wire.take()
        found = frames(b"".join(peer.wire.writes[before:]))

    assert [code for code, _ in found] == ["h", *"b" * 320, "c"]
    assert source.closed == 1


# PROGRESS


async def test_progress_is_sent_where_the_mta_takes_it() -> None:
    """P-093: before end of message to Postfix only, and where it waits."""
    possible: dict[str, bool] = {}

    def asks(name: str) -> Any:
        async def callback(filter_: Any, ctx: Any, event: Any) -> None:
            possible[name] = ctx.progress()
            await asyncio.sleep(0)

        return callback

    stages = (
        "connect",
        "helo",
        "envfrom",
        "envrcpt",
        "data",
        "header",
        "eoh",
        "body",
        "eom",
        "unknown",
        "abort",
        "close",
    )
    for mta, expected in (
        ("Postfix 3.7.11", set(stages) - {"abort", "close", "envrcpt"}),
        ("8.17.1", {"eom"}),
        ("", {"eom"}),
    ):
        possible.clear()
        filter_ = filter_class({name: asks(name) for name in stages}, silent=["envrcpt"])
        async with serving(filter_) as scene:
            peer = scene.peer()
            start = offer() + (macros("C", v=mta) if mta else b"")
            await peer.send_each(start + connect() + helo() + b"\0\0\0\3UX\0" + MESSAGE + mail() + ABORT + QUIT)

        assert {name for name, was in possible.items() if was} == expected, mta
        assert peer.answers.count("p") == len(expected) + (mta.startswith("Postfix"))


async def test_progress_leaves_at_once_and_not_inside_a_body() -> None:
    """P-093, P-120."""
    progress: list[bool] = []
    order: list[str] = []

    async def eom(filter_: Any, ctx: Any, event: Any) -> None:
        progress.append(ctx.progress())
        order.append(peer.answers)
        kept = ctx._transaction.source.progress

        async def pieces() -> AsyncIterator[bytes]:
            progress.append(kept())
            yield b"x" * 65535
            progress.append(kept())
            yield b"y"

        ctx.replace_body(pieces())

    async with serving(filter_class({"eom": eom})) as scene:
        peer = await scene.opened()
        found = await at_end(peer)

    assert progress == [True, True, False]
    assert order[0].endswith("p")
    assert [code for code, _ in found] == list("ppbbc")


async def test_progress_is_possible_again_after_a_body_in_pieces() -> None:
    """P-093, P-120."""
    progress: list[bool] = []

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        progress.append(ctx.progress())
        ctx.replace_body(Source([b"x" * 65535, b"y"]))

    async with serving(filter_class({"eom": eom})) as scene:
        peer = await scene.opened()
        for _ in range(2):
            assert [code for code, _ in await at_end(peer)] == list("pbbc")

    assert progress == [True, True]


# Limits


@pytest.mark.parametrize("form", ["answered", "no reply", "not wanted"])
async def test_more_header_fields_than_allowed(form: str) -> None:
    callbacks = ["envfrom", "eom", *(["header"] if form != "not wanted" else [])]
    filter_ = filter_class(callbacks=callbacks, silent=["header"] if form == "no reply" else [])
    async with serving(filter_, max_headers=3) as scene:
        peer = await scene.opened(
            offer(protocol=ALL_PROTOCOL & ~Protocol.NO_HEADERS if form == "not wanted" else ALL_PROTOCOL)
        )
        await peer.send(mail() + rcpt())
        before = len(peer.octets)
        await peer.send(header() * 3)
        await peer.send(header() + header() + EOH + EOM)
        found = frames(peer.octets[before:])
        assert (await peer.send(mail() + rcpt() + header() * 3 + EOM)).strip("c") == ""

    refusal = ("y", b"552 5.3.4 Message header too large\0")
    answered = 3 if form != "no reply" else 0
    assert next(frame for frame in found if frame[0] != "c") == refusal
    assert [code for code, _ in found[:answered]] == ["c"] * answered
    assert found[-1] == refusal
    assert names(filter_).count("header") == (0 if form == "not wanted" else 6)
    assert names(filter_).count("eom") == 1
    assert len(scene.watcher.remarks) >= 1


async def test_larger_header_fields_than_allowed() -> None:
    async with serving(filter_class(), max_headers_size=100) as scene:
        peer = await scene.opened()
        await peer.send(mail() + rcpt())
        assert await peer.send(header("A", "x" * 50) + header("B", "x" * 40) + header("C", "x" * 20)) == "ccy"


async def test_more_recipients_than_allowed() -> None:
    seen: list[int] = []

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        seen.append(len(ctx.recipients))

    filter_ = filter_class({"eom": eom})
    async with serving(filter_, max_recipients=2) as scene:
        peer = await scene.opened()
        for _ in range(2):
            assert await peer.send(mail() + rcpt("<a@x>") + rcpt("<b@x>") + rcpt("<c@x>") + DATA) == "cccyc"
            assert await peer.send(header() + EOH + EOM) == "ccc"

    assert seen == [2, 2]
    assert names(filter_).count("envrcpt") == 4
    assert b"452 4.5.3 Too many recipients" in peer.octets


async def test_larger_recipients_than_allowed() -> None:
    """Each may have 1024 octets on average (a path has 256, RFC 5321); looked at after every 16th."""
    filter_ = filter_class()
    async with serving(filter_, max_recipients=200) as scene:
        peer = await scene.opened()
        large, small = rcpt("<a@x>", "A=" + "x" * 1800), rcpt()
        for _ in range(2):
            assert await peer.send(mail() + large * 127 + small * 9 + EOM) == "c" * 112 + "y" * 25 + "c"

    assert names(filter_).count("envrcpt") == 2 * 111
    assert scene.watcher.remarks == ["more than 204800 octets of recipients (--max-recipients)"] * 2


async def test_endless_recipients_are_one_remark_a_message() -> None:
    """Who goes on after the limit may not fill the log."""
    async with serving(filter_class(), max_recipients=2) as scene:
        peer = await scene.opened()
        for _ in range(2):
            assert await peer.send(mail() + rcpt() * 50 + ABORT) == "ccc" + "y" * 48

    assert scene.watcher.remarks == ["more than 2 recipients (--max-recipients)"] * 2


def _edits(*values: str, body: bytes = b"") -> Callable[[Any, Any, Any], None]:
    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        for value in values:
            ctx.add_header("A", value)
        if body:
            ctx.replace_body(body)

    return eom


BEGUN: Final = mail() + rcpt()
LIMITS: Final = [
    ({"max_recipients": 2}, BEGUN + rcpt() * 3, None, (Limit.RECIPIENTS, 2, "2 recipients (--max-recipients)")),
    (
        {"max_recipients": 20},
        mail() + rcpt("<a@x>", "A=" + "x" * 1800) * 20,
        None,
        (Limit.RECIPIENTS_SIZE, 20_480, "20480 octets of recipients (--max-recipients)"),
    ),
    ({"max_headers": 2}, BEGUN + header() * 4, None, (Limit.HEADERS, 2, "2 header fields (--max-headers)")),
    (
        {"max_headers_size": 100},
        BEGUN + header("A", "x" * 60) * 2,
        None,
        (Limit.HEADERS_SIZE, 100, "100 octets of header fields (--max-headers-size)"),
    ),
    (
        {"max_edits": 2},
        BEGUN + EOM,
        _edits("1", "2", "3"),
        (Limit.EDITS, 2, "2 edits (--max-edits); none is sent"),
    ),
    (
        {"max_edits_size": 50},
        BEGUN + EOM,
        _edits("x" * 30, "x" * 30),
        (Limit.EDITS_SIZE, 50, "50 octets of edits (--max-edits-size); none is sent"),
    ),
    (
        {"max_new_body_size": 9},
        BEGUN + EOM,
        _edits(body=b"x" * 10),
        (Limit.NEW_BODY_SIZE, 9, "9 octets of a new body (--max-new-body-size); none is sent"),
    ),
]


@pytest.mark.parametrize(("options", "sent", "eom", "expected"), LIMITS, ids=[case[3][0] for case in LIMITS])
async def test_a_limit_that_was_reached_is_named_with_its_value_and_option(
    options: dict[str, int], sent: bytes, eom: Any, expected: tuple[Limit, int, str]
) -> None:
    """A limit in octets is another one than a number."""
    limit, number, what = expected
    async with serving(filter_class({"eom": eom} if eom else {}), **options) as scene:
        peer = await scene.opened()
        await peer.send(sent)

    (event,) = [each for each in scene.watcher.all if isinstance(each, LimitReached)]
    assert (event.limit, event.number, event.what) == (limit, number, f"more than {what}")
    assert event.option == next(iter(options))


@pytest.mark.parametrize("on_error", [TEMPFAIL, REJECT, CONTINUE, Reply(451, "4.3.0", "x")], ids=repr)
async def test_more_edits_than_allowed(on_error: Any) -> None:
    """Never an exception to the filter."""

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        for number in range(5):
            ctx.add_header("A", str(number))

    async with serving(filter_class({"eom": eom}), max_edits=4, on_error=on_error) as scene:
        found = await at_end(await scene.opened())

    assert found == frames(on_error.packet)
    assert len(scene.watcher.failures) == 1


async def test_a_packet_that_is_too_large_is_an_error_where_it_is_made() -> None:
    """P-006."""
    caught: list[BaseException] = []

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        try:
            ctx.add_header("A", "x" * 65536)
        except LocalProtocolError as error:
            caught.append(error)

    async with serving(filter_class({"eom": eom})) as scene:
        found = await at_end(await scene.opened())

    assert found == [("c", b"")]
    assert len(caught) == 1


@pytest.mark.parametrize("size", [1000, 65535])
async def test_the_largest_packet_is_an_option(size: int) -> None:
    """P-003."""
    async with serving(filter_class({"body": later()}), max_frame_size=size) as scene:
        peer = await scene.opened(OPENING + mail() + rcpt() + DATA + EOH)
        assert await peer.send(body(b"x" * size)) == "c"
        assert await peer.send((size + 2).to_bytes(4, "big") + b"B") == ""
        assert peer.wire.lost

    assert len(scene.watcher.remarks) == 1
