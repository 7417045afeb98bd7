"""Tracebacks for the log."""

from typing import Any

from aiomilter._cli.target import own_frames
from aiomilter.exceptions import MilterError

__all__ = ["shortened"]


def shortened(exception: tuple[Any, BaseException, Any]) -> tuple[Any, BaseException, Any]:
    """Return an exception for the log: where our own code refuses what a filter asks for, with the filter's lines alone."""
    kind, error, frames = exception
    return (kind, error, own_frames(error) or frames) if isinstance(error, MilterError | TypeError) else exception
