"""Our submodules and pymilter's get the same arguments and answer alike; what we do better is listed."""

import importlib
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomilter.compat import MODULES
from tests.compat.plays import play
from tests.compat.rigs import pymilter
from tests.compat.rigs.calls import Pymilter
from tests.programs import need

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def ours(name: str) -> ModuleType:
    return importlib.import_module(MODULES[name])


@pytest.fixture(scope="session")
def theirs() -> Iterator[Pymilter]:
    need(pymilter.missing())
    with Pymilter(pymilter.PYTHON) as process:
        yield process


def test_addresses_and_header_values(theirs: Pymilter) -> None:
    calls: dict[str, Sequence[str | None]] = {
        "parse_addr": ADDRESSES,
        "parseaddr": MAILBOXES,
        "parse_header": HEADERS,
        "addr2bin": ["192.0.2.1", "127.1", "::1", "", "x", "256.1.1.1"],
        "inet_pton": ["::1", "192.0.2.1", "::ffff:192.0.2.1", "x", "1::2::3"],
        "decode": ["", None, "YWJj", "YWI", "Y", "Y W\nJj", "*"],
    }
    for function, texts in calls.items():
        for text in texts:
            arguments = ("call", "Milter.utils", function, text)
            assert play(ours, *arguments) == theirs.play(*arguments), arguments


ADDRESSES = [
    "", "<>", "<a@b>", "a@b", "<a@b", "a@b>", '"a b"@c', '<"a b"@c>', "<@x,@y:a@b>", "@x:a@b", "@", "a@", "@b", "a@b@c",
    '"a@b"@c', '"a@b', 'a"@b"@c', "a@b:c@d", "<postmaster>", "x:a@b", '"a\\"b"@c', '"@x:a"@b', "<<a@b>>", " <a@b> ",
    '""@x', '""', '"', "a@[192.0.2.1]", "<@x:>", "@x:@y:a@b", ":a@b", '"a"@"b"@c', "@user@example.com",
]  # fmt: skip
MAILBOXES = [
    "", "a@b", "<a@b>", "X <a@b>", '"X Y" <a@b>', "a@b (X)", "(X) a@b", "X", "X Y", "X <a@b", "=?utf-8?q?f=C3=BC?= <a@b>",
    "X <@h:a@b>", '"X \\"q\\" Y" <a@b>', "X, Y <a@b>", "a@b, c@d", "X ((c)) <a@b>", "X@Y <a@b>", "X. Y <a@b>", "(", "<",
    "X\n Y <a@b>", "X <<a@b>>", '"a@b" <c@d>', "a@b@c", "X < a@b >", "a, b <>", ",<a@b>", "a@b<c@d>", "a@b <<c@d>>",
]  # fmt: skip
HEADERS = [
    "", "abc", "=?utf-8?q?f=C3=BC?=", "=?utf-8?q?f=FC?=", "=?utf-8?b?Zm9v?= =?utf-8?b?YmFy?=", "x =?utf-8?b?Zm9v?= y",
    "=?utf-8?b?*?=", "=?nonsense?q?foo?=", "=?nonsense?q?f=FC?=", "=?utf-8?x?foo?=", "=?us-ascii?q?f=FC?=", "a\n b",
    "=?utf-8?q?a?=\n =?utf-8?q?b?=", "f\xfc", "f\udcfc", "=?rot13?q?nop?=", "=?utf-8?q?=00?=", "=?utf-8?b?a?=",
    "=?utf-8?q?f=C3?= =?utf-8?q?=BC?=", "=?unknown-8bit?q?f=FC?=", "=??q?foo?=", "=?idna?q?xn--a?=",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.text('@"<>:,ab. ', max_size=12))
def test_any_envelope_address(theirs: Pymilter, text: str) -> None:
    arguments = ("call", "Milter.utils", "parse_addr", text)
    assert play(ours, *arguments) == theirs.play(*arguments)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", "B c", ".", "@", ",", " ", "=?utf-8?q?=C3=A4?=", "'", "-", ";"]), max_size=8))
def test_any_name_before_an_address(theirs: Pymilter, name: list[str]) -> None:
    arguments = ("call", "Milter.utils", "parseaddr", "".join(name) + "<local@example.org>")
    assert play(ours, *arguments) == theirs.play(*arguments)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["=?utf-8?q?", "=?latin-1?B?", "?=", "ab=", "=E4", "YQ==", " ", "\n ", "=?", "?"]), max_size=8
    )
)
def test_any_encoded_words(theirs: Pymilter, parts: list[str]) -> None:
    arguments = ("call", "Milter.utils", "parse_header", "".join(parts))
    assert play(ours, *arguments) == theirs.play(*arguments)


