"""What a callback sees: of this connection, of this message, of this stage, and of nothing else."""

import contextvars
import ipaddress
from typing import Any, Final

import pytest

from aiomilter import MTA, REJECT, TLS, Auth, Context, EndOfMessageContext, Family, LocalProtocolError, Milter, testing
from aiomilter.wire.constants import Command
from aiomilter.wire.events import Connect
from aiomilter.wire.framing import packet
from aiomilter.wire.text import pack_strings

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
    body,
    connect,
    filter_class,
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

EVERY: Final = CALLBACKS[1:]
ALL: Final = offer() + connect() + helo() + unknown() + MESSAGE + mail() + ABORT + QUIT


def noting(seen: list[Any], look: Any, names: Any = EVERY) -> dict[str, Any]:
    """A play in which each callback notes what it sees."""

    def callback(name: str) -> Any:
        def note(filter_: Any, ctx: Any, event: Any) -> None:
            seen.append((name, look(ctx)))

        return note

    return {name: callback(name) for name in names}


# Macros


async def macro_values(name: str, octets: bytes) -> list[tuple[str, str | None]]:
    seen: list[Any] = []
    async with serving(filter_class(noting(seen, lambda ctx: ctx.macro(name)))) as scene:
        peer = await scene.opened(offer())
        await peer.send(octets + QUIT)
    return seen


async def test_a_macro_set_replaces_the_one_of_its_stage() -> None:
    """P-080."""
    octets = macros("M", a="1", b="1") + macros("M", a="2") + mail()
    assert (await macro_values("b", octets))[0] == ("envfrom", None)
    assert (await macro_values("a", octets))[0] == ("envfrom", "2")


async def test_the_latest_stage_wins() -> None:
    """P-081."""
    stages = (("C", connect()), ("H", helo()), ("M", mail()), ("R", rcpt()), ("T", DATA), ("N", EOH), ("E", EOM))
    seen = await macro_values("x", b"".join(macros(code, x=code) + octets for code, octets in stages))
    assert [value for _, value in seen[:7]] == ["C", "H", "M", "R", "T", "N", "E"]


@pytest.mark.parametrize(
    ("sent", "asked", "found"),
    [
        ("i", "i", True),
        ("i", "{i}", True),
        ("{i}", "i", True),
        ("{i}", "{i}", True),
        ("{mail_addr}", "mail_addr", True),
        ("{mail_addr}", "{mail_addr}", True),
        ("{mail_addr}", "mail", False),
        ("{mail_addr}", "{mail_addr", False),
        ("{Mail_addr}", "mail_addr", False),
    ],
)
async def test_braces_do_not_matter(sent: str, asked: str, found: bool) -> None:
    """P-082."""
    octets = packet(Command.MACRO, b"M" + pack_strings(sent, "value")) + mail()
    assert (await macro_values(asked, octets))[0] == ("envfrom", "value" if found else None)


async def test_what_each_command_clears() -> None:
    """P-083."""
    every = b"".join(macros(code, **{code: "x"}) for code in "CHMRTLNBE")
    cleared = {
        connect(): set("HMRTLNBE"),
        helo(): set("MRTLNBE"),
        mail(): set("RTLNBE"),
        mail() + rcpt(): set("TLNBE"),
    }
    for octets, gone in cleared.items():
        seen: list[Any] = []
        last = {connect(): "connect", helo(): "helo", mail(): "envfrom"}.get(octets, "envrcpt")
        play = noting(seen, lambda ctx: {code for code in "CHMRTLNBE" if ctx.macro(code) is None}, [last])
        async with serving(filter_class(play)) as scene:
            peer = await scene.opened(offer())
            if last == "envrcpt":
                await peer.send(mail() + every + rcpt())
            else:
                await peer.send(every + octets)
        assert seen == [(last, gone)], last


async def test_message_macros_do_not_leak_into_the_next_message() -> None:
    """P-067, P-084."""
    first = macros("M", i="Q1", m="1") + mail() + macros("R", r="1") + rcpt() + macros("E", e="1") + EOM
    for end in (b"", ABORT):
        for name in "imre":
            seen = await macro_values(name, first + end + mail() + rcpt() + EOM)
            assert [value for callback, value in seen if callback in ("envfrom", "envrcpt", "eom")][3:] == [None] * 3


