"""Add a footer to the mail of our own people.

The footer goes into plain text and HTML; signed and encrypted messages stay as they are.  Sign with DKIM after this filter.
"""

from aiomilter import ACCEPT, Context, Response, run
from aiomilter.message import Message, MessageMilter, StructureError

TEXT = "-- \nExample Ltd., registered in Examplestan"
HTML = "<hr><p>Example Ltd., registered in Examplestan</p>"


class Footer(MessageMilter):
    async def message(self, ctx: Context, message: Message) -> Response | None:
        if ctx.auth is None:
            return ACCEPT  # mail from elsewhere
        try:
            message.banner(TEXT, HTML, place="bottom")
        except StructureError:
            message.headers.append("X-Footer", "left out: mail programs see different parts in this message")
        return None


if __name__ == "__main__":
    run(Footer, "inet:8890@127.0.0.1")
