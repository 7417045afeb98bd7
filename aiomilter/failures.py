"""What becomes of mail when the filter fails, by who has sent it."""

from dataclasses import dataclass, fields

from aiomilter.wire.events import Connect, Family
from aiomilter.wire.replies import SKIP, TEMPFAIL, Refusal, Reply, Response, Verdict

__all__ = ["FailurePolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """Answers to failures by class of client; the first class that fits counts.

    Where the stage takes no such answer, as ``connect`` takes no DISCARD, TEMPFAIL is given.

    Args:
        local: To a client without IP address, or on the loopback: mail that begins on this machine.
        authenticated: To one that has logged in (macro ``{auth_authen}``).
        other: To all the others.

    Raises:
        TypeError: One is no answer, or SKIP.
    """

    local: Response = TEMPFAIL
    authenticated: Response = TEMPFAIL
    other: Response = TEMPFAIL

    def __post_init__(self) -> None:
        """Check the answers."""
        for client in fields(self):
            given: object = getattr(self, client.name)
            if isinstance(given, FailurePolicy):
                raise TypeError(f"{client.name}: expected an answer, found a FailurePolicy")
            check_answer(client.name, given)

    def answer(self, client: Connect, authenticated: bool) -> Response:
        """Return the answer for a client.

        Args:
            client: Without host name and address if the MTA has not told of one, which is no sign of home.
            authenticated: Whether it has logged in.
        """
        if _is_local(client):
            return self.local
        return self.authenticated if authenticated else self.other


def _is_local(client: Connect) -> bool:
    ip = client.ip
    if ip is None:
        # Nor is an address that cannot be read.
        return client.family not in (Family.INET, Family.INET6) and bool(client.hostname)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def check_answer(name: str, given: object, *, none: bool = False) -> None:
    """Check what is to answer failures.

    Raises:
        TypeError: It is no answer that goes for all stages, and no policy.
    """
    if isinstance(given, FailurePolicy) or (none and given is None):
        return
    if not isinstance(given, Verdict | Reply | Refusal) or given is SKIP:
        what = "a verdict other than SKIP, a Reply, a FailurePolicy or None" if none else ""
        what = what or "a verdict other than SKIP, a Reply or a FailurePolicy"
        raise TypeError(f"{name}: expected {what}, found {given!r}")
