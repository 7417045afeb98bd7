"""Whatever a reader may take for a field of ours is found, and what is plainly another host's is not."""

import unicodedata
from functools import partial
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.auth.results import AuthenticationResults, forged
from aiomilter.auth.spf import forged_received_spf
from tests.auth.fields import NOT_OURS, OTHER_RECEIVER, OUR_RECEIVER, OURS, SHAPES, TAKEN_FOR_OURS
from tests.auth.spellings import Speller
from tests.auth.steps import steps

NAME = "Authentication-Results"


@pytest.mark.parametrize("value", TAKEN_FOR_OURS.values(), ids=TAKEN_FOR_OURS)
def test_what_a_reader_may_take_for_our_name_is_found(value: str) -> None:
    assert forged([(NAME, value)], OURS) == [1]


@pytest.mark.parametrize("value", NOT_OURS.values(), ids=NOT_OURS)
def test_what_names_another_host_is_left_alone(value: str) -> None:
    assert forged([(NAME, value)], OURS) == []


@pytest.mark.parametrize(
    "value", ["spf=pass smtp.mailfrom=a@mx.example.net", "spf=pass (mx.example.net: x) smtp.helo=y; dkim=pass"]
)
def test_a_field_without_a_host_is_ours_if_our_name_is_in_its_first_result(value: str) -> None:
    assert forged([(NAME, value)], OURS) == [1]


SAME_NAMES = [
    ("b\u00fccher.example", "xn--bcher-kva.example"),
    ("xn--bcher-kva.example", "B\u00dcCHER.example"),
    ("xn--bcher-kva.example", "bu\u0308cher.example"),
    ("b\u00fccher.xn--bcher-kva.example", "xn--bcher-kva.b\u00fccher.example"),
    ("stra\u00dfe.example", "xn--strae-oqa.example"),
    ("stra\u00dfe.example", "STRASSE.example"),
    ("kis.example", "\u212a\u0130\u017f.example"),
    ("kis.example", "K\u0131S.example"),
    ("mx.example.", "mx.example"),
    ("MX.Example", "mx.example"),
    ("mail", "Mail"),
    ("mail", 'm"ai"l'),
    ("mail", "other mail"),
    ("[192.0.2.1]", "[192.0.2.1]"),
    ("mx.example/inbound", '"mx.example/inbound"'),
]


@pytest.mark.parametrize(("ours", "theirs"), SAME_NAMES)
def test_names_are_compared_in_all_their_forms(ours: str, theirs: str) -> None:
    assert forged([(NAME, f"{theirs}; spf=pass")], ours) == [1]


@pytest.mark.parametrize("value", ["spf=pass smtp.mailfrom=x", "mailer foo; spf=pass", "a.mail x; spf=pass"])
def test_a_name_of_one_label_is_no_part_of_a_word(value: str) -> None:
    assert forged([(NAME, value)], "mail") == []


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("example.net", [1]),
        ("mx1.example.net", [1]),
        ("a.b.EXAMPLE.net", [1]),
        ('"mx2.example.net"', [1]),
        ("mx2 . exam(x)ple . net", [1]),
        ("mx1.example.net/1", [1]),
        ("other.example; mx1.example.net", [1]),
        ("badexample.net", []),
        ("mx.badexample.net", []),
        ("example.net.evil.example", []),
        ("mx1.example.net.evil.example", []),
        ("net", []),
        ("other.example (mx1.example.net)", []),
    ],
)
def test_a_leading_dot_means_a_domain_and_all_below_it(host: str, found: list[int]) -> None:
    assert forged([(NAME, f"{host}; spf=pass")], ".example.net") == found
    if ";" not in host:
        assert forged_received_spf([("Received-SPF", f"Pass receiver={host}; helo=x")], ".example.net") == found


@pytest.mark.parametrize(
    "name", ["", ".", "..", " ", "a b", " mx.example", "a..b", "*.example", "a;b", "a\n", "\u200b"]
)
def test_a_name_that_no_host_has_is_the_callers_mistake(name: str) -> None:
    for find in (forged, forged_received_spf):
        with pytest.raises(ValueError, match=r"^expected a name such as 'mx\.example\.net'.*, found '.*'$"):
            find([], OURS, name)
        with pytest.raises(ValueError, match=r"^expected a name that is ours, found none$"):
            find([])


HEADERS = [
    ("Authentication-Results", "mx.example.net; spf=pass"),
    ("Subject", "mx.example.net; spf=pass"),
    ("authentication-results", "other.example; spf=pass"),
    ("AUTHENTICATION-RESULTS", '(x) "MX.example.net."; spf=pass'),
    ("Authentication-Results ", "mx.example.net; spf=pass"),
    ("Authentication-Results\t\r\n ", "second.example.net 1; none"),
    ("ARC-Authentication-Results", "i=1; mx.example.net; spf=pass"),
    ("X-Authentication-Results", "mx.example.net; spf=pass"),
    ("Authentication-Resultss", "mx.example.net; spf=pass"),
]


