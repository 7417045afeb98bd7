"""The order of events: what is in no manual, and what must not be left unanswered."""

from itertools import pairwise
from typing import Any, Final

import pytest

from aiomilter import ACCEPT, REJECT, Action, LocalProtocolError, NegotiationError, Stage, TemporaryFailure, Verdict
from aiomilter.wire.constants import ALL_PROTOCOL, Command, Protocol
from aiomilter.wire.framing import packet
from aiomilter.wire.negotiation import NegotiateAnswer

from .peer import (
    ABORT,
    CALLBACKS,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    Scripted,
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
    unknown,
)

C, H, M, R, L, B, U = connect(), helo(), mail(), rcpt(), header(), body(), unknown()
T, N, E, A, Q, K = DATA, EOH, EOM, ABORT, QUIT, QUIT_NC
IN_CONTENT: Final = M + R + T + L + N + B
WHOLE: Final = "envfrom envrcpt data header eoh body eom"

ORDERS: Final = [
    # What comes after OPTNEG; what is answered; which callbacks are called.
    pytest.param(H, "c", "helo", id="HELO directly after OPTNEG"),
    pytest.param(M, "c", "envfrom", id="MAIL directly after OPTNEG"),
    pytest.param(U, "c", "unknown", id="UNKNOWN directly after OPTNEG"),
    pytest.param(U + C, "cc", "unknown connect", id="UNKNOWN before CONNECT"),
    pytest.param(C + M, "cc", "connect envfrom", id="HELO missing (P-049)"),
    pytest.param(C + H + H, "ccc", "connect helo helo", id="HELO repeated (P-049)"),
    pytest.param(C + H + M + H, "cccc", "connect helo envfrom abort helo", id="HELO inside a message (P-049)"),
    pytest.param(
        IN_CONTENT + H + M, "cccccccc", "envfrom envrcpt data header eoh body abort helo envfrom", id="HELO in content"
    ),
    pytest.param(M + H + A + M, "ccc", "envfrom abort helo envfrom", id="HELO, then ABORT, as Postfix (P-070)"),
    pytest.param(M + A + H + M, "ccc", "envfrom abort helo envfrom", id="ABORT, then HELO, as Sendmail"),
    pytest.param(M + H + A + A + M, "ccc", "envfrom abort helo envfrom", id="HELO and two ABORTs"),
    pytest.param(M + M, "cc", "envfrom abort envfrom", id="MAIL twice (P-050)"),
    pytest.param(M + R + M + R, "cccc", "envfrom envrcpt abort envfrom envrcpt", id="MAIL after RCPT (P-050)"),
    pytest.param(R, "c", "", id="RCPT without MAIL"),
    pytest.param(T, "c", "", id="DATA without MAIL"),
    pytest.param(L, "c", "", id="HEADER without MAIL"),
    pytest.param(N, "c", "", id="EOH without MAIL"),
    pytest.param(B, "c", "", id="BODY without MAIL"),
    pytest.param(E, "c", "", id="BODYEOB without MAIL"),
    pytest.param(R + T + L + N + B + E + M, "ccccccc", "envfrom", id="a message without MAIL, then one with"),
    pytest.param(M + T, "ct", "envfrom abort", id="DATA without RCPT"),
    pytest.param(M + R + T + R + T, "ccccc", "envfrom envrcpt data envrcpt data", id="RCPT after DATA"),
    pytest.param(M + R + T + B, "ccct", "envfrom envrcpt data abort", id="BODY before EOH"),
    pytest.param(M + T + R + T + L + N + B + E, "cttttttt", "envfrom abort", id="all that follows DATA without RCPT"),
    pytest.param(M + T + M + R, "ctcc", "envfrom abort envfrom envrcpt", id="DATA without RCPT, then another message"),
    pytest.param(M + T + A + R + E, "ctcc", "envfrom abort", id="DATA without RCPT, then ABORT"),
    pytest.param(M + R + T + L + R + T + E, "ccccttt", "envfrom envrcpt data header abort", id="RCPT in content"),
    pytest.param(M + R + E, "ccc", "envfrom envrcpt eom", id="BODYEOB right after RCPT"),
    pytest.param(M + R + N + E, "cccc", "envfrom envrcpt eoh eom", id="EOH right after RCPT"),
    pytest.param(M + R + T + N + E, "ccccc", "envfrom envrcpt data eoh eom", id="neither header nor body"),
    pytest.param(C + C, "cc", "connect close connect", id="second CONNECT"),
    pytest.param(C + M + C, "ccc", "connect envfrom abort close connect", id="second CONNECT inside a message"),
    pytest.param(
        M + R + U + N + E, "ccccc", "envfrom envrcpt unknown eoh eom", id="UNKNOWN after RCPT, then EOH (P-047)"
    ),
    pytest.param(M + R + U + L + N + E, "cccccc", "envfrom envrcpt unknown header eoh eom", id="UNKNOWN, then HEADER"),
    pytest.param(M + R + U + E, "cccc", "envfrom envrcpt unknown eom", id="UNKNOWN, then BODYEOB"),
    pytest.param(
        M + R + N + U + B + E, "cccccc", "envfrom envrcpt eoh unknown body eom", id="UNKNOWN between EOH and BODY"
    ),
    pytest.param(M + R + E + A, "ccc", "envfrom envrcpt eom", id="ABORT after BODYEOB (P-060, P-064)"),
    pytest.param(M + R + E + A + A + A, "ccc", "envfrom envrcpt eom", id="ABORTs after BODYEOB"),
    pytest.param(A + A, "", "", id="ABORT outside a message (P-060)"),
    pytest.param(M + A + A + A, "c", "envfrom abort", id="repeated ABORT (P-061)"),
    pytest.param(M + A + M + A, "cc", "envfrom abort envfrom abort", id="two aborted messages"),
    pytest.param(M + Q, "c", "envfrom abort close", id="QUIT inside a message (P-065)"),
    pytest.param(C + Q, "c", "connect close", id="QUIT elsewhere"),
    pytest.param(M + R + E + Q, "ccc", "envfrom envrcpt eom close", id="QUIT after a message"),
    pytest.param(C + Q + M + R, "c", "connect close", id="nothing is handled after QUIT"),
    pytest.param(M + packet(0x21) + M, "c", "envfrom abort close", id="unknown command (P-048)"),
    pytest.param(C + offer() + M, "c", "connect close", id="second OPTNEG (P-023)"),
    pytest.param(M + R + packet(Command.BODY) + E, "cc", "envfrom envrcpt abort close", id="empty BODY"),
    pytest.param(M + packet(Command.MAIL, b"x"), "c", "envfrom abort close", id="malformed MAIL"),
    pytest.param(C + packet(Command.MACRO), "c", "connect close", id="MACRO without a command"),
    pytest.param(C + b"\0\0\0\0M", "c", "connect close", id="length 0 (P-002)"),
    pytest.param(C + b"\0\1\0\1M", "c", "connect close", id="too long (P-003)"),
    pytest.param(C + b"\xff\xff\xff\xffM", "c", "connect close", id="much too long (P-003)"),
]


