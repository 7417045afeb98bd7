"""TLS as the options of a command ask for it."""

import ssl
from collections.abc import Callable
from typing import NoReturn

from aiomilter._cli.options import RunOptions
from aiomilter._cli.places import absolute
from aiomilter._cli.tls_trouble import cannot_trust, cannot_use, expiry
from aiomilter._cli.trouble import USAGE, Trouble

__all__ = ["Files", "load_authorities", "load_certificate", "load_tls", "tls", "warning"]


class Files:
    """The files of the options, by the name the user has for each, and by one that leads to it from everywhere.

    Args:
        options: As given.
        directory: Where the command was started; None for the current directory, before the filter can change that.
    """

    def __init__(self, options: RunOptions, directory: str | None = None) -> None:
        self.certificate, self.key, self.client_ca = options.tls_certificate, options.tls_key, options.tls_client_ca
        self._paths = {
            name: absolute(name, directory) for name in (self.certificate, self.key, self.client_ca) if name is not None
        }

    def path(self, name: str) -> str:
        """Return where a file is."""
        return self._paths[name]


def tls(files: Files) -> ssl.SSLContext | None:
    """Return the context that the options ask for; None if they ask for none.

    Raises:
        Trouble: They do not go together, or a file cannot be used.
    """
    if files.certificate is None:
        if files.key is not None or files.client_ca is not None:
            raise Trouble("--tls-key and --tls-client-ca need --tls-certificate", status=USAGE)
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_tls(context, files)
    return context


def load_tls(context: ssl.SSLContext, files: Files) -> None:
    """Have a context use the files as they are now.

    Raises:
        Trouble: That failed; the context may be of no use any more.
    """
    assert files.certificate is not None, "without one there is no context"
    load_certificate(context, files.path, files.certificate, files.key)
    if files.client_ca is not None:
        load_authorities(context, files.path, files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED


def load_certificate(context: ssl.SSLContext, path: Callable[[str], str], certificate: str, key: str | None) -> None:
    """Have a context use a certificate.

    Args:
        context: The context.
        path: Returns where a file is that the user names.
        certificate: The file with the certificate.
        key: The file with its private key; None if it is in the same.

    Raises:
        Trouble: That failed.
    """
    key_path = path(key) if key is not None else None
    try:
        context.load_cert_chain(path(certificate), key_path, lambda: _no_pass_phrase(key or certificate))
    except OSError as error:  # an SSLError is one
        raise cannot_use(error, path, certificate, key) from None


def load_authorities(context: ssl.SSLContext, path: Callable[[str], str], name: str) -> None:
    """Have a context trust the certificates in a file.

    Raises:
        Trouble: That failed.
    """
    try:
        context.load_verify_locations(path(name))
    except OSError as error:
        raise cannot_trust(error, path(name), name) from None


def warning(context: ssl.SSLContext | None, files: Files) -> str | None:
    """Return what is wrong with the certificate of a context that can be used nevertheless; None if nothing is."""
    if context is None or files.certificate is None:
        return None
    return expiry(context, files.path(files.certificate), files.certificate)


def _no_pass_phrase(key: str) -> NoReturn:
    """Refuse: without this OpenSSL asks the terminal, and at a reload all sessions wait for whoever sits there."""
    what = f"cannot use {key!r} for TLS: its private key is encrypted, and a daemon cannot ask for the pass phrase"
    raise Trouble(f"{what}; store the key without one, as 'openssl pkey -in FILE -out FILE' writes it")