async def test_macros_of_a_decided_or_aborted_message_do_not_leak() -> None:
    """P-084."""
    seen: list[Any] = []
    filter_ = filter_class({**noting(seen, lambda ctx: ctx.macro("i")), "envrcpt": REJECT, "data": REJECT})
    async with serving(filter_) as scene:
        peer = await scene.opened()
        await peer.send(macros("M", i="Q1") + mail() + rcpt() + DATA + mail())
        await peer.send(ABORT + mail())
        await peer.send(macros("M", i="Q2") + mail() + ABORT + helo() + mail())

    assert [value for name, value in seen if name in ("envfrom", "helo")] == [None, "Q1", None, None, "Q2", None, None]
    assert [value for name, value in seen if name == "abort"][-1] is None


async def test_the_macros_of_a_mail_inside_a_message_belong_to_the_new_one() -> None:
    """P-050, P-084."""
    octets = macros("M", i="Q1") + mail() + rcpt() + macros("M", i="Q2") + mail() + EOM
    seen = await macro_values("i", octets)
    assert [(name, value) for name, value in seen if name == "envfrom"] == [("envfrom", "Q1"), ("envfrom", "Q2")]


async def test_connection_macros_live_as_long_as_the_connection() -> None:
    """P-062, P-069."""
    octets = (
        macros("C", j="mx")
        + connect()
        + macros("H", tls_version="TLSv1.3")
        + helo()
        + MESSAGE
        + mail()
        + ABORT
        + mail()
    )
    assert {value for _, value in await macro_values("j", octets)} == {"mx"}
    assert {value for name, value in await macro_values("tls_version", octets) if name != "connect"} == {"TLSv1.3"}
    seen = await macro_values("j", octets + QUIT_NC + connect() + MESSAGE)
    assert {value for _, value in seen[seen.index(("close", "mx")) + 1 :]} == {None}


async def test_a_helo_keeps_connection_macros_and_replaces_its_own() -> None:
    """P-062, P-083."""
    octets = macros("C", j="mx") + connect() + macros("H", h="1") + helo() + macros("H", h="2") + helo() + mail()
    assert ("helo", "2") in await macro_values("h", octets)
    assert ("envfrom", "mx") in await macro_values("j", octets)


ODD_MACROS: Final = [
    pytest.param(b"M", None, id="no pairs (P-033)"),
    pytest.param(b"Mi\0", None, id="a lone name (P-034)"),
    pytest.param(b"Mi\0Q1\0x\0", "Q1", id="a pair and a lone name (P-034)"),
    pytest.param(b"Mi\0Q1", None, id="no last NUL (P-034)"),
    pytest.param(b"Mi\0Q1\0i\0Q2\0", "Q1", id="a name twice"),
    pytest.param(b"Mi\0\0", "", id="an empty value"),
    pytest.param(b"M\0Q1\0i\0Q2\0", "Q2", id="an empty name"),
    pytest.param(b"Mi\0\xff\xfe\0", "\udcff\udcfe", id="octets that are no text (P-044)"),
    pytest.param(b"!i\0Q1\0", None, id="an unknown command (P-032)"),
    pytest.param(b"Di\0Q1\0", None, id="the command MACRO (P-032)"),
    pytest.param(b"\0i\0Q1\0", None, id="the command NUL (P-032)"),
    pytest.param(b"Ri\0Q1\0", None, id="a stage that comes later or never (P-035)"),
]


@pytest.mark.parametrize(("payload", "value"), ODD_MACROS)
async def test_odd_macros(payload: bytes, value: str | None) -> None:
    """P-032, P-033, P-034, P-035, P-044."""
    seen = await macro_values("i", packet(Command.MACRO, payload) + mail())
    assert seen[0] == ("envfrom", value)


async def test_an_empty_set_is_an_empty_set() -> None:
    """P-033, P-080."""
    seen = await macro_values("i", macros("M", i="Q1") + packet(Command.MACRO, b"M") + mail())
    assert seen[0] == ("envfrom", None)


@pytest.mark.parametrize(
    ("code", "octets", "name"), [("L", header(), "header"), ("B", body(), "body"), ("U", unknown(), "unknown")]
)
async def test_macros_before_each_header_body_and_unknown_are_taken(code: str, octets: bytes, name: str) -> None:
    """P-032, P-085."""
    before = {"header": mail() + rcpt() + DATA, "body": mail() + rcpt() + DATA + EOH, "unknown": b""}[name]
    seen = await macro_values("i", before + macros(code, i="1") + octets + macros(code, i="2") + octets)
    assert [value for callback, value in seen if callback == name] == ["1", "2"]


