"""Whole messages: one decision on one object, and the smallest edits that lead to it.

:class:`MessageMilter` is the base of such filters; its :meth:`~MessageMilter.message` gets a :class:`Message` with
:class:`Headers`, each a :class:`Field`, and the tree of each :class:`Part`.  See ``aiomilter help messages``.

In reading order: :mod:`~aiomilter.message.milter`; :mod:`~aiomilter.message.message`, with
:mod:`~aiomilter.message.headers`, :mod:`~aiomilter.message.parts` and :mod:`~aiomilter.message.envelope`;
:mod:`~aiomilter.message.found` and :mod:`~aiomilter.message.structure`, which find the parts, and
:mod:`~aiomilter.message.spool`, which keeps the body; :mod:`~aiomilter.message.header_edits` and
:mod:`~aiomilter.message.rewriting`, which turn what was changed into edits; :mod:`~aiomilter.message.banner`; and what these
read: :mod:`~aiomilter.message.parameters`, :mod:`~aiomilter.message.filenames`, :mod:`~aiomilter.message.transfer`,
:mod:`~aiomilter.message.zips`.
"""

from aiomilter.message.errors import ProtectedError, StructureError
from aiomilter.message.headers import Field, Headers
from aiomilter.message.message import Body, Changes, Message
from aiomilter.message.milter import MessageMilter
from aiomilter.message.parts import Part

__all__ = [
    "Body",
    "Changes",
    "Field",
    "Headers",
    "Message",
    "MessageMilter",
    "Part",
    "ProtectedError",
    "StructureError",
]