@pytest.mark.parametrize("form", ["inline", "octet by octet", "suspended"])
@pytest.mark.parametrize(("octets", "answered", "called"), ORDERS)
async def test_out_of_order(octets: bytes, answered: str, called: str, form: str) -> None:
    """P-002, P-003, P-004, P-023, P-030, P-047, P-048, P-049, P-050, P-060, P-061, P-064, P-065, P-070."""
    filter_ = filter_class({name: later() for name in CALLBACKS} if form == "suspended" else {})
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        if form == "suspended":
            found = await peer.send_each(octets)
        else:
            found = await peer.send(octets, size=0 if form == "inline" else 1)
        assert found == answered
        before = names(filter_)
    assert " ".join(before) == called
    assert names(filter_)[len(before) :] in ([], ["close"], ["abort", "close"])
    assert not scene.watcher.failures


@pytest.mark.parametrize(
    "first", [C, H, M, R, T, L, N, B, E, U, A, Q, K, packet(0x21), macros("C", j="x"), b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_the_first_packet_must_be_the_offer(first: bytes) -> None:
    """P-010."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened(first + offer())
        assert peer.octets == b""
        assert peer.wire.lost

    assert filter_.told == []


@pytest.mark.parametrize(
    "opening",
    [packet(Command.OPTNEG, b"\0\0\0\6" + b"\xff" * 7), packet(Command.OPTNEG), offer(version=1), offer(version=0)],
    ids=["11 octets", "no octets", "version 1", "version 0"],
)
async def test_an_offer_that_is_none_closes(opening: bytes) -> None:
    """P-011."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened(opening)
        assert peer.octets == b""
        assert peer.wire.lost

    assert len(scene.watcher.remarks) == 1
    assert names(filter_) in ([], ["close"])


OFFERS: Final = [
    # Offered version, actions, protocol; answered.
    (6, 0x1FF, 0x1FFFFF, 6, 0x1FF),
    (7, 0x1FF, 0x1FFFFF, 6, 0x1FF),
    (0x01000000, 0x1FF, 0x1FFFFF, 6, 0x1FF),
    (2, 0x1FF, 0x7F, 2, 0x1FF),
    (3, 0x3F, 0x17F, 3, 0x3F),
    (4, 0x3F, 0x37F, 4, 0x3F),
    (5, 0x3F, 0x37F, 5, 0x3F),
    (6, 0, 0, 6, 0x0F),
    (6, 0xFFFFFFFF, 0xFFFFFFFF, 6, 0x1FF),
]


@pytest.mark.parametrize(("version", "actions", "protocol", "answered_version", "answered_actions"), OFFERS)
@pytest.mark.parametrize("callbacks", [CALLBACKS[1:], ("eom",), ()], ids=["all", "eom", "none"])
async def test_what_is_answered_to_an_offer(
    version: int, actions: int, protocol: int, answered_version: int, answered_actions: int, callbacks: tuple[str, ...]
) -> None:
    """P-012, P-013, P-014, P-015, P-016, P-020: octets after the first 12 are ignored."""
    filter_ = filter_class(callbacks=callbacks)
    async with serving(filter_) as scene:
        peer = scene.peer()
        octets = offer(actions, protocol, version)
        assert await peer.send(packet(Command.OPTNEG, octets[5:] + b"more")) == "O"
        ((_, payload),) = frames(peer.octets)

    assert int.from_bytes(payload[:4], "big") == answered_version
    assert int.from_bytes(payload[4:8], "big") == answered_actions
    flags = int.from_bytes(payload[8:12], "big")
    assert flags & ~((protocol or 0x3F) & 0x1FFFFF) == 0
    assert not flags & (Protocol.REJECTED_RECIPIENTS | Protocol.LEADING_SPACE)
    assert bool(flags & Protocol.SKIP) == bool(protocol & Protocol.SKIP and "body" in callbacks)
    assert len(payload) == 12


async def test_what_is_wanted_is_asked_for_where_it_is_offered() -> None:
    """P-020, P-021, P-022."""
    filter_ = filter_class(leading_space=True, rejected_recipients=True, macros={Stage.EOM: ("{verify}",)})
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        bare = await scene.opened(offer(0xFF, ALL_PROTOCOL & ~Protocol.LEADING_SPACE & ~Protocol.REJECTED_RECIPIENTS))
    payload, without = frames(peer.octets)[0][1], frames(bare.octets)[0][1]

    assert int.from_bytes(payload[8:12], "big") == Protocol.SKIP | Protocol.REJECTED_RECIPIENTS | Protocol.LEADING_SPACE
    lists = NegotiateAnswer.decode(payload).macros
    assert set(lists) == {Stage.EOH, Stage.EOM}
    assert "{verify}" in lists[Stage.EOM]
    assert payload.endswith(b"\0")
    assert int.from_bytes(without[8:12], "big") == Protocol.SKIP
    assert len(without) == 12


async def test_what_is_required_and_not_offered_closes_with_a_word_in_the_log() -> None:
    """P-015."""
    filter_ = filter_class(actions=Action.QUARANTINE | Action.ADD_HEADERS)
    async with serving(filter_) as scene:
        peer = await scene.opened(offer(0x0F))
        assert peer.octets == b""
        assert peer.wire.lost
        enough = await scene.opened(offer(0x2F))

    assert "QUARANTINE" in scene.watcher.remarks[0]
    assert "ADD_HEADERS" not in scene.watcher.remarks[0]
    assert int.from_bytes(frames(enough.octets)[0][1][4:8], "big") == 0x2F
    assert names(filter_) == ["close", "close"]


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize(
    "error",
    [NegotiationError("no"), ValueError("x"), SystemExit(3), TemporaryFailure("x"), LocalProtocolError("x")],
    ids=repr,
)
async def test_a_failing_negotiate_closes_without_an_answer(error: BaseException, form: str) -> None:
    """P-024."""
    filter_ = filter_class({"negotiate": error if form == "inline" else later(error)}, callbacks=CALLBACKS)
    async with serving(filter_) as scene:
        peer = await scene.opened(offer() + C)
        assert peer.octets == b""
        assert peer.wire.lost

    assert names(filter_) == ["negotiate", "close"]
    assert len(scene.watcher.failures) == (0 if isinstance(error, NegotiationError | TemporaryFailure) else 1)


async def test_negotiate_may_look_at_the_offer_and_has_a_context() -> None:
    seen: list[Any] = []

    def negotiate(filter_: Any, ctx: Any, event: Any) -> None:
        seen.append(
            (event.version, ctx.client.hostname, ctx.helo, ctx.sender, ctx.recipients, ctx.macro("j"), ctx.progress())
        )

    async with serving(filter_class({"negotiate": negotiate}, callbacks=["negotiate"])) as scene:
        peer = await scene.opened(offer(version=4))

    assert codes(peer.octets) == "O"
    assert seen == [(4, "", "", None, (), None, False)]


# The end of stream

PLACES: Final = {
    "nothing": (b"", ""),
    "half an offer": (offer()[:7], ""),
    "negotiation": (offer(), "close"),
    "CONNECT": (offer() + C, "connect close"),
    "half a MAIL": (OPENING + M[:9], "connect helo close"),
    "MAIL": (OPENING + M, "connect helo envfrom abort close"),
    "content": (OPENING + IN_CONTENT, "connect helo envfrom envrcpt data header eoh body abort close"),
    "a body, cut": (OPENING + IN_CONTENT + B[:-1], "connect helo envfrom envrcpt data header eoh body abort close"),
    "a message": (OPENING + MESSAGE, f"connect helo {WHOLE} close"),
    "a message and its ABORT": (OPENING + MESSAGE + A, f"connect helo {WHOLE} close"),
}


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("place", PLACES)
async def test_end_of_stream_after(place: str, form: str) -> None:
    """P-007, P-065, P-066, P-136."""
    octets, called = PLACES[place]
    filter_ = filter_class({} if form == "inline" else {name: later() for name in CALLBACKS})
    async with serving(filter_) as scene:
        peer = scene.peer()
        await peer.send_each(octets)
        peer.hang_up()
        await peer.quiet()

    assert " ".join(names(filter_)) == called


# QUIT_NC

STATES: Final = {
    "after OPTNEG": (b"", ""),
    "after CONNECT": (C, "connect"),
    "after HELO": (C + H, "connect helo"),
    "after UNKNOWN": (C + U, "connect unknown"),
    **{
        f"after {name}": (C + octets, f"connect {called}")
        for name, octets, called in (
            ("MAIL", M, "envfrom abort"),
            ("RCPT", M + R, "envfrom envrcpt abort"),
            ("DATA", M + R + T, "envfrom envrcpt data abort"),
            ("HEADER", M + R + T + L, "envfrom envrcpt data header abort"),
            ("EOH", M + R + T + L + N, "envfrom envrcpt data header eoh abort"),
            ("BODY", IN_CONTENT, "envfrom envrcpt data header eoh body abort"),
            ("BODYEOB", IN_CONTENT + E, WHOLE),
            ("ABORT", M + A, "envfrom abort"),
        )
    },
}


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("state", STATES)
async def test_quit_nc_from_every_state(state: str, form: str) -> None:
    """P-066, P-069: the options stay, everything else is new; another filter instance serves what follows."""
    octets, called = STATES[state]
    filter_ = filter_class({} if form == "inline" else {name: later() for name in CALLBACKS})
    seen: list[Any] = []

    def connected(self: Any, ctx: Any, event: Any) -> None:
        seen.append(
            (event.hostname, ctx.helo, ctx.sender, ctx.recipients, ctx.macro("i"), ctx.macro("j"), ctx.macro("v"))
        )

    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        first = await peer.send_each(macros("C", j="one", v="x") + octets + macros("M", i="Q1") + K)
        assert first == "c" * (called.count(" ") + bool(called) - called.count("abort"))
        expected = [*called.split(), "close"]
        assert names(filter_) == expected
        filter_.play = {"connect": connected}
        answered = await peer.send_each(macros("C", j="two") + connect("second") + H + MESSAGE + QUIT)
        assert answered == "ccccccccc"

    assert seen == [("second", "", None, (), None, "two", None)]
    assert names(filter_)[len(expected) :] == ["connect", "helo", *WHOLE.split(), "close"]
    assert len(filter_.made) == 3, "one at start, and one a connection"


async def test_quit_nc_twice_and_before_quit_closes_once() -> None:
    """P-066, P-069."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(K + K + A + Q) == ""
        assert peer.wire.lost

    assert names(filter_) == ["connect", "helo", "close"]


async def test_a_message_right_after_quit_nc_needs_no_connect() -> None:
    """P-069."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(K + MESSAGE) == "ccccccc"


async def test_a_filter_that_cannot_be_made_again_closes_after_quit_nc() -> None:
    filter_ = filter_class()
    failing: list[BaseException] = []

    def factory() -> Scripted:
        if failing:
            raise failing[0]
        return filter_()

    for error in (ValueError("no more"), SystemExit(1)):
        failing.clear()
        async with serving(factory) as scene:
            peer = await scene.opened()
            failing.append(error)
            assert await peer.send(K + C + H) == ""
            assert peer.wire.lost
            other = await scene.opened()
            assert other.octets == b""

        assert [failure[2] for failure in scene.watcher.failures] == [error, error]


async def test_stray_packets_are_remarked_once_a_connection() -> None:
    async with serving(filter_class()) as scene:
        peer = await scene.opened()
        assert await peer.send(R + R + E) == "ccc"
        await scene.opened(OPENING + R)

    assert len(scene.watcher.remarks) == 2


@pytest.mark.parametrize("silent", [("envrcpt", "header"), ()], ids=["no reply", "reply"])
async def test_stray_packets_are_answered_where_an_answer_is_due(silent: tuple[str, ...]) -> None:
    """P-031."""
    async with serving(filter_class(silent=silent)) as scene:
        peer = await scene.opened()
        assert await peer.send(R + L + E) == ("c" if silent else "ccc")


@pytest.mark.parametrize(("on_error", "answered"), [(REJECT, "crrr"), (ACCEPT, "caaa")])
async def test_a_message_that_is_broken_up_is_answered_as_a_failure(on_error: Verdict, answered: str) -> None:
    """No MTA does so; whoever does may not pass what the filter has not seen (no rule says how)."""
    async with serving(filter_class(silent=["header"]), on_error=on_error) as scene:
        peer = await scene.opened()
        assert await peer.send(M + L + T + N + E) == answered

    assert [summary.answer for summary in scene.watcher.messages] == ["abort"]
    assert scene.watcher.remarks == [f"HEADER came out of order; answered {on_error.name.lower()}"]


async def test_decided_packets_are_answered_where_an_answer_is_due() -> None:
    """P-071."""
    async with serving(filter_class({"envfrom": REJECT}, silent=("envrcpt", "header"))) as scene:
        peer = await scene.opened()
        assert await peer.send(M + R + T + L + N + B + E) == "rrrrr"


async def test_macros_of_mail_end_a_message_where_mail_is_not_sent() -> None:
    """P-050: its stages are sent although nobody wants them, and answered."""
    filter_ = filter_class(callbacks=["connect"])
    async with serving(filter_) as scene:
        peer = await scene.opened(offer(protocol=0x3F) + C)
        assert (
            await peer.send(macros("M", i="1") + N + E + macros("M", i="2") + N + macros("M", i="3") + N + E) == "ccccc"
        )

    assert [summary.where.queue_id for summary in scene.watcher.messages] == ["1", "3", "3"]
    assert [summary.answer for summary in scene.watcher.messages] == ["continue", "abort", "continue"]


MIX: Final[dict[str, tuple[bytes, dict[str, Any], str, str]]] = {
    "delivered": (MESSAGE, {}, "ccccccc", "continue"),
    "refused": (M, {"envfrom": REJECT}, "r", "reject"),
    "refused in content": (M + R + T + L + N + B + E, {"body": REJECT}, "cccccrr", "reject"),
    "aborted": (M + R + A, {}, "cc", "abort"),
    "failed": (MESSAGE, {"eom": ValueError("x")}, "cccccct", "tempfail"),
}


@pytest.mark.parametrize(
    ("one", "two"), [*pairwise([*MIX, *MIX]), *pairwise([*MIX, *MIX][::2]), *[(one, one) for one in MIX]]
)
async def test_messages_of_one_connection_in_any_mix(one: str, two: str) -> None:
    """P-067."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        for name in (one, two, one, "delivered"):
            octets, filter_.play, answered, _ = MIX[name]
            assert await peer.send(octets) == answered, name

    assert [summary.answer for summary in scene.watcher.messages] == [
        MIX[name][3] for name in (one, two, one, "delivered")
    ]
