"""Every modification of a message, as it comes out of a real MTA."""

import hashlib
from collections.abc import AsyncIterator, Callable

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    TEMPFAIL,
    Context,
    EndOfMessageContext,
    Header,
    Milter,
    Reply,
    Response,
)
from tests.interop.client import MESSAGE, RECIPIENTS, SENDER, accepted
from tests.interop.recorder import Script
from tests.interop.rigs.sink import Delivery
from tests.interop.scene import Scene
from tests.patience import PATIENCE

pytestmark = pytest.mark.interop

BOB, CAROL = RECIPIENTS
HEAD, _, BODY = MESSAGE.partition(b"\r\n\r\n")


def with_fields(*fields: str) -> bytes:
    """The usual message with more header fields, each as it goes over the wire but for its line end."""
    extra = "".join(f"{field}\r\n" for field in fields).encode("utf-8", "surrogateescape")
    return HEAD + b"\r\n" + extra + b"\r\n" + BODY


async def edited(scene: Scene, edit: Callable[[EndOfMessageContext], None], message: bytes = MESSAGE) -> Delivery:
    """Send a message through a filter that does no more than ``edit``, and return what came out."""
    async with scene.filters(Script(edit=edit)), scene.connect() as client:
        replies = await client.send(message)
    assert accepted(replies["."]), replies
    (delivery,) = await scene.deliveries()
    return delivery


async def test_a_message_without_edits_comes_out_as_it_went_in(scene: Scene) -> None:
    """P-043, P-045: nothing is touched that the filter did not touch."""
    message = with_fields("X-Odd:no space", "X-Folded: one\r\n\ttwo\r\n  three", "X-Empty:")

    delivery = await edited(scene, lambda ctx: None, message)

    assert delivery.sender == SENDER
    assert sorted(delivery.recipients) == sorted(RECIPIENTS)
    assert delivery.values("X-Folded") == [" one\r\n\ttwo\r\n  three"]
    assert delivery.values("Subject") == [" hello"]
    assert delivery.body == BODY


async def test_added_fields_follow_those_of_the_client(scene: Scene) -> None:
    """P-113, P-114, P-116: one space before the value, folds kept, an empty value added as such."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-One", "1")
        ctx.add_header("X-Folded", "one\n\ttwo\r\n three")
        ctx.add_header("X-Empty", "")

    delivery = await edited(scene, edit)

    names = [name for name, _ in delivery.fields]
    assert names[-4:] == ["Subject", "X-One", "X-Folded", "X-Empty"]
    assert delivery.values("X-One") == [" 1"]
    assert delivery.values("X-Folded") == [" one\r\n\ttwo\r\n three"]
    assert [value.strip() for value in delivery.values("X-Empty")] == [""]


async def test_inserted_fields_stand_where_their_index_says(scene: Scene) -> None:
    """P-115: 0 is above everything, the MTA's own Received field too; 1 is below that; the last at 0 is on top."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.insert_header("X-Below", "below", 1)
        ctx.insert_header("X-Top", "first")
        ctx.insert_header("X-Top", "second")
        ctx.insert_header("X-End", "end", 1000)

    delivery = await edited(scene, edit)

    names = [name for name, _ in delivery.fields]
    assert delivery.values("X-Top") == [" second", " first"]
    assert names[:4] == ["X-Top", "X-Top", "Received", "X-Below"]
    assert names[-1] == "X-End"


async def test_occurrences_count_the_fields_that_the_filter_was_shown(scene: Scene) -> None:
    """P-117: Postfix renumbers what is behind a deleted field and Sendmail does not; the filter need not know."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.delete_header("X-Number", 1)
        ctx.delete_header("X-Number", 3)
        ctx.change_header("X-Number", 2, "changed")

    delivery = await edited(scene, edit, with_fields(*(f"X-Number: {number}" for number in range(1, 5))))

    assert delivery.values("X-Number") == [" changed", " 4"]


async def test_all_occurrences_can_be_deleted_in_the_order_of_the_message(scene: Scene) -> None:
    """P-117: a forged field leaves no copy behind."""

    def edit(ctx: EndOfMessageContext) -> None:
        for occurrence in (1, 2, 3):
            ctx.delete_header("x-spam", occurrence)
        ctx.insert_header("X-Spam", "no")

    delivery = await edited(scene, edit, with_fields("X-Spam: 1", "X-Spam: 2", "X-Other: 3", "x-spam: 4"))

    assert delivery.values("X-Spam") == [" no"]
    assert delivery.values("X-Other") == [" 3"]


async def test_the_second_change_of_an_occurrence_replaces_the_first(scene: Scene) -> None:
    """P-116: a change after a deletion brings the field back, a deletion after a change takes it away."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.change_header("X-Number", 1, "once")
        ctx.change_header("X-Number", 1, "twice")
        ctx.delete_header("X-Number", 2)
        ctx.change_header("X-Number", 2, "back")
        ctx.change_header("X-Number", 3, "never seen")
        ctx.delete_header("X-Number", 3)

    delivery = await edited(scene, edit, with_fields("X-Number: 1", "X-Number: 2", "X-Number: 3"))

    assert delivery.values("X-Number") == [" twice", " back"]


