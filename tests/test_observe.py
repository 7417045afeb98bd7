"""What a postmaster reads: one line a message, one record a failure, nothing that text from outside could forge."""

import ast
import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from inspect import isfunction, signature
from pathlib import Path
from typing import Any, Final, get_args

import pytest

import aiomilter
from aiomilter import DISCARD, REJECT, TEMPFAIL, Observer, Refusal, Reply, serve
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.serving import classic_server
from aiomilter.observe import (
    OPTION_OF,
    Answer,
    AnswerSent,
    CallbackFailed,
    ClientRefused,
    Edit,
    EventSeen,
    Lifecycle,
    LifecycleKind,
    Limit,
    LimitReached,
    LoopStalled,
    MessageEnded,
    Misuse,
    ObserverEvent,
    PeerErrorKind,
    RefusedRecipient,
    Where,
)
from aiomilter.observe.guard import Guard
from aiomilter.observe.log import LogObserver
from aiomilter.observe.observer import METHOD_OF
from aiomilter.options import Options
from aiomilter.server import Server
from aiomilter.wire.events import BodyChunk, Header, Helo

from .patience import PATIENCE
from .peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    OPENING,
    QUIT,
    Peer,
    Watcher,
    body,
    connect,
    filter_class,
    header,
    helo,
    later,
    macros,
    mail,
    offer,
    rcpt,
    serving,
    unknown,
)

HOSTILE: Final = "a\r\nb\x1b[31m\udcff\u202e"
WHERE: Final = Where(7, HOSTILE, "envfrom", HOSTILE)


class Records(list[logging.LogRecord]):
    """What was logged."""


class Keeping(logging.Handler):
    def __init__(self, found: Records) -> None:
        super().__init__()
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


@pytest.fixture
def records() -> Iterator[Records]:
    found = Records()
    handler = Keeping(found)
    logger = logging.getLogger("aiomilter")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.setLevel(level)
    logger.removeHandler(handler)


def ended(**more: Any) -> MessageEnded:
    given: dict[str, Any] = {
        "where": WHERE,
        "helo": HOSTILE,
        "sender": HOSTILE,
        "recipients": (HOSTILE,) * 12,
        "refused": (RefusedRecipient(HOSTILE, Answer("reject")), RefusedRecipient("b@x", Answer("550 no"), "closed")),
        "refused_count": 2,
        "answer": Answer("continue"),
        "reason": "",
        "edits": (Edit("add_header", HOSTILE), Edit("quarantine")),
        "edit_count": 2,
        "quarantine": HOSTILE,
        "duration": 0.5,
    }
    return MessageEnded(**{**given, **more})


def tell_all(guard: Guard) -> None:
    guard.tell(Lifecycle(WHERE, LifecycleKind.LISTENER_STARTED, "listening"))
    guard.tell(Lifecycle(WHERE, LifecycleKind.LISTENER_STOPPED, "no longer listening"))
    guard.tell(EventSeen(WHERE, Helo(HOSTILE)))
    guard.tell(EventSeen(WHERE, Header("Subject", HOSTILE)))
    guard.tell(EventSeen(WHERE, BodyChunk(b"secret")))
    guard.tell(AnswerSent(WHERE, "continue"))
    guard.tell(ClientRefused(WHERE, Answer("tempfail")))
    guard.message_ended(ended)
    guard.tell(CallbackFailed(WHERE, "what", ValueError(HOSTILE)))
    guard.tell(Misuse(WHERE, "what"))


def test_each_event_is_one_line_that_nothing_can_forge(records: Records) -> None:
    tell_all(Guard(LogObserver()))
    assert [record.levelname for record in records] == ["INFO"] * 2 + ["DEBUG"] * 4 + ["INFO"] * 2 + [
        "ERROR",
        "WARNING",
    ]
    for record in records:
        text = record.getMessage()
        assert text.isprintable(), text
        assert text.encode("utf-8")
        assert "secret" not in text
    assert records[3].getMessage().endswith("Header 'Subject', 11 characters")
    assert records[4].getMessage().endswith("BodyChunk, 6 octets")


