"""Codes, flags, stages and limits of the milter protocol, each with its name in libmilter.

Source: Sendmail's include/libmilter/mfdef.h and mfapi.h (names and values only).
"""

import difflib
import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = [
    "ALL_ACTIONS",
    "ALL_PROTOCOL",
    "BODY_CHUNK_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_VERSION",
    "MIN_VERSION",
    "NO_FLAGS",
    "NR_FLAGS",
    "SINCE_VERSION",
    "V1_ACTIONS",
    "V1_PROTOCOL",
    "Action",
    "Command",
    "Protocol",
    "ReplyCode",
    "Stage",
]

MIN_VERSION: Final = 2
"""Oldest version still in use (Sendmail 8.11)."""

MAX_VERSION: Final = 6
"""SMFI_PROT_VERSION: Sendmail 8.14 and Postfix 2.6."""

MAX_FRAME_SIZE: Final = 65535
"""Octets of payload in one packet, the code octet not counted (MILTER_MDS_64K)."""

BODY_CHUNK_SIZE: Final = 65535
"""Octets of body in one BODY or REPLBODY packet (MILTER_CHUNK_SIZE)."""


class Command(enum.IntEnum):
    """Packets from the MTA (SMFIC_*): the code octet as an int."""

    ABORT = 0x41
    BODY = 0x42
    CONNECT = 0x43
    MACRO = 0x44
    BODYEOB = 0x45
    HELO = 0x48
    QUIT_NC = 0x4B
    HEADER = 0x4C
    MAIL = 0x4D
    EOH = 0x4E
    OPTNEG = 0x4F
    QUIT = 0x51
    RCPT = 0x52
    DATA = 0x54
    UNKNOWN = 0x55


class ReplyCode(enum.IntEnum):
    """Packets from the filter (SMFIR_*): the code octet as an int."""

    ADDRCPT = 0x2B
    DELRCPT = 0x2D
    ADDRCPT_PAR = 0x32
    OPTNEG = 0x4F
    ACCEPT = 0x61
    REPLBODY = 0x62
    CONTINUE = 0x63
    DISCARD = 0x64
    CHGFROM = 0x65
    ADDHEADER = 0x68
    INSHEADER = 0x69
    CHGHEADER = 0x6D
    PROGRESS = 0x70
    QUARANTINE = 0x71
    REJECT = 0x72
    SKIP = 0x73
    TEMPFAIL = 0x74
    REPLYCODE = 0x79


class Action(enum.IntFlag):
    """What a filter may do to a message (SMFIF_*), as the MTA offers and the filter asks for it."""

    ADD_HEADERS = 0x001
    """SMFIF_ADDHDRS: ``add_header`` and ``insert_header``."""
    REPLACE_BODY = 0x002
    """SMFIF_CHGBODY (SMFIF_MODBODY): ``replace_body``."""
    ADD_RECIPIENTS = 0x004
    """SMFIF_ADDRCPT: ``add_recipient`` without parameters."""
    DELETE_RECIPIENTS = 0x008
    """SMFIF_DELRCPT: ``delete_recipient``."""
    CHANGE_HEADERS = 0x010
    """SMFIF_CHGHDRS: ``change_header`` and ``delete_header``."""
    QUARANTINE = 0x020
    """SMFIF_QUARANTINE: ``quarantine``."""
    CHANGE_SENDER = 0x040
    """SMFIF_CHGFROM: ``change_sender``."""
    ADD_RECIPIENTS_WITH_PARAMS = 0x080
    """SMFIF_ADDRCPT_PAR: ``add_recipient`` with ESMTP parameters."""
    SET_MACROS = 0x100
    """SMFIF_SETSYMLIST: a filter may name the macros it wants."""


class Protocol(enum.IntFlag):
    """Steps, replies and forms a filter asks for (SMFIP_*)."""

    NO_CONNECT = 0x00000001
    NO_HELO = 0x00000002
    NO_MAIL = 0x00000004
    NO_RCPT = 0x00000008
    NO_BODY = 0x00000010
    NO_HEADERS = 0x00000020
    NO_EOH = 0x00000040
    NR_HEADER = 0x00000080
    NO_UNKNOWN = 0x00000100
    NO_DATA = 0x00000200
    SKIP = 0x00000400
    REJECTED_RECIPIENTS = 0x00000800
    NR_CONNECT = 0x00001000
    NR_HELO = 0x00002000
    NR_MAIL = 0x00004000
    NR_RCPT = 0x00008000
    NR_DATA = 0x00010000
    NR_UNKNOWN = 0x00020000
    NR_EOH = 0x00040000
    NR_BODY = 0x00080000
    LEADING_SPACE = 0x00100000
    MDS_256K = 0x10000000
    MDS_1M = 0x20000000


ALL_ACTIONS: Final = 0x1FF
"""Every action there is."""
ALL_PROTOCOL: Final = 0x1FFFFF
"""Every protocol bit there is, as MTAs offer them."""
V1_ACTIONS: Final = 0x0F
"""What an offer of no actions at all means (libmilter/engine.c)."""
V1_PROTOCOL: Final = 0x3F
"""What an offer of no protocol bits at all means (libmilter/engine.c)."""
NO_FLAGS: Final = 0x37F
"""Every bit that says "do not send this stage"."""
NR_FLAGS: Final = 0x000FF080
"""Every bit that says "this stage gets no reply"."""


