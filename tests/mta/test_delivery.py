"""What Postfix and Sendmail deliver after each modification, as tables.

In words they are in aiomilter/help/protocol.rst, "Modifications".
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.mta import Style, cut, deliver
from aiomilter.wire.events import Mail, Rcpt
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)

SENDER = Mail("<alice@example.org>", ("SIZE=9", "RET=FULL", "BODY=8BITMIME"))
BOB, CAROL = Rcpt("<bob@example.org>", ("NOTIFY=NEVER",)), Rcpt("<carol@example.org>")

H = "A: 1|B: 2|A: 3"
"""Header section of the table, fields parted by bars."""

HEADERS: list[tuple[str, list[Modification], str, str]] = [
    # Header section, modifications, what Postfix makes of it, what Sendmail makes of it.
    (H, [AddHeader("X", "v")], "A: 1|B: 2|A: 3|X: v", "A: 1|B: 2|A: 3|X: v"),
    (H, [AddHeader("a", "v")], "A: 1|B: 2|A: 3|a: v", "a: v|A: 1|B: 2|A: 3"),
    (H, [AddHeader("X", "1"), AddHeader("X", "2")], H + "|X: 1|X: 2", H + "|X: 2|X: 1"),
    (H, [AddHeader("X", "")], H + "|X: ", H + "|X: "),
    (H, [AddHeader("X", "one\n\ttwo")], H + "|X: one|\ttwo", H + "|X: one|\ttwo"),
    (H, [InsertHeader(0, "X", "v")], "X: v|" + H, "X: v|" + H),
    (H, [InsertHeader(1, "X", "v")], "X: v|" + H, "X: v|" + H),
    (H, [InsertHeader(2, "X", "v")], "A: 1|X: v|B: 2|A: 3", "X: v|" + H),
    (H, [InsertHeader(8, "X", "v")], H + "|X: v", "X: v|" + H),
    (H, [InsertHeader(9, "X", "v")], H + "|X: v", "A: 1|X: v|B: 2|A: 3"),
    (H, [InsertHeader(10, "X", "v")], H + "|X: v", "A: 1|B: 2|X: v|A: 3"),
    (H, [InsertHeader(999, "X", "v")], H + "|X: v", H + "|X: v"),
    (H, [InsertHeader(0, "X", "1"), InsertHeader(0, "X", "2")], "X: 2|X: 1|" + H, "X: 2|X: 1|" + H),
    (H, [InsertHeader(0, "X", "")], "X: |" + H, "X: |" + H),
    (H, [ChangeHeader(1, "A", "v")], "A: v|B: 2|A: 3", "A: v|B: 2|A: 3"),
    (H, [ChangeHeader(0, "A", "v")], "A: v|B: 2|A: 3", "A: v|B: 2|A: 3"),
    (H, [ChangeHeader(2, "A", "v")], "A: 1|B: 2|A: v", "A: 1|B: 2|A: v"),
    (H, [ChangeHeader(1, "a", "v")], "a: v|B: 2|A: 3", "A: v|B: 2|A: 3"),
    (H, [ChangeHeader(3, "A", "v")], H + "|A: v", "A: v|" + H),
    (H, [ChangeHeader(1, "X", "v")], H + "|X: v", H + "|X: v"),
    (H, [ChangeHeader(1, "A", "")], "B: 2|A: 3", "B: 2|A: 3"),
    (H, [ChangeHeader(3, "A", "")], H, H),
    (H, [ChangeHeader(1, "X", "")], H, H),
    # A deleted field no longer counts in Postfix; in Sendmail it does, and a change revives it.
    (H, [ChangeHeader(1, "A", ""), ChangeHeader(1, "A", "")], "B: 2", "B: 2|A: 3"),
    (H, [ChangeHeader(1, "A", ""), ChangeHeader(1, "A", "v")], "B: 2|A: v", "A: v|B: 2|A: 3"),
    (H, [ChangeHeader(2, "A", ""), ChangeHeader(1, "A", "")], "B: 2", "B: 2"),
    # The MTA's own Received is no occurrence of the name, but Sendmail places a new one above it.
    (H, [ChangeHeader(1, "Received", "v")], H + "|Received: v", "Received: v|" + H),
    (H, [ChangeHeader(1, "RECEIVED", "v")], H + "|RECEIVED: v", "RECEIVED: v|" + H),
    ("Received: c|" + H, [ChangeHeader(1, "Received", "v")], "Received: v|" + H, "Received: v|" + H),
    (H, [AddHeader("Received", "v")], H + "|Received: v", "Received: v|" + H),
    # A field that Sendmail would generate has its place before the client's, and its own spelling.
    (H, [AddHeader("date", "v")], H + "|date: v", "Date: v|" + H),
    (H, [ChangeHeader(1, "Message-ID", "v")], H + "|Message-ID: v", "Message-Id: v|" + H),
    ("Date: c|A: 1", [ChangeHeader(1, "Date", "v")], "Date: v|A: 1", "Date: v|A: 1"),
    # Once something stands above it, Postfix's own Received is a field like others, and the first is the one not counted.
    (H, [InsertHeader(0, "X", "1"), ChangeHeader(1, "X", "v")], f"X: 1|{H}|X: v", f"X: v|{H}"),
    # Later modifications see the earlier ones.
    (H, [AddHeader("X", "1"), ChangeHeader(1, "X", "2")], H + "|X: 2", H + "|X: 2"),
    (H, [AddHeader("X", "1"), ChangeHeader(1, "X", "")], H, H),
    ("", [AddHeader("X", "v")], "X: v", "X: v"),
]


def section(text: str) -> bytes:
    return b"".join(line.encode() + b"\r\n" for line in text.split("|") if text)


@pytest.mark.parametrize(("fields", "changes", "postfix", "sendmail"), HEADERS)
@pytest.mark.parametrize("style", ["postfix", "sendmail"])
def test_header_modifications(
    style: Style, fields: str, changes: list[Modification], postfix: str, sendmail: str
) -> None:
    expected = section(postfix if style == "postfix" else sendmail)
    content = cut(section(fields) + b"\r\nbody\r\n")

    assert deliver(style, SENDER, [BOB], content, changes).octets == expected + b"\r\nbody\r\n"


@pytest.mark.parametrize("style", ["postfix", "sendmail"])
@pytest.mark.parametrize("change", [AddHeader("X", " v"), InsertHeader(99, "X", " v"), ChangeHeader(1, "X", " v")])
def test_a_value_brings_its_own_space_once_that_was_agreed(style: Style, change: Modification) -> None:
    content = cut(b"A:1\r\n\r\n")

    assert deliver(style, SENDER, [BOB], content, [change], leading_space=True).octets == b"A:1\r\nX: v\r\n\r\n"
    assert deliver(style, SENDER, [BOB], content, [change]).octets == b"A:1\r\nX:  v\r\n\r\n"


BODIES: list[tuple[list[bytes], bytes, bytes]] = [
    ([], b"old\r\n", b"old\r\n"),
    ([b""], b"", b""),
    ([b"new\r\n"], b"new\r\n", b"new\r\n"),
    ([b"new"], b"new\r\n", b"new"),
    ([b"a\r", b"\nb\r\n"], b"a\r\nb\r\n", b"a\r\nb\r\n"),
    ([b"a\nb\n"], b"a\r\nb\r\n", b"a\r\nb\r\n"),
    ([b"a\rb\r\n"], b"a\rb\r\n", b"a\rb\r\n"),
    ([b".dot\r\n"], b".dot\r\n", b".dot\r\n"),
]


@pytest.mark.parametrize(("pieces", "postfix", "sendmail"), BODIES)
def test_body_replacement(pieces: list[bytes], postfix: bytes, sendmail: bytes) -> None:
    content = cut(b"A: 1\r\n\r\nold\r\n")
    changes = [ReplaceBody(piece) for piece in pieces]

    assert deliver("postfix", SENDER, [BOB], content, changes).octets == b"A: 1\r\n\r\n" + postfix
    assert deliver("sendmail", SENDER, [BOB], content, changes).octets == b"A: 1\r\n\r\n" + sendmail


SENDERS: list[tuple[ChangeSender, Mail, Mail]] = [
    (ChangeSender("new@x"), Mail("<new@x>", SENDER.params), Mail("<new@x>", SENDER.params)),
    (ChangeSender("<new@x>"), Mail("<new@x>", SENDER.params), Mail("<new@x>", SENDER.params)),
    (ChangeSender("<>"), Mail("<>", SENDER.params), Mail("<>", SENDER.params)),
    (ChangeSender("<n@x>", ""), Mail("<n@x>", SENDER.params), Mail("<n@x>", SENDER.params)),
    (
        ChangeSender("<n@x>", "RET=HDRS ENVID=7 FOO=1"),
        Mail("<n@x>", ("SIZE=9", "BODY=8BITMIME", "RET=HDRS", "ENVID=7")),
        Mail("<n@x>", ("RET=HDRS", "ENVID=7", "FOO=1")),
    ),
]


@pytest.mark.parametrize(("change", "postfix", "sendmail"), SENDERS)
def test_sender_modification(change: ChangeSender, postfix: Mail, sendmail: Mail) -> None:
    assert deliver("postfix", SENDER, [BOB], cut(b""), [change]).sender == postfix
    assert deliver("sendmail", SENDER, [BOB], cut(b""), [change]).sender == sendmail


DAVE = Rcpt("<dave@x>")
RECIPIENTS: list[tuple[list[Modification], list[Rcpt], list[Rcpt]]] = [
    ([AddRecipient("dave@x")], [BOB, CAROL, DAVE], [BOB, CAROL, DAVE]),
    ([AddRecipient("<dave@x>")], [BOB, CAROL, DAVE], [BOB, CAROL, DAVE]),
    ([AddRecipient("<dave@x>, <e@x>")], [BOB, CAROL, DAVE], [BOB, CAROL, DAVE, Rcpt("<e@x>")]),
    ([AddRecipient('<"a,b"@x>')], [BOB, CAROL, Rcpt('<"a,b"@x>')], [BOB, CAROL, Rcpt('<"a,b"@x>')]),
    ([AddRecipient('"a\\", <b@x>')], [BOB, CAROL, Rcpt('<"a\\", <b@x>>')], [BOB, CAROL, Rcpt('<"a\\", <b@x>>')]),
    ([AddRecipient("<>")], [BOB, CAROL], [BOB, CAROL]),
    (
        [AddRecipient("<dave@x>", "NOTIFY=NEVER FOO=1")],
        [BOB, CAROL, Rcpt("<dave@x>", ("NOTIFY=NEVER",))],
        [BOB, CAROL, Rcpt("<dave@x>", ("NOTIFY=NEVER", "FOO=1"))],
    ),
    ([AddRecipient("<dave@x>", "")], [BOB, CAROL, DAVE], [BOB, CAROL, DAVE]),
    ([DeleteRecipient("<bob@example.org>")], [CAROL], [CAROL]),
    ([DeleteRecipient("bob@example.org")], [CAROL], [CAROL]),
    ([DeleteRecipient("BOB@example.org")], [BOB, CAROL], [BOB, CAROL]),
    ([DeleteRecipient("nobody@x")], [BOB, CAROL], [BOB, CAROL]),
    ([AddRecipient("dave@x"), DeleteRecipient("dave@x")], [BOB, CAROL], [BOB, CAROL]),
    ([DeleteRecipient("bob@example.org"), DeleteRecipient("carol@example.org")], [], []),
]


@pytest.mark.parametrize(("changes", "postfix", "sendmail"), RECIPIENTS)
def test_recipient_modifications(changes: list[Modification], postfix: list[Rcpt], sendmail: list[Rcpt]) -> None:
    assert list(deliver("postfix", SENDER, [BOB, CAROL], cut(b""), changes).recipients) == postfix
    assert list(deliver("sendmail", SENDER, [BOB, CAROL], cut(b""), changes).recipients) == sendmail


def test_postfix_adds_a_recipient_that_is_there_already_once_more() -> None:
    delivered = deliver("postfix", SENDER, [CAROL], cut(b""), [AddRecipient("<carol@example.org>")])

    assert delivered.recipients == (CAROL, CAROL)


def test_a_list_too_long_to_be_one_is_taken_for_an_address() -> None:
    delivered = deliver("sendmail", SENDER, [], cut(b""), [AddRecipient("<a@x>, " * 1000)])

    assert len(delivered.recipients) == 1


def test_the_reason_of_a_quarantine_is_kept() -> None:
    assert deliver("postfix", SENDER, [BOB], cut(b""), [Quarantine("why")]).quarantine == "why"
    assert deliver("postfix", SENDER, [BOB], cut(b"")).quarantine is None


@pytest.mark.parametrize("style", ["postfix", "sendmail"])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"A:1\r\nB:\t2\r\n\r\nx\r\n", b"A:1\r\nB:\t2\r\n\r\nx\r\n"),
        (b"A: 1\n\nx", b"A: 1\r\n\r\nx\r\n"),
        (b"A: 1\r\n\r\n", b"A: 1\r\n\r\n"),
        (b"A: 1\r\nno colon\r\n", b"A: 1\r\n\r\nno colon\r\n"),
        (b"only body\r\n", b"\r\nonly body\r\n"),
    ],
)
def test_what_nobody_modifies_is_delivered_as_it_came(style: Style, octets: bytes, expected: bytes) -> None:
    delivered = deliver(style, SENDER, [BOB], cut(octets, style))

    assert (delivered.octets, delivered.sender, delivered.recipients) == (expected, SENDER, (BOB,))


@pytest.mark.parametrize(("style", "line"), [("postfix", b""), ("sendmail", b"\r\n")])
@pytest.mark.parametrize("octets", [b"A: 1\r\n", b""])
def test_sendmail_ends_every_header_section_with_an_empty_line(style: Style, line: bytes, octets: bytes) -> None:
    assert deliver(style, SENDER, [BOB], cut(octets, style)).octets == octets + line


@pytest.mark.parametrize("name", ["bcc", "Content-Length", "Full-Name", "RESENT-BCC", "Return-Path"])
@pytest.mark.parametrize("kind", [AddHeader, InsertHeader, ChangeHeader])
def test_sendmail_leaves_some_fields_out_even_those_of_a_filter(name: str, kind: type[Modification]) -> None:
    """Seen on 8.17.1.9, whose SMTP mailers lack the flags for them; Postfix 3.7.11 hands on what a filter adds."""
    change = AddHeader(name, "v") if kind is AddHeader else kind(1, name, "v")  # type: ignore[call-arg, arg-type]
    content = cut(b"To: 1\r\n\r\n")

    assert deliver("sendmail", SENDER, [BOB], content, [change]).octets == b"To: 1\r\n\r\n"
    assert f"{name}: v\r\n".encode() in deliver("postfix", SENDER, [BOB], content, [change]).octets


BLIND: list[tuple[bytes, list[Modification], bytes]] = [
    # Header section, modifications, header section as Sendmail delivers it.
    (b"bCC: a@x\r\nA: 1\r\n", [], b"bCC:\r\nA: 1\r\n"),
    (b"Bcc: a@x,\r\n b@x\r\nResent-Bcc: c@x\r\n", [], b"Bcc:\r\nResent-Bcc:\r\n"),
    (b"Bcc: a@x\r\nTo:\r\n", [], b"To:\r\n"),
    (b"Bcc: a@x\r\ncc: b@x\r\n", [], b"cc: b@x\r\n"),
    (b"Bcc: a@x\r\nApparently-To: b@x\r\n", [], b"Apparently-To: b@x\r\n"),
    (b"Bcc: a@x\r\nResent-To: b@x\r\n", [], b"Bcc:\r\nResent-To: b@x\r\n"),
    (b"A: 1\r\n", [AddHeader("Bcc", "a@x")], b"A: 1\r\nBcc:\r\n"),
    (b"Bcc: a@x\r\n", [AddHeader("To", "b@x")], b"Bcc:\r\nTo: b@x\r\n"),
    (b"Bcc: a@x\r\nTo: b@x\r\n", [ChangeHeader(1, "To", "")], b""),
    (b"Bcc: a@x\r\n", [ChangeHeader(1, "Bcc", "b@x")], b"Bcc:\r\n"),
    (b"Bcc: a@x\r\n", [ChangeHeader(1, "Bcc", "")], b""),
]


@pytest.mark.parametrize(("section", "changes", "expected"), BLIND)
def test_sendmail_hands_on_no_blind_recipient(section: bytes, changes: list[Modification], expected: bytes) -> None:
    """Seen on 8.17.1.9: the field goes if the client named recipients elsewhere, else it is emptied."""
    content = cut(section + b"\r\n", "sendmail")

    assert deliver("sendmail", SENDER, [BOB], content, changes).octets == expected + b"\r\n"


NAMES = st.sampled_from(["A", "b", "Received", "Date", "Return-Path", "X-New"])
TEXT = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=9)
MODIFICATIONS: st.SearchStrategy[Modification] = st.one_of(
    st.builds(AddHeader, NAMES, TEXT),
    st.builds(InsertHeader, st.integers(0, 2**31 - 1) | st.integers(0, 12), NAMES, TEXT),
    st.builds(ChangeHeader, st.integers(0, 2**31 - 1) | st.integers(0, 4), NAMES, TEXT),
    st.builds(ReplaceBody, st.binary(max_size=9)),
    st.builds(AddRecipient, TEXT.filter(bool), st.none() | TEXT),
    st.builds(DeleteRecipient, TEXT.filter(bool)),
    st.builds(ChangeSender, TEXT.filter(bool), st.none() | TEXT),
    st.builds(Quarantine, TEXT.filter(bool)),
)


@settings(deadline=None)
@given(st.sampled_from(["postfix", "sendmail"]), st.binary(max_size=60), st.lists(MODIFICATIONS, max_size=12))
def test_any_modifications_of_any_message_deliver_something(
    style: Style, octets: bytes, changes: list[Modification]
) -> None:
    delivered = deliver(style, SENDER, [BOB, CAROL], cut(octets), changes)

    assert b"\n" not in delivered.octets.replace(b"\r\n", b"")
