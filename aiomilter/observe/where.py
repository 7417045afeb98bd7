"""Where something happened."""

from dataclasses import dataclass
from typing import Final

__all__ = ["SERVER", "Where"]


@dataclass(frozen=True, slots=True)
class Where:
    """Where something happened.

    Args:
        connection: Number of the connection, from 1, in the order they were accepted; 0 for the server as a whole.
        client: Address of the SMTP client, or its host name; "" if not known.
        callback: Name of the callback, which stands for its stage; "" outside one.
        queue_id: The MTA's name for the message; None without one.
        peer: The other end of the connection, an MTA or a stranger: ``"192.0.2.1:40312"``, or ``"uid 104 pid 2211"`` for a
            UNIX-domain socket; "" if not known.
        server: What ``serve(..., name=)`` calls the server; "" without a name.
        listener: The socket that accepted the connection, ``"inet:8890@127.0.0.1"``; "" if none did.
        filter: The filter's class, ``module.Name``; in a composition the name of the filter that is called or has answered; ""
            where there is none.
    """

    connection: int = 0
    client: str = ""
    callback: str = ""
    queue_id: str | None = None
    peer: str = ""
    server: str = ""
    listener: str = ""
    filter: str = ""


SERVER: Final = Where()
"""Not on a connection: what concerns the server as a whole."""
