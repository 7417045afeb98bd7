"""Messages without a connection."""

from aiomilter.mail.headers import split_message
from aiomilter.message.envelope import Envelope
from aiomilter.message.found import Found
from aiomilter.message.headers import Field, Headers
from aiomilter.message.message import Message
from aiomilter.message.spool import Budget, Spool


def made(octets: bytes) -> Message:
    """Return a message as :class:`MessageMilter` makes it of what it is shown."""
    section, begin = split_message(octets)
    fields = [Field(field.raw) for field in section]
    spool, found, body = Spool(2**30, budget=Budget(2**30)), Found(fields), octets[begin:]
    spool.add(body)
    found.keep([body])
    return Message(Headers(fields), spool, found, Envelope(None, ()))


async def octets_of(message: Message) -> bytes:
    return b"".join([piece async for piece in message.octets()])


async def body_of(message: Message) -> bytes:
    return b"".join([piece async for piece in message.body.chunks()])
