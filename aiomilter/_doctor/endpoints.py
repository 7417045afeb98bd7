"""Endpoints in the spelling of each MTA, which are not quite libmilter's.

Postfix 3.7 was tried: ``inet6:``, ``tcp:``, other letter case and a bare path leave the filter out or give its default action;
``inet:PORT@HOST`` ends the SMTP server with a fatal error.  Sendmail 8.17 reads libmilter's forms, and cannot connect to an
address in brackets.

Source: postconf(5), smtpd_milters; Sendmail's cf/README; Postfix, src/milter/milter8.c.
"""

import re
import socket
from typing import Final

from aiomilter._address_hints import MAX_UNIX_PATH, meant
from aiomilter._doctor.model import Endpoint
from aiomilter.addresses import Inet, Unix, parse
from aiomilter.exceptions import AddressError

__all__ = ["for_postfix", "for_sendmail", "of_postfix", "of_sendmail"]

_HOST_PORT: Final = re.compile(r"(?:\[(?P<literal>[\w.:%-]+)\]|(?P<host>[\w.:%-]*)):(?P<port>[\w-]+)")
_POSTFIX_FORMS: Final = "inet:HOST:PORT or unix:PATH"
_SENDMAIL_FORMS: Final = "inet:PORT@HOST, inet6:PORT@HOST or local:/PATH"
_LONGEST: Final = 1000


def of_postfix(text: str) -> Endpoint:
    """Return an endpoint as Postfix reads it."""
    kind, colon, rest = text.partition(":")
    if colon and kind in ("unix", "local") and rest and "\0" not in rest:
        if len(rest.encode("utf-8", "surrogateescape")) > MAX_UNIX_PATH:
            return Endpoint(None, f"a path has at most {MAX_UNIX_PATH} octets")
        return Endpoint(Unix(rest))
    if colon and kind == "inet" and re.fullmatch(r"[\w-]+", rest) and (port := _port(rest)) is not None:
        return Endpoint(Inet("localhost", port))
    if colon and kind == "inet" and (found := _HOST_PORT.fullmatch(rest)):
        host = found["literal"] or found["host"] or "localhost"
        port = _port(found["port"])
        if port is None:
            return Endpoint(None, f"{found['port']!r:.60} is not a port")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return Endpoint(Inet(host.removeprefix("IPv6:"), port, family))
    return Endpoint(None, f"Postfix reads {_POSTFIX_FORMS}", for_postfix(_meant(text)))


def of_sendmail(text: str) -> Endpoint:
    """Return an endpoint as Sendmail reads it."""
    kind, colon, rest = text.partition(":")
    if not colon or kind in ("unix", "local"):
        path = rest if colon else text
        if path.startswith("/") and len(path.encode("utf-8", "surrogateescape")) <= MAX_UNIX_PATH:
            return Endpoint(Unix(path))
    elif kind in ("inet", "inet6"):
        port, at, host = rest.partition("@")
        number = _port(port)
        if (
            number is not None
            and at
            and host
            and not re.search(r"[\s\[\]@]", host)
            and (":" not in host or kind == "inet6")
        ):
            return Endpoint(Inet(host, number, socket.AF_INET6 if kind == "inet6" else socket.AF_INET))
    return Endpoint(None, f"Sendmail reads {_SENDMAIL_FORMS}", for_sendmail(_meant(text)))


def for_postfix(address: Inet | Unix | None) -> str:
    """Return an endpoint in Postfix's spelling; "" for none."""
    if isinstance(address, Inet):
        host = address.host or ("::1" if address.family == socket.AF_INET6 else "127.0.0.1")
        return f"inet:[{host}]:{address.port}" if ":" in host else f"inet:{host}:{address.port}"
    return str(address) if address is not None else ""


def for_sendmail(address: Inet | Unix | None) -> str:
    """Return an endpoint in Sendmail's spelling; "" for none."""
    if isinstance(address, Inet):
        six = address.family == socket.AF_INET6
        return f"{'inet6' if six else 'inet'}:{address.port}@{address.host or ('::1' if six else '127.0.0.1')}"
    return f"local:{address.path}" if address is not None else ""


def _port(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text) if len(text) < 6 and 0 < int(text) < 65536 else None
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        return None


def _meant(text: str) -> Inet | Unix | None:
    """Return what a text was meant to be, if that is certain enough to be written."""
    if len(text) > _LONGEST:
        return None
    for candidate in (text, *meant(text)):
        try:
            found = parse(candidate)
        except AddressError:
            continue
        if isinstance(found, Unix) or (isinstance(found, Inet) and found.port):
            return found
    return None
