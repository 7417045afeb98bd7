"""What becomes of mail when the filter fails, by who has sent it, and by what filter and server say."""

import asyncio
from typing import Any, Final

import pytest

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    REJECT,
    SKIP,
    TEMPFAIL,
    Connect,
    Context,
    EndOfMessageContext,
    FailurePolicy,
    Family,
    Header,
    Milter,
    Reply,
    ResolverTimeout,
    StoreError,
    TemporaryFailure,
    no_reply,
    testing,
)
from aiomilter.wire.constants import Command
from aiomilter.wire.framing import packet

from .clock import on_clock
from .peer import ABORT, Gate, connect, filter_class, frames, helo, macros, mail, offer, rcpt, serving

LATER: Final = Reply(451, "4.3.0", "Try again")
POLICY: Final = FailurePolicy(local=ACCEPT, authenticated=REJECT, other=LATER)
ODD: Final = Connect("client.example", Family.INET, 40000, "no address")


def told(client: Connect) -> bytes:
    return packet(Command.CONNECT, client.payload)


@pytest.mark.parametrize(
    ("client", "answer"),
    [
        (told(Connect("localhost", Family.INET, 0, "127.0.0.1")), ACCEPT),
        (told(Connect("localhost", Family.INET, 0, "127.9.9.9")), ACCEPT),
        (told(Connect("localhost", Family.INET6, 0, "IPv6:::1")), ACCEPT),
        (told(Connect("localhost", Family.INET6, 0, "::ffff:127.0.0.1")), ACCEPT),
        (told(Connect("localhost", Family.UNIX, 0, "/var/run/x")), ACCEPT),
        (told(Connect("localhost", Family.UNKNOWN)), ACCEPT),
        (connect(), LATER),
        (told(Connect("localhost", Family.INET6, 0, "2001:db8::1")), LATER),
        (told(ODD), LATER),
        (told(Connect("", Family.UNKNOWN)), LATER),
        (b"", LATER),
        (macros("M", auth_authen="alice") + connect(), LATER),
    ],
    ids=str,
)
async def test_the_class_of_client_chooses_the_answer(client: bytes, answer: Any) -> None:
    filter_ = filter_class({"envfrom": ValueError("x")})
    async with serving(filter_, on_error=POLICY) as scene:
        peer = await scene.opened(offer() + client + helo())
        await peer.send(mail())
        assert peer.octets.endswith(answer.packet)
        await peer.send(ABORT)
        # Whoever has logged in is a user of ours, unless it is the machine itself.
        await peer.send(macros("M", auth_authen="alice", auth_type="plain") + mail("<b@x>"))
        assert peer.octets.endswith(ACCEPT.packet if answer is ACCEPT else REJECT.packet)


AWAY: Final = TemporaryFailure("the database is away")


@pytest.mark.parametrize("raised", [ValueError("x"), AWAY], ids=repr)
@pytest.mark.parametrize(
    ("own", "option", "answer"),
    [
        (None, ACCEPT, ACCEPT),
        (REJECT, ACCEPT, REJECT),
        (FailurePolicy(other=DISCARD), ACCEPT, DISCARD),
        (CONTINUE, FailurePolicy(other=REJECT), CONTINUE),
        (None, FailurePolicy(other=REJECT), REJECT),
    ],
    ids=repr,
)
async def test_what_the_class_of_the_filter_says_comes_first(
    raised: Exception, own: Any, option: Any, answer: Any
) -> None:
    async with serving(filter_class({"envfrom": raised}, on_error=own), on_error=option) as scene:
        peer = await scene.opened()
        await peer.send(mail())
        assert peer.octets.endswith((TEMPFAIL if answer is REJECT and raised is AWAY else answer).packet)
        assert len(scene.watcher.failures) == isinstance(raised, ValueError)


REFUSALS: Final = [
    (REJECT, TEMPFAIL),
    (Reply(550, "5.7.1", "no"), TEMPFAIL),
    (Reply(500), TEMPFAIL),
    (FailurePolicy(other=REJECT), TEMPFAIL),
    (FailurePolicy(other=Reply(554)), TEMPFAIL),
    (FailurePolicy(local=REJECT, other=LATER), LATER),
    (LATER, LATER),
    (Reply(421), Reply(421)),
    (TEMPFAIL, TEMPFAIL),
    (ACCEPT, ACCEPT),
    (CONTINUE, CONTINUE),
    (DISCARD, DISCARD),
]