def test_records_carry_where_they_come_from(records: Records) -> None:
    where = Where(7, "192.0.2.1", "envfrom", "Q1", "192.0.2.2:25", "inbound", "inet:1@127.0.0.1", "filters.F")
    LogObserver().misuse(Misuse(where, "what"))
    (record,) = records
    found: Any = record
    assert (found.connection, found.queue_id, found.stage) == (7, "Q1", "envfrom")
    assert (found.peer, found.server, found.listener, found.filter) == where_of(where)
    assert found.getMessage() == (
        "peer='192.0.2.2:25' client='192.0.2.1' queue_id='Q1' envfrom: what, filter='filters.F', server='inbound'"
    )


def where_of(where: Where) -> tuple[str, str, str, str]:
    return where.peer, where.server, where.listener, where.filter


def test_a_failure_has_its_traceback(records: Records) -> None:
    error = ValueError("x")
    LogObserver().callback_failed(CallbackFailed(WHERE, "what", error))
    LogObserver().callback_failed(CallbackFailed(Where(1), "what"))
    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is error
    assert not records[1].exc_info
    assert records[1].getMessage().startswith("server failed")


LINES: Final = [
    # What of the message is not as usual; the line.
    (
        {},
        "client='192.0.2.1' helo='h' sender='a@x' recipients=['b@x', 'c@x'] queue_id='Q1' eom: continue edits=none time=0.250",
    ),
    (
        {"sender": None, "recipients": None},
        "client='192.0.2.1' helo='h' queue_id='Q1' eom: continue edits=none time=0.250",
    ),
    (
        {"recipients": (), "sender": "", "answer": "reject", "reason": "spf_fail"},
        "client='192.0.2.1' helo='h' sender='' recipients=[] queue_id='Q1' eom: reject reason=spf_fail edits=none time=0.250",
    ),
    (
        {
            "refused": (
                RefusedRecipient("d@x", Answer("550 5.7.1 no"), "closed"),
                RefusedRecipient("e@x", Answer("tempfail")),
            ),
            "refused_count": 2,
        },
        "client='192.0.2.1' helo='h' sender='a@x' recipients=['b@x', 'c@x'] refused=['d@x': 550 5.7.1 no (closed), 'e@x': "
        "tempfail] queue_id='Q1' eom: continue edits=none time=0.250",
    ),
    (
        {
            "edits": (Edit("add_header", "A"), Edit("add_header", "B"), Edit("quarantine")),
            "edit_count": 203,
            "quarantine": "held\n",
            "where": Where(1, "192.0.2.1", "eom", "Q1", "192.0.2.2:25", "inbound", filter="filters.F"),
        },
        "client='192.0.2.1' helo='h' sender='a@x' recipients=['b@x', 'c@x'] queue_id='Q1' eom: continue "
        "edits=add_header*2,quarantine (+200 more) quarantine='held\\n' time=0.250 filter='filters.F' "
        "peer='192.0.2.2:25' server='inbound'",
    ),
]


@pytest.mark.parametrize(("more", "line"), LINES)
def test_the_line_of_a_message(more: dict[str, Any], line: str, records: Records) -> None:
    usual: dict[str, Any] = {
        "where": Where(1, "192.0.2.1", "eom", "Q1"),
        "helo": "h",
        "sender": "a@x",
        "duration": 0.25,
    }
    usual |= {"recipients": ("b@x", "c@x"), "refused": (), "refused_count": 0, "edits": (), "edit_count": 0}
    LogObserver().message_ended(ended(**{**usual, "quarantine": None, **more}))
    assert records[0].getMessage() == line
    assert vars(records[0])["reason"] == more.get("reason", "")


def test_a_message_of_many_recipients_is_still_a_line(records: Records) -> None:
    many = tuple(f"r{number}@x" for number in range(1000))
    refused = tuple(RefusedRecipient(address, Answer("reject")) for address in many[:100])
    LogObserver().message_ended(ended(recipients=many, refused=refused, refused_count=1000))
    text = records[0].getMessage()
    assert text.count("(+990 more)") == 2
    assert len(text) < 800


