"""How an SMTP client has logged in, and how its session is encrypted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["SECURITY_MACROS", "TLS", "Auth", "auth_of", "tls_of"]

_TLS_REST: Final = ("cipher", "cipher_bits", "cert_subject", "cert_issuer")
SECURITY_MACROS: Final = ("auth_authen", "auth_type", "tls_version", *_TLS_REST)
"""What is read below."""


@dataclass(frozen=True, slots=True)
class Auth:
    """How the SMTP client has authenticated (RFC 4954).

    Args:
        login: The authenticated name, macro ``{auth_authen}``.
        mechanism: The SASL mechanism, macro ``{auth_type}``; "" if the MTA does not send it.
    """

    login: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class TLS:
    """How the SMTP session is encrypted (RFC 3207).

    Args:
        version: Such as ``TLSv1.3``, macro ``{tls_version}``.
        cipher: Macro ``{cipher}``; "" if the MTA does not send it, as for the next three.
        bits: Macro ``{cipher_bits}``.
        cert_subject: Of the client's certificate, macro ``{cert_subject}``.
        cert_issuer: Macro ``{cert_issuer}``.
    """

    version: str
    cipher: str
    bits: str
    cert_subject: str
    cert_issuer: str


def auth_of(macro: Callable[[str], str | None]) -> Auth | None:
    """Return the login that macros name; None for none."""
    login = macro("auth_authen")
    return Auth(login, macro("auth_type") or "") if login else None


def tls_of(macro: Callable[[str], str | None]) -> TLS | None:
    """Return the encryption that macros name; None for none."""
    version = macro("tls_version")
    if not version:
        return None
    rest = [macro(name) or "" for name in _TLS_REST]
    return TLS(version, *rest)