@pytest.mark.parametrize("command", "CHMRTNE")
async def test_macros_are_there_in_the_callback_of_their_command(command: str) -> None:
    """P-085."""
    octets = {"C": connect(), "H": helo(), "M": mail(), "R": rcpt(), "T": DATA, "N": EOH, "E": EOM}
    order = "CHMRTNE"
    sent = b"".join((macros(each, x="here") if each == command else b"") + octets[each] for each in order)
    seen = await macro_values("x", sent)
    assert seen[order.index(command)][1] == "here"
    assert all(value is None for _, value in seen[: order.index(command)])


async def test_a_default_where_there_is_no_macro() -> None:
    seen: list[Any] = []
    play = noting(seen, lambda ctx: (ctx.macro("i", "none"), ctx.macro("e", "none"), ctx.queue_id), ["envfrom"])
    async with serving(filter_class(play)) as scene:
        peer = await scene.opened()
        await peer.send(macros("M", e="") + mail())
    assert seen == [("envfrom", ("none", "", None))]


# What macros tell

AUTHS: Final = [
    ({}, None),
    ({"auth_authen": "alice", "auth_type": "PLAIN"}, Auth("alice", "PLAIN")),
    ({"auth_authen": "alice"}, Auth("alice", "")),
    ({"auth_authen": "", "auth_type": "PLAIN"}, None),
    ({"auth_type": "PLAIN"}, None),
]


@pytest.mark.parametrize(("values", "found"), AUTHS)
async def test_who_has_logged_in(values: dict[str, str], found: Auth | None) -> None:
    seen: list[Any] = []
    async with serving(filter_class(noting(seen, lambda ctx: ctx.auth, ["envfrom"]))) as scene:
        peer = await scene.opened()
        await peer.send(macros("M", **values) + mail())
    assert seen == [("envfrom", found)]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, None),
        ({"cipher": "x"}, None),
        ({"tls_version": "TLSv1.3"}, TLS("TLSv1.3", "", "", "", "")),
        (
            {"tls_version": "TLSv1.3", "cipher": "AES", "cipher_bits": "256", "cert_subject": "s", "cert_issuer": "i"},
            TLS("TLSv1.3", "AES", "256", "s", "i"),
        ),
    ],
)
async def test_how_the_session_is_encrypted(values: dict[str, str], found: TLS | None) -> None:
    seen: list[Any] = []
    async with serving(filter_class(noting(seen, lambda ctx: ctx.tls, ["helo"]))) as scene:
        await scene.opened(offer() + macros("H", **values) + helo())
    assert seen == [("helo", found)]


@pytest.mark.parametrize(
    ("v", "found"),
    [
        (None, MTA("unknown", "", "mx")),
        ("", MTA("unknown", "", "mx")),
        ("Postfix 3.7.11", MTA("postfix", "3.7.11", "mx")),
        ("Postfix 3.12-20260101", MTA("postfix", "3.12-20260101", "mx")),
        ("8.17.1.9", MTA("sendmail", "8.17.1.9", "mx")),
        ("8.17.1.9/8.17.1.9/Debian-2", MTA("sendmail", "8.17.1.9", "mx")),
        ("Haraka 3", MTA("unknown", "", "mx")),
        ("\udcff", MTA("unknown", "", "mx")),
    ],
)
async def test_who_is_asking(v: str | None, found: MTA) -> None:
    seen: list[Any] = []
    values = {"j": "mx"} | ({} if v is None else {"v": v})
    async with serving(filter_class(noting(seen, lambda ctx: ctx.mta, ["connect"]))) as scene:
        await scene.opened(offer() + macros("C", **values) + connect())
    assert seen == [("connect", found)]


# Client and envelope

