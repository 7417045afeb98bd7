"""The answer when a filter fails, by class of client."""

from dataclasses import dataclass, fields
from inspect import iscoroutine
from typing import Any

from aiomilter.wire.events import Connect, Family
from aiomilter.wire.replies import SKIP, TEMPFAIL, Refusal, Reply, Response, Verdict

__all__ = ["FailurePolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """Answers to failures by class of client; the first class that fits counts.

    If the stage does not take the answer, as ``connect`` does not take DISCARD, the answer is TEMPFAIL.

    Args:
        local: For a client without an IP address, or on the loopback: mail that originates on this machine.
        authenticated: For a client that has logged in (macro ``{auth_authen}``).
        other: For all others.

    Raises:
        TypeError: One is not an answer, or is SKIP.
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
            client: Without host name and address if the MTA has not sent them, which does not make it local.
            authenticated: Whether it has logged in.
        """
        if is_local(client):
            return self.local
        return self.authenticated if authenticated else self.other


def is_local(client: Connect) -> bool:
    """Return whether a client is on this machine."""
    ip = client.ip
    if ip is None:
        # An address that cannot be parsed is not local either.
        return client.family not in (Family.INET, Family.INET6) and bool(client.hostname)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def wrong_answer(response: Any) -> str:
    """Return a sentence on a value that a callback returned, and that is not an answer of its stage."""
    hint = ""
    if iscoroutine(response):
        response.close()
        hint = "; is an await missing?"
    shown = isinstance(response, Verdict | Reply | Refusal | bool | int | str)
    found = repr(response) if shown else type(response).__name__
    return f"expected a verdict or Reply that this stage takes, or None, found {found:.100}{hint}"


def check_answer(name: str, given: object, *, none: bool = False) -> None:
    """Check an answer to failures.

    Raises:
        TypeError: It is neither an answer that all stages take nor a policy.
    """
    if isinstance(given, FailurePolicy) or (none and given is None):
        return
    if not isinstance(given, Verdict | Reply | Refusal) or given is SKIP:
        what = "a verdict other than SKIP, a Reply, a FailurePolicy or None" if none else ""
        what = what or "a verdict other than SKIP, a Reply or a FailurePolicy"
        raise TypeError(f"{name}: expected {what}, found {given!r}")
