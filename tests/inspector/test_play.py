"""Messages that the page has played to a filter of its own."""

from base64 import b64encode
from typing import Any

import pytest

from aiomilter import CONTINUE, REJECT, Context, EndOfMessageContext, Mail, Milter, Response
from aiomilter._cli.inspect_play import InspectedFilter
from aiomilter.compose import check, compose, in_shadow
from aiomilter.inspector.replaying import scenario_of
from aiomilter.options import Options
from aiomilter.server import Factory
from tests.inspector.gateway import gateway
from tests.inspector.playing import MESSAGE, play
from tests.inspector.test_recording import Tag


async def played(factory: Factory, **asked: Any) -> dict[str, Any]:
    return await InspectedFilter(lambda: (factory, Options()))({"message": MESSAGE.decode(), **asked})


class Told(Milter):
    """Says whether it must not act."""

    def __init__(self) -> None:
        self.made_in_shadow = in_shadow()

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Shadow", f"{ctx.shadow} {in_shadow()} {self.made_in_shadow}")


@pytest.mark.parametrize("factory", [Told, compose(check(Told)), compose(check(Told), check(Tag, name="tag"))])
async def test_a_filter_is_told_that_it_must_not_act(factory: Factory) -> None:
    found = await played(factory)
    assert found["edits_made"][0]["value"] == "True True True"


async def test_a_filter_that_serves_is_told_that_it_acts() -> None:
    store = await play(Told)
    assert b"False False False" in b"".join(str(each[2]).encode() for each in store.messages[1].entries)


async def test_the_scenario_is_that_of_the_page() -> None:
    class Asks(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> Response:
            told = (
                ctx.client.raw_address,
                ctx.helo,
                mail.address,
                ctx.auth and ctx.auth.login,
                ctx.tls is not None,
                ctx.macro("daemon_name"),
            )
            return (
                CONTINUE
                if told == ("198.51.100.7", "mx.example", "eve@example.com", "eve", True, "submission")
                else REJECT
            )

    found = await played(
        Asks,
        client="198.51.100.7",
        helo="mx.example",
        sender="eve@example.com SIZE=5",
        recipients=["bob@example.net"],
        auth="eve",
        tls=True,
        macros={"daemon_name": "submission"},
        mta="sendmail",
    )
    assert found["kind"] == "accept"
    assert found["mta"] == "sendmail"


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"client": "somewhere"}, "client"),
        ({"client": 5}, "client"),
        ({"helo": "a\r\nb"}, "helo"),
        ({"helo": "x" * 2000}, "helo"),
        ({"recipients": "bob"}, "recipients"),
        ({"recipients": ["b@x.example"] * 200}, "recipients"),
        ({"recipients": [5]}, "recipients"),
        ({"macros": "a=b"}, "macros"),
        ({"macros": {"a b": "c"}}, "macros"),
        ({"macros": {"a": {"b": 5}}}, "macros"),
        ({"mta": "exim"}, "mta"),
        ({"octets": "!"}, "octets"),
        ({"message": 5}, "message"),
    ],
)
async def test_what_is_wrong_is_said(asked: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        await played(Tag, **asked)


async def test_a_factory_that_fails_is_said() -> None:
    def broken() -> Milter:
        raise LookupError("no rules")

    with pytest.raises(ValueError, match="no rules"):
        await played(broken)


async def test_what_was_recorded_is_played_again_octet_by_octet() -> None:
    octets = b"Subject: odd \xff\r\nX-Fold: a\r\n\tb\r\n\r\nnot UTF-8: \xe4\r\n"
    store = await play(gateway, octets, "<bob@example.net>", "<nobody@example.net>")
    asked = scenario_of(store.messages[1])

    assert asked["octets"] == b64encode(octets).decode()
    assert asked["client"] == "192.0.2.7"
    assert asked["recipients"] == ["<bob@example.net>", "<nobody@example.net>"]
    found = await played(gateway, **asked)
    assert found["reply"] == "250 2.0.0 Ok: queued as " + found["queue_id"]
    assert [each["answer"] for each in found["refused"]] == ["550 5.1.1 no such mailbox"]