@pytest.mark.parametrize("where", ["filter", "option"])
@pytest.mark.parametrize(
    "raised", [AWAY, ResolverTimeout("x"), StoreError("x"), ExceptionGroup("two", [AWAY])], ids=repr
)
@pytest.mark.parametrize(("on_error", "answer"), REFUSALS, ids=repr)
async def test_what_may_be_over_soon_refuses_nothing_for_good(
    raised: Exception, on_error: Any, answer: Any, where: str
) -> None:
    own, options = ({"on_error": on_error}, {}) if where == "filter" else ({}, {"on_error": on_error})
    async with serving(filter_class({"envfrom": raised}, **own), **options) as scene:
        peer = await scene.opened()
        await peer.send(mail())
        assert peer.octets.endswith(answer.packet)


async def test_what_may_be_over_soon_refuses_nothing_for_good_where_it_is_deferred() -> None:
    class Away(Milter):
        on_error = REJECT

        @no_reply
        async def header(self, ctx: Context, header: Header) -> None:
            raise AWAY

        async def eom(self, ctx: EndOfMessageContext) -> None: ...

    async with testing.session(Away) as s:
        await s.mail("<a@x>")
        await s.rcpt("<b@x>")
        assert (await s.message(b"A: b\r\n\r\n")).answer is TEMPFAIL


@pytest.mark.parametrize(
    ("own", "options", "answer"),
    [
        ({}, {"on_error": ACCEPT}, ACCEPT),
        ({"on_error": REJECT}, {"on_error": ACCEPT}, REJECT),
        ({"on_error": REJECT}, {"on_timeout": ACCEPT}, ACCEPT),
        ({"on_timeout": REJECT}, {"on_timeout": ACCEPT}, REJECT),
        ({"on_timeout": FailurePolicy(other=REJECT)}, {}, REJECT),
        ({}, {"on_timeout": FailurePolicy(other=LATER)}, LATER),
    ],
    ids=str,
)
@on_clock
async def test_time_that_is_up_has_an_answer_of_its_own(
    own: dict[str, Any], options: dict[str, Any], answer: Any
) -> None:
    filter_ = filter_class({"envfrom": Gate()()}, **own)
    async with serving(filter_, callback_timeout=3, progress_interval=None, **options) as scene:
        peer = await scene.opened()
        peer.write(mail())
        await asyncio.sleep(3.1)
        assert peer.octets.endswith(answer.packet)


async def test_a_step_that_takes_no_such_answer_gets_tempfail() -> None:
    """P-091: the filter would be switched off."""
    filter_ = filter_class({"connect": ValueError("x")}, on_error=FailurePolicy(other=DISCARD))
    async with serving(filter_) as scene:
        peer = await scene.opened(offer() + connect())
        assert [code for code, _ in frames(peer.octets)] == ["O", "t"]


async def test_a_refused_recipient_leaves_the_message_to_the_others() -> None:
    filter_ = filter_class({"envrcpt": ValueError("x")}, on_error=FailurePolicy(other=LATER))
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + rcpt() + rcpt("<c@x>")) == "cyy"


@pytest.mark.parametrize("answer", [SKIP, "tempfail", 451, True, None], ids=repr)
def test_what_is_no_answer_is_refused_when_the_policy_is_made(answer: Any) -> None:
    for name in ("local", "authenticated", "other"):
        given: dict[str, Any] = {name: answer}
        with pytest.raises(TypeError, match=name):
            FailurePolicy(**given)


def test_a_policy_holds_no_policy() -> None:
    given: Any = FailurePolicy()
    with pytest.raises(TypeError, match="other: expected an answer"):
        FailurePolicy(other=given)


@pytest.mark.parametrize("name", ["on_error", "on_timeout"])
@pytest.mark.parametrize("answer", [SKIP, "tempfail", 451, True], ids=repr)
def test_what_is_no_answer_is_refused_when_the_filter_is_made(name: str, answer: Any) -> None:
    with pytest.raises(TypeError, match=f"Broken.{name}: expected a verdict"):
        type("Broken", (Milter,), {name: answer})


def test_tempfail_unless_told_otherwise() -> None:
    policy = FailurePolicy()
    assert (policy.local, policy.authenticated, policy.other) == (TEMPFAIL, TEMPFAIL, TEMPFAIL)
