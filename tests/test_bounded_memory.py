"""What is kept from one packet, message or connection to the next is bounded: each cache, dict and set of the package.

The table has a row for each ``lru_cache``, and for each dict, set and queue that an object or a module keeps; one without a row
fails.  A row says what bounds it; those that a peer, a sender or DNS can fill name the test that fills it.
"""

import ast
import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from aiomilter import Milter
from aiomilter._connection import answers
from aiomilter._connection.dispatch import DispatchTables
from aiomilter.compat import handler as compat_handler
from aiomilter.exceptions import NegotiationError
from aiomilter.options import Options
from aiomilter.wire import connection, events, framing, negotiation, state
from aiomilter.wire.constants import Stage
from aiomilter.wire.events import Family, Negotiate

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "aiomilter"

OURS: Final = "nothing that comes from outside"
CONNECTIONS: Final = "max_connections and max_refused_connections"
PROGRAM: Final = "what the program asks for"

# What is kept: what bounds it, or the test that fills it.
KEPT: Final[Mapping[str, str]] = {
    # Caches of functions: the test below fills them.
    "wire.connection._answered": "this",
    "_connection.answers.continue_packets_for": "this",
    "compat.handler._agreement": "this",
    "compat.handler._quiet": "this",
    "wire.connection._rows": "this",
    "wire.events._parse_ip": "this",
    "wire.macros._known_values": "32 packets of 1 KiB",
    "wire.framing.head_after": "this",
    "wire.negotiation._silent_and_declined": "this",
    "wire.state.transitions": "this",
    "auth._spf_record._parse_short": "tests/auth/test_spf_record.py",
    "auth._spf_record._parse_long": "tests/auth/test_spf_record.py",
    # By class of filter, for each offer of an MTA.
    "_connection.dispatch.DispatchTables._agreed": "this",
    "_connection.dispatch.DispatchTables._tables": "this",
    # Of a connection.
    "wire.connection.Connection._rows": OURS,
    "wire.macros.MacroStore._symbols": "tests/test_memory.py",
    "wire.connection.Connection.row": OURS,
    "context.Transaction.notes": "the filter",
    "edits.Edits._changes": "max_edits and max_edits_size",
    "edits.Edits._added": "max_edits",
    "edits._Recipients._exact": "max_recipients",
    "edits._Recipients._loose": "max_recipients",
    "mail.charsets._codecs": OURS,
    "compat.context.Context.lists": OURS,
    # Of a server, a process.
    "_serving.memory.MemoryLimit._held": CONNECTIONS,
    "_serving.memory.MemoryLimit.messages": CONNECTIONS,
    "_serving.memory.MemoryLimit.expendable": CONNECTIONS,
    "_tally._numbers": "1,000 values",
    "observe.metrics.Metrics._cells": "1,000 combinations",
    "observe.metrics.Metrics._counters": OURS,
    "observe.metrics.Metrics._histograms": OURS,
    "observe.metrics.Metrics._reasons": "MOST_REASONS (tests/test_metrics.py)",
    **{
        f"_config.imported.gateway.Gateway.{name}": "MAX_SIZE of a file"
        for name in ("top", "tables", "filters", "files", "signing")
    },
    "_cli.shadow._Table._cells": "100 names",
    "observe.metrics._Counter._cells": "1,000 combinations (tests/test_metrics.py)",
    "observe.metrics._Histogram._cells": "1,000 values (tests/test_metrics.py)",
    "_serving.feed.Feed._ended": "MOST_SERIES (tests/test_feed.py)",
    "_serving.feed.Feed.processes": "workers",
    "_serving.feed.Process.counts": "MOST_SERIES (tests/test_feed.py)",
    "_serving.feed.Process.gauges": OURS,
    "_serving.feed.Process.state": OURS,
    "_serving.feed.Reporter._sent": "what is counted, of which labels are bounded",
    "_serving.status.StatusListener._making": "64 connections",
    "_serving.status.StatusListener._used": "64 connections",
    "_serving.admission.ConnectionLimits._of_peer": CONNECTIONS,
    "_serving.admission.ConnectionLimits._peers": CONNECTIONS,
    "_serving.admission.ConnectionLimits._refused": CONNECTIONS,
    "_serving.sharing.AcceptBalancer._waited": "workers",
    "_serving.stall._GUARDS": "event loops",
    "compat.threads.EndingThreads._threads": CONNECTIONS,
    "compat.lowlevel._Program.handlers": "signals",
    "observe.guard.Guard._skipped": OURS,
    "observe.json._escapes": "one table",
    "observe.json._second": "one second",
    "_cli.logs._second": "one second",
    "observe.seldom.Seldom._told": "kinds of things that are said, none of which holds text from outside",
    "_serving.transports.Transports.pending": CONNECTIONS,
    "_serving.forked._sockets": CONNECTIONS,
    "_serving.forked._masks": "threads that fork at the same time",
    "server.Server._connections": CONNECTIONS,
    "_serving.lifespans.FactoryLifespans.entered": "reloads",
    "_serving.lifespans.FactoryLifespans._building": "reloads",
    "server.Server._tables": "reloads",
    "recording.recorder.Recorder._sessions": CONNECTIONS,
    "recording.recorder.SessionRecord._reasons": OURS,
    "recording.serving.ServerRecorder._records": CONNECTIONS,
    "recording.capture.PieceReader._frames": OURS,
    "recording.body.BodyShape._boundaries": "a hundred",
    "recording.session.SessionRedactor._waiting": "tests/recording/test_session.py",
    "recording.relay.Relay._connections": "max_connections",
    "_serving.handshakes.Handshakes._under_way": "200 handshakes",
    "_serving.handshakes.Handshakes._waiting": CONNECTIONS,
    "_cli.release.Release.modules": OURS,
    "_cli.reloading.Loader._links": "sys.path",
    "_cli.tls.Files._paths": "the options of the command line",
    "_cli.unread.Unread._kept": "tests/test_cli_unread.py",
    "smtp.front.Front._sessions": "max_sessions",
    "inspector.store.Store.messages": "1,000 messages and inspect_size (tests/inspector/test_store.py)",
    "inspector.store.Store.connections": CONNECTIONS,
    "inspector.store.Store.answers": "the words of answers",
    "inspector.store.Store._waiting": "pages that are open, at most 32",
    "inspector.charts.Charts._answers": "the five kinds of answers",
    "inspector.charts.Charts._values": "an hour of values",
    "inspector.recording.Recorded.summary": OURS,
    "inspector.conversation.Conversation.macros": "the stages",
    # Of DNS.
    "dns.aiodns.AiodnsResolver._users": "questions that are under way",
    "dns.cache.CachingResolver._entries": "tests/dns/test_cache.py",
    "dns.cache.CachingResolver._flights": "questions that are under way",
    "dns.cache.CachingResolver._tasks": "questions that are under way",
    "auth._claims._kept": PROGRAM,
    "auth.spf._Check._letters": "the letters of macros",
    "dns.cache._Flight.waiters": "questions that are under way",
    "dns.message._Reader._names": "tests/dns/test_message.py",
    # Of a message, for DKIM and DMARC.
    "mail.headers.HeaderSection._places": "max_fields and max_size",
    "auth.dkim._body.BodyHashes._digests": "three hashers a message (D-071)",
    "auth.dkim._body.BodyHashes._streams": "the ways to canonicalise a body",
    "auth.dkim._checking.CanonicalHeader._made": "the fields of one message",
    "auth.dkim._questions.KeyQuestions._known": "ten questions a message (D-070)",
    "auth.dkim._questions.KeyQuestions._tasks": "ten questions a message (D-070)",
    "auth.dmarc._evaluation.Discovery._walks": "the authors of one message",
    "auth.dmarc._evaluation._Author._walks": "the identifiers of one message",
    "auth.dmarc._store.DayRecords._places": "eight octets a record, as max_size of the day's file allows",
    "auth.dmarc._walk.Lookups._levels": "the questions of one message",
    # Of a whole message.
    "message.zips._Limits.names": "1,000 names",
    "message.zips._Limits._taken": "20,000 steps of work (tests/message/test_bounds.py)",
    "message.structure._Finder._next": "the boundaries of 32 levels",
    "message.structure.Node.defects": OURS,
    "message.message.Message._skipped": OURS,
    "compose.filters.ComposedFilter.callbacks": "stages",
    # Of filters whose answers are not sent.
    "compose.shadow_filters.ShadowFilter.plays": "2 messages (tests/compose/test_shadow.py)",
    "compose.shadow_filters.ShadowPool.filters": CONNECTIONS,
    "compose.shadow_messages.Play.events": "1 MiB (tests/compose/test_shadow.py)",
    "compose.shadow_messages.Play.refused": "max_recipients",
    "_cli.play.Play.answered": "stages",
    # Of a process, for DKIM.
    "auth.dkim._record.parse_record": "2,000 records of 4 KiB",
    "auth.dmarc._record._read_short": "2,000 records of 512 octets",
    "mail.domain._converted": "1,000 names",
    "mail.headers._short_key": "1,000 names of 64 octets",
    "mail.headers._short_encoded_key": "1,000 names of 64 characters",
    "auth.dkim._crypto._checked": "the private keys that were loaded last",
    "auth.dkim._signer._at_once": "event loops",
    "auth.dkim._key_ring._Contents.loaded": "key files",
    "auth.dkim._tables._DataSet.rows": "key files",
    "auth.dkim._tables._Patterns.rows": "key files",
    "policy.rates.RateLimit._plans": PROGRAM,
    "policy.rates.RateLimit._on_failure": PROGRAM,
    "policy.stores.postgresql.PostgresqlStore._where": PROGRAM,
    "policy.stores.redis.RedisStore._jobs": "tests/policy/test_stores_redis.py",
    "policy.stores.redis.RedisStore._batches": "max_connections of open_store",
    "policy.stores.memory.MemoryStore._kinds": "max_keys of open_store",
    "mail.socketmap.Socketmap._maps": PROGRAM,
    "mail.socketmap.Socketmap._open": "max_connections",
    # Of a configuration file, while it is read: at most 1 MiB.
    "_config.lines._Finder._headers": "MAX_SIZE of the file",
    "_config.lines._Finder.lines": "MAX_SIZE of the file",
    "_config.lines._Finder._counts": "MAX_SIZE of the file",
    "_config.reading._Values._keys": OURS,
    "_config.reading._Values._tables": OURS,
    "_config.reading._Values._values": OURS,
    "_config.reading._Values.secrets": OURS,
    "filters.access._all_rules": OURS,
    "filters.access_lists.AccessLists.logins": OURS,
    "filters.access_lists.AccessLists.valid": OURS,
    "filters.recipients.Exempt._exempt": OURS,
    "filters.site._Shared._open": OURS,
    "filters.site._Shared.rings": OURS,
    "filters.spf_rules.RuleTable._domains": OURS,
    # Of pymilter's programs.
    "compat.modules.markup.Markup._failed": "the document",
    "compat.children._calls": OURS,
    "compat.children._left_out": OURS,
    "compat.modules.markup._others": PROGRAM,
    "compat.modules.markup._raw_end": OURS,
    "compat.modules.sgmllib.SGMLParser._opened": "the document",
    "compat.decorators._wrappers": PROGRAM,
    "compat.modules.cache.AddrCache._set": "tests/compat/test_modules.py",
    "compat.modules.cache.AddrCache.cache": "tests/compat/test_modules.py",
    "compat.modules.dns.Session._sizes": "tests/compat/test_modules.py",
    "compat.modules.dns.Session.cache": "tests/compat/test_modules.py",
    "compat.modules.config.MilterConfigParser._fallbacks": PROGRAM,
    "compat.modules.config.MilterConfigParser.defaults": PROGRAM,
    # What plays an MTA, or stands in for DNS.
    "mta.delivery._Headers.keys": "the fields of one message",
    "mta.macros.KnownMacros._given": PROGRAM,
    "mta.macros.KnownMacros._values": PROGRAM,
    "mta.macros.KnownMacros._lists": "the stages that have a list",
    "mta.macros.KnownMacros._packets": "the stages",
    "testing.resolver.ZoneResolver._names": PROGRAM,
    "testing.resolver.ZoneResolver._records": PROGRAM,
    "compat.modules.testmessage.TestMessage._macros": PROGRAM,
    "_connection.details.MessageDetails._last": "the names of a record",
    "_connection.details.MessageDetails._reasons": "one for each filter of a composition; of one message",
}
MAKERS: Final = frozenset(
    {
        "dict",
        "set",
        "OrderedDict",
        "defaultdict",
        "Counter",
        "deque",
        "WeakSet",
        "WeakKeyDictionary",
        "WeakValueDictionary",
    }
)
CHANGES: Final = frozenset({"add", "update", "setdefault", "append", "insert", "extend"})


