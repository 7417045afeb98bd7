"""Limits on open connections, in total and per peer."""

from collections import Counter
from collections.abc import Callable

from aiomilter.observe import Limit

__all__ = ["ConnectionLimits"]


class ConnectionLimits:
    """Counts connections: those that are served, and those above a limit, which are answered TEMPFAIL.

    Args:
        most: Connections that are served at once.
        most_of_peer: Connections of one peer that are served at once; None for ``most``.
        most_refused: Connections above a limit that are open at once; after that none is accepted.
        report: Hears which limit was reached, its value, and a line for the log.
    """

    def __init__(
        self, most: int, most_of_peer: int | None, most_refused: int, report: Callable[[Limit, int, str], object]
    ) -> None:
        self._most = most
        self._most_of_peer = most_of_peer
        self._most_refused = most_refused
        self._report = report
        self._served = 0
        self._refused: set[int] = set()
        # Kept only where peers are counted.
        self._peers: dict[int, str] = {}
        self._of_peer: Counter[str] = Counter()

    def limit(self, most: int, most_of_peer: int | None, most_refused: int) -> None:
        """Have other limits from now on; connections that are open stay."""
        self._most, self._most_of_peer, self._most_refused = most, most_of_peer, most_refused

    @property
    def counts_peers(self) -> bool:
        """Whether connections are counted per peer."""
        return self._most_of_peer is not None

    @property
    def full(self) -> bool:
        """Whether there is no room for another connection, not even to refuse it."""
        return self._served >= self._most and len(self._refused) >= self._most_refused

    def rejects(self, peer: str) -> bool:
        """Return whether a connection is closed without an answer.

        It is where its peer is at its limit, and as many connections as may be are refused already.
        """
        if self.full or len(self._refused) < self._most_refused or not self.at_peer_limit(peer):
            return False
        what = f"closing connections of {peer}: {self._most_refused} are refused already (--max-refused-connections)"
        self._report(Limit.REFUSED_CONNECTIONS_PER_PEER, self._most_refused, what)
        return True

    def at_peer_limit(self, peer: str) -> bool:
        return bool(peer) and self._most_of_peer is not None and self._of_peer.get(peer, 0) >= self._most_of_peer

    def enter(self, number: int, peer: str) -> bool:
        """Count a connection, and return whether it is served.

        Args:
            number: Of the connection.
            peer: Its peer; "" if it is not known, which no limit per peer counts.
        """
        if self._served >= self._most:
            what = f"{self._most} connections are open; answering TEMPFAIL to more (--max-connections)"
            self._report(Limit.CONNECTIONS, self._most, what)
        elif self.at_peer_limit(peer):
            what = (
                f"{self._most_of_peer} connections of {peer} are open; answering TEMPFAIL to more of it"
                " (--max-connections-per-peer)"
            )
            self._report(Limit.CONNECTIONS_PER_PEER, self._most_of_peer or 0, what)
        else:
            self._served += 1
            if peer and self._most_of_peer is not None:
                self._peers[number] = peer
                self._of_peer[peer] += 1
            return True
        self._refused.add(number)
        if self.full:
            what = (
                f"{self._most_refused} connections above the limit are open; accepting no more until one has ended"
                " (--max-refused-connections)"
            )
            self._report(Limit.REFUSED_CONNECTIONS, self._most_refused, what)
        return False

    def leave(self, number: int) -> None:
        """Count the end of a connection."""
        if number in self._refused:
            self._refused.discard(number)
            return
        self._served -= 1
        peer = self._peers.pop(number, "")
        if peer:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]
