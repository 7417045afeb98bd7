"""Filters in unit tests: what a test's context and base show of a filter."""

import io
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX
from typing import Any

import pytest

from aiomilter.compat import classic as Milter
from aiomilter.compat.modules.test import TestBase
from aiomilter.compat.modules.testctx import TestCtx

MESSAGE = (
    b"From: a@b\r\nContent-Type: multipart/mixed; boundary=X\r\n"
    b"Subject: hi\r\n there\r\nX-Octets: \xff\r\n\r\nbody\r\n.\r\n"
)


class Editing(Milter.Base):
    """Does everything once, and remembers its callbacks."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def connect(self, hostname: str, family: int, hostaddr: Any) -> int:
        self.seen.append(("connect", hostname, family, hostaddr))
        return Milter.CONTINUE

    def hello(self, hostname: str) -> int:
        self.seen.append(("hello", hostname))
        return Milter.CONTINUE

    @Milter.symlist("{auth_authen}", "i")
    def envfrom(self, f: str, *params: str) -> int:
        self.seen.append(("envfrom", f, self.getsymval("i"), self.getsymval("{auth_type}")))
        return Milter.CONTINUE

    def envrcpt(self, to: str, *params: str) -> int:
        self.seen.append(("envrcpt", to))
        return Milter.CONTINUE

    def header(self, field: str, value: str) -> int:
        self.seen.append(("header", field, value))
        return Milter.CONTINUE

    def body(self, blk: bytes) -> int:
        self.seen.append(("body", blk))
        return Milter.CONTINUE

    def eom(self) -> int:
        self.addheader("X-Last", "1")
        self.addheader("X-First", "0", 0)
        self.chgheader("subject", 1, "changed")
        self.chgheader("X-Octets", 1, None)
        self.chgheader("X-None", 1, None)
        self.chgheader("X-None", 1, "added")
        self.addrcpt("<new@x>", "NOTIFY=NEVER")
        self.delrcpt("<old@x>")
        self.chgfrom("<other@x>")
        self.quarantine("why")
        self.progress()
        self.replacebody("new ")
        self.replacebody(b"body\n")
        self.setreply("550", "5.7.1", "no")
        return Milter.ACCEPT

    def abort(self) -> int:
        self.seen.append("abort")
        return Milter.CONTINUE

    def close(self) -> int:
        self.seen.append("close")
        return Milter.CONTINUE


CHANGED = (
    b"X-First: 0\nFrom: a@b\nContent-Type: multipart/mixed; boundary=X\n"
    b"Subject: changed\nX-Last: 1\nX-None: added\n\nnew body\n"
)
SEEN = [
    ("hello", "spamrelay"),
    ("envfrom", "<s@x>", "ID", None),
    ("envrcpt", "<r@x>"),
    ("envrcpt", "<r2@x>"),
    ("header", "From", "a@b"),
    ("header", "Content-Type", "multipart/mixed; boundary=X"),
    ("header", "Subject", "hi\n there"),
    ("header", "X-Octets", "\udcff"),
    ("body", b"body\n.\n"),
]


@pytest.fixture
def ctx(monkeypatch: pytest.MonkeyPatch) -> TestCtx:
    monkeypatch.setattr(Milter, "factory", Editing)
    context = TestCtx()
    context._setsymval("i", "ID")
    context._setsymval("{auth_type}", "PLAIN")
    return context


def test_a_message_is_played_and_its_edits_remembered(ctx: TestCtx) -> None:
    assert ctx._connect() == Milter.CONTINUE
    assert ctx._feedFile(io.BytesIO(MESSAGE.replace(b"\r\n", b"\n")), "s@x", "r@x", "r2@x") == Milter.ACCEPT

    assert ctx.getpriv().seen == [("connect", "localhost", AF_INET, ("1.2.3.4", 1234)), *SEEN]
    assert ctx._body is not None
    assert ctx._body.getvalue() == CHANGED
    assert (ctx._bodyreplaced, ctx._headerschanged, ctx._envfromchanged) == (True, True, True)
    assert (ctx._addrcpt, ctx._delrcpt, ctx._sender) == ([("<new@x>", "NOTIFY=NEVER")], ["<old@x>"], "<other@x>")
    assert (ctx._reply, ctx._quarantined) == (("550", "5.7.1", "no"), "why")
    milter = ctx.getpriv()
    ctx._close()
    assert milter.seen[-1] == "close"


def test_ipv6_clients(ctx: TestCtx) -> None:
    assert ctx._connect("host", "helo", "::1") == Milter.CONTINUE
    assert ctx.getpriv().seen == [("connect", "host", AF_INET6, ("::1", 1234, 0, 0)), ("hello", "helo")]


def test_a_client_needs_an_address(ctx: TestCtx) -> None:
    with pytest.raises(ValueError, match="invalid ip address: unix:/x"):
        ctx._connect(ip="unix:/x")


@pytest.mark.parametrize("step", ["envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"])
def test_the_first_verdict_ends_a_message(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *arguments: Any) -> int:
        self.setreply("550", "5.7.1", step)
        return Milter.REJECT

    def after(self: Any) -> int:
        raise AssertionError("eom is not to be called")

    names = {step: refuse} if step == "eom" else {step: refuse, "eom": after}
    monkeypatch.setattr(Milter, "factory", type("Refusing", (Milter.Base,), names))
    context = TestCtx()
    assert context._connect() == Milter.CONTINUE
    assert context._feedFile(io.BytesIO(MESSAGE)) == Milter.REJECT
    assert context._reply == ("550", "5.7.1", step)


def test_edits_are_for_the_end_of_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(self: Any, to: str) -> int:
        self.addheader("X", "y")
        return Milter.CONTINUE

    monkeypatch.setattr(Milter, "factory", type("Early", (Milter.Base,), {"envrcpt": early}))
    context = TestCtx()
    context._connect()
    with pytest.raises(OSError, match="end of a message"):
        context._feedFile(io.BytesIO(MESSAGE))


def test_a_message_that_nothing_is_done_to_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Milter, "factory", Milter.Base)
    context = TestCtx()
    context._connect()
    octets = b"A: b\n\nbody\n"
    assert context._feedFile(io.BytesIO(octets)) == Milter.CONTINUE
    assert context._body is not None
    assert context._body.getvalue() == octets
    assert not context._bodyreplaced
    context._abort()


class Tested(TestBase, Editing):  # type: ignore[misc]  # connect() is the test's, not the filter's
    def __init__(self) -> None:
        TestBase.__init__(self)
        Editing.__init__(self)


def test_a_base_plays_messages_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test").mkdir()
    Path("test/message").write_bytes(MESSAGE.replace(b"\r\n", b"\n"))
    milter = Tested()
    milter.setsymval("i", "ID")
    milter.setsymval("{auth_type}", "PLAIN")
    assert milter.connect("host", "spamrelay", "192.0.2.1") == Milter.CONTINUE
    assert milter.feedMsg("message", "s@x", "r@x", "r2@x") == Milter.ACCEPT

    # A base lends all macros at every step.
    seen = [SEEN[0], ("envfrom", "<s@x>", "ID", "PLAIN"), *SEEN[2:]]
    assert milter.seen == [("connect", "host", AF_INET, ("192.0.2.1", 1234)), *seen, "close"]
    assert milter._body is not None
    assert milter._body.getvalue() == CHANGED
    assert (milter._addrcpt, milter._delrcpt, milter._sender) == (["<new@x>"], ["<old@x>"], "<other@x>")
    assert milter._reply == ("550", "5.7.1", "no")
    assert milter._bodyreplaced
    assert milter._headerschanged
    assert milter._envfromchanged
    milter._close()
    assert "chgheader: subject[1]=changed" in Path("test/milter.log").read_text()


def noted(**does: str) -> type[Milter.Base]:
    """A filter that takes note of its callbacks; those named are marked, and answer that they go on."""

    def method(name: str, mark: str) -> Any:
        def callback(self: Any, *arguments: Any) -> int:
            self.seen.append(name)
            return Milter.CONTINUE

        callback.__name__ = name
        return getattr(Milter, mark)(callback) if mark else callback

    return type("Noted", (Milter.Base,), {"seen": [], **{name: method(name, mark) for name, mark in does.items()}})


STEPS = ("connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "close")


@pytest.mark.parametrize("step", STEPS[:-2])
def test_a_context_ends_at_the_answer_of_a_no_reply_callback_and_a_base_goes_on(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = noted(**{name: "noreply" if name == step else "" for name in STEPS})
    monkeypatch.setattr(Milter, "factory", kind)
    context = TestCtx()
    connected = context._connect()
    answer = connected or context._feedFile(io.BytesIO(b"A: b\n\nbody\n"))
    seen = [*STEPS[: STEPS.index(step) + 1], *(["close"] if connected else [])]
    assert (answer, kind.seen) == (Milter.NOREPLY, seen)  # type: ignore[attr-defined]

    base: Any = type("Tested", (TestBase, noted(**{name: "noreply" if name == step else "" for name in STEPS})), {})(
        str(tmp_path / "log")
    )
    assert (base.connect(), base.feedFile(io.BytesIO(b"A: b\n\nbody\n"))) == (Milter.CONTINUE, Milter.CONTINUE)
    base._close()
    assert base.seen == list(STEPS)


def test_a_test_may_set_what_it_looks_at(tmp_path: Path) -> None:
    base: Any = type("Tested", (TestBase, Milter.Base), {})(str(tmp_path / "log"))
    base._close()
    for played in (base, TestCtx()):
        for name in ("_body", "_msg", "_reply", "_sender", "_addrcpt", "_delrcpt", "_bodyreplaced", "_headerschanged"):
            setattr(played, name, "mine")
            assert getattr(played, name) == "mine"


def test_recipients_are_those_of_all_messages_and_the_rest_is_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Milter, "factory", Editing)
    context = TestCtx()
    context._connect()
    for count in (1, 2):
        context._feedFile(io.BytesIO(b"A: b\n\n"))
        assert context._addrcpt == [("<new@x>", "NOTIFY=NEVER")] * count
        assert context._delrcpt == ["<old@x>"] * count
        assert context._body is not None
        assert context._body.getvalue() == b"X-First: 0\nA: b\nX-Last: 1\nsubject: changed\nX-None: added\n\nnew body\n"


def test_a_base_hands_over_a_client_without_an_address(tmp_path: Path) -> None:
    base: Any = Tested.__new__(Tested)
    TestBase.__init__(base, str(tmp_path / "log"))
    Editing.__init__(base)
    base._close()
    assert base.connect(ip="unix:/x") == Milter.CONTINUE
    assert base.seen[0] == ("connect", "localhost", AF_UNIX, ("unix:/x", 1234))