IPV4 = st.integers(0, 3).map(lambda last: f"192.0.2.{last}")
PATTERNS = st.lists(
    st.builds("{}{}".format, IPV4, st.sampled_from(["", "/8", "/24", "/31", "/32", "/99", "*"]))
    | st.sampled_from(["192.0.2.*", "*", "192.0.?.1", "", "192.0.2", "x/y", "2001:db8::1", "2001:db8::/32", "no_name"]),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(IPV4 | st.sampled_from(["2001:db8::1", "2001:DB8::1", "::ffff:192.0.2.1", "x", "192.0.2", ""]), PATTERNS)
def test_any_client_in_any_list(theirs: Pymilter, client: str, patterns: list[str]) -> None:
    arguments = ("call", "Milter.utils", "iniplist", client, patterns)
    assert play(ours, *arguments) == theirs.play(*arguments)


BETTER_LISTS = {
    "an IPv6 client is not an IPv4 one with the same last octets": ("2001:db8::192.0.2.1", ["192.0.2.1"], True, False),
    "nor the other way round": ("192.0.2.1", ["::192.0.2.1"], True, False),
    "an IPv6 client is in no IPv4 network": ("2001:db8::1", ["0.0.0.0/0"], True, False),
    "an IPv4 client is in no IPv6 network": ("192.0.2.1", ["::/0"], True, False),
    "an IPv4 address may be listed as IPv6": ("192.0.2.1", ["::ffff:192.0.2.0/120"], False, True),
}


@pytest.mark.parametrize(("client", "patterns", "there", "here"), BETTER_LISTS.values(), ids=BETTER_LISTS)
def test_lists_of_clients_where_ours_are_better(
    theirs: Pymilter, client: str, patterns: list[str], there: bool, here: bool
) -> None:
    arguments = ("call", "Milter.utils", "iniplist", client, patterns)
    assert (theirs.play(*arguments), play(ours, *arguments)) == (there, here)


BETTER_HEADERS = {
    "octets outside of encoded words": ("=?utf-8?q?a?= \udcfc", "a \\udcfc", "a \udcfc"),
    "other scripts outside of encoded words": ("=?utf-8?q?a?= \u0141", "a \\u0141", "a \u0141"),
    "Latin-1 outside of encoded words": ("=?utf-8?q?a?= \xfc", "=?utf-8?q?a?= \xfc", "a \xfc"),
}


@pytest.mark.parametrize(("value", "there", "here"), BETTER_HEADERS.values(), ids=BETTER_HEADERS)
def test_header_values_where_ours_are_better(theirs: Pymilter, value: str, there: str, here: str) -> None:
    arguments = ("call", "Milter.utils", "parse_header", value)
    assert (theirs.play(*arguments), play(ours, *arguments)) == (there, here)


BETTER_MAILBOXES = {
    "white space at the end": ("a@b <c@d> ", ("", "a@b"), ("a@b", "c@d")),
    "an address and a comment before the address": ("a@b (X) <c@d>", ("X", "a@b"), ("a@b (X)", "c@d")),
    "a quote that is left open": ('"a, b <c@d>', ("", ""), ("a, b", "c@d")),
}


@pytest.mark.parametrize(("value", "there", "here"), BETTER_MAILBOXES.values(), ids=BETTER_MAILBOXES)
def test_mailboxes_where_ours_are_better(theirs: Pymilter, value: str, there: object, here: object) -> None:
    arguments = ("call", "Milter.utils", "parseaddr", value)
    assert (theirs.play(*arguments), play(ours, *arguments)) == (there, here)


ADDRESS_TEXTS = (
    st.text("0123456789abF:.", max_size=15)
    | st.builds(lambda number: IPv6Address(number).compressed, st.integers(0, 2**128 - 1))
    | st.builds(lambda shift: IPv6Address(0xFFFF << shift).compressed.upper(), st.integers(0, 112))
)


@settings(max_examples=300, deadline=None)
@given(ADDRESS_TEXTS)
def test_the_patterns_of_addresses(theirs: Pymilter, text: str) -> None:
    for pattern in ("ip4re", "ip6re", "dnsre"):
        arguments = ("matches", "Milter.utils", pattern, text)
        assert play(ours, *arguments) == theirs.play(*arguments), pattern


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-1, 33))
def test_networks(theirs: Pymilter, address: int, length: int) -> None:
    arguments = ("call", "Milter.utils", "cidr", address, length)
    assert play(ours, *arguments) == theirs.play(*arguments)


