"""What is fuzzed of mail: From fields and the records of DMARC.  Each target raises where a promise is broken."""

from aiomilter.auth.dmarc import Record, parse
from aiomilter.auth.dmarc._author import author_domains

__all__ = ["dmarc"]

_HIDDEN = ", x@evil.example"
_KIND = 2


def dmarc(octets: bytes) -> None:
    """Read a From field, or a policy record."""
    kind, text = (octets[:1] or b"\0")[0] % _KIND, octets[1:]
    if kind:
        _record(text)
    else:
        _author(text.decode("utf-8", "surrogateescape"))


def _author(field: str) -> None:
    """No octets hide an address that follows behind a comma, and a domain is one that can be asked for."""
    found = author_domains([field])
    assert isinstance(found, str) or all(domain == domain.lower() and domain.isascii() for domain in found), found
    assert not isinstance(found, str) or found.isprintable(), found
    more = author_domains([field + _HIDDEN])
    assert isinstance(more, str) or "evil.example" in more, more


def _record(text: bytes) -> None:
    """A record is read or refused; nothing that follows a policy makes it weaker; its addresses are URIs."""
    found = parse(text)
    assert isinstance(found, Record) or found.isprintable(), found
    whole = parse(b"v=DMARC1; p=reject; sp=reject; np=reject;" + text)
    assert isinstance(whole, Record), whole
    assert (whole.p, whole.sp, whole.np, whole.problem) == ("reject", "reject", "reject", ""), whole
    assert len(whole.rua) <= 10, whole.rua
    assert all(uri.isascii() and uri.isprintable() and " " not in uri and ":" in uri for uri in whole.rua), whole.rua
