"""Whose addresses a From field holds: nobody that any reader may show as an author is left out."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dmarc._author import _domains, _plain_domain, author_domains
from tests.auth.steps import steps

AUTHORS: Final = [
    # RFC 5322 sections 3.4 and 4.4.
    ("a@example.com", "example.com"),
    ("<a@example.com>", "example.com"),
    ("Alice <a@example.com>", "example.com"),
    ('"Alice A." <a@example.com>', "example.com"),
    (" a@EXAMPLE.com.\r\n", "example.com"),
    ("Alice\r\n\t<a@\r\n example.com>", "example.com"),
    ("a @ (of (the)) example . com (Alice)", "example.com"),
    ("Alice (b@bank.example) <a@example.com>", "example.com"),
    ('"b@bank.example" <a@example.com>', "example.com"),
    ('"b\\"@bank.example" <a@example.com>', "example.com"),
    ('"b@bank.example"@example.com', "example.com"),
    ("<@relay.example,@other.example:a@example.com>", "example.com"),
    ("Doe, Alice <a@example.com>", "example.com"),
    ("a@example.com,", "example.com"),
    # RFC 2047: an encoded word is display only, whatever it holds.
    ("=?utf-8?q?b@bank.example?= <a@example.com>", "example.com"),
    ("=?utf-8?b?YkBiYW5rLmV4YW1wbGU=?= <a@example.com>", "example.com"),
    # Signs that end an address are in no encoded word.
    ("=?utf-8?q?<b@bank.example>?= <a@example.com>", "bank.example example.com"),
    # RFC 6854: groups.
    ("Editors: a@example.com, b@example.com;", "example.com"),
    # RFC 6532.
    ("Älice <ä@bücher.example>", "xn--bcher-kva.example"),
    ("a@bücher。example", "xn--bcher-kva.example"),
    # M-061: one domain, several addresses.
    ("a@example.com, b@Example.COM", "example.com"),
    (", ".join(f"a@{name}" for name in ("a.b", "A.b", "a.B", "A.B", "a.b.", "A.B.")), "a.b"),
    ("<a@example.com> b@example.com", "example.com"),
    # M-063: a second address, with or without a comma.
    ("a@example.com, b@bank.example", "example.com bank.example"),
    ("a@example.com b@bank.example", "example.com bank.example"),
    ("<a@example.com> b@bank.example", "example.com bank.example"),
    ("<a@example.com> <b@bank.example>", "example.com bank.example"),
    ("<a@example.com> Bob <b@bank.example>", "example.com bank.example"),
    ("b@bank.example <a@example.com>", "bank.example example.com"),
    ("a@example.com; b@bank.example", "example.com bank.example"),
    ("Staff: a@example.com;, b@bank.example", "example.com bank.example"),
    # Never closed: every reader's addresses.
    ("Alice <a@example.com", "example.com"),
    ('"Alice <a@example.com>', "example.com"),
    ("a@example.com (Alice", "example.com"),
    ('a@example.com (b@bank.example "', "example.com bank.example"),
    ("a@example.com (b (b@bank.example)", "example.com bank.example"),
    ("a@example.com " + "(" * 17 + "b@bank.example" + ")" * 17, "example.com bank.example"),
]

PROBLEMS: Final = [
    ("", "without an address"),
    ("Alice", "without an address"),
    ("undisclosed: ;", "without an address"),
    ("(a@example.com)", "without an address"),
    ("=?utf-8?q?a@example.com?=", "without an address"),
    ("<>", "without a domain"),
    ("Alice <alice>", "without a domain"),
    ("a@", "without a domain"),
    ("a@ <b@example.com>", "without a domain"),
    ('a@"example.com"', "without a domain"),
    ("a@[192.0.2.1]", "no domain name"),
    ("a@[IPv6:2001:db8::1]", "no domain name"),
    ("a@example..com", "no domain name"),
    ("a@example.com\0.bank.example", "no domain name"),
    ("a@example.com\x0b", "no domain name"),
    ("a@=?utf-8?q?example.com?=", "no domain name"),
    ("a@\udcff.example", "no domain name"),
    ("a@" + "b" * 64 + ".example", "no domain name"),
    ("<a@example.com@bank.example>", "does not end"),
    ("<a@example.com bank.example>", "does not end"),
    ("<a@example.com, b@bank.example>", "does not end"),
    ("<a@example.com> bank", "text behind"),
    ('<a@example.com> "bank"', "text behind"),
    (", ".join(f"a@{number}.example" for number in range(5)), "more than 4 domains"),
    ("a@b, " * 400, "more than 1024 parts"),
    ("a" * 65_537, "more than 65536 characters"),
]


@pytest.mark.parametrize(("field", "domains"), AUTHORS)
def test_a_from_field_names_its_authors(field: str, domains: str) -> None:
    assert author_domains([field]) == tuple(domains.split())


@pytest.mark.parametrize(("field", "problem"), PROBLEMS)
def test_a_from_field_without_an_author_says_why(field: str, problem: str) -> None:
    found = author_domains([field])

    assert isinstance(found, str)
    assert problem in found
    assert found.isprintable()


@pytest.mark.parametrize(("fields", "problem"), [([], "no From field"), (["a@b.example"] * 2, "2 From fields")])
def test_there_is_one_from_field(fields: list[str], problem: str) -> None:
    assert author_domains(fields) == problem


SIGNS: Final = st.sampled_from(
    [*'()<>@,;:"\\[]. \r\n\t', "a", "b.example", "=?u?q?", "?=", "\0", "ü", "\udc80", "a@b.example"]
)


@given(st.lists(SIGNS, max_size=40).map("".join))
def test_no_from_field_raises(field: str) -> None:
    found = author_domains([field])

    assert found
    assert isinstance(found, str) or all(name == name.lower() and name.isascii() for name in found)


@given(
    st.lists(st.sampled_from(["a.example", "b.example", "c.example"]), min_size=1, max_size=4),
    st.sampled_from([", ", " ", ";", "\r\n\t,", ",,"]),
    st.sampled_from(["x@{}", "<x@{}>", "X Y <x@{}>", '"X, Y" <x@{}>', "(c) x@{} (c)", "G: x@{};", "x @ {}"]),
)
def test_no_address_is_left_out(domains: list[str], between: str, form: str) -> None:
    field = between.join(form.format(domain) for domain in domains)

    assert author_domains([field]) == tuple(dict.fromkeys(domains))


PIECES: Final = st.sampled_from(
    [
        "Alice",
        '"Alice"',
        '"',
        "<",
        ">",
        "@",
        "a",
        "a@b.example",
        "<a@B.example>",
        " ",
        "\r\n ",
        "=?u?q?x?=",
        "?=",
        ",",
        "\\",
        "_",
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_plain_address_is_read_as_by_all_rules(field: str) -> None:
    plain = _plain_domain(field)

    assert plain is None or _domains(field) == (plain,)


@pytest.mark.parametrize(
    "field",
    ["Alice <a@example.com>", " <a@example.com>\r\n", '"A, B" <a@Example.com>', "=?utf-8?q?A?= <a.b=c@example.com>"],
)
def test_most_fields_are_read_without_a_look_at_each_part(field: str) -> None:
    assert _plain_domain(field) == "example.com"


@pytest.mark.parametrize(
    "field",
    [
        '"a\\" <a@b.example>" <a@example.com>',
        "b@b.example <a@example.com>",
        "<a@example..com>",
        "G: <a@example.com>;",
        "ü <a@example.com>",
    ],
)
def test_other_fields_are_read_part_by_part(field: str) -> None:
    assert _plain_domain(field) is None


@pytest.mark.parametrize(
    "piece", ["(", ")", '"', "<", ">", "@", "=?", "<@a,", "a@b,", "((a)", "\\", ":", "=?a?q?", "\u00e4@"]
)
def test_a_hostile_from_field_takes_bounded_steps(piece: str) -> None:
    field = piece * (65_536 // len(piece))

    assert steps(lambda: author_domains([field])) < 20_000
