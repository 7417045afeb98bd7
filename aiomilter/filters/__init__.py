"""Ready filters: what most sites run, from a configuration file or composed in a program.

``aiomilter filters`` lists them, ``aiomilter help gateway`` shows a file.  In a program::

    milter = compose(filters.Authenticate(), filters.Sign(keys="keys.toml"), site=filters.Site(hostname="mx.example.net"))

Each is a module with a frozen dataclass, which is its settings and its factory, and a filter.  They are imported when their
names are asked for.  In reading order: :mod:`~aiomilter.filters.site`, what they share; :mod:`~aiomilter.filters.ready`, what
they have in common, with :mod:`~aiomilter.filters.actions`, :mod:`~aiomilter.filters.domains` and
:mod:`~aiomilter.filters.recipients`; then each filter.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiomilter.filters.access import Access
    from aiomilter.filters.attachments import Attachments
    from aiomilter.filters.authenticate import Authenticate
    from aiomilter.filters.banner import Banner
    from aiomilter.filters.copy import Copy
    from aiomilter.filters.dnsbl import Dnsbl
    from aiomilter.filters.greylist import Greylist
    from aiomilter.filters.known_senders import KnownSenders
    from aiomilter.filters.rates import Rates
    from aiomilter.filters.reputation import Reputation
    from aiomilter.filters.scan import Scan
    from aiomilter.filters.seal import Seal
    from aiomilter.filters.sign import Sign
    from aiomilter.filters.site import Site
    from aiomilter.filters.srs import Srs
    from aiomilter.filters.traps import Traps
    from aiomilter.filters.verify_from import VerifyFrom

__all__ = [
    "NAMES",
    "Access",
    "Attachments",
    "Authenticate",
    "Banner",
    "Copy",
    "Dnsbl",
    "Greylist",
    "KnownSenders",
    "Rates",
    "Reputation",
    "Scan",
    "Seal",
    "Sign",
    "Site",
    "Srs",
    "Traps",
    "VerifyFrom",
]

NAMES: Final[Mapping[str, str]] = {
    "access": "Access",
    "authenticate": "Authenticate",
    "dnsbl": "Dnsbl",
    "known_senders": "KnownSenders",
    "traps": "Traps",
    "reputation": "Reputation",
    "greylist": "Greylist",
    "rates": "Rates",
    "copy": "Copy",
    "scan": "Scan",
    "attachments": "Attachments",
    "banner": "Banner",
    "srs": "Srs",
    "verify_from": "VerifyFrom",
    "sign": "Sign",
    "seal": "Seal",
}
"""The classes of ready filters by their names in a configuration file, which are those of their modules."""
_MODULES: Final[Mapping[str, str]] = {"Site": "site", **{cls: module for module, cls in NAMES.items()}}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
