"""An edit that signs: the body is hashed as it comes, and not kept."""

from aiomilter.auth.dkim import BodyHashes
from aiomilter.context import Context
from aiomilter.message import Headers, MessageMilter
from aiomilter.wire.replies import Response

__all__ = ["HashingEdit"]


class HashingEdit(MessageMilter):
    """Base of filters that sign what leaves; :attr:`hashes` has the hash of the body at its end."""

    body_wanted = False

    def __init__(self) -> None:
        self.hashes: BodyHashes
        """Of the message at hand."""
        self.restart()

    def restart(self) -> None:
        """Begin again: an edit before this one has changed the body."""
        self.hashes = BodyHashes(1)
        self.hashes.want("sha256", "relaxed")

    async def head(self, ctx: Context, headers: Headers) -> Response | None:
        """Begin with a message."""
        self.restart()
        return None

    def chunk(self, octets: bytes) -> None:
        """Take the next octets of the body."""
        self.hashes.update(octets)
