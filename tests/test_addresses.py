"""Socket syntax: libmilter's, Postfix's, and what is refused."""

import re
import socket
from typing import Final

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


@given(st.text(max_size=40) | st.text(alphabet="inet6unix:fd@[]/.0123456789", max_size=30))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    """P-131."""
    try:
        address = parse(text)
    except AddressError:
        return
    assert parse(str(address)) == address
