import json
from typing import Any

import pytest

from aiomilter import CONTINUE, TEMPFAIL, Reply
from aiomilter.testing import session
from tests.examples.test_examples import load
from tests.examples.test_messages import message, zipped
from tests.scan.server import answering, serving

GATEWAY = [
    (b"stream: Toy.Test FOUND\0", [], Reply(550, "5.7.1", "Malware found: Toy.Test"), b""),
    (b"INSTREAM size limit exceeded. ERROR\0", [], Reply(552, "5.3.4", "Message too large to be scanned"), b""),
    (b"stream: broken ERROR\0", [], TEMPFAIL, b""),
    (b"", [], TEMPFAIL, b""),
    (b"stream: OK\0", [], CONTINUE, b"X-Scanned: clean\r\nSubject: [EXT] hello\r\n"),
    (b"stream: OK\0", [("a.exe", b"x")], CONTINUE, b"a.exe was removed."),
    (
        b"stream: OK\0",
        [("a.zip", zipped("b.EXE"))],
        Reply(550, "5.7.1", "This attachment is not accepted here"),
        b"",
    ),
    (b"stream: OK\0", [("a.zip", b"broken")], Reply(550, "5.7.1", "This attachment is not accepted here"), b""),
]


@pytest.mark.parametrize(("found", "attachments", "answer", "contains"), GATEWAY)
async def test_the_gateway_does_as_clamd_says(
    found: bytes,
    attachments: list[tuple[str, bytes]],
    answer: object,
    contains: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answering("clamd", found)) as address:
        monkeypatch.setenv("CLAMD", address)
        async with session(load("malware_gateway").milter) as s:
            result = await s.send(message(*attachments), "alice@example.org", ["bob@example.net"])
    assert result.answer == answer
    assert contains in (result.octets if result.delivered else b"")


async def test_the_gateway_takes_no_message_whose_parts_are_not_all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (
        b"--b\r\n\r\nx\r\n" * 1_000 + b"--b\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx\r\n--b--\r\n"
    )
    async with serving(answering("clamd", b"stream: OK\0")) as address:
        monkeypatch.setenv("CLAMD", address)
        async with session(load("malware_gateway").milter) as s:
            octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts
            result = await s.send(octets, "alice@example.org", ["bob@example.net"])
    assert result.answer == Reply(550, "5.7.1", "This attachment is not accepted here")


async def test_the_gateway_lets_our_people_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    async with session(load("malware_gateway").milter, macros={"auth_authen": "alice"}) as s:
        result = await s.send(message(), "alice@example.org", ["bob@example.net"])
    assert result.octets == message()


def verdict(action: str, **more: Any) -> bytes:
    body = json.dumps({"action": action, "score": 1, "required_score": 15, **more}).encode()
    return b"HTTP/1.1 200 OK\r\n\r\n" + body


FIRST = b"X-Spam: no\r\nX-A: 1\r\nX-B: 1\r\nx-a: 2\r\nX-B: 2\r\n"
HEADERS = {
    "add_headers": {"X-Top": {"value": "t", "order": 0}, "X-End": ["e", {"value": "f", "order": 999}]},
    "remove_headers": {"X-A": 0, "X-B": 2},
}
FROM_THE_END = {"remove_headers": {"X-A": -2, "X-B": -1, "Subject": -2}}
RSPAMD = [
    (verdict("reject"), Reply(550, "5.7.1", "Spam message rejected"), b""),
    (verdict("reject", messages={"smtp_message": "Go away"}), Reply(550, "5.7.1", "Go away"), b""),
    (verdict("greylist"), Reply(451, "4.7.1", "Try again later"), b""),
    (verdict("no action"), CONTINUE, FIRST.partition(b"\r\n")[2] + b"Subject: hello\r\n\r\n"),
    (b"", CONTINUE, b"X-Spam: unknown\r\n" + FIRST.partition(b"\r\n")[2] + b"Subject: hello\r\n\r\n"),
    (
        verdict("add header", milter=HEADERS),
        CONTINUE,
        b"X-Spam: yes\r\nX-Top: t\r\nX-B: 1\r\nSubject: hello\r\nX-End: e\r\nX-End: f\r\n\r\n",
    ),
    (
        verdict("no action", milter=FROM_THE_END),
        CONTINUE,
        b"X-B: 1\r\nx-a: 2\r\nSubject: hello\r\n\r\n",
    ),
    (
        verdict("rewrite subject", subject="[SPAM] hello"),
        CONTINUE,
        b"X-Spam: yes\r\n" + FIRST.partition(b"\r\n")[2] + b"Subject: [SPAM] hello\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("found", "answer", "head"), RSPAMD)
async def test_the_filter_does_as_rspamd_says(
    found: bytes, answer: object, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[bytes] = []
    async with serving(answering("rspamd", found, requests)) as address:
        monkeypatch.setenv("RSPAMD", address)
        async with session(load("rspamd_milter").milter, client="192.0.2.7") as s:
            octets = FIRST + b"Subject: hello\r\n\r\nHello\r\n"
            result = await s.send(octets, "alice@example.org", ["bob@example.net"])
    assert result.answer == answer
    assert head == b"" or result.octets == head + b"Hello\r\n"
    assert b"\r\nIP: 192.0.2.7\r\n" in requests[0]
    assert b"\r\nFrom: <alice@example.org>\r\nRcpt: <bob@example.net>\r\n" in requests[0]
