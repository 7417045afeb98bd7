"""What the submodules do beyond what pymilter can show: what is broken there, and what must not go wrong."""

import asyncio
import csv
import gc
import io
import os
import re
import smtplib
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aiomilter.compat.modules.cache import AddrCache
from aiomilter.compat.modules.dns import DNSError, DNSLookup, Session, _Loop
from aiomilter.compat.modules.dsn import create_msg, send_dsn
from aiomilter.compat.modules.dynip import hpats, ip3, is_dynip, rehmac
from aiomilter.compat.modules.greylist import Greylist
from aiomilter.compat.modules.plock import PLock
from aiomilter.compat.modules.policy import MTAPolicy
from aiomilter.compat.modules.pyip6 import inet_ntop, inet_pton
from aiomilter.compat.modules.unsign import unsign
from aiomilter.compat.modules.utils import decode, iniplist, parse_addr, parse_header
from aiomilter.dns import resolver
from tests.dns.server import NameServer, Silence, labels
from tests.patience import PATIENCE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_null_sender_has_an_empty_local_part() -> None:
    assert parse_addr("<>") == [""]


def test_header_text_next_to_encoded_words_stays() -> None:
    assert parse_header("=?utf-8?q?=C3=A4?= \u0141 \udcfc") == "\xe4 \u0141 \udcfc"


def test_base64_line_ends_are_converted() -> None:
    assert decode("YQ0KYg", "\n") == b"a\nb"


def test_names_in_a_list_are_looked_up_in_the_clients_family() -> None:
    assert iniplist("127.0.0.1", ["localhost"])
    assert iniplist("127.9.9.9", ["localhost/8"])
    assert not iniplist("192.0.2.1", ["localhost", "no-such-host.invalid", "-"])


def test_a_client_with_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="fe80::1%lo"):
        iniplist("fe80::1%lo", ["fe80::1"])


def test_names_made_from_ipv6_addresses() -> None:
    assert is_dynip("2001-db8-0-0-1234-5678-9abc-def0.example.com", "2001:db8::1234:5678:9abc:def0")
    assert not is_dynip("mail.example.com", "2001:db8::1234:5678:9abc:def0")


def test_the_patterns_for_names_are_there() -> None:
    assert all(isinstance(pattern, str) for pattern in hpats)
    assert ip3.fullmatch("192")
    assert rehmac.search("h001122aabbcc.example.com")


@pytest.mark.parametrize(
    ("signed", "address"),
    [
        ("SRS0=8Y3CZ=3U=jsconnor.com=bills@bmsi.com", "bills@jsconnor.com"),
        ("srs0+8Y3CZ=3U=example.org=a=b@forwarder.example", "a=b@example.org"),
        ("SRS1=aa=first.example==bb=cc=example.org=user@second.example", "user@example.org"),
        ("prvs=1234abcdef=user@example.org", "user@example.org"),
        ("SES=0123abc=user@example.org", "user@example.org"),
        ("user@example.org", "user@example.org"),
        ("prvs=user@example.org", "prvs=user@example.org"),
        ("SRS0=@example.org", "SRS0=@example.org"),
        ("", ""),
    ],
)
def test_signed_addresses(signed: str, address: str) -> None:
    assert unsign(signed) == address


def test_ipv4_in_ipv6_is_written_as_such() -> None:
    assert inet_ntop(bytes(10) + b"\xff\xff\xc0\x00\x02\x01") == "::FFFF:192.0.2.1"


# Files


def test_an_address_cannot_add_lines_to_the_cache(here: Path) -> None:
    cache = AddrCache(fname="cache")
    cache["a@x\nspammer@y"] = None
    cache.addperm("\udcfc@x")

    again = AddrCache()
    again.load("cache")
    assert "spammer@y" not in again
    assert "\udcfc@x" in again


def test_a_cache_without_a_file_remembers_for_ever_in_memory() -> None:
    cache = AddrCache()
    cache.addperm("a@x")
    assert "a@x" in cache


