"""Hypothesis strategies for packets and conversations."""

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from aiomilter.wire.constants import Stage
from aiomilter.wire.events import (
    Abort,
    BodyChunk,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Header,
    Helo,
    Mail,
    Negotiate,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from aiomilter.wire.macros import Macros
from aiomilter.wire.modifications import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Progress,
    Quarantine,
    ReplaceBody,
)
from aiomilter.wire.negotiation import NegotiateAnswer, Wants
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Reply, Verdict
from tests.wire.packets import FromFilter, FromMTA

U16: Final = st.integers(0, 2**16 - 1)
U32: Final = st.integers(0, 2**32 - 1)


def _text(octets: bytes, without: bytes) -> str:
    return octets.translate(None, without).decode("utf-8", "surrogateescape")


# What peers send is text that came from octets without NUL; short, since length changes nothing after the frame.
STRINGS: Final = st.binary(max_size=12).map(lambda octets: _text(octets, b"\0"))
NAMES: Final = STRINGS.filter(bool)
LINES: Final = st.binary(max_size=12).map(lambda octets: _text(octets, b"\0\r\n"))
VALUES: Final = st.lists(LINES, min_size=1, max_size=3).map("\n ".join)
HEADER_NAMES: Final = st.text(
    st.sampled_from([chr(code) for code in range(33, 127) if code != 58]), min_size=1, max_size=9
)
MACRO_NAMES: Final = st.from_regex(r"[a-z_]|\{[a-z_]{2,6}\}", fullmatch=True)

_PARAMS: Final = st.lists(STRINGS, max_size=3).map(tuple)
_MACROS: Final = st.dictionaries(MACRO_NAMES, STRINGS, max_size=3)


def _connect(family: Family) -> st.SearchStrategy[Connect]:
    if family is Family.UNKNOWN:
        return st.builds(Connect, STRINGS)
    return st.builds(Connect, STRINGS, st.just(family), U16, STRINGS)


EVENTS: Final[st.SearchStrategy[FromMTA]] = st.one_of(
    st.builds(Negotiate, U32, U32, U32),
    st.builds(Macros, st.integers(0, 255), _MACROS),
    st.sampled_from(Family).flatmap(_connect),
    st.builds(Helo, STRINGS),
    st.builds(Mail, STRINGS, _PARAMS),
    st.builds(Rcpt, STRINGS, _PARAMS),
    st.tuples(NAMES, STRINGS).map(lambda field: Header(*field)),
    st.binary(min_size=1, max_size=20).map(BodyChunk),
    st.builds(Unknown, STRINGS),
    st.sampled_from([Data(), EndOfHeaders(), EndOfMessage(), Abort(), Quit(), QuitNewConnection()]),
)
"""Any packet of an MTA."""

_LISTS: Final = st.dictionaries(
    st.sampled_from([stage for stage in Stage if stage.symlist is not None]),
    st.lists(MACRO_NAMES, max_size=3).map(tuple),
    max_size=3,
)
REQUESTS: Final[st.SearchStrategy[FromFilter]] = st.one_of(
    st.builds(NegotiateAnswer, U32, U32, U32, _LISTS),
    st.builds(AddHeader, HEADER_NAMES, VALUES),
    st.builds(InsertHeader, st.integers(0, 2**31 - 1), HEADER_NAMES, VALUES),
    st.builds(ChangeHeader, st.integers(0, 2**31 - 1), HEADER_NAMES, VALUES),
    st.builds(ReplaceBody, st.binary(max_size=20)),
    st.builds(AddRecipient, LINES.filter(bool), st.none() | LINES),
    st.builds(DeleteRecipient, LINES.filter(bool)),
    st.builds(ChangeSender, LINES.filter(bool), st.none() | LINES),
    st.builds(Quarantine, LINES.filter(bool)),
    st.just(Progress()),
)
"""Any packet of a filter that is no answer."""

VERDICTS: Final = st.sampled_from([CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP])


@st.composite
def replies(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Reply:
    """Any reply that can be made."""
    code = draw(st.integers(400, 599))
    number = st.integers(0, 999)
    enhanced = f"{code // 100}.{draw(number)}.{draw(number)}" if draw(st.booleans()) else None
    return Reply(code, enhanced, *draw(st.lists(LINES | st.sampled_from(["5.7.1", "5.7.1 x", "550-x"]), max_size=4)))


RESPONSES: Final[st.SearchStrategy[Verdict | Reply]] = VERDICTS | replies()

WANTS: Final = st.builds(
    Wants,
    st.frozensets(st.sampled_from(Stage)),
    st.frozensets(st.sampled_from(Stage)),
    st.booleans(),
    macros=_LISTS,
    leading_space=st.booleans(),
    rejected_recipients=st.booleans(),
)
"""Anything a filter may want, but for actions."""


def packet_of(event: FromMTA) -> bytes:
    """Return the octets of an MTA's packet."""
    payload = event.payload
    return (len(payload) + 1).to_bytes(4, "big") + bytes([event.CODE]) + payload


PACKETS: Final = EVENTS.map(packet_of)


def _packet(code_and_payload: bytes) -> bytes:
    return len(code_and_payload).to_bytes(4, "big") + code_and_payload


_SHORT: Final = {
    "C": _packet(b"Ch\0U"),
    "H": _packet(b"Hh\0"),
    "M": _packet(b"M<a@x>\0"),
    "R": _packet(b"R<b@x>\0"),
    "T": _packet(b"T"),
    "L": _packet(b"LX\0 v\0"),
    "N": _packet(b"N"),
    "B": _packet(b"Bx\r\n"),
    "E": _packet(b"E"),
    "Etail": _packet(b"Etail"),
    "U": _packet(b"UFOO\0"),
    "A": _packet(b"A"),
    "K": _packet(b"K"),
    "DM": _packet(b"DMi\0Q\0"),
    "DR": _packet(b"DR{rcpt_addr}\0b@x\0"),
    "DE": _packet(b"DE"),
}
_MOVES: Final = st.sampled_from(list(_SHORT.values()))
_OFFERS: Final = st.builds(Negotiate, st.integers(2, 8), st.just(0x1FF) | U32, st.just(0x1FFFFF) | U32)
CONVERSATIONS: Final = st.tuples(
    _OFFERS.map(packet_of), st.lists(_MOVES, max_size=20), st.lists(PACKETS, max_size=2), st.lists(_MOVES, max_size=8)
).map(lambda parts: parts[0] + b"".join([*parts[1], *parts[2], *parts[3]]))
"""Well-formed packets in any order, after an offer; most of a kind that the order of a conversation cares about."""
