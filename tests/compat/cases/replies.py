"""What setreply takes, and when a reply is used."""

from typing import Final

from tests.compat.cases.making import ENVELOPE, EVERYWHERE, NEXT, SESSION, at, once, tries
from tests.compat.playing import Case
from tests.peer import (
    ABORT,
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    connect,
    helo,
    mail,
    rcpt,
)

__all__ = ["SETREPLY"]

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
