"""The offer of the MTA, the needs of the filter, and their agreement: pure functions on values.

Source: aiomilter/help/protocol.rst, "Negotiation"; libmilter/engine.c, st_optionneg.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from types import MappingProxyType
from typing import ClassVar, Final, Self

from aiomilter.exceptions import LocalProtocolError, NegotiationError, RemoteProtocolError
from aiomilter.wire.constants import (
    ALL_ACTIONS,
    ALL_PROTOCOL,
    MAX_VERSION,
    MIN_VERSION,
    V1_ACTIONS,
    V1_PROTOCOL,
    Action,
    Protocol,
    ReplyCode,
    Stage,
)
from aiomilter.wire.events import Negotiate
from aiomilter.wire.text import decode, pack_strings

__all__ = ["Agreement", "NegotiateAnswer", "Wants", "agree", "canonical_macro", "check_answer", "macro_lists"]

_ANSWER: Final = Struct(">III")
_U32: Final = Struct(">I")
_MACRO_NAME: Final = re.compile(r"[^\s\0,{}]+")
# As ints: an operation on a flag costs a hundred times as much.
_SKIP: Final = int(Protocol.SKIP)
_LEADING_SPACE: Final = int(Protocol.LEADING_SPACE)
# Stages that identify the client to later callbacks; requested even if the filter does not override their callback.
_CONTEXT_STAGES: Final = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)

USUAL_MACROS: Final[Mapping[Stage, tuple[str, ...]]] = MappingProxyType(
    {
        Stage.CONNECT: ("j", "_", "v", "{daemon_name}", "{daemon_addr}", "{if_name}", "{if_addr}"),
        Stage.HELO: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
        Stage.MAIL: (
            "i",
            "{auth_type}",
            "{auth_authen}",
            "{auth_author}",
            "{auth_ssf}",
            "{mail_addr}",
            "{mail_host}",
            "{mail_mailer}",
        ),
        Stage.RCPT: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
        Stage.DATA: ("i",),
        Stage.EOH: ("i",),
        Stage.EOM: ("i", "{msg_id}"),
    }
)
"""What Postfix and Sendmail send unasked, together; a list of ours replaces theirs, so it has to name these too.

Source: aiomilter/help/protocol.rst, "Usual macros".
"""


@dataclass(frozen=True, slots=True)
class NegotiateAnswer:
    """What the filter asks for out of the offer (SMFIC_OPTNEG back to the MTA); final.

    Args:
        version: Version both will speak.
        actions: Bits of :class:`Action`.
        protocol: Bits of :class:`Protocol`.
        macros: Names of macros, as they travel (``"i"``, ``"{mail_addr}"``), by stage; a list replaces the MTA's own.

    Source: libmilter/docs/smfi_setsymlist.html; aiomilter/help/protocol.rst, "Negotiation" and "Macro lists".
    """

    CODE: ClassVar = ReplyCode.OPTNEG
    version: int
    actions: int
    protocol: int
    macros: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        """The payload."""
        parts = [_ANSWER.pack(self.version, self.actions, self.protocol)]
        for stage, names in self.macros.items():
            if stage.symlist is None:
                raise LocalProtocolError(f"macro list: expected a stage the MTA keeps a list for, found {stage.name}")
            parts.append(_U32.pack(stage.symlist) + pack_strings(" ".join(names)))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the answer with its macro lists; a stage named twice counts as named last."""
        if len(payload) < _ANSWER.size:
            raise RemoteProtocolError(f"OPTNEG answer: expected at least 12 octets, found {len(payload)}")
        macros = {}
        position = _ANSWER.size
        while position < len(payload):
            end = payload.find(b"\0", position + _U32.size)
            if end < 0:
                raise RemoteProtocolError("OPTNEG answer: expected a macro list that ends in NUL")
            number = _U32.unpack_from(payload, position)[0]
            stage = _SYMLIST_STAGES.get(number)
            if stage is None:
                raise RemoteProtocolError(f"OPTNEG answer: expected a macro list for stage 0 to 6, found {number}")
            macros[stage] = tuple(decode(payload[position + _U32.size : end]).replace(",", " ").split())
            position = end + 1
        version, actions, protocol = _ANSWER.unpack_from(payload)
        return cls(version, actions, protocol, macros)


_SYMLIST_STAGES: Final = {stage.symlist: stage for stage in Stage if stage.symlist is not None}


