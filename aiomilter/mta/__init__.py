"""The MTA's side of the protocol: play SMTP sessions to any filter, and see what it does to a message.

:func:`connect` reaches a filter that listens, of any make::

    async with connect("inet:8890@127.0.0.1", style="sendmail") as s:
        await s.connect("mx.example.org", "198.51.100.7")
        await s.helo("mx.example.org")
        result = await s.send(b"Subject: hi\r\n\r\nHello\r\n", "alice@example.org", ["bob@example.net"])
    print(result.answer, result.edits)

:class:`Session` plays to one over any pair of streams.  A filter of your own needs no socket in a test, see
:mod:`aiomilter.testing`.

In reading order: ``session`` plays whole messages, ``stages`` each stage with the rules of order; ``link`` writes and reads
packets, and ``answers`` interprets them; ``content`` cuts a message into what an MTA sends; ``client`` and ``macros`` are what
it tells besides; ``delivery`` applies the edits, ``replies`` has the SMTP replies that follow, ``results`` what is returned.
``opening`` connects.
"""

from aiomilter.mta.content import HEADER_SIZE, Content, Field, Style, cut
from aiomilter.mta.delivery import Delivered, deliver
from aiomilter.mta.link import Writer
from aiomilter.mta.macros import MacroValues
from aiomilter.mta.opening import connect
from aiomilter.mta.results import Answer, EndOfMessageResult, MessageResult
from aiomilter.mta.session import Session
from aiomilter.mta.stages import OFFER, StageSession

__all__ = [
    "HEADER_SIZE",
    "OFFER",
    "Answer",
    "Content",
    "Delivered",
    "EndOfMessageResult",
    "Field",
    "MacroValues",
    "MessageResult",
    "Session",
    "StageSession",
    "Style",
    "Writer",
    "connect",
    "cut",
    "deliver",
]
