"""Whole messages over the real session code: what comes in, what leaves, and what is asked of the MTA."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiomilter import ACCEPT, CONTINUE, REJECT, TEMPFAIL, Context, EndOfMessageContext, Mail, Reply, Response
from aiomilter.exceptions import LocalProtocolError
from aiomilter.message import Headers, Message, MessageMilter, Part, StructureError
from aiomilter.mta import MessageResult, Style
from aiomilter.testing import session
from aiomilter.wire.constants import Stage
from aiomilter.wire.modifications import InsertHeader, Quarantine, ReplaceBody

HEAD = b"From: a@x.example\r\nSubject: hello\r\nX-A:none\r\n"
TEXT = HEAD + b"\r\nHello\r\n"


def doing(function: Callable[[Message], Any], **attributes: Any) -> type[MessageMilter]:
    """Return a filter that does something to each message."""

    class Doing(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> Response | None:
            result = function(message)
            return (await result) if hasattr(result, "__await__") else None

    for name, value in attributes.items():
        setattr(Doing, name, value)
    return Doing


async def send(milter: Callable[[], MessageMilter], octets: bytes = TEXT, mta: Style = "postfix") -> MessageResult:
    async with session(milter, mta=mta) as s:
        return await s.send(octets, "alice@x.example", ["bob@y.example"])


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
async def test_a_message_that_is_read_only_gets_no_packet(mta: Style) -> None:
    seen: list[bytes] = []

    async def look(message: Message) -> None:
        seen.append(b"".join([piece async for piece in message.octets()]))
        seen.append(b"".join([piece async for piece in message.body.chunks()]))
        assert message.sender is not None
        assert message.sender.address == "alice@x.example"
        assert [rcpt.address for rcpt in message.recipients] == ["bob@y.example"]
        assert message.size == len(TEXT)
        assert message.changes == ((), False, 0)

    result = await send(doing(look), TEXT, mta)
    assert seen == [TEXT, b"Hello\r\n"]
    assert result.modifications == ()


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
async def test_header_edits_arrive_octet_for_octet(mta: Style) -> None:
    def edit(message: Message) -> None:
        headers = message.headers
        headers.prepend("X-Top", "1")
        headers.insert_after(headers[1], "X-Inner", "2")
        headers.append("X-End", "", raw=b"3")
        headers.set_text("Subject", "[EXT] " + headers.text("Subject"))
        assert message.changes.fields == ("subject", "x-top", "x-inner", "x-end")

    result = await send(doing(edit), TEXT, mta)
    lines = [b"X-Top: 1", b"X-Inner: 2", b"From: a@x.example", b"Subject: [EXT] hello", b"X-A:none", b"X-End:3"]
    lines[1], lines[2] = lines[2], lines[1]
    assert result.octets == b"\r\n".join([*lines, b"", b"Hello", b""])


async def test_the_envelope_changes_with_the_message() -> None:
    def edit(message: Message) -> None:
        message.change_sender("new@x.example")
        message.recipients.add("carol@y.example", "NOTIFY=NEVER")
        message.recipients.remove("bob@y.example")
        message.quarantine("look at it")
        with pytest.raises(LocalProtocolError):
            message.recipients.add("two, addresses@x.example")

    result = await send(doing(edit))
    assert result.delivered is not None
    assert result.delivered.sender.address == "new@x.example"
    assert [rcpt.address for rcpt in result.delivered.recipients] == ["carol@y.example"]
    assert Quarantine("look at it") in result.edits


@pytest.mark.parametrize("answer", [REJECT, TEMPFAIL, Reply(550, "5.7.1", "no")])
async def test_nothing_leaves_with_a_refusal(answer: Response) -> None:
    async def edit(message: Message) -> Response:
        message.headers.append("X", "1")
        message.root.replace("new")
        return answer

    result = await send(doing(edit))
    assert (result.answer, result.modifications) == (answer, ())


async def test_accept_passes_with_the_edits() -> None:
    async def edit(message: Message) -> Response:
        message.headers.append("X", "1")
        return ACCEPT

    result = await send(doing(edit))
    assert (result.answer, len(result.edits)) == (ACCEPT, 1)


async def test_the_context_of_a_message_does_not_edit() -> None:
    class Old(MessageMilter):
        async def message(self, ctx: Context, message: Message) -> None:
            assert not isinstance(ctx, EndOfMessageContext)
            ctx.add_header("X", "1")  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="edits are made"):
        await send(Old)


async def test_a_message_too_large_is_refused_and_not_kept() -> None:
    called: list[object] = []
    milter = doing(called.append, max_size=len(TEXT) - 1)
    result = await send(milter)
    assert result.answer == Reply(552, "5.3.4", "Message too large")
    assert called == []
    assert (await send(doing(called.append, max_size=len(TEXT)))).answer is CONTINUE
    assert len(called) == 1
    assert (await send(doing(called.append, max_size=1, on_too_large=TEMPFAIL))).answer is TEMPFAIL


async def test_messages_of_a_connection_know_nothing_of_each_other() -> None:
    seen: list[tuple[int, int]] = []

    def look(message: Message) -> None:
        seen.append((len(message.headers), message.body.size))

    async with session(doing(look)) as s:
        for octets in (TEXT, b"A: 1\r\n\r\n", b"\r\nbody\r\n"):
            await s.send(octets, "alice@x.example", ["bob@y.example"])
    assert seen == [(3, 7), (1, 0), (0, 6)]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    make = tempfile.TemporaryFile

    def remember(*args: Any, **options: Any) -> Any:
        made.append(make(*args, **options))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    return made


LARGE = HEAD + b"\r\n" + b"".join(b"%09d line\r\n" % number for number in range(20_000))


async def test_a_large_body_is_in_a_file_that_ends_with_the_message(files: list[Any], tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def edit(message: Message) -> None:
        assert len(files) == 1
        assert not files[0].closed
        assert os.listdir(tmp_path) == []
        seen.append(b"".join([piece async for piece in message.octets()]))
        message.add_part(b"more", filename="a.bin")

    result = await send(doing(edit, memory_size=70_000, spool_directory=str(tmp_path)), LARGE)
    assert seen == [LARGE]
    assert LARGE.partition(b"\r\n\r\n")[2] in result.octets
    assert files[0].closed


@pytest.mark.parametrize("function", [lambda message: 1 / 0, lambda message: message.root.replace("x")])
async def test_the_file_ends_with_a_failure_and_without_use(function: Any, files: list[Any]) -> None:
    async with session(doing(function, memory_size=0), failures="answer") as s:
        await s.send(LARGE, "alice@x.example", ["bob@y.example"])
        assert [file.closed for file in files] == [True]


async def test_a_disk_that_is_full_is_on_error_and_the_file_is_closed(
    files: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, octets: bytes) -> int:
        raise OSError(28, "No space left on device")

    called: list[object] = []
    async with session(doing(called.append, memory_size=0), failures="answer") as s:
        monkeypatch.setattr("aiomilter.message.spool.os.write", full)
        result = await s.send(LARGE, "alice@x.example", ["bob@y.example"])
        monkeypatch.undo()
    assert (result.answer, called) == (TEMPFAIL, [])
    assert [file.closed for file in files] == [True]


async def test_the_body_is_not_asked_for_where_it_is_not_wanted() -> None:
    class Headersonly(MessageMilter):
        body_wanted = False
        max_size = 1

        async def message(self, ctx: Context, message: Message) -> None:
            with pytest.raises(StructureError):
                _ = message.root
            message.headers.append("X", str(message.body.size))

    assert Stage.BODY not in Headersonly().wants.stages
    assert b"X: 0\r\n" in (await send(Headersonly)).octets


async def test_a_chunk_is_seen_as_it_comes() -> None:
    class Counting(MessageMilter):
        body_wanted = False
        count = 0

        def chunk(self, octets: bytes) -> None:
            self.count += len(octets)

        async def message(self, ctx: Context, message: Message) -> None:
            message.headers.append("X", f"{self.count} {message.body.size}")

    assert Stage.BODY in Counting().wants.stages
    assert b"X: 7 0\r\n" in (await send(Counting)).octets


async def test_head_refuses_before_the_body_comes() -> None:
    class Early(MessageMilter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
            return REJECT if mail.domain == "spam.example" else None

        async def head(self, ctx: Context, headers: Headers) -> Response | None:
            headers.append("X", "without effect")
            return REJECT if headers.text("Subject") == "spam" else None

    async with session(Early) as s:
        spam = await s.send(b"Subject: spam\r\n\r\nx\r\n", "a@x.example", ["bob@y.example"])
        ham = await s.send(TEXT, "a@x.example", ["bob@y.example"])
        assert await s.mail("<a@spam.example>") is REJECT
    assert (spam.answer, spam.stage) == (REJECT, Stage.EOH)
    assert ham.octets == TEXT
    assert Stage.EOH not in doing(lambda message: None)().wants.stages


def test_what_may_not_be_overridden_is_refused() -> None:
    for name in ("header", "eoh", "body", "eom"):

        async def callback(self: Any, ctx: Context, *args: object) -> None: ...

        with pytest.raises(TypeError, match="async def message"):
            type("Wrong", (MessageMilter,), {name: callback})
    with pytest.raises(TypeError, match="async def message"):
        type("Wrong", (MessageMilter,), {"message": lambda self, ctx, message: None})

    async def chunk(self: Any, octets: bytes) -> None: ...

    with pytest.raises(TypeError, match="plain 'def chunk'"):
        type("Wrong", (MessageMilter,), {"chunk": chunk})


@pytest.mark.parametrize("exact", [True, False])
async def test_a_field_that_cannot_go_where_it_should_is_logged(exact: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Inserting(MessageMilter):
        leading_space = exact

        async def message(self, ctx: Context, message: Message) -> None:
            message.headers.insert_after(message.headers[0], "X-New", "1")

    result = await send(Inserting, TEXT, "sendmail")
    place = b"\r\nX-New: 1\r\nSubject:" if exact else b"X-New: 1\r\nFrom:"
    assert place in result.octets
    assert ("cannot be moved" in caplog.text) is not exact


async def test_one_body_is_sent_for_all_changes_of_parts() -> None:
    def edit(message: Message) -> None:
        first, *rest = message.root.children
        assert isinstance(first, Part)
        for part in rest:
            part.remove()
        first.replace("new")

    body = b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b\r\n\r\nthree\r\n--b--\r\n"
    result = await send(doing(edit), b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body)
    assert [type(each) for each in result.edits] == [ReplaceBody]
    assert not any(isinstance(each, InsertHeader) for each in result.edits)
