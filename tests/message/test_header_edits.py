"""The edits, applied by the rules of each MTA (``aiomilter.mta.deliver``), lead to the fields that were wanted."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.edits import Edits
from aiomilter.message.header_edits import Plan, plan, queue
from aiomilter.message.headers import Field, Headers
from aiomilter.mta import Style, cut, deliver
from aiomilter.wire.constants import ALL_ACTIONS
from aiomilter.wire.events import Mail
from aiomilter.wire.modifications import ChangeHeader, InsertHeader, Modification
from tests.message.made import made
from tests.message.odd import ODD
from tests.message.random_edits import edited, header_section

STYLES: list[Style] = ["postfix", "sendmail"]


def modifications(asked: Plan) -> list[Modification]:
    """Return what the packets of a plan ask for."""
    edits = Edits(ALL_ACTIONS, True, 10_000, 2**24, 0)
    queue(asked, edits)
    kinds: dict[int, type[ChangeHeader | InsertHeader]] = {ord("m"): ChangeHeader, ord("i"): InsertHeader}
    return [kinds[octets[4]].decode(octets[5:]) for octets in edits.packets()]


def planned(headers: Headers, style: Style, leading_space: bool = True) -> Plan:
    return plan(headers.original, headers.entries(), postfix=style == "postfix", leading_space=leading_space)


def delivered(headers: Headers, style: Style) -> bytes:
    content = cut(b"".join(field.raw for field in headers.original) + b"\r\n", style)
    asked = modifications(planned(headers, style))
    return deliver(style, Mail("<a@x.example>"), (), content, asked, leading_space=True).octets[:-2]


@pytest.mark.parametrize("style", STYLES)
@given(seed=st.integers(0, 2**32))
def test_any_edits_lead_to_what_is_wanted(style: Style, seed: int) -> None:
    chance = random.Random(seed)
    headers = edited(chance, Headers(map(Field, header_section(chance))))
    assert delivered(headers, style) == headers.octets()


@pytest.mark.parametrize("style", STYLES)
def test_nothing_changed_asks_for_nothing(style: Style) -> None:
    headers = Headers(map(Field, header_section(random.Random(1))))
    assert planned(headers, style) == Plan()
    field = headers[1]
    headers.remove(field)
    headers.insert_after(headers[0], field.name, "", raw=field.octets)
    assert planned(headers, style) == Plan()


SINGLE: list[Callable[[Headers, Field], object]] = [
    lambda headers, field: headers.remove(field),
    lambda headers, field: headers.replace(field, "new"),
    lambda headers, field: headers.insert_before(field, "X-New", "1"),
    lambda headers, field: headers.insert_after(field, "X-New", "", raw=b"\tx\r\n y"),
    lambda headers, field: headers.append("X-New", "", raw=b"x"),
    lambda headers, field: headers.prepend("X-New", "", raw=b"  x "),
]


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
async def test_a_single_edit_of_an_odd_message_leaves_all_other_octets(style: Style) -> None:
    """Of each of its fields, as the MTA delivers it."""
    done = 0
    for name, octets in ODD.items():
        content = cut(octets, style)
        if content.refusal is not None or len(octets) > 50_000:
            continue
        before = deliver(style, Mail("<a@x.example>"), (), content, (), leading_space=True).octets
        for number in range(len(made(octets).headers)):
            for edit in SINGLE:
                message = made(octets)
                headers = message.headers
                edit(headers, headers[number])
                asked = modifications(planned(headers, style))
                after = deliver(style, Mail("<a@x.example>"), (), content, asked, leading_space=True).octets
                assert after == headers.octets() + before[sum(len(each.raw) for each in headers.original) :], name
                kept = [field for field in headers if any(field is each for each in headers.original)]
                assert len(kept) >= len(headers.original) - 1
                done += 1
    assert done > 500


# What is done to A, B, C; how many packets that takes for Postfix and for Sendmail.
COUNTS = [
    (lambda headers: headers.prepend("X", "1"), 1, 1),
    (lambda headers: headers.append("X", "1"), 1, 1),
    (lambda headers: headers.insert_before(headers[0], "X", "1"), 1, 1),
    (lambda headers: headers.insert_after(headers[0], "X", "1"), 1, 5),
    (lambda headers: headers.insert_after(headers[1], "X", "1"), 1, 3),
    (lambda headers: headers.set("B", "changed"), 1, 1),
    (lambda headers: headers.remove_all("B"), 1, 1),
    (lambda headers: headers.set("b", "changed"), 2, 4),
    (lambda headers: headers.set("B", ""), 2, 4),
    (lambda headers: (headers.remove_all("C"), headers.append("C", "changed")), 1, 1),
    (lambda headers: (headers.append("X", "1"), headers.remove_all("X")), 0, 0),
]


@pytest.mark.parametrize(("edit", "postfix", "sendmail"), COUNTS)
def test_no_more_is_asked_for_than_needed(edit: object, postfix: int, sendmail: int) -> None:
    found = []
    for style in STYLES:
        headers = Headers(map(Field, [b"A: 1\r\n", b"B: 2\r\n", b"C: 3\r\n"]))
        assert callable(edit)
        edit(headers)
        assert delivered(headers, style) == headers.octets()
        found.append(len(modifications(planned(headers, style))))
    assert found == [postfix, sendmail]


@pytest.mark.parametrize("odd", [b"B: a\0b\r\n", b"B: a\rb\r\n", b"no colon\r\n", b"B C: 1\r\n"])
def test_a_field_that_cannot_move_leaves_the_new_one_above(odd: bytes) -> None:
    headers = Headers(map(Field, [b"A: 1\r\n", odd]))
    new = headers.insert_after(headers[0], "X", "1")
    asked = planned(headers, "sendmail")
    assert asked.misplaced == (new,)
    assert [tuple(each) for each in asked.insertions] == [(1, new)]
    assert asked.changes == ()
    assert planned(headers, "postfix").misplaced == ()


def test_without_the_leading_space_none_moves() -> None:
    headers = Headers(map(Field, [b"A: 1\r\n", b"B: 2\r\n"]))
    new = headers.insert_after(headers[0], "X", "1")
    assert planned(headers, "sendmail", leading_space=False).misplaced == (new,)


class Counted(Field):
    """Counts how often names are looked at."""

    looks = 0

    @property
    def name(self) -> str:
        Counted.looks += 1
        return super().name


def test_thousands_of_fields_take_few_steps() -> None:
    headers = Headers(Counted(b"A: %d\r\n" % number) for number in range(1000))
    for number, field in enumerate(headers):
        if number % 2:
            headers.remove(field)
        else:
            headers.insert_after(field, "B", "1")
    Counted.looks = 0
    asked = planned(headers, "postfix")
    assert (len(asked.changes), len(asked.insertions)) == (500, 500)
    assert Counted.looks < 5 * 1000