def test_fields_in_our_name_are_found_from_the_last_to_the_first() -> None:
    assert forged(HEADERS, OURS, "Second.Example.NET") == [5, 4, 3, 1]
    assert forged(HEADERS, "unknown.example") == []


@pytest.mark.parametrize("name", ["ARC-Authentication-Results", "x-authentication-results"])
def test_fields_of_other_names_and_this_syntax_are_found(name: str) -> None:
    assert forged(HEADERS, OURS, name=name) == [1]


def test_what_we_write_is_found() -> None:
    for name in (OURS, "mail", "[192.0.2.1]", "b\u00fccher.example"):
        for smtputf8 in (False, True):
            value = AuthenticationResults(name).value(smtputf8=smtputf8)
            assert forged([(NAME, value)], name) == [1]


@pytest.mark.parametrize("value", OUR_RECEIVER.values(), ids=OUR_RECEIVER)
def test_what_a_reader_may_take_for_our_receiver_is_found(value: str) -> None:
    assert forged_received_spf([("Received-SPF", value)], OURS) == [1]


@pytest.mark.parametrize("value", OTHER_RECEIVER.values(), ids=OTHER_RECEIVER)
def test_what_names_another_receiver_is_left_alone(value: str) -> None:
    assert forged_received_spf([("Received-SPF", value)], OURS) == []


def test_received_spf_fields_of_other_names_are_found() -> None:
    headers = [
        ("X-Received-SPF ", "Pass receiver=mx.example.net"),
        ("Received-SPF", "Pass receiver=mx.example.net"),
    ] * 2

    assert forged_received_spf(headers, OURS, name="x-received-spf") == [2, 1]


def judge_generated(seeds: range) -> None:
    for seed in seeds:
        speller = Speller(seed)
        fields = [speller.ours(), speller.other()]
        assert forged([(NAME, value) for value in fields], OURS) == [1], (seed, fields)
        fields = [speller.our_receiver(), speller.other_receiver()]
        assert forged_received_spf([("Received-SPF", value) for value in fields], OURS) == [1], (seed, fields)


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_generated_fields_are_found_or_left_alone(seed: int) -> None:
    """Any spelling of ours is found; any well-formed field of another host that mentions us stays."""
    judge_generated(range(seed, seed + 20))


@pytest.mark.slow
def test_more_generated_fields_are_found_or_left_alone() -> None:
    judge_generated(range(1000, 4000))


@pytest.mark.slow
@given(
    st.text(alphabet='mx.example.net=;()"\\/@% \t\r\n\0?\u00fc\udcff\u0307\ufdfa', max_size=80), st.integers(0, 3000)
)
@settings(deadline=None)
def test_no_field_raises(text: str, size: int) -> None:
    """However long, whatever it holds."""
    for value in (text, text * (size // (len(text) or 1)), OURS + text, f"receiver={text}"):
        for find in (forged, forged_received_spf):
            find([(NAME, value), ("Received-SPF", value)], OURS, ".example.org", "b\u00fccher.example")


@pytest.mark.parametrize("text", ["\u0315\u0300", "a\u0315\u0300", "\u0315a\u0300", "\ufdfa", "\u3316", "\ufdfaa"])
def test_normalization_gets_no_text_that_takes_it_long(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sorts the marks on a letter in quadratic time, and makes up to 18 characters of one."""
    seen: list[tuple[str, str]] = []

    def normalize(form: Literal["NFKC"], text: str) -> str:
        seen.append((text, unicodedata.normalize(form, text)))
        return seen[-1][1]

    monkeypatch.setattr("aiomilter.auth._claims.unicodedata", SimpleNamespace(normalize=normalize))
    assert forged([(NAME, f"x {text * 3000}; {OURS}; spf=pass")], OURS) == [1]
    assert forged([(NAME, f"x {text * 30_000} (")], OURS) == []

    assert seen
    for before, after in seen:
        marks = "".join("m" if unicodedata.combining(sign) else " " for sign in before)
        assert max(map(len, marks.split(" "))) <= 9
        assert len(after) <= 4 * len(before)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_field_made_to_keep_us_busy_takes_bounded_steps(shape: str) -> None:
    """Not more of them for 100,000 characters than for 10,000."""
    values = [(shape * size)[:size] for size in (10_000, 100_000)]
    for find, name in ((forged, NAME), (forged_received_spf, "Received-SPF")):
        few, many = (steps(partial(find, [(name, value)], OURS)) for value in values)
        assert many <= few + 10, name
        assert many < 8_000, name
