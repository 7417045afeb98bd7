"""TCP endpoints: who else reaches the filter, and what it costs."""

import socket
from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Severity
from aiomilter._doctor.listening import serve
from aiomilter.addresses import Inet

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "reachable-by-all": "the filter listens for other machines, and lets all of them in",
    "tcp-slow": "a filter made with libmilter is asked by TCP on this machine, where a UNIX-domain socket is faster",
}
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def check(case: Case) -> Iterator[Finding]:
    """Yield TCP endpoints that are open to all, or slow."""
    yield from _open(case)
    for milter in case.mta.milters:
        address, process = milter.endpoint.address, case.answer(milter).process
        if isinstance(address, Inet) and address.host in _LOOPBACK and process is not None and process.libmilter:
            yield Finding(
                "tcp-slow",
                Severity.WARNING,
                milter.place.where,
                f"{process.name} is asked at {milter.text}, by TCP on this machine",
                "libmilter does not acknowledge at once, which costs some 45 ms a message; have it listen on a UNIX-domain "
                "socket.",
                (),
            )


def _open(case: Case) -> Iterator[Finding]:
    own = case.own
    if own is None or own.options.allowed_networks is not None or own.is_tls:
        return
    for address in own.listen:
        if not isinstance(address, Inet) or address.host in _LOOPBACK or (address.host or "").startswith("127."):
            continue
        asked = [milter for milter in case.mta.milters if case.is_own(milter)]
        hosts = [milter.endpoint.address.host for milter in asked if isinstance(milter.endpoint.address, Inet)]
        local = all(host in _LOOPBACK for host in hosts)
        loopback = "inet6:{}@::1" if address.family == socket.AF_INET6 else "inet:{}@127.0.0.1"
        steps = serve(case, address, listen=loopback.format(address.port)) if local else ()
        yield Finding(
            "reachable-by-all",
            Severity.WARNING,
            own.name,
            f"the filter listens at {address} for other machines, and neither allow_network nor client certificates limit them",
            "Who connects may claim that mail comes from anywhere, and gets the answers of the filter.",
            steps,
        )
