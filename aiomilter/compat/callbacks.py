"""The callbacks that a program registers with libmilter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Callbacks"]


@dataclass(slots=True)
class Callbacks:
    """The callbacks that a program has registered, under libmilter's names; the first argument of each is a context.

    Args:
        name: The name of the filter, for replies to exceptions.
        actions: Bits of ``ADDHDRS`` and so on; used only without ``negotiate``.
        policy: The answer to an exception: ``CONTINUE``, ``REJECT``, ``TEMPFAIL`` or ``ACCEPT``.
    """

    name: str = "pymilter"
    actions: int = 0
    policy: int = 4
    negotiate: Callable[..., Any] | None = None
    connect: Callable[..., Any] | None = None
    helo: Callable[..., Any] | None = None
    envfrom: Callable[..., Any] | None = None
    envrcpt: Callable[..., Any] | None = None
    data: Callable[..., Any] | None = None
    header: Callable[..., Any] | None = None
    eoh: Callable[..., Any] | None = None
    body: Callable[..., Any] | None = None
    eom: Callable[..., Any] | None = None
    unknown: Callable[..., Any] | None = None
    abort: Callable[..., Any] | None = None
    close: Callable[..., Any] | None = None