def test_a_long_text_from_outside_is_cut_with_a_sign(records: Records) -> None:
    """Whatever it is: the MTA sends up to 65,535 octets of each."""
    long = "x" * 60_000
    refused = (RefusedRecipient(long, Answer("reject")),)
    where = Where(1, long, "eom", long)
    usual = {"where": where, "helo": long, "sender": long, "recipients": (long,) * 3, "quarantine": long}
    log = LogObserver()
    log.message_ended(ended(**usual, refused=refused, refused_count=1))
    log.client_refused(ClientRefused(where, Answer("reject")))
    log.misuse(Misuse(where, "what"))
    log.callback_failed(CallbackFailed(where, "what"))
    log.event_seen(EventSeen(where, Helo(long)))
    log.loop_stalled(LoopStalled(where, "", 1.0, False))
    counts = [len(re.findall(r"x{512}'\.\.\. \(60000 characters\)", record.getMessage())) for record in records]
    assert counts == [9, 1, 2, 2, 0, 2]
    assert re.search(r"x\.\.\. \(\d+ characters\)$", records[4].getMessage())
    assert all("x" * 513 not in record.getMessage() for record in records)


def test_nothing_is_made_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neither for the log at WARNING, nor for an observer that does not override the method."""
    with caplog.at_level(logging.WARNING, logger="aiomilter"):
        guard = Guard([LogObserver(), Observer()])
        assert not guard.debug
        guard.message_ended(lambda: pytest.fail("made an event for nobody"))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("handlers", "of_parent", "wanted"),
    [
        ([logging.NullHandler()], [], False),
        ([logging.Handler(logging.WARNING)], [], False),
        ([logging.NullHandler(), logging.Handler(logging.INFO)], [], True),
        ([logging.NullHandler()], [logging.Handler()], True),
        ([], [], False),
    ],
)
def test_the_report_of_a_message_is_wanted_where_a_handler_takes_it(
    handlers: list[logging.Handler], of_parent: list[logging.Handler], wanted: bool
) -> None:
    """Programs for pymilter have the logger at INFO with a ``NullHandler``: a report took 27 % of their messages' cost."""
    parent, logger = logging.Logger("parent"), logging.Logger("child", logging.INFO)
    logger.parent = parent
    parent.handlers, logger.handlers = of_parent, handlers
    assert LogObserver(logger).wants_messages() is wanted


