"""What is answered to each stage: every answer, in every form a callback can have."""

from typing import Any, Final

import pytest

from aiomilter import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Reply, Stage, Verdict
from aiomilter.handler import CALLBACKS as NAME_OF
from aiomilter.wire.constants import ALL_PROTOCOL, Protocol
from aiomilter.wire.state import ANSWERS

from .peer import (
    ABORT,
    CALLBACKS,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    ONLY_BASIC,
    OPENING,
    QUIT,
    REPLY,
    STAGE_PACKETS,
    Peer,
    body,
    codes,
    connect,
    filter_class,
    frames,
    header,
    helo,
    later,
    mail,
    names,
    offer,
    rcpt,
    serving,
    unknown,
)

RESPONSES: Final[tuple[Any, ...]] = (None, *Verdict, REPLY, Reply(451, "4.7.1", "later"))
TO: Final = {
    Stage.CONNECT: offer(),
    Stage.HELO: offer() + connect(),
    Stage.MAIL: OPENING,
    Stage.RCPT: OPENING + mail(),
    Stage.DATA: OPENING + mail() + rcpt(),
    Stage.HEADER: OPENING + mail() + rcpt() + DATA,
    Stage.EOH: OPENING + mail() + rcpt() + DATA + header(),
    Stage.BODY: OPENING + mail() + rcpt() + DATA + header() + EOH,
    Stage.EOM: OPENING + mail() + rcpt() + DATA + header() + EOH + body(),
    Stage.UNKNOWN: OPENING,
}
"""What comes before each stage."""


def expected(stage: Stage, response: Any) -> bytes:
    if response is None:
        return CONTINUE.packet
    code = response.value if isinstance(response, Verdict) else ord("y")
    packet: bytes = (response if code in ANSWERS[stage] else TEMPFAIL).packet
    return packet


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("response", RESPONSES, ids=repr)
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.name)
async def test_each_answer_to_each_stage_is_sent_once_or_refused(stage: Stage, response: Any, form: str) -> None:
    """P-031, P-090, P-091, P-092, P-097."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: response if form == "inline" else later(response)})
    async with serving(filter_) as scene:
        peer = await scene.opened(TO[stage])
        before = len(peer.octets)
        await peer.send(STAGE_PACKETS[stage])
        found = peer.octets[before:]

    assert found == expected(stage, response)
    legal = response is None or found == response.packet
    assert len(scene.watcher.failures) == (0 if legal else 1)


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.EOM], ids=lambda stage: stage.name)
async def test_a_stage_without_reply_is_answered_with_nothing(stage: Stage, form: str) -> None:
    """P-018, P-031."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: None if form == "inline" else later()}, silent=[name])
    async with serving(filter_) as scene:
        peer = await scene.opened(TO[stage])
        assert await peer.send(STAGE_PACKETS[stage]) == ""

    assert names(filter_).count(name) == 1
    assert Protocol(int.from_bytes(frames(peer.octets)[0][1][8:12], "big")) & stage.nr_flag


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.EOM], ids=lambda stage: stage.name)
async def test_a_stage_without_reply_is_answered_for_the_filter_where_the_mta_waits(stage: Stage, form: str) -> None:
    """P-019."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: None if form == "inline" else later()}, silent=[name])
    async with serving(filter_) as scene:
        peer = await scene.opened(offer(protocol=ALL_PROTOCOL & ~stage.nr_flag) + TO[stage][len(offer()) :])
        assert await peer.send(STAGE_PACKETS[stage]) == "c"

    assert names(filter_).count(name) == 1


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.EOM], ids=lambda stage: stage.name)
async def test_an_answer_of_a_stage_without_reply_is_given_where_the_mta_waits(stage: Stage) -> None:
    """P-095: emulated, a declared no-reply stage has a reply all the same, and its answer is given there."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: REJECT}, silent=[name])
    async with serving(filter_) as scene:
        peer = await scene.opened(offer(protocol=ALL_PROTOCOL & ~stage.nr_flag) + TO[stage][len(offer()) :])
        assert await peer.send(STAGE_PACKETS[stage]) == "r"


