"""Mark mail from outside, with settings from a file: ``aiomilter run --config aiomilter.toml``."""

from dataclasses import dataclass

from aiomilter import ACCEPT, Context, EndOfMessageContext, Header, Mail, Milter, Response


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table [settings] of the file; a field without a default has to be there."""

    domains: list[str]
    tag: str = "[EXTERNAL]"


class Tagger(Milter):
    """Puts a tag in front of Subject; the mail of our own users stays as it is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if ctx.auth is not None or mail.domain in self.settings.domains:
            return ACCEPT
        return None

    async def header(self, ctx: Context, header: Header) -> None:
        if header.name.lower() == "subject":
            ctx.notes["subject"] = header.value

    async def eom(self, ctx: EndOfMessageContext) -> None:
        subject = ctx.notes.get("subject", "")
        if self.settings.tag not in subject:
            ctx.change_header("Subject", 1, f"{self.settings.tag} {subject}".rstrip())