CLIENTS: Final = [
    # After the host name: octets; family, port, address, parsed.
    (b"U", Family.UNKNOWN, 0, "", None),
    (b"Umore octets", Family.UNKNOWN, 0, "", None),
    (b"4\x9c\x40192.0.2.7\0", Family.INET, 40000, "192.0.2.7", "192.0.2.7"),
    (b"4\x00\x00127.0.0.1\0", Family.INET, 0, "127.0.0.1", "127.0.0.1"),
    (b"4\xff\xffunknown\0", Family.INET, 65535, "unknown", None),
    (b"4\0\x01\0", Family.INET, 1, "", None),
    (b"4\0\x01999.1.1.1\0", Family.INET, 1, "999.1.1.1", None),
    (b"6\0\x19::1\0", Family.INET6, 25, "::1", "::1"),
    (b"6\0\x19IPv6:0:0:0:0:0:0:0:1\0", Family.INET6, 25, "IPv6:0:0:0:0:0:0:0:1", "::1"),
    (b"6\0\x19ipV6:2001:db8::1\0", Family.INET6, 25, "ipV6:2001:db8::1", "2001:db8::1"),
    (b"6\0\x19unknown\0", Family.INET6, 25, "unknown", None),
    (b"L\0\0/var/run/x\0", Family.UNIX, 0, "/var/run/x", None),
    (b"4\0\x01\xff\xfe\0", Family.INET, 1, "\udcff\udcfe", None),
]


@pytest.mark.parametrize(("octets", "family", "port", "address", "ip"), CLIENTS)
@pytest.mark.parametrize("hostname", ["client.example", "", "[192.0.2.1]", "unknown", "\udcff"])
async def test_the_client(
    hostname: str, octets: bytes, family: Family, port: int, address: str, ip: str | None
) -> None:
    """P-036, P-037, P-038, P-039, P-040, P-044: in every callback from then on."""
    seen: list[Any] = []
    filter_ = filter_class(noting(seen, lambda ctx: ctx.client, ["connect", "eom", "abort", "close"]))
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        assert await peer.send(packet(Command.CONNECT, pack_strings(hostname) + octets)) == "c"
        await peer.send(MESSAGE + mail() + ABORT + QUIT)

    assert [name for name, _ in seen] == ["connect", "eom", "abort", "close"]
    (client,) = {client for _, client in seen}
    assert client == Connect(hostname, family, port, address)
    assert client.ip == (ip and ipaddress.ip_address(ip))


async def test_a_client_that_was_not_told_of() -> None:
    seen: list[Any] = []
    async with serving(filter_class(noting(seen, lambda ctx: (ctx.client, ctx.helo)))) as scene:
        await scene.opened(offer() + MESSAGE + QUIT)
    assert {repr(value) for _, value in seen} == {repr((Connect(""), ""))}


async def test_helo_and_envelope_are_there_when_they_are_known_and_only_then() -> None:
    """P-062, P-067, P-070."""
    seen: list[Any] = []

    def look(ctx: Context) -> Any:
        sender = ctx.sender
        return ctx.helo, sender and sender.path, tuple(rcpt.path for rcpt in ctx.recipients)

    async with serving(filter_class(noting(seen, look))) as scene:
        peer = await scene.opened(offer())
        await peer.send(connect() + helo("one") + unknown() + mail("<a@x>") + rcpt("<b@x>") + rcpt("<c@x>") + EOM)
        await peer.send(unknown() + mail("<d@x>") + helo("two") + ABORT + mail("<>") + ABORT + QUIT)

    assert seen == [
        ("connect", ("", None, ())),
        ("helo", ("one", None, ())),
        ("unknown", ("one", None, ())),
        ("envfrom", ("one", "<a@x>", ())),
        ("envrcpt", ("one", "<a@x>", ())),
        ("envrcpt", ("one", "<a@x>", ("<b@x>",))),
        ("eom", ("one", "<a@x>", ("<b@x>", "<c@x>"))),
        ("unknown", ("one", None, ())),
        ("envfrom", ("one", "<d@x>", ())),
        ("abort", ("one", "<d@x>", ())),
        ("helo", ("two", None, ())),
        ("envfrom", ("two", "<>", ())),
        ("abort", ("two", "<>", ())),
        ("close", ("two", None, ())),
    ]


async def test_callbacks_that_nobody_overrides_still_tell_the_others() -> None:
    """P-017."""
    seen: list[Any] = []
    play = noting(
        seen, lambda ctx: (ctx.client.hostname, ctx.helo, ctx.sender.address, ctx.recipients[0].address), ["eom"]
    )
    async with serving(filter_class(play, callbacks=["eom"])) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + rcpt() + EOM) == "c"
    assert seen == [("eom", ("client.example", "client.example", "alice@example.org", "bob@example.net"))]