class Stage(enum.IntEnum):
    """A stage of the conversation, in the order of play; the key of ``Milter.macros``.

    ``number`` of a macro list on the wire (SMFIM_*) differs from this order, see :attr:`symlist`.
    """

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    HEADER = 5
    EOH = 6
    BODY = 7
    EOM = 8
    UNKNOWN = 9

    @property
    def command(self) -> Command:
        """The packet that brings this stage."""
        return _COMMANDS[self]

    @property
    def no_flag(self) -> Protocol:
        """The bit that asks for this stage not to be sent; no bits for EOM."""
        return _NO[self]

    @property
    def nr_flag(self) -> Protocol:
        """The bit that asks for this stage to need no reply; no bits for EOM."""
        return _NR[self]

    @property
    def symlist(self) -> int | None:
        """Number of this stage in a list of macros (SMFIM_*); None where the MTA keeps no list for it."""
        return _SYMLIST.get(self)


_COMMANDS: Final = {
    Stage.CONNECT: Command.CONNECT,
    Stage.HELO: Command.HELO,
    Stage.MAIL: Command.MAIL,
    Stage.RCPT: Command.RCPT,
    Stage.DATA: Command.DATA,
    Stage.HEADER: Command.HEADER,
    Stage.EOH: Command.EOH,
    Stage.BODY: Command.BODY,
    Stage.EOM: Command.BODYEOB,
    Stage.UNKNOWN: Command.UNKNOWN,
}
_NO: Final = {
    Stage.CONNECT: Protocol.NO_CONNECT,
    Stage.HELO: Protocol.NO_HELO,
    Stage.MAIL: Protocol.NO_MAIL,
    Stage.RCPT: Protocol.NO_RCPT,
    Stage.DATA: Protocol.NO_DATA,
    Stage.HEADER: Protocol.NO_HEADERS,
    Stage.EOH: Protocol.NO_EOH,
    Stage.BODY: Protocol.NO_BODY,
    Stage.EOM: Protocol(0),
    Stage.UNKNOWN: Protocol.NO_UNKNOWN,
}
_NR: Final = {
    Stage.CONNECT: Protocol.NR_CONNECT,
    Stage.HELO: Protocol.NR_HELO,
    Stage.MAIL: Protocol.NR_MAIL,
    Stage.RCPT: Protocol.NR_RCPT,
    Stage.DATA: Protocol.NR_DATA,
    Stage.HEADER: Protocol.NR_HEADER,
    Stage.EOH: Protocol.NR_EOH,
    Stage.BODY: Protocol.NR_BODY,
    Stage.EOM: Protocol(0),
    Stage.UNKNOWN: Protocol.NR_UNKNOWN,
}
_SYMLIST: Final = {
    Stage.CONNECT: 0,
    Stage.HELO: 1,
    Stage.MAIL: 2,
    Stage.RCPT: 3,
    Stage.DATA: 4,
    Stage.EOM: 5,
    Stage.EOH: 6,
}

STAGE_WORDS: Final[Mapping[str, Stage]] = MappingProxyType(
    {
        **{stage.name.lower(): stage for stage in Stage},
        "envfrom": Stage.MAIL,
        "envrcpt": Stage.RCPT,
        "hello": Stage.HELO,
        "ehlo": Stage.HELO,
        "mailfrom": Stage.MAIL,
        "sender": Stage.MAIL,
        "rcptto": Stage.RCPT,
        "recipient": Stage.RCPT,
        "headers": Stage.HEADER,
        "endofheader": Stage.EOH,
        "endofheaders": Stage.EOH,
        "bodychunk": Stage.BODY,
        "endofmessage": Stage.EOM,
        "endofbody": Stage.EOM,
        "eob": Stage.EOM,
    }
)
"""What the members, the callbacks, other libraries and SMTP call a stage; lower case, without underscores."""


def near_stage(given: object) -> Stage | None:
    """Return the stage that a text is meant to name, or nearly names; None if it is like none."""
    if not isinstance(given, str) or len(given) > 20:
        return None
    word = given.lower().replace("_", "").replace("-", "").replace(" ", "")
    near = [word] if word in STAGE_WORDS else difflib.get_close_matches(word, STAGE_WORDS, n=1, cutoff=0.7)
    return STAGE_WORDS[near[0]] if near else None


def stage_hint(given: object) -> str:
    """Return how an error goes on that expected a stage: "; did you mean Stage.MAIL?", or "" where nothing is like it."""
    near = near_stage(given)
    return f"; did you mean Stage.{near.name}?" if near is not None else ""


SINCE_VERSION: Final[Mapping[Stage, int]] = {Stage.UNKNOWN: 3, Stage.DATA: 4}
"""The version of the protocol that a stage came with, where that is not version 2."""
STAGE_OF_COMMAND: Final[Mapping[int, Stage]] = {int(stage.command): stage for stage in Stage}