OPTIONS = """\
[DEFAULT]
inherited = 7
[s]
one = 1
refers = to %(one)s
percent = 50%%
list = one, b , ,c
empty =
lines = a,
  b,
  c
set = a@b, file:names, C@D, c@d
bare = a
two = a@b@c
names = file:names
missing = file:missing
map = k1, k2, k3,
k1 = x@y.org, X@Z, w
k2 = file:names
k3 = v@y.org, w
yes = yes
negative = -3
"""


def test_configuration(theirs: Pymilter) -> None:
    options = [line.split(" = ")[0] for line in OPTIONS.splitlines() if " = " in line] + ["absent", "other"]
    asked: list[tuple[object, ...]] = [
        (method, section, option)
        for method in ("get", "getlist", "getaddrset", "getaddrdict", "getdefault", "getintdefault", "has_option")
        for section in ("s", "absent")
        for option in options
    ]
    asked += [
        ("get", "s", "absent", "fallback"),
        ("getdefault", "s", "absent", "fallback"),
        ("getintdefault", "s", "absent", 4),
        ("getaddrset", "s", "set", "/nowhere"),
        ("getboolean", "s", "yes"),
        ("sections",),
        ("items", "s"),
    ]
    files = {"names": "alice\nbob@example.com\n\n# comment\n  carol  \nX@Y.Com\n"}
    arguments = ("configuration", OPTIONS, files, {"other": "value"}, asked)
    assert play(ours, *arguments) == theirs.play(*arguments)


def test_locked_files(theirs: Pymilter) -> None:
    steps = [
        ("lock",), ("write", "new\n"), ("commit",), ("lock",), ("write", "newer\n"), ("commit", "file.bak"),
        ("lock",), ("unlock",), ("unlock",), ("commit",), ("lock", "other.lock"), ("commit",), ("lock", None, 0o666),
        ("commit",), ("lock", None, 0o600), ("commit",), ("wlock",), ("unlock",), ("lock",), ("lock",), ("unlock",),
    ]  # fmt: skip
    arguments = ("locking", steps)
    assert play(ours, *arguments) == theirs.play(*arguments)


@pytest.mark.parametrize("renew", [3, 7, 30])
def test_remembered_addresses(theirs: Pymilter, renew: int) -> None:
    lines = [("new@x", 1.0), ("mid@x", 5.0), ("old@x", 10.0), ("plain@x", None), ("dom.org", None), ("UP@x", 2.0)]
    lines += [("UP2@x", None), ("new@x", 3.0), ("#c", None), ("*@w", None)]
    asked = [
        "new@x",
        "mid@x",
        "old@x",
        "plain@x",
        "u@dom.org",
        "u@s.dom.org",
        "dom.org",
        "up@x",
        "UP@X",
        "up2@x",
        "a@w",
    ]
    asked += ["*@w", "x", "set@x", "SET@x", "res@x"]
    asked += ["n@x", "e@x", "p@x", "q@x", "none@x", ""]
    methods = ("has_key", "__contains__", "has_precise_key", "__getitem__")
    steps: list[tuple[object, ...]] = [(method, key) for key in asked for method in methods] + [("__len__",)]
    changes = [("set@x", None), ("res@x", "r"), ("n@x", 550), ("e@x", "")]
    steps += [("__setitem__", *change) for change in changes] + [("addperm", "p@x"), ("addperm", "q@x", "r")] + steps
    # The null sender counts once it was set; what a file has takes the place of all that was.
    steps += [("__setitem__", "", 1), *((method, "") for method in methods), ("__len__",), ("load", "list"), *steps]
    steps += [("load", "none"), ("__len__",), ("has_key", None), ("has_precise_key", None)]
    arguments = ("caching", lines, renew, steps)
    assert play(ours, *arguments) == theirs.play(*arguments)


