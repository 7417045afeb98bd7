"""A filter in a process of its own, to be stopped and killed: ``python -m tests.interop.standalone SOCKET MARK``.

It adds a field ``X-Filter`` with the mark to every message.
"""

import sys

from aiomilter import Context, EndOfMessageContext, Milter, Rcpt, run


class Marking(Milter):
    """Asks for RCPT so that Postfix speaks to it there."""

    mark = ""

    async def envrcpt(self, ctx: Context, rcpt: Rcpt) -> None:
        pass

    async def eom(self, ctx: EndOfMessageContext) -> None:
        ctx.add_header("X-Filter", self.mark)


if __name__ == "__main__":
    socket, Marking.mark = sys.argv[1:]
    run(Marking, socket, socket_mode=0o666)