@pytest.mark.parametrize("protocol", [ALL_PROTOCOL, ONLY_BASIC], ids=["all offered", "none offered"])
@pytest.mark.parametrize("missing", [*(name for name in NAME_OF.values() if name != "eom"), "eom"])
async def test_a_callback_that_is_not_overridden_leaves_no_stage_unanswered(missing: str, protocol: int) -> None:
    """P-017: DATA and content are not sent, CONNECT to RCPT get no reply; where the MTA offers neither, CONTINUE is sent."""
    filter_ = filter_class(callbacks=[name for name in CALLBACKS[1:] if name != missing])
    conversation = [
        offer(protocol=protocol),
        connect(),
        helo(),
        unknown(),
        mail(),
        rcpt(),
        DATA,
        header(),
        EOH,
        body(),
        EOM,
    ]
    stages = ["", *map(str, [*NAME_OF.values()][:2]), "unknown", *[*NAME_OF.values()][2:9]]
    async with serving(filter_) as scene:
        peer = scene.peer()
        for octets, stage in zip(conversation, stages, strict=True):
            declined = missing in ("data", "header", "eoh", "body", "unknown")
            if stage == missing and protocol == ALL_PROTOCOL and declined:
                continue  # the MTA does not send it
            silent = stage == missing and protocol == ALL_PROTOCOL and missing != "eom"
            assert await peer.send(octets) == ("O" if not stage else "" if silent else "c"), stage

    assert missing not in names(filter_)
    assert not scene.watcher.failures


async def test_a_filter_that_overrides_nothing_asks_for_nothing() -> None:
    """P-017."""
    filter_ = filter_class(callbacks=[])
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        flags = int.from_bytes(frames(peer.octets)[0][1][8:12], "big")
        assert await peer.send(EOM) == "c"

    assert flags == 0x37F


async def test_skip_ends_the_body_of_one_message() -> None:
    """P-092."""
    filter_ = filter_class({"body": SKIP})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(MESSAGE) == "cccccsc"
        assert await peer.send(MESSAGE) == "cccccsc"

    assert names(filter_).count("body") == 2


@pytest.mark.parametrize("form", ["inline", "suspended"])
async def test_skip_that_was_not_agreed_on_drops_the_rest_of_the_body_here(form: str) -> None:
    """P-092."""
    filter_ = filter_class({"body": SKIP if form == "inline" else later(SKIP)})
    async with serving(filter_) as scene:
        peer = await scene.opened(offer(protocol=ALL_PROTOCOL & ~Protocol.SKIP) + connect() + helo())
        whole = mail() + rcpt() + DATA + header() + EOH + body(b"one") + body(b"two") + body(b"three") + EOM
        assert await peer.send(whole) == "ccccccccc"
        assert await peer.send(whole) == "ccccccccc"

    assert [event for name, event in filter_.told if name == "body"] == [b"one", b"one"]


async def test_skip_of_a_body_without_reply_drops_the_rest_here() -> None:
    """P-092."""
    filter_ = filter_class({"body": SKIP}, silent=["body"])
    async with serving(filter_) as scene:
        peer = await scene.opened()
        whole = mail() + rcpt() + DATA + header() + EOH + body(b"one") + body(b"two") + EOM
        assert await peer.send(whole) == "cccccc"

    assert [event for name, event in filter_.told if name == "body"] == [b"one"]
    assert not scene.watcher.remarks


@pytest.mark.parametrize("form", ["inline", "suspended"])
@pytest.mark.parametrize("answer", [None, SKIP, REJECT, REPLY, "nonsense"], ids=repr)
async def test_end_of_message_with_octets_is_body_then_end_and_one_answer(answer: Any, form: str) -> None:
    """P-046."""
    filter_ = filter_class({"body": answer if form == "inline" else later(answer)})
    last = b"\0\0\0\6Ehello"
    async with serving(filter_) as scene:
        peer = await scene.opened(TO[Stage.BODY])
        found = await peer.send(last)
        next_one = await peer.send(ABORT + MESSAGE.replace(body(), b""))

    assert found == {None: "c", SKIP: "c", REJECT: "r", REPLY: "y", "nonsense": "t"}[answer]
    assert [event for name, event in filter_.told if name == "body"] == [b"hello"]
    assert next_one == "cccccc"
    assert names(filter_).count("eom") == (2 if answer in (None, SKIP) else 1)


# What a stage without reply answered (P-095)

