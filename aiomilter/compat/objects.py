"""The objects that a factory makes, one for each connection, and libmilter's callbacks that call their methods."""

from collections.abc import Callable
from dataclasses import replace
from inspect import iscoroutine, iscoroutinefunction
from typing import Any, Final

from aiomilter.compat.base import Base
from aiomilter.compat.callbacks import Callbacks
from aiomilter.compat.context import Context
from aiomilter.compat.decorators import OPTIONAL_CALLBACKS, undecorated
from aiomilter.compat.lowlevel import CONTINUE

__all__ = ["METHODS", "callbacks_of", "close_callback", "made", "never_blocks"]

_RAW: Final = ("envfrom_bytes", "envrcpt_bytes", "header_bytes", "negotiate", "_setctx")
"""Methods of ``Base`` that stand between libmilter's callbacks and those of a filter."""


def made(ctx: Context, make: Callable[[], Any]) -> Any:
    """Make the object of a connection, and return it."""
    serving = make()
    serving._setctx(ctx)
    return serving


def close_callback(ctx: Context) -> Any:
    """Call ``close``, and take the context from the object."""
    serving = ctx.getpriv()
    if not serving:
        return CONTINUE
    answer = CONTINUE
    try:
        answer = serving.close()
    finally:
        if not iscoroutine(answer):
            serving._setctx(None)
    return _closed(serving, answer) if iscoroutine(answer) else answer


async def _closed(serving: Any, answer: Any) -> Any:
    try:
        return await answer
    finally:
        serving._setctx(None)


def _hello(ctx: Context, name: str) -> Any:
    return ctx.getpriv().hello(name)


def _envfrom(ctx: Context, *strings: bytes) -> Any:
    return ctx.getpriv().envfrom_bytes(*strings)


def _envrcpt(ctx: Context, *strings: bytes) -> Any:
    return ctx.getpriv().envrcpt_bytes(*strings)


def _data(ctx: Context) -> Any:
    return ctx.getpriv().data()


def _header(ctx: Context, name: str, value: bytes) -> Any:
    return ctx.getpriv().header_bytes(name, value)


def _eoh(ctx: Context) -> Any:
    return ctx.getpriv().eoh()


def _body(ctx: Context, chunk: bytes) -> Any:
    return ctx.getpriv().body(chunk)


def _eom(ctx: Context) -> Any:
    return ctx.getpriv().eom()


def _unknown(ctx: Context, line: str) -> Any:
    return ctx.getpriv().unknown(line)


def _abort(ctx: Context) -> Any:
    return ctx.getpriv().abort()


METHODS: Final = Callbacks(
    helo=_hello,
    envfrom=_envfrom,
    envrcpt=_envrcpt,
    data=_data,
    header=_header,
    eoh=_eoh,
    body=_body,
    eom=_eom,
    unknown=_unknown,
    abort=_abort,
    close=close_callback,
)
"""Callbacks that call the method of an object, once there is one."""


def callbacks_of(make: Callable[[], Any], name: str) -> Callbacks:
    """Return the callbacks that serve the objects of one factory, apart from those of any other.

    Args:
        make: The factory.
        name: The name of the filter.
    """
    return replace(
        METHODS,
        name=name,
        negotiate=lambda ctx, opts: made(ctx, make).negotiate(opts),
        connect=lambda ctx, *client: (ctx.getpriv() or made(ctx, make)).connect(*client),
    )


def never_blocks(make: object) -> bool:
    """Return whether a factory's objects need no thread: it is a class, and all callbacks of its own are ``async def``."""
    if not isinstance(make, type) or not issubclass(make, Base):
        return False
    if any(getattr(make, name) is not getattr(Base, name) for name in _RAW) or make.__init__ is not object.__init__:
        return False
    return all(
        getattr(make, name) is getattr(Base, name) or iscoroutinefunction(undecorated(getattr(make, name)))
        for name in (*OPTIONAL_CALLBACKS, "eom", "abort", "close")
    )
