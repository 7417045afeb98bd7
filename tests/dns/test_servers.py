import subprocess
import sys

import pytest

from aiomilter.dns import CachingResolver, resolver
from aiomilter.dns.servers import _parse_server
from aiomilter.exceptions import AddressError


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_a_server_is_an_address_and_perhaps_a_port(text: str, server: tuple[str, int]) -> None:
    assert _parse_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[127.0.0.1]:53", "[::1", "1:2", "::1:x"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="expected a nameserver"):
        resolver(text)


def test_a_resolver_needs_a_server() -> None:
    with pytest.raises(AddressError, match="at least one"):
        resolver()


@pytest.mark.parametrize("backend", ["dnspython", "aiodns"])
def test_a_resolver_caches(backend: str) -> None:
    pytest.importorskip(backend if backend == "aiodns" else "dns")
    assert isinstance(resolver("127.0.0.1", backend=backend), CachingResolver)  # type: ignore[arg-type]  # a str here


def test_the_interface_imports_no_dns_library() -> None:
    code = "import sys, aiomilter.dns; print(sorted({'dns', 'aiodns', 'pycares', 'idna'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
