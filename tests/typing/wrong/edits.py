"""Edits where there are none, or of the wrong kind."""

from collections.abc import Iterator

from aiomilter import Context, EndOfMessageContext, Header, Mail, Milter, Response


class EditInHeader(Milter):
    async def header(self, ctx: Context, header: Header) -> Response | None:
        ctx.add_header("X-A", "1")  # E: attr-defined
        return None


class EditInMail(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> None:
        ctx.change_sender("a@x")  # E: attr-defined
        ctx.quarantine("why")  # E: attr-defined


class EndOfMessageContextElsewhere(Milter):
    async def eoh(self, ctx: EndOfMessageContext) -> None:  # E: override
        ctx.replace_body(b"x")


class WrongKinds(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-A", 1)  # E: arg-type
        ctx.add_header("X-A", b"1")  # E: arg-type
        ctx.add_header("X-A")  # E: call-arg
        ctx.insert_header("X-A")  # E: call-arg
        ctx.insert_header(0, "X-A", "1")  # E: arg-type
        ctx.change_header("X-A", "1", "2")  # E: arg-type
        ctx.change_header("X-A", 1, None)  # E: arg-type
        ctx.replace_body("text")  # E: arg-type
        ctx.replace_body(self.pieces())  # E: arg-type
        ctx.add_recipient("a@x", ["NOTIFY=NEVER"])  # E: arg-type
        await ctx.add_header("X-A", "1")  # E: func-returns-value misc
        ctx.sender = None  # E: misc

    def pieces(self) -> Iterator[bytes]:
        yield b"x"
