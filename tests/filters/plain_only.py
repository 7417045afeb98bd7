"""Rewrite a whole message with the standard library: of text in two forms, only the plain one is delivered."""

from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter


class PlainOnly(Milter):
    """Make plain text of ``multipart/alternative``.

    Args:
        archive: Gets the message as it was sent, octet for octet, before it is changed.
    """

    leading_space = True  # so that header.raw is exact

    def __init__(self, archive: Callable[[bytes], object]) -> None:
        self.archive = archive

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.octets = bytearray()

    async def header(self, ctx: Context, header: Header) -> None:
        self.octets += header.raw

    async def eoh(self, ctx: Context) -> None:
        self.octets += b"\r\n"

    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.octets += chunk

    async def eom(self, ctx: EndOfMessageContext) -> None:
        message = message_from_bytes(self.octets, policy=SMTP)
        plain = message.get_body(("plain",))
        if plain is None or message.get_content_type() != "multipart/alternative":
            return
        try:
            text = plain.get_content()
        except LookupError:
            return  # in a character set that Python does not know
        new = EmailMessage(SMTP)
        new.set_content(text)
        self.archive(bytes(self.octets))
        for name in ("MIME-Version", "Content-Type", "Content-Transfer-Encoding"):
            ctx.change_header(name, 1, new[name])
        ctx.replace_body(new.as_bytes().partition(b"\r\n\r\n")[2])
