"""The options of a server, checked once."""

import ssl as tls
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from aiomilter._serving.access import Access, group_number, user_number
from aiomilter.failures import FailurePolicy, check_answer
from aiomilter.observe import Observer
from aiomilter.observe.guard import check_observer
from aiomilter.wire.constants import MAX_FRAME_SIZE, Stage
from aiomilter.wire.replies import TEMPFAIL, Response

__all__ = ["Options", "check_number", "group_number", "user_number"]

_NO_NUMBERS: Final = frozenset(
    {"on_error", "on_timeout", "callback_timeouts", "answer_timeouts", "observer", "name"}
    | {"allowed_networks", "allowed_users", "allowed_groups", "ssl"}
)
_LONGEST_NAME: Final = 64
_MAY_BE_NONE: Final = frozenset(
    {"idle_timeout", "answer_timeout", "progress_interval", "max_connections_per_peer", "max_messages", "stall_timeout"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What :func:`aiomilter.serve` takes by keyword; see there.

    Raises:
        TypeError: A value is not what its option takes.
        ValueError: A number is out of range.
    """

    on_error: Response | FailurePolicy = TEMPFAIL
    on_timeout: Response | FailurePolicy | None = None
    callback_timeout: float = 240.0
    callback_timeouts: Mapping[Stage, float] | None = None
    answer_timeout: float | None = None
    answer_timeouts: Mapping[Stage, float] | None = None
    progress_interval: float | None = 5.0
    cancel_timeout: float = 5.0
    idle_timeout: float | None = 7210.0
    packet_timeout: float = 60.0
    write_timeout: float = 60.0
    stall_timeout: float | None = 1.0
    max_connections: int = 10_000
    max_connections_per_peer: int | None = None
    max_refused_connections: int = 1_000
    max_waiting_size: int = 262_144
    max_frame_size: int = MAX_FRAME_SIZE
    max_headers: int = 5_000
    max_headers_size: int = 4_194_304
    max_recipients: int = 50_000
    max_edits: int = 10_000
    max_edits_size: int = 16_777_216
    max_new_body_size: int = 104_857_600
    max_messages: int | None = None
    max_memory: int = 268_435_456
    allowed_networks: Collection[str] | None = None
    allowed_users: Collection[str | int] | None = None
    allowed_groups: Collection[str | int] | None = None
    ssl: tls.SSLContext | None = None
    observer: Observer | Sequence[Observer] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check every value."""
        check_answer("on_error", self.on_error)
        check_answer("on_timeout", self.on_timeout, none=True)
        Access(self.allowed_networks, self.allowed_users, self.allowed_groups)
        _check_tls(self.ssl)
        check_observer(self.observer)
        _check_name(self.name)
        _check_by_stage("callback_timeouts", self.callback_timeouts)
        _check_by_stage("answer_timeouts", self.answer_timeouts)
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name not in _NO_NUMBERS and not (value is None and option.name in _MAY_BE_NONE):
                check_number(option.name, value)


def _check_name(name: object) -> None:
    """Check the name of a server: it is part of log lines."""
    if not isinstance(name, str):
        raise TypeError(f"name: expected str, found {name!r}")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"name: expected at most {_LONGEST_NAME} printable characters, found {name!a:.80}")


def _check_tls(context: object) -> None:
    """Check that a context can be the server's."""
    if context is None:
        return
    if not isinstance(context, tls.SSLContext):
        raise TypeError(f"ssl: expected an ssl.SSLContext, found {context!r}")
    if context.protocol is tls.PROTOCOL_TLS_CLIENT:
        raise ValueError("ssl: expected a context of a server, found one of a client")


def _check_by_stage(name: str, value: object) -> None:
    """Check times by step."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping of Stage to seconds, found {value!r}")
    for stage, seconds in value.items():
        if not isinstance(stage, Stage):
            raise TypeError(f"{name}: expected a Stage as key, found {stage!r}")
        check_number(f"{stage.name} in {name}", seconds)


def check_number(name: str, value: object, *, zero: bool = False) -> None:
    """Check a number of seconds, octets or things: more than 0, whole unless it is a time.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    whole = not name.endswith(("_timeout", "_timeouts", "_interval"))
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        raise TypeError(f"{name}: expected a {'whole ' if whole else ''}number, found {value!r}")
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{name}: expected more than 0, found {value!r}")
