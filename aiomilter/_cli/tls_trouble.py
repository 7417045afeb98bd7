"""What is wrong with files for TLS: the cause and the remedy in one line, in place of OpenSSL's words."""

import re
import ssl
from collections.abc import Callable
from typing import Final

from aiomilter._cli.trouble import Trouble

__all__ = ["cannot_trust", "cannot_use", "expiry"]

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_DER: Final = b"\x30"
_MOST_OCTETS: Final = 1 << 20
"""Of a file that is looked at."""
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""
_WEAK: Final = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "DH_KEY_TOO_SMALL")


def cannot_use(error: OSError, path: Callable[[str], str], certificate: str, key: str | None) -> Trouble:
    """Return the error for a certificate and key that could not be loaded.

    Args:
        error: As ``load_cert_chain`` raised it.
        path: Returns where a file is that the user names.
        certificate: The user's name for the file with the certificate.
        key: The same for the private key; None if it is in the same file.
    """
    for name in (certificate, key or certificate):
        octets = _read(path(name))
        if isinstance(octets, OSError):
            return _trouble(name, str(octets.strerror))
        what = _no_certificate(octets) if name == certificate else None
        if what is None and name == (key or certificate):
            what = _no_key(octets, same=key is None)
        if what is not None:
            return _trouble(name, what)
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        what = f"the private key in {key or certificate!r} is not the key of this certificate"
        return _trouble(certificate, f"{what}; give the key that it was made for, and the server's certificate first")
    if reason in _WEAK:
        return _trouble(
            certificate, "its key or signature is too weak for OpenSSL; make a new one, of 2048 bits or more"
        )
    if not _is_certificate(path(certificate)):
        return _trouble(certificate, "the certificate in it is damaged; copy it anew")
    return _trouble(key or certificate, "the private key in it is damaged, or of a kind that OpenSSL does not know")


def cannot_trust(error: OSError, path: str, name: str) -> Trouble:
    """Return the error for a file of certificate authorities that could not be loaded.

    Args:
        error: As ``load_verify_locations`` raised it.
        path: Where the file is.
        name: What the user calls it.
    """
    octets = _read(path)
    if isinstance(octets, OSError):
        return _trouble(name, str(octets.strerror))
    return _trouble(name, _no_certificate(octets) or "a certificate in it is damaged; copy it anew")


def _trouble(name: str, what: str) -> Trouble:
    return Trouble(f"cannot use {name!r} for TLS: {what}")


def _read(path: str) -> bytes | OSError:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_OCTETS)
    except OSError as error:
        return error


def _no_certificate(octets: bytes) -> str | None:
    """Return why octets have no certificate; None if they have one."""
    if _CERTIFICATE in octets:
        return None
    if not octets.strip():
        return "the file is empty"
    if octets.startswith(_DER):
        return "it is not PEM but DER; convert it with 'openssl x509 -inform der -in FILE -out FILE.pem'"
    if _KEY.search(octets):
        return "there is a private key in it and no certificate; the option for a key is --tls-key"
    return "there is no certificate in it; expected PEM, which has a line -----BEGIN CERTIFICATE-----"


def _no_key(octets: bytes, *, same: bool) -> str | None:
    """Return why octets have no private key; None if they have one.

    Args:
        octets: Of the file.
        same: Whether the file is that of the certificate, since no other was named.
    """
    if _KEY.search(octets):
        return None
    if same:
        return "there is no private key in it; name its file with --tls-key"
    if not octets.strip():
        return "the file is empty"
    if octets.startswith(_DER):
        return "it is not PEM but DER; convert it with 'openssl pkey -inform der -in FILE -out FILE.pem'"
    return "there is no private key in it; expected PEM, which has a line -----BEGIN PRIVATE KEY-----"


def _is_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:
        return False
    return True


def expiry(context: ssl.SSLContext, path: str, name: str) -> str | None:
    """Return a warning if the certificate of a server is not valid now; None if it is.

    A TLS handshake in memory tells: the standard library has no other way to ask for the dates of a certificate.

    Args:
        context: Of the server, with its certificate; it is not changed.
        path: Of the file with the certificate.
        name: What the user calls it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate is trusted as it is, whoever has signed it.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(path)
    try:
        _shake_hands(context, client)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return f"the certificate in {name!r} has expired; peers that verify it do not connect: renew it"
        if error.verify_code == _NOT_YET_VALID:
            return f"the certificate in {name!r} is not valid yet; check the clock of this machine"
    except ssl.SSLError:
        pass  # such as a client certificate that the server asks for
    return None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Have a client verify a server.

    Raises:
        ssl.SSLError: It does not.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            if side is sides[0]:
                return
