"""Messages without a connection."""

from aiomilter.mail.headers import split_message
from aiomilter.message.envelope import Envelope
from aiomilter.message.headers import Field, Headers
from aiomilter.message.message import Message
from aiomilter.message.spool import Budget, Spool
from aiomilter.message.structure import Structure


def made(octets: bytes) -> Message:
    """Return a message as :class:`MessageMilter` makes it of what it is shown."""
    section, begin = split_message(octets)
    spool, body = Spool(2**30, budget=Budget(2**30)), octets[begin:]
    structure = Structure(b"".join(field.raw for field in section if field.key.startswith(b"content-")))
    structure.feed(body)
    structure.end()
    spool.add(body)
    pgp = [body.find(b"-----BEGIN PGP ")] if b"-----BEGIN PGP " in body else []
    return Message(Headers(Field(field.raw) for field in section), spool, structure, Envelope(None, ()), pgp)


async def octets_of(message: Message) -> bytes:
    return b"".join([piece async for piece in message.octets()])


async def body_of(message: Message) -> bytes:
    return b"".join([piece async for piece in message.body.chunks()])
