"""The options of a server, as one table.

:func:`aiomilter.serve`, :func:`aiomilter.run`, :func:`aiomilter.testing.session`, :func:`aiomilter.compat.serve`, the command
line and the reference are made from :class:`Options`.  A new option is a field there, a line in :class:`ServeOptions` (type
checkers need it written), and its use.
"""

import difflib
import ssl as tls
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypedDict

from aiomilter._option import Group, Kind, Option, check, option, rows
from aiomilter.failures import FailurePolicy
from aiomilter.observe import Observer
from aiomilter.observe.guard import check_observer
from aiomilter.wire.constants import MAX_FRAME_SIZE, Stage
from aiomilter.wire.replies import TEMPFAIL, Response

__all__ = ["Options", "ServeOptions"]

_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of :func:`aiomilter.serve`, checked once, when a server is made.

    Raises:
        TypeError: A value is not what its option takes.
        ValueError: A number is out of range.
    """

    on_error: Response | FailurePolicy = option(
        TEMPFAIL,
        Option(
            Kind.ANSWER,
            Group.FAILURES,
            "the answer when a callback raises or returns nonsense",
            details="A verdict, a Reply, or an :class:`aiomilter.FailurePolicy` with an answer for each class of client. "
            "An answer that the class of the filter declares takes precedence.",
            by_client=True,
            common=True,
        ),
    )
    on_timeout: Response | FailurePolicy | None = option(
        None,
        Option(
            Kind.ANSWER,
            Group.DEADLINES,
            "the answer when the time is up",
            none="that of ``on_error``",
            toml="failure.on_timeout",
        ),
    )
    callback_timeout: float = option(
        240.0,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "time limit of one callback",
            details="Then ``on_timeout`` is answered and the callback cancelled.",
        ),
    )
    callback_timeouts: Mapping[Stage, float] | None = option(
        None,
        Option(
            Kind.DURATIONS,
            Group.DEADLINES,
            "the same by stage, such as ``{Stage.MAIL: 20.0}``",
            none="``callback_timeout`` at every stage",
            command="callback-timeout",
        ),
    )
    answer_timeout: float | None = option(
        None,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "time limit from reading a packet to its answer",
            details="Callbacks without an answer that are due before it are included. Then the same happens.",
            none="240 at end of message; before it 60 where PROGRESS can be sent (Postfix), else 8",
            common=True,
        ),
    )
    answer_timeouts: Mapping[Stage, float] | None = option(
        None,
        Option(
            Kind.DURATIONS,
            Group.DEADLINES,
            "the same by stage",
            none="``answer_timeout`` at every stage",
            command="answer-timeout",
        ),
    )
    progress_interval: float | None = option(
        5.0,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "interval of the PROGRESS packets that keep an MTA waiting for an answer",
            details="Postfix takes them at any stage, any other MTA at end of message. It has to be less than the MTA's own "
            "timeout, which is usually 300 or less.",
            none="none are sent",
            off=True,
            maximum=240,
        ),
    )
    cancel_timeout: float = option(
        5.0,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "time for a cancelled callback to end; then its connection is closed",
            details="When the server closes, ``abort`` and ``close`` each have as long before they are cancelled.",
        ),
    )
    drain_timeout: float = option(
        30.0,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "time for open SMTP sessions to end when the server stops",
            details="Then commands that wait are answered ``on_error``, and the connections closed. The factory has what is "
            "left of this time to end, and at least ``cancel_timeout``; then it is cancelled.",
            zero=True,
            common=True,
        ),
    )
    idle_timeout: float | None = option(
        7210.0,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "time without a packet before a connection is closed",
            none="wait forever",
            off=True,
        ),
    )
    packet_timeout: float = option(
        60.0,
        Option(
            Kind.DURATION,
            Group.DEADLINES,
            "time for the first packets of a connection, up to CONNECT, to arrive complete; then it is closed",
            details="Later packets may take as long as ``idle_timeout``: Postfix holds half of one back while its client takes "
            "its time. If memory is above ``max_memory`` for this long, they too are closed.",
        ),
    )
    write_timeout: float = option(
        60.0,
        Option(
            Kind.DURATION, Group.DEADLINES, "time for the MTA to read what was written; then the connection is closed"
        ),
    )
    stall_timeout: float | None = option(
        1.0,
        Option(
            Kind.DURATION,
            Group.FAILURES,
            "how long a callback may block the event loop before a warning is logged",
            details="The warning says which callback, and where in it. A thread watches.",
            none="nothing is watched",
            off=True,
        ),
    )
    max_connections: int = option(
        10_000,
        Option(
            Kind.COUNT, Group.LIMITS, "connections served at once; more are answered TEMPFAIL at CONNECT", common=True
        ),
    )
    max_connections_per_peer: int | None = option(
        None,
        Option(
            Kind.COUNT,
            Group.LIMITS,
            "the same for one MTA: an IP address, or a user for UNIX-domain sockets",
            none="no separate limit",
        ),
    )
    max_refused_connections: int = option(
        1_000,
        Option(
            Kind.COUNT,
            Group.LIMITS,
            "connections above these limits that are accepted only to be refused",
            details="Beyond that, connections queue in the listen backlog until one has ended. Where the server has room for "
            "others, connections of an MTA that has its share are closed at once.",
        ),
    )
    max_waiting_size: int = option(
        262_144,
        Option(Kind.SIZE, Group.LIMITS, "data that may wait behind a suspended callback before reading pauses"),
    )
    max_frame_size: int = option(
        MAX_FRAME_SIZE,
        Option(Kind.SIZE, Group.LIMITS, "payload of a packet; a larger one closes the connection"),
    )
    max_headers: int = option(
        5_000,
        Option(
            Kind.COUNT,
            Group.LIMITS,
            "header fields of a message; one more is answered 552",
            details="Counted only for a filter that has a callback for header fields: the MTA sends none to others.",
        ),
    )
    max_headers_size: int = option(
        4_194_304,
        Option(
            Kind.SIZE,
            Group.LIMITS,
            "all header fields of a message; more is answered 552",
            details="Counted only for a filter that has a callback for header fields: the MTA sends none to others.",
        ),
    )
    max_recipients: int = option(
        50_000,
        Option(
            Kind.COUNT,
            Group.LIMITS,
            "recipients of a message; one more is answered 452",
            details="They may have 1024 octets each on average, which is checked at every 16th.",
        ),
    )
    max_edits: int = option(
        10_000,
        Option(Kind.COUNT, Group.LIMITS, "edits of a message; with more, it is answered ``on_error``"),
    )
    max_edits_size: int = option(
        16_777_216,
        Option(
            Kind.SIZE, Group.LIMITS, "all edits of a message except the body; with more, it is answered ``on_error``"
        ),
    )
    max_new_body_size: int = option(
        104_857_600,
        Option(
            Kind.SIZE,
            Group.LIMITS,
            "a body that replaces that of a message; with more, it is answered ``on_error``",
            details="More from an iterator is answered TEMPFAIL, since a part has been sent already.",
        ),
    )
    max_messages: int | None = option(
        None,
        Option(
            Kind.COUNT,
            Group.LIMITS,
            "messages in progress at once, from MAIL to their end; one more is answered 452",
            none="no separate limit",
        ),
    )
    max_memory: int = option(
        268_435_456,
        Option(
            Kind.SIZE,
            Group.LIMITS,
            "data buffered across all connections; above it new messages are answered ``on_error``",
            details="Counted is what is kept for longer than it takes to handle it: data that waits behind callbacks, "
            "unfinished packets, edits of messages that wait, answers that MTAs do not read, TLS handshakes in progress "
            "(309 KiB each on asyncio, 58 KiB on uvloop; at most a quarter of the limit), and the macros and envelope of a "
            "connection once one of these packets was larger than 1 KiB, or its recipients larger than 16 KiB together. "
            "Above the limit, connections holding buffered data are paused, except for what is read already, up to 256 KiB of "
            "each; after ``packet_timeout`` connections that hold 16 KiB or more and bring no packet are closed.",
            common=True,
        ),
    )
    allowed_networks: Collection[str] | None = option(
        None,
        Option(
            Kind.NETWORKS,
            Group.ACCESS,
            "networks and addresses that may connect by TCP, such as 10.0.0.0/8 or 2001:db8::25",
            details="Other connections are closed at once. This and the next three log a warning at start if the server has "
            "no socket of their kind.",
            none="every address",
            command="allow-network",
            common=True,
        ),
    )
    allowed_users: Collection[str | int] | None = option(
        None,
        Option(
            Kind.USERS,
            Group.ACCESS,
            "users, names or numbers, that may connect to UNIX-domain sockets",
            details="Other connections are closed at once. Linux only.",
            none="those that the permissions of the socket, and ``allowed_groups``, let in",
            command="allow-user",
        ),
    )
    allowed_groups: Collection[str | int] | None = option(
        None,
        Option(
            Kind.GROUPS,
            Group.ACCESS,
            "the same for groups, supplementary ones included",
            details="A user that is in either list may connect.",
            none="those that the permissions of the socket, and ``allowed_users``, let in",
            command="allow-group",
        ),
    )
    ssl: tls.SSLContext | None = option(
        None,
        Option(
            Kind.TLS,
            Group.ACCESS,
            "a context for TLS on all TCP sockets",
            details="With ``verify_mode = ssl.CERT_REQUIRED`` and ``load_verify_locations``, only clients with a certificate "
            "may connect. UNIX-domain sockets stay as they are. At most 200 handshakes are in progress at once, 50 of them "
            "from one IPv4 address or IPv6 /64; others wait for their turn.",
            none="no TLS",
            command=None,
            toml=None,
        ),
    )
    socket_mode: int | None = option(
        None,
        Option(
            Kind.MODE,
            Group.PROCESS,
            "permissions of UNIX-domain sockets, octal 660 for example",
            none="as the umask says",
            common=True,
            toml="socket.mode",
        ),
    )
    socket_owner: str | int | None = option(
        None,
        Option(
            Kind.USER,
            Group.PROCESS,
            "owner of UNIX-domain sockets, name or number",
            none="not changed",
            toml="socket.owner",
        ),
    )
    socket_group: str | int | None = option(
        None,
        Option(
            Kind.GROUP,
            Group.PROCESS,
            "group of UNIX-domain sockets, name or number",
            none="not changed",
            common=True,
            toml="socket.group",
        ),
    )
    backlog: int = option(
        1024,
        Option(Kind.COUNT, Group.PROCESS, "connections that the system may keep waiting", toml="socket.backlog"),
    )
    observer: Observer | Sequence[Observer] | None = option(
        None,
        Option(
            Kind.OBJECT,
            Group.FAILURES,
            "an :class:`aiomilter.Observer`, or several, told of every event",
            none="``aiomilter.observe.log.LogObserver``, which writes to the logger ``aiomilter``",
            details="Name that beside others to keep the log: ``[LogObserver(), Mine()]``.",
            command=None,
            toml=None,
        ),
    )
    name: str = option(
        "",
        Option(
            Kind.OBJECT,
            Group.FAILURES,
            "what log lines and events call the server, where several share a process",
            details="At most 64 printable characters.",
            command=None,
            toml=None,
        ),
    )

    def __post_init__(self) -> None:
        """Check every value."""
        check(self)
        check_observer(self.observer)
        _check_name(self.name)

    @classmethod
    def given_to(cls, call: Callable[..., Any], given: Mapping[str, Any]) -> Self:
        """Return the options that a function was given by keyword.

        Args:
            call: The function; its own keywords are suggested for misspelt ones, too.
            given: Its other keyword arguments.

        Raises:
            TypeError: One is not an option, or its value is not what it takes.
            ValueError: A number is out of range.
        """
        names = [row.name for row in rows(cls)]
        for name in given:
            if name not in names:
                own = getattr(call, "__wrapped__", call).__kwdefaults__ or {}
                alike = difflib.get_close_matches(name, [*names, *own], 1)
                hint = f"; did you mean {alike[0]!r}?" if alike else ""
                raise TypeError(f"{call.__name__}() got an unexpected keyword argument {name!r}{hint}")
        return cls(**given)


def _check_name(name: object) -> None:
    """Check the name of a server: it is part of log lines."""
    if not isinstance(name, str):
        raise TypeError(f"name: expected str, found {name!r}")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"name: expected at most {_LONGEST_NAME} printable characters, found {name!a:.80}")


class ServeOptions(TypedDict, total=False):
    """The options of :func:`aiomilter.serve`, for type checkers; see :class:`Options`."""

    on_error: Response | FailurePolicy
    on_timeout: Response | FailurePolicy | None
    callback_timeout: float
    callback_timeouts: Mapping[Stage, float] | None
    answer_timeout: float | None
    answer_timeouts: Mapping[Stage, float] | None
    progress_interval: float | None
    cancel_timeout: float
    drain_timeout: float
    idle_timeout: float | None
    packet_timeout: float
    write_timeout: float
    stall_timeout: float | None
    max_connections: int
    max_connections_per_peer: int | None
    max_refused_connections: int
    max_waiting_size: int
    max_frame_size: int
    max_headers: int
    max_headers_size: int
    max_recipients: int
    max_edits: int
    max_edits_size: int
    max_new_body_size: int
    max_messages: int | None
    max_memory: int
    allowed_networks: Collection[str] | None
    allowed_users: Collection[str | int] | None
    allowed_groups: Collection[str | int] | None
    ssl: tls.SSLContext | None
    socket_mode: int | None
    socket_owner: str | int | None
    socket_group: str | int | None
    backlog: int
    observer: Observer | Sequence[Observer] | None
    name: str
