"""Where a filter answers otherwise than the recorded one, it sees what an MTA would send after that."""

from typing import Any

import pytest

from aiomilter import ACCEPT, DISCARD, REJECT, SKIP, TEMPFAIL, Milter, Reply, no_reply
from aiomilter.mta import Session, Style
from aiomilter.options import Options
from aiomilter.recording import CLOSED, FILTER, MTA, Head, Packet, Recording, RecordingError
from aiomilter.recording.capture import Piece, PieceReader
from aiomilter.recording.format import head_of
from aiomilter.testing import replay
from aiomilter.testing._memory import MemoryServer
from aiomilter.testing._replay import ReplayPlan

MESSAGE = b"From: a@x.example\r\nSubject: hello\r\n\r\n" + b"0123456789abcdef" * 8192


class Watching(Milter):
    """Keeps the letter of each callback; a subclass answers."""

    seen: list[str]

    async def note(self, letter: str) -> Any:
        self.seen.append(letter)
        return getattr(self, f"answer_{letter}", None)

    async def connect(self, ctx: Any, connect: Any) -> Any:
        return await self.note("C")

    async def helo(self, ctx: Any, helo: Any) -> Any:
        return await self.note("H")

    async def envfrom(self, ctx: Any, mail: Any) -> Any:
        return await self.note("M")

    async def envrcpt(self, ctx: Any, rcpt: Any) -> Any:
        return await self.note("R")

    async def data(self, ctx: Any) -> Any:
        return await self.note("T")

    async def header(self, ctx: Any, header: Any) -> Any:
        return await self.note("L")

    async def eoh(self, ctx: Any) -> Any:
        return await self.note("N")

    async def body(self, ctx: Any, chunk: bytes) -> Any:
        return await self.note("B")

    async def eom(self, ctx: Any) -> Any:
        ctx.add_header("X-Seen", "yes")
        return await self.note("E")

    async def abort(self, ctx: Any) -> None:
        self.seen.append("A")


def filter_of(**answers: Any) -> type[Watching]:
    return type("Filter", (Watching,), {"seen": [], **{f"answer_{letter}": each for letter, each in answers.items()}})


async def recorded(factory: type[Milter]) -> Recording:
    """Record two messages, each to two recipients."""
    pieces: list[Piece] = []
    async with MemoryServer(factory, Options()) as server:
        reader, writer = server.connect()
        feed, write = reader.feed_data, writer.write

        def fed(data: bytes) -> None:
            pieces.append(Piece(0.0, FILTER, data))
            feed(data)

        class Writer:
            def write(self, data: bytes, /) -> None:
                pieces.append(Piece(0.0, MTA, data))
                write(data)

            drain, close, wait_closed = writer.drain, writer.close, writer.wait_closed

        reader.feed_data = fed  # type: ignore[assignment,method-assign]
        played = Session(reader, Writer(), timeout=30.0)
        await played.negotiate()
        await played.connect()
        await played.helo()
        for _ in range(2):
            await played.send(MESSAGE, "a@x.example", ["b@y.example", "c@y.example"])
        await played.quit()
    packets = tuple(PieceReader().packets(pieces))
    return Recording("two", head_of(packets, Head()), packets)


WHOLE = "MRRTLLNBBBE"


@pytest.fixture
async def two() -> Recording:
    return await recorded(filter_of())


