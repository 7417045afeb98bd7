"""A callback that never answers has to return None."""

from aiomilter import CONTINUE, Context, Header, Mail, Milter, Response, no_reply


class Answers(Milter):
    @no_reply  # E: type-var
    async def header(self, ctx: Context, header: Header) -> Response | None:
        return CONTINUE


class AnswersAlways(Milter):
    @no_reply  # E: type-var
    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        return CONTINUE


class Returns(Milter):
    @no_reply
    async def eoh(self, ctx: Context) -> None:
        return CONTINUE  # E: return-value
