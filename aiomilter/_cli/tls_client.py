"""TLS of a command that connects to a filter."""

import argparse
import ssl

from aiomilter._cli.places import absolute
from aiomilter._cli.tls import load_authorities, load_certificate
from aiomilter._cli.trouble import MISSING, USAGE, Trouble
from aiomilter.addresses import Unix, parse

__all__ = ["add_tls", "client_tls", "tls_refused"]


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Add the options for TLS with a filter that runs."""
    parser.add_argument(
        "--tls-ca",
        metavar="FILE",
        help="with --connect: speak TLS, and trust certificates in FILE, or signed by one of them; the name in them is not"
        " compared",
    )
    parser.add_argument(
        "--tls-certificate", metavar="FILE", help="with --tls-ca: the own certificate, for a filter that asks for one"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="its private key (default: in the same file)")


def client_tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context that the options ask for; None if they ask for none.

    Raises:
        Trouble: They do not go together, or a file cannot be used.
    """
    certificate, key = options.tls_certificate, options.tls_key
    if options.tls_ca is None:
        if certificate is not None or key is not None:
            raise Trouble("--tls-certificate and --tls-key need --tls-ca", status=USAGE)
        return None
    if options.connect is None:
        raise Trouble("--tls-ca needs --connect: a filter is not asked by TLS here", status=USAGE)
    if isinstance(parse(options.connect), Unix):
        raise Trouble("--tls-ca is for TCP; there is no TLS on UNIX-domain sockets", status=USAGE)
    if key is not None and certificate is None:
        raise Trouble("--tls-key needs --tls-certificate", status=USAGE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    load_authorities(context, absolute, options.tls_ca)
    if certificate is not None:
        load_certificate(context, absolute, certificate, key)
    return context


def hint(options: argparse.Namespace) -> str:
    """Return what may be the reason of a filter that closes the connection before it has negotiated; "" for nothing."""
    if isinstance(parse(options.connect), Unix):
        return ""
    if options.tls_ca is None:
        return (
            "; if it speaks TLS, give --tls-ca FILE; it also closes connections that its --allow-network does not name"
        )
    return "" if options.tls_certificate is not None else "; if it asks for a certificate, give --tls-certificate FILE"


def tls_refused(address: str, error: OSError) -> Trouble:
    """Return the error for a filter that TLS could not be agreed on with."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"its certificate is not trusted: {error.verify_message}; see --tls-ca"
    elif not isinstance(error, ssl.SSLError) or error.reason == "WRONG_VERSION_NUMBER":
        what = "it does not speak TLS; leave --tls-ca out"
    else:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        what = f"TLS failed: {reason}; does it ask for a certificate (--tls-certificate)?"
    return Trouble(f"cannot connect to {address}: {what}", status=MISSING)