TIMES = [0, 59, 61, 64, 66, 604, 606, 3599, 3601, 14399, 14401, 86399, 86401, 3110399, 3110401, 3120000]
CHECKS = st.tuples(
    st.just("check"),
    st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    st.sampled_from("sS"),
    st.just("r"),
    st.sampled_from(TIMES),
)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([{}, {"grey_time": 1, "grey_expire": 1, "grey_retain": 1}]),
    st.lists(CHECKS | st.tuples(st.just("clean"), st.sampled_from(TIMES)), max_size=20),
)
def test_any_greylisted_messages(theirs: Pymilter, options: dict[str, int], steps: list[tuple[object, ...]]) -> None:
    arguments = ("greylisting", options, steps)
    assert play(ours, *arguments) == theirs.play(*arguments)


OCTETS = st.lists(st.sampled_from([b"\0\0", b"\0\0", b"\0\1", b"\x20\x01", b"\xff\xff"]), min_size=8, max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    OCTETS.map(b"".join),
    st.sampled_from(["", "x", "1", "::", "192.0.2.1", "1::2::3", "::192.0.2.256", "1:2:3:4:5:6:7:8"]),
)
def test_addresses_as_text_and_octets(theirs: Pymilter, octets: bytes, text: str) -> None:
    written = play(ours, "call", "Milter.pyip6", "inet_ntop", octets)
    for read in (written, text, str(written).upper()):
        arguments = ("call", "Milter.pyip6", "inet_pton", read)
        answer = theirs.play(*arguments)
        # struct.error there.
        assert play(ours, *arguments) == ("raises ValueError" if answer == "raises error" else answer)


HOSTS = [
    ("post3.fabulousdealz.com", "69.60.99.112"),
    ("adsl-69-208-201-177.dsl.emhril.ameritech.net", "69.208.201.177"),
    ("[1.2.3.4]", "1.2.3.4"),
    ("c-71-63-151-151.hsd1.mn.comcast.net", "71.63.151.151"),
    ("p5B3DDD2A.dip0.t-ipconnect.de", "91.61.221.42"),
    ("dslb-091-061-221-042.pools.arcor-ip.net", "91.61.221.42"),
    ("ec2-54-1-2-3.compute-1.amazonaws.com", "54.1.2.3"),
    ("unknown", "192.0.2.10"),
    ("192.0.2.10", "192.0.2.10"),
    ("localhost", "127.0.0.1"),
    ("x.example.com", ""),
]


NAMES = """\
mail 192-0-2-10 192.0.2.10 10.2.0.192 10-2-0-192 host10 mx2 c000020a C000020A 192000002010 ip-2-10 h-2.10 mail-10 2-10 0-2-10
mail10.dsl dhcp x.dhcp dyn x.dynamic pool-192-0-2-1 pool x.pool cable x.cable dialup ppp5 a-b-c h001122aabbcc no-reverse user10
cust10 10 static-192-0-2-10 adsl x.adsl smtp-out-10 o10 a10-2.smtp-out mail-wm1-f10
"""
HOSTS += [(f"{name}.example.com", "192.0.2.10") for name in NAMES.split()]


@pytest.mark.parametrize(("host", "address"), HOSTS)
def test_names_made_from_addresses(theirs: Pymilter, host: str, address: str) -> None:
    arguments = ("call", "Milter.dynip", "is_dynip", host, address)
    assert play(ours, *arguments) == theirs.play(*arguments)


KEYS = st.sampled_from(["p!a@b", "p!A@b", "p!b", "p!", "p", "q!a@b", "q", "q!b", "p!a@b\0", "p!b\0", "p\0"]).map(
    str.encode
)
ASKED = st.tuples(st.sampled_from(["a@b", "A@b", "a@B", "x@c", "b", ""]), st.sampled_from(["p", "q", ""]))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(KEYS, st.sampled_from([b"OK", b"REJECT\0", b"", b"ERROR:550 no"])), st.booleans(), st.lists(ASKED)
)
def test_any_policies(theirs: Pymilter, records: dict[bytes, bytes], nulls: bool, asked: list[tuple[str, str]]) -> None:
    arguments = ("policies", records, nulls, asked)
    assert play(ours, *arguments) == theirs.play(*arguments)


