"""Who listens, seen without being a client: a socket's file is there before anybody listens on it."""

import os
import socket
from pathlib import Path

__all__ = ["listening_ports", "listens"]

UNIX = Path("/proc/net/unix")


def listens(address: str) -> bool:
    """Whether anybody listens at ``inet:port@host`` or ``unix:path``; a path may also stand alone."""
    kind, _, rest = address.rpartition(":")
    if kind == "inet":
        return int(rest.partition("@")[0]) in listening_ports()
    if not UNIX.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(rest) == 0
    # Flag 00010000 marks a listener; the path of one that was killed may be bound anew.
    rows = [line.split() for line in UNIX.read_text().splitlines()]
    return any(row[3] == "00010000" and row[7:] == [os.path.realpath(rest)] for row in rows)


def listening_ports() -> set[int]:
    """TCP ports on which somebody listens, IPv4 and IPv6."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as lines:
                rows = [line.split() for line in lines][1:]
            ports |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    return ports
