"""The decorators of filters: which bits of the protocol a callback needs, which macros, and how its text is decoded.

Source: the documentation of pymilter, and its behaviour as observed.
"""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutine
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from aiomilter.compat.lowlevel import (
    CONTINUE,
    M_CONNECT,
    M_DATA,
    M_ENVFROM,
    M_ENVRCPT,
    M_EOH,
    M_EOM,
    M_HELO,
    P_HDR_LEADSPC,
    P_NOBODY,
    P_NOCONNECT,
    P_NODATA,
    P_NOEOH,
    P_NOHDRS,
    P_NOHELO,
    P_NOMAIL,
    P_NORCPT,
    P_NOUNKNOWN,
    P_NR_BODY,
    P_NR_CONN,
    P_NR_DATA,
    P_NR_EOH,
    P_NR_HDR,
    P_NR_HELO,
    P_NR_MAIL,
    P_NR_RCPT,
    P_NR_UNKN,
    P_RCPT_REJ,
)

__all__ = [
    "MACRO_CALLBACKS",
    "OPTIONAL_CALLBACKS",
    "decode",
    "enable_protocols",
    "header_leading_space",
    "nocallback",
    "rejected_recipients",
    "symlist",
    "undecorated",
    "without_reply",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_C = TypeVar("_C", bound=type)

OPTIONAL_CALLBACKS = {
    "connect": (P_NR_CONN, P_NOCONNECT),
    "hello": (P_NR_HELO, P_NOHELO),
    "envfrom": (P_NR_MAIL, P_NOMAIL),
    "envrcpt": (P_NR_RCPT, P_NORCPT),
    "data": (P_NR_DATA, P_NODATA),
    "unknown": (P_NR_UNKN, P_NOUNKNOWN),
    "eoh": (P_NR_EOH, P_NOEOH),
    "body": (P_NR_BODY, P_NOBODY),
    "header": (P_NR_HDR, P_NOHDRS),
}
"""Two bits for each callback: it gives no reply; it is not called."""
MACRO_CALLBACKS = {
    "connect": M_CONNECT,
    "hello": M_HELO,
    "envfrom": M_ENVFROM,
    "envrcpt": M_ENVRCPT,
    "data": M_DATA,
    "eom": M_EOM,
    "eoh": M_EOH,
}
"""The stages for which macros can be asked for."""
_MAX_MACROS: Final = 5


def enable_protocols(klass: _C, mask: int) -> _C:
    """Have a class ask for more of the protocol (``P_RCPT_REJ``, ``P_HDR_LEADSPC``)."""
    klass._protocol_mask = klass.protocol_mask() & ~mask  # type: ignore[attr-defined]
    return klass


def rejected_recipients(klass: _C) -> _C:
    """Have a class see recipients that the MTA itself rejects, too."""
    return enable_protocols(klass, P_RCPT_REJ)


def header_leading_space(klass: _C) -> _C:
    """Have header values keep the space after the colon."""
    return enable_protocols(klass, P_HDR_LEADSPC)


_wrappers: Final[WeakSet[Callable[..., Any]]] = WeakSet()
"""The functions that the decorators below have made; none of them blocks."""


def _bits(decorator: str, function: Callable[..., Any]) -> tuple[int, int]:
    try:
        return OPTIONAL_CALLBACKS[function.__name__]
    except KeyError:
        raise ValueError(f"@{decorator} applied to non-optional method: {function.__name__}") from None


def _continuing(decorator: str, name: str, answer: Any, given: int) -> Any:
    """Return another answer for one that has to be CONTINUE; if that is a coroutine, once it has been awaited."""
    if answer == CONTINUE and answer is not None:
        return given
    if iscoroutine(answer):
        return _continued(decorator, name, answer, given)
    raise RuntimeError(f"{name} return code must be CONTINUE with @{decorator}")


async def _continued(decorator: str, name: str, answer: Any, given: int) -> Any:
    return _continuing(decorator, name, await answer, given)


def nocallback(func: _F) -> _F:
    """Mark a method that the MTA does not call; if the program or a test does, it has to return CONTINUE."""
    _, bit = _bits("nocallback", func)
    name = func.__name__

    @wraps(func)
    def wrapper(self: Any, *args: Any) -> Any:
        return _continuing("nocallback", name, func(self, *args), CONTINUE)

    wrapper.milter_protocol = bit  # type: ignore[attr-defined]
    _wrappers.add(wrapper)
    return cast(_F, wrapper)


def without_reply(func: _F, answer: Callable[[], int]) -> _F:
    """Mark a method that always returns CONTINUE, and have it give another answer if the MTA does not wait for one.

    Args:
        func: The method.
        answer: Called for that answer each time.
    """
    bit, _ = _bits("noreply", func)
    name = func.__name__

    @wraps(func)
    def wrapper(self: Any, *args: Any) -> Any:
        found = func(self, *args)
        if not self._protocol & bit:
            return found
        if found.__class__ is int and not found:  # CONTINUE, without a call: this is done for each header field
            return answer()
        return _continuing("noreply", name, found, answer())

    wrapper.milter_protocol = bit  # type: ignore[attr-defined]
    _wrappers.add(wrapper)
    return cast(_F, wrapper)


def decode(strategy: str) -> Callable[[_F], _F]:
    """Choose how a method gets octets that are not UTF-8: ``strict`` (as bytes), ``bytes`` (always), or an error handler."""

    def mark(func: _F) -> _F:
        func.error_strategy = strategy  # type: ignore[attr-defined]
        return func

    return mark


def symlist(*syms: str) -> Callable[[_F], _F]:
    """Request macros for a stage, at most five."""

    def mark(func: _F) -> _F:
        if func.__name__ not in MACRO_CALLBACKS:
            raise ValueError(f"@symlist applied to non-symlist method: {func.__name__}")
        if len(syms) > _MAX_MACROS:
            raise ValueError(f"@symlist limited to {_MAX_MACROS} macros by MTA: {func.__name__}")
        func._symlist = syms  # type: ignore[attr-defined]
        return func

    return mark


def undecorated(method: Any) -> Any:
    """Return the method that a program wrote, without what these decorators wrapped around it."""
    while method in _wrappers:
        method = method.__wrapped__
    return method
