"""Checks of who sent a message, and the header fields with their results.

:class:`Authenticator` makes all checks of a message while it comes, and :class:`Authentication` is what it finds.  One check
by itself: :mod:`~aiomilter.auth.spf` is RFC 7208, :mod:`~aiomilter.auth.dkim` RFC 6376, :mod:`~aiomilter.auth.arc` RFC 8617,
:mod:`~aiomilter.auth.dmarc` RFC 9989; :mod:`~aiomilter.auth.iprev` checks the reverse name of the client.
:mod:`~aiomilter.auth.results` writes and reads Authentication-Results.

Each module serves any asyncio program and knows nothing of milters; import the one you need.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiomilter.auth._authentication import Authentication
    from aiomilter.auth._authenticator import Authenticator
    from aiomilter.auth._checks import ClientCheck, MessageCheck

__all__ = ["Authentication", "Authenticator", "ClientCheck", "MessageCheck"]


def __getattr__(name: str) -> Any:
    """Import the classes that make all checks when they are asked for: a program that makes one check needs no other."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aiomilter.auth import _authentication, _authenticator, _checks

    return next(
        getattr(module, name) for module in (_authentication, _authenticator, _checks) if name in module.__all__
    )