async def test_a_change_past_the_last_occurrence_adds_the_field(scene: Scene) -> None:
    """Protocol.md 3.5, CHGHEADER."""
    delivery = await edited(scene, lambda ctx: ctx.change_header("X-New", 1, "new"))

    assert delivery.values("X-New") == [" new"]


async def test_octets_beyond_ascii_survive_in_field_values(scene: Scene) -> None:
    """P-044: UTF-8 and what is none reach the filter and leave it again unchanged."""
    seen: list[str] = []

    class Copying(Milter):
        async def header(self, ctx: Context, header: Header) -> None:
            if header.name == "X-Odd":
                seen.append(header.value)

        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Copy", seen[0])

    async with scene.filters(Copying), scene.connect() as client:
        await client.send(with_fields("X-Odd: gr\u00fc\u00df \udcff\udcfe"))
    (delivery,) = await scene.deliveries()

    assert seen == ["gr\u00fc\u00df \udcff\udcfe"]
    assert delivery.values("X-Copy") == [" gr\u00fc\u00df \udcff\udcfe"]


@pytest.mark.parametrize("wanted", [False, True])
async def test_values_look_the_same_with_and_without_leading_space(scene: Scene, wanted: bool) -> None:
    """P-114: what is seen and what is written does not depend on HDR_LEADSPC."""
    seen: dict[str, str] = {}

    class Spaced(Milter):
        leading_space = wanted

        async def header(self, ctx: Context, header: Header) -> None:
            seen[header.name] = header.value

        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Added", "added")
            ctx.change_header("X-One", 1, "changed")
            ctx.insert_header("X-Inserted", "inserted")

    async with scene.filters(Spaced), scene.connect() as client:
        await client.send(with_fields("X-None:none", "X-One: one", "X-Two:  two", "X-Tab:\ttab"))
    (delivery,) = await scene.deliveries()

    assert {name: seen[name] for name in ("X-None", "X-One", "X-Two", "X-Tab")} == {
        "X-None": "none",
        "X-One": "one",
        "X-Two": " two",
        "X-Tab": "\ttab",
    }
    assert delivery.values("X-Added") == [" added"]
    assert delivery.values("X-One") == [" changed"]
    assert delivery.values("X-Inserted") == [" inserted"]


async def test_raw_fields_are_the_octets_of_the_client(scene: Scene) -> None:
    """P-043: what a DKIM signature covers."""
    raw: list[bytes] = []

    class Exact(Milter):
        leading_space = True

        async def header(self, ctx: Context, header: Header) -> None:
            raw.append(header.raw)

    message = with_fields("X-None:none", "X-Two:  two \r\n\tfolded", "X-Tab:\ttab", "X-Empty:", "X-Odd: \udcff")
    async with scene.filters(Exact), scene.connect() as client:
        await client.send(message)

    assert b"".join(raw) == message.partition(b"\r\n\r\n")[0] + b"\r\n"


async def test_a_replaced_body_is_the_new_one_whole(scene: Scene) -> None:
    """P-120: more than three packets of it; lines that start with a dot are the MTA's affair."""
    body = b"".join(b"%06d new line\r\n" % number for number in range(15000)) + b".\r\n..two dots\r\n"
    assert len(body) > 3 * 65535

    delivery = await edited(scene, lambda ctx: ctx.replace_body(body))

    assert delivery.body == body
    assert delivery.values("Subject") == [" hello"]


async def test_a_body_replaced_by_nothing_is_empty(scene: Scene) -> None:
    """P-121."""
    delivery = await edited(scene, lambda ctx: ctx.replace_body(b""))

    assert delivery.body == b""


async def test_a_body_can_be_streamed(scene: Scene) -> None:
    """P-120: an iterator's pieces of any size are one body."""
    pieces = [b"", b"a" * 70 + b"\r", b"\n", b"b" * 70 + b"\r\n", (b"c" * 70 + b"\r\n") * 3000]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    delivery = await edited(scene, lambda ctx: ctx.replace_body(stream()))

    assert delivery.body == b"".join(pieces)


