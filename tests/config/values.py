"""Values of each kind of option, as TOML has them: what it takes, what is of another type, and what is out of range."""

from typing import Any, Final, NamedTuple

from aiomilter import ACCEPT, REJECT, Reply, Stage
from aiomilter._cli.configured import KEYS
from aiomilter._config.table import Key
from aiomilter._option import Kind

__all__ = ["BY_KIND", "KEYS", "Values", "of"]


class Values(NamedTuple):
    """Values of a kind.

    Args:
        good: Texts of TOML, and what the option has for each.
        wrong: Texts of another type.
        out: Texts that are out of range, or malformed.
        of_machine: Whether a schema cannot tell the last: this machine, or more than a pattern, decides.
    """

    good: dict[str, Any]
    wrong: tuple[str, ...]
    out: tuple[str, ...]
    of_machine: bool = False


ANY: Final = ("true", "[[1]]", "{ a = 1 }", "1979-05-27")
BY_KIND: Final[dict[Kind, Values]] = {
    Kind.DURATION: Values(
        {"30": 30.0, "0.5": 0.5, '"30"': 30.0, '"2 min"': 120.0, '"20s"': 20.0, '"1500 ms"': 1.5, '"0.01 h"': 36.0},
        ANY,
        ("-1", "nan", "inf", '"5 weeks"', '""', '"-1 s"', "1e99", '"99999999999 d"', '"x"'),
    ),
    Kind.DURATIONS: Values(
        {"{ mail = 20, eom = '2 min' }": {Stage.MAIL: 20.0, Stage.EOM: 120.0}, "{ envfrom = 1 }": {Stage.MAIL: 1.0}},
        ("5", '"mail=5"', "true", "[1]", "{ mail = true }", "{ mail = [] }"),
        ("{ ma1l = 5 }", "{ mail = -1 }", "{ mail = 0 }"),
    ),
    Kind.SIZE: Values(
        {"4096": 4096, '"64 KiB"': 65536, '"1MiB"': 1048576, '"1 GiB"': 1 << 30, '"2 MB"': 2_000_000, '"4096"': 4096},
        (*ANY, "1.5"),
        ("-1", "0", '"0"', '"1 k"', '"4 TiB"', '"9999999999 GiB"', '""', "99999999999", '"x"'),
    ),
    Kind.COUNT: Values({"7": 7, "0x10": 16}, (*ANY, "1.5", '"7"'), ("-1", "0", "99999999999")),
    Kind.ANSWER: Values(
        {'"reject"': REJECT, '"accept"': ACCEPT, '"451 4.3.0 Try again"': Reply(451, "4.3.0", "Try again")},
        (*ANY, "451"),
        ('"tempfial"', '""', '"discard"', '"99 x"', '"REJECT"'),
    ),
    Kind.NETWORKS: Values(
        {'["10.0.0.0/8", "::1"]': ["10.0.0.0/8", "::1"], '"10.0.0.1"': ["10.0.0.1"], "[]": []},
        ("5", "true", "{ a = 1 }", "[5]", '[["::1"]]'),
        ('["10.0.0.1/8"]', '["x"]', '""'),
        of_machine=True,
    ),
    Kind.DOMAINS: Values(
        {'["corp.example", "a.example"]': ["corp.example", "a.example"], '"corp.example"': ["corp.example"], "[]": []},
        ("5", "true", "{ a = 1 }", "[5]", '[["a.example"]]'),
        ('["a example"]', '""', '["a.example", ""]'),
    ),
    Kind.USERS: Values(
        {'["root", 0]': [0, 0], '"root"': [0]}, ("true", "1.5", "[true]"), ('["no-such-user"]', "-1"), True
    ),
    Kind.GROUPS: Values({'["root"]': [0]}, ("true", "[[]]"), ('["no-such-group"]',), True),
    Kind.USER: Values(
        {'"root"': 0, "0": 0, '"0"': 0}, ("true", "1.5", "[0]"), ('"no-such-user"', "-1", "99999999999"), True
    ),
    Kind.GROUP: Values({'"root"': 0, "0": 0}, ("true", "1.5", "[0]"), ('"no-such-group"', "-1"), True),
    Kind.MODE: Values(
        {'"0660"': 0o660, '"660"': 0o660, '"0o600"': 0o600}, (*ANY, "660", "0o660"), ('"999"', '"1777"', '""', '"rw"')
    ),
    Kind.PATH: Values({'"/etc/x.pem"': "/etc/x.pem"}, (*ANY, "5"), ('""',)),
    Kind.SOCKETS: Values(
        {'["inet:8890@127.0.0.1", "unix:/run/x"]': ["inet:8890@127.0.0.1", "unix:/run/x"], '"fd:3"': ["fd:3"]},
        ("5", "true", "{ a = 1 }", "[5]"),
        ('["8890"]', '"tcp:1"', '["unix:/x", "unix:/x"]'),
        True,
    ),
    Kind.HTTP: Values(
        {'"127.0.0.1:9464"': "127.0.0.1:9464", '"unix:/run/http"': "unix:/run/http"},
        (*ANY, "5"),
        ('"x"', '"fd:3"'),
        True,
    ),
    Kind.IP: Values({'"192.0.2.1"': "192.0.2.1", '"::1"': "::1"}, (*ANY, "5"), ('"x"', '"10.0.0.0/8"'), True),
    Kind.LINE: Values({'"2525"': "2525"}, (*ANY, "5"), ('"a\\nb"', '"a\\rb"')),
    Kind.CHOICE: Values({'"debug"': "debug"}, (*ANY, "5"), ('"debgu"', '""')),
    Kind.CHOICES: Values(
        {
            '["failed", "slow"]': ("failed", "slow"),
            '"failed, refused"': ("failed", "refused"),
            '["slow", "slow"]': ("slow",),
        },
        ("5", "true", "{ a = 1 }", "[5]"),
        ('"faild"', '["failed", "loud"]', '""'),
    ),
    Kind.SHARE: Values(
        {"0.01": 0.01, "1": 1.0, '"0.5"': 0.5, '"2 %"': 0.02},
        ("true", "[1]", "{ a = 1 }"),
        ("0", "-1", "1.5", "nan", "inf", '"x"', '""', '"200 %"'),
        of_machine=True,
    ),
    Kind.SWITCH: Values({"true": True, "false": False}, ('"true"', "1", '"yes"', "[true]"), ()),
}


def of(key: Key) -> Values:
    """Return the values of a key."""
    if key.row.option.kind is Kind.CHOICE:
        word = key.row.option.choices[0]
        return BY_KIND[Kind.CHOICE]._replace(good={f'"{word}"': word})
    return BY_KIND[key.row.option.kind]
