import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.mail import envelope
from aiomilter.mail.envelope import bare_address, domain, keywords, local_part, xtext_decode

# Paths of RFC 5321 sections 4.1.1.2, 4.1.1.3, 4.1.2 and appendix C, and what MTAs make of worse ones.
PATHS = [
    ("<alice@example.org>", "alice@example.org"),
    ("alice@example.org", "alice@example.org"),
    ("<Alice@Example.ORG>", "Alice@Example.ORG"),
    ("<>", ""),
    ("", ""),
    ("<Postmaster>", "Postmaster"),
    (" <alice@example.org>", "alice@example.org"),
    ("<alice@example.org> ", "alice@example.org"),
    ("\t<>\t", ""),
    ("<@one:bob@example.org>", "bob@example.org"),
    ("<@one,@two:bob@example.org>", "bob@example.org"),
    ("<@one, @two : bob@example.org>", "bob@example.org"),
    ("@one:bob@example.org", "bob@example.org"),
    ("<@[192.0.2.1],@[IPv6:2001:db8::1]:bob@example.org>", "bob@example.org"),
    ("<@one:bob@[IPv6:2001:db8::1]>", "bob@[IPv6:2001:db8::1]"),
    ("<bob@[IPv6:2001:db8::1]>", "bob@[IPv6:2001:db8::1]"),
    ('<"odd user"@example.org>', '"odd user"@example.org'),
    ('<"a>b"@example.org>', '"a>b"@example.org'),
    ('<"a\\">b"@example.org>', '"a\\">b"@example.org'),
    ('<"@one:bob"@example.org>', '"@one:bob"@example.org'),
    ('<@one:"a>b"@example.org>', '"a>b"@example.org'),
    ("<a\\>b@example.org>", "a\\>b@example.org"),
    ("<\u00fc@example.org>", "\u00fc@example.org"),
    ("<\udcff@example.org>", "\udcff@example.org"),
    # Sendmail 8.17.1 built with EAI puts the parameters behind the path.
    ("<alice@example.org> SIZE=300 BODY=8BITMIME", "alice@example.org"),
    ("<> RET=HDRS", ""),
    ("<alice@example.org> ENVID=a>b", "alice@example.org"),
    ("<alice@example.org>x>", "alice@example.org"),
    # What never closes is read to its end.
    ("<alice@example.org", "alice@example.org"),
    ("<", ""),
    ('<"alice@example.org>', '"alice@example.org'),
    (">", ">"),
    ("alice@example.org>", "alice@example.org>"),
    ("<@one>", "@one"),
    ("<@one@two>", "@one@two"),
    ("<@>", "@"),
    ("<:>", ":"),
    ("@", "@"),
]


@pytest.mark.parametrize(("path", "address"), PATHS)
def test_a_path_has_one_address(path: str, address: str) -> None:
    """P-041: without brackets and source route, otherwise as sent."""
    assert bare_address(path) == address


MAILBOXES = [
    ("<alice@example.org>", "alice", "example.org"),
    ("<Alice@SPAM.Example>", "Alice", "spam.example"),
    ("alice@SPAM.example", "alice", "spam.example"),
    ("<alice@spam.example.>", "alice", "spam.example"),
    ("<alice@spam.example >", "alice", "spam.example"),
    ("<alice@notspam.example>", "alice", "notspam.example"),
    ("<@SPAM.example:bob@example.org>", "bob", "example.org"),
    ("<bob@SPAM.example> SIZE=300", "bob", "spam.example"),
    # U-labels and A-labels are one name; so are the other full stops.
    ("<x@B\u00fccher.example>", "x", "xn--bcher-kva.example"),
    ("<x@B\u00dcCHER\u3002example>", "x", "xn--bcher-kva.example"),
    ("<x@XN--BCHER-KVA.example>", "x", "xn--bcher-kva.example"),
    ("<J\u00f6rg@example.org>", "J\u00f6rg", "example.org"),
    # What has no A-labels.
    ("<a@\udcff.Example>", "a", "\udcff.example"),
    ("<a@" + "\u00fc" * 64 + ".Example>", "a", "\u00fc" * 64 + ".example"),
    # Address literals.
    ("<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
    ("<a@[IPv6:2001:DB8::1]>", "a", "[ipv6:2001:db8::1]"),
    # Quotes are no part of what they quote.
    ('<"alice"@example.org>', "alice", "example.org"),
    ('<"a b\\"c\\\\"@example.org>', 'a b"c\\', "example.org"),
    ('<"a@spam.example"@Example.org>', "a@spam.example", "example.org"),
    ('<"a@spam.example">', "a@spam.example", ""),
    ('<"a@spam.example>', '"a', "spam.example"),
    ('<a."b c"@example.org>', 'a."b c"', "example.org"),
    # No domain.
    ("<>", "", ""),
    ("", "", ""),
    ("<Postmaster>", "Postmaster", ""),
    ("<bob@>", "bob", ""),
    ("<@>", "", ""),
    ("@", "", ""),
]


@pytest.mark.parametrize(("path", "local", "name"), MAILBOXES)
def test_a_path_has_one_local_part_and_one_domain(path: str, local: str, name: str) -> None:
    assert (local_part(path), domain(path)) == (local, name)


@given(st.text())
@settings(deadline=None)
def test_any_path_has_a_local_part_and_a_domain_in_lower_case(path: str) -> None:
    local_part(path)
    assert domain(path) == domain(path).lower()


@pytest.mark.parametrize("address", ["a@b", '"a b"@c', "bob@[IPv6:::1]", "Postmaster", "\u00fc@x"])
@pytest.mark.parametrize("form", ["{}", "<{}>", "<@one:{}>", "<@one,@two:{}>", " <{}> SIZE=1"])
def test_an_address_is_the_same_however_its_path_is_written(address: str, form: str) -> None:
    """P-041."""
    assert bare_address(form.format(address)) == address


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='<>@,:"\\[] ab', max_size=14))
def test_any_text_has_an_address_within_it(path: str) -> None:
    assert bare_address(path) in path


