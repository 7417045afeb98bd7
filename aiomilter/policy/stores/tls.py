"""How a store speaks TLS, from what its URL says: the modes are libpq's.

Source: aiomilter/help/stores.rst.
"""

import os
import ssl
from collections.abc import Mapping
from typing import Final

from aiomilter.exceptions import StoreSettingsError

__all__ = ["postgresql", "readable"]

_MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
_SYSTEM: Final = "system"
"""What libpq calls the authorities that the system knows."""


def readable(path: str | None) -> str | None:
    """Return the path of a file with certificates.

    Raises:
        StoreSettingsError: It cannot be read, or holds none.
    """
    try:
        if path is not None:
            os.close(os.open(path, os.O_RDONLY))  # its error names the file
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise StoreSettingsError(f"cannot read the authorities in {path!r}: {error}") from None
    return path


def postgresql(query: Mapping[str, str]) -> ssl.SSLContext | bool | str | None:
    """Return how to speak TLS with PostgreSQL, as asyncpg takes it.

    Authorities without a mode are ``verify-full``: libpq does without them then, and whoever answers is believed.

    Args:
        query: ``sslmode`` and ``ca``, which libpq calls ``sslrootcert``.

    Raises:
        StoreSettingsError: There is no such mode, it does not go with the others, or a file cannot be read.
    """
    if "ca" in query and "sslrootcert" in query:
        raise StoreSettingsError("postgresql: ca and sslrootcert are the same; expected one of them")
    ca = query.get("ca", query.get("sslrootcert"))
    mode = query.get("sslmode", None if ca is None else "verify-full")
    if mode is None:
        return None
    if mode not in _MODES:
        raise StoreSettingsError(f"postgresql: expected sslmode {', '.join(_MODES)}, found {mode[:20]!r}")
    if mode in ("disable", "prefer"):
        if ca is not None:
            raise StoreSettingsError(
                f"postgresql: sslmode={mode} asks for no certificate; expected verify-full with it"
            )
        return False if mode == "disable" else mode
    if ca == _SYSTEM and mode != "verify-full":
        raise StoreSettingsError(f"postgresql: sslrootcert={_SYSTEM} needs sslmode=verify-full, found {mode}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    if mode == "require" and ca is None:
        context.verify_mode = ssl.CERT_NONE
    elif ca is None or ca == _SYSTEM:
        context.load_default_certs()
    else:
        context.load_verify_locations(readable(ca))
    return context
