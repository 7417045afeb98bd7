"""Finishing work although its caller is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["finish", "settle"]

_T = TypeVar("_T")


async def finish(work: "Coroutine[Any, Any, _T] | asyncio.Task[_T]") -> _T:
    """Do some work to its end, and return its result.

    Raises:
        asyncio.CancelledError: The caller was cancelled.  It is raised once the work has ended, and its cause is the exception
            of the work.
    """
    task: asyncio.Future[_T] = asyncio.ensure_future(work)
    try:
        await settle(task)
    except asyncio.CancelledError as cancelled:
        raise cancelled from None if task.cancelled() else task.exception()
    return task.result()


async def settle(*tasks: "asyncio.Future[Any]") -> None:
    """Wait until tasks have ended, by a result, an exception or a cancellation.

    Raises:
        asyncio.CancelledError: The caller was cancelled.  It is raised once they have ended.
    """
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