@dataclass(frozen=True, slots=True)
class Wants:
    """What a filter wants of any MTA, read off its callbacks.

    Args:
        stages: Steps it has a callback for.
        no_reply: Those of them whose callback never answers.
        ends: Whether it looks at a message's or connection's end (``abort``, ``close``).
        actions: Bits of :class:`Action` it requires; whatever else is offered is taken, too.
        macros: Names it wants by stage, beyond the usual ones.
        leading_space: Header values with the space that follows the colon.
        rejected_recipients: Recipients that the MTA itself refuses, too.
    """

    stages: frozenset[Stage]
    no_reply: frozenset[Stage] = frozenset()
    ends: bool = False
    actions: Action | None = None
    macros: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)
    leading_space: bool = False
    rejected_recipients: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one connection agreed on.

    Args:
        answer: The packet for the MTA.
        offer: The offer of the MTA.
        silent: Steps that get no reply.
        declined: Steps that are not sent.
    """

    answer: NegotiateAnswer
    offer: Negotiate
    silent: frozenset[Stage]
    declined: frozenset[Stage]

    @property
    def actions(self) -> int:
        """Bits of :class:`Action` in force."""
        return self.answer.actions

    @property
    def skip(self) -> bool:
        """Whether ``body`` may be answered with SKIP."""
        return bool(self.answer.protocol & _SKIP)

    @property
    def leading_space(self) -> bool:
        """Whether header values keep and need their leading space."""
        return bool(self.answer.protocol & _LEADING_SPACE)


def agree(offer: Negotiate, wants: Wants) -> Agreement:
    """Return the agreement on an offer.

    Raises:
        RemoteProtocolError: The MTA speaks a version that is too old.
        NegotiationError: It does not offer an action that the filter requires.

    Source: aiomilter/help/protocol.rst, "The filter's answer", P-013 to P-022.
    """
    if offer.version < MIN_VERSION:
        raise RemoteProtocolError(f"OPTNEG packet: expected version {MIN_VERSION} or later, found {offer.version}")
    offered_actions = (offer.actions or V1_ACTIONS) & ALL_ACTIONS
    offered = (offer.protocol or V1_PROTOCOL) & ALL_PROTOCOL
    if missing := int(wants.actions or 0) & ~offered_actions:
        raise NegotiationError(f"the MTA does not offer what the filter requires: {Action(missing)!r}")
    protocol = 0
    for stage in Stage:
        if stage not in wants.stages:
            protocol |= stage.nr_flag if _tells_later(stage, wants) else stage.no_flag
        elif stage in wants.no_reply:
            protocol |= stage.nr_flag
    if Stage.BODY in wants.stages:
        protocol |= Protocol.SKIP
    if wants.rejected_recipients:
        protocol |= Protocol.REJECTED_RECIPIENTS
    if wants.leading_space:
        protocol |= Protocol.LEADING_SPACE
    protocol &= offered
    macros: Mapping[Stage, tuple[str, ...]] = {}
    if wants.macros and offered_actions & Action.SET_MACROS:
        macros = macro_lists(wants.macros)
    answer = NegotiateAnswer(min(MAX_VERSION, offer.version), offered_actions, protocol, macros)
    return Agreement(answer, offer, *_silent_and_declined(int(protocol)))


@lru_cache(maxsize=64)
def _silent_and_declined(protocol: int) -> tuple[frozenset[Stage], frozenset[Stage]]:
    """Return the stages without reply, and those not sent; one pair for all connections that agreed on the same."""
    silent = frozenset(stage for stage in Stage if stage.nr_flag & protocol)
    return silent, frozenset(stage for stage in Stage if stage.no_flag & protocol)


def _tells_later(stage: Stage, wants: Wants) -> bool:
    """Whether a stage without callback is still worth asking for, since a callback after it may want to know it."""
    if stage not in _CONTEXT_STAGES:
        return False
    return wants.ends or any(other > stage for other in wants.stages)


def macro_lists(wanted: Mapping[Stage, Iterable[str]]) -> dict[Stage, tuple[str, ...]]:
    """Return whole macro lists for the stages wanted: the usual names, then the others; EOH and EOM together.

    Sendmail 8.17 ignores a list for EOM that comes alone, and one for EOH alone silences EOM.

    Raises:
        LocalProtocolError: A stage has no list, or a name would change the list it stands in.

    Source: aiomilter/help/protocol.rst, "Macro lists", P-021 and P-022.
    """
    stages = set(wanted)
    if strange := stages - USUAL_MACROS.keys():
        names = ", ".join(stage.name for stage in sorted(strange))
        raise LocalProtocolError(f"macro list: expected a stage the MTA keeps a list for, found {names}")
    if stages & {Stage.EOH, Stage.EOM}:
        stages |= {Stage.EOH, Stage.EOM}
    # In the order of their numbers, as libmilter sends them.
    return {
        stage: tuple(dict.fromkeys([*USUAL_MACROS[stage], *map(_travelling, wanted.get(stage, ()))]))
        for stage in sorted(stages, key=lambda stage: stage.symlist or 0)
    }


def canonical_macro(name: str) -> str:
    """Return the name without braces: ``"{i}"`` and ``"i"`` are one macro (P-082)."""
    return name[1:-1] if name[:1] == "{" and name[-1:] == "}" else name


def _travelling(name: str) -> str:
    bare = canonical_macro(name) if isinstance(name, str) else ""
    if not _MACRO_NAME.fullmatch(bare):
        raise LocalProtocolError(f"macro name: expected one without blank, comma and brace, found {name!r}")
    return bare if len(bare) == 1 else f"{{{bare}}}"


def check_answer(offer: Negotiate, answer: NegotiateAnswer, *, lenient: bool = False) -> None:
    """Check a filter's answer as the MTA does.

    Args:
        offer: The offer that was sent.
        answer: The answer to it.
        lenient: Let pass what Postfix lets pass: old versions and protocol bits that were not offered.

    Raises:
        RemoteProtocolError: The MTA would not go on.

    Source: aiomilter/help/protocol.rst, "How the MTA takes the answer", P-142.
    """
    if answer.version > offer.version or (answer.version < MIN_VERSION and not lenient):
        raise RemoteProtocolError(
            f"OPTNEG answer: expected version {MIN_VERSION} to {offer.version}, found {answer.version}"
        )
    if extra := answer.actions & ~offer.actions:
        raise RemoteProtocolError(f"OPTNEG answer: expected only offered actions, found {extra:#x} more")
    if not lenient and (extra := answer.protocol & ~offer.protocol):
        raise RemoteProtocolError(f"OPTNEG answer: expected only offered protocol bits, found {extra:#x} more")
