"""Which macros each MTA sends before which stage.

The values are the session's; here are the lists, what a filter's own lists do to them, and what is hidden where.

Source: aiomilter/help/protocol.rst, "Macro lists" and "Usual macros".
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from aiomilter.mta.content import Style
from aiomilter.wire.constants import Stage
from aiomilter.wire.negotiation import canonical_macro

__all__ = ["MacroValues", "hidden", "macro_lists"]

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
