"""resolv.conf, line by line as glibc 2.36 reads it (res_ninit of each was looked at)."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from aiomilter.dns import CachingResolver, system_resolver
from aiomilter.dns.dnspython import DnspythonResolver
from aiomilter.dns.resolv_conf import read_nameservers, system_servers
from aiomilter.exceptions import ResolverFailure
from tests.dns.test_backends import BACKENDS

TAKEN = [
    ("nameserver 192.0.2.1", "192.0.2.1"),
    ("nameserver\t192.0.2.1", "192.0.2.1"),
    ("nameserver \t 192.0.2.1 \t", "192.0.2.1"),
    ("nameserver 192.0.2.1 # ours", "192.0.2.1"),
    ("nameserver 192.0.2.1 192.0.2.2", "192.0.2.1"),
    ("nameserver 127.1", "127.0.0.1"),
    ("nameserver 0x7f.1", "127.0.0.1"),
    ("nameserver 2130706433", "127.0.0.1"),
    ("nameserver 010.0.0.1", "8.0.0.1"),
    ("nameserver 0", "0.0.0.0"),
    ("nameserver 2001:DB8::1", "2001:db8::1"),
    ("nameserver ::ffff:192.0.2.1", str(ip_address("::ffff:192.0.2.1"))),
    ("nameserver fe80::1%lo", "fe80::1%lo"),
    ("nameserver fe80::1%1", "fe80::1%1"),
    ("nameserver fe80::1%", "fe80::1"),
    ("nameserver fe80::1%lo/x", "fe80::1"),
    ("nameserver 2001:db8::1%lo", "2001:db8::1"),
]
PASSED_OVER = [
    "nameserver",
    "nameserver ",
    " nameserver 192.0.2.1",
    "nameserver=192.0.2.1",
    "nameservers 192.0.2.1",
    "nameserver\v192.0.2.1",
    "NAMESERVER 192.0.2.1",
    "nameserver 127.0.0.1:5353",
    "nameserver 192.0.2.1#53",
    "nameserver 192.0.2.1# ours",
    "nameserver 192.0.2.1;",
    "nameserver 192.0.2.1\r",
    "nameserver 192.0.2.1%lo",
    "nameserver 192.0.2.400",
    "nameserver [::1]",
    "nameserver ::1/128",
    "nameserver dns.example",
    "nameserver \u0661.0.2.1",
    "nameserver 192.0.2.1\0",
]
UNNOTICED = [
    "",
    "# nameserver 192.0.2.1",
    "; nameserver 192.0.2.1",
    "search nameserver 192.0.2.1",
    "options edns0",
    "\0",
]


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr("aiomilter.dns.resolv_conf._PATH", path)
    return path


@pytest.mark.parametrize(("line", "address"), TAKEN)
def test_a_line_that_the_c_library_takes_is_taken(line: str, address: str) -> None:
    assert read_nameservers(f"{line}\n") == ([address], [])


@pytest.mark.parametrize("line", PASSED_OVER)
def test_a_line_that_it_passes_over_is_passed_over_and_named(line: str) -> None:
    text = f"search example\n{line}\nnameserver ::1"

    assert read_nameservers(text) == (["::1"], [(2, line)])


@pytest.mark.parametrize("line", UNNOTICED)
def test_other_lines_are_not_of_nameservers(line: str) -> None:
    assert read_nameservers(f"{line}\nnameserver ::1\n") == (["::1"], [])


def test_the_first_three_servers_count() -> None:
    text = "".join(f"nameserver 192.0.2.{last}\nnameserver x\n" for last in range(1, 6))

    servers, passed_over = read_nameservers(text)

    assert servers == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert [number for number, _ in passed_over] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bad_line_is_named_in_one_warning_and_the_others_are_asked(resolv_conf: Path, backend: str) -> None:
    resolv_conf.write_bytes(b"nameserver 127.0.0.1:5353\nnameserver 192.0.2.1\nnameserver \xff\x1b\nnameserver ::1\n")
    pytest.importorskip(backend if backend == "aiodns" else "asyncio")

    with pytest.warns(RuntimeWarning) as warned:
        resolver = system_resolver(backend=backend)  # type: ignore[arg-type]  # a str here

    (message,) = [str(warning.message) for warning in warned]
    assert message.endswith(r"'nameserver 127.0.0.1:5353' (line 1), 'nameserver \\xff\x1b' (line 3)")
    assert str(resolv_conf) in message
    below = resolver._resolver
    servers = below._servers if isinstance(below, DnspythonResolver) else below._others._servers  # type: ignore[attr-defined]
    assert [server.address for server in servers] == [("192.0.2.1", 53), ("::1", 53)]


def test_a_warning_of_many_lines_is_short(resolv_conf: Path) -> None:
    resolv_conf.write_text("nameserver ::1\n" + f"nameserver {'x' * 500}\n" * 50)

    with pytest.warns(RuntimeWarning, match="and 47 more$") as warned:
        system_servers()

    assert len(str(warned[0].message)) < 800


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot read '.*resolv.conf': No such file or directory$"),
        ("", "'.*resolv.conf' names no nameserver$"),
        ("search example\n", "'.*resolv.conf' names no nameserver$"),
        (
            "nameserver x\n",
            r"names no nameserver; expected 'nameserver' and an IP address, found 'nameserver x' \(line 1\)$",
        ),
    ],
)
def test_without_a_server_there_is_no_resolver(resolv_conf: Path, backend: str, text: str | None, problem: str) -> None:
    pytest.importorskip(backend if backend == "aiodns" else "asyncio")
    if text is not None:
        resolv_conf.write_text(text)

    with pytest.raises(ResolverFailure) as failure:
        system_resolver(backend=backend)  # type: ignore[arg-type]  # a str here

    assert re.search(problem, str(failure.value))
    assert "\n" not in str(failure.value)


def test_a_directory_is_not_read(resolv_conf: Path) -> None:
    resolv_conf.mkdir()

    with pytest.raises(ResolverFailure, match="cannot read"):
        system_resolver()


def test_the_system_names_its_nameservers(resolv_conf: Path) -> None:
    resolv_conf.write_text("nameserver 127.0.0.53\nnameserver ::1\noptions edns0 trust-ad\n")

    assert system_servers() == [("127.0.0.53", 53), ("::1", 53)]
    assert isinstance(system_resolver(), CachingResolver)
