"""What is wrong with a file of a recorded session."""

from aiomilter.exceptions import MilterError

__all__ = ["RecordingError"]


class RecordingError(MilterError, ValueError):
    """A file does not hold a recorded session, or holds more than is read."""