def test_a_cache_has_a_length_and_loading_begins_anew(here: Path) -> None:
    cache = AddrCache()
    assert len(cache) == 0
    assert not cache
    cache["a@x"] = None
    cache.addperm("b@x")
    assert len(cache) == 2
    (here / "other").write_text("c@x\n")
    cache.load("other")
    assert (len(cache), "a@x" in cache, "c@x" in cache) == (1, False, True)


def test_a_remembered_address_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = AddrCache(renew=7)
    cache["a@x"] = "result"
    cache.addperm("b@x")
    later = time.time() + 8 * 24 * 60 * 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert "a@x" not in cache
    assert "b@x" in cache
    with pytest.raises(KeyError):
        cache["a@x"]


def test_senders_cannot_fill_memory_with_addresses(here: Path) -> None:
    cache = AddrCache()
    (here / "cache").write_text("mine@x\n")
    cache.load("cache")
    cache.fname = None
    long = "x" * 1000
    gc.collect()
    tracemalloc.start()
    try:
        for each in range(20_000):
            cache[f"{each}{long}@x"] = "result"
            cache.addperm(f"{each}{long}@y", each)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 33 * 2**20
    assert [address in cache for address in ("mine@x", f"0{long}@x", f"0{long}@y")] == [True, False, False]
    assert (cache[f"19999{long}@x"], cache[f"19999{long}@y"]) == ("result", 19_999)


def test_an_address_that_is_set_again_is_remembered_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiomilter.compat.modules.cache._MAX_SIZE", 1000)
    cache = AddrCache()
    for address in ("a@x", "b@x", "a@x", "c@x", "d@x", "e@x"):
        cache[address] = address
    assert sorted(cache.cache) == ["a@x", "c@x", "d@x", "e@x"]


def test_a_cache_that_cannot_be_read_is_left_as_it_is(here: Path) -> None:
    (here / "cache").mkdir()
    with pytest.raises(IsADirectoryError):
        AddrCache().load("cache")
    assert sorted(os.listdir()) == ["cache"]


def test_a_first_commit_has_nothing_to_keep(here: Path) -> None:
    lock = PLock("new")
    lock.lock().write("text")
    lock.commit("new.bak")
    assert sorted(os.listdir()) == ["new"]


def test_waiting_for_a_lock_ends_when_it_is_released(here: Path) -> None:
    first, second = PLock("file"), PLock("file")
    first.lock()
    got = threading.Event()

    def wait() -> None:
        second.wlock()
        got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.is_set()
    first.unlock()
    waiter.join(PATIENCE)
    assert got.is_set()
    second.unlock()


def test_a_failed_commit_releases_the_lock(here: Path) -> None:
    (here / "file").touch()
    lock = PLock("file")
    lock.lock()
    with pytest.raises(OSError, match="nowhere"):
        lock.commit("nowhere/file")
    lock.lock()
    lock.unlock()


def test_greylisting_survives_a_failed_statement(here: Path) -> None:
    grey = Greylist("grey.db")
    with pytest.raises(ValueError, match="line 2: expected 7 fields, found 2"):
        grey.import_csv(io.StringIO("192.0.2.1,s,r,1,2,3,\na,b\n"))
    assert grey.check("192.0.2.1", "s", "r") == 0
    grey.close()


def test_greylists_move_by_csv(here: Path) -> None:
    grey = Greylist("grey.db")
    grey.check("192.0.2.1", 'a "quoted" one', "r,r")
    assert grey.check("192.0.2.1", 'a "quoted" one', "r,r", timeinc=700) == 1
    exported = io.StringIO()
    grey.export_csv(exported)
    other = Greylist("other.db")
    other.import_csv(io.StringIO(exported.getvalue()))

    assert [row[:3] for row in csv.reader(io.StringIO(exported.getvalue()))] == [["192.0.2.1", 'a "quoted" one', "r,r"]]
    assert other.check("192.0.2.1", 'a "quoted" one', "r,r", timeinc=800) == 2
    other.close()
    grey.close()


