"""What senders may write for ARC: sets of fields, and results that a seal records."""

from aiomilter.auth.arc._recorded import aar_value
from aiomilter.auth.arc._sets import broken, message_tags, read_sets, seal_tags
from aiomilter.auth.dkim._signature import Unusable
from aiomilter.auth.results import parse
from aiomilter.mail.headers import Field, HeaderSection

__all__ = ["chains"]

_NAMES = ("ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results", "Authentication-Results")
_ID = "mx.example.org"


def chains(octets: bytes) -> None:
    """Any octets are sets or are not, and whatever a message says, a seal records one field for it."""
    parts = octets.split(b"\n")
    section = HeaderSection()
    for part in parts[:40]:
        name = _NAMES[(part[:1] or b"\0")[0] % len(_NAMES)]
        value = (_ID.encode() + b";") * (name == _NAMES[3]) + part[1:]
        section.append(f"{name}: ".encode() + value.replace(b"\r", b"\r\n "))
    sets = read_sets(section)
    assert 0 <= sets.highest <= 50
    problem = broken(sets)
    assert problem or len(sets.complete) == sets.highest
    for each in sets.complete:
        claim = each.claims()
        assert claim.results is None or str(claim.results)
        for read, tags in ((message_tags, each.signature_tags), (seal_tags, each.seal_tags)):
            try:
                parsed = read(tags)
            except Unusable as end:
                _known(end)
            else:
                assert parsed.domain.isascii()
    recorded, omitted = aar_value(1, _ID, None, section)
    assert omitted >= 0
    assert len(recorded) < 9_000
    assert recorded.replace("\n ", " ").isprintable()
    assert recorded.isascii()
    assert Field.made("ARC-Authentication-Results", recorded)
    found = parse(recorded)
    assert found is not None
    assert found.authserv_id == _ID


def _known(end: Unusable) -> None:
    assert end.result in ("neutral", "permerror")
    assert end.problem
