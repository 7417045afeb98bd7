"""Answers that a stage does not take."""

from aiomilter import (
    ACCEPT,
    CONTINUE,
    DISCARD,
    SKIP,
    BodyResponse,
    Connect,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Header,
    Helo,
    Mail,
    Milter,
    Rcpt,
    Refusal,
    Response,
    Unknown,
    UnknownResponse,
)


class SkipFromHeader(Milter):
    async def header(self, ctx: Context, header: Header) -> Response | None:
        return SKIP  # E: return-value


class SkipAllowedByHeader(Milter):
    async def header(self, ctx: Context, header: Header) -> BodyResponse | None:  # E: override
        return SKIP


class SkipFromEom(Milter):
    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        return SKIP  # E: return-value


class DiscardFromConnect(Milter):
    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        return DISCARD  # E: return-value


class DiscardAllowedByConnect(Milter):
    async def connect(self, ctx: Context, connect: Connect) -> Response | None:  # E: override
        return DISCARD


class DiscardFromHelo(Milter):
    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse | None:
        return DISCARD  # E: return-value


class AcceptFromUnknown(Milter):
    async def unknown(self, ctx: Context, unknown: Unknown) -> UnknownResponse | None:
        return ACCEPT  # E: return-value


class AcceptAllowedByUnknown(Milter):
    async def unknown(self, ctx: Context, unknown: Unknown) -> ConnectionResponse | None:  # E: override
        return ACCEPT


class TrueFromMail(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return True  # E: return-value


class BoolFromRcpt(Milter):
    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> bool:  # E: override
        return True


class TextFromData(Milter):
    async def data(self, ctx: Context) -> Response | None:
        return "550 no"  # E: return-value


class NumberFromEoh(Milter):
    async def eoh(self, ctx: Context) -> Response | None:
        return 550  # E: return-value


class AnswerFromAbort(Milter):
    async def abort(self, ctx: Context) -> Response:  # E: override
        return ACCEPT


class AnswerFromClose(Milter):
    async def close(self, ctx: Context) -> None:
        return ACCEPT  # E: return-value


class RefusalThatDoesNotRefuse(Milter):
    async def envfrom(self, ctx: Context, mail: Mail) -> Response:
        return Refusal(CONTINUE, reason="spf_fail")  # E: arg-type
