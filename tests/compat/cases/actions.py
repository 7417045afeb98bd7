"""What the methods and the context take, at each step."""

from typing import Final

from tests.compat.cases.making import ENVELOPE, EVERYWHERE, SESSION, at, once, tries
from tests.compat.playing import Case
from tests.peer import (
    DATA,
    EOH,
    MESSAGE,
    OPENING,
    QUIT,
    connect,
    helo,
    offer,
)

__all__ = ["ACTIONS", "FEW", "SAME"]

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
FEW: Final = (
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
SAME: Final = (
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
    **{f"all actions at {step}": at(step, tries(*FEW, then=SAME)) for step in EVERYWHERE},
    **{
        f"all actions, offered {actions:#x}": at(
            "eom", tries(*FEW, then=SAME), offer(actions) + connect() + helo() + MESSAGE + QUIT
        )
        for actions in (0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0xF, 0x3F, 0x7F, 0xFF, 0x1FF, 0xFFFF)
    },
    **{
        f"all actions, then {verdict}": at("eom", once(tries(*FEW, then=f"return Milter.{verdict}")))
        for verdict in ("ACCEPT", "REJECT", "TEMPFAIL", "DISCARD", "SKIP")
    },
    "actions that are taken away": at("eom", "self._actions = 0\n" + tries(*FEW)),
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
                *FEW,
                then="self.tell('>', shown(OWNER._ctx), shown(KEPT.getpriv() is OWNER))\nself._ctx = own\nreturn 0",
            )
        },
    ),
    "methods after close": Case(
        SESSION,
        {
            "connect": "self._ctx, own = None, self._ctx\n"
            + tries(*FEW[:10], "getsymval('i')", then="self._ctx = own\nreturn 0")
        },
    ),
}
