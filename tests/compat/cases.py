"""What is played to pymilter and to ours, by the class that it is played to.

A good half are the conversations that libmilter and our native API are compared with; their scripts become plans.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, NR_FLAGS
from tests.compat import generated
from tests.compat.playing import Case
from tests.interop.libmilter.conversations import CONVERSATIONS
from tests.interop.libmilter.script import unescaped
from tests.peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    MESSAGE,
    ONLY_BASIC,
    OPENING,
    QUIT,
    QUIT_NC,
    body,
    connect,
    header,
    helo,
    mail,
    offer,
    rcpt,
    unknown,
)

__all__ = ["GROUPS", "Group"]


class Group(NamedTuple):
    """Conversations with one kind of filter.

    Args:
        shape: What its class is like, see scripts/driven.py.
        cases: What is played to it, by name.
        script: The program.
    """

    shape: Mapping[str, Any]
    cases: Mapping[str, Case]
    script: str = "driven.py"


# ------------------------------------------------------------------------------------ what libmilter was compared with

_CALLBACKS: Final = {"helo": "hello", "mail": "envfrom", "rcpt": "envrcpt"}
_VERDICTS: Final = frozenset({"accept", "reject", "tempfail", "discard", "skip"})
_EDITS: Final = {
    "addheader": "addheader({0!a}, {1!a})",
    "insheader": "addheader({1!a}, {2!a}, {0})",
    "chgheader": "chgheader({0!a}, {1}, {2!a})",
    "delheader": "chgheader({0!a}, {1}, None)",
    "replacebody": "replacebody({0!a})",
    "chgfrom": "chgfrom({0!a})",
    "chgfrom 2": "chgfrom({0!a}, {1!a})",
    "addrcpt": "addrcpt({0!a})",
    "addrcpt 2": "addrcpt({0!a}, {1!a})",
    "delrcpt": "delrcpt({0!a})",
    "quarantine": "quarantine({0!a})",
    "progress": "progress()",
}


def attempt(call: str) -> str:
    """Try a call, and tell what came of it."""
    name, _, rest = call.partition("(")
    return f"self.attempt({name!r}, {rest}"


def _act(action: str, args: list[str]) -> list[str]:
    if action in _VERDICTS:
        return [f"answer = Milter.{action.upper()}"]
    if action == "nonsense":
        return ["answer = 99"]
    if action == "reply":
        code, enhanced, *lines = args
        texts = [line.replace("%", "%%") for line in lines]
        wanted = ", ".join(map(ascii, [code, None if enhanced == "-" else enhanced, *texts]))
        return [f"self.attempt('setreply', {wanted})", f"answer = Milter.{'REJECT' if code[0] == '5' else 'TEMPFAIL'}"]
    call = _EDITS.get(f"{action} {len(args)}") or _EDITS[action]
    return [attempt(call.format(*args))]


def _converted(script: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Make shape and plan of a script for the C filter; None if it does what a pymilter program cannot."""
    shape: dict[str, Any] = {}
    plan: dict[str, list[str]] = {}
    for line in script.splitlines():
        word, *rest = (unescaped(field) for field in line.split("\t"))
        callbacks = [_CALLBACKS.get(step, step) for step in rest]
        match word:
            case "callbacks":
                shape["callbacks"] = [*callbacks, "abort", "close"]
            case "silent":
                shape["noreply"] = callbacks
            case "leading" | "rejected":
                shape[word] = True
            case "macros":
                plan.setdefault(callbacks[0], []).append(f"self.look({', '.join(map(ascii, rest[1:]))})")
            case "do":
                when = "True" if rest[1] == "each" else f"n == {rest[1]}"
                lines = plan.setdefault(callbacks[0], [])
                lines += [f"if {when}:", *(f" {act}" for act in _act(rest[2], rest[3:]))]
            case _:
                return None
    return shape, {step: "\n".join(["answer = 0", *lines, "return answer"]) for step, lines in plan.items()}


_DEADLY: Final = frozenset(
    {"macros: value without NUL", "macros: odd number of strings", "macros: last string without NUL"}
)
"""What kills pymilter, or nearly."""


def _borrowed() -> Iterator[tuple[str, Mapping[str, Any], Case]]:
    for name, (packets, script) in CONVERSATIONS.items():
        converted = _converted(script)
        if converted is not None:
            yield name, converted[0], Case(b"".join(packets), converted[1], deadly=name in _DEADLY)


def _groups() -> Iterator[tuple[str, Group]]:
    grouped: dict[str, tuple[Mapping[str, Any], dict[str, Case]]] = {}
    for name, shape, case in _borrowed():
        grouped.setdefault(json.dumps(shape), (shape, {}))[1][name] = case
    for key, (shape, cases) in grouped.items():
        yield f"libmilter {key}", Group(shape, cases)


# ---------------------------------------------------------------------------------------------------- how it is played

