"""Mark mail from outside: ``Subject: Hello`` becomes ``Subject: [EXTERNAL] Hello``.

Try it without an MTA:

    aiomilter check examples/tag_external.py --sender alice@elsewhere.example
    aiomilter run examples/tag_external.py --smtp 2525
"""

from aiomilter import ACCEPT, Context, EndOfMessageContext, Header, Mail, Milter, Response, run

OUR_DOMAINS = {"example.org", "example.com"}
TAG = "[EXTERNAL]"


class TagExternal(Milter):
    """Tag the subject of every message from outside."""

    def __init__(self) -> None:
        self.subject: str | None = None

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        self.subject = None
        if ctx.auth is not None and mail.domain in OUR_DOMAINS:
            return ACCEPT  # our own people, who have logged in
        return None

    async def header(self, ctx: Context, header: Header) -> None:
        if header.name.lower() == "subject" and self.subject is None:
            self.subject = header.value

    async def eom(self, ctx: EndOfMessageContext) -> None:
        if self.subject is None:
            ctx.add_header("Subject", TAG)
        elif TAG not in self.subject:
            ctx.change_header("Subject", 1, f"{TAG} {self.subject}")


if __name__ == "__main__":
    run(TagExternal, "inet:8890@127.0.0.1")
