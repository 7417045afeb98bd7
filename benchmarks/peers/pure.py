"""The measured filters on purepythonmilter: ``python pure.py HOST PORT typical|noop|waiting``, until SIGTERM.

The library listens on TCP only.  A callback whose annotated result is None gets no answer.
"""

import asyncio
import sys

from purepythonmilter import (  # type: ignore[import-not-found]
    AppendHeader,
    BodyChunk,
    Connect,
    Continue,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    MailFrom,
    PurePythonMilter,
    RcptTo,
    VerdictOrContinue,
)


async def connect(command: Connect) -> VerdictOrContinue:
    return Continue()


async def helo(command: Helo) -> VerdictOrContinue:
    return Continue()


async def mail(command: MailFrom) -> VerdictOrContinue:
    return Continue()


async def waiting(command: MailFrom) -> VerdictOrContinue:
    await asyncio.sleep(0.05)
    return Continue()


async def rcpt(command: RcptTo) -> VerdictOrContinue:
    return Continue()


async def data(command: Data) -> VerdictOrContinue:
    return Continue()


async def header(command: Header) -> VerdictOrContinue:
    return Continue()


async def eoh(command: EndOfHeaders) -> VerdictOrContinue:
    return Continue()


async def body(command: BodyChunk) -> VerdictOrContinue:
    return Continue()


async def eom(command: EndOfMessage) -> VerdictOrContinue:
    return Continue()


async def quiet_data(command: Data) -> None: ...


async def quiet_header(command: Header) -> None: ...


async def quiet_body(command: BodyChunk) -> None: ...


async def edit(command: EndOfMessage) -> VerdictOrContinue:
    return Continue(manipulations=[AppendHeader(headername="X-Seen", headertext="yes")])


if __name__ == "__main__":
    host, port, kind = sys.argv[1:]
    noop = kind == "noop"
    PurePythonMilter(
        name="measured",
        hook_on_connect=connect,
        hook_on_helo=helo,
        hook_on_mail_from=waiting if kind == "waiting" else mail,
        hook_on_rcpt_to=rcpt,
        hook_on_data=data if noop else quiet_data,
        hook_on_header=header if noop else quiet_header,
        hook_on_end_of_headers=eoh,
        hook_on_body_chunk=body if noop else quiet_body,
        hook_on_end_of_message=eom if noop else edit,
        can_add_headers=True,
    ).run_server(host=host, port=int(port))
