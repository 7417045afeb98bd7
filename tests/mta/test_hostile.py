"""Whatever a filter sends: answers, RemoteProtocolError, or a time limit; nothing else (P-147)."""

from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.mta import MessageResult, Style
from aiomilter.wire.constants import ReplyCode
from aiomilter.wire.framing import packet

from .fakes import CONTINUE_PACKET, negotiated, opened

MESSAGE = b"A: 1\r\nB: 2\r\n\r\nbody\r\n"
STRING = st.binary(max_size=5).map(lambda octets: octets + b"\0")
PAYLOADS = st.one_of(
    st.just(b""),
    st.binary(max_size=12),
    st.lists(STRING, max_size=3).map(b"".join),
    st.tuples(st.binary(min_size=4, max_size=4), st.lists(STRING, max_size=3).map(b"".join)).map(b"".join),
    st.sampled_from([b"550 5.7.1 no\0", b"X\x001\0", b"\0\0\0\1A\0\0", b"<a@x>\0", b"<a@x>\0A=1\0"]),
)
CODES = st.one_of(st.sampled_from(list(ReplyCode)).map(int), st.integers(0, 255))
PACKETS = st.builds(packet, CODES, PAYLOADS)
ANSWERS = st.one_of(
    st.just(CONTINUE_PACKET),
    st.just(CONTINUE_PACKET),
    st.just(CONTINUE_PACKET),
    PACKETS,
    st.lists(PACKETS, max_size=5).map(lambda packets: b"".join([*packets, CONTINUE_PACKET])),
    st.binary(max_size=20),
)
OPENINGS = st.one_of(
    st.builds(negotiated, st.integers(2, 6), st.integers(0, 0x1FF), st.integers(0, 0x1FFFFF)),
    st.just(negotiated()),
    st.builds(packet, st.just(ReplyCode.OPTNEG), st.binary(max_size=30)),
    st.binary(max_size=30),
)


@settings(deadline=None)
@given(st.sampled_from(["postfix", "sendmail"]), st.booleans(), OPENINGS, st.lists(ANSWERS, max_size=20))
@example("postfix", False, negotiated(), [CONTINUE_PACKET] * 8 + [packet(ReplyCode.PROGRESS, b"")])
async def test_any_answers_give_a_result_or_the_one_error(
    style: Style, lenient: bool, opening: bytes, octets: list[bytes]
) -> None:
    script: Iterator[bytes] = iter([opening, *octets])

    def answer(code: str, payload: bytes) -> bytes | None:
        return None if code in "DAQ" else next(script, CONTINUE_PACKET)

    outcome: object
    try:
        session, _ = await opened(answer, envelope=True, style=style, lenient=lenient, timeout=0.0)
        outcome = await session.message(MESSAGE)
        await session.quit()
    except (RemoteProtocolError, TimeoutError) as error:
        outcome = error

    assert isinstance(outcome, MessageResult) or "\n" not in str(outcome)
