"""DMARC policy records are read leniently, and what cannot be read says why."""

from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiomilter.auth.dmarc import Record, parse
from aiomilter.auth.dmarc._record import is_record, read
from tests.auth.steps import steps

RECORDS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("v=DMARC1; p=reject", {"p": "reject"}),
    # M-010, M-011: blanks, letter case of names and values, unknown and unreadable tags, equals.
    ("V = DMARC1 ;\tP = Reject ; ", {"p": "reject"}),
    ("v=DMARC1;p=reject;", {"p": "reject"}),
    ("v=DMARC1; x=1; zz; =; p=reject; 1=2; p q=none", {"p": "reject"}),
    ("v=DMARC1; p=none; p=reject", {"p": "none"}),
    ("v=DMARC1; p=reject; v=DMARC2", {"p": "reject"}),
    ("v=DMARC1; p=none; sp=quarantine; np=REJECT", {"p": "none", "sp": "quarantine", "np": "reject"}),
    ("v=DMARC1; p=none; adkim=S; aspf=s; psd=Y; t=Y", {"p": "none", "adkim": "s", "aspf": "s", "psd": "y", "testing": True}),
    # M-014: what cannot be read is the default.
    ("v=DMARC1; p=none; adkim=x; aspf=; psd=maybe; t=1", {"p": "none"}),
    # M-044: history.
    ("v=DMARC1; p=reject; pct=0; rf=afrf; ri=3600", {"p": "reject"}),
    ("v=DMARC1; p=none; fo=1:d:s:x:1", {"p": "none", "fo": "1:d:s"}),
    ("v=DMARC1; p=none; fo=x", {"p": "none"}),
    # M-045: sizes are not read.
    ("v=DMARC1; p=none; rua=mailto:a@b.example!10m , MAILTO:c@d", {"p": "none", "rua": ("mailto:a@b.example", "MAILTO:c@d")}),
    ("v=DMARC1; p=none; rua=a@b.example,mailto:a,mailto:@b,x y:z,https://b/x?y", {"p": "none", "rua": ("https://b/x?y",)}),
    ("v=DMARC1; p=none; ruf=mailto:a@b.example, mailto:a@b.example", {"p": "none", "ruf": ("mailto:a@b.example",)}),
]  # fmt: skip

NO_P: Final = "no p= in the record"
BAD_SP: Final = "expected none, quarantine or reject in sp=, found 'refuse'"
WITHOUT_POLICY: Final = [
    ("v=DMARC1; rua=mailto:a@b.example", NO_P),
    ("v=DMARC1; p=reject; sp=refuse; np=reject; rua=mailto:a@b.example", BAD_SP),
]
NO_RECORDS: Final = [
    ("", "expected a record that begins"),
    ("v=dmarc1; p=reject", "expected a record that begins"),
    (" v=DMARC1; p=reject", "expected a record that begins"),
    ("v=DMARC10; p=reject", "expected a record that begins"),
    ("v=DMARC1 p=reject", "expected a record that begins"),
    ("p=reject; v=DMARC1", "expected a record that begins"),
    ("v=spf1 -all", "expected a record that begins"),
    ("v=DMARC1", NO_P),
    ("v=DMARC1; p=refuse", "in p=, found 'refuse'"),
    ("v=DMARC1; p=reject; sp=refuse; rua=nobody", BAD_SP),
    ("v=DMARC1; p=\0\r\n", "in p=, found '?'"),
]


@pytest.mark.parametrize(("text", "values"), RECORDS)
def test_a_record_is_read(text: str, values: dict[str, Any]) -> None:
    assert parse(text.encode()) == Record(**values)


@pytest.mark.parametrize(("text", "problem"), WITHOUT_POLICY)
def test_a_record_without_a_usable_policy_asks_for_reports_alone(text: str, problem: str) -> None:
    """M-042."""
    assert parse(text.encode()) == Record("none", rua=("mailto:a@b.example",), problem=f"{problem}; taken as p=none")


@pytest.mark.parametrize(("text", "problem"), NO_RECORDS)
def test_what_is_no_record_says_why(text: str, problem: str) -> None:
    found = parse(text.encode())

    assert isinstance(found, str)
    assert problem in found
    assert found.isprintable()


def test_a_record_that_cannot_be_applied_keeps_its_place_in_the_walk() -> None:
    record, applies = read(b"v=DMARC1; psd=n")

    assert (record.psd, applies) == ("n", False)


def test_ten_addresses_are_enough() -> None:
    found = parse(b"v=DMARC1; p=none; rua=" + b",".join(b"mailto:a%d@b.example" % number for number in range(11)))

    assert isinstance(found, Record)
    assert len(found.rua) == 10


PARTS: Final = st.sampled_from(
    [
        "v",
        "p",
        "sp",
        "rua",
        "t",
        "=",
        ";",
        " ",
        ",",
        ":",
        "!",
        "DMARC1",
        "reject",
        "y",
        "mailto:a@b.example",
        "%",
        "ü",
        "\0",
    ]
)


@given(st.lists(PARTS, max_size=30).map("".join).map(str.encode) | st.binary(max_size=60), st.booleans())
@example(b"\xff", True)
def test_no_record_raises(text: bytes, begun: bool) -> None:
    text = b"v=DMARC1;" + text if begun else text
    found = parse(text)

    assert isinstance(found, Record) or found.isprintable()
    assert is_record(text) or isinstance(found, str)


@pytest.mark.parametrize(
    "piece", [";", "=", "p=;", "a=b;", ",", "mailto:a@b.example,", "!1", "%41", "mailto:", "@", " "]
)
@pytest.mark.parametrize("tag", ["", "rua=", "fo="])
def test_a_hostile_record_takes_steps_in_proportion_to_its_size(piece: str, tag: str) -> None:
    text = f"v=DMARC1; {tag}".encode() + piece.encode() * (10_000 // len(piece))

    assert steps(lambda: parse(text)) < 65_000


def test_a_record_is_read_once_and_a_long_one_is_not_kept() -> None:
    short, long = b"v=DMARC1; p=reject; x=once", b"v=DMARC1; p=reject; x=" + b"y" * 512

    assert read(short) is read(bytes(bytearray(short)))
    assert read(long) == read(long)
    assert read(long) is not read(long)
