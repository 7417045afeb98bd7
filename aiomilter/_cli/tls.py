"""TLS as the options of a command ask for it."""

import ssl
from typing import NoReturn

from aiomilter._cli.options import RunOptions
from aiomilter._cli.places import absolute
from aiomilter._cli.trouble import USAGE, Trouble

__all__ = ["Files", "load_tls", "tls"]


class Files:
    """The files of the options, by the name the user has for each, and by one that leads to it from everywhere.

    Args:
        options: As given; made at the start, before the filter can change the directory.
    """

    def __init__(self, options: RunOptions) -> None:
        self.certificate, self.key, self.client_ca = options.tls_certificate, options.tls_key, options.tls_client_ca
        self._paths = {
            name: absolute(name) for name in (self.certificate, self.key, self.client_ca) if name is not None
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
    name = files.certificate
    assert name is not None, "without one there is no context"
    key = files.key or name
    try:
        context.load_cert_chain(
            files.path(name), files.path(files.key) if files.key is not None else None, lambda: _no_pass_phrase(key)
        )
        if files.client_ca is not None:
            name = files.client_ca
            context.load_verify_locations(files.path(name))
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # an SSLError is one
        raise Trouble(f"cannot use {name!r} for TLS: {error.strerror or error}") from None


def _no_pass_phrase(key: str) -> NoReturn:
    """Refuse: without this OpenSSL asks the terminal, and at a reload all sessions wait for whoever sits there."""
    what = f"cannot use {key!r} for TLS: its private key is encrypted, and a daemon cannot ask for the pass phrase"
    raise Trouble(f"{what}; store the key without one, as 'openssl pkey -in FILE -out FILE' writes it")
