"""What macros each MTA sends, and what a filter's own lists do to that (aiomilter/help/protocol.rst, "Macro lists")."""

from typing import Any

import pytest

from aiomilter.exceptions import LocalProtocolError
from aiomilter.mta import Style
from aiomilter.wire.constants import Stage
from aiomilter.wire.macros import Macros

from .fakes import MemoryFilter, answers, negotiated, opened

MESSAGE = b"A: 1\r\nMessage-Id: <m@example.org>\r\n\r\nbody\r\n"


def told(memory: MemoryFilter) -> list[tuple[str, dict[str, str]]]:
    """Stage and values of each MACRO packet."""
    sets = [Macros.decode(payload) for code, payload in memory.received if code == "D"]
    return [(chr(macros.command), dict(macros.values)) for macros in sets]


async def played(style: Style, *, asked: Any = None, message: bytes = MESSAGE, **options: Any) -> tuple[str, Any]:
    """Play one message with two recipients; return the queue id and what macros were sent."""
    session, memory = await opened(answers(opening=negotiated(macros=asked or {})), style=style, **options)
    await session.connect("client.example", "192.0.2.1", 40000)
    await session.helo("client.example")
    await session.unknown("FOO")
    await session.mail("<alice@example.org>")
    await session.rcpt("<bob@example.net>")
    await session.rcpt("<carol@example.net>")
    await session.message(message)
    return session.queue_id, told(memory)


async def test_postfix_sends_its_lists() -> None:
    queue_id, sets = await played("postfix")
    i = {"i": queue_id}
    rcpt = {"{rcpt_host}": "example.net", "{rcpt_mailer}": "smtp"}

    assert sets == [
        (
            "C",
            {
                "j": "mx.example.org",
                "{daemon_name}": "mx.example.org",
                "{daemon_addr}": "127.0.0.1",
                "v": "Postfix 3.7.11",
                "_": "client.example [192.0.2.1]",
            },
        ),
        ("H", {}),
        ("U", {}),
        ("M", {"{mail_addr}": "alice@example.org", "{mail_host}": "example.org", "{mail_mailer}": "smtp"}),
        ("R", {"{rcpt_addr}": "bob@example.net", **rcpt}),
        ("R", {**i, "{rcpt_addr}": "carol@example.net", **rcpt}),
        ("T", i),
        ("L", i),
        ("L", i),
        ("N", i),
        ("B", i),
        ("E", i),
    ]


async def test_sendmail_sends_its_lists() -> None:
    queue_id, sets = await played("sendmail")
    rcpt = {"{rcpt_mailer}": "esmtp", "{rcpt_host}": "example.net."}

    assert sets == [
        (
            "C",
            {
                "j": "mx.example.org",
                "_": "client.example [192.0.2.1]",
                "{daemon_name}": "MTA",
                "{if_name}": "localhost",
            },
        ),
        ("H", {}),
        (
            "M",
            {
                "i": queue_id,
                "{mail_mailer}": "esmtp",
                "{mail_host}": "example.org.",
                "{mail_addr}": "alice@example.org",
            },
        ),
        ("R", {**rcpt, "{rcpt_addr}": "bob@example.net"}),
        ("R", {**rcpt, "{rcpt_addr}": "carol@example.net"}),
        ("E", {"{msg_id}": "<m@example.org>"}),
    ]


async def test_sendmail_makes_a_message_id_where_the_message_has_none() -> None:
    queue_id, sets = await played("sendmail", message=b"A: 1\r\n\r\n")

    assert sets[-1] == ("E", {"{msg_id}": f"<{queue_id}@mx.example.org>"})


async def test_the_null_sender_has_the_macros_of_the_captures() -> None:
    session, memory = await opened(answers())
    await session.mail("<>")
    assert told(memory)[-1][1] == {"{mail_addr}": "", "{mail_host}": "mx.example.org", "{mail_mailer}": "smtp"}

    session, memory = await opened(answers(), style="sendmail")
    await session.mail("<>")
    assert told(memory)[-1][1]["{mail_host}"] == ""


@pytest.mark.parametrize("style", ["postfix", "sendmail"])
async def test_a_filters_list_replaces_the_mtas(style: Style) -> None:
    asked = {
        Stage.CONNECT: ("j", "{client_addr}", "{client_port}", "{client_name}", "{client_ptr}", "v", "{no_such}"),
        Stage.MAIL: ("{mail_addr}",),
        Stage.EOH: ("{i}",),
        Stage.EOM: ("i", "j", "{mail_addr}"),
    }
    queue_id, sets = await played(style, asked=asked)
    by_stage = dict(sets)

    assert by_stage["C"] == {
        "j": "mx.example.org",
        "{client_addr}": "192.0.2.1",
        "{client_port}": "40000",
        "{client_name}": "client.example",
        "{client_ptr}": "client.example",
        "v": "Postfix 3.7.11" if style == "postfix" else "8.17.1.9",
    }
    assert by_stage["M"] == {"{mail_addr}": "alice@example.org"}
    assert by_stage["N"] == {"{i}": queue_id}
    # Postfix sends content from a process that does not know the envelope's macros.
    hidden = {} if style == "postfix" else {"{mail_addr}": "alice@example.org"}
    assert by_stage["E"] == {"i": queue_id, "j": "mx.example.org", **hidden}
    if style == "postfix":
        assert by_stage["L"] == by_stage["N"]
        assert by_stage["B"] == by_stage["E"]
    else:
        assert not {"L", "B", "T"} & by_stage.keys()