ADDRESSES: Final = [
    (b"<a@x>\0", "<a@x>", "a@x", ()),
    (b"a@x\0", "a@x", "a@x", ()),
    (b"<>\0", "<>", "", ()),
    (b"\0", "", "", ()),
    (b"<@r1,@r2:a@x>\0", "<@r1,@r2:a@x>", "a@x", ()),
    (b'<"a b"@x>\0', '<"a b"@x>', '"a b"@x', ()),
    (b"<a@x>\0SIZE=1\0BODY=8BITMIME\0", "<a@x>", "a@x", ("SIZE=1", "BODY=8BITMIME")),
    (b"<a@x>\0size=1", "<a@x>", "a@x", ("size=1",)),
    (b"<\xff@x>\0", "<\udcff@x>", "\udcff@x", ()),
    (b"<gr\xc3\xbc\xc3\x9f@x>\0SMTPUTF8\0", "<grüß@x>", "grüß@x", ("SMTPUTF8",)),
    (b"<a@x\0", "<a@x", "a@x", ()),
]


@pytest.mark.parametrize(("payload", "sent", "bare", "params"), ADDRESSES)
async def test_senders_and_recipients_as_sent_and_bare(
    payload: bytes, sent: str, bare: str, params: tuple[str, ...]
) -> None:
    """P-041, P-042, P-044."""
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        assert await peer.send(packet(Command.MAIL, payload) + packet(Command.RCPT, payload)) == "cc"

    told = dict(filter_.told)
    assert (told["envfrom"].path, told["envfrom"].address, told["envfrom"].params) == (sent, bare, params)
    assert (told["envrcpt"].path, told["envrcpt"].address, told["envrcpt"].params) == (sent, bare, params)


async def test_xtext_is_decoded_in_keywords_only() -> None:
    filter_ = filter_class()
    async with serving(filter_) as scene:
        peer = await scene.opened()
        await peer.send(mail("<a@x>", "AUTH=a+3Db", "size=10", "SMTPUTF8"))

    event = dict(filter_.told)["envfrom"]
    assert event.params == ("AUTH=a+3Db", "size=10", "SMTPUTF8")
    assert event.keywords == {"AUTH": "a=b", "SIZE": "10", "SMTPUTF8": ""}


async def test_recipients_that_the_mta_refuses_are_not_among_the_recipients() -> None:
    """P-020."""
    seen: list[Any] = []
    filter_ = filter_class(
        noting(seen, lambda ctx: [rcpt.address for rcpt in ctx.recipients], ["eom"]), rejected_recipients=True
    )
    async with serving(filter_) as scene:
        peer = await scene.opened()
        refused = macros("R", rcpt_mailer="error", rcpt_host="5.1.1", rcpt_addr="no such user") + rcpt("<no@x>")
        assert await peer.send(mail() + macros("R", rcpt_mailer="smtp") + rcpt("<yes@x>") + refused + EOM) == "cccc"

    assert seen == [("eom", ["yes@x"])]
    assert names(filter_).count("envrcpt") == 2


async def test_body_and_header_arrive_unchanged() -> None:
    """P-043, P-044, P-045."""
    filter_ = filter_class()
    chunks = [b"one\r", b"\ntwo\r\n", b"\0\xff\n\r", b"x" * 65535]
    fields = [("A", "x"), ("B", ""), ("C", "one\n\ttwo\n  three"), ("D", "\udcff\udc80"), ("E", "grüß"), ("f", " lead")]
    async with serving(filter_) as scene:
        peer = await scene.opened(OPENING + mail() + rcpt() + DATA)
        octets = b"".join(header(name, value) for name, value in fields)
        await peer.send(octets + EOH + b"".join(map(body, chunks)) + EOM)

    assert [tuple(event[:2]) for name, event in filter_.told if name == "header"] == fields
    assert [event for name, event in filter_.told if name == "body"] == chunks


# Scope