@pytest.mark.parametrize(
    ("answers", "seen", "stages"),
    [
        ({}, f"CH{WHOLE}{WHOLE}", []),
        ({"C": REJECT}, "C", ["CONNECT"]),
        ({"C": ACCEPT}, "C", ["CONNECT"]),
        ({"H": Reply(550, "5.7.1", "no")}, "CH", ["HELO"]),
        ({"M": REJECT}, "CHMM", ["MAIL", "MAIL"]),
        ({"M": ACCEPT}, "CHMM", ["MAIL", "MAIL"]),
        ({"M": DISCARD}, "CHMM", ["MAIL", "MAIL"]),
        ({"R": REJECT}, "CHMRRAMRRA", ["RCPT"] * 4),
        ({"R": ACCEPT}, "CHMRMR", ["RCPT", "RCPT"]),
        ({"T": TEMPFAIL}, "CHMRRTMRRT", ["DATA", "DATA"]),
        ({"L": REJECT}, "CHMRRTLMRRTL", ["HEADER", "HEADER"]),
        ({"N": ACCEPT}, "CHMRRTLLNMRRTLLN", ["EOH", "EOH"]),
        ({"B": SKIP}, "CHMRRTLLNBEMRRTLLNBE", ["BODY", "BODY"]),
        ({"B": REJECT}, "CHMRRTLLNBMRRTLLNB", ["BODY", "BODY"]),
        ({"E": REJECT}, f"CH{WHOLE}{WHOLE}", ["EOM", "EOM"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_a_filter_that_decides_earlier_sees_no_more_of_the_message(
    two: Recording, answers: dict[str, Any], seen: str, stages: list[str]
) -> None:
    factory = filter_of(**answers)
    result = await replay(two, factory)

    assert "".join(factory.seen) == seen
    assert [difference.stage for difference in result.differences] == stages
    assert result.failures == ()


@pytest.mark.parametrize("answers", [{"M": REJECT}, {"T": TEMPFAIL}, {"B": SKIP}, {"E": REJECT}, {"R": REJECT}])
async def test_a_filter_that_decided_is_equal_to_itself_and_differs_from_one_that_does_not(
    answers: dict[str, Any],
) -> None:
    recording = await recorded(filter_of(**answers))

    assert (await replay(recording, filter_of(**answers))).equal
    assert not (await replay(recording, filter_of())).equal


async def test_a_refused_recipient_is_missing_in_what_is_delivered(two: Recording) -> None:
    class One(filter_of()):  # type: ignore[misc]
        async def envrcpt(self, ctx: Any, rcpt: Any) -> Any:
            return REJECT if rcpt.local_part == "b" else None

    result = await replay(two, One)
    assert [difference.stage for difference in result.differences] == ["RCPT", "EOM"] * 2
    assert "  -to <b@y.example>" in str(result)


async def test_stages_without_a_callback_or_a_reply_are_equal_to_continue(two: Recording) -> None:
    class Fewer(Milter):
        @no_reply
        async def header(self, ctx: Any, header: Any) -> None:
            pass

        async def eom(self, ctx: Any) -> None:
            ctx.add_header("X-Seen", "yes")

    class Plain(Milter):
        async def eom(self, ctx: Any) -> None:
            ctx.add_header("X-Seen", "yes")

    assert (await replay(two, Fewer)).equal
    result = await replay(await recorded(Plain), filter_of())
    assert result.equal
    assert result.notes == ("the filter asks for DATA, HEADER, EOH, BODY, which the recording does not have",)


@pytest.mark.parametrize("had", [False, True])
async def test_the_space_behind_the_colon_comes_as_the_filter_wants_it(had: bool) -> None:
    class Spaces(Milter):
        seen: list[bytes]

        async def header(self, ctx: Any, header: Any) -> None:
            self.seen.append(header.raw)

    class With(Spaces):
        leading_space = True

    class Without(Spaces):
        pass

    Spaces.seen = []
    recording = await recorded(With if had else Without)
    for factory in (With, Without):
        factory.seen = []
        assert (await replay(recording, factory)).equal
        assert factory.seen == [b"From: a@x.example\r\n", b"Subject: hello\r\n"] * 2


async def test_a_failure_is_answered_as_in_production_and_reported(two: Recording) -> None:
    class Fails(filter_of()):  # type: ignore[misc]
        async def eom(self, ctx: Any) -> None:
            raise ValueError("no")

    result = await replay(two, Fails)
    assert [str(error) for error in result.failures] == ["no", "no"]
    assert "EOM: continue, now tempfail" in str(result)
    assert "failure: ValueError: no" in str(result)


async def test_two_filters_and_two_recordings_can_be_compared(two: Recording) -> None:
    other = await recorded(filter_of(E=REJECT))
    assert (await replay(two, filter_of(E=REJECT), against=filter_of(E=REJECT))).equal
    assert (await replay(two, filter_of(E=REJECT), against=other)).equal
    assert not (await replay(two, filter_of(), against=other)).equal
    with pytest.raises(RecordingError, match="expected the same session as in two, found another"):
        await replay(two, filter_of(), against=await recorded(filter_of(M=REJECT)))


async def test_the_rules_of_the_other_mta_can_be_asked_for(two: Recording) -> None:
    """Sendmail adds a field in front of those of its name, Postfix at the end."""

    class Again(filter_of()):  # type: ignore[misc]
        async def eom(self, ctx: Any) -> None:
            ctx.add_header("From", "b@y.example")

    delivered = {}
    styles: tuple[Style, ...] = ("postfix", "sendmail")
    for mta in styles:
        result = await replay(two, Again, mta=mta)
        outcome = result.differences[0].now
        assert outcome.delivered is not None
        delivered[mta] = outcome.delivered.octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert delivered["postfix"] == [b"From: a@x.example", b"Subject: hello", b"From: b@y.example"]
    assert delivered["sendmail"] == [b"From: b@y.example", b"From: a@x.example", b"Subject: hello"]


async def test_of_a_shape_texts_are_not_compared(two: Recording) -> None:
    shape = Recording("shape", Head(content="shape", mta="Postfix"), two.packets)

    class OtherText(filter_of()):  # type: ignore[misc]
        async def eom(self, ctx: Any) -> None:
            ctx.add_header("X-Other", "no")

    class OtherKind(filter_of()):  # type: ignore[misc]
        async def eom(self, ctx: Any) -> None:
            ctx.insert_header("X-Seen", "yes")

    assert (await replay(shape, OtherText)).equal
    assert not (await replay(shape, OtherKind)).equal
    assert not (await replay(shape, OtherText, against=filter_of())).equal


def test_a_recording_without_an_agreement_is_refused() -> None:
    with pytest.raises(RecordingError, match="have agreed on nothing"):
        ReplayPlan(Recording("x", Head(), (Packet(0.0, ">", CLOSED),)))
