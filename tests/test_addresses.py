"""Socket syntax: libmilter's, Postfix's, and what is refused."""

import re
import socket
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter import AddressError
from aiomilter.addresses import Address, Inet, Inherited, Unix, parse

V4, V6 = socket.AF_INET, socket.AF_INET6

TAKEN: Final[list[tuple[str, Address]]] = [
    ("inet:8890@127.0.0.1", Inet("127.0.0.1", 8890)),
    ("inet:8890@localhost", Inet("localhost", 8890)),
    ("inet:8890@[192.0.2.1]", Inet("192.0.2.1", 8890)),
    ("inet:8890", Inet(None, 8890)),
    ("inet:0@localhost", Inet("localhost", 0)),
    ("INET:8890@x", Inet("x", 8890)),
    ("inet6:8890@::1", Inet("::1", 8890, V6)),
    ("inet6:8890@[::1]", Inet("::1", 8890, V6)),
    ("inet6:8890@localhost", Inet("localhost", 8890, V6)),
    ("inet6:8890", Inet(None, 8890, V6)),
    ("Inet6:65535", Inet(None, 65535, V6)),
    ("inet:127.0.0.1:8890", Inet("127.0.0.1", 8890)),
    ("inet:localhost:8890", Inet("localhost", 8890)),
    ("inet:[::1]:8890", Inet("::1", 8890, V6)),
    ("inet6:[::1]:8890", Inet("::1", 8890, V6)),
    ("inet6:localhost:8890", Inet("localhost", 8890, V6)),
    ("inet:[192.0.2.1]:8890", Inet("192.0.2.1", 8890)),
    ("inet:smtp@localhost", Inet("localhost", 25)),
    ("inet:localhost:smtp", Inet("localhost", 25)),
    ("unix:/run/filter.sock", Unix("/run/filter.sock")),
    ("local:/run/filter.sock", Unix("/run/filter.sock")),
    ("LOCAL:/run/filter.sock", Unix("/run/filter.sock")),
    ("/run/filter.sock", Unix("/run/filter.sock")),
    (":/run/filter.sock", Unix("/run/filter.sock")),
    ("unix:/run/a:b@c", Unix("/run/a:b@c")),
    ("/" + "x" * 106, Unix("/" + "x" * 106)),
    ("fd:3", Inherited(3)),
    ("FD:0", Inherited(0)),
    ("fd:smtp-1.socket", Inherited("smtp-1.socket")),
]


@pytest.mark.parametrize(("text", "address"), TAKEN)
def test_what_is_taken(text: str, address: Address) -> None:
    """P-131."""
    assert parse(text) == address
    assert parse(str(address)) == address