SILENT_STEPS: Final = [
    # The stages without reply; what they answer; the codes answered to connect, helo, and each stage of two messages.
    pytest.param(["header"], {"header": REJECT}, "cc" + "cccrrr" * 2, id="REJECT of header at end of headers"),
    pytest.param(
        ["header", "eoh", "body"], {"header": REJECT}, "cc" + "cccr" * 2, id="REJECT of header at end of message"
    ),
    pytest.param(["header"], {"header": ACCEPT}, "cc" + "cccaaa" * 2, id="ACCEPT of header"),
    pytest.param(["header"], {"header": DISCARD}, "cc" + "cccddd" * 2, id="DISCARD of header"),
    pytest.param(["header"], {"header": REPLY}, "cc" + "cccyyy" * 2, id="Reply of header"),
    pytest.param(["header"], {"header": 5}, "cc" + "cccttt" * 2, id="nonsense of header"),
    pytest.param(["header"], {"header": ValueError("x")}, "cc" + "cccttt" * 2, id="failure of header"),
    pytest.param(["header"], {"header": later(REJECT)}, "cc" + "cccrrr" * 2, id="REJECT of header, suspended"),
    pytest.param(["body"], {"body": REJECT}, "cc" + "cccccr" * 2, id="REJECT of body"),
    pytest.param(["envrcpt"], {"envrcpt": REJECT}, "cc" + "cttttt" * 2, id="REJECT of recipient is TEMPFAIL"),
    pytest.param(["envrcpt"], {"envrcpt": REPLY}, "cc" + "cttttt" * 2, id="Reply of recipient is TEMPFAIL"),
    pytest.param(["envfrom"], {"envfrom": REJECT}, "cc" + "rrrrrr" * 2, id="REJECT of sender at recipient"),
    pytest.param(["envfrom"], {"envfrom": DISCARD}, "cc" + "dddddd" * 2, id="DISCARD of sender at recipient"),
    pytest.param(
        ["envfrom", "envrcpt", "data"], {"envfrom": REJECT}, "cc" + "rrrr" * 2, id="REJECT of sender at header"
    ),
    pytest.param(["data"], {"data": TEMPFAIL}, "cc" + "cctttt" * 2, id="TEMPFAIL of data"),
    pytest.param(["eoh"], {"eoh": TEMPFAIL}, "cc" + "cccctt" * 2, id="TEMPFAIL of eoh"),
]


@pytest.mark.parametrize(("silent", "play", "answered"), SILENT_STEPS)
async def test_an_answer_where_none_is_given_is_kept_for_the_next_that_is(
    silent: list[str], play: dict[str, Any], answered: str
) -> None:
    """P-095: of this message only; its other callbacks are not called."""
    filter_ = filter_class(play, silent=silent)
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        found = await peer.send(connect() + helo())
        for _ in range(2):
            found += await peer.send(MESSAGE)

    assert found == answered
    assert names(filter_).count(next(iter(play))) == 2
    assert "eom" not in names(filter_)
    assert "abort" not in names(filter_)
    assert len(scene.watcher.remarks) == 2


async def test_a_refused_sender_kept_for_the_recipients_refuses_each_of_them() -> None:
    """P-068, P-095."""
    filter_ = filter_class({"envfrom": REJECT}, silent=["envfrom"])
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + rcpt("<a@x>") + rcpt("<b@x>") + ABORT) == "rr"
        filter_.play = {}
        assert await peer.send(MESSAGE) == "cccccc"

    assert names(filter_).count("abort") == 1
    assert names(filter_).count("envrcpt") == 1