ENVELOPE: Final = mail() + rcpt()
CONTENT: Final = DATA + header() + EOH + body() + EOM
NEXT: Final = ABORT + mail("<carol@example.org>") + rcpt("<dave@example.net>") + CONTENT + QUIT
"""Another message, which shows what is left of the first."""
SESSION: Final = OPENING + unknown() + MESSAGE + NEXT
STEPS: Final = ("connect", "hello", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")
EVERYWHERE: Final = (*STEPS, "abort", "close")
HANGS: Final = 0.3
"""Seconds after which a conversation that is known to hang in pymilter is given up."""
WHOLE: Final = OPENING + unknown() + ENVELOPE + ABORT + MESSAGE + QUIT
"""A session in which each callback is called."""


def tries(*calls: str, then: str = "") -> str:
    """A body that tries calls, one after the other, then answers."""
    return "\n".join(
        [*(f"self.attempt({call[: call.index('(')]!r}, {call[call.index('(') + 1 :]}" for call in calls), then]
    )


def at(step: str, source: str, octets: bytes = SESSION) -> Case:
    """A session in which one callback does something."""
    return Case(octets, {step: source})


def once(source: str) -> str:
    """Do it in the first call only."""
    return "if n == 1:\n" + "\n".join(f" {line}" for line in source.splitlines()) + "\nreturn Milter.CONTINUE"


# ------------------------------------------------------------------------------------------------- answers of callbacks

_ODD: Final = (
    *("True", "False", "None", "'x'", "''", "1.0", "0.0", "b''", "[]", "(1,)", "object", "-1", "5", "6", "7", "8", "9"),
    *("10", "11", "99", "2**31", "2**32", "2**63", "-2**31", "2**70"),
)
_RAISED: Final = (
    *("1/0", "raise KeyboardInterrupt", "raise GeneratorExit"),
    *("raise BaseException('x')", "raise StopIteration", "raise Milter.error('x')", "raise MemoryError"),
    *("raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'y')", "raise RecursionError", "self.missing"),
    "import asyncio; raise asyncio.CancelledError",
)
ANSWERS: Final = {
    **{
        f"{step} answers {verdict}": at(step, once(f"return Milter.{verdict}"))
        for step in EVERYWHERE
        for verdict in ("ACCEPT", "REJECT", "TEMPFAIL", "DISCARD", "SKIP", "NOREPLY", "ALL_OPTS")
    },
    **{f"{step} returns {odd}": at(step, once(f"return {odd}")) for step in EVERYWHERE for odd in _ODD},
    **{f"{step}: {raised}": at(step, once(raised)) for step in EVERYWHERE for raised in _RAISED},
    **{
        f"{step} raises after edits and a reply": at(
            step, once(tries("addheader('X', 'y')", "setreply('550', '5.7.1', 'text')", then="1/0"))
        )
        for step in EVERYWHERE
    },
    "eom raises after all edits": at(
        "eom",
        tries(
            "replacebody('x')",
            "chgfrom('<a@b>')",
            "addrcpt('<a@b>')",
            "addheader('X', 'y', 0)",
            "quarantine('why')",
            "progress()",
            "delrcpt('<bob@example.net>')",
            then="1/0",
        ),
    ),
    **{
        f"{step}: {raised}": at(step, once(raised))._replace(patience=HANGS, deadly=True)
        for step in ("connect", "envrcpt", "eom", "close")
        for raised in ("raise SystemExit", "raise SystemExit(3)")
    },
    "every callback raises": Case(SESSION, dict.fromkeys(EVERYWHERE, "1/0")),
    "every callback rejects": Case(SESSION, dict.fromkeys(EVERYWHERE, "return Milter.REJECT")),
    "exception with a text of two lines": at("envrcpt", "raise ValueError('a\\nb')"),
    "a class that is an int": at("envrcpt", "class I(int): pass\nreturn I(4)"),
    "an enum that is an int": at("envrcpt", "import enum\nclass E(enum.IntEnum):\n  A = 4\nreturn E.A"),
}

# ------------------------------------------------------------------------------------------------------------- setreply

_REPLIES: Final = (
    *("'550'", "'550', '5.7.1'", "'550', '5.7.1', 'text'", "'550', None, 'text'", "'550', '', 'text'"),
    *("'550', '5.7.1', ''", "'550', '5.7.1', None", "'550', None, None", "'550', '5.7.1', 'one', 'two'"),
    *("'550', None, 'one', 'two'", "'451', None, 'one', 'two'", "'451', '4.7.1', 'text'", "'421', '4.7.0', 'bye'"),
    *("'550', '4.7.1', 'text'", "'450', '5.7.1', 'text'", "'550', '2.7.1', 'text'", "'550', '3.7.1', 'text'"),
    *("'550', '5.7', 'text'", "'550', '5.7.1.1', 'text'", "'550', '5.1000.1', 'text'", "'550', '5.100.999', 'text'"),
    *("'550', '5.7.1 ', 'text'", "'550', ' 5.7.1', 'text'", "'550', 'x', 'text'", "'550', '5..1', 'text'"),
    *("'250', '2.0.0', 'text'", "'354', None, 'text'", "'600', '5.7.1', 'x'", "'55', '5.7.1', 'x'"),
    *(
        "'5500', '5.7.1', 'x'",
        "'5x0', '5.7.1', 'x'",
        "'', '5.7.1', 'x'",
        "' 550', '5.7.1', 'x'",
        "'550\\n', '5.7.1', 'x'",
    ),
    *(
        "550, '5.7.1', 'x'",
        "b'550', '5.7.1', 'x'",
        "None, '5.7.1', 'x'",
        "'550', b'5.7.1', 'x'",
        "'550', '5.7.1', b'x'",
    ),
    *(
        "'550', 5, 'x'",
        "'550', '5.7.1', 5",
        "'550', '5.7.1', 'x', None",
        "'550', '5.7.1', 'x', 5",
        "'550', '5.7.1', 'x', ''",
    ),
    *("'550', '5.7.1', 'a\\nb'", "'550', '5.7.1', 'a\\rb'", "'550', '5.7.1', 'a\\0b'", "'550', '5.7.1', 'a', 'b\\n'"),
    *("'550', '5.7.1', 'x' * 980", "'550', '5.7.1', 'x' * 981", "'550', '5.7.1', 'a', 'x' * 981"),
    *("'550', '5.7.1', '%'", "'550', '5.7.1', '100 %'", "'550', '5.7.1', '%%'", "'550', '5.7.1', '100 %% sure'"),
    *("'550', '5.7.1', '%s'", "'550', '5.7.1', '%d %n'", "'550', '5.7.1', '%%s'", "'550', '5.7.1', '%%%'"),
    *(
        "'550', '5.7.1', 'a', '%'",
        "'550', '5.7.1', 'a', '%%'",
        "'550', '5.7.1', '%(x)s'",
        "'550', '5.7.1', 'x' * 979 + '%%'",
    ),
    *(
        "'550', '5.7.1', '%%' * 490",
        "'550', '5.7.1', '%%' * 491",
        "'550', '5.7.1', 'a', '%%' * 490",
        "'550', '5.7.1', 'a', '%%' * 491",
    ),
    *(
        "'550', '5.7.1', 'caf\\xe9'",
        "'550', '5.7.1', '\\u010a250 ok'",
        "'550', '5.7.1', '\\u20ac'",
        "'550', '5.7.1', '\\udce9'",
    ),
    *(
        "'550', '5.7.1', 'a\\tb'",
        "'550', '5.7.1', 'a\\x01b\\x7f'",
        "'550', '5.7.1', 'a', 'caf\\xe9'",
        "'550', '5.7.1', 'a', '\\udce9'",
    ),
    *(
        "'550', '5.7.1', '3 strikes'",
        "'550', None, '3 strikes'",
        "'550', '5.7.1', 'a', '', 'b'",
        "'550', '5.7.1', '', ''",
    ),
    *(
        "'550', '5.7.1', *['x'] * 31",
        "'550', '5.7.1', *['x'] * 32",
        "'550', '5.7.1', *['x'] * 33",
        "'550', None, *['x'] * 32",
    ),
    *("'550', xcode='5.7.1', msg='x'", "rcode='550', xcode='5.7.1', msg='x'", "'550', msg='x'", "'550', xcode='5.7.1'"),
    *("", "'550', '5.7.1', msg='x', more='y'", "'\\u0665\\u0665\\u0665', '5.7.1', 'x'", "'550', '5.\\u0665.1', 'x'"),
)
SETREPLY: Final = {
    **{
        f"{where}({args}) and {verdict}": at(
            "envrcpt", once(tries(f"{where}({args})", then=f"return Milter.{verdict}"))
        )
        for where in ("setreply", "_ctx.setreply")
        for args in _REPLIES
        for verdict in ("REJECT", "TEMPFAIL")
    },
    **{
        f"{code} at {step}, {verdict}": at(
            step, once(tries(f"setreply('{code}', '{code[0]}.7.1', 'text')", then=f"return Milter.{verdict}"))
        )
        for code in ("550", "451", "421")
        for step in EVERYWHERE
        for verdict in ("REJECT", "TEMPFAIL", "CONTINUE", "ACCEPT", "DISCARD")
    },
    "a reply stays for the next REJECT": Case(
        SESSION,
        {"connect": tries("setreply('550', '5.7.1', 'early')", then="return 0"), "header": "return Milter.REJECT"},
    ),
    "a reply stays over a message and an abort": Case(
        OPENING + ENVELOPE + ABORT + MESSAGE + NEXT,
        {"hello": tries("setreply('550', '5.7.1', 'early')", then="return 0"), "eom": "return Milter.REJECT"},
    ),
    "a reply is used once": Case(
        OPENING + mail() + rcpt() * 3 + QUIT,
        {"hello": tries("setreply('550', '5.7.1', 'early')", then="return 0"), "envrcpt": "return Milter.REJECT"},
    ),
    "a reply of the other class stays": Case(
        OPENING + mail() + rcpt() * 4 + QUIT,
        {
            "hello": tries("setreply('550', '5.7.1', 'early')", then="return 0"),
            "envrcpt": "return [Milter.TEMPFAIL, Milter.REJECT, Milter.REJECT, Milter.TEMPFAIL][n - 1]",
        },
    ),
    "a reply takes the place of another": Case(
        SESSION,
        {
            "envrcpt": tries(
                "setreply('550', '5.7.1', 'one')", "setreply('451', '4.7.1', 'two')", then="return Milter.REJECT"
            )
        },
    ),
    "a reply that fails keeps the one before": Case(
        SESSION,
        {
            "envrcpt": tries(
                "setreply('550', '5.7.1', 'one')", "setreply('250', '4.7.1', 'two')", then="return Milter.REJECT"
            )
        },
    ),
    "a reply of many lines that fails keeps the one before": Case(
        SESSION,
        {
            "envrcpt": tries(
                "setreply('550', '5.7.1', 'one')",
                "setreply('550', '5.7.1', 'two', 'x\\n')",
                then="return Milter.REJECT",
            )
        },
    ),
    "a reply set before an exception": Case(SESSION, {"envrcpt": tries("setreply('550', '5.7.1', 'one')", then="1/0")}),
    "a reply over QUIT_NC": Case(
        OPENING + MESSAGE + QUIT_NC + connect() + helo() + MESSAGE + QUIT,
        {
            "eom": once(tries("setreply('550', '5.7.1', 'one')")),
            "envrcpt": "return Milter.REJECT if A else 0".replace("A", "n == 1"),
        },
    ),
}

# -------------------------------------------------------------------------------------------------------------- actions

_CALLS: Final = {
    "addheader": (
        *(
            "'X', 'y'",
            "'X', 'y', 0",
            "'X', 'y', 3",
            "'X', 'y', -1",
            "'X', 'y', -5",
            "'X', ''",
            "'', 'y'",
            "'X', 'y', idx=2",
        ),
        *(
            "b'X', 'y'",
            "'X', b'y'",
            "'X', None",
            "None, 'y'",
            "'X', 5",
            "'X', 'y', '0'",
            "'X', 'y', None",
            "'X', 'y', 1.0",
        ),
        *(
            "'X', 'y', True",
            "'X', 'y', 2**31 - 1",
            "'X', 'y', 2**31",
            "'X', 'y', 2**32",
            "'X', 'y', 2**63",
            "'X', 'y', 2**64",
        ),
        *("'X', 'y', -2**31", "'X', 'y', -2**63", "'X'", "", "'X', 'y', 0, 1", "field='X', value='y', idx=0"),
        *("'X', 'a\\0b'", "'X\\0', 'y'", "'X', 'caf\\xe9 \\u20ac'", "'caf\\xe9', 'y'", "'X:', 'y'", "'X Y', 'y'"),
        *(
            "'X', 'a\\n b'",
            "'X', 'a\\n\\tb'",
            "'X', 'x' * 65532",
            "'X', 'x' * 65533",
            "'X', 'x' * 65528, 0",
            "'X', 'x' * 65529, 0",
        ),
        *("'X', 'y' * 70000", "'X', ' y'", "bytearray(b'X'), 'y'", "'X', memoryview(b'y')"),
    ),
    "chgheader": (
        *(
            "'Subject', 1, 'new'",
            "'Subject', 0, 'new'",
            "'Subject', 2, 'new'",
            "'Subject', -1, 'new'",
            "'Subject', 1, None",
        ),
        *("'Subject', 1, ''", "'', 1, 'new'", "'Subject', '1', 'x'", "'Subject', None, 'x'", "'Subject', 1.0, 'x'"),
        *(
            "b'Subject', 1, 'x'",
            "'Subject', 1, b'x'",
            "None, 1, 'x'",
            "'Subject', 1, 5",
            "'Subject', 1",
            "'Subject'",
            "",
        ),
        *("'Subject', 2**31 - 1, 'x'", "'Subject', 2**31, 'x'", "'Subject', 2**64, 'x'", "'Subject', 1, 'caf\\xe9'"),
        *(
            "'Subject', 1, 'a\\0b'",
            "'S\\0', 1, 'x'",
            "'Subject', 1, 'a\\n b'",
            "'Subject', 1, 'x' * 70000",
            "'Subject', True, 'x'",
        ),
        *("field='Subject', idx=1, value='x'", "'missing', 1, None", "'missing', 5, 'x'"),
    ),
    "addrcpt": (
        *("'<a@b>'", "'a@b'", "''", "None", "b'<a@b>'", "5", "'<a@b>', 'NOTIFY=NEVER'", "'<a@b>', ''", "'<a@b>', None"),
        *("'<a@b>', ('NOTIFY=NEVER',)", "'<a@b>', ['X']", "'<a@b>', b'X'", "'<a@b>', 5", "'<a@b>', params='X=1'", ""),
        *(
            "'<a@b>, <c@d>'",
            "'<caf\\xe9@b>'",
            "'a\\0b'",
            "'<a@b>', 'a\\0b'",
            "'x' * 70000",
            "'<a@b>', 'x' * 70000",
            "rcpt='<a@b>'",
        ),
        *("'<>'", "'<a@b>', 'X=1 Y=2'", "'<a@b>', 'X', 'Y'"),
    ),
    "delrcpt": (
        "'<bob@example.net>'",
        "'x'",
        "''",
        "None",
        "b'x'",
        "5",
        "",
        "'a\\0b'",
        "'<caf\\xe9@b>'",
        "rcpt='x'",
        "'x' * 70000",
    ),
    "replacebody": (
        *("'text'", "b'octets'", "''", "b''", "bytearray(b'x')", "memoryview(b'x')", "None", "5", "['x']", ""),
        *(
            "'caf\\xe9'",
            "'a\\0b'",
            "b'a\\0b'",
            "'x' * 65535",
            "b'x' * 65536",
            "b'x' * 131070",
            "b'x' * 131071",
            "body=b'x'",
        ),
    ),
    "chgfrom": (
        *(
            "'<a@b>'",
            "'a@b'",
            "'<>'",
            "''",
            "None",
            "b'<a@b>'",
            "5",
            "'<a@b>', 'RET=HDRS'",
            "'<a@b>', ''",
            "'<a@b>', None",
        ),
        *(
            "'<a@b>', ('X',)",
            "'<a@b>', b'X'",
            "'<a@b>', params='X=1'",
            "",
            "'<caf\\xe9@b>'",
            "'a\\0b'",
            "'x' * 70000",
            "sender='<a@b>'",
        ),
    ),
    "quarantine": (
        "'why'",
        "''",
        "None",
        "b'x'",
        "5",
        "",
        "'caf\\xe9'",
        "'a\\0b'",
        "'x' * 70000",
        "'a\\nb'",
        "reason='x'",
    ),
    "progress": ("", "1"),
    "getsymval": (
        "'i'",
        "'{i}'",
        "'{mail_addr}'",
        "'mail_addr'",
        "''",
        "None",
        "b'i'",
        "5",
        "",
        "'caf\\xe9'",
        "'a\\0b'",
        "sym='i'",
    ),
    "setsymlist": ("0, 'i'", "Milter.M_EOM, 'i', 'j'", "''", "", "0, ''", "9, 'i'", "-1, 'i'", "0, b'i'", "0"),
    "_ctx.setsymlist": ("0, 'i'", "0, 'i', 'j'", "9, 'i'", "0", ""),
    "_ctx.setpriv": ("self",),
    "_ctx.getpriv": ("1",),
    "log": ("'a', 'b'", ""),
}
_FEW: Final = (
    *(
        "addheader('X', 'y')",
        "chgheader('Subject', 1, 'x')",
        "addrcpt('<a@b>')",
        "addrcpt('<a@b>', 'X=1')",
        "delrcpt('<a@b>')",
    ),
    *("replacebody('x')", "chgfrom('<a@b>')", "quarantine('x')", "progress()", "setsymlist(0, 'i')"),
    *(
        "_ctx.addheader('X', 'y')",
        "_ctx.chgheader('Subject', 1, 'x')",
        "_ctx.addrcpt('<a@b>')",
        "_ctx.addrcpt('<a@b>', 'X=1')",
    ),
    *(
        "_ctx.delrcpt('<a@b>')",
        "_ctx.replacebody('x')",
        "_ctx.chgfrom('<a@b>')",
        "_ctx.quarantine('x')",
        "_ctx.progress()",
    ),
    *("_ctx.setsymlist(0, 'i')", "getsymval('i')", "setreply('550', '5.7.1', 'x')"),
)
_SAME: Final = (
    "self.tell('>', shown(self._actions), shown(self._protocol), type(self._ctx).__name__)\n"
    "self.tell('>', str(self._ctx.getpriv() is self))"
)
ACTIONS: Final = {
    **{
        f"{prefix}{name}({args})": at("eom", once(tries(f"{prefix}{name}({args})")))
        for name, listed in _CALLS.items()
        for prefix in (("", "_ctx.") if "." not in name and name != "log" else ("",))
        for args in listed
        if not (prefix and "=" in args.split("'")[0])
    },
    **{f"all actions at {step}": at(step, tries(*_FEW, then=_SAME)) for step in EVERYWHERE},
    **{
        f"all actions, offered {actions:#x}": at(
            "eom", tries(*_FEW, then=_SAME), offer(actions) + connect() + helo() + MESSAGE + QUIT
        )
        for actions in (0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0xF, 0x3F, 0x7F, 0xFF, 0x1FF, 0xFFFF)
    },
    **{
        f"all actions, then {verdict}": at("eom", once(tries(*_FEW, then=f"return Milter.{verdict}")))
        for verdict in ("ACCEPT", "REJECT", "TEMPFAIL", "DISCARD", "SKIP")
    },
    "actions that are taken away": at("eom", "self._actions = 0\n" + tries(*_FEW)),
    "progress at each step": Case(SESSION, dict.fromkeys(EVERYWHERE, tries("progress()"))),
    "edits in the body callback of the end": Case(
        OPENING + ENVELOPE + DATA + EOH + b"\0\0\0\5Erest" + QUIT, {"body": tries("addheader('X', 'y')", "progress()")}
    ),
    "a context that is kept": Case(
        SESSION,
        {
            "connect": "global KEPT, OWNER\nKEPT, OWNER = self._ctx, self",
            "close": "self.tell('>', shown(self._ctx is KEPT), shown(KEPT.getpriv() is self))",
        },
    ),
    "a kept context after close": Case(
        SESSION,
        {
            "connect": "self._ctx, own = KEPT, self._ctx\n"
            + tries(
                *_FEW,
                then="self.tell('>', shown(OWNER._ctx), shown(KEPT.getpriv() is OWNER))\nself._ctx = own\nreturn 0",
            )
        },
    ),
    "methods after close": Case(
        SESSION,
        {
            "connect": "self._ctx, own = None, self._ctx\n"
            + tries(*_FEW[:10], "getsymval('i')", then="self._ctx = own\nreturn 0")
        },
    ),
}

# ------------------------------------------------------------------------------------------- negotiation and factories

_OFFERS: Final = {
    "6": offer(),
    "6 without steps": offer(ALL_ACTIONS, ONLY_BASIC),
    "6 without no-reply": offer(ALL_ACTIONS, ALL_PROTOCOL & ~NR_FLAGS),
    "6 without SKIP": offer(ALL_ACTIONS, ALL_PROTOCOL & ~0x400),
    "6 without SETSYMLIST": offer(0xFF, ALL_PROTOCOL),
    "6 without HDR_LEADSPC": offer(ALL_ACTIONS, ALL_PROTOCOL & ~0x100000),
    "6 without RCPT_REJ": offer(ALL_ACTIONS, ALL_PROTOCOL & ~0x800),
    "6 with nothing": offer(0, 0),
    "6 with large packets": offer(0x1FF, 0x301FFFFF),
    "6 with all bits": offer(0xFFFFFFFF, 0xFFFFFFFF),
    "7": offer(version=7),
    "2": offer(0x3F, 0x7F, 2),
    "2 of Postfix": offer(0x1FF, 0x7F, 2),
    "2 with nothing": offer(0, 0, 2),
    "3": offer(0x1FF, 0x17F, 3),
    "4": offer(0x1FF, 0x37F, 4),
    "5": offer(0x1FF, 0x37F, 5),
    "1": offer(0xF, 0x3F, 1),
    "0": offer(0xF, 0x3F, 0),
}


def offered(plan: Mapping[str, str] | None = None) -> dict[str, Case]:
    """A session after each offer."""
    rest = connect() + helo() + unknown() + MESSAGE + NEXT
    return {f"offer {name}": Case(octets + rest, plan or {}) for name, octets in _OFFERS.items()}


NEGOTIATION: Final = {
    **offered(),
    **{
        f"negotiate: {source}": Case(SESSION, {"negotiate": source})
        for source in (
            *(
                "1/0",
                "return None",
                "return Milter.REJECT",
                "return Milter.ACCEPT",
                "return Milter.TEMPFAIL",
                "return 99",
            ),
            *(
                "return Milter.DISCARD",
                "return Milter.SKIP",
                "return Milter.NOREPLY",
                "return True",
                "return 'x'",
                "return -1",
            ),
            *("return Milter.ALL_OPTS", "return Milter.CONTINUE", "raise KeyboardInterrupt"),
            *(
                "opts[0] = 1\nreturn 0",
                "opts[1] = 0\nreturn 0",
                "opts[:2] = [0, 0]\nreturn 0",
                "opts[1] = 0x3ff\nreturn 0",
            ),
            *(
                "opts[0] = 'x'\nreturn 0",
                "opts[1] = None\nreturn 0",
                "opts[2] = 'x'\nreturn 0",
                "opts[0] = 2**31\nreturn 0",
            ),
            *(
                "opts[0] = -1\nreturn 0",
                "opts[0] = 2**64\nreturn 0",
                "del opts[0]\nreturn 0",
                "opts.append(0)\nreturn 0",
            ),
            *(
                "opts[2:] = [1, 1]\nreturn 0",
                "opts[0] = 0xffff\nreturn 0",
                "opts[1] = 0xff000000\nreturn 0",
            ),
            *("opts[0] = 1.5\nreturn 0", "opts[0] = True\nreturn 0", "opts[1] = Milter.P_RCPT_REJ\nreturn 0"),
            *("opts[1] = Milter.P_NR_HDR | Milter.P_NR_BODY\nreturn 0", "opts[1] = Milter.P_NOBODY\nreturn 0"),
            *(
                "opts[0] = 'x'\nreturn Milter.ALL_OPTS",
                "answer = Milter.Base.negotiate(self, opts)\nopts[1] |= Milter.P_NR_RCPT\nreturn answer",
            ),
            *(
                "self.attempt('setsymlist', 3, 'i')\nreturn Milter.Base.negotiate(self, opts)",
                "self._ctx.setsymlist(3, 'i')\nreturn 0",
            ),
            *(
                "self.attempt('addheader', 'X', 'y')\nself.attempt('getsymval', 'i')\nself.attempt('progress')\nreturn 0",
            ),
            *("self.attempt('setreply', '550', '5.7.1', 'text')\nreturn Milter.REJECT",),
        )
    },
    "no negotiation is left": Case(SESSION, {"negotiate": "opts.clear()\nreturn 0"}, deadly=True),
    "SystemExit in negotiate": Case(SESSION, {"negotiate": "raise SystemExit"}, HANGS, deadly=True),
    "SystemExit in the factory": Case(SESSION, {"factory": "raise SystemExit"}, HANGS, deadly=True),
    "negotiation is seen by the instance": Case(
        SESSION,
        {"connect": "self.tell('>', shown(self._protocol), shown(self._actions), shown(self.protocol_mask()))"},
    ),
    **{
        f"factory: {source}": Case(SESSION, {"factory": source})
        for source in (
            "1/0",
            "raise KeyboardInterrupt",
            "raise BaseException('x')",
            "raise Milter.error('x')",
        )
    },
    **{
        f"factory makes {source}": Case(SESSION, {"factory": f"global MAKE\nMAKE = lambda: {source}\nraise Remade"})
        for source in ("None", "5", "object()", "Milter.Base()", "Milter.Milter()")
    },
    **{
        f"an attribute instead of {name}": Case(SESSION, {"factory": f"self.{name} = {value}"})
        for name in ("data", "header", "close", "abort", "eom", "connect", "body", "negotiate")
        for value in ("{}", "None", "lambda *a: self.tell('lambda', *map(shown, a)) or 0")
    },
    **{
        f"a raw entry point of its own: {name}": Case(
            SESSION, {"factory": f"self.{name} = lambda *a: self.tell('raw', *map(shown, a)) or 0"}
        )
        for name in ("header_bytes", "envfrom_bytes", "envrcpt_bytes")
    },
    "QUIT_NC": Case(
        OPENING + MESSAGE + QUIT_NC + connect("second.example") + helo() + MESSAGE + QUIT,
        {"connect": "self.tell('>', shown(self._protocol), shown(self._actions))", "eom": tries("addheader('X', 'y')")},
    ),
    "QUIT_NC with a no-reply callback": Case(
        OPENING + MESSAGE + QUIT_NC + connect("second.example") + helo() + MESSAGE + QUIT
    ),
    "QUIT_NC twice": Case(
        OPENING
        + MESSAGE
        + QUIT_NC
        + connect("second.example")
        + MESSAGE
        + QUIT_NC
        + connect("third.example")
        + MESSAGE
        + QUIT
    ),
    "QUIT_NC, then the factory raises": Case(
        OPENING + MESSAGE + QUIT_NC + connect("second.example") + helo() + MESSAGE + QUIT,
        {"factory": "global TIMES\nTIMES = globals().get('TIMES', 0) + 1\nif TIMES == 2: 1/0"},
    ),
    "second offer": Case(OPENING + offer() + MESSAGE + QUIT),
    "second offer inside a message": Case(OPENING + ENVELOPE + offer() + CONTENT + QUIT),
}


# --------------------------------------------------------------------------------------------------------------- values

_TEXTS: Final = {
    "ASCII": b"plain",
    "UTF-8": b"caf\xc3\xa9 \xe2\x82\xac",
    "latin-1": b"caf\xe9",
    "any octets": bytes(range(1, 256)),
    "empty": b"",
    "cut UTF-8": b"caf\xc3",
    "surrogate in UTF-8": b"\xed\xa0\x80",
    "fold": b"a\n b\n\tc",
    "spaces": b"  a ",
}


def packet(code: str, payload: bytes) -> bytes:
    return (len(payload) + 1).to_bytes(4, "big") + code.encode() + payload


VALUES: Final = {
    f"{where}: {name}": Case(before + packet(code, payload) + NEXT)
    for name, text in _TEXTS.items()
    for where, before, code, payload in (
        ("host", offer(), "C", text + b"\x004\x9c\x40192.0.2.7\0"),
        ("UNIX-domain path", offer(), "C", b"host\0L\0\0" + text + b"\0"),
        ("HELO", offer() + connect(), "H", text + b"\0"),
        ("sender", OPENING, "M", text + b"\0"),
        ("parameter of a sender", OPENING, "M", b"<a@b>\0" + text + b"\0SIZE=1\0"),
        ("recipient", OPENING + mail(), "R", text + b"\0"),
        ("parameter of a recipient", OPENING + mail(), "R", b"<a@b>\0" + text + b"\0"),
        ("header name", OPENING + ENVELOPE + DATA, "L", text + b"\0value\0"),
        ("header value", OPENING + ENVELOPE + DATA, "L", b"X\0" + text + b"\0"),
        ("body", OPENING + ENVELOPE + DATA + EOH, "B", text),
        ("end with body", OPENING + ENVELOPE + DATA + EOH, "E", text),
        ("unknown command", OPENING, "U", text + b"\0"),
    )
} | {
    f"macro value: {name}": Case(
        offer() + packet("D", b"Cj\0" + text + b"\0{two}\0" + text + b"\0") + connect() + helo() + MESSAGE + QUIT,
        {"connect": "self.look('j', '{j}', 'two', '{two}', 'three')", "eom": "self.look('j', '{two}')"},
    )
    for name, text in _TEXTS.items()
}

# --------------------------------------------------------------------------------------------------- the groups of ours

_LATE: Final = {
    f"{step}: {source}": Case(
        SESSION if more else OPENING + unknown() + MESSAGE + QUIT, {step: once(source) if more else source}
    )
    for step in (*STEPS[:-2], "unknown")
    for more in (True, False)
    for source in (
        *("1/0", "return Milter.REJECT", "return Milter.TEMPFAIL", "return Milter.ACCEPT", "return Milter.DISCARD"),
        *("return Milter.NOREPLY", "return Milter.SKIP", "return None", "return 99"),
        tries("setreply('550', '5.7.1', 'no')", then="return Milter.REJECT"),
    )
}
"""What a no-reply callback may do that is not silent."""

_LOW_STEPS: Final = ("connect", "helo", "envfrom", "envrcpt", "data", "header", "eoh", "body", "eom", "unknown")


def _low(*calls: str, then: str = "return 0") -> str:
    """As :func:`tries`, on a bare context."""
    lines = (f"attempt(ctx, {call[: call.index('(')]!r}, {call[call.index('(') + 1 :]}" for call in calls)
    return "\n".join([*lines, then])


_LOW_FEW: Final = tuple(
    call.removeprefix("_ctx.") for call in _FEW if not call.startswith("_ctx.") or "setsymlist" in call
)
LOW: Final = {
    **offered(),
    "session": Case(SESSION),
    **{
        f"{step} {source}": at(step, once(source).replace("Milter", "milter"))
        for step in (*_LOW_STEPS, "abort", "close")
        for source in (
            "1/0",
            "return None",
            "return Milter.REJECT",
            "return Milter.NOREPLY",
            "return 99",
            "return Milter.SKIP",
        )
    },
    **{f"all actions at {step}": at(step, _low(*_LOW_FEW)) for step in (*_LOW_STEPS, "abort", "close", "negotiate")},
    **{
        f"negotiate: {source}": Case(SESSION, {"negotiate": source})
        for source in (
            *(
                "1/0",
                "return None",
                "return milter.ALL_OPTS",
                "return milter.REJECT",
                "a[0][1] = 0\nreturn 0",
                "a[0][:2] = [0, 0]\nreturn 0",
            ),
            *(
                "ctx.setsymlist(3, 'i {rcpt_addr}')\nreturn milter.CONTINUE",
                "ctx.setsymlist(3, 'i')\nreturn milter.ALL_OPTS",
            ),
            *("ctx.setsymlist(3, 'i')\nctx.setsymlist(3, 'j')\nreturn milter.CONTINUE", "a[0][2] = 5\nreturn 0"),
        )
    },
    "everything is agreed": Case(SESSION, {"negotiate": "return 0"}),
    "private data": at(
        "helo",
        "old = ctx.setpriv(None)\nnow = ctx.getpriv()\nctx.setpriv(old)\n"
        "attempt(ctx, 'getpriv')\ntell(old, str(now))\nreturn 0",
    ),
    "private data that stays": at("close", "return 0"),
    "keywords": at(
        "eom", _low("addheader(field='X', value='y')", "getsymval(name='i')", "setreply(rcode='550', xcode='5.7.1')")
    ),
    **{f"values {name}": case for name, case in VALUES.items() if "macro" not in name},
}

SHAPED: Final[Mapping[str, Group]] = {
    "answers": Group({}, ANSWERS),
    "setreply": Group({}, SETREPLY),
    "actions": Group({}, ACTIONS),
    "negotiation": Group({}, NEGOTIATION),
    "values": Group({}, VALUES),
    "no negotiate of its own": Group({"negotiate": False}, offered() | {"session": Case(SESSION)}),
    "no callback": Group({"callbacks": []}, offered()),
    "no callback, no negotiate": Group({"callbacks": [], "negotiate": False}, offered()),
    "content only": Group({"callbacks": ["header", "eoh", "body", "eom"]}, offered()),
    "no unknown": Group(
        {"callbacks": [name for name in EVERYWHERE if name != "unknown"]},
        {
            **offered(),
            "ABORT twice": Case(OPENING + ENVELOPE + ABORT * 3 + NEXT),
            "ABORT between messages": Case(OPENING + ABORT + MESSAGE + ABORT * 2 + NEXT),
        },
    ),
    "no reply": Group({"noreply": [*STEPS[:-2], "unknown"]}, offered() | _LATE),
    "no reply to content": Group(
        {"noreply": ["header", "body"], "callbacks": ["connect", "envfrom", "header", "body", "eom", "close", "abort"]},
        offered() | {"session": Case(SESSION), "abort": Case(OPENING + ENVELOPE + DATA + header() + ABORT + NEXT)},
    ),
    "no callback by decorator": Group(
        {"nocallback": ["hello", "data", "eoh"], "noreply": ["header"]}, offered() | {"session": Case(SESSION)}
    ),
    "everything by decorator": Group(
        {
            "nocallback": ["hello"],
            "noreply": ["header"],
            "decode": {"envfrom": "bytes"},
            "leading": True,
            "rejected": True,
        },
        offered() | {"session": Case(SESSION)},
    ),
    "leading space": Group(
        {"leading": True}, offered() | {f"field {n}": c for n, c in VALUES.items() if "header" in n}
    ),
    "rejected recipients": Group({"rejected": True}, offered()),
    "symlist": Group(
        {"symlist": {"envrcpt": ["i", "{rcpt_addr}"], "connect": ["j", "{client_addr}", "v", "_", "{daemon_name}"]}},
        offered() | {"session": Case(SESSION)},
    ),
    "symlist and no reply": Group({"symlist": {"eom": ["i"], "eoh": ["i"]}, "noreply": ["header", "body"]}, offered()),
    **{
        f"decode {strategy}": Group({"decode": {"envfrom": strategy, "envrcpt": strategy, "header": strategy}}, VALUES)
        for strategy in ("bytes", "strict", "surrogateescape", "replace", "ignore", "backslashreplace", "nonsense")
    },
    **{
        f"policy {policy}": Group(
            {"policy": policy},
            {f"{step}: {raised}": at(step, once(raised)) for step in EVERYWHERE for raised in ("1/0", "return None")}
            | {f"values {name}": case for name, case in VALUES.items()},
        )
        for policy in ("CONTINUE", "REJECT", "TEMPFAIL", "ACCEPT")
    },
    "low level": Group({}, LOW, "lowlevel.py"),
    **{
        f"low level, flags {flags:#x}": Group({"flags": flags, "register": []}, LOW, "lowlevel.py")
        for flags in (0, 1, 0x3F, 0x1FF)
    },
    "low level, no callback": Group({"callbacks": [], "register": []}, offered(), "lowlevel.py"),
    "low level, few callbacks": Group(
        {"callbacks": ["envfrom", "eom", "close"], "register": []}, offered(), "lowlevel.py"
    ),
    "low level, CONTINUE": Group({"policy": "CONTINUE"}, {"exception": at("envrcpt", "1/0")}, "lowlevel.py"),
    "a long name": Group({"name": "x" * 60}, {"exception": at("envrcpt", "1/0")}),
    "a name of octets": Group({"name": "caf\xe9 %s"}, {"exception": at("envrcpt", "1/0")}),
    "an empty name": Group({"name": ""}, {"exception": at("envrcpt", "1/0")}),
    "no flags": Group({"flags": 0}, {"edits": at("eom", tries(*_FEW, then=_SAME)), **offered()}),
}

_SEEDS: Final = range(int(os.environ.get("COMPAT_SEEDS", "100")))
"""Of each kind of class; set the variable to play more than CI has time for."""

GROUPS: Final[Mapping[str, Group]] = {
    **dict(_groups()),
    **SHAPED,
    **{f"generated, {name}": Group(shape, generated.cases(name, _SEEDS)) for name, shape in generated.SHAPES.items()},
}
