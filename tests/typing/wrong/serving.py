"""Factories and options that are none."""

from aiomilter import ACCEPT, SKIP, Milter, Reply, run, serve


class NeedsMore(Milter):
    def __init__(self, limit: int) -> None:
        self.limit = limit


async def factory() -> Milter:
    return Milter()


serve(NeedsMore, "inet:0")  # E: arg-type
serve(Milter(), "inet:0")  # E: arg-type
serve(lambda: 5, "inet:0")  # E: arg-type
serve(factory, "inet:0")  # E: arg-type
serve(Milter, 8890)  # E: arg-type
serve(Milter, "inet:0", on_error=SKIP)  # E: arg-type
serve(Milter, "inet:0", on_error="tempfail")  # E: arg-type
serve(Milter, "inet:0", callback_timeout=None)  # E: arg-type
serve(Milter, "inet:0", no_such_option=1)  # E: call-arg
run(Milter(), "inet:0")  # E: arg-type
Reply("550", "5.7.1", "no")  # E: arg-type
Reply(550, 5.7, "no")  # E: arg-type
ACCEPT.value = 5  # E: misc assignment
