"""The options of a server, checked once."""

from dataclasses import dataclass, fields

from aiomilter.observe import Observer
from aiomilter.wire.constants import MAX_FRAME_SIZE
from aiomilter.wire.replies import TEMPFAIL, Response

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What :func:`aiomilter.serve` takes by keyword; see there.

    Raises:
        ValueError: A number is out of range.
    """

    on_error: Response = TEMPFAIL
    callback_timeout: float = 240.0
    cancel_timeout: float = 5.0
    idle_timeout: float | None = 7210.0
    write_timeout: float = 60.0
    max_connections: int = 10_000
    max_waiting_size: int = 262_144
    max_frame_size: int = MAX_FRAME_SIZE
    max_headers: int = 5_000
    max_headers_size: int = 4_194_304
    max_recipients: int = 50_000
    max_edits: int = 10_000
    max_edits_size: int = 16_777_216
    observer: Observer | None = None

    def __post_init__(self) -> None:
        """Check that every number is above 0."""
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{option.name}: expected more than 0, found {value!r}")