CALLBACKS = ("connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom")
MESSAGE = b"From: a@b\nSubject: hi\nX-Fold: a\n b\n\nbody\n"
ANSWERS = [
    "",
    *(f"return Milter.{name}" for name in ("REJECT", "ACCEPT", "TEMPFAIL", "SKIP", "DISCARD")),
    "return None",
]
LOOKED_AT = ("_body", "_msg", "_reply", "_sender", "_addrcpt", "_delrcpt", "_bodyreplaced", "_headerschanged")
DONE = [
    *("self.addrcpt('<n@x>')", "self.delrcpt('<o@x>')", "self.chgfrom('<f@x>')", "self.replacebody(b'new')"),
    *("self.setreply('550', '5.7.1', 'no')", "self.setreply('550', None)", "self.setreply('550', '5.1.1', '100%')"),
    *("self.progress()", "self.setsymlist(0, 'i')", "self.addheader(5)", "self.getsymval('{x}')"),
]
STEPS: dict[str, tuple[object, ...]] = {
    "envfrom": ("<s@x>",), "envrcpt": ("<r@x>",), "data": (), "header": ("X", "y"), "eoh": (), "feed_body": (b"body\n",),
    "eom": (), "abort": (), "close": (), "feedFile": (MESSAGE, "s@x", "r@x", "r2@x"), "helo": ("other",),
}  # fmt: skip


def without_the_client(told: object, base: bool) -> object:
    """pymilter's context gives the address as a text, and its base any family; a real connection does neither."""
    assert isinstance(told, list)
    for _, seen, state in told:
        if base:
            state.pop("_opts")
            state.pop("_symlist")
        for call in seen:
            if call[0] == "connect":
                del call[2:]
    return told


TESTS = st.tuples(
    st.dictionaries(st.sampled_from((*CALLBACKS, "abort", "close")), st.sampled_from(ANSWERS), max_size=5),
    st.dictionaries(st.sampled_from(CALLBACKS[:-1]), st.sampled_from(["noreply", "nocallback"]), max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(TESTS, st.lists(st.sampled_from(sorted(STEPS)), max_size=5), st.lists(st.sampled_from(LOOKED_AT), max_size=2))
def test_any_filter_in_a_test_with_a_context(
    theirs: Pymilter, filtering: tuple[dict[str, str], dict[str, str]], names: list[str], set_before: list[str]
) -> None:
    steps: list[tuple[object, ...]] = [
        ("set", name, "mine") for name in set_before if name not in ("_addrcpt", "_delrcpt")
    ]
    # Edits need a message, which pymilter's context lacks where no file was fed to it.
    steps += [("_connect",), *((f"_{name}", *STEPS[name]) for name in names)]
    arguments = ("tested", *filtering, steps, False)
    assert without_the_client(play(ours, *arguments), False) == without_the_client(theirs.play(*arguments), False)


@settings(max_examples=300, deadline=None)
@given(TESTS, st.integers(1, 3), st.lists(st.sampled_from(LOOKED_AT), max_size=2))
def test_any_filter_in_a_test_with_a_base(
    theirs: Pymilter, filtering: tuple[dict[str, str], dict[str, str]], messages: int, set_before: list[str]
) -> None:
    steps: list[tuple[object, ...]] = [
        ("set", name, "mine") for name in set_before if name not in ("_addrcpt", "_delrcpt")
    ]
    steps += [("connect",), *(("feedFile", *STEPS["feedFile"]) for _ in range(messages)), ("connect",)]
    arguments = ("tested", *filtering, steps, True)
    assert without_the_client(play(ours, *arguments), True) == without_the_client(theirs.play(*arguments), True)


@pytest.mark.parametrize("base", [False, True], ids=["context", "base"])
@pytest.mark.parametrize("step", ["envrcpt", "eoh", "eom"])
def test_what_a_filter_does_in_a_test(theirs: Pymilter, step: str, base: bool) -> None:
    connect, feed = ("connect", "feedFile") if base else ("_connect", "_feedFile")
    for does in DONE:
        steps: list[tuple[object, ...]] = [(connect,), *2 * [(feed, *STEPS["feedFile"])]]
        arguments: tuple[Any, ...] = ("tested", {"connect": "", step: does}, {}, steps, base)
        found, expected = play(ours, *arguments), theirs.play(*arguments)
        assert without_the_client(found, base) == without_the_client(expected, base), does


SCRIPT = b"<script>x</script>"
DOCUMENTS = st.lists(
    st.sampled_from(
        [SCRIPT, b" ", b"\t", b"\n", b"a", b"=", b"From ", b".", b"word " * 20, b"x" * 80, b"&auml;", b"\r\n"]
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_any_document_without_its_scripts_is_written_alike(theirs: Pymilter, document: bytes) -> None:
    octets = b"Subject: x\nContent-Type: text/html\n\n" + document + SCRIPT
    arguments = ("written", octets, "mime.defang(message)")
    assert play(ours, *arguments) == theirs.play(*arguments)