@pytest.mark.parametrize(
    ("set_up", "said"),
    [
        ("", "messages are not logged: call logging.basicConfig(level=logging.INFO) for a line per message\n"),
        ("logging.basicConfig()", ""),
        ("logging.getLogger('aiomilter').addHandler(logging.NullHandler())", ""),
        ("OPTIONS['observer'] = Observer()", ""),
    ],
)
def test_a_program_that_sets_up_no_logging_is_told_once_how(set_up: str, said: str) -> None:
    """By run(), which would print nothing at all; here it ends at once, as it finds no address."""
    program = f"""
import logging
from aiomilter import Milter, Observer, run
OPTIONS = {{}}
{set_up}
try:
    run(Milter, "inet:0@192.0.2.1", **OPTIONS)
except OSError:
    pass
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert (ran.stdout, ran.stderr) == ("", said)


def test_another_logger(caplog: pytest.LogCaptureFixture) -> None:
    LogObserver(logging.getLogger("other")).misuse(Misuse(WHERE, "what"))
    assert caplog.records[0].name == "other"


async def test_debug_is_read_when_a_connection_begins() -> None:
    watcher = Watcher()
    async with serving(filter_class(), observer=watcher) as scene:
        await scene.opened()
        assert watcher.events == []
        watcher.debug = True
        await scene.opened()
        assert [type(event).__name__ for event in watcher.events] == ["Negotiate", "Connect", "Helo"]


async def test_what_a_server_logs_by_default(records: Records) -> None:
    server: Server = serve(filter_class({"eom": ValueError("x"), "connect": later()}), "inet:0@127.0.0.1")
    async with server:
        peer = Peer(server)
        peer.write(OPENING + macros("M", i="Q1") + MESSAGE + QUIT)
        await peer.quiet()
        for _ in range(3):
            await asyncio.sleep(0)

    levels = [record.levelname for record in records if record.levelname != "DEBUG"]
    assert levels == ["INFO", "ERROR", "INFO", "INFO"]
    assert all(record.name == "aiomilter" for record in records)
    assert sum("eom: tempfail edits=none" in record.getMessage() for record in records) == 1


SUMMARIES: Final = [
    # What is said; what the filter does; callback, answer, edits.
    (MESSAGE, {}, "eom", "continue", ()),
    (MESSAGE, {"eom": lambda f, ctx, e: ctx.add_header("A", "1")}, "eom", "continue", (Edit("add_header", "A"),)),
    (MESSAGE, {"eom": REJECT}, "eom", "reject", ()),
    (MESSAGE, {"eom": Reply(550, "5.7.1", "no", "never")}, "eom", "550-5.7.1 no / 550 5.7.1 never", ()),
    (MESSAGE, {"envfrom": TEMPFAIL}, "envfrom", "tempfail", ()),
    (MESSAGE, {"header": DISCARD}, "header", "discard", ()),
    (mail() + ABORT, {}, "abort", "abort", ()),
    (mail() + QUIT, {}, "abort", "abort", ()),
    (MESSAGE, {"body": ValueError("x")}, "body", "tempfail", ()),
]


@pytest.mark.parametrize(("octets", "play", "callback", "answer", "edits"), SUMMARIES)
async def test_every_message_has_one_summary(
    octets: bytes, play: dict[str, Any], callback: str, answer: str, edits: tuple[Edit, ...]
) -> None:
    """P-067: with its own client, sender, recipients and queue id."""
    async with serving(filter_class(play)) as scene:
        peer = await scene.opened()
        await peer.send(macros("M", i="Q1") + octets)

    (found,) = scene.watcher.messages
    assert (found.where.callback, found.answer, found.edits) == (callback, answer, edits)
    assert (found.edit_count, found.refused, found.refused_count, found.quarantine) == (len(edits), (), 0, None)
    assert (found.where.client, found.where.queue_id, found.helo) == ("192.0.2.1", "Q1", "client.example")
    assert found.sender == "alice@example.org"
    assert 0 <= found.duration < 60


async def test_a_client_without_an_address_is_known_by_its_name() -> None:
    async with serving(filter_class({"connect": REJECT})) as scene:
        peer = await scene.opened(offer() + b"\0\0\0\x0cClocalhost\0U")
        await peer.send(mail() + rcpt() + DATA + header() + EOH + body() + EOM)

    assert scene.watcher.messages[0].where.client == "localhost"
    assert scene.watcher.heard[-1] == ("refused", "reject")


async def test_answers_to_a_client_are_told() -> None:
    filter_ = filter_class({"connect": Reply(421, "4.7.0", "busy"), "helo": TEMPFAIL})
    async with serving(filter_) as scene:
        await scene.opened(offer() + connect() + helo())
    assert scene.watcher.heard == [("refused", "421 4.7.0 busy"), ("refused", "tempfail")]


def test_a_guard_passes_everything_on_to_each() -> None:
    watchers = [Watcher(debug=True), Watcher(debug=True)]
    guard = Guard(watchers)
    tell_all(guard)
    assert guard.debug
    for watcher in watchers:
        assert [what for what, _ in watcher.heard] == ["started", "stopped", "refused"]
        assert (len(watcher.events), watcher.answers) == (3, ["continue"])
        assert len(watcher.messages) == len(watcher.failures) == len(watcher.remarks) == 1


def test_what_is_for_debug_goes_to_those_only_that_want_it() -> None:
    one, other = Watcher(debug=True), Watcher()
    tell_all(Guard([other, one]))
    assert (len(one.events), len(one.answers)) == (3, 1)
    assert (other.events, other.answers) == ([], [])


def test_a_method_that_raises_is_told_once_and_skipped_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Watcher):
        def misuse(self, event: Misuse) -> None:
            raise ValueError("broken")

    broken, other = Broken(debug=True), Watcher()
    guard = Guard([broken, other])
    for _ in range(3):
        tell_all(guard)
    assert [record.getMessage() for record in caplog.records] == [
        f"{__name__}.{Broken.__qualname__}.misuse raised and is not called any more"
    ]
    assert len(broken.messages) == len(broken.failures) == 3
    assert len(other.remarks) == len(other.messages) == 3


def test_an_observer_that_lacks_a_method_is_told_of_once_and_hears_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    class Lacking:
        def __init__(self) -> None:
            self.heard: list[object] = []

        def client_refused(self, event: ClientRefused) -> None:
            self.heard.append(event)

    lacking: Any = Lacking()
    guard = Guard(lacking)
    for _ in range(2):
        guard.tell(Misuse(WHERE, "what"))
        guard.tell(ClientRefused(WHERE, Answer("reject")))
    assert len(caplog.records) == 1
    assert len(lacking.heard) == 2


def test_an_observer_whose_debug_raises_hears_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Watcher):
        @property
        def debug(self) -> bool:
            raise ValueError("broken")

        @debug.setter
        def debug(self, value: bool) -> None:
            """Take it."""

    broken = Broken()
    guard = Guard(broken)
    assert not guard.debug
    assert not guard.debug
    tell_all(guard)
    assert len(caplog.records) == 1
    assert len(broken.messages) == 1


@pytest.mark.parametrize(
    "given",
    [Watcher, "log", [None], [LogObserver(), Watcher]],
    ids=["a class", "a word", "none", "a class among others"],
)
def test_what_is_no_observer_is_refused_at_once(given: Any) -> None:
    with pytest.raises(TypeError, match="observer: expected an observer, found"):
        serve(filter_class(), "inet:0@127.0.0.1", observer=given)


# Every event


PACKAGE: Final = Path(aiomilter.__file__).parent


def test_every_event_has_a_method_and_the_log_overrides_each() -> None:
    assert set(METHOD_OF) == set(get_args(ObserverEvent))
    for kind, name in METHOD_OF.items():
        assert re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() == name
        assert name in vars(Observer), name
        assert name in vars(LogObserver), name
        (event,) = (each for each in signature(vars(Observer)[name]).parameters.values() if each.name == "event")
        assert event.annotation is kind
    methods = {name for name, value in vars(Observer).items() if isfunction(value)} - {
        "wants_messages",
        "shadows_compared",
        "message_counted",
    }
    assert methods == set(METHOD_OF.values())


@pytest.mark.slow
def test_every_event_is_told_somewhere_and_says_where() -> None:
    calls = {
        (node.func.id, path.relative_to(PACKAGE).parts[0])
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    made = {name for name, room in calls if room != "observe"}
    for kind in METHOD_OF:
        assert kind.__name__ in made
        assert fields(kind)[0].name == "where"
        assert vars(kind)["__dataclass_params__"].frozen
        assert "__slots__" in vars(kind)


@pytest.mark.slow
def test_every_kind_is_told_somewhere() -> None:
    used = {
        (node.value.id, node.attr)
        for path in PACKAGE.rglob("*.py")
        if "observe" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    for enum in (Limit, PeerErrorKind, LifecycleKind):
        assert {name for owner, name in used if owner == enum.__name__} == set(enum.__members__)
    assert set(OPTION_OF) == set(Limit)
    assert set(OPTION_OF.values()) <= {option.name for option in fields(Options)}


# What only a server can tell


async def test_a_message_says_on_which_server_and_listener_and_of_which_filter_it_was() -> None:
    watcher = Watcher()
    filter_ = filter_class({"eom": REJECT})
    async with serve(filter_, "inet:0@127.0.0.1", observer=[watcher], name="inbound") as server:
        reader, writer = await asyncio.open_connection(*host_and_port(server))
        writer.write(OPENING + macros("M", i="Q1") + MESSAGE + QUIT)
        await reader.read()
        writer.close()
        await writer.wait_closed()
    (found,) = watcher.messages
    where = found.where
    assert (where.server, where.listener, where.filter) == ("inbound", server.addresses[0], "tests.peer.Filter")
    assert where.peer.startswith("127.0.0.1:")
    assert all(event.where.server == "inbound" for event in watcher.all)
    assert [event.where.listener for event in watcher.all] == [server.addresses[0]] * 3


def host_and_port(server: Server) -> tuple[str, int]:
    return "127.0.0.1", int(server.addresses[0].removeprefix("inet:").partition("@")[0])


@pytest.mark.parametrize("name", ["a\nb", "x" * 65, "\udc80"])
def test_the_name_of_a_server_is_short_and_printable(name: str) -> None:
    with pytest.raises(ValueError, match="name: expected at most 64 printable characters"):
        serve(filter_class(), "inet:0@127.0.0.1", name=name)


async def test_the_reason_of_an_answer_is_told_and_never_sent() -> None:
    reply = Reply(550, "5.7.1", "no", reason="listed")
    play = {"connect": lambda f, ctx, event: Refusal(REJECT, reason="spf_fail")}
    async with serving(filter_class(play)) as scene:
        peer = await scene.opened(offer() + connect())
        assert peer.wire.writes[-1].endswith(REJECT.packet)
    (refused,) = (each for each in scene.watcher.all if isinstance(each, ClientRefused))
    assert (refused.answer, refused.reason) == ("reject", "spf_fail")

    async with serving(filter_class({"envrcpt": reply, "eom": Refusal(TEMPFAIL, reason="down")})) as scene:
        peer = await scene.opened()
        assert await peer.send(mail() + rcpt() + DATA + EOH + EOM) == "cycct"
        assert b"listed" not in b"".join(peer.wire.writes)
    (message,) = scene.watcher.messages
    assert message.refused == (RefusedRecipient("bob@example.net", Answer("550 5.7.1 no"), "listed"),)
    assert (message.answer, message.reason) == ("tempfail", "down")


REFUSALS: Final = ["connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown"]


@pytest.mark.parametrize("wait", [False, True], ids=["inline", "suspended"])
@pytest.mark.parametrize("silent", [False, True], ids=["answered", "silent"])
@pytest.mark.parametrize("verdict", [REJECT, TEMPFAIL])
@pytest.mark.parametrize("callback", REFUSALS)
async def test_a_refusal_is_taken_wherever_its_verdict_is(
    callback: str, verdict: Any, silent: bool, wait: bool
) -> None:
    octets = OPENING + mail() + rcpt() + unknown() + DATA + header() + EOH + body() + EOM
    answers = []
    for answer in (verdict, Refusal(verdict, reason="why")):
        play = {callback: later(answer) if wait else answer}
        filter_ = filter_class(play, silent=[callback] if silent and callback != "eom" else ())
        async with serving(filter_) as scene:
            peer = await scene.opened(octets)
            answers.append((peer.answers, [name for name, _ in filter_.told]))
            assert scene.watcher.failures == []
            given = [message.reason for message in scene.watcher.messages]
    assert answers[0] == answers[1]
    assert given == ["why"] or callback in ("connect", "helo", "envrcpt", "unknown")


@pytest.mark.parametrize("option", ["on_error", "on_timeout"])
def test_a_refusal_answers_failures(option: str) -> None:
    given: dict[str, Any] = {option: Refusal(TEMPFAIL, reason="broken")}
    serve(filter_class(), "inet:0@127.0.0.1", **given)


async def test_the_refused_recipients_of_a_message_are_bounded() -> None:
    async with serving(filter_class({"envrcpt": Reply(550, "5.1.1", *["x" * 480] * 32)})) as scene:
        peer = await scene.opened()
        await peer.send(mail() + b"".join(rcpt(f"<{'a' * 1000}{number}@x>") for number in range(150)))
        kept = peer.protocol.session.kept
        await peer.send(ABORT + mail() + ABORT)
    first, second = scene.watcher.messages
    assert (len(first.refused), first.refused_count) == (100, 150)
    assert all(len(each.address) == 320 and len(each.answer) == 512 for each in first.refused)
    assert kept > 100 * (320 + 512)
    assert (second.refused, second.refused_count) == ((), 0)


def all_edits(filter_: Any, ctx: Any, event: Any) -> None:
    ctx.add_header("A", "secret")
    ctx.insert_header("B", "secret")
    ctx.change_header("C", 1, "secret")
    ctx.delete_header("D", 1)
    ctx.change_sender("sender@x")
    ctx.add_recipient("new@x")
    ctx.delete_recipient("bob@example.net")
    ctx.quarantine("held")
    ctx.replace_body(b"secret")


async def test_edits_are_told_by_kind_and_name_and_never_by_value() -> None:
    async with serving(filter_class({"eom": all_edits}), observer=Watcher(debug=True)) as scene:
        peer = await scene.opened()
        await peer.send(MESSAGE)
    (message,) = scene.watcher.messages
    assert sorted(message.edits) == [
        ("add_header", "A"),
        ("add_recipient", "new@x"),
        ("change_header", "C"),
        ("change_sender", "sender@x"),
        ("delete_header", "D"),
        ("delete_recipient", "bob@example.net"),
        ("insert_header", "B"),
        ("quarantine", ""),
        ("replace_body", ""),
    ]
    assert (message.edit_count, message.quarantine) == (9, "held")
    assert "secret" not in repr(message)
    answers = scene.watcher.answers
    assert answers[:3] == ["negotiate", "continue", "continue"]
    assert answers[-1] == "continue"
    assert "quarantine" in answers
    assert "add_header 'A'" in answers
    assert "secret" not in repr(answers)


async def test_of_many_edits_the_first_are_told() -> None:
    def eom(filter_: Any, ctx: Any, event: Any) -> None:
        for number in range(150):
            ctx.add_header(f"X-{number}", "1")

    async with serving(filter_class({"eom": eom})) as scene:
        await (await scene.opened()).send(MESSAGE)
    (message,) = scene.watcher.messages
    assert (len(message.edits), message.edit_count) == (100, 150)


async def test_recipients_and_sender_that_were_not_asked_for_are_none() -> None:
    asked = {"envfrom": ("alice@example.org", None), "header": ("alice@example.org", ("bob@example.net",))}
    for callback, (sender, recipients) in asked.items():
        filter_ = filter_class(callbacks=[callback])
        async with serving(filter_) as scene:
            peer = await scene.opened(offer())
            await peer.send(mail() + (rcpt() if recipients else b"") + ABORT)
        (message,) = scene.watcher.messages
        assert (message.sender, message.recipients) == (sender, recipients)


async def test_an_observer_hears_of_each_limit_reached_where_the_log_says_it_once(records: Records) -> None:
    """The log leaves out what is the same within a minute; metrics count."""
    watcher = Watcher()
    async with serving(filter_class(), observer=[LogObserver(), watcher], max_connections=1) as scene:
        for _ in range(5):
            await scene.opened(offer() + connect())
    reached = [each for each in watcher.all if isinstance(each, LimitReached)]
    assert [(each.limit, each.number, each.option) for each in reached] == [("connections", 1, "max_connections")] * 4
    assert sum("connections are open" in record.getMessage() for record in records) == 1


async def test_a_classic_filter_tells_the_same_events() -> None:
    watcher = Watcher(debug=True)

    def eom(ctx: Any) -> int:
        ctx.addheader("X-A", "secret", -1)
        ctx.quarantine("held")
        return 0

    callbacks = Callbacks(name="classic", actions=0x1FF, eom=eom, envrcpt=lambda ctx, *to: int("carol" in str(to)))
    server = classic_server(callbacks, "inet:0@127.0.0.1", inline=lambda: True, observer=watcher, name="old")
    async with server:
        peer = Peer(server)
        peer.write(OPENING + mail() + rcpt("<carol@x>") + rcpt() + DATA + header() + EOH + body() + EOM + QUIT)
        await peer.quiet()
    (message,) = watcher.messages
    assert (message.edits, message.edit_count) == ((Edit("add_header", "X-A"), Edit("quarantine")), 2)
    assert (message.quarantine, message.refused) == ("held", (RefusedRecipient("carol@x", Answer("reject")),))
    assert (message.where.filter, message.where.server) == ("classic", "old")
    assert watcher.answers[-1] == "continue"
