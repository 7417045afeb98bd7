"""Which macros each MTA sends before which stage, and their values in a session.

First the lists, what a filter's own lists do to them, and what is hidden where; then :class:`KnownMacros`, the values.

Source: aiomilter/help/protocol.rst, "Macro lists" and "Usual macros".
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from aiomilter.mta.content import Style
from aiomilter.wire.constants import Command, Stage
from aiomilter.wire.framing import packet
from aiomilter.wire.macros import Macros
from aiomilter.wire.negotiation import canonical_macro
from aiomilter.wire.text import pack_strings

__all__ = ["KnownMacros", "MacroValues", "hidden", "macro_lists"]

MacroValues = Mapping[Stage, Mapping[str, str]]
"""Values by stage; what is known at one stage is known at those after it."""

_TLS: Final = ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}")

_POSTFIX: Final[Mapping[Stage, tuple[str, ...]]] = MappingProxyType(
    {
        Stage.CONNECT: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
        Stage.HELO: _TLS,
        Stage.MAIL: (
            "i",
            "{auth_type}",
            "{auth_authen}",
            "{auth_author}",
            "{mail_addr}",
            "{mail_host}",
            "{mail_mailer}",
        ),
        Stage.RCPT: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
        Stage.DATA: ("i",),
        Stage.EOH: ("i",),
        Stage.EOM: ("i",),
        Stage.UNKNOWN: (),
    }
)
_SENDMAIL: Final[Mapping[Stage, tuple[str, ...]]] = MappingProxyType(
    {
        Stage.CONNECT: ("j", "_", "{daemon_name}", "{if_name}", "{if_addr}"),
        Stage.HELO: _TLS,
        Stage.MAIL: (
            "i",
            "{auth_type}",
            "{auth_authen}",
            "{auth_ssf}",
            "{auth_author}",
            "{mail_mailer}",
            "{mail_host}",
            "{mail_addr}",
        ),
        Stage.RCPT: ("{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}"),
        Stage.EOM: ("{msg_id}",),
    }
)
_SENDMAIL_STAGES: Final = frozenset({*_SENDMAIL, Stage.DATA, Stage.EOH})
_SENDMAIL_NAMES: Final = 50
"""More names in one list are cut off without notice."""

_MESSAGE_MACROS: Final = (
    "i",
    "msg_id",
    "mail_addr",
    "mail_host",
    "mail_mailer",
    "rcpt_addr",
    "rcpt_host",
    "rcpt_mailer",
)
_CONTENT: Final = frozenset({Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM})
_TLS_NAMES: Final = frozenset(map(canonical_macro, _TLS))


def macro_lists(
    style: Style, asked: Mapping[Stage, tuple[str, ...]], extra: MacroValues
) -> dict[Stage, tuple[str, ...]]:
    """Return the names to send by stage; a stage that is missing gets no MACRO packet.

    Args:
        style: Whose lists.
        asked: The filter's own lists; each replaces the MTA's for its stage.
        extra: Values the caller gave; their names are added to the MTA's lists, as a postmaster would configure it.
    """
    lists = dict(_POSTFIX if style == "postfix" else _SENDMAIL)
    if style == "postfix":
        replaced = {stage: names for stage, names in asked.items() if names}
        lists |= replaced
        lists[Stage.HEADER], lists[Stage.BODY] = lists[Stage.EOH], lists[Stage.EOM]
    else:
        replaced = _as_sendmail_reads(asked)
        lists |= replaced
    for stage, values in extra.items():
        if stage not in replaced and (style == "postfix" or stage in _SENDMAIL_STAGES):
            lists[stage] = _union(lists.get(stage, ()), values)
    return {stage: names for stage, names in lists.items() if names or style == "postfix"}


def _as_sendmail_reads(asked: Mapping[Stage, tuple[str, ...]]) -> dict[Stage, tuple[str, ...]]:
    """Return a filter's lists as Sendmail 8.17 takes them: EOM counts only beside EOH, and EOH alone silences EOM."""
    lists = {stage: names[:_SENDMAIL_NAMES] for stage, names in asked.items()}
    if Stage.EOH in lists:
        lists.setdefault(Stage.EOM, ())
    else:
        lists.pop(Stage.EOM, None)
    return lists


def _union(names: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    known = {canonical_macro(name) for name in names}
    return (*names, *(name for name in more if canonical_macro(name) not in known))


def hidden(style: Style, stage: Stage, name: str) -> bool:
    """Return whether a macro, named without braces, has no value at a stage although the MTA knows one.

    Postfix sends content from another process, which knows neither the envelope's macros nor those of TLS.
    """
    return style == "postfix" and stage in _CONTENT and (name.startswith(("mail_", "rcpt_")) or name in _TLS_NAMES)


class KnownMacros:
    """The values that an MTA knows in a session, and the packets that give them to a filter.

    Args:
        style: Which MTA.
        extra: More values by stage, known from that stage on.

    Raises:
        LocalProtocolError: A text has NUL in it.
    """

    def __init__(self, style: Style, extra: MacroValues) -> None:
        self._style: Final = style
        self._extra = extra
        self._given = {stage: _canonical(values) for stage, values in extra.items()}
        self._lists: dict[Stage, tuple[str, ...]] = {}
        # By stage; forgotten when a value changes.
        self._packets: dict[Stage, bytes] = {}
        self.begin_connection()

    def negotiated(self, asked: Mapping[Stage, tuple[str, ...]]) -> None:
        """Use the lists that the filter has asked for in place of the MTA's."""
        self._lists = macro_lists(self._style, asked, self._extra)

    def begin_connection(self) -> None:
        """Forget the SMTP client."""
        self._values = {"j": "mx.example.org", "daemon_addr": "127.0.0.1"}
        if self._style == "postfix":
            self._values |= {"v": "Postfix 3.7.11", "daemon_name": "mx.example.org"}
        else:
            self._values |= {"v": "8.17.1.9", "daemon_name": "MTA", "if_name": "localhost"}
        self._packets.clear()

    def begin_message(self) -> None:
        """Forget the message."""
        for name in _MESSAGE_MACROS:
            self._values.pop(name, None)
        self._packets.clear()

    def define(self, **values: str) -> None:
        """Give macros, named without braces, their values."""
        self._values |= values
        self._packets.clear()

    def get(self, name: str) -> str | None:
        """Return the value that the MTA itself knows; None for none."""
        return self._values.get(name)

    def packet(self, stage: Stage) -> bytes:
        """Return the packet that goes before a stage; nothing where the MTA sends none."""
        names = self._lists.get(stage)
        if names is None:
            return b""
        out = self._packets.get(stage)
        if out is None:
            known = self._known(stage)
            values = {name: known[key] for name in names if (key := canonical_macro(name)) in known}
            out = packet(Command.MACRO, Macros(stage.command, values).payload)
            self._packets[stage] = out
        return out

    def _known(self, stage: Stage) -> dict[str, str]:
        """Return the values of all macros at a stage."""
        known = dict(self._values)
        last = Stage.HELO if stage is Stage.UNKNOWN else stage
        for earlier in sorted(self._given):
            if earlier <= last:
                known |= self._given[earlier]
        visible = {name: value for name, value in known.items() if not hidden(self._style, stage, name)}
        return visible | self._given.get(stage, {})


def _canonical(values: Mapping[str, str]) -> dict[str, str]:
    pack_strings(*values, *values.values())
    return {canonical_macro(name): value for name, value in values.items()}