def kept_in(path: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text())
    yield from (f"{module}.{name}" for name in _module_level(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (f"{module}.{node.name}.{name}" for name in _of_objects(node))


def _module_level(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any("cache" in ast.unparse(each) for each in node.decorator_list):
            yield node.name
    for node in tree.body:
        for target, _, value in _assigned(node):
            name = ast.unparse(target)
            cache = isinstance(value, ast.Call) and "lru_cache" in ast.unparse(value.func)
            if cache or (_container(value) and _is_changed(name, tree)):
                yield name


def _of_objects(kind: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(kind):
        for target, annotation, value in _assigned(node):
            if not (_container(value) or _container_type(annotation)):
                continue
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                yield target.attr
            elif isinstance(target, ast.Name) and node in kind.body and value and "field(" in ast.unparse(value):
                yield target.id


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None, ast.expr | None]]:
    """What is assigned to, of what type, and its value."""
    if isinstance(node, ast.AnnAssign):
        yield node.target, node.annotation, node.value
    elif isinstance(node, ast.Assign):
        yield from ((target, None, node.value) for target in node.targets)


def _container(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Dict | ast.Set | ast.DictComp | ast.SetComp):
        return True
    if isinstance(value, ast.IfExp):
        return _container(value.body) or _container(value.orelse)
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in MAKERS


def _container_type(annotation: ast.expr | None) -> bool:
    text = "" if annotation is None else ast.unparse(annotation)
    return text.removeprefix("Final[").partition("[")[0].rpartition(".")[2] in MAKERS


def _is_changed(name: str, tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == name:
            return True
        if isinstance(node, ast.Attribute) and node.attr in CHANGES and ast.unparse(node.value) == name:
            return True
    return False


@pytest.mark.slow
def test_each_cache_dict_and_set_has_a_bound() -> None:
    found = {name for path in sorted(PACKAGE.rglob("*.py")) for name in kept_in(path)}
    assert found - KEPT.keys() == set(), "say in KEPT what bounds these"
    assert KEPT.keys() - found == set(), "these are no more"


@pytest.mark.parametrize("where", sorted({where for where in KEPT.values() if where.startswith("tests/")}))
def test_the_tests_that_fill_them_exist(where: str) -> None:
    assert (ROOT / where).exists()


class Filter(Milter):
    """One that is asked at several stages."""


def _stages() -> frozenset[Stage]:
    return frozenset(stage for stage in Stage if CHANCE.random() < 0.5)


def _bits() -> int:
    return CHANCE.getrandbits(32)


TABLES: Final = DispatchTables(Options())


def _negotiated() -> None:
    filter_ = Filter()
    TABLES.table(filter_, TABLES.agree(filter_.wants, Negotiate(6, _bits(), _bits()))[0])


def _agreed() -> None:
    compat_handler._agreement(Negotiate(6, _bits(), _bits()), _bits(), _bits(), ((0, ("x" * 100,)),))


CHANCE: Final = random.Random(20)
# How a peer fills each, the items that are kept at most, and the MiB that all of them take at most.
FILLS: Final[Mapping[str, tuple[Callable[[], object], Callable[[], int], int, float]]] = {
    "wire.connection._answered": (
        lambda: connection._answered(_stages()),
        lambda: connection._answered.cache_info().currsize,
        64,
        0.2,
    ),
    "_connection.answers.continue_packets_for": (
        lambda: answers.continue_packets_for(_stages()),
        lambda: answers.continue_packets_for.cache_info().currsize,
        64,
        0.2,
    ),
    "compat.handler._agreement": (_agreed, lambda: compat_handler._agreement.cache_info().currsize, 64, 0.5),
    "compat.handler._quiet": (
        lambda: compat_handler._quiet(_bits()),
        lambda: compat_handler._quiet.cache_info().currsize,
        64,
        0.2,
    ),
    "wire.connection._rows": (
        lambda: connection._rows(_stages(), True, state.NATIVE),
        lambda: connection._rows.cache_info().currsize,
        64,
        2.5,
    ),
    "wire.state.transitions": (
        lambda: state.transitions(_stages(), state.NATIVE),
        lambda: state.transitions.cache_info().currsize,
        64,
        1,
    ),
    "wire.events._parse_ip": (
        lambda: events._parse_ip(Family.INET6, f"::{_bits() >> 16:x}%" + "\N{SNOWMAN}" * 90),
        lambda: events._parse_ip.cache_info().currsize,
        1024,
        1,
    ),
    "wire.framing.head_after": (
        lambda: framing.head_after(_bits() >> 16),
        lambda: framing.head_after.cache_info().currsize,
        64,
        0.1,
    ),
    "wire.negotiation._silent_and_declined": (
        lambda: negotiation._silent_and_declined(_bits()),
        lambda: negotiation._silent_and_declined.cache_info().currsize,
        64,
        0.2,
    ),
    "_connection.dispatch.DispatchTables._agreed": (_negotiated, lambda: len(TABLES._agreed), 64, 0.5),
    "_connection.dispatch.DispatchTables._tables": (_negotiated, lambda: len(TABLES._tables), 64, 0.5),
}


def test_each_cache_that_is_filled_here_has_its_row() -> None:
    assert {name for name, where in KEPT.items() if where == "this"} == FILLS.keys()


@pytest.fixture(scope="module", autouse=True)
def others_left_alone() -> None:
    """Have the collector pass over what other tests have left: with that a collection takes a second, and each test has two."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("name", FILLS)
def test_a_peer_can_fill_a_cache_only_up_to_its_bound(name: str) -> None:
    fill, count, most, size = FILLS[name]
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(3 * most):
            try:
                fill()
            except NegotiationError:
                continue  # what was offered cannot be agreed on, and leaves nothing
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count() == most
    assert taken < size * 2**20
