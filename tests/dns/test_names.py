from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.dns import client_address, display_name, question_name, reverse_name
from aiomilter.exceptions import AddressError

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("a b%c:d/e\\.example", "a b%c:d/e\\.example"),
        (f"{LABEL}.example", f"{LABEL}.example"),
        (".".join([LABEL] * 3 + ["a" * 61]), ".".join([LABEL] * 3 + ["a" * 61])),
    ],
)
def test_a_name_is_asked_in_lower_case_and_ascii(name: str, normal: str) -> None:
    assert question_name(name) == normal


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..example",
        ".example",
        "example..",
        f"{LABEL}a.example",
        ".".join([LABEL] * 3 + ["a" * 62]),
        "a\0.example",
        "a\r\n.example",
        "a\x7f.example",
        "\udce4.example",
        "\u2028.example",
        "ü" * 64 + ".example",
        "ü" * 5000,
        "xn--\u0430.example",
    ],
)
def test_what_dns_cannot_hold_is_no_name(name: str) -> None:
    assert question_name(name) is None


@given(st.text(max_size=40) | st.from_regex(r"[a-z.\\u00fc]{0,300}", fullmatch=True))
@settings(deadline=None, max_examples=60)
def test_any_text_is_a_valid_name_or_none(text: str) -> None:
    name = question_name(text)

    if name is not None:
        assert name.isascii()
        assert len(name) <= 253
        assert all(0 < len(label) <= 63 for label in name.split("."))
        assert question_name(name) == name


def test_a_name_from_dns_cannot_carry_a_line_end_or_a_false_dot() -> None:
    assert (
        display_name([b"a.b\r\n", b"c\\d e", b"\xff", b"Example", b""])
        == "a\\046b\\013\\010.c\\092d\\032e.\\255.Example"
    )


@given(st.lists(st.binary(max_size=63), max_size=5))
def test_any_labels_are_displayed_in_visible_ascii(labels: list[bytes]) -> None:
    shown = display_name(labels)

    assert all("!" <= character <= "~" for character in shown)
    assert shown.count(".") == max(0, sum(1 for label in labels if label) - 1)


@pytest.mark.parametrize(
    ("ip", "suffix", "name"),
    [
        ("192.0.2.3", "", "3.2.0.192.in-addr.arpa"),
        ("192.0.2.3", "zen.example", "3.2.0.192.zen.example"),
        ("::ffff:192.0.2.3", "", "3.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"),
        ("2001:db8::1", "zen.example", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.zen.example"),
        ("fe80::1%eth0", "", "1." + "0." * 28 + "8.e.f.ip6.arpa"),
    ],
)
def test_an_address_is_looked_up_backwards(ip: str, suffix: str, name: str) -> None:
    assert reverse_name(ip_address(ip), suffix) == name


def test_a_client_address_is_ipv4_where_it_can_be_and_has_no_scope() -> None:
    assert client_address("::ffff:192.0.2.1") == ip_address("192.0.2.1")
    assert client_address("192.0.2.1") == ip_address("192.0.2.1")
    assert str(client_address("fe80::1%eth0")) == "fe80::1"
    with pytest.raises(AddressError, match="expected an IP address"):
        client_address("unknown")