@pytest.mark.parametrize(
    "path",
    [
        "<" + '"' * 60000,
        '<"' + "\\" * 60000,
        "<@a" + ",@a" * 20000,
        "<@" + "[" * 60000,
        "<" + '"a"' * 20000,
        "<@a" + " " * 60000,
        "<@a," + " " * 60000,
        "<" + ">" * 60000,
        " " * 60000,
    ],
)
def test_a_hostile_path_takes_no_longer_than_its_length_is_worth(path: str) -> None:
    started = time.process_time()
    assert bare_address(path) in path
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ((), {}),
        (("SIZE=300",), {"SIZE": "300"}),
        (("size=300", "Body=8bitmime"), {"SIZE": "300", "BODY": "8bitmime"}),
        (("SMTPUTF8",), {"SMTPUTF8": ""}),
        (("NOTIFY=SUCCESS,FAILURE",), {"NOTIFY": "SUCCESS,FAILURE"}),
        (("A=b=c",), {"A": "b=c"}),
        (("A=",), {"A": ""}),
        (("",), {"": ""}),
        (("=x",), {"": "x"}),
        (("A=1", "a=2"), {"A": "2"}),
        (("ENVID=x+2By", "envid=+3D"), {"ENVID": "="}),
        (("ORCPT=rfc822;bob+40x@example.org",), {"ORCPT": "rfc822;bob@x@example.org"}),
        (("AUTH=<>",), {"AUTH": "<>"}),
        (("AUTH=e+3Dmc2@example.com",), {"AUTH": "e=mc2@example.com"}),
        (("SIZE=+41", "BODY=+42", "X=+43"), {"SIZE": "+41", "BODY": "+42", "X": "+43"}),
    ],
)
def test_parameters_are_read_by_keyword(params: tuple[str, ...], found: dict[str, str]) -> None:
    """P-042: RFC 5321 section 4.1.2; xtext only where RFC 3461 and RFC 4954 say so."""
    assert keywords(params) == found


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("+2B", "+"),
        ("a+2Bb+3Dc", "a+b=c"),
        ("+2B2B", "+2B"),
        ("+2b", "+2b"),
        ("+", "+"),
        ("+2", "+2"),
        ("+GG", "+GG"),
        ("++2B", "++"),
        ("+C3+BC", "\u00fc"),
        ("+FF", "\udcff"),
        ("\u00fc+41\udcff", "\u00fcA\udcff"),
        ("+00+0A", "\0\n"),
    ],
)
def test_xtext_is_decoded_and_what_is_none_stays(text: str, decoded: str) -> None:
    """P-042: two upper case hexadecimal digits, RFC 3461 section 4."""
    assert xtext_decode(text) == decoded


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=30))
def test_any_octets_survive_xtext(octets: bytes) -> None:
    """P-044: written as RFC 3461 section 4 says."""
    written = "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in octets)
    assert xtext_decode(written).encode("utf-8", "surrogateescape") == octets


def test_all_names_exist() -> None:
    assert all(hasattr(envelope, name) for name in envelope.__all__)
