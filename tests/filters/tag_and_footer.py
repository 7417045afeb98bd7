"""Tag the subject, and put a footer below plain text that nobody has encoded or signed."""

from email.message import Message

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter

TAG = "[list]"
FOOTER = b"-- \r\nTo leave the list, write to leave@example.org\r\n"


class TagAndFooter(Milter):
    """What a mailing list does to a message."""

    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        self.fields = Message()
        self.text = bytearray()

    async def header(self, ctx: Context, header: Header) -> None:
        self.fields[header.name] = header.value

    async def body(self, ctx: Context, chunk: bytes) -> None:
        self.text += chunk

    async def eom(self, ctx: EndOfMessageContext) -> None:
        subject = self.fields["Subject"]
        if subject is None:
            ctx.add_header("Subject", TAG)
        elif TAG not in subject:
            ctx.change_header("Subject", 1, f"{TAG} {subject}")
        if self.is_plain():
            if self.text and not self.text.endswith(b"\n"):
                self.text += b"\r\n"
            ctx.replace_body(self.text + FOOTER)

    def is_plain(self) -> bool:
        encoding = self.fields.get("Content-Transfer-Encoding", "7bit").strip().lower()
        return self.fields.get_content_type() == "text/plain" and encoding in ("7bit", "8bit")
