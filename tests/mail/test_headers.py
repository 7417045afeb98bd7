from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.mail import headers
from aiomilter.mail.headers import Field, HeaderSection, split_message

# Octets; name, value, unfolded, text.
FIELDS = [
    (b"Subject: hello\r\n", "Subject", "hello", "hello", "hello"),
    (b"Subject:hello\r\n", "Subject", "hello", "hello", "hello"),
    (b"Subject:  hello \r\n", "Subject", " hello ", "hello", " hello "),
    (b"Subject:\thello\r\n", "Subject", "\thello", "hello", "\thello"),
    (b"Subject \t: hello\r\n", "Subject", "hello", "hello", "hello"),
    (b"Subject: one\r\n two\r\n\tthree\r\n", "Subject", "one\n two\n\tthree", "one two\tthree", "one two\tthree"),
    (b"Subject:\r\n folded\r\n", "Subject", "\n folded", "folded", " folded"),
    (b"Subject:\r\n", "Subject", "", "", ""),
    (b"Subject: =?utf-8?q?caf=C3=A9?=\r\n", "Subject", "=?utf-8?q?caf=C3=A9?=", "=?utf-8?q?caf=C3=A9?=", "caf\u00e9"),
    (b"Subject: caf\xc3\xa9 \xff\r\n", "Subject", "caf\u00e9 \udcff", "caf\u00e9 \udcff", "caf\u00e9 \ufffd"),
    (b"Subject: a\0b\rc\nd\r\n", "Subject", "a\0b\rc\nd", "a\0b\rc\nd", "a b c d"),
    (b"a:b:c\r\n", "a", "b:c", "b:c", "b:c"),
    # No fields by RFC 5322, but part of a section.
    (b"no colon\r\n", "", "no colon", "no colon", "no colon"),
    (b"no colon\r\n but: behind a fold\r\n", "", "no colon\n but: behind a fold", "no colon but: behind a fold", None),
    (b": no name\r\n", "", "no name", "no name", "no name"),
    (b" : no name\r\n", "", "no name", "no name", "no name"),
    (b"\r\n", "", "", "", ""),
]


@pytest.mark.parametrize(("raw", "name", "value", "unfolded", "text"), FIELDS)
def test_a_field_is_read_and_keeps_its_octets(
    raw: bytes, name: str, value: str, unfolded: str, text: str | None
) -> None:
    field = Field(raw)
    assert field.raw == raw
    assert (field.name, field.value, field.unfolded) == (name, value, unfolded)
    assert field.text == (unfolded if text is None else text)
    assert field.key == name.lower().encode()


def test_a_line_end_may_be_left_out() -> None:
    assert Field(b"A: b") == Field(b"A: b\r\n")
    assert hash(Field(b"A: b")) == hash(Field(b"A: b\r\n"))
    assert Field(b"A: b") != Field(b"A:b")
    assert Field(b"A: b") != b"A: b\r\n"


def test_a_name_is_looked_for_once_at_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []
    find = Field._find_name

    def find_name(field: Field) -> bytes:
        looked.append(field.raw)
        return find(field)

    monkeypatch.setattr(Field, "_find_name", find_name)
    field = Field(b"A : 1\r\n")
    assert (field.raw, hash(field), looked) == (b"A : 1\r\n", hash(b"A : 1\r\n"), [])
    assert (field.key, field.name, field.value, field.key) == (b"a", "A", "1", b"a")
    assert looked == [b"A : 1\r\n"]


def test_a_name_is_compared_without_letter_case_of_ascii_alone() -> None:
    assert Field(b"FROM: x").key == b"from"
    assert Field("\u00c4: x".encode()).key == "\u00c4".encode()


def test_a_field_shows_its_octets_and_not_too_many() -> None:
    assert repr(Field(b"A: b")) == r"Field(b'A: b\r\n')"
    assert len(repr(Field(b"A: " + b"b" * 1000))) < 130