async def test_an_empty_list_means_the_usual_one_in_postfix_and_none_in_sendmail() -> None:
    asked: dict[Stage, tuple[str, ...]] = {Stage.MAIL: (), Stage.RCPT: ()}
    queue_id, sets = await played("postfix", asked=asked)
    assert dict(sets)["R"]["i"] == queue_id

    _, sets = await played("sendmail", asked=asked)
    assert [stage for stage, _ in sets] == ["C", "H", "E"]


async def test_sendmail_reads_a_list_for_end_of_message_only_beside_one_for_end_of_headers() -> None:
    queue_id, sets = await played("sendmail", asked={Stage.EOM: ("i",)})
    assert sets[-1] == ("E", {"{msg_id}": "<m@example.org>"})

    _, sets = await played("sendmail", asked={Stage.EOH: ("j",)})
    assert sets[-1] == ("N", {"j": "mx.example.org"})

    queue_id, sets = await played("sendmail", asked={Stage.EOM: ("i",), Stage.EOH: ("i",)})
    assert sets[-2:] == [("N", {"i": queue_id}), ("E", {"i": queue_id})]


async def test_sendmail_reads_fifty_names_of_a_list() -> None:
    names = tuple(f"{{x{number}}}" for number in range(49))
    _, sets = await played("sendmail", asked={Stage.MAIL: (*names, "{mail_addr}", "{mail_host}")})

    assert dict(sets)["M"] == {"{mail_addr}": "alice@example.org"}


@pytest.mark.parametrize("style", ["postfix", "sendmail"])
async def test_given_values_are_added_and_override(style: Style) -> None:
    macros = {
        Stage.CONNECT: {"j": "mail.example.com", "{extra}": "x"},
        Stage.MAIL: {"i": "Q1", "{auth_authen}": "alice"},
        Stage.DATA: {"{more}": "y"},
    }
    _, sets = await played(style, macros=macros)
    by_stage = dict(sets)

    assert by_stage["C"]["j"] == "mail.example.com"
    assert by_stage["C"]["{extra}"] == "x"
    assert by_stage["M"]["i"] == "Q1"
    assert by_stage["M"]["{auth_authen}"] == "alice"
    assert by_stage["T"] == ({"i": "Q1", "{more}": "y"} if style == "postfix" else {"{more}": "y"})
    assert "{auth_authen}" not in by_stage["R"]


@pytest.mark.parametrize("style", ["postfix", "sendmail"])
async def test_a_given_value_is_known_at_later_stages_to_a_filter_that_asks_for_it(style: Style) -> None:
    macros = {Stage.CONNECT: {"{extra}": "x"}, Stage.HELO: {"{cipher}": "AES", "{mail_addr}": "z"}}
    asked = {Stage.CONNECT: ("j",), Stage.RCPT: ("{extra}", "{cipher}"), Stage.EOH: ("{extra}", "{cipher}")}
    _, sets = await played(style, macros=macros, asked=asked)
    by_stage = dict(sets)

    assert by_stage["C"] == {"j": "mx.example.org"}
    assert by_stage["R"] == {"{extra}": "x", "{cipher}": "AES"}
    assert by_stage["N"] == ({"{extra}": "x"} if style == "postfix" else {"{extra}": "x", "{cipher}": "AES"})


async def test_what_is_given_for_unknown_is_sent_with_it() -> None:
    macros = {Stage.HELO: {"{cipher}": "AES"}, Stage.UNKNOWN: {"{x}": "1"}}
    _, sets = await played("postfix", macros=macros)
    assert dict(sets)["U"] == {"{x}": "1"}

    _, sets = await played("sendmail", macros=macros)
    assert "U" not in dict(sets)


CLIENTS = [
    ("postfix", "client.example", "::1", "client.example [::1]", "IPv6:::1"),
    ("sendmail", "client.example", "::1", "client.example [IPv6:0:0:0:0:0:0:0:1]", "IPv6:0:0:0:0:0:0:0:1"),
    ("postfix", "[192.0.2.1]", "192.0.2.1", "unknown [192.0.2.1]", "192.0.2.1"),
    ("sendmail", "[192.0.2.1]", "192.0.2.1", "[192.0.2.1]", "192.0.2.1"),
]


@pytest.mark.parametrize(("style", "hostname", "address", "who", "client_addr"), CLIENTS)
async def test_the_client_as_macros_tell_of_it(
    style: Style, hostname: str, address: str, who: str, client_addr: str
) -> None:
    asked = {Stage.CONNECT: ("_", "{client_addr}")}
    session, memory = await opened(answers(opening=negotiated(macros=asked)), style=style)
    await session.connect(hostname, address)

    assert told(memory) == [("C", {"_": who, "{client_addr}": client_addr})]


async def test_values_of_one_message_are_not_told_in_the_next() -> None:
    session, memory = await opened(answers(), envelope=True)
    first = session.queue_id
    await session.message(MESSAGE)
    await session.mail("<x@example.org>")
    await session.rcpt("<y@example.org>")

    assert session.queue_id != first
    assert "i" not in told(memory)[-1][1]
    assert "i" not in told(memory)[-2][1]


async def test_a_value_with_nul_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        await opened(answers(), macros={Stage.MAIL: {"i": "a\0b"}})
