"""What edits of a message refuse to do."""

from aiomilter.exceptions import MilterError

__all__ = ["ProtectedError", "StructureError"]


class StructureError(MilterError):
    """The structure of the message is ambiguous, or not known whole: a part that is edited might be another for its reader."""


class ProtectedError(MilterError):
    """The part is signed or encrypted: an edit would break it."""