async def test_the_sender_changes_with_its_parameters(scene: Scene) -> None:
    """P-118: brackets or not, parameters in one string."""
    delivery = await edited(scene, lambda ctx: ctx.change_sender("<new@client.test>", "RET=HDRS", "ENVID=abc"))

    assert delivery.sender == "new@client.test"
    assert {"RET=HDRS", "ENVID=abc"} <= set(delivery.params)


async def test_the_sender_can_become_the_null_sender(scene: Scene) -> None:
    """P-119."""
    delivery = await edited(scene, lambda ctx: ctx.change_sender(""))

    assert delivery.sender == ""


async def test_recipients_are_added_with_and_without_parameters(scene: Scene) -> None:
    """P-118: the parameters are those of the added recipient alone."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.add_recipient("dave@example.test")
        ctx.add_recipient("<erin@example.test>", "NOTIFY=NEVER", "ORCPT=rfc822;erin@other.test")

    delivery = await edited(scene, edit)

    assert sorted(delivery.recipients) == sorted([*RECIPIENTS, "dave@example.test", "erin@example.test"])
    assert {"NOTIFY=NEVER", "ORCPT=rfc822;erin@other.test"} <= set(delivery.recipients["erin@example.test"])
    assert not {"NOTIFY=NEVER"} & set(delivery.recipients["dave@example.test"])


@pytest.mark.parametrize("address", [BOB, f"<{BOB}>", BOB.upper()])
async def test_a_recipient_is_deleted(scene: Scene, address: str) -> None:
    """Protocol.md 3.7, DELRCPT: with brackets and without."""
    delivery = await edited(scene, lambda ctx: ctx.delete_recipient(address))

    assert list(delivery.recipients) == [CAROL]


async def test_a_message_that_loses_all_recipients_is_taken_and_dropped(scene: Scene) -> None:
    """Protocol.md 3.7, no recipient left."""

    def edit(ctx: EndOfMessageContext) -> None:
        for rcpt in ctx.recipients:
            ctx.delete_recipient(rcpt.path)

    async with scene.filters(Script(edit=edit)), scene.connect() as client:
        replies = await client.send()

    assert accepted(replies["."])
    assert await scene.deliveries() == []


async def test_a_quarantined_message_waits_with_its_edits(scene: Scene) -> None:
    """P-122: nothing comes out until a postmaster lets it go."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.quarantine("held for review")
        ctx.add_header("X-Held", "yes")

    async with scene.filters(Script(edit=edit)), scene.connect() as client:
        replies = await client.send()

    assert accepted(replies["."])
    assert await scene.deliveries() == []
    (reason,) = scene.rig.held().values()
    assert reason == {"postfix": "", "sendmail": "held for review"}[scene.name]
    await scene.rig.release()
    await scene.rig.until(lambda: not scene.rig.held(), PATIENCE, "release")
    (delivery,) = await scene.deliveries()
    assert delivery.values("X-Held") == [" yes"]


async def test_all_edits_together(scene: Scene) -> None:
    """The order in which they are called does not matter to either MTA (P-117)."""

    def edit(ctx: EndOfMessageContext) -> None:
        ctx.replace_body(b"New body.\r\n")
        ctx.quarantine("wait")
        ctx.add_recipient("dave@example.test")
        ctx.delete_recipient(BOB)
        ctx.change_sender("new@client.test")
        ctx.add_header("X-Added", "added")
        ctx.insert_header("X-Top", "top")
        ctx.change_header("Subject", 1, "new subject")
        ctx.delete_header("X-Gone", 1)

    async with scene.filters(Script(edit=edit)), scene.connect() as client:
        await client.send(with_fields("X-Gone: 1", "X-Gone: 2"))
    await scene.rig.release()
    await scene.rig.until(lambda: not scene.rig.held(), PATIENCE, "release")
    (delivery,) = await scene.deliveries()

    assert delivery.sender == "new@client.test"
    assert sorted(delivery.recipients) == [CAROL, "dave@example.test"]
    assert delivery.fields[0] == ("X-Top", " top")
    assert delivery.values("Subject") == [" new subject"]
    assert delivery.values("X-Added") == [" added"]
    assert delivery.values("X-Gone") == [" 2"]
    assert delivery.body == b"New body.\r\n"


