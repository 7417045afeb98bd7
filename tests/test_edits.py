"""Edits as plain data: what is refused when it is asked for, and in what order it is sent."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter import Action, LocalProtocolError, NotNegotiatedError, Rcpt
from aiomilter.edits import Edits, body_packets
from aiomilter.wire.constants import ALL_ACTIONS

from .peer import frames


def edits(actions: int = ALL_ACTIONS, *, leading_space: bool = False, count: int = 100, size: int = 100_000) -> Edits:
    return Edits(actions, leading_space, count, size, 1 << 20)


def sent(queue: Edits) -> list[tuple[str, bytes]]:
    return frames(b"".join(queue.packets()))


async def source() -> AsyncIterator[bytes]:
    yield b"x"


Ask = Callable[[Edits], None]

NEEDS: Final[list[tuple[Action, Ask]]] = [
    (Action.ADD_HEADERS, lambda e: e.add_header("X", "1")),
    (Action.ADD_HEADERS, lambda e: e.insert_header("X", "1")),
    (Action.CHANGE_HEADERS, lambda e: e.change_header("X", 1, "1")),
    (Action.CHANGE_HEADERS, lambda e: e.change_header("X", 1, "")),
    (Action.REPLACE_BODY, lambda e: e.replace_body(b"x")),
    (Action.CHANGE_SENDER, lambda e: e.change_sender("a@x", ())),
    (Action.ADD_RECIPIENTS, lambda e: e.add_recipient("a@x", ())),
    (Action.ADD_RECIPIENTS_WITH_PARAMS, lambda e: e.add_recipient("a@x", ("NOTIFY=NEVER",))),
    (Action.DELETE_RECIPIENTS, lambda e: e.delete_recipient("a@x")),
    (Action.QUARANTINE, lambda e: e.quarantine("why")),
]


@pytest.mark.parametrize(("action", "ask"), NEEDS)
def test_an_edit_needs_its_action(action: Action, ask: Ask) -> None:
    """P-111."""
    queue = edits(ALL_ACTIONS & ~action)
    with pytest.raises(NotNegotiatedError, match=str(action.name)):
        ask(queue)
    assert queue.count == 0

    queue = edits(action)
    ask(queue)
    assert queue.count == 1


def test_all_edits_leave_in_an_order_both_mtas_agree_on() -> None:
    """P-117: changes from the highest occurrence down, then insertions, additions, envelope, quarantine."""
    queue = edits()
    queue.quarantine("held")
    queue.add_recipient("new@x", ())
    queue.delete_recipient("<old@x>")
    queue.change_sender("me@x", ())
    queue.add_header("X-End", "1")
    queue.change_header("A", 1, "one")
    queue.insert_header("X-Top", "1")
    queue.change_header("a", 3, "three")
    queue.change_header("B", 1, "")
    queue.change_header("A", 2, "")
    queue.insert_header("X-Second", "2", 1)
    queue.add_header("X-End", "2")

    assert [code for code, _ in sent(queue)] == list("mmmmiihhe+-q")
    assert [payload for code, payload in sent(queue) if code == "m" and payload[4:6].lower() == b"a\0"] == [
        b"\0\0\0\3a\0three\0",
        b"\0\0\0\2A\0\0",
        b"\0\0\0\1A\0one\0",
    ]
    assert [payload for code, payload in sent(queue) if code in "ih"] == [
        b"\0\0\0\0X-Top\x001\0",
        b"\0\0\0\1X-Second\x002\0",
        b"X-End\x001\0",
        b"X-End\x002\0",
    ]
    assert queue.count == 12


def test_a_second_change_replaces_the_first() -> None:
    queue = edits()
    for value in ("one", "two", ""):
        queue.change_header("Subject", 1, value)
        queue.change_header("SUBJECT", 2, value)
    queue.change_sender("one@x", ())
    queue.change_sender("two@x", ("RET=HDRS",))
    queue.quarantine("one")
    queue.quarantine("two")

    assert sent(queue) == [
        ("m", b"\0\0\0\2SUBJECT\0\0"),
        ("m", b"\0\0\0\1Subject\0\0"),
        ("e", b"<two@x>\0RET=HDRS\0"),
        ("q", b"two\0"),
    ]


def test_values_bring_the_leading_space_where_it_was_agreed_on() -> None:
    """P-114, P-116: an empty value that deletes stays empty, one that is added is a space."""
    queue = edits(leading_space=True)
    queue.add_header("A", "one")
    queue.insert_header("B", " two")
    queue.change_header("C", 1, "three")
    queue.change_header("D", 1, "")
    queue.add_header("E", "")

    assert sent(queue) == [
        ("m", b"\0\0\0\1D\0\0"),
        ("m", b"\0\0\0\1C\0 three\0"),
        ("i", b"\0\0\0\0B\0  two\0"),
        ("h", b"A\0 one\0"),
        ("h", b"E\0 \0"),
    ]


def test_adding_an_empty_value_adds_an_empty_field() -> None:
    """P-116."""
    queue = edits()
    queue.add_header("A", "")
    queue.insert_header("B", "", 3)
    assert sent(queue) == [("i", b"\0\0\0\3B\0\0"), ("h", b"A\0\0")]


VALUES: Final = [
    ("plain", b"plain"),
    ("a\r\n b", b"a\n b"),
    ("a\n\tb", b"a\n\tb"),
    ("a\rb", b"a b"),
    ("gr\u00fc\u00df", "gr\u00fc\u00df".encode()),
    ("\udcff", b"\xff"),
]


@pytest.mark.parametrize(("value", "octets"), VALUES)
def test_values_that_are_mended(value: str, octets: bytes) -> None:
    """P-113."""
    queue = edits()
    queue.add_header("A", value)
    assert sent(queue) == [("h", b"A\0" + octets + b"\0")]


REFUSED: Final[list[Any]] = [
    *(
        pytest.param(ask, id=f"header {name!r}: {what}")
        for name in ("", "A:", "A B", "A\n", "\u00e4", "A\0", None, 5)
        for what, ask in (
            ("add", lambda e, n=name: e.add_header(n, "x")),
            ("insert", lambda e, n=name: e.insert_header(n, "x")),
            ("change", lambda e, n=name: e.change_header(n, 1, "x")),
        )
    ),
    *(
        pytest.param(ask, id=f"value {value!r}: {what}")
        for value in ("a\0", "a\nb", "a\r\nb", "\n", "a\n", "\ud800", None, b"x", 5)
        for what, ask in (
            ("add", lambda e, v=value: e.add_header("A", v)),
            ("insert", lambda e, v=value: e.insert_header("A", v)),
            ("change", lambda e, v=value: e.change_header("A", 1, v)),
        )
    ),
    *(
        pytest.param(lambda e, i=index: e.insert_header("A", "x", i), id=f"index {index!r}")
        for index in (-1, 2**31, "0", True, 1.0)
    ),
    pytest.param(lambda e: e.insert_header(0, "A", "x"), id="the index first"),
    *(
        pytest.param(lambda e, i=index: e.change_header("A", i, "x"), id=f"occurrence {index!r}")
        for index in (0, -1, 2**31, "1", True, None)
    ),
    *(
        pytest.param(ask, id=f"address {address!r}: {what}")
        for address in (
            "a@x\0",
            "a\nb@x",
            "a@x, b@x",
            "a b@x",
            "<a@x",
            "a@x>",
            "<a@x> NOTIFY=NEVER",
            "a@x;b@x",
            None,
            5,
            "\ud800@x",
        )
        for what, ask in (
            ("sender", lambda e, a=address: e.change_sender(a, ())),
            ("recipient", lambda e, a=address: e.add_recipient(a, ())),
        )
    ),
    *(pytest.param(lambda e, a=address: e.add_recipient(a, ()), id=f"add {address!r}") for address in ("", "<>")),
    *(
        pytest.param(lambda e, a=address: e.delete_recipient(a), id=f"delete {address!r}")
        for address in ("", "<>", "a\n", "a\0", None)
    ),
    *(
        pytest.param(ask, id=f"parameter {param!r}: {what}")
        for param in ("", "A B", "A\0", "A\n", "A\t", None, 5)
        for what, ask in (
            ("sender", lambda e, p=param: e.change_sender("a@x", (p,))),
            ("recipient", lambda e, p=param: e.add_recipient("a@x", (p,))),
        )
    ),
    *(
        pytest.param(lambda e, r=reason: e.quarantine(r), id=f"quarantine {reason!r}")
        for reason in ("", "a\n", "a\0", None, 5)
    ),
    *(
        pytest.param(lambda e, b=body: e.replace_body(b), id=f"body {what}")
        for what, body in (
            *((repr(body), body) for body in ("text", None, 5, [b"x"])),
            ("an iterator", iter([b"x"])),
        )
    ),
    pytest.param(lambda e: e.add_header("A", "x" * 65535), id="larger than a packet"),
    pytest.param(lambda e: e.quarantine("x" * 65536), id="a reason larger than a packet"),
    pytest.param(lambda e: e.add_recipient("x" * 65535 + "@x", ()), id="an address larger than a packet"),
]


@pytest.mark.parametrize("ask", REFUSED)
def test_what_no_mta_may_get_is_refused_when_it_is_asked_for(ask: Ask) -> None:
    """P-006, P-112, P-113, P-115, P-119, P-122, P-123."""
    queue = edits()
    with pytest.raises(LocalProtocolError) as found:
        ask(queue)
    assert "\n" not in str(found.value)
    assert queue.count == 0
    assert queue.packets() == []


ADDRESSES: Final = [
    ("a@x", b"<a@x>"),
    ("<a@x>", b"<a@x>"),
    ('"a b"@x', b'<"a b"@x>'),
    ('<"a,\\"b>"@x>', b'<"a,\\"b>"@x>'),
    ("gr\u00fc\u00df@x", "<gr\u00fc\u00df@x>".encode()),
    ("a@[192.0.2.1]", b"<a@[192.0.2.1]>"),
]


@pytest.mark.parametrize(("address", "octets"), ADDRESSES)
def test_addresses_leave_in_brackets(address: str, octets: bytes) -> None:
    queue = edits()
    queue.change_sender(address, ())
    queue.add_recipient(address, ())
    queue.delete_recipient(address)
    assert [payload for _, payload in sent(queue)] == [octets + b"\0"] * 3


@pytest.mark.parametrize("address", ["", "<>"])
def test_the_null_sender_is_sent_as_brackets(address: str) -> None:
    """P-119."""
    queue = edits()
    queue.change_sender(address, ())
    assert sent(queue) == [("e", b"<>\0")]


def test_parameters_are_one_string() -> None:
    """P-118."""
    queue = edits()
    queue.change_sender("a@x", ("RET=HDRS", "ENVID=1"))
    queue.add_recipient("b@x", ("NOTIFY=NEVER", "ORCPT=rfc822;b@x"))
    assert sent(queue) == [("e", b"<a@x>\0RET=HDRS ENVID=1\0"), ("2", b"<b@x>\0NOTIFY=NEVER ORCPT=rfc822;b@x\0")]


def test_a_recipient_is_deleted_as_it_was_named() -> None:
    queue = edits()
    queue.delete_recipient("<@relay,@other:bob@x>")
    assert sent(queue) == [("-", b"<@relay,@other:bob@x>\0")]


RECIPIENTS: Final = [
    Rcpt("<Bob@Example.ORG>"),
    Rcpt("<carol@example.org>"),
    Rcpt("<carol@EXAMPLE.org>"),
    Rcpt("<Dave@x.example>"),
    Rcpt("<dave@x.example>"),
    Rcpt("<@relay:erin@x.example>"),
    Rcpt("<frank@x.example> NOTIFY=NEVER"),
    Rcpt("grace"),
]


@pytest.mark.parametrize(
    ("address", "paths", "missed"),
    [
        ("Bob@example.org", ["<Bob@Example.ORG>"], 0),
        ("<Bob@EXAMPLE.org>", ["<Bob@Example.ORG>"], 0),
        ("bob@example.org", ["<Bob@Example.ORG>"], 0),  # {rcpt_addr} of Postfix
        ("carol@Example.Org", ["<carol@example.org>", "<carol@EXAMPLE.org>"], 0),
        ("Dave@X.example", ["<Dave@x.example>"], 0),
        ("dave@X.example", ["<dave@x.example>"], 0),
        ("DAVE@x.example", ["<Dave@x.example>", "<dave@x.example>"], 0),
        ("erin@x.example", ["<@relay:erin@x.example>"], 0),
        ("frank@x.example", ["<frank@x.example>"], 0),
        ("grace", ["<grace>"], 0),
        ("heidi@x.example", ["<heidi@x.example>"], 1),
        ("Bob@example.org.evil", ["<Bob@example.org.evil>"], 1),
    ],
)
def test_a_recipient_is_deleted_as_the_mta_knows_it(address: str, paths: list[str], missed: int) -> None:
    queue = edits()
    queue.delete_recipient(address, RECIPIENTS)
    assert sent(queue) == [("-", path.encode() + b"\0") for path in paths]
    assert queue.missed == missed


def test_a_recipient_that_was_added_may_be_deleted() -> None:
    queue = edits()
    queue.add_recipient("new@X.example", ())
    queue.delete_recipient("new@x.example", RECIPIENTS)
    assert sent(queue) == [("+", b"<new@X.example>\0"), ("-", b"<new@X.example>\0")]
    assert queue.missed == 0


@pytest.mark.parametrize(
    "body", [b"new", bytearray(b"new"), memoryview(b"new")], ids=["bytes", "bytearray", "memoryview"]
)
def test_a_body_is_octets(body: Any) -> None:
    queue = edits()
    queue.replace_body(body)
    assert queue.body == b"new"
    assert queue.count == 1


def test_a_body_that_is_changed_afterwards_is_not_changed() -> None:
    queue, body = edits(), bytearray(b"new")
    queue.replace_body(body)
    body[:] = b"old"
    assert queue.body == b"new"


async def test_where_bodies_come_from_is_kept_until_read() -> None:
    queue = edits()
    first, second = source(), source()
    queue.replace_body(first)
    queue.replace_body(second)
    queue.replace_body(b"x")
    assert queue.sources == [first, second]


@pytest.mark.parametrize(
    ("size", "pieces"), [(0, [0]), (1, [1]), (65535, [65535]), (65536, [65535, 1]), (131070, [65535, 65535])]
)
def test_a_body_leaves_in_pieces(size: int, pieces: list[int]) -> None:
    """P-120, P-121."""
    body = bytes(number % 251 for number in range(size))
    found = frames(b"".join(body_packets(body)))
    assert [(code, len(payload)) for code, payload in found] == [("b", piece) for piece in pieces]
    assert b"".join(payload for _, payload in found) == body


# Limits


def test_more_edits_than_allowed_are_noted_and_dropped() -> None:
    queue = edits(count=3)
    for number in range(3):
        queue.add_header("A", str(number))
    before = queue.overflow
    queue.add_header("A", "3")
    assert (before, queue.overflow) == ("", "max_edits")
    assert queue.count == 3


def test_more_octets_than_allowed_are_noted_and_dropped() -> None:
    queue = edits(size=50)
    queue.add_header("A", "x" * 30)
    before = queue.overflow
    queue.add_header("A", "x" * 30)
    assert (before, queue.overflow) == ("", "max_edits_size")
    assert queue.count == 1


def test_a_replaced_edit_no_longer_counts() -> None:
    queue = edits(count=3, size=200)
    for _ in range(100):
        queue.change_header("A", 1, "x" * 30)
        queue.change_sender("a@x", ())
        queue.quarantine("why")
    assert not queue.overflow
    assert queue.count == 3


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 5), st.sampled_from(["", "x"])), max_size=20))
def test_changes_work_from_the_highest_occurrence_down_and_touch_each_once(changes: list[tuple[str, int, str]]) -> None:
    """P-117."""
    queue = edits()
    for name, occurrence, value in changes:
        queue.change_header(name, occurrence, value)
    found = [
        (payload[4:5].decode(), int.from_bytes(payload[:4], "big"), payload[6:-1].decode())
        for _, payload in sent(queue)
    ]

    for name in "ABC":
        of_name = [occurrence for each, occurrence, _ in found if each == name]
        assert of_name == sorted(set(of_name), reverse=True)
    assert {(name, occurrence): value for name, occurrence, value in found} == {
        (name, occurrence): value for name, occurrence, value in changes
    }


def test_edits_that_are_dropped_are_not_kept() -> None:
    edits = Edits(ALL_ACTIONS, False, 10, 1000, 100)
    for _ in range(100):
        edits.add_header("X", "y" * 500)

    assert edits.overflow
    assert edits.kept <= 1000