@pytest.mark.parametrize("value", ["", "b", " b", "b\n c\n\td", "b\r\n c", "caf\u00e9 \udcff"])
@pytest.mark.parametrize("separator", ["", " "])
def test_a_field_made_from_text_has_that_text(value: str, separator: str) -> None:
    field = Field.made("X-A", value, separator)
    assert field.raw.startswith(b"X-A:" + separator.encode())
    assert field.name == "X-A"
    if separator or not value.startswith(" "):
        assert field.value == value.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("A B", "x"),
        ("A:", "x"),
        ("A\n", "x"),
        ("\u00e4", "x"),
        ("A", "x\nB: y"),
        ("A", "x\n"),
        ("A", "x\n\n y"),
        ("A", "x\r y"),
        ("A", "x\r\r\n y"),
        ("A", "x\0"),
    ],
)
def test_a_field_is_not_made_of_what_would_be_two(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Field.made(name, value)


def section(*raw: bytes) -> HeaderSection:
    made = HeaderSection()
    for octets in raw:
        made.append(octets)
    return made


def test_a_section_has_its_fields_in_order() -> None:
    found = section(b"A: 1\r\n", b"B: 2\r\n", b"a: 3\r\n")
    assert [field.raw for field in found] == [b"A: 1\r\n", b"B: 2\r\n", b"a: 3\r\n"]
    assert (len(found), found.size, found.complete) == (3, 18, True)
    assert found[0].value == "1"
    assert [field.value for field in found[1:]] == ["2", "3"]
    assert [field.value for field in reversed(found)] == ["3", "2", "1"]
    assert found.raw() == b"A: 1\r\nB: 2\r\na: 3\r\n"


def test_fields_are_found_by_name_in_any_letter_case() -> None:
    found = section(b"A: 1\r\n", b"B: 2\r\n", b"a : 3\r\n")
    first = found.get("a")
    assert first is not None
    assert first.value == "1"
    assert [field.value for field in found.get_all("A")] == ["1", "3"]
    assert found.get("c") is None
    assert found.get_all("c") == ()


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ([], []),
        (["a"], ["3"]),
        (["a", "A", "b"], ["3", "1", "2"]),
        (["b", "a", "a"], ["2", "3", "1"]),
        # One more than there are: its absence is meant, and nothing stands for it.
        (["b", "b", "a", "a", "a", "c", "c"], ["2", "3", "1"]),
        (["a "], []),
    ],
)
def test_names_mean_fields_from_the_lowest_upwards(names: list[str], values: list[str]) -> None:
    """D-030, D-031, D-032."""
    assert [field.value for field in section(b"A: 1\r\n", b"B: 2\r\n", b"a: 3\r\n").from_below(names)] == values


def test_the_field_being_checked_is_meant_by_no_name() -> None:
    """D-034: it and not its twin."""
    found = section(b"A: 1\r\n", b"A: 1\r\n")
    lower = found[1]
    (meant,) = found.from_below(["a", "a"], without=lower)
    assert meant is found[0]


def test_what_is_too_much_is_not_kept_and_said_so() -> None:
    """D-074."""
    found = HeaderSection(max_fields=2)
    assert [found.append(b"A: 1\r\n") for _ in range(3)] == [True, True, False]
    assert (len(found), found.complete) == (2, False)
    found = HeaderSection(max_size=13)
    assert found.append(b"A: 1")
    assert not found.append(b"A: 12345")
    # A gap would be worse than an end.
    assert not found.append(b"A:")
    assert (len(found), found.size, found.complete) == (1, 6, False)
    assert not HeaderSection([Field(b"A: 1"), Field(b"A: 1")], max_size=6).complete


@pytest.mark.parametrize("size", [5, 6, 7])
def test_a_line_end_that_was_left_out_counts(size: int) -> None:
    assert HeaderSection(max_size=size).append(b"A: 1") == (size >= 6)


MESSAGES = [
    (b"A: 1\r\nB: 2\r\n\r\nbody\r\n", [b"A: 1\r\n", b"B: 2\r\n"], b"body\r\n"),
    (b"A: 1\r\n 1\r\n\t1\r\nB: 2\r\n\r\n\r\n", [b"A: 1\r\n 1\r\n\t1\r\n", b"B: 2\r\n"], b"\r\n"),
    (b"A: 1\r\n \r\nB: 2\r\n\r\n", [b"A: 1\r\n \r\n", b"B: 2\r\n"], b""),
    (b"A: 1\r\nB: 2\r\n", [b"A: 1\r\n", b"B: 2\r\n"], b""),
    (b"A: 1\r\nB: 2", [b"A: 1\r\n", b"B: 2\r\n"], b""),
    (b"\r\nbody", [], b"body"),
    (b"\r\n\r\nbody", [], b"\r\nbody"),
    (b"", [], b""),
    (b"A: 1\nB: 2\r3\r\n\r\n\n", [b"A: 1\nB: 2\r3\r\n"], b"\n"),
    (b" blank first\r\nA: 1\r\n\r\nx", [b" blank first\r\n", b"A: 1\r\n"], b"x"),
]


