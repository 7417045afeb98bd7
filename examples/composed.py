"""Three filters in one connection: one judges senders, one takes programs out, one adds a footer.

aiomilter check examples/composed.py message.eml --auth alice
"""

from aiomilter import CONTINUE, Context, Mail, Milter, Reply, Response, run
from aiomilter.compose import check, compose, edit
from aiomilter.message import Message, MessageMilter, ProtectedError, StructureError

OURS = "example.org"
FOOTER = "-- \nExample Ltd., registered in Examplestan"


class NotAsUs(Milter):
    """Refuse strangers who write in our name."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if mail.domain == OURS:
            return Reply(550, "5.7.1", f"Log in to send as {OURS}")
        return None


class NoPrograms(MessageMilter):
    """Take programs out, and tell the filters that follow how many."""

    async def message(self, ctx: Context, message: Message) -> Response | None:
        programs = [part for part in message.attachments() if part.extension in {"exe", "js", "scr"}]
        for part in programs:
            try:
                part.replace(f"{part.filename} was removed.\n", content_type="text/plain")
            except (StructureError, ProtectedError):
                return Reply(550, "5.7.1", "Send no programs")
        ctx.results.put(len(programs))
        return None


class Footer(MessageMilter):
    """Add a footer; it sees what NoPrograms has left."""

    async def message(self, ctx: Context, message: Message) -> None:
        if not ctx.failed("programs"):
            message.headers.append("X-Programs-Removed", str(ctx.results.get(int)))
        message.banner(FOOTER, place="bottom")


milter = compose(
    check(NotAsUs, unless=("authenticated", "internal")),
    edit(NoPrograms, name="programs", timeout=20),
    edit(Footer, when="authenticated", on_error=CONTINUE),  # no footer is no reason to lose mail
)

if __name__ == "__main__":
    run(milter, "inet:8890@127.0.0.1")
