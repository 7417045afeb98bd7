"""Finding the connection that a stack frame belongs to."""

from types import FrameType
from typing import cast

from aiomilter._connection.tasks import Continuation
from aiomilter._connection.transport import MilterProtocol

__all__ = ["connection_of"]


def connection_of(frame: FrameType) -> MilterProtocol | None:
    """Return the connection whose callbacks a frame has begun, inline or in the Task; None if the frame has not begun any."""
    if frame.f_code is MilterProtocol.data_received.__code__:
        return cast(MilterProtocol | None, frame.f_locals.get("self"))
    if frame.f_code is Continuation.__await__.__code__:
        rest = frame.f_locals.get("self")
        return None if rest is None else cast(MilterProtocol, rest.connection)
    return None