@pytest.mark.parametrize(("message", "fields", "body"), MESSAGES)
def test_a_message_is_split_at_its_first_empty_line(message: bytes, fields: list[bytes], body: bytes) -> None:
    found, begin = split_message(message)
    assert [field.raw for field in found] == fields
    assert message[begin:] == body
    assert found.complete


def test_a_message_with_too_large_a_header_is_split_at_its_body_all_the_same() -> None:
    found, begin = split_message(b"A: 1\r\nB: 2\r\n\r\nbody", max_fields=1)
    assert ([field.raw for field in found], found.complete, begin) == ([b"A: 1\r\n"], False, 14)
    found, begin = split_message(b"A: 1\r\nB: 2\r\n\r\nbody", max_size=11)
    assert ([field.raw for field in found], found.complete, begin) == ([b"A: 1\r\n"], False, 14)


OCTETS = st.text("aA: \t\r\n\0\u00e9", max_size=40).map(lambda text: text.encode())


@given(OCTETS)
def test_no_octet_of_a_message_is_lost(octets: bytes) -> None:
    found, begin = split_message(octets)
    if octets[:2] == b"\r\n":
        assert (len(found), begin) == (0, 2)
        return
    head = octets[:begin]
    if b"\r\n\r\n" in octets:
        head = head[:-2]
    elif head and not head.endswith(b"\r\n"):
        head += b"\r\n"
    assert found.raw() == head
    for field in found:
        assert isinstance(field.text + field.value + field.unfolded + field.name, str)
        again = section(field.raw)
        assert again[0] == field


@given(st.lists(st.sampled_from("abAB"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_names_mean_what_a_plain_search_from_below_finds(names: list[str], wanted: list[str]) -> None:
    found = section(*(f"{name}: {number}".encode() for number, name in enumerate(names)))
    left, expected = list(found), []
    for name in wanted:
        for field in reversed(left):
            if field.name.lower() == name:
                expected.append(field)
                left.remove(field)
                break
    assert found.from_below(wanted) == expected


def test_as_many_fields_are_looked_at_as_there_are_names() -> None:
    looked = 0

    class Counted(list[Field]):
        def __getitem__(self, place: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(place)

    found = section(*[b"A: 1"] * 1000)
    found._fields = Counted(found._fields)
    assert len(found.from_below(["a"] * 2000)) == looked == 1000


def test_thousands_of_fields_and_folds_are_split() -> None:
    found, begin = split_message(b"A: 1\r\n folded\r\nno colon\r\n" * 2000 + b"\r\nbody")
    assert (len(found), found.complete) == (4000, True)
    assert begin == found.size + 2


def test_bounds_are_those_of_a_session() -> None:
    from aiomilter.options import Options

    assert (Options().max_headers, Options().max_headers_size) == (headers.MAX_FIELDS, headers.MAX_SIZE)


def test_names_that_stand_more_than_once_are_told() -> None:
    found = section(b"To: a", b"From: b", b"TO : c", b"X: d", b"From: e", b"")

    assert found.repeated() == [b"to", b"from"]
    assert section(b"To: a").repeated() == []


def test_a_name_ends_in_the_first_line() -> None:
    for raw in (b"no colon\r\n a: b\r\n", b" \r\n a:b", b":", b"no colon"):
        assert Field(raw).key == b""
    assert Field(b"A:\r\n b:c").key == b"a"


def test_names_of_any_length_are_compared_alike() -> None:
    for size in (63, 64, 65, 5_000):
        name = "Aé" + "B" * size
        found = HeaderSection([Field(f"{name} \t: c\r\n".encode())])
        assert found[0].key == name.encode().lower()
        assert found.get(name) is found.get(name.swapcase().replace("É", "é")) is found[0]
        assert Field(b"A" * size + b"\r\n a: b").key == b""
