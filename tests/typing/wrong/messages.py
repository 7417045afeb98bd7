"""What a filter of whole messages must not do."""

from aiomilter import Context, EndOfMessageContext, Header, Response
from aiomilter.message import Message, MessageMilter


class OwnEnd(MessageMilter):
    async def eom(self, ctx: EndOfMessageContext) -> Response | None:  # E: misc
        return None


class OwnHeader(MessageMilter):
    async def header(self, ctx: Context, header: Header) -> None:  # E: misc
        pass


class OldEdit(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> None:
        ctx.add_header("X", "1")  # E: attr-defined


class OldAnswer(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> Response | None:
        return True  # E: return-value