async def test_notes_are_of_one_message() -> None:
    """P-067."""
    seen: list[Any] = []

    def look(ctx: Context) -> Any:
        found = dict(ctx.notes)
        ctx.notes["count"] = ctx.notes.get("count", 0) + 1
        return found.get("count", 0)

    async with serving(filter_class(noting(seen, look, ["envfrom", "envrcpt", "eom", "abort"]))) as scene:
        peer = await scene.opened()
        await peer.send(mail() + rcpt() + EOM + mail() + rcpt() + mail() + ABORT + mail() + QUIT)

    assert seen == [
        *(("envfrom", 0), ("envrcpt", 1), ("eom", 2)),
        *(("envfrom", 0), ("envrcpt", 1), ("abort", 2)),
        *(("envfrom", 0), ("abort", 1)),
        *(("envfrom", 0), ("abort", 1)),
    ]


@pytest.mark.parametrize("name", ["connect", "helo", "unknown", "close"])
async def test_notes_outside_a_message_say_where_to_keep_things_of_the_connection(name: str) -> None:
    """They would be gone at MAIL."""
    failures: list[str] = []

    def callback(filter_: Any, ctx: Any, event: Any) -> None:
        with pytest.raises(LocalProtocolError) as caught:
            ctx.notes["who"] = 1
        failures.append(str(caught.value))

    async with serving(filter_class({name: callback})) as scene:
        peer = await scene.opened(offer())
        await peer.send(connect() + helo() + unknown() + QUIT)
    assert failures == ["notes: expected a message, found none; keep connection state on self"]


