"""What a sender and a domain may write for DKIM: messages, signatures, key records."""

from aiomilter.auth.dkim._body import BodyHashes
from aiomilter.auth.dkim._canonical import Form, canonical_field, canonical_pieces, without_value_of_b
from aiomilter.auth.dkim._record import parse_record
from aiomilter.auth.dkim._signature import Unusable, claims, parse_tags, read_tags
from aiomilter.mail.headers import Field, split_message

__all__ = ["signatures"]

_FORMS: tuple[Form, Form] = ("simple", "relaxed")


def signatures(octets: bytes) -> None:
    """Any octets are a message, a signature and a key record, or none; and any split of a body has the hash of the whole."""
    step, octets = (octets[:1] or b"\0")[0] % 16 + 1, octets[1:]
    section, begin = split_message(octets)
    # But for the empty line, and the line end that it may lack.
    assert section.raw().rstrip(b"\r\n") == octets[:begin].rstrip(b"\r\n")
    for field in (*section, Field(b"DKIM-Signature:" + octets)):
        _signature(field)
    parse_record(octets)
    for form in _FORMS:
        whole, split = BodyHashes(1), BodyHashes(1)
        wanted, found = whole.want("sha256", form), split.want("sha256", form)
        assert wanted is not None
        assert found is not None
        whole.update(octets)
        for at in range(0, len(octets), step):
            split.update(octets[at : at + step])
        whole.finish()
        split.finish()
        assert (wanted.digest(), whole.size(form)) == (found.digest(), split.size(form))


def _signature(field: Field) -> None:
    without = without_value_of_b(field)
    assert without_value_of_b(without) == without
    for form in _FORMS:
        whole = canonical_field(field, form)
        assert whole.endswith(b"\r\n")
        assert b"".join(canonical_pieces(field, form, 7)) == whole
    tags = read_tags(field)
    result = claims(tags or {}).method_result()
    assert str(result).isprintable()
    unusable = ""
    try:
        parsed = parse_tags(tags)
    except Unusable as end:
        unusable = end.result
    else:
        assert "from" in parsed.names
        assert claims(tags or {}, parsed) == claims(tags or {})
        assert parsed.domain.isascii()
    assert unusable in ("", "neutral", "permerror")
