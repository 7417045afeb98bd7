"""Callbacks that cannot be called as they would be."""

from aiomilter import Connect, Context, Header, Mail, Milter, Rcpt, Response


class Plain(Milter):
    def envfrom(self, ctx: Context, mail: Mail) -> Response | None:  # E: override
        return None


class OtherEvent(Milter):
    async def envfrom(self, ctx: Context, mail: Rcpt) -> None:  # E: override
        return None


class NoEvent(Milter):
    async def header(self, ctx: Context) -> None:  # E: override
        return None


class TooMany(Milter):
    async def header(self, ctx: Context, header: Header, body: bytes) -> None:  # E: override
        return None


class Address(Milter):
    async def connect(self, ctx: Context, connect: Connect) -> None:
        print(connect.ip.is_private)  # E: union-attr
        connect.hostname = "x"  # E: misc


class Sender(Milter):
    async def eoh(self, ctx: Context) -> None:
        print(ctx.sender.address)  # E: union-attr
        print(ctx.auth.login)  # E: union-attr
        ctx.macro("i").upper()  # E: union-attr
        ctx.recipients.append(None)  # E: attr-defined