REFUSED: Final = [
    "",
    ":",
    "inet",
    "inet:",
    "inet:@",
    "inet:@127.0.0.1",
    "inet:8890@",
    "inet:65536",
    "inet:-1@x",
    "inet:nosuchservice@x",
    "inet:8 8@x",
    "inet:\u0661@x",
    "inet6:",
    "inet:x:70000",
    "unix:",
    "unix:relative",
    "local:relative",
    "relative.sock",
    "unix:/a\0b",
    "/" + "x" * 107,
    "/" + "\u00fc" * 54,
    "fd:",
    "fd:-1",
    "fd:3x",
    "fd:a:b",
    "fd:a b",
    "fd:\u0663",
    "tcp:8890@x",
    "http://127.0.0.1",
    "127.0.0.1:8890",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_quoted_with_what_was_expected(text: str) -> None:
    """P-131."""
    with pytest.raises(AddressError, match="expected") as found:
        parse(text)
    assert isinstance(found.value, ValueError)
    assert re.escape(repr(text)[1:20])[:10] in re.escape(str(found.value))
    assert "\n" not in str(found.value)


FORMS: Final = "inet:PORT@HOST, inet:HOST:PORT, inet6:PORT@HOST, unix:/PATH or fd:NUMBER"
PATH: Final = "the absolute path of a socket, as in unix:/run/filter.sock"
FD: Final = "a descriptor or the name of a socket that systemd hands over, as in fd:3 or fd:milter"
AS_IN: Final = ", as in inet:8890@127.0.0.1"


def port(found: str) -> str:
    return f"a port number or the name of a TCP service, found {found!r}"


def host(found: str) -> str:
    return f"a host name or an IP address, found {found!r}"


LOCAL: Final = "inet:8890@127.0.0.1"
# A text, what it says was expected, and what is to be written instead.
WRONG: Final[list[tuple[str, str, str]]] = [
    # No kind at all.
    ("8890", FORMS, LOCAL),
    ("\uff18\uff18\uff19\uff10", FORMS, LOCAL),
    ("127.0.0.1:8890", FORMS, LOCAL),
    ("localhost:8890", FORMS, "inet:8890@localhost"),
    ("mx.example:8890", FORMS, "inet:8890@mx.example"),
    ("8890@127.0.0.1", FORMS, LOCAL),
    ("127.0.0.1@8890", FORMS, LOCAL),
    ("8890:127.0.0.1", FORMS, LOCAL),
    ("localhost 8890", FORMS, "inet:8890@localhost"),
    ("127.0.0.1:smtp", FORMS, "inet:smtp@127.0.0.1"),
    (":8890", FORMS, "inet:8890"),
    ("*:8890", FORMS, "inet:8890"),
    ("0.0.0.0:8890", FORMS, "inet:8890@0.0.0.0"),
    ("[::1]:8890", FORMS, "inet6:8890@::1"),
    ("::1:8890", FORMS, "inet6:8890@::1"),
    ("8890@::1", FORMS, "inet6:8890@::1"),
    ("127.0.0.1", FORMS, "inet:PORT@127.0.0.1"),
    ("localhost", FORMS, "inet:PORT@localhost"),
    ("::1", FORMS, "inet6:PORT@::1"),
    ("127.0.0.1:99999", FORMS, ""),
    # Another kind.
    ("tcp:8890", FORMS, LOCAL),
    ("tcp:8890@x", FORMS, "inet:8890@x"),
    ("tcp:127.0.0.1:8890", FORMS, LOCAL),
    ("tcp4:127.0.0.1:8890", FORMS, LOCAL),
    ("TCP6:[::1]:8890", FORMS, "inet6:8890@::1"),
    ("tcp6:8890", FORMS, LOCAL),
    ("tcp://127.0.0.1:8890", FORMS, LOCAL),
    ("http://127.0.0.1:8890", FORMS, LOCAL),
    ("http://127.0.0.1:8890/path", FORMS, LOCAL),
    ("http://127.0.0.1", FORMS, "inet:PORT@127.0.0.1"),
    ("inet4:127.0.0.1:8890", FORMS, LOCAL),
    ("ipv6:[::]:8890", FORMS, "inet6:8890@::"),
    ("milter:127.0.0.1:8890", FORMS, LOCAL),
    ("file:///run/x", FORMS, "unix:/run/x"),
    ("socket:/run/x", FORMS, "unix:/run/x"),
    ("inet 8890", FORMS, LOCAL),
    ("inet=8890@x", FORMS, "inet:8890@x"),
    ("fd=3", FORMS, "fd:3"),
    ("systemd:milter", FORMS, ""),
    ("C:\\x", FORMS, ""),
    # Mixed orders, no brackets, blanks, remains of a file.
    ("inet:127.0.0.1@8890", port("127.0.0.1"), LOCAL),
    ("inet:localhost@8890", port("localhost"), "inet:8890@localhost"),
    ("inet:8890:127.0.0.1", port("127.0.0.1"), LOCAL),
    ("inet:8890:localhost", port("localhost"), "inet:8890@localhost"),
    ("inet:::1", port("::1"), "inet6:PORT@::1"),
    ("inet6:::1", port("::1"), "inet6:PORT@::1"),
    ("inet6:[::1]", port("[::1]"), "inet6:PORT@::1"),
    ("inet:::1:8890", port("::1:8890"), "inet6:8890@::1"),
    ("inet6:::1:8890", port("::1:8890"), "inet6:8890@::1"),
    ("inet6:2001:db8::1:8890", port("2001:db8::1:8890"), "inet6:8890@2001:db8::1"),
    ("inet6:8890:::1", port("8890:::1"), "inet6:8890@::1"),
    ("inet6:::1@8890", port("::1"), "inet6:8890@::1"),
    ("inet:8890@::1", "inet6: before an IPv6 address, found '::1'", "inet6:8890@::1"),
    ("inet:8890@[::1]", "inet6: before an IPv6 address, found '::1'", "inet6:8890@::1"),
    ("inet:8890@[::1", host("[::1"), "inet6:8890@::1"),
    ("inet6:8890@::1]", host("::1]"), "inet6:8890@::1"),
    ("inet6:8890@::g", host("::g"), ""),
    ("inet: 8890@127.0.0.1", port(" 8890"), LOCAL),
    ("inet:8890 @127.0.0.1", port("8890 "), LOCAL),
    ("inet:8890@ 127.0.0.1", host(" 127.0.0.1"), LOCAL),
    ("inet:8890@127.0.0.1 ", host("127.0.0.1 "), LOCAL),
    (" inet:8890@127.0.0.1", FORMS, LOCAL),
    ("inet:8890@127.0.0.1\n", host("127.0.0.1\n"), LOCAL),
    ("inet:8890@my host", host("my host"), ""),
    ("inet:my host:8890", host("my host"), ""),
    ("inet:8890@x/", host("x/"), "inet:8890@x"),
    ("inet://127.0.0.1:8890", host("//127.0.0.1"), LOCAL),
    ("inet:8890@127.0.0.1, F=T", host("127.0.0.1, F=T"), LOCAL),
    ("S=inet:8890@localhost, F=T", FORMS, "inet:8890@localhost"),
    ("smtpd_milters = inet:127.0.0.1:8890", FORMS, "inet:127.0.0.1:8890"),
    ("{ inet:127.0.0.1:8890, command_timeout=3s }", FORMS, "inet:127.0.0.1:8890"),
    ("'unix:/run/x'", FORMS, "unix:/run/x"),
    ("inet:8890@host:25", host("host:25"), ""),
    ("inet:8890@*", host("*"), "inet:8890"),
    ("inet:*:8890", host("*"), "inet:8890"),
    ("inet::8890", port(":8890"), "inet:8890"),
    # Ports.
    ("inet:\uff18\uff18\uff19\uff10@127.0.0.1", port("\uff18\uff18\uff19\uff10"), LOCAL),
    ("inet:127.0.0.1", port("127.0.0.1"), "inet:PORT@127.0.0.1"),
    ("inet:localhost", port("localhost"), "inet:PORT@localhost"),
    ("inet:@127.0.0.1", port(""), "inet:PORT@127.0.0.1"),
    ("inet:@8890", port(""), "inet:8890"),
    ("inet:8890@", "a host after the @", "inet:8890"),
    ("inet:nosuchservice@x", port("nosuchservice"), ""),
    ("inet:8890-8891@x", port("8890-8891"), ""),
    ("inet:0x22ba@x", port("0x22ba"), ""),
    ("inet:\u0661@x", port("\u0661"), ""),
    ("inet:\0@x", port("\0"), ""),
    ("inet:65536", "a port of 0 to 65535, found 65536", "-"),
    ("inet:x:70000", "a port of 0 to 65535, found 70000", "-"),
    ("inet:-1@x", "a port of 0 to 65535, found -1", "-"),
    # Paths.
    ("unix:", PATH, ""),
    ("local:", PATH, ""),
    ("", PATH, ""),
    ("filter.sock", PATH, ""),
    ("run/filter.sock", PATH, ""),
    ("./filter.sock", PATH, ""),
    ("~/filter.sock", PATH, ""),
    ("unix:filter/sock", PATH, ""),
    ("unix: /run/x", PATH, "unix:/run/x"),
    ("unix=/run/x", PATH, "/run/x"),
    ("unix:localhost:8890", FORMS, "inet:8890@localhost"),
    ("inet:/run/x", port("/run/x"), "unix:/run/x"),
    ("@abstract", f"{PATH}: no mail server finds an abstract one", ""),
    ("unix:@abstract", f"{PATH}: no mail server finds an abstract one", ""),
    ("unix:\0abstract", f"{PATH}: no mail server finds an abstract one", ""),
    ("unix:/a\0b", PATH, ""),
    ("/" + "x" * 107, "a path of at most 107 octets", ""),
    # Descriptors.
    ("fd:", FD, ""),
    ("fd:-1", FD, ""),
    ("fd:3x", FD, ""),
    ("fd: 3", FD, "fd:3"),
    ("fd:2147483648", "a descriptor of 0 to 2147483647, found 2147483648", ""),
]


@pytest.mark.parametrize(("text", "expected", "right"), WRONG)
def test_what_was_meant_is_said(text: str, expected: str, right: str) -> None:
    """P-131: one line with the right form."""
    with pytest.raises(AddressError) as found:
        parse(text)
    of_tcp = expected.startswith(("a port number", "a host"))
    tail = f"; write {right}" if right not in ("", "-") else AS_IN if of_tcp else ""
    assert str(found.value) == f"{text!r:.200}: expected {expected}{tail}"
    if tail.startswith(";"):
        assert parse(right.replace("PORT", "8890"))


LONG: Final = [
    "inet:" + "9" * 5000,
    "fd:" + "9" * 5000,
    "inet:" + "x" * 5000,
    "9" * 5000,
    "x" * 100_000,
    "inet:1@" + "x " * 9999,
]


@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:8])
def test_a_text_without_end_is_a_line_with_one(text: str) -> None:
    """Python makes no number of more than 4300 digits, and says so by another error."""
    with pytest.raises(AddressError) as found:
        parse(text)
    assert len(str(found.value)) < 700


def test_a_host_too_long_for_the_dns_is_for_whoever_looks_it_up() -> None:
    assert parse("inet:1@" + "x" * 300) == Inet("x" * 300, 1)


@given(st.text(max_size=40) | st.text(alphabet="inet6unix:fd@[]/.0123456789", max_size=30))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    """P-131."""
    try:
        address = parse(text)
    except AddressError:
        return
    assert parse(str(address)) == address


@pytest.mark.parametrize("wrong", [8890, b"inet:8890", None, ("inet:8890",)], ids=repr)
def test_what_is_not_a_text_is_refused_as_such(wrong: Any) -> None:
    with pytest.raises(TypeError) as caught:
        parse(wrong)
    assert str(caught.value) == f"socket: expected a text such as 'inet:8890@127.0.0.1', found {wrong!r}"