@pytest.mark.parametrize("name", ["envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "abort"])
async def test_each_callback_of_a_message_has_notes_if_it_is_the_only_one(name: str) -> None:
    seen: list[Any] = []

    async def callback(self: Milter, ctx: Context, *event: object) -> None:
        ctx.notes["x"] = 1
        seen.append(ctx.notes)

    async with testing.session(type("Only", (Milter,), {name: callback})) as s:
        await s.mail("<a@x>")
        await s.rcpt("<b@x>")
        if name != "abort":
            await s.message(b"A: b\r\n\r\nbody\r\n")
        else:
            await s.abort()
    assert seen == [{"x": 1}]


async def test_notes_of_two_connections_are_two() -> None:
    seen: list[Any] = []

    def envfrom(filter_: Any, ctx: Any, event: Any) -> None:
        ctx.notes["who"] = event.address

    play = {"envfrom": envfrom, **noting(seen, lambda ctx: ctx.notes.get("who"), ["eom"])}
    async with serving(filter_class(play)) as scene:
        one, two = await scene.opened(), await scene.opened()
        await one.send(mail("<one@x>") + rcpt())
        await two.send(mail("<two@x>") + rcpt())
        await one.send(EOM)
        await two.send(EOM)

    assert seen == [("eom", "one@x"), ("eom", "two@x")]


ACCESS: Final[dict[str, Any]] = {
    "client": lambda ctx: ctx.client,
    "helo": lambda ctx: ctx.helo,
    "sender": lambda ctx: ctx.sender,
    "recipients": lambda ctx: ctx.recipients,
    "notes": lambda ctx: ctx.notes,
    "macro": lambda ctx: ctx.macro("i"),
    "queue_id": lambda ctx: ctx.queue_id,
    "auth": lambda ctx: ctx.auth,
    "tls": lambda ctx: ctx.tls,
    "mta": lambda ctx: ctx.mta,
    "on_end": lambda ctx: ctx.on_end(print),
    "progress": lambda ctx: ctx.progress(),
    "add_header": lambda ctx: ctx.add_header("A", "x"),
    "replace_body": lambda ctx: ctx.replace_body(b""),
}


@pytest.mark.parametrize("form", ["inline", "suspended", "failing"])
@pytest.mark.parametrize("access", ACCESS)
async def test_a_context_is_dead_once_its_callback_has_returned(access: str, form: str) -> None:
    kept: list[Any] = []

    async def keep(filter_: Any, ctx: Any, event: Any) -> None:
        kept.append(ctx)
        if form == "suspended":
            await later()(filter_, ctx, event)
        if form == "failing":
            raise ValueError("x")

    everything = header("A", "1") + header("B", "2") + header("C", "3") + EOH + body() + body()
    filter_ = filter_class(dict.fromkeys(EVERY, keep))
    async with serving(filter_) as scene:
        peer = await scene.opened(offer())
        await peer.send_each(
            connect() + helo() + unknown() + mail() + rcpt() + DATA + everything + EOM + mail() + ABORT + QUIT
        )

    assert len(kept) == len(filter_.told)
    assert len({id(ctx) for ctx in kept}) == len(kept)
    for ctx in kept:
        if hasattr(type(ctx), access):
            with pytest.raises(LocalProtocolError, match="callback has returned"):
                ACCESS[access](ctx)


async def test_a_context_kept_by_a_closure_or_a_method_is_dead_too() -> None:
    kept: list[Any] = []

    def on_header(filter_: Any, ctx: Any, event: Any) -> None:
        kept.append(lambda: ctx.helo)
        kept.append(ctx.macro)
        kept.append(contextvars.copy_context())

    async with serving(filter_class({"header": on_header})) as scene:
        await scene.opened(OPENING + mail() + rcpt() + DATA + header() + header() + header())

    for call in [*kept[0::3], *(lambda method=method: method("i") for method in kept[1::3])]:
        with pytest.raises(LocalProtocolError):
            call()


async def test_a_context_that_is_kept_shows_nothing_of_a_later_stage() -> None:
    kept: list[Any] = []
    shown: list[Any] = []

    def on_header(filter_: Any, ctx: Any, event: Any) -> None:
        for old in kept:
            with pytest.raises(LocalProtocolError):
                shown.append(old.sender)
        kept.append(ctx)

    async with serving(filter_class({"header": on_header})) as scene:
        await scene.opened(OPENING + mail() + rcpt() + DATA + header() * 5)

    assert len(kept) == 5
    assert shown == []
    assert not scene.watcher.failures


def test_only_the_end_of_message_can_modify() -> None:
    """P-110."""
    edits = {"add_header", "insert_header", "change_header", "delete_header", "replace_body", "change_sender"}
    edits |= {"add_recipient", "delete_recipient", "quarantine"}
    assert edits <= set(dir(EndOfMessageContext))
    assert not edits & set(dir(Context))


def test_an_edit_elsewhere_says_where_edits_are_made() -> None:
    context = Context.__new__(Context)
    with pytest.raises(AttributeError, match="add_header: edits are made in eom only"):
        context.add_header("X", "y")  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"add_headers: expected ctx\.add_header, which only eom has"):
        context.add_headers("X", "y")  # type: ignore[attr-defined]


DOORS: Final = [
    # libmilter's names, with and without smfi_ and underscores.
    ("addheader", "ctx.add_header"),
    ("insheader", "ctx.insert_header"),
    ("chgheader", "ctx.change_header"),
    ("delheader", "ctx.delete_header"),
    ("replacebody", "ctx.replace_body"),
    ("chgfrom", "ctx.change_sender"),
    ("addrcpt", "ctx.add_recipient"),
    ("addrcpt_par", "ctx.add_recipient"),
    ("delrcpt", "ctx.delete_recipient"),
    ("smfi_quarantine", "ctx.quarantine"),
    ("getsymval", "ctx.macro"),
    ("setpriv", "ctx.notes"),
    # What belongs to the message comes in callbacks.
    ("headers", "the header callback, which gets each field"),
    ("body", "the body callback, which gets each piece"),
    ("message", "the header and body callbacks"),
    # Answers.
    ("setreply", "the callback to return a Reply"),
    ("reject", "the callback to return REJECT"),
    # Nearly right.
    ("sendr", "ctx.sender"),
    ("recipient", "ctx.recipients"),
    ("rcpts", "ctx.recipients"),
    ("mailfrom", "ctx.sender"),
    ("macros", "ctx.macro"),
    ("add_headr", "ctx.add_header"),
]


@pytest.mark.parametrize(("name", "door"), DOORS)
def test_a_name_that_a_context_lacks_leads_to_the_right_door(name: str, door: str) -> None:
    for context in (EndOfMessageContext.__new__(EndOfMessageContext), Context.__new__(Context)):
        with pytest.raises(AttributeError) as caught:
            getattr(context, name)
        only = ", which only eom has" if type(context) is Context and door[4:] in EndOfMessageContext.__dict__ else ""
        assert str(caught.value) == f"{name}: expected {door}{only}"


@pytest.mark.parametrize("name", ["_x", "__len__", "spam_score", "x" * 10_000])
def test_a_name_like_nothing_is_missing_as_in_any_object(name: str) -> None:
    with pytest.raises(AttributeError, match="'Context' object has no attribute '"):
        getattr(Context.__new__(Context), name)