@pytest.mark.parametrize("given", [REJECT, TEMPFAIL, ACCEPT, REPLY], ids=repr)
@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.HELO], ids=lambda stage: stage.name)
async def test_an_answer_to_the_client_that_could_not_be_given_holds_for_all_its_messages(
    stage: Stage, given: Any
) -> None:
    """P-095: what concerns the client must not be spent on its first message."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: given}, silent=["connect", "helo"])
    async with serving(filter_) as scene:
        peer = await scene.opened()
        code = codes(given.packet)
        assert await peer.send(mail()) == code
        assert await peer.send(ABORT + mail("<second@x>")) == code
        filter_.play = {}
        assert await peer.send(b"\0\0\0\1K" + connect("other") + helo() + MESSAGE) == "ccccccc"

    assert names(filter_).count("envfrom") == 1


async def test_an_answer_to_connect_that_could_not_be_given_is_given_to_helo() -> None:
    """P-095."""
    filter_ = filter_class({"connect": REJECT}, silent=["connect"])
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        assert await peer.send(connect()) == ""
        assert await peer.send(helo()) == "r"


async def test_an_answer_to_an_unknown_command_that_could_not_be_given_concerns_no_message() -> None:
    """P-047: the command fails anyway; a message that follows it, or that it comes in, has nothing to do with it."""
    filter_ = filter_class({"unknown": REJECT}, silent=["unknown"])
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert (
            await peer.send(unknown() + mail() + unknown() + rcpt() + DATA + header() + EOH + body() + EOM) == "ccccccc"
        )

    assert len(scene.watcher.remarks) == 2


# Answers that end a message

ENDING: Final = [
    (stage, response)
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM)
    for response in (ACCEPT, DISCARD, REJECT, TEMPFAIL, REPLY)
    if stage is not Stage.RCPT or response in (ACCEPT, DISCARD)
]


@pytest.mark.parametrize(("stage", "response"), ENDING, ids=repr)
async def test_after_an_answer_that_ends_the_message_nothing_of_it_reaches_the_filter(
    stage: Stage, response: Any
) -> None:
    """P-063, P-071: the same answer again, to DATA a second time as well; neither abort nor eom for that message."""
    name = NAME_OF[stage]
    filter_ = filter_class({name: response})
    code = codes(response.packet)
    async with serving(filter_) as scene:
        peer = await scene.opened(TO[stage])
        assert await peer.send(STAGE_PACKETS[stage]) == code
        seen = len(filter_.told)
        if stage is not Stage.EOM:
            assert await peer.send(rcpt() + DATA + header() + EOH + body() + EOM) == code * 6
        assert await peer.send(ABORT) == ""
        assert filter_.told[seen:] == []
        filter_.play = {}
        assert await peer.send(MESSAGE) == "ccccccc"
        await peer.send(QUIT)

    assert names(filter_)[seen:] == [*(NAME_OF[Stage(n)] for n in range(2, 9)), "close"]
    assert "abort" not in names(filter_)
    assert [summary.answer for summary in scene.watcher.messages][1] == "continue"


@pytest.mark.parametrize("response", [REJECT, TEMPFAIL, REPLY], ids=repr)
async def test_refusing_a_recipient_leaves_the_message_open(response: Any) -> None:
    """P-068."""
    recipients: list[tuple[str, ...]] = []

    def envrcpt(filter_: Any, ctx: Any, event: Any) -> Any:
        return response if event.address.startswith("trap") else None

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        recipients.append(tuple(each.address for each in ctx.recipients))

    filter_ = filter_class({"envrcpt": envrcpt, "eom": eom})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        code = codes(response.packet)
        assert await peer.send(mail() + rcpt("<a@x>") + rcpt("<trap@x>") + rcpt("<b@x>")) == f"cc{code}c"
        assert await peer.send(DATA + header() + EOH + body() + EOM) == "ccccc"

    assert recipients == [("a@x", "b@x")]
    (summary,) = scene.watcher.messages
    answer = str(response) if isinstance(response, Reply) else response.name.lower()
    assert (summary.recipients, summary.refused) == (("a@x", "b@x"), (("trap@x", answer, "", ""),))


@pytest.mark.parametrize("response", [ACCEPT, DISCARD])
async def test_a_recipient_whose_message_is_accepted_was_not_refused(response: Any) -> None:
    filter_ = filter_class({"envrcpt": response})
    async with serving(filter_) as scene:
        await scene.opened(OPENING + mail() + rcpt("<a@x>"))

    (summary,) = scene.watcher.messages
    assert (summary.recipients, summary.refused) == (("a@x",), ())


async def test_a_message_may_end_without_any_recipient() -> None:
    """P-068."""
    filter_ = filter_class({"envrcpt": REJECT})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + rcpt() + ABORT + mail() + rcpt() + ABORT) == "crcr"

    assert names(filter_).count("abort") == 2


async def test_packets_that_end_something_are_never_answered() -> None:
    """P-030."""
    async with serving(filter_class()) as scene:
        for octets in (ABORT, b"\0\0\0\1K", QUIT):
            for before in (OPENING, OPENING + mail(), OPENING + MESSAGE):
                peer = await scene.opened(before)
                assert await peer.send(octets) == ""


async def test_the_text_of_one_reply_is_not_in_the_next_answer() -> None:
    """P-108."""
    filter_ = filter_class({"envfrom": Reply(550, "5.7.1", "secret")})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        await peer.send(mail())
        before = len(peer.octets)
        filter_.play = {"envfrom": REJECT}
        await peer.send(mail())

    assert peer.octets[before:] == REJECT.packet


async def send_all_at_once(peer: Peer, octets: bytes) -> list[bytes]:
    before = len(peer.wire.writes)
    await peer.send(octets)
    return peer.wire.writes[before:]


async def test_the_answers_to_one_read_leave_in_one_write() -> None:
    """P-005."""

    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.add_header("X-A", "1")
        ctx.replace_body(b"new")

    async with serving(filter_class({"eom": eom})) as scene:
        peer = await scene.opened()
        writes = await send_all_at_once(peer, MESSAGE)

    assert [codes(write) for write in writes] == ["cccccchbc"]


async def test_answers_do_not_wait_for_a_callback_behind_them() -> None:
    """P-005."""
    async with serving(filter_class({"envrcpt": later(), "body": later()})) as scene:
        peer = await scene.opened()
        writes = await send_all_at_once(peer, MESSAGE)

    assert [codes(write) for write in writes] == ["c", "cccc", "cc"]