def test_senders_that_are_no_utf8_are_greylisted(here: Path) -> None:
    grey = Greylist("grey.db")
    assert grey.check("192.0.2.1", "\udcfc", "r") == 0
    assert grey.check("192.0.2.1", "\udcfc", "r", timeinc=700) == 1
    grey.close()


def test_threads_and_processes_share_a_greylist(here: Path) -> None:
    grey = Greylist("grey.db")
    grey.check("192.0.2.1", "s", "r", timeinc=-700)
    other = Greylist("grey.db")
    threads = [
        threading.Thread(target=lambda g=g: [g.check("192.0.2.1", "s", "r") for _ in range(50)])
        for g in (grey, other) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert grey.check("192.0.2.1", "s", "r") == 201
    other.close()
    grey.close()


def test_a_greylist_that_cannot_be_opened() -> None:
    with pytest.raises(sqlite3.OperationalError):
        Greylist("/nowhere/grey.db")


POLICIES: dict[str, str | bytes] = {
    "spf!alice@example.org": "OK",
    "spf!example.org": "REJECT",
    "spf!": "DISCARD",
    "bare": "ERROR:550 no",
    "octets!": b"\xff\0",
    "nulls!example.org\0": b"NULLS\0",
}


@pytest.mark.parametrize(
    ("sender", "prefix", "nulls", "policy"),
    [
        ("alice@example.org", "spf", False, "OK"),
        ("bob@Example.Org", "spf", False, "REJECT"),
        ("carol@example.com", "spf", False, "DISCARD"),
        ("carol@example.com", "bare", False, "ERROR:550 no"),
        ("carol@example.com", "none", False, None),
        ("carol@example.com", "octets", False, "\udcff"),
        ("carol@example.org", "nulls", True, "NULLS"),
    ],
)
def test_policies_from_an_access_map(here: Path, sender: str, prefix: str, nulls: bool, policy: str | None) -> None:
    import dbm.dumb

    with dbm.dumb.open("access", "n") as made:
        for key, value in POLICIES.items():
            made[key] = value
    with MTAPolicy(sender, SimpleNamespace(access_file="access", access_file_nulls=nulls)) as policies:
        assert policies.getPolicy(prefix) == policy


KEYS = {
    "p:a@x.example.org": "sender",
    "p:example.net": "domain",
    "p:.example.org": "parent",
    "p:.org": "far",
    "p:": "all",
}


@pytest.mark.parametrize(
    ("sender", "removed", "policy"),
    [
        ("a@x.example.org", (), "sender"),
        ("b@example.net", (), "domain"),
        ("b@x.Example.ORG", (), "parent"),
        ("b@y.x.example.org", (), "parent"),
        ("b@example.org", (), "far"),
        ("b@y.x.example.org", (".example.org",), "far"),
        ("b@x.example.net", (), "all"),
        ("b@org", (), "all"),
        ("b@", (), "all"),
        ("b@x.example.net", ("",), "bare"),
        ("b@" + "x." * 130 + "org", (), "all"),
    ],
)
@pytest.mark.parametrize("colon", [True, False, None])
@pytest.mark.parametrize("nulls", [True, False])
def test_policies_of_parents_and_either_separator(
    here: Path, sender: str, removed: tuple[str, ...], policy: str, colon: bool | None, nulls: bool
) -> None:
    import dbm.dumb

    keys = {key: value for key, value in KEYS.items() if key.removeprefix("p:") not in removed} | {"p": "bare"}
    for separator in "!:":
        end = "\0" if nulls else ""
        with dbm.dumb.open("access", "n") as made:
            for key, value in keys.items():
                made[key.replace(":", separator) + end] = value + end
        conf = SimpleNamespace(access_file="access", access_file_nulls=nulls)
        if colon is not None:
            conf.access_file_colon = colon
        with MTAPolicy(sender, conf) as policies:
            found = policies.getPolicy("p")
        assert found == (policy if colon in (separator == ":", None) else "bare")


def test_without_an_access_map_there_are_no_policies() -> None:
    with MTAPolicy("a@b", SimpleNamespace(access_file=None, access_file_nulls=False)) as policies:
        assert policies.getPolicy("spf") is None


def test_an_access_map_that_cannot_be_opened() -> None:
    conf = SimpleNamespace(access_file="/nowhere/access", access_file_nulls=False)
    with pytest.raises(OSError, match="/nowhere/access"):
        MTAPolicy("a@b", conf).__enter__()


def test_an_access_map_in_berkeley_db(monkeypatch: pytest.MonkeyPatch) -> None:
    class DBError(Exception):
        pass

    class DB:
        def open(self, path: str, flags: int) -> None:
            raise DBError(f"no file {path}")

    library: Any = ModuleType("berkeleydb")
    library.db = SimpleNamespace(DB=DB, DB_RDONLY=1024, DBError=DBError)
    monkeypatch.setitem(sys.modules, "berkeleydb", library)
    with pytest.raises(OSError, match="access map: no file"):
        MTAPolicy("a@b", SimpleNamespace(access_file="access.db", access_file_nulls=False)).__enter__()


@pytest.mark.parametrize("text", ["x", "1::2::3", "fe80::1%lo", "192.0.2.256"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        inet_pton(text)


# DNS and notifications


class Zone:
    """Answers of its own instead of the network's."""

    def __init__(self, **records: list[Any]) -> None:
        self.records, self.asked = records, 0

    def dns(self, name: str, qtype: str, cnames: dict[str, str] | None = None) -> list[Any]:
        self.asked += 1
        return self.records.get(qtype, [])


def test_unknown_record_types_are_refused() -> None:
    with pytest.raises(DNSError, match="SOA"):
        DNSLookup("example.org", "SOA")
    assert Session().dns("example.org", "SPF") == []


def test_names_that_dns_cannot_hold_have_no_records() -> None:
    assert DNSLookup("a..b", "A") == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An SMTP server on smtplib's default port, which refuses recipients at "refused.example"; what it was told."""
    told: list[str] = []

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 mx.example ESMTP\r\n")
            in_data = False
            for line in self.rfile:
                text = line.decode().rstrip()
                told.append(text)
                if in_data and text != ".":
                    continue
                in_data = text == "data"
                answer = "354 go on" if in_data else "550 5.1.1 nobody" if "refused.example" in text else "250 ok"
                self.wfile.write(answer.encode() + b"\r\n")
                if text.lower() == "quit":
                    return

    with socketserver.TCPServer(("127.0.0.1", 0), Conversation) as listener:
        monkeypatch.setattr(smtplib.SMTP, "default_port", listener.server_address[1])
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield told
        listener.shutdown()
        thread.join()


def session(**records: list[Any]) -> Session:
    found: Any = Zone(**records)
    return found  # type: ignore[no-any-return]


def test_a_sender_that_exists_is_verified(server: list[str]) -> None:
    answer = send_dsn("alice@example.org", "mx.example.net", session=session(MX=[(10, "127.0.0.1")]), timeout=10)
    assert answer is None
    assert "mail from:<>" in map(str.lower, server)
    assert "rcpt to:<alice@example.org>" in map(str.lower, server)
    assert not any(line.lower() == "data" for line in server)


def test_a_notification_is_sent(server: list[str]) -> None:
    message = create_msg(
        SimpleNamespace(sender="alice@example.org", receiver="mx.example.net"),
        ["bob@example.net"],
        message_from_string("Subject: hello\nReceived-SPF: fail (x)\n\n"),
        "To: %(sender)s\nSubject: Re: %(subject)s\n\nTo %(rcpt)s: %(spf_result)s\n",
    )
    assert (
        send_dsn("<alice@example.org>", "mx.example.net", message, session=session(A=["127.0.0.1"]), timeout=10) is None
    )
    assert "rcpt to:<alice@example.org>" in map(str.lower, server)
    assert "Subject: Re: hello" in server
    assert "To bob@example.net: fail (x)" in server


def test_the_servers_refusal_comes_back(server: list[str]) -> None:
    zone = session(MX=[(10, "127.0.0.1")])
    assert send_dsn("a@refused.example", "mx.example.net", session=zone, timeout=10) == (550, "5.1.1 nobody")


@pytest.mark.parametrize(
    ("records", "answer"),
    [({}, (553, "example.org takes no mail")), ({"MX": [(0, "")]}, (553, "example.org takes no mail"))],
)
def test_domains_that_take_no_mail(records: dict[str, list[Any]], answer: tuple[int, str]) -> None:
    assert send_dsn("a@example.org", "mx.example.net", session=session(**records)) == answer


def test_no_notification_without_a_domain() -> None:
    assert send_dsn("<>", "mx.example.net", session=session()) == (553, "expected an address with a domain")


def test_a_server_that_does_not_answer_is_worth_another_try() -> None:
    answer = send_dsn("a@example.org", "mx", session=session(MX=[(10, "127.0.0.1")]), timeout=1)
    assert answer is not None
    assert answer[0] == 450


def test_what_a_peer_said_makes_no_header_of_a_notification() -> None:
    original = message_from_string("Subject: x\n\n")
    v = SimpleNamespace(sender="a@b\nBcc: victim@example.org", receiver="mx")
    message = create_msg(v, ["r"], original, "To: %(sender)s\n\nbody\n")
    assert message is not None
    assert message["bcc"] is None
    assert message["to"] == "a@b Bcc: victim@example.org"


@pytest.mark.parametrize("subject", ["\u20ac\udcff" * 5, "\udcff", "a\n\n b", "a\r\n\rb\x0cc: d", "\u20ac\x0cc: d"])
def test_a_notification_can_be_sent_whatever_is_in_it(server: list[str], subject: str) -> None:
    v = SimpleNamespace(sender=subject, receiver="mx")
    message = create_msg(v, [subject], None, "Subject: %(sender)s\n\n%(rcpt)s\n")
    assert message is not None
    assert send_dsn("a@b.example", "mx", message, session=session(A=["127.0.0.1"]), timeout=10) is None
    lines = server[server.index("data") + 1 :]
    names = [line.partition(":")[0] for line in lines[: lines.index("")] if line[0] not in " \t"]
    assert names == ["X-Mailer", "MIME-Version", "Content-Type", "Subject", "Auto-Submitted"]


def test_a_notification_says_that_nobody_wrote_it() -> None:
    v = SimpleNamespace(sender="a@b", receiver="mx")
    for template, value in (("To: x\n\n", "auto-generated"), ("Auto-Submitted: auto-replied\n\n", "auto-replied")):
        message = create_msg(v, template=template)
        assert message is not None
        assert message.get_all("Auto-Submitted") == [value]


def test_a_template_needs_a_body_and_headers() -> None:
    v = SimpleNamespace(sender="a@b", receiver="mx")
    assert create_msg(v) is None
    with pytest.raises(ValueError, match="empty line"):
        create_msg(v, template="To: x\n")
    with pytest.raises(ValueError, match="a name and a value"):
        create_msg(v, template="To\n\nbody")
    with pytest.raises(KeyError):
        create_msg(v, template="To: %(nothing)s\n\nbody")


def test_no_dns_library_is_loaded_for_parsing_or_lists() -> None:
    program = "import sys\nfrom aiomilter.compat.modules import cache, config, greylist, utils\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dns", "aiodns", "aiomilter.dns"} & set(loaded)


@pytest.fixture
def nameserver(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """A nameserver that blocking questions go to, on a loop of its own."""
    loop = asyncio.new_event_loop()
    server = NameServer()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    monkeypatch.setattr("aiomilter.compat.modules.dns.system_resolver", lambda: resolver(server.address))
    monkeypatch.setattr("aiomilter.compat.modules.dns._Loop._made", None)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        asking = _Loop.get()
        asking.loop.call_soon_threadsafe(asking.loop.stop)
        asking.thread.join()
        asking.loop.close()


def test_questions_are_answered(nameserver: NameServer) -> None:
    nameserver.add("host.example", "A", "192.0.2.1", "192.0.2.2")
    nameserver.add("host.example", "AAAA", "2001:db8::1")
    nameserver.add("example.org", "MX", "10 mx.example.", "5 first.example.")
    nameserver.add("example.org", "TXT", '"one" " two"')
    nameserver.add("alias.example", "CNAME", "host.example.")

    session = Session()
    assert sorted(session.dns("host.example.", "A")) == ["192.0.2.1", "192.0.2.2"]
    assert session.dns("HOST.example", "AAAA") == ["2001:db8::1"]
    assert sorted(session.dns("example.org", "MX")) == [(5, "first.example"), (10, "mx.example")]
    assert session.dns("example.org", "TXT") == [[b"one two"]]
    assert session.dns_txt("example.org") == ["one two"]
    aliases: dict[str, str] = {}
    assert sorted(session.dns("alias.example", "A", aliases)) == ["192.0.2.1", "192.0.2.2"]
    assert aliases == {"alias.example": "host.example"}
    assert session.dns("nobody.example", "A") == []
    assert DNSLookup("alias.example", "AAAA") == [
        (("alias.example", "CNAME"), "host.example"),
        (("host.example", "AAAA"), "2001:db8::1"),
    ]


def test_a_session_remembers(nameserver: NameServer) -> None:
    nameserver.add("host.example", "A", "192.0.2.1")
    session = Session({("known.example", "A"): ["192.0.2.9"]})
    assert session.dns("known.example", "A") == ["192.0.2.9"]
    assert nameserver.queries == []
    assert session.dns("host.example", "A") is session.dns("Host.Example.", "A")


def test_senders_cannot_fill_the_memory_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked and what is answered is theirs; nothing goes over the network here."""
    texts = [[b"x" * 5000]]
    monkeypatch.setattr(
        "aiomilter.compat.modules.dns.DNSLookup", lambda name, qtype: [((name, qtype), text) for text in texts]
    )
    session = Session({("known.example", "A"): ["192.0.2.9"]})
    for each in range(200):
        assert session.dns(f"n{each}.example", "TXT") == texts
    assert 40 < len(session.cache) < 60
    assert session.dns("known.example", "A") == ["192.0.2.9"]
    assert ("n199.example", "TXT") in session.cache
    texts *= 100
    assert session.dns("large.example", "TXT") == texts
    assert set(session.cache) == {("known.example", "A")}


def test_texts_of_another_charset_are_an_error(nameserver: NameServer) -> None:
    nameserver.add("example.org", "TXT", '"\\255"')
    with pytest.raises(DNSError, match="ascii"):
        Session().dns_txt("example.org")
    assert Session().dns_txt("example.org", "latin-1") == ["\xff"]


def test_no_answer_is_an_error_and_to_a_notification_worth_another_try(nameserver: NameServer) -> None:
    nameserver.silent[labels("host.example"), "*"] = Silence.SERVFAIL
    with pytest.raises(DNSError):
        DNSLookup("host.example", "A")
    answer = send_dsn("a@host.example", "mx.example.net")
    assert answer is not None
    assert answer[0] == 450


def test_questions_may_be_asked_from_any_thread_and_inside_a_running_loop(nameserver: NameServer) -> None:
    nameserver.add("host.example", "A", "192.0.2.1")

    async def blocking() -> list[Any]:
        return Session().dns("host.example", "A")

    answers = [asyncio.run(blocking())]
    thread = threading.Thread(target=lambda: answers.append(Session().dns("host.example", "A")))
    thread.start()
    thread.join()
    assert answers == [["192.0.2.1"]] * 2


def test_a_child_process_asks_with_a_loop_of_its_own(nameserver: NameServer) -> None:
    nameserver.add("host.example", "A", "192.0.2.1")
    assert DNSLookup("host.example", "A")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, str(Session().dns("host.example", "A")).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"['192.0.2.1']"
    assert os.waitpid(child, 0)[1] == 0
