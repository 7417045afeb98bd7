"""What each scanner answers, and what is made of it; octets that are no answer are a problem."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiomilter.message import Headers
from aiomilter.scan import (
    AddedHeader,
    Clamd,
    ClamdResult,
    Envelope,
    HeaderChanges,
    RemovedHeader,
    Result,
    Rspamd,
    RspamdResult,
    Scanner,
    Spamd,
    SpamdResult,
    Symbol,
)
from aiomilter.scan._exchange import Answer
from aiomilter.scan._trouble import Trouble
from aiomilter.scan.header_changes import header_changes
from tests.scan.server import CLEAN, KINDS, Reader, Writer, answering, serving

MESSAGE: Final = b"Subject: hello\r\n\r\nHello\r\n"


async def asked(kind: str, answer: bytes, requests: list[bytes] | None = None, **more: Any) -> Result:
    """Have a message scanned by what gives one answer."""
    async with serving(answering(kind, answer, requests)) as address:
        result = await KINDS[kind](address).scan(MESSAGE, **more)
    assert result.problem == "" or result.problem.startswith(f"{kind} at {address}: ")
    return result


# ----------------------------------------------------------------------------------------------------------- clamd

CLAMD: Final = [
    (b"stream: OK\0", ClamdResult()),
    (b"stream: Toy.Test FOUND\0", ClamdResult(infected=True, name="Toy.Test")),
    (b"stream: Toy.Test.UNOFFICIAL(1f:68) FOUND\0", ClamdResult(infected=True, name="Toy.Test.UNOFFICIAL(1f:68)")),
    (b"stream: A FOUND FOUND\0", ClamdResult(infected=True, name="A FOUND")),
    (b"stream: a\r\n250 \xe9\x1b[0m FOUND\0", ClamdResult(infected=True, name="a?250 ?[0m")),
    (b"stream: " + b"x" * 5000 + b" FOUND\0", ClamdResult(infected=True, name="x" * 97 + "...")),
    (b"stream:  FOUND\0", ClamdResult(infected=True, name="?")),
    (b"stream: OK\0stream: Toy.Test FOUND\0", ClamdResult()),
]


@pytest.mark.parametrize(("answer", "result"), CLAMD)
async def test_what_clamd_has_found(answer: bytes, result: ClamdResult) -> None:
    assert await asked("clamd", answer) == result


async def test_clamd_may_say_in_mid_stream_that_a_message_is_too_large() -> None:
    """And hang up with octets unread, so that writing fails before the answer was read."""

    async def limited(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(100_000)
        writer.write(b"INSTREAM size limit exceeded. ERROR\0")
        await writer.drain()

    async def octets() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 65_536

    async with serving(limited) as address, Clamd(address) as clamd:
        for _ in range(20):
            result = await clamd.scan(octets())
            assert (result.too_large, result.problem) == (
                True,
                f"clamd at {address}: the message is larger than clamd takes (StreamMaxLength)",
            )


# ----------------------------------------------------------------------------------------------------------- spamd


def spamd(spam: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"SPAMD/1.1 0 EX_OK\r\n" + more + b"Spam: " + spam + b"\r\n\r\n" + body


SPAMD: Final = [
    (spamd(b"False ; 0.0 / 5.0", b""), SpamdResult(threshold=5.0)),
    (
        spamd(b"True ; 6.5 / 5.0", b"A,B\r\n"),
        SpamdResult(spam=True, score=6.5, threshold=5.0, symbols=("A", "B")),
    ),
    (
        spamd(b"Yes ; -1 / 5", b"A\nrest", b"Content-length: 2\r\n"),
        SpamdResult(spam=True, score=-1, threshold=5, symbols=("A",)),
    ),
    (spamd(b"False ; 1.0 / 5.0", b"a\r\nb\0,,\xe9"), SpamdResult(score=1.0, threshold=5.0, symbols=("a?b?", "?"))),
    (
        spamd(b"False ; 1.0 / 5.0", b"x" * 5000),
        SpamdResult(score=1.0, threshold=5.0, symbols=("x" * 97 + "...",)),
    ),
    (spamd(b"False ; 1.0 / 5.0", b"A," * 9000), SpamdResult(score=1.0, threshold=5.0, symbols=("A",) * 1000)),
]


@pytest.mark.parametrize(("answer", "result"), SPAMD)
async def test_what_spamd_has_found(answer: bytes, result: SpamdResult) -> None:
    assert await asked("spamd", answer) == result


async def test_spamd_gets_the_length_if_it_is_known() -> None:
    requests: list[bytes] = []
    await asked("spamd", CLEAN["spamd"], requests)
    await asked("spamd", CLEAN["spamd"], requests, size=len(MESSAGE))
    assert requests == [
        b"SYMBOLS SPAMC/1.5\r\n\r\n" + MESSAGE,
        b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(MESSAGE) + MESSAGE,
    ]


async def test_spamd_sees_the_client_as_an_mta_shows_it() -> None:
    envelope = Envelope(
        sender="alice@client.test",
        ip="192.0.2.7",
        hostname="client.test",
        helo="helo.test",
        login="alice",
        queue_id="4abc",
        mta_name="mx.example.test",
    )
    requests: list[bytes] = []
    await asked("spamd", CLEAN["spamd"], requests, envelope=envelope, size=len(MESSAGE))
    head, _, content = requests[0].partition(b"\r\n\r\n")
    assert head.endswith(b"Content-length: %d" % len(content))
    trace, _, message = content.partition(b"Subject")
    assert b"Subject" + message == MESSAGE
    assert trace.startswith(
        b"Return-Path: <alice@client.test>\r\nReceived: from helo.test (client.test [192.0.2.7])\r\n"
        b"\t(Authenticated sender: alice)\r\n\tby mx.example.test (Postfix) with ESMTPA id 4abc;\r\n\t"
    )


async def test_parts_of_a_received_field_are_single_words() -> None:
    """A client that could write more would show spamd another client."""
    text = 'a (b [127.0.0.1])\r\n\tby\\"<c>;\u00e9\0'
    envelope = Envelope(ip=text, hostname=text, helo=text, login=text, queue_id=text, mta_name=text)
    requests: list[bytes] = []
    await asked("spamd", CLEAN["spamd"], requests, envelope=envelope)
    word = b"a??b?[127.0.0.1]????by???c?????"
    trace = requests[0].partition(b"Received: ")[2].partition(b";\r\n")[0]
    assert trace == (
        b"from %b (%b [%b])\r\n\t(Authenticated sender: %b)\r\n\tby %b (Postfix) with ESMTPA id %b"
        % (word, word, word, word, word, word)
    )


@pytest.mark.slow
@given(st.text(st.characters(), max_size=20))
def test_any_envelope_can_be_sent(text: str) -> None:
    envelope = Envelope(
        sender=text, recipients=(text,), ip=text, hostname=text, helo=text, login=text, queue_id=text, mta_name=text
    )
    opening = Rspamd("inet:1@127.0.0.1")._request(None, envelope).opening
    assert opening.endswith(b"\r\n\r\n")
    assert opening.count(b"\n") == opening.count(b"\r\n") == opening.count(b"\r") <= 14
    trace = Spamd("inet:1@127.0.0.1")._request(None, envelope).opening.removeprefix(b"SYMBOLS SPAMC/1.5\r\n\r\n")
    assert trace.count(b"\n") == trace.count(b"\r\n") <= 5
    assert not {0, 13} & {*trace.replace(b"\r\n", b"")}


async def test_a_client_without_a_name_is_unknown_to_spamd() -> None:
    requests: list[bytes] = []
    await asked("spamd", CLEAN["spamd"], requests, envelope=Envelope(ip="2001:db8::7", hostname="[IPv6:2001:db8::7]"))
    assert b"\r\n\r\nReceived: from unknown (unknown [2001:db8::7])\r\n\tby localhost (Postfix) with" in requests[0]


async def test_spamd_gets_the_name_of_a_user() -> None:
    requests: list[bytes] = []
    async with serving(answering("spamd", CLEAN["spamd"], requests)) as address:
        await Spamd(address, user="alice").scan(MESSAGE)
    assert requests[0].startswith(b"SYMBOLS SPAMC/1.5\r\nUser: alice\r\n\r\n")


# ---------------------------------------------------------------------------------------------------------- rspamd


def rspamd(content: Any, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(body), body)


def verdict(**more: Any) -> dict[str, Any]:
    return {"action": "no action", "score": 0.5, "required_score": 15.0, **more}


EMPTY: Final = RspamdResult(action="no action", score=0.5, required_score=15.0)
RSPAMD: Final[list[tuple[Mapping[str, Any], dict[str, Any]]]] = [
    ({}, {}),
    (
        {"action": "rewrite subject", "subject": "***\r\nX: y \u00e9\ud800"},
        {"action": "rewrite subject", "subject": "***??X: y \u00e9?"},
    ),
    (
        {"action": "reject", "messages": {"smtp_message": "no\r\n250 ok"}},
        {"action": "reject", "reply": "no?250 ok"},
    ),
    ({"action": "a" * 5000}, {"action": "a" * 97 + "..."}),
    (
        {"symbols": {"A": {"score": 1.5, "options": ["x", 5, "y\n"]}, "B\r\n": {}, "C": 5}},
        {"symbols": {"A": Symbol(1.5, ("x", "y")), "B": Symbol(0.0), "C": Symbol(0.0)}},
    ),
    ({"urls": ["h.test"] * 10_000, "emails": ['a\\"\\,[{,' * 20] * 10_000}, {}),
    ({"symbols": [], "milter": 5, "messages": "x", "subject": {}}, {}),
    ({"score": 3}, {"score": 3.0}),
]


@pytest.mark.parametrize(("answer", "fields"), RSPAMD)
async def test_what_rspamd_has_found(answer: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    found = await asked("rspamd", rspamd(verdict(**answer)))
    assert {name: getattr(found, name) for name in ("problem", *fields)} == {"problem": "", **fields}


CHANGES: Final = [
    ({}, HeaderChanges()),
    (
        {"add_headers": {"X-A": "b", "X-C": {"value": "d", "order": 0}}},
        HeaderChanges((AddedHeader("X-A", "b"), AddedHeader("X-C", "d", 0))),
    ),
    (
        {"add_headers": {"X-A": ["b", {"value": "c", "order": -1}]}},
        HeaderChanges((AddedHeader("X-A", "b"), AddedHeader("X-A", "c", -1))),
    ),
    (
        {"remove_headers": {"X-A": 0, "X-B": 2, "X-C": [1, 3], "X-D": -1}},
        HeaderChanges(
            (), tuple(RemovedHeader(*each) for each in [("X-A", 0), ("X-B", 2), ("X-C", 1), ("X-C", 3), ("X-D", -1)])
        ),
    ),
    (
        {"add_headers": {"X-A": "a\r\n\tb\n  c\r\nX-B: d\re\0\n", "X-E": "x\n \n y\ud800"}},
        HeaderChanges((AddedHeader("X-A", "a\n\tb\n\tc??X-B: d?e?"), AddedHeader("X-E", "x? \n\ty?"))),
    ),
    ({"add_headers": {"X A": "b", "": "b", "X-\u00e9": "b", "a:": "b", "x" * 101: "b"}}, HeaderChanges()),
    ({"add_headers": {"X-A": 5, "X-B": {}, "X-C": {"value": 1}, "X-D": None}}, HeaderChanges()),
    ({"add_headers": {"X-A": {"value": "b", "order": 1e300}}}, HeaderChanges((AddedHeader("X-A", "b"),))),
    ({"remove_headers": {"X-A": "1", "X-B": True, "X-C": 1e9, "X-D": {}}}, HeaderChanges()),
    ({"add_headers": [], "remove_headers": "x"}, HeaderChanges()),
    ({"add_headers": {"X-A": ["b"] * 500}}, HeaderChanges((AddedHeader("X-A", "b"),) * 100)),
]


@pytest.mark.parametrize(("milter", "changes"), CHANGES)
async def test_changes_of_the_header_section_are_data_that_a_field_may_have(
    milter: Any, changes: HeaderChanges
) -> None:
    found = await asked("rspamd", rspamd(verdict(milter=milter)))
    assert isinstance(found, RspamdResult)
    assert found.headers == changes


@pytest.mark.slow
@given(st.text(st.characters(), max_size=40))
@example("a\r\n \r\n b\n\n\tc\r")
def test_any_value_is_one_that_a_message_takes(text: str) -> None:
    added = header_changes({"add_headers": {"X-A": text}}).add[0]
    field = Headers().append(added.name, added.value)
    assert field.raw.count(b"\n") == field.raw.count(b"\r\n\t") + 1


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY: Final = json.dumps(verdict()).encode()
FRAMED: Final = [
    rspamd(verdict()),
    rspamd(verdict(), more=b"Content-Length: %d\r\nX: y\r\n" % len(BODY)),
    b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    CHUNKED + b"".join(b"1;x=y\r\n%c\r\n" % octet for octet in BODY) + b"000\r\n\r\n",
    b"HTTP/1.1 200\r\ncontent-length:%d\r\n\r\n%b" % (len(BODY), BODY),
]


@pytest.mark.parametrize("answer", FRAMED)
async def test_rspamd_may_frame_its_answer_in_any_way_of_http(answer: bytes) -> None:
    assert await asked("rspamd", answer) == EMPTY


async def test_rspamd_gets_the_envelope() -> None:
    envelope = Envelope(
        sender="<alice@client.test>",
        recipients=("bob@example.test", "<carol@example.test>"),
        ip="192.0.2.7",
        hostname="client.test",
        helo="h\u00e9lo\r\nX: y\0\udcff",
        login="alice",
        queue_id="4abc",
        mta_name="mx.example.test",
    )
    requests: list[bytes] = []
    async with serving(answering("rspamd", CLEAN["rspamd"], requests)) as address:
        await Rspamd(address, settings_id="inbound").scan(MESSAGE, envelope=envelope)
        await Rspamd(address).scan(MESSAGE, envelope=Envelope(sender="", hostname="[192.0.2.7]"))
        many = tuple(f"{number:0>200}@example.test" for number in range(1000))
        await Rspamd(address).scan(MESSAGE, envelope=Envelope(sender="", recipients=many))
    assert requests[0].split(b"\r\n")[4:15] == [
        b"Settings-ID: inbound",
        b"IP: 192.0.2.7",
        b"Hostname: client.test",
        b"Helo: h\xc3\xa9lo??X: y?\xff",
        b"User: alice",
        b"Queue-Id: 4abc",
        b"MTA-Name: mx.example.test",
        b"From: <alice@client.test>",
        b"Rcpt: <bob@example.test>",
        b"Rcpt: <carol@example.test>",
        b"",
    ]
    assert requests[1].split(b"\r\n")[:6] == [
        b"POST /checkv2 HTTP/1.1",
        b"Host: localhost",
        b"Connection: close",
        b"Transfer-Encoding: chunked",
        b"From: <>",
        b"",
    ]
    assert 45_000 < len(requests[2]) < 50_000


@pytest.mark.parametrize("url", ["http://127.0.0.1:11333", "http://127.0.0.1:11333/", "inet:11333@127.0.0.1"])
def test_the_address_of_rspamd_may_be_a_url(url: str) -> None:
    assert Rspamd(url).address == "inet:11333@127.0.0.1"


# --------------------------------------------------------------------------------------------- what is no answer

DEEP: Final = b"[" * 40_000
NONE: Final[list[tuple[str, bytes, str]]] = [
    ("clamd", b"stream: OK", "closed the connection before"),
    ("clamd", b"stream: ok\0", "expected an answer of clamd"),
    ("clamd", b"\0", "expected an answer of clamd"),
    ("clamd", b"HTTP/1.1 400 Bad Request\r\n\r\n\0", "expected an answer of clamd"),
    ("clamd", b"stream: OKAY\0", "expected an answer of clamd"),
    ("clamd", b"UNKNOWN COMMAND\0", "expected an answer of clamd"),
    ("clamd", b"x" * 65_537, "answered more than 65,536 octets"),
    ("spamd", b"", "closed the connection before"),
    ("spamd", b"stream: OK\0\r\n\r\n", "expected an answer of spamd"),
    ("spamd", b"SPAMD/1.0 0 EX_OK\r\n\r\n", "expected one verdict"),
    ("spamd", b"SPAMD/1.0 76 Bad header line: x\r\n\r\n", "answered SPAMD/1.0 76 Bad header line: x"),
    ("spamd", spamd(b"Maybe ; 0.0 / 5.0", b""), "expected one verdict"),
    ("spamd", spamd(b"False ; nan / 5.0", b""), "expected one verdict"),
    ("spamd", spamd(b"False ; 0.0 / 5.0\r\nSpam: True ; 6.0 / 5.0", b""), "expected one verdict"),
    ("spamd", spamd(b"False ; 0.0 / 5.0", b"A", b"Content-length: 5\r\n"), "closed the connection before"),
    ("spamd", spamd(b"False ; 0.0 / 5.0", b"", b"Content-length: 999999999\r\n"), "answered more than"),
    ("rspamd", b"HTTP/1.1 200 OK\r\n", "closed the connection before"),
    ("rspamd", b"SPAMD/1.0 0 EX_OK\r\n\r\n", "expected an answer of HTTP"),
    ("rspamd", rspamd(b"x"), "expected an answer of JSON"),
    ("rspamd", rspamd(b"[]"), "expected an object"),
    ("rspamd", rspamd(DEEP), "expected an answer of JSON"),
    ("rspamd", rspamd(b'{"a":' * 40_000), "expected an answer of JSON"),
    ("rspamd", rspamd(b'{"score":' + b"1" * 5000 + b"}"), "expected an answer of JSON"),
    ("rspamd", rspamd(b'{"a":[' + b"[]," * 60_000 + b"[]]}"), "at most 50,000 values"),
    ("rspamd", rspamd(b'{"a":[' + b'"",' * 60_000 + b"1]}"), "at most 50,000 values"),
    ("rspamd", rspamd({"error": "x\r\ny"}), "expected action and score, found 'x?y'"),
    ("rspamd", rspamd({**verdict(), "score": True}), "expected action and score"),
    ("rspamd", rspamd({**verdict(), "action": ""}), "expected action and score"),
    ("rspamd", rspamd(b'{"action": "reject", "score": NaN, "required_score": 1}'), "expected action and score"),
    ("rspamd", rspamd(b'{"action": "reject", "score": 1e999, "required_score": 1}'), "expected action and score"),
    ("rspamd", rspamd({**verdict(), "score": 10**400}), "expected action and score"),
    ("rspamd", rspamd({**verdict(), "required_score": -(10**400)}), "expected action and score"),
    ("rspamd", rspamd({"error": "x"}, b"500 No"), 'answered 500 {"error": "x"}'),
    ("rspamd", rspamd(verdict(), b"502 Bad Gateway"), "answered 502"),
    ("rspamd", rspamd(verdict(), b"100 Continue"), "expected an answer of HTTP"),
    ("rspamd", rspamd(verdict(), more=b"Content-Length: 5\r\n"), "whose end is clear"),
    ("rspamd", rspamd(verdict(), more=b"Transfer-Encoding: chunked\r\n"), "whose end is clear"),
    ("rspamd", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "whose end is clear"),
    ("rspamd", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "expected a length"),
    ("rspamd", b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", "answered more than"),
    ("rspamd", CHUNKED + b"x\r\n", "expected the size of a chunk"),
    ("rspamd", CHUNKED + b"ffffffff\r\n", "answered more than"),
    ("rspamd", CHUNKED + b"1\r\nabc", "expected the end of a chunk"),
]


@pytest.mark.parametrize(("kind", "answer", "problem"), NONE)
async def test_what_is_no_answer_is_a_problem(kind: str, answer: bytes, problem: str) -> None:
    found = await asked(kind, answer)
    assert problem in found.problem
    assert found.problem.isascii()
    assert found.problem.isprintable()
    assert not found.too_large


@pytest.mark.parametrize(("kind", "answer"), [("rspamd", rspamd(b"", b"413 Content Too Large"))])
async def test_a_scanner_may_say_that_a_message_is_too_large(kind: str, answer: bytes) -> None:
    assert (await asked(kind, answer)).too_large


def parsed(kind: str, octets: bytes) -> Result | str:
    """Return what is made of octets and the end of the connection; the text of a problem."""

    async def parse(scanner: Scanner[Result]) -> Result | str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(octets)
            theirs.shutdown(socket.SHUT_WR)
            try:
                return await scanner._parse(Answer(ours))
            except Trouble as error:
                return str(error)

    return asyncio.run(parse(KINDS[kind]("inet:1@127.0.0.1")))


def altered(octets: bytes) -> st.SearchStrategy[bytes]:
    """Octets, some of them replaced, repeated or left out."""
    places = st.integers(0, len(octets))

    def alter(start: int, stop: int, more: bytes) -> bytes:
        return octets[:start] + more + octets[stop:]

    return st.builds(alter, places, places, st.binary(max_size=20) | st.sampled_from([b"\r\n", b"\0", b"}", b'"']))


ANY: Final[Callable[[str], st.SearchStrategy[bytes]]] = lambda kind: st.binary(max_size=300) | altered(CLEAN[kind])  # noqa: E731


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_octets_are_a_result_or_a_problem(kind: str) -> None:
    @given(ANY(kind))
    @example(CLEAN[kind])
    def test(octets: bytes) -> None:
        found = parsed(kind, octets)
        if isinstance(found, str):
            assert found.isascii()
            assert len(found) < 250
        else:
            assert found.problem == ""

    test()
