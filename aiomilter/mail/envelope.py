"""Envelope paths and ESMTP parameters as they come over SMTP, read leniently.

Source: RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2; RFC 3461 section 4 (xtext).
"""

import re
from collections.abc import Iterable
from typing import Final

from aiomilter.mail.domain import ascii_name

__all__ = ["bare_address", "domain", "keywords", "local_part", "xtext_decode"]

# What angle brackets hold, up to the first that closes: neither in a quoted local part nor behind a backslash.
_BRACKETED: Final = re.compile(r'<((?:[^">\\]|\\.|"(?:[^"\\]|\\.)*")*)>', re.DOTALL)
# A-d-l ":" of RFC 5321 section 4.1.2; an address literal may hold colons of its own.  MTAs take blanks in it.
_SOURCE_ROUTE: Final = re.compile(r"@(?:\[[^\]]*\]|[^\[\],:])+(?:,[ \t]*@(?:\[[^\]]*\]|[^\[\],:])+)*:[ \t]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
# The parameters whose values are xtext: RFC 3461 sections 4.2 and 4.4, RFC 4954 section 5.
_XTEXT_KEYWORDS: Final = frozenset({"AUTH", "ENVID", "ORCPT"})


def bare_address(path: str) -> str:
    """Return the mailbox of a path: no angle brackets, no source route; "" for the null path.

    Quoting and letter case stay as sent.  What follows the closing bracket is dropped: Sendmail 8.17.1 built with EAI
    puts the ESMTP parameters there.

    Source: RFC 5321 section 4.1.2, Path, and appendix C (source routes).
    """
    path = path.strip(" \t")
    if bracketed := _BRACKETED.match(path):
        path = bracketed[1]
    elif path.startswith("<"):
        end = path.rfind(">")
        path = path[1:end] if end > 0 else path[1:]
    if path.startswith("@") and (route := _SOURCE_ROUTE.match(path)):
        path = path[route.end() :]
    return path


def local_part(path: str) -> str:
    """Return the local-part of a path, without quotes; "" for the null path.

    ``"a b"@example.org`` and ``"alice"@example.org`` have the local-parts ``a b`` and ``alice``.  Letter case stays as sent.

    Source: RFC 5321 section 4.1.2, Local-part.
    """
    local, _ = _split(bare_address(path))
    quoted = _QUOTED.fullmatch(local)
    return _QUOTED_PAIR.sub(r"\1", quoted[1]) if quoted else local


def domain(path: str) -> str:
    """Return the domain of a path for comparing: lower case, A-labels, no trailing dot; "" if it has none.

    An address literal stays as it is, in lower case; so does a name that has no A-labels.

    Source: RFC 5321 sections 2.3.5 and 4.1.3; RFC 5890 section 2.3.2.1.
    """
    _, name = _split(bare_address(path))
    name = name.strip(" \t").removesuffix(".")
    return (ascii_name(name) or name).lower()


def _split(address: str) -> tuple[str, str]:
    """Return local-part and domain, "" where there is none."""
    local, at, name = address.rpartition("@")
    # A domain has no quotes: that "@" is inside a quoted local-part.
    return (local, name) if at and '"' not in name else (address, "")


def keywords(params: Iterable[str]) -> dict[str, str]:
    """Return ESMTP parameters by keyword, in upper case; "" for a keyword without value; the last of equal ones counts.

    The values of ``AUTH``, ``ENVID`` and ``ORCPT`` are xtext and come decoded.

    Source: RFC 5321 section 4.1.2, Mail-parameters and Rcpt-parameters.
    """
    found = {}
    for param in params:
        keyword, _, value = param.partition("=")
        keyword = keyword.upper()
        found[keyword] = xtext_decode(value) if keyword in _XTEXT_KEYWORDS else value
    return found


def xtext_decode(text: str) -> str:
    """Return ``text`` with each ``+HH`` replaced by its octet; text that is not xtext stays as it is.

    Octets are read as UTF-8 with surrogateescape, so that any of them survives.

    Source: RFC 3461 section 4.
    """
    if "+" not in text:
        return text
    octets = text.encode("utf-8", "surrogateescape")
    decoded = re.sub(rb"\+([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), octets)
    return decoded.decode("utf-8", "surrogateescape")
