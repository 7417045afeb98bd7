"""Try a new rule on live mail: it sees a part of it, and what it would have done is logged, not done.

aiomilter run examples/canary.py --listen inet:8890@127.0.0.1
"""

from aiomilter import ConnectionResponse, Context, Helo, Mail, Milter, Reply, Response, run
from aiomilter.compose import check, compose


class NoSpam(Milter):
    """The rule that is in force."""

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        return Reply(550, "5.7.1", "Not from you") if mail.domain == "spam.example" else None


class NoStrangers(Milter):
    """The rule to try: who says HELO with an address instead of a name is no mail server."""

    async def helo(self, ctx: Context, helo: Helo) -> ConnectionResponse | None:
        if helo.name.startswith("["):
            return Reply(550, "5.7.1", "Say your name", reason="helo_address")
        return None


milter = compose(
    NoSpam,
    check(NoStrangers, name="helo", unless=("authenticated", "internal"), shadow=True, share=0.25),
)

if __name__ == "__main__":
    run(milter, "inet:8890@127.0.0.1")
