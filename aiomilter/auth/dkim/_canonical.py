"""Canonicalisation: the form of a header that is hashed, and what the two forms have in common.

Source: RFC 6376 section 3.4.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from aiomilter.mail.headers import Field

__all__ = ["FORMS", "Form", "canonical_field", "canonical_pieces", "header_input", "one_blank", "without_value_of_b"]

Form: TypeAlias = Literal["simple", "relaxed"]
"""The two canonicalisations."""
FORMS: Final[tuple[Form, Form]] = ("simple", "relaxed")
"""Both."""

_FOLDING: Final = b" \t\r\n"
_RUN: Final = b" " * 32
# Where the value of the first ``b=`` of a tag list begins; an expression that begins with a sign is looked for fast.
_B_FIRST: Final = re.compile(rb"[ \t\r\n]*+b[ \t\r\n]*+=")
_B: Final = re.compile(rb";[ \t\r\n]*+b[ \t\r\n]*+=")


def one_blank(octets: bytes) -> bytes:
    """Return octets with each run of blanks as one space."""
    octets = octets.replace(b"\t", b" ")
    # Half of what "in" costs, which takes what it looks for as a number first.
    if octets.find(b"  ") < 0:
        return octets
    # However long the runs are, these few passes do.
    octets = octets.replace(_RUN, b" ").replace(_RUN, b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def canonical_field(field: Field, form: Form) -> bytes:
    """Return a header field as it is hashed, CRLF at its end.

    Source: RFC 6376 sections 3.4.1 and 3.4.2.
    """
    if form == "simple":
        return field.raw
    # As _unfolded does, without its calls, which cost as much as their work.
    octets = field.octets.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").replace(b"\t", b" ")
    if octets.find(b"  ") >= 0:
        octets = one_blank(octets)
    return field.key + b":" + octets.strip(b" ") + b"\r\n"


def canonical_pieces(field: Field, form: Form, size: int) -> Iterator[bytes]:
    """Yield a header field as it is hashed, in pieces: what :func:`canonical_field` returns, if they are joined.

    Args:
        field: The field.
        form: The canonicalisation.
        size: Octets that are looked at for one piece; more where all of them are blanks and line ends, which become few.
    """
    octets = field.raw if form == "simple" else field.octets
    if form == "relaxed":
        yield field.key + b":"
    begin, first = 0, True
    while begin < len(octets):
        end = begin + size
        if form == "relaxed" and end < len(octets):
            # A run of blanks and folds is never cut, and so begins a piece.
            kept = 0
            while not kept and end < len(octets):
                kept = len(octets[begin:end].rstrip(_FOLDING))
                end += end - begin
            end = begin + kept if kept else len(octets)
        piece = octets[begin:end]
        begin = end
        if form == "simple":
            yield piece
            continue
        piece = _unfolded(piece)
        if begin >= len(octets):
            piece = piece.rstrip(b" ")
        yield piece.lstrip(b" ") if first else piece
        first = False
    if form == "relaxed":
        yield b"\r\n"


def _unfolded(value: bytes) -> bytes:
    """Return octets without folds and with each run of blanks as one space."""
    return one_blank(value.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t"))


def without_value_of_b(field: Field) -> Field:
    """Return a signature field with nothing behind its ``b=``: neither value nor the blanks round it.

    Source: RFC 6376 section 3.5 (b=) and section 3.7.
    """
    octets = field.octets
    found = _B_FIRST.match(octets) or _B.search(octets)
    if found is not None:
        end = octets.find(b";", found.end())
        octets = octets[: found.end()] + (octets[end:] if end >= 0 else b"")
    begin = len(field.raw) - 2 - len(field.octets)
    return Field(field.raw[:begin] + octets + b"\r\n")


def header_input(fields: Iterable[bytes], signature: Field, form: Form) -> bytes:
    """Return what the hash of a header is made of: fields in the order given, then the signature's without its CRLF.

    Args:
        fields: As :func:`canonical_field` returns them.
        signature: The field whose signature it is.
        form: The canonicalisation.

    Source: RFC 6376 section 3.7.
    """
    return b"".join((*fields, canonical_field(without_value_of_b(signature), form)[:-2]))
