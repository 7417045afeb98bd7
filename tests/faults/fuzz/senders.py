"""What a sender may write as an envelope address, which forwarders rewrite (SRS)."""

from typing import Final

from aiomilter.mail.envelope import bare_address, domain
from aiomilter.mail.srs import Rewriter, SrsError

__all__ = ["senders"]

_OURS: Final = "forward.example"
_NOW: Final = 1_700_000_000
_REASONS: Final = frozenset({"forged", "malformed", "not ours", "stale", "too long"})
_MAX: Final = 4096
"""Octets: what is read, the quotes, and what is put before it."""
_FRONTS: Final = ("", "SRS0=", "SRS1=", "SRS0=PGkz=G3=", "srs0+", "SRS1-AAAA=x.example=")


def _rewriter(secret: str, host: str = _OURS) -> Rewriter:
    # With hashes of four characters another secret would make the same one now and then.
    return Rewriter([secret], host, hash_length=20, clock=lambda: _NOW, too_long="rewrite")


_FIRST: Final = _rewriter("first")
_SECOND: Final = _rewriter("second", "second.example")
_STRANGER: Final = _rewriter("another")


def senders(octets: bytes) -> None:
    """Rewritten addresses are one word of SMTP and come back; what we have not made is refused; only an SrsError is raised."""
    kind, text = (octets[:1] or b"\0")[0], octets[1:].decode("utf-8", "surrogateescape")
    _reversed(_FIRST, f"{_FRONTS[kind % len(_FRONTS)]}{text}@{_OURS}")
    _reversed(_FIRST, text)
    there = _rewritten(_FIRST, text)
    # Ours, and the null sender, are left as they are.
    if not there or there == bare_address(text):
        return
    assert domain(there) == _OURS, there
    back = _FIRST.reverse(there)
    assert _clean(back), back
    # It may have been rewritten by others before: their part is kept.
    assert _rewritten(_FIRST, back) == there or "SRS" in back.upper(), (back, there)
    assert _reversed(_STRANGER, there) == "forged", there
    further = _rewritten(_SECOND, there)
    assert _SECOND.reverse(further), further
    third = _rewritten(_FIRST, further)
    assert len(third) - len(_OURS) == len(further) - len(_SECOND.domain), third


def _rewritten(rewriter: Rewriter, address: str) -> str:
    try:
        made = rewriter.forward(address)
    except SrsError as error:
        _known(error)
        return ""
    assert _clean(made), made
    return made


def _reversed(rewriter: Rewriter, address: str) -> str:
    """Return why an address does not come back; "" if it does."""
    try:
        found = rewriter.reverse(address)
    except SrsError as error:
        _known(error)
        return error.reason
    assert _clean(found), found
    return ""


def _clean(address: str) -> bool:
    return len(address.encode("utf-8", "surrogateescape")) <= _MAX and not any(
        one < " " or one == "\x7f" for one in address
    )


def _known(error: SrsError) -> None:
    assert error.reason in _REASONS
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 2_000
