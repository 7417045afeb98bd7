"""The MTA's side of the protocol: play SMTP sessions to any filter, and see what it does to a message.

:func:`connect` reaches a filter that listens; :class:`Session` plays to one over any pair of streams.  In reading order:
``stages`` holds the rules of order, ``session`` adds whole messages; ``link`` writes and reads packets, ``answers``
interprets them; ``macros`` and ``client`` are the values that each MTA sends; ``content`` cuts a message as each MTA does,
``delivery`` applies modifications, ``replies`` has the SMTP replies, ``results`` the results.

In reading order: ``session`` plays whole messages and ``stages`` each stage, with the octets of ``link``; ``content`` cuts a
message up, ``client`` and ``macros`` are what an MTA sends about itself; ``answers``, ``replies`` and ``results`` are what
comes back, and ``delivery`` applies the edits.  ``opening`` connects.
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