@pytest.mark.parametrize("answer", [REJECT, TEMPFAIL, DISCARD, Reply(550, "5.7.7", "no")], ids=str)
async def test_edits_of_a_refused_message_are_not_seen_in_the_next(scene: Scene, answer: Response) -> None:
    """P-067, P-110: queued edits leave with a verdict that lets the message pass, or never."""
    messages = 0

    class Refusing(Milter):
        async def eom(self, ctx: EndOfMessageContext) -> Response:
            nonlocal messages
            messages += 1
            if messages > 1:
                return CONTINUE
            ctx.add_header("X-Leaked", "yes")
            ctx.replace_body(b"leaked\r\n")
            ctx.add_recipient("leaked@example.test")
            return answer

    async with scene.filters(Refusing), scene.connect() as client:
        first = await client.send()
        second = await client.send()
    (delivery,) = await scene.deliveries()

    assert accepted(first["."]) is (answer is DISCARD)
    assert accepted(second["."])
    assert delivery.values("X-Leaked") == []
    assert sorted(delivery.recipients) == sorted(RECIPIENTS)
    assert delivery.body == BODY


async def test_the_second_filter_sees_what_the_first_changed(pair: Scene) -> None:
    """Protocol.md 7.1: the content goes through one filter completely, then through the next."""

    def first(ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-First", "1")
        ctx.change_header("Subject", 1, "changed")
        ctx.delete_header("X-Gone", 1)
        ctx.replace_body(b"Changed.\r\n")

    def second(ctx: EndOfMessageContext) -> None:
        ctx.change_header("X-First", 1, "2")

    second_script = Script(edit=second)
    async with pair.filters(Script(edit=first), second_script), pair.connect() as client:
        await client.send(with_fields("X-Gone: 1"))
    (delivery,) = await pair.deliveries()

    fields = dict(event[1:] for event in second_script.events if event[0] == "header")
    assert fields["X-First"] == "1"
    assert fields["Subject"] == "changed"
    assert "X-Gone" not in fields
    assert ("body", b"Changed.\r\n") in second_script.events
    assert delivery.values("X-First") == [" 2"]
    assert delivery.body == b"Changed.\r\n"


async def test_a_refused_recipient_is_not_shown_to_the_second_filter(pair: Scene) -> None:
    """Protocol.md 7.1; P-068: the message goes on for the others."""
    second = Script()
    async with pair.filters(Script({f"envrcpt {BOB}": REJECT}), second), pair.connect() as client:
        replies = await client.send()
    (delivery,) = await pair.deliveries()

    assert not accepted(replies[BOB])
    assert [event[1] for event in second.events if event[0] == "envrcpt"] == [f"<{CAROL}>"]
    assert list(delivery.recipients) == [CAROL]


async def test_a_message_that_the_first_filter_accepts_still_passes_the_second(pair: Scene) -> None:
    """ACCEPT is one filter's word: the next filter still sees the message."""
    second = Script(edit=lambda ctx: ctx.add_header("X-Second", "2"))
    async with pair.filters(Script({"envfrom": ACCEPT}), second), pair.connect() as client:
        await client.send()
    (delivery,) = await pair.deliveries()

    assert delivery.values("X-Second") == [" 2"]


@pytest.mark.slow
async def test_a_body_of_20_megabytes_passes_unchanged(scene: Scene) -> None:
    """P-045: the filter is given every octet of it, and so is the recipient."""
    digest = hashlib.sha256()

    class Hashing(Milter):
        async def body(self, ctx: Context, chunk: bytes) -> None:
            assert 0 < len(chunk) <= 65535
            digest.update(chunk)

        async def eom(self, ctx: EndOfMessageContext) -> None:
            ctx.add_header("X-Hash", digest.hexdigest())

    body = large_body(b"old")
    async with scene.filters(Hashing), scene.connect() as client:
        replies = await client.send(HEAD + b"\r\n\r\n" + body)
    assert accepted(replies["."])
    (delivery,) = await scene.deliveries()

    assert digest.hexdigest() == hashlib.sha256(body).hexdigest()
    assert delivery.values("X-Hash") == [f" {digest.hexdigest()}"]
    assert hashlib.sha256(delivery.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_body_of_20_megabytes_is_replaced_by_another(scene: Scene, streamed: bool) -> None:
    """P-120: with back-pressure, whole or streamed."""
    body = large_body(b"new")

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    delivery = await edited(
        scene, lambda ctx: ctx.replace_body(stream() if streamed else body), HEAD + b"\r\n\r\n" + large_body(b"old")
    )

    assert hashlib.sha256(delivery.body).digest() == hashlib.sha256(body).digest()


def large_body(word: bytes) -> bytes:
    """20 MB of lines, no two alike."""
    line = word + b" %07d " + b"x" * 64 + b"\r\n"
    return b"".join(line % number for number in range(20_000_000 // 78 + 1))
