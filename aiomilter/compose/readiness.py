"""Asking the filters of a composition whether they can do their work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiomilter.handler import ready_method

__all__ = ["lacking"]


async def lacking(filters: Iterable[tuple[str, Iterable[object]]]) -> str | None:
    """Ask all at once, and return what they lack, each by its name; None for nothing.

    Args:
        filters: Of each the name, and what may have the method ``ready``: what makes it, and itself.
    """
    asked = [(name, method) for name, objects in filters if (method := ready_method(objects)) is not None]
    answers = await asyncio.gather(*(_answer(method) for _, method in asked))
    found = [f"{name}: {answer}" for (name, _), answer in zip(asked, answers, strict=True) if answer is not None]
    return "; ".join(found) or None


async def _answer(method: Callable[[], Awaitable[Any]]) -> str | None:
    try:
        answer = await method()
    except Exception as error:  # noqa: BLE001 - it is the answer
        return f"ready() raised {type(error).__name__}: {error}"
    return None if answer is None else str(answer) or "ready() returned an empty text"
