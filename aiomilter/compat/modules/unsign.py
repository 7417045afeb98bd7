"""The sender behind a signed envelope address: ``Milter.unsign``."""

import re

__all__ = ["unsign"]

# SRS0, its own separator, then hash, time, domain and local-part.
_SRS0 = re.compile(r"SRS0[=+-][^=]+=[^=]+=(?P<domain>[^=]+)=(?P<local>[^@]+)(?:@.*)?", re.IGNORECASE)
# SRS1, hash, the first forwarder's domain, then what followed SRS0 there, separator included.
_SRS1 = re.compile(r"SRS1[=+-][^=]+=[^=]+=(?P<rest>[=+-][^@]+)(?:@.*)?", re.IGNORECASE)
# BATV: a signature of a digit for the key, three for the day and six hexadecimal ones; SES: one of any form.
_SIGNED = re.compile(r"(?:prvs=[0-9]{4}[0-9a-f]{6}|SES=[^=@]+)=(?P<address>[^@]+@.*)", re.IGNORECASE)


def unsign(s: str) -> str:
    """Return the address that was signed, without looking at the signature.

    Args:
        s: An address, without brackets, that SRS, BATV or SES may have signed.
    Returns:
        The address inside, ``s`` itself where it is none of these.

    Source: the SRS draft (draft-levine-srs), section 3; draft-levine-smtp-batv section 4; pymilter's documentation.
    """
    if (again := _SRS1.fullmatch(s)) is not None:
        s = "SRS0" + again["rest"]
    if (srs := _SRS0.fullmatch(s)) is not None:
        return f"{srs['local']}@{srs['domain']}"
    if (signed := _SIGNED.fullmatch(s)) is not None:
        return signed["address"]
    return s
